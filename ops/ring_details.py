"""Everything that is known of one ring: its header, its producer, each registered consumer, its memory.

All of it is read by a passive reader. **Failure** What this user may not see is None, and `notes` says why: consumers stand in
a region that only the owner and the consumer group can open, locked pages in the producer's own /proc entry.
"""

import os
from pathlib import Path

import msgspec

from layouts import layout_name
from ops import show
from shm.clock import now_ns
from shm.cursors import ConsumerFacts, consumers_of
from shm.errors import AttachError
from shm.header import RingFacts
from shm.process import boot_id, is_alive
from shm.reader import open_reader
from shm.region import SHM_DIRECTORY, RegionName

_MAPPED = {"Rss": "resident_bytes", "ShmemPmdMapped": "huge_page_bytes"}
_LOCKED = "lo"  # in VmFlags; the line "Locked" is this process' share of shared pages only


class Epoch(msgspec.Struct, kw_only=True):
    """One incarnation of the producer."""

    epoch: int
    first_seq: int


class Producer(msgspec.Struct, kw_only=True):
    """Who writes the ring."""

    pid: int
    start_time: int
    """Clock ticks since boot: with `pid` it names the process."""
    alive: bool
    heartbeat_age_s: float


class ConsumerRow(msgspec.Struct, kw_only=True):
    """One registered consumer; `lag` and `lapped` count records."""

    name: str
    state: str
    pid: int
    alive: bool
    cursor: int
    lag: int
    lag_max: int
    lapped: int
    asleep: bool
    heartbeat_age_s: float | None
    required: bool
    found_dead: bool


class Memory(msgspec.Struct, kw_only=True):
    """The ring's pages. None: not known to this user."""

    data_bytes: int
    allocated_bytes: int
    control_bytes: int | None = None
    latest_bytes: int | None = None
    resident_bytes: int | None = None
    huge_page_bytes: int | None = None
    locked: bool | None = None
    """The producer keeps the pages in memory (mlock)."""
    numa_pages: dict[str, int] | None = None


class Details(msgspec.Struct, kw_only=True):
    """One ring."""

    name: str
    instance: str
    layout: str
    fields: list[str]
    layout_version: int
    abi_hash: str
    uuid: str
    boot_id: str
    this_boot: bool
    mode: str
    state: str
    slots: int
    stride_bytes: int
    created_ns: int
    first_seq: int
    next_seq: int
    published: int
    held: int
    """Records that can be read now."""
    restarts: int
    back_pressure_ns: int
    epoch: int
    epochs_taken: int
    epochs: list[Epoch]
    producer: Producer
    consumers: list[ConsumerRow] | None
    memory: Memory
    notes: list[str]


def read_details(name: RegionName) -> Details:
    """Return all there is to tell of a ring.

    Raises:
        AttachError: its `.data` region cannot be attached.
    """
    notes: list[str] = []
    with open_reader(name) as reader:
        facts = reader.facts()
        return Details(
            name=str(name),
            instance=name.instance,
            layout=layout_name(reader.dtype, str(name)),
            fields=list(reader.dtype.names or ()),
            layout_version=facts.layout_version,
            abi_hash=facts.abi_hash,
            uuid=facts.uuid,
            boot_id=facts.boot_id,
            this_boot=facts.boot_id == boot_id().hex(),
            mode=facts.mode,
            state=facts.state,
            slots=facts.slots,
            stride_bytes=facts.stride,
            created_ns=facts.created_ns,
            first_seq=facts.first_seq,
            next_seq=facts.head,
            published=facts.head - facts.first_seq,
            held=facts.head - reader.oldest_seq,
            restarts=facts.restarts,
            back_pressure_ns=facts.back_pressure_ns,
            epoch=facts.epoch,
            epochs_taken=facts.epochs_taken,
            epochs=[Epoch(epoch=epoch, first_seq=seq) for epoch, seq in facts.epochs],
            producer=Producer(
                pid=facts.producer_pid,
                start_time=facts.producer_start_time,
                alive=is_alive(facts.producer_pid, facts.producer_start_time),
                heartbeat_age_s=(now_ns() - facts.heartbeat_ns) / 1e9,
            ),
            consumers=_consumers(name, facts, notes),
            memory=_memory(name, facts.producer_pid, notes),
            notes=notes,
        )


def show_details(found: Details) -> None:
    """Print them for a person: three tables, then the notes."""
    producer, memory = found.producer, found.memory
    life = "alive" if producer.alive else "gone"
    rows = [
        ("layout", f"{found.layout}, version {found.layout_version}, abi {found.abi_hash}"),
        ("fields", ", ".join(found.fields)),
        ("ring", f"{found.uuid}, created {show.when(found.created_ns)}"),
        ("boot", f"{found.boot_id}{'' if found.this_boot else ', not this one'}"),
        ("slots", f"{found.slots:,} of {found.stride_bytes:,} bytes, mode {found.mode}"),
        ("state", found.state),
        ("producer", f"pid {producer.pid} (started at tick {producer.start_time}), {life}"),
        ("heartbeat", f"{producer.heartbeat_age_s:.2f} s ago"),
        ("records", f"{found.published:,} published, {found.held:,} held, next seq {found.next_seq}"),
        ("restarts", found.restarts),
        ("back-pressure", f"{found.back_pressure_ns / 1e9:.3f} s"),
        ("epochs", ", ".join(f"{each.epoch} from seq {each.first_seq}" for each in found.epochs[-8:])),
        ("memory", f"{memory.data_bytes:,} bytes, {memory.allocated_bytes:,} allocated"),
        ("locked", memory.locked),
        ("huge pages", "" if memory.huge_page_bytes is None else f"{memory.huge_page_bytes:,} bytes"),
        ("NUMA", " ".join(f"{k}={v}" for k, v in (memory.numa_pages or {}).items())),
    ]  # fmt: skip
    show.table(("what", found.name), rows)
    if found.consumers is not None:
        show.say()
        columns = (
            "consumer",
            "state",
            "pid",
            "alive",
            "cursor",
            "lag",
            "lag max",
            "lapped",
            "asleep",
            "beat s",
        )
        table = [
            (
                c.name,
                c.state,
                str(c.pid),
                c.alive,
                str(c.cursor),
                c.lag,
                c.lag_max,
                c.lapped,
                c.asleep,
                c.heartbeat_age_s,
            )
            for c in found.consumers
        ]
        show.table(columns, table)
    for note in found.notes:
        show.complain(note)


def _consumers(name: RegionName, facts: RingFacts, notes: list[str]) -> list[ConsumerRow] | None:
    try:
        return [_row(each) for each in consumers_of(name, facts.uuid, facts.head)]
    except AttachError as error:
        notes.append(f"consumers are not shown: {error}")
        return None


def _row(facts: ConsumerFacts) -> ConsumerRow:
    kept = {
        field: getattr(facts, field)
        for field in ConsumerRow.__struct_fields__
        if field in facts._fields
    }
    age_s = (now_ns() - facts.heartbeat_ns) / 1e9 if facts.heartbeat_ns else None
    return ConsumerRow(**kept, heartbeat_age_s=age_s)


def _memory(name: RegionName, producer_pid: int, notes: list[str]) -> Memory:
    file = name.file("data")
    facts = os.stat(f"{SHM_DIRECTORY}/{file}")
    memory = Memory(data_bytes=facts.st_size, allocated_bytes=facts.st_blocks * 512)
    memory.control_bytes = _file_bytes(name.file("ctl"))
    memory.latest_bytes = _file_bytes(name.file("latest"))
    for key, value in _mapping(producer_pid, file).items():
        setattr(memory, key, value)
    if memory.locked is None:
        notes.append(
            f"whether its pages are locked is not shown: /proc/{producer_pid}/smaps cannot be read"
        )
    memory.numa_pages = _numa_pages(file)
    return memory


def _mapping(pid: int, file: str) -> dict[str, int]:
    """Return what the kernel says of a process' mappings of a region, of several the largest; empty where it does not."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    inside = False
    for line in lines:
        key, _, rest = line.partition(":")
        if " " in key:  # the head of a mapping: its addresses come first
            inside = line.endswith(f"/{file}")
        elif inside and key in _MAPPED:
            n_bytes = int(rest.split()[0]) * 1024
            found[_MAPPED[key]] = max(found.get(_MAPPED[key], 0), n_bytes)
        elif inside and key == "VmFlags":
            found["locked"] = found.get("locked", False) or _LOCKED in rest.split()
    return found


def _numa_pages(file: str) -> dict[str, int] | None:
    """Return the region's pages per NUMA node, as our own mapping shows them; None where the kernel does not tell."""
    try:
        lines = Path("/proc/self/numa_maps").read_text(errors="replace").splitlines()
    except OSError:
        return None
    words = [word for line in lines if f"/{file} " in f"{line} " for word in line.split()]
    nodes = (word[1:].partition("=") for word in words if word[0] == "N" and "=" in word)
    return {f"node{node}": int(pages) for node, _, pages in nodes if node.isdigit()}


def _file_bytes(file: str) -> int | None:
    try:
        return os.stat(f"{SHM_DIRECTORY}/{file}").st_size
    except OSError:
        return None
