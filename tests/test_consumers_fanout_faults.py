"""Nothing is lost and nothing is twice, whatever is killed, cut, refused or answered twice; and defects are caught."""

import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from fanouts import STREAM, delivered, findings, running, spec, values
from sinks import Feed, Proxy, RedisServer, Worker, until

from consumers import entries as entries_module
from consumers.fanout import Fanout, Lane, counter_names
from consumers.redis_link import REASONS
from shm.counters import Counters

pytest_plugins = ["sinks_fixtures"]

SEEDS = range(2)

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


def test_an_idle_fanout_finds_that_the_server_has_forgotten(
    server: RedisServer, feed: Feed
) -> None:
    """In a quiet market nothing new has to come for the missing entries to be sent again."""
    with running(spec(feed, server.url)):
        feed.trades(400)
        until("delivered", lambda: delivered(server, feed))
        server.kill()
        os.truncate(server.directory / "appendonly.aof", 20_000)
        server.start()
        until("delivered again", lambda: delivered(server, feed))
    assert findings(server, feed) == []


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
    with Proxy(server.socket, tmp_path) as proxy:
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


def test_a_server_that_is_stopped_and_goes_on_doubles_nothing(
    server: RedisServer, feed: Feed
) -> None:
    """What a given-up connection had sent may be carried out late: it is found, and never added again."""
    assert server.process is not None
    with running(spec(feed, server.url, reply_timeout_s=0.1, batch_records=50)):
        for i in range(1, 6):
            feed.trades(500)
            until("some progress", lambda: server.client().xlen(STREAM) > feed.published - 400)
            server.process.send_signal(signal.SIGSTOP)
            feed.trades(100)
            until("given up", lambda i=i: values(feed)["redis_errors.timeout"] >= 2 * i)
            server.process.send_signal(signal.SIGCONT)
        until("delivered", lambda: delivered(server, feed))
    assert findings(server, feed) == []
    assert values(feed)["entries_refused"] == 0
    assert values(feed)["entries_acked"] == feed.published


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
    with Proxy(server.socket, tmp_path) as proxy:
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
        until("all sent", lambda: values(feed)["in.feed.events.seq"] == 8)
    left = values(feed)
    assert left["entries_acked"] == 3
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
    worker = Worker("consumers.fanout", spec(feed, url, drain_timeout_s=0.1), tmp_path).start()
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
    with Proxy(server.socket, tmp_path) as proxy:
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


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_kills_of_redis(server: RedisServer, feed: Feed, seed: int) -> None:
    """25 kills a seed, half of them with the end of the log gone."""
    with running(spec(feed, server.url)):
        kill_redis(feed, server, 25, seed)
    assert findings(server, feed) == []
    assert values(feed)["entries_acked"] == feed.published


def cut_again_and_again(feed: Feed, server: RedisServer, cuts: int, seed: int) -> None:
    """Cut the log at a random byte of its end, `cuts` times; each time the sender fills what is missing."""
    with running(spec(feed, server.url)):
        for cut in range(cuts):
            feed.trades(40)
            until("delivered", lambda: delivered(server, feed))
            server.kill()
            cut_log(server, 1000 * seed + cut)
            server.start()
            until("delivered", lambda: delivered(server, feed))
            assert findings(server, feed) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_a_log_cut_at_five_hundred_points(server: RedisServer, feed: Feed, seed: int) -> None:
    """After each cut the streams and the progress agree."""
    cut_again_and_again(feed, server, 125, seed)
