"""A passive reader copies records out of a ring, never torn, with every loss told, and unseen by the producer.

**Why it is right** The mapping is read-only and no word is ever written: a reader can be stopped, killed or stuck and the
producer cannot tell. Bulk reads are validated against the head after the copy (`tr_read_many`, native/ring.h).

**Failure** A reader that falls a whole ring behind is told the exact range it lost. A retired or replaced ring is noticed
once a second by the inode of its name.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np

from shm import region as regions
from shm._native import ffi, lib
from shm.clock import monotonic_ns, now_ns
from shm.errors import Lapped
from shm.header import RingFacts, check_data, data_view, dtype_of, facts_of
from shm.region import Region, RegionName

_BATCH_RECORDS = 4096
_RENEW_NS = 1_000_000_000
_LAPS_AT_ONCE = 16  # a reader that is lapped as often in one call tells its loss first


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
        self.dtype = dtype
        self._epochs_taken = -1
        self._epochs: tuple[tuple[int, int], ...] = ()
        self._batch: np.ndarray | None = None
        self._target: np.ndarray | None = None
        self._target_pointer: Any = None
        self._use(region)

    def _use(self, region: Region) -> None:
        self.region = region
        self.header = data_view(region)
        self.handle = ffi.new("tr_reader *")
        """The cffi `tr_reader *`; `handle.next` is the seq read next."""
        lib.tr_reader_open(self.handle, region.pointer)
        self._poll = partial(lib.tr_poll_batch, self.handle)

    @property
    def next_seq(self) -> int:
        """Seq that `poll` returns next."""
        return int(self.handle.next)

    @property
    def lag(self) -> int:
        """Records published and not read yet."""
        return max(0, int(lib.tr_head(self.handle)) - self.next_seq)

    @property
    def oldest_seq(self) -> int:
        """Seq of the oldest record that can be read: one fewer than there are slots are held, one may be being written."""
        return int(lib.tr_oldest(self.handle))

    @property
    def lost(self) -> int:
        """Records that were overwritten before this reader got to them, since it was attached."""
        return int(self.handle.lost_total)

    @property
    def is_current(self) -> bool:
        """True while the ring's name still stands for the file that is mapped here: ask once a second at most."""
        return regions.inode_of(self.region.file) == self.region.inode

    def facts(self) -> RingFacts:
        """Return what the ring's header says now."""
        self._check_open()
        return facts_of(self.header)

    def seek(self, seq: int) -> None:
        """Read from `seq` on next; what is older than the ring holds is then counted as lost."""
        if not 1 <= seq < lib.TR_SEQ_END:
            raise ValueError(f"seq {seq}: 1 to 2**61 - 1 expected")
        self.handle.next = seq

    def seek_oldest(self) -> None:
        """Read from the oldest record on that the ring holds."""
        self.handle.next = self.oldest_seq

    def last(self, n: int) -> tuple[np.ndarray, Info]:
        """Return a copy of the newest `n` records (fewer if the ring holds fewer), oldest first, and their `Info`."""
        if n < 0:
            raise ValueError(f"last({n}): a number of records from 0 on expected")
        self._check_open()
        head = int(lib.tr_head(self.handle))
        return self.read_range(max(head - n, self.oldest_seq), head)

    def read_range(self, first_seq: int, end_seq: int) -> tuple[np.ndarray, Info]:
        """Return a copy of records first_seq .. end_seq - 1 as far as the ring holds them.

        `info.lost` counts those of the range that were overwritten; what is not published yet is not there.
        """
        self._check_open()
        end = min(end_seq, int(lib.tr_head(self.handle)))
        first = max(first_seq, self.oldest_seq)
        wanted = max(0, end - first)
        records = np.empty(wanted, self.dtype)
        kept_from = first
        if wanted:
            cell = ffi.new("int64_t *")
            target = ffi.cast("void *", records.ctypes.data)
            lib.tr_read_many(self.handle, first, wanted, target, cell)
            kept_from = min(int(cell[0]), end)
            records = records[kept_from - first :]
        lost = max(0, min(kept_from, max(end, first_seq)) - first_seq)
        last = kept_from + len(records) - 1
        return records, Info(kept_from, last, lost, self._epoch_of(last))

    def epochs_of(self, records: np.ndarray, info: Info) -> np.ndarray:
        """Return the epoch of each of the contiguous records that `last` or `read_range` gave with `info`."""
        self._epoch_of(info.last_seq)
        epochs = np.zeros(len(records), np.int64)
        for epoch, first_seq in self._epochs:
            epochs[max(0, first_seq - info.first_seq) :] = epoch
        return epochs

    def poll(self, max_records: int = _BATCH_RECORDS) -> tuple[np.ndarray, Info]:
        """Return a copy of the next records, up to `max_records` (none: an empty array), and go on after them.

        `info.lost` > 0: that many records before the first one were overwritten.
        """
        self._check_open()
        if self._batch is None or len(self._batch) < max_records:
            self._batch = np.empty(max_records, self.dtype)
        target = self._pointer_to(self._batch)
        n = lost = 0
        for _ in range(_LAPS_AT_ONCE):
            n = self._poll(target, max_records)
            if n >= 0:
                break
            lost += self.handle.lost_to - self.handle.lost_from + 1
        n = max(0, n)
        first = self.next_seq - n
        return self._batch[:n].copy(), Info(
            first, first + n - 1, lost, self._epoch_of(first + n - 1)
        )

    def poll_into(self, records: np.ndarray) -> int:
        """Copy the next records to the front of `records`, a contiguous array of the ring's dtype; returns how many.

        Returns -1 after moving on over a loss: `handle.lost_from` .. `handle.lost_to` tell it exactly. The cheapest
        call from Python: keep one array and pass it each time.
        """
        n: int = self._poll(self._pointer_to(records), len(records))
        return n

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
        if not poll_ms >= 0 or max_records < 1:
            raise ValueError(
                f"follow(poll_ms={poll_ms}, max_records={max_records}): from 0 ms and from 1 record on expected"
            )
        self._check_open()
        self.handle.rejoin = 0 if on_lapped == "skip" else 2
        return self._follow(poll_ms, on_lapped == "raise", max_records)

    def _follow(
        self, poll_ms: float, raises: bool, max_records: int
    ) -> Iterator[tuple[np.ndarray, Info]]:
        renewed = monotonic_ns()
        while True:
            records, info = self.poll(max_records)
            if info.lost and raises:
                raise Lapped(str(self.name), info.first_seq - info.lost, info.first_seq - 1)
            if len(records) or info.lost:
                yield records, info
                continue
            if monotonic_ns() - renewed > _RENEW_NS:
                renewed = monotonic_ns()
                self._renew()
            time.sleep(poll_ms / 1000)

    def to_arrow(self, n: int | None = None, **options: Any) -> Any:
        """Return the newest `n` records (default: all that the ring holds) as an Arrow table.

        Args:
            n: number of records, before `kind` chooses among them.
            options: kind="trade" | "quote" | ..., price="float" | "fixed" | "decimal", tz="UTC" | None,
                symbols=True | False: see `shm.frames.to_table`.
        """
        from shm.frames import to_table

        records, info = self.last(self.facts().slots if n is None else n)
        return to_table(records, self.epochs_of(records, info), self.name.instance, **options)

    def to_polars(self, n: int | None = None, **options: Any) -> Any:
        """Return what `to_arrow` does as a polars frame."""
        from shm.frames import to_polars

        return to_polars(self.to_arrow(n, **options))

    def to_pandas(self, n: int | None = None, **options: Any) -> Any:
        """Return what `to_arrow` does as a pandas frame."""
        from shm.frames import to_pandas

        return to_pandas(self.to_arrow(n, **options))

    def close(self) -> None:
        """Unmap. Arrays that were returned are copies and stay valid."""
        if self.handle is not None:
            self.handle = self.header = None
            self._poll = partial(_closed, str(self.name))
            self.region.close()

    def _check_open(self) -> None:
        if self.handle is None:
            _closed(str(self.name))

    def _pointer_to(self, records: np.ndarray) -> Any:
        """Return the address of `records` for C, checked once for each array that is given."""
        if records is not self._target:
            if records.dtype != self.dtype or not records.flags.c_contiguous:
                raise TypeError(
                    f"ring {self.name}: a contiguous array of {self.dtype.itemsize}-byte records expected"
                )
            if not records.flags.writeable:
                raise TypeError(f"ring {self.name}: a writable array expected")
            self._target_pointer = ffi.cast("void *", records.ctypes.data)
            self._target = records
        return self._target_pointer

    def _epoch_of(self, seq: int) -> int:
        if self.header.epochs_taken != self._epochs_taken:
            facts = self.facts()
            self._epochs, self._epochs_taken = facts.epochs, self.header.epochs_taken
        for epoch, first_seq in reversed(self._epochs):
            if seq >= first_seq:
                return epoch
        return 0

    def _renew(self) -> None:
        """Attach to the successor when the name stands for another file now and the old one is read to its end."""
        if self.is_current or self.lag or not regions.inode_of(self.region.file):
            return
        fresh = open_reader(self.name, self.dtype)
        rejoin = self.handle.rejoin
        self.region.close()
        self._use(fresh.region)
        self._epochs_taken = -1
        self.handle.rejoin = rejoin
        self.seek_oldest()

    def __repr__(self) -> str:
        if self.handle is None:
            return f"<{type(self).__name__} {self.name} closed>"
        facts = self.facts()
        age_ms = (now_ns() - facts.heartbeat_ns) / 1e6
        return (
            f"<{type(self).__name__} {self.name} {facts.state} seq {facts.head - 1} epoch {facts.epoch} lag {self.lag} "
            f"lost {self.lost} heartbeat {age_ms:.0f} ms ago>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closed(ring: str, *_: object) -> NoReturn:
    raise ValueError(f"ring {ring}: this reader is closed")


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
