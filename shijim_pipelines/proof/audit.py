"""The gap audit of one trading day: volume continuity, what comes after the last trade, silences, the recorder's own
sequence, recorded outages. Repairs nothing, and speaks of what was recorded: a backfill is not looked at.

Sources are judged apart, so that an import never vouches for a recording. What cannot be judged is said (unprovable,
notes): an audit without proof is never green, and an error is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from shijim_live.calendar import CLOSE_GRACE_NS, Market, NotYet, require_trading_day, session_bounds, wall_clock
from shijim_live.events import ABSENT_I64, Kind
from shijim_pipelines.proof import silence
from shijim_pipelines.proof.day_segments import (
    ArchiveDamaged,
    Manifest,
    Manifests,
    Outage,
    files_of,
    key_of,
    not_archived,
    outages_of,
    segments_of,
    within,
)
from shijim_pipelines.proof.ends import Closing, absent_streams, missing_after_last
from shijim_pipelines.proof.gap_report import (
    Gap,
    GapReport,
    Metadata,
    ReportDamaged,
    SessionKey,
    Stream,
    describe,
    lane_name,
    read_report,
    session_name,
    write_report,
)
from shijim_pipelines.proof.row_groups import Sight, row_groups
from shijim_pipelines.proof.volume import Judged, StreamKey, Tally, VolumeGap, judge_files

__all__ = [
    "ArchiveDamaged",
    "NoData",
    "NotYet",
    "ReportDamaged",
    "audit_day",
    "describe",
    "read_report",
    "write_report",
]

_NO_TOTAL: Final = "its source has no total_volume"
_SOME_NO_TOTAL: Final = "some of its trades have no total_volume"
_RESET: Final = "total_volume fell: what it was judged against is gone"
_EXCESS: Final = "volume and total_volume contradict each other"


class NoData(ValueError):
    """Nothing of the day is archived."""


def audit_day(
    archive_dir: Path,
    wal_dir: Path | None,
    day: date,
    *,
    closing: Mapping[tuple[str, str], int] | None = None,
    wanted: Sequence[str] = (),
    as_of_ns: int | None = None,
) -> GapReport:
    """Judges what is archived of `day`; with `wal_dir`, also says which sealed segments are not archived yet.

    `closing`: lots the exchange traded, by (code, session); `wanted`: codes that should have been recorded. At
    `as_of_ns` (None: afterwards) sessions that are not over are judged for what is there, not for what is to come.
    Raises NotATradingDay, NotYet, NoData, ArchiveDamaged, and whatever reading the archive raises.
    """
    sessions = _sessions(day, as_of_ns)
    known = Manifests(archive_dir)
    segments, notes = segments_of(known, day)
    waiting = not_archived(known, wal_dir, day)
    notes += [f"{path} is sealed but not archived. Run: shijim archive" for path in waiting]
    if not segments:
        hint = "Run: shijim archive" if waiting or notes else "Record or import it, then run: shijim archive"
        raise NoData(f"{archive_dir}: nothing of trading day {day} is archived. {hint}")
    outages = [outage for outage in outages_of(known, day) if within(outage.begin_ns, outage.end_ns, day)]
    streams, gaps = [], []
    judged: dict[str, Judged] = {}
    for source in sorted({segment["source"] for segment in segments}):
        mine = [segment for segment in segments if segment["source"] == source]
        found = judge_files(files_of(mine, archive_dir, "ticks", day))
        judged[source] = found
        about = _Source(source, day, sessions, Closing(closing or {}, sessions), outages)
        for stream, missing in about.streams(found):
            streams.append(stream)
            gaps += missing
        books = row_groups("books", files_of(mine, archive_dir, "books", day))
        gaps += silence.holes(source, books, found, day, about.outages, sessions)
    for stream, gap in absent_streams(Closing(closing or {}, sessions), wanted, judged, day):
        streams.append(stream)
        gaps.append(gap)
    for run_id in sorted({segment["run_id"] for segment in segments}):
        mine = [segment for segment in segments if segment["run_id"] == run_id]
        gaps += _sequence_gaps(known, mine, {path.stem for path in waiting})
        notes += _without_end(known, mine[-1], day)
    gaps += [_outage_gap(outage) for outage in outages]
    streams.sort(key=lambda stream: (stream.source, stream.code, stream.lane, stream.session))
    gaps.sort(key=lambda gap: (gap.symbol, gap.lane, gap.start_ns, gap.seq_start, gap.gap_type, gap.end_ns))
    inputs = {key_of(segment): segment["multiset_sum"] for segment in segments}
    stated = {session_name(*key): "closed" if over else "open" for key, over in sessions.items()}
    return GapReport(day, tuple(streams), tuple(gaps), tuple(notes), inputs, stated)


def _sessions(day: date, as_of_ns: int | None) -> dict[SessionKey, bool]:
    """Whether each session of the day is over. Raises NotATradingDay, NotYet."""
    require_trading_day(day)
    bounds = {(market, bound.session.value): bound for market in Market for bound in session_bounds(day, market)}
    if as_of_ns is None:
        return dict.fromkeys(bounds, True)
    opens_ns = min(bound.open_ns for bound in bounds.values())
    if as_of_ns < opens_ns:
        asked, opens = (wall_clock(ns).isoformat(sep=" ", timespec="minutes") for ns in (as_of_ns, opens_ns))
        raise NotYet(f"trading day {day} opens at {opens} (Taipei), and it is {asked}: audit it when it has begun")
    return {key: as_of_ns >= bound.close_ns + CLOSE_GRACE_NS for key, bound in bounds.items()}


class _Source:
    """One source's streams, and what is known of it."""

    def __init__(
        self, source: str, day: date, sessions: Mapping[SessionKey, bool], closing: Closing, outages: Sequence[Outage]
    ) -> None:
        self.source, self.day, self.sessions, self.closing = source, day, sessions, closing
        self.outages = [outage for outage in outages if outage.source == source]

    def streams(self, judged: Judged) -> list[tuple[Stream, list[Gap]]]:
        """In the order of code, lane and session."""
        after = {key: missing_after_last(self.closing, key, tally) for key, tally in judged.tallies.items()}
        wanted = {tally.last_row for key, tally in judged.tallies.items() if after[key] > 0}
        for tally in judged.tallies.values():
            for gap in tally.gaps:
                wanted |= {row for row in (gap.row_before, gap.row_after) if row is not None and gap.lots}
        seen = judged.sights(wanted)
        found = []
        for key, tally in sorted(judged.tallies.items()):
            gaps = [self._gap(key, tally, gap, seen) for gap in tally.gaps if gap.lots]
            if after[key] > 0:
                gaps.append(self._early_stop(key, tally, after[key], seen[tally.last_row]))
            found.append((self._stream(key, tally, gaps, after[key]), gaps))
        return found

    def _stream(self, key: StreamKey, tally: Tally, gaps: list[Gap], after: int) -> Stream:
        code, lane, session = key
        verdict, reason = _verdict(tally, bool(gaps))
        total = self.closing.of(key, tally.futures)
        if after < 0:
            verdict, reason = (
                "unprovable",
                f"{-after:,} lots more than the exchange's total of {total:,}",
            )
        return Stream(
            source=self.source,
            code=code,
            lane=lane_name(lane),
            session=session,
            trades=tally.trades,
            lots=tally.lots,
            judged=tally.judged,
            basis=tally.basis,
            lots_missing=sum(gap.lots for gap in gaps),
            gaps=len(gaps),
            late=tally.late,
            duplicates=tally.duplicates,
            resets=tally.resets,
            excesses=tally.excesses,
            verdict=verdict,
            reason=reason,
            closing=ABSENT_I64 if total is None else total,
        )

    def _gap(self, key: StreamKey, tally: Tally, gap: VolumeGap, seen: Mapping[int | None, Sight]) -> Gap:
        before, after = seen[gap.row_before], seen[gap.row_after]
        open_ns = min(_bound_ns(self.day, key[2], tally.futures, "open_ns"), after.clock_ns)
        start_ns = open_ns if gap.row_before is None else before.clock_ns
        covering = self._covering(key[0], start_ns, after.clock_ns)
        cause, reason = "feed_loss", "the recorder was up and no outage is known"
        if covering:
            cause, reason = "outage", covering
        elif gap.basis == "zero":
            cause, reason = "late_start", "the first recorded trade of the session is not its first"
        metadata = self._between(key, (gap.total_from, gap.total_to), before, after) | {"basis": gap.basis}
        if gap.missing != [(gap.total_from, gap.total_to)]:
            metadata["missing"] = [list(part) for part in gap.missing]
        bounds = (before.sequence, after.sequence, start_ns, after.clock_ns)
        return Gap("volume", key[0], lane_name(key[1]), *bounds, gap.lots, cause, reason, metadata)

    def _early_stop(self, key: StreamKey, tally: Tally, lots: int, last: Sight) -> Gap:
        close_ns = max(_bound_ns(self.day, key[2], tally.futures, "close_ns"), last.clock_ns)
        covering = self._covering(key[0], last.clock_ns, close_ns)
        reason = "the exchange's closing total is higher"
        assert tally.total is not None  # otherwise nothing is missing of it
        nowhere = Sight("", ABSENT_I64, close_ns, ABSENT_I64)
        metadata = self._between(key, (tally.total, tally.total + lots), last, nowhere)
        metadata |= {"basis": "closing", "outage": covering} if covering else {"basis": "closing"}
        bounds = (last.sequence, ABSENT_I64, last.clock_ns, close_ns)
        return Gap("volume", key[0], lane_name(key[1]), *bounds, lots, "early_stop", reason, metadata)

    def _between(self, key: StreamKey, totals: tuple[int, int], before: Sight, after: Sight) -> Metadata:
        return {
            "source": self.source,
            "session": key[2],
            "total_from": totals[0],
            "total_to": totals[1],
            "run_id_before": before.run_id,
            "run_id_after": after.run_id,
            "exchange_ns_before": before.exchange_ns,
            "exchange_ns_after": after.exchange_ns,
        }

    def _covering(self, code: str, start_ns: int, end_ns: int) -> str:
        """Why the recorder was away from this code meanwhile, or nothing."""
        away = (it for it in self.outages if it.begin_ns <= end_ns and it.end_ns >= start_ns and it.concerns(code))
        return next((it.reason for it in away), "")


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


def _bound_ns(day: date, session: str, futures: bool, name: str) -> int:
    bounds = session_bounds(day, Market.FUTURES if futures else Market.STOCK)
    return next((int(getattr(bound, name)) for bound in bounds if bound.session == session), ABSENT_I64)


def _outage_gap(outage: Outage) -> Gap:
    around = (outage.sequence, outage.sequence, outage.begin_ns, outage.end_ns)
    metadata: Metadata = {"run_id": outage.run_id}
    if outage.codes is not None:
        metadata |= {"codes": " ".join(sorted(outage.codes))}  # of the connection; other codes were recorded all the while
    return Gap("outage", "", "", *around, 0, "recorded", outage.reason, metadata)


def _sequence_gaps(known: Manifests, segments: list[Manifest], waiting: set[str]) -> list[Gap]:
    """Events the recorder had accepted and numbered, and that the archive does not have. One run's segments."""
    found = []
    for segment in segments:
        for first, last in segment["missing_sequences"]:
            message = next((problem["message"] for problem in segment["problems"]), "the segment does not have them")
            found.append(_sequence_gap(segment, first, last, "corrupt_block", message))
        number, first = segment["segment"], segment["first_sequence"]
        key = f"{segment['run_id']}-{number - 1:04}"
        before = known.get(key) if number > 1 else None
        if number > 1 and before is None:
            cause = "not_archived" if key in waiting else "segment_missing"
            found.append(_sequence_gap(segment, ABSENT_I64, first - 1, cause, f"segment {key} is not archived"))
            continue
        expected = before["footer"]["last_sequence"] + 1 if before else 1
        if expected < first:
            found.append(_sequence_gap(segment, expected, first - 1, "segment_missing", "no segment has them"))
    return found


def _sequence_gap(segment: Manifest, first: int, last: int, cause: str, reason: str) -> Gap:
    metadata: Metadata = {"run_id": segment["run_id"], "segment": segment["segment"]}
    return Gap("sequence", "", "", first, last, ABSENT_I64, ABSENT_I64, 0, cause, reason, metadata)


def _without_end(known: Manifests, last: Manifest, day: date) -> list[str]:
    """A recording whose last archived segment holds no stop, and that nothing shows alive after the day's close.

    Imports have no stop.
    """
    stopped = last["footer"]["kinds"].get(str(int(Kind.STOP)))
    goes_on = f"{last['run_id']}-{last['segment'] + 1:04}" in known.keys
    lived_ns = (last["footer"].get("received_ns") or (ABSENT_I64, ABSENT_I64))[1]
    over = lived_ns >= session_bounds(day, Market.FUTURES)[-1].close_ns
    if last["source"].startswith("import:") or stopped or goes_on or over:
        return []
    return [f"run {last['run_id']} has no end after segment {last['segment']}: still recording, or it was killed"]
