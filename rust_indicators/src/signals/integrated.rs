//! The levels of normalised OFI as one number: their first principal component, learnt from the past alone.
//! Not the normalisation: `windows.rs`. Cont, Cucuringu & Zhang (2023), Quantitative Finance 23(10), arXiv:2112.13213.
use super::flow::{LEVELS_MAX, level_count};
use super::{Arming, Refused, Validity, restart};

/// Largest magnitude of a normalised value: products of two stay finite.
pub const NORMALISED_MAX: f64 = 1e100;
/// Rotations converge quadratically, a handful of sweeps do; this ends what does not.
const SWEEPS_MAX: usize = 60;

/// What is left off the diagonal, of a matrix whose trace is 1, turns no axis by a bit.
const OFF_MAX: f64 = 1e-30;

type Vector = [f64; LEVELS_MAX];
type Matrix = [Vector; LEVELS_MAX];

/// First principal component of a covariance: Σ ≥ 0, Σ|w| = 1. None where nothing varies.
fn first_component(covariance: &Matrix, levels: usize) -> Option<Vector> {
    let trace: f64 = (0..levels).map(|level| covariance[level][level]).sum();
    if !(trace > 0.0 && trace.is_finite()) {
        return None;
    }
    let mut rest = covariance.map(|row| row.map(|value| value / trace));
    let mut axes = [[0.0; LEVELS_MAX]; LEVELS_MAX];
    (0..LEVELS_MAX).for_each(|level| axes[level][level] = 1.0);
    for _ in 0..SWEEPS_MAX {
        let off: f64 =
            (0..levels).flat_map(|p| (p + 1..levels).map(move |q| (p, q))).map(|(p, q)| rest[p][q].abs()).sum();
        if off < OFF_MAX {
            break;
        }
        for p in 0..levels {
            for q in p + 1..levels {
                rotate(&mut rest, &mut axes, p, q);
            }
        }
    }
    let leading = (0..levels).max_by(|one, other| rest[*one][*one].total_cmp(&rest[*other][*other]))?;
    let mut weights = [0.0; LEVELS_MAX];
    (0..levels).for_each(|level| weights[level] = axes[level][leading]);
    let magnitude: f64 = weights.iter().map(|weight| weight.abs()).sum();
    let sum: f64 = weights.iter().sum();
    let scale = if sum < 0.0 { -magnitude } else { magnitude };
    weights.iter_mut().for_each(|weight| *weight /= scale);
    Some(weights)
}

/// One Jacobi rotation: what `p` and `q` share becomes 0; p < q.
fn rotate(rest: &mut Matrix, axes: &mut Matrix, p: usize, q: usize) {
    if rest[p][q] == 0.0 {
        return;
    }
    let theta = (rest[q][q] - rest[p][p]) / (2.0 * rest[p][q]);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for row in rest.iter_mut().chain(axes.iter_mut()) {
        let (one, other) = (row[p], row[q]);
        (row[p], row[q]) = (cosine * one - sine * other, sine * one + cosine * other);
    }
    let (above, below) = rest.split_at_mut(q);
    for (one, other) in above[p].iter_mut().zip(&mut below[0]) {
        (*one, *other) = (cosine * *one - sine * *other, sine * *one + cosine * *other);
    }
    (rest[p][q], rest[q][p]) = (0.0, 0.0);
}

/// Refuses values that cannot be one. NaN can: a window in which nothing was quoted.
pub fn check_window(normalised: &[f64]) -> Result<(), Refused> {
    match normalised.iter().find(|value| value.abs() > NORMALISED_MAX) {
        Some(value) => Err(Refused::new("normalised", format!("{value} is not within ±10¹⁰⁰"))),
        None => Ok(()),
    }
}

/// Refuses levels of different lengths and values that are none: the number of windows.
pub fn check_windows(normalised: &[&[f64]]) -> Result<usize, Refused> {
    level_count("normalised", normalised.len())?;
    let windows = normalised[0].len();
    for (level, column) in normalised.iter().enumerate() {
        if column.len() != windows {
            let reason = format!("level {level} has {} rows, level 0 has {windows}", column.len());
            return Err(Refused::new("normalised", reason));
        }
        check_window(column)?;
    }
    Ok(windows)
}

/// Weights of the levels from a whole history, Σ|w| = 1.
pub fn ofi_weights(normalised: &[&[f64]]) -> Result<Vec<f64>, Refused> {
    let windows = check_windows(normalised)?;
    if windows < 2 {
        return Err(Refused::new("normalised", format!("has {windows} windows, not 2 or more")));
    }
    if let Some(level) = normalised.iter().position(|column| column.iter().any(|value| value.is_nan())) {
        return Err(Refused::new("normalised", format!("level {level} has a NaN")));
    }
    let levels = normalised.len();
    let mut past = Past::default();
    for row in 0..windows {
        past.learn(&vector(normalised, row), levels);
    }
    let weights = first_component(&past.products, levels);
    weights.map(|weights| weights[..levels].to_vec()).ok_or_else(|| Refused::new("normalised", "does not vary"))
}

/// w·x / Σ|w| of every window.
pub fn integrated_ofi(normalised: &[&[f64]], weights: &[f64], out: &mut [f64]) -> Result<(), Refused> {
    check_windows(normalised)?;
    if weights.len() != normalised.len() {
        let reason = format!("has {} rows, normalised has {} levels", weights.len(), normalised.len());
        return Err(Refused::new("weights", reason));
    }
    let magnitude: f64 = weights.iter().map(|weight| weight.abs()).sum();
    if !(magnitude > 0.0 && magnitude <= NORMALISED_MAX) {
        return Err(Refused::new(
            "weights",
            format!("their magnitudes sum to {magnitude}, not a number within 0 … 10¹⁰⁰"),
        ));
    }
    for (row, value) in out.iter_mut().enumerate() {
        let sum: f64 = weights.iter().zip(normalised).map(|(weight, column)| weight * column[row]).sum();
        *value = sum / magnitude;
    }
    Ok(())
}

fn vector(normalised: &[&[f64]], row: usize) -> Vector {
    let mut vector = [0.0; LEVELS_MAX];
    for (value, column) in vector.iter_mut().zip(normalised) {
        *value = column[row];
    }
    vector
}

/// Means of the windows before, and their products about the means (Welford).
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    windows: u64,
    mean: Vector,
    products: Matrix,
}

impl Past {
    fn learn(&mut self, window: &Vector, levels: usize) {
        self.windows += 1;
        let mut before = [0.0; LEVELS_MAX];
        for level in 0..levels {
            before[level] = window[level] - self.mean[level];
            self.mean[level] += before[level] / self.windows as f64;
        }
        for (one, row) in self.products.iter_mut().enumerate().take(levels) {
            for (other, product) in row.iter_mut().enumerate().take(levels) {
                // Both distances to the mean before: so the matrix is symmetric to the bit.
                *product += before[one] * before[other] * (self.windows - 1) as f64 / self.windows as f64;
            }
        }
    }
}

/// Streaming integrated OFI: a window's weights come from those before it.
#[derive(Clone, Copy, Debug)]
pub struct IntegratedOfi {
    levels: usize,
    warm_up: u64,
    past: Past,
    weights: Vector,
    value: f64,
    arming: Arming,
    validity: Validity,
}

impl IntegratedOfi {
    pub fn new(levels: usize, warm_up: u64) -> Result<Self, Refused> {
        if warm_up < 2 {
            return Err(Refused::new("warm_up", format!("{warm_up} is not 2 or more")));
        }
        Ok(Self {
            levels: level_count("levels", levels)?,
            warm_up,
            past: Past::default(),
            weights: [f64::NAN; LEVELS_MAX],
            value: f64::NAN,
            arming: Arming::default(),
            validity: Validity::WarmingUp,
        })
    }

    /// The value of this window, which passed `check_window`; then it is learnt. One with a NaN is neither.
    pub fn update(&mut self, normalised: &[f64]) -> f64 {
        let mut window = [0.0; LEVELS_MAX];
        window[..self.levels].copy_from_slice(&normalised[..self.levels]);
        let sound = !window.iter().any(|value| value.is_nan());
        let warm = self.past.windows >= self.warm_up;
        let weights = if warm && sound { first_component(&self.past.products, self.levels) } else { None };
        self.weights = weights.unwrap_or([f64::NAN; LEVELS_MAX]);
        self.value =
            weights.map_or(f64::NAN, |weights| weights.iter().zip(window).map(|(weight, value)| weight * value).sum());
        self.validity = self.arming.validity(warm, weights.is_some());
        if sound {
            self.past.learn(&window, self.levels);
        }
        self.value
    }

    /// `update` for every window. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        normalised: &[&[f64]],
        marks: Option<&[u8]>,
        out: &mut [f64],
        mut validity: Option<&mut [u8]>,
    ) -> Result<(), Refused> {
        let windows = check_windows(normalised)?;
        if normalised.len() != self.levels {
            return Err(Refused::new("normalised", format!("has {} levels, not {}", normalised.len(), self.levels)));
        }
        super::flow::check_marks(("normalised[0]", windows), marks)?;
        super::same_rows(&[("normalised[0]", windows), ("out", out.len())])?;
        for (row, value) in out.iter_mut().enumerate() {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            *value = self.update(&vector(normalised, row));
            if let Some(validity) = validity.as_deref_mut() {
                validity[row] = self.validity as u8;
            }
        }
        Ok(())
    }

    fn anew(&mut self, arming: Arming, validity: Validity) {
        (self.past, self.weights, self.value) = (Past::default(), [f64::NAN; LEVELS_MAX], f64::NAN);
        (self.arming, self.validity) = (arming, validity);
    }

    pub fn reset(&mut self) {
        self.anew(Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.anew(Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn levels(&self) -> usize {
        self.levels
    }

    /// The weights of the last window; NaN where it had none.
    pub fn weights(&self) -> &[f64] {
        &self.weights[..self.levels]
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
