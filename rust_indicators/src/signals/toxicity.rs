//! VPIN: how one-sided the volume is, from signed trades. Not a forecast; `bulk_volume.rs` guesses the sides.
//! Easley, López de Prado & O'Hara (2012), Review of Financial Studies 25(5) 1457–1493.
use super::{Arming, Refused, VOLUME_MAX, Validity, pieces, restart, restarts, same_rows};
use crate::for_wide_vectors;

/// Largest window, in buckets: its imbalances sum to at most 2²⁰ · 2⁴⁰, and it takes 8 MB.
pub const BUCKETS_MAX: i64 = 1 << 20;
/// Most buckets one row may complete where each becomes a row of the result; more means lots and shares mixed up.
pub const BUCKETS_PER_ROW_MAX: i64 = 1 << 16;
/// Most rows of one result: 256 MB.
pub const BUCKETS_PER_CALL_MAX: usize = 1 << 24;

/// The value at every completed bucket, and the row that completed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completed {
    pub values: Vec<f64>,
    pub last_row: Vec<i64>,
}

impl Completed {
    pub(super) fn push(&mut self, value: f64, row: usize) -> Result<(), Refused> {
        if self.values.len() == BUCKETS_PER_CALL_MAX {
            return Err(Refused::new("bucket_volume", "so small that it makes more than 2²⁴ buckets"));
        }
        self.values.push(value);
        self.last_row.push(row as i64);
        Ok(())
    }
}

/// Refuses a bucket volume outside 1 … 2⁴⁰ and a window outside 1 … 2²⁰.
pub(super) fn check_buckets(bucket_volume: i64, buckets: i64) -> Result<(), Refused> {
    if !(1..=VOLUME_MAX).contains(&bucket_volume) {
        return Err(Refused::new("bucket_volume", format!("{bucket_volume} is not within 1 … 2⁴⁰")));
    }
    if !(1..=BUCKETS_MAX).contains(&buckets) {
        return Err(Refused::new("buckets", format!("{buckets} is not within 1 … 2²⁰")));
    }
    Ok(())
}

/// Refuses a volume that would complete more buckets than a result may have rows for it.
pub(super) fn check_buckets_per_row(volume: &[i64], bucket_volume: i64) -> Result<(), Refused> {
    let too_many = bucket_volume * (BUCKETS_PER_ROW_MAX + 1);
    if volume.iter().fold(0, |all, volume| all | volume) < too_many {
        return Ok(());
    }
    match volume.iter().position(|volume| *volume >= too_many) {
        Some(row) => Err(Refused::new(
            "volume",
            format!("row {row}: {} fills more than 2¹⁶ buckets of {bucket_volume}", volume[row]),
        )),
        None => Ok(()),
    }
}

/// Refuses a side other than 0 (unknown), 1 (buyer initiated), 2 (seller initiated), and a volume that is none.
pub fn check_trade(side: i64, volume: i64) -> Result<(), Refused> {
    if !(0..=2).contains(&side) {
        return Err(Refused::new("side", format!("{side} is not 0 (unknown), 1 (buy) or 2 (sell)")));
    }
    check_lots(volume)
}

pub(super) fn check_lots(volume: i64) -> Result<(), Refused> {
    if !(0..=VOLUME_MAX).contains(&volume) {
        return Err(Refused::new("volume", format!("{volume} is not within 0 … 2⁴⁰")));
    }
    Ok(())
}

/// `check_trade` of every row: the number of rows.
pub fn check_trades(side: &[u8], volume: &[i64]) -> Result<usize, Refused> {
    let rows = same_rows(&[("side", side.len()), ("volume", volume.len())])?;
    if sound_trades(side, volume) {
        return Ok(rows);
    }
    for (row, (side, volume)) in side.iter().zip(volume).enumerate() {
        check_trade(i64::from(*side), *volume)
            .map_err(|refused| Refused::new(refused.argument, format!("row {row}: {}", refused.reason)))?;
    }
    Ok(rows)
}

#[inline(always)]
fn sound_trades_body(side: &[u8], volume: &[i64]) -> bool {
    let largest = side.iter().fold(0, |largest, side| largest.max(*side));
    let all = volume.iter().fold(0, |all, volume| all | *volume as u64);
    // Some bit above 2⁴⁰: too large, or negative. 2⁴⁰ itself is looked at once more, row by row.
    largest <= 2 && all < VOLUME_MAX as u64
}

for_wide_vectors! {
    fn sound_trades = sound_trades_body, (side: &[u8], volume: &[i64]) -> bool
}

/// +1 buyer, −1 seller initiated, 0 unknown: half of it each, which leaves the imbalance as it is.
#[inline(always)]
fn sign(side: u8) -> i64 {
    i64::from(side & 1) - i64::from(side >> 1)
}

/// VPIN after every completed bucket of signed trades; NaN until `buckets` are full since the start or a restart.
pub fn vpin(
    side: &[u8],
    volume: &[i64],
    bucket_volume: i64,
    buckets: i64,
    marks: Option<&[u8]>,
) -> Result<Completed, Refused> {
    let mut state = Vpin::new(bucket_volume, buckets)?;
    let rows = check_trades(side, volume)?;
    check_buckets_per_row(volume, bucket_volume)?;
    check_marks("side", rows, marks)?;
    let mut out = Completed::default();
    for piece in pieces(rows, marks) {
        if piece.start > 0 {
            state.reset();
        }
        let mut row = piece.start;
        while let Some(ahead) = state.fill(&side[row..piece.end], &volume[row..piece.end]) {
            row += ahead;
            let sign = sign(side[row]);
            let more = state.complete_first(sign);
            out.push(state.value(), row)?;
            for _ in 0..more {
                state.push(sign.abs() * bucket_volume);
                out.push(state.value(), row)?;
            }
            row += 1;
        }
    }
    Ok(out)
}

pub(super) fn check_marks(first: &'static str, rows: usize, marks: Option<&[u8]>) -> Result<(), Refused> {
    if let Some(marks) = marks {
        same_rows(&[(first, rows), ("restart", marks.len())])?;
        restarts("restart", marks)?;
    }
    Ok(())
}

/// Streaming VPIN of signed trades. All it counts is whole lots; the one division is the last step.
#[derive(Clone, Debug)]
pub struct Vpin {
    bucket_volume: i64,
    /// |buys − sells| of the last buckets, `next` the oldest once `full` is its length.
    imbalances: Vec<i64>,
    next: usize,
    full: usize,
    sum: i64,
    /// Lots in the bucket that is filling, and its buys − sells.
    lots: i64,
    net: i64,
    arming: Arming,
    validity: Validity,
}

impl Vpin {
    pub fn new(bucket_volume: i64, buckets: i64) -> Result<Self, Refused> {
        check_buckets(bucket_volume, buckets)?;
        Ok(Self {
            bucket_volume,
            imbalances: vec![0; buckets as usize],
            next: 0,
            full: 0,
            sum: 0,
            lots: 0,
            net: 0,
            arming: Arming::default(),
            validity: Validity::WarmingUp,
        })
    }

    /// VPIN after this trade, which must have passed `check_trade`. NaN until enough buckets are full.
    #[inline]
    pub fn update(&mut self, side: u8, volume: i64) -> f64 {
        if self.fill(&[side], &[volume]).is_some() {
            self.complete(side);
        }
        self.value()
    }

    /// Puts trades into the bucket up to the first that fills it: which one that is.
    #[inline(always)]
    fn fill(&mut self, side: &[u8], volume: &[i64]) -> Option<usize> {
        let (mut lots, mut net) = (self.lots, self.net);
        let mut filled = None;
        for (row, (side, volume)) in side.iter().zip(volume).enumerate() {
            lots += volume;
            net += sign(*side) * volume;
            if lots >= self.bucket_volume {
                filled = Some(row);
                break;
            }
        }
        (self.lots, self.net) = (lots, net);
        filled
    }

    /// Closes every bucket that a trade of this side has filled.
    fn complete(&mut self, side: u8) {
        let sign = sign(side);
        let more = self.complete_first(sign);
        // Further buckets of one trade are all alike, so more of them than the window holds change nothing.
        for _ in 0..more.min(self.imbalances.len() as i64) {
            self.push(sign.abs() * self.bucket_volume);
        }
        self.validity = self.arming.validity(self.warm(), true);
    }

    /// Closes the bucket that is filling; the lots beyond it stay, less the whole buckets they make, whose number it
    /// gives. The caller pushes those.
    fn complete_first(&mut self, sign: i64) -> i64 {
        let beyond = self.lots - self.bucket_volume;
        self.push((self.net - sign * beyond).abs());
        let more = if beyond < self.bucket_volume { 0 } else { beyond / self.bucket_volume };
        self.lots = beyond - more * self.bucket_volume;
        self.net = sign * self.lots;
        more
    }

    fn push(&mut self, imbalance: i64) {
        self.sum += imbalance - self.imbalances[self.next];
        self.imbalances[self.next] = imbalance;
        self.next = if self.next + 1 == self.imbalances.len() { 0 } else { self.next + 1 };
        self.full = self.imbalances.len().min(self.full + 1);
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        side: &[u8],
        volume: &[i64],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_trades(side, volume)?;
        check_marks("side", rows, marks)?;
        same_rows(&[("side", rows), ("out", out.len()), ("validity", validity.len())])?;
        for piece in pieces(rows, marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            let mut row = piece.start;
            while row < piece.end {
                let (value, valid) = (self.value(), self.validity as u8);
                let ahead = self.fill(&side[row..piece.end], &volume[row..piece.end]);
                let before = ahead.map_or(piece.end, |ahead| row + ahead);
                out[row..before].fill(value);
                validity[row..before].fill(valid);
                row = before;
                if ahead.is_some() {
                    self.complete(side[row]);
                    out[row] = self.value();
                    validity[row] = self.validity as u8;
                    row += 1;
                }
            }
        }
        Ok(())
    }

    fn warm(&self) -> bool {
        self.full == self.imbalances.len()
    }

    pub fn reset(&mut self) {
        self.imbalances.fill(0);
        (self.next, self.full, self.sum, self.lots, self.net) = (0, 0, 0, 0, 0);
        (self.arming, self.validity) = (Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.reset();
        (self.arming, self.validity) = (Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn value(&self) -> f64 {
        if !self.warm() {
            return f64::NAN;
        }
        self.sum as f64 / (self.imbalances.len() as i64 * self.bucket_volume) as f64
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
