"""What does a decision cost, with every check and every limit of every scope in force?

    ORDER, FILL and CANCEL records in memory ──> decide (one jitted call a batch) ──> RISK_DECISION rows in memory

`checks_ns`: all checks of an ORDER that passes them (terms, state, book, collar, rate, five limits in five scopes each), alone.
`order_ns`: the same, its row written, and from then on it stands; `refused_ns`: refused by the last check, row written;
`cancel_ns`: a CANCEL that takes an order off; `quote_ns`: a QUOTE that moves the mark under a held position. Outside: rings,
making the records. `row_ns` is the physical limit in the same run: a row of 256 bytes copied into fresh memory. Means are CPU
time of the thread, the median over runs and the least. Each decision must be the expected one, else the bench fails.

    python bench/bench_risk_kernel.py [--smoke] [--cpu N]
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from conditions import asked, conditions

from consumers.risk_booking import side_of
from consumers.risk_checks import check_terms
from consumers.risk_engine import BATCH_RECORDS, RiskEngine
from consumers.risk_kernels import check_order, find_row
from consumers.risk_limits import SCOPED
from consumers.risk_scales import Named
from consumers.risk_state import CONTEXT, IDS, INSTRUMENT_RISK, SCOPE_ROW
from layouts import (
    CONTROL,
    EVENT,
    ORDER,
    RISK_DECISION,
    Action,
    Check,
    Kind,
    Mark,
    OrderType,
    RiskReason,
    Scope,
    Verdict,
)
from shm.njit import address_of, as_pointer, carray, jit

ROUNDS = {"smoke": 3, "real": 300}
RUNS = {"smoke": 1, "real": 15}
_FAR = 10**9
_ROLES = ("orders", "control", "events")


@jit
def _check_kernel(context: int, records: int, n: int) -> int:
    """Return how many of `n` orders are refused."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    orders = carray(as_pointer(records), (n,), ORDER)
    instruments = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)
    scopes = carray(as_pointer(c.rows), (IDS,), SCOPE_ROW)
    refused = 0
    for i in range(n):
        order = orders[i]
        st = instruments[order.instrument_id]
        number = find_row(scopes, st, order.account)
        side = side_of(order)
        reason = check_terms(order, side)
        if reason == 0:
            reason = check_order(c, scopes, st, number, order, order.qty * st.qty_up, side)
        refused += reason != 0
    return refused


class Case:
    """An engine with one instrument, a held position, and all limits set."""

    def __init__(self, loss_limit: int) -> None:
        self.engine = RiskEngine(
            lambda _id, _version: Named("venue", "A/USD", 2, 6), [1], "USD", _ROLES
        )
        self.seqs = [0, 0, 0]
        opening = np.zeros(2, EVENT)
        opening["kind"], opening["word_2"] = (Kind.SNAPSHOT_END, Kind.QUOTE), 1
        opening[1]["word_0"], opening[1]["word_1"] = 10_000, 1
        opening[1]["word_2"], opening[1]["word_3"] = 10_002, 1
        self.quotes = np.repeat(opening[1:], BATCH_RECORDS)
        self.quotes["word_2"] = 10_003 + np.arange(BATCH_RECORDS) % 2
        for records in (opening, self.quotes):
            records["instrument_id"], records["marks"] = 1, 1
        self.run(2, opening)
        self.run(1, self._limits(loss_limit))
        resume = np.zeros(1, CONTROL)
        resume["kind"], resume["action"] = Kind.CONTROL, Action.RESUME
        self.run(1, resume)
        self.orders = self._orders(Kind.ORDER)
        self.cancels = self._orders(Kind.CANCEL)
        fill = self._orders(Kind.FILL)[:1].copy()
        fill["price"], fill["qty"] = 11_000, 1_000
        self.run(0, fill)

    def run(self, source: int, records: np.ndarray) -> tuple[np.ndarray, int]:
        """Apply a batch; return its rows and the ns it took."""
        records["stamp"] = 2 * (self.seqs[source] + np.arange(1, len(records) + 1)) + 2
        self.seqs[source] += len(records)
        address = address_of(records)
        began = time.thread_time_ns()
        made = self.engine.apply(address, len(records), source, 1)
        took = time.thread_time_ns() - began
        return self.engine.rows[:made], took

    def check(self) -> int:
        """Run the checks of each order and nothing else; return the ns they took."""
        address = address_of(self.engine.memory.context)
        began = time.thread_time_ns()
        refused = _check_kernel(address, address_of(self.orders), len(self.orders))
        took = time.thread_time_ns() - began
        assert refused == 0, "an order was refused"
        return took

    @staticmethod
    def _orders(kind: Kind) -> np.ndarray:
        records = np.zeros(BATCH_RECORDS, ORDER)
        records["kind"], records["instrument_id"], records["marks"] = kind, 1, int(Mark.BUY)
        records["order_type"], records["instrument_version"] = OrderType.LIMIT, 1
        records["account"], records["price"], records["qty"] = 1, 10_000, 10
        records["price_scale"], records["qty_scale"], records["multiplier"] = 2, 6, 1
        records["quote_currency"] = b"USD"
        return records

    @staticmethod
    def _limits(loss: int) -> np.ndarray:
        keys = [(check, scope) for check in SCOPED for scope in Scope]
        records = np.zeros(len(keys) + 3, CONTROL)
        records["kind"], records["action"] = Kind.CONTROL, Action.SET_LIMIT
        records["currency"], records["value_low"] = b"USD", _FAR
        for record, (check, scope) in zip(records, keys, strict=False):
            record["check"], record["scope"] = check, scope
            if check == Check.DAILY_LOSS:
                record["value_low"] = loss if scope == Scope.PORTFOLIO else _FAR
        others = ((Check.COLLAR, 500), (Check.ORDER_RATE, 1000), (Check.BOOK_AGE, 10**12))
        for record, (check, value) in zip(records[len(keys) :], others, strict=True):
            record["check"], record["value_low"], record["window_ns"] = check, value, 1000
        return records


def measure(kind: str) -> dict[str, Any]:
    """Run everything interleaved; return medians and least values."""
    names = ("checks_ns", "order_ns", "refused_ns", "cancel_ns", "quote_ns", "row_ns")
    runs: dict[str, list[float]] = {name: [] for name in names}
    open_case, shut_case = Case(_FAR), Case(0)
    for _ in range(RUNS[kind] + 1):
        spent = dict.fromkeys(names, 0)
        for _ in range(ROUNDS[kind]):
            _round(open_case, shut_case, spent)
        for name in names:
            runs[name].append(spent[name] / (ROUNDS[kind] * BATCH_RECORDS))
    found: dict[str, Any] = {}
    for name, each in runs.items():
        found[name] = round(statistics.median(each[1:]), 1)
        found[f"{name}_least"] = round(min(each[1:]), 1)
    found["limits_in_force"] = len(SCOPED) * len(Scope)
    return found


def _round(case: Case, shut: Case, spent: dict[str, int]) -> None:
    first = 1 + case.seqs[0]
    case.orders["order_id"] = case.cancels["order_id"] = first + np.arange(BATCH_RECORDS)
    case.orders["ts_recv"] = first * 1_000 + np.arange(BATCH_RECORDS) * 1_000
    rows, took = case.run(0, case.orders)
    assert (rows["verdict"] == Verdict.ACCEPTED).all(), rows["reason"]
    spent["order_ns"] += took
    rows, took = case.run(0, case.cancels)
    assert (rows["reason"] == 0).all() and len(rows) == BATCH_RECORDS
    spent["cancel_ns"] += took
    spent["checks_ns"] += case.check()
    rows, took = shut.run(0, shut.orders)
    assert (rows["reason"] == RiskReason.DAILY_LOSS_PORTFOLIO).all(), rows["reason"]
    spent["refused_ns"] += took
    _, took = case.run(2, case.quotes)
    spent["quote_ns"] += took
    there = np.zeros(BATCH_RECORDS, RISK_DECISION)
    began = time.thread_time_ns()
    there[:] = rows
    spent["row_ns"] += time.thread_time_ns() - began


def main() -> None:
    """Run and print one JSON line."""
    kind, cpu = asked(__doc__)
    line = {
        "bench": Path(__file__).stem,
        **conditions(kind, cpu),
        "runs": RUNS[kind],
        "figures": measure(kind),
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
