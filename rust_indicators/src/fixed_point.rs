//! Decimal numbers → fixed point × 1,000,000, exactly or not at all. Knows digits and exponents; the Python object that
//! holds them is read in `python/decimal.rs`.

const SCALE_DIGITS: isize = 6;

/// A coefficient and its power of ten × 1,000,000, when that is a whole number of 64 bits.
pub fn scaled(negative: bool, coefficient: u64, exponent: isize) -> Option<i64> {
    let shift = exponent.checked_add(SCALE_DIGITS)?;
    let magnitude = if coefficient == 0 {
        0
    } else if shift >= 0 {
        i64::try_from(coefficient).ok()?.checked_mul(10i64.checked_pow(u32::try_from(shift).ok()?)?)?
    } else {
        let divisor = 10u64.checked_pow(u32::try_from(-shift).ok()?)?;
        if !coefficient.is_multiple_of(divisor) {
            return None;
        }
        i64::try_from(coefficient / divisor).ok()?
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// The same from the text of a `decimal.Decimal`: digits, an optional point, an optional exponent.
pub fn from_text(text: &str) -> Option<i64> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['E', 'e']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<isize>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut coefficient = 0u64;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let value = u64::from(digit.wrapping_sub(b'0'));
        if value > 9 {
            return None;
        }
        coefficient = coefficient.checked_mul(10)?.checked_add(value)?;
    }
    scaled(negative, coefficient, exponent.checked_sub(isize::try_from(fraction.len()).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_or_not_at_all() {
        let table = [
            ("0", Some(0)),
            ("-0.51", Some(-510_000)),
            ("34001.261348", Some(34_001_261_348)),
            ("34001.2613480", Some(34_001_261_348)),
            ("34001.2613481", None),
            ("1E+3", Some(1_000_000_000)),
            ("1E-7", None),
            ("9223372036854.775807", Some(i64::MAX)),
            ("9223372036854.775808", None),
            ("NaN", None),
            ("Infinity", None),
        ];
        for (text, expected) in table {
            assert_eq!(from_text(text), expected, "{text}");
        }
    }
}
