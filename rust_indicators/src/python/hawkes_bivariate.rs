//! Python's way to the intensities of two kinds of events. No rules: `signals/hawkes_bivariate.rs` has them.
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{Column, column, optional_column, output, refused, writable};
use crate::signals::hawkes_bivariate::{self as bivariate, Events, Matrix, Pair, Rates};
use crate::signals::hawkes_bivariate_likelihood as likelihood;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BivariateHawkes>()?;
    module.add_function(wrap_pyfunction!(bivariate_hawkes_gradient, module)?)?;
    module.add_function(wrap_pyfunction!(bivariate_hawkes_intensity, module)?)?;
    module.add_function(wrap_pyfunction!(bivariate_hawkes_log_likelihood, module)?)?;
    module.add_function(wrap_pyfunction!(bivariate_hawkes_residuals, module)?)?;
    module.add_function(wrap_pyfunction!(distinct_marked_stamps, module)?)?;
    module.add_function(wrap_pyfunction!(spectral_radius, module)?)
}

fn pair(argument: &str, given: &Bound<'_, PyAny>) -> PyResult<Pair> {
    given.extract().map_err(|_| PyValueError::new_err(format!("{argument}: must be 2 numbers")))
}

fn matrix(argument: &str, given: &Bound<'_, PyAny>) -> PyResult<Matrix> {
    given.extract().map_err(|_| PyValueError::new_err(format!("{argument}: must be 2 × 2 numbers")))
}

fn rates(mu: &Bound<'_, PyAny>, alpha: &Bound<'_, PyAny>, beta: &Bound<'_, PyAny>) -> PyResult<Rates> {
    Rates::new(pair("mu", mu)?, matrix("alpha", alpha)?, matrix("beta", beta)?).map_err(refused)
}

/// A row a kind, to write the results into: the array given, or a new one.
fn two_rows<'py>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
    rows: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let Some(given) = given else {
        return Ok(PyArray2::zeros(py, [2, rows], false));
    };
    match given.cast::<PyArray2<f64>>() {
        Ok(array) if array.shape() == [2, rows] && array.is_c_contiguous() => Ok(array.clone()),
        _ => Err(PyValueError::new_err(format!("out: must be a contiguous array of float64, 2 × {rows}"))),
    }
}

fn writable_rows<'py>(array: &Bound<'py, PyArray2<f64>>) -> PyResult<PyReadwriteArray2<'py, f64>> {
    array.try_readwrite().map_err(|_| PyValueError::new_err("out: is read-only, or one of the inputs"))
}

fn split<'a>(values: &'a mut PyReadwriteArray2<'_, f64>) -> PyResult<[&'a mut [f64]; 2]> {
    let values = values.as_slice_mut()?;
    Ok(values.split_at_mut(values.len() / 2).into())
}

#[pyfunction]
fn spectral_radius(alpha: &Bound<'_, PyAny>, beta: &Bound<'_, PyAny>) -> PyResult<f64> {
    bivariate::spectral_radius(matrix("alpha", alpha)?, matrix("beta", beta)?).map_err(refused)
}

/// Of both kinds, a row each, and what they are worth.
type Judged<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<u8>>);
type Distinct<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<u8>>);

#[pyfunction]
fn distinct_marked_stamps<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    mark: &Bound<'py, PyAny>,
) -> PyResult<Distinct<'py>> {
    let (stamps, mark) = (column::<i64>("exchange_ns", exchange_ns)?, column::<u8>("mark", mark)?);
    let (stamps, mark) = (stamps.slice(), mark.slice());
    let (stamps, mark) = py.detach(|| bivariate::distinct_marked_stamps(stamps, mark)).map_err(refused)?;
    Ok((PyArray1::from_vec(py, stamps), PyArray1::from_vec(py, mark)))
}

#[pyfunction]
#[pyo3(signature = (exchange_ns, mark, mu, alpha, beta, *, restart=None, out=None))]
#[expect(clippy::too_many_arguments, reason = "Python's keywords")]
fn bivariate_hawkes_intensity<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    mark: &Bound<'py, PyAny>,
    mu: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    beta: &Bound<'py, PyAny>,
    restart: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (stamps, mark) = (column::<i64>("exchange_ns", exchange_ns)?, column::<u8>("mark", mark)?);
    let rates = rates(mu, alpha, beta)?;
    let marks = optional_column::<u8>("restart", restart)?;
    let result = two_rows(py, out, stamps.slice().len())?;
    let mut values = writable_rows(&result)?;
    let (stamps, mark, marks) = (stamps.slice(), mark.slice(), marks.as_ref().map(Column::slice));
    let into = split(&mut values)?;
    py.detach(|| bivariate::intensity(rates, stamps, mark, marks, into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "Python's keywords")]
fn bivariate_hawkes_log_likelihood(
    py: Python<'_>,
    exchange_ns: &Bound<'_, PyAny>,
    mark: &Bound<'_, PyAny>,
    mu: &Bound<'_, PyAny>,
    alpha: &Bound<'_, PyAny>,
    beta: &Bound<'_, PyAny>,
    start_ns: i64,
    end_ns: i64,
) -> PyResult<f64> {
    let (stamps, mark) = (column::<i64>("exchange_ns", exchange_ns)?, column::<u8>("mark", mark)?);
    let rates = rates(mu, alpha, beta)?;
    let (stamps, mark) = (stamps.slice(), mark.slice());
    py.detach(|| likelihood::log_likelihood(&rates, Events::new(stamps, mark)?, start_ns, end_ns)).map_err(refused)
}

type OfEach<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);
type Slopes<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>);

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "Python's keywords")]
fn bivariate_hawkes_gradient<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    mark: &Bound<'py, PyAny>,
    mu: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    beta: &Bound<'py, PyAny>,
    start_ns: i64,
    end_ns: i64,
) -> PyResult<Slopes<'py>> {
    let (stamps, mark) = (column::<i64>("exchange_ns", exchange_ns)?, column::<u8>("mark", mark)?);
    let rates = rates(mu, alpha, beta)?;
    let (stamps, mark) = (stamps.slice(), mark.slice());
    let by =
        py.detach(|| likelihood::gradient(&rates, Events::new(stamps, mark)?, start_ns, end_ns)).map_err(refused)?;
    let square = |of: Matrix| PyArray2::from_vec2(py, &of.map(Vec::from)).map_err(PyErr::from);
    Ok((PyArray1::from_slice(py, &by.mu), square(by.alpha)?, square(by.beta)?))
}

#[pyfunction]
fn bivariate_hawkes_residuals<'py>(
    py: Python<'py>,
    exchange_ns: &Bound<'py, PyAny>,
    mark: &Bound<'py, PyAny>,
    mu: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    beta: &Bound<'py, PyAny>,
) -> PyResult<OfEach<'py>> {
    let (stamps, mark) = (column::<i64>("exchange_ns", exchange_ns)?, column::<u8>("mark", mark)?);
    let rates = rates(mu, alpha, beta)?;
    let (stamps, mark) = (stamps.slice(), mark.slice());
    let [first, second] =
        py.detach(|| Ok(likelihood::residuals(&rates, Events::new(stamps, mark)?))).map_err(refused)?;
    Ok((PyArray1::from_vec(py, first), PyArray1::from_vec(py, second)))
}

#[pyclass(module = "rust_indicators")]
struct BivariateHawkes(bivariate::BivariateHawkes);

#[pymethods]
impl BivariateHawkes {
    #[new]
    fn new(mu: &Bound<'_, PyAny>, alpha: &Bound<'_, PyAny>, beta: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(bivariate::BivariateHawkes::of(rates(mu, alpha, beta)?)))
    }

    #[pyo3(signature = (exchange_ns, mark, /))]
    fn update(&mut self, exchange_ns: i64, mark: u8) -> PyResult<(f64, f64)> {
        self.0.check(exchange_ns, mark).map_err(refused)?;
        Ok(self.0.update(exchange_ns, mark).into())
    }

    #[pyo3(signature = (exchange_ns, /))]
    fn intensity_at(&self, exchange_ns: i64) -> PyResult<(f64, f64)> {
        self.0.intensity_at(exchange_ns).map(Into::into).map_err(refused)
    }

    #[pyo3(signature = (exchange_ns, mark, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        exchange_ns: &Bound<'py, PyAny>,
        mark: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py>> {
        let (stamps, mark) = (column::<i64>("exchange_ns", exchange_ns)?, column::<u8>("mark", mark)?);
        let marks = optional_column::<u8>("restart", restart)?;
        let rows = stamps.slice().len();
        let (result, validity) = (two_rows(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (writable_rows(&result)?, writable(&validity)?);
        let (stamps, mark, marks) = (stamps.slice(), mark.slice(), marks.as_ref().map(Column::slice));
        let (into, valid) = (split(&mut values)?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(stamps, mark, marks, into, Some(valid))).map_err(refused)?;
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
    fn value(&self) -> (f64, f64) {
        self.0.intensity().into()
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
