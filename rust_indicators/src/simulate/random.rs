//! SplitMix64 (Steele, Lea and Flood, 2014): eight bytes of state, every seed a good one. Not for secrets.

/// One seeded stream of numbers; streams of different `salt` are independent.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, salt: &str) -> Random {
        // FNV-1a of the salt, so that a stream depends on its name and not on its place in a list.
        let hash = salt
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Random(mix(seed ^ mix(hash)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True `numerator` times in `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_first_values_of_seed_zero_come_out() {
        let mut random = Random(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn names_give_different_streams_and_bounds_are_kept() {
        let (mut a, mut b) = (Random::new(7, "TXF"), Random::new(7, "MXF"));
        assert_ne!(a.next(), b.next());
        assert!((0..1_000).all(|_| a.below(3) < 3));
        assert_eq!(a.below(0), 0);
    }
}
