//! Micro-price: the mid, moved to where it is expected once it has stopped moving, given imbalance and spread.
//! Stoikov (2018), Quantitative Finance 18(12) 1959–1966. Not its calibration: `rust_indicators/calibrate.py` has that.
use std::sync::Arc;

use super::book::{check_price, check_tick, check_touch, weighted_mid};
use super::flow::{Side, Sides, check_marks};
use super::{Arming, EMPTY_PRICE_E6, Refused, Validity, pieces, restart, same_rows};

/// Spreads and buckets a table may have: far more than a day can fill, and volume × buckets fits 64 bits.
pub const TABLE_SIDE_MAX: usize = 1024;

/// Expected move of the mid in ticks, a row a spread from one tick on, a column an equal share of imbalance; NaN where
/// it is not known. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Table {
    ticks: Arc<[f64]>,
    buckets: usize,
}

impl Table {
    /// Row after row, of so many buckets each.
    pub fn new(ticks: &[f64], spreads: usize, buckets: usize) -> Result<Self, Refused> {
        let fits = |side: usize| (1..=TABLE_SIDE_MAX).contains(&side);
        if !fits(spreads) || !fits(buckets) || ticks.len() != spreads * buckets {
            return Err(Refused::new("table", format!("is {spreads} × {buckets}, not within 1 … 1024 each")));
        }
        match ticks.iter().position(|value| value.is_infinite()) {
            Some(at) => {
                let (row, bucket) = (at / buckets, at % buckets);
                Err(Refused::new("table", format!("row {row}, bucket {bucket} is infinite: NaN says not known")))
            }
            None => Ok(Self { ticks: ticks.into(), buckets }),
        }
    }

    /// Both buckets of an imbalance: one and the same, but for equal volumes between two buckets. A share on a border
    /// belongs to the bucket nearer to equal volumes, so that swapping the sides mirrors the bucket.
    #[inline]
    fn buckets_of(&self, bid_volume: i64, ask_volume: i64) -> [usize; 2] {
        let count = self.buckets as i64;
        let outer = (bid_volume.min(ask_volume) * count / (bid_volume + ask_volume)) as usize;
        let mirrored = self.buckets - 1 - outer;
        match bid_volume.cmp(&ask_volume) {
            std::cmp::Ordering::Less => [outer, outer],
            std::cmp::Ordering::Equal => [outer, mirrored],
            std::cmp::Ordering::Greater => [mirrored, mirrored],
        }
    }

    /// Expected move in ticks; NaN for a spread that is no row, and where it is not known. Some volume must be there.
    #[inline]
    fn expected(&self, side: Side, tick_size_e6: i64) -> f64 {
        let spread_e6 = side.ask_price_e6 - side.bid_price_e6;
        if spread_e6 <= 0 || spread_e6 % tick_size_e6 != 0 {
            return f64::NAN;
        }
        let row = (spread_e6 / tick_size_e6 - 1) as usize;
        let [a, b] = self.buckets_of(side.bid_volume, side.ask_volume);
        match self.ticks.chunks_exact(self.buckets).nth(row) {
            Some(row) => 0.5 * (row[a] + row[b]),
            None => f64::NAN,
        }
    }
}

fn check_sides(sides: Sides<'_>) -> Result<usize, Refused> {
    let rows = sides.check()?;
    check_touch(sides.bid_price_e6, sides.ask_price_e6)?;
    Ok(rows)
}

/// Micro-price × 10⁶ into `out`; the weighted mid where the table knows nothing, NaN without two sides or any volume.
pub fn micro_price(sides: Sides<'_>, table: &Table, tick_size_e6: i64, out: &mut [f64]) -> Result<(), Refused> {
    let state = MicroPrice::new(table.clone(), tick_size_e6)?;
    same_rows(&[("bid_price_e6", check_sides(sides)?), ("out", out.len())])?;
    for (row, value) in out.iter_mut().enumerate() {
        *value = state.price(sides.row(row));
    }
    Ok(())
}

/// Streaming micro-price: it remembers the last value alone.
#[derive(Clone, Debug)]
pub struct MicroPrice {
    table: Table,
    tick_size_e6: i64,
    arming: Arming,
    value: f64,
    validity: Validity,
}

impl MicroPrice {
    pub fn new(table: Table, tick_size_e6: i64) -> Result<Self, Refused> {
        let tick_size_e6 = check_tick(tick_size_e6)?;
        let (arming, validity) = (Arming::default(), Validity::WarmingUp);
        Ok(Self { table, tick_size_e6, arming, value: f64::NAN, validity })
    }

    /// Why a book cannot be one.
    pub fn check(side: Side) -> Result<(), Refused> {
        side.check()?;
        check_price("bid_price_e6", side.bid_price_e6)?;
        check_price("ask_price_e6", side.ask_price_e6)
    }

    #[inline]
    fn price(&self, side: Side) -> f64 {
        let one_sided = side.bid_price_e6 == EMPTY_PRICE_E6 || side.ask_price_e6 == EMPTY_PRICE_E6;
        if one_sided || side.bid_volume + side.ask_volume == 0 {
            return f64::NAN;
        }
        let expected = self.table.expected(side, self.tick_size_e6);
        if expected.is_nan() {
            return weighted_mid(side.bid_price_e6, side.bid_volume, side.ask_price_e6, side.ask_volume);
        }
        0.5 * (side.bid_price_e6 + side.ask_price_e6) as f64 + expected * self.tick_size_e6 as f64
    }

    /// Micro-price × 10⁶ of this book, which must have passed `check`.
    pub fn update(&mut self, side: Side) -> f64 {
        self.value = self.price(side);
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
        let rows = check_sides(sides)?;
        same_rows(&[("bid_price_e6", rows), ("out", out.len()), ("validity", validity.len())])?;
        check_marks(("bid_price_e6", rows), marks)?;
        for piece in pieces(rows, marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            for row in piece {
                out[row] = self.update(sides.row(row));
                validity[row] = self.validity as u8;
            }
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        (self.arming, self.value, self.validity) = (Arming::default(), f64::NAN, Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        (self.arming, self.value, self.validity) = (Arming::AFTER_GAP, f64::NAN, Validity::Tainted);
    }

    /// Price × 10⁶; NaN while not valid.
    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
