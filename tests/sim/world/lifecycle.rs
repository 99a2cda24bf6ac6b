//! Nodes come, run, end and begin again: starts, kills, power cuts, failed disks, wiped disks, pauses.

use tidelock_engine::id::KeyspaceId;
use tidelock_engine::replica::Input;
use tidelock_store::{MemDisk, OpenError};

use super::{Happening, TICK_US, World, address, cluster};
use crate::bits::Bits;
use crate::group::Seat;
use crate::ledger::Violation;
use crate::node::{End, Node};
use crate::store::Backing;

/// How long an operator takes to restart a node whose store failed, in microseconds.
const OPERATOR_US: (u64, u64) = (200_000, 3_000_000);

impl World {
    /// Adds a node and starts it.
    pub fn add(&mut self, name: &str) {
        self.add_with(name, |_| {});
    }

    /// Adds a node that is not like all others, and starts it.
    pub fn add_with(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let mut node = Node::new(name, self.nodes.len(), cluster(), self.storage);
        (node.config.retention, node.config.limits.staged_bytes) = (self.retention, self.staged_bytes);
        node.config.conditional = self.conditional;
        change(&mut node);
        node.begin();
        let peer = node.config.key.peer();
        let index = self.network.borrow_mut().add_station(peer, address(name));
        assert_eq!(index, self.nodes.len(), "stations and nodes go together");
        self.nodes.push(node);
        self.start(name);
    }

    /// Starts a node that was stopped, from what its disk has.
    ///
    /// # Panics
    /// If its store cannot be opened.
    pub fn start(&mut self, name: &str) {
        let index = self.index(name);
        if let Err(error) = self.try_start(index) {
            self.fail(index, &Violation::new("a store opens again after a crash", error.to_string()));
        }
    }

    /// Starts a node that was stopped.
    ///
    /// # Errors
    /// As the store's.
    pub fn try_start(&mut self, index: usize) -> Result<(), OpenError> {
        assert!(!self.nodes[index].is_running(), "{} runs", self.nodes[index].name);
        let network = std::rc::Rc::clone(&self.network);
        self.nodes[index].start(self.now_us, &network, &self.foundation)?;
        self.trace.note(self.now_us, index, || "start".to_owned());
        self.tally.count("starts");
        self.reread(index);
        let life = self.nodes[index].life;
        let first = self.entropy.between(0, TICK_US);
        self.plan(self.now_us + first, Happening::Tick(index, life));
        let listening = Input::Listening(vec![address(&self.nodes[index].name)]);
        self.turn(index, vec![listening]);
        Ok(())
    }

    /// Ends a node as SIGKILL does: what was written stays.
    pub fn kill(&mut self, name: &str) {
        let index = self.index(name);
        self.end(index, End::Killed);
        self.tally.count("kills");
    }

    /// Cuts a node's power: of what was not synced each sector is kept, lost or torn.
    pub fn lose_power(&mut self, name: &str) {
        let index = self.index(name);
        let seed = self.entropy.next();
        self.end(index, End::PowerCut(seed));
        self.tally.count("power cuts");
    }

    /// Cuts a node's power at the given change to its disk from now on (writes, resizes, syncs, renames),
    /// which may be in the middle of a commit or of writing rows.
    pub fn plan_power_cut(&mut self, name: &str, changes: u64) {
        let node = self.node_mut(name);
        node.is_cut_planned = true;
        let faults = tidelock_store::Faults {
            changes_until_power_cut: Some(changes),
            ..tidelock_store::Faults::default()
        };
        node.disk().set_faults(faults);
    }

    /// Ends a node.
    pub fn end(&mut self, index: usize, end: End) {
        self.trace.note(self.now_us, index, || format!("end: {end:?}"));
        self.trace.absorb_number(match end {
            End::Killed => 2,
            End::PowerCut(seed) => seed,
        });
        self.network.borrow_mut().set_up(index, false);
        self.leaving.retain(|_, (of, _)| *of != index);
        self.nodes[index].end(end);
        self.strong_ended(index);
        if let (Backing::Disk(disk), End::PowerCut(_)) = (&self.nodes[index].backing, end) {
            for name in disk.names() {
                self.trace.absorb(name.as_bytes());
                self.trace.absorb(&disk.read(&name));
            }
        }
    }

    /// Kills a node and starts it again.
    pub fn restart(&mut self, name: &str) {
        self.kill(name);
        self.start(name);
    }

    /// Stops a node for good. What only it had is lost.
    pub fn leave(&mut self, name: &str) {
        let index = self.index(name);
        if self.nodes[index].is_running() {
            self.end(index, End::Killed);
        }
        self.forgive(index);
        self.nodes[index].is_gone = true;
        self.tally.count("departures");
    }

    /// Gives a stopped node an empty disk: it comes back as another replica. What only it had is lost.
    pub fn wipe(&mut self, name: &str) {
        let index = self.index(name);
        assert!(!self.nodes[index].is_running(), "{name} runs");
        self.forgive(index);
        self.nodes[index].wipe();
        self.trace.note(self.now_us, index, || "wiped".to_owned());
        self.tally.count("wiped disks");
    }

    /// Gives a stopped node another disk: an earlier state of its own, or a copy of it. What only it had since is
    /// lost.
    pub fn put_back(&mut self, name: &str, disk: MemDisk) {
        let index = self.index(name);
        assert!(!self.nodes[index].is_running(), "{name} runs");
        self.forgive(index);
        self.nodes[index].put_back(disk);
        self.trace.note(self.now_us, index, || "another disk".to_owned());
        self.tally.count("disks put back");
    }

    /// Lets a running node go on as another replica, as its operator does who was told of a fork.
    pub fn rejoin(&mut self, name: &str) {
        let index = self.index(name);
        let entropy = self.entropy.next();
        let node = &mut self.nodes[index];
        let now = node.moment(self.now_us, entropy);
        let card = node.next_card();
        let driver = node.driver.as_mut().expect("it runs");
        let rejoined = driver.rejoin(now, card);
        // Another replica is another anchor, if it is any.
        let anchor = driver.replica().anchor();
        node.seat.iter_mut().for_each(|seat| seat.reopen(anchor));
        self.trace.note(self.now_us, index, || format!("rejoins as {}: {rejoined:?}", card.replica()));
        self.after_store(index);
        self.tally.count("rejoins");
    }

    /// Lets every running node rejoin that knows that its replica was retired.
    pub(crate) fn rejoin_the_retired(&mut self) {
        for index in 0..self.nodes.len() {
            let driver = self.nodes[index].driver.as_ref();
            let must = driver.is_some_and(|driver| {
                let (replica, store) = (driver.replica(), driver.store());
                replica.must_rejoin() && replica.fork().is_none() && store.failed().is_none()
            });
            if must && !self.is_paused(index) {
                let name = self.nodes[index].name.clone();
                self.rejoin(&name);
                self.tally.count("retired replicas that live");
            }
        }
    }

    /// Lets a running node whose disk was full look whether there is room again, as the daemon does by itself;
    /// answers whether it goes on. Its log is read again then, as after a start.
    pub fn has_room_again(&mut self, name: &str) -> bool {
        let index = self.index(name);
        let node = &mut self.nodes[index];
        let driver = node.driver.as_mut().expect("it runs");
        let Some(recovered) = driver.store_mut().heal() else { return false };
        // What it had not on disk it must not remember.
        node.seat.iter_mut().for_each(Seat::close);
        driver.go_on(&recovered);
        let anchor = driver.replica().anchor();
        node.seat.iter_mut().for_each(|seat| seat.reopen(anchor));
        self.trace.note(self.now_us, index, || "has room again".to_owned());
        self.reread(index);
        self.after_store(index);
        self.tally.count("disks with room again");
        true
    }

    /// A bit of a stopped node's files was turned: it may not open, and what it lost is not missed.
    pub fn damage(&mut self, name: &str) {
        self.node_mut(name).is_damaged = true;
    }

    /// What no other node has may be lost from now on.
    fn forgive(&mut self, index: usize) {
        let had: Vec<KeyspaceId> = self.nodes[index].known.keys().copied().collect();
        had.into_iter().for_each(|keyspace| self.forgive_in(index, keyspace));
    }

    /// The same, in one keyspace.
    pub(super) fn forgive_in(&mut self, index: usize, keyspace: KeyspaceId) {
        let Some(applied) = self.nodes[index].known.get(&keyspace) else { return };
        let ops = applied.ops.clone();
        let mut elsewhere = Bits::default();
        let stays = |other: &&Node| !other.is_gone && !self.is_leaving(other.index, keyspace);
        for other in self.nodes.iter().filter(|other| other.index != index).filter(stays) {
            if let Some(applied) = other.known.get(&keyspace) {
                elsewhere.join(&applied.ops);
            }
        }
        self.ledger.space(keyspace).forgiven.join(&ops.without(&elsewhere));
    }

    /// Does nothing for a while, as after SIGSTOP.
    pub fn pause(&mut self, name: &str, ms: u64) {
        let until = self.now_us + 1_000 * ms;
        self.node_mut(name).paused_until_us = until;
        self.tally.count("pauses");
    }

    /// Whether the store needs a sync, or has failed: then the power is gone, or somebody will restart it.
    pub(super) fn after_store(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(driver) = &node.driver else { return };
        let life = node.life;
        // What it holds back in memory it may commit without finding out.
        let is_off = node.is_cut_planned && node.disk().is_off();
        if is_off || driver.store().failed().is_some() {
            // Without power nothing can be read.
            if !node.is_cut_planned && node.is_called_for != life {
                self.still_reads(index);
            }
            let node = &mut self.nodes[index];
            if node.is_cut_planned {
                let seed = self.entropy.next();
                self.end(index, End::PowerCut(seed));
                self.tally.count("power cuts in the middle of a write");
            }
            if self.has_operator {
                self.call_operator(index, life);
            }
            return;
        }
        let Some(wait) = self.syncs_after_us.filter(|_| !driver.is_durable()) else { return };
        if !std::mem::replace(&mut node.is_sync_due, true) {
            self.plan(self.now_us + wait, Happening::Sync(index, life));
        }
    }

    /// Somebody restarts a node whose store failed: the disk works again, and what an earlier failed sync left
    /// unsynced may be gone.
    fn call_operator(&mut self, index: usize, life: u64) {
        let node = &mut self.nodes[index];
        if node.is_called_for == life {
            return;
        }
        node.is_called_for = life;
        let wait = self.entropy.between(OPERATOR_US.0, OPERATOR_US.1);
        let end = if self.entropy.chance(500) { End::PowerCut(self.entropy.next()) } else { End::Killed };
        self.after(wait, move |world| {
            let node = &world.nodes[index];
            if node.is_gone || node.life != life {
                return;
            }
            if node.is_running() {
                world.end(index, end);
            }
            // Between the call and now a bit of its files may have turned.
            crate::faults::start(world, index);
        });
    }
}
