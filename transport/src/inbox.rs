//! The inbox: where links with news wait for the engine's thread, which takes from them in turns.
//!
//! A link announces itself when it has the first thing to tell; the engine is woken when the inbox was empty.
//! Then [`Inbox::take`] takes bounded batches from the links in turn, the most urgent lane of each first, and
//! what it takes makes room for the peers to send on. The inbox copies nothing and holds no data of its own.
//!
//! It keeps one promise across connections: per peer and lane, the `Down` of a session comes before the `Up`
//! of the next one, even when the next one runs over another connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{MessageClass, SendError, SessionId, TransportEvent};

use crate::lane::Lane;
use crate::link::{Budget, Incoming, Link};
use crate::status::Totals;

/// What one link may give per turn, so that a busy peer does not keep the others waiting.
const TURN: Budget = Budget { events: 64, bytes: 256 << 10 };

/// How many bytes one call may carry off, so that a batch fits in memory whatever its number of events.
const TAKE_BYTES_MAX: usize = 32 << 20;

/// Called when there is something to take. It must not block, and must not call back into the transport.
pub(crate) type Bell = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Inbox {
    /// What all talks did since the start.
    pub(crate) totals: Arc<Totals>,
    wake: Bell,
    ready: Mutex<Ready>,
    /// Every session that the engine knows of, and where it runs.
    sessions: RwLock<BTreeMap<SessionId, (Arc<Link>, Lane)>>,
    /// The session that the engine knows of per peer and lane. Locked for a whole take: takers take turns.
    current: Mutex<BTreeMap<(PeerId, Lane), SessionId>>,
}

#[derive(Default)]
struct Ready {
    links: VecDeque<Arc<Link>>,
    /// The engine was woken and has not come yet.
    is_signalled: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    pub(crate) fn new(wake: Bell) -> Arc<Self> {
        Arc::new(Self {
            totals: Arc::default(),
            wake,
            ready: Mutex::default(),
            sessions: RwLock::default(),
            current: Mutex::default(),
        })
    }

    /// A link has news. Called once until the link's turn has ended.
    pub(crate) fn announce(&self, link: Arc<Link>) {
        lock(&self.ready).links.push_back(link);
        self.signal();
    }

    /// How many links have news that the engine has not taken.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.ready).links.len()
    }

    /// Where a session runs that the engine knows of.
    pub(crate) fn find(&self, session: SessionId) -> Option<(Arc<Link>, Lane)> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    pub(crate) fn send(&self, session: SessionId, frame: Vec<u8>) -> Result<(), SendError> {
        let (link, lane) = self.find(session).ok_or(SendError::NotUp)?;
        link.send(lane, session, frame)
    }

    /// Tells a peer something in the talk that the engine knows of, or gives it back.
    pub(crate) fn tell(&self, to: PeerId, class: MessageClass, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let session = lock(&self.current).get(&(to, Lane::Raft)).copied();
        let found = session.and_then(|session| self.find(session).map(|(link, _)| (session, link)));
        let told = match found {
            Some((session, link)) => link.tell(session, class, message),
            None => Err(message),
        };
        told.inspect_err(|_| self.totals.lose(class, 1))
    }

    /// Takes about `events_max` events; a few more when a session has to end before its successor begins.
    ///
    /// When something is left, the engine is woken again.
    pub(crate) fn take(&self, events_max: usize) -> Vec<(Lane, TransportEvent)> {
        let mut current = lock(&self.current);
        lock(&self.ready).is_signalled = false;
        let mut batch = Batch { inbox: self, current: &mut current, events: Vec::new(), bytes: 0 };
        while batch.events.len() < events_max && batch.bytes < TAKE_BYTES_MAX {
            let Some(link) = lock(&self.ready).links.pop_front() else { break };
            let events = TURN.events.min(events_max - batch.events.len());
            batch.take_turn(&link, Budget { events, ..TURN });
            if link.end_turn() {
                lock(&self.ready).links.push_back(link);
            }
        }
        let events = batch.events;
        drop(current);
        self.signal();
        events
    }

    fn signal(&self) {
        let mut ready = lock(&self.ready);
        if ready.links.is_empty() || std::mem::replace(&mut ready.is_signalled, true) {
            return;
        }
        drop(ready);
        (self.wake)();
    }
}

/// One take in the making.
struct Batch<'a> {
    inbox: &'a Inbox,
    current: &'a mut BTreeMap<(PeerId, Lane), SessionId>,
    events: Vec<(Lane, TransportEvent)>,
    bytes: usize,
}

impl Batch<'_> {
    fn take_turn(&mut self, link: &Arc<Link>, mut budget: Budget) {
        let mut taken = Vec::new();
        for lane in Lane::ALL {
            while !budget.is_spent() {
                self.end_predecessor(link, lane);
                link.take(lane, &mut budget, &mut taken);
                if taken.is_empty() {
                    break;
                }
                self.publish(link, lane, &mut taken);
            }
        }
    }

    /// If the next thing in the lane is an `Up` while the peer's session on another connection is still
    /// known, that one ends first. By the arbiter's rule a newer stream means that the older connection was
    /// given up at the other end, whether we have noticed or not; what had arrived on it is delivered.
    fn end_predecessor(&mut self, link: &Arc<Link>, lane: Lane) {
        if link.rising(lane).is_none() {
            return;
        }
        let Some(old) = self.current.get(&(link.info.peer, lane)) else { return };
        let Some((old_link, _)) = self.inbox.find(*old) else { return };
        old_link.end_lane(lane, "replaced by a newer connection");
        let mut taken = Vec::new();
        loop {
            old_link.take(lane, &mut Budget { events: usize::MAX, bytes: usize::MAX }, &mut taken);
            if taken.is_empty() {
                return;
            }
            self.publish(&old_link, lane, &mut taken);
        }
    }

    fn publish(&mut self, link: &Arc<Link>, lane: Lane, taken: &mut Vec<Incoming>) {
        let (peer, inbox) = (link.info.peer, self.inbox);
        let sessions = || inbox.sessions.write().unwrap_or_else(PoisonError::into_inner);
        for incoming in taken.drain(..) {
            let event = match incoming {
                Incoming::Up(session) => {
                    sessions().insert(session, (Arc::clone(link), lane));
                    self.current.insert((peer, lane), session);
                    if lane == Lane::Raft {
                        continue; // whoever talks says what it has to say, and asks for nothing
                    }
                    let (address, is_dialer) = (link.info.address.clone(), link.info.is_dialer);
                    TransportEvent::Up { peer, session, address, is_dialer }
                }
                Incoming::Message(session, bytes) => {
                    self.bytes += bytes.len();
                    TransportEvent::Message { session, bytes }
                }
                Incoming::Told(_, bytes) => {
                    self.bytes += bytes.len();
                    TransportEvent::Told { from: peer, bytes }
                }
                Incoming::Drained(session) => TransportEvent::Drained { session },
                Incoming::Down(session, reason) => {
                    sessions().remove(&session);
                    self.current.remove(&(peer, lane));
                    match lane {
                        Lane::Raft => TransportEvent::Untold { peer },
                        Lane::Sync | Lane::Bulk => TransportEvent::Down { session, reason },
                    }
                }
            };
            self.events.push((lane, event));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Instant;

    use libp2p::swarm::ConnectionId;

    use super::*;
    use crate::frame::FrameEncoder;
    use crate::lane::{FRAME_COST_BYTES, LaneConfig, Lanes};
    use crate::link::LinkInfo;

    /// Stands for the task of a connection.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct World {
        inbox: Arc<Inbox>,
        woken: Arc<AtomicUsize>,
        connections: usize,
    }

    impl World {
        fn new() -> Self {
            let woken = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&woken);
            let wake = Arc::new(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            Self { inbox: Inbox::new(wake), woken, connections: 0 }
        }

        fn link(&mut self, peer: u8) -> Arc<Link> {
            self.connections += 1;
            let info = LinkInfo {
                connection: ConnectionId::new_unchecked(self.connections),
                peer: PeerId::from_public_key([peer; 32]),
                address: "/memory/1".to_owned(),
                is_dialer: true,
                since: Instant::now(),
            };
            let config =
                LaneConfig { lane: Lane::Sync, frame_bytes_max: 100, out_bytes_max: 400, in_bytes_max: 1000 };
            let lanes = [config, LaneConfig { lane: Lane::Raft, ..config }];
            let link = Link::new(info, Lanes::new(&lanes), &self.inbox);
            link.set_talks(true);
            link
        }

        fn take(&self) -> Vec<TransportEvent> {
            self.inbox.take(100).into_iter().map(|(_, event)| event).collect()
        }
    }

    fn deliver(link: &Arc<Link>, session: SessionId, mut frames: Vec<Vec<u8>>) {
        link.deliver(Lane::Sync, session, &mut frames).expect("a lane of sessions takes every frame");
    }

    fn session_of(event: &TransportEvent) -> SessionId {
        match event {
            TransportEvent::Up { session, .. }
            | TransportEvent::Message { session, .. }
            | TransportEvent::Drained { session }
            | TransportEvent::Down { session, .. } => *session,
            TransportEvent::Told { .. } | TransportEvent::Untold { .. } => panic!("of no session"),
        }
    }

    #[test]
    fn engine_is_woken_once_until_it_comes() {
        let mut world = World::new();
        let (a, b) = (world.link(1), world.link(2));
        let session = a.begin_lane(Lane::Sync).expect("an open link");
        b.begin_lane(Lane::Sync).expect("an open link");
        deliver(&a, session, vec![vec![1], vec![2]]);
        assert_eq!(world.woken.load(Ordering::Relaxed), 1);
        assert_eq!(world.inbox.take(1).len(), 1);
        assert_eq!(world.woken.load(Ordering::Relaxed), 2, "something was left");
        assert_eq!(world.take().len(), 3);
        assert_eq!(world.woken.load(Ordering::Relaxed), 2);
        assert_eq!(world.inbox.waiting(), 0);
    }

    #[test]
    fn session_ends_behind_what_had_arrived_and_its_id_is_refused_at_once() {
        let mut world = World::new();
        let link = world.link(1);
        let old = link.begin_lane(Lane::Sync).expect("an open link");
        assert_eq!(world.take().len(), 1);
        deliver(&link, old, vec![vec![1]]);
        assert_eq!(world.inbox.send(old, vec![0; 100]), Ok(()));
        link.end_lane(Lane::Sync, "reset");
        let new = link.begin_lane(Lane::Sync).expect("an open link");
        assert_eq!(world.inbox.send(old, vec![0]), Err(SendError::NotUp));
        deliver(&link, old, vec![vec![2]]);
        let events = world.take();
        assert!(matches!(
            &events[..],
            [TransportEvent::Message { bytes, .. }, TransportEvent::Down { .. }, TransportEvent::Up { .. }]
                if *bytes == [1]
        ));
        assert_eq!(events.iter().map(session_of).collect::<Vec<_>>(), [old, old, new]);
        let mut encoder = FrameEncoder::default();
        link.pack(Lane::Sync, &mut encoder);
        assert!(encoder.unwritten().is_empty(), "what was queued for the old stream was dropped");
    }

    #[test]
    fn session_on_a_newer_connection_comes_after_the_end_of_the_older_one() {
        let mut world = World::new();
        let (old_link, new_link) = (world.link(1), world.link(1));
        let old = old_link.begin_lane(Lane::Sync).expect("an open link");
        world.take();
        let new = new_link.begin_lane(Lane::Sync).expect("an open link");
        deliver(&new_link, new, vec![vec![2]]);
        deliver(&old_link, old, vec![vec![1]]);
        let events = world.take();
        assert_eq!(events.iter().map(session_of).collect::<Vec<_>>(), [old, old, new, new]);
        assert!(matches!(&events[1], TransportEvent::Down { reason, .. } if reason.contains("newer")));
        assert_eq!(world.inbox.waiting(), 0);
    }

    #[test]
    fn full_queue_owes_drained_at_half() {
        let mut world = World::new();
        let link = world.link(1);
        let session = link.begin_lane(Lane::Sync).expect("an open link");
        world.take();
        let fitting = 400 / (36 + FRAME_COST_BYTES);
        for _ in 0..fitting {
            assert_eq!(world.inbox.send(session, vec![0; 36]), Ok(()));
        }
        assert_eq!(world.inbox.send(session, vec![0; 36]), Err(SendError::Full));
        assert_eq!(world.inbox.send(session, vec![0; 101]), Err(SendError::TooLarge));
        assert!(world.take().is_empty());
        link.pack(Lane::Sync, &mut FrameEncoder::default());
        assert_eq!(world.take(), [TransportEvent::Drained { session }]);
        assert_eq!(link.tally().sends_refused_full, 1);
        assert_eq!(link.tally().frames_sent, fitting as u64);
    }

    #[test]
    fn reset_takes_back_an_owed_drained_and_frees_what_was_queued() {
        let mut world = World::new();
        let link = world.link(1);
        let session = link.begin_lane(Lane::Sync).expect("an open link");
        world.take();
        while world.inbox.send(session, vec![0; 36]).is_ok() {}
        link.pack(Lane::Sync, &mut FrameEncoder::default());
        link.end_lane(Lane::Sync, "reset");
        assert!(
            matches!(&world.take()[..], [TransportEvent::Down { .. }]),
            "no Drained of a session that is over"
        );
        let session = link.begin_lane(Lane::Sync).expect("an open link");
        world.take();
        assert_eq!(world.inbox.send(session, vec![0; 36]), Ok(()));
        link.end("over");
        assert_eq!(link.tally().queued_bytes_out, 0);
    }

    #[test]
    fn paused_reader_is_woken_when_half_was_taken_and_the_writer_by_the_first_frame() {
        let mut world = World::new();
        let link = world.link(1);
        let woken = Arc::new(Woken::default());
        link.register(&Arc::clone(&woken).into());
        let session = link.begin_lane(Lane::Sync).expect("an open link");
        deliver(&link, session, vec![vec![0; 100]; 6]);
        assert!(link.pauses(Lane::Sync));
        for (events, wakes) in [(3, 0), (1, 1), (9, 0)] {
            world.inbox.take(events);
            assert_eq!(woken.0.swap(0, Ordering::Relaxed), wakes, "after {events} more");
            link.register(&Arc::clone(&woken).into());
        }
        assert_eq!(world.inbox.send(session, vec![1]), Ok(()));
        assert_eq!(world.inbox.send(session, vec![2]), Ok(()));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "one wake-up per burst");
    }

    #[test]
    fn urgent_lane_of_a_link_is_taken_first_and_links_take_turns() {
        let mut world = World::new();
        let (a, b) = (world.link(1), world.link(2));
        let mut sync = Vec::new();
        for link in [&a, &b] {
            let session = link.begin_lane(Lane::Sync).expect("an open link");
            deliver(link, session, vec![vec![0]; 200]);
            sync.push(session);
        }
        let raft = a.begin_lane(Lane::Raft).expect("an open link");
        a.pack(Lane::Raft, &mut FrameEncoder::default());
        a.deliver(Lane::Raft, raft, &mut vec![vec![0x80, 7]]).expect("there is credit");
        let events: Vec<_> = world.inbox.take(usize::MAX).into_iter().map(|(_, event)| event).collect();
        assert_eq!(events[0], TransportEvent::Told { from: a.info.peer, bytes: vec![7] });
        assert_eq!(events.len(), 2 * 201 + 1);
        let first_of_b = events.iter().skip(1).position(|event| session_of(event) == sync[1]);
        // The `Up` of the talk is nothing that the engine is told, but it is a part of the turn.
        let turn = TURN.events - 2;
        assert_eq!(first_of_b, Some(turn), "the second peer's turn comes after one turn of the first");
    }

    #[test]
    fn what_is_told_without_a_talk_comes_back_and_the_end_of_a_talk_is_told() {
        let mut world = World::new();
        let link = world.link(1);
        let (peer, class) = (link.info.peer, MessageClass::Append);
        let told = || world.inbox.tell(peer, class, vec![1; 50]);
        let lost = || world.inbox.totals.figures().append.messages_lost;
        assert_eq!(told(), Err(vec![1; 50]), "there is no stream");
        assert_eq!(lost(), 1);
        link.begin_lane(Lane::Raft).expect("an open link");
        assert!(world.take().is_empty(), "a talk begins in silence");
        assert!((0..3).all(|_| told().is_ok()));
        assert_eq!(told(), Err(vec![1; 50]), "there is no room");
        assert_eq!((lost(), link.tally().queued_bytes_out), (2, 3 * (50 + FRAME_COST_BYTES)));
        link.set_talks(false);
        assert_eq!((lost(), link.tally().queued_bytes_out), (5, 0));
        assert_eq!(world.take(), [TransportEvent::Untold { peer }]);
        assert_eq!(link.begin_lane(Lane::Raft), None, "it is not wanted");
        link.set_talks(true);
        assert!(link.begin_lane(Lane::Raft).is_some());
    }

    #[test]
    fn paused_lane_refuses_new_sessions_until_the_engine_takes() {
        let mut world = World::new();
        let link = world.link(1);
        let session = link.begin_lane(Lane::Sync).expect("an open link");
        assert!(!link.pauses(Lane::Sync));
        deliver(&link, session, vec![vec![0; 100]; 6]);
        assert!(link.pauses(Lane::Sync));
        link.end_lane(Lane::Sync, "reset");
        assert_eq!(link.begin_lane(Lane::Sync), None);
        assert_eq!(world.take().len(), 8);
        assert!(!link.pauses(Lane::Sync));
        assert!(link.begin_lane(Lane::Sync).is_some());
        link.end("over");
        assert_eq!(link.begin_lane(Lane::Raft), None);
    }
}
