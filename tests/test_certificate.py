"""Certificates at their edges: what is proven, what is short, what cannot be said, and never the one for the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import ns, outage, trade, trades, write_log

from shijim_live.calendar import NotATradingDay, NotYet
from shijim_live.events import ABSENT_U32, Book, BrokerClass, Event, Exchange, Flag, Lane, Trade
from shijim_live.store.lake import Lake
from shijim_pipelines.archive import archive_all
from shijim_pipelines.proof.audit import audit_day, write_report
from shijim_pipelines.proof.certificate import (
    Certificate,
    Certificates,
    NothingToCertify,
    certify_day,
    describe,
    write_certificates,
)
from shijim_pipelines.proof.coverage import covered_by_stream, lots_within
from shijim_pipelines.proof.ledger import Change, State, advance, open_gaps, read_ledger, record_report
from shijim_pipelines.quotes import SCHEMA, write_quotes

DAY = date(2026, 4, 9)
OPEN = "2026-04-09 08:45:00"
OVER = ns("2026-04-09 18:00:00")
WHOLE = trades("TXFD6", OPEN, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1])
STOCK = {"exchange": Exchange.TSE, "broker_class": BrokerClass.TICK_STK_V1}

Totals = dict[tuple[str, str], int]


def book(code: str = "TXFD6", exchange: Exchange = Exchange.TAIFEX) -> Book:
    stamps = {"exchange_ns": ns("2026-04-09 09:00:00"), "received_ns": ns("2026-04-09 09:00:00")}
    return Book(code=code, exchange=exchange, lane=Lane.BOARD, **stamps)


def quotes(folder: Path, closing: Totals) -> None:
    rows = [
        {"code": code, "session": session, "volume": lots, "odd_shares": 0, "amount_e6": 0, "asked": "kbars"}
        for (code, session), lots in closing.items()
    ]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({"trading_day": str(DAY), "closed": ""}))
    write_quotes(table, folder / "market", DAY)


def made(
    folder: Path,
    events: Sequence[Event],
    closing: Totals | None = None,
    wanted: Sequence[str] = (),
    as_of_ns: int = OVER,
    audit: bool = True,
    **header: object,
) -> Certificates:
    if events:
        write_log(folder / "wal", events, **header)  # type: ignore[arg-type]
        archive_all(folder / "wal", folder / "archive")
    if closing is not None:
        quotes(folder, closing)
    if audit and events:
        report = audit_day(folder / "archive", folder / "wal", DAY, closing=closing, wanted=wanted, as_of_ns=as_of_ns)
        write_report(report, folder / "reports")
        record_report(report, folder / "reports", "test", 1)
    return again(folder, wanted, as_of_ns)


def again(folder: Path, wanted: Sequence[str] = (), as_of_ns: int = OVER) -> Certificates:
    return certify_day(DAY, folder / "archive", folder / "reports", folder / "market", as_of_ns, "test", wanted)


def only(certificates: Certificates) -> Certificate:
    (one,) = certificates.certificates
    return one


def test_a_session_whose_trades_reach_its_closing_total_without_a_hole_is_proven(tmp_path: Path) -> None:
    one = only(made(tmp_path, [book(), *WHOLE, WHOLE[3]], {("TXFD6", "day"): 19}))
    assert (one.verdict, one.lots, one.trades, one.closing, one.lots_missing) == ("PROVEN", 19, 10, 19, 0)
    assert (one.reasons, one.windows, one.books, one.lots_backfilled) == ((), (), "complete", 0)


def test_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    assert only(made(tmp_path, WHOLE[::-1], {("TXFD6", "day"): 19}, audit=False)).verdict == "PROVEN"


@pytest.mark.parametrize(
    ("kept", "missing"), [(WHOLE[1:], 1), (WHOLE[:9], 1), (WHOLE[:4] + WHOLE[6:], 5), (WHOLE[3:5], 16)]
)
def test_a_session_with_a_hole_is_short_of_exactly_that(tmp_path: Path, kept: list[Trade], missing: int) -> None:
    one = only(made(tmp_path, kept, {("TXFD6", "day"): 19}))
    assert (one.verdict, one.lots_missing, one.lots_elsewhere) == ("SHORT", missing, 0)
    assert sum(window.lots for window in one.windows) == missing
    assert {window.state for window in one.windows} == {"CLASSIFIED"}


def test_missing_lots_that_the_ledger_does_not_know_are_still_missing(tmp_path: Path) -> None:
    one = only(made(tmp_path, WHOLE[:4] + WHOLE[6:], {("TXFD6", "day"): 19}, audit=False))
    assert (one.verdict, one.lots_missing, one.lots_elsewhere, one.windows) == ("SHORT", 5, 5, ())


def test_a_hole_and_an_overlap_of_the_same_lots_do_not_make_a_whole(tmp_path: Path) -> None:
    """Volumes that add up to the closing total prove nothing."""
    twice = replace(WHOLE[5], price_e6=1_000_000)
    assert twice.volume == WHOLE[2].volume
    one = only(made(tmp_path, [*WHOLE[:2], *WHOLE[3:], twice], {("TXFD6", "day"): 19}))
    assert one.lots == 19 and one.verdict == "UNPROVABLE"
    assert one.reasons == ("its totals disagree with each other: lots are claimed twice",)


UNPROVABLE = {
    "no closing total": (WHOLE, {("TXFD6", "night"): 19}, "no closing total is known: run shijim quotes"),
    "below what was seen": (WHOLE, {("TXFD6", "day"): 18}, "its totals go beyond the closing total"),
    "no totals": (
        [replace(event, total_volume=ABSENT_U32) for event in WHOLE],
        {("TXFD6", "day"): 19},
        "no total_volume",
    ),
    "some totals": (
        [*WHOLE[:9], replace(WHOLE[9], total_volume=ABSENT_U32)],
        {("TXFD6", "day"): 19},
        "some of its trades",
    ),
}


@pytest.mark.parametrize("case", UNPROVABLE)
def test_what_cannot_be_proven_says_why(tmp_path: Path, case: str) -> None:
    events, closing, reason = UNPROVABLE[case]
    one = next(c for c in made(tmp_path, events, closing).certificates if c.session == "day")
    assert one.verdict == "UNPROVABLE" and one.lots_missing is None
    assert reason in "; ".join(one.reasons)


def test_without_any_quotes_nothing_is_proven(tmp_path: Path) -> None:
    assert only(made(tmp_path, WHOLE)).reasons == ("no closing total is known: run shijim quotes",)


def test_a_session_that_is_not_over_is_not_proven_whatever_its_total(tmp_path: Path) -> None:
    early = made(tmp_path, WHOLE, {("TXFD6", "day"): 19}, as_of_ns=ns("2026-04-09 13:45:30"))
    assert only(early).reasons == ("the session is not closed yet",)
    assert early.sessions_closed == ("futures-night", "stock-day")
    assert only(again(tmp_path, as_of_ns=ns("2026-04-09 13:46:00"))).verdict == "PROVEN"


def test_a_day_that_has_not_begun_a_closed_day_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="2026-04-09 has not begun"):
        again(tmp_path, as_of_ns=ns("2026-04-08 14:59:59"))
    with pytest.raises(NothingToCertify, match="nothing of trading day 2026-04-09 is archived or wanted"):
        again(tmp_path)
    with pytest.raises(NotATradingDay):
        certify_day(date(2026, 4, 11), tmp_path, tmp_path, tmp_path, OVER, "test")


def test_a_wanted_code_of_which_nothing_was_recorded_is_short_of_everything(tmp_path: Path) -> None:
    closing = {("TXFD6", "day"): 19, ("2330", "day"): 400, ("2317", "day"): 0}
    found = {c.code: c for c in made(tmp_path, WHOLE, closing, wanted=["2330", "2317", "2412"]).certificates}
    assert (found["2330"].verdict, found["2330"].lots_missing, found["2330"].books) == ("SHORT", 400, "none")
    assert [window.cause for window in found["2330"].windows] == ["absent"]
    assert found["2317"].verdict == "UNPROVABLE"
    assert "nothing was recorded of it, and nothing was traded" in found["2317"].reasons[0]
    assert found["2412"].reasons == ("no closing total is known: run shijim quotes",)


def test_a_code_that_did_not_trade_while_its_books_were_recorded_is_proven(tmp_path: Path) -> None:
    one = only(made(tmp_path, [book("2412", Exchange.TSE)], {("2412", "day"): 0}, audit=False))
    assert (one.verdict, one.lots, one.books) == ("PROVEN", 0, "complete")


def test_odd_lots_are_certified_apart_and_have_no_closing_total(tmp_path: Path) -> None:
    board = [trade("2330", ns("2026-04-09 09:00:00") + at, 2, 2 * at, **STOCK) for at in (1, 2)]  # type: ignore[arg-type]
    odd = [replace(event, lane=Lane.ODD) for event in board]
    found = {c.lane: c for c in made(tmp_path, [*board, *odd], {("2330", "day"): 4}).certificates}
    assert (found["board"].verdict, found["odd"].verdict) == ("PROVEN", "UNPROVABLE")
    assert found["odd"].reasons == ("nobody states a closing total of odd lots",)


def test_a_day_that_goes_on_from_its_night_is_measured_from_there(tmp_path: Path) -> None:
    night = trades("TXFD6", "2026-04-08 15:00:00", [5, 5])
    day = trades("TXFD6", OPEN, [1, 1], total=10)
    closing = {("TXFD6", "night"): 10, ("TXFD6", "day"): 2}
    found = {c.session: c.verdict for c in made(tmp_path, [*night, *day], closing).certificates}
    assert found == {"night": "PROVEN", "day": "PROVEN"}


def test_a_suspect_trade_covers_nothing(tmp_path: Path) -> None:
    suspect = [*WHOLE[:4], replace(WHOLE[4], flags=Flag.SUSPECT), *WHOLE[5:]]
    assert only(made(tmp_path, suspect, {("TXFD6", "day"): 19})).lots_missing == 2


def test_books_have_known_holes_where_an_outage_touches_their_session(tmp_path: Path) -> None:
    night = [replace(book(), exchange_ns=ns("2026-04-08 20:00:00"), received_ns=ns("2026-04-08 20:00:00"))]
    known = outage("2026-04-09 08:45:03.5", "2026-04-09 08:45:06.2", "recorder killed")
    events = [*night, book(), *WHOLE[:4], known, *WHOLE[6:]]
    closing = {("TXFD6", "day"): 19, ("TXFD6", "night"): 0}
    found = {c.session: c for c in made(tmp_path, events, closing).certificates}
    assert (found["day"].books, found["night"].books) == ("known_holes", "complete")
    [hole] = found["day"].book_holes
    assert (hole.cause, hole.reason, hole.start_ns) == ("outage", "recorder killed", known.begin_ns)


def test_what_was_filled_and_is_there_is_verified_and_what_is_not_is_not(tmp_path: Path) -> None:
    made(tmp_path, WHOLE[:4] + WHOLE[6:8] + WHOLE[9:], {("TXFD6", "day"): 19})
    first, second = open_gaps(tmp_path / "reports", DAY)
    both = [Change(gap.gap_id, State.BACKFILLED, {"runs": []}) for gap in (first, second)]
    advance(tmp_path / "reports", DAY, both, "test", 2)
    write_log(tmp_path / "wal", WHOLE[4:6], run_id="00000000000000cd", source="backfill", config={"fills": "simulated"})
    archive_all(tmp_path / "wal", tmp_path / "archive")
    one = only(again(tmp_path))
    assert (one.verdict, one.lots_missing, one.lots_backfilled, one.lots_elsewhere) == ("SHORT", 3, 5, 3)
    last = read_ledger(tmp_path / "reports", DAY)[-1]
    assert (last.gap_id, last.state) == (first.gap_id, State.VERIFIED)
    lines = len(read_ledger(tmp_path / "reports", DAY))
    again(tmp_path)
    assert len(read_ledger(tmp_path / "reports", DAY)) == lines


def test_the_same_inputs_give_the_same_bytes_whenever_they_are_asked(tmp_path: Path) -> None:
    first = made(tmp_path, [book(), *WHOLE[:4], *WHOLE[6:]], {("TXFD6", "day"): 19})
    path = tmp_path / "reports" / "certificates" / f"{DAY}.json"
    before = path.read_bytes()
    assert again(tmp_path, as_of_ns=OVER + 10**15) == first and path.read_bytes() == before
    assert write_certificates(first, tmp_path / "reports") == path and path.read_bytes() == before
    written = orjson.loads(before)
    assert written["summary"] == {"proven": 0, "short": 1, "unprovable": 0, "lots_missing": 5, "with_book_holes": 0}
    assert len(written["inputs"]["segments"]) == 1 and len(written["inputs"]["gap_report"]) == 64
    assert len(written["inputs"]["quotes"]) == 64 and written["inputs"]["answers"] == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_gap_report_another_segment_or_another_total_are_other_inputs(tmp_path: Path) -> None:
    made(tmp_path, WHOLE, {("TXFD6", "day"): 19})
    before = again(tmp_path).inputs
    quotes(tmp_path, {("TXFD6", "day"): 20})
    assert again(tmp_path).inputs["quotes"] != before["quotes"]
    write_log(tmp_path / "wal", [WHOLE[0]], run_id="00000000000000cd")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    assert set(again(tmp_path).inputs["segments"]) > set(before["segments"])


def test_a_person_sees_the_worst_first_in_a_table_that_fits(tmp_path: Path) -> None:
    stocks = [event for code in ("2330", "2317", "2454")
              for event in (trade(code, ns("2026-04-09 09:00:00"), 7, 7, **STOCK),)]  # type: ignore[arg-type]  # fmt: skip
    closing = {("TXFD6", "day"): 19, ("2330", "day"): 7, ("2317", "day"): 5_000_000}
    shown = describe(made(tmp_path, [*WHOLE[:4], *WHOLE[6:], *stocks], closing)).splitlines()
    assert shown[0].startswith(
        "Certificates of trading day 2026-04-09: 1 proven, 2 short of 4,999,998 lots, 1 unprovable"
    )
    assert [line.split()[:2] for line in shown[5:]] == [
        ["SHORT", "2317"], ["SHORT", "TXFD6"], ["UNPROVABLE", "2454"], ["PROVEN", "2330"]]  # fmt: skip
    assert max(map(len, shown)) <= 120


@settings(max_examples=25)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.data())
def test_what_is_covered_is_what_the_trades_cover(
    tmp_path_factory: pytest.TempPathFactory, volumes: list[int], data: st.DataObject
) -> None:
    whole = trades("TXFD6", OPEN, volumes)
    lost = data.draw(st.sets(st.integers(0, len(whole) - 1), max_size=len(whole) - 1))
    kept = data.draw(st.permutations([event for at, event in enumerate(whole) if at not in lost]))
    folder = tmp_path_factory.mktemp("covered")
    write_log(folder / "wal", kept)
    archive_all(folder / "wal", folder / "archive")
    lake = Lake(folder / "archive")
    [covered] = covered_by_stream(lake, DAY).values()
    total = whole[-1].total_volume
    assert covered.missing(0, total) == sum(volumes[at] for at in lost)
    assert covered.overlaps == 0
    low = data.draw(st.integers(0, total))
    high = data.draw(st.integers(low, total))
    lots = {lot for event in kept for lot in range(event.total_volume - event.volume + 1, event.total_volume + 1)}
    expected = len([lot for lot in lots if low < lot <= high])
    assert lots_within(lake, DAY, [(("TXFD6", "day", "board"), (low, high))]) == [expected]
