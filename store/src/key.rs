//! The keys of `rows.redb`: bytes whose order is the order of the rows.
//!
//! A *number* is order-preserving and short: below 248 it is one byte; else it is a byte 247 + n and the n
//! bytes of the number, big endian, without leading zeros.
//!
//! A *text* (a user's key or subkey) is its bytes with every 0x00 written as 0x00 0xff, and then 0x00. So a
//! text sorts before all texts that it is a prefix of, provided that what follows it never begins with 0xff:
//! a kind is a small number, and an author's number has at most four bytes, hence begins with 251 at most.

use tidelock_engine::ports::{Due, HEIGHT_MAX, Milestone, Place, RowRange, Within};
use tidelock_engine::row::{Kind, RowId};
use tidelock_engine::score::{SCORE_BYTES, Score};

use crate::schema::rows_tag;

const ONE_BYTE_BELOW: u8 = 248;

/// Which row of which keyspace, with interned numbers in place of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InternedRow {
    pub(crate) keyspace: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) subkey: Vec<u8>,
    pub(crate) author: u32,
    pub(crate) seq: u64,
}

/// The key of the entry that says which log position the rows stand at.
pub(crate) fn position() -> Vec<u8> {
    vec![rows_tag::POSITION]
}

/// The key of a keyspace's state.
pub(crate) fn state(keyspace: u32) -> Vec<u8> {
    tagged(rows_tag::STATE, keyspace)
}

/// What the keys of all entries of a keyspace begin with.
pub(crate) fn all_of(keyspace: u32) -> [Vec<u8>; 6] {
    use rows_tag::{DEADLINE, HEAD, MEMBERS, ORDER, ROW, STATE};
    [STATE, HEAD, MEMBERS, ROW, DEADLINE, ORDER].map(|tag| tagged(tag, keyspace))
}

/// The keyspace whose state has the key `key`.
pub(crate) fn read_state_keyspace(key: &[u8]) -> Option<u32> {
    let (&rows_tag::STATE, rest) = key.split_first()? else { return None };
    let (keyspace, []) = read_number(rest)? else { return None };
    keyspace.try_into().ok()
}

/// What the keys of all heads of a keyspace begin with.
pub(crate) fn heads(keyspace: u32) -> Vec<u8> {
    tagged(rows_tag::HEAD, keyspace)
}

/// The key of the heads of a block of authors.
pub(crate) fn heads_of(keyspace: u32, block: u32) -> Vec<u8> {
    let mut key = heads(keyspace);
    push_number(&mut key, u64::from(block));
    key
}

/// The keyspace and block of the heads whose key is `key`.
pub(crate) fn read_heads_block(key: &[u8]) -> Option<(u32, u32)> {
    let (&rows_tag::HEAD, rest) = key.split_first()? else { return None };
    let (keyspace, rest) = read_number(rest)?;
    let (block, []) = read_number(rest)? else { return None };
    Some((keyspace.try_into().ok()?, block.try_into().ok()?))
}

/// The key of the number of members of a set or map.
pub(crate) fn members(keyspace: u32, user_key: &[u8], kind: Kind) -> Vec<u8> {
    let mut key = tagged(rows_tag::MEMBERS, keyspace);
    push_text(&mut key, user_key);
    key.push(kind as u8);
    key
}

/// Which set or map a number of members belongs to.
pub(crate) fn read_members(key: &[u8]) -> Option<(u32, Vec<u8>, Kind)> {
    let (&rows_tag::MEMBERS, rest) = key.split_first()? else { return None };
    let (keyspace, rest) = read_number(rest)?;
    let (user_key, rest) = read_text(rest)?;
    let [kind] = rest else { return None };
    Some((keyspace.try_into().ok()?, user_key, Kind::from_number(*kind)?))
}

/// What the keys of all deadlines of a keyspace begin with.
pub(crate) fn deadlines(keyspace: u32) -> Vec<u8> {
    tagged(rows_tag::DEADLINE, keyspace)
}

/// The key of the entry that finds a deadline by its time.
pub(crate) fn deadline(keyspace: u32, due: &Due, author: u32, seq: u64) -> Vec<u8> {
    let mut key = deadlines_of_key(keyspace, due);
    push_number(&mut key, u64::from(author));
    push_number(&mut key, seq);
    key
}

/// What the keys of the deadlines of a key at one moment begin with. 0xff behind it is behind all of them.
pub(crate) fn deadlines_of_key(keyspace: u32, due: &Due) -> Vec<u8> {
    let mut key = deadlines(keyspace);
    key.extend_from_slice(&due.unix_ms.to_be_bytes());
    push_text(&mut key, &due.key);
    key
}

/// The deadline that a key finds: its keyspace, time and key, author and seq.
pub(crate) fn read_deadline(key: &[u8]) -> Option<(u32, Due, u32, u64)> {
    let (&rows_tag::DEADLINE, rest) = key.split_first()? else { return None };
    let (keyspace, rest) = read_number(rest)?;
    let (unix_ms, rest) = rest.split_first_chunk()?;
    let (key, rest) = read_text(rest)?;
    let (author, rest) = read_number(rest)?;
    let (seq, []) = read_number(rest)? else { return None };
    let due = Due { unix_ms: u64::from_be_bytes(*unix_ms), key };
    Some((keyspace.try_into().ok()?, due, author.try_into().ok()?, seq))
}

/// A height is written as what it is less than this, so that the highest come first.
const BEHIND_HEIGHTS: u8 = 64;

/// The key of an entry of the order of a sorted set.
pub(crate) fn order(keyspace: u32, user_key: &[u8], milestone: &Milestone) -> Vec<u8> {
    let Milestone { height, place } = milestone;
    let mut key = orders(keyspace, user_key);
    key.push(BEHIND_HEIGHTS - height);
    key.extend_from_slice(&place.score.to_bytes());
    key.extend_from_slice(&place.member);
    key
}

/// The first key behind all entries of the order of a sorted set.
pub(crate) fn behind_order(keyspace: u32, user_key: &[u8]) -> Vec<u8> {
    let mut key = orders(keyspace, user_key);
    key.push(BEHIND_HEIGHTS + 1);
    key
}

fn orders(keyspace: u32, user_key: &[u8]) -> Vec<u8> {
    let mut key = tagged(rows_tag::ORDER, keyspace);
    push_text(&mut key, user_key);
    key
}

/// The entry of the order that a key stands for: its keyspace and key, and which it is.
pub(crate) fn read_order(key: &[u8]) -> Option<(u32, Vec<u8>, Milestone)> {
    let (&rows_tag::ORDER, rest) = key.split_first()? else { return None };
    let (keyspace, rest) = read_number(rest)?;
    let (user_key, rest) = read_text(rest)?;
    let (height, rest) = rest.split_first()?;
    let height = BEHIND_HEIGHTS.checked_sub(*height).filter(|height| *height <= HEIGHT_MAX)?;
    let (score, member) = rest.split_first_chunk::<SCORE_BYTES>()?;
    let place = Place { score: Score::from_bytes(score).ok()?, member: member.to_vec() };
    Some((keyspace.try_into().ok()?, user_key, Milestone::new(height, place)))
}

/// What an entry of the order holds.
pub(crate) fn order_value(height: u8, count: u64) -> Vec<u8> {
    let mut value = Vec::new();
    if height > 0 {
        push_number(&mut value, count);
    }
    value
}

/// The members that an entry of the order stands for.
pub(crate) fn read_order_value(height: u8, value: &[u8]) -> Option<u64> {
    match (height, value) {
        (0, []) => Some(1),
        (0, _) => None,
        _ => read_number(value).filter(|(_, rest)| rest.is_empty()).map(|(count, _)| count),
    }
}

/// The key of a row.
pub(crate) fn row(keyspace: u32, row: &RowId, author: u32) -> Vec<u8> {
    let mut key = group(keyspace, row);
    push_number(&mut key, u64::from(author));
    push_number(&mut key, row.dot.seq);
    key
}

/// The row that a key stands for.
pub(crate) fn read_row(key: &[u8]) -> Option<InternedRow> {
    let (&rows_tag::ROW, rest) = key.split_first()? else { return None };
    let (keyspace, rest) = read_number(rest)?;
    let (user_key, rest) = read_text(rest)?;
    let (kind, rest) = rest.split_first()?;
    let (subkey, rest) = read_text(rest)?;
    let (author, rest) = read_number(rest)?;
    let (seq, []) = read_number(rest)? else { return None };
    Some(InternedRow {
        keyspace: keyspace.try_into().ok()?,
        key: user_key,
        kind: Kind::from_number(*kind)?,
        subkey,
        author: author.try_into().ok()?,
        seq,
    })
}

/// The keys of the rows of a range: the first that can be, and the first that is behind all of them.
pub(crate) fn row_bounds(keyspace: u32, range: &RowRange) -> (Vec<u8>, Vec<u8>) {
    let mut end = tagged(rows_tag::ROW, keyspace);
    match &range.within {
        Within::Keyspace => end = behind_prefix(end),
        Within::KeyPrefix(prefix) => {
            push_escaped(&mut end, prefix);
            end = behind_prefix(end);
        }
        Within::Key(key) => {
            push_text(&mut end, key);
            end.push(Kind::Outcome as u8);
        }
        Within::Kind(key, kind) => {
            push_text(&mut end, key);
            end.push(*kind as u8 + 1);
        }
        Within::SubkeyPrefix(key, kind, prefix) => {
            push_text(&mut end, key);
            end.push(*kind as u8);
            push_escaped(&mut end, prefix);
            end = behind_prefix(end);
        }
        Within::Group(key, kind, subkey) => {
            push_text(&mut end, key);
            end.push(*kind as u8);
            push_escaped(&mut end, subkey);
            end.extend_from_slice(&[0x00, 0xff]);
        }
    }
    (group(keyspace, &range.first()), end)
}

/// The first byte string that is behind all that begin with `prefix`, whose first byte is a tag.
pub(crate) fn behind_prefix(mut prefix: Vec<u8>) -> Vec<u8> {
    while prefix.last() == Some(&0xff) {
        prefix.pop();
    }
    *prefix.last_mut().expect("a tag is not 0xff") += 1;
    prefix
}

/// What the keys of all rows of a register, counter, element or field begin with.
fn group(keyspace: u32, row: &RowId) -> Vec<u8> {
    let mut key = Vec::with_capacity(row.key.len() + row.subkey.len() + 24);
    key.push(rows_tag::ROW);
    push_number(&mut key, u64::from(keyspace));
    push_text(&mut key, &row.key);
    key.push(row.kind as u8);
    push_text(&mut key, &row.subkey);
    key
}

fn tagged(tag: u8, keyspace: u32) -> Vec<u8> {
    let mut key = vec![tag];
    push_number(&mut key, u64::from(keyspace));
    key
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match u8::try_from(number) {
        Ok(small) if small < ONE_BYTE_BELOW => out.push(small),
        _ => {
            let zeros = number.leading_zeros() / 8;
            let length = u8::try_from(8 - zeros).expect("at most 8");
            out.push(ONE_BYTE_BELOW - 1 + length);
            out.extend_from_slice(&bytes[zeros as usize..]);
        }
    }
}

pub(crate) fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < ONE_BYTE_BELOW {
        return Some((u64::from(first), rest));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(first - (ONE_BYTE_BELOW - 1)))?;
    let number = digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit));
    let is_shortest = digits[0] != 0 && number >= u64::from(ONE_BYTE_BELOW);
    is_shortest.then_some((number, rest))
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_escaped(out, text);
    out.push(0);
}

fn read_text(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut rest = bytes;
    loop {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        text.extend_from_slice(&rest[..zero]);
        rest = &rest[zero + 1..];
        match rest.split_first() {
            Some((0xff, behind)) => {
                text.push(0);
                rest = behind;
            }
            _ => return Some((text, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidelock_engine::causality::Dot;
    use tidelock_engine::id::ReplicaId;
    use tidelock_engine::ports::After;

    use super::*;

    fn id(key: &[u8], kind: Kind, subkey: &[u8], seq: u64) -> RowId {
        let dot = Dot::new(ReplicaId::from_bytes([9; 16]), seq);
        RowId { key: key.to_vec(), kind, subkey: subkey.to_vec(), dot }
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0x00, 0x01, b'a', 0xfe, 0xff]), 0..5)
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop::sample::select(Kind::ALL.to_vec())
    }

    prop_compose! {
        fn rows()(key in texts(), kind in kinds(), subkey in texts(), seq in 1..u64::MAX) -> RowId {
            id(&key, kind, &subkey, seq)
        }
    }

    fn withins() -> impl Strategy<Value = Within> {
        prop_oneof![
            Just(Within::Keyspace),
            texts().prop_map(Within::KeyPrefix),
            texts().prop_map(Within::Key),
            (texts(), kinds()).prop_map(|(key, kind)| Within::Kind(key, kind)),
            (texts(), kinds(), texts())
                .prop_map(|(key, kind, prefix)| Within::SubkeyPrefix(key, kind, prefix)),
            (texts(), kinds(), texts()).prop_map(|(key, kind, subkey)| Within::Group(key, kind, subkey)),
        ]
    }

    fn afters() -> impl Strategy<Value = Option<After>> {
        prop_oneof![
            Just(None),
            texts().prop_map(|key| Some(After::Key(key))),
            (texts(), kinds(), texts()).prop_map(|(key, kind, subkey)| Some(After::From(key, kind, subkey))),
            (texts(), kinds(), texts()).prop_map(|(key, kind, subkey)| Some(After::Group(key, kind, subkey))),
        ]
    }

    proptest! {
        #[test]
        fn order_of_keys_is_the_order_of_rows(a in rows(), b in rows(), author in 0..u32::MAX) {
            let by_row = (&a.key, a.kind, &a.subkey, a.dot.seq).cmp(&(&b.key, b.kind, &b.subkey, b.dot.seq));
            prop_assert_eq!(row(7, &a, author).cmp(&row(7, &b, author)), by_row);
        }

        #[test]
        fn key_is_read_back(a in rows(), keyspace: u32, author: u32) {
            let read = read_row(&row(keyspace, &a, author)).expect("it is a row's key");
            let expected = InternedRow {
                keyspace, key: a.key, kind: a.kind, subkey: a.subkey, author, seq: a.dot.seq,
            };
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn bounds_hold_exactly_the_rows_of_the_range(a in rows(), within in withins(), after in afters()) {
            let range = RowRange { within, after };
            let (first, end) = row_bounds(7, &range);
            let key = row(7, &a, 3);
            let first_row = range.first();
            let is_behind_first =
                (&a.key, a.kind, &a.subkey) >= (&first_row.key, first_row.kind, &first_row.subkey);
            prop_assert_eq!(first <= key && key < end, is_behind_first && range.contains(&a));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(read) = read_row(&bytes) {
                let InternedRow { keyspace, key, kind, subkey, author, seq } = read;
                prop_assert_eq!(row(keyspace, &id(&key, kind, &subkey, seq), author), bytes);
            }
        }
    }

    #[test]
    fn keys_have_golden_bytes() {
        let golden = [4, 1, b'k', 0, 0xff, 0, 3, b'e', 0, 2, 249, 1, 0];
        assert_eq!(row(1, &id(b"k\0", Kind::Set, b"e", 256), 2), golden);
        assert_eq!(
            row(300, &id(b"", Kind::Register, b"", 247), 248),
            [4, 249, 1, 44, 0, 1, 0, 248, 248, 247]
        );
        let place = Place { score: Score::ZERO, member: b"m\0".to_vec() };
        let milestone = Milestone::new(2, place);
        let golden = [6, 1, b'k', 0, 62, 0x80, 0, 0, 0, 0, 0, 0, 0, b'm', 0];
        assert_eq!(order(1, b"k", &milestone), golden);
        assert_eq!(read_order(&golden), Some((1, b"k".to_vec(), milestone)));
        assert_eq!((order_value(2, 300), order_value(0, 1)), (vec![249, 1, 44], Vec::new()));
        assert_eq!(members(1, b"k", Kind::Map), [3, 1, b'k', 0, 4]);
        assert_eq!(read_members(&members(1, b"k", Kind::Map)), Some((1, b"k".to_vec(), Kind::Map)));
        assert_eq!(heads_of(1, 250), [2, 1, 248, 250]);
        assert_eq!(read_heads_block(&heads_of(1, 250)), Some((1, 250)));
        assert_eq!(state(1), [1, 1]);
        assert_eq!(read_state_keyspace(&state(300)), Some(300));
        assert_eq!(position(), [0]);
    }

    /// The goal is 24 bytes; redb's leaf adds two offsets of 4 bytes to each entry.
    #[test]
    fn set_element_costs_at_most_24_bytes_beyond_key_and_element() {
        let (key, element) = (b"a-set-of-many", b"element-number-1");
        let entry = row(1, &id(key, Kind::Set, element, 1_000_000), 5);
        let value = crate::schema::seal(&entry, Vec::new());
        let ours = entry.len() + value.len() - key.len() - element.len();
        println!("metadata per set element: {ours} bytes of ours, {} with redb's offsets", ours + 8);
        assert!(ours + 8 <= 24);
    }
}
