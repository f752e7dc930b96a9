//! Python's way to events in windows. No rules: `signals/windows.rs` has them.
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::{Column, column, optional_column, output, refused, writable};
use super::levels::{
    BookColumns, BookLevels, JudgedLevels, level_columns, level_count, matrix, same_levels, writable_matrix,
};
use crate::signals::book::{check_volumes, volume_names};
use crate::signals::flow::LEVELS_MAX;
use crate::signals::windows::{self, Flow};
use crate::signals::{Refused, same_rows};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<NormalisedOfi>()?;
    module.add_function(wrap_pyfunction!(window_sums, module)?)?;
    module.add_function(wrap_pyfunction!(sample_last, module)?)?;
    module.add_function(wrap_pyfunction!(normalised_ofi, module)?)
}

#[pyfunction]
fn window_sums<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    values: &Bound<'py, PyAny>,
    edges_ns: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let stamps = column::<i64>("exchange_ns", exchange_ns)?;
    let (values, edges) = (column::<i64>("values", values)?, column::<i64>("edges_ns", edges_ns)?);
    let (stamps, values, edges) = (stamps.slice(), values.slice(), edges.slice());
    let result = output::<i64>(py, None, edges.len().saturating_sub(1))?;
    let mut out = writable(&result)?;
    let into = out.as_slice_mut()?;
    py.detach(|| windows::window_sums(stamps, values, edges, into)).map_err(refused)?;
    drop(out);
    Ok(result)
}

#[pyfunction]
fn sample_last<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    edges_ns: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (stamps, edges) = (column::<i64>("exchange_ns", exchange_ns)?, column::<i64>("edges_ns", edges_ns)?);
    let (stamps, edges) = (stamps.slice(), edges.slice());
    let result = output::<i64>(py, None, edges.len())?;
    let mut out = writable(&result)?;
    let into = out.as_slice_mut()?;
    py.detach(|| windows::sample_last(stamps, edges, into)).map_err(refused)?;
    drop(out);
    Ok(result)
}

const CONTRIBUTIONS: [&str; LEVELS_MAX] = [
    "contributions[0]",
    "contributions[1]",
    "contributions[2]",
    "contributions[3]",
    "contributions[4]",
    "contributions[5]",
    "contributions[6]",
    "contributions[7]",
    "contributions[8]",
    "contributions[9]",
];

/// Columns as long as the stamps, and volumes that are some.
fn check_flow(rows: usize, flow: Flow<'_>) -> Result<(), Refused> {
    for (name, column) in CONTRIBUTIONS.into_iter().zip(flow.contributions) {
        same_rows(&[("exchange_ns", rows), (name, column.len())])?;
    }
    for (level, (bids, asks)) in flow.bid_volume.iter().zip(flow.ask_volume).enumerate() {
        let (bid, ask) = volume_names(level);
        same_rows(&[("exchange_ns", rows), (bid, bids.len()), (ask, asks.len())])?;
        check_volumes(&[(bid, *bids), (ask, *asks)])?;
    }
    Ok(())
}

#[pyfunction]
fn normalised_ofi<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    contributions: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    edges_ns: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (stamps, edges) = (column::<i64>("exchange_ns", exchange_ns)?, column::<i64>("edges_ns", edges_ns)?);
    let contributions = level_columns::<i64>("contributions", contributions)?;
    let bids = level_columns::<i64>("bid_volume", bid_volume)?;
    let asks = level_columns::<i64>("ask_volume", ask_volume)?;
    for (name, side) in [("bid_volume", &bids), ("ask_volume", &asks)] {
        same_levels(("contributions", contributions.len()), name, side.len())?;
    }
    let columns = [contributions, bids, asks];
    let [contributions, bids, asks] =
        columns.each_ref().map(|levels| levels.iter().map(Column::slice).collect::<Vec<_>>());
    let flow = Flow { contributions: &contributions, bid_volume: &bids, ask_volume: &asks };
    let (stamps, edges) = (stamps.slice(), edges.slice());
    let result = matrix::<f64>(py, None, [contributions.len(), edges.len().saturating_sub(1)])?;
    let mut out = writable_matrix(&result)?;
    let into = out.as_slice_mut()?;
    py.detach(|| {
        check_flow(stamps.len(), flow)?;
        windows::normalised_ofi(stamps, flow, edges, into)
    })
    .map_err(refused)?;
    drop(out);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
struct NormalisedOfi(windows::NormalisedOfi);

#[pymethods]
impl NormalisedOfi {
    #[new]
    #[pyo3(signature = (levels, window_ns, *, anchor_ns=0))]
    fn new(levels: i64, window_ns: i64, anchor_ns: i64) -> PyResult<Self> {
        windows::NormalisedOfi::new(level_count(levels)?, window_ns, anchor_ns).map(Self).map_err(refused)
    }

    #[pyo3(signature = (exchange_ns, bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update<'py>(
        &mut self,
        py: Python<'py>,
        exchange_ns: i64,
        bid_price_e6: &Bound<'py, PyAny>,
        bid_volume: &Bound<'py, PyAny>,
        ask_price_e6: &Bound<'py, PyAny>,
        ask_volume: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let levels = BookLevels::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        self.0.check(exchange_ns, levels.sides()).map_err(refused)?;
        self.0.update(exchange_ns, levels.sides());
        PyTuple::new(py, self.0.values())
    }

    #[pyo3(signature = (exchange_ns, bid_price_e6, bid_volume, ask_price_e6, ask_volume, *, restart=None))]
    #[allow(clippy::too_many_arguments)] // the columns of a book, and their stamps
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        exchange_ns: &Bound<'py, PyAny>,
        bid_price_e6: &Bound<'py, PyAny>,
        bid_volume: &Bound<'py, PyAny>,
        ask_price_e6: &Bound<'py, PyAny>,
        ask_volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<JudgedLevels<'py, f64>> {
        let stamps = column::<i64>("exchange_ns", exchange_ns)?;
        let columns = BookColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        let marks = optional_column::<u8>("restart", restart)?;
        let book = columns.sides();
        let result = matrix::<f64>(py, None, [self.0.levels(), columns.rows()])?;
        let validity = output::<u8>(py, None, columns.rows())?;
        let (mut values, mut valid) = (writable_matrix(&result)?, writable(&validity)?);
        let (stamps, marks) = (stamps.slice(), marks.as_ref().map(Column::slice));
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(stamps, &book, marks, into, valid)).map_err(refused)?;
        drop(values);
        Ok((result, validity))
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn taint(&mut self) {
        self.0.taint();
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.values())
    }

    #[getter]
    fn closed(&self) -> u64 {
        self.0.closed()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
