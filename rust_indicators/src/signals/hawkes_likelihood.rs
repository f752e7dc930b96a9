//! How well an intensity explains the events there were: log-likelihood, its gradient, and residuals. Not the search for
//! the best (`calibrate_hawkes.py`).
//! Ozaki (1979), Ann. Inst. Statist. Math. 31 145–155, for the likelihood; Ogata (1988), JASA 83(401) 9–27, for residuals.
use super::Refused;
use super::exponential::LogSum;
use super::hawkes::{BLOCK, Excitation, NS, Rates, block_of, elapsed_ns, excitations, gaps_ns, rising};
use crate::for_wide_vectors;

/// Refuses events outside of the window, and a window without a length. Returns its seconds.
pub fn window(stamps: &[i64], start_ns: i64, end_ns: i64) -> Result<f64, Refused> {
    if start_ns >= end_ns {
        return Err(Refused::new("end_ns", format!("{end_ns} is not after start_ns, {start_ns}")));
    }
    if let Some(first) = stamps.first().filter(|first| **first < start_ns) {
        return Err(Refused::new("start_ns", format!("{start_ns} is after the first event, at {first}")));
    }
    if let Some(last) = stamps.last().filter(|last| **last > end_ns) {
        return Err(Refused::new("end_ns", format!("{end_ns} is before the last event, at {last}")));
    }
    Ok(elapsed_ns(start_ns, end_ns) as f64 * NS)
}

/// Sums eight numbers at a time.
#[inline(always)]
fn sum(numbers: &[f64]) -> f64 {
    let (groups, rest) = numbers.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for group in groups {
        for lane in 0..8 {
            lanes[lane] += group[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// What decays between two events, a row an event but the first: excitation before each, and how much went in the gap.
struct Gaps {
    excitations: [f64; BLOCK + 1],
    gone: [f64; BLOCK],
}

impl Gaps {
    /// Fills in the rows of a block; `excitations[0]` is that before the block.
    #[inline(always)]
    fn fill(&mut self, rates: Rates, begin: Excitation, stamps: &[i64]) -> Excitation {
        let rows = stamps.len() - 1;
        let mut left = [0.0; BLOCK];
        for ((left, gone), elapsed) in left.iter_mut().zip(&mut self.gone).zip(gaps_ns(stamps)) {
            (*left, *gone) = rates.decay(elapsed);
        }
        self.excitations[0] = begin.now;
        let last = excitations(begin, &left[..rows], &mut self.excitations[1..=rows]);
        for (gone, excitation) in self.gone[..rows].iter_mut().zip(&self.excitations) {
            *gone *= 1.0 + excitation;
        }
        last
    }
}

/// Σ ln λ, Σ of what went between the events, and the excitation before the last.
#[derive(Clone, Copy)]
struct Sums {
    logarithms: LogSum,
    gone: f64,
    last: Excitation,
}

#[inline(always)]
fn sums_body(rates: Rates, stamps: &[i64]) -> Sums {
    let mut sums = Sums { logarithms: LogSum::EMPTY, gone: 0.0, last: Excitation::NONE };
    let mut gaps = Gaps { excitations: [0.0; BLOCK + 1], gone: [0.0; BLOCK] };
    let mut intensities = [0.0; BLOCK];
    for block in 0..(stamps.len() - 1).div_ceil(BLOCK) {
        let stamps = block_of(stamps, block);
        let rows = stamps.len() - 1;
        sums.last = gaps.fill(rates, sums.last, stamps);
        for (intensity, excitation) in intensities.iter_mut().zip(&gaps.excitations[1..=rows]) {
            *intensity = rates.mu + rates.alpha * excitation;
        }
        sums.logarithms.add_all(&intensities[..rows]);
        sums.gone += sum(&gaps.gone[..rows]);
    }
    sums
}

for_wide_vectors! {
    fn sums = sums_body, (rates: Rates, stamps: &[i64]) -> Sums
}

/// log L of the events of a window, before which there were none.
pub fn log_likelihood(rates: Rates, stamps: &[i64], start_ns: i64, end_ns: i64) -> Result<f64, Refused> {
    rising(stamps, None, None)?;
    let seconds = window(stamps, start_ns, end_ns)?;
    let Some(last_ns) = stamps.last() else {
        return Ok(-rates.mu * seconds);
    };
    let mut sums = sums(rates, stamps);
    sums.logarithms.add_all(&[rates.mu]);
    let gone = sums.gone + (1.0 + sums.last.now) * rates.decay(elapsed_ns(*last_ns, end_ns)).1;
    Ok(sums.logarithms.value() - rates.mu * seconds - rates.alpha / rates.beta * gone)
}

/// Σ e^{−β…} over the events so far, Σ (t − tᵢ) e^{−β…}, which is minus its derivative by β, and Σ (1 − e^{−β…}).
#[derive(Default)]
struct Aging {
    excitation: f64,
    aged: f64,
    gone: f64,
}

impl Aging {
    /// From just before an event to a later time.
    fn wait(&mut self, rates: Rates, elapsed_ns: u64) {
        let (left, went) = rates.decay(elapsed_ns);
        let excited = 1.0 + self.excitation;
        self.gone += excited * went;
        self.aged = left * (self.aged + elapsed_ns as f64 * NS * excited);
        self.excitation = left * excited;
    }
}

/// Derivatives of `log_likelihood` by μ, α and β.
pub fn gradient(rates: Rates, stamps: &[i64], start_ns: i64, end_ns: i64) -> Result<[f64; 3], Refused> {
    rising(stamps, None, None)?;
    let Rates { mu, alpha, beta } = rates;
    let mut by = [-window(stamps, start_ns, end_ns)?, 0.0, 0.0];
    let [first, later @ ..] = stamps else {
        return Ok(by);
    };
    by[0] += 1.0 / mu;
    let (mut aging, mut before) = (Aging::default(), *first);
    for now in later {
        aging.wait(rates, elapsed_ns(before, *now));
        before = *now;
        let per_intensity = 1.0 / (mu + alpha * aging.excitation);
        by[0] += per_intensity;
        by[1] += aging.excitation * per_intensity;
        by[2] -= alpha * aging.aged * per_intensity;
    }
    aging.wait(rates, elapsed_ns(before, end_ns));
    by[1] -= aging.gone / beta;
    by[2] += alpha / beta * (aging.gone / beta - aging.aged);
    Ok(by)
}

#[inline(always)]
fn residuals_body(rates: Rates, stamps: &[i64], out: &mut [f64]) {
    let mut last = Excitation::NONE;
    let mut gaps = Gaps { excitations: [0.0; BLOCK + 1], gone: [0.0; BLOCK] };
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let stamps = block_of(stamps, block);
        last = gaps.fill(rates, last, stamps);
        for ((value, gone), elapsed) in out.iter_mut().zip(&gaps.gone).zip(gaps_ns(stamps)) {
            *value = rates.mu * (elapsed as f64 * NS) + rates.alpha / rates.beta * gone;
        }
    }
}

for_wide_vectors! {
    fn residuals_into = residuals_body, (rates: Rates, stamps: &[i64], out: &mut [f64])
}

/// Λ(tᵢ) − Λ(tᵢ₋₁) for every event but the first.
pub fn residuals(rates: Rates, stamps: &[i64], out: &mut [f64]) -> Result<(), Refused> {
    rising(stamps, None, None)?;
    if !stamps.is_empty() {
        residuals_into(rates, stamps, out);
    }
    Ok(())
}
