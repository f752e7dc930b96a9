//! Python's way to integrated OFI. No rules: `signals/integrated.rs` has them.
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use super::levels::{Levels, level_columns, level_count};
use crate::signals::{Refused, integrated};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<IntegratedOfi>()?;
    module.add_function(wrap_pyfunction!(ofi_weights, module)?)?;
    module.add_function(wrap_pyfunction!(integrated_ofi, module)?)?;
    module.add_function(wrap_pyfunction!(integrated_ofi_past, module)?)
}

fn slices<'a>(columns: &'a [Column<'_, f64>]) -> Vec<&'a [f64]> {
    columns.iter().map(Column::slice).collect()
}

#[pyfunction]
fn ofi_weights<'py>(py: Python<'py>, normalised: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let columns = level_columns::<f64>("normalised", normalised)?;
    let levels = slices(&columns);
    py.detach(|| integrated::ofi_weights(&levels)).map(|weights| PyArray1::from_vec(py, weights)).map_err(refused)
}

#[pyfunction]
fn integrated_ofi<'py>(
    py: Python<'py>,
    normalised: &Bound<'py, PyAny>,
    weights: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (columns, weights) = (level_columns::<f64>("normalised", normalised)?, column::<f64>("weights", weights)?);
    let (levels, weights) = (slices(&columns), weights.slice());
    let result = output::<f64>(py, None, levels[0].len())?;
    let mut out = writable(&result)?;
    let into = out.as_slice_mut()?;
    py.detach(|| integrated::integrated_ofi(&levels, weights, into)).map_err(refused)?;
    drop(out);
    Ok(result)
}

/// So many windows, at least 0: what is below is refused with the rest.
fn windows(warm_up: i64) -> PyResult<u64> {
    u64::try_from(warm_up).map_err(|_| refused(Refused::new("warm_up", format!("{warm_up} is not 2 or more"))))
}

#[pyfunction]
fn integrated_ofi_past<'py>(
    py: Python<'py>,
    normalised: &Bound<'py, PyAny>,
    warm_up: i64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let columns = level_columns::<f64>("normalised", normalised)?;
    let levels = slices(&columns);
    let mut state = integrated::IntegratedOfi::new(levels.len(), windows(warm_up)?).map_err(refused)?;
    let result = output::<f64>(py, None, levels[0].len())?;
    let mut out = writable(&result)?;
    let into = out.as_slice_mut()?;
    py.detach(|| state.update_many(&levels, None, into, None)).map_err(refused)?;
    drop(out);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
struct IntegratedOfi(integrated::IntegratedOfi);

#[pymethods]
impl IntegratedOfi {
    #[new]
    fn new(levels: i64, warm_up: i64) -> PyResult<Self> {
        integrated::IntegratedOfi::new(level_count(levels)?, windows(warm_up)?).map(Self).map_err(refused)
    }

    #[pyo3(signature = (normalised, /))]
    fn update(&mut self, normalised: &Bound<'_, PyAny>) -> PyResult<f64> {
        let window = Levels::<f64>::new("normalised", normalised)?;
        if window.slice().len() != self.0.levels() {
            let reason = format!("has {} levels, not {}", window.slice().len(), self.0.levels());
            return Err(refused(Refused::new("normalised", reason)));
        }
        integrated::check_window(window.slice()).map_err(refused)?;
        Ok(self.0.update(window.slice()))
    }

    #[pyo3(signature = (normalised, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        normalised: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let columns = level_columns::<f64>("normalised", normalised)?;
        let marks = optional_column::<u8>("restart", restart)?;
        let levels = slices(&columns);
        let (result, validity) = (output::<f64>(py, None, levels[0].len())?, output::<u8>(py, None, levels[0].len())?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let marks = marks.as_ref().map(Column::slice);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(&levels, marks, into, Some(valid))).map_err(refused)?;
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
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.weights())
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
