"""RISK_DECISION: what was decided of each record of `orders.orders` and of the control ring, why, and from what.

**Layout** header (32 B; kind RISK_DECISION; ts_event, ts_recv and instrument_id of the cause; marks: its side, and the state
of the instrument's book as the decision saw it), then
    32   source_epoch     i64      the record that was decided on; exactly one row each
    40   source_seq       i64
    48   source_index     u32      0
    52   source_count     u32      1
    56   applied_seq      i64 x 8  last seq applied of each input of the worker, in the order of its spec; 0: none
    120  decision_no      i64      decisions of this worker, from 1
    128  order_id         i64      0: the cause was a CONTROL
    136  limit_low        i64      144 limit_high        what was allowed (128-bit, at value_scale); 0 where nothing refused
    152  observed_low     i64      160 observed_high     what would have been
    168  scope_id         i64      which one of `scope`: account, venue, currency or instrument as the worker numbers them
    176  account          u32
    180  verdict          u8       `Verdict`
    181  reason           u8       `RiskReason`: 0, or what refused
    182  scope            u8       `Scope` of the limit that refused; 0 where it was no limit
    183  trading_state    u8       `TradingState` after this record
    184  value_scale      u8       185 cause_kind u8 (`Kind` of the cause)
    186  input            u16      number of the input that the cause came from
    188  orders_open      u32      orders that stand, after this record
    192  currency         S16      of limit and observed; empty for quantities and counts; of OTHER_CURRENCY and RATE_*: the
                                  currency whose rate there is not
    208  client_order_id  S40
    248  zeros            S8
256 bytes.

**Why it is right** A decision is a function of what was applied before it: `applied_seq` says how far each input was, so
that recovery and replay merge the inputs as they were merged then, and decide the same.
"""

from enum import IntEnum

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS
from layouts.position import APPLIED_INPUTS, money

RISK_DECISION_BYTES = 256


class Verdict(IntEnum):
    """What became of a record."""

    ACCEPTED = 1
    REJECTED = 2
    CANCEL_PASSED = 3
    FILL_BOOKED = 4
    CONTROL_APPLIED = 5
    OPENED = 6


class TradingState(IntEnum):
    """What orders may do: all, only reduce a position, or nothing. Cancels always pass."""

    ACTIVE = 1
    REDUCING = 2
    HALTED = 3


class Scope(IntEnum):
    """The five levels of a limit, the narrowest first; all but PORTFOLIO hold for each account by itself."""

    INSTRUMENT = 1
    VENUE = 2
    CURRENCY = 3
    ACCOUNT = 4
    PORTFOLIO = 5


class RiskReason(IntEnum):
    """Why a record was refused. A limit's code is 10 x its check + its scope."""

    NONE = 0
    HALTED = 1
    NOT_REDUCING = 2
    UNKNOWN_INSTRUMENT = 3
    UNKNOWN_ACCOUNT = 4
    OTHER_VERSION = 5
    BAD_QTY = 6
    BAD_PRICE = 7
    OVERFLOW = 8
    TOO_MANY_ORDERS = 9
    ORDER_SIZE_INSTRUMENT = 11
    ORDER_SIZE_VENUE = 12
    ORDER_SIZE_CURRENCY = 13
    ORDER_SIZE_ACCOUNT = 14
    ORDER_SIZE_PORTFOLIO = 15
    POSITION_SIZE_INSTRUMENT = 21
    POSITION_SIZE_VENUE = 22
    POSITION_SIZE_CURRENCY = 23
    POSITION_SIZE_ACCOUNT = 24
    POSITION_SIZE_PORTFOLIO = 25
    EXPOSURE_INSTRUMENT = 31
    EXPOSURE_VENUE = 32
    EXPOSURE_CURRENCY = 33
    EXPOSURE_ACCOUNT = 34
    EXPOSURE_PORTFOLIO = 35
    OPEN_POSITIONS_INSTRUMENT = 41
    OPEN_POSITIONS_VENUE = 42
    OPEN_POSITIONS_CURRENCY = 43
    OPEN_POSITIONS_ACCOUNT = 44
    OPEN_POSITIONS_PORTFOLIO = 45
    DAILY_LOSS_INSTRUMENT = 51
    DAILY_LOSS_VENUE = 52
    DAILY_LOSS_CURRENCY = 53
    DAILY_LOSS_ACCOUNT = 54
    DAILY_LOSS_PORTFOLIO = 55
    BOOK_UNKNOWN = 60
    BOOK_NOT_LIVE = 61
    BOOK_OLD = 62
    BOOK_CROSSED = 63
    PRICE_COLLAR = 64
    ORDER_RATE = 65
    UNKNOWN_ORDER = 66
    OTHER_CURRENCY = 67
    INPUT_LOST = 68
    BAD_LIMIT = 69
    RATE_UNKNOWN = 70
    RATE_NOT_LIVE = 71
    RATE_OLD = 72
    RATE_CROSSED = 73
    BAD_RATE = 74


RISK_DECISION = check_layout(
    "RISK_DECISION",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("source_epoch", "<i8"),
            ("source_seq", "<i8"),
            ("source_index", "<u4"),
            ("source_count", "<u4"),
            ("applied_seq", "<i8", (APPLIED_INPUTS,)),
            ("decision_no", "<i8"),
            ("order_id", "<i8"),
            *money("limit"),
            *money("observed"),
            ("scope_id", "<i8"),
            ("account", "<u4"),
            ("verdict", "<u1"),
            ("reason", "<u1"),
            ("scope", "<u1"),
            ("trading_state", "<u1"),
            ("value_scale", "<u1"),
            ("cause_kind", "<u1"),
            ("input", "<u2"),
            ("orders_open", "<u4"),
            ("currency", "S16"),
            ("client_order_id", "S40"),
            ("zeros", "S8"),
        ]
    ),
    RISK_DECISION_BYTES,
)
