"""Kraken v2 in particular: numbers as JSON, trade ids, the instrument channel, answers to requests."""

import json

import pytest
from decoding import Pipeline, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, crc, snapshot_v2, update, v2

from collectors.captures import Capture
from collectors.decoder import Subscription
from layouts import GapReason, InstrumentState, Kind, Mark, StateReason
from shm.outlet import Reject


@pytest.fixture
def pipeline():
    made = Pipeline("kraken_v2")
    yield made
    assert made.accounted() == made.fed
    made.close()


def trades(*rows, kind="update", symbol="A/B") -> str:
    data = ",".join(
        f'{{"symbol":"{symbol}","side":"{side}","price":{price},"qty":{qty},"ord_type":"limit",'
        f'"trade_id":{trade_id},"timestamp":"2026-08-01T00:00:0{trade_id % 10}.000001Z"}}'
        for side, price, qty, trade_id in rows
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{data}]}}'


def test_exponents_are_exact(pipeline) -> None:
    """JSON may write 0.00001 as 1e-05: the snapshot's scale is five decimals, and the integer is 1."""
    bids = [["1e-05", "2.5E+1"]]
    asks = [["0.00002", "30"]]
    assert (
        pipeline.feed(
            v2("snapshot", bids=bids, asks=asks, checksum=crc([["1", "25"]], [["2", "30"]]))
        )
        == 0
    )
    line = pipeline.decoder.instruments["A/B"]
    assert line.live.scales == (5, 0)
    assert line.live.depth(1, 1) == [(1, 25)]


def test_members_come_in_any_order_and_unknown_ones_are_skipped(pipeline) -> None:
    """Venues add members; order means nothing in JSON; space is allowed."""
    frame = f"""{{ "type" : "snapshot", "data" : [ {{ "timestamp" : "2026-08-01T02:53:53.646219Z",
        "checksum" : {crc(BIDS[:1], ASKS[:1])}, "new" : {{"a": [1]}}, "symbol" : "A/B",
        "asks" : [ {{ "qty" : 4.000 , "orders" : 3, "price" : 10.01, "note" : "a \\" b" }} ],
        "bids" : [ {{ "price" : 10.00, "qty" : 1.000 }} ] }} ], "channel" : "book" }}"""
    assert pipeline.feed(frame) == 0
    assert pipeline.decoder.instruments["A/B"].live.depth(-1, 1) == [(1001, 4000)]


@pytest.mark.parametrize(
    "row",
    [
        '{"price":10.00}',
        '{"qty":1.000}',
        '{"price":10.00,"qty":null}',
        '{"price":10.00,"qty":{"x":1}}',
        '{"price":10.00,"qty":1.000,"more":[1]}',
        '{"price":"ten","qty":1.000}',
        '["10.00"]',
        "10.00",
    ],
)
def test_a_level_of_another_shape_costs_its_own_book(pipeline, row) -> None:
    """Refused with the whole frame; SUSPECT; asked for again."""
    pipeline.feed(snapshot_v2())
    pipeline.drain()
    frame = v2(bids=[["9.99", "9.000"]], checksum=1).replace("}]", "}," + row + "]", 1)
    assert pipeline.feed(frame) in (Reject.UNEXPECTED_SHAPE, Reject.NOT_A_NUMBER)
    assert kinds(pipeline.drain()) == ["GAP", "STATE"]
    assert pipeline.decoder.instruments["A/B"].live.depth(1, 3)[1] == (999, 2000)


@pytest.mark.parametrize(
    "change",
    [
        ('"checksum":', '"chocksum":'),
        ('"type":"update"', '"type":"upgrade"'),
        ('"bids":', '"bids":5,"x":'),
    ],
)
def test_a_message_of_another_shape_costs_the_book_that_it_names(pipeline, change) -> None:
    """No checksum, another type, sides that are no arrays: refused, and its symbol is SUSPECT."""
    pipeline.feed(snapshot_v2())
    pipeline.drain()
    assert pipeline.feed(update("kraken_v2", *BETTER_BID).replace(*change)) in (
        Reject.UNEXPECTED_SHAPE,
        Reject.CHECKSUM,
    )
    assert pipeline.of(Kind.GAP)[-1]["instrument_id"] == 1
    assert pipeline.decoder.instruments["A/B"].live.state == InstrumentState.SUSPECT


def test_a_time_that_is_none_is_refused_and_an_absent_one_is_the_last(pipeline) -> None:
    """A snapshot without a time takes the instrument's previous; nonsense is refused."""
    pipeline.feed(snapshot_v2())
    before = pipeline.events()["ts_event"][-1]
    plain = snapshot_v2().replace(',"timestamp":"2026-08-01T02:53:53.646219Z"', "")
    assert "timestamp" not in plain
    assert pipeline.feed(plain) == 0
    assert pipeline.events()["ts_event"][-1] == before
    assert pipeline.feed(snapshot_v2().replace("2026-08", "2026-18")) == Reject.NOT_A_NUMBER


def test_a_message_of_two_books_is_counted_once(pipeline) -> None:
    """Both are applied; if one is refused the message is, and only that book is lost."""
    one, two = (json.loads(snapshot_v2(symbol), parse_float=str) for symbol in ("A/B", "C/D"))
    assert pipeline.feed({**one, "data": one["data"] + two["data"]}) == 0
    good = json.loads(update("kraken_v2", *BETTER_BID), parse_float=str)
    bad = json.loads(update("kraken_v2", *BETTER_BID, symbol="C/D", checksum=1), parse_float=str)
    assert pipeline.feed({**good, "data": bad["data"] + good["data"]}) == Reject.CHECKSUM
    assert pipeline.decoder.instruments["A/B"].live.depth(1, 1) == [(1000, 7000)]
    assert pipeline.decoder.instruments["C/D"].live.state == InstrumentState.SUSPECT
    assert pipeline.counts["frames_decoded"] == 1


def test_trades_are_exact_with_id_time_and_side(pipeline) -> None:
    """One frame of two trades: the second ends it; the taker's side is the message's."""
    pipeline.feed(snapshot_v2())
    pipeline.drain()
    assert pipeline.feed(trades(("buy", "10.01", "0.5", 5), ("sell", "10.0", "1", 6))) == 0
    got = pipeline.of(Kind.TRADE)
    assert got["price"].tolist() == [1001, 1000]
    assert got["qty"].tolist() == [500, 1000]
    assert got["trade_id"].tolist() == [5, 6]
    assert [int(m) & Mark.SIDE_MASK for m in got["marks"]] == [Mark.BUY, Mark.SELL]
    assert got["ts_event"][0] % 10**10 == 5_000_001_000
    assert [bool(m & Mark.LAST_IN_FRAME) for m in got["marks"]] == [False, True]


def test_repeated_trades_are_dropped_and_counted(pipeline) -> None:
    """A snapshot after a reconnection brings what is new, marked SNAPSHOT, and repeats nothing."""
    pipeline.feed(trades(("buy", "10.01", "0.5", 5), ("buy", "10.01", "0.5", 6)))
    assert (
        pipeline.feed(trades(*(("buy", "10.01", "0.5", i) for i in (5, 6, 7)), kind="snapshot"))
        == 0
    )
    assert pipeline.feed(trades(("buy", "10.01", "0.5", 7))) == 0
    got = pipeline.of(Kind.TRADE)
    assert got["trade_id"].tolist() == [5, 6, 7]
    assert [bool(m & Mark.SNAPSHOT) for m in got["marks"]] == [False, False, True]
    assert pipeline.counts["trades_duplicate"] == 3


def test_a_refused_trade_frame_is_forgotten(pipeline) -> None:
    """The id of a trade that was never published does not make the next one a repeat."""
    pipeline.feed(trades(("buy", "10.01", "0.5", 5)))
    frame = trades(("buy", "10.01", "0.5", 9), ("buy", "0", "0.5", 10))
    assert pipeline.feed(frame) == Reject.OUT_OF_RANGE
    assert pipeline.of(Kind.GAP)["frames_lost"].tolist() == [1]
    assert pipeline.feed(trades(("buy", "10.01", "0.5", 9))) == 0
    assert pipeline.of(Kind.TRADE)["trade_id"].tolist() == [5, 9]


def test_the_instrument_channel_gives_tick_and_lot() -> None:
    """Increments become integers at the wire's scale, in a new record of the same version; other pairs are left."""
    pipeline = Pipeline("kraken_v2", [Subscription("book", ("A/B",), 10)], accept_any=False)
    pipeline.feed(snapshot_v2())
    pair = '{"symbol":"%s","base":"A","quote":"B","price_increment":0.01,"qty_increment":1e-3}'
    message = '{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[%s,%s]}}'
    assert pipeline.feed(message % (pair % "A/B", pair % "X/Y")) == 0
    assert pipeline.feed(message % (pair % "A/B", pair % "X/Y")) == 0
    rows = pipeline.instruments()
    assert rows["version"].tolist() == [1, 1]
    assert rows["tick"].tolist() == [0, 1]
    assert rows["lot"].tolist() == [0, 1]
    assert rows["depth"].tolist() == [10, 10]
    assert rows["base_currency"][1] == b"A"
    pipeline.close()


def test_the_list_of_pairs_gives_tick_and_lot_under_both_names(captures) -> None:
    """Recorded AssetPairs: finer than the wire is unknown, equal or coarser is an integer at the wire's scale."""
    answer = next(iter(Capture(captures / "kraken_asset_pairs.jsonl.gz")))
    pipeline = Pipeline("kraken_v1")
    pipeline.feed_capture(captures / "kraken_v1_book_10pairs.jsonl.gz")
    pipeline.instruments()
    assert pipeline.decoder.rest_response(answer.url, answer.data, 1)
    rows = {row["symbol"].decode(): row for row in pipeline.instruments()}
    assert len(rows) == 10
    pairs = {p["wsname"]: p for p in json.loads(answer.data)["result"].values() if "wsname" in p}
    for symbol, row in rows.items():
        pair = pairs[symbol]
        assert row["tick"] == 10 ** int(row["price_scale"] - pair["pair_decimals"])
        assert row["lot"] == 10 ** int(row["qty_scale"] - pair["lot_decimals"])
    assert pipeline.decoder.rest_response("https://api.kraken.com/0/public/Time", b"{}", 1)
    assert len(pipeline.instruments()) == 0
    later = Pipeline("kraken_v2")
    assert later.decoder.rest_response(answer.url, answer.data, 1)
    later.feed_capture(captures / "kraken_v2_btcusd_resubscribes.jsonl.gz")
    row = later.instruments()[-1]
    assert (row["symbol"], row["tick"], row["lot"]) == (b"BTC/USD", 1, 1)
    assert not later.decoder.rest_response(answer.url, b'{"error":["EService:Unavailable"]}', 1)
    assert "cannot be read" in later.decoder.notices[-1]
    pipeline.close()
    later.close()


def test_answers_are_decoded(pipeline) -> None:
    """Acknowledgements, pongs and errors; an acknowledged depth is taken; an unsubscription ends a book's validity."""
    ack = {
        "method": "subscribe",
        "success": True,
        "result": {"channel": "book", "symbol": "A/B", "depth": 25},
    }
    assert pipeline.feed(ack) == 0
    assert pipeline.decoder.instruments["A/B"].instrument.depth == 25
    assert pipeline.feed(snapshot_v2()) == 0
    assert (
        pipeline.feed({"method": "unsubscribe", "success": False, "error": "x", "symbol": "A/B"})
        == 0
    )
    assert pipeline.decoder.instruments["A/B"].live.is_valid
    assert pipeline.feed({**ack, "method": "unsubscribe"}) == 0
    assert pipeline.of(Kind.STATE)[-1]["reason"] == StateReason.UNSUBSCRIBED
    assert pipeline.feed(update("kraken_v2", *BETTER_BID)) == Reject.NO_SNAPSHOT
    refusal = {
        "method": "subscribe",
        "success": False,
        "error": "Currency pair not supported",
        "symbol": "A/B",
    }
    assert pipeline.feed(refusal) == 0
    assert pipeline.of(Kind.STATE)[-1]["reason"] == StateReason.VENUE_REFUSED
    for frame in (
        {"method": "pong", "time_in": "2026-08-01T02:53:53.184174Z"},
        {"method": "subscribe", "success": False, "error": "Method not found"},
        {"channel": "heartbeat"},
        {
            "channel": "status",
            "type": "update",
            "data": [{"system": "cancel_only", "connection_id": 1}],
        },
        {"channel": "ticker", "type": "update", "data": [{"symbol": "A/B", "bid": 1.5}]},
        {"channel": "ohlc", "type": "update", "data": []},
    ):
        assert pipeline.feed(frame) == 0, frame
    assert len(pipeline.decoder.notices) == 4
    assert (
        pipeline.feed({"channel": "level9", "type": "update", "data": []}) == Reject.UNKNOWN_CHANNEL
    )


def test_a_wrong_checksum_in_a_snapshot_is_found(pipeline) -> None:
    """v2 proves its snapshots too: a wrong one is not published as a book."""
    frame = v2("snapshot", bids=BIDS, asks=ASKS, checksum=crc(BIDS, ASKS) ^ 1)
    assert pipeline.feed(frame) == Reject.CHECKSUM
    assert kinds(pipeline.events()) == ["GAP", "STATE"]
    assert pipeline.of(Kind.GAP)["reason"].tolist() == [GapReason.CHECKSUM]
    assert pipeline.decoder.outbox


@pytest.mark.parametrize(
    ("levels", "depth"), [(1, 10), (10, 10), (11, 25), (100, 100), (101, 500), (1500, 1000)]
)
def test_an_untold_depth_is_the_least_that_fits(levels, depth) -> None:
    """A recording that begins after the acknowledgement still cuts its books right."""
    pipeline = Pipeline("kraken_v2")
    bids = [[f"{100 - i / 100:.2f}", "1.000"] for i in range(levels)]
    assert pipeline.feed(snapshot_v2(bids=bids, asks=[["100.01", "1.000"]])) == 0
    assert pipeline.decoder.instruments["A/B"].instrument.depth == depth
    pipeline.close()


def ladder(levels: int, first: int = 100) -> list[list[str]]:
    """Return bids, best first, a cent apart."""
    return [[f"{first - i / 100:.2f}", "1.000"] for i in range(levels)]


TOP = [["100.01", "1.000"]]


def test_a_longer_snapshot_shows_that_an_untold_depth_is_more(pipeline) -> None:
    """An update that comes first, or a thin snapshot, is not the last word; a shorter one later takes nothing back."""
    line = None
    depths = []
    assert pipeline.feed(v2("update", bids=ladder(1), checksum=1)) == Reject.NO_SNAPSHOT
    for levels in (9, 14, 25, 26, 3):
        assert pipeline.feed(snapshot_v2(bids=ladder(levels), asks=TOP)) == 0
        line = pipeline.decoder.instruments["A/B"]
        depths.append(line.instrument.depth)
        assert len(line.live.depth(1, 99)) == levels
    assert depths == [10, 25, 25, 100, 100]


def test_a_subscribed_depth_is_no_guess() -> None:
    """Live, a thin book grows to the depth that was asked for, whatever its snapshot held; and is cut there."""
    pipeline = Pipeline("kraken_v2", [Subscription("book", ("A/B",), 25)], accept_any=False)
    assert pipeline.feed(snapshot_v2(bids=ladder(9), asks=TOP)) == 0
    line = pipeline.decoder.instruments["A/B"]
    for levels in range(10, 28):
        assert (
            pipeline.feed(update("kraken_v2", ladder(levels)[-1:], [], (ladder(levels), TOP))) == 0
        )
        assert len(line.live.depth(1, 99)) == min(levels, 25)
    assert pipeline.feed(snapshot_v2(bids=ladder(30), asks=TOP)) == 0
    assert line.instrument.depth == len(line.live.depth(1, 99)) == 25
    pipeline.close()


def test_a_book_that_was_cut_at_too_small_a_guess_is_suspect_before_it_is_wrong(pipeline) -> None:
    """The venue's depth is 25, ten is what the thin snapshot says: the first update that misses a level fails its checksum."""
    assert pipeline.feed(snapshot_v2(bids=ladder(9), asks=TOP)) == 0
    for levels in (10, 11):
        assert (
            pipeline.feed(update("kraken_v2", ladder(levels)[-1:], [], (ladder(levels), TOP))) == 0
        )
    gone = [[ladder(1)[0][0], "0.000"]]
    assert pipeline.feed(update("kraken_v2", gone, [], (ladder(11)[1:], TOP))) == Reject.CHECKSUM
    line = pipeline.decoder.instruments["A/B"]
    assert line.live.state == InstrumentState.SUSPECT
    assert pipeline.feed(snapshot_v2(bids=ladder(12), asks=TOP)) == 0
    assert (line.live.state, line.instrument.depth) == (InstrumentState.LIVE, 25)


def test_the_requests_are_the_venue_s(pipeline) -> None:
    """Subscribe, unsubscribe and ping in v2's words."""
    book = Subscription("book", ("A/B",), 25)
    assert [json.loads(f) for f in pipeline.decoder.subscribe_frames(book)] == [
        {
            "method": "subscribe",
            "params": {"channel": "book", "symbol": ["A/B"], "depth": 25, "snapshot": True},
        }
    ]
    assert [json.loads(f) for f in pipeline.decoder.unsubscribe_frames(book)] == [
        {"method": "unsubscribe", "params": {"channel": "book", "symbol": ["A/B"], "depth": 25}}
    ]
    assert json.loads(pipeline.decoder.ping()) == {"method": "ping"}
