//! What goes wrong between the exchange and us: outages, stalls, a slow feed, messages lost, repeated, late or garbled.
//! Drawn from numbers of its own, so that the market is the same whatever the faults.
use super::event::Event;
use super::random::Random;
use super::spoil::Spoil;
use super::{Config, Market};

/// More windows of one kind in a session than this would leave no market between them.
const WINDOWS_MAX: u64 = 1_000;
const CLOCK_STEP_NS_MAX: i64 = 3_600_000_000_000;
/// A feed that is behind by a second has needed this many for it.
const SLOW_STRETCH: i64 = 10;

/// Faults beside outages, losses and repeats; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedFaults {
    /// Times the feed falls behind by up to `slow_ns`, over a stretch ten times as long, and then catches up at once.
    pub slows: u64,
    pub slow_ns: i64,
    /// Times nothing comes for `stall_ns` though the connection seems up; what was said meanwhile never comes.
    pub stalls: u64,
    pub stall_ns: i64,
    /// Messages delivered up to `reorder_distance_max` deliveries after their turn.
    pub reorders: u64,
    pub reorder_distance_max: u64,
    /// Times our own clock jumps by `clock_step_ns`; the stamps after it are all that much off.
    pub clock_steps: u64,
    pub clock_step_ns: i64,
    /// Messages of continuous trading whose bytes the SDK misreads or panics over.
    pub malformed: u64,
}

/// Why an event was, or was not, delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    Lost,
    Outage(usize),
    Stalled,
    Malformed(Spoil),
    /// Delivered after messages that were behind it.
    Late,
}

impl Fate {
    /// Does anything come?
    pub fn arrives(self) -> bool {
        matches!(self, Fate::Delivered | Fate::Late | Fate::Malformed(_))
    }
}

/// A message to be delivered once more, or for the first time after its turn.
pub struct Waiting {
    pub instrument: usize,
    pub event: Event,
    /// Of the first delivery; None where there was none.
    pub first_received_ns: Option<i64>,
}

pub struct Faults {
    /// Start and end on the receive clock, in time order, apart from each other.
    outages: Vec<(i64, i64)>,
    next_outage: usize,
    down: bool,
    pub stalls: Vec<(i64, i64)>,
    pub slows: Vec<(i64, i64)>,
    clock_steps: Vec<(i64, i64)>,
    clock_step_ns: i64,
    lost_ticks: Picks,
    lost_books: Picks,
    repeats: Picks,
    reorders: Picks,
    malformed: Picks,
    random: Random,
    reorder_random: Random,
    spoil_random: Random,
    repeat_distance_max: u64,
    reorder_distance_max: u64,
    delivered: u64,
    waiting: Vec<(u64, Waiting)>,
}

impl Faults {
    pub fn check(config: &Config) -> Result<(), String> {
        let feed = &config.feed;
        windows_fit(config, "outages", config.outages, config.outage_ns)?;
        windows_fit(config, "stalls", feed.stalls, feed.stall_ns)?;
        windows_fit(config, "slow stretches", feed.slows, feed.slow_ns.saturating_mul(SLOW_STRETCH))?;
        windows_fit(config, "clock steps", feed.clock_steps, 1)?;
        if feed.clock_step_ns.abs() > CLOCK_STEP_NS_MAX {
            return Err(format!("clock_step_ns {}: within an hour", feed.clock_step_ns));
        }
        Ok(())
    }

    pub fn new(config: &Config) -> Faults {
        // Of a hundred events about 38 are trades and 62 books; the picks end before the events do.
        let span = |percent: u64| config.target_events * percent / 100;
        let random = |name: &str| config.random(name);
        let feed = &config.feed;
        Faults {
            outages: windows(config, "outages", config.outages, config.outage_ns),
            next_outage: 0,
            down: false,
            stalls: windows(config, "stalls", feed.stalls, feed.stall_ns),
            slows: windows(config, "slow stretches", feed.slows, feed.slow_ns * SLOW_STRETCH),
            clock_steps: windows(config, "clock steps", feed.clock_steps, 1),
            clock_step_ns: feed.clock_step_ns,
            lost_ticks: Picks::new(random("lost ticks"), config.lost_ticks, span(30)),
            lost_books: Picks::new(random("lost books"), config.lost_books, span(50)),
            repeats: Picks::new(random("repeats"), config.repeats, span(85)),
            reorders: Picks::new(random("reorders"), feed.reorders, span(80)),
            malformed: Picks::new(random("malformed"), feed.malformed, span(75)),
            random: random("repeat distance"),
            reorder_random: random("reorder distance"),
            spoil_random: random("spoil"),
            repeat_distance_max: config.repeat_distance_max,
            reorder_distance_max: feed.reorder_distance_max,
            delivered: 0,
            waiting: Vec::new(),
        }
    }

    /// When a message that is due comes through a feed that may be behind; never out of order.
    #[inline]
    pub fn slowed(&self, due_ns: i64) -> i64 {
        let of = |(start_ns, end_ns): &(i64, i64)| {
            // What is due while the feed catches up comes with the rest, at the moment it has.
            let caught_up_ns = end_ns + (end_ns - start_ns) / SLOW_STRETCH;
            let behind_ns = (due_ns - start_ns) / SLOW_STRETCH;
            (*start_ns..caught_up_ns).contains(&due_ns).then(|| (due_ns + behind_ns).min(caught_up_ns))
        };
        self.slows.iter().find_map(of).unwrap_or(due_ns)
    }

    /// What our own clock shows at that time.
    #[inline]
    pub fn clock(&self, ns: i64) -> i64 {
        let stepped = self.clock_steps.iter().filter(|(at_ns, _)| *at_ns <= ns).count() as i64;
        ns + stepped * self.clock_step_ns
    }

    /// The first time, by a sound clock, that ours shows `shown_ns` or, after a step forward, more.
    pub fn first_shown(&self, shown_ns: i64) -> i64 {
        let next = self.clock_steps.iter().map(|(at_ns, _)| *at_ns).chain([i64::MAX]);
        let sound = next.enumerate().find_map(|(steps, until_ns)| {
            let ns = shown_ns - steps as i64 * self.clock_step_ns;
            (ns < until_ns).then_some(ns)
        });
        sound.unwrap_or(shown_ns)
    }

    /// When our clock steps, by the clock that does not.
    pub fn clock_steps(&self) -> impl Iterator<Item = i64> {
        self.clock_steps.iter().map(|(at_ns, _)| *at_ns)
    }

    /// A message whose turn has come; all of them before a disconnect and at the end of the day.
    pub fn waiting(&mut self, due_ns: Option<i64>) -> Option<Waiting> {
        let flush = match (due_ns, self.outages.get(self.next_outage)) {
            (Some(due_ns), Some((start_ns, _))) => due_ns >= *start_ns,
            (due_ns, _) => due_ns.is_none(),
        };
        let ready = self.waiting.iter().position(|(turn, _)| flush || *turn <= self.delivered)?;
        Some(self.waiting.remove(ready).1)
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

    pub fn fate(&mut self, event: &Event, due_ns: i64) -> Fate {
        if self.down {
            return Fate::Outage(self.next_outage);
        }
        if self.stalls.iter().any(|(start_ns, end_ns)| (*start_ns..*end_ns).contains(&due_ns)) {
            return Fate::Stalled;
        }
        let lost = match event {
            _ if event.trial() => return Fate::Delivered,
            Event::Trade(_) => self.lost_ticks.hit(),
            _ => self.lost_books.hit(),
        };
        if lost {
            return Fate::Lost;
        }
        if self.malformed.hit() {
            return Fate::Malformed(Spoil::drawn(&mut self.spoil_random));
        }
        if self.reorders.hit() { Fate::Late } else { Fate::Delivered }
    }

    /// Holds a message back; it comes after at least one other.
    #[cold]
    pub fn hold(&mut self, instrument: usize, event: Event) {
        let turn = self.delivered + 1 + self.reorder_random.below(self.reorder_distance_max.max(1));
        self.waiting.push((turn, Waiting { instrument, event, first_received_ns: None }));
    }

    /// Counts a delivery and may set its repeat.
    pub fn note(&mut self, instrument: usize, event: &Event, received_ns: i64) {
        self.delivered += 1;
        if self.repeats.hit() {
            let turn = self.delivered + self.random.below(self.repeat_distance_max + 1);
            let again = Waiting { instrument, event: event.clone(), first_received_ns: Some(received_ns) };
            self.waiting.push((turn, again));
        }
    }
}

fn windows_fit(config: &Config, what: &str, count: u64, length_ns: i64) -> Result<(), String> {
    let sessions = with_faults(config);
    let slots = count.div_ceil((sessions.len() as u64).max(1));
    let fits = |(open_ns, close_ns): &(i64, i64)| {
        i128::from(length_ns) * i128::from(slots) * 2 <= i128::from(close_ns - open_ns)
    };
    if count > 0 && (length_ns <= 0 || slots > WINDOWS_MAX || !sessions.iter().all(fits)) {
        return Err(format!("{count} {what} of {length_ns} ns do not fit: they may fill half of a session"));
    }
    Ok(())
}

/// Sessions a fault of the connection can fall in: futures where there are any, the latest (the day session) first.
fn with_faults(config: &Config) -> Vec<(i64, i64)> {
    let of = |market: Market| {
        let sessions = config.sessions.iter().rev().filter(move |session| session.market == market);
        sessions.map(|session| (session.open_ns, session.close_ns)).collect::<Vec<_>>()
    };
    let traded = |market: Market| config.instruments.iter().any(|instrument| instrument.market == market);
    if traded(Market::Futures) { of(Market::Futures) } else { of(Market::Stock) }
}

/// Window i is in session i modulo their number, in a slot of its own in the middle four fifths.
fn windows(config: &Config, name: &str, count: u64, length_ns: i64) -> Vec<(i64, i64)> {
    let mut random = config.random(name);
    let sessions = with_faults(config);
    let mut found = Vec::new();
    for index in 0..count {
        let (open_ns, close_ns) = sessions[index as usize % sessions.len()];
        let slots = count.div_ceil(sessions.len() as u64) as i64;
        let slot_ns = (close_ns - open_ns) / slots * 4 / 5;
        let first_ns = open_ns + (close_ns - open_ns) / 10 + slot_ns * (index as i64 / sessions.len() as i64);
        let start_ns = first_ns + random.below((slot_ns - length_ns).max(1) as u64) as i64;
        found.push((start_ns, start_ns + length_ns));
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
