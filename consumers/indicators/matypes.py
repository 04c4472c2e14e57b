"""The moving averages that TA-Lib numbers as matypes, each moved on by one row: what bands and oscillators are smoothed with.

    0 SMA    1 EMA    2 WMA    3 DEMA    4 TEMA    5 TRIMA    6 KAMA    8 T3 (volume factor 0.7)

Batch and stream are the same `advance`, so that they are the same bits; only the SMA's batch is
that of sums.py. MAMA (7) has no period to choose and is refused (inputs.py). A period of 1 is a
copy, whatever the kind, as in TA-Lib.

**Layout** of an average in a state, from slot `at`: rows taken, then eight slots of its own, then
up to two rings of `length` rows.

**Why it is right.** EMA, DEMA, TEMA and T3 are one cascade of averages, 1, 2, 3 and 6 deep, each
seeded with the mean of its first rows. TRIMA is the mean of a mean, whose sums cannot drift
(sums.py). WMA's two sums are added up anew from the window each time its ring closes, so what
they are off by is one window's rounding. KAMA's sum of moves has TA-Lib's order of additions and
keeps what rounding leaves in a window that stands still, since it divides by that.

**Cost.** O(1) a row; WMA reads its window once in `length` rows.
"""

import numpy as np

from consumers.indicators import sums
from consumers.indicators.averages import ema_advance
from consumers.indicators.jit import Floats, kernel, part

SIMPLE, EXPONENTIAL, WEIGHTED, DOUBLE, TRIPLE, TRIANGULAR, ADAPTIVE, MESA, T3 = range(9)
SLOTS = 9
_ROWS, _OWN = 0, 1
_POSITION, _TOTAL, _WEIGHTED = range(_OWN, _OWN + 3)
_PLACE, _BEFORE, _AVERAGE, _STILL, _MOVES = range(_OWN, _OWN + 5)

_FACTOR = 0.7
_SQUARE = _FACTOR * _FACTOR
_C6 = -_SQUARE * _FACTOR
_C5 = 3.0 * (_SQUARE - _C6)
_C4 = -6.0 * _SQUARE - 3.0 * (_FACTOR - _C6)
_C3 = 1.0 + 3.0 * _FACTOR - _C6 + 3.0 * _SQUARE

# KAMA's weight lies between those of an EMA over 30 rows and one over 2, squared.
_SLOWEST = 2.0 / 31.0
_REACH = 2.0 / 3.0 - _SLOWEST


@part
def depth(kind: int) -> int:
    """Count the averages of averages that a kind is made of."""
    if kind == DOUBLE:
        return 2
    if kind == TRIPLE:
        return 3
    return 6 if kind == T3 else 1


@part
def lookback(kind: int, length: int) -> int:
    """Count the rows of NaN before the first average."""
    return length if kind == ADAPTIVE and length > 1 else depth(kind) * (length - 1)


@part
def room(length: int) -> int:
    """Count the slots that an average over `length` rows needs."""
    return SLOTS + 2 * length


@kernel
def advance(state: Floats, at: int, kind: int, length: int, real: float, least: float) -> float:
    """Take one row into the average at slot `at`; give it, or NaN in its first `lookback` rows.

    `least` is a size that rows have even where this one is smaller (sums.py).
    """
    if length == 1:
        return real
    rows = state[at + _ROWS] + 1.0
    state[at + _ROWS] = rows
    ring = at + SLOTS
    if kind == WEIGHTED:
        value = _weighted(state, at, ring, length, real)
    elif kind == TRIANGULAR:
        value = _triangular(state, at, ring, length, real, least)
    elif kind == ADAPTIVE:
        value = _adaptive(state, at, ring, length, rows, real)
    elif kind == SIMPLE:
        value = _simple(state, at + _OWN, ring, length, real, least)
    else:
        value = _cascade(state, at + _OWN, kind, length, rows, real)
    return value if rows > lookback(kind, length) else np.nan


@kernel
def average_batch(values: Floats, kind: int, length: int, least: float, out: Floats) -> None:
    """Write the average of at least `lookback` + 1 rows, from out[lookback] on; before it, anything."""
    if kind == SIMPLE:
        sums.mean_batch(values, length, least, out)
        return
    state = np.zeros(room(length))
    for row in range(len(values)):
        out[row] = advance(state, 0, kind, length, values[row], least)


@part
def _simple(state: Floats, at: int, ring: int, length: int, real: float, least: float) -> float:
    """Give the mean of the window, of the rows so far as if zeros had been before."""
    mean: float = sums.push(state, at, ring, length, real, least) / length
    return mean


@part
def _cascade(state: Floats, at: int, kind: int, length: int, rows: float, real: float) -> float:
    """Take row number `rows`, from 1, into each average that has a row already."""
    decay = 1.0 - 2.0 / (length + 1)
    value = real
    for stage in range(depth(kind)):
        taken = rows - stage * (length - 1)
        if taken < 1.0:
            break
        value = ema_advance(state, at + stage, length, decay, 1.0 - decay, taken, value)
    average: float = state[at]
    two, three = state[at + 1], state[at + 2]
    if kind == DOUBLE:
        average = 2.0 * average - two
    elif kind == TRIPLE:
        average = 3.0 * average - 3.0 * two + three
    elif kind == T3:
        four, five, six = state[at + 3], state[at + 4], state[at + 5]
        average = _C6 * six + _C5 * five + _C4 * four + _C3 * three
    return average


@part
def _weighted(state: Floats, at: int, ring: int, length: int, real: float) -> float:
    """Weigh the newest row `length`, the oldest 1."""
    position = int(state[at + _POSITION])
    total, weighted = state[at + _TOTAL], state[at + _WEIGHTED]
    weighted = weighted - total + length * real  # each row before loses one weight
    total = sums.moved(total, real, state[ring + position])
    state[ring + position] = real
    position += 1
    if position == length:
        position = 0
        if not np.isnan(weighted):  # a NaN stays until the reset
            total = weighted = 0.0
            for row in range(length):
                total += state[ring + row]
                weighted += (row + 1) * state[ring + row]
    state[at + _POSITION], state[at + _TOTAL], state[at + _WEIGHTED] = position, total, weighted
    average: float = weighted / (0.5 * length * (length + 1))
    return average


@part
def _triangular(state: Floats, at: int, ring: int, length: int, real: float, least: float) -> float:
    """Give the mean of the means: together they weigh the middle of the window most."""
    inner = length // 2 + 1
    outer = length - inner + 1
    mean = _simple(state, at + _OWN, ring, inner, real, least)
    if state[at + _ROWS] < inner:
        return np.nan
    at += _OWN + sums.SLOTS
    return _simple(state, at, ring + inner, outer, mean, least)


@part
def _adaptive(state: Floats, at: int, ring: int, length: int, rows: float, real: float) -> float:
    """Move on by more, the straighter the way of the last `length` moves was."""
    place = int(state[at + _PLACE])
    before, oldest = state[at + _BEFORE], state[ring + place]
    state[ring + place], state[at + _BEFORE] = real, real
    state[at + _PLACE] = place + 1 if place + 1 < length else 0
    if rows == 1.0:
        return np.nan
    state[at + _STILL] = state[at + _STILL] + 1.0 if real == before else 0.0
    moves = sums.push(state, at + _MOVES, ring + length, length, abs(real - before), 0.0)
    if rows <= length:
        state[at + _AVERAGE] = real
        return np.nan
    moved = real - oldest
    straight = moves <= moved or state[at + _STILL] >= length
    weight = (1.0 if straight else abs(moved / moves)) * _REACH + _SLOWEST
    average: float = state[at + _AVERAGE]
    average += (real - average) * (weight * weight)
    state[at + _AVERAGE] = average
    return average
