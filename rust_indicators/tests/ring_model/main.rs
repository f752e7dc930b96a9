//! Every interleaving of a small ring: the code of `src/ring/protocol.rs` and `claims.rs` on loom's atomics, which also
//! give a load any value that the memory model allows. Not its files, locks and processes (`tests/test_ring.py`).
//!
//! Twice with something broken on purpose, where the model has to fail: the fences taken out, every ordering relaxed.
#![allow(clippy::duplicate_mod)] // the same source on other atomics

mod relaxed;
mod sound;
mod without_fences;

use loom::sync::Arc;
use loom::thread;
use sound::claims::{Claims, GROUP_MEMBERS_MAX, MEMBER_WORDS, cursor_at};

/// In `make test` a thread is interrupted at most this often where it need not be, which is seconds; `make loom` sets
/// LOOM_MAX_PREEMPTIONS so high that every interleaving is tried.
const PREEMPTIONS: usize = 3;

fn explore(what: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(PREEMPTIONS));
    model.check(what);
}

/// A ring of plain memory, for the protocol of a module.
macro_rules! ring_of {
    ($module:ident) => {
        use crate::explore;
        use crate::$module::atomics::AtomicU64;
        use crate::$module::protocol::Slots;

        pub struct Ring {
            words: Vec<AtomicU64>,
            payload_words: usize,
            slots: u64,
            accepted: AtomicU64,
            durable: AtomicU64,
        }

        impl Ring {
            pub fn new(slots: u64, payload_words: usize) -> Ring {
                let words = (0..slots as usize * (1 + payload_words)).map(|_| AtomicU64::new(0)).collect();
                Ring { words, payload_words, slots, accepted: AtomicU64::new(0), durable: AtomicU64::new(0) }
            }

            pub fn protocol(&self) -> Slots<'_> {
                let (accepted, durable) = (&self.accepted, &self.durable);
                Slots { words: &self.words, slot_words: 1 + self.payload_words, slots: self.slots, accepted, durable }
            }

            pub fn accepted(&self) -> u64 {
                self.accepted.load(crate::$module::atomics::Ordering::Acquire)
            }

            /// Writes a batch and accepts it.
            pub fn write(&self, sequences: std::ops::RangeInclusive<u64>) {
                let last = *sequences.end();
                sequences.for_each(|sequence| self.protocol().write(sequence, &[sequence; 2][..self.payload_words]));
                self.protocol().accept(last);
            }

            /// Whether the record was there, whole.
            pub fn read(&self, sequence: u64) -> bool {
                let mut payload = vec![0; self.payload_words];
                let there = self.protocol().read(sequence, &mut payload);
                let whole = payload.iter().all(|word| *word == sequence);
                assert!(!there || whole, "torn: {payload:?} as {sequence}");
                there
            }
        }

        /// A writer that laps a reader.
        pub fn a_free_reader_gets_whole_records() {
            explore(|| {
                let ring = Arc::new(Ring::new(1, 2));
                let writer = ring.clone();
                let thread = thread::spawn(move || (1..=3).for_each(|sequence| writer.write(sequence..=sequence)));
                (1..=2).for_each(|sequence| {
                    ring.read(sequence);
                });
                thread.join().unwrap();
            });
        }

        /// The log thread finds every record that is accepted, and the writer waits for it.
        pub fn the_gating_reader_finds_every_record() {
            explore(|| {
                let ring = Arc::new(Ring::new(1, 1));
                let writer = ring.clone();
                let thread = thread::spawn(move || {
                    for sequence in 1..=2 {
                        while writer.protocol().room() == 0 {
                            thread::yield_now();
                        }
                        writer.write(sequence..=sequence);
                    }
                });
                let mut durable = 0;
                while durable < 2 {
                    let accepted = ring.accepted();
                    (durable + 1..=accepted).for_each(|sequence| assert!(ring.read(sequence), "{sequence} is gone"));
                    if accepted == durable {
                        thread::yield_now();
                    }
                    durable = accepted;
                    ring.protocol().release(durable);
                }
                thread.join().unwrap();
            });
        }
    };
}

mod on_sound {
    use super::{Arc, thread};
    ring_of!(sound);
}

#[allow(dead_code)] // not everything is put to the test
mod on_without_fences {
    use super::{Arc, thread};
    ring_of!(without_fences);
}

#[allow(dead_code)]
mod on_relaxed {
    use super::{Arc, thread};
    ring_of!(relaxed);
}

#[test]
fn a_free_reader_gets_a_whole_record_or_none() {
    on_sound::a_free_reader_gets_whole_records();
}

#[test]
#[should_panic(expected = "torn")]
fn without_the_fences_a_free_reader_would_get_a_torn_record() {
    on_without_fences::a_free_reader_gets_whole_records();
}

#[test]
fn the_gating_reader_finds_every_accepted_record_whole() {
    on_sound::the_gating_reader_finds_every_record();
}

#[test]
#[should_panic]
fn with_relaxed_orderings_the_gating_reader_would_not() {
    on_relaxed::the_gating_reader_finds_every_record();
}

#[test]
fn who_finds_a_slot_taken_away_knows_how_far_the_writer_was() {
    explore(|| {
        let ring = Arc::new(on_sound::Ring::new(4, 1));
        ring.write(1..=4);
        let writer = ring.clone();
        let thread = thread::spawn(move || {
            writer.write(5..=5);
            writer.write(6..=6);
        });
        if !ring.read(2) {
            // By 6, so that 5 was accepted: half a ring behind that one, or behind 6.
            assert!((4..=5).contains(&ring.protocol().resume_at(2)));
        }
        thread.join().unwrap();
    });
}

struct Group {
    cursor: sound::atomics::AtomicU64,
    members: Vec<sound::atomics::AtomicU64>,
}

impl Group {
    fn new(members: u64) -> Group {
        assert!(members <= GROUP_MEMBERS_MAX);
        let words = (0..members as usize * MEMBER_WORDS).map(|_| sound::atomics::AtomicU64::new(0)).collect();
        Group { cursor: sound::atomics::AtomicU64::new(cursor_at(1)), members: words }
    }

    fn claims(&self) -> Claims<'_> {
        Claims { cursor: &self.cursor, members: &self.members }
    }
}

/// One step of a member, as `reader.rs` does it: look, claim what is in hand. The range, and whether it was missed.
fn step(ring: &on_sound::Ring, group: &Group, member: u64) -> Option<(u64, u64, bool)> {
    let mut missed = false;
    let claimed = group.claims().claim(member, |next| {
        missed = false;
        if next > ring.accepted() {
            return None;
        }
        if ring.read(next) {
            return Some(next + 1);
        }
        missed = true;
        Some(ring.protocol().resume_at(next))
    });
    claimed.map(|(first, end)| (first, end, missed))
}

#[test]
fn every_event_goes_to_one_member_and_an_overrun_is_told_to_one() {
    explore(|| {
        let (ring, group) = (Arc::new(on_sound::Ring::new(2, 1)), Arc::new(Group::new(2)));
        ring.write(1..=1);
        ring.write(2..=2);
        let (other_ring, other_group) = (ring.clone(), group.clone());
        let other = thread::spawn(move || step(&other_ring, &other_group, 1));
        let mut got = vec![step(&ring, &group, 0)];
        ring.write(3..=3); // this thread is the writer too
        got.push(other.join().unwrap());
        while let Some(more) = step(&ring, &group, 0) {
            got.push(Some(more));
        }
        let mut ranges: Vec<(u64, u64, bool)> = got.into_iter().flatten().collect();
        ranges.sort_unstable();
        let mut next = 1;
        for (first, end, _) in &ranges {
            assert_eq!(*first, next, "{ranges:?}");
            next = *end;
        }
        assert_eq!(next, 4, "{ranges:?}");
    });
}

/// A member that dies is one that does nothing more: here before its claim, behind it, or having finished.
#[test]
fn of_a_member_that_died_it_is_known_what_it_had_claimed() {
    explore(|| {
        let group = Arc::new(Group::new(3));
        let (two, three) = (group.clone(), group.clone());
        let one_more = |next: u64| (next <= 3).then_some(next + 1);
        let dying = thread::spawn(move || two.claims().claim(1, one_more));
        let living = thread::spawn(move || {
            let first = three.claims().claim(2, one_more);
            [first, three.claims().claim(2, one_more)]
        });
        let claimed = dying.join().unwrap();
        let inherited = group.claims().inherit(0, 1); // while the other goes on
        assert_eq!(inherited, claimed);
        assert_eq!(group.claims().unfinished(1), None);
        let others = living.join().unwrap();
        let mut all: Vec<_> = others.into_iter().chain([claimed]).flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [(1, 2), (2, 3), (3, 4)]);
        assert_eq!(group.claims().unfinished(0), claimed); // passed on until it is told
    });
}

/// It has written down what it wants, and dies before or in the midst of a lost race: nothing is its own.
#[test]
fn what_a_member_only_wanted_is_not_its_claim() {
    explore(|| {
        let group = Arc::new(Group::new(3));
        let two = group.clone();
        let dying = thread::spawn(move || {
            // The next one is taken by somebody else in between; asked again, it dies.
            let mut asked = 0;
            two.claims().claim(1, |next| {
                asked += 1;
                (asked == 1).then(|| {
                    two.claims().claim(2, |next| Some(next + 1));
                    next + 1
                })
            })
        });
        assert_eq!(dying.join().unwrap(), None);
        assert_eq!(group.claims().unfinished(1), None);
        assert_eq!(group.claims().unfinished(2), Some((1, 2)));
    });
}
