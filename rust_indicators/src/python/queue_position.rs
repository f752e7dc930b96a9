//! Python's way to queue positions. No rules: `signals/queue_position.rs` has them.
use numpy::PyArray1;
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, output, refused, writable};
use crate::signals::queue_position::{self, Model, Rows, check_volume};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<QueuePosition>()?;
    module.add_function(wrap_pyfunction!(queue_positions, module)?)
}

struct RowColumns<'py>(Column<'py, u8>, Column<'py, i64>, Column<'py, i64>);

impl<'py> RowColumns<'py> {
    fn new(kind: &Bound<'py, PyAny>, before: &Bound<'py, PyAny>, now: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self(column("kind", kind)?, column("before", before)?, column("now", now)?))
    }

    fn rows(&self) -> Rows<'_> {
        Rows { kind: self.0.slice(), before: self.1.slice(), now: self.2.slice() }
    }
}

/// Front after each row, and the first row that filled the order.
type Fronts<'py> = (Bound<'py, PyArray1<f64>>, Option<usize>);

fn play<'py>(
    py: Python<'py>,
    state: &mut queue_position::QueuePosition,
    columns: &RowColumns<'py>,
) -> PyResult<Fronts<'py>> {
    let rows = columns.rows();
    let result = output::<f64>(py, None, rows.kind.len())?;
    let mut values = writable(&result)?;
    let into = values.as_slice_mut()?;
    let first = py.detach(|| state.update_many(rows, into)).map_err(refused)?;
    drop(values);
    Ok((result, first))
}

#[pyfunction]
#[pyo3(signature = (kind, before, now, model, lot_size, front_volume, *, power=None))]
#[allow(clippy::too_many_arguments)] // Python's keyword arguments
fn queue_positions<'py>(
    py: Python<'py>,
    kind: &Bound<'py, PyAny>,
    before: &Bound<'py, PyAny>,
    now: &Bound<'py, PyAny>,
    model: &str,
    lot_size: i64,
    front_volume: i64,
    power: Option<f64>,
) -> PyResult<Fronts<'py>> {
    let columns = RowColumns::new(kind, before, now)?;
    let mut state = QueuePosition::new(model, lot_size, front_volume, power)?;
    play(py, &mut state.0, &columns)
}

#[pyclass(module = "rust_indicators")]
struct QueuePosition(queue_position::QueuePosition);

#[pymethods]
impl QueuePosition {
    #[new]
    #[pyo3(signature = (model, lot_size, front_volume, *, power=None))]
    fn new(model: &str, lot_size: i64, front_volume: i64, power: Option<f64>) -> PyResult<Self> {
        let model = Model::new(model, power).map_err(refused)?;
        queue_position::QueuePosition::new(model, lot_size, front_volume).map(Self).map_err(refused)
    }

    #[pyo3(signature = (volume, /))]
    fn trade(&mut self, volume: i64) -> PyResult<i64> {
        check_volume("volume", volume).map_err(refused)?;
        Ok(self.0.trade(volume))
    }

    #[pyo3(signature = (before, now, /))]
    fn depth(&mut self, before: i64, now: i64) -> PyResult<()> {
        check_volume("before", before).map_err(refused)?;
        check_volume("now", now).map_err(refused)?;
        self.0.depth(before, now);
        Ok(())
    }

    fn traded_through(&mut self) {
        self.0.traded_through();
    }

    #[pyo3(signature = (kind, before, now))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        kind: &Bound<'py, PyAny>,
        before: &Bound<'py, PyAny>,
        now: &Bound<'py, PyAny>,
    ) -> PyResult<Judged<'py, f64>> {
        let (front, _) = play(py, &mut self.0, &RowColumns::new(kind, before, now)?)?;
        let validity = output::<u8>(py, None, numpy::PyUntypedArrayMethods::len(&front))?;
        writable(&validity)?.as_slice_mut()?.fill(self.0.validity() as u8);
        Ok((front, validity))
    }

    #[pyo3(signature = (front_volume, /))]
    fn reset(&mut self, front_volume: i64) -> PyResult<()> {
        self.0.reset(front_volume).map_err(refused)
    }

    fn taint(&mut self) {
        self.0.taint();
    }

    #[getter]
    fn front(&self) -> f64 {
        self.0.front()
    }

    #[getter]
    fn value(&self) -> f64 {
        self.0.front()
    }

    #[getter]
    fn filled(&self) -> bool {
        self.0.filled()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
