//! MessagePack arrays exactly as the broker's SDK reads them: smallest integers, short strings, positional slots.
//! Not a MessagePack library: only what the four quote classes need.
use super::event::{Book, Trade, round_div};
use super::{E6, Instrument, LEVELS};
use crate::wall_clock::{DAY_NS, TAIPEI_OFFSET_NS, civil_from_days};

/// TickSTKv1 (29 slots).
pub fn tick_stock(out: &mut Vec<u8>, instrument: &Instrument, trade: &Trade) {
    let totals = &trade.totals;
    array(out, 29);
    head(out, &instrument.code, trade.exchange_ns);
    for price in [totals.open_e6, trade.avg_e6, trade.price_e6, totals.high_e6, totals.low_e6] {
        decimal(out, price);
    }
    decimal(out, trade.amount_e6);
    decimal(out, totals.amount_e6);
    unsigned(out, trade.volume.into());
    unsigned(out, totals.volume);
    unsigned(out, trade.side.into());
    unsigned(out, change_type(instrument, trade.price_e6));
    let change = trade.price_e6 - instrument.reference_e6;
    decimal(out, change);
    signed(out, round_div(change * 10_000, instrument.reference_e6));
    for total in [totals.bid_side_volume, totals.ask_side_volume, totals.bid_side_count, totals.ask_side_count, 0] {
        unsigned(out, total);
    }
    for _closing_oddlot in 0..4 {
        decimal(out, 0);
    }
    unsigned(out, 0);
    decimal(out, 0);
    boolean(out, false);
    boolean(out, trade.trial);
}

/// TickFOPv1 (20 slots).
pub fn tick_futures(out: &mut Vec<u8>, instrument: &Instrument, trade: &Trade) {
    let totals = &trade.totals;
    array(out, 20);
    head(out, &instrument.code, trade.exchange_ns);
    decimal(out, totals.open_e6);
    decimal(out, trade.underlying_e6);
    unsigned(out, totals.bid_side_volume);
    unsigned(out, totals.ask_side_volume);
    for price in [trade.avg_e6, trade.price_e6, totals.high_e6, totals.low_e6] {
        decimal(out, price);
    }
    decimal(out, trade.amount_e6);
    decimal(out, totals.amount_e6);
    unsigned(out, trade.volume.into());
    unsigned(out, totals.volume);
    unsigned(out, trade.side.into());
    unsigned(out, change_type(instrument, trade.price_e6));
    let change = trade.price_e6 - instrument.reference_e6;
    decimal(out, change);
    decimal(out, round_div(change * 100 * E6, instrument.reference_e6));
    boolean(out, trade.trial);
}

/// BidAskSTKv1 (11 slots).
pub fn book_stock(out: &mut Vec<u8>, instrument: &Instrument, book: &Book) {
    array(out, 11);
    head(out, &instrument.code, book.exchange_ns);
    levels(out, book);
    boolean(out, book.suspended);
    boolean(out, book.trial);
}

/// BidAskFOPv1 (17 slots).
pub fn book_futures(out: &mut Vec<u8>, instrument: &Instrument, book: &Book) {
    array(out, 17);
    head(out, &instrument.code, book.exchange_ns);
    unsigned(out, book.bid.volume.iter().map(|&v| u64::from(v)).sum());
    unsigned(out, book.ask.volume.iter().map(|&v| u64::from(v)).sum());
    levels(out, book);
    decimal(out, book.derived_bid_e6);
    decimal(out, book.derived_ask_e6);
    unsigned(out, book.derived_bid_volume.into());
    unsigned(out, book.derived_ask_volume.into());
    decimal(out, book.underlying_e6);
    boolean(out, book.trial);
}

fn levels(out: &mut Vec<u8>, book: &Book) {
    for side in [&book.bid, &book.ask] {
        array(out, LEVELS);
        side.price_e6.iter().for_each(|&price| decimal(out, price));
        array(out, LEVELS);
        side.volume.iter().for_each(|&volume| unsigned(out, volume.into()));
        array(out, LEVELS);
        side.change.iter().for_each(|&change| signed(out, change.into()));
    }
}

/// 1 limit up, 2 up, 3 flat, 4 down, 5 limit down.
fn change_type(instrument: &Instrument, price_e6: i64) -> u64 {
    let (low, high) = instrument.limits();
    match price_e6 {
        p if p >= high => 1,
        p if p <= low => 5,
        p if p > instrument.reference_e6 => 2,
        p if p < instrument.reference_e6 => 4,
        _ => 3,
    }
}

fn head(out: &mut Vec<u8>, code: &str, exchange_ns: i64) {
    text(out, code.as_bytes());
    let wall = exchange_ns + TAIPEI_OFFSET_NS;
    let (year, month, day) = civil_from_days(wall.div_euclid(DAY_NS));
    let mut date = *b"0000/00/00";
    digits(&mut date[0..4], year as u64);
    digits(&mut date[5..7], month as u64);
    digits(&mut date[8..10], day as u64);
    text(out, &date);
    let micros = (wall.rem_euclid(DAY_NS) / 1_000) as u64;
    let seconds = micros / 1_000_000;
    let mut time = *b"00:00:00.000000";
    digits(&mut time[0..2], seconds / 3_600);
    digits(&mut time[3..5], seconds / 60 % 60);
    digits(&mut time[6..8], seconds % 60);
    digits(&mut time[9..15], micros % 1_000_000);
    text(out, &time);
}

fn digits(field: &mut [u8], mut value: u64) {
    for place in field.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// A price string without trailing zeros: 52350000 becomes "52.35".
fn decimal(out: &mut Vec<u8>, value_e6: i64) {
    let mut buffer = [0_u8; 24];
    let mut start = buffer.len();
    let magnitude = value_e6.unsigned_abs();
    let mut fraction = magnitude % E6 as u64;
    if fraction != 0 {
        let mut places = 6;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            places -= 1;
        }
        digits(&mut buffer[start - places..], fraction);
        start -= places + 1;
        buffer[start] = b'.';
    }
    let mut whole = magnitude / E6 as u64;
    loop {
        start -= 1;
        buffer[start] = b'0' + (whole % 10) as u8;
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    if value_e6 < 0 {
        start -= 1;
        buffer[start] = b'-';
    }
    text(out, &buffer[start..]);
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() < 32, "the SDK is only sent short strings");
    out.push(0xa0 | bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn array(out: &mut Vec<u8>, len: usize) {
    if len < 16 {
        out.push(0x90 | len as u8);
    } else {
        out.extend_from_slice(&[0xdc, 0, len as u8]);
    }
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

fn unsigned(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn signed(out: &mut Vec<u8>, value: i64) {
    match value {
        0.. => unsigned(out, value as u64),
        -32..=-1 => out.push(value as u8),
        -128..=-33 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(value as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn integers_take_the_smallest_form_at_every_boundary() {
        let cases: [(i64, &[u8]); 13] = [
            (0, &[0x00]),
            (127, &[0x7f]),
            (128, &[0xcc, 0x80]),
            (255, &[0xcc, 0xff]),
            (256, &[0xcd, 1, 0]),
            (65_536, &[0xce, 0, 1, 0, 0]),
            (1 << 32, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
            (-1, &[0xff]),
            (-32, &[0xe0]),
            (-33, &[0xd0, 0xdf]),
            (-129, &[0xd1, 0xff, 0x7f]),
            (-32_769, &[0xd2, 0xff, 0xff, 0x7f, 0xff]),
            (-2_147_483_649, &[0xd3, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        ];
        for (value, bytes) in cases {
            assert_eq!(written(|out| signed(out, value)), bytes, "{value}");
        }
    }

    #[test]
    fn prices_are_strings_without_trailing_zeros() {
        for (value, expected) in [
            (0, "0"),
            (52_350_000, "52.35"),
            (-500_000, "-0.5"),
            (1_000_000_000, "1000"),
            (27_223_456_789, "27223.456789"),
            (10, "0.00001"),
            (i64::MAX, "9223372036854.775807"),
        ] {
            let bytes = written(|out| decimal(out, value));
            assert_eq!(std::str::from_utf8(&bytes[1..]).unwrap(), expected);
            assert_eq!(bytes[0], 0xa0 | expected.len() as u8);
        }
    }

    #[test]
    fn stamps_are_the_taipei_wall_clock_with_the_date_of_that_clock() {
        // 2026-02-28 16:00 UTC is already the first of March in Taipei.
        let bytes = written(|out| head(out, "TXFC6", 1_772_294_400_000_123_000));
        assert_eq!(&bytes[7..17], b"2026/03/01");
        assert_eq!(&bytes[18..], b"00:00:00.000123");
    }
}
