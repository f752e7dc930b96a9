"""Events in windows of time, (edge before, edge]: sums, samples, and flow relative to the depth it met. Not the
combination of its levels: `integrated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import (
    VOLUME_MAX,
    book_of_one_row,
    column,
    level_columns,
    restarts,
    same_levels,
    same_rows,
    sorted_stamps,
    sound_book,
)
from rust_indicators.reference.flow import Mlofi
from rust_indicators.validity import Restart, Validity

__all__ = ["NormalisedOfi", "normalised_ofi", "sample_last", "window_sums"]


def _ends(exchange_ns: NDArray[np.int64], edges_ns: NDArray[np.int64], edges_min: int) -> NDArray[np.int64]:
    """Row of the first stamp after each edge."""
    stamps, edges = column("exchange_ns", exchange_ns, np.int64), column("edges_ns", edges_ns, np.int64)
    sorted_stamps("exchange_ns", stamps)
    sorted_stamps("edges_ns", edges)
    if len(edges) < edges_min:
        raise ValueError("edges_ns: has no edge")
    return np.searchsorted(stamps, edges, side="right").astype(np.int64)


def window_sums(
    exchange_ns: NDArray[np.int64], values: NDArray[np.int64], edges_ns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sum of the values of every window (edge before, edge]: int64[k − 1] for k edges.

    `exchange_ns` and `values` int64[n], stamps that never go back; `edges_ns` int64[k], k ≥ 1, neither. An event on an
    edge belongs to the window that ends there. ValueError names the argument; so does a sum beyond int64.
    """
    ends = _ends(exchange_ns, edges_ns, 1)
    events = column("values", values, np.int64)
    same_rows([("exchange_ns", exchange_ns), ("values", events)])
    # Python integers, so that what is beyond int64 is seen and not wrapped.
    sums = [sum(events[begin:end].tolist()) for begin, end in pairwise(ends)]
    for window, total in enumerate(sums):
        if not -(2**63) <= total < 2**63:
            raise ValueError(f"values: window {window}: their sum is beyond int64")
    return np.array(sums, np.int64)


def sample_last(exchange_ns: NDArray[np.int64], edges_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of the last event at or before each edge, −1 where there is none: int64[k], to index any column with.

    Arguments as `window_sums`; no edge, no row.
    """
    return _ends(exchange_ns, edges_ns, 0) - 1


def normalised_ofi(
    exchange_ns: NDArray[np.int64],
    contributions: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    edges_ns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """OFI of every level and window, relative to the depth it met: Σ e / Q, float64[levels, k − 1].

    Q is the mean of (bid volume + ask volume)/2 over the events of the window and over the levels. 0 in a window
    without an event; NaN where no event showed any volume. `contributions`, `bid_volume`, `ask_volume`: a column a
    level, int64[n] each; the first as `mlofi` gives them. ValueError names the argument.
    Source: Cont, Cucuringu & Zhang (2023), Quantitative Finance 23(10), arXiv:2112.13213.
    """
    ends = _ends(exchange_ns, edges_ns, 1)
    flow = level_columns("contributions", contributions, np.int64)
    bids = level_columns("bid_volume", bid_volume, np.int64)
    asks = level_columns("ask_volume", ask_volume, np.int64)
    for name, side in (("bid_volume", bids), ("ask_volume", asks)):
        same_levels("contributions", len(flow), name, side)
    for name, side in (("contributions", flow), ("bid_volume", bids), ("ask_volume", asks)):
        for level, values in enumerate(side):
            same_rows([("exchange_ns", exchange_ns), (f"{name}[{level}]", values)])
            wrong = np.flatnonzero((values < 0) | (values > VOLUME_MAX)) if side is not flow else np.array([], np.int64)
            for row in wrong[:1]:
                raise ValueError(f"{name}[{level}]: row {row}: {values[row]} is not within 0 … 2⁴⁰")
    found = np.zeros((len(flow), len(ends) - 1))
    for window, (begin, end) in enumerate(pairwise(ends)):
        depth = sum(sum(values[begin:end].tolist()) for values in (*bids, *asks))
        sums = [sum(values[begin:end].tolist()) for values in flow]
        found[:, window] = normalised(sums, depth, int(end - begin))
    return found


def normalised(sums: Sequence[int], depth: int, events: int) -> NDArray[np.float64]:
    """Σ e / Q of every level; `depth` is Σ (bid + ask) over events and levels."""
    if events == 0:
        return np.zeros(len(sums))
    if depth == 0:
        return np.full(len(sums), np.nan)
    return np.array([total / (depth / (2 * len(sums) * events)) for total in sums])


class NormalisedOfi:
    """Streaming `normalised_ofi` over windows (anchor + (j−1)·window, anchor + j·window], of a book of so many levels.

    `value`: of the last closed window, a float a level. An event after its edge closes a window; windows without an
    event that it skips are closed too, and are 0. The window in which the state began is not seen whole and does not
    count: warm with the first whole one closed. `closed`: windows closed since the state began. UNDEFINED (NaN) where
    no event of the window showed any volume. It remembers sums, not events.
    """

    def __init__(self, levels: int, window_ns: int, *, anchor_ns: int = 0) -> None:
        self._flow = Mlofi(levels)
        if window_ns <= 0:
            raise ValueError(f"window_ns: {window_ns} is not above 0")
        self._levels, self._window_ns, self._anchor_ns = levels, window_ns, anchor_ns
        self._begin(tainted=False)

    def _begin(self, *, tainted: bool) -> None:
        self._flow.reset()
        self._open: tuple[int, int] | None = None  # last stamp, edge
        self._whole, self._tainted, self.closed = False, tainted, 0
        self._sums, self._depth, self._events = [0] * self._levels, 0, 0
        self.value: tuple[float, ...] = (np.nan,) * self._levels
        self.validity: int = Validity.TAINTED if tainted else Validity.WARMING_UP

    def _edge(self, exchange_ns: int) -> int:
        """The edge that ends the window of a stamp, within int64."""
        return min(self._anchor_ns - (self._anchor_ns - exchange_ns) // self._window_ns * self._window_ns, 2**63 - 1)

    def _close(self, next_edge: int, edge: int) -> None:
        empty = -((edge - next_edge) // self._window_ns) - 1
        if self._whole:
            self.value = tuple(normalised(self._sums, self._depth, self._events).tolist())
        if empty:
            self.value = (0.0,) * self._levels
        self.closed += empty + self._whole
        self._whole, self._sums, self._depth, self._events = True, [0] * self._levels, 0, 0

    def update(
        self,
        exchange_ns: int,
        bid_price_e6: Sequence[int],
        bid_volume: Sequence[int],
        ask_price_e6: Sequence[int],
        ask_volume: Sequence[int],
        /,
    ) -> tuple[float, ...]:
        """`value` after this event. ValueError: a stamp before the last one, a book as `mlofi` refuses it."""
        book = book_of_one_row(self._levels, bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        sound_book(*book)
        if self._open is not None and exchange_ns < self._open[0]:
            raise ValueError(f"exchange_ns: {exchange_ns} is before the last event")
        edge = self._edge(exchange_ns)
        if self._open is not None and exchange_ns > self._open[1]:
            self._close(edge, self._open[1])
        self._open = (exchange_ns, edge)
        self._flow.update_many(*book)
        self._sums = [total + e for total, e in zip(self._sums, self._flow.value, strict=True)]
        self._depth += sum(int(volume[0]) for side in (book[1], book[3]) for volume in side)
        self._events += 1
        self._tainted &= self.closed == 0
        if self.closed:
            self.validity = Validity.UNDEFINED if np.isnan(self.value[0]) else Validity.VALID
        return self.value

    def update_many(
        self,
        exchange_ns: NDArray[np.int64],
        bid_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        bid_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        ask_price_e6: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        ask_volume: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        *,
        restart: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: float64[levels, n] and validity uint8[n]. A refusal leaves the state as it was.
        `exchange_ns` never goes back, not across a restart within the columns either.
        """
        stamps = column("exchange_ns", exchange_ns, np.int64)
        book = sound_book(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
        if len(book) != self._levels:
            raise ValueError(f"bid_price_e6: has {len(book)} levels, not {self._levels}")
        rows = same_rows([("exchange_ns", stamps), ("bid_price_e6[0]", book[0][0])])
        marks = restarts(restart, rows, "exchange_ns")
        sorted_stamps("exchange_ns", stamps)
        if rows and not marks[0] and self._open is not None and stamps[0] < self._open[0]:
            raise ValueError(f"exchange_ns: row 0: {stamps[0]} is before the last event")
        values, validity = np.empty((self._levels, rows)), np.empty(rows, np.uint8)
        for row in range(rows):
            if marks[row] != Restart.NONE:
                self._begin(tainted=bool(marks[row] == Restart.TAINT))
            sides = ([int(level[side][row]) for level in book] for side in range(4))
            values[:, row] = self.update(int(stamps[row]), *sides)
            validity[row] = self.validity
        return values, validity

    def reset(self) -> None:
        """Begin anew: session start, trial match → continuous, halt."""
        self._begin(tainted=False)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until a whole window is closed."""
        self._begin(tainted=True)
