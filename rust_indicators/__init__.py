"""Kernels of Shijim, written in Rust. Not importable without the compiled extension: there is no slow stand-in."""

from rust_indicators._rust import (
    BACKEND,
    LogWriter,
    Publisher,
    RingReader,
    SegmentReader,
    log_slot,
    multiset_hash,
    record_layout,
    recover_segment,
)

__all__ = [
    "BACKEND",
    "LogWriter",
    "Publisher",
    "RingReader",
    "SegmentReader",
    "log_slot",
    "multiset_hash",
    "record_layout",
    "recover_segment",
]
