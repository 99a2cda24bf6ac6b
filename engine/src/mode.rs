//! Mode changes happen here, and only here: of each keyspace, in which epoch it is, and what ends that.
//!
//! An even epoch is eventual and an odd one strong. An anchor takes the mode from its Raft log alone, and what a peer
//! tells it of a later epoch only fences it; a guest takes what peers tell, the highest epoch before all others. From
//! the moment at which an anchor applies a `BeginSeal` it acknowledges nothing in the epoch that ends, and only what
//! the cut names is applied. A majority that is fenced and stands exactly at the cut meets every other majority, so
//! nothing that a majority acknowledged is missing there.
//!
//! Each transition is a function of the mode and of what the entry says, and an entry that does not fit changes
//! nothing. Source: reference/switch.md, section 1, whose executable model checked these rules.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::list;
use crate::bounds::REPLICAS_MAX;
use crate::causality::{Dot, Hlc, VersionVector};
use crate::command::EpochSecret;
use crate::frame::{FrameHeader, SigningKey};
use crate::group_key::{GroupSecret, GroupSignature, Statement};
use crate::id::{AuthorCard, ClusterId, Epoch, KeyspaceId, ReplicaId};
use crate::ports::LogIndex;

/// The version of the bytes that a mode is kept as.
pub const MODE_VERSION: u8 = 1;

impl Epoch {
    /// The epoch after this one; none after the last that a number can name.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// What proves the author of a strong epoch's frames. Its nonce follows from where and when, so that no other epoch of any
/// keyspace has the same author, whatever its secret.
pub fn card_of(
    secret: &EpochSecret,
    (cluster, keyspace): (ClusterId, KeyspaceId),
    epoch: Epoch,
) -> AuthorCard {
    let mut hasher = blake3::Hasher::new();
    hasher.update(cluster.as_bytes());
    hasher.update(keyspace.as_bytes());
    hasher.update(&epoch.0.to_be_bytes());
    let nonce = hasher.finalize();
    secret.key().card(*nonce.as_bytes().first_chunk().expect("a blake3 hash has 32 bytes"))
}

/// How an epoch began: one for each epoch, and of several the highest counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeRecord {
    /// The epoch.
    pub epoch: Epoch,
    /// Where the one before it ended, by its dots, in their order.
    #[serde(deserialize_with = "list::<REPLICAS_MAX, _, _>")]
    pub frontier: Vec<Dot>,
    /// The place in the anchors' log of the entry that began it.
    pub index: LogIndex,
    /// What proves the author of the epoch's frames.
    pub card: AuthorCard,
    /// That the group of anchors says so.
    pub signature: GroupSignature,
}

impl ModeRecord {
    /// The highest seq of an author that belongs to the epochs before.
    pub fn frontier_of(&self, author: ReplicaId) -> u64 {
        seq_in(&self.frontier, author)
    }

    /// What its signature is for.
    fn statement(&self, keyspace: KeyspaceId) -> Statement<'_> {
        let Self { epoch, frontier, index, card, .. } = self;
        Statement::Mode { keyspace, epoch: *epoch, frontier, index: *index, card: *card }
    }

    /// Whether it is what the group that it names says of a keyspace.
    pub fn is_genuine(&self, (cluster, keyspace): (ClusterId, KeyspaceId)) -> bool {
        self.signature.is_for(cluster, &self.statement(keyspace))
    }

    /// Whether it names each author once, in order, and the epoch is one that peers can be told of.
    pub fn is_valid(&self) -> bool {
        self.epoch.is_strong() && is_frontier(&self.frontier)
    }
}

/// Whether dots are the version vector of something: each author once, in order.
pub fn is_frontier(dots: &[Dot]) -> bool {
    let is_ordered = dots.windows(2).all(|pair| pair[0].replica < pair[1].replica);
    is_ordered && dots.iter().all(|dot| dot.seq > 0)
}

fn seq_in(frontier: &[Dot], author: ReplicaId) -> u64 {
    let found = frontier.binary_search_by_key(&author, |dot| dot.replica);
    found.map_or(0, |place| frontier[place].seq)
}

/// Where an epoch is to end, as the anchors' log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The place of the entry that said it. Two cuts may name the same frontier and are not the same.
    pub index: LogIndex,
    /// The version vector, by its dots, in their order.
    #[serde(deserialize_with = "list::<REPLICAS_MAX, _, _>")]
    pub frontier: Vec<Dot>,
}

/// An epoch that is about to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealing {
    /// The place in the anchors' log of the entry that began it.
    pub begin: LogIndex,
    /// The epoch that is to begin.
    pub epoch: Epoch,
    /// What will sign its frames.
    pub secret: EpochSecret,
    /// The latest cut.
    pub cut: Option<Cut>,
}

/// Where an anchor stands in a strong epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has applied what is committed and nothing else, and makes frames of the entries as they come.
    Exact,
    /// It takes the frames that others make.
    Behind {
        /// The last entry of this keyspace that it has neither made a frame of nor holds in memory.
        missed: LogIndex,
    },
}

/// What only an anchor knows of a strong epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What signs the epoch's frames.
    pub secret: EpochSecret,
    /// Where it stands.
    pub standing: Standing,
}

/// The mode of a keyspace, as one node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    epoch: Epoch,
    record: Option<ModeRecord>,
    sealing: Option<Sealing>,
    part: Option<Part>,
    /// The latest epoch that an anchor has heard of and not come to in its own log.
    heard: Epoch,
    /// The highest time of the epoch's frames: by this clock its keys expire.
    clock: Hlc,
    /// The entry of the last of the epoch's frames that was made or applied here.
    position: LogIndex,
}

/// Why bytes are not a mode that is known here. The node must not go on without knowing it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModeError {
    /// They were written by a newer version.
    #[error("the mode was written in version {0}, and here {MODE_VERSION} is known")]
    Newer(u8),
    /// They are damaged.
    #[error("the mode does not decode")]
    Malformed,
}

impl Mode {
    /// The mode of whoever follows an epoch, by the clock of its frames.
    pub fn following(record: ModeRecord, clock: Hlc) -> Self {
        Self { epoch: record.epoch, record: Some(record), clock, ..Self::default() }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The latest epoch that is known of: an anchor may not have come to it.
    pub fn latest(&self) -> Epoch {
        self.epoch.max(self.heard)
    }

    /// How it began; none in the first one.
    pub fn record(&self) -> Option<&ModeRecord> {
        self.record.as_ref()
    }

    /// What is to end it.
    pub fn sealing(&self) -> Option<&Sealing> {
        self.sealing.as_ref()
    }

    /// Where this anchor stands, if it is one and the epoch is strong.
    pub fn standing(&self) -> Option<Standing> {
        self.part.as_ref().map(|part| part.standing)
    }

    /// Whether this anchor makes the epoch's frames itself.
    pub fn is_exact(&self) -> bool {
        self.standing() == Some(Standing::Exact)
    }

    /// What signs the epoch's frames, for an anchor.
    pub fn signer(&self) -> Option<&SigningKey> {
        self.part.as_ref().map(|part| part.secret.key())
    }

    /// The clock by which the keys of a strong keyspace expire.
    pub fn clock(&self) -> Hlc {
        self.clock
    }

    /// The entry of the anchors' log of which the last strong frame is that was made or applied here.
    pub fn position(&self) -> LogIndex {
        self.position
    }

    /// The author of the epoch's frames, if it is strong.
    pub fn author(&self) -> Option<ReplicaId> {
        let record = self.record.as_ref().filter(|record| record.epoch.is_strong())?;
        Some(record.card.replica())
    }

    /// Whether this node may make frames of its own: nothing ends the epoch, and it is eventual.
    pub fn is_open(&self) -> bool {
        !self.epoch.is_strong() && !self.is_fenced()
    }

    /// Whether nothing is acknowledged in this epoch any more.
    pub fn is_fenced(&self) -> bool {
        self.sealing.is_some() || self.heard > self.epoch
    }

    /// The highest seq of an author that may be applied when it comes by itself, from a peer.
    ///
    /// Cases: (1) an eventual epoch goes on: all; (2) it ends: up to the cut, and up to where it began, also if it is only
    /// heard that it has; (3) an anchor that makes the strong frames itself: none; (4) any other node: the strong frames,
    /// and what F names.
    pub fn takes(&self, author: ReplicaId) -> u64 {
        let base = self.record.as_ref().map_or(0, |record| record.frontier_of(author));
        match &self.sealing {
            Some(Sealing { cut, .. }) => {
                base.max(cut.as_ref().map_or(0, |cut| seq_in(&cut.frontier, author)))
            }
            None if self.heard > self.epoch => base,
            None if !self.epoch.is_strong() => u64::MAX,
            None if self.is_exact() => 0,
            None if self.author() == Some(author) => u64::MAX,
            None => base,
        }
    }

    /// Whether a frame may be applied when it comes by itself, from a peer.
    pub fn takes_frame(&self, header: &FrameHeader) -> bool {
        // What a frame of a later epoch requires is not even known of here, and of a strong epoch there is one author.
        let is_of_author = self.author() == Some(header.author);
        let is_of_epoch = header.epoch == self.epoch && is_of_author == self.epoch.is_strong();
        let is_older = header.epoch < self.epoch && !is_of_author;
        (is_of_epoch || is_older) && header.last() <= self.takes(header.author)
    }

    /// A [`Command::BeginSeal`](crate::command::Command::BeginSeal) at `at`; answers whether it has an effect.
    pub(crate) fn begin_seal(&mut self, at: LogIndex, epoch: Epoch, secret: EpochSecret) -> bool {
        if self.epoch.is_strong() || self.sealing.is_some() || self.epoch.next() != Some(epoch) {
            return false;
        }
        self.sealing = Some(Sealing { begin: at, epoch, secret, cut: None });
        true
    }

    /// The same, of an epoch that this node followed before it became an anchor; answers whether it has an effect. Of
    /// several attempts, it is the one whose secret signs the frames.
    pub(crate) fn take_part(
        &mut self,
        at: LogIndex,
        epoch: Epoch,
        secret: EpochSecret,
        place: (ClusterId, KeyspaceId),
    ) -> bool {
        let is_of_epoch = self.epoch == epoch && epoch.is_strong() && self.part.is_none();
        let is_its = |record: &ModeRecord| record.card == card_of(&secret, place, epoch);
        if !is_of_epoch || !self.record.as_ref().is_some_and(is_its) {
            return false;
        }
        self.part = Some(Part { secret, standing: Standing::Behind { missed: at } });
        true
    }

    /// A [`Command::Cut`](crate::command::Command::Cut) at `at`; answers whether it has an effect.
    pub(crate) fn cut(&mut self, at: LogIndex, begin: LogIndex, frontier: &[Dot]) -> bool {
        let sealing = self.sealing.as_mut().filter(|sealing| sealing.begin == begin);
        let Some(sealing) = sealing.filter(|_| is_frontier(frontier)) else { return false };
        sealing.cut = Some(Cut { index: at, frontier: frontier.to_vec() });
        true
    }

    /// A [`Command::Seal`](crate::command::Command::Seal) at `at`, with the card of the epoch that begins; answers
    /// whether it has an effect. `is_at` tells whether this anchor stands exactly at the cut.
    pub(crate) fn seal(
        &mut self,
        at: LogIndex,
        (begin, cut): (LogIndex, LogIndex),
        (place, group): ((ClusterId, KeyspaceId), &GroupSecret),
        is_at: impl FnOnce(&[Dot]) -> bool,
    ) -> bool {
        let is_latest = |sealing: &Sealing| {
            sealing.begin == begin && sealing.cut.as_ref().is_some_and(|latest| latest.index == cut)
        };
        if !self.sealing.as_ref().is_some_and(is_latest) {
            return false;
        }
        let Some(Sealing { epoch, secret, cut: Some(cut), .. }) = self.sealing.take() else { return false };
        let standing = if is_at(&cut.frontier) { Standing::Exact } else { Standing::Behind { missed: at } };
        let (card, frontier) = (card_of(&secret, place, epoch), cut.frontier);
        let statement = Statement::Mode { keyspace: place.1, epoch, frontier: &frontier, index: at, card };
        let signature = group.sign(place.0, &statement);
        (self.epoch, self.position) = (epoch, LogIndex(0));
        self.record = Some(ModeRecord { epoch, frontier, index: at, card, signature });
        self.part = Some(Part { secret, standing });
        true
    }

    /// A [`Command::AbortSeal`](crate::command::Command::AbortSeal); answers whether it has an effect. Beside a seal, it
    /// alone lifts a fence.
    pub(crate) fn abort_seal(&mut self, begin: LogIndex) -> bool {
        let is_this = self.sealing.as_ref().is_some_and(|sealing| sealing.begin == begin);
        if is_this {
            self.sealing = None;
        }
        is_this
    }

    /// A guest learns of an epoch from a peer; answers whether it was news. What lies between is not needed.
    pub(crate) fn adopt(&mut self, record: &ModeRecord) -> bool {
        let is_news = record.epoch > self.epoch && record.is_valid();
        if is_news {
            *self = Self::following(record.clone(), self.clock);
        }
        is_news
    }

    /// An anchor hears of an epoch that its own log has not come to: it is fenced until then. Answers whether it was
    /// news.
    pub(crate) fn hear(&mut self, epoch: Epoch) -> bool {
        let is_news = epoch > self.latest();
        if is_news {
            self.heard = epoch;
        }
        is_news
    }

    /// This node is no anchor, or not the one that it was: it follows what peers tell.
    pub(crate) fn leave_group(&mut self) {
        (self.sealing, self.part, self.heard) = (None, None, Epoch(0));
    }

    /// A strong frame was made or applied, of that entry if it says so.
    pub(crate) fn advance(&mut self, hlc: Hlc, index: Option<LogIndex>) {
        self.clock = self.clock.max(hlc);
        self.position = self.position.max(index.unwrap_or_default());
    }

    /// This node has become an anchor. It comes to the epochs by its own log, from the first one on, and is fenced until
    /// it has come to the one that it followed.
    pub(crate) fn enter_group(&mut self) {
        if self.part.is_none() && self.sealing.is_none() {
            *self = Self { heard: self.latest(), clock: self.clock, ..Self::default() };
        }
    }

    /// A following anchor misses an entry, or has caught up.
    pub(crate) fn stand(&mut self, standing: Standing) {
        if let Some(part) = &mut self.part {
            part.standing = standing;
        }
    }

    /// The bytes to remember it by: a version, and the rest as postcard.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![MODE_VERSION]).expect("writing to memory cannot fail")
    }

    /// Reads what [`Mode::encode`] wrote.
    ///
    /// # Errors
    /// [`ModeError`]: in which mode the keyspace is must be known before anything is done there.
    pub fn decode(bytes: &[u8]) -> Result<Self, ModeError> {
        let (version, rest) = bytes.split_first().ok_or(ModeError::Malformed)?;
        if *version > MODE_VERSION {
            return Err(ModeError::Newer(*version));
        }
        match postcard::take_from_bytes::<Self>(rest) {
            Ok((mode, [])) if *version == MODE_VERSION && mode.is_consistent() => Ok(mode),
            _ => Err(ModeError::Malformed),
        }
    }

    fn is_consistent(&self) -> bool {
        let has_record = self.record.as_ref().map(|record| record.epoch);
        let frontiers = self.record.iter().map(|record| &record.frontier);
        let cuts = self.sealing.iter().filter_map(|sealing| sealing.cut.as_ref()).map(|cut| &cut.frontier);
        let is_of_epoch = has_record.unwrap_or_default() == self.epoch;
        let is_one_thing = !(self.epoch.is_strong() && self.sealing.is_some());
        is_of_epoch && is_one_thing && frontiers.chain(cuts).all(|frontier| is_frontier(frontier))
    }
}

/// Whether a replica that has applied `vector` stands exactly at a frontier.
pub fn is_exactly(vector: &VersionVector, frontier: &[Dot]) -> bool {
    vector.iter().eq(frontier.iter().copied())
}
