"""CONTROL: what an operator ordered of the trading: halt, reduce, resume, another limit or rate; who, and why.

**Layout** header (32 B; kind CONTROL; ts_event = ts_recv: the supervisor's clock; instrument_id: of a limit on one
instrument), then
    32   control_no   i64  orders of this kind, from 1, never reused
    40   value_low    i64  48 value_high    a limit's new value, or of a rate that is a number the price of one unit of
                                           `currency` in the currency of risk (128-bit, at value_scale)
    56   window_ns    i64  ORDER_RATE: so many orders in this time; else 0
    64   action       u8   `Action`
    65   check        u8   `Check` of the limit
    66   scope        u8   `layouts.risk_decision.Scope` of the limit
    67   value_scale  u8   decimals of the value
    68   account      u32  0: every account
    72   currency     S16  of a money limit, or that a rate is of
    88   scope_name   S64  venue or symbol of the limit; the instrument whose mid is the rate, empty: the rate is a number;
                                           of INPUT the ring, of ACCOUNT the account
    152  who          S32  user and uid
    184  why          S72
256 bytes.
"""

from enum import IntEnum

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS
from layouts.position import money

CONTROL_BYTES = 256


class Action(IntEnum):
    """What is ordered."""

    HALT = 1
    REDUCE = 2
    RESUME = 3
    SET_LIMIT = 4
    CLEAR_LIMIT = 5
    SET_RATE = 6
    CLEAR_RATE = 7
    INPUT = 8
    """Nothing; says that input number `value_low` of risk is the ring `scope_name`."""
    ACCOUNT = 9
    """Nothing; says that orders may come of account `account`, called `scope_name`."""


class Check(IntEnum):
    """What a limit bounds. ORDER_SIZE .. DAILY_LOSS have a limit in each scope; COLLAR .. RATE_AGE one for all orders."""

    NONE = 0
    ORDER_SIZE = 1
    POSITION_SIZE = 2
    EXPOSURE = 3
    OPEN_POSITIONS = 4
    DAILY_LOSS = 5
    COLLAR = 6
    ORDER_RATE = 7
    BOOK_AGE = 8
    RATE_AGE = 9


CONTROL = check_layout(
    "CONTROL",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("control_no", "<i8"),
            *money("value"),
            ("window_ns", "<i8"),
            ("action", "<u1"),
            ("check", "<u1"),
            ("scope", "<u1"),
            ("value_scale", "<u1"),
            ("account", "<u4"),
            ("currency", "S16"),
            ("scope_name", "S64"),
            ("who", "S32"),
            ("why", "S72"),
        ]
    ),
    CONTROL_BYTES,
)
