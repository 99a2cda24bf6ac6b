//! Verifying a store that no node has open: what is in its files is compared with what it must be.
//!
//! A check changes nothing on the disk, not even what redb would repair. It holds the rows of one replay in
//! memory, so it takes about as much as they do.

mod log;
mod order;
mod raft;
mod rows;

use std::sync::Arc;

use thiserror::Error;
use tidelock_engine::ports::ReadError;

use self::log::LogCheck;
use self::rows::RowsCheck;
use crate::backend::WriteGuard;
use crate::database::Opening;
use crate::disk::{Disk, LockError};
use crate::log::LogFile;
use crate::mark::Mark;
use crate::open::OpenError;
use crate::rows::RowsFile;
use crate::schema::{LOG_FILE, MARK_FILE, ROWS_FILE};

/// What redb may cache of a file while it is checked, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// The findings that are kept; a damaged file would have as many as rows.
const FINDINGS_MAX: usize = 100;

const RUN_FOR_ROWS: &str = "remove rows.redb: the next start makes it again from the log";
const RUN_FOR_LOG: &str =
    "restore the directory from a backup, or start with a new one and let it fetch from the peers";

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub run: &'static str,
}

/// What a check looked at, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The frames in the log.
    pub frames: u64,
    /// The rows in `rows.redb`.
    pub rows: u64,
    /// The keyspaces.
    pub keyspaces: u64,
    /// The bytes of their version vectors in `rows.redb`, keys and checksums included.
    pub vector_bytes: u64,
    /// What is wrong, at most the first 100.
    pub findings: Vec<Finding>,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// redb compares the pages of a file with their checksums.
    Pages {
        /// The file.
        file: &'static str,
    },
    /// Frames are verified and applied.
    Frames {
        /// So many are done.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Rows are read and counted.
    Rows {
        /// So many are done.
        done: u64,
    },
}

/// Why a store could not be checked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A node has it open, or the directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no store.
    #[error("there is no log.redb here, so no store")]
    NoStore,
    /// It was written by a version of tidelock that we do not know, or the disk failed.
    #[error(transparent)]
    Open(OpenError),
}

/// Checks the store on `disk`, and says now and then how far it is.
///
/// # Errors
/// [`CheckError`] when there is nothing that could be checked. Damage is no error but a finding.
pub fn check(disk: &dyn Disk, progress: &mut dyn FnMut(Progress)) -> Result<Report, CheckError> {
    let _lock = disk.lock()?;
    let exists = |file| disk.exists(file).map_err(|source| CheckError::Open(OpenError::Io { file, source }));
    if !exists(LOG_FILE)? {
        return Err(CheckError::NoStore);
    }
    let has_rows = exists(ROWS_FILE)?;
    let mut run = Check { report: Report::default(), progress };
    let Some(log) = run.open_log(&opening(disk, LOG_FILE))? else { return Ok(run.report) };
    let rows = if has_rows { run.open_rows(&opening(disk, ROWS_FILE))? } else { None };
    if exists(MARK_FILE)? {
        let io = |source| CheckError::Open(OpenError::Io { file: MARK_FILE, source });
        let mark = Mark::open(disk).map_err(io)?;
        run.mark(&log, &mark);
    }
    run.files(&log, rows.as_ref());
    Ok(run.report)
}

fn opening<'a>(disk: &'a dyn Disk, name: &'static str) -> Opening<'a> {
    Opening { disk, name, guard: Arc::new(WriteGuard::frozen()), cache_bytes: CACHE_BYTES }
}

/// A check under way.
struct Check<'a> {
    report: Report,
    progress: &'a mut dyn FnMut(Progress),
}

impl Check<'_> {
    fn open_log(&mut self, opening: &Opening<'_>) -> Result<Option<LogFile>, CheckError> {
        let log = self.or_finding(LOG_FILE, LogFile::open(opening))?;
        let Some(mut log) = log else { return Ok(None) };
        (self.progress)(Progress::Pages { file: LOG_FILE });
        let pages = log.file.verify();
        self.pages(LOG_FILE, pages);
        Ok(Some(log))
    }

    fn mark(&mut self, log: &LogFile, mark: &Mark) {
        let (acknowledged, Ok(found)) = (mark.read(), log.reached()) else { return };
        self.expect(acknowledged.position <= found.position, LOG_FILE, || {
            format!(
                "it ends at record {}, and {} were acknowledged",
                found.position.0, acknowledged.position.0
            )
        });
        self.expect(acknowledged.raft_commits <= found.raft_commits, LOG_FILE, || {
            let (found, acknowledged) = (found.raft_commits, acknowledged.raft_commits);
            format!("it holds {found} writes of its Raft group, and {acknowledged} were acknowledged")
        });
    }

    fn open_rows(&mut self, opening: &Opening<'_>) -> Result<Option<RowsFile>, CheckError> {
        let rows = self.or_finding(ROWS_FILE, RowsFile::open(opening))?;
        let Some(mut rows) = rows else { return Ok(None) };
        (self.progress)(Progress::Pages { file: ROWS_FILE });
        let pages = rows.file.verify();
        self.pages(ROWS_FILE, pages);
        Ok(Some(rows))
    }

    /// The log is read once; where the rows stand, what was applied until then is compared with them.
    fn files(&mut self, log: &LogFile, rows: Option<&RowsFile>) {
        let mut log_check = match LogCheck::new(log) {
            Ok(log_check) => log_check,
            Err(error) => return self.damage(LOG_FILE, &error),
        };
        self.report.frames = log_check.held();
        self.report.keyspaces = log_check.names().held().count() as u64;
        if let Some(rows) = rows {
            match RowsCheck::position(rows, &log_check) {
                Ok(position) => {
                    log_check.frames(position, self);
                    RowsCheck::new(&log_check).run(rows, self);
                }
                Err(error) => self.damage(ROWS_FILE, &error),
            }
        }
        let end = log_check.end();
        log_check.frames(end, self);
        log_check.index(self);
        if let Err(error) = raft::check(log, self) {
            self.damage(LOG_FILE, &error);
        }
    }

    /// Damage is a finding; anything else ends the check.
    fn or_finding<T>(
        &mut self,
        file: &'static str,
        opened: Result<T, OpenError>,
    ) -> Result<Option<T>, CheckError> {
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(OpenError::Read(error @ ReadError::Damaged { .. })) => {
                self.damage(file, &error);
                Ok(None)
            }
            Err(error) => Err(CheckError::Open(error)),
        }
    }

    fn pages(&mut self, file: &'static str, verified: Result<bool, ReadError>) {
        match verified {
            Ok(true) => {}
            Ok(false) => self.find(file, "pages do not match their checksums".to_owned()),
            Err(error) => self.damage(file, &error),
        }
    }

    fn damage(&mut self, file: &'static str, error: &ReadError) {
        let what = match error {
            ReadError::Damaged { what, .. } => what.clone(),
            error => error.to_string(),
        };
        self.find(file, what);
    }

    fn find(&mut self, file: &'static str, what: String) {
        if self.report.findings.len() < FINDINGS_MAX {
            let run = if file == LOG_FILE { RUN_FOR_LOG } else { RUN_FOR_ROWS };
            self.report.findings.push(Finding { file, what, run });
        }
    }

    /// Records that something is not so.
    fn expect(&mut self, is_so: bool, file: &'static str, what: impl FnOnce() -> String) {
        if !is_so {
            self.find(file, what());
        }
    }
}
