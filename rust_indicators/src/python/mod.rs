//! The only file that knows Python: the `rust_indicators._rust` module.
use pyo3::prelude::*;

#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BACKEND", "rust")?;
    Ok(())
}
