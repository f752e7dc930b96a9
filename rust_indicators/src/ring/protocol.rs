//! How records pass through the ring: slots, and the two words that gate them. It knows no file, no record and no
//! process, so that `tests/ring_model` explores every interleaving of this very code.
//!
//! The writer stores 0 in the slot, then the payload, then the sequence. A reader loads the sequence, copies the payload
//! and loads the sequence again: if it changed, the copy is discarded. Every word is an atomic, so that a torn copy is
//! detected, not undefined. What is written counts once `accept` has said so, which may be once for many.
use super::atomics::{AtomicU64, Ordering, fence};

/// The slots of a ring with the words that say how far it is written and how far it may be overwritten.
#[derive(Clone, Copy)]
pub struct Slots<'a> {
    /// `slot_words` words for each slot: the sequence, then the payload.
    pub words: &'a [AtomicU64],
    pub slot_words: usize,
    /// A power of two.
    pub slots: u64,
    pub accepted: &'a AtomicU64,
    /// Up to here the gating reader is done: these slots, and no others, may be overwritten.
    pub durable: &'a AtomicU64,
}

impl Slots<'_> {
    #[inline]
    fn slot(&self, sequence: u64) -> &[AtomicU64] {
        let at = ((sequence - 1) & (self.slots - 1)) as usize * self.slot_words;
        &self.words[at..at + self.slot_words]
    }

    /// How many records fit before the gating reader has to make room.
    #[inline]
    pub fn room(&self) -> u64 {
        self.slots - (self.accepted.load(Ordering::Relaxed) - self.durable.load(Ordering::Acquire))
    }

    /// The one writer's step; there must be room. Nobody is told yet.
    #[inline]
    pub fn write(&self, sequence: u64, payload: &[u64]) {
        let slot = self.slot(sequence);
        // Release: whoever finds the slot taken away also finds how far the writer was (`resume_at`).
        slot[0].store(0, Ordering::Release);
        fence(Ordering::Release);
        for (word, value) in slot[1..].iter().zip(payload) {
            word.store(*value, Ordering::Relaxed);
        }
        slot[0].store(sequence, Ordering::Release);
    }

    /// Everything up to `sequence` is written: readers may look.
    #[inline]
    pub fn accept(&self, sequence: u64) {
        self.accepted.store(sequence, Ordering::Release);
    }

    /// Copies the payload of a sequence. False when its slot holds another one or is being written.
    #[inline]
    pub fn read(&self, sequence: u64, payload: &mut [u64]) -> bool {
        let slot = self.slot(sequence);
        if slot[0].load(Ordering::Acquire) != sequence {
            return false;
        }
        for (word, value) in slot[1..].iter().zip(payload) {
            *value = word.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        slot[0].load(Ordering::Relaxed) == sequence
    }

    /// Where a free reader goes on that found `cursor` overwritten: half a ring behind the writer, so that its next
    /// read is not overrun at once.
    pub fn resume_at(&self, cursor: u64) -> u64 {
        fence(Ordering::Acquire);
        let accepted = self.accepted.load(Ordering::Acquire);
        (accepted + 1).saturating_sub(self.slots / 2).max(cursor + 1)
    }

    /// The gating reader's step: the slots up to `sequence` may be overwritten.
    pub fn release(&self, sequence: u64) {
        self.durable.store(sequence, Ordering::Release);
    }
}
