//! The bytes of everything that is stored or sent, and what decoding refuses.

use proptest::prelude::*;
use tidelock_engine::ports::NotDone;

use super::*;
use crate::types::Command;
use crate::wire::{EntryPayload, Membership, VERSION};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn vote(term: u64, is_committed: bool) -> Vote {
    Vote { term, anchor: 3, is_committed }
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn command(index: u64) -> Entry {
    Entry { id: id(2, index), payload: EntryPayload::Command(Command(b"put".as_slice().into())) }
}

fn membership() -> Membership {
    let members = [(1, ([0xaa; 32], vec!["/ip4/1".to_owned()]))].into();
    Membership { voters: vec![[1].into()], members }
}

fn append() -> Append {
    let entries = vec![command(8), Entry { id: id(2, 9), payload: EntryPayload::Blank }];
    Append { vote: vote(2, true), previous: Some(id(1, 7)), commit: Some(id(1, 6)), entries }
}

fn chunk() -> Chunk {
    let covers = Applied { last: Some(id(2, 9)), membership_id: Some(id(1, 0)), membership: membership() };
    let bytes = b"state".to_vec();
    Chunk { vote: vote(2, true), covers, hash: [0xbb; 32], total: 9, offset: 4, bytes }
}

fn bodies() -> Vec<Body> {
    let ask = VoteRequest { vote: vote(3, false), last: Some(id(2, 9)), is_transfer: true };
    vec![
        Body::Append(append()),
        Body::Vote(ask.clone()),
        Body::PreVote(ask),
        Body::Transfer { vote: vote(2, true), to: 4, last: None },
        Body::ReadIndex { within_ms: 1000 },
        Body::Forward { within_ms: 300, command: Command(b"put".as_slice().into()) },
        Body::Chunk(chunk()),
        Body::Appended(Appended::Success),
        Body::Appended(Appended::Partial(Some(id(2, 8)))),
        Body::Appended(Appended::Conflict),
        Body::Appended(Appended::HigherVote(vote(4, false))),
        Body::Voted { vote: vote(3, false), is_granted: true, last: None },
        Body::Transferred(Transferred::Taken),
        Body::Transferred(Transferred::VoteChanged { expected: vote(2, true), actual: vote(3, false) }),
        Body::Transferred(Transferred::NotFlushed { expected: Some(id(2, 9)), actual: None }),
        Body::Index(Ok(9)),
        Body::Index(Err(NotDone::NotLeader { leader: None })),
        Body::Forwarded(Forwarded::Done { index: 9, reply: b"ok".to_vec() }),
        Body::Forwarded(Forwarded::Not(NotDone::Busy)),
        Body::Forwarded(Forwarded::Unknown),
        Body::Want { offset: 5 },
        Body::Installed { vote: vote(2, true) },
    ]
}

fn frame(body: Body) -> Frame {
    Frame { group: 1, from: 3, to: 4, life: 300, request: 5, body }
}

#[test]
fn the_bytes_of_every_message() {
    let lines: Vec<String> = bodies().into_iter().map(|body| hex(&frame(body).encode())).collect();
    let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
    assert_eq!(lines, golden, "changing these needs another version:\n{}", lines.join("\n"));
    for body in bodies() {
        let frame = frame(body);
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn the_bytes_of_what_is_stored() {
    assert_eq!(hex(&wire::encode(&command(8))), "0102080103707574");
    assert_eq!(hex(&wire::encode(&vote(2, true))), "01020301");
    assert_eq!(hex(&wire::encode(&id(2, 300))), "0102ac02");
    let members = format!("01010101 01{} 01062f6970342f31", "aa".repeat(32)).replace(' ', "");
    let applied = Applied { last: Some(id(2, 9)), membership_id: Some(id(1, 0)), membership: membership() };
    assert_eq!(hex(&wire::encode(&applied)), format!("01010209010100{members}"));
}

#[test]
fn what_lies_is_refused() {
    let refuse = |body| Frame::decode(&frame(body).encode()).expect_err("it lies");
    let lies: Vec<Append> = vec![
        Append { previous: Some(id(1, u64::MAX)), ..append() },
        Append { previous: Some(id(1, 6)), ..append() },
        Append { previous: None, ..append() },
        Append { previous: Some(id(3, 7)), ..append() },
        Append { commit: Some(id(1, NUMBER_MAX)), ..append() },
        Append { vote: vote(1, true), ..append() },
        Append { vote: vote(NUMBER_MAX, true), ..append() },
        Append { entries: vec![command(8); 2], ..append() },
    ];
    for lie in lies {
        assert_eq!(refuse(Body::Append(lie)), DecodeError::OutOfBounds);
    }
    assert_eq!(refuse(Body::Chunk(Chunk { offset: u64::MAX, ..chunk() })), DecodeError::OutOfBounds);
    assert_eq!(refuse(Body::Chunk(Chunk { total: u64::MAX, ..chunk() })), DecodeError::OutOfBounds);
    assert_eq!(refuse(Body::Chunk(Chunk { total: 8, ..chunk() })), DecodeError::OutOfBounds);
    assert_eq!(refuse(Body::Index(Ok(NUMBER_MAX))), DecodeError::OutOfBounds);
    let empty = Membership { voters: vec![[].into()], ..membership() };
    let entry = Entry { id: id(2, 8), payload: EntryPayload::Membership(empty) };
    assert_eq!(refuse(Body::Append(Append { entries: vec![entry], ..append() })), DecodeError::OutOfBounds);
}

#[test]
fn another_version_is_named() {
    let mut bytes = frame(Body::Want { offset: 0 }).encode();
    bytes[0] = VERSION + 1;
    assert_eq!(Frame::decode(&bytes), Err(DecodeError::Version(VERSION + 1)));
    assert_eq!(Frame::decode(&[]), Err(DecodeError::Empty));
    bytes[0] = VERSION;
    bytes.push(0);
    assert_eq!(Frame::decode(&bytes), Err(DecodeError::Malformed), "one byte too many");
}

proptest! {
    /// Whatever is decoded is within its bounds, and converting it does not panic.
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0..22_usize,
                      at in 0..300_usize, byte: u8) {
        let check = |bytes: &[u8]| {
            if let Ok(frame) = Frame::decode(bytes) {
                prop_assert!(frame.is_bounded());
                if let Body::Append(append) = frame.body {
                    drop(openraft::raft::AppendEntriesRequest::<Types>::from(append));
                }
            }
            Ok(())
        };
        check(&bytes)?;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        check(&bytes)?;
        // A good message with one byte turned, and cut off.
        let mut good = frame(bodies().swap_remove(which)).encode();
        let at = at % good.len();
        good[at] = byte;
        check(&good)?;
        check(&good[..at])?;
    }
}
