//! What makes two trades one message that came twice. Knows no rules of continuity.
use crate::record::{HEADER_BYTES, RECORD_BYTES, Record};

/// Odd, and its bits are well mixed: the golden ratio in 64 bits.
pub const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Fingerprint of body, exchange stamp and side: what the source sent, not when or where it reached us.
///
/// Sums of 32 × 32-bit products (the NH construction): cheap enough to take of every trade.
#[inline(always)]
pub fn payload(record: &Record) -> u64 {
    let header = record.header();
    let stamp = (header.exchange_ns as u64).wrapping_mul(MIX) ^ u64::from(header.side);
    let words = record.words();
    let sum = words[HEADER_BYTES / 8..].iter().zip(&KEYS).fold(0u64, |sum, (word, key)| {
        let keyed = word ^ key;
        sum.wrapping_add((keyed & 0xFFFF_FFFF) * (keyed >> 32))
    });
    sum ^ stamp.rotate_left(17)
}

const KEYS: [u64; (RECORD_BYTES - HEADER_BYTES) / 8] = keys();

const fn keys() -> [u64; (RECORD_BYTES - HEADER_BYTES) / 8] {
    let mut keys = [0; (RECORD_BYTES - HEADER_BYTES) / 8];
    let mut state = MIX;
    let mut at = 0;
    while at < keys.len() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        keys[at] = state;
        at += 1;
    }
    keys
}
