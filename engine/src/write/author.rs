//! The evaluation of writes: what this replica sees becomes what an operation lists as observed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::{Outcome, Ttl, Write, WriteError};
use crate::apply::apply_known;
use crate::bounds::{
    BoundError, OBSERVED_BYTES_MAX, OBSERVED_LISTED_MAX, SLOTS_MAX, check_chunk, check_elements, check_key,
    check_subkey, check_value,
};
use crate::causality::{Dot, Heads};
use crate::crdt::{KeyView, Sibling, VisibleKind};
use crate::draft::Draft;
use crate::frame::FrameBuilder;
use crate::id::ReplicaId;
use crate::op::{DotRef, Element, FieldValue, KeySlot, Op, Prefix, RowRef, SlotChange};
use crate::ports::{ReadError, RowRange, Rows, Within};
use crate::row::{Kind, Payload, RETIRED_KEY, RowId, Slot};

/// The kinds of collections, the one that is shown before the others first.
const COLLECTIONS: [(Kind, VisibleKind); 3] =
    [(Kind::Map, VisibleKind::Map), (Kind::Set, VisibleKind::Set), (Kind::Sorted, VisibleKind::Sorted)];

/// Evaluates writes of one author into the frame it is making.
#[derive(Debug)]
pub struct Author<'a, 'b> {
    /// The rows, with all earlier operations of the frame applied.
    pub draft: &'a mut Draft<'b>,
    /// The frame in the making.
    pub frame: &'a mut FrameBuilder,
    /// What had been applied before the frame.
    pub heads: &'a Heads,
}

impl Author<'_, '_> {
    /// Evaluates and applies one write.
    ///
    /// # Errors
    /// [`WriteError`]. The draft and the frame may hold a part of the write: take them back.
    pub fn write(&mut self, write: &Write) -> Result<Outcome, WriteError> {
        if let Some(key) = write.key() {
            self.bury(key)?;
        }
        match write {
            Write::Set { key, value } => self.set(key, value, Ttl::None),
            Write::SetFor { key, value, ttl } => self.set(key, value, *ttl),
            Write::Expire { key, deadline_ms, only } => self.expire(key, *deadline_ms, *only),
            Write::Persist { key } => self.persist(key),
            Write::Increment { key, by } => self.increment(key, *by),
            Write::Add { key, elements } => self.add(key, elements),
            Write::Remove { key, elements } => self.remove(key, Kind::Set, elements),
            Write::Put { key, fields } => self.put(key, fields),
            Write::Unset { key, fields } => self.remove(key, Kind::Map, fields),
            Write::Edit { key, edit } => self.edit(key, edit),
            Write::AddToField { key, field, by } => self.add_to_field(key, field, *by),
            Write::Pop { key, count, seed } => self.pop(key, *count, *seed),
            Write::Score { key, members, rule } => self.score(key, members, *rule),
            Write::AddToScore { key, member, by, rule } => self.add_to_score(key, member, *by, *rule),
            Write::Unscore { key, members } => self.remove(key, Kind::Sorted, members),
            Write::UnscoreRange { key, range } => self.unscore_range(key, range),
            Write::PopScored { key, count, is_highest } => self.pop_scored(key, *count, *is_highest),
            Write::Copy { from, to, is_move } => self.copy(from, to, *is_move),
            Write::Combine { into, how, keys } => self.combine(into, *how, keys),
            Write::StoreRange { into, page } => self.store_range(into, page),
            Write::Change { key, chunk, base, replaced } => self.change(key, chunk, base, replaced),
            Write::Delete { key } => self.delete(key).map(|existed| Outcome::Changed(u64::from(existed))),
            Write::Clear => self.clear(Prefix::Keyspace).map(|()| Outcome::Done),
            Write::Retire { replica } => self.retire(*replica),
        }
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8], mut ttl: Ttl) -> Result<Outcome, WriteError> {
        check_key(key)?;
        check_value(value)?;
        let mut view = self.view(key)?;
        let has_others = view.elements + view.fields + view.scored > 0 || view.is_document;
        if has_others || view.siblings.len() > OBSERVED_LISTED_MAX {
            if let (Ttl::Keep, Some(deadline_ms)) = (ttl, view.deadline_ms) {
                ttl = Ttl::Until(deadline_ms);
            }
            self.delete(key)?;
            view = KeyView::default();
        } else if ttl == Ttl::None {
            self.remove_deadlines(key, &view.deadlines)?;
        }
        let existed = Some(view.visible().is_some());
        let slots = self.slot_changes(&view.slots);
        let dots: Vec<Dot> = view.siblings.iter().map(|sibling| sibling.dot).collect();
        let observed = self.references(&dots);
        let read = view.siblings.into_iter();
        let read = read.map(|Sibling { dot, stamp, value }| (dot, Payload::Value { stamp, value })).collect();
        self.push_seen(Op::Set { key: key.to_vec(), value: value.to_vec(), observed, slots }, existed, read)?;
        if let Ttl::Until(deadline_ms) = ttl {
            self.expire(key, deadline_ms, None)?;
        }
        Ok(Outcome::Done)
    }

    fn increment(&mut self, key: &[u8], by: i64) -> Result<Outcome, WriteError> {
        check_key(key)?;
        let view = self.view(key)?;
        if let Some(found) = view.visible()
            && !matches!(found, VisibleKind::Register | VisibleKind::Counter)
        {
            return Err(WriteError::WrongKind { found });
        }
        let number = view.number().ok_or(WriteError::NotAnInteger)?;
        let number = number.checked_add(i128::from(by)).and_then(|number| i64::try_from(number).ok());
        let number = number.ok_or(WriteError::Overflow)?;
        // Where writes have one order, the number is all there is to know: it replaces what was counted before.
        if self.frame.header().epoch.is_strong() {
            self.set(key, number.to_string().as_bytes(), Ttl::Keep)?;
            return Ok(Outcome::Number(number));
        }
        let author = self.frame.header().author;
        let own = view.slots.iter().find(|(birth, _)| birth.replica == author);
        let (birth, before) = own.map_or((0, 0), |(birth, slot)| (birth.seq, slot.sum));
        let sum = before.checked_add(i128::from(by)).ok_or(WriteError::Overflow)?;
        self.push_on(Op::Increment { key: key.to_vec(), birth, sum }, Some(view.visible().is_some()))?;
        Ok(Outcome::Number(number))
    }

    pub(super) fn add(&mut self, key: &[u8], elements: &[Vec<u8>]) -> Result<Outcome, WriteError> {
        let existed = self.check_collection(key, VisibleKind::Set, elements)?;
        let start = self.frame.next_dot();
        let distinct: BTreeSet<&Vec<u8>> = elements.iter().collect();
        let mut added = 0;
        let mut made = Vec::with_capacity(distinct.len());
        for element in distinct {
            let (existed, observed) = self.observe(key, Kind::Set, element)?;
            added += u64::from(!existed);
            made.push(Element { element: element.clone(), observed });
        }
        let existed = (self.frame.next_dot() == start).then_some(existed);
        self.push_on(Op::Add { key: key.to_vec(), elements: made }, existed)?;
        Ok(Outcome::Changed(added))
    }

    pub(super) fn put(&mut self, key: &[u8], fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Outcome, WriteError> {
        let names: Vec<Vec<u8>> = fields.iter().map(|(field, _)| field.clone()).collect();
        let existed = self.check_collection(key, VisibleKind::Map, &names)?;
        let start = self.frame.next_dot();
        fields.iter().try_for_each(|(_, value)| check_value(value))?;
        let last: BTreeMap<&Vec<u8>, &Vec<u8>> = fields.iter().map(|(field, value)| (field, value)).collect();
        let mut added = 0;
        let mut made = Vec::with_capacity(last.len());
        for (field, value) in last {
            let (existed, observed) = self.observe(key, Kind::Map, field)?;
            added += u64::from(!existed);
            made.push(FieldValue { field: field.clone(), value: value.clone(), observed });
        }
        let existed = (self.frame.next_dot() == start).then_some(existed);
        self.push_on(Op::Put { key: key.to_vec(), fields: made }, existed)?;
        Ok(Outcome::Changed(added))
    }

    pub(super) fn remove(
        &mut self,
        key: &[u8],
        kind: Kind,
        subkeys: &[Vec<u8>],
    ) -> Result<Outcome, WriteError> {
        let visible = match kind {
            Kind::Set => VisibleKind::Set,
            Kind::Sorted => VisibleKind::Sorted,
            _ => VisibleKind::Map,
        };
        let existed = self.check_collection(key, visible, subkeys)?;
        let distinct: BTreeSet<&Vec<u8>> = subkeys.iter().collect();
        let mut rows = Vec::new();
        let mut removed = 0;
        for subkey in distinct {
            let dots = self.dots(key, kind, subkey)?;
            removed += u64::from(!dots.is_empty());
            let references = self.references(&dots);
            rows.extend(references.into_iter().map(|dot| RowRef { kind, subkey: subkey.clone(), dot }));
        }
        check_elements(rows.len())?;
        if !rows.is_empty() {
            self.push_on(Op::Delete { key: key.to_vec(), rows, slots: Vec::new() }, Some(existed))?;
        }
        Ok(Outcome::Changed(removed))
    }

    fn change(
        &mut self,
        key: &[u8],
        chunk: &[u8],
        base: &[Dot],
        replaced: &[Dot],
    ) -> Result<Outcome, WriteError> {
        check_key(key)?;
        check_chunk(chunk)?;
        if replaced.len() > OBSERVED_LISTED_MAX {
            return Err(BoundError::Replaced(replaced.len()).into());
        }
        let existed = match self.view(key)?.visible() {
            Some(found) if found != VisibleKind::Document => return Err(WriteError::WrongKind { found }),
            visible => visible.is_some(),
        };
        let present: BTreeSet<Dot> = self.dots(key, Kind::Document, &[])?.into_iter().collect();
        if !base.iter().chain(replaced).all(|dot| present.contains(dot)) {
            return Err(WriteError::Outdated);
        }
        let observed = self.references(replaced);
        let dot = self.frame.next_dot();
        self.push_on(Op::Change { key: key.to_vec(), chunk: chunk.to_vec(), observed }, Some(existed))?;
        Ok(Outcome::At(dot))
    }

    /// Removes all rows of a key; answers whether it existed. A key with few rows is removed row by row, one
    /// with many by what this replica's vector covers.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<bool, WriteError> {
        check_key(key)?;
        let view = KeyView::read_all(self.draft, self.frame.header().keyspace, key)?;
        let existed = view.visible().is_some();
        let mut listed: Vec<RowId> = Vec::new();
        let mut bytes = 0;
        let range = RowRange::all(Within::Key(key.to_vec()));
        self.draft.scan(self.frame.header().keyspace, &range, &mut |row, _| {
            if row.kind.is_removable() {
                bytes += row.subkey.len();
                listed.push(row);
            }
            if listed.len() > OBSERVED_LISTED_MAX || bytes > OBSERVED_BYTES_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if listed.len() > OBSERVED_LISTED_MAX || bytes > OBSERVED_BYTES_MAX {
            self.clear(Prefix::Key(key.to_vec()))?;
            return Ok(existed);
        }
        let slots = self.slot_changes(&view.slots);
        let rows: Vec<RowRef> = listed
            .into_iter()
            .map(|RowId { kind, subkey, dot, .. }| RowRef { kind, subkey, dot: self.frame.reference(dot) })
            .collect();
        if !rows.is_empty() || !slots.is_empty() {
            self.push_on(Op::Delete { key: key.to_vec(), rows, slots }, Some(existed))?;
        }
        Ok(existed)
    }

    /// Removes what this replica's vector covers at this instant, and lists the counter slots it sees.
    fn clear(&mut self, prefix: Prefix) -> Result<(), WriteError> {
        let within = match &prefix {
            Prefix::Keyspace => Some(Within::Keyspace),
            Prefix::Key(key) => Some(Within::Kind(key.clone(), Kind::Counter)),
            Prefix::Group { .. } => None,
        };
        let mut found: Vec<(Vec<u8>, Dot, Slot)> = Vec::new();
        if let Some(within) = within {
            self.draft.scan(self.frame.header().keyspace, &RowRange::all(within), &mut |row, payload| {
                if let Payload::Slot(slot) = payload {
                    found.push((row.key, row.dot, slot));
                }
                ControlFlow::Continue(())
            })?;
        }
        let mut slots = Vec::new();
        for (key, birth, slot) in found {
            let changes = self.slot_changes(&[(birth, slot)]);
            slots.extend(changes.into_iter().map(|change| KeySlot { key: key.clone(), change }));
        }
        if slots.len() > SLOTS_MAX {
            return Err(BoundError::Elements(slots.len()).into());
        }
        let own = self.frame.next_dot();
        let mut vector = self.heads.vector();
        if own.seq > 1 {
            vector.raise(Dot::new(own.replica, own.seq - 1));
        }
        let vector: Vec<Dot> = vector.iter().collect();
        let vector = self.references(&vector);
        Ok(self.push(Op::Clear { prefix, vector, slots })?)
    }

    /// Retires a replica; once is enough.
    fn retire(&mut self, replica: ReplicaId) -> Result<Outcome, WriteError> {
        let own = self.frame.next_dot();
        let seq = if replica == own.replica { own.seq - 1 } else { self.heads.seq(replica) };
        // Whose frames the anchors make is no replica.
        let is_epochs = replica == own.replica && self.frame.header().epoch.is_strong();
        if seq == 0 || is_epochs {
            return Err(WriteError::NotAnAuthor(replica));
        }
        if !self.dots(RETIRED_KEY, Kind::Retired, replica.as_bytes())?.is_empty() {
            return Ok(Outcome::Changed(0));
        }
        let last = self.frame.reference(Dot::new(replica, seq));
        self.push(Op::Retire { last })?;
        Ok(Outcome::Changed(1))
    }

    /// Removes a slot that is spent: the author's own, or that of a replica that was retired.
    pub(crate) fn close(&mut self, key: &[u8], birth: Dot) -> Result<(), ReadError> {
        let slots = if birth.replica == self.frame.header().author {
            vec![SlotChange::Close { birth: birth.seq }]
        } else {
            vec![SlotChange::Fold { birth: self.frame.reference(birth) }]
        };
        self.push(Op::Delete { key: key.to_vec(), rows: Vec::new(), slots })
    }

    pub(super) fn view(&self, key: &[u8]) -> Result<KeyView, ReadError> {
        KeyView::read(self.draft, self.frame.header().keyspace, key)
    }

    /// Checks that elements, fields or members may be written under a key; answers whether it exists.
    pub(super) fn check_collection(
        &self,
        key: &[u8],
        wanted: VisibleKind,
        subkeys: &[Vec<u8>],
    ) -> Result<bool, WriteError> {
        check_key(key)?;
        subkeys.iter().try_for_each(|subkey| check_subkey(subkey))?;
        if subkeys.is_empty() {
            return Err(WriteError::Empty);
        }
        check_elements(subkeys.len())?;
        // A document is shown before a map, a map before a set, a set before a sorted one, and this before the rest:
        // mostly the counts tell which without reading the key.
        let keyspace = self.frame.header().keyspace;
        if self.draft.has_document(keyspace, key)? {
            return Err(WriteError::WrongKind { found: VisibleKind::Document });
        }
        for (kind, visible) in COLLECTIONS {
            let has_members = self.draft.members(keyspace, key, kind)? > 0;
            if has_members && visible == wanted {
                return Ok(true);
            }
            if has_members || visible == wanted {
                break;
            }
        }
        match self.view(key)?.visible() {
            Some(found) if found != wanted => Err(WriteError::WrongKind { found }),
            visible => Ok(visible.is_some()),
        }
    }

    fn dots(&self, key: &[u8], kind: Kind, subkey: &[u8]) -> Result<Vec<Dot>, ReadError> {
        let within = Within::Group(key.to_vec(), kind, subkey.to_vec());
        let mut dots = Vec::new();
        self.draft.scan(self.frame.header().keyspace, &RowRange::all(within), &mut |row, _| {
            dots.push(row.dot);
            ControlFlow::Continue(())
        })?;
        dots.sort_unstable();
        Ok(dots)
    }

    /// Whether an element or field is there, and its rows, which the next operation lists as observed.
    pub(super) fn observe(
        &mut self,
        key: &[u8],
        kind: Kind,
        subkey: &[u8],
    ) -> Result<(bool, Vec<DotRef>), WriteError> {
        let dots = self.dots(key, kind, subkey)?;
        Ok((!dots.is_empty(), self.listed((key, kind, subkey), dots)?))
    }

    /// The references to all rows of a group that the next operation lists, or removes before if they are too many.
    pub(super) fn listed(
        &mut self,
        (key, kind, subkey): (&[u8], Kind, &[u8]),
        mut dots: Vec<Dot>,
    ) -> Result<Vec<DotRef>, WriteError> {
        if dots.len() > OBSERVED_LISTED_MAX {
            self.clear(Prefix::Group { key: key.to_vec(), kind, subkey: subkey.to_vec() })?;
            dots.clear();
        }
        Ok(self.references(&dots))
    }

    pub(super) fn references(&mut self, dots: &[Dot]) -> Vec<DotRef> {
        dots.iter().map(|dot| self.frame.reference(*dot)).collect()
    }

    /// How a removal changes the slots it sees: its author's own go, live ones of others are reset.
    fn slot_changes(&mut self, slots: &[(Dot, Slot)]) -> Vec<SlotChange> {
        let author = self.frame.header().author;
        let mut changes = Vec::new();
        for (birth, slot) in slots {
            if birth.replica == author {
                changes.push(SlotChange::Close { birth: birth.seq });
            } else if slot.is_live() {
                let birth = self.frame.reference(*birth);
                changes.push(SlotChange::Reset { birth, top: slot.top, sum: slot.sum });
            }
        }
        changes
    }

    pub(super) fn push(&mut self, op: Op) -> Result<(), ReadError> {
        self.push_on(op, None)
    }

    /// Applies and appends an operation on a key of which it is known whether it exists.
    pub(super) fn push_on(&mut self, op: Op, existed: Option<bool>) -> Result<(), ReadError> {
        self.push_seen(op, existed, Vec::new())
    }

    /// The same, of one that replaces rows which were just read.
    fn push_seen(
        &mut self,
        op: Op,
        existed: Option<bool>,
        read: Vec<(Dot, Payload)>,
    ) -> Result<(), ReadError> {
        let dot = self.frame.next_dot();
        apply_known(self.draft, self.frame.header(), (dot, &op), existed, read)?;
        self.frame.push(op);
        Ok(())
    }
}
