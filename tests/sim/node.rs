//! One node: its identity, its disk, its clock, and, while it runs, the engine's driver over both.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{Conditional, LogPosition, Store};
use tidelock_engine::replica::{Ask, Input, Limits, Now, Replica, ReplicaConfig, Replicate, Retention};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::turn::Driver;
use tidelock_store::{MemDisk, OpenError};

use crate::group::{Break, Foundation, Seat};
use crate::ledger::Known;
use crate::matching::Asked;
use crate::network::{Network, Wire};
use crate::store::{Backing, SimStore};

/// The start of time, in Unix milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;

/// A node's wall clock. Its monotonic one is always right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeClock {
    /// By how much it is ahead, in milliseconds.
    pub ahead_ms: i64,
    /// Where it stands still, if it does, in Unix milliseconds.
    pub frozen_ms: Option<u64>,
}

impl NodeClock {
    /// What it shows.
    pub fn unix_ms(&self, now_us: u64) -> u64 {
        self.frozen_ms.unwrap_or_else(|| (START_MS + now_us / 1_000).saturating_add_signed(self.ahead_ms))
    }
}

/// How a node stands on its store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// The real store on a disk in memory.
    #[default]
    Disk,
    /// The engine's memory store, which never fails.
    Memory,
}

/// How a running node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As with SIGKILL: what was written stays.
    Killed,
    /// As with a power cut: of what was not synced each sector is kept, lost or torn, as the seed says.
    PowerCut(u64),
}

/// A node of the world.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Node {
    pub(crate) name: String,
    pub(crate) index: usize,
    /// Its key, its cluster, and what it replicates.
    pub config: ReplicaConfig,
    /// The key that proves its replica; another one than the node's makes a liar.
    pub card_key: SigningKey,
    /// Whose operations it makes.
    pub(crate) card: AuthorCard,
    identities: u8,
    pub(crate) storage: Storage,
    pub(crate) backing: Backing,
    pub(crate) driver: Option<Driver<SimStore, Wire>>,
    /// Its part in the group of anchors, if it runs on a disk.
    pub(crate) seat: Option<Seat>,
    /// The wall clock.
    pub clock: NodeClock,
    /// Counts its starts, so that what was planned for an earlier life does not happen in a later one.
    pub(crate) life: u64,
    pub(crate) started_us: u64,
    /// It does nothing before, as after SIGSTOP.
    pub(crate) paused_until_us: u64,
    /// How long it takes at most to look at what has arrived, in microseconds.
    pub slowness_us: u64,
    pub(crate) is_woken: bool,
    pub(crate) is_sync_due: bool,
    /// Whether it left for good.
    pub(crate) is_gone: bool,
    /// The life in which somebody was called to restart it.
    pub(crate) is_called_for: u64,
    /// Whether a bit of its files was turned; then they may not open, and what they lost is not missed.
    pub(crate) is_damaged: bool,
    /// Whether its power goes when its store fails, as was planned with the disk.
    pub(crate) is_cut_planned: bool,
    /// How far its log was read.
    pub(crate) position: LogPosition,
    /// What it has applied.
    pub(crate) known: Known,
    /// What it had applied when all of it was last on disk.
    pub(crate) durable: Known,
    /// The keyspaces that it left; their records are not dropped yet, or are empty.
    pub(crate) left: BTreeSet<KeyspaceId>,
    /// The heads under which each keyspace was last checked, and the clock by which keys had expired.
    pub(crate) checked: BTreeMap<KeyspaceId, (u128, u64)>,
    /// The latest that its clock ever was when it had a turn, in Unix milliseconds.
    pub(crate) clock_highest_ms: u64,
    /// The keyspaces that it reported when its bounds were last checked.
    pub(crate) reported_keyspaces: u64,
    /// The fingerprints of the rows as watchers know them who were told of every change.
    pub(crate) told: BTreeMap<KeyspaceId, Fingerprint>,
    /// What clients asked for in a turn whose commit failed.
    pub(crate) limbo: BTreeMap<KeyspaceId, Asked>,
}

impl Node {
    pub(crate) fn new(name: &str, index: usize, cluster: ClusterId, storage: Storage) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        let key = SigningKey::from_seed(seed);
        let card = key.card([0; 16]);
        let (replicate, retention) = (Replicate::All, Retention::default());
        let config = ReplicaConfig {
            key: key.clone(),
            cluster,
            replicate,
            retention,
            limits: Limits::default(),
            conditional: Conditional::default(),
            anchors_target: 0,
        };
        let mut node = Self {
            name: name.to_owned(),
            index,
            card,
            card_key: key,
            identities: 0,
            storage,
            backing: Backing::Disk(MemDisk::new()),
            driver: None,
            seat: None,
            clock: NodeClock::default(),
            life: 0,
            started_us: 0,
            paused_until_us: 0,
            slowness_us: 2_000,
            is_woken: false,
            is_sync_due: false,
            is_gone: false,
            is_damaged: false,
            is_called_for: 0,
            is_cut_planned: false,
            position: LogPosition(0),
            known: Known::new(),
            durable: Known::new(),
            left: BTreeSet::new(),
            checked: BTreeMap::new(),
            clock_highest_ms: 0,
            told: BTreeMap::new(),
            reported_keyspaces: 0,
            limbo: BTreeMap::new(),
            config,
        };
        node.wipe();
        node
    }

    /// Replaces the store by an empty one of a new replica.
    pub(crate) fn wipe(&mut self) {
        self.identities += 1;
        self.begin();
    }

    /// Gives the node an empty store of its replica.
    pub(crate) fn begin(&mut self) {
        self.card = self.card_key.card([self.identities; 16]);
        self.backing = match self.storage {
            Storage::Disk => Backing::Disk(MemDisk::new()),
            Storage::Memory => Backing::Memory(Box::new(MemStore::new(self.config.cluster, self.card))),
        };
        (self.position, self.known, self.durable) = (LogPosition(0), Known::new(), Known::new());
        self.limbo.clear();
        self.checked.clear();
    }

    /// Gives the node another disk, and the name of a replica that it may need to take.
    pub(crate) fn put_back(&mut self, disk: MemDisk) {
        self.next_card();
        self.backing = Backing::Disk(disk);
        (self.position, self.known, self.durable) = (LogPosition(0), Known::new(), Known::new());
        self.limbo.clear();
        self.checked.clear();
    }

    /// Gives the node a disk with all that it had; answers the name of the replica that it is there.
    pub(crate) fn move_to(&mut self, disk: MemDisk) -> AuthorCard {
        self.backing = Backing::Disk(disk);
        self.next_card()
    }

    /// A replica that this node never was.
    pub(crate) fn next_card(&mut self) -> AuthorCard {
        self.identities += 1;
        self.card = self.card_key.card([self.identities; 16]);
        self.card
    }

    /// It has left a keyspace and shows nothing of it any more.
    pub(crate) fn leave(&mut self, keyspace: KeyspaceId) {
        self.left.insert(keyspace);
        self.known.remove(&keyspace);
        self.durable.remove(&keyspace);
        self.checked.remove(&keyspace);
        self.told.remove(&keyspace);
        self.limbo.remove(&keyspace);
    }

    /// Until when it is stopped, in microseconds since the world began.
    pub const fn paused_until_us(&self) -> u64 {
        self.paused_until_us
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.driver.is_some()
    }

    /// The disk.
    ///
    /// # Panics
    /// If the node stands on memory.
    pub fn disk(&self) -> &MemDisk {
        match &self.backing {
            Backing::Disk(disk) => disk,
            Backing::Memory(_) => panic!("{} has no disk", self.name),
        }
    }

    /// The running driver.
    ///
    /// # Panics
    /// If it does not run.
    pub fn driver(&self) -> &Driver<SimStore, Wire> {
        self.driver.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// The moment of a turn.
    pub(crate) fn moment(&self, now_us: u64, entropy: u64) -> Now {
        let mono_ms = (now_us - self.started_us) / 1_000;
        Now { unix_ms: self.clock.unix_ms(now_us), mono_ms, entropy }
    }

    pub(crate) fn start(
        &mut self,
        now_us: u64,
        network: &Rc<RefCell<Network>>,
        foundation: &Foundation,
    ) -> Result<(), OpenError> {
        let mut store = self.backing.open(self.config.cluster, self.card)?;
        if foundation.broken == Some(Break::Outcomes) {
            store.forget_outcomes();
        }
        let recovered = store.recovered();
        self.card = recovered.card;
        let replica = Replica::new(self.config.clone(), &recovered);
        let wire = Wire { node: self.index, network: Rc::clone(network) };
        self.seat = store
            .redb()
            .map(|redb| Seat::new(redb.raft_log(), replica.anchor(), foundation.clone(), now_us / 1_000));
        self.driver = Some(Driver::new(replica, store, wire));
        self.life += 1;
        self.started_us = now_us;
        (self.is_woken, self.is_sync_due, self.is_cut_planned) = (false, false, false);
        network.borrow_mut().set_up(self.index, true);
        Ok(())
    }

    pub(crate) fn end(&mut self, end: End) {
        let Some(driver) = self.driver.take() else { return };
        // The disk goes first: what the store would still write while it closes comes too late.
        match (&mut self.backing, end) {
            (Backing::Disk(disk), End::Killed) => disk.kill(),
            (Backing::Disk(disk), End::PowerCut(seed)) => disk.crash(seed),
            (Backing::Memory(left), _) => {
                left.clone_from(&Box::new(driver.store().memory().expect("it is memory").clone()));
            }
        }
        drop(driver);
        self.seat = None;
    }

    /// Adds to the inputs of a turn what the group wants of it.
    pub(crate) fn collect(&mut self, inputs: &mut Vec<Input>) {
        if let (Some(seat), Some(driver)) = (&mut self.seat, &mut self.driver) {
            seat.collect(inputs, driver.transport());
        }
    }

    /// Passes on what a turn wants of the group.
    pub(crate) fn deliver(&mut self, asks: Vec<Ask>) {
        if let Some(seat) = &mut self.seat {
            seat.deliver(asks);
        }
    }

    /// Whether the group has something for a turn.
    pub(crate) fn has_group_woken(&self) -> bool {
        self.seat.as_ref().is_some_and(Seat::is_woken)
    }
}
