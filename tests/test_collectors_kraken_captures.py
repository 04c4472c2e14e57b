"""Recorded Kraken sessions: every checksum holds, every frame is accounted for,
and a consumer's book is the collector's."""

import itertools
import json
import re
import zlib
from decimal import Decimal

import pytest
from decoding import Pipeline, books_from, frames_of

from layouts import EVENT_VIEWS, Kind, Mark
from shm.book import ASK, BID

V1_BOOK = "kraken_v1_book_10pairs.jsonl.gz"
V1_TRADE = "kraken_v1_trade_10pairs.jsonl.gz"
V1_TICKER = "kraken_v1_ticker_10pairs.jsonl.gz"
V2_BTC = "kraken_v2_btcusd_resubscribes.jsonl.gz"
V2_ETH = "kraken_v2_ethusd.jsonl.gz"
BOOKS = [("kraken_v1", V1_BOOK, 4269), ("kraken_v2", V2_BTC, 301), ("kraken_v2", V2_ETH, 1129)]


@pytest.mark.parametrize(("venue", "file", "checksums"), BOOKS)
def test_every_checksum_of_a_recording_holds(captures, venue, file, checksums) -> None:
    """All checksums are right, also across resubscriptions; no frame is rejected, none is unaccounted."""
    pipeline = Pipeline(venue)
    assert set(pipeline.feed_capture(captures / file)) == {0}
    counts = pipeline.counts
    assert counts["checksums_ok"] == checksums
    assert "checksums_bad" not in counts
    assert counts["frames_decoded"] == pipeline.accounted() == pipeline.fed
    assert counts["records_published"] == len(pipeline.events())
    assert pipeline.decoder.outbox == []
    assert pipeline.decoder.books_live == pipeline.decoder.books_total > 0
    pipeline.close()


@pytest.mark.parametrize(("venue", "file", "checksums"), BOOKS)
def test_the_records_alone_rebuild_every_book(captures, venue, file, checksums) -> None:
    """A consumer that applies LEVEL records holds the same levels, and QUOTE is its top at each frame's end."""
    pipeline = Pipeline(venue)
    pipeline.feed_capture(captures / file)
    events = pipeline.events()
    books = books_from(events)
    for line in pipeline.decoder.instruments.values():
        book = books[line.instrument.instrument_id]
        for side in (BID, ASK):
            assert book.depth(side, 10_000) == line.live.depth(side, 10_000)
            assert book.count(side) <= line.instrument.depth
        assert line.live.check() == 0
    quotes = events[events["kind"] == Kind.QUOTE].view(EVENT_VIEWS[Kind.QUOTE])
    for instrument_id, book in books.items():
        last = quotes[quotes["instrument_id"] == instrument_id][-1]
        top = tuple(int(last[w]) for w in ("bid_price", "bid_qty", "ask_price", "ask_qty"))
        assert top == book.top()
    pipeline.close()


@pytest.mark.parametrize(("venue", "file", "checksums"), BOOKS)
def test_quotes_and_frame_ends_mark_every_change_of_the_top(
    captures, venue, file, checksums
) -> None:
    """At each frame's end the last QUOTE is the top, and the book is not crossed."""
    pipeline = Pipeline(venue)
    pipeline.feed_capture(captures / file)
    events = pipeline.events()
    books: dict = {}
    quoted: dict[int, tuple] = {}
    start = 0
    for end in events["marks"].nonzero()[0]:
        if not events["marks"][end] & Mark.LAST_IN_FRAME:
            continue
        frame = events[start : end + 1]
        start = end + 1
        assert not (frame["marks"][:-1] & Mark.LAST_IN_FRAME).any()
        assert len(set(frame["instrument_id"])) == 1
        instrument_id = int(frame["instrument_id"][0])
        book = _apply(books, instrument_id, frame)
        assert not book.is_crossed()
        quote = frame[frame["kind"] == Kind.QUOTE]
        if len(quote):
            assert len(quote) == 1
            assert frame[-1]["kind"] == Kind.QUOTE
            quoted[instrument_id] = tuple(int(quote[0][f"word_{i}"]) for i in range(4))
        assert quoted.get(instrument_id, (0, 0, 0, 0)) == book.top()
    assert start == len(events)
    pipeline.close()


def _apply(books: dict, instrument_id: int, frame):
    """Apply one frame to the book of its instrument."""
    from shm.book import Book

    book = books.setdefault(instrument_id, Book(16))
    for event in frame:
        if event["kind"] == Kind.SNAPSHOT_BEGIN:
            book.clear()
        elif event["kind"] == Kind.LEVEL:
            side = BID if event["marks"] & Mark.BUY else ASK
            book.apply(side, int(event["word_0"]), int(event["word_1"]))
    return book


def test_the_resubscriptions_are_states_and_no_gaps(captures) -> None:
    """Each of the five snapshots replaces the book; each acknowledged unsubscription is SYNCING; nothing is a gap."""
    pipeline = Pipeline("kraken_v2")
    pipeline.feed_capture(captures / V2_BTC)
    assert len(pipeline.of(Kind.SNAPSHOT_BEGIN)) == len(pipeline.of(Kind.SNAPSHOT_END)) == 5
    assert len(pipeline.of(Kind.GAP)) == 0
    states = pipeline.of(Kind.STATE)["state"].tolist()
    assert states.count(1) == 5
    assert states[-1] == 1
    assert all(a != b for a, b in itertools.pairwise(states))
    pipeline.close()


def test_prices_are_the_digits_on_the_wire(captures) -> None:
    """Scales are the recording's own decimals, and each first snapshot's levels are its texts, digit for digit."""
    pipeline = Pipeline("kraken_v1")
    pipeline.feed_capture(captures / V1_BOOK)
    versions = pipeline.instruments()
    assert len(versions) == 10
    assert set(versions["version"]) == {1}
    by_symbol = {row["symbol"].decode(): row for row in versions}
    events = pipeline.events()
    for data in frames_of(captures / V1_BOOK):
        frame = json.loads(data)
        if not isinstance(frame, list) or "as" not in frame[1]:
            continue
        row = by_symbol[frame[3]]
        levels = events[
            (events["instrument_id"] == row["instrument_id"])
            & (events["marks"] & Mark.SNAPSHOT > 0)
            & (events["kind"] == Kind.LEVEL)
        ]
        wire = [
            (Decimal(level[0]).scaleb(int(row["price_scale"])), Decimal(level[1]).scaleb(8))
            for side in ("bs", "as")
            for level in reversed(frame[1][side])
        ]
        assert [(int(e["word_0"]), int(e["word_1"])) for e in levels] == wire
        decimals = {len(re.sub(r".*\.", "", level[0])) for level in frame[1]["as"]}
        assert decimals == {int(row["price_scale"])}
    pipeline.close()


def test_the_checksum_is_the_venue_s_text_through_zlib(captures) -> None:
    """The C checksum equals zlib over text made in Python from the collector's own book."""
    pipeline = Pipeline("kraken_v2")
    for data in frames_of(captures / V2_ETH):
        pipeline.feed(data)
        for line in pipeline.decoder.instruments.values():
            if line.live.is_valid:
                text = "".join(
                    f"{price}{qty}"
                    for side in (ASK, BID)
                    for price, qty in line.live.depth(side, 10)
                )
                assert line.live.crc_kraken == zlib.crc32(text.encode())
    pipeline.close()


def test_trades_are_the_recording_s_own(captures) -> None:
    """Price, qty, time and taker side of every recorded trade, exactly; tickers are decoded and publish nothing."""
    pipeline = Pipeline("kraken_v1")
    assert set(pipeline.feed_capture(captures / V1_TRADE)) == {0}
    assert set(pipeline.feed_capture(captures / V1_TICKER)) == {0}
    rows = {row["instrument_id"]: row for row in pipeline.instruments()}
    expected = [
        (frame[3], *row[:4])
        for frame in map(json.loads, frames_of(captures / V1_TRADE))
        if isinstance(frame, list)
        for row in frame[1]
    ]
    trades = pipeline.of(Kind.TRADE)
    assert len(trades) == len(expected) == 10
    assert len(pipeline.of(Kind.STATE)) == len(rows) == 2
    assert len(pipeline.events()) == 12
    for trade, (symbol, price, qty, seconds, side) in zip(trades, expected, strict=True):
        row = rows[trade["instrument_id"]]
        assert row["symbol"].decode() == symbol
        assert int(trade["price"]) == Decimal(price).scaleb(int(row["price_scale"]))
        assert int(trade["qty"]) == Decimal(qty).scaleb(int(row["qty_scale"]))
        assert int(trade["ts_event"]) == Decimal(seconds).scaleb(9)
        assert trade["marks"] & Mark.SIDE_MASK == (Mark.BUY if side == "b" else Mark.SELL)
    pipeline.close()
