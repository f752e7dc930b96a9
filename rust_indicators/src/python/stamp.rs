//! Stamps of an event: the broker's `datetime` as ns since the epoch, by integers, and our own clock. Not a calendar.
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDateAccess, PyDateTime, PyTimeAccess, PyTzInfoAccess};

use crate::wall_clock::{TAIPEI_OFFSET_NS, days_from_civil};

/// Naive Taipei wall clock → UTC ns by integers, and whether it is the decoder's stand-in for garbage.
pub fn exchange_ns(stamp: &Bound<'_, PyDateTime>) -> PyResult<(i64, bool)> {
    if stamp.get_tzinfo().is_some() {
        return Err(PyValueError::new_err("datetime carries a time zone: the broker's stamps are naive Taipei time"));
    }
    let year = i64::from(stamp.get_year());
    let days = days_from_civil(year, i64::from(stamp.get_month()), i64::from(stamp.get_day()));
    let seconds =
        i64::from(stamp.get_hour()) * 3_600 + i64::from(stamp.get_minute()) * 60 + i64::from(stamp.get_second());
    // A datetime reaches from year 1 to 9999, 64 bits of ns from 1677 to 2262.
    let utc_ns = (days * 86_400 + seconds)
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(i64::from(stamp.get_microsecond()) * 1_000 - TAIPEI_OFFSET_NS))
        .ok_or_else(|| PyValueError::new_err(format!("datetime of the year {year} does not fit 64 bits of ns")))?;
    Ok((utc_ns, year == 2000))
}

pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_nanos()).expect("the clock is before 2262")
}
