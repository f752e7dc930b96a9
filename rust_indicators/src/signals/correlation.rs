//! Covariance and lead–lag of two series that tick at different times, without putting them on a grid.
//! Hayashi & Yoshida (2005), Bernoulli 11(2) 359–379; Hoffmann, Rosenbaum & Yoshida (2013), Bernoulli 19(2) 426–461.
use super::{Arming, Refused, Validity, pieces, restart, restarts, same_rows, sorted};

/// Largest absolute price: squares of its changes cannot overflow.
pub const PRICE_MAX: f64 = 1e100;

/// Which series a row of a merged stream belongs to.
pub mod mark {
    pub const X: u8 = 0;
    pub const Y: u8 = 1;
}

/// Why a price cannot be one; NaN is a price that is not there.
pub fn check_price(argument: &'static str, price: f64) -> Result<(), Refused> {
    if price.abs() > PRICE_MAX {
        return Err(Refused::new(argument, format!("{price:?} is not within ±1e100")));
    }
    Ok(())
}

pub fn check_prices(argument: &'static str, prices: &[f64]) -> Result<(), Refused> {
    match prices.iter().position(|price| price.abs() > PRICE_MAX) {
        Some(row) => Err(Refused::new(argument, format!("row {row}: {:?} is not within ±1e100", prices[row]))),
        None => Ok(()),
    }
}

/// A series as it was given: stamps that never go back, and prices of which NaN are skipped.
#[derive(Clone, Copy)]
pub struct Series<'a> {
    pub ns: &'a [i64],
    pub price: &'a [f64],
}

impl Series<'_> {
    pub fn check(&self, ns: &'static str, price: &'static str) -> Result<(), Refused> {
        same_rows(&[(ns, self.ns.len()), (price, self.price.len())])?;
        sorted(ns, self.ns)?;
        check_prices(price, self.price)
    }

    /// The first price and every change: the last price of a stamp counts, and only if it is another one.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        let mut rows = self.ns.iter().zip(self.price).filter(|(_, price)| !price.is_nan()).peekable();
        while let Some((ns, price)) = rows.next() {
            let last_of_stamp = rows.peek().is_none_or(|(next, _)| *next != ns);
            if last_of_stamp && changes.price.last() != Some(price) {
                changes.ns.push(*ns);
                changes.price.push(*price);
            }
        }
        changes
    }
}

/// Stamps that rise, and prices each unlike the one before.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    ns: Vec<i64>,
    price: Vec<f64>,
}

impl Changes {
    /// Σ ΔX².
    pub fn realised_variance(&self) -> f64 {
        self.price.windows(2).map(|pair| (pair[1] - pair[0]) * (pair[1] - pair[0])).sum()
    }

    /// Refuses a lag that no stamp can be moved by.
    fn check_lag(&self, lag_ns: i64) -> Result<(), Refused> {
        let ends = [self.ns.first(), self.ns.last()];
        if ends.into_iter().flatten().all(|ns| ns.checked_sub(lag_ns).is_some()) {
            return Ok(());
        }
        Err(Refused::new("lags_ns", format!("{lag_ns} moves y's stamps out of 64 bits")))
    }
}

/// HY(θ) of each lag θ into `out`: Y's stamps are moved back by θ.
pub fn hayashi_yoshida(x: &Changes, y: &Changes, lags_ns: &[i64], out: &mut [f64]) -> Result<(), Refused> {
    same_rows(&[("lags_ns", lags_ns.len()), ("out", out.len())])?;
    lags_ns.iter().try_for_each(|lag_ns| y.check_lag(*lag_ns))?;
    for (lag_ns, value) in lags_ns.iter().zip(out) {
        *value = at_lag(x, y, *lag_ns);
    }
    Ok(())
}

/// Both series walked through once.
fn at_lag(x: &Changes, y: &Changes, lag_ns: i64) -> f64 {
    let mut overlaps = Overlaps::default();
    let (mut i, mut j) = (0, 0);
    while i < x.ns.len() && j < y.ns.len() {
        let (x_ns, y_ns) = (x.ns[i], y.ns[j] - lag_ns);
        if x_ns <= y_ns {
            overlaps.tick_x(x.price[i]);
        }
        if y_ns <= x_ns {
            overlaps.tick_y(y.price[j], x_ns == y_ns);
        }
        i += usize::from(x_ns <= y_ns);
        j += usize::from(y_ns <= x_ns);
    }
    // Of what is left of one series only the first change can overlap the other's last.
    if let Some(price) = x.price.get(i) {
        overlaps.tick_x(*price);
    }
    if let Some(price) = y.price.get(j) {
        overlaps.tick_y(*price, false);
    }
    overlaps.covariance
}

/// Σ ΔX ΔY over the overlapping intervals that have ended, and what the open ones need.
#[derive(Clone, Copy, Debug, Default)]
struct Overlaps {
    x: Option<f64>,
    y: Option<f64>,
    /// Y's price when X ticked last, and X's when Y did: what the other has moved within the open interval.
    y_at_x: f64,
    x_at_y: f64,
    covariance: f64,
    x_variance: f64,
    y_variance: f64,
}

impl Overlaps {
    #[inline(always)]
    fn tick_x(&mut self, price: f64) {
        if let (Some(before), Some(y)) = (self.x, self.y) {
            self.covariance += (price - before) * (y - self.y_at_x);
        }
        if let Some(before) = self.x {
            self.x_variance += (price - before) * (price - before);
        } else {
            self.x_at_y = price;
        }
        self.x = Some(price);
        self.y_at_x = self.y.unwrap_or(0.0);
    }

    /// `together`: X has just ticked at the same stamp, so that this change ends with its interval.
    #[inline(always)]
    fn tick_y(&mut self, price: f64, together: bool) {
        if let (Some(before), Some(x)) = (self.y, self.x) {
            self.covariance += (price - before) * (x - self.x_at_y);
        }
        if let Some(before) = self.y {
            self.y_variance += (price - before) * (price - before);
        }
        if self.y.is_none() || together {
            self.y_at_x = price;
        }
        self.y = Some(price);
        self.x_at_y = self.x.unwrap_or(0.0);
    }

    /// Everything that happened at one stamp: X's last price there, and Y's.
    fn stamp(mut self, x: Option<f64>, y: Option<f64>) -> Self {
        let (x, y) = (x.filter(|price| self.x != Some(*price)), y.filter(|price| self.y != Some(*price)));
        if let Some(price) = x {
            self.tick_x(price);
        }
        if let Some(price) = y {
            self.tick_y(price, x.is_some());
        }
        self
    }
}

/// Lead–lag over a grid of lags.
#[derive(Clone, Debug)]
pub struct LeadLag {
    pub correlation: Vec<f64>,
    pub best_lag_ns: i64,
    pub best_correlation: f64,
    /// Σ_{θ>0} HY² / Σ_{θ<0} HY²; NaN where either sum is 0.
    pub ratio: f64,
}

/// ρ(θ) of each lag, the lag of the largest |ρ| (the first of equals), and the ratio of leading.
pub fn lead_lag(x: &Changes, y: &Changes, lags_ns: &[i64]) -> Result<LeadLag, Refused> {
    if lags_ns.is_empty() {
        return Err(Refused::new("lags_ns", "has no rows"));
    }
    let deviations = [x.realised_variance().sqrt(), y.realised_variance().sqrt()];
    for (argument, deviation) in ["x", "y"].into_iter().zip(deviations) {
        if deviation == 0.0 {
            return Err(Refused::new(argument, "never changes, so that nothing correlates with it"));
        }
    }
    let mut correlation = vec![0.0; lags_ns.len()];
    hayashi_yoshida(x, y, lags_ns, &mut correlation)?;
    correlation.iter_mut().for_each(|value| *value = *value / deviations[0] / deviations[1]);
    let squares = |sign: i64| -> f64 {
        let of_sign = lags_ns.iter().zip(&correlation).filter(|(lag_ns, _)| lag_ns.signum() == sign);
        of_sign.map(|(_, value)| value * value).sum()
    };
    let (leading, lagging) = (squares(1), squares(-1));
    let ratio = if leading > 0.0 && lagging > 0.0 { leading / lagging } else { f64::NAN };
    let best = (0..lags_ns.len()).rev().max_by(|a, b| correlation[*a].abs().total_cmp(&correlation[*b].abs()));
    let best = best.expect("there is a lag");
    Ok(LeadLag { best_lag_ns: lags_ns[best], best_correlation: correlation[best], correlation, ratio })
}

/// Streaming HY(0). Equal stamps may arrive in any order: the stamp before is settled, the present one is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct HayashiYoshida {
    settled: Overlaps,
    now: Overlaps,
    stamp_ns: Option<i64>,
    x: Option<f64>,
    y: Option<f64>,
    arming: Arming,
    validity: Validity,
}

impl HayashiYoshida {
    /// Why a row cannot follow.
    pub fn check(&self, ns: i64, price: f64) -> Result<(), Refused> {
        if self.stamp_ns.is_some_and(|before| ns < before) {
            return Err(Refused::new("ns", format!("{ns} is before the row before")));
        }
        check_price("price", price)
    }

    /// A price of X. The row must have passed `check`.
    pub fn update_x(&mut self, ns: i64, price: f64) -> f64 {
        self.open(ns);
        if !price.is_nan() {
            self.x = Some(price);
        }
        self.settle()
    }

    pub fn update_y(&mut self, ns: i64, price: f64) -> f64 {
        self.open(ns);
        if !price.is_nan() {
            self.y = Some(price);
        }
        self.settle()
    }

    fn open(&mut self, ns: i64) {
        if self.stamp_ns != Some(ns) {
            (self.settled, self.stamp_ns, self.x, self.y) = (self.now, Some(ns), None, None);
            if self.validity == Validity::Valid {
                self.arming = Arming::default();
            }
        }
    }

    fn settle(&mut self) -> f64 {
        self.now = self.settled.stamp(self.x, self.y);
        let warm = self.now.x_variance > 0.0 && self.now.y_variance > 0.0;
        // A price that returns within its stamp never moved: only a settled stamp forgets the gap.
        let mut arming = self.arming;
        self.validity = arming.validity(warm, true);
        self.covariance()
    }

    /// `update_x` or `update_y` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        rows: Merged<'_>,
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let count = rows.check()?;
        same_rows(&[("mark", count), ("out", out.len()), ("validity", validity.len())])?;
        if let Some(marks) = marks {
            same_rows(&[("mark", count), ("restart", marks.len())])?;
            restarts("restart", marks)?;
        }
        let goes_on = marks.is_none_or(|marks| marks.first() == Some(&restart::NONE));
        if let (Some(first), true) = (rows.ns.first(), goes_on) {
            self.check(*first, 0.0)?;
        }
        for piece in pieces(count, marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            for row in piece {
                out[row] = match rows.mark[row] {
                    mark::X => self.update_x(rows.ns[row], rows.price[row]),
                    _ => self.update_y(rows.ns[row], rows.price[row]),
                };
                validity[row] = self.validity as u8;
            }
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn taint(&mut self) {
        *self = Self { arming: Arming::AFTER_GAP, validity: Validity::Tainted, ..Self::default() };
    }

    fn valid(&self, value: f64) -> f64 {
        if self.validity == Validity::Valid { value } else { f64::NAN }
    }

    /// HY(0); NaN until both have changed.
    pub fn covariance(&self) -> f64 {
        self.valid(self.now.covariance)
    }

    pub fn correlation(&self) -> f64 {
        self.valid(self.now.covariance / self.now.x_variance.sqrt() / self.now.y_variance.sqrt())
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// Rows of both series in one column, in order of time.
#[derive(Clone, Copy)]
pub struct Merged<'a> {
    pub mark: &'a [u8],
    pub ns: &'a [i64],
    pub price: &'a [f64],
}

impl Merged<'_> {
    pub fn check(&self) -> Result<usize, Refused> {
        let rows = same_rows(&[("mark", self.mark.len()), ("ns", self.ns.len()), ("price", self.price.len())])?;
        if let Some(row) = self.mark.iter().position(|mark| *mark > mark::Y) {
            return Err(Refused::new("mark", format!("row {row} is {}, not 0 (x) or 1 (y)", self.mark[row])));
        }
        sorted("ns", self.ns)?;
        check_prices("price", self.price)?;
        Ok(rows)
    }
}
