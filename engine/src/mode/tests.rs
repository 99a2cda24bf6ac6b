//! The transitions of a mode, in any order.

use proptest::prelude::*;

use super::*;
use crate::id::KeyspaceName;

fn place() -> (ClusterId, KeyspaceId) {
    let cluster = ClusterId::named("modes");
    let name: KeyspaceName = "notes".parse().expect("a name");
    (cluster, KeyspaceId::of(cluster, &name))
}

fn secret(number: u8) -> EpochSecret {
    EpochSecret::from([number; 32])
}

fn group() -> GroupSecret {
    GroupSecret::from([9; 32])
}

fn author(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

#[derive(Clone, Debug)]
enum Entry {
    Begin(u64),
    Cut(u64, u8),
    Seal(u64, u64, bool),
    Abort(u64),
    Hear(u64),
    Adopt(u64),
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let index = 0..12_u64;
    let entry = prop_oneof![
        3 => (0..4_u64).prop_map(Entry::Begin),
        3 => (index.clone(), 0..3_u8).prop_map(|(begin, size)| Entry::Cut(begin, size)),
        3 => (index.clone(), index.clone(), any::<bool>())
            .prop_map(|(begin, cut, is_at)| Entry::Seal(begin, cut, is_at)),
        1 => index.prop_map(Entry::Abort),
        1 => (0..4_u64).prop_map(Entry::Hear),
        1 => (0..4_u64).prop_map(Entry::Adopt),
    ];
    proptest::collection::vec(entry, 0..24)
}

fn record(epoch: Epoch, index: LogIndex, card: AuthorCard) -> ModeRecord {
    let (cluster, keyspace) = place();
    let frontier = frontier(2);
    let statement = Statement::Mode { keyspace, epoch, frontier: &frontier, index, card };
    let signature = group().sign(cluster, &statement);
    ModeRecord { epoch, frontier, index, card, signature }
}

fn frontier(size: u8) -> Vec<Dot> {
    (1..=size).map(|number| Dot::new(author(number), u64::from(number))).collect()
}

fn apply(mode: &mut Mode, index: u64, entry: &Entry) -> bool {
    let at = LogIndex(index);
    match *entry {
        Entry::Begin(epoch) => mode.begin_seal(at, Epoch(epoch), secret(1)),
        Entry::Cut(begin, size) => mode.cut(at, LogIndex(begin), &frontier(size)),
        Entry::Seal(begin, cut, is_at) => {
            mode.seal(at, (LogIndex(begin), LogIndex(cut)), (place(), &group()), |_| is_at)
        }
        Entry::Abort(begin) => mode.abort_seal(LogIndex(begin)),
        Entry::Hear(epoch) => mode.hear(Epoch(epoch)),
        Entry::Adopt(epoch) => {
            let card = card_of(&secret(2), place(), Epoch(epoch));
            mode.adopt(&record(Epoch(epoch), at, card))
        }
    }
}

proptest! {
    #[test]
    fn epochs_never_go_back_and_fences_fall_by_seal_or_abort_alone(entries in entries()) {
        let mut mode = Mode::default();
        for (index, entry) in (0..).zip(&entries) {
            let before = mode.clone();
            let is_changed = apply(&mut mode, index, entry);
            prop_assert!(is_changed || mode == before, "{entry:?} says that nothing changed");
            prop_assert!(mode.epoch() >= before.epoch(), "{entry:?}");
            if before.sealing().is_some() && mode.sealing().is_none() {
                let is_its_end = match entry {
                    Entry::Seal(begin, cut, _) => before.sealing().is_some_and(|sealing| {
                        sealing.begin.0 == *begin
                            && sealing.cut.as_ref().is_some_and(|latest| latest.index.0 == *cut)
                    }),
                    Entry::Abort(begin) => {
                        before.sealing().is_some_and(|sealing| sealing.begin.0 == *begin)
                    }
                    // Only a guest adopts, and a guest has no log to be sealed by.
                    Entry::Adopt(_) => true,
                    _ => false,
                };
                prop_assert!(is_its_end, "{entry:?} lifts {before:?}");
            }
            prop_assert_eq!(mode.is_open(), !mode.epoch().is_strong() && !mode.is_fenced());
            prop_assert_eq!(Mode::decode(&mode.encode()), Ok(mode.clone()));
        }
    }

    #[test]
    fn bytes_of_modes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[MODE_VERSION], &bytes[..]].concat();
        if let Ok(mode) = Mode::decode(&bytes) {
            prop_assert_eq!(Mode::decode(&mode.encode()), Ok(mode));
        }
    }
}

#[test]
fn what_may_be_applied_follows_the_mode() {
    let [a, b] = [1, 2].map(author);
    let mut mode = Mode::default();
    assert_eq!(mode.takes(a), u64::MAX);
    mode.begin_seal(LogIndex(4), Epoch(1), secret(1));
    assert_eq!((mode.takes(a), mode.takes(b)), (0, 0), "nothing until the cut");
    mode.cut(LogIndex(5), LogIndex(4), &[Dot::new(a, 7)]);
    assert_eq!((mode.takes(a), mode.takes(b)), (7, 0));
    let behind = |mode: &Mode| {
        let mut mode = mode.clone();
        mode.seal(LogIndex(6), (LogIndex(4), LogIndex(5)), (place(), &group()), |_| false);
        mode
    };
    let follower = behind(&mode);
    let strong = follower.author().expect("it is strong");
    assert_eq!((follower.takes(a), follower.takes(b), follower.takes(strong)), (7, 0, u64::MAX));
    mode.seal(LogIndex(6), (LogIndex(4), LogIndex(5)), (place(), &group()), |_| true);
    assert!(mode.is_exact());
    assert_eq!((mode.takes(a), mode.takes(strong)), (0, 0), "by its log alone");
    mode.leave_group();
    assert_eq!((mode.takes(a), mode.takes(strong)), (7, u64::MAX));
}

#[test]
fn author_of_an_epoch_follows_from_the_secret_and_the_place() {
    let (cluster, keyspace) = place();
    let author =
        |secret: &EpochSecret, keyspace, epoch| card_of(secret, (cluster, keyspace), Epoch(epoch)).replica();
    let one = author(&secret(1), keyspace, 1);
    assert_eq!(one, author(&secret(1), keyspace, 1));
    assert_ne!(one, author(&secret(2), keyspace, 1));
    assert_ne!(one, author(&secret(1), keyspace, 3));
    assert_ne!(one, author(&secret(1), KeyspaceId::from_bytes([1; 16]), 1));
}

#[test]
fn frontier_names_each_author_once_and_in_order() {
    let [a, b] = [1, 2].map(author);
    assert!(is_frontier(&[]) && is_frontier(&[Dot::new(a, 1), Dot::new(b, 1)]));
    for wrong in [vec![Dot::new(b, 1), Dot::new(a, 1)], vec![Dot::new(a, 1); 2], vec![Dot::new(a, 0)]] {
        assert!(!is_frontier(&wrong));
    }
}

#[test]
fn record_of_an_epoch_is_signed_by_the_group_for_its_keyspace() {
    let mut mode = Mode::default();
    mode.begin_seal(LogIndex(4), Epoch(1), secret(1));
    mode.cut(LogIndex(5), LogIndex(4), &[]);
    mode.seal(LogIndex(6), (LogIndex(4), LogIndex(5)), (place(), &group()), |_| true);
    let record = mode.record().cloned().expect("it has begun");
    assert_eq!(record.signature.group, group().key());
    assert!(record.is_genuine(place()));
    assert!(!record.is_genuine((place().0, KeyspaceId::from_bytes([1; 16]))));
    assert!(!ModeRecord { epoch: Epoch(3), ..record.clone() }.is_genuine(place()));
    // Whoever followed it becomes an anchor that has the secret, whatever was tried before.
    let mut follower = Mode::following(record, Hlc::default());
    assert!(!follower.take_part(LogIndex(2), Epoch(1), secret(2), place()), "an attempt that was given up");
    assert!(follower.take_part(LogIndex(4), Epoch(1), secret(1), place()));
    assert_eq!(follower.standing(), Some(Standing::Behind { missed: LogIndex(4) }));
}
