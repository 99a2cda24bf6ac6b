//! A link: what the engine's thread and the task of one connection share, and all that they share.
//!
//! Messages do not pass through the swarm: its channels to and from a connection are unbounded, or stall
//! every other peer when one is slow. Instead each connection has a link with a bounded queue per lane and
//! direction. So `send` answers at once and exactly, and a slow engine pauses only the stream that it does
//! not take from.
//!
//! A *session* is one life of one stream. It begins when a stream is installed and ends exactly once, under
//! the lock, with a `Down` behind all that had arrived; from that moment its id is refused. So nothing that
//! was meant for one stream can reach the next one.
//!
//! The lane of consensus has a [`Talk`] in place of the queue to the peer, and is open only while it is wanted.
//!
//! The link does no I/O, never waits, and holds its lock for short moments only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use libp2p::swarm::ConnectionId;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{Address, MessageClass, SendError, SessionId};

use crate::frame::FrameEncoder;
use crate::inbox::Inbox;
use crate::lane::{FRAME_COST_BYTES, Lane, LaneConfig, Lanes};
use crate::status::{TalkFigures, Tally, Totals};
use crate::talk::{Misuse, Talk};

/// Session ids are unique in the process, as the port demands, even between several transports.
static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

/// Which connection a link belongs to; fixed for its life.
#[derive(Clone, Debug)]
pub(crate) struct LinkInfo {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) address: Address,
    pub(crate) is_dialer: bool,
    pub(crate) since: Instant,
}

/// How far a link's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Streams are opened and data moves.
    Open,
    /// All sessions are over, but what was queued is still written; then the connection ends.
    Closing,
    /// Nothing moves any more.
    Over,
}

/// What a lane has for the engine, in order.
#[derive(Debug)]
pub(crate) enum Incoming {
    Up(SessionId),
    Message(SessionId, Vec<u8>),
    Told(MessageClass, Vec<u8>),
    Drained(SessionId),
    Down(SessionId, String),
}

/// How much one take may carry off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Budget {
    pub(crate) fn is_spent(self) -> bool {
        self.events == 0 || self.bytes == 0
    }
}

pub(crate) struct Link {
    pub(crate) info: LinkInfo,
    lanes: Lanes,
    inbox: Weak<Inbox>,
    totals: Arc<Totals>,
    /// Whether we talk with the peer. Changed before the lane is ended, and looked at before one begins.
    talks: AtomicBool,
    /// The task of the connection, which does the I/O.
    task: AtomicWaker,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Why the link is closing; empty until it is.
    close_reason: String,
    /// Invariant: true exactly while the link is in the inbox, or is being taken from.
    is_announced: bool,
    lanes: [LaneQueues; 3],
    talk: Talk,
    tally: Tally,
}

#[derive(Default)]
struct LaneQueues {
    /// The session that can be sent on.
    session: Option<SessionId>,
    outgoing: VecDeque<Vec<u8>>,
    out_bytes: usize,
    /// A send was refused; a `Drained` is owed.
    is_refused: bool,
    /// The owed `Drained` is due. It needs no place in the queue: who was refused has seen `Up`.
    drained: Option<SessionId>,
    incoming: VecDeque<Incoming>,
    in_bytes: usize,
    /// The reader stopped at the bound, and waits to be woken.
    is_paused: bool,
}

impl LaneQueues {
    fn end(&mut self, reason: &str) {
        let Some(session) = self.session.take() else { return };
        self.is_refused = false;
        self.drained = None;
        self.in_bytes += FRAME_COST_BYTES;
        self.incoming.push_back(Incoming::Down(session, reason.to_owned()));
    }
}

impl State {
    /// Ends the session of a lane, if it has one, and drops what was queued for its stream.
    fn end_lane(&mut self, lane: Lane, reason: &str) {
        let queues = &mut self.lanes[lane.index()];
        queues.end(reason);
        queues.outgoing.clear();
        queues.out_bytes = 0;
        if lane == Lane::Raft {
            self.talk.end();
        }
    }

    fn has_news(&self) -> bool {
        self.lanes.iter().any(|queues| queues.drained.is_some() || !queues.incoming.is_empty())
    }
}

fn cost(incoming: &Incoming) -> usize {
    let bytes = match incoming {
        Incoming::Message(_, bytes) | Incoming::Told(_, bytes) => bytes.len(),
        Incoming::Up(_) | Incoming::Drained(_) | Incoming::Down(..) => 0,
    };
    FRAME_COST_BYTES + bytes
}

impl Link {
    pub(crate) fn new(info: LinkInfo, lanes: Lanes, inbox: &Arc<Inbox>) -> Arc<Self> {
        let limits = lanes.get(Lane::Raft).unwrap_or(LaneConfig::new(Lane::Raft));
        let state = State {
            phase: Phase::Open,
            close_reason: String::new(),
            is_announced: false,
            lanes: [LaneQueues::default(), LaneQueues::default(), LaneQueues::default()],
            talk: Talk::new(limits, Arc::clone(&inbox.totals)),
            tally: Tally::default(),
        };
        Arc::new(Self {
            info,
            lanes,
            inbox: Arc::downgrade(inbox),
            totals: Arc::clone(&inbox.totals),
            talks: AtomicBool::new(false),
            task: AtomicWaker::new(),
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and announces the link when there is news that the engine does not know of yet.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let is_new = state.has_news() && !state.is_announced;
        state.is_announced |= is_new;
        drop(state);
        if is_new && let Some(inbox) = self.inbox.upgrade() {
            inbox.announce(Arc::clone(self));
        }
        result
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(crate) fn close_reason(&self) -> String {
        self.lock().close_reason.clone()
    }

    /// Whether any lane can be sent on.
    pub(crate) fn is_up(&self) -> bool {
        self.lock().lanes.iter().any(|queues| queues.session.is_some())
    }

    pub(crate) fn tally(&self) -> Tally {
        let state = self.lock();
        Tally {
            queued_bytes_out: state.talk.queued_bytes()
                + state.lanes.iter().map(|queues| queues.out_bytes).sum::<usize>(),
            queued_bytes_in: state.lanes.iter().map(|queues| queues.in_bytes).sum(),
            ..state.tally.clone()
        }
    }

    pub(crate) fn note_rtt(&self, rtt: Duration) {
        self.lock().tally.rtt = Some(rtt);
    }

    pub(crate) fn note_identity(&self, agent: String, listen_addresses: Vec<Address>) {
        let tally = &mut self.lock().tally;
        tally.agent = Some(agent);
        tally.listen_addresses = listen_addresses;
    }
}

/// What the engine's thread does.
impl Link {
    pub(crate) fn send(&self, lane: Lane, session: SessionId, frame: Vec<u8>) -> Result<(), SendError> {
        let limits = self.lanes.get(lane).ok_or(SendError::NotUp)?;
        let mut state = self.lock();
        let queues = &mut state.lanes[lane.index()];
        if queues.session != Some(session) {
            return Err(SendError::NotUp);
        }
        if frame.len() > limits.frame_bytes_max {
            return Err(SendError::TooLarge);
        }
        let cost = frame.len() + FRAME_COST_BYTES;
        if queues.out_bytes + cost > limits.out_bytes_max {
            queues.is_refused = true;
            state.tally.sends_refused_full += 1;
            return Err(SendError::Full);
        }
        queues.out_bytes += cost;
        queues.outgoing.push_back(frame);
        let is_first = queues.outgoing.len() == 1;
        drop(state);
        if is_first {
            // The task finds later frames by itself while it writes this one: one wake-up per burst.
            self.task.wake();
        }
        Ok(())
    }

    /// Queues a message of the talk, or gives it back.
    pub(crate) fn tell(
        &self,
        session: SessionId,
        class: MessageClass,
        message: Vec<u8>,
    ) -> Result<(), Vec<u8>> {
        let mut state = self.lock();
        if state.lanes[Lane::Raft.index()].session != Some(session) {
            return Err(message);
        }
        let could_pack = state.talk.can_pack();
        let told = state.talk.tell(class, message);
        let is_new = !could_pack && state.talk.can_pack();
        drop(state);
        if is_new {
            self.task.wake();
        }
        told
    }

    /// Whether we talk with the peer from now on. If not, the talk is over when this returns.
    pub(crate) fn set_talks(self: &Arc<Self>, talks: bool) {
        if self.talks.swap(talks, Ordering::AcqRel) == talks {
            return;
        }
        if !talks {
            self.end_lane(Lane::Raft, "we do not talk with the peer any more");
        }
        self.task.wake();
    }

    pub(crate) fn has_session(&self, lane: Lane, session: SessionId) -> bool {
        self.lock().lanes[lane.index()].session == Some(session)
    }

    pub(crate) fn talks(&self) -> bool {
        self.talks.load(Ordering::Acquire)
    }

    /// The session whose `Up` is the next thing in a lane.
    pub(crate) fn rising(&self, lane: Lane) -> Option<SessionId> {
        match self.lock().lanes[lane.index()].incoming.front() {
            Some(Incoming::Up(session)) => Some(*session),
            _ => None,
        }
    }

    /// Takes events of one lane within the budget, and wakes the reader when that made room. Stops before an
    /// `Up` that is not the first, so that its taker can look at it first; see [`Link::rising`].
    pub(crate) fn take(&self, lane: Lane, budget: &mut Budget, taken: &mut Vec<Incoming>) {
        let in_bytes_max = self.lanes.get(lane).map_or(0, |limits| limits.in_bytes_max);
        let mut state = self.lock();
        let State { lanes, talk, .. } = &mut *state;
        let queues = &mut lanes[lane.index()];
        if budget.is_spent() {
            return;
        }
        if let Some(session) = queues.drained.take() {
            taken.push(Incoming::Drained(session));
            budget.events -= 1;
        }
        let mut is_first = true;
        while !budget.is_spent() {
            let is_up = matches!(queues.incoming.front(), Some(Incoming::Up(_)));
            if is_up && !is_first {
                break;
            }
            let Some(incoming) = queues.incoming.pop_front() else { break };
            is_first = false;
            let cost = cost(&incoming);
            queues.in_bytes -= cost;
            budget.events -= 1;
            budget.bytes = budget.bytes.saturating_sub(cost);
            if let Incoming::Told(class, message) = &incoming {
                talk.taken(*class, message.len());
            }
            taken.push(incoming);
        }
        let has_room = queues.is_paused && queues.in_bytes <= in_bytes_max / 2;
        if has_room {
            queues.is_paused = false;
        }
        // What was taken of the talk is given back as credit.
        let owes = lane == Lane::Raft && !taken.is_empty() && talk.can_pack();
        drop(state);
        if has_room || owes {
            self.task.wake();
        }
    }

    /// Ends a turn of taking; true when there is more, and the link must go back into the inbox.
    pub(crate) fn end_turn(&self) -> bool {
        let mut state = self.lock();
        state.is_announced = state.has_news();
        state.is_announced
    }

    /// Ends all sessions; what is queued for the peer is still written, then the connection ends.
    pub(crate) fn close(self: &Arc<Self>, reason: &str) {
        self.change(|state| {
            if state.phase == Phase::Open {
                state.phase = Phase::Closing;
                reason.clone_into(&mut state.close_reason);
                state.lanes.iter_mut().for_each(|queues| queues.end(reason));
            }
        });
        self.task.wake();
    }
}

/// What the connection's task and the swarm do.
impl Link {
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.task.register(waker);
    }

    /// Begins a session on a new stream; `None` when the link is ending, or when the engine is so far behind
    /// that this lane's queue is full, which also bounds what resets without data can pile up.
    pub(crate) fn begin_lane(self: &Arc<Self>, lane: Lane) -> Option<SessionId> {
        let in_bytes_max = self.lanes.get(lane)?.in_bytes_max;
        self.change(|state| {
            let queues = &mut state.lanes[lane.index()];
            // An empty queue takes it whatever the bound: a tiny bound must not keep a lane down.
            let has_room = queues.in_bytes < in_bytes_max || queues.incoming.is_empty();
            let is_wanted = lane != Lane::Raft || self.talks();
            if state.phase != Phase::Open || queues.session.is_some() || !has_room || !is_wanted {
                return None;
            }
            let session = SessionId(NEXT_SESSION.fetch_add(1, Ordering::Relaxed));
            queues.session = Some(session);
            queues.in_bytes += FRAME_COST_BYTES;
            queues.incoming.push_back(Incoming::Up(session));
            if lane == Lane::Raft {
                state.talk.begin();
            }
            Some(session)
        })
    }

    /// Ends the session of one lane, if it has one, and drops what was queued for its stream.
    pub(crate) fn end_lane(self: &Arc<Self>, lane: Lane, reason: &str) {
        self.change(|state| state.end_lane(lane, reason));
    }

    /// Counts a stream of a talk that was refused or ended for what the peer did.
    pub(crate) fn note_talk_ended(&self, change: impl FnOnce(&mut TalkFigures)) {
        self.totals.change(change);
    }

    /// Ends everything at once. What had arrived can still be taken.
    pub(crate) fn end(self: &Arc<Self>, reason: &str) {
        self.change(|state| {
            state.phase = Phase::Over;
            Lane::ALL.into_iter().for_each(|lane| state.end_lane(lane, reason));
        });
        self.task.wake();
    }

    /// Moves queued frames into the encoder until it is full.
    pub(crate) fn pack(self: &Arc<Self>, lane: Lane, encoder: &mut FrameEncoder) {
        let out_bytes_max = self.lanes.get(lane).map_or(0, |limits| limits.out_bytes_max);
        self.change(|state| {
            let State { lanes, talk, tally, .. } = state;
            if lane == Lane::Raft {
                tally.frames_sent += talk.pack(encoder);
                return;
            }
            let queues = &mut lanes[lane.index()];
            while !encoder.is_full() {
                let Some(frame) = queues.outgoing.pop_front() else { break };
                queues.out_bytes -= frame.len() + FRAME_COST_BYTES;
                tally.frames_sent += 1;
                encoder.push(frame);
            }
            if queues.is_refused && queues.out_bytes <= out_bytes_max / 2 {
                queues.is_refused = false;
                queues.drained = queues.session;
            }
        });
    }

    /// Whether the reader of a lane must pause; it is woken when the engine has taken half of the queue. That of the
    /// talk never pauses, its credit bounds what comes.
    pub(crate) fn pauses(&self, lane: Lane) -> bool {
        if lane == Lane::Raft {
            return false;
        }
        let in_bytes_max = self.lanes.get(lane).map_or(0, |limits| limits.in_bytes_max);
        let queues = &mut self.lock().lanes[lane.index()];
        queues.is_paused = queues.in_bytes >= in_bytes_max;
        queues.is_paused
    }

    /// Queues received frames for the engine. They are dropped when the session has ended meanwhile, and behind an error,
    /// which ends the stream.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        lane: Lane,
        session: SessionId,
        frames: &mut Vec<Vec<u8>>,
    ) -> Result<(), Misuse> {
        let (result, can_pack) = self.change(|state| {
            let State { lanes, talk, tally, .. } = state;
            let queues = &mut lanes[lane.index()];
            if queues.session != Some(session) {
                frames.clear();
                return (Ok(()), false);
            }
            tally.frames_received += frames.len() as u64;
            let could_pack = talk.can_pack();
            let result = frames.drain(..).try_for_each(|frame| {
                let incoming = if lane == Lane::Raft {
                    let Some((class, message)) = talk.hear(&frame)? else { return Ok(()) };
                    Incoming::Told(class, message)
                } else {
                    Incoming::Message(session, frame)
                };
                queues.in_bytes += cost(&incoming);
                queues.incoming.push_back(incoming);
                Ok(())
            });
            (result, !could_pack && talk.can_pack())
        });
        if can_pack {
            self.task.wake();
        }
        result
    }

    pub(crate) fn note_written(&self, bytes: usize) {
        self.lock().tally.bytes_sent += bytes as u64;
    }

    pub(crate) fn note_read(&self, bytes: usize) {
        self.lock().tally.bytes_received += bytes as u64;
    }
}
