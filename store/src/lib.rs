//! The durable store of tidelock: frames in `log.redb`, rows in `rows.redb`, and memory between them.
//!
//! The log is the commit point: one sequential append and one sync for all that a turn writes. Rows are what
//! applying the log gives; they wait in a bounded overlay in memory and are written in large sorted batches.
//! Readers see log, overlay and rows as one, at one moment.
//!
//! Where to look: [`RedbStore`] commits, [`Reader`] reads, [`Backup`] and [`restore`](restore()) copy a store,
//! [`check`](check()) verifies one that nobody has open, [`compact`](compact()) makes its files small, [`schema`] says what is in the files, and [`Disk`] is
//! where they are.
//! No type of redb leaves this crate, and nothing here knows a network or an operation's meaning.

mod backend;
mod backup;
mod blocks;
mod check;
mod commit;
mod compact;
mod copying;
mod database;
mod disk;
mod dropping;
mod healing;
mod identity;
mod key;
mod log;
mod mark;
mod materialize;
mod names;
mod open;
mod overlay;
// Only for the fuzz targets: what is in the files is decoded by functions that are private elsewhere.
#[doc(hidden)]
pub mod probe;
mod published;
mod raft;
mod reader;
mod removed;
mod replay;
mod rows;
pub mod schema;
mod store;
mod truncate;
mod view;

pub use backup::reading::{BackupReadError, BackupSummary, inspect};
pub use backup::restoring::{RestoreError, RestoreOptions, RestoreProgress, restore};
pub use backup::{Backup, BackupError, BackupProgress};
pub use check::{CheckError, Finding, Progress, Report, check};
pub use compact::{CompactError, CompactProgress, Compacted, compact};
pub use database::is_guarded;
pub use disk::{Disk, DiskFile, DiskLock, Faults, FileDisk, FileIdentity, LockError, MemDisk};
pub use materialize::Materializer;
pub use open::{MaterializeOptions, OpenError, OpenOptions};
pub use raft::StoredRaftLog;
pub use reader::{KeyspaceSummary, Reader, Snapshot, Stats};
pub use store::RedbStore;
