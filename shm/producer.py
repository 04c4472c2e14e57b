"""A producer creates its ring or takes it over after a crash, and publishes records that readers see whole or not at all.

**Protocol** `.lock` first; `.data` with O_EXCL, filled, magic last; `.ctl`; walk forward from head; a new epoch. The steps
of publish are in `native/ring.h`.

**Failure** Death releases the lock. The successor finds `.data`, proves its header and record layout, rewrites the slot
that was half-written and goes on with the next seq under a new epoch. A region without magic is re-made by the holder of
the lock, by nobody else. Other sizes or fields than configured are an error: only the supervisor removes regions.

**Threads and processes** One process, one thread. **Cost** `publish` from Python: one cffi call; bench_ring_python.
"""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from layouts import describe
from shm import region as regions
from shm._native import ffi, lib
from shm.clock import now_ns
from shm.epochs import take_epoch
from shm.errors import BackPressure, ConfigurationError, SequenceExhausted
from shm.header import RingFacts, data_view, facts_of
from shm.lifecycle import check_slots, fill_control, fill_data, open_control, open_data
from shm.lock import OwnerLock
from shm.process import own_identity
from shm.region import Region, RegionName


class Producer:
    """The one writer of a ring. Make it with `open_ring` or `open_private`."""

    def __init__(
        self,
        name: RegionName,
        dtype: np.dtype,
        data: Region,
        control: Region | None,
        lock: OwnerLock | None,
        timeout_s: float,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.data_region = data
        self.control_region = control
        self._lock = lock
        self.header = data_view(data)
        self.handle = ffi.new("tr_producer *")
        """The cffi `tr_producer *` that C code publishes through."""
        pointer = control.pointer if control else ffi.NULL
        lib.tr_producer_open(self.handle, data.pointer, pointer, int(timeout_s * 1e9))
        self.previous_epoch = int(self.header.epoch)
        self.epoch = 0
        self.slot = np.zeros(1, dtype)
        """One record of the ring's dtype to fill in; `publish_slot` publishes it without converting a pointer."""
        self._publish_slot = partial(
            lib.tr_publish, self.handle, ffi.cast("void *", self.slot.ctypes.data)
        )
        self.is_kept_in_memory = data.keep_in_memory()
        """True where the locked-memory limit let the ring's pages be locked."""

    @property
    def next_seq(self) -> int:
        """Seq of the record that is published next."""
        return int(self.handle.next)

    @property
    def is_restart(self) -> bool:
        """True when an earlier incarnation has published into this ring: the first record has to be RESTART."""
        return self.previous_epoch > 0

    def begin(self, epoch: int) -> None:
        """Take `epoch`, which must be larger than every earlier one, and go LIVE."""
        pid, started = own_identity()
        if lib.tr_producer_take_epoch(self.handle, epoch, pid, started, now_ns()) < 0:
            raise ConfigurationError(
                f"ring {self.name}: epoch {epoch} is not larger than {self.header.epoch}, the ring's last; "
                "the instance's epoch counter went back: restore it or remove the ring"
            )
        self.epoch = epoch

    def publish_slot(self) -> int:
        """Publish what `slot` holds and return its seq: the cheapest call from Python, for one record at a time."""
        seq: int = self._publish_slot()
        return seq if seq > 0 else self._refused(seq)

    def publish(self, record: Any) -> int:
        """Publish one record as it is and return its seq.

        Args:
            record: anything contiguous with one record's bytes (a 1-element array of the ring's dtype, bytes).
        """
        pointer = ffi.from_buffer(record)
        if len(pointer) != self.dtype.itemsize:
            raise TypeError(
                f"ring {self.name}: {len(pointer)} bytes given, a record has {self.dtype.itemsize}"
            )
        seq: int = lib.tr_publish(self.handle, pointer)
        return seq if seq > 0 else self._refused(seq)

    def publish_batch(self, records: np.ndarray) -> int:
        """Publish a contiguous array of the ring's dtype; returns the first seq.

        `publish_delta_ns` of each record is filled in, in the given array too. When it raises, the records
        before `next_seq` are published.
        """
        if records.dtype != self.dtype:
            raise TypeError(
                f"ring {self.name}: records of {self.dtype.itemsize} bytes expected, {records.dtype} given"
            )
        pointer = ffi.from_buffer(records, require_writable=True)
        seq: int = lib.tr_publish_batch(self.handle, pointer, len(records))
        return seq if seq > 0 else self._refused(seq)

    def room(self) -> int:
        """Return how many records may be published now without waiting ("wait" mode)."""
        return int(lib.tr_room(self.handle))

    def heartbeat(self) -> None:
        """Show that the producer lives; a few times a second."""
        lib.tr_producer_heartbeat(self.handle, now_ns())

    def facts(self) -> RingFacts:
        """Return what the header says now."""
        return facts_of(self.header)

    def stop(self) -> None:
        """Say that nothing more comes: consumers read to the end and finish. The ring stays, for readers and a successor."""
        lib.tr_producer_set_state(self.handle, lib.TR_STOPPED)

    def retire(self) -> None:
        """Give the ring up for good; the supervisor unlinks it afterwards."""
        lib.tr_producer_set_state(self.handle, lib.TR_RETIRED)

    def close(self) -> None:
        """Unmap and release the ownership; the regions stay. Nothing may be published through `handle` any more."""
        self._publish_slot = partial(_closed, str(self.name))
        self.handle = None
        self.data_region.close()
        if self.control_region:
            self.control_region.close()
        if self._lock:
            self._lock.release()

    def _refused(self, answer: int) -> NoReturn:
        if answer == lib.TR_WOULD_BLOCK:
            raise BackPressure(
                f"ring {self.name}: no room for seq {self.next_seq} within {self.handle.timeout_ns / 1e9:g} s; "
                "a required consumer is missing, dead or slow (tickring ring details)"
            )
        if answer == lib.TR_SEQ_EXHAUSTED:
            raise SequenceExhausted(
                f"ring {self.name}: seq {self.next_seq} is the first that is refused; make a new ring"
            )
        raise ValueError(f"ring {self.name}: the call was refused ({answer})")


def _closed(ring: str) -> NoReturn:
    raise ValueError(f"ring {ring}: this producer is closed")


def open_ring(
    name: RegionName,
    dtype: np.dtype,
    slots: int,
    state_dir: str | Path,
    mode: str = "overwrite",
    epoch: int | None = None,
    first_seq: int = 1,
    required: Sequence[str] = (),
    reader_group: int = -1,
    consumer_group: int = -1,
    timeout_s: float = 10.0,
) -> Producer:
    """Create the ring, or take it over from a producer that is gone, and begin a new epoch.

    Args:
        name: from `ring_name`.
        dtype: a layout.
        slots: capacity in records, a power of two.
        state_dir: where the instance's epoch counter is.
        mode: "overwrite" or "wait".
        epoch: begin this epoch (a worker with several rings uses one for all); None: take the next.
        first_seq: seq of a new ring's first record.
        required: consumers without which a "wait" ring publishes nothing.
        reader_group: group id that may read `.data`; -1: none.
        consumer_group: group id that may write `.ctl`; -1: none.
        timeout_s: how long publish waits for room ("wait" mode).

    Raises:
        OwnershipError: a live producer owns it. NoSpace: /dev/shm is full. ConfigurationError: it exists with
        another size or mode. WrongAbi: it exists with other fields.
    """
    check_slots(slots, f"ring {name}")
    with ExitStack() as undo:
        lock = OwnerLock(name.file("lock"))
        undo.callback(lock.release)
        data = open_data(name, dtype, slots, mode, first_seq, reader_group)
        undo.callback(data.close)
        identity = bytes(ffi.buffer(data_view(data).ring_uuid))
        control = open_control(name, identity, required, consumer_group)
        undo.callback(control.close)
        producer = Producer(name, dtype, data, control, lock, timeout_s)
        producer.begin(take_epoch(state_dir) if epoch is None else epoch)
        undo.pop_all()
    return producer


def open_latest(
    name: RegionName, dtype: np.dtype, instruments: int, epoch: int, reader_group: int = -1
) -> Producer:
    """Create or take over the `.latest` region of a ring: one slot per instrument. The caller owns the ring's lock."""
    slots = 1 << max(1, (instruments - 1).bit_length())
    data = open_data(name, dtype, slots, "latest", 1, reader_group, suffix="latest")
    with ExitStack() as undo:
        undo.callback(data.close)
        producer = Producer(name, dtype, data, None, None, 0.0)
        if epoch > producer.previous_epoch:
            producer.begin(epoch)
        undo.pop_all()
    return producer


def open_private(
    label: str,
    dtype: np.dtype,
    slots: int,
    required: Sequence[str],
    first_seq: int = 1,
    timeout_s: float = 10.0,
) -> tuple[Producer, int, int]:
    """Make a nameless "wait" ring for replay; returns its producer and the descriptors of `.data` and `.ctl`."""
    check_slots(slots, f"private ring {label}")
    description = describe(dtype).encode()
    n_bytes = lib.tr_data_bytes(dtype.itemsize, slots, len(description))
    data, data_fd = regions.create_memfd(f"tickring.{label}.data", n_bytes)
    identity = uuid.uuid4().bytes
    fill_data(data, dtype, slots, "wait", identity, first_seq)
    control, control_fd = regions.create_memfd(f"tickring.{label}.ctl", lib.tr_control_bytes())
    fill_control(control, identity, required)
    name = RegionName("replay", label, "events")
    producer = Producer(name, dtype, data, control, None, timeout_s)
    producer.begin(1)
    return producer, data_fd, control_fd
