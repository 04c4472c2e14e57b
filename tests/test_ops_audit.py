"""The audit misses nothing: each kind of loss, repeat and damage that is seeded here is counted."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import Instance

from layouts import EVENT, FEATURES, Kind, Mark
from ops import audit_captures
from ops.audit import audit
from ops.audit_checks import compare, features_checks, held_ring
from ops.audit_ledgers import frame_rows, record_rows
from ops.latency import Sampler
from ops.options import Topology
from ops.topology import parse_topology
from shm.counters import Counters
from shm.producer import Producer, open_ring
from shm.reclaim import reclaim_instance, reclaim_ring
from shm.region import ring_name
from shm.registry import files_of


@pytest.fixture
def topology(instance: Instance) -> Topology:
    """One collector, a features worker, nothing else."""
    off = {"enabled": False}
    return parse_topology(
        {
            "instance": instance.name,
            "collectors": {"kraken_v1": off},
            "fanout": off,
            "recorder": off,
        },
        "test",
    )


KEPT = ("capture_accounted", "capture_frames", "capture_lost", "capture_unasked")


class Stage:
    """Rings and counters as workers would leave them."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.events = self.ring("kraken", "events", EVENT, 64)
        self.features = self.ring("features", "features", FEATURES, 64)
        names = ["frames_in", "frames_decoded", "frames_abandoned", "rejected.checksum", *KEPT]
        self.collector = Counters.create(instance.name, "kraken", names)
        self.reader = Counters.create(
            instance.name, "features", ["in.kraken.events.seq", "in.kraken.events.lost"]
        )

    def ring(self, worker: str, ring: str, dtype: np.dtype, slots: int) -> Producer:
        """Make a ring."""
        name = ring_name(self.instance.name, worker, ring)
        return open_ring(name, dtype, slots, self.instance.state_dir)

    def publish_events(self, *kinds: Kind) -> None:
        """Publish one event of each kind."""
        records = np.zeros(len(kinds), EVENT)
        records["kind"] = kinds
        records["instrument_id"] = 1
        self.events.publish_batch(records)

    def publish_rows(self, *source_seqs: int) -> None:
        """Publish the rows that these events caused."""
        rows = np.zeros(len(source_seqs), FEATURES)
        rows["kind"] = Kind.FEATURES
        rows["source_epoch"] = self.events.epoch
        rows["source_seq"] = source_seqs
        self.features.publish_batch(rows)

    def close(self) -> None:
        """Leave, and remove all."""
        for part in (self.events, self.features, self.collector, self.reader):
            part.close()
        assert reclaim_instance(self.instance.name) == []
        assert files_of(self.instance.name) == []


@pytest.fixture
def stage(instance: Instance):
    """Set one up, and clear it."""
    made = Stage(instance)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("frames_in", "decoded", "rejected", "abandoned", "unaccounted"),
    [(10, 7, 2, 1, 0), (10, 7, 2, 0, 1), (10, 8, 2, 1, -1), (0, 0, 0, 0, 0)],
)
def test_frames_in_are_decoded_rejected_or_abandoned(
    topology, stage, frames_in, decoded, rejected, abandoned, unaccounted
) -> None:
    """What is missing, or counted twice, is unaccounted for."""
    values = zip(
        ("frames_in", "frames_decoded", "rejected.checksum", "frames_abandoned"),
        (frames_in, decoded, rejected, abandoned),
        strict=True,
    )
    for name, value in values:
        stage.collector.set(name, value)
    row = frame_rows(topology)[0]
    assert row.unaccounted == unaccounted


@pytest.mark.parametrize(
    ("frames_in", "account", "live", "stopped"),
    [
        (100, (100, 60, 10, 30), 0, 0),
        (101, (100, 60, 10, 30), 0, 1),
        (9_999, (100, 60, 10, 30), 0, 9_899),
        (9_999, (100, 59, 10, 30), 1, 9_900),
        (9_999, (100, 61, 10, 30), 1, 9_900),
        (9_999, (100, 60, 10, 29), 1, 9_900),
        (99, (100, 60, 10, 30), 1, 1),
    ],
)
def test_captured_frames_add_up_however_many_come_meanwhile(
    topology, stage, monkeypatch, frames_in, account, live, stopped
) -> None:
    """An account is of one instant: what came since is in hand until the collector has stopped, what it lacks is told."""
    monkeypatch.setattr(audit_captures, "LOOK_S", 0.0)
    stage.collector.set("frames_in", frames_in)
    for name, value in zip(KEPT, account, strict=True):
        stage.collector.set(name, value)
    check = audit_captures.capture_checks(topology, closing=False)[0]
    assert check.unaccounted == live
    assert (f"{frames_in - 100} more came" in check.note) == (frames_in > 100)
    stage.collector.set_state("STOPPED")
    assert audit_captures.capture_checks(topology, closing=False)[0].unaccounted == stopped


@pytest.mark.parametrize(("torn", "unaccounted"), [(0, 0), (1, 0), (49, 0), (50, 7), (1000, 7)])
def test_an_account_that_is_read_between_two_stores_is_read_again(
    topology, stage, monkeypatch, torn, unaccounted
) -> None:
    """LOOKS times at most; then what does not add up is told."""
    assert audit_captures.LOOKS == 50
    monkeypatch.setattr(audit_captures, "LOOK_S", 0.0)
    for name, value in zip(("frames_in", *KEPT), (100, 100, 60, 10, 30), strict=True):
        stage.collector.set(name, value)
    whole = audit_captures.counters_of(topology.instance, "kraken")
    reads = itertools.count()

    def read(*_):
        is_torn = 0 < next(reads) <= torn  # the first reading only tells whether there is any
        return whole._replace(values=whole.values | {"capture_frames": 67}) if is_torn else whole

    monkeypatch.setattr(audit_captures, "counters_of", read)
    assert audit_captures.capture_checks(topology, closing=False)[0].unaccounted == unaccounted


@pytest.mark.parametrize(
    ("seq", "lost", "in_flight", "live", "closing"),
    [(3, 0, 0, 0, 0), (2, 1, 1, 0, 1), (0, 0, 3, 0, 3), (4, 0, -1, 1, -1), (1, 2, 2, 1, 2)],
)
def test_records_are_delivered_lost_or_in_flight(
    topology, stage, seq, lost, in_flight, live, closing
) -> None:
    """Three were published; at the closing nothing may be in flight; nobody can have read what is not there."""
    stage.publish_events(Kind.QUOTE, Kind.LEVEL, Kind.TRADE)
    stage.reader.set("in.kraken.events.seq", seq)
    stage.reader.set("in.kraken.events.lost", lost)
    row = record_rows(topology, closing=False)[0]
    assert (row.published, row.in_flight, row.unaccounted) == (3, in_flight, live)
    assert record_rows(topology, closing=True)[0].unaccounted == closing


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [([1, 3], 0), ([1], 1), ([1, 3, 3], 1), ([1, 2, 3], 1), ([], 2), ([2, 2], 4)],
)
def test_each_trade_and_quote_has_its_row_once(topology, stage, rows, wrong) -> None:
    """Seeded: a missing row, one twice, one without a cause."""
    stage.publish_events(Kind.QUOTE, Kind.LEVEL, Kind.TRADE)
    stage.reader.set("in.kraken.events.seq", 3)
    if rows:
        stage.publish_rows(*rows)
    assert _features_unaccounted(topology) == wrong


def test_rows_that_are_still_to_come_are_not_missing(topology, stage) -> None:
    """Only what the worker says it has applied is asked for."""
    stage.publish_events(Kind.QUOTE, Kind.TRADE)
    stage.publish_rows(1)
    stage.reader.set("in.kraken.events.seq", 1)
    assert _features_unaccounted(topology) == 0
    stage.reader.set("in.kraken.events.seq", 2)
    assert _features_unaccounted(topology) == 1


def test_overwritten_rings_are_compared_as_far_as_they_go(topology, stage) -> None:
    """And a repeat among what is left is found all the same."""
    for seq in range(1, 201):
        stage.publish_events(Kind.QUOTE)
        stage.publish_rows(seq)
    stage.reader.set("in.kraken.events.seq", 200)
    assert _features_unaccounted(topology) == 0
    stage.publish_rows(200)
    assert _features_unaccounted(topology) == 1


def _features_unaccounted(topology: Topology) -> int:
    from shm.counters import read_counters

    positions = read_counters(topology.instance, "features").values
    features = held_ring(topology.instance, "features.features", FEATURES)
    events = held_ring(topology.instance, "kraken.events", EVENT)
    assert features and events
    checks = features_checks(topology, {"kraken.events": events}, features, positions)
    return checks[0].unaccounted


def test_missing_and_repeated_do_not_cancel_out() -> None:
    """Sets are compared, not totals."""
    check = compare("x", np.array([1, 2, 3]), np.array([1, 2, 2]), "")
    assert (check.expected, check.found, check.unaccounted) == (3, 3, 2)


def test_the_store_is_held_to_the_rings(topology, stage, tmp_path: Path) -> None:
    """A ring without any file is missing whole at the closing, and merely not stored yet before."""
    from ops.audit_ledgers import ring_facts
    from ops.audit_store import store_checks

    stage.publish_events(Kind.QUOTE, Kind.TRADE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.jsonl").touch()
    rings = {"kraken.events": ring_facts(topology.instance, "kraken.events")}
    closing = store_checks(tmp_path / "data", rings, None, closing=True)[0]
    assert (closing.expected, closing.unaccounted) == (2, 2)
    live = store_checks(tmp_path / "data", rings, None, closing=False)[0]
    assert (live.expected, live.unaccounted) == (0, 0)


def test_closed_books_are_not_invented(instance: Instance) -> None:
    """Without a run there is nothing to read."""
    from shm.errors import NoRing

    with pytest.raises(NoRing, match="no closed books"):
        audit(instance.name)


def test_latencies_come_from_the_records_alone(stage) -> None:
    """Socket to ring per frame, ring to features as a difference, clock trouble flagged and left out."""
    from shm.clock import now_ns

    sampler = Sampler(stage.instance.name, ["kraken.events"])
    sampler.begin()
    recv = now_ns()
    events = np.zeros(3, EVENT)
    events["kind"] = (Kind.LEVEL, Kind.QUOTE, Kind.TRADE)
    events["marks"] = (0, Mark.LAST_IN_FRAME, Mark.LAST_IN_FRAME)
    events["ts_recv"] = (recv, recv, now_ns() + 10**12)
    stage.events.publish_batch(events)
    rows = np.zeros(2, FEATURES)
    rows["kind"] = Kind.FEATURES
    rows["source_epoch"] = stage.events.epoch
    rows["source_seq"] = (2, 3)
    rows["ts_recv"] = events["ts_recv"][1:]
    stage.features.publish_batch(rows)
    sampler.sample()
    socket, between, whole = sampler.hops()
    sampler.close()
    assert (socket.n, socket.flagged) == (1, 1)
    assert (between.n, whole.n) == (1, 1)
    assert socket.p50_ns == events["publish_delta_ns"][1]
    assert between.p50_ns == rows["publish_delta_ns"][0] - events["publish_delta_ns"][1]
    assert whole.max_ns == rows["publish_delta_ns"][0]
    assert sampler.first_record_ns > recv


def test_what_came_in_before_the_beginning_is_left_out(stage) -> None:
    """A row that waited for a worker to start tells nothing of the hop."""
    from shm.clock import now_ns

    events = np.zeros(1, EVENT)
    events["kind"], events["marks"], events["ts_recv"] = Kind.QUOTE, Mark.LAST_IN_FRAME, now_ns()
    stage.events.publish_batch(events)
    sampler = Sampler(stage.instance.name, ["kraken.events"])
    sampler.begin()
    assert [hop.n for hop in sampler.hops()] == [0, 0, 0]
    sampler.close()


def test_a_ring_with_a_living_producer_is_not_reclaimed(stage) -> None:
    """Its lock decides."""
    from shm.errors import OwnershipError

    with pytest.raises(OwnershipError):
        reclaim_ring(stage.events.name)
    assert any("kraken.events.data" in file for file in reclaim_instance(stage.instance.name))


def test_a_reclaimed_ring_is_retired_for_those_who_have_it_mapped(instance: Instance) -> None:
    """They learn of it; exactly one cleaner did it."""
    from shm.reader import open_reader

    name = ring_name(instance.name, "kraken", "events")
    open_ring(name, EVENT, 64, instance.state_dir).close()
    with open_reader(name) as reader:
        assert reclaim_ring(name)
        assert reader.facts().state == "RETIRED"
    assert not reclaim_ring(name)
    assert files_of(instance.name) == []
