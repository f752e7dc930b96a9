"""Kernels of Shijim, written in Rust. Not importable without the compiled extension: there is no slow stand-in."""

from typing import TYPE_CHECKING

from rust_indicators._rust import (
    BACKEND,
    EMPTY_PRICE_E6,
    BookRepeats,
    Continuity,
    EventRows,
    LogWriter,
    Publisher,
    RingReader,
    SegmentReader,
    SimulatedDay,
    build_hft_rows,
    decimal_e6,
    decimal_is_read_in_place,
    decode_l5,
    gather_columns,
    log_slot,
    multiset_hash,
    multiset_hash_of_columns,
    next_rotation_ns,
    payloads,
    read_footer,
    record_constants,
    record_layout,
    recover_segment,
    scatter_columns,
    session_window,
)

if TYPE_CHECKING:
    from rust_indicators._rust import SimulatedTruth as SimulatedTruth

__all__ = [
    "BACKEND",
    "EMPTY_PRICE_E6",
    "BookRepeats",
    "Continuity",
    "EventRows",
    "LogWriter",
    "Publisher",
    "RingReader",
    "SegmentReader",
    "SimulatedDay",
    "build_hft_rows",
    "decimal_e6",
    "decimal_is_read_in_place",
    "decode_l5",
    "gather_columns",
    "log_slot",
    "multiset_hash",
    "multiset_hash_of_columns",
    "next_rotation_ns",
    "payloads",
    "read_footer",
    "record_constants",
    "record_layout",
    "recover_segment",
    "scatter_columns",
    "session_window",
]
