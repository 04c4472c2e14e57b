"""What an instance takes of memory: its rings in /dev/shm, known before they are made, and each worker's own pages.

**Why it is right** Rings are tmpfs files, billed once however many processes map them; a worker's own memory is RssAnon and
RssFile of its /proc/<pid>/status, in which shared memory (RssShmem) does not count.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from layouts import (
    BAR,
    BOOK,
    CONTROL,
    EVENT,
    EXPOSURE,
    FEATURES,
    INSTRUMENT,
    ORDER,
    POSITION,
    RISK_DECISION,
    describe,
)
from layouts.own import OWN_RING
from ops.child import child_environment
from ops.options import CONTROL_SLOTS, OwnOptions, Topology
from ops.status import read_children
from shm._native import lib
from shm.errors import AttachError, NoSpace
from shm.region import SHM_DIRECTORY
from shm.registry import files_of, read_instance

LIMIT_BYTES = 48 << 20
"""What the rings of the default topology may take: many containers give /dev/shm 64 MiB."""
SMALL_BYTES = 2 << 20
"""Room for what is small and not in the table: counters, locks, sockets, the run description."""
OWN_RECORD = (256, 1024)
OWN_TIMEOUT_S = 30.0
_DESCRIBE = """
import sys
from consumers.own import find_consumer
from layouts import describe
output = find_consumer(*sys.argv[1:]).output
print(output.itemsize, len(describe(output)))
"""


class RingRow(NamedTuple):
    """One ring: `n_bytes` with its headers and its control region."""

    ring: str
    layout: str
    slots: int
    n_bytes: int


class Room(NamedTuple):
    """Whether the rings fit."""

    needed_bytes: int
    free_bytes: int


class ProcessRow(NamedTuple):
    """One process' own memory, in bytes."""

    worker: str
    pid: int
    rss_anon_bytes: int
    rss_file_bytes: int
    rss_shmem_bytes: int


def ring_rows(topology: Topology) -> list[RingRow]:
    """Return the rings that a topology will make."""
    rows = []
    for name, c in topology.running_collectors.items():
        latest = 1 << max(1, (c.instrument_ids - 1).bit_length())
        rows += [
            _row(f"{name}.events", "event", EVENT, c.event_slots),
            _row(f"{name}.books", "book", BOOK, c.book_slots),
            _row(f"{name}.books (latest)", "book", BOOK, latest),
            _row(f"{name}.instruments", "instrument", INSTRUMENT, c.instrument_slots),
        ]
        if c.capture:
            n_bytes = int(lib.TR_STAGE_HEAD_BYTES) + topology.capture.buffer_bytes
            rows.append(RingRow(f"{name} (capture)", "frames", 0, n_bytes))
    if topology.features.enabled:
        rows.append(_row("features.features", "features", FEATURES, topology.features.slots))
    if topology.bars.enabled:
        rows.append(_row("bars.bars", "bar", BAR, topology.bars.slots))
    if topology.orders.enabled:
        rows.append(_row("orders.orders", "order", ORDER, topology.orders.slots))
    if topology.risk.enabled:
        rows.append(_row("control.control", "control", CONTROL, CONTROL_SLOTS))
        rows.append(_row("risk.decisions", "risk_decision", RISK_DECISION, topology.risk.slots))
    if topology.pnl.enabled:
        rows.append(_row("pnl.positions", "position", POSITION, topology.pnl.slots))
    if topology.exposure.enabled:
        slots = topology.exposure.slots
        rows.append(_row("exposure.exposures", "exposure", EXPOSURE, slots))
    rows += [
        _sized(f"{name}.{OWN_RING}", name, *own_record(own), own.slots)
        for name, own in topology.consumers.items()
        if own.enabled
    ]
    return rows


def own_record(own: OwnOptions) -> tuple[int, int]:
    """Return the bytes of a row of one's own consumer, and those of its description.

    Its module is imported in a process of its own: it may do anything. Where it cannot be imported the worker will say why;
    until then its rows are counted with OWN_RECORD.
    """
    command = [sys.executable, "-P", "-c", _DESCRIBE, own.consumer, own.folder]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=child_environment(),
            timeout=OWN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return OWN_RECORD
    if done.returncode:
        return OWN_RECORD
    stride, description = done.stdout.split()[-2:]
    return int(stride), int(description)


def room(topology: Topology) -> Room:
    """Return what the rings need in /dev/shm beside what is there already, and what is free."""
    needed = sum(row.n_bytes for row in ring_rows(topology)) + SMALL_BYTES
    there = sum(_file_bytes(file) for file in files_of(topology.instance))
    state = os.statvfs(SHM_DIRECTORY)
    return Room(max(0, needed - there), state.f_bavail * state.f_frsize)


def check_room(topology: Topology) -> None:
    """Refuse to start where /dev/shm cannot hold the rings.

    Raises:
        NoSpace: what is needed, what is free, what to do.
    """
    needed_bytes, free_bytes = room(topology)
    if needed_bytes > free_bytes:
        raise NoSpace(
            f"{SHM_DIRECTORY} has {free_bytes / 2**20:.1f} MiB free and the rings of instance {topology.instance!r} need "
            f"{needed_bytes / 2**20:.1f} MiB; enlarge it (mount -o remount,size=256m {SHM_DIRECTORY}; in a "
            "container --shm-size=256m), remove what a dead run left (`tickring down`), or lower the slots in the TOML"
        )


def process_row(worker: str, pid: int) -> ProcessRow | None:
    """Return the memory of a process; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def read(key: str) -> int:
        return int(fields.get(key, "0 kB").split()[0]) * 1024

    return ProcessRow(worker, pid, read("RssAnon"), read("RssFile"), read("RssShmem"))


def _row(ring: str, layout: str, dtype: np.dtype, slots: int) -> RingRow:
    return _sized(ring, layout, dtype.itemsize, len(describe(dtype)), slots)


def _sized(ring: str, layout: str, stride: int, description_bytes: int, slots: int) -> RingRow:
    n_bytes = int(lib.tr_data_bytes(stride, slots, description_bytes))
    if not ring.endswith(")"):
        n_bytes += int(lib.tr_control_bytes())
    return RingRow(ring, layout, slots, n_bytes)


def _file_bytes(file: str) -> int:
    try:
        return os.stat(f"{SHM_DIRECTORY}/{file}").st_blocks * 512
    except FileNotFoundError:
        return 0


def process_rows(instance: str) -> list[ProcessRow]:
    """Return the memory of each running worker of an instance, and of its supervisor."""
    try:
        found = read_instance(instance)
    except AttachError:
        return []
    pids = {name: facts.pid for name, facts in read_children(found).items() if facts.pid}
    rows = [process_row(name, pid) for name, pid in {"supervisor": found.pid, **pids}.items()]
    return [row for row in rows if row is not None]
