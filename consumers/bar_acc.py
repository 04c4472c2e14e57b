"""What one bar adds up and how it becomes a row: jitted steps over ACC and BAR records.

**Why it is right** Sums of integers do not depend on how they are grouped, so `merge` of a finer bar into a coarser one
gives what adding its prints singly would give; open is kept from what came first, close taken from what came last.
"""

from typing import Any

import numpy as np

from consumers.bar_state import LEAST_SIGN, MOST_GROWTH, QTY_LIMIT, SPAN_BARS
from consumers.rolling import wide_add_products, wide_sum
from layouts.bar import BarFlag, BarKind
from layouts.header import InstrumentState, Kind
from shm.njit import jit, tr_wide_mean

_BAR = int(Kind.BAR)
_LIVE, _SUSPECT = int(InstrumentState.LIVE), int(InstrumentState.SUSPECT)
_STALE, _SYNCING = int(InstrumentState.STALE), int(InstrumentState.SYNCING)
_EMPTY, _CARRIED, _NO_PRICE = int(BarFlag.EMPTY), int(BarFlag.CARRIED), int(BarFlag.NO_PRICE)
_LATE, _SATURATED = int(BarFlag.LATE), int(BarFlag.SATURATED)
_VOLUME, _DOLLAR, _TICK = int(BarKind.VOLUME), int(BarKind.DOLLAR), int(BarKind.TICK)
_ALPHA = 2.0 / (SPAN_BARS + 1)


@jit
def add_print(acc: Any, price: int, qty: int, side: int, is_price: bool, state: int) -> None:
    """Add one print; `side` is +1, -1 or 0, qty above 0 and at most QTY_LIMIT."""
    if is_price:
        if acc.prices == 0:
            acc.open = acc.high = acc.low = price
        elif price > acc.high:
            acc.high = price
        elif price < acc.low:
            acc.low = price
        acc.close = price
        acc.has_close = 1
        acc.prices += 1
    acc.volume = _saturating(acc, acc.volume, qty)
    if side > 0:
        acc.buy_volume = _saturating(acc, acc.buy_volume, qty)
    elif side < 0:
        acc.sell_volume = _saturating(acc, acc.sell_volume, qty)
    acc.value_low, acc.value_high = wide_add_products(
        acc.value_low, acc.value_high, price, qty, 0, 0
    )
    acc.trades += 1
    acc.seen_states |= 1 << state


@jit
def merge(into: Any, acc: Any) -> None:
    """Add a finer bar that is being closed to the coarser one that it lies in."""
    if acc.prices:
        if into.prices == 0:
            into.open, into.high, into.low = acc.open, acc.high, acc.low
        else:
            into.high = max(into.high, acc.high)
            into.low = min(into.low, acc.low)
        into.close = acc.close
        into.has_close = 1
        into.prices += acc.prices
    into.volume = _saturating(into, into.volume, acc.volume)
    into.buy_volume = _saturating(into, into.buy_volume, acc.buy_volume)
    into.sell_volume = _saturating(into, into.sell_volume, acc.sell_volume)
    into.value_low, into.value_high = wide_sum(
        into.value_low, into.value_high, acc.value_low, acc.value_high
    )
    into.trades += acc.trades
    into.flags |= acc.flags
    into.seen_states |= acc.seen_states


@jit
def _saturating(acc: Any, total: int, qty: int) -> int:
    """Return total + qty, both at most QTY_LIMIT, cut to it and flagged."""
    if total > QTY_LIMIT - qty:
        acc.flags |= _SATURATED
        return int(QTY_LIMIT)
    return total + qty


@jit
def clear(acc: Any) -> None:
    """Begin a new bar; close, numbers and averages stay."""
    acc.volume = acc.buy_volume = acc.sell_volume = acc.value_low = acc.value_high = 0
    acc.trades = acc.prices = acc.flags = acc.seen_states = acc.late = acc.signs = 0


@jit
def write_row(c: Any, st: Any, acc: Any, series: Any, event: Any, row: Any) -> None:
    """Write the bar as it stands, as the next row that `event` has caused."""
    flags = acc.flags
    if acc.trades == 0:
        flags |= _EMPTY
    if acc.prices == 0:
        flags |= _CARRIED
        acc.open = acc.high = acc.low = acc.close
        if acc.has_close == 0:
            flags |= _NO_PRICE
    if acc.late:
        flags |= _LATE
    write_cause(c, event, row)
    row.ts_event = row.ts_close = acc.end
    row.ts_open = acc.start
    row.instrument_id = st.instrument_id
    row.kind = _BAR
    row.marks = _worst(acc.seen_states, st.last_state)
    row.bar_kind, row.parameter, row.bar_flags = series.bar_kind, series.parameter, flags
    row.skipped = min(acc.skipped, 0xFFFFFFFF)
    row.bar_no = acc.bar_no
    row.instrument_version = st.version
    row.open, row.high, row.low, row.close = acc.open, acc.high, acc.low, acc.close
    row.volume, row.buy_volume, row.sell_volume = acc.volume, acc.buy_volume, acc.sell_volume
    row.value_low, row.value_high = acc.value_low, acc.value_high
    row.vwap = np.nan
    if acc.volume:
        row.vwap = tr_wide_mean(acc.value_low, acc.value_high, acc.volume)
    row.trades, row.late_prints = acc.trades, acc.late
    acc.bar_no += 1
    acc.skipped = 0


@jit
def write_cause(c: Any, event: Any, row: Any) -> None:
    """Write what names the causing record."""
    row.stamp = row.publish_delta_ns = 0
    row.ts_recv = event.ts_recv
    row.source_epoch = c.epoch
    row.source_seq = (event.stamp - 2) >> 1
    row.source_index, row.source_count = c.next_index, 0
    c.next_index += 1


@jit
def _worst(seen: int, last: int) -> int:
    """Return the least trusted of the instrument states seen; the last one where none was."""
    if seen == 0:
        return last
    for state in (_SYNCING, _STALE, _SUSPECT):
        if (seen >> state) & 1:
            return state
    return _LIVE


@jit
def is_full(acc: Any, series: Any) -> bool:
    """Tell whether a TICK, VOLUME, DOLLAR or IMBALANCE bar has reached its threshold."""
    kind = series.bar_kind
    if kind == _TICK:
        return bool(acc.trades >= series.parameter)
    if kind == _VOLUME:
        return bool(acc.volume >= acc.limit_low)
    if kind == _DOLLAR:
        if acc.value_high != acc.limit_high:
            return bool(acc.value_high > acc.limit_high)
        return bool(np.uint64(acc.value_low) >= np.uint64(acc.limit_low))
    return bool(abs(acc.signs) >= acc.mean_trades * max(abs(acc.mean_sign), LEAST_SIGN))


@jit
def learn_imbalance(acc: Any, first_trades: int) -> None:
    """Move the averages of IMBALANCE bars by the bar that is being closed."""
    sign = acc.signs / acc.trades
    least, most = first_trades / MOST_GROWTH, first_trades * MOST_GROWTH
    moved = acc.mean_trades + _ALPHA * (acc.trades - acc.mean_trades)
    acc.mean_trades = min(max(moved, least), most)
    acc.mean_sign += _ALPHA * (sign - acc.mean_sign)
