"""The signals: batch kernels beside NumPy, numba and the memory-copy limit; streaming updates from Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numba import njit

from benches import simulated
from benches.measure import Bench, Effort, Row, folder_on_disk, interleaved, ratio
from rust_indicators import Hawkes, Ofi, SignalSet, hawkes_intensity, mlofi, ofi, vpin
from rust_indicators.reference import flow as reference
from rust_indicators.reference import hawkes as hawkes_reference
from rust_indicators.reference import toxicity as toxicity_reference
from shijim_live.events import RECORD_BYTES

ROWS = 4_000_000  # far beyond the caches
TRADES = 2_000_000
LEVELS = 5
UPDATES = 200_000
COPY_MAX, VPIN_NS_MAX, HAWKES_NS_MAX, OFI_UPDATE_NS_MAX, SET_NS_MAX = 1.5, 2.0, 3.5, 60.0, 250.0
MU, ALPHA, BETA = 0.8184, 9.0222, 22.767  # a real half-hour of TXFD6
BUCKET_VOLUME, BUCKETS = 1_000, 20

Int64s = np.ndarray[Any, np.dtype[np.int64]]


def rows(effort: Effort) -> list[Row]:
    found = [*_flow(effort), *_toxicity(effort), *_hawkes(effort), *_streaming(effort)]
    return [*found, *_signal_set(effort)]


def _books() -> list[list[Int64s]]:
    """Prices and volumes of five levels a side: a random walk of the touch, populated levels a tick apart."""
    random = np.random.default_rng(1)
    bid = (20_000 + np.cumsum(random.integers(-1, 2, ROWS) * (random.random(ROWS) < 0.2))) * 1_000_000
    spread = random.integers(1, 4, ROWS) * 1_000_000
    volumes = [[random.integers(1, 60, ROWS) for _ in range(LEVELS)] for _ in range(2)]
    bids = [bid - level * 1_000_000 for level in range(LEVELS)]
    asks = [bid + spread + level * 1_000_000 for level in range(LEVELS)]
    return [bids, volumes[0], asks, volumes[1]]


@njit
def _ofi_numba(bid: Any, bid_volume: Any, ask: Any, ask_volume: Any, out: Any) -> None:
    out[0] = 0
    for row in range(1, len(bid)):
        flow = 0
        if bid[row] >= bid[row - 1]:
            flow += bid_volume[row]
        if bid[row] <= bid[row - 1]:
            flow -= bid_volume[row - 1]
        if ask[row] <= ask[row - 1]:
            flow -= ask_volume[row]
        if ask[row] >= ask[row - 1]:
            flow += ask_volume[row - 1]
        out[row] = flow


def _flow(effort: Effort) -> list[Row]:
    books = _books()
    touch = [side[0] for side in books]
    out, theirs = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
    outs = np.empty((LEVELS, ROWS), np.int64)
    # As many bytes as the kernel reads and writes: half read, half written.
    source, target = np.ones(ROWS * 5 // 2, np.int64), np.empty(ROWS * 5 // 2, np.int64)
    sources, targets = np.ones((LEVELS, ROWS * 5 // 2), np.int64), np.empty((LEVELS, ROWS * 5 // 2), np.int64)
    _ofi_numba(*(column[:2] for column in touch), theirs[:2])
    times = interleaved(effort.rounds, {
        "ours": lambda: ofi(*touch, out=out),
        "copy": lambda: np.copyto(target, source),
        "numba": lambda: _ofi_numba(*touch, theirs),
        "numpy": lambda: reference.ofi(*touch),
    })  # fmt: skip
    assert (out == theirs).all()
    deep = interleaved(effort.rounds, {
        "ours": lambda: mlofi(*books, out=outs),
        "copy": lambda: np.copyto(targets, sources),
    })  # fmt: skip
    assert (outs[0] == out).all()
    return [
        *_beside_copy("OFI, 4 M books", times, 1),
        Row("… vs numba", _ns(times["ours"]), _ns(times["numba"]), f"{1 / ratio(times['ours'], times['numba']):.1f}×"),
        Row("… vs NumPy", _ns(times["ours"]), _ns(times["numpy"]), f"{1 / ratio(times['ours'], times['numpy']):.1f}×"),
        *_beside_copy("MLOFI, 4 M books of 5 levels", deep, LEVELS),
    ]


def _beside_copy(what: str, times: dict[str, list[float]], levels: int) -> list[Row]:
    share = ratio(times["ours"], times["copy"])
    return [Row(f"{what}, vs a copy of as many bytes", _ns(times["ours"]), _ns(times["copy"]), f"{share:.2f}×",
                f"≤ {COPY_MAX}×", share <= COPY_MAX)]  # fmt: skip


def _ns(seconds: list[float], events: int = ROWS) -> str:
    return f"{median(seconds) / events * 1e9:.2f} ns/event"


@njit
def _vpin_numba(side: Any, volume: Any, bucket_volume: int, buckets: int, out: Any) -> int:
    ring = np.zeros(buckets)
    total, made, filled, signed = 0.0, 0, 0, 0
    for row in range(len(side)):
        rest = volume[row]
        direction = 1 if side[row] == 1 else -1 if side[row] == 2 else 0
        while rest > 0:
            take = min(rest, bucket_volume - filled)
            signed += direction * take
            filled += take
            rest -= take
            if filled == bucket_volume:
                total += abs(signed) - ring[made % buckets]
                ring[made % buckets] = abs(signed)
                out[made] = total / (buckets * bucket_volume)
                made += 1
                filled, signed = 0, 0
    return made


def _toxicity(effort: Effort) -> list[Row]:
    random = np.random.default_rng(2)
    side = random.integers(1, 3, TRADES).astype(np.uint8)
    volume = np.minimum(random.geometric(0.4, TRADES), 50).astype(np.int64)
    theirs = np.empty(int(volume.sum()) // BUCKET_VOLUME + 1)
    _vpin_numba(side[:10], volume[:10], BUCKET_VOLUME, BUCKETS, theirs)
    times = interleaved(effort.rounds, {
        "ours": lambda: vpin(side, volume, BUCKET_VOLUME, BUCKETS),
        "numba": lambda: _vpin_numba(side, volume, BUCKET_VOLUME, BUCKETS, theirs),
        "numpy": lambda: toxicity_reference.vpin(side[:20_000], volume[:20_000], BUCKET_VOLUME, BUCKETS),
    })  # fmt: skip
    ours = median(times["ours"]) / TRADES * 1e9
    return [
        Row("VPIN of signed trades", f"{ours:.2f} ns/event", f"numba {_ns(times['numba'], TRADES)}",
            f"{1 / ratio(times['ours'], times['numba']):.1f}×", f"≤ {VPIN_NS_MAX:.0f} ns", ours <= VPIN_NS_MAX),
        Row("… the NumPy reference", _ns(times["numpy"], 20_000)),
    ]  # fmt: skip


@njit
def _hawkes_numba(ns: Any, mu: float, alpha: float, beta: float, out: Any) -> None:
    excited = 0.0
    out[0] = mu
    for row in range(1, len(ns)):
        excited = np.exp(-beta * (ns[row] - ns[row - 1]) * 1e-9) * (1.0 + excited)
        out[row] = mu + alpha * excited


def _hawkes(effort: Effort) -> list[Row]:
    stamps = np.cumsum(np.random.default_rng(3).exponential(0.7e9, TRADES).astype(np.int64) + 1)
    out, theirs = np.empty(TRADES), np.empty(TRADES)
    _hawkes_numba(stamps[:10], MU, ALPHA, BETA, theirs)
    few = stamps[:20_000]
    times = interleaved(effort.rounds, {
        "ours": lambda: hawkes_intensity(stamps, MU, ALPHA, BETA, out=out),
        "numba": lambda: _hawkes_numba(stamps, MU, ALPHA, BETA, theirs),
        "numpy": lambda: hawkes_reference.hawkes_intensity(few, MU, ALPHA, BETA),
    })  # fmt: skip
    np.testing.assert_allclose(out, theirs, rtol=1e-12)
    ours = median(times["ours"]) / TRADES * 1e9
    return [
        Row("Hawkes intensity", f"{ours:.2f} ns/event", f"numba {_ns(times['numba'], TRADES)}",
            f"{1 / ratio(times['ours'], times['numba']):.1f}×", f"≤ {HAWKES_NS_MAX} ns", ours <= HAWKES_NS_MAX),
        Row("… the NumPy reference", _ns(times["numpy"], len(few))),
    ]  # fmt: skip


def _each(update: Callable[..., object], arguments: list[tuple[Any, ...]]) -> float:
    """ns of one call from Python, the loop itself taken off."""
    started = time.perf_counter_ns()
    for one in arguments:
        update(*one)
    called = time.perf_counter_ns()
    for _ in arguments:
        pass
    return (2 * called - started - time.perf_counter_ns()) / len(arguments)


def _streaming(effort: Effort) -> list[Row]:
    touch = [side[0][:UPDATES].tolist() for side in _books()]
    books = list(zip(*touch, strict=True))
    stamps = [(row * 700_000_000,) for row in range(UPDATES)]
    ours, theirs, hawkes = [], [], []
    for _ in range(effort.rounds):
        ours.append(_each(Ofi().update, books))
        theirs.append(_each(reference.Ofi().update, books[: UPDATES // 100]))
        hawkes.append(_each(Hawkes(MU, ALPHA, BETA).update, stamps))
    best = median(ours)
    return [
        Row("OFI, one update from Python", f"{best:.0f} ns", f"NumPy reference {median(theirs):.0f} ns",
            f"{median(theirs) / best:.0f}×", f"≤ {OFI_UPDATE_NS_MAX:.0f} ns", best <= OFI_UPDATE_NS_MAX),
        Row("Hawkes, one update from Python", f"{median(hawkes):.0f} ns"),
    ]  # fmt: skip


def _signal_set(effort: Effort) -> list[Row]:
    with folder_on_disk() as folder:
        blob = simulated.record_busily(folder / "day", simulated.payloads())
    events = len(blob) // RECORD_BYTES
    times = interleaved(effort.rounds, {"ours": lambda: SignalSet().advance(blob)})
    ours = median(times["ours"]) / events * 1e9
    return [
        Row("SignalSet, every signal, a simulated day of books and trades", f"{ours:.0f} ns/event", "–", "–",
            f"≤ {SET_NS_MAX:.0f} ns", ours <= SET_NS_MAX),
    ]  # fmt: skip


BENCH = Bench(
    "signals",
    rows,
    "Batch kernels over columns beyond the caches, results into an array given; the copy moves as many bytes as the "
    "kernel reads and writes. Streaming: a loop in Python, the loop itself taken off. The set: whole records, inside "
    "Rust. numba runs the same definition, compiled before; results are compared.",
    "OFI and MLOFI: memory. VPIN: one addition depends on the next. Hawkes: the recursion, and one exponential each. "
    "One update: the call from Python.",
)
