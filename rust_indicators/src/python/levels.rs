//! Books as Python gives them: a side as a list of columns, a level each, or as the numbers of one book.
//! No rules of a signal.
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::arrays::{Column, Named, column};
use crate::signals::flow::{LEVELS_MAX, Sides};

/// The names of the four parts, as every message has them.
pub const SIDES: [&str; 4] = ["bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume"];

fn refuse(argument: &str, reason: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{argument}: {reason}"))
}

/// A column a level, best first: a list of them, or an array whose rows they are.
pub fn level_columns<'py, T: Named>(argument: &str, given: &Bound<'py, PyAny>) -> PyResult<Vec<Column<'py, T>>> {
    let count = given.len().map_err(|_| refuse(argument, "must be a sequence of columns, a level each"))?;
    if !(1..=LEVELS_MAX).contains(&count) {
        return Err(refuse(argument, format!("has {count} levels, not 1 … {LEVELS_MAX}")));
    }
    let items = given.try_iter().map_err(|_| refuse(argument, "must be a sequence of columns, a level each"))?;
    items.enumerate().map(|(level, item)| column(&format!("{argument}[{level}]"), &item?)).collect()
}

/// A number of levels a book can have.
pub fn level_count(levels: i64) -> PyResult<usize> {
    match usize::try_from(levels) {
        Ok(count) if (1..=LEVELS_MAX).contains(&count) => Ok(count),
        _ => Err(refuse("levels", format!("has {levels} levels, not 1 … {LEVELS_MAX}"))),
    }
}

/// As many levels as the first argument has.
pub fn same_levels(first: (&str, usize), argument: &str, levels: usize) -> PyResult<()> {
    if levels == first.1 {
        return Ok(());
    }
    Err(refuse(argument, format!("has {levels} levels, {} has {}", first.0, first.1)))
}

/// Every level of both sides.
pub struct BookColumns<'py>([Vec<Column<'py, i64>>; 4]);

impl<'py> BookColumns<'py> {
    pub fn new(given: [&Bound<'py, PyAny>; 4]) -> PyResult<Self> {
        let mut sides = [const { Vec::new() }; 4];
        for at in 0..4 {
            sides[at] = level_columns(SIDES[at], given[at])?;
            same_levels((SIDES[0], sides[0].len()), SIDES[at], sides[at].len())?;
        }
        Ok(Self(sides))
    }

    pub fn rows(&self) -> usize {
        self.0[0][0].slice().len()
    }

    pub fn sides(&self) -> Vec<Sides<'_>> {
        let part = |at: usize, level: usize| self.0[at][level].slice();
        (0..self.0[0].len())
            .map(|level| Sides {
                bid_price_e6: part(0, level),
                bid_volume: part(1, level),
                ask_price_e6: part(2, level),
                ask_volume: part(3, level),
            })
            .collect()
    }
}

/// The numbers of one book, or of one side of it, without memory of their own on the heap.
pub struct Levels<T> {
    values: [T; LEVELS_MAX],
    count: usize,
}

impl<T: Copy + Default> Levels<T> {
    pub fn new<'py>(argument: &str, given: &Bound<'py, PyAny>) -> PyResult<Self>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        let mut levels = Self { values: [T::default(); LEVELS_MAX], count: 0 };
        if let Ok(given) = given.cast::<PyTuple>() {
            given.iter().try_for_each(|item| levels.push(argument, &item))?;
        } else if let Ok(given) = given.cast::<PyList>() {
            given.iter().try_for_each(|item| levels.push(argument, &item))?;
        } else {
            let items =
                given.try_iter().map_err(|_| refuse(argument, "must be a sequence of numbers, a level each"))?;
            items.into_iter().try_for_each(|item| levels.push(argument, &item?))?;
        }
        Ok(levels)
    }

    fn push<'py>(&mut self, argument: &str, item: &Bound<'py, PyAny>) -> PyResult<()>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        if self.count == LEVELS_MAX {
            return Err(refuse(argument, format!("has more than {LEVELS_MAX} levels")));
        }
        self.values[self.count] = item
            .extract()
            .map_err(|_| refuse(&format!("{argument}[{}]", self.count), format!("{item} is no number that fits")))?;
        self.count += 1;
        Ok(())
    }

    pub fn slice(&self) -> &[T] {
        &self.values[..self.count]
    }
}

/// One book: a row a level.
pub struct BookLevels([Levels<i64>; 4]);

impl BookLevels {
    pub fn new(given: [&Bound<'_, PyAny>; 4]) -> PyResult<Self> {
        Ok(Self([
            Levels::new(SIDES[0], given[0])?,
            Levels::new(SIDES[1], given[1])?,
            Levels::new(SIDES[2], given[2])?,
            Levels::new(SIDES[3], given[3])?,
        ]))
    }

    pub fn sides(&self) -> Sides<'_> {
        let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] = &self.0;
        Sides {
            bid_price_e6: bid_price_e6.slice(),
            bid_volume: bid_volume.slice(),
            ask_price_e6: ask_price_e6.slice(),
            ask_volume: ask_volume.slice(),
        }
    }
}

/// An array [levels, rows] to write the results into: the one given, or a new one.
pub fn matrix<'py, T: Named>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
    shape: [usize; 2],
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let Some(given) = given else {
        return Ok(PyArray2::zeros(py, shape, false));
    };
    let needed = format!("must be a contiguous array of {}, {} × {}", T::DTYPE, shape[0], shape[1]);
    let array = given.cast::<PyArray2<T>>().map_err(|_| refuse("out", &needed))?;
    if array.shape() != shape || !array.is_c_contiguous() {
        return Err(refuse("out", &needed));
    }
    Ok(array.clone())
}

/// The matrix for writing; refused while it is also an input.
pub fn writable_matrix<'py, T: Named>(array: &Bound<'py, PyArray2<T>>) -> PyResult<PyReadwriteArray2<'py, T>> {
    array.try_readwrite().map_err(|_| refuse("out", "is read-only, or one of the inputs"))
}

/// What `update_many` of signals with levels gives: values [levels, rows], and the validity of each row.
pub type JudgedLevels<'py, T> = (Bound<'py, PyArray2<T>>, Bound<'py, PyArray1<u8>>);
