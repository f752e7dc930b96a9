//! The only folder that knows Python: the `rust_indicators._rust` module.
use pyo3::prelude::*;

mod columns;
mod continuity;
mod decimal;
mod hft;
mod log;
mod publisher;
mod simulate;
mod stamp;

#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BACKEND", "rust")?;
    module.add_class::<publisher::Publisher>()?;
    columns::register(module)?;
    continuity::register(module)?;
    decimal::register(module)?;
    hft::register(module)?;
    log::register(module)?;
    simulate::register(module)?;
    Ok(())
}
