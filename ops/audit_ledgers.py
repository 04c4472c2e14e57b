"""The two ledgers: every frame that came in is somewhere, every record that was published is somewhere.

**Why it is right** A collector counts a frame in first and out last, so that at most the frame in its hands is missing, which a
second look resolves; a killed one tells the rest as abandoned when it is back. A consumer's `in.<ring>.seq` is read before
the ring's head, so that the difference is in flight.
"""

import time

import msgspec

from ops.options import Topology
from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.header import RingFacts
from shm.reader import open_reader
from shm.registry import parse_ring

CONSUMERS = ("risk", "features", "bars", "pnl", "exposure", "fanout", "recorder")
LOOKS = 50
LOOK_S = 0.01


class FrameRow(msgspec.Struct, kw_only=True):
    """One collector's frames; `in_hand`: of a process that was killed and is not back yet."""

    worker: str
    frames_in: int
    decoded: int
    rejected: dict[str, int]
    abandoned: int
    in_hand: int
    unaccounted: int


class RecordRow(msgspec.Struct, kw_only=True):
    """One ring as one consumer has read it."""

    ring: str
    consumer: str
    published: int
    delivered: int
    lost: int
    in_flight: int
    unaccounted: int


def frame_rows(topology: Topology) -> list[FrameRow]:
    """Return the frame ledger of each collector that has started."""
    rows = []
    for name in topology.running_collectors:
        for look in range(LOOKS):
            facts = counters_of(topology.instance, name)
            if facts is None:
                break
            row = _frame_row(facts)
            if row.unaccounted == 0 or look == LOOKS - 1:
                rows.append(row)
                break
            time.sleep(LOOK_S)
    return rows


def record_rows(topology: Topology, closing: bool) -> list[RecordRow]:
    """Return the record ledger of each consumer and each of its rings.

    At the closing the rings are about to go: what is in flight then has not been delivered and never will be.
    """
    rows = []
    readers = {name: getattr(topology, name) for name in CONSUMERS}
    for name, options in (topology.consumers | readers).items():
        if not options.enabled:
            continue
        facts = counters_of(topology.instance, name)
        for ring in topology.inputs_of(options):
            head = ring_facts(topology.instance, ring)
            if head is not None:
                rows.append(_record_row(ring, name, facts, head, closing))
    return rows


def counters_of(instance: str, worker: str) -> WorkerFacts | None:
    """Return a worker's counters; None: it has never started."""
    try:
        return read_counters(instance, worker)
    except AttachError:
        return None


def ring_facts(instance: str, ring: str) -> RingFacts | None:
    """Return a ring's header; None: it was never made."""
    try:
        with open_reader(parse_ring(ring, instance)) as reader:
            return reader.facts()
    except AttachError:
        return None


def _frame_row(facts: WorkerFacts) -> FrameRow:
    values = facts.values
    rejected = {
        name.partition(".")[2]: n
        for name, n in values.items()
        if name.startswith("rejected.") and n
    }
    missing = (
        values.get("frames_in", 0)
        - values.get("frames_decoded", 0)
        - sum(rejected.values())
        - values.get("frames_abandoned", 0)
    )
    in_hand = missing if missing > 0 and facts.state != "STOPPED" and not facts.alive else 0
    return FrameRow(
        worker=facts.worker,
        frames_in=values.get("frames_in", 0),
        decoded=values.get("frames_decoded", 0),
        rejected=rejected,
        abandoned=values.get("frames_abandoned", 0),
        in_hand=in_hand,
        unaccounted=missing - in_hand,
    )


def _record_row(
    ring: str, consumer: str, facts: WorkerFacts | None, head: RingFacts, closing: bool
) -> RecordRow:
    published = head.head - head.first_seq
    seq = facts.values.get(f"in.{ring}.seq", 0) if facts else 0
    lost = facts.values.get(f"in.{ring}.lost", 0) if facts else 0
    delivered = max(seq, head.first_seq - 1) - (head.first_seq - 1) - lost
    in_flight = published - delivered - lost
    return RecordRow(
        ring=ring,
        consumer=consumer,
        published=published,
        delivered=delivered,
        lost=lost,
        in_flight=in_flight,
        unaccounted=in_flight if closing else max(0, -in_flight) + max(0, -delivered),
    )
