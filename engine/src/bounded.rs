//! Lists that are bounded while they are decoded, so that a short message cannot make us hold a large one.
//!
//! A list of small things takes more memory than bytes on the wire; checking its length afterwards is too late.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// Decodes a list of at most `MAX` things.
pub(crate) fn list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Bounded::<MAX, T>(PhantomData))
}

struct Bounded<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Bounded<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let announced = sequence.size_hint().unwrap_or(0);
        if announced > MAX {
            return Err(A::Error::invalid_length(announced, &self));
        }
        // What is announced may never come; a few are reserved, the rest as they come.
        let mut list = Vec::with_capacity(announced.min(1_024));
        while let Some(thing) = sequence.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(thing);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, SeqDeserializer};

    use super::*;

    /// Reads numbers as a list of at most three, from a format that tells how many there are.
    fn announced(count: u8) -> Result<Vec<u8>, Error> {
        list::<3, _, _>(SeqDeserializer::new(0..count))
    }

    /// The same, from a format that does not.
    fn unannounced(count: u8) -> Result<Vec<u8>, Error> {
        let mut numbers = 0..count;
        list::<3, _, _>(SeqDeserializer::new(std::iter::from_fn(move || numbers.next())))
    }

    #[test]
    fn list_is_bounded_whether_its_length_is_announced_or_not() {
        for read in [announced, unannounced] {
            for count in 0..=3 {
                assert_eq!(read(count), Ok((0..count).collect()));
            }
            let error = read(4).expect_err("one past the bound");
            assert_eq!(error.to_string(), "invalid length 4, expected a list of at most 3");
        }
    }
}
