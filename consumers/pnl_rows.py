"""What a position is worth at its instrument's mark, and the POSITION row that tells it.

**Why it is right** Value, cost and carried are exact integers at one scale; a mark that is not to be believed is still
used, and its fault is in the row. Nothing is written but the row, `work` and `scratch`.
"""

from typing import Any

from consumers.pnl_state import CONTEXT, NEVER, NOBODY, POSITION_WORDS
from consumers.position import POSITION_STATE, average_price, begin_day, set_wide, unrealised
from layouts import InstrumentState, Kind
from layouts.position import MarkKind, PositionFault
from shm.njit import as_pointer, carray, jit

_POSITION, _LIVE, _MID = int(Kind.POSITION), int(InstrumentState.LIVE), int(MarkKind.MID)
_OVERFLOW, _NO_MARK = int(PositionFault.OVERFLOW), int(PositionFault.NO_MARK)
_STALE, _CROSSED = int(PositionFault.MARK_STALE), int(PositionFault.MARK_CROSSED)
_INT_MAX = (1 << 63) - 1
_SCRATCH = int(CONTEXT.fields["scratch"][1])  # type: ignore[index]


@jit
def mark_of(c: Any, m: Any, st: Any) -> Any:
    """Return the mark of a position at its mark_scale, and what is to be known of it."""
    by_mid = c.mark_kind == _MID
    known = m.has_mid if by_mid else m.has_last
    if known == 0 or st.mark_unit == 0:
        return 0, _NO_MARK
    price = m.mid_twice if by_mid else m.last
    unit = st.mark_unit // 2 if by_mid else st.mark_unit
    if abs(price) > _INT_MAX // unit:
        return 0, _NO_MARK | _OVERFLOW
    faults = 0
    if m.state != _LIVE or m.believed == 0 or (by_mid and m.lacks_side):
        faults |= _STALE
    if by_mid and m.crossed:
        faults |= _CROSSED
    return price * unit, faults


@jit
def roll(context: int, c: Any, m: Any, st: Any, position: int, day: int) -> None:
    """Begin a day of a position: what is unrealised at the mark of before is carried over."""
    mark, faults = mark_of(c, m, st)
    if faults & _NO_MARK:
        set_wide(context + _SCRATCH, 0, 0)
    else:
        unrealised(position, mark, context + _SCRATCH)
    begin_day(position, day, context + _SCRATCH)
    st.ts_row, st.faults_row = NEVER, -1


@jit
def is_due(c: Any, m: Any, st: Any, ts: int) -> int:
    """1 where a position is held or watched, its mark or faults are news, and the pause is over, whichever way the clock
    went.
    """
    if (st.qty == 0 and st.account != NOBODY) or (
        st.ts_row != NEVER and abs(ts - st.ts_row) < c.pause_ns
    ):
        return 0
    mark, faults = mark_of(c, m, st)
    return 1 if mark != st.mark_row or (faults | st.faults) != st.faults_row else 0


@jit
def write_row(
    context: int,
    c: Any,
    m: Any,
    cause: Any,
    position: int,
    index: int,
    count: int,
    late: int,
    at: int,
) -> None:
    """Write the POSITION row (address) of a position (address) after `cause`, its row `index` of `count`."""
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    row = carray(as_pointer(at), (1,), POSITION_WORDS)[0]
    row.stamp, row.publish_delta_ns = 0, 0
    row.ts_event, row.ts_recv = cause.ts_event, cause.ts_recv
    row.instrument_id, row.kind, row.marks = cause.instrument_id, _POSITION, cause.marks
    row.source_epoch, row.source_seq = c.epoch, c.applied[c.source]
    row.source_index, row.source_count = index, count
    for i in range(len(c.applied)):
        row.applied_seq[i] = c.applied[i]
    mark, faults = mark_of(c, m, st)
    st.mark_row, st.faults_row = mark, faults | st.faults
    if faults & _NO_MARK:
        set_wide(context + _SCRATCH, 0, 0)
    elif unrealised(position, mark, context + _SCRATCH):
        faults |= _OVERFLOW
    if average_price(position, context + _SCRATCH + 16):
        faults |= _OVERFLOW
    row.unrealised_low, row.unrealised_high = c.scratch[0], c.scratch[1]
    row.average_price, row.mark_price = c.scratch[2], mark
    row.mark_kind = 0 if faults & _NO_MARK else c.mark_kind
    row.faults = faults | st.faults | late
    row.qty, row.multiplier, row.lots = st.qty, st.multiplier, st.lots
    row.cost_low, row.cost_high = st.cost[0], st.cost[1]
    row.realised_low, row.realised_high = st.realised[0], st.realised[1]
    row.fees_low, row.fees_high = st.fees[0], st.fees[1]
    row.realised_total_low, row.realised_total_high = st.realised_total[0], st.realised_total[1]
    row.fees_total_low, row.fees_total_high = st.fees_total[0], st.fees_total[1]
    row.carried_low, row.carried_high = st.carried[0], st.carried[1]
    row.day_no, row.fills, row.instrument_version = max(st.day, 0), st.fills, st.version
    row.account, row.method = st.account, c.method
    row.price_scale, row.qty_scale, row.mark_scale = st.price_scale, st.qty_scale, st.mark_scale
    row.multiplier_scale = st.multiplier_scale
    row.money_scale = st.mark_scale + st.qty_scale + st.multiplier_scale
    for i in range(2):
        row.quote_currency[i] = st.quote_currency[i]
