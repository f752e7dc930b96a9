//! VPIN of bars whose trades have no side: bulk volume classification guesses it from the price. Where trades say
//! their side, use `toxicity.rs`: on futures with a recorded side the two have little in common.
//! Easley, López de Prado & O'Hara (2012), Review of Financial Studies 25(5) 1457–1493, section 2.
use super::rolling::{PRICE_E6_MAX, RollingSum, centred};
use super::toxicity::{Completed, check_buckets, check_buckets_per_row, check_lots, check_marks};
use super::{Arming, Refused, Validity, pieces, positive, restart, same_rows};

/// Changes that σ is made of: no more are counted, so that their sums stay within 128 bits.
const CHANGES_MAX: i64 = 1 << 32;

/// Refuses a close or a volume that is none.
pub fn check_bar(price_e6: i64, volume: i64) -> Result<(), Refused> {
    check_price("price_e6", price_e6)?;
    check_lots(volume)
}

fn check_price(argument: &'static str, price_e6: i64) -> Result<(), Refused> {
    if !(-PRICE_E6_MAX..=PRICE_E6_MAX).contains(&price_e6) {
        return Err(Refused::new(argument, format!("{price_e6} is not within −2⁴⁶ … 2⁴⁶")));
    }
    Ok(())
}

fn check_bars(price_e6: &[i64], volume: &[i64]) -> Result<usize, Refused> {
    let rows = same_rows(&[("price_e6", price_e6.len()), ("volume", volume.len())])?;
    for row in 0..rows {
        check_bar(price_e6[row], volume[row])
            .map_err(|refused| Refused::new(refused.argument, format!("row {row}: {}", refused.reason)))?;
    }
    Ok(rows)
}

/// VPIN after every completed bucket of bars.
pub fn bulk_vpin(
    price_e6: &[i64],
    volume: &[i64],
    mut state: BulkVpin,
    marks: Option<&[u8]>,
) -> Result<Completed, Refused> {
    let rows = check_bars(price_e6, volume)?;
    check_buckets_per_row(volume, state.bucket_volume)?;
    check_marks("price_e6", rows, marks)?;
    let mut out = Completed::default();
    for piece in pieces(rows, marks) {
        if marks.is_some_and(|marks| marks[piece.start] != restart::NONE) {
            state.reset();
        }
        for row in piece {
            let (tilt, buckets) = state.classify(price_e6[row], volume[row]);
            for bucket in 0..buckets {
                state.complete(tilt, bucket == 0);
                out.push(state.value(), row)?;
            }
            state.begin_bucket(tilt, buckets);
        }
    }
    Ok(out)
}

/// Streaming VPIN by bulk volume classification.
#[derive(Clone, Debug)]
pub struct BulkVpin {
    bucket_volume: i64,
    /// × 10⁶; without it the sample deviation of the changes before the bar.
    sigma_e6: Option<f64>,
    imbalances: RollingSum,
    /// Lots in the bucket that is filling, and its buys − sells.
    lots: i64,
    net: f64,
    before_e6: Option<i64>,
    changes: i64,
    sum: i128,
    squares: i128,
    arming: Arming,
    validity: Validity,
}

impl BulkVpin {
    /// `sigma` in price; `previous_close_e6` is the price before the first bar.
    pub fn new(
        bucket_volume: i64,
        buckets: i64,
        sigma: Option<f64>,
        previous_close_e6: Option<i64>,
    ) -> Result<Self, Refused> {
        check_buckets(bucket_volume, buckets)?;
        let sigma_e6 = sigma.map(|sigma| positive("sigma", sigma)).transpose()?.map(|sigma| sigma * 1e6);
        previous_close_e6.map_or(Ok(()), |price_e6| check_price("previous_close_e6", price_e6))?;
        Ok(Self {
            bucket_volume,
            sigma_e6,
            imbalances: RollingSum::new(buckets as usize),
            lots: 0,
            net: 0.0,
            before_e6: previous_close_e6,
            changes: 0,
            sum: 0,
            squares: 0,
            arming: Arming::default(),
            validity: Validity::WarmingUp,
        })
    }

    /// VPIN after this bar, which must have passed `check_bar`. NaN until enough buckets are full.
    pub fn update(&mut self, price_e6: i64, volume: i64) -> f64 {
        let (tilt, buckets) = self.classify(price_e6, volume);
        // Buckets of one bar after its first are all alike, so more of them than the window holds change nothing.
        for bucket in 0..buckets.min(self.imbalances.length() as i64 + 1) {
            self.complete(tilt, bucket == 0);
        }
        self.begin_bucket(tilt, buckets);
        self.validity = self.arming.validity(self.imbalances.full(), true);
        self.value()
    }

    /// Buy share less sell share of the bar, −1 … 1, and how many buckets it completes. Its lots are in the bucket.
    fn classify(&mut self, price_e6: i64, volume: i64) -> (f64, i64) {
        let change = price_e6 - self.before_e6.unwrap_or(price_e6);
        let sigma_e6 = self.sigma_e6.unwrap_or_else(|| self.past_sigma_e6());
        let tilt = if sigma_e6 > 0.0 { tilt(change as f64 / sigma_e6) } else { 0.0 };
        self.before_e6 = Some(price_e6);
        if self.changes < CHANGES_MAX {
            self.changes += 1;
            self.sum += i128::from(change);
            self.squares += i128::from(change) * i128::from(change);
        }
        let before = self.lots;
        self.lots += volume;
        if self.lots < self.bucket_volume {
            self.net += tilt * volume as f64;
            return (tilt, 0);
        }
        self.net += tilt * (self.bucket_volume - before) as f64;
        (tilt, self.lots / self.bucket_volume)
    }

    /// 0 where there are fewer than two changes.
    fn past_sigma_e6(&self) -> f64 {
        if self.changes < 2 {
            return 0.0;
        }
        let pairs = i128::from(self.changes) * i128::from(self.changes - 1);
        (centred(self.changes, self.sum, self.sum, self.squares) / pairs as f64).sqrt()
    }

    fn complete(&mut self, tilt: f64, first: bool) {
        let imbalance = if first { self.net.abs() } else { tilt.abs() * self.bucket_volume as f64 };
        self.imbalances.push(imbalance);
    }

    /// What is left of the bar after the buckets it completed.
    fn begin_bucket(&mut self, tilt: f64, buckets: i64) {
        if buckets > 0 {
            self.lots -= buckets * self.bucket_volume;
            self.net = tilt * self.lots as f64;
        }
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        price_e6: &[i64],
        volume: &[i64],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_bars(price_e6, volume)?;
        check_marks("price_e6", rows, marks)?;
        same_rows(&[("price_e6", rows), ("out", out.len()), ("validity", validity.len())])?;
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            out[row] = self.update(price_e6[row], volume[row]);
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    pub fn reset(&mut self) {
        self.imbalances.clear();
        (self.lots, self.net, self.before_e6) = (0, 0.0, None);
        (self.changes, self.sum, self.squares) = (0, 0, 0);
        (self.arming, self.validity) = (Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.reset();
        (self.arming, self.validity) = (Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn value(&self) -> f64 {
        if !self.imbalances.full() {
            return f64::NAN;
        }
        self.imbalances.sum() / (self.imbalances.length() as i64 * self.bucket_volume) as f64
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// 2Φ(x) − 1, of one size for x and −x, so that mirrored prices give the same VPIN.
fn tilt(x: f64) -> f64 {
    (1.0 - libm::erfc(x.abs() * std::f64::consts::FRAC_1_SQRT_2)).copysign(x)
}
