"""What does a fill cost, booked with its row, what an event that moves a mark, and what the same in Python's integers?

    ORDER and EVENT records in memory ──> PnlEngine.apply (one jitted call a batch of 128) ──> POSITION rows in memory

`fill_*_ns`: fills at random prices and sizes that open, reduce, close and turn one position, each with its 320-byte row,
by average cost and by FIFO with 256 lots. `mark_ns`: quotes that each move the mark of a held instrument, each with its
row. `event_ns`: quotes of an instrument of which nothing is held. `fill_python_ns`: the same fills booked by Python's
integers (average cost, no row), the exact alternative. Inside the window: CPU time of the thread in `apply`. Outside:
rings, making the records. Afterwards quantity, cost and realised must equal those of the Python loop, else the bench fails.

    python bench/bench_pnl_kernel.py [--smoke] [--cpu N]
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from conditions import asked, conditions

from consumers.pnl_engine import BATCH_RECORDS, PnlEngine, PnlOptions
from consumers.pnl_state import ORDERS
from layouts import EVENT, ORDER, CostMethod, InstrumentState, Kind, make_marks
from layouts.position import join_words
from shm.njit import address_of

RECORDS = {"smoke": 1_280, "real": 128_000}
RUNS = {"smoke": 1, "real": 21}
LIVE = InstrumentState.LIVE


def make_fills(n: int) -> np.ndarray:
    """Return fills of one position that now and then goes through zero."""
    rng = np.random.default_rng(5)
    fills = np.zeros(n, ORDER)
    fills["stamp"] = 2 * np.arange(n) + 4
    fills["kind"], fills["instrument_id"], fills["account"] = Kind.FILL, 1, 1
    fills["ts_event"] = 1_790_000_000 * 10**9 + np.arange(n)
    fills["marks"] = rng.choice([make_marks(LIVE, 1), make_marks(LIVE, -1)], n)
    fills["price"] = 6_300_000 + np.cumsum(rng.integers(-50, 51, n))
    fills["qty"] = rng.integers(1, 10**9, n)
    fills["multiplier"], fills["price_scale"], fills["qty_scale"] = 1, 2, 8
    fills["fee"], fills["fee_scale"] = rng.integers(0, 10**6, n), 4
    fills["quote_currency"] = fills["fee_currency"] = b"USD"
    return fills


def make_quotes(n: int, instrument_id: int) -> np.ndarray:
    """Return quotes each of which moves the mid."""
    quotes = np.zeros(n, EVENT)
    quotes["stamp"] = 2 * np.arange(n) + 4
    quotes["kind"], quotes["instrument_id"] = Kind.QUOTE, instrument_id
    quotes["ts_event"] = 1_790_000_000 * 10**9 + np.arange(n)
    quotes["marks"] = make_marks(LIVE, last_in_frame=True)
    quotes["word_0"] = 6_300_000 + np.arange(n) % 97
    quotes["word_2"] = quotes["word_0"] + 10
    quotes["word_1"] = quotes["word_3"] = 1
    return quotes


def new_engine(method: CostMethod) -> PnlEngine:
    """Return an engine that makes a row of every mark."""
    return PnlEngine(lambda _id, _version: 2, PnlOptions(method, pause_ns=0))


def apply(engine: PnlEngine, records: np.ndarray, source: int) -> tuple[float, int]:
    """Return ns a record and the rows made."""
    address, made = address_of(records), 0
    began = time.thread_time_ns()
    for first in range(0, len(records), BATCH_RECORDS):
        n = min(BATCH_RECORDS, len(records) - first)
        made += engine.apply(address + first * records.itemsize, n, source, 1)
    return (time.thread_time_ns() - began) / len(records), made


def book_in_python(fills: np.ndarray) -> tuple[float, list[int]]:
    """Book fills by average cost; return ns a fill, and quantity, cost and realised at mark_scale."""
    columns = zip(
        fills["marks"].tolist(), fills["price"].tolist(), fills["qty"].tolist(), strict=True
    )
    buy = make_marks(LIVE, 1)
    held = cost = realised = 0
    began = time.thread_time_ns()
    for marks, at_price_scale, qty in columns:
        side, price = (1 if marks == buy else -1), 10 * at_price_scale
        sign = 1 if held > 0 else -1
        closing = min(qty, abs(held)) if held * side < 0 else 0
        if closing:
            whole, part = divmod(2 * abs(cost) * closing + abs(held), 2 * abs(held))
            released = whole - (part == 0 and whole % 2 == 1)
            released = released if cost > 0 else -released
            realised += sign * price * closing - released
            cost -= released
        held += side * qty
        cost += side * (qty - closing) * price
    return (time.thread_time_ns() - began) / len(fills), [held, cost, realised]


def check(engine: PnlEngine, wanted: list[int]) -> None:
    """Fail unless the engine's position is the one of the Python loop."""
    position = engine._positions[0]
    found = [int(position["qty"])]
    found += [join_words(*position[name]) for name in ("cost", "realised_total")]
    assert found == wanted, f"{found}, {wanted} by Python's integers"


def measure(kind: str) -> dict[str, Any]:
    """Run everything interleaved; return medians."""
    n = RECORDS[kind]
    fills, held, other = make_fills(n), make_quotes(n, 1), make_quotes(n, 2)
    taken: dict[str, list[float]] = {}
    for run in range(RUNS[kind] + 1):
        spent: dict[str, float] = {}
        spent["fill_python_ns"], wanted = book_in_python(fills)
        for name, method in (("average", CostMethod.AVERAGE), ("fifo", CostMethod.FIFO)):
            engine = new_engine(method)
            spent[f"fill_{name}_ns"], made = apply(engine, fills, ORDERS)
            assert made == n == engine.counters["fills_booked"], "fills are missing"
            if method == CostMethod.AVERAGE:
                check(engine, wanted)
                spent["mark_ns"], made = apply(engine, held, 1)
                assert made == n, "a mark made no row"
                spent["event_ns"], made = apply(engine, other, 1)
                assert made == 0
        for name, value in spent.items() if run else ():  # the first run warms up
            taken.setdefault(name, []).append(value)
    figures = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    pairs = zip(taken["fill_python_ns"], taken["fill_average_ns"], strict=True)
    figures["python_ratio"] = round(statistics.median(a / b for a, b in pairs), 2)
    return figures | {f"{name}_least": round(min(values), 1) for name, values in taken.items()}


def main() -> None:
    """Run and print one JSON line."""
    kind, cpu = asked(__doc__)
    line = {
        "bench": Path(__file__).stem,
        **conditions(kind, cpu),
        "runs": RUNS[kind],
        "records": RECORDS[kind],
        "figures": measure(kind),
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
