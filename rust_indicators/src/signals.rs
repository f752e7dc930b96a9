//! Signals of books and trades: pure kernels over slices, and the streaming state each has. Definitions with their
//! sources are in `docs/indicators.md`; `rust_indicators/reference/` states each once more, in NumPy.
//! Not the decision what to trade on.
pub mod admission;
pub mod bars;
pub mod book;
pub mod bulk_volume;
pub mod correlation;
pub mod exponential;
pub mod flow;
pub mod hawkes;
pub mod hawkes_bivariate;
pub mod hawkes_bivariate_likelihood;
pub mod hawkes_likelihood;
pub mod impact;
pub mod integrated;
pub mod kalman;
pub mod micro_price;
pub mod queue_position;
pub mod rolling;
pub mod signal_set;
pub mod toxicity;
pub mod windows;

use std::fmt;

/// Largest volume one event may have: sums of any day's events stay far below 2⁶³.
pub const VOLUME_MAX: i64 = 1 << 40;
/// The price of a book level that holds nothing; its volume is 0.
pub use crate::record::EMPTY_PRICE_E6;

/// What a value is worth. `rust_indicators/validity.py` is the twin.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// Not enough events since the start.
    #[default]
    WarmingUp = 0,
    Valid = 1,
    /// Events are missing within its memory; it warms up again.
    Tainted = 2,
    /// Warm, but this event defines no value: the book is one-sided, say.
    Undefined = 3,
}

/// What stands before an event of a column: nothing, a restart, or a gap.
pub mod restart {
    pub const NONE: u8 = 0;
    /// Session start, trial match → continuous, halt: the state begins anew.
    pub const RESET: u8 = 1;
    /// Events are missing: the state begins anew and says so until it is warm again.
    pub const TAINT: u8 = 2;
}

/// Whether a signal that has begun anew did so because of a gap. It forgets once the signal is warm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arming {
    tainted: bool,
}

impl Arming {
    pub const AFTER_GAP: Self = Self { tainted: true };

    /// `warm`: has seen enough since the start; `defined`: the last event gave a value.
    pub fn validity(&mut self, warm: bool, defined: bool) -> Validity {
        self.tainted &= !warm;
        match (warm, self.tainted, defined) {
            (true, _, true) => Validity::Valid,
            (true, _, false) => Validity::Undefined,
            (false, true, _) => Validity::Tainted,
            (false, false, _) => Validity::WarmingUp,
        }
    }
}

/// An argument that cannot be used: its name, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub argument: &'static str,
    pub reason: String,
}

impl Refused {
    pub fn new(argument: &'static str, reason: impl Into<String>) -> Self {
        Self { argument, reason: reason.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.argument, self.reason)
    }
}

impl std::error::Error for Refused {}

/// Refuses columns of different lengths.
pub fn same_rows(columns: &[(&'static str, usize)]) -> Result<usize, Refused> {
    let (first, rows) = columns[0];
    match columns.iter().find(|(_, length)| *length != rows) {
        Some((name, length)) => Err(Refused::new(name, format!("has {length} rows, {first} has {rows}"))),
        None => Ok(rows),
    }
}

/// Refuses a parameter that is not a finite number above 0.
pub fn positive(argument: &'static str, value: f64) -> Result<f64, Refused> {
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(Refused::new(argument, format!("{value} is not a finite number above 0")))
}

/// Refuses stamps that go back; equal ones may follow each other.
pub fn sorted(argument: &'static str, stamps: &[i64]) -> Result<(), Refused> {
    match stamps.windows(2).position(|pair| pair[1] < pair[0]) {
        Some(row) => Err(Refused::new(argument, format!("goes back at row {}", row + 1))),
        None => Ok(()),
    }
}

/// Refuses marks other than those of `restart`.
pub fn restarts(argument: &'static str, marks: &[u8]) -> Result<(), Refused> {
    match marks.iter().position(|mark| *mark > restart::TAINT) {
        Some(row) => {
            Err(Refused::new(argument, format!("row {row} is {}, not 0 (none), 1 (reset) or 2 (taint)", marks[row])))
        }
        None => Ok(()),
    }
}

/// Pieces of `0..rows` that begin at row 0 and at every marked row.
pub fn pieces(rows: usize, marks: Option<&[u8]>) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= rows {
            return None;
        }
        let marked = marks.and_then(|marks| marks[start + 1..].iter().position(|mark| *mark != restart::NONE));
        let end = marked.map_or(rows, |found| start + 1 + found);
        let piece = start..end;
        start = end;
        Some(piece)
    })
}

/// Defines a kernel once and compiles it twice: for any machine, and for AVX2 where there is one.
/// The body must be `#[inline(always)]`, and written so that the compiler can put several rows into one instruction:
/// no branches, no `mul_add` (both versions must give the same bits).
#[macro_export]
macro_rules! for_wide_vectors {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident = $body:path, ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?) => {
        $(#[$doc])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $type),*) $(-> $result)? {
                    $body($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the machine has what the function was compiled for.
                    return unsafe { wide($($argument),*) };
                }
            }
            $body($($argument),*)
        }
    };
}
