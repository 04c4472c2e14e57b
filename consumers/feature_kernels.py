"""The features kernel: one jitted call takes a batch of EVENT records to the FEATURES rows that they cause.

**Protocol** `process(context, records, n, rows)` takes addresses. It applies records from `context.next_record` on
and returns how many rows it wrote; `context.request` then says why it stopped short, if it did: it met an
instrument or a version it does not know, or a book that is full. The caller serves the request and calls again:
nothing was applied of the record it stopped at.

A row is written for each TRADE and each QUOTE (which a collector publishes at the end of a frame that changed the
top, and only there), so a book is never looked at in mid-frame; a HEARTBEAT is passed on as a row without columns.

**Why it is right** State belongs to one instrument, an instrument to one input: rows depend on the order of that
instrument's records alone, however inputs are interleaved. No clock is read.

**Cost** bench_features_kernel. The memory of the instrument a few records ahead is asked for early, which hides
most of the misses of a thousand instruments.
"""

from typing import Any

import numpy as np

from consumers.feature_book import (
    clamp,
    is_beyond,
    levels_flow,
    order_flow,
    read_book,
    read_top,
    write_book,
    write_top,
)
from consumers.feature_depth import FULL, apply_level, clear_book, side_count, side_end
from consumers.feature_ready import ready_bits, write_nan
from consumers.feature_state import (
    CONTEXT,
    GROW_BOOK,
    HISTORY_ROWS,
    INSTRUMENT_STATE,
    LOADING,
    NEW_INSTRUMENT,
    NEW_VERSION,
    NO_MID,
    NOTHING,
    SYNCED,
    UNSYNCED,
)
from consumers.feature_windows import (
    enter_row,
    enter_trade,
    write_flows,
    write_returns,
    write_spreads,
    write_volumes,
)
from consumers.rolling import PRICE_LIMIT, QTY_LIMIT
from layouts import EVENT, FEATURES, InstrumentState, Kind, Mark
from shm.njit import as_pointer, carray, jit, load_word, prefetch

_TRADE, _QUOTE, _LEVEL = int(Kind.TRADE), int(Kind.QUOTE), int(Kind.LEVEL)
_BEGIN, _END, _STATE = int(Kind.SNAPSHOT_BEGIN), int(Kind.SNAPSHOT_END), int(Kind.STATE)
_HEARTBEAT, _RESTART, _FEATURES = int(Kind.HEARTBEAT), int(Kind.RESTART), int(Kind.FEATURES)
_BUY, _SELL, _LATE = int(Mark.BUY), int(Mark.SELL), int(Mark.LATE)
_STATE_MASK = int(Mark.STATE_MASK)
_SYNCING, _SUSPECT = int(InstrumentState.SYNCING), int(InstrumentState.SUSPECT)
_LIVE = int(InstrumentState.LIVE)
_SIDES = _BUY | _SELL
_FAR, _NEAR, _NEXT = 24, 16, 8
_IDS = 1 << 16
_MANY = 1 << 40
_ROW_BYTES = FEATURES.itemsize
_STATE_BYTES = INSTRUMENT_STATE.itemsize
_HISTORY_AT = INSTRUMENT_STATE.fields["history"][1]  # type: ignore[index]
_SCALAR_LINES = INSTRUMENT_STATE.fields["last_trades"][1] // 64  # type: ignore[index]
_ROWS_AT = INSTRUMENT_STATE.fields["rows"][1]  # type: ignore[index]
_BOOK_AT = INSTRUMENT_STATE.fields["book"][1]  # type: ignore[index]


@jit
def process(context: int, records: int, n: int, rows: int) -> int:
    """Apply `n` EVENT records (address) to the CONTEXT at an address; write FEATURES rows (address); return how many."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    events = carray(as_pointer(records), (n,), EVENT)
    out = carray(as_pointer(rows), (n,), FEATURES)
    index = carray(as_pointer(c.index), (_IDS,), np.int32)
    states = carray(as_pointer(c.states), (_MANY,), INSTRUMENT_STATE)
    c.request = NOTHING
    written = 0
    at = c.next_record
    while at < n:
        _ask_ahead(c, index, events, at, n)
        event = events[at]
        number = index[event.instrument_id]
        if event.instrument_id == 0:
            if event.kind == _HEARTBEAT:
                _pass_on(c, event, out[written], rows + written * _ROW_BYTES)
                written += 1
            elif event.kind == _RESTART:
                _forget_books(c, states, index)
        elif number < 0:
            c.request, c.request_id, c.request_version = NEW_INSTRUMENT, event.instrument_id, 0
            break
        else:
            st = states[number]
            if event.kind == _LEVEL:
                if _follow_level(c, st, c.states + number * _STATE_BYTES, event) == FULL:
                    c.request, c.request_id = GROW_BOOK, event.instrument_id
                    break
            elif event.kind in (_QUOTE, _TRADE):
                _make_row(c, st, event, out[written], rows + written * _ROW_BYTES)
                written += 1
            elif not _follow_state(c, st, event):
                break
        at += 1
    c.next_record = at if at < n else 0
    return written


@jit
def _ask_ahead(c: Any, index: Any, events: Any, at: int, n: int) -> None:
    """Ask in three steps for the memory of instruments that come soon: each step reads what the one before has brought."""
    far, near, next_ = at + _FAR, at + _NEAR, at + _NEXT
    if far < n and events[far].instrument_id != events[far - 1].instrument_id:
        number = index[events[far].instrument_id]
        if number >= 0:
            for line in range(_SCALAR_LINES):
                prefetch(c.states + number * _STATE_BYTES + 64 * line)
    if near < n and events[near].instrument_id != events[near - 1].instrument_id:
        number = index[events[near].instrument_id]
        if number >= 0:
            state = c.states + number * _STATE_BYTES
            prefetch(c.pool + 8 * load_word(state + _BOOK_AT))
            k = load_word(state + _ROWS_AT)
            for back in (0, 1, 5, 20, 60):
                prefetch(state + _HISTORY_AT + 64 * ((k - back) & (HISTORY_ROWS - 1)))
    if next_ < n and events[next_].instrument_id != events[next_ - 1].instrument_id:
        number = index[events[next_].instrument_id]
        if number >= 0 and events[next_].kind != _TRADE:
            book = c.pool + 8 * load_word(c.states + number * _STATE_BYTES + _BOOK_AT)
            for side in range(2):
                end = side_end(book, side)
                for line in range(3):
                    prefetch(end - 64 * line - 8)


@jit
def _follow_level(c: Any, st: Any, state: int, event: Any) -> int:
    """Apply a LEVEL to the instrument's book; FULL where it is full, and nothing was done."""
    if st.sync == UNSYNCED:
        c.levels_unsynced += 1
        return 0
    price, qty = event.word_0, event.word_1
    if is_beyond(price, qty):
        c.words_saturated += 1
        price, qty = clamp(price, PRICE_LIMIT), max(0, clamp(qty, QTY_LIMIT))
    side = 0 if event.marks & _BUY else 1
    return int(apply_level(st, state, c.pool + 8 * st.book, side, price, qty))


@jit
def _follow_state(c: Any, st: Any, event: Any) -> bool:
    """Follow SNAPSHOT_BEGIN, SNAPSHOT_END and STATE; False: their version is not in force, it has to be looked up."""
    if event.kind not in (_BEGIN, _END, _STATE):
        return True
    if event.word_2 != st.version and event.word_2 > 0:
        c.request, c.request_id, c.request_version = NEW_VERSION, event.instrument_id, event.word_2
        return False
    if event.kind == _BEGIN:
        clear_book(st, c.pool + 8 * st.book)
        st.sync = LOADING
    elif event.kind == _END and st.sync == LOADING:
        st.sync = SYNCED
    return True


@jit
def _forget_books(c: Any, states: Any, index: Any) -> None:
    """A producer died: the frame that it was in may be half there, so no book of this input is believed."""
    for instrument_id in range(1, _IDS):
        number = index[instrument_id]
        if number >= 0 and states[number].source == c.source:
            states[number].sync = UNSYNCED


@jit
def _head(c: Any, event: Any, row: Any) -> None:
    row.stamp = 0
    row.ts_event = event.ts_event
    row.ts_recv = event.ts_recv
    row.instrument_id = event.instrument_id
    row.publish_delta_ns = 0
    row.source_epoch = c.epoch
    row.source_seq = (event.stamp - 2) >> 1
    row.source_index = 0
    row.source_count = 1


@jit
def _pass_on(c: Any, event: Any, row: Any, row_address: int) -> None:
    _head(c, event, row)
    row.kind = _HEARTBEAT
    row.marks = event.marks
    row.row_no = event.word_0
    row.ready = 0
    write_nan(row_address, 0)


@jit
def _make_row(c: Any, st: Any, event: Any, row: Any, row_address: int) -> None:
    """Compute the row that a TRADE or QUOTE causes."""
    is_trade, volume, signed = 0, 0, 0
    if event.kind == _TRADE:
        is_trade = 1
        price, volume = event.word_0, event.word_1
        if is_beyond(price, volume):
            c.words_saturated += 1
            price, volume = clamp(price, PRICE_LIMIT), max(0, clamp(volume, QTY_LIMIT))
        sides = event.marks & _SIDES
        signed = volume if sides == _BUY else (-volume if sides == _SELL else 0)
        enter_trade(st, signed)
        if event.marks & _LATE == 0 and st.scaled == 1:
            st.price = float(price) / st.price_unit
            st.has_price = 1
    k = st.rows
    book = c.pool + 8 * st.book
    old_bid, old_bid_qty, old_ask, old_ask_qty = st.bid, st.bid_qty, st.ask, st.ask_qty
    both = st.sync == SYNCED and st.scaled == 1
    if both and st.book_changed:
        both = read_top(st, book)
    first = both and st.first_mid == NO_MID
    ofi, flow = 0, 0.0
    if first:
        st.first_mid = k
    elif both:
        ofi = order_flow(st.bid, st.bid_qty, old_bid, old_bid_qty, 1)
        ofi += order_flow(st.ask, st.ask_qty, old_ask, old_ask_qty, -1)
    if both and st.book_changed:
        flow = levels_flow(st, book, first)
        read_book(st, book)
    enter_row(st, event.ts_event, is_trade, volume, signed, st.mid, st.spread, ofi)
    st.rows = k + 1
    _head(c, event, row)
    row.kind = _FEATURES
    row.row_no = k
    row.marks = _marks(c, st, event, both)
    row.multi_level_ofi = flow / st.qty_unit
    row.price = st.price
    write_volumes(st, row, k, volume)
    if st.first_mid != NO_MID:
        write_returns(st, row, k)
        write_spreads(st, row, st.spread)
        write_flows(st, row, k, ofi)
    if both:
        write_top(st, row)
        write_book(st, row)
    ready = ready_bits(st, k, both)
    row.ready = ready
    write_nan(row_address, ready)


@jit
def _marks(c: Any, st: Any, event: Any, both: bool) -> int:
    """Return the record's marks, its state lowered to what the own book is worth."""
    marks: int = event.marks
    if st.scaled == 0:
        c.rows_unscaled += 1
    if st.sync != SYNCED:
        c.rows_unsynced += 1
        return (marks & ~_STATE_MASK) | _SYNCING
    suspect = False
    if both and st.spread <= 0:
        c.rows_crossed += 1
        suspect = True
    if event.kind == _QUOTE and not _is_top(c.pool + 8 * st.book, event):
        c.quotes_differing += 1
        suspect = True
    if suspect and marks & _STATE_MASK == _LIVE:
        marks = (marks & ~_STATE_MASK) | _SUSPECT
    return marks


@jit
def _is_top(book: int, event: Any) -> bool:
    """Tell whether a QUOTE says what the own book's top is."""
    bid, bid_qty, ask, ask_qty = 0, 0, 0, 0
    if side_count(book, 0) > 0:
        bid_at = side_end(book, 0) - 16
        bid, bid_qty = load_word(bid_at), load_word(bid_at + 8)
    if side_count(book, 1) > 0:
        ask_at = side_end(book, 1) - 16
        ask, ask_qty = load_word(ask_at), load_word(ask_at + 8)
    same_bid = bid == event.word_0 and bid_qty == event.word_1
    return bool(same_bid and ask == event.word_2 and ask_qty == event.word_3)
