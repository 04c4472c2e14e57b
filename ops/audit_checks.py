"""What the ledgers claim is counted again from the outside: from the rings' own records, from Redis, from the stored files.

**Why it is right** Each check compares sets of record identities, not totals: a record that is missing and one that is there
twice do not cancel out. Where a ring has been overwritten since, the range that both sides still hold is compared, and the
note says so.
"""

from typing import Any

import msgspec
import numpy as np

from layouts import EVENT, FEATURES, Kind
from ops import redis_server
from ops.audit_ledgers import counters_of
from ops.options import Topology
from ops.rings import read_scales
from shm.errors import AttachError
from shm.header import RingFacts
from shm.reader import open_reader
from shm.registry import parse_ring

REDIS_PAGE = 10_000


class Check(msgspec.Struct, kw_only=True):
    """One independent count: `unaccounted` is how many records it misses or finds twice."""

    name: str
    expected: int
    found: int
    unaccounted: int
    note: str = ""


class Held:
    """All records that a ring still holds, with the seq of the first."""

    def __init__(self, instance: str, ring: str, dtype: np.dtype) -> None:
        with open_reader(parse_ring(ring, instance), dtype) as reader:
            self.facts: RingFacts = reader.facts()
            self.records, info = reader.read_range(self.facts.first_seq, self.facts.head)
        self.ring = ring
        self.first_seq = info.first_seq
        self.is_whole = info.lost == 0

    @property
    def seqs(self) -> np.ndarray:
        """Seq of each record held."""
        return np.arange(self.first_seq, self.first_seq + len(self.records), dtype=np.int64)

    @property
    def note(self) -> str:
        """What could not be compared."""
        return "" if self.is_whole else f"from seq {self.first_seq} on; older ones are overwritten"

    def of_kinds(self, *kinds: Kind) -> np.ndarray:
        """Tell which records are of one of these kinds."""
        return np.isin(self.records["kind"], [int(kind) for kind in kinds])


def checks_of(topology: Topology) -> list[Check]:
    """Return every check that a running, or just drained, instance allows."""
    checks: list[Check] = []
    events = {
        ring: held
        for ring in topology.expand(["*.events"])
        if (held := _held(topology.instance, ring, EVENT)) is not None
    }
    features = _held(topology.instance, "features.features", FEATURES)
    if topology.features.enabled and features is not None:
        checks += features_checks(topology, events, features)
    if topology.fanout.enabled:
        rings = dict(events)
        if features is not None:
            rings["features.features"] = features
        inputs = topology.expand(topology.fanout.inputs)
        checks += redis_checks(topology, {r: h for r, h in rings.items() if r in inputs})
    return checks


def features_checks(topology: Topology, events: dict[str, Held], features: Held) -> list[Check]:
    """Each trade and each quote of a source has caused its rows, each row once, and nothing else has caused any."""
    checks = []
    facts = counters_of(topology.instance, "features")
    rows = features.records[features.of_kinds(Kind.FEATURES)]
    for ring in topology.expand(topology.features.inputs):
        source = events.get(ring)
        if source is None or facts is None:
            continue
        epochs = [epoch for epoch, _ in source.facts.epochs]
        mine = rows[np.isin(rows["source_epoch"], epochs)]
        upto = facts.values.get(f"in.{ring}.seq", 0)
        lowest = source.first_seq
        if not features.is_whole:
            lowest = max(lowest, int(mine["source_seq"].min()) + 1 if len(mine) else upto + 1)
        wanted = source.seqs[source.of_kinds(Kind.TRADE, Kind.QUOTE)]
        wanted = wanted[(wanted >= lowest) & (wanted <= upto)]
        within = mine[(mine["source_seq"] >= lowest) & (mine["source_seq"] <= upto)]
        note = features.note or source.note
        if lost := facts.values.get(f"in.{ring}.lost", 0):
            note = f"{lost} records were lost before they were read: not compared"
            wanted = np.intersect1d(wanted, within["source_seq"])
        checks.append(_compare(f"features of {ring}", wanted, within["source_seq"], note))
    return checks


def redis_checks(topology: Topology, rings: dict[str, Held]) -> list[Check]:
    """Each trade and each row up to the progress key is an entry of its stream, with its own id, once."""
    import redis

    client = redis.Redis.from_url(redis_server.redis_url(topology))
    try:
        return [_redis_check(topology, client, ring, held) for ring, held in rings.items()]
    except redis.RedisError as error:
        unknown = Check(name="redis", expected=0, found=0, unaccounted=0)
        unknown.note = f"Redis does not answer ({type(error).__name__}): not compared"
        return [unknown]
    finally:
        client.close()


def _redis_check(topology: Topology, client: Any, ring: str, held: Held) -> Check:
    kind, prefix = (
        (Kind.FEATURES, "features") if ring == "features.features" else (Kind.TRADE, "trades")
    )
    progress = client.hmget(f"tickring:progress:{topology.instance}:{ring}", "uuid", "seq")
    mine = progress[0] is not None and progress[0].decode() == held.facts.uuid
    upto = int(progress[1]) if mine else 0
    chosen = held.of_kinds(kind) & (held.seqs <= upto)
    scales = read_scales(topology.instance)
    wanted = found = missing = 0
    trimmed = False
    ids = held.records["instrument_id"]
    for instrument_id in np.unique(ids[chosen]).tolist():
        scale = scales.get(instrument_id)
        seqs = held.seqs[chosen & (ids == instrument_id)]
        entries: np.ndarray = np.empty(0, np.int64)
        if scale is not None:
            stream = f"{prefix}:{scale.venue}:{scale.symbol}"
            entries, first = _entries(client, stream, held)
            if client.xlen(stream) >= topology.fanout.maxlen:
                trimmed = True
                seqs = seqs[seqs >= first]
        wanted += len(seqs)
        found += int(np.isin(seqs, entries).sum())
        missing += len(np.setdiff1d(seqs, entries)) + len(
            np.setdiff1d(entries[entries <= upto], seqs)
        )
    note = "streams have been trimmed; what they still hold was compared" if trimmed else held.note
    return Check(
        name=f"redis {prefix} of {ring}",
        expected=wanted,
        found=found,
        unaccounted=missing,
        note=note,
    )


def _entries(client: Any, stream: str, held: Held) -> tuple[np.ndarray, int]:
    """Return the seqs of a stream's entries that the ring's records became, gap entries left out, and the first of all."""
    epochs = [epoch for epoch, _ in held.facts.epochs]
    at = f"{min(epochs)}-{held.first_seq}"
    seqs: list[int] = []
    while page := client.xrange(stream, min=at, count=REDIS_PAGE):
        for entry_id, fields in page:
            epoch, _, seq = entry_id.decode().partition("-")
            if b"gap_from" not in fields and int(epoch) in epochs:
                seqs.append(int(seq))
        at = f"({page[-1][0].decode()}"
    found = np.array(sorted(seqs), np.int64)
    return found, int(found[0]) if len(found) else held.first_seq


def _compare(name: str, wanted: np.ndarray, found: np.ndarray, note: str) -> Check:
    """Count what is missing, what nothing asked for, and what is there more than once."""
    unique, times = np.unique(found, return_counts=True)
    wrong = len(np.setdiff1d(wanted, unique)) + len(np.setdiff1d(unique, wanted))
    repeated = int((times - 1).sum())
    return Check(
        name=name,
        expected=len(wanted),
        found=len(found),
        unaccounted=wrong + repeated,
        note=note,
    )


def _held(instance: str, ring: str, dtype: np.dtype) -> Held | None:
    try:
        return Held(instance, ring, dtype)
    except AttachError:
        return None
