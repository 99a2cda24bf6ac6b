//! Anchors that are broken on purpose, and what finds it. What is broken in the code itself is listed in `tests/README.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::World;
use sim::group::Break;

use crate::strong::{ALL, ORDERS, ask_for, ends_well};

/// Plays a story with broken nodes at some seeds, and answers what was found first.
fn found(broken: Break, story: impl Fn(&mut World)) -> String {
    for seed in 0..10 {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            world.break_on_purpose(broken);
            ALL.iter().for_each(|name| world.add(name));
            meet(&mut world);
            world.run(1_000);
            world.found("a");
            world.add_anchors("a", &["b", "c"]);
            world.make_strong("a", ORDERS);
            world.all_know(ORDERS);
            ask_for(&mut world, 20_000);
            story(&mut world);
            world.run(3_000);
            ends_well(&mut world, &ALL);
        }));
        if let Err(panic) = played {
            return panic.downcast_ref::<String>().cloned().unwrap_or_default();
        }
    }
    panic!("{broken:?} was not found");
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

/// H3, D20: commits are said to be durable before they are.
#[test]
fn acknowledgement_before_the_sync_is_found() {
    let found = found(Break::Sync, |world| {
        for _ in 0..3 {
            world.run(1_500);
            ALL.iter().for_each(|name| world.lose_power(name));
            ALL.iter().for_each(|name| world.start(name));
            meet(world);
        }
    });
    is_one_of(
        &found,
        &[
            "anchors make the same frames",
            "what clients of strong keyspaces see",
            "no operation is executed twice",
            "a term has one leader",
        ],
    );
}

/// H3, D04: a node that starts does not remember for whom it voted.
#[test]
fn lost_vote_is_found() {
    let found = found(Break::Vote, |world| {
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
    let found = found(Break::Barrier, |world| {
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
