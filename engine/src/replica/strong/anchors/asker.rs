//! Who gave an order of the group, and how they are answered.

use super::{AnchorError, AnchorReply};
use crate::message::Message;
use crate::ports::SessionId;
use crate::replica::{OrderError, Step};
use crate::request::RequestId;

/// Who gave an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica::strong) enum Asker {
    Client(RequestId),
    /// A client, who orders it of a keyspace.
    OfKeyspace(RequestId),
    /// A peer, which gave it this number.
    Peer(SessionId, u64),
}

/// Says what came of an order.
pub(super) fn answer(asker: Asker, reply: AnchorReply, step: &mut Step) {
    match asker {
        Asker::Client(request) => step.governed.push((request, reply)),
        Asker::OfKeyspace(request) => step.orders.push((request, reply.map_err(OrderError::from))),
        Asker::Peer(session, number) => {
            let reply = reply.map_err(AnchorError::shortened);
            step.sends.push((session, Message::Governed { number, reply }));
        }
    }
}
