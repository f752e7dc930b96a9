//! What one book says: mid, spread, weighted mid, imbalance, depth, slope. Not what changed since the book before.
use super::flow::{Sides, check_volume};
use super::{Arming, EMPTY_PRICE_E6, Refused, Validity, same_rows};
use crate::for_wide_vectors;

/// Levels a side may have; `LEVEL_NAMES` names them.
pub const LEVELS_MAX: usize = 10;
/// Largest price either way: four of them still fit 64 bits.
pub const PRICE_E6_MAX: i64 = 1 << 60;

/// What is unusual about a book. `BookFlag` in `rust_indicators/validity.py` is the twin.
pub mod flag {
    pub const NO_BID: u8 = 1;
    pub const NO_ASK: u8 = 2;
    pub const LOCKED: u8 = 4;
    pub const CROSSED: u8 = 8;
}

macro_rules! level_names {
    ($name:literal) => {
        [
            concat!($name, "[0]"),
            concat!($name, "[1]"),
            concat!($name, "[2]"),
            concat!($name, "[3]"),
            concat!($name, "[4]"),
            concat!($name, "[5]"),
            concat!($name, "[6]"),
            concat!($name, "[7]"),
            concat!($name, "[8]"),
            concat!($name, "[9]"),
        ]
    };
}

const BID_PRICES: [&str; LEVELS_MAX] = level_names!("bid_price_e6");
const BID_VOLUMES: [&str; LEVELS_MAX] = level_names!("bid_volume");
const ASK_PRICES: [&str; LEVELS_MAX] = level_names!("ask_price_e6");
const ASK_VOLUMES: [&str; LEVELS_MAX] = level_names!("ask_volume");

/// Why a price cannot be one.
pub fn check_price(argument: &'static str, price_e6: i64) -> Result<(), Refused> {
    if price_e6 == EMPTY_PRICE_E6 || (-PRICE_E6_MAX..=PRICE_E6_MAX).contains(&price_e6) {
        return Ok(());
    }
    Err(Refused::new(argument, format!("{price_e6} is not within ±2⁶⁰")))
}

pub fn check_tick_size(tick_size_e6: i64) -> Result<i64, Refused> {
    if (1..=PRICE_E6_MAX).contains(&tick_size_e6) {
        return Ok(tick_size_e6);
    }
    Err(Refused::new("tick_size_e6", format!("{tick_size_e6} is not within 1 … 2⁶⁰")))
}

fn at_row(row: usize, refused: Refused) -> Refused {
    Refused::new(refused.argument, format!("row {row}: {}", refused.reason))
}

/// Refuses a column with a price beyond ±2⁶⁰.
pub fn check_prices(argument: &'static str, prices_e6: &[i64]) -> Result<(), Refused> {
    if sound_prices(prices_e6) {
        return Ok(());
    }
    let each = |(row, price): (usize, &i64)| check_price(argument, *price).map_err(|refused| at_row(row, refused));
    prices_e6.iter().enumerate().try_for_each(each)
}

/// Refuses a column with a volume outside 0 … 2⁴⁰.
fn check_volumes(argument: &'static str, volumes: &[i64]) -> Result<(), Refused> {
    let each =
        |(row, volume): (usize, &i64)| check_volume(argument, 0, *volume).map_err(|refused| at_row(row, refused));
    volumes.iter().enumerate().try_for_each(each)
}

#[inline(always)]
fn sound_prices_body(prices_e6: &[i64]) -> bool {
    let mut unsound = false;
    for price in prices_e6 {
        unsound |= (*price > PRICE_E6_MAX) | ((*price < -PRICE_E6_MAX) & (*price != EMPTY_PRICE_E6));
    }
    !unsound
}

for_wide_vectors! {
    fn sound_prices = sound_prices_body, (prices_e6: &[i64]) -> bool
}

/// Checks two best prices and where the results go.
fn check_touch(bid_price_e6: &[i64], ask_price_e6: &[i64], out: usize) -> Result<(), Refused> {
    same_rows(&[("bid_price_e6", bid_price_e6.len()), ("ask_price_e6", ask_price_e6.len()), ("out", out)])?;
    check_prices("bid_price_e6", bid_price_e6)?;
    check_prices("ask_price_e6", ask_price_e6)
}

/// Checks best levels, prices too.
pub fn check_sides(sides: &Sides<'_>) -> Result<usize, Refused> {
    let rows = sides.check()?;
    check_prices("bid_price_e6", sides.bid_price_e6)?;
    check_prices("ask_price_e6", sides.ask_price_e6)?;
    Ok(rows)
}

// One row

/// Twice the mid, exactly.
#[inline(always)]
fn mid2(bid: i64, ask: i64) -> i64 {
    if bid == EMPTY_PRICE_E6 || ask == EMPTY_PRICE_E6 { EMPTY_PRICE_E6 } else { bid + ask }
}

#[inline(always)]
pub fn flags(bid: i64, ask: i64) -> u8 {
    let (no_bid, no_ask) = (bid == EMPTY_PRICE_E6, ask == EMPTY_PRICE_E6);
    let both = !no_bid & !no_ask;
    u8::from(no_bid) * flag::NO_BID
        + u8::from(no_ask) * flag::NO_ASK
        + u8::from(both & (bid == ask)) * flag::LOCKED
        + u8::from(both & (bid > ask)) * flag::CROSSED
}

/// a / b, NaN for 0 / 0 and for every other division by 0.
#[inline(always)]
fn quotient(a: f64, b: f64) -> f64 {
    if b == 0.0 { f64::NAN } else { a / b }
}

#[inline(always)]
fn spread(bid: i64, ask: i64, tick: f64) -> f64 {
    if mid2(bid, ask) == EMPTY_PRICE_E6 { f64::NAN } else { (ask - bid) as f64 / tick }
}

/// From the bid, the share of the spread that the bid has of the volume: never outside of the two.
#[inline(always)]
pub fn weighted(bid: i64, bid_volume: i64, ask: i64, ask_volume: i64) -> f64 {
    if mid2(bid, ask) == EMPTY_PRICE_E6 {
        return f64::NAN;
    }
    bid as f64 + quotient(bid_volume as f64, (bid_volume + ask_volume) as f64) * (ask - bid) as f64
}

#[inline(always)]
fn imbalance(bid_depth: i64, ask_depth: i64) -> f64 {
    quotient((bid_depth - ask_depth) as f64, (bid_depth + ask_depth) as f64)
}

/// Lots per half unit of price that one side gains with distance: Σ d·V / Σ d², d twice the distance to the mid; NaN
/// where a level is not beyond the mid.
#[inline(always)]
fn side_slope(levels: impl Iterator<Item = (i64, i64)>, sign: i64, mid2_e6: i64) -> f64 {
    let (mut depth, mut inner, mut square, mut beyond) = (0_i64, 0.0_f64, 0.0_f64, true);
    for (price, volume) in levels {
        if price != EMPTY_PRICE_E6 {
            let distance = (sign * (2 * price - mid2_e6)) as f64;
            depth += volume;
            inner += distance * depth as f64;
            square += distance * distance;
            beyond &= distance > 0.0;
        }
    }
    if beyond { inner / square } else { f64::NAN }
}

/// Mean slope of both sides, lots per tick.
#[inline(always)]
fn slope(
    bids: impl Iterator<Item = (i64, i64)>,
    asks: impl Iterator<Item = (i64, i64)>,
    mid2_e6: i64,
    tick: f64,
) -> f64 {
    if mid2_e6 == EMPTY_PRICE_E6 {
        return f64::NAN;
    }
    (side_slope(bids, -1, mid2_e6) + side_slope(asks, 1, mid2_e6)) * tick
}

// Columns

#[inline(always)]
fn fill_mid2_body(bid: &[i64], ask: &[i64], out: &mut [i64]) {
    for ((bid, ask), value) in bid.iter().zip(ask).zip(out) {
        let sum = bid.wrapping_add(*ask);
        *value = if (*bid == EMPTY_PRICE_E6) | (*ask == EMPTY_PRICE_E6) { EMPTY_PRICE_E6 } else { sum };
    }
}

for_wide_vectors! {
    fn fill_mid2 = fill_mid2_body, (bid: &[i64], ask: &[i64], out: &mut [i64])
}

#[inline(always)]
fn fill_flags_body(bid: &[i64], ask: &[i64], out: &mut [u8]) {
    for ((bid, ask), value) in bid.iter().zip(ask).zip(out) {
        *value = flags(*bid, *ask);
    }
}

for_wide_vectors! {
    fn fill_flags = fill_flags_body, (bid: &[i64], ask: &[i64], out: &mut [u8])
}

/// Bid + ask; `EMPTY_PRICE_E6` where a side is empty.
pub fn mid2_e6(bid_price_e6: &[i64], ask_price_e6: &[i64], out: &mut [i64]) -> Result<(), Refused> {
    check_touch(bid_price_e6, ask_price_e6, out.len())?;
    fill_mid2(bid_price_e6, ask_price_e6, out);
    Ok(())
}

/// Which sides are empty, and whether the book is locked or crossed: bits of `flag`.
pub fn book_flags(bid_price_e6: &[i64], ask_price_e6: &[i64], out: &mut [u8]) -> Result<(), Refused> {
    check_touch(bid_price_e6, ask_price_e6, out.len())?;
    fill_flags(bid_price_e6, ask_price_e6, out);
    Ok(())
}

/// Ask − bid in ticks; NaN where a side is empty.
pub fn spread_ticks(
    bid_price_e6: &[i64],
    ask_price_e6: &[i64],
    tick_size_e6: i64,
    out: &mut [f64],
) -> Result<(), Refused> {
    check_touch(bid_price_e6, ask_price_e6, out.len())?;
    let tick = check_tick_size(tick_size_e6)? as f64;
    for ((bid, ask), value) in bid_price_e6.iter().zip(ask_price_e6).zip(out) {
        *value = spread(*bid, *ask, tick);
    }
    Ok(())
}

/// Price × 10⁶ between bid and ask, nearer to the smaller volume; NaN one-sided or without volume.
pub fn weighted_mid(sides: Sides<'_>, out: &mut [f64]) -> Result<(), Refused> {
    same_rows(&[("bid_price_e6", check_sides(&sides)?), ("out", out.len())])?;
    let prices = sides.bid_price_e6.iter().zip(sides.ask_price_e6);
    let volumes = sides.bid_volume.iter().zip(sides.ask_volume);
    for (((bid, ask), (bid_volume, ask_volume)), value) in prices.zip(volumes).zip(out) {
        *value = weighted(*bid, *bid_volume, *ask, *ask_volume);
    }
    Ok(())
}

/// Levels of both sides, best first: a column a level, a row an event.
#[derive(Clone, Copy)]
pub struct Levels<'a> {
    pub bid_price_e6: &'a [&'a [i64]],
    pub bid_volume: &'a [&'a [i64]],
    pub ask_price_e6: &'a [&'a [i64]],
    pub ask_volume: &'a [&'a [i64]],
}

/// As many levels each as the first, 1 … 10 of them.
fn same_levels(arguments: &[(&'static str, usize)]) -> Result<usize, Refused> {
    let (first, levels) = arguments[0];
    if !(1..=LEVELS_MAX).contains(&levels) {
        return Err(Refused::new(first, format!("has {levels} levels, not 1 … 10")));
    }
    match arguments.iter().find(|(_, found)| *found != levels) {
        Some((name, found)) => Err(Refused::new(name, format!("has {found} levels, {first} has {levels}"))),
        None => Ok(levels),
    }
}

fn named<'a>(
    names: &'a [&'static str; LEVELS_MAX],
    levels: &'a [&'a [i64]],
) -> impl Iterator<Item = (&'static str, usize)> + 'a {
    names.iter().zip(levels).map(|(name, column)| (*name, column.len()))
}

/// Sums of volumes over the levels: into `out` what `value` makes of a bid's and an ask's.
fn of_depths(
    bid_volume: &[&[i64]],
    ask_volume: &[&[i64]],
    out: &mut [f64],
    value: impl Fn(i64, i64) -> f64,
) -> Result<(), Refused> {
    same_levels(&[("bid_volume", bid_volume.len()), ("ask_volume", ask_volume.len())])?;
    let lengths = named(&BID_VOLUMES, bid_volume).chain(named(&ASK_VOLUMES, ask_volume));
    same_rows(&lengths.chain([("out", out.len())]).collect::<Vec<_>>())?;
    for (names, side) in [(&BID_VOLUMES, bid_volume), (&ASK_VOLUMES, ask_volume)] {
        names.iter().zip(side).try_for_each(|(name, column)| check_volumes(name, column))?;
    }
    // Column after column in pieces that stay in the nearest cache.
    const ROWS: usize = 512;
    let (mut bids, mut asks) = ([0_i64; ROWS], [0_i64; ROWS]);
    for (piece, out) in out.chunks_mut(ROWS).enumerate() {
        let rows = piece * ROWS..piece * ROWS + out.len();
        for (sums, side) in [(&mut bids, bid_volume), (&mut asks, ask_volume)] {
            sums.fill(0);
            for column in side {
                sums.iter_mut().zip(&column[rows.clone()]).for_each(|(sum, volume)| *sum += volume);
            }
        }
        for ((bid, ask), out) in bids.iter().zip(&asks).zip(out) {
            *out = value(*bid, *ask);
        }
    }
    Ok(())
}

/// (Σ bid − Σ ask) / (Σ bid + Σ ask); NaN where there is no volume.
pub fn queue_imbalance(bid_volume: &[&[i64]], ask_volume: &[&[i64]], out: &mut [f64]) -> Result<(), Refused> {
    of_depths(bid_volume, ask_volume, out, imbalance)
}

/// Σ bid / Σ ask; NaN where the asks have no volume.
pub fn depth_ratio(bid_volume: &[&[i64]], ask_volume: &[&[i64]], out: &mut [f64]) -> Result<(), Refused> {
    of_depths(bid_volume, ask_volume, out, |bid, ask| quotient(bid as f64, ask as f64))
}

impl Levels<'_> {
    fn check(&self) -> Result<usize, Refused> {
        same_levels(&[
            ("bid_price_e6", self.bid_price_e6.len()),
            ("bid_volume", self.bid_volume.len()),
            ("ask_price_e6", self.ask_price_e6.len()),
            ("ask_volume", self.ask_volume.len()),
        ])?;
        let bids = named(&BID_PRICES, self.bid_price_e6).chain(named(&BID_VOLUMES, self.bid_volume));
        let asks = named(&ASK_PRICES, self.ask_price_e6).chain(named(&ASK_VOLUMES, self.ask_volume));
        let rows = same_rows(&bids.chain(asks).collect::<Vec<_>>())?;
        for (row, level) in (0..rows).flat_map(|row| (0..self.bid_price_e6.len()).map(move |level| (row, level))) {
            let (bid, ask) = (self.bid_price_e6[level][row], self.ask_price_e6[level][row]);
            check_level(level, bid, self.bid_volume[level][row], ask, self.ask_volume[level][row])
                .map_err(|refused| at_row(row, refused))?;
        }
        Ok(rows)
    }
}

fn check_level(level: usize, bid: i64, bid_volume: i64, ask: i64, ask_volume: i64) -> Result<(), Refused> {
    check_price(BID_PRICES[level], bid)?;
    check_volume(BID_VOLUMES[level], bid, bid_volume)?;
    check_price(ASK_PRICES[level], ask)?;
    check_volume(ASK_VOLUMES[level], ask, ask_volume)
}

/// Lots per tick that a book gains with distance from its mid; NaN one-sided, locked or crossed.
pub fn book_slope(levels: Levels<'_>, tick_size_e6: i64, out: &mut [f64]) -> Result<(), Refused> {
    same_rows(&[("bid_price_e6", levels.check()?), ("out", out.len())])?;
    let tick = check_tick_size(tick_size_e6)? as f64;
    for (row, value) in out.iter_mut().enumerate() {
        let side = |prices: &[&[i64]], volumes: &[&[i64]], level: usize| (prices[level][row], volumes[level][row]);
        let count = levels.bid_price_e6.len();
        let bids = (0..count).map(|level| side(levels.bid_price_e6, levels.bid_volume, level));
        let asks = (0..count).map(|level| side(levels.ask_price_e6, levels.ask_volume, level));
        *value = slope(bids, asks, mid2(levels.bid_price_e6[0][row], levels.ask_price_e6[0][row]), tick);
    }
    Ok(())
}

// Streaming

/// All that one book says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Bid + ask, price × 10⁶; `EMPTY_PRICE_E6` one-sided.
    pub mid2_e6: i64,
    pub spread_ticks: f64,
    /// Price × 10⁶.
    pub weighted_mid: f64,
    /// Of the best level.
    pub queue_imbalance: f64,
    /// Of all levels.
    pub depth_imbalance: f64,
    pub depth_ratio: f64,
    /// Lots per tick.
    pub book_slope: f64,
    /// Bits of `flag`.
    pub flags: u8,
}

impl Reading {
    const OF_NO_BOOK: Self = Self {
        mid2_e6: EMPTY_PRICE_E6,
        spread_ticks: f64::NAN,
        weighted_mid: f64::NAN,
        queue_imbalance: f64::NAN,
        depth_imbalance: f64::NAN,
        depth_ratio: f64::NAN,
        book_slope: f64::NAN,
        flags: flag::NO_BID | flag::NO_ASK,
    };
}

/// Streaming: the last book's reading, and whether it says what a two-sided book says.
#[derive(Clone, Copy, Debug)]
pub struct BookState {
    tick: f64,
    reading: Reading,
    arming: Arming,
    validity: Validity,
}

impl BookState {
    pub fn new(tick_size_e6: i64) -> Result<Self, Refused> {
        Ok(Self::fresh(check_tick_size(tick_size_e6)? as f64, Arming::default(), Validity::WarmingUp))
    }

    fn fresh(tick: f64, arming: Arming, validity: Validity) -> Self {
        Self { tick, reading: Reading::OF_NO_BOOK, arming, validity }
    }

    /// Why these levels are no book: slices of the same length, 1 … 10.
    pub fn check(
        bid_price_e6: &[i64],
        bid_volume: &[i64],
        ask_price_e6: &[i64],
        ask_volume: &[i64],
    ) -> Result<(), Refused> {
        let levels = same_levels(&[
            ("bid_price_e6", bid_price_e6.len()),
            ("bid_volume", bid_volume.len()),
            ("ask_price_e6", ask_price_e6.len()),
            ("ask_volume", ask_volume.len()),
        ])?;
        (0..levels)
            .try_for_each(|at| check_level(at, bid_price_e6[at], bid_volume[at], ask_price_e6[at], ask_volume[at]))
    }

    /// What a book of so many levels says. It must have passed `check`.
    pub fn update<const LEVELS: usize>(
        &mut self,
        bid_price_e6: &[i64; LEVELS],
        bid_volume: &[i64; LEVELS],
        ask_price_e6: &[i64; LEVELS],
        ask_volume: &[i64; LEVELS],
    ) -> &Reading {
        self.update_levels(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    }

    /// `update` where the number of levels is known only now.
    #[inline(always)]
    pub fn update_levels(
        &mut self,
        bid_price_e6: &[i64],
        bid_volume: &[i64],
        ask_price_e6: &[i64],
        ask_volume: &[i64],
    ) -> &Reading {
        let (bid, ask, mid2_e6) = (bid_price_e6[0], ask_price_e6[0], mid2(bid_price_e6[0], ask_price_e6[0]));
        let (bid_depth, ask_depth) = (bid_volume.iter().sum::<i64>(), ask_volume.iter().sum::<i64>());
        let bids = bid_price_e6.iter().copied().zip(bid_volume.iter().copied());
        let asks = ask_price_e6.iter().copied().zip(ask_volume.iter().copied());
        self.reading = Reading {
            mid2_e6,
            spread_ticks: spread(bid, ask, self.tick),
            weighted_mid: weighted(bid, bid_volume[0], ask, ask_volume[0]),
            queue_imbalance: imbalance(bid_volume[0], ask_volume[0]),
            depth_imbalance: imbalance(bid_depth, ask_depth),
            depth_ratio: quotient(bid_depth as f64, ask_depth as f64),
            book_slope: slope(bids, asks, mid2_e6, self.tick),
            flags: flags(bid, ask),
        };
        self.validity = self.arming.validity(true, !self.reading.weighted_mid.is_nan());
        &self.reading
    }

    pub fn reset(&mut self) {
        *self = Self::fresh(self.tick, Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        *self = Self::fresh(self.tick, Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
