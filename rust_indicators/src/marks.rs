//! What the records of a segment say about where they belong: table, minute, code, and whether they repeat an earlier
//! one. One pass, chunk by chunk, in order of sequence. Knows no calendar (`shijim_pipelines/placement.py`).
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Range;

use crate::continuity::{Continuity, KeyHasher, Verdict, code_words, is_futures};
use crate::payload::MIX;
use crate::record::{ABSENT_I64, CODE_BYTES, HEADER_BYTES, Header, Record, kind};
use crate::wall_clock::SECOND_NS;

/// Every edge of the calendar falls on a minute.
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// Instead of twice the minute, where neither stamp of a record can be believed.
pub const UNKNOWN_MINUTE: i64 = i64::MIN;
/// Trades, books, indices, snapshots, everything else.
pub const TABLES: usize = 5;
const STATUSES: usize = TABLES - 1;

/// Of one chunk of records.
#[derive(Default)]
pub struct Marks {
    /// Twice the minute since the epoch or `UNKNOWN_MINUTE`, plus 1 where futures' hours hold: the different ones.
    pub minutes: Vec<i64>,
    /// Which of `minutes` each record has.
    pub minute_of: Vec<i64>,
    pub repeated: Vec<bool>,
    /// The exchange stamped it, and with nothing that can be believed.
    pub strange: Vec<bool>,
    /// For each table which records are its rows, by code, then sequence.
    pub orders: [Vec<i64>; TABLES],
    /// The lowest kind that this version does not know, if there is one.
    pub unknown_kind: Option<u8>,
}

/// Remembers what a repeat in the next chunk is judged by.
pub struct Marker {
    believable_ns: Range<i64>,
    continuity: Continuity,
    streams: HashMap<Stream, u32, BuildHasherDefault<KeyHasher>>,
    known: Vec<Known>,
    /// Different codes, as they were met.
    codes: Vec<[u8; CODE_BYTES]>,
    next_sequence: i64,
    /// First and last of each run of sequences that no record has.
    pub missing: Vec<(i64, i64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stream {
    code: [u64; 2],
    lane: u8,
}

impl Hash for Stream {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.code[0] ^ self.code[1].rotate_left(32) ^ u64::from(self.lane).wrapping_mul(MIX));
    }
}

/// A stream's code, and its last book.
struct Known {
    code: u32,
    /// In this chunk.
    book_at: Option<usize>,
    /// Of an earlier chunk: 256 bytes each, and no day has more than some thousands.
    book: Option<Box<Record>>,
}

impl Marker {
    /// Stamps in `believable_ns` say when something happened; `first_sequence` is the segment's.
    pub fn new(believable_ns: Range<i64>, first_sequence: i64) -> Marker {
        Marker {
            believable_ns,
            continuity: Continuity::new(),
            streams: HashMap::default(),
            known: Vec::new(),
            codes: Vec::new(),
            next_sequence: first_sequence,
            missing: Vec::new(),
        }
    }

    /// Every sequence up to `last` is there or missing.
    pub fn missing_until(&self, last: i64) -> Vec<(i64, i64)> {
        let end = (self.next_sequence <= last).then_some((self.next_sequence, last));
        self.missing.iter().copied().chain(end).collect()
    }

    pub fn mark(&mut self, records: &[Record]) -> Marks {
        let mut marks = Marks::default();
        let mut places = Vec::with_capacity(records.len());
        let mut minutes = Minutes::default();
        marks.minute_of.reserve_exact(records.len());
        marks.repeated.reserve_exact(records.len());
        marks.strange.reserve_exact(records.len());
        for (at, record) in records.iter().enumerate() {
            let header = record.header();
            self.note_sequence(header.sequence as i64);
            let (key, strange) = self.minute_of(header);
            marks.minute_of.push(minutes.place(key));
            let stream = self.stream(header);
            let (table, repeated) = match header.kind {
                kind::TRADE => (0, self.is_duplicate(records, at)),
                kind::BOOK => (1, self.known[stream].repeats(records, at)),
                kind::INDEX => (2, false),
                kind::SNAPSHOT => (3, false),
                _ => (STATUSES, false),
            };
            marks.repeated.push(repeated);
            marks.strange.push(strange);
            places.push((self.known[stream].code, table));
            if table == STATUSES && !kind::ALL.iter().any(|(_, known)| *known == i64::from(header.kind)) {
                marks.unknown_kind = Some(marks.unknown_kind.map_or(header.kind, |lowest| lowest.min(header.kind)));
            }
        }
        self.known.iter_mut().for_each(|known| known.keep(records));
        self.continuity.end_batch(records);
        marks.minutes = minutes.keys;
        marks.orders = self.orders(&places);
        marks
    }

    fn is_duplicate(&mut self, records: &[Record], at: usize) -> bool {
        let judged = self.continuity.judge_in_batch(records, at, 0);
        judged.is_some_and(|(_, judgement)| judgement.verdict == Verdict::Duplicate)
    }

    fn note_sequence(&mut self, sequence: i64) {
        if sequence != self.next_sequence {
            self.missing.push((self.next_sequence, sequence.wrapping_sub(1)));
        }
        self.next_sequence = sequence.wrapping_add(1);
    }

    /// By the exchange's stamp, by ours where there is none to believe; and whether there is one not to believe.
    fn minute_of(&self, header: &Header) -> (i64, bool) {
        let stamped = self.believable_ns.contains(&header.exchange_ns);
        let when_ns = if stamped { header.exchange_ns } else { header.received_ns };
        // What is said of the recording itself belongs to no market; the night is the next trading day's there too.
        let futures = is_futures(header.exchange, header.broker_class) || header.exchange == 0;
        let believed = stamped || self.believable_ns.contains(&when_ns);
        let minute = if believed { when_ns.div_euclid(MINUTE_NS) * 2 } else { UNKNOWN_MINUTE };
        (minute + i64::from(futures), !stamped && header.exchange_ns != ABSENT_I64)
    }

    fn stream(&mut self, header: &Header) -> usize {
        let stream = Stream { code: code_words(&header.code), lane: header.lane };
        if let Some(place) = self.streams.get(&stream) {
            return *place as usize;
        }
        let code = self.codes.iter().position(|code| *code == header.code).unwrap_or(self.codes.len());
        if code == self.codes.len() {
            self.codes.push(header.code);
        }
        self.streams.insert(stream, self.known.len() as u32);
        self.known.push(Known { code: code as u32, book_at: None, book: None });
        self.known.len() - 1
    }

    /// By (code, table) of each record. Counted, not compared: a segment has few codes.
    fn orders(&self, places: &[(u32, usize)]) -> [Vec<i64>; TABLES] {
        let mut by_name: Vec<usize> = (0..self.codes.len()).collect();
        by_name.sort_unstable_by_key(|code| self.codes[*code]);
        let mut next = vec![[0; TABLES]; self.codes.len()];
        places.iter().for_each(|(code, table)| next[*code as usize][*table] += 1);
        let mut rows = [0; TABLES];
        for code in by_name {
            for (first, count) in next[code].iter_mut().zip(&mut rows) {
                (*first, *count) = (*count, *count + *first);
            }
        }
        let mut orders = rows.map(|rows| vec![0; rows]);
        for (at, (code, table)) in places.iter().enumerate() {
            let place = &mut next[*code as usize][*table];
            orders[*table][*place] = at as i64;
            *place += 1;
        }
        orders
    }
}

impl Known {
    /// Whether a book has the stamp and body of the one before it; call in order.
    fn repeats(&mut self, records: &[Record], at: usize) -> bool {
        let before = self.book_at.replace(at).map_or(self.book.as_deref(), |before| Some(&records[before]));
        before.is_some_and(|before| {
            before.header().exchange_ns == records[at].header().exchange_ns
                && before.0[HEADER_BYTES..] == records[at].0[HEADER_BYTES..]
        })
    }

    fn keep(&mut self, records: &[Record]) {
        if let Some(at) = self.book_at.take() {
            self.book = Some(Box::new(records[at]));
        }
    }
}

/// Numbers different minutes as they come; neighbours of one market are mostly of one minute.
#[derive(Default)]
struct Minutes {
    keys: Vec<i64>,
    places: HashMap<i64, i64>,
    recent: [(i64, i64); 2],
}

impl Minutes {
    fn place(&mut self, key: i64) -> i64 {
        let recent = &mut self.recent[(key & 1) as usize];
        if recent.0 == key && !self.keys.is_empty() {
            return recent.1;
        }
        let place = *self.places.entry(key).or_insert_with(|| {
            self.keys.push(key);
            self.keys.len() as i64 - 1
        });
        *recent = (key, place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Book, BookBody, code_bytes, exchange};

    const HOUR_NS: i64 = 60 * MINUTE_NS;

    fn book(code: &str, lane: u8, exchange_ns: i64, volume: u32) -> Record {
        let mut header = Header::EMPTY;
        (header.kind, header.lane, header.exchange_ns) = (kind::BOOK, lane, exchange_ns);
        header.code = code_bytes(code).unwrap();
        Record::from_book(&Book { header, body: BookBody { bid_volume: [volume; 5], ..BookBody::ABSENT } })
    }

    fn repeated(marker: &mut Marker, records: &[Record]) -> Vec<bool> {
        marker.mark(records).repeated
    }

    #[test]
    fn a_repeat_has_the_code_lane_stamp_and_body_of_the_book_before_whatever_chunk_that_was_in() {
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
        let (records, wanted): (Vec<Record>, Vec<bool>) = table.into_iter().unzip();
        for size in 1..=records.len() {
            let mut marker = Marker::new(0..HOUR_NS, 0);
            let found: Vec<bool> = records.chunks(size).flat_map(|chunk| repeated(&mut marker, chunk)).collect();
            assert_eq!(found, wanted, "in chunks of {size}");
        }
    }

    #[test]
    fn how_a_book_travelled_does_not_matter_and_only_books_are_judged() {
        let (first, mut again, mut other) = (book("TXFD6", 1, 5, 1), book("TXFD6", 1, 5, 1), book("TXFD6", 1, 5, 1));
        (again.header_mut().sequence, again.header_mut().received_ns, again.header_mut().connection) = (9, 9, 9);
        other.header_mut().kind = kind::TRADE;
        assert_eq!(repeated(&mut Marker::new(0..HOUR_NS, 0), &[first, again, other]), [false, true, false]);
    }

    #[test]
    fn rows_of_a_table_are_by_code_then_sequence_and_every_record_is_one() {
        let mut records: Vec<Record> = ["B", "A", "B", "C", "A"].iter().map(|code| book(code, 1, 5, 1)).collect();
        records[3].header_mut().kind = kind::TRADE;
        records[4].header_mut().kind = kind::OUTAGE;
        let marks = Marker::new(0..HOUR_NS, 0).mark(&records);
        assert_eq!(marks.orders, [vec![3], vec![1, 0, 2], vec![], vec![], vec![4]]);
        assert_eq!(marks.unknown_kind, None);
        records[0].header_mut().kind = 99;
        records[1].header_mut().kind = 98;
        assert_eq!(Marker::new(0..HOUR_NS, 0).mark(&records).unknown_kind, Some(98));
    }

    #[test]
    fn a_record_is_of_its_believable_stamps_minute_and_market() {
        let mut records = [book("A", 1, 2 * MINUTE_NS, 1); 4];
        records[1].header_mut().exchange = exchange::TSE;
        (records[2].header_mut().exchange_ns, records[2].header_mut().received_ns) = (-1, MINUTE_NS + 7);
        (records[3].header_mut().exchange_ns, records[3].header_mut().received_ns) = (ABSENT_I64, HOUR_NS);
        let marks = Marker::new(0..HOUR_NS, 0).mark(&records);
        let keys: Vec<i64> = marks.minute_of.iter().map(|place| marks.minutes[*place as usize]).collect();
        assert_eq!(keys, [5, 4, 3, UNKNOWN_MINUTE + 1]);
        assert_eq!((marks.repeated[1], marks.strange), (true, vec![false, false, true, false]));
    }

    #[test]
    fn sequences_that_no_record_has_are_missing() {
        let of = |sequence: u64| {
            let mut record = book("A", 1, 5, 1);
            record.header_mut().sequence = sequence;
            record
        };
        let mut marker = Marker::new(0..HOUR_NS, 1);
        marker.mark(&[of(3), of(4), of(7)]);
        marker.mark(&[of(8), of(10)]);
        assert_eq!(marker.missing_until(10), [(1, 2), (5, 6), (9, 9)]);
        assert_eq!(marker.missing_until(12)[3..], [(11, 12)]);
    }
}
