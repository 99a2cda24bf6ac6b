//! Keys that expire: that they do, that they stay so, and that they are removed in the end.

use tidelock_engine::ports::Rows;

use super::{Scrutiny, World};
use crate::checks::expired_stays_expired;
use crate::ledger::{Expiring, Violation};

/// Within so long after its deadline a key is removed, whoever set it, in milliseconds: a minute, and what a turn and
/// the way to the others take.
const REMOVED_MS: u64 = 65_000;

impl World {
    /// Checks what of a node has expired, and notes what may next. `now_ms` is its clock if it has just had a turn.
    pub(super) fn check_expiry(&mut self, index: usize, now_ms: Option<u64>) {
        if self.scrutiny == Scrutiny::Logs {
            return;
        }
        let leaving: Vec<_> =
            self.leaving.values().filter(|(of, _)| *of == index).map(|(_, id)| *id).collect();
        let node = &mut self.nodes[index];
        let (clock_ms, highest_ms) = (node.clock_kept_ms(), node.clock_highest_ms);
        let has_failed = node.driver().store().failed().is_some();
        let mut result = Ok(());
        if clock_ms > highest_ms {
            let detail = format!("by {clock_ms}, and it was never later than {highest_ms}");
            result = Err(Violation::new("nothing expires before its deadline", detail));
        }
        for (keyspace, applied) in &mut node.known {
            let story = &self.ledger.space(*keyspace).story;
            if applied.is_partial || !story.expires() {
                applied.expiring = Expiring::default();
                continue;
            }
            let (before, ops) = (std::mem::take(&mut applied.expiring), applied.ops.len());
            let deadlines = if before.ops == ops {
                before.deadlines.clone()
            } else {
                story.standing_deadlines(&applied.ops)
            };
            applied.expiring = Expiring { deadlines, clock_ms, ops };
            let looked_ms = now_ms.filter(|_| !has_failed && !leaving.contains(keyspace));
            result = result.and(expired_stays_expired(&before, &applied.expiring, looked_ms));
        }
        if let Err(violation) = result {
            self.fail(index, &violation);
        }
    }

    /// A while after the last deadline that is past by anybody's clock, nothing is left of its key.
    pub(super) fn has_nothing_overdue(&mut self, names: &[&str]) {
        if !self.ledger.spaces().any(|(_, space)| space.story.expires()) {
            return;
        }
        self.run(REMOVED_MS);
        self.settle_among(names);
        let now_us = self.now_us();
        let clocks =
            self.nodes.iter().filter(|node| node.is_running()).map(|node| node.clock.unix_ms(now_us));
        let latest_ms = clocks.max().unwrap_or_default();
        for name in names {
            let index = self.index(name);
            for applied in self.nodes[index].known.values() {
                let expiring = applied.expiring.deadlines.iter();
                let until = |(key, deadlines): (&Vec<u8>, &crate::specification::Deadlines)| {
                    deadlines.last().map(|(deadline_ms, _)| (*deadline_ms, key.clone()))
                };
                let overdue = expiring.filter_map(until).find(|(at, _)| at + REMOVED_MS <= latest_ms);
                if let Some((deadline_ms, key)) = overdue {
                    let detail = format!("{}: {deadline_ms}, at {latest_ms}", String::from_utf8_lossy(&key));
                    self.fail(index, &Violation::new("what has expired is removed", detail));
                }
            }
        }
    }
}

impl crate::node::Node {
    /// By this clock keys have expired, in Unix milliseconds.
    pub(crate) fn clock_kept_ms(&self) -> u64 {
        self.driver().store().expiry().unix_ms()
    }
}
