"""A worker's counters live in shared memory: they survive its death, and reading them costs it nothing.

**Layout** `tickring.<instance>.<worker>.counters` (0640): magic i64, version i64, pid i64, start time i64, heartbeat ns i64,
state i64, number of counters i64, restarts i64, then names (48 B each), then values (i64 each), 4,096 + 56 x n bytes at most.

**Failure** A restarted worker adopts the values of its predecessor by name: counters never go back while an instance is up.
The successor's file is filled under another name and renamed over the old one, so a crash in between loses nothing.
**Threads and processes** One writer, any number of readers; each value is one aligned 8-byte store.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from shm import region as regions
from shm._native import ffi
from shm.clock import now_ns
from shm.errors import ConfigurationError, NoMagic, NoRing, TooShort
from shm.lock import OwnerLock
from shm.process import is_alive, own_identity
from shm.region import PREFIX, Region, check_part

WORKER_STATES = ("STARTING", "READY", "DRAINING", "STOPPED", "FAILED", "JOINING")
"""JOINING: not ready, because an input is not there that the worker cannot begin without."""
_MAGIC = 0x315453544E554F43  # "COUNTST1"
_VERSION = 1
_HEADER_WORDS = 8
_NAME_BYTES = 48
_LIMIT = 4096
_MAGIC_AT, _VERSION_AT, _PID, _START, _HEARTBEAT, _STATE, _COUNT, _RESTARTS = range(_HEADER_WORDS)


class WorkerFacts(NamedTuple):
    """One worker as its counters region tells it."""

    worker: str
    state: str
    pid: int
    start_time: int
    heartbeat_ns: int
    restarts: int
    values: dict[str, int]

    @property
    def alive(self) -> bool:
        """The process still runs."""
        return is_alive(self.pid, self.start_time)


class Counters:
    """The writer's side: made once by a worker at its start, which also makes it the one worker of that name."""

    def __init__(self, region: Region, names: Sequence[str], lock: OwnerLock) -> None:
        self._region = region
        self._lock = lock
        self._header = np.frombuffer(ffi.buffer(region.pointer), np.int64, _HEADER_WORDS)
        offset = _values_offset(len(names))
        self._values = np.frombuffer(ffi.buffer(region.pointer), np.int64, len(names), offset)
        self._index = {name: i for i, name in enumerate(names)}
        self._cells = ffi.cast("int64_t *", region.address + offset)

    @classmethod
    def create(
        cls, instance: str, worker: str, names: Sequence[str], reader_group: int = -1
    ) -> "Counters":
        """Make the region, or adopt the one that an earlier process of this worker left.

        Args:
            names: the counters, each at most 47 bytes; all start at 0, or at the predecessor's value.

        Raises:
            OwnershipError: a live process is that worker.
        """
        if (
            len(set(names)) != len(names)
            or any(not 0 < len(n.encode()) < _NAME_BYTES for n in names)
            or len(names) > _LIMIT
        ):
            raise ConfigurationError(
                f"counters of {worker}: names must differ, be 1 to {_NAME_BYTES - 1} bytes, {_LIMIT} at most"
            )
        file = counters_file(instance, worker)
        lock = OwnerLock(f"{file}.lock")
        try:
            before = _read_previous(file)
            fresh = f"{file}.new"
            regions.unlink(fresh)
            region = regions.create(
                fresh, _values_offset(len(names)) + 8 * len(names), regions.DATA_MODE, reader_group
            )
            _write_names(region, names)
            counters = cls(region, names, lock)
            pid, started = own_identity()
            counters._header[[_VERSION_AT, _PID, _START, _STATE, _COUNT]] = (
                _VERSION,
                pid,
                started,
                0,
                len(names),
            )
            counters._header[_RESTARTS] = before.restarts + 1 if before else 0
            for name, value in (before.values if before else {}).items():
                if name in counters._index:
                    counters.set(name, value)
            counters.heartbeat()
            counters._header[_MAGIC_AT] = _MAGIC
            regions.rename(fresh, file)
        except BaseException:
            lock.release()
            raise
        return counters

    def add(self, name: str, amount: int = 1) -> None:
        """Add to one counter."""
        self._cells[self._index[name]] += amount

    def set(self, name: str, value: int) -> None:
        """Set one counter (a gauge)."""
        self._cells[self._index[name]] = value

    def get(self, name: str) -> int:
        """Return one counter."""
        return int(self._cells[self._index[name]])

    def pointer(self, name: str) -> Any:
        """Return a cffi `int64_t *` to one counter, for C code and for `pointer[0] += 1` in hot Python."""
        return self._cells + self._index[name]

    def heartbeat(self) -> None:
        """Show that the worker lives; at least twice a second."""
        self._header[_HEARTBEAT] = now_ns()

    def set_state(self, state: str) -> None:
        """Say how far the worker is: one of WORKER_STATES."""
        self._header[_STATE] = WORKER_STATES.index(state)
        self.heartbeat()

    @property
    def restarts(self) -> int:
        """How many processes of this worker there were before this one."""
        return int(self._header[_RESTARTS])

    def close(self) -> None:
        """Unmap and give the worker's name free; the region stays for the supervisor to remove."""
        self._index = {}
        del self._header, self._values, self._cells
        self._region.close()
        self._lock.release()


def counters_file(instance: str, worker: str) -> str:
    """Return the shared-memory object's name of a worker's counters."""
    return f"{PREFIX}.{check_part('instance', instance)}.{check_part('worker', worker)}.counters"


def read_counters(instance: str, worker: str) -> WorkerFacts:
    """Return what a worker's counters say now.

    Raises:
        NoRing: that worker has never started. NoMagic, TooShort: it is starting right now, or the file is damaged.
    """
    file = counters_file(instance, worker)
    region = regions.attach(file, least_bytes=8 * _HEADER_WORDS)
    try:
        buffer = bytes(ffi.buffer(region.pointer))
    finally:
        region.close()
    header = np.frombuffer(buffer, np.int64, _HEADER_WORDS)
    if header[_MAGIC_AT] != _MAGIC or header[_VERSION_AT] != _VERSION:
        raise NoMagic(
            f"region {file} is not initialised; its worker is starting, or died while it was"
        )
    n = int(header[_COUNT])
    if not 0 <= n <= _LIMIT or len(buffer) < _values_offset(n) + 8 * n:
        raise TooShort(
            f"region {file}: {len(buffer)} bytes are too few for {n} counters; remove it"
        )
    values = np.frombuffer(buffer, np.int64, n, _values_offset(n)).tolist()
    state = (
        WORKER_STATES[int(header[_STATE])] if 0 <= header[_STATE] < len(WORKER_STATES) else "FAILED"
    )
    raw = np.frombuffer(buffer, f"S{_NAME_BYTES}", n, 8 * _HEADER_WORDS).tolist()
    names = [name.decode() for name in raw]
    return WorkerFacts(
        worker,
        state,
        int(header[_PID]),
        int(header[_START]),
        int(header[_HEARTBEAT]),
        int(header[_RESTARTS]),
        dict(zip(names, values, strict=True)),
    )


def _values_offset(n: int) -> int:
    return 8 * _HEADER_WORDS + _NAME_BYTES * n


def _write_names(region: Region, names: Sequence[str]) -> None:
    buffer = ffi.buffer(region.pointer)
    for i, name in enumerate(names):
        raw = name.encode()
        buffer[
            8 * _HEADER_WORDS + i * _NAME_BYTES : 8 * _HEADER_WORDS + i * _NAME_BYTES + len(raw)
        ] = raw


def _read_previous(file: str) -> WorkerFacts | None:
    _, instance, worker, _ = file.split(".")
    with contextlib.suppress(NoRing, NoMagic, TooShort):
        return read_counters(instance, worker)
    return None
