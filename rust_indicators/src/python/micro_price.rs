//! Python's way to the micro-price. No rules: `signals/micro_price.rs` has them.
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::arrays::{Column, Judged, optional_column, output, refused, writable};
use super::flow::SideColumns;
use crate::signals::flow::Side;
use crate::signals::{Refused, micro_price as kernel};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MicroPrice>()?;
    module.add_function(wrap_pyfunction!(micro_price, module)?)
}

/// Rows of spreads, columns of buckets.
pub fn table(given: &Bound<'_, PyAny>, tick_size_e6: i64) -> PyResult<kernel::Table> {
    let wrong = || refused(Refused::new("table", "must be a contiguous 2-dimensional array of float64"));
    let array = given.cast::<PyArray2<f64>>().map_err(|_| wrong())?;
    let readable = array.try_readonly().map_err(|_| wrong())?;
    if !array.is_c_contiguous() {
        return Err(wrong());
    }
    kernel::Table::new(readable.as_slice()?, array.shape()[1], tick_size_e6).map_err(refused)
}

#[pyfunction]
#[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, table, tick_size_e6))]
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
    let (table, sides) = (self::table(table, tick_size_e6)?, columns.sides());
    let result = output::<f64>(py, None, sides.bid_price_e6.len())?;
    let mut values = writable(&result)?;
    let into = values.as_slice_mut()?;
    py.detach(|| kernel::micro_price(sides, &table, into)).map_err(refused)?;
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
        Ok(Self(kernel::MicroPrice::new(self::table(table, tick_size_e6)?)))
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update(&mut self, bid_price_e6: i64, bid_volume: i64, ask_price_e6: i64, ask_volume: i64) -> PyResult<f64> {
        let side = Side { bid_price_e6, bid_volume, ask_price_e6, ask_volume };
        kernel::check(side).map_err(refused)?;
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
        let sides = columns.sides();
        let rows = sides.bid_price_e6.len();
        let (result, validity) = (output::<f64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let marks = marks.as_ref().map(Column::slice);
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
