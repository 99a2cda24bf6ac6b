//! Bringing rows to the end of the log: frames are applied as when they were first committed.
//!
//! The log was checked when its frames were committed, so a frame that does not decode is damage. Bytes from
//! the disk never panic here, even if they were changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelock_engine::apply::apply_frame;
use tidelock_engine::causality::Hlc;
use tidelock_engine::draft::{Changes, Draft};
use tidelock_engine::frame::{Frame, FrameHeader};
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{LogPosition, ReadError, Rows};

use crate::log::{LogFile, LogRecord, damaged};
use crate::names::Names;
use crate::open::OpenError;
use crate::published::Update;
use crate::store::Shared;

/// The frames that are applied as one commit.
const FRAMES_PER_CHUNK: u64 = 64;

/// Applies what the rows lack up to `end`, and takes over the clock.
pub(crate) fn replay(shared: &Shared, end: (LogPosition, Hlc)) -> Result<(), OpenError> {
    let (last, clock) = end;
    let started_at = shared.published().position;
    loop {
        let at = shared.published().position;
        if at == last {
            break;
        }
        let until = last.0.min(at.0 + FRAMES_PER_CHUNK);
        let frames = frames(&shared.log, (at.0 + 1, until), &shared.view().names)?;
        let changes = apply(&shared.view(), |space, author| shared.published().seq(space, author), &frames)?;
        make_visible(shared, &frames, &changes, LogPosition(until));
        shared.wait_for_room()?;
    }
    shared.published_mut().clock = clock;
    if started_at < last {
        tracing::info!(from = started_at.0, to = last.0, "frames of the log were applied again");
    }
    Ok(())
}

/// Applies frames over `rows`, which stand at `seq` of each author.
pub(crate) fn apply(
    rows: &dyn Rows,
    seq: impl Fn(KeyspaceId, ReplicaId) -> u64,
    frames: &[Frame],
) -> Result<Changes, ReadError> {
    let mut draft = Draft::over(rows);
    let mut applied = BTreeMap::new();
    for frame in frames {
        let FrameHeader { keyspace, author, .. } = *frame.header();
        let seq = applied.entry((keyspace, author)).or_insert_with(|| seq(keyspace, author));
        apply_frame(&mut draft, frame, *seq)?;
        *seq = frame.header().last();
    }
    Ok(draft.into_changes())
}

/// Publishes frames that are in the log already.
fn make_visible(shared: &Shared, frames: &[Frame], changes: &Changes, position: LogPosition) {
    let _writer = shared.writer();
    let (names, states) = {
        let published = shared.published();
        (Arc::clone(&published.names), published.states_after(changes))
    };
    let update = Update::new(&names, frames, changes, states);
    shared.make_visible(update, |published, update| {
        published.publish(update, None, position, Hlc::default());
    });
}

/// The frames at the positions from `first` to `last`, of authors and keyspaces that have names.
pub(crate) fn frames(
    log: &LogFile,
    (first, last): (u64, u64),
    names: &Names,
) -> Result<Vec<Frame>, OpenError> {
    let records = log.records(first..=last)?;
    records.into_iter().map(|LogRecord { frame, .. }| decode(&frame.bytes, frame.position, names)).collect()
}

fn decode(bytes: &[u8], position: LogPosition, names: &Names) -> Result<Frame, OpenError> {
    let frame = Frame::decode(bytes).map_err(|source| OpenError::Frame { position: position.0, source })?;
    let header = frame.header();
    if names.keyspace(header.keyspace).is_none() || names.author(header.author).is_none() {
        return Err(damaged("a frame of an unknown author or keyspace").into());
    }
    Ok(frame)
}
