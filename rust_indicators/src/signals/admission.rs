//! Which events of an instrument a signal may see, and where its memory ends. Sizes no gap: `continuity.rs` does.
//!
//! Rules, in order, for a trade or book of the board lane:
//!   1. garbage of the broker's decoder, a halt, a trial match: not fed; the next one that is begins anew
//!   2. another session than before: begins anew
//!   3. stamped before the newest of its kind: stale, not fed; a minute or more before: the newest was wrong, a gap
//!   4. a book equal to the one before, stamp included: a repeat, not fed
//!   5. a trade whose total is not the last total plus its volume: above, or after a fall, a gap; seen before, not fed
use crate::continuity::{session_window, window_ns};
use crate::record::{ABSENT_I64, ABSENT_U32, BookBody, Record, TradeBody, flag, kind, lane};
use crate::wall_clock::SECOND_NS;

/// A stamp this far back is no late delivery: the one before was wrong.
pub const STALE_NS_MAX: i64 = 60 * SECOND_NS;
/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Nothing: no signal sees it.
    No,
    Feed,
    /// The state begins anew, then feed.
    Reset,
    /// Events are missing: the state begins anew and says so, then feed.
    Taint,
}

/// What is remembered of one instrument.
#[derive(Clone, Debug)]
pub struct Admission {
    futures: bool,
    /// [from, until) of the session.
    session_ns: (i64, i64),
    interrupted: bool,
    newest_book_ns: i64,
    newest_trade_ns: i64,
    last_book: Option<([i64; 10], [u32; 10])>,
    last_total: Option<u32>,
}

impl Admission {
    pub fn new(futures: bool) -> Self {
        Self {
            futures,
            session_ns: (0, 0),
            interrupted: false,
            newest_book_ns: i64::MIN,
            newest_trade_ns: i64::MIN,
            last_book: None,
            last_total: None,
        }
    }

    /// What to do with a trade or book; any other kind is not fed.
    pub fn admit(&mut self, record: &Record) -> Admitted {
        let header = record.header();
        if !matches!(header.kind, kind::TRADE | kind::BOOK) || header.lane == lane::ODD {
            return Admitted::No;
        }
        if header.exchange_ns == ABSENT_I64 || header.flags & flag::SUSPECT != 0 {
            return Admitted::No;
        }
        if header.lane != lane::BOARD || header.flags & flag::SUSPEND != 0 {
            self.interrupted = true;
            return Admitted::No;
        }
        let began = self.enter_session(header.exchange_ns);
        let resumed = std::mem::take(&mut self.interrupted);
        if began {
            self.forget();
        }
        let fed = match header.kind {
            kind::BOOK => self.admit_book(header.exchange_ns, &record.book().body),
            _ => self.admit_trade(header.exchange_ns, &record.trade().body),
        };
        match fed {
            Admitted::Feed if began || resumed => Admitted::Reset,
            Admitted::No => {
                self.interrupted |= resumed;
                Admitted::No
            }
            other => other,
        }
    }

    /// Events of this instrument are missing that nobody saw: what follows is judged as the first.
    pub fn forget(&mut self) {
        self.newest_book_ns = i64::MIN;
        self.newest_trade_ns = i64::MIN;
        self.last_book = None;
        self.last_total = None;
    }

    /// True when the stamp lies in another session than the one before.
    fn enter_session(&mut self, exchange_ns: i64) -> bool {
        if (self.session_ns.0..self.session_ns.1).contains(&exchange_ns) {
            return false;
        }
        let (day, night) = session_window(exchange_ns, self.futures);
        self.session_ns = window_ns(day, night, self.futures);
        true
    }

    fn admit_book(&mut self, exchange_ns: i64, book: &BookBody) -> Admitted {
        let levels = levels_of(book);
        let before_ns = self.newest_book_ns;
        if exchange_ns < before_ns {
            return self.stale(exchange_ns, before_ns, |state| {
                state.newest_book_ns = exchange_ns;
                state.last_book = Some(levels);
            });
        }
        if exchange_ns == before_ns && self.last_book == Some(levels) {
            return Admitted::No;
        }
        self.newest_book_ns = exchange_ns;
        self.last_book = Some(levels);
        Admitted::Feed
    }

    fn admit_trade(&mut self, exchange_ns: i64, trade: &TradeBody) -> Admitted {
        let before_ns = self.newest_trade_ns;
        let (total, volume) = (trade.total_volume, trade.volume);
        if volume == ABSENT_U32 || trade.price_e6 == ABSENT_I64 {
            return Admitted::No;
        }
        if exchange_ns < before_ns {
            return self.stale(exchange_ns, before_ns, |state| {
                state.newest_trade_ns = exchange_ns;
                state.last_total = (total != ABSENT_U32).then_some(total);
            });
        }
        let Some(last) = self.last_total.filter(|_| total != ABSENT_U32) else {
            self.newest_trade_ns = exchange_ns;
            self.last_total = (total != ABSENT_U32).then_some(total).or(self.last_total);
            return Admitted::Feed;
        };
        if total <= last && exchange_ns == before_ns {
            return Admitted::No;
        }
        self.newest_trade_ns = exchange_ns;
        self.last_total = Some(total);
        if total.checked_sub(volume) == Some(last) { Admitted::Feed } else { Admitted::Taint }
    }

    fn stale(&mut self, exchange_ns: i64, newest_ns: i64, follow: impl FnOnce(&mut Self)) -> Admitted {
        if newest_ns.saturating_sub(exchange_ns) < STALE_NS_MAX {
            return Admitted::No;
        }
        follow(self);
        Admitted::Taint
    }
}

fn levels_of(book: &BookBody) -> ([i64; 10], [u32; 10]) {
    let (mut prices, mut volumes) = ([0; 10], [0; 10]);
    prices[..5].copy_from_slice(&book.bid_price_e6);
    prices[5..].copy_from_slice(&book.ask_price_e6);
    volumes[..5].copy_from_slice(&book.bid_volume);
    volumes[5..].copy_from_slice(&book.ask_volume);
    (prices, volumes)
}
