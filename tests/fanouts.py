"""What the tests of the fan-out share: its spec, a fan-out in a thread, and what is wrong with a stream."""

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace

from sinks import Feed, RedisServer, entries

from consumers.fanout import Fanout, FanoutSpec, counter_names
from shm.counters import Counters, read_counters

STREAM = "trades:kraken:BTC/USD"


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
