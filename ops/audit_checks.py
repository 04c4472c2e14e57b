"""What the ledgers claim is counted again from the outside: from the rings' own records, from Redis, from the stored files.

**Why it is right** Each check compares sets of record identities, not totals: a record that is missing and one that is there
twice do not cancel out. Where a ring has been overwritten since, the range that both sides still hold is compared, and the
note says so.
"""

from typing import Any

import numpy as np

from layouts import BAR, CONTROL, EVENT, FEATURES, ORDER, RISK_DECISION, Kind
from layouts.bar import series_name
from layouts.own import OWN_RING, is_own
from ops import redis_server
from ops.audit_bars import bars_check
from ops.audit_captures import capture_checks
from ops.audit_ledgers import counters_of, ring_facts
from ops.audit_store import Check, store_checks
from ops.options import Topology
from ops.rings import read_scales
from shm.errors import AttachError
from shm.header import RingFacts
from shm.reader import open_reader
from shm.registry import parse_ring

FEATURES_RING = "features.features"
BARS_RING = "bars.bars"
_STREAMED = {FEATURES_RING: (Kind.FEATURES, "features"), BARS_RING: (Kind.BAR, "bars")}
REDIS_PAGE = 10_000


class Held:
    """All records that a ring still holds, with the seq of the first."""

    def __init__(self, instance: str, ring: str, dtype: np.dtype | None) -> None:
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


def checks_of(topology: Topology, closing: bool) -> list[Check]:
    """Return every check that a running, or just drained, instance allows.

    How far each reader is, is read first, its output next, its source last: so whatever it claims is in what is read later.
    """
    features_at = counters_of(topology.instance, "features")
    bars_at = counters_of(topology.instance, "bars")
    delivered = Delivered(topology) if topology.fanout.enabled else None
    features = held_ring(topology.instance, FEATURES_RING, FEATURES)
    bars = held_ring(topology.instance, BARS_RING, BAR)
    events = {
        ring: held
        for ring in topology.expand(["*.events"])
        if (held := held_ring(topology.instance, ring, EVENT)) is not None
    }
    checks: list[Check] = []
    if topology.features.enabled and features is not None and features_at is not None:
        checks += features_checks(topology, events, features, features_at.values)
    if topology.bars.enabled and bars is not None and bars_at is not None:
        checks += bars_checks(topology, events, bars, bars_at.values)
    if topology.risk.enabled:
        checks += decision_checks(topology)
    checks += own_checks(topology, closing)
    if delivered is not None:
        rings = events if features is None else events | {FEATURES_RING: features}
        rings = rings if bars is None else rings | {BARS_RING: bars}
        checks += delivered.checks(rings)
    if topology.recorder.enabled:
        stored = topology.expand(topology.recorder.inputs)
        facts = {r: f for r in stored if (f := ring_facts(topology.instance, r)) is not None}
        worker = counters_of(topology.instance, "recorder")
        checks += store_checks(topology.data_path, facts, worker, closing)
    return checks + capture_checks(topology, closing)


def features_checks(
    topology: Topology, events: dict[str, Held], features: Held, positions: dict[str, int]
) -> list[Check]:
    """Each trade and each quote of a source has caused its row, once, and nothing else has caused any."""
    checks = []
    rows = features.records[features.of_kinds(Kind.FEATURES)]
    for ring in topology.expand(topology.features.inputs):
        source = events.get(ring)
        if source is None:
            continue
        epochs = [epoch for epoch, _ in source.facts.epochs]
        mine = rows[np.isin(rows["source_epoch"], epochs)]
        upto = positions.get(f"in.{ring}.seq", 0)
        lowest = source.first_seq
        if not features.is_whole:
            lowest = max(lowest, int(mine["source_seq"].min()) + 1 if len(mine) else upto + 1)
        wanted = source.seqs[source.of_kinds(Kind.TRADE, Kind.QUOTE)]
        wanted = wanted[(wanted >= lowest) & (wanted <= upto)]
        within = mine[(mine["source_seq"] >= lowest) & (mine["source_seq"] <= upto)]
        note = features.note or source.note
        if lost := positions.get(f"in.{ring}.lost", 0):
            note = f"{lost} records were lost before they were read: only repeats are looked for"
            wanted = np.intersect1d(wanted, within["source_seq"])
        checks.append(compare(f"features of {ring}", wanted, within["source_seq"], note))
    return checks


def bars_checks(
    topology: Topology, events: dict[str, Held], bars: Held, counted: dict[str, int]
) -> list[Check]:
    """Each print of a source is in one bar of each time frame, or told as late there."""
    checks = []
    rows = bars.records[bars.of_kinds(Kind.BAR)]
    for ring in topology.expand(topology.bars.inputs):
        source = events.get(ring)
        if source is None:
            continue
        epochs = [epoch for epoch, _ in source.facts.epochs]
        mine = rows[np.isin(rows["source_epoch"], epochs)]
        lost = counted.get(f"in.{ring}.lost", 0) + counted.get("bars_begun_anew", 0)
        note = bars.note or source.note
        checks.append(bars_check(ring, source.records, source.first_seq, mine, lost, note))
    return checks


def decision_checks(topology: Topology) -> list[Check]:
    """Each order, cancel, fill and control that risk has read has one decision, and no decision is without its cause."""
    worker = counters_of(topology.instance, "risk")
    decisions = held_ring(topology.instance, "risk.decisions", RISK_DECISION)
    checks: list[Check] = []
    causes = (("orders.orders", ORDER), ("control.control", CONTROL))
    for number, (ring, dtype) in enumerate(causes):
        source = held_ring(topology.instance, ring, dtype)
        if worker is None or decisions is None or source is None:
            continue
        rows = decisions.records[decisions.of_kinds(Kind.RISK_DECISION)]
        mine = rows["source_seq"][rows["input"] == number]
        upto = worker.values.get(f"in.{ring}.seq", 0)
        lowest = source.first_seq
        if not decisions.is_whole:
            lowest = max(lowest, int(mine.min()) if len(mine) else upto + 1)
        wanted = source.seqs[
            source.of_kinds(Kind.ORDER, Kind.CANCEL, Kind.FILL, Kind.OPENING, Kind.CONTROL)
        ]
        wanted = wanted[(wanted >= lowest) & (wanted <= upto)]
        within = mine[(mine >= lowest) & (mine <= upto)]
        note = decisions.note or source.note
        checks.append(compare(f"decisions of {ring}", wanted, within, note))
    return checks


def own_checks(topology: Topology, closing: bool) -> list[Check]:
    """Each record that caused rows of an own consumer has all of them there, once; the newest may still be at it."""
    checks = []
    for name, options in topology.consumers.items():
        held = held_ring(topology.instance, f"{name}.{OWN_RING}") if options.enabled else None
        if held is None or not is_own(held.records.dtype, held.ring):
            continue
        rows = held.records[held.of_kinds(Kind.OWN)]
        fields = ("source_epoch", "source_seq", "source_count", "source_index")
        cause = np.stack([rows[field].astype(np.int64) for field in fields], axis=1)
        if not held.is_whole and len(cause):  # of the oldest the first rows may be overwritten
            cause = cause[(cause[:, :2] != cause[0, :2]).any(1)]
        if not closing and len(cause):
            cause = cause[(cause[:, :2] != cause[-1, :2]).any(1)]
        expected = int(np.unique(cause[:, :3], axis=0)[:, 2].sum())
        identities = np.unique(cause, axis=0)
        right = int(np.count_nonzero(identities[:, 3] < identities[:, 2]))
        checks.append(
            Check(
                name=f"rows of {name}",
                expected=expected,
                found=len(cause),
                unaccounted=expected - right + len(cause) - right,
                note=held.note,
            )
        )
    return checks


class Delivered:
    """What Redis says it has of each ring, read before the rings are."""

    def __init__(self, topology: Topology) -> None:
        import redis

        self._topology = topology
        client: Any = redis.Redis.from_url(redis_server.redis_url(topology))
        self._client = client
        self._error = ""
        self._progress: dict[str, tuple[str, int]] = {}
        try:
            for ring in topology.expand(topology.fanout.inputs):
                key = f"tickring:progress:{topology.instance}:{ring}"
                uuid, seq = client.hmget(key, "uuid", "seq")
                if uuid is not None and seq is not None:
                    self._progress[ring] = bytes(uuid).decode(), int(seq)
        except redis.RedisError as error:
            self._error = type(error).__name__

    def checks(self, rings: dict[str, Held]) -> list[Check]:
        """Each trade and each row up to the progress key is an entry of its stream, with its own id, once."""
        import redis

        chosen = [
            ring for ring in self._topology.expand(self._topology.fanout.inputs) if ring in rings
        ]
        try:
            checks = [] if self._error else [self._check(ring, rings[ring]) for ring in chosen]
        except redis.RedisError as error:
            self._error = type(error).__name__
        self._client.close()
        if self._error:
            note = f"Redis does not answer ({self._error}): not compared"
            return [Check(name="redis", expected=0, found=0, unaccounted=0, note=note)]
        return checks

    def _check(self, ring: str, held: Held) -> Check:
        kind, prefix = _STREAMED.get(ring, (Kind.TRADE, "trades"))
        uuid, upto = self._progress.get(ring, ("", 0))
        if uuid != held.facts.uuid:
            upto = held.first_seq - 1
        chosen = held.of_kinds(kind) & (held.seqs <= upto)
        scales = read_scales(self._topology.instance)
        wanted = found = wrong = 0
        note = held.note
        for instrument_id, series, mine in _streams(held, chosen):
            seqs = held.seqs[mine]
            entries = np.empty(0, np.int64)
            if (scale := scales.get(instrument_id)) is not None:
                stream = f"{prefix}:{scale.venue}:{scale.symbol}{series}"
                entries = _entries(self._client, stream, held)
                if self._client.xlen(stream) >= self._topology.fanout.maxlen:
                    note = "streams have been trimmed; what they still hold was compared"
                    seqs = seqs[seqs >= (entries[0] if len(entries) else held.first_seq)]
            entries = entries[entries <= upto]
            wanted += len(seqs)
            found += len(entries)
            wrong += compare("", seqs, entries, "").unaccounted
        return Check(
            name=f"redis {prefix} of {ring}",
            expected=wanted,
            found=found,
            unaccounted=wrong,
            note=note,
        )


def _streams(held: Held, chosen: np.ndarray) -> list[tuple[int, str, np.ndarray]]:
    """Return instrument, end of the stream's name and records of each stream that these records belong to."""
    ids = held.records["instrument_id"]
    found = []
    for instrument_id in np.unique(ids[chosen]).tolist():
        mine = chosen & (ids == instrument_id)
        if held.ring != BARS_RING:
            found.append((instrument_id, "", mine))
            continue
        kinds, parameters = held.records["bar_kind"], held.records["parameter"]
        for key in sorted(set(zip(kinds[mine].tolist(), parameters[mine].tolist(), strict=True))):
            of_series = mine & (kinds == key[0]) & (parameters == key[1])
            found.append((instrument_id, f":{series_name(*key)}", of_series))
    return found


def _entries(client: Any, stream: str, held: Held) -> np.ndarray:
    """Return the seqs of a stream's entries that the ring's held records became, in order; gap entries are left out."""
    epochs = [epoch for epoch, _ in held.facts.epochs]
    at = f"{min(epochs)}-0"
    seqs: list[int] = []
    while page := client.xrange(stream, min=at, count=REDIS_PAGE):
        for entry_id, fields in page:
            epoch, _, seq = entry_id.decode().partition("-")
            if b"gap_from" not in fields and int(epoch) in epochs and int(seq) >= held.first_seq:
                seqs.append(int(seq))
        at = f"({page[-1][0].decode()}"
    return np.array(sorted(seqs), np.int64)


def compare(name: str, wanted: np.ndarray, found: np.ndarray, note: str) -> Check:
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


def held_ring(instance: str, ring: str, dtype: np.dtype | None = None) -> Held | None:
    """Return what a ring holds, in its own layout where none is demanded; None: it was never made."""
    try:
        return Held(instance, ring, dtype)
    except AttachError:
        return None
