"""A worker's inputs: batches of one epoch, exact losses, cursors that survive a kill, a clean end."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Instance

from consumers.loop import LOST, PINNED_SPIN_US, SPIN_US, InputSet, input_counters, spin_us_of
from layouts import EVENT
from shm import region as regions
from shm.counters import Counters, read_counters
from shm.errors import ConfigurationError, OwnershipError
from shm.producer import Producer, open_ring
from shm.region import ring_name
from shm.registry import files_of

SLOTS = 64
RING = "feed.events"


def records(first: int, n: int) -> np.ndarray:
    """Make n records whose word_0 counts from `first`."""
    made = np.zeros(n, EVENT)
    made["word_0"] = np.arange(first, first + n)
    return made


@pytest.fixture
def place(instance: Instance) -> Iterator[Instance]:
    """An instance whose regions are removed at the end."""
    yield instance
    for file in files_of(instance.name):
        regions.unlink(file)


def feed(place: Instance, worker: str = "feed", slots: int = SLOTS) -> Producer:
    """Open a producer of the input ring."""
    return open_ring(ring_name(place.name, worker, "events"), EVENT, slots, place.state_dir)


@pytest.mark.parametrize(
    ("cpu", "cores", "spin_us"),
    [(1, {1}, PINNED_SPIN_US), (1, {0, 1}, SPIN_US), (-1, {1}, SPIN_US), (5, {1}, SPIN_US)],
)
def test_only_who_has_its_core_spins(
    monkeypatch: pytest.MonkeyPatch, cpu: int, cores: set[int], spin_us: float
) -> None:
    """A core that was asked for and not had is none: spinning there would take it from others."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: cores)
    assert spin_us_of(cpu) == spin_us


def test_records_arrive_in_order_with_their_seq(place: Instance) -> None:
    """What is published is polled once, batch by batch, with the seq of each first record."""
    producer = feed(place)
    inputs = InputSet(place.name, [RING], "reader", batch_records=4)
    assert inputs.join()
    producer.publish_batch(records(1, 10))
    seen = []
    assert inputs.wait(1.0)
    while n := inputs[0].poll():
        assert inputs[0].epoch == producer.epoch
        assert inputs[0].first_seq == inputs[0].records["word_0"][0]
        seen += inputs[0].records["word_0"][:n].tolist()
    assert seen == list(range(1, 11))
    assert not inputs.wait(0.0)
    inputs.close()
    producer.close()


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 64])
def test_no_batch_spans_two_epochs(place: Instance, batch: int) -> None:
    """Records of two incarnations come in batches of one epoch each, none lost, none twice."""
    first = feed(place)
    first.publish_batch(records(1, 5))
    first.close()
    second = feed(place)
    second.publish_batch(records(6, 5))
    inputs = InputSet(place.name, [RING], "reader", batch_records=batch)
    inputs.join()
    seen = []
    while n := inputs[0].poll():
        seen += [(inputs[0].epoch, int(word)) for word in inputs[0].records["word_0"][:n]]
        assert inputs[0].next_seq == seen[-1][1] + 1
    assert seen == [(first.epoch if i < 6 else second.epoch, i) for i in range(1, 11)]
    inputs.close()
    second.close()


def test_a_kept_part_is_ready_without_new_records(place: Instance) -> None:
    """`wait` returns at once while the second epoch of a batch is still to be given."""
    first = feed(place)
    first.publish_batch(records(1, 2))
    first.close()
    second = feed(place)
    second.publish_batch(records(3, 2))
    inputs = InputSet(place.name, [RING], "reader")
    inputs.join()
    assert inputs[0].poll() == 2
    assert not inputs.drained()
    assert inputs.wait(0.0)
    assert inputs[0].poll() == 2
    assert inputs.drained()
    inputs.close()
    second.close()


def test_a_loss_is_told_once_and_exactly(place: Instance) -> None:
    """After a whole ring behind, the range read + the range lost is what was published, and the counter says it."""
    producer = feed(place)
    counters = Counters.create(place.name, "reader", input_counters([RING]))
    inputs = InputSet(place.name, [RING], "reader", counters)
    inputs.join()
    producer.publish_batch(records(1, SLOTS * 2 + 5))
    source = inputs[0]
    assert source.poll() == LOST
    lost = source.lost_to - source.lost_from + 1
    assert source.lost_from == 1
    read = 0
    while n := source.poll():
        assert n > 0
        read += n
    assert read + lost == SLOTS * 2 + 5
    source.commit()
    inputs.beat()
    assert counters.get(f"in.{RING}.lost") == lost
    assert counters.get(f"in.{RING}.seq") == SLOTS * 2 + 5
    inputs.close()
    counters.close()
    producer.close()


def test_drained_means_the_heads_of_the_moment_it_was_asked(place: Instance) -> None:
    """What is published after the first `drained` is not waited for; what was before is."""
    producer = feed(place)
    producer.publish_batch(records(1, 3))
    inputs = InputSet(place.name, [RING], "reader", batch_records=2)
    inputs.join()
    assert not inputs.drained()
    producer.publish_batch(records(4, 3))
    inputs[0].poll()
    assert not inputs.drained()
    inputs[0].poll()
    assert inputs.drained()
    inputs.close()
    producer.close()


def test_a_ring_made_anew_is_joined_once_the_old_one_is_read(place: Instance) -> None:
    """A retired ring's last records come first, then the successor's from its oldest; the incarnation counts it."""
    old = feed(place)
    old.publish_batch(records(1, 2))
    inputs = InputSet(place.name, [RING], "reader")
    inputs.join()
    source = inputs[0]
    old.retire()
    old.close()
    new = feed(place)
    new.publish_batch(records(1, 3))
    assert not source.renew()
    assert source.poll() == 2
    assert source.renew()
    assert source.incarnation == 1
    assert source.poll() == 3
    assert source.epoch == new.epoch
    assert not source.renew()
    inputs.close()
    new.close()


def test_joining_waits_for_a_ring_and_gives_up_when_told(place: Instance) -> None:
    """Without the ring `join` answers False at its time-out or at a stop, and goes on where it was."""
    producer = feed(place)
    inputs = InputSet(place.name, [RING, "late.events"], "reader")
    assert not inputs.join(timeout_s=0.05)
    assert not inputs.join(SimpleNamespace(is_set=True))
    late = feed(place, "late")
    assert inputs.join(timeout_s=0.0)
    assert [source.name for source in inputs] == [RING, "late.events"]
    inputs.close()
    producer.close()
    late.close()


def test_a_missing_ring_holds_up_nobody_and_keeps_its_number(place: Instance) -> None:
    """The others are begun with; it is joined by a later beat, from its oldest record, and told by its counter until then."""
    rings = ["late.events", RING, "never.events"]
    counters = Counters.create(place.name, "reader", input_counters(rings))
    producer = feed(place)
    inputs = InputSet(place.name, rings, "reader", counters)
    assert inputs.join(patience_s=0.0)
    assert ([source.index for source in inputs], inputs.missing) == ([1], [rings[0], rings[2]])
    with pytest.raises(KeyError):
        inputs[0]
    assert inputs.beat()
    assert [counters.get(f"in.{ring}.here") for ring in rings] == [0, 1, 0]
    late = feed(place, "late")
    late.publish_batch(records(1, 3))
    assert not inputs.beat()  # it is not due, four times a second
    assert inputs.missing == [rings[0], rings[2]]
    inputs._beat_at = 0
    assert inputs.beat()
    assert [(source.index, source.name) for source in inputs] == [(0, "late.events"), (1, RING)]
    assert [counters.get(f"in.{ring}.here") for ring in rings] == [1, 1, 0]
    assert inputs.wait(0.0)
    assert (inputs[0].poll(), inputs[0].first_seq, inputs[1].poll()) == (3, 1, 0)
    inputs.close()
    producer.close()
    late.close()


def test_without_any_ring_a_worker_rests_and_ends(place: Instance) -> None:
    """`wait` takes its time and finds nothing; there is nothing to drain."""
    inputs = InputSet(place.name, [RING], "reader")
    assert inputs.join(patience_s=0.0)
    assert not inputs.wait(0.01)
    assert list(inputs) == []
    assert inputs.drained()
    inputs.close()


def test_a_ring_that_came_just_before_the_end_is_drained(place: Instance) -> None:
    """It was not joined yet when the end was told: it is, and read like the others; what comes later is not."""
    producer = feed(place)
    inputs = InputSet(place.name, [RING, "late.events", "later.events"], "reader")
    assert inputs.join(patience_s=0.0)
    assert inputs.beat()
    late = feed(place, "late")
    late.publish_batch(records(1, 2))
    assert not inputs.drained()
    assert inputs[1].poll() == 2
    assert inputs.drained()
    later = feed(place, "later")
    assert inputs.beat()  # at once, so that the worker follows what `drained` has joined
    assert inputs.missing == ["later.events"]
    inputs.close()
    for each in (producer, late, later):
        each.close()


def test_a_needed_ring_is_waited_for_beyond_all_patience(
    place: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And told: the worker says JOINING, which is no hang."""
    monkeypatch.setattr("consumers.loop._TELL_AFTER_NS", 0)
    rings = [RING, "other.events"]
    counters = Counters.create(place.name, "reader", input_counters(rings))
    inputs = InputSet(place.name, rings, "reader", counters)
    assert not inputs.join(timeout_s=0.1, needed=[RING], patience_s=0.0)
    assert read_counters(place.name, "reader").state == "JOINING"
    producer = feed(place)
    assert inputs.join(timeout_s=0.1, needed=[RING], patience_s=0.0)
    assert inputs.missing == ["other.events"]
    inputs.close()
    producer.close()


@pytest.mark.parametrize("rings", [[], [RING, RING]])
def test_no_input_and_one_twice_are_refused(place: Instance, rings: list[str]) -> None:
    """A worker reads one or more different rings; the error names what was given."""
    with pytest.raises(ConfigurationError, match="one or more different rings"):
        InputSet(place.name, rings, "reader")


_KILLED = """
    import sys
    from consumers.loop import InputSet
    inputs = InputSet(sys.argv[1], ["feed.events"], "reader", batch_records=4)
    inputs.join()
    inputs[0].poll(); inputs[0].commit(); inputs[0].poll()
    print(inputs[0].next_seq, flush=True)
    sys.stdin.read()
"""


def test_a_killed_consumer_goes_on_at_its_cursor(place: Instance) -> None:
    """Its successor of the same name reads from what was committed; while it lives, the name is taken."""
    producer = feed(place)
    producer.publish_batch(records(1, 10))
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), place.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"9\n"
        with pytest.raises(OwnershipError):
            InputSet(place.name, [RING], "reader").join()
        os.kill(child.pid, signal.SIGKILL)
    inputs = InputSet(place.name, [RING], "reader")
    inputs.join()
    assert inputs[0].poll() == 6
    assert inputs[0].first_seq == 5
    inputs.detach()
    inputs.close()
    producer.close()


def test_resuming_takes_seq_and_losses_from_the_caller(place: Instance) -> None:
    """A checkpoint's position wins over the cursor, and its count of losses goes on."""
    producer = feed(place)
    producer.publish_batch(records(1, 10))
    counters = Counters.create(place.name, "reader", input_counters([RING]))
    inputs = InputSet(place.name, [RING], "reader", counters)
    inputs.join()
    inputs[0].resume(7, 100)
    assert inputs[0].poll() == 4
    assert inputs[0].first_seq == 7
    assert inputs[0].consumer.lapped == 100
    inputs.beat()
    assert read_counters(place.name, "reader").values[f"in.{RING}.lost"] == 100
    inputs.close()
    counters.close()
    producer.close()
