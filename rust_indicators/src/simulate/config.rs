//! What a simulated day is made of, and whether it can be. Not what happens on it.
use super::faults::Faults;
use super::random::Random;
use super::{Course, FeedFaults, Rules};

/// Fixed point of prices and money.
pub const E6: i64 = 1_000_000;
pub const LEVELS: usize = 5;
/// "Not there", as everywhere: a disconnect has no exchange stamp.
pub const ABSENT: i64 = i64::MIN;
/// A session shorter than this cannot be cut into the slices events are drawn in.
const SESSION_NS_MIN: i64 = 60_000_000_000;
const EVENTS_MAX: u64 = 100_000_000;
const INSTRUMENTS_MAX: usize = 10_000;
const REFERENCE_E6_MAX: i64 = 1_000_000 * E6;
/// Bounds the ladder of valid prices to 20 million, of which real rules use 5,000.
const TICK_E6_MIN: i64 = 10_000;
const LEVEL_LOTS_MAX: u32 = 1_000_000;
const SHARE_MAX: u64 = 1_000_000;
/// Truth names a session in one byte.
const SESSIONS_MAX: usize = 200;
/// Stocks are quoted per share and traded in lots of this many.
const SHARES_PER_LOT: i64 = 1_000;
/// Bounds the auctions of a code and day: pauses take two minutes.
const AUCTIONS_MAX: i128 = 160;
/// Times a day a suspended code says so.
const SUSPENDED_EVENTS: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Market {
    Stock,
    Futures,
}

/// One session of one market; trial matches run from `trial_ns` to `open_ns`.
#[derive(Clone, Debug)]
pub struct Session {
    pub market: Market,
    pub trial_ns: i64,
    pub open_ns: i64,
    /// From here to `close_ns` orders are called and one print ends the session; `close_ns` itself where there is no
    /// closing call.
    pub call_ns: i64,
    pub close_ns: i64,
    /// Share of an instrument's events, against the market's other sessions.
    pub activity: u64,
}

#[derive(Clone, Debug)]
pub struct Instrument {
    pub code: String,
    pub market: Market,
    pub reference_e6: i64,
    /// (from this price upward, tick), rising from price 0, as `instruments.py` states them.
    pub tick_bands_e6: Vec<(i64, i64)>,
    /// Share of the day's events, against the other instruments.
    pub weight: u64,
    /// Lots on a typical level.
    pub level_lots: u32,
    pub course: Course,
    /// How much of the factor's moves this code makes.
    pub beta_percent: i64,
    /// The code stops trading here for ever, when that is before the close: a future on its last day.
    pub last_ns: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    /// In time order within a market.
    pub sessions: Vec<Session>,
    pub instruments: Vec<Instrument>,
    /// Trades, books and trial matches that happen, delivered or not.
    pub target_events: u64,
    pub delay_median_ns: u64,
    pub outages: u64,
    pub outage_ns: i64,
    /// Messages of continuous trading that never arrive, outside the outages.
    pub lost_ticks: u64,
    pub lost_books: u64,
    /// Messages delivered twice, the second time up to `repeat_distance_max` deliveries later.
    pub repeats: u64,
    pub repeat_distance_max: u64,
    pub rules: Rules,
    pub feed: FeedFaults,
}

impl Config {
    /// No sessions and no instruments yet, and no faults.
    pub fn calm(seed: u64, target_events: u64) -> Config {
        Config {
            seed,
            sessions: Vec::new(),
            instruments: Vec::new(),
            target_events,
            delay_median_ns: 3_000_000,
            outages: 0,
            outage_ns: 0,
            lost_ticks: 0,
            lost_books: 0,
            repeats: 0,
            repeat_distance_max: 0,
            rules: Rules::default(),
            feed: FeedFaults::default(),
        }
    }

    /// The first thing wrong, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.target_events == 0 || self.target_events > EVENTS_MAX {
            return Err(format!("target_events {}: needs 1 to {EVENTS_MAX}", self.target_events));
        }
        self.check_sessions()?;
        self.check_instruments()?;
        if self.delay_median_ns > 10_000_000_000 {
            return Err(format!("delay_median_ns {}: at most 10 s", self.delay_median_ns));
        }
        let counts = [self.lost_ticks, self.lost_books, self.repeats, self.feed.reorders, self.feed.malformed];
        if counts.iter().any(|&count| count > self.target_events / 20) {
            return Err(
                "lost_ticks, lost_books, repeats, reorders, malformed: at most 5 % of target_events each".to_owned()
            );
        }
        self.rules.check(self)?;
        Faults::check(self)
    }

    fn check_sessions(&self) -> Result<(), String> {
        for session in &self.sessions {
            let phase = |start_ns: i64, end_ns: i64| end_ns - start_ns >= SESSION_NS_MIN;
            let long_enough = phase(session.open_ns, session.call_ns)
                && (session.trial_ns == session.open_ns || phase(session.trial_ns, session.open_ns))
                && (session.call_ns == session.close_ns || phase(session.call_ns, session.close_ns));
            let stamps = [session.trial_ns, session.open_ns, session.call_ns, session.close_ns];
            let on_grid = stamps.iter().all(|stamp| stamp % E6 == 0);
            if !long_enough || !on_grid || !(1..=SHARE_MAX).contains(&session.activity) || session.trial_ns <= 0 {
                return Err(format!(
                    "session {session:?}: needs trial ≤ open < call ≤ close, a minute each, whole ms, an activity"
                ));
            }
        }
        for market in [Market::Stock, Market::Futures] {
            let of_market: Vec<_> = self.sessions.iter().filter(|session| session.market == market).collect();
            if of_market.windows(2).any(|pair| pair[0].close_ns > pair[1].trial_ns) {
                return Err(format!("{market:?} sessions overlap or are out of order"));
            }
            if of_market.is_empty() && self.instruments.iter().any(|instrument| instrument.market == market) {
                return Err(format!("no {market:?} session given, but instruments of it"));
            }
        }
        if self.sessions.len() > SESSIONS_MAX {
            return Err(format!("{} sessions: at most {SESSIONS_MAX}", self.sessions.len()));
        }
        Ok(())
    }

    fn check_instruments(&self) -> Result<(), String> {
        if self.instruments.is_empty() || self.instruments.len() > INSTRUMENTS_MAX {
            return Err(format!("{} instruments: needs 1 to {INSTRUMENTS_MAX}", self.instruments.len()));
        }
        let mut codes = std::collections::HashSet::new();
        for instrument in &self.instruments {
            instrument.check()?;
            self.check_amount(instrument)?;
            if !codes.insert(&instrument.code) {
                return Err(format!("instrument {}: given twice", instrument.code));
            }
        }
        Ok(())
    }

    /// Numbers of one purpose on one day: another day of the same seed is another market.
    pub(super) fn random(&self, purpose: &str) -> Random {
        let day = self.sessions.first().map_or(0, |session| session.open_ns);
        Random::new(self.seed, &format!("{day} {purpose}"))
    }

    /// The money that can change hands in a session must fit 63 bits at six decimals.
    fn check_amount(&self, instrument: &Instrument) -> Result<(), String> {
        let trades = i128::from(self.target_events) * i128::from(instrument.weight) / i128::from(self.weights());
        let lots = trades * i128::from(instrument.level_lots / 3 + 2)
            + i128::from(self.rules.auction_levels) * i128::from(instrument.level_lots) * AUCTIONS_MAX;
        let amount_e6 = i128::from(instrument.reference_e6) * i128::from(instrument.multiplier()) * lots * 11 / 10;
        if amount_e6 < i128::from(i64::MAX) && lots < i128::from(u32::MAX) {
            return Ok(());
        }
        Err(format!("instrument {}: turnover would not fit 63 bits; lower level_lots or weight", instrument.code))
    }

    /// Of the codes that have a market.
    fn weights(&self) -> u64 {
        let open = self.instruments.iter().filter(|other| other.course != Course::Suspended);
        open.map(|other| other.weight).sum::<u64>().max(1)
    }

    /// Events of one instrument in one session of its market, trial included.
    pub(super) fn events_of(&self, instrument: &Instrument, session: &Session) -> u64 {
        if instrument.course == Course::Suspended {
            return SUSPENDED_EVENTS;
        }
        let of_market = self.sessions.iter().filter(|other| other.market == session.market);
        let activities: u64 = of_market.map(|other| other.activity).sum();
        self.target_events * instrument.weight / self.weights() * session.activity / activities
    }
}

impl Instrument {
    fn check(&self) -> Result<(), String> {
        let Instrument { code, reference_e6, weight, level_lots, .. } = self;
        if code.is_empty() || code.len() > 31 || !code.is_ascii() {
            return Err(format!("instrument {code:?}: a code has 1 to 31 ASCII characters"));
        }
        let bands = &self.tick_bands_e6;
        let rising = bands.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if bands.first().is_none_or(|band| band.0 != 0) || !rising || bands.iter().any(|band| band.1 < TICK_E6_MIN) {
            return Err(format!("instrument {code}: tick bands rise from price 0, ticks are 0.01 or more"));
        }
        if !(1..=REFERENCE_E6_MAX).contains(reference_e6) || self.ladder().len() < 4 * LEVELS {
            return Err(format!(
                "instrument {code}: reference price {reference_e6}e-6 leaves no ±10 % of valid prices"
            ));
        }
        if !(1..=SHARE_MAX).contains(weight) || !(1..=LEVEL_LOTS_MAX).contains(level_lots) {
            return Err(format!("instrument {code}: weight 1 to 1000000, level_lots 1 to {LEVEL_LOTS_MAX}"));
        }
        Ok(())
    }

    /// The broker's amounts: price × shares for stocks, price × contracts (no contract multiplier) for futures.
    pub(super) fn multiplier(&self) -> i64 {
        match self.market {
            Market::Stock => SHARES_PER_LOT,
            Market::Futures => 1,
        }
    }

    /// When the code's part of a session ends.
    pub(super) fn close_ns(&self, session: &Session) -> i64 {
        self.last_ns.map_or(session.close_ns, |last_ns| last_ns.min(session.close_ns))
    }

    pub(super) fn tick_e6(&self, price_e6: i64) -> i64 {
        let above = self.tick_bands_e6.partition_point(|(from_e6, _)| *from_e6 <= price_e6);
        self.tick_bands_e6[above - 1].1
    }

    /// Lowest and highest valid price within ±10 % of the reference.
    pub(super) fn limits(&self) -> (i64, i64) {
        let (low, high) = (self.reference_e6 * 9 / 10, self.reference_e6 * 11 / 10);
        let (up, down) = (self.tick_e6(low), self.tick_e6(high));
        ((low + up - 1) / up * up, high / down * down)
    }

    /// Every valid price between the limits, rising.
    pub(super) fn ladder(&self) -> Vec<i64> {
        let (low, high) = self.limits();
        let mut prices = Vec::new();
        let mut price = low;
        while price <= high {
            prices.push(price);
            price += self.tick_e6(price);
        }
        prices
    }
}
