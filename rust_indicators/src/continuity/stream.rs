//! What is remembered of one stream of trades: where it stands, what repeats are known by, which lots are missing.
//! Judges nothing (`continuity.rs`).
use super::{Filled, HOLES_MAX, Key, RECENT_MAX, Sighting, window_ns};
use crate::payload::payload;
use crate::record::Record;

/// Lots (from, to] not seen yet; `exchange_ns` is the stamp of the trade that revealed it.
#[derive(Clone, Copy)]
pub struct Hole {
    pub from: u32,
    pub to: u32,
    pub exchange_ns: i64,
    pub row: u64,
    /// Not for a hole of the run before.
    pub counted: bool,
}

/// What the plain next trade needs, in one cache line: the session as its window of stamps.
#[repr(align(64))]
pub struct Stream {
    pub code: [u64; 2],
    pub from_ns: i64,
    pub until_ns: i64,
    pub exchange_ns: i64,
    /// Of the trade that told `total`.
    pub row: u64,
    pub total: u32,
    pub lane: u8,
    pub futures: bool,
    pub recent_next: u8,
    pub recent_count: u8,
    /// `Counters::judged` when last used.
    pub used: u64,
}

const _: () = assert!(size_of::<Stream>() == 64 && RECENT_MAX <= u64::BITS as usize);

/// What only a break in the stream looks at.
pub struct Past {
    pub key: Key,
    pub recent: [u64; RECENT_MAX],
    /// A bit for each of `recent` that is a place in the batch still, and not the fingerprint of what stands there.
    pub unread: u64,
    pub holes: Vec<Hole>,
}

/// What the payload of a sighting means.
pub trait Payloads {
    const LATER: bool;
    fn of(&self, payload: u64) -> u64;
}

/// It is the fingerprint.
pub struct Known;

impl Payloads for Known {
    const LATER: bool = false;
    fn of(&self, payload: u64) -> u64 {
        payload
    }
}

/// It is a place: of a trade that no other is compared with before 64 have followed, nobody needs the fingerprint.
pub struct InBatch<'a>(pub &'a [Record]);

impl Payloads for InBatch<'_> {
    const LATER: bool = true;
    fn of(&self, place: u64) -> u64 {
        payload(&self.0[place as usize])
    }
}

impl Stream {
    pub fn started(key: Key, trade: &Sighting, used: u64) -> Stream {
        let (from_ns, until_ns) = window_ns(key.session >> 1, key.session & 1 == 1, key.futures);
        Stream {
            code: key.code,
            from_ns,
            until_ns,
            exchange_ns: trade.exchange_ns,
            row: trade.row,
            total: trade.total_volume,
            lane: key.lane,
            futures: key.futures,
            recent_next: 0,
            recent_count: 0,
            used,
        }
    }

    #[inline(always)]
    pub fn is_of(&self, trade: &Sighting) -> bool {
        let in_window = self.from_ns <= trade.exchange_ns && trade.exchange_ns < self.until_ns;
        in_window && self.code == trade.code && self.lane == trade.lane && self.futures == trade.futures
    }

    #[inline(always)]
    pub fn advance(&mut self, trade: &Sighting) {
        (self.total, self.row) = (trade.total_volume, trade.row);
        self.exchange_ns = self.exchange_ns.max(trade.exchange_ns);
    }
}

impl Past {
    pub fn read<P: Payloads>(&mut self, payloads: &P) {
        while self.unread != 0 {
            let at = self.unread.trailing_zeros() as usize;
            self.recent[at] = payloads.of(self.recent[at]);
            self.unread &= self.unread - 1;
        }
    }

    /// Returns how many holes had to be forgotten for this one.
    pub fn open(&mut self, hole: Hole) -> u64 {
        let full = self.holes.len() >= HOLES_MAX;
        if full {
            self.holes.remove(0);
        }
        self.holes.push(hole);
        u64::from(full)
    }

    /// Takes (from, to] out of the open holes; returns how many lots of them it was, and how many had been counted.
    pub fn fill(&mut self, from: u32, to: u32, exchange_ns: i64, filled: &mut Vec<Filled>) -> (u32, u32) {
        let (mut lots, mut counted) = (0, 0);
        let mut at = 0;
        while at < self.holes.len() {
            let hole = self.holes[at];
            let (low, high) = (hole.from.max(from), hole.to.min(to));
            if low >= high || exchange_ns > hole.exchange_ns {
                at += 1;
                continue;
            }
            lots += high - low;
            counted += (high - low) * u32::from(hole.counted);
            filled.push(Filled { from: low, to: high, row: hole.row });
            self.holes.remove(at);
            for rest in [Hole { to: low, ..hole }, Hole { from: high, ..hole }] {
                if rest.from < rest.to && self.holes.len() < HOLES_MAX {
                    self.holes.insert(at, rest);
                    at += 1;
                }
            }
        }
        (lots, counted)
    }
}
