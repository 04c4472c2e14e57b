"""The checks of one order, in the order in which they are told: the first that fails is the reason.

**Order** qty and price in themselves; trading state; the book (known, of this version, LIVE, young, not crossed); collar; rate;
order size; then, only where the order lets the position grow: position size, the rates that its sums need, exposure, open
positions, daily loss, each in the scopes INSTRUMENT, VENUE, CURRENCY, ACCOUNT, PORTFOLIO. Equal to a limit is within it.

**Why it is right** Nothing is changed before every check has passed. What stands counts as if it were filled: a position is the
largest that it may come to. An order that lets nothing grow cannot make a breach worse: it is how one gets out.
"""

from typing import Any

from consumers.position import copy_wide
from consumers.risk_conversion import DELTA_AT, LIMIT_AT, OBSERVED_AT, check_rates, tell, total_of
from consumers.risk_money import (
    EXPOSURE,
    LIMITS,
    POSITIONS,
    PROFIT,
    ROW_BYTES,
    add_wide,
    is_above,
    money_of,
    set_zero,
    subtract_wide,
    worst_qty,
)
from consumers.risk_state import NO_ROW, QTY_LIMIT, RATE_PLACES, SCOPES
from layouts import Check, Instruction, InstrumentState, OrderType, RiskReason, TradingState
from shm.njit import (
    jit,
    load_word,
    tr_wide_multiply_add,
)

_HALTED, _REDUCING = int(TradingState.HALTED), int(TradingState.REDUCING)
_LIVE, _MARKET = int(InstrumentState.LIVE), int(OrderType.MARKET)
_LIMIT = int(OrderType.LIMIT)
_REDUCE_ONLY = int(Instruction.REDUCE_ONLY)
_R_HALTED, _R_NOT_REDUCING = int(RiskReason.HALTED), int(RiskReason.NOT_REDUCING)
_R_OTHER_VERSION, _R_OVERFLOW = int(RiskReason.OTHER_VERSION), int(RiskReason.OVERFLOW)
_R_QTY, _R_PRICE = int(RiskReason.BAD_QTY), int(RiskReason.BAD_PRICE)
_R_UNKNOWN, _R_NOT_LIVE = int(RiskReason.BOOK_UNKNOWN), int(RiskReason.BOOK_NOT_LIVE)
_R_OLD, _R_CROSSED = int(RiskReason.BOOK_OLD), int(RiskReason.BOOK_CROSSED)
_R_COLLAR, _R_RATE = int(RiskReason.PRICE_COLLAR), int(RiskReason.ORDER_RATE)
_SIZE, _POSITION = int(Check.ORDER_SIZE), int(Check.POSITION_SIZE)
_EXPOSURE, _OPEN = int(Check.EXPOSURE), int(Check.OPEN_POSITIONS)
_LOSS = int(Check.DAILY_LOSS)
_BP = 10_000
_SMALL = 1 << 46
"""Prices below it need no wide numbers for the collar."""
_NEW = 0
_TWICE = 2
_EXPOSURE_LIMIT = LIMITS + 16 * (_EXPOSURE - 1)
_OPEN_LIMIT = LIMITS + 16 * (_OPEN - 1)
_LOSS_FLOOR = LIMITS + 16 * (_LOSS - 1)


@jit
def check_terms(order: Any, side: int) -> int:
    """Judge an order by itself."""
    if order.qty <= 0 or order.qty > QTY_LIMIT or side == 0:
        return _R_QTY
    if order.order_type == _MARKET:
        return _R_PRICE if order.price != 0 else 0
    if order.order_type != _LIMIT or order.price <= 0:
        return _R_PRICE
    return 0


@jit
def check_book(c: Any, st: Any, order: Any) -> int:
    """Judge the book that the order would meet; marks and collar depend on it."""
    if st.top_known == 0 or st.version == 0:
        return _R_UNKNOWN
    if st.version != order.instrument_version:
        return _R_OTHER_VERSION
    if st.state != _LIVE:
        return _R_NOT_LIVE
    if c.book_age_ns > 0 and order.ts_recv - st.ts > c.book_age_ns:
        tell(c, c.book_age_ns, order.ts_recv - st.ts)
        return _R_OLD
    if st.bid_qty <= 0 or st.ask_qty <= 0:
        return _R_UNKNOWN
    if st.bid >= st.ask:
        return _R_CROSSED
    return _R_UNKNOWN if st.mark <= 0 else 0


@jit
def check_price(c: Any, st: Any, order: Any) -> int:
    """Hold a limit price against the mid: |price - mid| <= mid x collar."""
    if c.collar_bp == 0 or order.order_type == _MARKET:
        return 0
    is_small = order.price < _SMALL and st.mark < 2 * _SMALL and st.price_up == 1
    if is_small and abs(2 * order.price - st.mark) * _BP <= st.mark * c.collar_bp:
        return 0
    far, limit = c.scratch + OBSERVED_AT, c.scratch + LIMIT_AT
    set_zero(far)
    set_zero(limit)
    failed = tr_wide_multiply_add(far, order.price, _TWICE * _BP * st.price_up)
    failed |= tr_wide_multiply_add(far, st.mark, -_BP)
    if load_word(far + 8) < 0:
        copy_wide(limit, far)
        set_zero(far)
        failed |= subtract_wide(far, limit)
        set_zero(limit)
    failed |= tr_wide_multiply_add(limit, st.mark, c.collar_bp)
    if failed:
        return _R_OVERFLOW
    return _R_COLLAR if is_above(far, limit) else 0


@jit
def check_rate(c: Any, rate: Any, ts: int) -> int:
    """Refuse where the account's last `rate_orders` accepted orders lie within the window."""
    if c.rate_orders == 0 or rate.accepted < c.rate_orders:
        return 0
    first = rate.ts[(rate.accepted - c.rate_orders) % RATE_PLACES]
    if ts - first < c.rate_window_ns:
        tell(c, c.rate_orders, c.rate_orders + 1)
        return _R_RATE
    return 0


@jit
def check_state(c: Any, row: Any, order: Any, qty: int, side: int) -> int:
    """Refuse all while HALTED, and what does not reduce the position while only that is allowed."""
    if c.trading_state == _HALTED:
        return _R_HALTED
    if c.trading_state == _REDUCING or order.instructions & _REDUCE_ONLY:
        standing = row.open_buy if side > 0 else row.open_sell
        if side * row.qty >= 0 or standing + qty > abs(row.qty):
            return _R_NOT_REDUCING
    return 0


@jit
def check_limits(c: Any, rows: Any, number: int, st: Any, qty: int, side: int) -> int:
    """Hold an order against every limit of its five scopes; `c.grows` says whether it lets the position grow."""
    row = rows[number]
    before = worst_qty(row.qty, row.open_buy, row.open_sell)
    if side > 0:
        after = worst_qty(row.qty, row.open_buy + qty, row.open_sell)
    else:
        after = worst_qty(row.qty, row.open_buy, row.open_sell + qty)
    c.grows = 1 if after > before else 0
    if after > QTY_LIMIT:
        return _R_OVERFLOW
    if _all_hold(c, rows, number, st, qty, after):
        return 0
    reason: int = _first_broken(c, rows, number, st, qty, after)
    return reason


@jit
def _all_hold(c: Any, rows: Any, number: int, st: Any, qty: int, after: int) -> bool:
    """Tell whether no limit is broken, as most often; which one is told by `_first_broken`."""
    row = rows[number]
    if qty > row.order_size:
        return False
    if c.grows == 0:
        return True
    if after > row.position_size or c.mixed:
        return False
    delta, total = c.scratch + DELTA_AT, c.scratch + _NEW
    failed = money_of(delta, after, st.mark, st.factor)
    failed |= subtract_wide(delta, c.rows + number * ROW_BYTES + EXPOSURE)
    more = 1 - row.counted
    for s in range(SCOPES):
        each = number if s == 0 else row.above[s - 1]
        scope = c.rows + each * ROW_BYTES
        copy_wide(total, delta)
        failed |= add_wide(total, scope + EXPOSURE)
        if failed or is_above(total, scope + _EXPOSURE_LIMIT):
            return False
        if load_word(scope + POSITIONS) + more > load_word(scope + _OPEN_LIMIT) and more:
            return False
        if is_above(scope + _LOSS_FLOOR, scope + PROFIT):
            return False
    return True


@jit
def _first_broken(c: Any, rows: Any, number: int, st: Any, qty: int, after: int) -> int:
    """Go through the limits one by one; return the reason of the first that is broken, 0 where none is."""
    row = rows[number]
    reason: int = _check_qty(c, rows, number, qty, row.qty_unit, _SIZE)
    if reason or c.grows == 0:
        return reason
    reason = _check_qty(c, rows, number, after, row.qty_unit, _POSITION)
    if reason:
        return reason
    reason = check_rates(c, rows, number)
    if reason:
        return reason
    reason = _check_exposure(c, rows, number, after, st)
    if reason == 0 and row.counted == 0:
        reason = _check_open(c, rows, number)
    if reason == 0:
        reason = _check_loss(c, rows, number)
    return reason


@jit(inline="always")
def _scope(row: Any, number: int, s: int) -> int:
    """Return the number of the row of scope `s` + 1 over a position."""
    found: int = number if s == 0 else row.above[s - 1]
    return found


@jit(inline="always")
def _has(row: Any, check: int) -> bool:
    holds: bool = (row.limits_set >> (check - 1)) & 1 == 1
    return holds


@jit(inline="always")
def _limit_of(c: Any, number: int, check: int) -> int:
    """Return the address of a limit."""
    address: int = c.rows + number * ROW_BYTES + LIMITS + 16 * (check - 1)
    return address


@jit
def _check_qty(c: Any, rows: Any, number: int, qty: int, unit: int, check: int) -> int:
    observed = c.scratch + OBSERVED_AT
    set_zero(observed)
    if tr_wide_multiply_add(observed, qty, unit):
        return _R_OVERFLOW
    for s in range(SCOPES):
        each = _scope(rows[number], number, s)
        if _has(rows[each], check) and is_above(observed, _limit_of(c, each, check)):
            copy_wide(c.scratch + LIMIT_AT, _limit_of(c, each, check))
            return 10 * check + s + 1
    return 0


@jit
def _check_exposure(c: Any, rows: Any, number: int, after: int, st: Any) -> int:
    delta, total = c.scratch + DELTA_AT, c.scratch + OBSERVED_AT
    failed = money_of(delta, after, st.mark, st.factor)
    failed |= subtract_wide(delta, c.rows + number * ROW_BYTES + EXPOSURE)
    for s in range(SCOPES):
        each = _scope(rows[number], number, s)
        changed = number if s == 0 else rows[number].money_rows[s - 1]
        copy_wide(total, c.rows + changed * ROW_BYTES + EXPOSURE)
        failed |= add_wide(total, delta)
        if failed:
            return _R_OVERFLOW
        if _has(rows[each], _EXPOSURE):
            failed |= total_of(c, rows, each, EXPOSURE, total, changed, 1)
            if failed:
                return _R_OVERFLOW
            limit = _limit_of(c, each, _EXPOSURE)
            if is_above(total, limit):
                copy_wide(c.scratch + LIMIT_AT, limit)
                return 10 * _EXPOSURE + s + 1
    return 0


@jit
def _check_open(c: Any, rows: Any, number: int) -> int:
    for s in range(SCOPES):
        each = _scope(rows[number], number, s)
        row = rows[each]
        if _has(row, _OPEN) and row.positions + 1 > row.limits[2 * (_OPEN - 1)]:
            tell(c, row.limits[2 * (_OPEN - 1)], row.positions + 1)
            return 10 * _OPEN + s + 1
    return 0


@jit
def _check_loss(c: Any, rows: Any, number: int) -> int:
    """A loss beyond its limit lets nothing grow any more."""
    loss, limit, profit = c.scratch + OBSERVED_AT, c.scratch + LIMIT_AT, c.scratch + _NEW
    for s in range(SCOPES):
        each = _scope(rows[number], number, s)
        if not _has(rows[each], _LOSS):
            continue
        floor = _limit_of(c, each, _LOSS)
        if total_of(c, rows, each, PROFIT, profit, NO_ROW, 0):
            return _R_OVERFLOW
        if is_above(floor, profit):
            set_zero(loss)
            set_zero(limit)
            if subtract_wide(loss, profit) or subtract_wide(limit, floor):
                return _R_OVERFLOW
            return 10 * _LOSS + s + 1
    return 0
