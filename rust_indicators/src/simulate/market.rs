//! What happens on one instrument: a book of five levels that walks, trades at its touch, and auctions.
//! Not a matching engine: there are no orders and no queue.
use std::sync::Arc;

use super::arrivals::{Arrival, Arrivals, Stage};
use super::calls::{Average, Call, CallKind, OddLots, PAUSE_NS};
use super::event::{BUY, Book, Event, SELL, Totals, Trade, changes, round_div};
use super::path::{Factor, Path};
use super::random::Random;
use super::{Config, Course, Instrument, LEVELS, Market};

/// Events in a thousand that try to be a trade; with forced books about 38 in 100 are.
const TRADE_PER_MILLE: u64 = 385;
/// The spot index is quoted in hundredths of a point.
const INDEX_TICK_E6: i64 = 10_000;

/// One instrument over one day: an endless-looking source that stops at the last close.
pub struct Stream {
    instrument: Instrument,
    sessions: Vec<super::Session>,
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
    /// Where the touch goes instead, when there is a factor.
    path: Option<Path>,
    phase: Option<(usize, Stage)>,
    totals: Totals,
    /// Of the trial phase that is on.
    indicative: Totals,
    underlying_e6: i64,
    auction_levels: u64,
    call: Option<Call>,
    average: Option<Average>,
    odd_lots: Option<OddLots>,
    /// What waits while something before it is told.
    held: Option<Arrival>,
}

impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let arrival = self.held.take().or_else(|| self.arrivals.next());
        let same_phase = arrival.is_some_and(|arrival| self.phase == Some((arrival.session, arrival.stage)));
        // Nearly always there is nothing between two arrivals.
        if (!same_phase || self.call.is_some() || self.odd_lots.is_some())
            && let Some(event) = self.due_before(arrival.as_ref())
        {
            self.held = arrival;
            return Some(event);
        }
        let mut arrival = arrival?;
        if self.instrument.course == Course::Suspended {
            return Some(Event::Book(self.suspended(arrival)));
        }
        arrival.trial |= self.call.is_some();
        let wanted = self.random.chance(TRADE_PER_MILLE, 1_000) && self.instrument.course != Course::Untraded;
        let side = if self.random.chance(1, 2) { BUY } else { SELL };
        match wanted.then(|| self.trade(arrival, side)).flatten() {
            Some(trade) => Some(Event::Trade(trade)),
            None => {
                // The trade that was not may have begun a pause.
                arrival.trial |= self.call.is_some();
                Some(Event::Book(self.push(arrival)))
            }
        }
    }
}

impl Stream {
    pub fn new(config: &Config, instrument: &Instrument, factor: &Arc<Factor>) -> Stream {
        let ladder = instrument.ladder();
        let touch = ladder.partition_point(|&price| price < instrument.reference_e6) as i64;
        let arrivals = Arrivals::new(config, instrument);
        let day_ticks = (ladder.len() as u64 * 6).div_ceil(100);
        let pushes = arrivals.continuous_events() * 62 / 100 + 1;
        let trades = !matches!(instrument.course, Course::Suspended | Course::Untraded);
        Stream {
            move_chance: (day_ticks * day_ticks * 65_536 / pushes).clamp(16, 26_000),
            random: config.random(&format!("market {}", instrument.code)),
            underlying_e6: instrument.reference_e6 / INDEX_TICK_E6 * INDEX_TICK_E6,
            path: Path::new(config, instrument, factor),
            auction_levels: if trades { config.rules.auction_levels } else { 0 },
            average: Average::new(config, instrument),
            odd_lots: OddLots::new(config, instrument).filter(|_| trades),
            instrument: instrument.clone(),
            sessions: config.sessions.clone(),
            arrivals,
            ladder,
            touch,
            spread: 1,
            bids: [0; LEVELS],
            asks: [0; LEVELS],
            pushed: Book::default(),
            phase: None,
            totals: Totals::default(),
            indicative: Totals::default(),
            call: None,
            held: None,
        }
    }

    /// What comes before an arrival, or before the end: odd lots, the print of a call that is over, a new phase.
    #[inline(never)] // rare; `next` is what every event goes through
    fn due_before(&mut self, arrival: Option<&Arrival>) -> Option<Event> {
        let now_ns = arrival.map_or(i64::MAX, |arrival| arrival.exchange_ns);
        let call_ns = self.call.map_or(now_ns, |call| call.end_ns.min(now_ns));
        let (ladder, touch) = (&self.ladder, self.touch);
        let price = |offset: i64| ladder[(touch + offset).clamp(0, ladder.len() as i64 - 1) as usize];
        if let Some(matched) = self.odd_lots.as_mut().and_then(|lane| lane.next_until(call_ns, price)) {
            return Some(Event::OddLots(matched));
        }
        if let Some(call) = self.call.take_if(|call| call.end_ns <= now_ns) {
            return Some(Event::Trade(self.auction(call)));
        }
        let arrival = arrival?;
        if self.phase != Some((arrival.session, arrival.stage)) {
            self.begin(*arrival);
            // A code nobody called for before its open still opens by an auction.
            if let Some(call) = self.call.take_if(|call| call.end_ns <= now_ns) {
                return Some(Event::Trade(self.auction(call)));
            }
        }
        None
    }

    /// A new phase: fresh volumes, nothing shown until the first push; a new session: totals from 0.
    #[cold]
    fn begin(&mut self, arrival: Arrival) {
        let of_session = self.phase.filter(|(session, _)| *session == arrival.session);
        if of_session.is_none() {
            self.totals = Totals::default();
        }
        self.phase = Some((arrival.session, arrival.stage));
        self.indicative = Totals::default();
        self.pushed = Book::default();
        for level in 0..LEVELS {
            self.bids[level] = self.level_volume();
            self.asks[level] = self.level_volume();
        }
        let session = &self.sessions[arrival.session];
        let (open_ns, close_ns) = (session.open_ns, self.instrument.close_ns(session));
        match arrival.stage {
            Stage::Opening => self.call_auction(CallKind::Opening, arrival.session, session.trial_ns, open_ns),
            Stage::Continuous if of_session.is_none() && session.trial_ns < open_ns => {
                self.call_auction(CallKind::Opening, arrival.session, open_ns, open_ns);
            }
            Stage::Continuous => {}
            Stage::Closing => self.call_auction(CallKind::Closing, arrival.session, session.call_ns, close_ns),
        }
    }

    #[cold]
    fn call_auction(&mut self, kind: CallKind, session: usize, start_ns: i64, end_ns: i64) {
        if self.auction_levels > 0 {
            let typical = u64::from(self.instrument.level_lots) * self.auction_levels;
            let lots = (typical / 2 + self.random.below(typical) + 1) as u32;
            self.call = Some(Call { kind, session, start_ns, end_ns, lots });
        }
    }

    /// The one print of a call, at its end: all that was called for, at the price the trial matches came to.
    #[cold]
    fn auction(&mut self, call: Call) -> Trade {
        let side = if self.random.chance(1, 2) { BUY } else { SELL };
        let top = self.ladder.len() as i64 - 1;
        // Buyers left over lift the price to the ask, sellers to the bid; at a limit there is one price only.
        let index = if side == BUY { self.touch + self.spread } else { self.touch };
        let (price_e6, side) = match index {
            _ if self.touch == top => (self.ladder[top as usize], BUY),
            _ if self.touch < 0 => (self.ladder[0], SELL),
            index => (self.ladder[index.min(top) as usize], side),
        };
        let at = Arrival {
            exchange_ns: call.end_ns,
            session: call.session,
            stage: Stage::Continuous,
            trial: false,
            early: false,
        };
        let mut trade = self.print(at, side, price_e6, call.lots);
        trade.call = Some(call);
        self.pushed = Book::default();
        if let Some(average) = &mut self.average {
            average.restart();
            average.add(call.end_ns, price_e6, call.lots);
        }
        trade
    }

    /// A pause begins where a match would be too far from the average, unless it would reach into the closing call.
    fn pauses(&mut self, arrival: Arrival, price_e6: i64) -> bool {
        let Some(average) = &mut self.average else { return false };
        let ns = arrival.exchange_ns;
        if arrival.trial || !average.forbids(ns, price_e6) || ns + PAUSE_NS > self.sessions[arrival.session].call_ns {
            return false;
        }
        self.call_auction(CallKind::Pause, arrival.session, ns, ns + PAUSE_NS);
        self.indicative = Totals::default();
        true
    }

    /// A trade at the shown touch, or none when that side shows or holds nothing: then a push comes instead.
    fn trade(&mut self, arrival: Arrival, side: u8) -> Option<Trade> {
        let (left, quoted_e6) = match side {
            BUY => (self.asks[0], self.pushed.ask.price_e6[0]),
            _ => (self.bids[0], self.pushed.bid.price_e6[0]),
        };
        if quoted_e6 == 0 || left == 0 || self.pauses(arrival, quoted_e6) {
            return None;
        }
        if let Some(call) = self.call {
            // What would match grows towards the print; `print` adds it to what was shown before.
            let lots = call.lots_at(arrival.exchange_ns);
            let grown = u64::from(lots).saturating_sub(self.indicative.volume) as u32;
            return Some(self.print(arrival, side, quoted_e6, grown));
        }
        let size = u64::from(self.instrument.level_lots) / 3 + 2;
        // The smaller of two draws: most prints are small, a few are not.
        let volume = (1 + self.random.below(size).min(self.random.below(size)) as u32).min(left);
        if !arrival.trial {
            *(if side == BUY { &mut self.asks[0] } else { &mut self.bids[0] }) -= volume;
            if let Some(average) = &mut self.average {
                average.add(arrival.exchange_ns, quoted_e6, volume);
            }
        }
        Some(self.print(arrival, side, quoted_e6, volume))
    }

    fn print(&mut self, arrival: Arrival, side: u8, price_e6: i64, lots: u32) -> Trade {
        let multiplier = self.instrument.multiplier();
        let totals = if arrival.trial { &mut self.indicative } else { &mut self.totals };
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
            call: None,
        }
    }

    /// Says that nothing trades.
    #[cold]
    fn suspended(&self, arrival: Arrival) -> Book {
        let (exchange_ns, session, trial) = (arrival.exchange_ns, arrival.session, arrival.trial);
        Book { exchange_ns, session, trial, suspended: true, underlying_e6: self.underlying_e6, ..Book::default() }
    }

    /// Moves the book a little and publishes it.
    fn push(&mut self, arrival: Arrival) -> Book {
        self.walk();
        match self.path.as_mut().map(|path| path.prices_at(arrival.exchange_ns)) {
            None => self.underlying_e6 += (self.random.below(7) as i64 - 3) * INDEX_TICK_E6,
            Some((worth_e6, spot_e6)) => {
                self.follow(worth_e6);
                self.underlying_e6 = spot_e6 / INDEX_TICK_E6 * INDEX_TICK_E6;
            }
        }
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
        if self.path.is_none() && self.random.chance(chance, 65_536) {
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

    /// Moves the touch to where the code's worth is, with a quarter of a tick to spare so that it does not flicker.
    fn follow(&mut self, worth_e6: i64) {
        let top = self.ladder.len() as i64 - 1;
        let spare_e6 = self.instrument.tick_e6(worth_e6.max(1)) / 4;
        while self.touch < top && worth_e6 >= self.ladder[(self.touch + 1) as usize] + spare_e6 {
            self.shift(true);
        }
        // Below the lowest price nobody bids.
        while self.touch >= 0 && worth_e6 < self.ladder[self.touch as usize] - spare_e6 {
            self.shift(false);
        }
        // At the lowest price sellers queue at the limit itself.
        if self.touch < 0 {
            self.spread = 1;
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

#[cfg(test)]
mod tests {
    use super::super::Session;
    use super::super::event::Side;
    use super::*;

    #[test]
    fn at_a_limit_the_other_side_is_empty_and_the_touch_stays_inside() {
        let session = Session {
            market: Market::Futures,
            trial_ns: 1_000_000,
            open_ns: 1_000_000,
            call_ns: 3_600_000_000_000,
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
            course: Course::Free,
            beta_percent: 100,
            last_ns: None,
        };
        let config =
            Config { sessions: vec![session], instruments: vec![instrument.clone()], ..Config::calm(1, 50_000) };
        let (mut up, mut down) = (0, 0);
        for start in [20, -1] {
            let mut stream = Stream::new(&config, &instrument, &Arc::new(Factor::new(&config)));
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
