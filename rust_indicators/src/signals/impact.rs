//! What trading costs and moves: Kyle's λ, Amihud's illiquidity, Roll's spread. Not who traded.
//! Kyle (1985), Econometrica 53(6) 1315–1335; Amihud (2002), Journal of Financial Markets 5(1) 31–56;
//! Roll (1984), Journal of Finance 39(4) 1127–1139.
use super::rolling::{CHANGE_MAX, PRICE_E6_MAX, RollingSum, centred};
use super::{Arming, Refused, Validity, restart, restarts, same_rows};

/// Largest rolling window.
pub const WINDOW_MAX: i64 = 1 << 20;
const E6: f64 = 1e6;

fn check_window(argument: &'static str, length: i64, least: i64) -> Result<usize, Refused> {
    if !(least..=WINDOW_MAX).contains(&length) {
        return Err(Refused::new(argument, format!("{length} is not within {least} … 2²⁰")));
    }
    Ok(length as usize)
}

fn check_change(argument: &'static str, change: i64) -> Result<(), Refused> {
    if !(-CHANGE_MAX..=CHANGE_MAX).contains(&change) {
        return Err(Refused::new(argument, format!("{change} is not within −2⁴⁷ … 2⁴⁷")));
    }
    Ok(())
}

fn check_price(price_e6: i64) -> Result<(), Refused> {
    if !(-PRICE_E6_MAX..=PRICE_E6_MAX).contains(&price_e6) {
        return Err(Refused::new("price_e6", format!("{price_e6} is not within −2⁴⁶ … 2⁴⁶")));
    }
    Ok(())
}

/// The first row a check refuses, with its number.
fn check_rows(rows: usize, check: impl Fn(usize) -> Result<(), Refused>) -> Result<(), Refused> {
    (0..rows).try_for_each(|row| {
        check(row).map_err(|refused| Refused::new(refused.argument, format!("row {row}: {}", refused.reason)))
    })
}

fn check_marks(first: &'static str, rows: usize, marks: Option<&[u8]>) -> Result<(), Refused> {
    if let Some(marks) = marks {
        same_rows(&[(first, rows), ("restart", marks.len())])?;
        restarts("restart", marks)?;
    }
    Ok(())
}

/// A line through pairs of signed volume and price change: price per lot, price, share of the variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub slope: f64,
    pub intercept: f64,
    pub r_squared: f64,
}

impl Fit {
    pub const NONE: Self = Self { slope: f64::NAN, intercept: f64::NAN, r_squared: f64::NAN };
}

/// Sums of pairs, exact: what was added can be taken away without a trace.
#[derive(Clone, Copy, Debug, Default)]
struct PairSums {
    n: i64,
    x: i128,
    y: i128,
    xx: i128,
    xy: i128,
    yy: i128,
}

impl PairSums {
    fn add(&mut self, x: i64, y: i64) {
        let (x, y) = (i128::from(x), i128::from(y));
        self.n += 1;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    fn remove(&mut self, x: i64, y: i64) {
        let (x, y) = (i128::from(x), i128::from(y));
        self.n -= 1;
        self.x -= x;
        self.y -= y;
        self.xx -= x * x;
        self.xy -= x * y;
        self.yy -= y * y;
    }

    /// y × 10⁶ on x, least squares with an intercept.
    fn fit(&self) -> Fit {
        let xx = centred(self.n, self.x, self.x, self.xx);
        if self.n == 0 || xx == 0.0 {
            return Fit::NONE;
        }
        let xy = centred(self.n, self.x, self.y, self.xy);
        let yy = centred(self.n, self.y, self.y, self.yy);
        let (slope, n) = (xy / xx, self.n as f64);
        let intercept = self.y as f64 / n - slope * (self.x as f64 / n);
        let r_squared = if yy == 0.0 { f64::NAN } else { (slope * (xy / yy)).min(1.0) };
        Fit { slope: slope / E6, intercept: intercept / E6, r_squared }
    }

    /// Roll's spread of pairs of successive changes × 10⁶; NaN where their covariance is not negative.
    fn spread(&self) -> f64 {
        if self.n == 0 {
            return f64::NAN;
        }
        let covariance = centred(self.n, self.x, self.y, self.xy);
        if covariance < 0.0 { 2.0 * (-covariance).sqrt() / self.n as f64 / E6 } else { f64::NAN }
    }
}

/// Least squares of price changes on signed volume, over all rows.
pub fn kyle_lambda(price_change_e6: &[i64], signed_volume: &[i64]) -> Result<Fit, Refused> {
    check_pairs(price_change_e6, signed_volume)?;
    let mut sums = PairSums::default();
    for (change, volume) in price_change_e6.iter().zip(signed_volume) {
        sums.add(*volume, *change);
    }
    Ok(sums.fit())
}

fn check_pairs(price_change_e6: &[i64], signed_volume: &[i64]) -> Result<usize, Refused> {
    let rows = same_rows(&[("price_change_e6", price_change_e6.len()), ("signed_volume", signed_volume.len())])?;
    check_rows(rows, |row| KyleLambda::check(price_change_e6[row], signed_volume[row]))?;
    Ok(rows)
}

/// Streaming Kyle's λ over the last windows. Sums are exact, so it equals the batch over them, bit for bit.
#[derive(Clone, Debug)]
pub struct KyleLambda {
    pairs: Vec<(i64, i64)>,
    next: usize,
    sums: PairSums,
    fit: Fit,
    arming: Arming,
    validity: Validity,
}

impl KyleLambda {
    pub fn new(windows: i64) -> Result<Self, Refused> {
        let pairs = vec![(0, 0); check_window("windows", windows, 2)?];
        let (arming, validity) = (Arming::default(), Validity::WarmingUp);
        Ok(Self { pairs, next: 0, sums: PairSums::default(), fit: Fit::NONE, arming, validity })
    }

    pub fn check(price_change_e6: i64, signed_volume: i64) -> Result<(), Refused> {
        check_change("price_change_e6", price_change_e6)?;
        check_change("signed_volume", signed_volume)
    }

    /// λ after this window, which must have passed `check`.
    pub fn update(&mut self, price_change_e6: i64, signed_volume: i64) -> f64 {
        if self.warm() {
            let (volume, change) = self.pairs[self.next];
            self.sums.remove(volume, change);
        }
        self.pairs[self.next] = (signed_volume, price_change_e6);
        self.next = if self.next + 1 == self.pairs.len() { 0 } else { self.next + 1 };
        self.sums.add(signed_volume, price_change_e6);
        self.fit = if self.warm() { self.sums.fit() } else { Fit::NONE };
        self.validity = self.arming.validity(self.warm(), !self.fit.slope.is_nan());
        self.fit.slope
    }

    fn warm(&self) -> bool {
        self.sums.n == self.pairs.len() as i64
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        price_change_e6: &[i64],
        signed_volume: &[i64],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_pairs(price_change_e6, signed_volume)?;
        check_marks("price_change_e6", rows, marks)?;
        same_rows(&[("price_change_e6", rows), ("out", out.len()), ("validity", validity.len())])?;
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[row] = self.update(price_change_e6[row], signed_volume[row]);
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        (self.next, self.sums, self.fit) = (0, PairSums::default(), Fit::NONE);
        (self.arming, self.validity) = (Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.reset();
        (self.arming, self.validity) = (Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn value(&self) -> f64 {
        self.fit.slope
    }

    pub fn fit(&self) -> Fit {
        self.fit
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// Mean |return| ÷ value over the windows that traded; NaN where none did. Row 0 only gives the price before.
pub fn amihud(price_e6: &[i64], value_e6: &[i64]) -> Result<f64, Refused> {
    let rows = check_values(price_e6, value_e6)?;
    let (mut sum, mut lost, mut counted) = (0.0, 0.0, 0_u64);
    for row in 1..rows {
        if value_e6[row] > 0 {
            // Neumaier: what the addition rounds away is summed apart.
            let term = illiquidity(price_e6[row - 1], price_e6[row], value_e6[row]);
            let next: f64 = sum + term;
            lost += if sum >= term { (sum - next) + term } else { (term - next) + sum };
            (sum, counted) = (next, counted + 1);
        }
    }
    Ok((sum + lost) / counted as f64)
}

fn check_values(price_e6: &[i64], value_e6: &[i64]) -> Result<usize, Refused> {
    let rows = same_rows(&[("price_e6", price_e6.len()), ("value_e6", value_e6.len())])?;
    check_rows(rows, |row| Amihud::check(price_e6[row], value_e6[row]))?;
    Ok(rows)
}

fn illiquidity(before_e6: i64, price_e6: i64, value_e6: i64) -> f64 {
    (price_e6 - before_e6).abs() as f64 / before_e6 as f64 / (value_e6 as f64 / E6)
}

/// Streaming Amihud over the last windows that traded.
#[derive(Clone, Debug)]
pub struct Amihud {
    before_e6: Option<i64>,
    terms: RollingSum,
    arming: Arming,
    validity: Validity,
}

impl Amihud {
    pub fn new(windows: i64) -> Result<Self, Refused> {
        let terms = RollingSum::new(check_window("windows", windows, 1)?);
        Ok(Self { before_e6: None, terms, arming: Arming::default(), validity: Validity::WarmingUp })
    }

    pub fn check(price_e6: i64, value_e6: i64) -> Result<(), Refused> {
        if !(1..=PRICE_E6_MAX).contains(&price_e6) {
            return Err(Refused::new("price_e6", format!("{price_e6} is not within 1 … 2⁴⁶")));
        }
        if value_e6 < 0 {
            return Err(Refused::new("value_e6", format!("{value_e6} is negative")));
        }
        Ok(())
    }

    /// The mean after this window, which must have passed `check`; as it was where nothing traded.
    pub fn update(&mut self, price_e6: i64, value_e6: i64) -> f64 {
        if let (Some(before_e6), true) = (self.before_e6, value_e6 > 0) {
            self.terms.push(illiquidity(before_e6, price_e6, value_e6));
        }
        self.before_e6 = Some(price_e6);
        self.validity = self.arming.validity(self.terms.full(), true);
        self.value()
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        price_e6: &[i64],
        value_e6: &[i64],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_values(price_e6, value_e6)?;
        check_marks("price_e6", rows, marks)?;
        same_rows(&[("price_e6", rows), ("out", out.len()), ("validity", validity.len())])?;
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[row] = self.update(price_e6[row], value_e6[row]);
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        self.before_e6 = None;
        self.terms.clear();
        (self.arming, self.validity) = (Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.reset();
        (self.arming, self.validity) = (Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn value(&self) -> f64 {
        if self.terms.full() { self.terms.mean() } else { f64::NAN }
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// Spread that the bounce between bid and ask leaves in trade prices; NaN where successive changes do not bounce.
pub fn roll_spread(price_e6: &[i64]) -> Result<f64, Refused> {
    check_rows(price_e6.len(), |row| check_price(price_e6[row]))?;
    let mut sums = PairSums::default();
    for price in price_e6.windows(3) {
        sums.add(price[2] - price[1], price[1] - price[0]);
    }
    Ok(sums.spread())
}

/// Streaming Roll spread over the last trades. Sums are exact, so it equals the batch over them, bit for bit.
#[derive(Clone, Debug)]
pub struct Roll {
    /// Of the last trades; `next` is the oldest once there are so many.
    prices_e6: Vec<i64>,
    next: usize,
    seen: usize,
    sums: PairSums,
    value: f64,
    arming: Arming,
    validity: Validity,
}

impl Roll {
    pub fn new(trades: i64) -> Result<Self, Refused> {
        let prices_e6 = vec![0; check_window("trades", trades, 4)?];
        let (arming, validity) = (Arming::default(), Validity::WarmingUp);
        Ok(Self { prices_e6, next: 0, seen: 0, sums: PairSums::default(), value: f64::NAN, arming, validity })
    }

    pub fn check(price_e6: i64) -> Result<(), Refused> {
        check_price(price_e6)
    }

    /// The spread after this trade, which must have passed `check`.
    pub fn update(&mut self, price_e6: i64) -> f64 {
        let length = self.prices_e6.len();
        let wrapped = |at: usize| if at >= length { at - length } else { at };
        if self.seen == length {
            let [first, second, third] = [0, 1, 2].map(|after| self.prices_e6[wrapped(self.next + after)]);
            self.sums.remove(third - second, second - first);
        }
        if self.seen >= 2 {
            let [newest, before] = [1, 2].map(|back| self.prices_e6[wrapped(self.next + length - back)]);
            self.sums.add(price_e6 - newest, newest - before);
        }
        self.prices_e6[self.next] = price_e6;
        self.next = wrapped(self.next + 1);
        self.seen = length.min(self.seen + 1);
        let warm = self.seen == length;
        self.value = if warm { self.sums.spread() } else { f64::NAN };
        self.validity = self.arming.validity(warm, !self.value.is_nan());
        self.value
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        price_e6: &[i64],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = same_rows(&[("price_e6", price_e6.len()), ("out", out.len()), ("validity", validity.len())])?;
        check_rows(rows, |row| check_price(price_e6[row]))?;
        check_marks("price_e6", rows, marks)?;
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[row] = self.update(price_e6[row]);
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        (self.next, self.seen, self.sums, self.value) = (0, 0, PairSums::default(), f64::NAN);
        (self.arming, self.validity) = (Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.reset();
        (self.arming, self.validity) = (Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
