//! State changes here, and only here: what an operation does to rows.
//!
//! Applying is the same for a local write, a frame from a peer and a frame replayed from the log. It depends
//! on nothing but the frame and the rows, so that the rows of a keyspace are a function of its version vector.
//! It never looks at a clock, and never refuses: what may be applied was decided before.

use std::ops::ControlFlow;

use crate::causality::{Dot, VersionVector};
use crate::draft::Draft;
use crate::frame::{Frame, FrameHeader};
use crate::id::{ClientId, KeyspaceId, ReplicaId};
use crate::install::Install;
use crate::op::{
    DotRef, Element, FieldValue, KeySlot, MemberScore, Op, OutcomeRef, Prefix, RowRef, SlotChange,
};
use crate::ports::{ReadError, RowRange, Rows, Within};
use crate::row::{Kind, OUTCOMES_KEY, Payload, RETIRED_KEY, RowId, Slot};

/// Applies the operations of a frame that come after the seq `applied` of its author. That is all of them, unless
/// the author has two histories whose frames begin elsewhere: whatever the history, an operation is applied
/// once, so a new one's rows are added without looking for them. The frame's requirements must have been applied.
///
/// # Errors
/// [`ReadError`]: the draft holds a part of the frame and must be thrown away.
pub fn apply_frame(draft: &mut Draft<'_>, frame: &Frame, applied: u64) -> Result<(), ReadError> {
    let mut new = frame.operations().filter(|(dot, _)| dot.seq > applied);
    new.try_for_each(|(dot, op)| apply_op(draft, frame.header(), dot, op))
}

/// Applies the operations of a frame that come after the seq `applied` of its author, of which the rows may hold
/// the effects already, with those of later frames, which must be applied then.
///
/// # Errors
/// As [`apply_frame`].
pub fn apply_again(draft: &mut Draft<'_>, frame: &Frame, applied: u64) -> Result<(), ReadError> {
    let mut new = frame.operations().filter(|(dot, _)| dot.seq > applied);
    new.try_for_each(|(dot, op)| Apply::new(draft, frame.header(), dot, None, true).op(op))
}

/// Makes rows that are taken over what they are to be. That they are so already changes nothing.
///
/// # Errors
/// As [`apply_frame`].
pub fn apply_install(draft: &mut Draft<'_>, install: &Install) -> Result<(), ReadError> {
    for of_key in install.rows.chunk_by(|(a, _), (b, _)| a.key == b.key) {
        let key = &of_key[0].0.key;
        let existed = draft.key_exists(install.keyspace, key)?;
        for (row, payload) in of_key {
            draft.put(install.keyspace, row.clone(), payload.clone(), row.dot.replica)?;
        }
        let exists = draft.key_exists(install.keyspace, key)?;
        draft.count_key(install.keyspace, existed, exists);
    }
    Ok(())
}

/// Applies one operation, whose references are those of `header`.
///
/// # Errors
/// As [`apply_frame`].
pub fn apply_op(draft: &mut Draft<'_>, header: &FrameHeader, dot: Dot, op: &Op) -> Result<(), ReadError> {
    Apply::new(draft, header, dot, None, false).op(op)
}

/// Applies one operation of our own, whose author has seen whether its key exists, and may have read rows of the
/// register that it replaces.
///
/// # Errors
/// As [`apply_frame`].
pub(crate) fn apply_known(
    draft: &mut Draft<'_>,
    header: &FrameHeader,
    (dot, op): (Dot, &Op),
    existed: Option<bool>,
    read: Vec<(Dot, Payload)>,
) -> Result<(), ReadError> {
    Apply { read, ..Apply::new(draft, header, dot, existed, false) }.op(op)
}

struct Apply<'a, 'b> {
    draft: &'a mut Draft<'b>,
    header: &'a FrameHeader,
    dot: Dot,
    /// Whether the operation's key exists, if that is known.
    existed: Option<bool>,
    /// Whether the rows may hold its effects already.
    may_be_there: bool,
    /// What the author has read of the register.
    read: Vec<(Dot, Payload)>,
}

impl<'a, 'b> Apply<'a, 'b> {
    fn new(
        draft: &'a mut Draft<'b>,
        header: &'a FrameHeader,
        dot: Dot,
        existed: Option<bool>,
        may_be_there: bool,
    ) -> Self {
        Self { draft, header, dot, existed, may_be_there, read: Vec::new() }
    }

    fn op(&mut self, op: &Op) -> Result<(), ReadError> {
        match op {
            Op::Set { key, value, observed, slots } => self.add_to_key(key, Kind::Register, |apply| {
                apply.replace((key, Kind::Register, &[]), apply.value(value), observed)?;
                apply.slots(key, slots)
            }),
            Op::Increment { key, birth, sum } => match self.incremented(key, *birth, *sum)? {
                Some((row, before, after)) => self.add_to_key(key, Kind::Counter, |apply| {
                    let (before, after) = (before.map(Payload::Slot), Some(Payload::Slot(after)));
                    apply.draft.put_over(apply.keyspace(), row, before, after, apply.dot.replica)
                }),
                None => Ok(()),
            },
            Op::Add { key, elements } => self.add_to_key(key, Kind::Set, |apply| {
                elements.iter().try_for_each(|Element { element, observed }| {
                    apply.replace((key, Kind::Set, element), Payload::Member, observed)
                })
            }),
            Op::Put { key, fields } => self.add_to_key(key, Kind::Map, |apply| {
                fields.iter().try_for_each(|FieldValue { field, value, observed }| {
                    apply.replace((key, Kind::Map, field), apply.value(value), observed)
                })
            }),
            Op::Score { key, members } => self.add_to_key(key, Kind::Sorted, |apply| {
                members.iter().try_for_each(|MemberScore { member, score, observed }| {
                    let value = apply.value(&score.to_bytes());
                    apply.replace((key, Kind::Sorted, member), value, observed)
                })
            }),
            Op::Delete { key, rows, slots } => {
                let kind = rows.first().map_or(Kind::Counter, |row| row.kind);
                self.on_key(key, kind, |apply| {
                    rows.iter().try_for_each(|RowRef { kind, subkey, dot }| {
                        let dot = resolve(apply.header, *dot);
                        apply.put(RowId { key: key.clone(), kind: *kind, subkey: subkey.clone(), dot }, None)
                    })?;
                    apply.slots(key, slots)
                })
            }
            Op::Clear { prefix, vector, slots } => self.clear(prefix, vector, slots),
            Op::Change { key, chunk, observed } => self.add_to_key(key, Kind::Document, |apply| {
                apply.replace((key, Kind::Document, &[]), Payload::Chunk(chunk.clone()), observed)
            }),
            Op::Retire { last } => {
                let Dot { replica, seq } = resolve(self.header, *last);
                let row = retired_row(replica, self.dot);
                self.put(row, Some(Payload::Retired { stamp: self.header.stamp(), last: seq }))
            }
            // A deadline alone makes no key exist.
            Op::Expire { key, deadline_ms, observed } => {
                self.replace((key, Kind::Deadline, &[]), Payload::Deadline(*deadline_ms), observed)
            }
            Op::Outcome { client, number, index, result, forgotten } => {
                self.forget(*client, forgotten)?;
                let (stamp, result) = (self.header.stamp(), result.clone());
                let row = outcome_row(*client, *number, self.dot);
                let payload = Some(Payload::Outcome { stamp, index: *index, result });
                if self.may_be_there {
                    return self.put(row, payload);
                }
                self.draft.put_over(self.header.keyspace, row, None, payload, self.dot.replica)
            }
            Op::Forget { client, forgotten } => self.forget(*client, forgotten),
        }
    }

    fn forget(&mut self, client: ClientId, forgotten: &[OutcomeRef]) -> Result<(), ReadError> {
        forgotten.iter().try_for_each(|OutcomeRef { number, dot }| {
            self.put(outcome_row(client, *number, resolve(self.header, *dot)), None)
        })
    }

    fn keyspace(&self) -> KeyspaceId {
        self.header.keyspace
    }

    fn value(&self, value: &[u8]) -> Payload {
        Payload::Value { stamp: self.header.stamp(), value: value.to_vec() }
    }

    /// Adds rows to a key, which exists from then on, unless what it adds was reset since.
    fn add_to_key(
        &mut self,
        key: &[u8],
        kind: Kind,
        change: impl FnOnce(&mut Self) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if self.may_be_there {
            return self.on_key(key, kind, change);
        }
        let existed = self.key_existed(key, kind)?;
        change(self)?;
        self.draft.count_key(self.keyspace(), existed, true);
        Ok(())
    }

    fn key_existed(&self, key: &[u8], kind: Kind) -> Result<bool, ReadError> {
        self.existed.map_or_else(|| self.key_exists(key, kind), Ok)
    }

    /// Whether a key exists whose rows of `kind` are changed. A collection with members does, and their count is
    /// read at once, where a search would pass all rows that were removed a moment ago.
    fn key_exists(&self, key: &[u8], kind: Kind) -> Result<bool, ReadError> {
        let has_members = kind.has_members() && self.draft.members(self.keyspace(), key, kind)? > 0;
        if has_members { Ok(true) } else { self.draft.key_exists(self.keyspace(), key) }
    }

    /// Does something to the rows of one key and counts whether the key exists.
    fn on_key(
        &mut self,
        key: &[u8],
        kind: Kind,
        change: impl FnOnce(&mut Self) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let existed = self.key_existed(key, kind)?;
        change(self)?;
        let exists = self.key_exists(key, kind)?;
        self.draft.count_key(self.keyspace(), existed, exists);
        Ok(())
    }

    fn put(&mut self, row: RowId, payload: Option<Payload>) -> Result<(), ReadError> {
        self.draft.put(self.keyspace(), row, payload, self.dot.replica)
    }

    /// Adds the operation's row in place of those that it observed.
    fn replace(
        &mut self,
        (key, kind, subkey): (&[u8], Kind, &[u8]),
        payload: Payload,
        observed: &[DotRef],
    ) -> Result<(), ReadError> {
        let row = RowId { key: key.to_vec(), kind, subkey: subkey.to_vec(), dot: self.dot };
        let header = self.header;
        let dots = observed.iter().map(|reference| resolve(header, *reference));
        if self.may_be_there {
            let dots: Vec<Dot> = dots.collect();
            for dot in dots {
                self.put(RowId { dot, ..row.clone() }, None)?;
            }
            return self.put(row, Some(payload));
        }
        // Our own operations list all that this replica sees, and of an element there is nothing else to be seen.
        let has_seen = self.existed.is_some();
        let mut read = std::mem::take(&mut self.read);
        let observed = dots.map(|dot| {
            if has_seen && kind == Kind::Set {
                return (dot, Some(Payload::Member));
            }
            let place = read.iter().position(|(of, _)| *of == dot);
            (dot, place.map(|place| read.swap_remove(place).1))
        });
        self.draft.replace_group(header.keyspace, (row, payload), observed, has_seen)
    }

    fn slot(&self, key: &[u8], birth: Dot) -> Result<(RowId, Option<Slot>), ReadError> {
        let row = slot_row(key, birth);
        let slot = match self.draft.row(self.keyspace(), &row)? {
            Some(Payload::Slot(slot)) => Some(slot),
            _ => None,
        };
        Ok((row, slot))
    }

    /// A new slot with nothing reset, or the one that is there, raised. One that is not there was closed by its
    /// owner, who lies if it goes on with it, or folded because its owner was retired, who did not know: had it been
    /// opened again, a reset that is under way would find it or not, depending on when it arrives.
    fn incremented(&self, key: &[u8], birth: u64, sum: i128) -> Result<Option<Incremented>, ReadError> {
        let dot = if birth == 0 { self.dot } else { Dot::new(self.dot.replica, birth) };
        let (row, before) =
            if birth == 0 && !self.may_be_there { (slot_row(key, dot), None) } else { self.slot(key, dot)? };
        let slot = before.or((birth == 0).then_some(Slot::default()));
        Ok(slot.map(|slot| (row, before, slot.raised(self.dot.seq, sum))))
    }

    /// Cases of a reset: (1) the slot is there, and its base rises; (2) it is not, because its owner closed it
    /// having seen another reset, or somebody folded it, so there is nothing left to reset.
    fn slots(&mut self, key: &[u8], changes: &[SlotChange]) -> Result<(), ReadError> {
        changes.iter().try_for_each(|change| match change {
            SlotChange::Close { birth } => {
                let (row, _) = self.slot(key, Dot::new(self.dot.replica, *birth))?;
                self.put(row, None)
            }
            SlotChange::Fold { birth } => {
                let (row, _) = self.slot(key, resolve(self.header, *birth))?;
                self.put(row, None)
            }
            SlotChange::Reset { birth, top, sum } => {
                let (row, slot) = self.slot(key, resolve(self.header, *birth))?;
                match slot {
                    Some(slot) => self.put(row, Some(Payload::Slot(slot.reset(*top, *sum)))),
                    None => Ok(()),
                }
            }
        })
    }

    /// Removes what the author's vector covers. Slots are exempt, for they change as listed, and so are retirements.
    fn clear(&mut self, prefix: &Prefix, vector: &[DotRef], slots: &[KeySlot]) -> Result<(), ReadError> {
        let vector: VersionVector = vector.iter().map(|reference| resolve(self.header, *reference)).collect();
        let within = match prefix {
            Prefix::Keyspace => Within::Keyspace,
            Prefix::Key(key) => Within::Key(key.clone()),
            Prefix::Group { key, kind, subkey } => Within::Group(key.clone(), *kind, subkey.clone()),
        };
        let mut groups: Vec<Group> = Vec::new();
        self.draft.scan(self.keyspace(), &RowRange::all(within), &mut |row, payload| {
            if row.kind.is_removable() {
                let is_covered = vector.covers(row.dot);
                match groups.last_mut() {
                    Some(group) if group.holds(&row) => group.take(row, payload, is_covered),
                    _ => groups.push(Group::of(row, payload, is_covered)),
                }
            }
            ControlFlow::Continue(())
        })?;
        let (keyspace, author) = (self.keyspace(), self.dot.replica);
        for of_key in groups.chunk_by(|a, b| a.key == b.key) {
            let is_reordered = is_mostly_removed(of_key);
            if is_reordered {
                self.draft.forget_order(keyspace, &of_key[0].key)?;
            }
            for group in of_key {
                self.draft.remove_group(keyspace, &group.covered, group.survives, author)?;
            }
            for group in of_key.iter().filter(|group| is_reordered && group.kind == Kind::Sorted) {
                let (key, kind, subkey) = (group.key.clone(), group.kind, group.subkey.clone());
                self.draft.order_again(keyspace, &RowId { key, kind, subkey, dot: self.dot })?;
            }
            let survives = of_key.iter().any(|group| group.survives && group.is_live());
            let exists = survives || self.draft.key_exists(keyspace, &of_key[0].key)?;
            // Every row that was found but a deadline made the key exist.
            let existed = exists || of_key.iter().any(Group::is_live);
            self.draft.count_key(keyspace, existed, exists);
        }
        slots.iter().try_for_each(|KeySlot { key, change }| {
            self.on_key(key, Kind::Counter, |apply| apply.slots(key, std::slice::from_ref(change)))
        })
    }
}

/// Whether more members of a sorted set are removed than survive, so that its order is better made again.
fn is_mostly_removed(of_key: &[Group]) -> bool {
    let sorted = of_key.iter().filter(|group| group.kind == Kind::Sorted);
    let (survive, go): (Vec<&Group>, Vec<&Group>) = sorted.partition(|group| group.survives);
    go.len() > survive.len()
}

/// The rows of one register, element or field, as a removal by version vector finds them.
struct Group {
    key: Vec<u8>,
    kind: Kind,
    subkey: Vec<u8>,
    /// The rows that go.
    covered: Vec<(RowId, Payload)>,
    /// Whether any row stays.
    survives: bool,
}

impl Group {
    fn of(row: RowId, payload: Payload, is_covered: bool) -> Self {
        let (key, kind, subkey) = (row.key.clone(), row.kind, row.subkey.clone());
        let mut group = Self { key, kind, subkey, covered: Vec::new(), survives: false };
        group.take(row, payload, is_covered);
        group
    }

    /// Whether its rows make their key exist. Slots are not in any.
    fn is_live(&self) -> bool {
        self.kind != Kind::Deadline
    }

    fn holds(&self, row: &RowId) -> bool {
        row.kind == self.kind && row.key == self.key && row.subkey == self.subkey
    }

    fn take(&mut self, row: RowId, payload: Payload, is_covered: bool) {
        if is_covered {
            self.covered.push((row, payload));
        } else {
            self.survives = true;
        }
    }
}

/// A slot with what it held before, if it was there, and what it holds after an increment.
type Incremented = (RowId, Option<Slot>, Slot);

fn slot_row(key: &[u8], birth: Dot) -> RowId {
    RowId { key: key.to_vec(), kind: Kind::Counter, subkey: Vec::new(), dot: birth }
}

/// The row of a retirement.
pub(crate) fn retired_row(replica: ReplicaId, dot: Dot) -> RowId {
    let subkey = replica.as_bytes().to_vec();
    RowId { key: RETIRED_KEY.to_vec(), kind: Kind::Retired, subkey, dot }
}

/// The row of an outcome.
pub(crate) fn outcome_row(client: ClientId, number: u64, dot: Dot) -> RowId {
    let subkey = outcome_subkey(client, number);
    RowId { key: OUTCOMES_KEY.to_vec(), kind: Kind::Outcome, subkey, dot }
}

/// Outcomes are in order of their clients and numbers.
pub(crate) fn outcome_subkey(client: ClientId, number: u64) -> Vec<u8> {
    [&client.0[..], &number.to_be_bytes()].concat()
}

fn resolve(header: &FrameHeader, reference: DotRef) -> Dot {
    header.dot(reference).expect("decoding checked the references")
}
