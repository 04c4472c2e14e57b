"""What an accepted order, a fill, a cancel and a new day do to the positions.

**Outcomes** A fill is booked always, because it has happened: of an order that is not known to stand it is told UNKNOWN_ORDER;
beyond what stands of it, counted. What cannot be booked (no such account, beyond all bounds) halts the trading: the position
is then no longer known.
"""

from typing import Any

from consumers.position import copy_wide
from consumers.risk_conversion import DELTA_AT
from consumers.risk_money import (
    BASE,
    CASH,
    EXPOSURE,
    PROFIT,
    ROW_BYTES,
    add_to_scopes,
    add_wide,
    count,
    expose,
    halt_by_overflow,
    revalue,
    set_zero,
    subtract_wide,
)
from consumers.risk_state import (
    CONTEXT,
    IDS,
    INSTRUMENT_RISK,
    MONEY_DIGITS,
    NO_ROW,
    OPEN_ORDER,
    ORDER_PLACES,
    PROBES,
    QTY_LIMIT,
    RATE,
    RATE_PLACES,
    SCOPE_ROW,
)
from layouts import Instruction, Mark, RiskReason, Verdict
from shm.njit import (
    as_pointer,
    carray,
    jit,
    tr_wide_multiply,
    tr_wide_multiply_add,
)

_FINAL = int(Instruction.FINAL)
_BUY, _SELL, _SIDES = int(Mark.BUY), int(Mark.SELL), int(Mark.SIDE_MASK)
_PASSED, _BOOKED = int(Verdict.CANCEL_PASSED), int(Verdict.FILL_BOOKED)
_R_UNKNOWN_ORDER, _R_OVERFLOW = int(RiskReason.UNKNOWN_ORDER), int(RiskReason.OVERFLOW)
_MANY = 1 << 40
NOT_THERE = -1
STATE_SCALE = -1
"""`instrument_version` of a FILL whose numbers were brought to the scales of the state."""


@jit
def stand(c: Any, scopes: Any, number: int, order: Any, qty: int, side: int, place: int) -> None:
    """An accepted order stands: it counts as if it were filled."""
    orders = carray(as_pointer(c.orders), (ORDER_PLACES,), OPEN_ORDER)
    orders[place].order_id, orders[place].row = order.order_id, number
    orders[place].qty, orders[place].side = qty, side
    c.orders_open += 1
    rates = carray(as_pointer(c.rates), (_MANY,), RATE)
    rate = rates[order.account]
    rate.ts[rate.accepted % RATE_PLACES] = c.ts
    rate.accepted += 1
    row = scopes[number]
    if side > 0:
        row.open_buy += qty
    else:
        row.open_sell += qty
    if c.grows:
        # The checks have worked out by how much.
        if add_to_scopes(c, scopes, number, EXPOSURE, c.scratch + DELTA_AT):
            halt_by_overflow(c)
        count(scopes, number, 1)


@jit
def cancel(c: Any, scopes: Any, order: Any, row: Any) -> None:
    """Let a cancel pass, always, and free what stands of its order."""
    c.cancels_passed += 1
    row.verdict = _PASSED
    place = find_order(c, order.order_id, False)
    if place < 0:
        row.reason = _R_UNKNOWN_ORDER
        return
    orders = carray(as_pointer(c.orders), (ORDER_PLACES,), OPEN_ORDER)
    _take_off(c, scopes, orders[place], orders[place].qty)


@jit
def fill(c: Any, scopes: Any, st: Any, number: int, order: Any, row: Any) -> None:
    """Book a fill into the position, and take it off what stands."""
    c.fills_booked += 1
    row.verdict = _BOOKED
    side = side_of(order)
    ups = order.instrument_version != STATE_SCALE
    qty = order.qty * (st.qty_up if ups else 1)
    price = order.price * (st.price_up if ups else 1)
    if c.refusal or number == NO_ROW or not 0 < qty <= QTY_LIMIT or side == 0:
        row.reason = c.refusal or _R_OVERFLOW
        halt_by_overflow(c)
        return
    place = find_order(c, order.order_id, False)
    if place < 0:
        c.fills_unknown += 1
        row.reason = _R_UNKNOWN_ORDER
    else:
        orders = carray(as_pointer(c.orders), (ORDER_PLACES,), OPEN_ORDER)
        each = orders[place]
        if qty > each.qty:
            c.fills_beyond += 1
        is_last = order.instructions & _FINAL != 0
        _take_off(c, scopes, each, each.qty if is_last else min(qty, each.qty))
    position = scopes[number]
    if abs(position.qty + side * qty) > QTY_LIMIT:
        row.reason = _R_OVERFLOW
        halt_by_overflow(c)
        return
    position.qty += side * qty
    if st.mark <= 0:
        st.mark = 2 * price
    if _book_cash(c, scopes, number, st, order, side * qty, price):
        row.reason = _R_OVERFLOW
        halt_by_overflow(c)
    if revalue(c, scopes, number, st.mark, st.factor):
        row.reason = _R_OVERFLOW


@jit
def _book_cash(c: Any, scopes: Any, number: int, st: Any, order: Any, qty: int, price: int) -> int:
    """Add what was paid or received, and the fee where it is in the quote currency; 1: it does not fit."""
    delta = c.scratch
    set_zero(delta)
    failed: int = tr_wide_multiply_add(delta, -qty, 2 * price) | tr_wide_multiply(delta, st.factor)
    if order.fee != 0:
        if order.fee_currency == order.quote_currency and order.fee_scale <= MONEY_DIGITS:
            failed |= tr_wide_multiply_add(
                delta, -order.fee, 2 * _power(MONEY_DIGITS - order.fee_scale)
            )
        else:
            c.fees_other_currency += 1
    failed |= add_wide(c.rows + number * ROW_BYTES + CASH, delta)
    failed |= add_to_scopes(c, scopes, number, PROFIT, delta)
    return failed


@jit
def _take_off(c: Any, scopes: Any, each: Any, qty: int) -> None:
    """Less of an order stands; nothing: its place is free."""
    row = scopes[each.row]
    if each.side > 0:
        row.open_buy -= qty
    else:
        row.open_sell -= qty
    each.qty -= qty
    if each.qty <= 0:
        each.order_id = 0
        c.orders_open -= 1
    instruments = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)
    st = instruments[row.instrument_id]
    expose(c, scopes, each.row, st.mark, st.factor)


@jit
def find_order(c: Any, order_id: int, free: bool) -> int:
    """Return the place of an order that stands, or of none where `free`; NOT_THERE: there is no such place."""
    orders = carray(as_pointer(c.orders), (ORDER_PLACES,), OPEN_ORDER)
    wanted = 0 if free else order_id
    for i in range(PROBES):
        place = (order_id + i) % ORDER_PLACES
        if orders[place].order_id == wanted:
            return int(place)
    return NOT_THERE


@jit(inline="always")
def side_of(order: Any) -> int:
    """Return +1 for BUY, -1 for SELL, 0 for neither or both."""
    bits = order.marks & _SIDES
    return 1 if bits == _BUY else -1 if bits == _SELL else 0


@jit
def _power(exponent: int) -> int:
    """Return 10**exponent."""
    value = 1
    for _ in range(exponent):
        value *= 10
    return value


@jit
def begin_day(context: int, day: int, n_rows: int, _unused: int) -> int:
    """Start the profit of every position anew: what it is worth at the mark that the day began with is its base."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    scopes = carray(as_pointer(c.rows), (_MANY,), SCOPE_ROW)
    instruments = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)
    c.day = day
    failed = 0
    for number in range(n_rows):
        if scopes[number].instrument_id == 0:
            continue
        row = scopes[number]
        st = instruments[row.instrument_id]
        at = c.rows + number * ROW_BYTES
        mark = st.day_mark if st.day >= day and st.day_mark > 0 else st.mark
        delta = c.scratch
        copy_wide(delta, at + BASE)
        failed |= subtract_wide(delta, at + CASH)
        set_zero(at + BASE)
        failed |= tr_wide_multiply_add(at + BASE, row.qty, mark)
        failed |= tr_wide_multiply(at + BASE, st.factor)
        failed |= subtract_wide(delta, at + BASE)
        set_zero(at + CASH)
        failed |= add_to_scopes(c, scopes, number, PROFIT, delta)
    if failed:
        halt_by_overflow(c)
    return failed
