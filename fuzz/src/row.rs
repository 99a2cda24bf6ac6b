//! Rows: payloads, and the entries of both files of a store with the checksum that makes them believed.

use tidelock_engine::bounds::{KEY_BYTES_MAX, SUBKEY_BYTES_MAX};
use tidelock_engine::causality::{Dot, Head, Hlc, Stamp};
use tidelock_engine::id::{Epoch, FrameId};
use tidelock_engine::install::{Install, RowList};
use tidelock_engine::message::FrameBytes;
use tidelock_engine::ports::LogPosition;
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId, Slot};
use tidelock_engine::score::Score;
use tidelock_engine::staged::{Piece, Staged};
use tidelock_store::probe;

use crate::Verdict;
use crate::forge::{self, KEYSPACES, any_replica, card};
use crate::input::Input;
use crate::memory::Bound;

/// A row is its bytes, once as they are and once taken apart.
pub const BOUND: Bound = Bound { base: 4 << 10, per_byte: 8, max: 128 << 20 };

/// The authors whose cards, or whose floors, are one entry at most.
const AUTHORS_PER_BLOCK: usize = 16;

/// The authors whose heads are one entry at most.
const HEADS_PER_BLOCK: usize = 4;

/// The payload of a row of any kind.
pub fn payload(data: &[u8]) -> Verdict {
    let mut input = Input::new(data);
    let kind = forge::kind(&mut input);
    let bytes = input.rest();
    let Ok(payload) = BOUND.hold(bytes.len(), || Payload::decode(kind, bytes)) else {
        return Verdict::Refused;
    };
    let mut again = Vec::new();
    payload.encode_into(&mut again);
    assert!(again.len() <= bytes.len(), "it grew");
    assert_eq!(Payload::decode(kind, &again).as_ref(), Ok(&payload));
    let dot = Dot::new(forge::replica(0), 1);
    let row = RowId { key: b"k".to_vec(), kind, subkey: Vec::new(), dot };
    let mut fingerprint = Fingerprint::default();
    fingerprint.insert(&row, &payload);
    fingerprint.remove(&row, &payload);
    assert_eq!(fingerprint, Fingerprint::default());
    match &payload {
        Payload::Slot(slot) => {
            check_slot(*slot, bytes);
            refuse_more(kind, bytes);
        }
        Payload::Value { value, .. } if kind == Kind::Sorted => {
            assert!(Score::from_bytes(value).is_ok_and(|score| !score.get().is_nan()));
            refuse_more(kind, bytes);
        }
        Payload::Value { .. } => assert!(matches!(kind, Kind::Register | Kind::Map)),
        Payload::Member | Payload::Retired { .. } | Payload::Deadline(_) => refuse_more(kind, bytes),
        Payload::Outcome { result, .. } => {
            if result.is_none() {
                refuse_more(kind, bytes);
            }
        }
        Payload::Chunk(chunk) => assert!(kind == Kind::Document && chunk == bytes),
    }
    Verdict::Decoded
}

/// A payload that has an end is all of its bytes.
fn refuse_more(kind: Kind, bytes: &[u8]) {
    assert!(matches!(
        kind,
        Kind::Counter | Kind::Set | Kind::Retired | Kind::Deadline | Kind::Sorted | Kind::Outcome
    ));
    assert!(Payload::decode(kind, &[bytes, &[0]].concat()).is_err(), "a byte behind it is taken too");
}

/// A slot of any numbers merges as a slot must, with one that differs from it.
fn check_slot(slot: Slot, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let other = slot.raised(input.number(), input.signed()).reset(input.number(), input.signed());
    assert_eq!(slot.merged(slot), slot);
    assert_eq!(slot.merged(other), other.merged(slot));
    assert_eq!(slot.merged(other).merged(other), slot.merged(other));
    assert!(slot.is_live() || slot.contribution() == 0);
}

/// An entry of `rows.redb` or `log.redb`, sealed: of any bytes, or as a store would write it.
pub fn entry(data: &[u8]) -> Verdict {
    let mut input = Input::new(data);
    let turned = (usize::from(u16::from_le_bytes(input.array())), input.below(8));
    let is_any = input.once_in(3);
    let is_of_log = input.once_in(2);
    let (key, value) = match (is_any, is_of_log) {
        (true, false) => rows_entry(&mut input, true),
        (true, true) => (input.bytes(60).to_vec(), input.rest().to_vec()),
        (false, false) => rows_entry(&mut input, false),
        (false, true) => log_entry(&mut input),
    };
    let mut sealed = probe::seal(&key, value.clone());
    let mut is_read = false;
    for (read, is_own) in [(probe::rows_entry as Read, !is_of_log), (probe::log_entry as Read, is_of_log)] {
        let found = BOUND.hold(key.len() + sealed.len(), || read(&key, &sealed));
        assert!(
            found.is_some() || is_any || !is_own,
            "an entry as a store writes it is not read: {key:02x?}"
        );
        let Some((key_again, value_again)) = found else { continue };
        is_read = true;
        assert_eq!(key_again, key, "an entry is found under one key only");
        if value_again != value {
            // Numbers of a payload may be written in more bytes than they need.
            assert!(value_again.len() <= value.len());
            let sealed_again = probe::seal(&key, value_again.clone());
            assert_eq!(read(&key, &sealed_again), Some((key_again, value_again)));
        }
    }
    if !key.is_empty() {
        let mut other = key.clone();
        other[turned.0 % key.len()] ^= 1 << turned.1;
        assert_eq!((probe::rows_entry(&other, &sealed), probe::log_entry(&other, &sealed)), (None, None));
    }
    let at = turned.0 % sealed.len();
    sealed[at] ^= 1 << turned.1;
    assert_eq!((probe::rows_entry(&key, &sealed), probe::log_entry(&key, &sealed)), (None, None));
    if is_read { Verdict::Decoded } else { Verdict::Refused }
}

type Read = fn(&[u8], &[u8]) -> Option<(Vec<u8>, Vec<u8>)>;

/// A number as `key.rs` describes it, or one in the same form that is longer than it need be.
fn number(out: &mut Vec<u8>, number: u64, is_long: bool) {
    if is_long {
        out.push(247 + 8);
        out.extend(number.to_be_bytes());
        return;
    }
    if number < 248 {
        out.push(u8::try_from(number).expect("it is small"));
        return;
    }
    let digits: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
    out.push(247 + u8::try_from(digits.len()).expect("at most 8"));
    out.extend(digits);
}

/// A text as `key.rs` describes it.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.push(0);
}

fn interned(input: &mut Input<'_>) -> u64 {
    input.number() & u64::from(u32::MAX)
}

/// An entry as the store's `schema` describes those of `rows.redb`; if it `may_be_long`, some numbers of its
/// key are longer than the store writes them, and then it is none.
fn rows_entry(input: &mut Input<'_>, may_be_long: bool) -> (Vec<u8>, Vec<u8>) {
    let number = |out: &mut Vec<u8>, input: &mut Input<'_>, value| {
        number(out, value, may_be_long && input.once_in(2));
    };
    let tag = input.pick(&[0_u8, 1, 2, 3, 4, 4, 4, 5, 6]);
    let mut key = vec![tag];
    if tag > 0 {
        let keyspace = interned(input);
        number(&mut key, input, keyspace);
    }
    let value = match tag {
        0 => input.number().to_be_bytes().to_vec(),
        1 => [&input.array::<24>()[..], &[u8::from(input.once_in(2))], &input.array::<8>()].concat(),
        2 => {
            let block = interned(input) % (1 << 30);
            number(&mut key, input, block);
            let mut value = Vec::new();
            // Who comes last has a head.
            for others in (0..=input.below(HEADS_PER_BLOCK - 1)).rev() {
                let seq = input.number().max(u64::from(others == 0));
                number(&mut value, input, seq);
                if seq > 0 {
                    value.extend(input.array::<32>());
                }
            }
            value
        }
        3 => {
            text(&mut key, &forge::any_key(input));
            key.push(forge::kind(input) as u8);
            input.number().to_be_bytes().to_vec()
        }
        6 => {
            let height = input.byte() % 4;
            text(&mut key, &forge::any_key(input));
            key.push(64 - height);
            key.extend_from_slice(&forge::score(input).to_bytes());
            key.extend_from_slice(&forge::subkey(input));
            let mut value = Vec::new();
            if height > 0 {
                let count = input.number();
                number(&mut value, input, count);
            }
            value
        }
        5 => {
            key.extend_from_slice(&input.number().to_be_bytes());
            text(&mut key, &forge::any_key(input));
            let (author, seq) = (interned(input), input.number());
            number(&mut key, input, author);
            number(&mut key, input, seq);
            Vec::new()
        }
        _ => {
            let kind = forge::kind(input);
            text(&mut key, &forge::any_key(input));
            key.push(kind as u8);
            text(&mut key, &forge::subkey(input));
            let (author, seq) = (interned(input), input.number());
            number(&mut key, input, author);
            number(&mut key, input, seq);
            let mut value = Vec::new();
            any_payload(input, kind).encode_into(&mut value);
            value
        }
    };
    (key, value)
}

/// A payload of a kind.
pub fn any_payload(input: &mut Input<'_>, kind: Kind) -> Payload {
    match kind {
        Kind::Register | Kind::Map => Payload::Value { stamp: stamp(input), value: forge::value(input) },
        Kind::Sorted => {
            Payload::Value { stamp: stamp(input), value: forge::score(input).to_bytes().to_vec() }
        }
        Kind::Counter => Payload::Slot(Slot {
            top: input.number(),
            sum: input.signed(),
            base_top: input.number(),
            base_sum: input.signed(),
        }),
        Kind::Set => Payload::Member,
        Kind::Document => Payload::Chunk(forge::value(input)),
        Kind::Retired => Payload::Retired { stamp: stamp(input), last: input.number() },
        Kind::Deadline => Payload::Deadline(input.number()),
        Kind::Outcome => {
            let (stamp, index) = (stamp(input), input.number());
            Payload::Outcome { stamp, index, result: input.once_in(2).then(|| forge::value(input)) }
        }
    }
}

fn stamp(input: &mut Input<'_>) -> Stamp {
    Stamp { epoch: Epoch(input.number()), hlc: Hlc::from_bits(input.number()) }
}

/// An entry as the store's `schema` describes those of `log.redb`.
fn log_entry(input: &mut Input<'_>) -> (Vec<u8>, Vec<u8>) {
    let tag = input.pick(&[0_u8, 1, 2, 3, 4, 5, 5, 5, 6, 6]);
    let four = |input: &mut Input<'_>| u32::try_from(interned(input)).expect("it is masked").to_be_bytes();
    match tag {
        0 if input.once_in(3) => {
            ([&[tag, 2][..], input.pick(&KEYSPACES).as_bytes()].concat(), input.array::<16>().to_vec())
        }
        6 => raft_entry(input),
        0 if input.once_in(2) => (vec![tag, 1], input.number().to_be_bytes().to_vec()),
        0 => (vec![tag], input.number().to_be_bytes().to_vec()),
        1 => {
            let mut cards = Vec::new();
            for _ in 0..=input.below(AUTHORS_PER_BLOCK - 1) {
                let card = card(input.byte() % forge::MEMBERS);
                cards.extend([&card.public_key[..], &card.nonce].concat());
            }
            ([&[tag][..], &four(input)].concat(), cards)
        }
        2 => ([&[tag][..], &four(input)].concat(), input.pick(&KEYSPACES).as_bytes().to_vec()),
        3 => {
            let (keyspace, author, last) = (four(input), four(input), input.number().to_be_bytes());
            ([&[tag][..], &keyspace, &author, &last].concat(), input.number().to_be_bytes().to_vec())
        }
        4 => {
            let (keyspace, block) = (four(input), four(input));
            let mut floors = Vec::new();
            for _ in 0..input.below(AUTHORS_PER_BLOCK) {
                number(&mut floors, input.number(), false);
            }
            // Who comes last has a floor.
            number(&mut floors, input.number().max(1), false);
            ([&[tag][..], &keyspace, &block].concat(), floors)
        }
        _ if input.once_in(4) => {
            let (position, head) = (input.number().to_be_bytes(), input.array::<16>());
            ([&[tag][..], &position].concat(), [&head[..], &[2], &staged(input).encode()].concat())
        }
        _ if input.once_in(3) => {
            let (position, head) = (input.number().to_be_bytes(), input.array::<16>());
            ([&[tag][..], &position].concat(), [&head[..], &[1], &install(input).encode()].concat())
        }
        _ => {
            let position = input.number().to_be_bytes();
            let keyspace = forge::keyspace_id(KEYSPACES[0]);
            let chain = forge::Chain { member: 0, keyspace, first: 1, previous: FrameId::NONE };
            let (mut header, ops) = forge::frame(input, chain);
            header.author = any_replica(input);
            // The log reads the header only; what is behind it was checked before it was written.
            (header.first, header.count) = (header.first.clamp(1, 1 << 32), header.count.max(1));
            let head = input.array::<16>();
            ([&[tag][..], &position].concat(), [&head[..], &[0], &forge::encode(&header, &ops)].concat())
        }
    }
}

/// Something of a Raft group.
fn raft_entry(input: &mut Input<'_>) -> (Vec<u8>, Vec<u8>) {
    let kind = input.byte() % 6;
    let key = [&[6][..], &[0; 8], &[kind]].concat();
    match kind {
        0 => {
            let mut places = [input.number(), input.number(), input.number()];
            places.sort_unstable();
            let [oldest, first, next] = places;
            let numbers = [input.number(), oldest, first, next, input.number()];
            (key, numbers.map(u64::to_be_bytes).concat())
        }
        5 => ([&key[..], &input.number().to_be_bytes()].concat(), input.bytes(60).to_vec()),
        _ => (key, input.array::<16>().to_vec()),
    }
}

/// State that waits, as a store writes it.
fn staged(input: &mut Input<'_>) -> Staged {
    let Install { keyspace, rows, heads } = install(input);
    let rows = RowList::new(rows.iter().map(|(row, payload)| (row, payload.as_ref())));
    let piece = match input.below(3) {
        0 => Piece::Rows(rows),
        1 => Piece::Frames(vec![FrameBytes(input.array::<16>().to_vec())]),
        _ => Piece::end(&heads.unwrap_or_default()),
    };
    Staged { keyspace, since: LogPosition(input.number()), piece }
}

/// State that is taken over, as a store writes it.
pub fn install(input: &mut Input<'_>) -> Install {
    let mut rows: Vec<(RowId, Option<Payload>)> = Vec::new();
    for _ in 0..input.below(5) {
        let (kind, mut key, mut subkey) = (forge::kind(input), forge::any_key(input), forge::subkey(input));
        key.truncate(KEY_BYTES_MAX);
        subkey.truncate(if kind.has_subkey() { SUBKEY_BYTES_MAX } else { 0 });
        let dot = Dot::new(any_replica(input), input.number().max(1));
        let payload = if input.once_in(4) { None } else { Some(any_payload(input, kind)) };
        rows.push((RowId { key, kind, subkey, dot }, payload));
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let head = |input: &mut Input<'_>| {
        (any_replica(input), Head { seq: input.number().max(1), frame: FrameId::from_bytes(input.array()) })
    };
    let heads = input.once_in(2).then(|| (0..input.below(3)).map(|_| head(input)).collect());
    Install { keyspace: forge::keyspace_id(KEYSPACES[0]), rows, heads }
}
