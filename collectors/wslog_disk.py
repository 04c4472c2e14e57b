"""Captured frames reach the disk from a thread of their own, so that a slow, hung or full disk never delays a frame.

**Protocol** The collector's thread submits, in order: a new file (its packed header), a half of the staging region, a large
entry. A half is free again when `is_busy` of it is False. What was written is synced every `fsync_s`.

**Failure** A write that fails, or would leave less than `free_bytes_min` on the disk, cuts the file back to its last whole
write and stops the capture: `error` says why, and everything submitted until the next new file is counted in `frames_lost`.

**Threads and processes** Each attribute has one writer: `is_busy` is set by the collector's thread and cleared here, all
others are written here. Python's lock is held for some tens of us a write, never during a system call.
"""

import errno
import os
import queue
import threading
from pathlib import Path
from typing import Any, NamedTuple

from shm.clock import monotonic_ns
from shm.durable import sync_folder, write_all

FREE_CHECK_NS = 1_000_000_000
_NEVER_S = 3600.0


class NewFile(NamedTuple):
    """Go on in a new file."""

    path: Path
    header: bytes
    part: int


class Half(NamedTuple):
    """Write what a half of the staging region holds."""

    half: int
    view: memoryview
    frames: int


class Large(NamedTuple):
    """Write one entry that no half can hold."""

    header: bytes
    payload: bytes
    frames: int


class Disk(threading.Thread):
    """The thread; `start` it after the first file was opened.

    Args:
        head: cffi `struct tr_stage_head *`; told from where on a file has to be looked through after a crash.
        fsync_s: how often to sync, in s; 0: after every write.
        free_bytes_min: what has to stay free on the disk.
    """

    def __init__(self, head: Any, fsync_s: float, free_bytes_min: int) -> None:
        super().__init__(name="wslog-disk", daemon=True)
        self.is_busy = [False, False]
        self.error = ""
        self.frames_lost = 0
        self.written_bytes = 0
        self.files = 0
        self.failures = 0
        self._head = head
        self._fsync_ns = int(fsync_s * 1e9)
        self._free_bytes_min = free_bytes_min
        self._queue: queue.SimpleQueue[NewFile | Half | Large | None] = queue.SimpleQueue()
        self._fd = -1
        self._at = 0
        self._is_dirty = False
        self._synced_ns = self._looked_ns = 0

    def submit(self, work: NewFile | Half | Large) -> None:
        """Hand over what comes next."""
        if isinstance(work, Half):
            self.is_busy[work.half] = True
        self._queue.put(work)

    def finish(self, timeout_s: float) -> bool:
        """Write what is left, sync, close; False when that took longer."""
        self._queue.put(None)
        self.join(timeout_s)
        return not self.is_alive()

    def open(self, work: NewFile) -> None:
        """Begin a file; the one before is synced and closed."""
        self._close()
        try:
            self._check_room(work.path.parent)
            self._fd = os.open(
                work.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            write_all(self._fd, [work.header])
            sync_folder(work.path.parent)
        except OSError as error:
            self._fail(error)
            return
        self._head.safe_part, self._head.safe_at = -1, len(work.header)
        self._head.safe_part = work.part
        self._at = len(work.header)
        self._is_dirty = True
        self.files += 1
        self.error = ""

    def run(self) -> None:
        """Do what is submitted until `finish`."""
        while True:
            try:
                work = self._queue.get(timeout=self._patience_s())
            except queue.Empty:
                self._sync()
                continue
            if work is None:
                self._close()
                return
            if isinstance(work, NewFile):
                self.open(work)
            elif isinstance(work, Half):
                self._write([work.view], work.frames)
                self.is_busy[work.half] = False
            else:
                self._write([work.header, work.payload], work.frames)

    def _write(self, parts: list[Any], frames: int) -> None:
        if self._fd < 0:
            self.frames_lost += frames
            return
        try:
            if monotonic_ns() - self._looked_ns >= FREE_CHECK_NS:
                self._check_room(self._fd)
            write_all(self._fd, parts)
        except OSError as error:
            self.frames_lost += frames
            self._fail(error)
            return
        n_bytes = sum(len(part) for part in parts)
        self._head.safe_at = self._at
        self._at += n_bytes
        self.written_bytes += n_bytes
        self._is_dirty = True
        if monotonic_ns() - self._synced_ns >= self._fsync_ns:
            self._sync()

    def _sync(self) -> None:
        self._synced_ns = monotonic_ns()
        if self._is_dirty and self._fd >= 0:
            self._is_dirty = False
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._fail(error)

    def _patience_s(self) -> float:
        """How long to wait for work before what was written has to be synced."""
        if not self._is_dirty:
            return _NEVER_S
        return max(0.001, (self._synced_ns + self._fsync_ns - monotonic_ns()) / 1e9)

    def _check_room(self, where: int | Path) -> None:
        """Raise ENOSPC where the disk of an open file or a folder has too little left."""
        self._looked_ns = monotonic_ns()
        facts = os.statvfs(where)
        free = facts.f_bavail * facts.f_frsize
        if free < self._free_bytes_min:
            raise OSError(
                errno.ENOSPC,
                f"{free:,} bytes are left on the disk, capture.free_bytes_min is {self._free_bytes_min:,}",
            )

    def _fail(self, error: OSError) -> None:
        """Give the file up at its last whole write."""
        self.error = error.strerror or str(error)
        self.failures += 1
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, self._at)
            except OSError:
                self.failures += 1  # a torn end, which every reader stops at
            os.close(self._fd)
            self._fd = -1
            self._is_dirty = False

    def _close(self) -> None:
        self._sync()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
