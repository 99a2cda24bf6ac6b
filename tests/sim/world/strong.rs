//! Anchors and strong keyspaces: how a world comes to have them, what clients do there, and how that is judged.

use std::collections::BTreeSet;

use tidelock_engine::ports::{AnchorId, Durability, Role, Status};
use tidelock_engine::replica::{AnchorOrder, AnchorReply, Input, Order, Terms};
use tidelock_engine::request::{Action, Atomicity, Request, RequestId, RequestReply};
use tidelock_engine::turn::TurnOutcome;

use super::{World, keyspace_id, named};
use crate::group::Break;
use crate::ledger::Violation;
use crate::linearizable::{Verdict, check};
use crate::node::Node;
use crate::observed::{all_rows, fingerprint};
use crate::strong::clients::{CELLS, Came, Waiting};
use crate::strong::deeds::{Deed, Told};

/// How long the group is given to do what it is asked for, in milliseconds.
const GROUP_MS: u64 = 30_000;

/// How long a client waits for an answer, in milliseconds.
const WITHIN_MS: u64 = 3_000;

/// How long the group is given to become what it is to be, in milliseconds.
const GROWTH_MS: u64 = 120_000;

/// The cell that no client shares, which stories and the checks of liveness use.
const STORY_CELL: u8 = 100;

impl World {
    /// A node founds the group, and is its only anchor.
    ///
    /// # Panics
    /// If it cannot.
    pub fn found(&mut self, name: &str) {
        let reply = self.govern(name, AnchorOrder::Found);
        assert_eq!(reply, Ok(()), "{name} founds the group");
    }

    /// Orders something of the group of anchors, and waits for the answer.
    ///
    /// # Errors
    /// As the node answers.
    pub fn govern(&mut self, name: &str, order: AnchorOrder) -> AnchorReply {
        let id = self.next_request();
        self.input(name, Input::Govern(id, order));
        self.until("an order of the group ends", GROUP_MS, |world| world.governed.contains_key(&id));
        self.governed.remove(&id).expect("it has ended")
    }

    /// A world of nodes that all know each other and are connected, of which the first so many are the anchors, and have
    /// the keyspace of this name for a strong one.
    pub fn with_anchors(seed: u64, names: &[&str], anchors: usize, keyspace: &str) -> Self {
        let mut world = Self::new(seed);
        world.add_members(names, anchors);
        world.found(names[0]);
        world.all_vote(&names[..anchors]);
        world.make_strong(names[0], keyspace);
        world.all_know(keyspace);
        world
    }

    /// Adds nodes that all know each other. The first so many are willing to be anchors, once somebody has founded a group,
    /// and the others never are.
    pub fn add_members(&mut self, names: &[&str], anchors: usize) {
        for (number, name) in names.iter().enumerate() {
            let target = if number < anchors { anchors } else { 0 };
            self.add_with(name, |node| node.config.anchors_target = target);
        }
        for (number, name) in names.iter().enumerate() {
            names[number + 1..].iter().for_each(|other| self.connect(name, other));
        }
        self.run(1_000);
    }

    /// Lets time pass until these nodes are the voters, as each of them knows.
    pub fn all_vote(&mut self, names: &[&str]) {
        self.until("these are the voters", GROWTH_MS, |world| {
            let anchors: Option<BTreeSet<AnchorId>> = names.iter().map(|name| world.anchor(name)).collect();
            let wanted = anchors.map(|anchors| vec![anchors]);
            names.iter().all(|name| Some(&world.group(name).membership.voters) == wanted.as_ref())
        });
    }

    /// Which anchor a running node is, if it is one.
    pub fn anchor(&self, name: &str) -> Option<AnchorId> {
        self.node(name).driver.as_ref()?.replica().anchor()
    }

    /// How the group stands, as a node says.
    pub fn group(&self, name: &str) -> &Status {
        self.node(name).driver().replica().group()
    }

    /// Who leads: the running anchor that says so in the highest term.
    pub fn leader(&self) -> Option<String> {
        let running = self.nodes.iter().filter(|node| node.is_running());
        let leads = running.filter(|node| node.driver().replica().group().role == Role::Leader);
        let newest = leads.max_by_key(|node| node.driver().replica().group().term);
        newest.map(|node| node.name.clone())
    }

    /// Lets time pass until somebody leads whom a majority follows; answers who.
    pub fn elected(&mut self) -> String {
        self.until("a leader that a majority follows", GROUP_MS, |world| {
            world.leader().is_some_and(|leader| {
                let status = world.group(&leader);
                let is_alone = status.membership.voters.iter().all(|voters| voters.len() == 1);
                (is_alone || status.quorum_ack_age.is_some()) && status.applied == status.last
            })
        });
        self.leader().expect("there is one")
    }

    /// Lets time pass until something holds.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn until(&mut self, what: &str, ms: u64, holds: impl Fn(&Self) -> bool) {
        let end = self.now_us() + 1_000 * ms;
        while !holds(self) {
            if self.now_us() >= end {
                let detail = format!("{what}, not within {ms} ms\n{}", self.describe_groups());
                self.fail(0, &Violation::new("the group does what it should", detail));
            }
            self.run(5);
        }
    }

    fn describe_groups(&self) -> String {
        let of = |node: &Node| {
            let group =
                node.driver.as_ref().map(|driver| (driver.replica().anchor(), driver.replica().group()));
            format!("{}: {group:?}\n", node.name)
        };
        self.nodes.iter().map(of).collect()
    }

    /// From now on a keyspace that is strong, or is to be, is judged as one. Before anybody writes there.
    pub fn watch_strong(&mut self, keyspace: &str) {
        self.strong.watch(keyspace_id(keyspace));
    }

    /// Makes an empty keyspace strong, by the order of an anchor, and waits until all that run know it.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn make_strong(&mut self, name: &str, keyspace: &str) {
        self.watch_strong(keyspace);
        let reply = self.order_and_wait(name, keyspace, Order::MakeStrong);
        reply.unwrap_or_else(|error| panic!("{keyspace} cannot be strong: {error}"));
    }

    /// Lets time pass until all nodes that run know that a keyspace is strong.
    pub fn all_know(&mut self, keyspace: &str) {
        self.until("everybody knows that a keyspace is strong", GROUP_MS, |world| {
            let mut running = world.nodes.iter().filter(|node| node.is_running());
            running.all(|node| world.knows_strong(node.index, keyspace))
        });
    }

    /// Whether a running node knows that a keyspace is strong.
    pub fn knows_strong(&self, index: usize, keyspace: &str) -> bool {
        let replica = self.nodes[index].driver().replica();
        replica.mode(keyspace_id(keyspace)).is_some_and(|mode| mode.epoch().is_strong())
    }

    /// Asks something of a strong keyspace; `told` tells what came of it.
    pub fn ask_strong(&mut self, name: &str, request: Request, terms: Terms) -> RequestId {
        let index = self.index(name);
        let id = self.next_request();
        self.asked_strong.insert(id, index);
        self.turn(index, vec![Input::RequestOn(id, request, terms)]);
        id
    }

    /// Asks something of a strong keyspace, and waits for what comes of it.
    ///
    /// # Errors
    /// As the node answers.
    pub fn request_strong(&mut self, name: &str, keyspace: &str, actions: Vec<Action>) -> RequestReply {
        let request = Request {
            keyspace: named(keyspace),
            actions,
            atomicity: Atomicity::AllOrNothing,
            durability: Durability::Durable,
        };
        self.request_on(name, request, Terms::default())
    }

    /// The same, on these terms.
    ///
    /// # Errors
    /// As the node answers.
    pub fn request_on(&mut self, name: &str, request: Request, terms: Terms) -> RequestReply {
        let id = self.ask_strong(name, request, terms);
        self.until("a request is answered", terms.within_ms + 5_000, |world| world.told.contains_key(&id));
        self.told.remove(&id).expect("it is answered")
    }

    /// From now on nodes that start are broken, to show that it is found.
    pub fn break_on_purpose(&mut self, broken: Break) {
        self.foundation.broken = Some(broken);
    }

    /// What came of something that was asked for, as soon as it is answered.
    pub fn reply_to(&mut self, id: RequestId) -> RequestReply {
        self.until("a request is answered", GROUP_MS, |world| world.told.contains_key(&id));
        self.told.remove(&id).expect("it is answered")
    }

    /// What a deed that was asked for told, as soon as it is answered.
    ///
    /// # Panics
    /// If it was not done.
    pub fn told_of(&mut self, id: RequestId, deed: Deed) -> Told {
        let reply = self.reply_to(id);
        self.read_told(deed, reply)
    }

    /// What a deed that must be done told.
    ///
    /// # Panics
    /// If it was not done.
    pub fn read_told(&self, deed: Deed, reply: RequestReply) -> Told {
        let replies = reply.unwrap_or_else(|error| panic!("{deed:?}: {error:?}; {}", self.replay));
        deed.told(&replies).unwrap_or_else(|wrong| panic!("{wrong}; {}", self.replay))
    }

    /// The operations in a node's outbox of a keyspace.
    pub fn outbox(&self, name: &str, keyspace: &str) -> u64 {
        self.node(name).driver().replica().outbox_operations(keyspace_id(keyspace))
    }

    /// Whether nothing is acknowledged at a node in the epoch that it is in.
    pub fn is_fenced(&self, name: &str, keyspace: &str) -> bool {
        let mode = self.node(name).driver().replica().mode(keyspace_id(keyspace));
        mode.is_some_and(tidelock_engine::mode::Mode::is_fenced)
    }

    /// Whether an anchor makes the frames of a strong keyspace itself.
    pub fn is_exact(&self, name: &str, keyspace: &str) -> bool {
        let mode = self.node(name).driver().replica().mode(keyspace_id(keyspace));
        mode.is_some_and(tidelock_engine::mode::Mode::is_exact)
    }

    /// Groups that are opened from now on make a snapshot after so many bytes of log, and keep so many entries behind it.
    pub fn keep_group_logs(&mut self, snapshot_bytes: u64, entries_kept: u64) {
        let settings = &mut self.foundation.settings;
        (settings.snapshot_bytes, settings.entries_kept) = (snapshot_bytes, entries_kept);
    }

    /// Does something with the stories' cell of a strong keyspace, which must succeed; answers what it told.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn deed(&mut self, name: &str, keyspace: &str, deed: Deed) -> Told {
        let reply = self.request_on(name, deed.request(keyspace, STORY_CELL), Terms::default());
        self.read_told(deed, reply)
    }

    /// Every node takes a write to a strong keyspace before so many milliseconds are over.
    ///
    /// # Panics
    /// If one does not.
    pub fn serves_strong(&mut self, keyspace: &str, names: &[&str], within_ms: u64) {
        for name in names {
            let end = self.now_us() + 1_000 * within_ms;
            loop {
                let deed = Deed::Put(0, 1);
                let reply = self.request_on(name, deed.request(keyspace, STORY_CELL), Terms::default());
                if reply.is_ok() {
                    break;
                }
                if self.now_us() >= end {
                    let detail = format!("{name} answers {reply:?}\n{}", self.describe_groups());
                    let index = self.index(name);
                    self.fail(index, &Violation::new("strong keyspaces are served again", detail));
                }
                self.run(20);
            }
        }
    }

    /// Has so many clients ask for something all the time until `end_us`, each at a node of its own.
    pub fn keep_asking_strong(&mut self, keyspace: &'static str, clients: usize, every_ms: u64, end_us: u64) {
        self.strong.clients.keyspace = Some((keyspace, keyspace_id(keyspace)));
        for number in 0..clients {
            let client = self.strong.clients.add(number % self.nodes.len());
            self.asks_next(client, every_ms, end_us);
        }
    }

    fn asks_next(&mut self, client: usize, every_ms: u64, end_us: u64) {
        let wait = self.random.between(0, 2_000 * every_ms);
        self.after(wait, move |world| world.client_asks(client, every_ms, end_us));
    }

    fn client_asks(&mut self, client: usize, every_ms: u64, end_us: u64) {
        if self.now_us() > end_us {
            return;
        }
        let (keyspace, _) = self.strong.clients.keyspace.expect("they have a keyspace");
        let cell = self.random.below(CELLS);
        let seen = self.strong.clients.all[client].seen[cell];
        let fresh = 1_000 * i64::try_from(self.requests).expect("they are few");
        let drawn = (Deed::random(&mut self.random, fresh, seen), u8::try_from(cell).expect("few"));
        let home = self.strong.clients.all[client].home;
        let may_ask = |world: &Self, index: usize| {
            let node = &world.nodes[index];
            node.is_running() && !world.is_paused(index) && world.knows_strong(index, keyspace)
        };
        let others: Vec<usize> = (0..self.nodes.len()).filter(|index| may_ask(self, *index)).collect();
        let index = if others.contains(&home) {
            home
        } else if others.is_empty() {
            return self.asks_next(client, every_ms, end_us);
        } else {
            *self.random.pick(&others)
        };
        let (asked, operation) = self.strong.clients.next(client, drawn);
        let id = self.next_request();
        self.strong.clients.waiting.insert(id, Waiting { client, node: index, asked });
        self.strong_asking = Some((every_ms, end_us));
        let terms = Terms { operation, within_ms: WITHIN_MS, ..Terms::default() };
        let request = asked.deed.request(keyspace, asked.cell);
        self.turn(index, vec![Input::RequestOn(id, request, terms)]);
    }

    /// Takes out of a turn's answers those of strong keyspaces, and of the group.
    pub(super) fn take_strong(&mut self, outcome: &mut TurnOutcome) -> Vec<(RequestId, RequestReply)> {
        self.governed.extend(std::mem::take(&mut outcome.governed));
        let (asked, clients) = (&self.asked_strong, &self.strong.clients.waiting);
        let is_strong =
            |(id, _): &mut (RequestId, RequestReply)| asked.contains_key(id) || clients.contains_key(id);
        outcome.replies.extract_if(.., is_strong).collect()
    }

    /// Passes on what strong keyspaces answered, once the log of the turn was read.
    pub(super) fn strong_turned(&mut self, index: usize, replies: Vec<(RequestId, RequestReply)>) {
        if let Some(driver) = &self.nodes[index].driver {
            let replica = driver.replica();
            let stands = self.strong.stands(replica.anchor(), replica.group());
            stands.unwrap_or_else(|violation| self.fail(index, &violation));
        }
        for (id, reply) in replies {
            self.trace.note(self.now_us(), index, || format!("answers {}: {reply:?}", id.0));
            if self.asked_strong.remove(&id).is_some() {
                self.told.insert(id, reply);
                continue;
            }
            let Some((client, number)) =
                self.strong.clients.waiting.get(&id).map(|waiting| (waiting.client, waiting.asked.number))
            else {
                continue;
            };
            let (_, keyspace) = self.strong.clients.keyspace.expect("they have a keyspace");
            let repeats = number.is_some() && self.random.chance(500);
            let came = self.strong.clients.answered(id, &reply, repeats);
            let judged = match came {
                Came::Done(Some(operation)) => self.strong.acknowledged(keyspace, operation),
                Came::Denied(operation) => self.strong.denied(keyspace, operation),
                Came::Done(None) | Came::Nothing => Ok(()),
                Came::Wrong(detail) => Err(Violation::new("strong keyspaces answer as asked", detail)),
            };
            judged.unwrap_or_else(|violation| self.fail(index, &violation));
            self.goes_on(client);
        }
    }

    /// A node has ended: whoever waited for it does no more.
    pub(super) fn strong_ended(&mut self, index: usize) {
        self.asked_strong.retain(|_, of| *of != index);
        let random = &mut self.random;
        let free = self.strong.clients.ended(index, || random.chance(500));
        free.into_iter().for_each(|client| self.goes_on(client));
    }

    fn goes_on(&mut self, client: usize) {
        if let Some((every_ms, end_us)) = self.strong_asking {
            self.asks_next(client, every_ms, end_us);
        }
    }

    /// Checks what a node shows of strong keyspaces.
    pub(super) fn check_strong(&mut self, index: usize, outcome: &TurnOutcome) {
        for keyspace in self.strong.keyspaces() {
            if !outcome.changes.rows.keys().any(|(of, _)| *of == keyspace) {
                continue;
            }
            let driver = self.nodes[index].driver();
            let reports = driver.replica().report().keyspaces;
            let Some(report) = reports.into_iter().find(|of| of.id == keyspace && !of.is_partial) else {
                continue;
            };
            let rows = match all_rows(driver.store(), keyspace) {
                Ok(rows) => rows,
                Err(error) => {
                    self.fail(index, &Violation::new("rows can be read", error.to_string()));
                }
            };
            let shown = fingerprint(&rows);
            let (heads, _) = report.fingerprint.split_once('-').expect("heads and rows");
            let result = self.strong.shows(keyspace, heads, shown);
            result.unwrap_or_else(|violation| self.fail(index, &violation));
            self.tally.count("strong states checked");
        }
    }

    /// Judges all that clients of strong keyspaces were told.
    pub fn judge_strong(&mut self) {
        self.strong.clients.give_up();
        let Some((_, keyspace)) = self.strong.clients.keyspace else { return };
        let executed = self.strong.executed_in(keyspace);
        let events = self.strong.clients.history(|name| executed.get(&name).copied());
        let detail = match check(&[None, None], &events) {
            Verdict::Linearizable => return,
            Verdict::TooLarge { cell } => format!("the search of cell {cell} was given up"),
            Verdict::Not { cell, explained, of } => {
                let mut of_cell: Vec<_> = events.iter().filter(|event| event.cell == cell).collect();
                of_cell.sort_by_key(|event| event.returned);
                let until = of_cell.len().min(explained + 10);
                let shown: Vec<String> = of_cell[explained.saturating_sub(30)..until]
                    .iter()
                    .map(|event| format!("  {}..{}: {:?}", event.called, event.returned, event.asked))
                    .collect();
                format!("{explained} of {of} operations of cell {cell} are explained\n{}", shown.join("\n"))
            }
        };
        self.fail(0, &Violation::new("what clients of strong keyspaces see is linearizable", detail));
    }
}
