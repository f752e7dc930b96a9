//! The simulated exchange: one trading day of deliveries as a pure function of (seed, config), faults included.
//! Not a broker: it knows no clock, no network and no orders. `wire` writes what the broker's SDK reads.
mod arrivals;
mod config;
mod faults;
pub mod market;
mod random;
mod truth;
mod wire;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub use config::{ABSENT, Config, E6, Instrument, LEVELS, Market, Session};
pub use faults::Fate;
use faults::{Faults, Repeat};
use market::{Event, Stream};
use random::Random;
pub use truth::{Rows, Touches, Truth, truth};

/// Messages of one code this close together come with one delay.
const BURST_NS: i64 = 1_000_000;

/// What a delivery is; the numbers are what Python sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    TickStock = 0,
    TickFutures = 1,
    BookStock = 2,
    BookFutures = 3,
    Down = 4,
    Up = 5,
}

/// One thing that happens, in the order of the receive clock.
#[derive(Debug)]
pub enum Step {
    /// On the exchange; delivered if the fate says so. `received_ns` is when it came or would have come.
    Quote {
        instrument: usize,
        event: Event,
        received_ns: i64,
        fate: Fate,
    },
    /// The same bytes once more; `first_received_ns` says of which delivery.
    Repeat {
        instrument: usize,
        event: Event,
        received_ns: i64,
        first_received_ns: i64,
    },
    Down {
        received_ns: i64,
    },
    Up {
        received_ns: i64,
    },
}

/// One delivery; `bytes` are those appended to the caller's buffer for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub kind: Kind,
    pub exchange_ns: i64,
    pub received_ns: i64,
    pub bytes: usize,
}

struct Feed {
    stream: Stream,
    random: Random,
    next: Option<Event>,
    exchange_ns: i64,
    delay_ns: i64,
    received_ns: i64,
}

/// The whole day, generated as it is read.
pub struct Exchange {
    config: Config,
    feeds: Vec<Feed>,
    /// Each instrument's next event by the time it would come; ties by place in the list.
    queue: BinaryHeap<Reverse<(i64, usize)>>,
    faults: Faults,
    /// Receive stamps rise strictly over the day, so that one of them names one delivery.
    received_ns: i64,
    skip_ns: i64,
}

impl Exchange {
    pub fn new(config: Config) -> Result<Exchange, String> {
        config.check()?;
        let mut feeds = Vec::with_capacity(config.instruments.len());
        for instrument in &config.instruments {
            let random = config.random(&format!("delay {}", instrument.code));
            feeds.push(Feed {
                stream: Stream::new(&config, instrument),
                random,
                next: None,
                exchange_ns: 0,
                delay_ns: 0,
                received_ns: 0,
            });
        }
        let (faults, queue) = (Faults::new(&config), BinaryHeap::with_capacity(feeds.len()));
        let mut exchange = Exchange { config, feeds, queue, faults, received_ns: 0, skip_ns: 0 };
        (0..exchange.feeds.len()).for_each(|index| exchange.refill(index));
        Ok(exchange)
    }

    /// Leaves out every delivery received at `received_ns` or before; nothing else changes.
    pub fn skip_until(&mut self, received_ns: i64) {
        self.skip_ns = self.skip_ns.max(received_ns);
    }

    /// The next delivery, its payload appended to `out`.
    pub fn deliver(&mut self, out: &mut Vec<u8>) -> Option<Delivery> {
        loop {
            let (instrument, event, received_ns) = match self.step()? {
                Step::Quote { instrument, event, received_ns, fate: Fate::Delivered }
                | Step::Repeat { instrument, event, received_ns, .. } => (instrument, event, received_ns),
                Step::Quote { .. } => continue,
                Step::Down { received_ns } | Step::Up { received_ns } if received_ns <= self.skip_ns => {
                    continue;
                }
                Step::Down { received_ns } => {
                    return Some(Delivery { kind: Kind::Down, exchange_ns: ABSENT, received_ns, bytes: 0 });
                }
                Step::Up { received_ns } => {
                    return Some(Delivery { kind: Kind::Up, exchange_ns: ABSENT, received_ns, bytes: 0 });
                }
            };
            if received_ns > self.skip_ns {
                let (start, exchange_ns) = (out.len(), event.exchange_ns());
                let kind = encode(out, &self.config.instruments[instrument], &event);
                return Some(Delivery { kind, exchange_ns, received_ns, bytes: out.len() - start });
            }
        }
    }

    /// The next thing that happens, delivered or not.
    pub fn step(&mut self) -> Option<Step> {
        let due_ns = self.queue.peek().map(|Reverse((received_ns, _))| *received_ns);
        if let Some(Repeat { instrument, event, received_ns: first_received_ns }) = self.faults.repeat(due_ns) {
            let received_ns = self.stamp(self.received_ns);
            return Some(Step::Repeat { instrument, event, received_ns, first_received_ns });
        }
        if let Some((up, at_ns)) = self.faults.switch(due_ns) {
            let received_ns = self.stamp(at_ns);
            return Some(if up { Step::Up { received_ns } } else { Step::Down { received_ns } });
        }
        let Reverse((due_ns, instrument)) = self.queue.pop()?;
        let event = self.feeds[instrument].next.take()?;
        self.refill(instrument);
        let fate = self.faults.fate(&event);
        if fate != Fate::Delivered {
            return Some(Step::Quote { instrument, event, received_ns: due_ns, fate });
        }
        let received_ns = self.stamp(due_ns);
        self.faults.note(instrument, &event, received_ns);
        Some(Step::Quote { instrument, event, received_ns, fate })
    }

    fn stamp(&mut self, candidate_ns: i64) -> i64 {
        self.received_ns = candidate_ns.max(self.received_ns + 1);
        self.received_ns
    }

    fn refill(&mut self, index: usize) {
        let feed = &mut self.feeds[index];
        if let Some(event) = feed.stream.next() {
            // A burst travels together, or its slowest message would hold up all behind it.
            if event.exchange_ns() - feed.exchange_ns > BURST_NS {
                feed.delay_ns = delay(&mut feed.random, self.config.delay_median_ns);
            }
            feed.exchange_ns = event.exchange_ns();
            // One code's messages do not overtake each other.
            feed.received_ns = (feed.exchange_ns + feed.delay_ns).max(feed.received_ns + 1);
            feed.next = Some(event);
            self.queue.push(Reverse((feed.received_ns, index)));
        }
    }
}

/// A delay whose quantiles are fixed multiples of the median, with a tail of a few in ten thousand near 30 times.
fn delay(random: &mut Random, median_ns: u64) -> i64 {
    const QUANTILES: [(u64, u64); 8] = [
        (0, 400),
        (1_000, 650),
        (5_000, 1_000),
        (7_500, 1_300),
        (9_000, 2_000),
        (9_900, 6_000),
        (9_990, 15_000),
        (10_000, 30_000),
    ];
    let draw = random.below(10_000);
    let above = QUANTILES.partition_point(|(share, _)| *share <= draw);
    let ((from, low), (to, high)) = (QUANTILES[above - 1], QUANTILES[above]);
    let jitter_ns = random.below(median_ns / 50 + 1);
    ((low + (high - low) * (draw - from) / (to - from)) * median_ns / 1_000 + jitter_ns) as i64
}

fn encode(out: &mut Vec<u8>, instrument: &Instrument, event: &Event) -> Kind {
    match (event, instrument.market) {
        (Event::Trade(trade), Market::Stock) => {
            wire::tick_stock(out, instrument, trade);
            Kind::TickStock
        }
        (Event::Trade(trade), Market::Futures) => {
            wire::tick_futures(out, instrument, trade);
            Kind::TickFutures
        }
        (Event::Book(book), Market::Stock) => {
            wire::book_stock(out, instrument, book);
            Kind::BookStock
        }
        (Event::Book(book), Market::Futures) => {
            wire::book_futures(out, instrument, book);
            Kind::BookFutures
        }
    }
}

#[cfg(test)]
mod tests;
