//! Order flow imbalance: what books say of supply and demand that came and went. Not the trades themselves.
//! Cont, Kukanov & Stoikov (2014), Journal of Financial Econometrics 12(1) 47–88.
use super::{Arming, EMPTY_PRICE_E6, Refused, VOLUME_MAX, Validity, pieces, restart, restarts, same_rows};
use crate::for_wide_vectors;

/// Best level of both sides, a row an event. Prices × 10⁶; an empty side has `EMPTY_PRICE_E6` and volume 0.
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

impl<'a> Sides<'a> {
    /// Equal lengths, and volumes that are some: the number of rows.
    pub fn check(&self) -> Result<usize, Refused> {
        let rows = same_rows(&[
            ("bid_price_e6", self.bid_price_e6.len()),
            ("bid_volume", self.bid_volume.len()),
            ("ask_price_e6", self.ask_price_e6.len()),
            ("ask_volume", self.ask_volume.len()),
        ])?;
        check_side("bid_volume", self.bid_price_e6, self.bid_volume)?;
        check_side("ask_volume", self.ask_price_e6, self.ask_volume)?;
        Ok(rows)
    }

    pub fn row(&self, row: usize) -> Side {
        Side {
            bid_price_e6: self.bid_price_e6[row],
            bid_volume: self.bid_volume[row],
            ask_price_e6: self.ask_price_e6[row],
            ask_volume: self.ask_volume[row],
        }
    }

    fn part(&self, rows: std::ops::Range<usize>) -> Sides<'a> {
        Sides {
            bid_price_e6: &self.bid_price_e6[rows.clone()],
            bid_volume: &self.bid_volume[rows.clone()],
            ask_price_e6: &self.ask_price_e6[rows.clone()],
            ask_volume: &self.ask_volume[rows],
        }
    }
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

fn check_side(argument: &'static str, price_e6: &[i64], volume: &[i64]) -> Result<(), Refused> {
    if sound_side(price_e6, volume) {
        return Ok(());
    }
    for (row, (price, volume)) in price_e6.iter().zip(volume).enumerate() {
        check_volume(argument, *price, *volume)
            .map_err(|refused| Refused::new(argument, format!("row {row}: {}", refused.reason)))?;
    }
    Ok(())
}

#[inline(always)]
fn sound_side_body(price_e6: &[i64], volume: &[i64]) -> bool {
    let (mut all, mut misplaced) = (0_u64, 0_i64);
    for (price, volume) in price_e6.iter().zip(volume) {
        all |= *volume as u64;
        misplaced |= if *price == EMPTY_PRICE_E6 { *volume } else { 0 };
    }
    // Some bit above 2⁴⁰: too large, or negative. 2⁴⁰ itself is looked at once more, row by row.
    all < VOLUME_MAX as u64 && misplaced == 0
}

for_wide_vectors! {
    fn sound_side = sound_side_body, (price_e6: &[i64], volume: &[i64]) -> bool
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
    gained_bid - lost_bid - gained_ask + lost_ask
}

#[inline(always)]
fn contributions_body(sides: Sides<'_>, out: &mut [i64]) {
    let rows = out.len();
    let Sides { bid_price_e6, bid_volume, ask_price_e6, ask_volume } = sides;
    let (bid_price_e6, bid_volume) = (&bid_price_e6[..rows], &bid_volume[..rows]);
    let (ask_price_e6, ask_volume) = (&ask_price_e6[..rows], &ask_volume[..rows]);
    for (row, value) in out.iter_mut().enumerate().skip(1) {
        let at = |row: usize| Side {
            bid_price_e6: bid_price_e6[row],
            bid_volume: bid_volume[row],
            ask_price_e6: ask_price_e6[row],
            ask_volume: ask_volume[row],
        };
        *value = contribution(at(row - 1), at(row));
    }
}

for_wide_vectors! {
    /// e_n of rows 1 …; row 0 is left as it is.
    fn contributions = contributions_body, (sides: Sides<'_>, out: &mut [i64])
}

/// e_n in lots into `out`; 0 in row 0 and at every restart.
pub fn ofi(sides: Sides<'_>, marks: Option<&[u8]>, out: &mut [i64]) -> Result<(), Refused> {
    let mut state = Ofi::default();
    state.update_many(sides, marks, out, None)
}

/// Streaming OFI of one level: the book before is all it remembers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ofi {
    before: Option<Side>,
    arming: Arming,
    value: i64,
    validity: Validity,
}

impl Ofi {
    /// e_n of this book, in lots; 0 where there is none before it. The book must have passed `Side::check`.
    pub fn update(&mut self, now: Side) -> i64 {
        self.value = self.before.map_or(0, |before| contribution(before, now));
        self.validity = self.arming.validity(self.before.is_some(), true);
        self.before = Some(now);
        self.value
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        sides: Sides<'_>,
        marks: Option<&[u8]>,
        out: &mut [i64],
        validity: Option<&mut [u8]>,
    ) -> Result<(), Refused> {
        let rows = sides.check()?;
        same_rows(&[("bid_price_e6", rows), ("out", out.len())])?;
        if let Some(marks) = marks {
            same_rows(&[("bid_price_e6", rows), ("restart", marks.len())])?;
            restarts("restart", marks)?;
        }
        let mut validity = validity;
        for piece in pieces(rows, marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[piece.start] = self.update(sides.row(piece.start));
            if let Some(validity) = validity.as_deref_mut() {
                validity[piece.start] = self.validity as u8;
                validity[piece.start + 1..piece.end].fill(Validity::Valid as u8);
            }
            if piece.len() > 1 {
                contributions(sides.part(piece.clone()), &mut out[piece.clone()]);
                self.update(sides.row(piece.end - 2));
                self.update(sides.row(piece.end - 1));
            }
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn taint(&mut self) {
        *self = Self { arming: Arming::AFTER_GAP, ..Self::default() };
        self.validity = Validity::Tainted;
    }

    pub fn value(&self) -> i64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
