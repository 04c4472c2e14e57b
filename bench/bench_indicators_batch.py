"""How long does a batch of each indicator take, measured against TA-Lib's C code in the same minutes?

    close, high, low, volume ──> consumers.indicators.<name>     A
                             └─> TA-Lib's extension function     B      A B A B ... on one core

Inside the timed window: one call from Python, with its checks and the allocation of its outputs,
on both sides; of TA-Lib the extension's own function, without the wrapper for frames that the
talib package puts around it. Outside: compilation. Each pair gives a ratio; told are the median
ratio of each run, and of seven runs their median and range. The results of both sides are
compared before anything is timed, else the run fails.

    python bench/bench_indicators_batch.py [--smoke] [--cpu N] [--table]
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from conditions import conditions

from consumers.indicators import INDICATORS
from shm import clock

Floats = npt.NDArray[np.float64]

RUNS = {"smoke": 1, "real": 7}
PAIRS = {"smoke": {1_000: 2}, "real": {10_000: 60, 1_000_000: 5}}
TOTALS = "median_ratio", "worst_ratio"
LIMIT_OF_THE_MEDIAN, LIMIT_OF_EACH = 1.0, 1.5
NAMES = {
    "sma": "SMA",
    "ema": "EMA",
    "rsi": "RSI",
    "macd": "MACD",
    "bollinger": "BBANDS",
    "atr": "ATR",
    "stochastic": "STOCH",
    "momentum": "MOM",
    "rolling_std": "STDDEV",
    "obv": "OBV",
    "adx": "ADX",
    "cci": "CCI",
    "williams_r": "WILLR",
    "mfi": "MFI",
    # From TA-Lib 0.8 on.
    "vwap": "VWAP",
    "donchian": "DONCHIAN",
}


def oracle() -> ModuleType:
    """Import TA-Lib's extension, or end with how to get it."""
    try:
        import_module("talib")
        return import_module("talib._ta_lib")
    except ImportError:
        sys.exit("TA-Lib is not installed: it comes with make rivals")


def market(rows: int) -> dict[str, Floats]:
    """Make bars of a walk that stays above zero."""
    rng = np.random.default_rng(7)
    close = 100.0 + np.cumsum(rng.standard_normal(rows)) * 0.01
    high, low = close + rng.random(rows) * 0.05, close - rng.random(rows) * 0.05
    volume = rng.integers(1, 1000, rows).astype(float)
    return {"high": high, "low": low, "close": close, "volume": volume, "real": close}


def sides(talib: ModuleType, name: str, bars: dict[str, Floats]) -> tuple[Any, Any]:
    """Give both calls, after comparing what they return."""
    series = [bars[i] for i in INDICATORS[name].inputs]
    ours, theirs = INDICATORS[name].batch, getattr(talib, NAMES[name])
    found, wanted = (np.array(side(*series)) for side in (ours, theirs))
    if not np.allclose(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True):
        sys.exit(f"{name}: the two sides differ; their times would mean nothing")
    return lambda: ours(*series), lambda: theirs(*series)


def timed(call: Callable[[], Any]) -> int:
    """Time one call, in ns."""
    began_ns = clock.monotonic_ns()
    call()
    return clock.monotonic_ns() - began_ns


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> tuple[float, int]:
    """Give the median ratio of so many pairs, and the shortest time of ours."""
    timed(ours)
    timed(theirs)
    times = [(timed(ours), timed(theirs)) for _ in range(pairs)]
    return statistics.median(a / b for a, b in times), min(a for a, _ in times)


def measure(talib: ModuleType, rows: int, pairs: int, runs: int) -> dict[str, Any]:
    """Measure every indicator over one length of series."""
    bars = market(rows)
    calls = {name: sides(talib, name, bars) for name in NAMES if hasattr(talib, NAMES[name])}
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    shortest: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, (ours, theirs) in calls.items():
            ratio, best_ns = paired(ours, theirs, pairs)
            ratios[name].append(ratio)
            shortest[name].append(best_ns)
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    middle, worst = statistics.median(medians.values()), max(medians.values())
    return {
        "median_ratio": round(middle, 3),
        "worst_ratio": round(worst, 3),
        "reached": middle <= LIMIT_OF_THE_MEDIAN and worst <= LIMIT_OF_EACH,
        "indicators": {
            name: {
                "ratio": round(medians[name], 3),
                "lowest": round(min(values), 3),
                "highest": round(max(values), 3),
                "ns_per_row": round(min(shortest[name]) / rows, 2),
            }
            for name, values in ratios.items()
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Write the ratios for people: a row an indicator, a column a length."""
    lengths = list(figures)
    lines = ["indicator".ljust(14) + "".join(f"{rows:>12,}" for rows in map(int, lengths))]
    ratios = {
        name: [figures[rows]["indicators"][name]["ratio"] for rows in lengths]
        for name in figures[lengths[0]]["indicators"]
    }
    ratios |= {key: [figures[rows][key] for rows in lengths] for key in TOTALS}
    lines += [
        name.ljust(14) + "".join(f"{ratio:>12.2f}" for ratio in row) for name, row in ratios.items()
    ]
    return "\n".join(lines) + "\n"


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
    talib = oracle()
    figures = {
        str(rows): measure(talib, rows, pairs, RUNS[kind]) for rows, pairs in PAIRS[kind].items()
    }
    versions = {
        "numba": numba.__version__,
        "numpy": np.__version__,
        "talib": import_module("talib").__version__,
    }
    line = {
        "bench": Path(__file__).stem,
        **conditions(kind, given.cpu),
        **versions,
        "figures": figures,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    if given.table:
        sys.stderr.write(table(figures))


if __name__ == "__main__":
    main()
