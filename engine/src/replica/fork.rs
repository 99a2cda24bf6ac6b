//! What a replica does that turns out to have two histories itself, and how it goes on as another one.
//!
//! Somebody holds operations of this replica that it does not have. So its store was copied and the copy ran, or
//! an older state of it was put back: every further operation would be given a name that another one may have
//! already. It takes no more writes, goes on reading and syncing, and waits for its operator, who lets it rejoin
//! under a new name. Then the old one is an author like any other, and its operations come from the peers.
//!
//! Where there are frames only one with our own signature counts: that a peer names a higher head stops nobody
//! from writing. Below the floor there are none, and what the state says that it offers is taken for true, as
//! all that it says.

use crate::id::{AuthorCard, KeyspaceId};
use crate::ports::{Fork, SessionId};
use crate::replica::{Now, Replica, Step};

impl Replica {
    /// Takes in that there are operations of ours that we do not have, from `seq` on.
    pub(crate) fn note_fork(&mut self, keyspace: KeyspaceId, seq: u64) {
        if self.fork.is_none() {
            let replica = self.id;
            tracing::error!(%replica, seq, "this replica has two histories; it takes no more writes");
            self.fork = Some(Fork { replica, keyspace, seq });
        }
    }

    /// Why no writes are taken, if they are not.
    pub(super) fn refusal(&self) -> Option<String> {
        let forked = || {
            let Fork { replica, keyspace, seq } = self.fork?;
            let keyspace = self.keyspaces.get(&keyspace).map_or("?", |keyspace| keyspace.name.as_str());
            Some(format!(
                "there are operations of this replica {replica} that it does not have, in keyspace {keyspace} from \
                 {seq} on: its data was copied, put back from an older copy, or lost in part; run `tidelock \
                 rejoin` to write again"
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
        self.strong.leave_group();
        let sessions: Vec<SessionId> = self.links.keys().copied().collect();
        for session in sessions {
            self.forget(now, session, &mut step);
            step.closes.push((session, "the node goes on as another replica".to_owned()));
        }
        self.counters.count("rejoins");
        step
    }
}
