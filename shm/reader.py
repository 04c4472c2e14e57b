"""A passive reader copies records out of a ring, never torn, with every loss told, and unseen by the producer.

**Why it is right** The mapping is read-only and no word is ever written: a reader can be stopped, killed or stuck and the
producer cannot tell. Bulk reads are validated against the head after the copy (`tr_read_many`, native/ring.h).

**Failure** A reader that falls a whole ring behind is told the exact range it lost. A retired or replaced ring is noticed
once a second by the inode of its name.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

from shm import region as regions
from shm._native import ffi, lib
from shm.clock import monotonic_ns, now_ns
from shm.errors import Lapped
from shm.header import RingFacts, check_data, data_view, dtype_of, facts_of
from shm.region import Region, RegionName

_BATCH_RECORDS = 4096
_RENEW_NS = 1_000_000_000


class Info(NamedTuple):
    """What came with an array of records: their seqs, the epoch of the last, and how many were lost just before them."""

    first_seq: int
    last_seq: int
    lost: int
    epoch: int


class Reader:
    """A read-only view of one ring; make it with `shm.attach` or `open_reader`."""

    def __init__(self, name: RegionName, region: Region, dtype: np.dtype) -> None:
        self.name = name
        self.region = region
        self.dtype = dtype
        self.header = data_view(region)
        self.handle = ffi.new("tr_reader *")
        """The cffi `tr_reader *`; `handle.next` is the seq read next."""
        lib.tr_reader_open(self.handle, region.pointer)

    @property
    def next_seq(self) -> int:
        """Seq that `poll` returns next."""
        return int(self.handle.next)

    @property
    def lag(self) -> int:
        """Records published and not read yet."""
        return max(0, int(lib.tr_head(self.handle)) - self.next_seq)

    @property
    def lost(self) -> int:
        """Records that were overwritten before this reader got to them, since it was attached."""
        return int(self.handle.lost_total)

    def facts(self) -> RingFacts:
        """Return what the ring's header says now."""
        return facts_of(self.header)

    def seek(self, seq: int) -> None:
        """Read from `seq` on next; what is older than the ring holds is then counted as lost."""
        if not 1 <= seq < lib.TR_SEQ_END:
            raise ValueError(f"seq {seq}: 1 to 2**61 - 1 expected")
        self.handle.next = seq

    def seek_oldest(self) -> None:
        """Read from the oldest record on that the ring holds."""
        self.handle.next = lib.tr_oldest(self.handle)

    def last(self, n: int) -> tuple[np.ndarray, Info]:
        """Return a copy of the newest `n` records (fewer if the ring holds fewer), oldest first, and their `Info`."""
        head = int(lib.tr_head(self.handle))
        first = max(head - n, int(lib.tr_oldest(self.handle)))
        return self.read_range(first, head)

    def read_range(self, first_seq: int, end_seq: int) -> tuple[np.ndarray, Info]:
        """Return a copy of records first_seq .. end_seq - 1 as far as the ring still holds them.

        `info.lost` counts those of the range that were overwritten.
        """
        first = max(first_seq, int(lib.tr_oldest(self.handle)))
        wanted = max(0, end_seq - first)
        records = np.empty(wanted, self.dtype)
        kept_from = ffi.new("int64_t *")
        kept = 0
        if wanted:
            target = ffi.cast("void *", records.ctypes.data)
            kept = int(lib.tr_read_many(self.handle, first, wanted, target, kept_from))
            first = int(kept_from[0])
            records = records[wanted - (end_seq - first) : wanted - (end_seq - first) + kept]
        return records, Info(
            first, first + kept - 1, max(0, first - first_seq), self._epoch_of(first + kept - 1)
        )

    def poll(self, max_records: int = _BATCH_RECORDS) -> tuple[np.ndarray, Info]:
        """Return the next records, up to `max_records` (none: an empty array), and go on after them.

        `info.lost` > 0: that many records before the first one were overwritten.
        """
        records = np.empty(max_records, self.dtype)
        target = ffi.cast("void *", records.ctypes.data)
        n = int(lib.tr_poll_batch(self.handle, target, max_records))
        lost = 0
        while n == lib.TR_LAPPED:
            lost += self.handle.lost_to - self.handle.lost_from + 1
            n = int(lib.tr_poll_batch(self.handle, target, max_records))
        first = self.next_seq - n
        return records[:n], Info(first, first + n - 1, int(lost), self._epoch_of(first + n - 1))

    def follow(
        self, poll_ms: float = 50.0, on_lapped: str = "skip", max_records: int = _BATCH_RECORDS
    ) -> Iterator[tuple[np.ndarray, Info]]:
        """Yield `(records, info)` for ever, from the next record on, sleeping `poll_ms` where there is none.

        Args:
            poll_ms: sleep between looks, in milliseconds.
            on_lapped: what to do when records were overwritten before they were read: "skip" (go on at the newest,
                `info.lost` tells how many), "oldest" (go on at the oldest that is safe), "raise" (`Lapped`).
            max_records: largest array to yield.
        """
        if on_lapped not in ("skip", "oldest", "raise"):
            raise ValueError(f'on_lapped={on_lapped!r}: "skip", "oldest" or "raise" expected')
        self.handle.rejoin = 0 if on_lapped == "skip" else 2
        renewed = monotonic_ns()
        while True:
            records, info = self.poll(max_records)
            if info.lost and on_lapped == "raise":
                raise Lapped(str(self.name), info.first_seq - info.lost, info.first_seq - 1)
            if len(records) or info.lost:
                yield records, info
                continue
            if monotonic_ns() - renewed > _RENEW_NS:
                renewed = monotonic_ns()
                self._renew()
            time.sleep(poll_ms / 1000)

    def close(self) -> None:
        """Unmap. Arrays that were returned are copies and stay valid."""
        self.region.close()

    def _epoch_of(self, seq: int) -> int:
        for epoch, first_seq in reversed(self.facts().epochs):
            if seq >= first_seq:
                return epoch
        return 0

    def _renew(self) -> None:
        """Attach to the successor when the name stands for another file now and the old one is read to its end."""
        file = self.name.file("data")
        inode = regions.inode_of(file)
        if inode in (0, self.region.inode) or self.lag:
            return
        fresh = open_reader(self.name, self.dtype)
        rejoin = self.handle.rejoin
        fresh.seek_oldest()
        self.region.close()
        self.region, self.header, self.handle = fresh.region, fresh.header, fresh.handle
        self.handle.rejoin = rejoin

    def __repr__(self) -> str:
        facts = self.facts()
        age_ms = (now_ns() - facts.heartbeat_ns) / 1e6
        return (
            f"<Reader {self.name} {facts.state} seq {facts.head - 1} epoch {facts.epoch} lag {self.lag} "
            f"lost {self.lost} heartbeat {age_ms:.0f} ms ago>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_reader(name: RegionName, dtype: np.dtype | None = None, suffix: str = "data") -> Reader:
    """Attach to a ring read-only; without `dtype` the ring's own description tells the fields.

    Raises:
        AttachError: one of its kinds, see `shm.errors`.
    """
    region = regions.attach(name.file(suffix))
    try:
        facts = check_data(region, dtype)
        return Reader(name, region, dtype if dtype is not None else dtype_of(facts.description))
    except BaseException:
        region.close()
        raise
