//! `LogStatistics` for Python. What is counted: `statistics.rs`.
use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::log::end_name;
use crate::continuity::Continuity;
use crate::statistics;

/// Counts segments of one source, in the order they were written.
#[pyclass(module = "rust_indicators._rust")]
struct LogStatistics(Continuity);

/// What one segment holds.
#[pyclass(module = "rust_indicators._rust", frozen, get_all)]
struct SegmentStatistics {
    records: u64,
    first_sequence: u64,
    last_sequence: u64,
    received_ns: Option<(i64, i64)>,
    exchange_ns: Option<(i64, i64)>,
    kinds: BTreeMap<u8, u64>,
    codes: BTreeMap<String, u64>,
    state: &'static str,
    sound_bytes: u64,
    problems: u64,
    block_records: Vec<u32>,
    block_bytes: Vec<u32>,
    seconds: BTreeMap<i64, u32>,
    lots_missing: i64,
    gaps: u64,
    duplicates: u64,
    late_start_lots: u64,
}

#[pymethods]
impl LogStatistics {
    #[new]
    fn new() -> LogStatistics {
        LogStatistics(Continuity::new())
    }

    /// Reads all of a segment. Raises ValueError for what is none.
    fn add(&mut self, py: Python<'_>, path: PathBuf) -> PyResult<SegmentStatistics> {
        let counted = py.detach(|| statistics::count(&path, &mut self.0)).map_err(PyValueError::new_err)?;
        let contents = counted.contents;
        let code = |padded: [u8; 16]| String::from_utf8_lossy(&padded).trim_end_matches('\0').to_string();
        let mut codes = BTreeMap::new();
        for (padded, count) in contents.codes() {
            *codes.entry(code(padded)).or_default() += count;
        }
        Ok(SegmentStatistics {
            records: contents.multiset.count,
            first_sequence: contents.first_sequence,
            last_sequence: contents.last_sequence,
            received_ns: contents.received_ns,
            exchange_ns: contents.exchange_ns,
            kinds: contents.kinds(),
            codes,
            state: end_name(counted.end),
            sound_bytes: counted.bytes,
            problems: counted.problems,
            block_records: counted.block_records,
            block_bytes: counted.block_bytes,
            seconds: counted.seconds,
            lots_missing: counted.lots_missing,
            gaps: counted.gaps,
            duplicates: counted.duplicates,
            late_start_lots: counted.late_start_lots,
        })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LogStatistics>()?;
    module.add_class::<SegmentStatistics>()
}
