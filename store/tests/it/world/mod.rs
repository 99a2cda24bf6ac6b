//! A little world that makes real frames: peers that write and exchange them, and a history of turns that any
//! store can be driven through. Everything follows from a seed.

#![allow(unreachable_pub, reason = "it is shared by all files of tests")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use tidelock_engine::apply::apply_frame;
use tidelock_engine::causality::{Dot, Heads, Hlc};
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::{Frame, FrameBuilder, FrameStart, SigningKey};
use tidelock_engine::id::{AuthorCard, ClusterId, Epoch, FrameId, KeyspaceId, KeyspaceName};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{
    Batch, CommitError, Durability, Log, LogIndex, LogPosition, RaftLog, RaftLogState, RaftWrite, RowRange,
    Rows, Store, Within,
};
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};
use tidelock_engine::write::{Author, Write};
use tidelock_store::{MaterializeOptions, MemDisk, OpenOptions, RedbStore};

/// A seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % bound as u64).expect("it is below a usize")
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Keys and subkeys that are hard to keep in order.
pub const TEXTS: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"\0\xff", b"a", b"a\0", b"a\0b", b"ab", b"\xff\xff"];

pub fn cluster() -> ClusterId {
    ClusterId::named("test")
}

pub fn name(text: &str) -> KeyspaceName {
    text.parse().expect("a valid name")
}

pub fn keyspace(text: &str) -> KeyspaceId {
    KeyspaceId::of(cluster(), &name(text))
}

/// A replica that writes, on a store in memory.
pub struct Peer {
    key: SigningKey,
    pub card: AuthorCard,
    pub store: MemStore,
    clock: u64,
}

impl Peer {
    pub fn new(number: u8) -> Self {
        let key = SigningKey::from_seed([number; 32]);
        let card = key.card([number; 16]);
        Self { key, card, store: MemStore::new(cluster(), card), clock: 0 }
    }

    /// A replica of the first peer's key.
    pub fn with_card(card: AuthorCard) -> Self {
        let key = SigningKey::from_seed([0; 32]);
        Self { key, card, store: MemStore::new(cluster(), card), clock: 1_000 }
    }

    /// Makes one frame of writes and applies it here.
    pub fn write(&mut self, space: &str, writes: &[Write]) -> Frame {
        self.clock += 1;
        let heads = heads(&self.store, space);
        let head = heads.get(self.card.replica());
        let start = FrameStart {
            keyspace: keyspace(space),
            epoch: Epoch(0),
            author: self.card.replica(),
            first: head.map_or(1, |head| head.seq + 1),
            previous: head.map_or(FrameId::NONE, |head| head.frame),
            hlc: Hlc::at(self.clock * 1_000 + u64::from(self.card.nonce[0])),
        };
        let mut frame = FrameBuilder::new(start, &heads.vector());
        let mut draft = Draft::over(&self.store);
        for write in writes {
            let (size, mark) = (frame.size(), draft.mark());
            let outcome = Author { draft: &mut draft, frame: &mut frame, heads: &heads }.write(write);
            if outcome.is_ok() {
                draft.keep(mark);
            } else {
                draft.take_back(mark);
                frame.truncate(size);
            }
        }
        if frame.is_empty() {
            let key = b"filler".to_vec();
            let write = Write::Set { key, value: self.clock.to_be_bytes().to_vec() };
            let mut author = Author { draft: &mut draft, frame: &mut frame, heads: &heads };
            author.write(&write).expect("a register may be set");
        }
        let frame = frame.seal(&self.key);
        self.receive(std::slice::from_ref(&frame), space);
        frame
    }

    /// Applies frames of others.
    pub fn receive(&mut self, frames: &[Frame], space: &str) {
        let turn = Turn { frames: frames.to_vec(), keyspaces: vec![name(space)], ..Turn::default() };
        turn.commit(&mut self.store, Durability::Buffered).expect("memory takes everything");
    }

    /// Fetches what another peer has and this one lacks.
    pub fn pull(&mut self, other: &MemStore, space: &str) {
        let mine = heads(&self.store, space);
        let after: Vec<_> =
            heads(other, space).iter().map(|(author, _)| Dot::new(author, mine.seq(author))).collect();
        let missing = other.missing(keyspace(space), &after, usize::MAX).expect("memory can be read");
        let frames: Vec<_> =
            missing.iter().map(|frame| Frame::decode(&frame.bytes).expect("a frame")).collect();
        self.receive(&frames, space);
    }
}

pub fn heads(store: &impl Store, space: &str) -> Heads {
    store.recovered().keyspaces.remove(&name(space)).unwrap_or_default().heads
}

/// What one turn commits.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    pub keyspaces: Vec<KeyspaceName>,
    pub cards: Vec<AuthorCard>,
    pub frames: Vec<Frame>,
    pub clock: Hlc,
    pub is_durable: bool,
    pub raft: Vec<RaftWrite>,
    pub raft_applied: Option<Vec<u8>>,
    pub anchor: Option<Vec<u8>>,
    pub modes: Vec<(KeyspaceName, Vec<u8>)>,
}

impl Turn {
    /// Applies the frames as the engine does, and commits.
    pub fn commit<S: Store>(
        &self,
        store: &mut S,
        durability: Durability,
    ) -> Result<LogPosition, CommitError> {
        let mut draft = Draft::over(store);
        for frame in &self.frames {
            apply_frame(&mut draft, frame, frame.header().first - 1).expect("the rows can be read");
        }
        let changes = draft.into_changes();
        let Self { keyspaces, cards, frames, clock, raft, raft_applied, anchor, modes, .. } = self.clone();
        let batch = Batch { keyspaces, cards, frames, changes, clock, modes, ..Batch::default() };
        store.commit(&Batch { raft, raft_applied, anchor, ..batch }, durability)
    }

    pub fn durability(&self) -> Durability {
        if self.is_durable { Durability::Durable } else { Durability::Buffered }
    }

    /// Whether it is durable once it is committed, asked or not.
    pub fn stays(&self) -> bool {
        self.is_durable || !self.raft.is_empty() || self.anchor.is_some()
    }
}

/// What happened to the store of peer 0: its own frames, and those of two others.
#[derive(Debug)]
pub struct History {
    pub card: AuthorCard,
    pub turns: Vec<Turn>,
}

pub const SPACES: [&str; 2] = ["notes", "tasks"];

impl History {
    pub fn random(seed: u64, turns: usize) -> Self {
        Self::with_elements(seed, turns, 0)
    }

    /// A random history in which each turn adds so many elements to a set of its own, too.
    pub fn with_elements(seed: u64, turns: usize, elements: usize) -> Self {
        Self::with(seed, turns, |turn| {
            let element = |number: usize| format!("element {number:032}").into_bytes();
            let elements: Vec<_> = (0..elements).map(element).collect();
            let key = format!("set {turn}").into_bytes();
            if elements.is_empty() { Vec::new() } else { vec![Write::Add { key, elements }] }
        })
    }

    /// A random history in which each turn writes something more.
    pub fn with(seed: u64, turns: usize, more: impl Fn(usize) -> Vec<Write>) -> Self {
        let mut dice = Dice(seed);
        let mut peers: Vec<Peer> = (0..3).map(Peer::new).collect();
        let (mut known_spaces, mut known_cards) = (Vec::new(), Vec::new());
        let mut history = Self { card: peers[0].card, turns: Vec::new() };
        while history.turns.len() < turns {
            let mut turn = Turn { is_durable: dice.below(2) == 0, ..Turn::default() };
            for _ in 0..=dice.below(2) {
                let space = *dice.pick(&SPACES);
                let (to, from) = (dice.below(3), dice.below(3));
                let other = peers[from].store.clone();
                peers[to].pull(&other, space);
                let writes: Vec<_> = (0..=dice.below(3)).map(|_| random_write(&mut dice)).collect();
                peers[dice.below(3)].write(space, &writes);
            }
            let writes = more(history.turns.len());
            if !writes.is_empty() {
                peers[0].write(SPACES[0], &writes);
            }
            for space in SPACES {
                let before = peers[0].store.recovered().position;
                let other = peers[dice.below(3)].store.clone();
                peers[0].pull(&other, space);
                assert!(peers[0].store.recovered().position >= before);
            }
            let done: usize = history.turns.iter().map(|turn| turn.frames.len()).sum();
            let new = peers[0].store.records_from(LogPosition(done as u64 + 1), usize::MAX);
            for frame in new.expect("memory can be read") {
                let frame = Frame::decode(frame.frame().expect("a frame")).expect("a frame");
                let space = SPACES.iter().find(|space| keyspace(space) == frame.header().keyspace);
                let space = name(space.expect("one of ours"));
                if !known_spaces.contains(&space) {
                    known_spaces.push(space.clone());
                    turn.keyspaces.push(space);
                }
                if !known_cards.contains(&frame.header().author) {
                    known_cards.push(frame.header().author);
                    let card = peers.iter().map(|peer| peer.card);
                    turn.cards.extend(card.filter(|card| card.replica() == frame.header().author));
                }
                turn.clock = turn.clock.max(frame.header().hlc);
                turn.frames.push(frame);
            }
            if !turn.frames.is_empty() {
                history.turns.push(turn);
            }
        }
        history
    }

    /// The same history in which Raft writes, too: with some of the turns and, if it may be `alone`, between them.
    pub fn with_raft(mut self, seed: u64, alone: bool) -> Self {
        let (mut dice, mut raft) = (Dice(seed), Raft::default());
        for turn in std::mem::take(&mut self.turns) {
            while alone && dice.below(3) == 0 {
                self.turns.push(raft.write(&mut dice, Turn::default()));
            }
            let is_joined = dice.below(3) > 0;
            self.turns.push(if is_joined { raft.write(&mut dice, turn) } else { turn });
        }
        self
    }

    /// A model that has seen the first turns.
    pub fn model(&self, turns: usize) -> MemStore {
        let mut model = MemStore::new(cluster(), self.card);
        for turn in &self.turns[..turns] {
            turn.commit(&mut model, Durability::Durable).expect("memory takes everything");
        }
        model
    }

    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.turns.iter().flat_map(|turn| &turn.frames)
    }
}

/// A Raft log that is written at random.
#[derive(Debug, Default)]
struct Raft {
    first: u64,
    next: u64,
    turns: u64,
}

impl Raft {
    /// Writes something with a turn. Each of them is told by how far the log is applied behind it.
    fn write(&mut self, dice: &mut Dice, turn: Turn) -> Turn {
        self.turns += 1;
        let mut turn = Turn { raft_applied: Some(self.turns.to_be_bytes().to_vec()), ..turn };
        for _ in 0..dice.below(3) {
            let room = usize::try_from(self.next - self.first).expect("small");
            match dice.below(8) {
                0 => turn.raft.push(RaftWrite::Vote(self.turns.to_be_bytes().to_vec())),
                1 => {
                    let from = self.first + dice.below(room + 1) as u64;
                    turn.raft.push(RaftWrite::Truncate { from: LogIndex(from) });
                    self.next = from;
                }
                2 => {
                    // Now and then what was taken over from elsewhere is ahead of the log.
                    let until = self.first + dice.below(room + 3) as u64;
                    let record = until.to_be_bytes().to_vec();
                    turn.raft.push(RaftWrite::Purge { until: LogIndex(until), record });
                    self.first = until + 1;
                    self.next = self.next.max(self.first);
                }
                _ => {
                    for _ in 0..dice.below(5) {
                        let bytes = vec![u8::try_from(dice.below(256)).expect("small"); dice.below(300)];
                        turn.raft.push(RaftWrite::Append { index: LogIndex(self.next), bytes });
                        self.next += 1;
                    }
                }
            }
        }
        if dice.below(8) == 0 {
            turn.anchor = Some(self.turns.to_be_bytes().to_vec());
            turn.modes.push((name(dice.pick::<&str>(&["notes", "elsewhere"])), vec![1; dice.below(9)]));
        }
        turn
    }
}

/// All that there is of Raft: what it has one of, and the entries.
pub fn all_raft(log: &dyn RaftLog) -> (RaftLogState, Vec<(u64, Vec<u8>)>) {
    let state = log.state().expect("readable");
    let end = state.last.map_or(0, |last| last.0 + 1);
    let entry = |index| {
        let mut entries = log.entries(LogIndex(index), LogIndex(index + 1), 0).expect("readable");
        entries.pop().map(|entry| (index, entry))
    };
    (state, (0..end).filter_map(entry).collect())
}

pub fn random_write(dice: &mut Dice) -> Write {
    let key = dice.pick(&TEXTS).to_vec();
    let texts = |dice: &mut Dice| (0..=dice.below(3)).map(|_| dice.pick(&TEXTS).to_vec()).collect();
    match dice.below(16) {
        0..4 => Write::Set { key, value: vec![b'v'; dice.below(300)] },
        4..7 => Write::Increment { key, by: 5 },
        7..10 => Write::Add { key, elements: texts(dice) },
        10 => Write::Remove { key, elements: texts(dice) },
        11..13 => Write::Put { key, fields: vec![(dice.pick(&TEXTS).to_vec(), b"field".to_vec())] },
        13 => Write::Unset { key, fields: texts(dice) },
        14 => Write::Delete { key },
        _ => Write::Expire { key, deadline_ms: (1 << 50) + dice.below(5) as u64, only: None },
    }
}

/// Rows of a range, in an order that does not depend on the store, after checking that its own order is right.
pub fn rows(store: &dyn Rows, space: &str, range: &RowRange) -> Vec<(RowId, Payload)> {
    let mut rows = Vec::new();
    let visited = store.scan(keyspace(space), range, &mut |row, payload| {
        rows.push((row, payload));
        ControlFlow::Continue(())
    });
    visited.expect("the rows can be read");
    let groups: Vec<_> = rows.iter().map(|(row, _)| (&row.key, row.kind, &row.subkey)).collect();
    assert!(groups.is_sorted(), "rows out of order in {range:?}");
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    rows
}

pub fn all_rows(store: &dyn Rows, space: &str) -> Vec<(RowId, Payload)> {
    rows(store, space, &RowRange::all(Within::Keyspace))
}

/// The members of each set and map.
pub type Members = BTreeMap<(Vec<u8>, Kind), u64>;

/// What a keyspace comes to when it is counted by hand: fingerprint, keys, members.
pub fn counted(rows: &[(RowId, Payload)]) -> (Fingerprint, u64, Members) {
    let mut fingerprint = Fingerprint::default();
    let mut keys = std::collections::BTreeSet::new();
    let mut groups = std::collections::BTreeSet::new();
    for (row, payload) in rows {
        fingerprint.insert(row, payload);
        if payload.is_live() {
            keys.insert(&row.key);
        }
        if row.kind.has_members() {
            groups.insert((&row.key, row.kind, &row.subkey));
        }
    }
    let mut members = BTreeMap::new();
    for (key, kind, _) in groups {
        *members.entry((key.clone(), kind)).or_default() += 1;
    }
    (fingerprint, keys.len() as u64, members)
}

pub fn options(card: AuthorCard) -> OpenOptions {
    let mut options = OpenOptions::new(cluster(), card);
    options.cache_bytes = 8 << 20;
    options
}

/// Options under which rows are written often and synced every other time.
pub fn small_options(card: AuthorCard) -> OpenOptions {
    let materialize = MaterializeOptions { entries: 40, synced_every: 2, ..MaterializeOptions::default() };
    OpenOptions { materialize, ..options(card) }
}

pub fn open(disk: &MemDisk, card: AuthorCard) -> RedbStore {
    RedbStore::open(disk, &options(card)).expect("the store can be opened")
}

/// Nothing lies beside the files of a store: no copy that was begun, nothing moved aside.
pub fn is_tidy(disk: &MemDisk) -> bool {
    disk.names().iter().all(|name| ["log.mark", "log.redb", "rows.redb"].contains(&name.as_str()))
}
