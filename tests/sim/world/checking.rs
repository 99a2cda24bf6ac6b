//! What is checked after a turn, and how a failure is told.

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::causality::Heads;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::KeyspaceId;
use tidelock_engine::install::Install;
use tidelock_engine::ports::{Choice, Log, LogEntry, LogPosition, Recovered, Store, TransportEvent};
use tidelock_engine::replica::{Heard, Input};
use tidelock_engine::request::{Request, RequestId};
use tidelock_engine::turn::TurnOutcome;

use super::asking::{Before, is_promised};
use super::{Scrutiny, World};
use crate::answers::Shown;
use crate::bounds::check_buffers;
use crate::checks::{PROPERTIES, Subject, nothing_kept_is_lost, rows_are_a_function_of_the_vector};
use crate::ledger::{Applied, Known, Making, Violation};
use crate::matching::Asked;
use crate::network::message_name;
use crate::node::{Node, Storage};
use crate::observed::{all_rows, fingerprint, from_rows};
use crate::replies;
use crate::sight::{Clocks, Sight};
use crate::specification::Reads;

/// A turn's inputs in a line.
pub(super) fn describe(inputs: &[Input]) -> String {
    let one = |input: &Input| match input {
        Input::Request(_, request) => {
            format!("{} {:?} {:?}", request.keyspace, request.durability, request.actions)
        }
        Input::Network(TransportEvent::Message { session, bytes }) => {
            format!("{} in {}", message_name(bytes), session.0)
        }
        Input::Network(other) => format!("{other:?}"),
        Input::RequestOn(id, request, _) => {
            format!("{} of {}: {:?}", id.0, request.keyspace, request.actions)
        }
        Input::Consensus(heard) => describe_heard(heard),
        other => format!("{other:?}"),
    };
    inputs.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What a group says, without what fills pages.
fn describe_heard(heard: &Heard) -> String {
    match heard {
        Heard::Status(status) => {
            format!("{:?} of {:?} in {}", status.role, status.leader, status.term)
        }
        Heard::Write { writes, .. } => format!("{} writes", writes.len()),
        Heard::Apply { entries, .. } => {
            let indexes: Vec<String> = entries.iter().map(|entry| entry.index.to_string()).collect();
            format!("apply {}", indexes.join(" "))
        }
        Heard::InstallSnapshot { .. } => "install a snapshot".to_owned(),
        other => format!("{other:?}"),
    }
}

impl World {
    /// Takes in what a turn left, and checks it.
    pub(super) fn turned(
        &mut self,
        index: usize,
        requests: Vec<(RequestId, Request)>,
        before: &Before,
        outcome: &TurnOutcome,
    ) {
        let clocks = self.clocks(index, before);
        self.trace.absorb_number(outcome.position.map_or(0, |position| position.0));
        self.trace.absorb_number(outcome.replies.len() as u64);
        if outcome.replies.len() != requests.len() {
            let detail = format!("{} of {} requests", outcome.replies.len(), requests.len());
            self.fail(index, &Violation::new("every request is answered in its turn", detail));
        }
        if let (Some(reads), Some((_, first)), Some((_, reply))) =
            (&before.reads, requests.first(), outcome.replies.first())
            && let Err(detail) = replies::check(&Shown::new(reads, clocks.removed_ms), first, reply)
        {
            self.fail(index, &Violation::new("writes are accepted and answered as specified", detail));
        }
        if self.scrutiny == Scrutiny::Everything
            && let Err(violation) = check_buffers(&mut self.nodes[index], self.trace.steps())
        {
            self.fail(index, &violation);
        }
        self.settings_changed(index, outcome);
        let is_promised = is_promised(&requests, outcome);
        let mut asked = self.asked(index, requests, outcome, before.is_alone);
        if outcome.position.is_some() && !self.read_log(index, &mut asked, clocks) {
            return;
        }
        // Also when nothing was committed: then nothing may have been acknowledged.
        for (keyspace, left) in &mut asked {
            let nothing = Applied::default();
            let applied = &self.nodes[index].known.get(keyspace).unwrap_or(&nothing).ops;
            let sight = Sight { story: &self.ledger.space(*keyspace).story, applied, clocks };
            if let Err(detail) = left.is_done(&sight) {
                self.fail(index, &Violation::new("nothing acknowledged is lost", detail));
            }
        }
        self.check_expiry(index, Some(before.now_ms));
        if outcome.position.is_some() {
            if is_promised {
                self.keep(index);
            }
            self.kept(index);
            self.check(index);
            self.check_strong(index, outcome);
            self.watchers_are_told(index, outcome);
        }
    }

    /// What was left is there no more. Who joins again, and wrote there before, has nothing until it took over state.
    fn settings_changed(&mut self, index: usize, outcome: &TurnOutcome) {
        let node = &mut self.nodes[index];
        for (name, settings) in &outcome.settings {
            let keyspace = KeyspaceId::of(node.config.cluster, name);
            if settings.choice == Some(Choice::Leave) {
                node.leave(keyspace);
                self.tally.count("keyspaces left");
                continue;
            }
            node.left.remove(&keyspace);
            if self.strong.watches(keyspace) {
                continue;
            }
            if !node.known.contains_key(&keyspace) {
                let is_partial = settings.is_behind(node.card.replica(), 0);
                node.known.entry(keyspace).or_default().is_partial = is_partial;
                self.tally.count("keyspaces joined");
            }
        }
    }

    /// What watchers are told of a turn leads from the rows before it to those after it.
    fn watchers_are_told(&mut self, index: usize, outcome: &TurnOutcome) {
        let Node { driver, told, known, .. } = &mut self.nodes[index];
        let Some(store) = driver.as_ref().and_then(|driver| driver.store().redb()) else { return };
        for ((keyspace, row), change) in &outcome.changes.rows {
            let told = told.entry(*keyspace).or_default();
            change.before.iter().for_each(|before| told.remove(row, before));
            change.after.iter().for_each(|after| told.insert(row, after));
        }
        let reader = store.reader();
        let shown =
            |keyspace| reader.summary(keyspace).map(|summary| summary.fingerprint).unwrap_or_default();
        let is_wrong =
            |keyspace: &&KeyspaceId| shown(**keyspace) != told.get(*keyspace).copied().unwrap_or_default();
        let wrong = known.keys().find(is_wrong);
        if let Some(keyspace) = wrong.copied() {
            let detail = format!("changes of {keyspace} are missing");
            self.fail(index, &Violation::new("watchers are told of every change", detail));
        }
    }

    /// A store that takes no more writes reads what it did before.
    pub(super) fn still_reads(&mut self, index: usize) {
        self.nodes[index].checked.clear();
        self.check(index);
    }

    /// Notes which frames come to a node in a turn, and from whom, if somebody follows them.
    pub(super) fn follow(&mut self, index: usize, inputs: &[Input]) {
        let Some(paths) = &mut self.paths else { return };
        let network = self.network.borrow();
        for input in inputs {
            if let Input::Network(TransportEvent::Message { session, bytes }) = input
                && let Some(from) = network.sender(*session)
            {
                paths.arrives(index, from, bytes);
            }
        }
    }

    /// Reads what is new in a node's log; answers whether it could. It cannot if the power went in the same turn, behind a
    /// commit that was not durable: then nobody will ever know what that held.
    fn read_log(&mut self, index: usize, asked: &mut BTreeMap<KeyspaceId, Asked>, clocks: Clocks) -> bool {
        let node = &mut self.nodes[index];
        let store = node.driver.as_ref().expect("it runs").store();
        let from = LogPosition(node.position.0 + 1);
        let read = || store.records_from(from, usize::MAX);
        // To read its log a store may have to write what it holds back.
        let records = match node.storage {
            Storage::Disk => node.disk().unstruck(read),
            Storage::Memory => read(),
        };
        let records = match records {
            Ok(records) => records,
            Err(_) if node.is_cut_planned && node.disk().is_off() => return false,
            Err(error) => self.fail(index, &Violation::new("the log can be read", error.to_string())),
        };
        let mut making = Making { own: node.card.replica(), asked, clocks };
        for record in records {
            node.position = record.position;
            let keyspace = record.entry.keyspace();
            if keyspace.is_some_and(|keyspace| node.left.contains(&keyspace)) {
                continue;
            }
            if keyspace.is_some_and(|keyspace| self.strong.watches(keyspace)) {
                if let LogEntry::Frame(bytes) = &record.entry
                    && let Err(violation) = self.strong.take_in(bytes)
                {
                    self.fail(index, &violation);
                }
                continue;
            }
            let unread = |error: String| Violation::new("the log can be read", error);
            let read = match &record.entry {
                LogEntry::Frame(bytes) => {
                    self.tally.count("frames applied");
                    Frame::decode(bytes).map_err(|error| unread(error.to_string())).and_then(|frame| {
                        if let Some(paths) = &mut self.paths {
                            paths.applied((index, node.started_us), &frame, self.now_us);
                        }
                        self.ledger.take_in(&frame, &mut making, &mut node.known)
                    })
                }
                // It was of a keyspace that the node has left.
                LogEntry::Dropped => Ok(()),
                LogEntry::Install(bytes) => {
                    self.tally.count("states taken over");
                    Install::decode(bytes)
                        .map_err(|error| unread(error.to_string()))
                        .and_then(|install| self.ledger.take_over(&install, &mut node.known))
                }
                LogEntry::Staged(_) => {
                    self.tally.count("pieces of state staged");
                    Ok(())
                }
            };
            if let Err(violation) = read {
                self.fail(index, &violation);
            }
        }
        true
    }

    /// What a node has applied is on its disk, if it says that everything is.
    pub(super) fn kept(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let is_durable = node
            .driver
            .as_ref()
            .is_some_and(|driver| driver.is_durable() && driver.store().failed().is_none());
        if is_durable {
            self.keep(index);
        }
    }

    /// From now on nothing of what a node has applied may be lost.
    fn keep(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        for (keyspace, applied) in &node.known {
            self.ledger.space(*keyspace).kept.join(&applied.ops);
        }
        // What is in memory is never lost, so nothing need be remembered.
        if node.storage == Storage::Disk {
            node.durable.clone_from(&node.known);
        }
    }

    /// Reads a node's whole log after a start: what it had on disk must be there; what it had not may be lost,
    /// but then nobody else has it.
    pub(super) fn reread(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let (own, cluster) = (node.card.replica(), node.config.cluster);
        let recovered = node.driver.as_ref().expect("it runs").store().recovered();
        // What was ordered and not acknowledged may be on disk all the same.
        node.left.clear();
        for (name, settings) in &recovered.settings {
            if settings.choice == Some(Choice::Leave) {
                node.leave(KeyspaceId::of(cluster, name));
            }
        }
        let before = std::mem::take(&mut node.known);
        let durable = match node.storage {
            Storage::Disk => std::mem::take(&mut node.durable),
            Storage::Memory => before.clone(),
        };
        let mut limbo = std::mem::take(&mut node.limbo);
        node.position = LogPosition(0);
        node.checked.clear();
        if let Some(paths) = &mut self.paths {
            paths.restarts(index);
        }
        // Rows that were lost with the records that made them. Others that are partial hold what the log says.
        let partial: BTreeSet<KeyspaceId> = recovered
            .keyspaces
            .iter()
            .filter(|(_, state)| state.is_partial && state.heads.is_empty())
            .map(|(name, _)| KeyspaceId::of(cluster, name))
            .filter(|keyspace| !self.strong.watches(*keyspace))
            .collect();
        for keyspace in &partial {
            node.known.entry(*keyspace).or_default().is_partial = true;
        }
        // A store that was put back, and knows it, lost nothing by this start.
        let is_whole = |keyspace: &&KeyspaceId| recovered.fork.is_none() && !partial.contains(keyspace);
        for keyspace in before.keys().filter(is_whole) {
            let states = recovered.keyspaces.iter();
            let mut state = states.filter(|(name, _)| KeyspaceId::of(cluster, name) == *keyspace);
            let seq = state.next().map_or(0, |(_, state)| state.heads.seq(own));
            let lost = self.ledger.forget(*keyspace, own, seq);
            self.tally.add("buffered writes lost", lost.len() as u64);
            let has = |other: &&crate::node::Node| {
                other.known.get(keyspace).is_some_and(|applied| applied.heads.seq(own) > seq)
            };
            if let Some(other) = self.nodes.iter().find(has) {
                let detail = format!("{} has more of {own} than {seq}", other.name);
                self.fail(index, &Violation::new("nothing leaves a node before it is durable", detail));
            }
        }
        self.read_floors(index, &recovered);
        let node = &self.nodes[index];
        let shown_ms = node.clock_kept_ms();
        let clocks = Clocks { shown_ms, removed_ms: node.clock_highest_ms, set_ms: shown_ms };
        if !self.read_log(index, &mut limbo, clocks) {
            return;
        }
        // What is partial is read by nobody, and is whole again only when nothing is missing.
        let whole = durable.into_iter().filter(|(keyspace, _)| !partial.contains(keyspace)).collect();
        self.still_there(index, &whole);
        self.check_expiry(index, None);
        let Node { driver, told, .. } = &mut self.nodes[index];
        if let Some(store) = driver.as_ref().and_then(|driver| driver.store().redb()) {
            let reader = store.reader();
            let shown = |(keyspace, _)| Some((keyspace, reader.summary(keyspace)?.fingerprint));
            *told = reader.keyspaces().into_iter().filter_map(shown).collect();
        }
        self.kept(index);
        self.check(index);
    }

    /// What is missing from a node's log it has applied all the same.
    fn read_floors(&mut self, index: usize, recovered: &Recovered) {
        let node = &mut self.nodes[index];
        let store = node.driver.as_ref().expect("it runs").store();
        for (name, state) in &recovered.keyspaces {
            let keyspace = KeyspaceId::of(node.config.cluster, name);
            if self.strong.watches(keyspace) {
                continue;
            }
            let floors = state.heads.iter().map(|(author, _)| (author, store.floor(keyspace, author)));
            let floors: Vec<_> = floors.filter(|(_, seq)| *seq > 0).collect();
            if let Err(violation) =
                self.ledger.take_floors(keyspace, &floors, node.known.entry(keyspace).or_default())
            {
                self.fail(index, &violation);
            }
        }
    }

    fn still_there(&mut self, index: usize, durable: &Known) {
        for (keyspace, applied) in durable {
            // A bit that turned may take back a commit of nothing but the clock, which is in no record.
            let Node { known, is_damaged, .. } = &mut self.nodes[index];
            if let Some(now) = known.get_mut(keyspace).filter(|_| !*is_damaged) {
                now.expiring = applied.expiring.clone();
            }
            let now = self.nodes[index].known.get(keyspace).map(|applied| applied.ops.clone());
            let forgiven = crate::bits::Bits::default();
            if let Err(violation) = nothing_kept_is_lost(&applied.ops, &now.unwrap_or_default(), &forgiven) {
                self.fail(index, &violation);
            }
        }
    }

    /// Checks every property of every keyspace of a node.
    fn check(&mut self, index: usize) {
        if self.scrutiny == Scrutiny::Logs {
            return;
        }
        let keyspaces: Vec<KeyspaceId> = self.nodes[index].known.keys().copied().collect();
        for keyspace in keyspaces {
            if let Err(violation) = self.check_keyspace(index, keyspace) {
                self.fail(index, &violation);
            }
        }
    }

    fn check_keyspace(&mut self, index: usize, keyspace: KeyspaceId) -> Result<(), Violation> {
        let node = &self.nodes[index];
        let applied = &node.known[&keyspace];
        let checked_at = (applied.heads.hash(), node.clock_kept_ms());
        if applied.is_partial || applied.heads.is_empty() || node.checked.get(&keyspace) == Some(&checked_at)
        {
            return Ok(());
        }
        let store = node.driver.as_ref().expect("it runs").store();
        let rows = all_rows(store, keyspace);
        let rows = rows.map_err(|error| Violation::new("rows can be read", error.to_string()))?;
        let heads = checked_at.0;
        let is_hostile = self.ledger.is_hostile();
        let shown = fingerprint(&rows);
        // A liar has told each another thing under one name, and touches nobody else's rows.
        let is_honest = |author| !self.ledger.is_distrusted(author);
        let honest_rows: Vec<_> = rows.into_iter().filter(|(row, _)| is_honest(row.dot.replica)).collect();
        let (honest_heads, honest_shown) = if is_hostile {
            let honest: Heads = applied.heads.iter().filter(|(author, _)| is_honest(*author)).collect();
            (honest.hash(), fingerprint(&honest_rows))
        } else {
            (heads, shown)
        };
        let space = self.ledger.space(keyspace);
        let is_known = rows_are_a_function_of_the_vector(space, honest_heads, honest_shown)?;
        let space = self.ledger.space(keyspace);
        // What was found under these heads before is shown otherwise if more of it has expired.
        let is_known = is_known && !space.story.expires();
        let expected = if is_known { Reads::new() } else { space.story.reads(&applied.ops) };
        let subject = Subject {
            keyspace,
            store,
            applied,
            got: if is_known { Reads::new() } else { from_rows(&honest_rows) },
            expected_shown: Shown::new(&expected, checked_at.1),
            expected,
            shown,
            rows: &honest_rows,
            is_hostile,
        };
        for (name, holds) in PROPERTIES.iter().take(if is_known { 1 } else { PROPERTIES.len() }) {
            holds(&subject).map_err(|detail| Violation::new(name, detail))?;
        }
        self.tally.count("states checked");
        self.nodes[index].checked.insert(keyspace, checked_at);
        Ok(())
    }
}
