"""The ledger of gaps: appended to, never altered; damage is noticed, a killed writer leaves nothing half said."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from datetime import date
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live.events import ABSENT_I64
from shijim_pipelines.proof import ledger
from shijim_pipelines.proof.gap_report import Gap, GapReport
from shijim_pipelines.proof.ledger import Change, IllegalTransition, LedgerDamaged, State

DAY = date(2026, 4, 9)


def volume_gap(code: str = "TXFD6", total_from: int = 10, total_to: int = 15, **changed: object) -> Gap:
    about = {"source": "simulated", "session": "day", "total_from": total_from, "total_to": total_to,
             "run_id_before": "ab", "run_id_after": "ab"}  # fmt: skip
    gap = Gap("volume", code, "board", 4, 9, 1_000, 2_000, total_to - total_from, "feed_loss", "no outage", about)
    return replace(gap, **changed)  # type: ignore[arg-type]


def outage_gap(begin_ns: int = 1_000) -> Gap:
    return Gap("outage", "", "", 7, 7, begin_ns, 2_000, 0, "recorded", "broker connection lost", {"run_id": "ab"})


def hole(first: int, last: int, cause: str = "corrupt_block") -> Gap:
    about: dict[str, str | int] = {"run_id": "ab", "segment": 1}
    return Gap("sequence", "", "", first, last, ABSENT_I64, ABSENT_I64, 0, cause, "a block is damaged", about)


def report(*gaps: Gap) -> GapReport:
    return GapReport(DAY, (), gaps, (), {})


def told(folder: Path, *gaps: Gap, now_ns: int = 1) -> list[ledger.Entry]:
    return ledger.record_report(report(*gaps), folder, "test", now_ns)


def states(folder: Path) -> list[str]:
    return [entry.state for entry in ledger.standing(ledger.read_ledger(folder, DAY)).values()]


def test_a_gap_is_detected_and_classified_and_the_same_report_adds_nothing(tmp_path: Path) -> None:
    made = told(tmp_path, volume_gap())
    assert [(entry.state, entry.cause, entry.lots) for entry in made] == [
        (State.DETECTED, "feed_loss", 5),
        (State.CLASSIFIED, "feed_loss", 5),
    ]
    before = ledger.ledger_path(tmp_path, DAY).read_bytes()
    assert told(tmp_path, volume_gap(), now_ns=2) == []
    assert ledger.ledger_path(tmp_path, DAY).read_bytes() == before
    assert ledger.read_ledger(tmp_path, DAY) == made
    [still_open] = ledger.open_gaps(tmp_path, DAY)
    assert still_open.gap == volume_gap()


def test_what_cannot_be_had_again_is_unrecoverable_at_once_and_says_why(tmp_path: Path) -> None:
    odd = volume_gap(lane="odd")
    silence = replace(outage_gap(3_000), gap_type="silence")
    told(tmp_path, odd, outage_gap(), silence, volume_gap())
    newest = ledger.standing(ledger.read_ledger(tmp_path, DAY)).values()
    reasons = {(entry.gap.gap_type, entry.gap.lane): entry.evidence["reason"] for entry in newest if entry.gap}
    assert "no history of this lane" in str(reasons["volume", "odd"])
    assert "books of the time cannot be had again" in str(reasons["outage", ""])
    assert "books of the time cannot be had again" in str(reasons["silence", ""])
    assert states(tmp_path) == ["UNRECOVERABLE", "UNRECOVERABLE", "UNRECOVERABLE", "CLASSIFIED"]
    assert len(ledger.open_gaps(tmp_path, DAY)) == 1


def test_a_hole_in_the_sequence_names_the_gaps_its_trades_are(tmp_path: Path) -> None:
    inside, elsewhere = volume_gap(), volume_gap("2330", seq_start=100, seq_end=120)
    other_run = volume_gap("2317", metadata=volume_gap().metadata | {"run_id_before": "cd", "run_id_after": "cd"})
    told(tmp_path, hole(5, 8), inside, elsewhere, other_run)
    (entry,) = [e for e in ledger.read_ledger(tmp_path, DAY) if e.state is State.UNRECOVERABLE]
    gaps = ledger.identified(report(hole(5, 8), inside, elsewhere, other_run))
    assert [gaps[gap_id] for gap_id in entry.evidence["volume_gaps"]] == [inside]  # type: ignore[attr-defined]


def test_a_hole_that_only_waits_for_the_archive_stays_open_and_is_no_business_of_a_backfill(tmp_path: Path) -> None:
    told(tmp_path, hole(5, 8, "not_archived"))
    assert states(tmp_path) == ["CLASSIFIED"]
    assert ledger.open_gaps(tmp_path, DAY) == []


def test_a_gap_that_is_gone_is_superseded_and_a_changed_one_is_another(tmp_path: Path) -> None:
    told(tmp_path, volume_gap())
    told(tmp_path, volume_gap(lots=3), now_ns=2)
    assert states(tmp_path) == ["SUPERSEDED", "CLASSIFIED"]
    told(tmp_path, volume_gap(), now_ns=3)
    assert states(tmp_path) == ["CLASSIFIED", "SUPERSEDED"]
    [again] = ledger.open_gaps(tmp_path, DAY)
    assert (again.lots, again.at_ns) == (5, 3)


def test_another_cause_of_an_open_gap_is_told(tmp_path: Path) -> None:
    told(tmp_path, volume_gap())
    (changed,) = told(tmp_path, volume_gap(cause="outage", reason="killed"), now_ns=2)
    assert (changed.state, changed.cause, changed.evidence) == (State.CLASSIFIED, "outage", {"reason": "killed"})
    assert told(tmp_path, volume_gap(cause="outage", reason="killed"), now_ns=3) == []


def test_equal_gaps_of_one_report_are_two(tmp_path: Path) -> None:
    told(tmp_path, volume_gap(), volume_gap())
    assert states(tmp_path) == ["CLASSIFIED", "CLASSIFIED"]


def test_only_the_steps_of_the_states_can_be_taken(tmp_path: Path) -> None:
    gap_id = told(tmp_path, volume_gap())[0].gap_id
    for wrong in (State.VERIFIED, State.DETECTED):
        before = ledger.ledger_path(tmp_path, DAY).read_bytes()
        with pytest.raises(IllegalTransition, match="cannot become"):
            ledger.advance(tmp_path, DAY, [Change(gap_id, wrong, gap=volume_gap())], "test", 2)
        assert ledger.ledger_path(tmp_path, DAY).read_bytes() == before
    with pytest.raises(IllegalTransition, match="unknown"):
        ledger.advance(tmp_path, DAY, [Change("feed", State.BACKFILLED)], "test", 2)
    filled = Change(gap_id, State.BACKFILLED, {"run": "r"})
    assert len(ledger.advance(tmp_path, DAY, [filled], "test", 3)) == 1
    assert ledger.advance(tmp_path, DAY, [filled], "test", 4) == []
    assert len(ledger.advance(tmp_path, DAY, [Change(gap_id, State.VERIFIED)], "test", 5)) == 1
    with pytest.raises(IllegalTransition, match="is VERIFIED and cannot become UNRECOVERABLE"):
        ledger.advance(tmp_path, DAY, [Change(gap_id, State.UNRECOVERABLE)], "test", 6)


def test_all_steps_of_a_call_are_taken_or_none(tmp_path: Path) -> None:
    first = told(tmp_path, volume_gap(), volume_gap("2330"))[0].gap_id
    with pytest.raises(IllegalTransition):
        changes = [Change(first, State.BACKFILLED), Change("feed", State.BACKFILLED)]
        ledger.advance(tmp_path, DAY, changes, "test", 2)
    assert states(tmp_path) == ["CLASSIFIED", "CLASSIFIED"]


def test_why_an_attempt_failed_is_told_once(tmp_path: Path) -> None:
    gap_id = told(tmp_path, volume_gap())[0].gap_id
    attempt = Change(gap_id, State.CLASSIFIED, {"reason": "500 MB of today are used"})
    assert len(ledger.advance(tmp_path, DAY, [attempt], "test", 2)) == 1
    assert ledger.advance(tmp_path, DAY, [attempt], "test", 3) == []
    assert len(ledger.open_gaps(tmp_path, DAY)) == 1


def test_giving_up_closes_what_is_open(tmp_path: Path) -> None:
    told(tmp_path, volume_gap(), outage_gap())
    assert ledger.give_up(tmp_path, DAY, "no history of an import", "test", 2) == 1
    assert ledger.open_gaps(tmp_path, DAY) == []
    assert ledger.give_up(tmp_path, DAY, "no history of an import", "test", 3) == 0


@given(st.data())
def test_a_torn_end_is_cut_kept_and_noted_and_every_whole_line_before_it_stands(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    made = told(folder, volume_gap(), outage_gap())
    path = ledger.ledger_path(folder, DAY)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:at])
    lines = whole[:at].count(b"\n")
    torn = at - (whole[:at].rfind(b"\n") + 1)
    assert ledger.read_ledger(folder, DAY) == made[:lines]
    added = told(folder, volume_gap(), outage_gap(), now_ns=9)
    assert states(folder) == ["CLASSIFIED", "UNRECOVERABLE"]
    assert len(added) == len(made) - lines
    if torn:
        assert added[0].evidence["torn_bytes_cut_before"] == torn
        assert path.with_suffix(".jsonl.torn").read_bytes() == whole[at - torn : at] + b"\n"
    assert told(folder, volume_gap(), outage_gap(), now_ns=10) == []


def test_every_altered_byte_is_damage_that_names_its_line(tmp_path: Path) -> None:
    told(tmp_path, volume_gap(), outage_gap())
    path = ledger.ledger_path(tmp_path, DAY)
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])
        with pytest.raises(LedgerDamaged, match=f"line {whole[:at].count(b'%c' % 10) + 1} .*move the file away"):
            ledger.read_ledger(tmp_path, DAY)


def test_a_line_that_is_gone_or_changed_places_is_damage(tmp_path: Path) -> None:
    told(tmp_path, volume_gap(), outage_gap())
    path = ledger.ledger_path(tmp_path, DAY)
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (lines[:1] + lines[2:], [lines[1], lines[0], *lines[2:]], [*lines, lines[-1]]):
        path.write_bytes(b"".join(changed))
        with pytest.raises(LedgerDamaged):
            told(tmp_path, volume_gap())


def test_a_line_of_another_version_is_refused(tmp_path: Path) -> None:
    told(tmp_path, volume_gap())
    path = ledger.ledger_path(tmp_path, DAY)
    body = orjson.dumps({"state": "FORGOTTEN"})
    line, _ = body, None
    hashed = ledger._hash("", line)
    path.write_bytes(body[:-1] + b',"chain":"' + hashed.encode() + b'"}\n')
    with pytest.raises(LedgerDamaged, match="line 1 is of another version"):
        ledger.read_ledger(tmp_path, DAY)


def _tell(folder: Path, number: int) -> None:
    gap = volume_gap(f"23{number:02}")
    gap_id = next(iter(ledger.identified(report(gap))))
    detected = Change(gap_id, State.DETECTED, cause="feed_loss", gap=gap)
    ledger.advance(folder, DAY, [detected], f"writer {number}", number)
    ledger.advance(folder, DAY, [Change(gap_id, State.CLASSIFIED)], f"writer {number}", number)


def test_writers_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_tell, args=(tmp_path, number)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert states(tmp_path) == ["CLASSIFIED"] * 6
    assert len(ledger.read_ledger(tmp_path, DAY)) == 12


def test_a_day_without_a_ledger_has_none(tmp_path: Path) -> None:
    assert ledger.read_ledger(tmp_path, DAY) == []
    assert ledger.open_gaps(tmp_path, DAY) == []
