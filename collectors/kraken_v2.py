"""Kraken's WebSocket v2: book, trade and instrument messages become records, each book message proved by
its CRC-32.

**Layout** (docs.kraken.com, WebSockets v2)
    {"channel":"book","type":"snapshot"|"update","data":[{"symbol","bids":[{"price","qty"}],"asks":[..],"checksum","timestamp"}]}
    {"channel":"trade","type":..,"data":[{"symbol","side","price","qty","ord_type","trade_id","timestamp"}, ...]}
    {"channel":"instrument","type":..,"data":{"assets":[..],"pairs":[{"symbol","base","quote","price_increment","qty_increment"}]}}
    {"channel":"heartbeat"}   {"channel":"status",..}   {"method":"subscribe","success":..,"result":{..},"error":..}
The checksum covers the ten best levels a side: asks low to high, then bids high to low, each price and qty
as written without the dot and leading zeros. Numbers are JSON numbers: their text is kept as sent. After an
update the book is cut to the depth.

**Choices** `ts_event` is the message's timestamp; a snapshot without one takes the instrument's previous.
`side` of a trade is the taker's. Trade ids of an instrument rise: one that is not above the last is a
repeat, dropped and counted; trades of a snapshot are taken by id and carry the mark SNAPSHOT. Whether ids have no holes is not
promised, so a hole is no gap.

**Failure** As in `collectors.kraken_v1`.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from collectors.decoder import BAD_FRAME, Subscription
from collectors.instrument_line import InstrumentLine
from collectors.instruments import Steps
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
    stage_trade,
)

_ABSENT = msgspec.Raw(b"")
_EMPTY_ARRAY_BYTES = 2
_UPDATE = WITH_CHECKSUM
_UPDATE_ENDS = WITH_CHECKSUM | ENDS_FRAME
_SNAPSHOT = WITH_CHECKSUM | SNAPSHOT
_OTHER_CHANNELS = frozenset({"ticker", "ohlc", "level3", "executions", "balances"})

_UPDATE_OF = b',"type":"update","data":[{"symbol":"%S",'
_FORMS = (
    Form(
        b'{"channel":"book"' + _UPDATE_OF + b'"bids":%b,"asks":%a,"checksum":%c,"timestamp":%t}]}',
        FormKind.LEVELS,
        flags=WITH_CHECKSUM,
    ),
    Form(
        b'{"channel":"trade"' + _UPDATE_OF + b'"side":"%s","price":%p,"qty":%q,'
        b'"ord_type":"%_","trade_id":%i,"timestamp":%t}]}',
        FormKind.TRADE,
        buy="buy",
        sell="sell",
    ),
)

_Type = Literal["snapshot", "update"]


class _BookEntry(msgspec.Struct, gc=False):
    symbol: str
    checksum: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    bids: msgspec.Raw = _ABSENT
    asks: msgspec.Raw = _ABSENT
    timestamp: msgspec.Raw = _ABSENT


class _Book(msgspec.Struct, gc=False, tag_field="channel", tag="book"):
    type: _Type
    data: list[_BookEntry]


class _TradeEntry(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    timestamp: msgspec.Raw


class _Trade(msgspec.Struct, gc=False, tag_field="channel", tag="trade"):
    type: _Type
    data: list[_TradeEntry]


class _Pair(msgspec.Struct, gc=False):
    symbol: str
    qty_increment: msgspec.Raw = _ABSENT
    price_increment: msgspec.Raw = _ABSENT
    tick_size: msgspec.Raw = _ABSENT


class _Pairs(msgspec.Struct, gc=False):
    pairs: list[_Pair] = []


class _Instrument(msgspec.Struct, gc=False, tag_field="channel", tag="instrument"):
    data: _Pairs


class _Heartbeat(msgspec.Struct, gc=False, tag_field="channel", tag="heartbeat"):
    pass


class _System(msgspec.Struct, gc=False):
    system: str


class _Status(msgspec.Struct, gc=False, tag_field="channel", tag="status"):
    data: list[_System]


class _Result(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int = 0


class _Answer(msgspec.Struct, gc=False):
    """What answers a request; `channel` and `data` only to recognise everything else."""

    method: str = ""
    success: bool = True
    error: str = ""
    symbol: str = ""
    result: _Result = msgspec.field(default_factory=_Result)
    channel: str = ""
    data: msgspec.Raw = _ABSENT


class _Named(msgspec.Struct, gc=False):
    symbol: str


_decode_data = msgspec.json.Decoder(_Book | _Trade | _Instrument | _Heartbeat | _Status).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_named = msgspec.json.Decoder(list[_Named]).decode


class KrakenV2(KrakenSpot):
    """Kraken v2, channels `book`, `trade` and `instrument`."""

    venue: ClassVar[str] = "kraken"
    url: str = "wss://ws.kraken.com/v2"
    channels: ClassVar[frozenset[str]] = frozenset({"book", "trade", "instrument"})
    depths: ClassVar[frozenset[int]] = frozenset({10, 25, 100, 500, 1000})
    forms: ClassVar[tuple[Form, ...]] = _FORMS

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        taken = take_frame(self.known.handle, frame, len(frame), 0, ts_recv)
        if taken >= 0:
            return self._look(taken, ts_recv) if taken else DECODED
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        try:
            message = _decode_data(frame)
        except BAD_FRAME:
            return self._other(frame, ts_recv)
        if type(message) is not _Book:
            return self._no_book(message, ts_recv)
        entries = message.data
        if message.type != "update" or len(entries) != 1:
            return self._books(message, ts_recv)
        entry = entries[0]
        symbol = entry.symbol
        line = self.instruments.get(symbol)
        if line is None or not line.has_book:
            return self._books(message, ts_recv)
        # An update of one known book. Conversions are spared for the side that is empty.
        bids, asks = entry.bids, entry.asks
        bids_text = bytes(bids) if len(bids) > _EMPTY_ARRAY_BYTES else b""
        asks_text = bytes(asks) if len(asks) > _EMPTY_ARRAY_BYTES else b""
        time = bytes(entry.timestamp)
        status = apply_levels(
            line.handle,
            _UPDATE_ENDS,
            bids_text,
            len(bids_text),
            asks_text,
            len(asks_text),
            time,
            len(time),
            entry.checksum,
            ts_recv,
        )
        return self._book_failed(symbol, line, status, ts_recv) if status else 0

    def ping(self) -> bytes:
        """Return a frame that the venue answers with a pong."""
        return b'{"method":"ping"}'

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    # ---- books ----

    def _books(self, message: _Book, ts: int) -> int:
        """Take snapshots, and messages of several books; the first refusal is the frame's."""
        result = DECODED
        flags = _SNAPSHOT if message.type == "snapshot" else _UPDATE
        for entry in message.data:
            status = self._book(entry, flags, ts)
            result = result or status
        return self.outlet.count(result)

    def _book(self, entry: _BookEntry, flags: int, ts: int) -> int:
        line = self._line(entry.symbol)
        if line is None or not (line.has_book or self.accept_any):
            return Reject.UNKNOWN_SYMBOL
        bids, asks = bytes(entry.bids), bytes(entry.asks)
        if self.accept_any and (flags & SNAPSHOT or not line.has_book):
            self._set_depth(line, max(line.instrument.depth, self._least_depth(bids, asks)))
        return self._apply(
            entry.symbol, line, flags, bids, asks, bytes(entry.timestamp), entry.checksum, ts
        )

    def _least_depth(self, bids: bytes, asks: bytes) -> int:
        """Return the least depth of the venue's that these levels fit in: what is taken where no acknowledgement told it,
        until a longer snapshot shows that it is more. It is too small for a book that had fewer levels than its depth; such a
        book is cut too early, and at depth 10 all that is left is under the checksum.
        """
        levels = max(bids.count(b"{"), asks.count(b"{"), 1)
        return min((d for d in self.depths if d >= levels), default=max(self.depths))

    # ---- everything else that has a channel ----

    def _no_book(self, message: _Trade | _Instrument | _Heartbeat | _Status, ts: int) -> int:
        if type(message) is _Trade:
            return self._trades(message, ts)
        if type(message) is _Instrument:
            self._take_steps(
                {
                    pair.symbol: Steps(
                        _text_of(pair.price_increment or pair.tick_size),
                        _text_of(pair.qty_increment),
                    )
                    for pair in message.data.pairs
                }
            )
        elif type(message) is _Status:
            for system in message.data:
                if system.system != "online":
                    self.notices.append(f"kraken says that its system is {system.system!r}")
        return self._decoded()

    def _trades(self, message: _Trade, ts: int) -> int:
        flags = SNAPSHOT if message.type == "snapshot" else 0
        unknown = False
        if flags:
            message.data.sort(key=_by_id)
        for entry in message.data:
            symbol = entry.symbol
            line = self.instruments.get(symbol) or self._line(symbol)
            if line is None:
                unknown = True
                continue
            status = _stage(line.handle, flags, entry, ts)
            if status and self._stages_again(line, status, ts):
                return self._trades(message, ts)
            if status:
                return self._trades_failed(symbol, line, status, ts)
        if unknown:
            return self.outlet.count(self.outlet.commit() or Reject.UNKNOWN_SYMBOL)
        return commit_trades(self.outlet.handle, ENDS_FRAME)

    # ---- answers, and frames that are broken ----

    def _other(self, frame: bytes, ts: int) -> int:
        try:
            answer = _decode_answer(frame)
        except BAD_FRAME:
            return self._broken(frame, ts)
        if answer.method or (answer.error and not answer.channel):
            self._answer(answer, ts)
            return self._decoded()
        if answer.channel in _OTHER_CHANNELS:
            return self._decoded()
        if answer.channel in ("book", "trade"):
            return self._blame(_only_symbol(answer.data), answer.channel == "book", ts)
        if answer.channel in ("instrument", "heartbeat", "status", ""):
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        return self._unknown_channel(ts)

    def _answer(self, answer: _Answer, ts: int) -> None:
        """Take up the answer to a request; an error names the symbol beside it, a success in its result."""
        result = answer.result
        symbol = result.symbol or answer.symbol
        is_subscribed = answer.method == "subscribe" and answer.success
        if answer.error and not symbol:
            self.notices.append(f"kraken says to {answer.method!r}: {answer.error}")
            return
        if result.channel not in ("book", ""):
            return
        if is_subscribed and self.accept_any and result.depth in self.depths:
            line: InstrumentLine | None = self._line(symbol)
            if line is not None:
                self._set_depth(line, result.depth)
        if answer.method in ("subscribe", "unsubscribe"):
            # An unsubscription that fails leaves things as they are.
            keeps = is_subscribed or (answer.method == "unsubscribe" and not answer.success)
            self._acknowledged(symbol, keeps, answer.error, ts)


def _by_id(entry: _TradeEntry) -> int:
    return entry.trade_id


def _only_symbol(data: msgspec.Raw) -> str | None:
    """Return the one symbol that a broken message's data names, None where that cannot be told."""
    try:
        named = {entry.symbol for entry in _decode_named(data)}
    except BAD_FRAME:
        return None
    return named.pop() if len(named) == 1 else None


def _stage(handle: Any, flags: int, entry: _TradeEntry, ts: int) -> int:
    price, qty, time = bytes(entry.price), bytes(entry.qty), bytes(entry.timestamp)
    return stage_trade(
        handle,
        flags,
        price,
        len(price),
        qty,
        len(qty),
        time,
        len(time),
        entry.trade_id,
        1 if entry.side == "buy" else -1,
        ts,
    )


def _text_of(number: msgspec.Raw) -> str:
    return bytes(number).decode().strip('" ')


def _request(method: str, wanted: Subscription) -> bytes:
    params: dict[str, object] = {"channel": wanted.channel}
    if wanted.channel != "instrument":
        params["symbol"] = wanted.symbols
    if wanted.channel == "book":
        params["depth"] = wanted.depth
    if method == "subscribe":
        params["snapshot"] = True
    return msgspec.json.encode({"method": method, "params": params})
