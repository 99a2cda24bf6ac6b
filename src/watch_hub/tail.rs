//! The end of the log, for those who read it themselves and are told nothing but that it has grown.

use std::sync::Arc;

use tidelock_engine::ports::{LogPosition, ReadError};
use tidelock_store::Reader;
use tokio::sync::watch;

use super::Replays;

/// The log of a node that runs. It keeps the node from nothing: neither from its end nor from a shutdown.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    replays: Arc<Replays>,
    commits: watch::Receiver<LogPosition>,
}

impl Tail {
    /// The log that replays read, and of which the event loop says how far it is.
    pub(crate) fn new(replays: Arc<Replays>, commits: watch::Receiver<LogPosition>) -> Self {
        Self { replays, commits }
    }

    /// What is committed now; `None` once the node was shut down. What is committed later ends [`Tail::grown`].
    pub(crate) fn look(&mut self) -> Option<Reader> {
        self.commits.borrow_and_update();
        self.replays.reader()
    }

    /// Waits for a commit behind the last look; `None` once there will be none.
    pub(crate) async fn grown(&mut self) -> Option<()> {
        self.commits.changed().await.ok()
    }

    /// Reads beside the others who replay the log; `None` once the node was shut down.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<Result<T, ReadError>> {
        Arc::clone(&self.replays).read(read).await
    }
}
