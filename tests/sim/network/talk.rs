//! The talk of consensus over the simulated connections: what is told is slow, lost or doubled by the same conditions as
//! what is sent in sessions, waits behind the same partitions, and is lost with the same connections.
//!
//! Each class arrives in its own order, beside the others. Without faults nothing is lost but what finds no connection,
//! no talk at the other side, or a full queue. What is damaged does not arrive: the connection breaks over it.

use std::collections::BTreeSet;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{MESSAGE_BYTES_MAX, MessageClass, TransportEvent};

use super::Network;
use super::conditions::Afflicted;

impl Network {
    pub(super) fn talk_with(&mut self, node: usize, peers: BTreeSet<PeerId>) {
        let peer = self.stations[node].peer;
        let before = std::mem::replace(&mut self.stations[node].talking, peers);
        for id in self.of(node) {
            let side = self.connections[&id].side_of(node).expect("it is one of its connections");
            let other = self.connections[&id].ends[1 - side].node;
            let with = self.stations[other].peer;
            if before.contains(&with) && !self.stations[node].talking.contains(&with) {
                self.stations[node].inbox.push_back(TransportEvent::Untold { peer: with });
                self.arrive(id, 1 - side, TransportEvent::Untold { peer });
            }
        }
    }

    pub(super) fn tell(
        &mut self,
        node: usize,
        to: PeerId,
        class: MessageClass,
        message: Vec<u8>,
    ) -> Result<(), Vec<u8>> {
        let Some((id, side)) = self.talk(node, to).filter(|_| message.len() <= MESSAGE_BYTES_MAX) else {
            self.tally.count("told to nobody");
            return Err(message);
        };
        let other = self.connections[&id].ends[side].node;
        let mut conditions = self.particular.get(&(node, other)).unwrap_or(&self.conditions).clone();
        if class == MessageClass::Snapshot {
            conditions.corruption += conditions.damaged_snapshots;
        }
        if self.connections[&id].ends[side].told >= conditions.queue_max {
            self.tally.count("told to a full queue");
            return Err(message);
        }
        self.traffic.told += 1;
        self.traffic.told_bytes += message.len() as u64;
        let from = self.stations[node].peer;
        let Afflicted { arriving, is_damaged } =
            conditions.afflict(message, &mut self.random, &mut self.tally);
        if is_damaged {
            let is_piece = class == MessageClass::Snapshot;
            self.tally.count(if is_piece { "damaged pieces of snapshots" } else { "damaged talk" });
            self.break_over_damage(id);
            return Ok(());
        }
        for bytes in arriving {
            let delay = self.delay(id, side);
            let end = &mut self.connections.get_mut(&id).expect("it is talked over").ends[side];
            end.told += 1;
            let mut at = self.now_us + delay;
            if self.random.chance(conditions.reordering) {
                self.tally.count("reordered messages");
            } else {
                at = at.max(end.told_at_us[class.index()]);
                end.told_at_us[class.index()] = at;
            }
            self.schedule(at, (id, side, TransportEvent::Told { from, bytes }));
        }
        Ok(())
    }

    /// The connection over which a node talks with a peer, and the peer's side of it.
    fn talk(&self, node: usize, with: PeerId) -> Option<(u64, usize)> {
        let station = &self.stations[node];
        self.of(node).into_iter().find_map(|id| {
            let side = 1 - self.connections[&id].side_of(node)?;
            let end = &self.connections[&id].ends[side];
            let other = &self.stations[end.node];
            let is_wanted = station.talking.contains(&with) && other.talking.contains(&station.peer);
            (other.peer == with && end.is_open && is_wanted).then_some((id, side))
        })
    }

    /// What proves who speaks finds that a byte is another: nothing of the message arrives, and the connection is over.
    pub(super) fn break_over_damage(&mut self, id: u64) {
        self.tally.count("connections that a damaged message broke");
        self.hang_up(id, 0, "a message was damaged");
        self.hang_up(id, 1, "a message was damaged");
    }

    /// Whether a node refuses what arrives, because it does not talk with whom it is from.
    pub(super) fn refuses(&mut self, node: usize, event: &TransportEvent) -> bool {
        let talking = &self.stations[node].talking;
        match event {
            TransportEvent::Told { from, .. } if !talking.contains(from) => {
                self.tally.count("told to a node that does not talk any more");
                self.heard(node, *from);
                true
            }
            TransportEvent::Untold { peer } => !talking.contains(peer),
            _ => false,
        }
    }

    /// A connection ended at one of its nodes, and with it the talk.
    pub(super) fn untell(&mut self, node: usize, other: usize) {
        let peer = self.stations[other].peer;
        if self.stations[node].talking.contains(&peer) {
            self.stations[node].inbox.push_back(TransportEvent::Untold { peer });
        }
    }

    /// Something told was taken by its node, which makes room for more.
    pub(super) fn heard(&mut self, node: usize, from: PeerId) {
        for id in self.of(node) {
            let connection = self.connections.get_mut(&id).expect("it is one of its connections");
            let side = connection.side_of(node).expect("it is one of its connections");
            if self.stations[connection.ends[1 - side].node].peer == from {
                connection.ends[side].told = connection.ends[side].told.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use MessageClass::{Append, Snapshot};
    use tidelock_engine::ports::{Target, Transport};

    use super::*;
    use crate::network::{Conditions, Wire};
    use crate::random::Random;

    struct World {
        network: Rc<RefCell<Network>>,
        now_us: u64,
    }

    fn peer(node: usize) -> PeerId {
        PeerId::from_public_key([u8::try_from(node).expect("few"); 32])
    }

    impl World {
        /// Two nodes that are connected and talk, and a third that talks with nobody.
        fn new(seed: u64) -> Self {
            let mut network = Network::new(Random::new(seed));
            for node in 0..3 {
                network.add_station(peer(node), format!("node/{node}"));
                network.set_up(node, true);
            }
            let mut world = Self { network: Rc::new(RefCell::new(network)), now_us: 0 };
            for (node, other) in [(0, 1), (0, 2)] {
                let target = Target { peer: Some(peer(other)), addresses: vec![format!("node/{other}")] };
                world.wire(node).connect(target);
            }
            world.wire(0).talk_with(BTreeSet::from([peer(1), peer(2)]));
            world.wire(1).talk_with(BTreeSet::from([peer(0)]));
            world.pass();
            world
        }

        fn wire(&self, node: usize) -> Wire {
            Wire { node, network: Rc::clone(&self.network) }
        }

        /// Lets everything arrive; answers what each node was told by whom, and `None` for the end of a talk.
        fn pass(&mut self) -> [Vec<(PeerId, Option<Vec<u8>>)>; 3] {
            let mut network = self.network.borrow_mut();
            (0..3).for_each(|node| network.tend(node));
            while let Some(at) = network.next_at() {
                self.now_us = at;
                network.advance(at);
                network.deliver_next();
            }
            let mut hear = |node| {
                let events = network.take(node, usize::MAX).into_iter();
                let told = events.filter_map(|event| match event {
                    TransportEvent::Told { from, bytes } => Some((from, Some(bytes))),
                    TransportEvent::Untold { peer } => Some((peer, None)),
                    _ => None,
                });
                told.collect()
            };
            [hear(0), hear(1), hear(2)]
        }

        /// Tells the second node messages of all classes by turns.
        fn tell(&self, count: u8) {
            for number in 0..count {
                let class = MessageClass::ALL[usize::from(number) % 3];
                let _ = self.wire(0).tell(peer(1), class, vec![number]);
            }
        }

        fn count(&self, name: &str) -> u64 {
            self.network.borrow().tally.get(name)
        }
    }

    fn numbers(heard: &[(PeerId, Option<Vec<u8>>)]) -> Vec<u8> {
        heard.iter().filter_map(|(_, bytes)| Some(bytes.as_ref()?[0])).collect()
    }

    #[test]
    fn each_class_arrives_in_order_and_one_seed_is_one_history() {
        let history = |seed| {
            let mut world = World::new(seed);
            world.tell(99);
            numbers(&world.pass()[1])
        };
        let first = history(1);
        for class in 0..3 {
            let of = first.iter().copied().filter(|number| number % 3 == class);
            assert!(of.eq((class..99).step_by(3)), "{first:?}");
        }
        assert!(!first.is_sorted(), "classes overtake each other");
        assert_eq!(first, history(1));
        assert_ne!(first, history(2));
    }

    #[test]
    fn what_finds_no_talk_is_lost_and_counted() {
        let mut world = World::new(1);
        let too_long = vec![0; MESSAGE_BYTES_MAX + 1];
        for (from, to, message) in [(0, 2, vec![1]), (2, 0, vec![1]), (1, 2, vec![1]), (0, 1, too_long)] {
            assert_eq!(world.wire(from).tell(peer(to), Snapshot, message.clone()), Err(message));
        }
        assert_eq!(world.pass(), [vec![], vec![], vec![]]);
        assert_eq!(world.count("told to nobody"), 4);
        world.network.borrow_mut().set_conditions(Conditions { queue_max: 2, ..Conditions::GOOD });
        world.tell(5);
        assert_eq!((numbers(&world.pass()[1]).len(), world.count("told to a full queue")), (2, 3));
        world.tell(2);
        assert_eq!(numbers(&world.pass()[1]).len(), 2, "what was taken made room");
    }

    #[test]
    fn partition_holds_back_and_the_end_of_a_connection_loses() {
        let mut world = World::new(1);
        world.network.borrow_mut().block(0, 1);
        world.tell(3);
        assert!(numbers(&world.pass()[1]).is_empty());
        world.network.borrow_mut().unblock(0, 1);
        assert_eq!(numbers(&world.pass()[1]).len(), 3);
        world.tell(3);
        world.network.borrow_mut().drop_session(0, 1);
        let [at_0, at_1, _] = world.pass();
        assert_eq!((at_0, at_1), (vec![(peer(1), None)], vec![(peer(0), None)]));
    }

    #[test]
    fn talk_that_is_not_wanted_any_more_ends_at_both_sides() {
        let mut world = World::new(1);
        world.tell(3);
        world.wire(1).talk_with(BTreeSet::new());
        let [at_0, at_1, _] = world.pass();
        assert_eq!((at_0, at_1), (vec![(peer(1), None)], vec![(peer(0), None)]));
        world.network.borrow_mut().set_up(0, false);
        world.network.borrow_mut().set_up(0, true);
        world.wire(1).talk_with(BTreeSet::from([peer(0)]));
        assert_eq!(world.wire(1).tell(peer(0), Append, vec![1]), Err(vec![1]));
        assert_eq!(world.pass()[0], [], "whoever started again talks with nobody yet");
    }

    #[test]
    fn what_is_damaged_does_not_arrive_and_breaks_the_connection() {
        for bad in [
            Conditions { corruption: 1_000, ..Conditions::GOOD },
            Conditions { truncation: 1_000, ..Conditions::GOOD },
        ] {
            let mut world = World::new(1);
            world.network.borrow_mut().set_conditions(bad);
            assert_eq!(world.wire(0).tell(peer(1), Append, vec![1, 2, 3]), Ok(()));
            world.network.borrow_mut().set_conditions(Conditions::GOOD);
            let [at_0, at_1, _] = world.pass();
            assert_eq!((at_0, at_1), (vec![(peer(1), None)], vec![(peer(0), None)]));
            world.network.borrow_mut().advance(1_000_000);
            world.pass();
            world.tell(3);
            assert_eq!(numbers(&world.pass()[1]).len(), 3, "over the next connection");
        }
    }

    #[test]
    fn what_is_told_suffers_as_the_conditions_say() {
        let mut world = World::new(1);
        let bad = Conditions { loss: 300, duplication: 300, ..Conditions::GOOD };
        world.network.borrow_mut().set_conditions(bad);
        world.tell(100);
        let heard = numbers(&world.pass()[1]);
        let (lost, doubled) = (world.count("lost messages"), world.count("duplicated messages"));
        assert!(lost > 10 && doubled > 10, "{lost} {doubled}");
        assert_eq!(heard.len() as u64, 100 - lost + doubled);
    }
}
