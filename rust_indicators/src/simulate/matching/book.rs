//! Our orders on one code, in the queue behind what the book showed when they came. Knows no delays.
//!
//! How far an order is from its turn is bounded from above: what stood at its price when it came, less what traded there,
//! and never more than the book shows there now (whoever leaves is behind us until the book proves the contrary).
use std::collections::{HashMap, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;

use super::super::event::{BUY, Book, Event, Side, Trade};
use super::super::market::Stream;
use super::super::path::Factor;
use super::super::{Config, Course, Instrument, LEVELS, Market, Session};
use super::{Ask, Lasting, Reason, Report, Request, Terms, What};

/// Of one order of stocks, by the exchange's rules.
const STOCK_LOTS_MAX: u32 = 499;
const ODD_LOT_SHARES_MAX: u32 = 999;
const NEVER_NS: i64 = i64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Board,
    /// Intraday odd lots, in shares.
    Odd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Buy,
    Sell,
}

impl Way {
    fn other(self) -> Way {
        if self == Way::Buy { Way::Sell } else { Way::Buy }
    }
}

#[derive(Clone, Copy, Debug)]
struct Working {
    id: u64,
    lane: Lane,
    way: Way,
    price_e6: i64,
    /// In all, and what is not filled of it.
    quantity: u32,
    left: u32,
    /// Lots of others at our price before us; None while the book does not show it.
    ahead: Option<u32>,
    /// Came in a call and has not met continuous trading: it takes at the others' prices, not at its own.
    fresh: bool,
    expires_ns: i64,
}

impl Working {
    /// Would it match at that price?
    fn reaches(&self, price_e6: i64) -> bool {
        match self.way {
            Way::Buy => self.price_e6 >= price_e6,
            Way::Sell => self.price_e6 <= price_e6,
        }
    }
}

/// What the exchange says of one code, in time order.
pub(super) type Events = Box<dyn Iterator<Item = Event> + Send + Sync>;

/// What an order meets when it arrives.
enum Phase {
    Call { expires_ns: i64 },
    Continuous { expires_ns: i64 },
}

pub struct OneBook {
    instrument: Instrument,
    sessions: Vec<Session>,
    ladder: Vec<i64>,
    events: Peekable<Events>,
    requests: VecDeque<Request>,
    /// In the order of their arrival, so that a stable sort by price is price–time priority.
    working: Vec<Working>,
    /// The last push, less what traded since.
    shown: Book,
    /// A pause: the last thing said was a trial.
    trial: bool,
    /// Lots we took of the levels shown, by price; bids' and asks'.
    taken: [HashMap<i64, u32>; 2],
}

impl OneBook {
    pub fn new(config: &Config, place: usize, factor: &Arc<Factor>) -> OneBook {
        let instrument = config.instruments[place].clone();
        let events = Stream::new(config, &instrument, factor);
        OneBook::over(instrument, &config.sessions, Box::new(events))
    }

    /// A book of events from anywhere.
    pub(super) fn over(instrument: Instrument, sessions: &[Session], events: Events) -> OneBook {
        let of_market = |session: &&Session| session.market == instrument.market;
        OneBook {
            sessions: sessions.iter().filter(of_market).cloned().collect(),
            ladder: instrument.ladder(),
            events: events.peekable(),
            instrument,
            requests: VecDeque::new(),
            working: Vec::new(),
            shown: Book::default(),
            trial: false,
            taken: [HashMap::new(), HashMap::new()],
        }
    }

    pub fn request(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    /// Everything up to `to_ns`. What the exchange says at an instant comes before what arrives there at it.
    pub fn advance(&mut self, to_ns: i64, said: &mut Vec<Report>) {
        loop {
            let request_ns = self.requests.front().map_or(NEVER_NS, |request| request.arrives_ns);
            if self.working.is_empty() && request_ns > to_ns {
                return;
            }
            let event_ns = self.events.peek().map_or(NEVER_NS, Event::exchange_ns);
            let expiry_ns = self.working.iter().map(|order| order.expires_ns).min().unwrap_or(NEVER_NS);
            let next_ns = event_ns.min(request_ns).min(expiry_ns);
            if next_ns > to_ns || next_ns == NEVER_NS {
                return;
            }
            if event_ns == next_ns {
                if let Some(event) = self.events.next() {
                    self.market(&event, said);
                }
            } else if expiry_ns == next_ns {
                self.expire(expiry_ns, said);
            } else if let Some(request) = self.requests.pop_front() {
                self.serve(request, said);
            }
            self.working.retain(|order| order.left > 0);
        }
    }

    fn market(&mut self, event: &Event, said: &mut Vec<Report>) {
        match event {
            Event::Trade(trade) if trade.trial => self.trial = true,
            Event::Book(book) if book.trial => (self.trial, self.shown) = (true, book.clone()),
            Event::Book(book) => {
                self.trial = false;
                self.shown.clone_from(book);
                self.seen_in_queue();
                self.crossed(said);
            }
            Event::Trade(trade) if trade.call.is_some() => {
                self.trial = false;
                self.shown = Book::default();
                self.taken.iter_mut().for_each(HashMap::clear);
                let (at_ns, price_e6) = (trade.exchange_ns, trade.price_e6);
                self.auction(Lane::Board, at_ns, price_e6, trade.volume, trade.side == BUY, said);
            }
            Event::Trade(trade) => self.traded(trade, said),
            Event::OddLots(matched) => {
                let (at_ns, price_e6) = (matched.exchange_ns, matched.price_e6);
                self.auction(Lane::Odd, at_ns, price_e6, matched.shares, matched.buyers_left, said);
            }
        }
    }

    /// A push bounds what is before each of ours, and what we took of each level.
    fn seen_in_queue(&mut self) {
        for (side, way) in [(&self.shown.bid, Way::Buy), (&self.shown.ask, Way::Sell)] {
            self.taken[way as usize].retain(|price_e6, lots| {
                *lots = volume_at(side, way, *price_e6).map_or(*lots, |volume| volume.min(*lots));
                *lots > 0
            });
        }
        for order in self.working.iter_mut().filter(|order| order.lane == Lane::Board) {
            let side = if order.way == Way::Buy { &self.shown.bid } else { &self.shown.ask };
            if let Some(volume) = volume_at(side, order.way, order.price_e6) {
                order.ahead = Some(order.ahead.map_or(volume, |ahead| ahead.min(volume)));
            }
        }
    }

    /// Others' orders now stand at or beyond a price of ours: they met us first.
    fn crossed(&mut self, said: &mut Vec<Report>) {
        let at_ns = self.shown.exchange_ns;
        for place in self.by_priority(Lane::Board) {
            let order = self.working[place];
            let own_price = (!order.fresh).then_some(order.price_e6);
            self.take(place, at_ns, own_price, said);
            self.working[place].fresh = false;
        }
    }

    /// The flow of one match: orders of ours that are better served first, then the queue at its price, ours in it.
    fn traded(&mut self, trade: &Trade, said: &mut Vec<Report>) {
        let way = if trade.side == BUY { Way::Sell } else { Way::Buy };
        let (mut flow, mut ours_here) = (trade.volume, 0);
        let before = volume_at(side_of(&mut self.shown, way), way, trade.price_e6).unwrap_or(0);
        for place in self.by_priority(Lane::Board) {
            let order = &mut self.working[place];
            if order.way != way || !order.reaches(trade.price_e6) {
                continue;
            }
            let better = order.price_e6 != trade.price_e6;
            let ahead = if better { 0 } else { order.ahead.unwrap_or(before) + ours_here };
            let quantity = order.left.min(flow.saturating_sub(ahead));
            if better {
                flow -= quantity;
            } else {
                ours_here += order.left;
                order.ahead = Some(order.ahead.unwrap_or(before).saturating_sub(trade.volume));
            }
            fill(order, trade.exchange_ns, order.price_e6, quantity, said);
        }
        let side = side_of(&mut self.shown, way);
        let level = (0..LEVELS).find(|&level| side.price_e6[level] == trade.price_e6);
        if let Some(level) = level {
            side.volume[level] = side.volume[level].saturating_sub(trade.volume);
            let left = side.volume[level];
            self.taken[way as usize].entry(trade.price_e6).and_modify(|lots| *lots = (*lots).min(left));
        }
    }

    /// One price for all: better orders are matched, those at the price where the surplus is on the other side.
    fn auction(
        &mut self,
        lane: Lane,
        at_ns: i64,
        price_e6: i64,
        volume: u32,
        buyers_left: bool,
        said: &mut Vec<Report>,
    ) {
        let mut budget = [volume, volume];
        for place in self.by_priority(lane) {
            let order = &mut self.working[place];
            let all_matched = (order.way == Way::Sell) == buyers_left;
            if order.reaches(price_e6) && (order.price_e6 != price_e6 || all_matched) {
                let budget = &mut budget[order.way as usize];
                let quantity = order.left.min(*budget);
                *budget -= quantity;
                fill(order, at_ns, price_e6, quantity, said);
            }
        }
    }

    fn expire(&mut self, at_ns: i64, said: &mut Vec<Report>) {
        for order in self.working.iter_mut().filter(|order| order.expires_ns == at_ns) {
            cancel(order, at_ns, said);
        }
    }

    fn serve(&mut self, Request { id, arrives_ns, ask }: Request, said: &mut Vec<Report>) {
        let answer = match ask {
            Ask::Place(terms) => self.place(id, terms, arrives_ns, said),
            Ask::Cancel => self.place_of(id).map(|place| cancel(&mut self.working[place], arrives_ns, said)),
            Ask::Update { price_e6, quantity } => self.update(id, price_e6, quantity, arrives_ns, said),
        };
        if let Err(reason) = answer {
            let left = self.place_of(id).map_or(0, |place| self.working[place].left);
            said.push(report(id, arrives_ns, What::Rejected(reason), left));
        }
    }

    fn place(&mut self, id: u64, terms: Terms, at_ns: i64, said: &mut Vec<Report>) -> Result<(), Reason> {
        let phase = self.phase(at_ns)?;
        let (call, expires_ns) = match phase {
            Phase::Call { expires_ns } => (true, expires_ns),
            Phase::Continuous { expires_ns } => (false, expires_ns),
        };
        self.check(&terms, call)?;
        let Terms { lane, way, price_e6, quantity, lasting } = terms;
        // At any price is at the limit: nobody may go beyond.
        let (low, high) = (self.ladder[0], self.ladder[self.ladder.len() - 1]);
        let price_e6 = price_e6.unwrap_or(if way == Way::Buy { high } else { low });
        let order = Working { id, lane, way, price_e6, quantity, left: quantity, ahead: None, fresh: call, expires_ns };
        said.push(report(id, at_ns, What::Accepted, quantity));
        self.working.push(order);
        let place = self.working.len() - 1;
        if call || lane == Lane::Odd {
            return Ok(());
        }
        if lasting == Lasting::Fok && self.takeable(&order) < quantity {
            cancel(&mut self.working[place], at_ns, said);
            return Ok(());
        }
        self.take(place, at_ns, None, said);
        let order = &mut self.working[place];
        if lasting != Lasting::Rod && order.left > 0 {
            cancel(order, at_ns, said);
        }
        self.queue(place);
        Ok(())
    }

    fn update(
        &mut self,
        id: u64,
        price_e6: Option<i64>,
        quantity: Option<u32>,
        at_ns: i64,
        said: &mut Vec<Report>,
    ) -> Result<(), Reason> {
        let place = self.place_of(id)?;
        let order = self.working[place];
        let call = matches!(self.phase(at_ns)?, Phase::Call { .. });
        let filled = order.quantity - order.left;
        let quantity = quantity.unwrap_or(order.quantity);
        if quantity > order.quantity || quantity <= filled {
            return Err(Reason::WrongQuantity);
        }
        let moved = price_e6.filter(|price_e6| *price_e6 != order.price_e6);
        if let Some(price_e6) = moved {
            if order.lane == Lane::Odd {
                return Err(Reason::WrongLane);
            }
            self.check_price(price_e6)?;
        }
        let order = &mut self.working[place];
        (order.quantity, order.left) = (quantity, quantity - filled);
        let price_e6 = moved.unwrap_or(order.price_e6);
        said.push(report(id, at_ns, What::Updated { price_e6, quantity }, order.left));
        if moved.is_some() {
            let mut order = self.working.remove(place);
            (order.price_e6, order.ahead, order.fresh) = (price_e6, None, call);
            self.working.push(order);
            if !call {
                let last = self.working.len() - 1;
                self.take(last, at_ns, None, said);
                self.queue(last);
            }
        }
        Ok(())
    }

    fn phase(&self, at_ns: i64) -> Result<Phase, Reason> {
        let close_ns = |session: &Session| self.instrument.close_ns(session);
        let found = self.sessions.iter().find(|session| session.trial_ns <= at_ns && at_ns < close_ns(session));
        let session = found.ok_or(Reason::Closed)?;
        let expires_ns = close_ns(session);
        let call = at_ns < session.open_ns || at_ns >= session.call_ns || self.trial;
        Ok(if call { Phase::Call { expires_ns } } else { Phase::Continuous { expires_ns } })
    }

    fn check(&self, terms: &Terms, call: bool) -> Result<(), Reason> {
        let stock = self.instrument.market == Market::Stock;
        if self.instrument.course == Course::Suspended {
            return Err(Reason::Suspended);
        }
        let most = match (terms.lane, stock) {
            (Lane::Odd, false) => return Err(Reason::WrongLane),
            (Lane::Odd, true) if terms.quantity > ODD_LOT_SHARES_MAX => return Err(Reason::WrongLane),
            (Lane::Odd, true) => ODD_LOT_SHARES_MAX,
            (Lane::Board, true) => STOCK_LOTS_MAX,
            (Lane::Board, false) => u32::MAX,
        };
        if terms.quantity == 0 || terms.quantity > most {
            return Err(Reason::WrongQuantity);
        }
        let rod = terms.lasting == Lasting::Rod;
        let terms_fit = match terms.lane {
            Lane::Odd => rod && terms.price_e6.is_some(),
            Lane::Board => (rod || !call) && !(rod && terms.price_e6.is_none() && !stock),
        };
        if !terms_fit {
            return Err(Reason::WrongTerms);
        }
        terms.price_e6.map_or(Ok(()), |price_e6| self.check_price(price_e6))
    }

    fn check_price(&self, price_e6: i64) -> Result<(), Reason> {
        if price_e6 < self.ladder[0] || price_e6 > self.ladder[self.ladder.len() - 1] {
            return Err(Reason::OutOfLimits);
        }
        self.ladder.binary_search(&price_e6).map(|_| ()).map_err(|_| Reason::OffTick)
    }

    /// (price, lots still to be had) of the other side, best first, as far as the order reaches.
    fn levels(&self, order: &Working) -> Vec<(i64, u32)> {
        let other = order.way.other();
        let side = if other == Way::Buy { &self.shown.bid } else { &self.shown.ask };
        let taken = &self.taken[other as usize];
        let levels = side.price_e6.iter().zip(&side.volume).filter(|(price_e6, _)| **price_e6 != 0);
        let reached = levels.take_while(|(price_e6, _)| order.reaches(**price_e6));
        reached
            .map(|(price_e6, volume)| (*price_e6, volume.saturating_sub(taken.get(price_e6).copied().unwrap_or(0))))
            .collect()
    }

    fn takeable(&self, order: &Working) -> u32 {
        self.levels(order).iter().fold(0, |sum, (_, lots)| sum.saturating_add(*lots))
    }

    /// Takes what is shown, at its prices or at the one given.
    fn take(&mut self, place: usize, at_ns: i64, at_price: Option<i64>, said: &mut Vec<Report>) {
        let order = self.working[place];
        for (price_e6, lots) in self.levels(&order) {
            let quantity = self.working[place].left.min(lots);
            if quantity > 0 {
                let taken = &mut self.taken[order.way.other() as usize];
                *taken.entry(price_e6).or_default() += quantity;
                fill(&mut self.working[place], at_ns, at_price.unwrap_or(price_e6), quantity, said);
            }
        }
    }

    /// Puts what is left behind what the book shows at its price now.
    fn queue(&mut self, place: usize) {
        let order = &mut self.working[place];
        let side = if order.way == Way::Buy { &self.shown.bid } else { &self.shown.ask };
        order.ahead = volume_at(side, order.way, order.price_e6);
    }

    fn place_of(&self, id: u64) -> Result<usize, Reason> {
        self.working.iter().position(|order| order.id == id && order.left > 0).ok_or(Reason::NotWorking)
    }

    /// Places of our orders: better price first, then the earlier.
    fn by_priority(&self, lane: Lane) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.working.len()).filter(|&at| self.working[at].lane == lane).collect();
        places.sort_by_key(|&at| match self.working[at].way {
            Way::Buy => -self.working[at].price_e6,
            Way::Sell => self.working[at].price_e6,
        });
        places
    }
}

/// Lots shown at a price; 0 where the book shows that nobody is there, None where it does not reach so far.
fn volume_at(side: &Side, way: Way, price_e6: i64) -> Option<u32> {
    if let Some(level) = (0..LEVELS).find(|&level| side.price_e6[level] == price_e6) {
        return Some(side.volume[level]);
    }
    let worst_e6 = side.price_e6.iter().copied().rfind(|&shown_e6| shown_e6 != 0)?;
    let better = if way == Way::Buy { price_e6 > worst_e6 } else { price_e6 < worst_e6 };
    better.then_some(0)
}

fn side_of(book: &mut Book, way: Way) -> &mut Side {
    if way == Way::Buy { &mut book.bid } else { &mut book.ask }
}

fn fill(order: &mut Working, at_ns: i64, price_e6: i64, quantity: u32, said: &mut Vec<Report>) {
    if quantity > 0 {
        order.left -= quantity;
        said.push(report(order.id, at_ns, What::Filled { price_e6, quantity }, order.left));
    }
}

fn cancel(order: &mut Working, at_ns: i64, said: &mut Vec<Report>) {
    let quantity = std::mem::take(&mut order.left);
    said.push(report(order.id, at_ns, What::Cancelled { quantity }, 0));
}

fn report(id: u64, exchange_ns: i64, what: What, left: u32) -> Report {
    Report { id, exchange_ns, received_ns: exchange_ns, what, left }
}
