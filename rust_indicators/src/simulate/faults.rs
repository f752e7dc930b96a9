//! What goes wrong between the exchange and us: outages, lost messages, repeated messages.
//! Drawn from numbers of its own, so that the market is the same whatever the faults.
use super::market::Event;
use super::random::Random;
use super::{Config, Market};

/// Why an event was, or was not, delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    Lost,
    Outage(usize),
}

/// A message to be delivered once more.
pub struct Repeat {
    pub instrument: usize,
    pub event: Event,
    pub received_ns: i64,
}

pub struct Faults {
    /// Start and end on the receive clock, in time order, apart from each other.
    outages: Vec<(i64, i64)>,
    next_outage: usize,
    down: bool,
    lost_ticks: Picks,
    lost_books: Picks,
    repeats: Picks,
    random: Random,
    repeat_distance_max: u64,
    delivered: u64,
    pending: Vec<(u64, Repeat)>,
}

impl Faults {
    pub fn check(config: &Config) -> Result<(), String> {
        let sessions = with_outages(config).len() as u64;
        let slots = config.outages.div_ceil(sessions.max(1));
        let fits = |(open_ns, close_ns): &(i64, i64)| {
            config.outage_ns as i128 * i128::from(slots) * 2 <= i128::from(close_ns - open_ns)
        };
        if config.outages > 0 && (config.outage_ns <= 0 || slots > 1_000 || !with_outages(config).iter().all(fits)) {
            return Err(format!(
                "{} outages of {} ns do not fit: they may fill half of a session",
                config.outages, config.outage_ns
            ));
        }
        Ok(())
    }

    pub fn new(config: &Config) -> Faults {
        // Of a hundred events about 38 are trades and 62 books; the picks end before the events do.
        let span = |percent: u64| config.target_events * percent / 100;
        let random = |name: &str| config.random(name);
        Faults {
            outages: outages(config),
            next_outage: 0,
            down: false,
            lost_ticks: Picks::new(random("lost ticks"), config.lost_ticks, span(30)),
            lost_books: Picks::new(random("lost books"), config.lost_books, span(50)),
            repeats: Picks::new(random("repeats"), config.repeats, span(85)),
            random: random("repeat distance"),
            repeat_distance_max: config.repeat_distance_max,
            delivered: 0,
            pending: Vec::new(),
        }
    }

    /// A repeat whose turn has come; all of them before a disconnect and at the end of the day.
    pub fn repeat(&mut self, due_ns: Option<i64>) -> Option<Repeat> {
        let flush = match (due_ns, self.outages.get(self.next_outage)) {
            (Some(due_ns), Some((start_ns, _))) => due_ns >= *start_ns,
            (due_ns, _) => due_ns.is_none(),
        };
        let ready = self.pending.iter().position(|(turn, _)| flush || *turn <= self.delivered)?;
        Some(self.pending.remove(ready).1)
    }

    /// The connection goes down (`false`) or up (`true`) before the event that is due, and when.
    pub fn switch(&mut self, due_ns: Option<i64>) -> Option<(bool, i64)> {
        let (start_ns, end_ns) = *self.outages.get(self.next_outage)?;
        if !self.down {
            self.down = due_ns.is_none_or(|due_ns| due_ns >= start_ns);
            return self.down.then_some((false, start_ns));
        }
        if due_ns.is_some_and(|due_ns| due_ns < end_ns) {
            return None;
        }
        self.down = false;
        self.next_outage += 1;
        Some((true, end_ns))
    }

    pub fn fate(&mut self, event: &Event) -> Fate {
        if self.down {
            return Fate::Outage(self.next_outage);
        }
        let lost = match event {
            _ if event.trial() => false,
            Event::Trade(_) => self.lost_ticks.hit(),
            Event::Book(_) => self.lost_books.hit(),
        };
        if lost { Fate::Lost } else { Fate::Delivered }
    }

    /// Counts a delivery and may set its repeat.
    pub fn note(&mut self, instrument: usize, event: &Event, received_ns: i64) {
        self.delivered += 1;
        if self.repeats.hit() {
            let turn = self.delivered + self.random.below(self.repeat_distance_max + 1);
            self.pending.push((turn, Repeat { instrument, event: event.clone(), received_ns }));
        }
    }
}

/// Continuous phases an outage can fall in: futures where there are any, the latest (the day session) first.
fn with_outages(config: &Config) -> Vec<(i64, i64)> {
    let of = |market: Market| {
        let sessions = config.sessions.iter().rev().filter(move |session| session.market == market);
        sessions.map(|session| (session.open_ns, session.close_ns)).collect::<Vec<_>>()
    };
    let traded = |market: Market| config.instruments.iter().any(|instrument| instrument.market == market);
    if traded(Market::Futures) { of(Market::Futures) } else { of(Market::Stock) }
}

/// Outage i is in session i modulo their number, in a slot of its own in the middle four fifths.
fn outages(config: &Config) -> Vec<(i64, i64)> {
    let mut random = config.random("outages");
    let sessions = with_outages(config);
    let mut found = Vec::new();
    for index in 0..config.outages {
        let (open_ns, close_ns) = sessions[index as usize % sessions.len()];
        let slots = config.outages.div_ceil(sessions.len() as u64) as i64;
        let slot_ns = (close_ns - open_ns) / slots * 4 / 5;
        let first_ns = open_ns + (close_ns - open_ns) / 10 + slot_ns * (index as i64 / sessions.len() as i64);
        let start_ns = first_ns + random.below((slot_ns - config.outage_ns).max(1) as u64) as i64;
        found.push((start_ns, start_ns + config.outage_ns));
    }
    found.sort_unstable();
    found
}

/// Picks an exact number of members of a sequence, one in each of as many equal stretches.
struct Picks {
    random: Random,
    left: u64,
    stretch: u64,
    seen: u64,
    next: u64,
    stretch_start: u64,
}

impl Picks {
    fn new(random: Random, count: u64, span: u64) -> Picks {
        let stretch = (span / count.max(1)).max(1);
        let mut picks = Picks { random, left: count, stretch, seen: 0, next: 0, stretch_start: 0 };
        picks.next = picks.random.below(stretch);
        picks
    }

    /// Is this member picked? Called once for each, in order.
    fn hit(&mut self) -> bool {
        let here = self.seen;
        self.seen += 1;
        if self.left == 0 || here != self.next {
            return false;
        }
        self.left -= 1;
        self.stretch_start += self.stretch;
        self.next = self.stretch_start + self.random.below(self.stretch);
        true
    }
}
