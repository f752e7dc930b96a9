//! Python's way to covariance and lead–lag. No rules: `signals/correlation.rs` has them.
use numpy::PyArray1;
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use crate::signals::correlation::{self, Changes, Merged, Series};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HayashiYoshida>()?;
    module.add_class::<LeadLag>()?;
    module.add_function(wrap_pyfunction!(hayashi_yoshida, module)?)?;
    module.add_function(wrap_pyfunction!(lead_lag, module)?)?;
    module.add_function(wrap_pyfunction!(realised_variance, module)?)
}

/// A series, and what its arguments are called.
struct Given<'py> {
    names: [&'static str; 2],
    ns: Column<'py, i64>,
    price: Column<'py, f64>,
}

impl<'py> Given<'py> {
    fn new(names: [&'static str; 2], ns: &Bound<'py, PyAny>, price: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self { names, ns: column(names[0], ns)?, price: column(names[1], price)? })
    }

    fn changes(&self, py: Python<'py>) -> PyResult<Changes> {
        let ([ns, price], series) = (self.names, Series { ns: self.ns.slice(), price: self.price.slice() });
        series.check(ns, price).map_err(refused)?;
        Ok(py.detach(|| series.changes()))
    }
}

struct Pair(Changes, Changes);

impl Pair {
    fn new<'py>(py: Python<'py>, x: [&Bound<'py, PyAny>; 2], y: [&Bound<'py, PyAny>; 2]) -> PyResult<Self> {
        let (x, y) = (Given::new(["x_ns", "x"], x[0], x[1])?, Given::new(["y_ns", "y"], y[0], y[1])?);
        Ok(Self(x.changes(py)?, y.changes(py)?))
    }
}

#[pyfunction]
#[pyo3(signature = (x_ns, x, y_ns, y, lags_ns))]
fn hayashi_yoshida<'py>(
    py: Python<'py>,
    x_ns: &Bound<'py, PyAny>,
    x: &Bound<'py, PyAny>,
    y_ns: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    lags_ns: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let Pair(x, y) = Pair::new(py, [x_ns, x], [y_ns, y])?;
    let lags = column::<i64>("lags_ns", lags_ns)?;
    let result = output::<f64>(py, None, lags.slice().len())?;
    let mut values = writable(&result)?;
    let (lags, into) = (lags.slice(), values.as_slice_mut()?);
    py.detach(|| correlation::hayashi_yoshida(&x, &y, lags, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyfunction]
#[pyo3(signature = (x_ns, x, y_ns, y, lags_ns))]
fn lead_lag<'py>(
    py: Python<'py>,
    x_ns: &Bound<'py, PyAny>,
    x: &Bound<'py, PyAny>,
    y_ns: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    lags_ns: &Bound<'py, PyAny>,
) -> PyResult<LeadLag> {
    let Pair(x, y) = Pair::new(py, [x_ns, x], [y_ns, y])?;
    let lags = column::<i64>("lags_ns", lags_ns)?;
    let lags = lags.slice();
    let found = py.detach(|| correlation::lead_lag(&x, &y, lags)).map_err(refused)?;
    Ok(LeadLag {
        correlation: PyArray1::from_vec(py, found.correlation).unbind(),
        best_lag_ns: found.best_lag_ns,
        best_correlation: found.best_correlation,
        ratio: found.ratio,
    })
}

#[pyfunction]
#[pyo3(signature = (ns, price))]
fn realised_variance<'py>(py: Python<'py>, ns: &Bound<'py, PyAny>, price: &Bound<'py, PyAny>) -> PyResult<f64> {
    Ok(Given::new(["ns", "price"], ns, price)?.changes(py)?.realised_variance())
}

#[pyclass(module = "rust_indicators", frozen, get_all)]
struct LeadLag {
    correlation: Py<PyArray1<f64>>,
    best_lag_ns: i64,
    best_correlation: f64,
    ratio: f64,
}

#[pyclass(module = "rust_indicators")]
#[derive(Default)]
struct HayashiYoshida(correlation::HayashiYoshida);

#[pymethods]
impl HayashiYoshida {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (ns, price, /))]
    fn update_x(&mut self, ns: i64, price: f64) -> PyResult<f64> {
        self.0.check(ns, price).map_err(refused)?;
        Ok(self.0.update_x(ns, price))
    }

    #[pyo3(signature = (ns, price, /))]
    fn update_y(&mut self, ns: i64, price: f64) -> PyResult<f64> {
        self.0.check(ns, price).map_err(refused)?;
        Ok(self.0.update_y(ns, price))
    }

    #[pyo3(signature = (mark, ns, price, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        mark: &Bound<'py, PyAny>,
        ns: &Bound<'py, PyAny>,
        price: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let (mark, ns, price) = (column::<u8>("mark", mark)?, column::<i64>("ns", ns)?, column::<f64>("price", price)?);
        let marks = optional_column::<u8>("restart", restart)?;
        let rows = Merged { mark: mark.slice(), ns: ns.slice(), price: price.slice() };
        let (result, validity) = (output::<f64>(py, None, rows.mark.len())?, output::<u8>(py, None, rows.mark.len())?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (marks, into, valid) = (marks.as_ref().map(Column::slice), values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(rows, marks, into, valid)).map_err(refused)?;
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
        self.0.covariance()
    }

    #[getter]
    fn covariance(&self) -> f64 {
        self.0.covariance()
    }

    #[getter]
    fn correlation(&self) -> f64 {
        self.0.correlation()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
