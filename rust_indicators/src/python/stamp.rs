//! Stamps of an event: the broker's `datetime` as ns since the epoch, by integers, and our own clock. Not a calendar.
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDateAccess, PyDateTime, PyTimeAccess, PyTzInfoAccess};

const TAIPEI_OFFSET_NS: i64 = 8 * 3_600 * 1_000_000_000;

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

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_nanos()).expect("the clock is before 2262")
}
