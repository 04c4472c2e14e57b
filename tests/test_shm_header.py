"""A header is believed only when every word of it holds: each damage is refused by its name, never by a signal."""

import threading
from collections.abc import Iterator

import pytest
from ring_kit import RingMaker, filled, outcome, patch, path_of, ring_maker

from layouts import BOOK, EVENT
from shm import region as regions
from shm._native import ffi, lib
from shm.errors import TooShort, WrongAbi, WrongLayout
from shm.header import check_data
from shm.reader import open_reader

SLOTS = 16
HEADER_BYTES = 256
HEAD_AT = 128


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


@pytest.mark.parametrize("published", [0, 5, 3 * SLOTS + 1])
def test_every_flipped_bit_of_the_header_is_refused(ring, published: int) -> None:
    """Each of the 2,048 bits of the static words and the head, one at a time: a typed error, never a signal."""
    producer = ring(SLOTS)
    if published:
        producer.publish_batch(filled(1, published))
    producer.close()
    path = path_of(producer)
    good = path.read_bytes()[:HEADER_BYTES]
    kinds: dict[str, int] = {}
    for bit in range(HEADER_BYTES * 8):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        patch(path, 0, bytes(flipped))
        kind, text = outcome(lambda: open_reader(producer.name, EVENT))
        kinds[kind] = kinds.get(kind, 0) + 1
        assert kind in {"NoMagic", "WrongLayout", "TooShort", "WrongAbi"}, (bit, kind, text)
    patch(path, 0, good)
    assert outcome(lambda: open_reader(producer.name, EVENT)).kind == "OK"
    assert sum(kinds.values()) == 2048
    assert kinds["NoMagic"] == 64


def test_a_head_one_behind_is_what_a_crash_leaves(ring) -> None:
    """Between P4 and P5 head trails its newest record by one; by two, or ahead by one, it is damaged."""
    producer = ring(SLOTS)
    producer.publish_batch(filled(1, 40))
    for head, kind in ((41, "OK"), (40, "OK"), (39, "WrongLayout"), (42, "WrongLayout")):
        patch(path_of(producer), HEAD_AT, head.to_bytes(8, "little"))
        assert outcome(lambda: open_reader(producer.name, EVENT)).kind == kind


def test_flipped_bits_of_the_description_are_refused(ring) -> None:
    """The words that a tool would rebuild a layout from are covered by their hash."""
    producer = ring(SLOTS)
    path = path_of(producer)
    length = producer.header.description_bytes
    good = path.read_bytes()[4096 : 4096 + length]
    for at in range(0, length, 7):
        patch(path, 4096 + at, bytes([good[at] ^ 0x10]))
        assert outcome(lambda: open_reader(producer.name)).kind == "WrongLayout"
        patch(path, 4096 + at, good[at : at + 1])


def test_every_length_but_its_own_is_refused(ring) -> None:
    """A file cut at any 64 bytes, also in its header, is told from a whole one before it is believed."""
    producer = ring(SLOTS)
    producer.publish_batch(filled(1, 40))
    producer.close()
    whole = path_of(producer).read_bytes()
    assert len(whole) == lib.tr_data_bytes(64, SLOTS, 1)
    last_needed = 8192 + SLOTS * 64
    for length in [*range(0, len(whole), 64), *range(24), 4095, 4097, last_needed - 1]:
        path_of(producer).write_bytes(whole[:length])
        kind = outcome(lambda: open_reader(producer.name, EVENT)).kind
        if length >= last_needed:
            assert kind == "OK", length
        else:
            assert kind == ("NoMagic" if length < 8 else "TooShort"), length


def test_a_ring_of_other_records_shows_the_difference(ring) -> None:
    """The error holds the field diff; a tool without a layout of its own can still read."""
    producer = ring(SLOTS)
    producer.close()
    with pytest.raises(WrongAbi, match=r"- 32 event_epoch <i8 1[\s\S]*\+ 32 word_0 <i8 1"):
        open_reader(producer.name, BOOK)
    with pytest.raises(WrongAbi):
        ring(SLOTS, dtype=BOOK)
    assert ring.keep(open_reader(producer.name)).dtype == EVENT


@pytest.mark.parametrize("at", [8, 12, 16, 24, 32, 40, 48, 52])
def test_a_header_that_is_whole_but_senseless_is_refused(ring, at: int) -> None:
    """With a checksum that is right, each word is still held to its range before it is used."""
    producer = ring(SLOTS)
    for value in (0, -1, 1 << 31, (1 << 31) - 1, 3):
        region = regions.attach(producer.name.file("data"), writable=True)
        view = ffi.cast("char *", region.pointer)
        before = ffi.buffer(region.pointer, 128)[:]
        ffi.buffer(view + at, 4)[:] = (value & 0xFFFFFFFF).to_bytes(4, "little")
        if ffi.buffer(region.pointer, 128)[:] != before:
            ffi.cast("struct tr_data *", region.pointer).static_checksum = lib.tr_static_checksum(
                region.pointer
            )
            if at != 48 or value not in (0, 1, 2):
                with pytest.raises((WrongLayout, TooShort)):
                    check_data(region)
        ffi.buffer(region.pointer, 128)[:] = before
        region.close()


def test_a_moving_head_is_no_fault(ring) -> None:
    """Attaching while the producer publishes at full speed never takes its progress for damage."""
    producer = ring(2)
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            producer.publish_batch(filled(producer.next_seq, 512))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(300):
            with open_reader(producer.name, EVENT):
                pass
    finally:
        stop.set()
        thread.join()
