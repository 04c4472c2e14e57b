"""What the tests of stateful workers share: a computation of running sums over two rings, and workers that come and go."""

from collections.abc import Callable

import numpy as np
from conftest import Instance

from consumers.checkpoint import CheckpointStore
from consumers.loop import InputSet, input_counters
from consumers.stateful import COUNTERS, StatefulWorker
from layouts import EVENT, FEATURES, Kind
from shm import region as regions
from shm._native import ffi
from shm.counters import Counters
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

RINGS = ["one.events", "two.events"]
SLOTS = 1024


class Killed(BaseException):
    """The process ends here."""


class Sums:
    """Makes `word_1` rows of each record, each carrying the running sum of `word_0` of its input."""

    identity = "sums 1"
    output = FEATURES
    batch_records = 16
    unfinished = False

    def __init__(self) -> None:
        self.rows = np.zeros(16 * 8, FEATURES)
        self.sums = np.zeros(len(RINGS), np.int64)
        self.forgotten: list[int] = []
        self.counters: dict[str, int] = {}
        self.wanted: list[int] = []

    def apply(self, records: int, n: int, source: int, epoch: int) -> int:
        batch = np.frombuffer(ffi.buffer(ffi.cast("char *", records), 64 * n), EVENT)
        made = 0
        for record in batch:
            self.sums[source] += record["word_0"]
            for index in range(int(record["word_1"])):
                row = self.rows[made]
                row["kind"], row["source_epoch"] = Kind.FEATURES, epoch
                row["source_seq"] = (int(record["stamp"]) - 2) // 2
                row["source_index"], row["source_count"] = index, record["word_1"]
                row["row_no"] = self.sums[source]
                made += 1
        return made

    def forget(self, source: int) -> None:
        self.forgotten.append(source)

    def wanting(self, source: int) -> list[int]:
        wanted, self.wanted = self.wanted, []
        return wanted

    def idle(self) -> None:
        pass

    def to_bytes(self) -> bytes:
        return self.sums.tobytes()

    def load(self, image: bytes) -> None:
        if len(image) != self.sums.nbytes:
            raise ValueError("no sums")
        self.sums[:] = np.frombuffer(image, np.int64)


class Place:
    """Two input rings, and workers that come and go."""

    def __init__(self, instance: Instance, rings: int = 2) -> None:
        self.instance = instance
        self.producers = [self.open(ring.partition(".")[0]) for ring in RINGS[:rings]]
        self.worker: StatefulWorker | None = None
        self.open_parts: list[Callable[[], None]] = []

    def open(self, worker: str, slots: int = SLOTS) -> Producer:
        """Open a ring's producer."""
        name = ring_name(self.instance.name, worker, "events")
        return open_ring(name, EVENT, slots, self.instance.state_dir)

    def feed(self, i: int, n: int, rows: int = 1) -> None:
        """Publish n records that cause `rows` rows each."""
        records = np.zeros(n, EVENT)
        first = self.producers[i].next_seq
        records["word_0"] = np.arange(first, first + n) % 7 + 1
        records["word_1"] = rows
        self.producers[i].publish_batch(records)

    def start(self, slots: int = SLOTS, checkpoint_s: float = 1e6) -> StatefulWorker:
        """Start a worker as a new process would; without more, only `save` writes a checkpoint."""
        counters = Counters.create(self.instance.name, "sums", [*COUNTERS, *input_counters(RINGS)])
        inputs = InputSet(self.instance.name, RINGS, "sums", counters, 16)
        inputs.join(patience_s=0.0)
        name = ring_name(self.instance.name, "sums", "features")
        output = open_ring(name, FEATURES, slots, self.instance.state_dir)
        store = CheckpointStore(self.instance.state_dir, "sums")
        self.computation, self.counters, self.output, self.inputs = Sums(), counters, output, inputs
        self.worker = StatefulWorker(
            self.computation, inputs, output, store, counters, checkpoint_s
        )
        self.restored = self.worker.restore()
        self.worker.publish_restart()
        self.open_parts = [inputs.close, output.close, counters.close]
        return self.worker

    def close(self) -> None:
        """End the worker and the producers, and remove all regions."""
        self.die()
        for producer in dict.fromkeys(self.producers):
            producer.close()
        for file in files_of(self.instance.name):
            regions.unlink(file)

    def die(self) -> None:
        """End the worker as SIGKILL would: nothing is written, detached or stopped."""
        for close in self.open_parts:
            close()
        self.open_parts = []

    def beat(self) -> None:
        """Turn once with a beat that is due."""
        assert self.worker is not None
        self.inputs._beat_at = 0
        self.worker.turn(0.0)

    def drain(self) -> None:
        """Turn until nothing is left to read."""
        assert self.worker is not None
        while self.worker.turn(0.0):
            pass

    def rows(self) -> np.ndarray:
        """Give the data rows of the output."""
        with open_reader(ring_name(self.instance.name, "sums", "features"), FEATURES) as reader:
            found = reader.last(10**6)[0]
        return found[found["kind"] == Kind.FEATURES]

    def assert_whole(self, wanted: list[int]) -> None:
        """Each input's rows are all there, in order, with the sums of an unbroken run."""
        rows = self.rows()
        for i, producer in enumerate(self.producers):
            epochs = [epoch for epoch, _ in producer.facts().epochs]
            mine = rows[np.isin(rows["source_epoch"], epochs)]
            assert len(mine) == wanted[i]
            keys = list(
                zip(mine["source_seq"].tolist(), mine["source_index"].tolist(), strict=True)
            )
            assert keys == sorted(set(keys))
            sums = np.cumsum(np.arange(1, producer.next_seq) % 7 + 1)
            assert mine["row_no"].tolist() == sums[mine["source_seq"] - 1].tolist()
