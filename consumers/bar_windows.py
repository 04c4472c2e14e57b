"""The windows of time frames: which one an instant lies in, and what is written when they end.

**Why it is right** A finer frame's window is added to the coarser one before that may end itself: frames are gone through
finest first, and every border of a frame is one of the finer ones. Windows left out after a long silence are counted by
arithmetic, so that a year costs no more than a minute.
"""

from typing import Any

import numpy as np

from consumers.bar_acc import clear, merge, write_row
from consumers.bar_state import MORE_SESSIONS, NO_SESSION, SERIES
from layouts.bar import FRAMES, BarFlag, BarKind
from shm.njit import as_pointer, carray, jit

_PARTIAL, _GAP_FLAG, _CLOCK_BACK = (
    int(flag) for flag in (BarFlag.PARTIAL, BarFlag.GAP, BarFlag.CLOCK_BACK)
)
_SESSION = int(BarKind.SESSION)
_DAY_NS = FRAMES["1d"]


@jit
def session_known(c: Any, st: Any, ts: int) -> bool:
    """Tell whether the sessions' openings reach around `ts`; else ask for more."""
    if c.n_session == 0 or st.session == NO_SESSION:
        return True
    opens = carray(as_pointer(c.opens + 8 * st.session * c.n_opens), (c.n_opens,), np.int64)
    if c.n_opens and opens[0] <= ts < opens[c.n_opens - 1]:
        return True
    c.request, c.request_ts, c.request_id = MORE_SESSIONS, ts, st.instrument_id
    return False


@jit
def session_frames(c: Any, st: Any) -> int:
    """Return how many session frames the instrument has."""
    return 0 if st.session == NO_SESSION else int(c.n_session)


@jit
def _session_at(c: Any, st: Any, ts: int) -> tuple[int, int]:
    """Return start and end of the session that `ts` lies in; its opening is known (`session_known`)."""
    opens = carray(as_pointer(c.opens + 8 * st.session * c.n_opens), (c.n_opens,), np.int64)
    low, high = 0, c.n_opens - 1
    while high - low > 1:
        middle = (low + high) // 2
        if opens[middle] <= ts:
            low = middle
        else:
            high = middle
    return opens[low], opens[high]


@jit
def _set_window(c: Any, st: Any, acc: Any, series: Any, ts: int) -> None:
    """Give `acc` the window that `ts` lies in."""
    frame = series.parameter
    if series.bar_kind != _SESSION:
        acc.start = ts - ts % frame
        acc.end = acc.start + frame
        return
    if not st.session_start <= ts < st.session_end:
        st.session_start, st.session_end = _session_at(c, st, ts)
    acc.start = ts - (ts - st.session_start) % _span(st, frame)
    acc.end = min(acc.start + _span(st, frame), st.session_end)


@jit
def _span(st: Any, frame: int) -> int:
    """Return how long a window of the present session is: of a day's frame, the session, be it of 23 or 25 hours."""
    return int(st.session_end - st.session_start) if frame == _DAY_NS else frame


@jit
def begin_windows(c: Any, st: Any, base: int, accs: Any, ts: int) -> None:
    """Set the first windows: what was traded in them before was not seen."""
    series = carray(as_pointer(c.series), (c.n_series,), SERIES)
    for i in range(c.n_utc + session_frames(c, st)):
        _set_window(c, st, accs[base + i], series[i], ts)
        accs[base + i].flags |= _PARTIAL
    st.begun = 1


@jit
def close_until(
    c: Any, st: Any, base: int, accs: Any, ts: int, event: Any, out: Any, written: int
) -> int:
    """Close every window that ends at or before `ts`; return how many rows there are now."""
    written = _close_chain(c, st, base, 0, c.n_utc, accs, ts, event, out, written)
    frames = session_frames(c, st)
    return int(_close_chain(c, st, base, c.n_utc, frames, accs, ts, event, out, written))


@jit
def _close_chain(
    c: Any, st: Any, base: int, first: int, frames: int, accs: Any, ts: int, event: Any, out: Any,
    written: int,
) -> int:  # fmt: skip
    """Close the windows of UTC or session frames, the finer ones first: their prints belong to the coarser ones."""
    series = carray(as_pointer(c.series), (c.n_series,), SERIES)
    for i in range(first, first + frames):
        acc = accs[base + i]
        if acc.end > ts:
            return written
        is_coarsest = i + 1 == first + frames
        if st.gap and acc.end > st.gap_from:
            acc.flags |= _GAP_FLAG
        if acc.trades:
            if not is_coarsest:
                merge(accs[base + i + 1], acc)
            acc.empty_rows = 0
        written = _end_window(c, st, acc, series[i], event, out, written)
        while acc.end <= ts:
            if acc.empty_rows >= c.most_empty_rows and acc.late == 0:
                _leave_out(c, st, acc, series[i], ts)
                break
            if st.gap and acc.end > st.gap_from:
                acc.flags |= _GAP_FLAG
            written = _end_window(c, st, acc, series[i], event, out, written)
    return written


@jit
def _end_window(c: Any, st: Any, acc: Any, series: Any, event: Any, out: Any, written: int) -> int:
    """Write the window's row, unless enough empty ones came before it, and begin the next window."""
    if acc.trades == 0 and acc.late == 0 and acc.empty_rows >= c.most_empty_rows:
        acc.skipped += 1
        c.windows_skipped += 1
    else:
        acc.empty_rows += acc.trades == 0
        write_row(c, st, acc, series, event, out[written])
        written += 1
    clear(acc)
    _set_window(c, st, acc, series, acc.end)
    return written


@jit
def _leave_out(c: Any, st: Any, acc: Any, series: Any, ts: int) -> None:
    """Move on to the window that `ts` lies in without a row for those before it, which are counted."""
    frame, begin, left_out = series.parameter, acc.start, 0
    if series.bar_kind == _SESSION:
        st.session_start, st.session_end = _session_at(c, st, begin)
        while st.session_end <= ts:
            span = _span(st, frame)
            left_out += (st.session_end - begin + span - 1) // span
            begin = st.session_end
            st.session_start, st.session_end = _session_at(c, st, begin)
        frame = _span(st, frame)
    _set_window(c, st, acc, series, ts)
    left_out += (acc.start - begin) // frame
    acc.skipped += left_out
    c.windows_skipped += left_out


@jit
def end_all(c: Any, st: Any, base: int, accs: Any, event: Any, out: Any, written: int) -> int:
    """The venue's clock went back for good: end every open window before its time and begin anew."""
    series = carray(as_pointer(c.series), (c.n_series,), SERIES)
    frames = c.n_utc + session_frames(c, st)
    for i in range(frames):
        acc = accs[base + i]
        if acc.trades and i + 1 != c.n_utc and i + 1 != frames:
            merge(accs[base + i + 1], acc)
        acc.flags |= _CLOCK_BACK
        write_row(c, st, acc, series[i], event, out[written])
        written += 1
        clear(acc)
        acc.empty_rows = 0
    st.begun = st.late_in_a_row = st.last_ts = 0
    c.clocks_back += 1
    return written
