//! Python's view of the simulated exchange. No rule of the market is here.
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::simulate::{self, Config, Delivery, Exchange, Instrument, Market, Rows, Session, Touches};

/// Deliveries one call may hold, so that a batch stays under some 30 MB.
const BATCH_MAX: usize = 100_000;

/// One seeded trading day, generated as it is read.
#[pyclass(module = "rust_indicators._rust")]
pub struct SimulatedDay {
    config: Config,
    exchange: Exchange,
}

type SessionRow = (String, i64, i64, i64, u64);
type InstrumentRow = (String, String, i64, Vec<(i64, i64)>, u64, u32);

#[pymethods]
impl SimulatedDay {
    #[new]
    #[pyo3(signature = (*, seed, sessions, instruments, target_events, delay_median_ns, outages, outage_ns,
                        lost_ticks, lost_books, repeats, repeat_distance_max))]
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
        let repeats = PyDict::new(py);
        repeats.set_item("instrument", column(py, &truth.repeats.instrument))?;
        repeats.set_item("tick", column(py, &truth.repeats.tick))?;
        repeats.set_item("first_received_ns", column(py, &truth.repeats.first_received_ns))?;
        repeats.set_item("received_ns", column(py, &truth.repeats.received_ns))?;
        let all = PyDict::new(py);
        let codes: Vec<&str> = config.instruments.iter().map(|instrument| instrument.code.as_str()).collect();
        all.set_item("codes", codes)?;
        all.set_item("trades", trades)?;
        all.set_item("books", books)?;
        all.set_item("repeats", repeats)?;
        all.set_item("outages", truth.outages)?;
        all.set_item("trials", truth.trials)?;
        all.set_item("deliveries", truth.deliveries)?;
        Ok(all)
    }
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

fn session((name, trial_ns, open_ns, close_ns, activity): SessionRow) -> PyResult<Session> {
    Ok(Session { market: market(&name)?, trial_ns, open_ns, close_ns, activity })
}

fn instrument((code, name, reference_e6, tick_bands_e6, weight, level_lots): InstrumentRow) -> PyResult<Instrument> {
    Ok(Instrument { code, market: market(&name)?, reference_e6, tick_bands_e6, weight, level_lots })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SimulatedDay>()
}
