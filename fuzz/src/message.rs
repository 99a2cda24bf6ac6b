//! Messages: bytes as a peer sends them, and messages of any content, at their bounds and past them.

use tidelock_engine::causality::Dot;
use tidelock_engine::frame::Frame;
use tidelock_engine::group_key::{GroupSecret, GroupSignature, Statement};
use tidelock_engine::id::{ClientId, Epoch, FrameId, KeyspaceId, PeerId};
use tidelock_engine::install::RowList;
use tidelock_engine::message::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, FRAMES_MAX, FrameBytes, HEADS_MAX, HINTS_MAX, HeadEntry, Hello,
    KEYSPACES_MAX, KeyspaceHint, Message, ModeNews, PARTS_MAX, PEER_RECORDS_MAX, PROTOCOL_VERSION, PartRows,
    PeerRecord, RANGES_MAX, REASON_BYTES_MAX, RangeAsk, RangePart, STATE_HEADS_MAX, StateHead, WantEntry,
};
use tidelock_engine::mode::ModeRecord;
use tidelock_engine::ports::{AnchorId, LogIndex, MESSAGE_BYTES_MAX, NotDone};
use tidelock_engine::ranges::{Edge, Group, Print, Range};
use tidelock_engine::replica::{AnchorError, AnchorOrder};
use tidelock_engine::roster::{ANCHORS_MAX, AnchorNews, Invite, Roster, Seated, SignedRoster};
use tidelock_engine::row::Fingerprint;

use crate::forge::{
    self, Chain, KEYSPACES, MEMBERS, any_replica, card, cluster, encode, keyspace_id, named, sign,
};
use crate::input::Input;
use crate::memory::Bound;
use crate::{Verdict, sound};

/// An empty frame is one byte in a message and 24 in memory; a list that grows is there twice.
pub const BOUND: Bound = Bound { base: 128 << 10, per_byte: 96, max: 4 * MESSAGE_BYTES_MAX };

/// The longest message, in bytes, that is decoded once more with a byte behind it.
const LOOKED_BEHIND_BYTES_MAX: usize = 4 << 10;

/// Bytes as they come from a peer.
pub fn message(data: &[u8]) -> Verdict {
    match BOUND.hold(data.len(), || Message::decode(data)) {
        Ok(message) => {
            check(&message, data);
            Verdict::Decoded
        }
        Err(_) => Verdict::Refused,
    }
}

/// A message of any content. The oracle says whether it must be taken.
pub fn built_message(data: &[u8]) -> Verdict {
    let message = any(&mut Input::new(data));
    let bytes = message.encode();
    let decoded = BOUND.hold(bytes.len(), || Message::decode(&bytes));
    assert_eq!(decoded.is_ok(), sound::message(&message), "{decoded:?} of {message:?}");
    let Ok(decoded) = decoded else { return Verdict::Refused };
    assert_eq!(decoded, message);
    check(&decoded, &bytes);
    Verdict::Decoded
}

/// What holds of every message that was decoded.
fn check(message: &Message, bytes: &[u8]) {
    assert!(sound::message(message), "not sound: {message:?}");
    let again = message.encode();
    assert!(again.len() <= bytes.len(), "it grew");
    if again != bytes {
        assert_eq!(Message::decode(&again).as_ref(), Ok(message));
    }
    if bytes.len() < LOOKED_BEHIND_BYTES_MAX {
        assert!(Message::decode(&[bytes, &[0]].concat()).is_err(), "a byte behind it is taken too");
    }
    if let Message::Push { frames, .. } | Message::Answer { frames, .. } = message {
        for FrameBytes(bytes) in frames.iter().take(8) {
            if let Ok(frame) = Frame::decode(bytes) {
                crate::frame::check(&frame, bytes);
            }
        }
    }
}

/// A message of any kind.
pub fn any(input: &mut Input<'_>) -> Message {
    let keyspace = keyspace_id(input.pick(&KEYSPACES));
    match input.below(33) {
        0 => Message::Hello(hello(input)),
        1 => Message::Goodbye { reason: text(input, REASON_BYTES_MAX) },
        2 => Message::Keyspaces(repeated(input, KEYSPACES_MAX, |input| named(input.pick(&KEYSPACES)))),
        3 => Message::Peers(repeated(input, PEER_RECORDS_MAX, record)),
        4 => Message::Summary { keyspace, heads: input.array(), fingerprint: input.array() },
        5 => {
            let head = |input: &mut Input<'_>| HeadEntry {
                author: any_replica(input),
                seq: input.number(),
                frame: input.array(),
            };
            Message::Heads { keyspace, entries: repeated(input, HEADS_MAX, head) }
        }
        6 => Message::Want { keyspace, after: repeated(input, HEADS_MAX, want) },
        7 => {
            let (cards, frames) = (repeated(input, FRAMES_MAX, a_card), repeated(input, FRAMES_MAX, frame));
            Message::Answer { keyspace, cards, frames, has_more: input.once_in(2) }
        }
        8 => {
            let (cards, frames) = (repeated(input, FRAMES_MAX, a_card), repeated(input, FRAMES_MAX, frame));
            Message::Push { cards, frames }
        }
        9 => Message::Prune { keyspace },
        10 => Message::Graft { keyspace },
        11 => Message::Confirm { keyspace, seq: input.number() },
        12 => Message::Confirmed { keyspace, seq: input.number() },
        13 => Message::Held { keyspace, held: repeated(input, HEADS_MAX, want) },
        14 => Message::Take { keyspace },
        15 => {
            let (epoch, position) = (Epoch(input.number()), input.number());
            Message::Taken { keyspace, epoch, position, heads: state_heads(input) }
        }
        16 => {
            let ask = |input: &mut Input<'_>| RangeAsk { range: range(input), print: print(input) };
            Message::Compare { keyspace, asks: repeated(input, RANGES_MAX, ask) }
        }
        17 => {
            let heads = state_heads(input);
            Message::Compared { keyspace, heads, parts: repeated(input, RANGES_MAX, part) }
        }
        18 => Message::Tail { keyspace, after: input.number() },
        19 => {
            let (heads, frames) = (state_heads(input), repeated(input, FRAMES_MAX, frame));
            Message::Tailed { keyspace, heads, frames, until: input.number(), is_end: input.once_in(2) }
        }
        20 => Message::EndTake { keyspace },
        21 => Message::Below { keyspace },
        22 => Message::Left(repeated(input, KEYSPACES_MAX, |input| keyspace_id(input.pick(&KEYSPACES)))),
        23 => Message::Vouch { keyspace, number: input.number() },
        24 => {
            let number = input.number();
            Message::Vouched { keyspace, number, held: repeated(input, HEADS_MAX, want) }
        }
        _ => of_strong(input, keyspace),
    }
}

/// A message about strong keyspaces and anchors.
fn of_strong(input: &mut Input<'_>, keyspace: KeyspaceId) -> Message {
    match input.below(8) {
        0 => Message::Modes(repeated(input, KEYSPACES_MAX, mode_news)),
        1 => {
            let (begin, cut) = (input.number(), input.number());
            Message::At { keyspace, begin, cut, fingerprint: input.array() }
        }
        2 => {
            let operation = input.once_in(2).then(|| (ClientId(input.array()), input.number()));
            let (number, within_ms) = (input.number(), input.number());
            let (is_last, request) = (input.once_in(2), input.array::<8>().to_vec());
            Message::Ask { number, operation, within_ms, is_last, request }
        }
        4 => Message::Anchors(anchor_news(input)),
        5 => Message::Invite(Invite {
            anchor: AnchorId(input.number()),
            replica: any_replica(input),
            signature: a_signature(input),
            roster: roster(input),
        }),
        6 => Message::Govern {
            number: input.number(),
            hops: input.byte(),
            within_ms: input.number(),
            order: order(input),
        },
        3 => Message::Told { number: input.number(), reply: input.array::<8>().to_vec() },
        _ => {
            let reason = text(input, 2 * REASON_BYTES_MAX);
            let error = match input.below(4) {
                0 => AnchorError::HoldsData(named(input.pick(&KEYSPACES))),
                1 => AnchorError::GivenUp(named(input.pick(&KEYSPACES))),
                _ => AnchorError::Not(NotDone::Refused { reason }),
            };
            Message::Governed {
                number: input.number(),
                reply: if input.once_in(2) { Ok(()) } else { Err(error) },
            }
        }
    }
}

fn want(input: &mut Input<'_>) -> WantEntry {
    WantEntry { author: any_replica(input), after: input.number() }
}

fn mode_news(input: &mut Input<'_>) -> ModeNews {
    let dot = |input: &mut Input<'_>| Dot::new(any_replica(input), input.number());
    let record = ModeRecord {
        epoch: Epoch(input.number()),
        frontier: (0..input.below(3)).map(|_| dot(input)).collect(),
        index: LogIndex(input.number()),
        card: a_card(input),
        signature: a_signature(input),
    };
    ModeNews { name: named(input.pick(&KEYSPACES)), record }
}

fn a_signature(input: &mut Input<'_>) -> GroupSignature {
    let statement = Statement::Invitation {
        anchor: AnchorId(1),
        replica: any_replica(input),
        index: LogIndex(input.number()),
    };
    GroupSecret::from([input.byte(); 32]).sign(cluster(), &statement)
}

fn roster(input: &mut Input<'_>) -> SignedRoster {
    let seated = |input: &mut Input<'_>| Seated {
        anchor: AnchorId(input.number()),
        peer: PeerId::from_public_key(input.array()),
        addresses: addresses(input),
        is_voter: input.once_in(2),
    };
    let roster = Roster { index: LogIndex(input.number()), members: repeated(input, ANCHORS_MAX, seated) };
    let signature = a_signature(input);
    SignedRoster { roster, signature }
}

fn anchor_news(input: &mut Input<'_>) -> AnchorNews {
    AnchorNews {
        seat: input.once_in(2).then(|| AnchorId(input.number())),
        is_unwilling: input.once_in(2),
        leader: input.once_in(2).then(|| AnchorId(input.number())),
        exact: repeated(input, KEYSPACES_MAX, |input| keyspace_id(input.pick(&KEYSPACES))),
        roster: input.once_in(2).then(|| roster(input)),
    }
}

fn order(input: &mut Input<'_>) -> AnchorOrder {
    match input.below(5) {
        0 => AnchorOrder::Found,
        1 => AnchorOrder::Add(PeerId::from_public_key(input.array())),
        2 => AnchorOrder::Remove(repeated(input, ANCHORS_MAX, |input| AnchorId(input.number()))),
        3 => AnchorOrder::Transfer(AnchorId(input.number())),
        _ => AnchorOrder::MakeStrong(named(input.pick(&KEYSPACES))),
    }
}

fn state_heads(input: &mut Input<'_>) -> Vec<StateHead> {
    let head = |input: &mut Input<'_>| StateHead {
        card: a_card(input),
        seq: input.number(),
        frame: FrameId::from_bytes(input.array()),
    };
    repeated(input, STATE_HEADS_MAX, head)
}

fn print(input: &mut Input<'_>) -> Print {
    Print { fingerprint: Fingerprint::from_bits(u128::from_le_bytes(input.array())), rows: input.number() }
}

fn edge(input: &mut Input<'_>) -> Edge {
    let row = crate::row::install(input).rows.pop();
    row.map(|(row, _)| Group::of(&row))
}

/// In order, mostly.
fn range(input: &mut Input<'_>) -> Range {
    let (a, b) = (edge(input), edge(input));
    match (a, b) {
        (Some(a), Some(b)) if b < a && !input.once_in(8) => Range { from: Some(b), to: Some(a) },
        (from, to) => Range { from, to },
    }
}

fn part(input: &mut Input<'_>) -> RangePart {
    let rows = match input.below(3) {
        0 => PartRows::Equal,
        1 => PartRows::Split(repeated(input, PARTS_MAX, |input| (edge(input), print(input)))),
        _ => {
            let rows = crate::row::install(input).rows;
            PartRows::Rows(RowList::new(rows.iter().map(|(row, payload)| (row, payload.as_ref()))))
        }
    };
    RangePart { range: range(input), rows }
}

/// A short list; one in 128 is as long as may be, or one longer.
fn repeated<T: Clone>(input: &mut Input<'_>, max: usize, mut one: impl FnMut(&mut Input<'_>) -> T) -> Vec<T> {
    if input.once_in(128) {
        let one = one(input);
        return vec![one; max + input.below(2)];
    }
    input.list(4, one)
}

fn text(input: &mut Input<'_>, long: usize) -> String {
    String::from_utf8_lossy(&input.text(&["hand/courier", "bye", "", "/ip4/127.0.0.1/tcp/1"], long))
        .into_owned()
}

fn addresses(input: &mut Input<'_>) -> Vec<String> {
    if input.once_in(16) {
        return vec![text(input, ADDRESS_BYTES_MAX); ADDRESSES_MAX + input.below(2)];
    }
    input.list(3, |input| text(input, ADDRESS_BYTES_MAX))
}

fn hello(input: &mut Input<'_>) -> Hello {
    Hello {
        protocol: if input.once_in(8) { u32::from(input.byte()) } else { PROTOCOL_VERSION },
        cluster: cluster(),
        card: a_card(input),
        keyspaces: repeated(input, KEYSPACES_MAX, |input| named(input.pick(&KEYSPACES))),
        takes_any_keyspace: input.once_in(2),
        addresses: addresses(input),
    }
}

fn record(input: &mut Input<'_>) -> PeerRecord {
    let peer = PeerId::from_public_key(input.array());
    let (addresses, age_s) = (addresses(input), input.number());
    let keyspaces = repeated(input, HINTS_MAX, |input| KeyspaceHint(input.array()));
    PeerRecord { peer, addresses, age_s, keyspaces }
}

fn a_card(input: &mut Input<'_>) -> tidelock_engine::id::AuthorCard {
    let mut one = card(input.byte() % MEMBERS);
    if input.once_in(16) {
        one.nonce = input.array();
    }
    one
}

/// A signed frame that nothing went before, or bytes that are none.
fn frame(input: &mut Input<'_>) -> FrameBytes {
    if input.once_in(2) {
        return FrameBytes(input.bytes(80).to_vec());
    }
    let member = input.byte() % MEMBERS;
    let keyspace = keyspace_id(input.pick(&KEYSPACES));
    let chain = Chain { member, keyspace, first: 1, previous: FrameId::NONE };
    let (header, ops) = forge::frame(input, chain);
    FrameBytes(sign(member, encode(&header, &ops)))
}
