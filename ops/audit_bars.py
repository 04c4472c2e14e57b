"""Every print is in one bar of each time frame, or told as late there: counted again from the events ring.

**Why it is right** Of a frame's rows, those closed by records s0 < source_seq <= s1 hold exactly the prints s0 <= seq < s1:
a record that closes a window is in the next one. So any two rows that are still held bound a count that the events ring
must agree with, whatever has been overwritten before.
"""

import numpy as np

from consumers.bar_state import TS_LIMIT
from layouts import BarKind, Kind, Mark
from ops.audit_store import Check

_VOID = int(Mark.LATE | Mark.VOLUME_ONLY)


def bars_check(
    ring: str, events: np.ndarray, first_seq: int, bars: np.ndarray, lost: int, note: str
) -> Check:
    """Compare the prints that an events ring holds with the bars made of it.

    Args:
        ring: the events ring's name.
        events: its records, whose first has `first_seq`.
        first_seq: see `events`.
        bars: the BAR rows that records of this ring closed.
        lost: records that the bars worker lost of it.
        note: what could not be compared.
    """
    wanted = found = wrong = 0
    keys = np.unique(np.stack([bars["source_seq"], bars["source_index"]]), axis=1)
    repeated = len(bars) - keys.shape[1]
    if lost:
        note = f"{lost} records were lost before they were read: only repeats are looked for"
    else:
        for rows in _by_frame(bars):
            prints, counted = _counts(events, first_seq, rows)
            wanted, found = wanted + prints, found + counted
            wrong += abs(prints - counted)
    return Check(
        name=f"bars of {ring}",
        expected=wanted,
        found=found,
        unaccounted=wrong + repeated,
        note=note,
    )


def _by_frame(bars: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each time frame of each instrument."""
    timed = bars[bars["bar_kind"] == BarKind.TIME]
    return [
        timed[(timed["instrument_id"] == instrument_id) & (timed["parameter"] == parameter)]
        for instrument_id in np.unique(timed["instrument_id"])
        for parameter in np.unique(timed["parameter"])
    ]


def _counts(events: np.ndarray, first_seq: int, rows: np.ndarray) -> tuple[int, int]:
    """Return how many prints there were between the first and the last of these rows, and how many they hold."""
    rows = rows[rows["source_seq"] >= first_seq]
    if len(rows) == 0:
        return 0, 0
    first, last = int(rows["source_seq"][0]), int(rows["source_seq"][-1])
    between = events[first - first_seq : last - first_seq]
    marks, ts = between["marks"], between["ts_event"]
    prints = (
        (between["kind"] == Kind.TRADE)
        & (between["instrument_id"] == rows["instrument_id"][0])
        & (between["word_1"] > 0)
        & (marks & _VOID != _VOID)
        & ((marks & int(Mark.LATE) != 0) | ((ts > 0) & (ts <= TS_LIMIT)))
    )
    inner = rows[rows["source_seq"] > first]
    held = int(inner["trades"].sum()) + int(inner["late_prints"].sum())
    return int(np.count_nonzero(prints)), held
