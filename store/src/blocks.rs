//! Blocks of authors: what is kept of authors that follow each other in one entry, as `schema` says.
//!
//! What is kept of an author who wrote once shares its key and its checksum with that of others. A block is written
//! whole, so only what seldom changes is kept so.

use tidelock_engine::id::AuthorCard;

use crate::key::{push_number, read_number};
use crate::schema::{card_value, read_card};

/// The authors whose cards, and whose floors in a keyspace, are one entry.
pub(crate) const AUTHORS_PER_BLOCK: u32 = 16;

/// The bytes of a card.
const CARD_BYTES: usize = 48;

/// The block that an author is in.
pub(crate) fn block_of(author: u32) -> u32 {
    author / AUTHORS_PER_BLOCK
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
