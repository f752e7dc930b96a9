//! Python's way to every signal of every instrument. No rules: `signals/signal_set.rs` has them.
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::arrays::{refused, require_numpy};
use super::micro_price::table_of;
use crate::record::{RECORD_BYTES, Record, code_bytes, records_in};
use crate::signals::signal_set::{self, NAMES, Parameters, Reading, SIGNALS};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SignalSet>()
}

/// (place, values, validity), a row an event.
type Rows<'py> = (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<u8>>);

/// Every signal of every instrument: one call an event, whatever its code.
#[pyclass(module = "rust_indicators")]
struct SignalSet(signal_set::SignalSet);

type Hawkes = ([f64; 2], [[f64; 2]; 2], [[f64; 2]; 2]);

#[pymethods]
impl SignalSet {
    #[new]
    #[pyo3(signature = (*, tick_size_e6=1_000_000, window_ns=10_000_000_000, warm_up_windows=60, vpin_bucket_volume=1_000, vpin_buckets=50, impact_windows=180, roll_trades=1_000, fair_price_q=1e12, hawkes=None, micro_price=None))]
    #[expect(clippy::too_many_arguments, reason = "the parameters of all signals")]
    fn new(
        tick_size_e6: i64,
        window_ns: i64,
        warm_up_windows: u64,
        vpin_bucket_volume: i64,
        vpin_buckets: i64,
        impact_windows: i64,
        roll_trades: i64,
        fair_price_q: f64,
        hawkes: Option<Hawkes>,
        micro_price: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let parameters = Parameters {
            tick_size_e6,
            window_ns,
            warm_up_windows,
            vpin_bucket_volume,
            vpin_buckets,
            impact_windows,
            roll_trades,
            fair_price_q,
            hawkes,
            micro_price: micro_price.map(table_of).transpose()?,
        };
        Ok(Self(signal_set::SignalSet::new(parameters).map_err(refused)?))
    }

    #[pyo3(signature = (code, *, tick_size_e6=1_000_000, window_ns=10_000_000_000, warm_up_windows=60, vpin_bucket_volume=1_000, vpin_buckets=50, impact_windows=180, roll_trades=1_000, fair_price_q=1e12, hawkes=None, micro_price=None))]
    #[expect(clippy::too_many_arguments, reason = "the parameters of all signals")]
    fn add(
        &mut self,
        code: &str,
        tick_size_e6: i64,
        window_ns: i64,
        warm_up_windows: u64,
        vpin_bucket_volume: i64,
        vpin_buckets: i64,
        impact_windows: i64,
        roll_trades: i64,
        fair_price_q: f64,
        hawkes: Option<Hawkes>,
        micro_price: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let parameters = Parameters {
            tick_size_e6,
            window_ns,
            warm_up_windows,
            vpin_bucket_volume,
            vpin_buckets,
            impact_windows,
            roll_trades,
            fair_price_q,
            hawkes,
            micro_price: micro_price.map(table_of).transpose()?,
        };
        let code = code_bytes(code).ok_or_else(|| PyValueError::new_err("code: more than 16 bytes, or not ASCII"))?;
        self.0.add(code, parameters).map_err(refused)
    }

    /// What stands where in the values.
    #[classattr]
    fn names(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, NAMES)
    }

    /// Codes in the order of their places.
    #[getter]
    fn codes(&self) -> Vec<String> {
        let text = |code: &[u8]| String::from_utf8_lossy(code).trim_end_matches('\0').to_owned();
        self.0.codes().iter().map(|code| text(code)).collect()
    }

    /// One record: the place of its instrument, or −1.
    #[pyo3(signature = (record, /))]
    fn update(&mut self, record: PyBuffer<u8>) -> PyResult<i64> {
        let bytes = whole(&record)?;
        let record: &[u8; RECORD_BYTES] =
            bytes.try_into().map_err(|_| PyValueError::new_err("record: update takes one, update_many takes many"))?;
        Ok(self.0.update(&Record(*record)).map_or(-1, |place| place as i64))
    }

    /// Every record; how many were seen.
    #[pyo3(signature = (records, /))]
    fn advance(&mut self, py: Python<'_>, records: PyBuffer<u8>) -> PyResult<usize> {
        let bytes = whole(&records)?;
        Ok(py.detach(|| records_in(bytes).filter(|record| self.0.update(record).is_some()).count()))
    }

    /// Every record; what stood after each.
    #[pyo3(signature = (records, /))]
    fn update_many<'py>(&mut self, py: Python<'py>, records: PyBuffer<u8>) -> PyResult<Rows<'py>> {
        let bytes = whole(&records)?;
        require_numpy(py)?;
        let rows = bytes.len() / RECORD_BYTES;
        let places = PyArray1::zeros(py, rows, false);
        let values = PyArray2::zeros(py, [rows, SIGNALS], false);
        let validity = PyArray2::zeros(py, [rows, SIGNALS], false);
        {
            let (mut places, mut values, mut validity) = (places.readwrite(), values.readwrite(), validity.readwrite());
            let (places, values, validity) = (places.as_slice_mut()?, values.as_slice_mut()?, validity.as_slice_mut()?);
            py.detach(|| fill(&mut self.0, bytes, places, values, validity));
        }
        Ok((places, values, validity))
    }

    /// What stands after the last event of a code, by name.
    fn values<'py>(&self, py: Python<'py>, code: &str) -> PyResult<Bound<'py, PyDict>> {
        let reading = self.reading(code)?;
        let shown = PyDict::new(py);
        NAMES.iter().zip(reading.values).try_for_each(|(name, value)| shown.set_item(name, value))?;
        Ok(shown)
    }

    /// What each value of `values` is worth.
    fn validity<'py>(&self, py: Python<'py>, code: &str) -> PyResult<Bound<'py, PyDict>> {
        let reading = self.reading(code)?;
        let shown = PyDict::new(py);
        NAMES.iter().zip(reading.validity).try_for_each(|(name, value)| shown.set_item(name, value))?;
        Ok(shown)
    }

    /// Events are missing, of whatever instrument.
    fn missed(&mut self) {
        self.0.missed();
    }
}

impl SignalSet {
    fn reading(&self, code: &str) -> PyResult<&Reading> {
        let place = code_bytes(code).and_then(|code| self.0.find(&code));
        place.map(|place| self.0.reading(place)).ok_or_else(|| PyKeyError::new_err(code.to_owned()))
    }
}

fn fill(set: &mut signal_set::SignalSet, bytes: &[u8], places: &mut [i32], values: &mut [f64], validity: &mut [u8]) {
    let rows = values.chunks_exact_mut(SIGNALS).zip(validity.chunks_exact_mut(SIGNALS));
    for ((record, place), (values, validity)) in records_in(bytes).zip(places).zip(rows) {
        match set.update(&record) {
            Some(found) => {
                *place = found as i32;
                values.copy_from_slice(&set.reading(found).values);
                validity.copy_from_slice(&set.reading(found).validity);
            }
            None => {
                *place = -1;
                values.fill(f64::NAN);
            }
        }
    }
}

/// Whole records of a contiguous buffer.
fn whole(records: &PyBuffer<u8>) -> PyResult<&[u8]> {
    super::continuity::whole(records).map_err(|_| {
        let bytes = records.len_bytes();
        PyValueError::new_err(format!("records: {bytes} bytes are no whole records of {RECORD_BYTES}"))
    })
}
