//! The connection of one client: reads what the socket has, lets the session execute it, writes the replies.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::auth;
use super::backend::{Backend, Pushed, WatchStream};
use super::budget::Charge;
use super::channels;
use super::clients::{Buffered, Entered};
use super::decoder::{Command, Decoder};
use super::output::{Failure, Output, RELIEVE_BYTES};
use super::reply::Reply;
use super::session::{Flow, Session};
use super::state::Shared;
use super::watching;

/// What one read takes from a socket at most, in bytes. It bounds the commands of one burst.
const READ_BYTES_MAX: usize = 64 << 10;

/// What a client may have sent, in bytes, before it said the password: more than one read brings.
const STRANGER_BYTES_MAX: usize = 256 << 10;

/// How long a client that is closed may take to read its last replies.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// A client that waits for longer is looked after now and then: it may be gone.
const LONG_WAIT: Duration = Duration::from_mins(1);

/// How often it is looked after.
const LOOKED_AFTER: Duration = Duration::from_secs(1);

thread_local! {
    // Read buffers are needed only between a read and its decoding, where nothing is awaited.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its last replies are still to be written.
    Close,
    /// At once.
    Drop,
}

/// Serves a client until it leaves, does what it must not, or the server stops.
pub(super) async fn serve<B: Backend>(
    stream: TcpStream,
    session: Session<B>,
    entered: Entered,
    stop: watch::Receiver<()>,
) {
    let shared = entered.shared();
    let id = session.state.id;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(client = id, %error, "the client was gone before it was served");
        return;
    }
    let mut out = Output::new(&stream, shared);
    let mut client = Client {
        stream: &stream,
        session,
        stop,
        decoder: Decoder::new(&shared.config),
        commands: VecDeque::new(),
        refusal: None,
        input: Charge::new(&shared.input),
        watch: None,
    };
    let end = client.serve(shared, &mut out).await;
    match out.failure() {
        Some(failure @ (Failure::TooSlow | Failure::AllTooSlow)) => {
            shared.clients_closed_slow.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(client = id, ?failure, "closed a client that does not read its replies");
        }
        Some(Failure::Gone) => {}
        None if entered.client.is_killed() => {}
        None if end == End::Close => out.finish(LAST_REPLIES).await,
        None => tracing::warn!(client = id, "closed a connection that spoke HTTP"),
    }
}

struct Client<'a, B: Backend> {
    stream: &'a TcpStream,
    session: Session<B>,
    stop: watch::Receiver<()>,
    decoder: Decoder,
    commands: VecDeque<Command>,
    /// What is answered behind the commands, before the connection is closed.
    refusal: Option<Reply>,
    input: Charge,
    watch: Option<B::Watch>,
}

impl<B: Backend> Client<'_, B> {
    async fn serve(&mut self, shared: &Shared, out: &mut Output<'_>) -> End {
        loop {
            let is_open = match self.read() {
                Ok(count) => count > 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                Err(_) => return End::Close,
            };
            self.charge(shared);
            shared.commands.fetch_add(self.commands.len() as u64, Ordering::Relaxed);
            if let Some(end) = self.execute(shared, out).await {
                return end;
            }
            let input_bytes = self.charge(shared);
            if let Some(refusal) = self.refusal.take() {
                shared.clients_malformed.fetch_add(1, Ordering::Relaxed);
                self.answer(&refusal, out);
                return End::Close;
            }
            self.session.push_invalidations(RELIEVE_BYTES, out);
            out.write();
            self.session.show(Buffered { input_bytes, output_bytes: out.len() });
            if out.failure().is_some() || !is_open || !self.rest(out).await {
                return End::Close;
            }
        }
    }

    /// Takes what the socket has, and decodes it.
    fn read(&mut self) -> io::Result<usize> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let count = self.stream.try_read(buffer)?;
            let mut input = &buffer[..count];
            loop {
                match self.decoder.decode(&mut input) {
                    Ok(Some(command)) => self.commands.push_back(command),
                    Ok(None) => return Ok(count),
                    Err(error) => {
                        self.refusal = Some(Reply::error(format!("ERR {error}")));
                        return Ok(count);
                    }
                }
            }
        })
    }

    /// Counts what the client holds. Beyond the bound of all clients, its commands are forgotten.
    fn charge(&mut self, shared: &Shared) -> usize {
        let decoded: usize = self.commands.iter().map(|command| command.bytes).sum();
        let held = decoded + self.decoder.held_bytes() + self.session.held_bytes();
        if !self.session.state.is_authenticated && held > STRANGER_BYTES_MAX {
            self.commands.clear();
            self.refusal = Some(auth::REQUIRED);
        }
        if !self.input.set(held) {
            self.commands.clear();
            let bytes_max = shared.config.input_bytes_max;
            let text = format!("ERR all clients together hold more than {bytes_max} bytes of commands");
            self.refusal = Some(Reply::error(text));
        }
        held
    }

    /// Writes a reply that is not one of a burst.
    fn answer(&self, reply: &Reply, out: &mut Output<'_>) {
        if !self.session.state.replies.is_muted() {
            out.push(reply, self.session.state.protocol);
        }
    }

    /// Executes the decoded commands.
    async fn execute(&mut self, shared: &Shared, out: &mut Output<'_>) -> Option<End> {
        let (started, mut waited) = (Instant::now(), Duration::ZERO);
        while let Some(command) = self.commands.pop_front() {
            if let Some(is_write) = self.session.is_paused(&command) {
                let paused = Instant::now();
                self.session.flush(out).await;
                out.write();
                if self.until_ended(shared.pause.over(is_write), true).await.is_none() {
                    return Some(End::Close);
                }
                waited += paused.elapsed();
            }
            match self.session.run(command, out).await {
                Flow::Continue => {}
                Flow::Close => {
                    self.session.flush(out).await;
                    return Some(End::Close);
                }
                Flow::Drop => return Some(End::Drop),
                Flow::Watch(watch) => self.watch = Some(watch),
                Flow::Unwatch => self.watch = None,
                Flow::Wait { peers, timeout } => {
                    out.write();
                    let waiting = Instant::now();
                    match self.wait(peers, timeout).await {
                        Some(count) => self.answer(&Reply::count(count), out),
                        None => return Some(End::Close),
                    }
                    waited += waiting.elapsed();
                }
            }
            if out.failure().is_some() || self.session.client.is_killed() {
                return Some(End::Close);
            }
        }
        self.session.flush(out).await;
        let duration = started.elapsed();
        let taken = u32::try_from(self.session.taken.len()).unwrap_or(u32::MAX).max(1);
        for same in self.session.taken.chunk_by(|a, b| a.name == b.name) {
            shared.metrics.executed(same[0].name, same.len(), (duration, duration / taken));
        }
        self.session.taken.clear();
        self.session.note_slow(duration.saturating_sub(waited) / taken);
        None
    }

    /// Waits for peers; `None` when the client is gone or the server stops.
    async fn wait(&mut self, peers: usize, duration: Option<Duration>) -> Option<usize> {
        let keyspace = self.session.state.keyspace.clone();
        let backend = self.session.backend.clone();
        let is_long = duration.is_none_or(|duration| duration > LONG_WAIT);
        self.until_ended(backend.wait(&keyspace, peers, duration), is_long).await
    }

    /// Waits for something; `None` when the client is gone or the server stops.
    async fn until_ended<T>(&mut self, what: impl Future<Output = T>, is_long: bool) -> Option<T> {
        self.session.state.is_waiting = true;
        self.session.show(Buffered::default());
        let done = tokio::select! {
            done = what => Some(done),
            () = self.session.client.killed() => None,
            () = hung_up(self.stream), if is_long => None,
            _ = self.stop.changed() => None,
        };
        self.session.state.is_waiting = false;
        done
    }

    /// Waits until there is something to do; answers whether there is. A watcher that does not read is not
    /// pushed more, so that the node can tell it that it lags.
    async fn rest(&mut self, out: &mut Output<'_>) -> bool {
        let has_room = out.len() < RELIEVE_BYTES;
        tokio::select! {
            readable = self.stream.readable() => readable.is_ok(),
            writable = self.stream.writable(), if out.len() > 0 => writable.is_ok(),
            () = channels::told(self.session.subscriber.as_ref(), has_room) => {
                self.session.push_messages(RELIEVE_BYTES, out);
                true
            }
            () = self.session.client.inbox.told(), if has_room => {
                self.session.push_invalidations(RELIEVE_BYTES, out);
                true
            }
            event = next_event(&mut self.watch), if has_room => {
                if let Some(event) = &event {
                    out.push(&watching::pushed(event), self.session.state.protocol);
                }
                event.is_some()
            }
            () = self.session.client.killed() => false,
            _ = self.stop.changed() => false,
        }
    }
}

async fn next_event<W: WatchStream>(watch: &mut Option<W>) -> Option<Pushed> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// Ends when the client has closed its side. A client that waits for long has no reason to.
async fn hung_up(stream: &TcpStream) {
    let mut ticks = interval(LOOKED_AFTER);
    loop {
        ticks.tick().await;
        // Unread bytes make the socket readable at once, so its readiness is looked at and not waited for.
        if let Ok(Ok(ready)) = timeout(Duration::ZERO, stream.ready(Interest::READABLE)).await
            && ready.is_read_closed()
        {
            return;
        }
    }
}
