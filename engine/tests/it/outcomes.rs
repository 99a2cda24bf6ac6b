//! Strong frames, made by hand: outcomes are kept and go as they must, nobody sees them, and what is counted there is a
//! register.

use std::collections::BTreeMap;

use crate::world::check_derived;
use crdts::CvRDT;
use proptest::prelude::*;
use tidelock_engine::apply::apply_frame;
use tidelock_engine::bounds::{OUTCOME_BYTES_MAX, OUTCOMES_AT_ONCE, OUTCOMES_PER_CLIENT};
use tidelock_engine::causality::{Heads, Hlc, VersionVector};
use tidelock_engine::crdt::{DotStore, VisibleKind};
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::{Frame, FrameBuilder, FrameError, FrameStart, SigningKey};
use tidelock_engine::id::{ClientId, Epoch, FrameId, KeyspaceId, ReplicaId};
use tidelock_engine::op::{DotRef, Op, OutcomeRef};
use tidelock_engine::read::{Answer, Entry, KeyPage, Query, answer};
use tidelock_engine::row::Kind;
use tidelock_engine::write::{Author, Executed, Outcome, Ttl, Write, WriteError, executed};

const A: ClientId = ClientId([1; 16]);
const B: ClientId = ClientId([2; 16]);

fn keyspace() -> KeyspaceId {
    KeyspaceId::from_bytes([7; 16])
}

fn start(epoch: u64, first: u64, ms: u64) -> FrameStart {
    let author = ReplicaId::from_bytes([u8::try_from(epoch).expect("small"); 16]);
    let (keyspace, epoch, previous) = (keyspace(), Epoch(epoch), FrameId::NONE);
    FrameStart { keyspace, epoch, author, first, previous, hlc: Hlc::at(ms) }
}

/// A keyspace whose frames are made one after the other, as its anchors do, and somebody who follows by them.
#[derive(Default)]
struct Strong {
    rows: DotStore,
    follower: DotStore,
}

impl Strong {
    /// Makes a frame of an epoch at a moment, and follows by its bytes.
    fn frame<T>(&mut self, epoch: u64, ms: u64, make: impl FnOnce(&mut Author<'_, '_>) -> T) -> T {
        let author = start(epoch, 1, ms).author;
        let first = self.rows.vector().get(author) + 1;
        let mut frame = FrameBuilder::new(start(epoch, first, ms), &VersionVector::default());
        let (mut draft, heads) = (Draft::over(&self.rows), Heads::default());
        let given = make(&mut Author { draft: &mut draft, frame: &mut frame, heads: &heads });
        let changes = draft.into_changes();
        if frame.is_empty() {
            return given;
        }
        let sealed = frame.seal(&SigningKey::from_seed([3; 32]));
        let frame = Frame::decode(sealed.bytes()).expect("it is a frame");
        self.rows.commit(changes, [frame.header().last_dot()]);
        let mut draft = Draft::over(&self.follower);
        apply_frame(&mut draft, &frame, 0).expect("memory");
        let changes = draft.into_changes();
        self.follower.commit(changes, [frame.header().last_dot()]);
        assert_eq!(self.follower, self.rows);
        given
    }

    fn keep(&mut self, client: ClientId, number: u64, result: &[u8]) {
        self.frame(1, 100, |author| {
            author.keep_outcome((client, number), number.wrapping_add(1_000), result)
        })
        .expect("memory");
    }

    fn of(&self, client: ClientId, number: u64) -> Executed {
        executed(&self.rows, keyspace(), (client, number)).expect("memory")
    }

    fn write(&mut self, epoch: u64, write: &Write) -> Result<Outcome, WriteError> {
        self.frame(epoch, 100, |author| author.write(write))
    }

    fn ask(&self, query: &Query) -> Answer {
        answer(&self.rows, keyspace(), query).expect("it is answered")
    }
}

fn done(number: u64, result: &[u8]) -> Executed {
    Executed::Done { index: number + 1_000, result: Some(result.to_vec()) }
}

#[test]
fn outcome_is_kept_of_each_client_and_number() {
    let mut strong = Strong::default();
    strong.keep(A, 5, b"five");
    strong.keep(B, 5, b"");
    strong.keep(A, 3, &vec![0; OUTCOME_BYTES_MAX]);
    strong.keep(A, 4, &vec![0; OUTCOME_BYTES_MAX + 1]);
    assert_eq!(strong.of(A, 5), done(5, b"five"));
    assert_eq!(strong.of(B, 5), done(5, b""));
    assert_eq!(strong.of(A, 3), done(3, &vec![0; OUTCOME_BYTES_MAX]));
    assert_eq!(strong.of(A, 4), Executed::Done { index: 1_004, result: None }, "it is too long to be kept");
    for (client, number) in [(A, 0), (A, 2), (A, 6), (B, 4), (ClientId([0; 16]), 5), (B, u64::MAX)] {
        assert_eq!(strong.of(client, number), Executed::Not);
    }
}

/// Whatever a client numbers, what once fell out is never taken for new.
#[test]
fn newest_outcomes_stay_and_what_fell_out_stays_out() {
    let mut strong = Strong::default();
    let last = OUTCOMES_PER_CLIENT + 2 * OUTCOMES_AT_ONCE + 2;
    strong.keep(B, 1, b"other");
    for number in 1..=last {
        strong.keep(A, number, b"r");
    }
    let kept = strong.rows.rows().keys().filter(|row| row.subkey.starts_with(&A.0)).count() as u64;
    let first = 2 * OUTCOMES_AT_ONCE;
    assert_eq!(kept, last - first + 1, "they go together");
    for number in 0..first {
        assert_eq!(strong.of(A, number), Executed::FellOut, "{number}");
    }
    assert_eq!((strong.of(A, first), strong.of(A, last)), (done(first, b"r"), done(last, b"r")));
    assert_eq!((strong.of(A, last + 1), strong.of(B, 1)), (Executed::Not, done(1, b"other")));
    // A jump lets all go at once, and a number between is too old.
    strong.keep(A, 1 << 40, b"far");
    assert_eq!((strong.of(A, last), strong.of(A, last + 1)), (Executed::FellOut, Executed::FellOut));
    strong.keep(A, u64::MAX, b"end");
    assert_eq!(
        (strong.of(A, 1 << 40), strong.of(A, u64::MAX)),
        (Executed::FellOut, { Executed::Done { index: 999, result: Some(b"end".to_vec()) } })
    );
    check_derived(&strong.rows);
}

#[test]
fn client_is_forgotten_when_its_last_outcome_is_old() {
    let mut strong = Strong::default();
    let mut at = |ms, client, number| {
        strong.frame(1, ms, |author| author.keep_outcome((client, number), 1, b"r")).expect("memory");
    };
    at(100, A, 1);
    at(200, A, 2);
    at(100, B, 1);
    at(100, B, 2);
    let forget = |strong: &mut Strong, ms| {
        strong.frame(3, 300, |author| author.forget_outcomes(Hlc::at(ms))).expect("memory");
    };
    forget(&mut strong, 99);
    assert_eq!(strong.rows.rows().len(), 4);
    forget(&mut strong, 199);
    assert_eq!((strong.of(B, 1), strong.of(B, 2)), (Executed::Not, Executed::Not));
    assert!(strong.of(A, 1) != Executed::Not && strong.of(A, 2) != Executed::Not, "the client is there");
    forget(&mut strong, 300);
    assert!(strong.rows.rows().is_empty());
    check_derived(&strong.rows);
}

/// The key under which they are is one that a user may have too.
#[test]
fn nobody_sees_outcomes() {
    let mut strong = Strong::default();
    let key = Vec::new;
    let page = || Query::Keys(KeyPage { prefix: key(), after: None, count: 10 });
    let nothing = strong.ask(&Query::Revision(key()));
    for number in 0..50 {
        strong.keep(A, number, b"r");
    }
    assert_eq!(strong.ask(&Query::Size), Answer::Count(0));
    assert_eq!(
        (strong.ask(&page()), strong.ask(&Query::RandomKey(1))),
        (Answer::List(vec![]), Answer::Value(None))
    );
    assert_eq!(strong.ask(&Query::Kind(key())), Answer::Kind(None));
    assert_eq!(strong.ask(&Query::Entry(key())), Answer::Entry(Entry::default()));
    assert_eq!(strong.ask(&Query::Revision(key())), nothing);
    let add = |name: &[u8]| Write::Add { key: name.to_vec(), elements: vec![b"e".to_vec()] };
    for name in [&b""[..], b"k"] {
        strong.write(1, &add(name)).expect("it is written");
    }
    let revision = strong.ask(&Query::Revision(key()));
    strong.keep(A, 50, b"r");
    assert_eq!(strong.ask(&Query::Revision(key())), revision);
    assert_eq!(strong.ask(&page()), Answer::List(vec![key(), b"k".to_vec()]));
    assert_eq!(strong.ask(&Query::Size), Answer::Count(2));
    strong.write(1, &Write::Delete { key: key() }).expect("it is written");
    strong.write(1, &Write::Clear).expect("it is written");
    assert_eq!(strong.ask(&Query::Size), Answer::Count(0));
    assert!(strong.rows.rows().len() == 51 && strong.rows.rows().keys().all(|row| row.kind == Kind::Outcome));
    check_derived(&strong.rows);
}

fn decoded(epoch: u64, op: Op) -> Result<Frame, FrameError> {
    let mut frame = FrameBuilder::new(start(epoch, 9, 100), &VersionVector::default());
    frame.push(op);
    Frame::decode(frame.seal(&SigningKey::from_seed([3; 32])).bytes())
}

#[test]
fn outcome_of_an_eventual_epoch_is_refused() {
    let own = |number, seq| OutcomeRef { number, dot: DotRef { replica: 0, seq } };
    let outcome = |number, result: Option<Vec<u8>>, forgotten: &[OutcomeRef]| {
        let forgotten = forgotten.to_vec();
        Op::Outcome { client: A, number, index: 1, result, forgotten }
    };
    let good = outcome(5, Some(vec![0; OUTCOME_BYTES_MAX]), &[own(3, 1), own(4, 2)]);
    let forget = Op::Forget { client: A, forgotten: vec![own(3, 1), own(4, 2)] };
    for op in [&good, &forget] {
        assert_eq!(decoded(2, op.clone()), Err(FrameError::Malformed("outcome of an eventual epoch")));
        assert!(decoded(1, op.clone()).expect("it is a frame").is_strong_only());
    }
    assert!(!decoded(1, Op::Increment { key: vec![], birth: 0, sum: 1 }).expect("a frame").is_strong_only());
    for wrong in [
        outcome(5, Some(vec![0; OUTCOME_BYTES_MAX + 1]), &[]),
        outcome(5, None, &[own(5, 1)]),
        outcome(5, None, &[own(4, 1), own(3, 2)]),
        outcome(5, None, &[own(4, 9)]),
        outcome(5, None, &[OutcomeRef { number: 4, dot: DotRef { replica: 1, seq: 1 } }]),
        Op::Forget { client: A, forgotten: vec![own(3, 1), own(3, 2)] },
    ] {
        assert!(matches!(decoded(1, wrong.clone()), Err(FrameError::Malformed(_))), "{wrong:?}");
    }
}

/// A counter of the eventual epoch before goes on as a register, which has seen what was counted.
#[test]
fn number_that_is_counted_in_a_strong_epoch_is_a_register() {
    let mut strong = Strong::default();
    let by = |by| Write::Increment { key: b"n".to_vec(), by };
    let get = Query::Get(b"n".to_vec());
    strong.write(0, &by(5)).expect("it is counted");
    assert_eq!(strong.ask(&Query::Kind(b"n".to_vec())), Answer::Kind(Some(VisibleKind::Counter)));
    let ttl = Write::Expire { key: b"n".to_vec(), deadline_ms: 1 << 40, only: None };
    strong.write(1, &ttl).expect("it is written");
    assert_eq!(strong.write(1, &by(2)).expect("it is counted"), Outcome::Number(7));
    assert_eq!(strong.ask(&get), Answer::Value(Some(b"7".to_vec())));
    assert_eq!(strong.ask(&Query::Kind(b"n".to_vec())), Answer::Kind(Some(VisibleKind::Register)));
    assert_eq!(strong.ask(&Query::Deadline(b"n".to_vec())), Answer::Deadline(Some(Some(1 << 40))));
    let registers = strong.rows.rows().keys().filter(|row| row.kind == Kind::Register).count();
    assert_eq!(registers, 1, "the register before is gone");
    let max = Write::SetFor { key: b"n".to_vec(), value: i64::MAX.to_string().into(), ttl: Ttl::None };
    strong.write(1, &max).expect("it is written");
    assert!(matches!(strong.write(1, &by(1)), Err(WriteError::Overflow)));
    // What was counted beside it in the epoch before, and comes late, counts on top.
    strong.write(1, &Write::Set { key: b"n".to_vec(), value: b"10".to_vec() }).expect("it is written");
    strong.write(0, &by(3)).expect("it is counted");
    assert_eq!(strong.ask(&get), Answer::Value(Some(b"13".to_vec())));
    assert_eq!(strong.write(3, &by(1)).expect("it is counted"), Outcome::Number(14));
    assert_eq!(strong.ask(&get), Answer::Value(Some(b"14".to_vec())));
}

proptest! {
    /// One after the other, they give what a number gives that is counted, whatever stood there.
    #[test]
    fn counting_in_order_is_counting(steps in prop::collection::vec((0..4_u64, -50..50_i64), 1..20)) {
        let mut strong = Strong::default();
        let mut number: i64 = 0;
        for (what, by) in steps {
            let key = b"n".to_vec();
            match what {
                0 => {
                    strong.write(1, &Write::Delete { key }).expect("it is written");
                    number = 0;
                }
                1 => {
                    strong.write(1, &Write::Set { key, value: by.to_string().into() }).expect("it is written");
                    number = by;
                }
                _ => {
                    number += by;
                    let outcome = strong.write(1, &Write::Increment { key, by }).expect("it is counted");
                    prop_assert_eq!(outcome, Outcome::Number(number));
                    let expected = Answer::Value(Some(number.to_string().into()));
                    prop_assert_eq!(strong.ask(&Query::Get(b"n".to_vec())), expected);
                }
            }
            check_derived(&strong.rows);
        }
    }

    /// Whatever a client numbers: what is kept is what was done, among the newest; all below is out, all else is new.
    #[test]
    fn outcomes_are_those_of_the_newest_numbers(
        steps in prop::collection::vec((0..2_usize, prop_oneof![0..6_u64, 1_020..1_030_u64, 2_040..2_060_u64]), 1..40),
    ) {
        let mut strong = Strong::default();
        let mut states = vec![strong.rows.clone()];
        let mut kept: [BTreeMap<u64, Executed>; 2] = Default::default();
        let expected = |kept: &BTreeMap<u64, Executed>, number: u64| {
            let highest = kept.last_key_value().map_or(0, |(highest, _)| *highest);
            let lowest = (highest + 1).saturating_sub(OUTCOMES_PER_CLIENT);
            match kept.get(&number).filter(|_| number >= lowest - lowest % OUTCOMES_AT_ONCE) {
                Some(executed) => executed.clone(),
                None if number < lowest => Executed::FellOut,
                None => Executed::Not,
            }
        };
        for (client, number) in steps {
            let of = [A, B][client];
            if strong.of(of, number) == Executed::Not {
                strong.keep(of, number, b"r");
                kept[client].insert(number, done(number, b"r"));
                states.push(strong.rows.clone());
            }
            for (client, kept) in [A, B].into_iter().zip(&kept) {
                for number in (0..8).chain(1_018..1_032).chain(2_038..2_062) {
                    prop_assert_eq!(strong.of(client, number), expected(kept, number), "{}", number);
                }
            }
        }
        check_derived(&strong.rows);
        // The states of any two moments merge to the later one, in either order, and with themselves to themselves.
        for (earlier, later) in states.iter().zip(&states[states.len() / 2..]) {
            for (a, b) in [(earlier, later), (later, earlier), (later, later)] {
                let mut merged = a.clone();
                merged.merge(b.clone());
                prop_assert_eq!(&merged, later);
            }
        }
    }
}
