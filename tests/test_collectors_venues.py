"""What venues document beside plain updates: wider numbers, makers' sides, batches, errors, holes, connections anew."""

import pytest
from decoding import books_from
from venue_kit import VENUES, pipeline_of

from layouts import InstrumentState, Kind, Mark
from shm.book import ASK, BID
from shm.outlet import Reject

COINBASE_TRADE = (
    '{"channel":"market_trades","sequence_num":%d,"events":[{"type":"update","trades":[{"product_id":"A-B",'
    '"trade_id":"%d","price":"%s","size":"2","time":"2026-08-09T21:05:48Z","side":"BUY"}]}]}'
)
UPDATE = '{"channel":"l2_data","sequence_num":%d,"events":[{"type":"%s","product_id":"A-B","updates":[%s]}]}'
ROW = '{"side":"%s","event_time":"2026-08-09T21:05:48Z","price_level":"%s","new_quantity":"%s"}'
BOOK = ROW % ("bid", "10.5", "1") + "," + ROW % ("offer", "10.7", "2")


@pytest.fixture
def coinbase():
    """A Coinbase decoder with one book, its next number 1."""
    pipeline = pipeline_of("coinbase_advanced")
    assert pipeline.feed(UPDATE % (0, "snapshot", BOOK)) == 0
    yield pipeline
    pipeline.close()


def test_a_wider_update_keeps_the_book_and_asks_the_venue_nothing(coinbase) -> None:
    """Its version is told, the book is published at the new scale, then the update; consumers hold the same."""
    line = coinbase.decoder.instruments["A-B"]
    assert line.live.scales == (1, 0)
    assert coinbase.feed(UPDATE % (1, "update", ROW % ("bid", "10.625", "0.25"))) == 0
    assert line.live.scales == (3, 2)
    assert line.live.state is InstrumentState.LIVE
    assert line.live.depth(BID, 9) == [(10625, 25), (10500, 100)]
    assert coinbase.decoder.outbox == []
    assert coinbase.of(Kind.SNAPSHOT_BEGIN)["instrument_version"].tolist() == [1, 2]
    assert [int(row["price_scale"]) for row in coinbase.instruments()] == [1, 3]
    book = books_from(coinbase.events())[line.instrument.instrument_id]
    assert book.depth(BID, 9) == line.live.depth(BID, 9)
    assert book.depth(ASK, 9) == [(10700, 200)]
    assert coinbase.of(Kind.QUOTE)[-1]["bid_price"] == 10625
    assert coinbase.counts["widenings"] == 1


def test_a_wider_trade_keeps_the_book(coinbase) -> None:
    """A trade with more decimals widens like an update does, and is published in the new version."""
    assert coinbase.feed(COINBASE_TRADE % (1, 7, "10.6001")) == 0
    line = coinbase.decoder.instruments["A-B"]
    assert line.live.scales == (4, 0)
    assert line.live.is_valid
    assert coinbase.of(Kind.TRADE)["price"].tolist() == [106001]


def test_a_number_too_wide_for_the_book_is_refused_and_the_book_asked_for(coinbase) -> None:
    """Where the rescaled book would leave 18 digits, the frame is refused: no silent loss of digits."""
    assert coinbase.feed(UPDATE % (1, "update", ROW % ("bid", "10.00000000000000001", "1"))) == (
        Reject.TOO_MANY_DIGITS
    )
    assert coinbase.decoder.instruments["A-B"].live.state is InstrumentState.SUSPECT
    assert len(coinbase.decoder.outbox) == 2


def test_the_maker_s_side_is_inverted(coinbase) -> None:
    """Coinbase names the maker: a resting buy was sold into; Exchange's matches likewise."""
    coinbase.feed(COINBASE_TRADE % (1, 7, "10.5"))
    assert coinbase.of(Kind.TRADE)[0]["marks"] & Mark.SIDE_MASK == Mark.SELL
    other = pipeline_of("coinbase_exchange")
    match = {"type": "match", "trade_id": 5, "product_id": "A-B", "side": "sell", "size": "1"}
    match |= {"price": "2", "time": "2021-04-17T16:43:37.089723Z"}
    assert other.feed(match) == 0
    assert other.of(Kind.TRADE)[0]["marks"] & Mark.SIDE_MASK == Mark.BUY
    other.close()


def test_a_hole_in_the_connection_is_every_instrument_s(coinbase) -> None:
    """The GAP names the missing numbers; each book is asked for; what comes before its snapshot is refused."""
    assert coinbase.feed({"channel": "heartbeats", "sequence_num": 4, "events": []}) == 0
    gap = coinbase.of(Kind.GAP)[0]
    assert (gap["venue_from"], gap["venue_to"], gap["frames_lost"]) == (1, 3, 3)
    assert coinbase.feed(UPDATE % (5, "update", BOOK)) == Reject.NO_SNAPSHOT
    assert len(coinbase.decoder.outbox) == 2
    assert coinbase.feed(UPDATE % (6, "snapshot", BOOK)) == 0
    assert coinbase.decoder.books_live == 1


def test_duplicates_in_a_row_do_not_restart_the_sequence_but_a_new_run_does(coinbase) -> None:
    """Each message doubled is only that; three of the past that follow one another are a sequence begun anew."""
    beat = '{"channel":"heartbeats","sequence_num":%d,"events":[]}'
    statuses = [coinbase.feed(beat % n) for n in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert statuses == [0, Reject.DUPLICATE] * 4
    assert "gaps.sequence" not in coinbase.counts
    assert [coinbase.feed(beat % n) for n in (1, 2, 3, 4)] == [Reject.LATE, Reject.LATE, 0, 0]
    assert coinbase.counts["gaps.sequence"] == 1


def test_a_trade_id_that_skips_is_a_gap_and_leaves_the_book(coinbase) -> None:
    """Exchange's trade ids have no holes: one is told with its edges, before the trade."""
    other = pipeline_of("coinbase_exchange")
    match = {"type": "match", "product_id": "A-B", "side": "sell", "size": "1", "price": "2"}
    match["time"] = "2021-04-17T16:43:37.089723Z"
    assert [other.feed(match | {"trade_id": n}) for n in (5, 8, 8)] == [0, 0, Reject.DUPLICATE]
    gap = other.of(Kind.GAP)[0]
    assert (gap["venue_from"], gap["venue_to"], gap["frames_lost"]) == (6, 7, 2)
    assert other.of(Kind.TRADE)["trade_id"].tolist() == [5, 8]
    other.close()


def test_okx_ids_chain_and_a_zero_checksum_beside_them_is_none() -> None:
    """A heartbeat restates its id, a repeat is refused, a hole breaks the book."""
    pipeline = pipeline_of("okx")

    def entry(action: str, previous: int, seq: int, bids: list) -> dict:
        data = {"asks": [["11", "1", "0", "1"]], "bids": bids, "ts": "1652459227342", "checksum": 0}
        data |= {"prevSeqId": previous, "seqId": seq}
        return {"arg": {"channel": "books", "instId": "X"}, "action": action, "data": [data]}

    bids = [["10", "1", "0", "1"]]
    assert pipeline.feed(entry("snapshot", -1, 10, bids)) == 0
    assert pipeline.feed(entry("update", 10, 12, bids)) == 0
    assert pipeline.feed(entry("update", 12, 12, [])) == 0
    assert pipeline.feed(entry("update", 10, 12, bids)) == Reject.DUPLICATE
    assert pipeline.feed(entry("update", 15, 16, bids)) == Reject.NO_SNAPSHOT
    assert pipeline.counts["gaps.sequence"] == 1
    assert pipeline.feed(b"pong") == 0
    pipeline.close()


def test_binance_waits_for_the_snapshot_and_asks_for_it_once() -> None:
    """Diffs wait, one request leaves; an old snapshot is refused and asked for again; then the rest applies."""
    pipeline = pipeline_of("binance_spot")

    def diff(first: int, last: int) -> dict:
        return {
            "e": "depthUpdate",
            "E": 1723161255208,
            "s": "X",
            "U": first,
            "u": last,
            "b": [["5", "1"]],
            "a": [],
        }

    assert [pipeline.feed(diff(n, n)) for n in (10, 11, 12)] == [0, 0, 0]
    (url,) = pipeline.decoder.rest_wanted
    assert "symbol=X" in url
    body = b'{"lastUpdateId":%d,"bids":[["4","1"]],"asks":[["6","1"]]}'
    pipeline.decoder.rest_response(url, body % 8, pipeline.ts)
    assert pipeline.decoder.books_live == 0
    pipeline.decoder.rest_response(url, body % 11, pipeline.ts)
    assert pipeline.decoder.books_live == 1
    assert pipeline.decoder.instruments["X"].seq == 12
    assert pipeline.counts["frames_stale"] == 2
    pipeline.decoder.rest_response(url, b"<html>", pipeline.ts)
    assert pipeline.decoder.notices
    pipeline.close()


@pytest.mark.parametrize("venue", VENUES)
def test_subscriptions_and_pings_are_frames(venue) -> None:
    """Each channel of each venue gives at least one frame to subscribe and one to end it."""
    from collectors.decoder import Subscription

    pipeline = pipeline_of(venue)
    decoder = pipeline.decoder
    for channel in decoder.channels:
        wanted = Subscription(channel, ("A-B",), decoder.default_depth)
        assert decoder.subscribe_frames(wanted)
        assert decoder.unsubscribe_frames(wanted)
    assert decoder.ping()
    decoder.on_open(pipeline.ts)
    decoder.on_close(pipeline.ts)
    pipeline.close()
