//! The thread that makes the ring durable: write, `fdatasync`, take all that queued meanwhile, repeat. It never drops
//! and never needs Python. Not the file format (`segment.rs`).
//!
//! Without space it throws off the ballast, writes what was accepted, seals, and waits until there is space again; any
//! other failure of the disk, and a sync that failed for whatever reason, ends it loudly.
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::block::BLOCK_RECORDS_MAX;
use crate::disk::{Disk, is_full};
use crate::intake::Intake;
use crate::record::{ABSENT_I64, Record};
use crate::ring::{Ring, state, word};
use crate::segment::SegmentWriter;
use crate::space::{CHECK_INTERVAL, Space, SpaceConfig, Volume};
use crate::wall_clock::{DAY_NS, SECOND_NS, TAIPEI_OFFSET_NS, civil_from_days};

/// A segment is closed at this size even within its quarter of an hour, so that one file stays quick to archive.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// The thread polls: a wake-up call would cost the callback a system call per event at live pace. First this long …
const POLL_NS_MIN: u64 = 50_000;
/// … and, in silence, up to this long; it bounds the latency a first event after silence sees.
const POLL_NS_MAX: u64 = 500_000;
/// While it waits for space: how soon a stop is noticed.
const STOP_POLL: Duration = Duration::from_millis(20);

const QUARTER_NS: i64 = 900 * SECOND_NS;
const MORNING_NS: i64 = (5 * 3_600 + 30 * 60) * SECOND_NS;
const AFTERNOON_NS: i64 = (14 * 3_600 + 45 * 60) * SECOND_NS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `fdatasync` before a block is acknowledged.
    Sync,
    /// Acknowledged once the kernel has it: survives the process, not the machine. A sealed segment is on the disk.
    Write,
    /// As `Write`, and nothing is ever synced: after a power cut any file may be short, empty or gone.
    Off,
}

impl Durability {
    pub fn named(name: &str) -> Option<Durability> {
        Some(match name {
            "sync" => Durability::Sync,
            "write" => Durability::Write,
            "off" => Durability::Off,
            _ => return None,
        })
    }
}

pub struct WalConfig {
    pub wal_dir: PathBuf,
    /// Run identity as 16 hex digits: the first part of every file name.
    pub run_id: String,
    /// What every segment's header says, as a JSON object.
    pub header_json: String,
    pub durability: Durability,
    /// Wait up to this long between commits, for disks where a sync per event means wear.
    pub commit_interval: Duration,
    /// What to do about a full disk; without it a full disk is a failure like any other.
    pub space: Option<SpaceConfig>,
    pub disk: Disk,
}

/// The receive-clock slot of a stamp: `2026-04-09-day` from 05:30, `2026-04-09-night` from 14:45 (Taipei).
pub fn log_slot(received_ns: i64) -> String {
    let wall = received_ns + TAIPEI_OFFSET_NS;
    let (mut day, time) = (wall.div_euclid(DAY_NS), wall.rem_euclid(DAY_NS));
    if time < MORNING_NS {
        day -= 1;
    }
    let (year, month, date) = civil_from_days(day);
    let part = if (MORNING_NS..AFTERNOON_NS).contains(&time) { "day" } else { "night" };
    format!("{year:04}-{month:02}-{date:02}-{part}")
}

/// The next quarter of an hour: 05:30 and 14:45 are quarters too.
pub fn next_rotation_ns(received_ns: i64) -> i64 {
    (received_ns.div_euclid(QUARTER_NS) + 1) * QUARTER_NS
}

/// Writes the segments of one run, rotating on the receive clock and on size.
pub struct Log {
    config: WalConfig,
    writer: Option<SegmentWriter>,
    rotate_ns: i64,
    segment: u32,
    slot: String,
    volume: Option<Volume>,
}

impl Log {
    pub fn new(mut config: WalConfig) -> Log {
        if config.durability == Durability::Off {
            config.disk = config.disk.without_sync();
        }
        Log { config, writer: None, rotate_ns: i64::MIN, segment: 0, slot: String::new(), volume: None }
    }

    pub fn segments(&self) -> u32 {
        self.segment
    }

    /// Writes consecutive records as blocks, each in the segment it falls into; not durable before `sync` or `seal`.
    pub fn append_all(&mut self, records: &[Record]) -> io::Result<()> {
        let mut at = 0;
        while at < records.len() {
            at += self.append(&records[at..])?.0;
        }
        Ok(())
    }

    /// Writes the first of these records as one block, as many as belong into one; not durable before `sync`.
    /// Returns how many and their bytes. After an error the same records may be tried again.
    pub fn append(&mut self, records: &[Record]) -> io::Result<(usize, u64)> {
        self.rotate_for(&records[0])?;
        let due = |record: &Record| {
            record.header().received_ns != ABSENT_I64 && record.header().received_ns >= self.rotate_ns
        };
        let count = records.iter().skip(1).position(due).map_or(records.len(), |at| at + 1).min(BLOCK_RECORDS_MAX);
        let writer = self.writer.as_mut().expect("rotate_for opened a segment");
        let before = writer.bytes();
        writer.append(&records[..count])?;
        Ok((count, writer.bytes() - before))
    }

    fn rotate_for(&mut self, record: &Record) -> io::Result<()> {
        let received_ns = record.header().received_ns;
        let full = self.writer.as_ref().is_some_and(|writer| writer.bytes() >= SEGMENT_BYTES_MAX);
        let due = received_ns != ABSENT_I64 && received_ns >= self.rotate_ns;
        if self.writer.is_some() && !full && !due {
            return Ok(());
        }
        self.seal()?;
        if let Some(volume) = &self.volume {
            volume.check()?;
        }
        if received_ns != ABSENT_I64 {
            self.slot = log_slot(received_ns);
            self.rotate_ns = next_rotation_ns(received_ns);
        }
        let segment = self.segment + 1;
        let path = self.config.wal_dir.join(&self.slot).join(format!("{}-{segment:04}.wal", self.config.run_id));
        let first_sequence = record.header().sequence;
        let place = format!("{{\"first_sequence\":{first_sequence},\"segment\":{segment},\"slot\":\"{}\",", self.slot);
        let header = place + &self.config.header_json[1..];
        self.writer = Some(SegmentWriter::create(&self.config.disk, &path, header.as_bytes())?);
        self.segment = segment;
        Ok(())
    }

    /// Everything appended so far is on disk when this returns.
    pub fn sync(&self) -> io::Result<()> {
        match (&self.writer, self.config.durability) {
            (Some(writer), Durability::Sync) => writer.sync(),
            _ => Ok(()),
        }
    }

    /// Closes the current segment with its footer; it stays the current one when that fails.
    pub fn seal(&mut self) -> io::Result<()> {
        if let Some(writer) = &mut self.writer {
            writer.seal()?;
            self.writer = None;
        }
        Ok(())
    }
}

/// The running thread and what it has to say if it dies.
pub struct WalThread {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
}

impl WalThread {
    /// Starts committing what `intake` accepts.
    pub fn start(intake: Arc<Intake>, config: WalConfig) -> io::Result<WalThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let (stop_seen, failure_slot) = (stop.clone(), failure.clone());
        let place = config.wal_dir.display().to_string();
        let mut committer = Committer::new(intake.clone(), config, stop_seen)?;
        let thread = std::thread::Builder::new().name("shijim-wal".into()).spawn(move || {
            // A panic is a failure like any other: publishers must hear of it now, not when the ring is full.
            let failure = match catch_unwind(AssertUnwindSafe(|| committer.run())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error}, in {place}{}", advice(&error)),
                Err(_) => format!("the log thread panicked, in {place}"),
            };
            *failure_slot.lock().expect("nobody panics holding this") = Some(failure);
            intake.ring().set(word::STATE, state::FAILED);
        })?;
        Ok(WalThread { thread: Some(thread), stop, failure })
    }

    /// Why the thread died, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().expect("nobody panics holding this").clone()
    }

    /// Drains everything accepted, seals and returns; the failure if that was not possible.
    pub fn finish(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err("the log thread panicked".into());
        }
        self.failure().map_or(Ok(()), Err)
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => ". Raise the limit of open files (ulimit -n), then start again",
        Some(libc::EROFS) => ". The disk has become read-only: see the kernel's log, then start again",
        _ => "",
    }
}

struct Committer {
    intake: Arc<Intake>,
    log: Log,
    space: Option<Space>,
    stop: Arc<AtomicBool>,
    records: Vec<Record>,
}

impl Committer {
    fn new(intake: Arc<Intake>, config: WalConfig, stop: Arc<AtomicBool>) -> io::Result<Committer> {
        let (disk, space, wal_dir) = (config.disk.clone(), config.space.clone(), config.wal_dir.clone());
        let mut log = Log::new(config);
        log.volume = space.as_ref().map(|_| Volume::of(&wal_dir)).transpose()?;
        let space = space.map(|space| Space::open(disk, space, &wal_dir)).transpose()?;
        Ok(Committer { intake, log, space, stop, records: Vec::with_capacity(BLOCK_RECORDS_MAX) })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            match self.commit_until_stopped() {
                Err(error) if self.space.is_some() && is_full(&error) => {}
                ended => return ended,
            }
            if !self.wait_for_space()? {
                return Ok(());
            }
        }
    }

    fn commit_until_stopped(&mut self) -> io::Result<()> {
        let mut idle_ns = POLL_NS_MIN;
        loop {
            if let Some(space) = &mut self.space
                && space.is_short()?
            {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            // The flag is read before the ring: what was accepted before the stop is always taken.
            let stopping = self.stop.load(Ordering::Acquire);
            if self.commit()? {
                idle_ns = POLL_NS_MIN;
                self.gather();
            } else if stopping {
                self.log.seal()?;
                return self.space.as_ref().map_or(Ok(()), Space::release_all);
            } else {
                std::thread::sleep(Duration::from_nanos(idle_ns));
                idle_ns = (idle_ns * 2).min(POLL_NS_MAX);
            }
        }
    }

    /// Lets events queue for the commit interval, or until they are so many that waiting saves nothing any more.
    fn gather(&self) {
        let (ring, interval) = (self.intake.ring(), self.log.config.commit_interval);
        let enough = (BLOCK_RECORDS_MAX as u64).min(ring.slots() / 2);
        let started = Instant::now();
        while let Some(left) = interval.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            if self.stop.load(Ordering::Acquire) || ring.depth() >= enough {
                return;
            }
            std::thread::sleep(left.min(Duration::from_nanos(POLL_NS_MAX)));
        }
    }

    /// Makes what is in the ring durable, up to a block's worth; false when there was nothing.
    fn commit(&mut self) -> io::Result<bool> {
        let ring = self.intake.ring();
        take(ring, &mut self.records);
        let mut at = 0;
        while at < self.records.len() {
            let (count, bytes) = self.log.append(&self.records[at..])?;
            self.log.sync()?;
            acknowledge(ring, &self.log, &self.records[at..at + count], bytes);
            at += count;
        }
        Ok(at > 0)
    }

    /// Nothing accepted is lost and nothing more accepted until there is space. False when a stop came first.
    fn wait_for_space(&mut self) -> io::Result<bool> {
        self.intake.hold().map_err(io::Error::other)?;
        let space = self.space.as_ref().expect("waiting is for those who know how much to wait for");
        space.release()?;
        let mut finished = unless_full(self.finish())?;
        let mut checked = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(STOP_POLL);
            if checked.elapsed() < CHECK_INTERVAL {
                continue;
            }
            checked = Instant::now();
            let space = self.space.as_ref().expect("as above");
            if space.is_back()? {
                // What did not fit before belongs before the outage that comes now.
                finished = finished || unless_full(self.finish())?;
                if finished {
                    self.intake.go_on();
                    return Ok(true);
                }
            }
        }
        self.space.as_ref().expect("as above").release_all()?;
        self.finish()?;
        Ok(false)
    }

    /// Everything accepted, and the segment sealed behind it.
    fn finish(&mut self) -> io::Result<()> {
        while self.commit()? {}
        self.log.seal()
    }
}

/// False where only space was missing.
fn unless_full(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if is_full(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn take(ring: &Ring, records: &mut Vec<Record>) {
    records.clear();
    let first = ring.get(word::DURABLE) + 1;
    let last = ring.get(word::ACCEPTED).min(first + BLOCK_RECORDS_MAX as u64 - 1);
    for sequence in first..=last {
        assert!(ring.read_onto(sequence, records), "the writer waits for this reader");
    }
}

fn acknowledge(ring: &Ring, log: &Log, records: &[Record], bytes: u64) {
    let last = records[records.len() - 1].header();
    ring.add(word::BLOCKS, 1);
    ring.add(word::LOG_BYTES, bytes);
    ring.set(word::SEGMENTS, u64::from(log.segments()));
    if last.received_ns != ABSENT_I64 {
        ring.set(word::DURABLE_RECEIVED_NS, last.received_ns as u64);
    }
    ring.acknowledge(last.sequence);
}

#[cfg(test)]
mod faulty_disk;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::Continuity;
    use crate::intake::WithoutSpace;
    use crate::record::{Header, Trade, TradeBody, code_bytes, kind};
    use crate::segment::{End, SegmentReader};

    fn stamp(day: i64, hour: i64, minute: i64) -> i64 {
        day * DAY_NS + (hour * 3_600 + minute * 60) * SECOND_NS - TAIPEI_OFFSET_NS
    }

    #[test]
    fn slots_turn_at_half_past_five_and_a_quarter_to_three() {
        let day = 20_552; // 2026-04-09
        let table = [
            (stamp(day, 5, 29), "2026-04-08-night"),
            (stamp(day, 5, 30), "2026-04-09-day"),
            (stamp(day, 14, 44), "2026-04-09-day"),
            (stamp(day, 14, 45), "2026-04-09-night"),
            (stamp(day, 23, 59), "2026-04-09-night"),
            (stamp(day + 1, 0, 0), "2026-04-09-night"),
        ];
        for (received_ns, slot) in table {
            assert_eq!(log_slot(received_ns), slot);
        }
        assert_eq!(next_rotation_ns(stamp(day, 14, 44)), stamp(day, 14, 45));
        assert_eq!(next_rotation_ns(stamp(day, 14, 45)), stamp(day, 15, 0));
    }

    fn config(folder: &std::path::Path) -> WalConfig {
        WalConfig {
            wal_dir: folder.join("wal"),
            run_id: "00000000000000ab".into(),
            header_json: "{\"run_id\":\"00000000000000ab\"}".into(),
            durability: Durability::Sync,
            commit_interval: Duration::ZERO,
            space: None,
            disk: Disk::default(),
        }
    }

    fn intake(ring: &Arc<Ring>) -> Arc<Intake> {
        Arc::new(Intake::new(ring.clone(), WithoutSpace::Lose, Continuity::new()))
    }

    fn trade(sequence: u64, received_ns: i64) -> Record {
        let mut header = Header::EMPTY;
        (header.kind, header.sequence, header.code) = (kind::TRADE, sequence, code_bytes("2330").unwrap());
        header.received_ns = received_ns;
        Record::from_trade(&Trade { header, body: TradeBody { volume: 1, ..TradeBody::ABSENT } })
    }

    fn segments(folder: &std::path::Path) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder.join("wal"))
            .unwrap()
            .flat_map(|slot| std::fs::read_dir(slot.unwrap().path()).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn everything_accepted_is_durable_and_sealed_after_finish() {
        let folder = tempfile::tempdir().unwrap();
        let ring = Arc::new(Ring::create(&folder.path().join("ring"), 1024, 7).unwrap());
        let mut thread = WalThread::start(intake(&ring), config(folder.path())).unwrap();
        let start = stamp(20_552, 14, 40);
        for sequence in 1..=5_000u64 {
            while ring.room() == 0 {
                std::thread::yield_now();
            }
            ring.write(&[trade(sequence, start + sequence as i64 * 100_000_000)]); // 500 s: over 14:45
        }
        thread.finish().unwrap();
        assert_eq!((ring.get(word::ACCEPTED), ring.get(word::DURABLE)), (5_000, 5_000));
        let mut sequences = Vec::new();
        let paths = segments(folder.path());
        assert_eq!(paths.len(), 2);
        for path in &paths {
            let mut reader = SegmentReader::open(path).unwrap();
            let mut records = Vec::new();
            while reader.next_block(&mut records).unwrap() {}
            assert_eq!(reader.end, End::Sealed);
            sequences.extend(records.iter().map(|record| record.header().sequence));
        }
        assert_eq!(sequences, (1..=5_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_of_the_log_thread_is_a_failure_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let ring = Arc::new(Ring::create(&folder.path().join("ring"), 2, 7).unwrap());
        (1..=3).for_each(|sequence| ring.write(&[trade(sequence, 5)])); // overruns what the thread has yet to take
        let mut thread = WalThread::start(intake(&ring), config(folder.path())).unwrap();
        assert!(thread.finish().unwrap_err().contains("the log thread panicked"));
        assert_eq!((ring.get(word::DURABLE), ring.get(word::STATE)), (0, state::FAILED));
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_loudly() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wal"), "a file where the folder should be").unwrap();
        let ring = Arc::new(Ring::create(&folder.path().join("ring"), 1024, 7).unwrap());
        let mut thread = WalThread::start(intake(&ring), config(folder.path())).unwrap();
        ring.write(&[trade(1, 5)]);
        assert!(thread.finish().unwrap_err().ends_with(&format!(", in {}", folder.path().join("wal").display())));
        assert_eq!((ring.get(word::DURABLE), ring.get(word::STATE)), (0, state::FAILED));
    }
}
