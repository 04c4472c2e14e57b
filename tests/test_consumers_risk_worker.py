"""A risk worker that is killed anywhere: each order has one decision, and every decision is that of its recorded merge."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import Instance
from risk_kit import ACCOUNTS, NAMES, ROLES, Desk, names
from test_consumers_risk_reference import History

from consumers.checkpoint import CheckpointStore
from consumers.loop import InputSet, input_counters
from consumers.risk import roles_of
from consumers.risk_engine import RiskEngine
from consumers.risk_verify import Verified, verify
from consumers.stateful import COUNTERS, StatefulWorker
from layouts import CONTROL, EVENT, INSTRUMENT, ORDER, RISK_DECISION, Action, Kind, RiskReason
from shm import region as regions
from shm.counters import Counters, read_counters
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

ROOT = Path(__file__).resolve().parent.parent
RINGS = ["orders.orders", "control.control", "north.events", "south.events"]
LAYOUTS = [ORDER, CONTROL, EVENT, EVENT]
SLOTS = 4096
STEPS = 500


def tape() -> list[tuple[int, np.ndarray]]:
    """Return a random history as (input, record) in its order, begun by a RESUME."""
    history = History(7)
    for _ in range(STEPS):
        history.step()
    first = Desk()
    first.control(Action.RESUME)
    return [*first.journal, *history.desk.journal]


def new_engine(halt_on_restart: bool = True) -> RiskEngine:
    """Return an engine that knows the instruments of the kit."""
    return RiskEngine(names, ACCOUNTS, "USD", ROLES, halt_on_restart)


class Place:
    """The input rings of a risk worker."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.producers = [self.open(*each) for each in zip(RINGS, LAYOUTS, strict=True)]

    def open(self, ring: str, layout: np.dtype, slots: int = SLOTS) -> Producer:
        """Open a ring's producer."""
        worker, _, name = ring.partition(".")
        of = ring_name(self.instance.name, worker, name)
        return open_ring(of, layout, slots, self.instance.state_dir)

    def feed(self, source: int, record: np.ndarray) -> None:
        """Publish one record."""
        self.producers[source].publish_batch(record.copy())

    def read(self, ring: str, layout: np.dtype) -> np.ndarray:
        """Return all that a ring holds."""
        worker, _, name = ring.partition(".")
        with open_reader(ring_name(self.instance.name, worker, name), layout) as reader:
            return reader.last(10**6)[0]

    def check(self, orders: int, halt_on_restart: bool = True) -> Verified:
        """Count the decisions and make each again from what the rings hold."""
        decisions = self.read("risk.decisions", RISK_DECISION)
        rows = decisions[decisions["kind"] == Kind.RISK_DECISION]
        for source in (0, 1):
            seqs = rows["source_seq"][rows["input"] == source].tolist()
            assert seqs == list(range(1, self.producers[source].next_seq))
        assert rows["decision_no"].tolist() == list(range(1, len(rows) + 1))
        assert np.count_nonzero(rows["input"] == 0) == orders
        inputs = [[self.read(*each)] for each in zip(RINGS, LAYOUTS, strict=True)]
        found = verify(new_engine(halt_on_restart), inputs, [decisions])
        assert found.decisions == len(rows)
        return found


def parts(inputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Give each input in two parts."""
    return [[each[: len(each) // 2], each[len(each) // 2 :]] for each in inputs]


@pytest.fixture
def place(instance: Instance) -> Iterator[Place]:
    """Four rings; all regions are removed at the end."""
    made = Place(instance)
    yield made
    for producer in made.producers:
        producer.close()
    for file in files_of(instance.name):
        regions.unlink(file)


class Shift:
    """Workers that come and go in this process, killed between any two calls."""

    def __init__(self, place: Place, halt_on_restart: bool) -> None:
        self.place, self.halts = place, halt_on_restart
        self.close: list[Callable[[], None]] = []

    def start(self, rng: random.Random) -> StatefulWorker:
        """Start one as a new process would; batches are small, so that inputs mix."""
        engine = new_engine(self.halts)
        instance = self.place.instance
        counts = [*COUNTERS, *input_counters(RINGS), *engine.counters]
        counters = Counters.create(instance.name, "risk", counts)
        inputs = InputSet(instance.name, RINGS, "risk", counters, rng.randrange(1, 9))
        inputs.join()
        output = open_ring(
            ring_name(instance.name, "risk", "decisions"), RISK_DECISION, SLOTS, instance.state_dir
        )
        store = CheckpointStore(instance.state_dir, "risk")
        worker = StatefulWorker(engine, inputs, output, store, counters, 1e6)
        self.close = [inputs.close, output.close, counters.close]
        worker.restore()
        worker.publish_restart()
        return worker

    def die(self) -> None:
        """End it as SIGKILL would."""
        for close in self.close:
            close()
        self.close = []


@pytest.mark.parametrize(("seed", "halts"), [(1, False), (2, False), (3, True)])
def test_killed_anywhere_each_decision_is_made_once_and_from_its_own_merge(
    place: Place, seed: int, halts: bool
) -> None:
    """Twenty deaths, some behind a checkpoint: no decision missing or twice, each made again from the records alone."""
    rng = random.Random(seed)
    shift = Shift(place, halts)
    todo, orders, deaths = tape(), 0, 0
    worker = shift.start(rng)
    for source, record in todo:
        place.feed(source, record)
        orders += source == 0
        if rng.random() < 0.3:
            worker.turn(0.0)
        if rng.random() < 0.03:
            worker.save()
        if rng.random() < 0.03:
            shift.die()
            worker, deaths = shift.start(rng), deaths + 1
            if halts and rng.random() < 0.7:
                place.feed(1, todo[0][1])
    while worker.turn(0.0):
        pass
    shift.die()
    assert deaths >= 10
    found = place.check(orders, halts)
    assert found.differing == 0, found.differences
    restarts = place.read("risk.decisions", RISK_DECISION)["kind"] == Kind.RESTART
    assert restarts.sum() == deaths


def test_a_forged_decision_is_found(place: Place) -> None:
    """One reason, one limit, one observed value changed: each is a difference; so is an order that was changed."""
    shift = Shift(place, True)
    worker = shift.start(random.Random(0))
    for source, record in tape():
        place.feed(source, record)
        worker.turn(0.0)
    while worker.turn(0.0):
        pass
    shift.die()
    decisions = place.read("risk.decisions", RISK_DECISION)
    inputs = [place.read(*each) for each in zip(RINGS, LAYOUTS, strict=True)]
    assert verify(new_engine(), parts(inputs), [decisions]).differing == 0
    at = int(np.flatnonzero(decisions["reason"] == RiskReason.EXPOSURE_CURRENCY)[0])
    for column, value in (("reason", 0), ("limit_low", 1), ("observed_low", 1), ("order_id", 0)):
        forged = decisions.copy()
        forged[column][at] = value
        found = verify(new_engine(), parts(inputs), [forged])
        assert found.differing == 1 and found.differences[0].column == column
    tampered = inputs[0].copy()
    tampered["qty"][int(decisions["source_seq"][at]) - 1] = 1
    assert verify(new_engine(), parts([tampered, *inputs[1:]]), [decisions]).differing >= 1


def test_a_merge_by_arrival_is_no_proof(place: Place) -> None:
    """Were the inputs merged in another order than the rows tell, decisions would differ: the merge is needed."""
    shift = Shift(place, True)
    worker = shift.start(random.Random(0))
    for source, record in tape():
        place.feed(source, record)
        worker.turn(0.0)
    shift.die()
    decisions = place.read("risk.decisions", RISK_DECISION)
    inputs = [place.read(*each) for each in zip(RINGS, LAYOUTS, strict=True)]
    decisions["applied_seq"][:, 2:4] = SLOTS
    assert verify(new_engine(), parts(inputs), [decisions]).differing > len(decisions) // 10


class Process:
    """A risk worker in a process of its own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        table = place.open("north.instruments", INSTRUMENT, 64)
        for number, named in NAMES.items():
            record = np.zeros(1, INSTRUMENT)
            record["kind"], record["instrument_id"], record["version"] = Kind.INSTRUMENT, number, 1
            record["venue"], record["symbol"] = named.venue.encode(), named.symbol.encode()
            record["price_scale"], record["qty_scale"] = named.price_scale, named.qty_scale
            table.publish_batch(record)
        table.close()
        instance = place.instance
        spec = {
            "instance": instance.name,
            "worker": "risk",
            "state_dir": str(instance.state_dir),
            "inputs": RINGS,
            "slots": SLOTS,
            "checkpoint_s": 0.05,
            "accounts": list(ACCOUNTS),
            "currency": "USD",
        }
        assert roles_of(RINGS) == list(ROLES)
        self.file = instance.state_dir / "risk.json"
        self.file.write_bytes(msgspec.json.encode(spec))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "consumers.risk", str(self.file)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        self.wait(lambda: self._facts_pid() == self.process.pid and self._state() == "READY", 150)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and a clean end."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0

    def wait(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait until it is so."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert self.process and self.process.poll() is None, "the worker has ended"
            assert time.monotonic() < until, "out of time"
            time.sleep(0.01)

    def decided(self) -> int:
        """Return how many records have been decided on."""
        rows = self.place.read("risk.decisions", RISK_DECISION)
        return int(np.count_nonzero(rows["kind"] == Kind.RISK_DECISION))

    def _facts_pid(self) -> int:
        try:
            return read_counters(self.place.instance.name, "risk").pid
        except Exception:
            return 0

    def _state(self) -> str:
        return read_counters(self.place.instance.name, "risk").state


def test_a_killed_process_goes_on_halted_and_its_decisions_hold(place: Place) -> None:
    """Real processes, SIGKILL in the stream: every record has one decision, a restart is HALTED until resumed."""
    worker = Process(place)
    worker.start()
    todo, cut = tape(), 180
    try:
        for source, record in todo[:cut]:
            place.feed(source, record)
        worker.wait(lambda: worker.decided() >= 60)
        worker.kill()
        worker.start()
        for source, record in [todo[0], *todo[cut:]]:
            place.feed(source, record)
        orders = sum(1 for source, _ in todo if source == 0)
        wanted = orders + place.producers[1].next_seq - 1
        worker.wait(lambda: worker.decided() == wanted)
        assert read_counters(place.instance.name, "risk").values["compiles_after_ready"] == 0
        worker.stop()
    finally:
        if worker.process and worker.process.poll() is None:
            worker.kill()
    found = place.check(orders)
    assert found.differing == 0, found.differences
