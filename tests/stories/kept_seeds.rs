//! Seeds that once broke something are played for ever: `tests/seeds.txt`.

use sim::kept_seeds::parse;

#[test]
fn kept_seeds_break_nothing_any_more() {
    let kept =
        parse(include_str!("../seeds.txt")).expect("every line of seeds.txt names a scenario and a seed");
    let mut broken = Vec::new();
    for seed in &kept {
        if let Err(failure) = seed.play() {
            println!("{}\n[{}]\nreplay: {}", failure.message, failure.place, failure.replay());
            broken.push(format!("{failure} ({})", seed.note));
        }
    }
    println!("{} kept seeds", kept.len());
    assert!(broken.is_empty(), "{broken:#?}");
}
