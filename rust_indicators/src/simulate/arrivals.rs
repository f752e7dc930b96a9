//! When things happen on one instrument: U-shaped over a session, in bursts. Not what happens.
use super::random::Random;
use super::{Config, Instrument, Market};

/// Slices of a phase; fine enough for a U shape, coarse enough that a night slice holds several bursts.
const BUCKETS: u64 = 240;
/// Share of a session's events that are trial matches before its open, in per cent.
const TRIAL_PERCENT: u64 = 2;
/// And before its close, where that is a call.
const CALL_PERCENT: u64 = 1;
/// A part of a session shorter than this is not drawn.
const PHASE_NS_MIN: i64 = 60_000_000_000;
const BURST_MAX: u64 = 8;

/// What an instant of a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Opening,
    Continuous,
    Closing,
}

/// One stage of one session.
#[derive(Clone, Copy)]
struct Phase {
    session: usize,
    stage: Stage,
    start_ns: i64,
    end_ns: i64,
    events: u64,
}

/// One instant at which something happens.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub exchange_ns: i64,
    pub session: usize,
    pub stage: Stage,
    pub trial: bool,
    /// The first half per cent of the phase, when books are short.
    pub early: bool,
}

/// Instants of one instrument over the whole day, in time order, one bucket in memory at a time.
pub struct Arrivals {
    random: Random,
    grid_ns: i64,
    phases: Vec<Phase>,
    phase: usize,
    bucket: u64,
    owed: i64,
    ready: Vec<i64>,
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let phase = *self.phases.get(self.phase)?;
            if let Some(exchange_ns) = self.ready.pop() {
                return Some(Arrival {
                    exchange_ns,
                    session: phase.session,
                    stage: phase.stage,
                    trial: phase.stage != Stage::Continuous,
                    early: (exchange_ns - phase.start_ns) < (phase.end_ns - phase.start_ns) / 200,
                });
            }
            if self.bucket == BUCKETS {
                (self.phase, self.bucket) = (self.phase + 1, 0);
            } else {
                self.fill(phase);
                self.bucket += 1;
            }
        }
    }
}

impl Arrivals {
    pub fn new(config: &Config, instrument: &Instrument) -> Arrivals {
        let mut phases = Vec::new();
        for (index, session) in config.sessions.iter().enumerate() {
            if session.market != instrument.market {
                continue;
            }
            let events = config.events_of(instrument, session);
            let trial = if session.trial_ns < session.open_ns { events * TRIAL_PERCENT / 100 } else { 0 };
            let call = if session.call_ns < session.close_ns { events * CALL_PERCENT / 100 } else { 0 };
            let close_ns = instrument.close_ns(session);
            for (stage, start_ns, end_ns, events) in [
                (Stage::Opening, session.trial_ns, session.open_ns, trial),
                (Stage::Continuous, session.open_ns, session.call_ns.min(close_ns), events - trial - call),
                (Stage::Closing, session.call_ns, close_ns, call),
            ] {
                let (first, last) = (stage == Stage::Opening, stage == Stage::Closing);
                // Of a code that has stopped trading nothing is left, not even its trial matches.
                let listed = session.open_ns + PHASE_NS_MIN <= close_ns;
                if listed && (first || end_ns - start_ns >= PHASE_NS_MIN) && !(last && events == 0) {
                    phases.push(Phase { session: index, stage, start_ns, end_ns, events });
                }
            }
        }
        let grid_ns = match instrument.market {
            Market::Stock => 1_000,
            Market::Futures => 1_000_000,
        };
        let random = config.random(&format!("arrivals {}", instrument.code));
        Arrivals { random, grid_ns, phases, phase: 0, bucket: 0, owed: 0, ready: Vec::new() }
    }

    /// Events of the continuous phases; the walk is scaled by it.
    pub fn continuous_events(&self) -> u64 {
        self.phases.iter().filter(|phase| phase.stage == Stage::Continuous).map(|phase| phase.events).sum()
    }

    /// Draws the instants of one bucket; neighbours exchange events so that the sum stays exact.
    fn fill(&mut self, phase: Phase) {
        let due = phase.events * weight_before(self.bucket + 1) / weight_before(BUCKETS)
            - phase.events * weight_before(self.bucket) / weight_before(BUCKETS);
        let mut count = due as i64 + std::mem::take(&mut self.owed);
        if self.bucket.is_multiple_of(2) {
            let moved = self.random.below(due / 2 + 1) as i64;
            self.owed = if self.random.chance(1, 2) { moved } else { -moved };
            count -= self.owed;
        }
        let span = phase.end_ns - phase.start_ns;
        let edge = |bucket: u64| phase.start_ns + self.on_grid(span / BUCKETS as i64 * bucket as i64);
        let (low, high) = (edge(self.bucket), edge(self.bucket + 1));
        while (self.ready.len() as i64) < count {
            let mut instant = low + self.random.below((high - low) as u64) as i64;
            let burst = if self.random.chance(3, 5) { 1 } else { 2 + self.random.below(BURST_MAX - 1) };
            for _ in 0..burst.min((count - self.ready.len() as i64) as u64) {
                self.ready.push(self.on_grid(instant).min(high - self.grid_ns));
                // Within a burst stocks are some microseconds apart; futures share the millisecond.
                instant += self.random.below(40_000) as i64;
            }
        }
        self.ready.sort_unstable_by(|a, b| b.cmp(a));
    }

    fn on_grid(&self, ns: i64) -> i64 {
        ns.div_euclid(self.grid_ns) * self.grid_ns
    }
}

/// Sum of the U-shaped weights of the buckets before `bucket`: the edges weigh four times the middle.
fn weight_before(bucket: u64) -> u64 {
    const fn weight(bucket: u64) -> u64 {
        let from_middle = (2 * bucket + 1).abs_diff(BUCKETS);
        BUCKETS * BUCKETS + 3 * from_middle * from_middle
    }
    const BEFORE: [u64; BUCKETS as usize + 1] = {
        let mut before = [0; BUCKETS as usize + 1];
        let mut bucket = 0;
        while bucket < BUCKETS as usize {
            before[bucket + 1] = before[bucket] + weight(bucket as u64);
            bucket += 1;
        }
        before
    };
    BEFORE[bucket as usize]
}
