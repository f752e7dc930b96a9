//! Fair price of a local-level model behind noisy observations: the random walk that Kalman's filter sees in them.
//! Kalman (1960), Journal of Basic Engineering 82(1) 35–45; Durbin & Koopman (2012), chapter 2. Not a forecast of moves.
use super::correlation::{check_price, check_prices};
use super::{Arming, Refused, Validity, pieces, positive, restart, restarts, same_rows, sorted};

const SECOND_NS: f64 = 1_000_000_000.0;

/// Observations in order of time; a price of NaN is none, and has no variance either.
#[derive(Clone, Copy)]
pub struct Observations<'a> {
    pub exchange_ns: &'a [i64],
    pub price: &'a [f64],
    pub variance: &'a [f64],
}

impl Observations<'_> {
    pub fn check(&self) -> Result<usize, Refused> {
        let rows = same_rows(&[
            ("exchange_ns", self.exchange_ns.len()),
            ("price", self.price.len()),
            ("variance", self.variance.len()),
        ])?;
        sorted("exchange_ns", self.exchange_ns)?;
        check_prices("price", self.price)?;
        let unsound = |(price, variance): (&f64, &f64)| !price.is_nan() && positive("variance", *variance).is_err();
        match self.price.iter().zip(self.variance).position(unsound) {
            Some(row) => {
                let reason = format!("row {row}: {:?} is not a finite number above 0", self.variance[row]);
                Err(Refused::new("variance", reason))
            }
            None => Ok(rows),
        }
    }
}

/// Fair price and its variance after each row; NaN before the first observation.
pub fn local_level(
    rows: Observations<'_>,
    q: f64,
    marks: Option<&[u8]>,
    fair: &mut [f64],
    variance: &mut [f64],
) -> Result<(), Refused> {
    LocalLevel::new(q)?.play(rows, marks, fair, |row, state| variance[row] = state.variance())
}

/// Streaming local level: the last estimate, how sure it is, and when it was.
#[derive(Clone, Copy, Debug)]
pub struct LocalLevel {
    q: f64,
    level: f64,
    variance: f64,
    stamp_ns: Option<i64>,
    warm: bool,
    arming: Arming,
    validity: Validity,
}

impl LocalLevel {
    /// `q`: variance that the fair price gathers in a second, price² / s.
    pub fn new(q: f64) -> Result<Self, Refused> {
        Ok(Self::fresh(positive("q", q)?, Arming::default(), Validity::WarmingUp))
    }

    fn fresh(q: f64, arming: Arming, validity: Validity) -> Self {
        Self { q, level: f64::NAN, variance: f64::NAN, stamp_ns: None, warm: false, arming, validity }
    }

    /// Why an observation cannot follow.
    pub fn check(&self, exchange_ns: i64, price: f64, variance: f64) -> Result<(), Refused> {
        if self.stamp_ns.is_some_and(|before| exchange_ns < before) {
            return Err(Refused::new("exchange_ns", format!("{exchange_ns} is before the row before")));
        }
        check_price("price", price)?;
        if price.is_nan() { Ok(()) } else { positive("variance", variance).map(|_| ()) }
    }

    /// Fair price after an observation, or at the stamp where the price is NaN. It must have passed `check`.
    pub fn update(&mut self, exchange_ns: i64, price: f64, variance: f64) -> f64 {
        if self.warm {
            let since = self.stamp_ns.map_or(0, |before| exchange_ns.wrapping_sub(before) as u64);
            self.variance += self.q * (since as f64 / SECOND_NS);
        }
        self.stamp_ns = Some(exchange_ns);
        if !price.is_nan() && self.warm {
            // Sound also where the variance has grown to infinity, or shrunk to 0.
            let gain = 1.0 / (1.0 + variance / self.variance);
            self.level += gain * (price - self.level);
            self.variance = gain * variance;
        } else if !price.is_nan() {
            (self.level, self.variance, self.warm) = (price, variance, true);
        }
        self.validity = self.arming.validity(self.warm, true);
        self.level
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        rows: Observations<'_>,
        marks: Option<&[u8]>,
        fair: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        same_rows(&[("exchange_ns", rows.exchange_ns.len()), ("validity", validity.len())])?;
        self.play(rows, marks, fair, |row, state| validity[row] = state.validity as u8)
    }

    fn play(
        &mut self,
        rows: Observations<'_>,
        marks: Option<&[u8]>,
        fair: &mut [f64],
        mut then: impl FnMut(usize, &Self),
    ) -> Result<(), Refused> {
        let count = rows.check()?;
        same_rows(&[("exchange_ns", count), ("out", fair.len())])?;
        if let Some(marks) = marks {
            same_rows(&[("exchange_ns", count), ("restart", marks.len())])?;
            restarts("restart", marks)?;
        }
        let goes_on = marks.is_none_or(|marks| marks.first() == Some(&restart::NONE));
        if let (Some(first), true) = (rows.exchange_ns.first(), goes_on) {
            self.check(*first, f64::NAN, f64::NAN)?;
        }
        for piece in pieces(count, marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            for row in piece {
                fair[row] = self.update(rows.exchange_ns[row], rows.price[row], rows.variance[row]);
                then(row, self);
            }
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        *self = Self::fresh(self.q, Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        *self = Self::fresh(self.q, Arming::AFTER_GAP, Validity::Tainted);
    }

    /// The fair price; NaN before the first observation.
    pub fn value(&self) -> f64 {
        self.level
    }

    /// Variance of the fair price, price²; NaN before the first observation.
    pub fn variance(&self) -> f64 {
        self.variance
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
