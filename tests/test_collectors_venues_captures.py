"""Recorded sessions of every venue come out as they were checked by hand: chains, checksums, tops, and every book."""

import json
from decimal import Decimal

import pytest
from decoding import Pipeline, books_from
from venue_kit import FILES, REST_VENUES, VENUES, entries, feed, rows_of

from shm.book import ASK, BID, Book

SIDES = ("bids", BID), ("asks", ASK)
DAYS = ["binance_spot_btcusdt_day1", "binance_spot_btcusdt_day2"]
USDM = ["binance_usdm_btcusdt"]
EXPECTED = [
    ("binance_spot", FILES["binance_spot"], {"frames_decoded": 265, "frames_stale": 5}),
    ("binance_spot", DAYS, {"frames_decoded": 99_573, "oracle_agree": 6_491, "oracle_disagree": 2}),
    ("binance_usdm", FILES["binance_usdm"], {"frames_decoded": 1_535, "frames_stale": 12}),
    ("binance_usdm", USDM, {"frames_decoded": 11_413, "oracle_agree": 3_321}),
    ("bitstamp", FILES["bitstamp"], {"frames_decoded": 747, "frames_stale": 102, "trades": 10}),
    ("bybit", FILES["bybit"], {"frames_decoded": 3_227, "trades": 347}),
    ("coinbase_advanced", FILES["coinbase_advanced"], {"frames_decoded": 350, "levels_absent": 10}),
    (
        "coinbase_exchange",
        FILES["coinbase_exchange"],
        {"frames_decoded": 9_946, "trades": 107, "oracle_agree": 100, "oracle_disagree": 7},
    ),
    ("deribit", FILES["deribit"], {"frames_decoded": 136}),
    ("kraken_futures", FILES["kraken_futures"], {"frames_decoded": 7_123, "trades": 1_003}),
    ("okx", FILES["okx"], {"frames_decoded": 410, "checksums_ok": 290, "trades": 74}),
]


@pytest.mark.parametrize(("venue", "files", "expected"), EXPECTED)
def test_a_recording_comes_out_whole(captures, venue, files, expected) -> None:
    """No gap, no refusal, every book LIVE, the counted truths as checked; records alone rebuild every book."""
    pipeline = Pipeline(venue, slots=1 << 20)
    assert {feed(pipeline, message) for message in entries(captures, files)} == {0}
    pipeline.decoder.finish()
    counts = pipeline.counts
    assert {name: counts.get(name) for name in expected} == expected
    assert not [name for name in counts if name.startswith(("gaps.", "rejected.", "checksums_bad"))]
    assert counts["frames_decoded"] == pipeline.accounted() == pipeline.fed
    assert pipeline.decoder.books_live == pipeline.decoder.books_total > 0
    books = books_from(pipeline.events())
    for line in pipeline.decoder.instruments.values():
        assert line.live.check() == 0
        for _, side in SIDES:
            book = books.get(line.instrument.instrument_id, Book(16))
            assert book.depth(side, 100_000) == line.live.depth(side, 100_000)
    pipeline.close()


@pytest.mark.parametrize("venue", VENUES)
def test_books_are_those_of_plain_dictionaries(captures, venue) -> None:
    """A reader of decimals in dictionaries, apart from all our code, holds the same levels at the end."""
    pipeline = Pipeline(venue, slots=1 << 20)
    plain = Plain(venue)
    for message in entries(captures, FILES[venue]):
        feed(pipeline, message)
        plain.take(message)
    lines = pipeline.decoder.instruments
    assert {symbol for symbol, line in lines.items() if line.has_book} == set(plain.books)
    for symbol, book in plain.books.items():
        for i, side in enumerate((BID, ASK)):
            held = {Decimal(p): Decimal(q) for p, q in rows_of(lines[symbol], side)}
            assert held == book[i], (symbol, side)
    pipeline.close()


class Plain:
    """Books as a newcomer would write them from the venue's page: slow, and nothing shared with the product."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.books: dict[str, tuple[dict, dict]] = {}
        self.waiting: dict[str, list] = {}
        self.seq: dict[str, int] = {}

    def take(self, message) -> None:
        kind, url, data = message
        frame = json.loads(data, parse_float=str)
        if kind == "rest":
            if isinstance(frame, dict) and "bids" in frame:
                self.load(url, frame)
            return
        for symbol, is_snapshot, bids, asks, seq in UPDATES[self.venue](frame):
            if self.venue in REST_VENUES and symbol not in self.books:
                self.waiting.setdefault(symbol, []).append((bids, asks, int(seq)))
            elif self.venue not in REST_VENUES or self.is_news(symbol, int(seq)):
                self.apply(symbol, is_snapshot, bids, asks)

    def load(self, url: str, frame: dict) -> None:
        is_bitstamp = self.venue == "bitstamp"
        symbol = (
            url.rpartition("/")[2]
            if is_bitstamp
            else url.split("symbol=")[1].split("&", maxsplit=1)[0]
        )
        self.seq[symbol] = int(frame["microtimestamp" if is_bitstamp else "lastUpdateId"])
        self.apply(symbol, True, frame["bids"], frame["asks"])
        for bids, asks, seq in self.waiting.get(symbol, []):
            if self.is_news(symbol, seq):
                self.apply(symbol, False, bids, asks)

    def is_news(self, symbol: str, seq: int) -> bool:
        return seq > self.seq[symbol] - (self.venue == "binance_usdm")

    def apply(self, symbol: str, is_snapshot: bool, bids: list, asks: list) -> None:
        book = self.books.setdefault(symbol, ({}, {}))
        for levels, rows in zip(book, (bids, asks), strict=True):
            if is_snapshot:
                levels.clear()
            for price, qty, *_ in rows:
                levels[Decimal(price)] = Decimal(qty)
                if Decimal(qty) == 0:
                    del levels[Decimal(price)]


def _binance(frame: dict):
    data = frame["data"]
    if data.get("e") == "depthUpdate":
        yield data["s"], False, data["b"], data["a"], data["u"]


def _bitstamp(frame: dict):
    if frame["event"] == "data":
        data = frame["data"]
        symbol = frame["channel"].removeprefix("diff_order_book_")
        yield symbol, False, data["bids"], data["asks"], data["microtimestamp"]


def _bybit(frame: dict):
    if frame.get("topic", "").startswith("orderbook"):
        data = frame["data"]
        yield data["s"], frame["type"] == "snapshot", data["b"], data["a"], 0


def _coinbase_advanced(frame: dict):
    for event in frame["events"] if frame["channel"] == "l2_data" else []:
        rows = [
            [(r["price_level"], r["new_quantity"]) for r in event["updates"] if r["side"] == side]
            for side in ("bid", "offer")
        ]
        yield event["product_id"], event["type"] == "snapshot", *rows, 0


def _coinbase_exchange(frame: dict):
    if frame["type"] == "snapshot":
        yield frame["product_id"], True, frame["bids"], frame["asks"], 0
    if frame["type"] == "l2update":
        rows = [[r[1:] for r in frame["changes"] if r[0] == side] for side in ("buy", "sell")]
        yield frame["product_id"], False, *rows, 0


def _deribit(frame: dict):
    params = frame.get("params", {})
    if params.get("channel", "").startswith("book."):
        data = params["data"]
        rows = [[row[1:] for row in data[name]] for name in ("bids", "asks")]
        yield data["instrument_name"], data["type"] == "snapshot", *rows, 0


def _kraken_futures(frame: dict):
    if frame.get("feed") == "book_snapshot":
        rows = [[(r["price"], r["qty"]) for r in frame[name]] for name in ("bids", "asks")]
        yield frame["product_id"], True, *rows, 0
    if frame.get("feed") == "book" and "side" in frame:
        row = [(frame["price"], frame["qty"])]
        is_bid = frame["side"] == "buy"
        yield frame["product_id"], False, row if is_bid else [], [] if is_bid else row, 0


def _okx(frame: dict):
    if "action" in frame:
        for data in frame["data"]:
            symbol = frame["arg"]["instId"]
            yield symbol, frame["action"] == "snapshot", data["bids"], data["asks"], 0


UPDATES = {
    "binance_spot": _binance,
    "binance_usdm": _binance,
    "bitstamp": _bitstamp,
    "bybit": _bybit,
    "coinbase_advanced": _coinbase_advanced,
    "coinbase_exchange": _coinbase_exchange,
    "deribit": _deribit,
    "kraken_futures": _kraken_futures,
    "okx": _okx,
}
