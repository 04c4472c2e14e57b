"""Decisions are made again from the orders, controls and events that were recorded, merged as each decision says, and compared.

**Why it is right** `applied_seq` of a decision tells how far each input was; RESTART rows tell where a process began. The rest
of a row is a function of these records. All columns are compared but stamp and publish delta, which say when, not what. Each
record that asks for a decision has one: their numbers have no hole.

**Failure** Records that are no longer there: what was decided before the oldest ones cannot be made again,
and every difference after it may be due to that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from consumers.risk_engine import BATCH_RECORDS, RiskEngine
from layouts import RISK_DECISION, Kind
from shm.njit import address_of

_NOT_COMPARED = ("stamp", "publish_delta_ns")


class Difference(NamedTuple):
    """One column of one decision."""

    decision_no: int
    column: str
    recorded: str
    made_again: str


class Verified(NamedTuple):
    """What came of it: decisions compared, those that differ in any column or are missing, and the first differences."""

    decisions: int
    differing: int
    differences: tuple[Difference, ...]


class _Feed:
    """One recorded input, given to an engine bit by bit."""

    def __init__(self, engine: RiskEngine, source: int, parts: Iterable[np.ndarray]) -> None:
        self._engine, self._source = engine, source
        self._parts: Iterator[np.ndarray] = iter(parts)
        self._take(np.zeros(0, [("stamp", "<i8")]))

    def advance(self, seq: int, epoch: int) -> np.ndarray:
        """Apply everything up to and with `seq`; return the rows of the last batch."""
        made = self._engine.rows[:0]
        while True:
            end = int(np.searchsorted(self._seqs, seq, "right"))
            while self._at < end:
                n = min(BATCH_RECORDS, end - self._at)
                address = address_of(self._records) + self._at * self._records.itemsize
                made = self._engine.rows[: self._engine.apply(address, n, self._source, epoch)]
                self._at += n
            if end < len(self._records):
                return made
            following = next(self._parts, None)
            if following is None:
                return made
            self._take(following)

    def _take(self, records: np.ndarray) -> None:
        self._records = np.ascontiguousarray(records)
        self._seqs = (self._records["stamp"] - 2) >> 1
        self._at = 0


def verify(
    engine: RiskEngine,
    inputs: Sequence[Iterable[np.ndarray]],
    decisions: Iterable[np.ndarray],
    is_wanted: Callable[[np.void], bool] = lambda _row: True,
    most: int = 20,
) -> Verified:
    """Make decisions again and compare them.

    Args:
        engine: a new one, configured as the worker was.
        inputs: of each input, in the order of the worker's spec, its records in parts, with the stamps they had.
        decisions: RISK_DECISION rows in their order, in parts, RESTART rows among them.
        is_wanted: tells the decisions that are compared; all are made again.
        most: differences to return.
    """
    feeds = [_Feed(engine, i, parts) for i, parts in enumerate(inputs)]
    compared = differing = before = 0
    differences: list[Difference] = []
    for row in (row for part in decisions for row in part):
        if row["kind"] == Kind.RESTART:
            engine.follow_restart(row)
        if row["kind"] != Kind.RISK_DECISION:
            continue
        for i, feed in enumerate(feeds):
            if i != row["input"]:
                feed.advance(int(row["applied_seq"][i]), 1)
        made = feeds[int(row["input"])].advance(int(row["source_seq"]), int(row["source_epoch"]))
        number = int(row["decision_no"])
        found = _differences(row, made[-1:])
        if before and number != before + 1:
            found.insert(0, Difference(number, "decision_no", str(number), str(before + 1)))
        before = number
        if is_wanted(row):
            compared += 1
            differing += bool(found)
            differences += found[: most - len(differences)]
    return Verified(compared, differing, tuple(differences))


def _differences(row: np.void, made: np.ndarray) -> list[Difference]:
    number = int(row["decision_no"])
    if not len(made):
        return [Difference(number, "decision", "made", "not made")]
    return [
        Difference(number, name, str(row[name]), str(made[0][name]))
        for name in RISK_DECISION.names or ()
        if name not in _NOT_COMPARED and not np.array_equal(row[name], made[0][name])
    ]
