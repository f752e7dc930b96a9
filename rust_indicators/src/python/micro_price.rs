//! Python's way to the micro-price. No rules: `signals/micro_price.rs` has them.
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{Column, Judged, optional_column, output, refused, writable};
use super::flow::SideColumns;
use crate::signals::flow::Side;
use crate::signals::micro_price::{self as kernel, Table};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MicroPrice>()?;
    module.add_function(wrap_pyfunction!(micro_price, module)?)
}

/// Rows of spreads, columns of buckets.
pub fn table_of(given: &Bound<'_, PyAny>) -> PyResult<Table> {
    let refuse = |reason: &str| PyValueError::new_err(format!("table: {reason}"));
    let wrong = |_| refuse("must be a 2-dimensional array of float64");
    let array = given.cast::<PyArray2<f64>>().map_err(wrong)?;
    let array = array.try_readonly().map_err(|_| refuse("is being written to"))?;
    if !array.is_c_contiguous() {
        return Err(refuse("is not contiguous: numpy.ascontiguousarray makes it so"));
    }
    Table::new(array.as_slice()?, array.shape()[0], array.shape()[1]).map_err(refused)
}

#[pyfunction]
fn micro_price<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    table: &Bound<'py, PyAny>,
    tick_size_e6: i64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let columns = SideColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
    let (sides, table) = (columns.sides(), table_of(table)?);
    let result = output::<f64>(py, None, sides.bid_price_e6.len())?;
    let mut values = writable(&result)?;
    let into = values.as_slice_mut()?;
    py.detach(|| kernel::micro_price(sides, &table, tick_size_e6, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
struct MicroPrice(kernel::MicroPrice);

#[pymethods]
impl MicroPrice {
    #[new]
    #[pyo3(signature = (table, tick_size_e6))]
    fn new(table: &Bound<'_, PyAny>, tick_size_e6: i64) -> PyResult<Self> {
        kernel::MicroPrice::new(table_of(table)?, tick_size_e6).map(Self).map_err(refused)
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update(&mut self, bid_price_e6: i64, bid_volume: i64, ask_price_e6: i64, ask_volume: i64) -> PyResult<f64> {
        let side = Side { bid_price_e6, bid_volume, ask_price_e6, ask_volume };
        kernel::MicroPrice::check(side).map_err(refused)?;
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
    ) -> PyResult<Judged<'py, f64>> {
        let columns = SideColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        let marks = optional_column::<u8>("restart", restart)?;
        let (sides, marks) = (columns.sides(), marks.as_ref().map(Column::slice));
        let rows = sides.bid_price_e6.len();
        let (result, validity) = (output::<f64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(sides, marks, into, valid)).map_err(refused)?;
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
    fn value(&self) -> f64 {
        self.0.value()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
