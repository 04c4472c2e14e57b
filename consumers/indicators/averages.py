"""Moving averages and the difference of two: SMA, EMA, MACD, each as a batch and as a stream of the same bits.

SMA is the mean of a rolling sum (sums.py). EMA is seeded, as in TA-Lib, with the simple mean of
its first `timeperiod` rows. MACD runs its three EMAs in TA-Lib's form of the recursion, because
its values are small differences of large ones: each bit of the EMAs shows.

**Cost.** bench/bench_indicators_batch.py and bench/bench_indicators_streaming.py.
**See** states.py for what a state is.
"""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import states, sums
from consumers.indicators.inputs import period, series
from consumers.indicators.jit import Floats, fill_nan, first_row_1, fma, kernel, part, pointer
from consumers.indicators.states import EMA, MACD, OWN, PARAMETERS, RINGS, ROWS, SMA

_TIMEPERIOD = PARAMETERS
_MEAN = OWN
_DECAY, _WEIGHT, _AVERAGE = PARAMETERS + 1, PARAMETERS + 2, OWN
_FAST_PERIOD, _SLOW_PERIOD, _SIGNAL_PERIOD = range(PARAMETERS, PARAMETERS + 3)
_FAST_WEIGHT, _SLOW_WEIGHT, _SIGNAL_WEIGHT = range(PARAMETERS + 3, PARAMETERS + 6)
_FAST, _SLOW, _SIGNAL = range(OWN, OWN + 3)


def sma(real: Floats, timeperiod: SupportsIndex = 30) -> Floats:
    """Simple moving average, in the unit of the input.

    sma[i] = (real[i - timeperiod + 1] + ... + real[i]) / timeperiod
    Lookback: timeperiod - 1 rows of NaN. timeperiod: 1 to 100000. As TA-Lib's SMA.
    """
    real = series(real, "real")
    timeperiod = period(timeperiod)
    out = np.empty(len(real))
    _sma_kernel(real, timeperiod, out)
    return out


def sma_state(timeperiod: SupportsIndex = 30) -> Floats:
    """Make the state of an SMA."""
    length = period(timeperiod)
    return states.new_state(SMA, length, length)


@part
def sma_step(state: Floats, real: float) -> float:
    """Take one value; give the SMA, or NaN in the first timeperiod - 1 rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), SMA, np.isnan(real)):
        length = int(memory[_TIMEPERIOD])
        memory[ROWS] += 1.0
        total = sums.push(memory, _MEAN, RINGS, length, real, 0.0)
        if memory[ROWS] >= length:
            value = total / length
    return value


def ema(real: Floats, timeperiod: SupportsIndex = 30) -> Floats:
    """Exponential moving average, in the unit of the input.

    ema[i] = ema[i-1] * (1 - k) + real[i] * k with k = 2 / (timeperiod + 1); the first value is
    the simple mean of the first timeperiod rows.
    Lookback: timeperiod - 1 rows of NaN. timeperiod: 1 (a copy) to 100000. As TA-Lib's EMA.
    """
    real = series(real, "real")
    timeperiod = period(timeperiod)
    out = np.empty(len(real))
    _ema_kernel(real, timeperiod, out)
    return out


def ema_state(timeperiod: SupportsIndex = 30) -> Floats:
    """Make the state of an EMA."""
    length = period(timeperiod)
    return states.new_state(EMA, 0, length, *ema_weights(length))


@part
def ema_step(state: Floats, real: float) -> float:
    """Take one value; give the EMA, or NaN in the first timeperiod - 1 rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), EMA, np.isnan(real)):
        rows = memory[ROWS] + 1.0
        memory[ROWS] = rows
        value = ema_advance(
            memory, _AVERAGE, memory[_TIMEPERIOD], memory[_DECAY], memory[_WEIGHT], rows, real
        )
    return value


def macd(
    real: Floats,
    fastperiod: SupportsIndex = 12,
    slowperiod: SupportsIndex = 26,
    signalperiod: SupportsIndex = 9,
) -> tuple[Floats, Floats, Floats]:
    """Moving average convergence/divergence: macd, signal, histogram, in the unit of the input.

    macd = EMA(fastperiod) - EMA(slowperiod); signal = EMA of macd over signalperiod;
    histogram = macd - signal. The fast EMA is seeded with the last fastperiod of the slow one's
    first rows; fast and slow are exchanged where fast is the longer.
    Lookback of all three: slowperiod + signalperiod - 2 rows of NaN. Periods: 2 to 100000, the
    signal's 1 to 100000. As TA-Lib's MACD; source: Gerald Appel.
    """
    real = series(real, "real")
    fast, slow, signal = _macd_periods(fastperiod, slowperiod, signalperiod)
    out = np.empty(len(real)), np.empty(len(real)), np.empty(len(real))
    _macd_kernel(real, fast, slow, signal, *out)
    return out


def macd_state(
    fastperiod: SupportsIndex = 12, slowperiod: SupportsIndex = 26, signalperiod: SupportsIndex = 9
) -> Floats:
    """Make the state of a MACD."""
    periods = _macd_periods(fastperiod, slowperiod, signalperiod)
    return states.new_state(MACD, 0, *periods, *(2.0 / (length + 1) for length in periods))


@part
def macd_step(state: Floats, real: float) -> tuple[float, float, float]:
    """Take one value; give macd, signal, histogram, all NaN in the first slow + signal - 2 rows."""
    memory = pointer(state)
    line = signal = np.nan
    if states.takes(memory, len(state), MACD, np.isnan(real)):
        line, signal = _macd_advance(memory, real)
    return line, signal, line - signal


def ema_weights(length: int) -> tuple[float, float]:
    """Give the weights of the previous value and of the new row; they add up to 1 exactly."""
    decay = 1.0 - 2.0 / (length + 1)
    return decay, 1.0 - decay


def _macd_periods(
    fastperiod: SupportsIndex, slowperiod: SupportsIndex, signalperiod: SupportsIndex
) -> tuple[int, int, int]:
    fast = period(fastperiod, "fastperiod", least=2)
    slow = period(slowperiod, "slowperiod", least=2)
    return min(fast, slow), max(fast, slow), period(signalperiod, "signalperiod")


# ---------------------------------------------------------------- kernels


@part
def smoothed(average: float, decay: float, weight: float, real: float) -> float:
    """Move an exponential average on by one row: one latency, the new row's product beside it."""
    return fma(average, decay, weight * real)


@part
def _drawn(average: float, weight: float, real: float) -> float:
    """Move an exponential average on in TA-Lib's form: two latencies, TA-Lib's very bits."""
    return fma(real - average, weight, average)


@part
def _macd_advance(state: Floats, real: float) -> tuple[float, float]:
    """Take the row that state[ROWS] counts, from 0; give macd and signal, NaN until both are warm."""
    row = state[ROWS]
    state[ROWS] = row + 1.0
    fast, slow, signal = state[_FAST_PERIOD], state[_SLOW_PERIOD], state[_SIGNAL_PERIOD]
    if row < slow:
        state[_SLOW] += real
        if row >= slow - fast:
            state[_FAST] += real
        if row < slow - 1.0:
            return np.nan, np.nan
        state[_SLOW] /= slow
        state[_FAST] /= fast
    else:
        state[_FAST] = _drawn(state[_FAST], state[_FAST_WEIGHT], real)
        state[_SLOW] = _drawn(state[_SLOW], state[_SLOW_WEIGHT], real)
    line = state[_FAST] - state[_SLOW]
    if row < slow + signal - 1.0:
        state[_SIGNAL] += line
        if row < slow + signal - 2.0:
            return np.nan, np.nan
        state[_SIGNAL] /= signal
    elif signal == 1.0:
        state[_SIGNAL] = line
    else:
        state[_SIGNAL] = _drawn(state[_SIGNAL], state[_SIGNAL_WEIGHT], line)
    return line, state[_SIGNAL]


@part
def ema_advance(
    state: Floats, at: int, length: float, decay: float, weight: float, rows: float, real: float
) -> float:
    """Take row number `rows`, from 1, into the EMA whose value is at slot `at`."""
    average = state[at]
    if rows > length:
        average = real if length == 1.0 else smoothed(average, decay, weight, real)
    else:
        average += real
        if rows == length:
            average /= length
    state[at] = average
    return average if rows >= length else np.nan


@kernel
def _sma_kernel(real: Floats, length: int, out: Floats) -> None:
    first = first_row_1(real)
    fill_nan(out, first + length - 1)
    if len(real) - first >= length:
        sums.mean_batch(real[first:], length, 0.0, out[first:])


@kernel
def _ema_kernel(real: Floats, length: int, out: Floats) -> None:
    first = first_row_1(real)
    fill_nan(out, first + length - 1)
    if len(real) - first >= length:
        ema_batch(real[first:], length, out[first:])


@kernel
def ema_batch(real: Floats, length: int, out: Floats) -> None:
    """Write the EMA of at least `length` rows, from out[length - 1] on."""
    if length == 1:
        out[:] = real
        return
    decay = 1.0 - 2.0 / (length + 1)
    weight = 1.0 - decay
    average = sums.added_up(real[:length]) / length
    out[length - 1] = average
    new, averages = real[length:], out[length:]
    for row in range(len(averages)):
        average = smoothed(average, decay, weight, new[row])
        averages[row] = average


@kernel
def _macd_kernel(
    real: Floats, fast: int, slow: int, signal: int, macds: Floats, signals: Floats, hists: Floats
) -> None:
    first = first_row_1(real)
    ready = first + slow + signal - 2
    for out in (macds, signals, hists):
        fill_nan(out, ready)
    if ready >= len(real):
        return
    real = real[first:]
    fast_weight, slow_weight, signal_weight = 2.0 / (fast + 1), 2.0 / (slow + 1), 2.0 / (signal + 1)
    fast_ema = sums.added_up(real[slow - fast : slow]) / fast
    slow_ema = sums.added_up(real[:slow]) / slow
    line = fast_ema - slow_ema
    average = line
    for row in range(slow, slow + signal - 1):
        fast_ema = _drawn(fast_ema, fast_weight, real[row])
        slow_ema = _drawn(slow_ema, slow_weight, real[row])
        line = fast_ema - slow_ema
        average += line
    average /= signal
    macds[ready], signals[ready], hists[ready] = line, average, line - average
    new = real[slow + signal - 1 :]
    macds, signals, hists = macds[ready + 1 :], signals[ready + 1 :], hists[ready + 1 :]
    for row in range(len(new)):
        fast_ema = _drawn(fast_ema, fast_weight, new[row])
        slow_ema = _drawn(slow_ema, slow_weight, new[row])
        line = fast_ema - slow_ema
        average = line if signal == 1 else _drawn(average, signal_weight, line)
        macds[row], signals[row], hists[row] = line, average, line - average
