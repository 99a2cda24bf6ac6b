//! The clients that are connected: what others see of each, and the signal that ends one.
//!
//! A client is entered when it is accepted and leaves with its task, so there are as many as the config lets in. What is
//! shown of it was copied by its own task when it had answered what it was sent; nobody looks into a session.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::Notify;

use super::channels::Subscriptions;
use super::reply::Protocol;
use super::state::{KEYSPACE_DEFAULT, SessionState, Shared};
use super::tracking::{Tracks, Which};
use crate::pubsub::Inbox;

/// All clients, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, Arc<Client>>>);

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.lock().get(&id).cloned()
    }

    /// All of them, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// How many wait for peers.
    pub(super) fn waiting(&self) -> usize {
        self.all().iter().filter(|client| client.is_waiting()).count()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

/// A client for as long as it is served.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) client: Arc<Client>,
    shared: Arc<Shared>,
}

impl Entered {
    pub(super) fn new(client: Client, shared: &Arc<Shared>) -> Self {
        let client = Arc::new(client);
        shared.clients.lock().insert(client.id, Arc::clone(&client));
        Self { client, shared: Arc::clone(shared) }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.clients.lock().remove(&self.client.id);
    }
}

/// Where a connection is from and to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The client's.
    pub(super) address: SocketAddr,
    /// Ours.
    pub(super) local: SocketAddr,
    /// The number of the socket in this process.
    pub(super) descriptor: RawFd,
}

/// One client, as others see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) ends: Ends,
    since: Instant,
    is_killed: AtomicBool,
    killed: Notify,
    /// Which copies are not good any more, its own or those of others that chose so.
    pub(super) inbox: Arc<Inbox>,
    shown: Mutex<Shown>,
}

/// What a client was when it was last looked at by its own task.
#[derive(Debug)]
struct Shown {
    active: Instant,
    name: Option<Vec<u8>>,
    library: (Vec<u8>, Vec<u8>),
    flags: &'static str,
    database: i64,
    queued: Option<usize>,
    subscriptions: Subscriptions,
    tracks: Option<Tracks>,
    protocol: Protocol,
    command: &'static str,
    buffered: Buffered,
}

/// The bytes that a client holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffered {
    /// What it sent and is not done.
    pub(super) input_bytes: usize,
    /// What it has not read.
    pub(super) output_bytes: usize,
}

impl Client {
    pub(super) fn new(id: u64, ends: Ends) -> Self {
        let shown = Shown {
            active: Instant::now(),
            name: None,
            library: (Vec::new(), Vec::new()),
            flags: "N",
            database: 0,
            queued: None,
            subscriptions: Subscriptions::default(),
            tracks: None,
            protocol: Protocol::default(),
            command: "NULL",
            buffered: Buffered::default(),
        };
        let (is_killed, killed) = (AtomicBool::new(false), Notify::new());
        let (inbox, shown) = (Arc::default(), Mutex::new(shown));
        Self { id, ends, since: Instant::now(), is_killed, killed, inbox, shown }
    }

    /// Shows what the client is now. Names are copied only if they changed: this is done after every burst.
    pub(super) fn show(&self, state: &SessionState, queued: Option<usize>, buffered: Buffered) {
        let mut shown = self.shown.lock().expect("no holder of the lock panics");
        shown.active = Instant::now();
        if shown.name != state.name {
            shown.name.clone_from(&state.name);
        }
        if shown.library != state.library {
            shown.library.clone_from(&state.library);
        }
        shown.flags = match (state.subscriptions.is_any(), queued.is_some(), state.is_waiting) {
            (true, _, true) => "Pb",
            (true, true, _) => "Px",
            (true, ..) => "P",
            (_, _, true) => "b",
            (_, true, _) => "x",
            _ => "N",
        };
        shown.subscriptions = state.subscriptions;
        shown.tracks = state.tracks;
        shown.database = database(state.keyspace.as_str());
        shown.queued = queued;
        shown.protocol = state.protocol;
        shown.command = state.command;
        shown.buffered = buffered;
    }

    /// A line of CLIENT LIST. What Redis counts and this node has not is 0.
    pub(super) fn line(&self) -> String {
        let shown = self.shown.lock().expect("no holder of the lock panics");
        let Ends { address, local, descriptor } = self.ends;
        let Buffered { input_bytes, output_bytes } = shown.buffered;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut line = format!("id={} addr={address} laddr={local} fd={descriptor} name=", self.id);
        line.push_str(&text(shown.name.as_deref().unwrap_or_default()));
        let Subscriptions { plain, patterns, sharded } = shown.subscriptions;
        let tracks = match shown.tracks.map(|tracks| tracks.which) {
            Some(Which::Prefixed) => "tB",
            Some(_) => "t",
            None => "",
        };
        let flags = if tracks.is_empty() { shown.flags } else { shown.flags.trim_start_matches('N') };
        let redirect = shown.tracks.map_or_else(|| "-1".to_owned(), |tracks| tracks.redirect.to_string());
        let queued = shown.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX));
        write!(
            line,
            " age={} idle={} flags={flags}{tracks} db={} sub={plain} psub={patterns} ssub={sharded} multi={queued} qbuf={input_bytes} qbuf-free=0 \
             argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={output_bytes} oll=0 omem={output_bytes} tot-mem={} events=r \
             cmd={} user=default redir={redirect} resp={} lib-name={} lib-ver={}",
            self.since.elapsed().as_secs(),
            shown.active.elapsed().as_secs(),
            shown.database,
            input_bytes + output_bytes,
            shown.command,
            if shown.protocol == Protocol::Resp3 { 3 } else { 2 },
            text(&shown.library.0),
            text(&shown.library.1),
        )
        .expect("writing to memory cannot fail");
        line.push('\n');
        line
    }

    fn is_waiting(&self) -> bool {
        self.shown.lock().expect("no holder of the lock panics").flags.contains('b')
    }

    /// Whether it listens to something.
    pub(super) fn is_listening(&self) -> bool {
        self.shown.lock().expect("no holder of the lock panics").subscriptions.is_any()
    }

    /// How long it has been connected, in seconds.
    pub(super) fn age_s(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    /// Ends the client at once, with what it has not read. May be called again.
    pub(super) fn kill(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        self.killed.notify_one();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Relaxed)
    }

    /// Ends when the client was killed. Only its own task waits.
    pub(super) async fn killed(&self) {
        self.killed.notified().await;
    }
}

/// The number of a keyspace that has one; tools read a number here, so one that has none is -1.
fn database(keyspace: &str) -> i64 {
    if keyspace == KEYSPACE_DEFAULT {
        return 0;
    }
    keyspace.strip_prefix("db").and_then(|number| number.parse::<u32>().ok()).map_or(-1, i64::from)
}
