//! Chunks of documents: they come from clients and peers, and are measured before automerge sees them.

use tidelock::automerge::transaction::Transactable;
use tidelock::automerge::{ActorId, AutoCommit, ObjType, ROOT};
use tidelock::document::probe::measured;

use crate::Verdict;
use crate::memory::Bound;

/// A byte can stand for a thousand when it is inflated, twice while the bytes grow; a column is inflated by itself and let
/// go of, at most 64 MiB.
pub const BOUND: Bound = Bound { base: 64 << 10, per_byte: 4 << 10, max: 200 << 20 };

/// The bytes of a chunk. What is measured is measured piece by piece too.
pub fn chunk(data: &[u8]) -> Verdict {
    let Some(pieces) = measure(data) else { return Verdict::Refused };
    let mut start = 0;
    for (end, is_document) in pieces {
        let piece = &data[start..end];
        assert_eq!(measure(piece), Some(vec![(piece.len(), is_document)]), "a piece is a chunk");
        assert_eq!(measure(&piece[..piece.len() - 1]), None, "a piece that is cut off");
        start = end;
    }
    Verdict::Decoded
}

fn measure(chunk: &[u8]) -> Option<Vec<(usize, bool)>> {
    BOUND.hold(chunk.len(), || measured(chunk))
}

/// Documents and changes, alone and behind each other, deflated and not.
pub fn corpus() -> Vec<Vec<u8>> {
    let mut document = AutoCommit::new().with_actor(ActorId::from(&b"fuzz"[..]));
    let text = document.put_object(ROOT, "text", ObjType::Text).expect("an edit");
    let mut inputs = Vec::new();
    for edit in 0..12_u64 {
        let before = document.get_heads();
        document.splice_text(&text, 0, 0, "some words ").expect("an edit");
        document.put(ROOT, format!("field {edit}"), edit % 2 == 0).expect("an edit");
        document.put(ROOT, "number", edit).expect("an edit");
        inputs.push(document.save_after(&before));
    }
    document.put(ROOT, "long", "a".repeat(2_000)).expect("an edit");
    let mut last = document.get_changes(&[]).pop().expect("there are many");
    inputs.push(last.bytes().into_owned());
    inputs.push(inputs.concat());
    inputs.extend([document.save(), document.save_nocompress()]);
    inputs.push([document.save(), inputs[0].clone()].concat());
    inputs
}
