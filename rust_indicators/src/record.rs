//! The fixed-width record every event travels in: 256 bytes, little-endian, a header of 56 and a body of 200.
//! Not a codec for the broker's objects (`python/publisher.rs`) and not the file format (`segment.rs`).
//!
//! `shijim_live/events.py` is the twin; `tests/test_rust_layout.py` pins both: every field and every number.

use std::borrow::Cow;

/// Bumped whenever a field moves, appears or changes meaning; `events.py` says what changed at each.
pub const SCHEMA_VERSION: u32 = 1;
pub const RECORD_BYTES: usize = 256;
pub const HEADER_BYTES: usize = 56;
pub const RECORD_WORDS: usize = RECORD_BYTES / 8;
pub const CODE_BYTES: usize = 16;
pub const LEVELS: usize = 5;
/// Longest piece of text one record carries; longer text continues in the next record.
pub const TEXT_BYTES: usize = 168;

/// `field` of a side record that stands for all attributes without a field of their own: JSON by the broker's names.
pub const REST_FIELD: u16 = u16::MAX;

/// What the source could not know, or what travels in a side record because it does not fit here.
pub const ABSENT_I64: i64 = i64::MIN;
pub const ABSENT_I32: i32 = i32::MIN;
pub const ABSENT_U32: u32 = u32::MAX;
pub const ABSENT_U8: u8 = u8::MAX;
/// The price of a book level that holds nothing (the broker pads with price 0, volume 0).
pub const EMPTY_PRICE_E6: i64 = i64::MIN;

/// A module of constants that can also be listed, so that the test of both languages misses none.
macro_rules! numbers {
    (pub mod $module:ident: $type:ty { $($(#[$doc:meta])* $name:ident = $value:expr;)+ }) => {
        pub mod $module {
            $($(#[$doc])* pub const $name: $type = $value;)+
            pub const ALL: &[(&str, i64)] = &[$((stringify!($name), $name as i64)),+];
        }
    };
}

numbers!(pub mod kind: u8 {
    TRADE = 1;
    BOOK = 2;
    /// A push of an index, in the layout of a trade; what has no field there is a side record for `REST_FIELD`.
    INDEX = 3;
    /// How a code stood when it was asked about, in the layout of a trade, with a side record for `REST_FIELD` too.
    SNAPSHOT = 4;
    START = 16;
    STOP = 17;
    OUTAGE = 18;
    CONNECTION = 19;
    SUBSCRIPTION = 20;
    CLOCK_OFFSET = 21;
    /// Lots that the trade right before this one says were not delivered.
    GAP = 22;
    /// A field of the next event that does not fit the fixed record, as text.
    SIDE = 32;
    /// A broker object that could not be read, as text.
    QUARANTINE = 33;
});

numbers!(pub mod lane: u8 {
    BOARD = 1;
    ODD = 2;
    TRIAL = 3;
});

numbers!(pub mod exchange: u8 {
    TSE = 1;
    OTC = 2;
    OES = 3;
    TAIFEX = 4;
    TIM = 5;
});

numbers!(pub mod broker_class: u8 {
    TICK_STK_V1 = 1;
    TICK_FOP_V1 = 2;
    BIDASK_STK_V1 = 3;
    BIDASK_FOP_V1 = 4;
    TXF_L5 = 5;
    SHIOAJI_STREAM = 6;
    HISTORY_TICKS = 7;
    QUOTE_IDX_V1 = 8;
    SNAPSHOT = 9;
});

numbers!(pub mod flag: u32 {
    SUSPEND = 1;
    SIMTRADE = 1 << 1;
    INTRADAY_ODD = 1 << 2;
    /// Side records with the fields that do not fit stand right before this one.
    HAS_SIDE = 1 << 3;
    /// The lane was inferred from the session clock; the source does not say.
    LANE_INFERRED = 1 << 4;
    /// The aggressor was inferred; the source does not say.
    SIDE_INFERRED = 1 << 5;
    /// `exchange_ns` was put back on the source's grid; `source_offset_ns` gives the stamp as it came.
    TIME_ROUNDED = 1 << 6;
    /// The broker's decoder answers garbage with legal-looking values (price 0, year 2000): this looks like one.
    SUSPECT = 1 << 7;
    /// `total_volume` was counted up from the rows before, between two recorded totals; the source does not say.
    TOTAL_INFERRED = 1 << 8;
});

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    pub broker_class: u8,
    pub lane: u8,
    pub exchange: u8,
    pub flags: u32,
    /// Position in the run, from 1, without gaps over every kind.
    pub sequence: u64,
    /// Exchange clock, ns since the Unix epoch, UTC.
    pub exchange_ns: i64,
    /// Our clock at the first line of the callback, same epoch.
    pub received_ns: i64,
    /// ASCII, padded with zeros.
    pub code: [u8; CODE_BYTES],
    /// Which broker login delivered it.
    pub connection: u16,
    /// Trades: 1 buyer initiated, 2 seller initiated, 0 undetermined (the broker's `tick_type`).
    pub side: u8,
    /// Trades: the broker's `chg_type`.
    pub chg_type: u8,
    /// The source's own stamp minus `exchange_ns`; 0 for live events.
    pub source_offset_ns: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeBody {
    pub price_e6: i64,
    /// Lots; shares on the odd-lot lane.
    pub volume: u32,
    /// Lots of the session so far, this trade included.
    pub total_volume: u32,
    pub open_e6: i64,
    pub high_e6: i64,
    pub low_e6: i64,
    pub avg_price_e6: i64,
    pub amount_e6: i64,
    pub total_amount_e6: i64,
    pub price_chg_e6: i64,
    pub pct_chg_e6: i64,
    pub underlying_price_e6: i64,
    pub closing_oddlot_close_e6: i64,
    pub closing_oddlot_amount_e6: i64,
    pub closing_oddlot_bid_price_e6: i64,
    pub closing_oddlot_ask_price_e6: i64,
    pub fixed_trade_amount_e6: i64,
    pub bid_side_total_vol: u32,
    pub ask_side_total_vol: u32,
    pub bid_side_total_cnt: u32,
    pub ask_side_total_cnt: u32,
    pub closing_oddlot_shares: u32,
    pub fixed_trade_vol: u32,
    pub reserved: [u8; 48],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookBody {
    /// Best first; `EMPTY_PRICE_E6` where the level holds nothing.
    pub bid_price_e6: [i64; LEVELS],
    pub ask_price_e6: [i64; LEVELS],
    pub bid_volume: [u32; LEVELS],
    pub ask_volume: [u32; LEVELS],
    /// Change of each level against the broker's previous push, as the broker says.
    pub diff_bid_vol: [i32; LEVELS],
    pub diff_ask_vol: [i32; LEVELS],
    pub bid_total_vol: u32,
    pub ask_total_vol: u32,
    pub first_derived_bid_price_e6: i64,
    pub first_derived_ask_price_e6: i64,
    pub first_derived_bid_vol: u32,
    pub first_derived_ask_vol: u32,
    pub underlying_price_e6: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextBody {
    /// Outage: from the last thing known to the first thing known again, on our clock.
    pub begin_ns: i64,
    pub end_ns: i64,
    pub value: i64,
    /// Side records: which field of the next event (`events.FIELD_AT`).
    pub field: u16,
    pub part: u16,
    pub parts: u16,
    pub text_length: u16,
    pub text: [u8; TEXT_BYTES],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub header: Header,
    pub body: TradeBody,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Book {
    pub header: Header,
    pub body: BookBody,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    pub header: Header,
    pub body: TextBody,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(size_of::<Trade>() == RECORD_BYTES);
const _: () = assert!(size_of::<Book>() == RECORD_BYTES);
const _: () = assert!(size_of::<Text>() == RECORD_BYTES);
const _: () = assert!(cfg!(target_endian = "little"), "the log is little-endian");

/// One record as the ring and the log carry it; 8-byte aligned so that it is also 32 words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record(pub [u8; RECORD_BYTES]);

/// Plain structs without padding or invalid bit patterns: bytes and fields are two views of the same thing.
macro_rules! view {
    ($read:ident, $from:ident, $type:ty) => {
        pub fn $read(&self) -> &$type {
            // SAFETY: same size (asserted above), Record is 8-aligned, every bit pattern is a valid integer.
            unsafe { &*self.0.as_ptr().cast::<$type>() }
        }
        pub fn $from(value: &$type) -> Record {
            // SAFETY: as above; the structs are `repr(C)` without padding.
            Record(unsafe { *std::ptr::from_ref(value).cast::<[u8; RECORD_BYTES]>() })
        }
    };
}

impl Record {
    pub const ZERO: Record = Record([0; RECORD_BYTES]);

    view!(trade, from_trade, Trade);
    view!(book, from_book, Book);
    view!(text, from_text, Text);

    pub fn header(&self) -> &Header {
        &self.trade().header
    }

    pub fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `view!`: aligned, same bytes, every bit pattern valid.
        unsafe { &mut *self.0.as_mut_ptr().cast::<Header>() }
    }

    pub fn words(&self) -> &[u64; RECORD_WORDS] {
        // SAFETY: 256 bytes, 8-aligned, every bit pattern a valid u64.
        unsafe { &*self.0.as_ptr().cast::<[u64; RECORD_WORDS]>() }
    }

    pub fn words_mut(&mut self) -> &mut [u64; RECORD_WORDS] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { &mut *self.0.as_mut_ptr().cast::<[u64; RECORD_WORDS]>() }
    }

    pub fn code(&self) -> &[u8] {
        let code = &self.header().code;
        &code[..code.iter().position(|byte| *byte == 0).unwrap_or(CODE_BYTES)]
    }
}

/// Whole records in a byte slice of any alignment; the tail that is no whole record is not returned.
pub fn records_in(bytes: &[u8]) -> impl Iterator<Item = Record> + '_ {
    bytes.chunks_exact(RECORD_BYTES).map(|chunk| Record(chunk.try_into().expect("a chunk of 256 bytes")))
}

/// As `records_in`, without a copy where the bytes lie as records do, which those of Python and NumPy do.
pub fn records_of(bytes: &[u8]) -> Cow<'_, [Record]> {
    let (bytes, _) = bytes.as_chunks::<RECORD_BYTES>();
    if bytes.as_ptr().cast::<Record>().is_aligned() {
        // SAFETY: aligned, of the same size, every bit pattern is a record.
        return Cow::Borrowed(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) });
    }
    Cow::Owned(bytes.iter().map(|record| Record(*record)).collect())
}

impl Header {
    pub const EMPTY: Header = Header {
        kind: 0,
        broker_class: 0,
        lane: 0,
        exchange: 0,
        flags: 0,
        sequence: 0,
        exchange_ns: ABSENT_I64,
        received_ns: ABSENT_I64,
        code: [0; CODE_BYTES],
        connection: 0,
        side: 0,
        chg_type: ABSENT_U8,
        source_offset_ns: 0,
    };
}

impl TradeBody {
    /// Every field the source may not know is absent.
    pub const ABSENT: TradeBody = TradeBody {
        price_e6: ABSENT_I64,
        volume: ABSENT_U32,
        total_volume: ABSENT_U32,
        open_e6: ABSENT_I64,
        high_e6: ABSENT_I64,
        low_e6: ABSENT_I64,
        avg_price_e6: ABSENT_I64,
        amount_e6: ABSENT_I64,
        total_amount_e6: ABSENT_I64,
        price_chg_e6: ABSENT_I64,
        pct_chg_e6: ABSENT_I64,
        underlying_price_e6: ABSENT_I64,
        closing_oddlot_close_e6: ABSENT_I64,
        closing_oddlot_amount_e6: ABSENT_I64,
        closing_oddlot_bid_price_e6: ABSENT_I64,
        closing_oddlot_ask_price_e6: ABSENT_I64,
        fixed_trade_amount_e6: ABSENT_I64,
        bid_side_total_vol: ABSENT_U32,
        ask_side_total_vol: ABSENT_U32,
        bid_side_total_cnt: ABSENT_U32,
        ask_side_total_cnt: ABSENT_U32,
        closing_oddlot_shares: ABSENT_U32,
        fixed_trade_vol: ABSENT_U32,
        reserved: [0; 48],
    };
}

impl BookBody {
    /// An empty book; every field the source may not know is absent.
    pub const ABSENT: BookBody = BookBody {
        bid_price_e6: [EMPTY_PRICE_E6; LEVELS],
        ask_price_e6: [EMPTY_PRICE_E6; LEVELS],
        bid_volume: [0; LEVELS],
        ask_volume: [0; LEVELS],
        diff_bid_vol: [ABSENT_I32; LEVELS],
        diff_ask_vol: [ABSENT_I32; LEVELS],
        bid_total_vol: ABSENT_U32,
        ask_total_vol: ABSENT_U32,
        first_derived_bid_price_e6: ABSENT_I64,
        first_derived_ask_price_e6: ABSENT_I64,
        first_derived_bid_vol: ABSENT_U32,
        first_derived_ask_vol: ABSENT_U32,
        underlying_price_e6: ABSENT_I64,
    };
}

/// `code` padded with zeros, or `None` when it is not 1 to 16 ASCII bytes.
pub fn code_bytes(code: &str) -> Option<[u8; CODE_BYTES]> {
    if code.is_empty() || code.len() > CODE_BYTES || !code.is_ascii() || code.contains('\0') {
        return None;
    }
    let mut padded = [0; CODE_BYTES];
    padded[..code.len()].copy_from_slice(code.as_bytes());
    Some(padded)
}

/// Text as one record or several; every part repeats the header and, of UTF-8, holds whole characters.
pub fn text_records(header: &Header, times: (i64, i64), value: i64, field: u16, text: &[u8]) -> Vec<Record> {
    let chunks = text_parts(text);
    let parts = u16::try_from(chunks.len()).unwrap_or(u16::MAX);
    chunks
        .iter()
        .take(usize::from(parts))
        .enumerate()
        .map(|(part, chunk)| {
            let mut padded = [0; TEXT_BYTES];
            padded[..chunk.len()].copy_from_slice(chunk);
            let body = TextBody {
                begin_ns: times.0,
                end_ns: times.1,
                value,
                field,
                part: part as u16,
                parts,
                text_length: chunk.len() as u16,
                text: padded,
            };
            Record::from_text(&Text { header: *header, body })
        })
        .collect()
}

fn text_parts(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while rest.len() > TEXT_BYTES {
        // No character is longer than four bytes: what goes on after three is not UTF-8, and may be cut anywhere.
        let starts = |at: &usize| rest[*at] & 0xC0 != 0x80;
        let (part, behind) = rest.split_at((TEXT_BYTES - 3..=TEXT_BYTES).rev().find(starts).unwrap_or(TEXT_BYTES));
        parts.push(part);
        rest = behind;
    }
    parts.push(rest);
    parts
}

/// Order-free fingerprint of a set of records: equal multisets have equal sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MultisetHash {
    pub count: u64,
    pub sum: u64,
}

impl MultisetHash {
    pub fn add(&mut self, record: &Record) {
        self.add_bytes(&record.0);
    }

    pub fn add_bytes(&mut self, record: &[u8; RECORD_BYTES]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_as_bytes_words_and_fields() {
        let mut header = Header::EMPTY;
        header.kind = kind::TRADE;
        header.sequence = 7;
        header.code = code_bytes("TXFD6").unwrap();
        let record = Record::from_trade(&Trade { header, body: TradeBody { volume: 3, ..TradeBody::ABSENT } });
        let mut copy = Record::ZERO;
        *copy.words_mut() = *record.words();
        assert_eq!(copy.0, record.0);
        assert_eq!((record.header().sequence, record.trade().body.volume, record.code()), (7, 3, &b"TXFD6"[..]));
    }

    #[test]
    fn long_text_continues_in_the_next_record() {
        let text = vec![b'x'; TEXT_BYTES + 1];
        let records = text_records(&Header::EMPTY, (1, 2), 3, 4, &text);
        let lengths: Vec<u16> = records.iter().map(|record| record.text().body.text_length).collect();
        assert_eq!(lengths, [168, 1]);
        assert_eq!(records[1].text().body.parts, 2);
    }

    #[test]
    fn no_character_is_split_between_two_records_and_no_byte_is_lost() {
        for shift in 0..4 {
            let text = ["x".repeat(shift), "台灣🀄é".repeat(60)].concat();
            let records = text_records(&Header::EMPTY, (1, 2), 3, 4, text.as_bytes());
            let part = |record: &Record| record.text().body.text[..record.text().body.text_length.into()].to_vec();
            assert_eq!(records.iter().map(|record| String::from_utf8(part(record)).unwrap()).collect::<String>(), text);
        }
        let garbage = [0x80; 400];
        let lengths: Vec<u16> = text_records(&Header::EMPTY, (1, 2), 3, 4, &garbage)
            .iter()
            .map(|record| record.text().body.text_length)
            .collect();
        assert_eq!(lengths, [168, 168, 64]);
    }

    #[test]
    fn the_multiset_hash_ignores_order_but_not_multiplicity() {
        let (a, b) = (Record([1; 256]), Record([2; 256]));
        let hash = |records: &[Record]| {
            let mut hash = MultisetHash::default();
            records.iter().for_each(|record| hash.add(record));
            hash
        };
        assert_eq!(hash(&[a, b, a]), hash(&[a, a, b]));
        assert_ne!(hash(&[a, b, a]), hash(&[a, b, b]));
        assert_ne!(hash(&[a, b]), hash(&[a, b, b, b]));
    }

    #[test]
    fn a_code_must_be_one_to_sixteen_ascii_bytes() {
        assert!(
            code_bytes("").is_none() && code_bytes("台積電").is_none() && code_bytes("12345678901234567").is_none()
        );
        assert_eq!(&code_bytes("2330").unwrap()[..5], b"2330\0");
    }
}
