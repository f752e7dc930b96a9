//! `decimal.Decimal` → fixed point × 1,000,000. The SDK makes a new Decimal per read, so this runs a dozen times per
//! event. Not a general decimal parser: what does not fit exactly is `None`, and the caller keeps the text.
//!
//! CPython offers no C interface to a Decimal's digits. Its C object has had one layout in every version we ship for
//! (3.11 to 3.13, `Modules/_decimal/_decimal.c`): `check` proves it on this interpreter before the first event, and
//! anything that does not look exactly like it is read through its text instead.
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;

/// `sizeof(PyDecObject)`: header 16, hash 8, mpd_t 48, four words of digits 32.
const OBJECT_BYTES: isize = 104;
const NEGATIVE: u8 = 1;
/// Infinity, quiet and signalling NaN.
const SPECIAL: u8 = 2 | 4 | 8;
const SCALE_DIGITS: isize = 6;

#[repr(C)]
struct DecimalObject {
    head: ffi::PyObject,
    hash: ffi::Py_hash_t,
    flags: u8,
    exponent: isize,
    digits: isize,
    words: isize,
    allocated: isize,
    data: *const u64,
}

/// Address of the Decimal type once `check` has proved its layout; 0 before, and where it differs.
static PROVEN_TYPE: AtomicUsize = AtomicUsize::new(0);

/// Proves the layout on this interpreter. Reading the object of another layout would be unsound, so its size and the
/// version are compared first, and then values of every shape against their text.
pub fn check(py: Python<'_>) -> PyResult<()> {
    let class = py.import("decimal")?.getattr("Decimal")?;
    let version = py.version_info();
    let known = version.major == 3 && (11..=13).contains(&version.minor);
    if !known || class.getattr("__basicsize__")?.extract::<isize>()? != OBJECT_BYTES {
        return Ok(());
    }
    let pointer = class.as_ptr() as usize;
    for text in ["0", "-0", "1", "-51", "34001.261348", "1E+3", "0.000001", "9223372036854.775806", "NaN", "-Infinity"]
    {
        let value = class.call1((text,))?;
        // SAFETY: size and version are those of the layout; a Decimal instance was just made by its class.
        if unsafe { peek(&value) } != from_text(text) {
            return Ok(());
        }
    }
    PROVEN_TYPE.store(pointer, Ordering::Release);
    Ok(())
}

/// The value × 1,000,000 when that is a whole number of 64 bits; `None` when it is not, or is no number.
/// Anything but a Decimal is an error.
pub fn e6(value: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if value.get_type_ptr() as usize == PROVEN_TYPE.load(Ordering::Relaxed) {
        // SAFETY: `check` proved the layout of exactly this type.
        return Ok(unsafe { peek(value) });
    }
    let name = value.get_type().name()?;
    if name != "Decimal" {
        return Err(PyValueError::new_err(format!("{name} where a Decimal was expected")));
    }
    Ok(from_text(value.str()?.to_str()?))
}

/// # Safety
/// `value` must be an instance of the interpreter's own C `decimal.Decimal` with the layout above.
unsafe fn peek(value: &Bound<'_, PyAny>) -> Option<i64> {
    // SAFETY: the caller's promise.
    let decimal = unsafe { &*value.as_ptr().cast::<DecimalObject>() };
    if decimal.flags & SPECIAL != 0 || decimal.words != 1 {
        return None;
    }
    // SAFETY: `words` says that one word of digits is there.
    let coefficient = unsafe { *decimal.data };
    scaled(decimal.flags & NEGATIVE != 0, coefficient, decimal.exponent)
}

fn scaled(negative: bool, coefficient: u64, exponent: isize) -> Option<i64> {
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

/// The same from `str(Decimal)`: digits, an optional point, an optional exponent.
fn from_text(text: &str) -> Option<i64> {
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

    #[test]
    fn the_layout_is_proven_on_this_interpreter_and_agrees_with_the_text() {
        Python::initialize();
        Python::attach(|py| {
            check(py).unwrap();
            let class = py.import("decimal").unwrap().getattr("Decimal").unwrap();
            assert_eq!(PROVEN_TYPE.load(Ordering::Acquire), class.as_ptr() as usize);
            for text in ["12345678901234567890123", "0.1234567", "-7.25", "1E+20"] {
                assert_eq!(e6(&class.call1((text,)).unwrap()).unwrap(), from_text(text), "{text}");
            }
            assert!(e6(&1.5f64.into_pyobject(py).unwrap().into_any()).is_err());
        });
    }
}
