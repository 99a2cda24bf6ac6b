//! A replica that will never write again is retired, and what it left behind goes; if it lives after all, nobody
//! differs and it goes on as another one.

use sim::World;
use sim::node::Storage;
use sim::observed::{retired, spent_slots};
use sim::words::{add, delete, increment, retire, set};
use sim::world::NOTES;
use tidelock_engine::replica::Retention;
use tidelock_engine::request::{Action, Atomicity, RequestError};
use tidelock_engine::row::Kind;

/// A phone counted under fifty keys and is lost. Whoever deletes them leaves a slot of it each, until it is retired:
/// then only what still counts stays, and a record of a few bytes.
#[test]
fn lost_phone_leaves_no_spent_slots_once_it_is_retired() {
    let names = ["desk", "laptop"];
    let mut world = World::connected(400, &["desk", "laptop", "phone"]);
    let keys: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
    world.batch("phone", keys.iter().map(|key| increment(key, 2)).collect()).expect("it is executed");
    world.write("phone", increment("steps", 9));
    world.settle();
    let phone = world.replica("phone");
    world.leave("phone");
    world.batch("desk", keys.iter().map(|key| delete(key)).collect()).expect("it is executed");
    world.settle();
    world.run(200_000);
    assert_eq!(
        spent_slots(&world.rows_of("laptop", NOTES)).count(),
        50,
        "nobody but the phone may remove them"
    );
    world.write("laptop", retire(phone));
    world.settle();
    world.run(5_000);
    world.settle();
    for name in names {
        let rows = world.rows_of(name, NOTES);
        let kinds: Vec<Kind> = rows.iter().map(|(row, _)| row.kind).collect();
        assert_eq!(kinds, [Kind::Retired, Kind::Counter], "{name}");
        assert!(retired(&rows).contains(&phone));
        assert_eq!(world.get(name, "steps").as_deref(), Some("9"));
    }
    assert_eq!(
        world.counter("desk", "slots_closed") + world.counter("laptop", "slots_closed"),
        50,
        "once each"
    );
}

/// The phone was only switched off. It counts on before it hears of anything: what it counts in slots that are gone
/// is lost, all else is not, and it takes no writes until it goes on as another replica.
#[test]
fn retired_phone_that_comes_back_harms_nobody() {
    let names = ["desk", "laptop", "phone"];
    let mut world = World::connected(401, &names);
    world.write("phone", increment("deleted", 2));
    world.write("phone", increment("kept", 3));
    world.settle();
    let phone = world.replica("phone");
    world.split(&["phone"], &["desk", "laptop"]);
    world.write("desk", delete("deleted"));
    world.write("desk", retire(phone));
    world.run(5_000);
    for key in ["deleted", "kept", "new"] {
        world.write("phone", increment(key, 10));
    }
    world.write("phone", add("s", "x"));
    world.heal();
    world.settle();
    let actions = vec![Action::Write(set("refused", "v"))];
    match world.request("phone", NOTES, Atomicity::Each, actions) {
        Err(RequestError::ReadOnly(reason)) => assert!(reason.contains("was retired"), "{reason}"),
        other => panic!("{other:?}"),
    }
    for name in names {
        assert_eq!(world.get(name, "deleted"), None);
        assert_eq!(world.get(name, "kept").as_deref(), Some("13"));
        assert_eq!(world.get(name, "new").as_deref(), Some("10"));
        assert_eq!(world.members(name, "s"), ["x"]);
    }
    world.rejoin("phone");
    assert_ne!(world.replica("phone"), phone);
    world.write("phone", increment("kept", 1));
    world.settle();
    world.has_no_leftovers(&names);
    assert_eq!(world.get("desk", "kept").as_deref(), Some("14"));
    world.accuses_nobody(&names);
}

/// Who retired the phone is lost too, and its log is let go of: who joins later learns of the retirement with the
/// state, and in the end somebody removes what neither can.
#[test]
fn retirement_is_learned_with_state_and_outlives_who_said_it() {
    let mut world = World::new(402);
    world.retention = Retention { age_ms: 500, bytes: 0, peers_ms: 1_000 };
    ["desk", "laptop", "phone"].iter().for_each(|name| world.add(name));
    for (a, b) in [("desk", "laptop"), ("laptop", "phone"), ("phone", "desk")] {
        world.connect(a, b);
    }
    world.run(1_000);
    world.write("phone", increment("n", 2));
    world.settle();
    let phone = world.replica("phone");
    world.leave("phone");
    world.write("laptop", retire(phone));
    world.settle();
    world.leave("laptop");
    world.write("desk", delete("n"));
    (0..20).for_each(|n| world.write("desk", add("s", &n.to_string())));
    world.run(30_000);
    world.add("tablet");
    world.connect("tablet", "desk");
    world.settle();
    assert!(world.counter("tablet", "transfers_done") > 0, "the log is gone");
    world.leave("desk");
    assert_eq!(spent_slots(&world.rows_of("tablet", NOTES)).count(), 1);
    world.run(125_000);
    assert_eq!(spent_slots(&world.rows_of("tablet", NOTES)).count(), 0);
    assert_eq!(world.members("tablet", "s").len(), 20);
}

/// Many were lost, and each left many slots: they go in pieces, and writes go on meanwhile.
#[test]
fn many_slots_of_many_replicas_go_in_pieces() {
    let mut world = World::new(403);
    world.storage = Storage::Memory;
    ["desk", "laptop"].iter().for_each(|name| world.add(name));
    world.connect("desk", "laptop");
    let keys: Vec<String> = (0..200).map(|n| format!("n{n}")).collect();
    let mut lost = Vec::new();
    for n in 0..4 {
        let name = format!("phone-{n}");
        world.add(&name);
        world.connect(&name, "desk");
        world.batch(&name, keys.iter().map(|key| increment(key, 1)).collect()).expect("it is executed");
        world.settle();
        lost.push(world.replica(&name));
        world.leave(&name);
    }
    world.batch("laptop", keys.iter().map(|key| delete(key)).collect()).expect("it is executed");
    world.settle();
    lost.iter().for_each(|replica| world.write("desk", retire(*replica)));
    while spent_slots(&world.rows_of("desk", NOTES)).next().is_some() {
        world.write("desk", add("s", "x"));
        world.run(1_000);
        assert!(world.now_us() < 120_000_000, "it takes too long");
    }
    world.settle();
    assert_eq!(world.counter("desk", "slots_closed"), 800);
    assert_eq!(world.rows_of("laptop", NOTES).len(), 4 + 1);
}
