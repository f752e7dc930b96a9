//! Python's way to `signals/impact.rs`, which has the rules.
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use crate::signals::impact;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<KyleLambda>()?;
    module.add_class::<Amihud>()?;
    module.add_class::<Roll>()?;
    module.add_function(wrap_pyfunction!(kyle_lambda, module)?)?;
    module.add_function(wrap_pyfunction!(amihud, module)?)?;
    module.add_function(wrap_pyfunction!(roll_spread, module)?)
}

#[pyfunction]
fn kyle_lambda(
    py: Python<'_>,
    price_change_e6: &Bound<'_, PyAny>,
    signed_volume: &Bound<'_, PyAny>,
) -> PyResult<(f64, f64, f64)> {
    let change = column::<i64>("price_change_e6", price_change_e6)?;
    let volume = column::<i64>("signed_volume", signed_volume)?;
    let (change, volume) = (change.slice(), volume.slice());
    let fit = py.detach(|| impact::kyle_lambda(change, volume)).map_err(refused)?;
    Ok((fit.slope, fit.intercept, fit.r_squared))
}

#[pyfunction]
fn amihud(py: Python<'_>, price_e6: &Bound<'_, PyAny>, value_e6: &Bound<'_, PyAny>) -> PyResult<f64> {
    let (price, value) = (column::<i64>("price_e6", price_e6)?, column::<i64>("value_e6", value_e6)?);
    let (price, value) = (price.slice(), value.slice());
    py.detach(|| impact::amihud(price, value)).map_err(refused)
}

#[pyfunction]
fn roll_spread(py: Python<'_>, price_e6: &Bound<'_, PyAny>) -> PyResult<f64> {
    let price = column::<i64>("price_e6", price_e6)?;
    let price = price.slice();
    py.detach(|| impact::roll_spread(price)).map_err(refused)
}

#[pyclass(module = "rust_indicators")]
struct KyleLambda(impact::KyleLambda);

#[pymethods]
impl KyleLambda {
    #[new]
    fn new(windows: i64) -> PyResult<Self> {
        impact::KyleLambda::new(windows).map(Self).map_err(refused)
    }

    #[pyo3(signature = (price_change_e6, signed_volume, /))]
    fn update(&mut self, price_change_e6: i64, signed_volume: i64) -> PyResult<f64> {
        impact::KyleLambda::check(price_change_e6, signed_volume).map_err(refused)?;
        Ok(self.0.update(price_change_e6, signed_volume))
    }

    #[pyo3(signature = (price_change_e6, signed_volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        price_change_e6: &Bound<'py, PyAny>,
        signed_volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let price_change_e6 = column::<i64>("price_change_e6", price_change_e6)?;
        let signed_volume = column::<i64>("signed_volume", signed_volume)?;
        let marks = optional_column::<u8>("restart", restart)?;
        let (price_change_e6, signed_volume, marks) =
            (price_change_e6.slice(), signed_volume.slice(), marks.as_ref().map(Column::slice));
        let rows = price_change_e6.len();
        let (result, validity) = (output::<f64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(price_change_e6, signed_volume, marks, into, valid)).map_err(refused)?;
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
    fn intercept(&self) -> f64 {
        self.0.fit().intercept
    }

    #[getter]
    fn r_squared(&self) -> f64 {
        self.0.fit().r_squared
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}

#[pyclass(module = "rust_indicators")]
struct Amihud(impact::Amihud);

#[pymethods]
impl Amihud {
    #[new]
    fn new(windows: i64) -> PyResult<Self> {
        impact::Amihud::new(windows).map(Self).map_err(refused)
    }

    #[pyo3(signature = (price_e6, value_e6, /))]
    fn update(&mut self, price_e6: i64, value_e6: i64) -> PyResult<f64> {
        impact::Amihud::check(price_e6, value_e6).map_err(refused)?;
        Ok(self.0.update(price_e6, value_e6))
    }

    #[pyo3(signature = (price_e6, value_e6, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        price_e6: &Bound<'py, PyAny>,
        value_e6: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let price_e6 = column::<i64>("price_e6", price_e6)?;
        let value_e6 = column::<i64>("value_e6", value_e6)?;
        let marks = optional_column::<u8>("restart", restart)?;
        let (price_e6, value_e6, marks) = (price_e6.slice(), value_e6.slice(), marks.as_ref().map(Column::slice));
        let rows = price_e6.len();
        let (result, validity) = (output::<f64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(price_e6, value_e6, marks, into, valid)).map_err(refused)?;
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

#[pyclass(module = "rust_indicators")]
struct Roll(impact::Roll);

#[pymethods]
impl Roll {
    #[new]
    fn new(trades: i64) -> PyResult<Self> {
        impact::Roll::new(trades).map(Self).map_err(refused)
    }

    #[pyo3(signature = (price_e6, /))]
    fn update(&mut self, price_e6: i64) -> PyResult<f64> {
        impact::Roll::check(price_e6).map_err(refused)?;
        Ok(self.0.update(price_e6))
    }

    #[pyo3(signature = (price_e6, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        price_e6: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let price_e6 = column::<i64>("price_e6", price_e6)?;
        let marks = optional_column::<u8>("restart", restart)?;
        let (price_e6, marks) = (price_e6.slice(), marks.as_ref().map(Column::slice));
        let rows = price_e6.len();
        let (result, validity) = (output::<f64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(price_e6, marks, into, valid)).map_err(refused)?;
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
