"""What becomes of every gap: `ledger/<day>.jsonl`, one line a transition, only ever appended. Judges nothing itself.

    DETECTED → CLASSIFIED(cause) → BACKFILLED | UNRECOVERABLE(reason) → VERIFIED        any of them → SUPERSEDED

Every line carries a hash of itself and of the line before it: a line that was altered or is gone is noticed, and so is
one that a killed writer left half written. Such a torn end was never acknowledged: it is cut off, kept in
`<day>.jsonl.torn`, and the next line says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

import orjson

from shijim_live.events import ABSENT_I64
from shijim_live.record.wal import make_folder, sync_name
from shijim_pipelines.proof.gap_report import SHOWN_MAX, Gap, GapReport

_CHAIN_DIGITS: Final = 16
_CHAIN_KEY: Final = b',"chain":"'
_CHAIN_BYTES: Final = len(_CHAIN_KEY) + _CHAIN_DIGITS + 2

_BOOKS_ARE_GONE: Final = "books of the time cannot be had again from anybody"
_UNRECOVERABLE: Final = {
    "outage": f"{_BOOKS_ARE_GONE}; trades that were lost meanwhile are gaps of their own",
    "sequence": f"{_BOOKS_ARE_GONE}; trades among these events are the gaps named here",
}
_NO_ODD_LOTS: Final = "the broker keeps no history of this lane"

Evidence = dict[str, object]


class LedgerDamaged(ValueError):
    """A line that is not what was written; the text says which and what to do."""


class IllegalTransition(ValueError):
    """A step that the states do not allow: a bug, or two versions of the program at one ledger."""


class State(StrEnum):
    """Where a gap stands."""

    DETECTED = "DETECTED"
    CLASSIFIED = "CLASSIFIED"
    BACKFILLED = "BACKFILLED"
    UNRECOVERABLE = "UNRECOVERABLE"
    VERIFIED = "VERIFIED"
    SUPERSEDED = "SUPERSEDED"  # a newer report does not have it


# CLASSIFIED again: another cause, or why an attempt to fill it did not.
_ALLOWED: Final[dict[State | None, frozenset[State]]] = {
    None: frozenset({State.DETECTED}),
    State.DETECTED: frozenset({State.CLASSIFIED, State.SUPERSEDED}),
    State.CLASSIFIED: frozenset({State.CLASSIFIED, State.BACKFILLED, State.UNRECOVERABLE, State.SUPERSEDED}),
    State.BACKFILLED: frozenset({State.VERIFIED, State.SUPERSEDED}),
    State.UNRECOVERABLE: frozenset({State.VERIFIED, State.SUPERSEDED}),
    State.VERIFIED: frozenset({State.SUPERSEDED}),
    State.SUPERSEDED: frozenset({State.DETECTED}),
}


@dataclass(frozen=True, slots=True)
class Change:
    """A step to take. One that changes nothing is not written."""

    gap_id: str
    state: State
    evidence: Evidence = field(default_factory=dict)
    cause: str | None = None  # None keeps the cause that is known
    gap: Gap | None = None  # with DETECTED


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `gap` stands in the line of DETECTED, and in every entry that `standing` returns."""

    gap_id: str
    at_ns: int
    state: State
    actor: str
    cause: str
    lots: int
    evidence: Evidence
    gap: Gap | None = None


def ledger_path(reports_dir: Path, day: date) -> Path:
    """Where the ledger of a day lies."""
    return reports_dir / "ledger" / f"{day}.jsonl"


def describe(entries: Sequence[Entry]) -> str:
    """A line for every gap, as it stands, the largest first."""
    worst = sorted(entries, key=lambda entry: (-entry.lots, entry.gap_id))
    lines = [f"{len(worst):,} gaps, {sum(entry.lots for entry in worst):,} lots"]
    for entry in worst[:SHOWN_MAX]:
        symbol = entry.gap.symbol if entry.gap else ""
        reason = str(entry.evidence.get("reason", ""))
        why = f"{entry.cause}: {reason}" if reason else entry.cause
        lines.append(f"{entry.state:<13} {symbol:<8} {entry.lots:>7,} lots  {why}")
    more = len(worst) - SHOWN_MAX
    return "\n".join(lines + ([f"… and {more:,} more"] if more > 0 else []))


def read_ledger(reports_dir: Path, day: date) -> list[Entry]:
    """Every line in order, without a torn end. Raises LedgerDamaged."""
    path = ledger_path(reports_dir, day)
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return _parsed(path, file.read())[0]
    except FileNotFoundError:
        return []


def standing(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The newest entry of each gap, with the gap itself, in the order they were first detected."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        known = newest.get(entry.gap_id)
        newest[entry.gap_id] = entry if entry.gap or known is None else replace(entry, gap=known.gap)
    return newest


def record_report(report: GapReport, reports_dir: Path, actor: str, now_ns: int) -> list[Entry]:
    """Appends what is new in a gap report, and SUPERSEDED for what is not in it any more. Returns what was appended."""
    gaps = identified(report)
    with _locked(reports_dir, report.trading_day) as ledger:
        changes: list[Change] = []
        for gap_id, gap in gaps.items():
            changes += _owed(gap_id, gap, ledger.newest.get(gap_id), gaps)
        gone = [gap_id for gap_id, entry in ledger.newest.items() if entry.state is not State.SUPERSEDED]
        changes += [Change(gap_id, State.SUPERSEDED) for gap_id in gone if gap_id not in gaps]
        return ledger.append(changes, actor, now_ns)


def advance(
    reports_dir: Path,
    day: date,
    changes: Sequence[Change],
    actor: str,
    now_ns: int,
    only_from: frozenset[State] | None = None,
) -> list[Entry]:
    """Appends steps; those already taken are left out, and those of gaps that do not stand in `only_from`.

    Raises IllegalTransition, and then nothing is written.
    """
    with _locked(reports_dir, day) as ledger:
        if only_from is not None:
            known = ledger.newest
            changes = [c for c in changes if c.gap_id in known and known[c.gap_id].state in only_from]
        return ledger.append(changes, actor, now_ns)


def open_gaps(reports_dir: Path, day: date) -> list[Entry]:
    """What a backfill may still fill, with the gap in each entry."""
    newest = standing(read_ledger(reports_dir, day)).values()
    return [entry for entry in newest if _is_open(entry)]


def open_sources(reports_dir: Path, day: date) -> dict[str, Path]:
    """Who recorded what a backfill may still fill, each with the ledger that says so."""
    entries = open_gaps(reports_dir, day)
    return {stream_of(entry.gap)[2]: ledger_path(reports_dir, day) for entry in entries if entry.gap}


def give_up(reports_dir: Path, day: date, reason: str, actor: str, now_ns: int) -> int:
    """What is open becomes UNRECOVERABLE; returns how many that were."""
    with _locked(reports_dir, day) as ledger:
        changes = [
            Change(gap_id, State.UNRECOVERABLE, {"reason": reason})
            for gap_id, entry in ledger.newest.items()
            if _is_open(entry)
        ]
        return len(ledger.append(changes, actor, now_ns))


def missing_lots(gap: Gap) -> tuple[int, int]:
    """(from, to] of a volume gap; late trades may have filled parts of it."""
    low, high = gap.metadata["total_from"], gap.metadata["total_to"]
    assert isinstance(low, int) and isinstance(high, int), "a volume gap has its totals"
    return low, high


def stream_of(gap: Gap) -> tuple[str, str, str]:
    """(code, session, source) of a volume gap."""
    return gap.symbol, str(gap.metadata["session"]), str(gap.metadata["source"])


def _is_open(entry: Entry) -> bool:
    return entry.state is State.CLASSIFIED and entry.gap is not None and entry.gap.gap_type == "volume"


def identified(report: GapReport) -> dict[str, Gap]:
    """The gaps of a report by their id: the same gap has the same id in every report of the day."""
    seen: Counter[bytes] = Counter()
    found = {}
    for gap in report.gaps:
        what = orjson.dumps([str(report.trading_day), *_identity(gap)])
        # The same lots can be missing twice where a total fell and rose again.
        found[hashlib.sha256(what + str(seen[what]).encode()).hexdigest()[:16]] = gap
        seen[what] += 1
    return found


def _identity(gap: Gap) -> list[object]:
    about = gap.metadata
    who = [gap.gap_type, gap.symbol, gap.lane, str(about.get("source", "")), str(about.get("session", ""))]
    if gap.gap_type == "volume":
        # With the lots: a gap that a late trade made smaller is another one.
        return [*who, *missing_lots(gap), gap.lots]
    where = (gap.seq_start, gap.seq_end, gap.start_ns, gap.end_ns)
    return [*who, str(about.get("run_id", "")), *where, gap.cause]


def _owed(gap_id: str, gap: Gap, known: Entry | None, gaps: dict[str, Gap]) -> list[Change]:
    """The steps a gap of a report still has to take here; none for one that stands where it belongs."""
    state = known.state if known else None
    changes = []
    if state in (None, State.SUPERSEDED):
        changes.append(Change(gap_id, State.DETECTED, cause=gap.cause, gap=gap))
        state = State.DETECTED
    if state is State.DETECTED:
        changes.append(Change(gap_id, State.CLASSIFIED, {"reason": gap.reason}, gap.cause))
        state = State.CLASSIFIED
    elif state is State.CLASSIFIED and known is not None and known.cause != gap.cause:
        changes.append(Change(gap_id, State.CLASSIFIED, {"reason": gap.reason}, gap.cause))
    final = _why_final(gap, gaps)
    if state is State.CLASSIFIED and final:
        changes.append(Change(gap_id, State.UNRECOVERABLE, final))
    return changes


def _why_final(gap: Gap, gaps: dict[str, Gap]) -> Evidence:
    """Why nothing can fill a gap, known from the gap alone; empty where something may."""
    if gap.gap_type == "volume":
        return {"reason": _NO_ODD_LOTS} if gap.lane != "board" else {}
    if gap.cause == "not_archived":
        return {}  # the next report, after archiving, does not have it
    reason: Evidence = {"reason": _UNRECOVERABLE.get(gap.gap_type, _BOOKS_ARE_GONE)}
    if gap.gap_type == "sequence":
        reason["volume_gaps"] = [gap_id for gap_id, other in gaps.items() if _may_hold(gap, other)]
    return reason


def _may_hold(hole: Gap, gap: Gap) -> bool:
    """Whether the trades of a volume gap may be events of a hole in a run's sequence."""
    run = hole.metadata.get("run_id")
    after_hole, before_hole = gap.metadata.get("run_id_before") == run, gap.metadata.get("run_id_after") == run
    if gap.gap_type != "volume" or not (after_hole or before_hole):
        return False
    first_known = hole.seq_start != ABSENT_I64
    begins_early = not after_hole or gap.seq_start < hole.seq_end
    return begins_early and (not before_hole or not first_known or gap.seq_end > hole.seq_start)


# The file


@dataclass(slots=True)
class _Ledger:
    """The file under its lock."""

    file: IO[bytes]
    newest: dict[str, Entry]
    chain: str  # of the last line
    torn_bytes: int

    def append(self, changes: Sequence[Change], actor: str, now_ns: int) -> list[Entry]:
        """All of the steps, durably, or none."""
        made = []
        newest = dict(self.newest)
        for change in changes:
            entry = _next(newest.get(change.gap_id), change, actor, now_ns)
            if entry is not None:
                made.append(entry)
                newest |= standing([newest[change.gap_id], entry] if change.gap_id in newest else [entry])
        if not made:
            return []
        if self.torn_bytes:
            made[0] = replace(made[0], evidence=made[0].evidence | {"torn_bytes_cut_before": self.torn_bytes})
        lines = []
        for entry in made:
            line, self.chain = _line(entry, self.chain)
            lines.append(line)
        self.file.write(b"".join(lines))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.newest, self.torn_bytes = newest, 0
        return made


def _next(known: Entry | None, change: Change, actor: str, now_ns: int) -> Entry | None:
    """The entry of a step, None where the gap stands there already. Raises IllegalTransition."""
    state = known.state if known else None
    cause = change.cause if change.cause is not None else (known.cause if known else "")
    if known and (state, known.cause) == (change.state, cause):
        same = {name: value for name, value in known.evidence.items() if name != "torn_bytes_cut_before"}
        if state is not State.CLASSIFIED or same == change.evidence:
            return None
    if change.state not in _ALLOWED[state]:
        raise IllegalTransition(
            f"gap {change.gap_id} is {state or 'unknown'} and cannot become {change.state}. Nothing was written"
        )
    gap = change.gap if change.gap else (known.gap if known else None)
    assert gap is not None, "a gap is told with DETECTED"
    shown = gap if change.state is State.DETECTED else None
    return Entry(change.gap_id, now_ns, change.state, actor, cause, gap.lots, change.evidence, shown)


@contextmanager
def _locked(reports_dir: Path, day: date) -> Iterator[_Ledger]:
    """The ledger of a day for one writer; a torn end is cut off and kept. Raises LedgerDamaged."""
    path = ledger_path(reports_dir, day)
    make_folder(path.parent)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        contents = file.read()
        entries, chain, sound_bytes = _parsed(path, contents)
        torn = contents[sound_bytes:]
        if torn:
            with path.with_suffix(".jsonl.torn").open("ab") as kept:
                kept.write(torn + b"\n")
                kept.flush()
                os.fsync(kept.fileno())
            file.truncate(sound_bytes)
        if not contents:
            sync_name(path)
        yield _Ledger(file, standing(entries), chain, len(torn))


def _line(entry: Entry, chain: str) -> tuple[bytes, str]:
    """The bytes of an entry after a line whose hash is `chain`, and its own hash."""
    told = {name: value for name, value in asdict(entry).items() if name != "gap" or value is not None}
    body = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    own = _hash(chain, body)
    return body[:-1] + _ending(own) + b"\n", own


def _ending(own: str) -> bytes:
    return _CHAIN_KEY + own.encode() + b'"}'


def _hash(chain: str, body: bytes) -> str:
    return hashlib.sha256(chain.encode() + body).hexdigest()[:_CHAIN_DIGITS]


def _parsed(path: Path, contents: bytes) -> tuple[list[Entry], str, int]:
    """(entries, hash of the last line, bytes of whole lines). Raises LedgerDamaged."""
    whole = contents.rfind(b"\n") + 1
    entries, chain = [], ""
    for number, line in enumerate(contents[:whole].split(b"\n")[:-1], 1):
        body = line[:-_CHAIN_BYTES] + b"}"
        own = _hash(chain, body)
        if line[-_CHAIN_BYTES:] != _ending(own):
            raise LedgerDamaged(_damaged(path, number, "is not what was written, or a line before it is gone"))
        entries.append(_entry(path, number, body))
        chain = own
    return entries, chain, whole


def _entry(path: Path, number: int, body: bytes) -> Entry:
    try:
        told = orjson.loads(body)
        gap = Gap(**told["gap"]) if "gap" in told else None
        return Entry(**(told | {"state": State(told["state"]), "gap": gap}))
    except (ValueError, TypeError, KeyError) as error:
        raise LedgerDamaged(_damaged(path, number, f"is of another version ({type(error).__name__})")) from None


def _damaged(path: Path, number: int, what: str) -> str:
    return (
        f"{path}: line {number} {what}. Nothing of the data is lost: move the file away and run: shijim audit, "
        "then shijim backfill, which finds what is archived already"
    )
