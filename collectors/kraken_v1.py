"""Kraken's WebSocket v1: book-N and trade frames become records, each book update proved by the venue's
CRC-32.

**Layout** (docs.kraken.com, WebSockets v1)
    [channelID, {"as": [...], "bs": [...]}, "book-N", pair]                 snapshot, no checksum
    [channelID, {"a": [...], "c": "crc"}, "book-N", pair]                   update of one side; "b" likewise
    [channelID, {"a": [...]}, {"b": [...], "c": "crc"}, "book-N", pair]     update of both
    [channelID, [["price", "qty", "seconds", side, type, misc], ...], "trade", pair]
A level is ["price", "qty", "seconds"] or, republished, ["price", "qty", "seconds", "r"]. The checksum
covers the ten best levels a side: asks low to high, then bids high to low, each price and qty as written
without the dot and leading zeros (native/checksum.c). After an update the book is cut to N levels.

**Choices** `ts_event` of a book frame is its newest level's own time, of a trade its own. A trade's side
(b, s) is the taker's. v1 numbers neither frames nor trades: `venue_seq` and `trade_id` are 0. An update
without a checksum is refused. Where a recording holds two depths of a pair, the one that came first is the book until
it is unsubscribed or lost.

**Failure** A wrong checksum, a refused or a crossed update makes that pair SUSPECT and asks for it again;
the others run on.
"""

from typing import Annotated, ClassVar, final

import msgspec

from collectors.decoder import BAD_FRAME, Subscription
from collectors.instrument_line import InstrumentLine
from collectors.kraken_spot import KrakenSpot
from shm.forms import Form, FormKind, take_frame
from shm.outlet import (
    DECODED,
    ENDS_FRAME,
    SNAPSHOT,
    WITH_CHECKSUM,
    Reject,
    apply_levels,
    commit_trades,
    stage_trade_row,
)

_ABSENT = msgspec.Raw(b"")
_NO_CHECKSUM = -1
_UPDATE = ENDS_FRAME | WITH_CHECKSUM
_SNAPSHOT = ENDS_FRAME | SNAPSHOT
_OTHER_CHANNELS = ("ticker", "ohlc", "spread", "ownTrades", "openOrders")
_DEPTHS = {f"book-{depth}": depth for depth in (10, 25, 100, 500, 1000)}


@final
class _Sides(msgspec.Struct, gc=False):
    """The object of a book frame; level arrays stay text."""

    a: msgspec.Raw = _ABSENT
    b: msgspec.Raw = _ABSENT
    c: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = _NO_CHECKSUM
    new_asks: msgspec.Raw = msgspec.field(name="as", default=_ABSENT)
    new_bids: msgspec.Raw = msgspec.field(name="bs", default=_ABSENT)


class _Data(msgspec.Struct, array_like=True, gc=False):
    """A book or trade frame: three elements after the id, or four when each side has an object of its own."""

    channel_id: int
    body: _Sides | list[msgspec.Raw]
    second: _Sides | str
    third: str
    fourth: str = ""


_FORMS = (
    *(
        Form(b"[%n," + sides + b',"c":"%c"},"book-%d","%S"]', FormKind.LEVELS, flags=WITH_CHECKSUM)
        for sides in (b'{"a":%a', b'{"b":%b', b'{"a":%a},{"b":%b')
    ),
    Form(b'[%n,%x,"trade","%S"]', FormKind.TRADE_ROWS),
)


class _Event(msgspec.Struct, gc=False):
    """Everything that is no array."""

    event: str
    status: str = ""
    pair: str = ""
    channel_name: str = msgspec.field(name="channelName", default="")
    error: str = msgspec.field(name="errorMessage", default="")


# Lax, so that the checksum, which comes as text, is an integer at once.
_decode_data = msgspec.json.Decoder(_Data, strict=False).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class KrakenV1(KrakenSpot):
    """Kraken v1, channels `book` and `trade`."""

    venue: ClassVar[str] = "kraken_v1"
    """Not v2's name: both may be collected side by side, and a symbol then has a stream for each."""
    url: str = "wss://ws.kraken.com"
    channels: ClassVar[frozenset[str]] = frozenset({"book", "trade"})
    depths: ClassVar[frozenset[int]] = frozenset(_DEPTHS.values())
    forms: ClassVar[tuple[Form, ...]] = _FORMS

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        taken = take_frame(self.known.handle, frame, len(frame), 0, ts_recv)
        if taken >= 0:
            return self._look(taken, ts_recv) if taken else DECODED
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        try:
            data = _decode_data(frame)
        except BAD_FRAME:
            return self._other(frame, ts_recv)
        body, second = data.body, data.second
        if type(body) is not _Sides:
            return self._trades(data, body, ts_recv)
        if type(second) is _Sides:
            return self._both_sides(data, body, second, ts_recv)
        symbol = data.third
        line = self.instruments.get(symbol)
        asks, bids = body.a, body.b
        if line is None or line.book_channel != second or body.c < 0:
            return self._unusual(symbol, second, body, ts_recv)
        # An update on a known channel: all but a few frames in a day. Conversions are spared for the side
        # that is absent.
        asks_text = bytes(asks) if asks else b""
        bids_text = bytes(bids) if bids else b""
        status = apply_levels(
            line.handle,
            _UPDATE,
            bids_text,
            len(bids_text),
            asks_text,
            len(asks_text),
            b"",
            0,
            body.c,
            ts_recv,
        )
        return self._book_failed(symbol, line, status, ts_recv) if status else 0

    def ping(self) -> bytes:
        """Return a frame that the venue answers with a pong."""
        return b'{"event":"ping"}'

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    # ---- books ----

    def _set_depth(self, line: InstrumentLine, depth: int) -> None:
        super()._set_depth(line, depth)
        line.book_channel = f"book-{depth}"

    def _both_sides(self, data: _Data, one: _Sides, other: _Sides, ts: int) -> int:
        """Make one update of a frame that has an object for each side."""
        symbol, name = data.fourth, data.third
        if (one.a and other.a) or (one.b and other.b) or (one.c >= 0 and other.c >= 0):
            return self._blame(symbol, is_book=True, ts=ts)
        merged = _Sides(
            one.a or other.a,
            one.b or other.b,
            max(one.c, other.c),
            one.new_asks or other.new_asks,
            one.new_bids or other.new_bids,
        )
        return self._unusual(symbol, name, merged, ts)

    def _unusual(self, symbol: str, name: str, sides: _Sides, ts: int) -> int:
        """Take a snapshot, an update in two objects, or the first frame of a channel."""
        depth = _depth_of(name)
        if not depth:
            # Ticker frames have an object too, with members of the same names.
            return self._decoded() if name in _OTHER_CHANNELS else self._unknown_channel(ts)
        line = self._line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        if line.book_channel != name:
            if not self.accept_any:
                return self._unknown_channel(ts)
            if line.live.is_valid:
                return self._decoded()
            self._set_depth(line, depth)
        is_snapshot = bool(sides.new_asks or sides.new_bids)
        is_update = bool(sides.a or sides.b)
        if is_snapshot is is_update or (is_update and sides.c < 0):
            return self._blame(symbol, is_book=True, ts=ts)
        flags = _SNAPSHOT if is_snapshot else _UPDATE
        bids = bytes(sides.new_bids or sides.b)
        asks = bytes(sides.new_asks or sides.a)
        return self._apply(symbol, line, flags, bids, asks, b"", sides.c, ts)

    # ---- trades ----

    def _trades(self, data: _Data, rows: list[msgspec.Raw], ts: int) -> int:
        symbol = data.third
        if data.second != "trade":
            return self._no_trades(data.second, ts)
        line = self.instruments.get(symbol) or self._line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        handle = line.handle
        for row in rows:
            text = bytes(row)
            status = stage_trade_row(handle, 0, text, len(text), ts)
            if status and self._stages_again(line, status, ts):
                return self._trades(data, rows, ts)
            if status:
                return self._trades_failed(symbol, line, status, ts)
        return commit_trades(self.outlet.handle, ENDS_FRAME)

    def _no_trades(self, name: _Sides | str, ts: int) -> int:
        """Take an array of another channel, or of none."""
        if type(name) is _Sides:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        if name.partition("-")[0] in _OTHER_CHANNELS:
            return self._decoded()
        return self._unknown_channel(ts)

    # ---- everything else ----

    def _other(self, frame: bytes, ts: int) -> int:
        """Take a frame that is neither book nor trade, or that is broken."""
        try:
            if frame[:1] == b"{":
                return self._event(_decode_event(frame), ts)
            strings = [
                _decode_text(element)
                for element in _decode_elements(frame)
                if bytes(element).startswith(b'"')
            ]
        except BAD_FRAME:
            return self._broken(frame, ts)
        for name in strings:
            if name.partition("-")[0] in _OTHER_CHANNELS:
                return self._decoded()
        if len(strings) == 2 and (strings[0] == "trade" or _depth_of(strings[0])):
            return self._blame(strings[1], strings[0] != "trade", ts)
        return self._refuse(Reject.UNEXPECTED_SHAPE, ts)

    def _event(self, event: _Event, ts: int) -> int:
        if event.event in ("heartbeat", "pong"):
            return self._decoded()
        if event.event == "systemStatus":
            if event.status != "online":
                self.notices.append(f"kraken says that its system is {event.status!r}")
            return self._decoded()
        if event.event == "subscriptionStatus":
            depth = _depth_of(event.channel_name)
            line = self._line(event.pair) if self.accept_any and depth else None
            if line is not None and not line.live.is_valid and not event.error:
                self._set_depth(line, depth)
            other = self.instruments.get(event.pair)
            is_aside = (
                other is not None and depth and other.book_channel not in ("", event.channel_name)
            )
            if (depth and not is_aside) or event.error:
                self._acknowledged(event.pair, event.status == "subscribed", event.error, ts)
            return self._decoded()
        if event.event == "error":
            self.notices.append(f"kraken says: {event.error}")
            return self._decoded()
        return self._unknown_channel(ts)


def _depth_of(name: str) -> int:
    """Return N of "book-N" where the venue has that depth, 0 for any other name."""
    return _DEPTHS.get(name, 0)


def _request(event: str, wanted: Subscription) -> bytes:
    subscription: dict[str, str | int] = {"name": wanted.channel}
    if wanted.channel == "book":
        subscription["depth"] = wanted.depth
    return msgspec.json.encode(
        {"event": event, "pair": wanted.symbols, "subscription": subscription}
    )
