"""Events that excite each other, for tests: simulated paths, real trades, and the definition with all its N² terms."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pyarrow.parquet as pq
from hypothesis import strategies as st
from numpy.typing import NDArray
from real_data import DATA
from signal_columns import SECOND, Column

BUY, SELL = 0, 1
Marks = NDArray[np.uint8]
Matrix = NDArray[np.float64]


def simulate(mu: Matrix, alpha: Matrix, beta: Matrix, seconds: float, seed: int) -> tuple[Column, Marks]:
    """Stamps and marks of a path from 0 on, by Ogata's thinning: propose at the intensity of now, which only falls
    until the next event, and keep the proposal with the share that is left of it. Works for any number of marks.
    """
    random = np.random.default_rng(seed)
    excited = np.zeros_like(alpha)  # alpha[i, j] Σ e^{−β…} over the events of j
    stamps, marks = [], []
    now, last_ns = 0.0, 0
    while True:
        bound = (mu + excited.sum(axis=1)).sum()
        wait = random.exponential(1 / bound)
        now += wait
        if now >= seconds:
            return np.array(stamps, np.int64), np.array(marks, np.uint8)
        excited *= np.exp(-beta * wait)
        each = mu + excited.sum(axis=1)
        at = random.uniform(0, bound)
        if at < each.sum():
            mark = int(np.searchsorted(np.cumsum(each), at, side="right"))
            last_ns = max(round(now * SECOND), last_ns + 1)
            stamps.append(last_ns)
            marks.append(mark)
            excited[:, mark] += alpha[:, mark]


@cache
def simulated(mu: float, alpha: float, beta: float, seconds: float, seed: int) -> Column:
    one = [np.array(value, np.float64) for value in ([mu], [[alpha]], [[beta]])]
    return simulate(*one, seconds, seed)[0]


def by_definition(
    stamps: Column, marks: Marks, mu: Matrix, alpha: Matrix, beta: Matrix, start_ns: int, end_ns: int
) -> tuple[Matrix, float, float]:
    """(λ just before each event [mark, event], log L, Σ |terms of log L|), with every pair of events."""
    behind = (stamps[:, None] - stamps[None, :]).astype(np.float64) / SECOND
    lived = (end_ns - stamps).astype(np.float64) / SECOND
    seconds = (end_ns - start_ns) / SECOND
    kinds = len(mu)
    intensity = np.zeros((kinds, len(stamps)))
    integrals = []
    for i in range(kinds):
        intensity[i] = mu[i]
        integrals.append(mu[i] * seconds)
        for j in range(kinds):
            pairs = np.where((behind > 0) & (marks[None, :] == j), np.exp(-beta[i, j] * np.maximum(behind, 0)), 0)
            intensity[i] += alpha[i, j] * pairs.sum(axis=1)
            integrals.append(alpha[i, j] / beta[i, j] * -np.expm1(-beta[i, j] * lived[marks == j]).sum())
    logarithms = np.log(intensity[marks, np.arange(len(stamps))])
    return intensity, logarithms.sum() - sum(integrals), np.abs(logarithms).sum() + sum(integrals)


@cache
def trades(seconds_from: int, seconds_to: int) -> tuple[Column, Marks]:
    """Trades of TXFD6 on 2026-04-09 within [from, to) seconds of 08:45 Taipei: stamps as recorded, and who began."""
    table = pq.read_table(DATA / "txf_l5" / "TXFD6_2026-04-09.parquet")
    ev, stamp = (table[column].to_numpy() for column in ("ev", "exch_ts"))
    open_ns = int(np.datetime64("2026-04-09T00:45", "ns").astype(np.int64))
    chosen = np.isin(ev, (0xE0000002, 0xD0000002))
    chosen &= (stamp >= open_ns + seconds_from * SECOND) & (stamp < open_ns + seconds_to * SECOND)
    return stamp[chosen].astype(np.int64), np.where(ev[chosen] == 0xE0000002, BUY, SELL).astype(np.uint8)


def kolmogorov(residuals: Matrix) -> float:
    """√n times the largest distance from Exp(1); above 1.95 once in a thousand."""
    ranks = np.arange(len(residuals) + 1) / len(residuals)
    share = 1 - np.exp(-np.sort(residuals))
    return float(math.sqrt(len(residuals)) * max((ranks[1:] - share).max(), (share - ranks[:-1]).max()))


@st.composite
def rising_stamps(draw: st.DrawFn, rows_max: int = 40) -> Column:
    """Stamps a nanosecond, a second or centuries apart, from anywhere in int64."""
    gaps = st.one_of(st.integers(1, 5), st.integers(1, 10**6), st.integers(1, 10**10), st.integers(1, 10**13))
    found = draw(st.lists(gaps, min_size=1, max_size=rows_max))
    if draw(st.booleans()):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.sampled_from((2**53 + 1, 2**62, 2**63 + 5)))
    span = sum(found[1:])
    first = draw(st.sampled_from((-(2**63), 0, 1_775_700_000 * SECOND, 2**63 - 1 - span)))
    first = max(-(2**63), min(first, 2**63 - 1 - span))
    return np.array([first + sum(found[1 : row + 1]) for row in range(len(found))], np.int64)
