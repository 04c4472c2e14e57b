"""Volume weighted average price, of a session and rolling, as batch and stream of the same bits.

**Why it is right.** The session's VWAP divides two sums that only grow. Rows are added up in short
runs, and each run is folded into a total that carries its own rounding error along (Knuth's
exact sum of two): the quotient is as accurate after 10^8 rows as after one run. The rolling sums
are those of sums.py. A window in which nothing was traded is known by counting such rows, never
by comparing a sum with zero: subtraction leaves a residue where a zero should be.
"""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import states, sums
from consumers.indicators.inputs import period, same_length, series
from consumers.indicators.jit import Floats, fill_nan, first_row_4, kernel, part, pointer
from consumers.indicators.states import OWN, PARAMETERS, RINGS, ROWS, VWAP

_TIMEPERIOD = PARAMETERS
_RUN_ROWS, _RUN_MONEY, _RUN_VOLUME = range(OWN, OWN + 3)
_MONEY, _MONEY_ERROR, _VOLUME, _VOLUME_ERROR = range(OWN + 3, OWN + 7)
_MONEY_SUM, _VOLUME_SUM, _EMPTY_ROWS = OWN, OWN + sums.SLOTS, OWN + 2 * sums.SLOTS
_FOLD_ROWS = 256


def vwap(
    high: Floats, low: Floats, close: Floats, volume: Floats, timeperiod: SupportsIndex = 0
) -> Floats:
    """Volume weighted average price, in the unit of the price.

    vwap = sum of (high + low + close) / 3 * volume, divided by the sum of volume: over all rows
    so far (timeperiod 0: give one session's rows, or reset the state when a session begins), or
    over the last timeperiod rows. A row with a price or a volume that is not finite has no
    weight; where nothing has been traded the value is NaN.
    Lookback: 0 rows, or timeperiod - 1 rows of NaN. timeperiod: 0 to 100000. Where TA-Lib has
    it (VWAP, from 0.8 on, sessions only) the values are its own, but it gives 0 before the first
    volume.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    volume = series(volume, "volume")
    same_length(high, low, close, volume)
    timeperiod = period(timeperiod, least=0)
    out = np.empty(len(high))
    if timeperiod == 0:
        _session_vwap_kernel(high, low, close, volume, out)
    else:
        _rolling_vwap_kernel(high, low, close, volume, timeperiod, out)
    return out


def vwap_state(timeperiod: SupportsIndex = 0) -> Floats:
    """Make the state of a VWAP."""
    length = period(timeperiod, least=0)
    return states.new_state(VWAP, 2 * length, length)


@part
def vwap_step(state: Floats, high: float, low: float, close: float, volume: float) -> float:
    """Take one row; give the VWAP, or NaN before the first volume and until the window is full."""
    memory = pointer(state)
    value = np.nan
    is_absent = np.isnan(high) or np.isnan(low) or np.isnan(close) or np.isnan(volume)
    if states.takes(memory, len(state), VWAP, is_absent):
        memory[ROWS] += 1.0
        money, weight = _weighed(high, low, close, volume)
        if memory[_TIMEPERIOD] == 0.0:
            value = _session_vwap_step(memory, money, weight)
        else:
            value = _rolling_vwap_step(memory, money, weight)
    return value


# ---------------------------------------------------------------- kernels


@part
def _weighed(high: float, low: float, close: float, volume: float) -> tuple[float, float]:
    """Give three times the money, and the volume, of a row; one that is not finite weighs nothing."""
    money = (high + low + close) * volume
    return (money, volume) if np.isfinite(money) else (0.0, 0.0)


@part
def _price(money: float, volume: float) -> float:
    """Divide three times the money by the volume, thrice: one division where the mean needs two."""
    return money / (3.0 * volume)


@part
def _folded(total: float, error: float, run: float) -> tuple[float, float]:
    """Add a run to a total and keep what the addition rounds away (Knuth's sum of two)."""
    grown = total + run
    of_run = grown - total
    return grown, error + ((total - (grown - of_run)) + (run - of_run))


@part
def _session_vwap_step(state: Floats, money: float, weight: float) -> float:
    money += state[_RUN_MONEY]
    weight += state[_RUN_VOLUME]
    value = _price(
        (state[_MONEY] + state[_MONEY_ERROR]) + money,
        (state[_VOLUME] + state[_VOLUME_ERROR]) + weight,
    )
    rows = state[_RUN_ROWS] + 1.0
    if rows == _FOLD_ROWS:
        state[_MONEY], state[_MONEY_ERROR] = _folded(state[_MONEY], state[_MONEY_ERROR], money)
        state[_VOLUME], state[_VOLUME_ERROR] = _folded(state[_VOLUME], state[_VOLUME_ERROR], weight)
        rows = money = weight = 0.0
    state[_RUN_ROWS], state[_RUN_MONEY], state[_RUN_VOLUME] = rows, money, weight
    return value


@part
def _rolling_vwap_step(state: Floats, money: float, weight: float) -> float:
    length = int(state[_TIMEPERIOD])
    empty = state[_EMPTY_ROWS] + 1.0 if weight == 0.0 else 0.0
    state[_EMPTY_ROWS] = empty
    money = sums.push(state, _MONEY_SUM, RINGS, length, money, 0.0)
    weight = sums.push(state, _VOLUME_SUM, RINGS + length, length, weight, 0.0)
    return _price(money, weight) if state[ROWS] >= length and empty < length else np.nan


@kernel
def _session_vwap_kernel(
    high: Floats, low: Floats, close: Floats, volume: Floats, out: Floats
) -> None:
    first = first_row_4(high, low, close, volume)
    fill_nan(out, first)
    high, low, close, volume = high[first:], low[first:], close[first:], volume[first:]
    out = out[first:]
    money = money_error = total = total_error = 0.0
    for start in range(0, len(out), _FOLD_ROWS):
        run = slice(start, min(start + _FOLD_ROWS, len(out)))
        run_high, run_low, run_close, run_volume = high[run], low[run], close[run], volume[run]
        values = out[run]
        money_before, volume_before = money + money_error, total + total_error
        run_money = run_total = 0.0
        for row in range(len(values)):
            new, weight = _weighed(run_high[row], run_low[row], run_close[row], run_volume[row])
            run_money += new
            run_total += weight
            values[row] = _price(money_before + run_money, volume_before + run_total)
        money, money_error = _folded(money, money_error, run_money)
        total, total_error = _folded(total, total_error, run_total)


@kernel
def _rolling_vwap_kernel(
    high: Floats, low: Floats, close: Floats, volume: Floats, length: int, out: Floats
) -> None:
    first = first_row_4(high, low, close, volume)
    fill_nan(out, first)
    state = np.zeros(RINGS + 2 * length)
    state[_TIMEPERIOD] = length
    for row in range(first, len(out)):
        state[ROWS] += 1.0
        money, weight = _weighed(high[row], low[row], close[row], volume[row])
        out[row] = _rolling_vwap_step(state, money, weight)
