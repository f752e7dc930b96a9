"""Which rows of a history answer are the lots that were not recorded, proven on the rows that were. No file, no clock.

A trade covers the lots (total − volume, total] of its session. History has no totals, so its rows are counted up: with
the right offset every recorded trade stands exactly where its total says, with its stamp, price and volume, and the
rows in between fill exactly what is missing. Shown for a whole session where that holds, otherwise for each range of
missing lots on the recorded trades around it. Where rows of one stamp stand in another order than they were recorded
in, they are compared as a set, in a whole session with a closing total.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from shijim_pipelines.proof.answer import Int64s, Rows

ANCHORS_MAX: Final = 50  # recorded trades compared on each side of a missing range, as many as there are
OFFSETS_TRIED: Final = 4
# Rows of one stamp around several holes are arranged by search; more than these are not.
ARRANGED_ROWS_MAX: Final = 64
ARRANGED_STEPS_MAX: Final = 20_000

Range = tuple[int, int]  # lots (from, to]


class Contradiction(ValueError):
    """Recorded trades claim the same lots twice: nothing can be proven on them."""


class Misfit(ValueError):
    """The answer does not tell what was recorded, or not exactly what is missing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Trades of one stream and session by rising total, none over another; without those of no lots."""

    exchange_ns: Int64s
    price_e6: Int64s
    volume: Int64s
    total: Int64s

    @property
    def start(self) -> Int64s:
        """Lots before each trade."""
        found: Int64s = self.total - self.volume
        return found

    def __len__(self) -> int:
        return len(self.total)


@dataclass(frozen=True, slots=True)
class Fill:
    """Rows of the answer that were not recorded, and the total each one reaches."""

    index: Int64s
    total: Int64s
    proof: str  # session | window
    order: str  # exact | by_stamp
    before: int  # recorded trades compared before the missing lots
    after: int


def recorded(exchange_ns: Int64s, price_e6: Int64s, volume: Int64s, total: Int64s) -> Recorded:
    """Trades as they came, repeats included. Raises Contradiction."""
    columns = np.stack([total, exchange_ns, price_e6, volume])[:, volume > 0]
    total, exchange_ns, price_e6, volume = np.unique(columns, axis=1)
    found = Recorded(exchange_ns, price_e6, volume, total)
    wrong = np.flatnonzero(found.start < np.concatenate([[0], total[:-1]]))
    if len(wrong):
        at = int(wrong[0])
        raise Contradiction(f"recorded totals contradict each other: lots up to {int(total[at]):,} are claimed twice")
    return found


def missing_ranges(known: Recorded, wanted: Range) -> list[Range]:
    """What of the lots (from, to] no trade covers."""
    low, high = wanted
    starts = np.concatenate([known.start, [high]])
    ends = np.concatenate([[low], known.total])
    found = zip(np.maximum(ends, low).tolist(), np.minimum(starts, high).tolist(), strict=True)
    return [(begin, end) for begin, end in found if begin < end]


class Aligned:
    """One session of an answer against what was recorded of it. `base` is the total the session starts from."""

    def __init__(self, known: Recorded, rows: Rows, base: int, end: int | None, resolution_ns: int) -> None:
        """`end` is the closing total where it is known. Stamps are compared as exactly as history has them."""
        beyond = end is not None and len(known) > 0 and int(known.total[-1]) > end
        self.base, self.rows = base, rows
        self.end = None if beyond else end  # a closing total that trades go beyond closes nothing
        stamps = known.exchange_ns // resolution_ns * resolution_ns
        self.known = Recorded(stamps, known.price_e6, known.volume, known.total)
        self.cut_ns = bool((stamps != known.exchange_ns).any())
        self._starts = known.start
        self._stamps, self._first = np.unique(rows.exchange_ns, return_index=True)
        self._whole = self._whole_session()

    def fill(self, wanted: Range) -> Fill:
        """The rows that are the missing lots of (from, to]. Raises Misfit."""
        ranges = missing_ranges(self.known, wanted)
        parts = [_within(self._whole, ranges)] if self._whole is not None else [self._window(each) for each in ranges]
        found = Fill(
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.total for part in parts]),
            parts[0].proof,
            "exact" if all(part.order == "exact" for part in parts) else "by_stamp",
            min(part.before for part in parts),
            min(part.after for part in parts),
        )
        lots, wanted_lots = int(self.rows.volume[found.index].sum()), sum(high - low for low, high in ranges)
        if lots != wanted_lots:
            raise Misfit(f"the answer has {lots:,} lots where {wanted_lots:,} are missing")
        return found

    def _whole_session(self) -> Fill | None:
        high = self.end if self.end is not None else int(self.known.total[-1]) if len(self.known) else None
        if high is None:
            return None
        try:
            index, total, order = self._placed(self.base, self.base, high)
        except Misfit:
            return None
        return Fill(index, total, "session", order, len(self.known), len(self.known))

    def _window(self, missing: Range) -> Fill:
        """Tried on as many recorded trades as are wanted, then on those without another hole in between."""
        before = int(np.searchsorted(self.known.total, missing[0], side="right"))
        if before == len(self.known) and missing[1] != self.end:
            raise Misfit("nothing is known of what follows: neither a later trade nor the closing total")
        reasons = []
        for first, last, low, high in dict.fromkeys((self._wide(before, missing), self._narrow(before, missing))):
            for offset in self._offsets(first, last, low, high):
                try:
                    index, total, order = self._placed(offset, low, high)
                except Misfit as misfit:
                    reasons.append(str(misfit))
                    continue
                found = Fill(index, total, "window", order, before - first, last - before)
                return _within(found, [missing])
        raise Misfit(reasons[0] if reasons else "none of the trades recorded around it is in the answer")

    def _wide(self, before: int, missing: Range) -> tuple[int, int, int, int]:
        """(first, last, low, high) of a window: recorded trades [first, last) around a hole, and lots (low, high]."""
        first, last, known = max(0, before - ANCHORS_MAX), min(len(self.known), before + ANCHORS_MAX), self.known
        while 0 < first < len(known) and known.exchange_ns[first - 1] == known.exchange_ns[first]:
            first -= 1  # whole stamps
        while 0 < last < len(known) and known.exchange_ns[last] == known.exchange_ns[last - 1]:
            last += 1
        return first, last, int(self._starts[first]) if first else self.base, self._high(last, missing)

    def _narrow(self, before: int, missing: Range) -> tuple[int, int, int, int]:
        """The same without another hole among the trades."""
        first, last, _, _ = self._wide(before, missing)
        ends = np.concatenate([[self.base], self.known.total])
        breaks = np.flatnonzero(self._starts != ends[:-1])  # a hole stands before each of these
        earlier, later = breaks[breaks < before], breaks[breaks > before]
        first = max(first, int(earlier[-1])) if len(earlier) else first
        last = min(last, int(later[0])) if len(later) else last
        return first, last, int(self._starts[first]) if first < before else self.base, self._high(last, missing)

    def _high(self, last: int, missing: Range) -> int:
        """Where a window ends: behind its last trade, or at the closing total behind the last of all."""
        return max(missing[1], int(self.known.total[last - 1]) if last else 0)

    def _offsets(self, first: int, last: int, low: int, high: int) -> list[int]:
        """What may have to be added to the answer's count, the likeliest first."""
        if low == self.base:
            return [self.base]
        if self.end is not None and high == self.end and len(self.rows):
            return [high - int(self.rows.cumulative[-1])]
        votes: Counter[int] = Counter()
        rows, known = self.rows, self.known
        for at in range(first, last):
            group = int(np.searchsorted(self._stamps, known.exchange_ns[at]))
            if group == len(self._stamps) or self._stamps[group] != known.exchange_ns[at]:
                continue
            begin = int(self._first[group])
            end = int(self._first[group + 1]) if group + 1 < len(self._first) else len(rows)
            same = (rows.volume[begin:end] == known.volume[at]) & (rows.price_e6[begin:end] == known.price_e6[at])
            votes.update((known.total[at] - rows.cumulative[begin:end][same]).tolist())
        return [offset for offset, _ in votes.most_common(OFFSETS_TRIED)]

    def _placed(self, offset: int, low: int, high: int) -> tuple[Int64s, Int64s, str]:
        """Rows of the answer with lots (low, high] that were not recorded. Raises Misfit unless all others were."""
        ends = self.rows.cumulative + offset
        first, last = (int(at) for at in np.searchsorted(ends, (low, high), side="right"))
        begins_at, ends_at = (int(ends[at - 1]) if at else offset for at in (first, last))
        if begins_at != low or ends_at != high:
            reached = ends_at if begins_at == low else begins_at
            raise Misfit(f"counted up, the answer has {reached - offset:,} lots where {high - offset:,} were traded")
        if (low == self.base and first) or (high == self.end and last != len(self.rows)):
            raise Misfit("the answer has more trades than the session")
        known = slice(*np.searchsorted(self.known.total, (low, high), side="right"))
        self._require_whole_stamps(first, last, known)
        total = self.known.total[known]
        at = first + np.searchsorted(ends[first:last], total)
        if len(at) == 0 or (int(at[-1]) < last and self._equal(at, known, ends)):
            free = np.ones(last - first, bool)
            free[at - first] = False
            index = first + np.flatnonzero(free)
            return index, ends[index], "exact"
        if low != self.base or high != self.end:
            # Only sums that are known at both ends of a session leave nothing that could have changed places.
            raise Misfit("the trades recorded around it are not in the answer in this order")
        return (*self._by_stamp(first, last, known, low), "by_stamp")

    def _require_whole_stamps(self, first: int, last: int, known: slice) -> None:
        """Nothing tells equal trades of one stamp apart: a window holds all of a stamp or none. Raises Misfit."""
        stamps, seen = self.rows.exchange_ns, self.known.exchange_ns
        if first == last:
            return
        edges = ((first, first - 1, known.start - 1), (last - 1, last, known.stop))
        for inside, row, trade in edges:
            beside = [stamps[row]] if 0 <= row < len(stamps) else []
            beside += [seen[trade]] if 0 <= trade < len(seen) else []
            if any(stamp == stamps[inside] for stamp in beside):
                raise Misfit("trades of one stamp lie on both sides of what can be compared")

    def _equal(self, at: Int64s, known: slice, ends: Int64s) -> bool:
        pairs = (
            (ends[at], self.known.total[known]),
            (self.rows.exchange_ns[at], self.known.exchange_ns[known]),
            (self.rows.price_e6[at], self.known.price_e6[known]),
            (self.rows.volume[at], self.known.volume[known]),
        )
        return all(np.array_equal(one, other) for one, other in pairs)

    def _by_stamp(self, first: int, last: int, known: slice, low: int) -> tuple[Int64s, Int64s]:
        """The same with rows of one stamp in any order: each stamp's rows are a set that holds what was recorded."""
        index: list[int] = []
        totals: list[int] = []
        at, position, row = known.start, low, first
        while row < last:
            until = row + 1
            while until < last and self.rows.exchange_ns[until] == self.rows.exchange_ns[row]:
                until += 1
            reaches = position + int(self.rows.volume[row:until].sum())
            stop = at + int(np.searchsorted(self.known.total[at : known.stop], reaches, side="right"))
            left = self._left(row, until, at, stop)
            holes = self._holes(at, stop, (position, reaches))
            for chosen, total in _arranged(left, holes):
                index.append(chosen)
                totals.append(total)
            row, at, position = until, stop, reaches
        if at != known.stop:
            raise Misfit("trades that were recorded are not in the answer")
        return np.array(index, np.int64), np.array(totals, np.int64)

    def _left(self, row: int, until: int, at: int, stop: int) -> list[tuple[int, int]]:
        """(row, lots) of one stamp that were not recorded, in the answer's order."""
        if stop > at and bool((self.known.exchange_ns[at:stop] != self.rows.exchange_ns[row]).any()):
            raise Misfit("a recorded trade has another stamp in the answer, or is not in it")
        pairs = zip(self.known.price_e6[at:stop].tolist(), self.known.volume[at:stop].tolist(), strict=True)
        seen = Counter(pairs)
        left = []
        for number in range(row, until):
            what = (int(self.rows.price_e6[number]), int(self.rows.volume[number]))
            if seen[what]:
                seen[what] -= 1
            else:
                left.append((number, what[1]))
        if seen.total():
            raise Misfit("a recorded trade has another price or volume in the answer, or is not in it")
        return left

    def _holes(self, at: int, stop: int, within: Range) -> list[Range]:
        if stop > at and self._starts[at] < within[0]:
            raise Misfit("a recorded trade begins before the rows of its stamp")
        known, part = self.known, slice(at, stop)
        mine = Recorded(known.exchange_ns[part], known.price_e6[part], known.volume[part], known.total[part])
        return missing_ranges(mine, within)


def _within(fill: Fill, ranges: list[Range]) -> Fill:
    """The rows of a fill that lie in some ranges, which they fill exactly."""
    chosen = np.zeros(len(fill.index), bool)
    for low, high in ranges:
        chosen |= (fill.total > low) & (fill.total <= high)
    return Fill(fill.index[chosen], fill.total[chosen], fill.proof, fill.order, fill.before, fill.after)


def _arranged(left: list[tuple[int, int]], holes: list[Range]) -> list[tuple[int, int]]:
    """(row, total) of rows that fill holes exactly, in their own order where that does. Raises Misfit."""
    if len(holes) <= 1:
        ends = np.cumsum([lots for _, lots in left]).tolist()
        return [(row, holes[0][0] + end) for (row, _), end in zip(left, ends, strict=True)] if holes else []
    if len(left) > ARRANGED_ROWS_MAX:
        raise Misfit("too many trades of one stamp around several holes")
    placed: list[tuple[int, int]] = []
    steps = 0

    def search(hole: int, position: int, rest: list[tuple[int, int]]) -> bool:
        nonlocal steps
        steps += 1
        if steps > ARRANGED_STEPS_MAX:
            raise Misfit("too many ways to arrange the trades of one stamp")
        if position == holes[hole][1]:
            return not rest if hole + 1 == len(holes) else search(hole + 1, holes[hole + 1][0], rest)
        tried = set()
        for at, (row, lots) in enumerate(rest):
            if lots in tried or position + lots > holes[hole][1]:
                continue
            tried.add(lots)
            placed.append((row, position + lots))
            if search(hole, position + lots, rest[:at] + rest[at + 1 :]):
                return True
            placed.pop()
        return False

    if not search(0, holes[0][0], left):
        raise Misfit("the trades of one stamp do not fill its holes")
    return placed
