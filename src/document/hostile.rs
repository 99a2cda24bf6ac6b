//! Chunks that somebody made to do harm: mutated ones whose checksum is right again, so that automerge reads them.
//!
//! Whatever comes of them comes of them alone: an error, or a document. Deterministic; a failure names its round.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT};
use sha2::{Digest, Sha256};
use tidelock_engine::causality::Dot;
use tidelock_engine::id::ReplicaId;

use super::chunk::{ChunkError, measure};
use super::loading::{Loaded, parse_saved};

/// The bytes of a piece before its kind: magic and checksum.
const PREFIX_BYTES: usize = 8;

fn replica() -> ReplicaId {
    ReplicaId::from_bytes([1; 16])
}

/// A document of all kinds of parts, by two authors.
fn document() -> AutoCommit {
    let mut one = AutoCommit::new();
    let list = one.put_object(ROOT, "list", ObjType::List).expect("an edit");
    let text = one.put_object(ROOT, "text", ObjType::Text).expect("an edit");
    one.splice_text(&text, 0, 0, "some text").expect("an edit");
    one.commit();
    let mut other = one.fork();
    for number in 0..20_u64 {
        one.insert(&list, 0, number).expect("an edit");
        other.put(ROOT, format!("field {number}"), number % 2 == 0).expect("an edit");
        other.splice_text(&text, 4, 1, "-").expect("an edit");
        one.commit();
        other.commit();
    }
    one.merge(&mut other).expect("a merge");
    one
}

/// Makes the checksum of the only piece right.
fn seal(piece: &mut [u8]) {
    let hash = Sha256::digest(&piece[PREFIX_BYTES..]);
    piece[4..PREFIX_BYTES].copy_from_slice(&hash[..4]);
}

/// Numbers that repeat: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("it is below")
    }
}

fn mutated(dice: &mut Dice, piece: &[u8]) -> Vec<u8> {
    let mut bytes = piece.to_vec();
    for _ in 0..=dice.below(3) {
        // The length stays, so that the piece is one.
        let place = PREFIX_BYTES + 3 + dice.below(bytes.len() - PREFIX_BYTES - 3);
        bytes[place] = match dice.below(4) {
            0 => 0xff,
            1 => 0,
            2 => bytes[place] ^ (1 << dice.below(8)),
            _ => bytes[dice.below(bytes.len())],
        };
    }
    seal(&mut bytes);
    bytes
}

#[test]
fn mutated_chunks_with_a_right_checksum_are_documents_or_errors() {
    let mut source = document();
    let whole = source.save_nocompress();
    let change = source.get_changes(&[]).pop().expect("many").raw_bytes().to_vec();
    let mut sealed = whole.clone();
    seal(&mut sealed);
    assert_eq!(sealed, whole, "the checksum is automerge's");
    let base = (Dot::new(replica(), 1), source.save());
    let mut dice = Dice(0x5eed);
    let (mut read, mut refused, mut panicked) = (0, 0, 0);
    for round in 0..1_500 {
        let chunk = mutated(&mut dice, if round % 2 == 0 { &whole } else { &change });
        match parse_saved(replica(), &chunk) {
            Ok(_) => read += 1,
            Err(ChunkError::Panicked(_)) => panicked += 1,
            Err(_) => refused += 1,
        }
        if round % 50 == 1 {
            // Beside a sound document it changes nothing that the sound one says, or adds to it.
            let loaded = Loaded::load(replica(), &vec![base.clone(), (Dot::new(replica(), 2), chunk)]);
            assert!(loaded.rows.contains_key(&base.0), "round {round}");
            assert!(loaded.visible().is_some(), "round {round}");
        }
    }
    println!("{read} read, {refused} refused, {panicked} panicked");
    assert!(refused > 500, "{refused}");
}

/// A deflated body that is larger than all of a document may be is refused by its first bytes.
#[test]
fn bomb_is_refused_before_automerge_sees_it() {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..65 {
        std::io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).expect("memory");
    }
    let body = encoder.finish().expect("memory");
    let mut piece = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 2];
    let mut length = body.len();
    while length >= 0x80 {
        piece.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    piece.push(u8::try_from(length).expect("seven bits"));
    piece.extend_from_slice(&body);
    assert_eq!(measure(&piece), Err(ChunkError::TooLarge));
}
