"""Books that begin with a REST snapshot live in a real collector process, however the REST side behaves."""

from collections import deque
from collections.abc import Iterator

import psutil
import pytest
from collector_processes import FIRST_ID, Bench, unaccounted
from rest_venue import RestVenue, running

import shm
from shm.counters import read_counters

SYMBOLS = {
    "binance_spot": ["BTCUSDT", "ETHUSDT", "SOLUSDT"],
    "binance_usdm": ["BTCUSDT", "ETHUSDT", "SOLUSDT"],
    "bitstamp": ["btcusd", "ethusd", "solusd"],
}
RESIDENT_LIMIT_BYTES = 100 << 20


@pytest.fixture
def bench(instance) -> Iterator[Bench]:
    made = Bench(instance)
    yield made
    made.close()


def _collect(bench: Bench, venue: RestVenue, **spec: object) -> None:
    symbols = SYMBOLS[venue.venue]
    channels = ["book"] if venue.venue == "bitstamp" else ["book", "ticker"]
    bench.start_collector(
        0,
        venue=venue.venue,
        url=venue.url,
        rest_url=venue.rest_url,
        subscriptions=[{"channel": channel, "symbols": symbols} for channel in channels],
        **spec,
    )


@pytest.mark.parametrize("name", sorted(SYMBOLS))
def test_every_book_goes_live_and_stays_true(bench: Bench, name: str) -> None:
    """Snapshots join the diffs, the venue's own top agrees with every book, ticks and lots are told, memory stays small."""
    with running(name) as venue:
        _collect(bench, venue)
        facts = bench.until(
            "kraken", lambda f: f.values["books_live"] == 3 and f.values["frames_decoded"] > 400
        )
        resident = psutil.Process(facts.pid).memory_info().rss
        assert bench.end("kraken") == 0
    values = read_counters(bench.instance, "kraken").values
    assert unaccounted(read_counters(bench.instance, "kraken")) == 0
    assert values["gaps.sequence"] == 0
    assert values["oracle_disagree"] == 0
    assert name == "bitstamp" or values["oracle_agree"] > 50
    assert values["rest.answered"] >= 4
    assert resident < RESIDENT_LIMIT_BYTES
    with shm.attach("kraken.instruments", bench.instance) as reader:
        rows = {int(row["instrument_id"]): row for row in reader.last(100)[0]}
    assert sorted(rows) == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]
    assert all((row["tick"], row["lot"]) == (1, 1) for row in rows.values())
    assert all(row["ts_recv"] > 0 for row in rows.values())


def test_one_symbol_without_an_answer_disturbs_no_other(bench: Bench) -> None:
    """While one book's snapshot hangs, the others go LIVE and run on; it joins them when the venue answers again."""
    with running("binance_spot") as venue:
        venue.script["ETHUSDT"] = deque(["hang"])
        _collect(bench, venue)
        facts = bench.until("kraken", lambda f: f.values["books_live"] == 2)
        seen = facts.values["frames_decoded"]
        facts = bench.until("kraken", lambda f: f.values["frames_decoded"] > seen + 200)
        assert facts.values["books_live"] == 2
        assert facts.values["connected"] == 1
        assert facts.values["reconnects"] == 0
        assert bench.end("kraken") == 0
    facts = read_counters(bench.instance, "kraken")
    assert facts.values["rest.cancelled"] == 1
    assert unaccounted(facts) == 0


def test_a_broken_rest_side_is_counted_and_waited_out(bench: Bench) -> None:
    """Too many requests, an error, garbage and a cut answer: each counted for what it is, then every book is LIVE."""
    with running("binance_usdm") as venue:
        venue.script["BTCUSDT"] = deque(["429", "503"])
        venue.script["ETHUSDT"] = deque(["garbage", "cut"])
        _collect(bench, venue)
        facts = bench.until("kraken", lambda f: f.values["books_live"] == 3)
        assert bench.end("kraken") == 0
    values = facts.values
    for outcome in ("rate_limited", "server_error", "unreadable", "unreachable"):
        assert values[f"rest.{outcome}"] == 1, outcome
    assert values["rest.given_up"] == 0
    assert values["gaps.sequence"] == 0


def test_a_lost_link_asks_for_every_snapshot_again(bench: Bench) -> None:
    """After the venue is gone and back, each book begins anew from REST, and the ledger closes."""
    with running("binance_usdm") as venue:
        _collect(bench, venue)
        bench.until("kraken", lambda f: f.values["books_live"] == 3)
        asked = dict(venue.asked)
        venue.cut_links()
        facts = bench.until(
            "kraken", lambda f: f.values["reconnects"] == 1 and f.values["books_live"] == 3
        )
        assert bench.end("kraken") == 0
        assert all(venue.asked[symbol] > asked[symbol] for symbol in SYMBOLS["binance_usdm"])
        assert venue.asked["rules"] == asked["rules"]
    assert facts.values["gaps.disconnect"] == 3
    assert unaccounted(read_counters(bench.instance, "kraken")) == 0
