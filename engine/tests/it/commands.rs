//! The bytes of commands and requests: golden, read back as they were, and refused where they are none.

use std::fmt::Write as _;
use std::ops::Bound;

use tidelock_engine::bounds::{COMMANDS_MAX, STRUCTURE_BYTES_MAX};
use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::command::{
    ClientId, Command, CommandError, ENTRY_VERSION, Entry, Execute, OperationId, decode_entry, encode_entry,
};
use tidelock_engine::condition::Condition;
use tidelock_engine::id::{Epoch, KeyspaceId, ReplicaId};
use tidelock_engine::ports::{COMMAND_BYTES_MAX, Durability, LogIndex};
use tidelock_engine::read::{
    Collection, Combination, KeyPage, Query, RandomPick, SortedPage, SortedRange, SubkeyPage,
};
use tidelock_engine::request::{Action, Atomicity, Decision, REPLY_BYTES_MAX, Request};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::score::Score;
use tidelock_engine::wire::WireError;
use tidelock_engine::write::{Addend, Decimal, Edit, ExpireIf, MemberIf, ScoreRule, Toward, Ttl, Write};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}

fn k() -> Vec<u8> {
    b"k".to_vec()
}

fn dot() -> Dot {
    Dot::new(ReplicaId::from_bytes([9; 16]), 300)
}

fn score() -> Score {
    Score::new(1.5).expect("a number")
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).expect("a number")
}

fn by_scores() -> SortedRange {
    SortedRange::Scores { min: Bound::Excluded(Score::ZERO), max: Bound::Unbounded }
}

fn page() -> SortedPage {
    let range = SortedRange::Members { min: Bound::Included(b"a".to_vec()), max: Bound::Unbounded };
    SortedPage { key: k(), range, is_reverse: true, offset: 300, count: Some(2) }
}

fn execute(actions: Vec<Action>) -> Command {
    Command::Execute(Execute {
        keyspace: KeyspaceId::from_bytes([7; 16]),
        operation: OperationId { epoch: Epoch(1), client: ClientId([5; 16]), number: 300 },
        hlc: Hlc::from_bits(0x0102_0304_0506_0708),
        actions,
        atomicity: Atomicity::Together,
    })
}

fn decide(actions: Vec<Action>) -> Action {
    Action::Decide(Box::new(Decision { actions, is_whole: true, ..Decision::default() }))
}

/// A write of every kind, with its bytes.
fn writes() -> Vec<(Write, &'static str)> {
    let list = || vec![b"a".to_vec(), Vec::new()];
    let rule = ScoreRule { only: Some(MemberIf::There), toward: Some(Toward::Less) };
    let edit = |edit| Write::Edit { key: k(), edit };
    vec![
        (Write::Set { key: k(), value: b"v".to_vec() }, "00016b0176"),
        (Write::SetFor { key: k(), value: b"v".to_vec(), ttl: Ttl::Until(300) }, "01016b017602ac02"),
        (Write::Expire { key: k(), deadline_ms: 300, only: Some(ExpireIf::Sooner) }, "02016bac020103"),
        (Write::Persist { key: k() }, "03016b"),
        (Write::Increment { key: k(), by: -2 }, "04016b03"),
        (Write::Add { key: k(), elements: list() }, "05016b02016100"),
        (Write::Remove { key: k(), elements: list() }, "06016b02016100"),
        (Write::Put { key: k(), fields: vec![(b"f".to_vec(), b"v".to_vec())] }, "07016b0101660176"),
        (Write::Unset { key: k(), fields: list() }, "08016b02016100"),
        (
            Write::Score { key: k(), members: vec![(b"m".to_vec(), score())], rule },
            "09016b01016dbff800000000000001010101",
        ),
        (
            Write::AddToScore { key: k(), member: b"m".to_vec(), by: score(), rule: ScoreRule::default() },
            "0a016b016dbff80000000000000000",
        ),
        (Write::Unscore { key: k(), members: list() }, "0b016b02016100"),
        (Write::UnscoreRange { key: k(), range: SortedRange::ALL }, "0c016b000001"),
        (Write::PopScored { key: k(), count: 300, is_highest: true }, "0d016bac0201"),
        (edit(Edit::Append(b"v".to_vec())), "0e016b000176"),
        (edit(Edit::Splice { offset: 300, bytes: b"v".to_vec() }), "0e016b01ac020176"),
        (edit(Edit::Bit { offset: 300, is_set: true }), "0e016b02ac0201"),
        (edit(Edit::Add(decimal("0.5"))), "0e016b03008080a8ec85afd1b101"),
        (Write::AddToField { key: k(), field: b"f".to_vec(), by: Addend::Integer(-2) }, "0f016b01660003"),
        (
            Write::AddToField { key: k(), field: b"f".to_vec(), by: Addend::Decimal(decimal("inf")) },
            "0f016b0166010180808080808080f87f",
        ),
        (Write::Pop { key: k(), count: 1, seed: 300 }, "10016b01ac02"),
        (Write::Copy { from: k(), to: b"l".to_vec(), is_move: true }, "11016b016c01"),
        (Write::Combine { into: k(), how: Combination::Union, keys: list() }, "12016b0102016100"),
        (Write::StoreRange { into: k(), page: page() }, "13016b016b020101610001ac020102"),
        (
            Write::Change { key: k(), chunk: b"c".to_vec(), base: vec![dot()], replaced: vec![] },
            "14016b01630109090909090909090909090909090909ac0200",
        ),
        (Write::Delete { key: k() }, "15016b"),
        (Write::Clear, "16"),
        (Write::Retire { replica: ReplicaId::from_bytes([9; 16]) }, "1709090909090909090909090909090909"),
    ]
}

/// A query of every kind, with its bytes.
fn queries() -> Vec<(Query, &'static str)> {
    let list = || vec![b"a".to_vec(), Vec::new()];
    let collection = Collection::Map;
    let (seed, count) = (300, 2);
    vec![
        (Query::Get(k()), "00016b"),
        (Query::Kind(k()), "01016b"),
        (Query::Members(k()), "02016b"),
        (Query::Contains(k(), b"e".to_vec()), "03016b0165"),
        (Query::Cardinality(k()), "04016b"),
        (Query::Field(k(), b"f".to_vec()), "05016b0166"),
        (Query::Fields(k()), "06016b"),
        (Query::FieldCount(k()), "07016b"),
        (Query::Scores(k(), list()), "08016b02016100"),
        (Query::Rank { key: k(), member: b"m".to_vec(), is_reverse: true }, "09016b016d01"),
        (Query::SortedCount(k(), by_scores()), "0a016b0102800000000000000000"),
        (Query::Sorted(page()), "0b016b020101610001ac020102"),
        (
            Query::Page(SubkeyPage { key: k(), collection, after: Some(k()), count: 300 }),
            "0c016b0101016bac02",
        ),
        (
            Query::Random(RandomPick { key: k(), collection, count, is_repeated: true, seed }),
            "0d016b010201ac02",
        ),
        (Query::Combined(Combination::Difference, list()), "0e0202016100"),
        (Query::CommonCount(list(), 300), "0f02016100ac02"),
        (Query::Keys(KeyPage { prefix: k(), after: None, count: 300 }), "10016b00ac02"),
        (Query::RandomKey(300), "11ac02"),
        (Query::Size, "12"),
        (Query::Chunks(k()), "13016b"),
        (Query::Entry(k()), "14016b"),
        (Query::Deadline(k()), "15016b"),
        (Query::Revision(k()), "16016b"),
        (Query::Outcome(ClientId([9; 16]), 300), "1709090909090909090909090909090909ac02"),
        (Query::Mark(300), "18ac02"),
    ]
}

/// A condition of every kind, with its bytes.
fn conditions() -> Vec<(Condition, &'static str)> {
    vec![
        (Condition::Exists(k()), "00016b"),
        (Condition::Missing(k()), "01016b"),
        (Condition::FieldMissing { key: k(), field: b"f".to_vec() }, "02016b0166"),
        (Condition::Contains { key: k(), element: b"e".to_vec(), is_in: true }, "03016b016501"),
        (Condition::Unchanged { key: k(), revision: Fingerprint::from_bits(300) }, "04016bac02"),
        (Condition::Equals { key: k(), value: Some(b"v".to_vec()) }, "05016b010176"),
        (Condition::Equals { key: k(), value: None }, "05016b00"),
    ]
}

/// A command of every kind, with its bytes.
fn commands() -> Vec<(Command, &'static str)> {
    let keyspace = KeyspaceId::from_bytes([7; 16]);
    let (epoch, until, begin) = (Epoch(3), Hlc::from_bits(0x0102_0304_0506_0708), LogIndex(300));
    let name = "notes".parse().expect("a name");
    let fingerprint = Fingerprint::from_bits(300);
    let get = Action::Query(Query::Get(k()));
    let decision = Decision {
        reads: vec![Query::Get(k())],
        conditions: vec![Condition::Exists(k())],
        actions: vec![Action::Whole(vec![Action::Write(Write::Clear), get.clone()])],
        is_whole: false,
    };
    vec![
        (
            execute(vec![Action::Decide(Box::new(decision)), get]),
            concat!(
                "00070707070707070707070707070707070105050505050505050505050505050505ac0201020304",
                "0506070802020100016b0100016b01030200160100016b000100016b01"
            ),
        ),
        (Command::Expire { keyspace, epoch, until }, "0107070707070707070707070707070707030102030405060708"),
        (
            Command::ForgetOutcomes { keyspace, epoch, until },
            "0207070707070707070707070707070707030102030405060708",
        ),
        (
            Command::BeginSeal { keyspace: name, epoch, secret: [6; 32].into() },
            "03056e6f746573030606060606060606060606060606060606060606060606060606060606060606",
        ),
        (
            Command::Cut { keyspace, begin, frontier: vec![dot()] },
            "0407070707070707070707070707070707ac020109090909090909090909090909090909ac02",
        ),
        (
            Command::Seal { keyspace, begin, cut: LogIndex(301), fingerprint },
            "0507070707070707070707070707070707ac02ad02ac02",
        ),
        (Command::AbortSeal { keyspace, begin }, "0607070707070707070707070707070707ac02"),
        (
            Command::NameGroup([6; 32].into()),
            "070606060606060606060606060606060606060606060606060606060606060606",
        ),
        (Command::WantVoters(Some(5)), "080105"),
    ]
}

fn have_golden_bytes<T: serde::Serialize + std::fmt::Debug>(cases: &[(T, &'static str)]) {
    for (value, golden) in cases {
        assert_eq!(hex(&postcard::to_stdvec(value).expect("memory")), *golden, "{value:?}");
    }
}

#[test]
fn commands_have_golden_bytes() {
    have_golden_bytes(&writes());
    have_golden_bytes(&queries());
    have_golden_bytes(&conditions());
    have_golden_bytes(&commands());
}

/// Every command, one of every action, and every condition, in one entry.
fn everything() -> Vec<Command> {
    let mut actions: Vec<Action> = writes().into_iter().map(|(write, _)| Action::Write(write)).collect();
    actions.extend(queries().into_iter().map(|(query, _)| Action::Query(query)));
    let conditions = conditions().into_iter().map(|(condition, _)| condition).collect();
    actions.push(Action::Decide(Box::new(Decision { conditions, ..Decision::default() })));
    let mut all: Vec<Command> = commands().into_iter().map(|(command, _)| command).collect();
    all.push(execute(actions));
    all
}

#[test]
fn entry_is_read_as_it_was_written() {
    let all = everything();
    let bytes = encode_entry(&all);
    assert_eq!(decode_entry(&bytes).as_ref(), Ok(&all));
    let mut entry = Entry::default();
    assert!(entry.is_empty());
    for command in &all {
        assert_eq!(entry.push(command), Ok(true));
    }
    assert_eq!((entry.len(), entry.into_bytes()), (all.len(), bytes.clone()));
    // Whatever is cut off or turned, nothing panics, and what is taken says itself.
    for at in 0..bytes.len() {
        assert!(decode_entry(&bytes[..at]).is_err(), "{at} bytes of it");
        let mut other = bytes.clone();
        other[at] ^= 0x81;
        if let Ok(commands) = decode_entry(&other) {
            assert_eq!(encode_entry(&commands), other, "byte {at}");
        }
    }
    assert_eq!(decode_entry(&[&bytes[..], &[0]].concat()), Err(WireError::Malformed.into()));
}

#[test]
fn entry_of_a_newer_version_is_named() {
    let mut bytes = encode_entry(&everything());
    bytes[0] = ENTRY_VERSION + 1;
    let refused = decode_entry(&bytes).expect_err("it is newer");
    assert_eq!(refused, WireError::Version { found: ENTRY_VERSION + 1, known: ENTRY_VERSION }.into());
    assert!(refused.to_string().contains("version 2 is not known here, which is 1"), "{refused}");
}

#[test]
fn entry_holds_so_many_commands_and_no_more() {
    let abort =
        |begin| Command::AbortSeal { keyspace: KeyspaceId::from_bytes([7; 16]), begin: LogIndex(begin) };
    let mut entry = Entry::default();
    for begin in 0..COMMANDS_MAX as u64 {
        assert_eq!(entry.push(&abort(begin)), Ok(true));
    }
    assert_eq!(entry.push(&abort(0)), Ok(false));
    assert_eq!(decode_entry(&entry.into_bytes()).map(|commands| commands.len()), Ok(COMMANDS_MAX));
    let many = vec![abort(0); COMMANDS_MAX + 1];
    assert_eq!(decode_entry(&encode_entry(&many)), Err(WireError::Malformed.into()));
}

#[test]
fn entry_is_as_long_as_it_may_be_and_no_longer() {
    let set = |bytes| execute(vec![Action::Write(Write::Set { key: k(), value: vec![b'v'; bytes] })]);
    let envelope = encode_entry(&[set(16 << 20)]).len() - (16 << 20) + 1;
    let longest = COMMAND_BYTES_MAX - envelope;
    let mut entry = Entry::default();
    assert_eq!(entry.push(&set(longest)), Ok(true));
    assert_eq!(entry.push(&set(0)), Ok(false), "there is no room for another one");
    let bytes = entry.into_bytes();
    assert!(bytes.len() <= COMMAND_BYTES_MAX && decode_entry(&bytes).is_ok());
    let refused = Entry::default().push(&set(longest + 10)).expect_err("it is too long");
    assert!(matches!(refused, CommandError::TooLarge { bytes } if bytes > longest), "{refused}");
    let bytes = encode_entry(&[set(longest + 10)]);
    assert!(matches!(decode_entry(&bytes), Err(CommandError::Wire(WireError::TooLong { .. }))));
}

/// What is one byte in an entry may be a hundred in memory.
#[test]
fn entry_says_so_many_things_and_no_more() {
    let many =
        |count| execute(vec![Action::Write(Write::Add { key: k(), elements: vec![Vec::new(); count] })]);
    let mut entry = Entry::default();
    assert_eq!(entry.push(&many(STRUCTURE_BYTES_MAX / 2)), Ok(true));
    assert_eq!(entry.push(&many(STRUCTURE_BYTES_MAX / 2)), Ok(false));
    assert!(decode_entry(&entry.into_bytes()).is_ok());
    let bytes = encode_entry(&[many(STRUCTURE_BYTES_MAX)]);
    assert!(bytes.len() < COMMAND_BYTES_MAX / 8);
    assert_eq!(decode_entry(&bytes), Err(WireError::Malformed.into()));
    assert!(matches!(Entry::default().push(&many(STRUCTURE_BYTES_MAX)), Err(CommandError::TooLarge { .. })));
}

#[test]
fn decisions_stand_in_each_other_as_deep_as_they_may_and_no_deeper() {
    let write = Action::Write(Write::Clear);
    let two = decide(vec![Action::Whole(vec![write.clone()])]);
    assert_eq!(Entry::default().push(&execute(vec![two.clone()])), Ok(true));
    for three in [decide(vec![two.clone()]), Action::Whole(vec![two])] {
        let three = execute(vec![three]);
        assert_eq!(
            decode_entry(&encode_entry(std::slice::from_ref(&three))),
            Err(WireError::Malformed.into())
        );
        assert!(matches!(Entry::default().push(&three), Err(CommandError::TooLarge { .. })));
    }
    let nested = |depth| (0..depth).fold(write.clone(), |inner, _| Action::Whole(vec![inner]));
    for depth in [4, 9, 1_000] {
        let bytes = encode_entry(&[execute(vec![nested(depth)])]);
        assert_eq!(decode_entry(&bytes), Err(WireError::Malformed.into()), "{depth}");
    }
    // Nobody makes such a command, so its bytes are made by hand: a hundred thousand wholes of one action each.
    let mut bytes = encode_entry(&[execute(vec![Action::Whole(Vec::new())])]);
    let end = bytes.split_off(bytes.len() - 2);
    assert_eq!(end, [0, 1], "no action in the last whole, and the atomicity");
    bytes.extend([1, 3].repeat(100_000));
    bytes.extend(end);
    assert_eq!(decode_entry(&bytes), Err(WireError::Malformed.into()));
}

#[test]
fn secret_of_an_epoch_is_shown_to_nobody() {
    let name = "notes".parse().expect("a name");
    let command = Command::BeginSeal { keyspace: name, epoch: Epoch(1), secret: [6; 32].into() };
    let shown = format!("{command:?}");
    assert!(shown.contains("secret: EpochSecret }"), "{shown}");
}

#[test]
fn request_is_read_as_it_was_written() {
    let Some(Command::Execute(Execute { actions, .. })) = everything().pop() else {
        unreachable!("it is one")
    };
    let keyspace = "notes".parse().expect("a name");
    let (atomicity, durability) = (Atomicity::AllOrNothing, Durability::Buffered);
    let request = Request { keyspace, actions, atomicity, durability };
    let bytes = request.encode().expect("it is short");
    assert_eq!(Request::decode(&bytes).as_ref(), Ok(&request));
    let set = Write::Set { key: k(), value: vec![0; REPLY_BYTES_MAX] };
    assert!(Request { actions: vec![Action::Write(set)], ..request }.encode().is_err());
}
