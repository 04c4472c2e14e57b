"""A streaming state is one flat float64 array, so that a checkpoint is a copy and a reset a fill.

**Layout** (slots of 8 bytes)

    0        kind: which indicator this state belongs to
    1..8     parameters, fixed when the state is made
    9        slots in all
    10       rows taken since the first row whose inputs are all numbers
    11..29   what the recursion or the rolling sum needs; each indicator names its slots
    30..     ring buffers, one slot per row of the window

**Protocol.** `<name>_state(...)` makes a state, `<name>_step(state, x...)` takes one row and gives
the value of that row (NaN until warm), `reset(state)` makes it new again. Steps are compiled and
are called from compiled code; from Python they work too, for some 0.3 us. Rows before the first
in which every input is a number are not counted, as TA-Lib does with leading NaNs. A NaN later
on makes a recursive value or a running sum NaN until the reset; a window that is read afresh
(extremes, CCI) is NaN while the NaN is in it; a row without a finite price or volume has no
weight in a VWAP; a close that is NaN leaves the next true range to high and low.

**Failure.** A step given the state of another indicator, or a state that was cut short, touches
nothing and gives NaN; numba refuses to compile one for an array that is read-only, strided or not
of float64.

**Why it is right.** Counters are whole numbers far below 2^53, so float64 holds them exactly.
"""

import numpy as np

from consumers.indicators.jit import Floats, kernel, part

KIND = 0
PARAMETERS = 1
SLOTS = 9
LIVE = 10
ROWS = 10
OWN = 11
RINGS = 30

(
    SMA,
    EMA,
    MACD,
    ROLLING_STD,
    BOLLINGER,
    RSI,
    ATR,
    ADX,
    DONCHIAN,
    WILLIAMS_R,
    STOCHASTIC,
    OBV,
    VWAP,
    MFI,
    MOMENTUM,
    LOG_RETURNS,
    KELTNER,
    CCI,
) = (float(number) for number in range(1, 19))


def new_state(kind: float, ring_slots: int, *parameters: float) -> Floats:
    """Make the state of one indicator; ring_slots counts the rows its windows hold together."""
    state = np.zeros(RINGS + ring_slots)
    state[KIND], state[SLOTS] = kind, len(state)
    state[PARAMETERS : PARAMETERS + len(parameters)] = parameters
    return state


@part
def takes(state: Floats, slots: int, kind: float, is_absent: bool) -> bool:
    """Say whether a step may take a row: the state is its own and whole, and the row is counted.

    A row with an absent input is counted only when rows have been before.
    """
    is_own = slots >= RINGS and state[SLOTS] == slots and state[KIND] == kind
    return is_own and (state[ROWS] > 0.0 or not is_absent)


@kernel
def reset(state: Floats) -> None:
    """Make a state new again: nothing but its kind and its parameters remains."""
    for slot in range(LIVE, len(state)):
        state[slot] = 0.0
