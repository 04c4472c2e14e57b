"""FEATURES: one row per trade and per frame that changed the top of the book, 39 columns and their ready bits.

**Layout** header (32 B; kind FEATURES; ts_event, ts_recv and marks of the causing record), then
    32  source_epoch  i64    the row was computed at this record of the source ring,
    40  source_seq    i64
    48  source_index  u32    as row `source_index` of the
    52  source_count  u32    `source_count` rows which that record caused
    56  row_no        i64    rows of this instrument so far, from 0
    64  ready         i64    bit i set: column i of `COLUMNS` is valid; unset: it is NaN
    72  39 x f64             the columns below, in the order of `COLUMNS`
384 bytes: 3 x 128. A HEARTBEAT of the source is passed on as a row of that kind (instrument_id 0, row_no its beat_no, no
column ready); a RESTART record has the 64 bytes that it has in EVENT.

**Terms of the formulas** A row is written for each TRADE and each QUOTE, a change of the top at the end of a frame. k counts
the rows of the instrument from 0 (from the last change of its scales on, where there was one); h counts them from the first
one at which the book had both sides and bid + ask was above 0. m_k is the mid, s_k the spread, p the last trade's price, b
and a the best bid and ask, qb and qa their quantities, v_k the quantity that row k traded (0 on a quote row), w_k the same
signed by the taker's side (0 where the side is unknown), r_k = ln m_k - ln m_{k-1}. mean_n and std_n run over the last n
rows, std with n - 1 in the denominator. A row without both sides repeats m and s and has ofi 0: windows go on, columns of
the present book are not ready. Windows count rows, never time. ' means: at the last row before that had both sides. Levels
are counted from the best; where a book has fewer, those there are.

**Why it is right** `ts_event` and record order are the only inputs besides prices and quantities: no clock is read, so live
and replay agree, and a ts_event that goes back changes nothing but itself, trade_intensity and, where it crosses midnight,
the day.

**Marks** are those of the causing record. Their state is lowered to SYNCING while the worker's own book lacks a snapshot
(after a loss, a restart of the collector, a start in mid-stream), and from LIVE to SUSPECT where the book is crossed or
locked, or is not the one that a QUOTE tells. A TRADE marked LATE leaves `price` as it was.

**Invariants** (1) A column is NaN exactly while its ready bit is unset. (2) Cumulative columns restart at a row of another
UTC day of `ts_event` than the row before; that row's own flow is the first of the day. (3) Columns are only ever appended;
the ABI hash guards their order.
"""

from typing import NamedTuple

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS

FEATURES_BYTES = 384


class Column(NamedTuple):
    """One feature: what it is called, its unit, the row from which it is ready, its formula and where that is from."""

    name: str
    unit: str
    ready_from: str
    formula: str
    source: str
    computed: bool = True


_CKS = "Cont, Kukanov, Stoikov, J. Financial Econometrics 12 (2014)"
_TOP = "both sides"
_PRESSURE_SOURCE = "distance-weighted depth imbalance"

COLUMNS: tuple[Column, ...] = (
    Column("return_1", "1", "h >= 1", "ln m_k - ln m_{k-1}", "log return"),
    Column("return_5", "1", "h >= 5", "ln m_k - ln m_{k-5}", "log return"),
    Column("return_20", "1", "h >= 20", "ln m_k - ln m_{k-20}", "log return"),
    Column("return_60", "1", "h >= 60", "ln m_k - ln m_{k-60}", "log return"),
    Column(
        "vol_20", "1 per row", "h >= 20", "std_20(r)", "sample standard deviation, not annualised"
    ),
    Column(
        "vol_60", "1 per row", "h >= 60", "std_60(r)", "sample standard deviation, not annualised"
    ),
    Column(
        "vol_ratio",
        "1",
        "h >= 60",
        "vol_20 / vol_60; 1 where vol_60 = 0",
        "ratio of the two windows",
    ),
    Column(
        "price_deviation",
        "1",
        "h >= 19",
        "m_k / mean_20(m) - 1",
        "distance from the moving average",
    ),
    Column("volume", "base currency", "k >= 0", "v_k", "quantity of this trade, 0 on a quote row"),
    Column(
        "volume_zscore",
        "1",
        "k >= 59",
        "(v_k - mean_60(v)) / std_60(v); 0 where std is 0",
        "standard score",
    ),
    Column(
        "volume_ma_ratio",
        "1",
        "k >= 19",
        "v_k / mean_20(v); 0 where the mean is 0",
        "relative volume",
    ),
    Column("spread", "quote currency", _TOP, "a - b", "quoted spread"),
    Column(
        "spread_zscore",
        "1",
        "h >= 59",
        "(s_k - mean_60(s)) / std_60(s); 0 where std is 0",
        "standard score",
    ),
    Column(
        "spread_ma_ratio",
        "1",
        "h >= 19",
        "s_k / mean_20(s); 1 where the mean is 0",
        "relative spread",
    ),
    Column(
        "ofi",
        "base currency",
        "h >= 1",
        "[b_k >= b'] qb_k - [b_k <= b'] qb' - [a_k <= a'] qa_k + [a_k >= a'] qa'",
        _CKS + ", eq. 4",
    ),
    Column("ofi_mean", "base currency", "h >= 20", "mean_20(ofi)", _CKS),
    Column("ofi_cumulative", "base currency", "h >= 1", "sum of ofi since UTC midnight", _CKS),
    Column("imbalance", "-1..1", _TOP, "(qb - qa) / (qb + qa)", "best-level imbalance"),
    Column("log_pressure", "1", _TOP, "ln(qb / qa)", "log ratio of the best queues"),
    Column(
        "microprice",
        "quote currency",
        _TOP,
        "(a qb + b qa) / (qb + qa)",
        "Gatheral, Oomen (2010), eq. 2",
    ),
    Column(
        "microprice_deviation",
        "1",
        _TOP,
        "microprice / m - 1",
        "distance of the microprice from the mid",
    ),
    Column(
        "rsi",
        "0..100",
        "h >= 14",
        "100 G / (G + L), G, L: Wilder's averages of the rises and falls of m over 14 rows; 50 where both are 0",
        "Wilder (1978)",
    ),
    Column(
        "momentum_divergence",
        "1 per row",
        "h >= 20",
        "return_5 / 5 - return_20 / 20",
        "short less long drift",
    ),
    Column("price", "quote currency", "first trade", "p", "price of the last trade"),
    Column("mid", "quote currency", _TOP, "(a + b) / 2", "mid price"),
    Column("bid", "quote currency", _TOP, "b", "best bid"),
    Column("ask", "quote currency", _TOP, "a", "best ask"),
    Column(
        "trade_intensity",
        "1/s",
        "k >= 60",
        "trades among rows k-59..k / max(ts_event_k - ts_event_{k-60}, 1 ms)",
        "arrival rate over the window",
    ),
    Column(
        "depth_imbalance_5",
        "-1..1",
        _TOP,
        "(B_5 - A_5) / (B_5 + A_5), B_n, A_n: qty of the n best levels",
        "depth imbalance",
    ),
    Column("depth_imbalance_10", "-1..1", _TOP, "as above, 10 levels", "depth imbalance"),
    Column("depth_imbalance_20", "-1..1", _TOP, "as above, 20 levels", "depth imbalance"),
    Column("depth_imbalance_50", "-1..1", _TOP, "as above, 50 levels", "depth imbalance"),
    Column("spread_bps", "bp", _TOP, "10^4 (a - b) / m", "relative spread"),
    Column(
        "book_slope",
        "base currency per bp",
        _TOP,
        "(S_b + S_a) / 2, S: qty of the side's 10 best levels / distance of the last of them from m in bp, 0 at 0",
        "after Naes, Skjeltorp, J. Financial Markets 9 (2006)",
    ),
    Column(
        "multi_level_ofi",
        "base currency",
        "h >= 1",
        "sum over levels 1..5 of ofi of that level; an absent bid is at -inf, an absent ask at +inf, with qty 0",
        "Xu, Gould, Howison (2018)",
    ),
    Column(
        "volume_imbalance",
        "0..1",
        "60 trades",
        "|V_buy - V_sell| / (V_buy + V_sell) over the last 60 trades; 0 where both are 0",
        "after Easley, Lopez de Prado, O'Hara (2012), VPIN",
    ),
    Column(
        "kyle_lambda",
        "quote per base currency",
        "h >= 60",
        "cov_60(m_k - m_{k-1}, w_k) / var_60(w); 0 where var is 0",
        "Kyle, Econometrica 53 (1985)",
    ),
    Column("queue_imbalance", "0..1", _TOP, "qb / (qb + qa)", "Gould, Bonart (2016)"),
    Column(
        "book_pressure",
        "-1..1",
        _TOP,
        "(sum w_i qb_i - sum w_i qa_i) / (sum of both), w_i = 1 / i, i = 1..10",
        _PRESSURE_SOURCE,
    ),
)
"""Every column: name, unit, rows or state from which it is ready ("both sides": the book of this row has a bid and an ask),
formula, source."""

READY_BIT: dict[str, int] = {column.name: bit for bit, column in enumerate(COLUMNS)}

FEATURES = check_layout(
    "FEATURES",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("source_epoch", "<i8"),
            ("source_seq", "<i8"),
            ("source_index", "<u4"),
            ("source_count", "<u4"),
            ("row_no", "<i8"),
            ("ready", "<i8"),
            *((column.name, "<f8") for column in COLUMNS),
        ]
    ),
    FEATURES_BYTES,
)
