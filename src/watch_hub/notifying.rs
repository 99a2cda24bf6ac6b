//! What a turn did to keys, for keyspace notifications.

use tidelock_engine::crdt::KeyView;
use tidelock_engine::draft::Changes;
use tidelock_engine::id::KeyspaceId;
use tidelock_engine::ports::{ReadError, Rows};
use tidelock_engine::row::{Kind, Payload};

use crate::pubsub::Keys;
use crate::watch::Change;

/// The keys of which a reader sees something else, or whose deadline was touched.
pub(super) fn touched(
    rows: &dyn Rows,
    changes: &Changes,
    seen: &[(KeyspaceId, Change)],
) -> Result<Keys, ReadError> {
    let mut keys = Keys::new();
    for (keyspace, change) in seen {
        keys.entry((*keyspace, change.key.clone())).or_default().0.note(change);
    }
    let deadline_of = |payload: &Option<Payload>| match payload {
        Some(Payload::Deadline(unix_ms)) => Some(*unix_ms),
        _ => None,
    };
    for ((keyspace, row), change) in &changes.rows {
        if row.kind == Kind::Deadline {
            let (touched, _) = keys.entry((*keyspace, row.key.clone())).or_default();
            let (before, after) = touched.deadline.unwrap_or_default();
            // Of several the latest counts.
            touched.deadline =
                Some((before.max(deadline_of(&change.before)), after.max(deadline_of(&change.after))));
        }
    }
    for ((keyspace, key), (touched, is_gone)) in &mut keys {
        if touched.may_be_gone() {
            *is_gone = KeyView::read_all(rows, *keyspace, key)?.visible().is_none();
        }
    }
    Ok(keys)
}
