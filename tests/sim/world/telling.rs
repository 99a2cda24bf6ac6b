//! What the world says of its nodes: what broke and what happened before, and the states that stories compare.

use tidelock_engine::id::KeyspaceId;

use super::{World, keyspace_id};
use crate::ledger::Violation;
use crate::observed::{all_rows, fingerprint};

impl World {
    /// Ends the run: tells what broke, what happened before, and how to see it again.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, index: usize, violation: &Violation) -> ! {
        let node = &self.nodes[index];
        panic!(
            "{} does not hold at {} (step {}, {:.3} s)\n  {}\n{}\n  replay: {}",
            violation.property,
            node.name,
            self.trace.steps(),
            seconds(self.now_us),
            violation.detail,
            self.tell(),
            self.replay,
        )
    }

    /// The last events of every node.
    pub fn tell(&self) -> String {
        let one = |node: &crate::node::Node| format!("  {}:\n{}", node.name, self.trace.tell(node.index));
        self.nodes.iter().map(one).collect()
    }

    /// The state of a keyspace at a node that stories compare: heads and fingerprint.
    pub fn state_of(&self, index: usize) -> Vec<String> {
        let Some(driver) = &self.nodes[index].driver else { return Vec::new() };
        if self.ledger.is_hostile() {
            return self.honest_state_of(index);
        }
        let keyspaces = driver.replica().report().keyspaces.into_iter();
        keyspaces.map(|keyspace| format!("{}={}", keyspace.name, keyspace.fingerprint)).collect()
    }

    /// What stories compare when somebody does not keep the rules: the heads and rows of honest authors. What
    /// a liar has told to each may differ for ever.
    fn honest_state_of(&self, index: usize) -> Vec<String> {
        let node = &self.nodes[index];
        let is_honest = |author| !self.ledger.is_distrusted(author);
        let state = |(keyspace, applied): (&KeyspaceId, &crate::ledger::Applied)| {
            let heads: Vec<_> = applied.heads.iter().filter(|(author, _)| is_honest(*author)).collect();
            let mut rows = all_rows(node.driver().store(), *keyspace).expect("rows can be read");
            rows.retain(|(row, _)| is_honest(row.dot.replica));
            (!heads.is_empty()).then(|| format!("{keyspace}={heads:?}-{:?}", fingerprint(&rows)))
        };
        node.known.iter().filter_map(state).collect()
    }

    /// The fingerprint of the rows that a node shows now.
    ///
    /// # Panics
    /// If they cannot be read.
    pub fn rows_of(&self, name: &str, keyspace: &str) -> crate::observed::RowList {
        all_rows(self.node(name).driver().store(), keyspace_id(keyspace)).expect("rows can be read")
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}
