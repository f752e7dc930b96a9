//! Python's way to order flow imbalance. No rules: `signals/flow.rs` has them.
use numpy::PyArray1;
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use crate::signals::flow::{self, Side, Sides};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Ofi>()?;
    module.add_function(wrap_pyfunction!(ofi, module)?)
}

/// Four columns of a level.
struct SideColumns<'py>([Column<'py, i64>; 4]);

impl<'py> SideColumns<'py> {
    fn new(given: [&Bound<'py, PyAny>; 4]) -> PyResult<Self> {
        Ok(Self([
            column("bid_price_e6", given[0])?,
            column("bid_volume", given[1])?,
            column("ask_price_e6", given[2])?,
            column("ask_volume", given[3])?,
        ]))
    }

    fn sides(&self) -> Sides<'_> {
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
