"""The memory of the risk kernel: flat words without pointers inside, so that a checkpoint is a copy.

**Layout** `instruments`: one INSTRUMENT_RISK for each instrument_id. `rows`: one SCOPE_ROW for each of the five scopes that a
position belongs to; that of scope INSTRUMENT is the position itself and knows the four above it. `orders`: the orders
that stand, an order at one of the PROBES places behind order_id % ORDER_PLACES. `rates`: per account, when its last
RATE_PLACES orders were accepted. `currency_rates`: what converts each currency. A sum over several currencies (VENUE,
ACCOUNT, PORTFOLIO) is a row of what is in the base currency, and a chain of parts, one for each other currency.
CONTEXT is what one call of the kernel is given and answers.

**Units** Money is a 128-bit integer of two words [low, high] in halves of 10**-18 of the currency: `(bid + ask) x qty x factor`
is exact, because nothing is halved. Quantities in limits have 18 decimals.
"""

from enum import IntEnum

import numpy as np

MONEY_DIGITS = 18
"""Decimals of limits. An instrument whose price, quantity and multiplier have more together cannot be traded."""
SCOPES = 5
LIMITED = 5
"""Checks that have a limit in each scope: ORDER_SIZE .. DAILY_LOSS of `layouts.Check`."""
ORDER_PLACES = 1 << 14
PROBES = 16
RATE_PLACES = 1 << 10
CURRENCIES = 64
"""Currencies are numbers 1 .. 63, in the order in which they were met."""
QTY_LIMIT = 1 << 60
"""Largest quantity of an order, and of all that a position may come to."""
NS_PER_DAY = 86_400_000_000_000
IDS = 1 << 16
NO_ROW = -1
NO_LIMIT = (1 << 127) - 1
NO_FLOOR = -(1 << 127)


class Request(IntEnum):
    """Why the kernel came back before the end of its records."""

    NOTHING = 0
    NEW_POSITION = 1
    NEW_VERSION = 2
    NEW_DAY = 3
    NEW_SCALES = 4
    OPENING = 5


class RateKind(IntEnum):
    """What a currency is converted by."""

    NONE = 0
    NUMBER = 1
    MID = 2


def wide(name: str) -> tuple[str, str, tuple[int]]:
    """Return the field of a 128-bit integer."""
    return name, "<i8", (2,)


INSTRUMENT_RISK = np.dtype(
    [
        ("seen", "<i8"),  # 1: a record named it
        ("source", "<i8"),  # number of the input whose records it is fed by
        ("version", "<i8"),  # that its records are of, 0: not known
        ("price_up", "<i8"),  # what brings a price of that version to `price_scale`
        ("qty_up", "<i8"),
        ("price_scale", "<i8"),  # of everything here: the widest that was ever seen
        ("qty_scale", "<i8"),
        ("factor", "<i8"),  # multiplier x 10**(18 - all scales), 0: never traded
        ("multiplier", "<i8"),
        ("multiplier_scale", "<i8"),
        ("state", "<i8"),  # InstrumentState of the last record
        ("top_known", "<i8"),  # 1: bid and ask are those of the collector's book
        ("bid", "<i8"),
        ("bid_qty", "<i8"),
        ("ask", "<i8"),
        ("ask_qty", "<i8"),
        ("mark", "<i8"),  # bid + ask when the book was last good, 0: never
        ("day", "<i8"),  # UTC day of the last quote
        ("day_mark", "<i8"),  # mark when that day began
        ("ts", "<i8"),  # newest ts_recv of its records
        ("first_row", "<i8"),  # first of its positions + 1, 0: none
        ("zeros", "<i8", (3,)),
    ]
)

SCOPE_ROW = np.dtype(
    [
        ("scope", "<i8"),
        ("scope_id", "<i8"),
        ("account", "<i8"),
        ("limits_set", "<i8"),  # bit c - 1: limits[c - 1] holds
        wide("exposure"),  # sum of the largest |qty| that each position may come to, at its mark
        wide("profit"),  # since the day began, of what was traded and of what is held
        ("positions", "<i8"),  # positions that are open, or may become so
        (
            "limits",
            "<i8",
            (2 * LIMITED,),
        ),  # unset: NO_LIMIT; of DAILY_LOSS the least profit, unset: NO_FLOOR
        # Of a position alone.
        ("instrument_id", "<i8"),
        ("next_row", "<i8"),  # another account's position in this instrument + 1, 0: none
        ("above", "<i8", (SCOPES - 1,)),
        # Rows of VENUE .. PORTFOLIO that its money is summed up in: those above, or their parts in its currency.
        ("money_rows", "<i8", (SCOPES - 1,)),
        (
            "order_size",
            "<i8",
        ),  # the least of the limits of its five scopes, at its own qty_scale, rounded down
        ("position_size", "<i8"),
        ("qty_unit", "<i8"),  # 10**(18 - qty_scale)
        ("qty", "<i8"),
        ("open_buy", "<i8"),  # what stands to be bought
        ("open_sell", "<i8"),
        wide("cash"),  # received less paid since the day began, fees too
        wide("base"),  # value when the day began
        wide("value"),  # qty at the mark
        ("counted", "<i8"),  # 1: it is in `positions`
        # Of a sum over currencies and of its parts alone.
        ("next_part", "<i8"),  # (next) part of the sum in another currency + 1, 0: none
        ("currency", "<i8"),  # number of a part's currency
        ("zeros", "<i8", (6,)),
    ]
)

CURRENCY_RATE = np.dtype(
    [
        ("kind", "<i8"),  # `RateKind`
        ("instrument_id", "<i8"),  # whose mid it is, 0: not seen yet
        ("price", "<i8"),  # of a NUMBER: price / unit
        ("unit", "<i8"),
        ("name", "S16"),
        ("zeros", "<i8", (2,)),
    ]
)
"""What converts a currency into that of the sums, by the currency's number."""

OPEN_ORDER = np.dtype([("order_id", "<i8"), ("row", "<i8"), ("qty", "<i8"), ("side", "<i8")])
"""order_id 0: a free place; qty: what is not filled yet; side: +1 or -1."""

RATE = np.dtype([("accepted", "<i8"), ("ts", "<i8", (RATE_PLACES,))])

CONTEXT = np.dtype(
    [
        ("instruments", "<i8"),  # addresses
        ("rows", "<i8"),
        ("orders", "<i8"),
        ("rates", "<i8"),
        ("currency_rates", "<i8"),
        ("scratch", "<i8"),
        ("epoch", "<i8"),  # of the records
        ("source", "<i8"),  # number of their input
        ("next_record", "<i8"),  # in: where to begin; out: first record not yet applied
        ("request", "<i8"),
        ("request_id", "<i8"),
        ("request_version", "<i8"),
        ("request_row", "<i8"),
        ("grows", "<i8"),  # of the order at hand: it lets its position grow
        ("refusal", "<i8"),  # in: the request cannot be served, RiskReason
        ("ts_asked", "<i8"),  # of the order at hand
        ("rate_price", "<i8"),  # found last: price / rate_unit
        ("rate_unit", "<i8"),
        ("opened", "<i8"),  # in: the OPENING at next_record was taken
        ("lacking", "<i8"),  # number of the currency without a rate
        ("base_currency", "S16"),  # of sums over currencies
        ("applied", "<i8", (8,)),
        # From here on: state that is kept.
        ("trading_state", "<i8"),
        ("collar_bp", "<i8"),  # 0: none
        ("rate_orders", "<i8"),  # 0: none
        ("rate_window_ns", "<i8"),
        ("book_age_ns", "<i8"),  # 0: any
        ("rate_age_ns", "<i8"),  # 0: any
        ("openings_refused", "<i8"),  # above 0: what is held is not known
        ("mixed", "<i8"),  # 1: a sum has a part in another currency
        ("day", "<i8"),
        ("ts", "<i8"),  # newest ts_recv of orders and fills
        ("decisions", "<i8"),
        ("orders_open", "<i8"),
        # Counters, part of the state, so that a replay counts nothing twice.
        ("orders_accepted", "<i8"),
        ("orders_rejected", "<i8"),
        ("cancels_passed", "<i8"),
        ("fills_booked", "<i8"),
        ("fills_unknown", "<i8"),
        ("fills_beyond", "<i8"),
        ("fees_other_currency", "<i8"),
        ("overflows", "<i8"),
        ("clock_back", "<i8"),
        ("quotes_crossed", "<i8"),
        ("controls_applied", "<i8"),
        ("controls_refused", "<i8"),
    ]
)
_NAMES = CONTEXT.names or ()
KEPT = _NAMES[_NAMES.index("trading_state") :]
"""The part of CONTEXT that belongs to the state."""
COUNTERS = _NAMES[_NAMES.index("orders_accepted") :]
"""What the kernel counts; the worker exports it under the same names."""
