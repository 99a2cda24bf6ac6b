//! Bringing rows to the end of the log: its records are applied as when they were first committed.
//!
//! The log was checked when its records were committed, so one that does not decode is damage. Bytes from
//! the disk never panic here, even if they were changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelock_engine::apply::{apply_again, apply_install};
use tidelock_engine::causality::Hlc;
use tidelock_engine::draft::{Changes, Draft};
use tidelock_engine::frame::{Frame, FrameHeader};
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::ports::{LogEnd, LogEntry, LogPosition, LogRecord, ReadError, Rows};

use crate::log::{LogFile, damaged};
use crate::names::Names;
use crate::open::OpenError;
use crate::published::Recorded;
use crate::store::Shared;

/// The records that are applied as one commit.
const RECORDS_PER_CHUNK: u64 = 64;

/// The bytes of them, unless one has more.
const BYTES_PER_CHUNK: usize = 4 << 20;

/// A record, decoded.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Frame(Frame),
    Install(Install),
}

impl Record {
    pub(crate) fn keyspace(&self) -> KeyspaceId {
        match self {
            Self::Frame(frame) => frame.header().keyspace,
            Self::Install(install) => install.keyspace,
        }
    }

    fn recorded(&self) -> Recorded<'_> {
        match self {
            Self::Frame(frame) => Recorded::Frame(frame),
            Self::Install(install) => Recorded::Install(install),
        }
    }
}

/// Applies what the rows lack up to `end`, and takes over the clock.
pub(crate) fn replay(shared: &Shared, end: (LogEnd, Hlc)) -> Result<(), OpenError> {
    let (last, clock) = (end.0.position, end.1);
    let started_at = shared.published().position;
    loop {
        let at = shared.published().position;
        if at == last {
            break;
        }
        let until = last.0.min(at.0 + RECORDS_PER_CHUNK);
        let (mut records, until) = records(&shared.log, (at.0 + 1, until), &shared.view().names)?;
        skip_frames_of_partial_spaces(&mut records, shared.published().partial_spaces());
        let seq = |space, author| shared.published().seq(space, author);
        let changes = apply(&shared.view(), seq, &records)?;
        make_visible(shared, &records, &changes, LogEnd { position: until, ..end.0 });
        shared.wait_for_room()?;
    }
    {
        let mut published = shared.published_mut();
        (published.clock, published.total_bytes) = (clock, end.0.total_bytes);
    }
    if started_at < last {
        tracing::info!(from = started_at.0, to = last.0, "records of the log were applied again");
    }
    Ok(())
}

/// Where rows are those of no version vector, the records before these are gone, and what a frame changed with them.
fn skip_frames_of_partial_spaces(records: &mut Vec<Record>, mut partial: BTreeSet<KeyspaceId>) {
    records.retain(|record| match record {
        Record::Frame(frame) => !partial.contains(&frame.header().keyspace),
        Record::Install(install) => {
            if install.heads.is_some() {
                partial.remove(&install.keyspace);
            } else {
                partial.insert(install.keyspace);
            }
            true
        }
    });
}

/// Applies records over `rows`, which stand at `seq` of each author.
pub(crate) fn apply(
    rows: &dyn Rows,
    seq: impl Fn(KeyspaceId, ReplicaId) -> u64,
    records: &[Record],
) -> Result<Changes, ReadError> {
    let mut draft = Draft::over(rows);
    let mut applied = BTreeMap::new();
    for record in records {
        match record {
            Record::Frame(frame) => {
                let FrameHeader { keyspace, author, .. } = *frame.header();
                let seq = applied.entry((keyspace, author)).or_insert_with(|| seq(keyspace, author));
                // It may have come with state that holds its effects already.
                apply_again(&mut draft, frame, *seq)?;
                *seq = frame.header().last();
            }
            Record::Install(install) => {
                apply_install(&mut draft, install)?;
                for (author, head) in install.heads.iter().flatten() {
                    applied.insert((install.keyspace, *author), head.seq);
                }
            }
        }
    }
    Ok(draft.into_changes())
}

/// Publishes records that are in the log already.
fn make_visible(shared: &Shared, records: &[Record], changes: &Changes, end: LogEnd) {
    let _writer = shared.writer();
    let (names, states) = {
        let published = shared.published();
        let installs = records.iter().filter_map(|record| match record {
            Record::Install(install) => Some(install),
            Record::Frame(_) => None,
        });
        (Arc::clone(&published.names), published.states_after(changes, installs))
    };
    let update = shared.update(&names, records.iter().map(Record::recorded), changes, states);
    shared.make_visible(update, |published, update| {
        published.publish(update, None, end, Hlc::default());
    });
}

/// The first records at the positions from `first` to `last`, of authors and keyspaces that have names, and up to
/// where these are all. What waits and those of keyspaces that were left are left out.
pub(crate) fn records(
    log: &LogFile,
    (first, last): (u64, u64),
    names: &Names,
) -> Result<(Vec<Record>, LogPosition), OpenError> {
    let records = log.records(first..=last, BYTES_PER_CHUNK)?;
    let until = records.last().map_or(LogPosition(last), |record| record.position);
    let decoded = records.iter().map(|record| decode(record, names));
    let records: Result<_, OpenError> = decoded.filter_map(Result::transpose).collect();
    Ok((records?, until))
}

/// The record; `None` if its keyspace was left.
fn decode(record: &LogRecord, names: &Names) -> Result<Option<Record>, OpenError> {
    let is_known = |author: &ReplicaId| names.author(*author).is_some();
    let (record, are_known) = match &record.entry {
        LogEntry::Frame(bytes) => {
            let frame = Frame::decode(bytes)
                .map_err(|source| OpenError::Frame { position: record.position.0, source })?;
            let author = frame.header().author;
            (Record::Frame(frame), is_known(&author))
        }
        LogEntry::Install(bytes) => {
            let install = Install::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
            let of_rows = install.rows.iter().map(|(row, _)| &row.dot.replica);
            let of_heads = install.heads.iter().flatten().map(|(author, _)| author);
            let are_known = of_rows.chain(of_heads).all(is_known);
            (Record::Install(install), are_known)
        }
        LogEntry::Staged(_) | LogEntry::Dropped => return Ok(None),
    };
    if names.is_dropping(record.keyspace()) {
        return Ok(None);
    }
    if !are_known || names.keyspace(record.keyspace()).is_none() {
        return Err(damaged("a record of an unknown author or keyspace").into());
    }
    Ok(Some(record))
}
