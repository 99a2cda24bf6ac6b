//! What a frame and a message must be, said once more and in another way than the decoders say it.
//!
//! It is the oracle: a decoder that takes what is not sound here, or refuses what is, has a defect. Written
//! from the documentation of the types and bounds, not from the checks.

use std::collections::BTreeSet;

use tidelock_engine::bounds::{
    CHUNK_BYTES_MAX, ELEMENTS_MAX, FRAME_OPS_BYTES_MAX, FRAME_OPS_MAX, KEY_BYTES_MAX, LARGE_FRAME_OPS_MAX,
    OBSERVED_LISTED_MAX, OP_BYTES_MAX, OUTCOME_BYTES_MAX, OUTCOMES_PER_CLIENT, REPLICAS_MAX, SLOTS_MAX,
    SUBKEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use tidelock_engine::frame::{FRAME_VERSION, FrameHeader};
use tidelock_engine::message::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, FRAMES_MAX, HEADS_MAX, HINTS_MAX, KEYSPACES_MAX, Message, ModeNews,
    PARTS_MAX, PEER_RECORDS_MAX, PartRows, PeerRecord, RANGES_MAX, REASON_BYTES_MAX, RangePart,
    STATE_HEADS_MAX,
};
use tidelock_engine::op::{DotRef, Op, OutcomeRef, Prefix, SlotChange};
use tidelock_engine::replica::AnchorOrder;
use tidelock_engine::roster::{ANCHORS_MAX, SignedRoster};

/// Whether a frame of this header and these operations may be taken for one.
pub fn frame(header: &FrameHeader, ops: &[Op]) -> bool {
    let encoded: usize = ops.iter().map(encoded_bytes).sum();
    let bytes_max = if ops.len() <= LARGE_FRAME_OPS_MAX { OP_BYTES_MAX } else { FRAME_OPS_BYTES_MAX };
    let has_its_operations = header.count as usize == ops.len() && (1..=FRAME_OPS_MAX).contains(&ops.len());
    let end = u128::from(header.first) + u128::from(header.count);
    let has_seqs = header.first >= 1 && end <= u128::from(u64::MAX);
    let lists = header.replicas.len() <= REPLICAS_MAX && header.dependencies.len() <= REPLICAS_MAX;
    header.version == FRAME_VERSION
        && has_its_operations
        && has_seqs
        && lists
        && encoded <= bytes_max
        && !header.replicas.contains(&header.author)
        && header.dependencies.iter().all(|dot| is_foreign(header, *dot))
        && ops.iter().zip(header.first..).all(|(op, seq)| Place { header, seq }.allows(op))
}

fn encoded_bytes(op: &Op) -> usize {
    postcard::to_stdvec(op).expect("writing to memory cannot fail").len()
}

/// Names an operation of another replica.
fn is_foreign(header: &FrameHeader, dot: DotRef) -> bool {
    dot.replica >= 1 && dot.replica as usize <= header.replicas.len() && dot.seq >= 1
}

/// The place of an operation in its frame.
struct Place<'a> {
    header: &'a FrameHeader,
    seq: u64,
}

impl Place<'_> {
    fn allows(&self, op: &Op) -> bool {
        match op {
            Op::Set { key, value, observed, slots } => {
                is_key(key)
                    && value.len() <= VALUE_BYTES_MAX
                    && self.observes(observed)
                    && slots.len() <= SLOTS_MAX
                    && slots.iter().all(|slot| self.changes(slot))
            }
            Op::Increment { key, birth, .. } => is_key(key) && *birth < self.seq,
            Op::Add { key, elements } => {
                is_key(key)
                    && are_distinct(elements.iter().map(|element| &element.element[..]))
                    && elements.iter().all(|one| is_subkey(&one.element) && self.observes(&one.observed))
            }
            Op::Put { key, fields } => {
                is_key(key)
                    && are_distinct(fields.iter().map(|field| &field.field[..]))
                    && fields.iter().all(|one| {
                        is_subkey(&one.field)
                            && one.value.len() <= VALUE_BYTES_MAX
                            && self.observes(&one.observed)
                    })
            }
            Op::Score { key, members } => {
                is_key(key)
                    && are_distinct(members.iter().map(|member| &member.member[..]))
                    && members.iter().all(|one| is_subkey(&one.member) && self.observes(&one.observed))
            }
            Op::Delete { key, rows, slots } => {
                is_key(key)
                    && rows.len() <= ELEMENTS_MAX
                    && rows
                        .iter()
                        .all(|row| row.kind.is_removable() && is_subkey(&row.subkey) && self.knows(row.dot))
                    && slots.len() <= SLOTS_MAX
                    && slots.iter().all(|slot| self.changes(slot))
            }
            Op::Clear { prefix, vector, slots } => {
                let is_bounded = match prefix {
                    Prefix::Keyspace => true,
                    Prefix::Key(key) => is_key(key),
                    Prefix::Group { key, subkey, .. } => is_key(key) && is_subkey(subkey),
                };
                is_bounded
                    && vector.len() <= REPLICAS_MAX + 1
                    && vector.iter().all(|dot| self.knows(*dot))
                    && slots.len() <= SLOTS_MAX
                    && slots.iter().all(|slot| is_key(&slot.key) && self.changes(&slot.change))
            }
            Op::Change { key, chunk, observed } => {
                is_key(key) && chunk.len() <= CHUNK_BYTES_MAX && self.observes(observed)
            }
            Op::Retire { last } => self.knows(*last),
            Op::Expire { key, observed, .. } => is_key(key) && self.observes(observed),
            Op::Outcome { number, result, forgotten, .. } => {
                result.iter().all(|result| result.len() <= OUTCOME_BYTES_MAX)
                    && forgotten.iter().all(|outcome| outcome.number < *number)
                    && self.forgets(forgotten)
            }
            Op::Forget { forgotten, .. } => self.forgets(forgotten),
        }
    }

    fn forgets(&self, forgotten: &[OutcomeRef]) -> bool {
        self.header.epoch.0 % 2 == 1
            && forgotten.len() as u64 <= OUTCOMES_PER_CLIENT
            && forgotten.windows(2).all(|pair| pair[0].number < pair[1].number)
            && forgotten.iter().all(|outcome| self.knows(outcome.dot))
    }

    fn observes(&self, observed: &[DotRef]) -> bool {
        observed.len() <= OBSERVED_LISTED_MAX && observed.iter().all(|dot| self.knows(*dot))
    }

    /// Names an operation of another replica, or of the author's own one before this one. Own seq 0 names
    /// nothing, and is let pass.
    fn knows(&self, dot: DotRef) -> bool {
        if dot.replica == 0 { dot.seq < self.seq } else { is_foreign(self.header, dot) }
    }

    fn changes(&self, slot: &SlotChange) -> bool {
        match slot {
            SlotChange::Close { birth } => (1..self.seq).contains(birth),
            SlotChange::Reset { birth, top, .. } => is_foreign(self.header, *birth) && *top >= birth.seq,
            SlotChange::Fold { birth } => is_foreign(self.header, *birth),
        }
    }
}

fn is_key(key: &[u8]) -> bool {
    key.len() <= KEY_BYTES_MAX
}

fn is_subkey(subkey: &[u8]) -> bool {
    subkey.len() <= SUBKEY_BYTES_MAX
}

fn are_distinct<'a>(subkeys: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
    let count = subkeys.len();
    (1..=ELEMENTS_MAX).contains(&count) && subkeys.collect::<BTreeSet<_>>().len() == count
}

/// Whether a message may be taken for one.
pub fn message(message: &Message) -> bool {
    let addresses = |list: &[String]| {
        list.len() <= ADDRESSES_MAX && list.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
    };
    let roster = |signed: &SignedRoster| {
        let members = &signed.roster.members;
        members.len() <= ANCHORS_MAX && members.iter().all(|seated| addresses(&seated.addresses))
    };
    match message {
        Message::Hello(hello) => hello.keyspaces.len() <= KEYSPACES_MAX && addresses(&hello.addresses),
        Message::Goodbye { reason } => reason.len() <= REASON_BYTES_MAX,
        Message::Keyspaces(names) => names.len() <= KEYSPACES_MAX,
        Message::Peers(records) => {
            let is_sound =
                |record: &PeerRecord| addresses(&record.addresses) && record.keyspaces.len() <= HINTS_MAX;
            records.len() <= PEER_RECORDS_MAX && records.iter().all(is_sound)
        }
        Message::Heads { entries, .. } => entries.len() <= HEADS_MAX,
        Message::Want { after, .. } => after.len() <= HEADS_MAX,
        Message::Answer { cards, frames, .. } | Message::Push { cards, frames } => {
            cards.len() <= FRAMES_MAX && frames.len() <= FRAMES_MAX
        }
        Message::Held { held, .. } | Message::Vouched { held, .. } => held.len() <= HEADS_MAX,
        Message::Anchors(news) => news.exact.len() <= KEYSPACES_MAX && news.roster.iter().all(roster),
        Message::Invite(invite) => roster(&invite.roster),
        Message::Govern { order: AnchorOrder::Remove(anchors), .. } => anchors.len() <= ANCHORS_MAX,
        Message::Governed { reply: Err(error), .. } => error.to_string().len() <= REASON_BYTES_MAX,
        Message::Modes(records) => {
            let is_sound = |news: &ModeNews| news.record.frontier.len() <= REPLICAS_MAX;
            records.len() <= KEYSPACES_MAX && records.iter().all(is_sound)
        }
        Message::Left(ids) => ids.len() <= KEYSPACES_MAX,
        Message::Taken { heads, .. } => heads.len() <= STATE_HEADS_MAX,
        Message::Compare { asks, .. } => {
            asks.len() <= RANGES_MAX && asks.iter().all(|ask| ask.range.is_valid())
        }
        Message::Compared { heads, parts, .. } => {
            let is_part = |part: &RangePart| {
                let is_split = match &part.rows {
                    PartRows::Split(parts) => parts.len() <= PARTS_MAX,
                    PartRows::Equal | PartRows::Rows(_) => true,
                };
                is_split && part.range.is_valid()
            };
            heads.len() <= STATE_HEADS_MAX && parts.len() <= RANGES_MAX && parts.iter().all(is_part)
        }
        Message::Tailed { heads, frames, .. } => heads.len() <= STATE_HEADS_MAX && frames.len() <= FRAMES_MAX,
        Message::Summary { .. }
        | Message::Below { .. }
        | Message::At { .. }
        | Message::Ask { .. }
        | Message::Told { .. }
        | Message::Govern { .. }
        | Message::Governed { .. }
        | Message::Vouch { .. }
        | Message::Take { .. }
        | Message::Tail { .. }
        | Message::EndTake { .. }
        | Message::Prune { .. }
        | Message::Graft { .. }
        | Message::Confirm { .. }
        | Message::Confirmed { .. } => true,
    }
}
