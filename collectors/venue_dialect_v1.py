"""Kraken's first WebSocket protocol from the venue's side, as its frames and answers read.

**Protocol** (Kraken's public documentation of WebSocket v1, and recorded sessions) A connection is
greeted with `systemStatus`. ``{"event": "subscribe", "pair": [...], "subscription": {"name",
"depth"}}`` is acknowledged once a pair with `subscriptionStatus`; data frames are arrays
``[channelID, payload, (payload,) "book-1000", "XBT/USD"]`` whose numbers are strings. A book's
snapshot has `as` and `bs`, its updates `a` and `b` (one frame may carry both), and the checksum `c`
in updates only. Trades have no snapshot (none in the recorded sessions). A heartbeat comes every
second, also while data flows (31 in the 31 s recorded).
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
)

CHANNELS = ("book", "trade", "ticker", "spread", "ohlc")


class _Payload(msgspec.Struct, gc=False):
    bids_whole: list[tuple[str, ...]] = msgspec.field(default_factory=list, name="bs")
    asks_whole: list[tuple[str, ...]] = msgspec.field(default_factory=list, name="as")
    bids: list[tuple[str, ...]] = msgspec.field(default_factory=list, name="b")
    asks: list[tuple[str, ...]] = msgspec.field(default_factory=list, name="a")
    checksum: str = msgspec.field(default="", name="c")


class _Subscription(msgspec.Struct, gc=False):
    name: str = ""
    depth: int = DEFAULT_BOOK_DEPTH


class _Request(msgspec.Struct, gc=False):
    event: str
    pair: list[str] = []
    subscription: _Subscription = msgspec.field(default_factory=_Subscription)
    reqid: int | None = None


class KrakenV1:
    """The first protocol; one instance serves all connections."""

    name = "kraken_v1"

    def __init__(self) -> None:
        self._request = msgspec.json.Decoder(_Request).decode

    def read(self, data: bytes) -> Meaning | Control:
        """Tell what a recorded frame means; ValueError when it is none of this protocol."""
        frame = msgspec.json.decode(data)
        if isinstance(frame, dict) and "event" in frame:
            return Control()
        if not isinstance(frame, list) or len(frame) < 4:
            raise ValueError("neither an event nor a channel's array")
        try:
            channel_id = msgspec.convert(frame[0], int)
            name, symbol = msgspec.convert(frame[-2:], tuple[str, str])
            channel, _, depth = name.partition("-")
            if channel != "book":
                return Meaning(channel, symbol, 0, is_snapshot=False, channel_id=channel_id)
            payloads = msgspec.convert(frame[1:-2], list[_Payload])
        except msgspec.ValidationError as error:
            raise ValueError(f"an array that is no channel's frame: {error}") from None
        changes: list[Change] = []
        for payload in payloads:
            for rows, is_bid in (
                (payload.bids_whole, True),
                (payload.asks_whole, False),
                (payload.bids, True),
                (payload.asks, False),
            ):
                changes += [Change(is_bid, Level(*row[:3])) for row in rows]
        # Updates carry a checksum in their last part, snapshots none in either.
        is_snapshot = not payloads[-1].checksum
        return Meaning(channel, symbol, int(depth), is_snapshot, changes, channel_id=channel_id)

    def greeting(self, connection_no: int) -> bytes:
        """Make the first frame of a connection."""
        return (
            b'{"connectionID":%d,"event":"systemStatus","status":"online","version":"1.9.6"}'
            % connection_no
        )

    def heartbeat(self) -> bytes:
        """Make the frame that says the link lives."""
        return b'{"event":"heartbeat"}'

    def answer(self, desk: Desk, data: bytes, now_ns: int) -> Reply:
        """Obey one request of a client, or refuse it in the venue's words."""
        del now_ns
        try:
            request = self._request(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Reply([_json({"errorMessage": MALFORMED, "event": "error"})], 1)
        tail: dict[str, Any] = {} if request.reqid is None else {"reqid": request.reqid}
        if request.event == "ping":
            return Reply([_json({"event": "pong", **tail})])
        if request.event not in ("subscribe", "unsubscribe"):
            return Reply([_json({"errorMessage": MALFORMED, "event": "error", **tail})], 1)
        asked = request.subscription
        shown: dict[str, Any] = {"name": asked.name}
        if asked.name == "book":
            shown = {"depth": asked.depth, "name": asked.name}
        error = ""
        if asked.name not in CHANNELS:
            error = "Subscription name invalid"
        elif not request.pair:
            error = "Pair(s) not found"
        if error:
            return Reply([_status("error", tail, "", shown, errorMessage=error)], 1)
        acks: list[bytes] = []
        openings: list[bytes] = []
        refused = 0
        for symbol in request.pair:
            error, opening = self._one(desk, request, symbol)
            if error:
                refused += 1
                acks.append(_status("error", tail, symbol, shown, errorMessage=error))
                continue
            stream = _stream(asked, symbol)
            name = f"book-{asked.depth}" if asked.name == "book" else asked.name
            number = desk.channel_id(stream)
            said = f"{request.event}d"
            acks.append(_status(said, tail, symbol, shown, channelID=number, channelName=name))
            openings += opening
        return Reply(acks + openings, refused)

    def _one(self, desk: Desk, request: _Request, symbol: str) -> tuple[str, list[bytes]]:
        """Obey a request for one pair: the refusal or "", and the frames that follow."""
        asked = request.subscription
        if request.event == "unsubscribe":
            depth = asked.depth if asked.name == "book" else 0
            found = desk.unsubscribe(asked.name, symbol, depth)
            return (NOT_SUBSCRIBED if found is None else ""), []
        if asked.name == "book" and asked.depth not in BOOK_DEPTHS:
            return DEPTH_REFUSED, []
        stream = _stream(asked, symbol)
        error = desk.subscribe(stream)
        return error, ([] if error else desk.opening(stream, wants_trades=False))

    def book_snapshot(self, stream: Stream, book: VenueBook, channel_id: int) -> bytes:
        """Make a snapshot of the venue's own book, digits and level stamps as they were sent."""
        return (
            f'[{channel_id},{{"as":[{_levels(book.asks)}],"bs":[{_levels(book.bids)}]}},'
            f'"book-{stream.depth}","{stream.symbol}"]'
        ).encode()

    def trade_snapshot(self, trades: Sequence[bytes]) -> bytes:
        """Make nothing: trades begin with the next print on this protocol."""
        del trades
        return b""

    def instruments(self, listings: Sequence[Listing]) -> bytes:
        """Make nothing: reference data comes by REST on this protocol."""
        del listings
        return b""


def _stream(asked: _Subscription, symbol: str) -> Stream:
    return Stream(asked.name, symbol, asked.depth if asked.name == "book" else 0)


def _levels(levels: Sequence[Level]) -> str:
    return ",".join(f'["{level.price}","{level.qty}","{level.stamp}"]' for level in levels)


def _status(
    status: str, tail: dict[str, Any], symbol: str, shown: dict[str, Any], **more: object
) -> bytes:
    pair = {"pair": symbol} if symbol else {}
    event = {"event": "subscriptionStatus", **tail, **pair}
    return _json({**more, **event, "status": status, "subscription": shown})


def _json(message: dict[str, Any]) -> bytes:
    return msgspec.json.encode(message)
