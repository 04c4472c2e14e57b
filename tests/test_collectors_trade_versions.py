"""A frame of several trades, one with more decimals than the instrument had: all leave at one scale, or none does."""

import json

import pytest
from decoding import Pipeline

from layouts import Kind, StateReason


def kraken_v1(*trades: tuple[int, str]) -> str:
    rows = [[price, "1.0", "1534614057.3", "s", "l", ""] for _, price in trades]
    return json.dumps([1, rows, "trade", "A/B"])


def kraken_v2(*trades: tuple[int, str]) -> str:
    row = (
        '{"symbol":"A/B","side":"buy","price":%s,"qty":1.5,"ord_type":"limit","trade_id":%d,'
        '"timestamp":"2026-08-02T04:23:43.2Z"}'
    )
    rows = ",".join(row % (price, number) for number, price in trades)
    return f'{{"channel":"trade","type":"update","data":[{rows}]}}'


def okx(*trades: tuple[int, str]) -> str:
    rows = [
        {
            "instId": "A-B",
            "tradeId": f"{number}",
            "px": price,
            "sz": "1",
            "side": "buy",
            "ts": "1652459199958",
        }
        for number, price in trades
    ]
    return json.dumps({"arg": {"channel": "trades", "instId": "A-B"}, "data": rows})


def bybit(*trades: tuple[int, str]) -> str:
    rows = [
        {"T": 1786310819680, "s": "AB", "S": "Buy", "v": "1", "p": price, "i": f"{number}"}
        for number, price in trades
    ]
    return json.dumps({"topic": "publicTrade.AB", "type": "snapshot", "ts": 1, "data": rows})


def coinbase_advanced(*trades: tuple[int, str]) -> str:
    rows = [
        {
            "trade_id": f"{number}",
            "product_id": "A-B",
            "price": price,
            "size": "1",
            "side": "BUY",
            "time": "2026-08-02T04:23:43Z",
        }
        for number, price in reversed(trades)
    ]
    events = [{"type": "update", "trades": rows}]
    return json.dumps(
        {"channel": "market_trades", "sequence_num": trades[0][0] - 1, "events": events}
    )


VENUES = {each.__name__: each for each in (kraken_v1, kraken_v2, okx, bybit, coinbase_advanced)}


@pytest.fixture(params=VENUES)
def running(request):
    pipeline = Pipeline(request.param)
    yield pipeline, VENUES[request.param]
    pipeline.close()


def test_trades_before_a_wider_one_are_published_at_its_scale(running) -> None:
    """A record tells the version first; then every trade of the frame has two decimals, the earlier one too."""
    pipeline, frame = running
    assert pipeline.feed(frame((1, "100.5"))) == 0
    pipeline.drain()
    assert pipeline.feed(frame((2, "100.5"), (3, "100.25"))) == 0
    events = pipeline.drain()
    states = events[events["kind"] == Kind.STATE]
    assert [int(state["word_1"]) for state in states] == [StateReason.NEW_VERSION]
    assert [int(state["word_2"]) for state in states] == [2]
    assert int(events[0]["kind"]) == Kind.STATE
    trades = events[events["kind"] == Kind.TRADE]
    assert [int(trade["word_0"]) for trade in trades] == [10050, 10025]


def test_a_frame_whose_last_trade_is_refused_publishes_none(running) -> None:
    """Also where a trade before it has opened a wider version: the next frame comes at that scale."""
    pipeline, frame = running
    assert pipeline.feed(frame((1, "100.5"))) == 0
    pipeline.drain()
    assert pipeline.feed(frame((2, "100.5"), (3, "100.25"), (4, "-1.0"))) != 0
    assert not (pipeline.drain()["kind"] == Kind.TRADE).any()
    assert pipeline.feed(frame((3, "100.5"))) == 0
    trades = pipeline.drain()
    assert [int(t["word_0"]) for t in trades[trades["kind"] == Kind.TRADE]] == [10050]


@pytest.mark.parametrize("running", [v for v in VENUES if v != "kraken_v1"], indirect=True)
def test_a_repeat_in_a_frame_that_is_staged_again_is_counted_once(running) -> None:
    """Staged again, a frame's repeats are those of the frame."""
    pipeline, frame = running
    pipeline.feed(frame((1, "100.5"), (2, "100.5")))
    before = pipeline.outlet.counts()["trades_duplicate"]
    pipeline.feed(frame((2, "100.5"), (3, "100.25")))
    assert pipeline.outlet.counts()["trades_duplicate"] - before == 1
