//! More authors than one entry holds: their cards, floors and heads are kept in blocks.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::world::{self, Dice, Peer, SPACES, Turn, keyspace, name};
use tidelock_engine::causality::{Head, Heads};
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{AuthorCard, ReplicaId};
use tidelock_engine::ports::{Durability, Log, LogPosition, Store};
use tidelock_engine::write::Write;
use tidelock_store::{MemDisk, RedbStore, RestoreOptions, Snapshot, check, restore};

/// Two blocks and a half.
const AUTHORS: u8 = 40;

/// A store in which many wrote once, and what must be there of them.
struct Crowd {
    disk: MemDisk,
    store: RedbStore,
    /// Of the store itself.
    card: AuthorCard,
    cards: Vec<AuthorCard>,
    /// Where the one frame of each is, by keyspace and author.
    positions: BTreeMap<(&'static str, ReplicaId), LogPosition>,
}

impl Crowd {
    fn new() -> Self {
        let (disk, card) = (MemDisk::new(), Peer::new(0).card);
        let store = world::open(&disk, card);
        Self { disk, store, card, cards: vec![card], positions: BTreeMap::new() }
    }

    /// One turn with the frames of authors who were not here before.
    fn add(&mut self, space: &'static str, authors: Range<u8>) {
        let mut turn = Turn { keyspaces: vec![name(space)], ..Turn::default() };
        let mut position = self.store.reader().position();
        for mut peer in authors.map(Peer::new) {
            let elements = vec![peer.card.nonce.to_vec()];
            turn.frames.push(peer.write(space, &[Write::Add { key: b"set".to_vec(), elements }]));
            turn.cards.push(peer.card);
            position.0 += 1;
            self.positions.insert((space, peer.card.replica()), position);
        }
        self.cards.extend(&turn.cards);
        turn.commit(&mut self.store, Durability::Durable).expect("nothing fails");
    }

    /// Makes the store another replica's.
    fn rejoin(&mut self, card: AuthorCard) {
        self.store.rejoin(&card).expect("nothing fails");
        self.card = card;
        self.cards.push(card);
    }

    /// After a power cut of that seed, or as the store was closed.
    fn reopened(self, cut: Option<u64>) -> Self {
        drop(self.store);
        if let Some(seed) = cut {
            self.disk.crash(seed);
        }
        assert_eq!(check(&self.disk, &mut |_| {}).expect("there is a store").findings, []);
        Self { store: world::open(&self.disk, self.card), ..self }
    }

    /// Everybody has a card; who wrote has a head, and a floor if the frame is gone.
    fn is_whole(&self) {
        assert_eq!(self.store.reader().replica(), self.card.replica());
        for card in &self.cards {
            assert_eq!(self.store.card(card.replica()).expect("readable"), Some(*card));
        }
        for space in SPACES {
            let heads = self.store.reader().state(keyspace(space)).unwrap_or_default().heads;
            assert_eq!(heads_read(&self.store.reader().snapshot(), space), heads);
            for replica in self.cards.iter().map(AuthorCard::replica) {
                let position = self.positions.get(&(space, replica));
                let is_gone = position.is_some_and(|position| *position < self.store.first());
                assert_eq!(heads.seq(replica), u64::from(position.is_some()));
                assert_eq!(self.store.floor(keyspace(space), replica), u64::from(is_gone));
            }
        }
    }
}

/// The heads of a keyspace as its entries have them.
fn heads_read(snapshot: &Snapshot, space: &str) -> Heads {
    snapshot.state(keyspace(space)).expect("readable").unwrap_or_default().heads
}

/// Another replica of the store's own key.
fn fresh() -> AuthorCard {
    SigningKey::from_seed([0; 32]).card([200; 16])
}

/// Authors come a few at a time, in both keyspaces, while the log is let go of, and over restarts and power cuts.
#[test]
fn crowd_keeps_its_cards_heads_and_floors() {
    let mut floors = 0;
    for seed in 0..12 {
        let (mut dice, mut crowd, mut next) = (Dice(seed), Crowd::new(), 1);
        while next < AUTHORS {
            let end = AUTHORS.min(next + 1 + u8::try_from(dice.below(7)).expect("it is small"));
            crowd.add(SPACES[dice.below(2)], next..end);
            next = end;
            if dice.below(2) == 0 {
                let last = usize::try_from(crowd.store.reader().position().0).expect("few");
                crowd.store.truncate(LogPosition(dice.below(last) as u64));
                crowd.store.flush().expect("nothing fails");
                // So that no crash brings back what was let go of.
                crowd.add(SPACES[dice.below(2)], next..next.saturating_add(1));
                next += 1;
            }
            crowd.is_whole();
            if dice.below(3) == 0 {
                crowd = crowd.reopened(Some(seed));
                crowd.is_whole();
            }
        }
        crowd = crowd.reopened(None);
        crowd.is_whole();
        floors += crowd.positions.values().filter(|position| **position < crowd.store.first()).count();
    }
    assert!(floors > 100, "{floors}");
}

/// The heads of ten authors, in two blocks and a half, change a few at a time. Beside them every moment keeps its own,
/// and what comes after a power cut goes on from what is left.
#[test]
fn heads_of_a_block_change_one_by_one() {
    let mut changes = 0;
    for seed in 0..12 {
        let (mut dice, mut crowd) = (Dice(seed), Crowd::new());
        let mut peers: Vec<Peer> = (1..11).map(Peer::new).collect();
        let mut expected: BTreeMap<&str, BTreeMap<ReplicaId, Head>> = BTreeMap::new();
        let mut moments = Vec::new();
        for turn in 0..30 {
            let space = SPACES[dice.below(2)];
            let mut batch = Turn { keyspaces: vec![name(space)], ..Turn::default() };
            for _ in 0..=dice.below(3) {
                let peer = &mut peers[dice.below(10)];
                let frame =
                    peer.write(space, &[Write::Add { key: b"set".to_vec(), elements: vec![vec![turn]] }]);
                let head = Head { seq: frame.header().last(), frame: frame.id() };
                expected.entry(space).or_default().insert(peer.card.replica(), head);
                batch.cards.push(peer.card);
                batch.frames.push(frame);
            }
            changes += batch.frames.len();
            batch.commit(&mut crowd.store, Durability::Durable).expect("nothing fails");
            let all: Vec<Heads> = SPACES
                .map(|space| {
                    expected.get(space).into_iter().flatten().map(|(author, head)| (*author, *head)).collect()
                })
                .to_vec();
            moments.push((crowd.store.reader().snapshot(), all));
            for (snapshot, all) in &moments {
                assert_eq!(&SPACES.map(|space| heads_read(snapshot, space)).to_vec(), all);
            }
            match dice.below(6) {
                0 => crowd.store.materialize().expect("nothing fails"),
                1 => {
                    let last = moments.pop().map(|(_, all)| all);
                    moments.clear();
                    crowd = crowd.reopened(Some(seed));
                    let snapshot = crowd.store.reader().snapshot();
                    assert_eq!(Some(SPACES.map(|space| heads_read(&snapshot, space)).to_vec()), last);
                }
                _ => {}
            }
        }
    }
    assert!(changes > 400, "{changes}");
}

/// Its new number is the first of all, of a block, the last of one, or between.
#[test]
fn store_of_any_number_of_authors_becomes_another_replica() {
    for before in [0, 1, 14, 15, 16, 30, 31] {
        let mut crowd = Crowd::new();
        crowd.add(SPACES[0], 1..before + 1);
        crowd.rejoin(fresh());
        crowd.is_whole();
        crowd = crowd.reopened(None);
        crowd.is_whole();
        crowd.add(SPACES[1], before + 1..AUTHORS);
        crowd = crowd.reopened(None);
        crowd.is_whole();
    }
}

/// Floors and cards are in a backup as they are in the log.
#[test]
fn crowd_is_restored_from_a_backup() {
    let mut crowd = Crowd::new();
    crowd.add(SPACES[0], 1..AUTHORS - 3);
    crowd.store.truncate(LogPosition(20));
    crowd.store.flush().expect("nothing fails");
    crowd.add(SPACES[1], AUTHORS - 3..AUTHORS);
    let pieces: Vec<Vec<u8>> = crowd.store.reader().backup(7).map(|piece| piece.expect("readable")).collect();
    let disk = MemDisk::new();
    let options = RestoreOptions { cluster: None, card: fresh() };
    restore(&pieces.concat()[..], &disk, &options, &mut |_| {}).expect("it is sound");
    let store = world::open(&disk, fresh());
    assert_eq!(store.first(), LogPosition(21));
    let cards = [&crowd.cards[..], &[fresh()]].concat();
    Crowd { disk, store, card: fresh(), cards, ..crowd }.reopened(None).is_whole();
}
