"""The highest and lowest of a moving window, in a batch by doubling and in a stream by blocks, which give the same values.

An extreme is one of the inputs, untouched by any arithmetic, so the way it is found cannot change
a bit of it. Each way is the fast one where it stands:

**Batch.** The highest of 2w rows is the higher of two highest of w rows, w rows apart, so that
log2(length) passes without any branch on the data give every window; the passes run over chunks
that stay in the first-level cache.

**Stream.** The ring is a block of `length` rows. At row k of a block the window is rows 0..k of it
and k+1.. of the block before; of the first the highest runs along, of the second the highest of
each tail stands in the slots that this block has not yet overwritten. When a block is full its
slots are turned into the highest of each tail, from its end. Three comparisons a row on average,
and no branch that depends on the data.

**Layout** of both extremes in a state, from slot `at`: row in the block, highest and lowest of the
block so far; two rings, the highs' first.

**Invariants.** A window that holds a NaN has a NaN for its extreme. Adding 0.0 takes a zero's sign
away before use: zeros compare equal, so either could have been found.
"""

import numpy as np

from consumers.indicators.jit import Floats, kernel, part

SLOTS = 3
# Windows at a chunk's border are worked out twice: many rows a window keep that cheap, few rows a
# chunk keep its four buffers in the nearest cache.
_CHUNK_ROWS, _CHUNK_WINDOWS, _LARGE_CHUNK_ROWS, _LEAST_WINDOWS = 512, 16, 4096, 3


@part
def higher(a: float, b: float) -> float:
    """Give the higher of two values, NaN where either is."""
    return a if a > b or np.isnan(a) else b


@part
def lower(a: float, b: float) -> float:
    """Give the lower of two values, NaN where either is."""
    return a if a < b or np.isnan(a) else b


@part
def push(
    state: Floats, at: int, ring: int, length: int, high: float, low: float
) -> tuple[float, float]:
    """Take one row into the extremes at slot `at` over the two rings from slot `ring` on.

    Gives the highest high and the lowest low, which mean nothing before `length` rows.
    """
    row = state[at]
    highest = high if row == 0.0 else higher(state[at + 1], high)
    lowest = low if row == 0.0 else lower(state[at + 2], low)
    state[at + 1], state[at + 2] = highest, lowest
    slot = ring + int(row)
    state[slot], state[slot + length] = high, low
    row += 1.0
    if row < length:
        highest = higher(highest, state[slot + 1])
        lowest = lower(lowest, state[slot + 1 + length])
    else:
        row = 0.0
        for back in range(slot - 1, ring - 1, -1):
            state[back] = higher(state[back], state[back + 1])
            state[back + length] = lower(state[back + length], state[back + length + 1])
    state[at] = row
    return highest + 0.0, lowest + 0.0


@part
def chunk_rows(rows: int, length: int) -> int:
    """Give how many input rows one chunk has, at least several windows of them."""
    wanted = min(_CHUNK_WINDOWS * length, _LARGE_CHUNK_ROWS)
    return min(rows, max(_CHUNK_ROWS, wanted, _LEAST_WINDOWS * length))


@part
def of_windows(high: Floats, low: Floats, length: int, scratch: Floats) -> tuple[Floats, Floats]:
    """Give the highest high and the lowest low of each window of a chunk, in the scratch buffers.

    scratch has four rows, each at least as long as the chunk; row i of the results is that of the
    window which ends with input row i + length - 1.
    """
    rows = len(high)
    highest = _highest_of_windows(high, length, scratch[0, :rows], scratch[1, :rows])
    lowest = _lowest_of_windows(low, length, scratch[2, :rows], scratch[3, :rows])
    return highest, lowest


@kernel
def _highest_of_windows(values: Floats, length: int, one: Floats, other: Floats) -> Floats:
    """Give the highest of each window of a chunk, in one of two scratch buffers of its length."""
    width, source = 1, values
    while 2 * width <= length:
        _pairwise_highest(source, width, one)
        source, one, other = one, other, one
        width *= 2
    if width < length:
        _pairwise_highest(source, length - width, one)
        source = one
    return source[length - 1 :]


@kernel
def _lowest_of_windows(values: Floats, length: int, one: Floats, other: Floats) -> Floats:
    """Give the lowest of each window, as _highest_of_windows does."""
    width, source = 1, values
    while 2 * width <= length:
        _pairwise_lowest(source, width, one)
        source, one, other = one, other, one
        width *= 2
    if width < length:
        _pairwise_lowest(source, length - width, one)
        source = one
    return source[length - 1 :]


@part
def _pairwise_highest(source: Floats, width: int, out: Floats) -> None:
    new, old, result = source[width:], source[: len(source) - width], out[width:]
    for row in range(len(result)):
        result[row] = higher(new[row], old[row])


@part
def _pairwise_lowest(source: Floats, width: int, out: Floats) -> None:
    new, old, result = source[width:], source[: len(source) - width], out[width:]
    for row in range(len(result)):
        result[row] = lower(new[row], old[row])
