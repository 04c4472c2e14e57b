"""Change over a number of rows: momentum (a difference) and log returns (a ratio), as batch and stream of the same bits."""

from typing import SupportsIndex

import numpy as np

from consumers.indicators import states
from consumers.indicators.inputs import period, series
from consumers.indicators.jit import Floats, fill_nan, first_row_1, kernel, part, pointer
from consumers.indicators.states import LOG_RETURNS, MOMENTUM, OWN, PARAMETERS, RINGS, ROWS

_TIMEPERIOD = PARAMETERS
_POSITION = OWN


def momentum(real: Floats, timeperiod: SupportsIndex = 10) -> Floats:
    """Momentum, in the unit of the input.

    momentum[i] = real[i] - real[i - timeperiod]
    Lookback: timeperiod rows of NaN. timeperiod: 1 to 100000. As TA-Lib's MOM.
    """
    real = series(real, "real")
    timeperiod = period(timeperiod)
    out = np.empty(len(real))
    _momentum_kernel(real, timeperiod, out)
    return out


def momentum_state(timeperiod: SupportsIndex = 10) -> Floats:
    """Make the state of a momentum."""
    length = period(timeperiod)
    return states.new_state(MOMENTUM, length, length)


@part
def momentum_step(state: Floats, real: float) -> float:
    """Take one value; give the momentum, or NaN in the first timeperiod rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), MOMENTUM, np.isnan(real)):
        value = real - _exchanged(memory, real)
    return value


def log_returns(close: Floats, timeperiod: SupportsIndex = 1) -> Floats:
    """Logarithmic return; no unit.

    log_returns[i] = ln(close[i] / close[i - timeperiod]); NaN where one of the two prices is not
    above zero, which has no logarithm.
    Lookback: timeperiod rows of NaN. timeperiod: 1 to 100000.
    """
    close = series(close, "close")
    timeperiod = period(timeperiod)
    out = np.empty(len(close))
    _log_returns_kernel(close, timeperiod, out)
    return out


def log_returns_state(timeperiod: SupportsIndex = 1) -> Floats:
    """Make the state of log returns."""
    length = period(timeperiod)
    return states.new_state(LOG_RETURNS, length, length)


@part
def log_returns_step(state: Floats, close: float) -> float:
    """Take one price; give the log return, or NaN in the first timeperiod rows."""
    memory = pointer(state)
    value = np.nan
    if states.takes(memory, len(state), LOG_RETURNS, np.isnan(close)):
        value = _log_return(close, _exchanged(memory, close))
    return value


# ---------------------------------------------------------------- kernels


@part
def _log_return(new: float, old: float) -> float:
    return np.log(new / old) if new > 0.0 and old > 0.0 else np.nan


@part
def _exchanged(state: Floats, new: float) -> float:
    """Put a row into the ring and give the one it replaces, or NaN while the ring fills."""
    position = state[_POSITION]
    slot = RINGS + int(position)
    old = state[slot] if state[ROWS] >= state[_TIMEPERIOD] else np.nan
    state[slot] = new
    position += 1.0
    state[_POSITION] = position if position < state[_TIMEPERIOD] else 0.0
    state[ROWS] += 1.0
    return old


@kernel
def _momentum_kernel(real: Floats, length: int, out: Floats) -> None:
    ready = min(first_row_1(real) + length, len(real))
    fill_nan(out, ready)
    new, old, out = real[ready:], real[ready - length :], out[ready:]
    for row in range(len(out)):
        out[row] = new[row] - old[row]


@kernel
def _log_returns_kernel(close: Floats, length: int, out: Floats) -> None:
    ready = min(first_row_1(close) + length, len(close))
    fill_nan(out, ready)
    new, old, out = close[ready:], close[ready - length :], out[ready:]
    for row in range(len(out)):
        out[row] = _log_return(new[row], old[row])
