//! The only file that knows Python: the `rust_indicators._rust` module.
mod continuity;

use pyo3::prelude::*;

#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BACKEND", "rust")?;
    continuity::register(module)?;
    Ok(())
}
