//! What hftbacktest knows of one side of a book, and the rows that bring it from one snapshot to the next.
//! Not a whole book: levels that left the five visible ones are kept only until they are seen to be gone.
use crate::l5::{EMPTY_PRICE_E6, LEVELS};

pub const EXCH_EVENT: u64 = 1 << 31;
pub const LOCAL_EVENT: u64 = 1 << 30;
pub const BUY_EVENT: u64 = 1 << 29;
pub const SELL_EVENT: u64 = 1 << 28;
pub const DEPTH_EVENT: u64 = 1;
pub const TRADE_EVENT: u64 = 2;
pub const DEPTH_CLEAR_EVENT: u64 = 3;

const BOTH_AXES: u64 = EXCH_EVENT | LOCAL_EVENT;
/// One row as hftbacktest maps it from memory (64 bytes, little endian); aligned to a cache line for `store`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventRow {
    pub ev: u64,
    /// ns since the epoch UTC, as is `local_ts`.
    pub exch_ts: i64,
    pub local_ts: i64,
    pub px: f64,
    /// Absolute size of a level (0 = gone), or traded size.
    pub qty: f64,
    pub order_id: u64,
    pub ival: i64,
    pub fval: f64,
}

const _: () = assert!(size_of::<EventRow>() == 64 && align_of::<EventRow>() == 64);

#[derive(Clone, Copy)]
pub struct Stamps {
    pub exch_ts: i64,
    pub local_ts: i64,
}

/// One side of a snapshot, best level first; prices × 10⁶, `EMPTY_PRICE_E6` where there is no level.
#[derive(Clone, Copy)]
pub struct Side {
    pub prices: [i64; LEVELS],
    pub volumes: [i64; LEVELS],
}

/// One side as it was told; `SIGN` is +1 for bids and −1 for asks: `price × SIGN` is greater for better prices.
pub struct Ladder<const SIGN: i64> {
    prices: [i64; LEVELS],
    /// What is known of each of `prices`: 0 if nothing, or if the price is empty.
    volumes: [i64; LEVELS],
    /// (`price × SIGN`, volume) of known levels worse than the window, best last.
    below: Vec<(i64, i64)>,
}

impl<const SIGN: i64> Default for Ladder<SIGN> {
    fn default() -> Self {
        Self { prices: [EMPTY_PRICE_E6; LEVELS], volumes: [0; LEVELS], below: Vec::with_capacity(256) }
    }
}

impl<const SIGN: i64> Ladder<SIGN> {
    /// Delete every known level that the new window proves gone and move those that left it downwards out of the way.
    /// None if the prices do not get strictly worse.
    ///
    /// A window of fewer than five levels shows the whole side, so that nothing can be left below it.
    #[inline]
    pub fn reconcile(&mut self, side: &Side, stamps: Stamps, rows: &mut Vec<EventRow>) -> Option<()> {
        if same(&side.prices, &self.prices) { Some(()) } else { self.move_window(&side.prices, stamps, rows) }
    }

    /// Emit the levels whose volume is not the known one. None if a level's volume is not positive.
    #[inline]
    pub fn show(&mut self, side: &Side, stamps: Stamps, rows: &mut Vec<EventRow>) -> Option<()> {
        // Collected as bits first: which levels change cannot be guessed, and a branch for each would often be wrong.
        let (mut changed, mut refused) = (0u32, false);
        for level in 0..LEVELS {
            let (there, volume) = (side.prices[level] != EMPTY_PRICE_E6, side.volumes[level]);
            refused |= there & (volume <= 0);
            changed |= u32::from(there & (volume != self.volumes[level])) << level;
        }
        if refused {
            return None;
        }
        while changed != 0 {
            let level = changed.trailing_zeros() as usize;
            self.volumes[level] = side.volumes[level];
            push_depth::<SIGN>(side.prices[level], side.volumes[level], stamps, rows);
            changed &= changed - 1;
        }
        Some(())
    }

    fn move_window(&mut self, prices: &[i64; LEVELS], stamps: Stamps, rows: &mut Vec<EventRow>) -> Option<()> {
        let mut known_volumes = [0; LEVELS];
        let (mut old, mut shown, mut better) = (0, 0, i64::MAX);
        for (level, &price) in prices.iter().enumerate().filter(|(_, price)| **price != EMPTY_PRICE_E6) {
            let key = price * SIGN;
            if key >= better {
                return None;
            }
            (better, shown) = (key, shown + 1);
            while let Some((known, volume)) = self.peek(&mut old).filter(|&(known, _)| known >= key) {
                self.drop_peeked(&mut old);
                if known == key {
                    known_volumes[level] = volume;
                    break;
                }
                push_depth::<SIGN>(known * SIGN, 0, stamps, rows);
            }
        }
        while shown < LEVELS
            && let Some((known, _)) = self.peek(&mut old)
        {
            self.drop_peeked(&mut old);
            push_depth::<SIGN>(known * SIGN, 0, stamps, rows);
        }
        for level in (old..LEVELS).rev().filter(|&level| self.prices[level] != EMPTY_PRICE_E6) {
            self.below.push((self.prices[level] * SIGN, self.volumes[level]));
        }
        (self.prices, self.volumes) = (*prices, known_volumes);
        Some(())
    }

    /// Best known level not yet compared: of the old window from `old` on, then below it.
    #[inline]
    fn peek(&self, old: &mut usize) -> Option<(i64, i64)> {
        while *old < LEVELS && self.prices[*old] == EMPTY_PRICE_E6 {
            *old += 1;
        }
        if *old < LEVELS { Some((self.prices[*old] * SIGN, self.volumes[*old])) } else { self.below.last().copied() }
    }

    #[inline]
    fn drop_peeked(&mut self, old: &mut usize) {
        if *old < LEVELS {
            *old += 1;
        } else {
            self.below.pop();
        }
    }
}

/// Written so that it becomes a few vector instructions instead of a call to `memcmp`.
#[inline]
fn same(left: &[i64; LEVELS], right: &[i64; LEVELS]) -> bool {
    left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
}

#[inline]
fn push_depth<const SIGN: i64>(price_e6: i64, volume: i64, stamps: Stamps, rows: &mut Vec<EventRow>) {
    let side = if SIGN > 0 { BUY_EVENT } else { SELL_EVENT };
    append(rows, DEPTH_EVENT | side, stamps, price_e6, volume);
}

/// Append a row for both axes; the one place where a price becomes a float.
#[inline]
pub fn append(rows: &mut Vec<EventRow>, ev: u64, stamps: Stamps, price_e6: i64, volume: i64) {
    if rows.len() == rows.capacity() {
        rows.reserve(1);
    }
    let (px, qty) = (price_e6 as f64 / 1e6, volume as f64);
    let Stamps { exch_ts, local_ts } = stamps;
    let row = EventRow { ev: ev | BOTH_AXES, exch_ts, local_ts, px, qty, order_id: 0, ival: 0, fval: 0.0 };
    // SAFETY: there is room for one more row, all of it is written, and only then is it counted.
    unsafe {
        store(rows.as_mut_ptr().add(rows.len()), row);
        rows.set_len(rows.len() + 1);
    }
}

/// Store a row past the caches: it fills one line exactly and nothing here reads it again (a sixth faster by day).
///
/// # Safety
/// `place` must be valid for writes. Before another thread may read, `settle` must be called.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn store(place: *mut EventRow, row: EventRow) {
    use std::arch::x86_64::{__m128i, _mm_set_epi64x, _mm_stream_si128};
    let words = place.cast::<__m128i>();
    // SAFETY: `place` is valid for the row's 64 bytes and aligned to them, as its type demands.
    unsafe {
        _mm_stream_si128(words, _mm_set_epi64x(row.exch_ts, row.ev as i64));
        _mm_stream_si128(words.add(1), _mm_set_epi64x(row.px.to_bits() as i64, row.local_ts));
        _mm_stream_si128(words.add(2), _mm_set_epi64x(row.order_id as i64, row.qty.to_bits() as i64));
        _mm_stream_si128(words.add(3), _mm_set_epi64x(row.fval.to_bits() as i64, row.ival));
    }
}

/// Make the stored rows visible to every thread.
#[cfg(target_arch = "x86_64")]
pub fn settle() {
    // SAFETY: a fence; every x86-64 processor has it.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

/// # Safety
/// `place` must be valid for writes.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn store(place: *mut EventRow, row: EventRow) {
    // SAFETY: as the caller promises.
    unsafe { place.write(row) };
}

#[cfg(not(target_arch = "x86_64"))]
pub fn settle() {}
