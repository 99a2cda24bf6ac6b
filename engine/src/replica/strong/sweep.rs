//! What the leader of the anchors sees to while time passes: keys expire, and old outcomes go. Both are entries of the
//! log, so that they happen at one place in it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use super::{Ask, entry_of};
use crate::causality::Hlc;
use crate::command::Command;
use crate::id::KeyspaceId;
use crate::mode::Mode;
use crate::ports::{ReadError, Rows};
use crate::replica::{Now, Replica, Step, View};

/// How often the leader looks for keys that have expired, in milliseconds.
const EXPIRE_EVERY_MS: u64 = 1_000;

/// How often it lets outcomes go that are too old, in milliseconds.
const FORGET_EVERY_MS: u64 = 60_000;

/// How often an anchor notes the clock of a keyspace, in milliseconds.
const NOTED_EVERY_MS: u64 = 3_600_000;

/// How long outcomes are kept, in milliseconds.
const KEPT_MS: u64 = 86_400_000;

/// How long such a proposal may take, in milliseconds. What came of it does not matter: it is made again.
const WITHIN_MS: u64 = 5_000;

/// When it was looked last, on our monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    expired_ms: Option<u64>,
    forgot_ms: Option<u64>,
    noted_ms: Option<u64>,
    /// The clocks of keyspaces at moments of our monotonic clock, the oldest first. What was executed by then is as old
    /// as that, whatever wall clocks have said since: an outcome that goes too early lets its operation be executed twice.
    noted: BTreeMap<KeyspaceId, VecDeque<(u64, Hlc)>>,
}

impl Sweeps {
    /// Notes the clock of a keyspace.
    fn note(&mut self, keyspace: KeyspaceId, now_ms: u64, clock: Hlc) {
        let noted = self.noted.entry(keyspace).or_default();
        noted.push_back((now_ms, clock));
        // Of those that are old enough the newest alone is of use.
        while noted.get(1).is_some_and(|(at_ms, _)| at_ms + KEPT_MS <= now_ms) {
            noted.pop_front();
        }
    }

    /// Up to when a keyspace's outcomes are too old, by its own clock.
    fn too_old(&self, keyspace: KeyspaceId, now_ms: u64) -> Option<Hlc> {
        let noted = self.noted.get(&keyspace)?.iter().rev();
        noted.copied().find(|(at_ms, _)| at_ms + KEPT_MS <= now_ms).map(|(_, clock)| clock)
    }
}

fn is_due(last_ms: &mut Option<u64>, every_ms: u64, now_ms: u64) -> bool {
    let is_due = last_ms.is_none_or(|last_ms| now_ms >= last_ms + every_ms);
    if is_due {
        *last_ms = Some(now_ms);
    }
    is_due
}

impl Replica {
    /// Proposes what is due.
    pub(crate) fn tick_sweeps(&mut self, now: Now, view: &View<'_, '_>, step: &mut Step) {
        let sweeps = &mut self.strong.sweeps;
        if is_due(&mut sweeps.noted_ms, NOTED_EVERY_MS, now.mono_ms) {
            for (id, (_, mode)) in self.strong.modes.iter().filter(|(_, (_, mode))| mode.is_exact()) {
                sweeps.note(*id, now.mono_ms, mode.clock());
            }
        }
        if !self.strong.leads() {
            return;
        }
        let sweeps = &mut self.strong.sweeps;
        let expires = is_due(&mut sweeps.expired_ms, EXPIRE_EVERY_MS, now.mono_ms);
        let forgets = is_due(&mut sweeps.forgot_ms, FORGET_EVERY_MS, now.mono_ms);
        let exact = self.strong.modes.iter().filter(|(_, (_, mode))| mode.is_exact());
        let exact: Vec<(KeyspaceId, Mode)> = exact.map(|(id, (_, mode))| (*id, mode.clone())).collect();
        for (keyspace, mode) in exact {
            let epoch = mode.epoch();
            // A clock that is behind that of the keyspace waits for it.
            let until = Hlc::at(now.unix_ms);
            match expires.then(|| is_any_past(view, keyspace, now.unix_ms)) {
                Some(Ok(true)) => self.propose_sweep(&Command::Expire { keyspace, epoch, until }, step),
                Some(Err(error)) => tracing::error!(%error, "cannot look for expired keys"),
                Some(Ok(false)) | None => {}
            }
            let too_old = self.strong.sweeps.too_old(keyspace, now.mono_ms);
            if let Some(until) = too_old.filter(|_| forgets && self.revision(keyspace) > 0) {
                self.propose_sweep(&Command::ForgetOutcomes { keyspace, epoch, until }, step);
            }
        }
    }

    fn propose_sweep(&mut self, command: &Command, step: &mut Step) {
        let id = self.strong.requests.next_id();
        let entry = entry_of(std::slice::from_ref(command));
        step.asks.push(Ask::Propose { id, entry, within_ms: WITHIN_MS });
    }
}

/// Whether any key has a deadline that is past.
fn is_any_past(view: &View<'_, '_>, id: KeyspaceId, until_ms: u64) -> Result<bool, ReadError> {
    let mut is_any = false;
    if view.draft.has_deadlines(id) {
        view.draft.deadlines(id, None, until_ms, &mut |_| {
            is_any = true;
            ControlFlow::Break(())
        })?;
    }
    Ok(is_any)
}
