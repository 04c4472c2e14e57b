"""A ring's files are made whole, taken over whole, and refused by name of the fault when they are neither."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ring_kit import RingMaker, filled, mismatches, outcome, patch, path_of, ring_maker

from layouts import BOOK, EVENT
from shm import region as regions
from shm._native import ffi, lib
from shm.consumer import join
from shm.errors import ConfigurationError, NoMagic, OwnershipError, WrongAbi, WrongLayout
from shm.lifecycle import open_data
from shm.producer import open_latest, open_ring
from shm.reader import open_reader
from shm.reclaim import reclaim_ring

SLOTS = 16
HEAD_AT = 128


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


# ---------------------------------------------------------------- making and taking over


def test_a_maker_that_died_is_made_good_by_the_next(ring) -> None:
    """Empty, all zero, or filled but without magic: the holder of the lock makes the file anew."""
    name = ring.name()
    for left in (b"", bytes(100), bytes(8192)):
        for suffix in ("data", "ctl"):
            Path("/dev/shm", name.file(suffix)).write_bytes(left)
            Path("/dev/shm", name.file(suffix)).chmod(0o600)
        assert outcome(lambda: open_reader(name, EVENT)).kind == "NoMagic"
        producer = ring(SLOTS)
        assert producer.publish(filled(1, 1)) == 1
        ring.keep(join(name, "features", EVENT))
        producer.close()
        reclaim_ring(name)


@pytest.mark.parametrize("suffix", ["data", "ctl"])
def test_another_magic_is_never_written_over(ring, suffix: str) -> None:
    """What is not ours by its first word is left for a person to decide."""
    producer = ring(SLOTS)
    producer.close()
    path = path_of(producer, suffix)
    patch(path, 0, b"NOTOURS!")
    before = path.read_bytes()
    with pytest.raises(NoMagic, match="remove it"):
        ring(SLOTS)
    assert path.read_bytes() == before


def test_a_control_region_of_an_earlier_ring_is_replaced(ring) -> None:
    """A cursor into another sequence would be worse than none."""
    producer = ring(SLOTS)
    producer.publish_batch(filled(1, 9))
    consumer = join(producer.name, "features", EVENT)
    consumer.commit(5)
    consumer.close()
    producer.close()
    regions.unlink(producer.name.file("data"))
    producer = ring(SLOTS)
    assert ring.keep(join(producer.name, "features", EVENT)).cursor == 1


@pytest.mark.parametrize("suffix", ["data", "ctl"])
def test_a_damaged_region_is_an_error_for_its_successor(ring, suffix: str) -> None:
    """The next producer does not paper over it."""
    producer = ring(SLOTS)
    producer.close()
    patch(path_of(producer, suffix), 12, b"\xff")
    with pytest.raises(WrongLayout):
        ring(SLOTS)
    assert path_of(producer, suffix).exists()


@pytest.mark.parametrize("change", [{"slots": 32}, {"slots": 8}, {"mode": "wait"}, {"dtype": BOOK}])
def test_a_changed_configuration_is_refused_until_the_ring_is_gone(ring, change) -> None:
    """Readers rely on what the header says; the error tells how to go on."""
    ring(SLOTS).close()
    with pytest.raises((ConfigurationError, WrongAbi)):
        ring(**{"slots": SLOTS} | change)
    reclaim_ring(ring.name())
    ring(**{"slots": SLOTS} | change)


def test_a_retired_ring_is_succeeded_by_a_fresh_one(ring) -> None:
    """Also with other records: RETIRED says that nobody counts on it any more."""
    producer = ring(SLOTS)
    producer.publish_batch(filled(1, 5))
    old = ring.keep(open_reader(producer.name, EVENT))
    producer.retire()
    producer.close()
    successor = ring(2 * SLOTS, dtype=BOOK)
    assert (successor.next_seq, successor.epoch, successor.is_restart) == (1, 2, False)
    assert (old.facts().state, old.is_current) == ("RETIRED", False)
    assert old.last(5)[1].last_seq == 5


@pytest.mark.parametrize("torn", ["head behind", "odd stamp", "nothing"])
def test_a_restart_believes_the_slots_and_not_the_head(ring, torn: str) -> None:
    """The sequence goes on behind the newest complete slot; a half-written one is written again."""
    producer = ring(SLOTS)
    n = 2 * SLOTS + 3
    producer.publish_batch(filled(1, n))
    reader = ring.keep(open_reader(producer.name, EVENT))
    reader.seek(n - 2)
    producer.close()
    path = path_of(producer)
    if torn == "head behind":
        patch(path, HEAD_AT, n.to_bytes(8, "little"))  # died between P4 and P5 of seq n
    if torn == "odd stamp":
        at = 8192 + (n + 1) % SLOTS * 64
        patch(path, at, (2 * (n + 1) + 1).to_bytes(8, "little") + b"\xee" * 24)
    successor = ring(SLOTS)
    assert (successor.next_seq, successor.facts().head) == (n + 1, n + 1)
    assert successor.previous_epoch == successor.epoch - 1 == 1
    successor.publish(filled(n + 1, 1))
    records, info = reader.poll()
    assert (info.first_seq, info.last_seq, info.lost, info.epoch) == (n - 2, n + 1, 0, 2)
    assert mismatches(records, n - 2) == 0


def test_an_epoch_that_went_back_is_refused(ring) -> None:
    """The counter is the instance's; a smaller epoch would give two records one identity."""
    producer = ring(SLOTS, epoch=7)
    producer.close()
    for epoch in (7, 6, 0):
        with pytest.raises(ConfigurationError, match="not larger than 7"):
            ring(SLOTS, epoch=epoch)
    assert ring(SLOTS, epoch=8).previous_epoch == 7


def test_a_live_producer_is_not_replaced_and_leaves_nothing_mapped(ring) -> None:
    """Also within one process; what a failed start has opened, it closes."""
    producer = ring(SLOTS)
    with pytest.raises(OwnershipError, match="one producer owns a ring"):
        ring(SLOTS)
    producer.close()
    ring(SLOTS).close()
    for wrong in ({"slots": 32}, {"epoch": 1}, {"dtype": BOOK}):
        with pytest.raises((ConfigurationError, WrongAbi)):
            ring(**{"slots": SLOTS} | wrong)
    assert producer.name.file("") not in Path("/proc/self/maps").read_text()
    ring(SLOTS)


def test_the_latest_region_is_taken_over_with_its_books(ring) -> None:
    """Restarted with the ring it belongs to; sizes are rounded up to a power of two."""
    producer = ring(SLOTS, "books", dtype=BOOK)
    latest = open_latest(producer.name, BOOK, 5, producer.epoch)
    book = filled(1, 1, BOOK)
    assert lib.tr_latest_store(latest.handle, 4, ffi.cast("void *", book.ctypes.data)) == lib.TR_OK
    latest.close()
    latest = ring.keep(open_latest(producer.name, BOOK, 8, producer.epoch + 1))
    assert latest.previous_epoch == producer.epoch
    reader = ring.keep(open_reader(producer.name, BOOK, suffix="latest"))
    out = np.zeros(1, BOOK)
    assert lib.tr_latest_load(reader.handle, 4, ffi.cast("void *", out.ctypes.data)) == lib.TR_OK


# ---------------------------------------------------------------- removing


def test_removing_says_whether_there_was_something(ring) -> None:
    """A live ring is refused, a dead one goes with all its files, a second time is no error."""
    producer = ring(SLOTS)
    reader = ring.keep(open_reader(producer.name, EVENT))
    with pytest.raises(OwnershipError):
        reclaim_ring(producer.name)
    producer.close()
    assert reclaim_ring(producer.name)
    assert reader.facts().state == "RETIRED"
    assert not reclaim_ring(producer.name)
    assert not list(Path("/dev/shm").glob(f"tickring.{ring.instance}.*"))


RACER = """
import sys
from layouts import EVENT
from shm.errors import TickringError, OwnershipError
from shm.reclaim import reclaim_ring
from shm.producer import open_ring
from shm.region import ring_name
instance, state_dir, what = sys.argv[1:]
name = ring_name(instance, "worker", "events")
for line in sys.stdin:
    try:
        if what == "start":
            p = open_ring(name, EVENT, 16, state_dir)
            p.publish_slot()
            print("won", p.epoch, p.next_seq, flush=True)
            sys.stdin.readline()
            p.close()
            print("closed", flush=True)
        else:
            print("won" if reclaim_ring(name) else "nothing", flush=True)
    except OwnershipError as error:
        print("refused", flush=True)
    except BaseException as error:
        print("bad", type(error).__name__, error, flush=True)
"""


class Racers:
    """Processes that do the same thing at the same moment, as often as they are told."""

    def __init__(self, n: int, ring: RingMaker, what: str) -> None:
        command = [sys.executable, "-c", RACER, ring.instance, str(ring.state_dir), what]
        self.all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(n)
        ]

    def go(self) -> list[str]:
        for racer in self.all:
            racer.stdin.write("\n")
        for racer in self.all:
            racer.stdin.flush()
        return [racer.stdout.readline().strip() for racer in self.all]

    def close(self) -> None:
        for racer in self.all:
            racer.stdin.close()
            racer.wait()
            racer.stdout.close()


@pytest.mark.stress
@pytest.mark.parametrize("rounds", [50])
def test_of_twenty_racing_starters_one_wins(ring, rounds: int) -> None:
    """50 times: one producer, nineteen clear refusals; every win has a new epoch and the next seq."""
    racers = ring.keep(Racers(20, ring, "start"))
    ring.name()
    for turn in range(1, rounds + 1):
        answers = racers.go()
        won = [i for i, answer in enumerate(answers) if answer.startswith("won")]
        assert len(won) == 1, answers
        assert answers.count("refused") == 19, answers
        _, epoch, next_seq = answers[won[0]].split()
        assert (int(epoch), int(next_seq)) == (turn, turn + 1)
        racers.all[won[0]].stdin.write("\n")
        racers.all[won[0]].stdin.flush()
        assert racers.all[won[0]].stdout.readline() == "closed\n"


@pytest.mark.stress
@pytest.mark.parametrize("rounds", [50])
def test_of_eight_racing_cleaners_one_wins(ring, rounds: int) -> None:
    """50 times: the ring is removed once, and nothing is left of it."""
    racers = ring.keep(Racers(8, ring, "clean"))
    for _ in range(rounds):
        ring(SLOTS).close()
        answers = racers.go()
        assert answers.count("won") == 1, answers
        assert set(answers) <= {"won", "nothing", "refused"}, answers
        assert not list(Path("/dev/shm").glob(f"tickring.{ring.instance}.*"))


def test_open_data_checks_before_it_takes_over(ring) -> None:
    """The building block itself refuses another mode, as the latest region of a data ring would be."""
    producer = ring(SLOTS)
    producer.close()
    with pytest.raises(ConfigurationError, match="mode 'overwrite'"):
        open_data(producer.name, EVENT, SLOTS, "latest", 1, -1)


def test_open_ring_releases_its_lock_when_it_fails(ring) -> None:
    """A failed start can be repeated at once."""
    name = ring.name()
    with pytest.raises(ConfigurationError):
        open_ring(name, EVENT, SLOTS, ring.state_dir, epoch=-1)
    ring(SLOTS)
