//! Lists that are bounded while they are decoded, so that a short message cannot make us hold a large one.
//!
//! A list of small things takes more memory than bytes on the wire; checking its length afterwards is too late. Those of
//! byte strings are written string by string, as bytes and not as lists of numbers.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use crate::bounds::STRUCTURE_BYTES_MAX;

/// Decodes a list of at most `MAX` things.
pub(crate) fn list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Bounded::<MAX, T>(PhantomData))
}

/// Byte strings.
pub(crate) mod byte_strings {
    use super::{ByteBuf, Bytes, Deserializer, STRUCTURE_BYTES_MAX, Serializer, list};

    pub(crate) fn serialize<S: Serializer>(strings: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(strings.iter().map(|string| Bytes::new(string)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = list::<STRUCTURE_BYTES_MAX, ByteBuf, D>(deserializer)?;
        Ok(list.into_iter().map(ByteBuf::into_vec).collect())
    }
}

/// Pairs of byte strings.
pub(crate) mod byte_pairs {
    use super::{ByteBuf, Bytes, Deserializer, STRUCTURE_BYTES_MAX, Serializer, list};

    type Pair = (Vec<u8>, Vec<u8>);

    pub(crate) fn serialize<S: Serializer>(pairs: &[Pair], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(pairs.iter().map(|(first, second)| (Bytes::new(first), Bytes::new(second))))
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<Vec<Pair>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let list = list::<STRUCTURE_BYTES_MAX, (ByteBuf, ByteBuf), D>(deserializer)?;
        Ok(list.into_iter().map(|(first, second)| (first.into_vec(), second.into_vec())).collect())
    }
}

/// Byte strings, each with something behind it.
pub(crate) mod bytes_with {
    use super::{
        ByteBuf, Bytes, Deserialize, Deserializer, STRUCTURE_BYTES_MAX, Serialize, Serializer, list,
    };

    pub(crate) fn serialize<T, S>(things: &[(Vec<u8>, T)], serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(things.iter().map(|(string, other)| (Bytes::new(string), other)))
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<(Vec<u8>, T)>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let list = list::<STRUCTURE_BYTES_MAX, (ByteBuf, T), D>(deserializer)?;
        Ok(list.into_iter().map(|(string, other)| (string.into_vec(), other)).collect())
    }
}

/// Byte strings, each with something before it.
pub(crate) mod with_bytes {
    use super::{
        ByteBuf, Bytes, Deserialize, Deserializer, STRUCTURE_BYTES_MAX, Serialize, Serializer, list,
    };

    pub(crate) fn serialize<T, S>(things: &[(T, Vec<u8>)], serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(things.iter().map(|(other, string)| (other, Bytes::new(string))))
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<(T, Vec<u8>)>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let list = list::<STRUCTURE_BYTES_MAX, (T, ByteBuf), D>(deserializer)?;
        Ok(list.into_iter().map(|(other, string)| (other, string.into_vec())).collect())
    }
}

/// An end of a range of byte strings.
pub(crate) mod byte_bound {
    use std::ops::Bound;

    use super::{ByteBuf, Bytes, Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bound: &Bound<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bound.as_ref().map(|string| Bytes::new(string)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Bound<Vec<u8>>, D::Error> {
        Bound::<ByteBuf>::deserialize(deserializer).map(|bound| bound.map(ByteBuf::into_vec))
    }
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
