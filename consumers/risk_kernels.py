"""The risk kernel: each ORDER, CANCEL and FILL becomes one decision, with what was known when it was made.

**Protocol** `decide(context, records, n, rows)` takes addresses, as the features kernel does: it applies records from
`context.next_record` on, writes one RISK_DECISION each and returns how many; `context.request` says why it stopped short,
and nothing was applied of the record it stopped at.

**Outcomes** ORDER: ACCEPTED, or REJECTED with the first reason of `consumers.risk_checks`. CANCEL: CANCEL_PASSED, always;
what it frees is free at once. FILL: FILL_BOOKED, always (`consumers.risk_booking`). OPENING: OPENED
(`consumers.risk_opening`). A clock that goes back: rates and days go
by the newest time seen.

**Cost** bench_risk_kernel.
"""

from typing import Any

import numpy as np

from consumers.position import copy_wide
from consumers.risk_booking import (
    NOT_THERE,
    STATE_SCALE,
    cancel,
    fill,
    find_order,
    side_of,
    stand,
)
from consumers.risk_checks import (
    check_book,
    check_limits,
    check_price,
    check_rate,
    check_state,
    check_terms,
)
from consumers.risk_conversion import LIMIT_AT, OBSERVED_AT
from consumers.risk_money import set_zero
from consumers.risk_state import (
    CONTEXT,
    CURRENCIES,
    CURRENCY_RATE,
    IDS,
    INSTRUMENT_RISK,
    MONEY_DIGITS,
    NO_ROW,
    NS_PER_DAY,
    QTY_LIMIT,
    RATE,
    SCOPE_ROW,
    Request,
)
from layouts import (
    ORDER,
    RISK_DECISION,
    Instruction,
    Kind,
    Mark,
    Opening,
    RiskReason,
    Scope,
    Verdict,
)
from shm.njit import (
    as_pointer,
    carray,
    jit,
    tr_wide_multiply,
)

_ORDER, _CANCEL, _FILL = int(Kind.ORDER), int(Kind.CANCEL), int(Kind.FILL)
_OPENING, _OPENED, _STANDS = int(Kind.OPENING), int(Verdict.OPENED), int(Opening.STANDS)
_DECISION, _FINAL = int(Kind.RISK_DECISION), int(Instruction.FINAL)
_BUY, _SELL, _SIDES = int(Mark.BUY), int(Mark.SELL), int(Mark.SIDE_MASK)
_ACCEPTED, _REJECTED = int(Verdict.ACCEPTED), int(Verdict.REJECTED)
_PASSED, _BOOKED = int(Verdict.CANCEL_PASSED), int(Verdict.FILL_BOOKED)
_NOTHING, _NEW_DAY = int(Request.NOTHING), int(Request.NEW_DAY)
_NEW_POSITION, _NEW_SCALES = int(Request.NEW_POSITION), int(Request.NEW_SCALES)
_TAKE_OPENING = int(Request.OPENING)
_R_UNKNOWN_INSTRUMENT = int(RiskReason.UNKNOWN_INSTRUMENT)
_R_UNKNOWN_ORDER, _R_TOO_MANY = int(RiskReason.UNKNOWN_ORDER), int(RiskReason.TOO_MANY_ORDERS)
_R_OVERFLOW, _R_CURRENCY = int(RiskReason.OVERFLOW), int(RiskReason.OTHER_CURRENCY)
_R_COLLAR = int(RiskReason.PRICE_COLLAR)
_R_RATE_FIRST, _R_RATE_LAST = int(RiskReason.RATE_UNKNOWN), int(RiskReason.RATE_CROSSED)
_SCOPE_INSTRUMENT, _SCOPE_CURRENCY = int(Scope.INSTRUMENT), int(Scope.CURRENCY)
_ORDER_BYTES, _DECISION_BYTES = ORDER.itemsize, RISK_DECISION.itemsize
_MANY = 1 << 40
_CLIENT_WORDS, _CURRENCY_WORDS = 5, 2
_ORDER_CLIENT = ORDER.fields["client_order_id"][1] // 8  # type: ignore[index]
_ORDER_CURRENCY = ORDER.fields["quote_currency"][1] // 8  # type: ignore[index]
_ROW_CLIENT = RISK_DECISION.fields["client_order_id"][1] // 8  # type: ignore[index]
_ROW_CURRENCY = RISK_DECISION.fields["currency"][1] // 8  # type: ignore[index]
_ROW_LIMIT = RISK_DECISION.fields["limit_low"][1]  # type: ignore[index]
_ROW_OBSERVED = RISK_DECISION.fields["observed_low"][1]  # type: ignore[index]
_MONEY_OF_HALVES = 5
"""A half of 10**-18 is five of 10**-19: the scale at which a row tells money."""


@jit
def decide(context: int, records: int, n: int, rows: int) -> int:
    """Apply `n` ORDER records (address) to the CONTEXT at an address; write RISK_DECISION rows; return how many."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    orders = carray(as_pointer(records), (n,), ORDER)
    instruments = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)
    scopes = carray(as_pointer(c.rows), (_MANY,), SCOPE_ROW)
    out = carray(as_pointer(rows), (n,), RISK_DECISION)
    c.request = _NOTHING
    written = 0
    at = c.next_record
    while at < n:
        order = orders[at]
        if order.kind in (_ORDER, _CANCEL, _FILL, _OPENING):
            st = instruments[order.instrument_id]
            number = find_row(scopes, st, order.account)
            if not _is_served(c, st, order, number):
                c.request_id, c.request_row = order.instrument_id, at
                break
            row = out[written]
            _begin(c, row, order, records + at * _ORDER_BYTES, rows + written * _DECISION_BYTES, st)
            if order.kind == _ORDER:
                _judge(c, scopes, st, number, order, row, rows + written * _DECISION_BYTES)
            elif order.kind == _CANCEL:
                cancel(c, scopes, order, row)
            elif order.kind == _OPENING:
                row.verdict, row.reason, c.opened = _OPENED, c.refusal, 0
                row.order_id = order.order_id if order.reason == _STANDS else 0
            else:
                fill(c, scopes, st, number, order, row)
            row.trading_state, row.orders_open = c.trading_state, c.orders_open
            c.refusal = 0
            written += 1
        at += 1
    c.next_record = at if at < n else 0
    return written


@jit
def find_row(scopes: Any, st: Any, account: int) -> int:
    """Return the row of an account's position in an instrument, NO_ROW where there is none."""
    number: int = st.first_row - 1
    while number >= 0 and scopes[number].account != account:
        number = scopes[number].next_row - 1
    return number


@jit
def _is_served(c: Any, st: Any, order: Any, number: int) -> bool:
    """Ask for what is missing to judge a record; False: the caller has to serve it first."""
    if order.kind == _CANCEL or c.refusal:
        return True
    if order.kind == _OPENING:
        if c.opened == 0:
            c.request = _TAKE_OPENING
        return bool(c.opened)
    day = order.ts_recv // NS_PER_DAY
    if day > c.day:
        c.request, c.request_version = _NEW_DAY, day
        return False
    is_fill = order.kind == _FILL
    if not is_fill and st.seen == 0:
        return True
    other = is_fill and order.instrument_version not in (st.version, STATE_SCALE)
    if st.factor == 0 or other:
        c.request = _NEW_SCALES
        return False
    if number < 0:
        c.request = _NEW_POSITION
        return False
    return True


@jit
def _begin(c: Any, row: Any, order: Any, record: int, address: int, st: Any) -> None:
    """Fill what every decision tells of its cause."""
    old = carray(as_pointer(record), (_ORDER_BYTES // 8,), np.int64)
    new = carray(as_pointer(address), (_DECISION_BYTES // 8,), np.int64)
    for i in range(_DECISION_BYTES // 8):
        new[i] = 0
    for i in range(_CLIENT_WORDS):
        new[_ROW_CLIENT + i] = old[_ORDER_CLIENT + i]
    seq = (order.stamp - 2) >> 1
    c.applied[c.source] = seq
    for i in range(8):
        row.applied_seq[i] = c.applied[i]
    c.decisions += 1
    row.ts_event, row.ts_recv = order.ts_event, order.ts_recv
    row.instrument_id, row.kind = order.instrument_id, _DECISION
    row.marks = (order.marks & _SIDES) | st.state
    row.source_epoch, row.source_seq, row.source_count = c.epoch, seq, 1
    row.decision_no, row.order_id, row.account = c.decisions, order.order_id, order.account
    row.cause_kind, row.input = order.kind, c.source
    if order.ts_recv < c.ts:
        c.clock_back += 1
    c.ts = max(c.ts, order.ts_recv)


@jit
def _judge(c: Any, scopes: Any, st: Any, number: int, order: Any, row: Any, address: int) -> None:
    """Decide on an ORDER."""
    set_zero(c.scratch + LIMIT_AT)
    set_zero(c.scratch + OBSERVED_AT)
    side = side_of(order)
    reason = check_terms(order, side)
    if reason == 0 and c.refusal:
        reason = c.refusal
    if reason == 0 and (number == NO_ROW or st.seen == 0):
        reason = _R_UNKNOWN_INSTRUMENT
    place = NOT_THERE
    if reason == 0:
        qty = order.qty * st.qty_up
        reason = check_order(c, scopes, st, number, order, qty, side)
        if reason == 0:
            place = find_order(c, order.order_id, True)
            reason = 0 if place >= 0 else _R_TOO_MANY
    if reason:
        c.orders_rejected += 1
        row.verdict, row.reason = _REJECTED, reason
        _tell(c, scopes, number, row, address, order, reason, st.price_scale)
        return
    stand(c, scopes, number, order, order.qty * st.qty_up, side, place)
    c.orders_accepted += 1
    row.verdict = _ACCEPTED


@jit
def check_order(c: Any, scopes: Any, st: Any, number: int, order: Any, qty: int, side: int) -> int:
    """Run the checks in their order; return the first reason."""
    if qty > QTY_LIMIT or (st.qty_up > 1 and qty // st.qty_up != order.qty):
        return _R_OVERFLOW
    reason = check_state(c, scopes[number], order, qty, side)
    if reason == 0:
        reason = check_book(c, st, order)
    if reason == 0:
        reason = check_price(c, st, order)
    if reason == 0:
        rates = carray(as_pointer(c.rates), (_MANY,), RATE)
        reason = check_rate(c, rates[order.account], c.ts)
    if reason == 0:
        c.ts_asked = order.ts_recv
        reason = check_limits(c, scopes, number, st, qty, side)
    return int(reason)


@jit
def _tell(
    c: Any,
    scopes: Any,
    number: int,
    row: Any,
    address: int,
    order: Any,
    reason: int,
    price_scale: int,
) -> None:
    """Fill in what was allowed and what would have been."""
    check, scope = reason // 10, reason % 10
    copy_wide(address + _ROW_LIMIT, c.scratch + LIMIT_AT)
    copy_wide(address + _ROW_OBSERVED, c.scratch + OBSERVED_AT)
    if reason == _R_CURRENCY or _R_RATE_FIRST <= reason <= _R_RATE_LAST:
        rates = carray(as_pointer(c.currency_rates), (CURRENCIES,), CURRENCY_RATE)
        row.currency = rates[c.lacking].name
    if reason == _R_COLLAR:
        # 20,000ths of the distance from the mid, in steps of the price: five times as many are decimals of it.
        tr_wide_multiply(address + _ROW_LIMIT, 5)
        tr_wide_multiply(address + _ROW_OBSERVED, 5)
        row.value_scale, row.currency = price_scale + 5, order.quote_currency
    if not 1 <= check <= 5:
        return
    each = number if scope == 1 else scopes[number].above[scope - 2]
    row.scope, row.scope_id = scope, scopes[each].scope_id
    if check in (1, 2):
        row.value_scale = MONEY_DIGITS
    elif check in (3, 5):
        row.value_scale = MONEY_DIGITS + 1
        tr_wide_multiply(address + _ROW_LIMIT, _MONEY_OF_HALVES)
        tr_wide_multiply(address + _ROW_OBSERVED, _MONEY_OF_HALVES)
        if scope in (_SCOPE_INSTRUMENT, _SCOPE_CURRENCY):
            row.currency = order.quote_currency
        else:
            row.currency = c.base_currency
