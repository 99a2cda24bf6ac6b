//! Who may speak in a group, and as whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{AnchorId, LogIndex, Member};

use crate::runtime::lock;

/// Who may speak, and as whom.
#[derive(Default)]
pub(crate) struct Directory {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The newest membership of the own log.
    own: BTreeMap<AnchorId, Member>,
    own_index: Option<LogIndex>,
    /// One that the driver vouched for, until the own log is as new.
    told: BTreeMap<AnchorId, Member>,
    told_index: Option<LogIndex>,
}

impl Directory {
    /// Takes the newest membership of the own log. A newer one can be truncated; then this is older than the last.
    pub(crate) fn own(&self, index: Option<LogIndex>, members: &BTreeMap<AnchorId, Member>) {
        let mut known = lock(&self.known);
        if known.own_index == index && known.own == *members {
            return;
        }
        known.own.clone_from(members);
        known.own_index = index;
        if known.own_index >= known.told_index {
            known.told.clear();
            known.told_index = None;
        }
    }

    /// Takes what the driver vouches for, if the own log is not as new.
    pub(crate) fn tell(&self, index: LogIndex, members: BTreeMap<AnchorId, Member>) {
        let mut known = lock(&self.known);
        if Some(index) > known.own_index.max(known.told_index) {
            known.told = members;
            known.told_index = Some(index);
        }
    }

    /// Whether a peer is that anchor.
    pub(crate) fn is(&self, anchor: AnchorId, peer: PeerId) -> bool {
        let known = lock(&self.known);
        let is =
            |members: &BTreeMap<AnchorId, Member>| members.get(&anchor).is_some_and(|it| it.peer == peer);
        is(&known.own) || is(&known.told)
    }

    /// The peer that an anchor is.
    pub(crate) fn peer(&self, anchor: AnchorId) -> Option<PeerId> {
        let known = lock(&self.known);
        known.own.get(&anchor).or_else(|| known.told.get(&anchor)).map(|member| member.peer)
    }

    /// The anchors that a peer is, by any membership that counts here.
    pub(crate) fn anchors_of(&self, peer: PeerId) -> BTreeSet<AnchorId> {
        let known = lock(&self.known);
        let all = known.own.iter().chain(&known.told);
        all.filter(|(_, member)| member.peer == peer).map(|(anchor, _)| *anchor).collect()
    }
}
