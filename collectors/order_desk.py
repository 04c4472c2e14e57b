"""Requests become ORDER, CANCEL and FILL records whose numbers are exact at the instrument's own scales, or are refused.

**Why it is right** A decimal string becomes an integer digit by digit. Scales, multiplier and currency of the instrument's
newest version go into the record, so that whoever reads it later needs no table.
"""

from typing import NamedTuple

import numpy as np

from collectors.order_log import OrderLog
from collectors.order_requests import (
    SCALE_LIMIT,
    Answer,
    AnyRequest,
    Cancel,
    Fill,
    List,
    New,
    OrderLine,
    Refused,
    digits_of,
    text_of,
)
from layouts import (
    INSTRUMENT,
    ORDER,
    CancelReason,
    Instruction,
    Kind,
    Liquidity,
    Mark,
    OrderType,
    TimeInForce,
)
from layouts.order import CLIENT_ID_BYTES, CURRENCY_BYTES
from shm import clock
from shm.counters import Counters
from shm.errors import AttachError
from shm.producer import Producer
from shm.reader import open_reader
from shm.registry import ring_names

REFUSALS = ("line", "client_id", "account", "instrument", "number", "order", "fill")
_LOOK_NS = 200_000_000
_TIMES = {
    "gtc": TimeInForce.GOOD_TILL_CANCEL,
    "ioc": TimeInForce.IMMEDIATE_OR_CANCEL,
    "fok": TimeInForce.FILL_OR_KILL,
}


class Standing(NamedTuple):
    """An order's record, and what is not filled of it."""

    record: np.ndarray
    open_qty: int


class Instruments:
    """The newest version of every instrument, by "<venue>:<symbol>"."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._known: dict[str, np.void] = {}
        self._names: dict[int, str] = {}
        self._looked_ns = -_LOOK_NS

    def find(self, name: str) -> np.void | None:
        """Return an instrument's newest INSTRUMENT record; the tables are looked at again, at most five times a second."""
        now = clock.monotonic_ns()
        if now - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now
            self._refresh()
        return self._known.get(name)

    def name_of(self, instrument_id: int) -> str:
        """Return what an instrument is called, "" where no table says."""
        return self._names.get(instrument_id, "")

    def _refresh(self) -> None:
        for ring in ring_names(self._instance):
            if ring.ring != "instruments":
                continue
            try:
                with open_reader(ring, INSTRUMENT) as reader:
                    records = reader.last(reader.facts().slots)[0]
            except AttachError:
                continue
            for record in records:
                name = f"{record['venue'].decode()}:{record['symbol'].decode()}"
                known = self._known.get(name)
                if known is None or known["version"] <= record["version"]:
                    self._known[name] = record
                self._names[int(record["instrument_id"])] = name


class OrderDesk:
    """What stands, and the ring that it goes into."""

    def __init__(
        self,
        instance: str,
        accounts: dict[str, int],
        test_fills: bool,
        ring: Producer,
        ids: OrderLog,
        counters: Counters,
    ) -> None:
        self.counters = counters
        self._accounts, self._test_fills = accounts, test_fills
        self._names = {number: name for name, number in accounts.items()}
        self._ring, self._ids = ring, ids
        self._instruments = Instruments(instance)
        self._standing: dict[int, Standing] = {}
        self._fills = 0

    def take_up(self, records: np.ndarray) -> None:
        """Go on from what the ring holds of an earlier process."""
        for record in records:
            self._follow(record.reshape(1))
        if len(records):
            orders = records["order_id"][records["kind"] == Kind.ORDER]
            burned = self._ids.burn_after(int(orders.max(initial=0)))
            self.counters.add("ids_burned", burned > 0)

    def do(self, request: AnyRequest) -> Answer:
        """Do what is asked.

        Raises:
            Refused: (one of REFUSALS, why).
        """
        if isinstance(request, New):
            return self._new(request)
        if isinstance(request, Cancel):
            return self._cancel(request)
        if isinstance(request, Fill):
            return self._fill(request)
        assert isinstance(request, List)
        return Answer(orders=[self._line(each) for each in self._standing.values()])

    def beat(self) -> None:
        """Show life and bring the log to the disk; a few times a second."""
        self._ring.heartbeat()
        self._ids.sync()
        self.counters.set("orders_open", len(self._standing))
        self.counters.heartbeat()

    def close(self) -> None:
        """Bring the log to the disk."""
        self.beat()
        self._ids.close()

    def _new(self, asked: New) -> Answer:
        account = self._account(asked.account)
        client = asked.client_order_id.encode()
        if not 0 < len(client) <= CLIENT_ID_BYTES or not asked.client_order_id.isprintable():
            raise Refused(
                "client_id",
                f"client_order_id {asked.client_order_id[:80]!r}: 1 to {CLIENT_ID_BYTES} printable bytes expected",
            )
        if known := self._ids.of_client.get((asked.account, asked.client_order_id)):
            return Answer(order_id=known, repeated=True)
        instrument = self._instruments.find(asked.instrument)
        if instrument is None:
            raise Refused(
                "instrument",
                f"instrument {asked.instrument!r}: no collector of this instance has it; "
                '"<venue>:<symbol>" expected, as `tickring ring tail *.instruments` lists them',
            )
        record = np.zeros(1, ORDER)
        record["kind"], record["account"], record["client_order_id"] = Kind.ORDER, account, client
        record["marks"] = int(Mark.BUY if asked.side == "buy" else Mark.SELL)
        self._terms(record, asked, instrument)
        record["order_id"] = self._ids.add(asked.account, asked.client_order_id)
        return self._publish(record)

    def _terms(self, record: np.ndarray, asked: New, instrument: np.void) -> None:
        """Fill in what an order is worth, at the instrument's scales."""
        for field in ("instrument_id", "price_scale", "qty_scale", "multiplier_scale"):
            record[field] = instrument[field]
        record["instrument_version"] = instrument["version"]
        record["multiplier"] = max(1, int(instrument["multiplier"]))
        currency = bytes(instrument["quote_currency"])
        if len(currency) > CURRENCY_BYTES or int(instrument["qty_scale"]) > SCALE_LIMIT:
            raise Refused(
                "instrument", f"instrument {asked.instrument!r}: it cannot be ordered here"
            )
        record["quote_currency"] = currency
        record["order_type"] = OrderType[asked.type.upper()]
        record["time_in_force"] = _TIMES[asked.time_in_force]
        flags = (
            (asked.reduce_only, Instruction.REDUCE_ONLY),
            (asked.post_only, Instruction.POST_ONLY),
        )
        record["instructions"] = sum(int(bit) for is_set, bit in flags if is_set)
        record["qty"] = self._number(asked.qty, instrument, "qty", "lot")
        if (asked.type == "market") != (asked.price == ""):
            raise Refused(
                "number", f"price {asked.price!r}: a limit order has one, a market order none"
            )
        if asked.price:
            record["price"] = self._number(asked.price, instrument, "price", "tick")

    @staticmethod
    def _number(text: str, instrument: np.void, what: str, step_name: str) -> int:
        scale, step = int(instrument[f"{what}_scale"]), int(instrument[step_name])
        try:
            value = digits_of(text, scale, what)
        except Refused as refused:
            raise Refused("number", *refused.args) from None
        if value <= 0:
            raise Refused("number", f"{what} {text!r}: above 0 expected")
        if step > 0 and value % step:
            raise Refused(
                "number", f"{what} {text!r}: no multiple of the {step_name} {text_of(step, scale)}"
            )
        return value

    def _cancel(self, asked: Cancel) -> Answer:
        order_id = asked.order_id or self._ids.of_client.get(
            (asked.account, asked.client_order_id), 0
        )
        standing = self._standing_of(order_id)
        record = standing.record.copy()
        record["kind"], record["reason"] = Kind.CANCEL, CancelReason.CLIENT
        for field in ("price", "qty", "instructions"):
            record[field] = 0
        return self._publish(record)

    def _fill(self, asked: Fill) -> Answer:
        if not self._test_fills:
            raise Refused(
                "fill", "fills come from a venue; for a test set orders.test_fills = true"
            )
        standing = self._standing_of(asked.order_id)
        record = standing.record.copy()
        try:
            for field in ("qty", "price"):
                scale = int(record[f"{field}_scale"][0])
                record[field] = digits_of(getattr(asked, field), scale, field)
            scale = len(asked.fee.partition(".")[2])
            record["fee"] = digits_of(asked.fee, min(scale, SCALE_LIMIT), "fee", signed=True)
        except Refused as refused:
            raise Refused("number", *refused.args) from None
        qty = int(record["qty"][0])
        if not 0 < qty <= standing.open_qty or record["price"][0] <= 0:
            still = text_of(standing.open_qty, int(record["qty_scale"][0]))
            raise Refused(
                "fill", f"fill of {asked.qty} at {asked.price}: above 0, and {still} still stands"
            )
        record["fee_scale"] = scale
        currency = asked.fee_currency.encode() or bytes(record["quote_currency"][0])
        if len(currency) > CURRENCY_BYTES:
            raise Refused("fill", f"fee_currency {asked.fee_currency!r}: too long")
        record["kind"], record["fee_currency"] = Kind.FILL, currency
        record["liquidity"] = Liquidity[asked.liquidity.upper()]
        self._fills += 1
        record["fill_id"] = asked.fill_id or self._ring.next_seq
        record["instructions"] = Instruction.FINAL if qty == standing.open_qty else 0
        return self._publish(record)

    def _account(self, name: str) -> int:
        number = self._accounts.get(name)
        if number is None:
            there = ", ".join(self._accounts) or "none"
            raise Refused("account", f"account {name!r}: not one of orders.accounts ({there})")
        return number

    def _standing_of(self, order_id: int) -> Standing:
        standing = self._standing.get(order_id)
        if standing is None:
            raise Refused(
                "order", f"order {order_id}: it does not stand; see `tickring order list`"
            )
        return standing

    def _publish(self, record: np.ndarray) -> Answer:
        record["ts_event"] = record["ts_recv"] = clock.now_ns()
        record["stamp"] = 0
        seq = self._ring.publish_batch(record)
        self.counters.add("records_published")
        self._follow(record)
        return Answer(
            order_id=int(record["order_id"][0]),
            fill_id=int(record["fill_id"][0]),
            epoch=self._ring.epoch,
            seq=seq,
        )

    def _follow(self, record: np.ndarray) -> None:
        """Keep what stands."""
        order_id, kind = int(record["order_id"][0]), record["kind"][0]
        if kind == Kind.ORDER:
            self._standing[order_id] = Standing(record.copy(), int(record["qty"][0]))
        elif kind == Kind.CANCEL:
            self._standing.pop(order_id, None)
        elif kind == Kind.FILL and (standing := self._standing.get(order_id)):
            left = standing.open_qty - int(record["qty"][0])
            if left > 0:
                self._standing[order_id] = standing._replace(open_qty=left)
            else:
                del self._standing[order_id]

    def _line(self, standing: Standing) -> OrderLine:
        record, scale = standing.record[0], int(standing.record["qty_scale"][0])
        return OrderLine(
            order_id=int(record["order_id"]),
            client_order_id=bytes(record["client_order_id"]).decode(),
            account=self._names.get(int(record["account"]), str(record["account"])),
            instrument=self._instruments.name_of(int(record["instrument_id"])),
            side="buy" if record["marks"] & Mark.BUY else "sell",
            price=text_of(int(record["price"]), int(record["price_scale"])),
            qty=text_of(int(record["qty"]), scale),
            open_qty=text_of(standing.open_qty, scale),
        )
