"""The range of a window and a price's place in it: Donchian, Williams %R, stochastic, batch and stream of the same bits.

The extremes come from extremes.py, the two averages of the stochastic from sums.py. A window
without a range gives 0, as in TA-Lib.
"""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import extremes, states, sums
from consumers.indicators.inputs import period, same_length, series, simple_average
from consumers.indicators.jit import (
    Floats,
    fill_nan,
    first_row_2,
    first_row_3,
    kernel,
    part,
    pointer,
)
from consumers.indicators.states import (
    DONCHIAN,
    OWN,
    PARAMETERS,
    RINGS,
    ROWS,
    STOCHASTIC,
    WILLIAMS_R,
)

_TIMEPERIOD = PARAMETERS
_FAST_K, _SLOW_K, _SLOW_D = range(PARAMETERS, PARAMETERS + 3)
_EXTREMES = OWN
_K_SUM = _EXTREMES + extremes.SLOTS
_D_SUM = _K_SUM + sums.SLOTS
# A range below this part of the prices it lies between is rounding: the window is flat.
_FLAT = 1e-14
_PERCENT = 100.0


def donchian(
    high: Floats, low: Floats, timeperiod: SupportsIndex = 20
) -> tuple[Floats, Floats, Floats]:
    """Donchian channels: upper, middle, lower, in the unit of the price.

    upper = highest high, lower = lowest low of the last timeperiod rows; middle = their mean.
    Lookback of all three: timeperiod - 1 rows of NaN. timeperiod: 1 to 100000.
    Source: Richard Donchian; TA-Lib has it from 0.8 on.
    """
    high, low = series(high, "high"), series(low, "low")
    same_length(high, low)
    timeperiod = period(timeperiod)
    out = np.empty(len(high)), np.empty(len(high)), np.empty(len(high))
    _donchian_kernel(high, low, timeperiod, *out)
    return out


def donchian_state(timeperiod: SupportsIndex = 20) -> Floats:
    """Make the state of Donchian channels."""
    length = period(timeperiod)
    return states.new_state(DONCHIAN, 2 * length, length)


@part
def donchian_step(state: Floats, high: float, low: float) -> tuple[float, float, float]:
    """Take one bar; give upper, middle, lower, all NaN in the first timeperiod - 1 rows."""
    memory = pointer(state)
    highest = lowest = np.nan
    if states.takes(memory, len(state), DONCHIAN, np.isnan(high) or np.isnan(low)):
        highest, lowest = _extremes_step(memory, high, low)
        if memory[ROWS] < memory[_TIMEPERIOD]:
            highest = lowest = np.nan
    return highest, _midway(highest, lowest), lowest


def williams_r(high: Floats, low: Floats, close: Floats, timeperiod: SupportsIndex = 14) -> Floats:
    """Williams %R, -100 to 0.

    williams_r = -100 * (highest high - close) / (highest high - lowest low) over timeperiod rows;
    0 in a window without a range.
    Lookback: timeperiod - 1 rows of NaN. timeperiod: 2 to 100000. As TA-Lib's WILLR; source:
    Larry Williams.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    same_length(high, low, close)
    timeperiod = period(timeperiod, least=2)
    out = np.empty(len(high))
    _williams_r_kernel(high, low, close, timeperiod, out)
    return out


def williams_r_state(timeperiod: SupportsIndex = 14) -> Floats:
    """Make the state of a Williams %R."""
    length = period(timeperiod, least=2)
    return states.new_state(WILLIAMS_R, 2 * length, length)


@part
def williams_r_step(state: Floats, high: float, low: float, close: float) -> float:
    """Take one bar; give %R, or NaN in the first timeperiod - 1 rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(
        memory, len(state), WILLIAMS_R, np.isnan(high) or np.isnan(low) or np.isnan(close)
    ):
        highest, lowest = _extremes_step(memory, high, low)
        if memory[ROWS] >= memory[_TIMEPERIOD]:
            value = _williams(highest, lowest, close)
    return value


def stochastic(
    high: Floats,
    low: Floats,
    close: Floats,
    fastk_period: SupportsIndex = 5,
    slowk_period: SupportsIndex = 3,
    slowk_matype: SupportsIndex = 0,
    slowd_period: SupportsIndex = 3,
    slowd_matype: SupportsIndex = 0,
) -> tuple[Floats, Floats]:
    """Stochastic oscillator: slow %K, slow %D, 0 to 100.

    fast %K = 100 * (close - lowest low) / (highest high - lowest low) over fastk_period rows, 0
    in a flat window; slow %K = SMA of it over slowk_period; slow %D = SMA of slow %K over
    slowd_period.
    Lookback of both: fastk_period + slowk_period + slowd_period - 3 rows of NaN. Periods: 1 to
    100000; matypes: 0. As TA-Lib's STOCH; source: George Lane.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    same_length(high, low, close)
    periods = _stochastic_periods(
        fastk_period, slowk_period, slowk_matype, slowd_period, slowd_matype
    )
    out = np.empty(len(high)), np.empty(len(high))
    _stochastic_kernel(high, low, close, *periods, *out)
    return out


def stochastic_state(
    fastk_period: SupportsIndex = 5,
    slowk_period: SupportsIndex = 3,
    slowk_matype: SupportsIndex = 0,
    slowd_period: SupportsIndex = 3,
    slowd_matype: SupportsIndex = 0,
) -> Floats:
    """Make the state of a stochastic oscillator."""
    fast, slow_k, slow_d = _stochastic_periods(
        fastk_period, slowk_period, slowk_matype, slowd_period, slowd_matype
    )
    return states.new_state(STOCHASTIC, 2 * fast + slow_k + slow_d, fast, slow_k, slow_d)


@part
def stochastic_step(state: Floats, high: float, low: float, close: float) -> tuple[float, float]:
    """Take one bar; give slow %K and slow %D, both NaN until both are warm."""
    memory = pointer(state)
    k = d = np.nan
    if states.takes(
        memory, len(state), STOCHASTIC, np.isnan(high) or np.isnan(low) or np.isnan(close)
    ):
        highest, lowest = _extremes_step(memory, high, low)
        fast, slow_k, slow_d = int(memory[_FAST_K]), int(memory[_SLOW_K]), int(memory[_SLOW_D])
        rows = memory[ROWS]
        if rows >= fast:
            ring = RINGS + 2 * fast
            raw = _fast_k(highest, lowest, close)
            k = sums.push(memory, _K_SUM, ring, slow_k, raw, _PERCENT) / slow_k
            if rows >= fast + slow_k - 1:
                d = sums.push(memory, _D_SUM, ring + slow_k, slow_d, k, _PERCENT) / slow_d
            if rows < fast + slow_k + slow_d - 2:
                k = d = np.nan
    return k, d


def _stochastic_periods(
    fastk_period: SupportsIndex,
    slowk_period: SupportsIndex,
    slowk_matype: SupportsIndex,
    slowd_period: SupportsIndex,
    slowd_matype: SupportsIndex,
) -> tuple[int, int, int]:
    simple_average(slowk_matype, "slowk_matype")
    simple_average(slowd_matype, "slowd_matype")
    return (
        period(fastk_period, "fastk_period"),
        period(slowk_period, "slowk_period"),
        period(slowd_period, "slowd_period"),
    )


# ---------------------------------------------------------------- kernels


@part
def _midway(highest: float, lowest: float) -> float:
    return (highest + lowest) / 2.0


@part
def _williams(highest: float, lowest: float, close: float) -> float:
    reach = highest - lowest
    return 0.0 if reach == 0.0 else -100.0 * ((highest - close) / reach)


@part
def _fast_k(highest: float, lowest: float, close: float) -> float:
    reach = highest - lowest
    flat = abs(reach) <= _FLAT * (abs(highest) + abs(lowest))
    return 0.0 if flat else 100.0 * ((close - lowest) / reach)


@part
def _extremes_step(state: Floats, high: float, low: float) -> tuple[float, float]:
    """Count the row and give the highest and the lowest, valid once the window is full."""
    state[ROWS] += 1.0
    return extremes.push(state, _EXTREMES, RINGS, int(state[_TIMEPERIOD]), high, low)


@kernel
def _donchian_kernel(
    high: Floats, low: Floats, length: int, upper: Floats, middle: Floats, below: Floats
) -> None:
    first = first_row_2(high, low)
    for out in (upper, middle, below):
        fill_nan(out, first + length - 1)
    size = extremes.chunk_rows(len(high), length)
    scratch = np.empty((4, size))
    while first + length <= len(high):
        stop = min(first + size, len(high))
        highest, lowest = extremes.of_windows(high[first:stop], low[first:stop], length, scratch)
        first += length - 1
        up, mid, down = upper[first:stop], middle[first:stop], below[first:stop]
        for row in range(len(up)):
            up[row], down[row] = highest[row] + 0.0, lowest[row] + 0.0
            mid[row] = _midway(up[row], down[row])
        first = stop - length + 1


@kernel
def _williams_r_kernel(high: Floats, low: Floats, close: Floats, length: int, out: Floats) -> None:
    first = first_row_3(high, low, close)
    fill_nan(out, first + length - 1)
    size = extremes.chunk_rows(len(high), length)
    scratch = np.empty((4, size))
    while first + length <= len(high):
        stop = min(first + size, len(high))
        highest, lowest = extremes.of_windows(high[first:stop], low[first:stop], length, scratch)
        first += length - 1
        last, values = close[first:stop], out[first:stop]
        for row in range(len(values)):
            values[row] = _williams(highest[row] + 0.0, lowest[row] + 0.0, last[row])
        first = stop - length + 1


@kernel
def _stochastic_kernel(
    high: Floats,
    low: Floats,
    close: Floats,
    fast: int,
    slow_k: int,
    slow_d: int,
    out_k: Floats,
    out_d: Floats,
) -> None:
    first = first_row_3(high, low, close)
    ready = first + fast + slow_k + slow_d - 3
    if ready < len(high):
        # %D is written last, so until then its place holds the fast %K.
        _fast_k_batch(high[first:], low[first:], close[first:], fast, out_d[first:])
        begin = first + fast - 1
        sums.mean_batch(out_d[begin:], slow_k, _PERCENT, out_k[begin:])
        begin += slow_k - 1
        sums.mean_batch(out_k[begin:], slow_d, _PERCENT, out_d[begin:])
    fill_nan(out_k, ready)
    fill_nan(out_d, ready)


@kernel
def _fast_k_batch(high: Floats, low: Floats, close: Floats, length: int, out: Floats) -> None:
    first = 0
    size = extremes.chunk_rows(len(high), length)
    scratch = np.empty((4, size))
    while first + length <= len(high):
        stop = min(first + size, len(high))
        highest, lowest = extremes.of_windows(high[first:stop], low[first:stop], length, scratch)
        first += length - 1
        last, values = close[first:stop], out[first:stop]
        for row in range(len(values)):
            values[row] = _fast_k(highest[row] + 0.0, lowest[row] + 0.0, last[row])
        first = stop - length + 1
