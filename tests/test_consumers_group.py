"""Group members: each effect once whoever dies when, poison set aside, trimmed entries counted on both server versions."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sinks import DEADLINE_S, Proxy, RedisServer, until

from consumers import group as group_module
from consumers.group import Entry, Group

pytest_plugins = ["sinks_fixtures"]

STREAM, EFFECTS = "trades:kraken:BTC/USD", "effects"
IDLE_S = 0.05


def effect_of(entry: Entry) -> list[tuple[str, ...]]:
    """Return the effect that the tests count: one per entry."""
    return [("HINCRBY", EFFECTS, entry.id, "1")]


def fill(client: redis.Redis, n: int, first: int = 1) -> None:
    """Add n entries."""
    for i in range(first, first + n):
        client.xadd(STREAM, {"price": i}, id=f"1-{i}")


def member(client: redis.Redis, name: str, **more: Any) -> Group:
    """Make a member of the one group."""
    made = Group(client, STREAM, "billing", name, **{"min_idle_s": IDLE_S, **more})
    made.create()
    return made


def effects(client: redis.Redis) -> dict[str, int]:
    """Return how often each entry had its effect."""
    return {i.decode(): int(n) for i, n in client.hgetall(EFFECTS).items()}


def once_each(client: redis.Redis, n: int) -> bool:
    """Whether each of n entries had its effect, and none twice."""
    return effects(client) == {f"1-{i}": 1 for i in range(1, n + 1)}


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client in each of the protocol's versions."""
    made = redis.Redis.from_url(server.url, protocol=request.param)
    yield made
    made.close()


ONE_ROUND = """
import sys
import redis
from consumers import group

client = redis.Redis.from_url(sys.argv[1])
rounds, run = iter([True, False]), group.Group.run
group.Group.run = lambda self, handle: run(self, handle, lambda: next(rounds))
"""


def test_the_readme_s_example_runs(server: RedisServer, client: redis.Redis) -> None:
    """As it stands, for one round of its endless one: the volumes are added up."""
    root = Path(__file__).parent.parent
    block = (root / "README.md").read_text().partition("## For the service author")[2]
    block = block.partition("## Measured")[0]
    example = textwrap.dedent(block[block.index("    from consumers.group import Group") :])
    for i, volume in enumerate(("0.25", "1.5"), 1):
        client.xadd(STREAM, {"volume": volume}, id=f"1-{i}")
    command = [sys.executable, "-c", ONE_ROUND + example, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert client.hget("volume", "BTC/USD") == b"1.75"


def test_entries_come_with_their_fields_and_are_done_once(client: redis.Redis) -> None:
    """What is done is not pending; doing it again does nothing."""
    fill(client, 3)
    one = member(client, "m1")
    entries = one.read()
    assert [(e.id, e.fields, e.deliveries) for e in entries] == [
        (f"1-{i}", {"price": str(i)}, 1) for i in (1, 2, 3)
    ]
    assert [one.done(e, effect_of(e)) for e in entries] == [True] * 3
    assert one.done(entries[0], effect_of(entries[0])) is False
    assert once_each(client, 3)
    assert client.xpending(STREAM, "billing")["pending"] == 0
    assert (one.counts.done, one.counts.lost_races) == (3, 1)


def test_a_dead_members_entries_are_taken_over(client: redis.Redis) -> None:
    """Another member gets them with the count of deliveries, after the idle time and not before."""
    fill(client, 2)
    member(client, "dead").read()
    patient = member(client, "patient", min_idle_s=60)
    assert patient.take_over() == []
    heir = member(client, "heir")
    taken: list[Entry] = []
    until("taken over", lambda: taken.extend(heir.take_over()) or taken)
    assert [(e.id, e.deliveries) for e in taken] == [("1-1", 2), ("1-2", 2)]
    assert heir.counts.taken_over == 2


def test_of_two_members_that_hold_an_entry_one_has_the_effect(client: redis.Redis) -> None:
    """A member that was stalled until another took over does nothing when it wakes."""
    fill(client, 1)
    stalled, heir = member(client, "stalled"), member(client, "heir")
    (entry,) = stalled.read()
    taken: list[Entry] = []
    until("taken over", lambda: taken.extend(heir.take_over()) or taken)
    assert stalled.done(entry, effect_of(entry)) is False
    assert heir.done(taken[0], effect_of(taken[0])) is True
    assert stalled.counts.lost_races == 1
    assert once_each(client, 1)


@pytest.mark.parametrize("deliveries", [1, 5])
def test_poison_goes_to_the_dead_letters(client: redis.Redis, deliveries: int) -> None:
    """A handler that always fails on one entry gets it `deliveries` times; the others are done."""
    fill(client, 3)
    one = member(client, "m1", deliveries=deliveries)
    tries: list[int] = []

    def handle(entry: Entry) -> list[tuple[str, ...]]:
        if entry.id == "1-2":
            tries.append(entry.deliveries)
            raise RuntimeError("cannot digest this")
        return effect_of(entry)

    one.run(handle, lambda: one.counts.dead == 0, block_s=0.01)
    assert tries == list(range(1, deliveries + 1))
    assert effects(client) == {"1-1": 1, "1-3": 1}
    ((_, fields),) = client.xrange(one.dead_stream)
    assert fields == {b"price": b"2", b"source_id": b"1-2", b"deliveries": str(deliveries).encode()}
    assert client.xpending(STREAM, "billing")["pending"] == 0
    assert one.counts.failed == deliveries


def test_entries_trimmed_while_pending_are_counted(client: redis.Redis) -> None:
    """This server hands them over as nil and keeps them pending: they are acknowledged, and the rest is handed on."""
    fill(client, 10)
    member(client, "dead", batch=10).read()
    client.xtrim(STREAM, maxlen=4, approximate=False)
    heir = member(client, "heir", batch=3)
    taken: list[Entry] = []
    until("taken over", lambda: taken.extend(heir.take_over()) or len(taken) >= 4)
    assert [e.id for e in taken] == ["1-7", "1-8", "1-9", "1-10"]
    assert heir.counts.trimmed == 6
    assert client.xpending(STREAM, "billing")["pending"] == 4


class Scripted:
    """A client that answers as Redis 7.0 does: trimmed entries are removed and named in a third element."""

    def register_script(self, script: str) -> object:
        """Take the script; nothing here runs it."""
        return script

    def xautoclaim(self, *_: object) -> list[object]:
        """Two entries taken over, three trimmed."""
        rows = [(b"1-4", {b"a": b"1"}), (b"1-5", {b"a": b"2"})]
        return [b"0-0", rows, [b"1-1", b"1-2", b"1-3"]]

    def xpending_range(self, *args: object) -> list[dict[str, object]]:
        """Return one delivery of whatever is asked for."""
        return [{"message_id": args[2], "times_delivered": 1}]


def test_a_newer_servers_answer_is_counted_alike() -> None:
    """No search is made for what the server names itself."""
    heir = Group(Scripted(), STREAM, "billing", "heir")
    assert [e.id for e in heir.take_over()] == ["1-4", "1-5"]
    assert (heir.counts.trimmed, heir.counts.taken_over) == (3, 2)


def test_a_group_that_exists_is_joined(client: redis.Redis) -> None:
    """Creating twice is no error; another error is."""
    member(client, "m1")
    member(client, "m2")
    client.set("word", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        Group(client, "word", "billing", "m1").create()


def test_impossible_numbers_are_refused(client: redis.Redis) -> None:
    """No idle time, no delivery, no entry: each names the value."""
    for wrong in ({"min_idle_s": 0}, {"deliveries": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="0"):
            Group(client, STREAM, "g", "m", **wrong)


def test_dropped_replies_double_no_effect(server: RedisServer, tmp_path: Path) -> None:
    """The client sends the script again when its reply was lost; the second one finds nothing to do."""
    direct = server.client()
    fill(direct, 150)
    with Proxy(server.socket, tmp_path) as proxy:
        proxy.doomed_word, proxy.drop_probability = b"EVALSHA", 0.2
        retried = redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 5))
        one = member(retried, "m1", min_idle_s=1, deliveries=1000)
        one.run(effect_of, lambda: len(effects(direct)) < 150, block_s=0.01)
        assert proxy.dropped > 5
        retried.close()
    assert once_each(direct, 150)


MEMBER = textwrap.dedent("""
    import sys
    import redis
    from consumers.group import Group
    url, name = sys.argv[1:]
    group = Group(redis.Redis.from_url(url), "trades:kraken:BTC/USD", "billing", name, min_idle_s=0.2, batch=8)
    group.create()
    group.run(lambda entry: [("HINCRBY", "effects", entry.id, "1")], block_s=0.02)
""")


def kill_members(server: RedisServer, kills: int) -> None:
    """Kill members one after the other while they work, each followed by one of another name."""
    client = server.client()
    added = 0
    for i in range(kills + 1):
        fill(client, 100, first=added + 1)
        added += 100
        with subprocess.Popen([sys.executable, "-c", MEMBER, server.url, f"m{i}"]) as process:
            wanted = added if i == kills else len(effects(client)) + 20
            try:
                until("some effects", lambda w=wanted: len(effects(client)) >= w, 2 * DEADLINE_S)
            finally:
                os.kill(process.pid, signal.SIGKILL)
    assert once_each(client, added)


def test_members_killed_amid_their_work(server: RedisServer) -> None:
    """Each effect once over five deaths."""
    kill_members(server, 5)


@pytest.mark.soak
def test_two_hundred_members_killed(server: RedisServer) -> None:
    """Each effect once over two hundred deaths."""
    kill_members(server, 200)


def test_an_unchecked_effect_is_caught(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the ownership check, members that hold the same entry double its effect."""
    client = server.client()
    unchecked = group_module._SCRIPT.replace("then return 0 end", "then end", 1)
    monkeypatch.setattr(group_module, "_SCRIPT", unchecked)
    fill(client, 20)
    threads = [
        threading.Thread(target=slow_member, args=(server, f"m{i}", client)) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(effects(client).values()) > 1


def slow_member(server: RedisServer, name: str, client: redis.Redis) -> None:
    """Hold each entry longer than the idle time before settling it."""
    one = member(server.client(), name)
    rested = threading.Event()

    def handle(entry: Entry) -> list[tuple[str, ...]]:
        rested.wait(2 * IDLE_S)
        return effect_of(entry)

    one.run(handle, lambda: sum(effects(client).values()) < 25, block_s=0.01)
