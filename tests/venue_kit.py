"""What tests must know of each venue apart from its decoder: which frames change whose book, and how a snapshot looks."""

import json
import random
import re
from decimal import Decimal
from functools import cache
from pathlib import Path

from decoding import Pipeline, frames_of

from collectors.captures import merge, open_captures
from shm.book import ASK, BID
from shm.feed import crc_okx

FILES = {
    "binance_spot": ["binance_spot_4pairs"],
    "binance_usdm": ["binance_usdm_pairs"],
    "bitstamp": ["bitstamp_rest_pairs", "bitstamp_rest_books", "bitstamp_diffbook_trades"],
    "bybit": ["bybit_v5_linear_spot_book200"],
    "coinbase_advanced": ["coinbase_advanced_btc_eth_350"],
    "coinbase_exchange": ["coinbase_exchange_10pairs"],
    "deribit": ["deribit_10options"],
    "kraken_futures": ["kraken_futures_10products"],
    "okx": ["okx_v5_books_3instruments"],
}
KRAKEN_FILES = {
    "kraken_v1": ["kraken_v1_book_10pairs", "kraken_v1_trade_10pairs"],
    "kraken_v2": ["kraken_v2_ethusd", "kraken_v2_btcusd_resubscribes"],
}
TRADES = {
    "binance_spot": "binance_spot_btcusdt_day1.jsonl.gz",
    "binance_usdm": "binance_usdm_btcusdt.jsonl.gz",
}
VENUES = sorted(FILES)
ALL_VENUES = sorted([*FILES, *KRAKEN_FILES])
REST_VENUES = {"binance_spot", "binance_usdm", "bitstamp"}
NUMBERED = set(VENUES) - {"bitstamp", "coinbase_exchange"}
"""Venues whose lost frames can be seen: the others number nothing in their books."""
KEPT_ROWS = 100
WHOLE = 100_000
TRADE_V2 = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"ETH/USD","side":"sell","price":1877.61,'
    b'"qty":0.23374249,"ord_type":"limit","trade_id":4665906,"timestamp":"2026-08-02T04:23:43.217117Z"}]}'
)
INSTRUMENT_V2 = (
    b'{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":"ETH/USD","base":"ETH",'
    b'"quote":"USD","price_increment":0.01,"qty_increment":0.00000001,"status":"online"}]}}'
)
"""What the recordings of Kraken v2 lack."""
SEQUENCE = re.compile(rb'"sequence_num": ?\d+')
TIME = "2026-08-09T21:05:48.170326Z"
Message = tuple[str, str, bytes]
"""Kind ("recv" or "rest"), url, text."""


def entries(folder: Path, names: list[str]) -> list[Message]:
    """Return the received frames and REST answers of recordings, in order."""
    paths = [folder / f"{name}.jsonl.gz" for name in names]
    merged = merge(open_captures(paths))
    return [(f.kind, f.url, f.data) for f in merged if f.kind in ("recv", "rest")]


@cache
def corpus(folder: Path, venue: str) -> tuple[Message, ...]:
    """Return a venue's recording as the fault tests take it: huge snapshots cut short, OKX with sequence ids, Kraken v2
    with trades.
    """
    found = entries(folder, (FILES | KRAKEN_FILES)[venue])
    if venue == "kraken_v2":
        for i in range(400):
            trade = TRADE_V2.replace(b"4665906", b"%d" % (4665906 + i))
            found.insert(50 + 3 * i, ("recv", "", trade))
        found.insert(50, ("recv", "", INSTRUMENT_V2))
    if venue == "coinbase_advanced":
        found = [(kind, url, _cut(data)) for kind, url, data in found]
    if venue in REST_VENUES or venue == "coinbase_exchange":
        found = [(kind, url, _cut_book(data)) for kind, url, data in found]
    if venue == "okx":
        found = _number(found)
    return tuple(found)


@cache
def messages_of(folder: Path, venue: str) -> tuple[Message, ...]:
    """Return a venue's recording, Binance's with trades of another one among its frames: it holds none."""
    messages = list(corpus(folder, venue))
    if venue not in TRADES:
        return tuple(messages)
    more = frames_of(folder / TRADES[venue])[:8_000]
    trades = [data for data in more if b'"e":"trade"' in data][:1_000]
    step = len(messages) // len(trades) + 1
    for i, data in enumerate(trades):
        messages.insert(i * (step + 1), ("recv", "", data))
    return tuple(messages)


def feed(pipeline: Pipeline, message: Message) -> int:
    """Hand one message to a pipeline's decoder; a REST answer has status 0."""
    kind, url, data = message
    if kind == "recv":
        return pipeline.feed(data)
    pipeline.ts += 1_000_000
    pipeline.decoder.rest_response(url, data, pipeline.ts)
    return 0


@cache
def update_of(venue: str, message: Message) -> str | None:
    """Return the symbol whose book a frame updates; None for all other frames."""
    if message[0] != "recv":
        return None
    frame = json.loads(message[2])
    if venue == "kraken_v1":
        is_book = isinstance(frame, list) and frame[-2].startswith("book")
        return frame[-1] if is_book and "as" not in frame[1] else None
    if venue == "kraken_v2":
        is_update = frame.get("channel") == "book" and frame["type"] == "update"
        return frame["data"][0]["symbol"] if is_update else None
    if venue.startswith("binance"):
        data = frame["data"]
        return data["s"] if data.get("e") == "depthUpdate" else None
    if venue == "bitstamp":
        name = frame["channel"].removeprefix("diff_order_book_")
        return name if frame["event"] == "data" and name != frame["channel"] else None
    if venue == "bybit":
        return (
            frame["data"]["s"]
            if _is(frame, "topic", "orderbook") and frame["type"] == "delta"
            else None
        )
    if venue == "coinbase_advanced":
        is_update = frame["channel"] == "l2_data" and frame["events"][0]["type"] == "update"
        return frame["events"][0]["product_id"] if is_update else None
    if venue == "coinbase_exchange":
        return frame["product_id"] if frame["type"] == "l2update" else None
    if venue == "deribit":
        data = frame.get("params", {}).get("data", {})
        return data["instrument_name"] if data.get("type") == "change" else None
    if venue == "kraken_futures":
        return frame.get("product_id") if frame.get("feed") == "book" else None
    return frame["arg"]["instId"] if frame.get("action") == "update" else None


def snapshot_of(venue: str, line, sequence: int = 0, levels: int = WHOLE) -> Message:
    """Return what the venue would answer now for the book of a healthy decoder's line, or for its best levels."""
    bids, asks = (rows_of(line, side, levels) for side in (BID, ASK))
    if venue in KRAKEN_FILES:
        return _kraken_snapshot(venue, line, bids, asks)
    symbol, seq = line.instrument.symbol, line.seq
    if venue.startswith("binance"):
        url = f"https://api/depth?symbol={symbol}&limit=5000"
        return "rest", url, _json({"lastUpdateId": seq, "bids": bids, "asks": asks})
    if venue == "bitstamp":
        body = {"microtimestamp": str(seq), "bids": bids, "asks": asks}
        return "rest", f"https://www.bitstamp.net/api/v2/order_book/{symbol}/", _json(body)
    frame: dict
    if venue == "bybit":
        data = {"s": symbol, "b": bids, "a": asks, "u": seq, "seq": 1}
        frame = {"topic": line.book_channel + "." + symbol, "type": "snapshot", "ts": 1786310818129}
        frame["data"] = data
    elif venue == "coinbase_advanced":
        updates = [
            {"side": name, "event_time": TIME, "price_level": p, "new_quantity": q}
            for name, rows in (("bid", bids), ("offer", asks))
            for p, q in rows
        ]
        event = {"type": "snapshot", "product_id": symbol, "updates": updates}
        frame = {
            "channel": "l2_data",
            "timestamp": TIME,
            "sequence_num": sequence,
            "events": [event],
        }
    elif venue == "coinbase_exchange":
        frame = {"type": "snapshot", "product_id": symbol, "bids": bids, "asks": asks}
    elif venue == "deribit":
        data = {"type": "snapshot", "timestamp": 1626993723632, "instrument_name": symbol}
        data["change_id"] = seq
        for name, rows in (("bids", bids), ("asks", asks)):
            data[name] = [["new", float(p), float(q)] for p, q in rows]
        frame = {"jsonrpc": "2.0", "method": "subscription"}
        frame["params"] = {"channel": line.book_channel, "data": data}
    elif venue == "kraken_futures":
        frame = {
            "feed": "book_snapshot",
            "product_id": symbol,
            "timestamp": 1618678100126,
            "seq": seq,
        }
        for name, rows in (("bids", bids), ("asks", asks)):
            frame[name] = [{"price": float(p), "qty": float(q)} for p, q in rows]
    else:
        data = {
            "ts": "1652459227342",
            "checksum": crc_okx(line.live),
            "prevSeqId": -1,
            "seqId": seq,
        }
        for name, rows in (("bids", bids), ("asks", asks)):
            data[name] = [[_trim(p), _trim(q), "0", "1"] for p, q in rows]
        frame = {
            "arg": {"channel": "books", "instId": symbol},
            "action": "snapshot",
            "data": [data],
        }
    return "recv", "", _json(frame)


def is_ordered(venue: str, before: Message, after: Message) -> bool:
    """Tell whether the frames themselves say which comes first; without numbers, equal times do not."""
    if venue != "coinbase_exchange":
        return True
    return json.loads(before[2])["time"] < json.loads(after[2])["time"]


def renumber(message: Message, number: int) -> Message:
    """Give a Coinbase frame another place in the connection's sequence."""
    return message[0], message[1], SEQUENCE.sub(b'"sequence_num":%d' % number, message[2])


def rows_of(line, side: int, levels: int = WHOLE) -> list[list[str]]:
    """Return the levels of one side as texts at the instrument's scale."""
    scales = line.live.scales
    return [
        [text_of(value, scale) for value, scale in zip(level, scales, strict=True)]
        for level in line.live.depth(side, levels)
    ]


def text_of(value: int, scale: int) -> str:
    digits = f"{value:0{scale + 1}}"
    return f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits


def books_are_equal(one, other) -> bool:
    """Tell whether two lines hold the same levels, whatever their scales."""
    if one.live.scales == other.live.scales:
        return all(one.live.depth(s, 100_000) == other.live.depth(s, 100_000) for s in (BID, ASK))
    return all(_numbers(one, side) == _numbers(other, side) for side in (BID, ASK))


def _numbers(line, side: int) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(p), Decimal(q)) for p, q in rows_of(line, side)]


def _kraken_snapshot(venue: str, line, bids: list[list[str]], asks: list[list[str]]) -> Message:
    symbol, depth = line.instrument.symbol, line.instrument.depth
    if venue == "kraken_v1":
        body = {"as": [[*row, "1618678133.000000"] for row in asks]}
        body["bs"] = [[*row, "1618678133.000000"] for row in bids]
        return "recv", "", _json([1, body, f"book-{depth}", symbol])
    sides = [
        ",".join(f'{{"price":{p},"qty":{q}}}' for p, q in rows[:depth]) for rows in (bids, asks)
    ]
    text = (
        f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{sides[0]}],"asks":[{sides[1]}],'
        f'"checksum":{line.live.crc_kraken},"timestamp":"2026-08-01T00:00:00Z"}}]}}'
    )
    return "recv", "", text.encode()


def pipeline_of(venue: str, slots: int = 1 << 14) -> Pipeline:
    return Pipeline(venue, slots=slots)


def chooser(seed: int) -> random.Random:
    return random.Random(seed)


def _is(frame: dict, member: str, prefix: str) -> bool:
    return str(frame.get(member, "")).startswith(prefix)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _cut(data: bytes) -> bytes:
    """Keep the best rows of a Coinbase snapshot."""
    frame = json.loads(data) if data.startswith(b'{"channel":"l2_data"') else {"events": []}
    for event in frame["events"]:
        if event["type"] == "snapshot":
            sides = ("bid", "offer")
            event["updates"] = [
                row
                for side in sides
                for row in [r for r in event["updates"] if r["side"] == side][:KEPT_ROWS]
            ]
            data = _json(frame)
    return data


def _cut_book(data: bytes) -> bytes:
    """Keep the best rows of a whole book."""
    body = json.loads(data) if b'"bids"' in data[:200] or b'"asks"' in data[:200] else None
    if isinstance(body, dict) and "bids" in body:
        body["bids"], body["asks"] = body["bids"][:KEPT_ROWS], body["asks"][:KEPT_ROWS]
        return _json(body)
    return data


def _number(messages: list[Message]) -> list[Message]:
    """Chain OKX's recorded frames by sequence ids, as later feeds do."""
    last: dict[str, int] = {}
    numbered = []
    for kind, url, data in messages:
        frame = json.loads(data)
        if "action" in frame:
            symbol = frame["arg"]["instId"]
            entry = frame["data"][0]
            entry["prevSeqId"] = last.get(symbol, -1)
            entry["seqId"] = last[symbol] = last.get(symbol, 1000) + 7
            data = _json(frame)
        numbered.append((kind, url, data))
    return numbered
