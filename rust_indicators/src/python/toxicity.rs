//! Python's way to `signals/toxicity.rs` and `signals/bulk_volume.rs`, which have the rules.
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use super::arrays::{Column, Judged, column, optional_column, output, refused, writable};
use crate::signals::bulk_volume::{self, check_bar};
use crate::signals::toxicity::{self, Completed};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Vpin>()?;
    module.add_class::<BulkVpin>()?;
    module.add_function(wrap_pyfunction!(vpin, module)?)?;
    module.add_function(wrap_pyfunction!(bulk_vpin, module)?)
}

/// Values of the completed buckets and the row that completed each.
type Buckets<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<i64>>);

fn arrays(py: Python<'_>, completed: Completed) -> Buckets<'_> {
    (completed.values.into_pyarray(py), completed.last_row.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (side, volume, bucket_volume, buckets=50, *, restart=None))]
fn vpin<'py>(
    py: Python<'py>,
    side: &Bound<'py, PyAny>,
    volume: &Bound<'py, PyAny>,
    bucket_volume: i64,
    buckets: i64,
    restart: Option<&Bound<'py, PyAny>>,
) -> PyResult<Buckets<'py>> {
    let (side, volume) = (column::<u8>("side", side)?, column::<i64>("volume", volume)?);
    let marks = optional_column::<u8>("restart", restart)?;
    let (side, volume, marks) = (side.slice(), volume.slice(), marks.as_ref().map(Column::slice));
    let completed = py.detach(|| toxicity::vpin(side, volume, bucket_volume, buckets, marks)).map_err(refused)?;
    Ok(arrays(py, completed))
}

#[pyclass(module = "rust_indicators")]
struct Vpin(toxicity::Vpin);

#[pymethods]
impl Vpin {
    #[new]
    #[pyo3(signature = (bucket_volume, buckets=50))]
    fn new(bucket_volume: i64, buckets: i64) -> PyResult<Self> {
        toxicity::Vpin::new(bucket_volume, buckets).map(Self).map_err(refused)
    }

    #[pyo3(signature = (side, volume, /))]
    fn update(&mut self, side: i64, volume: i64) -> PyResult<f64> {
        toxicity::check_trade(side, volume).map_err(refused)?;
        Ok(self.0.update(side as u8, volume))
    }

    #[pyo3(signature = (side, volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        side: &Bound<'py, PyAny>,
        volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let (side, volume) = (column::<u8>("side", side)?, column::<i64>("volume", volume)?);
        let marks = optional_column::<u8>("restart", restart)?;
        let (side, volume, marks) = (side.slice(), volume.slice(), marks.as_ref().map(Column::slice));
        let (result, validity) = (output::<f64>(py, None, side.len())?, output::<u8>(py, None, side.len())?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(side, volume, marks, into, valid)).map_err(refused)?;
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

#[pyfunction]
#[pyo3(signature = (price_e6, volume, bucket_volume, buckets=50, *, sigma=None, previous_close_e6=None, restart=None))]
#[expect(clippy::too_many_arguments, reason = "what Python calls it with")]
fn bulk_vpin<'py>(
    py: Python<'py>,
    price_e6: &Bound<'py, PyAny>,
    volume: &Bound<'py, PyAny>,
    bucket_volume: i64,
    buckets: i64,
    sigma: Option<f64>,
    previous_close_e6: Option<i64>,
    restart: Option<&Bound<'py, PyAny>>,
) -> PyResult<Buckets<'py>> {
    let state = bulk_volume::BulkVpin::new(bucket_volume, buckets, sigma, previous_close_e6).map_err(refused)?;
    let (price, volume) = (column::<i64>("price_e6", price_e6)?, column::<i64>("volume", volume)?);
    let marks = optional_column::<u8>("restart", restart)?;
    let (price, volume, marks) = (price.slice(), volume.slice(), marks.as_ref().map(Column::slice));
    let completed = py.detach(|| bulk_volume::bulk_vpin(price, volume, state, marks)).map_err(refused)?;
    Ok(arrays(py, completed))
}

#[pyclass(module = "rust_indicators")]
struct BulkVpin(bulk_volume::BulkVpin);

#[pymethods]
impl BulkVpin {
    #[new]
    #[pyo3(signature = (bucket_volume, buckets=50, *, sigma=None, previous_close_e6=None))]
    fn new(bucket_volume: i64, buckets: i64, sigma: Option<f64>, previous_close_e6: Option<i64>) -> PyResult<Self> {
        bulk_volume::BulkVpin::new(bucket_volume, buckets, sigma, previous_close_e6).map(Self).map_err(refused)
    }

    #[pyo3(signature = (price_e6, volume, /))]
    fn update(&mut self, price_e6: i64, volume: i64) -> PyResult<f64> {
        check_bar(price_e6, volume).map_err(refused)?;
        Ok(self.0.update(price_e6, volume))
    }

    #[pyo3(signature = (price_e6, volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        price_e6: &Bound<'py, PyAny>,
        volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, f64>> {
        let (price, volume) = (column::<i64>("price_e6", price_e6)?, column::<i64>("volume", volume)?);
        let marks = optional_column::<u8>("restart", restart)?;
        let (price, volume, marks) = (price.slice(), volume.slice(), marks.as_ref().map(Column::slice));
        let (result, validity) = (output::<f64>(py, None, price.len())?, output::<u8>(py, None, price.len())?);
        let (mut values, mut valid) = (writable(&result)?, writable(&validity)?);
        let (into, valid) = (values.as_slice_mut()?, valid.as_slice_mut()?);
        py.detach(|| self.0.update_many(price, volume, marks, into, valid)).map_err(refused)?;
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
