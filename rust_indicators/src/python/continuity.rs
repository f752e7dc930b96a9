//! `Continuity`, `session_window` and `multiset_hash` for Python. No rules: `continuity.rs` has them.
use std::collections::BTreeMap;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::continuity::{self, Basis, Judgement, Sighting, Verdict};
use crate::record::{MultisetHash, RECORD_BYTES, records_in};

/// (index, verdict, lots, total before, total after, basis).
type Finding = (usize, &'static str, u32, u32, u32, &'static str);

/// Judges trades in the order given; what it returns are the trades that are not plainly the next one.
#[pyclass]
struct Continuity(continuity::Continuity);

#[pymethods]
impl Continuity {
    #[new]
    fn new() -> Self {
        Continuity(continuity::Continuity::new())
    }

    /// Whole 256-byte records of any kind.
    fn observe_records(&mut self, py: Python<'_>, records: PyBuffer<u8>) -> PyResult<Vec<Finding>> {
        let bytes = whole(&records)?;
        Ok(py.detach(|| {
            let trades = records_in(bytes).enumerate();
            let judged = trades.filter_map(|(index, record)| Some((index, continuity::sighting(&record)?)));
            judged.filter_map(|(index, trade)| finding(index, &trade, self.0.judge(&trade))).collect()
        }))
    }

    /// Totals since this object was made.
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        let counters = &self.0.counters;
        [
            ("judged", counters.judged),
            ("lots_missing", counters.lots_missing),
            ("gaps", counters.gaps),
            ("late", counters.late),
            ("duplicates", counters.duplicates),
            ("resets", counters.resets),
            ("excesses", counters.excesses),
            ("forgotten", counters.forgotten),
        ]
        .into_iter()
        .collect()
    }
}

fn finding(index: usize, trade: &Sighting, judgement: Judgement) -> Option<Finding> {
    let (name, lots, basis) = match judgement.verdict {
        Verdict::NotJudged | Verdict::Next => return None,
        Verdict::First { basis } => ("first", 0, basis),
        Verdict::Gap { lots, basis } => ("gap", lots, basis),
        Verdict::Late { lots } => ("late", lots, Basis::Previous),
        Verdict::Duplicate => ("duplicate", 0, Basis::Previous),
        Verdict::Reset => ("reset", 0, Basis::Previous),
        Verdict::Excess { lots } => ("excess", lots, Basis::Previous),
    };
    let basis = match basis {
        Basis::Zero => "zero",
        Basis::Carried => "carried",
        Basis::Previous => "previous",
    };
    Some((index, name, lots, judgement.total_before, trade.total_volume, basis))
}

/// The bytes of a buffer that is whole records in one piece.
pub fn whole(records: &PyBuffer<u8>) -> PyResult<&[u8]> {
    let length = records.len_bytes();
    if !length.is_multiple_of(RECORD_BYTES) {
        return Err(PyValueError::new_err(format!("{length} bytes are not whole {RECORD_BYTES}-byte records")));
    }
    if !records.is_c_contiguous() {
        return Err(PyValueError::new_err("records must lie together in memory"));
    }
    if length == 0 {
        return Ok(&[]); // an empty buffer may point nowhere
    }
    // SAFETY: contiguous bytes, alive as long as the buffer; our callers do not write to them meanwhile.
    Ok(unsafe { std::slice::from_raw_parts(records.buf_ptr().cast::<u8>(), length) })
}

/// (days since the epoch of the window's first day in Taipei, night).
#[pyfunction]
fn session_window(exchange_ns: i64, futures: bool) -> (i32, bool) {
    continuity::session_window(exchange_ns, futures)
}

/// (count, wrapping sum of hashes): equal for equal multisets of records; add both to join two sets.
#[pyfunction]
fn multiset_hash(py: Python<'_>, records: PyBuffer<u8>) -> PyResult<(u64, u64)> {
    let bytes = whole(&records)?;
    Ok(py.detach(|| {
        let mut hash = MultisetHash::default();
        bytes.as_chunks().0.iter().for_each(|record| hash.add_bytes(record));
        (hash.count, hash.sum)
    }))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Continuity>()?;
    module.add_function(wrap_pyfunction!(session_window, module)?)?;
    module.add_function(wrap_pyfunction!(multiset_hash, module)?)
}
