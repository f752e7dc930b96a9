"""Fills the gaps of a day from the broker's history: asks as little as it can, writes only what is proven, once.

For every code with open gaps one question, the cheapest gaps first. What the answer tells is shown on the recorded
trades (`alignment.py`); the rows between them become a run of their own (source `backfill`), then Parquet, then a line
of the ledger – in this order, so that after a kill between any two of them another attempt ends at the same place.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import pyarrow as pa

from rust_indicators import read_footer
from shijim_live.broker.history import (
    WITHOUT_HISTORY,
    AnswerRefused,
    Columns,
    History,
    HistoryUnavailable,
    NotAnswered,
    QuestionRefused,
    QuotaExhausted,
)
from shijim_live.events import ABSENT_I64, BrokerClass, Exchange, Flag, Kind, Lane
from shijim_live.instruments import UnknownInstrument, instrument
from shijim_live.record import wal
from shijim_live.record.wal import make_folder
from shijim_live.store.lake import Lake
from shijim_live.store.manifest import read_manifest
from shijim_live.store.schema import Rows as Records
from shijim_live.store.schema import blank_rows
from shijim_live.store.views import BACKFILL
from shijim_pipelines.archive import Skipped, archive_segment
from shijim_pipelines.proof import answer
from shijim_pipelines.proof.alignment import Aligned, Fill, Misfit, missing_ranges
from shijim_pipelines.proof.backfilled import Backfilled, Left, describe_backfill
from shijim_pipelines.proof.day_segments import Manifests, not_archived
from shijim_pipelines.proof.gap_report import Gap
from shijim_pipelines.proof.ledger import (
    Change,
    Entry,
    Evidence,
    State,
    advance,
    ledger_path,
    missing_lots,
    open_gaps,
    stream_of,
)
from shijim_pipelines.proof.streams import NO_STREAM, Streams, read_streams
from shijim_pipelines.quotes import closing_totals
from shijim_pipelines.sealed_run import run_header, write_run

__all__ = ["BackfillFailed", "Backfilled", "backfill_day", "describe_backfill"]

APPEND_RECORDS: Final = 65_536
# Codes about which no answer came, each after several tries: nothing is asked any more in this attempt.
UNANSWERED_MAX: Final = 2
LOTS_PER_ROW: Final = 4  # of a code of which nothing is recorded: only the order of questions depends on it

Progress = Callable[[str, int, int], None]


class BackfillFailed(RuntimeError):
    """What was proven could not be archived; the text says why. The ledger says nothing of it."""


@dataclass(frozen=True, slots=True)
class _Proven:
    """A gap and the rows that fill it."""

    entry: Entry
    digest: str  # of the answer
    fill: Fill
    rows: Records  # of them, those not archived yet
    archived_runs: tuple[str, ...]


@dataclass(slots=True)
class _Attempt:
    """One attempt at one day, and what it has come to so far."""

    day: date
    archive_dir: Path
    market_dir: Path
    history: History
    closing: Mapping[tuple[str, str], int]
    streams: Streams
    proven: list[_Proven] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    reasons: dict[str, Evidence] = field(default_factory=dict)  # gap → why it stays open
    asked: list[str] = field(default_factory=list)
    quarantined: list[Path] = field(default_factory=list)
    unanswered: int = 0
    exhausted: str = ""


def backfill_day(
    day: date,
    archive_dir: Path,
    wal_dir: Path,
    reports_dir: Path,
    market_dir: Path,
    history: History,
    actor: str,
    now_ns: int,
    progress: Progress | None = None,
) -> Backfilled:
    """Fills what the ledger of `day` has open and history can prove. `progress(code, done, total)` after each code.

    Safe to run at any time, twice, and after a kill. Raises LedgerDamaged, BackfillFailed, ArchiveFailed, LakeError.
    """
    with _alone(reports_dir, day):
        for path in sorted(wal_dir.glob(f"{BACKFILL}-*/**/*.wal")):
            _archive(path, archive_dir)  # of an attempt that was killed
        entries = open_gaps(reports_dir, day)
        streams = read_streams(Lake(archive_dir), day, {_gap(entry).symbol for entry in entries})
        attempt = _Attempt(day, archive_dir, market_dir, history, closing_totals(market_dir, day), streams)
        by_code = _askable(attempt, entries, _waiting(wal_dir, archive_dir, day))
        for done, (code, mine) in enumerate(by_code, 1):
            _fill_code(attempt, code, mine)
            if progress:
                progress(code, done, len(by_code))
        run_id = _write(attempt, wal_dir, archive_dir)
        changes = [*attempt.changes, *(_filled(proven, run_id) for proven in attempt.proven)]
        changes += [Change(gap_id, State.CLASSIFIED, reason) for gap_id, reason in attempt.reasons.items()]
        # A report that came meanwhile may have superseded some.
        advance(reports_dir, day, changes, actor, now_ns, only_from=frozenset({State.CLASSIFIED}))
        return _summary(attempt, entries, changes, run_id)


@contextmanager
def _alone(reports_dir: Path, day: date) -> Iterator[None]:
    """One attempt at a day at a time: a second one waits, and finds what the first has done."""
    path = ledger_path(reports_dir, day).with_name(f".{day}.backfill.lock")
    make_folder(path.parent)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _gap(entry: Entry) -> Gap:
    assert entry.gap is not None, "what stands in a ledger has its gap"
    return entry.gap


# What to ask


def _askable(
    attempt: _Attempt, entries: Sequence[Entry], waiting: Sequence[tuple[Path, int, int]]
) -> list[tuple[str, list[Entry]]]:
    """Open gaps by code, most gaps for the rows an answer costs first; decides those that need no answer."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        gap = _gap(entry)
        source = stream_of(gap)[2]
        if source != attempt.history.source:
            reason = f"the history of {attempt.history.source} holds nothing of what {source} recorded"
            if source.startswith(WITHOUT_HISTORY):
                attempt.changes.append(Change(entry.gap_id, State.UNRECOVERABLE, {"reason": reason}))
            else:
                attempt.reasons[entry.gap_id] = {"reason": f"{reason}: keep each in a --data-dir of its own"}
        elif runs := _already_archived(attempt, gap):
            attempt.changes.append(Change(entry.gap_id, State.BACKFILLED, _evidence_of_runs(attempt, runs)))
        elif path := _not_archived(gap, waiting):
            reason = f"{path} is not archived and may hold these trades. Run: shijim archive"
            attempt.reasons[entry.gap_id] = {"reason": reason}
        else:
            found.setdefault(gap.symbol, []).append(entry)
    return sorted(found.items(), key=lambda item: (_expected_rows(attempt, *item) / len(item[1]), item[0]))


def _expected_rows(attempt: _Attempt, code: str, entries: Sequence[Entry]) -> int:
    """Of an answer: what was recorded of the code all day, and what is missing of it."""
    mine = [stream for (other, *_), stream in attempt.streams.recorded.items() if other == code]
    rows = sum(len(stream.trades) for stream in mine)
    lots = sum(int(stream.trades.volume.sum()) for stream in mine)
    missing = sum(entry.lots for entry in entries)
    return rows + (missing * rows // lots if lots else missing // LOTS_PER_ROW)


def _already_archived(attempt: _Attempt, gap: Gap) -> tuple[str, ...]:
    """Runs that filled a gap whose line in the ledger was never written; none where something is missing."""
    key = stream_of(gap)
    filled = attempt.streams.backfilled.get(key)
    if filled is None:
        return ()
    known = attempt.streams.recorded.get(key, NO_STREAM)
    wanted = missing_ranges(known.trades, missing_lots(gap))
    covered = not known.contradiction and not any(missing_ranges(filled.trades, each) for each in wanted)
    return filled.runs if covered else ()


def _evidence_of_runs(attempt: _Attempt, runs: Sequence[str]) -> Evidence:
    manifests = [read_manifest(attempt.archive_dir, f"{run}-0001") or {} for run in runs]
    answers = sorted({digest for manifest in manifests for digest in manifest.get("config", {}).get("answers", ())})
    return {"runs": list(runs), "answers": answers, "proof": "proven before it was archived"}


def _waiting(wal_dir: Path, archive_dir: Path, day: date) -> list[tuple[Path, int, int]]:
    """Sealed segments of the day that are not archived, with the first and last exchange stamp in them."""
    found = []
    for path in not_archived(Manifests(archive_dir), wal_dir, day):
        with suppress(ValueError):  # a segment that cannot be read holds nothing that could be archived
            span = orjson.loads(read_footer(path) or b"{}").get("exchange_ns")
            found += [(path, int(span[0]), int(span[1]))] if span else []
    return found


def _not_archived(gap: Gap, waiting: Sequence[tuple[Path, int, int]]) -> Path | None:
    begin_ns, end_ns = (gap.metadata.get(f"exchange_ns_{side}", ABSENT_I64) for side in ("before", "after"))
    assert isinstance(begin_ns, int) and isinstance(end_ns, int), "stamps are integers"
    for path, first_ns, last_ns in waiting:
        if last_ns >= begin_ns and (end_ns == ABSENT_I64 or first_ns <= end_ns):
            return path
    return None


# Asking


def _fill_code(attempt: _Attempt, code: str, entries: list[Entry]) -> None:
    """All gaps of a code: by an answer that is kept, by asking, or with a reason why not."""
    folder = attempt.market_dir / "answers" / str(attempt.day)
    for digest, raw in answer.kept(folder, code):
        entries = _prove(attempt, code, entries, raw, digest)
    if not entries:
        return
    if attempt.exhausted:
        attempt.reasons |= {entry.gap_id: {"reason": attempt.exhausted} for entry in entries}
        return
    refusal = ""
    try:
        attempt.asked.append(code)
        columns = attempt.history.ticks(code, attempt.day)
    except AnswerRefused as error:
        if not isinstance(error.answer, Columns):
            _unanswered(attempt, entries, error)  # what was refused is the broker's account of today
            return
        columns, refusal = error.answer, str(error)
    except (QuotaExhausted, NotAnswered, QuestionRefused, HistoryUnavailable, UnknownInstrument) as error:
        _unanswered(attempt, entries, error)
        return
    raw = answer.raw_table(columns)
    if refusal:
        # It fills nothing, whatever of it could be proven: an answer that is wrong somewhere is no witness elsewhere.
        digest, content = answer.encoded(raw)
        attempt.reasons |= {entry.gap_id: {"reason": refusal, "answer": digest} for entry in entries}
        _quarantine(attempt, code, content, entries)
        return
    proven_before = len(attempt.proven)
    digest, content = answer.encoded(raw)
    left = _prove(attempt, code, entries, raw, digest)
    if len(attempt.proven) > proven_before:
        answer.keep(content, folder, code)
    if left:
        _quarantine(attempt, code, content, left)


def _unanswered(attempt: _Attempt, entries: Sequence[Entry], error: Exception) -> None:
    """No answer: the gaps stay open, unless there will never be one. One code may be at fault, several are not."""
    attempt.asked.pop()
    reason: Evidence = {"reason": str(error)}
    if isinstance(error, UnknownInstrument) or (isinstance(error, HistoryUnavailable) and error.for_good):
        attempt.changes += [Change(entry.gap_id, State.UNRECOVERABLE, reason) for entry in entries]
        return
    attempt.reasons |= {entry.gap_id: reason for entry in entries}
    attempt.unanswered += isinstance(error, NotAnswered)
    if isinstance(error, QuotaExhausted | AnswerRefused) or attempt.unanswered >= UNANSWERED_MAX:
        attempt.exhausted = str(error)


def _prove(attempt: _Attempt, code: str, entries: list[Entry], raw: pa.Table, digest: str) -> list[Entry]:
    """What an answer proves is noted; returns the gaps it does not prove, with the reason noted."""
    left = []
    try:
        found = answer.judged(raw, attempt.day, instrument(code).market, _prices_near(attempt, code))
    except AnswerRefused as refusal:
        attempt.reasons |= {entry.gap_id: {"reason": str(refusal), "answer": digest} for entry in entries}
        return entries
    aligned: dict[str, Aligned] = {}
    for entry in entries:
        gap = _gap(entry)
        session = stream_of(gap)[1]
        try:
            if session not in aligned:
                aligned[session] = _aligned(attempt, code, session, found, entries)
            fill = aligned[session].fill(missing_lots(gap))
            attempt.proven.append(_proven(attempt, entry, digest, fill, aligned[session]))
            attempt.reasons.pop(entry.gap_id, None)
        except Misfit as misfit:
            attempt.reasons[entry.gap_id] = {"reason": str(misfit), "answer": digest}
            left.append(entry)
    return left


def _prices_near(attempt: _Attempt, code: str) -> tuple[int, int] | None:
    prices = [s.trades.price_e6 for (other, *_), s in attempt.streams.recorded.items() if other == code]
    prices = [each for each in prices if len(each)]
    return (min(int(each.min()) for each in prices), max(int(each.max()) for each in prices)) if prices else None


def _aligned(attempt: _Attempt, code: str, session: str, found: answer.Answer, entries: Sequence[Entry]) -> Aligned:
    """One session of the answer against what was recorded of it. Raises Misfit."""
    key = (code, session, attempt.history.source)
    stream, base = attempt.streams.recorded.get(key, NO_STREAM), attempt.streams.base(key)
    if stream.contradiction:
        raise Misfit(stream.contradiction)
    end = attempt.closing.get((code, session))
    if end is None:
        # What the audit found missing behind the last trade was sized by a closing total, too.
        wanted = [missing_lots(_gap(entry))[1] for entry in entries if stream_of(_gap(entry)) == key]
        last = int(stream.trades.total[-1]) if len(stream.trades) else base
        end = max(wanted, default=0) if max(wanted, default=0) > last else None
    else:
        end += base
    return Aligned(stream.trades, found.rows(session), base, end, found.resolution_ns)


def _proven(attempt: _Attempt, entry: Entry, digest: str, fill: Fill, aligned: Aligned) -> _Proven:
    """The rows to write for a gap: those that are not archived. Raises Misfit where the archive has others."""
    gap = _gap(entry)
    key = stream_of(gap)
    there = attempt.streams.backfilled.get(key, NO_STREAM)
    if there.contradiction:
        raise Misfit(f"what was backfilled before contradicts itself: {there.contradiction}")
    low, high = missing_lots(gap)
    within = (there.trades.total > low) & (there.trades.total <= high)
    at = np.searchsorted(fill.total, there.trades.total[within])
    rows = aligned.rows
    pairs = (
        (fill.total, there.trades.total),
        (rows.exchange_ns[fill.index], there.trades.exchange_ns),
        (rows.price_e6[fill.index], there.trades.price_e6),
        (rows.volume[fill.index], there.trades.volume),
    )
    inside = not len(at) or int(at[-1]) < len(fill.total)
    if not inside or not all(np.array_equal(mine[at], theirs[within]) for mine, theirs in pairs):
        raise Misfit("another answer filled a part of it before, with other trades")
    new = np.ones(len(fill.total), bool)
    new[at] = False
    records = _records(attempt, gap.symbol, key, aligned, fill.index[new], fill.total[new])
    return _Proven(entry, digest, fill, records, there.runs if len(at) else ())


def _records(
    attempt: _Attempt,
    code: str,
    key: tuple[str, str, str],
    aligned: Aligned,
    index: answer.Int64s,
    total: answer.Int64s,
) -> Records:
    """Trades as the log has them: what history does not tell is absent, what was inferred is flagged."""
    exchange = attempt.streams.recorded.get(key, NO_STREAM).exchange or int(Exchange[instrument(code).exchange])
    made = blank_rows("ticks", len(index), Kind.TRADE)
    made["broker_class"], made["lane"], made["exchange"] = BrokerClass.HISTORY_TICKS, Lane.BOARD, exchange
    rounded = Flag.TIME_ROUNDED if aligned.cut_ns else 0
    made["flags"] = Flag.TOTAL_INFERRED | Flag.LANE_INFERRED | rounded
    made["code"], made["exchange_ns"] = code.encode(), aligned.rows.exchange_ns[index]
    made["price_e6"], made["volume"] = aligned.rows.price_e6[index], aligned.rows.volume[index]
    made["side"], made["total_volume"] = aligned.rows.side[index], total
    return made


def _quarantine(attempt: _Attempt, code: str, content: bytes, left: Sequence[Entry]) -> None:
    """An answer that does not fill what it should, with the reasons: for a person to look at."""
    folder = attempt.market_dir / "quarantine" / str(attempt.day)
    path = answer.keep(content, folder, code)
    why = {entry.gap_id: attempt.reasons[entry.gap_id]["reason"] for entry in left}
    answer.write_reasons(path.with_suffix(".json"), {"code": code, "day": str(attempt.day), "gaps": why})
    attempt.quarantined.append(path)


# Writing


def _write(attempt: _Attempt, wal_dir: Path, archive_dir: Path) -> str:
    """Everything proven that is not archived, as one run, archived; its id, or "" where there is nothing."""
    parts = [proven.rows for proven in attempt.proven if len(proven.rows)]
    if not parts:
        return ""
    rows = np.concatenate(parts)
    rows = rows[np.lexsort((rows["total_volume"], rows["code"], rows["exchange_ns"]))]
    config: dict[str, object] = {
        "fills": attempt.history.source,
        "day": str(attempt.day),
        "answers": sorted({proven.digest for proven in attempt.proven if len(proven.rows)}),
    }
    digest = hashlib.sha256(orjson.dumps(config, option=orjson.OPT_SORT_KEYS))
    digest.update(rows.tobytes())
    run_id = digest.hexdigest()[:16]
    folder = wal_dir / f"{BACKFILL}-{run_id}"
    codes = {code.decode("ascii") for code in rows["code"].tolist()}
    header = run_header(BACKFILL, run_id, int(rows["exchange_ns"][0]), config, codes)
    chunks = (rows[at : at + APPEND_RECORDS].tobytes() for at in range(0, len(rows), APPEND_RECORDS))
    write_run(folder, run_id, header, chunks)
    for path in wal.existing_segments(folder):
        _archive(path, archive_dir)
    return run_id


def _archive(path: Path, archive_dir: Path) -> None:
    outcome = archive_segment(path, archive_dir)
    if isinstance(outcome, Skipped):
        raise BackfillFailed(f"{path}: cannot be archived ({outcome.reason}). Run: shijim-live verify {path}")


def _filled(proven: _Proven, run_id: str) -> Change:
    fill = proven.fill
    runs = [*proven.archived_runs, *([run_id] if len(proven.rows) else [])]
    evidence: Evidence = {
        "runs": runs,
        "answers": [proven.digest],
        "proof": fill.proof,
        "order": fill.order,
        "recorded_before": fill.before,
        "recorded_after": fill.after,
        "trades": len(fill.index),
    }
    return Change(proven.entry.gap_id, State.BACKFILLED, evidence)


def _summary(attempt: _Attempt, entries: Sequence[Entry], changes: Sequence[Change], run_id: str) -> Backfilled:
    by_id = {entry.gap_id: entry for entry in entries}
    filled = [by_id[change.gap_id] for change in changes if change.state is State.BACKFILLED]
    left = [(_gap(by_id[gap_id]), reason) for gap_id, reason in attempt.reasons.items()]
    return Backfilled(
        trading_day=attempt.day,
        run_id=run_id,
        gaps=len(filled),
        lots=sum(entry.lots for entry in filled),
        trades=sum(len(proven.rows) for proven in attempt.proven),
        asked=tuple(attempt.asked),
        left=tuple(Left(*stream_of(g)[:2], g.lots, str(reason["reason"])) for g, reason in left),
        unrecoverable=sum(change.state is State.UNRECOVERABLE for change in changes),
        quarantined=tuple(attempt.quarantined),
        exhausted=attempt.exhausted,
    )
