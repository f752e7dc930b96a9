//! The log from Python: reading segments, writing imported ones, recovering after a crash.
use std::path::PathBuf;
use std::time::Duration;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::continuity::whole;
use crate::continuity::Continuity;
use crate::disk::Disk;
use crate::intake::row_of;
use crate::record::{RECORD_BYTES, Record, records_in};
use crate::record_layout::{constants, layout};
use crate::segment::{self, End, Problem};
use crate::wal::{Durability, Log, WalConfig, log_slot, next_rotation_ns};

type ProblemRow = (u64, u64, u64, u64, String);

/// The continuity state after every trade of these segments: what a restarted recorder carries on from.
pub fn continuity_of(paths: Vec<PathBuf>) -> PyResult<Continuity> {
    let mut continuity = Continuity::new();
    let mut records = Vec::new();
    for path in paths {
        let mut reader = segment::SegmentReader::open(&path).map_err(PyValueError::new_err)?;
        while reader.next_block(&mut records)? {
            continuity.observe_batch(&records, row_of, |_, _, _| ());
            records.clear();
        }
    }
    continuity.count_anew();
    Ok(continuity)
}

pub fn bytes<'py>(py: Python<'py>, records: &[Record]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, records.len() * RECORD_BYTES, |out| {
        for (place, record) in out.chunks_exact_mut(RECORD_BYTES).zip(records) {
            place.copy_from_slice(&record.0);
        }
        Ok(())
    })
}

pub fn end_name(end: End) -> &'static str {
    match end {
        End::More => "more",
        End::Sealed => "sealed",
        End::Open => "open",
        End::Torn => "torn",
    }
}

fn row(problem: &Problem) -> ProblemRow {
    (problem.offset, problem.length, problem.first_sequence, problem.count, problem.message.clone())
}

/// Reads one segment; of one that is being written, what is there so far.
#[pyclass(module = "rust_indicators._rust")]
pub struct SegmentReader {
    reader: segment::SegmentReader,
    pending: Vec<Record>,
}

impl SegmentReader {
    /// Every block is decoded where it shall lie, but for the last, of which the rest waits for the next call.
    fn fill(&mut self, rows: &mut [Record]) -> std::io::Result<usize> {
        let mut filled = self.take_pending(rows);
        while filled < rows.len() {
            let mut chunk = segment::Chunk { rows, filled, over: &mut self.pending };
            let more = self.reader.next_block(&mut chunk)?;
            filled = chunk.filled;
            filled += self.take_pending(&mut rows[filled..]);
            if !more {
                break;
            }
        }
        Ok(filled)
    }

    fn take_pending(&mut self, rows: &mut [Record]) -> usize {
        let count = self.pending.len().min(rows.len());
        rows[..count].copy_from_slice(&self.pending[..count]);
        self.pending.drain(..count);
        count
    }
}

#[pymethods]
impl SegmentReader {
    #[new]
    fn new(path: PathBuf) -> PyResult<SegmentReader> {
        let reader = segment::SegmentReader::open(&path).map_err(PyValueError::new_err)?;
        Ok(SegmentReader { reader, pending: Vec::new() })
    }

    /// The next records, at least `max_records` unless the segment ends; `b""` at the end.
    fn read<'py>(&mut self, py: Python<'py>, max_records: usize) -> PyResult<Bound<'py, PyBytes>> {
        py.detach(|| -> std::io::Result<()> {
            while self.pending.len() < max_records && self.reader.next_block(&mut self.pending)? {}
            Ok(())
        })?;
        let count = self.pending.len().min(max_records);
        let out = bytes(py, &self.pending[..count])?;
        self.pending.drain(..count);
        Ok(out)
    }

    /// Fills a writable buffer with the next records and returns how many; fewer than fit only at the end.
    fn read_into(&mut self, py: Python<'_>, buffer: PyBuffer<u8>) -> PyResult<usize> {
        whole(&buffer)?;
        if buffer.readonly() {
            return Err(PyValueError::new_err("the buffer is read-only"));
        }
        if buffer.len_bytes() == 0 {
            return Ok(0); // an empty buffer may point nowhere
        }
        let rows = buffer.buf_ptr().cast::<Record>();
        if !rows.is_aligned() {
            return Err(PyValueError::new_err("the buffer must begin at a multiple of 8 bytes, as NumPy's do"));
        }
        // SAFETY: contiguous, aligned and writable, alive as long as the buffer; our callers do not use it meanwhile.
        let rows = unsafe { std::slice::from_raw_parts_mut(rows, buffer.len_bytes() / RECORD_BYTES) };
        py.detach(|| self.fill(rows)).map_err(PyErr::from)
    }

    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.reader.header_json)
    }

    /// The footer of a sealed segment, once reading has reached it.
    #[getter]
    fn footer<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.reader.footer_json.as_ref().map(|json| PyBytes::new(py, json))
    }

    #[getter]
    fn problems(&self) -> Vec<ProblemRow> {
        self.reader.problems.iter().map(row).collect()
    }

    #[getter]
    fn position(&self) -> u64 {
        self.reader.position
    }

    /// `more`, `sealed`, `open` (nothing after the last block) or `torn`.
    #[getter]
    fn end(&self) -> &'static str {
        end_name(self.reader.end)
    }

    /// (count, wrapping sum of xxh3) of the records read so far.
    #[getter]
    fn multiset(&self) -> (u64, u64) {
        (self.reader.contents.multiset.count, self.reader.contents.multiset.sum)
    }

    /// First and last sequence, received_ns range of the records read so far.
    #[getter]
    fn ranges(&self) -> (u64, u64, Option<(i64, i64)>) {
        let contents = &self.reader.contents;
        (contents.first_sequence, contents.last_sequence, contents.received_ns)
    }
}

/// Writes records that do not come through the ring (imports) as segments of their own run.
#[pyclass(module = "rust_indicators._rust")]
pub struct LogWriter {
    log: Log,
    sequence: u64,
}

#[pymethods]
impl LogWriter {
    #[new]
    fn new(wal_dir: PathBuf, run_id: String, header: String) -> LogWriter {
        let config = WalConfig {
            wal_dir,
            run_id,
            header_json: header,
            durability: Durability::Sync,
            commit_interval: Duration::ZERO,
            space: None,
            disk: Disk::default(),
        };
        LogWriter { log: Log::new(config), sequence: 0 }
    }

    /// Appends records, numbering them from 1. Durable after `close`.
    fn append(&mut self, py: Python<'_>, records: &[u8]) -> PyResult<u64> {
        if !records.len().is_multiple_of(RECORD_BYTES) {
            return Err(PyValueError::new_err(format!("{} bytes are not whole records of 256", records.len())));
        }
        py.detach(|| {
            let mut numbered: Vec<Record> = records_in(records).collect();
            for record in &mut numbered {
                self.sequence += 1;
                record.header_mut().sequence = self.sequence;
            }
            self.log.append_all(&numbered)
        })?;
        Ok(self.sequence)
    }

    /// Seals the last segment.
    fn close(&mut self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| self.log.seal())?;
        Ok(self.sequence)
    }
}

/// Seals what a dead run left open. (changed, records, torn bytes, last sequence, last received_ns, problems)
#[pyfunction]
#[allow(clippy::type_complexity)]
fn recover_segment(py: Python<'_>, path: PathBuf) -> PyResult<(bool, u64, u64, u64, Option<i64>, Vec<ProblemRow>)> {
    let recovered = py.detach(|| segment::recover(&path)).map_err(PyValueError::new_err)?;
    let contents = &recovered.contents;
    Ok((
        recovered.changed,
        contents.multiset.count,
        recovered.torn_bytes,
        contents.last_sequence,
        contents.received_ns.map(|(_, last)| last),
        recovered.problems.iter().map(row).collect(),
    ))
}

/// Footer JSON of a sealed segment, from its last bytes; `None` while it is not sealed.
#[pyfunction]
fn read_footer(py: Python<'_>, path: PathBuf) -> PyResult<Option<Bound<'_, PyBytes>>> {
    let footer = segment::read_footer(&path).map_err(PyValueError::new_err)?;
    Ok(footer.map(|json| PyBytes::new(py, &json)))
}

/// Every field of the record: (struct, field, offset within the struct, bytes).
#[pyfunction]
fn record_layout() -> Vec<(&'static str, &'static str, usize, usize)> {
    layout()
}

/// Every number both languages state: (Python enum or "", name, value).
#[pyfunction]
fn record_constants() -> Vec<(&'static str, &'static str, i64)> {
    constants()
}

/// The receive-clock slot a stamp falls into.
#[pyfunction]
#[pyo3(name = "log_slot")]
fn py_log_slot(received_ns: i64) -> String {
    log_slot(received_ns)
}

/// The instant at which the segment of a stamp ends.
#[pyfunction]
#[pyo3(name = "next_rotation_ns")]
fn py_next_rotation_ns(received_ns: i64) -> i64 {
    next_rotation_ns(received_ns)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SegmentReader>()?;
    module.add_class::<LogWriter>()?;
    module.add_function(wrap_pyfunction!(recover_segment, module)?)?;
    module.add_function(wrap_pyfunction!(read_footer, module)?)?;
    module.add_function(wrap_pyfunction!(record_layout, module)?)?;
    module.add_function(wrap_pyfunction!(record_constants, module)?)?;
    module.add_function(wrap_pyfunction!(py_log_slot, module)?)?;
    module.add_function(wrap_pyfunction!(py_next_rotation_ns, module)?)?;
    Ok(())
}
