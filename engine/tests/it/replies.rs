//! The bytes of replies: read back as they were, with the same words, and short enough whatever they hold.

use tidelock_engine::bounds::{BoundError, COMMANDS_MAX, STRUCTURE_BYTES_MAX};
use tidelock_engine::causality::{Dot, Hlc, Stamp};
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::id::{Epoch, ReplicaId};
use tidelock_engine::ports::ReadError;
use tidelock_engine::read::{Answer, EntryRow, Executed, QueryError};
use tidelock_engine::request::{
    ActionError, ActionReply, Decided, REPLY_BYTES_MAX, RequestError, RequestReply, decode_replies,
    decode_reply, encode_replies, encode_reply,
};
use tidelock_engine::row::{Fingerprint, Kind, Slot};
use tidelock_engine::score::Score;
use tidelock_engine::write::{Outcome, WriteError};

fn dot() -> Dot {
    Dot::new(ReplicaId::from_bytes([9; 16]), 300)
}

fn score() -> Score {
    Score::new(1.5).expect("a number")
}

/// All that a request may be answered.
fn replies() -> Vec<RequestReply> {
    let stamp = Stamp { epoch: Epoch(2), hlc: Hlc::from_bits(300) };
    let row = EntryRow {
        kind: Kind::Map,
        subkey: b"f".to_vec(),
        dot: dot(),
        stamp: Some(stamp),
        value: Some(b"v".to_vec()),
        slot: Some(Slot { top: 1, sum: -2, base_top: 0, base_sum: 0 }),
        deadline_ms: Some(300),
        is_visible: true,
    };
    let entry = tidelock_engine::read::Entry {
        visible: Some(VisibleKind::Map),
        value: None,
        rows: vec![row],
        is_truncated: true,
    };
    let outcomes = [
        Outcome::Done,
        Outcome::Changed(300),
        Outcome::Number(-1),
        Outcome::Length(1),
        Outcome::Bit(true),
        Outcome::Value(b"1.5".to_vec()),
        Outcome::Elements(vec![b"e".to_vec()]),
        Outcome::Scored { added: 1, changed: 2 },
        Outcome::Score(Some(score())),
        Outcome::ScoredMembers(vec![(b"m".to_vec(), score())]),
        Outcome::At(dot()),
    ];
    let answers = [
        Answer::Value(Some(b"v".to_vec())),
        Answer::Kind(Some(VisibleKind::Set)),
        Answer::Bool(true),
        Answer::Count(300),
        Answer::List(vec![b"e".to_vec()]),
        Answer::Pairs(vec![(b"f".to_vec(), b"v".to_vec())]),
        Answer::Scored(vec![(b"m".to_vec(), score())]),
        Answer::Scores(vec![Some(score()), None]),
        Answer::Rank(Some((3, score()))),
        Answer::Chunks(vec![(dot(), b"c".to_vec())]),
        Answer::Entry(entry),
        Answer::Deadline(Some(None)),
        Answer::Revision(Fingerprint::from_bits(300)),
        Answer::Executed(Executed::Not),
        Answer::Executed(Executed::Done { index: 300, result: Some(b"r".to_vec()) }),
        Answer::Executed(Executed::FellOut),
        Answer::Mark(300),
    ];
    let mut given: Vec<_> = outcomes.into_iter().map(|outcome| Ok(ActionReply::Outcome(outcome))).collect();
    given.extend(answers.into_iter().map(|answer| Ok(ActionReply::Answer(answer))));
    let within = vec![Ok(ActionReply::Outcome(Outcome::Done)), Err(ActionError::TooDeep)];
    let decided = Decided { answers: vec![Answer::Count(1)], given: Some(within) };
    given.push(Ok(ActionReply::Whole(vec![ActionReply::Decided(decided)])));
    given.push(Ok(ActionReply::Decided(Decided { answers: Vec::new(), given: None })));
    given.extend(refusals().into_iter().map(Err));
    let mut replies = vec![Ok(given)];
    replies.extend(failures().into_iter().map(Err));
    replies
}

/// Why a request may have no replies.
fn failures() -> Vec<RequestError> {
    let name = || "notes".parse().expect("a name");
    vec![
        RequestError::NotReplicated(name()),
        RequestError::TooManyKeyspaces(9),
        RequestError::Action { index: 3, source: WriteError::Overflow.into() },
        RequestError::Loading(name()),
        RequestError::Leaving(name()),
        RequestError::ReadOnly("the disk is full".to_owned()),
        RequestError::Commit("the disk is gone".to_owned()),
        RequestError::Untold,
        RequestError::Closed,
        RequestError::Forgotten("1-00-7".to_owned()),
        RequestError::Never,
        RequestError::OtherOperation,
    ]
}

/// Why an action may be refused.
fn refusals() -> Vec<ActionError> {
    let keyspace = || "notes".parse().expect("a name");
    let found = VisibleKind::Set;
    let read = || ReadError::Io { file: "rows.redb", source: std::io::Error::other("bad sector") };
    let damaged = ReadError::Damaged { file: "rows.redb", what: "a row".to_owned() };
    let writes = [
        WriteError::WrongKind { found },
        WriteError::NotAnInteger,
        WriteError::Overflow,
        WriteError::FieldNotAnInteger,
        WriteError::NotANumber,
        WriteError::FieldNotANumber,
        WriteError::Infinite,
        WriteError::NotAScore,
        WriteError::Outdated,
        WriteError::NotAnAuthor(ReplicaId::from_bytes([9; 16])),
        WriteError::Empty,
        WriteError::OverQuota { keyspace: keyspace(), quota_bytes: 300 },
        WriteError::Bound(BoundError::Batch { bytes: 2, ops: 1 }),
        WriteError::Read(read()),
    ];
    let queries = [
        QueryError::WrongKind { found },
        QueryError::NotReplicated,
        QueryError::Loading,
        QueryError::NoRevision,
        QueryError::TooLong,
        QueryError::Read(damaged),
    ];
    let mut refusals: Vec<ActionError> = writes.into_iter().map(ActionError::Write).collect();
    refusals.extend(queries.into_iter().map(ActionError::Query));
    refusals.extend([ActionError::NeedsStrong(keyspace()), ActionError::TooDeep, ActionError::TooMuch]);
    refusals.push(ActionError::NoLeader("nobody leads".to_owned()));
    refusals.push(ActionError::Forgotten("1-00-7".to_owned()));
    refusals
}

/// What a disk said is text from then on; all else is what it was, so that clients are told the same words.
#[test]
fn reply_is_read_as_it_was_written() {
    for reply in replies() {
        let bytes = encode_reply(&reply);
        let read = decode_reply(&bytes).expect("it decodes");
        let (shown, expected) = (format!("{read:?}"), format!("{reply:?}"));
        let texts = [
            (
                r#"Io { file: "rows.redb", source: Custom { kind: Other, error: "bad sector" } }"#,
                "bad sector",
            ),
            (r#"Damaged { file: "rows.redb", what: "a row" }"#, "a row"),
        ];
        let expected = texts.iter().fold(expected, |expected, (debug, text)| {
            let text = match *text {
                "a row" => ReadError::Damaged { file: "rows.redb", what: "a row".to_owned() }.to_string(),
                _ => format!("cannot read rows.redb: {text}"),
            };
            expected.replace(debug, &format!("Elsewhere({text:?})"))
        });
        assert_eq!(shown, expected);
        assert_eq!(encode_reply(&read), bytes);
    }
    for refusal in refusals() {
        let text = refusal.to_string();
        let read = decode_reply(&encode_reply(&Ok(vec![Err(refusal)]))).expect("it decodes");
        let Ok([Err(read)]) = read.as_deref() else { panic!("{read:?}") };
        assert_eq!(read.to_string(), text);
    }
}

#[test]
fn reply_that_is_too_long_says_so() {
    let value =
        |bytes| -> RequestReply { Ok(vec![Ok(ActionReply::Answer(Answer::Value(Some(vec![0; bytes]))))]) };
    let envelope = encode_reply(&value(16 << 20)).len() - (16 << 20);
    let longest = encode_reply(&value(REPLY_BYTES_MAX - envelope));
    assert_eq!(longest.len(), REPLY_BYTES_MAX);
    assert!(matches!(decode_reply(&longest), Ok(Ok(_))));
    let longer = encode_reply(&value(REPLY_BYTES_MAX - envelope + 1));
    assert!(matches!(decode_reply(&longer), Ok(Err(RequestError::Untold))));
    let many: RequestReply =
        Ok(vec![Ok(ActionReply::Answer(Answer::List(vec![Vec::new(); STRUCTURE_BYTES_MAX])))]);
    assert!(matches!(decode_reply(&encode_reply(&many)), Ok(Err(RequestError::Untold))));
}

#[test]
fn replies_of_an_entry_fit_together_whatever_they_are() {
    let small = encode_reply(&Ok(vec![Ok(ActionReply::Outcome(Outcome::Done))]));
    let value = ActionReply::Answer(Answer::Value(Some(vec![0; 10 << 20])));
    let large = encode_reply(&Ok(vec![Ok(value)]));
    let mut replies = vec![small.clone(); COMMANDS_MAX];
    (replies[0], replies[1]) = (large.clone(), large.clone());
    let bytes = encode_replies(replies);
    assert!(bytes.len() <= REPLY_BYTES_MAX);
    let read = decode_replies(&bytes).expect("they decode");
    assert_eq!(read.len(), COMMANDS_MAX);
    assert_eq!((&read[0], &read[2]), (&large, &small));
    assert!(
        matches!(decode_reply(&read[1]), Ok(Err(RequestError::Untold))),
        "there is room for one of the two"
    );
}
