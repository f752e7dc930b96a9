//! Sums over a window that slides: exact of integers, and of floats without ever subtracting. Not a signal.

/// Largest price × 10⁶, of either sign: 70 million.
pub const PRICE_E6_MAX: i64 = 1 << 46;
/// Largest change of a price × 10⁶, and of lots in one window: sums of products of 2³² rows stay within 128 bits.
pub const CHANGE_MAX: i64 = 2 * PRICE_E6_MAX;

/// Σxy of n centred pairs, times n: n·Σxy − Σx·Σy, exact but for its one rounding where it fits 128 bits.
/// Values of at most `CHANGE_MAX`, and at most 2³² of them.
pub fn centred(n: i64, sum_x: i128, sum_y: i128, sum_xy: i128) -> f64 {
    let n = i128::from(n);
    if fits(n, sum_xy) && fits(sum_x, sum_y) {
        return (n * sum_xy - sum_x * sum_y) as f64;
    }
    let (mean_x, mean_y) = (sum_x.div_euclid(n), sum_y.div_euclid(n));
    let (rest_x, rest_y) = (sum_x.rem_euclid(n), sum_y.rem_euclid(n));
    let whole = sum_xy - mean_x * sum_y - rest_x * mean_y;
    if fits(n, whole) {
        return (n * whole - rest_x * rest_y) as f64;
    }
    // The product of the rests is below 2⁶⁴, n·whole above 2¹²⁴.
    n as f64 * whole as f64
}

/// Whether the product is surely below 2¹²⁶.
fn fits(a: i128, b: i128) -> bool {
    a.unsigned_abs().leading_zeros() + b.unsigned_abs().leading_zeros() >= 130
}

/// Sum of the last values. Values are never subtracted again, so a large one leaves no error behind when it goes:
/// of values of one sign the relative error stays below their number times 2⁻⁵³.
#[derive(Clone, Debug)]
pub struct RollingSum {
    /// Before `next` the newest values; from there on sums of the older ones: of this and all behind it.
    ring: Vec<f64>,
    next: usize,
    newest: f64,
    full: bool,
}

impl RollingSum {
    /// `length` at least 1.
    pub fn new(length: usize) -> Self {
        Self { ring: vec![0.0; length], next: 0, newest: 0.0, full: false }
    }

    pub fn push(&mut self, value: f64) {
        self.ring[self.next] = value;
        self.newest += value;
        self.next += 1;
        if self.next == self.ring.len() {
            for at in (1..self.ring.len()).rev() {
                self.ring[at - 1] += self.ring[at];
            }
            (self.next, self.newest, self.full) = (0, 0.0, true);
        }
    }

    pub fn sum(&self) -> f64 {
        self.newest + self.ring[self.next]
    }

    /// Has as many values as it holds.
    pub fn full(&self) -> bool {
        self.full
    }

    pub fn length(&self) -> usize {
        self.ring.len()
    }

    pub fn mean(&self) -> f64 {
        self.sum() / self.ring.len() as f64
    }

    pub fn clear(&mut self) {
        self.ring.fill(0.0);
        (self.next, self.newest, self.full) = (0, 0.0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn centred_is_exact_on_both_sides_of_128_bits(base in -(1_i128 << 46)..1 << 46, n in 1_i64..1 << 32) {
            // n values: all `base` but one, which is 3 more. Σx = n·base + 3, and n·Σx² − (Σx)² = 9·(n − 1).
            let wide = i128::from(n);
            let (sum, squares) = (wide * base + 3, wide * base * base + 6 * base + 9);
            prop_assert_eq!(centred(n, sum, sum, squares), 9.0 * (n - 1) as f64);
        }

        #[test]
        fn a_rolling_sum_is_the_sum_of_the_last_values(values in prop::collection::vec(0.0_f64..1e12, 0..60), n in 1_usize..9) {
            let mut rolling = RollingSum::new(n);
            for (row, value) in values.iter().enumerate() {
                rolling.push(*value);
                let expected: f64 = values[(row + 1).saturating_sub(n)..=row].iter().sum();
                prop_assert!((rolling.sum() - expected).abs() <= 1e-14 * expected);
                prop_assert_eq!(rolling.full(), row + 1 >= n);
            }
        }
    }

    #[test]
    fn a_value_that_dwarfs_the_others_leaves_nothing_behind() {
        let mut rolling = RollingSum::new(3);
        for value in [1e-9, 1e30, 1e-9, 1e-9, 1e-9] {
            rolling.push(value);
        }
        assert!((rolling.sum() - 3e-9).abs() < 1e-24);
    }
}
