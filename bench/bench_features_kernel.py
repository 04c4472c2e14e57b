"""What does a row of features cost, in a stream of one instrument and of a thousand?

    EVENT records in memory ──> process (one jitted call a batch of 256) ──> FEATURES rows in memory

`tick_ns`: the 28 columns that need no depth, on rows whose mid, spread, flow and volume all change. `all_ns`: all
39 columns, a row a frame (30 % trades, the rest quotes; a quarter of these move both prices), including the LEVEL
records that the row's frame brought (`records_per_row`). `all_ns_1000`: the same frames over 1,000 instruments
taken at random; `ratio_1000` compares the two, run by run, interleaved. `one_*`: single rows, each between two
clock reads whose own cost is taken off. Means are CPU time of the thread, so that what else the machine does
counts less. Inside the window: book updates, windows, columns, ready bits, NaN. Outside: rings, making the stream.
Afterwards each QUOTE must have agreed with the own book, and rows and row numbers must be complete, else the bench
fails.

    python bench/bench_features_kernel.py [--smoke] [--cpu N]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
from features_stream import market

from consumers.feature_book import order_flow, write_top
from consumers.feature_engine import BATCH_RECORDS, FeatureEngine
from consumers.feature_kernels import process
from consumers.feature_state import CONTEXT, INSTRUMENT_STATE
from consumers.feature_windows import (
    enter_row,
    enter_trade,
    write_flows,
    write_returns,
    write_spreads,
    write_volumes,
)
from layouts import COLUMNS, EVENT, FEATURES
from shm.njit import address_of, as_pointer, carray, jit, tr_monotonic_ns

FRAMES = {"smoke": 2_000, "real": 60_000}
RUNS = {"smoke": 1, "real": 21}
MANY = {"smoke": 50, "real": 1_000}
TRADES, MOVES = 0.3, 0.25
_EVENT_BYTES = EVENT.itemsize


@jit
def _tick_kernel(states: int, rows: int, ticks: Any) -> None:
    """Run the 28 tick columns over `ticks` (ts, bid, ask, bid qty, ask qty, qty, side) of one instrument."""
    st = carray(as_pointer(states), (1,), INSTRUMENT_STATE)[0]
    out = carray(as_pointer(rows), (BATCH_RECORDS,), FEATURES)
    for i in range(len(ticks)):
        row = out[i % BATCH_RECORDS]
        ts, bid, ask, bid_qty, ask_qty, qty, side = ticks[i]
        flow = order_flow(bid, bid_qty, st.bid, st.bid_qty, 1)
        flow += order_flow(ask, ask_qty, st.ask, st.ask_qty, -1)
        st.bid, st.bid_qty, st.ask, st.ask_qty = bid, bid_qty, ask, ask_qty
        st.mid, st.spread = bid + ask, ask - bid
        k = st.rows
        is_trade = 1 if side != 0 else 0
        if is_trade:
            enter_trade(st, side * qty)
            st.price = float(bid) / st.price_unit
        enter_row(st, ts, is_trade, qty, side * qty, st.mid, st.spread, flow)
        st.rows = k + 1
        row.price = st.price
        write_volumes(st, row, k, qty)
        write_returns(st, row, k)
        write_spreads(st, row, st.spread)
        write_flows(st, row, k, flow)
        write_top(st, row)


@jit
def _one_by_one_kernel(context: int, records: int, n: int, rows: int, spans: Any) -> int:
    """Apply records singly; write the ns of each that made a row, two clock reads included."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    made = 0
    for i in range(n):
        c.next_record = 0
        began = tr_monotonic_ns()
        count = process(context, records + i * _EVENT_BYTES, 1, rows)
        ended = tr_monotonic_ns()
        if count:
            spans[made] = ended - began
            made += 1
    return made


@jit
def _clock_kernel(spans: Any) -> None:
    for i in range(len(spans)):
        began = tr_monotonic_ns()
        spans[i] = tr_monotonic_ns() - began


def scales(_instrument_id: int, _version: int) -> tuple[int, int]:
    """Return digits of price and quantity."""
    return 2, 6


def tick_ns(frames: int) -> float:
    """Return the cost of the 28 tick columns."""
    rng = np.random.default_rng(3)
    ticks = np.zeros((frames, 7), np.int64)
    bids = 200_000 + np.cumsum(rng.integers(-1, 2, frames))
    side = np.where(rng.random(frames) < TRADES, rng.choice((-1, 1), frames), 0)
    ticks[:, 0] = 1_790_000_000_000_000_000 + np.arange(frames) * 1_000_000
    ticks[:, 1], ticks[:, 2] = bids, bids + rng.integers(1, 4, frames)
    ticks[:, 3:5] = rng.integers(1, 10**8, (frames, 2))
    ticks[:, 5] = np.where(side != 0, rng.integers(1, 10**8, frames), 0)
    ticks[:, 6] = side
    state, rows = np.zeros(1, INSTRUMENT_STATE), np.zeros(BATCH_RECORDS, FEATURES)
    state["price_unit"], state["qty_unit"] = 100.0, 1e6
    _tick_kernel(address_of(state), address_of(rows), ticks[:100])
    began = time.thread_time_ns()
    _tick_kernel(address_of(state), address_of(rows), ticks[100:])
    ended = time.thread_time_ns()
    last = rows[(frames - 101) % BATCH_RECORDS]
    names = [column.name for column in COLUMNS[:28]]
    assert np.isfinite([last[name] for name in names]).all(), "a tick column was not computed"
    return (ended - began) / (frames - 100)


class Case:
    """One stream with the engine's state after its snapshots and first third."""

    def __init__(self, instruments: int, frames: int) -> None:
        opening, body = market(instruments, frames, TRADES, MOVES)
        engine = FeatureEngine(scales)
        engine.process(opening)
        warm = len(body) // 3 // BATCH_RECORDS * BATCH_RECORDS
        engine.process(body[:warm])
        self.image = engine.to_bytes()
        self.body = body[warm:].copy()
        self.records_per_row = len(self.body) / len(engine.process(self.body))
        assert engine.counters["quotes_differing"] == 0, "a QUOTE differs from the own book"

    def engine(self) -> FeatureEngine:
        """Return an engine in the state before `body`."""
        engine = FeatureEngine(scales)
        engine.load(self.image)
        return engine

    def run(self) -> float:
        """Return ns a row."""
        engine, address = self.engine(), address_of(self.body)
        made = 0
        began = time.thread_time_ns()
        for first in range(0, len(self.body), BATCH_RECORDS):
            n = min(BATCH_RECORDS, len(self.body) - first)
            made += engine.apply(address + first * EVENT.itemsize, n, 0, 1)
        ended = time.thread_time_ns()
        assert made == round(len(self.body) / self.records_per_row), "rows are missing"
        return (ended - began) / made


def one_by_one(case: Case) -> dict[str, float]:
    """Return percentiles of single rows, the clock's own cost taken off."""
    engine = case.engine()
    spans = np.zeros(len(case.body), np.int64)
    arguments = (engine._context_address, address_of(case.body))
    made = _one_by_one_kernel(*arguments, len(case.body), engine._rows_address, spans)
    own = np.zeros(10_000, np.int64)
    _clock_kernel(own)
    rows = spans[:made] - int(np.median(own))
    names = ("one_p50_ns", "one_p90_ns", "one_p99_ns", "one_p999_ns", "one_max_ns")
    return dict(
        zip(names, np.percentile(rows, (50, 90, 99, 99.9, 100)).round(1).tolist(), strict=True)
    )


def measure(kind: str) -> dict[str, Any]:
    """Run everything interleaved; return medians and least values."""
    few, many = Case(1, FRAMES[kind]), Case(MANY[kind], FRAMES[kind])
    tick_ns(1000)
    one_by_one(few)
    ticks, alone, crowd, singles = [], [], [], []
    for _ in range(RUNS[kind]):
        ticks.append(tick_ns(FRAMES[kind]))
        alone.append(few.run())
        crowd.append(many.run())
        singles.append(one_by_one(few))
    ratios = [b / a for a, b in zip(alone, crowd, strict=True)]
    single = {name: statistics.median(each[name] for each in singles) for name in singles[0]}
    return {
        "tick_ns": round(statistics.median(ticks), 1),
        "tick_ns_least": round(min(ticks), 1),
        "all_ns": round(statistics.median(alone), 1),
        "all_ns_least": round(min(alone), 1),
        "all_ns_1000": round(statistics.median(crowd), 1),
        "all_ns_1000_least": round(min(crowd), 1),
        "ratio_1000": round(statistics.median(ratios), 3),
        "ratio_1000_of_least": round(min(crowd) / min(alone), 3),
        "records_per_row": round(few.records_per_row, 3),
        **single,
        "state_bytes_per_instrument": INSTRUMENT_STATE.itemsize,
    }


def conditions(kind: str, cpu: int) -> dict[str, Any]:
    """Return what the figures depend on."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    sha = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    model = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "sha": sha,
        "parameters": kind,
        "runs": RUNS[kind],
        "instruments": MANY[kind],
        "cpu_model": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "pinned_to": cpu,
        "load_1min": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": numba.__version__,
    }


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpu", type=int, default=-1, help="core to run on (-1: any)")
    given = parser.parse_args()
    kind = "smoke" if given.smoke else "real"
    if given.cpu >= 0:
        os.sched_setaffinity(0, {given.cpu})
    line = {"bench": Path(__file__).stem, **conditions(kind, given.cpu), "figures": measure(kind)}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
