//! The way that every frame takes to every node: over how many others, in what time, and how often it came again.
//!
//! Whoever sent the message in which a frame first came to a node is where its way to that node went on. Frames
//! are named by author and last seq, so this follows one keyspace. It only watches; nothing depends on it.

use std::collections::BTreeMap;

use tidelock_engine::frame::Frame;
use tidelock_engine::id::ReplicaId;
use tidelock_engine::message::{FrameBytes, Message};

/// A frame by its author and its last operation.
type Name = (ReplicaId, u64);

/// The hops of a frame to a node that does not have it.
const NOWHERE: u8 = u8::MAX;

/// The frames that nodes were sent by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// In pushes.
    pub pushed: u64,
    /// In answers to a pull.
    pub answered: u64,
    /// Those in pushes that the node had, or that waited there for others.
    pub pushed_again: u64,
    /// Those in answers.
    pub answered_again: u64,
}

/// A frame that a node applied and had not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The number of sessions that it went through.
    pub hops: u8,
    /// The time since it was made or, if that was later, since the node was started, in microseconds.
    pub latency_us: u64,
}

#[derive(Debug)]
struct Path {
    made_us: u64,
    /// By node.
    hops: Vec<u8>,
}

/// The ways of all frames.
#[derive(Debug, Default)]
pub struct Paths {
    frames: BTreeMap<Name, Path>,
    /// By node, the frames that came and are not applied yet, with who sent each first.
    pending: Vec<BTreeMap<Name, usize>>,
    /// What nodes were sent since this was last taken.
    pub received: Received,
    /// What nodes applied since this was last taken.
    pub deliveries: Vec<Delivery>,
    /// The bytes of each frame that was made since this was last taken.
    pub made: Vec<usize>,
    /// When a node last applied a frame that it had not made, in microseconds.
    pub last_us: u64,
}

impl Paths {
    /// A node is about to look at a message of another one.
    pub(crate) fn arrives(&mut self, node: usize, from: usize, bytes: &[u8]) {
        let (frames, is_push) = match Message::decode(bytes) {
            Ok(Message::Push { frames, .. }) => (frames, true),
            Ok(Message::Answer { frames, .. }) => (frames, false),
            _ => return,
        };
        if self.pending.len() <= node {
            self.pending.resize_with(node + 1, BTreeMap::new);
        }
        for FrameBytes(bytes) in frames {
            let Some(last) = Frame::peek(&bytes) else { continue };
            let name = (last.replica, last.seq);
            let has = self.frames.get(&name).is_some_and(|path| path.hops_to(node) != NOWHERE);
            let comes_again = has || self.pending[node].contains_key(&name);
            if !comes_again {
                self.pending[node].insert(name, from);
            }
            let (all, again) = if is_push {
                (&mut self.received.pushed, &mut self.received.pushed_again)
            } else {
                (&mut self.received.answered, &mut self.received.answered_again)
            };
            *all += 1;
            *again += u64::from(comes_again);
        }
    }

    /// A node, which was started at some time, has applied a frame, which is its own if nobody sent it. It may
    /// do so again after a restart.
    pub(crate) fn applied(&mut self, (node, started_us): (usize, u64), frame: &Frame, now_us: u64) {
        let name = (frame.header().author, frame.header().last());
        let from = self.pending.get_mut(node).and_then(|pending| pending.remove(&name));
        let path = self.frames.entry(name).or_insert_with(|| {
            self.made.push(frame.bytes().len());
            Path { made_us: now_us, hops: Vec::new() }
        });
        if path.hops_to(node) != NOWHERE {
            return;
        }
        let hops = from.map_or(0, |from| path.hops_to(from).saturating_add(1).min(NOWHERE - 1));
        if path.hops.len() <= node {
            path.hops.resize(node + 1, NOWHERE);
        }
        path.hops[node] = hops;
        if from.is_some() {
            let latency_us = now_us - path.made_us.max(started_us);
            self.deliveries.push(Delivery { hops, latency_us });
            self.last_us = now_us;
        }
    }

    /// What was not applied is forgotten: the node begins again.
    pub(crate) fn restarts(&mut self, node: usize) {
        if let Some(pending) = self.pending.get_mut(node) {
            pending.clear();
        }
    }
}

impl Path {
    fn hops_to(&self, node: usize) -> u8 {
        self.hops.get(node).copied().unwrap_or(NOWHERE)
    }
}

#[cfg(test)]
mod tests {
    use tidelock_engine::causality::{Hlc, VersionVector};
    use tidelock_engine::frame::{FrameBuilder, FrameStart, SigningKey};
    use tidelock_engine::id::{ClusterId, Epoch, FrameId};
    use tidelock_engine::op::Op;

    use super::*;

    fn frame() -> Frame {
        let key = SigningKey::from_seed([1; 32]);
        let start = FrameStart {
            keyspace: tidelock_engine::id::KeyspaceId::of(
                ClusterId::named("paths"),
                &"notes".parse().expect("it is valid"),
            ),
            epoch: Epoch(0),
            author: key.card([0; 16]).replica(),
            first: 1,
            previous: FrameId::NONE,
            hlc: Hlc::default(),
        };
        let mut builder = FrameBuilder::new(start, &VersionVector::default());
        builder.push(Op::Increment { key: b"k".to_vec(), birth: 0, sum: 1 });
        builder.seal(&key)
    }

    fn pushed(frame: &Frame) -> Vec<u8> {
        Message::Push { cards: Vec::new(), frames: vec![FrameBytes(frame.bytes().to_vec())] }.encode()
    }

    #[test]
    fn hops_are_those_of_the_first_sender_and_one_more() {
        let (frame, mut paths) = (frame(), Paths::default());
        paths.applied((0, 0), &frame, 1_000);
        for (node, from) in [(1, 0), (2, 1), (2, 0), (1, 2)] {
            paths.arrives(node, from, &pushed(&frame));
            paths.applied((node, 0), &frame, 1_000 + 10 * node as u64);
        }
        let of = |delivery: &Delivery| (delivery.hops, delivery.latency_us);
        assert_eq!(paths.deliveries.iter().map(of).collect::<Vec<_>>(), [(1, 10), (2, 20)]);
        assert_eq!(paths.received, Received { pushed: 4, pushed_again: 2, ..Received::default() });
        assert_eq!((paths.made, paths.last_us), (vec![frame.bytes().len()], 1_020));
    }

    #[test]
    fn frame_that_waits_for_others_keeps_who_sent_it_first() {
        let (frame, mut paths) = (frame(), Paths::default());
        paths.applied((0, 0), &frame, 0);
        paths.arrives(1, 0, &pushed(&frame));
        paths.applied((1, 0), &frame, 5);
        paths.arrives(2, 1, &pushed(&frame));
        paths.arrives(2, 0, &pushed(&frame));
        paths.applied((2, 7), &frame, 9);
        assert_eq!(paths.deliveries.last(), Some(&Delivery { hops: 2, latency_us: 2 }));
        assert_eq!(paths.received.pushed_again, 1);
    }
}
