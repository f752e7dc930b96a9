//! e^x for x ≤ 0 with nothing but additions, multiplications and bits, so that several go into one instruction.
//! Not libm's: the last bit may differ from it, but never between machines.

/// 1 / ln 2.
const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// ln 2 in two parts; the first ends in zeros, so that its product with any exponent is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// 1.5 · 2⁵²: adding it rounds to an integer, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Below it e^x, which would soon be subnormal and slow, is 0.
pub const LEAST: f64 = -708.0;
/// (e^r − 1 − r) / r² for |r| ≤ ln 2 / 2, interpolated at Chebyshev's points: e^r to 1.6 · 10⁻¹⁷.
const EVEN: [f64; 5] =
    [0.5, 0.041666666666624164, 0.0013888888917196736, 2.480152132234228e-05, 2.7620075892548164e-07];
const ODD: [f64; 5] =
    [0.16666666666666669, 0.008333333333330065, 0.00019841269863040559, 2.7557268480289716e-06, 2.51003758422237e-08];

/// (e^x, 1 − e^x), each within two units of the last place, for x ≤ 0.
#[inline(always)]
pub fn decay(x: f64) -> (f64, f64) {
    let rounded = x * LOG2_E + ROUND;
    let exponent = rounded - ROUND;
    let r = (x - exponent * LN2_HIGH) - exponent * LN2_LOW;
    let square = r * r;
    let even = EVEN[0] + square * (EVEN[1] + square * (EVEN[2] + square * (EVEN[3] + square * EVEN[4])));
    let odd = ODD[0] + square * (ODD[1] + square * (ODD[2] + square * (ODD[3] + square * ODD[4])));
    let grown = r + square * (even + r * odd);
    let scale = f64::from_bits((rounded.to_bits() << 52).wrapping_add(1023 << 52));
    let part = scale * grown;
    let gone = x < LEAST;
    (if gone { 0.0 } else { scale + part }, if gone { 1.0 } else { (1.0 - scale) - part })
}

/// Σ ln of many numbers: mantissas are multiplied and exponents added, and one logarithm ends it.
#[derive(Clone, Copy)]
pub struct LogSum {
    mantissas: [f64; Self::LANES],
    exponents: [u64; Self::LANES],
    numbers: u64,
    logarithms: f64,
}

impl LogSum {
    const LANES: usize = 8;
    /// As many numbers between 1 and 2 may be multiplied in each lane before `fold`: all lanes stay below 2¹⁰²⁴.
    pub const NUMBERS_MAX: usize = 1000;
    const MANTISSA: u64 = (1 << 52) - 1;
    const ONE: u64 = 1023 << 52;
    pub const EMPTY: Self =
        Self { mantissas: [1.0; Self::LANES], exponents: [0; Self::LANES], numbers: 0, logarithms: 0.0 };

    #[inline(always)]
    fn add(&mut self, lane: usize, number: f64) {
        let bits = number.to_bits();
        self.mantissas[lane] *= f64::from_bits((bits & Self::MANTISSA) | Self::ONE);
        self.exponents[lane] += bits >> 52;
    }

    /// Adds the logarithms of normal numbers above 0, at most `NUMBERS_MAX`.
    #[inline(always)]
    pub fn add_all(&mut self, numbers: &[f64]) {
        debug_assert!(numbers.len() <= Self::NUMBERS_MAX);
        let mut sum = *self;
        let (groups, rest) = numbers.as_chunks::<{ Self::LANES }>();
        for group in groups {
            for (lane, number) in group.iter().enumerate() {
                sum.add(lane, *number);
            }
        }
        for (lane, number) in rest.iter().enumerate() {
            sum.add(lane, *number);
        }
        sum.numbers += numbers.len() as u64;
        sum.logarithms += sum.mantissas.iter().product::<f64>().ln();
        sum.mantissas = [1.0; Self::LANES];
        *self = sum;
    }

    pub fn value(&self) -> f64 {
        let exponent = self.exponents.iter().sum::<u64>() as i64 - 1023 * self.numbers as i64;
        exponent as f64 * std::f64::consts::LN_2 + self.logarithms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relative(ours: f64, theirs: f64) -> f64 {
        if ours == theirs { 0.0 } else { ((ours - theirs) / theirs).abs() }
    }

    fn judge(x: f64) {
        let (left, gone) = decay(x);
        assert!(relative(left, x.exp()) <= 5e-16, "e^{x} is {:e}, not {left:e}", x.exp());
        assert!(relative(gone, -x.exp_m1()) <= 5e-16, "1 - e^{x} is {:e}, not {gone:e}", -x.exp_m1());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn decays_as_libm_does_over_the_whole_domain(x in LEAST..=0.0) {
            judge(x);
        }

        #[test]
        fn decays_as_libm_does_for_every_magnitude(power in -1074.0..9.4_f64) {
            judge((-power.exp2()).max(LEAST));
        }

        #[test]
        fn logarithms_add_up(numbers in prop::collection::vec((-300.0..300.0_f64).prop_map(|power| 10_f64.powf(power)), 0..50)) {
            let mut sum = LogSum::EMPTY;
            numbers.chunks(7).for_each(|part| sum.add_all(part));
            let expected: f64 = numbers.iter().map(|number| number.ln()).sum();
            // Exponent and mantissa of a number just below 1 nearly cancel: each adds up to ln 2 of its own.
            let scale: f64 = numbers.iter().map(|number| number.ln().abs() + 1.0).sum();
            prop_assert!((sum.value() - expected).abs() <= 1e-15 * scale);
        }
    }

    #[test]
    fn every_binary_exponent_has_both_its_ends() {
        for exponent in 0..=1020 {
            let border = -(f64::from(exponent) + 0.5) * std::f64::consts::LN_2;
            for x in [border.next_down(), border, border.next_up(), -f64::from(exponent) * std::f64::consts::LN_2] {
                judge(x.clamp(LEAST, 0.0));
            }
        }
    }

    #[test]
    fn nothing_is_left_far_out_and_everything_at_once() {
        assert_eq!(decay(0.0), (1.0, 0.0));
        assert_eq!(decay(-0.0), (1.0, 0.0));
        for x in [LEAST.next_down(), -800.0, -1e9, -1e20, -1e300, f64::MIN, f64::NEG_INFINITY] {
            assert_eq!(decay(x), (0.0, 1.0), "{x}");
        }
    }

    #[test]
    fn as_many_numbers_as_allowed_stay_finite() {
        let mut sum = LogSum::EMPTY;
        sum.add_all(&[2_f64.next_down(); LogSum::NUMBERS_MAX]);
        assert!(relative(sum.value(), 1000.0 * std::f64::consts::LN_2) < 1e-14);
    }
}
