"""The windows of one instrument after one row: every sum, ratio and average of `layouts.features` that counts rows.

**Protocol** `enter_row` puts the row into the instrument's history and moves the sums of the last 20 and 60 rows
on by one; `write_windows` then computes the columns from them. A row without both sides repeats the last mid and
spread, so windows go on.

**Cost** Constant: each sum gains the new value and loses the one that leaves its window.
"""

import math
from typing import Any

import numpy as np

from consumers.feature_state import (
    HISTORY_ROWS,
    MID,
    MID_CHANGE,
    NO_MID,
    OFI,
    RETURN,
    SIGNED,
    SPREAD,
    TS,
    VOLUME,
)
from consumers.rolling import (
    RETURN_LIMIT,
    RETURN_STEPS,
    covariance_numerator,
    log_ratio,
    variance_numerator,
    wide_add,
    wide_add_products,
    wide_float,
)
from shm.njit import jit

_MASK = HISTORY_ROWS - 1
_BITS_20 = (1 << 20) - 1
_BITS_60 = (1 << 60) - 1
_DAY_NS = 86_400_000_000_000
_LEAST_SPAN_NS = 1_000_000
_FORGOTTEN = 1e-290
_RSI_ROWS = 14
_ZSCORE_60 = math.sqrt(59.0 / 60.0)
_PAIRS_20 = 20.0 * 19.0
_PAIRS_60 = 60.0 * 59.0


@jit
def enter_row(
    st: Any, ts_event: int, is_trade: int, volume: int, signed: int, mid: int, spread: int, ofi: int
) -> None:
    """Move the windows of `st` on by one row; `mid` is bid + ask, 0 while there has been none."""
    k = st.rows
    before = (k - 1) & _MASK
    old_20, old_60, at = (k - 20) & _MASK, (k - 60) & _MASK, k & _MASK
    history = st.history
    change, steps, jump = 0, 0, 0
    if st.first_mid != NO_MID and k > st.first_mid:
        last = history[before, MID]
        change = mid - last
        if change != 0:
            log_return = log_ratio(mid, last)
            if abs(log_return) < RETURN_LIMIT:
                steps = int(np.rint(log_return * RETURN_STEPS))
            else:
                jump = 1
    st.trades_60 += is_trade - ((st.trade_bits >> 59) & 1)
    st.trade_bits = ((st.trade_bits << 1) | is_trade) & _BITS_60
    st.jump_bits = ((st.jump_bits << 1) | jump) & _BITS_60
    _move_sums_20(st, history, old_20, volume, mid, spread, ofi, steps)
    _move_sums_60(st, history, old_60, volume, signed, spread, steps, change)
    _move_day(st, ts_event, ofi)
    _move_rsi(st, k, change)
    history[at, MID] = mid
    history[at, TS] = ts_event
    history[at, VOLUME] = volume
    history[at, SPREAD] = spread
    history[at, OFI] = ofi
    history[at, SIGNED] = signed
    history[at, RETURN] = steps
    history[at, MID_CHANGE] = change


@jit
def _move_sums_20(
    st: Any, history: Any, old: int, volume: int, mid: int, spread: int, ofi: int, steps: int
) -> None:
    st.mid_20 += mid - history[old, MID]
    st.spread_20 += spread - history[old, SPREAD]
    gone = history[old, RETURN]
    st.volume_20_low, st.volume_20_high = wide_add(
        st.volume_20_low, st.volume_20_high, volume - history[old, VOLUME]
    )
    st.ofi_20_low, st.ofi_20_high = wide_add(st.ofi_20_low, st.ofi_20_high, ofi - history[old, OFI])
    st.return_20_low, st.return_20_high = wide_add(
        st.return_20_low, st.return_20_high, steps - gone
    )
    st.return_squares_20_low, st.return_squares_20_high = wide_add_products(
        st.return_squares_20_low, st.return_squares_20_high, steps, steps, gone, gone
    )


@jit
def _move_sums_60(
    st: Any, history: Any, old: int, volume: int, signed: int, spread: int, steps: int, change: int
) -> None:
    gone = history[old, RETURN]
    st.return_60_low, st.return_60_high = wide_add(
        st.return_60_low, st.return_60_high, steps - gone
    )
    st.return_squares_60_low, st.return_squares_60_high = wide_add_products(
        st.return_squares_60_low, st.return_squares_60_high, steps, steps, gone, gone
    )
    gone = history[old, VOLUME]
    st.volume_60_low, st.volume_60_high = wide_add(
        st.volume_60_low, st.volume_60_high, volume - gone
    )
    st.volume_squares_60_low, st.volume_squares_60_high = wide_add_products(
        st.volume_squares_60_low, st.volume_squares_60_high, volume, volume, gone, gone
    )
    gone = history[old, SPREAD]
    st.spread_60_low, st.spread_60_high = wide_add(
        st.spread_60_low, st.spread_60_high, spread - gone
    )
    st.spread_squares_60_low, st.spread_squares_60_high = wide_add_products(
        st.spread_squares_60_low, st.spread_squares_60_high, spread, spread, gone, gone
    )
    gone = history[old, SIGNED]
    st.signed_60_low, st.signed_60_high = wide_add(
        st.signed_60_low, st.signed_60_high, signed - gone
    )
    st.signed_squares_60_low, st.signed_squares_60_high = wide_add_products(
        st.signed_squares_60_low, st.signed_squares_60_high, signed, signed, gone, gone
    )
    st.impact_60_low, st.impact_60_high = wide_add_products(
        st.impact_60_low, st.impact_60_high, change, signed, history[old, MID_CHANGE], gone
    )


@jit
def _move_day(st: Any, ts_event: int, ofi: int) -> None:
    day = ts_event // _DAY_NS
    if day != st.day:
        st.day = day
        st.ofi_day_low = st.ofi_day_high = 0
        st.ofi_day_before = 0.0
    st.ofi_day_low, st.ofi_day_high = wide_add(st.ofi_day_low, st.ofi_day_high, ofi)


@jit
def _move_rsi(st: Any, k: int, change: int) -> None:
    """Wilder: the mean of the first 14 gains and losses, then 13 parts of the old and one of the new."""
    if st.first_mid in (NO_MID, k):
        return
    gain, loss = float(max(change, 0)), float(max(-change, 0))
    n = k - st.first_mid
    if n <= _RSI_ROWS:
        st.gains += gain
        st.losses += loss
        if n == _RSI_ROWS:
            st.gains /= _RSI_ROWS
            st.losses /= _RSI_ROWS
        return
    st.gains = (st.gains * (_RSI_ROWS - 1) + gain) / _RSI_ROWS
    st.losses = (st.losses * (_RSI_ROWS - 1) + loss) / _RSI_ROWS
    if st.gains + st.losses < _FORGOTTEN:
        st.gains = st.losses = 0.0


@jit
def _volatility(st: Any, k: int, n: int, bits: int, numerator: float, pairs: float) -> float:
    """Return std_n(r); while a jump is in the window, from its mids themselves."""
    if (st.jump_bits & bits) == 0:
        return math.sqrt(numerator / pairs) / RETURN_STEPS
    history = st.history
    mean = log_ratio(history[k & _MASK, MID], history[(k - n) & _MASK, MID]) / n
    total = 0.0
    for j in range(k - n + 1, k + 1):
        r = log_ratio(history[j & _MASK, MID], history[(j - 1) & _MASK, MID])
        total += (r - mean) * (r - mean)
    return math.sqrt(total / (n - 1))


@jit
def write_returns(st: Any, row: Any, k: int) -> None:
    """Columns of the mid: returns, volatilities, deviation, rsi, divergence. Needs a mid in every row of the window."""
    history = st.history
    mid = history[k & _MASK, MID]
    h = k - st.first_mid
    if h < 1:
        return
    row.return_1 = log_ratio(mid, history[(k - 1) & _MASK, MID])
    if st.gains + st.losses > 0.0:
        row.rsi = 100.0 * (st.gains / (st.gains + st.losses))
    else:
        row.rsi = 50.0
    if h < 5:
        return
    row.return_5 = log_ratio(mid, history[(k - 5) & _MASK, MID])
    if h < 19:
        return
    row.price_deviation = float(20 * mid - st.mid_20) / float(st.mid_20)
    if h < 20:
        return
    row.return_20 = log_ratio(mid, history[(k - 20) & _MASK, MID])
    row.momentum_divergence = row.return_5 / 5.0 - row.return_20 / 20.0
    row.vol_20 = _volatility(
        st,
        k,
        20,
        _BITS_20,
        variance_numerator(
            20,
            st.return_20_low,
            st.return_20_high,
            st.return_squares_20_low,
            st.return_squares_20_high,
        ),
        _PAIRS_20,
    )
    if h < 60:
        return
    row.return_60 = log_ratio(mid, history[(k - 60) & _MASK, MID])
    numerator = variance_numerator(
        60, st.return_60_low, st.return_60_high, st.return_squares_60_low, st.return_squares_60_high
    )
    row.vol_60 = _volatility(st, k, 60, _BITS_60, numerator, _PAIRS_60)
    row.vol_ratio = row.vol_20 / row.vol_60 if row.vol_60 > 0.0 else 1.0


@jit
def write_volumes(st: Any, row: Any, k: int, volume: int) -> None:
    """Columns of traded quantity and arrival: they need no mid."""
    row.volume = float(volume) / st.qty_unit
    total = wide_float(st.volume_20_low, st.volume_20_high)
    row.volume_ma_ratio = 20.0 * float(volume) / total if total > 0.0 else 0.0
    row.volume_zscore = _zscore_60(
        volume,
        st.volume_60_low,
        st.volume_60_high,
        st.volume_squares_60_low,
        st.volume_squares_60_high,
    )
    history = st.history
    span_ns = history[k & _MASK, TS] - history[(k - 60) & _MASK, TS]
    row.trade_intensity = float(st.trades_60) / (float(max(span_ns, _LEAST_SPAN_NS)) / 1e9)
    sided = wide_float(st.sided_trades_low, st.sided_trades_high)
    net = wide_float(st.signed_trades_low, st.signed_trades_high)
    row.volume_imbalance = abs(net) / sided if sided > 0.0 else 0.0


@jit
def write_spreads(st: Any, row: Any, spread: int) -> None:
    """Columns of the spread's windows."""
    row.spread_ma_ratio = 20.0 * float(spread) / float(st.spread_20) if st.spread_20 != 0 else 1.0
    row.spread_zscore = _zscore_60(
        spread,
        st.spread_60_low,
        st.spread_60_high,
        st.spread_squares_60_low,
        st.spread_squares_60_high,
    )


@jit
def write_flows(st: Any, row: Any, k: int, ofi: int) -> None:
    """Columns of order flow: ofi, its mean and day's sum, Kyle's lambda."""
    row.ofi = float(ofi) / st.qty_unit
    row.ofi_mean = wide_float(st.ofi_20_low, st.ofi_20_high) / 20.0 / st.qty_unit
    row.ofi_cumulative = (
        st.ofi_day_before + wide_float(st.ofi_day_low, st.ofi_day_high) / st.qty_unit
    )
    variance = variance_numerator(
        60, st.signed_60_low, st.signed_60_high, st.signed_squares_60_low, st.signed_squares_60_high
    )
    if variance > 0.0:
        moved = st.history[k & _MASK, MID] - st.history[(k - 60) & _MASK, MID]
        covariance = covariance_numerator(
            60,
            st.impact_60_low,
            st.impact_60_high,
            moved,
            st.signed_60_low,
            st.signed_60_high,
            st.signed_squares_60_high,
        )
        row.kyle_lambda = covariance / variance * (st.qty_unit / (2.0 * st.price_unit))
    else:
        row.kyle_lambda = 0.0


@jit
def _zscore_60(x: int, low: int, high: int, squares_low: int, squares_high: int) -> float:
    """Return (x - mean) / std over 60 rows; 0 where they are all equal."""
    numerator = variance_numerator(60, low, high, squares_low, squares_high)
    if numerator <= 0.0:
        return 0.0
    # total - 60 x as an integer: of quantities beyond 2**53 a float64 would have lost what they differ by.
    below_low, below_high = wide_add_products(low, high, 0, 0, 60, x)
    above: float = 0.0 - wide_float(below_low, below_high)
    return above * _ZSCORE_60 / math.sqrt(numerator)


@jit
def enter_trade(st: Any, signed: int) -> None:
    """Move the window of the last 60 trades on by one; `signed` is its qty, + bought, - sold, 0 where the side is unknown."""
    old = st.last_trades[(st.trades - 60) & _MASK]
    st.last_trades[st.trades & _MASK] = signed
    st.signed_trades_low, st.signed_trades_high = wide_add(
        st.signed_trades_low, st.signed_trades_high, signed - old
    )
    st.sided_trades_low, st.sided_trades_high = wide_add(
        st.sided_trades_low, st.sided_trades_high, abs(signed) - abs(old)
    )
    st.trades += 1
