//! Who the anchors are, and who else says so.

use tidelock_engine::group_key::{GroupSecret, Statement};
use tidelock_engine::id::Epoch;
use tidelock_engine::message::{Message, ModeNews};
use tidelock_engine::mode::ModeRecord;

use crate::world::group::Group;
use crate::world::replies::{get, outcome, value, write};
use crate::world::words::set;
use crate::world::{NOTES, cluster, keyspace_id, named};

fn record(group: &Group, index: usize) -> ModeRecord {
    let mode = group.replica(index).mode(keyspace_id(NOTES));
    mode.and_then(|mode| mode.record().cloned()).expect("it is strong")
}

/// The record of a later epoch, as whoever has that secret says it.
fn invented(record: &ModeRecord, secret: &GroupSecret) -> ModeRecord {
    let ModeRecord { frontier, index, card, .. } = record.clone();
    let (keyspace, epoch) = (keyspace_id(NOTES), Epoch(3));
    let statement = Statement::Mode { keyspace, epoch, frontier: &frontier, index, card };
    ModeRecord { epoch, signature: secret.sign(cluster(), &statement), ..record.clone() }
}

/// A member that is no anchor tells of an epoch that never began. Nobody is fenced, nobody adopts it, all is served on.
#[test]
fn lying_member_fences_nobody() {
    let mut group = Group::strong(3, 2);
    let genuine = record(&group, 0);
    for index in 1..5 {
        assert_eq!(record(&group, index), genuine, "the same bytes, signature included");
    }
    let of_another = invented(&genuine, &GroupSecret::from([7; 32]));
    let unsigned = ModeRecord { epoch: Epoch(3), ..genuine.clone() };
    for lie in [&of_another, &unsigned] {
        let message = Message::Modes(vec![ModeNews { name: named(NOTES), record: lie.clone() }]);
        [0, 1, 3].into_iter().for_each(|index| group.say(4, index, &message));
    }
    for index in [0, 1, 3] {
        let report = group.replica(index).report();
        assert_eq!(report.counters.get("refused_modes"), 2);
        let known = report.group.expect("it knows the group");
        assert_eq!(known.key, Some(genuine.signature.group));
        let other = known.other.expect("it names who lies");
        assert_eq!((other.group, other.known), (genuine.signature.group, known.key), "the last lie");
        assert!(!group.mode(index).expect("it is strong").is_fenced);
    }
    assert_eq!(outcome(group.asked(3, write(set("k", "v")))), tidelock_engine::write::Outcome::Done);
    assert_eq!(value(group.asked(1, get("k"))).as_deref(), Some("v"));
    assert_eq!(record(&group, 3), genuine);
}

/// Which group it is outlasts a restart, of guests too: what another one says is refused from the first moment on.
#[test]
fn group_that_was_heard_of_first_is_the_one_also_after_a_restart() {
    let mut group = Group::strong(3, 1);
    let genuine = record(&group, 0);
    for index in [1, 3] {
        group.restart(index);
        group.deliver();
        let lie = invented(&genuine, &GroupSecret::from([7; 32]));
        group.say(0, index, &Message::Modes(vec![ModeNews { name: named(NOTES), record: lie }]));
        let report = group.replica(index).report();
        assert_eq!(report.counters.get("refused_modes"), 1);
        assert_eq!(report.group.and_then(|known| known.key), Some(genuine.signature.group));
        assert_eq!(record(&group, index), genuine);
    }
}
