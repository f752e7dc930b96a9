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

use crate::fixed_point::{from_text, scaled};

/// `sizeof(PyDecObject)`: header 16, hash 8, mpd_t 48, four words of digits 32.
const OBJECT_BYTES: isize = 104;
const NEGATIVE: u8 = 1;
/// Infinity, quiet and signalling NaN.
const SPECIAL: u8 = 2 | 4 | 8;

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
    // SAFETY: `words` says that one word of digits is there. A Decimal is immutable and the caller holds a reference
    // and the GIL, so neither the words nor the object go away while they are read.
    let coefficient = unsafe { *decimal.data };
    scaled(decimal.flags & NEGATIVE != 0, coefficient, decimal.exponent)
}

/// What the publisher makes of a Decimal, for the test that holds it against the Decimal's own arithmetic.
#[pyfunction]
fn decimal_e6(value: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    e6(value)
}

/// Whether Decimals are read in place on this interpreter; otherwise every one goes through its text, which is slow.
#[pyfunction]
fn decimal_is_read_in_place(py: Python<'_>) -> PyResult<bool> {
    check(py)?;
    Ok(PROVEN_TYPE.load(Ordering::Acquire) != 0)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decimal_e6, module)?)?;
    module.add_function(wrap_pyfunction!(decimal_is_read_in_place, module)?)
}
