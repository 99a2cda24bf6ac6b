//! Compacting a node's files while it goes on.

pub use tidelock_store::{CompactError, CompactProgress, Compacted};
use tokio::task::spawn_blocking;

use crate::node::Node;

impl Node {
    /// Gives back what the files of the store do not use, while the node goes on; says now and then how far it is.
    /// It goes on when nobody waits for it any more.
    ///
    /// # Errors
    /// [`CompactError`] says what was done; nothing is lost.
    pub async fn compact(
        &self,
        mut progress: impl FnMut(CompactProgress) + Send + 'static,
    ) -> Result<Vec<Compacted>, CompactError> {
        let reader = self.reader().map_err(|_| CompactError::GivenUp)?;
        let compacted = spawn_blocking(move || reader.compact(&mut progress)).await;
        // The runtime ends, or it panicked; either way the files are as they were.
        compacted.unwrap_or(Err(CompactError::GivenUp))
    }
}
