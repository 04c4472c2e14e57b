"""Each record is in its stream once and in order; what could not be sent is told exactly."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Instance
from fanouts import STREAM, delivered, findings, running, spec, values
from sinks import Feed, RedisServer, Worker, entries, remove_regions, until

from consumers.fanout import Fanout, counter_names
from layouts import BOOK, FEATURES, GapReason, Kind
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.producer import open_ring
from shm.region import ring_name

pytest_plugins = ["sinks_fixtures"]

# ---------------------------------------------------------------- plain work


def test_trades_arrive_whole_and_in_order(server: RedisServer, feed: Feed, tmp_path: Path) -> None:
    """A worker process delivers what was there before it, what comes while it runs, and drains at SIGTERM."""
    feed.trades(700)
    worker = Worker("consumers.fanout", spec(feed, server.url), tmp_path).start()
    feed.trades(3000)
    until("delivered", lambda: delivered(server, feed))
    feed.trades(2000)
    feed.events.stop()
    assert worker.stop() == 0
    assert findings(server, feed) == []
    counters = worker.counters()
    assert counters["entries_acked"] == counters["in.feed.events.seq"] == 5700
    zero = (
        "entries_skipped",
        "entries_refused",
        "gap_entries",
        "drain_left",
        "in.feed.events.lost",
    )
    assert [counters[name] for name in zero] == [0] * len(zero)


def test_streams_are_trimmed_to_about_maxlen(server: RedisServer, feed: Feed) -> None:
    """The oldest entries go, the newest stay, and nothing is counted as lost."""
    with running(spec(feed, server.url, maxlen=100)):
        feed.trades(2000)
        until("delivered", lambda: delivered(server, feed))
    kept = entries(server, STREAM)
    assert 100 <= len(kept) < 400
    assert [int(f["seq"]) for _, f in kept] == list(range(2001 - len(kept), 2001))
    assert values(feed)["entries_acked"] == 2000


def test_a_records_epoch_is_in_its_id(server: RedisServer, feed: Feed) -> None:
    """After a collector's crash the seq goes on under a new epoch."""
    with running(spec(feed, server.url)):
        feed.trades(3)
        first = feed.events.epoch
        feed.crash()
        feed.trades(2)
        until("delivered", lambda: delivered(server, feed))
    ids = [entry_id for entry_id, _ in entries(server, STREAM)]
    second = feed.events.epoch
    assert ids == [f"{first}-{i}" for i in (1, 2, 3)] + [f"{second}-{i}" for i in (4, 5)]


def test_a_new_run_is_not_taken_for_the_old_one(
    server: RedisServer, feed: Feed, instance: Instance
) -> None:
    """Rings that begin again at seq 1 are delivered from there, behind the first run's entries."""
    with running(spec(feed, server.url)):
        feed.trades(50)
        until("delivered", lambda: delivered(server, feed))
    feed.close()
    remove_regions(instance)
    again = Feed(instance)
    again.add_instrument("BTC/USD")
    with running(spec(again, server.url)):
        again.trades(30)
        until("delivered", lambda: delivered(server, again))
    seqs = [int(fields["seq"]) for _, fields in entries(server, STREAM)]
    assert seqs == [*range(1, 51), *range(1, 31)]
    assert values(again)["entries_acked"] == 30
    again.close()


@pytest.mark.parametrize("outage", [False, True])
def test_a_ring_that_comes_late_is_delivered_from_its_first_record(
    server: RedisServer, feed: Feed, outage: bool
) -> None:
    """The others are delivered meanwhile; also when it comes while Redis is away, and it is read to its end in a drain."""
    with running(spec(feed, server.url, inputs=["late.events", feed.ring])):
        feed.trades(20)
        until("delivered", lambda: delivered(server, feed))
        if outage:
            server.kill()
            until("noticed", lambda: values(feed)["redis_connected"] == 0)
        late = Feed(feed.place, "late", first_id=2)
        late.add_instrument("ETH/USD")
        late.trades(30)
        until("joined", lambda: values(feed)["in.late.events.here"] == 1)
        if outage:
            server.start()
        feed.trades(5)
        late.trades(10)
    assert findings(server, feed) == []
    kept = entries(server, "trades:kraken:ETH/USD")
    assert [int(fields["seq"]) for _, fields in kept] == list(range(1, 41))
    assert values(feed)["entries_acked"] == 65
    assert values(feed)["drain_left"] == 0
    with running(spec(feed, server.url, inputs=["late.events", feed.ring])):  # goes on after it
        late.trades(5)
    assert (values(feed)["entries_acked"], values(feed)["entries_refused"]) == (70, 0)
    late.close()


def test_a_ring_made_anew_while_the_worker_runs_is_followed(
    server: RedisServer, feed: Feed
) -> None:
    """The old ring is read to its end, then the new one from its first record."""
    with running(spec(feed, server.url)):
        feed.trades(3)
        until("delivered", lambda: delivered(server, feed))
        feed.trades(2)
        feed.events.retire()
        feed.events.close()
        feed.events = feed.open_events()
        feed.trades(7)
        until("delivered", lambda: delivered(server, feed))
    assert [int(f["seq"]) for _, f in entries(server, STREAM)] == [*range(1, 6), *range(1, 8)]


def test_feature_rows_have_streams_of_their_own(server: RedisServer, feed: Feed) -> None:
    """A features ring beside an events ring, each with its own progress."""
    name = ring_name(feed.place.name, "features", "features")
    rows = open_ring(name, FEATURES, 64, feed.place.state_dir)
    made = np.zeros(10, FEATURES)
    made["kind"], made["instrument_id"], made["row_no"] = Kind.FEATURES, 1, range(10)
    rows.publish_batch(made)
    feed.trades(20)
    with running(spec(feed, server.url, inputs=[feed.ring, "features.features"])):
        until("delivered", lambda: delivered(server, feed))
    told = entries(server, "features:kraken:BTC/USD")
    assert [int(fields["row_no"]) for _, fields in told] == list(range(10))
    assert values(feed)["in.features.features.entries"] == 10
    assert values(feed)["entries_acked"] == 30
    rows.close()


def test_a_ring_without_a_stream_is_refused(server: RedisServer, feed: Feed) -> None:
    """Only events and features can be sent; the error names the ring."""
    books = open_ring(ring_name(feed.place.name, "feed", "books"), BOOK, 4, feed.place.state_dir)
    counters = Counters.create(feed.place.name, "fanout", counter_names(["feed.books"]))
    wanted = spec(feed, server.url, inputs=["feed.books"])
    with pytest.raises(ConfigurationError, match=r"feed\.books"):
        Fanout(wanted, counters, SimpleNamespace(is_set=False)).run()
    counters.close()
    books.close()


# ---------------------------------------------------------------- what is lost is told


def test_an_outage_longer_than_the_ring_is_one_exact_gap(
    server: RedisServer, instance: Instance
) -> None:
    """Published = delivered + the ranges that the gap entries tell."""
    feed = Feed(instance, slots=256)
    feed.add_instrument("BTC/USD")
    with running(spec(feed, server.url)):
        feed.trades(100)
        until("delivered", lambda: delivered(server, feed))
        server.kill()
        feed.trades(1000)
        server.start()
        until("delivered", lambda: delivered(server, feed))
        feed.trades(10)
        until("delivered", lambda: delivered(server, feed))
    told = [fields for _, fields in entries(server, STREAM)]
    seqs = [int(fields["seq"]) for fields in told if "price" in fields]
    lost = [
        seq
        for fields in told
        if "gap_from" in fields
        for seq in range(int(fields["gap_from"]), int(fields["gap_to"]) + 1)
    ]
    assert sorted(seqs + lost) == list(range(1, 1111))
    assert lost
    assert values(feed)["in.feed.events.lost"] == len(lost)
    assert values(feed)["gap_entries"] == 1
    feed.close()
    remove_regions(instance)


def test_what_was_overwritten_before_the_first_start_is_told(
    server: RedisServer, instance: Instance
) -> None:
    """A fan-out that comes late says what it never saw."""
    feed = Feed(instance, slots=64)
    feed.add_instrument("BTC/USD")
    feed.trades(200)
    with running(spec(feed, server.url)):
        until("delivered", lambda: delivered(server, feed))
    first = entries(server, STREAM)[0][1]
    assert (first["gap_from"], first["reason"]) == ("1", "lapped")
    left = values(feed)
    assert left["entries_acked"] + left["in.feed.events.lost"] == 200
    feed.close()
    remove_regions(instance)


def test_a_venue_gap_stands_between_its_trades(server: RedisServer, feed: Feed) -> None:
    """A reader of the stream meets the gap where it was."""
    feed.trades(2)
    feed.record(Kind.GAP, 3, 8, 0, GapReason.DISCONNECT)
    feed.trades(2)
    with running(spec(feed, server.url)):
        until("delivered", lambda: delivered(server, feed))
    kinds = ["gap" if "gap_from" in fields else "trade" for _, fields in entries(server, STREAM)]
    assert kinds == ["trade", "trade", "gap", "trade", "trade"]


def test_a_drain_without_redis_ends_and_counts_what_remains(
    server: RedisServer, feed: Feed
) -> None:
    """The time-out ends it; the next start delivers the rest."""
    server.kill()
    with running(spec(feed, server.url, drain_timeout_s=0.2)):
        feed.trades(40)
    assert values(feed)["drain_left"] == 40
    server.start()
    with running(spec(feed, server.url)):
        until("delivered", lambda: delivered(server, feed))
    assert findings(server, feed) == []
    assert values(feed)["drain_left"] == 0
