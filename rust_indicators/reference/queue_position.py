"""Where a resting order stands in its queue, as hftbacktest 2.4 estimates it (after Rigtorp, 2013).

Not the matching: whoever drives it says which rows happened at the order's price, and what happened beyond it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import VOLUME_MAX, column, positive, same_rows
from rust_indicators.validity import Validity

__all__ = ["QueuePosition", "queue_positions"]

_TRADE, _DEPTH, _THROUGH = range(3)
_WITH_POWER, _WITHOUT_POWER = ("power", "power2", "power3"), ("risk_averse", "log", "log2")
_INT64_MAX = 2**63 - 1


def queue_positions(
    kind: NDArray[np.uint8],
    before: NDArray[np.int64],
    now: NDArray[np.int64],
    model: str,
    lot_size: int,
    front_volume: int,
    *,
    power: float | None = None,
) -> tuple[NDArray[np.float64], int | None]:
    """Front of one order after each row, and the first row at which it was filled: (float64[n], row or None).

    The n rows are what happened from the exchange's acceptance of the order on, in the exchange's order; `kind`:
    0 a trade at the order's price against its side: `now` is the traded volume, `before` 0;
    1 the volume of the order's level went from `before` to `now`;
    2 the order was traded through (`QueuePosition.traded_through`): both 0.
    For the other arguments and what a front is: `QueuePosition`. Trades must stand before the change of the level
    they caused, or they count twice. An order does not outlive a session or a gap: no restarts within a batch.
    ValueError names the argument: wrong type, shape, length, an unknown kind, a volume outside 0 … 2⁴⁰ or misplaced.
    Source: hftbacktest 2.4.4, `backtest/models/queue.rs`; Rigtorp, "Estimating order queue position" (2013).
    """
    state = QueuePosition(model, lot_size, front_volume, power=power)
    return state._play(kind, before, now)


class QueuePosition:
    """Streaming queue position of one order: how much volume is in front of it.

    `model`: what a decrease of the level that no trade explains says, given F in front and B behind the order; p is
    the probability that it happened behind:
    "risk_averse" never in front; "power" f(B)/(f(B)+f(F)), "power2" f(B)/f(B+F), "power3" 1−f(F/(F+B)) with f = xⁿ,
    n = `power` > 0; "log" and "log2" as power and power2 with f = ln(1+x), without `power`.
    `lot_size`: smallest volume that can be filled, in the units of the volumes (lots: 1).
    `front_volume`: volume of the level when the exchange accepted the order. Volumes are 0 … 2⁴⁰.

    `front`, which is its `value`, is float64: half a lot may be in front. An order is `filled` when a trade at its
    price leaves the front at −½ lot or less (rounded half away from zero), or when it was traded through; a
    cancellation alone fills nothing. Equal to hftbacktest's engine fill for fill.
    VALID from the start; TAINTED, its front NaN, from a gap to `reset`.
    ValueError names the argument.
    """

    front: float
    filled: bool
    validity: int
    _traded: float

    def __init__(self, model: str, lot_size: int, front_volume: int, *, power: float | None = None) -> None:
        if model in _WITH_POWER:
            if power is None:
                raise ValueError("power: is missing")
            positive("power", power)
        elif model not in _WITHOUT_POWER:
            raise ValueError(f'model: "{model}" is not risk_averse, power, power2, power3, log or log2')
        elif power is not None:
            raise ValueError(f"power: the model {model} has none")
        if not 1 <= lot_size <= VOLUME_MAX:
            raise ValueError(f"lot_size: {lot_size} is not within 1 … 2⁴⁰")
        self._model, self._power, self._lot_size = model, power or 0.0, lot_size
        self.reset(front_volume)

    def trade(self, volume: int, /) -> int:
        """A trade at the order's price against its side. Returns the volume of it that reaches the order, a multiple of
        the lot; 0 while others are in front. The caller knows how much the order still wants.
        """
        _check_volume("volume", volume)
        if self.validity == Validity.TAINTED:
            return 0
        self.front -= volume
        self._traded += volume
        lots = _round_half_away(max(-self.front / self._lot_size, 0.0))
        if lots == 0:
            return 0
        self.front, self.filled = 0.0, True
        return min(lots * self._lot_size, _INT64_MAX)

    def depth(self, before: int, now: int, /) -> None:
        """The volume of the order's level changed."""
        _check_volume("before", before)
        _check_volume("now", now)
        if self.validity == Validity.TAINTED:
            return
        decrease = before - now - self._traded
        self._traded = 0.0
        if decrease < 0 or self._model == "risk_averse":
            self.front = min(self.front, now + 0.0)
            return
        behind = before - self.front
        p = self._behind_probability(self.front, behind)
        if math.isinf(p):
            p = 1.0
        estimate = self.front - (1.0 - p) * decrease + min(behind - p * decrease, 0.0)
        self.front = now + 0.0 if math.isnan(estimate) else min(estimate, now + 0.0)

    def traded_through(self) -> None:
        """The order cannot rest any more, wherever it stood: a trade beyond its price, or the other side's best at it.
        hftbacktest fills it whole, and so does this.
        """
        self.filled = True
        if self.validity != Validity.TAINTED:
            self.front = 0.0

    def update_many(
        self, kind: NDArray[np.uint8], before: NDArray[np.int64], now: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """The rows of `queue_positions` from here on: (front, validity). A refusal leaves the state as it was."""
        front, _ = self._play(kind, before, now)
        return front, np.full(len(front), self.validity, np.uint8)

    def reset(self, front_volume: int, /) -> None:
        """A new order of the same model, behind so much volume."""
        _check_volume("front_volume", front_volume)
        self.front, self.filled, self.validity = front_volume + 0.0, False, Validity.VALID
        self._traded = 0.0

    def taint(self) -> None:
        """Rows are missing: where the order stands is not known any more, until `reset`."""
        self.front, self.validity = math.nan, Validity.TAINTED

    @property
    def value(self) -> float:
        return self.front

    def _behind_probability(self, front: float, behind: float) -> float:
        n = self._power
        match self._model:
            case "power":
                return _divide(_pow(behind, n), _pow(behind, n) + _pow(front, n))
            case "power2":
                return _divide(_pow(behind, n), _pow(behind + front, n))
            case "power3":
                return 1.0 - _pow(_divide(front, front + behind), n)
            case "log":
                return _divide(_log(1.0 + behind), _log(1.0 + behind) + _log(1.0 + front))
            case _:
                return _divide(_log(1.0 + behind), _log(1.0 + (behind + front)))

    def _play(
        self, kind: NDArray[np.uint8], before: NDArray[np.int64], now: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], int | None]:
        columns = _checked(kind, before, now)
        fronts = np.empty(len(columns[0]), np.float64)
        first = None
        for row, (what, was, is_) in enumerate(zip(*(part.tolist() for part in columns), strict=True)):
            filled_before = self.filled
            if what == _TRADE:
                self.trade(is_)
            elif what == _DEPTH:
                self.depth(was, is_)
            else:
                self.traded_through()
            fronts[row] = self.front
            if self.filled and not filled_before:
                first = row
        return fronts, first


def _checked(
    kind: NDArray[np.uint8], before: NDArray[np.int64], now: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    kinds = column("kind", kind, np.uint8)
    volumes = {"before": column("before", before, np.int64), "now": column("now", now, np.int64)}
    same_rows([("kind", kinds), *volumes.items()])
    for row in np.flatnonzero(kinds > _THROUGH)[:1]:
        raise ValueError(f"kind: row {row} is {kinds[row]}, not 0 (trade), 1 (depth) or 2 (through)")
    for name, without in (("before", (_TRADE, _THROUGH)), ("now", (_THROUGH,))):
        values = volumes[name]
        misplaced = np.isin(kinds, without) & (values != 0)
        for row in np.flatnonzero(misplaced | (values < 0) | (values > VOLUME_MAX))[:1]:
            what = f"where kind {kinds[row]} has none" if misplaced[row] else "is not within 0 … 2⁴⁰"
            raise ValueError(f"{name}: row {row}: {values[row]} {what}")
    return kinds, volumes["before"], volumes["now"]


def _check_volume(argument: str, volume: int) -> None:
    if not 0 <= volume <= VOLUME_MAX:
        raise ValueError(f"{argument}: {volume} is not within 0 … 2⁴⁰")


def _round_half_away(value: float) -> int:
    """As Rust rounds; Python's `round` takes halves to the even side, which fills orders at other times."""
    whole = math.trunc(min(value, 2.0**62))
    return whole + (value - whole >= 0.5)


# Arithmetic of IEEE 754, where Python would raise instead.


def _divide(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else (numerator * math.inf if numerator else math.nan)


def _pow(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        return math.nan


def _log(value: float) -> float:
    if value <= 0:
        return math.nan if value else -math.inf
    return math.log(value)
