"""Welles Wilder's indicators: RSI, ATR, ADX, each smoothed with weight 1 / timeperiod, as batch and stream of the same bits.

Wilder's average, (previous * (n - 1) + new) / n, runs as previous * (1 - 1/n) + new * (1/n) with
one rounding: one latency a row and no division in the recursion. Seeds, lookbacks and the
treatment of flat stretches are TA-Lib's. The directional indicators of ADX share their divisor,
the true range, so their ratio needs no true range at all but for the test that there is one.

**Source.** J. Welles Wilder, New Concepts in Technical Trading Systems (1978).
"""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import states
from consumers.indicators.inputs import period, same_length, series
from consumers.indicators.jit import (
    Floats,
    fill_nan,
    first_row_1,
    first_row_3,
    fma,
    kernel,
    part,
    pointer,
)
from consumers.indicators.states import ADX, ATR, OWN, PARAMETERS, ROWS, RSI

_TIMEPERIOD = PARAMETERS
_REAL, _GAIN, _LOSS = range(OWN, OWN + 3)
_CLOSE, _RANGE = range(OWN, OWN + 2)
_HIGH, _LOW, _PLUS, _MINUS, _ADX = range(OWN + 2, OWN + 7)
# Directional movement below this part of the true range is rounding: there is no direction.
_NO_DIRECTION = 1e-16


def rsi(real: Floats, timeperiod: SupportsIndex = 14) -> Floats:
    """Relative strength index, 0 to 100.

    rsi = 100 * gain / (gain + loss), with gain and loss Wilder's averages of the rises and falls
    from row to row, seeded with the mean of the first timeperiod changes; 0 where nothing moved.
    Lookback: timeperiod rows of NaN. timeperiod: 2 to 100000. As TA-Lib's RSI.
    """
    real = series(real, "real")
    timeperiod = period(timeperiod, least=2)
    out = np.empty(len(real))
    _rsi_kernel(real, timeperiod, out)
    return out


def rsi_state(timeperiod: SupportsIndex = 14) -> Floats:
    """Make the state of an RSI."""
    return states.new_state(RSI, 0, period(timeperiod, least=2))


@part
def rsi_step(state: Floats, real: float) -> float:
    """Take one value; give the RSI, or NaN in the first timeperiod rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), RSI, np.isnan(real)):
        rows, length = memory[ROWS], memory[_TIMEPERIOD]
        inverse = 1.0 / length
        gain = loss = 0.0
        if rows > 0.0:
            gain, loss = _gain_and_loss(real, memory[_REAL])
        if rows > length:
            gain, loss = _wilder_pair(memory[_GAIN], memory[_LOSS], gain, loss, inverse)
        else:
            gain += memory[_GAIN]
            loss += memory[_LOSS]
            if rows == length:
                gain *= inverse
                loss *= inverse
        memory[ROWS] = rows + 1.0
        memory[_REAL], memory[_GAIN], memory[_LOSS] = real, gain, loss
        if rows >= length:
            value = _strength(gain, loss)
    return value


def atr(high: Floats, low: Floats, close: Floats, timeperiod: SupportsIndex = 14) -> Floats:
    """Average true range, in the unit of the price.

    true range = max(high - low, |high - previous close|, |low - previous close|); Wilder's
    average of it, seeded with the mean of the first timeperiod true ranges.
    Lookback: timeperiod rows of NaN. timeperiod: 1 to 100000. As TA-Lib's ATR.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    same_length(high, low, close)
    timeperiod = period(timeperiod)
    out = np.empty(len(high))
    _atr_kernel(high, low, close, timeperiod, out)
    return out


def atr_state(timeperiod: SupportsIndex = 14) -> Floats:
    """Make the state of an ATR."""
    return states.new_state(ATR, 0, period(timeperiod))


@part
def atr_step(state: Floats, high: float, low: float, close: float) -> float:
    """Take one bar; give the ATR, or NaN in the first timeperiod rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), ATR, np.isnan(high) or np.isnan(low) or np.isnan(close)):
        rows = memory[ROWS]
        memory[ROWS] = rows + 1.0
        value = atr_advance(memory, _CLOSE, memory[_TIMEPERIOD], rows, high, low, close)
    return value


def adx(high: Floats, low: Floats, close: Floats, timeperiod: SupportsIndex = 14) -> Floats:
    """Average directional movement index, 0 to 100.

    +DM = high - previous high where that is the larger of the two moves and positive, -DM the
    same for previous low - low; both and the true range are summed over timeperiod - 1 rows and
    smoothed from there; dx = 100 * |(+DM) - (-DM)| / ((+DM) + (-DM)); adx is Wilder's average of
    dx, seeded with the mean of the first timeperiod of them; a row without any direction leaves
    it as it is.
    Lookback: 2 * timeperiod - 1 rows of NaN. timeperiod: 2 to 100000. As TA-Lib's ADX.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    same_length(high, low, close)
    timeperiod = period(timeperiod, least=2)
    out = np.empty(len(high))
    _adx_kernel(high, low, close, timeperiod, out)
    return out


def adx_state(timeperiod: SupportsIndex = 14) -> Floats:
    """Make the state of an ADX."""
    return states.new_state(ADX, 0, period(timeperiod, least=2))


@part
def adx_step(state: Floats, high: float, low: float, close: float) -> float:
    """Take one bar; give the ADX, or NaN in the first 2 * timeperiod - 1 rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), ADX, np.isnan(high) or np.isnan(low) or np.isnan(close)):
        if memory[ROWS] > 0.0:
            value = _adx_advance(memory, high, low)
        memory[ROWS] += 1.0
        memory[_HIGH], memory[_LOW], memory[_CLOSE] = high, low, close
    return value


# ---------------------------------------------------------------- kernels


@part
def wilder(average: float, new: float, inverse: float) -> float:
    """Move a Wilder average on by one row."""
    return fma(average, 1.0 - inverse, new * inverse)


@part
def true_range(high: float, low: float, previous_close: float) -> float:
    """Give the widest of the bar and its distances from the close before; without one, the bar."""
    widest = high - low
    above = abs(high - previous_close)
    widest = max(widest, above)
    return max(widest, abs(low - previous_close))


@part
def _gain_and_loss(new: float, old: float) -> tuple[float, float]:
    change = new - old
    gain = max(change, 0.0)
    return gain, gain - change


@part
def _wilder_pair(
    gain: float, loss: float, new_gain: float, new_loss: float, inverse: float
) -> tuple[float, float]:
    return wilder(gain, new_gain, inverse), wilder(loss, new_loss, inverse)


@part
def _strength(gain: float, loss: float) -> float:
    both = gain + loss
    # Written so that NaN stays NaN; both are averages of what is never negative.
    return 0.0 if both <= 0.0 else 100.0 * (gain / both)


@part
def _movement(high: float, low: float, old_high: float, old_low: float) -> tuple[float, float]:
    up, down = high - old_high, old_low - low
    plus = up if up > down and up > 0.0 else 0.0
    minus = down if down > up and down > 0.0 else 0.0
    return plus, minus


@part
def _directed(
    plus: float, minus: float, reach: float, decay: float, up: float, down: float, widest: float
) -> tuple[float, float, float]:
    return fma(plus, decay, up), fma(minus, decay, down), fma(reach, decay, widest)


@part
def _index(plus: float, minus: float, reach: float) -> float:
    """Give the directional movement index, 0 to 100; -1 says that there is no direction.

    A high or low that is NaN is no movement, but from then on no range either: NaN.
    """
    if np.isnan(reach):
        return np.nan
    both = plus + minus
    if both <= 0.0 or both < _NO_DIRECTION * reach:
        return -1.0
    return 100.0 * (abs(plus - minus) / both)


@part
def _averaged(average: float, index: float, inverse: float) -> float:
    return average if index == -1.0 else wilder(average, index, inverse)


@part
def _adx_advance(state: Floats, high: float, low: float) -> float:
    """Take the row that state[ROWS] counts, from 1; give the ADX, NaN until it is warm."""
    rows, length = state[ROWS], state[_TIMEPERIOD]
    inverse = 1.0 / length
    up, down = _movement(high, low, state[_HIGH], state[_LOW])
    widest = true_range(high, low, state[_CLOSE])
    decay = 1.0 - inverse if rows >= length else 1.0
    plus, minus, reach = _directed(
        state[_PLUS], state[_MINUS], state[_RANGE], decay, up, down, widest
    )
    state[_PLUS], state[_MINUS], state[_RANGE] = plus, minus, reach
    average = state[_ADX]
    if rows >= 2.0 * length:
        average = _averaged(average, _index(plus, minus, reach), inverse)
    elif rows >= length:
        # The seed is a sum: a row without direction adds nothing to it.
        average += max(_index(plus, minus, reach), 0.0)
        if rows == 2.0 * length - 1.0:
            average /= length
    state[_ADX] = average
    return average if rows >= 2.0 * length - 1.0 else np.nan


@part
def atr_advance(
    state: Floats, at: int, length: float, rows: float, high: float, low: float, close: float
) -> float:
    """Take row number `rows`, from 0, into the ATR whose previous close is at slot `at`."""
    inverse = 1.0 / length
    value = np.nan
    if rows > length:
        value = wilder(state[at + 1], true_range(high, low, state[at]), inverse)
        state[at + 1] = value
    elif rows > 0.0:
        state[at + 1] += true_range(high, low, state[at])
        if rows == length:
            state[at + 1] /= length
            value = state[at + 1]
    state[at] = close
    return value


@kernel
def _rsi_kernel(real: Floats, length: int, out: Floats) -> None:
    first = first_row_1(real)
    fill_nan(out, first + length)
    if first + length >= len(real):
        return
    real, out = real[first:], out[first:]
    inverse = 1.0 / length
    gain = loss = 0.0
    for row in range(1, length + 1):
        up, down = _gain_and_loss(real[row], real[row - 1])
        gain += up
        loss += down
    gain *= inverse
    loss *= inverse
    out[length] = _strength(gain, loss)
    new, old, out = real[length + 1 :], real[length : len(real) - 1], out[length + 1 :]
    for row in range(len(out)):
        up, down = _gain_and_loss(new[row], old[row])
        gain, loss = _wilder_pair(gain, loss, up, down, inverse)
        out[row] = _strength(gain, loss)


@kernel
def _atr_kernel(high: Floats, low: Floats, close: Floats, length: int, out: Floats) -> None:
    first = first_row_3(high, low, close)
    fill_nan(out, first + length)
    if first + length < len(high):
        atr_batch(high[first:], low[first:], close[first:], length, out[first:])


@kernel
def atr_batch(high: Floats, low: Floats, close: Floats, length: int, out: Floats) -> None:
    """Write the ATR of more than `length` bars, from out[length] on."""
    average = 0.0
    for row in range(1, length + 1):
        average += true_range(high[row], low[row], close[row - 1])
    average /= length
    out[length] = average
    inverse = 1.0 / length
    start = length + 1
    high, low, close, out = high[start:], low[start:], close[length : len(close) - 1], out[start:]
    for row in range(len(out)):
        average = wilder(average, true_range(high[row], low[row], close[row]), inverse)
        out[row] = average


@kernel
def _adx_kernel(high: Floats, low: Floats, close: Floats, length: int, out: Floats) -> None:
    first = first_row_3(high, low, close)
    fill_nan(out, first + 2 * length - 1)
    if first + 2 * length - 1 >= len(high):
        return
    high, low, close, out = high[first:], low[first:], close[first:], out[first:]
    inverse = 1.0 / length
    plus = minus = reach = average = 0.0
    for row in range(1, 2 * length):
        up, down = _movement(high[row], low[row], high[row - 1], low[row - 1])
        widest = true_range(high[row], low[row], close[row - 1])
        decay = 1.0 - inverse if row >= length else 1.0
        plus, minus, reach = _directed(plus, minus, reach, decay, up, down, widest)
        if row >= length:
            average += max(_index(plus, minus, reach), 0.0)
    average /= length
    decay = 1.0 - inverse
    start = 2 * length
    out[start - 1] = average
    old_high, old_low, old_close = high[start - 1 :], low[start - 1 :], close[start - 1 :]
    high, low, out = high[start:], low[start:], out[start:]
    for row in range(len(out)):
        up, down = _movement(high[row], low[row], old_high[row], old_low[row])
        widest = true_range(high[row], low[row], old_close[row])
        plus, minus, reach = _directed(plus, minus, reach, decay, up, down, widest)
        average = _averaged(average, _index(plus, minus, reach), inverse)
        out[row] = average
