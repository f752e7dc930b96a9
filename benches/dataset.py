"""Books and trades → hftbacktest rows: our builder beside loops over hftbacktest's own `DiffOrderBookSnapshot`.

Not a test of files or compression: both sides start from columns in memory and end with rows in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
from hftbacktest.data.utils.difforderbooksnapshot import DiffOrderBookSnapshot
from hftbacktest.data.validation import correct_event_order
from hftbacktest.types import event_dtype
from numba import njit
from numpy.typing import NDArray

from benches.measure import ROOT, Bench, Effort, Row, interleaved, ratio, seconds
from rust_indicators import EMPTY_PRICE_E6, build_hft_rows, decode_l5

RECORDING = ROOT / "../shared/data/txf_l5/TXFD6_2026-04-09.parquet"
RIVAL_MIN = 10
FEED_NS = 5_000_000
LEVELS = 5
# How many books the plain reference checks: it is slow on purpose.
CHECKED_BOOKS = 60_000
BUY, SELL = 1 << 29, 1 << 28

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Feed:
    """Books (23 words) and trades (6 words) as the decoder gives them, in file order."""

    books: Words
    trades: Words


def recording(path: Path) -> Feed:
    table = pq.read_table(path)
    books, trades = decode_l5(*(table[name].to_numpy() for name in ("ev", "exch_ts", "px", "qty")))
    words = np.frombuffer(books, np.int64).reshape(-1, 23), np.frombuffer(trades, np.int64).reshape(-1, 6)
    return Feed(*words)


def random_walk(books: int = 200_000, seed: int = 7) -> Feed:
    """Where no recording is at hand: a book that moves a tick or changes sizes, and a trade every fourth book."""
    draw = np.random.default_rng(seed)
    stamps = 1_775_694_655_000_000_000 + 1_000_000 * np.cumsum(draw.integers(0, 40, books))
    best = 35_000 + np.cumsum(draw.choice([-1, 0, 0, 0, 0, 1], books))
    words = np.zeros((books, 23), np.int64)
    words[:, 1] = stamps
    steps = np.arange(LEVELS)
    words[:, 3:8] = (best[:, None] - steps) * 1_000_000
    words[:, 13:18] = (best[:, None] + 1 + steps) * 1_000_000
    words[:, 8:13], words[:, 18:23] = (draw.integers(1, 4, (books, LEVELS)) for _ in range(2))
    trades = np.zeros((books // 4, 6), np.int64)
    trades[:, 1], trades[:, 3] = stamps[::4][: len(trades)], words[::4, 13][: len(trades)]
    trades[:, 4], trades[:, 5] = 1, 1
    return Feed(words, trades)


def ours(feed: Feed) -> Callable[[], NDArray[np.void]]:
    books, trades = feed.books, feed.trades
    fields = [[np.ascontiguousarray(books[:, at + level]) for level in range(LEVELS)] for at in (3, 8, 13, 18)]
    stamps = [np.ascontiguousarray(books[:, 1]), books[:, 1] + FEED_NS]
    columns = [np.ascontiguousarray(trades[:, 1]), trades[:, 1] + FEED_NS, trades[:, 3].copy(), trades[:, 4].copy()]
    start = min(int(stamps[0][0]), int(columns[0][0]))
    starts = [np.array([start]), np.array([start + FEED_NS])]
    side = trades[:, 5].astype(np.uint8)
    return lambda: np.frombuffer(build_hft_rows((stamps, fields), (columns, side), starts)[0], event_dtype)


@njit
def put(rows, place, ev, exch_ts, local_ts, px, qty):  # type: ignore[no-untyped-def]
    rows[place].ev = ev
    rows[place].exch_ts = exch_ts
    rows[place].local_ts = local_ts
    rows[place].px = px
    rows[place].qty = qty
    return place + 1


@njit
def differ_loop(differ, stamps, prices, sizes, counts, trades, feed_ns, rows):  # type: ignore[no-untyped-def]
    """What a converter of the package does with snapshots, compiled whole: the fastest use of its differ."""
    place, trade = 0, 0
    for book in range(len(stamps)):
        exch_ts = stamps[book]
        while trade < len(trades) and trades[trade, 0] <= exch_ts:
            ev = 2 | (BUY if trades[trade, 3] == 1 else SELL)
            stamp = int(trades[trade, 0])
            place = put(rows, place, ev, stamp, stamp + feed_ns, trades[trade, 1] / 1e6, float(trades[trade, 2]))
            trade += 1
        bids, asks = counts[book, 0], counts[book, 1]
        bid, ask, bid_gone, ask_gone = differ.snapshot(
            prices[book, 0, :bids], sizes[book, 0, :bids], prices[book, 1, :asks], sizes[book, 1, :asks]
        )
        local_ts = exch_ts + feed_ns
        for level in range(len(bid_gone)):
            place = put(rows, place, 1 | BUY, exch_ts, local_ts, bid_gone[level, 0], 0.0)
        for level in range(len(ask_gone)):
            place = put(rows, place, 1 | SELL, exch_ts, local_ts, ask_gone[level, 0], 0.0)
        for level in range(bids):
            if bid[level, 2] != 0:
                place = put(rows, place, 1 | BUY, exch_ts, local_ts, bid[level, 0], bid[level, 1])
        for level in range(asks):
            if ask[level, 2] != 0:
                place = put(rows, place, 1 | SELL, exch_ts, local_ts, ask[level, 0], ask[level, 1])
    return place


def differ_only(feed: Feed, loop: Callable[..., int], books: int) -> Callable[[], NDArray[np.void]]:
    """The differ's rows as they come: in order only because this feed is."""
    words = feed.books[:books]
    # Handed over ready-made, as floats: the rival does not pay for what it needs and we do not.
    prices, sizes = (np.stack([words[:, at : at + 5], words[:, at + 10 : at + 15]], axis=1) for at in (3, 8))
    counts = (prices != EMPTY_PRICE_E6).sum(axis=2)
    prices, sizes = np.ascontiguousarray(prices / 1e6), np.ascontiguousarray(sizes.astype(np.float64))
    stamps = np.ascontiguousarray(words[:, 1])
    trades = np.ascontiguousarray(feed.trades[feed.trades[:, 1] <= stamps[-1]][:, [1, 3, 4, 5]])
    capacity = len(words) * 4 * LEVELS + len(trades)

    def run() -> NDArray[np.void]:
        rows = np.zeros(capacity, event_dtype)
        differ = DiffOrderBookSnapshot(LEVELS, 1.0, 1.0)
        return rows[: loop(differ, stamps, prices, sizes, counts, trades, FEED_NS, rows)]

    return run


def rival(feed: Feed, loop: Callable[..., int], books: int) -> Callable[[], NDArray[np.void]]:
    """The differ and, as every converter of the package ends, the correction of the event order: what ours does."""
    differ = differ_only(feed, loop, books)

    def run() -> NDArray[np.void]:
        rows = differ()
        # One index more than rows: `correct_event_order` reads it before it looks whether it may.
        orders = [np.append(np.argsort(rows[name], kind="mergesort"), 0) for name in ("exch_ts", "local_ts")]
        ordered: NDArray[np.void] = correct_event_order(rows, *orders)
        return ordered

    return run


def reference(feed: Feed, books: int) -> list[tuple[int, int, float, float]]:
    """Reconciled depth rows of the first books (ev, exch_ts, px, qty), by a dictionary a side."""
    rows = []
    known: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for word in feed.books[:books].tolist():
        changed = []
        for flag, better, side, at in ((BUY, 1, known[0], 3), (SELL, -1, known[1], 13)):
            cells = zip(word[at : at + 5], word[at + 5 : at + 10], strict=True)
            shown = {price: volume for price, volume in cells if price != EMPTY_PRICE_E6}
            worst = min((price * better for price in shown), default=0) if len(shown) == LEVELS else -(2**63)
            for price in [price for price in side if price not in shown and price * better > worst]:
                del side[price]
                rows.append((1 | flag, word[1], price / 1e6, 0.0))
            changed += [
                (1 | flag, word[1], price / 1e6, float(v)) for price, v in shown.items() if side.get(price) != v
            ]
            side.update(shown)
        rows += changed
    return rows


def check(feed: Feed, rows: NDArray[np.void]) -> int:
    """Our depth rows of the first books are the reference's, as a multiset; how many were compared."""
    expected = reference(feed, CHECKED_BOOKS)
    depth = rows[(rows["ev"] & 0xFF) == 1][: len(expected)]
    fields = (depth["ev"] & 0x3FFFFFFF, depth["exch_ts"], depth["px"], depth["qty"])
    if sorted(zip(*(field.tolist() for field in fields), strict=True)) != sorted(expected):
        raise SystemExit("our rows differ from the plain reference")
    return len(expected)


def rows(effort: Effort) -> list[Row]:
    feed = recording(RECORDING) if RECORDING.exists() else random_walk()
    of = RECORDING.stem if RECORDING.exists() else "a random walk, for the recording is absent"
    books, events = len(feed.books), len(feed.books) + len(feed.trades)
    sides = {
        "ours": ours(feed),
        "ordered": rival(feed, differ_loop, books),
        "differ": differ_only(feed, differ_loop, books),
    }
    checked = check(feed, sides["ours"]())
    for compile_first in ("ordered", "differ"):
        sides[compile_first]()
    times = interleaved(effort.rounds, sides)
    few = books // 20
    loops = seconds(rival(feed, differ_loop.py_func, few)) * books / few
    rate = {name: f"{events / median(values) / 1e6:.1f} M/s" for name, values in times.items()}
    ordered, differ = ratio(times["ordered"], times["ours"]), ratio(times["differ"], times["ours"])
    what = f"dataset of {of}"
    return [
        Row(f"{what}, vs compiled differ + event order", rate["ours"], rate["ordered"],
            f"{ordered:.1f}× faster", f"≥ {RIVAL_MIN}× faster", ordered >= RIVAL_MIN),
        Row(f"{what}, vs compiled differ, unordered rows", rate["ours"], rate["differ"], f"{differ:.1f}× faster"),
        Row(f"{what}, vs the differ as the package's converters loop", rate["ours"], f"{events / loops / 1e3:.0f} k/s",
            f"{loops / median(times['ours']):.0f}× faster"),
        Row("… depth rows found equal to the plain reference", f"{checked:,}"),
    ]  # fmt: skip


BENCH = Bench(
    "dataset",
    rows,
    "Books and trades of the whole file from columns in memory to rows in memory, both axes in order; hftbacktest's "
    "`DiffOrderBookSnapshot` in one compiled loop with its own `correct_event_order`, compiled beforehand. Events in.",
    "Memory: 64 bytes a row written once. The converters' loop is scaled up from a twentieth of the books.",
)
