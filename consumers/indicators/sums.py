"""A rolling sum keeps its accuracy for ever, because from time to time it is held against one begun afresh.

Adding what enters a window and subtracting what leaves it collects rounding errors without end,
and a single huge value leaves its rounding behind when it is gone. Beside the running sum
therefore runs a second one over only the rows since the last multiple of the window's length; at
such a multiple it *is* the window's sum, added up in order. Every `renewal_blocks` windows the
two are compared, and where the running sum has drifted by more than a tolerance (1e-10 of what
is summed) the fresh one takes its place. The cost is one addition a row and no second pass, and
the error stays within the tolerance after any number of rows.

The order of additions is TA-Lib's (the old row out, the new row in), so that on ordinary data,
where no renewal is due, a sum is TA-Lib's bit for bit: also the rounding residue it leaves where
the true sum is zero, which no tolerance relative to the result would forgive.

**Layout** of a sum in a state, from slot `at`: position in the ring, running sum, windows until
the next comparison (0: not counted yet), sum since the last multiple.

**Invariants.** 1. A batch loop and a step compare at the same rows, and so renew at the same
rows. 2. A running sum that is NaN is not renewed: the reset alone clears it, as in TA-Lib.
"""

from consumers.indicators.jit import Floats, kernel, part

POSITION, TOTAL, BLOCKS, FRESH = range(4)
SLOTS = 4
# A sum over a short window is compared this many rows after the last time, at least.
_RENEWAL_ROWS = 256
_LEAST_BLOCKS = 4
_DRIFT = 1e-10


@part
def renewal_blocks(length: int) -> int:
    """Count the windows between two comparisons of a sum over `length` rows."""
    return max(_LEAST_BLOCKS, _RENEWAL_ROWS // length)


@part
def moved(total: float, new: float, old: float) -> float:
    """Move a sum on by one row: first the old row out, then the new one in."""
    return (total - old) + new


@part
def drift_allowed(fresh: float, size: float, length: int) -> float:
    """Give how far a sum may be off, from the sum itself and the size of one of its rows."""
    return _DRIFT * (abs(fresh) + length * size)


@part
def renewed(total: float, fresh: float, tolerance: float) -> float:
    """Replace a running sum that is off by more than `tolerance`; comparison fails for NaN."""
    return fresh if abs(total - fresh) > tolerance else total


@part
def added_up(values: Floats) -> float:
    """Add in order, from zero."""
    total = 0.0
    for value in values:
        total += value
    return total


@part
def push(state: Floats, at: int, ring: int, length: int, new: float, least: float) -> float:
    """Take one row into the sum at slot `at` over the ring at slot `ring`; give the sum.

    `least` is a size that rows have even where this one is smaller (100 of a percentage, say).
    """
    # Counted in float64: a conversion there and back would be the longest chain of a step.
    position = state[at + POSITION]
    slot = ring + int(position)
    old = state[slot]
    state[slot] = new
    position += 1.0
    closes = position == length
    state[at + POSITION] = 0.0 if closes else position
    return take(state, at, length, new, old, closes, least)


@part
def take(
    state: Floats, at: int, length: int, new: float, old: float, closes: bool, least: float
) -> float:
    """Take one row into the sum at slot `at` where the caller keeps the ring; give the sum.

    `closes` says that this row fills the ring's last slot.
    """
    total = moved(state[at + TOTAL], new, old)
    fresh = state[at + FRESH] + new
    kept = total
    if closes:
        if _ends_block(state, at, length):
            kept = renewed(total, fresh, drift_allowed(fresh, max(abs(new), least), length))
        fresh = 0.0
    state[at + TOTAL] = kept
    state[at + FRESH] = fresh
    return total


@part
def _ends_block(state: Floats, at: int, length: int) -> bool:
    """Count a window of rows down; say whether a comparison is due."""
    left = state[at + BLOCKS]
    if left == 0.0:
        left = renewal_blocks(length)
    left -= 1.0
    state[at + BLOCKS] = left
    is_due: bool = left == 0.0
    return is_due


@kernel
def mean_batch(values: Floats, length: int, least: float, out: Floats) -> None:
    """Write the mean of every window of `length` rows, with the additions of `push`.

    Needs at least `length` rows; out[length - 1] is the first mean written.
    """
    total = added_up(values[:length])
    out[length - 1] = total / length
    stride = length * renewal_blocks(length)
    start = length
    while start < len(values):
        # Comparisons are due at the multiples of the stride, counted from the first row.
        stop = min((start // stride + 1) * stride, len(values))
        new, old, means = (
            values[start:stop],
            values[start - length : stop - length],
            out[start:stop],
        )
        for row in range(len(means)):
            total = moved(total, new[row], old[row])
            means[row] = total / length
        if stop % stride == 0:
            fresh = added_up(values[stop - length : stop])
            size = max(abs(values[stop - 1]), least)
            total = renewed(total, fresh, drift_allowed(fresh, size, length))
        start = stop
