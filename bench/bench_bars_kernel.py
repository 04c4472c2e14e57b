"""What does a trade cost on its way into the bars of eleven time frames, of one instrument and of a thousand?

    EVENT records (trades) in memory ──> process (one jitted call a batch of 256) ──> BAR rows in memory

`trade_ns.<gap>`: all frames from 1 s to 1 d, trades of one instrument `gap` apart; the rows that close are inside. With a
second between trades each one closes 1.3 bars. `trade_ns_1000`: the same over 1,000 instruments taken at random, each
trading every second or so. `vwap_update_ns`: what VWAP adds to a trade, the 128-bit sum of price x quantity and the
volume; `vwap_close_ns`: their quotient, rounded once. `duckdb_ns`: DuckDB on one thread, one GROUP BY a frame over the same
trades in a table, per trade. Means are CPU time of the thread. Outside the window: rings, making the trades.
Afterwards the trades of each frame's bars, and those still open, must add up to all of them, else the bench fails.

    python bench/bench_bars_kernel.py [--smoke] [--cpu N]
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from conditions import asked, conditions

from consumers.bar_engine import BATCH_RECORDS, BarEngine
from consumers.bar_series import BarsConfig
from consumers.rolling import wide_add_products
from layouts import EVENT, InstrumentState, Kind, Mark
from layouts.bar import FRAMES
from shm.njit import address_of, jit, tr_wide_mean

TRADES = {"smoke": 2_000, "real": 200_000}
RUNS = {"smoke": 1, "real": 9}
MANY = {"smoke": 50, "real": 1_000}
GAPS_NS = {"1ms": 10**6, "100ms": 10**8, "1s": 10**9}
START_NS = 1_790_000_000_000_000_000
_SECOND_NS = 10**9


@jit
def _vwap_kernel(prices: Any, qtys: Any) -> tuple[int, int, int]:
    """Add price x quantity and quantity of every trade."""
    low, high, volume = 0, 0, 0
    for i in range(len(prices)):
        low, high = wide_add_products(low, high, prices[i], qtys[i], 0, 0)
        volume += qtys[i]
    return low, high, volume


@jit
def _mean_kernel(lows: Any, count: int) -> float:
    """Divide and round."""
    total = 0.0
    for i in range(len(lows)):
        total += tr_wide_mean(lows[i], 3, count)
    return total


def trades(n: int, instruments: int, gap_ns: int) -> np.ndarray:
    """Return trades of instruments taken at random, `gap_ns` apart."""
    rng = np.random.default_rng(5)
    made = np.zeros(n, EVENT)
    made["stamp"] = 2 * np.arange(1, n + 1) + 2
    made["kind"], made["instrument_id"] = Kind.TRADE, rng.integers(1, instruments + 1, n)
    made["ts_event"] = START_NS + np.arange(n) * gap_ns
    made["ts_recv"] = made["ts_event"] + 1_000_000
    made["word_0"] = 1_000_000 + np.cumsum(rng.integers(-2, 3, n))
    made["word_1"] = rng.integers(1, 10**8, n)
    made["marks"] = InstrumentState.LIVE | np.where(rng.random(n) < 0.5, Mark.BUY, Mark.SELL)
    return made


def kernel_ns(records: np.ndarray) -> float:
    """Return the cost of a trade; fails where a bar has lost or doubled one."""
    engine = BarEngine(BarsConfig(), lambda _id, _version: (2, 6), lambda _id: "")
    address, counted, spent = address_of(records), dict.fromkeys(FRAMES.values(), 0), 0
    for first in range(0, len(records), BATCH_RECORDS):
        n = min(BATCH_RECORDS, len(records) - first)
        began = time.thread_time_ns()
        made = engine.apply(address + first * EVENT.itemsize, n, 0, 1)
        spent += time.thread_time_ns() - began
        assert not engine.unfinished, "more rows than the buffer holds"
        rows = engine.rows[:made]
        for frame in counted:
            counted[frame] += int(rows["trades"][rows["parameter"] == frame].sum())
    end = np.zeros(1, EVENT)
    end["kind"], end["ts_recv"] = Kind.HEARTBEAT, records["ts_recv"][-1] + 2 * FRAMES["1d"]
    rows = engine.process(end)
    for frame in counted:
        counted[frame] += int(rows["trades"][rows["parameter"] == frame].sum())
        assert counted[frame] == len(records), f"bars of {frame} ns hold {counted[frame]} trades"
    return spent / len(records)


def duckdb_ns(records: np.ndarray) -> float:
    """Return the cost of a trade in DuckDB, one GROUP BY a frame."""
    connection = duckdb.connect(config={"threads": "1"})
    columns = {name: records[name].copy() for name in ("ts_event", "word_0", "word_1")}
    connection.register("given", pa.table(columns))
    connection.execute("CREATE TABLE t AS SELECT * FROM given")
    began = time.perf_counter_ns()
    for frame in FRAMES.values():
        connection.execute(
            f"SELECT ts_event // {frame}, arg_min(word_0, ts_event), max(word_0), min(word_0), "
            "arg_max(word_0, ts_event), sum(word_1), sum(word_0::HUGEINT * word_1), count(*) FROM t GROUP BY 1"
        ).fetchall()
    return (time.perf_counter_ns() - began) / len(records)


def vwap_ns(records: np.ndarray) -> tuple[float, float]:
    """Return the cost of one update and of one quotient."""
    prices, qtys = records["word_0"].copy(), records["word_1"].copy()
    began = time.thread_time_ns()
    low, high, volume = _vwap_kernel(prices, qtys)
    update = (time.thread_time_ns() - began) / len(prices)
    value = sum(p * q for p, q in zip(prices.tolist(), qtys.tolist(), strict=True))
    assert high * 2**64 + low % 2**64 == value and volume == int(qtys.sum())
    began = time.thread_time_ns()
    assert _mean_kernel(prices, 10**12 + 7) > 0
    return update, (time.thread_time_ns() - began) / len(prices)


def measure(kind: str) -> dict[str, Any]:
    """Run everything interleaved; return medians, least values and ratios."""
    n = TRADES[kind]
    cases = {name: trades(n, 1, gap) for name, gap in GAPS_NS.items()}
    crowd = trades(n, MANY[kind], _SECOND_NS // MANY[kind])
    for warm in (kernel_ns, vwap_ns):
        warm(cases["1ms"][:1000].copy())
    costs: dict[str, list[float]] = {name: [] for name in (*cases, "1000", "update", "close", "duckdb")}  # fmt: skip
    for _ in range(RUNS[kind]):
        for name, records in cases.items():
            costs[name].append(kernel_ns(records))
        costs["1000"].append(kernel_ns(crowd))
        update, close = vwap_ns(cases["1ms"])
        costs["update"].append(update)
        costs["close"].append(close)
        costs["duckdb"].append(duckdb_ns(cases["100ms"]))
    median = {name: round(statistics.median(values), 1) for name, values in costs.items()}
    least = {name: round(min(values), 1) for name, values in costs.items()}
    pairs = zip(costs["duckdb"], costs["100ms"], strict=True)
    return {
        "trade_ns": {name: median[name] for name in cases},
        "trade_ns_least": {name: least[name] for name in cases},
        "trade_ns_1000": median["1000"],
        "trade_ns_1000_least": least["1000"],
        "vwap_update_ns": round(statistics.median(costs["update"]), 2),
        "vwap_close_ns": median["close"],
        "duckdb_ns": median["duckdb"],
        "ratio_to_duckdb": round(statistics.median(d / o for d, o in pairs), 2),
    }


def main() -> None:
    """Run and print one JSON line."""
    kind, cpu = asked(__doc__)
    line = {"bench": Path(__file__).stem, **conditions(kind, cpu), "figures": measure(kind)}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
