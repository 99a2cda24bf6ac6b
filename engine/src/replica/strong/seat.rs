//! What a node remembers of the group of anchors: its number, if it is one, and by which key the group is known.
//!
//! A node takes the first group that it hears of for the only one of its cluster. What another one says is refused,
//! counted and named, also by an anchor that was founded a second time by mistake.

use serde::{Deserialize, Serialize};

use super::{CommandReply, Strong};
use crate::command::Command;
use crate::group_key::{GroupKey, GroupSecret};
use crate::id::PeerId;
use crate::ports::{AnchorId, LogIndex};
use crate::replica::{Replica, Step};
use crate::wire::{self, WireError};

/// The version of the bytes by which a store remembers it.
const SEAT_VERSION: u8 = 1;

/// What is known of the group, beside its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownGroup {
    /// Its name; the secret is told to anchors alone.
    pub(super) key: Option<GroupKey>,
    pub(super) secret: Option<GroupSecret>,
    /// How many voters the operator wants, if that was said.
    pub(super) wanted: Option<u8>,
    /// The place of the members by which this node became an anchor, or was none any more.
    pub(super) since: Option<LogIndex>,
}

/// A group that is not the one that this node knows, and who spoke of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherGroup {
    /// Who.
    pub peer: PeerId,
    /// The group that it named, rightly or not.
    pub group: GroupKey,
    /// The one that is known here, if there is one.
    pub known: Option<GroupKey>,
}

/// What a store remembers.
pub(super) fn encode(anchor: Option<AnchorId>, known: &KnownGroup) -> Vec<u8> {
    wire::encode(SEAT_VERSION, &(anchor, known))
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<(Option<AnchorId>, KnownGroup), WireError> {
    wire::decode(SEAT_VERSION, bytes, crate::ports::ANCHOR_BYTES_MAX)
}

impl Strong {
    /// What the store is to remember from now on.
    pub(super) fn remember(&self, step: &mut Step) {
        step.anchor = Some(encode(self.anchor, &self.known));
    }
}

impl Replica {
    /// Whether something that a peer told, and that is signed, comes from the group of this cluster. The first group that
    /// is heard of is taken for it.
    pub(super) fn is_of_group(&mut self, peer: PeerId, group: GroupKey, step: &mut Step) -> bool {
        match self.strong.known.key {
            Some(known) if known == group => true,
            Some(_) => {
                self.refuse_group(peer, group);
                false
            }
            None => {
                self.strong.known.key = Some(group);
                self.strong.remember(step);
                true
            }
        }
    }

    /// A peer told something that the group of this cluster does not say.
    pub(super) fn refuse_group(&mut self, peer: PeerId, group: GroupKey) {
        let known = self.strong.known.key;
        tracing::warn!(%peer, %group, ?known, "a peer tells what the group of anchors does not say");
        self.counters.count("refused_modes");
        self.strong.other_group = Some(OtherGroup { peer, group, known });
    }

    /// Does what an entry says of the group itself; none if it says something else.
    pub(super) fn change_known(&mut self, command: &Command, step: &mut Step) -> Option<CommandReply> {
        let known = &mut self.strong.known;
        let is_changed = match command {
            Command::NameGroup(secret) => {
                let is_first = known.secret.is_none();
                if is_first {
                    (known.key, known.secret) = (Some(secret.key()), Some(secret.clone()));
                }
                is_first
            }
            Command::WantVoters(wanted) => std::mem::replace(&mut known.wanted, *wanted) != *wanted,
            _ => return None,
        };
        if is_changed {
            self.strong.remember(step);
        }
        Some(CommandReply::Mode(is_changed))
    }
}
