"""Which columns of a row are ready, from the one table of `layouts.features`; the others are NaN.

**Why it is right** `Column.ready_from` is read here once, when the module is imported, into tables of bit masks by
the number of rows; a rule that is not understood stops the import, so that table and kernel cannot part.
"""

import re
from typing import Any

import numpy as np

from consumers.feature_state import NO_MID
from layouts.features import COLUMNS, FEATURES
from shm.njit import as_pointer, carray, jit

_LONGEST = 60
_ALL = (1 << len(COLUMNS)) - 1
_FIRST_COLUMN = FEATURES.fields[COLUMNS[0].name][1]  # type: ignore[index]
_COLUMNS = len(COLUMNS)


def _masks() -> tuple[np.ndarray, np.ndarray, int, int, int]:
    """Return bits by rows with a mid, bits by rows, bits of a two-sided book, of a first trade, of 60 trades."""
    by_mids, by_rows = np.zeros(_LONGEST + 1, np.int64), np.zeros(_LONGEST + 1, np.int64)
    both = first_trade = trades = 0
    for bit, column in enumerate(COLUMNS):
        rule = column.ready_from
        if found := re.fullmatch(r"(h|k) >= (\d+)", rule):
            table = by_mids if found[1] == "h" else by_rows
            table[int(found[2]) :] |= 1 << bit
        elif rule == "both sides":
            both |= 1 << bit
        elif rule == "first trade":
            first_trade |= 1 << bit
        elif rule == f"{_LONGEST} trades":
            trades |= 1 << bit
        else:
            raise ValueError(
                f"column {column.name}: the rule {rule!r} is not one of layouts.features"
            )
    return by_mids, by_rows, both, first_trade, trades


_BY_MIDS, _BY_ROWS, _BOTH, _FIRST_TRADE, _TRADES = _masks()


@jit
def ready_bits(st: Any, k: int, both: bool) -> int:
    """Return the ready word of row `k`."""
    if st.scaled == 0:
        return 0
    bits: int = _BY_ROWS[min(k - st.first_row, _LONGEST)]
    if st.first_mid != NO_MID:
        bits |= _BY_MIDS[min(k - st.first_mid, _LONGEST)]
    if both:
        bits |= _BOTH
    if st.has_price:
        bits |= _FIRST_TRADE
    if st.trades >= _LONGEST:
        bits |= _TRADES
    return bits


@jit
def write_nan(row: int, ready: int) -> None:
    """Write NaN into every column of the row at an address whose bit is unset."""
    if ready == _ALL:
        return
    columns = carray(as_pointer(row + _FIRST_COLUMN), (_COLUMNS,), np.float64)
    for bit in range(_COLUMNS):
        if (ready >> bit) & 1 == 0:
            columns[bit] = np.nan
