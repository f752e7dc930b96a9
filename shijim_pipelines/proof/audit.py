"""The gap audit of one trading day: volume continuity, the recorder's own sequence, recorded outages. Repairs nothing.

Sources are judged apart, so that an import never vouches for a recording. What cannot be judged is said (unprovable,
notes): an audit without proof is never green, and an error is an error.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from rust_indicators import read_footer
from shijim_live.calendar import Market, next_trading_day, previous_trading_day, require_trading_day, session_bounds
from shijim_live.events import ABSENT_I64, TEXT_BYTES, Kind
from shijim_live.record import wal
from shijim_live.store import schema
from shijim_live.store.parquet import parquet_path, stored_rows
from shijim_pipelines.archive import MANIFESTS, manifests, missing_files, read_manifest
from shijim_pipelines.proof.gap_report import Gap, GapReport, Stream, describe, lane_name, write_report
from shijim_pipelines.proof.volume import NOWHERE, StreamKey, Tally, VolumeGap, judge_files

__all__ = ["NoData", "audit_day", "describe", "write_report"]

_NO_TOTAL: Final = "its source has no total_volume"
_SOME_NO_TOTAL: Final = "some of its trades have no total_volume"
_RESET: Final = "total_volume fell: what it was judged against is gone"
_EXCESS: Final = "volume and total_volume contradict each other"

Manifest = dict[str, Any]


class NoData(ValueError):
    """Nothing of the day is archived."""


class ArchiveDamaged(ValueError):
    """A file of the archive is gone or altered: what is left must not be judged as if it were all."""


@dataclass(frozen=True, slots=True)
class _Outage:
    """A hole the recorder knew of, on our clock."""

    source: str
    run_id: str
    sequence: int
    begin_ns: int
    end_ns: int
    reason: str


def audit_day(archive_dir: Path, wal_dir: Path | None, day: date) -> GapReport:
    """Judges what is archived of `day`; with `wal_dir`, also says which sealed segments are not archived yet.

    Raises NotATradingDay, NoData, and whatever reading the archive raises.
    """
    require_trading_day(day)
    segments, notes = _segments(archive_dir, day)
    waiting = _not_archived(archive_dir, wal_dir, day)
    notes += [f"{path} is sealed but not archived. Run: shijim archive" for path in waiting]
    if not segments:
        hint = "Run: shijim archive" if waiting or notes else "Record or import it, then run: shijim archive"
        raise NoData(f"{archive_dir}: nothing of trading day {day} is archived. {hint}")
    outages = _outages(archive_dir, day)
    by_source: dict[str, list[Manifest]] = defaultdict(list)
    for segment in segments:
        by_source[segment["source"]].append(segment)
    streams, gaps = [], []
    for source, mine in sorted(by_source.items()):
        files = [
            (segment["run_id"], parquet_path(archive_dir, "ticks", day, _key(segment)))
            for segment in mine
            if ["ticks", str(day)] in [[file["table"], file["trading_day"]] for file in segment["files"]]
        ]
        known = [outage for outage in outages if outage.source == source]
        for key, tally in sorted(judge_files(files).items()):
            streams.append(_stream(source, key, tally))
            gaps += [_volume_gap(source, day, key, tally, gap, known) for gap in tally.gaps if gap.lots]
    for run_id in sorted({segment["run_id"] for segment in segments}):
        mine = [segment for segment in segments if segment["run_id"] == run_id]
        gaps += _sequence_gaps(archive_dir, mine, {path.stem for path in waiting})
        notes += _without_end(archive_dir, mine[-1])
    gaps += [_outage_gap(outage) for outage in outages if _within(outage.begin_ns, outage.end_ns, day)]
    gaps.sort(key=lambda gap: (gap.symbol, gap.lane, gap.start_ns, gap.seq_start, gap.gap_type))
    inputs = {_key(segment): segment["multiset_sum"] for segment in segments}
    return GapReport(day, tuple(streams), tuple(gaps), tuple(notes), inputs)


def _sealed_within(footer: dict[str, Any], day: date) -> bool:
    """Whether what a segment was sealed with falls into the sessions of the day."""
    first_ns, last_ns = footer.get("received_ns") or footer.get("exchange_ns") or (ABSENT_I64, ABSENT_I64)
    bounds = session_bounds(day, Market.FUTURES)
    return bool(first_ns < bounds[-1].close_ns and last_ns >= bounds[0].open_ns)


def _key(segment: Manifest) -> str:
    return f"{segment['run_id']}-{segment['segment']:04}"


def _segments(archive_dir: Path, day: date) -> tuple[list[Manifest], list[str]]:
    """Manifests of the segments with rows of the day, in the order they were recorded; notes on unfinished ones."""
    keys: set[str] = set()
    for table in schema.TABLES:
        keys |= {path.stem for path in parquet_path(archive_dir, table, day, "_").parent.glob("*.parquet")}
    # A file that was lost is still named by its manifest; a segment of which nothing was sound has no file at all.
    keys |= {
        key
        for key, manifest in manifests(archive_dir).items()
        if str(day) in [file["trading_day"] for file in manifest["files"]]
        or (not manifest["files"] and _sealed_within(manifest["footer"], day))
    }
    found, notes = [], []
    for key in sorted(keys):
        manifest = read_manifest(archive_dir, key)
        if manifest is None:
            notes.append(f"segment {key} is half archived and was not judged. Run: shijim archive")
        elif missing := missing_files(manifest, archive_dir):
            raise ArchiveDamaged(f"{missing[0]}: not what segment {key} was archived as. Run: shijim archive")
        else:
            found.append(manifest)
    started: dict[str, int] = {}
    for manifest in found:
        footer = manifest["footer"]
        first = (footer.get("received_ns") or footer.get("exchange_ns") or [0])[0]
        started[manifest["run_id"]] = min(started.get(manifest["run_id"], first), first)
    found.sort(key=lambda manifest: (started[manifest["run_id"]], manifest["run_id"], manifest["segment"]))
    return found, notes


def _not_archived(archive_dir: Path, wal_dir: Path | None, day: date) -> list[Path]:
    """Sealed segments that may hold events of the day and are not in the archive."""
    if wal_dir is None or not wal_dir.exists():
        return []
    found = []
    for path in wal.segment_paths(wal_dir):
        if read_manifest(archive_dir, path.stem) is None and (footer := read_footer(path)) is not None:
            ranges = orjson.loads(footer)
            span = ranges.get("exchange_ns") or ranges.get("received_ns")
            if not span or _within(span[0], span[1], day):
                found.append(path)
    return found


def _outages(archive_dir: Path, day: date) -> list[_Outage]:
    """Recorded outages of the day and its neighbours: one that ends after the close is a status of the next day."""
    found = []
    for near in (previous_trading_day(day), day, next_trading_day(day)):
        for path in sorted(parquet_path(archive_dir, "statuses", near, "_").parent.glob("*.parquet")):
            manifest = read_manifest(archive_dir, path.stem)
            if manifest is None:
                continue
            for rows in stored_rows(path, "statuses"):
                mine = rows[(rows["kind"] == Kind.OUTAGE) & (rows["part"] == 0)]
                found += [_outage(row, manifest) for row in mine]
    return sorted(found, key=lambda outage: (outage.begin_ns, outage.run_id, outage.sequence))


def _outage(row: Any, segment: Manifest) -> _Outage:
    text = bytes(row["text"])[: min(int(row["text_length"]), TEXT_BYTES)].decode("utf-8", "replace")
    begin_ns, end_ns = int(row["begin_ns"]), int(row["end_ns"])
    return _Outage(segment["source"], segment["run_id"], int(row["sequence"]), begin_ns, end_ns, text)


def _within(begin_ns: int, end_ns: int, day: date) -> bool:
    """Whether a span of time touches a session of the day."""
    bounds = [bound for market in Market for bound in session_bounds(day, market)]
    return any(begin_ns <= bound.close_ns and end_ns >= bound.open_ns for bound in bounds)


def _outage_gap(outage: _Outage) -> Gap:
    around = (outage.sequence, outage.sequence, outage.begin_ns, outage.end_ns)
    return Gap("outage", "", "", *around, 0, "recorded", outage.reason, {"run_id": outage.run_id})


def _stream(source: str, key: StreamKey, tally: Tally) -> Stream:
    code, lane, session = key
    missing = [gap.lots for gap in tally.gaps if gap.lots]
    verdict, reason = _verdict(tally, bool(missing))
    return Stream(
        source=source,
        code=code,
        lane=lane_name(lane),
        session=session,
        trades=tally.trades,
        lots=tally.lots,
        judged=tally.judged,
        basis=tally.basis,
        lots_missing=sum(missing),
        gaps=len(missing),
        late=tally.late,
        duplicates=tally.duplicates,
        resets=tally.resets,
        excesses=tally.excesses,
        verdict=verdict,
        reason=reason,
    )


def _verdict(tally: Tally, missing: bool) -> tuple[str, str]:
    if missing:
        return "gaps", ""
    doubts = (
        (tally.judged == 0, _NO_TOTAL),
        (tally.judged < tally.trades, _SOME_NO_TOTAL),
        (tally.resets > 0, _RESET),
        (tally.excesses > 0, _EXCESS),
    )
    reason = next((reason for doubt, reason in doubts if doubt), "")
    return ("unprovable", reason) if reason else ("continuous", "")


def _volume_gap(source: str, day: date, key: StreamKey, tally: Tally, gap: VolumeGap, outages: list[_Outage]) -> Gap:
    code, lane, session = key
    open_ns = min(_open_ns(day, session, tally.futures), gap.after.clock_ns)
    start_ns = gap.before.clock_ns if gap.before != NOWHERE else open_ns
    covering = [outage for outage in outages if outage.begin_ns <= gap.after.clock_ns and outage.end_ns >= start_ns]
    cause, reason = "feed_loss", "the recorder was up and no outage is known"
    if covering:
        cause, reason = "outage", covering[0].reason
    elif gap.basis == "zero":
        cause, reason = "late_start", "the first recorded trade of the session is not its first"
    metadata: dict[str, str | int] = {
        "source": source,
        "session": session,
        "basis": gap.basis,
        "total_from": gap.total_from,
        "total_to": gap.total_to,
        "run_id_before": gap.before.run_id,
        "run_id_after": gap.after.run_id,
        "exchange_ns_after": gap.after.exchange_ns,
    }
    bounds = (gap.before.sequence, gap.after.sequence, start_ns, gap.after.clock_ns)
    return Gap("volume", code, lane_name(lane), *bounds, gap.lots, cause, reason, metadata)


def _open_ns(day: date, session: str, futures: bool) -> int:
    bounds = session_bounds(day, Market.FUTURES if futures else Market.STOCK)
    return next((bound.open_ns for bound in bounds if bound.session == session), ABSENT_I64)


def _sequence_gaps(archive_dir: Path, segments: list[Manifest], waiting: set[str]) -> list[Gap]:
    """Events the recorder had accepted and numbered, and that the archive does not have. One run's segments."""
    found = []
    for segment in segments:
        for first, last in segment["missing_sequences"]:
            message = next((problem["message"] for problem in segment["problems"]), "the segment does not have them")
            found.append(_sequence_gap(segment, first, last, "corrupt_block", message))
        number, first = segment["segment"], segment["first_sequence"]
        key = f"{segment['run_id']}-{number - 1:04}"
        before = read_manifest(archive_dir, key) if number > 1 else None
        if number > 1 and before is None:
            cause = "not_archived" if key in waiting else "segment_missing"
            found.append(_sequence_gap(segment, ABSENT_I64, first - 1, cause, f"segment {key} is not archived"))
            continue
        expected = before["footer"]["last_sequence"] + 1 if before else 1
        if expected < first:
            found.append(_sequence_gap(segment, expected, first - 1, "segment_missing", "no segment has them"))
    return found


def _sequence_gap(segment: Manifest, first: int, last: int, cause: str, reason: str) -> Gap:
    metadata: dict[str, str | int] = {"run_id": segment["run_id"], "segment": segment["segment"]}
    return Gap("sequence", "", "", first, last, ABSENT_I64, ABSENT_I64, 0, cause, reason, metadata)


def _without_end(archive_dir: Path, last: Manifest) -> list[str]:
    """A recording whose last archived segment holds no stop: still going on, or killed. Imports have no stop."""
    later = archive_dir / MANIFESTS / f"{last['run_id']}-{last['segment'] + 1:04}.json"
    stopped = last["footer"]["kinds"].get(str(int(Kind.STOP)))
    if last["source"].startswith("import:") or later.exists() or stopped:
        return []
    return [f"run {last['run_id']} has no end after segment {last['segment']}: still recording, or it was killed"]
