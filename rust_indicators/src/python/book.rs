//! Python's way to what one book says. No rules: `signals/book.rs` has them.
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

use super::arrays::{Column, Judged, Named, column, optional_column, output, refused};
use super::levels::{BookColumns, BookLevels, level_columns, level_count, same_levels};
use crate::signals::{book, flow};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BookState>()?;
    module.add_function(wrap_pyfunction!(mid2_e6, module)?)?;
    module.add_function(wrap_pyfunction!(spread_ticks, module)?)?;
    module.add_function(wrap_pyfunction!(weighted_mid, module)?)?;
    module.add_function(wrap_pyfunction!(queue_imbalance, module)?)?;
    module.add_function(wrap_pyfunction!(depth_ratio, module)?)?;
    module.add_function(wrap_pyfunction!(book_slope, module)?)?;
    module.add_function(wrap_pyfunction!(book_flags, module)?)
}

type Array<'py, T> = Bound<'py, PyArray1<T>>;

/// A new array of so many rows, filled without the interpreter's lock.
fn filled<'py, T: Named>(py: Python<'py>, rows: usize, fill: impl FnOnce(&mut [T]) + Send) -> PyResult<Array<'py, T>> {
    let result = output::<T>(py, None, rows)?;
    let mut values = result.readwrite();
    let into = values.as_slice_mut()?;
    py.detach(|| fill(into));
    drop(values);
    Ok(result)
}

/// `of` every pair of best prices.
fn of_touch<'py, T: Named>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    of: impl Fn(i64, i64) -> T + Sync + Send,
) -> PyResult<Array<'py, T>> {
    let (bid, ask) = (column::<i64>("bid_price_e6", bid_price_e6)?, column::<i64>("ask_price_e6", ask_price_e6)?);
    let (bid, ask) = (bid.slice(), ask.slice());
    let rows = py.detach(|| book::check_touch(bid, ask)).map_err(refused)?;
    filled(py, rows, |out| {
        for ((bid, ask), value) in bid.iter().zip(ask).zip(out) {
            *value = of(*bid, *ask);
        }
    })
}

#[pyfunction]
fn mid2_e6<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
) -> PyResult<Array<'py, i64>> {
    of_touch(py, bid_price_e6, ask_price_e6, book::mid2_e6)
}

#[pyfunction]
fn spread_ticks<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    tick_size_e6: i64,
) -> PyResult<Array<'py, f64>> {
    book::check_tick(tick_size_e6).map_err(refused)?;
    of_touch(py, bid_price_e6, ask_price_e6, |bid, ask| book::spread_ticks(bid, ask, tick_size_e6))
}

#[pyfunction]
fn book_flags<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
) -> PyResult<Array<'py, u8>> {
    of_touch(py, bid_price_e6, ask_price_e6, book::flags)
}

#[pyfunction]
fn weighted_mid<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
) -> PyResult<Array<'py, f64>> {
    let (bid, bid_size) = (column::<i64>("bid_price_e6", bid_price_e6)?, column::<i64>("bid_volume", bid_volume)?);
    let (ask, ask_size) = (column::<i64>("ask_price_e6", ask_price_e6)?, column::<i64>("ask_volume", ask_volume)?);
    let sides = flow::Sides {
        bid_price_e6: bid.slice(),
        bid_volume: bid_size.slice(),
        ask_price_e6: ask.slice(),
        ask_volume: ask_size.slice(),
    };
    let rows = sides.check().map_err(refused)?;
    book::check_touch(sides.bid_price_e6, sides.ask_price_e6).map_err(refused)?;
    filled(py, rows, |out| {
        for (row, value) in out.iter_mut().enumerate() {
            let side = sides.row(row);
            *value = book::weighted_mid(side.bid_price_e6, side.bid_volume, side.ask_price_e6, side.ask_volume);
        }
    })
}

/// `of` the volumes of both sides, summed over the levels.
fn of_depths<'py>(
    py: Python<'py>,
    bid_volume: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    of: impl Fn(i64, i64) -> f64 + Sync + Send,
) -> PyResult<Array<'py, f64>> {
    let bids = level_columns::<i64>("bid_volume", bid_volume)?;
    let asks = level_columns::<i64>("ask_volume", ask_volume)?;
    same_levels(("bid_volume", bids.len()), "ask_volume", asks.len())?;
    let bids: Vec<_> = bids.iter().map(Column::slice).collect();
    let asks: Vec<_> = asks.iter().map(Column::slice).collect();
    let named: Vec<_> = (0..bids.len())
        .flat_map(|level| {
            let (bid, ask) = book::volume_names(level);
            [(bid, bids[level]), (ask, asks[level])]
        })
        .collect();
    let rows = py.detach(|| book::check_volumes(&named)).map_err(refused)?;
    filled(py, rows, |out| book::of_depths(&bids, &asks, of, out))
}

#[pyfunction]
fn queue_imbalance<'py>(
    py: Python<'py>,
    bid_volume: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
) -> PyResult<Array<'py, f64>> {
    of_depths(py, bid_volume, ask_volume, book::queue_imbalance)
}

#[pyfunction]
fn depth_ratio<'py>(
    py: Python<'py>,
    bid_volume: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
) -> PyResult<Array<'py, f64>> {
    of_depths(py, bid_volume, ask_volume, book::depth_ratio)
}

#[pyfunction]
fn book_slope<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    tick_size_e6: i64,
) -> PyResult<Array<'py, f64>> {
    book::check_tick(tick_size_e6).map_err(refused)?;
    let columns = BookColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
    let sides = columns.sides();
    let rows = py.detach(|| book::check_books(&sides)).map_err(refused)?;
    filled(py, rows, |out| book::book_slopes(&sides, tick_size_e6, out))
}

#[pyclass(module = "rust_indicators")]
struct BookState(book::BookState);

#[pymethods]
impl BookState {
    #[new]
    fn new(levels: i64, tick_size_e6: i64) -> PyResult<Self> {
        book::BookState::new(level_count(levels)?, tick_size_e6).map(Self).map_err(refused)
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update(
        &mut self,
        bid_price_e6: &Bound<'_, PyAny>,
        bid_volume: &Bound<'_, PyAny>,
        ask_price_e6: &Bound<'_, PyAny>,
        ask_volume: &Bound<'_, PyAny>,
    ) -> PyResult<i64> {
        let levels = BookLevels::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        self.0.check(levels.sides()).map_err(refused)?;
        Ok(self.0.update(levels.sides()))
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, *, restart=None))]
    fn update_many<'py>(
        &mut self,
        py: Python<'py>,
        bid_price_e6: &Bound<'py, PyAny>,
        bid_volume: &Bound<'py, PyAny>,
        ask_price_e6: &Bound<'py, PyAny>,
        ask_volume: &Bound<'py, PyAny>,
        restart: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Judged<'py, i64>> {
        let columns = BookColumns::new([bid_price_e6, bid_volume, ask_price_e6, ask_volume])?;
        let marks = optional_column::<u8>("restart", restart)?;
        let sides = columns.sides();
        let rows = columns.rows();
        let (result, validity) = (output::<i64>(py, None, rows)?, output::<u8>(py, None, rows)?);
        let (mut values, mut valid) = (result.readwrite(), validity.readwrite());
        let (marks, into) = (marks.as_ref().map(Column::slice), values.as_slice_mut()?);
        let valid = valid.as_slice_mut()?;
        py.detach(|| self.0.update_many(&sides, marks, into, valid)).map_err(refused)?;
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
    fn value(&self) -> i64 {
        self.0.said.mid2_e6
    }

    #[getter]
    fn mid2_e6(&self) -> i64 {
        self.0.said.mid2_e6
    }

    #[getter]
    fn spread_ticks(&self) -> f64 {
        self.0.said.spread_ticks
    }

    #[getter]
    fn weighted_mid(&self) -> f64 {
        self.0.said.weighted_mid
    }

    #[getter]
    fn queue_imbalance(&self) -> f64 {
        self.0.said.queue_imbalance
    }

    #[getter]
    fn depth_imbalance(&self) -> f64 {
        self.0.said.depth_imbalance
    }

    #[getter]
    fn depth_ratio(&self) -> f64 {
        self.0.said.depth_ratio
    }

    #[getter]
    fn book_slope(&self) -> f64 {
        self.0.said.book_slope
    }

    #[getter]
    fn flags(&self) -> u8 {
        self.0.said.flags
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.0.validity() as u8
    }
}
