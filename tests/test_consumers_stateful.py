"""A computation over rings, stopped at every step: each row is in the output once, none is missing."""

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import Instance
from stateful_kit import SLOTS, Killed, Place, Sums

from layouts import FEATURES, Kind
from shm import region as regions
from shm._native import lib
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of


@pytest.fixture
def place(instance: Instance) -> Iterator[Place]:
    """Two rings; all regions are removed at the end."""
    made = Place(instance)
    yield made
    made.close()


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
