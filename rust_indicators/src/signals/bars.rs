//! Bars of trades: by time, count, volume and value. Not their storage.
