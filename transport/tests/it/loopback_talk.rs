//! The talk of consensus between real nodes over TCP and QUIC: order, urgency, bounds, who may talk, what ends it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use MessageClass::{Append, Heartbeat, Snapshot};
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{MESSAGE_BYTES_MAX, MessageClass, SessionId, Transport, TransportEvent};
use tidelock_transport::{Config, Lane, LaneConfig};

use crate::world::hostile::{self, Opener};
use crate::world::{BOTH, DEADLINE, Node, Via, config, key, pair, until};

/// What may be on its way of one class, in bytes.
const WINDOW_BYTES: u64 = 512 << 10;

const MIB: usize = 1 << 20;

fn talk_with(node: &Node, peers: &[PeerId]) {
    node.transport.clone().talk_with(peers.iter().copied().collect());
}

fn tell(from: &Node, to: &Node, class: MessageClass, message: impl Into<Vec<u8>>) {
    // What finds no stream shows in the figures.
    let _ = from.transport.clone().tell(to.peer, class, message.into());
}

/// The next event must be something that a peer told.
async fn told(node: &mut Node, by: PeerId) -> Vec<u8> {
    match node.event().await {
        TransportEvent::Told { from, bytes } if from == by => bytes,
        other => panic!("instead of something told: {other:?}"),
    }
}

/// Tells until something arrives, so that the talk stands; takes all of it, and the ends of talks that were refused.
async fn introduce(from: &mut Node, to: &mut Node) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        from.keep_events();
        tell(from, to, Heartbeat, "hello");
        match to.try_event() {
            Some((_, TransportEvent::Told { .. })) => break,
            Some((_, TransportEvent::Untold { .. })) | None => {}
            Some(other) => panic!("{other:?}"),
        }
        assert!(Instant::now() < deadline, "no talk before the deadline");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tell(from, to, Heartbeat, "last");
    while told(to, from.peer).await != b"last" {}
}

/// Two nodes that are connected and talk; the first one dialled.
async fn talking([a, b]: [Config; 2]) -> (Node, SessionId, Node, SessionId) {
    let (mut a, session_a, mut b, session_b) = pair(a, b).await;
    talk_with(&a, &[b.peer]);
    talk_with(&b, &[a.peer]);
    introduce(&mut a, &mut b).await;
    introduce(&mut b, &mut a).await;
    (a, session_a, b, session_b)
}

/// A message that says its class and its number.
fn numbered(class: MessageClass, number: u32, bytes: usize) -> Vec<u8> {
    let mut message = vec![u8::try_from(class.index()).expect("one of three")];
    message.extend_from_slice(&number.to_be_bytes());
    message.resize(bytes.max(5), 7);
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_class_arrives_whole_and_in_order() {
    for via in BOTH {
        let (a, _, mut b, _) = talking([1, 2].map(|n| config(n, via))).await;
        let before = a.transport.talk().append.messages_sent;
        let mut lengths = [const { Vec::new() }; 3];
        for number in 0..1_500_u32 {
            let class = MessageClass::ALL[number as usize % 3];
            let bytes = [5, 300, 40_000, 32 << 10, (32 << 10) + 1][number as usize % 5];
            lengths[class.index()].push(bytes);
            let place = u32::try_from(lengths[class.index()].len() - 1).expect("few");
            tell(&a, &b, class, numbered(class, place, bytes));
        }
        lengths[Append.index()].push(MESSAGE_BYTES_MAX);
        tell(&a, &b, Append, numbered(Append, 500, MESSAGE_BYTES_MAX));
        let mut next = [0_usize; 3];
        for _ in 0..1_501 {
            let message = told(&mut b, a.peer).await;
            let class = usize::from(message[0]);
            let expected = numbered(
                MessageClass::ALL[class],
                u32::try_from(next[class]).expect("few"),
                lengths[class][next[class]],
            );
            assert!(message == expected, "{via:?}: {} of class {class}", next[class]);
            next[class] += 1;
        }
        let (sent, received) = (a.transport.talk().append, b.transport.talk().append);
        assert_eq!((sent.messages_sent - before, received.messages_received), (501, 501));
        assert_eq!((sent.bytes_sent, sent.messages_lost), (received.bytes_received, 0));
    }
}

/// The story: a follower's engine is busy, and 16 MiB of entries wait on the way to it. The leader's heartbeats go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeat_passes_entries_that_are_not_taken() {
    for via in BOTH {
        let (a, _, mut b, _) = talking([1, 2].map(|n| config(n, via))).await;
        let first = LaneConfig::new(Lane::Raft).in_bytes_max;
        tell(&a, &b, Append, vec![1; first]);
        tell(&a, &b, Append, vec![2; 16 * MIB]);
        let at_b = b.transport.clone();
        // The first fills the engine's queue, so there is no more credit, and the second stops where it is.
        until("the first one arrived", || at_b.talk().append.messages_received == 1).await;
        let before = at_b.talk().heartbeat.messages_received;
        tell(&a, &b, Heartbeat, "alive");
        until("a heartbeat arrives", || at_b.talk().heartbeat.messages_received > before).await;
        let received = at_b.talk().append.bytes_received;
        assert!(received <= first as u64 + WINDOW_BYTES, "{via:?}: {received}");
        assert_eq!(told(&mut b, a.peer).await, vec![1; first]);
        assert_eq!(told(&mut b, a.peer).await, b"alive");
        assert!(told(&mut b, a.peer).await == vec![2; 16 * MIB]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_last_of_the_urgent_arrives_first() {
    for via in BOTH {
        let (a, _, mut b, _) = talking([1, 2].map(|n| config(n, via))).await;
        for (class, bytes) in [(Snapshot, 16 * MIB), (Append, 16 * MIB), (Heartbeat, 5)] {
            tell(&a, &b, class, numbered(class, 0, bytes));
        }
        assert_eq!(told(&mut b, a.peer).await, numbered(Heartbeat, 0, 5));
        let classes = [told(&mut b, a.peer).await[0], told(&mut b, a.peer).await[0]];
        assert_eq!(BTreeSet::from(classes), BTreeSet::from([1, 2]), "they share the way by their credit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_is_dropped_and_counted() {
    for via in BOTH {
        let limits =
            LaneConfig { lane: Lane::Raft, frame_bytes_max: MIB, out_bytes_max: 4 * MIB, in_bytes_max: MIB };
        let configs =
            [1, 2].map(|n| Config { lanes: vec![LaneConfig::new(Lane::Sync), limits], ..config(n, via) });
        let (a, _, mut b, _) = talking(configs).await;
        let before = a.transport.talk();
        tell(&a, &b, Append, vec![0; MIB + 1]);
        assert_eq!(a.transport.talk().append.messages_lost, before.append.messages_lost + 1, "too long");
        for number in 0..100 {
            tell(&a, &b, Append, numbered(Append, number, MIB / 4));
        }
        tell(&a, &b, Heartbeat, "alive");
        let figures = a.transport.talk();
        assert_eq!(figures.heartbeat.messages_lost, before.heartbeat.messages_lost, "it has room of its own");
        // 25 MiB were told; at both queues and between them there is room for less than 7.
        let lost = figures.append.messages_lost - before.append.messages_lost - 1;
        assert!((72..100).contains(&lost), "{via:?}: {lost}");
        let (mut appends, mut newest, mut is_alive) = (0, None, false);
        while appends + lost < 100 || !is_alive {
            let message = told(&mut b, a.peer).await;
            if message == b"alive" {
                is_alive = true;
                continue;
            }
            assert!(newest < Some(message[1..5].to_vec()), "in order");
            newest = Some(message[1..5].to_vec());
            appends += 1;
        }
        assert!(b.try_event().is_none());
    }
}

/// The events up to the end of the talk and of the session, whichever comes first.
async fn ended(node: &mut Node, with: PeerId, session: SessionId) {
    let (mut is_untold, mut is_down) = (false, false);
    while !is_untold || !is_down {
        match node.event().await {
            TransportEvent::Untold { peer } if peer == with => is_untold = true,
            TransportEvent::Down { session: of, .. } if of == session => is_down = true,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_of_a_connection_is_told_and_the_talk_goes_on_over_the_next() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = talking([1, 2].map(|n| config(n, via))).await;
        a.transport.close(session_a, "the test ends it");
        ended(&mut a, b.peer, session_a).await;
        ended(&mut b, a.peer, session_b).await;
        assert_eq!((a.up().await.0, b.up().await.0), (b.peer, a.peer));
        introduce(&mut a, &mut b).await;
        introduce(&mut b, &mut a).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn talk_needs_both_sides_to_want_it() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), config(2, via)).await;
        talk_with(&a, &[b.peer]);
        let at_b = b.transport.clone();
        until("a stream was refused", || at_b.talk().streams_refused > 1).await;
        tell(&a, &b, Heartbeat, "nobody hears this");
        a.send(session_a, vec![1]).expect("it is up");
        assert_eq!(b.message(session_b).await, [1], "and nothing before it");
        talk_with(&b, &[a.peer]);
        introduce(&mut a, &mut b).await;
        while a.try_event().is_some() {}
        introduce(&mut b, &mut a).await;
        talk_with(&b, &[]);
        let (ended_a, ended_b) = (a.event().await, b.event().await);
        assert_eq!(ended_a, TransportEvent::Untold { peer: b.peer });
        assert_eq!(ended_b, TransportEvent::Untold { peer: a.peer });
        b.send(session_b, vec![2]).expect("the session stays");
        let message = loop {
            match a.event().await {
                TransportEvent::Untold { .. } => {} // it tries again, and is refused
                other => break other,
            }
        };
        assert_eq!(message, TransportEvent::Message { session: session_a, bytes: vec![2] });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn talk_that_is_unwanted_and_wanted_again_at_once_begins_anew() {
    for via in BOTH {
        let (mut a, _, mut b, _) = talking([1, 2].map(|n| config(n, via))).await;
        for node in [&a, &b] {
            let other = if node.peer == a.peer { b.peer } else { a.peer };
            talk_with(node, &[]);
            talk_with(node, &[other]);
        }
        for (node, other) in [(&mut a, b.peer), (&mut b, key(1).peer())] {
            assert_eq!(node.event().await, TransportEvent::Untold { peer: other });
        }
        introduce(&mut a, &mut b).await;
        while a.try_event().is_some() {}
        introduce(&mut b, &mut a).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_talks_with_nobody() {
    let mut closed = config(1, Via::Tcp);
    closed.allow = Some(BTreeSet::from([key(2).peer()]));
    let (mut a, mut stranger) = (Node::start(closed).await, Node::start(config(3, Via::Tcp)).await);
    talk_with(&a, &[stranger.peer]);
    talk_with(&stranger, &[a.peer]);
    stranger.connect(&a);
    let at_a = a.transport.clone();
    until("the stranger was refused", || at_a.refusals().first().is_some_and(|it| it.by_us > 1)).await;
    tell(&stranger, &a, Append, "let me in");
    assert_eq!(stranger.transport.talk().append.messages_lost, 1);
    assert!(a.try_event().is_none() && stranger.try_event().is_none());
    assert_eq!(a.transport.talk().streams_refused, 0, "it never came so far");
}

/// A member that breaks the rules, beside one that keeps to them: what it says before counts, then its stream ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_that_breaks_the_rules_ends_and_harms_no_other() {
    let piece = [vec![0, 0, 0x80, 1, 1], vec![0; 32 << 10]].concat();
    let cases = [
        ("an announced length of 4 GiB", vec![0xff; 4]),
        ("a frame longer than a piece", [&[0, 0, 0x80, 2][..], &[0; 8]].concat()),
        ("a frame of nothing", vec![0; 4]),
        ("a class that there is not", vec![0, 0, 0, 2, 3, 0]),
        ("a message that never ends", piece.repeat(700)),
    ];
    for via in BOTH {
        for (what, broken) in &cases {
            let (mut a, _, mut b, _) = talking([1, 2].map(|n| config(n, via))).await;
            let liar = key(9).peer();
            talk_with(&b, &[a.peer, liar]);
            let bytes = [&[0, 0, 0, 3, 0x80, b'h', b'i'][..], broken].concat();
            hostile::dial(9, &b.address(), Opener { lane: Lane::Raft, ..Opener::new(bytes) });
            assert_eq!(told(&mut b, liar).await, b"hi", "{what}");
            assert_eq!(b.event().await, TransportEvent::Untold { peer: liar }, "{what}");
            assert_eq!(b.transport.talk().streams_misused, 1, "{what}");
            introduce(&mut a, &mut b).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_streams_with_half_messages_is_bounded_and_harms_no_other() {
    const STREAMS: usize = 64;
    for via in BOTH {
        let (mut a, _, mut b, _) = talking([1, 2].map(|n| config(n, via))).await;
        let liar = key(9).peer();
        talk_with(&b, &[a.peer, liar]);
        let half = [&[0, 0, 0x10, 0, 1][..], &[0; 0xfff], &[0, 0, 0, 9, 0x80]].concat();
        let opener = Opener { lane: Lane::Raft, streams: STREAMS, bytes: half };
        hostile::dial(9, &b.address(), opener);
        // Each replaces the one before; the last one stays, and says nothing whole.
        for _ in 0..STREAMS - 1 {
            assert_eq!(b.event().await, TransportEvent::Untold { peer: liar });
        }
        introduce(&mut a, &mut b).await;
        talk_with(&b, &[a.peer]);
        assert_eq!(b.event().await, TransportEvent::Untold { peer: liar });
        introduce(&mut a, &mut b).await;
        assert_eq!(b.transport.talk().append.messages_received, 0);
    }
}
