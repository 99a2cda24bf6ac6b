//! Finding what differs: ranges are compared by fingerprints, and those that differ are split until they are short
//! enough to be told row by row.

use std::collections::BTreeMap;

use crate::id::KeyspaceId;
use crate::install::{Install, RowList};
use crate::message::{Message, PartRows, RANGES_MAX, RangeAsk, RangePart, StateHead};
use crate::ports::{ReadError, SessionId};
use crate::ranges::{Edge, Print, Range, RangeIndex};
use crate::replica::{Replica, Step, View};
use crate::row::{Payload, RowId};

use super::repair::Differing;
use super::sink::{Failure, Sink, Way, bytes};

/// The ranges that are still to be compared, at most: an honest source leads to some thousands.
const OPEN_MAX: usize = 1 << 16;

impl Replica {
    /// Asks for the next ranges, or, when there are no more, for the frames that came meanwhile. A repair is done
    /// then.
    pub(super) fn ask_on(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        mut sink: Sink,
        view: &View<'_, '_>,
        step: &mut Step,
    ) -> Result<Option<Sink>, Failure> {
        if sink.open.is_empty() {
            if let Way::Repair { .. } = sink.way {
                step.sends.push((session, Message::EndTake { keyspace: id }));
                self.counters.count("repairs_done");
                return Ok(None);
            }
            step.sends.push((session, Message::Tail { keyspace: id, after: sink.position.0 }));
            return Ok(Some(sink));
        }
        let mut index = self.take_ranges(id);
        let count = sink.open.len().min(RANGES_MAX);
        sink.asked = sink.open.drain(..count).collect();
        let asks = sink.asked.iter().map(|range| {
            let print = index.print(view.draft, id, range)?;
            Ok(RangeAsk { range: range.clone(), print })
        });
        let asks: Result<Vec<RangeAsk>, ReadError> = asks.collect();
        self.keyspaces.get_mut(&id).expect("looked up before").ranges = Some(index);
        step.sends.push((session, Message::Compare { keyspace: id, asks: asks? }));
        Ok(Some(sink))
    }

    pub(super) fn compared(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        heads: &[StateHead],
        parts: Vec<RangePart>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(mut sink) = self.sink(session, id) else { return };
        let heard = self.hear(id, &mut sink, heads);
        let sink = heard.and_then(|()| self.take_parts(id, &mut sink, parts, view, step)).map(|()| sink);
        let sink = sink.and_then(|sink| {
            // Rows that were taken into the draft are not what the fingerprints follow; they are compared later.
            self.ask_on(session, id, sink, view, step)
        });
        self.put_sink(session, id, sink, step);
    }

    fn take_parts(
        &mut self,
        id: KeyspaceId,
        sink: &mut Sink,
        parts: Vec<RangePart>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let mut index = self.take_ranges(id);
        let mut changes = Vec::new();
        let mut result = Ok(());
        for RangePart { range, rows } in parts {
            let asked = sink.asked.iter().position(|asked| *asked == range);
            let Some(asked) = asked else {
                result = Err(Failure::Lie("a range that was not asked for"));
                break;
            };
            sink.asked.remove(asked);
            result = match rows {
                PartRows::Equal => Ok(()),
                PartRows::Split(parts) => split(&mut index, id, sink, &range, parts, view),
                PartRows::Rows(list) => self.take_rows(id, sink, &range, list, &mut changes, view),
            };
            if result.is_err() {
                break;
            }
        }
        self.keyspaces.get_mut(&id).expect("looked up before").ranges = Some(index);
        result?;
        for range in std::mem::take(&mut sink.asked).into_iter().rev() {
            sink.open.push_front(range);
        }
        self.spill_if_large(id, sink, view, step);
        if changes.is_empty() {
            return Ok(());
        }
        changes.sort_by(|(a, _), (b, _): &(RowId, _)| a.cmp(b));
        match sink.way {
            Way::Repair { .. } => self.repair(id, sink, changes, view, step),
            // Without heads the keyspace is partial from now on.
            _ => self.install(Install { keyspace: id, rows: changes, heads: None }, &sink.cards, view, step),
        }
    }

    /// Takes in the rows of a range: to be merged at the end, or at once where nothing here counts.
    fn take_rows(
        &self,
        id: KeyspaceId,
        sink: &mut Sink,
        range: &Range,
        list: RowList,
        changes: &mut Vec<(RowId, Option<Payload>)>,
        view: &View<'_, '_>,
    ) -> Result<(), Failure> {
        let rows = list.read().map_err(|_| Failure::Lie("rows that are none"))?;
        let mut theirs = BTreeMap::new();
        for (row, payload) in rows {
            let payload = payload.ok_or(Failure::Lie("a row without a payload"))?;
            if !range.contains(&row) || !sink.vector.covers(row.dot) {
                return Err(Failure::Lie("a row that cannot be there"));
            }
            theirs.insert(row, payload);
        }
        let mut mine = Vec::new();
        range.visit_all(view.draft, id, &mut |row, payload| mine.push((row, payload)))?;
        if let Way::Repair { takes_theirs } = sink.way {
            changes.extend(self.repairs_of(id, &sink.vector, takes_theirs, Differing { mine, theirs }));
            return Ok(());
        }
        let is_mirror = sink.way == Way::Mirror;
        for (row, payload) in mine {
            match theirs.remove(&row) {
                Some(other) if other == payload => {}
                Some(other) if is_mirror => changes.push((row, Some(other))),
                Some(Payload::Slot(slot)) => sink.stage(row, Some(Payload::Slot(slot))),
                // Of one row with two contents, which only a liar makes, all take the same.
                Some(other) if bytes(&other) > bytes(&payload) => sink.stage(row, Some(other)),
                None if is_mirror => changes.push((row, None)),
                None if sink.vector.covers(row.dot) => sink.stage(row, None),
                _ => {}
            }
        }
        let heads = &self.keyspaces[&id].heads;
        for (row, payload) in theirs {
            if is_mirror {
                changes.push((row, Some(payload)));
            } else if !heads.covers(row.dot) {
                sink.stage(row, Some(payload));
            }
        }
        Ok(())
    }
}

/// Takes in how the source splits a range: what differs in it is asked for.
fn split(
    index: &mut RangeIndex,
    id: KeyspaceId,
    sink: &mut Sink,
    range: &Range,
    parts: Vec<(Edge, Print)>,
    view: &View<'_, '_>,
) -> Result<(), Failure> {
    let mut from = range.from.clone();
    let is_whole = parts.len() > 1 && parts.last().is_some_and(|(to, _)| *to == range.to);
    if !is_whole {
        return Err(Failure::Lie("a range that is split into another"));
    }
    let mut differing = Vec::new();
    for (to, theirs) in parts {
        let part = Range { from, to: to.clone() };
        if !part.is_valid() || (to.is_none() && range.to.is_some()) {
            return Err(Failure::Lie("a range that is split into another"));
        }
        if index.print(view.draft, id, &part)? != theirs {
            differing.push(part);
        }
        from = to;
    }
    // Depth first, so that few ranges are open at once however many differ.
    differing.into_iter().rev().for_each(|part| sink.open.push_front(part));
    if sink.open.len() > OPEN_MAX {
        return Err(Failure::Lie("more ranges than there can be"));
    }
    Ok(())
}
