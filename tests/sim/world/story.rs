//! The words that stories are told in: who writes, who meets whom, what breaks, and when it must be whole again.

use std::collections::BTreeSet;

use tidelock_engine::id::{KeyspaceId, PeerId, ReplicaId};
use tidelock_engine::ports::{Durability, Target};
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::{Input, Order, OrderError, OrderReply, Report};
use tidelock_engine::request::{Action, ActionReply, Atomicity, Request, RequestId, RequestReply};
use tidelock_engine::row::RowId;
use tidelock_engine::write::Write;

use super::{NOTES, World, address, keyspace_id, named};
use crate::bounds::files_are_bounded;
use crate::checks::nothing_kept_is_lost;
use crate::ledger::Violation;
use crate::network::Conditions;
use crate::observed::{all_rows, retired, spent_slots};
use crate::words::text;

/// How long the nodes are given to become equal, in milliseconds.
const SETTLE_MS: u64 = 180_000;

/// How long the nodes are given to fold what retired replicas left, in milliseconds.
const FOLDED_MS: u64 = 135_000;

impl World {
    /// Has `a` keep connected with `b`.
    pub fn connect(&mut self, a: &str, b: &str) {
        let target = Target { peer: Some(self.peer(b)), addresses: vec![address(b)] };
        self.input(a, Input::Connect(target));
    }

    /// Nothing gets from one to the other, and their connection breaks at once.
    pub fn partition(&mut self, a: &str, b: &str) {
        let (a, b) = (self.index(a), self.index(b));
        self.network.borrow_mut().cut(a, b);
    }

    /// Cuts every connection between the two sides.
    pub fn split(&mut self, side: &[&str], other: &[&str]) {
        side.iter().for_each(|a| other.iter().for_each(|b| self.partition(a, b)));
    }

    /// Nothing gets from `from` to `to` any more, while the other direction works.
    pub fn block(&mut self, from: &str, to: &str) {
        let (from, to) = (self.index(from), self.index(to));
        self.network.borrow_mut().block(from, to);
    }

    /// Lets messages through again, in order.
    pub fn unblock(&mut self, from: &str, to: &str) {
        let (from, to) = (self.index(from), self.index(to));
        self.network.borrow_mut().unblock(from, to);
    }

    /// Lets everything through again.
    pub fn heal(&mut self) {
        self.network.borrow_mut().heal();
    }

    /// From now on sent messages are counted by name: [`World::sent`].
    pub fn count_by_name(&mut self) {
        self.network().traffic.by_name.get_or_insert_default();
    }

    /// How many messages of a name were sent since they are counted.
    ///
    /// # Panics
    /// If they are not counted.
    pub fn sent(&self, name: &str) -> u64 {
        let network = self.network.borrow();
        let by_name = network.traffic.by_name.as_ref().expect("the story counts messages by name");
        by_name.get(name).copied().unwrap_or_default()
    }

    /// How many bytes the messages of a name had since they are counted.
    pub fn sent_bytes(&self, name: &str) -> u64 {
        self.network.borrow().traffic.bytes_by_name.get(name).copied().unwrap_or_default()
    }

    /// Changes what the network does to messages.
    pub fn worsen(&mut self, change: impl FnOnce(&mut Conditions)) {
        let mut network = self.network();
        let mut conditions = network.conditions().clone();
        change(&mut conditions);
        network.set_conditions(conditions);
    }

    /// How often something befell messages, by its name in the network's tally.
    pub fn befell(&self, what: &str) -> u64 {
        self.network.borrow().tally.get(what)
    }

    /// Breaks the connection between two nodes.
    pub fn drop_session(&mut self, a: &str, b: &str) {
        let (a, b) = (self.index(a), self.index(b));
        self.network.borrow_mut().drop_session(a, b);
    }

    /// One write, which must succeed.
    pub fn write(&mut self, name: &str, write: Write) {
        self.write_in(name, NOTES, write);
    }

    /// One write to a keyspace, which must succeed.
    pub fn write_in(&mut self, name: &str, keyspace: &str, write: Write) {
        let replies = self.request(name, keyspace, Atomicity::Each, vec![Action::Write(write)]);
        let replies = replies.expect("the request is executed");
        replies.into_iter().for_each(|reply| drop(reply.expect("the write is done")));
    }

    /// Writes that nobody sees half done.
    ///
    /// # Errors
    /// As the node answers.
    pub fn batch(&mut self, name: &str, writes: Vec<Write>) -> RequestReply {
        let actions = writes.into_iter().map(Action::Write).collect();
        self.request(name, NOTES, Atomicity::AllOrNothing, actions)
    }

    /// A durable request to a keyspace.
    ///
    /// # Errors
    /// As the node answers.
    pub fn request(
        &mut self,
        name: &str,
        keyspace: &str,
        atomicity: Atomicity,
        actions: Vec<Action>,
    ) -> RequestReply {
        let durability = Durability::Durable;
        self.ask(name, Request { keyspace: named(keyspace), actions, atomicity, durability })
    }

    /// A write that is answered from memory.
    pub fn write_buffered(&mut self, name: &str, write: Write) {
        let (atomicity, durability) = (Atomicity::Each, Durability::Buffered);
        let actions = vec![Action::Write(write)];
        let request = Request { keyspace: named(NOTES), actions, atomicity, durability };
        drop(self.ask(name, request).expect("the request is executed"));
    }

    /// Makes durable what is buffered at a node.
    pub fn sync(&mut self, name: &str) {
        let index = self.index(name);
        self.sync_node(index);
    }

    /// A request, as one turn.
    ///
    /// # Errors
    /// As the node answers.
    pub fn ask(&mut self, name: &str, request: Request) -> RequestReply {
        let id = self.next_request();
        let outcome = self.input(name, Input::Request(id, request));
        let mut replies = outcome.replies.into_iter().filter(|(of, _)| *of == id);
        replies.next().expect("every request is answered").1
    }

    pub(crate) fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// What a node answers to a query of [`NOTES`].
    pub fn query(&mut self, name: &str, query: Query) -> Answer {
        self.query_in(name, NOTES, query)
    }

    /// What a node answers to a query.
    pub fn query_in(&mut self, name: &str, keyspace: &str, query: Query) -> Answer {
        let actions = vec![Action::Query(query)];
        let mut replies = self.request(name, keyspace, Atomicity::Each, actions).expect("reads are answered");
        match replies.pop().expect("one answer").expect("the query fits the key") {
            ActionReply::Answer(answer) => answer,
            other => panic!("a query answered {other:?}"),
        }
    }

    /// The value under a key.
    pub fn get(&mut self, name: &str, key: &str) -> Option<String> {
        match self.query(name, Query::Get(key.into())) {
            Answer::Value(value) => value.map(|value| text(&value)),
            other => panic!("{other:?}"),
        }
    }

    /// The elements of a set.
    pub fn members(&mut self, name: &str, key: &str) -> Vec<String> {
        match self.query(name, Query::Members(key.into())) {
            Answer::List(list) => list.iter().map(|element| text(element)).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// The value of a field.
    pub fn field(&mut self, name: &str, key: &str, field: &str) -> Option<String> {
        match self.query(name, Query::Field(key.into(), field.into())) {
            Answer::Value(value) => value.map(|value| text(&value)),
            other => panic!("{other:?}"),
        }
    }

    /// Orders something of a keyspace; [`World::orders`] tells how it ended. What is left by force may be lost.
    pub fn order(&mut self, name: &str, keyspace: &str, order: Order) -> RequestId {
        let index = self.index(name);
        if order == (Order::Leave { is_forced: true }) {
            self.forgive_in(index, keyspace_id(keyspace));
        }
        let id = self.next_request();
        if matches!(order, Order::Leave { .. }) {
            self.leaving.insert(id, (index, keyspace_id(keyspace)));
        }
        self.input(name, Input::Order(id, named(keyspace), order));
        id
    }

    /// Orders something and lets time pass until it has ended.
    ///
    /// # Errors
    /// As the node answers.
    pub fn order_and_wait(&mut self, name: &str, keyspace: &str, order: Order) -> OrderReply {
        let id = self.order(name, keyspace, order);
        for _ in 0..150 {
            if let Some(reply) = self.orders.remove(&id) {
                return reply;
            }
            self.run(100);
        }
        panic!("an order of {name} does not end");
    }

    /// Has a node join a keyspace, as soon as what it had there before is gone, and as another replica if need be.
    ///
    /// # Panics
    /// If it cannot.
    pub fn join(&mut self, name: &str, keyspace: &str) {
        for _ in 0..100 {
            match self.order_and_wait(name, keyspace, Order::Join) {
                Ok(()) => return,
                Err(OrderError::Dropping(_)) => self.write_rows(name),
                Err(OrderError::NeedsReplica(_)) => self.rejoin(name),
                Err(error) => panic!("{name} cannot join {keyspace}: {error}"),
            }
            self.run(100);
        }
        panic!("{name} cannot join {keyspace}");
    }

    /// Has a node write its rows now, and drop what was left.
    pub fn write_rows(&mut self, name: &str) {
        let index = self.index(name);
        self.materialize(index);
    }

    /// Whether a running node beside this one has all of a keyspace that it replicates.
    pub(crate) fn is_elsewhere(&self, index: usize, keyspace: &str) -> bool {
        let id = keyspace_id(keyspace);
        let has = |node: &crate::node::Node| node.known.get(&id).is_some_and(|applied| !applied.is_partial);
        let mut others = self.nodes.iter().filter(|node| node.index != index && node.is_running());
        others.any(|node| has(node) && !self.is_leaving(node.index, id))
    }

    /// Whether a node has been told to leave a keyspace and is still there.
    pub(crate) fn is_leaving(&self, index: usize, keyspace: KeyspaceId) -> bool {
        self.leaving.values().any(|of| *of == (index, keyspace))
    }

    /// Begins to wait for peers to have the node's writes on disk.
    pub fn wait(&mut self, name: &str) -> RequestId {
        let id = self.next_request();
        self.input(name, Input::Confirm(id, named(NOTES)));
        id
    }

    /// How many peers have confirmed a wait, as the node said last.
    ///
    /// # Panics
    /// If it said nothing.
    pub fn confirmed(&self, wait: RequestId) -> usize {
        self.confirmations[&wait]
    }

    /// One input as one turn.
    pub fn input(&mut self, name: &str, input: Input) -> tidelock_engine::turn::TurnOutcome {
        let index = self.index(name);
        self.turn(index, vec![input])
    }

    /// Lets time pass until all running nodes are equal, and checks that nothing was lost.
    pub fn settle(&mut self) {
        let running: Vec<String> =
            self.nodes.iter().filter(|node| node.is_running()).map(|node| node.name.clone()).collect();
        let names: Vec<&str> = running.iter().map(String::as_str).collect();
        self.settle_among(&names);
        for index in 0..self.nodes.len() {
            self.has_everything(index);
        }
    }

    /// After a while without writes no counter has a slot that counts nothing, and no frame waits for another.
    pub fn has_no_leftovers(&mut self, names: &[&str]) {
        let has_retired = self.tally.get("retirements") > 0;
        self.run(if has_retired { FOLDED_MS } else { 10_000 });
        self.settle();
        self.has_nothing_overdue(names);
        for name in names {
            let index = self.index(name);
            let (frames, bytes) = self.report(name).early;
            if frames > 0 && !self.ledger.is_hostile() {
                let detail = format!("{frames} frames of {bytes} bytes");
                self.fail(index, &Violation::new("no frame waits for what was applied", detail));
            }
            let keyspaces: Vec<_> = self.nodes[index].known.keys().copied().collect();
            for keyspace in keyspaces {
                let rows = all_rows(self.nodes[index].driver().store(), keyspace).expect("rows can be read");
                // A replica that is there no more cannot close its slots; others can when it was retired.
                let retired = retired(&rows);
                let is_closed = |row: &&RowId| {
                    let mut there = self.nodes.iter().filter(|node| node.is_running());
                    let owner = row.dot.replica;
                    there.any(|node| node.card.replica() == owner) || retired.contains(&owner)
                };
                let spent = spent_slots(&rows).filter(is_closed).count();
                if spent > 0 {
                    let detail = format!("{spent} spent slots");
                    self.fail(index, &Violation::new("spent slots are closed", detail));
                }
            }
        }
    }

    /// Among honest nodes nobody has two histories, and equal heads never show other rows. Damaged messages
    /// can make it seem so.
    pub fn accuses_nobody(&self, names: &[&str]) {
        let damaged = ["corrupted messages", "truncated messages"];
        let is_damaged = damaged.iter().any(|name| self.network.borrow().tally.get(name) > 0);
        for name in names.iter().filter(|_| !self.ledger.is_hostile()) {
            let report = self.report(name);
            let is_diverged = report.counters.get("checks_diverged") > 0;
            if !report.evidence.is_empty() || is_diverged && !is_damaged {
                let detail = format!("diverged: {is_diverged}, evidence: {:?}", report.evidence);
                self.fail(self.index(name), &Violation::new("honest nodes are not accused", detail));
            }
        }
    }

    pub(crate) fn has_everything(&self, index: usize) {
        let node = &self.nodes[index];
        for (keyspace, space) in self.ledger.spaces().filter(|_| node.is_running()) {
            let ops = node.known.get(&keyspace).map(|applied| applied.ops.clone()).unwrap_or_default();
            if let Err(violation) = nothing_kept_is_lost(&space.kept, &ops, &space.forgiven) {
                self.fail(index, &violation);
            }
        }
        if node.is_running()
            && let Err(violation) = files_are_bounded(node)
        {
            self.fail(index, &violation);
        }
    }

    /// Lets time pass until these nodes are equal.
    pub fn settle_among(&mut self, names: &[&str]) {
        self.settle_within(names, SETTLE_MS);
    }

    /// Lets time pass until these nodes are equal, which must be before so many milliseconds are over; answers
    /// how long it took.
    pub fn settle_within(&mut self, names: &[&str], ms: u64) -> u64 {
        let start = self.now_us();
        while !self.is_settled(names) {
            if self.now_us() > start + 1_000 * ms {
                let index = self.index(names[0]);
                let detail = format!("not within {ms} ms:\n{}", self.describe(names));
                self.fail(index, &Violation::new("replicas converge", detail));
            }
            self.run(100);
        }
        (self.now_us() - start) / 1_000
    }

    /// Whether nodes have the same heads and rows in every keyspace.
    pub fn is_settled(&self, names: &[&str]) -> bool {
        let states: BTreeSet<Vec<String>> =
            names.iter().map(|name| self.state_of(self.index(name))).collect();
        states.len() == 1
    }

    fn describe(&self, names: &[&str]) -> String {
        let one = |name: &&str| {
            let report = self.report(name);
            let link = |link: &tidelock_engine::replica::LinkReport| {
                format!("{}: {} shared, {} eager", self.name_of(link.peer), link.shared, link.eager)
            };
            let links: Vec<String> = report.links.iter().map(link).collect();
            let state = self.state_of(self.index(name));
            format!("{name}: {state:?}\n  {links:?}\n  {:?}\n", report.counters)
        };
        names.iter().map(one).collect()
    }

    fn name_of(&self, peer: PeerId) -> String {
        let node = self.nodes.iter().find(|node| node.config.key.peer() == peer);
        node.map_or_else(|| peer.to_string(), |node| node.name.clone())
    }

    /// What a node reports of itself.
    pub fn report(&self, name: &str) -> Report {
        self.node(name).driver().replica().report()
    }

    /// One of the figures that a node reports.
    pub fn counter(&self, name: &str, counter: &str) -> u64 {
        self.report(name).counters.get(counter)
    }

    /// Whose operations a node makes.
    pub fn replica(&self, name: &str) -> ReplicaId {
        self.node(name).card.replica()
    }

    /// Who a node is to its peers.
    pub fn peer(&self, name: &str) -> PeerId {
        self.node(name).config.key.peer()
    }

    /// Whether a node has greeted another one.
    pub fn is_linked(&self, a: &str, b: &str) -> bool {
        let b = self.peer(b);
        self.report(a).links.iter().any(|link| link.peer == b)
    }

    /// Sets a clock so many milliseconds ahead of the true time, or behind it.
    pub fn set_clock(&mut self, name: &str, ahead_ms: i64) {
        self.node_mut(name).clock.ahead_ms = ahead_ms;
        self.tally.count("clock jumps");
    }

    /// Stops a clock, or lets it go on.
    pub fn freeze_clock(&mut self, name: &str, is_frozen: bool) {
        let now_us = self.now_us();
        let node = self.node_mut(name);
        node.clock.frozen_ms = None;
        node.clock.frozen_ms = is_frozen.then(|| node.clock.unix_ms(now_us));
        self.tally.count("frozen clocks");
    }
}
