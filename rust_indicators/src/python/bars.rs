//! Python's way to `signals/bars.rs`, which has the rules.
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::{Column, column, optional_column, refused};
use crate::signals::Refused;
use crate::signals::bars::{self, Bar, Close, OpenBar, Trade, Trades};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TimeBars>()?;
    module.add_class::<TickBars>()?;
    module.add_class::<VolumeBars>()?;
    module.add_class::<DollarBars>()?;
    module.add_function(wrap_pyfunction!(time_bars, module)?)?;
    module.add_function(wrap_pyfunction!(tick_bars, module)?)?;
    module.add_function(wrap_pyfunction!(volume_bars, module)?)?;
    module.add_function(wrap_pyfunction!(dollar_bars, module)?)
}

/// What of a bar each column holds.
type Field = (&'static str, fn(&Bar) -> i64);
const FIELDS: [Field; 12] = [
    ("start_ns", |bar| bar.start_ns),
    ("end_ns", |bar| bar.end_ns),
    ("open_e6", |bar| bar.open_e6),
    ("high_e6", |bar| bar.high_e6),
    ("low_e6", |bar| bar.low_e6),
    ("close_e6", |bar| bar.close_e6),
    ("volume", |bar| bar.volume),
    ("buy_volume", |bar| bar.buy_volume),
    ("sell_volume", |bar| bar.sell_volume),
    ("value_e6", |bar| bar.value_e6),
    ("trades", |bar| bar.trades),
    ("last_row", |bar| bar.last_row),
];

fn columns_of<'py>(py: Python<'py>, bars: &[Bar]) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    for (name, field) in FIELDS {
        columns.set_item(name, bars.iter().map(field).collect::<Vec<_>>().into_pyarray(py))?;
    }
    let validity: Vec<u8> = bars.iter().map(|bar| bar.validity as u8).collect();
    columns.set_item("validity", validity.into_pyarray(py))?;
    Ok(columns)
}

fn one<'py>(py: Python<'py>, bar: Option<Bar>) -> PyResult<Option<Bound<'py, PyDict>>> {
    bar.map(|bar| {
        let fields = PyDict::new(py);
        for (name, field) in FIELDS {
            fields.set_item(name, field(&bar))?;
        }
        fields.set_item("validity", bar.validity as u8)?;
        Ok(fields)
    })
    .transpose()
}

/// Columns of trades, and the marks before them.
struct TradeColumns<'py> {
    exchange_ns: Column<'py, i64>,
    price_e6: Column<'py, i64>,
    volume: Column<'py, i64>,
    side: Column<'py, u8>,
    marks: Option<Column<'py, u8>>,
}

impl<'py> TradeColumns<'py> {
    fn new(given: [&Bound<'py, PyAny>; 4], restart: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        Ok(Self {
            exchange_ns: column("exchange_ns", given[0])?,
            price_e6: column("price_e6", given[1])?,
            volume: column("volume", given[2])?,
            side: column("side", given[3])?,
            marks: optional_column("restart", restart)?,
        })
    }

    /// What the kernel makes of them, without the interpreter's lock.
    fn bars(
        &self,
        py: Python<'py>,
        kernel: impl FnOnce(Trades<'_>, Option<&[u8]>) -> Result<Vec<Bar>, Refused> + Send,
    ) -> PyResult<Bound<'py, PyDict>> {
        let trades = Trades {
            exchange_ns: self.exchange_ns.slice(),
            price_e6: self.price_e6.slice(),
            volume: self.volume.slice(),
            side: self.side.slice(),
        };
        let marks = self.marks.as_ref().map(Column::slice);
        let bars = py.detach(|| kernel(trades, marks)).map_err(refused)?;
        columns_of(py, &bars)
    }
}

macro_rules! bars_by {
    ($function:ident, $class:ident, $parameter:ident, $close:path) => {
        #[pyfunction]
        #[pyo3(signature = (exchange_ns, price_e6, volume, side, $parameter, *, restart=None))]
        fn $function<'py>(
            py: Python<'py>,
            exchange_ns: &Bound<'py, PyAny>,
            price_e6: &Bound<'py, PyAny>,
            volume: &Bound<'py, PyAny>,
            side: &Bound<'py, PyAny>,
            $parameter: i64,
            restart: Option<&Bound<'py, PyAny>>,
        ) -> PyResult<Bound<'py, PyDict>> {
            let columns = TradeColumns::new([exchange_ns, price_e6, volume, side], restart)?;
            columns.bars(py, |trades, marks| bars::bars(trades, $close($parameter), marks))
        }

        #[pyclass(module = "rust_indicators")]
        struct $class(OpenBar);

        #[pymethods]
        impl $class {
            #[new]
            fn new($parameter: i64) -> PyResult<Self> {
                OpenBar::new($close($parameter)).map(Self).map_err(refused)
            }

            #[pyo3(signature = (exchange_ns, price_e6, volume, side, /))]
            fn update<'py>(
                &mut self,
                py: Python<'py>,
                exchange_ns: i64,
                price_e6: i64,
                volume: i64,
                side: i64,
            ) -> PyResult<Option<Bound<'py, PyDict>>> {
                let side = u8::try_from(side).unwrap_or(u8::MAX);
                let trade = Trade { exchange_ns, price_e6, volume, side };
                self.0.check(trade).map_err(refused)?;
                one(py, self.0.update(trade))
            }

            #[pyo3(signature = (exchange_ns, price_e6, volume, side, *, restart=None))]
            fn update_many<'py>(
                &mut self,
                py: Python<'py>,
                exchange_ns: &Bound<'py, PyAny>,
                price_e6: &Bound<'py, PyAny>,
                volume: &Bound<'py, PyAny>,
                side: &Bound<'py, PyAny>,
                restart: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyDict>> {
                let columns = TradeColumns::new([exchange_ns, price_e6, volume, side], restart)?;
                columns.bars(py, |trades, marks| self.0.update_many(trades, marks))
            }

            fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
                one(py, self.0.flush())
            }

            fn reset(&mut self) {
                self.0.reset();
            }

            fn taint(&mut self) {
                self.0.taint();
            }

            #[getter]
            fn value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
                one(py, self.0.value())
            }

            #[getter]
            fn validity(&self) -> u8 {
                self.0.validity() as u8
            }
        }
    };
}

bars_by!(time_bars, TimeBars, interval_ns, Close::TimeNs);
bars_by!(tick_bars, TickBars, trades, Close::Trades);
bars_by!(volume_bars, VolumeBars, lots, Close::Volume);
bars_by!(dollar_bars, DollarBars, value_e6, Close::ValueE6);
