"""The broker's answers about the past, taken apart: equal columns, whole counts, exact prices. Knows no market."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from shijim_live.broker.history import AnswerRefused, Columns

__all__ = ["AnswerRefused", "columns_of", "count", "e6"]


def columns_of(answer: Columns, names: Iterable[str], where: str) -> dict[str, list[object]]:
    """The columns of an answer, as long as each other."""
    missing = [name for name in names if name not in answer.keys()]  # noqa: SIM118 - it is no Mapping
    if missing:
        raise AnswerRefused(f"{where}: has no {', '.join(missing)}: the broker's answers have changed. Update Shijim")
    columns: dict[str, list[object]] = {name: answer[name] for name in names}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise AnswerRefused(f"{where}: its columns differ in length ({lengths}). Ask again")
    return columns


def count(value: object, where: str) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0 or value % 1:
        raise AnswerRefused(f"{where} is {value!r}, not a whole number from 0. Nothing was written")
    return int(value)


def e6(value: object, where: str) -> int:
    """× 1,000,000, from the shortest decimal text of the broker's float, which is the number it was made of.

    More than six decimals are rounded, half to even: an amount is a product of floats.
    """
    try:
        scaled = Decimal(str(value)).scaleb(6)
    except InvalidOperation:
        scaled = Decimal("nan")
    if not scaled.is_finite() or scaled < 0:
        raise AnswerRefused(f"{where} is {value!r}, not a price or an amount. Nothing was written")
    return int(scaled.to_integral_value(ROUND_HALF_EVEN))
