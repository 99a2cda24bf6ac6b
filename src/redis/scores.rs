//! Scores as text, read and printed as Redis does it.
//!
//! Source: `strtod` and `printf("%.17g")` of the C standard, as redis-server 7.0 uses them. Hexadecimal numbers are not
//! understood.

use std::ops::Bound;

use tidelock_engine::score::Score;

use super::errors;
use super::reply::Reply;

const NOT_A_FLOAT: Reply = errors::constant("ERR value is not a valid float");
const NOT_A_BOUND: Reply = errors::constant("ERR min or max is not a float");

/// The digits that tell every number of 64 bits from its neighbours.
const DIGITS: i32 = 17;

/// A score as an argument: what is too large, or too small but not zero, is refused.
pub(super) fn score(argument: &[u8]) -> Result<Score, Reply> {
    let number = number(argument).filter(|number| !is_out_of_range(argument, *number)).ok_or(NOT_A_FLOAT)?;
    Score::new(number).ok_or(NOT_A_FLOAT)
}

/// The bound of a range of scores; `(` before it says that it is outside. As in Redis, white space may stand before the
/// number, and nothing is zero.
pub(super) fn bound(argument: &[u8]) -> Result<Bound<Score>, Reply> {
    let (text, is_outside) = match argument.strip_prefix(b"(") {
        Some(text) => (text.trim_ascii_start(), true),
        None => (argument.trim_ascii_start(), false),
    };
    let number = if text.is_empty() && argument.last().is_none_or(|last| *last == b'(') {
        0.0
    } else {
        number(text).ok_or(NOT_A_BOUND)?
    };
    let score = Score::new(number).ok_or(NOT_A_BOUND)?;
    Ok(if is_outside { Bound::Excluded(score) } else { Bound::Included(score) })
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether the text names another number than the one it was read as, because there is none so large or so small.
fn is_out_of_range(text: &[u8], number: f64) -> bool {
    let says_infinity = text.iter().any(|byte| matches!(byte, b'n' | b'N'));
    let digits = text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let says_zero = !digits.into_iter().any(|byte| matches!(byte, b'1'..=b'9'));
    (number.is_infinite() && !says_infinity) || (number == 0.0 && !says_zero)
}

/// A number with a fraction as Redis prints it.
pub(super) fn print(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if number.is_nan() {
        return "nan".to_owned();
    }
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("this format has a number there");
    if !(-4..DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(digits), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{number:.decimals$}")).to_owned()
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each was printed by redis-server 7.0.15.
    #[test]
    fn numbers_are_printed_as_redis_prints_them() {
        for (number, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (-1.5, "-1.5"),
            (0.1, "0.10000000000000001"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (5e-324, "4.9406564584124654e-324"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (1e100, "1e+100"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(print(number), text);
        }
    }

    #[test]
    fn scores_are_read_as_redis_reads_them() {
        let read = |text: &str| score(text.as_bytes()).map(Score::get);
        for (text, number) in [
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-2e3", -2000.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0e5", 0.0),
            ("1e-310", 1e-310),
        ] {
            assert_eq!(read(text), Ok(number), "{text}");
        }
        for text in ["", " 1", "1 ", "nan", "abc", "1e400", "-1e400", "1e-400", "1,5", "--1", "0x10"] {
            assert_eq!(read(text), Err(NOT_A_FLOAT), "{text}");
        }
    }

    #[test]
    fn bounds_are_inside_unless_they_say_otherwise() {
        let at = |number| Score::new(number).expect("a number");
        assert_eq!(bound(b"1.5"), Ok(Bound::Included(at(1.5))));
        assert_eq!(bound(b"(1.5"), Ok(Bound::Excluded(at(1.5))));
        assert_eq!(bound(b" 1"), Ok(Bound::Included(at(1.0))));
        assert_eq!(bound(b""), Ok(Bound::Included(at(0.0))));
        assert_eq!(bound(b"("), Ok(Bound::Excluded(at(0.0))));
        assert_eq!(bound(b"(-inf"), Ok(Bound::Excluded(at(f64::NEG_INFINITY))));
        assert_eq!(bound(b"1e400"), Ok(Bound::Included(at(f64::INFINITY))));
        for text in ["1 ", "nan", "((1", "[1", "a"] {
            assert_eq!(bound(text.as_bytes()), Err(NOT_A_BOUND), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_number_is_read_as_it_was_printed(number in any::<f64>().prop_filter("a number", |n| !n.is_nan())) {
            prop_assert_eq!(score(print(number).as_bytes()).map(Score::get), Ok(number));
        }
    }
}
