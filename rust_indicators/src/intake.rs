//! The one writer of the ring: numbers what is accepted, waits for room, refuses while the disk has no space, and says
//! at once where lots are missing. Knows no Python (`python/publisher.rs`) and no files (`wal.rs`).
//!
//! Accepted means: numbered and in the ring; the log thread then makes it durable or dies loudly. While it waits for
//! space nothing is accepted, so that the ring is never the victim. What is delivered meanwhile is counted, and the
//! first record accepted again, the stop included, stands behind an OUTAGE from the last accepted stamp to its own.
//!
//! A trade that reveals a gap has the GAP right behind it, accepted together with it: volume continuity is judged here
//! because here sequences are given. A gap that a late trade fills is not taken back; the audit counts what is left.
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use crate::continuity::{Basis, Continuity, Judgement, Sighting, Verdict, session_window, sighting};
use crate::record::{ABSENT_I64, ABSENT_U8, Header, Record, kind, text_records};
use crate::ring::{Ring, state, word};

/// How long a callback waits for room before it says that the log cannot keep up.
pub const BLOCKED_MAX: Duration = Duration::from_secs(5);
/// Room for an event of two records, the gap it reveals, and an outage before it.
pub const RING_SLOTS_MIN: u64 = 4;
/// Between two looks at a full ring: a fraction of what any disk needs for a commit.
const ROOM_POLL: Duration = Duration::from_micros(50);
/// Instead of a sequence: there is no space on the disk.
pub const NOT_ACCEPTED: u64 = 0;
const CLOSED: &str = "it has been closed";
const PANICKED: &str = "a publishing thread panicked";

/// What becomes of an event for which there is no space on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutSpace {
    /// It is counted as not recorded: the market does not wait.
    Lose,
    /// It goes back to a feed that can deliver it again.
    HandBack,
}

struct Writer {
    next_sequence: u64,
    /// Nothing is accepted any more: the log thread takes what there is and ends.
    closed: bool,
    last_received_ns: i64,
    /// Since the log thread began to wait for space; `None` when what happened meanwhile has been told.
    not_recorded: Option<u64>,
    continuity: Continuity,
}

pub struct Intake {
    ring: Arc<Ring>,
    pub without_space: WithoutSpace,
    writer: Mutex<Writer>,
}

impl Intake {
    /// `continuity` carries on where an earlier run of the session stopped.
    pub fn new(ring: Arc<Ring>, without_space: WithoutSpace, continuity: Continuity) -> Intake {
        let writer = Mutex::new(Writer {
            next_sequence: 1,
            closed: false,
            last_received_ns: ABSENT_I64,
            not_recorded: None,
            continuity,
        });
        Intake { ring, without_space, writer }
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The sequence of the last of the records, `NOT_ACCEPTED`, or `None`: then it takes waiting.
    pub fn try_push(&self, records: &mut [Record]) -> Result<Option<u64>, String> {
        match self.writer.try_lock() {
            Ok(mut writer) => self.push_now(&mut writer, records),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Poisoned(_)) => Err(PANICKED.into()),
        }
    }

    /// As `try_push`, after waiting for room. `failure` says why the log thread has died.
    pub fn push(&self, records: &mut [Record], failure: impl Fn() -> Option<String>) -> Result<u64, String> {
        let started = Instant::now();
        let mut writer = self.lock()?;
        let pushed = loop {
            match self.push_now(&mut writer, records) {
                Ok(None) if started.elapsed() <= BLOCKED_MAX && self.ring.get(word::STATE) != state::FAILED => {
                    std::thread::sleep(ROOM_POLL);
                }
                Ok(None) => break Err(failure().unwrap_or_else(too_slow)),
                Ok(Some(sequence)) => break Ok(sequence),
                Err(reason) => break Err(reason),
            }
        };
        self.ring.add(word::BLOCKED_NS, started.elapsed().as_nanos() as u64);
        pushed
    }

    /// Whoever is publishing finishes first; whoever comes later is refused, not accepted and forgotten.
    pub fn close(&self) -> Result<(), String> {
        self.lock()?.closed = true;
        Ok(())
    }

    /// From here on nothing is accepted but the stop: whoever had seen the old state is done when this returns.
    pub fn hold(&self) -> Result<(), String> {
        self.ring.set(word::STATE, state::WAITING);
        self.lock()?.not_recorded.get_or_insert(0);
        Ok(())
    }

    /// There is space again.
    pub fn go_on(&self) {
        self.ring.set(word::STATE, state::RUNNING);
    }

    fn lock(&self) -> Result<MutexGuard<'_, Writer>, String> {
        self.writer.lock().map_err(|_| PANICKED.to_string())
    }

    fn push_now(&self, writer: &mut Writer, records: &mut [Record]) -> Result<Option<u64>, String> {
        if writer.closed {
            return Err(CLOSED.into());
        }
        match self.ring.get(word::STATE) {
            // What is accepted then would never be durable.
            state::FAILED => return Ok(None),
            state::WAITING if !is_stop(records) => return Ok(Some(self.refuse(writer, records))),
            _ => {}
        }
        if self.ring.room() < room_for(records) {
            return Ok(None);
        }
        if let Some(not_recorded) = writer.not_recorded.take() {
            self.tell_outage(writer, not_recorded, records[0].header().received_ns);
        }
        Ok(Some(self.write(writer, records)))
    }

    fn refuse(&self, writer: &mut Writer, records: &[Record]) -> u64 {
        if self.without_space == WithoutSpace::Lose {
            let events = records.iter().filter(|record| is_event(record)).count() as u64;
            self.ring.add(word::NOT_RECORDED, events);
            *writer.not_recorded.get_or_insert(0) += events;
            let last_ns = records[records.len() - 1].header().received_ns;
            if last_ns != ABSENT_I64 {
                self.ring.set(word::LAST_RECEIVED_NS, last_ns as u64);
            }
        }
        NOT_ACCEPTED
    }

    fn tell_outage(&self, writer: &mut Writer, not_recorded: u64, end_ns: i64) {
        let header = Header { kind: kind::OUTAGE, received_ns: end_ns, ..Header::EMPTY };
        let text = format!("no space on the disk of the log; {not_recorded} events were not recorded");
        let mut told = text_records(&header, (writer.last_received_ns, end_ns), 0, 0, text.as_bytes());
        assert!(told.len() == 1, "one outage is one record");
        self.write(writer, &mut told);
    }

    /// The sequence of the last record; the gap behind it has the next one.
    fn write(&self, writer: &mut Writer, records: &mut [Record]) -> u64 {
        let (mut from, mut last) = (0, NOT_ACCEPTED);
        for at in 0..records.len() {
            last = writer.number(&mut records[at]);
            if let Some(mut gap) = self.judge(writer, &records[at]) {
                writer.number(&mut gap);
                self.ring.write(&[&records[from..=at], &[gap]].concat());
                from = at + 1;
            }
        }
        self.ring.write(&records[from..]);
        last
    }

    #[inline(always)]
    fn judge(&self, writer: &mut Writer, record: &Record) -> Option<Record> {
        let trade = Sighting { row: row_of(record), ..sighting(record)? };
        let judgement = writer.continuity.judge(&trade);
        match judgement.verdict {
            Verdict::Next | Verdict::First { .. } | Verdict::NotJudged => None,
            _ => self.tell_break(writer, record, &trade, &judgement),
        }
    }

    #[cold]
    fn tell_break(&self, writer: &Writer, record: &Record, trade: &Sighting, judgement: &Judgement) -> Option<Record> {
        let counters = &writer.continuity.counters;
        self.ring.set(word::LOTS_MISSING, counters.lots_missing);
        self.ring.set(word::GAPS, counters.gaps);
        self.ring.set(word::DUPLICATES, counters.duplicates);
        self.ring.set(word::RESETS, counters.resets);
        let Verdict::Gap { lots, basis } = judgement.verdict else { return None };
        self.ring.set(word::LAST_GAP_LOTS, u64::from(lots));
        if record.header().received_ns != ABSENT_I64 {
            self.ring.set(word::LAST_GAP_NS, record.header().received_ns as u64);
        }
        Some(gap_behind(record, trade, judgement, lots, basis))
    }
}

impl Writer {
    fn number(&mut self, record: &mut Record) -> u64 {
        let header = record.header_mut();
        header.sequence = self.next_sequence;
        if header.received_ns != ABSENT_I64 {
            self.last_received_ns = header.received_ns;
        }
        self.next_sequence += 1;
        header.sequence
    }
}

/// What continuity gives back of a trade that a later one is judged by: the receive stamp.
#[inline(always)]
pub fn row_of(record: &Record) -> u64 {
    record.header().received_ns as u64
}

/// Lots (total_from, total_to] were not delivered between the receive stamps of two trades.
fn gap_behind(record: &Record, trade: &Sighting, judgement: &Judgement, lots: u32, basis: Basis) -> Record {
    let (_, night) = session_window(trade.exchange_ns, trade.futures);
    let (session, basis) =
        (if night { "night" } else { "day" }, if basis == Basis::Previous { "previous" } else { "zero" });
    let total_from = judgement.total_before;
    let text = format!("session={session} basis={basis} total_from={total_from} total_to={}", total_from + lots);
    let begin_ns = if judgement.row_before == 0 { ABSENT_I64 } else { judgement.row_before as i64 };
    let header =
        Header { kind: kind::GAP, flags: 0, side: 0, chg_type: ABSENT_U8, source_offset_ns: 0, ..*record.header() };
    let times = (begin_ns, record.header().received_ns);
    text_records(&header, times, i64::from(lots), 0, text.as_bytes()).remove(0)
}

/// Each trade may reveal a gap, and an outage may have to be told first.
fn room_for(records: &[Record]) -> u64 {
    let trades = records.iter().filter(|record| record.header().kind == kind::TRADE).count();
    (records.len() + trades + 1) as u64
}

/// Side records and the further parts of a text belong to an event that counts.
fn is_event(record: &Record) -> bool {
    match record.header().kind {
        kind::TRADE | kind::BOOK | kind::INDEX | kind::SNAPSHOT => true,
        kind::SIDE => false,
        _ => record.text().body.part == 0,
    }
}

/// The stop is never refused: the end of the ballast is kept for it.
fn is_stop(records: &[Record]) -> bool {
    records[0].header().kind == kind::STOP
}

fn too_slow() -> String {
    format!("the disk has not kept up for {BLOCKED_MAX:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Trade, TradeBody, code_bytes, exchange, lane};

    /// 2026-04-09 09:00 Taipei.
    const NINE_NS: i64 = (20_552 * 24 + 1) * 3_600 * 1_000_000_000;

    fn trade(code: &str, second: i64, volume: u32, total_volume: u32) -> Record {
        let mut header = Header::EMPTY;
        (header.kind, header.lane, header.exchange) = (kind::TRADE, lane::BOARD, exchange::TAIFEX);
        header.exchange_ns = NINE_NS + second * 1_000_000_000;
        header.received_ns = header.exchange_ns + 5;
        header.code = code_bytes(code).unwrap();
        Record::from_trade(&Trade { header, body: TradeBody { volume, total_volume, ..TradeBody::ABSENT } })
    }

    fn intake(folder: &tempfile::TempDir, slots: u64) -> Intake {
        let ring = Arc::new(Ring::create(&folder.path().join("ring"), slots, 1).unwrap());
        Intake::new(ring, WithoutSpace::Lose, Continuity::new())
    }

    fn recorded(intake: &Intake, sequence: u64) -> Record {
        let mut found = Vec::new();
        assert!(intake.ring().read_onto(sequence, &mut found));
        found[0]
    }

    fn told(intake: &Intake) -> Vec<(u8, u64)> {
        let last = intake.ring().get(word::ACCEPTED);
        (1..=last)
            .map(|sequence| recorded(intake, sequence))
            .map(|it| (it.header().kind, it.header().sequence))
            .collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn a_trade_that_reveals_a_gap_has_it_right_behind_it_with_lots_totals_and_the_stamps_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let intake = intake(&folder, 64);
        let mut batch =
            [trade("TXFD6", 1, 4, 4), trade("TXFD6", 2, 2, 9), trade("TXFD6", 3, 1, 10), trade("MXFD6", 4, 1, 8)];
        assert_eq!(intake.try_push(&mut batch), Ok(Some(5)));
        let kinds: Vec<u8> = told(&intake).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [kind::TRADE, kind::TRADE, kind::GAP, kind::TRADE, kind::TRADE, kind::GAP]);
        assert!(told(&intake).iter().map(|(_, sequence)| *sequence).eq(1..=6));
        let gap = recorded(&intake, 3);
        let (header, body) = (gap.header(), gap.text().body);
        assert_eq!(
            (gap.code(), header.lane, header.exchange_ns),
            (&b"TXFD6"[..], lane::BOARD, NINE_NS + 2_000_000_000)
        );
        assert_eq!((body.value, body.begin_ns, body.end_ns), (3, NINE_NS + 1_000_000_005, NINE_NS + 2_000_000_005));
        let text = String::from_utf8(body.text[..usize::from(body.text_length)].to_vec()).unwrap();
        assert_eq!(text, "session=day basis=previous total_from=4 total_to=7");
        let first = recorded(&intake, 6).text().body;
        assert_eq!((first.value, first.begin_ns), (7, ABSENT_I64)); // nothing of the session was known before
        assert_eq!((intake.ring().get(word::LOTS_MISSING), intake.ring().get(word::GAPS)), (10, 2));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn a_repeat_a_late_trade_and_a_reset_are_counted_and_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let intake = intake(&folder, 64);
        let mut batch =
            [trade("2330", 1, 1, 1), trade("2330", 5, 1, 4), trade("2330", 5, 1, 4), trade("2330", 3, 1, 2)];
        intake.try_push(&mut batch).unwrap();
        assert_eq!(told(&intake).iter().filter(|(kind, _)| *kind == kind::GAP).count(), 1);
        assert_eq!((intake.ring().get(word::LOTS_MISSING), intake.ring().get(word::DUPLICATES)), (1, 1));
        intake.try_push(&mut [trade("2330", 9, 1, 1)]).unwrap();
        assert_eq!((intake.ring().get(word::RESETS), told(&intake).len()), (1, 6));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn an_event_waits_for_room_for_the_gap_it_may_reveal() {
        let folder = tempfile::tempdir().unwrap();
        let intake = intake(&folder, RING_SLOTS_MIN);
        assert_eq!(intake.try_push(&mut [trade("2330", 1, 1, 5)]), Ok(Some(1)));
        assert_eq!(intake.try_push(&mut [trade("2330", 2, 1, 6)]), Ok(None)); // two of four slots are free
        intake.ring().set(word::DURABLE, 1);
        assert_eq!(intake.try_push(&mut [trade("2330", 2, 1, 6)]), Ok(Some(3)));
    }
}
