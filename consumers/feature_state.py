"""The memory of the features kernel: flat, without pointers inside, so that a checkpoint is a copy.

**Layout** Three arrays. `states`: one INSTRUMENT_STATE for each instrument met, in the order they were met.
`index`: state number by instrument_id, -1 where none. `pool`: the books of native/book.h, one after another, found
by `states[i].book` (offset in words); a book that outgrew its place lives on further behind. CONTEXT is what one
call of the kernel is given and answers: it holds addresses and is made anew by every process.

**Cost** 5.1 KiB an instrument and its book. A row touches five lines of history (rows k, k-1, k-5, k-20, k-60),
seven of sums, two of trades and the best levels: so a thousand instruments fit the second-level cache far better
than windows kept apart.
"""

import numpy as np

HISTORY_ROWS = 64
"""Rows kept of each instrument, a power of two above the longest window of 60."""
ROW_WORDS = 8
MID, TS, VOLUME, SPREAD, OFI, SIGNED, RETURN, MID_CHANGE = range(ROW_WORDS)
"""One row of history, a cache line: mid (bid + ask), ts_event, traded qty, spread, ofi, qty signed by the taker's side, log
return in steps of 2**-60, change of MID; prices and quantities as integers at the instrument's scale."""
DEPTHS = 4
"""Depths that a book's quantity is kept for: its 5, 10, 20 and 50 best levels."""
OFI_LEVELS = 5
"""Levels a side that multi_level_ofi compares."""

UNSYNCED, LOADING, SYNCED = range(3)
"""A book's place: nothing to be believed; between SNAPSHOT_BEGIN and SNAPSHOT_END; equal to the collector's."""
UNKNOWN_VERSION = 0
NO_MID = -1


def _wide(name: str) -> list[tuple[str, str]]:
    return [(f"{name}_low", "<i8"), (f"{name}_high", "<i8")]


INSTRUMENT_STATE = np.dtype(
    [
        # Who and where.
        ("instrument_id", "<i8"),
        ("source", "<i8"),  # number of the input whose records it is fed by
        ("version", "<i8"),
        ("scaled", "<i8"),  # 1: price_unit and qty_unit are known
        ("price_unit", "<f8"),  # 10**price_scale
        ("qty_unit", "<f8"),
        ("book", "<i8"),  # offset in the pool, words
        ("sync", "<i8"),
        ("book_changed", "<i8"),  # since the columns below were computed
        # Qty of the 5, 10, 20 and 50 best levels, bids then asks, in halves: total = high * 2**24 + low.
        ("depth_high", "<i8", (2 * DEPTHS,)),
        ("depth_low", "<i8", (2 * DEPTHS,)),
        ("told", "<i8", (2,)),  # scratch: what the book says of a change
        # Counts.
        ("rows", "<i8"),  # rows so far: k of the next one
        ("first_row", "<i8"),  # k from which the windows count (a new scale starts them anew)
        ("first_mid", "<i8"),  # k of the first row since first_row with both sides, NO_MID before
        ("trades", "<i8"),  # since first_row
        ("trade_bits", "<i8"),  # of the last 60 rows, bit 0 the newest: was it a trade
        ("trades_60", "<i8"),
        ("jump_bits", "<i8"),  # likewise: was its return RETURN_LIMIT or more
        ("day", "<i8"),  # UTC day of the last row
        # What the last row saw.
        ("price", "<f8"),
        ("has_price", "<i8"),
        ("mid", "<i8"),  # bid + ask
        ("spread", "<i8"),
        ("bid", "<i8"),
        ("bid_qty", "<i8"),
        ("ask", "<i8"),
        ("ask_qty", "<i8"),
        # Sums over the last 20 or 60 rows.
        ("mid_20", "<i8"),
        ("spread_20", "<i8"),
        *_wide("volume_20"),
        *_wide("volume_60"),
        *_wide("volume_squares_60"),
        *_wide("spread_60"),
        *_wide("spread_squares_60"),
        *_wide("return_20"),
        *_wide("return_squares_20"),
        *_wide("return_60"),
        *_wide("return_squares_60"),
        *_wide("ofi_20"),
        *_wide("ofi_day"),  # since midnight, at the present scale
        ("ofi_day_before", "<f8"),  # since midnight, at earlier scales, in base currency
        *_wide("signed_60"),
        *_wide("signed_squares_60"),
        *_wide("impact_60"),  # MID_CHANGE x SIGNED
        *_wide("signed_trades"),  # over the last 60 trades
        *_wide("sided_trades"),
        ("gains", "<f8"),  # RSI: sums of the first 14 changes, then Wilder's averages
        ("losses", "<f8"),
        # Columns of the last book, kept for rows that leave it as it is.
        ("depth_imbalances", "<f8", (4,)),
        ("book_slope", "<f8"),
        ("book_pressure", "<f8"),
        ("levels", "<i8", (4 * OFI_LEVELS,)),  # bids then asks at the last row: price, qty
        ("last_trades", "<i8", (HISTORY_ROWS,)),  # signed qty of the last trades
        ("history", "<i8", (HISTORY_ROWS, ROW_WORDS)),
    ]
)

# Why the kernel came back before the end of its records.
NOTHING, NEW_INSTRUMENT, NEW_VERSION, GROW_BOOK = range(4)

CONTEXT = np.dtype(
    [
        ("states", "<i8"),  # address
        ("index", "<i8"),  # address
        ("pool", "<i8"),  # address
        ("epoch", "<i8"),  # of the records
        ("source", "<i8"),  # number of their input
        ("next_record", "<i8"),  # in: where to begin; out: first record not yet applied
        ("request", "<i8"),  # out: NOTHING or why it came back
        ("request_id", "<i8"),  # out: the instrument_id concerned
        ("request_version", "<i8"),
        # Counters, added to.
        ("rows_crossed", "<i8"),
        ("rows_unsynced", "<i8"),
        ("rows_unscaled", "<i8"),
        ("quotes_differing", "<i8"),
        ("words_saturated", "<i8"),
        ("levels_unsynced", "<i8"),
    ]
)
COUNTERS = tuple(CONTEXT.names or ())[9:]
"""What the kernel counts; the worker exports it under the same names."""


def new_states(n: int) -> np.ndarray:
    """Return `n` states of instruments that were never seen."""
    states = np.zeros(n, INSTRUMENT_STATE)
    states["first_mid"] = NO_MID
    states["day"] = np.iinfo(np.int64).min
    states["book_changed"] = 1
    return states
