"""Stored records come back as the records that they were, in the order of their ring, a bounded number at a time.

**Cost** One statement for each range of seqs: a connection holds one open result, and several rings are read in turn.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and of callers' own ones

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import duckdb
import numpy as np

BATCH_ROWS = 65_536


class Part(NamedTuple):
    """Consecutive records, and the epoch of each."""

    records: np.ndarray
    epochs: np.ndarray


def records(
    connection: duckdb.DuckDBPyConnection, dtype: np.dtype, source: str, values: Sequence[Any] = ()
) -> Iterator[Part]:
    """Yield records by ranges of seq.

    Args:
        connection: of consumers.history.
        dtype: layout of the view.
        source: "FROM view WHERE ...".
        values: for its question marks.
    """
    names = ", ".join(f'"{name}"' for name in ("epoch", *(dtype.names or ())))
    first, last = connection.execute(f"SELECT min(seq), max(seq) {source}", values).fetchall()[0]
    for begin in range(first or 0, (last or -1) + 1, BATCH_ROWS):
        part = f"seq >= {begin} AND seq < {begin + BATCH_ROWS} ORDER BY seq"
        columns = connection.execute(f"SELECT {names} {source} AND {part}", values).fetchnumpy()
        yield Part(as_records(columns, dtype), columns["epoch"])


def as_records(columns: Mapping[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Return columns, as DuckDB gives them, as records."""
    names = dtype.names or ()
    made = np.zeros(len(columns[names[0]]), dtype)
    for name in names:
        values, field = columns[name], dtype[name]
        if field.kind == "S":
            made[name] = [str(each).encode() for each in values]
        elif field.shape and len(values):
            made[name] = np.stack(list(values))
        elif not field.shape:
            made[name] = values
    return made


def first_hole(connection: duckdb.DuckDBPyConnection, view: str, run: str) -> int:
    """Return the last seq up to which every record of a ring's run is stored, 0: not even the first."""
    held = f"SELECT max(seq) FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM {view} WHERE run = ?)"
    return int(connection.execute(f"{held} WHERE seq = place", [run]).fetchall()[0][0] or 0)
