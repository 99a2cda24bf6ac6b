//! Batches: whole or not at all, for readers here and everywhere.

use sim::World;
use sim::words::{increment, set, text};
use sim::world::NOTES;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::{Action, ActionReply, Atomicity};
use tidelock_engine::write::Outcome;

/// Actions that nobody sees half done, of which some fail: the others are done.
#[test]
fn transaction_goes_on_behind_a_failed_action() {
    let mut world = World::connected(70, &["a", "b"]);
    world.write("a", set("text", "not a number"));
    let get = |key: &str| Action::Query(Query::Get(key.into()));
    let write = Action::Write;
    let actions = vec![
        write(set("k", "1")),
        write(increment("text", 1)),
        write(increment("k", 4)),
        get("k"),
        get("text"),
    ];
    let replies = world.request("a", NOTES, Atomicity::Together, actions).expect("it is executed");
    let shown: Vec<String> = replies
        .into_iter()
        .map(|reply| match reply {
            Ok(ActionReply::Outcome(Outcome::Number(number))) => number.to_string(),
            Ok(ActionReply::Outcome(outcome)) => format!("{outcome:?}"),
            Ok(ActionReply::Answer(Answer::Value(Some(value)))) => text(&value),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        })
        .collect();
    let failed = "value is not an integer or out of range";
    assert_eq!(shown, ["Done", failed, "5", "5", "not a number"]);
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("5"));
    assert_eq!(world.counter("a", "frames_made"), 2, "the transaction is one frame");
}

/// Money moves between two accounts all the time, and no replica ever sees it halfway.
#[test]
fn no_replica_ever_sees_a_batch_half_done() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(71, &names);
    let mut seen = 0;
    for round in 0..100_i64 {
        let name = *world.random.pick(&names);
        world
            .batch(name, vec![increment("left", round), increment("right", -round)])
            .expect("it is executed");
        if round % 10 == 3 {
            world.drop_session("a", "b");
        }
        for _ in 0..3 {
            world.run(10);
            for name in names {
                let value =
                    |world: &mut World, key| world.get(name, key).map_or(0, |v| v.parse().expect("a number"));
                let (left, right): (i64, i64) = (value(&mut world, "left"), value(&mut world, "right"));
                assert_eq!(left + right, 0, "{name} saw half a batch");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 900);
    world.settle();
    assert_eq!(world.get("c", "left").as_deref(), Some("4950"));
}
