//! What really happened, delivered or not: the answer key for the audit. Columns, so that it is cheap to compare.
use super::calls::{Call, OddLotMatch};
use super::event::{Event, Touch, Trade};
use super::{Config, Exchange, Fate, Step};

/// Fates as numbers: an outage is its index, from 0.
const DELIVERED: i32 = -1;
const LOST: i32 = -2;
const STALLED: i32 = -3;
const MALFORMED: i32 = -4;

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

/// Every match, in the order of the receive clock; of one code that is the exchange's order, but for late messages.
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

/// Messages that came after their turn, or spoiled.
#[derive(Default)]
pub struct Faulty {
    pub instrument: Vec<u16>,
    /// 1 for a tick, 0 for a book.
    pub tick: Vec<u8>,
    pub exchange_ns: Vec<i64>,
    pub received_ns: Vec<i64>,
    /// Of the spoiled: how.
    pub spoil: Vec<u8>,
}

/// Auctions on the board lane: their prints are matches too.
#[derive(Default)]
pub struct Calls {
    pub instrument: Vec<u16>,
    /// 0 opening, 1 closing, 2 volatility pause.
    pub kind: Vec<u8>,
    pub start_ns: Vec<i64>,
    pub end_ns: Vec<i64>,
    pub price_e6: Vec<i64>,
    pub volume: Vec<u32>,
}

/// Auctions of the odd-lot lane, none of which is delivered.
#[derive(Default)]
pub struct OddLots {
    pub instrument: Vec<u16>,
    pub exchange_ns: Vec<i64>,
    pub price_e6: Vec<i64>,
    pub shares: Vec<u32>,
    pub total_shares: Vec<u64>,
}

#[derive(Default)]
pub struct Truth {
    pub trades: Trades,
    pub books: Books,
    pub repeats: Repeats,
    pub late: Faulty,
    pub malformed: Faulty,
    pub calls: Calls,
    pub odd_lots: OddLots,
    /// Receive times between which the connection seemed up and said nothing.
    pub stalls: Vec<(i64, i64)>,
    /// Between the first two the feed fell behind; by the last it had caught up.
    pub slows: Vec<(i64, i64, i64)>,
    /// (when by a sound clock, by how much) our own clock stepped.
    pub clock_steps: Vec<(i64, i64)>,
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
    truth.stalls.clone_from(&exchange.faults.stalls);
    let caught_up = |&(start_ns, end_ns): &(i64, i64)| (start_ns, end_ns, exchange.faults.slowed(end_ns));
    truth.slows = exchange.faults.slows.iter().map(caught_up).collect();
    truth.clock_steps = exchange.faults.clock_steps().map(|at_ns| (at_ns, config.feed.clock_step_ns)).collect();
    while let Some(step) = exchange.step() {
        let nothing = match &step {
            Step::Quote { fate, .. } => !fate.arrives(),
            Step::OddLots { .. } => true,
            _ => false,
        };
        truth.deliveries += u64::from(!nothing);
        truth.add(step);
    }
    Ok(truth)
}

impl Truth {
    fn add(&mut self, step: Step) {
        if let Step::Quote { instrument, event, received_ns, fate: fate @ (Fate::Late | Fate::Malformed(_)) } = &step {
            let table = if *fate == Fate::Late { &mut self.late } else { &mut self.malformed };
            table.add(*instrument, event, *received_ns, *fate);
        }
        match step {
            Step::Quote { event, fate, .. } if event.trial() => match fate.arrives() {
                true => self.trials.0 += 1,
                false => self.trials.1 += 1,
            },
            Step::Quote { instrument, event: Event::Trade(trade), received_ns, fate } => {
                self.trades.rows.add(instrument, trade.session, trade.exchange_ns, received_ns, fate);
                self.trades.add(&trade);
                if let Some(call) = trade.call {
                    self.calls.add(instrument, call, &trade);
                }
            }
            Step::Quote { instrument, event: Event::Book(book), received_ns, fate } => {
                self.books.rows.add(instrument, book.session, book.exchange_ns, received_ns, fate);
                self.books.touches.add(book.touch());
            }
            Step::Quote { event: Event::OddLots(_), .. } => unreachable!("the odd-lot lane is never delivered"),
            Step::OddLots { instrument, matched } => self.odd_lots.add(instrument, matched),
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

impl Trades {
    fn add(&mut self, trade: &Trade) {
        self.price_e6.push(trade.price_e6);
        self.volume.push(trade.volume);
        self.total_volume.push(trade.totals.volume);
        self.side.push(trade.side);
        self.touches.add(trade.touch);
    }
}

impl Faulty {
    fn add(&mut self, instrument: usize, event: &Event, received_ns: i64, fate: Fate) {
        self.instrument.push(instrument as u16);
        self.tick.push(u8::from(matches!(event, Event::Trade(_))));
        self.exchange_ns.push(event.exchange_ns());
        self.received_ns.push(received_ns);
        if let Fate::Malformed(spoil) = fate {
            self.spoil.push(spoil as u8);
        }
    }
}

impl Calls {
    fn add(&mut self, instrument: usize, call: Call, trade: &Trade) {
        self.instrument.push(instrument as u16);
        self.kind.push(call.kind as u8);
        self.start_ns.push(call.start_ns);
        self.end_ns.push(call.end_ns);
        self.price_e6.push(trade.price_e6);
        self.volume.push(trade.volume);
    }
}

impl OddLots {
    fn add(&mut self, instrument: usize, matched: OddLotMatch) {
        self.instrument.push(instrument as u16);
        self.exchange_ns.push(matched.exchange_ns);
        self.price_e6.push(matched.price_e6);
        self.shares.push(matched.shares);
        self.total_shares.push(matched.total_shares);
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
            Fate::Delivered | Fate::Late => DELIVERED,
            Fate::Lost => LOST,
            Fate::Stalled => STALLED,
            Fate::Malformed(_) => MALFORMED,
            Fate::Outage(index) => index as i32,
        });
    }
}
