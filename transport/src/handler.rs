//! One connection: it opens the lanes or accepts them, pumps them by priority, and ends them in good order.
//!
//! All lanes of a connection are pumped in the one task that also drives its multiplexer. Tasks of their own
//! would add wake-ups but no parallelism, and nobody would see all lanes at once. Only the side that dialled
//! opens streams, so two of the same lane never cross.
//!
//! Data goes through the [`Link`]; the swarm hears only of the few moments in [`Report`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use libp2p::Stream;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};

use crate::frame::CHUNK_BYTES;
use crate::lane::{Lane, Lanes};
use crate::lane_io::{Ends, LaneError, LaneIo};
use crate::link::{Link, Phase};
use crate::upgrade::{Accept, Open};

/// A stream that lived this long was fine: the next one is opened without delay.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// How long a graceful end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the negotiation of a stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the next attempt to open a talk waits at most: so long after the other side began to want it, it stands.
const TALK_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What the swarm must hear of.
#[derive(Debug)]
pub(crate) enum Report {
    /// The first lane opened: the peer admits us on this connection.
    LaneOpened,
    /// The connection is to be closed: no lane came up, or one stalled.
    Failed(String),
    /// A graceful end is done, or took too long.
    Finished,
}

/// What every connection is handled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandlerConfig {
    pub(crate) lanes: Lanes,
    pub(crate) up_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
}

pub(crate) struct Handler {
    config: HandlerConfig,
    link: Arc<Link>,
    slots: [Slot; 3],
    scratch: Box<[u8]>,
    reports: VecDeque<Report>,
    up_deadline: Option<Delay>,
    close_deadline: Option<Delay>,
    has_opened: bool,
    is_accepting: bool,
    is_finished: bool,
}

/// The place of one lane.
struct Slot {
    io: Option<LaneIo<Stream>>,
    is_opening: bool,
    retry: Option<Delay>,
    backoff: Duration,
}

impl Handler {
    pub(crate) fn new(config: HandlerConfig, link: Arc<Link>) -> Self {
        let slot = |_| Slot { io: None, is_opening: false, retry: None, backoff: config.backoff_min };
        Self {
            config,
            link,
            slots: Lane::ALL.map(slot),
            scratch: vec![0; CHUNK_BYTES].into(),
            reports: VecDeque::new(),
            up_deadline: Some(Delay::new(config.up_timeout)),
            close_deadline: None,
            has_opened: false,
            is_accepting: true,
            is_finished: false,
        }
    }

    fn install(&mut self, lane: Lane, stream: Stream) {
        if !self.is_wanted(lane) {
            tracing::debug!(peer = %self.link.info.peer, ?lane, "a stream that nobody wants");
            self.link.note_talk_ended(|figures| figures.streams_refused += 1);
            return;
        }
        // The dialler opens a lane again when it has seen the old stream die, perhaps before we have.
        self.lose(lane, "replaced by a newer stream");
        let Some(limits) = self.config.lanes.get(lane) else { return };
        let Some(session) = self.link.begin_lane(lane) else {
            self.back_off(lane);
            return;
        };
        tracing::debug!(peer = %self.link.info.peer, ?lane, session = session.0, "lane opened");
        self.slots[lane.index()].io = Some(LaneIo::new(stream, session, limits.wire_bytes_max()));
        self.slots[lane.index()].retry = None;
        self.up_deadline = None;
        if !std::mem::replace(&mut self.has_opened, true) {
            self.reports.push_back(Report::LaneOpened);
        }
    }

    /// Ends the session of a lane whose stream is gone. The stream is dropped, which resets it: any end of a
    /// stream is a reset here, because a QUIC peer may see a clean end in the middle of a frame.
    fn lose(&mut self, lane: Lane, reason: &str) {
        let slot = &mut self.slots[lane.index()];
        let Some(io) = slot.io.take() else { return };
        if io.age() >= STABLE_AFTER {
            slot.backoff = self.config.backoff_min;
        }
        self.back_off(lane);
        tracing::debug!(peer = %self.link.info.peer, ?lane, reason, "lane ended");
        self.link.end_lane(lane, reason);
    }

    fn back_off(&mut self, lane: Lane) {
        let slot = &mut self.slots[lane.index()];
        slot.retry = Some(Delay::new(slot.backoff));
        let backoff_max = match lane {
            Lane::Raft => self.config.backoff_max.min(TALK_BACKOFF_MAX),
            Lane::Sync | Lane::Bulk => self.config.backoff_max,
        };
        slot.backoff = (slot.backoff * 2).min(backoff_max);
    }

    fn is_wanted(&self, lane: Lane) -> bool {
        lane != Lane::Raft || self.link.talks()
    }

    /// Whether a lane is to be opened now.
    fn wants_open(&mut self, lane: Lane, cx: &mut Context<'_>) -> bool {
        let is_wanted = self.is_wanted(lane);
        let slot = &mut self.slots[lane.index()];
        if !self.link.info.is_dialer || slot.is_opening || slot.io.is_some() || !is_wanted {
            return false;
        }
        if slot.retry.as_mut().is_some_and(|retry| retry.poll_unpin(cx).is_pending()) {
            return false;
        }
        slot.retry = None;
        slot.is_opening = true;
        true
    }

    fn pump(&mut self, lane: Lane, cx: &mut Context<'_>) {
        let Some(io) = &mut self.slots[lane.index()].io else { return };
        // A talk can be ended at any moment by whoever decides with whom we talk, and be wanted again in the next.
        if lane == Lane::Raft && !self.link.has_session(lane, io.session()) {
            return self.lose(lane, "no longer wanted");
        }
        let stall_timeout = self.config.stall_timeout;
        let mut ends = Ends { link: &self.link, lane, stall_timeout, scratch: &mut self.scratch };
        match io.pump(&mut ends, cx) {
            Ok(()) => {}
            Err(error @ LaneError::Stalled(_)) => self.reports.push_back(Report::Failed(error.to_string())),
            Err(error) => {
                if matches!(error, LaneError::Misuse(_) | LaneError::Oversize(_)) && lane == Lane::Raft {
                    self.link.note_talk_ended(|figures| figures.streams_misused += 1);
                }
                self.lose(lane, &error.to_string());
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Writes what is queued on every lane, most urgent first, and reports the end once.
    fn poll_closing(&mut self, cx: &mut Context<'_>) {
        self.is_accepting = false;
        let deadline = self.close_deadline.get_or_insert_with(|| Delay::new(CLOSE_TIMEOUT));
        let is_late = deadline.poll_unpin(cx).is_ready();
        let mut is_done = true;
        for lane in Lane::ALL {
            let Some(io) = &mut self.slots[lane.index()].io else { continue };
            let stall_timeout = self.config.stall_timeout;
            let mut ends = Ends { link: &self.link, lane, stall_timeout, scratch: &mut self.scratch };
            match io.poll_finish(&mut ends, cx) {
                Poll::Ready(()) => self.slots[lane.index()].io = None,
                Poll::Pending => is_done = false,
            }
        }
        if is_done || is_late {
            self.is_finished = true;
            self.reports.push_back(Report::Finished);
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Option<Lane> {
        if self.up_deadline.as_mut().is_some_and(|deadline| deadline.poll_unpin(cx).is_ready()) {
            self.up_deadline = None;
            self.reports
                .push_back(Report::Failed(format!("no lane opened within {:?}", self.config.up_timeout)));
        }
        for lane in self.config.lanes.names().into_iter().flatten() {
            if self.wants_open(lane, cx) {
                return Some(lane);
            }
            self.pump(lane, cx);
        }
        None
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Report;
    type InboundProtocol = Accept;
    type OutboundProtocol = Open;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        let is_accepting = self.is_accepting && !self.link.info.is_dialer;
        let lanes = if is_accepting { self.config.lanes.names() } else { [None; 3] };
        SubstreamProtocol::new(Accept(lanes), ())
    }

    /// Open streams keep a connection alive by themselves; this covers the time between two streams. The up
    /// timeout ends a connection that never has one.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Open, Lane, Report>> {
        // Before looking at the queues, or a wake-up in between is lost.
        self.link.register(cx.waker());
        let wanted = match self.link.phase() {
            Phase::Open => self.poll_open(cx),
            Phase::Closing => {
                if !self.is_finished {
                    self.poll_closing(cx);
                }
                None
            }
            Phase::Over => {
                // The swarm ends the connection. Nothing is read or written any more.
                self.is_accepting = false;
                None
            }
        };
        if let Some(lane) = wanted {
            let protocol = SubstreamProtocol::new(Open(lane), lane).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match self.reports.pop_front() {
            Some(report) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report)),
            None => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Accept, Open, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            }) => {
                self.install(lane, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                ..
            }) => {
                self.slots[lane.index()].is_opening = false;
                self.install(lane, stream);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: lane, error }) => {
                tracing::debug!(peer = %self.link.info.peer, ?lane, %error, "lane refused");
                self.slots[lane.index()].is_opening = false;
                self.back_off(lane);
            }
            // The swarm does not report the failures of inbound negotiations, and the other events do not
            // matter.
            _ => {}
        }
    }
}
