//! The ring from Python: readers with a cursor of their own or of a group, what they are told, and the counters.
//! Not the writer (`publisher.rs`).
use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::log::bytes;
use crate::ring::group::groups;
use crate::ring::reader::Ending;
use crate::ring::{Polled, Ring, RingReader, word};

pub type CounterMap = BTreeMap<&'static str, u64>;
pub type GroupRow = (String, u64, u64, u64, u64);

pub fn counters(ring: &Ring) -> CounterMap {
    let (depth_max, [above_50, above_80]) = ring.depths();
    let derived = [("depth", ring.depth()), ("depth_max", depth_max), ("above_50", above_50), ("above_80", above_80)];
    let stored = [
        ("accepted", word::ACCEPTED),
        ("durable", word::DURABLE),
        ("durable_received_ns", word::DURABLE_RECEIVED_NS),
        ("last_received_ns", word::LAST_RECEIVED_NS),
        ("missed", word::MISSED),
        ("lots_missing", word::LOTS_MISSING),
        ("gaps", word::GAPS),
        ("duplicates", word::DUPLICATES),
        ("resets", word::RESETS),
        ("last_gap_lots", word::LAST_GAP_LOTS),
        ("last_gap_ns", word::LAST_GAP_NS),
        ("quarantined", word::QUARANTINED),
        ("suspect", word::SUSPECT),
        ("blocked_ns", word::BLOCKED_NS),
        ("not_recorded", word::NOT_RECORDED),
        ("blocks", word::BLOCKS),
        ("log_bytes", word::LOG_BYTES),
        ("segments", word::SEGMENTS),
        ("slots", word::SLOTS),
        ("run_id", word::RUN_ID),
        ("writer_pid", word::WRITER_PID),
        ("state", word::STATE),
    ];
    stored.into_iter().map(|(name, place)| (name, ring.get(place))).chain(derived).collect()
}

/// Name, next sequence, missed, abandoned, members that live, of every group.
pub fn group_rows(ring: &Ring) -> PyResult<Vec<GroupRow>> {
    let found = groups(ring)?.into_iter();
    Ok(found.map(|group| (group.name, group.next, group.missed, group.abandoned, group.members)).collect())
}

/// What a reader is told beside records: plain values that compare and match.
macro_rules! told {
    ($(#[$doc:meta])* $name:ident($($field:ident: $type:ty),+)) => {
        $(#[$doc])*
        #[pyclass(frozen, eq, get_all, module = "rust_indicators._rust")]
        #[derive(PartialEq)]
        struct $name {
            $($field: $type),+
        }

        #[pymethods]
        impl $name {
            #[classattr]
            #[pyo3(name = "__match_args__")]
            fn match_args() -> (&'static str, &'static str) {
                ($(stringify!($field)),+)
            }

            #[new]
            fn new($($field: $type),+) -> $name {
                $name { $($field),+ }
            }

            fn __repr__(&self) -> String {
                let fields = [$(format!("{}={:?}", stringify!($field), self.$field)),+];
                format!("{}({})", stringify!($name), fields.join(", "))
            }
        }
    };
}

told!(
    /// From the first to the last sequence: overwritten before they were read.
    Missed(first: u64, last: u64)
);
told!(
    /// Claimed by a member of the group that died before it had finished with them.
    Abandoned(first: u64, last: u64)
);
told!(
    /// There will be no more of this run.
    Ended(run_id: u64, how: String)
);
told!(
    /// A new run has begun, and its records follow.
    Restarted(previous_run_id: u64, run_id: u64)
);

fn how(ending: Ending) -> &'static str {
    match ending {
        Ending::Closed => "closed",
        Ending::Failed => "failed",
        Ending::Died => "died",
    }
}

/// A reader of a ring in another process (or this one), whichever run has it.
#[pyclass(name = "RingReader", module = "rust_indicators._rust")]
pub struct PyRingReader {
    reader: RingReader,
}

#[pymethods]
impl PyRingReader {
    #[new]
    #[pyo3(signature = (path, cursor=1, group=None))]
    fn new(py: Python<'_>, path: PathBuf, cursor: u64, group: Option<&str>) -> PyResult<PyRingReader> {
        let reader = py.detach(|| RingReader::open(&path, cursor, group)).map_err(PyOSError::new_err)?;
        Ok(PyRingReader { reader })
    }

    /// (records, told): what happened to others is told alone, once, and then there are no records.
    fn poll<'py>(
        &mut self,
        py: Python<'py>,
        max_records: u64,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyAny>>)> {
        let mut records = Vec::new();
        let polled = py.detach(|| self.reader.poll(max_records, &mut records)).map_err(PyOSError::new_err)?;
        let told = match polled {
            Polled::Records(_) => None,
            Polled::Missed(first, last) => Some(Bound::new(py, Missed { first, last })?.into_any()),
            Polled::Abandoned(first, last) => Some(Bound::new(py, Abandoned { first, last })?.into_any()),
            Polled::Ended(ending) => {
                let run_id = self.reader.ring().get(word::RUN_ID);
                Some(Bound::new(py, Ended { run_id, how: how(ending).into() })?.into_any())
            }
            Polled::Restarted { previous_run_id, run_id } => {
                Some(Bound::new(py, Restarted { previous_run_id, run_id })?.into_any())
            }
        };
        Ok((bytes(py, &records)?, told))
    }

    /// A member of a group is done with what it has claimed; asking for more says the same.
    fn finish(&mut self) {
        self.reader.finish();
    }

    /// The next sequence that this reader, or some member of its group, will get.
    #[getter]
    fn next_sequence(&self) -> u64 {
        self.reader.next()
    }

    /// The last sequence on disk, of the run the reader is in: the only acknowledgement.
    #[getter]
    fn durable(&self) -> u64 {
        self.reader.ring().get(word::DURABLE)
    }

    /// `running`, or how it ended: `closed`, `failed`, `died`.
    #[getter]
    fn writer(&self) -> &'static str {
        self.reader.ending().map_or("running", how)
    }

    fn counters(&self) -> CounterMap {
        counters(self.reader.ring())
    }

    fn groups(&self) -> PyResult<Vec<GroupRow>> {
        group_rows(self.reader.ring())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyRingReader>()?;
    module.add_class::<Missed>()?;
    module.add_class::<Abandoned>()?;
    module.add_class::<Ended>()?;
    module.add_class::<Restarted>()?;
    Ok(())
}
