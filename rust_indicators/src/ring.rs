//! The shared-memory ring between the callback, the WAL thread and free readers in other processes. One writer.
//! Not a queue of anything but 256-byte records, and not durable: only `durable_sequence` acknowledges.
//!
//! How a record passes is in `protocol.rs`. The WAL thread gates: the writer never overwrites a slot that is not yet
//! durable. Free readers (`reader.rs`) never gate; overrun gives them one `Missed`. The writer holds `flock` on the file
//! for as long as it lives: the kernel says who is dead, whatever it died of.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::record::{ABSENT_I64, RECORD_WORDS, Record, SCHEMA_VERSION};

pub mod atomics;
pub mod claims;
pub mod depth;
pub mod group;
pub mod protocol;
pub mod reader;

use atomics::{AtomicU64, Ordering};
use protocol::Slots;
pub use reader::{Polled, RingReader};

pub const RING_MAGIC: u64 = u64::from_le_bytes(*b"SHIJIMR2");
const HEADER_WORDS: usize = 2048;
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
    /// 1 while the writer runs, 2 after a clean close, 3 when the WAL thread failed, 4 while it waits for space.
    pub const STATE: usize = 5;

    pub const ACCEPTED: usize = 16;
    pub const QUARANTINED: usize = 17;
    pub const BLOCKED_NS: usize = 18;
    pub const SUSPECT: usize = 19;
    pub const LAST_RECEIVED_NS: usize = 20;
    /// Events that were delivered while there was no space: they are not in the log, the outage around them is.
    pub const NOT_RECORDED: usize = 21;
    pub const LAST_GAP_LOTS: usize = 22;
    /// Receive stamp of the trade that revealed it; 0 before the first one.
    pub const LAST_GAP_NS: usize = 23;
    pub const LOTS_MISSING: usize = 24;
    pub const GAPS: usize = 25;
    pub const DUPLICATES: usize = 26;
    pub const RESETS: usize = 27;
    pub const DEPTH: usize = 28;

    pub const DURABLE: usize = 32;
    pub const DURABLE_RECEIVED_NS: usize = 33;
    pub const BLOCKS: usize = 38;
    pub const LOG_BYTES: usize = 39;
    pub const SEGMENTS: usize = 40;

    pub const MISSED: usize = 48;

    /// The competing groups, to the end of the header.
    pub const GROUPS: usize = 64;
}

const _: () = assert!(word::DEPTH + depth::DEPTH_WORDS <= word::DURABLE);
const _: () = assert!(word::GROUPS + group::GROUPS_MAX as usize * group::GROUP_WORDS <= HEADER_WORDS);

pub mod state {
    pub const RUNNING: u64 = 1;
    pub const CLOSED: u64 = 2;
    pub const FAILED: u64 = 3;
    pub const WAITING: u64 = 4;
    /// For the test that holds `events.py` against them.
    pub const ALL: &[(&str, i64)] = &[
        ("RUNNING", RUNNING as i64),
        ("CLOSED", CLOSED as i64),
        ("FAILED", FAILED as i64),
        ("WAITING", WAITING as i64),
    ];
}

/// The mapping. Cheap to share between threads: every word is an atomic.
pub struct Ring {
    words: *mut AtomicU64,
    mapped_bytes: usize,
    slots: u64,
    file: File,
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
    /// A new ring at `path`, made beside it and renamed over it: a reader of an older ring keeps the old one. Refused
    /// while the writer of the older one lives.
    pub fn create(path: &Path, slots: u64, run_id: u64) -> io::Result<Ring> {
        if !slots.is_power_of_two() || slots > RING_SLOTS_MAX {
            let message = format!("ring slots must be a power of two up to {RING_SLOTS_MAX}, not {slots}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if let Ok(older) = Ring::attach(path)
            && older.writer_lives()
        {
            let writer = older.get(word::WRITER_PID);
            let message = format!("{}: process {writer} writes this ring. Stop that one first", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        // One name for whatever a writer that died here has left: a new file, since somebody might map that one.
        let fresh = fresh_path(path);
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&fresh)?;
        let bytes = (HEADER_WORDS + slots as usize * SLOT_WORDS) * 8;
        // Every page is taken now: writing to a page that a full /dev/shm cannot give would kill the process.
        if let Err(error) = allocate(&file, bytes) {
            let _ = std::fs::remove_file(&fresh);
            let message =
                format!("{}: no room for a ring of {slots} slots, {} KiB ({error})", path.display(), bytes >> 10);
            return Err(io::Error::new(error.kind(), message));
        }
        lock_for_life(&file)?;
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
        let magic = ring.get(word::MAGIC);
        if magic != RING_MAGIC && magic << 8 == RING_MAGIC << 8 {
            return Err(format!("{name}: the ring of another release: use the same one"));
        }
        if magic != RING_MAGIC {
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
        Ok(Ring { words: address.cast(), mapped_bytes: bytes, slots, file })
    }

    /// Every word: the header, then the slots.
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is this long, 8-aligned, and accessed through atomics only.
        unsafe { std::slice::from_raw_parts(self.words, self.mapped_bytes / 8) }
    }

    fn protocol(&self) -> Slots<'_> {
        let (header, slots) = self.words().split_at(HEADER_WORDS);
        Slots {
            words: slots,
            slot_words: SLOT_WORDS,
            slots: self.slots,
            accepted: &header[word::ACCEPTED],
            durable: &header[word::DURABLE],
        }
    }

    fn file(&self) -> &File {
        &self.file
    }

    pub fn slots(&self) -> u64 {
        self.slots
    }

    pub fn get(&self, word: usize) -> u64 {
        self.words()[word].load(Ordering::Acquire)
    }

    pub fn set(&self, word: usize, value: u64) {
        self.words()[word].store(value, Ordering::Release);
    }

    pub fn add(&self, word: usize, value: u64) {
        self.words()[word].fetch_add(value, Ordering::Relaxed);
    }

    /// How many records fit before the WAL thread has to make room.
    pub fn room(&self) -> u64 {
        self.protocol().room()
    }

    /// The one writer's step: the records must carry the next sequences and there must be room.
    pub fn write(&self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        let protocol = self.protocol();
        for record in records {
            protocol.write(record.header().sequence, record.words());
        }
        if last.header().received_ns != ABSENT_I64 {
            self.words()[word::LAST_RECEIVED_NS].store(last.header().received_ns as u64, Ordering::Relaxed);
        }
        protocol.accept(last.header().sequence);
        depth::note_depth(self.depth_words(), self.depth(), self.slots);
    }

    fn depth_words(&self) -> &[AtomicU64] {
        &self.words()[word::DEPTH..word::DEPTH + depth::DEPTH_WORDS]
    }

    /// How many records wait for the WAL thread.
    pub fn depth(&self) -> u64 {
        let durable = self.get(word::DURABLE); // before accepted: it never overtakes that one
        self.get(word::ACCEPTED).saturating_sub(durable)
    }

    /// (the deepest the ring was, how often it rose past each of `HIGH_WATER_PERCENT`)
    pub fn depths(&self) -> (u64, [u64; depth::HIGH_WATER_PERCENT.len()]) {
        depth::depths(self.depth_words())
    }

    /// Appends the record of a sequence. False, and nothing, when its slot holds another one or is being written.
    pub fn read_onto(&self, sequence: u64, records: &mut Vec<Record>) -> bool {
        let at = records.len();
        records.push(Record::ZERO);
        let there = self.protocol().read(sequence, records[at].words_mut());
        if !there {
            records.truncate(at);
        }
        there
    }

    /// The WAL thread's word: everything up to `sequence` is on disk, and its slots may be overwritten.
    pub fn acknowledge(&self, sequence: u64) {
        self.protocol().release(sequence);
    }

    /// Whether the process that made the ring still has it. Not to be asked by that one about itself.
    pub fn writer_lives(&self) -> bool {
        // SAFETY: a file descriptor we hold open. A shared lock, for an instant: whoever else asks is not in the way.
        let free = unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0;
        if free {
            // SAFETY: as above.
            unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
        }
        !free
    }

    /// The writer has closed: another may take its place while this process goes on.
    pub fn give_up(&self) {
        // SAFETY: as above.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }

    /// Whether another file stands at `path` now: some later writer's. One that is gone is no other.
    pub fn is_replaced_at(&self, path: &Path) -> bool {
        let place = |file: std::fs::Metadata| (file.dev(), file.ino());
        let here = self.file.metadata().map(place).ok();
        std::fs::metadata(path).is_ok_and(|there| Some(place(there)) != here)
    }
}

fn fresh_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

/// The writer's lock, before anybody else can know the file: nobody is in the way.
fn lock_for_life(file: &File) -> io::Result<()> {
    // SAFETY: a file descriptor we hold open. Miri knows no locks.
    if !cfg!(miri) && unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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
            threads.spawn(move || (1..=total).for_each(|sequence| ring.write(&[record(sequence)])));
            for sequence in 1..=total {
                let mut got = Vec::new();
                assert!(!ring.read_onto(sequence, &mut got) || got[0] == record(sequence));
            }
        });
        let mut last = Vec::new();
        assert!(ring.read_onto(total, &mut last) && last[0] == record(total));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a file mapping")]
    fn a_file_that_is_no_ring_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        std::fs::write(&path, vec![0; 8192]).unwrap();
        assert!(Ring::attach(&path).err().unwrap().contains("not a Shijim ring"));
        std::fs::write(&path, [b"SHIJIMR1".as_slice(), &[0; 20_000]].concat()).unwrap();
        assert!(Ring::attach(&path).err().unwrap().contains("the ring of another release"));
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

    #[test]
    #[cfg_attr(miri, ignore = "needs a file lock")]
    fn a_ring_has_one_writer_while_that_one_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        std::fs::write(folder.path().join("ring.new"), "of a writer that died while it made its ring").unwrap();
        let first = Ring::create(&path, 8, 1).unwrap();
        let reader = Ring::attach(&path).unwrap();
        let refused = Ring::create(&path, 8, 2).err().unwrap().to_string();
        assert!(refused.contains(&format!("process {} writes this ring", std::process::id())), "{refused}");
        assert!(reader.writer_lives() && !reader.is_replaced_at(&path));
        drop(first);
        assert!(!reader.writer_lives());
        let second = Ring::create(&path, 8, 2).unwrap();
        assert!(!reader.writer_lives() && reader.is_replaced_at(&path) && !second.is_replaced_at(&path));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
