//! gossipsub's handler on one connection, from the moment the connection is up.
//!
//! gossipsub gives a handler to every connection as soon as it stands, and answers its peer once. Here a
//! connection may still turn out to be a twin that is denied, or the leftover of a peer that has restarted: then
//! that answer is lost and the two are deaf to each other for as long as they are connected. So gossipsub hears of a
//! connection when a lane has opened on it. A stream that the peer opens before that waits.
//!
//! gossipsub also gives up on a connection for good after five streams, and reads as fast as a peer writes. So its
//! handler is replaced before it wears out, and is given time at a bounded pace: what a peer sends faster waits in
//! the stream's own window, and the lanes beside it do not.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures_timer::Delay;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol, gossipsub};

use super::pace::Pace;

/// What gossip's stream is called on the wire.
pub(super) const PROTOCOL: &str = "/tidelock/gossip/1";

/// What one connection may bring, in reads of gossipsub a second. Each is one envelope or some gossip about them.
const READS_PER_SECOND: u32 = 2_000;

/// What may be read at once, as time at that pace.
const BURST: Duration = Duration::from_millis(500);

/// The streams in one direction after which a handler is replaced; gossipsub's gives up at the fifth.
const STREAMS_MAX: u32 = 4;

/// gossipsub's own handler, by the only name that it has.
pub(super) type Inner = <gossipsub::Behaviour as libp2p::swarm::NetworkBehaviour>::ConnectionHandler;

type InnerIn = <Inner as ConnectionHandler>::FromBehaviour;
type InnerOut = <Inner as ConnectionHandler>::ToBehaviour;
type Outbound = <Inner as ConnectionHandler>::OutboundProtocol;

/// What the behaviour tells a connection.
#[derive(Debug)]
pub(crate) enum Tell {
    /// Gossip with this handler from now on.
    Begin(Box<Begin>),
    /// Gossip no more.
    End,
    /// What gossipsub tells its handler.
    Inner(InnerIn),
}

/// gossipsub's handler on its way to its connection.
pub(crate) struct Begin(pub(super) Inner);

impl std::fmt::Debug for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Begin")
    }
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum Said {
    /// What gossipsub's handler says.
    Inner(Box<InnerOut>),
    /// The stream to the peer had to be opened again: what was on its way is lost.
    Reopened,
    /// The handler is to be replaced.
    Worn,
}

pub(crate) struct Handler {
    inner: Option<Inner>,
    /// A stream of the peer that is not given to gossipsub yet.
    early: Option<Stream>,
    streams_in: u32,
    streams_out: u32,
    is_worn: bool,
    reports: VecDeque<Said>,
    pace: Pace,
    pause: Option<Delay>,
}

impl Handler {
    pub(super) fn new() -> Self {
        Self {
            inner: None,
            early: None,
            streams_in: 0,
            streams_out: 0,
            is_worn: false,
            reports: VecDeque::new(),
            pace: Pace::new(READS_PER_SECOND, BURST, Instant::now()),
            pause: None,
        }
    }

    fn begin(&mut self, inner: Inner) {
        self.inner = Some(inner);
        (self.streams_in, self.streams_out, self.is_worn) = (0, 0, false);
        if let Some(stream) = self.early.take() {
            self.give(stream);
        }
    }

    /// Gives a stream of the peer to gossipsub, as if it had negotiated it itself.
    fn give(&mut self, stream: Stream) {
        let Some(inner) = &mut self.inner else {
            self.early = Some(stream);
            return;
        };
        if self.streams_in >= STREAMS_MAX {
            // It is being replaced; of the streams that come meanwhile the last counts.
            self.early = Some(stream);
            return;
        }
        self.streams_in += 1;
        let upgrade = inner.listen_protocol().into_upgrade().0;
        let Some(info) = upgrade.protocol_info().into_iter().next() else { return };
        let Some(Ok(protocol)) = upgrade.upgrade_inbound(stream, info).now_or_never() else { return };
        inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
            protocol,
            info: (),
        }));
        self.note_wear();
    }

    fn note_wear(&mut self) {
        if self.streams_in.max(self.streams_out) >= STREAMS_MAX && !std::mem::replace(&mut self.is_worn, true)
        {
            self.reports.push_back(Said::Worn);
        }
    }

    /// Whether gossipsub may be given time now.
    fn has_time(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.poll_unpin(cx).is_pending() {
                    return false;
                }
                self.pause = None;
            }
            let now = Instant::now();
            if self.pace.is_ready(now) {
                return true;
            }
            self.pause = Some(Delay::new(self.pace.ready_at().saturating_duration_since(now)));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Tell;
    type ToBehaviour = Said;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = Outbound;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(StreamProtocol::new(PROTOCOL)), ())
    }

    /// The lanes decide how long a connection lasts.
    fn connection_keep_alive(&self) -> bool {
        false
    }

    fn on_behaviour_event(&mut self, tell: Tell) {
        match (tell, &mut self.inner) {
            (Tell::Begin(begin), _) => self.begin(begin.0),
            (Tell::End, _) => (self.inner, self.early) = (None, None),
            (Tell::Inner(event), Some(inner)) => inner.on_behaviour_event(event),
            (Tell::Inner(_), None) => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Outbound, (), Said>> {
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        if self.inner.is_none() || !self.has_time(cx) {
            return Poll::Pending;
        }
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        let Poll::Ready(event) = inner.poll(cx) else { return Poll::Pending };
        if matches!(event, ConnectionHandlerEvent::NotifyBehaviour(_)) {
            self.pace.spend(Instant::now(), 1);
        }
        Poll::Ready(event.map_custom(|said| Said::Inner(Box::new(said))))
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Outbound>) {
        let is_opened = matches!(event, ConnectionEvent::FullyNegotiatedOutbound(_));
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(negotiated) => return self.give(negotiated.protocol),
            ConnectionEvent::FullyNegotiatedOutbound(negotiated) => {
                ConnectionEvent::FullyNegotiatedOutbound(negotiated)
            }
            ConnectionEvent::DialUpgradeError(error) => ConnectionEvent::DialUpgradeError(error),
            _ => return,
        };
        let Some(inner) = &mut self.inner else { return };
        self.streams_out += 1;
        inner.on_connection_event(event);
        if is_opened && self.streams_out > 1 {
            self.reports.push_back(Said::Reopened);
        }
        self.note_wear();
    }
}
