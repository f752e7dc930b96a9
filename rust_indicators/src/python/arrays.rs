//! NumPy and Arrow arrays as slices and back, without a copy; every refusal is a ValueError that names the argument.
use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray1, PyUntypedArrayMethods};
use pyo3::exceptions::{PyImportError, PyValueError};
use pyo3::prelude::*;

use crate::signals::Refused;

/// What a column must hold, for the message.
pub trait Named: Element {
    const DTYPE: &'static str;
}

impl Named for i64 {
    const DTYPE: &'static str = "int64";
}

impl Named for f64 {
    const DTYPE: &'static str = "float64";
}

impl Named for u8 {
    const DTYPE: &'static str = "uint8";
}

pub fn refused(reason: Refused) -> PyErr {
    PyValueError::new_err(reason.to_string())
}

/// A column that Python handed over, alive and borrowed as long as this is.
pub struct Column<'py, T: Named>(PyReadonlyArray1<'py, T>);

impl<T: Named> Column<'_, T> {
    pub fn slice(&self) -> &[T] {
        self.0.as_slice().expect("checked when it was taken")
    }
}

/// Batches need NumPy, which a live host may not have; its absence is an ImportError that says what to install.
pub fn require_numpy(py: Python<'_>) -> PyResult<()> {
    py.import("numpy").map(|_| ()).map_err(|_| {
        PyImportError::new_err("columns of signals need NumPy: pip install 'shijim[signals]'; update() does not")
    })
}

/// A contiguous array of one dimension and the right type; Arrow arrays and pandas columns give theirs without a copy.
pub fn column<'py, T: Named>(argument: &str, given: &Bound<'py, PyAny>) -> PyResult<Column<'py, T>> {
    require_numpy(given.py())?;
    let refuse = |reason: String| PyValueError::new_err(format!("{argument}: {reason}"));
    let given = match given.getattr_opt("to_numpy")? {
        Some(to_numpy) => to_numpy.call0().map_err(|_| {
            refuse(
                "has nulls: fill them first, an empty level's price with EMPTY_PRICE_E6 and its volume with 0".into(),
            )
        })?,
        None => given.clone(),
    };
    let array = given.cast::<PyArray1<T>>().map_err(|_| refuse(wrong_type::<T>(&given)))?;
    let array = array.try_readonly().map_err(|_| refuse("is being written to".into()))?;
    if array.as_slice().is_err() {
        return Err(refuse("is not contiguous and aligned: numpy.require(…, requirements='CA') makes it so".into()));
    }
    Ok(Column(array))
}

fn wrong_type<T: Named>(given: &Bound<'_, PyAny>) -> String {
    let is = match (given.getattr("dtype"), given.getattr("ndim")) {
        (Ok(dtype), Ok(dimensions)) => format!("a {dimensions}-dimensional array of {dtype}"),
        _ => given.get_type().to_string(),
    };
    format!("must be a 1-dimensional array of {}, not {is}", T::DTYPE)
}

/// `column`, or nothing where Python gave None.
pub fn optional_column<'py, T: Named>(
    argument: &str,
    given: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Column<'py, T>>> {
    given.map(|given| column(argument, given)).transpose()
}

/// An array to write the results into: the one given, or a new one of so many rows.
pub fn output<'py, T: Named>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
    rows: usize,
) -> PyResult<Bound<'py, PyArray1<T>>> {
    let Some(given) = given else {
        return Ok(PyArray1::zeros(py, rows, false));
    };
    let refuse = |reason: String| PyValueError::new_err(format!("out: {reason}"));
    let array = given.cast::<PyArray1<T>>().map_err(|_| refuse(wrong_type::<T>(given)))?;
    if array.len() != rows || !array.is_c_contiguous() {
        return Err(refuse(format!("must be contiguous, with {rows} rows")));
    }
    Ok(array.clone())
}

/// What `update_many` of most signals gives: values and validity.
pub type Judged<'py, T> = (Bound<'py, PyArray1<T>>, Bound<'py, PyArray1<u8>>);

/// The array for writing; refused while it is also an input.
pub fn writable<'py, T: Named>(array: &Bound<'py, PyArray1<T>>) -> PyResult<PyReadwriteArray1<'py, T>> {
    array.try_readwrite().map_err(|_| PyValueError::new_err("out: is read-only, or one of the inputs"))
}
