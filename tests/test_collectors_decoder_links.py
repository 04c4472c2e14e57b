"""A lost link, a silent one, a full ring or a storm of failures: each is told, mended and never given up."""

import itertools
import json

import pytest
from decoding import START, Pipeline, books_from, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, SNAPSHOTS, update

from collectors.decoder import Subscription
from collectors.instrument_line import RETRY_LIMIT_NS
from layouts import GapReason, InstrumentState, Kind, StateReason
from shm.errors import ConfigurationError
from shm.outlet import Reject

SECOND = 1_000_000_000


@pytest.fixture(params=["kraken_v1", "kraken_v2"])
def venue(request) -> str:
    return request.param


@pytest.fixture
def pipeline(venue):
    made = Pipeline(venue, [Subscription("book", ("A/B", "C/D"), 10)], accept_any=False)
    yield made
    assert made.accounted() == made.fed
    assert made.counts.get("records_published", 0) == len(made.events())
    made.close()


def test_a_lost_link_is_a_gap_of_every_instrument_with_data(venue, pipeline) -> None:
    """GAP(DISCONNECT) and SYNCING; a new link asks for everything again, and the snapshot replaces the book."""
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.drain()
    pipeline.decoder.on_close(pipeline.ts)
    events = pipeline.drain()
    assert kinds(events) == ["GAP", "STATE"]
    assert events[0]["word_3"] == GapReason.DISCONNECT
    assert pipeline.feed(update(venue, *BETTER_BID)) == Reject.NO_SNAPSHOT
    pipeline.decoder.on_open(pipeline.ts)
    asked = [json.loads(frame) for frame in pipeline.decoder.outbox]
    assert len(asked) == 1
    assert "A/B" in json.dumps(asked)
    assert "C/D" in json.dumps(asked)
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    assert pipeline.decoder.books_live == 1


def test_resyncs_that_fail_are_spaced_and_never_end(venue, pipeline) -> None:
    """At once, then 1 s, 2 s, 4 s .. 30 s later; a clock that jumps back does not stop them."""
    decoder = pipeline.decoder
    pipeline.feed(SNAPSHOTS[venue]())
    start = pipeline.ts = START + SECOND
    pipeline.feed(update(venue, *BETTER_BID, checksum=1), start)
    asked = [start] if decoder.outbox else []
    decoder.outbox.clear()
    for tick in range(1, 200):
        decoder.on_timer(start + tick * SECOND)
        if decoder.outbox:
            asked.append(start + tick * SECOND)
            decoder.outbox.clear()
    pauses = [(b - a) // SECOND for a, b in itertools.pairwise(asked)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert set(pauses[6:]) == {30}
    decoder.on_timer(start - 3600 * SECOND)
    assert decoder.outbox


def test_a_storm_of_bad_checksums_asks_once_a_pause(venue, pipeline) -> None:
    """Snapshots that come and fail at once do not make a storm of requests; after calm the next is asked at once."""
    decoder = pipeline.decoder
    requests = 0
    for _ in range(100):
        pipeline.feed(SNAPSHOTS[venue]())
        pipeline.feed(update(venue, *BETTER_BID, checksum=1))
        requests += bool(decoder.outbox)
        decoder.outbox.clear()
    assert requests == 1
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.feed(update(venue, *BETTER_BID, checksum=1), pipeline.ts + RETRY_LIMIT_NS)
    assert decoder.outbox


def test_a_snapshot_can_be_published_again(venue, pipeline) -> None:
    """For a consumer that lost data: BEGIN .. END from the collector's own book, no QUOTE, no change of state."""
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.feed(update(venue, *BETTER_BID))
    before = books_from(pipeline.events())[1].depth(1, 9)
    assert pipeline.decoder.republish(1, pipeline.ts) == 0
    events = pipeline.drain()
    assert kinds(events) == ["SNAPSHOT_BEGIN", *["LEVEL"] * 6, "SNAPSHOT_END"]
    assert books_from(events)[1].depth(1, 9) == before
    assert pipeline.decoder.republish(2, pipeline.ts) == Reject.NO_SNAPSHOT
    assert pipeline.decoder.republish(99, pipeline.ts) == Reject.UNKNOWN_SYMBOL


def test_book_records_name_the_event_that_they_follow(venue) -> None:
    """One per frame that changed a visible level; its levels are the book's, its seq the frame's last EVENT."""
    pipeline = Pipeline(venue, with_books=True)
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.feed(update(venue, *BETTER_BID))
    pipeline.feed(update(venue, [["9.50", "0.000"]], [], BETTER_BID[2]))
    books = pipeline.books_ring.drain()
    assert len(books) == pipeline.counts["books_published"] == 2
    assert books["event_seq"].tolist() == [10, 12]
    assert books["event_epoch"].tolist() == [1, 1]
    book = books[1]
    assert book["bid_levels"] == book["ask_levels"] == 3
    assert book["bid_price"][:4].tolist() == [1000, 999, 998, 0]
    assert book["bid_qty"][:4].tolist() == [7000, 2000, 3000, 0]
    assert book["ask_price"][:4].tolist() == [1001, 1002, 1003, 0]
    assert book["kind"] == Kind.BOOK
    pipeline.close()


def test_a_ring_that_takes_nothing_is_a_counted_rejection(venue) -> None:
    """With no room within the time-out the frame is NOT_PUBLISHED and the book waits for a snapshot."""
    pipeline = Pipeline(venue, slots=16)
    pipeline.events_ring.producer.handle.timeout_ns = 1_000_000
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    assert pipeline.feed(update(venue, *BETTER_BID)) == 0
    again = [
        pipeline.feed(
            update(
                venue,
                [["10.00", f"{8 + i}.000"]],
                [],
                ([["10.00", f"{8 + i}.000"], *BIDS[1:]], ASKS),
            )
        )
        for i in range(3)
    ]
    assert again[-1] in (Reject.NOT_PUBLISHED, Reject.NO_SNAPSHOT)
    assert Reject.NOT_PUBLISHED in again
    assert pipeline.accounted() == pipeline.fed
    pipeline.close()


def test_a_subscription_the_venue_does_not_have_is_a_configuration_error(venue) -> None:
    """Channel and depth are checked before any socket is opened, and the error names what there is."""
    with pytest.raises(ConfigurationError, match="channel 'level9'; it has book"):
        Pipeline(venue, [Subscription("level9", ("A/B",))])
    with pytest.raises(ConfigurationError, match="book depth 11; it has 10, 25, 100, 500, 1000"):
        Pipeline(venue, [Subscription("book", ("A/B",), 11)])


def test_states_without_data_say_why(venue, pipeline) -> None:
    """STALE ends with the next good update; a resubscription asks for this book and leaves its state to the answer."""
    pipeline.feed(SNAPSHOTS[venue]())
    line = pipeline.decoder.instruments["A/B"]
    line.live.set_state(InstrumentState.STALE, StateReason.SILENCE, pipeline.ts)
    pipeline.drain()
    assert pipeline.feed(update(venue, *BETTER_BID)) == 0
    assert kinds(pipeline.drain()) == ["STATE", "LEVEL", "QUOTE"]
    assert line.live.state == InstrumentState.LIVE
    pipeline.decoder.resubscribe("book", "A/B", pipeline.ts)
    assert line.live.state == InstrumentState.LIVE
    assert len(pipeline.decoder.outbox) == 2
    assert line.ask_at > pipeline.ts
