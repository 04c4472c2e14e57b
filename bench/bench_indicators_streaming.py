"""What does one streaming update of each indicator cost, called from compiled code?

    rows in arrays ──> <name>_step(state, row) ──> value into an array      one compiled loop

Inside the timed window: reading a row, the step with its state in memory, writing the value.
Outside: compilation, the state's making. A chunk of rows is short enough to fit between two
interruptions of a shared core; a run is the best of many chunks, told are the median and the
range of seven runs. The batch's cost a row in the same run is the limit: the same arithmetic with
its state in registers. The values are compared with the batch's, bit for bit, else the run fails.

    python bench/bench_indicators_streaming.py [--smoke] [--cpu N] [--table]
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from conditions import conditions

from consumers.indicators import INDICATORS, reset
from shm import clock

Floats = npt.NDArray[np.float64]
Rows = tuple[Floats, ...]

RUNS = {"smoke": 1, "real": 7}
CHUNKS = {"smoke": 2, "real": 60}
ROWS = {"smoke": 500, "real": 10_000}
LIMIT_NS, VWAP_LIMIT_NS = 25.0, 10.0
# Beside the defaults: the rolling form, and windows that are not small.
TRIED: list[tuple[str, tuple[Any, ...]]] = [(name, ()) for name in INDICATORS] + [
    ("vwap", (14,)),
    ("sma", (1000,)),
    ("bollinger", (1000,)),
    ("donchian", (1000,)),
    ("mfi", (1000,)),
]

loop = numba.njit(error_model="numpy")


@loop
def from_1_to_1(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """One series, one value."""
    for i in range(len(out)):
        out[i] = step(state, rows[0][i])


@loop
def from_1_to_3(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """One series, three values, of which the last is kept."""
    for i in range(len(out)):
        _, _, out[i] = step(state, rows[0][i])


@loop
def from_2_to_1(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """Two series, one value."""
    for i in range(len(out)):
        out[i] = step(state, rows[0][i], rows[1][i])


@loop
def from_2_to_3(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """Two series, three values, of which the last is kept."""
    for i in range(len(out)):
        _, _, out[i] = step(state, rows[0][i], rows[1][i])


@loop
def from_3_to_1(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """Three series, one value."""
    for i in range(len(out)):
        out[i] = step(state, rows[0][i], rows[1][i], rows[2][i])


@loop
def from_3_to_2(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """Three series, two values, of which the last is kept."""
    for i in range(len(out)):
        _, out[i] = step(state, rows[0][i], rows[1][i], rows[2][i])


@loop
def from_3_to_3(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """Three series, three values, of which the last is kept."""
    for i in range(len(out)):
        _, _, out[i] = step(state, rows[0][i], rows[1][i], rows[2][i])


@loop
def from_4_to_1(step: Any, state: Floats, rows: Rows, out: Floats) -> None:
    """Four series, one value."""
    for i in range(len(out)):
        out[i] = step(state, rows[0][i], rows[1][i], rows[2][i], rows[3][i])


LOOPS: dict[tuple[int, int], Callable[..., None]] = {
    (1, 1): from_1_to_1,
    (1, 3): from_1_to_3,
    (2, 1): from_2_to_1,
    (2, 3): from_2_to_3,
    (3, 1): from_3_to_1,
    (3, 2): from_3_to_2,
    (3, 3): from_3_to_3,
    (4, 1): from_4_to_1,
}


def market(rows: int) -> dict[str, Floats]:
    """Make bars of a walk around 100."""
    rng = np.random.default_rng(7)
    close = 100.0 + np.cumsum(rng.standard_normal(rows)) * 0.01
    high, low = close + rng.random(rows) * 0.05, close - rng.random(rows) * 0.05
    volume = rng.integers(1, 1000, rows).astype(float)
    return {"high": high, "low": low, "close": close, "volume": volume, "real": close}


def shortest(call: Callable[[], Any], chunks: int, rows: int) -> float:
    """Give the shortest of so many timings, in ns a row."""
    times = []
    for _ in range(chunks):
        began_ns = clock.monotonic_ns()
        call()
        times.append(clock.monotonic_ns() - began_ns)
    return min(times) / rows


def calls(
    name: str, parameters: tuple[Any, ...], bars: dict[str, Floats]
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Give the streaming loop and the batch, after comparing their values bit for bit."""
    indicator = INDICATORS[name]
    rows = tuple(bars[i] for i in indicator.inputs)
    out = np.empty(len(rows[0]))
    state = indicator.state(*parameters)
    run = LOOPS[len(indicator.inputs), len(indicator.outputs)]
    run(indicator.step, state, rows, out)
    wanted = indicator.batch(*rows, *parameters)
    last = wanted[-1] if isinstance(wanted, tuple) else wanted
    if not np.array_equal(out.view(np.int64), last.view(np.int64)):
        sys.exit(f"{name}: stream and batch differ; the times would mean nothing")
    reset(state)
    return (
        lambda: run(indicator.step, state, rows, out),
        lambda: indicator.batch(*rows, *parameters),
    )


def measure(kind: str) -> dict[str, Any]:
    """Measure every indicator: a run goes through all of them before the next begins."""
    rows = ROWS[kind]
    bars = market(rows)
    made = {
        f"{name}{parameters[0] if parameters else ''}": (
            INDICATORS[name].state(*parameters).nbytes,
            *calls(name, parameters, bars),
        )
        for name, parameters in TRIED
    }
    found: dict[str, list[float]] = {title: [] for title in made}
    batch: dict[str, list[float]] = {title: [] for title in made}
    for _ in range(RUNS[kind]):
        for title, (_, stream, whole) in made.items():
            found[title].append(shortest(stream, CHUNKS[kind], rows))
            batch[title].append(shortest(whole, CHUNKS[kind], rows))
    figures = {}
    for title, (state_bytes, *_) in made.items():
        limit_ns = VWAP_LIMIT_NS if title == "vwap" else LIMIT_NS
        update_ns = statistics.median(found[title])
        figures[title] = {
            "update_ns": round(update_ns, 2),
            "lowest": round(min(found[title]), 2),
            "highest": round(max(found[title]), 2),
            "batch_ns": round(statistics.median(batch[title]), 2),
            "state_bytes": state_bytes,
            "limit_ns": limit_ns,
            "reached": update_ns <= limit_ns,
        }
    return figures


def main() -> None:
    """Run, compare, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpu", type=int, default=-1, help="core to run on (-1: any)")
    parser.add_argument("--table", action="store_true", help="also write a table to stderr")
    given = parser.parse_args()
    kind = "smoke" if given.smoke else "real"
    if given.cpu >= 0:
        os.sched_setaffinity(0, {given.cpu})
    figures = measure(kind)
    versions = {"numba": numba.__version__, "numpy": np.__version__}
    line = {
        "bench": Path(__file__).stem,
        **conditions(kind, given.cpu),
        **versions,
        "figures": figures,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    if given.table:
        for title, row in figures.items():
            sys.stderr.write(f"{title:<22}{row['update_ns']:>8.1f} ns{row['batch_ns']:>8.1f} ns\n")


if __name__ == "__main__":
    main()
