"""A registered consumer owns a cursor: the seq it can restart from, which survives it.

**Protocol** Join or take over under a lock on `.ctl`; poll; do the work; `commit` the seq from which a restart would be right.
Progress inside a batch is private. Sleep and wake: native/wait.h.

**Failure** A killed consumer leaves its entry ACTIVE; the next process of that name takes it over with its cursor. Records
that were overwritten meanwhile are one exact range, told once and counted in the entry (`lapped`).
"""

import fcntl
import os
from collections.abc import Sequence
from functools import partial

import numpy as np

from shm import region as regions
from shm._native import ffi, lib
from shm.clock import now_ns
from shm.errors import ConfigurationError, OwnershipError, Retired
from shm.header import check_control, check_data, control_view
from shm.process import is_alive, own_identity
from shm.reader import Reader, _closed
from shm.region import Region, RegionName

FROM_OLDEST = 0
FROM_NEWEST = -1
REQUEST_BITS = 8192
_NAME_BYTES = 31
_WAIT_RINGS = 64


class Consumer(Reader):
    """A reader with a registered cursor. `poll_into` is the batch call of consumer loops."""

    def __init__(
        self, name: RegionName, data: Region, control: Region, dtype: np.dtype, entry: int
    ) -> None:
        super().__init__(name, data, dtype)
        self.control_region = control
        self.entry = entry
        self._view = control_view(control).entry[entry]
        self.handle.next = self._view.cursor
        self._lapped_before = int(lib.tr_entry_lapped(control.pointer, entry))
        self._lost_seen = 0
        self._lapped_at_cursor = self._lapped_before
        self._losses: list[
            tuple[int, int]
        ] = []  # (last seq lost, records lost), not yet behind the cursor
        self._commit = partial(lib.tr_entry_commit, control.pointer, entry)

    @property
    def cursor(self) -> int:
        """Seq that a restart would begin with."""
        return int(self._view.cursor)

    @property
    def lapped(self) -> int:
        """Records lost to overwriting since the entry was made, earlier processes of this name included."""
        return self._lapped_before + self.lost

    def commit(self, seq: int | None = None) -> None:
        """Store the seq to restart from (default: the next to read).

        A loss is entered once the cursor has passed it: a restart from an older cursor meets it again, and counts it then.
        """
        cursor = self.next_seq if seq is None else seq
        if (lost := self.lost) != self._lost_seen:
            self._losses.append((int(self.handle.lost_to), lost - self._lost_seen))
            self._lost_seen = lost
        while self._losses and self._losses[0][0] < cursor:
            self._lapped_at_cursor += self._losses.pop(0)[1]
        self._commit(cursor, self._lapped_at_cursor, self.lag, now_ns())

    def resume(self, seq: int, lapped: int) -> None:
        """Read from `seq` on, where the caller's own checkpoint ends, with the losses that had been counted by then."""
        self.seek(seq)
        self._lapped_before = lapped - self.lost

    def request_snapshot(self, instrument_id: int) -> None:
        """Ask the producer to publish the snapshot of one of its instruments again.

        The request is the id modulo REQUEST_BITS, more than any collector's block of ids has.
        """
        lib.tr_request_snapshot(self.control_region.pointer, instrument_id)

    def detach(self) -> None:
        """Leave in good order: the entry keeps the cursor for the next process of this name."""
        lib.tr_entry_detach(self.control_region.pointer, self.entry)

    def close(self) -> None:
        """Unmap both regions."""
        if self.handle is not None:
            super().close()
            self._view = None
            self._commit = partial(_closed, str(self.name))
            self.control_region.close()

    def _renew(self) -> None:
        if not self.is_current and not self.lag:
            raise Retired(
                f"ring {self.name} was removed or replaced while consumer {self.entry} was on it; join it again by name"
            )


def join(name: RegionName, consumer: str, dtype: np.dtype, start: int = FROM_OLDEST) -> Consumer:
    """Register as `consumer` on a ring, or take one's own entry over.

    Args:
        name: the ring.
        consumer: the name that the cursor is kept under.
        dtype: the record layout.
        start: where a new consumer begins: FROM_OLDEST, FROM_NEWEST or a seq. A known one goes on at its cursor.

    Raises:
        AttachError: see `shm.errors`. OwnershipError: a live process has that consumer's name.
    """
    data = regions.attach(name.file("data"))
    try:
        control = regions.attach(name.file("ctl"), writable=True)
    except BaseException:
        data.close()
        raise
    return _join(name, data, control, consumer, dtype, start)


def join_private(
    label: str,
    data_fd: int,
    control_fd: int,
    consumer: str,
    dtype: np.dtype,
    start: int = FROM_OLDEST,
) -> Consumer:
    """Join a replay ring by the descriptors that `open_private` returned."""
    name = RegionName("replay", label, "events")
    data = regions.attach_fd(data_fd, f"{label}.data")
    control = regions.attach_fd(control_fd, f"{label}.ctl", writable=True)
    return _join(name, data, control, consumer, dtype, start)


def wait_any(consumers: Sequence[Consumer], timeout_s: float, spin_us: float = 20.0) -> bool:
    """Return True as soon as one of the consumers has a record to poll; releases the GIL.

    False after `timeout_s`, and at once when a producer changes its state or a signal arrives: look, then wait again.
    """
    if not 1 <= len(consumers) <= _WAIT_RINGS:
        raise ConfigurationError(f"{len(consumers)} rings to wait for: 1 to {_WAIT_RINGS} expected")
    readers = ffi.new("tr_reader *[]", [consumer.handle for consumer in consumers])
    controls = ffi.new(
        "void *[]", [ffi.cast("void *", c.control_region.pointer) for c in consumers]
    )
    entries = ffi.new("int64_t[]", [consumer.entry for consumer in consumers])
    n = len(consumers)
    return bool(
        lib.tr_wait_many(readers, controls, entries, n, int(spin_us * 1e3), int(timeout_s * 1e9))
    )


def _join(
    name: RegionName, data: Region, control: Region, consumer: str, dtype: np.dtype, start: int
) -> Consumer:
    try:
        facts = check_data(data, dtype, allow_retired=False)
        check_control(control, facts.uuid)
        entry = _claim(data, control, consumer, start)
    except BaseException:
        data.close()
        control.close()
        raise
    return Consumer(name, data, control, dtype, entry)


def _claim(data: Region, control: Region, consumer: str, start: int) -> int:
    if not 1 <= len(consumer.encode()) <= _NAME_BYTES:
        raise ConfigurationError(f"consumer name {consumer!r}: 1 to {_NAME_BYTES} bytes expected")
    reader = ffi.new("tr_reader *")
    lib.tr_reader_open(reader, data.pointer)
    pid, started = own_identity()
    fd = _lock_control(control)
    try:
        entry = int(lib.tr_entry_find(control.pointer, consumer.encode()))
        if entry >= 0 and (taken := _take_over(control, entry, consumer, pid, started)) >= 0:
            return taken
        entry = int(
            lib.tr_entry_join(control.pointer, reader, consumer.encode(), pid, started, start)
        )
    finally:
        if fd >= 0:
            os.close(fd)
    if entry < 0:
        raise OwnershipError(
            f"region {control.file}: no entry for consumer {consumer!r} ({entry}); all {lib.TR_CONSUMERS} are taken"
        )
    return entry


def _lock_control(control: Region) -> int:
    """Lock the named `.ctl` while one name becomes one entry; a replay ring has one joiner and no name."""
    try:
        fd = os.open(
            f"{regions.SHM_DIRECTORY}/{control.file}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        )
    except FileNotFoundError:
        return -1
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _take_over(control: Region, entry: int, consumer: str, pid: int, started: int) -> int:
    """Take an ACTIVE or half-joined entry over from a process that is gone; -1: it is free to be joined."""
    view = control_view(control).entry[entry]
    if view.state not in (lib.TR_ACTIVE, lib.TR_JOINING, lib.TR_DETACHED):
        return -1
    alive = is_alive(view.pid, view.start_time)
    if view.state != lib.TR_DETACHED and alive and (view.pid, view.start_time) != (pid, started):
        raise OwnershipError(
            f"region {control.file}: consumer {consumer!r} is process {view.pid}, which runs; "
            "one process per consumer name (tickring status)"
        )
    if view.cursor < 1:
        view.state = (
            lib.TR_RESERVED
        )  # its owner died between claiming the entry and J1: join it anew
        return -1
    if lib.tr_entry_take_over(control.pointer, entry, view.generation, pid, started) < 0:
        raise OwnershipError(
            f"region {control.file}: consumer {consumer!r} was just taken over by another process"
        )
    return entry
