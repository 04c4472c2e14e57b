"""A collector process over a real socket: every frame ends in one count, and a kill is told, not hidden."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collector_processes import FIRST_ID, MARKET, WAIT_S, Bench, unaccounted

import shm
from collectors.collector_spec import CollectorSpec
from collectors.decoder import Subscription
from collectors.rings import Rings
from collectors.worker import BEAT_FRAMES, COUNTERS, Collector
from layouts import EVENT, RESTART, SNAPSHOT_BEGIN, InstrumentState, Kind, Mark
from ops.link import link_facts
from shm import clock
from shm.consumer import join
from shm.counters import Counters, read_counters
from shm.errors import ConfigurationError
from shm.region import ring_name


@pytest.fixture
def bench(instance) -> Iterator[Bench]:
    made = Bench(instance)
    yield made
    made.close()


def _events(bench: Bench) -> np.ndarray:
    with shm.attach("kraken.events", bench.instance) as reader:
        return reader.last(65_536)[0]


def test_a_recorded_session_over_the_socket_checks_to_the_last_checksum(
    bench: Bench, captures: Path
) -> None:
    """All 4,269 checksums of the ten-pair recording hold over a real socket, and the ledger closes."""
    names = ("kraken_v1_book_10pairs", "kraken_v1_trade_10pairs")
    files = [str(captures / f"{name}.jsonl.gz") for name in names]
    port = bench.start_venue(captures=files, synthetic=None, speed="max")
    pairs = "WAVES/EUR XMR/USD KSM/XBT GRT/ETH SC/EUR ETH/CHF OCEAN/XBT OMG/USD XBT/CHF ADA/XBT"
    bench.start_collector(
        port,
        venue="kraken_v1",
        url=f"ws://127.0.0.1:{port}/kraken_v1",
        subscriptions=[
            {"channel": "book", "symbols": pairs.split(), "depth": 1000},
            {"channel": "trade", "symbols": pairs.split()},
        ],
    )
    facts = bench.until("kraken", lambda f: f.values["checksums_ok"] == 4269)
    assert facts.values["checksums_bad"] == 0
    assert bench.end("kraken") == 0
    facts = read_counters(bench.instance, "kraken")
    assert facts.state == "STOPPED"
    assert unaccounted(facts) == 0
    with shm.attach("kraken.events", bench.instance) as reader:
        assert reader.facts().state == "STOPPED"
        assert reader.facts().head - 1 == facts.values["records_published"]


def test_a_killed_collector_tells_its_restart_first_and_syncs_again(bench: Bench) -> None:
    """After kill -9 the next epoch opens with RESTART, the sequence goes on, books come from a snapshot."""
    port = bench.start_venue()
    first = bench.start_collector(port)
    bench.until("kraken", lambda f: f.values["frames_in"] > 200 and f.values["books_live"] == 2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    bench.start_collector(port)
    bench.until("kraken", lambda f: f.restarts == 1 and f.values["books_live"] == 2)
    assert bench.end("kraken") == 0
    assert unaccounted(read_counters(bench.instance, "kraken")) == 0
    events = _events(bench)
    with shm.attach("kraken.events", bench.instance) as reader:
        (epoch, first_seq), (next_epoch, restart_seq) = reader.facts().epochs
    assert next_epoch > epoch
    assert np.array_equal(events["stamp"], 2 * np.arange(first_seq, first_seq + len(events)) + 2)
    restart = events[restart_seq - first_seq :]
    assert restart["kind"][0] == Kind.RESTART
    told = restart[:1].view(RESTART)
    assert (told["epoch"][0], told["previous_epoch"][0]) == (next_epoch, epoch)
    kinds = restart["kind"][np.isin(restart["instrument_id"], (FIRST_ID, FIRST_ID + 1))]
    levels = np.flatnonzero(kinds == Kind.LEVEL)
    assert np.flatnonzero(kinds == Kind.SNAPSHOT_BEGIN)[0] < levels[0]


def test_a_consumer_gets_the_snapshot_that_it_asks_for(bench: Bench) -> None:
    """A request in .ctl is answered from the collector's own book, without the venue."""
    port = bench.start_venue()
    bench.start_collector(port)
    bench.until("kraken", lambda f: f.values["books_live"] == 2)
    consumer = join(ring_name(bench.instance, "kraken", "events"), "asker", EVENT, start=-1)
    consumer.request_snapshot(FIRST_ID + 1)
    records = np.empty(4096, EVENT)
    begins: list[np.ndarray] = []
    end = time.monotonic() + WAIT_S
    while not begins and time.monotonic() < end:
        n = consumer.poll_into(records)
        mine = records[: max(n, 0)]
        begins = [r for r in mine if r["kind"] == Kind.SNAPSHOT_BEGIN]
        time.sleep(0.01)
    assert [int(r["instrument_id"]) for r in begins] == [FIRST_ID + 1]
    assert np.array(begins[:1]).view(SNAPSHOT_BEGIN)["levels"][0] > 0
    assert int(begins[0]["marks"]) & Mark.STATE_MASK == InstrumentState.LIVE
    consumer.close()


def test_a_link_is_told_in_figures(bench: Bench) -> None:
    """Over a real socket: every published frame is measured, the clocks are compared, the socket is found."""
    port = bench.start_venue()
    bench.start_collector(port)
    facts = bench.until("kraken", lambda f: f.values["decode_frames"] > 500)
    told = link_facts(facts.values)
    assert 0 < told.decode_us_mean < 1e5
    assert told.clock_offset_ms is not None
    assert told.duplicates == told.late == told.channels_silent == 0
    assert bench.end("kraken") == 0


def test_channels_outside_their_session_are_told(bench: Bench) -> None:
    """Both channels of the one instrument whose only session is long past; its frames are taken all the same."""
    port = bench.start_venue()
    past = {"time_zone": "UTC", "instruments": ["kraken:BTC/USD"], "hours": ["2001-01-01"]}
    bench.start_collector(port, sessions=[past])
    facts = bench.until("kraken", lambda f: f.values["channels_closed"] > 0)
    assert link_facts(facts.values).channels_closed == 2
    bench.until("kraken", lambda f: f.values["books_live"] == 2)
    assert bench.end("kraken") == 0


def test_a_lost_venue_is_told_and_found_again(bench: Bench) -> None:
    """When the venue dies, instruments are SYNCING; when it is back on its port, they are LIVE again."""
    port = bench.start_venue()
    bench.start_collector(port)
    bench.until("kraken", lambda f: f.values["books_live"] == 2)
    venue = bench.processes.pop("venue")
    venue.kill()
    venue.communicate()
    bench.until("kraken", lambda f: f.values["connected"] == 0 and f.values["books_live"] == 0)
    bench.start_venue(synthetic=MARKET, port=port)
    facts = bench.until("kraken", lambda f: f.values["books_live"] == 2)
    assert facts.values["reconnects"] == 1
    assert facts.values["gaps.disconnect"] == 2
    assert bench.end("kraken") == 0
    assert unaccounted(read_counters(bench.instance, "kraken")) == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("malformed", "malformed_json"),
        ("wrong_checksum", "checksum"),
        ("unknown_symbol", "unknown_symbol"),
        ("excess_digits", "too_many_digits"),
        ("oversize", "too_large"),
    ],
)
def test_bad_input_is_one_counted_refusal_and_the_books_come_back(
    bench: Bench, fault: str, reason: str
) -> None:
    """Each kind of bad frame is rejected once for its own reason; both books are LIVE afterwards."""
    faults = [{"path": "kraken_v2", "kind": fault, "frame": 1000}]
    if fault == "oversize":
        faults[0]["oversize_bytes"] = 50_000_000
    port = bench.start_venue(faults=faults, unheard="hold")
    bench.start_collector(port)
    counted = f"rejected.{reason}"
    seen = bench.until("kraken", lambda f: f.values[counted] > 0).values["frames_in"]
    facts = bench.until(
        "kraken", lambda f: f.values["books_live"] == 2 and f.values["frames_in"] > seen + 300
    )
    assert facts.values[counted] == 1
    assert bench.end("kraken") == 0
    assert unaccounted(read_counters(bench.instance, "kraken")) == 0


def test_two_collectors_of_one_name_are_one_too_many(bench: Bench) -> None:
    """The second process of a worker's name ends with a clear sentence and disturbs nothing."""
    port = bench.start_venue()
    bench.start_collector(port)
    bench.until("kraken", lambda f: f.values["books_live"] == 2)
    running = bench.processes.pop("kraken")
    second = bench.start_collector(port)
    _, said = second.communicate(timeout=10)
    assert second.returncode != 0
    assert "held by a running process" in said
    bench.processes["kraken"] = running
    assert read_counters(bench.instance, "kraken").pid == running.pid
    assert bench.end("kraken") == 0


def test_an_unknown_venue_is_a_configuration_error() -> None:
    """The error names the venue and those that are known."""
    with pytest.raises(ConfigurationError, match="kraken_v2"):
        CollectorSpec(
            instance="i",
            worker="w",
            state_dir="s",
            venue="nowhere",
            url="ws://127.0.0.1:1/",
            subscriptions=(),
            first_instrument_id=1,
        )


def test_counter_names_fit_into_their_region() -> None:
    """Names are distinct and short enough to be stored whole."""
    assert len(set(COUNTERS)) == len(COUNTERS)
    assert max(len(name) for name in COUNTERS) < 48


def test_a_backlog_of_frames_is_no_hang(bench: Bench, instance) -> None:
    """While timers wait for a backlog, frames show the heartbeat: not at every one, at every BEAT_FRAMES-th."""
    spec = CollectorSpec(
        instance=instance.name,
        worker="kraken",
        state_dir=str(instance.state_dir),
        venue="kraken_v2",
        url="ws://127.0.0.1:9/",
        subscriptions=(Subscription("book", ("A/B",), 10),),
        first_instrument_id=FIRST_ID,
    )
    counters = Counters.create(instance.name, "kraken", COUNTERS)
    rings = Rings(spec)
    collector = Collector(spec, counters, rings)
    begin = read_counters(instance.name, "kraken").heartbeat_ns
    beats = []
    with clock.replaced(wall=lambda: begin + 1_000 * (len(beats) + 1)):
        for _ in range(2 * BEAT_FRAMES):
            collector.on_frame(b'{"channel":"heartbeat"}', begin)
            beats.append(read_counters(instance.name, "kraken").heartbeat_ns - begin)
    at = BEAT_FRAMES - 1
    assert beats == [0] * at + [1_000 * BEAT_FRAMES] * BEAT_FRAMES + [2_000 * BEAT_FRAMES]
    rings.stop()
