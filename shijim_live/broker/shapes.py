"""The shapes of the broker's answers about the past: columns and rows that read as the SDK's own do. Judges nothing."""

from __future__ import annotations

from typing import Any


class AnswerRefused(ValueError):
    """An answer of the broker that cannot be true, or says nothing; the text says which, where and what to do.

    `answer` is what was answered, for a person to look at.
    """

    def __init__(self, text: str, answer: Columns | list[Row] | Row | None = None) -> None:
        super().__init__(text)
        self.answer = answer


class _Fields:
    """Named values as the SDK's own answers hold them (`MappingMixin` in its stub, pinned by a test).

    `keys()` is a list, `[name]` and `.name` read, `in`, `len`, `dict(x)` and `{**x}` work. It is neither a dict nor a
    Mapping: no `get`, `items` or `values`, iterating raises TypeError, and nothing can be written.
    """

    __slots__ = ("_fields",)
    _fields: dict[str, Any]

    def __init__(self, **fields: Any) -> None:
        object.__setattr__(self, "_fields", fields)

    def keys(self) -> list[str]:
        return list(self._fields)

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"argument 'key': '{type(key).__name__}' object is not an instance of 'str'")
        return _read(self._fields[key])

    def __getattr__(self, name: str) -> Any:
        # Only for what is no attribute of the class; a dunder is never a field (copying and pickling ask for those).
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return _read(self._fields[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"attribute {name!r} of {type(self).__name__!r} objects is not writable")

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def dict(self) -> dict[str, Any]:
        """A fresh dict with fresh lists."""
        return {name: _read(value) for name, value in self._fields.items()}


def _read(value: Any) -> Any:
    """The SDK hands out a new list at every read: changing one changes nothing."""
    return list(value) if isinstance(value, list) else value


class Columns(_Fields):
    """Lists of equal length by name, like the SDK's Ticks, KBars and DailyQuotes. `len()` counts columns, not rows."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = (f"{name}=[{_first(values)}]" for name, values in self._fields.items())
        return f"Columns[{row_count(self)}]({', '.join(shown)})"


class Row(_Fields):
    """Values by name, like the SDK's Snapshot and ScannerItem; its enums stand here as the strings they equal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def row_count(columns: Columns) -> int:
    """How many rows columns have; `len()` counts columns."""
    return max((len(columns[name]) for name in columns.keys()), default=0)  # noqa: SIM118 - it cannot be iterated


def _first(values: list[Any]) -> str:
    return ", ".join([*map(repr, values[:3]), "..."][: len(values) if len(values) < 4 else 4])
