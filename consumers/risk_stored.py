"""Stored decisions are made again from the stored orders, controls, events and instruments of their run, from its first record.

**Protocol** The controls of a run say which ring each input was and which accounts there were (`Action.INPUT`, `ACCOUNT`). The
control ring is the first that an instance makes and its epochs are never used again: what is of a run lies between the first
epoch of its controls and that of the next run's.

**Failure** A run of which a record is missing is told as incomplete: nothing behind the hole can be borne out. Orders that were
never decided on are told too; in a running instance the last ones may be on their way.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import duckdb
import numpy as np

from consumers.risk_engine import RiskEngine
from consumers.risk_scales import Named, Names
from consumers.risk_verify import Difference, verify
from consumers.stored import first_hole, records
from layouts import CONTROL, EVENT, ORDER, RISK_DECISION, Action, Kind

_DAY_NS = 86_400 * 10**9
_SHOWN = 20
_ORDERS, _CONTROLS = 0, 1


class Report(NamedTuple):
    """What was compared and found."""

    decisions: int
    differing: int
    undecided: int
    """Orders, cancels and fills behind the last decision of a run."""
    differences: tuple[Difference, ...]
    """The first ones."""
    incomplete: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Something was compared, and everything is stored, decided and the same."""
        return bool(self.decisions) and not (self.differing or self.incomplete or self.undecided)


class _Run(NamedTuple):
    """One run of the trading: its control ring, and the epochs that are its own."""

    controls: str
    first_epoch: int
    end_epoch: int

    @property
    def epochs(self) -> str:
        """The condition that a record is of this run."""
        return f"epoch >= {self.first_epoch} AND epoch < {self.end_epoch}"


def verify_stored(
    connection: duckdb.DuckDBPyConnection, day: str = "", is_running: bool = False
) -> Report:
    """Make all decisions of the runs that decided on a day again and compare those of the day.

    Args:
        connection: of consumers.history.
        day: "2026-11-20", the UTC date of ts_event; "": every day.
        is_running: orders that were not decided on are on their way.
    """
    compared = differing = undecided = 0
    differences: list[Difference] = []
    incomplete: list[str] = []
    for run in _runs(connection):
        source = f"FROM decision_records WHERE {run.epochs}"
        of_day = f"{source} AND kind = {int(Kind.RISK_DECISION)}" + (" AND day = ?" if day else "")
        found = connection.execute(
            f"SELECT count(*), max(seq) {of_day}", [day] if day else []
        ).fetchall()[0]
        if not found[0]:
            continue
        inputs, accounts, currency = _configured(connection, run)
        if not inputs:
            incomplete.append(f"run {run.controls[:8]}: its controls do not tell its inputs")
            continue
        rings = _rings(connection, run, inputs)
        end = min(found[1], _end(connection, run, rings)) if is_running else found[1]
        incomplete += _holes(connection, run, rings, end)
        engine = RiskEngine(_names(connection, run), accounts, currency, _roles(inputs))
        feeds = [_parts(connection, dtype, view, ring_run) for _, view, dtype, ring_run in rings]
        decisions = (
            part.records
            for part in records(connection, RISK_DECISION, f"{source} AND seq <= {end}")
        )
        result = verify(engine, feeds, decisions, _is_of(day), _SHOWN - len(differences))
        compared, differing = compared + result.decisions, differing + result.differing
        differences += result.differences
        if not is_running:
            undecided += _undecided(connection, run, rings[_ORDERS][3], day)
    return Report(compared, differing, undecided, tuple(differences), tuple(incomplete))


def _runs(connection: duckdb.DuckDBPyConnection) -> list[_Run]:
    found = connection.execute(
        "SELECT run, min(epoch) FROM control_records GROUP BY run ORDER BY 2"
    ).fetchall()
    firsts = [first for _, first in found]
    return [
        _Run(run, first, end)
        for (run, first), end in zip(found, [*firsts[1:], 1 << 62], strict=False)
    ]


def _configured(
    connection: duckdb.DuckDBPyConnection, run: _Run
) -> tuple[list[str], list[int], str]:
    """Return the rings of the inputs, the accounts and the currency, as the controls say."""
    found = connection.execute(
        f"SELECT action, value_low, scope_name, account, currency FROM control_records WHERE run = ? "
        f"AND action IN ({int(Action.INPUT)}, {int(Action.ACCOUNT)}) ORDER BY seq",
        [run.controls],
    ).fetchall()
    inputs = {number: ring for action, number, ring, *_ in found if action == Action.INPUT}
    accounts = [account for action, _, _, account, _ in found if action == Action.ACCOUNT]
    currency = found[0][4] if found else ""
    return [str(inputs[i]) for i in sorted(inputs)], accounts, str(currency)


def _roles(inputs: Sequence[str]) -> list[str]:
    return ["orders", "control", *("events" for _ in inputs[2:])]


def _rings(
    connection: duckdb.DuckDBPyConnection, run: _Run, inputs: Sequence[str]
) -> list[tuple[str, str, np.dtype, str]]:
    """Return of each input its ring, the view that has it, its layout, and its incarnation ("": nothing is stored)."""
    kinds = (
        ("order_records", ORDER),
        ("control_records", CONTROL),
        *((("events", EVENT),) * len(inputs[2:])),
    )
    found = []
    for ring, (view, dtype) in zip(inputs, kinds, strict=True):
        named = connection.execute(
            f"SELECT run FROM {view} WHERE {run.epochs} AND ring = ? GROUP BY run ORDER BY min(epoch)",
            [ring],
        ).fetchall()
        found.append((ring, view, dtype, named[0][0] if named else ""))
    return found


def _parts(
    connection: duckdb.DuckDBPyConnection, dtype: np.dtype, view: str, run: str
) -> Iterator[np.ndarray]:
    for part in records(connection, dtype, f"FROM {view} WHERE run = ?", [run]):
        yield part.records


def _names(connection: duckdb.DuckDBPyConnection, run: _Run) -> Names:
    """Return the lookup over the run's stored instruments; version 0 is the newest."""
    found = {
        (i, v): Named(venue, symbol, p, q)
        for i, v, venue, symbol, p, q in connection.execute(
            "SELECT instrument_id, version, venue, symbol, price_scale, qty_scale FROM instruments "
            f"WHERE {run.epochs} ORDER BY epoch, seq"
        ).fetchall()
    }
    newest = {i: named for (i, _), named in sorted(found.items())}

    def names(instrument_id: int, version: int) -> Named | None:
        return found.get((instrument_id, version)) if version else newest.get(instrument_id)

    return names


def _is_of(day: str) -> Callable[[np.void], bool]:
    """Return the test whether a decision is of a day."""
    wanted = int(np.datetime64(day, "D").astype(np.int64)) if day else 0

    def test(row: np.void) -> bool:
        ts = int(row["ts_event"]) if row["ts_event"] > 0 else int(row["ts_recv"])
        return not day or ts // _DAY_NS == wanted

    return test


def _end(
    connection: duckdb.DuckDBPyConnection,
    run: _Run,
    rings: Sequence[tuple[str, str, np.dtype, str]],
) -> int:
    """Return the last decision whose inputs had been there when they were read: rings are not read at one instant."""
    ends = [
        connection.execute(
            f"SELECT coalesce(max(seq), 0) FROM {view} WHERE run = ?", [ring_run]
        ).fetchall()[0][0]
        for _, view, _, ring_run in rings
    ]
    beyond = " OR ".join(f"applied_seq[{i + 1}] > {end}" for i, end in enumerate(ends))
    first = connection.execute(
        f"SELECT min(seq) FROM decision_records WHERE {run.epochs} AND ({beyond})"
    ).fetchall()[0][0]
    return int(first) - 1 if first else 1 << 62


def _holes(
    connection: duckdb.DuckDBPyConnection,
    run: _Run,
    rings: Sequence[tuple[str, str, np.dtype, str]],
    end: int,
) -> list[str]:
    """Return a sentence for each ring of which the decisions name records that are not stored."""
    applied = connection.execute(
        f"SELECT {', '.join(f'max(applied_seq[{i + 1}])' for i in range(len(rings)))} FROM decision_records "
        f"WHERE {run.epochs} AND seq <= {end}"
    ).fetchall()[0]
    found = []
    for (ring, view, _, ring_run), needed in zip(rings, applied, strict=True):
        whole_to = first_hole(connection, view, ring_run) if ring_run else 0
        if whole_to < (needed or 0):
            found.append(
                f"{ring} (run {run.controls[:8]}): records behind {whole_to} are not all stored, and {needed} were applied"
            )
    held = connection.execute(
        f"SELECT count(*), max(seq) FROM decision_records WHERE {run.epochs} AND seq <= {end}"
    ).fetchall()[0]
    if held[1] is not None and held[0] != held[1]:
        found.append(
            f"risk.decisions (run {run.controls[:8]}): {held[1] - held[0]} rows are missing"
        )
    return found


def _undecided(connection: duckdb.DuckDBPyConnection, run: _Run, orders: str, day: str) -> int:
    """Count what was ordered behind the last decision of a run."""
    last = f"SELECT coalesce(max(source_seq), 0) FROM decision_records WHERE {run.epochs} AND input = {_ORDERS}"
    kinds = ", ".join(str(int(kind)) for kind in (Kind.ORDER, Kind.CANCEL, Kind.FILL, Kind.OPENING))
    query = (
        f"SELECT count(*) FROM order_records WHERE run = ? AND kind IN ({kinds}) AND seq > ({last})"
    )
    values = [orders, day] if day else [orders]
    return int(connection.execute(query + (" AND day = ?" if day else ""), values).fetchall()[0][0])
