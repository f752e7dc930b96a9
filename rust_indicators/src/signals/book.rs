//! What one book says: mid, spread, imbalance, depth, and what is wrong with it. Not what changed since the book before,
//! and not the micro-price, which is fitted: `micro_price.rs`.
use super::flow::{
    LEVELS, LEVELS_MAX, SIDES, Sides, check_level_rows, check_level_volumes, check_marks, check_volume, level_count,
};
use super::{Arming, EMPTY_PRICE_E6, Refused, Validity, restart, same_rows};

/// Largest magnitude of a price here: sums and distances of prices stay within 2⁶³.
pub const PRICE_MAX_E6: i64 = 1 << 60;

/// What a book lacks, or shows that it should not. `BookFlag` of `rust_indicators/validity.py` is the twin.
pub mod flag {
    pub const NO_BID: u8 = 1;
    pub const NO_ASK: u8 = 2;
    /// Bid and ask stand at one price.
    pub const LOCKED: u8 = 4;
    /// The bid stands above the ask.
    pub const CROSSED: u8 = 8;
}

/// Why a price cannot be one.
pub fn check_price(argument: &'static str, price_e6: i64) -> Result<(), Refused> {
    if price_e6 == EMPTY_PRICE_E6 || (-PRICE_MAX_E6..=PRICE_MAX_E6).contains(&price_e6) {
        return Ok(());
    }
    Err(Refused::new(argument, format!("{price_e6} is not within ±2⁶⁰")))
}

fn check_prices(argument: &'static str, prices: &[i64]) -> Result<(), Refused> {
    prices.iter().enumerate().try_for_each(|(row, price)| {
        check_price(argument, *price)
            .map_err(|refused| Refused::new(argument, format!("row {row}: {}", refused.reason)))
    })
}

pub fn check_tick(tick_size_e6: i64) -> Result<i64, Refused> {
    if (1..=PRICE_MAX_E6).contains(&tick_size_e6) {
        return Ok(tick_size_e6);
    }
    Err(Refused::new("tick_size_e6", format!("{tick_size_e6} is not within 1 … 2⁶⁰")))
}

/// Refuses best prices that are none, or not as many of each side.
pub fn check_touch(bid_price_e6: &[i64], ask_price_e6: &[i64]) -> Result<usize, Refused> {
    let rows = same_rows(&[(SIDES[0], bid_price_e6.len()), (SIDES[2], ask_price_e6.len())])?;
    check_prices(SIDES[0], bid_price_e6)?;
    check_prices(SIDES[2], ask_price_e6)?;
    Ok(rows)
}

/// Refuses columns that are not books, a row each: the number of rows.
pub fn check_books(book: &[Sides<'_>]) -> Result<usize, Refused> {
    let rows = check_level_rows(book)?;
    check_level_volumes(book)?;
    for (names, level) in LEVELS.into_iter().zip(book) {
        check_prices(names[0], level.bid_price_e6)?;
        check_prices(names[2], level.ask_price_e6)?;
    }
    Ok(rows)
}

/// Refuses volumes of levels that are none; (argument and level, column).
pub fn check_volumes(columns: &[(&'static str, &[i64])]) -> Result<usize, Refused> {
    let lengths: Vec<_> = columns.iter().map(|(name, column)| (*name, column.len())).collect();
    let rows = same_rows(&lengths)?;
    for (name, column) in columns {
        for (row, volume) in column.iter().enumerate() {
            check_volume(name, 0, *volume)
                .map_err(|refused| Refused::new(name, format!("row {row}: {}", refused.reason)))?;
        }
    }
    Ok(rows)
}

/// `bid_volume[2]` and `ask_volume[2]`, for `check_volumes`.
pub fn volume_names(level: usize) -> (&'static str, &'static str) {
    (LEVELS[level][1], LEVELS[level][3])
}

#[inline(always)]
fn two_sided(bid_price_e6: i64, ask_price_e6: i64) -> bool {
    bid_price_e6 != EMPTY_PRICE_E6 && ask_price_e6 != EMPTY_PRICE_E6
}

/// Twice the mid, exactly; `EMPTY_PRICE_E6` where a side is empty.
#[inline(always)]
pub fn mid2_e6(bid_price_e6: i64, ask_price_e6: i64) -> i64 {
    if two_sided(bid_price_e6, ask_price_e6) { bid_price_e6 + ask_price_e6 } else { EMPTY_PRICE_E6 }
}

/// Ask − bid in ticks; NaN where a side is empty.
#[inline(always)]
pub fn spread_ticks(bid_price_e6: i64, ask_price_e6: i64, tick_size_e6: i64) -> f64 {
    if two_sided(bid_price_e6, ask_price_e6) {
        (ask_price_e6 - bid_price_e6) as f64 / tick_size_e6 as f64
    } else {
        f64::NAN
    }
}

/// I·ask + (1 − I)·bid, I the bid's share of the volume; price × 10⁶. NaN where a side is empty or none has volume.
#[inline(always)]
pub fn weighted_mid(bid_price_e6: i64, bid_volume: i64, ask_price_e6: i64, ask_volume: i64) -> f64 {
    if !two_sided(bid_price_e6, ask_price_e6) || bid_volume + ask_volume == 0 {
        return f64::NAN;
    }
    let share = bid_volume as f64 / (bid_volume + ask_volume) as f64;
    bid_price_e6 as f64 + (ask_price_e6 - bid_price_e6) as f64 * share
}

/// (Σ bid − Σ ask) / (Σ bid + Σ ask), within ±1; NaN where both are 0.
#[inline(always)]
pub fn queue_imbalance(bid_volume: i64, ask_volume: i64) -> f64 {
    (bid_volume - ask_volume) as f64 / (bid_volume + ask_volume) as f64
}

/// Σ bid / Σ ask; NaN where the ask is 0.
#[inline(always)]
pub fn depth_ratio(bid_volume: i64, ask_volume: i64) -> f64 {
    if ask_volume == 0 { f64::NAN } else { bid_volume as f64 / ask_volume as f64 }
}

/// Flags of `flag`.
#[inline(always)]
pub fn flags(bid_price_e6: i64, ask_price_e6: i64) -> u8 {
    if two_sided(bid_price_e6, ask_price_e6) {
        return flag::LOCKED * u8::from(bid_price_e6 == ask_price_e6)
            + flag::CROSSED * u8::from(bid_price_e6 > ask_price_e6);
    }
    flag::NO_BID * u8::from(bid_price_e6 == EMPTY_PRICE_E6) + flag::NO_ASK * u8::from(ask_price_e6 == EMPTY_PRICE_E6)
}

/// Lots per tick of distance to the mid, mean of both sides; NaN where the book is one-sided or crossed, and where
/// a side has nothing away from the mid.
pub fn book_slope(book: Sides<'_>, tick_size_e6: i64) -> f64 {
    let (bid, ask) = (book.bid_price_e6[0], book.ask_price_e6[0]);
    if !two_sided(bid, ask) || bid > ask {
        return f64::NAN;
    }
    let two_ticks = tick_size_e6 as f64 * 2.0;
    let side = |prices: &[i64], volumes: &[i64]| {
        let (mut depth, mut product, mut square) = (0, 0.0, 0.0);
        for (price, volume) in prices.iter().zip(volumes) {
            if *price != EMPTY_PRICE_E6 {
                let distance = (2 * i128::from(*price) - i128::from(bid + ask)).unsigned_abs() as f64 / two_ticks;
                depth += volume;
                product += distance * depth as f64;
                square += distance * distance;
            }
        }
        product / square
    };
    (side(book.bid_price_e6, book.bid_volume) + side(book.ask_price_e6, book.ask_volume)) / 2.0
}

/// Books of columns, one at a time.
struct Row([[i64; LEVELS_MAX]; 4], usize);

impl Row {
    fn new(levels: usize) -> Self {
        Self([[0; LEVELS_MAX]; 4], levels)
    }

    fn at(&mut self, book: &[Sides<'_>], row: usize) -> Sides<'_> {
        for (level, sides) in book.iter().enumerate() {
            self.0[0][level] = sides.bid_price_e6[row];
            self.0[1][level] = sides.bid_volume[row];
            self.0[2][level] = sides.ask_price_e6[row];
            self.0[3][level] = sides.ask_volume[row];
        }
        let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] = self.0.each_ref().map(|part| &part[..self.1]);
        Sides { bid_price_e6, bid_volume, ask_price_e6, ask_volume }
    }
}

/// `book_slope` of every row of columns that passed `check_books`.
pub fn book_slopes(book: &[Sides<'_>], tick_size_e6: i64, out: &mut [f64]) {
    let mut books = Row::new(book.len());
    for (row, value) in out.iter_mut().enumerate() {
        *value = book_slope(books.at(book, row), tick_size_e6);
    }
}

/// Sums of the volumes of both sides over the levels, put through `f`, a row each. The columns passed `check_volumes`.
pub fn of_depths(bid_volume: &[&[i64]], ask_volume: &[&[i64]], f: impl Fn(i64, i64) -> f64, out: &mut [f64]) {
    for (row, value) in out.iter_mut().enumerate() {
        let sum = |side: &[&[i64]]| side.iter().map(|level| level[row]).sum();
        *value = f(sum(bid_volume), sum(ask_volume));
    }
}

/// Everything one book says, kept until the next. One book makes it warm; UNDEFINED while a side is empty.
#[derive(Clone, Copy, Debug)]
pub struct BookState {
    levels: usize,
    tick_size_e6: i64,
    arming: Arming,
    validity: Validity,
    pub said: Said,
}

/// What a book says.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub mid2_e6: i64,
    pub spread_ticks: f64,
    pub weighted_mid: f64,
    /// Of the best level.
    pub queue_imbalance: f64,
    /// Of all levels.
    pub depth_imbalance: f64,
    pub depth_ratio: f64,
    pub book_slope: f64,
    pub flags: u8,
}

const NOTHING: Said = Said {
    mid2_e6: 0,
    spread_ticks: f64::NAN,
    weighted_mid: f64::NAN,
    queue_imbalance: f64::NAN,
    depth_imbalance: f64::NAN,
    depth_ratio: f64::NAN,
    book_slope: f64::NAN,
    flags: 0,
};

impl BookState {
    pub fn new(levels: usize, tick_size_e6: i64) -> Result<Self, Refused> {
        let (levels, tick_size_e6) = (level_count("levels", levels)?, check_tick(tick_size_e6)?);
        Ok(Self { levels, tick_size_e6, arming: Arming::default(), validity: Validity::WarmingUp, said: NOTHING })
    }

    /// A book that can be one, and whose prices can be added.
    pub fn check(&self, book: Sides<'_>) -> Result<(), Refused> {
        book.check_book(self.levels)?;
        for (level, names) in LEVELS.iter().enumerate().take(self.levels) {
            check_price(names[0], book.bid_price_e6[level])?;
            check_price(names[2], book.ask_price_e6[level])?;
        }
        Ok(())
    }

    /// The book passed `check`. Returns twice the mid.
    pub fn update(&mut self, book: Sides<'_>) -> i64 {
        let best = book.row(0);
        let (bid, ask) = (best.bid_price_e6, best.ask_price_e6);
        let sum = |side: &[i64]| side.iter().take(self.levels).sum();
        let (bids, asks) = (sum(book.bid_volume), sum(book.ask_volume));
        self.said = Said {
            mid2_e6: mid2_e6(bid, ask),
            spread_ticks: spread_ticks(bid, ask, self.tick_size_e6),
            weighted_mid: weighted_mid(bid, best.bid_volume, ask, best.ask_volume),
            queue_imbalance: queue_imbalance(best.bid_volume, best.ask_volume),
            depth_imbalance: queue_imbalance(bids, asks),
            depth_ratio: depth_ratio(bids, asks),
            book_slope: book_slope(book.part(0..self.levels), self.tick_size_e6),
            flags: flags(bid, ask),
        };
        self.validity = self.arming.validity(true, two_sided(bid, ask));
        self.said.mid2_e6
    }

    /// `update` for every row: twice the mid of each. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        book: &[Sides<'_>],
        marks: Option<&[u8]>,
        out: &mut [i64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_books(book)?;
        if book.len() != self.levels {
            return Err(Refused::new(SIDES[0], format!("has {} levels, not {}", book.len(), self.levels)));
        }
        check_marks((LEVELS[0][0], rows), marks)?;
        same_rows(&[(LEVELS[0][0], rows), ("out", out.len()), ("validity", validity.len())])?;
        let mut books = Row::new(book.len());
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[row] = self.update(books.at(book, row));
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        (self.arming, self.validity, self.said) = (Arming::default(), Validity::WarmingUp, NOTHING);
    }

    pub fn taint(&mut self) {
        (self.arming, self.validity, self.said) = (Arming::AFTER_GAP, Validity::Tainted, NOTHING);
    }

    pub fn levels(&self) -> usize {
        self.levels
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
