//! What tells one stream from another, hashed by one multiplication. Knows no rules of continuity.
use std::hash::Hasher;

use crate::payload::MIX;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The 16 bytes of the code.
    pub code: [u64; 2],
    /// Twice the day, and one more at night.
    pub session: i32,
    pub lane: u8,
    pub futures: bool,
}

impl Key {
    /// Whether both are sessions of one code and lane.
    pub fn is_of_same_code(&self, other: &Key) -> bool {
        (self.code, self.lane, self.futures) == (other.code, other.lane, other.futures)
    }
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let rest = u64::from(self.session as u32) << 16 | u64::from(self.lane) << 8 | u64::from(self.futures);
        hasher.write_u64(self.code[0] ^ self.code[1].rotate_left(32) ^ rest.wrapping_mul(MIX));
    }
}

/// One multiplication; keys are codes we subscribed to, not an attacker's.
#[derive(Clone, Copy, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * u128::from(MIX);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}
