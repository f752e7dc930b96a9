//! How well two intensities explain the events there were: log-likelihood, its gradient, and residuals. Not the search
//! for the best (`calibrate_hawkes.py`).
use super::Refused;
use super::exponential::LogSum;
use super::hawkes::{BLOCK, NS, block_of, elapsed_ns};
use super::hawkes_bivariate::{Decays, Events, Excitations, Matrix, Pair, Rates, decays, row_of};
use super::hawkes_likelihood::window;
use crate::for_wide_vectors;

#[inline(always)]
fn add_product(sum: &mut Matrix, one: &Matrix, other: &Matrix) {
    for i in 0..2 {
        for j in 0..2 {
            sum[i][j] += one[i][j] * other[i][j];
        }
    }
}

/// Σ ln λ of the kind that came, Σ (1 − e^{−β…}) of every effect, and the excitations at the last event.
#[derive(Clone, Copy)]
struct Sums {
    logarithms: LogSum,
    gone: Matrix,
    last: Excitations,
}

#[inline(always)]
fn sums_body(rates: &Rates, events: Events<'_>) -> Sums {
    let mut sums = Sums { logarithms: LogSum::EMPTY, gone: Matrix::default(), last: Excitations::default() };
    let (mut left, mut gone): (Decays, Decays) = ([[[0.0; BLOCK]; 2]; 2], [[[0.0; BLOCK]; 2]; 2]);
    let mut intensities = [0.0; BLOCK];
    sums.last.event(events.mark[0]);
    for block in 0..(events.mark.len() - 1).div_ceil(BLOCK) {
        let stamps = block_of(events.exchange_ns, block);
        let rows = stamps.len() - 1;
        let kinds = &events.mark[block * BLOCK + 1..][..rows];
        decays(rates, stamps, &mut left, &mut gone);
        for row in 0..rows {
            let goes_on = stamps[row + 1] != stamps[row];
            add_product(&mut sums.gone, &sums.last.after(goes_on), &row_of(&gone, row));
            sums.last.wait(&row_of(&left, row), goes_on);
            sums.last.event(kinds[row]);
            let [first, second] = rates.intensity(&sums.last.before);
            intensities[row] = if kinds[row] == 0 { first } else { second };
        }
        sums.logarithms.add_all(&intensities[..rows]);
    }
    sums
}

for_wide_vectors! {
    fn sums = sums_body, (rates: &Rates, events: Events<'_>) -> Sums
}

/// log L of the events of a window, before which there were none.
pub fn log_likelihood(rates: &Rates, events: Events<'_>, start_ns: i64, end_ns: i64) -> Result<f64, Refused> {
    let seconds = window(events.exchange_ns, start_ns, end_ns)?;
    let base = (rates.mu[0] + rates.mu[1]) * seconds;
    let Some(last_ns) = events.exchange_ns.last() else {
        return Ok(-base);
    };
    let mut sums = sums(rates, events);
    sums.logarithms.add_all(&[rates.mu[usize::from(events.mark[0])]]);
    let (_, gone) = rates.decay(elapsed_ns(*last_ns, end_ns));
    add_product(&mut sums.gone, &sums.last.after(end_ns != *last_ns), &gone);
    let mut excited = 0.0;
    for i in 0..2 {
        for j in 0..2 {
            excited += rates.alpha[i][j] / rates.beta[i][j] * sums.gone[i][j];
        }
    }
    Ok(sums.logarithms.value() - base - excited)
}

/// Derivatives by each rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradient {
    pub mu: Pair,
    pub alpha: Matrix,
    pub beta: Matrix,
}

/// Σ e^{−β…} of every effect, Σ (t − tᵢ) e^{−β…}, which is minus its derivative by β, and Σ (1 − e^{−β…}).
#[derive(Default)]
struct Aging {
    excitations: Excitations,
    aged: Matrix,
    gone: Matrix,
}

impl Aging {
    fn wait(&mut self, rates: &Rates, elapsed_ns: u64) {
        let (left, gone) = rates.decay(elapsed_ns);
        let after = self.excitations.after(elapsed_ns > 0);
        add_product(&mut self.gone, &after, &gone);
        for i in 0..2 {
            for j in 0..2 {
                self.aged[i][j] = left[i][j] * (self.aged[i][j] + elapsed_ns as f64 * NS * after[i][j]);
            }
        }
        self.excitations.wait(&left, elapsed_ns > 0);
    }
}

/// Derivatives of `log_likelihood` by every rate.
pub fn gradient(rates: &Rates, events: Events<'_>, start_ns: i64, end_ns: i64) -> Result<Gradient, Refused> {
    let seconds = window(events.exchange_ns, start_ns, end_ns)?;
    let mut by = Gradient { mu: [-seconds; 2], ..Gradient::default() };
    let (mut aging, mut before) = (Aging::default(), events.exchange_ns.first().copied().unwrap_or(start_ns));
    for (now, kind) in events.exchange_ns.iter().zip(events.mark) {
        aging.wait(rates, elapsed_ns(before, *now));
        aging.excitations.event(*kind);
        before = *now;
        let i = usize::from(*kind);
        let per_intensity = 1.0 / rates.intensity(&aging.excitations.before)[i];
        by.mu[i] += per_intensity;
        for j in 0..2 {
            by.alpha[i][j] += aging.excitations.before[i][j] * per_intensity;
            by.beta[i][j] -= rates.alpha[i][j] * aging.aged[i][j] * per_intensity;
        }
    }
    aging.wait(rates, elapsed_ns(before, end_ns));
    for i in 0..2 {
        for j in 0..2 {
            let gone = aging.gone[i][j] / rates.beta[i][j];
            by.alpha[i][j] -= gone;
            by.beta[i][j] += rates.alpha[i][j] / rates.beta[i][j] * (gone - aging.aged[i][j]);
        }
    }
    Ok(by)
}

/// Λₖ(t) between neighbouring events of each kind k: of every event of a kind but its first.
pub fn residuals(rates: &Rates, events: Events<'_>) -> [Vec<f64>; 2] {
    let mut residuals = [Vec::new(), Vec::new()];
    let (mut integral, mut begun) = ([0.0; 2], [false; 2]);
    let mut excitations = Excitations::default();
    let mut before = events.exchange_ns.first().copied().unwrap_or_default();
    for (now, kind) in events.exchange_ns.iter().zip(events.mark) {
        let elapsed = elapsed_ns(before, *now);
        let ((left, gone), after) = (rates.decay(elapsed), excitations.after(elapsed > 0));
        for i in 0..2 {
            integral[i] += rates.mu[i] * (elapsed as f64 * NS);
            for j in 0..2 {
                integral[i] += rates.alpha[i][j] / rates.beta[i][j] * (after[i][j] * gone[i][j]);
            }
        }
        excitations.wait(&left, elapsed > 0);
        excitations.event(*kind);
        before = *now;
        let i = usize::from(*kind);
        if std::mem::replace(&mut begun[i], true) {
            residuals[i].push(integral[i]);
        }
        integral[i] = 0.0;
    }
    residuals
}
