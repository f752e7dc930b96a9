//! The only folder that knows Python: the `rust_indicators._rust` module.
use pyo3::prelude::*;

mod arrays;
mod bars;
mod book;
mod columns;
mod continuity;
mod correlation;
mod decimal;
mod flow;
mod hawkes;
mod hawkes_bivariate;
mod hft;
mod impact;
mod integrated;
mod kalman;
mod levels;
mod log;
mod marks;
mod micro_price;
mod publisher;
mod queue_position;
mod ring;
mod signal_set;
mod simulate;
mod simulate_matching;
mod stamp;
mod statistics;
mod toxicity;
mod windows;

#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BACKEND", "rust")?;
    module.add("OPTIMIZED", !cfg!(debug_assertions))?;
    module.add_class::<publisher::Publisher>()?;
    columns::register(module)?;
    continuity::register(module)?;
    decimal::register(module)?;
    hft::register(module)?;
    log::register(module)?;
    marks::register(module)?;
    ring::register(module)?;
    simulate::register(module)?;
    simulate_matching::register(module)?;
    statistics::register(module)?;
    bars::register(module)?;
    book::register(module)?;
    correlation::register(module)?;
    flow::register(module)?;
    hawkes::register(module)?;
    hawkes_bivariate::register(module)?;
    impact::register(module)?;
    integrated::register(module)?;
    kalman::register(module)?;
    micro_price::register(module)?;
    queue_position::register(module)?;
    signal_set::register(module)?;
    toxicity::register(module)?;
    windows::register(module)?;
    Ok(())
}
