"""The range of a window and a price's place in it: Donchian, Williams %R, stochastic, batch and stream of the same bits.

The extremes come from extremes.py, the two averages of the stochastic from matypes.py. A window
without a range gives 0, as in TA-Lib.
"""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import extremes, matypes, states, sums
from consumers.indicators.inputs import average_kind, period, same_length, series
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
_FAST_K, _SLOW_K, _K_KIND, _SLOW_D, _D_KIND = range(PARAMETERS, PARAMETERS + 5)
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
    in a flat window; slow %K = average of it over slowk_period; slow %D = average of slow %K
    over slowd_period.
    Lookback of both: fastk_period - 1 rows of NaN and those of the averages (matypes.py).
    Periods: 1 to 100000; matypes: 0 (SMA) to 6, 8. As TA-Lib's STOCH; source: George Lane.
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
    parameters = _stochastic_periods(
        fastk_period, slowk_period, slowk_matype, slowd_period, slowd_matype
    )
    fast, slow_k, k_kind, slow_d, d_kind = parameters
    rings = 2 * fast + slow_k + slow_d
    if (k_kind, d_kind) != (matypes.SIMPLE, matypes.SIMPLE):
        rings = 2 * fast + matypes.room(slow_k) + matypes.room(slow_d)
    return states.new_state(STOCHASTIC, rings, *parameters)


@part
def stochastic_step(state: Floats, high: float, low: float, close: float) -> tuple[float, float]:
    """Take one bar; give slow %K and slow %D, both NaN until both are warm."""
    memory = pointer(state)
    k = d = np.nan
    if states.takes(
        memory, len(state), STOCHASTIC, np.isnan(high) or np.isnan(low) or np.isnan(close)
    ):
        highest, lowest = _extremes_step(memory, high, low)
        if memory[ROWS] >= memory[_FAST_K]:
            raw = _fast_k(highest, lowest, close)
            if memory[_K_KIND] == matypes.SIMPLE and memory[_D_KIND] == matypes.SIMPLE:
                k, d = _simple_step(memory, raw)
            else:
                k, d = _averages_step(memory, raw)
    return k, d


def _stochastic_periods(
    fastk_period: SupportsIndex,
    slowk_period: SupportsIndex,
    slowk_matype: SupportsIndex,
    slowd_period: SupportsIndex,
    slowd_matype: SupportsIndex,
) -> tuple[int, int, int, int, int]:
    return (
        period(fastk_period, "fastk_period"),
        period(slowk_period, "slowk_period"),
        average_kind(slowk_matype, "slowk_matype"),
        period(slowd_period, "slowd_period"),
        average_kind(slowd_matype, "slowd_matype"),
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
def _simple_step(state: Floats, raw: float) -> tuple[float, float]:
    """Take a fast %K into two simple averages; give both, NaN until both are warm."""
    k = d = np.nan
    fast, slow_k, slow_d = int(state[_FAST_K]), int(state[_SLOW_K]), int(state[_SLOW_D])
    rows, ring = state[ROWS], RINGS + 2 * fast
    k = sums.push(state, _K_SUM, ring, slow_k, raw, _PERCENT) / slow_k
    if rows >= fast + slow_k - 1:
        d = sums.push(state, _D_SUM, ring + slow_k, slow_d, k, _PERCENT) / slow_d
    if rows < fast + slow_k + slow_d - 2:
        k = d = np.nan
    return k, d


@part
def _averages_step(state: Floats, raw: float) -> tuple[float, float]:
    """Take a fast %K into the two averages, of any kind; give both, NaN until both are warm."""
    fast, slow_k, slow_d = int(state[_FAST_K]), int(state[_SLOW_K]), int(state[_SLOW_D])
    k_kind, d_kind = int(state[_K_KIND]), int(state[_D_KIND])
    at = RINGS + 2 * fast
    rows = state[ROWS] - fast
    waits = matypes.lookback(k_kind, slow_k)
    k = matypes.advance(state, at, k_kind, slow_k, raw, _PERCENT)
    if rows < waits:
        return np.nan, np.nan
    d = matypes.advance(state, at + matypes.room(slow_k), d_kind, slow_d, k, _PERCENT)
    if rows < waits + matypes.lookback(d_kind, slow_d):
        k = np.nan
    return k, d


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
    k_kind: int,
    slow_d: int,
    d_kind: int,
    out_k: Floats,
    out_d: Floats,
) -> None:
    begin = first_row_3(high, low, close)
    after = begin + fast - 1 + matypes.lookback(k_kind, slow_k)
    ready = after + matypes.lookback(d_kind, slow_d)
    if ready < len(high):
        # %D is written last, so until then its place holds the fast %K.
        _fast_k_batch(high[begin:], low[begin:], close[begin:], fast, out_d[begin:])
        begin += fast - 1
        matypes.average_batch(out_d[begin:], k_kind, slow_k, _PERCENT, out_k[begin:])
        matypes.average_batch(out_k[after:], d_kind, slow_d, _PERCENT, out_d[after:])
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
