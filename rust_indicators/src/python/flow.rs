//! Python's way to order flow imbalance. No rules: `signals/flow.rs` has them.
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use super::levels::{BookColumns, BookLevels, JudgedLevels, level_count, matrix, writable_matrix};
use crate::signals::flow::{self, Side, Sides};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Ofi>()?;
    module.add_class::<Mlofi>()?;
    module.add_class::<TradeImbalance>()?;
    module.add_function(wrap_pyfunction!(ofi, module)?)?;
    module.add_function(wrap_pyfunction!(mlofi, module)?)?;
    module.add_function(wrap_pyfunction!(trade_imbalance, module)?)
}

/// Four columns of a level.
pub struct SideColumns<'py>([Column<'py, i64>; 4]);

impl<'py> SideColumns<'py> {
    pub fn new(given: [&Bound<'py, PyAny>; 4]) -> PyResult<Self> {
        Ok(Self([
            column("bid_price_e6", given[0])?,
            column("bid_volume", given[1])?,
            column("ask_price_e6", given[2])?,
            column("ask_volume", given[3])?,
        ]))
    }

    pub fn sides(&self) -> Sides<'_> {
        let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] = &self.0;
        Sides {
            bid_price_e6: bid_price_e6.slice(),
            bid_volume: bid_volume.slice(),
            ask_price_e6: ask_price_e6.slice(),
            ask_volume: ask_volume.slice(),
        }
    }
}

#[pyfunction]
#[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, *, restart=None, out=None))]
fn ofi<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    restart: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let columns = SideColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
    let marks = optional_column::<u8>("restart", restart)?;
    let result = output::<i64>(py, out, columns.sides().bid_price_e6.len())?;
    let mut values = writable(&result)?;
    let (sides, marks, into) = (columns.sides(), marks.as_ref().map(Column::slice), values.as_slice_mut()?);
    py.detach(|| flow::ofi(sides, marks, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
#[derive(Default)]
struct Ofi(flow::Ofi);

#[pymethods]
impl Ofi {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update(&mut self, bid_price_e6: i64, bid_volume: i64, ask_price_e6: i64, ask_volume: i64) -> PyResult<i64> {
        let side = Side { bid_price_e6, bid_volume, ask_price_e6, ask_volume };
        side.check().map_err(refused)?;
        Ok(self.0.update(side))
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        bid_price_e6: &Bound<'py, PyAny>,
        bid_volume: &Bound<'py, PyAny>,
        ask_price_e6: &Bound<'py, PyAny>,
        ask_volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, i64>> {
        let columns = SideColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        let marks = optional_column::<u8>("restart", restart)?;
        let rows = columns.sides().bid_price_e6.len();
        let (result, validity) = (output::<i64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (sides, marks) = (columns.sides(), marks.as_ref().map(Column::slice));
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(sides, marks, into, Some(valid))).map_err(refused)?;
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
    fn value(&self) -> i64 {
        self.0.value()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}

#[pyfunction]
#[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, *, restart=None, out=None))]
fn mlofi<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    restart: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let columns = BookColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
    let marks = optional_column::<u8>("restart", restart)?;
    let book = columns.sides();
    flow::check_level_rows(&book).map_err(refused)?;
    let result = matrix::<i64>(py, out, [book.len(), columns.rows()])?;
    let mut values = writable_matrix(&result)?;
    let (marks, into) = (marks.as_ref().map(Column::slice), values.as_slice_mut()?);
    py.detach(|| flow::mlofi(&book, marks, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
struct Mlofi(flow::Mlofi);

#[pymethods]
impl Mlofi {
    #[new]
    #[pyo3(signature = (levels=5))]
    fn new(levels: i64) -> PyResult<Self> {
        flow::Mlofi::new(level_count(levels)?).map(Self).map_err(refused)
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update<'py>(
        &mut self,
        py: Python<'py>,
        bid_price_e6: &Bound<'py, PyAny>,
        bid_volume: &Bound<'py, PyAny>,
        ask_price_e6: &Bound<'py, PyAny>,
        ask_volume: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let levels = BookLevels::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        levels.sides().check_book(self.0.levels()).map_err(refused)?;
        PyTuple::new(py, self.0.update(levels.sides()))
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        bid_price_e6: &Bound<'py, PyAny>,
        bid_volume: &Bound<'py, PyAny>,
        ask_price_e6: &Bound<'py, PyAny>,
        ask_volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<JudgedLevels<'py, i64>> {
        let columns = BookColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        let marks = optional_column::<u8>("restart", restart)?;
        let book = columns.sides();
        flow::check_level_rows(&book).map_err(refused)?;
        let result = matrix::<i64>(py, None, [book.len(), columns.rows()])?;
        let validity = output::<u8>(py, None, columns.rows())?;
        let (mut values, mut valid) = (writable_matrix(&result)?, writable(&validity)?);
        let marks = marks.as_ref().map(Column::slice);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(&book, marks, into, Some(valid))).map_err(refused)?;
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
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}

#[pyfunction]
#[pyo3(signature = (side, volume, *, out=None))]
fn trade_imbalance<'py>(
    py: Python<'py>,
    side: &Bound<'py, PyAny>,
    volume: &Bound<'py, PyAny>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (side, volume) = (column::<u8>("side", side)?, column::<i64>("volume", volume)?);
    let result = output::<i64>(py, out, side.slice().len())?;
    let mut values = writable(&result)?;
    let (side, volume, into) = (side.slice(), volume.slice(), values.as_slice_mut()?);
    py.detach(|| flow::trade_imbalance(side, volume, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
#[derive(Default)]
struct TradeImbalance(flow::TradeImbalance);

#[pymethods]
impl TradeImbalance {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (side, volume, /))]
    fn update(&mut self, side: i64, volume: i64) -> PyResult<i64> {
        let side = flow::check_trade(side, volume).map_err(refused)?;
        Ok(self.0.update(side, volume))
    }

    #[pyo3(signature = (side, volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        side: &Bound<'py, PyAny>,
        volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, i64>> {
        let (side, volume) = (column::<u8>("side", side)?, column::<i64>("volume", volume)?);
        let marks = optional_column::<u8>("restart", restart)?;
        let (side, volume) = (side.slice(), volume.slice());
        let (result, validity) = (output::<i64>(py, None, side.len())?, output::<u8>(py, None, side.len())?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (marks, into) = (marks.as_ref().map(Column::slice), values.as_slice_mut()?);
        py.detach(|| self.0.update_many(side, volume, marks, into)).map_err(refused)?;
        valid.as_slice_mut()?.fill(self.0.validity() as u8);
        drop(values);
        drop(valid);
        Ok((result, validity))
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn taint(&mut self) {
        self.0.taint();
    }

    #[getter]
    fn value(&self) -> i64 {
        self.0.value()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
