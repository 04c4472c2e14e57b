"""The bars kernel: one jitted call takes a batch of EVENT records to the BAR rows of all series that they close.

**Protocol** `process(context, records, n, rows)` takes addresses. It applies records from `context.next_record` on and
returns how many rows it wrote; `context.request` then says why it stopped short, if it did: an instrument, a version or a
session it does not know, or rows that would not fit any more. The caller serves the request, or takes the rows away, and
calls again: nothing was applied of the record it stopped at, but for a HEARTBEAT, which goes on with `context.next_state`.

**Why it is right** Rows depend on the order of one instrument's records and of its input's HEARTBEATs, and on their stamps.
No clock is read.

**Cost** bench_bars_kernel.
"""

from typing import Any

import numpy as np

from consumers.bar_acc import (
    add_print,
    clear,
    is_full,
    learn_imbalance,
    write_cause,
    write_row,
)
from consumers.bar_state import (
    ACC,
    BAR_CONTEXT,
    BAR_STATE,
    CLOCK_BACK_PRINTS,
    NEW_INSTRUMENT,
    NEW_VERSION,
    NO_TIME,
    NOTHING,
    QTY_LIMIT,
    ROWS_FULL,
    SERIES,
    TS_LIMIT,
)
from consumers.bar_windows import begin_windows, close_until, end_all, session_frames, session_known
from layouts import BAR, EVENT
from layouts.bar import BarFlag, BarKind
from layouts.event import GapReason
from layouts.header import Kind, Mark
from shm.njit import as_pointer, carray, jit

_TRADE, _GAP, _HEARTBEAT, _RESTART = (
    int(kind) for kind in (Kind.TRADE, Kind.GAP, Kind.HEARTBEAT, Kind.RESTART)
)
_BEGIN, _END, _STATE = int(Kind.SNAPSHOT_BEGIN), int(Kind.SNAPSHOT_END), int(Kind.STATE)
_BUY, _SELL = int(Mark.BUY), int(Mark.SELL)
_LATE, _VOLUME_ONLY = int(Mark.LATE), int(Mark.VOLUME_ONLY)
_STATE_MASK = int(Mark.STATE_MASK)
_CHECKSUM = int(GapReason.CHECKSUM)
_PARTIAL, _GAP_FLAG = int(BarFlag.PARTIAL), int(BarFlag.GAP)
_SATURATED, _CLOCK_BACK = int(BarFlag.SATURATED), int(BarFlag.CLOCK_BACK)
_SESSION, _DOLLAR = int(BarKind.SESSION), int(BarKind.DOLLAR)
_VOLUME, _IMBALANCE = int(BarKind.VOLUME), int(BarKind.IMBALANCE)
_IDS = 1 << 16
_MANY = 1 << 40


@jit
def process(context: int, records: int, n: int, rows: int) -> int:
    """Apply `n` EVENT records (address) to the BAR_CONTEXT at an address; write BAR rows (address); return how many."""
    c = carray(as_pointer(context), (1,), BAR_CONTEXT)[0]
    events = carray(as_pointer(records), (n,), EVENT)
    out = carray(as_pointer(rows), (c.rows_room,), BAR)
    index = carray(as_pointer(c.index), (_IDS,), np.int32)
    states = carray(as_pointer(c.states), (_MANY,), BAR_STATE)
    c.request = NOTHING
    written = 0
    at = c.next_record
    while at < n:
        event = events[at]
        kind = event.kind
        if kind == _TRADE:
            number = index[event.instrument_id]
            if number < 0:
                c.request, c.request_id = NEW_INSTRUMENT, event.instrument_id
                break
            if written + c.most_step_rows > c.rows_room:
                c.request = ROWS_FULL
                break
            done = _take_trade(c, states[number], number, event, out, written)
            if done < 0:
                break
            written = done
        elif kind == _HEARTBEAT:
            written = _take_beat(c, states, event, out, written)
            if c.request != NOTHING:
                break
        elif kind in (_GAP, _RESTART):
            if kind == _RESTART or event.word_3 != _CHECKSUM:
                _note_gap(c, states, index, event)
        elif kind in (_BEGIN, _END, _STATE):
            number = index[event.instrument_id]
            if number >= 0 and event.word_2 > 0 and event.word_2 != states[number].version:
                c.request, c.request_id = NEW_VERSION, event.instrument_id
                c.request_version = event.word_2
                break
        at += 1
        c.next_index = 0
    c.next_record = at if at < n else 0
    return written


# ---- trades ----


@jit
def _take_trade(c: Any, st: Any, number: int, event: Any, out: Any, written: int) -> int:
    """Apply one TRADE and return how many rows there are now; -1: it was not applied, `c.request` says why."""
    marks = event.marks
    if event.word_1 <= 0:
        c.trades_sizeless += 1
        return written
    if marks & _LATE:
        _mark_late(c, number, marks & _VOLUME_ONLY != 0)
        return written
    ts = event.ts_event
    is_timed = 0 < ts <= TS_LIMIT
    if is_timed and not session_known(c, st, ts):
        return -1
    first = written
    accs = carray(as_pointer(c.accs), (_MANY,), ACC)
    base = number * c.n_series
    state = marks & _STATE_MASK
    price, qty, side = event.word_0, event.word_1, 0
    if marks & _BUY:
        side = 1
    elif marks & _SELL:
        side = -1
    is_price = marks & _VOLUME_ONLY == 0
    cut = 0
    if qty > QTY_LIMIT:
        qty, cut = QTY_LIMIT, _SATURATED
        c.values_saturated += 1
    if not is_timed:
        c.trades_untimed += 1
    else:
        if st.late_in_a_row >= CLOCK_BACK_PRINTS:
            written = end_all(c, st, base, accs, event, out, written)
        if st.begun == 0:
            begin_windows(c, st, base, accs, ts)
        written = close_until(c, st, base, accs, ts, event, out, written)
        in_utc = _place(base, c.n_utc, accs, ts, cut, price, qty, side, is_price, state)
        in_session = _place(base + c.n_utc, session_frames(c, st), accs, ts, cut, price, qty, side,
            is_price, state,
        )  # fmt: skip
        if in_utc or in_session or c.n_utc + c.n_session == 0:
            c.trades_in_bars += 1
            st.late_in_a_row = 0
        else:
            c.trades_late += 1
            st.late_in_a_row += 1
        if ts >= st.last_ts:
            st.last_ts, st.last_recv = ts, event.ts_recv
    if st.gap and st.begun:
        for i in range(base, base + c.n_utc + session_frames(c, st)):
            accs[i].flags |= _GAP_FLAG
    st.last_state = state
    written = _take_in_others(
        c, st, base, accs, event, out, written, cut, price, qty, side, is_price
    )
    st.gap = 0
    for i in range(first, written):
        out[i].source_count = written - first
    return written


@jit
def _mark_late(c: Any, number: int, is_void: bool) -> None:
    """Count a print that is marked late, in every series, or one that counts for nothing."""
    if is_void:
        c.trades_void += 1
        return
    c.trades_late += 1
    accs = carray(as_pointer(c.accs), (_MANY,), ACC)
    for i in range(c.n_series):
        accs[number * c.n_series + i].late += 1


@jit
def _place(
    base: int, frames: int, accs: Any, ts: int, flags: int,
    price: int, qty: int, side: int, is_price: bool, state: int,
) -> bool:  # fmt: skip
    """Add a print to the finest frame whose open window it lies in; False: it is late for all of them."""
    for i in range(base, base + frames):
        acc = accs[i]
        if ts >= acc.start:
            add_print(acc, price, qty, side, is_price, state)
            acc.flags |= flags
            return True
        acc.late += 1
    return False


@jit
def _take_in_others(
    c: Any, st: Any, base: int, accs: Any, event: Any, out: Any, written: int, flags: int,
    price: int, qty: int, side: int, is_price: bool,
) -> int:  # fmt: skip
    """Add a print to the TICK, VOLUME, DOLLAR and IMBALANCE bars, and close those that are full."""
    series = carray(as_pointer(c.series), (c.n_series,), SERIES)
    sign = side
    if is_price:
        sign = _sign(st, price, side)
    for i in range(c.n_utc + c.n_session, c.n_series):
        acc, kind = accs[base + i], series[i].bar_kind
        if kind in (_VOLUME, _DOLLAR) and acc.limit_low == 0 and acc.limit_high == 0:
            continue
        if acc.trades == 0:
            acc.start = event.ts_event
            if acc.bar_no == 0:
                acc.flags |= _PARTIAL
        acc.end = event.ts_event
        acc.flags |= flags | (_GAP_FLAG if st.gap else 0)
        add_print(acc, price, qty, side, is_price, st.last_state)
        acc.signs += sign
        if is_full(acc, series[i]):
            if kind == _IMBALANCE:
                learn_imbalance(acc, series[i].parameter)
            write_row(c, st, acc, series[i], event, out[written])
            written += 1
            clear(acc)
    return written


@jit
def _sign(st: Any, price: int, side: int) -> int:
    """Return the taker's side, by the tick rule where the venue does not tell it; 0 before the first change of price."""
    sign = side
    if side == 0 and st.has_price:
        sign = st.last_sign
        if price != st.last_price:
            sign = 1 if price > st.last_price else -1
    if sign != 0:
        st.last_sign = sign
    st.last_price, st.has_price = price, 1
    return sign


# ---- other records ----


@jit
def _take_beat(c: Any, states: Any, event: Any, out: Any, written: int) -> int:
    """Close what ended `settle_ns` before a HEARTBEAT, and pass it on.

    Each instrument's last trade places it on the venue's clock. Where it had to stop, `c.request` says why.
    """
    accs = carray(as_pointer(c.accs), (_MANY,), ACC)
    while c.next_state < c.n_states:
        number = c.next_state
        st = states[number]
        passed = event.ts_recv - st.last_recv
        if st.source == c.source and st.begun and passed > c.settle_ns:
            if written + c.most_step_rows > c.rows_room:
                c.request = ROWS_FULL
                return written
            ts = min(st.last_ts, TS_LIMIT - passed) + passed - c.settle_ns
            if not session_known(c, st, ts):
                return written
            written = close_until(c, st, number * c.n_series, accs, ts, event, out, written)
        c.next_state += 1
    if written >= c.rows_room:
        c.request = ROWS_FULL
        return written
    row = out[written]
    write_cause(c, event, row)
    row.ts_event, row.instrument_id, row.kind, row.marks = event.ts_event, 0, _HEARTBEAT, 0
    row.bar_kind = row.bar_flags = row.skipped = row.trades = row.late_prints = 0
    row.parameter = row.instrument_version = row.ts_open = row.ts_close = 0
    row.open = row.high = row.low = row.close = 0
    row.volume = row.buy_volume = row.sell_volume = row.value_low = row.value_high = 0
    row.bar_no, row.vwap = event.word_0, np.nan
    c.next_state = 0
    return written + 1


@jit
def _note_gap(c: Any, states: Any, index: Any, event: Any) -> None:
    """Remember that records of an instrument, or of a whole input, are missing until the next trade."""
    if event.instrument_id != 0:
        number = index[event.instrument_id]
        if number >= 0:
            note_lost(states[number], event.ts_event)
        return
    for number in range(c.n_states):
        if states[number].source == c.source:
            note_lost(states[number], NO_TIME)


@jit
def note_lost(st: Any, ts: int) -> None:
    """Flag what is open from `ts` (ts_event of the GAP), or from the instrument's last trade, on."""
    since = min(ts, st.last_ts) if ts > 0 else st.last_ts
    st.gap_from = min(st.gap_from, since) if st.gap else since
    st.gap = 1
