//! Power cuts anywhere in the work of a whole node lose nothing that was acknowledged as durable.

use sim::power_cuts::{CUTS_PER_DISK, CutReport, Phase, play};
use sim::trace::Telling;

/// The disks of this test, each with [`CUTS_PER_DISK`] cuts. `cargo sim power-cuts` plays thousands.
const DISKS: u64 = 6;

/// The power goes in every phase of a node's work, and whatever was acknowledged is there when it is back.
#[test]
fn power_cut_loses_nothing_acknowledged() {
    let mut total = CutReport::default();
    (0..DISKS).for_each(|seed| total.join(&play(seed, Telling::Last)));
    println!("{total}");
    assert!(total.cuts() >= DISKS * CUTS_PER_DISK);
    for phase in Phase::ALL {
        assert!(
            total.tally.get(phase.name()) >= 3,
            "only {} {}",
            total.tally.get(phase.name()),
            phase.name()
        );
    }
    assert!(total.tally.get("durable writes acknowledged") >= 2 * total.cuts() / 3);
    assert!(total.tally.get("buffered writes lost") > 0);
}

/// The same seed is the same story.
#[test]
fn cuts_of_a_seed_are_the_same_again() {
    assert_eq!(play(3, Telling::Nothing), play(3, Telling::Last));
}
