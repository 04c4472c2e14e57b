"""A worker's inputs: joined by name as they come, polled in batches of one epoch, every loss told once, drained to the end.

    inputs = InputSet(instance, ["kraken.events"], consumer="fanout", counters=counters)
    inputs.join(stop)                               takes what is there; the others follow in `beat`
    while not (stop.is_set and inputs.drained()):
        inputs.wait(0.1)
        for source in inputs:                       those that are joined, in the order of their names
            n = source.poll()                       n records of one epoch in source.records[:n], the first is source.first_seq
            if n == LOST: ...                       source.lost_from .. source.lost_to were overwritten; poll again
            ...                                     do the work, make it durable, then
            source.commit(seq)                      the seq that a restart begins with
        inputs.beat()

**Protocol** A cursor is committed only after what was read before it is durable; a killed worker therefore reads
again what it had not committed and suppresses repeats at its output by `(epoch, seq)`. `drained` takes the heads
as they stand when it is first asked: all that a stopped producer wrote is before its head.

**Failure** A ring that is not there, because what makes it fails or is not up yet, holds up nobody: `join` waits PATIENCE_S
for it (longer only for one that the worker needs), `beat` joins it when it comes, from its oldest record; until then the
counter `in.<ring>.here` is 0, which `tickring status` tells. An input keeps its number, `Input.index`, its place among
the names: what was written with fewer inputs joined stays true when more are. A ring that was retired and made anew is
joined again from its oldest record once the old one is read to its end: `source.incarnation` counts that, because a state
built from the old ring says nothing about the new one.

**Cost** `poll` and an uneventful `wait`: one foreign call each and no allocation.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import structlog

from layouts import LAYOUTS, describe
from shm import region as regions
from shm._native import ffi, lib
from shm.clock import monotonic_ns
from shm.consumer import FROM_OLDEST, Consumer, join
from shm.counters import Counters
from shm.errors import ConfigurationError, NoMagic, NoRing, Retired
from shm.header import check_data, dtype_of
from shm.region import RegionName
from shm.registry import parse_ring

LOST = -1
BATCH_RECORDS = 1024
SPIN_US = 20.0
PINNED_SPIN_US = 1e9
"""Longer than any wait: who has a core to itself never sleeps."""
_BEAT_NS = 250_000_000
_RENEW_NS = 1_000_000_000
_JOIN_NAP_S = 0.02
PATIENCE_S = 2.0
"""Rings of one start come within this time, so that nothing has to be joined late."""
_TELL_AFTER_NS = 5_000_000_000
_NO_END = (1 << 62) - 1
_KNOWN = {describe(dtype): dtype for dtype in LAYOUTS.values()}


class Stoppable(Protocol):
    """What tells a worker to stop: `shm.worker.StopFlag`, or a test's own."""

    is_set: bool


class Input:
    """One ring that a worker reads. Made by `InputSet`."""

    def __init__(
        self, consumer: Consumer, name: str, owner: str, batch_records: int, index: int
    ) -> None:
        self.name = name
        self.index = index
        """Place among the worker's inputs, joined or not."""
        self._owner = owner
        self.consumer = consumer
        self.records = np.empty(batch_records, consumer.dtype)
        """Where `poll` puts a batch; overwritten by the next one."""
        self.first_seq = consumer.next_seq
        """Seq of `records[0]` of the last batch."""
        self.epoch = 0
        """Epoch of every record of the last batch."""
        self.lost_from = self.lost_to = 0
        self.incarnation = 0
        """How often the ring was made anew under this worker's eyes."""
        self._target = ffi.cast("void *", self.records.ctypes.data)
        self._capacity = batch_records
        self._header = consumer.header
        self._handle = consumer.handle
        self._epochs_taken = -1
        self._epoch_end = 0
        self._given = self._kept = 0
        self._end_seq = _NO_END

    @property
    def uuid(self) -> str:
        """The ring's identity, 32 hexadecimal digits."""
        return self.consumer.facts().uuid

    @property
    def next_seq(self) -> int:
        """Seq of the first record that `poll` has not given yet."""
        return int(self._handle.next) - self._kept

    def poll(self, limit: int = _NO_END) -> int:
        """Copy the next records of one epoch, at most `limit`, into `records`; return how many, or LOST after moving on
        over a loss.
        """
        if self._kept:
            return self._give_kept(limit)
        most = self._capacity if limit == _NO_END else min(self._capacity, limit)
        n: int = lib.tr_poll_batch(self._handle, self._target, most)
        if n == LOST:
            self.lost_from, self.lost_to = int(self._handle.lost_from), int(self._handle.lost_to)
            return LOST
        end = self._handle.next
        self.first_seq = end - n
        # Epochs are recorded before their first record is published, so this look, after the poll, sees them.
        if self._header.epochs_taken != self._epochs_taken:
            self._epochs_taken, self._epoch_end = int(self._header.epochs_taken), 0
        return n if end <= self._epoch_end else self._split(n)

    def epoch_of(self, seq: int) -> int:
        """Return the epoch that `seq` was published in, 0 where the header no longer tells."""
        return self._epoch_at(seq)[0]

    def commit(self, seq: int | None = None) -> None:
        """Store the seq to restart from (default: after all that `poll` has given)."""
        self.consumer.commit(self.next_seq if seq is None else seq)

    def resume(self, seq: int, lapped: int) -> None:
        """Read from `seq` on, as a checkpoint says, which also tells how many records had been lost by then."""
        self.consumer.resume(seq, lapped)
        self.first_seq, self._kept, self._epochs_taken = seq, 0, -1

    def renew(self) -> bool:
        """Join the ring's successor when this one was replaced and is read to its end; True: that was done."""
        old = self.consumer
        if (
            self._kept
            or old.lag
            or regions.inode_of(old.name.file("data")) in (0, old.region.inode)
        ):
            return False
        try:
            fresh = join(old.name, self._owner, old.dtype)
        except (NoRing, NoMagic, Retired):
            return False
        old.close()
        self.consumer, self._handle, self._header = fresh, fresh.handle, fresh.header
        self._epochs_taken = -1
        self.incarnation += 1
        return True

    def mark_end(self) -> None:
        """Take the head as it stands for the end of this input."""
        self._end_seq = int(lib.tr_head(self._handle))

    def at_end(self) -> bool:
        """All records before the end that `mark_end` took have been given."""
        return self.next_seq >= self._end_seq

    def _split(self, n: int, limit: int = _NO_END) -> int:
        """Give the part of a batch of `n` records that is of one epoch, at most `limit`; the rest waits for the next poll."""
        self.epoch, self._epoch_end = self._epoch_at(self.first_seq)
        self._given = min(n, limit, self._epoch_end - self.first_seq)
        self._kept = n - self._given
        return self._given

    def _give_kept(self, limit: int) -> int:
        n = self._kept
        self.records[:n] = self.records[self._given : self._given + n].copy()
        self.first_seq = int(self._handle.next) - n
        return self._split(n, limit)

    def _epoch_at(self, seq: int) -> tuple[int, int]:
        """Return the epoch of `seq` and the first seq after that epoch; epoch 0 where the header no longer tells."""
        epoch, end = 0, _NO_END
        for later, first in reversed(self.consumer.facts().epochs):
            if first <= seq:
                epoch = later
                break
            end = first
        return epoch, end


class InputSet:
    """All inputs of one worker."""

    def __init__(
        self,
        instance: str,
        rings: Sequence[str],
        consumer: str,
        counters: Counters | None = None,
        batch_records: int = BATCH_RECORDS,
        spin_us: float = SPIN_US,
        start: int = FROM_OLDEST,
    ) -> None:
        """Name the inputs; `join` makes them.

        Args:
            instance: the instance whose rings they are.
            rings: public names, `<worker>.<ring>`.
            consumer: the name that the cursors are kept under (the worker's own).
            counters: holds `input_counters(rings)`; beats and tallies go there.
            batch_records: most records that one poll gives.
            spin_us: how long `wait` spins before it yields and sleeps; a pinned worker takes the whole wait.
            start: where a consumer that the ring has never seen begins.
        """
        if not rings or len(set(rings)) != len(rings):
            raise ConfigurationError(
                f"inputs {list(rings)} of {consumer}: one or more different rings expected"
            )
        self._instance, self.rings, self._consumer = instance, tuple(rings), consumer
        self._counters, self._batch, self._start = counters, batch_records, start
        self._spin_ns = int(spin_us * 1e3)
        self._inputs: list[Input] = []
        self._by_index: dict[int, Input] = {}
        self._beat_at = self._renew_at = 0
        self._draining = False

    def __iter__(self) -> Iterator[Input]:
        return iter(self._inputs)

    def __getitem__(self, index: int) -> Input:
        """Return the input of this number. Raises KeyError where it is not joined."""
        return self._by_index[index]

    @property
    def missing(self) -> list[str]:
        """Names of the rings that are not joined yet."""
        return [ring for i, ring in enumerate(self.rings) if i not in self._by_index]

    def join(
        self,
        stop: Stoppable | None = None,
        timeout_s: float = float("inf"),
        needed: Sequence[str] = (),
        patience_s: float = PATIENCE_S,
    ) -> bool:
        """Join the rings, giving those that are not there yet `patience_s`; False: told to stop, or out of time, before.

        Args:
            stop: tells to stop.
            timeout_s: when to give up.
            needed: rings without which there is no use in going on: waited for as long as it takes.
            patience_s: how long to wait for the others.

        Raises:
            AttachError: a ring is there and cannot be used. OwnershipError: the consumer's name is taken.
        """
        began, told = monotonic_ns(), False
        while missing := self._join_missing():
            waited_ns = monotonic_ns() - began
            holding_up = [ring for ring in missing if ring in needed]
            if waited_ns >= patience_s * 1e9 and not holding_up:
                break
            if (stop is not None and stop.is_set) or waited_ns > timeout_s * 1e9:
                return False
            if waited_ns > _TELL_AFTER_NS and not told:
                structlog.get_logger().info("waiting for input rings", rings=holding_up)
                told = True
                if self._counters is not None:
                    self._counters.set_state("JOINING")
            self._beat_counters()
            time.sleep(_JOIN_NAP_S)
        if missing:
            structlog.get_logger().warning("begun without input rings; joined later", rings=missing)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Return True as soon as an input has something to poll, False after `timeout_s`. Releases the GIL."""
        for source in self._inputs:
            if source._kept:
                return True
        if not self._inputs:
            time.sleep(timeout_s)
            return False
        timeout_ns = int(timeout_s * 1e9)
        return bool(
            lib.tr_wait_many(
                self._readers,
                self._controls,
                self._entries,
                len(self._inputs),
                self._spin_ns,
                timeout_ns,
            )
        )

    def beat(self) -> bool:
        """Show life where it is due (4/s), tally the inputs, join what has come; True when it was due. Call it once a turn."""
        now = monotonic_ns()
        if now < self._beat_at:
            return False
        self._beat_at = now + _BEAT_NS
        if len(self._inputs) < len(self.rings) and not self._draining:
            self._join_missing()
        self._beat_counters()
        if now >= self._renew_at:
            self._renew_at = now + _RENEW_NS
            renewed = [source.renew() for source in self._inputs]
            if any(renewed):
                self._remember_handles()
        return True

    def drained(self) -> bool:
        """Every input was read up to where its head stood at the first call of this."""
        if not self._draining:
            self._join_missing()
            self._draining = True
            self._beat_at = 0  # whoever follows new inputs in `beat` does so at once
            for source in self._inputs:
                source.mark_end()
        return all(source.at_end() for source in self._inputs)

    def detach(self) -> None:
        """Leave every ring in good order, cursors kept for the next process of this name."""
        self._beat_counters()
        for source in self._inputs:
            source.consumer.detach()

    def close(self) -> None:
        """Unmap every ring."""
        for source in self._inputs:
            source.consumer.close()
        self._inputs.clear()
        self._by_index.clear()

    def _join_missing(self) -> list[str]:
        """Join what is there and return the names of the rings that are not."""
        for i, ring in enumerate(self.rings):
            if i in self._by_index:
                continue
            try:
                consumer = self._join(parse_ring(ring, self._instance))
            except (NoRing, NoMagic, Retired):
                continue
            self._by_index[i] = Input(consumer, ring, self._consumer, self._batch, i)
            self._inputs = [self._by_index[each] for each in sorted(self._by_index)]
            self._remember_handles()
        return self.missing

    def _join(self, name: RegionName) -> Consumer:
        region = regions.attach(name.file("data"))
        try:
            text = check_data(region, allow_retired=False).description
        finally:
            region.close()
        return join(name, self._consumer, _KNOWN.get(text, dtype_of(text)), self._start)

    def _remember_handles(self) -> None:
        consumers = [source.consumer for source in self._inputs]
        self._readers = ffi.new("tr_reader *[]", [c.handle for c in consumers])
        self._controls = ffi.new(
            "void *[]", [ffi.cast("void *", c.control_region.pointer) for c in consumers]
        )
        self._entries = ffi.new("int64_t[]", [c.entry for c in consumers])

    def _beat_counters(self) -> None:
        if self._counters is None:
            return
        for source in self._inputs:
            self._counters.set(f"in.{source.name}.here", 1)
            self._counters.set(f"in.{source.name}.seq", source.next_seq - 1)
            self._counters.set(f"in.{source.name}.lost", source.consumer.lapped)
        self._counters.heartbeat()


def spin_us_of(cpu: int) -> float:
    """Return how long a worker spins for a record: always where it was pinned to `cpu`, else SPIN_US before it sleeps."""
    return PINNED_SPIN_US if os.sched_getaffinity(0) == {cpu} else SPIN_US


def input_counters(rings: Sequence[str]) -> list[str]:
    """Return the counters that a worker with these inputs keeps of each: is it here, the last seq read, records lost."""
    return [f"in.{ring}.{what}" for ring in rings for what in ("here", "seq", "lost")]
