//! Rows of a hftbacktest-style L5 recording (book differences and signed trades) → whole book snapshots and trades.
//! Not a matching engine: it only undoes the differences that the author of the file made.
use std::fmt;

/// Levels a side of one snapshot shows.
pub const LEVELS: usize = 5;
/// Price of a level that is not there; its volume is 0.
pub const EMPTY_PRICE_E6: i64 = i64::MIN;
/// The exchange stamps whole milliseconds; the file's stamps passed through float64 and are off by up to 192 ns.
const GRID_NS: i64 = 1_000_000;
/// How far `px × 10⁶` may be from an integer before the price is called inexact.
const PRICE_SLACK: f64 = 1e-3;
/// Largest magnitude that float64 holds without gaps; beyond it a price or quantity is not what was meant.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

const BID_DEPTH: u64 = 0xE000_0001;
const ASK_DEPTH: u64 = 0xD000_0001;
const BUY_TRADE: u64 = 0xE000_0002;
const SELL_TRADE: u64 = 0xD000_0002;
const CLEAR: u64 = 0xC000_0003;

/// One event of the file, in file order. Prices × 10⁶, times ns since the epoch UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // Books outnumber trades; a box each would cost more than the padding.
pub enum L5Event {
    Book(L5Book),
    Trade(L5Trade),
}

/// The five best levels of both sides, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L5Book {
    /// Source stamp rounded to the exchange's 1 ms grid.
    pub exchange_ns: i64,
    /// Source stamp − `exchange_ns`: nothing of the file is lost.
    pub source_offset_ns: i32,
    pub bid_price_e6: [i64; LEVELS],
    pub bid_volume: [i64; LEVELS],
    pub ask_price_e6: [i64; LEVELS],
    pub ask_volume: [i64; LEVELS],
}

/// One match; `side` 1 buyer-initiated, 2 seller-initiated, as the broker's `tick_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L5Trade {
    pub exchange_ns: i64,
    pub source_offset_ns: i32,
    pub price_e6: i64,
    pub volume: i64,
    pub side: u8,
}

/// Why the file cannot be read, and at which row (counted from 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L5Error {
    pub row: usize,
    pub reason: String,
}

impl fmt::Display for L5Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "row {}: {}", self.row, self.reason)
    }
}

impl std::error::Error for L5Error {}

/// The file's four columns, of equal length.
#[derive(Clone, Copy)]
pub struct L5Columns<'a> {
    pub ev: &'a [u64],
    pub exch_ts: &'a [i64],
    pub px: &'a [f64],
    pub qty: &'a [f64],
}

/// Turn the rows into snapshots and trades, in file order.
///
/// A snapshot ends where a trade or clear row comes, the stamp changes, a bid row follows an ask row, or a
/// (side, price) repeats: that is how the differences were written, and it restores every snapshot whole.
pub fn decode(columns: L5Columns<'_>) -> Result<Vec<L5Event>, L5Error> {
    let rows = columns.ev.len();
    if [columns.exch_ts.len(), columns.px.len(), columns.qty.len()] != [rows; 3] {
        return Err(fail(0, "the columns ev, exch_ts, px, qty differ in length".to_owned()));
    }
    let mut decoder = Decoder::with_capacity(rows / 4);
    for row in 0..rows {
        let (stamp, px, qty) = (columns.exch_ts[row], columns.px[row], columns.qty[row]);
        decoder.advance(row, stamp)?;
        match columns.ev[row] {
            BID_DEPTH => decoder.depth(row, false, price_e6(row, px)?, volume(row, qty)?)?,
            ASK_DEPTH => decoder.depth(row, true, price_e6(row, px)?, volume(row, qty)?)?,
            BUY_TRADE => decoder.trade(row, price_e6(row, px)?, volume(row, qty)?, 1)?,
            SELL_TRADE => decoder.trade(row, price_e6(row, px)?, volume(row, qty)?, 2)?,
            CLEAR => decoder.clear(row)?,
            ev => return Err(fail(row, format!("unknown event flags 0x{ev:08X}"))),
        }
    }
    decoder.cut(rows.saturating_sub(1))?;
    Ok(decoder.events)
}

fn fail(row: usize, reason: String) -> L5Error {
    L5Error { row, reason }
}

fn price_e6(row: usize, px: f64) -> Result<i64, L5Error> {
    let scaled = px * 1e6;
    let rounded = scaled.round();
    // The comparison is written so that NaN fails it.
    if !((scaled - rounded).abs() <= PRICE_SLACK && rounded.abs() <= EXACT_FLOAT_MAX) {
        return Err(fail(row, format!("price {px} is not a multiple of 0.000001")));
    }
    Ok(rounded as i64)
}

fn volume(row: usize, qty: f64) -> Result<i64, L5Error> {
    if !(0.0..=EXACT_FLOAT_MAX).contains(&qty) || qty.fract() != 0.0 {
        return Err(fail(row, format!("quantity {qty} is not a non-negative integer")));
    }
    Ok(qty as i64)
}

/// (stamp on the 1 ms grid, source stamp − that).
fn round_to_grid(stamp: i64) -> (i64, i32) {
    let exchange_ns = stamp.saturating_add(GRID_NS / 2).div_euclid(GRID_NS) * GRID_NS;
    (exchange_ns, (stamp - exchange_ns) as i32)
}

struct Decoder {
    events: Vec<L5Event>,
    /// Per side (bid, ask): (price, volume) best first.
    sides: [Vec<(i64, i64)>; 2],
    /// (is ask, price) written since the last cut.
    touched: Vec<(bool, i64)>,
    pending: bool,
    last_was_ask: bool,
    stamp: i64,
}

impl Decoder {
    fn with_capacity(events: usize) -> Self {
        let sides = [Vec::with_capacity(16), Vec::with_capacity(16)];
        let (touched, events) = (Vec::with_capacity(16), Vec::with_capacity(events));
        Self { events, sides, touched, pending: false, last_was_ask: false, stamp: i64::MIN }
    }

    /// Move to the stamp of the next row; a new stamp ends the snapshot.
    fn advance(&mut self, row: usize, stamp: i64) -> Result<(), L5Error> {
        if stamp < self.stamp {
            return Err(fail(row, format!("time goes backwards, from {} to {stamp} ns", self.stamp)));
        }
        if stamp != self.stamp {
            self.cut(row)?;
            self.stamp = stamp;
        }
        Ok(())
    }

    fn depth(&mut self, row: usize, is_ask: bool, price_e6: i64, volume: i64) -> Result<(), L5Error> {
        if (self.last_was_ask && !is_ask) || self.touched.contains(&(is_ask, price_e6)) {
            self.cut(row)?;
        }
        let levels = &mut self.sides[usize::from(is_ask)];
        let found = levels.iter().position(|&(known, _)| if is_ask { known >= price_e6 } else { known <= price_e6 });
        match found {
            Some(at) if levels[at].0 == price_e6 && volume == 0 => drop(levels.remove(at)),
            Some(at) if levels[at].0 == price_e6 => levels[at].1 = volume,
            _ if volume == 0 => {}
            Some(at) => levels.insert(at, (price_e6, volume)),
            None => levels.push((price_e6, volume)),
        }
        self.touched.push((is_ask, price_e6));
        self.pending = true;
        self.last_was_ask = is_ask;
        Ok(())
    }

    fn trade(&mut self, row: usize, price_e6: i64, volume: i64, side: u8) -> Result<(), L5Error> {
        self.cut(row)?;
        let (exchange_ns, source_offset_ns) = round_to_grid(self.stamp);
        self.events.push(L5Event::Trade(L5Trade { exchange_ns, source_offset_ns, price_e6, volume, side }));
        Ok(())
    }

    fn clear(&mut self, row: usize) -> Result<(), L5Error> {
        self.cut(row)?;
        self.sides.iter_mut().for_each(Vec::clear);
        self.pending = true;
        Ok(())
    }

    /// Push the snapshot that the rows before `row` complete, if any.
    fn cut(&mut self, row: usize) -> Result<(), L5Error> {
        self.last_was_ask = false;
        self.touched.clear();
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let (bids, asks) = (self.sides[0].len(), self.sides[1].len());
        if bids > LEVELS || asks > LEVELS {
            let reason =
                format!("the snapshot that ends here has {bids} bid and {asks} ask levels, not up to {LEVELS}");
            return Err(fail(row, reason));
        }
        let (exchange_ns, source_offset_ns) = round_to_grid(self.stamp);
        let (bid_price_e6, bid_volume) = padded(&self.sides[0]);
        let (ask_price_e6, ask_volume) = padded(&self.sides[1]);
        let book = L5Book { exchange_ns, source_offset_ns, bid_price_e6, bid_volume, ask_price_e6, ask_volume };
        self.events.push(L5Event::Book(book));
        Ok(())
    }
}

fn padded(levels: &[(i64, i64)]) -> ([i64; LEVELS], [i64; LEVELS]) {
    let (mut prices, mut volumes) = ([EMPTY_PRICE_E6; LEVELS], [0; LEVELS]);
    for (at, &(price_e6, volume)) in levels.iter().enumerate() {
        (prices[at], volumes[at]) = (price_e6, volume);
    }
    (prices, volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_775_694_655_000_999_936;

    type Row = (u64, i64, f64, f64);

    fn run(rows: &[Row]) -> Result<Vec<L5Event>, L5Error> {
        let ev: Vec<u64> = rows.iter().map(|row| row.0).collect();
        let exch_ts: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let px: Vec<f64> = rows.iter().map(|row| row.2).collect();
        let qty: Vec<f64> = rows.iter().map(|row| row.3).collect();
        decode(L5Columns { ev: &ev, exch_ts: &exch_ts, px: &px, qty: &qty })
    }

    fn bids(event: &L5Event) -> Vec<(i64, i64)> {
        let L5Event::Book(book) = event else { panic!("not a book: {event:?}") };
        let levels = book.bid_price_e6.into_iter().zip(book.bid_volume);
        levels.filter(|level| level.0 != EMPTY_PRICE_E6).collect()
    }

    #[test]
    fn stamps_are_rounded_to_the_millisecond_and_the_rest_is_kept() {
        let events = run(&[(SELL_TRADE, T, 35_100.5, 9.0)]).unwrap();
        let trade = L5Trade {
            exchange_ns: 1_775_694_655_001_000_000,
            source_offset_ns: -64,
            price_e6: 35_100_500_000,
            volume: 9,
            side: 2,
        };
        assert_eq!(events, [L5Event::Trade(trade)]);
    }

    #[test]
    fn snapshots_are_cut_at_trades_stamps_side_changes_and_repeats() {
        let second = T + 1_000_000;
        let events = run(&[
            (CLEAR, T, 0.0, 0.0),
            (BID_DEPTH, T, 10.0, 1.0),
            (ASK_DEPTH, T, 12.0, 1.0),
            (BID_DEPTH, T, 9.0, 2.0), // a bid after an ask
            (BID_DEPTH, T, 9.0, 3.0), // the same price again
            (BUY_TRADE, T, 12.0, 1.0),
            (BID_DEPTH, T, 10.0, 0.0),
            (BID_DEPTH, second, 11.0, 1.0),
        ])
        .unwrap();
        let (p9, p10, p11) = (9_000_000, 10_000_000, 11_000_000);
        assert_eq!(events.len(), 6);
        assert_eq!(bids(&events[0]), [(p10, 1)]);
        assert_eq!(bids(&events[1]), [(p10, 1), (p9, 2)]);
        assert_eq!(bids(&events[2]), [(p10, 1), (p9, 3)]);
        assert!(matches!(events[3], L5Event::Trade(L5Trade { side: 1, .. })));
        assert_eq!(bids(&events[4]), [(p9, 3)]);
        assert_eq!(bids(&events[5]), [(p11, 1), (p9, 3)]);
    }

    #[test]
    fn a_clear_without_depth_rows_is_an_empty_book() {
        let events = run(&[(BID_DEPTH, T, 10.0, 1.0), (CLEAR, T, 0.0, 0.0), (BUY_TRADE, T, 10.0, 1.0)]).unwrap();
        assert_eq!(bids(&events[0]), [(10_000_000, 1)]);
        assert_eq!(bids(&events[1]), []);
    }

    #[test]
    fn every_fault_names_its_row() {
        let sound = (BUY_TRADE, T, 10.0, 1.0);
        let cases: [(Row, &str); 8] = [
            ((0xE000_0005, T, 10.0, 1.0), "row 1: unknown event flags 0xE0000005"),
            ((BUY_TRADE, T - 1, 10.0, 1.0), "row 1: time goes backwards"),
            ((BUY_TRADE, T, 10.000_000_5, 1.0), "row 1: price 10.0000005 is not a multiple"),
            ((BUY_TRADE, T, f64::NAN, 1.0), "row 1: price NaN"),
            ((BUY_TRADE, T, 1e30, 1.0), "row 1: price 1000000000"),
            ((BID_DEPTH, T, 10.0, -1.0), "row 1: quantity -1"),
            ((BID_DEPTH, T, 10.0, 0.5), "row 1: quantity 0.5"),
            ((BID_DEPTH, T, 10.0, f64::NAN), "row 1: quantity NaN"),
        ];
        for (row, message) in cases {
            let error = run(&[sound, row]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn six_levels_at_a_cut_are_refused() {
        let mut rows: Vec<Row> = (0..6).map(|at| (BID_DEPTH, T, 10.0 - f64::from(at), 1.0)).collect();
        rows.push((BUY_TRADE, T, 10.0, 1.0));
        let error = run(&rows).unwrap_err();
        assert_eq!(error.row, 6);
        assert!(error.reason.contains("6 bid and 0 ask"), "{}", error.reason);
    }
}
