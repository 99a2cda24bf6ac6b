//! Random worlds against a specification that never looks at a row.
//!
//! After every step of every replica: (1) its reads are those of the specification, computed from the
//! operations that its version vector claims; (2) these are causally closed; (3) no batch is torn; (4) its own
//! acknowledged operations are in; (5) any two states with equal vectors have equal rows; (6) there is one slot
//! per key and replica; (7) every write is accepted or refused, and answered, as the specification says. At the
//! end faults stop: all vectors and rows are equal, and no spent slot is left.
//!
//! More seeds: `SEEDS=1000000 cargo nextest run -p tidelock-engine --test it oracle`.
//! The worlds, events and oracles are those of reference/model.

use std::collections::BTreeMap;

use crate::specification::campaign::{Flavour, Work, campaign};
use crate::specification::observed::{self, key_name, subkey_name};
use crate::specification::outcome::{check_reply, rank};
use crate::specification::{KEYS, Meant, OPS_MAX, Ops, Reads, SUBKEYS, Story, What};
use crate::world;
use crate::world::by_hand::{COURIER, Station, card, request};
use crate::world::random::Random;
use crate::world::words::change;
use tidelock_engine::causality::Dot;
use tidelock_engine::crdt::DotStore;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::ReplicaId;
use tidelock_engine::ports::TransportEvent;
use tidelock_engine::replica::Input;
use tidelock_engine::row::Kind;
use tidelock_engine::write::Write;

struct Replica {
    station: Station,
    id: ReplicaId,
    side: usize,
    own: Ops,
}

struct World {
    flavour: Flavour,
    random: Random,
    replicas: Vec<Replica>,
    story: Story,
    /// Per author, in order: the last seq of a frame and the operations in it.
    frames: Vec<Vec<(u64, Ops)>>,
    on_the_way: Vec<(usize, usize, Frame)>,
    rows_of: BTreeMap<Vec<u64>, DotStore>,
    next_value: i64,
    work: Work,
}

type Checked = Result<(), String>;

impl World {
    fn new(seed: u64, flavour: Flavour) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(flavour.replicas_max - 1);
        let stations = u8::try_from(count).expect("worlds are small");
        let replica = |index| Replica {
            station: Station::new(index, stations),
            id: card(index).replica(),
            side: 0,
            own: 0,
        };
        Self {
            flavour,
            random,
            replicas: (0..stations).map(replica).collect(),
            story: Story::default(),
            frames: vec![Vec::new(); count],
            on_the_way: Vec::new(),
            rows_of: BTreeMap::new(),
            next_value: 0,
            work: Work::default(),
        }
    }

    fn run(&mut self) -> Checked {
        let events = 10 + self.random.below(self.flavour.events_max);
        for _ in 0..events {
            self.event()?;
        }
        self.quiesce()
    }

    fn event(&mut self) -> Checked {
        let index = self.random.below(self.replicas.len());
        if self.random.chance(self.flavour.restarts) {
            self.replicas[index].station.restart();
            self.work.restarts += 1;
            return self.check(index);
        }
        match self.random.below(100) {
            0..30 => self.write(index, 1),
            30..38 => self.write(index, 2),
            38..42 => self.mixed_turn(index),
            42..75 => self.deliver(),
            75..86 => self.pull(index),
            86..90 => {
                let ms = 200 + self.random.below(3_000) as u64;
                self.pass(index, ms)
            }
            90..93 => {
                let jump = self.random.below(4_000_000) as u64;
                let station = &mut self.replicas[index].station;
                let back = world::START_MS - 1_000_000;
                station.unix_ms = if jump.is_multiple_of(2) { station.unix_ms + jump } else { back + jump };
                Ok(())
            }
            93..96 => {
                for replica in &mut self.replicas {
                    replica.side = self.random.below(2);
                }
                Ok(())
            }
            96..98 => {
                self.replicas.iter_mut().for_each(|replica| replica.side = 0);
                Ok(())
            }
            _ => {
                self.on_the_way.retain(|(_, to, _)| *to != index);
                Ok(())
            }
        }
    }

    /// A write of one replica; `is_alone` when nothing comes between this moment and the write.
    fn invent(&mut self, index: usize, is_alone: bool) -> (Write, Meant) {
        let key = self.random.below(KEYS);
        let subkey = self.random.below(SUBKEYS);
        self.next_value += 1;
        let by = [-2, -1, 1, 2, 3, 4][self.random.below(6)];
        let value = self.next_value;
        let counting = [What::Set(value), What::Increment(by), What::Increment(by), What::Delete];
        let all = [
            What::Set(value),
            What::Increment(by),
            What::Increment(by),
            What::Delete,
            What::Add,
            What::Add,
            What::Remove,
            What::Put(value),
            What::Put(value),
            What::Unset,
            What::Clear,
            What::Change(value),
            What::Change(value),
            if is_alone { What::Compact(value) } else { What::Change(value) },
        ];
        let what =
            if self.flavour.is_counting { *self.random.pick(&counting) } else { *self.random.pick(&all) };
        let (name, sub) = (key_name(key), subkey_name(subkey));
        let number = |value: i64| value.to_string().into_bytes();
        let write = match what {
            What::Set(value) => Write::Set { key: name, value: number(value) },
            What::Increment(by) => Write::Increment { key: name, by },
            What::Delete => Write::Delete { key: name },
            What::Add => Write::Add { key: name, elements: vec![sub] },
            What::Remove => Write::Remove { key: name, elements: vec![sub] },
            What::Put(value) => Write::Put { key: name, fields: vec![(sub, number(value))] },
            What::Unset => Write::Unset { key: name, fields: vec![sub] },
            What::Clear => Write::Clear,
            What::Change(value) => change(name, number(value), Vec::new()),
            What::Compact(value) => {
                let replaced = self.changes_under(index, &name);
                change(name, number(value), replaced)
            }
        };
        (write, Meant { what, key, subkey, rank: None, past: 0 })
    }

    /// The rows of a document as a replica sees them.
    fn changes_under(&self, index: usize, key: &[u8]) -> Vec<Dot> {
        let rows = self.replicas[index].station.rows().rows().keys();
        rows.filter(|row| row.kind == Kind::Document && row.key == key).map(|row| row.dot).collect()
    }

    /// A batch of `count` writes as one turn.
    fn write(&mut self, index: usize, count: usize) -> Checked {
        if self.story.len() + count > OPS_MAX {
            return Ok(());
        }
        let (writes, meant): (Vec<Write>, Vec<Meant>) =
            (0..count).map(|_| self.invent(index, count == 1)).unzip();
        let (before, past) = (self.reads(index), self.claimed(index));
        let reply = self.replicas[index].station.try_write(writes);
        if count == 1 {
            check_reply(&before, &meant[0], &reply)?;
        }
        let frames = self.replicas[index].station.new_frames();
        match reply {
            Ok(_) => {
                let ([] | [_]) = &frames[..] else { return Err("a batch spans frames".to_owned()) };
                if let Some(frame) = frames.first() {
                    self.register(index, frame, meant, past);
                }
            }
            Err(_) if frames.is_empty() => self.work.refused += 1,
            Err(error) => return Err(format!("a refused batch left a frame: {error}")),
        }
        self.check(index)
    }

    /// A turn of a write, a frame from a peer, and another write: the frame cuts the writes in two.
    fn mixed_turn(&mut self, index: usize) -> Checked {
        let waiting = self.on_the_way.iter().position(|(_, to, _)| *to == index);
        let Some(waiting) = waiting.filter(|_| self.story.len() + 2 <= OPS_MAX) else { return Ok(()) };
        let (_, _, remote) = self.on_the_way.swap_remove(waiting);
        let (first, meant_first) = self.invent(index, false);
        let (second, meant_second) = self.invent(index, false);
        let before = self.claimed(index);
        let station = &mut self.replicas[index].station;
        let bytes = station.push(std::slice::from_ref(&remote)).encode();
        let message = Input::Network(TransportEvent::Message { session: COURIER, bytes });
        let outcome = station.turn(vec![request(vec![first]), message, request(vec![second])]);
        let is_done: Vec<bool> = outcome.replies.iter().map(|(_, reply)| reply.is_ok()).collect();
        let frames = station.new_frames();
        let is_own = |frame: &&Frame| frame.header().author == self.replicas[index].id;
        let remote_at = frames.iter().position(|frame| !is_own(&frame)).unwrap_or(frames.len());
        let (earlier, later): (Vec<Frame>, Vec<Frame>) =
            (frames[..remote_at].to_vec(), frames[remote_at..].iter().filter(is_own).cloned().collect());
        let done = |index: usize, meant: Meant| is_done[index].then_some(meant);
        let (first, second) = (done(0, meant_first), done(1, meant_second));
        let is_cut = remote_at < frames.len();
        let (batch, rest) = if is_cut {
            (first.into_iter().collect(), second.into_iter().collect())
        } else {
            (first.into_iter().chain(second).collect::<Vec<_>>(), Vec::new())
        };
        if earlier.len() > 1 || later.len() > 1 {
            return Err("one turn made more frames than it had to".to_owned());
        }
        self.work.cut_frames += usize::from(earlier.len() + later.len() == 2);
        if let Some(frame) = earlier.first() {
            self.register(index, frame, batch, before);
        }
        let between = self.claimed(index);
        if let Some(frame) = later.first() {
            self.register(index, frame, rest, between);
        }
        self.check(index)
    }

    /// Takes in what a frame was meant to do, and sends it to the others.
    fn register(&mut self, index: usize, frame: &Frame, meant: Vec<Meant>, past: Ops) {
        let (mut ops, mut past) = (0, past);
        for mut op in meant {
            op.past = past;
            op.rank = rank(frame, &op);
            let bit = self.story.tell(op);
            (ops, past) = (ops | bit, past | bit);
            self.work.operations += 1;
        }
        self.replicas[index].own |= ops;
        self.frames[index].push((frame.header().last(), ops));
        for to in (0..self.replicas.len()).filter(|to| *to != index) {
            if self.random.chance(70) {
                self.on_the_way.push((index, to, frame.clone()));
            }
        }
    }

    /// A message arrives: of any age, perhaps with others, perhaps not for the last time.
    fn deliver(&mut self) -> Checked {
        if self.on_the_way.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.on_the_way.len());
        let (from, to, _) = self.on_the_way[at];
        if self.replicas[from].side != self.replicas[to].side {
            return Ok(());
        }
        let mut frames = vec![self.on_the_way[at].2.clone()];
        if !self.random.chance(15) {
            self.on_the_way.swap_remove(at);
        }
        while self.random.chance(30) {
            let Some(more) = self.on_the_way.iter().position(|(_, other, _)| *other == to) else { break };
            frames.push(self.on_the_way.swap_remove(more).2);
        }
        if self.random.chance(10) {
            return Ok(());
        }
        self.replicas[to].station.deliver(&frames);
        self.replicas[to].station.new_frames();
        self.check(to)
    }

    fn pull(&mut self, index: usize) -> Checked {
        let from = self.random.below(self.replicas.len());
        if from == index || self.replicas[from].side != self.replicas[index].side {
            return Ok(());
        }
        let count = 1 + self.random.below(4);
        self.pull_from(index, from, count)
    }

    fn pull_from(&mut self, index: usize, from: usize, count: usize) -> Checked {
        let [to, from] = self.replicas.get_disjoint_mut([index, from]).expect("two replicas");
        to.station.pull(&from.station, count);
        to.station.new_frames();
        self.check(index)
    }

    /// Time passes at a replica: it may close slots of its own.
    fn pass(&mut self, index: usize, ms: u64) -> Checked {
        let past = self.claimed(index);
        self.replicas[index].station.pass(ms);
        for frame in self.replicas[index].station.new_frames() {
            self.register(index, &frame, Vec::new(), past);
        }
        self.check(index)
    }

    /// Faults stop: everybody pulls from everybody, and owners close their slots.
    fn quiesce(&mut self) -> Checked {
        let count = self.replicas.len();
        for index in 0..count {
            self.work.spent_slots += observed::spent_slots(self.replicas[index].station.rows());
        }
        for _ in 0..3 {
            for index in 0..count {
                for from in (0..count).filter(|from| *from != index) {
                    self.pull_from(index, from, usize::MAX)?;
                }
            }
            for index in 0..count {
                self.pass(index, 10_000)?;
                self.pass(index, 10_000)?;
            }
        }
        let first = self.replicas[0].station.rows().clone();
        for replica in &self.replicas {
            let rows = replica.station.rows();
            if rows != &first {
                return Err(format!("not equal at the end: {first:?}\n{rows:?}"));
            }
            if observed::spent_slots(rows) > 0 {
                return Err(format!("a spent slot is left: {rows:?}"));
            }
            let counters = replica.station.report().counters;
            self.work.applied += counters.get("frames_applied");
            self.work.early += counters.get("frames_early");
            self.work.duplicates += counters.get("frames_duplicate");
        }
        Ok(())
    }

    /// The operations that a replica's vector covers.
    fn claimed(&self, index: usize) -> Ops {
        let vector = self.replicas[index].station.rows().vector();
        let of = |(author, replica): (usize, &Replica)| {
            let applied = vector.get(replica.id);
            self.frames[author]
                .iter()
                .take_while(|(last, _)| *last <= applied)
                .fold(0, |ops, (_, of)| ops | of)
        };
        self.replicas.iter().enumerate().map(of).fold(0, |all, ops| all | ops)
    }

    fn reads(&self, index: usize) -> Reads {
        self.story.reads(self.claimed(index))
    }

    fn check(&mut self, index: usize) -> Checked {
        let replica = &self.replicas[index];
        let rows = replica.station.rows();
        let vector: Vec<u64> = self.replicas.iter().map(|replica| rows.vector().get(replica.id)).collect();
        for (frames, applied) in self.frames.iter().zip(&vector) {
            if *applied > 0 && frames.iter().all(|(last, _)| last != applied) {
                return Err("a batch is torn".to_owned());
            }
        }
        let claimed = self.claimed(index);
        if replica.own & !claimed != 0 {
            return Err("an acknowledged operation is lost".to_owned());
        }
        if self.story.each(claimed).any(|op| op.past & !claimed != 0) {
            return Err("an operation is applied without its past".to_owned());
        }
        if observed::has_two_slots(rows) {
            return Err(format!("two slots of one replica: {rows:?}"));
        }
        match self.rows_of.get(&vector) {
            Some(known) if known != rows => return Err(format!("equal vectors: {known:?}\n{rows:?}")),
            Some(_) => return Ok(()),
            None => drop(self.rows_of.insert(vector, rows.clone())),
        }
        world::check_derived(rows);
        let expected = self.story.reads(claimed);
        let got = observed::from_rows(rows);
        if got != expected {
            return Err(format!("reads differ\n got {got:?}\nwant {expected:?}\nrows {rows:?}"));
        }
        observed::check_queries(&replica.station, &expected)
    }
}

/// Runs all seeds of a flavour.
fn run(flavour: Flavour) {
    campaign(flavour, |seed| {
        let mut world = World::new(seed, flavour);
        world.run().map(|()| world.work)
    });
}

#[test]
fn all_kinds() {
    run(Flavour {
        name: "all_kinds",
        replicas_max: 4,
        events_max: 80,
        is_counting: false,
        restarts: 1,
        seeds: 800,
    });
}

#[test]
fn counters_and_registers() {
    run(Flavour {
        name: "counters_and_registers",
        replicas_max: 4,
        events_max: 90,
        is_counting: true,
        restarts: 1,
        seeds: 800,
    });
}

#[test]
fn five_replicas() {
    run(Flavour {
        name: "five_replicas",
        replicas_max: 5,
        events_max: 150,
        is_counting: false,
        restarts: 1,
        seeds: 400,
    });
}

#[test]
fn replicas_that_restart_all_the_time() {
    run(Flavour {
        name: "replicas_that_restart_all_the_time",
        replicas_max: 3,
        events_max: 80,
        is_counting: false,
        restarts: 10,
        seeds: 400,
    });
}
