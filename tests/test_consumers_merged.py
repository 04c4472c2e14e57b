"""A worker of several inputs, killed anywhere, goes on in the order in which its rows say that it met them."""

import random
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from conftest import Instance
from pnl_market import bytes_of, desk_tape, offline

from consumers.checkpoint import CheckpointStore
from consumers.loop import InputSet, input_counters
from consumers.merged import RecordedMerge, check_inputs
from consumers.pnl_engine import PnlEngine, PnlOptions
from consumers.stateful import COUNTERS, StatefulWorker
from layouts import EVENT, ORDER, POSITION, CostMethod
from shm import region as regions
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

RINGS = ["orders.orders", "one.events", "two.events"]
OPTIONS = PnlOptions(method=CostMethod.FIFO, lots=4, pause_ns=0)
SLOTS = 4096


class Killed(BaseException):
    """The process ends here."""


def new_engine() -> PnlEngine:
    return PnlEngine(lambda _id, _version: 2, OPTIONS)


class Place:
    """Three input rings, and pnl workers that come and go."""

    def __init__(self, instance: Instance, seed: int, late: int = 0) -> None:
        self.instance, self.rng = instance, random.Random(seed)
        self.tape = desk_tape(self.rng, fills=120, events=200)
        self.at = [0, 0, 0]
        self.producers: list[Producer] = []
        while len(self.producers) < len(RINGS) - late:
            self.open_next()
        self.parts: list = []

    def open(self, ring: str, layout: np.dtype) -> Producer:
        worker, _, name = ring.partition(".")
        ring_ = ring_name(self.instance.name, worker, name)
        return open_ring(ring_, layout, SLOTS, self.instance.state_dir)

    def open_next(self) -> None:
        """Open the next ring; the last `late` of them come one by one."""
        i = len(self.producers)
        self.producers.append(self.open(RINGS[i], EVENT if i else ORDER))

    def feed(self) -> bool:
        """Publish a few records of one input; False: nothing is left."""
        left = [i for i in range(len(self.producers)) if self.at[i] < len(self.tape[i])]
        if not left:
            return False
        i = self.rng.choice(left)
        n = min(self.rng.randrange(1, 12), len(self.tape[i]) - self.at[i])
        records = self.tape[i][self.at[i] : self.at[i] + n].copy()
        self.producers[i].publish_batch(records)
        self.at[i] += n
        return True

    def start(self) -> StatefulWorker:
        """Start a worker as a new process would; batches are small, so that inputs mix."""
        engine = new_engine()
        names = [*COUNTERS, *input_counters(RINGS), *engine.counters]
        counters = Counters.create(self.instance.name, "pnl", names)
        inputs = InputSet(self.instance.name, RINGS, "pnl", counters, self.rng.randrange(1, 9))
        inputs.join(patience_s=0.0)
        name = ring_name(self.instance.name, "pnl", "positions")
        output = open_ring(name, POSITION, SLOTS, self.instance.state_dir)
        store = CheckpointStore(self.instance.state_dir, "pnl")
        worker = StatefulWorker(engine, inputs, output, store, counters, 1e6)
        self.parts = [inputs.close, output.close, counters.close]
        worker.restore()
        worker.publish_restart()
        return worker

    def die(self) -> None:
        """End the worker as SIGKILL would: nothing is written, detached or stopped."""
        for close in self.parts:
            close()
        self.parts = []

    def rows(self) -> np.ndarray:
        """Give the data rows of the output."""
        with open_reader(ring_name(self.instance.name, "pnl", "positions"), POSITION) as reader:
            found = reader.last(SLOTS)[0]
        return found[found["source_index"] < found["source_count"]]

    def wanted(self) -> list[bytes]:
        """Give the rows of an engine that was never killed and met its inputs in the order of the output's rows."""
        epochs = [[e for e, _ in p.facts().epochs] for p in self.producers]
        return bytes_of(offline(new_engine(), self.rows(), self.tape, epochs))


def cut_publishing(place: Place, worker: StatefulWorker) -> None:
    """Let the worker die in the middle of a batch of rows."""
    whole = worker._publish

    def cut(first: int, end: int) -> None:
        whole(first, place.rng.randrange(first, end + 1))
        raise Killed

    worker._publish = cut  # type: ignore[method-assign]


def campaign(place: Place, kills: int) -> None:
    """Feed and turn at random; die between turns, in a turn, before, in and after a checkpoint; late rings come in between."""
    worker = place.start()
    lives = place.rng.sample(range(1, 60), kills)
    step = 0
    while place.feed() or worker.turn(0.0):
        step += 1
        if step % 12 == 0 and len(place.producers) < len(RINGS):
            place.open_next()
            worker._inputs._beat_at = 0
        for _ in range(place.rng.randrange(3)):
            worker.turn(0.0)
        if place.rng.random() < 0.1:
            worker.save()
        if step in lives:
            if place.rng.random() < 0.5:
                cut_publishing(place, worker)
                place.feed()
            with suppress(Killed):
                worker.turn(0.0)
            place.die()
            worker = place.start()
    while worker.turn(0.0):
        pass


@pytest.fixture
def places(instance: Instance) -> Iterator[list[Place]]:
    """Room for the places of a test, whose regions are removed at the end."""
    made: list[Place] = []
    yield made
    for place in made:
        place.die()
        for producer in place.producers:
            producer.close()
    for file in files_of(instance.name):
        regions.unlink(file)


@pytest.mark.parametrize("seed", range(6))
def test_killed_anywhere_the_rows_are_those_of_one_unbroken_merge(
    instance: Instance, places: list[Place], seed: int
) -> None:
    """Each row once, none missing, and every byte as an engine makes it that meets the inputs in the rows' order."""
    places.append(place := Place(instance, seed))
    campaign(place, kills=8)
    found = bytes_of(place.rows())
    assert len(found) > 200
    assert found == place.wanted()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("late", [1, 2])
def test_rings_that_come_late_are_merged_as_the_rows_tell(
    instance: Instance, places: list[Place], seed: int, late: int
) -> None:
    """Killed before and after they came, with and without a checkpoint: as one unbroken merge that began without them."""
    places.append(place := Place(instance, seed, late))
    campaign(place, kills=10)
    found = bytes_of(place.rows())
    assert len(found) > 200
    assert len(place.producers) == len(RINGS)
    first = place.rows()["applied_seq"][0].tolist()
    assert first[3 - late :] == [0] * (len(first) - 3 + late)
    assert found == place.wanted()


def test_a_merge_that_is_not_followed_is_found(
    instance: Instance, places: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above fails for a worker that takes its inputs as they lie after a restart."""
    monkeypatch.setattr(RecordedMerge, "follow", lambda *_: None)
    places.append(place := Place(instance, 1))
    campaign(place, kills=8)
    assert bytes_of(place.rows()) != place.wanted()


@pytest.mark.parametrize("early", [False, True], ids=["as it is", "seeded defect"])
def test_a_checkpoint_is_not_written_before_the_merge_was_followed(
    instance: Instance, places: list[Place], monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """Or it would have the rows behind it, though what they tell is still to be done."""
    if early:
        monkeypatch.setattr(StatefulWorker, "_follow_merge", lambda _: None)
    places.append(place := Place(instance, 3))
    worker = place.start()
    for _ in range(30):
        place.feed()
        worker.turn(0.0)
    told = place.rows()["applied_seq"][-1][:3].tolist()
    place.die()
    place.start().save()
    found = CheckpointStore(instance.state_dir, "pnl").load()
    assert found is not None and found.checkpoint.output_next_seq > len(place.rows())
    applied = [position.next_seq - 1 for position in found.checkpoint.positions]
    assert (applied == told) != early


@pytest.mark.parametrize(("inputs", "refused"), [(8, False), (9, True)])
def test_a_worker_has_no_more_inputs_than_its_rows_can_tell(inputs: int, refused: bool) -> None:
    """Eight; with the ninth the name of what to change."""
    names = [f"w{i}.events" for i in range(inputs)]
    if not refused:
        check_inputs("pnl", names)
        return
    with pytest.raises(ConfigurationError, match=r"pnl has 9 inputs.*pnl\.inputs"):
        check_inputs("pnl", names)


def test_only_rows_of_known_epochs_are_followed() -> None:
    """Rows without a cause, or whose input is another incarnation by now, tell nothing."""
    rows = np.zeros(4, POSITION)
    rows["source_seq"] = (1, 2, 3, 0)
    rows["source_epoch"] = (5, 99, 6, 5)
    rows["applied_seq"][:, :2] = ((1, 0), (1, 7), (1, 3), (2, 3))
    merge = RecordedMerge()
    merge.note(rows, {5: 0, 6: 1})
    steps: list[tuple[int, int]] = []
    merge.follow(2, lambda i, seq: steps.append((i, seq)))
    assert steps == [(1, 0), (0, 1), (0, 1), (1, 3)]
