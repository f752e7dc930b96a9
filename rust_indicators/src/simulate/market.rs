//! What happens on one instrument: a book of five levels that walks, and trades at its touch.
//! Not a matching engine: there are no orders and no queue.
use super::arrivals::{Arrival, Arrivals};
use super::random::Random;
use super::{Config, Instrument, LEVELS, Market};

/// Seller and buyer initiated, as the broker codes them (`tick_type`).
pub const BUY: u8 = 1;
pub const SELL: u8 = 2;
/// Events in a thousand that try to be a trade; with forced books about 38 in 100 are.
const TRADE_PER_MILLE: u64 = 385;
/// The spot index is quoted in hundredths of a point.
const INDEX_TICK_E6: i64 = 10_000;

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
}

impl Event {
    pub fn exchange_ns(&self) -> i64 {
        match self {
            Event::Trade(trade) => trade.exchange_ns,
            Event::Book(book) => book.exchange_ns,
        }
    }

    pub fn trial(&self) -> bool {
        match self {
            Event::Trade(trade) => trade.trial,
            Event::Book(book) => book.trial,
        }
    }
}

/// Running figures of one phase of one session; volumes in lots.
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

/// One instrument over one day: an endless-looking source that stops at the last close.
pub struct Stream {
    instrument: Instrument,
    arrivals: Arrivals,
    random: Random,
    /// Every valid price from limit down to limit up.
    ladder: Vec<i64>,
    /// Index of the best bid in the ladder; -1 at limit down, where nobody bids.
    touch: i64,
    spread: i64,
    bids: [u32; LEVELS],
    asks: [u32; LEVELS],
    /// The last push; trades happen only at its touch.
    pushed: Book,
    /// Chance in 65536 that a push moves the touch, so that a day's spread is near 1.2 % of the price.
    move_chance: u64,
    phase: Option<(usize, bool)>,
    totals: Totals,
    underlying_e6: i64,
}

impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let arrival = self.arrivals.next()?;
        if self.phase != Some((arrival.session, arrival.trial)) {
            self.begin(arrival);
        }
        let wanted = self.random.chance(TRADE_PER_MILLE, 1_000);
        let side = if self.random.chance(1, 2) { BUY } else { SELL };
        match wanted.then(|| self.trade(arrival, side)).flatten() {
            Some(trade) => Some(Event::Trade(trade)),
            None => Some(Event::Book(self.push(arrival))),
        }
    }
}

impl Stream {
    pub fn new(config: &Config, instrument: &Instrument) -> Stream {
        let ladder = instrument.ladder();
        let touch = ladder.partition_point(|&price| price < instrument.reference_e6) as i64;
        let arrivals = Arrivals::new(config, instrument);
        let day_ticks = (ladder.len() as u64 * 6).div_ceil(100);
        let pushes = arrivals.continuous_events() * 62 / 100 + 1;
        Stream {
            move_chance: (day_ticks * day_ticks * 65_536 / pushes).clamp(16, 26_000),
            random: config.random(&format!("market {}", instrument.code)),
            underlying_e6: instrument.reference_e6 / INDEX_TICK_E6 * INDEX_TICK_E6,
            instrument: instrument.clone(),
            arrivals,
            ladder,
            touch,
            spread: 1,
            bids: [0; LEVELS],
            asks: [0; LEVELS],
            pushed: Book::default(),
            phase: None,
            totals: Totals::default(),
        }
    }

    /// A new phase: totals from 0, fresh volumes, nothing shown until the first push.
    fn begin(&mut self, arrival: Arrival) {
        self.phase = Some((arrival.session, arrival.trial));
        self.totals = Totals::default();
        self.pushed = Book::default();
        for level in 0..LEVELS {
            self.bids[level] = self.level_volume();
            self.asks[level] = self.level_volume();
        }
    }

    /// A trade at the shown touch, or none when that side shows or holds nothing: then a push comes instead.
    fn trade(&mut self, arrival: Arrival, side: u8) -> Option<Trade> {
        let (left, quoted_e6) = match side {
            BUY => (&mut self.asks[0], self.pushed.ask.price_e6[0]),
            _ => (&mut self.bids[0], self.pushed.bid.price_e6[0]),
        };
        if quoted_e6 == 0 || *left == 0 {
            return None;
        }
        let size = u64::from(self.instrument.level_lots) / 3 + 2;
        // The smaller of two draws: most prints are small, a few are not.
        let volume = (1 + self.random.below(size).min(self.random.below(size)) as u32).min(*left);
        if !arrival.trial {
            *left -= volume;
        }
        Some(self.print(arrival, side, quoted_e6, volume))
    }

    fn print(&mut self, arrival: Arrival, side: u8, price_e6: i64, lots: u32) -> Trade {
        let multiplier = self.instrument.multiplier();
        let totals = &mut self.totals;
        totals.volume += u64::from(lots);
        // A trial print shows the whole volume that would match now.
        let volume = if arrival.trial { totals.volume as u32 } else { lots };
        let amount_e6 = price_e6 * i64::from(volume) * multiplier;
        totals.amount_e6 = if arrival.trial { amount_e6 } else { totals.amount_e6 + amount_e6 };
        if totals.open_e6 == 0 {
            (totals.open_e6, totals.high_e6, totals.low_e6) = (price_e6, price_e6, price_e6);
        }
        totals.high_e6 = totals.high_e6.max(price_e6);
        totals.low_e6 = totals.low_e6.min(price_e6);
        // The broker counts buyer-initiated volume on the bid side.
        match side {
            BUY => (totals.bid_side_volume += u64::from(lots), totals.bid_side_count += 1),
            _ => (totals.ask_side_volume += u64::from(lots), totals.ask_side_count += 1),
        };
        // The broker fills the totals of a futures trial, and leaves those of a stock trial 0.
        let blank = arrival.trial && self.instrument.market == Market::Stock;
        Trade {
            exchange_ns: arrival.exchange_ns,
            session: arrival.session,
            trial: arrival.trial,
            side,
            volume,
            price_e6,
            amount_e6: if blank { 0 } else { amount_e6 },
            avg_e6: if blank { 0 } else { round_div(totals.amount_e6, totals.volume as i64 * multiplier) },
            totals: if blank { Totals::default() } else { *totals },
            underlying_e6: self.underlying_e6,
            touch: self.pushed.touch(),
        }
    }

    /// Moves the book a little and publishes it.
    fn push(&mut self, arrival: Arrival) -> Book {
        self.walk();
        self.underlying_e6 += (self.random.below(7) as i64 - 3) * INDEX_TICK_E6;
        let (bid_depth, ask_depth) = self.depths(arrival);
        let mut book = Book {
            exchange_ns: arrival.exchange_ns,
            session: arrival.session,
            trial: arrival.trial,
            underlying_e6: self.underlying_e6,
            ..Book::default()
        };
        for level in 0..LEVELS {
            let bid = usize::try_from(self.touch - level as i64).ok().filter(|_| level < bid_depth);
            if let Some(&price) = bid.and_then(|index| self.ladder.get(index)) {
                (book.bid.price_e6[level], book.bid.volume[level]) = (price, self.bids[level]);
            }
            let ask = usize::try_from(self.touch + self.spread + level as i64).ok().filter(|_| level < ask_depth);
            if let Some(&price) = ask.and_then(|index| self.ladder.get(index)) {
                (book.ask.price_e6[level], book.ask.volume[level]) = (price, self.asks[level]);
            }
        }
        changes(&mut book.bid, &self.pushed.bid);
        changes(&mut book.ask, &self.pushed.ask);
        self.derive(&mut book);
        self.pushed = book.clone();
        book
    }

    /// An eaten touch is refilled or gives way; otherwise the touch moves now and then, or volumes change.
    fn walk(&mut self) {
        let eaten = if self.asks[0] == 0 {
            1
        } else if self.bids[0] == 0 {
            -1
        } else {
            0
        };
        for side in [&mut self.bids, &mut self.asks] {
            if side[0] == 0 {
                side[0] = 1 + self.random.below(u64::from(self.instrument.level_lots)) as u32;
            }
        }
        let chance = if eaten == 0 { self.move_chance } else { self.move_chance * 4 };
        if self.random.chance(chance, 65_536) {
            let up = if eaten == 0 { self.random.chance(1, 2) } else { eaten == 1 };
            self.shift(up);
        }
        if self.random.chance(1, 20) {
            self.spread = [1, 1, 1, 1, 2, 1, 2, 3][self.random.below(8) as usize];
        }
        for _ in 0..2 {
            let (level, fresh) = (self.random.below(LEVELS as u64) as usize, self.level_volume());
            let side = if self.random.chance(1, 2) { &mut self.bids } else { &mut self.asks };
            side[level] = (side[level] + fresh).div_ceil(2);
        }
    }

    fn shift(&mut self, up: bool) {
        let top = self.ladder.len() as i64 - 1;
        if (up && self.touch == top) || (!up && self.touch == -1) {
            return;
        }
        let fresh = self.level_volume();
        let (gains, loses) = if up { (&mut self.bids, &mut self.asks) } else { (&mut self.asks, &mut self.bids) };
        gains.rotate_right(1);
        gains[0] = fresh;
        loses.rotate_left(1);
        loses[LEVELS - 1] = fresh;
        self.touch += if up { 1 } else { -1 };
    }

    /// Levels to show: five, but short or one-sided now and then, often just after a phase begins.
    fn depths(&mut self, arrival: Arrival) -> (usize, usize) {
        let (short, one_sided) = if arrival.early { (400, 20) } else { (3, 1) };
        let draw = self.random.below(1_000);
        if draw < one_sided {
            return if self.random.chance(1, 2) { (0, LEVELS) } else { (LEVELS, 0) };
        }
        if draw < one_sided + short {
            let mut depth = || 1 + self.random.below(LEVELS as u64) as usize;
            return (depth(), depth());
        }
        (LEVELS, LEVELS)
    }

    /// Spread-derived quotes stand a few ticks behind the touch, half of the time not at all.
    fn derive(&mut self, book: &mut Book) {
        if self.instrument.market == Market::Stock || self.random.chance(1, 2) {
            return;
        }
        let behind = self.random.below(LEVELS as u64) as usize;
        if book.bid.price_e6[behind] != 0 {
            (book.derived_bid_e6, book.derived_bid_volume) =
                (book.bid.price_e6[behind], 1 + self.random.below(5) as u32);
        }
        if book.ask.price_e6[behind] != 0 && self.random.chance(1, 2) {
            (book.derived_ask_e6, book.derived_ask_volume) =
                (book.ask.price_e6[behind], 1 + self.random.below(5) as u32);
        }
    }

    fn level_volume(&mut self) -> u32 {
        1 + self.random.below(2 * u64::from(self.instrument.level_lots)) as u32
    }
}

fn changes(now: &mut Side, before: &Side) {
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

#[cfg(test)]
mod tests {
    use super::super::Session;
    use super::*;

    #[test]
    fn at_a_limit_the_other_side_is_empty_and_the_touch_stays_inside() {
        let session = Session {
            market: Market::Futures,
            trial_ns: 1_000_000,
            open_ns: 1_000_000,
            close_ns: 3_600_000_000_000,
            activity: 1,
        };
        let instrument = Instrument {
            code: "TXFL6".to_owned(),
            market: Market::Futures,
            reference_e6: 100_000_000,
            tick_bands_e6: vec![(0, 1_000_000)],
            weight: 1,
            level_lots: 3,
        };
        let config =
            Config { sessions: vec![session], instruments: vec![instrument.clone()], ..Config::calm(1, 50_000) };
        let (mut up, mut down) = (0, 0);
        for start in [20, -1] {
            let mut stream = Stream::new(&config, &instrument);
            (stream.touch, stream.move_chance) = (start, 16_000);
            for event in stream {
                let Event::Book(book) = event else { continue };
                assert!(book.bid.price_e6[0] <= 110_000_000 && book.ask.price_e6[0] <= 110_000_000);
                if book.bid.price_e6[0] == 110_000_000 {
                    up += 1;
                    assert_eq!(book.ask, Side::default());
                }
                if book.ask.price_e6[0] == 90_000_000 && book.bid == Side::default() {
                    down += 1;
                }
            }
        }
        assert!(up > 0 && down > 0, "limit up {up} times, limit down {down} times");
    }
}
