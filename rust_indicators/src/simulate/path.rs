//! Where prices go: one factor for every code, a walk and sudden moves of each. In parts per million of the reference;
//! not prices, and no rule of the exchange.
use std::sync::Arc;

use super::random::Random;
use super::{Config, Course, Instrument, Market};

const SECOND_NS: i64 = 1_000_000_000;
const PPM: i64 = 1_000_000;
/// A code's own walk against the factor's; futures follow the factor alone.
const OWN_PERCENT: u64 = 80;
/// Futures stand this far from their index at most, the same for all of them on one day.
const BASIS_PPM: u64 = 800;
const JUMP_PPM_MIN: i64 = 40_000;
const JUMP_PPM_SPAN: u64 = 40_001;
/// A run to a limit begins a fifth into the day session and takes ten minutes.
const RUN_NS: i64 = 600 * SECOND_NS;
const RUN_PPM: i64 = 150_000;
/// What the factor can move while everything is shut, in steps of a second.
const SHUT_STEPS: u64 = 60;
/// A quiet code need not be walked through every second of its silence.
const OWN_STEPS_MAX: i64 = 600;

/// One value a second over all sessions of the day, between them a straight line: a pure function of time. Without
/// volatility it is nothing, everywhere.
pub struct Factor {
    start_ns: i64,
    ppm: Vec<i32>,
    basis_ppm: i64,
}

impl Factor {
    pub fn new(config: &Config) -> Factor {
        let start_ns = config.sessions.iter().map(|session| session.trial_ns).min().unwrap_or(0);
        let end_ns = config.sessions.iter().map(|session| session.close_ns).max().unwrap_or(0);
        let mut random = config.random("factor");
        let basis_ppm = around_zero(&mut random, BASIS_PPM);
        if config.rules.volatility_ppm == 0 {
            return Factor { start_ns, ppm: Vec::new(), basis_ppm: 0 };
        }
        let seconds = (end_ns - start_ns) / SECOND_NS + 2;
        let open = |second: i64| {
            let ns = start_ns + second * SECOND_NS;
            config.sessions.iter().any(|session| (session.trial_ns..session.close_ns).contains(&ns))
        };
        let step = step_ppm(config.rules.volatility_ppm, (0..seconds).filter(|&second| open(second)).count() as u64);
        let (mut ppm, mut level, mut was_open) = (Vec::with_capacity(seconds as usize), 0, true);
        for second in 0..seconds {
            ppm.push(level as i32);
            let is_open = open(second);
            if is_open {
                level += around_zero(&mut random, if was_open { step } else { step * SHUT_STEPS });
            }
            was_open = is_open;
        }
        Factor { start_ns, ppm, basis_ppm }
    }

    fn at(&self, ns: i64) -> i64 {
        if self.ppm.is_empty() {
            return 0;
        }
        let (second, part_ns) = ((ns - self.start_ns) / SECOND_NS, (ns - self.start_ns) % SECOND_NS);
        let (from, to) = (i64::from(self.ppm[second as usize]), i64::from(self.ppm[second as usize + 1]));
        from + (to - from) * part_ns / SECOND_NS
    }
}

/// One code's price over the day; asked in time order.
pub struct Path {
    factor: Arc<Factor>,
    reference_e6: i64,
    futures: bool,
    beta_percent: i64,
    random: Random,
    own_step_ppm: u64,
    own_ppm: i64,
    second: i64,
    /// (from when on, how far), in time order.
    jumps: Vec<(i64, i64)>,
    /// Where the run to a limit begins, and which way it goes.
    run: Option<(i64, i64)>,
}

impl Path {
    /// None where the code's book walks alone.
    pub fn new(config: &Config, instrument: &Instrument, factor: &Arc<Factor>) -> Option<Path> {
        let day = config.sessions.iter().rev().find(|session| session.market == instrument.market)?;
        let begin_ns = day.open_ns + (day.close_ns - day.open_ns) / 5;
        let run = match instrument.course {
            Course::LimitUp => Some((begin_ns, 1)),
            Course::LimitDown => Some((begin_ns, -1)),
            _ => None,
        };
        let jumps = jumps_of(config, instrument);
        if config.rules.volatility_ppm == 0 && run.is_none() && jumps.is_empty() {
            return None;
        }
        let futures = instrument.market == Market::Futures;
        let own_ppm = if futures { 0 } else { config.rules.volatility_ppm * OWN_PERCENT / 100 };
        let seconds = (day.close_ns - day.trial_ns) / SECOND_NS;
        Some(Path {
            factor: Arc::clone(factor),
            reference_e6: instrument.reference_e6,
            futures,
            beta_percent: instrument.beta_percent,
            random: config.random(&format!("path {}", instrument.code)),
            own_step_ppm: step_ppm(own_ppm, seconds as u64),
            own_ppm: 0,
            second: day.trial_ns / SECOND_NS,
            jumps,
            run,
        })
    }

    /// (what the code is worth, its spot index) at that time.
    pub fn prices_at(&mut self, ns: i64) -> (i64, i64) {
        let steps = (ns / SECOND_NS - self.second).min(OWN_STEPS_MAX);
        for _ in 0..steps {
            self.own_ppm += around_zero(&mut self.random, self.own_step_ppm);
        }
        self.second = self.second.max(ns / SECOND_NS);
        let jumped: i64 = self.jumps.iter().filter(|(from_ns, _)| *from_ns <= ns).map(|(_, ppm)| ppm).sum();
        let run = self.run.map_or(0, |(from_ns, way)| way * (ns - from_ns).clamp(0, RUN_NS) * RUN_PPM / RUN_NS);
        let shared = self.factor.at(ns) * self.beta_percent / 100;
        let spot_e6 = self.at_ppm(shared);
        let basis = if self.futures { self.factor.basis_ppm } else { 0 };
        (self.at_ppm(shared + basis + self.own_ppm + jumped + run), spot_e6)
    }

    fn at_ppm(&self, ppm: i64) -> i64 {
        self.reference_e6 + self.reference_e6 * ppm.clamp(-PPM / 2, PPM) / PPM
    }
}

/// Half the width of a uniform step whose sum over so many steps has the standard deviation asked for.
fn step_ppm(deviation_ppm: u64, steps: u64) -> u64 {
    (3 * deviation_ppm * deviation_ppm / steps.max(1)).isqrt()
}

fn around_zero(random: &mut Random, width: u64) -> i64 {
    random.below(2 * width + 1) as i64 - width as i64
}

/// Each jump is of one stock that trades freely, in the middle four fifths of its day.
fn jumps_of(config: &Config, instrument: &Instrument) -> Vec<(i64, i64)> {
    let free = |other: &&Instrument| other.market == Market::Stock && other.course == Course::Free;
    let stocks: Vec<&Instrument> = config.instruments.iter().filter(free).collect();
    let Some(day) = config.sessions.iter().rev().find(|session| session.market == Market::Stock) else {
        return Vec::new();
    };
    let (mut random, mut jumps) = (config.random("jumps"), Vec::new());
    let span_ns = (day.close_ns - day.open_ns) * 8 / 10;
    for _ in 0..if stocks.is_empty() { 0 } else { config.rules.jumps } {
        let of = stocks[random.below(stocks.len() as u64) as usize];
        let at_ns = day.open_ns + span_ns / 8 + random.below(span_ns as u64) as i64;
        let ppm = JUMP_PPM_MIN + random.below(JUMP_PPM_SPAN) as i64;
        let way = if random.chance(1, 2) { 1 } else { -1 };
        if of.code == instrument.code {
            jumps.push((at_ns, way * ppm));
        }
    }
    jumps.sort_unstable();
    jumps
}
