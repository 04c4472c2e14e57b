"""Distance from an average in units of a spread: Keltner channels and CCI, as batch and stream of the same bits.

**CCI.** Its mean absolute deviation has no running form: each row reads its window. The mean is
added up in the order of the ring's slots, as TA-Lib does, so that the difference of price and
mean is TA-Lib's own, bit for bit, also where all its digits are rounding; the rows since the ring
last began again have that order already and are carried along as one sum. The deviations are all
positive, so their order does not matter: they go into four sums, which need not wait for each
other.
"""

from typing import SupportsFloat, SupportsIndex

import numpy as np

from consumers.indicators import averages, states, wilder
from consumers.indicators.flows import typical
from consumers.indicators.inputs import period, real_number, same_length, series
from consumers.indicators.jit import Floats, fill_nan, first_row_3, kernel, part, pointer
from consumers.indicators.states import CCI, KELTNER, OWN, PARAMETERS, RINGS, ROWS

_TIMEPERIOD, _DECAY, _WEIGHT, _MULTIPLIER = range(PARAMETERS, PARAMETERS + 4)
_AVERAGE, _CLOSE = OWN, OWN + 1
_INVERSE = PARAMETERS + 1
_POSITION, _BEGUN = OWN, OWN + 1
# Lambert's constant: with it most values of an ordinary market lie between -100 and 100.
_SCALE = 0.015
# A deviation below this part of the average is rounding: the window is flat.
_FLAT = 1e-14


def keltner(
    high: Floats,
    low: Floats,
    close: Floats,
    timeperiod: SupportsIndex = 20,
    multiplier: SupportsFloat = 2.0,
) -> tuple[Floats, Floats, Floats]:
    """Keltner channels: upper, middle, lower, in the unit of the price.

    middle = EMA of close over timeperiod; upper and lower = middle plus and minus multiplier *
    ATR over timeperiod.
    Lookback of all three: timeperiod rows of NaN. timeperiod: 1 to 100000. Source: Chester
    Keltner's channels in Linda Bradford Raschke's form. (TA-Lib 0.8's KC is another form: it
    averages the typical price and has a period of its own for the ATR.)
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    same_length(high, low, close)
    timeperiod, multiplier = period(timeperiod), real_number(multiplier, "multiplier")
    out = np.empty(len(high)), np.empty(len(high)), np.empty(len(high))
    _keltner_kernel(high, low, close, timeperiod, multiplier, *out)
    return out


def keltner_state(timeperiod: SupportsIndex = 20, multiplier: SupportsFloat = 2.0) -> Floats:
    """Make the state of Keltner channels."""
    length = period(timeperiod)
    weights = averages.ema_weights(length)
    return states.new_state(KELTNER, 0, length, *weights, real_number(multiplier, "multiplier"))


@part
def keltner_step(
    state: Floats, high: float, low: float, close: float
) -> tuple[float, float, float]:
    """Take one bar; give upper, middle, lower, all NaN in the first timeperiod rows."""
    memory = pointer(state)
    middle = reach = np.nan
    if states.takes(
        memory, len(state), KELTNER, np.isnan(high) or np.isnan(low) or np.isnan(close)
    ):
        rows, length = memory[ROWS], memory[_TIMEPERIOD]
        memory[ROWS] = rows + 1.0
        middle = averages.ema_advance(
            memory, _AVERAGE, length, memory[_DECAY], memory[_WEIGHT], rows + 1.0, close
        )
        reach = wilder.atr_advance(memory, _CLOSE, length, rows, high, low, close)
        if rows < length:
            middle = np.nan
    return _channel(middle, reach, memory[_MULTIPLIER])


def cci(high: Floats, low: Floats, close: Floats, timeperiod: SupportsIndex = 14) -> Floats:
    """Commodity channel index; no unit.

    cci = (tp - mean) / (0.015 * mean of |tp - mean|) with the typical price tp = (high + low +
    close) / 3 and the means over the last timeperiod rows; 0 in a flat window.
    Lookback: timeperiod - 1 rows of NaN. timeperiod: 2 to 100000. As TA-Lib's CCI; source:
    Donald Lambert. The cost of a row grows with timeperiod.
    """
    high, low, close = series(high, "high"), series(low, "low"), series(close, "close")
    same_length(high, low, close)
    timeperiod = period(timeperiod, least=2)
    out = np.empty(len(high))
    _cci_kernel(high, low, close, timeperiod, out)
    return out


def cci_state(timeperiod: SupportsIndex = 14) -> Floats:
    """Make the state of a CCI."""
    length = period(timeperiod, least=2)
    return states.new_state(CCI, length, length, 1.0 / length)


@part
def cci_step(state: Floats, high: float, low: float, close: float) -> float:
    """Take one bar; give the CCI, or NaN in the first timeperiod - 1 rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), CCI, np.isnan(high) or np.isnan(low) or np.isnan(close)):
        price = typical(high, low, close)
        position, length = memory[_POSITION], int(memory[_TIMEPERIOD])
        memory[_BEGUN] = price if position == 0.0 else memory[_BEGUN] + price
        memory[RINGS + int(position)] = price
        memory[ROWS] += 1.0
        if memory[ROWS] >= length:
            value = _channel_index(
                memory, RINGS, int(position), length, memory[_INVERSE], memory[_BEGUN], price
            )
        position += 1.0
        memory[_POSITION] = position if position < length else 0.0
    return value


# ---------------------------------------------------------------- kernels


@part
def _channel(middle: float, reach: float, multiplier: float) -> tuple[float, float, float]:
    return middle + multiplier * reach, middle, middle - multiplier * reach


@part
def _channel_index(
    values: Floats,
    ring: int,
    position: int,
    length: int,
    inverse: float,
    begun: float,
    price: float,
) -> float:
    """Give the CCI of `price`, at `position` of a full ring; `begun` sums the slots up to there."""
    total = begun
    for slot in range(ring + position + 1, ring + length):
        total += values[slot]
    average = total / length
    # A quarter of the ring each: neighbours would be loaded as a vector, which has to wait for the
    # store of the price that has just gone into one of them.
    quarter = length // 4
    one = two = three = four = 0.0
    for slot in range(ring, ring + quarter):
        one += abs(average - values[slot])
        two += abs(average - values[slot + quarter])
        three += abs(average - values[slot + 2 * quarter])
        four += abs(average - values[slot + 3 * quarter])
    for slot in range(ring + 4 * quarter, ring + length):
        one += abs(average - values[slot])
    deviation = ((one + two) + (three + four)) * inverse
    distance = price - average
    flat = _FLAT * abs(average)
    return 0.0 if abs(distance) <= flat or deviation <= flat else distance / (_SCALE * deviation)


@kernel
def _keltner_kernel(
    high: Floats,
    low: Floats,
    close: Floats,
    length: int,
    multiplier: float,
    upper: Floats,
    middle: Floats,
    lower: Floats,
) -> None:
    first = first_row_3(high, low, close)
    ready = first + length
    if ready < len(high):
        averages.ema_batch(close[first:], length, middle[first:])
        wilder.atr_batch(high[first:], low[first:], close[first:], length, lower[first:])
        above, centre, below = upper[ready:], middle[ready:], lower[ready:]
        for row in range(len(above)):
            above[row], _, below[row] = _channel(centre[row], below[row], multiplier)
    for out in (upper, middle, lower):
        fill_nan(out, ready)


@kernel
def _cci_kernel(high: Floats, low: Floats, close: Floats, length: int, out: Floats) -> None:
    first = first_row_3(high, low, close)
    ready = first + length - 1
    fill_nan(out, ready)
    ring = np.empty(length)
    begun, position, inverse = 0.0, 0, 1.0 / length
    high, low, close, out = high[first:], low[first:], close[first:], out[first:]
    for row in range(len(out)):
        price = typical(high[row], low[row], close[row])
        begun = price if position == 0 else begun + price
        ring[position] = price
        if row >= length - 1:
            out[row] = _channel_index(ring, 0, position, length, inverse, begun, price)
        position = position + 1 if position + 1 < length else 0
