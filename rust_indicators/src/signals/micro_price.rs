//! Micro-price: the mid plus what it is expected to move, by imbalance and spread. Not the fit: `calibrate.py`.
//! Stoikov (2018), Quantitative Finance 18(12) 1959–1966.
use std::sync::Arc;

use super::book::{check_price, check_tick, weighted_mid};
use super::flow::{Side, Sides, check_marks};
use super::{Arming, Refused, Validity, restart, same_rows};

/// Most rows and columns of a table.
pub const STATES_MAX: usize = 1000;

/// Expected move of the mid in ticks, a row a spread (1 tick, 2 ticks, …), a column a bucket of imbalance.
#[derive(Clone, Debug)]
pub struct Table {
    ticks: Arc<[f64]>,
    buckets: usize,
    tick_size_e6: i64,
}

impl Table {
    /// `ticks` row by row; NaN where a spread is not fitted.
    pub fn new(ticks: &[f64], buckets: usize, tick_size_e6: i64) -> Result<Self, Refused> {
        check_tick(tick_size_e6)?;
        if ticks.is_empty() || buckets > STATES_MAX || ticks.len() > STATES_MAX * buckets {
            return Err(Refused::new("table", format!("must have 1 … {STATES_MAX} rows and columns")));
        }
        if let Some(ticks) = ticks.iter().find(|ticks| ticks.abs() > 1e6) {
            return Err(Refused::new("table", format!("{ticks} ticks are no move of a mid")));
        }
        Ok(Self { ticks: ticks.into(), buckets, tick_size_e6 })
    }

    /// Price × 10⁶ of a book that passed `check`; the weighted mid where the spread is not fitted, NaN where a side
    /// is empty or none has volume.
    pub fn price(&self, side: Side) -> f64 {
        let weighted = weighted_mid(side.bid_price_e6, side.bid_volume, side.ask_price_e6, side.ask_volume);
        if weighted.is_nan() {
            return weighted;
        }
        let spread = side.ask_price_e6 - side.bid_price_e6;
        if spread <= 0 || spread % self.tick_size_e6 != 0 {
            return weighted;
        }
        let total = side.bid_volume + side.ask_volume;
        let bucket = (side.bid_volume * self.buckets as i64 / total).min(self.buckets as i64 - 1);
        let row = usize::try_from(spread / self.tick_size_e6 - 1).ok().filter(|row| *row < STATES_MAX);
        match row.and_then(|row| self.ticks.get(row * self.buckets + bucket as usize)) {
            Some(ticks) if !ticks.is_nan() => {
                (side.bid_price_e6 + side.ask_price_e6) as f64 / 2.0 + ticks * self.tick_size_e6 as f64
            }
            _ => weighted,
        }
    }
}

/// A book that can be one, and whose prices can be added.
pub fn check(side: Side) -> Result<(), Refused> {
    side.check()?;
    check_price("bid_price_e6", side.bid_price_e6)?;
    check_price("ask_price_e6", side.ask_price_e6)
}

fn check_columns(sides: Sides<'_>) -> Result<usize, Refused> {
    let rows = sides.check()?;
    super::book::check_touch(sides.bid_price_e6, sides.ask_price_e6)?;
    Ok(rows)
}

/// Micro-price of every row.
pub fn micro_price(sides: Sides<'_>, table: &Table, out: &mut [f64]) -> Result<(), Refused> {
    same_rows(&[("bid_price_e6", check_columns(sides)?), ("out", out.len())])?;
    out.iter_mut().enumerate().for_each(|(row, value)| *value = table.price(sides.row(row)));
    Ok(())
}

/// Streaming micro-price: one book makes it warm; UNDEFINED where it has none.
#[derive(Clone, Debug)]
pub struct MicroPrice {
    table: Table,
    value: f64,
    arming: Arming,
    validity: Validity,
}

impl MicroPrice {
    pub fn new(table: Table) -> Self {
        Self { table, value: f64::NAN, arming: Arming::default(), validity: Validity::WarmingUp }
    }

    /// The book passed `check`.
    pub fn update(&mut self, side: Side) -> f64 {
        self.value = self.table.price(side);
        self.validity = self.arming.validity(true, !self.value.is_nan());
        self.value
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        sides: Sides<'_>,
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_columns(sides)?;
        check_marks(("bid_price_e6", rows), marks)?;
        same_rows(&[("bid_price_e6", rows), ("out", out.len()), ("validity", validity.len())])?;
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[row] = self.update(sides.row(row));
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        (self.value, self.arming, self.validity) = (f64::NAN, Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        (self.value, self.arming, self.validity) = (f64::NAN, Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
