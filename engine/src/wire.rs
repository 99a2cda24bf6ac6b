//! Values as bytes, with the version of their form in front: bounded while they are read, and one form for each value.
//!
//! These are the bytes that anchors agree on and that peers ask each other with. What a few of them can make us hold is
//! bounded by [`STRUCTURE_BYTES_MAX`]; keys and values take as much memory as bytes. Bytes that would be written
//! otherwise are refused, so that equal values are equal bytes.

use postcard::de_flavors::{Flavor as Source, Slice};
use postcard::ser_flavors::Flavor as Sink;
use postcard::{Deserializer, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error as ThisError;

use crate::bounds::STRUCTURE_BYTES_MAX;

/// Why bytes are not a value. Nothing was done.
#[derive(Clone, Debug, ThisError, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// There are more than there may be.
    #[error("{bytes} bytes; at most {bytes_max} are allowed")]
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
    /// They were written by a newer tidelock.
    #[error("version {found} is not known here, which is {known}; this node needs a newer tidelock")]
    Version {
        /// The version that they have.
        found: u8,
        /// The only one that is known.
        known: u8,
    },
    /// They end early, go on too long, hold more or deeper things than they may, or say something in another way than it
    /// is said.
    #[error("the bytes do not decode")]
    Malformed,
}

/// The bytes of a value.
pub(crate) fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version]).expect("writing to memory cannot fail")
}

/// The value that all of `bytes` are.
///
/// # Errors
/// See [`WireError`].
pub(crate) fn decode<T>(version: u8, bytes: &[u8], bytes_max: usize) -> Result<T, WireError>
where
    T: Serialize + DeserializeOwned,
{
    if bytes.len() > bytes_max {
        return Err(WireError::TooLong { bytes: bytes.len(), bytes_max });
    }
    match bytes.split_first() {
        Some((found, rest)) if *found == version => decode_bare(rest).map(|(value, _)| value),
        Some((found, _)) => Err(WireError::Version { found: *found, known: version }),
        None => Err(WireError::Malformed),
    }
}

/// The same without a version, and how many of the bytes are structure.
pub(crate) fn decode_bare<T>(bytes: &[u8]) -> Result<(T, usize), WireError>
where
    T: Serialize + DeserializeOwned,
{
    let source = Counted { bytes: Slice::new(bytes), structure: 0 };
    let mut deserializer = Deserializer::from_flavor(source);
    let value = T::deserialize(&mut deserializer).map_err(|_| WireError::Malformed)?;
    let (rest, structure) = deserializer.finalize().map_err(|_| WireError::Malformed)?;
    if !rest.is_empty() || postcard::serialize_with_flavor(&value, Same(bytes)).is_err() {
        return Err(WireError::Malformed);
    }
    Ok((value, structure))
}

/// Bytes that are read, of which those that come one by one are structure and bounded.
struct Counted<'de> {
    bytes: Slice<'de>,
    structure: usize,
}

impl<'de> Source<'de> for Counted<'de> {
    type Remainder = (&'de [u8], usize);
    type Source = &'de [u8];

    fn pop(&mut self) -> Result<u8, Error> {
        if self.structure == STRUCTURE_BYTES_MAX {
            return Err(Error::DeserializeUnexpectedEnd);
        }
        self.structure += 1;
        self.bytes.pop()
    }

    fn size_hint(&self) -> Option<usize> {
        self.bytes.size_hint()
    }

    fn try_take_n(&mut self, count: usize) -> Result<&'de [u8], Error> {
        self.bytes.try_take_n(count)
    }

    fn finalize(self) -> Result<Self::Remainder, Error> {
        Ok((self.bytes.finalize()?, self.structure))
    }
}

/// Bytes that must be the ones that are written.
struct Same<'a>(&'a [u8]);

impl Sink for Same<'_> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0 = self.0.strip_prefix(bytes).ok_or(Error::SerializeBufferFull)?;
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> Result<(), Error> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::SerializeBufferFull) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_one_form_only() {
        let bytes = encode(1, &300_u64);
        assert_eq!(bytes, [1, 0xac, 2]);
        assert_eq!(decode::<u64>(1, &bytes, 3), Ok(300));
        assert_eq!(decode::<u64>(1, &bytes, 2), Err(WireError::TooLong { bytes: 3, bytes_max: 2 }));
        assert_eq!(decode::<u64>(2, &bytes, 3), Err(WireError::Version { found: 1, known: 2 }));
        for other in [&[][..], &[1], &[1, 0xac], &[1, 0xac, 2, 0], &[1, 0xac, 0x82, 0]] {
            assert_eq!(decode::<u64>(1, other, 9), Err(WireError::Malformed), "{other:?}");
        }
    }

    #[test]
    fn structure_is_bounded_and_strings_are_not_structure() {
        let numbers = |count| postcard::to_stdvec(&vec![1_u8; count]).expect("memory");
        let length = 3;
        let (_, structure) =
            decode_bare::<Vec<u8>>(&numbers(STRUCTURE_BYTES_MAX - length)).expect("at the bound");
        assert_eq!(structure, STRUCTURE_BYTES_MAX);
        let past = decode_bare::<Vec<u8>>(&numbers(STRUCTURE_BYTES_MAX - length + 1));
        assert_eq!(past, Err(WireError::Malformed));
        let (_, structure) = decode_bare::<String>(&numbers(2 * STRUCTURE_BYTES_MAX)).expect("a string");
        assert_eq!(structure, 4);
    }
}
