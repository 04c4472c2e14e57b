"""Every indicator in one table: what it takes, what it gives, how long it warms up; and all of them at once.

**See** states.py for how a state and a step are used.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from consumers.indicators import (
    averages,
    change,
    channels,
    deviation,
    flows,
    matypes,
    ranges,
    volume,
    wilder,
)
from consumers.indicators.inputs import same_length, series
from consumers.indicators.jit import Floats
from consumers.indicators.states import reset


class Indicator(NamedTuple):
    """One indicator; `lookback` takes the parameters of `batch` and counts its rows of NaN."""

    batch: Callable[..., Any]
    state: Callable[..., Floats]
    step: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lookback: Callable[..., int]


_REAL = ("real",)
_CLOSE = ("close",)
_BARS = ("high", "low", "close")
_VOLUMES = ("high", "low", "close", "volume")


def _bands(name: str) -> tuple[str, ...]:
    return f"{name}_upper", f"{name}_middle", f"{name}_lower"


def _window(default: int) -> Callable[..., int]:
    """Count the lookback of a value over the last timeperiod rows."""
    return lambda timeperiod=default, *_factors, **_named: timeperiod - 1


def _changes(default: int) -> Callable[..., int]:
    """Count the lookback of a value over the last timeperiod changes."""
    return lambda timeperiod=default, *_factors, **_named: timeperiod


def _adx_lookback(timeperiod: int = 14) -> int:
    return 2 * timeperiod - 1


def _macd_lookback(fastperiod: int = 12, slowperiod: int = 26, signalperiod: int = 9) -> int:
    return max(fastperiod, slowperiod) + signalperiod - 2


def _stochastic_lookback(
    fastk_period: int = 5,
    slowk_period: int = 3,
    slowk_matype: int = 0,
    slowd_period: int = 3,
    slowd_matype: int = 0,
) -> int:
    slow_k = matypes.lookback(slowk_matype, slowk_period)
    return fastk_period - 1 + slow_k + matypes.lookback(slowd_matype, slowd_period)


def _bollinger_lookback(
    timeperiod: int = 20,
    nbdevup: float = 2.0,  # noqa: ARG001
    nbdevdn: float = 2.0,  # noqa: ARG001
    matype: int = 0,
) -> int:
    return matypes.lookback(matype, timeperiod)


def _vwap_lookback(timeperiod: int = 0) -> int:
    return max(timeperiod - 1, 0)


def _no_lookback() -> int:
    return 0


INDICATORS: dict[str, Indicator] = {
    "sma": Indicator(
        averages.sma, averages.sma_state, averages.sma_step, _REAL, ("sma",), _window(30)
    ),
    "ema": Indicator(
        averages.ema, averages.ema_state, averages.ema_step, _REAL, ("ema",), _window(30)
    ),
    "macd": Indicator(
        averages.macd,
        averages.macd_state,
        averages.macd_step,
        _REAL,
        ("macd", "macd_signal", "macd_histogram"),
        _macd_lookback,
    ),
    "rsi": Indicator(wilder.rsi, wilder.rsi_state, wilder.rsi_step, _REAL, ("rsi",), _changes(14)),
    "atr": Indicator(wilder.atr, wilder.atr_state, wilder.atr_step, _BARS, ("atr",), _changes(14)),
    "adx": Indicator(wilder.adx, wilder.adx_state, wilder.adx_step, _BARS, ("adx",), _adx_lookback),
    "rolling_std": Indicator(
        deviation.rolling_std,
        deviation.rolling_std_state,
        deviation.rolling_std_step,
        _REAL,
        ("rolling_std",),
        _window(5),
    ),
    "bollinger": Indicator(
        deviation.bollinger,
        deviation.bollinger_state,
        deviation.bollinger_step,
        _REAL,
        _bands("bollinger"),
        _bollinger_lookback,
    ),
    "bollinger_percent_b": Indicator(
        deviation.bollinger_percent_b,
        deviation.bollinger_state,
        deviation.bollinger_percent_b_step,
        _REAL,
        ("bollinger_percent_b",),
        _bollinger_lookback,
    ),
    "bollinger_bandwidth": Indicator(
        deviation.bollinger_bandwidth,
        deviation.bollinger_state,
        deviation.bollinger_bandwidth_step,
        _REAL,
        ("bollinger_bandwidth",),
        _bollinger_lookback,
    ),
    "stochastic": Indicator(
        ranges.stochastic,
        ranges.stochastic_state,
        ranges.stochastic_step,
        _BARS,
        ("stochastic_k", "stochastic_d"),
        _stochastic_lookback,
    ),
    "williams_r": Indicator(
        ranges.williams_r,
        ranges.williams_r_state,
        ranges.williams_r_step,
        _BARS,
        ("williams_r",),
        _window(14),
    ),
    "donchian": Indicator(
        ranges.donchian,
        ranges.donchian_state,
        ranges.donchian_step,
        ("high", "low"),
        _bands("donchian"),
        _window(20),
    ),
    "keltner": Indicator(
        channels.keltner,
        channels.keltner_state,
        channels.keltner_step,
        _BARS,
        _bands("keltner"),
        _changes(20),
    ),
    "cci": Indicator(
        channels.cci, channels.cci_state, channels.cci_step, _BARS, ("cci",), _window(14)
    ),
    "vwap": Indicator(
        volume.vwap, volume.vwap_state, volume.vwap_step, _VOLUMES, ("vwap",), _vwap_lookback
    ),
    "obv": Indicator(
        flows.obv, flows.obv_state, flows.obv_step, ("real", "volume"), ("obv",), _no_lookback
    ),
    "mfi": Indicator(flows.mfi, flows.mfi_state, flows.mfi_step, _VOLUMES, ("mfi",), _changes(14)),
    "momentum": Indicator(
        change.momentum,
        change.momentum_state,
        change.momentum_step,
        _REAL,
        ("momentum",),
        _changes(10),
    ),
    "log_returns": Indicator(
        change.log_returns,
        change.log_returns_state,
        change.log_returns_step,
        _CLOSE,
        ("log_returns",),
        _changes(1),
    ),
}


def all_indicators(high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Floats]:
    """Compute every indicator with its default parameters; those of one series take the close.

    Gives one array per output, each as long as the input: an indicator of one value under its own
    name, one of several under the names in `INDICATORS[name].outputs` (bollinger_upper, ...).
    """
    bars = {"high": high, "low": low, "close": close, "volume": volume}
    bars = {name: series(values, name) for name, values in bars.items()}
    same_length(*bars.values())
    bars["real"] = bars["close"]
    found: dict[str, Floats] = {}
    for indicator in INDICATORS.values():
        values = indicator.batch(*(bars[name] for name in indicator.inputs))
        many = values if isinstance(values, tuple) else (values,)
        found.update(zip(indicator.outputs, many, strict=True))
    return found


def warm_up(names: Iterable[str] = tuple(INDICATORS)) -> None:
    """Compile, or load from disk, the batches for writable and for read-only series, and the steps.

    After this no call of these indicators compiles anything.
    """
    writable = np.linspace(1.0, 2.0, 8)
    read_only = writable.copy()
    read_only.flags.writeable = False
    for name in names:
        indicator = INDICATORS[name]
        for values in (writable, read_only):
            indicator.batch(*(values for _ in indicator.inputs))
        if name == "vwap":
            indicator.batch(*(writable for _ in indicator.inputs), timeperiod=2)
            indicator.batch(*(read_only for _ in indicator.inputs), timeperiod=2)
        state = indicator.state()
        indicator.step(state, *(1.0 for _ in indicator.inputs))
        reset(state)
