//! A replica is retired: what it left behind is removed by others, whatever arrives in which order, and if it lives
//! after all, it takes no more writes and nobody differs.

use crate::world::by_hand::{Station, card, key};
use crate::world::words::{add, delete, increment, set};
use crate::world::{NOTES, check_derived, keyspace_id};
use crdts::CvRDT;
use tidelock_engine::crdt::{DotStore, KeyView};
use tidelock_engine::frame::Frame;
use tidelock_engine::op::{Op, SlotChange};
use tidelock_engine::request::{ActionError, RequestError};
use tidelock_engine::row::{Kind, Payload};
use tidelock_engine::write::{Write, WriteError};

fn retire(index: u8) -> Write {
    Write::Retire { replica: card(index).replica() }
}

fn number(rows: &DotStore, key: &str) -> Option<i128> {
    let view = KeyView::read(rows, keyspace_id(NOTES), key.as_bytes()).expect("memory can be read");
    view.visible().and_then(|_| view.number())
}

/// The counter slots of a replica, spent ones too.
fn slots_of(rows: &DotStore, index: u8) -> usize {
    let is_slot = |kind: Kind| kind == Kind::Counter;
    rows.rows().keys().filter(|row| is_slot(row.kind) && row.dot.replica == card(index).replica()).count()
}

/// Lets a station do what it does by itself; answers the frames that it made.
fn pass(station: &mut Station, ms: u64) -> Vec<Frame> {
    station.new_frames();
    for _ in 0..4 {
        station.pass(ms / 4);
    }
    station.new_frames()
}

/// Every order in which one can take `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let longer = |order: &Vec<usize>| {
        let order = order.clone();
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
    };
    orders(count - 1).iter().flat_map(longer).collect()
}

/// A counts and is lost; B has deleted what it counted, and says that A is gone.
fn retired() -> (Station, Station, Vec<Frame>) {
    let [mut a, mut b] = [0, 1].map(|index| Station::new(index, 3));
    let mut frames = a.write(increment("k", 4));
    frames.extend(a.write(increment("kept", 7)));
    b.deliver(&frames);
    frames.extend(b.write(delete("k")));
    assert_eq!(slots_of(b.rows(), 0), 2, "nobody but the owner may remove a spent slot");
    frames.extend(b.write(retire(0)));
    (a, b, frames)
}

#[test]
fn spent_slots_of_a_retired_replica_go_and_live_ones_stay() {
    let (_, mut b, _) = retired();
    let folded = pass(&mut b, 4_000);
    assert!(matches!(
        folded[0].ops(),
        [Op::Delete { rows, slots, .. }] if rows.is_empty() && matches!(slots[..], [SlotChange::Fold { .. }])
    ));
    assert_eq!((slots_of(b.rows(), 0), number(b.rows(), "kept")), (1, Some(7)));
    // What is spent later goes too.
    b.write(set("kept", "1"));
    pass(&mut b, 4_000);
    assert_eq!((slots_of(b.rows(), 0), number(b.rows(), "kept")), (0, Some(1)));
    check_derived(b.rows());
    assert_eq!(pass(&mut b, 10_000), []);
}

/// B folds A's slot while A, who knows of nothing, counts in it: each order of all frames ends with the same rows,
/// and so does each merge of states on the way.
#[test]
fn retired_replica_that_counts_on_makes_nobody_differ() {
    let (mut a, mut b, common) = retired();
    let mut frames = pass(&mut b, 4_000);
    frames.extend(a.write(increment("k", 2)));
    frames.extend(a.write(increment("new", 1)));
    let mut c = Station::new(2, 3);
    c.deliver(&common);
    c.deliver(&frames[1..2]);
    frames.extend(c.write(delete("k")));
    let mut ends: Vec<DotStore> = Vec::new();
    for order in orders(frames.len()) {
        let mut d = Station::new(9, 3);
        d.deliver(&common);
        let mut states = vec![d.rows().clone()];
        for index in order {
            d.deliver(&frames[index..=index]);
            states.push(d.rows().clone());
        }
        check_derived(d.rows());
        let end = d.rows().clone();
        for mut state in states {
            state.merge(end.clone());
            assert_eq!(state, end);
            state.merge(ends.first().unwrap_or(&end).clone());
            assert_eq!(state, end);
        }
        ends.push(end);
    }
    assert_eq!(ends.len(), 24);
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]));
    // Its slot was gone, so that increment is lost; a slot of its own is not.
    assert_eq!((number(&ends[0], "k"), number(&ends[0], "new")), (None, Some(1)));
}

/// Why live slots are not moved to somebody who lives: C has reset one meanwhile, and names it.
#[test]
fn live_slot_of_a_retired_replica_is_still_reset_by_who_saw_it() {
    let (_, mut b, common) = retired();
    let mut c = Station::new(2, 3);
    c.deliver(&common);
    let reset = c.write(delete("kept"));
    pass(&mut b, 4_000);
    assert_eq!(number(b.rows(), "kept"), Some(7));
    b.deliver(&reset);
    assert_eq!(number(b.rows(), "kept"), None);
    pass(&mut b, 4_000);
    assert_eq!(slots_of(b.rows(), 0), 0);
}

#[test]
fn retired_replica_that_lives_takes_no_writes_until_it_rejoins() {
    let (mut a, b, _) = retired();
    a.pull(&b, 99);
    let refused = |a: &mut Station| match a.try_write(vec![set("x", "1")]) {
        Err(RequestError::ReadOnly(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let reason = refused(&mut a);
    let by = card(1).replica().to_string();
    assert!(reason.contains("was retired") && reason.contains(&by) && reason.contains("rejoin"), "{reason}");
    assert_eq!(a.report().failed, Some(reason.clone()));
    assert_eq!(pass(&mut a, 4_000), [], "nor does it close its slots");
    a.restart();
    assert_eq!(refused(&mut a), reason, "a restart does not forget it");
    a.rejoin(key(0).card([77; 16]));
    a.write(set("x", "1"));
    assert_eq!((a.get("x").as_deref(), a.get("kept").as_deref()), (Some("1"), Some("7")));
}

/// Who retires a replica removes its slots at once. Should that one be lost too, another does it after a while.
#[test]
fn others_remove_what_is_left_after_a_while() {
    let (_, b, _) = retired();
    let mut c = Station::new(2, 3);
    c.pull(&b, 99);
    assert_eq!(pass(&mut c, 50_000), []);
    assert_eq!(slots_of(c.rows(), 0), 2);
    assert_eq!(pass(&mut c, 80_000).len(), 1);
    assert_eq!(slots_of(c.rows(), 0), 1);
}

#[test]
fn retirement_is_no_key_and_nothing_removes_it() {
    let (_, mut b, _) = retired();
    let is_retired = |rows: &DotStore| {
        let mut retired = rows.rows().iter().filter(|(row, _)| row.kind == Kind::Retired);
        let (row, payload) = retired.next().expect("there is one");
        assert_eq!(row.subkey, card(0).replica().as_bytes());
        assert!(retired.next().is_none() && matches!(payload, Payload::Retired { last: 2, .. }));
    };
    is_retired(b.rows());
    assert_eq!(b.get(""), None);
    let existed = b.write(delete(""));
    assert_eq!(existed, [], "there is no key to delete");
    b.write(add("", "x"));
    for removal in [delete(""), Write::Clear] {
        b.write(removal);
        is_retired(b.rows());
        check_derived(b.rows());
    }
    let many: Vec<Write> = (0..80).map(|n| add("", &n.to_string())).collect();
    b.batch(many);
    b.write(delete(""));
    is_retired(b.rows());
    assert_eq!(b.write(retire(0)), [], "once is enough");
}

#[test]
fn only_who_has_written_can_be_retired() {
    let (_, mut b, _) = retired();
    match b.try_write(vec![retire(2)]) {
        Err(RequestError::Action {
            source: ActionError::Write(WriteError::NotAnAuthor(replica)), ..
        }) => {
            assert_eq!(replica, card(2).replica());
        }
        other => panic!("{other:?}"),
    }
}
