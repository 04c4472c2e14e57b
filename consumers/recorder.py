"""The recorder keeps every record of its input rings: in a journal within a second, then in Parquet, each record in
exactly one file.

**Layout** of `data_dir`: `journal/` (consumers.journal), `<ring>/*.parquet` (consumers.parquet_store),
`manifest.jsonl` (consumers.manifest), `lock`.

**Protocol** Per turn: poll each ring, append to its journal. Twice a second: one fdatasync of all journals, in a
thread; when it is done the cursors follow. A journal that has reached its border is sealed, made durable, published
in a second thread, and removed.

**Failure** Killed anywhere: it goes on after the last whole block; nothing is lost while that takes less than slots
/ rate, nothing is twice. Beyond it the exact range is a LOST line of the manifest. A full or failing disk: counted,
tried again for ever, at most what the ring overwrites meanwhile is LOST. Power cut: what the last half second
brought.

**Threads and processes** One recorder per data directory (`lock`). The main thread alone touches rings and journals'
ends; the sync thread only syncs; the publishing thread alone writes the manifest.
"""

import fcntl
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO

import structlog

from consumers.journal import SUFFIX, JournalDamaged
from consumers.loop import LOST, InputSet, Stoppable, input_counters
from consumers.manifest import Manifest, Row
from consumers.parquet_store import publish, remove_old
from consumers.tape import Mark, Tape, recover
from shm.clock import monotonic_ns, now_ns
from shm.counters import Counters
from shm.durable import sync_folder
from shm.errors import ConfigurationError, OwnershipError
from shm.worker import StopFlag, WorkerSpec, run_worker

_IDLE_S = 0.4
"""Longest rest without records: the heartbeat is due twice a second."""
_GATHER_S = 0.005
"""After a small batch: wait for a larger one, since nobody waits for the recorder."""
_RETRY_NS = 500_000_000
_RETENTION_NS = 3_600_000_000_000
_DAY_NS = 86_400_000_000_000
_ENDED = ("STOPPED", "RETIRED")

log = structlog.get_logger()


class RecorderSpec(WorkerSpec):
    """What a recorder is given."""

    inputs: list[str]
    """Rings of any layout, as `<worker>.<ring>`."""
    data_dir: str
    segment_rows: int = 65_536
    """Rows of a file; halved for long records until they fit into 16 MiB."""
    batch_records: int = 4096
    sync_interval_s: float = 0.5
    retention_days: float = 0.0
    """Remove files whose newest record is older; 0: keep all."""
    drain_timeout_s: float = 30.0


class Publisher:
    """Publishes sealed journals one after the other in a thread, and tries again where that failed."""

    def __init__(self, data_dir: Path, manifest: Manifest, counters: Counters) -> None:
        self._data_dir, self._manifest, self._counters = data_dir, manifest, counters
        self._waiting: deque[Path] = deque()
        self._pool = ThreadPoolExecutor(1, "publish")
        self._running: Future[Row | None] | None = None
        self._not_before_ns = 0

    def add(self, journals: list[Path]) -> None:
        """Publish these after those that wait already."""
        self._waiting.extend(journals)

    @property
    def idle(self) -> bool:
        """True when nothing waits."""
        return not self._waiting

    def turn(self) -> None:
        """Look after the one that is being published, begin the next; never waits."""
        if self._running is not None and self._running.done():
            self._settle(self._running)
            self._running = None
        if self._running is None and self._waiting and monotonic_ns() >= self._not_before_ns:
            journal = self._waiting[0]
            self._running = self._pool.submit(publish, journal, self._data_dir, self._manifest)

    def run_later(self, before_ns: int) -> None:
        """Remove files older than `before_ns` when the thread is free."""
        self._pool.submit(remove_old, self._manifest, self._data_dir, before_ns)

    def close(self) -> None:
        """Let the current one end."""
        self._pool.shutdown(wait=True)

    def _settle(self, done: Future[Row | None]) -> None:
        error = done.exception()
        if error is None:
            self._waiting.popleft()
        elif isinstance(error, OSError):
            self._counters.add("publish_errors")
            self._not_before_ns = monotonic_ns() + _RETRY_NS
            log.error(
                "a file cannot be published now", journal=str(self._waiting[0]), error=str(error)
            )
        elif isinstance(error, JournalDamaged):
            damaged = self._waiting.popleft()
            self._counters.add("publish_errors")
            damaged.replace(damaged.with_suffix(".damaged"))
            log.error("a journal is set aside", error=str(error))
        else:
            raise error


class Recorder:
    """The worker."""

    def __init__(self, spec: RecorderSpec, counters: Counters, stop: Stoppable) -> None:
        self._spec, self._counters, self._stop = spec, counters, stop
        self._data_dir = Path(spec.data_dir)
        self._journal_dir = self._data_dir / "journal"
        self._journal_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock = _lock(self._data_dir)
        self._manifest = Manifest(self._data_dir)
        self._publisher = Publisher(self._data_dir, self._manifest, counters)
        self._inputs = InputSet(
            spec.instance, spec.inputs, spec.worker, counters, spec.batch_records
        )
        self._tapes: list[Tape] = []
        self._sync_pool = ThreadPoolExecutor(1, "sync")
        self._syncing: Future[None] | None = None
        self._marks: list[tuple[Tape, list[Mark]]] = []
        self._sync_at = self._pause_until = self._retention_at = 0

    def run(self) -> int:
        """Work until a drain has ended; returns the exit status."""
        if self._inputs.join(self._stop):
            self._begin()
            self._counters.set_state("READY")
            while not self._stop.is_set:
                self._turn()
            self._drain()
        return self._end()

    def _begin(self) -> None:
        for left in self._data_dir.glob("*/*.tmp"):
            left.unlink()
        self._begin_tapes()
        current = {(tape.source.name, tape.uuid[:16]) for tape in self._tapes}
        for ring, uuid in {_identity(p) for p in self._journal_dir.glob(f"*{SUFFIX}")} - current:
            self._publisher.add(_finish_old(self._journal_dir, ring, uuid))

    def _begin_tapes(self) -> None:
        """Go on with the tape of each ring that was joined since this was last called."""
        known = [tape.source for tape in self._tapes]
        for source in self._inputs:
            if source not in known:
                tape = Tape(source, self._journal_dir, self._spec.segment_rows)
                self._publisher.add(tape.begin(self._manifest))
                self._tapes.append(tape)

    def _turn(self, idle_s: float = _IDLE_S) -> None:
        """Read each ring once, and look after sync and publishing; without records rest for `idle_s`."""
        n = 0
        if monotonic_ns() >= self._pause_until:
            for tape in self._tapes:
                try:
                    n = max(n, self._read(tape))
                except OSError as error:
                    self._disk_failed(error)
                    tape.read_again()
        self._look_after()
        if self._inputs.beat():
            self._follow_rings()
            self._show()
        if n == 0 and monotonic_ns() >= self._pause_until:
            self._inputs.wait(idle_s)
        elif n == 0:
            time.sleep(idle_s)
        elif n < self._spec.batch_records // 4:
            time.sleep(_GATHER_S)

    def _read(self, tape: Tape) -> int:
        source = tape.source
        if tape.incarnation != source.incarnation:
            return 0  # a new ring, which `_follow_rings` begins
        n = source.poll()
        if n == LOST:
            log.error(
                "records were overwritten before they were read",
                ring=source.name,
                first_seq=source.lost_from,
                last_seq=source.lost_to,
            )
            tape.lose(source.lost_from, source.lost_to)
            return 1
        if n:
            tape.take(n)
        return n

    def _follow_rings(self) -> None:
        self._begin_tapes()
        for tape in self._tapes:
            if tape.incarnation != tape.source.incarnation:
                self._sync_now()
                tape.seal()
                self._sync_now()
                self._publisher.add(tape.finished())
                tape.close()
                self._publisher.add(tape.begin(self._manifest))

    # ---- disk ----

    def _look_after(self) -> None:
        """Begin and end syncs, hand finished journals on, keep the retention; never waits."""
        now = monotonic_ns()
        if self._syncing is not None and self._syncing.done():
            self._settle_sync()
        if self._syncing is None and now >= self._sync_at:
            self._begin_sync()
        for tape in self._tapes:
            if self._syncing is None:
                self._publisher.add(tape.finished())
        self._publisher.turn()
        if self._spec.retention_days > 0 and now >= self._retention_at:
            self._retention_at = now + _RETENTION_NS
            self._publisher.run_later(now_ns() - int(self._spec.retention_days * _DAY_NS))

    def _begin_sync(self) -> None:
        self._sync_at = monotonic_ns() + int(self._spec.sync_interval_s * 1e9)
        self._marks = [(tape, marks) for tape in self._tapes if (marks := tape.marks())]
        if self._marks:
            descriptors = [mark.journal.fd for _, marks in self._marks for mark in marks]
            self._syncing = self._sync_pool.submit(_sync, descriptors, self._journal_dir)

    def _settle_sync(self) -> None:
        assert self._syncing is not None
        error, self._syncing = self._syncing.exception(), None
        for tape, marks in self._marks:
            if error is None:
                tape.synced(marks)
            else:
                tape.revert()
        if isinstance(error, OSError):
            self._disk_failed(error)
        elif error is not None:
            raise error

    def _sync_now(self) -> None:
        """Make everything durable before this returns.

        Raises:
            OSError: a sync failed, what it was to make durable has been taken back, and the inputs read again from there.
        """
        for _ in range(2):  # the one that runs now, then one for what was written since
            if self._syncing is None:
                self._begin_sync()
            if self._syncing is None:
                return
            while not wait([self._syncing], _IDLE_S).done:
                self._counters.heartbeat()
            failed = self._syncing.exception()
            self._settle_sync()
            if failed is not None:
                raise failed

    def _disk_failed(self, error: OSError) -> None:
        self._counters.add("journal_errors")
        self._pause_until = monotonic_ns() + _RETRY_NS
        log.error("the journal cannot be written now", error=str(error), again_in_s=_RETRY_NS / 1e9)

    # ---- end ----

    def _drain(self) -> None:
        """Read to the end, seal what is complete for good, publish it."""
        self._counters.set_state("DRAINING")
        until = monotonic_ns() + int(self._spec.drain_timeout_s * 1e9)
        sealed = False
        while monotonic_ns() < until:
            if self._inputs.drained() and not sealed:
                try:
                    self._seal_ended()
                    sealed = True
                except OSError as error:
                    self._disk_failed(error)
            if sealed and self._publisher.idle:
                return
            self._turn(_GATHER_S)
        log.warning("the drain ran out of time; the next start goes on from the journals")

    def _seal_ended(self) -> None:
        self._sync_now()
        for tape in self._tapes:
            facts = tape.source.consumer.facts()
            if facts.state in _ENDED and tape.source.next_seq >= facts.head:
                tape.seal()
        self._sync_now()
        for tape in self._tapes:
            self._publisher.add(tape.finished())

    def _end(self) -> int:
        self._publisher.close()
        self._sync_pool.shutdown(wait=True)
        left = 0
        for tape in self._tapes:
            left += tape.source.consumer.facts().head - tape.next_seq
            tape.close()
        self._counters.set("drain_left", left)
        self._show()
        self._inputs.detach()
        self._inputs.close()
        self._manifest.close()
        self._lock.close()
        self._counters.set_state("STOPPED")
        return 0

    def _show(self) -> None:
        """Make the counters say what the journals and the manifest say of the rings as they are now."""
        if not self._tapes:
            return
        uuids = {tape.uuid for tape in self._tapes}
        files = [row for row in self._manifest.rows if row.kind == "FILE" and row.uuid in uuids]
        self._counters.set("rows_journaled", sum(tape.rows_journaled for tape in self._tapes))
        self._counters.set("lost_rows", sum(tape.lost for tape in self._tapes))
        self._counters.set("rows_stored", sum(row.rows for row in files))
        self._counters.set("files_published", len(files))


def counter_names(inputs: list[str]) -> list[str]:
    """Return the counters that a recorder of these rings keeps."""
    own = ("rows_journaled", "rows_stored", "files_published", "lost_rows", "drain_left")
    return [*input_counters(inputs), *own, "journal_errors", "publish_errors"]


def _sync(descriptors: list[int], folder: Path) -> None:
    for fd in descriptors:
        os.fdatasync(fd)
    sync_folder(folder)


def _lock(data_dir: Path) -> IO[str]:
    lock = (data_dir / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OwnershipError(
            f"{data_dir} is being written by another recorder; one recorder per data directory (tickring status)"
        ) from None
    return lock


def _identity(journal: Path) -> tuple[str, str]:
    ring, uuid, _ = journal.name.removesuffix(SUFFIX).rsplit(".", 2)
    return ring, uuid


def _finish_old(folder: Path, ring: str, uuid: str) -> list[Path]:
    """Seal what an earlier run, whose ring is gone, has left; returns it for publishing."""
    sealed, unfinished = recover(folder, ring, uuid)
    if unfinished is not None:
        unfinished.seal()
        unfinished.close()
        sealed.append(unfinished)
    return [journal.path for journal in sealed]


def main(spec: RecorderSpec) -> int:
    """Run the worker."""
    if spec.segment_rows < 1 or spec.batch_records < 1 or spec.sync_interval_s <= 0:
        raise ConfigurationError(
            f"recorder: segment_rows {spec.segment_rows}, batch_records {spec.batch_records}, "
            f"sync_interval_s {spec.sync_interval_s}; the first two from 1 on, the last above 0 expected"
        )
    stop = StopFlag()
    names = counter_names(spec.inputs)
    counters = Counters.create(spec.instance, spec.worker, names, spec.reader_group)
    try:
        return Recorder(spec, counters, stop).run()
    finally:
        counters.close()


if __name__ == "__main__":
    run_worker(RecorderSpec, main)
