"""The P&L kernels: a batch of fills or of events becomes the POSITION rows that it causes.

**Protocol** As in consumers.feature_kernels: addresses in, rows out; `context.request` says what the caller has to
serve before the call goes on, and nothing was applied of the record it stopped at. A request that cannot be served
comes back as `denied`, and the record is refused and counted.

A FILL causes one row, and so does the last OPENING of a position. An event causes a row of each position of its instrument
at the end of its frame, where the mark or its faults differ from those of the position's last row and `pause_ns` of
ts_event have gone by since.

**Why it is right** A row is a function of the fills and of the events of its instrument in the order they were
applied, which `applied_seq` tells. A QUOTE is the top of the collector's own book after a frame, so a mark needs no
second book. A day begins with the first fill, quote or trade of a later day. What is of an earlier day counts into the
running one; but a fill from more than a day before shows that a clock had been wrong, and the day goes back.
"""

from typing import Any

import numpy as np

from consumers.pnl_rows import is_due, roll, write_row
from consumers.pnl_state import (
    CONTEXT,
    FILL_WORDS,
    IDS,
    MARK_STATE,
    NEVER,
    NOBODY,
    POSITION_WORDS,
    PRICE_END,
    TAKEN,
    Request,
)
from consumers.position import LOT, POSITION_STATE, book_fee, book_fill
from layouts import EVENT, Kind, Mark, Opening
from layouts.position import MarkKind, PositionFault
from shm.njit import as_pointer, carray, jit

_FILL, _QUOTE, _TRADE = int(Kind.FILL), int(Kind.QUOTE), int(Kind.TRADE)
_BEGIN, _END, _STATE = int(Kind.SNAPSHOT_BEGIN), int(Kind.SNAPSHOT_END), int(Kind.STATE)
_RESTART = int(Kind.RESTART)
_BUY, _SIDES, _LATE_PRINT = int(Mark.BUY), int(Mark.SIDE_MASK), int(Mark.LATE)
_STATE_MASK, _LAST_IN_FRAME = int(Mark.STATE_MASK), int(Mark.LAST_IN_FRAME)
_NOTHING, _NEW_INSTRUMENT = int(Request.NOTHING), int(Request.NEW_INSTRUMENT)
_NEW_VERSION, _NEW_POSITION = int(Request.NEW_VERSION), int(Request.NEW_POSITION)
_WIDER_SCALES, _TAKE_OPENING = int(Request.WIDER_SCALES), int(Request.OPENING)
_OPENING, _POSITION = int(Kind.OPENING), int(Opening.POSITION)
_MID = int(MarkKind.MID)
_OVERFLOW = int(PositionFault.OVERFLOW)
_FEE_CURRENCY, _LATE = int(PositionFault.FEE_CURRENCY), int(PositionFault.LATE)
_MERGED = int(PositionFault.LOTS_MERGED)

_DAY_NS = 86_400 * 10**9
_INT_MAX = (1 << 63) - 1
_TOO_WIDE = -(1 << 63)
_ASKED = -1
_MANY = 1 << 40
_POWERS = np.array([10**n for n in range(19)], np.int64)
_ROW_BYTES = POSITION_WORDS.itemsize
_POSITION_BYTES, _LOT_BYTES = POSITION_STATE.itemsize, LOT.itemsize


@jit
def process_fills(context: int, records: int, n: int, rows: int) -> int:
    """Apply `n` ORDER records (address); write POSITION rows (address), one for each FILL; return how many."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    fills = carray(as_pointer(records), (n,), FILL_WORDS)
    c.request = _NOTHING
    written, at = 0, c.next_record
    while at < n:
        fill = fills[at]
        c.applied[c.source] = (fill.stamp - 2) >> 1
        if fill.kind == _FILL:
            done = _take_fill(context, c, fill, rows + written * _ROW_BYTES)
            if done < 0:
                break
            written += done
        elif fill.kind == _OPENING:
            if c.denied == 0:
                _ask(c, _TAKE_OPENING, fill.instrument_id)
                break
            if fill.reason == _POSITION and c.denied == TAKEN:
                _write_opened(context, c, fill, rows + written * _ROW_BYTES)
                written += 1
        c.denied = 0
        at += 1
    c.next_record = at if at < n else 0
    return written


@jit
def _write_opened(context: int, c: Any, fill: Any, row: int) -> None:
    """Write the row of a position that was brought over from the run before."""
    index = carray(as_pointer(c.index), (IDS,), np.int32)
    m = carray(as_pointer(c.marks), (_MANY,), MARK_STATE)[index[fill.instrument_id]]
    place = c.positions + _find(c, m, fill.account) * _POSITION_BYTES
    write_row(context, c, m, fill, place, 0, 1, 0, row)


@jit
def process_events(context: int, records: int, n: int, rows: int) -> int:
    """Apply `n` EVENT records (address); write the POSITION rows (address) that they cause; return how many."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    events = carray(as_pointer(records), (n,), EVENT)
    index = carray(as_pointer(c.index), (IDS,), np.int32)
    marks = carray(as_pointer(c.marks), (_MANY,), MARK_STATE)
    c.request = _NOTHING
    written, at = 0, c.next_record
    while at < n:
        event = events[at]
        c.applied[c.source] = (event.stamp - 2) >> 1
        number = index[event.instrument_id]
        if event.instrument_id == 0:
            if event.kind == _RESTART:
                _disbelieve(c, marks, index)
        elif number < 0:
            c.request, c.request_id = _NEW_INSTRUMENT, event.instrument_id
            break
        else:
            m = marks[number]
            if event.kind in (_BEGIN, _END, _STATE) and 0 < event.word_2 != m.version:
                c.request, c.request_id = _NEW_VERSION, event.instrument_id
                c.request_version = event.word_2
                break
            if m.position >= 0 and event.kind in (_QUOTE, _TRADE):
                _roll_days(context, c, m, event.ts_event)
            _follow(c, m, event)
            if m.position >= 0 and event.marks & _LAST_IN_FRAME:
                written += _value(context, c, m, event, rows + written * _ROW_BYTES)
        at += 1
    c.next_record = at if at < n else 0
    return written


@jit
def _disbelieve(c: Any, marks: Any, index: Any) -> None:
    """A producer died: what its instruments' markets are is not known until their next quote or trade."""
    for instrument_id in range(1, IDS):
        number = index[instrument_id]
        if number >= 0 and marks[number].source == c.source:
            marks[number].believed = 0


@jit
def _follow(c: Any, m: Any, event: Any) -> None:
    """Take a record into what is known of its instrument's market."""
    m.source = c.source
    m.state = event.marks & _STATE_MASK
    if event.kind == _QUOTE:
        bid, ask = event.word_0, event.word_2
        m.lacks_side = 0 if event.word_1 > 0 and event.word_3 > 0 else 1
        m.crossed = 0
        if m.lacks_side:
            c.quotes_one_sided += 1
        elif abs(bid) >= PRICE_END or abs(ask) >= PRICE_END:
            c.prices_refused += 1
            m.believed = 0
        elif bid >= ask:
            c.quotes_crossed += 1
            m.crossed = 1
        else:
            m.mid_twice, m.has_mid = bid + ask, 1
            if c.mark_kind == _MID:
                m.believed = 1
    elif event.kind == _TRADE and event.marks & _LATE_PRINT == 0:
        if event.word_1 <= 0 or abs(event.word_0) >= PRICE_END:
            c.prices_refused += 1
        else:
            m.last, m.has_last = event.word_0, 1
            if c.mark_kind != _MID:
                m.believed = 1


@jit
def _roll_days(context: int, c: Any, m: Any, ts: int) -> None:
    """Begin a day of each position of an instrument if an event at `ts` is of a later one."""
    positions = carray(as_pointer(c.positions), (_MANY,), POSITION_STATE)
    day = (ts - c.day_start_ns) // _DAY_NS
    number = m.position
    while number >= 0:
        st = positions[number]
        if NEVER < st.day < day:
            roll(context, c, m, st, c.positions + number * _POSITION_BYTES, day)
        number = st.next


@jit
def _value(context: int, c: Any, m: Any, event: Any, rows: int) -> int:
    """Write a row for each position of an instrument that is due for one; return how many."""
    positions = carray(as_pointer(c.positions), (_MANY,), POSITION_STATE)
    count, number = 0, m.position
    while number >= 0:
        count += is_due(c, m, positions[number], event.ts_event)
        number = positions[number].next
    index, number = 0, m.position
    while index < count:
        st = positions[number]
        if is_due(c, m, st, event.ts_event):
            place = c.positions + number * _POSITION_BYTES
            write_row(context, c, m, event, place, index, count, 0, rows + index * _ROW_BYTES)
            st.ts_row = event.ts_event
            index += 1
        number = st.next
    return count


@jit
def _is_sound(fill: Any) -> bool:
    """Tell whether a FILL says what was traded."""
    sides = fill.marks & _SIDES
    return bool(
        fill.qty > 0
        and 0 < sides < _SIDES
        and fill.instrument_id > 0
        and fill.multiplier > 0
        and abs(fill.price) < PRICE_END
        and fill.account != NOBODY
        and abs(fill.fee) < PRICE_END
    )


@jit
def _find(c: Any, m: Any, account: int) -> int:
    positions = carray(as_pointer(c.positions), (_MANY,), POSITION_STATE)
    number = m.position
    while number >= 0 and positions[number].account != account:
        number = positions[number].next
    return int(number)


@jit
def _take_fill(context: int, c: Any, fill: Any, row: int) -> int:
    """Book a FILL and write its row; return the rows written, or -1: the request has to be served first."""
    if not _is_sound(fill):
        c.fills_refused += 1
        return 0
    index = carray(as_pointer(c.index), (IDS,), np.int32)
    number = index[fill.instrument_id]
    if number < 0:
        _ask(c, _NEW_INSTRUMENT, fill.instrument_id)
        return _ASKED
    m = carray(as_pointer(c.marks), (_MANY,), MARK_STATE)[number]
    found = _find(c, m, fill.account)
    if found < 0 and c.denied == 0:
        _ask(c, _NEW_POSITION, fill.instrument_id)
        return _ASKED
    if found < 0:
        c.fills_refused += 1
        return 0
    position = c.positions + found * _POSITION_BYTES
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    if not _same_words(st.quote_currency, fill.quote_currency):
        c.fills_refused += 1
        return 0
    if c.denied == 0 and _is_wider(st, fill):
        _ask(c, _WIDER_SCALES, fill.instrument_id)
        return _ASKED
    late = _enter_day(context, c, m, st, position, (fill.ts_event - c.day_start_ns) // _DAY_NS)
    lots = c.lots + found * c.room * _LOT_BYTES
    if c.denied == 0 and _book(c, st, fill, position, lots):
        c.fills_booked += 1
        c.fills_unmarked += m.source < 0
        c.fills_late += late
    else:
        c.fills_too_wide += 1
        st.faults |= _OVERFLOW
    write_row(context, c, m, fill, position, 0, 1, _LATE if late else 0, row)
    return 1


@jit
def _ask(c: Any, request: int, instrument_id: int) -> None:
    c.request, c.request_id = request, instrument_id


@jit
def _same_words(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and a[1] == b[1])


@jit
def _is_wider(st: Any, fill: Any) -> bool:
    """Tell whether a fill has more decimals than its position; a fee counts where it is of the quote currency."""
    if fill.price_scale > st.price_scale or fill.qty_scale > st.qty_scale:
        return True
    if fill.multiplier_scale > st.multiplier_scale:
        return True
    if fill.fee == 0 or not _same_words(fill.fee_currency, fill.quote_currency):
        return False
    return bool(fill.fee_scale > st.mark_scale + st.qty_scale + st.multiplier_scale)


@jit
def _enter_day(context: int, c: Any, m: Any, st: Any, position: int, day: int) -> int:
    """Bring a position to the day of a fill; 1 where the fill is of the day before."""
    if st.day == NEVER:
        st.day = day
    elif day > st.day:
        roll(context, c, m, st, position, day)
    elif day < st.day - 1:
        c.days_back += 1
        roll(context, c, m, st, position, day)
    return 1 if day < st.day else 0


@jit
def _scaled(value: int, digits: int) -> int:
    """Return value x 10**digits, _TOO_WIDE where that is no int64."""
    if value == 0 or digits == 0:
        return value
    if digits > 18 or abs(value) > _INT_MAX // _POWERS[digits]:
        return _TOO_WIDE
    return int(value * _POWERS[digits])


@jit
def _book(c: Any, st: Any, fill: Any, position: int, lots: int) -> bool:
    """Book fee and fill at the position's scales, both or, False, neither."""
    price = _scaled(fill.price, st.mark_scale - fill.price_scale)
    qty = _scaled(fill.qty, st.qty_scale - fill.qty_scale)
    multiplier = _scaled(fill.multiplier, st.multiplier_scale - fill.multiplier_scale)
    if _TOO_WIDE in (price, qty, multiplier):
        return False
    fee, unit = 0, 1
    ours = _same_words(fill.fee_currency, fill.quote_currency)
    if fill.fee != 0 and ours:
        digits = st.mark_scale + st.qty_scale + st.multiplier_scale - fill.fee_scale
        fee, unit = _scaled(fill.fee, max(0, digits - 18)), _POWERS[min(digits, 18)]
    if fee == _TOO_WIDE or book_fee(position, fee, unit):
        return False
    side = 1 if fill.marks & _BUY else -1
    merged = st.faults & _MERGED
    if book_fill(position, lots, c.room, side, price, qty, multiplier):
        book_fee(position, -fee, unit)
        return False
    if fill.fee != 0 and not ours:
        c.fees_elsewhere += 1
        st.faults |= _FEE_CURRENCY
    if merged == 0 and st.faults & _MERGED:
        c.lots_merged += 1
    st.fills += 1
    st.version = fill.instrument_version
    return True
