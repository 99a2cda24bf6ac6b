//! Replicas that have applied the same and hold other rows all the same: found out, repaired, and reported.

use std::collections::BTreeSet;

use crate::world::by_hand::{COURIER, Station, card, courier_key, key};
use crate::world::forge::Forger;
use crate::world::words::{add, increment, remove, set};
use tidelock_engine::causality::Dot;
use tidelock_engine::id::Epoch;
use tidelock_engine::id::ReplicaId;
use tidelock_engine::install::{Install, RowList};
use tidelock_engine::message::{FrameBytes, Message, PartRows, RangePart, StateHead};
use tidelock_engine::op::{Element, Op};
use tidelock_engine::ports::{Batch, LogPosition, SessionId, TransportEvent};
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::{Input, KeyspaceReport, Repair};
use tidelock_engine::row::{Kind, Payload, RowId};
use tidelock_engine::staged::{Piece, Staged};

/// How long a defect may go on, in seconds: summaries are sent every ten, and repairs begun no more often.
const HEALED_S: u64 = 60;

/// Stations that are all connected with each other.
struct Mesh {
    stations: Vec<Station>,
    silent: BTreeSet<usize>,
}

/// The session in which a station talks with the `other`-th.
fn session_with(other: usize) -> SessionId {
    SessionId(100 + other as u64)
}

impl Mesh {
    fn new(count: u8) -> Self {
        let stations = (0..count).map(|index| Station::new(index, count)).collect();
        let mut mesh = Self { stations, silent: BTreeSet::new() };
        (0..count.into()).for_each(|index| mesh.end(index, COURIER));
        (0..count.into()).for_each(|index| mesh.connect(index));
        mesh
    }

    fn end(&mut self, index: usize, session: SessionId) {
        let ended = TransportEvent::Down { session, reason: "the test ends it".to_owned() };
        self.stations[index].turn(vec![Input::Network(ended)]);
    }

    /// Nothing that a station says arrives, though nobody knows.
    fn isolate(&mut self, index: usize) {
        self.silent.insert(index);
    }

    fn connect(&mut self, index: usize) {
        (0..self.stations.len()).filter(|other| *other != index).for_each(|other| self.begin(index, other));
    }

    /// A session begins at a station.
    fn begin(&mut self, index: usize, other: usize) {
        let (peer, address) = (key(u8::try_from(other).expect("few")).peer(), format!("mesh/{other}"));
        let up = TransportEvent::Up { peer, session: session_with(other), address, is_dialer: false };
        self.stations[index].turn(vec![Input::Network(up)]);
    }

    /// A station whose rows are changed behind its back, and which begins again.
    fn change_rows(&mut self, index: usize, rows: Vec<(RowId, Option<Payload>)>) {
        self.stations[index].damage_rows(rows);
        self.stations[index].restart();
        self.end(index, COURIER);
        for other in (0..self.stations.len()).filter(|other| *other != index) {
            self.end(other, session_with(index));
            self.begin(other, index);
        }
        self.connect(index);
        self.carry();
    }

    /// Carries what was said until nobody says anything more.
    fn carry(&mut self) {
        for _ in 0..1_000 {
            let mut is_quiet = true;
            for from in 0..self.stations.len() {
                for (session, message) in self.stations[from].sent() {
                    let to = usize::try_from(session.0).expect("small").wrapping_sub(100);
                    let is_silent = self.silent.contains(&from);
                    if let Some(station) = self.stations.get_mut(to).filter(|_| !is_silent) {
                        is_quiet = false;
                        station.say(session_with(from), &message);
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.stations.iter_mut().for_each(|station| station.pass(100));
            self.carry();
        }
    }

    fn notes(&self, index: usize) -> KeyspaceReport {
        self.stations[index].report().keyspaces.remove(0)
    }

    fn are_equal(&self) -> bool {
        (1..self.stations.len()).all(|index| self.notes(index).fingerprint == self.notes(0).fingerprint)
    }

    fn repairs(&self, index: usize) -> Vec<(RowId, Repair)> {
        self.notes(index).repaired
    }

    fn members(&self, index: usize) -> Vec<Vec<u8>> {
        match self.stations[index].query(&Query::Members("s".into())) {
            Answer::List(members) => members,
            other => panic!("{other:?}"),
        }
    }
}

fn member(element: &str, author: u8, seq: u64) -> RowId {
    let dot = Dot::new(card(author).replica(), seq);
    RowId { key: b"s".to_vec(), kind: Kind::Set, subkey: element.into(), dot }
}

/// Everybody has the elements `a`, `b` and `c`, whose dots are the first three of the first station.
fn mesh_with_a_set(count: u8) -> Mesh {
    let mut mesh = Mesh::new(count);
    ["a", "b", "c"].iter().for_each(|element| drop(mesh.stations[0].write(add("s", element))));
    mesh.pass(15);
    assert!(mesh.are_equal());
    mesh
}

/// A row was lost at one of two. Neither has more on its side, so both keep everything.
#[test]
fn lost_row_comes_back_from_the_other_one() {
    let mut mesh = mesh_with_a_set(2);
    mesh.change_rows(1, vec![(member("b", 0, 2), None)]);
    assert_eq!(mesh.members(1).len(), 2);
    mesh.pass(HEALED_S);
    assert!(mesh.are_equal());
    assert_eq!(mesh.members(1).len(), 3);
    assert_eq!(mesh.repairs(1), [(member("b", 0, 2), Repair::Added)]);
    assert_eq!(mesh.repairs(0), []);
    assert!(!mesh.notes(0).is_diverged && !mesh.notes(1).is_diverged, "it is over");
    assert!(mesh.stations[1].counter("checks_diverged") >= 1, "and was counted");
}

/// The same with three: the one that lost it takes what the other two have.
#[test]
fn lost_row_comes_back_from_the_majority() {
    let mut mesh = mesh_with_a_set(3);
    mesh.change_rows(1, vec![(member("b", 0, 2), None)]);
    mesh.pass(HEALED_S);
    assert!(mesh.are_equal());
    assert_eq!(mesh.repairs(1), [(member("b", 0, 2), Repair::Added)]);
    assert_eq!([mesh.repairs(0), mesh.repairs(2)], [[], []]);
}

/// A row was removed everywhere but at one of three.
#[test]
fn row_that_should_be_gone_goes_if_the_majority_says_so() {
    let mut mesh = mesh_with_a_set(3);
    mesh.stations[2].write(remove("s", "b"));
    mesh.pass(15);
    mesh.change_rows(1, vec![(member("b", 0, 2), Some(Payload::Member))]);
    mesh.pass(HEALED_S);
    assert!(mesh.are_equal());
    assert_eq!(mesh.members(1).len(), 2);
    assert_eq!(mesh.repairs(1), [(member("b", 0, 2), Repair::Removed)]);
}

/// One of two says that a row is there, the other that it is not: what may be somebody's data is kept.
#[test]
fn row_is_kept_where_nobody_has_the_majority() {
    let mut mesh = mesh_with_a_set(2);
    mesh.stations[0].write(remove("s", "b"));
    mesh.pass(15);
    mesh.change_rows(1, vec![(member("b", 0, 2), Some(Payload::Member))]);
    mesh.pass(HEALED_S);
    assert!(mesh.are_equal());
    assert_eq!(mesh.members(0).len(), 3);
    assert_eq!(mesh.repairs(0), [(member("b", 0, 2), Repair::Added)]);
}

/// One row with two contents: everybody takes the same one.
#[test]
fn row_with_two_contents_gets_one() {
    for count in [2, 3] {
        let mut mesh = Mesh::new(count);
        mesh.stations[0].write(set("k", "right"));
        mesh.pass(15);
        let dot = Dot::new(card(0).replica(), 1);
        let row = RowId { key: b"k".to_vec(), kind: Kind::Register, subkey: Vec::new(), dot };
        let Some(Payload::Value { stamp, .. }) = mesh.stations[1].row(&row) else { panic!("it is there") };
        let wrong = Payload::Value { stamp, value: b"wrong".to_vec() };
        mesh.change_rows(1, vec![(row.clone(), Some(wrong))]);
        mesh.pass(HEALED_S);
        assert!(mesh.are_equal());
        if count == 3 {
            assert_eq!(mesh.repairs(1), [(row, Repair::Replaced)]);
            assert_eq!(mesh.stations[1].get("k").as_deref(), Some("right"));
        }
    }
}

/// It is repaired while everybody writes, and nothing that is written or removed meanwhile is undone.
#[test]
fn repair_goes_on_beside_writes() {
    let mut mesh = mesh_with_a_set(2);
    for n in 0..300 {
        mesh.stations[n % 2].write(add("s", &format!("{n:03}")));
    }
    mesh.pass(15);
    mesh.change_rows(1, vec![(member("b", 0, 2), None), (member("000", 0, 4), None)]);
    for n in 0..300 {
        mesh.stations[n % 2].write(remove("s", &format!("{n:03}")));
        mesh.stations[n % 2].write(increment("count", 1));
        mesh.stations.iter_mut().for_each(|station| station.pass(100));
        // What one says reaches the other only now and then.
        if n % 3 == 0 {
            mesh.carry();
        }
    }
    mesh.pass(HEALED_S);
    assert!(mesh.are_equal());
    for index in 0..2 {
        let members = mesh.members(index);
        // An element that the defect hid from who removed it was never removed.
        assert_eq!(members.iter().filter(|element| element.len() == 1).count(), 3, "{members:?}");
        assert!(members.len() <= 4, "{members:?}");
        assert_eq!(mesh.stations[index].get("count").as_deref(), Some("300"));
    }
}

/// Rows that do not have their own fingerprint: the file is damaged. Nobody takes from it and it takes nothing, since
/// what it would note of that would be wrong again.
#[test]
fn rows_without_their_fingerprint_are_nobodys_source() {
    let mut mesh = mesh_with_a_set(2);
    mesh.stations[1].damage_rows(vec![(member("b", 0, 2), None)]);
    // That does not show before the fingerprints are compared with the rows.
    mesh.change_rows(0, vec![(member("a", 0, 1), None)]);
    mesh.pass(HEALED_S);
    assert!(mesh.notes(1).is_diverged);
    assert_eq!(mesh.stations[1].counter("rows_unlike_fingerprint"), 1);
    assert_eq!([mesh.repairs(0), mesh.repairs(1)], [[], []]);
}

/// A peer claims other rows under equal heads. That costs a comparison, and changes nothing.
#[test]
fn false_claim_of_other_rows_changes_nothing() {
    let mut mesh = mesh_with_a_set(2);
    let before = mesh.notes(0).fingerprint;
    let (heads, _) = before.split_once('-').expect("it has two parts");
    let heads = u128::from_str_radix(heads, 16).expect("hexadecimal").to_be_bytes();
    let keyspace = mesh.notes(0).id;
    let lie = Message::Summary { keyspace, heads, fingerprint: [7; 16] };
    mesh.stations[0].say(session_with(1), &lie);
    assert!(mesh.notes(0).is_diverged);
    mesh.pass(HEALED_S);
    assert!(!mesh.notes(0).is_diverged, "the next summary said otherwise");
    assert_eq!(mesh.repairs(0), []);
    assert_eq!(mesh.notes(0).fingerprint, before);
}

/// The author of a row that is nobody's.
#[test]
fn row_that_no_operation_explains_is_not_taken() {
    let mut mesh = mesh_with_a_set(2);
    let stranger = Dot::new(ReplicaId::from_bytes([77; 16]), 1);
    let row = RowId { dot: stranger, ..member("x", 0, 1) };
    mesh.change_rows(1, vec![(row, Some(Payload::Member))]);
    mesh.pass(HEALED_S);
    assert_eq!(mesh.repairs(0), []);
    assert_eq!(mesh.members(0).len(), 3);
}

/// An author told one of three something else than the other two. That is no defect of any of them, and it may be
/// what an operator wrote on a store that was put back: nothing of it goes, whoever has the majority.
#[test]
fn both_histories_of_an_author_are_kept() {
    let mut mesh = mesh_with_a_set(3);
    for (element, told) in [("one", vec![0_usize]), ("other", vec![1, 2])] {
        let elements = vec![Element { element: element.into(), observed: Vec::new() }];
        let frame = Forger::new(9).frame(&[], &[Op::Add { key: b"s".to_vec(), elements }]);
        let frames = vec![FrameBytes(frame.bytes().to_vec())];
        let push = Message::Push { cards: vec![card(9)], frames };
        for index in told {
            mesh.stations[index].greet(COURIER, &courier_key());
            mesh.stations[index].say(COURIER, &push);
            mesh.end(index, COURIER);
        }
    }
    mesh.pass(HEALED_S);
    assert!(mesh.are_equal());
    (0..3).for_each(|index| assert_eq!(mesh.members(index).len(), 5, "{index}"));
}

/// Two of five neighbours say the same other thing, and the rest has not said anything lately. They are not most, so
/// nothing goes for their sake.
#[test]
fn two_of_five_remove_nothing() {
    let mut mesh = mesh_with_a_set(6);
    (3..6).for_each(|index| mesh.isolate(index));
    for index in [1, 2] {
        mesh.change_rows(index, vec![(member("b", 0, 2), None)]);
    }
    mesh.pass(HEALED_S);
    assert_eq!(mesh.members(0).len(), 3);
    assert!(mesh.notes(0).is_diverged, "it is still shown");
    // Those who were silent say that they have it too.
    mesh.silent.clear();
    for (index, other) in [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)] {
        for (index, other) in [(index, other), (other, index)] {
            mesh.end(index, session_with(other));
        }
    }
    (0..6).for_each(|index| drop(mesh.stations[index].sent()));
    for (index, other) in [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)] {
        mesh.begin(index, other);
        mesh.begin(other, index);
    }
    mesh.pass(2 * HEALED_S);
    assert!(mesh.are_equal());
    assert!((0..6).all(|index| mesh.members(index).len() == 3));
}

/// State waits in the log to be taken over, and a piece of it cannot be read. To take a peer's state in its place would
/// lose what was written here alone, so the keyspace stays as it is until somebody looks.
#[test]
fn unreadable_state_in_the_log_is_not_replaced_by_that_of_a_peer() {
    let mut station = Station::new(0, 1);
    station.write(add("s", "written here alone"));
    let keyspace = station.report().keyspaces[0].id;
    let since = LogPosition(1);
    let nobody = member("never", 0, 0);
    let rows = Piece::Rows(RowList::new([(&nobody, Some(&Payload::Member))]));
    let staged = [rows, Piece::end(&[])].map(|piece| Staged { keyspace, since, piece }).to_vec();
    let begun = Install { keyspace, rows: Vec::new(), heads: None };
    station.commit(&Batch { staged, installs: vec![(0, begun)], ..Batch::default() });
    for _ in 0..50 {
        station.pass(1_000);
    }
    assert_eq!(station.counter("transfers_failed"), 1, "it is tried once a start");
    assert!(station.report().keyspaces[0].is_partial);
    assert!(!station.said().iter().any(|message| matches!(message, Message::Take { .. })));
}

/// The rows of a keyspace are those of no vector, and it has applied an operation that a peer has not. The peer's rows
/// would take the place of that operation's, which would be gone and still count as applied: it is not asked on.
#[test]
fn state_that_lacks_what_was_applied_takes_the_place_of_nothing() {
    let mut station = Station::new(0, 1);
    station.write(add("s", "written here alone"));
    let keyspace = station.report().keyspaces[0].id;
    let begun = Install { keyspace, rows: Vec::new(), heads: None };
    station.commit(&Batch { installs: vec![(0, begun)], ..Batch::default() });
    for _ in 0..3 {
        station.pass(2_000);
        assert!(station.said().contains(&Message::Take { keyspace }));
        station.say(COURIER, &Message::Taken { keyspace, epoch: Epoch(0), position: 0, heads: Vec::new() });
        // The fingerprints of ranges are made in turns of their own.
        station.pass(100);
        let said = station.said();
        assert!(said.contains(&Message::EndTake { keyspace }));
        assert!(!said.iter().any(|message| matches!(message, Message::Compare { .. })));
    }
    assert!(station.report().keyspaces[0].is_partial);
    assert_eq!(station.row(&member("written here alone", 0, 1)), Some(Payload::Member));
}

/// A peer that lets another take over its state tells that its log goes on, and never how. That would keep frames of
/// everybody else from the keyspace for ever.
#[test]
fn log_that_leads_nowhere_is_not_followed() {
    let mut station = Station::new(0, 1);
    let frames = station.write(add("s", "a"));
    let keyspace = station.report().keyspaces[0].id;
    let begun = Install { keyspace, rows: Vec::new(), heads: None };
    station.commit(&Batch { installs: vec![(0, begun)], ..Batch::default() });
    station.pass(2_000);
    let head = StateHead { card: card(0), seq: 1, frame: frames[0].id() };
    station.say(COURIER, &Message::Taken { keyspace, epoch: Epoch(0), position: 7, heads: vec![head] });
    station.pass(100);
    let asked = station.said().into_iter().find_map(|message| match message {
        Message::Compare { asks, .. } => Some(asks),
        _ => None,
    });
    let parts = asked.expect("a range is asked for").into_iter();
    let parts = parts.map(|ask| RangePart { range: ask.range, rows: PartRows::Equal }).collect();
    station.say(COURIER, &Message::Compared { keyspace, heads: Vec::new(), parts });
    assert!(station.said().contains(&Message::Tail { keyspace, after: 7 }));
    let nothing =
        Message::Tailed { keyspace, heads: Vec::new(), frames: Vec::new(), until: 7, is_end: false };
    station.say(COURIER, &nothing);
    assert_eq!(station.closed(), ["a log that leads nowhere"]);
}
