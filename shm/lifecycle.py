"""The files of a ring are made whole or taken over whole, by the holder of its lock alone.

**Protocol** O_EXCL and the whole length first, then every word, then the magic; `.data` before `.ctl`. A file without magic
belongs to a maker that died, and the holder of the lock makes it anew; one with another magic, size or record is an error for a
person to decide. **See** shm.reclaim for their removal.

**Failure** A crash at any step leaves a state that the next holder of the lock brings to the same end.
"""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from layouts import abi_hash, describe
from shm import region as regions
from shm._native import lib
from shm.clock import now_ns
from shm.errors import ConfigurationError, NoMagic, NoRing
from shm.header import MODES, check_control, check_data, control_uuid, is_blank
from shm.process import boot_id
from shm.region import Region, RegionName


def check_slots(slots: int, what: str) -> int:
    """Return `slots` if it is a power of two from 2 to 2**40."""
    if not 2 <= slots <= 1 << 40 or slots & (slots - 1):
        raise ConfigurationError(
            f"{what}: {slots} slots; a power of two from 2 to 2**40 is needed, e.g. {1 << min(slots.bit_length(), 40)}"
        )
    return slots


def open_data(
    name: RegionName,
    dtype: np.dtype,
    slots: int,
    mode: str,
    first_seq: int,
    group: int,
    suffix: str = "data",
) -> Region:
    """Return the ring's `.data` (or `.latest`), made or taken over; the caller holds the ring's lock."""
    file = name.file(suffix)
    region = _attach_unless_blank(file)
    if region is None:
        return _make_data(file, dtype, slots, mode, first_seq, group)
    with ExitStack() as undo:
        undo.callback(region.close)
        facts = check_data(region)
        if facts.state != "RETIRED":
            check_data(region, dtype)
            if (facts.slots, facts.mode) != (slots, mode):
                raise ConfigurationError(
                    f"ring {name} exists with {facts.slots} slots in mode {facts.mode!r}, {slots} in mode {mode!r} are "
                    "configured; `tickring down` removes it"
                )
            undo.pop_all()
            return region
    regions.unlink(file)
    return _make_data(file, dtype, slots, mode, first_seq, group)


def _attach_unless_blank(file: str) -> Region | None:
    """Attach for writing; None, and the name free, where there is nothing or what a dead maker left without magic.

    Only the holder of the ring's lock comes here, so a blank region has no living maker.
    """
    try:
        region = regions.attach(file, writable=True)
    except NoRing:
        return None
    except NoMagic:
        regions.unlink(file)
        return None
    if is_blank(region):
        region.close()
        regions.unlink(file)
        return None
    return region


def _make_data(
    file: str, dtype: np.dtype, slots: int, mode: str, first_seq: int, group: int
) -> Region:
    n_bytes = lib.tr_data_bytes(dtype.itemsize, slots, len(describe(dtype)))
    region = regions.create(file, n_bytes, regions.DATA_MODE, group)
    fill_data(region, dtype, slots, mode, uuid.uuid4().bytes, first_seq)
    return region


def fill_data(
    region: Region, dtype: np.dtype, slots: int, mode: str, identity: bytes, first_seq: int
) -> None:
    """Write every word of a fresh `.data` region, the magic last."""
    description = describe(dtype).encode()
    status = lib.tr_data_init(
        region.pointer,
        dtype.itemsize,
        slots,
        MODES[mode],
        description,
        len(description),
        abi_hash(dtype),
        identity,
        boot_id(),
        now_ns(),
        first_seq,
    )
    if status < 0:
        raise ConfigurationError(
            f"region {region.file}: {slots} slots of {dtype.itemsize} bytes from seq {first_seq} on are refused; "
            "slots is a power of two, a record a multiple of 64 bytes, seq from 1 to 2**61 - 1"
        )
    lib.tr_data_commit(region.pointer)


def open_control(name: RegionName, identity: bytes, required: Sequence[str], group: int) -> Region:
    """Return the ring's `.ctl`, made or taken over; the caller holds the ring's lock."""
    file = name.file("ctl")
    region = _attach_unless_blank(file)
    if region is not None:
        with ExitStack() as undo:
            undo.callback(region.close)
            if control_uuid(region) == identity.hex():
                check_control(region, identity.hex())
                undo.pop_all()
                return region
        regions.unlink(file)  # it belongs to a ring that was removed
    mode = regions.PRIVATE_MODE if group < 0 else regions.GROUP_MODE
    region = regions.create(file, lib.tr_control_bytes(), mode, group)
    fill_control(region, identity, required)
    return region


def fill_control(region: Region, identity: bytes, required: Sequence[str]) -> None:
    """Write a fresh `.ctl` region and reserve its required consumers, the magic last."""
    lib.tr_control_init(region.pointer, identity)
    for consumer in required:
        if lib.tr_entry_reserve(region.pointer, consumer.encode()) < 0:
            raise ConfigurationError(
                f"region {region.file}: more than {lib.TR_CONSUMERS} required consumers"
            )
    lib.tr_control_commit(region.pointer)
