"""Every live signal of every instrument in one object: one call an event, whatever its symbol. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rust_indicators.reference.admission import Admission, Admitted
from rust_indicators.reference.book import BookState
from rust_indicators.reference.columns import EMPTY_PRICE_E6
from rust_indicators.reference.flow import Mlofi
from rust_indicators.reference.hawkes_bivariate import BivariateHawkes
from rust_indicators.reference.impact import Amihud, KyleLambda, Roll
from rust_indicators.reference.integrated import IntegratedOfi
from rust_indicators.reference.kalman import LocalLevel
from rust_indicators.reference.microprice import MicroPrice
from rust_indicators.reference.records import ABSENT_U32, BOOK, OUTAGE, START, TRADE, RecordView, views
from rust_indicators.reference.toxicity import Vpin
from rust_indicators.reference.windows import normalised
from rust_indicators.validity import Validity

__all__ = ["SignalSet"]

LEVELS = 5
SECOND_NS = 1_000_000_000
INSTRUMENTS_MAX = 1 << 16
WINDOW_NS_MAX = 3_600 * SECOND_NS
EMPTY_WINDOWS_MAX = 1_000  # told to Kyle's λ after a silence: more say nothing new
NAMES = (
    "mid", "spread_ticks", "weighted_mid", "micro_price", "queue_imbalance", "depth_imbalance", "depth_ratio",
    "book_slope", "ofi", "ofi_window", "ofi_integrated", "trade_imbalance", "vpin", "hawkes_buy", "hawkes_sell",
    "kyle_lambda", "amihud", "roll_spread", "fair_price",
)  # fmt: skip
HawkesParameters = tuple[Sequence[float], Sequence[Sequence[float]], Sequence[Sequence[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What the signals of an instrument need to know; see `SignalSet`."""

    tick_size_e6: int = 1_000_000
    window_ns: int = 10 * SECOND_NS
    warm_up_windows: int = 60
    vpin_bucket_volume: int = 1_000
    vpin_buckets: int = 50
    impact_windows: int = 180
    roll_trades: int = 1_000
    fair_price_q: float = 1e12
    hawkes: HawkesParameters | None = None
    micro_price: NDArray[np.float64] | None = None


class SignalSet:
    """Every signal of every instrument: one `update` an event, of any kind and code.

    Takes 256-byte records as the ring, the log and `SegmentReader` give them. Trades and books of the board lane are
    fed; what restarts or taints the state stands in `reference/admission.py`: session start, the end of a halt or of
    trial matching, a gap in `total_volume`, an OUTAGE, a START, `missed()`.

    Parameters, of every instrument that `add` gives none of its own: `tick_size_e6` (price × 10⁶); `window_ns` of flow,
    trade imbalance and impact, (edge − window, edge] with edges at multiples of it since the epoch; `warm_up_windows`
    before integrated OFI has weights of its past; `vpin_bucket_volume` (lots) and `vpin_buckets`; `impact_windows` of
    Kyle's λ and Amihud; `roll_trades`; `fair_price_q`, (price × 10⁶)² / s; `hawkes`, (mu, alpha, beta) of buyers and
    sellers as `BivariateHawkes` takes them, without which its two are UNDEFINED; `micro_price`, the table of
    `fit_micro_price`, without which it is UNDEFINED.

    `names` says what stands where in the values; prices × 10⁶, imbalances and flow in lots, intensities in 1/s. A value
    that is not VALID is NaN. ValueError names the parameter.
    """

    names = NAMES

    def __init__(
        self,
        *,
        tick_size_e6: int = 1_000_000,
        window_ns: int = 10 * SECOND_NS,
        warm_up_windows: int = 60,
        vpin_bucket_volume: int = 1_000,
        vpin_buckets: int = 50,
        impact_windows: int = 180,
        roll_trades: int = 1_000,
        fair_price_q: float = 1e12,
        hawkes: HawkesParameters | None = None,
        micro_price: NDArray[np.float64] | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._parameters = Parameters(**given)
        _Instrument(self._parameters, futures=False)
        self._own: dict[str, Parameters] = {}
        self._places: dict[str, int] = {}
        self._instruments: list[_Instrument] = []

    def add(
        self,
        code: str,
        *,
        tick_size_e6: int = 1_000_000,
        window_ns: int = 10 * SECOND_NS,
        warm_up_windows: int = 60,
        vpin_bucket_volume: int = 1_000,
        vpin_buckets: int = 50,
        impact_windows: int = 180,
        roll_trades: int = 1_000,
        fair_price_q: float = 1e12,
        hawkes: HawkesParameters | None = None,
        micro_price: NDArray[np.float64] | None = None,
    ) -> None:
        """Parameters of one code, before its first event. ValueError afterwards, or as the constructor's."""
        given = {name: value for name, value in locals().items() if name not in ("self", "code")}
        own = Parameters(**given)
        _Instrument(own, futures=False)
        if code in self._places:
            raise ValueError("code: has had events already: its parameters stand")
        self._own[code] = own

    @property
    def codes(self) -> list[str]:
        """Codes in the order of their places: what the indices of `update_many` mean."""
        return list(self._places)

    def update(self, record: Any, /) -> int:
        """One record of 256 bytes: the place of its instrument, or −1 where no signal saw it."""
        found = list(views(record))
        if len(found) != 1:
            raise ValueError("record: update takes one, update_many takes many")
        return self._update(found[0])

    def advance(self, records: Any, /) -> int:
        """`update` for every record: how many were seen."""
        return sum(self._update(view) >= 0 for view in views(records))

    def update_many(self, records: Any, /) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.uint8]]:
        """`update` for n records: (place int32[n], values float64[n, signals], validity uint8[n, signals]).

        A row is what stands after its event; where the place is −1 values are NaN, validity 0.
        """
        seen = list(views(records))
        places = np.full(len(seen), -1, np.int32)
        values = np.full((len(seen), len(NAMES)), np.nan)
        validity = np.zeros((len(seen), len(NAMES)), np.uint8)
        for row, view in enumerate(seen):
            places[row] = place = self._update(view)
            if place >= 0:
                values[row] = self._instruments[place].values
                validity[row] = self._instruments[place].validity
        return places, values, validity

    def values(self, code: str) -> dict[str, float]:
        """What stands after the last event of a code, by name. KeyError: it had none."""
        return dict(zip(NAMES, self._instruments[self._places[code]].values.tolist(), strict=True))

    def validity(self, code: str) -> dict[str, int]:
        """What each value of `values` is worth."""
        return dict(zip(NAMES, self._instruments[self._places[code]].validity.tolist(), strict=True))

    def missed(self) -> None:
        """Events are missing, of whatever instrument: a reader was told of a miss, say."""
        for instrument in self._instruments:
            instrument.admission.forget()
            instrument.begin(tainted=True)

    def _update(self, view: RecordView) -> int:
        if view.kind in (OUTAGE, START):
            self.missed()
        if view.kind not in (TRADE, BOOK):
            return -1
        code = view.code.decode("ascii", "replace")
        place = self._places.get(code)
        if place is None:
            if len(self._instruments) == INSTRUMENTS_MAX:
                return -1
            place = self._places[code] = len(self._instruments)
            self._instruments.append(_Instrument(self._own.get(code, self._parameters), view.futures))
        instrument = self._instruments[place]
        admitted = instrument.admission.admit(view)
        if admitted is Admitted.NO:
            return -1
        instrument.feed(view, admitted)
        return place


@dataclass(slots=True)
class _Window:
    """What has happened since the last edge."""

    edge_ns: int | None = None
    whole: bool = False  # it began after the state did: nothing of it is missing
    flow: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    depth: int = 0  # Σ over books and levels of both volumes
    books: int = 0
    signed_volume: int = 0
    value_e6: int = 0
    begin_mid2_e6: int | None = None


class _Instrument:
    """One instrument's states."""

    def __init__(self, parameters: Parameters, futures: bool) -> None:
        if not 1 <= parameters.window_ns <= WINDOW_NS_MAX:
            raise ValueError(f"window_ns: {parameters.window_ns} is not within 1 ns … 1 h")
        self._parameters = parameters
        self.admission = Admission(futures)
        self.book = BookState(LEVELS, parameters.tick_size_e6)
        self.mlofi = Mlofi(LEVELS)
        self.integrated = IntegratedOfi(LEVELS, parameters.warm_up_windows)
        self.vpin = Vpin(parameters.vpin_bucket_volume, parameters.vpin_buckets)
        self.kyle = KyleLambda(parameters.impact_windows)
        self.amihud = Amihud(parameters.impact_windows)
        self.roll = Roll(parameters.roll_trades)
        self.fair = LocalLevel(parameters.fair_price_q)
        self.hawkes = None if parameters.hawkes is None else BivariateHawkes(*parameters.hawkes)
        self.micro = (
            None if parameters.micro_price is None else MicroPrice(parameters.micro_price, parameters.tick_size_e6)
        )
        self.values = np.full(len(NAMES), np.nan)
        self.validity = np.zeros(len(NAMES), np.uint8)
        self._newest_ns = -(2**63)
        self._warm, self._tainted = False, False
        self._mid2_e6: int | None = None
        self._window = _Window()
        self._prints: set[tuple[int, int]] = set()  # (stamp, side) at the newest stamp

    def begin(self, tainted: bool) -> None:
        """Everything begins anew: after a gap it says so until it is warm."""
        states = [self.mlofi, self.integrated, self.vpin, self.kyle, self.amihud, self.roll, self.fair, self.micro]
        for state in [*states, self.hawkes]:
            if state is not None:
                (state.taint if tainted else state.reset)()  # type: ignore[attr-defined]
        self._newest_ns = -(2**63)
        self._warm, self._tainted = False, tainted
        self._mid2_e6 = None
        self._window = _Window()
        self._prints = set()
        self.values[:] = np.nan
        self.validity[:] = Validity.TAINTED if tainted else Validity.WARMING_UP

    def feed(self, view: RecordView, admitted: Admitted) -> None:
        """One admitted trade or book."""
        if admitted in (Admitted.RESET, Admitted.TAINT):
            self.begin(tainted=admitted is Admitted.TAINT)
        # Books and trades are each in order; one may lag the other by a little.
        self._newest_ns = max(view.exchange_ns, self._newest_ns)
        self._pass_edges()
        if view.kind == BOOK:
            self._book(view)
        else:
            self._trade(view)

    def _set(self, name: str, value: float, validity: int) -> None:
        at = NAMES.index(name)
        self.values[at] = value if validity == Validity.VALID else np.nan
        self.validity[at] = validity

    def _pass_edges(self) -> None:
        """Closes the windows that ended before the newest stamp."""
        if self._window.edge_ns is not None and self._newest_ns <= self._window.edge_ns:
            return
        width = self._parameters.window_ns
        edge_ns = -(-self._newest_ns // width) * width
        if self._window.edge_ns is not None:
            passed = (edge_ns - self._window.edge_ns) // width
            self._close_window()
            for _ in range(min(passed - 1, EMPTY_WINDOWS_MAX)):
                self._close_window()
        self._window.edge_ns = edge_ns

    def _close_window(self) -> None:
        window, mid2_e6 = self._window, self._mid2_e6
        self._window = _Window(whole=True, begin_mid2_e6=mid2_e6)
        self._warm |= window.whole
        self._tainted &= not self._warm
        validity = Validity.VALID if self._warm else Validity.TAINTED if self._tainted else Validity.WARMING_UP
        self._set("ofi_window", int(window.flow[0]), validity)
        self._set("trade_imbalance", window.signed_volume, validity)
        if not window.whole:
            return
        self.integrated.update(normalised(window.flow.tolist(), window.depth, window.books).tolist())
        self._set("ofi_integrated", self.integrated.value, self.integrated.validity)
        if window.begin_mid2_e6 is not None and mid2_e6 is not None:
            # Twice the mid keeps the half tick an integer; the slope is of the mid.
            self.kyle.update(mid2_e6 - window.begin_mid2_e6, window.signed_volume)
            self._set("kyle_lambda", self.kyle.value / 2, self.kyle.validity)
            if mid2_e6 // 2 > 0:
                self.amihud.update(mid2_e6 // 2, window.value_e6)
                self._set("amihud", self.amihud.value, self.amihud.validity)

    def _book(self, view: RecordView) -> None:
        levels = []
        for side in ("bid", "ask"):
            prices, volumes = view.side_of_book(side)
            # A level at price 0 is a market order: it has no place in the book.
            empty = (prices == 0) | (prices == EMPTY_PRICE_E6)
            levels += [np.where(empty, EMPTY_PRICE_E6, prices), np.where(empty | (volumes == ABSENT_U32), 0, volumes)]
        book = [tuple(column.tolist()) for column in levels]
        flow = self.mlofi.update(*book)
        self._window.flow += np.array(flow, np.int64)
        self._window.depth += sum(book[1]) + sum(book[3])
        self._window.books += 1
        self._set("ofi", flow[0], self.mlofi.validity)
        self._show_book(book)

    def _show_book(self, book: list[tuple[int, ...]]) -> None:
        state = self.book
        state.update(*book)
        twice, two_sided = state.mid2_e6, state.mid2_e6 != EMPTY_PRICE_E6
        self._mid2_e6 = twice if two_sided else None
        for name in ("spread_ticks", "weighted_mid", "queue_imbalance", "depth_imbalance", "depth_ratio", "book_slope"):
            value = getattr(state, name)
            self._set(name, value, Validity.UNDEFINED if np.isnan(value) else Validity.VALID)
        self._set("mid", twice / 2, Validity.VALID if two_sided else Validity.UNDEFINED)
        best = [side[0] for side in book]
        micro = np.nan if self.micro is None else self.micro.update(*best)
        self._set("micro_price", micro, Validity.UNDEFINED if np.isnan(micro) else Validity.VALID)
        if two_sided:
            # Half the spread as deviation of an observation, half a tick where the book is locked or crossed.
            half = max(best[2] - best[0], self._parameters.tick_size_e6) / 2
            self.fair.update(self._newest_ns, twice / 2, half * half)
            self._set("fair_price", self.fair.value, self.fair.validity)

    def _trade(self, view: RecordView) -> None:
        side, volume = view.side if view.side <= 2 else 0, view.volume
        self._window.signed_volume += volume if side == 1 else -volume if side == 2 else 0
        self._window.value_e6 += view.price_e6 * volume
        self.vpin.update(side, volume)
        self._set("vpin", self.vpin.value, self.vpin.validity)
        self.roll.update(view.price_e6)
        self._set("roll_spread", self.roll.value, self.roll.validity)
        event = (self._newest_ns, side)
        # Prints of one stamp and side are one event.
        if self.hawkes is not None and side and event not in self._prints:
            self._prints = {event} | {seen for seen in self._prints if seen[0] == self._newest_ns}
            intensities = self.hawkes.update(self._newest_ns, side - 1)
            for name, intensity in zip(("hawkes_buy", "hawkes_sell"), intensities, strict=True):
                self._set(name, intensity, self.hawkes.validity)
