"""Frames that venues document and the recordings here do not hold: each is taken for what it is, and hurts no book."""

import zlib

import pytest
from venue_kit import pipeline_of

from layouts import InstrumentState, Kind, Mark
from shm.book import ASK, BID
from shm.outlet import Reject

TIME = "2026-08-09T21:05:48Z"
ASIDE = {
    "binance_spot": (
        '{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker","E":1672515782136,"s":"BNBBTC","c":"0.0025"}]}',
        '[{"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","c":"0.0025"}]',
        '{"stream":"!ticker@arr","data":[]}',
        '{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}',
        '{"e":"executionReport","E":1499405658658,"s":"ETHBTC"}',
    ),
    "binance_usdm": (
        '{"stream":"!markPrice@arr","data":[{"e":"markPriceUpdate","E":1562305380000,"s":"BTCUSDT","p":"11794.1"}]}',
        '{"stream":"!assetIndex@arr","data":[{"e":"assetIndexUpdate","E":1686749230000,"s":"ADAUSD","i":"0.27"}]}',
        '{"e":"contractInfo","E":1669647330128,"s":"IOTAUSDT","ps":"IOTAUSDT"}',
        '{"e":"continuous_kline","E":1607443058651,"ps":"BTCUSDT","ct":"PERPETUAL","k":{}}',
    ),
    "bitstamp": (
        '{"data":{"funding_rate":"0.00001"},"channel":"funding_rate_btcusd-perp","event":"data"}',
        '{"data":{},"channel":"private-my_orders_btcusd-123","event":"order_created"}',
    ),
    "bybit": (
        '{"success":true,"conn_id":"a","data":{"failTopics":[],"successTopics":["orderbook.100.X"]},"type":"COMMAND_RESP"}',
        '{"id":"592324","topic":"wallet","creationTime":1700034722104,"data":[]}',
    ),
    "coinbase_exchange": (
        '{"type":"balance","account_id":"d50ec984","currency":"USD","holds":"1000.23","available":"102030.99"}',
    ),
    "deribit": ('{"jsonrpc":"2.0","result":"ok","usIn":1,"usOut":2,"usDiff":1,"testnet":false}',),
    "kraken_futures": (
        '{"feed":"fills_snapshot","account":"DemoUser","fills":[]}',
        '{"feed":"open_positions","account":"DemoUser","positions":[]}',
    ),
    "kraken_v2": (
        '{"error":"Malformed request","time_in":"2026-08-09T21:05:48Z","time_out":"2026-08-09T21:05:48Z"}',
        '{"channel":"instrument","type":"update","data":{"assets":[]}}',
        '{"channel":"instrument","type":"update","data":{"pairs":[{"symbol":"A/B","tick_size":1e-05,"qty_increment":1e-08}]}}',
    ),
    "okx": (
        '{"arg":{"channel":"index-candle30m","instId":"BTC-USD"},"data":[["1597026383085","3","3","3","3","0"]]}',
        '{"arg":{"channel":"sprd-books5","sprdId":"BTC-USDT_BTC-USDT-SWAP"},"data":[{"asks":[],"bids":[],"ts":"1"}]}',
        '{"arg":{"channel":"account","uid":"44"},"eventType":"snapshot","curPage":1,"lastPage":true,"data":[]}',
        '{"arg":{"channel":"adl-warning","instType":"FUTURES"},"data":[{}]}',
    ),
}


@pytest.mark.parametrize(
    ("venue", "frame"), [(venue, frame) for venue in ASIDE for frame in ASIDE[venue]]
)
def test_what_is_not_subscribed_to_is_left_aside(venue, frame) -> None:
    """Decoded, no record of it, no GAP, nothing asked of the venue."""
    pipeline = pipeline_of(venue)
    assert pipeline.feed(frame) == 0
    assert pipeline.counts == {"frames_decoded": 1}
    assert len(pipeline.events()) == 0
    assert pipeline.decoder.outbox == []
    pipeline.close()


@pytest.mark.parametrize("venue", sorted(ASIDE))
def test_a_kind_that_no_venue_documents_is_counted_as_such(venue) -> None:
    """The lists are no open door: a name that is none of theirs is an unknown channel, or a shape that is none."""
    pipeline = pipeline_of(venue)
    frame = {"e": "nonesuch", "topic": "nonesuch", "type": "nonesuch", "feed": "nonesuch"}
    frame |= {"channel": "nonesuch", "event": "", "method": ""}
    if venue == "okx":
        frame = {"arg": {"channel": "nonesuch"}, "data": []}
    elif venue in ("bitstamp", "deribit"):
        frame |= {"event": "nonesuch", "method": "nonesuch"}
    assert pipeline.feed(frame) == Reject.UNKNOWN_CHANNEL
    pipeline.close()


# ---- Coinbase Advanced Trade ----

EVENT = '{"type":"%s","product_id":"A-B","updates":[%s]}'
ROW = '{"side":"%s","event_time":"2026-08-09T21:05:48Z","price_level":"%s","new_quantity":"%s"}'
MESSAGE = '{"channel":"l2_data","sequence_num":%d,"events":[%s]}'


def row(side: str, price: str, qty: str) -> str:
    return ROW % (side, price, qty)


def coinbase_with_book():
    pipeline = pipeline_of("coinbase_advanced")
    rows = row("bid", "10.5", "1") + "," + row("offer", "10.7", "2")
    assert pipeline.feed(MESSAGE % (0, EVENT % ("snapshot", rows))) == 0
    return pipeline


def test_a_book_that_crosses_between_two_events_of_a_message_is_whole_at_its_end() -> None:
    """Updates of one product are one frame: its crossing is judged after the last; a message that ends crossed is refused."""
    pipeline = coinbase_with_book()
    line = pipeline.decoder.instruments["A-B"]
    through = EVENT % ("update", row("bid", "10.8", "1"))
    lifts = EVENT % ("update", row("offer", "10.7", "0") + "," + row("offer", "11", "3"))
    empty = EVENT % ("update", "")
    assert pipeline.feed(MESSAGE % (1, f"{through},{empty},{lifts}")) == 0
    assert (line.live.depth(BID, 1), line.live.depth(ASK, 1)) == ([(108, 1)], [(110, 3)])
    assert pipeline.counts["frames_decoded"] == 2
    over = EVENT % ("update", row("bid", "12", "1"))
    assert pipeline.feed(MESSAGE % (2, f"{over},{empty}")) == Reject.CROSSED
    assert line.live.state is InstrumentState.SUSPECT
    pipeline.close()


def test_a_message_of_many_events_arrives_whole() -> None:
    """5,000 events of one product are joined once: their levels all arrive."""
    pipeline = coinbase_with_book()
    many = ",".join(EVENT % ("update", row("bid", "10.5", str(n))) for n in range(1, 5_001))
    assert pipeline.feed(MESSAGE % (1, many)) == 0
    assert pipeline.decoder.instruments["A-B"].live.depth(BID, 1) == [(105, 5_000)]
    assert pipeline.counts["levels"] == 2 + 5_000
    pipeline.close()


def test_an_empty_book_is_a_book() -> None:
    """A product without an order: its snapshot has no updates, as a list or as null."""
    pipeline = coinbase_with_book()
    for number, updates in enumerate(("[]", "null"), 1):
        event = (EVENT % ("snapshot", "")).replace("[]", updates).replace("A-B", f"E{number}-B")
        assert pipeline.feed(MESSAGE % (number, event)) == 0
        assert pipeline.decoder.instruments[f"E{number}-B"].live.state is InstrumentState.LIVE
    pipeline.close()


TRADES = '{"channel":"market_trades","sequence_num":%d,"events":[{"type":"update","trades":[%s]}]}'
TRADE = '{"trade_id":%s,"product_id":"A-B","price":"%s","size":"2","time":"2026-08-09T21:05:48Z","side":"BUY"}'


def test_a_trade_whose_id_is_no_number_is_published_and_no_book_is_lost() -> None:
    """Ids of text and of zeros are published as 0, the newest last; numbers are kept."""
    pipeline = coinbase_with_book()
    ids = ('"000000000"', '"b4a1ae2b-0d62"', '"77"', "78")
    for number, trade_id in enumerate(ids, 1):
        assert pipeline.feed(TRADES % (number, TRADE % (trade_id, "10.6"))) == 0
    texts = TRADE % ('"x-2"', "10.62") + "," + TRADE % ('"x-1"', "10.61")
    assert pipeline.feed(TRADES % (5, texts)) == 0
    trades = pipeline.of(Kind.TRADE)
    assert trades["trade_id"].tolist() == [0, 0, 77, 78, 0, 0]
    assert trades["price"].tolist()[-2:] == [1061, 1062]
    assert pipeline.decoder.books_live == 1
    pipeline.close()


def test_a_broken_message_of_trades_costs_no_book() -> None:
    """Its number is known and it was no book's: a GAP tells the loss, and every book goes on."""
    pipeline = coinbase_with_book()
    assert pipeline.feed(TRADES % (1, '{"trade_id":"5"}')) == Reject.UNEXPECTED_SHAPE
    assert pipeline.feed(MESSAGE % (2, EVENT % ("update", row("bid", "10.6", "1")))) == 0
    assert pipeline.decoder.books_live == 1
    assert pipeline.of(Kind.GAP)["instrument_id"].tolist() == [0]
    assert pipeline.feed(TRADES % (9, '{"trade_id":"5"}')) == Reject.UNEXPECTED_SHAPE
    assert pipeline.feed(MESSAGE % (3, EVENT % ("update", row("bid", "10.6", "2")))) == 0
    assert pipeline.decoder.books_live == 1
    pipeline.close()


# ---- Binance ----

BEST = '{"stream":"bnbbtc@depth20@100ms","data":{"lastUpdateId":%d,"bids":[["4","10"]],"asks":[["6","100"]]}}'
DIFF = '{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":%d,"u":%d,"b":[["4.5","11"]],"a":[]}'
SNAPSHOT = b'{"lastUpdateId":%d,"bids":[["3","431"]],"asks":[["7","1"]]}'
URL = "https://api.binance.com/api/v3/depth?symbol=BNBBTC&limit=5000"


def test_best_levels_are_the_book_until_a_diff_comes() -> None:
    """Each is the whole book; the first diff ends that, and from the snapshot on nothing of them is left."""
    pipeline = pipeline_of("binance_spot")
    assert [pipeline.feed(BEST % n) for n in (160, 161)] == [0, 0]
    line = pipeline.decoder.instruments["BNBBTC"]
    assert line.live.depth(BID, 9) == [(4, 10)]
    assert pipeline.feed(DIFF % (162, 163)) == 0
    assert line.live.state is InstrumentState.SYNCING
    assert pipeline.feed(BEST % 163) == 0
    assert pipeline.decoder.rest_response(URL, SNAPSHOT % 162, pipeline.ts)
    assert pipeline.feed(BEST % 164) == 0
    assert line.live.depth(BID, 9) == [(45, 11), (30, 431)]
    assert pipeline.counts["frames_decoded"] == 5
    assert "gaps.refused_frame" not in pipeline.counts
    pipeline.close()


FUTURE = (
    '{"stream":"%s","data":{"e":"depthUpdate","E":1723161255208,"T":1723161255207,"s":"X","U":%d,"u":%d,"pu":%d,'
    '"b":[["%s","1"]],"a":[]}}'
)


@pytest.mark.parametrize("stream", ["x@depth20@100ms", "x@depth5", "x@rpiDepth@500ms"])
def test_other_books_of_usd_m_are_no_diffs_though_they_look_like_them(stream) -> None:
    """Same members, numbers of their own: the stream's name tells; the diff book goes on without a GAP."""
    pipeline = pipeline_of("binance_usdm")
    assert pipeline.feed(FUTURE % ("x@depth@0ms", 10, 12, 9, "4.5")) == 0
    assert pipeline.decoder.rest_response(URL.replace("BNBBTC", "X"), SNAPSHOT % 11, pipeline.ts)
    for first, last, previous in ((13, 14, 12), (50, 60, 40)):
        assert pipeline.feed(FUTURE % (stream, first, last, previous, "6.5")) == 0
    assert pipeline.feed(FUTURE % ("x@depth", 13, 15, 12, "5")) == 0
    assert pipeline.decoder.books_live == 1
    assert [price for price, _ in pipeline.decoder.instruments["X"].live.depth(BID, 9)] == [
        50,
        45,
        30,
    ]
    assert "gaps.sequence" not in pipeline.counts
    pipeline.close()


def test_data_within_data_within_data_are_refused() -> None:
    """One wrapping is the venue's; more are nobody's, and no depth of them costs more than a refusal."""
    pipeline = pipeline_of("binance_spot")
    for depth in (2, 300, 50_000):
        frame = '{"stream":"a","data":' * depth + "1" + "}" * depth
        assert pipeline.feed(frame) in (Reject.UNEXPECTED_SHAPE, Reject.MALFORMED_JSON)
    pipeline.close()


# ---- Bybit ----

BYBIT = (
    '{"topic":"orderbook.%d.BTCUSDT","type":"%s","ts":1672304484978,"data":{"s":"BTCUSDT","b":[["%s","1"]],"a":[],'
    '"u":%d,"seq":1},"cts":1672304484976}'
)
PRINT = '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[%s]}'
BYBIT_TRADE = (
    '{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.5","i":"%s","BT":false}'
)


def test_of_several_depths_the_deepest_is_the_book() -> None:
    """A deeper one's snapshot replaces the book; a shallower one, and a deeper one's deltas before it, are left aside."""
    pipeline = pipeline_of("bybit")
    frames = (
        (1, "snapshot", "7", 5),
        (50, "delta", "8", 90),
        (50, "snapshot", "6", 100),
        (1, "delta", "9", 6),
        (1, "snapshot", "9", 7),
        (50, "delta", "5", 101),
    )
    assert [pipeline.feed(BYBIT % frame) for frame in frames] == [0] * 6
    live = pipeline.decoder.instruments["BTCUSDT"].live
    assert [price for price, _ in live.depth(BID, 9)] == [6, 5]
    assert "gaps.sequence" not in pipeline.counts
    pipeline.close()


def test_ids_of_spot_trades_are_published() -> None:
    """19 digits as spot has them; what does not fit 63 bits, and text, is 0."""
    pipeline = pipeline_of("bybit")
    ids = (
        "2290000000061756025",
        "9223372036854775807",
        "9223372036854775808",
        "20f43950-d8dd-5b31",
    )
    assert pipeline.feed(PRINT % ",".join(BYBIT_TRADE % each for each in ids)) == 0
    published = pipeline.of(Kind.TRADE)["trade_id"].tolist()
    assert published == [2290000000061756025, 9223372036854775807, 0, 0]
    pipeline.close()


# ---- Kraken ----


def v1_snapshot(depth: int) -> str:
    return (
        '[336,{"as":[["5541.3","2.5","1534614248.1"]],"bs":[["5541.2","1.5","1534614248.7"]]},'
        f'"book-{depth}","A/B"]'
    )


def v1_update(depth: int) -> str:
    crc = zlib.crc32(b"55413255541215")
    return f'[336,{{"b":[["5541.2","1.5","1534614249.7"]],"c":"{crc}"}},"book-{depth}","A/B"]'


def v1_status(depth: int, status: str) -> dict:
    return {
        "event": "subscriptionStatus",
        "status": status,
        "pair": "A/B",
        "channelName": f"book-{depth}",
    }


def test_two_depths_of_a_pair_do_not_disturb_each_other() -> None:
    """The first is the book until it is unsubscribed; what becomes of the other does not touch it."""
    pipeline = pipeline_of("kraken_v1")
    line = None
    for frame in (v1_snapshot(10), v1_status(25, "subscribed"), v1_snapshot(25), v1_update(25)):
        assert pipeline.feed(frame) == 0
        line = pipeline.decoder.instruments["A/B"]
        assert line.instrument.depth == 10
    assert pipeline.counts.get("checksums_ok", 0) == 0
    assert pipeline.feed(v1_update(10)) == 0
    assert pipeline.counts["checksums_ok"] == 1
    pipeline.feed(v1_status(25, "unsubscribed"))
    assert line.live.is_valid
    pipeline.feed(v1_status(10, "unsubscribed"))
    assert not line.live.is_valid
    assert [pipeline.feed(f) for f in (v1_snapshot(100), v1_update(100))] == [0, 0]
    assert line.instrument.depth == 100
    assert pipeline.counts["checksums_ok"] == 2
    pipeline.close()


def test_a_snapshot_of_trades_is_taken_by_id() -> None:
    """Whatever its order, no trade of it is taken for a repeat."""
    pipeline = pipeline_of("kraken_v2")
    entry = (
        '{"symbol":"A/B","side":"buy","price":5.1,"qty":2.0,"ord_type":"limit","trade_id":%d,'
        f'"timestamp":"{TIME}"}}'
    )
    data = ",".join(entry % n for n in (9, 7, 8))
    assert pipeline.feed(f'{{"channel":"trade","type":"snapshot","data":[{data}]}}') == 0
    trades = pipeline.of(Kind.TRADE)
    assert trades["trade_id"].tolist() == [7, 8, 9]
    assert all(trades["marks"] & Mark.SNAPSHOT)
    pipeline.close()


def test_a_bitstamp_pair_with_a_dash_gets_its_snapshot() -> None:
    """Perpetuals are named btcusd-perp, in channels and in the address of their books."""
    pipeline = pipeline_of("bitstamp")
    frame = (
        '{"data":{"timestamp":"1643643584","microtimestamp":"%d","bids":[["3000.5","1.01"]],"asks":[]},'
        '"channel":"diff_order_book_btcusd-perp","event":"data"}'
    )
    assert pipeline.feed(frame % 1643643584000002) == 0
    body = b'{"timestamp":"1643643584","microtimestamp":"1643643584000000","bids":[["2999","1"]],"asks":[["3002","1"]]}'
    (url,) = pipeline.decoder.rest_wanted
    assert pipeline.decoder.rest_response(url, body, pipeline.ts)
    assert pipeline.decoder.books_live == 1
    pipeline.close()


def test_of_two_channels_with_the_same_trades_one_is_published() -> None:
    """OKX adds fills up in `trades` and lists each in `trades-all`: nothing is there twice, whatever the ids say."""
    pipeline = pipeline_of("okx")
    frame = (
        '{"arg":{"channel":"%s","instId":"X"},"data":[{"instId":"X","tradeId":"%d","px":"42","sz":"%d","side":"buy",'
        '"ts":"1630048897897"}]}'
    )
    told = (("trades", 5, 3), ("trades-all", 6, 1), ("trades-all", 7, 2), ("trades", 7, 3))
    assert [pipeline.feed(frame % each) for each in told] == [0] * 4
    assert pipeline.of(Kind.TRADE)["trade_id"].tolist() == [5, 7]
    assert pipeline.of(Kind.TRADE)["qty"].tolist() == [3, 3]
    pipeline.close()
