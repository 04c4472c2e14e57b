"""The memory of the P&L kernels: flat, without pointers inside, so that a checkpoint is a copy.

**Layout** `marks`: one MARK_STATE for each instrument met, in the order they were met; `index`: its number by
instrument_id, -1 where none. `positions`: one POSITION_STATE (consumers.position) for each account and instrument,
those of an instrument in a chain from `marks[i].position`; `lots`: `room` LOTs for each position. CONTEXT is what one
call of a kernel is given and answers: it holds addresses and is made anew by every process.
"""

from enum import IntEnum

import numpy as np

from layouts import ORDER, POSITION
from layouts.position import APPLIED_INPUTS

IDS = 1 << 16
ORDERS = 0
"""Number of the input that brings the fills; the others bring events."""
ACCOUNTS = 64
"""Most positions of one instrument, so that one event causes no more rows than there is room for."""
NEVER = -(1 << 62)
"""The day of a position without a fill, and the time of a row that is still to come."""
NOBODY = (1 << 32) - 1
"""Account of the rows that tell the mark of a watched instrument."""
TAKEN = 2
PRICE_END = 10**18
"""Prices and fees have at most 18 digits (native/decimal.h)."""

MARK_STATE = np.dtype(
    [
        ("instrument_id", "<i8"),
        ("source", "<i8"),  # number of the input, -1 before its first event
        ("version", "<i8"),
        ("price_scale", "<i8"),  # of the prices below; -1: not known
        ("mid_twice", "<i8"),  # bid + ask
        ("has_mid", "<i8"),
        ("last", "<i8"),  # price of the last trade
        ("has_last", "<i8"),
        ("state", "<i8"),  # InstrumentState
        ("believed", "<i8"),  # 0: records were lost since, or its producer was restarted
        ("lacks_side", "<i8"),
        ("crossed", "<i8"),
        ("position", "<i8"),  # first of its positions, -1: none
        ("positions", "<i8"),
        ("spare", "<i8", (2,)),
    ]
)


class Request(IntEnum):
    """Why a kernel came back before the end of its records."""

    NOTHING = 0
    NEW_INSTRUMENT = 1
    NEW_VERSION = 2
    NEW_POSITION = 3
    WIDER_SCALES = 4
    OPENING = 5


COUNTERS = (
    "fills_booked",
    "fills_refused",  # qty, side, instrument, multiplier or currency is nothing that can be booked
    "fills_too_wide",
    "fills_late",
    "fills_unmarked",  # booked while nothing was known of the instrument's market
    "fees_elsewhere",  # paid in another currency than the quote currency
    "lots_merged",
    "quotes_crossed",
    "quotes_one_sided",
    "prices_refused",  # beyond 18 digits, or a trade without quantity
    "days_back",  # a record more than a day before its position's day
)

CONTEXT = np.dtype(
    [
        ("marks", "<i8"),  # address
        ("index", "<i8"),  # address
        ("positions", "<i8"),  # address
        ("lots", "<i8"),  # address
        ("room", "<i8"),  # lots of a position
        ("method", "<i8"),
        ("mark_kind", "<i8"),
        ("pause_ns", "<i8"),  # least ts_event between two rows of a position that a mark causes
        ("day_start_ns", "<i8"),
        ("orders_lost", "<i8"),
        ("source", "<i8"),
        ("epoch", "<i8"),
        ("applied", "<i8", (APPLIED_INPUTS,)),
        ("next_record", "<i8"),
        ("request", "<i8"),
        ("request_id", "<i8"),  # instrument_id
        ("request_version", "<i8"),
        (
            "denied",
            "<i8",
        ),  # in: the request for the record at next_record could not be served; an OPENING's was: TAKEN
        ("scratch", "<i8", (4,)),
        *((name, "<i8") for name in COUNTERS),
    ]
)


def _with_words(dtype: np.dtype) -> np.dtype:
    """Return a layout whose currencies are two int64 words each: jitted code copies and compares words, not text."""
    assert dtype.fields is not None and dtype.names is not None
    names = list(dtype.names)
    formats = [
        ("<i8", (2,)) if name.endswith("_currency") else dtype.fields[name][0] for name in names
    ]
    offsets = [dtype.fields[name][1] for name in names]
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize}
    return np.dtype(spec)  # type: ignore[call-overload, no-any-return]


FILL_WORDS, POSITION_WORDS = _with_words(ORDER), _with_words(POSITION)
