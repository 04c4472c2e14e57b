"""Kraken's second WebSocket protocol from the venue's side, as its frames and answers read.

**Protocol** (Kraken's public documentation of WebSocket v2, and recorded sessions) A connection is
greeted with `status`. ``{"method": "subscribe", "params": {"channel", "symbol": [...], "depth",
"snapshot"}}`` is acknowledged once a symbol with `success`, `result`, `time_in` and `time_out`, or
with `error` and the symbol; snapshots follow the acknowledgements. One depth a symbol and
connection: a second one is "Already subscribed". A `heartbeat` comes every second once anything is
subscribed, also while data flows (99 in the 99 s recorded). Numbers are JSON numbers whose digits
matter: they are kept as text here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collectors.venue_book import Change, Level, VenueBook
from collectors.venue_dialect import (
    BOOK_DEPTHS,
    DEFAULT_BOOK_DEPTH,
    DEPTH_REFUSED,
    MALFORMED,
    NOT_SUBSCRIBED,
    Control,
    Desk,
    Listing,
    Meaning,
    Reply,
    Stream,
    rfc3339,
)

CHANNELS = ("book", "trade", "ticker", "ohlc", "instrument")
_SESSION_CHANNELS = frozenset({"status", "heartbeat"})


class _Ack(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int = 0


class _Frame(msgspec.Struct, gc=False):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")
    method: str = ""
    result: _Ack | None = None


class _Level(msgspec.Struct, gc=False):
    price: msgspec.Raw
    qty: msgspec.Raw


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[_Level] = []
    asks: list[_Level] = []
    timestamp: str = ""


class _Symbol(msgspec.Struct, gc=False):
    symbol: str


class _Params(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: list[str] = []
    depth: int = DEFAULT_BOOK_DEPTH
    snapshot: bool | None = None


class _Request(msgspec.Struct, gc=False):
    method: str
    params: _Params = msgspec.field(default_factory=_Params)
    req_id: int | None = None


class KrakenV2:
    """The second protocol; one instance serves all connections."""

    name = "kraken_v2"

    def __init__(self) -> None:
        self._frame = msgspec.json.Decoder(_Frame).decode
        self._books = msgspec.json.Decoder(list[_Book]).decode
        self._symbols = msgspec.json.Decoder(list[_Symbol]).decode
        self._raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._request = msgspec.json.Decoder(_Request).decode

    def read(self, data: bytes) -> Meaning | Control:
        """Tell what a recorded frame means; ValueError when it is none of this protocol."""
        frame = self._frame(data)
        if frame.method:
            ack = frame.result
            if ack is not None and frame.method == "subscribe" and ack.channel == "book":
                return Control(Stream("book", ack.symbol, ack.depth or DEFAULT_BOOK_DEPTH))
            return Control()
        if frame.channel in _SESSION_CHANNELS:
            return Control()
        if frame.channel == "instrument":
            return Control(instruments=data if frame.type == "snapshot" else b"")
        if not frame.channel:
            raise ValueError("neither a channel nor a method")
        is_snapshot = frame.type == "snapshot"
        if frame.channel == "book":
            (book,) = self._books(frame.data)
            changes = [Change(True, _text(level)) for level in book.bids]
            changes += [Change(False, _text(level)) for level in book.asks]
            return Meaning("book", book.symbol, 0, is_snapshot, changes, stamp=book.timestamp)
        symbols = {item.symbol for item in self._symbols(frame.data)}
        if not symbols and is_snapshot:
            return Control()  # nothing was traded yet, and nobody is told of which symbol
        if len(symbols) != 1:
            raise ValueError(f"a {frame.channel} frame of {len(symbols)} symbols, not of one")
        trades = (
            [bytes(text) for text in self._raws(frame.data)] if frame.channel == "trade" else ()
        )
        return Meaning(frame.channel, symbols.pop(), 0, is_snapshot, trades=trades)

    def greeting(self, connection_no: int) -> bytes:
        """Make the first frame of a connection."""
        return (
            b'{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online",'
            b'"api_version":"v2","connection_id":%d}]}' % connection_no
        )

    def heartbeat(self) -> bytes:
        """Make the frame that says the link lives."""
        return b'{"channel":"heartbeat"}'

    def answer(self, desk: Desk, data: bytes, now_ns: int) -> Reply:
        """Obey one request of a client, or refuse it in the venue's words."""
        times = {"time_in": rfc3339(now_ns), "time_out": rfc3339(now_ns)}
        try:
            request = self._request(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Reply([_json({"error": MALFORMED, "success": False, **times})], 1)
        tail: dict[str, Any] = {} if request.req_id is None else {"req_id": request.req_id}
        if request.method == "ping":
            return Reply([_json({"method": "pong", **tail, **times})])
        params = request.params
        head = {"method": request.method, **tail}
        if request.method not in ("subscribe", "unsubscribe"):
            return Reply(
                [_json({"error": "Unsupported method", **head, "success": False, **times})], 1
            )
        if params.channel not in CHANNELS:
            refusal = {"error": "Unsupported channel", **head, "success": False, **times}
            return Reply([_json(refusal)], 1)
        if params.channel != "instrument" and not params.symbol:
            refusal = {"error": "Symbol(s) not found", **head, "success": False, **times}
            return Reply([_json(refusal)], 1)
        acks: list[bytes] = []
        openings: list[bytes] = []
        refused = 0
        for symbol in params.symbol or [""]:
            error, result, opening = self._one(desk, request, symbol)
            if error:
                refused += 1
                refusal = {"error": error, **head, "success": False}
                acks.append(_json({**refusal, "symbol": symbol, **times}))
            else:
                acks.append(_json({**head, "result": result, "success": True, **times}))
                openings += opening
        return Reply(acks + openings, refused)

    def _one(
        self, desk: Desk, request: _Request, symbol: str
    ) -> tuple[str, dict[str, Any], list[bytes]]:
        """Obey a request for one symbol: the refusal or "", the result, the frames that follow."""
        params = request.params
        is_book = params.channel == "book"
        # The venue sends a snapshot unless told not to, but for trades only when asked.
        wants = params.snapshot if params.snapshot is not None else params.channel != "trade"
        result: dict[str, Any] = {"channel": params.channel}
        if request.method == "unsubscribe":
            stream = desk.unsubscribe(params.channel, symbol, 0)
            if stream is None:
                return NOT_SUBSCRIBED, result, []
            if is_book:
                result["depth"] = stream.depth
            if symbol:
                result["symbol"] = symbol
            return "", result, []
        if is_book and params.depth not in BOOK_DEPTHS:
            return DEPTH_REFUSED, result, []
        stream = Stream(params.channel, symbol, params.depth if is_book else 0)
        error = desk.subscribe(stream)
        if error:
            return error, result, []
        if is_book:
            result["depth"] = params.depth
        result["snapshot"] = wants
        if symbol:
            result["symbol"] = symbol
        if not wants:
            return "", result, []
        return "", result, desk.opening(stream, wants_trades=params.channel == "trade")

    def book_snapshot(self, stream: Stream, book: VenueBook, channel_id: int) -> bytes:
        """Make a snapshot of the venue's own book, digits as they were sent."""
        del channel_id
        stamp = f',"timestamp":"{book.stamp}"' if book.stamp else ""
        return (
            f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{stream.symbol}",'
            f'"bids":[{_levels(book.bids)}],"asks":[{_levels(book.asks)}],'
            f'"checksum":{book.checksum()}{stamp}}}]}}'
        ).encode()

    def trade_snapshot(self, trades: Sequence[bytes]) -> bytes:
        """Make a snapshot of the last prints, oldest first."""
        return b'{"channel":"trade","type":"snapshot","data":[' + b",".join(trades) + b"]}"

    def instruments(self, listings: Sequence[Listing]) -> bytes:
        """Make the `instrument` snapshot; costs and margins are nobody's concern here."""
        assets: dict[str, str] = {}
        pairs = []
        for listing in listings:
            base, _, quote = listing.symbol.partition("/")
            for asset, digits in ((base, listing.lot_digits), (quote, listing.tick_digits)):
                assets.setdefault(
                    asset,
                    f'{{"id":"{asset}","status":"enabled","precision":{max(digits, 4)},'
                    f'"precision_display":{max(min(digits, 5), 2)},"borrowable":false}}',
                )
            pairs.append(
                f'{{"symbol":"{listing.symbol}","base":"{base}","quote":"{quote}",'
                f'"status":"online","qty_precision":{listing.lot_digits},'
                f'"qty_increment":{_increment(listing.lot_digits)},'
                f'"price_precision":{listing.tick_digits},'
                f'"price_increment":{_increment(listing.tick_digits)},'
                f'"tick_size":{_increment(listing.tick_digits)},'
                f'"cost_precision":{listing.tick_digits},"cost_min":0.5,'
                f'"marginable":false,"has_index":false,"qty_min":{listing.qty_min}}}'
            )
        return (
            f'{{"channel":"instrument","type":"snapshot","data":{{"assets":['
            f'{",".join(assets.values())}],"pairs":[{",".join(pairs)}]}}}}'
        ).encode()


def _text(level: _Level) -> Level:
    return Level(bytes(level.price).decode(), bytes(level.qty).decode())


def _levels(levels: Sequence[Level]) -> str:
    return ",".join(f'{{"price":{level.price},"qty":{level.qty}}}' for level in levels)


def _increment(digits: int) -> str:
    return f"0.{'0' * (digits - 1)}1" if digits else "1"


def _json(message: dict[str, Any]) -> bytes:
    return msgspec.json.encode(message)
