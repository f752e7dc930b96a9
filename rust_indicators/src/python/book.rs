//! Python's way to what one book says. No rules: `signals/book.rs` has them.
use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{Column, Named, column, output, refused, writable};
use crate::signals::Refused;
use crate::signals::book::{self, LEVELS_MAX, Levels};
use crate::signals::flow::Sides;

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

/// A new array of so many rows, filled without the interpreter's lock.
fn filled<'py, T: Named + Send>(
    py: Python<'py>,
    rows: usize,
    kernel: impl FnOnce(&mut [T]) -> Result<(), Refused> + Send,
) -> PyResult<Bound<'py, PyArray1<T>>> {
    let result = output::<T>(py, None, rows)?;
    let mut values = writable(&result)?;
    let into = values.as_slice_mut()?;
    py.detach(|| kernel(into)).map_err(refused)?;
    drop(values);
    Ok(result)
}

/// A column a level: a list of arrays, or an array of two dimensions whose rows are levels.
struct LevelColumns<'py>(Vec<Column<'py, i64>>);

impl<'py> LevelColumns<'py> {
    fn new(argument: &str, given: &Bound<'py, PyAny>) -> PyResult<Self> {
        let refuse = |reason: String| PyValueError::new_err(format!("{argument}: {reason}"));
        let no_sequence = |_| refuse("must be a sequence of 1 … 10 level columns".into());
        let levels = given.len().map_err(no_sequence)?;
        if !(1..=LEVELS_MAX).contains(&levels) {
            return Err(refuse(format!("has {levels} levels, not 1 … 10")));
        }
        let one = |level: usize| {
            let name = format!("{argument}[{level}]");
            column(&name, &given.get_item(level).map_err(no_sequence)?)
        };
        (0..levels).map(one).collect::<PyResult<_>>().map(Self)
    }

    fn slices(&self) -> Vec<&[i64]> {
        self.0.iter().map(Column::slice).collect()
    }
}

type Prices<'py> = Bound<'py, PyArray1<i64>>;
type Reals<'py> = Bound<'py, PyArray1<f64>>;

#[pyfunction]
fn mid2_e6<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
) -> PyResult<Prices<'py>> {
    let columns = (column::<i64>("bid_price_e6", bid_price_e6)?, column::<i64>("ask_price_e6", ask_price_e6)?);
    let (bid, ask) = (columns.0.slice(), columns.1.slice());
    filled(py, bid.len(), |out| book::mid2_e6(bid, ask, out))
}

#[pyfunction]
fn spread_ticks<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    tick_size_e6: i64,
) -> PyResult<Reals<'py>> {
    let columns = (column::<i64>("bid_price_e6", bid_price_e6)?, column::<i64>("ask_price_e6", ask_price_e6)?);
    let (bid, ask) = (columns.0.slice(), columns.1.slice());
    filled(py, bid.len(), |out| book::spread_ticks(bid, ask, tick_size_e6, out))
}

#[pyfunction]
fn book_flags<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let columns = (column::<i64>("bid_price_e6", bid_price_e6)?, column::<i64>("ask_price_e6", ask_price_e6)?);
    let (bid, ask) = (columns.0.slice(), columns.1.slice());
    filled(py, bid.len(), |out| book::book_flags(bid, ask, out))
}

#[pyfunction]
fn weighted_mid<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
) -> PyResult<Reals<'py>> {
    let bids = (column::<i64>("bid_price_e6", bid_price_e6)?, column::<i64>("bid_volume", bid_volume)?);
    let asks = (column::<i64>("ask_price_e6", ask_price_e6)?, column::<i64>("ask_volume", ask_volume)?);
    let sides = Sides {
        bid_price_e6: bids.0.slice(),
        bid_volume: bids.1.slice(),
        ask_price_e6: asks.0.slice(),
        ask_volume: asks.1.slice(),
    };
    filled(py, sides.bid_price_e6.len(), |out| book::weighted_mid(sides, out))
}

#[pyfunction]
fn queue_imbalance<'py>(
    py: Python<'py>,
    bid_volume: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
) -> PyResult<Reals<'py>> {
    let columns = (LevelColumns::new("bid_volume", bid_volume)?, LevelColumns::new("ask_volume", ask_volume)?);
    let (bid, ask) = (columns.0.slices(), columns.1.slices());
    filled(py, bid[0].len(), |out| book::queue_imbalance(&bid, &ask, out))
}

#[pyfunction]
fn depth_ratio<'py>(
    py: Python<'py>,
    bid_volume: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
) -> PyResult<Reals<'py>> {
    let columns = (LevelColumns::new("bid_volume", bid_volume)?, LevelColumns::new("ask_volume", ask_volume)?);
    let (bid, ask) = (columns.0.slices(), columns.1.slices());
    filled(py, bid[0].len(), |out| book::depth_ratio(&bid, &ask, out))
}

#[pyfunction]
fn book_slope<'py>(
    py: Python<'py>,
    bid_price_e6: &Bound<'py, PyAny>,
    bid_volume: &Bound<'py, PyAny>,
    ask_price_e6: &Bound<'py, PyAny>,
    ask_volume: &Bound<'py, PyAny>,
    tick_size_e6: i64,
) -> PyResult<Reals<'py>> {
    let bids = (LevelColumns::new("bid_price_e6", bid_price_e6)?, LevelColumns::new("bid_volume", bid_volume)?);
    let asks = (LevelColumns::new("ask_price_e6", ask_price_e6)?, LevelColumns::new("ask_volume", ask_volume)?);
    let slices = [bids.0.slices(), bids.1.slices(), asks.0.slices(), asks.1.slices()];
    let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] = &slices;
    let levels = Levels { bid_price_e6, bid_volume, ask_price_e6, ask_volume };
    filled(py, bid_price_e6[0].len(), |out| book::book_slope(levels, tick_size_e6, out))
}

#[pyclass(module = "rust_indicators")]
struct BookState {
    state: book::BookState,
    levels: usize,
}

impl BookState {
    /// One number a level, out of any sequence.
    fn row(&self, argument: &str, given: &Bound<'_, PyAny>) -> PyResult<[i64; LEVELS_MAX]> {
        let refuse = |reason: String| PyValueError::new_err(format!("{argument}: {reason}"));
        let no_numbers = |_| refuse("must be a sequence of 64-bit integers".into());
        let (mut row, mut count) = ([0; LEVELS_MAX], 0);
        for value in given.try_iter().map_err(no_numbers)? {
            let value = value.and_then(|value| value.extract()).map_err(no_numbers)?;
            if let Some(place) = row[..self.levels].get_mut(count) {
                *place = value;
            }
            count += 1;
        }
        if count == self.levels {
            return Ok(row);
        }
        Err(refuse(format!("has {count} levels, not {}", self.levels)))
    }
}

#[pymethods]
impl BookState {
    #[new]
    #[pyo3(signature = (tick_size_e6, levels=5))]
    fn new(tick_size_e6: i64, levels: i64) -> PyResult<Self> {
        if !(1..=LEVELS_MAX as i64).contains(&levels) {
            return Err(refused(Refused::new("levels", format!("{levels} is not within 1 … 10"))));
        }
        let state = book::BookState::new(tick_size_e6).map_err(refused)?;
        Ok(Self { state, levels: levels as usize })
    }

    #[pyo3(signature = (bid_price_e6, bid_volume, ask_price_e6, ask_volume, /))]
    fn update(
        &mut self,
        bid_price_e6: &Bound<'_, PyAny>,
        bid_volume: &Bound<'_, PyAny>,
        ask_price_e6: &Bound<'_, PyAny>,
        ask_volume: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (bids, bid_volumes) = (self.row("bid_price_e6", bid_price_e6)?, self.row("bid_volume", bid_volume)?);
        let (asks, ask_volumes) = (self.row("ask_price_e6", ask_price_e6)?, self.row("ask_volume", ask_volume)?);
        let [bids, bid_volumes, asks, ask_volumes] =
            [&bids, &bid_volumes, &asks, &ask_volumes].map(|row| &row[..self.levels]);
        book::BookState::check(bids, bid_volumes, asks, ask_volumes).map_err(refused)?;
        self.state.update_levels(bids, bid_volumes, asks, ask_volumes);
        Ok(())
    }

    fn reset(&mut self) {
        self.state.reset();
    }

    fn taint(&mut self) {
        self.state.taint();
    }

    #[getter]
    fn mid2_e6(&self) -> i64 {
        self.state.reading().mid2_e6
    }

    #[getter]
    fn spread_ticks(&self) -> f64 {
        self.state.reading().spread_ticks
    }

    #[getter]
    fn weighted_mid(&self) -> f64 {
        self.state.reading().weighted_mid
    }

    #[getter]
    fn queue_imbalance(&self) -> f64 {
        self.state.reading().queue_imbalance
    }

    #[getter]
    fn depth_imbalance(&self) -> f64 {
        self.state.reading().depth_imbalance
    }

    #[getter]
    fn depth_ratio(&self) -> f64 {
        self.state.reading().depth_ratio
    }

    #[getter]
    fn book_slope(&self) -> f64 {
        self.state.reading().book_slope
    }

    #[getter]
    fn flags(&self) -> u8 {
        self.state.reading().flags
    }

    #[getter]
    fn validity(&self) -> u8 {
        self.state.validity() as u8
    }
}
