"""The memory of the bars kernel: flat, without pointers inside, so that a checkpoint is a copy.

**Layout** `states`: one BAR_STATE for each instrument met, in the order they were met. `index`: state number by
instrument_id, -1 where none. `accs`: for each state one ACC a series, in the order of `series`: the UTC frames, the session
frames (both finest first), then the others. `opens`: the sessions' opening instants, a row each. BAR_CONTEXT holds
addresses and is made anew by every process.

**Why it is right** A trade goes into the finest frame's ACC alone; when a window closes, its ACC is added to the next
coarser one. All sums are integers and every border of a frame is one of the finer frames, so that the coarser ACC is what
it would be had every trade gone into it.

**Cost** 256 B a series and instrument, of which a trade inside the finest window touches three lines a chain.
"""

import numpy as np

from layouts.bar import SECOND_NS

QTY_LIMIT = 1 << 62
"""A quantity or a sum of quantities saturates here, flagged."""
NO_TIME = np.iinfo(np.int64).max
NO_SESSION = -1
TS_LIMIT = 9_200_000_000_000_000_000
"""A later ts_event (ns; in the year 2261) is no time."""
CLOCK_BACK_PRINTS = 1000
"""So many prints in a row, late in every frame, are a clock that went back."""
ROWS = 8192
"""Rows of the buffer between the kernel and the ring."""
SPAN_BARS = 20
"""Span of the moving averages of IMBALANCE bars: alpha = 2 / (span + 1)."""
FIRST_SIGN = 0.5
"""Expected |buys - sells| a trade before the first IMBALANCE bar; the source leaves it open."""
LEAST_SIGN = 0.05
MOST_GROWTH = 10.0
"""Bounds that keep IMBALANCE thresholds from running away: least expected |buys - sells| a trade, and how far the expected
number of trades may leave the given one, either way."""
DEFAULT_SETTLE_NS = 2 * SECOND_NS

SERIES = np.dtype([("bar_kind", "<i8"), ("parameter", "<i8")])

ACC = np.dtype(
    [
        ("start", "<i8"),  # of the window; of IMBALANCE and its like: ts_event of the first trade
        ("end", "<i8"),  # of the window; of the others: ts_event of the last trade
        ("high", "<i8"),
        ("low", "<i8"),
        ("close", "<i8"),  # kept when the bar is closed: the next one's until it has a price
        ("volume", "<i8"),
        ("buy_volume", "<i8"),
        ("sell_volume", "<i8"),
        ("value_low", "<i8"),
        ("value_high", "<i8"),
        ("trades", "<i8"),
        ("prices", "<i8"),  # prints that set a price
        ("flags", "<i8"),
        ("seen_states", "<i8"),  # bit s: a trade with instrument state s
        ("open", "<i8"),
        ("late", "<i8"),
        ("bar_no", "<i8"),
        ("empty_rows", "<i8"),  # in a row, up to now
        ("skipped", "<i8"),
        ("has_close", "<i8"),
        (
            "limit_low",
            "<i8",
        ),  # VOLUME: threshold at the instrument's scale; DOLLAR: 128 bits of it; 0: not known yet
        ("limit_high", "<i8"),
        ("signs", "<i8"),  # IMBALANCE: buys less sells of the bar
        ("mean_trades", "<f8"),  # IMBALANCE: moving averages over closed bars
        ("mean_sign", "<f8"),
        ("spare", "<i8", (7,)),
    ]
)

BAR_STATE = np.dtype(
    [
        ("instrument_id", "<i8"),
        ("source", "<i8"),
        ("version", "<i8"),
        ("scaled", "<i8"),
        ("price_scale", "<i8"),
        ("qty_scale", "<i8"),
        ("begun", "<i8"),  # 1: its windows are set
        ("last_state", "<i8"),  # instrument state of the last trade
        ("last_ts", "<i8"),  # highest ts_event of its trades ...
        ("last_recv", "<i8"),  # ... and our clock's stamp of that one
        ("gap", "<i8"),  # 1: records were lost since the last trade ...
        ("gap_from", "<i8"),  # ... at this ts_event or later
        ("late_in_a_row", "<i8"),
        ("last_price", "<i8"),  # of the tick rule
        ("last_sign", "<i8"),
        ("has_price", "<i8"),
        ("session", "<i8"),  # row of `opens`, NO_SESSION: none
        ("session_start", "<i8"),  # of the session that the session frames are in
        ("session_end", "<i8"),
        ("spare", "<i8", (5,)),
    ]
)

NOTHING, NEW_INSTRUMENT, NEW_VERSION, MORE_SESSIONS, ROWS_FULL = range(5)

BAR_CONTEXT = np.dtype(
    [
        ("states", "<i8"),  # address
        ("index", "<i8"),  # address
        ("accs", "<i8"),  # address
        ("series", "<i8"),  # address
        ("opens", "<i8"),  # address
        ("n_states", "<i8"),
        ("n_utc", "<i8"),
        ("n_session", "<i8"),
        ("n_series", "<i8"),
        ("n_opens", "<i8"),  # opening instants a session
        (
            "settle_ns",
            "<i8",
        ),  # a HEARTBEAT closes what ended so long before it; NO_TIME: it closes nothing
        ("most_empty_rows", "<i8"),
        ("most_step_rows", "<i8"),  # rows that one instrument and one record can cause at most
        ("rows_room", "<i8"),  # rows that fit now
        ("epoch", "<i8"),
        ("source", "<i8"),
        ("next_record", "<i8"),  # in: where to begin; out: first record not done
        ("next_state", "<i8"),  # of a HEARTBEAT that is half done: the instrument to go on with
        ("next_index", "<i8"),  # source_index of the record's next row
        ("request", "<i8"),
        ("request_id", "<i8"),
        ("request_version", "<i8"),
        ("request_ts", "<i8"),
        # Counters, added to.
        ("trades_in_bars", "<i8"),
        ("trades_late", "<i8"),  # late in every frame
        ("trades_void", "<i8"),  # marked to count for nothing
        ("trades_sizeless", "<i8"),  # quantity 0 or below
        ("trades_untimed", "<i8"),  # no time in ts_event: in no time frame
        ("values_saturated", "<i8"),
        ("windows_skipped", "<i8"),
        ("clocks_back", "<i8"),
    ]
)
COUNTERS = tuple(BAR_CONTEXT.names or ())[23:]
"""What the kernel counts; the worker exports it under the same names."""


def new_accs(n: int) -> np.ndarray:
    """Return `n` accumulators that nothing was added to."""
    accs = np.zeros(n, ACC)
    accs["end"] = NO_TIME
    return accs


def clear_bar(accs: np.ndarray) -> None:
    """Begin new bars in accumulators, whatever was in them; closes, numbers and averages stay."""
    for name in ("volume", "buy_volume", "sell_volume", "value_low", "value_high", "trades"):
        accs[name] = 0
    for name in ("prices", "flags", "seen_states", "late", "signs"):
        accs[name] = 0
