//! How full the ring is: the deepest it was, and how often it rose past a mark. Plain words, written by the writer alone;
//! who is told of it is for the recorder to say (`shijim_live/watch/pressure.py`).
use super::atomics::{AtomicU64, Ordering};

/// Percent of the slots that wait for the log. Half: the disk has hiccups. Four fifths: callbacks are about to wait.
pub const HIGH_WATER_PERCENT: [u64; 2] = [50, 80];

/// Words, from `word::DEPTH`: the deepest, the marks it is above of (as bits), and the crossings of each mark.
const DEEPEST: usize = 0;
const ABOVE: usize = 1;
const CROSSINGS: usize = 2;
pub const DEPTH_WORDS: usize = CROSSINGS + HIGH_WATER_PERCENT.len();

/// Notes a depth. A mark is crossed again only after the depth has fallen below half of it: a flutter counts once.
pub fn note_depth(words: &[AtomicU64], depth: u64, slots: u64) {
    if depth > words[DEEPEST].load(Ordering::Relaxed) {
        words[DEEPEST].store(depth, Ordering::Relaxed);
    }
    let before = words[ABOVE].load(Ordering::Relaxed);
    if before == 0 && depth * 100 <= slots * HIGH_WATER_PERCENT[0] {
        return;
    }
    let mut above = before;
    for (mark, percent) in HIGH_WATER_PERCENT.into_iter().enumerate() {
        if above & (1 << mark) == 0 && depth * 100 > slots * percent {
            above |= 1 << mark;
            words[CROSSINGS + mark].fetch_add(1, Ordering::Relaxed);
        } else if depth * 200 < slots * percent {
            above &= !(1 << mark);
        }
    }
    words[ABOVE].store(above, Ordering::Relaxed);
}

/// (the deepest, crossings of each mark)
pub fn depths(words: &[AtomicU64]) -> (u64, [u64; HIGH_WATER_PERCENT.len()]) {
    let crossings = std::array::from_fn(|mark| words[CROSSINGS + mark].load(Ordering::Relaxed));
    (words[DEEPEST].load(Ordering::Relaxed), crossings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_crossed_once_until_the_depth_has_halved() {
        let words: [AtomicU64; DEPTH_WORDS] = Default::default();
        let table = [
            (50, (50, [0, 0])), // at the mark is not past it
            (51, (51, [1, 0])),
            (49, (51, [1, 0])),
            (60, (60, [1, 0])), // a flutter
            (81, (81, [1, 1])),
            (41, (81, [1, 1])),
            (90, (90, [1, 1])),
            (39, (90, [1, 1])), // below half of 80, not of 50
            (85, (90, [1, 2])),
            (24, (90, [1, 2])),
            (100, (100, [2, 3])),
        ];
        for (depth, found) in table {
            note_depth(&words, depth, 100);
            assert_eq!(depths(&words), found, "after {depth}");
        }
    }
}
