"""The orders worker: exact records, clear refusals, one order a client's id, ids that are never used again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import Instance

from collectors.order_desk import OrderDesk
from collectors.order_journal import OrderJournal
from collectors.order_log import OrderLog
from collectors.order_requests import Answer, Refused, digits_of, socket_path, text_of
from collectors.orders import COUNTERS, Server
from layouts import INSTRUMENT, ORDER, Instruction, Kind, Mark, OrderType
from shm import region as regions
from shm.counters import Counters, read_counters
from shm.errors import AttachError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

ROOT = Path(__file__).resolve().parent.parent
NEW = {
    "do": "new",
    "client_order_id": "a1",
    "account": "main",
    "instrument": "north:A/USD",
    "side": "buy",
    "qty": "1.250",
    "price": "100.50",
}


def publish_instrument(instance: Instance) -> None:
    """Write a table with one instrument: tick 0.05, lot 0.010."""
    name = ring_name(instance.name, "north", "instruments")
    table = open_ring(name, INSTRUMENT, 64, instance.state_dir)
    record = np.zeros(1, INSTRUMENT)
    record["kind"], record["instrument_id"], record["version"] = Kind.INSTRUMENT, 7, 1
    record["venue"], record["symbol"], record["quote_currency"] = b"north", b"A/USD", b"USD"
    record["price_scale"], record["qty_scale"], record["tick"], record["lot"] = 2, 3, 5, 10
    record["multiplier"] = 1
    table.publish_batch(record)
    table.close()


class Shop:
    """Orders workers that come and go in this process."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        publish_instrument(instance)
        self.ring: Producer
        self.start()

    def start(self) -> None:
        """Start one as a new process would."""
        name = ring_name(self.instance.name, "orders", "orders")
        self.counters = Counters.create(self.instance.name, "orders", COUNTERS)
        self.ring = open_ring(name, ORDER, 64, self.instance.state_dir)
        self.ids = OrderLog(self.instance.state_dir)
        self.journal = OrderJournal(self.instance.state_dir, self.ids.last_id == 0)
        accounts = {"main": 1, "other": 2}
        self.desk = OrderDesk(
            self.instance.name, accounts, True, self.ring, self.ids, self.journal, self.counters
        )
        self.desk.take_up(self.ring.facts().uuid)
        self.server = Server(self.desk, self.counters)

    def die(self) -> None:
        """End it as SIGKILL would."""
        self.ring.close()
        self.counters.close()
        os.close(self.ids._fd)
        os.close(self.journal._fd)

    def ask(self, **fields: object) -> Answer:
        """Send one request."""
        return self.server.answer(json.dumps(fields).encode())

    def new(self, **fields: object) -> Answer:
        """Place an order like NEW, but for these fields."""
        return self.ask(**(NEW | fields))

    def records(self) -> np.ndarray:
        """Return what the ring holds."""
        with open_reader(ring_name(self.instance.name, "orders", "orders"), ORDER) as reader:
            return reader.last(1000)[0]


@pytest.fixture
def shop(instance: Instance) -> Iterator[Shop]:
    """A desk with one instrument; all regions are removed at the end."""
    made = Shop(instance)
    yield made
    made.die()
    for file in files_of(instance.name):
        regions.unlink(file)


def test_an_order_becomes_an_exact_record(shop: Shop) -> None:
    """Digits to integers at the instrument's scales, and all that money needs."""
    answer = shop.new(reduce_only=True)
    assert (answer.ok, answer.order_id, answer.seq, answer.repeated) == (True, 1, 1, False)
    record = shop.records()[0]
    assert (record["price"], record["qty"]) == (10_050, 1_250)
    assert (record["price_scale"], record["qty_scale"], record["multiplier"]) == (2, 3, 1)
    assert (record["instrument_id"], record["instrument_version"], record["account"]) == (7, 1, 1)
    assert record["kind"] == Kind.ORDER and record["order_type"] == OrderType.LIMIT
    assert record["marks"] & Mark.SIDE_MASK == Mark.BUY
    assert record["instructions"] == Instruction.REDUCE_ONLY
    assert (record["quote_currency"], record["client_order_id"]) == (b"USD", b"a1")


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        ({"qty": 1.25}, "line", "str"),
        ({"qty": "0"}, "number", "above 0"),
        ({"qty": "-1"}, "number", "decimal string"),
        ({"qty": "1e3"}, "number", "decimal string"),
        ({"qty": "nan"}, "number", "decimal string"),
        ({"qty": ""}, "number", "decimal string"),
        ({"qty": "1.2501"}, "number", "4 decimals, the instrument has 3"),
        ({"qty": "1.255"}, "number", "no multiple of the lot 0.01"),
        ({"qty": "9" * 30}, "number", "too large"),
        ({"price": "100.51"}, "number", "no multiple of the tick 0.05"),
        ({"price": ""}, "number", "a limit order has one"),
        ({"type": "market"}, "number", "a market order none"),
        ({"account": "nobody"}, "account", "main, other"),
        ({"instrument": "north:B/USD"}, "instrument", "no collector"),
        ({"client_order_id": ""}, "client_id", "1 to 40"),
        ({"client_order_id": "x" * 41}, "client_id", "1 to 40"),
        ({"side": "up"}, "line", "up"),
        ({"surprise": 1}, "line", "surprise"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(
    shop: Shop, fields: dict, reason: str, said: str
) -> None:
    """Counted by reason; nothing reaches the ring and no id is used."""
    answer = shop.new(**fields)
    assert not answer.ok and said in answer.error
    assert shop.counters.get(f"refused.{reason}") == 1 and shop.counters.get("requests_in") == 1
    assert len(shop.records()) == 0 and shop.ids.last_id == 0


def test_a_client_s_id_is_one_order_of_its_account(shop: Shop) -> None:
    """Asked again: the same id, no second record; another account has ids of its own."""
    first = shop.new()
    again = shop.new(qty="3")
    assert again.repeated and again.order_id == first.order_id
    assert not shop.new(account="other").repeated
    assert len(shop.records()) == 2 and shop.counters.get("repeated") == 1


def test_cancels_and_fills_repeat_their_order(shop: Shop) -> None:
    """In parts, to the end; what does not stand, or more than stands, is refused."""
    shop.new()
    assert shop.ask(do="fill", order_id=1, qty="0.25", price="100.4", fee="-0.0125").ok
    fill = shop.records()[-1]
    assert (fill["qty"], fill["price"], fill["fee"], fill["fee_scale"]) == (250, 10_040, -125, 4)
    assert fill["fee_currency"] == b"USD" and fill["account"] == 1
    too_much = shop.ask(do="fill", order_id=1, qty="1.001", price="100")
    assert not too_much.ok and "1 still stands" in too_much.error
    assert [line.open_qty for line in shop.ask(do="list").orders] == ["1"]
    assert shop.ask(do="fill", order_id=1, qty="1", price="100").ok
    assert shop.records()[-1]["instructions"] == Instruction.FINAL
    assert not shop.ask(do="cancel", order_id=1).ok
    shop.new(client_order_id="a2")
    assert shop.ask(do="cancel", account="main", client_order_id="a2").ok
    record = shop.records()[-1]
    assert (record["kind"], record["qty"], record["price"]) == (Kind.CANCEL, 0, 0)
    assert shop.ask(do="list").orders == []


def test_a_killed_worker_goes_on_with_what_stands_and_uses_no_id_again(shop: Shop) -> None:
    """Ids and clients' ids come from the log, what stands from the ring."""
    shop.new()
    shop.new(client_order_id="a2")
    shop.ask(do="cancel", order_id=1)
    shop.die()
    shop.start()
    assert [line.order_id for line in shop.ask(do="list").orders] == [2]
    assert shop.new(client_order_id="a2").repeated
    assert shop.new(client_order_id="a3").order_id == 3


def test_killed_between_log_and_ring_the_id_is_burned_and_the_client_may_ask_again(
    shop: Shop,
) -> None:
    """The line is there, the record is not: a new id, and a record for the same client's id."""
    shop.new()
    shop.ids.add("main", "a2")
    shop.die()
    shop.start()
    assert shop.counters.get("ids_burned") == 1
    answer = shop.new(client_order_id="a2")
    assert (answer.order_id, answer.repeated) == (3, False)


def test_a_cut_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    """Cut at every byte: what is whole before it counts, and what is written next is whole."""
    log = OrderLog(tmp_path)
    for name in ("a", "b", "c"):
        log.add("main", name)
    log.close()
    path = tmp_path / "orders" / "orders.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        log = OrderLog(tmp_path)
        assert log.last_id == whole[:cut].count(b"\n")
        assert log.add("main", "d") == log.last_id
        log.close()
        assert all(line.endswith(b"}\n") for line in path.read_bytes().splitlines(keepends=True))


@pytest.mark.parametrize(
    ("text", "scale", "value"), [("0", 0, 0), ("1.50", 1, 15), ("0.007", 3, 7)]
)
def test_decimals_are_exact_both_ways(text: str, scale: int, value: int) -> None:
    """Excess zeros are accepted; back again they are left out."""
    assert digits_of(text, scale, "x") == value
    assert float(text_of(value, scale)) == float(text)
    assert text_of(-value, scale) in (f"-{text_of(value, scale)}", "0")
    assert digits_of(f"-{text}", scale, "x", signed=True) == -value
    with pytest.raises(Refused):
        digits_of(f"-{text}", scale, "x")


def test_a_process_answers_on_its_socket_and_is_private(instance: Instance) -> None:
    """0600, many requests on one connection, a line that is too long ends it; SIGTERM ends cleanly, the socket is gone."""
    publish_instrument(instance)
    spec = {"instance": instance.name, "worker": "orders", "state_dir": str(instance.state_dir)}
    file = instance.state_dir / "orders.json"
    file.write_bytes(msgspec.json.encode(spec | {"accounts": {"main": 1}, "slots": 64}))
    process = subprocess.Popen([sys.executable, "-m", "collectors.orders", str(file)], cwd=ROOT)
    try:
        _wait(process, lambda: read_counters(instance.name, "orders").state == "READY")
        path = socket_path(instance.name)
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb") as lines:
            client.settimeout(20)
            client.connect(str(path))
            for expected in (True, False, True):
                request = (
                    NEW if expected else {"do": "fill", "order_id": 1, "qty": "1", "price": "1"}
                )
                lines.write(json.dumps(request).encode() + b"\n")
                lines.flush()
                assert json.loads(lines.readline()).get("ok", True) == expected
            lines.write(b"x" * 100_000 + b"\n")
            lines.flush()
            assert lines.readline() == b""
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not path.exists()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for name in files_of(instance.name):
            regions.unlink(name)


def _wait(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert process.poll() is None, "the worker has ended"
        try:
            if condition():
                return
        except AttachError:
            pass
        time.sleep(0.02)
    raise AssertionError("out of time")


def test_numba_is_not_loaded_by_the_orders_worker() -> None:
    """It restarts in well under a second and stays small."""
    code = "import sys, collectors.orders; sys.exit(any(m in sys.modules for m in ('numba', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
