"""What an argument must be: the same refusals as the kernels', in NumPy. Not a signal."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rust_indicators.validity import Restart

EMPTY_PRICE_E6 = -(2**63)  # the price of a book level that holds nothing; its volume is 0
VOLUME_MAX = 2**40
_Scalar = TypeVar("_Scalar", bound=np.generic)


def column(argument: str, given: Any, dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """The array given, if it is contiguous, of one dimension and of the type; Arrow and pandas columns give theirs."""
    if hasattr(given, "to_numpy"):
        try:
            given = given.to_numpy()
        except Exception as error:
            raise ValueError(
                f"{argument}: has nulls: fill them first, an empty level's price with EMPTY_PRICE_E6 and its volume "
                "with 0"
            ) from error
    if not isinstance(given, np.ndarray) or given.ndim != 1 or given.dtype != dtype:
        is_ = f"a {given.ndim}-dimensional array of {given.dtype}" if isinstance(given, np.ndarray) else type(given)
        raise ValueError(f"{argument}: must be a 1-dimensional array of {np.dtype(dtype)}, not {is_}")
    if not given.flags.c_contiguous or not given.flags.aligned:
        raise ValueError(f"{argument}: is not contiguous and aligned: numpy.require(…, requirements='CA') makes it so")
    return given


def same_rows(columns: Sequence[tuple[str, NDArray[Any]]]) -> int:
    """The number of rows that all have. ValueError names the first that differs."""
    first, rows = columns[0][0], len(columns[0][1])
    for name, values in columns:
        if len(values) != rows:
            raise ValueError(f"{name}: has {len(values)} rows, {first} has {rows}")
    return rows


def positive(argument: str, value: float) -> float:
    """A finite number above 0."""
    if not (isinstance(value, numbers.Real) and 0 < value < np.inf):
        raise ValueError(f"{argument}: {value} is not a finite number above 0")
    return value


def sorted_stamps(argument: str, stamps: NDArray[np.int64]) -> None:
    """Stamps that never go back; equal ones may follow each other."""
    back = np.flatnonzero(stamps[1:] < stamps[:-1])
    if len(back):
        raise ValueError(f"{argument}: goes back at row {back[0] + 1}")


def restarts(given: Any, rows: int, first: str) -> NDArray[np.uint8]:
    """Marks of `Restart` before each row; none where None is given."""
    if given is None:
        return np.zeros(rows, np.uint8)
    marks = column("restart", given, np.uint8)
    if len(marks) != rows:
        raise ValueError(f"restart: has {len(marks)} rows, {first} has {rows}")
    wrong = np.flatnonzero(marks > Restart.TAINT)
    if len(wrong):
        raise ValueError(f"restart: row {wrong[0]} is {marks[wrong[0]]}, not 0 (none), 1 (reset) or 2 (taint)")
    return marks


def sound_level(
    side: str, price_e6: ArrayLike, volume: ArrayLike, suffix: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Price and volume columns of a level, checked: volumes 0 … 2⁴⁰, none at a level without a price."""
    prices = column(f"{side}_price_e6{suffix}", price_e6, np.int64)
    name = f"{side}_volume{suffix}"
    volumes = column(name, volume, np.int64)
    if len(prices) == len(volumes):
        for row in np.flatnonzero((volumes < 0) | (volumes > VOLUME_MAX))[:1]:
            raise ValueError(f"{name}: row {row}: {volumes[row]} is not within 0 … 2⁴⁰")
        for row in np.flatnonzero((prices == EMPTY_PRICE_E6) & (volumes != 0))[:1]:
            raise ValueError(f"{name}: row {row}: {volumes[row]} at a level without a price")
    return prices, volumes


LEVELS_MAX = 10


def level_columns(argument: str, given: Any, dtype: type[_Scalar]) -> list[NDArray[_Scalar]]:
    """A column a level, best first: a list of them, or an array whose rows they are."""
    if not hasattr(given, "__len__") or not hasattr(given, "__iter__"):
        raise ValueError(f"{argument}: must be a sequence of columns, a level each")
    if not 1 <= len(given) <= LEVELS_MAX:
        raise ValueError(f"{argument}: has {len(given)} levels, not 1 … {LEVELS_MAX}")
    return [column(f"{argument}[{level}]", item, dtype) for level, item in enumerate(given)]


def same_levels(first: str, levels: int, argument: str, columns: Sequence[Any]) -> None:
    """As many levels as the first argument has."""
    if len(columns) != levels:
        raise ValueError(f"{argument}: has {len(columns)} levels, {first} has {levels}")


def sound_book(
    bid_price_e6: Any, bid_volume: Any, ask_price_e6: Any, ask_volume: Any
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """(bid price, bid volume, ask price, ask volume) of each level, all as long, volumes as `sound_level` has them."""
    names = ("bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume")
    sides = []
    for name, given in zip(names, (bid_price_e6, bid_volume, ask_price_e6, ask_volume), strict=True):
        sides.append(level_columns(name, given, np.int64))
        same_levels(names[0], len(sides[0]), name, sides[-1])
    first = ("bid_price_e6[0]", sides[0][0])
    book = list(zip(*sides, strict=True))
    for level, columns in enumerate(book):
        same_rows([first, *((f"{name}[{level}]", values) for name, values in zip(names, columns, strict=True))])
    for level, (bid, bid_size, ask, ask_size) in enumerate(book):
        sound_level("bid", bid, bid_size, f"[{level}]")
        sound_level("ask", ask, ask_size, f"[{level}]")
    return book


def numbers_of_levels(argument: str, given: Any, levels: int, dtype: type[_Scalar]) -> list[NDArray[_Scalar]]:
    """The numbers of one book's side as columns of one row."""
    if not hasattr(given, "__iter__"):
        raise ValueError(f"{argument}: must be a sequence of numbers, a level each")
    given = list(given)
    if len(given) > LEVELS_MAX:
        raise ValueError(f"{argument}: has more than {LEVELS_MAX} levels")
    whole = issubclass(dtype, np.integer)
    for level, item in enumerate(given):
        fits = isinstance(item, numbers.Integral) and -(2**63) <= int(item) < 2**63
        if not (fits if whole else isinstance(item, numbers.Real)):
            raise ValueError(f"{argument}[{level}]: {item} is no number that fits")
    if len(given) != levels:
        raise ValueError(f"{argument}: has {len(given)} levels, not {levels}")
    return [np.array([item], dtype) for item in given]


def book_of_one_row(
    levels: int, bid_price_e6: Any, bid_volume: Any, ask_price_e6: Any, ask_volume: Any
) -> tuple[list[NDArray[np.int64]], ...]:
    """One book as columns of one row."""
    names = ("bid_price_e6", "bid_volume", "ask_price_e6", "ask_volume")
    given = (bid_price_e6, bid_volume, ask_price_e6, ask_volume)
    return tuple(numbers_of_levels(name, part, levels, np.int64) for name, part in zip(names, given, strict=True))


def written(out: Any, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The values in `out`, where there is one of their type and shape."""
    if out is None:
        return values
    if not isinstance(out, np.ndarray) or out.dtype != values.dtype or out.ndim != values.ndim:
        raise ValueError(f"out: must be a {values.ndim}-dimensional array of {values.dtype}")
    if out.shape != values.shape or not out.flags.c_contiguous:
        raise ValueError(f"out: must be contiguous, with {' × '.join(map(str, values.shape))} rows")
    out[:] = values
    return out
