"""Two collectors' rings and a stateful worker as a process, for the tests that kill it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from conftest import Instance
from features_market import instrument_record

from layouts import EVENT, INSTRUMENT, Kind
from shm import region as regions
from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

SCALES = (2, 3)
WAIT_S = 60.0


class Worker(NamedTuple):
    """Which worker: `python -m <module>`, and what its ring holds."""

    module: str
    name: str
    output: np.dtype
    spec: dict[str, object]


class Market:
    """Producers of two collectors' rings in an instance, and the worker that reads them."""

    def __init__(
        self, worker: Worker, place: Instance, folder: Path, event_slots: int, out_slots: int
    ) -> None:
        self.worker, self.place, self.folder = worker, place, folder
        self.out_slots = out_slots
        self.process: subprocess.Popen[bytes] | None = None
        self.events: list[Producer] = []
        self.tables: list[Producer] = []
        for worker, first in (("one", 1), ("two", 11)):
            table = open_ring(
                ring_name(place.name, worker, "instruments"), INSTRUMENT, 64, place.state_dir
            )
            for each in range(first, first + 3):
                table.publish_batch(instrument_record(each, *SCALES))
            self.tables.append(table)
            self.events.append(self._open_events(worker, event_slots))

    def _open_events(self, worker: str, slots: int) -> Producer:
        name = ring_name(self.place.name, worker, "events")
        return open_ring(name, EVENT, slots, self.place.state_dir)

    def start(self, **more: object) -> subprocess.Popen[bytes]:
        """Start a worker."""
        spec = {
            "instance": self.place.name,
            "worker": self.worker.name,
            "state_dir": str(self.place.state_dir),
            "inputs": ["one.events", "two.events"],
            "slots": self.out_slots,
            "checkpoint_s": 0.05,
            **self.worker.spec,
            **more,
        }
        path = self.folder / "spec.json"
        path.write_bytes(msgspec.json.encode(spec))
        self.process = subprocess.Popen([sys.executable, "-m", self.worker.module, str(path)])
        return self.process

    def facts(self) -> WorkerFacts | None:
        """Give the worker's counters, None where it has never started."""
        try:
            return read_counters(self.place.name, self.worker.name)
        except AttachError:
            return None

    def wait_for(self, what: str, found: object) -> None:
        """Wait until `found()` is true."""
        assert callable(found)
        until = time.monotonic() + WAIT_S
        while not found():
            assert self.process is not None and self.process.poll() is None, "the worker ended"
            assert time.monotonic() < until, f"{what} within {WAIT_S} s; {self.facts()}"
            time.sleep(0.005)

    def ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until this process is ready."""

        def found() -> bool:
            assert process.poll() is None
            facts = self.facts()
            return facts is not None and facts.pid == process.pid and facts.state == "READY"

        self.wait_for("ready", found)

    def caught_up(self) -> bool:
        """Whether the worker has applied all that was published."""
        facts = self.facts()
        if facts is None:
            return False
        return all(
            facts.values[f"in.{producer.name}.seq"] == producer.next_seq - 1
            for producer in self.events
        )

    def rows(self) -> np.ndarray:
        """Give every record of the output ring."""
        name = ring_name(self.place.name, self.worker.name, self.worker.name)
        with open_reader(name, self.worker.output) as reader:
            return reader.last(self.out_slots)[0]

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a worker the gentle way."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0

    def feed_and_kill(
        self, records: Sequence[np.ndarray], kills: int, rng: random.Random
    ) -> tuple[np.ndarray, WorkerFacts]:
        """Feed the inputs bit by bit while the worker is killed at random moments; give its rows and last counters."""
        process = self.start()
        at = [0, 0]
        for kill in range(kills + 1):
            self.ready(process)
            goal = [len(each) * (kill + 1) // (kills + 1) for each in records]
            die_at = rng.random() if kill < kills else 2.0
            while at != goal:
                i = rng.randrange(2)
                n = min(goal[i] - at[i], rng.randrange(1, 200))
                self.events[i].publish_batch(records[i][at[i] : at[i] + n].copy())
                at[i] += n
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.004)
                done = sum(at) / max(1, sum(goal))
                if done > die_at and process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
            if kill < kills:
                time.sleep(rng.random() * 0.02)
                process.kill()
                process.wait()
                process = self.start()
        self.wait_for("all applied", self.caught_up)
        self.stop(process)
        facts = self.facts()
        assert facts is not None
        assert facts.values["compiles_after_ready"] == 0
        rows = self.rows()
        assert np.count_nonzero(rows["kind"] == Kind.RESTART) <= kills
        return rows, facts

    def close(self) -> None:
        """End what runs and close the producers."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for producer in (*self.events, *self.tables):
            producer.close()


@contextmanager
def market(
    worker: Worker, place: Instance, folder: Path, event_slots: int = 16384, out_slots: int = 16384
) -> Iterator[Market]:
    """A market whose regions are removed at the end."""
    made = Market(worker, place, folder, event_slots, out_slots)
    try:
        yield made
    finally:
        made.close()
        for file in files_of(place.name):
            regions.unlink(file)
