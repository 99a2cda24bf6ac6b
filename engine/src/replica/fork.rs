//! What a replica does that turns out to have two histories itself, and how it goes on as another one.
//!
//! Somebody holds a frame that this replica signed and does not have. So its store was copied and the copy ran,
//! or an older state of it was put back: every further operation would be given a name that another one may have
//! already. It takes no more writes, goes on reading and syncing, and waits for its operator, who lets it rejoin
//! under a new name. Then the old one is an author like any other, and its frames come from the peers.
//!
//! Only a frame with our own signature counts: what a peer merely claims to have stops nobody from writing.

use crate::frame::Frame;
use crate::id::AuthorCard;
use crate::ports::{Fork, SessionId};
use crate::replica::{Now, Replica, Step};

impl Replica {
    /// Takes in a frame that we signed and do not have.
    pub(super) fn note_fork(&mut self, frame: &Frame) {
        let header = frame.header();
        let (replica, seq) = (header.author, header.first);
        if replica == self.id && self.fork.is_none() {
            tracing::error!(%replica, seq, "this replica has two histories; it takes no more writes");
            self.fork = Some(Fork { replica, keyspace: header.keyspace, seq });
        }
    }

    /// Why no writes are taken, if they are not.
    pub(super) fn refusal(&self) -> Option<String> {
        let forked = || {
            let Fork { replica, keyspace, seq } = self.fork?;
            let keyspace = self.keyspaces.get(&keyspace).map_or("?", |keyspace| keyspace.name.as_str());
            Some(format!(
                "a peer has other operations of this replica {replica}, in keyspace {keyspace} from {seq} on: its \
                 data was copied, or put back from an older copy; run `tidelock rejoin` to write again"
            ))
        };
        let retired = || {
            let (keyspace, by) = self.retired_by?;
            let keyspace = self.keyspaces.get(&keyspace).map_or("?", |keyspace| keyspace.name.as_str());
            Some(format!(
                "this replica {} was retired in keyspace {keyspace}, by replica {by}; run `tidelock rejoin` to write \
                 again",
                self.id
            ))
        };
        self.failed.clone().or_else(forked).or_else(retired)
    }

    /// Whether this replica was proven to have two histories, and so takes no writes until it rejoins.
    pub fn fork(&self) -> Option<Fork> {
        self.fork
    }

    /// Goes on as the replica that `card` proves, which never wrote anything. The store has changed to it already.
    /// Peers are met anew, for they must know whom they talk to.
    pub(crate) fn rejoin(&mut self, now: Now, card: AuthorCard) -> Step {
        let mut step = Step::default();
        (self.card, self.id, self.fork, self.retired_by) = (card, card.replica(), None, None);
        self.cards.insert(self.id, card);
        self.confirms.clear();
        self.keyspaces.values_mut().for_each(super::Keyspace::begin_anew);
        let sessions: Vec<SessionId> = self.links.keys().copied().collect();
        for session in sessions {
            self.forget(now, session);
            step.closes.push((session, "the node goes on as another replica".to_owned()));
        }
        self.counters.count("rejoins");
        step
    }
}
