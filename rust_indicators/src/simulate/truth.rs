//! What really happened, delivered or not: the answer key for the audit. Columns, so that it is cheap to compare.
use super::market::{Event, Touch};
use super::{Config, Exchange, Fate, Step};

/// Fates as numbers: an outage is its index, from 0.
const DELIVERED: i32 = -1;
const LOST: i32 = -2;

/// Where, when and whether; shared by trades and books.
#[derive(Default)]
pub struct Rows {
    pub instrument: Vec<u16>,
    pub session: Vec<u8>,
    pub exchange_ns: Vec<i64>,
    /// When it came, or would have come.
    pub received_ns: Vec<i64>,
    pub fate: Vec<i32>,
}

/// The best of both sides; price and volume 0 where a side is empty.
#[derive(Default)]
pub struct Touches {
    pub bid_e6: Vec<i64>,
    pub ask_e6: Vec<i64>,
    pub bid_volume: Vec<u32>,
    pub ask_volume: Vec<u32>,
}

/// Every match of continuous trading, in the order of the receive clock; of one code that is the exchange's order.
#[derive(Default)]
pub struct Trades {
    pub rows: Rows,
    pub price_e6: Vec<i64>,
    pub volume: Vec<u32>,
    pub total_volume: Vec<u64>,
    /// As the broker's `tick_type`: 1 buyer, 2 seller initiated.
    pub side: Vec<u8>,
    /// Of the last book pushed before the match.
    pub touches: Touches,
}

/// Every book push of continuous trading.
#[derive(Default)]
pub struct Books {
    pub rows: Rows,
    pub touches: Touches,
}

/// Second deliveries.
#[derive(Default)]
pub struct Repeats {
    pub instrument: Vec<u16>,
    /// 1 for a tick, 0 for a book.
    pub tick: Vec<u8>,
    pub first_received_ns: Vec<i64>,
    pub received_ns: Vec<i64>,
}

#[derive(Default)]
pub struct Truth {
    pub trades: Trades,
    pub books: Books,
    pub repeats: Repeats,
    /// Receive times of each disconnect and reconnect.
    pub outages: Vec<(i64, i64)>,
    /// Trial matches and trial books: delivered, not delivered.
    pub trials: (u64, u64),
    /// Everything handed over: quotes, repeats, disconnects and reconnects.
    pub deliveries: u64,
}

/// Plays the day through without writing it out.
pub fn truth(config: &Config) -> Result<Truth, String> {
    let mut exchange = Exchange::new(config.clone())?;
    let mut truth = Truth::default();
    while let Some(step) = exchange.step() {
        truth.deliveries += u64::from(!matches!(step, Step::Quote { fate: Fate::Lost | Fate::Outage(_), .. }));
        truth.add(step);
    }
    Ok(truth)
}

impl Truth {
    fn add(&mut self, step: Step) {
        match step {
            Step::Quote { event, fate, .. } if event.trial() => match fate {
                Fate::Delivered => self.trials.0 += 1,
                Fate::Lost | Fate::Outage(_) => self.trials.1 += 1,
            },
            Step::Quote { instrument, event: Event::Trade(trade), received_ns, fate } => {
                self.trades.rows.add(instrument, trade.session, trade.exchange_ns, received_ns, fate);
                self.trades.price_e6.push(trade.price_e6);
                self.trades.volume.push(trade.volume);
                self.trades.total_volume.push(trade.totals.volume);
                self.trades.side.push(trade.side);
                self.trades.touches.add(trade.touch);
            }
            Step::Quote { instrument, event: Event::Book(book), received_ns, fate } => {
                self.books.rows.add(instrument, book.session, book.exchange_ns, received_ns, fate);
                self.books.touches.add(book.touch());
            }
            Step::Repeat { instrument, event, received_ns, first_received_ns } => {
                self.repeats.instrument.push(instrument as u16);
                self.repeats.tick.push(u8::from(matches!(event, Event::Trade(_))));
                self.repeats.first_received_ns.push(first_received_ns);
                self.repeats.received_ns.push(received_ns);
            }
            Step::Down { received_ns } => self.outages.push((received_ns, received_ns)),
            Step::Up { received_ns } => {
                if let Some(outage) = self.outages.last_mut() {
                    outage.1 = received_ns;
                }
            }
        }
    }
}

impl Touches {
    fn add(&mut self, touch: Touch) {
        self.bid_e6.push(touch.bid_e6);
        self.ask_e6.push(touch.ask_e6);
        self.bid_volume.push(touch.bid_volume);
        self.ask_volume.push(touch.ask_volume);
    }
}

impl Rows {
    fn add(&mut self, instrument: usize, session: usize, exchange_ns: i64, received_ns: i64, fate: Fate) {
        self.instrument.push(instrument as u16);
        self.session.push(session as u8);
        self.exchange_ns.push(exchange_ns);
        self.received_ns.push(received_ns);
        self.fate.push(match fate {
            Fate::Delivered => DELIVERED,
            Fate::Lost => LOST,
            Fate::Outage(index) => index as i32,
        });
    }
}
