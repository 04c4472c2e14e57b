"""The pnl worker as a process: killed by SIGKILL, its rows are those of an engine that was never, and it says what it did."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Instance
from features_market import instrument_record
from pnl_market import bytes_of, desk_tape, offline

from consumers.pnl import PnlSpec, options_of
from consumers.pnl_engine import PnlEngine, PnlOptions
from layouts import EVENT, INSTRUMENT, ORDER, POSITION, CostMethod, Kind, MarkKind
from shm import region as regions
from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

RINGS = ["orders.orders", "one.events", "two.events"]
WAIT_S = 60.0
SLOTS = 8192


class Place:
    """Producers of the input rings, and the worker that reads them."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        self.instance, self.folder = instance, folder
        self.tables = [self.open(f"{worker}.instruments", INSTRUMENT) for worker in ("one", "two")]
        for table, ids in zip(self.tables, ((1, 2), (11, 12)), strict=True):
            for each in ids:
                table.publish_batch(instrument_record(each, 2, 3))
        self.inputs = [self.open(ring, ORDER if i == 0 else EVENT) for i, ring in enumerate(RINGS)]
        self.process: subprocess.Popen[bytes] | None = None

    def open(self, ring: str, layout: np.dtype) -> Producer:
        worker, _, name = ring.partition(".")
        return open_ring(
            ring_name(self.instance.name, worker, name), layout, SLOTS, self.instance.state_dir
        )

    def start(self, **more: object) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it is ready."""
        spec = {
            "instance": self.instance.name,
            "worker": "pnl",
            "state_dir": str(self.instance.state_dir),
            "inputs": RINGS,
            "slots": SLOTS,
            "checkpoint_s": 0.05,
            "row_pause_s": 0.0,
            **more,
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec))
        self.process = process = subprocess.Popen(
            [sys.executable, "-m", "consumers.pnl", str(path)], stderr=subprocess.PIPE
        )
        return process

    def facts(self) -> WorkerFacts | None:
        """Give the worker's counters, None where it has never started."""
        try:
            return read_counters(self.instance.name, "pnl")
        except AttachError:
            return None

    def wait_for(self, found: Callable[[], bool]) -> None:
        """Wait until something is so."""
        until = time.monotonic() + WAIT_S
        while not found():
            assert self.process is not None and self.process.poll() is None, "the worker ended"
            assert time.monotonic() < until, str(self.facts())
            time.sleep(0.01)

    def is_ready(self) -> bool:
        facts = self.facts()
        mine = facts is not None and self.process is not None and facts.pid == self.process.pid
        return mine and facts is not None and facts.state == "READY"

    def caught_up(self) -> bool:
        facts = self.facts()
        return facts is not None and all(
            facts.values[f"in.{ring}.seq"] == producer.next_seq - 1
            for ring, producer in zip(RINGS, self.inputs, strict=True)
        )

    def rows(self) -> np.ndarray:
        """Give the data rows of the output."""
        with open_reader(ring_name(self.instance.name, "pnl", "positions"), POSITION) as reader:
            found = reader.last(SLOTS)[0]
        return found[found["kind"] == Kind.POSITION]


@pytest.fixture
def place(instance: Instance, tmp_path: Path) -> Iterator[Place]:
    """Rings whose regions are removed at the end."""
    made = Place(instance, tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()
        assert made.process.stderr is not None
        made.process.stderr.close()
    for producer in (*made.inputs, *made.tables):
        producer.close()
    for file in files_of(instance.name):
        regions.unlink(file)


@pytest.mark.slow
def test_killed_and_drained_its_rows_are_those_of_one_engine(place: Place) -> None:
    """Two kills while records arrive, then SIGTERM: read to the end, exit 0, nothing compiled after READY."""
    rng = random.Random(5)
    tape = desk_tape(rng, fills=300, events=500)
    at = [0, 0, 0]
    for life in range(3):
        place.start()
        place.wait_for(place.is_ready)
        goal = [len(each) * (life + 1) // 3 for each in tape]
        while at != goal:
            i = rng.choice([i for i in range(3) if at[i] < goal[i]])
            n = min(goal[i] - at[i], rng.randrange(1, 30))
            place.inputs[i].publish_batch(tape[i][at[i] : at[i] + n].copy())
            at[i] += n
            if rng.random() < 0.2:
                time.sleep(0.002)
        if life < 2:
            assert place.process is not None and place.process.stderr is not None
            place.process.kill()
            place.process.wait()
            place.process.stderr.close()
    place.wait_for(place.caught_up)
    assert place.process is not None
    place.process.send_signal(signal.SIGTERM)
    assert place.process.wait(WAIT_S) == 0
    rows = place.rows()
    options = PnlOptions(pause_ns=0)
    epochs = [[epoch for epoch, _ in producer.facts().epochs] for producer in place.inputs]
    wanted = offline(PnlEngine(lambda _id, _version: 2, options), rows, tape, epochs)
    assert bytes_of(rows) == bytes_of(wanted)
    facts = place.facts()
    assert facts is not None and facts.state == "STOPPED"
    assert facts.values["fills_booked"] == 300
    assert facts.values["compiles_after_ready"] == 0


def test_more_inputs_than_rows_can_tell_end_the_worker_for_good(place: Place) -> None:
    """Exit status 2, which is no reason to start it again, and the sentence says what to change."""
    process = place.start(inputs=[f"w{i}.events" for i in range(9)])
    assert process.wait(WAIT_S) == 2
    assert process.stderr is not None and b"name fewer in pnl.inputs" in process.stderr.read()


def test_a_spec_names_how_positions_are_accounted_for() -> None:
    """Words and seconds become what the engine takes."""
    base = {"instance": "a", "worker": "pnl", "state_dir": "b", "inputs": RINGS}
    assert options_of(PnlSpec(**base)) == PnlOptions()
    spec = PnlSpec(**base, method="fifo", mark="last", lots=9, row_pause_s=0.5, day_start_s=3600)
    wanted = PnlOptions(CostMethod.FIFO, MarkKind.LAST, 9, 500_000_000, 3600 * 10**9)
    assert options_of(spec) == wanted
