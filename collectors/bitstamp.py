"""Bitstamp: diff books on a REST snapshot, ordered by their microtimestamps; trades.

**Layout** (bitstamp.net/websocket/v2)
    {"event":"data","channel":"diff_order_book_PAIR","data":{"timestamp","microtimestamp","bids":[[price,qty]],"asks":[..]}}
    {"event":"trade","channel":"live_trades_PAIR","data":{"id","price","price_str","amount","amount_str","type":0|1,"microtimestamp"}}
    {"event":"bts:subscription_succeeded"|"bts:error"|"bts:request_reconnect"|"bts:heartbeat",..}
    bts:request_reconnect: the venue is about to close this link (maintenance); it asks for a new one
    REST /api/v2/order_book/PAIR/  {"timestamp","microtimestamp","bids":[..],"asks":[..]}
Symbols are the pairs of the channel names ("btcusd").

**Choices** Diffs at or before the snapshot's microtimestamp are dropped, any later one may be the first. Diffs have no
numbers, so a lost one cannot be seen but by a book that crosses; a repeat byte for byte is a duplicate, and one that
is older than the last may have come too late to be applied: the snapshot is asked for again. `type` 0 is a taker who
buys. Numbers of trades are taken from their text where there is one.
"""

import re
from typing import Annotated, ClassVar, Literal

import msgspec

from collectors.allowance import Rate
from collectors.decoder import BAD_FRAME, Subscription
from collectors.diff_decoder import Diff, DiffDecoder, DiffLine
from collectors.feed_decoder import EMPTY, request
from collectors.instrument_line import InstrumentLine
from collectors.instruments import Instrument, Steps
from shm.forms import Form, FormKind, take_frame
from shm.outlet import DECODED, ENDS_FRAME, WIDER, Outlet, Reject

_BOOK = "diff_order_book_"
_TRADES = "live_trades_"
_CHANNELS = {"book": _BOOK, "trade": _TRADES}
_OTHER_CHANNELS = ("order_book_", "detail_order_book_", "live_orders_", "funding_rate_", "private-")
_RECONNECT = "bts:request_reconnect"
_TAKER_SIDES = {0: 1, 1: -1}
_PAIRS_PATH = "/trading-pairs-info/"
_BOOK_URL = re.compile(r"/order_book/([a-z0-9-]+)/?(?:\?|$)")

_Micros = Annotated[int, msgspec.Meta(ge=1, le=(1 << 62) - 1)]


class _Levels(msgspec.Struct, gc=False):
    microtimestamp: _Micros
    bids: msgspec.Raw
    asks: msgspec.Raw


class _Book(msgspec.Struct, gc=False, tag_field="event", tag="data"):
    channel: str
    data: _Levels


class _Trade(msgspec.Struct, gc=False):
    id: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    price: msgspec.Raw
    amount: msgspec.Raw
    type: Literal[0, 1]
    microtimestamp: msgspec.Raw
    price_str: msgspec.Raw = EMPTY
    amount_str: msgspec.Raw = EMPTY


class _Print(msgspec.Struct, gc=False, tag_field="event", tag="trade"):
    channel: str
    data: _Trade


class _Any(msgspec.Struct, gc=False):
    event: str = ""
    channel: str = ""
    data: msgspec.Raw = EMPTY


# Lax, so that microtimestamps, which come as text, are integers at once.
_decode_data = msgspec.json.Decoder(_Book | _Print, strict=False).decode
_decode_any = msgspec.json.Decoder(_Any).decode
_decode_snapshot = msgspec.json.Decoder(_Levels, strict=False).decode


class _Pair(msgspec.Struct, gc=False):
    """A pair of the venue's list: decimals of the base (quantities) and of the counter currency (prices)."""

    url_symbol: str
    base_decimals: int
    counter_decimals: int


_decode_pairs = msgspec.json.Decoder(list[_Pair]).decode


class BitstampLine(DiffLine):
    """An instrument that knows its last diff."""

    __slots__ = ("newest",)

    def __init__(self, instrument: Instrument, outlet: Outlet, index: int) -> None:
        super().__init__(instrument, outlet, index)
        self.newest = b""
        """The last frame."""


class Bitstamp(DiffDecoder):
    """Bitstamp, channels `book` and `trade`."""

    venue: ClassVar[str] = "bitstamp"
    channels: ClassVar[frozenset[str]] = frozenset(_CHANNELS)
    line_type: ClassVar[type[InstrumentLine]] = BitstampLine
    url: str = "wss://ws.bitstamp.net"
    rest_url: str = "https://www.bitstamp.net/api/v2"
    rest_rate: ClassVar[Rate] = Rate(per_s=10.0, burst=20.0)
    """The venue allows 10,000 in ten minutes."""
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            b'{"data":{"id":%i,"timestamp":"%_","amount":%q,"amount_str":%q,"price":%p,"price_str":%p,'
            b'"type":%s,"microtimestamp":%t,"buy_order_id":%n,"sell_order_id":%n},'
            b'"channel":"live_trades_%S","event":"trade"}',
            FormKind.TRADE,
            buy="0",
            sell="1",
        ),
    )

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
        if type(message) is _Print:
            return self._trade(message, ts_recv)
        if not message.channel.startswith(_BOOK):
            return self._other(frame, ts_recv)
        return self._book(message.channel[len(_BOOK) :], message.data, frame, ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return b'{"event":"bts:heartbeat"}'

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frames that ask for a subscription, one a symbol."""
        return _requests("bts:subscribe", wanted)

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frames that end a subscription, one a symbol."""
        return _requests("bts:unsubscribe", wanted)

    # ---- the venue's rules of microtimestamps ----

    def _is_stale(self, diff: Diff, seq: int) -> bool:
        return diff.last <= seq

    def _straddles(self, diff: Diff, seq: int) -> bool:
        return diff.last > seq

    def _follows(self, diff: Diff, seq: int) -> bool:
        return diff.last > seq

    # ---- data ----

    def _book(self, symbol: str, data: _Levels, frame: bytes, ts: int) -> int:
        line = self._diff_line(symbol)
        if not isinstance(line, BitstampLine):
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        number = data.microtimestamp
        time = b"%d" % number
        diff = Diff(0, number, 0, bytes(data.bids), bytes(data.asks), time, ts)
        if line.is_straddled and line.live.is_valid:
            if frame == line.newest:
                return self.outlet.count(Reject.DUPLICATE)
            if number < line.seq:
                self._hole(symbol, line, diff)
                return self.outlet.count(Reject.LATE)
            line.newest = frame
            return self._put(symbol, line, diff, ENDS_FRAME)
        line.newest = frame
        return self.outlet.count(self._diff(symbol, line, diff))

    def _trade(self, message: _Print, ts: int) -> int:
        symbol = message.channel.removeprefix(_TRADES)
        line = self._line(symbol)
        if line is None or symbol == message.channel:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        data = message.data
        price, qty = data.price_str or data.price, data.amount_str or data.amount
        side = _TAKER_SIDES[data.type]
        status = self._stage(line, 0, price, qty, data.microtimestamp, data.id, side, ts)
        if status == WIDER:
            return self._trade(message, ts)
        if status:
            return self._trades_failed(symbol, line, status, ts)
        return self._publish_trades()

    def steps_urls(self) -> list[str]:
        """Return where the list of pairs is."""
        return [self.rest_url + _PAIRS_PATH]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        if url.endswith(_PAIRS_PATH):
            self._take_steps({p.url_symbol: _steps(p) for p in _decode_pairs(body)})
            return
        found = _BOOK_URL.search(url)
        if url and found is None:
            return
        answer = _decode_snapshot(body)
        symbol = found[1] if found else self._only_waiting()
        if symbol is None:
            self.notices.append("bitstamp: a snapshot without a pair, and several books wait")
            return
        number = answer.microtimestamp
        time = b"%d" % number
        self._snapshot(symbol, number, bytes(answer.bids), bytes(answer.asks), time, ts)

    def _snapshot_url(self, symbol: str) -> str:
        return f"{self.rest_url}/order_book/{symbol}/"

    # ---- everything else ----

    def _other(self, frame: bytes, ts: int) -> int:
        try:
            message = _decode_any(frame)
        except BAD_FRAME:
            self._suspect_all(ts)
            return self._broken(frame, ts)
        channel = message.channel
        if message.event.startswith("bts:"):
            if message.event == _RECONNECT:
                self._announced(f"bitstamp announces {_RECONNECT}")
            elif message.event == "bts:error":
                told = bytes(message.data).decode(errors="replace")
                self.notices.append(f"bitstamp says bts:error: {told}")
            elif message.event == "bts:unsubscription_succeeded" and channel.startswith(_BOOK):
                self._acknowledged(channel.removeprefix(_BOOK), False, "", ts)
            return self._decoded()
        if channel.startswith(_OTHER_CHANNELS):
            return self._decoded()
        if message.event == "data" and channel.startswith(_BOOK):
            self._blamed(channel.removeprefix(_BOOK), ts)
            return self.outlet.count(Reject.UNEXPECTED_SHAPE)
        if message.event == "trade" and channel.startswith(_TRADES):
            return self._blame(channel.removeprefix(_TRADES), is_book=False, ts=ts)
        if not message.event or not channel:
            self._suspect_all(ts)
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        return self._unknown_channel(ts)


def _steps(pair: _Pair) -> Steps:
    return Steps(f"1e-{pair.counter_decimals}", f"1e-{pair.base_decimals}")


def _requests(event: str, wanted: Subscription) -> list[bytes]:
    prefix = _CHANNELS[wanted.channel]
    return [request(event=event, data={"channel": f"{prefix}{s}"}) for s in wanted.symbols]
