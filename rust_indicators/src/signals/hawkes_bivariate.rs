//! Intensities of two kinds of events, buys and sells say, that excite themselves and each other. Not the fit.
//! Bacry, Mastromatteo & Muzy (2015), Market Microstructure and Liquidity 1(1) 1550005.
use super::exponential::decay;
use super::hawkes::{BLOCK, NS, block_of, elapsed_ns, gaps_ns, memory_ns, rate, rate_or_none};
use super::{Refused, Validity, pieces, restart, restarts, same_rows, sorted};
use crate::for_wide_vectors;

/// One number for each kind of event.
pub type Pair = [f64; 2];
/// `[i][j]`: of the effect that events of kind j have on the intensity of kind i.
pub type Matrix = [[f64; 2]; 2];

/// Base rates, jumps and decays, all in 1/s.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub mu: Pair,
    pub alpha: Matrix,
    pub beta: Matrix,
}

impl Rates {
    pub fn new(mu: Pair, alpha: Matrix, beta: Matrix) -> Result<Self, Refused> {
        for value in mu {
            rate("mu", value)?;
        }
        spectral_radius(alpha, beta)?;
        Ok(Self { mu, alpha, beta })
    }

    /// What is left of every excitation after so long, and what is gone of it.
    #[inline(always)]
    pub fn decay(&self, elapsed_ns: u64) -> (Matrix, Matrix) {
        let both = self.beta.map(|row| row.map(|beta| decay(-(beta * NS * elapsed_ns as f64))));
        (both.map(|row| row.map(|(left, _)| left)), both.map(|row| row.map(|(_, gone)| gone)))
    }

    #[inline(always)]
    pub fn intensity(&self, excitation: &Matrix) -> Pair {
        let of = |i: usize| self.mu[i] + self.alpha[i][0] * excitation[i][0] + self.alpha[i][1] * excitation[i][1];
        [of(0), of(1)]
    }
}

/// Largest eigenvalue of α/β, taken element by element: below 1 the process does not explode.
pub fn spectral_radius(alpha: Matrix, beta: Matrix) -> Result<f64, Refused> {
    let mut ratio = [[0.0; 2]; 2];
    for i in 0..2 {
        for j in 0..2 {
            ratio[i][j] = rate_or_none("alpha", alpha[i][j])? / rate("beta", beta[i][j])?;
        }
    }
    let half = (ratio[0][0] - ratio[1][1]) / 2.0;
    Ok((ratio[0][0] + ratio[1][1]) / 2.0 + (half * half + ratio[0][1] * ratio[1][0]).sqrt())
}

/// Σ e^{−β…} just before the last stamp, and of which kinds an event came at it: those do not excite each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excitations {
    pub before: Matrix,
    fresh: Pair,
}

impl Excitations {
    /// An event of this kind at the last stamp.
    #[inline(always)]
    pub fn event(&mut self, kind: u8) {
        let second = f64::from(kind & 1);
        self.fresh[0] = self.fresh[0].max(1.0 - second);
        self.fresh[1] = self.fresh[1].max(second);
    }

    /// What decays from now on; nothing until time goes on.
    #[inline(always)]
    pub fn after(&self, goes_on: bool) -> Matrix {
        let fresh = if goes_on { self.fresh } else { [0.0; 2] };
        self.before.map(|row| [row[0] + fresh[0], row[1] + fresh[1]])
    }

    /// The next stamp, by which so much is left.
    #[inline(always)]
    pub fn wait(&mut self, left: &Matrix, goes_on: bool) {
        let after = self.after(goes_on);
        for i in 0..2 {
            for j in 0..2 {
                self.before[i][j] = left[i][j] * after[i][j];
            }
        }
        self.fresh = if goes_on { [0.0; 2] } else { self.fresh };
    }
}

/// Events as columns, checked: their stamps, and of which of the two kinds each is.
#[derive(Clone, Copy)]
pub struct Events<'a> {
    pub exchange_ns: &'a [i64],
    pub mark: &'a [u8],
}

impl<'a> Events<'a> {
    /// Stamps do not go back, kinds are 0 or 1, and no two events have the same of both.
    pub fn new(exchange_ns: &'a [i64], mark: &'a [u8]) -> Result<Self, Refused> {
        let events = Self::restarted(exchange_ns, mark, None)?;
        events.distinct(None, None)?;
        Ok(events)
    }

    fn restarted(exchange_ns: &'a [i64], mark: &'a [u8], marks: Option<&[u8]>) -> Result<Self, Refused> {
        same_rows(&[("exchange_ns", exchange_ns.len()), ("mark", mark.len())])?;
        if let Some(row) = mark.iter().position(|kind| *kind > 1) {
            return Err(Refused::new("mark", format!("row {row} is {}, not 0 or 1", mark[row])));
        }
        if let Some(marks) = marks {
            same_rows(&[("exchange_ns", exchange_ns.len()), ("restart", marks.len())])?;
            restarts("restart", marks)?;
        }
        Ok(Self { exchange_ns, mark })
    }

    /// `last`: the stamp before the first row, and the kinds that had an event at it.
    fn distinct(&self, marks: Option<&[u8]>, last: Option<(i64, [bool; 2])>) -> Result<(), Refused> {
        let mut last = last;
        for (row, (stamp, kind)) in self.exchange_ns.iter().zip(self.mark).enumerate() {
            if marks.is_some_and(|marks| marks[row] != restart::NONE) {
                last = None;
            }
            let mut seen = [false; 2];
            if let Some((last_ns, at_last)) = last {
                if *stamp < last_ns {
                    return Err(Refused::new("exchange_ns", format!("goes back at row {row}")));
                }
                seen = if *stamp == last_ns { at_last } else { seen };
            }
            if seen[usize::from(*kind)] {
                let reason = format!(
                    "row {row} has stamp and mark of an event before it: merge such prints (distinct_marked_stamps)"
                );
                return Err(Refused::new("exchange_ns", reason));
            }
            seen[usize::from(*kind)] = true;
            last = Some((*stamp, seen));
        }
        Ok(())
    }

    fn part(&self, rows: std::ops::Range<usize>) -> Self {
        Self { exchange_ns: &self.exchange_ns[rows.clone()], mark: &self.mark[rows] }
    }
}

/// The events without those of which stamp and mark came before.
pub fn distinct_marked_stamps(exchange_ns: &[i64], mark: &[u8]) -> Result<(Vec<i64>, Vec<u8>), Refused> {
    let events = Events::restarted(exchange_ns, mark, None)?;
    sorted("exchange_ns", exchange_ns)?;
    let (mut last_ns, mut seen) = (None, [false; 2]);
    let first_of_its_kind = |(stamp, kind): &(&i64, &u8)| {
        if last_ns != Some(**stamp) {
            (last_ns, seen) = (Some(**stamp), [false; 2]);
        }
        !std::mem::replace(&mut seen[usize::from(**kind)], true)
    };
    Ok(events.exchange_ns.iter().zip(events.mark).filter(first_of_its_kind).unzip())
}

/// Decays between the events of a block: `[i][j][row]`.
pub type Decays = [[[f64; BLOCK]; 2]; 2];

/// Fills in what is left between neighbours; one row fewer than stamps.
#[inline(always)]
fn remainders(rates: &Rates, stamps: &[i64], left: &mut Decays) {
    for (left, beta) in left.as_flattened_mut().iter_mut().zip(rates.beta.as_flattened()) {
        for (left, elapsed) in left.iter_mut().zip(gaps_ns(stamps)) {
            *left = decay(-(beta * NS * elapsed as f64)).0;
        }
    }
}

/// Fills in what is left and what is gone between neighbours; one row fewer than stamps.
#[inline(always)]
pub fn decays(rates: &Rates, stamps: &[i64], left: &mut Decays, gone: &mut Decays) {
    for i in 0..2 {
        for j in 0..2 {
            let rows = left[i][j].iter_mut().zip(&mut gone[i][j]);
            for ((left, gone), elapsed) in rows.zip(gaps_ns(stamps)) {
                (*left, *gone) = decay(-(rates.beta[i][j] * NS * elapsed as f64));
            }
        }
    }
}

#[inline(always)]
pub fn row_of(decays: &Decays, row: usize) -> Matrix {
    [[decays[0][0][row], decays[0][1][row]], [decays[1][0][row], decays[1][1][row]]]
}

#[inline(always)]
fn intensities_body(rates: &Rates, begin: Excitations, events: Events<'_>, out: [&mut [f64]; 2]) -> Excitations {
    let mut excitations = begin;
    let mut left: Decays = [[[0.0; BLOCK]; 2]; 2];
    let [first, second] = out;
    for (block, (first, second)) in first.chunks_mut(BLOCK).zip(second.chunks_mut(BLOCK)).enumerate() {
        let stamps = block_of(events.exchange_ns, block);
        let kinds = &events.mark[block * BLOCK + 1..][..first.len()];
        remainders(rates, stamps, &mut left);
        for row in 0..first.len() {
            excitations.wait(&row_of(&left, row), stamps[row + 1] != stamps[row]);
            excitations.event(kinds[row]);
            [first[row], second[row]] = rates.intensity(&excitations.before);
        }
    }
    excitations
}

for_wide_vectors! {
    /// λ of both kinds before every event but the first, which `begin` has counted. Returns the last excitations.
    fn intensities = intensities_body, (rates: &Rates, begin: Excitations, events: Events<'_>, out: [&mut [f64]; 2]) -> Excitations
}

/// λ(tᵢ−) of both kinds in 1/s into `out`. While events are missing within its memory it is NaN.
pub fn intensity(
    rates: Rates,
    exchange_ns: &[i64],
    mark: &[u8],
    marks: Option<&[u8]>,
    out: [&mut [f64]; 2],
) -> Result<(), Refused> {
    BivariateHawkes::of(rates).update_many(exchange_ns, mark, marks, out, None)
}

/// Streaming intensities of both kinds. Valid from the first event on, as the univariate one; after a gap not until the
/// events since then span the longest memory.
#[derive(Clone, Copy, Debug)]
pub struct BivariateHawkes {
    rates: Rates,
    memory_ns: u64,
    last_ns: Option<i64>,
    excitations: Excitations,
    /// Events are missing before the first one.
    gap: bool,
    first_ns: i64,
    value: Pair,
    validity: Validity,
}

impl BivariateHawkes {
    pub fn new(mu: Pair, alpha: Matrix, beta: Matrix) -> Result<Self, Refused> {
        Ok(Self::of(Rates::new(mu, alpha, beta)?))
    }

    pub fn of(rates: Rates) -> Self {
        let slowest = rates.beta.as_flattened().iter().copied().fold(f64::INFINITY, f64::min);
        Self {
            rates,
            memory_ns: memory_ns(slowest),
            last_ns: None,
            excitations: Excitations::default(),
            gap: false,
            first_ns: 0,
            value: [f64::NAN; 2],
            validity: Validity::WarmingUp,
        }
    }

    /// Why this event cannot be the next.
    pub fn check(&self, exchange_ns: i64, mark: u8) -> Result<(), Refused> {
        Events::restarted(&[exchange_ns], &[mark], None)?.distinct(None, self.last())
    }

    fn last(&self) -> Option<(i64, [bool; 2])> {
        self.last_ns.map(|last_ns| (last_ns, self.excitations.fresh.map(|fresh| fresh > 0.0)))
    }

    /// λ of both kinds just before this event; NaN while not valid. The event must have passed `check`.
    pub fn update(&mut self, exchange_ns: i64, mark: u8) -> Pair {
        match self.last_ns {
            Some(last_ns) => {
                let (left, _) = self.rates.decay(elapsed_ns(last_ns, exchange_ns));
                self.excitations.wait(&left, exchange_ns != last_ns);
            }
            None => self.first_ns = exchange_ns,
        }
        self.last_ns = Some(exchange_ns);
        self.excitations.event(mark);
        let valid = self.warm(exchange_ns);
        self.gap &= !valid;
        self.validity = if valid { Validity::Valid } else { Validity::Tainted };
        self.value = if valid { self.rates.intensity(&self.excitations.before) } else { [f64::NAN; 2] };
        self.value
    }

    /// `update` for stamps that may go back a little: then the event came at the last stamp.
    pub fn update_clamped(&mut self, exchange_ns: i64, mark: u8) -> Pair {
        self.update(self.last_ns.map_or(exchange_ns, |last_ns| exchange_ns.max(last_ns)), mark)
    }

    /// λ just before a time, of the events before it; NaN while events are missing within the memory.
    pub fn intensity_at(&self, exchange_ns: i64) -> Result<Pair, Refused> {
        let Some(last_ns) = self.last_ns else {
            return Ok(if self.gap { [f64::NAN; 2] } else { self.rates.mu });
        };
        if exchange_ns < last_ns {
            return Err(Refused::new("exchange_ns", format!("{exchange_ns} is before the last event, at {last_ns}")));
        }
        if !self.warm(exchange_ns) {
            return Ok([f64::NAN; 2]);
        }
        let mut ahead = self.excitations;
        ahead.wait(&self.rates.decay(elapsed_ns(last_ns, exchange_ns)).0, exchange_ns != last_ns);
        Ok(self.rates.intensity(&ahead.before))
    }

    fn warm(&self, exchange_ns: i64) -> bool {
        !self.gap || elapsed_ns(self.first_ns, exchange_ns) >= self.memory_ns
    }

    /// `update` for every row. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        exchange_ns: &[i64],
        mark: &[u8],
        marks: Option<&[u8]>,
        out: [&mut [f64]; 2],
        validity: Option<&mut [u8]>,
    ) -> Result<(), Refused> {
        let events = Events::restarted(exchange_ns, mark, marks)?;
        let [first, second] = out;
        same_rows(&[("exchange_ns", exchange_ns.len()), ("out", first.len()), ("out", second.len())])?;
        events.distinct(marks, self.last())?;
        let mut validity = validity;
        for piece in pieces(exchange_ns.len(), marks) {
            match marks.map_or(restart::NONE, |marks| marks[piece.start]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            let judged = validity.as_deref_mut().map(|validity| &mut validity[piece.clone()]);
            let out = [&mut first[piece.clone()], &mut second[piece.clone()]];
            self.run(events.part(piece), out, judged);
        }
        Ok(())
    }

    /// A piece without restarts; at least one row.
    fn run(&mut self, events: Events<'_>, out: [&mut [f64]; 2], validity: Option<&mut [u8]>) {
        let [first, second] = out;
        let (rows, mut row) = (events.mark.len(), 0);
        while row < rows && (row == 0 || self.gap) {
            [first[row], second[row]] = self.update(events.exchange_ns[row], events.mark[row]);
            row += 1;
        }
        if let Some(validity) = validity {
            let tainted = first[..row].iter().take_while(|value| value.is_nan()).count();
            validity[..tainted].fill(Validity::Tainted as u8);
            validity[tainted..].fill(Validity::Valid as u8);
        }
        if row < rows {
            let out = [&mut first[row..], &mut second[row..]];
            self.excitations = intensities(&self.rates, self.excitations, events.part(row - 1..rows), out);
            self.last_ns = Some(events.exchange_ns[rows - 1]);
            self.value = [first[rows - 1], second[rows - 1]];
        }
    }

    pub fn reset(&mut self) {
        *self = Self::of(self.rates);
    }

    pub fn taint(&mut self) {
        *self = Self { gap: true, validity: Validity::Tainted, ..Self::of(self.rates) };
    }

    /// λ of both kinds just before the last event.
    pub fn intensity(&self) -> Pair {
        self.value
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_goes_back_came_at_the_last_stamp() {
        let rates = || BivariateHawkes::new([1.0, 2.0], [[3.0, 1.0], [2.0, 4.0]], [[9.0, 5.0], [6.0, 7.0]]).unwrap();
        let (mut clamped, mut sorted) = (rates(), rates());
        let late = [(5, 0), (9, 0), (7, 1), (8, 0), (6, 1), (30, 1)];
        let seen = late.map(|(ms, mark)| clamped.update_clamped(ms * 1_000_000, mark));
        let expected = [(5, 0), (9, 0), (9, 1), (30, 1)].map(|(ms, mark)| sorted.update(ms * 1_000_000, mark));
        assert_eq!(seen[..3], expected[..3]);
        assert_eq!(seen[3..5], [expected[2]; 2]); // of kinds that had an event there: the same events
        assert_eq!(seen[5], expected[3]);
        assert_eq!(clamped.intensity(), seen[5]);
    }
}
