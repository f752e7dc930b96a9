"""Rows of a table by the names they carry, without a loop over rows. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Labels = tuple[list[str], NDArray[np.int64]]  # names, and which of them each row has


def labels_of(table: pa.Table, column: str) -> Labels:
    """A column of text, a number for each name."""
    encoded = table.column(column).cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def grouped(
    labels: Sequence[Labels], chosen: NDArray[np.bool_] | None = None
) -> Iterator[tuple[tuple[str, ...], NDArray[np.int64]]]:
    """(names, rows) of every combination of names there is, rows in their order; of the `chosen` rows."""
    rows = np.arange(len(labels[0][1])) if chosen is None else np.flatnonzero(chosen)
    if not len(rows):
        return
    keys = np.stack([places[rows] for _, places in labels])
    order = np.lexsort(keys)
    edges = np.flatnonzero((np.diff(keys[:, order], axis=1) != 0).any(axis=0)) + 1
    for mine in np.split(rows[order], edges):
        yield tuple(names[places[mine[0]]] for names, places in labels), mine
