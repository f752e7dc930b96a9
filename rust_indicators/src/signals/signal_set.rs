//! Every live signal of every instrument in one object: one call an event, whatever its symbol. Decides nothing.
//!
//! What an event may touch is decided by `admission.rs`; each signal's own state does the rest.
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::admission::{Admission, Admitted};
use super::book::BookState;
use super::flow::{Mlofi, Sides, signed_volume};
use super::hawkes_bivariate::{BivariateHawkes, Matrix, Pair};
use super::impact::{Amihud, KyleLambda, Roll};
use super::integrated::IntegratedOfi;
use super::kalman::LocalLevel;
use super::micro_price::{MicroPrice, Table};
use super::toxicity::Vpin;
use super::windows::normalised;
use super::{Arming, EMPTY_PRICE_E6, Refused, Validity};
use crate::continuity::{KeyHasher, code_words, is_futures};
use crate::record::{ABSENT_U32, BookBody, CODE_BYTES, Header, LEVELS, Record, TradeBody, kind};
use crate::wall_clock::SECOND_NS;

/// Instruments one set may hold: every listed stock, future and warrant together are fewer.
pub const INSTRUMENTS_MAX: usize = 1 << 16;
pub const WINDOW_NS_MAX: i64 = 3_600 * SECOND_NS;
/// After a silence this many empty windows are told to Kyle's λ: more say nothing new.
const EMPTY_WINDOWS_MAX: i64 = 1_000;

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Places of the values of a reading.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Signal { $($(#[$doc])* $name,)+ }
        pub const NAMES: &[&str] = &[$($text),+];
    };
}

signals! {
    /// Price × 10⁶.
    Mid = "mid",
    SpreadTicks = "spread_ticks",
    /// Price × 10⁶.
    WeightedMid = "weighted_mid",
    /// Price × 10⁶; UNDEFINED without a fitted table.
    MicroPrice = "micro_price",
    QueueImbalance = "queue_imbalance",
    /// Of all five levels.
    DepthImbalance = "depth_imbalance",
    DepthRatio = "depth_ratio",
    BookSlope = "book_slope",
    /// Of the last book, lots.
    Ofi = "ofi",
    /// Of the last whole window, lots.
    OfiWindow = "ofi_window",
    /// Of the last whole window, with weights of the windows before it.
    OfiIntegrated = "ofi_integrated",
    /// Signed volume of the last whole window, lots.
    TradeImbalance = "trade_imbalance",
    Vpin = "vpin",
    /// Events a second, right after the last one.
    HawkesBuy = "hawkes_buy",
    HawkesSell = "hawkes_sell",
    KyleLambda = "kyle_lambda",
    Amihud = "amihud",
    /// Price × 10⁶.
    RollSpread = "roll_spread",
    /// Price × 10⁶.
    FairPrice = "fair_price",
}

pub const SIGNALS: usize = NAMES.len();

/// What the signals of an instrument need to know. Prices × 10⁶, times ns, volumes lots.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub tick_size_e6: i64,
    /// Windows of flow, impact and trade imbalance: (edge − window, edge], edges at multiples of it since the epoch.
    pub window_ns: i64,
    /// Windows before the weights of integrated OFI are used.
    pub warm_up_windows: u64,
    pub vpin_bucket_volume: i64,
    pub vpin_buckets: i64,
    /// Windows that Kyle's λ and Amihud look back on.
    pub impact_windows: i64,
    /// Trades that Roll's spread looks back on.
    pub roll_trades: i64,
    /// Variance that the fair price gathers in a second, (price × 10⁶)² / s.
    pub fair_price_q: f64,
    /// Buyers, sellers: (mu, alpha, beta) of `BivariateHawkes`; without them the intensities are UNDEFINED.
    pub hawkes: Option<(Pair, Matrix, Matrix)>,
    /// Without it the micro-price is UNDEFINED.
    pub micro_price: Option<Table>,
}

impl Default for Parameters {
    /// A future of one point a tick; ten-second windows; VPIN of fifty buckets of a thousand lots.
    fn default() -> Self {
        Self {
            tick_size_e6: 1_000_000,
            window_ns: 10 * SECOND_NS,
            warm_up_windows: 60,
            vpin_bucket_volume: 1_000,
            vpin_buckets: 50,
            impact_windows: 180,
            roll_trades: 1_000,
            fair_price_q: 1e12,
            hawkes: None,
            micro_price: None,
        }
    }
}

/// The values after an event, and what each is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub values: [f64; SIGNALS],
    pub validity: [u8; SIGNALS],
}

impl Reading {
    /// NaN, for none of them has seen anything.
    const EMPTY: Self = Self { values: [f64::NAN; SIGNALS], validity: [Validity::WarmingUp as u8; SIGNALS] };

    /// A value that is not VALID is NaN, whatever its state says.
    fn set(&mut self, signal: Signal, value: f64, validity: Validity) {
        self.values[signal as usize] = if validity == Validity::Valid { value } else { f64::NAN };
        self.validity[signal as usize] = validity as u8;
    }
}

/// What has happened since the last edge.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// The window the newest event lies in: (edge − window, edge].
    edge_ns: Option<i64>,
    /// It began after the state did, so that nothing of it is missing.
    whole: bool,
    flow: [i64; LEVELS],
    /// Σ over books and levels of both volumes, and how many books.
    depth: i64,
    books: u64,
    signed_volume: i64,
    value_e6: i64,
    /// Twice the mid at the window's beginning.
    begin_mid2_e6: Option<i64>,
}

/// One instrument's states.
#[derive(Clone, Debug)]
struct Instrument {
    admission: Admission,
    window_ns: i64,
    tick_size_e6: i64,
    book: BookState,
    mlofi: Mlofi,
    window: Window,
    integrated: IntegratedOfi,
    vpin: Vpin,
    kyle: KyleLambda,
    amihud: Amihud,
    roll: Roll,
    fair: LocalLevel,
    hawkes: Option<BivariateHawkes>,
    micro: Option<MicroPrice>,
    windows: Arming,
    mid2_e6: Option<i64>,
    newest_ns: i64,
    reading: Reading,
}

impl Instrument {
    fn new(parameters: &Parameters, futures: bool) -> Result<Self, Refused> {
        if !(1..=WINDOW_NS_MAX).contains(&parameters.window_ns) {
            return Err(Refused::new("window_ns", format!("{} is not within 1 ns … 1 h", parameters.window_ns)));
        }
        let tick_size_e6 = parameters.tick_size_e6;
        let hawkes = parameters.hawkes.map(|(mu, alpha, beta)| BivariateHawkes::new(mu, alpha, beta)).transpose()?;
        let micro = parameters.micro_price.clone().map(|table| MicroPrice::new(table, tick_size_e6)).transpose()?;
        Ok(Self {
            admission: Admission::new(futures),
            window_ns: parameters.window_ns,
            tick_size_e6,
            book: BookState::new(LEVELS, tick_size_e6)?,
            mlofi: Mlofi::new(LEVELS)?,
            window: Window::default(),
            integrated: IntegratedOfi::new(LEVELS, parameters.warm_up_windows)?,
            vpin: Vpin::new(parameters.vpin_bucket_volume, parameters.vpin_buckets)?,
            kyle: KyleLambda::new(parameters.impact_windows)?,
            amihud: Amihud::new(parameters.impact_windows)?,
            roll: Roll::new(parameters.roll_trades)?,
            fair: LocalLevel::new(parameters.fair_price_q)?,
            hawkes,
            micro,
            windows: Arming::default(),
            mid2_e6: None,
            newest_ns: i64::MIN,
            reading: Reading::EMPTY,
        })
    }
}

impl Instrument {
    fn feed(&mut self, record: &Record, admitted: Admitted) {
        match admitted {
            Admitted::Reset => self.begin(false),
            Admitted::Taint => self.begin(true),
            _ => {}
        }
        let header = record.header();
        // Books and trades are each in order; one may lag the other by a little.
        let exchange_ns = header.exchange_ns.max(self.newest_ns);
        self.newest_ns = exchange_ns;
        self.pass_edges(exchange_ns);
        match header.kind {
            kind::BOOK => self.book(exchange_ns, &record.book().body),
            _ => self.trade(exchange_ns, header, &record.trade().body),
        }
    }

    /// Everything begins anew: after a gap it says so until it is warm.
    fn begin(&mut self, tainted: bool) {
        macro_rules! each {
            ($($state:ident),+) => {
                if tainted { $(self.$state.taint();)+ } else { $(self.$state.reset();)+ }
            };
        }
        each!(mlofi, integrated, vpin, kyle, amihud, roll, fair);
        if let Some(hawkes) = &mut self.hawkes {
            if tainted { hawkes.taint() } else { hawkes.reset() }
        }
        self.windows = if tainted { Arming::AFTER_GAP } else { Arming::default() };
        self.window = Window::default();
        self.mid2_e6 = None;
        self.newest_ns = i64::MIN;
        self.reading = Reading::EMPTY;
        if tainted {
            self.reading.validity.fill(Validity::Tainted as u8);
        }
    }

    /// Closes the windows that ended before this stamp.
    fn pass_edges(&mut self, exchange_ns: i64) {
        if self.window.edge_ns.is_some_and(|edge_ns| exchange_ns <= edge_ns) {
            return;
        }
        let edge_ns = -(-exchange_ns).div_euclid(self.window_ns) * self.window_ns;
        if let Some(before_ns) = self.window.edge_ns {
            let passed = (edge_ns - before_ns) / self.window_ns;
            self.close_window();
            for _ in 0..(passed - 1).min(EMPTY_WINDOWS_MAX) {
                self.close_window();
            }
        }
        self.window.edge_ns = Some(edge_ns);
    }

    fn close_window(&mut self) {
        let window = self.window;
        self.window = Window { whole: true, begin_mid2_e6: self.mid2_e6, ..Window::default() };
        let validity = self.windows.validity(window.whole, true);
        self.reading.set(Signal::OfiWindow, window.flow[0] as f64, validity);
        self.reading.set(Signal::TradeImbalance, window.signed_volume as f64, validity);
        if !window.whole {
            return;
        }
        let of_depth = |flow| normalised(i128::from(flow), i128::from(window.depth), window.books, LEVELS);
        self.integrated.update(&window.flow.map(of_depth));
        self.reading.set(Signal::OfiIntegrated, self.integrated.value(), self.integrated.validity());
        if let (Some(begin), Some(end)) = (window.begin_mid2_e6, self.mid2_e6) {
            // Twice the mid keeps the half tick an integer; the slope is of the mid.
            if KyleLambda::check(end - begin, window.signed_volume).is_ok() {
                self.kyle.update(end - begin, window.signed_volume);
                self.reading.set(Signal::KyleLambda, self.kyle.value() / 2.0, self.kyle.validity());
            }
            if Amihud::check(end / 2, window.value_e6).is_ok() {
                self.amihud.update(end / 2, window.value_e6);
                self.reading.set(Signal::Amihud, self.amihud.value(), self.amihud.validity());
            }
        }
    }

    fn book(&mut self, exchange_ns: i64, book: &BookBody) {
        let (bid_price_e6, bid_volume) = levels(book.bid_price_e6, book.bid_volume);
        let (ask_price_e6, ask_volume) = levels(book.ask_price_e6, book.ask_volume);
        let sides = Sides {
            bid_price_e6: &bid_price_e6,
            bid_volume: &bid_volume,
            ask_price_e6: &ask_price_e6,
            ask_volume: &ask_volume,
        };
        let flow = self.mlofi.update(sides);
        for (sum, flow) in self.window.flow.iter_mut().zip(flow) {
            *sum += flow;
        }
        self.window.depth += bid_volume.iter().sum::<i64>() + ask_volume.iter().sum::<i64>();
        self.window.books += 1;
        self.reading.set(Signal::Ofi, flow[0] as f64, self.mlofi.validity());
        self.show_book(sides, exchange_ns);
    }

    fn show_book(&mut self, sides: Sides<'_>, exchange_ns: i64) {
        self.book.update(sides);
        let (best, found) = (sides.row(0), self.book.said);
        self.mid2_e6 = (found.mid2_e6 != EMPTY_PRICE_E6).then_some(found.mid2_e6);
        let micro = self.micro.as_mut().map_or(f64::NAN, |micro| micro.update(best));
        for (signal, value) in [
            (Signal::Mid, self.mid2_e6.map_or(f64::NAN, |twice| twice as f64 / 2.0)),
            (Signal::SpreadTicks, found.spread_ticks),
            (Signal::WeightedMid, found.weighted_mid),
            (Signal::QueueImbalance, found.queue_imbalance),
            (Signal::DepthImbalance, found.depth_imbalance),
            (Signal::DepthRatio, found.depth_ratio),
            (Signal::BookSlope, found.book_slope),
            (Signal::MicroPrice, micro),
        ] {
            self.reading.set(signal, value, if value.is_nan() { Validity::Undefined } else { Validity::Valid });
        }
        if let Some(twice) = self.mid2_e6 {
            // Half the spread as deviation of an observation, half a tick where the book is locked or crossed.
            let half = (best.ask_price_e6 - best.bid_price_e6).max(self.tick_size_e6) as f64 / 2.0;
            self.fair.update(exchange_ns, twice as f64 / 2.0, half * half);
            self.reading.set(Signal::FairPrice, self.fair.value(), self.fair.validity());
        }
    }

    fn trade(&mut self, exchange_ns: i64, header: &Header, trade: &TradeBody) {
        let (side, volume) = (if header.side > 2 { 0 } else { header.side }, i64::from(trade.volume));
        self.window.signed_volume += signed_volume(side, volume);
        self.window.value_e6 = self.window.value_e6.saturating_add(trade.price_e6.saturating_mul(volume));
        self.vpin.update(side, volume);
        self.reading.set(Signal::Vpin, self.vpin.value(), self.vpin.validity());
        if Roll::check(trade.price_e6).is_ok() {
            self.roll.update(trade.price_e6);
            self.reading.set(Signal::RollSpread, self.roll.value(), self.roll.validity());
        }
        if let (Some(hawkes), 1 | 2) = (&mut self.hawkes, side) {
            let [buy, sell] = hawkes.update_clamped(exchange_ns, side - 1);
            self.reading.set(Signal::HawkesBuy, buy, hawkes.validity());
            self.reading.set(Signal::HawkesSell, sell, hawkes.validity());
        }
    }
}

/// A level at price 0 is a market order: it has no place in the book.
fn levels(price_e6: [i64; LEVELS], volume: [u32; LEVELS]) -> ([i64; LEVELS], [i64; LEVELS]) {
    let there = |level: usize| price_e6[level] != 0 && price_e6[level] != EMPTY_PRICE_E6;
    let prices = std::array::from_fn(|level| if there(level) { price_e6[level] } else { EMPTY_PRICE_E6 });
    let known = |level: usize| there(level) && volume[level] != ABSENT_U32;
    (prices, std::array::from_fn(|level| if known(level) { i64::from(volume[level]) } else { 0 }))
}

/// Every signal of every instrument.
#[derive(Clone, Debug)]
pub struct SignalSet {
    parameters: Parameters,
    places: HashMap<(u64, u64), usize, BuildHasherDefault<KeyHasher>>,
    codes: Vec<[u8; CODE_BYTES]>,
    instruments: Vec<Instrument>,
    /// Parameters of codes that have not come yet.
    own: HashMap<(u64, u64), Parameters, BuildHasherDefault<KeyHasher>>,
}

impl SignalSet {
    /// `parameters`: of every instrument that has none of its own.
    pub fn new(parameters: Parameters) -> Result<Self, Refused> {
        Instrument::new(&parameters, false)?;
        Ok(Self {
            parameters,
            places: HashMap::default(),
            codes: Vec::new(),
            instruments: Vec::new(),
            own: HashMap::default(),
        })
    }

    /// Parameters of one code, before its first event.
    pub fn add(&mut self, code: [u8; CODE_BYTES], parameters: Parameters) -> Result<(), Refused> {
        Instrument::new(&parameters, false)?;
        if self.places.contains_key(&key(&code)) {
            return Err(Refused::new("code", "has had events already: its parameters stand"));
        }
        self.own.insert(key(&code), parameters);
        Ok(())
    }

    /// Takes one event: the place of its instrument, or `None` where no signal saw it.
    pub fn update(&mut self, record: &Record) -> Option<usize> {
        match record.header().kind {
            kind::TRADE | kind::BOOK => {}
            // The recorder was away, or the broker was: nobody knows what happened meanwhile.
            kind::OUTAGE | kind::START => {
                self.missed();
                return None;
            }
            _ => return None,
        }
        let place = self.place(record)?;
        let instrument = &mut self.instruments[place];
        let admitted = instrument.admission.admit(record);
        if admitted == Admitted::No {
            return None;
        }
        instrument.feed(record, admitted);
        Some(place)
    }

    fn place(&mut self, record: &Record) -> Option<usize> {
        let header = record.header();
        let key = key(&header.code);
        if let Some(place) = self.places.get(&key) {
            return Some(*place);
        }
        if self.instruments.len() == INSTRUMENTS_MAX {
            return None;
        }
        let futures = is_futures(header.exchange, header.broker_class);
        let parameters = self.own.get(&key).unwrap_or(&self.parameters);
        let instrument = Instrument::new(parameters, futures).expect("checked when the parameters were given");
        self.instruments.push(instrument);
        self.codes.push(header.code);
        self.places.insert(key, self.instruments.len() - 1);
        Some(self.instruments.len() - 1)
    }

    /// Events are missing, of whatever instrument: `RingReader` told of a miss, or the recorder of an outage.
    pub fn missed(&mut self) {
        for instrument in &mut self.instruments {
            instrument.admission.forget();
            instrument.begin(true);
        }
    }

    pub fn find(&self, code: &[u8; CODE_BYTES]) -> Option<usize> {
        self.places.get(&key(code)).copied()
    }

    pub fn reading(&self, place: usize) -> &Reading {
        &self.instruments[place].reading
    }

    pub fn codes(&self) -> &[[u8; CODE_BYTES]] {
        &self.codes
    }
}

fn key(code: &[u8; CODE_BYTES]) -> (u64, u64) {
    let [low, high] = code_words(code);
    (low, high)
}
