//! Our own orders on the simulated day, by price and time. Not a broker and not the market: the day does not depend on
//! them. Our matches are not printed and the book does not show our orders; what we take from a level stays taken until
//! the book shows less of it than we took, so that no displayed lot is had twice.
//!
//! Orders travel there and reports back with seeded delays; requests do not overtake each other.
mod book;

use std::collections::HashMap;
use std::sync::Arc;

use super::Config;
use super::delay;
use super::path::Factor;
use super::random::Random;
use book::OneBook;
pub use book::{Lane, Way};

/// A day of a busy strategy; bounds the memory of one that went wrong.
const ORDERS_MAX: usize = 1_000_000;

/// How long an order lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// Until the session ends.
    Rod,
    /// What cannot be had at once is cancelled.
    Ioc,
    /// All at once or nothing.
    Fok,
}

/// Why the exchange says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    OffTick,
    OutOfLimits,
    Closed,
    WrongLane,
    /// A call takes ROD only; a future's market order is never ROD; odd lots are limit orders and ROD.
    WrongTerms,
    WrongQuantity,
    /// Of a cancel or an update: filled, cancelled, rejected or not there yet.
    NotWorking,
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Accepted,
    Filled {
        price_e6: i64,
        quantity: u32,
    },
    /// By us, by IOC or FOK, or because the session is over.
    Cancelled {
        quantity: u32,
    },
    Updated {
        price_e6: i64,
        quantity: u32,
    },
    Rejected(Reason),
}

/// What the exchange says of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub id: u64,
    pub exchange_ns: i64,
    pub received_ns: i64,
    pub what: What,
    /// Still working after this.
    pub left: u32,
}

/// A new order. Board lots: lots or contracts; odd lots: shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    pub lane: Lane,
    pub way: Way,
    /// None: at any price.
    pub price_e6: Option<i64>,
    pub quantity: u32,
    pub lasting: Lasting,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Place(Terms),
    Cancel,
    Update { price_e6: Option<i64>, quantity: Option<u32> },
}

#[derive(Clone, Copy, Debug)]
struct Request {
    id: u64,
    arrives_ns: i64,
    ask: Ask,
}

/// Where an order is, and the delays of what is said of it.
struct Known {
    instrument: usize,
    requests: Random,
    reports: Random,
    last_received_ns: i64,
}

/// All codes of one day.
pub struct Matching {
    config: Config,
    factor: Arc<Factor>,
    latency_median_ns: u64,
    places: HashMap<String, usize>,
    books: HashMap<usize, OneBook>,
    orders: Vec<Known>,
    now_ns: i64,
    last_sent_ns: i64,
    last_arrives_ns: i64,
    /// On their way back.
    reports: Vec<Report>,
}

impl Matching {
    /// Sentences say what cannot be.
    pub fn new(config: Config, latency_median_ns: u64) -> Result<Matching, String> {
        config.check()?;
        if latency_median_ns > 10_000_000_000 {
            return Err(format!("latency_median_ns {latency_median_ns}: at most 10 s"));
        }
        let places = config.instruments.iter().enumerate().map(|(place, one)| (one.code.clone(), place)).collect();
        Ok(Matching {
            factor: Arc::new(Factor::new(&config)),
            config,
            latency_median_ns,
            places,
            books: HashMap::new(),
            orders: Vec::new(),
            now_ns: i64::MIN,
            last_sent_ns: i64::MIN,
            last_arrives_ns: i64::MIN,
            reports: Vec::new(),
        })
    }

    /// Sends an order and names it.
    pub fn place(&mut self, code: &str, terms: Terms, sent_ns: i64) -> Result<u64, String> {
        let instrument = *self.places.get(code).ok_or_else(|| format!("{code:?} does not trade on this day"))?;
        if self.orders.len() >= ORDERS_MAX {
            return Err(format!("{ORDERS_MAX} orders on one day: no more"));
        }
        self.check_sent(sent_ns)?;
        let id = self.orders.len() as u64;
        self.orders.push(Known {
            instrument,
            requests: self.config.random(&format!("order {id} out")),
            reports: self.config.random(&format!("order {id} back")),
            last_received_ns: i64::MIN,
        });
        self.send(id, Ask::Place(terms), sent_ns);
        Ok(id)
    }

    pub fn cancel(&mut self, id: u64, sent_ns: i64) -> Result<(), String> {
        self.check_known(id)?;
        self.check_sent(sent_ns)?;
        self.send(id, Ask::Cancel, sent_ns);
        Ok(())
    }

    /// A smaller quantity (in all, what is filled included) keeps the place in the queue, another price loses it.
    pub fn update(
        &mut self,
        id: u64,
        price_e6: Option<i64>,
        quantity: Option<u32>,
        sent_ns: i64,
    ) -> Result<(), String> {
        self.check_known(id)?;
        self.check_sent(sent_ns)?;
        if price_e6.is_none() && quantity.is_none() {
            return Err(format!("order {id}: an update needs a price or a quantity"));
        }
        self.send(id, Ask::Update { price_e6, quantity }, sent_ns);
        Ok(())
    }

    /// Lets the day run on and hands over what has come back by then, in the order it came.
    pub fn advance(&mut self, to_ns: i64) -> Result<Vec<Report>, String> {
        if to_ns < self.now_ns {
            return Err(format!("advance to {to_ns}: the day stands at {} already", self.now_ns));
        }
        self.now_ns = to_ns;
        let mut said = Vec::new();
        for book in self.books.values_mut() {
            book.advance(to_ns, &mut said);
        }
        for mut report in said {
            let known = &mut self.orders[report.id as usize];
            let back_ns = delay(&mut known.reports, self.latency_median_ns);
            report.received_ns = (report.exchange_ns + back_ns).max(known.last_received_ns + 1);
            known.last_received_ns = report.received_ns;
            self.reports.push(report);
        }
        // A stable sort: of one order the reports keep their order, and ids break ties between orders.
        self.reports.sort_by_key(|report| (report.received_ns, report.id));
        let here = self.reports.partition_point(|report| report.received_ns <= to_ns);
        Ok(self.reports.drain(..here).collect())
    }

    fn send(&mut self, id: u64, ask: Ask, sent_ns: i64) {
        self.last_sent_ns = sent_ns;
        let known = &mut self.orders[id as usize];
        let out_ns = delay(&mut known.requests, self.latency_median_ns);
        self.last_arrives_ns = (sent_ns + out_ns).max(self.last_arrives_ns.saturating_add(1));
        let request = Request { id, arrives_ns: self.last_arrives_ns, ask };
        let (config, factor, instrument) = (&self.config, &self.factor, known.instrument);
        let book = self.books.entry(instrument).or_insert_with(|| OneBook::new(config, instrument, factor));
        book.request(request);
    }

    fn check_sent(&self, sent_ns: i64) -> Result<(), String> {
        if sent_ns < self.now_ns || sent_ns < self.last_sent_ns {
            let latest_ns = self.now_ns.max(self.last_sent_ns);
            return Err(format!("sent at {sent_ns}: before what has happened already, up to {latest_ns}"));
        }
        Ok(())
    }

    fn check_known(&self, id: u64) -> Result<(), String> {
        if id >= self.orders.len() as u64 {
            return Err(format!("order {id}: never placed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
