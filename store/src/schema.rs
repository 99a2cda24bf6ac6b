//! What is in the files of a store: tables, keys, values, byte order. This is the one place that says so.
//!
//! Two of them are redb files with the same two tables: `meta` (text to bytes), which must be readable before
//! anything else is believed, and `entries` (bytes to bytes), whose keys begin with a tag, so that a commit
//! touches one tree. All numbers are big endian.
//!
//! Every value in `entries` ends with the CRC-32 (4 bytes) of its key and the value before it. redb does not
//! check its pages when it reads them; this does, and a value that fails is never served.
//!
//! `log.redb`, the commit point:
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `format` | version, u32 |
//! | meta | `cluster` | 32 bytes |
//! | meta | `card` | of the store itself: public key (32), nonce (16) |
//! | meta | `former` | the replica that the store was before, 16 bytes; absent if it was always the same |
//! | meta | `fork` | where the replica was found to have two histories: keyspace (16), seq u64; absent if it was not |
//! | meta | `file` | which file this was when it was last opened, as [`FileIdentity`]; absent where none can tell |
//! | entries | `0x00` | clock, u64: of the last batch that had no frames |
//! | entries | `0x00`, `0x01` | clock, u64: what has a deadline up to there has expired; absent if nothing ever had |
//! | entries | `0x00`, `0x02`, name of a keyspace | what the engine remembers of its mode, as it wrote it |
//! | entries | `0x01`, block u32 | the cards of the authors of a block, in order: each public key (32), nonce (16) |
//! | entries | `0x02`, keyspace u32 | name, UTF-8 |
//! | entries | `0x02`, keyspace u32, `0x01` | what is remembered of it, if anything: what is there of it u8 (0 all, 1 what is being dropped, 2 nothing); joined (1) or left (2) by choice, u8; 1 and its quota u64, or zeros; 1, how far the node wrote in it before it was left (replica (16), seq u64) and whether a peer had that u8, or zeros; what is done with decisions by choice, u8: refused (1) or decided here (2), absent if nothing was chosen |
//! | entries | `0x03`, keyspace u32, author u32, last seq u64 | position of the frame that ends there, u64 |
//! | entries | `0x04`, keyspace u32, block u32 | the floors of the authors of a block, in order, each a number, up to the last one that is not 0: up to there the author's frames may be missing |
//! | entries | `0x05`, position u64 | clock u64: the highest so far; total u64: the bytes of all records so far; kind u8: 0 for a frame as signed, 1 for state that was taken over, 2 for state that waits until all of it is there, 3 for what was dropped with its keyspace; then its bytes |
//!
//! | entries | `0x06`, group u64, `0x00` | of what there is of a Raft group, u64 each: the commits so far that changed any of it; the lowest index at which there may be an entry; the first index of the log; the one behind the last; the bytes of the keys and values of all this but of this entry itself |
//! | entries | `0x06`, group u64, `0x01` | the vote, as consensus wrote it |
//! | entries | `0x06`, group u64, `0x02` | what the last entry was that was purged, so |
//! | entries | `0x06`, group u64, `0x03` | up to where the log is applied, so; of the same commit as what that changed |
//! | entries | `0x06`, group u64, `0x04` | what the engine remembers of this store's membership, as it wrote it |
//! | entries | `0x06`, group u64, `0x05`, index u64 | an entry, as consensus wrote it |
//!
//! The version of `log.redb` is 2 until something of a Raft group or of a mode is written, and 3 from then on: a
//! tidelock that does not know these does not open it.
//!
//! `rows.redb`, which follows from the log:
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `format` | version, u32 |
//! | meta | `replica` | whose log it follows from, 16 bytes |
//! | meta | `live` | the bytes of all keys and values, u64, by which is known whether compacting pays; absent if nothing was written yet |
//! | entries | `0x00` | the log position that the rows stand at, u64 |
//! | entries | `0x01`, keyspace | fingerprint u128, keys that exist u64, whether state is being taken over u8, bytes of its rows as quotas count them u64 |
//! | entries | `0x02`, keyspace, block | the heads of the authors of a block, in order, up to the last who has one: each its seq, a number, and frame id (32); for who has none the number 0 alone |
//! | entries | `0x03`, keyspace, key, kind | members, u64 |
//! | entries | `0x04`, keyspace, key, kind, subkey, author, seq | the payload, as [`Payload::encode_into`] |
//! | entries | `0x05`, keyspace, Unix milliseconds u64, key, author, seq | nothing: the deadlines of the rows above, in order of time |
//! | entries | `0x06`, keyspace, key, 64 less the height u8, score (8), member to the end | the order of a sorted set: nothing for a member, whose height is 0; the members of a stretch, a number, above: see [`order`] |
//!
//! `log.mark`, which is no redb file: the position up to which `log.redb` was acknowledged, u64, and its CRC-32; and, if
//! there is a Raft group, the number of its commits that were, u64, and its CRC-32.
//!
//! Authors and keyspaces are numbers here, given by `log.redb` in the order of arrival; author 0 is the replica
//! that the store was made as, and no block of cards is written before there is another author. Authors that follow
//! each other are a block, so that what is kept of one who wrote once shares its key and its checksum with others. A
//! block is written whole: cards and floors seldom change and have blocks of sixteen, the first of them 0 to 15; a
//! head changes with every frame, so that blocks of heads are of four, the first of them 0 to 3. A keyspace's number
//! also stands for its generation, of which there is one. In keys of `rows.redb` numbers, keys and subkeys are written
//! as `key.rs` says, so that the order of the bytes is the order of rows; numbers in values without a width are
//! written so too. Interned numbers reach neither wire nor fingerprint.
//!
//! [`FileIdentity`]: crate::FileIdentity
//! [`order`]: tidelock_engine::order
//! [`Payload::encode_into`]: tidelock_engine::row::Payload::encode_into

use redb::TableDefinition;
use tidelock_engine::causality::Hlc;
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceName, ReplicaId};
use tidelock_engine::ports::{Choice, Conditional, LogEntry, LogPosition, LogRecord, Settings, Written};
use tidelock_engine::row::Fingerprint;

use crate::names::{Fate, Remembered};

/// The file that is the commit point.
pub const LOG_FILE: &str = "log.redb";

/// Up to where the log was on disk when somebody was last told so; see `mark.rs`.
pub const MARK_FILE: &str = "log.mark";

/// The file of the rows.
pub const ROWS_FILE: &str = "rows.redb";

/// Where a damaged `rows.redb` is moved; an earlier one is replaced.
pub const ROWS_FILE_ASIDE: &str = "rows.redb.damaged";

/// Written and removed again to see whether there is room on a disk that was full.
pub(crate) const ROOM_FILE: &str = "room.new";

/// The version of `log.redb` that this code makes.
pub const LOG_FORMAT: u32 = 2;

/// The version of one in which there is something of a Raft group, or of the mode of a keyspace.
pub const LOG_FORMAT_STRONG: u32 = 3;

/// The version of `rows.redb` that this code reads and writes.
pub const ROWS_FORMAT: u32 = 2;

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

pub(crate) const META_FORMAT: &str = "format";
pub(crate) const META_CLUSTER: &str = "cluster";
pub(crate) const META_CARD: &str = "card";
pub(crate) const META_REPLICA: &str = "replica";
pub(crate) const META_FORMER: &str = "former";
pub(crate) const META_FORK: &str = "fork";
pub(crate) const META_FILE: &str = "file";
pub(crate) const META_LIVE: &str = "live";

/// First bytes of the keys of `log.redb`. What is appended comes last, at the tree's edge.
pub(crate) mod log_tag {
    pub(crate) const CLOCK: u8 = 0;
    pub(crate) const CARD: u8 = 1;
    pub(crate) const KEYSPACE: u8 = 2;
    pub(crate) const INDEX: u8 = 3;
    pub(crate) const FLOOR: u8 = 4;
    pub(crate) const RECORD: u8 = 5;
    pub(crate) const RAFT: u8 = 6;
}

/// The key of the clock by which keys have expired.
pub(crate) const EXPIRY_KEY: [u8; 2] = [log_tag::CLOCK, 1];

/// What the keys of modes begin with; the name follows.
pub(crate) const MODE_PREFIX: [u8; 2] = [log_tag::CLOCK, 2];

/// First bytes of the keys of `rows.redb`.
pub(crate) mod rows_tag {
    pub(crate) const POSITION: u8 = 0;
    pub(crate) const STATE: u8 = 1;
    pub(crate) const HEAD: u8 = 2;
    pub(crate) const MEMBERS: u8 = 3;
    pub(crate) const ROW: u8 = 4;
    pub(crate) const DEADLINE: u8 = 5;
    pub(crate) const ORDER: u8 = 6;
}

/// The bytes of the checksum behind a value.
pub(crate) const CRC_BYTES: usize = 4;

/// Appends the checksum to a value.
pub(crate) fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let crc = crc(key, &value);
    value.extend_from_slice(&crc);
    value
}

/// The value without its checksum, if that is right.
pub(crate) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (value, stored) = sealed.split_last_chunk::<CRC_BYTES>()?;
    (crc(key, value) == *stored).then_some(value)
}

fn crc(key: &[u8], value: &[u8]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_be_bytes()
}

pub(crate) fn mode_key(name: &KeyspaceName) -> Vec<u8> {
    [&MODE_PREFIX[..], name.as_str().as_bytes()].concat()
}

/// The keyspace whose mode has this key.
pub(crate) fn read_mode_key(key: &[u8]) -> Option<KeyspaceName> {
    String::from_utf8(key.strip_prefix(&MODE_PREFIX)?.to_vec()).ok()?.try_into().ok()
}

pub(crate) fn cards_key(block: u32) -> Vec<u8> {
    [&[log_tag::CARD][..], &block.to_be_bytes()].concat()
}

pub(crate) fn keyspace_key(keyspace: u32) -> Vec<u8> {
    [&[log_tag::KEYSPACE][..], &keyspace.to_be_bytes()].concat()
}

pub(crate) fn settings_key(keyspace: u32) -> Vec<u8> {
    [&keyspace_key(keyspace)[..], &[1]].concat()
}

/// The keyspace whose settings have this key.
pub(crate) fn read_settings_key(key: &[u8]) -> Option<u32> {
    let number = key.strip_prefix(&[log_tag::KEYSPACE])?.strip_suffix(&[1])?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

pub(crate) fn settings_value(remembered: &Remembered) -> Vec<u8> {
    let Settings { choice, quota_bytes, conditional, written } = remembered.settings;
    let choice = match choice {
        None => 0,
        Some(Choice::Join) => 1,
        Some(Choice::Leave) => 2,
    };
    let mut value = vec![remembered.fate as u8, choice, u8::from(quota_bytes.is_some())];
    value.extend(quota_bytes.unwrap_or(0).to_be_bytes());
    value.push(u8::from(written.is_some()));
    let nothing = Written { replica: ReplicaId::from_bytes([0; 16]), seq: 0, is_held: false };
    let Written { replica, seq, is_held } = written.unwrap_or(nothing);
    value.extend(replica.as_bytes());
    value.extend(seq.to_be_bytes());
    value.push(u8::from(is_held));
    value.extend(conditional.map(|conditional| match conditional {
        Conditional::Strong => 1,
        Conditional::Local => 2,
    }));
    value
}

pub(crate) fn read_settings(value: &[u8]) -> Option<Remembered> {
    let [fate, choice, has_quota, rest @ ..] = value else { return None };
    let (quota, rest) = rest.split_first_chunk()?;
    let (has_written, rest) = rest.split_first()?;
    let (replica, rest) = rest.split_first_chunk::<16>()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (is_held, rest) = rest.split_first()?;
    let conditional = match rest {
        [] => None,
        [1] => Some(Conditional::Strong),
        [2] => Some(Conditional::Local),
        _ => return None,
    };
    let is = |byte: &u8| (*byte <= 1).then_some(*byte == 1);
    let fate = [Fate::Held, Fate::Dropping, Fate::Dropped].into_iter().find(|of| *of as u8 == *fate)?;
    let choice = match choice {
        0 => None,
        1 => Some(Choice::Join),
        2 => Some(Choice::Leave),
        _ => return None,
    };
    let written = Written {
        replica: ReplicaId::from_bytes(*replica),
        seq: u64::from_be_bytes(*seq),
        is_held: is(is_held)?,
    };
    let quota_bytes = is(has_quota)?.then_some(u64::from_be_bytes(*quota));
    let written = is(has_written)?.then_some(written);
    let settings = Settings { choice, quota_bytes, conditional, written };
    let remembered = Remembered { fate, settings };
    (settings_value(&remembered) == value).then_some(remembered)
}

pub(crate) fn index_key(keyspace: u32, author: u32, last: u64) -> Vec<u8> {
    [&[log_tag::INDEX][..], &keyspace.to_be_bytes(), &author.to_be_bytes(), &last.to_be_bytes()].concat()
}

pub(crate) fn floors_key(keyspace: u32, block: u32) -> Vec<u8> {
    [&[log_tag::FLOOR][..], &keyspace.to_be_bytes(), &block.to_be_bytes()].concat()
}

/// The keyspace and block of floors.
pub(crate) fn read_floors_key(key: &[u8]) -> Option<(u32, u32)> {
    let numbers: &[u8; 8] = key.strip_prefix(&[log_tag::FLOOR])?.try_into().ok()?;
    let (keyspace, block) = numbers.split_first_chunk()?;
    Some((u32::from_be_bytes(*keyspace), u32::from_be_bytes(block.try_into().ok()?)))
}

pub(crate) fn record_key(position: u64) -> Vec<u8> {
    [&[log_tag::RECORD][..], &position.to_be_bytes()].concat()
}

pub(crate) fn record_value(clock: Hlc, total_bytes: u64, entry: &LogEntry) -> Vec<u8> {
    let kind = match entry {
        LogEntry::Frame(_) => 0,
        LogEntry::Install(_) => 1,
        LogEntry::Staged(_) => 2,
        LogEntry::Dropped => 3,
    };
    [&clock.to_bits().to_be_bytes()[..], &total_bytes.to_be_bytes(), &[kind], entry.bytes()].concat()
}

/// The record at a position.
pub(crate) fn read_record(position: LogPosition, value: &[u8]) -> Option<LogRecord> {
    let (clock, value) = value.split_first_chunk()?;
    let (total, value) = value.split_first_chunk()?;
    let (kind, bytes) = value.split_first()?;
    let entry = match kind {
        0 => LogEntry::Frame(bytes.into()),
        1 => LogEntry::Install(bytes.into()),
        2 => LogEntry::Staged(bytes.into()),
        3 if bytes.is_empty() => LogEntry::Dropped,
        _ => return None,
    };
    let (clock, total_bytes) = (Hlc::from_bits(u64::from_be_bytes(*clock)), u64::from_be_bytes(*total));
    Some(LogRecord { position, clock, total_bytes, entry })
}

pub(crate) fn card_value(card: &AuthorCard) -> Vec<u8> {
    [&card.public_key[..], &card.nonce].concat()
}

pub(crate) fn read_card(bytes: &[u8]) -> Option<AuthorCard> {
    let (public_key, nonce) = bytes.split_first_chunk()?;
    Some(AuthorCard { public_key: *public_key, nonce: nonce.try_into().ok()? })
}

pub(crate) fn read_cluster(bytes: &[u8]) -> Option<ClusterId> {
    // Its encoding is its 32 bytes.
    postcard::from_bytes(bytes).ok().filter(|cluster: &ClusterId| cluster.as_bytes() == bytes)
}

/// What is kept of the rows of a keyspace beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpaceState {
    pub(crate) fingerprint: Fingerprint,
    /// The keys that exist.
    pub(crate) keys: u64,
    /// The bytes of its rows, as quotas count them.
    pub(crate) bytes: u64,
    /// Whether state is being taken over, and the rows are those of no version vector.
    pub(crate) is_partial: bool,
}

pub(crate) fn state_value(state: SpaceState) -> Vec<u8> {
    let SpaceState { fingerprint, keys, bytes, is_partial } = state;
    let fingerprint = fingerprint.to_bits().to_be_bytes();
    [&fingerprint[..], &keys.to_be_bytes(), &[u8::from(is_partial)], &bytes.to_be_bytes()].concat()
}

pub(crate) fn read_state(bytes: &[u8]) -> Option<SpaceState> {
    let (fingerprint, rest) = bytes.split_first_chunk()?;
    let (keys, rest) = rest.split_first_chunk()?;
    let (is_partial, rest) = match rest {
        [0, rest @ ..] => (false, rest),
        [1, rest @ ..] => (true, rest),
        _ => return None,
    };
    let fingerprint = Fingerprint::from_bits(u128::from_be_bytes(*fingerprint));
    Some(SpaceState { fingerprint, keys: u64::from_be_bytes(*keys), bytes: read_u64(rest)?, is_partial })
}

pub(crate) fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn log_keys_have_golden_bytes() {
        let name: KeyspaceName = "n".parse().expect("a valid name");
        assert_eq!(mode_key(&name), [0, 2, b'n']);
        assert_eq!(read_mode_key(&mode_key(&name)), Some(name));
        assert_eq!((read_mode_key(&[0, 2]), read_mode_key(&EXPIRY_KEY)), (None, None));
        assert_eq!(cards_key(2), [1, 0, 0, 0, 2]);
        assert_eq!(keyspace_key(3), [2, 0, 0, 0, 3]);
        assert_eq!(settings_key(3), [2, 0, 0, 0, 3, 1]);
        assert_eq!(read_settings_key(&settings_key(3)), Some(3));
        assert_eq!(read_settings_key(&keyspace_key(1)), None);
        assert_eq!(index_key(3, 2, 258), [3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(floors_key(3, 2), [4, 0, 0, 0, 3, 0, 0, 0, 2]);
        assert_eq!(read_floors_key(&floors_key(3, 2)), Some((3, 2)));
        assert_eq!(record_key(258), [5, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn values_have_golden_bytes() {
        let card = AuthorCard { public_key: [1; 32], nonce: [2; 16] };
        assert_eq!(card_value(&card), [&[1; 32][..], &[2; 16]].concat());
        assert_eq!(read_card(&card_value(&card)), Some(card));
        let cluster = ClusterId::named("c");
        assert_eq!(read_cluster(cluster.as_bytes()), Some(cluster));
        assert_eq!(read_cluster(&[0; 33]), None);
        let state =
            SpaceState { fingerprint: Fingerprint::from_bits(5), keys: 258, bytes: 259, is_partial: true };
        let value = state_value(state);
        let numbers = [&[0, 0, 0, 0, 0, 0, 1, 2, 1][..], &[0, 0, 0, 0, 0, 0, 1, 3]].concat();
        assert_eq!(value, [&[0; 15][..], &[5], &numbers].concat());
        assert_eq!(read_state(&value), Some(state));
        assert_eq!((read_state(&value[..25]), read_state(&value[..30])), (None, None));
        assert_eq!(read_state(&[&value[..24], &[2], &value[25..]].concat()), None);
        let bytes: Arc<[u8]> = [7, 8].into();
        let entries =
            [LogEntry::Frame(bytes.clone()), LogEntry::Install(bytes.clone()), LogEntry::Staged(bytes)];
        for (kind, entry) in (0..).zip(entries) {
            let value = record_value(Hlc::from_bits(258), 3, &entry);
            assert_eq!(value, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, kind, 7, 8]);
            let (position, clock) = (LogPosition(9), Hlc::from_bits(258));
            let record = LogRecord { position, clock, total_bytes: 3, entry };
            assert_eq!(read_record(position, &value), Some(record));
            assert_eq!(read_record(position, &value[..16]), None);
        }
        assert_eq!(seal(b"key", b"value".to_vec()), *b"value\xc6\x55\xf3\xe6");
    }

    #[test]
    fn settings_have_golden_bytes() {
        let written = Written { replica: ReplicaId::from_bytes([9; 16]), seq: 258, is_held: true };
        let settings = Settings {
            choice: Some(Choice::Leave),
            quota_bytes: Some(258),
            written: Some(written),
            conditional: None,
        };
        let remembered = Remembered { fate: Fate::Dropping, settings };
        let golden =
            [&[1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2, 1][..], &[9; 16], &[0, 0, 0, 0, 0, 0, 1, 2, 1]].concat();
        assert_eq!(settings_value(&remembered), golden);
        assert_eq!(read_settings(&golden), Some(remembered));
        assert_eq!(read_settings(&settings_value(&Remembered::default())), Some(Remembered::default()));
        for (place, byte) in [(0, 3), (1, 3), (2, 2), (11, 2), (36, 2)] {
            let mut wrong = golden.clone();
            wrong[place] = byte;
            assert_eq!(read_settings(&wrong), None, "{place}");
        }
        assert_eq!(read_settings(&golden[..36]), None);
        for (conditional, byte) in [(Conditional::Strong, 1), (Conditional::Local, 2)] {
            let settings = Settings { conditional: Some(conditional), ..settings };
            let remembered = Remembered { fate: Fate::Dropping, settings };
            let golden = [&golden[..], &[byte]].concat();
            assert_eq!(settings_value(&remembered), golden);
            assert_eq!(read_settings(&golden), Some(remembered));
        }
        assert_eq!(read_settings(&[&golden[..], &[3]].concat()), None);
        let dropped = record_value(Hlc::from_bits(258), 3, &LogEntry::Dropped);
        assert_eq!(dropped, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 3]);
        let record = read_record(LogPosition(9), &dropped).expect("it is one");
        assert_eq!((record.entry, record.total_bytes), (LogEntry::Dropped, 3));
        assert_eq!(read_record(LogPosition(9), &[&dropped[..], &[0]].concat()), None);
    }

    #[test]
    fn sealed_value_with_a_turned_bit_is_not_read() {
        let sealed = seal(b"key", b"value".to_vec());
        assert_eq!(unseal(b"key", &sealed), Some(&b"value"[..]));
        assert_eq!(unseal(b"kez", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut turned = sealed.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(b"key", &turned), None, "bit {bit}");
        }
    }
}
