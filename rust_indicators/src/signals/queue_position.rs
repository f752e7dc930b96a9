//! Where a resting order stands in its queue, as hftbacktest 2.4 estimates it (after Rigtorp, 2013). Not the matching:
//! whoever drives it says which rows happened at the order's price, and what happened beyond it.
use super::{Refused, VOLUME_MAX, Validity, positive, same_rows};

/// What happened, in the `kind` column of a batch.
pub mod kind {
    /// The other side took from the level: `now` is the volume of the trade, `before` 0.
    pub const TRADE: u8 = 0;
    /// The level's volume went from `before` to `now`.
    pub const DEPTH: u8 = 1;
    /// A trade beyond the price, or the other side's best reached it; both volumes 0.
    pub const THROUGH: u8 = 2;
}

/// How likely a decrease of the level lies behind the order, given what stands before and behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Model {
    /// Never: only trades advance the order.
    RiskAverse,
    /// f(behind) / (f(behind) + f(front)), f = xⁿ.
    Power(f64),
    /// f(behind) / f(behind + front), f = xⁿ.
    Power2(f64),
    /// 1 − f(front / (front + behind)), f = xⁿ.
    Power3(f64),
    /// As `Power`, f = ln(1 + x).
    Log,
    /// As `Power2`, f = ln(1 + x).
    Log2,
}

impl Model {
    pub fn new(model: &str, power: Option<f64>) -> Result<Self, Refused> {
        let exponent =
            || power.ok_or_else(|| Refused::new("power", "is missing")).and_then(|power| positive("power", power));
        let chosen = match model {
            "power" => return exponent().map(Self::Power),
            "power2" => return exponent().map(Self::Power2),
            "power3" => return exponent().map(Self::Power3),
            "risk_averse" => Self::RiskAverse,
            "log" => Self::Log,
            "log2" => Self::Log2,
            _ => {
                let known = "not risk_averse, power, power2, power3, log or log2";
                return Err(Refused::new("model", format!("{model:?} is {known}")));
            }
        };
        match power {
            Some(_) => Err(Refused::new("power", format!("the model {model} has none"))),
            None => Ok(chosen),
        }
    }

    /// None: the model never asks where a decrease happened.
    fn behind_probability(self, front: f64, behind: f64) -> Option<f64> {
        let log = |volume: f64| (1.0 + volume).ln();
        let probability = match self {
            Self::RiskAverse => return None,
            Self::Power(n) => behind.powf(n) / (behind.powf(n) + front.powf(n)),
            Self::Power2(n) => behind.powf(n) / (behind + front).powf(n),
            Self::Power3(n) => 1.0 - (front / (front + behind)).powf(n),
            Self::Log => log(behind) / (log(behind) + log(front)),
            Self::Log2 => log(behind) / log(behind + front),
        };
        Some(if probability.is_infinite() { 1.0 } else { probability })
    }
}

/// One order's place in its queue. Volumes in the units of the book, times nowhere.
#[derive(Clone, Copy, Debug)]
pub struct QueuePosition {
    model: Model,
    lot_size: f64,
    front: f64,
    /// Traded since the level last changed: the next decrease of the level contains it.
    traded: f64,
    filled: bool,
    tainted: bool,
}

impl QueuePosition {
    pub fn new(model: Model, lot_size: i64, front_volume: i64) -> Result<Self, Refused> {
        if !(1..=VOLUME_MAX).contains(&lot_size) {
            return Err(Refused::new("lot_size", format!("{lot_size} is not within 1 … 2⁴⁰")));
        }
        let lot_size = lot_size as f64;
        let mut state = Self { model, lot_size, front: 0.0, traded: 0.0, filled: false, tainted: false };
        state.reset(front_volume)?;
        Ok(state)
    }

    /// A new order behind so much volume.
    pub fn reset(&mut self, front_volume: i64) -> Result<(), Refused> {
        check_volume("front_volume", front_volume)?;
        *self = Self { front: front_volume as f64, traded: 0.0, filled: false, tainted: false, ..*self };
        Ok(())
    }

    /// A trade at the price against the order's side: the volume of it that reaches the order, a multiple of the lot.
    /// The volume must have passed `check_volume`.
    pub fn trade(&mut self, volume: i64) -> i64 {
        if self.tainted {
            return 0;
        }
        self.front -= volume as f64;
        self.traded += volume as f64;
        let lots = (-self.front / self.lot_size).round();
        if lots < 1.0 {
            return 0;
        }
        self.front = 0.0;
        self.filled = true;
        (lots * self.lot_size) as i64
    }

    /// The level's volume changed. Both must have passed `check_volume`.
    pub fn depth(&mut self, before: i64, now: i64) {
        if self.tainted {
            return;
        }
        let (before, now) = (before as f64, now as f64);
        let decrease = before - now - self.traded;
        self.traded = 0.0;
        let behind = before - self.front;
        if decrease >= 0.0
            && let Some(probability) = self.model.behind_probability(self.front, behind)
        {
            let overshoot = (behind - probability * decrease).min(0.0);
            self.front = self.front - (1.0 - probability) * decrease + overshoot;
        }
        // Takes `now` where the probability was 0/0.
        self.front = self.front.min(now);
    }

    /// The order cannot be resting any more, wherever it stood: nothing is in front of it, and it is filled.
    pub fn traded_through(&mut self) {
        self.front = 0.0;
        self.filled = true;
    }

    /// Rows are missing: where the order stands is not known any more, until `reset`.
    pub fn taint(&mut self) {
        self.tainted = true;
    }

    /// Volume in front of the order; NaN after a gap.
    pub fn front(&self) -> f64 {
        if self.tainted { f64::NAN } else { self.front }
    }

    pub fn filled(&self) -> bool {
        self.filled
    }

    pub fn validity(&self) -> Validity {
        if self.tainted { Validity::Tainted } else { Validity::Valid }
    }

    /// Every row in turn, `front` after each: the first row at which the order was filled, if it was not before.
    /// Nothing has changed when it refuses.
    pub fn update_many(&mut self, rows: Rows<'_>, front: &mut [f64]) -> Result<Option<usize>, Refused> {
        same_rows(&[("kind", rows.check()?), ("out", front.len())])?;
        let mut first = None;
        for (row, (kind, front)) in rows.kind.iter().zip(front).enumerate() {
            let before_row = self.filled;
            match *kind {
                kind::TRADE => {
                    self.trade(rows.now[row]);
                }
                kind::DEPTH => self.depth(rows.before[row], rows.now[row]),
                _ => self.traded_through(),
            }
            *front = self.front();
            if self.filled && !before_row {
                first = Some(row);
            }
        }
        Ok(first)
    }
}

/// What happened at the order's price, a row an event.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub kind: &'a [u8],
    pub before: &'a [i64],
    pub now: &'a [i64],
}

impl Rows<'_> {
    /// Equal lengths, known kinds, and volumes where they belong: the number of rows.
    pub fn check(&self) -> Result<usize, Refused> {
        let lengths = [("kind", self.kind.len()), ("before", self.before.len()), ("now", self.now.len())];
        let rows = same_rows(&lengths)?;
        if let Some(row) = self.kind.iter().position(|kind| *kind > kind::THROUGH) {
            let reason = format!("row {row} is {}, not 0 (trade), 1 (depth) or 2 (through)", self.kind[row]);
            return Err(Refused::new("kind", reason));
        }
        self.check_column("before", self.before, kind::TRADE)?;
        self.check_column("now", self.now, kind::THROUGH)?;
        Ok(rows)
    }

    /// Volumes that are some, and 0 in rows of a kind that has none there.
    fn check_column(&self, argument: &'static str, volumes: &[i64], without: u8) -> Result<(), Refused> {
        for (row, (volume, kind)) in volumes.iter().zip(self.kind).enumerate() {
            let none_here = *kind == without || *kind == kind::THROUGH;
            if none_here && *volume != 0 {
                return Err(Refused::new(argument, format!("row {row}: {volume} where kind {kind} has none")));
            }
            check_volume(argument, *volume)
                .map_err(|refused| Refused::new(argument, format!("row {row}: {}", refused.reason)))?;
        }
        Ok(())
    }
}

/// Why a volume cannot be one.
pub fn check_volume(argument: &'static str, volume: i64) -> Result<(), Refused> {
    if (0..=VOLUME_MAX).contains(&volume) {
        return Ok(());
    }
    Err(Refused::new(argument, format!("{volume} is not within 0 … 2⁴⁰")))
}
