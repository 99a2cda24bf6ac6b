//! Who waits for replies of strong keyspaces: counted, so that nobody has too many open.

use std::collections::{BTreeMap, BTreeSet};

use super::answering::Waiter;
use crate::ports::SessionId;
use crate::request::RequestId;

/// Those who wait: clients of this node, and the numbers that peers gave.
#[derive(Debug, Default)]
pub(super) struct Open {
    clients: BTreeSet<RequestId>,
    peers: BTreeMap<SessionId, BTreeSet<u64>>,
    of_peers: usize,
}

impl Open {
    /// All who wait.
    pub(super) fn len(&self) -> usize {
        self.clients.len() + self.of_peers
    }

    /// Those who wait in a session.
    pub(super) fn of(&self, session: SessionId) -> usize {
        self.peers.get(&session).map_or(0, BTreeSet::len)
    }

    /// Whether a peer waits for a reply of this number already.
    pub(super) fn has(&self, session: SessionId, number: u64) -> bool {
        self.peers.get(&session).is_some_and(|numbers| numbers.contains(&number))
    }

    /// Somebody waits from now on.
    pub(super) fn begin(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Client(id) => drop(self.clients.insert(id)),
            Waiter::Peer { session, number, .. } => {
                let is_new = self.peers.entry(session).or_default().insert(number);
                self.of_peers += usize::from(is_new);
            }
            Waiter::Part(..) => {}
        }
    }

    /// Somebody has a reply, who may not have been counted.
    pub(super) fn end(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Client(id) => drop(self.clients.remove(&id)),
            Waiter::Peer { session, number, .. } => {
                let Some(numbers) = self.peers.get_mut(&session) else { return };
                self.of_peers -= usize::from(numbers.remove(&number));
                if numbers.is_empty() {
                    self.peers.remove(&session);
                }
            }
            Waiter::Part(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_counted_once_and_until_the_reply() {
        let peer = |session, number| Waiter::Peer { session: SessionId(session), number, is_last: false };
        let (client, part) = (Waiter::Client(RequestId(1)), Waiter::Part(1, 0));
        let mut open = Open::default();
        let all = [client, part, peer(1, 7), peer(1, 8), peer(2, 7), peer(2, 7), client];
        all.into_iter().for_each(|waiter| open.begin(waiter));
        assert_eq!((open.len(), open.of(SessionId(1)), open.of(SessionId(2))), (4, 2, 1));
        assert!(open.has(SessionId(1), 8) && !open.has(SessionId(2), 8));
        [peer(1, 7), peer(1, 7), peer(3, 7), part].into_iter().for_each(|waiter| open.end(waiter));
        assert_eq!((open.len(), open.of(SessionId(1))), (3, 1));
        all.into_iter().for_each(|waiter| open.end(waiter));
        assert_eq!((open.len(), open.peers.len()), (0, 0));
    }
}
