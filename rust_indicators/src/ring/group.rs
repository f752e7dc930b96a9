//! Competing readers: a named group in the ring's header, its members, and who of them is alive. A member holds a lock
//! on a byte of the ring's file for as long as it lives; the kernel lets go of it whatever the process dies of.
//! Not the claims themselves (`claims.rs`).
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::Ring;
use super::atomics::{AtomicU64, Ordering};
use super::claims::{Claims, GROUP_MEMBERS_MAX, MEMBER_WORDS, cursor_at, next_of};
use super::word;

/// Groups a ring has room for: each is a kind of consumer, not a process. They last as long as the ring.
pub const GROUPS_MAX: u64 = 8;
/// A name is two words of the header.
pub const GROUP_NAME_BYTES: usize = 16;
/// Joining takes microseconds; whoever holds the lock for longer than this is stopped, not slow.
const JOIN_SECONDS_MAX: u64 = 1;
const JOIN_TRY: Duration = Duration::from_millis(1);

/// Words of a group: its name, its counters, its cursor on a cache line of its own, its members.
const NAME: usize = 0;
const MISSED: usize = 2;
const ABANDONED: usize = 3;
const CURSOR: usize = 8;
const MEMBERS: usize = 16;
pub const GROUP_WORDS: usize = MEMBERS + GROUP_MEMBERS_MAX as usize * MEMBER_WORDS;

/// Bytes of the ring's file that are locked: one while somebody joins, one for each member.
const JOINING_BYTE: u64 = 0;

/// What a person may want to know of a group.
#[derive(Debug, PartialEq, Eq)]
pub struct GroupState {
    pub name: String,
    pub next: u64,
    pub missed: u64,
    pub abandoned: u64,
    pub members: u64,
}

/// This reader's place in a group. Two sides of a `fork` must not share it: they would be one member.
pub struct Member {
    group: u64,
    number: u64,
    /// What the member that had this place before left unfinished, until it is told.
    left_behind: Option<(u64, u64)>,
}

fn words(ring: &Ring, group: u64) -> &[AtomicU64] {
    let at = word::GROUPS + group as usize * GROUP_WORDS;
    &ring.words()[at..at + GROUP_WORDS]
}

fn claims(ring: &Ring, group: u64) -> Claims<'_> {
    let words = words(ring, group);
    Claims { cursor: &words[CURSOR], members: &words[MEMBERS..] }
}

fn member_byte(group: u64, member: u64) -> u64 {
    1 + group * GROUP_MEMBERS_MAX + member
}

fn byte_range(byte: u64, kind: libc::c_int) -> libc::flock {
    // SAFETY: a plain struct of integers; zero is a value of each.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    (range.l_type, range.l_whence) = (kind as i16, libc::SEEK_SET as i16);
    (range.l_start, range.l_len) = (byte as libc::off_t, 1);
    range
}

/// Takes (or gives back) the lock of a byte without waiting; false where another reader has it.
fn lock(ring: &Ring, byte: u64, kind: libc::c_int) -> bool {
    let range = byte_range(byte, kind);
    // SAFETY: a file descriptor we hold open and a struct that lives longer than the call.
    unsafe { libc::fcntl(ring.file().as_raw_fd(), libc::F_OFD_SETLK, &raw const range) == 0 }
}

fn name_words(name: &str) -> Result<[u64; 2], String> {
    if name.is_empty() || name.len() > GROUP_NAME_BYTES || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("group {name:?}: a name is 1 to {GROUP_NAME_BYTES} ASCII characters without spaces"));
    }
    let mut bytes = [0; GROUP_NAME_BYTES];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    let (low, high) = bytes.split_at(8);
    Ok([low, high].map(|half| u64::from_le_bytes(half.try_into().expect("8 bytes"))))
}

fn name_of(ring: &Ring, group: u64) -> String {
    let words = &words(ring, group)[NAME..NAME + 2];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').into()
}

impl Member {
    /// Joins the group of this name, which begins at `cursor` where it is new.
    pub fn join(ring: &Ring, name: &str, cursor: u64) -> Result<Member, String> {
        let words = name_words(name)?;
        let started = Instant::now();
        while !lock(ring, JOINING_BYTE, libc::F_WRLCK) {
            if started.elapsed() > Duration::from_secs(JOIN_SECONDS_MAX) {
                return Err(format!(
                    "group {name}: another process has been joining for {JOIN_SECONDS_MAX} s: is one stopped?"
                ));
            }
            std::thread::sleep(JOIN_TRY);
        }
        let member = find_group(ring, (name, words), cursor).and_then(|group| take_place(ring, group));
        lock(ring, JOINING_BYTE, libc::F_UNLCK);
        member.map_err(|reason| format!("group {name}: {reason}"))
    }

    pub fn claims<'a>(&self, ring: &'a Ring) -> Claims<'a> {
        claims(ring, self.group)
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next sequence that a member of the group will get.
    pub fn next(&self, ring: &Ring) -> u64 {
        next_of(self.claims(ring).cursor.load(Ordering::Acquire))
    }

    pub fn add_missed(&self, ring: &Ring, count: u64) {
        words(ring, self.group)[MISSED].fetch_add(count, Ordering::Relaxed);
    }

    /// What the member before on this place left unfinished, once.
    pub fn left_behind(&mut self, ring: &Ring) -> Option<(u64, u64)> {
        let (first, end) = self.left_behind.take()?;
        self.count_abandoned(ring, end - first);
        Some((first, end))
    }

    /// What some dead member left unfinished; it is this one's claim from now on, which must have none.
    pub fn inherit(&self, ring: &Ring) -> Option<(u64, u64)> {
        for other in (0..GROUP_MEMBERS_MAX).filter(|other| *other != self.number) {
            let byte = member_byte(self.group, other);
            if self.claims(ring).unfinished(other).is_none() || !lock(ring, byte, libc::F_WRLCK) {
                continue;
            }
            let found = self.claims(ring).inherit(self.number, other);
            lock(ring, byte, libc::F_UNLCK);
            if let Some((first, end)) = found {
                self.count_abandoned(ring, end - first);
                return found;
            }
        }
        None
    }

    fn count_abandoned(&self, ring: &Ring, count: u64) {
        words(ring, self.group)[ABANDONED].fetch_add(count, Ordering::Relaxed);
    }
}

/// Its number, made where there is none. One at a time; who dies half-way leaves a name without a cursor.
fn find_group(ring: &Ring, (name, name_words): (&str, [u64; 2]), cursor: u64) -> Result<u64, String> {
    for group in 0..GROUPS_MAX {
        let place = words(ring, group);
        let there = place[CURSOR].load(Ordering::Acquire) != 0;
        if there && name_of(ring, group) == name {
            return Ok(group);
        }
        if !there {
            place[NAME].store(name_words[0], Ordering::Relaxed);
            place[NAME + 1].store(name_words[1], Ordering::Relaxed);
            place[CURSOR].store(cursor_at(cursor.max(1)), Ordering::Release);
            return Ok(group);
        }
    }
    let names: Vec<String> = (0..GROUPS_MAX).map(|group| name_of(ring, group)).collect();
    Err(format!("a ring has room for {GROUPS_MAX}, and has {}", names.join(", ")))
}

fn take_place(ring: &Ring, group: u64) -> Result<Member, String> {
    for number in 0..GROUP_MEMBERS_MAX {
        if lock(ring, member_byte(group, number), libc::F_WRLCK) {
            let left_behind = claims(ring, group).unfinished(number);
            if left_behind.is_none() {
                claims(ring, group).finish(number);
            }
            return Ok(Member { group, number, left_behind });
        }
    }
    Err(format!("it has {GROUP_MEMBERS_MAX} members, no more fit"))
}

/// Every group of the ring, for people.
pub fn groups(ring: &Ring) -> io::Result<Vec<GroupState>> {
    // Through another descriptor: nobody is in the way of a lock of his own.
    let file = File::open(format!("/proc/self/fd/{}", ring.file().as_raw_fd()))?;
    let mut found = Vec::new();
    for group in 0..GROUPS_MAX {
        let place = words(ring, group);
        let cursor = place[CURSOR].load(Ordering::Acquire);
        if cursor == 0 {
            break;
        }
        found.push(GroupState {
            name: name_of(ring, group),
            next: next_of(cursor),
            missed: place[MISSED].load(Ordering::Relaxed),
            abandoned: place[ABANDONED].load(Ordering::Relaxed),
            members: (0..GROUP_MEMBERS_MAX).filter(|member| is_locked(&file, member_byte(group, *member))).count()
                as u64,
        });
    }
    Ok(found)
}

/// Whether some other descriptor holds the lock of a byte.
fn is_locked(file: &File, byte: u64) -> bool {
    let mut range = byte_range(byte, libc::F_RDLCK);
    // SAFETY: as in `lock`; the struct is written to.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) };
    asked == 0 && i32::from(range.l_type) != libc::F_UNLCK
}
