"""A position's money and that of the scopes above it change together, exactly, or the trading is halted.

**Why it is right** `exposure` and `profit` of a scope are sums over its positions, kept by adding each change: integers,
so that no order of additions gives another sum.

**Cost** Products go through native/money.h; sums and comparisons are compiled in here, since a decision has fifty of them and a
call of each would be most of its time.
"""

from typing import Any

from consumers.position import copy_wide, set_wide
from consumers.risk_state import SCOPE_ROW, SCOPES
from layouts import TradingState
from shm.njit import (
    as_pointer,
    carray,
    jit,
    load_word,
    tr_wide_multiply,
    tr_wide_multiply_add,
)

ROW_BYTES = SCOPE_ROW.itemsize
_HALTED = int(TradingState.HALTED)
_MANY = 1 << 40
_SIGN = -(1 << 63)


def _at(name: str) -> int:
    return int(SCOPE_ROW.fields[name][1])  # type: ignore[index]


EXPOSURE, PROFIT, LIMITS = _at("exposure"), _at("profit"), _at("limits")
CASH, BASE, VALUE = _at("cash"), _at("base"), _at("value")
POSITIONS = _at("positions")


@jit(inline="always")
def is_above(a: int, b: int) -> bool:
    """Tell whether the wide number at `a` is greater than the one at `b`."""
    a_high, b_high = load_word(a + 8), load_word(b + 8)
    above: bool = a_high > b_high or (
        a_high == b_high and (load_word(a) ^ _SIGN) > (load_word(b) ^ _SIGN)
    )
    return above


@jit(inline="always")
def add_words(to: int, low: int, high: int) -> int:
    """Add two words to the wide number at `to`; 1, and nothing written, where the sum does not fit."""
    old_low, old_high = load_word(to), load_word(to + 8)
    new_low = old_low + low
    carry = 1 if (new_low ^ _SIGN) < (old_low ^ _SIGN) else 0
    new_high = old_high + high + carry
    if ((old_high ^ new_high) & (high ^ new_high)) < 0:
        return 1
    set_wide(to, new_low, new_high)
    return 0


@jit(inline="always")
def add_wide(to: int, a: int) -> int:
    """Add the wide number at `a`; 1, and nothing written, where the sum does not fit."""
    failed: int = add_words(to, load_word(a), load_word(a + 8))
    return failed


@jit(inline="always")
def subtract_wide(to: int, a: int) -> int:
    """Subtract the wide number at `a`; 1, and nothing written, where the difference does not fit."""
    low, high = load_word(a), load_word(a + 8)
    if high == _SIGN and low == 0:
        return 1
    failed: int = add_words(to, -low, ~high + (1 if low == 0 else 0))
    return failed


@jit(inline="always")
def set_zero(address: int) -> None:
    """Make a wide number 0."""
    set_wide(address, 0, 0)


@jit(inline="always")
def worst_qty(qty: int, open_buy: int, open_sell: int) -> int:
    """Return the largest |qty| that a position may come to by what stands."""
    return max(abs(qty), abs(qty + open_buy), abs(qty - open_sell))


@jit(inline="always")
def money_of(to: int, qty: int, mark: int, factor: int) -> int:
    """Put qty x mark x factor into the wide number at `to`; 1 where it does not fit."""
    set_zero(to)
    failed: int = tr_wide_multiply_add(to, qty, mark) | tr_wide_multiply(to, factor)
    return failed


@jit
def add_to_scopes(c: Any, rows: Any, number: int, field: int, delta: int) -> int:
    """Add the wide number at `delta` to a field of a position and of the sums in its currency."""
    row = rows[number]
    failed: int = add_wide(c.rows + number * ROW_BYTES + field, delta)
    for s in range(1, SCOPES):
        failed |= add_wide(c.rows + row.money_rows[s - 1] * ROW_BYTES + field, delta)
    return failed


@jit
def expose(c: Any, rows: Any, number: int, mark: int, factor: int) -> int:
    """Bring exposure and count of a position up to what it may come to; 1: it does not fit."""
    row = rows[number]
    delta = c.scratch
    worst = worst_qty(row.qty, row.open_buy, row.open_sell)
    failed: int = money_of(delta, worst, mark, factor)
    failed |= subtract_wide(delta, c.rows + number * ROW_BYTES + EXPOSURE)
    failed |= add_to_scopes(c, rows, number, EXPOSURE, delta)
    count(rows, number, 1 if worst else 0)
    if failed:
        halt_by_overflow(c)
    return failed


@jit
def count(rows: Any, number: int, is_open: int) -> None:
    """Count a position in its scopes, or no longer."""
    row = rows[number]
    change = is_open - row.counted
    if change:
        row.counted = is_open
        row.positions += change
        for s in range(SCOPES - 1):
            rows[row.above[s]].positions += change


@jit
def revalue(c: Any, rows: Any, number: int, mark: int, factor: int) -> int:
    """Bring exposure, value, profit and count of a position up to its quantities and a mark; 1: it does not fit."""
    at = c.rows + number * ROW_BYTES
    wanted, delta = c.scratch, c.scratch + 16
    failed: int = expose(c, rows, number, mark, factor)
    failed |= money_of(wanted, rows[number].qty, mark, factor)
    copy_wide(delta, wanted)
    failed |= subtract_wide(delta, at + VALUE)
    copy_wide(at + VALUE, wanted)
    failed |= add_to_scopes(c, rows, number, PROFIT, delta)
    if failed:
        halt_by_overflow(c)
    return failed


@jit
def halt_by_overflow(c: Any) -> None:
    """A sum is no longer known: nothing but cancels may pass until an operator has looked."""
    c.overflows += 1
    c.trading_state = _HALTED


@jit
def revalue_instrument(c: Any, st: Any) -> int:
    """Bring all positions of an instrument up to its mark; 1: it does not fit."""
    rows = carray(as_pointer(c.rows), (_MANY,), SCOPE_ROW)
    failed = 0
    number = st.first_row - 1
    while number >= 0:
        failed |= revalue(c, rows, number, st.mark, st.factor)
        number = rows[number].next_row - 1
    return failed
