//! Readers and the writing of rows beside the commits, with real threads; and what that costs on disk.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::world::{Peer, Turn, all_rows, keyspace, name, options};
use tidelock_engine::ports::{Durability, RowRange, Rows, Within};
use tidelock_engine::row::Payload;
use tidelock_engine::write::Write;
use tidelock_store::{FileDisk, MaterializeOptions, MemDisk, OpenOptions, RedbStore, check};

const KEYS: u8 = 10;

/// A turn that writes the same value to every key.
fn turn_of_equal_values(peer: &mut Peer, number: u32) -> Turn {
    let value = number.to_be_bytes().to_vec();
    let writes: Vec<_> = (0..KEYS).map(|key| Write::Set { key: vec![key], value: value.clone() }).collect();
    let frame = peer.write("notes", &writes);
    Turn {
        keyspaces: vec![name("notes")],
        cards: vec![peer.card],
        clock: frame.header().hlc,
        frames: vec![frame],
        is_durable: number.is_multiple_of(50),
        ..Turn::default()
    }
}

fn values(rows: &dyn Rows) -> Vec<u32> {
    let mut values = Vec::new();
    let range = RowRange::all(Within::Keyspace);
    let visited = rows.scan(keyspace("notes"), &range, &mut |_, payload| {
        if let Payload::Value { value, .. } = payload {
            values.push(u32::from_be_bytes(value.try_into().expect("we wrote four bytes")));
        }
        ControlFlow::Continue(())
    });
    visited.expect("the rows can be read");
    values
}

#[test]
fn snapshots_in_other_threads_see_batches_whole_and_never_go_back() {
    let mut peer = Peer::new(0);
    let materialize = MaterializeOptions { entries: 50, wait_at: 2, ..MaterializeOptions::default() };
    let options = OpenOptions { materialize, ..options(peer.card) };
    let disk = MemDisk::new();
    let mut store = RedbStore::open(&disk, &options).expect("an empty disk");
    let materializer = store.spawn_materializer().expect("a thread can be started");
    let (is_over, snapshots) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            let reader = store.reader();
            let (is_over, snapshots) = (&is_over, &snapshots);
            scope.spawn(move || {
                let mut last = 0;
                while !is_over.load(Ordering::Acquire) {
                    let values = values(&reader.snapshot());
                    let first = values.first().copied().unwrap_or(0);
                    let is_whole = values.is_empty() || values == vec![first; usize::from(KEYS)];
                    assert!(is_whole && first >= last, "{values:?} after {last}");
                    last = first;
                    snapshots.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 1..=600 {
            let turn = turn_of_equal_values(&mut peer, number);
            turn.commit(&mut store, turn.durability()).expect("nothing fails");
            let entries = store.reader().stats().expect("known").overlay_entries;
            assert!(entries <= 300, "{entries} entries in memory");
        }
        is_over.store(true, Ordering::Release);
    });
    drop(materializer);
    let stats = store.reader().stats().expect("known");
    println!("{} snapshots, {stats:?}", snapshots.into_inner());
    assert!(stats.materializations >= 3, "{stats:?}");
    assert_eq!(values(&store), [600; KEYS as usize]);
    drop(store);
    assert_eq!(check(&disk, &mut |_| {}).expect("checkable").findings, []);
}

#[test]
fn overlay_stays_bounded_without_a_thread() {
    let mut peer = Peer::new(0);
    let materialize = MaterializeOptions { entries: 20, wait_at: 2, ..MaterializeOptions::default() };
    let options = OpenOptions { materialize, ..options(peer.card) };
    let mut store = RedbStore::open(&MemDisk::new(), &options).expect("an empty disk");
    for number in 0..100 {
        let write = Write::Add { key: b"set".to_vec(), elements: vec![vec![number]] };
        let frame = peer.write("notes", &[write]);
        let turn = Turn {
            keyspaces: vec![name("notes")],
            cards: vec![peer.card],
            frames: vec![frame],
            ..Turn::default()
        };
        turn.commit(&mut store, Durability::Buffered).expect("nothing fails");
        let entries = store.reader().stats().expect("known").overlay_entries;
        assert!(entries < 50, "{entries} entries in memory");
    }
    assert!(store.reader().stats().expect("known").materializations > 1);
    assert_eq!(all_rows(&store, "notes").len(), 100);
}

/// A scan that goes on for ever while rows are overwritten: a read transaction held all the time would keep
/// every version of every page.
#[test]
fn scanning_while_writing_does_not_grow_the_file() {
    let grown = |scans: bool| {
        let parent = tempfile::tempdir().expect("a temporary directory can be made");
        let mut peer = Peer::new(0);
        let mut store = RedbStore::open(&FileDisk::at(parent.path()), &options(peer.card)).expect("empty");
        let filler = vec![b'x'; 500];
        for round in 0..60 {
            let writes: Vec<_> = (0..200_u16)
                .map(|key| Write::Set { key: key.to_be_bytes().to_vec(), value: filler.clone() })
                .collect();
            let reader = store.reader();
            let mut steps = 0;
            let mut commit = |store: &mut RedbStore| {
                let frame = peer.write("notes", &writes);
                let turn = Turn {
                    keyspaces: vec![name("notes")],
                    cards: vec![peer.card],
                    frames: vec![frame],
                    ..Turn::default()
                };
                turn.commit(store, Durability::Buffered).expect("nothing fails");
                store.materialize().expect("nothing fails");
            };
            if !scans || round == 0 {
                commit(&mut store);
                continue;
            }
            let range = RowRange::all(Within::Keyspace);
            // A row that is replaced just where a chunk ends is seen before and after, under another dot.
            let mut keys = BTreeSet::new();
            let visited = reader.scan(keyspace("notes"), &range, &mut |row, _| {
                steps += 1;
                keys.insert(row.key);
                if steps == 100 {
                    commit(&mut store);
                }
                ControlFlow::Continue(())
            });
            visited.expect("the rows can be read");
            assert_eq!(keys.len(), 200, "round {round}");
        }
        store.reader().stats().expect("known").rows_bytes
    };
    let (alone, with_scans) = (grown(false), grown(true));
    println!("rows.redb: {alone} bytes without scans, {with_scans} with");
    assert!(with_scans * 2 <= alone * 3, "{with_scans} bytes with scans, {alone} without");
}
