"""Each record is in its stream once and in order, whatever is killed, cut, refused or answered twice."""

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import redis
from conftest import Instance
from sinks import Feed, Proxy, RedisServer, Worker, entries, remove_regions, until

from consumers import entries as entries_module
from consumers.embedded_redis import SOCKET_NAME
from consumers.fanout import Fanout, FanoutSpec, Lane, counter_names
from consumers.redis_link import REASONS
from layouts import BOOK, FEATURES, GapReason, Kind
from shm.counters import Counters, read_counters
from shm.errors import ConfigurationError
from shm.producer import open_ring
from shm.region import ring_name

STREAM = "trades:kraken:BTC/USD"
SEEDS = range(3)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of the embedded kind."""
    made = RedisServer(tmp_path / "redis")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def feed(instance: Instance) -> Iterator[Feed]:
    """A feed with one instrument."""
    made = Feed(instance)
    made.add_instrument("BTC/USD")
    yield made
    made.close()
    remove_regions(instance)


def spec(feed: Feed, url: str, **more: object) -> FanoutSpec:
    """Make the spec of a fan-out of the feed."""
    given = {"inputs": [feed.ring], "redis_url": url, "backoff_cap_s": 0.1, **more}
    return FanoutSpec(
        instance=feed.place.name, worker="fanout", state_dir=str(feed.place.state_dir), **given
    )


@contextlib.contextmanager
def running(wanted: FanoutSpec) -> Iterator[Fanout]:
    """Run a fan-out in a thread of this process, and drain it at the end."""
    counters = Counters.create(wanted.instance, wanted.worker, counter_names(wanted.inputs))
    stop = SimpleNamespace(is_set=False)
    fanout = Fanout(wanted, counters, stop)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            fanout.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield fanout
    finally:
        stop.is_set = True
        thread.join()
        counters.close()
    assert not failed, failed


def values(feed: Feed) -> dict[str, int]:
    """Return the fan-out's counters."""
    return read_counters(feed.place.name, "fanout").values


def delivered(server: RedisServer, feed: Feed) -> bool:
    """Whether the newest trade has arrived."""
    last = server.client().xrevrange(STREAM, count=1)
    return bool(last) and int(last[0][1].get(b"trade_id", -1)) == feed.published


def findings(server: RedisServer, feed: Feed) -> list[str]:
    """Name what is wrong with the stream: anything missing, twice, out of order, or with other fields."""
    found = []
    expected = 1
    for entry_id, fields in entries(server, STREAM):
        trade_id = int(fields["trade_id"])
        if trade_id != expected:
            found.append(f"{entry_id}: trade {trade_id}, {expected} expected")
        if int(fields["price"].replace(".", "")) != trade_id:
            found.append(f"{entry_id}: price {fields['price']} of trade {trade_id}")
        if entry_id.partition("-")[2] != fields["seq"]:
            found.append(f"{entry_id}: seq {fields['seq']}")
        expected = trade_id + 1
    if expected != feed.published + 1:
        found.append(f"ends at {expected - 1}, {feed.published} published")
    return found


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


# ---------------------------------------------------------------- kills


def cut_log(server: RedisServer, seed: int) -> None:
    """Take the last writes from the log of a dead server, as a kill amid a slow fsync would."""
    log = server.directory / "appendonly.aof"
    size = log.stat().st_size
    os.truncate(log, max(0, size - random.Random(seed).randrange(min(size, 60_000) + 1)))


def kill_redis(feed: Feed, server: RedisServer, kills: int, seed: int) -> None:
    """Kill the server `kills` times amid a flow of trades; every second time its log's end is gone."""
    chance = random.Random(seed)
    for i in range(kills):
        for _ in range(chance.randrange(1, 6)):
            feed.trades(chance.randrange(1, 300))
        if i % 3:
            until("half", lambda: server.client().xlen(STREAM) > feed.published // 2)
        server.kill()
        if i % 2:
            cut_log(server, seed + i)
        server.start()
    feed.trades(5)
    until("delivered", lambda: delivered(server, feed))


@pytest.mark.parametrize("seed", SEEDS)
def test_redis_killed_and_its_log_cut(server: RedisServer, feed: Feed, seed: int) -> None:
    """Acknowledged entries that the server forgot are sent again: no gap, nothing twice."""
    with running(spec(feed, server.url)):
        kill_redis(feed, server, 6, seed)
    assert findings(server, feed) == []
    left = values(feed)
    assert left["entries_refused"] == 0
    assert left["entries_acked"] == feed.published
    assert left["redis_reconnects"] >= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fanout_killed_anywhere(
    server: RedisServer, feed: Feed, tmp_path: Path, seed: int
) -> None:
    """kill -9 at random moments of the flow: nothing is lost, nothing is there twice."""
    chance = random.Random(seed)
    worker = Worker("consumers.fanout", spec(feed, server.url, batch_records=64), tmp_path)
    for _ in range(4):
        worker.start()
        for _ in range(chance.randrange(1, 20)):
            feed.trades(chance.randrange(1, 60))
        if chance.random() < 0.5:
            until("some progress", lambda: server.client().xlen(STREAM) > feed.published // 2)
        worker.kill()
    worker.start()
    until("delivered", lambda: delivered(server, feed))
    assert worker.stop() == 0
    assert findings(server, feed) == []
    assert worker.counters()["entries_refused"] == 0
    assert worker.counters()["entries_acked"] == feed.published


def drop_replies(feed: Feed, proxy: Proxy, server: RedisServer, batches: int) -> None:
    """Send trades while one reply in three is dropped after the server has done the work."""
    proxy.drop_probability = 0.33
    for i in range(batches):
        feed.trades(17)
        until("scanned", lambda i=i: server.client().xlen(STREAM) >= 17 * i)
    proxy.drop_probability = 0.0
    feed.trades(3)
    until("delivered", lambda: delivered(server, feed))


def test_dropped_replies_duplicate_nothing(server: RedisServer, feed: Feed, tmp_path: Path) -> None:
    """What was done without a reply is found in the progress key and not sent again."""
    with Proxy(server.directory / SOCKET_NAME, tmp_path) as proxy:
        with running(spec(feed, proxy.url)):
            drop_replies(feed, proxy, server, 60)
        assert proxy.dropped >= 10
    assert findings(server, feed) == []
    assert values(feed)["entries_refused"] == 0
    assert values(feed)["entries_acked"] == feed.published


def test_an_older_connection_cannot_write_behind_the_new_one(
    server: RedisServer, feed: Feed
) -> None:
    """Connecting ends every connection of the same name at the server."""
    wanted = spec(feed, server.url)
    ghost = server.client()
    ghost.execute_command("CLIENT", "SETNAME", f"tickring-{feed.place.name}-fanout")
    before = ghost.client_id()
    with running(wanted):
        feed.trades(1)
        until("delivered", lambda: delivered(server, feed))
        ids = [int(each["id"]) for each in server.client().client_list()]
        assert before not in ids


# ---------------------------------------------------------------- refusals


def refusal(server: RedisServer, how: str) -> tuple[list[str], list[str]]:
    """Return the CONFIG words that make the server refuse writes, and those that end it."""
    return {
        "oom": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        "readonly": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
        "noauth": (["CONFIG", "SET", "requirepass", "s3"], ["CONFIG", "SET", "requirepass", ""]),
    }[how]


@pytest.mark.parametrize("how", ["oom", "readonly", "noauth"])
def test_a_server_that_refuses_writes_is_waited_for(
    server: RedisServer, feed: Feed, how: str
) -> None:
    """It backs off, says why, keeps its place, and loses nothing."""
    refuse, allow = refusal(server, how)
    with running(spec(feed, server.url)):
        feed.trades(50)
        until("delivered", lambda: delivered(server, feed))
        admin = redis.Redis.from_url(server.url, single_connection_client=True)
        admin.execute_command(*refuse)
        if how == "noauth":
            for each in admin.client_list():
                if each["name"]:
                    admin.execute_command("CLIENT", "KILL", "ID", each["id"])
        feed.trades(60)
        until("refused", lambda: values(feed)[f"redis_errors.{how}"] >= 2)
        assert values(feed)["redis_connected"] == 0
        admin.execute_command(*allow)
        admin.close()
        until("delivered", lambda: delivered(server, feed))
    assert findings(server, feed) == []
    assert values(feed)["entries_acked"] == 110


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("loading", b"-LOADING Redis is loading the dataset in memory\r\n"),
        ("misconf", b"-MISCONF Redis is configured to save RDB snapshots\r\n"),
        ("oom", b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        ("other", b"-ERR something new\r\n"),
    ],
)
def test_a_scripted_refusal_is_waited_out(
    server: RedisServer, feed: Feed, tmp_path: Path, how: str, answer: bytes
) -> None:
    """Whatever the error, amid a flow: counted by its reason, tried again, nothing lost or doubled."""
    with Proxy(server.directory / SOCKET_NAME, tmp_path) as proxy:
        with running(spec(feed, proxy.url)):
            feed.trades(50)
            until("delivered", lambda: delivered(server, feed))
            proxy.answer = answer
            feed.trades(60)
            until("refused", lambda: values(feed)[f"redis_errors.{how}"] >= 2)
            proxy.answer = None
            until("delivered", lambda: delivered(server, feed))
    assert findings(server, feed) == []
    assert values(feed)["entries_acked"] == 110


def test_a_refused_id_above_the_progress_is_an_error(server: RedisServer, feed: Feed) -> None:
    """Somebody else has written a larger id: counted and logged, never taken for a delivery."""
    epoch = feed.events.epoch
    server.client().xadd(STREAM, {"intruder": 1}, id=f"{epoch}-5")
    feed.trades(8)
    with running(spec(feed, server.url)):
        until("all sent", lambda: values(feed)["in.feed.events.entries"] == 8)
    left = values(feed)
    assert left["entries_refused"] == 5
    assert left["entries_skipped"] == 0


def test_a_refused_id_at_or_below_the_progress_is_a_delivery(
    server: RedisServer, feed: Feed
) -> None:
    """Sent again from below the progress that the same transaction reads: skipped, counted, no error."""
    feed.trades(8)
    with running(spec(feed, server.url)) as fanout:
        until("delivered", lambda: delivered(server, feed))
        lane = fanout._lanes[0]
        until("idle", lambda: lane.scanned == lane.progress.seq == 8)
    counters = Counters.create(feed.place.name, "fanout", counter_names([feed.ring]))
    again = Fanout(spec(feed, server.url), counters, SimpleNamespace(is_set=True))
    again._inputs.join()
    again._lanes = [again._open_lane(again._inputs[0])]
    assert again._connect()
    again._lanes[0].source.resume(4, 0)
    assert again._send_next(again._lanes[0], 0)
    again._end()
    assert (counters.get("entries_skipped"), counters.get("entries_refused")) == (5, 0)
    counters.close()
    assert findings(server, feed) == []


def test_no_secret_is_told(server: RedisServer, feed: Feed, tmp_path: Path) -> None:
    """A password in the URL is in no log line, also when it is refused."""
    secret = "canary-8271"
    url = server.url.replace("unix://", f"unix://:{secret}@")
    worker = Worker("consumers.fanout", spec(feed, url), tmp_path).start()
    until("refused", lambda: sum(worker.counters()[f"redis_errors.{r}"] for r in REASONS) >= 2)
    worker.stop()
    assert secret not in worker.log.read_text()


# ---------------------------------------------------------------- defects that these tests must catch


def test_generated_ids_are_caught(
    server: RedisServer, feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`XADD *` with a forgotten progress doubles entries under dropped replies, and `findings` says so."""
    right = entries_module.xadd
    monkeypatch.setattr(entries_module, "xadd", lambda *a: (*right(*a)[:5], "*"))
    monkeypatch.setattr(Lane, "rewind", keep_place(Lane.rewind))
    with Proxy(server.directory / SOCKET_NAME, tmp_path) as proxy:
        with running(spec(feed, proxy.url)):
            drop_replies(feed, proxy, server, 20)
    assert any("expected" in finding for finding in findings(server, feed))


def test_a_missing_rewind_is_caught(
    server: RedisServer, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on where the sender believed to be, after the server forgot entries, leaves a hole."""
    monkeypatch.setattr(Lane, "rewind", keep_place(Lane.rewind))
    with running(spec(feed, server.url)):
        feed.trades(500)
        until("delivered", lambda: delivered(server, feed))
        server.kill()
        os.truncate(server.directory / "appendonly.aof", 30_000)
        server.start()
        feed.trades(5)
        until("delivered", lambda: delivered(server, feed))
    assert findings(server, feed)


def keep_place(rewind):
    """Return a defective rewind: it obeys Redis once and its own memory ever after."""

    def defective(lane: Lane, stored: object) -> None:
        rewind(lane, lane.progress if lane.progress.seq else stored)

    return defective
