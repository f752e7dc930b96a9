"""Which rows of an answer are the missing lots: exact with sound answers, and never a wrong row with others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shijim_pipelines.proof.alignment import Aligned, Contradiction, Misfit, Recorded, missing_ranges, recorded
from shijim_pipelines.proof.answer import Rows

T0 = 1_775_696_400_000_000_000


@dataclass(frozen=True, slots=True)
class Print:
    """A trade of the truth."""

    stamp: int
    price: int
    volume: int
    total: int

    @property
    def told(self) -> tuple[int, int, int]:
        return self.stamp, self.price, self.volume


def session(*prints: tuple[int, int, int], base: int = 0) -> list[Print]:
    """(stamp, price, volume) of consecutive trades."""
    found, total = [], base
    for stamp, price, volume in prints:
        total += volume
        found.append(Print(T0 + stamp * 1_000_000, price, volume, total))
    return found


def known(prints: Sequence[Print]) -> Recorded:
    columns = (
        [p.stamp for p in prints],
        [p.price for p in prints],
        [p.volume for p in prints],
        [p.total for p in prints],
    )
    return recorded(*(np.array(column, np.int64) for column in columns))


def rows(prints: Sequence[Print]) -> Rows:
    stamp, price, volume = (np.array([p.told[at] for p in prints], np.int64) for at in range(3))
    return Rows(stamp, price, volume, np.ones(len(prints), np.int64), np.cumsum(volume))


def aligned(truth: Sequence[Print], seen: Sequence[Print], answer: Sequence[Print], closing: bool = True) -> Aligned:
    end = truth[-1].total if closing and truth else None
    return Aligned(known(seen), rows(answer), 0, end, 1)


def told(found: Aligned, wanted: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    fill = found.fill(wanted)
    r = found.rows
    columns = (r.exchange_ns, r.price_e6, r.volume)
    return [(*(int(c[i]) for c in columns), int(t)) for i, t in zip(fill.index, fill.total, strict=True)]


TEN = session(*((at, 100 + at % 3, 1 + at % 4) for at in range(10)))


def test_the_rows_between_the_recorded_ones_are_what_is_missing_with_their_totals() -> None:
    found = aligned(TEN, TEN[:4] + TEN[6:], TEN)
    fill = found.fill((TEN[3].total, TEN[5].total))
    assert told(found, (TEN[3].total, TEN[5].total)) == [(*p.told, p.total) for p in TEN[4:6]]
    assert (fill.proof, fill.order, fill.before, fill.after) == ("session", "exact", 8, 8)


@pytest.mark.parametrize("seen", [TEN[3:], TEN[:7], []])
def test_a_late_start_an_early_stop_and_a_whole_session_are_held_by_its_ends(seen: list[Print]) -> None:
    found = aligned(TEN, seen, TEN)
    got = [row for missing in missing_ranges(known(seen), (0, TEN[-1].total)) for row in told(found, missing)]
    assert got == [(*p.told, p.total) for p in TEN if p not in seen]


def test_a_row_too_few_or_too_many_inside_the_hole_is_no_proof() -> None:
    seen, hole = TEN[:4] + TEN[6:], (TEN[3].total, TEN[5].total)
    for answer in (TEN[:4] + TEN[5:], [*TEN[:5], TEN[4], *TEN[5:]], TEN[:4] + TEN[6:]):
        with pytest.raises(Misfit, match="lots"):
            aligned(TEN, seen, answer).fill(hole)


def test_a_recorded_trade_told_otherwise_is_no_proof() -> None:
    seen, hole = TEN[:4] + TEN[6:], (TEN[3].total, TEN[5].total)
    for wrong in ({"price": 7}, {"stamp": TEN[2].stamp + 1_000}):
        changed = Print(**({"stamp": TEN[2].stamp, "price": TEN[2].price, "volume": TEN[2].volume, "total": 0} | wrong))
        with pytest.raises(Misfit):
            aligned(TEN, seen, [*TEN[:2], changed, *TEN[3:]]).fill(hole)


def test_beyond_the_windows_an_answer_may_lack_or_repeat_rows() -> None:
    truth = session(*((at, 100 + at % 7, 1 + at % 5) for at in range(400)))
    seen = truth[:200] + truth[203:]
    hole = (truth[199].total, truth[202].total)
    for answer in (truth[:20] + truth[25:], truth[:30] + truth[20:], truth[:380] + truth[370:], truth[:300]):
        found = aligned(truth, seen, answer)
        assert told(found, hole) == [(*p.told, p.total) for p in truth[200:203]]
        assert found.fill(hole).proof == "window"
    with pytest.raises(Misfit):
        aligned(truth, seen, truth[:180] + truth[185:]).fill(hole)


def test_a_hole_beside_one_that_the_answer_lacks_is_still_proven_on_the_trades_in_between() -> None:
    truth = session(*((at, 100 + at % 7, 1 + at % 5) for at in range(400)))
    seen = truth[:200] + truth[203:230] + truth[234:]
    answer = truth[:231] + truth[232:]
    found = aligned(truth, seen, answer)
    assert told(found, (truth[199].total, truth[202].total)) == [(*p.told, p.total) for p in truth[200:203]]
    with pytest.raises(Misfit):
        found.fill((truth[229].total, truth[233].total))


def test_trades_of_one_stamp_may_stand_in_another_order() -> None:
    truth = session((0, 1, 2), (5, 2, 3), (5, 3, 1), (5, 2, 1), (6, 1, 4))
    answer = [truth[0], truth[3], truth[1], truth[2], truth[4]]
    found = aligned(truth, [truth[0], truth[1], truth[4]], answer)
    fill = found.fill((truth[1].total, truth[3].total))
    assert fill.order == "by_stamp"
    assert sorted(row[:3] for row in told(found, (truth[1].total, truth[3].total))) == sorted(
        p.told for p in truth[2:4]
    )
    assert fill.total.tolist() == [6, 7]


def test_rows_of_one_stamp_are_arranged_to_fill_its_holes() -> None:
    truth = session((5, 1, 2), (5, 2, 7), (5, 3, 3), (5, 2, 1), (5, 9, 4))
    seen = [truth[1], truth[3]]
    answer = [truth[4], truth[2], truth[1], truth[0], truth[3]]
    found = aligned(truth, seen, answer)
    got = [row for hole in missing_ranges(known(seen), (0, 17)) for row in told(found, hole)]
    assert [row[2:] for row in got] == [(2, 2), (3, 12), (4, 17)]


def test_history_in_milliseconds_is_compared_in_milliseconds() -> None:
    truth = [Print(p.stamp + 123_456, p.price, p.volume, p.total) for p in TEN]
    found = Aligned(known(truth[:4] + truth[6:]), rows(TEN), 0, None, 1_000_000)
    assert told(found, (TEN[3].total, TEN[5].total)) == [(*p.told, p.total) for p in TEN[4:6]]
    assert found.cut_ns


def test_a_session_that_goes_on_from_its_night_starts_at_that_total() -> None:
    truth = session(*((at, 100, 2) for at in range(6)), base=500)
    found = Aligned(known(truth[1:3] + truth[4:]), rows(truth), 500, 512, 1)
    assert [row[3] for hole in ((500, 502), (506, 508)) for row in told(found, hole)] == [502, 508]


def test_a_wrong_closing_total_does_not_keep_the_holes_before_it_from_being_proven() -> None:
    seen = TEN[:4] + TEN[6:]
    for wrong in (TEN[-1].total + 3, TEN[-1].total - 1):
        found = Aligned(known(seen), rows(TEN), 0, wrong, 1)
        assert told(found, (TEN[3].total, TEN[5].total)) == [(*p.told, p.total) for p in TEN[4:6]]
    with pytest.raises(Misfit):
        Aligned(known(seen), rows(TEN), 0, TEN[-1].total + 3, 1).fill((TEN[-1].total, TEN[-1].total + 3))


def test_lots_claimed_twice_prove_nothing_and_repeats_are_none() -> None:
    assert len(known([*TEN, TEN[3], TEN[3]])) == len(TEN)
    other = Print(TEN[3].stamp + 1, TEN[3].price, TEN[3].volume, TEN[3].total)
    with pytest.raises(Contradiction, match="claimed twice"):
        known([*TEN, other])


def test_trades_of_no_lots_are_left_out() -> None:
    assert len(known([*TEN, Print(TEN[3].stamp, 99, 0, TEN[3].total)])) == len(TEN)


def test_missing_ranges_are_what_no_trade_covers() -> None:
    seen = known([*session((0, 1, 5)), Print(T0, 1, 2, 9), Print(T0, 1, 1, 12)])
    assert missing_ranges(seen, (0, 12)) == [(5, 7), (9, 11)]
    assert missing_ranges(seen, (0, 15)) == [(5, 7), (9, 11), (12, 15)]
    assert missing_ranges(seen, (6, 10)) == [(6, 7), (9, 10)]
    assert missing_ranges(seen, (0, 5)) == []


prints = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=40)


def drawn(steps: list[tuple[int, int, int]]) -> list[Print]:
    stamps = np.cumsum([step for step, _, _ in steps]).tolist()
    return session(*((stamp, price, volume) for stamp, (_, price, volume) in zip(stamps, steps, strict=True)))


def in_another_order(truth: list[Print], data: st.DataObject) -> list[Print]:
    """Rows of one stamp shuffled."""
    keys = data.draw(st.lists(st.integers(0, 9), min_size=len(truth), max_size=len(truth)))
    return [p for _, _, p in sorted(zip([p.stamp for p in truth], keys, truth, strict=True), key=lambda x: x[:2])]


def filled(found: Aligned, missing: tuple[int, int]) -> Counter[tuple[int, int, int]]:
    return Counter(row[:3] for row in told(found, missing))


@settings(max_examples=300)
@given(prints, st.data())
def test_a_sound_answer_proves_every_hole_whatever_the_order_within_a_stamp(
    steps: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    truth = drawn(steps)
    lost = data.draw(st.sets(st.integers(0, len(truth) - 1)))
    seen = [p for at, p in enumerate(truth) if at not in lost]
    found = aligned(truth, seen, in_another_order(truth, data))
    everything: Counter[tuple[int, int, int]] = Counter(p.told for p in seen)
    totals = [p.total for p in seen]
    for missing in missing_ranges(known(seen), (0, truth[-1].total)):
        got = told(found, missing)
        everything.update(row[:3] for row in got)
        totals += [row[3] for row in got]
        assert sum(row[2] for row in got) == missing[1] - missing[0]
        assert all(missing[0] < row[3] - row[2] + 1 and row[3] <= missing[1] for row in got)
    assert everything == Counter(p.told for p in truth)
    assert len(set(totals)) == len(truth)


@settings(max_examples=500)
@given(prints, st.booleans(), st.data())
def test_an_answer_that_lacks_or_repeats_rows_never_gives_a_wrong_one(
    steps: list[tuple[int, int, int]], closing: bool, data: st.DataObject
) -> None:
    """What it gives is what is missing: never a trade that was recorded, never one that was not made."""
    truth = drawn(steps)
    lost = data.draw(st.sets(st.integers(0, len(truth) - 1)))
    seen = [p for at, p in enumerate(truth) if at not in lost]
    first = data.draw(st.integers(0, len(truth) - 1))
    last = data.draw(st.integers(first + 1, len(truth)))
    answer = data.draw(st.sampled_from([truth[:first] + truth[last:], truth[:last] + truth[first:]]))
    answer = sorted(answer, key=lambda p: p.stamp)
    found = aligned(truth, seen, answer, closing)
    for missing in missing_ranges(known(seen), (0, truth[-1].total)):
        try:
            got = filled(found, missing)
        except Misfit:
            continue
        right = Counter(p.told for p in truth if missing[0] < p.total <= missing[1])
        assert got == right
