//! How a chunk of a document is measured, for the fuzz targets.
//!
//! Hidden from the documentation and no part of what this crate promises.

use super::chunk::{INFLATED_BYTES_MAX, OPS_MAX, measure};

/// The pieces of a chunk, each its end and whether it is a whole document, if it may be read; what it stands for was
/// found to be within its bounds.
pub fn measured(chunk: &[u8]) -> Option<Vec<(usize, bool)>> {
    let (pieces, size) = measure(chunk).ok()?;
    assert!(size.inflated <= INFLATED_BYTES_MAX && size.ops <= OPS_MAX, "{size:?}");
    let mut end = 0;
    for piece in &pieces {
        assert!(piece.range.start == end && piece.range.end > end, "{pieces:?}");
        end = piece.range.end;
    }
    assert_eq!(end, chunk.len(), "bytes that are in no piece");
    Some(pieces.into_iter().map(|piece| (piece.range.end, piece.is_document)).collect())
}
