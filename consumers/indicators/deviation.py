"""Rolling standard deviation and the Bollinger bands around a mean, without cancellation at any price level.

**Why it is right.** The variance of a window is E[d^2] - E[d]^2 with d = real - shift, where the
shift is a value near the window, so that nothing large is subtracted from anything large. The
shift is moved to the window's own mean, and both sums are begun afresh from the window, when
(1) the variance has shrunk below 1e-6 of E[d^2], so the shift has gone stale; or (2) the square
that leaves is 1e6 times what stays, so what stays is that square's rounding; or (3) 32 windows
have passed, so that errors cannot collect. A variance below 1e-12 of E[d^2] right after that is
rounding and counts as 0. These are TA-Lib 0.8's rules and its order of additions: the results
are its own, bit for bit. Earlier versions subtract the squares themselves and agree as far as
their cancellation allows.

**Cost.** One row is O(1) but for a renewal, which reads the window: by rule 3 every 32 windows,
by rules 1 and 2 once after the level or the scale of the input has changed a thousandfold.
"""

from typing import SupportsFloat, SupportsIndex

import numpy as np

from consumers.indicators import matypes, states, sums
from consumers.indicators.inputs import average_kind, period, real_number, series
from consumers.indicators.jit import Floats, fill_nan, first_row_1, kernel, part, pointer
from consumers.indicators.states import BOLLINGER, OWN, PARAMETERS, RINGS, ROLLING_STD, ROWS

_TIMEPERIOD, _FACTOR_UP, _FACTOR_DOWN, _MATYPE = range(PARAMETERS, PARAMETERS + 4)
_SHIFT, _SUM, _SQUARES, _ROWS_LEFT, _AT, _MEAN = range(OWN, OWN + 6)
_STALE = 1e-6
_OUTLIER = 1e6
_ROUNDING = 1e-12
_RENEWAL_WINDOWS = 32


def rolling_std(real: Floats, timeperiod: SupportsIndex = 5, nbdev: SupportsFloat = 1.0) -> Floats:
    """Standard deviation of the last timeperiod rows (population), in the unit of the input.

    std[i] = nbdev * sqrt(mean of (real - mean)^2 over the window), divided by timeperiod.
    Lookback: timeperiod - 1 rows of NaN. timeperiod: 2 to 100000. As TA-Lib's STDDEV.
    """
    real = series(real, "real")
    timeperiod = period(timeperiod, least=2)
    nbdev = real_number(nbdev, "nbdev")
    out = np.empty(len(real))
    _rolling_std_kernel(real, timeperiod, nbdev, out)
    return out


def rolling_std_state(timeperiod: SupportsIndex = 5, nbdev: SupportsFloat = 1.0) -> Floats:
    """Make the state of a rolling standard deviation."""
    length = period(timeperiod, least=2)
    return states.new_state(ROLLING_STD, length, length, real_number(nbdev, "nbdev"))


@part
def rolling_std_step(state: Floats, real: float) -> float:
    """Take one value; give the deviation, or NaN in the first timeperiod - 1 rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), ROLLING_STD, np.isnan(real)):
        memory[ROWS] += 1.0
        value = np.sqrt(_variance_step(memory, real)) * memory[_FACTOR_UP]
    return value


def bollinger(
    real: Floats,
    timeperiod: SupportsIndex = 20,
    nbdevup: SupportsFloat = 2.0,
    nbdevdn: SupportsFloat = 2.0,
    matype: SupportsIndex = 0,
) -> tuple[Floats, Floats, Floats]:
    """Bollinger bands: upper, middle, lower, in the unit of the input.

    middle = moving average over timeperiod; upper = middle + nbdevup * std; lower = middle -
    nbdevdn * std with the population's standard deviation of the last timeperiod rows.
    Lookback of all three: timeperiod - 1 rows of NaN, or the average's (matypes.py). timeperiod:
    2 to 100000 (the default is John Bollinger's 20, as in TA-Lib 0.8; before, TA-Lib had 5);
    matype: 0 (SMA) to 6, 8. As TA-Lib's BBANDS.
    """
    real = series(real, "real")
    parameters = _bollinger_parameters(timeperiod, nbdevup, nbdevdn, matype)
    out = np.empty(len(real)), np.empty(len(real)), np.empty(len(real))
    _bollinger_kernel(real, *parameters, *out)
    return out


def bollinger_percent_b(
    real: Floats,
    timeperiod: SupportsIndex = 20,
    nbdevup: SupportsFloat = 2.0,
    nbdevdn: SupportsFloat = 2.0,
    matype: SupportsIndex = 0,
) -> Floats:
    """Where a value stands between the Bollinger bands: 0 at the lower, 1 at the upper; no unit.

    percent_b = (real - lower) / (upper - lower); NaN while the bands coincide.
    Lookback: as the bands'. Source: John Bollinger, Bollinger on Bollinger Bands.
    """
    upper, _, lower = bollinger(real, timeperiod, nbdevup, nbdevdn, matype)
    _percent_b_kernel(series(real, "real"), upper, lower)
    return upper


def bollinger_bandwidth(
    real: Floats,
    timeperiod: SupportsIndex = 20,
    nbdevup: SupportsFloat = 2.0,
    nbdevdn: SupportsFloat = 2.0,
    matype: SupportsIndex = 0,
) -> Floats:
    """Width of the Bollinger bands as a part of their middle; no unit.

    bandwidth = (upper - lower) / middle.
    Lookback: as the bands'. Source: John Bollinger, Bollinger on Bollinger Bands.
    """
    upper, middle, lower = bollinger(real, timeperiod, nbdevup, nbdevdn, matype)
    _bandwidth_kernel(upper, middle, lower)
    return upper


def bollinger_state(
    timeperiod: SupportsIndex = 20,
    nbdevup: SupportsFloat = 2.0,
    nbdevdn: SupportsFloat = 2.0,
    matype: SupportsIndex = 0,
) -> Floats:
    """Make a state for bollinger_step, bollinger_percent_b_step or bollinger_bandwidth_step."""
    parameters = _bollinger_parameters(timeperiod, nbdevup, nbdevdn, matype)
    length, _, _, kind = parameters
    more = 0 if kind == matypes.SIMPLE else matypes.room(length)
    return states.new_state(BOLLINGER, length + more, *parameters)


@part
def bollinger_step(state: Floats, real: float) -> tuple[float, float, float]:
    """Take one value; give upper, middle, lower, all NaN until the average is warm."""
    memory = pointer(state)
    middle = deviation = np.nan
    if states.takes(memory, len(state), BOLLINGER, np.isnan(real)):
        memory[ROWS] += 1.0
        length, at, kind = int(memory[_TIMEPERIOD]), int(memory[_AT]), int(memory[_MATYPE])
        if kind == matypes.SIMPLE:
            closes = at + 1 == length
            total = sums.take(memory, _MEAN, length, real, memory[RINGS + at], closes, 0.0)
            if memory[ROWS] >= length:
                middle = total / length
        else:
            middle = matypes.advance(memory, RINGS + length, kind, length, real, 0.0)
        deviation = np.sqrt(_variance_step(memory, real))
    return _bands(middle, deviation, memory[_FACTOR_UP], memory[_FACTOR_DOWN])


@part
def bollinger_percent_b_step(state: Floats, real: float) -> float:
    """Take one value; give its place between the bands (see bollinger_percent_b)."""
    upper, _, lower = bollinger_step(state, real)
    return _percent_b(real, upper, lower)


@part
def bollinger_bandwidth_step(state: Floats, real: float) -> float:
    """Take one value; give the width of the bands (see bollinger_bandwidth)."""
    upper, middle, lower = bollinger_step(state, real)
    return _bandwidth(upper, middle, lower)


def _bollinger_parameters(
    timeperiod: SupportsIndex, nbdevup: SupportsFloat, nbdevdn: SupportsFloat, matype: SupportsIndex
) -> tuple[int, float, float, int]:
    kind = average_kind(matype)
    up, down = real_number(nbdevup, "nbdevup"), real_number(nbdevdn, "nbdevdn")
    return period(timeperiod, least=2), up, down, kind


# ---------------------------------------------------------------- kernels


@part
def _bands(middle: float, deviation: float, up: float, down: float) -> tuple[float, float, float]:
    return middle + deviation * up, middle, middle - deviation * down


@part
def _percent_b(real: float, upper: float, lower: float) -> float:
    return (real - lower) / (upper - lower)


@part
def _bandwidth(upper: float, middle: float, lower: float) -> float:
    return (upper - lower) / middle


@part
def _varied(
    total: float, squares: float, shift: float, inverse: float, new: float, old: float
) -> tuple[float, float, float, float]:
    """Take the new row in, compute the variance, take the old row out; give the square that left."""
    deviation = new - shift
    total += deviation
    squares += deviation * deviation
    mean = total * inverse
    variance = squares * inverse - mean * mean
    deviation = old - shift
    total -= deviation
    square = deviation * deviation
    return total, squares - square, variance, square


@part
def _is_stale(variance: float, squares: float, inverse: float, square: float) -> bool:
    """Say whether rule 1 or 2 asks for a renewal."""
    return variance < _STALE * (squares * inverse) or square > _OUTLIER * squares


@part
def _recentred(
    values: Floats, ring: int, oldest: int, length: int, inverse: float
) -> tuple[float, float, float, float]:
    """Move the shift to the mean of the window that begins at ring + oldest and wraps to ring.

    Gives the shift, both sums without the oldest row, and the variance.
    """
    mean = 0.0
    for row in range(oldest, oldest + length):
        mean += values[ring + row if row < length else ring + row - length]
    shift = mean * inverse
    total = squares = 0.0
    for row in range(oldest, oldest + length):
        deviation = values[ring + row if row < length else ring + row - length] - shift
        total += deviation
        squares += deviation * deviation
    mean = total * inverse
    variance = squares * inverse - mean * mean
    if variance < _ROUNDING * (squares * inverse):
        variance = 0.0
    deviation = values[ring + oldest] - shift
    return shift, total - deviation, squares - deviation * deviation, variance


@part
def _variance_step(state: Floats, real: float) -> float:
    """Take row number state[ROWS], from 1, into the sums over the ring at RINGS; NaN until warm."""
    length = int(state[_TIMEPERIOD])
    rows, at, variance = state[ROWS], state[_AT], np.nan
    state[RINGS + int(at)] = real
    at = at + 1.0 if at + 1.0 < length else 0.0
    state[_AT] = at
    if rows == 1.0:
        state[_SHIFT] = real
        state[_ROWS_LEFT] = _RENEWAL_WINDOWS * length
    shift, total, squares = state[_SHIFT], state[_SUM], state[_SQUARES]
    if rows < length:
        deviation = real - shift
        total += deviation
        squares += deviation * deviation
    else:
        oldest = int(at)
        inverse = 1.0 / length
        total, squares, variance, square = _varied(
            total, squares, shift, inverse, real, state[RINGS + oldest]
        )
        left = state[_ROWS_LEFT] - 1.0
        if left <= 0.0 or _is_stale(variance, squares, inverse, square):
            left = _RENEWAL_WINDOWS * length
            shift, total, squares, variance = _recentred(state, RINGS, oldest, length, inverse)
            state[_SHIFT] = shift
        state[_ROWS_LEFT] = left
    state[_SUM], state[_SQUARES] = total, squares
    return variance


@kernel
def _variance_batch(real: Floats, length: int, out: Floats) -> None:
    """Write the variance of every window of at least `length` rows, from out[length - 1] on."""
    inverse = 1.0 / length
    shift = real[0]
    total = squares = 0.0
    for row in range(length - 1):
        deviation = real[row] - shift
        total += deviation
        squares += deviation * deviation
    left = _RENEWAL_WINDOWS * length
    new, old, variances = real[length - 1 :], real[: len(real) - length + 1], out[length - 1 :]
    for row in range(len(variances)):
        total, squares, variance, square = _varied(
            total, squares, shift, inverse, new[row], old[row]
        )
        left -= 1
        if left <= 0 or _is_stale(variance, squares, inverse, square):
            left = _RENEWAL_WINDOWS * length
            shift, total, squares, variance = _recentred(real, row, 0, length, inverse)
        variances[row] = variance


@kernel
def _rolling_std_kernel(real: Floats, length: int, factor: float, out: Floats) -> None:
    first = first_row_1(real)
    ready = first + length - 1
    fill_nan(out, ready)
    if ready >= len(real):
        return
    _variance_batch(real[first:], length, out[first:])
    out = out[ready:]
    for row in range(len(out)):
        out[row] = np.sqrt(out[row]) * factor


@kernel
def _bollinger_kernel(
    real: Floats,
    length: int,
    up: float,
    down: float,
    kind: int,
    upper: Floats,
    middle: Floats,
    lower: Floats,
) -> None:
    first = first_row_1(real)
    ready = first + matypes.lookback(kind, length)
    if ready < len(real):
        matypes.average_batch(real[first:], kind, length, 0.0, middle[first:])
        _variance_batch(real[first:], length, lower[first:])
        above, mean, below = upper[ready:], middle[ready:], lower[ready:]
        for row in range(len(above)):
            above[row], _, below[row] = _bands(mean[row], np.sqrt(below[row]), up, down)
    for out in (upper, middle, lower):
        fill_nan(out, ready)


@kernel
def _percent_b_kernel(real: Floats, upper: Floats, lower: Floats) -> None:
    """Write over the upper bands."""
    for row in range(len(real)):
        upper[row] = _percent_b(real[row], upper[row], lower[row])


@kernel
def _bandwidth_kernel(upper: Floats, middle: Floats, lower: Floats) -> None:
    """Write over the upper bands."""
    for row in range(len(upper)):
        upper[row] = _bandwidth(upper[row], middle[row], lower[row])
