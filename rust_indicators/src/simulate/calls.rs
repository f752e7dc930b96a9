//! Call auctions, what leads to one in mid-session, and the odd-lot lane. One code's; the book they act on is `market`.
use std::collections::VecDeque;

use super::random::Random;
use super::{Config, Instrument, Market};

/// Of a volatility interruption.
pub const PAUSE_NS: i64 = 120_000_000_000;
const AVERAGE_NS: i64 = 300_000_000_000;
/// The odd-lot lane's first auction comes this long after the open.
const ODD_LOT_WAIT_NS: i64 = 600_000_000_000;
const ODD_LOT_SHARES_MAX: u64 = 999;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CallKind {
    Opening = 0,
    Closing = 1,
    Pause = 2,
}

/// Orders are collected, trial matches are shown, one print ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    pub kind: CallKind,
    pub session: usize,
    pub start_ns: i64,
    pub end_ns: i64,
    /// What its print will be.
    pub lots: u32,
}

impl Call {
    /// What would match now: it grows as orders come in, and is never more than the print.
    pub fn lots_at(&self, ns: i64) -> u32 {
        let share =
            i128::from(ns - self.start_ns) * i128::from(self.lots) / i128::from((self.end_ns - self.start_ns).max(1));
        (share as u32).clamp(1, self.lots)
    }
}

/// The average a match is held against: of the matches of the last five minutes, by volume.
pub struct Average {
    per_mille: i64,
    matches: VecDeque<(i64, i64, i64)>,
    lots: i64,
    turnover_e6: i128,
}

impl Average {
    /// None where no pause is known: without the rule, and for futures.
    pub fn new(config: &Config, instrument: &Instrument) -> Option<Average> {
        let per_mille = config.rules.pause_per_mille as i64;
        let ruled = per_mille > 0 && instrument.market == Market::Stock;
        ruled.then(|| Average { per_mille, matches: VecDeque::new(), lots: 0, turnover_e6: 0 })
    }

    /// Would a match at this price pause the code? Never the first of five minutes.
    pub fn forbids(&mut self, ns: i64, price_e6: i64) -> bool {
        while self.matches.front().is_some_and(|(at_ns, ..)| *at_ns < ns - AVERAGE_NS) {
            let (_, lots, old_e6) = self.matches.pop_front().unwrap_or_default();
            self.lots -= lots;
            self.turnover_e6 -= i128::from(lots) * i128::from(old_e6);
        }
        let away = (i128::from(price_e6) * i128::from(self.lots) - self.turnover_e6).abs();
        away * 1_000 > self.turnover_e6 * i128::from(self.per_mille)
    }

    pub fn add(&mut self, ns: i64, price_e6: i64, lots: u32) {
        self.matches.push_back((ns, lots.into(), price_e6));
        self.lots += i64::from(lots);
        self.turnover_e6 += i128::from(lots) * i128::from(price_e6);
    }

    /// After an auction its price is what counts.
    pub fn restart(&mut self) {
        self.matches.clear();
        (self.lots, self.turnover_e6) = (0, 0);
    }
}

/// One auction of the odd-lot lane. In the truth only: an SDK object that says `intraday_odd` cannot be made offline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OddLotMatch {
    pub exchange_ns: i64,
    pub session: usize,
    pub price_e6: i64,
    pub shares: u32,
    pub total_shares: u64,
    /// More wanted to buy than to sell at this price.
    pub buyers_left: bool,
}

/// The lane of one stock: an auction every interval, a third of which match something.
pub struct OddLots {
    random: Random,
    interval_ns: i64,
    session: usize,
    next_ns: i64,
    close_ns: i64,
    total_shares: u64,
}

impl OddLots {
    pub fn new(config: &Config, instrument: &Instrument) -> Option<OddLots> {
        let of_market = |session: &super::Session| session.market == Market::Stock;
        let session = config.sessions.iter().position(of_market).filter(|_| instrument.market == Market::Stock)?;
        let interval_ns = config.rules.odd_lot_interval_ns;
        (interval_ns > 0).then(|| OddLots {
            random: config.random(&format!("odd lots {}", instrument.code)),
            interval_ns,
            session,
            next_ns: config.sessions[session].open_ns + ODD_LOT_WAIT_NS,
            close_ns: config.sessions[session].close_ns,
            total_shares: 0,
        })
    }

    /// The next auction up to `ns` that matches something, at a price near the board's; `price` gives it by offset.
    pub fn next_until(&mut self, ns: i64, price: impl Fn(i64) -> i64) -> Option<OddLotMatch> {
        while self.next_ns <= ns.min(self.close_ns) {
            let exchange_ns = self.next_ns;
            self.next_ns += self.interval_ns;
            if self.random.chance(1, 3) {
                let offset = [-1, 0, 0, 0, 1, 1, 1, 2][self.random.below(8) as usize];
                let shares =
                    1 + self.random.below(ODD_LOT_SHARES_MAX).min(self.random.below(ODD_LOT_SHARES_MAX)) as u32;
                self.total_shares += u64::from(shares);
                return Some(OddLotMatch {
                    exchange_ns,
                    session: self.session,
                    price_e6: price(offset),
                    shares,
                    total_shares: self.total_shares,
                    buyers_left: self.random.chance(1, 2),
                });
            }
        }
        None
    }
}
