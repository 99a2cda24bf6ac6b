//! What the world knows and no node does: every frame that was ever made, what it was meant to do, who has
//! applied it, and what was acknowledged.
//!
//! A node's log is read after each of its turns, frame by frame, and each frame is held against this.

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::causality::{Dot, Head, Heads, VersionVector};
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{FrameId, KeyspaceId, ReplicaId};
use tidelock_engine::install::Install;

use crate::bits::Bits;
use crate::matching::Asked;
use crate::sight::{Clocks, Sight};
use crate::specification::{Deadlines, Story};

/// What broke, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property that does not hold.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// A property that does not hold.
    pub fn new(property: &'static str, detail: impl Into<String>) -> Self {
        Self { property, detail: detail.into() }
    }
}

/// What one node has applied in one keyspace.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Its heads, as its log says.
    pub heads: Heads,
    /// The operations.
    pub ops: Bits,
    /// What its log may lack.
    floor: VersionVector,
    /// Whether state is being taken over, and the rows are those of no version vector.
    pub is_partial: bool,
    /// What expires there.
    pub expiring: Expiring,
}

/// What expires at a node.
#[derive(Clone, Debug, Default)]
pub struct Expiring {
    /// The deadlines that stand, by key.
    pub deadlines: BTreeMap<Vec<u8>, Deadlines>,
    /// The clock by which some of them are past, in Unix milliseconds.
    pub clock_ms: u64,
    /// How many operations were applied when these were found to stand.
    pub ops: usize,
}

/// A frame that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    id: FrameId,
    ops: Bits,
    /// What must be applied wherever it is: what its author had applied before. Beside liars only what honest
    /// frames tell of that, for they tell no more than needed, and a liar's frame is not the same for all.
    past: Bits,
}

/// Where a frame is made: by whom, what clients asked for there, and what has expired.
#[derive(Debug)]
pub struct Making<'a> {
    /// Whose frames are made.
    pub own: ReplicaId,
    /// What is asked for, by keyspace.
    pub asked: &'a mut BTreeMap<KeyspaceId, Asked>,
    /// What has expired.
    pub clocks: Clocks,
}

/// All that was done in one keyspace.
#[derive(Debug, Default)]
pub struct Space {
    /// The operations.
    pub story: Story,
    made: BTreeMap<(ReplicaId, u64), Made>,
    /// The rows, by the heads they were seen under, as a fingerprint of what was read.
    pub rows_at: BTreeMap<u128, u128>,
    /// The operations that were durable at their author once; they may not be lost.
    pub kept: Bits,
    /// Those that only a disk had that was wiped or damaged.
    pub forgiven: Bits,
}

/// The book of all keyspaces.
#[derive(Debug, Default)]
pub struct Ledger {
    spaces: BTreeMap<KeyspaceId, Space>,
    /// Authors that may do what they want.
    hostile: BTreeSet<ReplicaId>,
}

/// What is known of one node: per keyspace what it has applied.
pub type Known = BTreeMap<KeyspaceId, Applied>;

impl Ledger {
    /// The keyspace's book.
    pub fn space(&mut self, keyspace: KeyspaceId) -> &mut Space {
        self.spaces.entry(keyspace).or_default()
    }

    /// The books of all keyspaces in which something was done.
    pub fn spaces(&self) -> impl Iterator<Item = (KeyspaceId, &Space)> {
        self.spaces.iter().map(|(id, space)| (*id, space))
    }

    /// From now on an author is not expected to be honest.
    pub fn distrust(&mut self, author: ReplicaId) {
        self.hostile.insert(author);
    }

    /// Whether an author is not expected to be honest.
    pub fn is_distrusted(&self, author: ReplicaId) -> bool {
        self.hostile.contains(&author)
    }

    /// Whether there is anybody who is not expected to be honest.
    pub fn is_hostile(&self) -> bool {
        !self.hostile.is_empty()
    }

    /// Takes in a frame that was found in the log of a node, behind what is `known` of it, or was made there.
    ///
    /// # Errors
    /// The frame is not what was made, or not where it may be.
    pub fn take_in(
        &mut self,
        frame: &Frame,
        making: &mut Making<'_>,
        known: &mut Known,
    ) -> Result<(), Violation> {
        let header = frame.header();
        let applied = known.entry(header.keyspace).or_default();
        if applied.is_partial {
            // It is in the log, and in no rows.
            return Ok(());
        }
        let space = self.spaces.entry(header.keyspace).or_default();
        let next = applied.heads.seq(header.author) + 1;
        if applied.floor.covers(header.last_dot()) {
            // The floor rose later than it came.
            return Ok(());
        }
        let is_hostile = self.hostile.contains(&header.author);
        let is_next = header.first == next || is_hostile && (header.first..=header.last()).contains(&next);
        if !is_next {
            let detail = format!("{} is applied where {next} is next", header.first);
            return Err(Violation::new("an author's operations are applied in order", detail));
        }
        let name = (header.author, header.last());
        if header.author == making.own && !space.made.contains_key(&name) {
            let asked = making.asked.entry(header.keyspace).or_default();
            let past = if self.hostile.is_empty() { applied.ops.clone() } else { space.told_past(frame) };
            let made = space.mean(frame, &applied.ops, asked, making.clocks)?;
            space.made.insert(name, Made { id: frame.id(), ops: made, past });
        }
        match space.made.get(&name) {
            Some(made) if made.id != frame.id() && !self.hostile.contains(&header.author) => {
                let detail = format!("{} {} names two frames", header.author, header.last());
                return Err(Violation::new("dots are unique for ever", detail));
            }
            Some(made) if !applied.ops.contains_all(&made.past) => {
                let missing: Vec<usize> = made.past.without(&applied.ops).iter().collect();
                let detail = format!("{} {} without {missing:?}", header.author, header.last());
                return Err(Violation::new("operations are applied in causal order", detail));
            }
            Some(made) => applied.ops.join(&made.ops),
            None if self.hostile.contains(&header.author) => {}
            None => {
                let detail = format!("{} {} was applied and never made", header.author, header.last());
                return Err(Violation::new("only what was made is applied", detail));
            }
        }
        applied.heads.advance(header.author, Head { seq: header.last(), frame: frame.id() });
        Ok(())
    }

    /// Takes in that a node took over state.
    ///
    /// # Errors
    /// It is the state of no set of operations that holds the past of each.
    pub fn take_over(&mut self, install: &Install, known: &mut Known) -> Result<(), Violation> {
        let applied = known.entry(install.keyspace).or_default();
        applied.is_partial = install.heads.is_none();
        let seqs = install.heads.iter().flatten().map(|(author, head)| (*author, head.seq));
        let seqs: Vec<_> = seqs.collect();
        let applied = known.entry(install.keyspace).or_default();
        for made in self.take_floors(install.keyspace, &seqs, applied)? {
            if !applied.ops.contains_all(&made.past) {
                let missing: Vec<usize> = made.past.without(&applied.ops).iter().collect();
                let detail = format!("state without {missing:?}");
                return Err(Violation::new("operations are applied in causal order", detail));
            }
        }
        Ok(())
    }

    /// Takes in that a node has applied all of some authors up to a seq, whatever its log holds of it; answers the
    /// frames.
    ///
    /// # Errors
    /// Nobody made a frame that ends there.
    pub(crate) fn take_floors(
        &mut self,
        keyspace: KeyspaceId,
        seqs: &[(ReplicaId, u64)],
        applied: &mut Applied,
    ) -> Result<Vec<&Made>, Violation> {
        let space = self.spaces.entry(keyspace).or_default();
        let mut taken: Vec<&Made> = Vec::new();
        for (author, seq) in seqs {
            let frames = space.made.range((*author, 0)..=(*author, *seq));
            taken.extend(frames.map(|(_, made)| made));
            let last = space.made.get(&(*author, *seq)).map(|made| made.id);
            if last.is_none() && !self.hostile.contains(author) {
                let detail = format!("{author} {seq} ends no frame that was made");
                return Err(Violation::new("only what was made is applied", detail));
            }
            applied.heads.advance(*author, Head { seq: *seq, frame: last.unwrap_or(FrameId::NONE) });
            applied.floor.raise(Dot::new(*author, *seq));
        }
        taken.iter().for_each(|made| applied.ops.join(&made.ops));
        Ok(taken)
    }

    /// A node lost operations of its own that never left it: its dots after `seq` will name others.
    pub fn forget(&mut self, keyspace: KeyspaceId, author: ReplicaId, seq: u64) -> Bits {
        let space = self.space(keyspace);
        let mut lost = Bits::default();
        space.made.retain(|(of, last), made| {
            let is_lost = *of == author && *last > seq;
            if is_lost {
                lost.join(&made.ops);
            }
            !is_lost
        });
        lost
    }
}

impl Space {
    /// What honest frames that a frame requires hold and require.
    fn told_past(&self, frame: &Frame) -> Bits {
        let header = frame.header();
        let own = Dot::new(header.author, header.first - 1);
        let mut past = Bits::default();
        for dot in frame.requirements().chain([own]) {
            let holder = self.made.range((dot.replica, dot.seq)..=(dot.replica, u64::MAX)).next();
            if let Some((_, made)) = holder.filter(|_| dot.seq > 0) {
                past.join(&made.past);
                past.join(&made.ops);
            }
        }
        past
    }

    /// What the operations of a new frame were meant to do, told one after the other.
    fn mean(
        &mut self,
        frame: &Frame,
        applied: &Bits,
        asked: &mut Asked,
        clocks: Clocks,
    ) -> Result<Bits, Violation> {
        let header = frame.header();
        let clocks = Clocks { set_ms: clocks.set_ms.max(header.hlc.unix_ms()), ..clocks };
        let (mut before, mut ops) = (applied.clone(), Bits::default());
        for of_frame in frame.operations() {
            let sight = Sight { story: &self.story, applied: &before, clocks };
            let meant = asked.meant_by(of_frame, header, &sight);
            let meant = meant.map_err(|detail| Violation::new("nodes do what clients ask for", detail))?;
            for op in meant {
                let sight = Sight { story: &self.story, applied: &before, clocks };
                if op.what.adds() && sight.is_over(&op.key, clocks.shown_ms) {
                    let detail = format!("{op:?} beside {:?}", sight.all(&op.key));
                    return Err(Violation::new("what is written on an expired key begins anew", detail));
                }
                let counting = self.story.folded(&op.what).intersection(&self.story.standing(&before));
                if !counting.is_empty() {
                    let detail = format!("{:?} are folded", counting.iter().collect::<Vec<_>>());
                    return Err(Violation::new("only what counts nothing is folded", detail));
                }
                let number = self.story.tell(op, before.clone());
                before.insert(number);
                ops.insert(number);
            }
        }
        Ok(ops)
    }
}
