"""Parameters of signals, out of days that are over. Not for live use: what a signal is given must come from the past.

NumPy alone; nothing of it is compiled.
"""

from __future__ import annotations

import itertools
import operator

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.book import sound_sides, sound_tick
from rust_indicators.reference.columns import EMPTY_PRICE_E6
from rust_indicators.reference.microprice import TABLE_SIDE_MAX, buckets_of

OBSERVATIONS_MIN = 100  # rows of a spread below which its expected moves would be noise
STATES_MAX = 4_000  # spreads × buckets: the matrices stay below 128 MB each
TERMS = 6  # of Σ Bⁱ G¹


def fit_micro_price(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
    tick_size_e6: int,
    *,
    imbalance_buckets: int = 10,
    spread_ticks_max: int = 8,
) -> NDArray[np.float64]:
    """Table for `micro_price`: G*, the expected move of the mid in ticks until it stops, float64[spread, bucket].

    Columns of n rows, best level, already sampled, say at every second (the last book at or before it); a row of an
    empty book between two sessions keeps the one's end from being taken for the other's start. `tick_size_e6`: one
    tick throughout. Row s of the table is a spread of s + 1 ticks up to `spread_ticks_max`, column b an equal share of
    bid volume / volume of both (`micro_price` says where borders belong): each 1 … 1024.
    A spread with fewer than 100 rows is not fitted, a bucket without a row neither: NaN, where `micro_price` gives the
    weighted mid.

    Every step between two rows with both sides and whole ticks of spread counts, once as it is and once with the sides
    swapped, so that the table is antisymmetric in imbalance. Its mid changes by K half ticks, by however many it did:
    Q has the steps without a change, R¹ the changes, R² where those lead (a spread that is not fitted counts as the
    nearest that is); G¹ = (1 − Q)⁻¹R¹K, B = (1 − Q)⁻¹R², G* = Σ BⁱG¹ over six terms.
    ValueError names the argument. Source: Stoikov (2018), Quantitative Finance 18(12) 1959–1966, section 3.
    """
    sound_tick(tick_size_e6)
    buckets, spreads = _side("imbalance_buckets", imbalance_buckets), _side("spread_ticks_max", spread_ticks_max)
    bid, bid_size, ask, ask_size = sound_sides(bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    two_sided = (bid != EMPTY_PRICE_E6) & (ask != EMPTY_PRICE_E6) & (bid_size + ask_size > 0)
    bid, ask = np.where(two_sided, bid, 0), np.where(two_sided, ask, 0)
    spread, rest = np.divmod(ask - bid, tick_size_e6)
    usual = two_sided & (rest == 0) & (spread >= 1)
    table = np.full((spreads, buckets), np.nan)
    rows_of_spread = np.bincount(spread[usual & (spread <= spreads)], minlength=spreads + 1)
    fitted = np.flatnonzero(rows_of_spread >= OBSERVATIONS_MIN)
    if not len(fitted):
        return table
    if len(fitted) * buckets > STATES_MAX:
        raise ValueError(f"imbalance_buckets: {buckets} for {len(fitted)} spreads are more than {STATES_MAX} states")
    nearest = np.abs(np.arange(spreads + 1)[:, None] - fitted).argmin(axis=1)
    first_state = nearest[np.clip(spread, 0, spreads)] * buckets
    step = np.flatnonzero(usual[:-1] & usual[1:] & np.isin(spread[:-1], fitted))
    change = np.diff(bid + ask)[step] / (2 * tick_size_e6)
    counts = _counts((bid_size, ask_size), first_state, (len(fitted), buckets), step, change)
    expected = _expected(*counts).reshape(-1, buckets)
    table[fitted - 1] = (expected - expected[:, ::-1]) / 2  # what rounding took from the antisymmetry
    return table


def _counts(
    volumes: tuple[NDArray[np.int64], NDArray[np.int64]],
    first_state: NDArray[np.int64],
    shape: tuple[int, int],
    step: NDArray[np.int64],
    change: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps from state to state that leave the mid and that move it, and by how many ticks those from a state do."""
    buckets = shape[1]
    states = shape[0] * buckets
    within = buckets_of(*volumes, buckets)
    stays, moves, gain = np.zeros((states, states)), np.zeros((states, states)), np.zeros(states)
    moved = change != 0
    # Equal volumes between two buckets are half in each: that makes four steps of one, all others four times the same.
    for before, after in itertools.product(within, within):
        for sign in (1, -1):
            origin, goal = before[step], after[step + 1]
            if sign < 0:
                origin, goal = buckets - 1 - origin, buckets - 1 - goal
            origin, goal = origin + first_state[step], goal + first_state[step + 1]
            np.add.at(stays, (origin[~moved], goal[~moved]), 1)
            np.add.at(moves, (origin[moved], goal[moved]), 1)
            np.add.at(gain, origin, sign * change)
    return stays, moves, gain


def _expected(stays: NDArray[np.float64], moves: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """G* of each state, out of counts of steps and sums of changes; NaN for a state that no step left."""
    left = stays.sum(axis=1) + moves.sum(axis=1)
    seen = left > 0
    times = np.where(seen, left, 1)[:, None]
    q, r2, r1_k = stays / times, moves / times, gain / times[:, 0]
    # Where the mid never moves again it is expected where it is; 1 − Q could not be inverted.
    moving, count = r2.sum(axis=1) > 0, 0
    while moving.sum() > count:
        count = moving.sum()
        moving |= q @ moving > 0
    q[~moving] = 0
    first, again = np.split(np.linalg.solve(np.eye(len(q)) - q, np.column_stack((r1_k, r2))), [1], axis=1)
    term = total = first[:, 0]
    for _ in range(TERMS - 1):
        term = again @ term
        total = total + term
    return np.where(seen, total, np.nan)


def _side(argument: str, value: int) -> int:
    if not 1 <= operator.index(value) <= TABLE_SIDE_MAX:
        raise ValueError(f"{argument}: {value} is not within 1 … {TABLE_SIDE_MAX}")
    return value
