//! Events in windows of time, (edge before, edge]: sums, samples, and flow relative to the depth it met.
//! Not the combination of its levels: `integrated.rs`. Cont, Cucuringu & Zhang (2023), Quantitative Finance 23(10).
use super::flow::{LEVELS, LEVELS_MAX, Mlofi, Sides, check_level_rows, check_level_volumes, check_marks};
use super::{Arming, Refused, Validity, restart, same_rows, sorted};

/// Row of the first stamp after each edge. Both have passed `check_edges`.
fn ends<'a>(exchange_ns: &'a [i64], edges_ns: &'a [i64]) -> impl Iterator<Item = usize> + 'a {
    let mut row = 0;
    edges_ns.iter().map(move |edge| {
        row += exchange_ns[row..].partition_point(|stamp| stamp <= edge);
        row
    })
}

/// Refuses stamps and edges that go back, and no edge at all: the number of windows.
pub fn check_edges(exchange_ns: &[i64], edges_ns: &[i64]) -> Result<usize, Refused> {
    sorted("exchange_ns", exchange_ns)?;
    sorted("edges_ns", edges_ns)?;
    edges_ns.len().checked_sub(1).ok_or_else(|| Refused::new("edges_ns", "has no edge"))
}

/// Σ values of every window into `out`. Refused, `out` holds anything.
pub fn window_sums(exchange_ns: &[i64], values: &[i64], edges_ns: &[i64], out: &mut [i64]) -> Result<(), Refused> {
    let windows = check_edges(exchange_ns, edges_ns)?;
    same_rows(&[("exchange_ns", exchange_ns.len()), ("values", values.len())])?;
    same_rows(&[("edges_ns", windows), ("out", out.len())])?;
    let mut ends = ends(exchange_ns, edges_ns);
    let mut begin = ends.next().unwrap_or(0);
    for (window, (end, value)) in ends.zip(out).enumerate() {
        let sum: i128 = values[begin..end].iter().map(|value| i128::from(*value)).sum();
        *value = sum
            .try_into()
            .map_err(|_| Refused::new("values", format!("window {window}: their sum is beyond int64")))?;
        begin = end;
    }
    Ok(())
}

/// Row of the last stamp at or before each edge; −1 where none is.
pub fn sample_last(exchange_ns: &[i64], edges_ns: &[i64], out: &mut [i64]) -> Result<(), Refused> {
    sorted("exchange_ns", exchange_ns)?;
    sorted("edges_ns", edges_ns)?;
    same_rows(&[("edges_ns", edges_ns.len()), ("out", out.len())])?;
    for (end, row) in ends(exchange_ns, edges_ns).zip(out) {
        *row = end as i64 - 1;
    }
    Ok(())
}

/// Σ e of a level / Q, Q the mean of (bid + ask)/2 over events and levels. `depth`: Σ (bid + ask) over both.
/// 0 without an event; NaN where nothing was quoted.
pub fn normalised(sum: i128, depth: i128, events: u64, levels: usize) -> f64 {
    match (events, depth) {
        (0, _) => 0.0,
        (_, 0) => f64::NAN,
        _ => sum as f64 / (depth as f64 / (2.0 * levels as f64 * events as f64)),
    }
}

/// Columns of a level each: contributions, and volumes of both sides.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    pub contributions: &'a [&'a [i64]],
    pub bid_volume: &'a [&'a [i64]],
    pub ask_volume: &'a [&'a [i64]],
}

/// Normalised OFI of every level and window into `out`, level by level. The columns are as many and as long as
/// `exchange_ns`, and the volumes some.
pub fn normalised_ofi(exchange_ns: &[i64], flow: Flow<'_>, edges_ns: &[i64], out: &mut [f64]) -> Result<(), Refused> {
    let windows = check_edges(exchange_ns, edges_ns)?;
    let levels = flow.contributions.len();
    same_rows(&[("edges_ns", windows * levels), ("out", out.len())])?;
    let mut ends = ends(exchange_ns, edges_ns);
    let mut begin = ends.next().unwrap_or(0);
    for (window, end) in ends.enumerate() {
        let sum = |column: &[i64]| -> i128 { column[begin..end].iter().map(|value| i128::from(*value)).sum() };
        let depth = flow.bid_volume.iter().chain(flow.ask_volume).map(|column| sum(column)).sum();
        for (level, column) in flow.contributions.iter().enumerate() {
            out[level * windows + window] = normalised(sum(column), depth, (end - begin) as u64, levels);
        }
        begin = end;
    }
    Ok(())
}

/// What an event closed: the window it ended, if that was seen whole, and how many without an event came after.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    pub window: Option<[f64; LEVELS_MAX]>,
    pub empty: u64,
}

/// Streaming `normalised_ofi` over windows of one length. It remembers sums of the open window and the last closed one.
#[derive(Clone, Copy, Debug)]
pub struct NormalisedOfi {
    mlofi: Mlofi,
    window_ns: i64,
    anchor_ns: i64,
    /// Last stamp, and the edge at which the open window ends.
    open: Option<(i64, i64)>,
    /// The open window was seen from its beginning.
    whole: bool,
    sums: [i128; LEVELS_MAX],
    depth: i128,
    events: u64,
    values: [f64; LEVELS_MAX],
    closed: u64,
    arming: Arming,
    validity: Validity,
}

impl NormalisedOfi {
    pub fn new(levels: usize, window_ns: i64, anchor_ns: i64) -> Result<Self, Refused> {
        if window_ns <= 0 {
            return Err(Refused::new("window_ns", format!("{window_ns} is not above 0")));
        }
        Ok(Self {
            mlofi: Mlofi::new(levels)?,
            window_ns,
            anchor_ns,
            open: None,
            whole: false,
            sums: [0; LEVELS_MAX],
            depth: 0,
            events: 0,
            values: [f64::NAN; LEVELS_MAX],
            closed: 0,
            arming: Arming::default(),
            validity: Validity::WarmingUp,
        })
    }

    /// Refuses a stamp before the last one, and a book that is none.
    pub fn check(&self, exchange_ns: i64, book: Sides<'_>) -> Result<(), Refused> {
        if self.open.is_some_and(|(last, _)| exchange_ns < last) {
            return Err(Refused::new("exchange_ns", format!("{exchange_ns} is before the last event")));
        }
        book.check_book(self.mlofi.levels())
    }

    /// The edge that ends the window of a stamp; the last one a stamp can have ends the last window.
    fn end_of(&self, exchange_ns: i64) -> i64 {
        let (stamp, anchor, window) = (i128::from(exchange_ns), i128::from(self.anchor_ns), i128::from(self.window_ns));
        let end = anchor - (anchor - stamp).div_euclid(window) * window;
        end.min(i128::from(i64::MAX)) as i64
    }

    /// The event passed `check`. One that is late belongs to the open window.
    pub fn update(&mut self, exchange_ns: i64, book: Sides<'_>) -> Closed {
        let closed = match self.open {
            Some((last, end)) if exchange_ns <= end => {
                self.open = Some((last.max(exchange_ns), end));
                Closed::default()
            }
            Some((_, end)) => self.close(exchange_ns, end),
            None => {
                self.open = Some((exchange_ns, self.end_of(exchange_ns)));
                Closed::default()
            }
        };
        for (sum, contribution) in self.sums.iter_mut().zip(self.mlofi.update(book)) {
            *sum += i128::from(*contribution);
        }
        let depth = |side: &[i64]| side.iter().take(self.mlofi.levels()).sum::<i64>();
        self.depth += i128::from(depth(book.bid_volume) + depth(book.ask_volume));
        self.events += 1;
        self.validity = self.arming.validity(self.closed > 0, !self.values[0].is_nan());
        closed
    }

    fn close(&mut self, exchange_ns: i64, end: i64) -> Closed {
        let levels = self.mlofi.levels();
        let next = self.end_of(exchange_ns);
        // At the end of time the last window is shorter, and it too is one.
        let passed = (i128::from(next) - i128::from(end)) as u64;
        let empty = passed.div_ceil(self.window_ns as u64) - 1;
        let mut closed = Closed { window: None, empty };
        if self.whole {
            let mut values = [0.0; LEVELS_MAX];
            for (value, sum) in values.iter_mut().zip(self.sums).take(levels) {
                *value = normalised(sum, self.depth, self.events, levels);
            }
            (closed.window, self.values) = (Some(values), values);
        }
        if empty > 0 {
            self.values = [0.0; LEVELS_MAX];
        }
        self.closed = self.closed.saturating_add(empty).saturating_add(u64::from(self.whole));
        (self.open, self.whole) = (Some((exchange_ns, next)), true);
        (self.sums, self.depth, self.events) = ([0; LEVELS_MAX], 0, 0);
        closed
    }

    /// `update` for every row: the last closed window of each, level by level. Nothing has changed when it refuses.
    pub fn update_many(
        &mut self,
        exchange_ns: &[i64],
        book: &[Sides<'_>],
        marks: Option<&[u8]>,
        out: &mut [f64],
        validity: &mut [u8],
    ) -> Result<(), Refused> {
        let rows = check_level_rows(book)?;
        self.check_many(exchange_ns, book, marks)?;
        same_rows(&[("exchange_ns", rows * self.mlofi.levels()), ("out", out.len())])?;
        let mut row_of_levels = [[0; LEVELS_MAX]; 4];
        for row in 0..rows {
            match marks.map_or(restart::NONE, |marks| marks[row]) {
                restart::RESET => self.reset(),
                restart::TAINT => self.taint(),
                _ => {}
            }
            for (level, sides) in book.iter().enumerate() {
                let side = sides.row(row);
                let parts = [side.bid_price_e6, side.bid_volume, side.ask_price_e6, side.ask_volume];
                row_of_levels.iter_mut().zip(parts).for_each(|(levels, part)| levels[level] = part);
            }
            let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] = row_of_levels.each_ref().map(|part| &part[..]);
            self.update(exchange_ns[row], Sides { bid_price_e6, bid_volume, ask_price_e6, ask_volume });
            for (level, value) in self.values().iter().enumerate() {
                out[level * rows + row] = *value;
            }
            validity[row] = self.validity as u8;
        }
        Ok(())
    }

    fn check_many(&self, exchange_ns: &[i64], book: &[Sides<'_>], marks: Option<&[u8]>) -> Result<(), Refused> {
        let rows = check_level_rows(book)?;
        if book.len() != self.mlofi.levels() {
            let reason = format!("has {} levels, not {}", book.len(), self.mlofi.levels());
            return Err(Refused::new("bid_price_e6", reason));
        }
        same_rows(&[("exchange_ns", exchange_ns.len()), (LEVELS[0][0], rows)])?;
        check_level_volumes(book)?;
        check_marks(("exchange_ns", rows), marks)?;
        sorted("exchange_ns", exchange_ns)?;
        let anew = marks.and_then(|marks| marks.first()).is_some_and(|mark| *mark != restart::NONE);
        match (self.open, exchange_ns.first()) {
            (Some((last, _)), Some(first)) if !anew && *first < last => {
                Err(Refused::new("exchange_ns", format!("row 0: {first} is before the last event")))
            }
            _ => Ok(()),
        }
    }

    fn anew(&mut self, arming: Arming, validity: Validity) {
        self.mlofi.reset();
        (self.open, self.whole, self.closed) = (None, false, 0);
        (self.sums, self.depth, self.events) = ([0; LEVELS_MAX], 0, 0);
        self.values = [f64::NAN; LEVELS_MAX];
        (self.arming, self.validity) = (arming, validity);
    }

    pub fn reset(&mut self) {
        self.anew(Arming::default(), Validity::WarmingUp);
    }

    pub fn taint(&mut self) {
        self.anew(Arming::AFTER_GAP, Validity::Tainted);
    }

    pub fn levels(&self) -> usize {
        self.mlofi.levels()
    }

    /// Of the last closed window; NaN before one.
    pub fn values(&self) -> &[f64] {
        &self.values[..self.mlofi.levels()]
    }

    /// Windows closed since it began.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}
