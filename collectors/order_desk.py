"""Requests become ORDER, CANCEL and FILL records whose numbers are exact at the instrument's own scales, or are refused.

**Why it is right** A decimal string becomes an integer digit by digit. Scales, multiplier and currency of the instrument's
newest version go into the record, so that whoever reads it later needs no table.
"""

from typing import NamedTuple

import numpy as np

from collectors.order_journal import OrderJournal
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
    Opening,
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


def standing_of(records: np.ndarray) -> dict[int, Standing]:
    """Return what stands after these records, the first of a run among them."""
    found: dict[int, Standing] = {}
    for i in range(len(records)):
        follow(found, records[i : i + 1])
    return found


def follow(standing: dict[int, Standing], record: np.ndarray) -> None:
    """Keep what stands after one more record (array of one)."""
    order_id, kind = int(record["order_id"][0]), record["kind"][0]
    qty = int(record["qty"][0])
    opened = kind == Kind.OPENING and record["reason"][0] == Opening.STANDS
    if kind == Kind.ORDER or opened:
        kept = record.copy()
        kept["kind"], kept["reason"] = Kind.ORDER, 0
        standing[order_id] = Standing(kept, qty)
    elif kind == Kind.CANCEL:
        standing.pop(order_id, None)
    elif kind == Kind.FILL and (found := standing.get(order_id)):
        if found.open_qty > qty:
            standing[order_id] = found._replace(open_qty=found.open_qty - qty)
        else:
            del standing[order_id]


class Instruments:
    """The newest version of every instrument, by "<venue>:<symbol>"."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._known: dict[str, np.void] = {}
        self._names: dict[int, str] = {}
        self._looked_ns = -_LOOK_NS

    def find(self, name: str) -> np.void | None:
        """Return an instrument's newest INSTRUMENT record; the tables are looked at again, at most five times a second."""
        self._look()
        return self._known.get(name)

    def name_of(self, instrument_id: int) -> str:
        """Return what an instrument is called, "" where no table says."""
        if instrument_id not in self._names:
            self._look()
        return self._names.get(instrument_id, "")

    def _look(self) -> None:
        now = clock.monotonic_ns()
        if now - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now
            self._refresh()

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
        journal: OrderJournal,
        counters: Counters,
    ) -> None:
        self.counters = counters
        self._accounts, self._test_fills = accounts, test_fills
        self._names = {number: name for name, number in accounts.items()}
        self._ring, self._ids, self._journal = ring, ids, journal
        self._instruments = Instruments(instance)
        self._standing: dict[int, Standing] = {}
        self._fills = 0

    def take_up(self, uuid: str) -> None:
        """Go on from what is in the journal of the ring, and bring what it has more than the ring into it.

        Raises:
            JournalDamaged: it is not this ring's.
        """
        missing = self._journal.bind(uuid, self._ring.next_seq)
        if len(missing):
            missing["stamp"] = 0
            self._ring.publish_batch(missing)
            self.counters.add("records_published", len(missing))
        records = self._journal.records
        self._standing = standing_of(records)
        orders = records["order_id"][records["kind"] == Kind.ORDER]
        newest = int(orders.max(initial=self._journal.last_order_id))
        self.counters.add("ids_burned", self._ids.burn_after(newest) > 0)

    def tell_restart(self) -> None:
        """Open this epoch with a RESTART record, if there was an earlier one."""
        if not self._ring.is_restart:
            return
        record = np.zeros(1, ORDER)
        record["kind"] = Kind.RESTART
        record["order_id"], record["price"] = self._ring.epoch, self._ring.previous_epoch
        self._put(record)

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
        self._journal.sync()
        self.counters.set("orders_open", len(self._standing))
        self.counters.heartbeat()

    def close(self) -> None:
        """Bring log and journal to the disk: the run ended in good order."""
        self.beat()
        self._ids.close()
        self._journal.close()

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

    def _put(self, record: np.ndarray) -> int:
        """Write a record down, then publish it; return its seq."""
        record["ts_event"] = record["ts_recv"] = clock.now_ns()
        record["stamp"] = 0
        self._journal.add(record)
        seq: int = self._ring.publish_batch(record)
        self.counters.add("records_published")
        return seq

    def _publish(self, record: np.ndarray) -> Answer:
        seq = self._put(record)
        follow(self._standing, record)
        return Answer(
            order_id=int(record["order_id"][0]),
            fill_id=int(record["fill_id"][0]),
            epoch=self._ring.epoch,
            seq=seq,
        )

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
