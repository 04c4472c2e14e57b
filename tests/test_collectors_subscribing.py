"""Subscriptions change while a collector runs; what stays keeps its book, its link and its records."""

import json
import signal
from collections.abc import Iterator

import pytest
from collector_processes import FIRST_ID, SYMBOLS, Bench, unaccounted
from decoding import Pipeline
from kraken_frames import snapshot_v2

import shm
from collectors.decoder import Subscription
from collectors.subscribing import change
from layouts import InstrumentState, Kind
from shm.counters import read_counters
from shm.errors import ConfigurationError


@pytest.fixture
def bench(instance) -> Iterator[Bench]:
    made = Bench(instance)
    yield made
    made.close()


def _book(*symbols: str, depth: int = 10) -> Subscription:
    return Subscription("book", symbols, depth)


def test_only_what_differs_is_asked_for() -> None:
    """One symbol gone, one new, one as it was: two texts, and the book that stays stays LIVE."""
    pipeline = Pipeline("kraken_v2", [_book("A/B", "C/D")], accept_any=False)
    pipeline.feed(snapshot_v2("A/B"))
    decoder = pipeline.decoder
    decoder.outbox.clear()
    assert change(decoder, [_book("A/B", "E/F")], pipeline.ts) == (1, 1)
    asked = [json.loads(text) for text in decoder.outbox]
    assert [(a["method"], a["params"]["symbol"]) for a in asked] == [
        ("unsubscribe", ["C/D"]),
        ("subscribe", ["E/F"]),
    ]
    assert decoder.instruments["A/B"].live.state == InstrumentState.LIVE
    assert decoder.books_total == 2
    assert pipeline.feed(snapshot_v2("E/F")) == 0
    assert decoder.books_live == 2
    assert change(decoder, [_book("A/B", "E/F")], pipeline.ts) == (0, 0)
    pipeline.close()


def test_another_depth_is_another_subscription() -> None:
    """The old one ends before the new one begins, and the book waits for its snapshot."""
    pipeline = Pipeline("kraken_v2", [_book("A/B")], accept_any=False)
    pipeline.feed(snapshot_v2("A/B"))
    pipeline.decoder.outbox.clear()
    assert change(pipeline.decoder, [_book("A/B", depth=25)], pipeline.ts) == (1, 1)
    methods = [json.loads(text)["method"] for text in pipeline.decoder.outbox]
    assert methods == ["unsubscribe", "subscribe"]
    assert pipeline.decoder.instruments["A/B"].live.state == InstrumentState.SYNCING
    pipeline.close()


def test_a_list_that_the_venue_does_not_have_changes_nothing() -> None:
    """An unknown channel or depth is refused before anything is asked."""
    pipeline = Pipeline("kraken_v2", [_book("A/B")], accept_any=False)
    pipeline.decoder.outbox.clear()
    for wrong in (_book("A/B", depth=11), Subscription("candles", ("A/B",))):
        with pytest.raises(ConfigurationError):
            change(pipeline.decoder, [wrong], pipeline.ts)
    assert pipeline.decoder.outbox == []
    assert pipeline.decoder.subscriptions == [_book("A/B")]
    pipeline.close()


def test_a_running_collector_takes_up_its_spec_on_sighup(bench: Bench) -> None:
    """A book more, then one less, over one link; a spec that differs otherwise, or is broken, is refused and counted."""
    port = bench.start_venue()
    first = [{"channel": "book", "symbols": SYMBOLS[:1], "depth": 10}]
    process = bench.start_collector(port, subscriptions=first)
    bench.until("kraken", lambda f: f.values["books_live"] == 1 and f.state == "READY")
    path = bench.state_dir / "kraken.json"
    spec = json.loads(path.read_text())

    def hup(text: str) -> None:
        path.write_text(text)
        process.send_signal(signal.SIGHUP)

    hup(json.dumps(spec | {"subscriptions": [first[0] | {"symbols": SYMBOLS}]}))
    facts = bench.until("kraken", lambda f: f.values["books_live"] == 2)
    assert (facts.values["reloads"], facts.values["books_total"]) == (1, 2)
    hup(json.dumps(spec | {"subscriptions": [first[0] | {"symbols": SYMBOLS[1:]}]}))
    bench.until("kraken", lambda f: f.values["reloads"] == 2 and f.values["books_total"] == 1)
    hup(json.dumps(spec | {"event_slots": 1024}))
    bench.until("kraken", lambda f: f.values["reloads_refused"] == 1)
    hup("{")
    facts = bench.until("kraken", lambda f: f.values["reloads_refused"] == 2)
    assert facts.values["reconnects"] == 0
    assert facts.values["reloads"] == 2
    assert bench.end("kraken") == 0
    assert unaccounted(read_counters(bench.instance, "kraken")) == 0
    with shm.attach("kraken.events", bench.instance) as reader:
        events = reader.last(65_536)[0]
    stayed = events[events["instrument_id"] == FIRST_ID + 1]
    assert (stayed["kind"] == Kind.SNAPSHOT_BEGIN).sum() == 1
    assert not (stayed["kind"] == Kind.GAP).any()
