"""What a killed collector had captured and not yet written is in its staging region, and goes to its last file, once.

**Why it is right** Entries carry their numbers: those that the file holds already are left out, whatever the killed process
had got to. The region says from where on the file has to be looked through (`safe_at`): one write, not an hour of frames.
**Failure** A salvage that is killed is done again by the next; the region is removed last.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from collectors.wslog import SUFFIX, Scan, WsLogDamaged, pack_entry, part_of, read_header
from layouts import Entry
from shm import clock
from shm import region as regions
from shm._native import ffi, lib
from shm.durable import write_all
from shm.errors import AttachError
from shm.region import PREFIX

_FRAMES = (Entry.FRAME, Entry.TOO_LARGE)


class Salvaged(NamedTuple):
    """What became of a killed process' capture: frames kept and lost since the instance is up."""

    frames: int
    frames_lost: int
    entries_written: int
    error: str


def stage_file(instance: str, worker: str) -> str:
    """Return the name of a collector's staging region."""
    return f"{PREFIX}.{instance}.{worker}.wslog.stage"


def salvage(instance: str, worker: str) -> Salvaged | None:
    """Finish the last file of a collector that is gone; None: it left nothing. The caller owns the worker's lock."""
    file = stage_file(instance, worker)
    try:
        region = regions.attach(file, writable=True, least_bytes=int(lib.TR_STAGE_HEAD_BYTES))
    except AttachError:
        return None
    stage = ffi.new("tr_stage *")
    lib.tr_stage_attach(stage, region.pointer)
    found = None
    if stage.head != ffi.NULL:
        lib.tr_stage_mend(stage)
        staged = _staged(stage.head, region)
        written, missing, error = _finish(stage.head, staged)
        lost = int(stage.head.frames_lost) + missing
        found = Salvaged(int(stage.head.frames) - lost, lost, written, error)
    region.close()
    regions.unlink(file)
    return found


def _staged(head: Any, region: regions.Region) -> list[tuple[int, int, bytes]]:
    """Return (entry_no, entry, bytes) of all entries in the halves, in order."""
    raw = bytes(ffi.buffer(region.pointer))
    found = []
    for half in (0, 1):
        at = lib.TR_STAGE_HEAD_BYTES + half * int(head.half_bytes)
        for batch in Scan().feed(raw[at : at + int(head.used[half])]):
            ends = [*(batch.offsets[1:] - 64).tolist(), None]
            for number, entry, begin, end in zip(
                batch.entries["entry_no"].tolist(),
                batch.entries["entry"].tolist(),
                batch.offsets.tolist(),
                ends,
                strict=True,
            ):
                found.append((number, entry, batch.data[begin - 64 : end]))
    return sorted(found)


def _finish(head: Any, staged: list[tuple[int, int, bytes]]) -> tuple[int, int, str]:
    """Append what the last file lacks, and END; returns entries written, frames that are in no file, and the error."""
    folder = Path(ffi.string(head.path).decode())
    epoch = int(head.epoch)
    files = {part: p for p in folder.glob(f"*{SUFFIX}") for e, part in [part_of(p)] if e == epoch}
    frames = sum(entry in _FRAMES for _, entry, _ in staged)
    if not files:
        return 0, frames, f"no file of epoch {epoch} in {folder}"
    path = files[max(files)]
    try:
        with path.open("r+b") as log:
            header, begin = read_header(log, path)
            safe = int(head.safe_at) if int(head.safe_part) == header.part else begin
            log.seek(safe)
            scan = Scan(header.first_entry_no if safe == begin else 0)
            tail = log.read()
            for _ in scan.feed(tail):
                pass
            log.truncate(safe + len(tail) - len(scan.rest))
            log.seek(0, os.SEEK_END)
            wanted = [each for each in staged if each[0] >= scan.next_entry_no]
            end_no = int(head.next_entry_no)
            end = pack_entry(Entry.END, end_no, epoch, header.first_seq, clock.now_ns())
            parts = [raw for *_, raw in wanted] + ([] if scan.ended else [end])
            write_all(log.fileno(), [b"".join(parts)])
            os.fdatasync(log.fileno())
    except (OSError, WsLogDamaged) as error:
        return 0, frames, str(error)
    have = (scan.next_entry_no - 1) + len(wanted) if scan.next_entry_no else len(wanted)
    return len(wanted), max(0, end_no - 1 - have), ""
