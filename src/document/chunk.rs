//! What a chunk of a document is: pieces in automerge's own storage format, one behind the other.
//!
//! A piece is a whole document or one change. The bytes come from clients and peers, so they are measured
//! before automerge sees them: a few bytes can stand for gigabytes (deflate) or for billions of operations
//! (run lengths), and running out of memory ends the process. What is measured too large is not read.
//!
//! Never interprets a change; it walks headers and columns only.
//! Source: "Automerge Binary Document Format", <https://automerge.org/automerge-binary-format-spec/>.

use std::io::Read;
use std::ops::Range;

use flate2::bufread::DeflateDecoder;
use thiserror::Error;

/// What the columns of one document may inflate to, in bytes.
pub(super) const INFLATED_BYTES_MAX: u64 = 64 << 20;

/// The operations that one document may hold, and its changes too.
pub(super) const OPS_MAX: u64 = 1 << 22;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const DOCUMENT: u8 = 0;
const CHANGE: u8 = 1;
const COMPRESSED_CHANGE: u8 = 2;

/// In the number of a column: that its bytes are deflated.
const DEFLATED: u64 = 8;

/// Why bytes are not a chunk that may be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkError {
    /// They do not keep to the format.
    #[error("not automerge's format: {0}")]
    Malformed(&'static str),
    /// They stand for more than a document may hold.
    #[error("more than {OPS_MAX} operations or {INFLATED_BYTES_MAX} inflated bytes")]
    TooLarge,
    /// automerge refuses them.
    #[error("automerge: {0}")]
    Refused(String),
    /// automerge panicked over them.
    #[error("automerge panicked: {0}")]
    Panicked(String),
}

/// One document or change within a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it is.
    pub(super) range: Range<usize>,
    /// Whether it is a whole document.
    pub(super) is_document: bool,
}

/// What a chunk, or a document, comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// The bytes of its columns, inflated.
    pub(super) inflated: u64,
    /// The operations, or the changes if these are more.
    pub(super) ops: u64,
}

impl Size {
    /// Both together, if that is not too large.
    pub(super) fn plus(self, other: Self) -> Result<Self, ChunkError> {
        let sum = Self {
            inflated: self.inflated.saturating_add(other.inflated),
            ops: self.ops.saturating_add(other.ops),
        };
        let is_bounded = sum.inflated <= INFLATED_BYTES_MAX && sum.ops <= OPS_MAX;
        if is_bounded { Ok(sum) } else { Err(ChunkError::TooLarge) }
    }
}

/// Finds the pieces of a chunk and what it stands for.
pub(super) fn measure(chunk: &[u8]) -> Result<(Vec<Piece>, Size), ChunkError> {
    let mut pieces = Vec::new();
    let mut size = Size::default();
    let mut rest = Bytes(chunk);
    while !rest.0.is_empty() {
        let start = chunk.len() - rest.0.len();
        let (kind, body) = header(&mut rest)?;
        size = size.plus(match kind {
            DOCUMENT => document(Bytes(body))?,
            CHANGE => change(Bytes(body))?,
            COMPRESSED_CHANGE => change(Bytes(&inflate(body)?))?,
            _ => return Err(ChunkError::Malformed("a piece that is neither document nor change")),
        })?;
        let range = start..chunk.len() - rest.0.len();
        pieces.push(Piece { range, is_document: kind == DOCUMENT });
    }
    if pieces.is_empty() { Err(ChunkError::Malformed("no bytes")) } else { Ok((pieces, size)) }
}

/// Magic bytes, checksum, kind, length and body. The checksum is automerge's to compare.
fn header<'a>(rest: &mut Bytes<'a>) -> Result<(u8, &'a [u8]), ChunkError> {
    if rest.take(4)? != MAGIC {
        return Err(ChunkError::Malformed("magic bytes"));
    }
    rest.take(4)?;
    let kind = rest.take(1)?[0];
    let length = rest.unsigned()?;
    Ok((kind, rest.take(length)?))
}

/// Actors, heads, change columns, operation columns, then their data. What follows is a list of indexes.
fn document(mut body: Bytes<'_>) -> Result<Size, ChunkError> {
    body.list(|body| body.prefixed().map(drop))?;
    body.list(|body| body.take(32).map(drop))?;
    let changes = columns(&mut body)?;
    let ops = columns(&mut body)?;
    let mut size = Size::default();
    for (column, length) in changes.into_iter().chain(ops) {
        let of_column = column_size(column, body.take(length)?)?;
        size.inflated = size.plus(of_column)?.inflated;
        size.ops = size.ops.max(of_column.ops);
    }
    Ok(size)
}

/// Dependencies, actor, numbers, message, other actors, operation columns, then their data.
fn change(mut body: Bytes<'_>) -> Result<Size, ChunkError> {
    let inflated = body.0.len() as u64;
    body.list(|body| body.take(32).map(drop))?;
    body.prefixed()?;
    body.unsigned()?;
    body.unsigned()?;
    body.signed()?;
    body.prefixed()?;
    body.list(|body| body.prefixed().map(drop))?;
    let mut size = Size { inflated, ops: 1 };
    for (column, length) in columns(&mut body)? {
        if column & DEFLATED != 0 {
            return Err(ChunkError::Malformed("a deflated column in a change"));
        }
        size.ops = size.ops.max(column_size(column, body.take(length)?)?.ops);
    }
    Ok(size)
}

/// The number and length of each column.
fn columns(body: &mut Bytes<'_>) -> Result<Vec<(u64, u64)>, ChunkError> {
    let mut columns = Vec::new();
    body.list(|body| {
        columns.push((body.unsigned()?, body.unsigned()?));
        Ok(())
    })?;
    Ok(columns)
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut inflated = Vec::new();
    let decoder = DeflateDecoder::new(bytes);
    let read = decoder.take(INFLATED_BYTES_MAX + 1).read_to_end(&mut inflated);
    match read {
        Err(_) => Err(ChunkError::Malformed("deflated bytes")),
        Ok(count) if count as u64 > INFLATED_BYTES_MAX => Err(ChunkError::TooLarge),
        Ok(_) => Ok(inflated),
    }
}

fn column_size(column: u64, data: &[u8]) -> Result<Size, ChunkError> {
    let inflated;
    let data = if column & DEFLATED == 0 {
        data
    } else {
        inflated = inflate(data)?;
        &inflated
    };
    let ops = match column & 7 {
        4 => booleans(Bytes(data))?,
        7 => 0,
        kind => run_lengths(kind, Bytes(data))?,
    };
    Size { inflated: data.len() as u64, ops }.plus(Size::default())
}

/// The rows of a run-length encoded column: a positive number and one value, a negative number and as many
/// values, or zero and a number of nulls. Values that count things of other columns count too.
fn run_lengths(kind: u64, mut data: Bytes<'_>) -> Result<u64, ChunkError> {
    let mut rows = 0_u64;
    while !data.0.is_empty() {
        let length = data.signed()?;
        let (values, times) = match length {
            0 => {
                rows = rows.saturating_add(data.unsigned()?);
                continue;
            }
            1.. => (1, length.unsigned_abs()),
            _ => (length.unsigned_abs(), 1),
        };
        rows = rows.saturating_add(length.unsigned_abs());
        for _ in 0..values {
            let counted = match kind {
                3 => data.signed().map(|_| 0)?,
                5 => data.prefixed().map(|_| 0)?,
                // The members of groups, which are rows of other columns.
                0 => data.unsigned()?,
                // The lengths of values, in the upper 60 bits: 16 bytes count as one operation.
                6 => data.unsigned()? >> 8,
                _ => data.unsigned().map(|_| 0)?,
            };
            rows = rows.saturating_add(counted.saturating_mul(times));
        }
        if rows > OPS_MAX {
            return Err(ChunkError::TooLarge);
        }
    }
    if rows > OPS_MAX { Err(ChunkError::TooLarge) } else { Ok(rows) }
}

/// The rows of a column of booleans: the lengths of runs that alternate.
fn booleans(mut data: Bytes<'_>) -> Result<u64, ChunkError> {
    let mut rows = 0_u64;
    while !data.0.is_empty() {
        rows = rows.saturating_add(data.unsigned()?);
    }
    if rows > OPS_MAX { Err(ChunkError::TooLarge) } else { Ok(rows) }
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], ChunkError> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.0.len());
        let (taken, rest) = self.0.split_at(count.ok_or(ChunkError::Malformed("too short"))?);
        self.0 = rest;
        Ok(taken)
    }

    /// A length and as many bytes.
    fn prefixed(&mut self) -> Result<&'a [u8], ChunkError> {
        let length = self.unsigned()?;
        self.take(length)
    }

    /// A number and as many things, each of a byte at least.
    fn list(&mut self, mut one: impl FnMut(&mut Self) -> Result<(), ChunkError>) -> Result<(), ChunkError> {
        let count = self.unsigned()?;
        if count > self.0.len() as u64 {
            return Err(ChunkError::Malformed("a list that is longer than its bytes"));
        }
        (0..count).try_for_each(|_| one(self))
    }

    fn unsigned(&mut self) -> Result<u64, ChunkError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ChunkError::Malformed("a number of more than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, ChunkError> {
        let mut value = 0_i64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let is_negative = byte & 0x40 != 0 && shift + 7 < 64;
                return Ok(if is_negative { value | (-1 << (shift + 7)) } else { value });
            }
        }
        Err(ChunkError::Malformed("a number of more than 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use automerge::transaction::Transactable;
    use automerge::{AutoCommit, ObjType, ROOT, ReadDoc};

    use super::*;

    fn document_of(edits: u64) -> AutoCommit {
        let mut document = AutoCommit::new();
        let text = document.put_object(ROOT, "text", ObjType::Text).expect("an edit");
        for edit in 0..edits {
            document.splice_text(&text, 0, 0, "word ").expect("an edit");
            document.put(ROOT, "number", edit).expect("an edit");
            document.put(ROOT, "is", edit % 3 == 0).expect("an edit");
            document.commit();
        }
        document
    }

    #[test]
    fn whole_documents_and_changes_are_measured_as_what_they_hold() {
        let mut document = document_of(300);
        let ops = document.stats().num_ops;
        for saved in [document.save(), document.save_nocompress()] {
            let (pieces, size) = measure(&saved).expect("automerge wrote it");
            assert_eq!(pieces, [Piece { range: 0..saved.len(), is_document: true }]);
            assert!((ops..2 * ops).contains(&size.ops), "{} of {ops}", size.ops);
        }
        let changes = document.save_after(&[]);
        let (pieces, size) = measure(&changes).expect("automerge wrote it");
        assert_eq!(pieces.len(), 300);
        assert!((ops..2 * ops).contains(&size.ops), "{} of {ops}", size.ops);
        assert!(pieces.iter().all(|piece| !piece.is_document));
        assert_eq!(pieces.last().expect("many").range.end, changes.len());
    }

    #[test]
    fn large_change_is_compressed_and_measured_inflated() {
        let mut document = AutoCommit::new();
        document.put(ROOT, "text", "a".repeat(100_000)).expect("an edit");
        let bytes = document.save_after(&[]);
        // `save_after` writes raw bytes; the compressed form is what `Change::bytes` gives.
        let mut change = document.get_changes(&[]).pop().expect("one change");
        let compressed = change.bytes().into_owned();
        assert!(compressed.len() < 1_000 && bytes.len() > 100_000);
        let (_, size) = measure(&compressed).expect("automerge wrote it");
        assert!(size.inflated > 100_000);
    }

    #[test]
    fn every_prefix_is_refused_and_none_panics() {
        let saved = document_of(5).save();
        for length in 0..saved.len() {
            assert!(measure(&saved[..length]).is_err(), "{length}");
        }
        for place in 0..saved.len() {
            for flip in [1, 0x40, 0x80, 0xff] {
                let mut bytes = saved.clone();
                bytes[place] ^= flip;
                // Most are refused; what is not, automerge compares with its checksum.
                let _ = measure(&bytes);
            }
        }
    }

    /// A document of one column: the header, no actors and heads, no change columns.
    fn column_of(column: u8, data: &[u8]) -> Vec<u8> {
        let length = u8::try_from(data.len()).expect("short");
        let body = [&[0, 0, 0, 1, column, length], data].concat();
        let length = u8::try_from(body.len()).expect("short");
        [&MAGIC[..], &[0; 4], &[DOCUMENT, length], &body].concat()
    }

    fn run(length: i64, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = length;
        loop {
            let byte = u8::try_from(rest & 0x7f).expect("seven bits");
            rest >>= 7;
            if rest == 0 && byte & 0x40 == 0 {
                bytes.push(byte);
                return [&bytes, value].concat();
            }
            bytes.push(byte | 0x80);
        }
    }

    #[test]
    fn run_lengths_are_bounded_at_the_bound_and_past_it() {
        let most = i64::try_from(OPS_MAX).expect("small");
        for column in [0x12, 0x13, 0x11] {
            assert_eq!(measure(&column_of(column, &run(most, &[1]))).map(|(_, size)| size.ops), Ok(OPS_MAX));
            assert_eq!(measure(&column_of(column, &run(most + 1, &[1]))), Err(ChunkError::TooLarge));
        }
        // Nulls, booleans, groups, lengths of values.
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(measure(&column_of(0x12, &[&[0], &huge[..]].concat())), Err(ChunkError::TooLarge));
        assert_eq!(measure(&column_of(0x14, &huge)), Err(ChunkError::TooLarge));
        assert_eq!(measure(&column_of(0x10, &[&[1], &huge[..]].concat())), Err(ChunkError::TooLarge));
        assert_eq!(measure(&column_of(0x16, &[&[1], &huge[..]].concat())), Err(ChunkError::TooLarge));
    }

    #[test]
    fn deflated_bytes_are_bounded_before_they_are_in_memory() {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..=INFLATED_BYTES_MAX >> 20 {
            std::io::Write::write_all(&mut encoder, &zeros).expect("memory");
        }
        let bomb = encoder.finish().expect("memory");
        assert!(bomb.len() < 100_000);
        assert_eq!(inflate(&bomb), Err(ChunkError::TooLarge));
    }
}
