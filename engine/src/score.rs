//! The score of a member of a sorted set: a number that is always one, with one order and one form on wire and disk.
//!
//! Floating point has a value that is unequal to itself, and two zeros. Neither may reach a row: replicas would
//! differ, or their order would. So a [`Score`] is made only of what is a number, and has one zero.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The bytes of a score.
pub const SCORE_BYTES: usize = 8;

const SIGN: u64 = 1 << 63;

/// A score: 64 bits of floating point, never NaN, infinite if need be; zero has no sign.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "[u8; SCORE_BYTES]", into = "[u8; SCORE_BYTES]")]
pub struct Score(f64);

/// Why bytes are not a score: they are not eight, no number, or a zero with a sign.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the bytes are not a score")]
pub struct ScoreError;

impl Score {
    /// Less than any other.
    pub const LOWEST: Self = Self(f64::NEG_INFINITY);

    /// Nothing.
    pub const ZERO: Self = Self(0.0);

    /// The score of a number, if it is one.
    pub fn new(number: f64) -> Option<Self> {
        // The sum of zero and a zero with a sign has none.
        (!number.is_nan()).then_some(Self(number + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The sum, unless it is that of the two infinities, which is no number.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0)
    }

    /// Eight bytes whose order is that of the numbers.
    ///
    /// The bits of a number that is not negative, with the sign set; those of a negative one, each turned around.
    pub const fn to_bytes(self) -> [u8; SCORE_BYTES] {
        let bits = self.0.to_bits();
        (if bits & SIGN == 0 { bits | SIGN } else { !bits }).to_be_bytes()
    }

    /// The score that has these bytes.
    ///
    /// # Errors
    /// [`ScoreError`]: no score has them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ScoreError> {
        let bits = u64::from_be_bytes(bytes.try_into().map_err(|_| ScoreError)?);
        let number = f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN });
        Self::new(number).filter(|score| score.to_bytes() == *bytes).ok_or(ScoreError)
    }
}

impl TryFrom<[u8; SCORE_BYTES]> for Score {
    type Error = ScoreError;

    fn try_from(bytes: [u8; SCORE_BYTES]) -> Result<Self, ScoreError> {
        Self::from_bytes(&bytes)
    }
}

impl From<Score> for [u8; SCORE_BYTES] {
    fn from(score: Score) -> Self {
        score.to_bytes()
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Integers below this are written without an exponent, whatever they end with.
const PLAIN_INTEGER_MAX: f64 = 4_503_599_627_370_496.0;

/// As Redis writes it: the shortest digits that are this number, with an exponent if it is very large or small.
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        if number.is_infinite() || (number.fract() == 0.0 && number.abs() < PLAIN_INTEGER_MAX) {
            return write!(f, "{number}");
        }
        let text = format!("{:e}", number.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let digits = mantissa.len() - usize::from(mantissa.contains('.'));
        // The digits are an integer times ten to the power of this.
        let power = exponent + 1 - i32::try_from(digits).expect("a number has few digits");
        let is_plain_integer = (0..8).contains(&power);
        let is_plain_fraction = power < 0 && (power > -7 || exponent.abs() < 4);
        if is_plain_integer || is_plain_fraction {
            return write!(f, "{number}");
        }
        let sign = if number < 0.0 { "-" } else { "" };
        write!(f, "{sign}{mantissa}e{exponent:+}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score(number: f64) -> Score {
        Score::new(number).expect("a number")
    }

    #[test]
    fn scores_have_golden_bytes() {
        let cases: [(f64, [u8; SCORE_BYTES]); 6] = [
            (f64::NEG_INFINITY, [0, 0x0f, 255, 255, 255, 255, 255, 255]),
            (-1.0, [0x40, 0x0f, 255, 255, 255, 255, 255, 255]),
            (-0.0, [0x80, 0, 0, 0, 0, 0, 0, 0]),
            (0.0, [0x80, 0, 0, 0, 0, 0, 0, 0]),
            (1.5, [0xbf, 0xf8, 0, 0, 0, 0, 0, 0]),
            (f64::INFINITY, [0xff, 0xf0, 0, 0, 0, 0, 0, 0]),
        ];
        for (number, golden) in cases {
            assert_eq!(score(number).to_bytes(), golden, "{number}");
            assert_eq!(Score::from_bytes(&golden), Ok(score(number)));
            assert_eq!(postcard::to_stdvec(&score(number)).expect("in memory"), golden);
        }
    }

    #[test]
    fn what_is_no_number_is_no_score() {
        assert_eq!(Score::new(f64::NAN), None);
        assert_eq!(score(f64::INFINITY).plus(Score::LOWEST), None);
        for bits in
            [f64::NAN.to_bits() | SIGN, !(f64::NAN.to_bits() | SIGN), !(-0.0_f64).to_bits(), u64::MAX, 0]
        {
            assert_eq!(Score::from_bytes(&bits.to_be_bytes()), Err(ScoreError), "{bits:x}");
            assert!(postcard::from_bytes::<Score>(&bits.to_be_bytes()).is_err());
        }
        assert_eq!(Score::from_bytes(&[0x80; 7]), Err(ScoreError));
        assert_eq!(Score::from_bytes(&[0x80; 9]), Err(ScoreError));
    }

    #[test]
    fn scores_are_written_as_redis_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (-3.5, "-3.5"),
            (0.1, "0.1"),
            (1e15, "1000000000000000"),
            (1e16, "1e+16"),
            (12_345_678_901_234_567_890.0, "12345678901234567000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (0.001, "0.001"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-10, "1.25e-10"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, text) in cases {
            assert_eq!(score(number).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn order_of_bytes_is_that_of_numbers(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            let (a, b) = (score(a), score(b));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Some(a.cmp(&b)), a.get().partial_cmp(&b.get()));
            prop_assert_eq!(Score::from_bytes(&a.to_bytes()), Ok(a));
        }
    }
}
