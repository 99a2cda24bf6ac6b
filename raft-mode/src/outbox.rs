//! What the driver polls, and who waits for what it reports.
//!
//! The queue is bounded by what fills it. Messages are dropped beyond [`SENDS_BYTES_MAX`], as a network may drop them.
//! Writes come from proposals and received entries, whose number and bytes are bounded where they come in; of the
//! others there is at most one at a time, or one for each request that is open.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Mutex;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    Committed, DriverError, LogIndex, MessageClass, Output, RaftWrite, Status, Token,
};
use tokio::sync::oneshot;

use crate::runtime::lock;
use crate::types::Types;

/// The bytes of messages that wait for a poll, at most. More are dropped and counted.
pub(crate) const SENDS_BYTES_MAX: usize = 64 << 20;

/// Who waits for a write to be durable.
pub(crate) enum Writer {
    /// Entries: openraft goes on and is told, and so is the log, which need not keep them in memory any more.
    Log { flushed: openraft::storage::IOFlushed<Types>, durable: Box<dyn FnOnce() + Send> },
    /// A vote: openraft waits.
    Vote(oneshot::Sender<io::Result<()>>),
    /// Nobody: what comes after it is durable only if it is.
    Nobody,
}

impl Writer {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Log { flushed, durable } => {
                if result.is_ok() {
                    durable();
                }
                flushed.io_completed(result);
            }
            Self::Vote(sender) => drop(sender.send(result)),
            Self::Nobody => (),
        }
    }
}

/// A report that carries bytes: replies, or a snapshot.
type Reported<T> = oneshot::Sender<Result<T, DriverError>>;

/// What the driver polls, and who waits for what it reports.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    outputs: Vec<Output>,
    status: Option<Status>,
    sends_bytes: usize,
    next_token: u64,
    writers: BTreeMap<Token, Writer>,
    appliers: BTreeMap<Token, Reported<Vec<Vec<u8>>>>,
    builders: BTreeMap<Token, Reported<Vec<u8>>>,
    installers: BTreeMap<Token, Reported<()>>,
    /// Why nothing is taken any more.
    failed: Option<String>,
}

impl Queue {
    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }
}

impl Outbox {
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue: Mutex::default(), wake }
    }

    /// Adds an output that nobody waits for.
    pub(crate) fn push(&self, output: Output) {
        lock(&self.queue).outputs.push(output);
        (self.wake)();
    }

    /// Adds a message, or drops it and says so.
    pub(crate) fn send(&self, to: PeerId, class: MessageClass, bytes: Vec<u8>) -> bool {
        {
            let mut queue = lock(&self.queue);
            if queue.sends_bytes + bytes.len() > SENDS_BYTES_MAX {
                return false;
            }
            queue.sends_bytes += bytes.len();
            queue.outputs.push(Output::Send { to, class, bytes });
        }
        (self.wake)();
        true
    }

    /// Puts the newest status in the place of an older one that was not polled.
    pub(crate) fn status(&self, status: Status, is_urgent: bool) {
        lock(&self.queue).status = Some(status);
        if is_urgent {
            (self.wake)();
        }
    }

    /// Asks for a write. Fails if an earlier one did.
    pub(crate) fn write(&self, writes: Vec<RaftWrite>, waiting: Writer) -> io::Result<()> {
        {
            let mut queue = lock(&self.queue);
            if let Some(reason) = &queue.failed {
                return Err(io::Error::other(reason.clone()));
            }
            let token = queue.token();
            queue.writers.insert(token, waiting);
            queue.outputs.push(Output::Write { token, writes });
        }
        (self.wake)();
        Ok(())
    }

    /// Asks for something that is answered by one report.
    async fn ask<T>(
        &self,
        waiting: impl FnOnce(&mut Queue) -> &mut BTreeMap<Token, Reported<T>>,
        output: impl FnOnce(Token) -> Output,
    ) -> io::Result<T> {
        let receiver = {
            let mut queue = lock(&self.queue);
            if let Some(reason) = &queue.failed {
                return Err(io::Error::other(reason.clone()));
            }
            let token = queue.token();
            let (sender, receiver) = oneshot::channel();
            waiting(&mut queue).insert(token, sender);
            queue.outputs.push(output(token));
            receiver
        };
        (self.wake)();
        match receiver.await {
            Ok(result) => result.map_err(io::Error::other),
            Err(_) => Err(io::Error::other("the group stopped")),
        }
    }

    /// Has entries applied.
    pub(crate) async fn apply(&self, entries: Vec<Committed>, record: Vec<u8>) -> io::Result<Vec<Vec<u8>>> {
        self.ask(|queue| &mut queue.appliers, |token| Output::Apply { token, entries, record }).await
    }

    /// Has a snapshot installed.
    pub(crate) async fn install(&self, bytes: Vec<u8>, record: Vec<u8>) -> io::Result<()> {
        self.ask(|queue| &mut queue.installers, |token| Output::InstallSnapshot { token, bytes, record })
            .await
    }

    /// Has a snapshot built of the state as it is behind all outputs so far, with the log applied up to an entry.
    pub(crate) async fn build(&self, applied: Option<LogIndex>) -> io::Result<Vec<u8>> {
        self.ask(|queue| &mut queue.builders, |token| Output::BuildSnapshot { token, applied }).await
    }

    /// Takes all outputs.
    pub(crate) fn poll(&self) -> Vec<Output> {
        let mut queue = lock(&self.queue);
        queue.sends_bytes = 0;
        let mut outputs = mem::take(&mut queue.outputs);
        outputs.extend(queue.status.take().map(Output::Status));
        outputs
    }

    /// Tells whoever waits for a write. A failure fails all later ones too: what is behind a hole is not there.
    pub(crate) fn written(&self, token: Token, result: Result<(), DriverError>) -> Result<(), String> {
        let writer = {
            let mut queue = lock(&self.queue);
            let writer = queue.writers.remove(&token);
            match (&queue.failed, result) {
                (None, Ok(())) => {
                    drop(queue);
                    if let Some(writer) = writer {
                        writer.tell(Ok(()));
                    }
                    return Ok(());
                }
                (Some(reason), _) => writer.map(|writer| (writer, reason.clone())),
                (None, Err(error)) => {
                    let reason = format!("writing the log failed: {error}");
                    queue.failed = Some(reason.clone());
                    writer.map(|writer| (writer, reason))
                }
            }
        };
        match writer {
            Some((writer, reason)) => {
                writer.tell(Err(io::Error::other(reason.clone())));
                Err(reason)
            }
            None => Err("writing the log failed".to_owned()),
        }
    }

    pub(crate) fn applied(&self, token: Token, result: Result<Vec<Vec<u8>>, DriverError>) {
        let waiting = lock(&self.queue).appliers.remove(&token);
        waiting.map(|waiting| waiting.send(result).ok());
    }

    pub(crate) fn snapshot_built(&self, token: Token, result: Result<Vec<u8>, DriverError>) {
        let waiting = lock(&self.queue).builders.remove(&token);
        waiting.map(|waiting| waiting.send(result).ok());
    }

    pub(crate) fn installed(&self, token: Token, result: Result<(), DriverError>) {
        let waiting = lock(&self.queue).installers.remove(&token);
        waiting.map(|waiting| waiting.send(result).ok());
    }

    /// Fails everybody who waits, and whoever comes.
    pub(crate) fn fail(&self, reason: &str) {
        let writers = {
            let mut queue = lock(&self.queue);
            queue.failed.get_or_insert_with(|| reason.to_owned());
            queue.appliers.clear();
            queue.builders.clear();
            queue.installers.clear();
            mem::take(&mut queue.writers)
        };
        writers.into_values().for_each(|writer| writer.tell(Err(io::Error::other(reason.to_owned()))));
    }
}
