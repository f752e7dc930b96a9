//! Bars of trades: by time, count, volume and value. Not their storage.
//! López de Prado (2018), Advances in Financial Machine Learning, chapter 2.
use super::rolling::PRICE_E6_MAX;
use super::{Refused, VOLUME_MAX, Validity, restart, restarts, same_rows};

/// Latest stamp, and longest interval: the end of a window fits 64 bits.
pub const STAMP_NS_MAX: i64 = 1 << 62;

/// One trade. Stamp in ns since the Unix epoch, price × 10⁶, lots; side 1 buyer, 2 seller initiated, 0 unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub exchange_ns: i64,
    pub price_e6: i64,
    pub volume: i64,
    pub side: u8,
}

/// Columns of trades, a row each, in order.
#[derive(Clone, Copy)]
pub struct Trades<'a> {
    pub exchange_ns: &'a [i64],
    pub price_e6: &'a [i64],
    pub volume: &'a [i64],
    pub side: &'a [u8],
}

impl Trades<'_> {
    fn rows(&self) -> Result<usize, Refused> {
        same_rows(&[
            ("exchange_ns", self.exchange_ns.len()),
            ("price_e6", self.price_e6.len()),
            ("volume", self.volume.len()),
            ("side", self.side.len()),
        ])
    }

    fn row(&self, row: usize) -> Trade {
        Trade {
            exchange_ns: self.exchange_ns[row],
            price_e6: self.price_e6[row],
            volume: self.volume[row],
            side: self.side[row],
        }
    }
}

/// What a bar holds. Time bars have the edges of their window as start and end, others the stamps of their first and
/// last trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub start_ns: i64,
    pub end_ns: i64,
    pub open_e6: i64,
    pub high_e6: i64,
    pub low_e6: i64,
    pub close_e6: i64,
    pub volume: i64,
    pub buy_volume: i64,
    pub sell_volume: i64,
    /// Σ price × volume, × 10⁶.
    pub value_e6: i64,
    pub trades: i64,
    /// Row of its last trade, counted from the first one ever given.
    pub last_row: i64,
    /// Tainted where trades of it may be missing.
    pub validity: Validity,
}

/// What ends a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The edge of a window (edge, edge + ns] at a multiple of ns.
    TimeNs(i64),
    /// Reaching so many trades, lots, or price × lots × 10⁶.
    Trades(i64),
    Volume(i64),
    ValueE6(i64),
}

impl Close {
    pub fn check(self) -> Result<Self, Refused> {
        let (argument, value) = match self {
            Self::TimeNs(value) => ("interval_ns", value),
            Self::Trades(value) => ("trades", value),
            Self::Volume(value) => ("lots", value),
            Self::ValueE6(value) => ("value_e6", value),
        };
        if !(1..=STAMP_NS_MAX).contains(&value) {
            return Err(Refused::new(argument, format!("{value} is not within 1 … 2⁶²")));
        }
        Ok(self)
    }

    fn reached(self, bar: &Bar) -> bool {
        match self {
            Self::TimeNs(_) => false,
            Self::Trades(trades) => bar.trades >= trades,
            Self::Volume(lots) => bar.volume >= lots,
            Self::ValueE6(value) => bar.value_e6 >= value,
        }
    }
}

/// The finished bars of the columns, those that a restart cut short among them, the one open at the end not.
pub fn bars(trades: Trades<'_>, close: Close, marks: Option<&[u8]>) -> Result<Vec<Bar>, Refused> {
    OpenBar::new(close)?.update_many(trades, marks)
}

/// Streaming bars: the one that is open, and what ends it.
#[derive(Clone, Copy, Debug)]
pub struct OpenBar {
    close: Close,
    open: Option<Bar>,
    rows: i64,
    latest_ns: i64,
    /// Trades are missing since the last bar.
    gap: bool,
    finished: Option<Bar>,
    validity: Validity,
}

impl OpenBar {
    pub fn new(close: Close) -> Result<Self, Refused> {
        Ok(Self {
            close: close.check()?,
            open: None,
            rows: 0,
            latest_ns: 0,
            gap: false,
            finished: None,
            validity: Validity::WarmingUp,
        })
    }

    /// Why the trade cannot be the next one.
    pub fn check(&self, trade: Trade) -> Result<(), Refused> {
        let Trade { exchange_ns, price_e6, volume, side } = trade;
        if !(0..=STAMP_NS_MAX).contains(&exchange_ns) {
            return Err(Refused::new("exchange_ns", format!("{exchange_ns} is not within 0 … 2⁶²")));
        }
        if exchange_ns < self.latest_ns {
            return Err(Refused::new("exchange_ns", format!("{exchange_ns} goes back, behind {}", self.latest_ns)));
        }
        if !(-PRICE_E6_MAX..=PRICE_E6_MAX).contains(&price_e6) {
            return Err(Refused::new("price_e6", format!("{price_e6} is not within −2⁴⁶ … 2⁴⁶")));
        }
        if price_e6 < 0 && matches!(self.close, Close::ValueE6(_)) {
            return Err(Refused::new("price_e6", format!("{price_e6} is negative, so that value would shrink")));
        }
        if !(0..=VOLUME_MAX).contains(&volume) {
            return Err(Refused::new("volume", format!("{volume} is not within 0 … 2⁴⁰")));
        }
        if side > 2 {
            return Err(Refused::new("side", format!("{side} is not 0 (unknown), 1 (buy) or 2 (sell)")));
        }
        let bar = self.open.filter(|bar| !self.ends_before(bar, exchange_ns));
        let (lots, value) = bar.map_or((0, 0), |bar| (bar.volume, bar.value_e6));
        match (price_e6.checked_mul(volume).and_then(|more| value.checked_add(more)), lots.checked_add(volume)) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(Refused::new("volume", format!("{volume} at {price_e6} takes the bar's sums beyond 2⁶³"))),
        }
    }

    fn ends_before(&self, bar: &Bar, exchange_ns: i64) -> bool {
        matches!(self.close, Close::TimeNs(_)) && exchange_ns > bar.end_ns
    }

    /// The bar this trade ends: before it, by time; with it, otherwise. The trade must have passed `check`.
    #[inline]
    pub fn update(&mut self, trade: Trade) -> Option<Bar> {
        let before = match self.open {
            Some(bar) if self.ends_before(&bar, trade.exchange_ns) => self.flush(),
            _ => None,
        };
        let mut bar = match self.open {
            Some(bar) => bar,
            None => self.first(trade),
        };
        bar.high_e6 = bar.high_e6.max(trade.price_e6);
        bar.low_e6 = bar.low_e6.min(trade.price_e6);
        bar.close_e6 = trade.price_e6;
        bar.volume += trade.volume;
        bar.buy_volume += if trade.side == 1 { trade.volume } else { 0 };
        bar.sell_volume += if trade.side == 2 { trade.volume } else { 0 };
        bar.value_e6 += trade.price_e6 * trade.volume;
        bar.trades += 1;
        bar.last_row = self.rows;
        if !matches!(self.close, Close::TimeNs(_)) {
            bar.end_ns = trade.exchange_ns;
        }
        self.open = Some(bar);
        self.rows += 1;
        self.latest_ns = trade.exchange_ns;
        if self.close.reached(&bar) { self.flush() } else { before }
    }

    /// A bar about to take its first trade.
    fn first(&self, trade: Trade) -> Bar {
        let (start_ns, end_ns) = match self.close {
            Close::TimeNs(interval_ns) => {
                let windows = trade.exchange_ns / interval_ns + i64::from(trade.exchange_ns % interval_ns != 0);
                ((windows - 1) * interval_ns, windows * interval_ns)
            }
            _ => (trade.exchange_ns, trade.exchange_ns),
        };
        Bar {
            start_ns,
            end_ns,
            open_e6: trade.price_e6,
            high_e6: trade.price_e6,
            low_e6: trade.price_e6,
            close_e6: trade.price_e6,
            volume: 0,
            buy_volume: 0,
            sell_volume: 0,
            value_e6: 0,
            trades: 0,
            last_row: self.rows,
            validity: if self.gap { Validity::Tainted } else { Validity::Valid },
        }
    }

    /// Ends the open bar as it is.
    pub fn flush(&mut self) -> Option<Bar> {
        let bar = self.open.take()?;
        (self.finished, self.validity, self.gap) = (Some(bar), bar.validity, false);
        Some(bar)
    }

    /// `update` for every row; a restart ends the bar before it. Nothing has changed when it refuses.
    pub fn update_many(&mut self, trades: Trades<'_>, marks: Option<&[u8]>) -> Result<Vec<Bar>, Refused> {
        let rows = trades.rows()?;
        if let Some(marks) = marks {
            same_rows(&[("exchange_ns", rows), ("restart", marks.len())])?;
            restarts("restart", marks)?;
        }
        let (mut state, mut bars) = (*self, Vec::new());
        for row in 0..rows {
            let mark = marks.map_or(restart::NONE, |marks| marks[row]);
            if mark != restart::NONE {
                bars.extend(state.restart(mark));
            }
            let trade = trades.row(row);
            state
                .check(trade)
                .map_err(|refused| Refused::new(refused.argument, format!("row {row}: {}", refused.reason)))?;
            bars.extend(state.update(trade));
        }
        *self = state;
        Ok(bars)
    }

    /// Begins anew; the bar that was open, which a gap taints, is not lost.
    fn restart(&mut self, mark: u8) -> Option<Bar> {
        let open = self.flush();
        if mark == restart::RESET {
            self.reset();
            return open;
        }
        self.taint();
        open.map(|bar| Bar { validity: Validity::Tainted, ..bar })
    }

    /// Begins anew. The open bar is gone: `flush` gives it.
    pub fn reset(&mut self) {
        (self.open, self.finished, self.latest_ns, self.gap) = (None, None, 0, false);
        self.validity = Validity::WarmingUp;
    }

    pub fn taint(&mut self) {
        self.reset();
        (self.gap, self.validity) = (true, Validity::Tainted);
    }

    /// The last finished bar since the start.
    pub fn value(&self) -> Option<Bar> {
        self.finished
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
