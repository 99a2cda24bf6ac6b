//! `log.redb`: the frames in commit order, who made them, and an index from dots to places.
//!
//! What is read is compared with what it was asked for (the heads say what must be there, a frame's header
//! says which operations it holds), so a hole in the file shows as damage and never as an absence.

mod buffered;
mod write;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::{Arc, Mutex};

use tidelock_engine::causality::{Dot, Heads, Hlc, VersionVector};
use tidelock_engine::frame::FrameHeader;
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName};
use tidelock_engine::ports::{
    LogEnd, LogEntry, LogPosition, LogRecord, LoggedFrame, MODE_BYTES_MAX, ReadError,
};

use self::buffered::Buffered;
pub(crate) use self::write::{Entry, LogWrite, NewRecord, become_strong, cards_entry, sealed};
use crate::backend::WriteGuard;
use crate::blocks::{read_cards, read_floors};
use crate::database::{Entries, File, Opening, reading};
use crate::mark::Reached;
use crate::names::Names;
use crate::open::OpenError;
use crate::schema::{
    EXPIRY_KEY, LOG_FILE, LOG_FORMAT, LOG_FORMAT_STRONG, META_CARD, META_CLUSTER, META_FORMAT, MODE_PREFIX,
    card_value, cards_key, index_key, keyspace_key, log_tag, read_card, read_cluster, read_floors_key,
    read_mode_key, read_record, read_settings, read_settings_key, read_u64, record_key, unseal,
};

/// Where the records are.
const RECORDS: Range<&[u8]> = &[log_tag::RECORD]..&[log_tag::RECORD + 1];

/// The log of a store.
#[derive(Debug)]
pub(crate) struct LogFile {
    /// Read it by [`LogFile::entries`], or behind [`LogFile::write_out`]: it may lack what is buffered.
    pub(crate) file: File,
    guard: Arc<WriteGuard>,
    buffered: Mutex<Buffered>,
}

impl LogFile {
    pub(crate) fn create(
        opening: &Opening<'_>,
        cluster: ClusterId,
        card: &AuthorCard,
    ) -> Result<(), OpenError> {
        opening.create(&[
            (META_FORMAT, &LOG_FORMAT.to_be_bytes()),
            (META_CLUSTER, cluster.as_bytes()),
            (META_CARD, &card_value(card)),
        ])
    }

    pub(crate) fn open(opening: &Opening<'_>) -> Result<Self, OpenError> {
        Ok(Self::new(opening.open(LOG_FORMAT..=LOG_FORMAT_STRONG)?, &opening.guard))
    }

    pub(crate) fn new(file: File, guard: &Arc<WriteGuard>) -> Self {
        Self { file, guard: Arc::clone(guard), buffered: Mutex::default() }
    }

    /// The cluster and the store's own card.
    pub(crate) fn identity(&self) -> Result<(ClusterId, AuthorCard), ReadError> {
        let cluster = self.file.meta(META_CLUSTER)?.and_then(|bytes| read_cluster(&bytes));
        let card = self.file.meta(META_CARD)?.and_then(|bytes| read_card(&bytes));
        cluster.zip(card).ok_or_else(|| damaged("it does not say whose it is"))
    }

    /// All names, in the order in which they were given their numbers. The store's own card is in `meta`,
    /// written with the file itself, and is number 0 if there is no other.
    pub(crate) fn names(&self, cluster: ClusterId, own: AuthorCard) -> Result<Names, ReadError> {
        let entries = self.entries()?;
        let mut names = Names::new(cluster);
        visit(&entries, &[log_tag::CARD], &[log_tag::CARD + 1], |key, value| {
            let is_next = names.next_block().map(cards_key).as_deref() == Some(key);
            let cards = read_cards(value).filter(|_| is_next).ok_or_else(|| damaged("some authors"))?;
            let is_new = cards.into_iter().all(|card| names.add_author(card).is_some());
            if is_new { Ok(()) } else { Err(damaged("an author")) }
        })?;
        if names.counts().0 == 0 {
            names.add_author(own);
        }
        if names.author(own.replica()).is_none() {
            return Err(damaged("it does not name itself among the authors"));
        }
        visit(&entries, &[log_tag::KEYSPACE], &[log_tag::KEYSPACE + 1], |key, value| {
            if let Some(number) = read_settings_key(key) {
                let is_named = names.keyspaces().len() > number as usize;
                let remembered = read_settings(value).filter(|_| is_named);
                names.remember(number, remembered.ok_or_else(|| damaged("the settings of a keyspace"))?);
                return Ok(());
            }
            let name = String::from_utf8(value.to_vec()).ok().and_then(|name| name.try_into().ok());
            let number = name.and_then(|name| names.add_keyspace(name));
            if number.map(keyspace_key).as_deref() == Some(key) {
                Ok(())
            } else {
                Err(damaged("a keyspace's name"))
            }
        })?;
        Ok(names)
    }

    /// What the engine remembers of the modes of keyspaces.
    pub(crate) fn modes(&self) -> Result<BTreeMap<KeyspaceName, Vec<u8>>, ReadError> {
        let [tag, kind] = MODE_PREFIX;
        let mut modes = BTreeMap::new();
        visit(&self.entries()?, &[tag, kind], &[tag, kind + 1], |key, value| {
            let name = read_mode_key(key).filter(|_| value.len() <= MODE_BYTES_MAX);
            modes.insert(name.ok_or_else(|| damaged("the mode of a keyspace"))?, value.to_vec());
            Ok(())
        })?;
        Ok(modes)
    }

    /// How far it goes, as `log.mark` counts it.
    pub(crate) fn reached(&self) -> Result<Reached, ReadError> {
        Ok(Reached { position: self.end()?.0.position, raft_commits: self.raft_bounds()?.commits })
    }

    /// The floors of all authors that have one, in keyspaces that are held.
    pub(crate) fn floors(&self, names: &Names) -> Result<BTreeMap<KeyspaceId, VersionVector>, ReadError> {
        let mut floors: BTreeMap<KeyspaceId, VersionVector> = BTreeMap::new();
        visit(&self.entries()?, &[log_tag::FLOOR], &[log_tag::FLOOR + 1], |key, value| {
            let place = read_floors_key(key).and_then(|(number, block)| {
                let (keyspace, _) = names.keyspaces().get(usize::try_from(number).ok()?)?;
                Some((number, *keyspace, names.block(block)))
            });
            let (number, keyspace, authors) =
                place.ok_or_else(|| damaged("floors of an unknown keyspace"))?;
            let seqs = read_floors(value).filter(|seqs| seqs.len() <= authors.len());
            let seqs = seqs.ok_or_else(|| damaged("the floors of some authors"))?;
            if names.is_held(number) {
                let floor = floors.entry(keyspace).or_default();
                for ((author, _), seq) in authors.iter().zip(seqs).filter(|(_, seq)| *seq > 0) {
                    floor.raise(Dot::new(*author, seq));
                }
            }
            Ok(())
        })?;
        Ok(floors)
    }

    /// The position of the first record that is held; 1 if there is none.
    pub(crate) fn first(&self) -> Result<LogPosition, ReadError> {
        let entries = self.entries()?;
        let first = reading(LOG_FILE, || {
            let mut range = entries.range::<&[u8]>(RECORDS)?;
            let first = range.next().transpose()?;
            Ok::<_, redb::Error>(first.map(|(key, _)| key.value().get(1..).and_then(read_u64)))
        })?;
        first.map_or(Ok(LogPosition(1)), |first| {
            first.map(LogPosition).ok_or_else(|| damaged("the place of a record"))
        })
    }

    /// Where the log ends, and the highest clock.
    pub(crate) fn end(&self) -> Result<(LogEnd, Hlc), ReadError> {
        let entries = self.entries()?;
        let clock = get(&entries, &[log_tag::CLOCK])?.and_then(|bytes| read_u64(&bytes)).unwrap_or(0);
        let last = reading(LOG_FILE, || {
            let mut range = entries.range::<&[u8]>(RECORDS)?;
            range
                .next_back()
                .transpose()
                .map(|last| last.map(|(key, value)| decode_record(key.value(), value.value())))
        })?;
        match last {
            None => Ok((LogEnd::default(), Hlc::from_bits(clock))),
            Some(record) => {
                let LogRecord { position, total_bytes, clock: of_record, .. } = record?;
                Ok((LogEnd { position, total_bytes }, of_record.max(Hlc::from_bits(clock))))
            }
        }
    }

    /// What has a deadline up to this moment has expired.
    pub(crate) fn expiry(&self) -> Result<Hlc, ReadError> {
        let bits = get(&self.entries()?, &EXPIRY_KEY)?.and_then(|bytes| read_u64(&bytes));
        Ok(Hlc::from_bits(bits.unwrap_or(0)))
    }

    /// The bytes of all records before `first`, the first one that is held.
    pub(crate) fn bytes_before(&self, first: LogPosition) -> Result<u64, ReadError> {
        let Some(value) = get(&self.entries()?, &record_key(first.0))? else { return Ok(0) };
        let record = read_record(first, &value).ok_or_else(|| damaged("a record does not decode"))?;
        Ok(record.total_bytes - (record.bytes().len() as u64).min(record.total_bytes))
    }

    /// The first records of a range of positions: at least one, and no more once they have so many bytes.
    pub(crate) fn records(
        &self,
        positions: RangeInclusive<u64>,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        self.visit_records(positions, &mut |record| {
            bytes += record.bytes().len();
            records.push(record);
            Ok(if bytes < bytes_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(records)
    }

    /// Visits the records of a range of positions, until told to stop.
    pub(crate) fn visit_records(
        &self,
        positions: RangeInclusive<u64>,
        visit: &mut dyn FnMut(LogRecord) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        if positions.is_empty() {
            return Ok(());
        }
        let entries = self.entries()?;
        let (first, last) = (record_key(*positions.start()), record_key(*positions.end()));
        let mut range = reading(LOG_FILE, || entries.range::<&[u8]>(&first[..]..=&last[..]))?;
        for position in positions {
            let record = reading(LOG_FILE, || {
                let next = range.next().transpose()?;
                Ok::<_, redb::StorageError>(
                    next.map(|(key, value)| decode_record(key.value(), value.value())),
                )
            })?;
            let record = record.transpose()?.filter(|record| record.position.0 == position);
            if visit(record.ok_or_else(|| damaged("a record is missing"))?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The number of entries of the index, of keyspaces that are held.
    pub(crate) fn index_len(&self, names: &Names) -> Result<u64, ReadError> {
        let mut count = 0;
        visit(&self.entries()?, &[log_tag::INDEX], &[log_tag::INDEX + 1], |key, _| {
            let number = key.get(1..5).and_then(|number| number.try_into().ok()).map(u32::from_be_bytes);
            count += u64::from(number.is_some_and(|number| names.is_held(number)));
            Ok(())
        })?;
        Ok(count)
    }
}

/// What of the log a reader may see, and what must be there.
#[derive(Debug)]
pub(crate) struct LogScope<'a> {
    pub(crate) log: &'a LogFile,
    pub(crate) names: &'a Names,
    pub(crate) keyspace: KeyspaceId,
    /// The heads of the keyspace.
    pub(crate) heads: &'a Heads,
    /// What may be missing.
    pub(crate) floor: &'a VersionVector,
    /// Later frames are not committed yet, or never will be.
    pub(crate) last: LogPosition,
}

impl LogScope<'_> {
    /// The frame that holds `dot`, if the heads cover it and it is above the floor.
    pub(crate) fn frame_with(&self, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        if dot.seq <= self.floor.get(dot.replica) || !self.heads.covers(dot) {
            return Ok(None);
        }
        let entries = self.log.entries()?;
        let mut of_author = self.index(&entries, dot)?;
        of_author.next(&entries)
    }

    /// The frames that somebody lacks who has each author up to the given seq, merged by position.
    pub(crate) fn missing(&self, after: &[Dot], bytes_max: usize) -> Result<Vec<LoggedFrame>, ReadError> {
        let entries = self.log.entries()?;
        let mut authors = Vec::new();
        let mut heap = BinaryHeap::new();
        let is_held =
            |dot: &&Dot| (self.floor.get(dot.replica)..self.heads.seq(dot.replica)).contains(&dot.seq);
        for dot in after.iter().filter(is_held) {
            let mut of_author = self.index(&entries, Dot::new(dot.replica, dot.seq + 1))?;
            if let Some(position) = of_author.next_position()? {
                heap.push(Reverse((position, authors.len())));
                authors.push(of_author);
            }
        }
        let mut frames: Vec<LoggedFrame> = Vec::new();
        let mut bytes = 0;
        while let Some(Reverse((_, author))) = heap.pop() {
            let of_author = &mut authors[author];
            let Some(frame) = of_author.next(&entries)? else { break };
            if !frames.is_empty() && bytes + frame.bytes.len() > bytes_max {
                break;
            }
            bytes += frame.bytes.len();
            frames.push(frame);
            if let Some(position) = of_author.next_position()? {
                heap.push(Reverse((position, author)));
            }
        }
        Ok(frames)
    }

    /// The frames of an author from the one that holds `first`, as far as the heads go.
    fn index(&self, entries: &Entries, first: Dot) -> Result<AuthorFrames<'_>, ReadError> {
        let number = |found: Option<u32>| found.ok_or_else(|| damaged("a head has no name"));
        let keyspace = number(self.names.keyspace(self.keyspace))?;
        let author = number(self.names.author(first.replica))?;
        let from = index_key(keyspace, author, first.seq);
        let to = index_key(keyspace, author, self.heads.seq(first.replica));
        let range = reading(LOG_FILE, || entries.range::<&[u8]>(&from[..]..=&to[..]))?;
        Ok(AuthorFrames { scope: self, range, next: None, dot: first })
    }
}

/// The frames of one author in order, read lazily.
struct AuthorFrames<'a> {
    scope: &'a LogScope<'a>,
    range: redb::Range<'static, &'static [u8], &'static [u8]>,
    next: Option<u64>,
    /// The operation that the next frame must hold.
    dot: Dot,
}

impl AuthorFrames<'_> {
    /// Where the next frame is; `None` behind the author's head.
    fn next_position(&mut self) -> Result<Option<u64>, ReadError> {
        if self.next.is_none() && self.scope.heads.covers(self.dot) {
            let position = reading(LOG_FILE, || {
                let item = self.range.next().transpose()?;
                Ok::<_, redb::Error>(
                    item.and_then(|(key, value)| read_u64(unseal(key.value(), value.value())?)),
                )
            })?;
            // The heads cover more, so an index that ends here has a hole.
            let position = position.ok_or_else(|| damaged("the index of frames has a hole"))?;
            self.next = Some(position);
        }
        Ok(self.next)
    }

    fn next(&mut self, entries: &Entries) -> Result<Option<LoggedFrame>, ReadError> {
        let Some(position) = self.next_position()? else { return Ok(None) };
        let key = record_key(position);
        let value = get(entries, &key)?.ok_or_else(|| damaged("a frame is missing"))?;
        let position = LogPosition(position);
        let Some(LogRecord { entry: LogEntry::Frame(bytes), .. }) = read_record(position, &value) else {
            return Err(damaged("the index of frames names what is none"));
        };
        let header = header(&bytes)?;
        let is_it = header.keyspace == self.scope.keyspace
            && header.author == self.dot.replica
            && (header.first..=header.last()).contains(&self.dot.seq)
            && position <= self.scope.last;
        if !is_it {
            return Err(damaged("the index of frames names a wrong one"));
        }
        self.next = None;
        self.dot = Dot::new(header.author, header.last() + 1);
        Ok(Some(LoggedFrame { position, bytes }))
    }
}

/// The header of a frame in the log, without decoding its operations.
pub(crate) fn header(frame: &[u8]) -> Result<FrameHeader, ReadError> {
    let header: Option<FrameHeader> = postcard::take_from_bytes(frame).ok().map(|(header, _)| header);
    header.filter(FrameHeader::has_seqs).ok_or_else(|| damaged("a frame does not decode"))
}

pub(crate) fn decode_record(key: &[u8], sealed: &[u8]) -> Result<LogRecord, ReadError> {
    let value = unseal(key, sealed).ok_or_else(|| damaged("the checksum of a record is wrong"))?;
    let position = key.get(1..).and_then(read_u64).ok_or_else(|| damaged("the place of a record"))?;
    read_record(LogPosition(position), value).ok_or_else(|| damaged("a record does not decode"))
}

/// Where the index says that the frame is that ends at a seq.
pub(crate) fn indexed(
    entries: &Entries,
    (keyspace, author, last): (u32, u32, u64),
) -> Result<Option<LogPosition>, ReadError> {
    let position = get(entries, &index_key(keyspace, author, last))?;
    Ok(position.and_then(|bytes| read_u64(&bytes)).map(LogPosition))
}

/// The value of an entry without its checksum.
pub(crate) fn get(entries: &Entries, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
    let found = reading(LOG_FILE, || {
        Ok::<_, redb::Error>(entries.get(key)?.map(|value| unseal(key, value.value()).map(<[u8]>::to_vec)))
    })?;
    found.map(|value| value.ok_or_else(|| damaged("a checksum is wrong"))).transpose()
}

pub(crate) fn visit(
    entries: &Entries,
    first: &[u8],
    end: &[u8],
    mut found: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut range = reading(LOG_FILE, || entries.range::<&[u8]>(first..end))?;
    let mut next = || {
        reading(LOG_FILE, || {
            let item = range.next().transpose()?;
            Ok::<_, redb::Error>(item.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        })
    };
    while let Some((key, sealed)) = next()? {
        found(&key, unseal(&key, &sealed).ok_or_else(|| damaged("a checksum is wrong"))?)?;
    }
    Ok(())
}

pub(crate) fn damaged(what: &str) -> ReadError {
    ReadError::Damaged { file: LOG_FILE, what: what.to_owned() }
}
