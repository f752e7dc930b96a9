"""Parameters of signals, fitted to a day that is over. Not the signals: they take what this gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.book import sound_tick, weighted_mid
from rust_indicators.reference.columns import EMPTY_PRICE_E6

TERMS = 6  # of the series; later ones change nothing visible
STATES_MAX = 2000  # buckets × spreads: the matrices are that squared


@dataclass(frozen=True, slots=True)
class MicroPriceTable:
    """What `micro_price` takes as `table`, and from how many steps it is."""

    table: NDArray[np.float64]  # [spread in ticks − 1, bucket of imbalance]: G* in ticks, NaN where not fitted
    observations: NDArray[np.int64]  # [spread in ticks − 1, bucket]: steps from that state, each counted mirrored too


def fit_micro_price(
    bid_price_e6: NDArray[np.int64],
    bid_volume: NDArray[np.int64],
    ask_price_e6: NDArray[np.int64],
    ask_volume: NDArray[np.int64],
    tick_size_e6: int,
    *,
    imbalance_buckets: int = 10,
    spread_ticks_max: int = 4,
) -> MicroPriceTable:
    """G*(I, S) of the micro-price from best levels that the caller sampled evenly (1 s, say), int64[n] each.

    A state is a bucket ⌊I·buckets⌋ of I = bid volume / (bid volume + ask volume), of equal width, and a spread of
    1 … `spread_ticks_max` whole ticks. A step counts if both its ends are states and the mid moves by at most
    `spread_ticks_max` ticks (more is a jump, not the book's expectation); each is counted once more with bid and ask
    exchanged, so G* is antisymmetric in I. From the steps' shares: Q without a move, R² with one, R¹K the expected
    move; G¹ = (1 − Q)⁻¹R¹K, B = (1 − Q)⁻¹R², G* = Σ BⁱG¹, six terms. A spread is fitted if every bucket of it was seen.
    Rows of one session only: a step must be a step. ValueError names the argument; so where nothing can be fitted.
    Source: Stoikov (2018), Quantitative Finance 18(12) 1959–1966.
    """
    if imbalance_buckets < 1 or spread_ticks_max < 1 or imbalance_buckets * spread_ticks_max > STATES_MAX:
        raise ValueError(f"imbalance_buckets: times spread_ticks_max must be 1 … {STATES_MAX}")
    sound_tick(tick_size_e6)
    known = ~np.isnan(weighted_mid(bid_price_e6, bid_volume, ask_price_e6, ask_volume))
    bid = np.where(known & (bid_price_e6 != EMPTY_PRICE_E6), bid_price_e6, 0)
    ask = np.where(known & (ask_price_e6 != EMPTY_PRICE_E6), ask_price_e6, 0)
    spread, off_tick = np.divmod(ask - bid, tick_size_e6)
    known &= (off_tick == 0) & (spread >= 1) & (spread <= spread_ticks_max)
    total = np.maximum(bid_volume + ask_volume, 1)
    bucket = np.minimum(bid_volume * imbalance_buckets // total, imbalance_buckets - 1)
    move2 = np.diff(bid + ask)  # twice the move of the mid
    steps = known[:-1] & known[1:] & (np.abs(move2) <= 2 * spread_ticks_max * tick_size_e6)
    if not steps.any():
        raise ValueError("bid_price_e6: no step between two books with a spread that is to be fitted")
    state = bucket + (spread - 1) * imbalance_buckets
    mirror = imbalance_buckets - 1 - bucket + (spread - 1) * imbalance_buckets
    states = imbalance_buckets * spread_ticks_max
    adjustment, observations = _adjustment(
        np.concatenate([state[:-1][steps], mirror[:-1][steps]]),
        np.concatenate([state[1:][steps], mirror[1:][steps]]),
        np.true_divide(np.concatenate([move2[steps], -move2[steps]]), 2 * tick_size_e6),
        states,
    )
    shape = (spread_ticks_max, imbalance_buckets)
    table, counts = adjustment.reshape(shape), observations.reshape(shape)
    return MicroPriceTable(np.where((counts > 0).all(axis=1, keepdims=True), table, np.nan), counts)


def _adjustment(
    start: NDArray[np.int64], end: NDArray[np.int64], move: NDArray[np.float64], states: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """G* of every state, in the unit of the moves, and the number of steps from it."""
    seen = np.bincount(start, minlength=states)
    share = 1 / np.maximum(seen, 1)
    still: NDArray[np.float64] = np.zeros((states, states))
    moved: NDArray[np.float64] = np.zeros((states, states))
    np.add.at(still, (start[move == 0], end[move == 0]), 1)
    np.add.at(moved, (start[move != 0], end[move != 0]), 1)
    still, moved = still * share[:, None], moved * share[:, None]
    expected = np.bincount(start, weights=move, minlength=states) * share
    # A state from which no path leads to a move stays where it is: its 1 − Q has no inverse, and G* is 0.
    alive: NDArray[np.bool_] = np.any(moved > 0, axis=1)
    while (further := alive | np.any(still[:, alive] > 0, axis=1)).sum() > alive.sum():
        alive = further
    still[~alive] = 0
    term: NDArray[np.float64] = np.linalg.solve(np.eye(states) - still, np.where(alive, expected, 0))
    onwards = np.linalg.solve(np.eye(states) - still, np.where(alive[:, None], moved, 0))
    total = term
    for _ in range(TERMS - 1):
        term = onwards @ term
        total = total + term
    return total, seen
