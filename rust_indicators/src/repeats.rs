//! Which books repeat the one before of the same code and lane, stamp included. Trades are `continuity.rs`'s.
use std::collections::HashMap;

use crate::record::{CODE_BYTES, HEADER_BYTES, Record, kind};

type Book = ([u8; CODE_BYTES], u8);

/// Remembers the last book of every code and lane: 256 bytes each, and no day has more than some thousands.
#[derive(Default)]
pub struct BookRepeats {
    /// Place in `last`.
    places: HashMap<Book, usize>,
    last: Vec<(Book, Record)>,
    /// Where the book before was found: neighbours are often of one code.
    recent: usize,
}

impl BookRepeats {
    /// Whether a record is a book whose stamp and body are those of the one before it. Call in order of sequence.
    pub fn is_repeat(&mut self, record: &Record) -> bool {
        let header = record.header();
        if header.kind != kind::BOOK {
            return false;
        }
        let book = (header.code, header.lane);
        let known = match self.last.get(self.recent) {
            Some((recent, _)) if *recent == book => Some(self.recent),
            _ => self.places.get(&book).copied(),
        };
        let Some(place) = known else {
            self.recent = self.last.len();
            self.places.insert(book, self.recent);
            self.last.push((book, *record));
            return false;
        };
        self.recent = place;
        let before = &mut self.last[place].1;
        let same =
            before.header().exchange_ns == header.exchange_ns && before.0[HEADER_BYTES..] == record.0[HEADER_BYTES..];
        *before = *record;
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Book, BookBody, Header, code_bytes};

    fn book(code: &str, lane: u8, exchange_ns: i64, volume: u32) -> Record {
        let mut header = Header::EMPTY;
        (header.kind, header.lane, header.exchange_ns) = (kind::BOOK, lane, exchange_ns);
        header.code = code_bytes(code).unwrap();
        Record::from_book(&Book { header, body: BookBody { bid_volume: [volume; 5], ..BookBody::ABSENT } })
    }

    #[test]
    fn a_repeat_has_the_code_lane_stamp_and_body_of_the_book_before() {
        let mut repeats = BookRepeats::default();
        let table = [
            (book("TXFD6", 1, 5, 1), false),
            (book("TXFD6", 1, 5, 1), true),
            (book("2330", 1, 5, 1), false),
            (book("TXFD6", 1, 5, 1), true),
            (book("TXFD6", 2, 5, 1), false),
            (book("TXFD6", 1, 6, 1), false),
            (book("TXFD6", 1, 6, 2), false),
            (book("TXFD6", 1, 6, 1), false),
            (book("2330", 1, 5, 1), true),
        ];
        for (at, (record, wanted)) in table.iter().enumerate() {
            assert_eq!(repeats.is_repeat(record), *wanted, "at {at}");
        }
    }

    #[test]
    fn how_a_book_travelled_does_not_matter_and_only_books_are_judged() {
        let mut repeats = BookRepeats::default();
        let mut first = book("TXFD6", 1, 5, 1);
        repeats.is_repeat(&first);
        (first.header_mut().sequence, first.header_mut().received_ns, first.header_mut().connection) = (9, 9, 9);
        assert!(repeats.is_repeat(&first));
        first.header_mut().kind = kind::TRADE;
        assert!(!repeats.is_repeat(&first));
    }
}
