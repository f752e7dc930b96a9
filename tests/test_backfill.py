"""Backfill at its edges: answers that are no answers, gaps nothing fills, what is kept, written and told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from made_records import ns, trade, trades, write_log

from shijim_live.broker.history import (
    AnswerRefused,
    Columns,
    HistoryUnavailable,
    NotAnswered,
    QuestionRefused,
    QuotaExhausted,
    Row,
)
from shijim_live.calendar import TAIPEI_OFFSET_NS, Market
from shijim_live.events import (
    ABSENT_I64,
    EMPTY_PRICE_E6,
    Book,
    BrokerClass,
    Event,
    Exchange,
    Flag,
    Lane,
    Trade,
    decode_all,
)
from shijim_live.instruments import UnknownInstrument
from shijim_live.record import wal
from shijim_live.store.lake import Lake
from shijim_pipelines.archive import archive_all
from shijim_pipelines.datasets import Request, make_dataset
from shijim_pipelines.hft_dataset import FeedLatency, InvalidDataset
from shijim_pipelines.proof import answer
from shijim_pipelines.proof.answer import judged, raw_table
from shijim_pipelines.proof.audit import audit_day
from shijim_pipelines.proof.backfill import Backfilled, backfill_day, describe_backfill
from shijim_pipelines.proof.ledger import State, open_gaps, read_ledger, record_report, standing

DAY = date(2026, 4, 9)
OPEN = "2026-04-09 08:45:00"
WHOLE = trades("TXFD6", OPEN, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1])
STOCK = {"exchange": Exchange.OTC, "broker_class": BrokerClass.TICK_STK_V1, "price_e6": 60_000_000}


def told(events: Sequence[Trade], **changed: list[Any]) -> Columns:
    """What history says of trades."""
    columns: dict[str, list[Any]] = {
        "ts": [event.exchange_ns + TAIPEI_OFFSET_NS for event in events],
        "close": [event.price_e6 / 1_000_000 for event in events],
        "volume": [event.volume for event in events],
        "bid_price": [34_999.0] * len(events),
        "bid_volume": [5] * len(events),
        "ask_price": [35_001.0] * len(events),
        "ask_volume": [6] * len(events),
        "tick_type": [2] * len(events),
    }
    return Columns(**columns | changed)


class Told:
    """A history that answers what it was given, and remembers what it was asked."""

    source = "simulated"

    def __init__(self, answer: Callable[[str], Columns] | Columns) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def ticks(self, code: str, day: date) -> Columns:
        assert day == DAY
        self.asked.append(code)
        return self.answer if isinstance(self.answer, Columns) else self.answer(code)

    def _never(self, *_: object, **__: object) -> Any:
        raise AssertionError("a backfill asks for ticks alone")

    kbars = snapshots = scanners = daily_quotes = instruments = usage = _never


def recorded(
    folder: Path, events: Sequence[Event], closing: dict[tuple[str, str], int] | None = None, **header: object
) -> None:
    write_log(folder / "wal", events, **header)  # type: ignore[arg-type]
    audited(folder, closing)


def audited(folder: Path, closing: dict[tuple[str, str], int] | None = None, wanted: Sequence[str] = ()) -> None:
    archive_all(folder / "wal", folder / "archive")
    report = audit_day(folder / "archive", folder / "wal", DAY, closing=closing, wanted=wanted)
    record_report(report, folder / "reports", "test", 1)


def filled(folder: Path, history: Told, now_ns: int = 2) -> Backfilled:
    places = (folder / "archive", folder / "wal", folder / "reports", folder / "market")
    return backfill_day(DAY, *places, history, "test", now_ns)


def shown(folder: Path) -> list[tuple[str, int, int]]:
    rows = Lake(folder / "archive").query("SELECT code, exchange_ns, total_volume FROM ticks ORDER BY ALL")
    return [(row["code"], row["exchange_ns"], row["total_volume"]) for row in rows.to_pylist()]


def of(events: Sequence[Trade]) -> list[tuple[str, int, int]]:
    return sorted((event.code, event.exchange_ns, event.total_volume) for event in events)


def states(folder: Path) -> list[str]:
    return [str(entry.state) for entry in standing(read_ledger(folder / "reports", DAY)).values()]


def test_what_is_filled_in_says_what_it_is_and_what_it_cannot_know(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])
    done = filled(tmp_path, Told(told(WHOLE)))
    assert (done.gaps, done.lots, done.trades, done.asked) == (1, 5, 2, ("TXFD6",))
    assert shown(tmp_path) == of(WHOLE)
    (path,) = (tmp_path / "wal" / f"backfill-{done.run_id}").rglob("*.wal")
    first, second = (event for chunk in wal.records(path) for event in decode_all(chunk))
    assert isinstance(first, Trade)
    assert (first.code, first.exchange_ns, first.price_e6, first.volume) == (
        "TXFD6", WHOLE[4].exchange_ns, WHOLE[4].price_e6, 2)  # fmt: skip
    assert (first.total_volume, second.total_volume) == (9, 12)  # type: ignore[union-attr]
    assert first.flags == Flag.TOTAL_INFERRED | Flag.LANE_INFERRED
    assert (first.broker_class, first.lane, first.exchange) == (BrokerClass.HISTORY_TICKS, Lane.BOARD, Exchange.TAIFEX)
    assert (first.side, first.received_ns, first.amount_e6, first.chg_type) == (2, ABSENT_I64, ABSENT_I64, 255)
    header = orjson.loads(wal.open_segment(path)[0].header)
    assert (header["source"], header["clock"], header["run_id"]) == ("backfill", "absent", done.run_id)
    assert header["config"]["fills"] == "simulated" and header["config"]["day"] == str(DAY)
    [digest] = header["config"]["answers"]
    kept = pq.read_table(tmp_path / "market" / "answers" / str(DAY) / f"TXFD6-{digest}.parquet")
    assert kept["bid_price"].to_pylist() == [34_999.0] * 10


def test_the_ledger_has_the_evidence_of_a_fill(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])
    done = filled(tmp_path, Told(told(WHOLE)))
    last = read_ledger(tmp_path / "reports", DAY)[-1]
    assert (last.state, last.actor, last.at_ns) == (State.BACKFILLED, "test", 2)
    assert last.evidence["runs"] == [done.run_id]
    assert (last.evidence["proof"], last.evidence["order"], last.evidence["trades"]) == ("session", "exact", 2)


def test_an_absent_code_takes_its_exchange_from_what_the_code_is(tmp_path: Path) -> None:
    stock = [trade("6488", ns("2026-04-09 10:00:00"), 5, 5, **STOCK)]  # type: ignore[arg-type]
    write_log(tmp_path / "wal", WHOLE)
    audited(tmp_path, {("6488", "day"): 5}, ["6488"])
    filled(tmp_path, Told(told(stock)))
    found = Lake(tmp_path / "archive").query("SELECT exchange, session FROM ticks WHERE code = '6488'").to_pylist()
    assert found == [{"exchange": int(Exchange.OTC), "session": "day"}]


def test_a_recorded_trade_that_is_archived_later_hides_the_one_filled_in(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])
    filled(tmp_path, Told(told(WHOLE)))
    late = replace(WHOLE[4], exchange_ns=WHOLE[4].exchange_ns)
    write_log(tmp_path / "wal", [late, WHOLE[5]], run_id="ffffffffffffffff")
    archive_all(tmp_path / "wal", tmp_path / "archive")
    assert shown(tmp_path) == of(WHOLE)
    sources = Lake(tmp_path / "archive").query("SELECT source, count() AS n FROM ticks GROUP BY source").to_pylist()
    assert sources == [{"source": "simulated", "n": 10}]


def test_no_gap_of_a_segment_that_waits_for_the_archive_is_asked_for(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])
    write_log(tmp_path / "wal", WHOLE[4:6], run_id="ffffffffffffffff")
    history = Told(told(WHOLE))
    done = filled(tmp_path, history)
    assert history.asked == [] and "Run: shijim archive" in done.left[0].reason
    audited(tmp_path)
    assert states(tmp_path) == ["SUPERSEDED"]


def test_what_another_source_recorded_is_not_this_historys(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:], source="import:shioaji_stream")
    history = Told(told(WHOLE))
    done = filled(tmp_path, history)
    assert (history.asked, done.unrecoverable, states(tmp_path)) == ([], 1, ["UNRECOVERABLE"])
    assert "holds nothing of what import:shioaji_stream recorded" in str(
        read_ledger(tmp_path / "reports", DAY)[-1].evidence
    )


@pytest.mark.parametrize(("source", "others"), [("shioaji", "simulated"), ("simulated", "shioaji"),
                                                ("shioaji-simulation", "shioaji")])  # fmt: skip
def test_a_history_of_another_market_leaves_the_gap_for_its_own(source: str, others: str, tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:], source=source)
    history = Told(told(WHOLE))
    history.source = others
    done = filled(tmp_path, history)
    assert (history.asked, done.unrecoverable, states(tmp_path)) == ([], 0, ["CLASSIFIED"])
    assert f"the history of {others} holds nothing of what {source} recorded" in done.left[0].reason
    history.source = source
    assert filled(tmp_path, history).gaps == 1


def test_history_that_cannot_exist_ends_the_gap_and_a_code_nobody_knows_too(tmp_path: Path) -> None:
    unknown = trades("MXFD6", OPEN, [1] * 20)
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:] + unknown[:4] + unknown[6:])

    def none(code: str) -> Columns:
        if code == "MXFD6":
            raise UnknownInstrument(f"{code} is none")
        raise HistoryUnavailable(f"no history of {code} is kept", for_good=True)

    assert filled(tmp_path, Told(none)).unrecoverable == 2
    assert states(tmp_path) == ["UNRECOVERABLE"] * 2
    assert "no history of TXFD6 is kept" in str(read_ledger(tmp_path / "reports", DAY)[-2].evidence)


def test_a_list_of_contracts_that_is_not_there_yet_ends_no_gap(tmp_path: Path) -> None:
    codes = ("TXFD6", "MXFD6", "TMFD6")
    whole = {code: trades(code, OPEN, [1] * 20) for code in codes}
    recorded(tmp_path, [event for each in whole.values() for event in each[:4] + each[6:]])

    def unlisted(code: str) -> Columns:
        raise HistoryUnavailable(f"{code}: the broker lists no such contract")

    history = Told(unlisted)
    done = filled(tmp_path, history)
    assert sorted(history.asked) == sorted(codes) and (done.unrecoverable, done.exhausted) == (0, "")
    assert states(tmp_path) == ["CLASSIFIED"] * 3
    assert {left.reason for left in done.left} == {f"{code}: the broker lists no such contract" for code in codes}
    assert filled(tmp_path, Told(lambda code: told(whole[code]))).gaps == 3


def test_the_cheapest_gaps_are_asked_for_first_and_nothing_after_the_quota_ended(tmp_path: Path) -> None:
    dear = trades("MXFD6", OPEN, [1] * 300, step_ns=10_000_000)
    cheap = trades("TMFD6", OPEN, [1] * 30)
    events = dear[:10] + dear[11:] + cheap[:5] + cheap[6:9] + cheap[10:] + WHOLE[:4] + WHOLE[6:]
    recorded(tmp_path, events)
    answers = {"MXFD6": dear, "TMFD6": cheap, "TXFD6": WHOLE}

    def until_it_ends(code: str) -> Columns:
        if len(history.asked) > 2:
            raise QuotaExhausted("all is used. It resets at 08:00")
        return told(answers[code])

    history = Told(until_it_ends)
    done = filled(tmp_path, history)
    assert history.asked == ["TXFD6", "TMFD6", "MXFD6"]
    assert done.asked == ("TXFD6", "TMFD6")
    assert [(left.code, left.reason) for left in done.left] == [("MXFD6", "all is used. It resets at 08:00")]
    assert "open: 1 gaps, 1 lots (MXFD6): all is used" in describe_backfill(done)
    assert sorted(states(tmp_path)) == ["BACKFILLED", "BACKFILLED", "BACKFILLED", "CLASSIFIED"]
    lines = len(read_ledger(tmp_path / "reports", DAY))
    history.asked = ["", "", ""]
    filled(tmp_path, history)
    assert len(read_ledger(tmp_path / "reports", DAY)) == lines


def test_an_answer_is_kept_and_used_again_before_anything_is_asked(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])
    filled(tmp_path, Told(told(WHOLE)))
    (tmp_path / "reports" / "ledger" / f"{DAY}.jsonl").unlink()
    shutil.rmtree(tmp_path / "archive")
    for folder in (tmp_path / "wal").glob("backfill-*"):
        shutil.rmtree(folder)
    audited(tmp_path)
    history = Told(told([]))
    assert filled(tmp_path, history).lots == 5
    assert history.asked == [] and shown(tmp_path) == of(WHOLE)


def test_a_kept_answer_that_was_altered_is_not_used(tmp_path: Path) -> None:
    content = answer.encoded(raw_table(told(WHOLE)))[1]
    path = answer.keep(content, tmp_path, "TXFD6")
    assert len(list(answer.kept(tmp_path, "TXFD6"))) == 1
    path.write_bytes(content[:-9] + b"altered!!")
    assert list(answer.kept(tmp_path, "TXFD6")) == []


def test_an_answer_that_proves_nothing_is_in_quarantine_with_the_reason_and_nothing_is_written(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])
    done = filled(tmp_path, Told(told(WHOLE[:5] + WHOLE[6:])))
    assert (done.gaps, done.run_id, states(tmp_path)) == (0, "", ["CLASSIFIED"])
    [path] = done.quarantined
    assert pq.read_table(path).num_rows == 9
    why = orjson.loads(path.with_suffix(".json").read_bytes())
    [reason] = why["gaps"].values()
    assert "counted up, the answer has 16 lots where 19 were traded" in reason
    assert not (tmp_path / "market" / "answers").exists()
    assert f"quarantined: {path}" in describe_backfill(done)
    assert list((tmp_path / "wal").glob("backfill-*")) == []
    assert filled(tmp_path, Told(told(WHOLE))).lots == 5


def test_an_answer_that_is_refused_fills_nothing_and_is_kept_with_the_reason(tmp_path: Path) -> None:
    """Even where a part of it could be proven: the answer is the one that was judged."""
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:])

    def refused(code: str) -> Columns:
        raise AnswerRefused(f"ticks of {code} on {DAY}, row 9: back in time. It was asked 2 times", told(WHOLE))

    done = filled(tmp_path, Told(refused))
    assert (done.gaps, done.asked, states(tmp_path)) == (0, ("TXFD6",), ["CLASSIFIED"])
    assert done.left[0].reason == "ticks of TXFD6 on 2026-04-09, row 9: back in time. It was asked 2 times"
    assert read_ledger(tmp_path / "reports", DAY)[-1].evidence["reason"] == done.left[0].reason
    [path] = done.quarantined
    assert pq.read_table(path).num_rows == len(WHOLE)
    assert filled(tmp_path, Told(told(WHOLE))).lots == 5


def test_one_code_without_an_answer_keeps_no_other_from_being_filled_and_two_end_the_attempt(tmp_path: Path) -> None:
    events = {code: trades(code, OPEN, [1] * length) for code, length in (("MXFD6", 40), ("TMFD6", 30), ("TXFD6", 20))}
    recorded(tmp_path, [event for each in events.values() for event in each[:4] + each[6:]])
    lost = {"TXFD6"}

    def answered(code: str) -> Columns:
        if code in lost:
            raise NotAnswered(f"ticks of {code} on {DAY}: no answer in 4 tries and 20 s: timed out")
        return told(events[code])

    history = Told(answered)
    done = filled(tmp_path, history)
    assert history.asked == ["TXFD6", "TMFD6", "MXFD6"] and done.asked == ("TMFD6", "MXFD6")
    assert (done.gaps, done.exhausted) == (2, "")
    assert [(left.code, "timed out" in left.reason) for left in done.left] == [("TXFD6", True)]
    other = tmp_path / "other"
    recorded(other, [event for each in events.values() for event in each[:4] + each[6:]])
    lost |= {"TMFD6", "MXFD6"}
    history.asked = []
    done = filled(other, history)
    assert history.asked == ["TXFD6", "TMFD6"] and "TMFD6" in done.exhausted
    assert set(states(other)) == {"CLASSIFIED"}
    lost.clear()
    assert filled(other, history).left == ()


def test_codes_about_which_the_question_is_refused_keep_no_other_from_being_filled(tmp_path: Path) -> None:
    events = {code: trades(code, OPEN, [1] * length) for code, length in (("MXFD6", 40), ("TMFD6", 30), ("TXFD6", 20))}
    recorded(tmp_path, [event for each in events.values() for event in each[:4] + each[6:]])

    def refused(code: str) -> Columns:
        if code != "MXFD6":
            raise QuestionRefused(f"ticks of {code} on {DAY}: the broker refuses the question (ValidationError)")
        return told(events[code])

    history = Told(refused)
    done = filled(tmp_path, history)
    assert history.asked == ["TXFD6", "TMFD6", "MXFD6"] and done.asked == ("MXFD6",)
    assert (done.gaps, done.unrecoverable, done.exhausted) == (1, 0, "")
    assert {(left.code, "refuses the question" in left.reason) for left in done.left} == {
        ("TXFD6", True), ("TMFD6", True)}  # fmt: skip


def test_an_account_of_the_broker_that_cannot_be_read_ends_the_attempt_and_no_gap(tmp_path: Path) -> None:
    other = trades("MXFD6", OPEN, [1] * 20)
    recorded(tmp_path, WHOLE[:4] + WHOLE[6:] + other[:4] + other[6:])

    def refused(code: str) -> Columns:
        raise AnswerRefused("usage: bytes is None, so that what is left of today is not known", Row(bytes=None))

    history = Told(refused)
    done = filled(tmp_path, history)
    assert (len(history.asked), done.asked, done.quarantined, states(tmp_path)) == (1, (), (), ["CLASSIFIED"] * 2)
    assert "usage: bytes is None" in done.exhausted and len(done.left) == 2


def test_a_gap_that_late_trades_made_smaller_is_filled_for_the_rest(tmp_path: Path) -> None:
    recorded(tmp_path, [*WHOLE[:4], *WHOLE[7:], WHOLE[5]])
    done = filled(tmp_path, Told(told(WHOLE)))
    assert (done.lots, done.trades) == (3, 2)
    assert shown(tmp_path) == of(WHOLE)


def test_part_of_a_gap_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    """Two audits saw the gap differently: it was filled while it was smaller."""
    recorded(tmp_path, WHOLE[:2] + WHOLE[3:])
    filled(tmp_path, Told(told(WHOLE)))
    for path in [*(tmp_path / "wal").glob("night/*"), *(tmp_path / "wal").rglob("00000000000000ab-*")]:
        path.unlink()
    for path in (tmp_path / "archive").rglob("00000000000000ab-*"):
        path.unlink()
    recorded(tmp_path, WHOLE[:1] + WHOLE[4:], run_id="00000000000000cd")
    done = filled(tmp_path, Told(told(WHOLE)))
    assert (done.lots, done.trades) == (6, 2)
    raw = Lake(tmp_path / "archive").query("SELECT count() AS n FROM ticks_raw").to_pylist()
    assert raw == [{"n": 10}] and shown(tmp_path) == of(WHOLE)
    [last] = [e for e in read_ledger(tmp_path / "reports", DAY)[-2:] if e.state is State.BACKFILLED]
    assert len(last.evidence["runs"]) == 2  # type: ignore[arg-type]


def test_totals_that_contradict_each_other_are_no_ground_to_prove_on(tmp_path: Path) -> None:
    wrong = replace(WHOLE[7], total_volume=WHOLE[6].total_volume, price_e6=35_001_000_000)
    recorded(tmp_path, [*WHOLE[:2], *WHOLE[4:7], wrong, *WHOLE[8:]])
    done = filled(tmp_path, Told(told(WHOLE)))
    assert done.gaps == 0 and {"contradict" in left.reason for left in done.left} == {True}


def test_no_dataset_takes_what_was_filled_in_for_a_recording(tmp_path: Path) -> None:
    book = Book(code="TXFD6", exchange=Exchange.TAIFEX, lane=Lane.BOARD, broker_class=BrokerClass.BIDASK_FOP_V1,
                exchange_ns=ns(OPEN) - 1, received_ns=ns(OPEN), bid_price_e6=(34_999_000_000, *[EMPTY_PRICE_E6] * 4),
                bid_volume=(5, 0, 0, 0, 0))  # fmt: skip
    recorded(tmp_path, [book, *WHOLE[:4], *WHOLE[6:]])
    filled(tmp_path, Told(told(WHOLE)))
    request = Request(DAY, "TXFD6", None, None, FeedLatency(0))
    lake, report = Lake(tmp_path / "archive"), audit_day(tmp_path / "archive", tmp_path / "wal", DAY)
    assert make_dataset(request, lake, report, tmp_path / "datasets").source == "simulated"
    with pytest.raises(InvalidDataset, match="recorded by simulated, not by backfill"):
        make_dataset(replace(request, source="backfill"), lake, report, tmp_path / "datasets")


# Answers by themselves

WRONG: dict[str, tuple[dict[str, list[Any]], str]] = {
    "no rows": ({name: [] for name in answer.COLUMNS}, "the answer is empty"),
    "lengths": ({"volume": [1] * 9}, "10 ts, 10 close, 9 volume"),
    "another day": ({"ts": [e.exchange_ns + TAIPEI_OFFSET_NS - 86_400 * 10**9 for e in WHOLE]}, "in no session of"),
    "backwards": ({"ts": [e.exchange_ns + TAIPEI_OFFSET_NS for e in reversed(WHOLE)]}, "before the row above it"),
    "no volume": ({"volume": [1, 0, *[1] * 8]}, "1 rows: 0 is no volume, first at row 1"),
    "below zero": ({"volume": [-1] * 10}, "is no volume"),
    "no price": ({"close": [35_000.0] * 9 + [float("nan")]}, "nan is no price"),
    "price 0": ({"close": [0.0] * 10}, "is no price of this code and day"),
    "a tenth of the price": ({"close": [3_500.0] * 10}, "is no price of this code and day"),
    "seven decimals": ({"close": [35_000.0000001] * 10}, "more than six decimals"),
    "tick_type": ({"tick_type": [3] * 10}, "3 is no tick_type"),
    "text": ({"close": ["35000"] * 10}, "close holds something else than numbers"),
    "nothing": ({"volume": [1] * 9 + [None]}, "volume holds something else than numbers"),
    "fractions": ({"volume": [1.5] * 10}, "volume holds something else than numbers"),
    "wider than 64 bits": ({"volume": [2**70] * 10}, "volume holds something else than numbers"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_that_cannot_be_is_refused_and_still_kept_for_a_person(wrong: str, tmp_path: Path) -> None:
    changed, reason = WRONG[wrong]
    raw = raw_table(told(WHOLE, **changed))
    with pytest.raises(AnswerRefused, match=reason):
        judged(raw, DAY, Market.FUTURES, (35_000_000_000, 35_000_000_000))
    path = answer.keep(answer.encoded(raw)[1], tmp_path, "TXFD6")
    assert str(pq.read_table(path).to_pylist()) == str(raw.to_pylist())  # NaN equals itself as text


def test_a_column_that_is_gone_is_named() -> None:
    columns = {name: told(WHOLE)[name] for name in answer.COLUMNS if name != "tick_type"}
    with pytest.raises(AnswerRefused, match="no column tick_type"):
        judged(raw_table(Columns(**columns)), DAY, Market.FUTURES, None)


def test_the_fixed_price_print_of_a_stock_is_no_trade_of_its_session() -> None:
    stock = [trade("2330", ns(f"2026-04-09 {clock}"), 5, 5, **STOCK) for clock in ("09:00:00", "13:30:00", "14:30:00")]
    found = judged(raw_table(told(stock)), DAY, Market.STOCK, None)
    assert found.rows("day").volume.tolist() == [5, 5]
    with pytest.raises(AnswerRefused, match="in no session"):
        judged(
            raw_table(told([*stock, replace(stock[0], exchange_ns=ns("2026-04-09 14:31:00"))])), DAY, Market.STOCK, None
        )


def test_sessions_are_counted_apart_and_prices_are_exact() -> None:
    night = trades("TXFD6", "2026-04-08 15:00:00", [4, 4])
    found = judged(raw_table(told([*night, *WHOLE])), DAY, Market.FUTURES, None)
    assert found.rows("night").cumulative.tolist() == [4, 8]
    assert found.rows("day").cumulative.tolist()[-1] == 19
    assert found.resolution_ns == 1_000_000_000
    odd = [
        replace(event, price_e6=price)
        for event, price in zip(WHOLE, range(46_050_000, 46_550_000, 50_000), strict=False)
    ]
    assert judged(raw_table(told(odd)), DAY, Market.FUTURES, None).rows("day").price_e6.tolist() == [
        e.price_e6 for e in odd
    ]


def test_an_answer_in_the_shape_of_the_sdk_is_read(tmp_path: Path) -> None:
    """Neither a dict nor a Mapping: keys() and [] are all it has."""
    columns = told(WHOLE)
    assert not hasattr(columns, "items") and not isinstance(columns, (dict, Row))
    assert raw_table(columns).num_rows == 10
    recorded(tmp_path, WHOLE)
    assert open_gaps(tmp_path / "reports", DAY) == []
