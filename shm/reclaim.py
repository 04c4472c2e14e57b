"""Regions of processes that are gone are retired, then removed, by exactly one of those who try.

**Protocol** Take the owner's `.lock`; write RETIRED, so that whoever has the ring mapped learns of it; unlink `.data`,
`.latest`, `.ctl`; unlink `.lock` last, while
it is still held: whoever waited for it finds that its name stands for another file.

**Failure** A live owner keeps its lock and so its regions. A cleaner that dies half-way leaves what the next one removes.
**Threads and processes** The supervisor, or a person's explicit command; nothing else unlinks.
"""

import contextlib

from shm import region as regions
from shm._native import ffi, lib
from shm.errors import AttachError, OwnershipError
from shm.header import check_data
from shm.lock import OwnerLock
from shm.region import RegionName
from shm.registry import files_of

_RING_FILES = ("data", "latest", "ctl", "stage")


def reclaim_ring(name: RegionName) -> bool:
    """Retire and remove a ring whose producer is gone; True for the one caller that did it.

    Raises:
        OwnershipError: its producer lives.
    """
    with OwnerLock(name.file("lock")):
        _retire(name.file("data"))
        _retire(name.file("latest"))
        removed = [regions.unlink(name.file(suffix)) for suffix in _RING_FILES]
        regions.unlink(name.file("lock"))
    return any(removed)


def reclaim_counters(file: str) -> bool:
    """Remove the counters region `file` of a worker that is gone; True for the one caller that did it.

    Raises:
        OwnershipError: that worker lives.
    """
    lock = f"{file}.lock"
    with OwnerLock(lock):
        removed = regions.unlink(file)
        regions.unlink(lock)
    return removed


def reclaim_instance(instance: str) -> list[str]:
    """Remove every ring and counters region of an instance; returns the files that a live owner keeps."""
    rings: set[RegionName] = set()
    counters: set[str] = set()
    for file in files_of(instance):
        parts = file.split(".")
        if len(parts) >= 4 and parts[3] == "counters":
            counters.add(".".join(parts[:4]))
        elif len(parts) == 5:
            rings.add(RegionName(*parts[1:4]))
    for name in rings:
        with contextlib.suppress(OwnershipError):
            reclaim_ring(name)
    for file in counters:
        with contextlib.suppress(OwnershipError):
            reclaim_counters(file)
    return [file for file in files_of(instance) if _is_region(file)]


def _is_region(file: str) -> bool:
    parts = file.split(".")
    return len(parts) == 5 or parts[-1] == "counters"


def _retire(file: str) -> None:
    try:
        region = regions.attach(file, writable=True)
    except AttachError:
        return
    try:
        check_data(region)
        producer = ffi.new("tr_producer *")
        lib.tr_producer_open(producer, region.pointer, ffi.NULL, 0)
        lib.tr_producer_set_state(producer, lib.TR_RETIRED)
    except AttachError:
        return
    finally:
        region.close()
