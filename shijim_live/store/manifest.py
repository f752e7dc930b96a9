"""What the archive says of each segment: archive/segments/<run_id>-<n>.json. Read here; `archive` alone writes it.

With its manifest a segment is archived: the files it names were published before, whole and proven equal to the log.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from shijim_live.store import schema
from shijim_live.store.parquet import parquet_path

MANIFESTS: Final = "segments"
_ARCHIVE_AGAIN: Final = "Delete it and run: shijim archive"


class ManifestDamaged(ValueError):
    """A manifest that was altered; the log is still there to archive from."""


def read_manifest(archive_dir: Path, key: str) -> dict[str, Any] | None:
    """What is known of an archived segment; `None` when it is not archived."""
    path = archive_dir / MANIFESTS / f"{key}.json"
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ManifestDamaged(f"{path}: not JSON ({error}). {_ARCHIVE_AGAIN}") from None
    if not _is_manifest(found, key):
        raise ManifestDamaged(f"{path}: not the manifest of an archived segment. {_ARCHIVE_AGAIN}")
    return dict(found)


def _is_manifest(found: Any, key: str) -> bool:
    """Whether everything that is read of a manifest is there, and of its kind."""
    try:
        sealed = found["footer"]
        kinds = {
            str: [found["run_id"], found["source"], found["multiset_sum"]],
            int: [found["segment"], found["records"], found["first_sequence"], sealed["last_sequence"]],
            dict: [sealed["kinds"]],
        }
        kinds[int] += [number for hole in found["missing_sequences"] for number in hole]
        kinds[str] += [problem["message"] for problem in found["problems"]]
        for file in found["files"]:
            date.fromisoformat(file["trading_day"])
            kinds[int].append(file["bytes"])
            kinds[str].append(file["sha256"])
        sound = all(type(value) is kind for kind, values in kinds.items() for value in values)
        known = all(file["table"] in schema.TABLES for file in found["files"])
        return sound and known and f"{found['run_id']}-{found['segment']:04}" == key
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def manifests(archive_dir: Path) -> dict[str, dict[str, Any]]:
    """Every archived segment's manifest, by key."""
    keys = sorted(path.stem for path in (archive_dir / MANIFESTS).glob("*.json"))
    found = {key: read_manifest(archive_dir, key) for key in keys}
    return {key: manifest for key, manifest in found.items() if manifest is not None}


def missing_files(manifest: dict[str, Any], archive_dir: Path) -> list[Path]:
    """Files a manifest names that are not there with the size they were published with."""
    key = f"{manifest['run_id']}-{manifest['segment']:04}"
    found = []
    for file in manifest["files"]:
        path = parquet_path(archive_dir, file["table"], date.fromisoformat(file["trading_day"]), key)
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            found.append(path)
    return found
