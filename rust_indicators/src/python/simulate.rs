//! Python's view of the simulated exchange. No rule of the market is here.
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::simulate_matching::SimulatedMatching;
use crate::simulate::matching::Matching;
use crate::simulate::{
    self, Config, Course, Delivery, Exchange, FeedFaults, Instrument, Market, Rows, Rules, Session, Touches, Truth,
};

/// Deliveries one call may hold, so that a batch stays under some 30 MB.
const BATCH_MAX: usize = 100_000;

/// One seeded trading day, generated as it is read.
#[pyclass(module = "rust_indicators._rust")]
pub struct SimulatedDay {
    config: Config,
    exchange: Exchange,
}

type SessionRow = (String, i64, i64, i64, i64, u64);
type InstrumentRow = (String, String, i64, Vec<(i64, i64)>, u64, u32, String, i64, Option<i64>);

/// `Rules`, from a dict that has each of its keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RulesDict {
    auction_levels: u64,
    pause_per_mille: u64,
    volatility_ppm: u64,
    jumps: u64,
    odd_lot_interval_ns: i64,
}

/// `FeedFaults`, from a dict that has each of its keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct FaultsDict {
    slows: u64,
    slow_ns: i64,
    stalls: u64,
    stall_ns: i64,
    reorders: u64,
    reorder_distance_max: u64,
    clock_steps: u64,
    clock_step_ns: i64,
    malformed: u64,
}

#[pymethods]
impl SimulatedDay {
    #[new]
    #[pyo3(signature = (*, seed, sessions, instruments, target_events, delay_median_ns, outages, outage_ns,
                        lost_ticks, lost_books, repeats, repeat_distance_max, rules, faults))]
    #[allow(clippy::too_many_arguments)] // keyword-only, one per field of Config
    fn new(
        seed: u64,
        sessions: Vec<SessionRow>,
        instruments: Vec<InstrumentRow>,
        target_events: u64,
        delay_median_ns: u64,
        outages: u64,
        outage_ns: i64,
        lost_ticks: u64,
        lost_books: u64,
        repeats: u64,
        repeat_distance_max: u64,
        rules: RulesDict,
        faults: FaultsDict,
    ) -> PyResult<SimulatedDay> {
        let config = Config {
            seed,
            sessions: sessions.into_iter().map(session).collect::<PyResult<_>>()?,
            instruments: instruments.into_iter().map(instrument).collect::<PyResult<_>>()?,
            target_events,
            delay_median_ns,
            outages,
            outage_ns,
            lost_ticks,
            lost_books,
            repeats,
            repeat_distance_max,
            rules: rules.into(),
            feed: faults.into(),
        };
        let exchange = Exchange::new(config.clone()).map_err(PyValueError::new_err)?;
        Ok(SimulatedDay { config, exchange })
    }

    /// Up to `limit` deliveries as (kind, exchange_ns, received_ns, payload); an empty list at the end of the day.
    fn next_batch<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        if limit == 0 {
            return Err(PyValueError::new_err("limit 0: an empty list means the end of the day"));
        }
        let exchange = &mut self.exchange;
        let (deliveries, bytes) = py.detach(|| {
            let (mut deliveries, mut bytes) = (Vec::<Delivery>::new(), Vec::new());
            while deliveries.len() < limit.min(BATCH_MAX) {
                let Some(delivery) = exchange.deliver(&mut bytes) else { break };
                deliveries.push(delivery);
            }
            (deliveries, bytes)
        });
        let batch = PyList::empty(py);
        let mut start = 0;
        for Delivery { kind, exchange_ns, received_ns, bytes: len } in deliveries {
            let payload = PyBytes::new(py, &bytes[start..start + len]);
            batch.append((kind as u8, exchange_ns, received_ns, payload))?;
            start += len;
        }
        Ok(batch)
    }

    /// Our own orders on this day, with a median delay of so much each way.
    fn matching(&self, latency_median_ns: u64) -> PyResult<SimulatedMatching> {
        let matching = Matching::new(self.config.clone(), latency_median_ns).map_err(PyValueError::new_err)?;
        Ok(SimulatedMatching(matching))
    }

    /// Leaves out every delivery received at `received_ns` or before.
    fn skip_until(&mut self, received_ns: i64) {
        self.exchange.skip_until(received_ns);
    }

    /// What really happened over the whole day, wherever the reading stands: columns as native-endian bytes.
    fn truth<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let config = &self.config;
        let truth = py.detach(|| simulate::truth(config)).map_err(PyValueError::new_err)?;
        let trades = rows(py, &truth.trades.rows)?;
        trades.set_item("price_e6", column(py, &truth.trades.price_e6))?;
        trades.set_item("volume", column(py, &truth.trades.volume))?;
        trades.set_item("total_volume", column(py, &truth.trades.total_volume))?;
        trades.set_item("side", column(py, &truth.trades.side))?;
        add_touches(&trades, &truth.trades.touches)?;
        let books = rows(py, &truth.books.rows)?;
        add_touches(&books, &truth.books.touches)?;
        let all = PyDict::new(py);
        let codes: Vec<&str> = config.instruments.iter().map(|instrument| instrument.code.as_str()).collect();
        all.set_item("codes", codes)?;
        all.set_item("trades", trades)?;
        all.set_item("books", books)?;
        add_faults(&all, &truth)?;
        add_auctions(&all, &truth)?;
        all.set_item("trials", truth.trials)?;
        all.set_item("deliveries", truth.deliveries)?;
        Ok(all)
    }
}

fn add_faults(all: &Bound<'_, PyDict>, truth: &Truth) -> PyResult<()> {
    let py = all.py();
    let repeats = PyDict::new(py);
    repeats.set_item("instrument", column(py, &truth.repeats.instrument))?;
    repeats.set_item("tick", column(py, &truth.repeats.tick))?;
    repeats.set_item("first_received_ns", column(py, &truth.repeats.first_received_ns))?;
    repeats.set_item("received_ns", column(py, &truth.repeats.received_ns))?;
    all.set_item("repeats", repeats)?;
    for (name, faulty) in [("late", &truth.late), ("malformed", &truth.malformed)] {
        let table = PyDict::new(py);
        table.set_item("instrument", column(py, &faulty.instrument))?;
        table.set_item("tick", column(py, &faulty.tick))?;
        table.set_item("exchange_ns", column(py, &faulty.exchange_ns))?;
        table.set_item("received_ns", column(py, &faulty.received_ns))?;
        if name == "malformed" {
            table.set_item("spoil", column(py, &faulty.spoil))?;
        }
        all.set_item(name, table)?;
    }
    all.set_item("outages", truth.outages.clone())?;
    all.set_item("stalls", truth.stalls.clone())?;
    all.set_item("slows", truth.slows.clone())?;
    all.set_item("clock_steps", truth.clock_steps.clone())
}

fn add_auctions(all: &Bound<'_, PyDict>, truth: &Truth) -> PyResult<()> {
    let py = all.py();
    let calls = PyDict::new(py);
    calls.set_item("instrument", column(py, &truth.calls.instrument))?;
    calls.set_item("kind", column(py, &truth.calls.kind))?;
    calls.set_item("start_ns", column(py, &truth.calls.start_ns))?;
    calls.set_item("end_ns", column(py, &truth.calls.end_ns))?;
    calls.set_item("price_e6", column(py, &truth.calls.price_e6))?;
    calls.set_item("volume", column(py, &truth.calls.volume))?;
    all.set_item("calls", calls)?;
    let odd_lots = PyDict::new(py);
    odd_lots.set_item("instrument", column(py, &truth.odd_lots.instrument))?;
    odd_lots.set_item("exchange_ns", column(py, &truth.odd_lots.exchange_ns))?;
    odd_lots.set_item("price_e6", column(py, &truth.odd_lots.price_e6))?;
    odd_lots.set_item("shares", column(py, &truth.odd_lots.shares))?;
    odd_lots.set_item("total_shares", column(py, &truth.odd_lots.total_shares))?;
    all.set_item("odd_lots", odd_lots)
}

fn rows<'py>(py: Python<'py>, rows: &Rows) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("instrument", column(py, &rows.instrument))?;
    columns.set_item("session", column(py, &rows.session))?;
    columns.set_item("exchange_ns", column(py, &rows.exchange_ns))?;
    columns.set_item("received_ns", column(py, &rows.received_ns))?;
    columns.set_item("fate", column(py, &rows.fate))?;
    Ok(columns)
}

fn add_touches(columns: &Bound<'_, PyDict>, touches: &Touches) -> PyResult<()> {
    let py = columns.py();
    columns.set_item("bid_price_e6", column(py, &touches.bid_e6))?;
    columns.set_item("ask_price_e6", column(py, &touches.ask_e6))?;
    columns.set_item("bid_volume", column(py, &touches.bid_volume))?;
    columns.set_item("ask_volume", column(py, &touches.ask_volume))
}

/// The memory of a column of integers, as numpy.frombuffer reads it.
fn column<'py, T: Integer>(py: Python<'py>, values: &[T]) -> Bound<'py, PyBytes> {
    // SAFETY: `T` is one of the primitive integers below, which have no padding and no invalid bytes.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), std::mem::size_of_val(values)) };
    PyBytes::new(py, bytes)
}

trait Integer {}
impl Integer for u8 {}
impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for u64 {}
impl Integer for i32 {}
impl Integer for i64 {}

fn market(name: &str) -> PyResult<Market> {
    match name {
        "stock" => Ok(Market::Stock),
        "futures" => Ok(Market::Futures),
        _ => Err(PyValueError::new_err(format!("market {name:?}: stock or futures"))),
    }
}

fn course(name: &str) -> PyResult<Course> {
    match name {
        "free" => Ok(Course::Free),
        "limit_up" => Ok(Course::LimitUp),
        "limit_down" => Ok(Course::LimitDown),
        "suspended" => Ok(Course::Suspended),
        "untraded" => Ok(Course::Untraded),
        _ => Err(PyValueError::new_err(format!("course {name:?}: free, limit_up, limit_down, suspended or untraded"))),
    }
}

fn session((name, trial_ns, open_ns, call_ns, close_ns, activity): SessionRow) -> PyResult<Session> {
    Ok(Session { market: market(&name)?, trial_ns, open_ns, call_ns, close_ns, activity })
}

fn instrument(row: InstrumentRow) -> PyResult<Instrument> {
    let (code, name, reference_e6, tick_bands_e6, weight, level_lots, course_name, beta_percent, last_ns) = row;
    let (market, course) = (market(&name)?, course(&course_name)?);
    Ok(Instrument { code, market, reference_e6, tick_bands_e6, weight, level_lots, course, beta_percent, last_ns })
}

impl From<RulesDict> for Rules {
    fn from(dict: RulesDict) -> Rules {
        let RulesDict { auction_levels, pause_per_mille, volatility_ppm, jumps, odd_lot_interval_ns } = dict;
        Rules { auction_levels, pause_per_mille, volatility_ppm, jumps, odd_lot_interval_ns }
    }
}

impl From<FaultsDict> for FeedFaults {
    fn from(dict: FaultsDict) -> FeedFaults {
        FeedFaults {
            slows: dict.slows,
            slow_ns: dict.slow_ns,
            stalls: dict.stalls,
            stall_ns: dict.stall_ns,
            reorders: dict.reorders,
            reorder_distance_max: dict.reorder_distance_max,
            clock_steps: dict.clock_steps,
            clock_step_ns: dict.clock_step_ns,
            malformed: dict.malformed,
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SimulatedDay>()
}
