//! Operations: what a write changes, as the rows it adds and the rows it observed.
//!
//! An operation carries effects, never a condition: whoever applies it after its dependencies ends with the
//! same rows. It lists what its author *saw*, so that what the author did not see survives it.
//! Replicas are written as indexes into the frame's table, which keeps an overwrite at a few bytes.

use serde::{Deserialize, Serialize};

use crate::bounded::list;
use crate::bounds::{
    ELEMENTS_MAX, OBSERVED_LISTED_MAX, OUTCOMES_AT_ONCE, OUTCOMES_PER_CLIENT, REPLICAS_MAX, SLOTS_MAX,
};
use crate::id::ClientId;
use crate::row::Kind;
use crate::score::Score;

/// A version vector has an entry for the author too.
const VECTOR_MAX: usize = REPLICAS_MAX + 1;

/// The outcomes that one operation removes: all of a client.
const FORGOTTEN_MAX: usize = 1_088;

const _: () = assert!(FORGOTTEN_MAX as u64 == OUTCOMES_PER_CLIENT + OUTCOMES_AT_ONCE);

/// A dot within a frame: the index of its replica in the frame's table, 0 being the author, and the seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DotRef {
    /// 0 is the frame's author, n the n-th entry (from 1) of its replica table.
    pub replica: u32,
    /// The seq there, from 1.
    pub seq: u64,
}

/// What happens to a counter slot that a removal observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotChange {
    /// The author removes its own slot, born at this seq of its own.
    Close {
        /// The seq of the operation that opened the slot.
        birth: u64,
    },
    /// The author resets another replica's slot as far as it saw it. Only the owner may remove a slot, unless it was
    /// retired.
    Reset {
        /// The operation that opened the slot.
        birth: DotRef,
        /// The slot's `top` as observed.
        top: u64,
        /// The slot's `sum` as observed.
        sum: i128,
    },
    /// The author removes the slot of a replica that was retired, having seen that it is spent. Should its owner
    /// write all the same, its increments of that slot that the author did not see count nowhere.
    Fold {
        /// The operation that opened the slot.
        birth: DotRef,
    },
}

/// A slot change under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// The counter's key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// What happens to the slot.
    pub change: SlotChange,
}

/// One element that is added to a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// The element's bytes.
    #[serde(with = "serde_bytes")]
    pub element: Vec<u8>,
    /// The element's rows as observed; they go.
    #[serde(deserialize_with = "list::<{ OBSERVED_LISTED_MAX }, _, _>")]
    pub observed: Vec<DotRef>,
}

/// One field that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldValue {
    /// The field's name.
    #[serde(with = "serde_bytes")]
    pub field: Vec<u8>,
    /// Its new value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// The field's rows as observed; they go.
    #[serde(deserialize_with = "list::<{ OBSERVED_LISTED_MAX }, _, _>")]
    pub observed: Vec<DotRef>,
}

/// One member of a sorted set whose score is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberScore {
    /// The member's bytes.
    #[serde(with = "serde_bytes")]
    pub member: Vec<u8>,
    /// Its new score.
    pub score: Score,
    /// The member's rows as observed; they go.
    #[serde(deserialize_with = "list::<{ OBSERVED_LISTED_MAX }, _, _>")]
    pub observed: Vec<DotRef>,
}

/// A row of a key, as a removal lists it. Never a counter slot: those change by [`SlotChange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRef {
    /// The data type.
    pub kind: Kind,
    /// The element, field or member; empty for a register.
    #[serde(with = "serde_bytes")]
    pub subkey: Vec<u8>,
    /// The row's dot.
    pub dot: DotRef,
}

/// The outcome of a client's operation, as an operation lists it that removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRef {
    /// Which of the client's operations.
    pub number: u64,
    /// The row's dot.
    pub dot: DotRef,
}

/// The rows that a removal by version vector covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prefix {
    /// Every row of the keyspace.
    Keyspace,
    /// Every row of a key.
    Key(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The rows of one register, element or field.
    Group {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The data type.
        kind: Kind,
        /// The element or field; empty for a register.
        #[serde(with = "serde_bytes")]
        subkey: Vec<u8>,
    },
}

/// One operation. Its dot is implied by its place in the frame, its stamp is the frame's.
///
/// The order of the variants is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes a register.
    Set {
        /// The register's key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        /// The siblings observed; they go.
        #[serde(deserialize_with = "list::<{ OBSERVED_LISTED_MAX }, _, _>")]
        observed: Vec<DotRef>,
        /// The counter slots observed; a SET resets the counter it saw.
        #[serde(deserialize_with = "list::<{ SLOTS_MAX }, _, _>")]
        slots: Vec<SlotChange>,
    },
    /// Adds to the author's slot of a counter.
    Increment {
        /// The counter's key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The seq that opened the author's slot; 0 when this operation opens it.
        birth: u64,
        /// The slot's sum including this increment.
        sum: i128,
    },
    /// Adds elements to a set.
    Add {
        /// The set's key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The elements, each at most once.
        #[serde(deserialize_with = "list::<{ ELEMENTS_MAX }, _, _>")]
        elements: Vec<Element>,
    },
    /// Writes fields of a map.
    Put {
        /// The map's key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The fields, each at most once.
        #[serde(deserialize_with = "list::<{ ELEMENTS_MAX }, _, _>")]
        fields: Vec<FieldValue>,
    },
    /// Removes observed rows of a key, of any kind: DEL of a small key, SREM, HDEL, ZREM, PERSIST, and closing a spent slot.
    Delete {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The rows observed; they go.
        #[serde(deserialize_with = "list::<{ ELEMENTS_MAX }, _, _>")]
        rows: Vec<RowRef>,
        /// The counter slots observed.
        #[serde(deserialize_with = "list::<{ SLOTS_MAX }, _, _>")]
        slots: Vec<SlotChange>,
    },
    /// Removes every row under a prefix that a version vector covers: DEL of a large key, FLUSHDB.
    Clear {
        /// Where.
        prefix: Prefix,
        /// The author's version vector at that instant, its own earlier operations included.
        #[serde(deserialize_with = "list::<{ VECTOR_MAX }, _, _>")]
        vector: Vec<DotRef>,
        /// The counter slots observed: what a vector covers of a counter is undecidable, so they are listed.
        #[serde(deserialize_with = "list::<{ SLOTS_MAX }, _, _>")]
        slots: Vec<KeySlot>,
    },
    /// Adds changes to a document. One that observes rows has all of their changes in its chunk.
    Change {
        /// The document's key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The changes, in a form that the engine does not look into.
        #[serde(with = "serde_bytes")]
        chunk: Vec<u8>,
        /// The rows whose changes are in the chunk; they go.
        #[serde(deserialize_with = "list::<{ OBSERVED_LISTED_MAX }, _, _>")]
        observed: Vec<DotRef>,
    },
    /// Says that a replica will never write again, so that others may remove what only it could.
    Retire {
        /// The replica's last operation here.
        last: DotRef,
    },
    /// Says when a key expires, whatever it holds.
    Expire {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// When, in Unix milliseconds.
        deadline_ms: u64,
        /// The deadlines observed; they go.
        #[serde(deserialize_with = "list::<{ OBSERVED_LISTED_MAX }, _, _>")]
        observed: Vec<DotRef>,
    },
    /// Writes scores of members of a sorted set.
    Score {
        /// The set's key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The members, each at most once.
        #[serde(deserialize_with = "list::<{ ELEMENTS_MAX }, _, _>")]
        members: Vec<MemberScore>,
    },
    /// Says what came of an operation on a strong keyspace. In an eventual epoch there is none.
    Outcome {
        /// Who asked for it.
        client: ClientId,
        /// Which of the client's operations it was.
        number: u64,
        /// The place of its entry in the anchors' log.
        index: u64,
        /// What it gave; none if that is too long to be kept.
        #[serde(with = "serde_bytes")]
        result: Option<Vec<u8>>,
        /// The outcomes of the client's operations of lower numbers that go.
        #[serde(deserialize_with = "list::<{ FORGOTTEN_MAX }, _, _>")]
        forgotten: Vec<OutcomeRef>,
    },
    /// Removes the outcomes of a client's operations.
    Forget {
        /// The client.
        client: ClientId,
        /// The outcomes.
        #[serde(deserialize_with = "list::<{ FORGOTTEN_MAX }, _, _>")]
        forgotten: Vec<OutcomeRef>,
    },
}

impl Op {
    /// What the operation holds in memory, in bytes, itself included. Its lists take many times more there than
    /// on the wire: a slot has two bytes in a frame, and here forty-eight.
    pub(crate) fn held_bytes(&self) -> usize {
        let held = match self {
            Self::Set { key, value, observed, slots } => {
                key.len() + value.len() + size_of_val(&observed[..]) + size_of_val(&slots[..])
            }
            Self::Increment { key, .. } => key.len(),
            Self::Add { key, elements } => {
                let within = elements.iter().map(|one| one.element.len() + size_of_val(&one.observed[..]));
                key.len() + size_of_val(&elements[..]) + within.sum::<usize>()
            }
            Self::Put { key, fields } => {
                let within = fields
                    .iter()
                    .map(|one| one.field.len() + one.value.len() + size_of_val(&one.observed[..]));
                key.len() + size_of_val(&fields[..]) + within.sum::<usize>()
            }
            Self::Score { key, members } => {
                let within = members.iter().map(|one| one.member.len() + size_of_val(&one.observed[..]));
                key.len() + size_of_val(&members[..]) + within.sum::<usize>()
            }
            Self::Delete { key, rows, slots } => {
                let within: usize = rows.iter().map(|row| row.subkey.len()).sum();
                key.len() + size_of_val(&rows[..]) + within + size_of_val(&slots[..])
            }
            Self::Clear { prefix, vector, slots } => {
                let within: usize = slots.iter().map(|slot| slot.key.len()).sum();
                prefix.held_bytes() + size_of_val(&vector[..]) + size_of_val(&slots[..]) + within
            }
            Self::Change { key, chunk, observed } => key.len() + chunk.len() + size_of_val(&observed[..]),
            Self::Retire { .. } => 0,
            Self::Expire { key, observed, .. } => key.len() + size_of_val(&observed[..]),
            Self::Outcome { result, forgotten, .. } => {
                result.as_ref().map_or(0, Vec::len) + size_of_val(&forgotten[..])
            }
            Self::Forget { forgotten, .. } => size_of_val(&forgotten[..]),
        };
        size_of::<Self>() + held
    }

    /// Whether only the author of a strong epoch says such a thing.
    pub fn is_strong(&self) -> bool {
        matches!(self, Self::Outcome { .. } | Self::Forget { .. })
    }

    /// Every dot that the operation names. It can be applied only where all of them were.
    pub fn dots(&self) -> impl Iterator<Item = DotRef> + '_ {
        let (observed, slots, listed): (Vec<&[DotRef]>, &[SlotChange], &[KeySlot]) = match self {
            Self::Set { observed, slots, .. } => (vec![observed], slots, &[]),
            Self::Increment { .. } | Self::Outcome { .. } | Self::Forget { .. } => (Vec::new(), &[], &[]),
            Self::Add { elements, .. } => (elements.iter().map(|e| &e.observed[..]).collect(), &[], &[]),
            Self::Put { fields, .. } => (fields.iter().map(|f| &f.observed[..]).collect(), &[], &[]),
            Self::Score { members, .. } => (members.iter().map(|m| &m.observed[..]).collect(), &[], &[]),
            Self::Delete { slots, .. } => (Vec::new(), slots, &[]),
            Self::Clear { vector, slots, .. } => (vec![vector], &[], slots),
            Self::Change { observed, .. } | Self::Expire { observed, .. } => (vec![observed], &[], &[]),
            Self::Retire { last } => (vec![std::slice::from_ref(last)], &[], &[]),
        };
        let rows = if let Self::Delete { rows, .. } = self { &rows[..] } else { &[] };
        let forgotten = match self {
            Self::Outcome { forgotten, .. } | Self::Forget { forgotten, .. } => &forgotten[..],
            _ => &[],
        };
        let changes = slots.iter().chain(listed.iter().map(|slot| &slot.change));
        observed
            .into_iter()
            .flatten()
            .copied()
            .chain(rows.iter().map(|row| row.dot))
            .chain(forgotten.iter().map(|outcome| outcome.dot))
            .chain(changes.filter_map(SlotChange::observed_until))
    }
}

impl Prefix {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Keyspace => 0,
            Self::Key(key) => key.len(),
            Self::Group { key, subkey, .. } => key.len() + subkey.len(),
        }
    }
}

impl SlotChange {
    /// The owner's last operation that the change names; `None` for one's own slot.
    fn observed_until(&self) -> Option<DotRef> {
        match self {
            Self::Close { .. } => None,
            Self::Reset { birth, top, .. } => Some(DotRef { replica: birth.replica, seq: *top }),
            Self::Fold { birth } => Some(*birth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operation names and does not tell, its frame would not wait for.
    #[test]
    fn operation_tells_every_dot_that_it_names() {
        let dot = |seq| DotRef { replica: 1, seq };
        let observed = |seq| vec![dot(seq)];
        let key = || b"k".to_vec();
        let reset = SlotChange::Reset { birth: dot(7), top: 9, sum: 0 };
        let slots = || vec![SlotChange::Close { birth: 4 }, reset, SlotChange::Fold { birth: dot(5) }];
        let element = |seq| Element { element: key(), observed: observed(seq) };
        let field = |seq| FieldValue { field: key(), value: key(), observed: observed(seq) };
        let member = |seq| MemberScore { member: key(), score: Score::ZERO, observed: observed(seq) };
        let row = |seq| RowRef { kind: Kind::Set, subkey: key(), dot: dot(seq) };
        let listed = slots().into_iter().map(|change| KeySlot { key: key(), change }).collect();
        let forgotten =
            || [1, 2].map(|number| OutcomeRef { number: number + 100, dot: dot(number) }).to_vec();
        let client = ClientId([5; 16]);
        let cases: [(Op, &[u64]); 12] = [
            (
                Op::Set { key: key(), value: key(), observed: vec![dot(1), dot(2)], slots: slots() },
                &[1, 2, 9, 5],
            ),
            (Op::Increment { key: key(), birth: 4, sum: 1 }, &[]),
            (Op::Add { key: key(), elements: vec![element(1), element(2)] }, &[1, 2]),
            (Op::Put { key: key(), fields: vec![field(1), field(2)] }, &[1, 2]),
            (Op::Score { key: key(), members: vec![member(1), member(2)] }, &[1, 2]),
            (Op::Delete { key: key(), rows: vec![row(1), row(2)], slots: slots() }, &[1, 2, 9, 5]),
            (
                Op::Clear { prefix: Prefix::Keyspace, vector: vec![dot(1), dot(2)], slots: listed },
                &[1, 2, 9, 5],
            ),
            (Op::Change { key: key(), chunk: key(), observed: vec![dot(1), dot(2)] }, &[1, 2]),
            (Op::Retire { last: dot(3) }, &[3]),
            (Op::Expire { key: key(), deadline_ms: 1, observed: vec![dot(1), dot(2)] }, &[1, 2]),
            (Op::Outcome { client, number: 9, index: 8, result: None, forgotten: forgotten() }, &[1, 2]),
            (Op::Forget { client, forgotten: forgotten() }, &[1, 2]),
        ];
        for (op, seqs) in cases {
            let expected: Vec<DotRef> = seqs.iter().map(|seq| dot(*seq)).collect();
            assert_eq!(op.dots().collect::<Vec<_>>(), expected, "{op:?}");
        }
    }
}
