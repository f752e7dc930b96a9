"""What one attempt at filling a day's gaps came to, for a program and for a person. Fills nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Left:
    """A gap that stays open."""

    code: str
    session: str
    lots: int
    reason: str


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What one attempt did."""

    trading_day: date
    run_id: str  # "" where nothing new was written
    gaps: int  # filled
    lots: int
    trades: int  # written
    asked: tuple[str, ...]  # codes the broker was asked for
    left: tuple[Left, ...]
    unrecoverable: int
    quarantined: tuple[Path, ...]
    exhausted: str  # why no more was asked; "" where nothing kept us from it


def backfilled_segments(wal_dir: Path, run_id: str) -> list[Path]:
    """The files of a run that a backfill wrote."""
    return sorted((wal_dir / f"backfill-{run_id}").rglob("*.wal"))


def describe_backfill(done: Backfilled) -> str:
    """For a person: what was filled, and why the rest was not."""
    head = f"Backfill of trading day {done.trading_day}: {done.gaps:,} gaps filled, {done.lots:,} lots"
    lines = [f"{head}; {done.trades:,} trades written, {len(done.asked)} questions asked"]
    reasons: dict[str, list[Left]] = {}
    for left in done.left:
        reasons.setdefault(left.reason, []).append(left)
    for reason, group in sorted(reasons.items(), key=lambda item: -sum(left.lots for left in item[1])):
        codes = ", ".join(sorted({left.code for left in group}))
        lines.append(f"open: {len(group):,} gaps, {sum(left.lots for left in group):,} lots ({codes}): {reason}")
    if done.unrecoverable:
        lines.append(f"unrecoverable: {done.unrecoverable:,} gaps, for which no history exists")
    lines += [f"quarantined: {path}" for path in done.quarantined]
    return "\n".join(lines)
