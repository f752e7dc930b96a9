"""Intensities of two kinds of events, buys and sells say, that excite themselves and each other. Not the fit."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rust_indicators.reference.columns import column, restarts, same_rows, sorted_stamps
from rust_indicators.reference.hawkes import NS, elapsed, memory_ns, rate, rate_or_none, window
from rust_indicators.validity import Restart, Validity

__all__ = [
    "BivariateHawkes",
    "bivariate_hawkes_gradient",
    "bivariate_hawkes_intensity",
    "bivariate_hawkes_log_likelihood",
    "bivariate_hawkes_residuals",
    "distinct_marked_stamps",
    "spectral_radius",
]

_Floats: TypeAlias = NDArray[np.float64]
_Seen: TypeAlias = tuple[int, frozenset[int]]  # a stamp, and the marks that had an event at it


def bivariate_hawkes_intensity(
    exchange_ns: NDArray[np.int64],
    mark: NDArray[np.uint8],
    mu: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    *,
    restart: NDArray[np.uint8] | None = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """λᵢ(t−) = μᵢ + Σⱼ αᵢⱼ Σ e^{−βᵢⱼ(t−tʲ)} over the events of kind j before t, for both kinds i, in 1/s.

    `exchange_ns`: int64[n], not going back; `mark`: uint8[n], the kind, 0 or 1. Events of both kinds may share a stamp
    and then do not excite each other; two of one kind may not: merge them first, with `distinct_marked_stamps`.
    `mu`: 2 rates, `alpha` and `beta`: 2 × 2, within 1e-30 … 1e30 1/s, alpha also 0; `alpha[i, j]`: effect of j on i.
    `restart`: marks of `Restart` before each row. Returns float64[2, n], or `out`; NaN after a taint, until the events
    since then span 10/min β. ValueError names the argument.
    Source: Hawkes (1971), Biometrika 58(1) 83–90; Bacry, Mastromatteo & Muzy (2015), Market Microstructure and
    Liquidity 1(1) 1550005.
    """
    state, stamps = BivariateHawkes(mu, alpha, beta), column("exchange_ns", exchange_ns, np.int64)
    shape = (2, len(stamps))
    sound = isinstance(out, np.ndarray) and out.dtype == np.float64 and out.shape == shape and out.flags.c_contiguous
    if out is not None and not sound:
        raise ValueError(f"out: must be a contiguous array of float64, 2 × {len(stamps)}")
    values, _ = state.update_many(stamps, mark, restart=restart)
    if out is None:
        return values
    out[:] = values
    return out


def bivariate_hawkes_log_likelihood(
    exchange_ns: NDArray[np.int64],
    mark: NDArray[np.uint8],
    mu: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    start_ns: int,
    end_ns: int,
) -> float:
    """log L = Σ log λ of the kind that came − Σᵢ ∫ λᵢ, of the events within start … end; none before.

    Events and rates as for `bivariate_hawkes_intensity`. ValueError: an event outside of the window, or `end_ns` not
    after `start_ns`. Source: Ogata (1981), IEEE Trans. Inf. Theory 27(1) 23–31.
    """
    base, jump, decay = _rates(mu, alpha, beta)
    stamps, marks = _events(exchange_ns, mark)
    seconds = window(stamps, start_ns, end_ns)
    path = _Path(decay, stamps, marks, end_ns)
    intensity = (base[:, None] + np.einsum("ij,ijn->in", jump, path.excitation))[marks, np.arange(len(stamps))]
    log_likelihood: np.float64 = (
        np.sum(np.log(intensity)) - np.sum(base) * seconds - np.sum(jump / decay * path.gone.sum(axis=2))
    )
    return log_likelihood.item()


def bivariate_hawkes_gradient(
    exchange_ns: NDArray[np.int64],
    mark: NDArray[np.uint8],
    mu: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    start_ns: int,
    end_ns: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Derivatives of `bivariate_hawkes_log_likelihood` by μ (float64[2]), α and β (float64[2, 2]); for a fit."""
    base, jump, decay = _rates(mu, alpha, beta)
    stamps, marks = _events(exchange_ns, mark)
    seconds = window(stamps, start_ns, end_ns)
    path = _Path(decay, stamps, marks, end_ns)
    intensity = base[:, None] + np.einsum("ij,ijn->in", jump, path.excitation)
    per_intensity = np.where(marks == np.array([[0], [1]]), 1 / intensity, 0)
    gone = path.gone.sum(axis=2) / decay
    by_mu = per_intensity.sum(axis=1) - seconds
    by_alpha = np.einsum("ijn,in->ij", path.excitation, per_intensity) - gone
    by_beta = jump / decay * (gone - path.aged_at_end) - jump * np.einsum("ijn,in->ij", path.aged, per_intensity)
    return by_mu, by_alpha, by_beta


def bivariate_hawkes_residuals(
    exchange_ns: NDArray[np.int64], mark: NDArray[np.uint8], mu: ArrayLike, alpha: ArrayLike, beta: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """∫ λᵢ between neighbouring events of each kind i: float64, of every event of the kind but its first.

    They are independent and Exp(1) if the events came with these intensities. Source: Ogata (1988), JASA 83(401) 9–27.
    """
    base, jump, decay = _rates(mu, alpha, beta)
    stamps, marks = _events(exchange_ns, mark)
    if not len(stamps):
        return np.zeros(0), np.zeros(0)
    path = _Path(decay, stamps, marks, int(stamps[-1]))
    gaps = base[:, None] * path.seconds + np.einsum("ij,ijn->in", jump / decay, path.gone)
    first, second = (
        # Gap n lies after event n: between neighbours of a kind are the gaps from the one to before the other.
        np.add.reduceat(gaps[kind], np.flatnonzero(marks == kind))[:-1] if (marks == kind).any() else np.zeros(0)
        for kind in (0, 1)
    )
    return first, second


def spectral_radius(alpha: ArrayLike, beta: ArrayLike) -> float:
    """ρ(N), the largest eigenvalue of N = α/β (2 × 2, element by element). Below 1 the process does not explode."""
    jump, decay = _matrix("alpha", alpha), _matrix("beta", beta)
    _check(jump, decay)
    a, b, c, d = (value.item() for value in (jump / decay).flat)
    radius: float = (a + d) / 2 + math.sqrt(((a - d) / 2) ** 2 + b * c)
    return radius


def distinct_marked_stamps(
    exchange_ns: NDArray[np.int64], mark: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The events without those of which stamp and mark came before: prints of a kind at one time as one event."""
    stamps, marks = _columns(exchange_ns, mark)
    sorted_stamps("exchange_ns", stamps)
    _, first = np.unique(np.stack([stamps, marks]), axis=1, return_index=True)
    rows = np.sort(first)
    return stamps[rows], marks[rows]


class BivariateHawkes:
    """Streaming `bivariate_hawkes_intensity`: the excitations at the last event are all it remembers.

    `value`: (λ₀, λ₁) just before the last event, in 1/s. Valid from the first event on, for the process begins without
    any; after `taint` not until the events since then span 10/min β.
    """

    def __init__(self, mu: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> None:
        self._mu, self._alpha, self._beta = _rates(mu, alpha, beta)
        self._memory_ns = memory_ns(self._beta.min().item())
        self._begin(Restart.RESET)

    def _begin(self, mark: int) -> None:
        self._gap = mark == Restart.TAINT
        self._first_ns = 0
        self._last: _Seen | None = None
        self._excitation: _Floats = np.zeros((2, 2))
        self.value: tuple[float, float] = (math.nan, math.nan)
        self.validity: int = Validity.TAINTED if self._gap else Validity.WARMING_UP

    def update(self, exchange_ns: int, mark: int, /) -> tuple[float, float]:
        """(λ₀, λ₁) just before this event; NaN while TAINTED.

        ValueError: before the last event, or at its stamp and of a kind that had one there.
        """
        self.update_many(np.array([exchange_ns], np.int64), np.array([mark], np.uint8))
        return self.value

    def intensity_at(self, exchange_ns: int, /) -> tuple[float, float]:
        """(λ₀, λ₁) just before a time: what an event there would see. Changes nothing. NaN while TAINTED at that time.

        ValueError: before the last event.
        """
        if self._last is None:
            return (math.nan, math.nan) if self._gap else self._pair(self._mu)
        if exchange_ns < self._last[0]:
            raise ValueError(f"exchange_ns: {exchange_ns} is before the last event, at {self._last[0]}")
        if not self._warm(exchange_ns):
            return (math.nan, math.nan)
        return self._pair(self._mu + np.sum(self._alpha * self._waited(exchange_ns), axis=1))

    @staticmethod
    def _pair(values: _Floats) -> tuple[float, float]:
        first, second = values.tolist()
        return first, second

    def _warm(self, exchange_ns: int) -> bool:
        return not self._gap or exchange_ns - self._first_ns >= self._memory_ns

    def _waited(self, exchange_ns: int) -> _Floats:
        """The excitations at a later time."""
        assert self._last is not None
        last_ns, marks = self._last
        if exchange_ns == last_ns:
            return self._excitation
        fresh = np.array([kind in marks for kind in (0, 1)], np.float64)
        waited: _Floats = np.exp(-(self._beta * NS * (exchange_ns - last_ns))) * (self._excitation + fresh)
        return waited

    def update_many(
        self, exchange_ns: NDArray[np.int64], mark: NDArray[np.uint8], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[2, n] and uint8[n]. A refusal changes nothing."""
        stamps, kinds = _columns(exchange_ns, mark)
        marks = restarts(restart, len(stamps), "exchange_ns")
        seen = _distinct(stamps, kinds, marks, self._last)
        values, validity = np.zeros((2, len(stamps))), np.full(len(stamps), Validity.VALID, np.uint8)
        for row, (stamp, begun, last) in enumerate(zip(stamps.tolist(), marks.tolist(), seen, strict=True)):
            if begun != Restart.NONE:
                self._begin(begun)
            if self._last is None:
                self._first_ns = stamp
            else:
                self._excitation = self._waited(stamp)
            self._last = last
            self._gap = not self._warm(stamp)
            values[:, row] = math.nan if self._gap else self._mu + np.sum(self._alpha * self._excitation, axis=1)
            validity[row] = Validity.TAINTED if self._gap else Validity.VALID
        if len(stamps):
            self.value, self.validity = self._pair(values[:, -1]), int(validity[-1])
        return values, validity

    def reset(self) -> None:
        """Begin anew, without events: session start, trial match → continuous, halt."""
        self._begin(Restart.RESET)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until their excitation has died out."""
        self._begin(Restart.TAINT)


class _Path:
    """What decays along a path, by gaps: gap n lies after event n, the last one until the end."""

    def __init__(self, beta: _Floats, stamps: NDArray[np.int64], marks: NDArray[np.uint8], end_ns: int) -> None:
        rest = [end_ns - stamp for stamp in stamps[-1:].tolist()]
        waits = np.append(elapsed(stamps), np.array(rest, np.uint64)).astype(np.float64)
        self.seconds = waits * NS
        rates = -(beta[:, :, None] * NS * waits)
        left, lost = np.exp(rates), -np.expm1(rates)
        self.excitation = np.zeros((2, 2, len(stamps)))  # just before every event
        self.aged = np.zeros((2, 2, len(stamps)))  # Σ (t − tⱼ) e^{−β(t−tⱼ)}: minus its derivative by β
        self.gone = np.zeros((2, 2, len(stamps)))  # what went of it in the gap after
        excitation: _Floats = np.zeros((2, 2))
        aged: _Floats = np.zeros((2, 2))
        fresh = np.zeros(2)
        for row, mark in enumerate(marks.tolist()):
            self.excitation[:, :, row], self.aged[:, :, row] = excitation, aged
            fresh[mark] = 1
            if waits[row] == 0:
                continue  # the next has the same stamp: neither excites the other
            after = excitation + fresh
            self.gone[:, :, row] = after * lost[:, :, row]
            aged = left[:, :, row] * (aged + self.seconds[row] * after)
            excitation = left[:, :, row] * after
            fresh = np.zeros(2)
        self.aged_at_end = aged


def _matrix(argument: str, given: ArrayLike) -> _Floats:
    return _numbers(argument, given, (2, 2), "2 × 2 numbers")


def _numbers(argument: str, given: ArrayLike, shape: tuple[int, ...], what: str) -> _Floats:
    try:
        numbers = np.array(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}: must be {what}") from error
    if numbers.shape != shape:
        raise ValueError(f"{argument}: must be {what}")
    return numbers


def _check(alpha: _Floats, beta: _Floats) -> None:
    for jump, decay in zip(alpha.flat, beta.flat, strict=True):
        rate_or_none("alpha", jump)
        rate("beta", decay)


def _rates(mu: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> tuple[_Floats, _Floats, _Floats]:
    base, jump, decay = _numbers("mu", mu, (2,), "2 numbers"), _matrix("alpha", alpha), _matrix("beta", beta)
    for value in base:
        rate("mu", value)
    _check(jump, decay)
    return base, jump, decay


def _columns(exchange_ns: Any, mark: Any) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    stamps, kinds = column("exchange_ns", exchange_ns, np.int64), column("mark", mark, np.uint8)
    same_rows([("exchange_ns", stamps), ("mark", kinds)])
    for row in np.flatnonzero(kinds > 1)[:1]:
        raise ValueError(f"mark: row {row} is {kinds[row]}, not 0 or 1")
    return stamps, kinds


def _events(exchange_ns: Any, mark: Any) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    stamps, kinds = _columns(exchange_ns, mark)
    _distinct(stamps, kinds, np.zeros(len(stamps), np.uint8), None)
    return stamps, kinds


def _distinct(
    stamps: NDArray[np.int64], kinds: NDArray[np.uint8], marks: NDArray[np.uint8], last: _Seen | None
) -> list[_Seen]:
    """Refuses stamps that go back, and two events of one stamp and mark. Which marks each stamp has had so far."""
    seen = []
    for row, (stamp, kind, begun) in enumerate(zip(stamps.tolist(), kinds.tolist(), marks.tolist(), strict=True)):
        if begun != Restart.NONE or last is None:
            last = (stamp, frozenset())
        if stamp < last[0]:
            raise ValueError(f"exchange_ns: goes back at row {row}")
        before = last[1] if stamp == last[0] else frozenset[int]()
        if kind in before:
            raise ValueError(
                f"exchange_ns: row {row} has stamp and mark of an event before it: merge such prints "
                "(distinct_marked_stamps)"
            )
        last = (stamp, before | {kind})
        seen.append(last)
    return seen
