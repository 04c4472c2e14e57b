"""Positions are worked out anew from the stored fills and compared with the rows that the pnl worker published.

**Why it is right** What a fill makes of a position (quantity, cost, realised, fees, lots) depends on the fills before it
alone, so marks are left out. Each row is found by its cause, `(source_epoch, source_seq)`; numbers are compared as
fractions, whatever scale they were written at. Fills that are not stored are told first: nothing can be right without
them.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

import duckdb
import numpy as np

from consumers.pnl_engine import PnlEngine, PnlOptions
from consumers.pnl_state import ORDERS
from consumers.stored import as_records
from layouts import ORDER, CostMethod, Kind
from layouts.position import join_words

_SUMS = ("cost", "realised_total", "fees_total")
_PAIRS = [f"{name}_{half}" for name in _SUMS for half in ("low", "high")]
_COUNTS = ("fills", "lots")
_SCALED = {"qty": "qty_scale", "average_price": "mark_scale"}
_COLUMNS = ["source_epoch", "source_seq", "method", "money_scale", "qty_scale", "mark_scale"]
_COLUMNS += ["qty", "average_price", *_COUNTS, *_PAIRS]
_SHOWN = 20


class Difference(NamedTuple):
    """A row that the fills do not bear out."""

    epoch: int
    seq: int
    column: str
    published: str
    recomputed: str


class Report(NamedTuple):
    """What was compared and found."""

    fills: int
    """Fills of the day that are booked."""
    missing: int
    """Of these, without a row."""
    unfounded: int
    """Rows of the day that name a fill which is not stored or cannot be booked."""
    incomplete: list[str]
    differences: list[Difference]
    """The first 20."""

    @property
    def is_sound(self) -> bool:
        """Every fill is stored, has its row, and each number of it is borne out."""
        return not (self.missing or self.unfounded or self.incomplete or self.differences)


def verify(connection: duckdb.DuckDBPyConnection, lots: int, day: str = "") -> Report:
    """Recompute all positions and compare the rows whose fills are of a day.

    Args:
        connection: of consumers.history.
        lots: of the worker's configuration.
        day: "2026-11-20", the UTC date of ts_event; "": every day.
    """
    where = "AND day = ?" if day else ""
    columns = connection.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM position_records WHERE kind = {int(Kind.POSITION)} {where}",
        [day] if day else [],
    ).fetchnumpy()
    keys = zip(columns["source_epoch"].tolist(), columns["source_seq"].tolist(), strict=True)
    row_of = {key: i for i, key in enumerate(keys)}
    fills = missing = 0
    founded: set[tuple[int, int]] = set()
    epochs_of_orders: set[int] = set()
    differences: list[Difference] = []
    for run in _column(connection, "SELECT DISTINCT run FROM order_records ORDER BY run"):
        orders, epochs, of_day = _orders(connection, run, day)
        epochs_of_orders.update(epochs.tolist())
        for key, row in _recomputed(orders, epochs, columns, row_of, lots):
            if key not in of_day:
                continue
            fills += 1
            if key not in row_of:
                missing += 1
                continue
            founded.add(key)
            differences += _differences(key, row, columns, row_of[key])
    unfounded = [k for k in row_of if k[0] in epochs_of_orders and k not in founded]
    return Report(fills, missing, len(unfounded), _holes(connection), differences[:_SHOWN])


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(query).fetchall()]


def _orders(
    connection: duckdb.DuckDBPyConnection, run: str, day: str
) -> tuple[np.ndarray, np.ndarray, set[tuple[int, int]]]:
    """Return the FILLs and OPENINGs of one incarnation of the ring, their epochs, and (epoch, seq) of those of the day."""
    found = connection.execute(
        f"SELECT *, day = ? AS of_day FROM order_records WHERE kind IN ({int(Kind.FILL)}, {int(Kind.OPENING)}) AND run = ? "
        "ORDER BY seq",
        [day or "1970-01-01", run],
    ).fetchnumpy()
    records = as_records(found, ORDER)
    epochs = np.asarray(found["epoch"])
    keys = zip(epochs.tolist(), found["seq"].tolist(), found["of_day"].tolist(), strict=True)
    return records, epochs, {(epoch, seq) for epoch, seq, chosen in keys if chosen or not day}


def _recomputed(
    orders: np.ndarray,
    epochs: np.ndarray,
    columns: dict[str, np.ndarray],
    row_of: dict[tuple[int, int], int],
    lots: int,
) -> Iterator[tuple[tuple[int, int], np.void]]:
    """Yield cause and row of each fill, by the method that the published rows name."""
    keys = zip(epochs.tolist(), ((orders["stamp"] - 2) >> 1).tolist(), strict=True)
    method = next((int(columns["method"][row_of[key]]) for key in keys if key in row_of), 0)
    options = PnlOptions(CostMethod(method or CostMethod.AVERAGE), lots=lots)
    engine = PnlEngine(lambda _id, _version: None, options)
    for epoch in dict.fromkeys(epochs.tolist()):
        for row in engine.process(orders[epochs == epoch].copy(), ORDERS, epoch):
            yield (epoch, int(row["source_seq"])), row


def _differences(
    key: tuple[int, int], row: np.void, columns: dict[str, np.ndarray], i: int
) -> Iterator[Difference]:
    for name in (*_SCALED, *_SUMS, *_COUNTS):
        published = _number(name, {column: columns[column][i] for column in _COLUMNS})
        recomputed = _number(name, row)
        if published != recomputed:
            yield Difference(*key, name, str(published), str(recomputed))


def _number(name: str, row: Mapping[str, int] | np.void) -> Fraction:
    """Return what a row tells under a name, as the number it is."""
    if name in _COUNTS:
        return Fraction(int(row[name]))
    if name in _SCALED:
        return Fraction(int(row[name]), 10 ** int(row[_SCALED[name]]))
    value = join_words(row[f"{name}_low"], row[f"{name}_high"])
    return Fraction(value, 10 ** int(row["money_scale"]))


def _holes(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence for each incarnation of the orders that is not stored from its first record on without a hole."""
    query = "SELECT ring, run, min(seq), max(seq), count(*) FROM order_records GROUP BY ring, run ORDER BY run"
    found = []
    for ring, run, first, last, n in connection.execute(query).fetchall():
        if first > 1:
            found.append(f"{ring} (run {run[:8]}): records 1 .. {first - 1} are not stored")
        if n != last - first + 1:
            found.append(f"{ring} (run {run[:8]}): {last - first + 1 - n} records are missing")
    return found
