//! Peers that say what they should not: bounded, named, cut off.

use crate::world::by_hand::{COURIER, Station, card};
use crate::world::words::{increment, set};
use crate::world::{NOTES, cluster, keyspace_id, named};
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{KeyspaceId, PeerId, ReplicaId};
use tidelock_engine::message::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, FRAMES_MAX, FrameBytes, HEADS_MAX, HeadEntry, Hello, KEYSPACES_MAX,
    Message, MessageError, PEER_RECORDS_MAX, PROTOCOL_VERSION, PeerRecord, REASON_BYTES_MAX, WantEntry,
};
use tidelock_engine::ports::{MESSAGE_BYTES_MAX, SessionId, TransportEvent};
use tidelock_engine::replica::Input;

/// A message that is so much longer than it may be.
type Bounded = Box<dyn Fn(usize) -> Message>;

fn nobody() -> ReplicaId {
    ReplicaId::from_bytes([9; 16])
}

fn want(author: ReplicaId, after: u64) -> WantEntry {
    WantEntry { author, after }
}

fn head(author: ReplicaId, seq: u64) -> HeadEntry {
    HeadEntry { author, seq, frame: [7; 8] }
}

fn record(addresses: usize, bytes: usize) -> PeerRecord {
    let peer = PeerId::from_public_key([3; 32]);
    PeerRecord { peer, addresses: vec!["x".repeat(bytes); addresses], age_s: 1, keyspaces: Vec::new() }
}

fn hello(keyspaces: usize, addresses: usize, bytes: usize) -> Message {
    Message::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        cluster: cluster(),
        card: card(5),
        keyspaces: vec![named("n"); keyspaces],
        takes_any_keyspace: true,
        addresses: vec!["x".repeat(bytes); addresses],
    })
}

/// Every list and text of every message, at its bound and one past.
#[test]
fn messages_are_bounded_at_their_bounds() {
    let keyspace = keyspace_id(NOTES);
    let frames = |count: usize| vec![FrameBytes(vec![1]); count];
    let message_of: Vec<(&str, Bounded)> = vec![
        ("keyspaces of a hello", Box::new(|more| hello(KEYSPACES_MAX + more, 1, 1))),
        ("addresses of a hello", Box::new(|more| hello(1, ADDRESSES_MAX + more, 1))),
        ("an address of a hello", Box::new(|more| hello(1, 1, ADDRESS_BYTES_MAX + more))),
        ("reason", Box::new(|more| Message::Goodbye { reason: "x".repeat(REASON_BYTES_MAX + more) })),
        ("keyspaces", Box::new(|more| Message::Keyspaces(vec![named("n"); KEYSPACES_MAX + more]))),
        ("peers", Box::new(|more| Message::Peers(vec![record(1, 1); PEER_RECORDS_MAX + more]))),
        ("addresses of a peer", Box::new(|more| Message::Peers(vec![record(ADDRESSES_MAX + more, 1)]))),
        ("an address of a peer", Box::new(|more| Message::Peers(vec![record(1, ADDRESS_BYTES_MAX + more)]))),
        (
            "heads",
            Box::new(move |more| Message::Heads {
                keyspace,
                entries: vec![head(nobody(), 1); HEADS_MAX + more],
            }),
        ),
        (
            "wants",
            Box::new(move |more| Message::Want {
                keyspace,
                after: vec![want(nobody(), 1); HEADS_MAX + more],
            }),
        ),
        (
            "frames of a push",
            Box::new(move |more| Message::Push { cards: Vec::new(), frames: frames(FRAMES_MAX + more) }),
        ),
        (
            "cards of an answer",
            Box::new(move |more| Message::Answer {
                keyspace,
                cards: vec![card(1); FRAMES_MAX + more],
                frames: Vec::new(),
                has_more: false,
            }),
        ),
    ];
    for (what, message) in message_of {
        assert_eq!(Message::decode(&message(0).encode()), Ok(message(0)), "{what} at the bound");
        let past = Message::decode(&message(1).encode());
        assert!(
            matches!(past, Err(MessageError::Malformed | MessageError::Bound(_))),
            "{what} past the bound"
        );
    }
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert_eq!(Message::decode(&long), Err(MessageError::TooLong(MESSAGE_BYTES_MAX + 1)));
    assert_eq!(Message::decode(&long[1..]), Err(MessageError::Malformed));
}

/// A few bytes that announce a list of billions.
#[test]
fn announced_lengths_are_not_believed() {
    // Variant 5 is heads: a keyspace, then the number of entries.
    let mut bytes = vec![5];
    bytes.extend([0; 16]);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(Message::decode(&bytes), Err(MessageError::Malformed));
}

/// Bytes that are no message end the session, and what comes after in it is not looked at.
#[test]
fn malformed_message_ends_the_session() {
    let mut a = Station::new(0, 2);
    a.hear(COURIER, vec![0xff; 40]);
    assert_eq!(a.closed(), ["malformed message"]);
    assert_eq!(a.counter("refused_malformed_messages"), 1);
    let mut b = Station::new(1, 2);
    let frames = b.write(set("k", "v"));
    a.deliver(&frames);
    assert!(a.log().is_empty());
    assert_eq!(a.closed(), [""; 0]);
}

/// Wants that name authors many times, beyond all bounds, or nobody at all.
#[test]
fn senseless_wants_are_answered_with_nothing() {
    let mut a = Station::new(0, 1);
    a.write(set("k", "v"));
    let own = card(0).replica();
    a.said();
    for (after, expected) in [
        (vec![want(own, u64::MAX), want(nobody(), 0), want(nobody(), u64::MAX)], 0),
        (vec![want(own, 1), want(own, u64::MAX - 1)], 0),
        (vec![want(own, 0); HEADS_MAX], 1),
        (vec![], 0),
    ] {
        a.say(COURIER, &Message::Want { keyspace: keyspace_id(NOTES), after });
        let said = a.said();
        let [Message::Answer { frames, has_more: false, .. }] = &said[..] else { panic!("{said:?}") };
        assert_eq!(frames.len(), expected);
    }
    let unknown = KeyspaceId::from_bytes([1; 16]);
    a.say(COURIER, &Message::Want { keyspace: unknown, after: vec![want(own, 0)] });
    assert_eq!(a.said(), []);
}

/// A peer asks for everything a thousand times in one turn: what it is sent is bounded.
#[test]
fn answers_of_one_turn_are_bounded() {
    let mut a = Station::new(0, 1);
    for n in 0..20 {
        a.write(set(&format!("key{n}"), &"x".repeat(100_000)));
    }
    a.said();
    let message = Message::Want { keyspace: keyspace_id(NOTES), after: vec![want(card(0).replica(), 0)] };
    let bytes = message.encode();
    let ask = || Input::Network(TransportEvent::Message { session: COURIER, bytes: bytes.clone() });
    a.turn((0..1_000).map(|_| ask()).collect());
    let sent: usize = a.said().iter().map(|message| message.encode().len()).sum();
    assert!(sent < 12 << 20, "{sent} bytes");
    a.turn(vec![ask()]);
    assert!(
        a.said()
            .iter()
            .any(|message| matches!(message, Message::Answer { frames, .. } if !frames.is_empty()))
    );
}

/// Heads of authors that do not exist, again and again: a question now and then, no flood of them.
#[test]
fn heads_of_nobody_are_asked_for_now_and_then() {
    let mut a = Station::new(0, 1);
    a.said();
    let mut wants = 0;
    for round in 0..30_u64 {
        let author = |n: u64| {
            let bytes: [u8; 16] = (u128::from(round) << 64 | u128::from(n)).to_be_bytes();
            ReplicaId::from_bytes(bytes)
        };
        let entries = (0..HEADS_MAX as u64).map(|n| head(author(n), 5)).collect();
        a.say(COURIER, &Message::Heads { keyspace: keyspace_id(NOTES), entries });
        a.pass(100);
        for message in a.said() {
            if let Message::Want { keyspace, .. } = message {
                wants += 1;
                let (cards, frames) = (Vec::new(), Vec::new());
                a.say(COURIER, &Message::Answer { keyspace, cards, frames, has_more: true });
            }
        }
    }
    assert!(wants <= 80, "{wants} wants in three seconds");
}

/// A peer says that it has more and never sends anything.
#[test]
fn empty_promises_do_not_make_a_loop() {
    let mut a = Station::new(0, 1);
    a.said();
    let entries = vec![head(nobody(), 5)];
    a.say(COURIER, &Message::Heads { keyspace: keyspace_id(NOTES), entries });
    let mut wants = 0;
    for _ in 0..600 {
        for message in a.said() {
            if let Message::Want { keyspace, .. } = message {
                wants += 1;
                let (cards, frames) = (Vec::new(), Vec::new());
                a.say(COURIER, &Message::Answer { keyspace, cards, frames, has_more: true });
            }
        }
        a.pass(100);
    }
    assert!(wants <= 12, "{wants} wants in a minute");
}

/// Two replicas with equal heads and other rows: a defect or bit rot, and shown as such.
#[test]
fn other_rows_under_equal_heads_are_reported() {
    let mut a = Station::new(0, 2);
    a.write(increment("n", 1));
    a.said();
    a.pass(2_000);
    let summary = a.said().into_iter().find_map(|message| match message {
        Message::Summary { keyspace, heads, fingerprint } => Some((keyspace, heads, fingerprint)),
        _ => None,
    });
    let (keyspace, heads, fingerprint) = summary.expect("a summary is due");
    a.say(COURIER, &Message::Summary { keyspace, heads, fingerprint });
    assert!(!a.report().keyspaces[0].is_diverged);
    assert_eq!(a.report().links[0].in_sync, 1);
    let mut other = fingerprint;
    other[0] ^= 1;
    a.say(COURIER, &Message::Summary { keyspace, heads, fingerprint: other });
    assert!(a.report().keyspaces[0].is_diverged);
    assert_eq!(a.counter("checks_diverged"), 1);
}

/// Hundreds of strangers who do not get past the hello: the first of them are remembered for the operator, no more.
#[test]
fn refusals_that_are_remembered_are_bounded() {
    let mut a = Station::new(0, 2);
    for number in 0..300_u64 {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let stranger = SigningKey::from_seed(seed);
        let (peer, session) = (stranger.peer(), SessionId(1_000 + number));
        let up = TransportEvent::Up { peer, session, address: "far/away".to_owned(), is_dialer: false };
        a.turn(vec![Input::Network(up)]);
        let hello = Hello {
            protocol: PROTOCOL_VERSION + 1,
            cluster: cluster(),
            card: stranger.card([1; 16]),
            keyspaces: Vec::new(),
            takes_any_keyspace: false,
            addresses: Vec::new(),
        };
        a.say(session, &Message::Hello(hello));
    }
    assert_eq!(a.counter("refused_protocol_version"), 300);
    assert_eq!(a.report().refusals.len(), 64);
}
