//! Volume continuity: `total_volume` must rise by exactly `volume` per (code, lane, session), or lots are missing.
//! Not a judge of books, of trial matches or of causes (`shijim_pipelines/proof/audit.py` asks why).
//!
//! The recorder judges each record as it is written, the audit the records that the archive gives back: both through
//! `judge`.
//! Rules, in order, for a trade that covers the lots (total − volume, total]:
//!   1. first of its session  basis zero, or carried when a futures day goes on exactly where its night stopped
//!   2. total above the last  next, gap (lots in between are a hole) or excess (volume claims lots already seen)
//!   3. equal payload among the last `RECENT_MAX`  duplicate
//!   4. fills an open hole, stamped no later than the trade that revealed it  late
//!   5. stamped before the newest trade  late, filling nothing (an old repeat)
//!   6. total below the last  reset: known lots start anew, open holes stay missing
mod key;
mod stream;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::payload::{MIX, payload};
use crate::record::{ABSENT_I64, ABSENT_U32, Record, broker_class, exchange, flag, kind, lane};
use crate::wall_clock::{DAY_NS, SECOND_NS, TAIPEI_OFFSET_NS};
use key::Key;
pub use key::KeyHasher;
use stream::{Hole, InBatch, Known, Past, Payloads, Stream};

/// Streams remembered; the least recently used half goes when it is reached. A full one weighs under 3 KB.
pub const STREAMS_MAX: usize = 1 << 14;
/// Sessions remembered of a code and lane, the least recently used goes first: a recorder lives for weeks and needs the
/// one that runs and the night before; the rest is for stamps that are wrong.
pub const SESSIONS_MAX: usize = 8;
/// Payloads a repeat is looked for in; a reconnect replays seconds, not minutes.
pub const RECENT_MAX: usize = 64;
/// Open holes a late trade may fill, per stream; the oldest is forgotten first and stays missing.
pub const HOLES_MAX: usize = 64;
/// How many days back a night session is looked for when its day session starts (long holidays).
pub const CARRY_DAYS_MAX: i32 = 14;
/// Streams found without hashing the session; a power of two, small enough to stay in the first-level cache.
const NEAR_SLOTS: usize = 1024;
const NOWHERE: u32 = u32::MAX;
/// Records of a batch from which the trades are picked before one is judged: they stay in the first-level cache.
const SIEVE: usize = 256;

/// Futures: trial matching starts 08:30 and 14:50, and belongs to the session that follows it.
const DAY_FROM_NS: i64 = (8 * 60 + 30) * 60 * SECOND_NS;
const NIGHT_FROM_NS: i64 = (14 * 60 + 50) * 60 * SECOND_NS;

/// What the first total of a stretch was judged against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The session starts at 0.
    Zero,
    /// The day session went on where the night stopped.
    Carried,
    /// The trade before.
    Previous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a trade, a trial match, marked suspect, or without total, volume or exchange stamp.
    NotJudged,
    First {
        basis: Basis,
    },
    Next,
    /// `lots` between the last total and this trade were not seen; basis zero means a late start.
    Gap {
        lots: u32,
        basis: Basis,
    },
    /// Out of order; `lots` of known holes it filled.
    Late {
        lots: u32,
    },
    Duplicate,
    /// The total fell.
    Reset,
    /// The trade claims `lots` that earlier ones had covered: volume and total contradict each other.
    Excess {
        lots: u32,
    },
}

/// A verdict and the highest total known before the trade (0 for the first one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub total_before: u32,
    /// `Sighting::row` of the trade that told `total_before`; 0 for the first one.
    pub row_before: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub judged: u64,
    /// Lots of all gaps minus the lots late trades filled.
    pub lots_missing: u64,
    pub gaps: u64,
    pub late: u64,
    pub duplicates: u64,
    pub resets: u64,
    pub excesses: u64,
    /// Streams and holes given up for memory (`STREAMS_MAX`, `SESSIONS_MAX`, `HOLES_MAX`); of one day 0, unless
    /// something is very wrong.
    pub forgotten: u64,
}

/// What the rules need of a trade.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The 16 bytes of the code.
    pub code: [u64; 2],
    pub lane: u8,
    pub futures: bool,
    pub exchange_ns: i64,
    pub volume: u32,
    pub total_volume: u32,
    /// Equal exactly when everything the source sent is; to `observe_batch` the place of the record in its batch.
    pub payload: u64,
    /// The caller's number of the trade, given back where a later one is judged by it.
    pub row: u64,
}

/// Lots (from, to] of a hole that a late trade filled; `row` is the trade that had revealed the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    pub from: u32,
    pub to: u32,
    pub row: u64,
}

pub struct Continuity {
    near: Box<[u32; NEAR_SLOTS]>,
    slots: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    streams: Vec<Stream>,
    /// One for each of `streams`.
    pasts: Vec<Past>,
    /// Which of `pasts` have, or had, places of the batch in them.
    unread: Vec<u32>,
    pub counters: Counters,
    /// By the last trade that was judged late.
    pub filled: Vec<Filled>,
}

impl Default for Continuity {
    fn default() -> Self {
        Self::new()
    }
}

impl Continuity {
    pub fn new() -> Self {
        Continuity {
            near: Box::new([NOWHERE; NEAR_SLOTS]),
            slots: HashMap::default(),
            streams: Vec::new(),
            pasts: Vec::new(),
            unread: Vec::new(),
            counters: Counters::default(),
            filled: Vec::new(),
        }
    }

    /// Keeps what is known of every stream and counts from zero: the holes so far are of the run before.
    pub fn count_anew(&mut self) {
        self.counters = Counters::default();
        self.streams.iter_mut().for_each(|stream| stream.used = 0);
        self.pasts.iter_mut().flat_map(|past| &mut past.holes).for_each(|hole| hole.counted = false);
    }

    #[inline(always)]
    pub fn observe(&mut self, record: &Record) -> Verdict {
        sighting(record).map_or(Verdict::NotJudged, |trade| self.judge(&trade).verdict)
    }

    /// Judges the trades among the records, in their order. What `found` is given has its place among them as payload.
    #[inline]
    pub fn observe_batch(
        &mut self,
        records: &[Record],
        row_of: impl Fn(&Record) -> u64,
        mut found: impl FnMut(usize, &Sighting, Judgement),
    ) {
        let mut trades = [0; SIEVE];
        for (number, part) in records.chunks(SIEVE).enumerate() {
            // Without a branch: nobody can tell which record is a trade.
            let mut count = 0;
            for (at, record) in part.iter().enumerate() {
                trades[count] = number * SIEVE + at;
                count += usize::from(record.header().kind == kind::TRADE);
            }
            for &at in &trades[..count] {
                if let Some((trade, judgement)) = self.judge_in_batch(records, at, row_of(&records[at]))
                    && judgement.verdict != Verdict::Next
                {
                    found(at, &trade, judgement);
                }
            }
        }
        self.end_batch(records);
    }

    /// Judges one of the records, `None` where it is not to be. Once all have been, `end_batch` must follow.
    #[inline(always)]
    pub fn judge_in_batch(&mut self, records: &[Record], at: usize, row: u64) -> Option<(Sighting, Judgement)> {
        let trade = sighting_with(&records[at], row, |_| at as u64)?;
        Some((trade, self.judge_by(&trade, &InBatch(records))))
    }

    /// The records may go: what a repeat of one of them will be known by is read from them now.
    pub fn end_batch(&mut self, records: &[Record]) {
        self.read_payloads(&InBatch(records));
    }

    #[inline(always)]
    pub fn judge(&mut self, trade: &Sighting) -> Judgement {
        self.judge_by(trade, &Known)
    }

    #[inline(always)]
    fn judge_by<P: Payloads>(&mut self, trade: &Sighting, payloads: &P) -> Judgement {
        self.counters.judged += 1;
        let slot = self.near[near_slot(trade)];
        match self.streams.get(slot as usize) {
            Some(stream) if stream.is_of(trade) => self.judge_in(slot, trade, payloads),
            _ => self.judge_far(trade, payloads),
        }
    }

    /// The stream is not the one last seen under this code: look it up by session, or start it.
    #[cold]
    #[inline(never)]
    fn judge_far<P: Payloads>(&mut self, trade: &Sighting, payloads: &P) -> Judgement {
        let key = key_of(trade);
        if let Some(slot) = self.slots.get(&key).copied() {
            self.near[near_slot(trade)] = slot;
            return self.judge_in(slot, trade, payloads);
        }
        if self.streams.len() >= STREAMS_MAX {
            self.read_payloads(payloads);
            self.forget_least_used();
        }
        let from = trade.total_volume.saturating_sub(trade.volume);
        let carried = from > 0 && self.night_before(key) == Some(from);
        let mut past = Past { key, recent: [0; RECENT_MAX], unread: 0, holes: Vec::new() };
        let verdict = if carried {
            Verdict::First { basis: Basis::Carried }
        } else if from == 0 {
            Verdict::First { basis: Basis::Zero }
        } else {
            past.holes.push(Hole { from: 0, to: from, exchange_ns: trade.exchange_ns, row: trade.row, counted: true });
            self.counters.gaps += 1;
            self.counters.lots_missing += u64::from(from);
            Verdict::Gap { lots: from, basis: Basis::Zero }
        };
        let slot = self.place(Stream::started(key, trade, self.counters.judged), past);
        self.slots.insert(key, slot);
        self.near[near_slot(trade)] = slot;
        self.remember::<P>(slot, trade.payload);
        Judgement { verdict, total_before: if carried { from } else { 0 }, row_before: 0 }
    }

    #[inline(always)]
    fn judge_in<P: Payloads>(&mut self, slot: u32, trade: &Sighting, payloads: &P) -> Judgement {
        let stream = &mut self.streams[slot as usize];
        stream.used = self.counters.judged;
        let (before, row_before) = (stream.total, stream.row);
        let from = trade.total_volume.saturating_sub(trade.volume);
        let verdict = if from == before && trade.volume > 0 {
            stream.advance(trade);
            self.remember::<P>(slot, trade.payload);
            Verdict::Next
        } else {
            self.judge_break(slot, trade, from, payloads)
        };
        Judgement { verdict, total_before: before, row_before }
    }

    #[inline(always)]
    fn remember<P: Payloads>(&mut self, slot: u32, payload: u64) {
        let (stream, past) = (&mut self.streams[slot as usize], &mut self.pasts[slot as usize]);
        let at = usize::from(stream.recent_next) % RECENT_MAX;
        stream.recent_next = ((at + 1) % RECENT_MAX) as u8;
        stream.recent_count = (stream.recent_count + 1).min(RECENT_MAX as u8);
        past.recent[at] = payload;
        if !P::LATER {
            past.unread &= !(1 << at);
            return;
        }
        if past.unread == 0 {
            self.unread.push(slot);
        }
        past.unread |= 1 << at;
    }

    /// Places of a batch become fingerprints, as long as it is there.
    fn read_payloads<P: Payloads>(&mut self, payloads: &P) {
        for slot in std::mem::take(&mut self.unread) {
            self.pasts[slot as usize].read(payloads);
        }
    }

    /// Everything but the plain next trade, by the rules at the top of the file.
    #[cold]
    #[inline(never)]
    fn judge_break<P: Payloads>(&mut self, slot: u32, trade: &Sighting, from: u32, payloads: &P) -> Verdict {
        let (stream, past) = (&mut self.streams[slot as usize], &mut self.pasts[slot as usize]);
        let counters = &mut self.counters;
        let before = stream.total;
        if trade.total_volume > before {
            stream.advance(trade);
            let verdict = if from < before {
                counters.excesses += 1;
                Verdict::Excess { lots: before - from }
            } else {
                counters.gaps += 1;
                counters.lots_missing += u64::from(from - before);
                let (exchange_ns, row) = (trade.exchange_ns, trade.row);
                counters.forgotten += past.open(Hole { from: before, to: from, exchange_ns, row, counted: true });
                Verdict::Gap { lots: from - before, basis: Basis::Previous }
            };
            self.remember::<P>(slot, trade.payload);
            return verdict;
        }
        past.read(payloads);
        if past.recent[..usize::from(stream.recent_count)].contains(&payloads.of(trade.payload)) {
            counters.duplicates += 1;
            return Verdict::Duplicate;
        }
        self.remember::<P>(slot, trade.payload);
        if from == before {
            return Verdict::Next; // volume 0: a price was told, no lots
        }
        let (stream, past) = (&mut self.streams[slot as usize], &mut self.pasts[slot as usize]);
        let counters = &mut self.counters;
        self.filled.clear();
        let (lots, counted) = past.fill(from, trade.total_volume, trade.exchange_ns, &mut self.filled);
        if lots > 0 || trade.exchange_ns < stream.exchange_ns {
            counters.late += 1;
            counters.lots_missing -= u64::from(counted);
            return Verdict::Late { lots };
        }
        stream.exchange_ns = trade.exchange_ns;
        if trade.total_volume == before {
            counters.excesses += 1;
            return Verdict::Excess { lots: trade.volume };
        }
        counters.resets += 1;
        (stream.total, stream.row) = (trade.total_volume, trade.row);
        past.holes.clear();
        Verdict::Reset
    }

    /// Last total of the nearest night session before a futures day session.
    fn night_before(&self, key: Key) -> Option<u32> {
        if !key.futures || key.session & 1 == 1 {
            return None;
        }
        (1..=CARRY_DAYS_MAX)
            .find_map(|days| self.slots.get(&Key { session: key.session - 2 * days + 1, ..key }))
            .map(|slot| self.streams[*slot as usize].total)
    }

    /// In the place of its code's session that was not used for longest, where there are enough of them.
    fn place(&mut self, stream: Stream, past: Past) -> u32 {
        let used = |(slot, other): (usize, &Past)| {
            other.key.is_of_same_code(&past.key).then(|| (self.streams[slot].used, slot))
        };
        let same: Vec<_> = self.pasts.iter().enumerate().filter_map(used).collect();
        let oldest = same.iter().min().filter(|_| same.len() >= SESSIONS_MAX);
        if let Some(&(_, slot)) = oldest {
            self.counters.forgotten += 1;
            self.slots.remove(&self.pasts[slot].key);
            (self.streams[slot], self.pasts[slot]) = (stream, past);
            return slot as u32;
        }
        self.streams.push(stream);
        self.pasts.push(past);
        self.streams.len() as u32 - 1
    }

    fn forget_least_used(&mut self) {
        let mut both: Vec<(Stream, Past)> = self.streams.drain(..).zip(self.pasts.drain(..)).collect();
        both.sort_unstable_by_key(|(stream, _)| std::cmp::Reverse(stream.used));
        self.counters.forgotten += (both.len() - STREAMS_MAX / 2) as u64;
        both.truncate(STREAMS_MAX / 2);
        (self.streams, self.pasts) = both.into_iter().unzip();
        self.slots = self.pasts.iter().enumerate().map(|(slot, past)| (past.key, slot as u32)).collect();
        *self.near = [NOWHERE; NEAR_SLOTS];
    }
}

/// What of a record is judged, or `None`.
#[inline(always)]
pub fn sighting(record: &Record) -> Option<Sighting> {
    sighting_with(record, record.header().sequence, payload)
}

#[inline(always)]
fn sighting_with(record: &Record, row: u64, payload: impl Fn(&Record) -> u64) -> Option<Sighting> {
    let header = record.header();
    if header.kind != kind::TRADE {
        return None;
    }
    let body = &record.trade().body;
    let judged = header.lane != lane::TRIAL
        && header.flags & flag::SUSPECT == 0
        && header.exchange_ns != ABSENT_I64
        && body.total_volume != ABSENT_U32
        && body.volume != ABSENT_U32;
    judged.then(|| Sighting {
        code: code_words(&header.code),
        lane: header.lane,
        futures: is_futures(header.exchange, header.broker_class),
        exchange_ns: header.exchange_ns,
        volume: body.volume,
        total_volume: body.total_volume,
        payload: payload(record),
        row,
    })
}

#[inline(always)]
pub fn code_words(code: &[u8; 16]) -> [u64; 2] {
    let (low, high) = code.split_at(8);
    [low, high].map(|half| u64::from_le_bytes(half.try_into().expect("8 bytes")))
}

/// Contracts of the futures exchange have a day and a night session.
#[inline(always)]
pub fn is_futures(of_exchange: u8, of_class: u8) -> bool {
    matches!(of_exchange, exchange::TAIFEX | exchange::TIM)
        || matches!(of_class, broker_class::TICK_FOP_V1 | broker_class::BIDASK_FOP_V1)
}

/// Session by the clock alone: (days since the epoch of its first day in Taipei, night).
///
/// Futures: night [14:50, 08:30 of the next day), day [08:30, 14:50). Stocks: the calendar date.
pub fn session_window(exchange_ns: i64, futures: bool) -> (i32, bool) {
    let wall = exchange_ns.saturating_add(TAIPEI_OFFSET_NS);
    let (day, clock_ns) = (wall.div_euclid(DAY_NS) as i32, wall.rem_euclid(DAY_NS));
    match futures {
        true if clock_ns < DAY_FROM_NS => (day - 1, true),
        true if clock_ns >= NIGHT_FROM_NS => (day, true),
        _ => (day, false),
    }
}

/// [from, until) of a session, UTC ns.
pub fn window_ns(day: i32, night: bool, futures: bool) -> (i64, i64) {
    let midnight = i64::from(day).saturating_mul(DAY_NS).saturating_sub(TAIPEI_OFFSET_NS);
    let (from, until) = match (futures, night) {
        (true, true) => (NIGHT_FROM_NS, DAY_NS + DAY_FROM_NS),
        (true, false) => (DAY_FROM_NS, NIGHT_FROM_NS),
        _ => (0, DAY_NS),
    };
    (midnight.saturating_add(from), midnight.saturating_add(until))
}

fn key_of(trade: &Sighting) -> Key {
    let (day, night) = session_window(trade.exchange_ns, trade.futures);
    Key { code: trade.code, session: 2 * day + i32::from(night), lane: trade.lane, futures: trade.futures }
}

#[inline(always)]
fn near_slot(trade: &Sighting) -> usize {
    let code = trade.code[0] ^ trade.code[1].rotate_left(32) ^ u64::from(trade.lane) << 56;
    (code.wrapping_mul(MIX) >> 48) as usize & (NEAR_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Header, Trade, TradeBody, code_bytes};

    /// 2026-04-09 09:00 Taipei.
    const NINE_NS: i64 = (20_552 * 24 + 1) * 3600 * SECOND_NS;

    fn trade(code: &str, second: i64, volume: u32, total: u32) -> Record {
        let mut header = Header::EMPTY;
        header.kind = kind::TRADE;
        header.lane = lane::BOARD;
        header.exchange = exchange::TAIFEX;
        header.exchange_ns = NINE_NS + second * SECOND_NS;
        header.code = code_bytes(code).unwrap();
        Record::from_trade(&Trade { header, body: TradeBody { volume, total_volume: total, ..TradeBody::ABSENT } })
    }

    fn verdicts(trades: &[(i64, u32, u32)]) -> (Vec<Verdict>, Counters) {
        let mut continuity = Continuity::new();
        let found = trades
            .iter()
            .map(|(second, volume, total)| continuity.observe(&trade("TXFD6", *second, *volume, *total)))
            .collect();
        (found, continuity.counters)
    }

    const FIRST: Verdict = Verdict::First { basis: Basis::Zero };
    const NIGHT: i64 = -9 * 3600;

    #[test]
    fn a_session_without_loss_is_first_and_then_next() {
        let (found, counters) = verdicts(&[(0, 2, 2), (1, 1, 3), (1, 5, 8), (2, 0, 8)]);
        assert_eq!(found, [FIRST, Verdict::Next, Verdict::Next, Verdict::Next]);
        assert_eq!(counters, Counters { judged: 4, ..Counters::default() });
    }

    #[test]
    fn missing_lots_are_a_gap_and_a_late_trade_fills_it_in_parts() {
        let gap = Verdict::Gap { lots: 6, basis: Basis::Previous };
        let (found, counters) = verdicts(&[(0, 2, 2), (3, 2, 10), (2, 3, 6), (2, 1, 3), (2, 1, 3), (4, 1, 11)]);
        let late = [Verdict::Late { lots: 3 }, Verdict::Late { lots: 1 }, Verdict::Duplicate];
        assert_eq!(found, [&[FIRST, gap][..], &late, &[Verdict::Next]].concat());
        assert_eq!((counters.lots_missing, counters.gaps, counters.late, counters.duplicates), (2, 1, 2, 1));
    }

    #[test]
    fn a_late_trade_that_fills_a_hole_of_the_run_before_takes_nothing_from_this_runs_count() {
        let mut continuity = Continuity::new();
        for (second, volume, total) in [(0, 2, 2), (3, 2, 10)] {
            continuity.observe(&trade("TXFD6", second, volume, total));
        }
        continuity.count_anew();
        let later = [(2, 3, 6), (4, 1, 14), (3, 3, 13)].map(|(second, volume, total)| {
            (continuity.observe(&trade("TXFD6", second, volume, total)), continuity.counters.lots_missing)
        });
        let gap = Verdict::Gap { lots: 3, basis: Basis::Previous };
        assert_eq!(later, [(Verdict::Late { lots: 3 }, 0), (gap, 3), (Verdict::Late { lots: 3 }, 0)]);
    }

    #[test]
    fn a_late_start_is_a_gap_against_zero() {
        let (found, counters) = verdicts(&[(0, 2, 100), (1, 1, 101)]);
        assert_eq!(found, [Verdict::Gap { lots: 98, basis: Basis::Zero }, Verdict::Next]);
        assert_eq!((counters.gaps, counters.lots_missing), (1, 98));
    }

    #[test]
    fn a_day_session_that_goes_on_where_the_night_stopped_is_carried() {
        let (found, _) = verdicts(&[(NIGHT, 5, 5), (0, 1, 6), (1, 1, 7)]);
        assert_eq!(found, [FIRST, Verdict::First { basis: Basis::Carried }, Verdict::Next]);
        let (found, _) = verdicts(&[(NIGHT, 5, 5), (0, 1, 1)]);
        assert_eq!(found, [FIRST, FIRST]);
        let (found, _) = verdicts(&[(NIGHT, 5, 5), (0, 1, 9)]);
        assert_eq!(found, [FIRST, Verdict::Gap { lots: 8, basis: Basis::Zero }]);
    }

    #[test]
    fn a_night_before_a_holiday_carries_too() {
        let (found, _) = verdicts(&[(NIGHT - 3 * 86_400, 5, 5), (0, 1, 6)]);
        assert_eq!(found[1], Verdict::First { basis: Basis::Carried });
    }

    #[test]
    fn equal_payload_is_a_duplicate_whatever_sequence_and_connection_say() {
        let mut continuity = Continuity::new();
        let first = trade("TXFD6", 0, 2, 2);
        let mut again = first;
        again.header_mut().sequence = 99;
        again.header_mut().received_ns = 1;
        again.header_mut().connection = 3;
        assert_eq!((continuity.observe(&first), continuity.observe(&again)), (FIRST, Verdict::Duplicate));
        again.header_mut().side = 2;
        assert_eq!(continuity.observe(&again), Verdict::Excess { lots: 2 });
        assert_eq!(continuity.counters.duplicates, 1);
    }

    /// Trades of two codes with lost ones, repeats from near and far, late ones and falls.
    fn troubled(count: usize) -> Vec<Record> {
        let mut state = 11u64;
        let mut noise = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let mut totals = [0; 2];
        let mut records: Vec<Record> = Vec::new();
        while records.len() < count {
            let (of, back) = (noise(2) as usize, 1 + noise(300) as usize);
            match noise(12) {
                0 if back <= records.len() => records.push(records[records.len() - back]),
                1 => totals[of] += noise(5) as u32,
                2 if noise(40) == 0 => totals[of] = 0,
                3 => records.push(Record::ZERO),
                _ => {
                    let volume = noise(4) as u32;
                    totals[of] += volume;
                    let second = records.len() as i64 / 9 - noise(2) as i64;
                    records.push(trade(["TXFD6", "MXFD6"][of], second, volume, totals[of]));
                }
            }
        }
        records
    }

    #[test]
    fn a_batch_of_any_size_is_judged_as_its_trades_one_by_one() {
        let records = troubled(3_000);
        let mut alone = Continuity::new();
        let wanted: Vec<Verdict> = records.iter().map(|record| alone.observe(record)).collect();
        let told = |verdict: &&Verdict| matches!(verdict, Verdict::Duplicate | Verdict::Late { .. } | Verdict::Reset);
        assert!(wanted.iter().filter(told).count() > 100, "a day without trouble proves nothing");
        for size in [1, 2, 63, 64, 65, SIEVE, 1_000, records.len()] {
            let mut together = Continuity::new();
            let mut found = Vec::new();
            for chunk in records.chunks(size) {
                let mut verdicts =
                    chunk.iter().map(|record| sighting(record).map_or(Verdict::NotJudged, |_| Verdict::Next));
                let first = found.len();
                found.extend(&mut verdicts);
                together.observe_batch(chunk, |_| 0, |at, _, judgement| found[first + at] = judgement.verdict);
            }
            assert!(found == wanted, "in batches of {size}");
            assert_eq!(together.counters, alone.counters);
        }
    }

    #[test]
    fn a_fall_is_a_reset_and_the_stream_goes_on_from_there() {
        let (found, counters) = verdicts(&[(0, 9, 9), (1, 3, 15), (2, 2, 2), (3, 1, 3)]);
        let gap = Verdict::Gap { lots: 3, basis: Basis::Previous };
        assert_eq!(found, [FIRST, gap, Verdict::Reset, Verdict::Next]);
        assert_eq!((counters.resets, counters.lots_missing), (1, 3));
    }

    #[test]
    fn a_fall_into_the_hole_of_a_late_start_is_still_a_reset() {
        let (found, _) = verdicts(&[(0, 2, 100), (5, 3, 3)]);
        assert_eq!(found[1], Verdict::Reset);
    }

    #[test]
    fn an_old_repeat_beyond_memory_fills_nothing() {
        let mut trades: Vec<(i64, u32, u32)> = (0..100).map(|at| (at, 1, at as u32 + 1)).collect();
        trades.push((3, 1, 4));
        let (found, counters) = verdicts(&trades);
        assert_eq!(found[100], Verdict::Late { lots: 0 });
        assert_eq!(counters.lots_missing, 0);
    }

    #[test]
    fn volume_that_reaches_back_over_known_lots_is_an_excess() {
        let (found, _) = verdicts(&[(0, 5, 5), (1, 4, 7), (2, 1, 8)]);
        assert_eq!(found, [FIRST, Verdict::Excess { lots: 2 }, Verdict::Next]);
    }

    #[test]
    fn trial_matches_absent_totals_suspects_and_books_are_not_judged() {
        let mut continuity = Continuity::new();
        let mut records = [trade("TXFD6", 0, 1, 1); 5];
        records[0].header_mut().lane = lane::TRIAL;
        records[1] = trade("TXFD6", 0, 1, ABSENT_U32);
        records[2].header_mut().kind = kind::BOOK;
        records[3].header_mut().exchange_ns = ABSENT_I64;
        records[4].header_mut().flags = flag::SUSPECT;
        assert!(records.iter().all(|record| continuity.observe(record) == Verdict::NotJudged));
        assert_eq!(continuity.counters, Counters::default());
    }

    #[test]
    fn codes_and_lanes_that_interleave_are_judged_apart() {
        let mut continuity = Continuity::new();
        let codes: Vec<String> = (0..600).map(|number| format!("{number:04}")).collect();
        for total in 1..=5 {
            for code in &codes {
                let board = trade(code, i64::from(total), 1, total);
                let mut odd = trade(code, i64::from(total), 10, 10 * total);
                odd.header_mut().lane = lane::ODD;
                let wanted = if total == 1 { FIRST } else { Verdict::Next };
                assert_eq!((continuity.observe(&board), continuity.observe(&odd)), (wanted, wanted));
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_says_what_it_forgot() {
        let mut continuity = Continuity::new();
        for number in 0..STREAMS_MAX + 1 {
            continuity.observe(&trade(&format!("{number}"), 0, 1, 1));
        }
        assert_eq!(continuity.counters.forgotten, (STREAMS_MAX / 2) as u64);
        assert_eq!(continuity.observe(&trade(&format!("{STREAMS_MAX}"), 1, 1, 2)), Verdict::Next);
        let mut holes = Continuity::new();
        (0..200).for_each(|at| {
            holes.observe(&trade("TXFD6", at, 1, 2 * at as u32 + 2));
        });
        assert_eq!((holes.counters.lots_missing, holes.pasts[0].holes.len()), (200, HOLES_MAX));
    }

    #[test]
    fn a_life_of_many_days_needs_the_memory_of_a_few_and_judges_each_as_it_would_alone() {
        const DAY_SECONDS: i64 = 86_400;
        let mut continuity = Continuity::new();
        let mut at_most = 0;
        for day in 0..400 {
            for code in ["TXFD6", "MXFD6"] {
                for total in 1..=3 {
                    let second = day * DAY_SECONDS + i64::from(total);
                    let wanted = if total == 1 { FIRST } else { Verdict::Next };
                    assert_eq!(continuity.observe(&trade(code, second, 1, total)), wanted, "day {day}");
                }
                // A stamp of another year in between: the session that runs is not the one that is forgotten.
                let wrong = (1_000 + day) * DAY_SECONDS;
                assert_eq!(continuity.observe(&trade(code, wrong, 1, 1)), FIRST);
                assert_eq!(continuity.observe(&trade(code, day * DAY_SECONDS + 4, 1, 4)), Verdict::Next);
            }
            at_most = at_most.max(continuity.streams.len());
        }
        assert_eq!((at_most, continuity.slots.len()), (2 * SESSIONS_MAX, 2 * SESSIONS_MAX));
        assert_eq!((continuity.counters.gaps, continuity.counters.resets), (0, 0));
    }

    #[test]
    fn sessions_are_cut_by_the_clock() {
        let at =
            |day: i64, hour: i64, minute: i64| (((day * 24 + hour) * 60 + minute) * 60) * SECOND_NS - TAIPEI_OFFSET_NS;
        let table = [(8, 29, (9, true)), (8, 30, (10, false)), (14, 49, (10, false)), (14, 50, (10, true))];
        for (hour, minute, wanted) in table {
            assert_eq!(session_window(at(10, hour, minute), true), wanted);
            assert_eq!(session_window(at(10, hour, minute), false), (10, false));
            let (from, until) = window_ns(wanted.0, wanted.1, true);
            assert!((from..until).contains(&at(10, hour, minute)));
        }
        assert_eq!(session_window(at(10, 0, 0), false), (10, false));
        assert_eq!(session_window(at(10, 0, 0) - 1, false), (9, false));
    }
}
