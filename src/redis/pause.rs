//! CLIENT PAUSE: lets the commands of all clients of this port wait.
//!
//! What peers send goes on, and so do the watches of clients. A command that waits is executed when the pause is over.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::call::Arguments;
use super::decoder::Command;
use super::errors;
use super::reply::Reply;
use super::session::Session;
use super::table::{Other, Run, Spec};

/// The longest pause: more is taken as this, for there is no later moment on some clocks.
const PAUSE_MAX: Duration = Duration::from_hours(24 * 365);

/// The pause that all clients share, if there is one.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// Says that there is none without a look at what it would be.
    may_be_on: AtomicBool,
    paused: Mutex<Option<Paused>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Paused {
    until: Instant,
    /// Whether reading goes on.
    is_of_writes: bool,
}

impl Pause {
    /// Whether a command has to wait now.
    pub(super) fn holds(&self, is_write: bool) -> bool {
        self.may_be_on.load(Ordering::Acquire) && self.until(is_write).is_some()
    }

    /// When a command is to be executed, if it has to wait.
    fn until(&self, is_write: bool) -> Option<Instant> {
        let paused = (*self.paused.lock().expect("no holder of the lock panics"))?;
        (paused.until > Instant::now() && (is_write || !paused.is_of_writes)).then_some(paused.until)
    }

    /// Ends when a command need not wait any more.
    pub(super) async fn over(&self, is_write: bool) {
        loop {
            // It is told of what changes from here on.
            let changed = self.changed.notified();
            let Some(until) = self.until(is_write) else { return };
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn set(&self, paused: Option<Paused>) {
        *self.paused.lock().expect("no holder of the lock panics") = paused;
        self.may_be_on.store(paused.is_some(), Ordering::Release);
        self.changed.notify_waiters();
    }

    /// `CLIENT PAUSE milliseconds [WRITE | ALL]`, in place of a pause that there is.
    pub(super) fn begin(&self, mut arguments: Arguments) -> Result<Reply, Reply> {
        let timeout = errors::integer(&arguments.take());
        let timeout =
            timeout.map_err(|_| errors::constant("ERR timeout is not an integer or out of range"))?;
        let ms = u64::try_from(timeout).map_err(|_| errors::constant("ERR timeout is negative"))?;
        let is_of_writes = match arguments.next().map(|mode| mode.to_ascii_lowercase()).as_deref() {
            None | Some(b"all") => false,
            Some(b"write") => true,
            Some(_) => return Err(errors::constant("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        };
        let until = Instant::now() + Duration::from_millis(ms).min(PAUSE_MAX);
        self.set(Some(Paused { until, is_of_writes }));
        Ok(Reply::OK)
    }

    /// `CLIENT UNPAUSE`
    pub(super) fn end(&self) -> Reply {
        self.set(None);
        Reply::OK
    }
}

impl<B> Session<B> {
    /// Whether a command has to wait while clients are paused. One that is queued does not, and CLIENT can end the pause.
    pub(super) fn is_paused(&self, command: &Command) -> Option<bool> {
        let spec = Spec::find(command.arguments.first()?)?;
        let is_write = match (&self.transaction, spec.run) {
            (Some(transaction), Run::Other(Other::Exec)) => transaction.has_write(),
            (_, Run::Other(Other::Client)) | (Some(_), _) => return None,
            (None, _) => spec.flags.contains(&"write"),
        };
        self.shared.pause.holds(is_write).then_some(is_write)
    }
}
