//! What a reader would see differently: row changes made into changes of texts, elements and fields.

use std::collections::BTreeMap;

use tidelock_engine::crdt::KeyView;
use tidelock_engine::draft::{Changes, Draft, RowChange};
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{ReadError, RowRange, Rows, Within};
use tidelock_engine::read::{score_of, siblings};
use tidelock_engine::row::{Kind, Payload, RowId};

/// A change that a reader can see.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) key: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) subkey: Vec<u8>,
    pub(super) old: Option<Vec<u8>>,
    pub(super) new: Option<Vec<u8>>,
    /// Whose operation it was.
    pub(super) author: ReplicaId,
}

/// A text, an element or a field. A register and a counter under one key are one text.
pub(super) type Group = (KeyspaceId, Vec<u8>, Kind, Vec<u8>);

/// The visible changes of the keys that somebody wants, in order of keyspace and key.
pub(super) fn visible_changes(
    rows: &dyn Rows,
    changes: &Changes,
    is_wanted: &dyn Fn(KeyspaceId, &[u8]) -> bool,
) -> Result<Vec<(KeyspaceId, Seen)>, ReadError> {
    let mut groups: BTreeMap<Group, ReplicaId> = BTreeMap::new();
    let mut undone = Changes::default();
    for ((keyspace, row), change) in &changes.rows {
        if is_wanted(*keyspace, &row.key) {
            groups.insert(group(*keyspace, row), change.author);
            let RowChange { before, after, author } = change.clone();
            let reversed = RowChange { before: after, after: before, author };
            undone.rows.insert((*keyspace, row.clone()), reversed);
        }
    }
    let before = Draft::with(rows, undone);
    let mut seen = Vec::new();
    for (group, author) in groups {
        let (old, new) = (read(&before, &group)?, read(rows, &group)?);
        if old != new || group.2 == Kind::Document {
            let (keyspace, key, kind, subkey) = group;
            seen.push((keyspace, Seen { key, kind, subkey, old, new, author }));
        }
    }
    Ok(seen)
}

/// The text, element or field that a row belongs to.
pub(super) fn group(keyspace: KeyspaceId, row: &RowId) -> Group {
    let kind = if row.kind == Kind::Counter { Kind::Register } else { row.kind };
    (keyspace, row.key.clone(), kind, row.subkey.clone())
}

/// What a reader sees of a group: the text, the field's value, the text of a score, or the element itself.
pub(super) fn read(
    rows: &dyn Rows,
    (keyspace, key, kind, subkey): &Group,
) -> Result<Option<Vec<u8>>, ReadError> {
    match kind {
        // That a key expired is told when it is removed, so until then it is as it was.
        Kind::Register | Kind::Counter => Ok(KeyView::read_all(rows, *keyspace, key)?.text()),
        Kind::Map => {
            let field = siblings(rows, *keyspace, (key, Kind::Map, subkey))?;
            Ok(field.into_iter().next().map(|sibling| sibling.value))
        }
        Kind::Sorted => {
            let scores = siblings(rows, *keyspace, (key, Kind::Sorted, subkey))?;
            Ok(scores.first().map(|sibling| score_of(sibling).to_string().into_bytes()))
        }
        // A document is told to have changed, not what it holds: that takes its worker.
        Kind::Document => {
            let range = RowRange::all(Within::Kind(key.clone(), Kind::Document));
            let mut document = None;
            rows.scan(*keyspace, &range, &mut |_, _| {
                document = Some(Vec::new());
                std::ops::ControlFlow::Break(())
            })?;
            Ok(document)
        }
        Kind::Retired | Kind::Deadline | Kind::Outcome => Ok(None),
        Kind::Set => {
            let within = Within::Group(key.clone(), Kind::Set, subkey.clone());
            let mut element = None;
            rows.scan(*keyspace, &RowRange::all(within), &mut |row, payload| {
                element = (payload == Payload::Member).then_some(row.subkey);
                std::ops::ControlFlow::Break(())
            })?;
            Ok(element)
        }
    }
}
