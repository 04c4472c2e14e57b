"""What the indicators' tests share: markets from a seed, parameters to try, a stream driven row by row."""

import math
from typing import Any, NamedTuple

import indicator_definitions as plain
import numpy as np
import numpy.typing as npt

from consumers.indicators import INDICATORS

Floats = npt.NDArray[np.float64]
Bars = dict[str, Floats]


class Case(NamedTuple):
    """One indicator with parameters, by position as TA-Lib takes them, and its plain definition."""

    name: str
    parameters: tuple[Any, ...]
    definition: Any

    @property
    def inputs(self) -> tuple[str, ...]:
        """Name the series it takes."""
        return INDICATORS[self.name].inputs

    @property
    def lookback(self) -> int:
        """Count its rows of NaN."""
        return INDICATORS[self.name].lookback(*self.parameters)

    @property
    def state(self) -> Floats:
        """Make a new state."""
        return INDICATORS[self.name].state(*self.parameters)

    def batch(self, bars: Bars) -> tuple[Floats, ...]:
        """Run over whole series; always a tuple."""
        found = INDICATORS[self.name].batch(*(bars[i] for i in self.inputs), *self.parameters)
        return found if isinstance(found, tuple) else (found,)

    def stream(self, bars: Bars, state: Floats) -> tuple[Floats, ...]:
        """Run row by row, as batch does."""
        step = INDICATORS[self.name].step
        rows = zip(*(bars[i].tolist() for i in self.inputs), strict=True)
        found = [step(state, *row) for row in rows]
        outputs = len(INDICATORS[self.name].outputs)
        return tuple(np.array(found, dtype=float).reshape(len(found), outputs).T)


MATYPES = (1, 2, 3, 4, 5, 6, 8)
"""TA-Lib's moving averages but the simple one (0), and MAMA (7), which is not offered."""

CASES = [
    Case("sma", (30,), plain.sma),
    Case("sma", (1,), plain.sma),
    Case("ema", (30,), plain.ema),
    Case("ema", (1,), plain.ema),
    Case("macd", (12, 26, 9), plain.macd),
    Case("macd", (2, 5, 1), plain.macd),
    Case("rsi", (14,), plain.rsi),
    Case("rsi", (2,), plain.rsi),
    Case("atr", (14,), plain.atr),
    Case("atr", (1,), plain.atr),
    Case("adx", (14,), plain.adx),
    Case("adx", (2,), plain.adx),
    Case("rolling_std", (5, 1.0), plain.rolling_std),
    Case("rolling_std", (40, 2.5), plain.rolling_std),
    Case("bollinger", (20, 2.0, 2.0), plain.bollinger),
    Case("bollinger", (5, 1.0, 3.0), plain.bollinger),
    Case("bollinger_percent_b", (20, 2.0, 2.0), plain.percent_b),
    Case("bollinger_bandwidth", (20, 2.0, 2.0), plain.bandwidth),
    Case("stochastic", (5, 3, 0, 3, 0), plain.stochastic),
    Case("stochastic", (14, 1, 0, 4, 0), plain.stochastic),
    *(Case("bollinger", (20, 2.0, 2.0, kind), plain.bollinger) for kind in MATYPES),
    *(Case("bollinger", (3, 1.0, 3.0, kind), plain.bollinger) for kind in MATYPES),
    *(Case("stochastic", (5, 4, kind, 3, 0), plain.stochastic) for kind in MATYPES),
    *(Case("stochastic", (3, 2, 0, 5, kind), plain.stochastic) for kind in MATYPES),
    *(Case("stochastic", (4, 3, kind, 1, kind), plain.stochastic) for kind in MATYPES),
    Case("stochastic", (5, 3, 1, 4, 5), plain.stochastic),
    Case("bollinger_percent_b", (7, 2.0, 2.0, 2), plain.percent_b),
    Case("bollinger_bandwidth", (7, 2.0, 2.0, 3), plain.bandwidth),
    Case("williams_r", (14,), plain.williams_r),
    Case("williams_r", (2,), plain.williams_r),
    Case("donchian", (20,), plain.donchian),
    Case("donchian", (1,), plain.donchian),
    Case("keltner", (20, 2.0), plain.keltner),
    Case("cci", (14,), plain.cci),
    Case("cci", (37,), plain.cci),
    Case("vwap", (0,), plain.vwap),
    Case("vwap", (14,), plain.vwap),
    Case("obv", (), plain.obv),
    Case("mfi", (14,), plain.mfi),
    Case("mfi", (2,), plain.mfi),
    Case("momentum", (10,), plain.momentum),
    Case("log_returns", (1,), plain.log_returns),
    Case("log_returns", (7,), plain.log_returns),
]


def case_id(case: Case) -> str:
    """Name a case in a test's listing."""
    return "-".join([case.name, *map(str, case.parameters)])


def market(rows: int, seed: int, tick: float = 0.0) -> Bars:
    """Make bars of a walk around 100; with a tick, prices lie on it and many of them are equal."""
    rng = np.random.default_rng(seed)
    close = 100.0 + np.cumsum(rng.standard_normal(rows)) * 0.1
    high = close + rng.random(rows) * 0.2
    low = close - rng.random(rows) * 0.2
    volume = rng.integers(0, 1000, rows).astype(float)
    if tick:
        close, high, low = (np.round(series / tick) * tick for series in (close, high, low))
    return bars(high, low, close, volume)


def bars(high: Floats, low: Floats, close: Floats, volume: Floats) -> Bars:
    """Name the series; an indicator of one series takes the close."""
    return {"high": high, "low": low, "close": close, "volume": volume, "real": close}


def with_prefix(found: Bars, rows: dict[str, int]) -> Bars:
    """Give a copy in which the first rows of some series are NaN."""
    changed = {name: values.copy() for name, values in found.items() if name != "real"}
    for name, count in rows.items():
        changed[name][:count] = math.nan
    return changed | {"real": changed["close"]}


# What runs from 0 to 100, or is of that order, is measured by that.
PERCENTAGES = {"rsi", "adx", "stochastic", "williams_r", "mfi", "cci"}


def agree(found: Floats, wanted: Floats, name: str) -> bool:
    """Whether NaNs are in the same rows and the rest is the same to 1e-9.

    What is below 1e-11 of the series' largest value is a difference of large values; there the
    largest value is the measure.
    """
    absent = np.isnan(wanted)
    if not np.array_equal(np.isnan(found), absent):
        return False
    floor = 100.0 if name in PERCENTAGES else 0.0
    largest = float(np.max(np.abs(wanted[~absent]), initial=floor))
    return np.allclose(found[~absent], wanted[~absent], rtol=1e-9, atol=1e-11 * largest)


def identical(found: Floats, wanted: Floats) -> bool:
    """Whether every bit that is not a NaN's is the same, and NaNs are in the same rows."""
    absent = np.isnan(found)
    return np.array_equal(absent, np.isnan(wanted)) and bool(
        np.all(found[~absent].view(np.int64) == wanted[~absent].view(np.int64))
    )
