//! What a session remembers between commands, and what all sessions of a server share.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::replica::Freshness;

use super::auth::Guesses;
use super::budget::Budget;
use super::channels::Subscriptions;
use super::clients::Clients;
use super::config::RedisConfig;
use super::cursors::Cursors;
use super::metrics::{CommandMetrics, ErrorCounts, Since};
use super::pause::Pause;
use super::reply::Protocol;
use super::slow_log::SlowLog;
use super::tracking::Tracks;
use super::watched::Watched;
use crate::named::Name;

/// The keyspace that a new connection has selected.
pub(super) const KEYSPACE_DEFAULT: &str = "default";

/// What all sessions of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: RedisConfig,
    pub(super) port: u16,
    /// What clients have half sent, queued or in execution.
    pub(super) input: Arc<Budget>,
    /// What clients have not read yet.
    pub(super) output: Arc<Budget>,
    pub(super) cursors: Mutex<Cursors>,
    pub(super) guesses: Mutex<Guesses>,
    pub(super) clients: Clients,
    pub(super) clients_accepted: AtomicU64,
    pub(super) clients_refused: AtomicU64,
    pub(super) clients_closed_slow: AtomicU64,
    pub(super) clients_malformed: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) metrics: CommandMetrics,
    pub(super) errors: ErrorCounts,
    pub(super) slow_log: SlowLog,
    pub(super) pause: Pause,
    /// What CONFIG RESETSTAT said.
    pub(super) since: Mutex<Since>,
}

impl Shared {
    pub(super) fn new(config: RedisConfig, port: u16) -> Self {
        Self {
            input: Budget::new(config.input_bytes_max),
            output: Budget::new(config.output_bytes_max),
            config,
            port,
            cursors: Mutex::new(Cursors::new()),
            guesses: Mutex::default(),
            clients: Clients::default(),
            clients_accepted: AtomicU64::new(0),
            clients_refused: AtomicU64::new(0),
            clients_closed_slow: AtomicU64::new(0),
            clients_malformed: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            metrics: CommandMetrics::new(),
            errors: ErrorCounts::default(),
            slow_log: SlowLog::default(),
            pause: Pause::default(),
            since: Mutex::default(),
        }
    }
}

/// Which replies a client wants. Pushes are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    /// Not the next one.
    SkipNext,
    /// Not the one to the command that is executed.
    Skip,
}

impl Replies {
    pub(super) fn is_muted(self) -> bool {
        self != Self::On
    }
}

/// What a session remembers between commands.
#[derive(Debug)]
pub(super) struct SessionState {
    /// The connection's number, from 1.
    pub(super) id: u64,
    /// What CLIENT SETNAME said.
    pub(super) name: Option<Vec<u8>>,
    /// What CLIENT SETINFO said: the name and the version of the client's library.
    pub(super) library: (Vec<u8>, Vec<u8>),
    /// The last command, as CLIENT LIST shows it.
    pub(super) command: &'static str,
    /// What CLIENT REPLY said.
    pub(super) replies: Replies,
    /// Whether it waits for peers.
    pub(super) is_waiting: bool,
    /// What HELLO chose.
    pub(super) protocol: Protocol,
    /// What SELECT chose.
    pub(super) keyspace: KeyspaceName,
    /// When writes are acknowledged.
    pub(super) durability: Durability,
    /// What reads of strong keyspaces must see.
    pub(super) freshness: Freshness,
    /// What TIDE.AS calls the operation that the command in execution is, and what that is for.
    pub(super) named: Option<(Name, u64)>,
    /// Whether changes are being pushed.
    pub(super) is_watching: bool,
    /// How much it listens to.
    pub(super) subscriptions: Subscriptions,
    /// Of which keys it keeps copies, if of any.
    pub(super) tracks: Option<Tracks>,
    /// The keys that WATCH named.
    pub(super) watched: Watched,
    /// Where the client is.
    pub(super) address: IpAddr,
    /// Whether the client said the password, or there is none.
    pub(super) is_authenticated: bool,
    /// The wrong passwords that it said.
    pub(super) wrong_passwords: u32,
}

impl SessionState {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            name: None,
            library: (Vec::new(), Vec::new()),
            command: "NULL",
            replies: Replies::On,
            is_waiting: false,
            protocol: Protocol::default(),
            keyspace: KEYSPACE_DEFAULT.parse().expect("the name is valid"),
            durability: Durability::default(),
            freshness: Freshness::default(),
            named: None,
            is_watching: false,
            subscriptions: Subscriptions::default(),
            tracks: None,
            watched: Watched::default(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            is_authenticated: true,
            wrong_passwords: 0,
        }
    }
}
