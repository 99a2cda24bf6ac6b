//! How the event loop's end becomes known, whether it was asked for or is our defect.
//!
//! Whoever waits for the loop is answered, nobody can hand it more, and the node's status says that it does
//! not write. A node whose loop has panicked goes on reading; only a restart makes it write again.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use thiserror::Error;
use tidelock_engine::replica::Report;
use tidelock_engine::request::{RequestError, RequestReply};
use tokio::sync::watch;

use crate::node::mailbox::Mailbox;

/// What is known of a request that the loop had taken when it panicked.
const UNKNOWN: &str = "the event loop panicked, so it is unknown whether this was done; restart the node";

/// The node's event loop ended with a panic, which is a defect of tidelock. What was acknowledged is on disk;
/// the node answers reads and refuses writes until it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the event loop ended with a panic; what was acknowledged is on disk, restart the node")]
pub struct LoopPanicked;

/// How the loop ended; `None` while it runs.
pub(super) type End = Option<Result<(), LoopPanicked>>;

/// Belongs to the loop; when it is dropped, the loop has ended, one way or the other.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) report: Arc<Mutex<Arc<Report>>>,
    pub(super) end: watch::Sender<End>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = if thread::panicking() { Err(LoopPanicked) } else { Ok(()) };
        if let Err(error) = end {
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut report).failed = Some(error.to_string());
        }
        self.mailbox.abandon();
        self.end.send_replace(Some(end));
    }
}

/// Returns when the loop has ended, and how.
pub(super) async fn ended(mut end: watch::Receiver<End>) -> Result<(), LoopPanicked> {
    match end.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(end)) => *end,
        // It cannot go without saying how.
        Ok(None) | Err(_) => Err(LoopPanicked),
    }
}

/// The answer to a request that the loop had taken and never answered.
pub(super) fn unknown() -> RequestReply {
    Err(RequestError::Commit(UNKNOWN.to_owned()))
}
