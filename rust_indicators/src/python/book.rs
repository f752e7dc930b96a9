//! Python's way to `signals/book.rs`, which has the rules.
use pyo3::prelude::*;

pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
