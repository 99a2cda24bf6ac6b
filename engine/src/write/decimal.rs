//! Numbers with a fraction: what INCRBYFLOAT adds, and how it is written.
//!
//! Redis adds in 80 bits and prints 17 digits behind the point, so that 0.1 and 0.2 make 0.3. Here such numbers are
//! added as decimal fractions, which gives the same digits, is exact, and the same on every machine. Beyond 20 digits
//! before the point they are what 64 bits of floating point make of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The digits behind the point.
const FRACTION_DIGITS: usize = 17;

/// One, in units of the last digit.
const ONE: i128 = 10_i128.pow(17);

/// The digits before the point up to which a number is exact.
const INTEGER_DIGITS_MAX: usize = 20;

/// The longest text of a number, in bytes: as in Redis.
const TEXT_BYTES_MAX: usize = 5 << 10;

/// A number with a fraction of 17 decimal digits, or a very large one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decimal(Form);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    /// In units of the last digit.
    Exact(i128),
    /// The bits of a floating-point number, which may be infinite. Of one that is none, which only bytes from elsewhere
    /// can be, no sum is a number either.
    Rough(u64),
}

impl Decimal {
    /// The number that a text is: digits with a point and an exponent, or an infinity.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() < TEXT_BYTES_MAX)?;
        let rough: f64 = text.parse().ok()?;
        if rough.is_nan() {
            return None;
        }
        Some(exact(text).map_or(Self(Form::Rough(rough.to_bits())), |units| Self(Form::Exact(units))))
    }

    /// Whether it is a number, and no infinity.
    pub fn is_finite(self) -> bool {
        match self.0 {
            Form::Exact(_) => true,
            Form::Rough(bits) => f64::from_bits(bits).is_finite(),
        }
    }

    /// The sum, if it is finite.
    pub fn plus(self, other: Self) -> Option<Self> {
        if let (Form::Exact(a), Form::Exact(b)) = (self.0, other.0) {
            return a.checked_add(b).map(|sum| Self(Form::Exact(sum)));
        }
        let sum = self.rough() + other.rough();
        sum.is_finite().then(|| Self(Form::Rough(sum.to_bits())))
    }

    fn rough(self) -> f64 {
        match self.0 {
            // Its own text is a number, and the nearest there is to it.
            Form::Exact(_) => self.to_string().parse().unwrap_or(f64::NAN),
            Form::Rough(bits) => f64::from_bits(bits),
        }
    }
}

/// No exponent, and no zeros at the end.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            Form::Exact(units) => {
                let sign = if units < 0 { "-" } else { "" };
                let (whole, fraction) =
                    (units.unsigned_abs() / ONE.unsigned_abs(), units.unsigned_abs() % ONE.unsigned_abs());
                format!("{sign}{whole}.{fraction:0FRACTION_DIGITS$}")
            }
            Form::Rough(bits) => format!("{:.FRACTION_DIGITS$}", f64::from_bits(bits)),
        };
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

/// The units of the last digit that a text is, which is a floating-point number's; a digit behind it rounds. `None` for
/// what is too large.
fn exact(text: &str) -> Option<i128> {
    let (text, is_negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = whole.len() + fraction.len();
    let digits = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0');
    let skipped = digits.clone().take_while(|digit| *digit == 0).count();
    if skipped == significant {
        return Some(0);
    }
    // The digits before the point, once leading zeros are gone.
    let before =
        i64::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_sub(i64::try_from(skipped).ok()?)?;
    if before > i64::try_from(INTEGER_DIGITS_MAX).ok()? {
        return None;
    }
    let Ok(kept) = usize::try_from(before + i64::try_from(FRACTION_DIGITS).ok()?) else { return Some(0) };
    let mut digits = digits.skip(skipped);
    let units = (0..kept).fold(0_i128, |units, _| units * 10 + i128::from(digits.next().unwrap_or(0)));
    let units = units + i128::from(digits.next().is_some_and(|digit| digit >= 5));
    Some(if is_negative { -units } else { units })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let parse = |text: &str| Decimal::parse(text.as_bytes()).expect("a number");
        parse(a).plus(parse(b)).map(|sum| sum.to_string())
    }

    #[test]
    fn sums_are_written_as_redis_writes_them() {
        let cases = [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("-0.0", "0", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "1e-18", "0"),
            ("0", "6e-18", "0.00000000000000001"),
            ("0", ".5", "0.5"),
            ("3.", "+1", "4"),
            ("00012", "0", "12"),
            ("99999999999999999999", "1", "100000000000000000000"),
            ("0", "1e20", "100000000000000000000"),
            ("0", "1e-400", "0"),
            ("0", "0e999999", "0"),
        ];
        for (a, b, wanted) in cases {
            assert_eq!(sum(a, b).as_deref(), Some(wanted), "{a} + {b}");
        }
    }

    #[test]
    fn large_numbers_are_as_floating_point_makes_them_and_never_infinite() {
        assert_eq!(sum("1e22", "1").as_deref(), Some("10000000000000000000000"));
        assert_eq!(sum("1e308", "1e308"), None);
        assert_eq!(sum("inf", "1"), None);
        assert!(!Decimal::parse(b"-inf").expect("it is one").is_finite());
        // As many exact ones as fit are added; past that nothing wraps around.
        let mut total = Decimal::parse(b"99999999999999999999").expect("a number");
        for _ in 0..64 {
            let Some(next) = total.plus(total) else { return };
            total = next;
        }
        panic!("{total} is more than fits");
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", " 1", "1 ", "abc", "1e", "0x10", "nan", "1.2.3", "--1", "1e1e1", "\u{661}"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Decimal::parse(&[b'1'; TEXT_BYTES_MAX]), None);
        assert_eq!(Decimal::parse(b"\xff"), None);
    }
}
