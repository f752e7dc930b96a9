"""What an asset shows of itself in the UI: column schemas, tables of the worst, sizes, pictures. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pyarrow as pa

from shijim_pipelines.pictures import markdown

# Rows of a table in the UI; the files have all.
ROWS_MAX: Final = 25
NAMES_MAX: Final = 12

_KINDS: Final = {"int": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"), "bool": ("bool",)}


def columns(schema: pa.Schema, meaning: Mapping[str, str] | None = None) -> dict[str, dg.TableSchema]:
    """Metadata that gives an asset its columns, types and constraints."""
    found = []
    for field in schema:
        kind = next((name for name, kinds in _KINDS.items() if str(field.type) in kinds), "string")
        constraints = dg.TableColumnConstraints(nullable=field.nullable)
        text = (meaning or {}).get(field.name)
        found.append(dg.TableColumn(field.name, kind, description=text, constraints=constraints))
    return {"dagster/column_schema": dg.TableSchema(found)}


def table(rows: Iterable[Mapping[str, Any]]) -> dg.MetadataValue:
    """The first rows as a table; what is no number is text."""
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in list(rows)[:ROWS_MAX]]
    if not records:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table(records)


def _cell(value: object) -> str | int | bool:
    return value if isinstance(value, str | int | bool) else "" if value is None else str(value)


def files(paths: Sequence[Path]) -> dict[str, Any]:
    """How many files there are, what they weigh, where they lie."""
    if not paths:
        return {}
    folder = paths[0] if len(paths) == 1 else Path(*_shared(paths))
    return {
        "files": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "path": dg.MetadataValue.path(folder),
    }


def _shared(paths: Sequence[Path]) -> list[str]:
    """The folder that all the paths are in, in parts."""
    parts = []
    for level in zip(*(path.parent.parts for path in paths), strict=False):
        if len(set(level)) > 1:
            break
        parts.append(level[0])
    return parts


def result(rows: int, paths: Sequence[Path] = (), **more: Any) -> dict[str, Any]:
    """Metadata of a materialisation: rows, size, and whatever else tells its story."""
    return {"dagster/row_count": rows, **files(paths), **more}


def warning(check: str, said: str, metadata: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    """Passed when there is nothing to say; otherwise a warning in these words."""
    return dg.AssetCheckResult(
        passed=not said,
        check_name=check,
        severity=dg.AssetCheckSeverity.WARN,
        description=said or "nothing to say",
        metadata=metadata or {},
    )


def named(codes: Iterable[str]) -> str:
    """A few codes by name, and how many more."""
    every = sorted(set(codes))
    more = f" and {len(every) - NAMES_MAX} more" if len(every) > NAMES_MAX else ""
    return ", ".join(every[:NAMES_MAX]) + more


def picture(drawn: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A picture that the UI shows behind [Show Markdown]."""
    return dg.MetadataValue.md(markdown(drawn, title))
