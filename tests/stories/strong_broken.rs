//! Anchors that are broken on purpose, and what finds it. What is broken in the code itself is listed in `tests/README.md`.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use sim::World;
use sim::group::Break;

use crate::strong::{ALL, ORDERS, ask_for, ends_well};

/// Plays a story with broken nodes at some seeds, and answers what was found first.
fn found(broken: Option<Break>, story: impl Fn(&mut World)) -> String {
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let play = |seed| {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            broken.into_iter().for_each(|broken| world.break_on_purpose(broken));
            world.add_members(&ALL, 3);
            world.found("a");
            world.all_vote(&ALL[..3]);
            world.make_strong("a", ORDERS);
            world.all_know(ORDERS);
            ask_for(&mut world, 20_000);
            story(&mut world);
            world.run(3_000);
            ends_well(&mut world, &ALL);
        }));
        played.err()?.downcast_ref::<String>().cloned()
    };
    let found = (0..10).find_map(play);
    set_hook(hook);
    found.unwrap_or_else(|| panic!("{broken:?} was not found"))
}

/// Everybody dials everybody.
fn meet(world: &mut World) {
    for name in ALL {
        ALL.iter().filter(|other| **other != name).for_each(|other| world.connect(name, other));
    }
}

fn is_one_of(found: &str, properties: &[&str]) {
    let is_known = properties.iter().any(|property| found.starts_with(property));
    assert!(is_known, "{}", found.lines().take(3).collect::<Vec<_>>().join("\n"));
}

/// H3, D20: disks said that they had synced what they lose when the power of all goes.
#[test]
fn acknowledgement_before_the_sync_is_found() {
    let found = found(None, |world| {
        for _ in 0..3 {
            world.run(1_000);
            let disks = ALL.map(|name| world.node(name).disk().imaged());
            world.run(500);
            ALL.iter().for_each(|name| world.kill(name));
            for (name, disk) in ALL.iter().zip(disks) {
                world.put_back(name, disk);
                world.start(name);
            }
            meet(world);
        }
    });
    is_one_of(
        &found,
        &[
            "anchors make the same frames",
            "what clients of strong keyspaces see",
            "no operation is executed twice",
            "rows are a function",
            "a term has one leader",
        ],
    );
}

/// H3, D04: a node that starts does not remember for whom it voted.
#[test]
fn lost_vote_is_found() {
    let found = found(Some(Break::Vote), |world| {
        for round in 0..12 {
            world.run(300);
            let leader = world.leader().unwrap_or_else(|| "a".to_owned());
            let name = if round % 3 == 0 { leader.as_str() } else { ["a", "b", "c"][round % 3] };
            world.kill(name);
            world.start(name);
            meet(world);
        }
    });
    is_one_of(
        &found,
        &["a term has one leader", "anchors make the same frames", "what clients of strong keyspaces see"],
    );
}

/// H3, C5: reads that do not wait for a barrier are old.
#[test]
fn stale_read_is_found() {
    let found = found(Some(Break::Barrier), |world| {
        for name in ["a", "b", "c", "a", "b"] {
            world.run(500);
            let others: Vec<&str> = ALL.into_iter().filter(|other| *other != name).collect();
            others.iter().for_each(|other| world.block(other, name));
            world.run(2_000);
            world.heal();
        }
    });
    is_one_of(&found, &["what clients of strong keyspaces see"]);
}

/// H3, no de-duplication: what was executed is executed again when its client, who was told nothing, asks again.
#[test]
fn forgotten_outcome_is_found() {
    let found = found(Some(Break::Outcomes), |world| {
        for name in ["a", "b", "c", "a", "b", "c"] {
            world.run(600);
            world.kill(name);
            world.run(300);
            world.start(name);
            meet(world);
        }
    });
    is_one_of(&found, &["no operation is executed twice", "what clients of strong keyspaces see"]);
}
