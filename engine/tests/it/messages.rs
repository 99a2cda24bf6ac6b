//! What a replica makes of single messages: each is carried by hand, and the answer is looked at.
//!
//! Stories of whole nodes are in the simulator; here is what depends on which message comes when.

use crate::world::by_hand::{COURIER, Station, card, key, request_in};
use crate::world::forge::Forger;
use crate::world::words::{add, increment, set};
use crate::world::{NOTES, cluster, keyspace_id, named};
use tidelock_engine::frame::Frame;
use tidelock_engine::message::{FrameBytes, Hello, Message, PROTOCOL_VERSION, WantEntry};
use tidelock_engine::op::Op;
use tidelock_engine::ports::{SessionId, TransportEvent};
use tidelock_engine::replica::Input;
use tidelock_engine::request::RequestId;

/// Frames arrive last first, and all of them twice.
#[test]
fn reordered_and_repeated_frames_are_applied_once_and_in_order() {
    let (mut a, mut b, mut c) = (Station::new(0, 3), Station::new(1, 3), Station::new(2, 3));
    for n in 0..10 {
        a.write(increment("n", 1));
        b.pull(&a, 9);
        b.write(add("s", &n.to_string()));
        a.pull(&b, 9);
    }
    let frames = a.log();
    for frame in frames.iter().rev().chain(&frames) {
        c.deliver(std::slice::from_ref(frame));
    }
    assert_eq!(c.rows(), a.rows());
    assert_eq!(c.counter("frames_applied"), 20);
    assert_eq!(c.counter("frames_duplicate"), 20);
    assert_eq!(c.report().early, (0, 0));
}

/// A chain of a thousand frames, each of which waits for the next: nothing stays behind.
#[test]
fn long_chain_of_waiting_frames_is_applied_in_one_go() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    let frames: Vec<_> = (0..1_000).flat_map(|_| a.write(increment("n", 1))).collect();
    for frame in frames.iter().skip(1).rev() {
        b.deliver(std::slice::from_ref(frame));
    }
    assert_eq!(b.report().early.0, 999);
    b.deliver(&frames[..1]);
    assert_eq!(b.get("n").as_deref(), Some("1000"));
    assert_eq!(b.report().early, (0, 0));
}

/// A pull is cut to a bounded size and goes on from where it stopped.
#[test]
fn large_backlog_is_answered_in_bounded_messages() {
    let mut a = Station::new(0, 1);
    for n in 0..40 {
        a.write(set(&format!("key{n}"), &"x".repeat(100_000)));
    }
    a.said();
    let want = Message::Want {
        keyspace: keyspace_id(NOTES),
        after: vec![WantEntry { author: card(0).replica(), after: 0 }],
    };
    a.say(COURIER, &want);
    let said = a.said();
    let [Message::Answer { frames, has_more: true, .. }] = &said[..] else { panic!("{said:?}") };
    assert!(frames.len() < 12, "{}", frames.len());
    let want = Message::Want {
        keyspace: keyspace_id(NOTES),
        after: vec![WantEntry { author: card(0).replica(), after: 35 }],
    };
    a.say(COURIER, &want);
    let said = a.said();
    let [Message::Answer { frames, has_more: false, .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(frames.len(), 5);
}

/// A keyspace is made after our hello was sent and before the peer's arrived.
#[test]
fn keyspace_made_between_two_hellos_is_told() {
    let mut a = Station::new(0, 1);
    let session = SessionId(9);
    a.turn(vec![up(7, session)]);
    assert!(matches!(&a.said()[..], [.., Message::Hello(_)]));
    a.turn(vec![request_in("other", vec![set("k", "v")])]);
    a.say(session, &Message::Hello(hello_of(7)));
    let told =
        |message: &Message| matches!(message, Message::Keyspaces(names) if names.contains(&named("other")));
    let said = a.said();
    assert!(said.iter().filter(|message| told(message)).count() >= 2, "to both peers: {said:?}");
}

/// A copy of a node's folder is started beside it under the same key.
#[test]
fn node_with_our_own_replica_is_refused() {
    let mut a = Station::new(0, 1);
    let hello = Hello { card: card(0), ..hello_of(0) };
    let reasons = meet(&mut a, 0, &Message::Hello(hello));
    assert_eq!(reasons, ["the peer uses this node's replica"]);
}

/// A node of a later protocol version.
#[test]
fn other_protocol_version_is_refused() {
    let mut a = Station::new(0, 1);
    let hello = Hello { protocol: PROTOCOL_VERSION + 1, ..hello_of(5) };
    let reasons = meet(&mut a, 5, &Message::Hello(hello));
    assert_eq!(reasons, ["protocol version 2, and here it is 1"]);
    assert_eq!(a.counter("refused_protocol_version"), 1);
}

/// Nothing is looked at before the hello, and a hello comes once.
#[test]
fn session_begins_with_one_hello() {
    let mut a = Station::new(0, 1);
    assert_eq!(meet(&mut a, 5, &Message::Keyspaces(vec![named("x")])), ["a message before the hello"]);
    assert_eq!(meet(&mut a, 5, &Message::Hello(hello_of(5))), [""; 0]);
    let again = a.say(SessionId(5), &Message::Hello(hello_of(5)));
    assert!(again.replies.is_empty());
    assert_eq!(a.closed(), ["a second hello"]);
}

/// A peer that has an earlier write only has not confirmed the later one, and one peer counts once.
#[test]
fn confirmation_of_an_earlier_write_does_not_count() {
    let mut a = Station::new(0, 1);
    a.write(set("k", "1"));
    a.write(set("k", "2"));
    let wait = RequestId(9);
    let outcome = a.turn(vec![Input::Confirm(wait, named(NOTES))]);
    assert_eq!(outcome.confirmations, [(wait, 0)]);
    let keyspace = keyspace_id(NOTES);
    let confirmed = |seq| Message::Confirmed { keyspace, seq };
    assert_eq!(a.say(COURIER, &confirmed(1)).confirmations, []);
    assert_eq!(a.say(COURIER, &confirmed(2)).confirmations, [(wait, 1)]);
    assert_eq!(a.say(COURIER, &confirmed(3)).confirmations, []);
    a.turn(vec![Input::Forget(wait)]);
    a.said();
    a.pass(5_000);
    assert!(
        !a.said().iter().any(|message| matches!(message, Message::Confirm { .. })),
        "nobody waits any more"
    );
}

/// A peer waits for its second write; we have the first.
#[test]
fn peer_is_told_when_all_of_its_writes_are_here() {
    let mut a = Station::new(0, 1);
    let mut courier = Forger::new(200);
    let (first, second) = (courier.frame(&[], &[set_op()]), courier.frame(&[], &[set_op()]));
    let push = |frame: &Frame| Message::Push {
        cards: vec![card(200)],
        frames: vec![FrameBytes(frame.bytes().to_vec())],
    };
    let keyspace = keyspace_id(NOTES);
    a.say(COURIER, &push(&first));
    a.said();
    a.say(COURIER, &Message::Confirm { keyspace, seq: 2 });
    assert_eq!(a.said(), []);
    a.say(COURIER, &push(&second));
    assert_eq!(a.said(), [Message::Confirmed { keyspace, seq: 2 }]);
    a.say(COURIER, &Message::Confirm { keyspace, seq: 1 });
    assert_eq!(a.said(), [Message::Confirmed { keyspace, seq: 1 }]);
}

fn set_op() -> Op {
    Op::Set { key: b"k".to_vec(), value: b"v".to_vec(), observed: Vec::new(), slots: Vec::new() }
}

fn hello_of(index: u8) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        cluster: cluster(),
        card: card(index),
        keyspaces: Vec::new(),
        takes_any_keyspace: true,
        addresses: Vec::new(),
    }
}

/// A peer connects.
fn up(index: u8, session: SessionId) -> Input {
    let (peer, address) = (key(index).peer(), "hand/met".to_owned());
    Input::Network(TransportEvent::Up { peer, session, address, is_dialer: false })
}

/// A peer connects and says something; why was it refused?
fn meet(station: &mut Station, index: u8, message: &Message) -> Vec<String> {
    station.turn(vec![up(index, SessionId(5))]);
    station.said();
    station.say(SessionId(5), message);
    let closed = station.closed();
    let goodbyes: Vec<String> = station
        .said()
        .into_iter()
        .filter_map(|message| if let Message::Goodbye { reason } = message { Some(reason) } else { None })
        .collect();
    assert_eq!(closed, goodbyes, "the peer is told what the log says");
    closed
}
