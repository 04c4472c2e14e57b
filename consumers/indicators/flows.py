"""Flows of volume and of money: OBV and MFI, as batch and stream of the same bits.

**Why it is right.** The sums of MFI are moved on in TA-Lib's order and held, like those of sums.py,
against sums begun afresh. A window without any flow is known by counting rows without one, never
by comparing a sum with zero: subtraction leaves a residue where a zero should be.
"""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import states, sums
from consumers.indicators.inputs import period, same_length, series
from consumers.indicators.jit import (
    Floats,
    fill_nan,
    first_row_2,
    first_row_4,
    kernel,
    part,
    pointer,
)
from consumers.indicators.states import MFI, OBV, OWN, PARAMETERS, RINGS, ROWS

_TIMEPERIOD = PARAMETERS
_REAL, _OBV = range(OWN, OWN + 2)
_POSITION, _GAIN, _LOSS, _FRESH_GAIN = range(OWN, OWN + 4)
_FRESH_LOSS, _BLOCKS, _QUIET_ROWS, _TYPICAL = range(OWN + 4, OWN + 8)
_CHUNK_ROWS = 1024
# Typical prices nearer to each other than this part of their sizes have not moved.
_UNMOVED = 1e-14


def obv(real: Floats, volume: Floats) -> Floats:
    """On-balance volume, in the unit of the volume.

    obv[0] = volume[0]; after a rise of real the volume is added, after a fall it is subtracted.
    Lookback: 0 rows. As TA-Lib's OBV; source: Joseph Granville.
    """
    real, volume = series(real, "real"), series(volume, "volume")
    same_length(real, volume)
    out = np.empty(len(real))
    _obv_kernel(real, volume, out)
    return out


def obv_state() -> Floats:
    """Make the state of an on-balance volume."""
    return states.new_state(OBV, 0)


@part
def obv_step(state: Floats, real: float, volume: float) -> float:
    """Take one row; give the on-balance volume."""
    memory = pointer(state)
    balance = np.nan
    if states.takes(memory, len(state), OBV, np.isnan(real) or np.isnan(volume)):
        balance = volume
        if memory[ROWS] > 0.0:
            balance = _balanced(memory[_OBV], real, memory[_REAL], volume)
        memory[ROWS] += 1.0
        memory[_REAL], memory[_OBV] = real, balance
    return balance


def mfi(
    high: Floats, low: Floats, close: Floats, volume: Floats, timeperiod: SupportsIndex = 14
) -> Floats:
    """Money flow index, 0 to 100.

    mfi = 100 * gain / (gain + loss), with gain and loss the sums, over timeperiod rows, of the
    typical price (high + low + close) / 3 times the volume, of the rows in which the typical
    price rose and fell; 0 where no money flowed.
    Lookback: timeperiod rows of NaN. timeperiod: 2 to 100000. As TA-Lib's MFI; source: Gene
    Quong and Avrum Soudack.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    volume = series(volume, "volume")
    same_length(high, low, close, volume)
    timeperiod = period(timeperiod, least=2)
    out = np.empty(len(high))
    _mfi_kernel(high, low, close, volume, timeperiod, out)
    return out


def mfi_state(timeperiod: SupportsIndex = 14) -> Floats:
    """Make the state of a money flow index."""
    length = period(timeperiod, least=2)
    return states.new_state(MFI, 2 * length, length)


@part
def mfi_step(state: Floats, high: float, low: float, close: float, volume: float) -> float:
    """Take one row; give the MFI, or NaN in the first timeperiod rows."""
    memory = pointer(state)
    value = np.nan
    is_absent = np.isnan(high) or np.isnan(low) or np.isnan(close) or np.isnan(volume)
    if states.takes(memory, len(state), MFI, is_absent):
        price = typical(high, low, close)
        if memory[ROWS] > 0.0:
            value = _flow_step(memory, price, volume)
        memory[ROWS] += 1.0
        memory[_TYPICAL] = price
    return value


# ---------------------------------------------------------------- kernels


@part
def typical(high: float, low: float, close: float) -> float:
    """Give the typical price of a bar."""
    return (high + low + close) / 3.0


@part
def _balanced(balance: float, new: float, old: float, volume: float) -> float:
    risen = volume if new > old else 0.0
    fallen = volume if new < old else 0.0
    return balance + (risen - fallen)


@part
def _flow(price: float, previous: float, volume: float) -> tuple[float, float]:
    """Give the money that flowed in a rise and in a fall; neither where the price has not moved."""
    change = price - previous
    money = price * volume
    if abs(change) <= _UNMOVED * (abs(price) + abs(previous)):
        money = 0.0
    return (0.0, money) if change < 0.0 else (money, 0.0)


@part
def _flowed(
    gain: float, loss: float, up: float, down: float, old_up: float, old_down: float
) -> tuple[float, float]:
    return sums.moved(gain, up, old_up), sums.moved(loss, down, old_down)


@part
def _quiet(rows: float, up: float, down: float) -> float:
    """Count the rows since the last flow."""
    return rows + 1.0 if up == 0.0 and down == 0.0 else 0.0


@part
def _flow_index(gain: float, loss: float) -> float:
    both = gain + loss
    # A sum whose true value is near zero can be some rounding below it.
    return 0.0 if both <= 0.0 else 100.0 * (min(max(gain, 0.0), both) / both)


@part
def _flow_step(state: Floats, price: float, volume: float) -> float:
    """Take row number state[ROWS], from 0, into the sums; NaN until they span a window."""
    length, position = int(state[_TIMEPERIOD]), state[_POSITION]
    slot = RINGS + int(position)
    up, down = _flow(price, state[_TYPICAL], volume)
    gain, loss = _flowed(state[_GAIN], state[_LOSS], up, down, state[slot], state[slot + length])
    state[slot], state[slot + length] = up, down
    quiet = _quiet(state[_QUIET_ROWS], up, down)
    if quiet >= length:
        gain = loss = 0.0
    value = _flow_index(gain, loss) if state[ROWS] >= length else np.nan
    fresh_gain, fresh_loss = state[_FRESH_GAIN] + up, state[_FRESH_LOSS] + down
    position += 1.0
    if position == length:
        position = 0.0
        left = state[_BLOCKS] if state[_BLOCKS] > 0.0 else float(sums.renewal_blocks(length))
        if left == 1.0:
            gain, loss = _renewed_pair(gain, loss, fresh_gain, fresh_loss)
        state[_BLOCKS] = left - 1.0
        fresh_gain = fresh_loss = 0.0
    state[_POSITION], state[_QUIET_ROWS] = position, quiet
    state[_GAIN], state[_LOSS] = gain, loss
    state[_FRESH_GAIN], state[_FRESH_LOSS] = fresh_gain, fresh_loss
    return value


@part
def _renewed_pair(
    gain: float, loss: float, fresh_gain: float, fresh_loss: float
) -> tuple[float, float]:
    tolerance = sums.drift_allowed(abs(fresh_gain) + abs(fresh_loss), 0.0, 1)
    return sums.renewed(gain, fresh_gain, tolerance), sums.renewed(loss, fresh_loss, tolerance)


@kernel
def _obv_kernel(real: Floats, volume: Floats, out: Floats) -> None:
    first = first_row_2(real, volume)
    fill_nan(out, first)
    if first == len(real):
        return
    balance = volume[first]
    out[first] = balance
    new, old = real[first + 1 :], real[first : len(real) - 1]
    volume, out = volume[first + 1 :], out[first + 1 :]
    for row in range(len(out)):
        balance = _balanced(balance, new[row], old[row], volume[row])
        out[row] = balance


@kernel
def _mfi_kernel(
    high: Floats, low: Floats, close: Floats, volume: Floats, length: int, out: Floats
) -> None:
    first = first_row_4(high, low, close, volume)
    fill_nan(out, first + length)
    if first + length >= len(high):
        return
    high, low, close, volume = high[first:], low[first:], close[first:], volume[first:]
    out = out[first:]
    stride = length * sums.renewal_blocks(length)
    chunk = min(stride, max(_CHUNK_ROWS, length))
    # The flows of the window before the chunk, then those of the chunk.
    ups, downs = np.zeros(length + chunk), np.zeros(length + chunk)
    gain = loss = quiet = 0.0
    start = 1
    while start < len(high):
        # Flows are counted from row 1; comparisons are due at the multiples of the stride.
        due = ((start - 1) // stride + 1) * stride + 1
        stop = min(start + chunk, due, len(high))
        rows = stop - start
        before = slice(start - 1, stop)
        new_ups, new_downs = ups[length : length + rows], downs[length : length + rows]
        _flows(high[before], low[before], close[before], volume[start:stop], new_ups, new_downs)
        values = out[start:stop]
        for row in range(rows):
            up, down = new_ups[row], new_downs[row]
            gain, loss = _flowed(gain, loss, up, down, ups[row], downs[row])
            quiet = _quiet(quiet, up, down)
            if quiet >= length:
                gain = loss = 0.0
            values[row] = _flow_index(gain, loss)
        if stop == due:
            fresh_gain = sums.added_up(ups[rows : rows + length])
            fresh_loss = sums.added_up(downs[rows : rows + length])
            gain, loss = _renewed_pair(gain, loss, fresh_gain, fresh_loss)
        for row in range(length):
            ups[row], downs[row] = ups[rows + row], downs[rows + row]
        start = stop
    fill_nan(out, length)


@part
def _flows(
    high: Floats, low: Floats, close: Floats, volume: Floats, ups: Floats, downs: Floats
) -> None:
    """Write the flows of a chunk; the prices have one row more than the volume, before it."""
    new_high, new_low, new_close = high[1:], low[1:], close[1:]
    for row in range(len(ups)):
        price = typical(new_high[row], new_low[row], new_close[row])
        previous = typical(high[row], low[row], close[row])
        ups[row], downs[row] = _flow(price, previous, volume[row])
