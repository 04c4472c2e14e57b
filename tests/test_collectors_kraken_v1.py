"""Kraken v1 in particular: its two-object frames, its trades without ids, its events."""

import json

import pytest
from decoding import Pipeline, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, crc, snapshot_v1, timed, update, v1

from collectors.decoder import Subscription
from layouts import GapReason, InstrumentState, Kind, Mark, StateReason
from shm.outlet import Reject


@pytest.fixture
def pipeline():
    made = Pipeline("kraken_v1")
    yield made
    assert made.accounted() == made.fed
    made.close()


def trade(price="10.00", qty="1.500", at="1700000000.123456", side="b", symbol="A/B") -> list:
    return [7, [[price, qty, at, side, "l", ""]], "trade", symbol]


def test_both_sides_in_objects_of_their_own(pipeline) -> None:
    """One frame, one checksum over the book after both sides; the time is the newest level's."""
    pipeline.feed(snapshot_v1())
    pipeline.drain()
    book = ([["10.00", "7.000"], *BIDS[1:]], [["10.01", "8.000"], *ASKS[1:]])
    frame = [
        1,
        {"a": timed([["10.01", "8.000"]], "1700000001.000001")},
        {"b": timed([["10.00", "7.000"]], "1700000002.000009"), "c": str(crc(*book))},
        "book-10",
        "A/B",
    ]
    assert pipeline.feed(frame) == 0
    events = pipeline.drain()
    assert kinds(events) == ["LEVEL", "LEVEL", "QUOTE"]
    assert set(events["ts_event"]) == {1_700_000_002_000_009_000}


def test_both_sides_in_one_object_and_a_republished_level(pipeline) -> None:
    """The same in one object; the marker of a republished level is taken, any other is not."""
    pipeline.feed(snapshot_v1())
    book = ([["10.00", "7.000"], *BIDS[1:]], [["10.01", "8.000"], *ASKS[1:]])
    ask, bid = timed([["10.01", "8.000"]])[0], timed([["10.00", "7.000"]])[0]
    assert pipeline.feed(v1(a=[[*ask, "r"]], b=[bid], c=str(crc(*book)))) == 0
    assert pipeline.feed(v1(a=[[*ask, "x"]], c=str(crc(*book)))) == Reject.UNEXPECTED_SHAPE


@pytest.mark.parametrize(
    "members",
    [
        {"a": timed([["10.01", "8.000"]])},
        {"c": "123"},
        {"a": timed([["10.01", "8.000"]]), "as": timed(ASKS), "c": "1"},
        {"a": [[]], "c": "1"},
        {"a": [["10.01"]], "c": "1"},
        {"a": ["10.01"], "c": "1"},
        {"a": {"10.01": "1"}, "c": "1"},
        {"a": "10.01", "c": "1"},
        {"a": [["10.01", "1.000", "1.0", "r", "r"]], "c": "1"},
        {"a": [["10.01", "1.000", "never"]], "c": "1"},
        {"a": [["10.01", "one", "1.0"]], "c": "1"},
        {"a": [["10.01", ["1"], "1.0"]], "c": "1"},
        {"a": timed([["10.01", "8.000"]]), "c": "-1"},
        {"a": timed([["10.01", "8.000"]]), "c": "4294967296"},
        {"a": timed([["10.01", "8.000"]]), "c": "x"},
        {"a": timed([["10.01", "8.000"]]), "c": None},
    ],
)
def test_a_book_frame_of_another_shape_costs_its_own_book(pipeline, members) -> None:
    """Refused, the pair is SUSPECT and asked for again: whatever it was, the book has missed it."""
    pipeline.feed(snapshot_v1())
    pipeline.feed(snapshot_v1("C/D"))
    pipeline.drain()
    reasons = (Reject.UNEXPECTED_SHAPE, Reject.NOT_A_NUMBER, Reject.CHECKSUM)
    assert pipeline.feed(v1(**members)) in reasons
    events = pipeline.drain()
    assert kinds(events) == ["GAP", "STATE"]
    assert events[0]["word_3"] in (GapReason.REFUSED_FRAME, GapReason.CHECKSUM)
    assert pipeline.decoder.instruments["A/B"].live.state == InstrumentState.SUSPECT
    assert pipeline.decoder.instruments["C/D"].live.state == InstrumentState.LIVE
    assert len(pipeline.decoder.outbox) == 2


def test_the_lost_frame_of_two_objects_of_one_side(pipeline) -> None:
    """Two objects for asks cannot be put in order: refused."""
    pipeline.feed(snapshot_v1())
    half = {"a": timed([["10.01", "8.000"]])}
    assert pipeline.feed([1, half, {**half, "c": "1"}, "book-10", "A/B"]) == Reject.UNEXPECTED_SHAPE
    assert pipeline.decoder.instruments["A/B"].live.state == InstrumentState.SUSPECT


@pytest.mark.parametrize(
    "name",
    [
        "book-11",
        "book-",
        "book--10",
        "book-010x",
        "level-10",
        "book-\u0661\u0660",
        "book-" + "9" * 5000,
    ],
)
def test_a_channel_that_does_not_exist_is_counted(pipeline, name) -> None:
    """Neither the name nor the depth is ours."""
    assert (
        pipeline.feed(v1(name=name, **{"as": timed(ASKS), "bs": timed(BIDS)}))
        == Reject.UNKNOWN_CHANNEL
    )
    assert len(pipeline.events()) == 0


def test_another_depth_than_the_subscribed_is_not_ours() -> None:
    """A subscription of depth 10 takes no frame of book-25."""
    pipeline = Pipeline("kraken_v1", [Subscription("book", ("A/B",), 10)], accept_any=False)
    assert pipeline.feed(snapshot_v1()) == 0
    deeper = v1(name="book-25", **{"as": timed(ASKS), "bs": timed(BIDS)})
    assert pipeline.feed(deeper) == Reject.UNKNOWN_CHANNEL
    assert pipeline.feed(update("kraken_v1", *BETTER_BID)) == 0
    pipeline.close()


def test_trades_are_exact_and_have_the_taker_s_side(pipeline) -> None:
    """Price and quantity at the digits of the first trade, time to the nanosecond, b bought and s sold; no id."""
    assert pipeline.feed(trade()) == 0
    assert pipeline.feed(trade("10", "1.5", "1700000001.5", "s")) == 0
    trades = pipeline.of(Kind.TRADE)
    assert trades["price"].tolist() == [1000, 1000]
    assert trades["qty"].tolist() == [1500, 1500]
    assert trades["ts_event"].tolist() == [1_700_000_000_123_456_000, 1_700_000_001_500_000_000]
    assert [int(m) & Mark.SIDE_MASK for m in trades["marks"]] == [Mark.BUY, Mark.SELL]
    assert trades["trade_id"].tolist() == [0, 0]
    assert (trades["marks"] & Mark.LAST_IN_FRAME > 0).all()


def test_a_trade_frame_is_published_whole_or_not_at_all(pipeline) -> None:
    """One bad trade of three: none is published, a GAP of the instrument says that a frame was lost."""
    pipeline.feed(trade())
    pipeline.drain()
    rows = [trade()[1][0], trade(price="x")[1][0], trade()[1][0]]
    assert pipeline.feed([7, rows, "trade", "A/B"]) == Reject.NOT_A_NUMBER
    events = pipeline.drain()
    assert kinds(events) == ["GAP"]
    assert events[0]["instrument_id"] == 1
    good = [7, [trade()[1][0]] * 3, "trade", "A/B"]
    assert pipeline.feed(good) == 0
    events = pipeline.drain()
    assert [bool(m & Mark.LAST_IN_FRAME) for m in events["marks"]] == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"side": "x"}, Reject.UNEXPECTED_SHAPE),
        ({"price": "0"}, Reject.OUT_OF_RANGE),
        ({"qty": "-1"}, Reject.OUT_OF_RANGE),
        ({"qty": "0.000"}, Reject.OUT_OF_RANGE),
        ({"at": "soon"}, Reject.NOT_A_NUMBER),
        ({"at": "0"}, Reject.NOT_A_NUMBER),
        ({"price": "1e30"}, Reject.TOO_MANY_DIGITS),
        ({"price": ["1"]}, Reject.UNEXPECTED_SHAPE),
    ],
)
def test_a_trade_that_makes_no_sense_is_refused(pipeline, changes, reason) -> None:
    """Each with its reason, and no record but the GAP."""
    pipeline.feed(trade())
    pipeline.drain()
    assert pipeline.feed(trade(**changes)) == reason
    assert kinds(pipeline.drain()) == ["GAP"]


def test_a_wider_trade_opens_a_version_where_no_book_is_kept(pipeline) -> None:
    """Without a book the integers of no level are at stake, so nothing is lost."""
    pipeline.feed(trade())
    assert pipeline.feed(trade("10.0005")) == 0
    versions = pipeline.instruments()
    assert versions["price_scale"].tolist() == [2, 4]
    assert pipeline.of(Kind.TRADE)["price"].tolist() == [1000, 100_005]
    assert pipeline.feed(trade("1e30")) == Reject.TOO_MANY_DIGITS
    assert len(pipeline.instruments()) == 0


def test_a_wider_trade_makes_a_book_suspect_and_fits_after_its_snapshot(pipeline) -> None:
    """The version of the next snapshot holds the trade's digits: the same refusal cannot come for ever."""
    pipeline.feed(snapshot_v1())
    assert pipeline.feed(trade("10.0005")) == Reject.TOO_MANY_DIGITS
    assert pipeline.decoder.instruments["A/B"].live.state == InstrumentState.SUSPECT
    assert pipeline.feed(snapshot_v1()) == 0
    assert pipeline.feed(trade("10.0005")) == 0
    assert pipeline.feed(update("kraken_v1", *BETTER_BID)) == 0


def test_events_are_decoded_and_publish_nothing(pipeline) -> None:
    """Heartbeat, pong, status, acknowledgements, and the channels that are not collected."""
    for frame in (
        {"event": "heartbeat"},
        {"event": "pong", "reqid": 1},
        {"event": "systemStatus", "status": "online", "version": "1.8.3", "connectionID": 1},
        {
            "event": "subscriptionStatus",
            "status": "subscribed",
            "pair": "A/B",
            "channelName": "trade",
        },
        [340, {"a": ["1", 2, "3"], "c": ["1", "2"]}, "ticker", "A/B"],
        [42, ["1", "2", "3", "4", "5", "6", "7", "8", 9], "ohlc-5", "A/B"],
        [0, ["5698.4", "5700.0", "1542057299.545897", "1.01", "0.98"], "spread", "A/B"],
        [[{"T1": {"cost": "1"}}], "ownTrades", {"sequence": 1}],
    ):
        assert pipeline.feed(frame) == 0, frame
    assert pipeline.counts == {"frames_decoded": 8}
    assert pipeline.feed({"event": "addOrderStatus"}) == Reject.UNKNOWN_CHANNEL


def test_what_the_venue_refuses_or_announces_is_noticed(pipeline) -> None:
    """A refused subscription is a state with its reason and a notice; so is a system that is not online. A book that is
    whole goes on: what was refused is another channel of its pair, or a second subscription.
    """
    pipeline.feed(snapshot_v1())
    refusal = {
        "event": "subscriptionStatus",
        "status": "error",
        "pair": "A/B",
        "errorMessage": "Currency pair not supported A/B",
        "subscription": {"name": "book", "depth": 10},
    }
    assert pipeline.feed(refusal) == 0
    line = pipeline.decoder.instruments["A/B"]
    assert line.live.is_valid
    pipeline.decoder.on_close(pipeline.ts)
    assert pipeline.feed(refusal) == 0
    assert pipeline.of(Kind.STATE)[-1]["reason"] == StateReason.VENUE_REFUSED
    assert pipeline.feed({"event": "systemStatus", "status": "maintenance"}) == 0
    assert pipeline.feed({"event": "error", "errorMessage": "Exceeded msg rate"}) == 0
    notices = pipeline.decoder.notices
    assert len(notices) == 4
    assert "Currency pair not supported" in notices[0]


def test_the_requests_are_the_venue_s(pipeline) -> None:
    """Subscribe, unsubscribe and ping in v1's words."""
    wanted = Subscription("book", ("A/B", "C/D"), 100)
    assert [json.loads(f) for f in pipeline.decoder.subscribe_frames(wanted)] == [
        {
            "event": "subscribe",
            "pair": ["A/B", "C/D"],
            "subscription": {"name": "book", "depth": 100},
        }
    ]
    assert [
        json.loads(f) for f in pipeline.decoder.unsubscribe_frames(Subscription("trade", ("A/B",)))
    ] == [{"event": "unsubscribe", "pair": ["A/B"], "subscription": {"name": "trade"}}]
    assert json.loads(pipeline.decoder.ping()) == {"event": "ping"}
