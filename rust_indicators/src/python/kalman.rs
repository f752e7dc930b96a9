//! Python's way to the fair price. No rules: `signals/kalman.rs` has them.
use numpy::PyArray1;
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use crate::signals::kalman::{self, Observations};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LocalLevel>()?;
    module.add_function(wrap_pyfunction!(local_level, module)?)
}

struct Columns<'py>(Column<'py, i64>, Column<'py, f64>, Column<'py, f64>);

impl<'py> Columns<'py> {
    fn new(exchange_ns: &Bound<'py, PyAny>, price: &Bound<'py, PyAny>, variance: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self(column("exchange_ns", exchange_ns)?, column("price", price)?, column("variance", variance)?))
    }

    fn rows(&self) -> Observations<'_> {
        Observations { exchange_ns: self.0.slice(), price: self.1.slice(), variance: self.2.slice() }
    }
}

/// Fair prices, and their variances.
type Fair<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

#[pyfunction]
#[pyo3(signature = (exchange_ns, price, variance, q, *, restart=None))]
fn local_level<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    price: &Bound<'py, PyAny>,
    variance: &Bound<'py, PyAny>,
    q: f64,
    restart: Option<&Bound<'py, PyAny>>,
) -> PyResult<Fair<'py>> {
    let columns = Columns::new(exchange_ns, price, variance)?;
    let marks = optional_column::<u8>("restart", restart)?;
    let (rows, marks) = (columns.rows(), marks.as_ref().map(Column::slice));
    let count = rows.exchange_ns.len();
    let (fair, variances) = (output::<f64>(py, None, count)?, output::<f64>(py, None, count)?);
    let (mut into_fair, mut into_variances) = (writable(&fair)?, writable(&variances)?);
    let (a, b) = (into_fair.as_slice_mut()?, into_variances.as_slice_mut()?);
    py.detach(|| kalman::local_level(rows, q, marks, a, b)).map_err(refused)?;
    drop((into_fair, into_variances));
    Ok((fair, variances))
}

#[pyclass(module = "rust_indicators")]
struct LocalLevel(kalman::LocalLevel);

#[pymethods]
impl LocalLevel {
    #[new]
    #[pyo3(signature = (q))]
    fn new(q: f64) -> PyResult<Self> {
        kalman::LocalLevel::new(q).map(Self).map_err(refused)
    }

    #[pyo3(signature = (exchange_ns, price, variance, /))]
    fn update(&mut self, exchange_ns: i64, price: f64, variance: f64) -> PyResult<f64> {
        self.0.check(exchange_ns, price, variance).map_err(refused)?;
        Ok(self.0.update(exchange_ns, price, variance))
    }

    #[pyo3(signature = (exchange_ns, price, variance, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        exchange_ns: &Bound<'py, PyAny>,
        price: &Bound<'py, PyAny>,
        variance: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let columns = Columns::new(exchange_ns, price, variance)?;
        let marks = optional_column::<u8>("restart", restart)?;
        let (rows, marks) = (columns.rows(), marks.as_ref().map(Column::slice));
        let count = rows.exchange_ns.len();
        let (result, validity) = (output::<f64>(py, None, count)?, output::<u8>(py, None, count)?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
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
        self.0.value()
    }

    #[getter]
    fn variance(&self) -> f64 {
        self.0.variance()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
