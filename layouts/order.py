"""ORDER: what is asked and what was traded, one record each, in the one total order of `orders.orders`.

**Layout** header (32 B; kind ORDER, CANCEL, FILL or OPENING; marks: the side, BUY or SELL), then
    32   order_id            i64  given by the orders worker, from 1, never reused; of a CANCEL or FILL: the order it concerns
    40   price               i64  at price_scale; 0: a MARKET order, or a CANCEL
    48   qty                 i64  at qty_scale, above 0; CANCEL: 0
    56   instrument_version  i64  version of the instrument (layouts.instrument) that the scales are of
    64   fill_id             i64  FILL: unique within the instrument's venue; else 0
    72   fee                 i64  FILL: at fee_scale in fee_currency, above 0 paid, below 0 received; else 0
    80   account             u32
    84   order_type          u8   `OrderType`
    85   time_in_force       u8   `TimeInForce`
    86   liquidity           u8   FILL: `Liquidity`; else 0
    87   price_scale         u8   88 qty_scale u8    89 fee_scale u8    90 multiplier_scale u8
    91   instructions        u8   `Instruction`
    92   reason              u32  CANCEL: `CancelReason`; OPENING: `Opening`; else 0
    96   multiplier          i64  contract multiplier at multiplier_scale (1 at 0 for spot)
    104  client_order_id     S40  the client's own name of the order, one order a name and account
    144  quote_currency      S16  160 fee_currency S16 (FILL)
    176  amount_low          i64  184 amount_high    OPENING: 128-bit; else 0
192 bytes. ts_recv is the clock of the orders worker when the request came in (FILL: when the report came in), ts_event that
of the venue for a FILL, else equal to ts_recv.

**Why it is right** Scales, multiplier and currency are in the record, so that money is worked out from these records alone,
years later: notional = price x qty x multiplier at the scale price_scale + qty_scale + multiplier_scale. The three kinds
share every field, so that one table stores them without a byte lost.

**Invariants** (1) order_id rises with each ORDER. (2) A CANCEL or FILL repeats account, instrument and side of its order.
"""

from enum import IntEnum, IntFlag

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS
from layouts.position import money

ORDER_BYTES = 192
CLIENT_ID_BYTES = 40
CURRENCY_BYTES = 16


class OrderType(IntEnum):
    """How an order is priced."""

    LIMIT = 1
    MARKET = 2


class TimeInForce(IntEnum):
    """How long an order stands."""

    GOOD_TILL_CANCEL = 1
    IMMEDIATE_OR_CANCEL = 2
    FILL_OR_KILL = 3


class Liquidity(IntEnum):
    """Which side of a trade was there first."""

    UNKNOWN = 0
    MAKER = 1
    TAKER = 2


class Instruction(IntFlag):
    """What else is said of an order or a fill."""

    REDUCE_ONLY = 0x01
    POST_ONLY = 0x02
    FINAL = 0x04
    """FILL: nothing of the order stands any more."""


class Opening(IntEnum):
    """What an OPENING brings over from the run before, at its own scales. They are the first records of a run."""

    HELD = 1
    """For risk: qty; price: bid + ask of the last mark; order_id: UTC day; amount: cash less base of that day, in halves of
    10**-18; fee_currency and client_order_id: venue and symbol."""
    STANDS = 2
    """An order of which qty still stands; all else as in its ORDER."""
    MARK = 3
    """For P&L: price: bid + ask, qty: last trade, both at price_scale; instructions: 1: there is a mid, 2: a last trade."""
    LOT = 4
    """A lot of a position: qty, price at fee_scale (MIXED_PRICE: several), amount: its cost. Oldest first; like all behind it
    with sums at price_scale + 1 or more = fee_scale, + qty_scale + multiplier_scale."""
    REALISED = 5
    FEES = 6
    REALISED_TOTAL = 7
    FEES_TOTAL = 8
    CARRIED = 9
    POSITION = 10
    """The last of a position: qty; amount: cost; order_id: its day; fill_id: fills; fee: version; instructions: faults."""


class CancelReason(IntEnum):
    """Why a CANCEL was written."""

    CLIENT = 1
    OPERATOR = 2


ORDER = check_layout(
    "ORDER",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("order_id", "<i8"),
            ("price", "<i8"),
            ("qty", "<i8"),
            ("instrument_version", "<i8"),
            ("fill_id", "<i8"),
            ("fee", "<i8"),
            ("account", "<u4"),
            ("order_type", "<u1"),
            ("time_in_force", "<u1"),
            ("liquidity", "<u1"),
            ("price_scale", "<u1"),
            ("qty_scale", "<u1"),
            ("fee_scale", "<u1"),
            ("multiplier_scale", "<u1"),
            ("instructions", "<u1"),
            ("reason", "<u4"),
            ("multiplier", "<i8"),
            ("client_order_id", f"S{CLIENT_ID_BYTES}"),
            ("quote_currency", f"S{CURRENCY_BYTES}"),
            ("fee_currency", f"S{CURRENCY_BYTES}"),
            *money("amount"),
        ]
    ),
    ORDER_BYTES,
)
