//! Intensity of events that excite each other: λ(t) = μ + α Σ e^{−β(t−tᵢ)} over the events before t. Not the fit
//! (`calibrate_hawkes.py`); two kinds of events are in `hawkes_bivariate.rs`.
//! Hawkes (1971), Biometrika 58(1) 83–90; Ogata (1981), IEEE Trans. Inf. Theory 27(1) 23–31, for the recursion.
use super::exponential::decay;
use super::{Refused, Validity, pieces, restart, restarts, same_rows};
use crate::for_wide_vectors;

/// Rates beyond these have no meaning on a clock of nanoseconds, and within them nothing overflows. 1/s.
pub const RATE_MIN: f64 = 1e-30;
pub const RATE_MAX: f64 = 1e30;
/// After a gap an intensity is worth something once the missing events weigh e⁻¹⁰ of an excitation or less.
pub const MEMORY_DECAYS: f64 = 10.0;
pub const NS: f64 = 1e-9;
/// Rows worked on at a time: what they need stays in the first cache.
pub const BLOCK: usize = 128;
/// Rows whose recursion stands on one carry. The streaming state groups alike, so that it has the same bits.
const GROUP: usize = 4;

/// Refuses a rate that is not within `RATE_MIN` … `RATE_MAX`.
pub fn rate(argument: &'static str, value: f64) -> Result<f64, Refused> {
    if (RATE_MIN..=RATE_MAX).contains(&value) {
        return Ok(value);
    }
    Err(Refused::new(argument, format!("{value} is not within 1e-30 … 1e30 per second")))
}

/// `rate`, or 0: no excitation.
pub fn rate_or_none(argument: &'static str, value: f64) -> Result<f64, Refused> {
    if value == 0.0 { Ok(0.0) } else { rate(argument, value) }
}

/// Nanoseconds between two stamps of which the second is not earlier.
#[inline(always)]
pub fn elapsed_ns(from_ns: i64, to_ns: i64) -> u64 {
    to_ns.wrapping_sub(from_ns) as u64
}

/// Nanoseconds between neighbours; one fewer than stamps. Two slices, so that no row asks whether it is within.
#[inline(always)]
pub fn gaps_ns(stamps: &[i64]) -> impl Iterator<Item = u64> + '_ {
    stamps[..stamps.len() - 1].iter().zip(&stamps[1..]).map(|(from_ns, to_ns)| elapsed_ns(*from_ns, *to_ns))
}

/// After how long what has happened before no longer matters.
pub fn memory_ns(beta: f64) -> u64 {
    (MEMORY_DECAYS * 1e9 / beta).ceil() as u64
}

/// Of one kind of event: base rate, jump of the intensity at an event, and decay, all in 1/s.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub mu: f64,
    pub alpha: f64,
    pub beta: f64,
}

impl Rates {
    pub fn new(mu: f64, alpha: f64, beta: f64) -> Result<Self, Refused> {
        Ok(Self { mu: rate("mu", mu)?, alpha: rate_or_none("alpha", alpha)?, beta: rate("beta", beta)? })
    }

    /// What is left of an excitation after so long, and what is gone of it.
    #[inline(always)]
    pub fn decay(&self, elapsed_ns: u64) -> (f64, f64) {
        decay(-(self.beta * NS * elapsed_ns as f64))
    }
}

/// Events one event brings about, directly: below 1 the process does not explode.
pub fn branching_ratio(alpha: f64, beta: f64) -> Result<f64, Refused> {
    Ok(rate_or_none("alpha", alpha)? / rate("beta", beta)?)
}

/// Refuses stamps that do not rise; after a mark they may begin anywhere.
pub fn rising(stamps: &[i64], marks: Option<&[u8]>, last_ns: Option<i64>) -> Result<(), Refused> {
    let marked = |row: usize| marks.is_some_and(|marks| marks[row] != restart::NONE);
    let refuse = |row: usize, before: i64| {
        let reason = if stamps[row] == before {
            format!(
                "row {row} has the stamp of the event before it: merge prints with the same stamp (distinct_stamps)"
            )
        } else {
            format!("goes back at row {row}")
        };
        Err(Refused::new("exchange_ns", reason))
    };
    if let (Some(first), Some(last_ns)) = (stamps.first(), last_ns)
        && *first <= last_ns
        && !marked(0)
    {
        return refuse(0, last_ns);
    }
    if rises(stamps) {
        return Ok(());
    }
    match (1..stamps.len()).find(|row| stamps[*row] <= stamps[row - 1] && !marked(*row)) {
        Some(row) => refuse(row, stamps[row - 1]),
        None => Ok(()),
    }
}

#[inline(always)]
fn rises_body(stamps: &[i64]) -> bool {
    let mut all = true;
    for row in 1..stamps.len() {
        all &= stamps[row] > stamps[row - 1];
    }
    all
}

for_wide_vectors! {
    fn rises = rises_body, (stamps: &[i64]) -> bool
}

/// The stamps without those equal to the one before.
pub fn distinct_stamps(stamps: &[i64]) -> Result<Vec<i64>, Refused> {
    super::sorted("exchange_ns", stamps)?;
    let mut distinct = stamps.to_vec();
    distinct.dedup();
    Ok(distinct)
}

/// Rᵢ = dᵢ (1 + Rᵢ₋₁), where d is the decay since the event before, in groups: Rᵢ = localᵢ + productᵢ · carry.
/// So four rows wait for one another's carry once, not four times.
#[derive(Clone, Copy, Debug)]
pub struct Excitation {
    pub now: f64,
    carry: f64,
    local: f64,
    product: f64,
    row: usize,
}

impl Excitation {
    pub const NONE: Self = Self::beginning(0.0);

    const fn beginning(carry: f64) -> Self {
        Self { now: carry, carry, local: 0.0, product: 1.0, row: 0 }
    }

    pub fn step(&mut self, left: f64) {
        self.local = left * (1.0 + self.local);
        self.product *= left;
        self.now = self.local + self.product * self.carry;
        self.row += 1;
        if self.row == GROUP {
            *self = Self::beginning(self.now);
        }
    }
}

/// `Excitation::step` for every row, from the beginning of a group.
#[inline(always)]
pub fn excitations(begin: Excitation, left: &[f64], into: &mut [f64]) -> Excitation {
    let mut carry = begin.now;
    let (left, left_over) = left.as_chunks::<GROUP>();
    let (into, into_over) = into.as_chunks_mut::<GROUP>();
    for (left, into) in left.iter().zip(into) {
        let (mut local, mut product) = (*left, *left);
        for row in 1..GROUP {
            local[row] = left[row] * (1.0 + local[row - 1]);
            product[row] *= product[row - 1];
        }
        for row in 0..GROUP {
            into[row] = local[row] + product[row] * carry;
        }
        carry = into[GROUP - 1];
    }
    let mut last = Excitation::beginning(carry);
    for (left, into) in left_over.iter().zip(into_over) {
        last.step(*left);
        *into = last.now;
    }
    last
}

/// Stamps of a block of rows, with that of the row before.
#[inline(always)]
pub fn block_of(stamps: &[i64], block: usize) -> &[i64] {
    &stamps[block * BLOCK..(block * BLOCK + BLOCK + 1).min(stamps.len())]
}

#[inline(always)]
fn intensities_body(rates: Rates, begin: Excitation, stamps: &[i64], out: &mut [f64]) -> Excitation {
    let mut last = begin;
    let mut left = [0.0; BLOCK];
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let (stamps, left) = (block_of(stamps, block), &mut left[..out.len()]);
        for (left, elapsed) in left.iter_mut().zip(gaps_ns(stamps)) {
            *left = rates.decay(elapsed).0;
        }
        last = excitations(last, left, out);
        for value in out {
            *value = rates.mu + rates.alpha * *value;
        }
    }
    last
}

for_wide_vectors! {
    /// λ before every stamp but the first, which begins a group. Returns the last excitation.
    fn intensities = intensities_body, (rates: Rates, begin: Excitation, stamps: &[i64], out: &mut [f64]) -> Excitation
}

/// λ(tᵢ−) in 1/s into `out`. While events are missing within its memory it is NaN.
pub fn intensity(rates: Rates, stamps: &[i64], marks: Option<&[u8]>, out: &mut [f64]) -> Result<(), Refused> {
    Hawkes::new(rates).update_many(stamps, marks, out, None)
}

/// Streaming intensity. It begins without any event, and so is valid at once; after a gap it is not until the events
/// since then span `memory_ns`.
#[derive(Clone, Copy, Debug)]
pub struct Hawkes {
    rates: Rates,
    last_ns: Option<i64>,
    excitation: Excitation,
    /// Events are missing before the first one.
    gap: bool,
    first_ns: i64,
    value: f64,
    validity: Validity,
}

impl Hawkes {
    pub fn new(rates: Rates) -> Self {
        Self {
            rates,
            last_ns: None,
            excitation: Excitation::NONE,
            gap: false,
            first_ns: 0,
            value: f64::NAN,
            validity: Validity::WarmingUp,
        }
    }

    /// λ just before this event; NaN while not valid. The stamp must be later than the last.
    pub fn update(&mut self, exchange_ns: i64) -> f64 {
        debug_assert!(self.last_ns.is_none_or(|last_ns| exchange_ns > last_ns));
        let raw = self.advance(exchange_ns);
        let valid = self.warm(exchange_ns);
        self.gap &= !valid;
        self.validity = if valid { Validity::Valid } else { Validity::Tainted };
        self.value = if valid { raw } else { f64::NAN };
        self.value
    }

    /// `update` for stamps that may go back a little: one that is not later than the last is the same event.
    pub fn update_clamped(&mut self, exchange_ns: i64) -> f64 {
        match self.last_ns {
            Some(last_ns) if exchange_ns <= last_ns => self.value,
            _ => self.update(exchange_ns),
        }
    }

    /// Refuses a stamp that is not later than the last event's.
    pub fn check(&self, exchange_ns: i64) -> Result<(), Refused> {
        rising(&[exchange_ns], None, self.last_ns)
    }

    /// λ just before a time, of the events before it; NaN while events are missing within the memory.
    pub fn intensity_at(&self, exchange_ns: i64) -> Result<f64, Refused> {
        let Some(last_ns) = self.last_ns else {
            return Ok(if self.gap { f64::NAN } else { self.rates.mu });
        };
        if exchange_ns < last_ns {
            return Err(Refused::new("exchange_ns", format!("{exchange_ns} is before the last event, at {last_ns}")));
        }
        if !self.warm(exchange_ns) {
            return Ok(f64::NAN);
        }
        if exchange_ns == last_ns {
            return Ok(self.rates.mu + self.rates.alpha * self.excitation.now);
        }
        let mut ahead = *self;
        Ok(ahead.advance(exchange_ns))
    }

    fn advance(&mut self, exchange_ns: i64) -> f64 {
        match self.last_ns {
            Some(last_ns) => {
                self.excitation.step(self.rates.decay(elapsed_ns(last_ns, exchange_ns)).0);
            }
            None => self.first_ns = exchange_ns,
        }
        self.last_ns = Some(exchange_ns);
        self.rates.mu + self.rates.alpha * self.excitation.now
    }

    fn warm(&self, exchange_ns: i64) -> bool {
        !self.gap || elapsed_ns(self.first_ns, exchange_ns) >= memory_ns(self.rates.beta)
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        stamps: &[i64],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: Option<&mut [u8]>,
    ) -> Result<(), Refused> {
        same_rows(&[("exchange_ns", stamps.len()), ("out", out.len())])?;
        if let Some(marks) = marks {
            same_rows(&[("exchange_ns", stamps.len()), ("restart", marks.len())])?;
            restarts("restart", marks)?;
        }
        rising(stamps, marks, self.last_ns)?;
        let mut validity = validity;
        for piece in pieces(stamps.len(), marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            let judged = validity.as_deref_mut().map(|validity| &mut validity[piece.clone()]);
            self.run(&stamps[piece.clone()], &mut out[piece], judged);
        }
        Ok(())
    }

    /// A piece without marks; at least one row.
    fn run(&mut self, stamps: &[i64], out: &mut [f64], validity: Option<&mut [u8]>) {
        let mut row = 0;
        // One by one while the memory is not whole, and until a group begins.
        while row < stamps.len() && (row == 0 || self.gap || self.excitation.row != 0) {
            out[row] = self.update(stamps[row]);
            row += 1;
        }
        if let Some(validity) = validity {
            let tainted = out[..row].iter().take_while(|value| value.is_nan()).count();
            validity[..tainted].fill(Validity::Tainted as u8);
            validity[tainted..].fill(Validity::Valid as u8);
        }
        if row < stamps.len() {
            self.excitation = intensities(self.rates, self.excitation, &stamps[row - 1..], &mut out[row..]);
            self.last_ns = Some(stamps[stamps.len() - 1]);
            self.value = out[stamps.len() - 1];
        }
    }

    pub fn reset(&mut self) {
        *self = Self::new(self.rates);
    }

    pub fn taint(&mut self) {
        *self = Self { gap: true, validity: Validity::Tainted, ..Self::new(self.rates) };
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { mu: 1.0, alpha: 2.0, beta: 3.0 };

    #[test]
    fn a_stamp_that_goes_back_is_the_same_event() {
        let (mut clamped, mut sorted) = (Hawkes::new(RATES), Hawkes::new(RATES));
        let seen = [5, 9, 7, 9, 30].map(|ms| clamped.update_clamped(ms * 1_000_000));
        let expected = [5, 9, 30].map(|ms| sorted.update(ms * 1_000_000));
        assert_eq!(seen, [expected[0], expected[1], expected[1], expected[1], expected[2]]);
    }

    #[test]
    fn machines_with_and_without_wide_vectors_give_the_same_bits() {
        let stamps: Vec<i64> = (0..1000_i64).map(|row| row * row * 7_919 + row).collect();
        let (mut wide, mut narrow) = (vec![0.0; 999], vec![0.0; 999]);
        let last = intensities(RATES, Excitation::NONE, &stamps, &mut wide);
        let other = intensities_body(RATES, Excitation::NONE, &stamps, &mut narrow);
        assert_eq!((wide, last.now), (narrow, other.now));
    }
}
