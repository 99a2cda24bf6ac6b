//! Blocks of authors: what is kept of authors that follow each other in one entry, as `schema` says.
//!
//! What is kept of an author who wrote once shares its key and its checksum with that of others. A block is written
//! whole, so it is small where it changes often.

use std::ops::RangeInclusive;

use tidelock_engine::causality::Head;
use tidelock_engine::id::{AuthorCard, FrameId};

use crate::key::{push_number, read_heads_block, read_number};
use crate::schema::{card_value, read_card};

/// The authors whose cards, and whose floors in a keyspace, are one entry.
pub(crate) const AUTHORS_PER_BLOCK: u32 = 16;

/// The authors whose heads in a keyspace are one entry.
pub(crate) const HEADS_PER_BLOCK: u32 = 4;

/// The bytes of a card.
const CARD_BYTES: usize = 48;

/// The block that an author's card and floors are in.
pub(crate) fn block_of(author: u32) -> u32 {
    author / AUTHORS_PER_BLOCK
}

/// The block that an author's heads are in.
pub(crate) fn heads_block_of(author: u32) -> u32 {
    author / HEADS_PER_BLOCK
}

/// The authors whose heads are in a block, if there is such a one.
pub(crate) fn authors_of_heads(block: u32) -> Option<RangeInclusive<u32>> {
    let first = block.checked_mul(HEADS_PER_BLOCK)?;
    Some(first..=first + (HEADS_PER_BLOCK - 1))
}

pub(crate) fn cards_value<'a>(cards: impl IntoIterator<Item = &'a AuthorCard>) -> Vec<u8> {
    cards.into_iter().flat_map(card_value).collect()
}

/// The cards of a block of authors, of which there is at least one.
pub(crate) fn read_cards(value: &[u8]) -> Option<Vec<AuthorCard>> {
    let is_block = (1..=AUTHORS_PER_BLOCK as usize * CARD_BYTES).contains(&value.len());
    is_block.then(|| value.chunks(CARD_BYTES).map(read_card).collect())?
}

/// The floors of the first authors of a block; who comes behind the last one that is not 0 has none.
pub(crate) fn floors_value(floors: &[u64]) -> Vec<u8> {
    let count = floors.iter().rposition(|floor| *floor != 0).map_or(0, |last| last + 1);
    let mut value = Vec::with_capacity(count);
    floors[..count].iter().for_each(|floor| push_number(&mut value, *floor));
    value
}

pub(crate) fn read_floors(mut value: &[u8]) -> Option<Vec<u64>> {
    let mut floors = Vec::with_capacity(AUTHORS_PER_BLOCK as usize);
    while !value.is_empty() && floors.len() < AUTHORS_PER_BLOCK as usize {
        let (floor, rest) = read_number(value)?;
        floors.push(floor);
        value = rest;
    }
    (value.is_empty() && floors.last() != Some(&0)).then_some(floors)
}

/// Heads of one block, in order of the numbers of their authors.
pub(crate) fn heads_value(heads: &[(u32, Head)]) -> Vec<u8> {
    let mut value = Vec::with_capacity(heads.len() * size_of::<Head>());
    let mut next = 0;
    for (author, head) in heads {
        let place = author % HEADS_PER_BLOCK;
        value.resize(value.len() + (place - next) as usize, 0);
        push_number(&mut value, head.seq);
        value.extend_from_slice(head.frame.as_bytes());
        next = place + 1;
    }
    value
}

/// The keyspace of a block of heads, and these, of which there is at least one, with the numbers of their authors.
pub(crate) fn read_heads(key: &[u8], value: &[u8]) -> Option<(u32, Vec<(u32, Head)>)> {
    let (keyspace, block) = read_heads_block(key)?;
    let (mut heads, mut rest) = (Vec::with_capacity(HEADS_PER_BLOCK as usize), value);
    for author in authors_of_heads(block)? {
        if rest.is_empty() {
            break;
        }
        let seq;
        (seq, rest) = read_number(rest)?;
        if seq > 0 {
            let frame;
            (frame, rest) = rest.split_first_chunk()?;
            heads.push((author, Head { seq, frame: FrameId::from_bytes(*frame) }));
        }
    }
    let is_whole = !heads.is_empty() && heads_value(&heads) == value;
    is_whole.then_some((keyspace, heads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::heads_of;

    #[test]
    fn blocks_of_authors_have_golden_bytes() {
        const COUNT: usize = AUTHORS_PER_BLOCK as usize;
        assert_eq!([0, 15, 16, 31, 32].map(block_of), [0, 0, 1, 1, 2]);
        let [first, second] = [1, 3].map(|byte| AuthorCard { public_key: [byte; 32], nonce: [byte + 1; 16] });
        let golden = [&[1; 32][..], &[2; 16], &[3; 32], &[4; 16]].concat();
        assert_eq!(cards_value([&first, &second]), golden);
        assert_eq!(read_cards(&golden), Some(vec![first, second]));
        assert_eq!(read_cards(&[0; 48 * COUNT]).map(|cards| cards.len()), Some(COUNT));
        assert_eq!(read_cards(&[0; 48 * (COUNT + 1)]), None);
        assert_eq!((read_cards(&[]), read_cards(&golden[..95])), (None, None));

        assert_eq!(floors_value(&[0, 247, 0, 258, 0, 0]), [0, 247, 0, 249, 1, 2]);
        assert_eq!(read_floors(&[0, 247, 0, 249, 1, 2]), Some(vec![0, 247, 0, 258]));
        assert_eq!(read_floors(&[1; COUNT]), Some(vec![1; COUNT]));
        assert_eq!(read_floors(&[1; COUNT + 1]), None);
        assert_eq!((floors_value(&[0; 3]), read_floors(&[])), (vec![], Some(vec![])));
        assert_eq!((read_floors(&[1, 0]), read_floors(&[249, 1])), (None, None));
    }

    #[test]
    fn blocks_of_heads_have_golden_bytes() {
        assert_eq!([0, 3, 4, 7, 8].map(heads_block_of), [0, 0, 1, 1, 2]);
        assert_eq!(authors_of_heads(u32::MAX / 4), Some(u32::MAX - 3..=u32::MAX));
        let head = |seq, byte| Head { seq, frame: FrameId::from_bytes([byte; 32]) };
        let heads = vec![(9, head(258, 7)), (11, head(1, 8))];
        let (key, golden) = (heads_of(3, 2), [&[0, 249, 1, 2][..], &[7; 32], &[0, 1], &[8; 32]].concat());
        assert_eq!((&key, heads_value(&heads)), (&vec![2, 3, 2], golden.clone()));
        assert_eq!(read_heads(&key, &golden), Some((3, heads)));
        let full = [[1; 33]; 4].concat();
        assert_eq!(read_heads(&key, &full).map(|(_, heads)| heads.len()), Some(4));
        let too_many = [[1; 33]; 5].concat();
        let no_head_at_the_end = [&[1; 33][..], &[0]].concat();
        for wrong in [&[][..], &[0; 4], &golden[..68], &too_many, &no_head_at_the_end] {
            assert_eq!(read_heads(&key, wrong), None, "{wrong:?}");
        }
        assert_eq!(read_heads(&heads_of(3, u32::MAX / 4 + 1), &golden), None);
    }
}
