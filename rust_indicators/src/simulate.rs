//! The simulated exchange: one trading day of deliveries as a pure function of (seed, config), faults included.
//! Not a broker: it knows no clock, no network and no orders. `wire` writes what the broker's SDK reads.
mod arrivals;
pub mod calls;
mod config;
pub mod event;
mod faults;
pub mod market;
pub mod matching;
mod path;
mod random;
mod rules;
mod spoil;
mod truth;
mod wire;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

pub use config::{ABSENT, Config, E6, Instrument, LEVELS, Market, Session};
use event::Event;
pub use faults::{Fate, FeedFaults};
use faults::{Faults, Waiting};
use market::Stream;
use path::Factor;
use random::Random;
pub use rules::{Course, Rules};
pub use spoil::Spoil;
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
    /// An auction of the odd-lot lane; nothing tells us of it.
    OddLots {
        instrument: usize,
        matched: calls::OddLotMatch,
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
    /// By a sound clock, as `received_ns`.
    skip_ns: i64,
}

impl Exchange {
    pub fn new(config: Config) -> Result<Exchange, String> {
        config.check()?;
        let factor = Arc::new(Factor::new(&config));
        let mut feeds = Vec::with_capacity(config.instruments.len());
        for instrument in &config.instruments {
            let random = config.random(&format!("delay {}", instrument.code));
            feeds.push(Feed {
                stream: Stream::new(&config, instrument, &factor),
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

    /// Leaves out every delivery up to the first time our clock shows `received_ns`; nothing else changes.
    pub fn skip_until(&mut self, received_ns: i64) {
        self.skip_ns = self.skip_ns.max(self.faults.first_shown(received_ns));
    }

    /// The next delivery, its payload appended to `out`.
    pub fn deliver(&mut self, out: &mut Vec<u8>) -> Option<Delivery> {
        loop {
            let step = self.step()?;
            // The sound stamp of what was just handed over: a clock that steps back must not hide what follows.
            let seen = self.received_ns <= self.skip_ns;
            let start = out.len();
            let (kind, exchange_ns, received_ns) = match &step {
                _ if seen => continue,
                Step::Quote { instrument, event, received_ns, fate } if fate.arrives() => {
                    let kind = encode(out, &self.config.instruments[*instrument], event);
                    if let Fate::Malformed(spoil) = fate {
                        spoil.apply(out, start, kind);
                    }
                    (kind, event.exchange_ns(), *received_ns)
                }
                Step::Repeat { instrument, event, received_ns, .. } => {
                    let kind = encode(out, &self.config.instruments[*instrument], event);
                    (kind, event.exchange_ns(), *received_ns)
                }
                Step::Quote { .. } | Step::OddLots { .. } => continue,
                Step::Down { received_ns } => (Kind::Down, ABSENT, *received_ns),
                Step::Up { received_ns } => (Kind::Up, ABSENT, *received_ns),
            };
            return Some(Delivery { kind, exchange_ns, received_ns, bytes: out.len() - start });
        }
    }

    /// The next thing that happens, delivered or not, stamped by our own clock.
    pub fn step(&mut self) -> Option<Step> {
        let mut step = self.step_by_a_sound_clock();
        match &mut step {
            Some(Step::Repeat { received_ns, first_received_ns, .. }) => {
                *received_ns = self.faults.clock(*received_ns);
                *first_received_ns = self.faults.clock(*first_received_ns);
            }
            Some(Step::Quote { received_ns, .. } | Step::Down { received_ns } | Step::Up { received_ns }) => {
                *received_ns = self.faults.clock(*received_ns);
            }
            Some(Step::OddLots { .. }) | None => {}
        }
        step
    }

    fn step_by_a_sound_clock(&mut self) -> Option<Step> {
        loop {
            let due_ns = self.queue.peek().map(|Reverse((due_ns, _))| self.faults.slowed(*due_ns));
            if let Some(waiting) = self.faults.waiting(due_ns) {
                return Some(self.waited(waiting));
            }
            if let Some((up, at_ns)) = self.faults.switch(due_ns) {
                let received_ns = self.stamp(at_ns);
                return Some(if up { Step::Up { received_ns } } else { Step::Down { received_ns } });
            }
            let Reverse((_, instrument)) = self.queue.pop()?;
            let mut received_ns = due_ns?;
            let event = self.feeds[instrument].next.as_ref()?;
            if let Event::OddLots(matched) = event {
                let matched = *matched;
                self.refill(instrument);
                return Some(Step::OddLots { instrument, matched });
            }
            let fate = self.faults.fate(event, received_ns);
            if fate == Fate::Late {
                self.faults.hold(instrument, event.clone());
                self.refill(instrument);
                continue;
            }
            if fate.arrives() {
                received_ns = received_ns.max(self.received_ns + 1);
                self.received_ns = received_ns;
            }
            if fate == Fate::Delivered {
                self.faults.note(instrument, event, received_ns);
            }
            let event = self.feeds[instrument].next.take()?;
            self.refill(instrument);
            return Some(Step::Quote { instrument, event, received_ns, fate });
        }
    }

    #[cold]
    fn waited(&mut self, Waiting { instrument, event, first_received_ns }: Waiting) -> Step {
        let received_ns = self.stamp(self.received_ns);
        match first_received_ns {
            Some(first_received_ns) => Step::Repeat { instrument, event, received_ns, first_received_ns },
            None => {
                self.faults.note(instrument, &event, received_ns);
                Step::Quote { instrument, event, received_ns, fate: Fate::Late }
            }
        }
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
        (Event::OddLots(_), _) => unreachable!("the odd-lot lane is never delivered"),
    }
}

#[cfg(test)]
mod tests;
