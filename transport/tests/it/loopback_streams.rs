//! Streams between two real nodes over TCP and QUIC: order, bounds, resets, priority, the orderly end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::world::{BOTH, Node, Via, config, hostile, pair, until};
use tidelock_engine::ports::{MESSAGE_BYTES_MAX, SendError, SessionId, Transport, TransportEvent};
use tidelock_transport::{Lane, LaneConfig};

fn numbered(number: usize, bytes: usize) -> Vec<u8> {
    let mut frame = vec![7; bytes.max(8)];
    frame[..8].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &[u8]) -> usize {
    usize::from_be_bytes(frame[..8].try_into().expect("a numbered frame"))
}

/// What is queued before an orderly end: several times the window of a stream, and yet sent within the bound of
/// a second on a machine that is busy with other things.
const FRAMES: usize = 30;
const FRAME_BYTES: usize = 50_000;

/// Sends all frames as an engine does, waiting for `Drained` after `Full`, and takes what arrives meanwhile.
async fn exchange(node: &mut Node, session: SessionId, sizes: &[usize]) {
    let (mut sent, mut received, mut is_full) = (0, 0, false);
    while sent < sizes.len() || received < sizes.len() {
        if sent < sizes.len() && !is_full {
            match node.send(session, numbered(sent, sizes[sent])) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => is_full = true,
                Err(error) => panic!("{error}"),
            }
            continue;
        }
        match node.event().await {
            TransportEvent::Message { session: of, bytes } => {
                assert_eq!((of, number(&bytes), bytes.len()), (session, received, sizes[received]));
                received += 1;
            }
            TransportEvent::Drained { session: of } => {
                assert!(of == session && is_full, "only who was refused is told");
                is_full = false;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_both_ways_whole_and_in_order() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), config(2, via)).await;
        let mut sizes = vec![256; 20_000];
        sizes.extend((0..200).map(|n| 8 + n * n * 7));
        sizes.extend([1 << 20, 65_535, 65_536, 65_537, MESSAGE_BYTES_MAX, 8]);
        tokio::join!(exchange(&mut a, session_a, &sizes), exchange(&mut b, session_b, &sizes));
        let status = a.transport.peers().remove(0);
        assert_eq!((status.frames_sent, status.frames_received), (sizes.len() as u64, sizes.len() as u64));
        assert_eq!(status.bytes_sent, sizes.iter().sum::<usize>() as u64 + 4 * sizes.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_makes_full_then_drained_and_nothing_is_lost() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), config(2, via)).await;
        let limits = LaneConfig::new(Lane::Sync);
        // The engine of b takes nothing. The queues and the windows of the stream fill up, then it is `Full`.
        // Full may come early, while bytes still move; it has come for good when no byte moves any more.
        let (mut accepted, mut moved, mut still) = (0, 0, 0);
        while still < 50 && accepted < 2000 {
            match a.send(session_a, numbered(accepted, 64 << 10)) {
                Ok(()) => (accepted, still) = (accepted + 1, 0),
                Err(SendError::Full) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let sent = a.transport.peers()[0].bytes_sent;
                    still = if sent == moved { still + 1 } else { 0 };
                    moved = sent;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let bytes = accepted * (64 << 10);
        assert!(bytes > limits.out_bytes_max && bytes < 100 << 20, "{via:?}: {bytes}");
        assert!(a.transport.peers()[0].queued_bytes_out <= limits.out_bytes_max);
        let waiting = b.transport.peers()[0].queued_bytes_in;
        assert!(waiting >= limits.in_bytes_max && waiting < limits.in_bytes_max + (256 << 10), "{waiting}");
        for expected in 0..accepted {
            assert_eq!(number(&b.message(session_b).await), expected);
        }
        assert_eq!(a.event().await, TransportEvent::Drained { session: session_a });
        a.send(session_a, numbered(accepted, 8)).expect("there is room again");
        assert_eq!(number(&b.message(session_b).await), accepted);
        assert!(a.transport.peers()[0].sends_refused_full > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_at_the_bound_arrives_and_one_past_it_resets_the_lane() {
    for via in BOTH {
        let mut small = config(2, via);
        small.lanes[0].frame_bytes_max = 1000;
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), small).await;
        assert_eq!(a.send(session_a, vec![0; MESSAGE_BYTES_MAX + 1]), Err(SendError::TooLarge));
        assert_eq!(b.send(session_b, vec![0; 1001]), Err(SendError::TooLarge));
        a.send(session_a, vec![1; 1000]).expect("it is up");
        a.send(session_a, vec![2; 1001]).expect("it is within the sender's bound");
        assert_eq!(b.message(session_b).await, vec![1; 1000]);
        let reason = b.down(session_b).await;
        assert!(reason.contains("1001") && reason.contains("1000"), "{reason}");
        a.down(session_a).await;
        assert_eq!(a.send(session_a, vec![3]), Err(SendError::NotUp));
        let ((_, again_a), (_, again_b)) = (a.up().await, b.up().await);
        assert!(again_a != session_a && again_b != session_b);
        a.send(again_a, vec![4; 10]).expect("it is up again");
        b.send(again_b, vec![5; 10]).expect("it is up again");
        assert_eq!((b.message(again_b).await, a.message(again_a).await), (vec![4; 10], vec![5; 10]));
    }
}

/// A frame too long for the receiver is sent again and again in full traffic. Each reset is a new session on
/// both sides, and of each session exactly a prefix arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_stay_apart_when_a_lane_is_reset_under_traffic() {
    const RESETS: usize = 30;
    for via in BOTH {
        let (mut fast, mut small) = (config(1, via), config(2, via));
        fast.backoff_min = Duration::from_millis(1);
        fast.backoff_max = Duration::from_millis(5);
        small.lanes[0].frame_bytes_max = 1000;
        let (mut a, mut session, mut b, mut receiving) = pair(fast, small).await;
        let sender = tokio::spawn(async move {
            for epoch in 0..RESETS {
                for number in 0.. {
                    let mut frame = numbered(epoch, if number == 500 { 1001 } else { 200 });
                    frame[8..16].copy_from_slice(&usize::to_be_bytes(number));
                    match a.send(session, frame) {
                        Ok(()) => {}
                        Err(SendError::NotUp) => break,
                        Err(error) => panic!("{error}"),
                    }
                    if number % 100 == 99 {
                        tokio::task::yield_now().await;
                    }
                    if number > 2000 {
                        break;
                    }
                }
                a.down(session).await;
                session = a.up().await.1;
            }
            a
        });
        let (mut resets, mut frames, mut epoch, mut next) = (0, 0, 0, 0);
        while resets < RESETS {
            match b.event().await {
                TransportEvent::Message { session, bytes } => {
                    assert_eq!((session, number(&bytes), number(&bytes[8..])), (receiving, epoch, next));
                    (next, frames) = (next + 1, frames + 1);
                }
                TransportEvent::Down { session, .. } => {
                    assert_eq!((session, next), (receiving, 500), "all before the long frame has arrived");
                    (resets, epoch, next) = (resets + 1, epoch + 1, 0);
                    receiving = b.up().await.1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(frames, RESETS * 500);
        let a = sender.await.expect("the sender is fine");
        assert_eq!(a.transport.peers()[0].frames_received, 0);
        assert_eq!(b.transport.peers()[0].frames_received, frames as u64, "all over one connection");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_lane_overtakes_bulk_and_lanes_do_not_block_each_other() {
    for via in BOTH {
        let configs = [1, 2].map(|n| {
            let mut config = config(n, via);
            config.lanes = Lane::ALL.map(LaneConfig::new).to_vec();
            config
        });
        let [a, b] = configs;
        let (mut a, mut b) = (Node::start(a).await, Node::start(b).await);
        a.connect(&b);
        let mut sessions = BTreeMap::new();
        for _ in 0..2 {
            let (lane, TransportEvent::Up { session, .. }) = a.lane_event().await else { panic!("not up") };
            sessions.insert(lane, session);
            b.up().await;
        }
        let (sync, bulk) = (sessions[&Lane::Sync], sessions[&Lane::Bulk]);
        let mut frames = 0;
        while a.send(bulk, vec![1; 1 << 20]) == Ok(()) {
            frames += 1;
        }
        a.send(sync, vec![2; 64]).expect("the sync lane has room of its own");
        let (mut bulk_seen, mut bulk_before_sync) = (0, None);
        while bulk_seen < frames || bulk_before_sync.is_none() {
            match b.lane_event().await {
                (Lane::Bulk, TransportEvent::Message { .. }) => bulk_seen += 1,
                (Lane::Sync, TransportEvent::Message { .. }) => bulk_before_sync = Some(bulk_seen),
                other => panic!("{other:?}"),
            }
        }
        assert!(bulk_before_sync.is_some_and(|seen| seen < frames), "{bulk_before_sync:?} of {frames}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lane_that_only_one_side_has_stays_down_and_harms_nothing() {
    let mut more = config(1, Via::Tcp);
    more.lanes.push(LaneConfig::new(Lane::Bulk));
    let (mut a, session_a, mut b, session_b) = pair(more, config(2, Via::Tcp)).await;
    a.send(session_a, vec![1]).expect("it is up");
    assert_eq!(b.message(session_b).await, [1]);
    assert!(a.try_event().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_delivers_what_was_queued_and_ends_both_sides() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), config(2, via)).await;
        a.transport.disconnect(&b.target());
        assert!(a.down(session_a).await.contains("no longer wanted"));
        b.down(session_b).await;
        // The one that was dialled closes; the dialler must learn of it, after all that was queued.
        b.connect(&a);
        let ((_, session_a), (_, session_b)) = (a.up().await, b.up().await);
        for number in 0..FRAMES {
            a.send(session_a, numbered(number, FRAME_BYTES)).expect("it fits");
        }
        a.transport.close(session_a, "you are in another cluster");
        assert_eq!(a.send(session_a, vec![1]), Err(SendError::NotUp));
        for expected in 0..FRAMES {
            assert_eq!(number(&b.message(session_b).await), expected);
        }
        b.down(session_b).await;
        assert_eq!(a.down(session_a).await, "you are in another cluster");
        // b still wants a, so it comes back.
        assert_eq!((a.up().await.0, b.up().await.0), (b.peer, a.peer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_delivers_what_was_queued() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), config(2, via)).await;
        for number in 0..FRAMES {
            a.send(session_a, numbered(number, FRAME_BYTES)).expect("it fits");
        }
        let transport = a.transport.clone();
        let receiver = async {
            for expected in 0..FRAMES {
                assert_eq!(number(&b.message(session_b).await), expected);
            }
            b.down(session_b).await;
        };
        tokio::join!(transport.shutdown(), receiver);
        assert!(a.down(session_a).await.contains("shuts down"));
        transport.shutdown().await;
        assert!(transport.peers().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_length_ends_the_session_and_nothing_else() {
    for via in BOTH {
        let mut a = Node::start(config(1, via)).await;
        let mut bytes = vec![0, 0, 0, 2, b'h', b'i'];
        bytes.extend_from_slice(&[0xff; 4]);
        bytes.resize(100_000, 0);
        hostile::dial_and_write(9, &a.address(), bytes);
        let (_, session) = a.up().await;
        assert_eq!(a.message(session).await, b"hi");
        let reason = a.down(session).await;
        assert!(reason.contains("4294967295"), "{reason}");
        let (mut a, session_a, mut b, session_b) = {
            let mut b = Node::start(config(2, via)).await;
            b.connect(&a);
            let ((_, session_a), (_, session_b)) = (a.up().await, b.up().await);
            (a, session_a, b, session_b)
        };
        a.send(session_a, vec![1]).expect("it is up");
        assert_eq!(b.message(session_b).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_never_reads_is_closed_after_the_stall_timeout() {
    for via in BOTH {
        let mut patient = config(1, via);
        patient.stall_timeout = Duration::from_millis(300);
        let mut a = Node::start(patient).await;
        hostile::dial_and_write(9, &a.address(), vec![0, 0, 0, 1, 7]);
        let (_, session) = a.up().await;
        assert_eq!(a.message(session).await, [7]);
        while a.send(session, vec![0; 1 << 20]) != Err(SendError::Full) {}
        let reason = loop {
            match a.event().await {
                TransportEvent::Drained { .. } => while a.send(session, vec![0; 1 << 20]) == Ok(()) {},
                TransportEvent::Down { reason, .. } => break reason,
                other => panic!("{other:?}"),
            }
        };
        assert!(reason.contains("no progress"), "{reason}");
        let transport = a.transport.clone();
        until("the connection is gone", || transport.peers().is_empty()).await;
    }
}
