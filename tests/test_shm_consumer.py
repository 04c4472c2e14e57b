"""A registered consumer goes on where it can restart from, and every record is delivered or counted as lost."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ring_kit import RingMaker, filled, mismatches, ring_maker

from layouts import BOOK, EVENT
from shm._native import lib
from shm.consumer import FROM_NEWEST, FROM_OLDEST, join, wait_any
from shm.errors import ConfigurationError, NoRing, OwnershipError, Retired, WrongAbi
from shm.header import control_view
from shm.reclaim import reclaim_ring

SLOTS = 16


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


def joined(ring: RingMaker, producer, name: str = "features", start: int = FROM_OLDEST):
    return ring.keep(join(producer.name, name, EVENT, start))


def drain(consumer) -> tuple[int, int]:
    """Read to the end: records read, records lost."""
    batch = np.empty(64, EVENT)
    read = 0
    lost_before = consumer.lost
    while n := consumer.poll_into(batch):
        if n > 0:
            assert mismatches(batch[:n], consumer.next_seq - n) == 0
            read += n
    return read, consumer.lost - lost_before


@pytest.mark.parametrize("published", [0, 1, SLOTS - 1, SLOTS, 3 * SLOTS])
@pytest.mark.parametrize("start", [FROM_OLDEST, FROM_NEWEST, 1, 7])
def test_a_new_consumer_begins_where_it_asked(ring, published: int, start: int) -> None:
    """The oldest, the next to come, or a seq: what is gone by then is lost, exactly."""
    producer = ring(SLOTS)
    if published:
        producer.publish_batch(filled(1, published))
    consumer = joined(ring, producer, start=start)
    oldest = max(1, published + 1 - (SLOTS - 1))
    first = {FROM_OLDEST: oldest, FROM_NEWEST: published + 1}.get(start, start)
    assert consumer.cursor == consumer.next_seq == first
    read, lost = drain(consumer)
    assert read + lost == max(0, published + 1 - first)
    if start in (FROM_OLDEST, FROM_NEWEST):
        assert lost == 0


def test_a_restarted_consumer_goes_on_at_its_cursor(ring) -> None:
    """What was polled and not committed comes again; what was committed does not."""
    producer = ring(64)
    producer.publish_batch(filled(1, 20))
    batch = np.empty(64, EVENT)
    consumer = join(producer.name, "features", EVENT)
    assert consumer.poll_into(batch[:12]) == 12
    consumer.commit(8)
    consumer.close()
    again = joined(ring, producer)
    assert (again.cursor, again.next_seq, again.lag) == (8, 8, 13)
    assert drain(again) == (13, 0)


@pytest.mark.parametrize("missed", [SLOTS - 1, SLOTS, SLOTS + 1, 10 * SLOTS])
def test_what_was_overwritten_meanwhile_is_counted_once(ring, missed: int) -> None:
    """Over two restarts the entry's loss is the loss, also when the cursor stays behind it for a while."""
    producer = ring(SLOTS)
    consumer = join(producer.name, "features", EVENT)
    producer.publish_batch(filled(1, missed))
    total = 0
    for _ in range(2):  # dies after reading on, without having moved its cursor
        read, lost = drain(consumer)
        assert read + lost == missed
        assert consumer.lapped == lost
        consumer.commit(1)
        total = lost
        consumer.close()
        consumer = join(producer.name, "features", EVENT)
        assert consumer.lapped == 0, "the cursor has not passed the loss"
    drain(consumer)
    consumer.commit()
    consumer.close()
    consumer = joined(ring, producer)
    assert consumer.lapped == total
    assert consumer.cursor == missed + 1
    assert drain(consumer) == (0, 0)


def test_losses_enter_the_ledger_as_the_cursor_passes_them(ring) -> None:
    """Two losses, a cursor between them: a restart there has the first only, and meets the second again."""
    producer = ring(SLOTS)
    consumer = join(producer.name, "features", EVENT)
    producer.publish_batch(filled(1, 40))
    _, first = drain(consumer)
    consumer.commit()
    middle = consumer.cursor
    producer.publish_batch(filled(41, 40))
    _, second = drain(consumer)
    assert first and second
    consumer.commit(middle + 1)
    consumer.close()
    consumer = joined(ring, producer)
    assert consumer.lapped == first
    drain(consumer)
    assert consumer.lapped == first + second - 1


def test_a_crash_between_ledger_and_cursor_changes_nothing(ring) -> None:
    """The ledger that belongs to the old cursor stays in force until the new cursor is stored."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    control = producer.control_region.pointer
    lib.tr_entry_commit(control, consumer.entry, 5, 3, 0, 1)
    assert lib.tr_entry_lapped(control, consumer.entry) == 3
    view = control_view(producer.control_region).entry[consumer.entry]
    lib.tr_entry_commit(control, consumer.entry, 9, 7, 0, 1)
    assert lib.tr_entry_lapped(control, consumer.entry) == 7
    view.cursor = 5  # as if the store of the cursor had not happened
    assert lib.tr_entry_lapped(control, consumer.entry) == 3


def test_one_process_owns_a_consumer_name(ring, instance) -> None:
    """A second process under the same name is refused while the first lives, and takes over once it is dead."""
    producer = ring(SLOTS)
    code = (
        "import sys; from layouts import EVENT; from shm.consumer import join; from shm.region import ring_name\n"
        f"c = join(ring_name({instance.name!r}, 'worker', 'events'), 'features', EVENT)\n"
        "c.commit(4); print('joined', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "joined\n"
        with pytest.raises(OwnershipError, match=f"process {child.pid}, which runs"):
            join(producer.name, "features", EVENT)
        child.kill()
        child.wait()
    consumer = joined(ring, producer)
    assert consumer.cursor == 4


def test_a_reused_pid_is_not_taken_for_the_owner(ring) -> None:
    """Pid and start time together name a process."""
    producer = ring(SLOTS)
    consumer = join(producer.name, "features", EVENT)
    view = control_view(producer.control_region).entry[consumer.entry]
    view.pid, view.start_time = 1, 1  # pid 1 lives, but it did not start then
    consumer.close()
    assert joined(ring, producer).entry == 0


def test_a_process_that_died_while_joining_is_replaced(ring) -> None:
    """Half-joined entries: before the cursor was stored it is joined anew, after that taken over."""
    producer = ring(SLOTS)
    producer.publish_batch(filled(1, 5))
    view = control_view(producer.control_region)
    for state, cursor, expected in ((lib.TR_JOINING, 0, 1), (lib.TR_JOINING, 3, 3)):
        consumer = join(producer.name, "features", EVENT)
        entry = view.entry[consumer.entry]
        entry.state, entry.cursor, entry.pid = state, cursor, 0
        consumer.close()
        consumer = join(producer.name, "features", EVENT)
        assert (consumer.cursor, entry.state) == (expected, lib.TR_ACTIVE)
        consumer.close()


def test_the_entries_are_bounded(ring) -> None:
    """32 names; the next is refused, and a known one still comes in."""
    producer = ring(SLOTS)
    for i in range(lib.TR_CONSUMERS):
        joined(ring, producer, f"c{i}")
    with pytest.raises(OwnershipError, match="all 32 are taken"):
        join(producer.name, "one_more", EVENT)
    joined(ring, producer, "c7")


@pytest.mark.parametrize(("length", "is_allowed"), [(0, 0), (1, 1), (31, 1), (32, 0)])
def test_consumer_names_are_bounded(ring, length: int, is_allowed: int) -> None:
    """1 to 31 bytes; two names that differ in the last byte are two consumers."""
    producer = ring(SLOTS)
    if not is_allowed:
        with pytest.raises(ConfigurationError, match="1 to 31 bytes"):
            join(producer.name, "x" * length, EVENT)
        return
    a = joined(ring, producer, "x" * (length - 1) + "a")
    b = joined(ring, producer, "x" * (length - 1) + "b")
    assert a.entry != b.entry


def test_joining_needs_the_ring_its_control_and_the_same_records(ring) -> None:
    """Each is its own error, and nothing stays mapped."""
    producer = ring(SLOTS)
    with pytest.raises(NoRing):
        join(ring.name("nothing"), "features", EVENT)
    with pytest.raises(WrongAbi):
        join(producer.name, "features", BOOK)
    producer.retire()
    with pytest.raises(Retired):
        join(producer.name, "features", EVENT)
    assert Path("/proc/self/maps").read_text().count(producer.data_region.file) == 1


def test_a_detached_consumer_keeps_its_cursor(ring) -> None:
    """The next process of that name goes on there, even while the first one runs."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    producer.publish_batch(filled(1, 9))
    consumer.commit(6)
    consumer.detach()
    assert joined(ring, producer).cursor == 6


def test_a_consumer_on_a_removed_ring_is_told(ring, monkeypatch) -> None:
    """A cursor belongs to a ring: the successor has to be joined by name."""
    monkeypatch.setattr("shm.reader._RENEW_NS", 0)
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    producer.close()
    reclaim_ring(producer.name)
    assert not consumer.is_current
    with pytest.raises(Retired, match="join it again"):
        next(consumer.follow(poll_ms=0.1))


def test_snapshot_requests_arrive_once_each(ring) -> None:
    """Whatever the order and the number of asking consumers; an index beyond the bitmap wraps."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    control = producer.control_region.pointer
    assert lib.tr_take_snapshot_request(control) == lib.TR_NO_ENTRY
    for index in (5, 63, 64, 5, 8191, 8192 + 70):
        consumer.request_snapshot(index)
    taken = []
    while (index := lib.tr_take_snapshot_request(control)) != lib.TR_NO_ENTRY:
        taken.append(index)
    assert sorted(taken) == [5, 63, 64, 70, 8191]


# ---------------------------------------------------------------- waiting


def test_waiting_ends_with_a_record(ring) -> None:
    """One that is there at once, and one that comes while the consumer sleeps."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    producer.publish(filled(1, 1))
    assert wait_any([consumer], 10.0)
    consumer.poll()
    timer = threading.Timer(0.05, lambda: producer.publish(filled(2, 1)))
    timer.start()
    begun = time.monotonic()
    assert wait_any([consumer], 10.0, spin_us=0)
    assert time.monotonic() - begun < 9
    timer.join()
    assert control_view(producer.control_region).entry[consumer.entry].state == lib.TR_ACTIVE


def test_waiting_on_several_rings_ends_with_the_first(ring) -> None:
    """One futex word in each ring's control, one wait for all of them."""
    producers = [ring(SLOTS, f"r{i}") for i in range(5)]
    consumers = [joined(ring, producer) for producer in producers]
    for i in (4, 0, 2):
        timer = threading.Timer(0.03, lambda i=i: producers[i].publish(filled(1, 1)))
        timer.start()
        assert wait_any(consumers, 10.0, spin_us=0)
        timer.join()
        assert [len(consumer.poll()[0]) for consumer in consumers] == [
            int(i == j) for j in range(5)
        ]


def test_waiting_times_out(ring) -> None:
    """After its time and not before; no word is left saying that the consumer sleeps."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    begun = time.monotonic()
    assert not wait_any([consumer], 0.15)
    assert time.monotonic() - begun >= 0.15
    words = np.frombuffer(Path("/dev/shm", producer.control_region.file).read_bytes(), np.int64)
    assert words[16] == 0, "sleepers"


def test_a_producer_that_stops_wakes_its_consumers(ring) -> None:
    """They look at its state then and not at the end of their time."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    timer = threading.Timer(0.05, producer.stop)
    timer.start()
    begun = time.monotonic()
    while consumer.facts().state != "STOPPED":
        assert not wait_any([consumer], 20.0, spin_us=0)
    assert time.monotonic() - begun < 15
    timer.join()


def test_a_consumer_killed_asleep_costs_its_producer_one_wake(ring, instance) -> None:
    """The sleeping bit that it leaves is taken down by the next publish."""
    producer = ring(SLOTS)
    code = (
        "from layouts import EVENT; from shm.consumer import join, wait_any; from shm.region import ring_name\n"
        f"c = join(ring_name({instance.name!r}, 'worker', 'events'), 'features', EVENT)\n"
        "print('joined', flush=True)\n"
        "while True: wait_any([c], 5.0, spin_us=0)"
    )
    path = f"/dev/shm/{producer.control_region.file}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        fd = os.open(path, os.O_RDONLY)
        while not os.pread(fd, 8, 128)[0]:
            time.sleep(0.001)
        child.kill()
        child.wait()
        assert os.pread(fd, 8, 128)[0] == 1
        producer.publish(filled(1, 1))
        assert os.pread(fd, 8, 128)[0] == 0
        os.close(fd)


@pytest.mark.parametrize("n", [0, 65])
def test_the_number_of_rings_to_wait_for_is_bounded(ring, n: int) -> None:
    """1 to 64."""
    producer = ring(SLOTS)
    consumer = joined(ring, producer)
    with pytest.raises(ConfigurationError, match="1 to 64"):
        wait_any([consumer] * n, 0.0)
    assert not wait_any([consumer] * 64, 0.001)
