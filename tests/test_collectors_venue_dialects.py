"""The venue answers in its own words, on both protocols."""

import asyncio
import re
from pathlib import Path

import pytest
from venue_client import (
    PAIRS,
    V1_BOOK,
    V2_BTC,
    CheckedBooks,
    connected,
    count_data,
    eventually,
    is_data,
    serving,
    slow_tape,
    sub_v1,
    sub_v2,
)

from collectors.synthetic import SyntheticSpec


def test_v2_refusals_and_answers(captures: Path) -> None:
    """Errors name the symbol; ping is answered; reference data lists both grids."""

    async def run() -> None:
        paths = (*slow_tape(captures), str(captures / PAIRS))
        async with serving(captures=paths, speed=0.001) as (server, counters):
            async with connected(server, "kraken_v2") as client:
                client.send({"method": "ping", "req_id": 7})
                client.send(sub_v2("book", ["BTC/USD", "NO/SUCH"], depth=10))
                client.send(sub_v2("book", ["ETH/USD"], depth=11))
                client.send(sub_v2("book", ["ETH/USD"], depth=10))
                client.send(sub_v2("book", ["BTC/USD"], depth=25))
                client.send(sub_v2("trade", ["BTC/USD"], "unsubscribe"))
                client.send(sub_v2("level9", ["BTC/USD"]))
                client.send(b"{not json")
                client.send({"method": "instrument"})
                client.send({"method": "subscribe", "params": {"channel": "instrument"}})
                status, pong, *rest = await client.replies(13)
                assert status["data"][0]["system"] == "online"
                assert (pong["method"], pong["req_id"]) == ("pong", 7)
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", pong["time_in"])
                assert rest[0]["success"] is True
                errors = [(reply.get("error"), reply.get("symbol")) for reply in rest[1:9]]
                assert errors == [
                    ("Currency pair not supported NO/SUCH", "NO/SUCH"),
                    ("Subscription depth not supported", "ETH/USD"),
                    ("Subscription depth not supported", "ETH/USD"),
                    ("Subscription depth not supported", "BTC/USD"),
                    ("Subscription Not Found", "BTC/USD"),
                    ("Unsupported channel", None),
                    ("Malformed request", None),
                    ("Unsupported method", None),
                ]
                assert counters["subscribe_errors"] in (0, 8)
                assert rest[9]["result"] == {"channel": "instrument", "snapshot": True}
                pairs = {pair["symbol"]: pair for pair in rest[10]["data"]["pairs"]}
                assert (pairs["BTC/USD"]["price_precision"], pairs["BTC/USD"]["qty_precision"]) == (
                    1,
                    8,
                )
                assert pairs["BTC/USD"]["price_increment"] == 0.1
                assert pairs["ETH/USD"]["price_increment"] == 0.01
                assert pairs["ETH/USD"]["qty_increment"] == 1e-8
                await eventually(lambda: counters["subscribe_errors"] == 8)

    asyncio.run(run())


def test_v2_a_second_subscription_is_refused(captures: Path) -> None:
    """One depth a symbol and connection, and unsubscribing makes room again."""

    async def run() -> None:
        async with serving(captures=slow_tape(captures), speed=0.001) as (server, _):
            async with connected(server, "kraken_v2") as client:
                client.send(sub_v2("book", ["BTC/USD"], depth=10))
                client.send(sub_v2("book", ["BTC/USD"], depth=10))
                client.send(sub_v2("book", ["BTC/USD"], "unsubscribe", depth=10))
                client.send(sub_v2("book", ["BTC/USD"], depth=10))
                _, first, second, gone, again = await client.replies(5)
                assert first["success"]
                assert second["error"] == "Already subscribed"
                assert gone["result"] == {"channel": "book", "depth": 10, "symbol": "BTC/USD"}
                assert again["success"]

    asyncio.run(run())


def test_v1_refusals_and_answers(captures: Path) -> None:
    """`subscriptionStatus` with status error and the venue's message; reqid comes back."""

    async def run() -> None:
        async with serving(captures=(str(captures / V1_BOOK),), speed=0.001) as (server, _):
            async with connected(server, "kraken_v1") as client:
                client.send({"event": "ping", "reqid": 42})
                client.send(sub_v1("book", ["XMR/USD", "NO/SUCH"], depth=1000) | {"reqid": 1})
                client.send(sub_v1("book", ["ADA/XBT"], depth=42))
                client.send(sub_v1("book", ["ADA/XBT"]))
                client.send(sub_v1("gossip", ["ADA/XBT"]))
                client.send(sub_v1("trade", ["ADA/XBT"], "unsubscribe"))
                client.send(sub_v1("book", ["XMR/USD"], "unsubscribe", depth=1000))
                client.send(b"[]")
                hello, pong, good, *rest = await client.replies(10)
                assert hello["event"] == "systemStatus"
                assert pong == {"event": "pong", "reqid": 42}
                assert good == {
                    "channelID": 992, "channelName": "book-1000", "event": "subscriptionStatus",
                    "reqid": 1, "pair": "XMR/USD", "status": "subscribed",
                    "subscription": {"depth": 1000, "name": "book"},
                }  # fmt: skip
                assert [(reply.get("errorMessage"), reply.get("pair")) for reply in rest] == [
                    ("Currency pair not supported NO/SUCH", "NO/SUCH"),
                    ("Subscription depth not supported", "ADA/XBT"),
                    ("Subscription depth not supported", "ADA/XBT"),
                    ("Subscription name invalid", None),
                    ("Subscription Not Found", "ADA/XBT"),
                    (None, "XMR/USD"),
                    ("Malformed request", None),
                ]
                assert rest[5]["status"] == "unsubscribed"

    asyncio.run(run())


def test_an_unknown_path_is_refused(captures: Path) -> None:
    """A path that is no protocol of the venue answers 404."""

    async def run() -> None:
        async with serving(captures=(str(captures / V2_BTC),)) as (server, _):
            with pytest.raises(Exception, match="404"):
                async with connected(server, "kraken_v3"):
                    pass

    asyncio.run(run())


def test_the_synthetic_market_is_served_on_both_paths() -> None:
    """Subscribed at any time, with trades; checksums hold from the first update on."""
    spec = SyntheticSpec(depth=10, start_ns=10**18)

    async def run() -> None:
        async with serving(synthetic=spec) as (server, _):
            for path, subscribe, btc in (
                ("kraken_v2", sub_v2, "BTC/USD"),
                ("kraken_v1", sub_v1, "XBT/USD"),
            ):
                checked = CheckedBooks({btc: 10, "ETH/USD": 10})
                trades = 0
                for until in (400, 1500):
                    async with connected(server, path) as client:
                        client.send(subscribe("book", [btc, "ETH/USD"], depth=10))
                        client.send(subscribe("trade", [btc]))
                        await client.until(lambda texts, n=until: count_data(texts) >= n // 2)
                    for text in client.texts:
                        checked.take(text)
                        trades += b'"trade"' in text and is_data(text)
                assert checked.wrong == 0
                assert checked.right > 500
                assert trades > 5

    asyncio.run(run())
