"""EXPOSURE: what is at stake in one currency, or in all of them, at the end of a slot of record time, and its value at risk.

**Layout** header (32 B; kind EXPOSURE; instrument_id 0; ts_event, ts_recv of the causing record), then
    32   source_epoch     i64      the POSITION row that ended the slot,
    40   source_seq       i64
    48   source_index     u32      as row `source_index` of the
    52   source_count     u32      `source_count` rows that it caused
    56   ts_slot          i64      ns since the epoch: end of the slot that the row tells of
    64   long_low         i64      72  long_high    value of what is held long: qty x mark x multiplier
    80   short_low        i64      88  short_high   of what is held short, as a number above 0
    96   gross_low        i64      104 gross_high   long + short
    112  net_low          i64      120 net_high     long - short
    128  var_historical   f64      value at risk in `currency` over one interval; NaN where FEW_SAMPLES
    136  var_parametric   f64      likewise
    144  confidence       f64      of both, e.g. 0.99
    152  interval_ns      i64      record time of one return
    160  samples          i64      returns that both are worked out from
    168  positions        u32      positions held
    172  account          u32      0 in PORTFOLIO rows
    176  scope            u8       `layouts.risk_decision.Scope`: CURRENCY, ACCOUNT or PORTFOLIO
    177  money_scale      u8       decimals of the four sums
    178  faults           u8       `ExposureFault`
    179  zero             u8
    180  unpriced         u32      positions left out, for want of a mark or a rate
    184  currency         S16
    200  zeros            S56
256 bytes. A pair `_low`, `_high` is one 128-bit two's-complement integer.

**Terms** Sums of CURRENCY rows are exact; those over currencies are each converted exactly, then rounded once, half to
even. Let v_i be the value of position i (below 0: short), r_ih its simple return over interval h, and L_h = -sum_i v_i
r_ih. var_historical is the least L such that at least `confidence` of all L_h are <= L (the inverted-distribution
quantile, without interpolation). var_parametric is z x sqrt(v' S v), z the standard normal quantile of `confidence`, S
the sample covariance (n - 1) of the returns, whose mean is taken as 0. A loss is above 0.
"""

from enum import IntFlag

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS
from layouts.position import money

EXPOSURE_BYTES = 256


class ExposureFault(IntFlag):
    """What a reader of the row must know before believing it."""

    UNPRICED = 0x01
    """Positions without a mark or a rate are left out."""
    STALE = 0x02
    """Marks or rates are from before a gap, or of a crossed book."""
    FEW_SAMPLES = 0x04
    """There are fewer returns than the configuration asks for."""
    OVERFLOW = 0x08
    """A sum does not fit 128 bits and is 0."""
    POSITIONS_DOUBTFUL = 0x10
    """Positions say of themselves that fills may be missing, or did not fit."""


EXPOSURE = check_layout(
    "EXPOSURE",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("source_epoch", "<i8"),
            ("source_seq", "<i8"),
            ("source_index", "<u4"),
            ("source_count", "<u4"),
            ("ts_slot", "<i8"),
            *money("long"),
            *money("short"),
            *money("gross"),
            *money("net"),
            ("var_historical", "<f8"),
            ("var_parametric", "<f8"),
            ("confidence", "<f8"),
            ("interval_ns", "<i8"),
            ("samples", "<i8"),
            ("positions", "<u4"),
            ("account", "<u4"),
            ("scope", "<u1"),
            ("money_scale", "<u1"),
            ("faults", "<u1"),
            ("zero", "<u1"),
            ("unpriced", "<u4"),
            ("currency", "S16"),
            ("zeros", "S56"),
        ]
    ),
    EXPOSURE_BYTES,
)
