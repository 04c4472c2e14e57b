"""A ring hands every record on whole and in order, at every bound of its capacity and of its sequence."""

from collections.abc import Iterator

import numpy as np
import pytest
from ring_kit import BOUNDARIES, RingMaker, filled, mismatches, ring_maker

from layouts import BOOK, EVENT
from shm._native import lib
from shm.errors import BackPressure, ConfigurationError, SequenceExhausted
from shm.producer import open_private
from shm.reader import Reader, open_reader

SLOTS = 8


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


def reader_of(ring: RingMaker, producer) -> Reader:
    return ring.keep(open_reader(producer.name, producer.dtype))


@pytest.mark.parametrize("n", [0, 1, SLOTS - 1, SLOTS, SLOTS + 1, 2 * SLOTS, 5 * SLOTS + 3])
@pytest.mark.parametrize("dtype", [EVENT, BOOK], ids=["EVENT", "BOOK"])
def test_last_returns_what_the_ring_still_holds(ring, n: int, dtype: np.dtype) -> None:
    """Of n records published, the newest slots - 1 at most can be read; each is whole."""
    producer = ring(SLOTS, dtype=dtype)
    if n:
        assert producer.publish_batch(filled(1, n, dtype)) == 1
    reader = reader_of(ring, producer)
    records, info = reader.last(1000)
    held = min(n, SLOTS - 1)
    assert len(records) == held
    assert (info.first_seq, info.last_seq, info.lost) == (n - held + 1, n, 0)
    assert mismatches(records, info.first_seq) == 0


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("k", [1, 3, SLOTS, 3 * SLOTS])
def test_sequences_cross_the_powers_that_break_others(ring, boundary: str, k: int) -> None:
    """Sequences started k before 2**32 and 2**53 go on as any other; 2**61 is the first that is refused."""
    end = BOUNDARIES[boundary]
    producer = ring(SLOTS, first_seq=end - k)
    reader = reader_of(ring, producer)
    for seq in range(end - k, end + 2 * SLOTS):
        record = filled(seq, 1)
        if end == lib.TR_SEQ_END and seq >= end:
            with pytest.raises(SequenceExhausted, match=str(end)):
                producer.publish(record)
            with pytest.raises(SequenceExhausted):
                producer.publish_batch(record)
            continue
        assert producer.publish(record) == seq
        records, info = reader.poll()
        assert (info.first_seq, info.last_seq, info.lost) == (seq, seq, 0)
        assert mismatches(records, seq) == 0
    records, info = reader.last(SLOTS)
    assert mismatches(records, info.first_seq) == 0


def test_a_batch_that_reaches_the_last_sequence_publishes_up_to_it(ring) -> None:
    """The records before 2**61 are published and readable, the rest is refused."""
    end = lib.TR_SEQ_END
    producer = ring(SLOTS, first_seq=end - 3)
    with pytest.raises(SequenceExhausted):
        producer.publish_batch(filled(end - 3, 5))
    assert producer.next_seq == end
    reader = reader_of(ring, producer)
    records, info = reader.last(8)
    assert (info.first_seq, len(records)) == (end - 3, 3)
    assert mismatches(records, info.first_seq) == 0


@pytest.mark.parametrize("first_seq", [0, -1, 1 << 61, (1 << 61) + 1])
def test_a_first_sequence_out_of_range_is_refused(ring, first_seq: int) -> None:
    """Below 1 and from 2**61 on: a clear error and no file left."""
    with pytest.raises(ConfigurationError, match="seq from 1"):
        ring(SLOTS, first_seq=first_seq)
    assert ring(SLOTS, first_seq=(1 << 61) - 1).next_seq == (1 << 61) - 1


@pytest.mark.parametrize(("slots", "is_allowed"), [(0, 0), (1, 0), (2, 1), (3, 0), (4, 1), (6, 0)])
def test_slots_are_a_power_of_two(ring, slots: int, is_allowed: int) -> None:
    """From 2 on; the error names a number that would do."""
    if is_allowed:
        assert ring(slots).facts().slots == slots
    else:
        with pytest.raises(ConfigurationError, match="power of two"):
            ring(slots)


def test_the_smallest_ring_hands_records_on(ring) -> None:
    """Two slots are enough for a reader that keeps up."""
    producer = ring(2)
    reader = reader_of(ring, producer)
    for seq in range(1, 50):
        producer.publish(filled(seq, 1))
        records, info = reader.poll()
        assert (len(records), info.lost) == (1, 0)
        assert mismatches(records, seq) == 0


def test_publish_takes_one_whole_record_only(ring) -> None:
    """Too few or too many bytes, and records of another layout, are refused before they are read."""
    producer = ring(SLOTS)
    for wrong in (b"", b"x" * 63, b"x" * 65, filled(1, 2)):
        with pytest.raises(TypeError, match="64"):
            producer.publish(wrong)
    with pytest.raises(TypeError, match="records of 64 bytes"):
        producer.publish_batch(np.zeros(2, BOOK))
    with pytest.raises((BufferError, ValueError, TypeError)):
        producer.publish_batch(filled(1, 4)[::2])
    assert producer.next_seq == 1
    assert producer.publish(bytes(64)) == 1


def test_the_slot_publishes_what_it_holds(ring) -> None:
    """`slot` and `publish_slot` are `publish` without a conversion."""
    producer = ring(SLOTS)
    reader = reader_of(ring, producer)
    for seq in range(1, 3 * SLOTS):
        producer.slot[:] = filled(seq, 1)
        assert producer.publish_slot() == seq
        records, _ = reader.poll()
        assert mismatches(records, seq) == 0


def test_the_publish_delta_is_filled_in_and_saturates(ring) -> None:
    """0 for a stamp in the future, 2**32 - 1 for one too long ago, the difference between them otherwise."""
    producer = ring(SLOTS)
    now = lib.tr_now_ns()
    batch = np.zeros(3, EVENT)
    batch["ts_recv"] = (now + 10**12, now, 0)
    producer.publish_batch(batch)
    records, _ = reader_of(ring, producer).last(3)
    assert records["publish_delta_ns"][0] == 0
    assert 0 < records["publish_delta_ns"][1] < 2**32 - 1
    assert records["publish_delta_ns"][2] == 2**32 - 1


def test_a_closed_producer_says_so(ring) -> None:
    """No call on a closed producer reaches the unmapped region."""
    producer = ring(SLOTS)
    producer.close()
    with pytest.raises(ValueError, match="closed"):
        producer.publish_slot()


# ---------------------------------------------------------------- "wait" mode


def private(ring: RingMaker, slots: int, required: tuple[str, ...], timeout_s: float = 0.01):
    """Open a replay ring; returns its producer and a function that joins a consumer."""
    from os import close

    from shm.consumer import join_private

    producer, data_fd, control_fd = open_private("t", EVENT, slots, required, timeout_s=timeout_s)

    class Fds:
        def close(self) -> None:
            close(data_fd)
            close(control_fd)

    ring.keep(Fds())
    ring.keep(producer)
    return producer, lambda name: ring.keep(join_private("t", data_fd, control_fd, name, EVENT))


@pytest.mark.parametrize("n", [0, 1, SLOTS - 1, SLOTS])
def test_a_wait_ring_takes_a_whole_ring_and_no_more(ring, n: int) -> None:
    """With nothing consumed, `slots` records fit; one more is back-pressure, and nothing is overwritten."""
    producer, join = private(ring, SLOTS, ("a",))
    consumer = join("a")
    if n:
        producer.publish_batch(filled(1, n))
    assert producer.room() == SLOTS - n
    with pytest.raises(BackPressure, match=f"seq {SLOTS + 1}"):
        producer.publish_batch(filled(n + 1, SLOTS - n + 1))
    assert producer.next_seq == SLOTS + 1
    batch = np.empty(64, EVENT)
    assert consumer.poll_into(batch) == SLOTS
    assert mismatches(batch[:SLOTS], 1) == 0
    with pytest.raises(BackPressure):
        producer.publish(filled(SLOTS + 1, 1))  # read, but not committed
    consumer.commit(3)
    assert producer.room() == 2
    consumer.commit()
    assert producer.room() == SLOTS
    assert producer.facts().back_pressure_ns == 0


def test_nothing_is_published_before_every_required_consumer_has_come(ring) -> None:
    """A reservation holds the producer, also while its consumer is joining."""
    producer, join = private(ring, SLOTS, ("a", "b"))
    with pytest.raises(BackPressure, match="required consumer"):
        producer.publish(filled(1, 1))
    join("a")
    with pytest.raises(BackPressure):
        producer.publish(filled(1, 1))
    entry = producer.control_region
    view = lib.tr_entry_find(entry.pointer, b"b")
    from shm.header import control_view

    control_view(entry).entry[view].state = lib.TR_JOINING
    with pytest.raises(BackPressure):
        producer.publish(filled(1, 1))
    control_view(entry).entry[view].state = lib.TR_RESERVED
    join("b")
    assert producer.publish(filled(1, 1)) == 1


def test_without_consumers_a_wait_ring_is_bounded_by_its_own_position(ring) -> None:
    """The minimum over an empty set is the current position: the producer goes on, a ring at a time."""
    producer, _ = private(ring, SLOTS, ())
    assert producer.publish_batch(filled(1, 5 * SLOTS)) == 1
    assert producer.room() == SLOTS


def test_the_slowest_consumer_holds_the_producer(ring) -> None:
    """Room is counted from the least cursor; a detached consumer and a dead one do not count."""
    producer, join = private(ring, SLOTS, ("a", "b"))
    fast, slow = join("a"), join("b")
    producer.publish_batch(filled(1, SLOTS))
    fast.commit(SLOTS + 1)
    assert producer.room() == 0
    slow.commit(2)
    assert producer.room() == 1
    slow.detach()
    assert producer.room() == SLOTS
    from shm.header import control_view

    view = control_view(producer.control_region).entry[fast.entry]
    fast.commit(3)
    assert producer.room() == 2
    lib.tr_entry_condemn(producer.control_region.pointer, fast.entry, view.generation - 1)
    assert producer.room() == 2, "a verdict on an earlier process strikes nobody"
    lib.tr_entry_condemn(producer.control_region.pointer, fast.entry, view.generation)
    assert producer.room() == SLOTS
    assert (
        lib.tr_entry_take_over(producer.control_region.pointer, fast.entry, view.generation, 1, 1)
        == lib.TR_OK
    )
    assert producer.room() == 2, "the successor counts again"


def test_back_pressure_is_timed(ring) -> None:
    """What the producer waited for room stands in the header, in nanoseconds."""
    import threading
    import time

    producer, join = private(ring, SLOTS, ("a",), timeout_s=5.0)
    consumer = join("a")
    producer.publish_batch(filled(1, SLOTS))

    def free() -> None:
        time.sleep(0.05)
        consumer.commit(5)

    thread = threading.Thread(target=free)
    thread.start()
    producer.publish(filled(SLOTS + 1, 1))
    thread.join()
    assert producer.facts().back_pressure_ns > 10_000_000
