"""A sum over several currencies is never told too small: each currency's part is exact, then rounded once, against us.

**Protocol** Exposures are rounded up, profits down, to a half of 10**-18 of the base currency. Rates are those of the control
records: a number, or the mid of an instrument's book, which must be as good as a book to trade on: known, LIVE, young and not
crossed. Only the rates of currencies that the limits in force add up are asked for, the order's own among them.

**Why it is right** The parts are kept by adding each change, in their own currency: a rate that moves changes none of them.
"""

from typing import Any

from consumers.position import copy_wide, set_wide
from consumers.risk_money import EXPOSURE, PROFIT, ROW_BYTES, add_wide
from consumers.risk_state import (
    CURRENCIES,
    CURRENCY_RATE,
    IDS,
    INSTRUMENT_RISK,
    SCOPES,
    RateKind,
)
from layouts import Check, InstrumentState, RiskReason
from shm.njit import as_pointer, carray, jit, load_word, tr_wide_convert

_LIVE, _NUMBER, _NONE = int(InstrumentState.LIVE), int(RateKind.NUMBER), int(RateKind.NONE)
_R_CURRENCY, _R_UNKNOWN = int(RiskReason.OTHER_CURRENCY), int(RiskReason.RATE_UNKNOWN)
_R_NOT_LIVE, _R_OLD = int(RiskReason.RATE_NOT_LIVE), int(RiskReason.RATE_OLD)
_R_CROSSED = int(RiskReason.RATE_CROSSED)
_EXPOSURE_BIT, _LOSS_BIT = 1 << (int(Check.EXPOSURE) - 1), 1 << (int(Check.DAILY_LOSS) - 1)
DELTA_AT, LIMIT_AT, OBSERVED_AT = 16, 32, 48
"""Places in the scratch: what the order at hand adds, and of what refused the limit and what would have been."""
_PART_AT = 64


@jit
def check_rates(c: Any, rows: Any, number: int) -> int:
    """Hold the rates that the limits over a position need against what is known; return the reason of the first bad one."""
    row = rows[number]
    for s in range(1, SCOPES):
        whole = rows[row.above[s - 1]]
        part = whole.next_part - 1
        while part >= 0:
            if _is_asked(c, whole, part, row.money_rows[s - 1]):
                reason = find_rate(c, rows[part].currency)
                if reason:
                    c.lacking = rows[part].currency
                    return int(reason)
            part = rows[part].next_part - 1
    return 0


@jit
def _is_asked(c: Any, whole: Any, part: int, own: int) -> bool:
    """Tell whether a limit in force of a sum counts this part of it: it holds something, or is that of the order."""
    at = c.rows + part * ROW_BYTES
    exposure = whole.limits_set & _EXPOSURE_BIT
    loss = whole.limits_set & _LOSS_BIT
    asked: bool = (exposure != 0 and (part == own or _is_some(at + EXPOSURE))) or (
        loss != 0 and (part == own or _is_some(at + PROFIT))
    )
    return asked


@jit
def find_rate(c: Any, currency: int) -> int:
    """Find what a currency is converted by, price / unit; return why there is none."""
    rate = carray(as_pointer(c.currency_rates), (CURRENCIES,), CURRENCY_RATE)[currency]
    if rate.kind == _NONE:
        return _R_CURRENCY
    if rate.kind == _NUMBER:
        c.rate_price, c.rate_unit = rate.price, rate.unit
        return 0
    if rate.instrument_id == 0:
        return _R_UNKNOWN
    st = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)[rate.instrument_id]
    if st.top_known == 0 or st.version == 0:
        return _R_UNKNOWN
    if st.state != _LIVE:
        return _R_NOT_LIVE
    if c.rate_age_ns > 0 and c.ts_asked - st.ts > c.rate_age_ns:
        tell(c, c.rate_age_ns, c.ts_asked - st.ts)
        return _R_OLD
    if st.bid_qty <= 0 or st.ask_qty <= 0 or st.bid + st.ask <= 0:
        return _R_UNKNOWN
    if st.bid >= st.ask:
        return _R_CROSSED
    c.rate_price, c.rate_unit = st.bid + st.ask, 2
    for _ in range(st.price_scale):
        c.rate_unit *= 10
    return 0


@jit
def total_of(c: Any, rows: Any, each: int, field: int, to: int, changed: int, up: int) -> int:
    """Put a sum in the base currency at `to`, with the order's delta added to row `changed`; 1: it does not fit."""
    delta, part = c.scratch + DELTA_AT, c.scratch + _PART_AT
    copy_wide(to, c.rows + each * ROW_BYTES + field)
    failed = add_wide(to, delta) if changed == each else 0
    number = rows[each].next_part - 1
    while number >= 0:
        copy_wide(part, c.rows + number * ROW_BYTES + field)
        if changed == number:
            failed |= add_wide(part, delta)
        if _is_some(part):
            failed |= 1 if find_rate(c, rows[number].currency) else 0
            failed |= 1 if tr_wide_convert(to, part, c.rate_price, c.rate_unit, up) else 0
        number = rows[number].next_part - 1
    return int(failed)


@jit
def tell(c: Any, limit: int, observed: int) -> None:
    """Note two numbers at or above 0 as what refused."""
    set_wide(c.scratch + LIMIT_AT, limit, 0)
    set_wide(c.scratch + OBSERVED_AT, observed, 0)


@jit(inline="always")
def _is_some(address: int) -> bool:
    """Tell whether a wide number is not 0."""
    some: bool = (load_word(address) | load_word(address + 8)) != 0
    return some
