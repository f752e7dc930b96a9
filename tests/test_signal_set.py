"""SignalSet: every signal of every instrument, one call an event; kernel and reference say the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ns, outage, records, trade
from signal_columns import assert_same

from rust_indicators import SignalSet, Validity, _rust, record_layout
from rust_indicators.reference import records as fields
from rust_indicators.reference import signal_set as reference
from shijim_live import events
from shijim_live.events import Book, BrokerClass, Event, Exchange, Flag, Kind, Lane, Trade

TICK_E6 = 1_000_000
SECOND_NS = 1_000_000_000
OPEN_NS = ns("2026-04-09 08:45:00")
RECORD = events.RECORD_BYTES
# Small enough that a few dozen events fill every window.
SMALL = {
    "window_ns": 2 * SECOND_NS, "warm_up_windows": 3, "vpin_bucket_volume": 5, "vpin_buckets": 2, "impact_windows": 3,
    "roll_trades": 4, "hawkes": ((0.5, 0.4), ((0.6, 0.2), (0.1, 0.5)), ((2.0, 3.0), (1.5, 2.5))),
}  # fmt: skip


def book(code: str, exchange_ns: int, bid: int, ask: int, **changed: object) -> Book:
    """A book around two touch prices in ticks; 0 leaves a side empty."""

    def side(best: int, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if best == 0:
            return (events.EMPTY_PRICE_E6,) * 5, (0,) * 5
        return tuple((best + step * level) * TICK_E6 for level in range(5)), tuple(3 + level for level in range(5))

    (bids, bid_volume), (asks, ask_volume) = side(bid, -1), side(ask, 1)
    known: dict[str, object] = {
        "code": code, "exchange_ns": exchange_ns, "received_ns": exchange_ns + 5_000_000, "lane": Lane.BOARD,
        "exchange": Exchange.TAIFEX, "broker_class": BrokerClass.BIDASK_FOP_V1, "bid_price_e6": bids,
        "bid_volume": bid_volume, "ask_price_e6": asks, "ask_volume": ask_volume,
    }  # fmt: skip
    return Book(**(known | changed))  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """A few instruments through two sessions: gaps, repeats, halts, trials, odd lots, late and absurd stamps."""
    codes = ("TXFD6", "MXFD6", "2330")
    clock = dict.fromkeys(codes, OPEN_NS)
    total = dict.fromkeys(codes, 0)
    made: list[Event] = []
    for _ in range(draw(st.integers(1, 60))):
        code = draw(st.sampled_from(codes))
        step = draw(st.sampled_from((0, 0, 1, 500_000_000, SECOND_NS, 7 * SECOND_NS, -SECOND_NS, -120 * SECOND_NS,
                                     6 * 3600 * SECOND_NS)))  # fmt: skip
        clock[code] += step
        what = draw(st.sampled_from("bbbbttttttxrosh"))
        of = {"exchange": Exchange.TSE if code == "2330" else Exchange.TAIFEX,
              "broker_class": int(BrokerClass.TICK_STK_V1 if code == "2330" else BrokerClass.TICK_FOP_V1)}  # fmt: skip
        bid = draw(st.sampled_from((0, 98, 99, 100)))
        ask = draw(st.sampled_from((0, 99, 100, 101, 102)))
        if what == "b":
            made.append(book(code, clock[code], bid, ask, **of))
        elif what == "t":
            volume = draw(st.integers(1, 9))
            total[code] += volume + draw(st.sampled_from((0, 0, 0, 0, 2)))  # two lots nobody saw
            made.append(trade(code, clock[code], volume, total[code], side=draw(st.integers(0, 2)),
                              price_e6=draw(st.integers(98, 102)) * TICK_E6, **of))  # fmt: skip
        elif what == "x":
            made.append(outage("2026-04-09 09:00:00", "2026-04-09 09:00:01", "broker connection lost"))
        elif what == "r" and made:
            made.append(made[draw(st.integers(max(0, len(made) - 3), len(made) - 1))])
        elif what in "osh":
            lane = {"o": Lane.ODD, "s": Lane.TRIAL, "h": Lane.BOARD}[what]
            flags = Flag.SUSPEND if what == "h" else 0
            made.append(book(code, clock[code], bid, ask, **(of | {"lane": lane, "flags": flags})))
    return made


@given(streams(), st.data())
def test_kernel_and_reference_say_the_same_after_every_event(made: list[Event], data: st.DataObject) -> None:
    blob = records(made)
    theirs = reference.SignalSet(**SMALL).update_many(blob)
    for one, other, relative in zip(SignalSet(**SMALL).update_many(blob), theirs, (0, 1e-12, 0), strict=True):
        assert_same(one, other, relative)
    cut = data.draw(st.integers(0, len(made))) * RECORD
    halves = SignalSet(**SMALL)
    parts = [halves.update_many(part) for part in (blob[:cut], blob[cut:])]
    for whole, first, second in zip(SignalSet(**SMALL).update_many(blob), *parts, strict=True):
        assert_same(np.concatenate((first, second)), whole)


@given(streams())
def test_one_record_at_a_time_and_without_output_end_in_the_same_values(made: list[Event]) -> None:
    blob = records(made)
    one, many, quiet = (SignalSet(**SMALL) for _ in range(3))
    places = [one.update(blob[at : at + RECORD]) for at in range(0, len(blob), RECORD)]
    expected, _, _ = many.update_many(blob)
    assert places == expected.tolist()
    assert quiet.advance(blob) == int((expected >= 0).sum())
    assert one.codes == many.codes == quiet.codes
    for code in one.codes:
        np.testing.assert_equal(one.values(code), many.values(code))
        np.testing.assert_equal(one.values(code), quiet.values(code))
        assert one.validity(code) == many.validity(code) == quiet.validity(code)


@given(streams())
def test_interleaved_instruments_do_not_touch_each_other(made: list[Event]) -> None:
    together = SignalSet(**SMALL)
    places, values, validity = together.update_many(records(made))
    for place, code in enumerate(together.codes):
        mine = [at for at, event in enumerate(made) if event.code in ("", code)]  # an outage is everybody's
        alone = SignalSet(**SMALL).update_many(records([made[at] for at in mine]))
        of_code = [at for at in mine if made[at].code]
        seen = [at for at, event in enumerate([made[at] for at in mine]) if event.code]
        assert_same(places[of_code] == place, alone[0][seen] >= 0)
        assert_same(values[of_code], alone[1][seen])
        assert_same(validity[of_code], alone[2][seen])


@given(streams())
def test_a_value_that_is_not_valid_is_nan_and_a_valid_one_is_not(made: list[Event]) -> None:
    places, values, validity = SignalSet(**SMALL).update_many(records(made))
    valid = validity[places >= 0] == Validity.VALID
    assert_same(~np.isnan(values[places >= 0]), valid)


def busy(seconds: Iterable[int], code: str = "TXFD6", total: int = 0) -> list[Event]:
    """A book and a trade each second: the bid side grows and buyers trade."""
    made: list[Event] = []
    for second in seconds:
        at = OPEN_NS + second * SECOND_NS
        made.append(book(code, at, 100 + second % 3, 102 + second % 3))
        volume = 2 + second % 5
        total += volume
        made.append(trade(code, at + 1, volume, total, price_e6=(101 + second % 2) * TICK_E6, side=1 + second % 2))
    return made


def validities(signals: SignalSet, code: str = "TXFD6") -> set[int]:
    warm = dict(signals.validity(code))
    del warm["micro_price"]  # no table was given
    return set(warm.values())


@pytest.mark.parametrize("backend", [_rust, reference])
def test_all_signals_warm_up_and_a_gap_taints_them_until_they_are_warm_again(backend: object) -> None:
    signals = backend.SignalSet(**SMALL)  # type: ignore[attr-defined]
    first = busy(range(40))
    signals.advance(records(first[:2]))
    assert Validity.WARMING_UP in validities(signals) and Validity.TAINTED not in validities(signals)
    signals.advance(records(first[2:]))
    assert validities(signals) == {Validity.VALID}
    total = first[-1].total_volume + 1 + 5  # five lots are missing
    signals.advance(records([trade("TXFD6", OPEN_NS + 41 * SECOND_NS, 1, total)]))
    assert validities(signals) == {Validity.TAINTED}
    then = busy(range(50, 90), total=total)
    signals.advance(records(then[:6]))
    assert Validity.TAINTED in validities(signals) and Validity.WARMING_UP not in validities(signals)
    signals.advance(records(then[6:]))
    assert validities(signals) == {Validity.VALID}


def test_what_restarts_and_what_taints() -> None:
    warm = busy(range(40))
    after = OPEN_NS + 41 * SECOND_NS
    fresh = book("TXFD6", after, 100, 102)
    night = replace(fresh, exchange_ns=ns("2026-04-09 15:00:00"))
    halted = replace(fresh, flags=int(Flag.SUSPEND))
    trial = replace(fresh, lane=int(Lane.TRIAL))
    late = replace(fresh, exchange_ns=after - 10 * SECOND_NS)
    absurd = replace(fresh, exchange_ns=after - 100 * SECOND_NS)
    start = events.Status(kind=Kind.START, received_ns=after)
    table: list[tuple[list[Event], int]] = [
        ([fresh], Validity.VALID),
        ([night], Validity.WARMING_UP),
        ([halted, fresh], Validity.WARMING_UP),
        ([trial, fresh], Validity.WARMING_UP),
        ([late], Validity.VALID),  # not fed
        ([absurd], Validity.TAINTED),
        ([outage("2026-04-09 09:00:00", "2026-04-09 09:00:05", "broker connection lost"), fresh], Validity.TAINTED),
        ([start, fresh], Validity.TAINTED),
        ([replace(fresh, lane=int(Lane.ODD))], Validity.VALID),  # not fed
        ([replace(fresh, flags=int(Flag.SUSPECT), exchange_ns=1)], Validity.VALID),  # not fed
    ]
    for given_events, expected in table:
        for backend in (_rust, reference):
            signals = backend.SignalSet(**SMALL)
            signals.advance(records([*warm, *given_events]))
            assert signals.validity("TXFD6")["vpin"] == expected, (backend, given_events)


def test_a_missed_range_taints_every_instrument() -> None:
    signals = SignalSet(**SMALL)
    signals.advance(records([*busy(range(40)), *busy(range(40), code="MXFD6")]))
    signals.missed()
    assert validities(signals) == validities(signals, "MXFD6") == {Validity.TAINTED}


def test_a_repeated_trade_is_counted_once_and_totals_may_be_absent() -> None:
    made = busy(range(40))
    twice = [again for event in made for again in ([event, event] if isinstance(event, Trade) else [event])]
    without = [replace(event, total_volume=events.ABSENT_U32) if isinstance(event, Trade) else event for event in made]
    expected = SignalSet(**SMALL)
    expected.advance(records(made))
    for other in (twice, without):
        signals = SignalSet(**SMALL)
        signals.advance(records(other))
        assert signals.values("TXFD6")["vpin"] == expected.values("TXFD6")["vpin"]
        assert signals.values("TXFD6")["trade_imbalance"] == expected.values("TXFD6")["trade_imbalance"]


def test_windows_sum_what_lies_between_their_edges_and_the_first_partial_one_is_not_shown() -> None:
    signals = SignalSet(**SMALL)
    made = [event for event in busy(range(1, 30)) if isinstance(event, Book)]
    _, values, validity = signals.update_many(records(made))
    flow, window = values[:, SignalSet.names.index("ofi")], values[:, SignalSet.names.index("ofi_window")]
    stamps = np.array([event.exchange_ns for event in made])
    edges = np.arange(OPEN_NS, OPEN_NS + 30 * SECOND_NS, SMALL["window_ns"])
    shown = validity[:, SignalSet.names.index("ofi_window")] == Validity.VALID
    assert stamps[shown][0] == OPEN_NS + 5 * SECOND_NS  # (2, 4] is the first whole one
    for begin, end in pairwise(edges[1:]):
        inside = (stamps > begin) & (stamps <= end)
        after = np.flatnonzero(stamps > end)
        if len(after):
            assert window[after[0]] == flow[inside].sum()


def test_parameters_of_one_code_are_its_own() -> None:
    signals = SignalSet(tick_size_e6=TICK_E6)
    signals.add("TXFD6", tick_size_e6=2 * TICK_E6)
    signals.advance(records([book("TXFD6", OPEN_NS, 100, 104), book("MXFD6", OPEN_NS, 100, 104)]))
    assert signals.values("TXFD6")["spread_ticks"] == 2 and signals.values("MXFD6")["spread_ticks"] == 4
    with pytest.raises(ValueError, match="code: has had events already"):
        signals.add("MXFD6")


def test_a_market_order_at_price_0_has_no_place_in_the_book() -> None:
    whole = book("2330", OPEN_NS, 100, 102)
    queued = replace(whole, bid_price_e6=(0, *whole.bid_price_e6[:4]), bid_volume=(9, *whole.bid_volume[:4]))
    for backend in (_rust, reference):
        signals = backend.SignalSet()
        signals.advance(records([queued]))
        assert signals.validity("2330")["mid"] == Validity.UNDEFINED and math.isnan(signals.values("2330")["mid"])


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"tick_size_e6": 0}, "tick_size_e6"),
        ({"window_ns": 0}, "window_ns"),
        ({"window_ns": 10**15}, "window_ns"),
        ({"warm_up_windows": 0}, "warm_up"),
        ({"vpin_bucket_volume": -1}, "bucket_volume"),
        ({"vpin_buckets": 0}, "buckets"),
        ({"impact_windows": 0}, "windows"),
        ({"roll_trades": 0}, "trades"),
        ({"fair_price_q": -1.0}, "q"),
        ({"hawkes": ((0.0, 1.0), ((1.0, 1.0), (1.0, 1.0)), ((1.0, 1.0), (1.0, 1.0)))}, "mu"),
        ({"micro_price": np.zeros((0, 3))}, "table"),
    ],
)
@pytest.mark.parametrize("backend", [_rust, reference])
def test_a_parameter_that_cannot_be_is_refused_by_name(
    backend: object, parameters: dict[str, object], name: str
) -> None:
    for make in (backend.SignalSet, lambda **given: backend.SignalSet().add("TXFD6", **given)):  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match=name):
            make(**parameters)


@pytest.mark.parametrize("backend", [_rust, reference])
def test_bytes_that_are_no_whole_records_are_refused(backend: object) -> None:
    signals = backend.SignalSet()  # type: ignore[attr-defined]
    for take in (signals.update, signals.advance, signals.update_many):
        with pytest.raises(ValueError, match="records: 255 bytes are no whole records"):
            take(bytes(255))
    assert signals.update(bytes(256)) == -1  # no kind of ours
    with pytest.raises(KeyError):
        signals.values("TXFD6")


def test_the_reference_reads_the_fields_where_the_log_puts_them() -> None:
    places = {(group, name): (offset, size) for group, name, offset, size in record_layout()}
    for name, kind, offset in fields.FIELDS:
        group = next(group for group in ("header", "trade", "book") if (group, name) in places)
        assert offset - (0 if group == "header" else 56) == places[group, name][0], name
        assert np.dtype(kind).itemsize == places[group, name][1], name
    assert (fields.TRADE, fields.BOOK, fields.START, fields.OUTAGE) == (Kind.TRADE, Kind.BOOK, Kind.START, Kind.OUTAGE)
    assert (fields.BOARD, fields.ODD) == (Lane.BOARD, Lane.ODD)
    assert (fields.SUSPEND, fields.SUSPECT) == (Flag.SUSPEND, Flag.SUSPECT)
    assert (fields.ABSENT_I64, fields.ABSENT_U32) == (events.ABSENT_I64, events.ABSENT_U32)
    assert (Exchange.TAIFEX, Exchange.TIM) == fields.FUTURES_EXCHANGES
    assert (BrokerClass.TICK_FOP_V1, BrokerClass.BIDASK_FOP_V1) == fields.FUTURES_CLASSES


def test_every_signal_of_the_set_has_the_same_name_in_both() -> None:
    assert tuple(SignalSet.names) == reference.NAMES
