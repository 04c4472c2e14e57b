"""Every record leads back to the frame that it came from, and every frame on to its records.

The frame's entry in the .wslog names `(epoch, first_seq)` and how many records it became; `index.json` says which file to
look into. A row that was derived (features, books) is followed to the event that caused it first.
**Failure** A record that no entry names was published by the collector itself (a heartbeat); the entry before it is shown.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from collectors.wslog import Batch, WsLog, WsLogDamaged
from layouts import WSLOG_ENTRY, Entry, GapReason
from layouts.wslog import IN_HAND, STATUS_ABANDONED, STATUS_IN_HAND
from ops.wslog_index import rows_of
from shm.errors import AttachError, ConfigurationError
from shm.outlet import Reject
from shm.reader import open_reader
from shm.registry import parse_ring, ring_names

_CAUSES = (("source_epoch", "source_seq"), ("event_epoch", "event_seq"))
"""Columns by which layouts name the event that caused a record."""


class Traced(msgspec.Struct, kw_only=True):
    """One entry of a capture, and what it became."""

    ring: str
    seq: int | None
    """The record that was asked for."""
    is_its_frame: bool
    """False: no entry became that record; this is the one before it."""
    file: str
    entry_no: int
    entry: str
    status: str
    ts_recv: int
    connection: int
    epoch: int
    first_seq: int
    last_seq: int | None
    """None: it became no record, or its process died with it in hand."""
    records: int | None
    key: str
    text: str


def trace_record(instance: str, folder: Path, ring: str, seq: int, epoch: int | None) -> Traced:
    """Return the entry that a record came from.

    Args:
        instance: where the ring is, for rows that were derived.
        folder: of all collectors' captures.
        ring: `<worker>.<ring>`.
        seq: of the record.
        epoch: of the record; None: the newest in which that seq was published.

    Raises:
        ConfigurationError: nothing that is captured holds it.
    """
    worker, _, name = ring.partition(".")
    if name != "events":
        worker, epoch, seq = _cause(instance, ring, seq)
        ring = f"{worker}.events"
    rows = [
        (path, row)
        for path, row in rows_of(folder / worker)
        if row.first_seq <= seq < row.end_seq and epoch in (None, row.epoch)
    ]
    for path, row in sorted(rows, key=lambda each: (-each[1].epoch, each[1].part)):
        before: tuple[Batch, int] | None = None
        for batch in WsLog(path).batches():
            first = batch.entries["first_seq"]
            records = np.where(batch.entries["records"] == IN_HAND, 0, batch.entries["records"])
            hits = np.flatnonzero((first <= seq) & (seq < first + records))
            if len(hits):
                return _traced(ring, seq, True, path, batch, int(hits[0]))
            earlier = np.flatnonzero((first <= seq) & (records > 0))
            if len(earlier):
                before = batch, int(earlier[-1])
        if before is not None and seq < row.end_seq:
            return _traced(ring, seq, False, path, *before)
    raise ConfigurationError(_nothing(folder / worker, ring, seq, epoch))


def trace_entry(path: Path, entry_no: int) -> Traced:
    """Return one entry of a file by its number.

    Raises:
        ConfigurationError: the file has none of that number, or is no .wslog.
    """
    try:
        log = WsLog(path)
        for batch in log.batches():
            hits = np.flatnonzero(batch.entries["entry_no"] == entry_no)
            if len(hits):
                ring = f"{log.header.worker}.events"
                return _traced(ring, None, True, path, batch, int(hits[0]))
    except (WsLogDamaged, OSError) as error:
        raise ConfigurationError(f"trace: {error}") from None
    first, last = log.header.first_entry_no, log.scan.next_entry_no - 1
    raise ConfigurationError(f"{path}: no entry {entry_no}; it holds {first} to {last}")


def _cause(instance: str, ring: str, seq: int) -> tuple[str, int, int]:
    """Return worker, epoch and seq of the event that caused a derived record, from the ring that holds it."""
    try:
        with open_reader(parse_ring(ring, instance)) as reader:
            records, _ = reader.read_range(seq, seq + 1)
    except AttachError as error:
        raise ConfigurationError(f"trace {ring}: {error}") from None
    if not len(records):
        raise ConfigurationError(f"trace {ring} {seq}: the ring does not hold it any more, or yet")
    names = records.dtype.names or ()
    columns = next(((e, s) for e, s in _CAUSES if e in names and s in names), None)
    if columns is None:
        raise ConfigurationError(f"trace {ring}: its records name no event that caused them")
    epoch, cause = (int(records[column][0]) for column in columns)
    for name in ring_names(instance):
        if name.ring != "events":
            continue
        with open_reader(name) as reader:
            if epoch in [known for known, _ in reader.facts().epochs]:
                return name.worker, epoch, cause
    raise ConfigurationError(f"trace {ring} {seq}: no events ring has epoch {epoch} any more")


def _traced(
    ring: str, seq: int | None, is_its_frame: bool, path: Path, batch: Batch, at: int
) -> Traced:
    e = batch.entries[at]
    assert batch.entries.dtype == WSLOG_ENTRY
    begin = int(batch.offsets[at])
    key = batch.data[begin : begin + int(e["key_bytes"])]
    text = batch.data[begin + len(key) : begin + int(e["payload_bytes"])]
    records = None if e["records"] == IN_HAND else int(e["records"])
    first_seq = int(e["first_seq"])
    return Traced(
        ring=ring,
        seq=seq,
        is_its_frame=is_its_frame,
        file=str(path),
        entry_no=int(e["entry_no"]),
        entry=Entry(int(e["entry"])).name.lower(),
        status=_status(Entry(int(e["entry"])), int(e["status"])),
        ts_recv=int(e["ts_recv"]),
        connection=int(e["connection"]),
        epoch=int(e["epoch"]),
        first_seq=first_seq,
        last_seq=first_seq + records - 1 if records else None,
        records=records,
        key=key.decode(errors="replace"),
        text=text.decode(errors="replace"),
    )


def _status(entry: Entry, status: int) -> str:
    if entry == Entry.CLOSE:
        return GapReason(status).name.lower() if status else "by us"
    if entry not in (Entry.FRAME, Entry.TOO_LARGE):
        return ""
    known = {0: "decoded", STATUS_IN_HAND: "in hand", STATUS_ABANDONED: "abandoned"}
    return known.get(status) or Reject(status).name.lower()


def _nothing(folder: Path, ring: str, seq: int, epoch: int | None) -> str:
    held = [
        f"epoch {row.epoch}: {row.first_seq} to {row.end_seq - 1}" for _, row in rows_of(folder)
    ]
    what = f"trace {ring} {seq}" + (f" of epoch {epoch}" if epoch is not None else "")
    if not held:
        return f"{what}: nothing is captured in {folder}; set capture = true for that collector"
    return f"{what}: no captured frame became it; in {folder} there are {', '.join(held[-5:])}"


def as_rows(traced: Traced) -> list[tuple[str, Any]]:
    """Return what a person is shown before the text itself."""
    facts = msgspec.to_builtins(traced)
    return [(name, facts[name]) for name in Traced.__struct_fields__ if name != "text"]
