"""How many records a second a ring carries, in all and per kind, as a passive reader sees them; what it missed is told.

**Why it is right** Rates count seqs, not what was copied: an interval's records are the head at its end less the head at its
begin, exact whatever this reader could follow. Kinds are those of the records it read; `lost` were overwritten before.
"""

import time
from collections.abc import Iterator

import msgspec
import numpy as np

from layouts import Kind
from ops import show
from shm.clock import monotonic_ns
from shm.reader import Reader, open_reader
from shm.region import RegionName

POLL_S = 0.002
"""Between two looks: a ring of 65,536 slots is lapped in that time at 30 million records a second."""
BATCH_RECORDS = 8192


class Rate(msgspec.Struct, kw_only=True):
    """One interval."""

    ring: str
    seconds: float
    records: int
    lost: int
    """Of these, overwritten before this reader got to them: they are in no kind."""
    per_s: float
    per_s_by_kind: dict[str, float]
    state: str
    """Of the ring: a stopped one has no records because no more come."""


def rates(name: RegionName, interval_s: float, for_s: float) -> Iterator[Rate]:
    """Yield one Rate an interval, from now on until `for_s` have passed; the last interval may be shorter.

    Raises:
        AttachError: the ring cannot be attached.
    """
    with open_reader(name) as reader:
        began_ns = last_ns = monotonic_ns()
        end_ns = began_ns + int(min(for_s, 1e9) * 1e9)
        while last_ns < end_ns:
            until_ns = min(last_ns + int(interval_s * 1e9), end_ns)
            rate, last_ns = _measure(reader, str(name), last_ns, until_ns)
            yield rate


def show_rate(rate: Rate, with_head: bool) -> None:
    """Print an interval as one line of plain columns: seconds, records a second, missed, then the kinds."""
    if with_head:
        show.say(f"{'seconds':>8} {'records/s':>14} {'missed':>8}  kinds/s")
    kinds = sorted(rate.per_s_by_kind.items(), key=lambda pair: -pair[1])
    text = "  ".join(f"{kind} {per_s:,.1f}" for kind, per_s in kinds) or "-"
    state = "" if rate.state == "LIVE" else f"  ({rate.state})"
    show.say(f"{rate.seconds:8.2f} {rate.per_s:14,.1f} {rate.lost:8,}  {text}{state}")


def _measure(reader: Reader, ring: str, began_ns: int, until_ns: int) -> tuple[Rate, int]:
    """Count until `until_ns`; returns the Rate and when it ended."""
    tally = np.zeros(256, np.int64)
    batch = np.empty(BATCH_RECORDS, reader.dtype)
    first_seq, lost_before = reader.next_seq, reader.lost
    while True:
        now_ns = monotonic_ns()
        head = reader.facts().head
        while reader.next_seq < head:
            if (n := reader.poll_into(batch)) > 0:
                tally += np.bincount(batch["kind"][:n], minlength=256)
        if now_ns >= until_ns:
            break
        time.sleep(min(POLL_S, (until_ns - now_ns) / 1e9))
    seconds = (now_ns - began_ns) / 1e9
    records = reader.next_seq - first_seq
    rate = Rate(
        ring=ring,
        seconds=seconds,
        records=records,
        lost=reader.lost - lost_before,
        per_s=records / seconds,
        per_s_by_kind={_kind_name(int(k)): int(tally[k]) / seconds for k in np.flatnonzero(tally)},
        state=reader.facts().state,
    )
    return rate, now_ns


def _kind_name(kind: int) -> str:
    return Kind(kind).name if kind in Kind._value2member_map_ else str(kind)
