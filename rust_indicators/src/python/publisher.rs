//! The callback: reads every attribute of the broker's object, stamps, numbers, and hands the record to the ring.
//! Not durable itself: `durable_sequence` is the acknowledgement.
//!
//! Which attribute goes to which bytes is given by `shijim_live.events` when the publisher is made: one table, one home.
use std::mem::offset_of;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDateTime, PyList, PyString};

use super::decimal;
use super::stamp::{exchange_ns, now_ns};
use crate::disk::Disk;
use crate::intake::{Intake, NOT_ACCEPTED, RING_SLOTS_MIN, WithoutSpace};
use crate::record::{
    ABSENT_I64, BookBody, EMPTY_PRICE_E6, Header, LEVELS, RECORD_BYTES, Record, TradeBody, code_bytes, exchange, flag,
    kind, lane, records_in, text_records,
};
use crate::ring::{Ring, state, word};
use crate::space::SpaceConfig;
use crate::wal::{Durability, WalConfig, WalThread};

/// Text of a quarantined object; what is longer is cut, and says so.
const QUARANTINE_BYTES_MAX: usize = 8192;
/// Decoded records are numbered, judged and copied to the ring while they are in the second-level cache. Smaller batches
/// are no quicker, and a reader that is told of each wakes up for less.
const BATCH_RECORDS: u64 = 512;

/// A trade without this one is none, and is quarantined.
const TRADE_PRICE_OFFSET: usize = size_of::<Header>() + offset_of!(TradeBody, price_e6);

/// (attribute, struct character of the record's field, offset in the record, levels)
type FieldSpec = (String, char, usize, usize);
/// (class, broker class number, kind, fields, flag attributes with their bits)
type ClassSpec = (Py<PyAny>, u8, u8, Vec<FieldSpec>, Vec<(String, u32)>);
/// (ballast file, its bytes, free bytes to stop at, free bytes to go on with)
type SpaceSpec = (PathBuf, u64, u64, u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Price,
    U32,
    I32,
    U8,
}

struct Field {
    name: Py<PyString>,
    width: Width,
    offset: usize,
    levels: usize,
}

struct Class {
    type_pointer: usize,
    _class: Py<PyAny>,
    kind: u8,
    template: Record,
    fields: Vec<Field>,
    flags: Vec<(Py<PyString>, u32)>,
}

struct Names {
    code: Py<PyString>,
    datetime: Py<PyString>,
    exchange: Py<PyString>,
    value: Py<PyString>,
}

/// Publishes into the ring, and owns the log thread behind it.
#[pyclass(frozen, module = "rust_indicators._rust")]
pub struct Publisher {
    ring: Arc<Ring>,
    intake: Arc<Intake>,
    wal: Mutex<WalThread>,
    classes: Vec<Class>,
    names: Names,
}

#[pymethods]
impl Publisher {
    /// Creates the ring and starts the log thread. Raises ValueError for a bad option, OSError for a bad path.
    ///
    /// `space` says what to do about a full disk (without it the log thread dies of one), `without_space` what becomes
    /// of events meanwhile: `lose` counts them as not recorded, `hand_back` returns 0 so that the feed tries again.
    #[new]
    #[pyo3(signature = (*, ring_path, ring_slots, wal_dir, run_id, header, classes, durability="sync", commit_interval_ms=0, history=None, space=None, without_space="lose"))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        ring_path: PathBuf,
        ring_slots: u64,
        wal_dir: PathBuf,
        run_id: &str,
        header: String,
        classes: Vec<ClassSpec>,
        durability: &str,
        commit_interval_ms: u64,
        history: Option<Vec<PathBuf>>,
        space: Option<SpaceSpec>,
        without_space: &str,
    ) -> PyResult<Publisher> {
        let number = u64::from_str_radix(run_id, 16)
            .ok()
            .filter(|_| run_id.len() == 16)
            .ok_or_else(|| PyValueError::new_err(format!("run_id must be 16 hex digits, not {run_id:?}")))?;
        let durability = Durability::named(durability)
            .ok_or_else(|| PyValueError::new_err(format!("durability is sync, write or off, not {durability:?}")))?;
        let without_space = match without_space {
            "lose" => WithoutSpace::Lose,
            "hand_back" => WithoutSpace::HandBack,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "without_space is lose or hand_back, not {without_space:?}"
                )));
            }
        };
        if ring_slots < RING_SLOTS_MIN {
            return Err(PyValueError::new_err(format!(
                "ring_slots must be {RING_SLOTS_MIN} or more, not {ring_slots}"
            )));
        }
        if !header.starts_with('{') || header.len() < 3 {
            return Err(PyValueError::new_err("header must be a JSON object with at least one key"));
        }
        decimal::check(py)?;
        let classes = classes.into_iter().map(|spec| class(py, spec)).collect::<PyResult<_>>()?;
        let continuity = super::log::continuity_of(history.unwrap_or_default())?;
        let ring = Arc::new(Ring::create(&ring_path, ring_slots, number)?);
        let intake = Arc::new(Intake::new(ring.clone(), without_space, continuity));
        let config = WalConfig {
            wal_dir,
            run_id: run_id.to_string(),
            header_json: header,
            durability,
            commit_interval: Duration::from_millis(commit_interval_ms),
            space: space.map(|(ballast, ballast_bytes, stop_bytes, resume_bytes)| SpaceConfig {
                ballast,
                ballast_bytes,
                stop_bytes,
                resume_bytes,
            }),
            disk: Disk::default(),
        };
        let wal = WalThread::start(intake.clone(), config)?;
        let intern = |name: &str| PyString::intern(py, name).unbind();
        let names = Names {
            code: intern("code"),
            datetime: intern("datetime"),
            exchange: intern("exchange"),
            value: intern("value"),
        };
        Ok(Publisher { ring, intake, wal: Mutex::new(wal), classes, names })
    }

    /// One broker object. Returns the accepted sequence, 0 where the disk has no space; an object that cannot be read
    /// is quarantined and counted.
    #[pyo3(signature = (object, received_ns=None, connection=0))]
    fn publish(&self, object: &Bound<'_, PyAny>, received_ns: Option<i64>, connection: u16) -> PyResult<u64> {
        let received_ns = received_ns.unwrap_or_else(now_ns);
        match self.decode(object, received_ns, connection) {
            Ok((record, sides)) if sides.is_empty() => self.push(object.py(), &mut [record]),
            Ok((_, sides)) if sides.len() as u64 > self.ring.slots() / 4 => {
                let error = PyValueError::new_err(format!("its oversize fields need {} records", sides.len()));
                self.quarantine(object, &error, received_ns, connection)
            }
            Ok((record, mut records)) => {
                records.push(record);
                self.push(object.py(), &mut records)
            }
            Err(error) => self.quarantine(object, &error, received_ns, connection),
        }
    }

    /// Records that are decoded already (replay). They keep everything but their sequence. Returns how many were taken:
    /// fewer than given only where the disk has no space.
    fn publish_records(&self, py: Python<'_>, records: &[u8]) -> PyResult<usize> {
        if !records.len().is_multiple_of(RECORD_BYTES) {
            return Err(PyValueError::new_err(format!("{} bytes are not whole records of 256", records.len())));
        }
        let batch = (self.ring.slots() / 4).clamp(1, BATCH_RECORDS) as usize;
        let mut chunk = Vec::with_capacity(batch);
        let mut taken = 0;
        for bytes in records.chunks(batch * RECORD_BYTES) {
            chunk.clear();
            chunk.extend(records_in(bytes));
            if self.push(py, &mut chunk)? != NOT_ACCEPTED {
                taken += chunk.len();
            } else if self.intake.without_space == WithoutSpace::HandBack {
                break;
            }
        }
        Ok(taken)
    }

    /// A status event. `kind` is one of `events.Kind`; times in ns, absent where not given.
    #[pyo3(signature = (kind, received_ns, *, begin_ns=ABSENT_I64, end_ns=ABSENT_I64, value=0, text="", connection=0))]
    #[allow(clippy::too_many_arguments)]
    fn publish_status(
        &self,
        py: Python<'_>,
        kind: u8,
        received_ns: i64,
        begin_ns: i64,
        end_ns: i64,
        value: i64,
        text: &str,
        connection: u16,
    ) -> PyResult<u64> {
        let header = Header { kind, received_ns, connection, ..Header::EMPTY };
        self.push(py, &mut text_records(&header, (begin_ns, end_ns), value, 0, text.as_bytes()))
    }

    #[getter]
    fn accepted(&self) -> u64 {
        self.ring.get(word::ACCEPTED)
    }

    #[getter]
    fn durable(&self) -> u64 {
        self.ring.get(word::DURABLE)
    }

    fn counters(&self) -> super::ring::CounterMap {
        super::ring::counters(&self.ring)
    }

    fn groups(&self) -> PyResult<Vec<super::ring::GroupRow>> {
        super::ring::group_rows(&self.ring)
    }

    /// Raises RuntimeError with the reason when the log thread has died.
    fn check(&self) -> PyResult<()> {
        // The state is looked at first: while `close` waits for the log thread, it holds the lock.
        if self.ring.get(word::STATE) != state::FAILED {
            return Ok(());
        }
        let failure = self.wal.lock().expect("nobody panics holding this").failure();
        failure.map_or(Ok(()), |reason| Err(log_failed(&reason)))
    }

    /// Drains, seals and stops. Returns the last durable sequence, which equals the last accepted one.
    fn close(&self, py: Python<'_>) -> PyResult<u64> {
        let finished = py.detach(|| {
            self.intake.close()?;
            self.wal.lock().expect("nobody panics holding this").finish()
        });
        self.ring.set(word::STATE, if finished.is_ok() { state::CLOSED } else { state::FAILED });
        self.ring.give_up();
        finished.map_err(|reason| log_failed(&reason))?;
        let (accepted, durable) = (self.accepted(), self.durable());
        if accepted != durable {
            return Err(PyRuntimeError::new_err(format!("{accepted} events accepted, only {durable} durable")));
        }
        Ok(durable)
    }
}

impl Publisher {
    fn decode(&self, object: &Bound<'_, PyAny>, received_ns: i64, connection: u16) -> PyResult<(Record, Vec<Record>)> {
        let type_pointer = object.get_type_ptr() as usize;
        let Some(class) = self.classes.iter().find(|class| class.type_pointer == type_pointer) else {
            return Err(PyValueError::new_err("not one of the broker's quote classes"));
        };
        let mut record = class.template;
        let mut sides = Vec::new();
        for field in &class.fields {
            let value = object.getattr(&field.name)?;
            if field.levels == 1 {
                // The SDK answers None where the text of an optional price (the odd-lot close) is none: it stays absent.
                if value.is_none() && field.width == Width::Price && field.offset != TRADE_PRICE_OFFSET {
                    continue;
                }
                put(&mut record, field.width, field.offset, &value, &mut sides)?;
                continue;
            }
            let list = value.cast_into::<PyList>()?;
            if list.len() != LEVELS {
                return Err(PyValueError::new_err(format!("{} has {} levels, not {LEVELS}", field.name, list.len())));
            }
            for (level, item) in list.iter().enumerate() {
                let offset = field.offset + level * if field.width == Width::Price { 8 } else { 4 };
                put(&mut record, field.width, offset, &item, &mut sides)?;
            }
        }
        if class.kind == kind::BOOK {
            mark_empty_levels(&mut record);
        }
        let mut flags = if sides.is_empty() { 0 } else { flag::HAS_SIDE };
        for (name, bit) in &class.flags {
            if object.getattr(name)?.cast::<PyBool>()?.is_true() {
                flags |= bit;
            }
        }
        let code = object.getattr(&self.names.code)?;
        let stamp = object.getattr(&self.names.datetime)?;
        let exchange = object.getattr(&self.names.exchange)?.getattr(&self.names.value)?;
        let (exchange_ns, suspect) = exchange_ns(stamp.cast::<PyDateTime>()?)?;
        let trade_at_zero = class.kind == kind::TRADE && record.trade().body.price_e6 == 0;
        if suspect || trade_at_zero {
            flags |= flag::SUSPECT;
            self.ring.add(word::SUSPECT, 1);
        }
        let code = code.cast::<PyString>()?.to_str()?;
        let exchange = exchange_number(exchange.cast::<PyString>()?.to_str()?)?;
        let header = record.header_mut();
        header.code = code_bytes(code)
            .ok_or_else(|| PyValueError::new_err(format!("code {code:?} is not 1 to 16 ASCII characters")))?;
        header.exchange_ns = exchange_ns;
        header.received_ns = received_ns;
        header.connection = connection;
        header.exchange = exchange;
        header.flags = flags;
        header.lane = lane_of(flags);
        side_headers(&record, &mut sides);
        Ok((record, sides))
    }

    fn push(&self, py: Python<'_>, records: &mut [Record]) -> PyResult<u64> {
        let failure = || self.wal.lock().expect("nobody panics holding this").failure();
        let pushed = match self.intake.try_push(records) {
            // The GIL is not held here: whoever has it may be the one that makes room elsewhere.
            Ok(None) => py.detach(|| self.intake.push(records, failure)),
            Ok(Some(sequence)) => Ok(sequence),
            Err(reason) => Err(reason),
        };
        pushed.map_err(|reason| log_failed(&reason))
    }

    /// Keeps what can still be read of an object that cannot be decoded. Foreign panics arrive here as exceptions.
    fn quarantine(&self, object: &Bound<'_, PyAny>, error: &PyErr, received_ns: i64, connection: u16) -> PyResult<u64> {
        let py = object.py();
        if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) {
            return Err(error.clone_ref(py));
        }
        let class_name = object.get_type().name().map_or("?".into(), |name| name.to_string());
        let mut text = format!("{class_name}: {}\n", error.value(py));
        let type_pointer = object.get_type_ptr() as usize;
        if let Some(class) = self.classes.iter().find(|class| class.type_pointer == type_pointer) {
            let names = [&self.names.code, &self.names.datetime, &self.names.exchange];
            for name in names.into_iter().chain(class.fields.iter().map(|field| &field.name)) {
                let value = object.getattr(name).and_then(|value| Ok(value.str()?.to_string()));
                text += &format!("{name}={}\n", value.unwrap_or_else(|error| format!("!{}", error.value(py))));
            }
        } else if let Ok(shown) = object.repr() {
            text += &shown.to_string();
        }
        if text.len() > QUARANTINE_BYTES_MAX {
            let cut = (0..=QUARANTINE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
            text += "…";
        }
        self.ring.add(word::QUARANTINED, 1);
        let header = Header { kind: kind::QUARANTINE, received_ns, connection, ..Header::EMPTY };
        self.push(py, &mut text_records(&header, (ABSENT_I64, ABSENT_I64), 0, 0, text.as_bytes()))
    }
}

fn class(py: Python<'_>, (class, broker_class, kind, fields, flags): ClassSpec) -> PyResult<Class> {
    let mut template = match kind {
        kind::TRADE => Record::from_trade(&crate::record::Trade { header: Header::EMPTY, body: TradeBody::ABSENT }),
        kind::BOOK => Record::from_book(&crate::record::Book { header: Header::EMPTY, body: BookBody::ABSENT }),
        _ => return Err(PyValueError::new_err(format!("kind {kind} has no broker class"))),
    };
    (template.header_mut().kind, template.header_mut().broker_class) = (kind, broker_class);
    let fields = fields
        .into_iter()
        .map(|(name, width, offset, levels)| {
            let width = match width {
                'q' => Width::Price,
                'I' => Width::U32,
                'i' => Width::I32,
                'B' => Width::U8,
                _ => return Err(PyValueError::new_err(format!("{name}: no field of type {width:?}"))),
            };
            Ok(Field { name: PyString::intern(py, &name).unbind(), width, offset, levels })
        })
        .collect::<PyResult<_>>()?;
    let flags = flags.into_iter().map(|(name, bit)| (PyString::intern(py, &name).unbind(), bit)).collect();
    Ok(Class { type_pointer: class.as_ptr() as usize, _class: class, kind, template, fields, flags })
}

/// Stores a value, or sends it along as text where it does not fit.
fn put(
    record: &mut Record,
    width: Width,
    offset: usize,
    value: &Bound<'_, PyAny>,
    sides: &mut Vec<Record>,
) -> PyResult<()> {
    let fits = match width {
        Width::Price => match decimal::e6(value)? {
            // The lowest value names what is absent, so it cannot be a price.
            Some(price_e6) if price_e6 != ABSENT_I64 => {
                record.0[offset..offset + 8].copy_from_slice(&price_e6.to_le_bytes());
                true
            }
            _ => false,
        },
        Width::U32 | Width::U8 => {
            let limit = if width == Width::U8 { u64::from(u8::MAX) } else { u64::from(u32::MAX) };
            match integer(value)? {
                Some(number) if (0..limit as i64).contains(&number) => {
                    let bytes = number.to_le_bytes();
                    let size = if width == Width::U8 { 1 } else { 4 };
                    record.0[offset..offset + size].copy_from_slice(&bytes[..size]);
                    true
                }
                _ => false,
            }
        }
        Width::I32 => match integer(value)? {
            Some(number) if number > i64::from(i32::MIN) && number <= i64::from(i32::MAX) => {
                record.0[offset..offset + 4].copy_from_slice(&(number as i32).to_le_bytes());
                true
            }
            _ => false,
        },
    };
    if !fits {
        let text = value.str()?.to_string();
        let header = Header { kind: kind::SIDE, ..Header::EMPTY };
        sides.extend(text_records(&header, (ABSENT_I64, ABSENT_I64), 0, offset as u16, text.as_bytes()));
    }
    Ok(())
}

/// A Python int as i64; `None` when it is wider. Anything but an int is an error.
fn integer(value: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    // SAFETY: a valid object pointer; only its type flags are read.
    if unsafe { ffi::PyLong_CheckExact(value.as_ptr()) } == 0 {
        return Err(PyValueError::new_err(format!("{} where an int was expected", value.get_type().name()?)));
    }
    let mut overflow = 0;
    // SAFETY: checked to be an int; overflow is reported through the pointer, not as an exception.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &raw mut overflow) };
    Ok((overflow == 0).then_some(number))
}

/// The broker pads a short book with price 0, volume 0. A price of 0 with volume stays: it is a market order.
fn mark_empty_levels(record: &mut Record) {
    let mut book = *record.book();
    for (prices, volumes) in
        [(&mut book.body.bid_price_e6, &book.body.bid_volume), (&mut book.body.ask_price_e6, &book.body.ask_volume)]
    {
        for (price_e6, volume) in prices.iter_mut().zip(volumes) {
            if *price_e6 == 0 && *volume == 0 {
                *price_e6 = EMPTY_PRICE_E6;
            }
        }
    }
    *record = Record::from_book(&book);
}

fn lane_of(flags: u32) -> u8 {
    if flags & flag::SIMTRADE != 0 {
        lane::TRIAL
    } else if flags & flag::INTRADAY_ODD != 0 {
        lane::ODD
    } else {
        lane::BOARD
    }
}

fn exchange_number(name: &str) -> PyResult<u8> {
    Ok(match name {
        "TSE" => exchange::TSE,
        "OTC" => exchange::OTC,
        "OES" => exchange::OES,
        "TAIFEX" => exchange::TAIFEX,
        "TIM" => exchange::TIM,
        _ => return Err(PyValueError::new_err(format!("exchange {name:?} is not one Shijim records"))),
    })
}

/// Side records say which event they belong to: same code, stamps and connection.
fn side_headers(record: &Record, sides: &mut [Record]) {
    for side in sides {
        let kind = side.header().kind;
        *side.header_mut() = Header { kind, ..*record.header() };
    }
}

fn log_failed(reason: &str) -> PyErr {
    PyRuntimeError::new_err(format!("the log cannot be written: {reason}"))
}
