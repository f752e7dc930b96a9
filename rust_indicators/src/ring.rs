//! The shared-memory ring between the callback, the WAL thread and free readers in other processes. One writer.
//! Not a queue of anything but 256-byte records, and not durable: only `durable_sequence` acknowledges.
//!
//! Contract. The writer stores sequence 0 in the slot, then the record's words, then its sequence (release). A reader
//! loads the sequence (acquire), copies the words, and loads the sequence again: if it changed, the copy is discarded.
//! All payload words are atomics, so a torn copy is detected, not undefined. The WAL thread gates: the writer never
//! overwrites a slot that is not yet durable. Free readers never gate; overrun gives them one `Missed`.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::record::{ABSENT_I64, RECORD_WORDS, Record, SCHEMA_VERSION};

pub const RING_MAGIC: u64 = u64::from_le_bytes(*b"SHIJIMR1");
const HEADER_WORDS: usize = 512;
const SLOT_WORDS: usize = 1 + RECORD_WORDS;
/// A power of two, so that a slot is a mask; 2^20 slots are 277 MB, more than any burst the feed can send.
pub const RING_SLOTS_MAX: u64 = 1 << 20;

/// Miri maps no files: there, every ring is memory of its own, which is enough to check the protocol.
const FLAGS: libc::c_int = if cfg!(miri) { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };

/// Words of the ring's header. What the writer touches per event, what the WAL thread touches per commit and what
/// free readers touch stand on cache lines of their own.
pub mod word {
    pub const MAGIC: usize = 0;
    pub const SCHEMA: usize = 1;
    pub const SLOTS: usize = 2;
    pub const RUN_ID: usize = 3;
    pub const WRITER_PID: usize = 4;
    /// 1 while the writer runs, 2 after a clean close, 3 when the WAL thread failed.
    pub const STATE: usize = 5;

    pub const ACCEPTED: usize = 16;
    pub const QUARANTINED: usize = 17;
    pub const BLOCKED_NS: usize = 18;
    pub const SUSPECT: usize = 19;
    pub const LAST_RECEIVED_NS: usize = 20;

    pub const DURABLE: usize = 32;
    pub const DURABLE_RECEIVED_NS: usize = 33;
    pub const LOTS_MISSING: usize = 34;
    pub const GAPS: usize = 35;
    pub const DUPLICATES: usize = 36;
    pub const RESETS: usize = 37;
    pub const BLOCKS: usize = 38;
    pub const LOG_BYTES: usize = 39;
    pub const SEGMENTS: usize = 40;

    pub const MISSED: usize = 48;
}

pub mod state {
    pub const RUNNING: u64 = 1;
    pub const CLOSED: u64 = 2;
    pub const FAILED: u64 = 3;
}

/// The mapping. Cheap to share between threads: every word is an atomic.
pub struct Ring {
    words: *mut AtomicU64,
    mapped_bytes: usize,
    slots: u64,
    _file: File,
}

// SAFETY: the mapping is only ever accessed through atomics and lives as long as the Ring.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, not unmapped before.
        unsafe { libc::munmap(self.words.cast(), self.mapped_bytes) };
    }
}

impl Ring {
    /// A new ring at `path`, made beside it and renamed over it: a reader of an older ring keeps the old one.
    pub fn create(path: &Path, slots: u64, run_id: u64) -> io::Result<Ring> {
        if !slots.is_power_of_two() || slots > RING_SLOTS_MAX {
            let message = format!("ring slots must be a power of two up to {RING_SLOTS_MAX}, not {slots}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        let bytes = (HEADER_WORDS + slots as usize * SLOT_WORDS) * 8;
        // Every page is taken now: writing to a page that a full /dev/shm cannot give would kill the process.
        if let Err(error) = allocate(&file, bytes) {
            let _ = std::fs::remove_file(&fresh);
            let message =
                format!("{}: no room for a ring of {slots} slots, {} KiB ({error})", path.display(), bytes >> 10);
            return Err(io::Error::new(error.kind(), message));
        }
        let ring = Ring::map(file, bytes, slots)?;
        ring.set(word::SCHEMA, u64::from(SCHEMA_VERSION));
        ring.set(word::SLOTS, slots);
        ring.set(word::RUN_ID, run_id);
        ring.set(word::WRITER_PID, u64::from(std::process::id()));
        ring.set(word::STATE, state::RUNNING);
        ring.set(word::MAGIC, RING_MAGIC);
        std::fs::rename(&fresh, path)?;
        Ok(ring)
    }

    /// An existing ring, for readers.
    pub fn attach(path: &Path) -> Result<Ring, String> {
        let name = path.display();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| format!("{name}: {error}"))?;
        let bytes = file.metadata().map_err(|error| format!("{name}: {error}"))?.len() as usize;
        if bytes < HEADER_WORDS * 8 {
            return Err(format!("{name}: not a Shijim ring (only {bytes} bytes)"));
        }
        let mut ring = Ring::map(file, bytes, 0).map_err(|error| format!("{name}: {error}"))?;
        if ring.get(word::MAGIC) != RING_MAGIC {
            return Err(format!("{name}: not a Shijim ring"));
        }
        let schema = ring.get(word::SCHEMA);
        if schema != u64::from(SCHEMA_VERSION) {
            return Err(format!("{name}: schema {schema}, this version reads {SCHEMA_VERSION}: use the same release"));
        }
        ring.slots = ring.get(word::SLOTS);
        // Bounded first: a size that does not fit its type would pass any comparison.
        let sane = ring.slots.is_power_of_two() && ring.slots <= RING_SLOTS_MAX;
        if !sane || bytes < (HEADER_WORDS + ring.slots as usize * SLOT_WORDS) * 8 {
            return Err(format!("{name}: {} slots do not fit its {bytes} bytes", ring.slots));
        }
        Ok(ring)
    }

    fn map(file: File, bytes: usize, slots: u64) -> io::Result<Ring> {
        // SAFETY: a shared file mapping of a file we hold open; the result is checked. A ring's file is never cut short:
        // the next writer makes another one and renames it over this one, which lives on in whoever maps it.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                FLAGS,
                if FLAGS == libc::MAP_SHARED { file.as_raw_fd() } else { -1 },
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Ring { words: address.cast(), mapped_bytes: bytes, slots, _file: file })
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        debug_assert!((index + 1) * 8 <= self.mapped_bytes);
        // SAFETY: inside the mapping (sizes checked at create and attach), 8-aligned, atomics only.
        unsafe { &*self.words.add(index) }
    }

    fn slot(&self, sequence: u64) -> usize {
        HEADER_WORDS + ((sequence - 1) & (self.slots - 1)) as usize * SLOT_WORDS
    }

    pub fn slots(&self) -> u64 {
        self.slots
    }

    pub fn get(&self, word: usize) -> u64 {
        self.at(word).load(Ordering::Acquire)
    }

    pub fn set(&self, word: usize, value: u64) {
        self.at(word).store(value, Ordering::Release);
    }

    pub fn add(&self, word: usize, value: u64) {
        self.at(word).fetch_add(value, Ordering::Relaxed);
    }

    /// How many records fit before the WAL thread has to make room.
    pub fn room(&self) -> u64 {
        self.slots - (self.get(word::ACCEPTED) - self.get(word::DURABLE))
    }

    /// The one writer's step: the record must carry the next sequence and there must be room.
    pub fn write(&self, record: &Record) {
        let sequence = record.header().sequence;
        let slot = self.slot(sequence);
        self.at(slot).store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (index, value) in record.words().iter().enumerate() {
            self.at(slot + 1 + index).store(*value, Ordering::Relaxed);
        }
        self.at(slot).store(sequence, Ordering::Release);
        if record.header().received_ns != ABSENT_I64 {
            self.at(word::LAST_RECEIVED_NS).store(record.header().received_ns as u64, Ordering::Relaxed);
        }
        self.at(word::ACCEPTED).store(sequence, Ordering::Release);
    }

    /// The record of a sequence, or `None` when its slot holds another one or is being written.
    pub fn read(&self, sequence: u64) -> Option<Record> {
        let slot = self.slot(sequence);
        if self.at(slot).load(Ordering::Acquire) != sequence {
            return None;
        }
        let mut words = [0; RECORD_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.at(slot + 1 + index).load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        (self.at(slot).load(Ordering::Relaxed) == sequence).then(|| Record::from_words(&words))
    }
}

fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    if cfg!(miri) {
        return file.set_len(bytes as u64);
    }
    // SAFETY: a file descriptor we hold open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// What a free reader gets: records in order, or the range it was too slow for.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    Records(u64),
    Missed(u64, u64),
}

/// A reader with its own cursor. It never slows the writer.
pub struct RingReader {
    pub ring: Ring,
    /// The next sequence to read.
    pub cursor: u64,
}

impl RingReader {
    pub fn new(ring: Ring, cursor: u64) -> RingReader {
        RingReader { ring, cursor: cursor.max(1) }
    }

    /// Appends up to `max` records to `out`. An overrun is told once, and reading goes on behind it.
    pub fn poll(&mut self, max: u64, out: &mut Vec<Record>) -> Polled {
        let accepted = self.ring.get(word::ACCEPTED);
        let mut count = 0;
        while self.cursor <= accepted && count < max {
            let Some(record) = self.ring.read(self.cursor) else {
                if count > 0 {
                    break;
                }
                return self.skip_overrun();
            };
            out.push(record);
            self.cursor += 1;
            count += 1;
        }
        Polled::Records(count)
    }

    /// Half a ring of slack behind the writer, so that the next poll is not overrun at once.
    fn skip_overrun(&mut self) -> Polled {
        let first = self.cursor;
        let oldest = (self.ring.get(word::ACCEPTED) + 1).saturating_sub(self.ring.slots() / 2);
        self.cursor = oldest.max(first + 1);
        self.ring.add(word::MISSED, self.cursor - first);
        Polled::Missed(first, self.cursor - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Record {
        let mut record = Record([sequence as u8; 256]);
        record.header_mut().sequence = sequence;
        record
    }

    #[test]
    fn a_read_beside_the_writer_gives_the_whole_record_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let ring = &Ring::create(&folder.path().join("ring"), 2, 1).unwrap();
        let total = if cfg!(miri) { 100 } else { 100_000 };
        std::thread::scope(|threads| {
            threads.spawn(move || (1..=total).for_each(|sequence| ring.write(&record(sequence))));
            for sequence in 1..=total {
                assert!(ring.read(sequence).is_none_or(|got| got == record(sequence)));
            }
        });
        assert!(ring.read(total) == Some(record(total)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn an_overrun_is_told_once_and_reading_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let writer = Ring::create(&path, 8, 1).unwrap();
        let mut reader = RingReader::new(Ring::attach(&path).unwrap(), 1);
        (1..=20).for_each(|sequence| writer.write(&record(sequence)));
        let mut records = Vec::new();
        assert_eq!(reader.poll(100, &mut records), Polled::Missed(1, 16));
        assert_eq!(reader.poll(100, &mut records), Polled::Records(4));
        assert!(records == (17..=20).map(record).collect::<Vec<_>>());
        assert_eq!(writer.get(word::MISSED), 16);
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn a_reader_beside_a_racing_writer_never_sees_a_torn_or_reordered_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let writer = Ring::create(&path, 64, 1).unwrap();
        let mut reader = RingReader::new(Ring::attach(&path).unwrap(), 1);
        let total = 200_000;
        let thread = std::thread::spawn(move || (1..=total).for_each(|sequence| writer.write(&record(sequence))));
        let (mut next, mut seen, mut missed) = (1, 0, 0);
        while next <= total {
            let mut records = Vec::new();
            if let Polled::Missed(first, last) = reader.poll(32, &mut records) {
                assert_eq!(first, next);
                missed += last - first + 1;
                next = last + 1;
            }
            for got in records {
                assert!(got == record(next));
                next += 1;
                seen += 1;
            }
        }
        thread.join().unwrap();
        assert_eq!(seen + missed, total);
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn a_file_that_is_no_ring_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        std::fs::write(&path, vec![0; 8192]).unwrap();
        assert!(Ring::attach(&path).err().unwrap().contains("not a Shijim ring"));
        assert!(Ring::create(&path, 7, 1).err().unwrap().to_string().contains("power of two"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn a_ring_that_claims_more_slots_than_it_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let ring = Ring::create(&path, 8, 1).unwrap();
        for slots in [0, 7, 16, 1 << 20, 1 << 40, 1 << 59, 1 << 63] {
            ring.set(word::SLOTS, slots);
            assert!(Ring::attach(&path).err().unwrap().contains("do not fit"), "{slots} slots");
        }
    }
}
