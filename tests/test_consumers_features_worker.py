"""The features worker as a process: killed anywhere, its rows are those of a worker that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import Instance
from features_market import Tape, instrument_record, walk

from consumers.feature_engine import FeatureEngine
from layouts import EVENT, FEATURES, INSTRUMENT, Kind
from shm import region as regions
from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

SCALES = (2, 3)
WAIT_S = 60.0


class Market:
    """Producers of two collectors' rings in an instance, and the features worker that reads them."""

    def __init__(self, place: Instance, folder: Path, event_slots: int, out_slots: int) -> None:
        self.place, self.folder = place, folder
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
            "worker": "features",
            "state_dir": str(self.place.state_dir),
            "inputs": ["one.events", "two.events"],
            "slots": self.out_slots,
            "checkpoint_s": 0.05,
            **more,
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec))
        self.process = subprocess.Popen([sys.executable, "-m", "consumers.features", str(path)])
        return self.process

    def facts(self) -> WorkerFacts | None:
        """Give the worker's counters, None where it has never started."""
        try:
            return read_counters(self.place.name, "features")
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
        with open_reader(ring_name(self.place.name, "features", "features"), FEATURES) as reader:
            return reader.last(self.out_slots)[0]

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a worker the gentle way."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0

    def close(self) -> None:
        """End what runs and close the producers."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for producer in (*self.events, *self.tables):
            producer.close()


@contextmanager
def market(
    place: Instance, folder: Path, event_slots: int = 16384, out_slots: int = 16384
) -> Iterator[Market]:
    """A market whose regions are removed at the end."""
    made = Market(place, folder, event_slots, out_slots)
    try:
        yield made
    finally:
        made.close()
        for file in files_of(place.name):
            regions.unlink(file)


def data_of(rows: np.ndarray) -> dict[int, np.ndarray]:
    """Give the data rows by instrument, without what may differ between a live run and a replay."""
    data = rows[rows["kind"] == Kind.FEATURES].copy()
    for field in ("stamp", "source_epoch", "source_seq", "ts_recv", "publish_delta_ns"):
        data[field] = 0
    return {int(i): data[data["instrument_id"] == i] for i in np.unique(data["instrument_id"])}


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Both hold the same data rows, bit for bit, by instrument."""
    left, right = data_of(found), data_of(wanted)
    assert left.keys() == right.keys()
    for each, rows in left.items():
        assert rows.tobytes() == right[each].tobytes(), f"instrument {each} differs"


def tapes(frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make records for both inputs."""
    made = []
    for ids in ((1, 2, 3), (11, 12, 13)):
        tape = Tape()
        walk(tape, ids, frames, seed + ids[0])
        made.append(tape.records())
    return made[0], made[1]


def never_killed(records: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Give the rows of one engine that has seen both inputs, one after the other."""
    engine = FeatureEngine(lambda _id, _version: SCALES)
    return np.concatenate([engine.process(each, i) for i, each in enumerate(records)])


def campaign(place: Instance, folder: Path, kills: int, frames: int, seed: int) -> None:
    """Feed two inputs bit by bit while the worker is killed `kills` times at random moments."""
    rng = random.Random(seed)
    records = tapes(frames, seed)
    size = max(len(each) for each in records)
    with market(place, folder, 1 << size.bit_length(), 1 << size.bit_length()) as made:
        process = made.start()
        at = [0, 0]
        for kill in range(kills + 1):
            made.ready(process)
            goal = [len(each) * (kill + 1) // (kills + 1) for each in records]
            die_at = rng.random() if kill < kills else 2.0
            while at != goal:
                i = rng.randrange(2)
                n = min(goal[i] - at[i], rng.randrange(1, 200))
                made.events[i].publish_batch(records[i][at[i] : at[i] + n].copy())
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
                process = made.start()
        made.wait_for("all applied", made.caught_up)
        made.stop(process)
        rows = made.rows()
        facts = made.facts()
    assert facts is not None
    assert facts.values["compiles_after_ready"] == 0
    restarts = rows[rows["kind"] == Kind.RESTART]
    assert len(restarts) <= kills
    data = rows[rows["kind"] == Kind.FEATURES]
    for epoch in np.unique(data["source_epoch"]):
        seqs = data["source_seq"][data["source_epoch"] == epoch]
        assert np.all(np.diff(seqs) > 0), "a row is there twice or out of order"
    assert_same(rows, never_killed(records))


def test_rows_through_the_rings_are_those_of_the_engine(instance: Instance, tmp_path: Path) -> None:
    """A worker that is fed two interleaved inputs and never killed writes what one engine computes."""
    campaign(instance, tmp_path, 0, 600, 1)


@pytest.mark.stress
@pytest.mark.slow
def test_killed_anywhere_its_rows_are_those_of_a_worker_never_killed(
    instance: Instance, tmp_path: Path
) -> None:
    """20 kills at random moments: no row twice, none missing, every column bit for bit."""
    campaign(instance, tmp_path, 20, 1500, 7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_120_times(instance: Instance, tmp_path: Path) -> None:
    """The full figure."""
    campaign(instance, tmp_path, 120, 8000, 11)
