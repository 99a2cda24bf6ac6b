//! The orders of sorted sets in a store: the entries that the engine keeps, whatever happens to the files.

use std::ops::ControlFlow;

use crate::world::{Dice, History, SPACES, keyspace, open, small_options};
use tidelock_engine::frame::SigningKey;
use tidelock_engine::order::{FAN, OrderAudit};
use tidelock_engine::ports::{Durability, Milestone, Place, Rows};
use tidelock_engine::row::Kind;
use tidelock_engine::score::Score;
use tidelock_engine::write::{ScoreRule, Write};
use tidelock_store::{MemDisk, RedbStore, RestoreOptions, check, restore};

const KEY: &[u8] = b"scores";

/// Each turn scores some members, now and then again, and takes some out.
fn history(seed: u64, turns: usize) -> History {
    History::with(seed, turns, |turn| {
        let mut dice = Dice(seed << 32 | turn as u64);
        let key = KEY.to_vec();
        if turn % 16 == 15 {
            return vec![Write::PopScored { key, count: 1_500, is_highest: turn % 32 == 15 }];
        }
        let member = |dice: &mut Dice| dice.below(3_500).to_string().into_bytes();
        let score = |dice: &mut Dice| Score::new([0.0, -1.5, 7.0, 8.0][dice.below(4)]).expect("a number");
        let members = (0..400).map(|_| (member(&mut dice), score(&mut dice))).collect();
        let gone = (0..40).map(|_| member(&mut dice)).collect();
        let rule = ScoreRule::default();
        vec![Write::Score { key: key.clone(), members, rule }, Write::Unscore { key, members: gone }]
    })
}

fn entries(store: &dyn Rows, from: &Milestone, count: usize) -> Vec<(Milestone, u64)> {
    let mut found = Vec::new();
    let visit = &mut |milestone, members| {
        found.push((milestone, members));
        if found.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.order(keyspace(SPACES[0]), KEY, from, visit).expect("readable");
    found
}

/// What is in an order from anywhere on is what is there; answers how high it is.
fn same(dice: &mut Dice, store: &dyn Rows, model: &dyn Rows) -> u8 {
    let all = entries(store, &Milestone::FIRST, usize::MAX);
    assert_eq!(all, entries(model, &Milestone::FIRST, usize::MAX));
    let mut audit = OrderAudit::default();
    for (number, (milestone, members)) in all.iter().enumerate() {
        assert_eq!(audit.take(milestone, *members), Some(()), "{milestone:?}");
        if dice.below(40) == 0 {
            let count = 1 + dice.below(200);
            assert_eq!(
                entries(store, milestone, count),
                all[number..].iter().take(count).cloned().collect::<Vec<_>>()
            );
        }
    }
    let members = store.members(keyspace(SPACES[0]), KEY, Kind::Sorted).expect("readable");
    assert_eq!((audit.complaint(), audit.members), (None, members));
    all.first().map_or(0, |(first, _)| first.height)
}

/// Commits, rows that are written behind them, and another start leave the order as the engine made it.
#[test]
fn order_is_kept_as_it_was_committed_and_found_again() {
    let mut highest = 0;
    let history = history(1, 20);
    let (disk, mut dice) = (MemDisk::new(), Dice(1));
    let options = small_options(history.card);
    let mut store = RedbStore::open(&disk, &options).expect("an empty disk");
    let mut model = history.model(0);
    for (number, turn) in history.turns.iter().enumerate() {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
        turn.commit(&mut model, Durability::Durable).expect("nothing fails");
        match dice.below(6) {
            0 => store.materialize().expect("nothing fails"),
            1 => {
                drop(store);
                store = RedbStore::open(&disk, &options).expect("it was closed");
            }
            _ => {}
        }
        if number % 4 == 3 {
            highest = highest.max(same(&mut dice, &store, &model));
        }
    }
    store.flush().expect("nothing fails");
    drop(store);
    assert_eq!(check(&disk, &mut |_| {}).expect("there is a store").findings, []);
    assert!(highest >= 2, "no set had more than {} members", 2 * FAN * FAN);
}

/// A backup holds rows only: a restored store has the same members in the same order, cut as it likes.
#[test]
fn restored_store_has_the_orders_of_its_rows() {
    let history = history(7, 8);
    let disk = MemDisk::new();
    let mut store = open(&disk, history.card);
    for turn in &history.turns {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    }
    let pieces = store.reader().backup(7).with_rows_per_piece(50);
    let bytes: Vec<u8> = pieces.flat_map(|piece| piece.expect("the store is sound")).collect();
    let card = SigningKey::from_seed([99; 32]).card([99; 16]);
    let copy = MemDisk::new();
    restore(&bytes[..], &copy, &RestoreOptions { cluster: None, card }, &mut |_| {}).expect("it is sound");
    assert_eq!(check(&copy, &mut |_| {}).expect("there is a store").findings, []);
    let copy = open(&copy, card);
    let members = |store: &RedbStore| -> Vec<Milestone> {
        let all = entries(store, &Milestone::new(0, Place::FIRST), usize::MAX);
        all.into_iter().map(|(milestone, _)| milestone).collect()
    };
    assert_eq!(members(&copy), members(&store));
    let members = members(&copy).len() as u64;
    assert!(members > 2 * FAN, "only {members} members");
}
