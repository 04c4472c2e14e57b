"""Who reads a ring, from where on and how far behind, is read off its control region without touching it.

**Threads and processes** Each word has one writer (native/region.h); a look is a set of single loads, not one instant.
**Failure** `.ctl` opens for its owner and the consumer group only: anybody else gets WrongPermissions.
"""

from typing import Any, NamedTuple

from shm import region as regions
from shm._native import ffi, lib
from shm.header import check_control, control_view
from shm.process import is_alive
from shm.region import Region, RegionName

STATES = {
    lib.TR_RESERVED: "RESERVED",
    lib.TR_JOINING: "JOINING",
    lib.TR_ACTIVE: "ACTIVE",
    lib.TR_DETACHED: "DETACHED",
}


class ConsumerFacts(NamedTuple):
    """One registered consumer as its entry tells it."""

    name: str
    state: str
    pid: int
    start_time: int
    """Clock ticks since boot: with `pid` it names the process."""
    alive: bool
    cursor: int
    """Seq that this consumer can restart from."""
    lag: int
    """Records published and not behind the cursor."""
    lag_max: int
    """Largest lag that it has seen at a commit."""
    lapped: int
    """Records that were overwritten before it read them."""
    asleep: bool
    heartbeat_ns: int
    """Time of its last commit, ns since the epoch."""
    required: bool
    """A "wait" ring publishes nothing without it."""
    found_dead: bool
    """The supervisor has declared this process dead."""


def consumers_of(name: RegionName, ring_uuid: str, head: int) -> list[ConsumerFacts]:
    """Return the consumers that are, or were, registered on a ring, in the order of their entries.

    Args:
        name: the ring.
        ring_uuid: the incarnation that the control region has to belong to.
        head: seq that the ring publishes next, for the lag.

    Raises:
        AttachError: the control region is not there, not readable, or of another ring.
    """
    region = regions.attach(name.file("ctl"))
    try:
        check_control(region, ring_uuid)
        view = control_view(region)
        entries = [
            (i, view.entry[i], STATES.get(view.entry[i].state)) for i in range(lib.TR_CONSUMERS)
        ]
        return [_facts(region, i, entry, state, head) for i, entry, state in entries if state]
    finally:
        region.close()


def _facts(region: Region, index: int, entry: Any, state: str, head: int) -> ConsumerFacts:
    cursor = int(entry.cursor)
    alive = is_alive(entry.pid, entry.start_time)
    return ConsumerFacts(
        name=ffi.string(entry.name, 32).decode(errors="replace"),
        state=state,
        pid=entry.pid,
        start_time=entry.start_time,
        alive=alive,
        cursor=cursor,
        lag=max(0, head - cursor),
        lag_max=entry.lag_max,
        lapped=int(lib.tr_entry_lapped(region.pointer, index)),
        asleep=alive and entry.sleep_word == 1,
        heartbeat_ns=entry.heartbeat_ns,
        required=bool(entry.required),
        found_dead=entry.dead_generation == entry.generation,
    )
