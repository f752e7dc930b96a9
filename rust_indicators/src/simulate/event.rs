//! What the exchange tells of one code: a match, a push of the book, an odd-lot auction. Plain data; nothing happens here.
use super::LEVELS;
use super::calls::{Call, OddLotMatch};

/// Seller and buyer initiated, as the broker codes them (`tick_type`).
pub const BUY: u8 = 1;
pub const SELL: u8 = 2;
/// The best of both sides; price and volume 0 where a side is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Touch {
    pub bid_e6: i64,
    pub ask_e6: i64,
    pub bid_volume: u32,
    pub ask_volume: u32,
}

/// One match; `trial` matches are indicative and count nowhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Trade {
    pub exchange_ns: i64,
    pub session: usize,
    pub trial: bool,
    pub side: u8,
    pub volume: u32,
    pub price_e6: i64,
    pub amount_e6: i64,
    pub avg_e6: i64,
    /// Of the session so far, this match included.
    pub totals: Totals,
    pub underlying_e6: i64,
    /// Of the last push before the match.
    pub touch: Touch,
    /// The auction whose print this is.
    pub call: Option<Call>,
}

/// Five levels, best first; an empty level is price 0, volume 0, as the broker sends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    pub price_e6: [i64; LEVELS],
    pub volume: [u32; LEVELS],
    /// Against the volume at the same price in the previous push.
    pub change: [i32; LEVELS],
}

/// One push of the book.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    pub exchange_ns: i64,
    pub session: usize,
    pub trial: bool,
    pub suspended: bool,
    pub bid: Side,
    pub ask: Side,
    pub derived_bid_e6: i64,
    pub derived_ask_e6: i64,
    pub derived_bid_volume: u32,
    pub derived_ask_volume: u32,
    pub underlying_e6: i64,
}

impl Book {
    pub fn touch(&self) -> Touch {
        Touch {
            bid_e6: self.bid.price_e6[0],
            ask_e6: self.ask.price_e6[0],
            bid_volume: self.bid.volume[0],
            ask_volume: self.ask.volume[0],
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Trade(Trade),
    Book(Book),
    OddLots(OddLotMatch),
}

impl Event {
    pub fn exchange_ns(&self) -> i64 {
        match self {
            Event::Trade(trade) => trade.exchange_ns,
            Event::Book(book) => book.exchange_ns,
            Event::OddLots(matched) => matched.exchange_ns,
        }
    }

    pub fn trial(&self) -> bool {
        match self {
            Event::Trade(trade) => trade.trial,
            Event::Book(book) => book.trial,
            Event::OddLots(_) => false,
        }
    }
}

/// Running figures of one session, or of a trial; volumes in lots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub volume: u64,
    pub amount_e6: i64,
    pub open_e6: i64,
    pub high_e6: i64,
    pub low_e6: i64,
    pub bid_side_volume: u64,
    pub ask_side_volume: u64,
    pub bid_side_count: u64,
    pub ask_side_count: u64,
}

/// Fills in what changed against the push before.
pub fn changes(now: &mut Side, before: &Side) {
    for level in 0..LEVELS {
        if now.price_e6[level] != 0 {
            let same = (0..LEVELS).find(|&other| before.price_e6[other] == now.price_e6[level]);
            let previous = same.map_or(0, |other| before.volume[other]);
            now.change[level] = now.volume[level] as i32 - previous as i32;
        }
    }
}

/// Division of a signed numerator by a positive denominator, half away from zero.
pub fn round_div(numerator: i64, denominator: i64) -> i64 {
    let half = denominator / 2;
    if numerator >= 0 { (numerator + half) / denominator } else { (numerator - half) / denominator }
}
