"""Intensity of events that excite each other, exponential kernel. Not the fit (calibrate_hawkes.py); two kinds of
events are in hawkes_bivariate.py.
"""

from __future__ import annotations

import math
import numbers

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.columns import column, restarts, sorted_stamps
from rust_indicators.validity import Restart, Validity

__all__ = [
    "Hawkes",
    "branching_ratio",
    "distinct_stamps",
    "hawkes_gradient",
    "hawkes_intensity",
    "hawkes_log_likelihood",
    "hawkes_residuals",
]

NS = 1e-9  # seconds
SECOND_NS = 1_000_000_000
RATE_MIN, RATE_MAX = 1e-30, 1e30  # 1/s: beyond them nothing on a clock of nanoseconds, within them no overflow
MEMORY_DECAYS = 10.0  # after a gap, until the missing events weigh e⁻¹⁰ of an excitation or less
INT64_MIN = -(2**63)


def hawkes_intensity(
    exchange_ns: NDArray[np.int64],
    mu: float,
    alpha: float,
    beta: float,
    *,
    restart: NDArray[np.uint8] | None = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Intensity λ(tᵢ−) = μ + α Σ e^{−β(tᵢ−tⱼ)} over the events j before event i, in 1/s.

    `exchange_ns`: int64[n], strictly increasing (except across a mark): merge prints with the same stamp first, with
    `distinct_stamps`. `mu`, `beta` within 1e-30 … 1e30 1/s, `alpha` too or 0. `restart`: marks of `Restart` before
    each row. Returns float64[n], or `out`: μ in row 0 and after a reset, where the process begins without events; NaN
    after a taint, until the events since then span 10/β. ValueError names the argument.
    Source: Hawkes (1971), Biometrika 58(1) 83–90; recursion of Ogata (1981), IEEE Trans. Inf. Theory 27(1) 23–31.
    """
    state, stamps = Hawkes(mu, alpha, beta), column("exchange_ns", exchange_ns, np.int64)
    if out is not None:
        if not isinstance(out, np.ndarray) or out.dtype != np.float64 or out.ndim != 1:
            column("out", out, np.float64)
        if len(out) != len(stamps) or not out.flags.c_contiguous:
            raise ValueError(f"out: must be contiguous, with {len(stamps)} rows")
    values, _ = state.update_many(stamps, restart=restart)
    if out is None:
        return values
    out[:] = values
    return out


def hawkes_log_likelihood(
    exchange_ns: NDArray[np.int64], mu: float, alpha: float, beta: float, start_ns: int, end_ns: int
) -> float:
    """log L = Σ log λ(tᵢ−) − μT − (α/β) Σ (1 − e^{−β(end−tᵢ)}) of the events within start … end, T apart.

    Stamps and rates as for `hawkes_intensity`; no events before `start_ns`. ValueError: an event outside of the
    window, or `end_ns` not after `start_ns`. Source: Ozaki (1979), Ann. Inst. Statist. Math. 31 145–155.
    """
    stamps, seconds = _window(exchange_ns, mu, alpha, beta, start_ns, end_ns)
    if not len(stamps):
        return -mu * seconds
    excitation = _excitations(_decays(stamps, beta))
    waits = np.append(elapsed(stamps), np.uint64(end_ns - int(stamps[-1]))).astype(np.float64)
    # 1 − e^{−β(end−tᵢ)} over all i, told gap by gap: what is left of the excitation is not lost to rounding.
    gone = np.sum((1 + excitation) * -np.expm1(-(beta * NS * waits)))
    log_likelihood: np.float64 = np.sum(np.log(mu + alpha * excitation)) - mu * seconds - alpha / beta * gone
    return log_likelihood.item()


def hawkes_gradient(
    exchange_ns: NDArray[np.int64], mu: float, alpha: float, beta: float, start_ns: int, end_ns: int
) -> tuple[float, float, float]:
    """Derivatives of `hawkes_log_likelihood` by μ, α and β; for a fit."""
    stamps, seconds = _window(exchange_ns, mu, alpha, beta, start_ns, end_ns)
    if not len(stamps):
        return -seconds, 0.0, 0.0
    waits = np.append(elapsed(stamps), np.uint64(end_ns - int(stamps[-1]))).astype(np.float64)
    left = np.exp(-(beta * NS * waits))
    excitation = _excitations(left)  # one more than events: the last is that at the end
    aged, ages = 0.0, [0.0]  # Σ (t − tⱼ) e^{−β(t−tⱼ)}: minus the derivative of the excitation by β
    for decay, seconds_waited, before in zip(left.tolist(), (waits * NS).tolist(), excitation.tolist(), strict=False):
        aged = decay * (aged + seconds_waited * (1 + before))
        ages.append(aged)
    events = excitation[:-1]
    gone = np.sum((1 + events) * -np.expm1(-(beta * NS * waits)))
    per_intensity = 1 / (mu + alpha * events)
    by_mu = np.sum(per_intensity) - seconds
    by_alpha = np.sum(events * per_intensity) - gone / beta
    by_beta = -alpha * np.sum(np.array(ages[:-1]) * per_intensity) + alpha / beta * (gone / beta - aged)
    return by_mu.item(), by_alpha.item(), by_beta.item()


def hawkes_residuals(exchange_ns: NDArray[np.int64], mu: float, alpha: float, beta: float) -> NDArray[np.float64]:
    """Λ(tᵢ) − Λ(tᵢ₋₁), the integral of λ between neighbours: float64[n − 1], of every event but the first.

    They are independent and Exp(1) if the events came with this intensity. Stamps and rates as for
    `hawkes_intensity`. Source: Ogata (1988), JASA 83(401) 9–27.
    """
    rates(mu, alpha, beta)
    stamps = rising(column("exchange_ns", exchange_ns, np.int64))
    if not len(stamps):
        return np.zeros(0)
    waits = elapsed(stamps).astype(np.float64)
    excitation = _excitations(_decays(stamps, beta))[:-1]
    integrals: NDArray[np.float64] = mu * (waits * NS) + alpha / beta * (
        (1 + excitation) * -np.expm1(-(beta * NS * waits))
    )
    return integrals


def branching_ratio(alpha: float, beta: float) -> float:
    """n = α/β: events one event brings about, directly. Below 1 the process does not explode."""
    return rate_or_none("alpha", alpha) / rate("beta", beta)


def distinct_stamps(exchange_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The stamps without those equal to the one before: prints of one time as one event. ValueError: they go back."""
    stamps = column("exchange_ns", exchange_ns, np.int64)
    sorted_stamps("exchange_ns", stamps)
    return np.unique(stamps)


class Hawkes:
    """Streaming `hawkes_intensity`: the excitation at the last event is all it remembers.

    `value`: λ just before the last event, in 1/s. It is valid from the first event on, for the process begins without
    any; after `taint` not until the events since then span 10/β (what is missing weighs e⁻¹⁰ of an excitation).
    """

    def __init__(self, mu: float, alpha: float, beta: float) -> None:
        rates(mu, alpha, beta)
        self._rates = (mu, alpha, beta)
        self._memory_ns = memory_ns(beta)
        self._begin(Restart.RESET)

    def _begin(self, mark: int) -> None:
        self._gap = mark == Restart.TAINT
        self._first_ns = 0
        self._last_ns: int | None = None
        self._excitation = 0.0
        self.value: float = math.nan
        self.validity: int = Validity.TAINTED if self._gap else Validity.WARMING_UP

    def update(self, exchange_ns: int, /) -> float:
        """λ just before this event; NaN while TAINTED. ValueError: not later than the last event."""
        values, _ = self.update_many(np.array([exchange_ns], np.int64))
        value: np.float64 = values[0]
        return value.item()

    def intensity_at(self, exchange_ns: int, /) -> float:
        """λ just before a time: what an event there would see. Changes nothing. NaN while TAINTED at that time.

        ValueError: before the last event.
        """
        mu, alpha, beta = self._rates
        if self._last_ns is None:
            return math.nan if self._gap else mu
        if exchange_ns < self._last_ns:
            raise ValueError(f"exchange_ns: {exchange_ns} is before the last event, at {self._last_ns}")
        if not self._warm(exchange_ns):
            return math.nan
        if exchange_ns == self._last_ns:
            return mu + alpha * self._excitation
        return mu + alpha * (math.exp(-(beta * NS * (exchange_ns - self._last_ns))) * (1 + self._excitation))

    def _warm(self, exchange_ns: int) -> bool:
        return not self._gap or exchange_ns - self._first_ns >= self._memory_ns

    def update_many(
        self, exchange_ns: NDArray[np.int64], *, restart: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for every row: (values, validity), float64[n] and uint8[n]. A refusal leaves the state as it was."""
        stamps = column("exchange_ns", exchange_ns, np.int64)
        marks = restarts(restart, len(stamps), "exchange_ns")
        rising(stamps, marks, self._last_ns)
        mu, alpha, beta = self._rates
        left = np.append(1.0, _decays(stamps, beta)).tolist()
        values, validity = np.zeros(len(stamps)), np.full(len(stamps), Validity.VALID, np.uint8)
        for row, (stamp, mark) in enumerate(zip(stamps.tolist(), marks.tolist(), strict=True)):
            if mark != Restart.NONE:
                self._begin(mark)
            if self._last_ns is None:
                self._first_ns = stamp
            else:
                decay = left[row] if row else math.exp(-(beta * NS * (stamp - self._last_ns)))
                self._excitation = decay * (1 + self._excitation)
            self._last_ns = stamp
            self._gap = not self._warm(stamp)
            values[row] = math.nan if self._gap else mu + alpha * self._excitation
            validity[row] = Validity.TAINTED if self._gap else Validity.VALID
        if len(stamps):
            self.value, self.validity = values[-1].item(), int(validity[-1])
        return values, validity

    def reset(self) -> None:
        """Begin anew, without events: session start, trial match → continuous, halt."""
        self._begin(Restart.RESET)

    def taint(self) -> None:
        """Begin anew because events are missing; TAINTED until their excitation has died out."""
        self._begin(Restart.TAINT)


def rate(argument: str, value: float) -> float:
    """A number within RATE_MIN … RATE_MAX."""
    if not (isinstance(value, numbers.Real) and RATE_MIN <= value <= RATE_MAX):
        raise ValueError(f"{argument}: {value} is not within 1e-30 … 1e30 per second")
    return value


def rate_or_none(argument: str, value: float) -> float:
    """`rate`, or 0: no excitation."""
    return 0.0 if isinstance(value, numbers.Real) and value == 0 else rate(argument, value)


def rates(mu: float, alpha: float, beta: float) -> None:
    """Refuses what cannot be the rates of a process."""
    rate("mu", mu)
    rate_or_none("alpha", alpha)
    rate("beta", beta)


def memory_ns(beta: float) -> int:
    """After how long what happened before no longer matters."""
    return min(math.ceil(MEMORY_DECAYS * SECOND_NS / beta), 2**64 - 1)


def elapsed(stamps: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Nanoseconds from each stamp to the next; those of int64 may be 2⁶⁴ apart."""
    return np.diff(stamps.view(np.uint64))


def rising(
    stamps: NDArray[np.int64], marks: NDArray[np.uint8] | None = None, last_ns: int | None = None
) -> NDArray[np.int64]:
    """Refuses stamps that do not rise; after a mark they may begin anywhere."""
    before = np.append(np.int64(INT64_MIN if last_ns is None else last_ns), stamps[:-1])
    stuck = stamps <= before
    stuck[:1] &= last_ns is not None
    if marks is not None:
        stuck &= marks == Restart.NONE
    for row in np.flatnonzero(stuck)[:1].tolist():
        if stamps[row] == before[row]:
            raise ValueError(
                f"exchange_ns: row {row} has the stamp of the event before it: merge prints with the same stamp "
                "(distinct_stamps)"
            )
        raise ValueError(f"exchange_ns: goes back at row {row}")
    return stamps


def window(stamps: NDArray[np.int64], start_ns: int, end_ns: int) -> float:
    """Refuses events outside of the window, and a window without a length. Returns its seconds."""
    if start_ns >= end_ns:
        raise ValueError(f"end_ns: {end_ns} is not after start_ns, {start_ns}")
    if len(stamps) and stamps[0] < start_ns:
        raise ValueError(f"start_ns: {start_ns} is after the first event, at {stamps[0]}")
    if len(stamps) and stamps[-1] > end_ns:
        raise ValueError(f"end_ns: {end_ns} is before the last event, at {stamps[-1]}")
    return (end_ns - start_ns) * NS


def _window(
    exchange_ns: NDArray[np.int64], mu: float, alpha: float, beta: float, start_ns: int, end_ns: int
) -> tuple[NDArray[np.int64], float]:
    rates(mu, alpha, beta)
    stamps = rising(column("exchange_ns", exchange_ns, np.int64))
    return stamps, window(stamps, start_ns, end_ns)


def _decays(stamps: NDArray[np.int64], beta: float) -> NDArray[np.float64]:
    left: NDArray[np.float64] = np.exp(-(beta * NS * elapsed(stamps)))
    return left


def _excitations(left: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rᵢ = e^{−βΔtᵢ} (1 + Rᵢ₋₁), R₀ = 0: one more than decays."""
    excitation, excitations = 0.0, [0.0]
    for decay in left.tolist():
        excitation = decay * (1 + excitation)
        excitations.append(excitation)
    return np.array(excitations)
