//! Backups: made while the store is written to, restored as another replica, and refused when they are not whole.

use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::AuthorCard;
use tidelock_engine::ports::{Durability, Log, LogPosition, Store};
use tidelock_engine::write::Write;
use tidelock_store::{
    BackupReadError, MemDisk, OpenError, RedbStore, RestoreError, RestoreOptions, check, inspect, restore,
};

use crate::world::{self, History, Peer, SPACES, all_rows, counted, keyspace, options, small_options};

/// The replica of a restored store.
fn fresh(number: u8) -> AuthorCard {
    SigningKey::from_seed([0; 32]).card([number; 16])
}

/// A backup of a store that takes half of a history before it and the other half meanwhile.
fn backed_up(history: &History) -> (Vec<u8>, MemDisk, RedbStore) {
    let disk = MemDisk::new();
    let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("an empty disk");
    let (before, mut meanwhile) = history.turns.split_at(history.turns.len() / 2);
    for turn in before {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
    }
    let mut bytes = Vec::new();
    for piece in store.reader().backup(7).with_rows_per_piece(5) {
        bytes.extend(piece.expect("it can be read"));
        if let Some((turn, rest)) = meanwhile.split_first() {
            turn.commit(&mut store, turn.durability()).expect("nothing fails");
            meanwhile = rest;
        }
    }
    (bytes, disk, store)
}

fn restored(bytes: &[u8], card: AuthorCard) -> Result<MemDisk, RestoreError> {
    let disk = MemDisk::new();
    restore(bytes, &disk, &RestoreOptions { cluster: None, card }, &mut |_| {}).map(|_| disk)
}

#[test]
fn backup_under_writes_is_the_store_at_one_position() {
    let mut moved = 0;
    for seed in 0..30 {
        let history = History::random(seed, 40);
        let (bytes, _, store) = backed_up(&history);
        let summary = inspect(&bytes[..], &mut |_| {}).expect("it is sound");
        assert_eq!((summary.unix_ms, summary.replica), (7, history.card.replica()));
        let disk = restored(&bytes, fresh(200)).expect("it is sound");
        let report = check(&disk, &mut |_| {}).expect("there is a store");
        assert_eq!(report.findings, [], "seed {seed}");
        let copy = RedbStore::open(&disk, &options(fresh(200))).expect("it opens");
        assert_eq!(copy.recovered().card, fresh(200));
        assert_eq!(copy.recovered().position.0, summary.position);
        // It holds the first frames of the original, and the rows that these lead to.
        let frames = copy.records_from(LogPosition(1), usize::MAX).expect("readable");
        let of_original = store.records_from(LogPosition(1), frames.len()).expect("readable");
        assert_eq!(frames, of_original);
        let mut turns = 0;
        let mut count = 0;
        while count < frames.len() {
            count += history.turns[turns].frames.len();
            turns += 1;
        }
        assert_eq!(count, frames.len(), "a turn is in it as a whole or not at all");
        moved += usize::from(turns > history.turns.len() / 2);
        let model = history.model(turns);
        for space in SPACES {
            let rows = all_rows(&copy, space);
            assert_eq!(rows, all_rows(&model, space), "seed {seed}, {space}");
            let (fingerprint, keys, _) = counted(&rows);
            let found = copy.reader().summary(keyspace(space)).unwrap_or_default();
            assert_eq!((found.fingerprint, found.keys), (fingerprint, keys));
        }
    }
    assert!(moved > 20, "only {moved} stores were written to between the pieces");
}

#[test]
fn restored_store_goes_on_and_its_old_replica_is_an_author_like_others() {
    let history = History::random(3, 20);
    let (bytes, _, _) = backed_up(&history);
    let disk = restored(&bytes, fresh(200)).expect("it is sound");
    let mut store = RedbStore::open(&disk, &options(fresh(200))).expect("it opens");
    let old = history.card;
    assert_eq!(store.card(old.replica()).expect("readable"), Some(old));
    let mut new = Peer::with_card(fresh(200));
    for space in SPACES {
        let held = store.records_from(LogPosition(1), usize::MAX).expect("readable");
        let frames =
            held.iter().map(|held| tidelock_engine::frame::Frame::decode(held.bytes()).expect("a frame"));
        let frames: Vec<_> = frames.filter(|frame| frame.header().keyspace == keyspace(space)).collect();
        new.receive(&frames, space);
    }
    let write = Write::Set { key: b"new".to_vec(), value: b"v".to_vec() };
    let frame = new.write(SPACES[0], &[write]);
    let turn = world::Turn { frames: vec![frame], cards: vec![fresh(200)], ..world::Turn::default() };
    turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    store.flush().expect("nothing fails");
    let rows = all_rows(&store, SPACES[0]);
    drop(store);
    let again = RedbStore::open(&disk, &options(fresh(201))).expect("it opens");
    assert_eq!(again.recovered().card, fresh(200), "it is no copy of itself");
    assert_eq!(all_rows(&again, SPACES[0]), rows);
    drop(again);
    assert_eq!(check(&disk, &mut |_| {}).expect("there is a store").findings, []);
}

#[test]
fn backup_that_is_not_whole_is_refused_and_leaves_no_store() {
    let history = History::random(5, 12);
    let (bytes, _, _) = backed_up(&history);
    let refuse = |bytes: &[u8]| {
        let disk = MemDisk::new();
        let options = RestoreOptions { cluster: None, card: fresh(200) };
        let error = restore(bytes, &disk, &options, &mut |_| {}).expect_err("it is not whole");
        assert!(!disk.names().iter().any(|name| name == "log.redb" || name == "rows.redb"), "{error}");
        let inspected = inspect(bytes, &mut |_| {}).expect_err("it is not whole");
        assert_eq!(error.to_string(), inspected.to_string());
        inspected
    };
    for place in (0..bytes.len()).step_by(97) {
        let mut turned = bytes.clone();
        turned[place] ^= 1 << (place % 8);
        let error = refuse(&turned);
        let is_cut = matches!(error, BackupReadError::CutOff { .. });
        // A length that grew is a file that ends early.
        assert!(is_cut || !matches!(error, BackupReadError::Io(_)), "{error}");
        assert!(matches!(
            refuse(&bytes[..place]),
            BackupReadError::CutOff { .. } | BackupReadError::NoBackup
        ));
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(refuse(&longer), BackupReadError::Damaged { .. }));
    for version in [1, 3] {
        let mut other = bytes.clone();
        other[19] = version;
        let error = refuse(&other);
        assert!(matches!(error, BackupReadError::Version { found } if found == u32::from(version)));
    }
    assert!(matches!(refuse(b"something else, and long enough"), BackupReadError::NoBackup));
}

#[test]
fn restore_touches_no_store_that_is_there_and_uses_no_old_name() {
    let history = History::random(5, 12);
    let (bytes, disk, store) = backed_up(&history);
    drop(store);
    let before = disk.read("log.redb");
    let options = RestoreOptions { cluster: None, card: fresh(200) };
    let refused = restore(&bytes[..], &disk, &options, &mut |_| {}).expect_err("there is a store");
    assert!(matches!(refused, RestoreError::Exists), "{refused}");
    assert_eq!(disk.read("log.redb"), before);
    let refused = restored(&bytes, history.card).expect_err("the replica has written");
    assert!(matches!(refused, RestoreError::Open(OpenError::UsedCard)), "{refused}");
    let cluster = Some(tidelock_engine::id::ClusterId::named("other"));
    let options = RestoreOptions { cluster, card: fresh(200) };
    let refused = restore(&bytes[..], &MemDisk::new(), &options, &mut |_| {}).expect_err("another cluster");
    assert!(matches!(refused, RestoreError::OtherCluster { .. }), "{refused}");
}

#[test]
fn copy_takes_a_new_replica_and_an_image_does_not() {
    let history = History::random(8, 20);
    let (_, disk, store) = backed_up(&history);
    store.flush().expect("nothing fails");
    let rows = all_rows(&store, SPACES[0]);
    drop(store);
    let image = disk.imaged();
    assert_eq!(world::open(&image, fresh(200)).recovered().card, history.card);
    let copy = disk.copied();
    let refused = RedbStore::open(&copy, &options(history.card)).expect_err("it needs a new name");
    assert!(matches!(refused, OpenError::UsedCard), "{refused}");
    let opened = world::open(&copy, fresh(200));
    assert_eq!(opened.recovered().card, fresh(200));
    assert_eq!(all_rows(&opened, SPACES[0]), rows);
    drop(opened);
    assert_eq!(check(&copy, &mut |_| {}).expect("there is a store").findings, []);
    assert_eq!(world::open(&copy, fresh(201)).recovered().card, fresh(200), "it is the same file now");
    assert!(!copy.names().contains(&"rows.redb.damaged".to_owned()), "its rows are its own");
    // The original goes on as it was.
    assert_eq!(world::open(&disk, fresh(200)).recovered().card, history.card);
}

#[test]
fn power_cut_while_a_copy_takes_its_name_leaves_one_or_the_other() {
    let history = History::random(8, 10);
    let (_, disk, store) = backed_up(&history);
    store.flush().expect("nothing fails");
    let rows = all_rows(&store, SPACES[0]);
    drop(store);
    let mut renamed = 0;
    for changes in 0..60 {
        let copy = disk.copied();
        let faults = tidelock_store::Faults { changes_until_power_cut: Some(changes), ..Default::default() };
        copy.set_faults(faults);
        let is_open = RedbStore::open(&copy, &options(fresh(200))).is_ok();
        copy.crash(changes);
        let store = world::open(&copy, fresh(201));
        let card = store.recovered().card;
        assert!([fresh(200), fresh(201)].contains(&card), "after {changes} changes");
        assert!(!is_open || card == fresh(200), "what was opened is settled");
        renamed += usize::from(card == fresh(200));
        assert_eq!(all_rows(&store, SPACES[0]), rows);
        assert!(!copy.names().contains(&"rows.redb.damaged".to_owned()), "after {changes} changes");
    }
    assert!((5..60).contains(&renamed), "{renamed}");
}

#[test]
fn rejoined_store_writes_as_another_replica_at_once_and_after_a_restart() {
    let history = History::random(8, 20);
    let (_, disk, mut store) = backed_up(&history);
    let rows = all_rows(&store, SPACES[0]);
    store.rejoin(&fresh(200)).expect("nothing fails");
    assert_eq!(store.card(fresh(200).replica()).expect("readable"), Some(fresh(200)));
    assert_eq!(all_rows(&store, SPACES[0]), rows);
    drop(store);
    let store = world::open(&disk, fresh(201));
    assert_eq!(store.recovered().card, fresh(200));
    assert_eq!(all_rows(&store, SPACES[0]), rows);
    drop(store);
    assert_eq!(check(&disk, &mut |_| {}).expect("there is a store").findings, []);
}

/// One backup for as long as all rows are written sixty times: a view that was kept would keep every page.
#[test]
fn backup_does_not_make_the_rows_grow_that_are_written_meanwhile() {
    let grown = |backs_up: bool| {
        let mut peer = Peer::new(0);
        let disk = MemDisk::new();
        let mut store = RedbStore::open(&disk, &options(peer.card)).expect("an empty disk");
        let mut bytes = Vec::new();
        let mut backup = store.reader().backup(0).with_rows_per_piece(4);
        for round in 0..60 {
            let set = |key: u16| Write::Set { key: key.to_be_bytes().to_vec(), value: vec![b'x'; 500] };
            let writes: Vec<Write> = (0..200).map(set).collect();
            let (keyspaces, cards) = (vec![world::name("notes")], vec![peer.card]);
            let frames = vec![peer.write("notes", &writes)];
            let turn = world::Turn { keyspaces, cards, frames, ..world::Turn::default() };
            turn.commit(&mut store, Durability::Buffered).expect("nothing fails");
            store.materialize().expect("nothing fails");
            if backs_up && round > 2 {
                backup.next().into_iter().for_each(|piece| bytes.extend(piece.expect("it can be read")));
            }
        }
        let size = store.reader().stats().expect("known").rows_bytes;
        backup.for_each(|piece| bytes.extend(piece.expect("it can be read")));
        let copy = RedbStore::open(&restored(&bytes, fresh(200)).expect("it is sound"), &options(fresh(200)));
        assert_eq!(all_rows(&copy.expect("it opens"), "notes"), all_rows(&store, "notes"));
        size
    };
    let (alone, with_backup) = (grown(false), grown(true));
    println!("rows.redb: {alone} bytes without a backup, {with_backup} with");
    assert!(with_backup * 2 <= alone * 3, "{with_backup} bytes with a backup, {alone} without");
}

/// Backups whose bytes were changed and whose checksums were made right again: what is in them is refused or
/// taken, and never a panic. A store that was made of one opens, or says why not.
#[test]
fn backup_that_somebody_made_up_is_refused_or_taken() {
    let (bytes, _, _) = backed_up(&History::random(6, 10));
    let mut dice = world::Dice(1);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut made_up = bytes.clone();
        let blocks = blocks_of(&bytes);
        for _ in 0..=dice.below(2) {
            let block = &blocks[dice.below(blocks.len())];
            if !block.is_empty() {
                made_up[block.start + dice.below(block.len())] =
                    u8::try_from(dice.below(256)).expect("a byte");
            }
        }
        let mut checksum = *blake3::hash(&bytes[..20]).as_bytes();
        for block in &blocks {
            let hashed = [&checksum[..], &made_up[block.start - 5..block.end]].concat();
            checksum = *blake3::hash(&hashed).as_bytes();
            made_up[block.end..block.end + 32].copy_from_slice(&checksum);
        }
        match restored(&made_up, fresh(200)) {
            Ok(disk) => {
                taken += 1;
                // The cluster may be another one now, and that is said.
                drop(RedbStore::open(&disk, &options(fresh(200))));
                check(&disk, &mut |_| {}).expect("there is a store");
            }
            Err(_) => refused += 1,
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 0 && refused > 200, "{taken} taken, {refused} refused");
}

/// Where the payloads of a backup are.
fn blocks_of(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut blocks = Vec::new();
    let mut at = 20;
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at + 1..at + 5].try_into().expect("four bytes"));
        let end = at + 5 + usize::try_from(length).expect("it is in memory");
        blocks.push(at + 5..end);
        at = end + 32;
    }
    blocks
}

/// Lets go of all of the log that may go.
fn let_go(store: &mut RedbStore) -> LogPosition {
    store.truncate(LogPosition(u64::MAX));
    store.flush().expect("nothing fails");
    store.first()
}

/// A backup under way keeps what is written to the log since it began, whatever is let go of meanwhile, and what it
/// holds is the store at one position; once it is done, or was given up, it keeps nothing.
#[test]
fn log_is_kept_for_a_backup_under_way_and_no_longer() {
    let (mut truncated, mut kept) = (0, 0);
    for seed in 0..20 {
        let history = History::random(seed, 40);
        let mut store =
            RedbStore::open(&MemDisk::new(), &small_options(history.card)).expect("an empty disk");
        let (before, meanwhile) = history.turns.split_at(history.turns.len() / 2);
        let commit = |store: &mut RedbStore, turn: &world::Turn| {
            turn.commit(store, turn.durability()).expect("nothing fails");
        };
        before.iter().for_each(|turn| commit(&mut store, turn));
        let begun = store.reader().position();
        let mut meanwhile = meanwhile.iter();
        let mut bytes = Vec::new();
        let mut backup = store.reader().backup(7).with_rows_per_piece(5);
        for piece in backup.by_ref() {
            bytes.extend(piece.expect("what it needs is there"));
            meanwhile.next().into_iter().for_each(|turn| commit(&mut store, turn));
            let first = let_go(&mut store);
            assert!(first.0 <= begun.0 + 1, "seed {seed}: {first:?} is first, and it began behind {begun:?}");
            truncated += usize::from(first > LogPosition(1));
            kept += usize::from(store.reader().position().0 > begun.0 + 1);
        }
        drop(backup);
        assert_eq!(
            let_go(&mut store),
            store.reader().position(),
            "seed {seed}: nothing is kept for it any more"
        );
        let disk = restored(&bytes, fresh(200)).expect("it is sound");
        assert_eq!(check(&disk, &mut |_| {}).expect("there is a store").findings, [], "seed {seed}");
        let copy = RedbStore::open(&disk, &options(fresh(200))).expect("it opens");
        let (mut turns, mut count) = (0, 0);
        while count < copy.recovered().position.0 {
            count += history.turns[turns].frames.len() as u64;
            turns += 1;
        }
        let model = history.model(turns);
        for space in SPACES {
            assert_eq!(all_rows(&copy, space), all_rows(&model, space), "seed {seed}, {space}");
        }
        let mut given_up = store.reader().backup(8);
        given_up.next().expect("it begins").expect("it can be read");
        meanwhile.for_each(|turn| commit(&mut store, turn));
        let_go(&mut store);
        drop(given_up);
        assert_eq!(let_go(&mut store), store.reader().position(), "seed {seed}");
    }
    assert!(truncated > 40 && kept > 40, "{truncated} times truncated, {kept} times kept");
}
