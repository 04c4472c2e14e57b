"""What may be asked of the orders worker: one JSON object a line, one answer a line, on its Unix socket.

**Protocol** `{"do": "new", ...}`, `"cancel"`, `"fill"`, `"list"`, as the structs below say; quantities, prices and fees are
decimal strings, never numbers, so that nobody's floats come in. The answer is an `Answer`: `ok`, or `error` with what, the
value, the limit and what to do. A `new` with a client_order_id that the account has used before is answered with that
order, `repeated`, and nothing is published: after a lost answer, ask again.
"""

from pathlib import Path
from typing import Literal

import msgspec

from layouts.order import CLIENT_ID_BYTES
from shm.region import PREFIX, SHM_DIRECTORY

LINE_BYTES = 65_536
SCALE_LIMIT = 18


class Request(msgspec.Struct, tag_field="do", forbid_unknown_fields=True, kw_only=True):
    """One line to the worker."""


class New(Request, tag="new"):
    """An order: `instrument` is "<venue>:<symbol>", e.g. "kraken:BTC/USD"; a market order has no price."""

    client_order_id: str
    account: str
    instrument: str
    side: Literal["buy", "sell"]
    qty: str
    price: str = ""
    type: Literal["limit", "market"] = "limit"
    time_in_force: Literal["gtc", "ioc", "fok"] = "gtc"
    reduce_only: bool = False
    post_only: bool = False


class Cancel(Request, tag="cancel"):
    """The end of an order, named by its id, or by account and client_order_id."""

    order_id: int = 0
    account: str = ""
    client_order_id: str = ""


class Fill(Request, tag="fill"):
    """A test fill of an order, while there is no exchange; refused unless the configuration allows it."""

    order_id: int
    qty: str
    price: str
    fee: str = "0"
    fee_currency: str = ""
    liquidity: Literal["unknown", "maker", "taker"] = "unknown"
    fill_id: int = 0


class List(Request, tag="list"):
    """All orders that stand, as the worker knows them: what was filled or cancelled no longer does."""


class OrderLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One order as it is kept and listed; quantities at `qty_scale`."""

    order_id: int
    client_order_id: str
    account: str
    instrument: str
    side: Literal["buy", "sell"]
    price: str
    qty: str
    open_qty: str = "0"


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line from the worker."""

    ok: bool = True
    error: str = ""
    order_id: int = 0
    fill_id: int = 0
    epoch: int = 0
    seq: int = 0
    """Where the record is in `orders.orders`; its decision in `risk.decisions` names it."""
    repeated: bool = False
    orders: list[OrderLine] = []


class Refused(Exception):
    """A request that cannot be done; its text is the answer."""


AnyRequest = New | Cancel | Fill | List


def socket_path(instance: str) -> Path:
    """Return where an instance's orders worker listens."""
    return Path(SHM_DIRECTORY) / f"{PREFIX}.{instance}.orders.sock"


def digits_of(text: str, scale: int, what: str, signed: bool = False) -> int:
    """Return a decimal string as an integer of `scale` decimals.

    Raises:
        Refused: it is no decimal number, has more decimals, or is too large; the text says which.
    """
    sign = -1 if signed and text.startswith("-") else 1
    whole, point, fraction = text[1:].partition(".") if sign < 0 else text.partition(".")
    is_number = text.isascii() and whole.isdigit() and (fraction.isdigit() or not point)
    if not is_number or len(text) > 2 * CLIENT_ID_BYTES:
        raise Refused(f'{what} {text[:80]!r}: a decimal string as "12.5" expected')
    kept = fraction.rstrip("0")
    if len(kept) > scale:
        raise Refused(
            f"{what} {text!r}: {len(kept)} decimals, the instrument has {scale}; round it"
        )
    value = int(whole + kept.ljust(scale, "0"))
    if value >= 1 << 62:
        raise Refused(f"{what} {text!r}: too large for 64 bits at {scale} decimals; ask for less")
    return sign * value


def text_of(value: int, scale: int) -> str:
    """Return an integer of `scale` decimals as a decimal string."""
    digits = str(abs(value)).rjust(scale + 1, "0")
    whole, fraction = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    fraction = fraction.rstrip("0")
    return ("-" if value < 0 else "") + whole + ("." + fraction if fraction else "")
