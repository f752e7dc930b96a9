//! `Continuity`, `session_window` and `multiset_hash` for Python. No rules: `continuity.rs` has them.
use std::collections::BTreeMap;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::continuity::{self, Basis, Judgement, Sighting, Verdict};
use crate::payload;
use crate::record::{MultisetHash, RECORD_BYTES, records_in, records_of};
use crate::trade_columns::TradeColumns;

/// (index, verdict, lots, total before, total after, basis).
type Finding = (usize, &'static str, u32, u32, u32, &'static str);

/// A finding, the row that told the total before, [(from, to, row that revealed the hole)] of what a late trade filled.
type FindingOfColumns = (Finding, u64, Vec<(u32, u32, u64)>);

/// (code, session, lane, futures, trades, lots, judged, duplicates, total or `None`, last row).
type Counted = (i32, i32, u8, bool, u64, u64, u64, u64, Option<u32>, usize);

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
            let mut found = Vec::new();
            self.0.observe_batch(
                &records_of(bytes),
                |record| record.header().sequence,
                |index, trade, judgement| found.extend(finding(index, trade, judgement)),
            );
            found
        }))
    }

    /// Trades as columns, in the order of `TradeColumns`; `codes` are 16 bytes each, `payload` may be `None`.
    #[pyo3(signature = (codes, numbers, bytes, words, exchange_ns, payload, first_row))]
    #[expect(clippy::too_many_arguments, reason = "one group of columns for each width")]
    fn observe_columns(
        &mut self,
        py: Python<'_>,
        codes: &[u8],
        numbers: [PyBuffer<i32>; 2],
        bytes: [PyBuffer<u8>; 3],
        words: [PyBuffer<u32>; 3],
        exchange_ns: PyBuffer<i64>,
        payload: Option<PyBuffer<u64>>,
        first_row: u64,
    ) -> PyResult<(Vec<FindingOfColumns>, Vec<Counted>)> {
        let (codes, rest) = codes.as_chunks::<16>();
        let codes: Vec<_> = codes.iter().map(continuity::code_words).collect();
        let columns = TradeColumns {
            code: column(&numbers[0])?,
            session: column(&numbers[1])?,
            lane: column(&bytes[0])?,
            exchange: column(&bytes[1])?,
            broker_class: column(&bytes[2])?,
            flags: column(&words[0])?,
            volume: column(&words[1])?,
            total_volume: column(&words[2])?,
            exchange_ns: column(&exchange_ns)?,
            payload: payload.as_ref().map(column).transpose()?,
        };
        let rows = columns.code.len();
        let lengths = [columns.session.len(), columns.exchange_ns.len(), columns.payload.map_or(rows, <[u64]>::len)]
            .into_iter()
            .chain([columns.lane, columns.exchange, columns.broker_class].map(<[u8]>::len))
            .chain([columns.flags, columns.volume, columns.total_volume].map(<[u32]>::len));
        if lengths.into_iter().any(|length| length != rows) {
            return Err(PyValueError::new_err(format!("a column has not {rows} rows as the first one has")));
        }
        if !rest.is_empty() || columns.code.iter().any(|code| !(0..codes.len() as i32).contains(code)) {
            return Err(PyValueError::new_err(format!("a code is not among the {} given, 16 bytes each", codes.len())));
        }
        Ok(py.detach(|| {
            let mut found = Vec::new();
            let counted = self.0.observe_columns(&codes, &columns, first_row, |at, trade, judgement, continuity| {
                let late = matches!(judgement.verdict, Verdict::Late { .. });
                let filled = continuity.filled.iter().filter(|_| late).map(|part| (part.from, part.to, part.row));
                let filled = filled.collect();
                found.extend(finding(at, trade, judgement).map(|it| (it, judgement.row_before, filled)));
            });
            let total = |total| (total != crate::record::ABSENT_U32).then_some(total);
            let counted = counted.into_iter().map(|it| {
                let counts = (it.trades, it.lots, it.judged, it.duplicates);
                (
                    it.code,
                    it.session,
                    it.lane,
                    it.futures,
                    counts.0,
                    counts.1,
                    counts.2,
                    counts.3,
                    total(it.total),
                    it.last,
                )
            });
            (found, counted.collect())
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

/// The values of a column that lies in one piece.
fn column<T: pyo3::buffer::Element>(buffer: &PyBuffer<T>) -> PyResult<&[T]> {
    if !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("a column must lie together in memory"));
    }
    if buffer.item_count() == 0 {
        return Ok(&[]); // an empty buffer may point nowhere
    }
    // SAFETY: contiguous values, alive as long as the buffer; our callers do not write to them meanwhile.
    Ok(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<T>(), buffer.item_count()) })
}

/// Fingerprint of what the source sent, of each record; 8 bytes each, as this machine stores them.
#[pyfunction]
fn payloads<'py>(py: Python<'py>, records: PyBuffer<u8>) -> PyResult<Bound<'py, PyBytes>> {
    let found: Vec<u8> = records_in(whole(&records)?).flat_map(|it| payload::payload(&it).to_ne_bytes()).collect();
    Ok(PyBytes::new(py, &found))
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
    module.add_function(wrap_pyfunction!(payloads, module)?)?;
    module.add_function(wrap_pyfunction!(multiset_hash, module)?)
}
