"""What the ring tests share: rings that end with their test, and records whose every word is known from their seq."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from layouts import EVENT
from shm import region as regions
from shm.errors import TickringError
from shm.producer import Producer, open_ring
from shm.reclaim import reclaim_ring
from shm.region import RegionName, ring_name

GOLDEN = np.int64(0x61C8864680B583EB)
BOUNDARIES = {"2^32": 1 << 32, "2^53": 1 << 53, "2^61": 1 << 61}


def filled(first_seq: int, n: int, dtype: np.dtype = EVENT) -> np.ndarray:
    """Make n records: word w of the record of seq s (the stamp apart) is a mix of s and w."""
    records = np.zeros(n, dtype)
    words = records.view(np.int64).reshape(n, dtype.itemsize // 8)
    seqs = np.arange(first_seq, first_seq + n, dtype=np.int64)
    with np.errstate(over="ignore"):
        words[:, 1:] = (seqs[:, None] * GOLDEN) ^ np.arange(1, words.shape[1], dtype=np.int64)
    words[:, 3] = seqs  # the word that holds publish_delta_ns, which publish_batch fills in
    return records


def mismatches(records: np.ndarray, first_seq: int) -> int:
    """Count the words that differ from `filled`, publish_delta_ns apart, and the stamps that are not 2n+2."""
    wanted = filled(first_seq, len(records), records.dtype)
    wanted["stamp"] = 2 * (first_seq + np.arange(len(records))) + 2
    found = records.copy()
    found["publish_delta_ns"] = wanted["publish_delta_ns"] = 0
    return int((found.view(np.int64) != wanted.view(np.int64)).sum())


class RingMaker:
    """Opens rings of one instance, and removes them with everything attached to them."""

    def __init__(self, instance: str, state_dir: Path) -> None:
        self.instance = instance
        self.state_dir = state_dir
        self._closing: list[Any] = []
        self._names: set[RegionName] = set()

    def name(self, ring: str = "events") -> RegionName:
        """Name a ring of this instance."""
        name = ring_name(self.instance, "worker", ring)
        self._names.add(name)
        return name

    def __call__(self, slots: int = 8, ring: str = "events", **options: Any) -> Producer:
        """Open a ring of EVENT records, or of the `dtype` given."""
        dtype = options.pop("dtype", EVENT)
        return self.keep(open_ring(self.name(ring), dtype, slots, self.state_dir, **options))

    def keep(self, thing: Any) -> Any:
        """Close a producer, reader or consumer with the test."""
        self._closing.append(thing)
        return thing

    def close(self) -> None:
        """End everything."""
        for thing in reversed(self._closing):
            thing.close()
        for name in self._names:
            with suppress(TickringError):
                reclaim_ring(name)
            for suffix in ("data", "ctl", "latest", "lock"):
                regions.unlink(name.file(suffix))


def ring_maker(instance: Any) -> Iterator[RingMaker]:
    """Give the body of a fixture."""
    maker = RingMaker(instance.name, instance.state_dir)
    yield maker
    maker.close()


class Raised(NamedTuple):
    """What a call did."""

    kind: str
    text: str


def outcome(call: Callable[[], Any]) -> Raised:
    """Name the error that a call raises, or OK."""
    try:
        thing = call()
    except Exception as error:
        return Raised(type(error).__name__, str(error))
    if hasattr(thing, "close"):
        thing.close()
    return Raised("OK", "")


def path_of(producer: Producer, suffix: str = "data") -> Path:
    """Give the path of one of a ring's files."""
    return Path("/dev/shm", producer.name.file(suffix))


def patch(path: Path, at: int, data: bytes) -> None:
    """Write into a region's file, as an accident would."""
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, data, at)
    os.close(fd)
