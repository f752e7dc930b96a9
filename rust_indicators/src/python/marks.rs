//! `RecordMarks` for Python. No rules: `marks.rs` has them.
use numpy::{IntoPyArray, PyArray1};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use super::continuity::whole;
use crate::marks::{Marker, TABLES, UNKNOWN_MINUTE};
use crate::record::records_of;

/// Goes through the records of one segment, chunk by chunk.
#[pyclass(module = "rust_indicators._rust")]
struct RecordMarks(Marker);

/// What is told of one chunk, as arrays.
#[pyclass(module = "rust_indicators._rust", frozen, get_all)]
struct ChunkMarks {
    minutes: Py<PyArray1<i64>>,
    minute_of: Py<PyArray1<i64>>,
    repeated: Py<PyArray1<bool>>,
    strange: Py<PyArray1<bool>>,
    orders: [Py<PyArray1<i64>>; TABLES],
    unknown_kind: Option<u8>,
}

#[pymethods]
impl RecordMarks {
    #[classattr]
    const UNKNOWN_MINUTE: i64 = UNKNOWN_MINUTE;

    #[new]
    fn new(believable_ns: (i64, i64), first_sequence: i64) -> RecordMarks {
        RecordMarks(Marker::new(believable_ns.0..believable_ns.1, first_sequence))
    }

    /// Whole 256-byte records of any kind, in order of sequence.
    fn mark(&mut self, py: Python<'_>, records: PyBuffer<u8>) -> PyResult<ChunkMarks> {
        let bytes = whole(&records)?;
        let marks = py.detach(|| self.0.mark(&records_of(bytes)));
        Ok(ChunkMarks {
            minutes: marks.minutes.into_pyarray(py).unbind(),
            minute_of: marks.minute_of.into_pyarray(py).unbind(),
            repeated: marks.repeated.into_pyarray(py).unbind(),
            strange: marks.strange.into_pyarray(py).unbind(),
            orders: marks.orders.map(|order| order.into_pyarray(py).unbind()),
            unknown_kind: marks.unknown_kind,
        })
    }

    /// [(first, last)] of the sequences up to `last` that no record had.
    fn missing_until(&self, last: i64) -> Vec<(i64, i64)> {
        self.0.missing_until(last)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RecordMarks>()?;
    module.add_class::<ChunkMarks>()
}
