"""POSITION: what one account holds of one instrument after one record, worth how much at which mark.

**Layout** header (32 B; kind POSITION; ts_event, ts_recv and marks of the causing record), then
    32   source_epoch        i64      the record that caused the row: a FILL, or one of the events that moved the mark,
    40   source_seq          i64
    48   source_index        u32      as row `source_index` of the
    52   source_count        u32      `source_count` rows that it caused
    56   applied_seq         i64 x 8  last seq applied of each input of the worker, in the order of its spec; 0: none
    120  qty                 i64      at qty_scale, below 0: short
    128  cost_low            i64      136 cost_high          of what is held: signed, price x qty x multiplier
    144  realised_low        i64      152 realised_high      since the day began, without fees
    160  unrealised_low      i64      168 unrealised_high    value at the mark less cost; 0 without a mark
    176  fees_low            i64      184 fees_high          since the day began, those paid in quote_currency; paid: above 0
    192  realised_total_low  i64      200 realised_total_high  since the first fill
    208  average_price       i64      at mark_scale: cost / (qty x multiplier), half to even; 0 where nothing is held
    216  mark_price          i64      at mark_scale
    224  day_no              i64      days since 1970-01-01 (UTC, less the hour at which the worker's days begin)
    232  fills               i64      fills of this position since the first one
    240  instrument_version  i64      of the last fill
    248  account             u32      2**32 - 1: nobody's; the row tells the mark of a watched instrument alone
    252  lots                u32      lots held; 1 where the method is AVERAGE
    256  method              u8       `CostMethod`
    257  mark_kind           u8       `MarkKind`
    258  price_scale         u8       259 qty_scale u8    260 money_scale u8    261 multiplier_scale u8    262 mark_scale u8
    263  faults              u8       `PositionFault`
    264  quote_currency      S16
    280  carried_low         i64      288 carried_high       unrealised when the day began
    296  fees_total_low      i64      304 fees_total_high    since the first fill
    312  multiplier          i64      of the last fill, at multiplier_scale
320 bytes. A pair `_low`, `_high` is one 128-bit two's-complement integer, low 64 bits and high 64 bits, at money_scale in
quote_currency. mark_scale is price_scale + 1 (a mid has half a step) or more where a fee needs it, and money_scale is
mark_scale + qty_scale + multiplier_scale.

**Terms** The day's P&L is realised + unrealised - carried - fees, that since the first fill realised_total + unrealised -
fees_total.

**Invariants** (1) Sums are exact in a pair; where a reduction takes a part of a lot, that part of its cost is rounded once,
half to even, to money_scale, and realised + unrealised stays exact. average_price is the one rounded column. (2) Rows of one
account and instrument are in the order of their causes.
"""

from enum import IntEnum, IntFlag

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS

POSITION_BYTES = 320
_WORD_MASK = (1 << 64) - 1
APPLIED_INPUTS = 8
"""Inputs whose applied seq a derived record can tell."""


class CostMethod(IntEnum):
    """Which cost a reduction takes from the position."""

    AVERAGE = 1
    FIFO = 2


class MarkKind(IntEnum):
    """What a position is valued at."""

    NONE = 0
    MID = 1
    LAST = 2


class PositionFault(IntFlag):
    """What a reader of the row must know before believing it."""

    OVERFLOW = 0x01
    """A fill did not fit and was not booked, or a value does not fit and is 0."""
    NO_MARK = 0x02
    FEE_CURRENCY = 0x04
    """A fee was paid in another currency and is not in `fees`."""
    INPUT_LOST = 0x08
    """Records of orders were overwritten before they were read: fills may be missing."""
    MARK_STALE = 0x10
    """The mark is from before a gap, or its book is not LIVE or lacks a side."""
    MARK_CROSSED = 0x20
    """The book is crossed or locked: the mark is that of before."""
    LOTS_MERGED = 0x40
    """FIFO ran out of lots: its newest lot holds fills of several prices."""
    LATE = 0x80
    """This fill is of an earlier day than the position's; it counts into the later one."""


def money(name: str) -> list[tuple[str, str]]:
    """Return the two fields of a 128-bit integer."""
    return [(f"{name}_low", "<i8"), (f"{name}_high", "<i8")]


def join_words(low: int, high: int) -> int:
    """Return the 128-bit integer of two int64 words."""
    return (int(high) << 64) + (int(low) & _WORD_MASK)


def split_words(value: int) -> tuple[int, int]:
    """Return the two int64 words, low and high, of a 128-bit integer.

    Raises:
        OverflowError: it is wider.
    """
    if not -(1 << 127) <= value < 1 << 127:
        raise OverflowError(f"{value}: more than 128 bits")
    low = value & _WORD_MASK
    return low - (1 << 64) if low >> 63 else low, value >> 64


POSITION = check_layout(
    "POSITION",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("source_epoch", "<i8"),
            ("source_seq", "<i8"),
            ("source_index", "<u4"),
            ("source_count", "<u4"),
            ("applied_seq", "<i8", (APPLIED_INPUTS,)),
            ("qty", "<i8"),
            *money("cost"),
            *money("realised"),
            *money("unrealised"),
            *money("fees"),
            *money("realised_total"),
            ("average_price", "<i8"),
            ("mark_price", "<i8"),
            ("day_no", "<i8"),
            ("fills", "<i8"),
            ("instrument_version", "<i8"),
            ("account", "<u4"),
            ("lots", "<u4"),
            ("method", "<u1"),
            ("mark_kind", "<u1"),
            ("price_scale", "<u1"),
            ("qty_scale", "<u1"),
            ("money_scale", "<u1"),
            ("multiplier_scale", "<u1"),
            ("mark_scale", "<u1"),
            ("faults", "<u1"),
            ("quote_currency", "S16"),
            *money("carried"),
            *money("fees_total"),
            ("multiplier", "<i8"),
        ]
    ),
    POSITION_BYTES,
)
