//! Python's view of the simulated exchange's matching of our own orders. No rule of the market is here.
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::simulate::matching::{Lane, Lasting, Matching, Reason, Report, Terms, Way, What};

/// Our own orders on one simulated day.
#[pyclass(module = "rust_indicators._rust")]
pub struct SimulatedMatching(pub Matching);

/// What the exchange says of one order.
#[pyclass(module = "rust_indicators._rust", frozen, get_all, eq)]
#[derive(PartialEq, Eq)]
pub struct SimulatedReport {
    id: u64,
    exchange_ns: i64,
    received_ns: i64,
    kind: &'static str,
    price_e6: Option<i64>,
    quantity: u32,
    left: u32,
    reason: Option<&'static str>,
}

#[pymethods]
impl SimulatedReport {
    fn __repr__(&self) -> String {
        let SimulatedReport { id, exchange_ns, kind, price_e6, quantity, left, reason, .. } = self;
        let price = price_e6.map_or(String::new(), |price_e6| format!(" at {price_e6}e-6"));
        let why = reason.map_or(String::new(), |reason| format!(": {reason}"));
        format!("<order {id} {kind} {quantity}{price}, {left} left, {exchange_ns}{why}>")
    }
}

#[pymethods]
impl SimulatedMatching {
    #[pyo3(signature = (code, side, price_e6, quantity, time_in_force, sent_ns, *, lane = "board"))]
    #[allow(clippy::too_many_arguments)] // an order has that many terms
    fn place(
        &mut self,
        code: &str,
        side: &str,
        price_e6: Option<i64>,
        quantity: u32,
        time_in_force: &str,
        sent_ns: i64,
        lane: &str,
    ) -> PyResult<u64> {
        let way = one_of("side", side, [("buy", Way::Buy), ("sell", Way::Sell)])?;
        let lasting = [("ROD", Lasting::Rod), ("IOC", Lasting::Ioc), ("FOK", Lasting::Fok)];
        let lasting = one_of("time_in_force", time_in_force, lasting)?;
        let lane = one_of("lane", lane, [("board", Lane::Board), ("odd", Lane::Odd)])?;
        let terms = Terms { lane, way, price_e6, quantity, lasting };
        self.0.place(code, terms, sent_ns).map_err(PyValueError::new_err)
    }

    fn cancel(&mut self, id: u64, sent_ns: i64) -> PyResult<()> {
        self.0.cancel(id, sent_ns).map_err(PyValueError::new_err)
    }

    #[pyo3(signature = (id, sent_ns, *, price_e6 = None, quantity = None))]
    fn update(&mut self, id: u64, sent_ns: i64, price_e6: Option<i64>, quantity: Option<u32>) -> PyResult<()> {
        self.0.update(id, price_e6, quantity, sent_ns).map_err(PyValueError::new_err)
    }

    fn advance(&mut self, py: Python<'_>, to_ns: i64) -> PyResult<Vec<SimulatedReport>> {
        let matching = &mut self.0;
        let reports = py.detach(|| matching.advance(to_ns)).map_err(PyValueError::new_err)?;
        Ok(reports.into_iter().map(SimulatedReport::from).collect())
    }
}

impl From<Report> for SimulatedReport {
    fn from(Report { id, exchange_ns, received_ns, what, left }: Report) -> SimulatedReport {
        let (kind, price_e6, quantity, reason) = match what {
            What::Accepted => ("accepted", None, left, None),
            What::Filled { price_e6, quantity } => ("filled", Some(price_e6), quantity, None),
            What::Cancelled { quantity } => ("cancelled", None, quantity, None),
            What::Updated { price_e6, quantity } => ("updated", Some(price_e6), quantity, None),
            What::Rejected(reason) => ("rejected", None, 0, Some(name(reason))),
        };
        SimulatedReport { id, exchange_ns, received_ns, kind, price_e6, quantity, left, reason }
    }
}

fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::OffTick => "off_tick",
        Reason::OutOfLimits => "out_of_limits",
        Reason::Closed => "closed",
        Reason::WrongLane => "wrong_lane",
        Reason::WrongTerms => "wrong_terms",
        Reason::WrongQuantity => "wrong_quantity",
        Reason::NotWorking => "not_working",
        Reason::Suspended => "suspended",
    }
}

fn one_of<T, const N: usize>(what: &str, given: &str, known: [(&str, T); N]) -> PyResult<T> {
    let names = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = known.into_iter().find(|(name, _)| *name == given).map(|(_, value)| value);
    found.ok_or_else(|| PyValueError::new_err(format!("{what} {given:?}: one of {names}")))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SimulatedMatching>()?;
    module.add_class::<SimulatedReport>()
}
