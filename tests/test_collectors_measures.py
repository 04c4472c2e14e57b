"""A link's measures: frames by what they took, the kernel's queue, the venue's clock by the fastest of many frames."""

import socket

import pytest
from decoding import Pipeline
from kraken_frames import ASKS, BETTER_BID, BIDS, crc, snapshot_v2, v2

from collectors.measures import COUNTERS, OFFSET_WINDOW_S, Measures, queued_bytes
from ops.link import link_facts
from shm import clock

VENUE_NS = 1_785_552_833_646_219_000
"""2026-08-01T02:53:53.646219Z, the time in the frames."""


class Counts(dict):
    """Counters in this process."""

    def add(self, name: str, amount: int = 1) -> None:
        self[name] = self.get(name, 0) + amount

    def set(self, name: str, value: int) -> None:
        self[name] = value


class Shown:
    """A pipeline with measures."""

    def __init__(self) -> None:
        self.pipeline = Pipeline("kraken_v2")
        self.counts = Counts.fromkeys(COUNTERS, 0)
        self.measures = Measures(self.pipeline.outlet, self.counts)

    def update(self, ts_recv: int, n: int = 1) -> None:
        for i in range(n):
            rows = BETTER_BID[0] if i % 2 == 0 else BIDS[:1]
            frame = v2("update", "A/B", rows, [], crc([*rows, *BIDS[1:]], ASKS))
            assert self.pipeline.feed(frame, ts_recv) == 0


@pytest.fixture
def shown():
    made = Shown()
    yield made
    made.pipeline.close()


def test_every_published_frame_is_in_one_class(shown) -> None:
    """Counts by duration add up to the frames; mean, bound and longest follow from them."""
    now = clock.now_ns()
    shown.pipeline.feed(snapshot_v2(), now)
    shown.update(now, 50)
    shown.update(now - 5_000_000, 50)
    shown.measures.show(1.0, -1)
    counts = shown.counts
    classes = [n for name, n in counts.items() if name.startswith("decode_ns.")]
    assert sum(classes) == counts["decode_frames"] == 101
    assert counts["decode_ns.longer"] >= 50
    assert counts["decode_ns_max"] >= 5_000_000
    facts = link_facts(counts)
    assert facts.decode_us_p99 is None
    assert facts.decode_us_mean > 2000
    shown.measures.show(2.0, -1)
    assert counts["decode_frames"] == 101


@pytest.mark.parametrize(("took_ns", "name"), [(0, "1024"), (1_000_000, "1048576")])
def test_a_duration_is_counted_below_its_power_of_two(shown, took_ns: int, name: str) -> None:
    """What takes a while is in the class of its power of two or the next; what took less than nothing, in the first."""
    shown.pipeline.feed(snapshot_v2(), clock.now_ns() + 60_000_000_000)
    shown.measures.show(1.0, -1)
    before = dict(shown.counts)
    shown.update(clock.now_ns() - took_ns if took_ns else clock.now_ns() + 60_000_000_000)
    shown.measures.show(1.1, -1)
    grown = {k for k, n in shown.counts.items() if k.startswith("decode_ns.") and n > before[k]}
    later = {"1048576": {"decode_ns.longer"}, "1024": set()}[name]
    assert grown <= {f"decode_ns.below_{name}"} | later
    assert len(grown) == 1


def test_the_fastest_frame_tells_the_clocks(shown) -> None:
    """Of delays with queues in them the least counts, also a negative one; it is forgotten after two windows."""
    shown.pipeline.feed(snapshot_v2(), VENUE_NS + 900_000_000)
    for delay_ms in (80, 12, 300):
        shown.update(VENUE_NS + delay_ms * 1_000_000)
    shown.measures.show(1.0, -1)
    assert link_facts(shown.counts).clock_offset_ms == 12.0
    shown.update(VENUE_NS - 7_000_000)
    shown.measures.show(2.0, -1)
    assert link_facts(shown.counts).clock_offset_ms == -7.0
    for window in (1, 2):
        shown.update(VENUE_NS + 40_000_000)
        shown.measures.show(1.0 + window * OFFSET_WINDOW_S + window, -1)
    shown.update(VENUE_NS + 40_000_000)
    shown.measures.show(5.0 + 3 * OFFSET_WINDOW_S, -1)
    assert link_facts(shown.counts).clock_offset_ms == 40.0


def test_a_link_without_times_tells_no_offset(shown) -> None:
    """Nothing was published: no offset, rather than 0."""
    shown.measures.show(1.0, -1)
    facts = link_facts(shown.counts)
    assert facts.clock_offset_ms is None
    assert facts.decode_us_mean is None


def test_the_kernels_queue_is_seen(shown) -> None:
    """Bytes that wait are counted exactly; the most that was seen stays; no socket is no queue."""
    one, other = socket.socketpair()
    with one, other:
        other.sendall(b"x" * 1234)
        shown.measures.show(1.0, one.fileno())
        assert shown.counts["socket_queued_bytes"] == 1234
        one.recv(1000)
        shown.measures.show(2.0, one.fileno())
        assert shown.counts["socket_queued_bytes"] == 234
        assert shown.counts["socket_queued_bytes_max"] == 1234
    assert queued_bytes(-1) == 0
    shown.measures.show(3.0, -1)
    assert shown.counts["socket_queued_bytes"] == 0


def test_names_fit_their_region() -> None:
    """Each name is stored whole."""
    assert max(len(name) for name in COUNTERS) < 48
