"""What the risk kernel knows of the market: each instrument's top, mark, state and age, from the EVENT records alone.

**Why it is right** A QUOTE is the top of the collector's own book after each frame that changed it, so that the last one is the
top as long as the instrument is LIVE and nothing was lost; every record's marks tell the state. A mark is taken only of a
LIVE book that is not crossed, and is kept while the book is not good. No clock is read: ages are differences of `ts_recv`.
"""

from typing import Any

from consumers.risk_money import revalue_instrument
from consumers.risk_state import CONTEXT, IDS, INSTRUMENT_RISK, NS_PER_DAY, Request
from layouts import EVENT, InstrumentState, Kind, Mark
from shm.njit import as_pointer, carray, jit

_QUOTE, _RESTART = int(Kind.QUOTE), int(Kind.RESTART)
_BEGIN, _END, _STATE = int(Kind.SNAPSHOT_BEGIN), int(Kind.SNAPSHOT_END), int(Kind.STATE)
_STATE_MASK, _LIVE = int(Mark.STATE_MASK), int(InstrumentState.LIVE)
_NOTHING, _NEW_VERSION = int(Request.NOTHING), int(Request.NEW_VERSION)


@jit
def follow(context: int, records: int, n: int, _rows: int) -> int:
    """Apply `n` EVENT records (address) to the CONTEXT at an address; no row comes of them."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    events = carray(as_pointer(records), (n,), EVENT)
    instruments = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)
    c.request = _NOTHING
    at = c.next_record
    while at < n:
        event = events[at]
        if event.instrument_id == 0:
            if event.kind == _RESTART:
                forget_tops(instruments, c.source)
        else:
            st = instruments[event.instrument_id]
            if event.kind in (_BEGIN, _END, _STATE) and event.word_2 != st.version:
                c.request, c.request_id = _NEW_VERSION, event.instrument_id
                c.request_version = event.word_2
                break
            st.seen, st.source = 1, c.source
            st.state = event.marks & _STATE_MASK
            st.ts = max(st.ts, event.ts_recv)
            if event.kind == _QUOTE:
                _take_quote(c, st, event)
        at += 1
    c.next_record = at if at < n else 0
    return 0


@jit
def forget_tops(instruments: Any, source: int) -> None:
    """The books of an input are gone: no top is known until its next quote."""
    for number in range(IDS):
        st = instruments[number]
        if st.seen and st.source == source:
            st.top_known = 0


@jit
def _take_quote(c: Any, st: Any, event: Any) -> None:
    st.bid, st.bid_qty = event.word_0 * st.price_up, event.word_1
    st.ask, st.ask_qty = event.word_2 * st.price_up, event.word_3
    st.top_known = 1
    day = event.ts_recv // NS_PER_DAY
    if day > st.day:
        st.day, st.day_mark = day, st.mark
    if st.state != _LIVE or st.bid_qty <= 0 or st.ask_qty <= 0:
        return
    if st.bid >= st.ask or st.bid + st.ask <= 0:
        c.quotes_crossed += 1
        return
    mark = st.bid + st.ask
    if mark != st.mark:
        st.mark = mark
        if st.first_row:
            revalue_instrument(c, st)
