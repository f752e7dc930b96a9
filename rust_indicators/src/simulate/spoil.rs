//! Messages gone bad on the way, in the ways the SDK takes without complaint or panics over. Not random bytes: those the
//! SDK refuses before it calls anybody.
use super::Kind;
use super::random::Random;

/// How a message is spoiled; the numbers are what Python sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Spoil {
    /// The SDK reads the first of January 2000.
    Date = 0,
    /// The SDK reads midnight.
    Time = 1,
    /// The SDK reads price 0: of a tick the match's, of a book the best bid's.
    Price = 2,
    /// The SDK panics when the time is read.
    Panic = 3,
}

const DATE_SLOT: usize = 1;
const TIME_SLOT: usize = 2;

impl Spoil {
    pub fn drawn(random: &mut Random) -> Spoil {
        [Spoil::Date, Spoil::Time, Spoil::Price, Spoil::Panic][random.below(4) as usize]
    }

    /// Changes the message that starts at `start`.
    pub fn apply(self, out: &mut Vec<u8>, start: usize, kind: Kind) {
        let slot = match self {
            Spoil::Date => DATE_SLOT,
            Spoil::Time | Spoil::Panic => TIME_SLOT,
            // An array of levels counts as a slot before its first price.
            Spoil::Price => match kind {
                Kind::TickStock => 5,
                Kind::TickFutures => 8,
                Kind::BookStock => 4,
                _ => 6,
            },
        };
        let at = nth_slot(out, start, slot);
        let len = item_bytes(out[at]);
        if self == Spoil::Panic {
            out.splice(at..at + len, [7]);
        } else {
            out[at + 1..at + len].fill(b'?');
        }
    }
}

/// Where slot `slot` of the array begins, its own header left out.
fn nth_slot(bytes: &[u8], start: usize, slot: usize) -> usize {
    let first = start + if bytes[start] == 0xdc { 3 } else { 1 };
    (0..slot).fold(first, |at, _| at + item_bytes(bytes[at]))
}

/// Bytes of one item as `wire` writes them: short strings, integers, booleans, headers of short arrays.
fn item_bytes(marker: u8) -> usize {
    match marker {
        0xa0..=0xbf => 1 + usize::from(marker & 31),
        0xcc | 0xd0 => 2,
        0xcd | 0xd1 => 3,
        0xce | 0xd2 => 5,
        0xcf | 0xd3 => 9,
        _ => 1,
    }
}
