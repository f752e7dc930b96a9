//! Order flow imbalance: what books say of supply and demand that came and went, and the signed volume of trades.
//! Not what is made of them over windows: `windows.rs`.
//! Cont, Kukanov & Stoikov (2014), Journal of Financial Econometrics 12(1) 47–88; levels: Xu, Gould & Howison (2018).
use super::{Arming, EMPTY_PRICE_E6, Refused, VOLUME_MAX, Validity, pieces, restart, restarts, same_rows};
use crate::for_wide_vectors;

/// Most levels a book may have here: twice what the feed has, as LOBSTER's samples do.
pub const LEVELS_MAX: usize = 10;
pub(super) const SIDES: [&str; 4] = ["bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume"];

macro_rules! names_by_level {
    ($($level:literal)*) => {
        [$([
            concat!("bid_price_e6[", $level, "]"),
            concat!("bid_volume[", $level, "]"),
            concat!("ask_price_e6[", $level, "]"),
            concat!("ask_volume[", $level, "]"),
        ]),*]
    };
}
pub(super) const LEVELS: [[&str; 4]; LEVELS_MAX] = names_by_level!(0 1 2 3 4 5 6 7 8 9);

/// One level of both sides, a row an event; or one book, a row a level, best first.
/// Prices × 10⁶; an empty level has `EMPTY_PRICE_E6` and volume 0.
#[derive(Clone, Copy)]
pub struct Sides<'a> {
    pub bid_price_e6: &'a [i64],
    pub bid_volume: &'a [i64],
    pub ask_price_e6: &'a [i64],
    pub ask_volume: &'a [i64],
}

/// One row of `Sides`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    pub bid_price_e6: i64,
    pub bid_volume: i64,
    pub ask_price_e6: i64,
    pub ask_volume: i64,
}

const EMPTY: Side = Side { bid_price_e6: EMPTY_PRICE_E6, bid_volume: 0, ask_price_e6: EMPTY_PRICE_E6, ask_volume: 0 };

impl<'a> Sides<'a> {
    /// Equal lengths, and volumes that are some: the number of rows.
    pub fn check(&self) -> Result<usize, Refused> {
        let rows = self.rows(SIDES, (SIDES[0], self.bid_price_e6.len()))?;
        self.check_volumes(SIDES)?;
        Ok(rows)
    }

    /// Equal lengths: the number of rows.
    fn rows(&self, names: [&'static str; 4], first: (&'static str, usize)) -> Result<usize, Refused> {
        same_rows(&[
            first,
            (names[0], self.bid_price_e6.len()),
            (names[1], self.bid_volume.len()),
            (names[2], self.ask_price_e6.len()),
            (names[3], self.ask_volume.len()),
        ])
    }

    fn check_volumes(&self, names: [&'static str; 4]) -> Result<(), Refused> {
        for (name, prices, volumes) in
            [(names[1], self.bid_price_e6, self.bid_volume), (names[3], self.ask_price_e6, self.ask_volume)]
        {
            for (row, (price, volume)) in prices.iter().zip(volumes).enumerate() {
                check_volume(name, *price, *volume)
                    .map_err(|refused| Refused::new(name, format!("row {row}: {}", refused.reason)))?;
            }
        }
        Ok(())
    }

    /// Of one book: as many levels as said, and volumes that are some.
    pub fn check_book(&self, levels: usize) -> Result<(), Refused> {
        for (name, side) in
            SIDES.into_iter().zip([self.bid_price_e6, self.bid_volume, self.ask_price_e6, self.ask_volume])
        {
            if side.len() != levels {
                return Err(Refused::new(name, format!("has {} levels, not {levels}", side.len())));
            }
        }
        for (level, names) in LEVELS.iter().enumerate().take(levels) {
            let side = self.row(level);
            check_volume(names[1], side.bid_price_e6, side.bid_volume)?;
            check_volume(names[3], side.ask_price_e6, side.ask_volume)?;
        }
        Ok(())
    }

    #[inline(always)]
    pub fn row(&self, row: usize) -> Side {
        Side {
            bid_price_e6: self.bid_price_e6[row],
            bid_volume: self.bid_volume[row],
            ask_price_e6: self.ask_price_e6[row],
            ask_volume: self.ask_volume[row],
        }
    }

    pub fn part(&self, rows: std::ops::Range<usize>) -> Sides<'a> {
        Sides {
            bid_price_e6: &self.bid_price_e6[rows.clone()],
            bid_volume: &self.bid_volume[rows.clone()],
            ask_price_e6: &self.ask_price_e6[rows.clone()],
            ask_volume: &self.ask_volume[rows],
        }
    }
}

/// Refuses a number of levels no book has here.
pub fn level_count(argument: &'static str, levels: usize) -> Result<usize, Refused> {
    if (1..=LEVELS_MAX).contains(&levels) {
        return Ok(levels);
    }
    Err(Refused::new(argument, format!("has {levels} levels, not 1 … {LEVELS_MAX}")))
}

/// Equal lengths in every level: the number of rows. The volumes are not looked at.
pub fn check_level_rows(book: &[Sides<'_>]) -> Result<usize, Refused> {
    level_count(SIDES[0], book.len())?;
    let first = (LEVELS[0][0], book[0].bid_price_e6.len());
    for (names, level) in LEVELS.into_iter().zip(book) {
        level.rows(names, first)?;
    }
    Ok(first.1)
}

/// Volumes that are some, in every level.
pub fn check_level_volumes(book: &[Sides<'_>]) -> Result<(), Refused> {
    LEVELS.into_iter().zip(book).try_for_each(|(names, level)| level.check_volumes(names))
}

impl Side {
    pub fn check(&self) -> Result<(), Refused> {
        check_volume("bid_volume", self.bid_price_e6, self.bid_volume)?;
        check_volume("ask_volume", self.ask_price_e6, self.ask_volume)
    }
}

/// Why a volume cannot be one.
pub fn check_volume(argument: &'static str, price_e6: i64, volume: i64) -> Result<(), Refused> {
    if !(0..=VOLUME_MAX).contains(&volume) {
        return Err(Refused::new(argument, format!("{volume} is not within 0 … 2⁴⁰")));
    }
    if price_e6 == EMPTY_PRICE_E6 && volume != 0 {
        return Err(Refused::new(argument, format!("{volume} at a level without a price")));
    }
    Ok(())
}

/// An empty ask stands at +∞, an empty bid at −∞.
#[inline(always)]
fn ask_key(price_e6: i64) -> i64 {
    if price_e6 == EMPTY_PRICE_E6 { i64::MAX } else { price_e6 }
}

/// e_n of one level between two books: what the bid gained minus what the ask gained, in lots.
#[inline(always)]
pub fn contribution(before: Side, now: Side) -> i64 {
    let (ask_before, ask) = (ask_key(before.ask_price_e6), ask_key(now.ask_price_e6));
    let gained_bid = if now.bid_price_e6 >= before.bid_price_e6 { now.bid_volume } else { 0 };
    let lost_bid = if now.bid_price_e6 <= before.bid_price_e6 { before.bid_volume } else { 0 };
    let gained_ask = if ask <= ask_before { now.ask_volume } else { 0 };
    let lost_ask = if ask >= ask_before { before.ask_volume } else { 0 };
    // Volumes are judged in the same pass: what wraps here is refused after it.
    gained_bid.wrapping_sub(lost_bid).wrapping_sub(gained_ask).wrapping_add(lost_ask)
}

/// One pass computes and judges: two would read the columns from memory twice.
#[inline(always)]
fn contributions_body(sides: Sides<'_>, out: &mut [i64]) -> bool {
    let rows = out.len();
    let Sides { bid_price_e6, bid_volume, ask_price_e6, ask_volume } = sides;
    let (bid_price_e6, bid_volume) = (&bid_price_e6[..rows], &bid_volume[..rows]);
    let (ask_price_e6, ask_volume) = (&ask_price_e6[..rows], &ask_volume[..rows]);
    let (mut all, mut misplaced) = (0, 0);
    let mut judge = |side: Side| {
        all |= side.bid_volume | side.ask_volume;
        misplaced |= if side.bid_price_e6 == EMPTY_PRICE_E6 { side.bid_volume } else { 0 };
        misplaced |= if side.ask_price_e6 == EMPTY_PRICE_E6 { side.ask_volume } else { 0 };
    };
    let at = |row: usize| Side {
        bid_price_e6: bid_price_e6[row],
        bid_volume: bid_volume[row],
        ask_price_e6: ask_price_e6[row],
        ask_volume: ask_volume[row],
    };
    if rows > 0 {
        judge(at(0));
    }
    for (row, value) in out.iter_mut().enumerate().skip(1) {
        let (before, now) = (at(row - 1), at(row));
        judge(now);
        *value = contribution(before, now);
    }
    // Some bit above 2⁴⁰: too large, or negative. 2⁴⁰ itself is looked at once more, row by row.
    (all as u64) < VOLUME_MAX as u64 && misplaced == 0
}

for_wide_vectors! {
    /// e_n of rows 1 …; row 0 is left as it is. False: the volumes must be looked at more closely.
    fn contributions = contributions_body, (sides: Sides<'_>, out: &mut [i64]) -> bool
}

/// e_n of one level, a row an event; 0 where no book is before it. False as `contributions`.
fn level_contributions(before: Option<Side>, sides: Sides<'_>, marks: Option<&[u8]>, out: &mut [i64]) -> bool {
    let (mut before, mut sound) = (before, true);
    for piece in pieces(out.len(), marks) {
        if marks.is_some_and(|marks| marks[piece.start] != restart::NONE) {
            before = None;
        }
        out[piece.start] = before.map_or(0, |before| contribution(before, sides.row(piece.start)));
        sound &= contributions(sides.part(piece.clone()), &mut out[piece.clone()]);
        before = Some(sides.row(piece.end - 1));
    }
    sound
}

/// Whether a book came before, and what the value is worth for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begun {
    begun: bool,
    arming: Arming,
    pub validity: Validity,
}

impl Begun {
    pub const AFTER_GAP: Self = Self { begun: false, arming: Arming::AFTER_GAP, validity: Validity::Tainted };

    pub fn update(&mut self) {
        self.validity = self.arming.validity(self.begun, true);
        self.begun = true;
    }

    fn update_many(&mut self, rows: usize, marks: Option<&[u8]>, mut validity: Option<&mut [u8]>) {
        for piece in pieces(rows, marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => *self = Self::default(),
                restart::TAINT => *self = Self::AFTER_GAP,
                _ => {}
            }
            self.update();
            if let Some(validity) = validity.as_deref_mut() {
                validity[piece.start] = self.validity as u8;
                validity[piece.start + 1..piece.end].fill(Validity::Valid as u8);
            }
            if piece.len() > 1 {
                self.update();
            }
        }
    }
}

pub(super) fn check_marks(first: (&'static str, usize), marks: Option<&[u8]>) -> Result<(), Refused> {
    let Some(marks) = marks else { return Ok(()) };
    same_rows(&[first, ("restart", marks.len())])?;
    restarts("restart", marks)
}

/// e_n in lots into `out`; 0 in row 0 and at every restart. Refused, `out` holds anything.
pub fn ofi(sides: Sides<'_>, marks: Option<&[u8]>, out: &mut [i64]) -> Result<(), Refused> {
    Ofi::default().update_many(sides, marks, out, None)
}

/// Streaming OFI of one level: the book before is all it remembers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ofi {
    before: Option<Side>,
    begun: Begun,
    value: i64,
}

impl Ofi {
    /// e_n of this book, in lots; 0 where there is none before it. The book must have passed `Side::check`.
    pub fn update(&mut self, now: Side) -> i64 {
        self.value = self.before.map_or(0, |before| contribution(before, now));
        self.begun.update();
        self.before = Some(now);
        self.value
    }

    /// `update` for every row. Refused, the state has not changed, and `out` holds anything.
    pub fn update_many(
        &mut self,
        sides: Sides<'_>,
        marks: Option<&[u8]>,
        out: &mut [i64],
        validity: Option<&mut [u8]>,
    ) -> Result<(), Refused> {
        let first = (SIDES[0], sides.bid_price_e6.len());
        let rows = sides.rows(SIDES, first)?;
        same_rows(&[first, ("out", out.len())])?;
        check_marks(first, marks)?;
        if !level_contributions(self.before, sides, marks, out) {
            sides.check_volumes(SIDES)?;
        }
        if rows > 0 {
            self.begun.update_many(rows, marks, validity);
            (self.before, self.value) = (Some(sides.row(rows - 1)), out[rows - 1]);
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn taint(&mut self) {
        *self = Self { begun: Begun::AFTER_GAP, ..Self::default() };
    }

    pub fn value(&self) -> i64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.begun.validity
    }
}

/// e_n of every level into `out`, level by level, each as long as the columns. Refused, `out` holds anything.
pub fn mlofi(book: &[Sides<'_>], marks: Option<&[u8]>, out: &mut [i64]) -> Result<(), Refused> {
    Mlofi::new(book.len())?.update_many(book, marks, out, None)
}

/// Streaming OFI of every level.
#[derive(Clone, Copy, Debug)]
pub struct Mlofi {
    levels: usize,
    before: [Side; LEVELS_MAX],
    values: [i64; LEVELS_MAX],
    begun: Begun,
}

impl Mlofi {
    pub fn new(levels: usize) -> Result<Self, Refused> {
        level_count("levels", levels)?;
        Ok(Self { levels, before: [EMPTY; LEVELS_MAX], values: [0; LEVELS_MAX], begun: Begun::default() })
    }

    /// e_n of every level of this book, in lots. It has at least so many levels, and passed `Sides::check_book`.
    pub fn update(&mut self, book: Sides<'_>) -> &[i64] {
        for level in 0..self.levels {
            let now = book.row(level);
            self.values[level] = if self.begun.begun { contribution(self.before[level], now) } else { 0 };
            self.before[level] = now;
        }
        self.begun.update();
        self.values()
    }

    /// `update` for every row. Refused, the state has not changed, and `out` holds anything.
    pub fn update_many(
        &mut self,
        book: &[Sides<'_>],
        marks: Option<&[u8]>,
        out: &mut [i64],
        validity: Option<&mut [u8]>,
    ) -> Result<(), Refused> {
        let rows = check_level_rows(book)?;
        if book.len() != self.levels {
            return Err(Refused::new(SIDES[0], format!("has {} levels, not {}", book.len(), self.levels)));
        }
        check_marks((LEVELS[0][0], rows), marks)?;
        same_rows(&[("levels", rows * self.levels), ("out", out.len())])?;
        if rows == 0 {
            return Ok(());
        }
        let mut sound = true;
        for (level, (sides, out)) in book.iter().zip(out.chunks_exact_mut(rows)).enumerate() {
            let before = self.begun.begun.then_some(self.before[level]);
            sound &= level_contributions(before, *sides, marks, out);
        }
        if !sound {
            check_level_volumes(book)?;
        }
        self.begun.update_many(rows, marks, validity);
        for (level, (sides, out)) in book.iter().zip(out.chunks_exact(rows)).enumerate() {
            (self.before[level], self.values[level]) = (sides.row(rows - 1), out[rows - 1]);
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        (self.values, self.begun) = ([0; LEVELS_MAX], Begun::default());
    }

    pub fn taint(&mut self) {
        (self.values, self.begun) = ([0; LEVELS_MAX], Begun::AFTER_GAP);
    }

    pub fn levels(&self) -> usize {
        self.levels
    }

    pub fn values(&self) -> &[i64] {
        &self.values[..self.levels]
    }

    pub fn validity(&self) -> Validity {
        self.begun.validity
    }
}

/// What a trade's side is: the broker's `tick_type`.
pub const BUY: u8 = 1;
pub const SELL: u8 = 2;

/// A trade that can be one: its side.
pub fn check_trade(side: i64, volume: i64) -> Result<u8, Refused> {
    check_volume("volume", 0, volume)?;
    let known = u8::try_from(side).ok().filter(|side| *side <= SELL);
    known.ok_or_else(|| Refused::new("side", format!("{side} is not 0 (unknown), 1 (buy) or 2 (sell)")))
}

/// Volume of a trade with its sign: + bought, − sold, 0 where nobody knows.
#[inline(always)]
pub fn signed_volume(side: u8, volume: i64) -> i64 {
    ((side == BUY) as i64 - (side == SELL) as i64).wrapping_mul(volume)
}

#[inline(always)]
fn signed_volumes_body(side: &[u8], volume: &[i64], out: &mut [i64]) -> bool {
    let (mut sides, mut volumes) = (0, 0);
    for ((side, volume), value) in side.iter().zip(volume).zip(out) {
        sides |= if *side > SELL { 1 } else { 0_u8 };
        volumes |= *volume;
        *value = signed_volume(*side, *volume);
    }
    sides == 0 && (volumes as u64) < VOLUME_MAX as u64
}

for_wide_vectors! {
    fn signed_volumes = signed_volumes_body, (side: &[u8], volume: &[i64], out: &mut [i64]) -> bool
}

/// Signed volume of every trade, in lots. Refused, `out` holds anything.
pub fn trade_imbalance(side: &[u8], volume: &[i64], out: &mut [i64]) -> Result<(), Refused> {
    same_rows(&[("side", side.len()), ("volume", volume.len()), ("out", out.len())])?;
    if signed_volumes(side, volume, out) {
        return Ok(());
    }
    for (row, (side, volume)) in side.iter().zip(volume).enumerate() {
        check_trade((*side).into(), *volume)
            .map_err(|refused| Refused::new(refused.argument, format!("row {row}: {}", refused.reason)))?;
    }
    Ok(())
}

/// Streaming signed volume: the last trade is all it remembers, so one trade makes it warm.
#[derive(Clone, Copy, Debug, Default)]
pub struct TradeImbalance {
    value: i64,
    validity: Validity,
}

impl TradeImbalance {
    /// The trade must have passed `check_trade`.
    pub fn update(&mut self, side: u8, volume: i64) -> i64 {
        (self.value, self.validity) = (signed_volume(side, volume), Validity::Valid);
        self.value
    }

    /// `update` for every row; a restart before one leaves nothing to forget. Refused, the state has not changed.
    pub fn update_many(
        &mut self,
        side: &[u8],
        volume: &[i64],
        marks: Option<&[u8]>,
        out: &mut [i64],
    ) -> Result<(), Refused> {
        check_marks(("side", side.len()), marks)?;
        trade_imbalance(side, volume, out)?;
        if let (Some(side), Some(volume)) = (side.last(), volume.last()) {
            self.update(*side, *volume);
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn taint(&mut self) {
        *self = Self { value: 0, validity: Validity::Tainted };
    }

    pub fn value(&self) -> i64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
