"""What an examination found, how bad it is, and how to put it right. Finds nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    WELL = "well"
    UNSEEN = "unseen"  # cannot be seen from here; says nothing
    WARNING = "warning"  # will hurt some day
    WRONG = "wrong"  # must be put right first


MARKS = {Level.WELL: "✓", Level.UNSEEN: "?", Level.WARNING: "!", Level.WRONG: "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line, and what to do about it unless all is well. Never holds a secret or a part of one."""

    level: Level
    about: str
    text: str
    fix: str = ""


def well(about: str, text: str) -> Finding:
    return Finding(Level.WELL, about, text)


def unseen(about: str, text: str, fix: str = "") -> Finding:
    return Finding(Level.UNSEEN, about, text, fix)


def warning(about: str, text: str, fix: str) -> Finding:
    return Finding(Level.WARNING, about, text, fix)


def wrong(about: str, text: str, fix: str) -> Finding:
    return Finding(Level.WRONG, about, text, fix)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 all well, 1 warnings, 2 something must be put right."""
    levels = {finding.level for finding in findings}
    return 2 if Level.WRONG in levels else int(Level.WARNING in levels)


def describe(findings: Iterable[Finding]) -> str:
    """A table for a person; under what is not well stands what to do."""
    rows = list(findings)
    width = max((len(finding.about) for finding in rows), default=0)
    lines = []
    for finding in rows:
        lines.append(f"{MARKS[finding.level]} {finding.about:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"  {'':<{width}}  → {finding.fix}")
    count = {level: sum(finding.level is level for finding in rows) for level in Level}
    verdict = f"{count[Level.WRONG]} to put right, {count[Level.WARNING]} to look at, {count[Level.WELL]} well"
    unknown = f", {count[Level.UNSEEN]} cannot be seen from here" if count[Level.UNSEEN] else ""
    return "\n".join([*lines, verdict + unknown])
