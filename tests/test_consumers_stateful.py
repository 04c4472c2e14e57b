"""A computation over rings, stopped at every step: each row is in the output once, none is missing."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from conftest import Instance

from consumers.checkpoint import CheckpointStore
from consumers.loop import InputSet, input_counters
from consumers.stateful import COUNTERS, StatefulWorker
from layouts import EVENT, FEATURES, Kind
from shm import region as regions
from shm._native import ffi, lib
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

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.producers = [self.open(ring.partition(".")[0]) for ring in RINGS]
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
        inputs.join()
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

    def die(self) -> None:
        """End the worker as SIGKILL would: nothing is written, detached or stopped."""
        for close in self.open_parts:
            close()
        self.open_parts = []

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


@pytest.fixture
def place(instance: Instance) -> Iterator[Place]:
    """Two rings; all regions are removed at the end."""
    made = Place(instance)
    yield made
    made.die()
    for producer in made.producers:
        producer.close()
    for file in files_of(instance.name):
        regions.unlink(file)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_each_record_causes_its_rows_once(place: Place, rows: int) -> None:
    """None, one or several a record."""
    place.start()
    for i in range(2):
        place.feed(i, 40, rows)
    place.drain()
    place.assert_whole([40 * rows, 40 * rows])


@pytest.mark.parametrize("saved_at", [0, 1, 2, 3])
def test_a_kill_after_any_turn_repeats_nothing(place: Place, saved_at: int) -> None:
    """Whether a checkpoint was written before, in between, or never."""
    worker = place.start()
    for i in range(2):
        place.feed(i, 45, 2)
    for turn in range(3):
        if turn == saved_at:
            worker.save()
        worker.turn(0.0)
    place.die()
    place.start()
    assert place.restored == (saved_at < 3)
    place.feed(0, 9, 2)
    place.drain()
    place.assert_whole([108, 90])
    assert place.counters.get("groups_suppressed") > 0


def test_a_kill_in_the_middle_of_a_group_completes_it(place: Place) -> None:
    """Rows of one record that are there stay, those that are not follow in the next epoch."""
    place.feed(0, 1, 5)
    worker = place.start()
    whole = worker._publish

    def cut(first: int, _end: int) -> None:
        whole(first, first + 2)
        raise Killed

    worker._publish = cut  # type: ignore[method-assign]
    with pytest.raises(Killed):
        worker.turn(0.0)
    place.die()
    assert place.rows()["source_index"].tolist() == [0, 1]
    place.start()
    place.drain()
    place.assert_whole([5, 0])


@pytest.mark.parametrize("step", ["before", "torn", "between"])
def test_a_kill_around_a_checkpoint(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before C1, in the middle of its write, and between C1 and C2, with rows published after it."""
    worker = place.start()
    place.feed(0, 20)
    place.drain()
    worker.save()
    place.feed(0, 20)
    place.feed(1, 20)
    place.drain()

    def end(*_: object) -> None:
        raise Killed

    if step == "before":
        monkeypatch.setattr(Sums, "to_bytes", end)
    elif step == "torn":
        monkeypatch.setattr("consumers.checkpoint._write", end)
    else:
        monkeypatch.setattr("consumers.loop.Input.commit", end)
    with pytest.raises(Killed):
        worker.save()
    monkeypatch.undo()
    place.die()
    place.start()
    assert place.restored
    place.feed(1, 5)
    place.drain()
    place.assert_whole([40, 25])


def test_killed_again_while_it_replays(place: Place) -> None:
    """A checkpoint of a replay remembers what the output holds beyond it."""
    place.start()
    place.feed(0, 100)
    place.drain()
    place.die()
    worker = place.start()
    worker.turn(0.0)
    worker.save()
    place.die()
    worker = place.start()
    assert place.restored
    worker.turn(0.0)
    worker.save()
    place.die()
    place.start()
    place.drain()
    place.assert_whole([100, 0])


def test_the_output_begins_each_later_epoch_with_a_restart(place: Place) -> None:
    """Which names this epoch and the one before, like any ring's."""
    place.start()
    first = place.output.epoch
    place.die()
    place.start()
    with open_reader(ring_name(place.instance.name, "sums", "features"), FEATURES) as reader:
        (record,) = reader.last(10)[0]
    assert record["kind"] == Kind.RESTART
    assert (record["source_epoch"], record["source_seq"]) == (place.output.epoch, first)
    assert np.isnan(record["mid"])


def test_a_checkpoint_is_due_before_the_output_has_gone_round(place: Place) -> None:
    """So that the rows after it can always be looked through."""
    place.start(slots=32)
    place.feed(0, 60, 1)
    place.drain()
    assert place.counters.get("checkpoints") >= 3
    place.die()
    place.start(slots=32)
    assert place.restored
    place.feed(0, 10, 1)
    place.drain()
    rows = place.rows()
    assert rows["source_seq"].tolist() == list(range(int(rows["source_seq"][0]), 71))


def test_a_checkpoint_is_due_when_an_eighth_of_an_input_was_read(place: Place) -> None:
    """So that a restart finds its records in the ring, whatever the clock says."""
    place.start()
    place.feed(0, SLOTS // 8 - 1, 0)
    place.drain()
    assert place.counters.get("checkpoints") == 0
    place.feed(0, 1, 0)
    place.drain()
    assert place.counters.get("checkpoints") == 1
    assert place.inputs[0].consumer.cursor == SLOTS // 8 + 1


@pytest.mark.parametrize("what", ["state", "output", "input"])
def test_a_checkpoint_of_something_else_is_refused_and_the_rings_suffice(
    place: Place, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another computation, an output or an input made anew: rebuilt from the oldest record."""
    worker = place.start()
    place.feed(0, 20)
    place.feed(1, 20)
    place.drain()
    worker.save()
    place.die()
    wanted = [20, 20]
    if what == "state":
        monkeypatch.setattr(Sums, "identity", "sums 2")
    elif what == "output":
        for file in files_of(place.instance.name):
            if ".sums.features." in file:
                regions.unlink(file)
    else:
        place.producers[1].close()
        for file in files_of(place.instance.name):
            if ".two.events." in file:
                regions.unlink(file)
        place.producers[1] = place.open("two")
        wanted = [20, 0]
    place.start()
    assert not place.restored
    place.drain()
    place.assert_whole(wanted)


def test_lost_records_are_told_and_snapshots_asked_for(place: Place) -> None:
    """The computation hears which input, the collector which instruments, the counter how many."""
    place.start()
    place.feed(0, 10)
    place.drain()
    place.computation.wanted = [5, 9]
    place.feed(0, SLOTS + 50, 0)
    place.drain()
    assert place.computation.forgotten == [0]
    control = place.producers[0].control_region
    assert control is not None
    asked = [lib.tr_take_snapshot_request(control.pointer) for _ in range(3)]
    assert asked[:2] == [5, 9]
    assert asked[2] < 0
    lost = place.inputs[0].consumer.lapped
    assert 0 < lost < SLOTS + 50


def test_losses_are_counted_once_over_a_kill(place: Place) -> None:
    """The count belongs to the checkpoint's position, not to the process."""
    worker = place.start()
    place.feed(0, SLOTS + 50, 0)
    place.drain()
    lost = place.inputs[0].consumer.lapped
    assert lost > 0
    worker.save()
    place.die()
    place.start()
    place.drain()
    assert place.inputs[0].consumer.lapped == lost


def test_the_committed_cursor_never_passes_the_checkpoint(place: Place) -> None:
    """What a restart needs stays in a ring that waits for its consumers."""
    worker = place.start()
    place.feed(0, 20)
    place.drain()
    assert place.inputs[0].consumer.cursor == 1
    worker.save()
    assert place.inputs[0].consumer.cursor == 21


def test_a_restarted_source_goes_on_in_its_new_epoch(place: Place) -> None:
    """Rows name the epoch of their record, and suppression knows both."""
    place.start()
    place.feed(0, 10)
    place.drain()
    place.producers[0].close()
    place.producers[0] = place.open("one")
    place.feed(0, 10)
    place.drain()
    place.die()
    place.start()
    place.feed(0, 5)
    place.drain()
    place.assert_whole([25, 0])
    epochs = place.rows()["source_epoch"].tolist()
    assert len(set(epochs)) == 2
