//! Files that somebody removes while the store has them open.
//!
//! The system keeps such a file until it is closed, so nothing is lost yet, and everything is once the process ends.
//! What the file holds is copied to a new one of its name, just as when it is compacted. A log that cannot be copied
//! takes no more writes: what is acknowledged must be there after a restart.

use crate::compact::{CompactError, Part};
use crate::copying::PIECE_BYTES;
use crate::open::OpenError;
use crate::reader::Reader;
use crate::schema::LOG_FILE;
use crate::store::Shared;

impl Reader {
    /// Writes files again that were removed since they were opened. The background thread does so every few seconds.
    ///
    /// # Errors
    /// [`CompactError`]: a file has no name still. If it is the log, the store is poisoned.
    pub fn put_back_removed(&self) -> Result<(), CompactError> {
        self.shared().put_back_removed()
    }
}

impl Shared {
    /// Writes files again that were removed.
    pub(crate) fn put_back_removed(&self) -> Result<(), CompactError> {
        for part in [Part::Log, Part::Rows] {
            let file = part.file();
            let is_there = self.disk.exists(file).map_err(|source| OpenError::Io { file, source })?;
            if is_there || self.guard.is_frozen() {
                continue;
            }
            tracing::error!(file, "the file was removed; it is written again from what is open");
            match self.compact(part, PIECE_BYTES, &mut |_| std::ops::ControlFlow::Continue(())) {
                // Without one of its own, the compaction that is under way puts it back, or the next look finds it
                // missing still.
                Ok(_) | Err(CompactError::Running | CompactError::GivenUp) => {}
                Err(error) if part == Part::Log => {
                    let text = format!("it was removed, and {error}; export what it holds before it ends");
                    self.guard.freeze(LOG_FILE, std::io::Error::other(text));
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
