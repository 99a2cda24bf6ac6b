//! One story for each thing that a hostile member does: it is bounded, named and cut off, and honest members
//! lose nothing by it.
//!
//! What is compared in the end is what honest authors wrote: what a liar told to each may differ for ever.

use sim::World;
use sim::hostile::Behaviour;
use sim::words::{add, increment, set};
use sim::world::{NOTES, keyspace_id, named};
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{AuthorCard, KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::message::{
    FrameBytes, HEADS_MAX, HeadEntry, KEYSPACES_MAX, KeyspaceHint, Message, PeerRecord, WantEntry,
};
use tidelock_engine::replica::{EARLY_FRAMES_MAX, EVIDENCE_MAX, Limits};
use tidelock_engine::request::{Action, Atomicity};
use tidelock_store::Disk;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three honest members and a hostile one, which everybody has greeted.
fn with_mallory(seed: u64, behaviours: &[Behaviour]) -> World {
    let mut world = World::connected(seed, &NAMES);
    world.add_hostile("mallory", behaviours);
    world.run(1_000);
    world
}

/// Honest members write for so many rounds of half a second, and end equal.
fn honest_work(world: &mut World, rounds: usize) {
    for round in 0..rounds {
        for name in NAMES {
            world.write(name, increment("count", 1));
            world.write(name, add("set", &format!("{name}{}", round % 4)));
        }
        world.run(500);
    }
    world.settle();
    for name in NAMES {
        assert_eq!(world.get(name, "count"), Some((NAMES.len() * rounds).to_string()));
    }
}

fn push(card: AuthorCard, frames: &[Frame]) -> Message {
    let frames = frames.iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect();
    Message::Push { cards: vec![card], frames }
}

/// Two frames under one name, to different members, that meet when these talk: the proof is kept, the author
/// alone is harmed.
#[test]
fn equivocator_is_proven_and_harms_nobody() {
    let mut world = with_mallory(1, &[Behaviour::Equivocates]);
    honest_work(&mut world, 40);
    assert!(world.tally.get(Behaviour::Equivocates.name()) >= 20);
    let proofs: Vec<usize> = NAMES.iter().map(|name| world.report(name).evidence.len()).collect();
    assert!(proofs.iter().any(|count| *count > 0), "nobody has a proof");
    assert!(proofs.iter().all(|count| *count <= EVIDENCE_MAX));
}

/// One member was told a longer history than another one. What the first wrote after that depends on
/// operations that the second one knows otherwise or not at all, and must reach it all the same. So it must after a
/// restart, from the log, and those who only heard of one of the histories.
#[test]
fn fork_keeps_no_honest_write_from_anybody() {
    let mut world = World::connected(2, &["a", "b", "c"]);
    world.add_hostile("mallory", &[]);
    world.run(1_000);
    world.split(&["a"], &["b", "c"]);
    let mut one = world.forger("mallory");
    let mut other = one.clone();
    let told_to_a = [one.two("evil", "one"), one.set("evil", "more")];
    let told_to_b = [other.set("evil", "other")];
    assert!(world.say("mallory", "a", &push(one.card, &told_to_a)));
    assert!(world.say("mallory", "b", &push(other.card, &told_to_b)));
    world.run(1_000);
    world.write("a", set("k", "honest"));
    world.leave("mallory");
    world.heal();
    world.settle();
    for name in ["a", "b", "c"] {
        assert_eq!(world.get(name, "k").as_deref(), Some("honest"));
    }
    assert!(!world.report("b").evidence.is_empty());
    world.run(30_000);
    world.count_by_name();
    world.run(30_000);
    assert_eq!(world.sent("want"), 0, "nothing is asked for again and again");
    let before = world.get("b", "evil");
    world.kill("b");
    world.node("b").disk().remove("rows.redb").expect("the disk works");
    world.start("b");
    assert_eq!(world.get("b", "evil"), before, "each operation is applied once, and again only once");
    world.write("a", set("k", "again"));
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("again"));
    world.kill("b");
    let report = tidelock_store::check(world.node("b").disk(), &mut |_| {}).expect("the store is there");
    assert_eq!(report.findings, [], "two histories are no damage");
}

/// Two members were told two last frames of one author, and a third one knows only one of them. They take the same
/// one for the head, so that they can compare what they have, and find that it differs.
#[test]
fn members_with_two_histories_agree_on_the_heads_and_find_that_they_differ() {
    let mut world = World::connected(7, &["a", "b", "c"]);
    world.add_hostile("mallory", &[]);
    world.run(1_000);
    world.split(&["a"], &["b", "c"]);
    let one = world.forger("mallory");
    for (name, value) in [("a", "one"), ("b", "other")] {
        assert!(world.say("mallory", name, &push(one.card, &[one.clone().set("evil", value)])));
    }
    world.run(1_000);
    world.leave("mallory");
    world.heal();
    world.block("a", "c");
    world.block("c", "a");
    world.run(30_000);
    let heads = |name: &str| {
        let report = world.report(name);
        report.keyspaces[0].fingerprint.split('-').next().map(ToOwned::to_owned)
    };
    assert_eq!([heads("a"), heads("c")], [heads("b"), heads("b")]);
    assert!(world.counter("a", "checks_diverged") + world.counter("b", "checks_diverged") >= 1);
    world.run(30_000);
    let fingerprint = |name: &str| world.report(name).keyspaces[0].fingerprint.clone();
    assert_eq!([fingerprint("a"), fingerprint("c")], [fingerprint("b"), fingerprint("b")], "it is repaired");
    assert!(!world.report("c").evidence.is_empty(), "the proof is handed on");
}

/// A thousand forks of one author: the proofs that are kept are bounded, and the rest is counted.
#[test]
fn flood_of_forks_is_bounded() {
    let mut world = with_mallory(3, &[]);
    let forger = world.forger("mallory");
    for n in 0..300 {
        let fork = forger.clone().set("evil", &n.to_string());
        world.say("mallory", "a", &push(forger.card, &[fork]));
        world.run(10);
    }
    world.run(1_000);
    assert_eq!(world.report("a").evidence.len(), EVIDENCE_MAX);
    assert!(world.counter("a", "frames_forked") >= 290);
    honest_work(&mut world, 5);
}

/// Frames that wait for what never comes: bounded, and honest ones still get through.
#[test]
fn flood_of_early_frames_is_bounded() {
    let mut world = with_mallory(4, &[]);
    let mut forger = world.forger("mallory");
    forger.next = 1_000;
    for _ in 0..50 {
        let frames: Vec<Frame> = (0..100).map(|_| forger.set("evil", "never")).collect();
        world.say("mallory", "a", &push(forger.card, &frames));
        world.run(50);
    }
    assert_eq!(world.report("a").early.0, EARLY_FRAMES_MAX);
    honest_work(&mut world, 5);
}

/// Old messages again, from this session and from earlier ones, to whomever.
#[test]
fn replayed_messages_change_nothing() {
    let mut world = with_mallory(5, &[Behaviour::Replays, Behaviour::Equivocates]);
    for _ in 0..10 {
        NAMES.iter().for_each(|name| world.write(name, increment("count", 1)));
        world.run(300);
    }
    for round in 0..10 {
        for name in NAMES {
            world.write(name, increment("other", 1));
            world.strike("mallory", Behaviour::Replays, name, 30);
        }
        world.drop_session("mallory", NAMES[round % 3]);
        world.run(1_000);
    }
    assert!(world.tally.get(Behaviour::Replays.name()) >= 500);
    world.settle();
    for name in NAMES {
        assert_eq!(world.get(name, "count").as_deref(), Some("30"));
        assert_eq!(world.get(name, "other").as_deref(), Some("30"));
        assert_eq!(world.counter(name, "checks_diverged"), 0, "old summaries are old, not wrong");
    }
}

/// Thousands of small messages of every kind to everybody, while honest members work.
#[test]
fn flood_of_small_messages_stops_nobody() {
    let mut world = with_mallory(6, &[]);
    for name in NAMES.iter().cycle().take(30) {
        assert!(world.strike("mallory", Behaviour::Floods, name, 8));
        world.write(name, increment("during", 1));
        world.run(100);
    }
    assert!(world.tally.get("messages of floods") >= 3_000);
    honest_work(&mut world, 5);
    assert_eq!(world.get("a", "during").as_deref(), Some("30"));
}

/// The same question for everything, a thousand times: what is answered in a turn is bounded.
#[test]
fn same_question_a_thousand_times_is_answered_within_bounds() {
    let mut world = with_mallory(7, &[]);
    let value = "x".repeat(50_000);
    (0..40).for_each(|n| world.write("a", set(&format!("k{n}"), &value)));
    world.settle();
    let author = world.node("a").driver().replica().id();
    let want = Message::Want { keyspace: keyspace_id(NOTES), after: vec![WantEntry { author, after: 0 }] };
    let before = world.network().traffic.bytes;
    for _ in 0..1_000 {
        assert!(world.say("mallory", "a", &want));
    }
    world.run(5_000);
    let sent = world.network().traffic.bytes - before;
    // A turn takes eight questions, each of which is worth a megabyte, and answers eight.
    assert!(sent < 1_000 << 20, "{sent} bytes");
    world.write("b", increment("count", 1));
    world.settle_within(&NAMES, 5_000);
}

/// Heads of authors that do not exist, as many as a message holds, again and again.
#[test]
fn heads_of_nobody_cost_a_question_now_and_then() {
    let mut world = with_mallory(8, &[Behaviour::Withholds]);
    for round in 0..10_u128 {
        let author = |n: u128| ReplicaId::from_bytes((round << 64 | n).to_be_bytes());
        let head = |n| HeadEntry { author: author(n), seq: 9, frame: [1; 8] };
        let entries = (0..HEADS_MAX as u128).map(head).collect();
        world.say("mallory", "a", &Message::Heads { keyspace: keyspace_id(NOTES), entries });
        world.run(500);
    }
    let asked = world.counter("a", "pulls");
    assert!(asked < 200, "{asked} questions in five seconds");
    honest_work(&mut world, 5);
}

/// As many keyspaces as a node holds: the table is bounded, and those that there were go on. The price is that
/// no new one can be opened.
#[test]
fn keyspaces_up_to_the_bound_leave_the_old_ones_alone() {
    let mut world = World::connected(9, &["a", "b"]);
    world.write("a", increment("count", 1));
    world.settle();
    world.add_hostile("mallory", &[]);
    world.run(1_000);
    for piece in 0..10 {
        let name = |n: usize| -> KeyspaceName { named(&format!("evil-{piece}-{n}")) };
        let names = (0..KEYSPACES_MAX / 8).map(name).collect();
        assert!(world.say("mallory", "a", &Message::Keyspaces(names)));
        world.run(100);
    }
    world.run(2_000);
    for name in ["a", "b"] {
        assert_eq!(world.report(name).keyspaces.len(), Limits::default().keyspaces_max);
        world.write(name, increment("count", 1));
    }
    world.settle_within(&["a", "b"], 10_000);
    assert_eq!(world.get("a", "count").as_deref(), Some("3"));
    let new = world.request("a", "new", Atomicity::Each, vec![Action::Write(set("k", "v"))]);
    assert!(new.is_ok(), "a node's own keyspaces have room: {new:?}");
}

/// Hundreds of records of peers that are nowhere, all fresh. A node that was away is found all the same by
/// the one that knew it.
#[test]
fn records_of_nobody_do_not_displace_friends() {
    let mut world = World::new(10);
    ["a", "middle", "friend"].iter().for_each(|name| world.add(name));
    world.connect("a", "middle");
    world.connect("friend", "middle");
    world.write("friend", set("k", "v"));
    world.run(15_000);
    assert!(world.is_linked("a", "friend"), "they met through the one in the middle");
    world.add_hostile("mallory", &[]);
    world.kill("friend");
    world.run(2_000);
    for n in 0..20_u8 {
        let record = |m: u8| {
            let (peer, age_s) = (PeerId::from_public_key([n.wrapping_mul(32) ^ m; 32]), 0);
            let keyspaces = vec![KeyspaceHint::of(keyspace_id(NOTES))];
            PeerRecord { peer, addresses: vec![format!("nowhere/{n}/{m}")], age_s, keyspaces }
        };
        world.say("mallory", "a", &Message::Peers((0..32).map(record).collect()));
        world.run(200);
    }
    world.leave("middle");
    world.start("friend");
    world.write("a", increment("count", 1));
    world.settle();
}

/// Bytes that are no message, second hellos, frames that nobody signed: each ends the session in which it
/// came, and honest members go on.
#[test]
fn garbage_of_every_kind_ends_the_session() {
    let mut world = with_mallory(11, &[]);
    let ended = |world: &World| world.tally.get("sessions of hostile members that ended");
    for n in 0..60 {
        let before = ended(&world);
        assert!(world.strike("mallory", Behaviour::SendsGarbage, NAMES[n % 3], 1), "it may come back");
        world.run(600);
        assert!(ended(&world) > before, "it was heard and let pass");
    }
    let refused = |name: &&str| {
        world.counter(name, "refused_malformed_messages") + world.counter(name, "refused_frames")
    };
    assert!(NAMES.iter().map(refused).sum::<u64>() >= 30);
    assert!(NAMES.iter().all(|name| world.counter(name, "goodbyes") == 0), "nobody honest was sent away");
    honest_work(&mut world, 5);
}

/// Sessions that begin with anything but a good hello do not begin.
#[test]
fn bad_greetings_are_refused() {
    let mut world = with_mallory(12, &[Behaviour::SendsGarbage]);
    honest_work(&mut world, 60);
    assert!(world.tally.get("bad greetings") >= 10, "{}", world.tally);
    assert!(world.tally.get("hostile members that were turned away") >= 10);
    let refused: u64 = NAMES
        .iter()
        .map(|name| {
            let count = |counter| world.counter(name, counter);
            count("refused_protocol_version") + count("refused_other_cluster") + count("refused_wrong_card")
        })
        .sum();
    assert!(refused >= 5, "{refused}");
}

/// A member announces more of everybody's operations than there are, and answers with nothing, with promises,
/// late, or not at all. Messages are lost besides, so that there is something to ask for.
#[test]
fn empty_promises_keep_nothing_back() {
    let mut world = with_mallory(13, &[Behaviour::Withholds]);
    world.worsen(|conditions| conditions.loss = 100);
    for name in NAMES.iter().cycle().take(60) {
        world.write(name, increment("before", 1));
        world.run(300);
    }
    world.worsen(|conditions| conditions.loss = 0);
    honest_work(&mut world, 10);
    assert!(world.tally.get(Behaviour::Withholds.name()) >= 10);
    assert!(world.tally.get("withheld answers") >= 10);
    assert_eq!(world.get("c", "before").as_deref(), Some("60"));
}

/// A member announces what another one has, and answers just before anybody else would be asked, with nothing
/// and a new promise. The one who has it is asked all the same.
#[test]
fn promises_renewed_in_time_keep_nothing_back() {
    let mut world = World::connected(14, &["a", "b"]);
    world.add_hostile("mallory", &[]);
    world.run(1_000);
    world.partition("a", "b");
    let author = world.node("b").driver().replica().id();
    world.write("b", set("k", "v"));
    let keyspace = keyspace_id(NOTES);
    let entries = vec![HeadEntry { author, seq: 1_000, frame: [1; 8] }];
    let heads = Message::Heads { keyspace, entries };
    world.say("mallory", "a", &Message::Keyspaces(vec![named(NOTES)]));
    world.say("mallory", "a", &heads);
    world.run(500);
    world.heal();
    for _ in 0..12 {
        world.run(4_500);
        let (cards, frames) = (Vec::new(), Vec::new());
        world.say("mallory", "a", &Message::Answer { keyspace, cards, frames, has_more: true });
        world.say("mallory", "a", &heads);
    }
    assert!(world.counter("a", "pulls") >= 2, "nobody was asked");
    assert_eq!(world.get("a", "k").as_deref(), Some("v"), "after a minute");
    world.settle();
}

/// Everything at once, by two members.
#[test]
fn two_members_that_do_everything_stop_nobody() {
    let mut world = with_mallory(15, &Behaviour::ALL);
    world.add_hostile("mallet", &Behaviour::ALL);
    honest_work(&mut world, 20);
    for behaviour in Behaviour::ALL {
        assert!(world.tally.get(behaviour.name()) > 0, "nothing of {behaviour:?}");
    }
}
