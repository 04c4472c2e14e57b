"""A ring's regions are believed only after every word of their headers has been checked.

**Failure** Attach answers with one of the errors of `shm.errors`, or OK; never with a signal: no offset or length of the
header is used before it has been proved to lie inside the mapping.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from layouts import abi_hash, describe
from layouts.abi import field_diff
from shm._native import ffi, lib
from shm.errors import NoMagic, Retired, TooShort, WrongAbi, WrongLayout
from shm.region import Region

STATES = {
    lib.TR_INIT: "INIT",
    lib.TR_LIVE: "LIVE",
    lib.TR_RETIRED: "RETIRED",
    lib.TR_STOPPED: "STOPPED",
}
MODES = {"overwrite": lib.TR_OVERWRITE, "wait": lib.TR_WAIT, "latest": lib.TR_LATEST}
MODE_NAMES = {number: name for name, number in MODES.items()}
_FAULTS = {
    lib.TR_FAULT_CHECKSUM: "the static words do not match their checksum",
    lib.TR_FAULT_PADDING: "bytes that are always zero are not",
    lib.TR_FAULT_HEAD: "no slot bears the head out",
}
_STRIDE_LIMIT = 1 << 20
_DESCRIPTION_LIMIT = 1 << 16


class RingFacts(NamedTuple):
    """What a ring's header says now."""

    mode: str
    state: str
    slots: int
    stride: int
    head: int
    first_seq: int
    epoch: int
    producer_pid: int
    producer_start_time: int
    heartbeat_ns: int
    created_ns: int
    restarts: int
    back_pressure_ns: int
    uuid: str
    description: str
    epochs: tuple[tuple[int, int], ...]
    layout_version: int
    abi_hash: str
    boot_id: str
    epochs_taken: int


def data_view(region: Region) -> Any:
    """Return the region's header as a cffi `struct tr_data *`."""
    return ffi.cast("struct tr_data *", region.pointer)


def control_view(region: Region) -> Any:
    """Return the region as a cffi `struct tr_control *`."""
    return ffi.cast("struct tr_control *", region.pointer)


def is_blank(region: Region) -> bool:
    """Tell whether a region has no magic yet: its maker is at work, or died before it was done."""
    return region.n_bytes < 8 or ffi.cast("int64_t *", region.pointer)[0] == 0


def check_data(
    region: Region, dtype: np.dtype | None = None, allow_retired: bool = True
) -> RingFacts:
    """Prove a `.data` or `.latest` region sound; `dtype` also demands that record layout.

    Raises:
        TooShort, NoMagic, WrongLayout, WrongAbi, Retired: see `shm.errors`.
    """
    header_bytes = ffi.sizeof("struct tr_data")
    if is_blank(region):
        raise NoMagic(
            f"region {region.file} is not initialised; its producer is starting, or died while it was: restart it"
        )
    if region.n_bytes < header_bytes:
        raise TooShort(
            f"region {region.file}: {region.n_bytes} bytes, a header alone has {header_bytes}; remove it"
        )
    data = data_view(region)
    if data.magic != lib.TR_MAGIC_DATA:
        raise NoMagic(
            f"region {region.file}: magic {data.magic & (2**64 - 1):#x} is not a ring's; remove it"
        )
    _check_geometry(region, data)
    description = _description(region, data)
    if dtype is not None and bytes(ffi.buffer(data.abi_hash)) != abi_hash(dtype):
        diff = field_diff(describe(dtype), description)
        raise WrongAbi(
            f"region {region.file} carries other records than this program knows (- ours, + the ring's):\n{diff}\n"
            "run the same version of tickring on both sides; after a change of your own layout `tickring down` removes "
            "the ring, and what is stored of it stays"
        )
    if not allow_retired and data.state == lib.TR_RETIRED:
        raise Retired(f"region {region.file} is retired; attach again by name")
    return facts_of(data, description)


def check_control(region: Region, ring_uuid: str) -> None:
    """Prove a `.ctl` region sound and of the same ring as a `.data` region.

    Raises:
        TooShort, NoMagic, WrongLayout: see `shm.errors`.
    """
    if is_blank(region):
        raise NoMagic(f"region {region.file} is not initialised; restart its producer")
    if region.n_bytes < lib.tr_control_bytes():
        raise TooShort(
            f"region {region.file}: {region.n_bytes} bytes, {lib.tr_control_bytes()} expected; remove it"
        )
    control = control_view(region)
    if control.magic != lib.TR_MAGIC_CONTROL:
        raise NoMagic(f"region {region.file}: its magic is not a control region's; remove it")
    if (
        control.layout_version != lib.TR_LAYOUT_VERSION
        or control.byte_order != lib.TR_BYTE_ORDER
        or control.entries != lib.TR_CONSUMERS
        or control.total_bytes != lib.tr_control_bytes()
    ):
        raise WrongLayout(
            f"region {region.file}: another layout version; run one version of tickring on both sides"
        )
    if control_uuid(region) != ring_uuid:
        raise WrongLayout(
            f"region {region.file} belongs to another incarnation of the ring; attach again"
        )


def control_uuid(region: Region) -> str:
    """Return the uuid of the ring that a `.ctl` region belongs to; empty where it is too short to say."""
    if region.n_bytes < lib.tr_control_bytes():
        return ""
    return bytes(ffi.buffer(control_view(region).ring_uuid)).hex()


def facts_of(data: Any, description: str = "") -> RingFacts:
    """Read the header's changing words; `data` has been checked before."""
    taken = int(data.epochs_taken)
    kept = range(max(0, taken - 64), taken)
    return RingFacts(
        mode=MODE_NAMES[data.mode],
        state=STATES.get(data.state, f"UNKNOWN({data.state})"),
        slots=data.slots,
        stride=data.slot_stride,
        head=data.head,
        first_seq=data.first_seq,
        epoch=data.epoch,
        producer_pid=data.producer_pid,
        producer_start_time=data.producer_start_time,
        heartbeat_ns=data.heartbeat_ns,
        created_ns=data.created_ns,
        restarts=data.restarts,
        back_pressure_ns=data.back_pressure_ns,
        uuid=bytes(ffi.buffer(data.ring_uuid)).hex(),
        description=description,
        epochs=tuple((data.epochs[i % 64].epoch, data.epochs[i % 64].first_seq) for i in kept),
        layout_version=data.layout_version,
        abi_hash=bytes(ffi.buffer(data.abi_hash)).hex(),
        boot_id=bytes(ffi.buffer(data.boot_id)).hex(),
        epochs_taken=taken,
    )


def _check_geometry(region: Region, data: Any) -> None:
    if data.layout_version != lib.TR_LAYOUT_VERSION or data.byte_order != lib.TR_BYTE_ORDER:
        raise WrongLayout(
            f"region {region.file}: layout version {data.layout_version} and byte order {data.byte_order:#x}, "
            f"{lib.TR_LAYOUT_VERSION} and {lib.TR_BYTE_ORDER:#x} expected; run one version of tickring on both sides"
        )
    slots, stride, header = data.slots, data.slot_stride, data.header_bytes
    sound = (
        data.mode in MODE_NAMES
        and 2 <= slots <= 1 << 40
        and slots & (slots - 1) == 0
        and data.mask == slots - 1
        and 64 <= stride <= _STRIDE_LIMIT
        and stride % 64 == 0
        and 0 < data.description_bytes <= _DESCRIPTION_LIMIT
        and header >= ffi.sizeof("struct tr_data") + data.description_bytes
        and header % 64 == 0
        and 1 <= data.first_seq < lib.TR_SEQ_END
        and data.first_seq <= data.head <= lib.TR_SEQ_END
        and data.state in STATES
        and data.epochs_taken >= 0
        and data.epoch >= 0
    )
    if not sound:
        raise WrongLayout(
            f"region {region.file}: its header contradicts itself (slots {slots}, stride {stride}); remove it"
        )
    if header + slots * stride > region.n_bytes:
        raise TooShort(
            f"region {region.file}: {region.n_bytes} bytes, its header promises {header + slots * stride}; remove it"
        )
    fault = int(lib.tr_header_fault(data))
    if fault != lib.TR_FAULT_NONE:
        raise WrongLayout(
            f"region {region.file}: its header is damaged ({_FAULTS[fault]}); remove it (tickring down)"
        )


def _description(region: Region, data: Any) -> str:
    at = ffi.cast("char *", region.pointer) + ffi.sizeof("struct tr_data")
    text = ffi.buffer(at, data.description_bytes)[:]
    if _hash_of(text) != bytes(ffi.buffer(data.abi_hash)):
        raise WrongLayout(
            f"region {region.file}: the record description does not match its hash; remove it"
        )
    return bytes(text).decode("ascii", errors="replace")


def _hash_of(description: bytes) -> bytes:
    return hashlib.blake2b(description, digest_size=16).digest()


def dtype_of(description: str) -> np.dtype:
    """Rebuild the record dtype from a ring's own description, so that a tool can read layouts it does not know."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for line in description.splitlines()[:-1]:
        _, name, code, count = line.split()
        fields.append((name, code) if count == "1" else (name, code, (int(count),)))
    return np.dtype(fields)
