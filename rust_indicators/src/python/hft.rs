//! Python's way to the L5 decoder and the dataset builder: buffers in, buffers out, no copy of the rows.
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::hft::{self, BookColumns, SessionStarts, TradeColumns};
use crate::l5::{self, EMPTY_PRICE_E6, L5Columns, L5Event, LEVELS};
use crate::ladder::EventRow;

/// Columns of a decoded book: place in the file, exchange_ns, source_offset_ns, then prices and volumes of both sides.
const BOOK_WORDS: usize = 3 + 4 * LEVELS;
/// Columns of a decoded trade: place in the file, exchange_ns, source_offset_ns, price_e6, volume, side.
const TRADE_WORDS: usize = 6;

/// Rows whose memory is kept for the next dataset (128 MiB): the first touch of fresh memory costs more than writing it.
const SPARE_ROWS_MAX: usize = 1 << 21;
static SPARE: Mutex<Vec<EventRow>> = Mutex::new(Vec::new());

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("EMPTY_PRICE_E6", EMPTY_PRICE_E6)?;
    module.add_class::<EventRows>()?;
    module.add_function(wrap_pyfunction!(decode_l5, module)?)?;
    module.add_function(wrap_pyfunction!(build_hft_rows, module)?)
}

/// Rows of a dataset, readable through the buffer protocol: `numpy.frombuffer(rows, dtype)` keeps them alive.
#[pyclass(frozen, module = "rust_indicators._rust")]
struct EventRows {
    rows: Vec<EventRow>,
}

impl Drop for EventRows {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rows.capacity() <= SPARE_ROWS_MAX && self.rows.capacity() > spare.capacity() {
            *spare = std::mem::take(&mut self.rows);
        }
    }
}

#[pymethods]
impl EventRows {
    fn __len__(&self) -> usize {
        self.rows.len()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let rows = &slf.get().rows;
        let bytes = size_of_val(rows.as_slice()) as ffi::Py_ssize_t;
        // SAFETY: `view` comes from the interpreter; the rows are never changed or moved while `slf` lives, and the
        // view holds a reference to `slf`. Read-only, so nothing can be written through it.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), rows.as_ptr().cast_mut().cast(), bytes, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// A contiguous buffer as a slice.
fn slice<T: Element>(buffer: &PyBuffer<T>) -> PyResult<&[T]> {
    if !buffer.is_c_contiguous() || buffer.dimensions() != 1 {
        return Err(PyValueError::new_err("a column must be a contiguous array of one dimension"));
    }
    // SAFETY: PyBuffer::get checked type, size and alignment, the buffer is contiguous, and the reference that
    // `buffer` holds keeps the memory alive. The callers hand over arrays that no other thread writes to.
    Ok(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<T>(), buffer.item_count()) })
}

/// Five buffers, best level first, as slices.
fn levels(buffers: &[PyBuffer<i64>]) -> PyResult<[&[i64]; LEVELS]> {
    let slices = buffers.iter().map(slice).collect::<PyResult<Vec<_>>>()?;
    slices.try_into().map_err(|_| PyValueError::new_err("a side needs one column for each of its five levels"))
}

/// (books, trades): int64 words in native order, `BOOK_WORDS` and `TRADE_WORDS` each.
#[pyfunction]
fn decode_l5<'py>(
    py: Python<'py>,
    ev: PyBuffer<u64>,
    exch_ts: PyBuffer<i64>,
    px: PyBuffer<f64>,
    qty: PyBuffer<f64>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let columns = L5Columns { ev: slice(&ev)?, exch_ts: slice(&exch_ts)?, px: slice(&px)?, qty: slice(&qty)? };
    let decoded = py.detach(|| l5::decode(columns).map(|events| l5_words(&events)));
    let (books, trades) = decoded.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok((PyBytes::new(py, &books), PyBytes::new(py, &trades)))
}

fn l5_words(events: &[L5Event]) -> (Vec<u8>, Vec<u8>) {
    let (mut books, mut trades) = (Vec::new(), Vec::new());
    for (place, event) in events.iter().enumerate() {
        match event {
            L5Event::Book(book) => {
                let head = [place as i64, book.exchange_ns, i64::from(book.source_offset_ns)];
                let sides = [book.bid_price_e6, book.bid_volume, book.ask_price_e6, book.ask_volume];
                let words: [i64; BOOK_WORDS] = std::array::from_fn(|at| match at.checked_sub(head.len()) {
                    None => head[at],
                    Some(at) => sides[at / LEVELS][at % LEVELS],
                });
                books.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            }
            L5Event::Trade(trade) => {
                let offset = i64::from(trade.source_offset_ns);
                let side = i64::from(trade.side);
                let words: [i64; TRADE_WORDS] =
                    [place as i64, trade.exchange_ns, offset, trade.price_e6, trade.volume, side];
                trades.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            }
        }
    }
    (books, trades)
}

/// (stamps, levels): `[exchange_ns, local_ns]` and `[bid prices, bid volumes, ask prices, ask volumes]` of five each.
type BookBuffers = ([PyBuffer<i64>; 2], [Vec<PyBuffer<i64>>; 4]);
/// `[exchange_ns, local_ns, price_e6, volume]` and side.
type TradeBuffers = ([PyBuffer<i64>; 4], PyBuffer<u8>);

/// (rows, local_shift_ns)
#[pyfunction]
fn build_hft_rows(
    py: Python<'_>,
    books: BookBuffers,
    trades: TradeBuffers,
    session_starts: [PyBuffer<i64>; 2],
) -> PyResult<(EventRows, i64)> {
    let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] = &books.1;
    let book_columns = BookColumns {
        exchange_ns: slice(&books.0[0])?,
        local_ns: slice(&books.0[1])?,
        bid_price_e6: levels(bid_price_e6)?,
        bid_volume: levels(bid_volume)?,
        ask_price_e6: levels(ask_price_e6)?,
        ask_volume: levels(ask_volume)?,
    };
    let trade_columns = TradeColumns {
        exchange_ns: slice(&trades.0[0])?,
        local_ns: slice(&trades.0[1])?,
        price_e6: slice(&trades.0[2])?,
        volume: slice(&trades.0[3])?,
        side: slice(&trades.1)?,
    };
    let starts = SessionStarts { exchange_ns: slice(&session_starts[0])?, local_ns: slice(&session_starts[1])? };
    let built = py.detach(|| {
        let storage = std::mem::take(&mut *SPARE.lock().unwrap_or_else(PoisonError::into_inner));
        hft::build(book_columns, trade_columns, starts, storage)
    });
    let built = built.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok((EventRows { rows: built.rows }, built.local_shift_ns))
}
