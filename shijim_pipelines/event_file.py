"""Rows of hftbacktest's event type in an npz file: written to the same bytes each time, checked when read.

Knows nothing of the archive or of sessions; hftbacktest itself would print a line and go on with an empty market.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]

# hftbacktest's event type, stated here so that building needs no backtester; a test holds the two equal.
EVENT_DTYPE = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ],
    align=True,
)
EXCH_EVENT, LOCAL_EVENT, BUY_EVENT, SELL_EVENT = 1 << 31, 1 << 30, 1 << 29, 1 << 28
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
_KNOWN_BITS = EXCH_EVENT | LOCAL_EVENT | BUY_EVENT | SELL_EVENT | 0xFF
# A zip stores the time of each member; one that never changes makes equal rows equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
REBUILD = "Rebuild it with: shijim dataset --day D --symbol S"


class InvalidDataset(ValueError):
    """A dataset, or what it should be built from, is not what it claims to be."""


def content_sha256(rows: Rows) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).view(np.uint8).data).hexdigest()


def write_npz(path: Path, rows: Rows) -> None:
    member = zipfile.ZipInfo("data.npy", date_time=_ZIP_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3
    member.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w") as archive, archive.open(member, "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, rows, allow_pickle=False)


def validate_npz(path: Path) -> Rows:
    """The rows of a sound dataset. hftbacktest itself would print a line and go on with an empty market."""
    rows = _read_npz(path)
    refuse_faults(rows, path)
    return rows


def refuse_faults(rows: Rows, path: Path) -> None:
    """InvalidDataset names the first row of `rows`, the contents of `path`, that a backtest could not take."""
    if rows.dtype != EVENT_DTYPE:
        raise InvalidDataset(f"{path}: member data has fields {rows.dtype}, not hftbacktest's event type. {REBUILD}")
    if rows.ndim != 1 or len(rows) == 0:
        raise InvalidDataset(f"{path}: member data has shape {rows.shape}, not one dimension with rows. {REBUILD}")
    for fault, wrong in _faults(rows):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InvalidDataset(f"{path}: row {row} (ev 0x{int(rows['ev'][row]):08X}) {fault}. {REBUILD}")


def _read_npz(path: Path) -> Rows:
    if not path.is_file():
        raise InvalidDataset(f"{path}: no such file. {REBUILD}")
    if not zipfile.is_zipfile(path):
        raise InvalidDataset(f"{path}: not a zip file, so not an npz. {REBUILD}")
    try:
        with np.load(path, allow_pickle=False) as members:
            if "data" not in members.files:
                raise InvalidDataset(f"{path}: has members {members.files}, none is called data. {REBUILD}")
            data: Rows = members["data"]
    except (OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidDataset(f"{path}: cannot be unpacked ({error}). {REBUILD}") from error
    except ValueError as error:
        if isinstance(error, InvalidDataset):
            raise
        raise InvalidDataset(f"{path}: member data is not a plain array ({error}). {REBUILD}") from error
    return data


def _faults(rows: Rows) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(what is wrong, where), the flags first: what follows relies on them."""
    ev, kind = rows["ev"], rows["ev"] & 0xFF
    buys, sells = ev & BUY_EVENT != 0, ev & SELL_EVENT != 0
    on_exchange, on_local = ev & EXCH_EVENT != 0, ev & LOCAL_EVENT != 0
    priced = kind != CLEAR
    yield "is of a kind that the backtester ignores", ~np.isin(kind, (DEPTH, TRADE, CLEAR, SNAPSHOT))
    yield "has flag bits that mean nothing", ev & ~np.uint64(_KNOWN_BITS) != 0
    yield "is for neither the exchange nor the local side", ~on_exchange & ~on_local
    yield "is a depth row without exactly one side", np.isin(kind, (DEPTH, SNAPSHOT)) & (buys == sells)
    yield "has both sides", buys & sells
    for name in ("px", "qty"):
        yield f"has a {name} that is not a number", priced & ~np.isfinite(rows[name])
        yield f"has a negative {name}", priced & (rows[name] < 0)
    yield "has no time", (on_exchange & (rows["exch_ts"] <= 0)) | (on_local & (rows["local_ts"] <= 0))
    yield "is received before it happened", rows["local_ts"] < rows["exch_ts"]
    for name, on_axis in (("exch_ts", on_exchange), ("local_ts", on_local)):
        places = np.flatnonzero(on_axis)
        backwards = np.zeros(len(rows), dtype=np.bool_)
        backwards[places[1:]] = np.diff(rows[name][places]) < 0
        yield f"has an earlier {name} than the row before it", backwards
