//! How the members of a competing group share one cursor: each event goes to exactly one of them. Like `protocol.rs` it
//! knows no file and no process, and `tests/ring_model` explores it. Who is alive is for `group.rs` to say.
//!
//! A claim is one compare-and-swap of the cursor, which carries the number of the member that moved it last. What it is
//! going to claim a member writes down *before* the swap, and whoever moves the cursor on first confirms the member
//! before him. So it is known of a member that died at any instruction whether it had claimed, and what.
use super::atomics::{AtomicU64, Ordering};

/// More processes than this on one stream would spend their time on the cursor.
pub const GROUP_MEMBERS_MAX: u64 = 16;
/// Words of one member, a cache line: what it writes at every claim is nobody else's.
pub const MEMBER_WORDS: usize = 8;
const MEMBER_BITS: u32 = 5;
const NOBODY: u64 = (1 << MEMBER_BITS) - 1;
const _: () = assert!(GROUP_MEMBERS_MAX <= NOBODY);

/// Words of a member: its latest claim, from `FIRST` to before `END` (0: finished), and the end of the latest one that
/// others have seen succeed.
const FIRST: usize = 0;
const END: usize = 1;
const CONFIRMED: usize = 2;

/// The cursor of a group and the claims of its members.
#[derive(Clone, Copy)]
pub struct Claims<'a> {
    pub cursor: &'a AtomicU64,
    pub members: &'a [AtomicU64],
}

/// A cursor that nobody has moved yet.
pub fn cursor_at(next: u64) -> u64 {
    (next << MEMBER_BITS) | NOBODY
}

/// The next sequence that a cursor leads to.
pub fn next_of(cursor: u64) -> u64 {
    cursor >> MEMBER_BITS
}

impl Claims<'_> {
    fn word(&self, member: u64, word: usize) -> &AtomicU64 {
        &self.members[member as usize * MEMBER_WORDS + word]
    }

    /// The member is done with what it claimed: if it dies now, nothing is missing.
    pub fn finish(&self, member: u64) {
        self.word(member, END).store(0, Ordering::Release);
    }

    /// Claims from the cursor on what `offer` has in hand: it is given the next sequence and returns the one behind the
    /// last it wants, or `None` for nothing. It may be asked again, when another member was quicker. The range claimed.
    pub fn claim(&self, member: u64, mut offer: impl FnMut(u64) -> Option<u64>) -> Option<(u64, u64)> {
        self.finish(member);
        let mut seen = self.cursor.load(Ordering::Acquire);
        loop {
            let (first, last_member) = (next_of(seen), seen & NOBODY);
            let end = offer(first)?;
            if last_member != NOBODY {
                self.word(last_member, CONFIRMED).fetch_max(first, Ordering::AcqRel);
            }
            self.finish(member);
            self.word(member, FIRST).store(first, Ordering::Relaxed);
            self.word(member, END).store(end, Ordering::Release);
            let moved = (end << MEMBER_BITS) | member;
            match self.cursor.compare_exchange(seen, moved, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((first, end)),
                Err(now) => seen = now,
            }
        }
    }

    /// What a dead member had claimed and not finished.
    pub fn unfinished(&self, member: u64) -> Option<(u64, u64)> {
        let end = self.word(member, END).load(Ordering::Acquire);
        let first = self.word(member, FIRST).load(Ordering::Relaxed);
        // The cursor before the confirmation: whoever moved it on confirmed first.
        let cursor = self.cursor.load(Ordering::Acquire);
        let claimed =
            cursor == (end << MEMBER_BITS) | member || self.word(member, CONFIRMED).load(Ordering::Acquire) >= end;
        (end != 0 && claimed).then_some((first, end))
    }

    /// Makes the unfinished claim of a dead member one of `member`, which has none: if that one dies before it has told
    /// anybody, the next finds it again. To be called by one at a time for each dead member.
    pub fn inherit(&self, member: u64, dead: u64) -> Option<(u64, u64)> {
        let found = self.unfinished(dead);
        if let Some((first, end)) = found {
            self.word(member, FIRST).store(first, Ordering::Relaxed);
            self.word(member, CONFIRMED).fetch_max(end, Ordering::AcqRel);
            self.word(member, END).store(end, Ordering::Release);
        }
        self.finish(dead);
        found
    }
}
