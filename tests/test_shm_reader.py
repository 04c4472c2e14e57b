"""A passive reader gets whole records, an exact count of what it missed, and writes nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ring_kit import RingMaker, filled, mismatches, ring_maker

import shm
from layouts import BOOK, EVENT
from shm.errors import Lapped, NoRing
from shm.header import dtype_of
from shm.producer import open_latest
from shm.reader import open_reader
from shm.reclaim import reclaim_ring

SLOTS = 16


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


@pytest.fixture
def pair(ring):
    """A producer and a reader attached before the first record."""
    producer = ring(SLOTS)
    return producer, ring.keep(open_reader(producer.name, EVENT))


@pytest.mark.parametrize("behind", [0, 1, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS, 7 * SLOTS + 5])
@pytest.mark.parametrize("rejoin", [0, 1, 2, 4])
def test_read_and_lost_add_up_to_published(pair, behind: int, rejoin: int) -> None:
    """Whatever the distance and the point to go on from, lost + read = published, and no record is wrong."""
    producer, reader = pair
    reader.handle.rejoin = rejoin
    if behind:
        producer.publish_batch(filled(1, behind))
    read = lost = 0
    while True:
        records, info = reader.poll(5)
        if not len(records) and not info.lost:
            break
        assert info.first_seq == 1 + read + lost + info.lost
        assert mismatches(records, info.first_seq) == 0
        read += len(records)
        lost += info.lost
    assert read + lost == behind
    assert reader.lost == lost
    assert (lost > 0) == (behind > SLOTS)
    assert reader.lag == 0


def test_the_oldest_safe_record_can_be_read(pair) -> None:
    """`seek_oldest` leaves out the one slot that the producer may be writing."""
    producer, reader = pair
    producer.publish_batch(filled(1, 3 * SLOTS))
    reader.seek_oldest()
    records, info = reader.poll()
    assert (info.first_seq, len(records), info.lost) == (2 * SLOTS + 2, SLOTS - 1, 0)


@pytest.mark.parametrize(
    ("first", "end", "kept", "lost"),
    [
        (1, 1, [], 0),
        (33, 36, [34, 35], 1),
        (34, 36, [34, 35], 0),
        (48, 49, [48], 0),
        (48, 60, [48], 0),
        (49, 60, [], 0),
        (60, 70, [], 0),
        (30, 36, [34, 35], 4),
        (1, 5, [], 4),
        (1, 49, list(range(34, 49)), 33),
        (36, 33, [], 0),
    ],
)
def test_a_range_is_cut_to_what_the_ring_holds(pair, first, end, kept, lost) -> None:
    """Of 48 records in 16 slots, 34 to 48 can be read; what the range names below is lost, above not there yet."""
    producer, reader = pair
    producer.publish_batch(filled(1, 48))
    records, info = reader.read_range(first, end)
    assert ((records["stamp"] - 2) // 2).tolist() == kept
    assert info.lost == lost
    if kept:
        assert (info.first_seq, info.last_seq) == (kept[0], kept[-1])
        assert mismatches(records, kept[0]) == 0
    else:
        assert info.last_seq == info.first_seq - 1


def test_arrays_that_were_returned_never_change(pair) -> None:
    """Copies: neither a later poll nor the producer's next lap touches them."""
    producer, reader = pair
    producer.publish_batch(filled(1, 4))
    polled, _ = reader.poll()
    last, _ = reader.last(4)
    before = polled.copy(), last.copy()
    producer.publish_batch(filled(5, 3 * SLOTS))
    reader.poll()
    assert (polled == before[0]).all()
    assert (last == before[1]).all()


def test_a_reader_maps_read_only(pair) -> None:
    """The kernel itself keeps a reader from writing."""
    _, reader = pair
    lines = Path("/proc/self/maps").read_text().splitlines()
    maps = [line for line in lines if reader.region.file in line]
    assert {line.split()[1] for line in maps} == {"rw-s", "r--s"}, "the producer's and ours"
    assert not reader.region.writable


def test_poll_into_checks_its_array_once(pair) -> None:
    """Another layout, a strided or a read-only array would let C write where it must not."""
    producer, reader = pair
    producer.publish_batch(filled(1, 6))
    frozen = np.empty(4, EVENT)
    frozen.flags.writeable = False
    for wrong in (np.empty(4, BOOK), np.empty(8, EVENT)[::2], frozen):
        with pytest.raises(TypeError):
            reader.poll_into(wrong)
    batch = np.empty(4, EVENT)
    assert [reader.poll_into(batch) for _ in range(3)] == [4, 2, 0]
    assert mismatches(batch[:2], 5) == 0
    producer.publish_batch(filled(7, 3 * SLOTS))
    assert reader.poll_into(batch) == -1
    assert reader.handle.lost_from == 7
    assert reader.lost == reader.handle.lost_to - 6


def test_epochs_are_told_by_sequence(ring) -> None:
    """Each record belongs to the incarnation that published it, also across restarts."""
    for restart in range(4):
        producer = ring(64)
        assert (producer.epoch, producer.is_restart) == (restart + 1, restart > 0)
        producer.publish_batch(filled(producer.next_seq, 3))
        producer.close()
    reader = ring.keep(open_reader(ring.name(), EVENT))
    epochs = [reader.read_range(seq, seq + 1)[1].epoch for seq in range(1, 13)]
    assert epochs == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert reader.facts().epochs == ((1, 1), (2, 4), (3, 7), (4, 10))
    assert reader.facts().restarts == 3


def test_more_epochs_than_the_header_holds(ring) -> None:
    """The last 64 are kept; older records have epoch 0, unknown."""
    for _ in range(70):
        producer = ring(128)
        producer.publish(filled(producer.next_seq, 1))
        producer.close()
    reader = ring.keep(open_reader(ring.name(), EVENT))
    assert len(reader.facts().epochs) == 64
    assert [reader.read_range(seq, seq + 1)[1].epoch for seq in (6, 7, 70)] == [0, 7, 70]


def test_follow_yields_what_comes(pair) -> None:
    """From the next record on; a loss is never silent."""
    producer, reader = pair
    stream = reader.follow(poll_ms=0.1)
    producer.publish_batch(filled(1, 3))
    records, info = next(stream)
    assert (len(records), info.lost) == (3, 0)
    producer.publish_batch(filled(4, 3 * SLOTS))
    records, info = next(stream)
    assert info.lost > 0
    assert info.first_seq + len(records) == producer.next_seq


def test_follow_raises_when_asked_to(pair) -> None:
    """on_lapped="raise" names the range; an unknown word is refused."""
    producer, reader = pair
    stream = reader.follow(poll_ms=0.1, on_lapped="raise")
    producer.publish_batch(filled(1, 3 * SLOTS))
    with pytest.raises(Lapped, match=r"records 1\.\.") as caught:
        next(stream)
    assert caught.value.lost_from == 1
    with pytest.raises(ValueError, match="on_lapped"):
        reader.follow(on_lapped="stop")


@pytest.mark.parametrize("wrong", [{"poll_ms": -1}, {"poll_ms": float("nan")}, {"max_records": 0}])
def test_follow_refuses_at_once_what_it_cannot_do(pair, wrong: dict[str, float]) -> None:
    """Not at the first record, which may be hours away."""
    _, reader = pair
    with pytest.raises(ValueError, match="expected"):
        reader.follow(**wrong)


def test_attach_names_the_nearest_ring(pair, instance) -> None:
    """A notebook's typing error is answered with what there is."""
    with pytest.raises(NoRing, match=r"did you mean worker.events\? there are: worker.events"):
        shm.attach("worker.event", instance.name)
    with pytest.raises(NoRing, match="no instance 'nosuch' is running here"):
        shm.attach("worker.events", "nosuch")


def test_follow_goes_on_with_the_successor(ring, monkeypatch) -> None:
    """A ring that was removed and made anew is found by its name once the old one is read to its end."""
    monkeypatch.setattr("shm.reader._RENEW_NS", 0)
    producer = ring(SLOTS)
    reader = ring.keep(open_reader(producer.name, EVENT))
    stream = reader.follow(poll_ms=0.1)
    producer.publish(filled(1, 1))
    assert next(stream)[1].last_seq == 1
    producer.publish(filled(2, 1))
    producer.close()
    assert reclaim_ring(producer.name)
    assert not reader.is_current
    successor = ring(SLOTS)
    successor.publish_batch(filled(1, 5))
    assert next(stream)[1].last_seq == 2
    records, info = next(stream)
    assert (info.first_seq, len(records), info.epoch) == (1, 5, 2)
    assert reader.is_current


def test_a_repr_tells_state_lag_and_losses(pair) -> None:
    """And that it is closed, when it is."""
    producer, reader = pair
    producer.publish_batch(filled(1, 5))
    assert "LIVE seq 5 epoch 1 lag 5 lost 0" in repr(reader)
    producer.stop()
    assert "STOPPED" in repr(reader)
    reader.close()
    assert repr(reader).endswith("closed>")


def test_a_closed_reader_says_so_and_never_faults(pair) -> None:
    """Every call after close is a plain error."""
    producer, reader = pair
    producer.publish(filled(1, 1))
    reader.close()
    reader.close()
    batch = np.empty(4, EVENT)
    for call in (
        lambda: reader.last(1),
        lambda: reader.poll(),
        lambda: reader.poll_into(batch),
        lambda: reader.read_range(1, 2),
        lambda: reader.facts(),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_numbers_out_of_range_are_refused(pair) -> None:
    """A negative count and a seq outside 1 .. 2**61 - 1."""
    _, reader = pair
    with pytest.raises(ValueError, match="from 0 on"):
        reader.last(-1)
    for seq in (0, -1, 1 << 61):
        with pytest.raises(ValueError, match="seq"):
            reader.seek(seq)


def test_the_newest_book_of_each_instrument_is_there_at_once(ring) -> None:
    """`.latest` holds one record an instrument, versions counted by its own stamp."""
    producer = ring(SLOTS, "books", dtype=BOOK)
    latest = ring.keep(open_latest(producer.name, BOOK, 3, producer.epoch))
    reader = ring.keep(open_reader(producer.name, BOOK, suffix="latest"))
    from shm._native import ffi, lib

    out = np.zeros(1, BOOK)
    target = ffi.cast("void *", out.ctypes.data)
    assert reader.facts().slots == 4
    assert lib.tr_latest_load(reader.handle, 0, target) == lib.TR_EMPTY
    for version in range(1, 5):
        book = filled(version, 1, BOOK)
        source = ffi.cast("void *", book.ctypes.data)
        assert lib.tr_latest_store(latest.handle, 2, source) == lib.TR_OK
        assert lib.tr_latest_load(reader.handle, 2, target) == lib.TR_OK
        assert out["stamp"][0] == 2 * version
        assert (out.view(np.int64)[1:] == book.view(np.int64)[1:]).all()
    for index in (-1, 4):
        assert lib.tr_latest_store(latest.handle, index, target) == lib.TR_BAD_ARGUMENT
        assert lib.tr_latest_load(reader.handle, index, target) == lib.TR_BAD_ARGUMENT


def test_rings_are_listed_with_their_state(ring, instance) -> None:
    """One row a ring that can be read; attach finds it by the name in the row."""
    producer = ring(SLOTS)
    producer.publish_batch(filled(1, 20))
    ring(SLOTS, "books", dtype=BOOK)
    rows = {row.name: row for row in shm.rings(instance.name)}
    assert set(rows) == {"worker.events", "worker.books"}
    row = rows["worker.events"]
    assert (row.layout, row.state, row.depth, row.records) == ("event", "LIVE", SLOTS, 20)
    assert rows["worker.books"].layout == "book"
    with shm.attach("worker.events", instance.name) as reader:
        assert reader.dtype == EVENT
    for wrong in ("worker.nothing", "worker", ""):
        with pytest.raises(NoRing, match=r"there are: worker.books, worker.events"):
            shm.attach(wrong, instance.name)


@pytest.mark.parametrize("dtype", [EVENT, BOOK], ids=["EVENT", "BOOK"])
def test_a_tool_rebuilds_the_fields_from_the_ring_itself(ring, dtype: np.dtype) -> None:
    """The description in the header is enough to read layouts that a program does not know."""
    from layouts import describe

    assert dtype_of(describe(dtype)) == dtype
