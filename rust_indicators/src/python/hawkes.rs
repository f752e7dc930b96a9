//! Python's way to the intensity of one kind of event. No rules: `signals/hawkes.rs` has them.
use numpy::PyArray1;
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use crate::signals::hawkes::{self, Rates};
use crate::signals::hawkes_likelihood as likelihood;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Hawkes>()?;
    module.add_function(wrap_pyfunction!(branching_ratio, module)?)?;
    module.add_function(wrap_pyfunction!(distinct_stamps, module)?)?;
    module.add_function(wrap_pyfunction!(hawkes_gradient, module)?)?;
    module.add_function(wrap_pyfunction!(hawkes_intensity, module)?)?;
    module.add_function(wrap_pyfunction!(hawkes_log_likelihood, module)?)?;
    module.add_function(wrap_pyfunction!(hawkes_residuals, module)?)
}

#[pyfunction]
fn branching_ratio(alpha: f64, beta: f64) -> PyResult<f64> {
    hawkes::branching_ratio(alpha, beta).map_err(refused)
}

#[pyfunction]
fn distinct_stamps<'py>(py: Python<'py>, exchange_ns: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let stamps = column::<i64>("exchange_ns", exchange_ns)?;
    let stamps = stamps.slice();
    Ok(PyArray1::from_vec(py, py.detach(|| hawkes::distinct_stamps(stamps)).map_err(refused)?))
}

#[pyfunction]
#[pyo3(signature = (exchange_ns, mu, alpha, beta, *, restart=None, out=None))]
fn hawkes_intensity<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    mu: f64,
    alpha: f64,
    beta: f64,
    restart: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let stamps = column::<i64>("exchange_ns", exchange_ns)?;
    let rates = Rates::new(mu, alpha, beta).map_err(refused)?;
    let marks = optional_column::<u8>("restart", restart)?;
    let result = output::<f64>(py, out, stamps.slice().len())?;
    let mut values = writable(&result)?;
    let (stamps, marks, into) = (stamps.slice(), marks.as_ref().map(Column::slice), values.as_slice_mut()?);
    py.detach(|| hawkes::intensity(rates, stamps, marks, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyfunction]
fn hawkes_log_likelihood(
    py: Python<'_>,
    exchange_ns: &Bound<'_, PyAny>,
    mu: f64,
    alpha: f64,
    beta: f64,
    start_ns: i64,
    end_ns: i64,
) -> PyResult<f64> {
    let stamps = column::<i64>("exchange_ns", exchange_ns)?;
    let rates = Rates::new(mu, alpha, beta).map_err(refused)?;
    let stamps = stamps.slice();
    py.detach(|| likelihood::log_likelihood(rates, stamps, start_ns, end_ns)).map_err(refused)
}

#[pyfunction]
fn hawkes_gradient(
    py: Python<'_>,
    exchange_ns: &Bound<'_, PyAny>,
    mu: f64,
    alpha: f64,
    beta: f64,
    start_ns: i64,
    end_ns: i64,
) -> PyResult<(f64, f64, f64)> {
    let stamps = column::<i64>("exchange_ns", exchange_ns)?;
    let rates = Rates::new(mu, alpha, beta).map_err(refused)?;
    let stamps = stamps.slice();
    let [by_mu, by_alpha, by_beta] =
        py.detach(|| likelihood::gradient(rates, stamps, start_ns, end_ns)).map_err(refused)?;
    Ok((by_mu, by_alpha, by_beta))
}

#[pyfunction]
fn hawkes_residuals<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    mu: f64,
    alpha: f64,
    beta: f64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let stamps = column::<i64>("exchange_ns", exchange_ns)?;
    let rates = Rates::new(mu, alpha, beta).map_err(refused)?;
    let result = output::<f64>(py, None, stamps.slice().len().saturating_sub(1))?;
    let mut values = writable(&result)?;
    let (stamps, into) = (stamps.slice(), values.as_slice_mut()?);
    py.detach(|| likelihood::residuals(rates, stamps, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyclass(module = "rust_indicators")]
struct Hawkes(hawkes::Hawkes);

#[pymethods]
impl Hawkes {
    #[new]
    fn new(mu: f64, alpha: f64, beta: f64) -> PyResult<Self> {
        Ok(Self(hawkes::Hawkes::new(Rates::new(mu, alpha, beta).map_err(refused)?)))
    }

    #[pyo3(signature = (exchange_ns, /))]
    fn update(&mut self, exchange_ns: i64) -> PyResult<f64> {
        self.0.check(exchange_ns).map_err(refused)?;
        Ok(self.0.update(exchange_ns))
    }

    #[pyo3(signature = (exchange_ns, /))]
    fn intensity_at(&self, exchange_ns: i64) -> PyResult<f64> {
        self.0.intensity_at(exchange_ns).map_err(refused)
    }

    #[pyo3(signature = (exchange_ns, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        exchange_ns: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let stamps = column::<i64>("exchange_ns", exchange_ns)?;
        let marks = optional_column::<u8>("restart", restart)?;
        let rows = stamps.slice().len();
        let (result, validity) = (output::<f64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (stamps, marks) = (stamps.slice(), marks.as_ref().map(Column::slice));
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(stamps, marks, into, Some(valid))).map_err(refused)?;
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
