"""Binance spot: diff depth on a REST snapshot, trades, and bookTicker as the oracle of the top.

**Layout** (binance-docs, WebSocket streams); combined {"stream":name,"data":{..}} or the data alone
    depthUpdate {"e":"depthUpdate","E":ms,"s":symbol,"U":first id,"u":last id,"b":[[price,qty]],"a":[..]}
    trade       {"e":"trade","E","s","t":trade id,"p","q","T":ms,"m":buyer is the maker}
    aggTrade    {"e":"aggTrade","E","s","a":aggregate id,"p","q","f":first,"l":last trade id,"T","m"}
    bookTicker  {"u":id,"s","b","B","a","A"}          answers {"result":..,"id":n}   {"error":{"code","msg"}}
    REST        {"lastUpdateId":id,"bids":[..],"asks":[..]}      exchangeInfo {"symbols":[{"symbol",..,"filters"}]}
    bookN       {"lastUpdateId","bids","asks"}, on USD-M as depthUpdate: the best N levels, streams @depth5, 10 and 20
Times are ms, or us where the stream was opened so. Quantities are absolute, 0 deletes.

**Choices** Synchronised as documented: diffs with `u` <= lastUpdateId are dropped, the first must hold
lastUpdateId + 1, then each `U` is the `u` before it plus 1; one that overlaps restates and is applied. `m` says that
the buyer was the maker: the taker sold. Where `trade` and `aggTrade` are both recorded only the first kind that comes
for an instrument is published, else each trade would be there twice. A trade id that is not above the last is a
repeat. The stream's name tells the best levels and other books (rpiDepth) from diffs; a recording's best levels are its
book only where it has no diffs. A bookTicker with id `u` is the exact top from change `u` on: each diff's end is held
against the newest.
"""

from typing import Annotated, ClassVar, final
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from collectors.allowance import Rate
from collectors.decoder import BAD_FRAME, Subscription
from collectors.diff_decoder import NOT_SYNCED, Diff, DiffDecoder
from collectors.feed_decoder import EMPTY, request
from collectors.instruments import Steps
from layouts import InstrumentState, StateReason
from shm.forms import Form, FormKind, FormRule, take_frame
from shm.outlet import DECODED, ENDS_FRAME, SNAPSHOT, WIDER, Reject

_Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]
_STREAMS = {"book": "depth@100ms", "trade": "trade", "ticker": "bookTicker"}
_TICKER_STREAM = b"@bookTicker"
_STREAM_BYTES = 64
_BEST_LEVELS = ("depth5", "depth10", "depth20")
_OTHER_EVENTS = (
    "24hr 1hTicker 4hTicker 1dTicker avgPrice kline referencePrice serverShutdown assetIndex compositeIndex "
    "continuous_kline contractInfo forceOrder indexPrice markPrice openInterest tradingSession Commodity Equity "
    "balanceUpdate eventStreamTerminated executionReport externalLockUpdate listStatus listenKeyExpired outboundAccount "
    "ACCOUNT_ ALGO_ CONDITIONAL_ GRID_ MARGIN_ ORDER_ STRATEGY_ TRADE_LITE"
)
_SHUTDOWN = "serverShutdown"
"""Comes minutes before the venue closes the link."""
_OTHERS = tuple(_OTHER_EVENTS.split(" "))
"""Beginnings of the events that are left aside."""


@final
class Depth(msgspec.Struct, gc=False, tag_field="e", tag="depthUpdate"):
    """A diff; `pu` is USD-M's."""

    s: str
    U: _Id
    u: _Id
    b: msgspec.Raw
    a: msgspec.Raw
    E: msgspec.Raw = EMPTY
    pu: _Id = 0


class Trade(msgspec.Struct, gc=False, tag_field="e", tag="trade"):
    """One trade; `X` is USD-M's kind."""

    s: str
    t: _Id
    p: msgspec.Raw
    q: msgspec.Raw
    T: msgspec.Raw
    m: bool
    X: str = ""


class AggregateTrade(msgspec.Struct, gc=False, tag_field="e", tag="aggTrade"):
    """Trades of one taker at one price."""

    s: str
    t: _Id = msgspec.field(name="a")
    p: msgspec.Raw
    q: msgspec.Raw
    T: msgspec.Raw
    m: bool


class BookTicker(msgspec.Struct, gc=False, tag_field="e", tag="bookTicker"):
    """The venue's top; on spot without an event name."""

    u: _Id
    s: str
    b: msgspec.Raw
    B: msgspec.Raw
    a: msgspec.Raw
    A: msgspec.Raw


class SpotTicker(msgspec.Struct, gc=False):
    """A bookTicker as spot sends it."""

    u: _Id
    s: str
    b: msgspec.Raw
    B: msgspec.Raw
    a: msgspec.Raw
    A: msgspec.Raw


Data = Depth | Trade | AggregateTrade | BookTicker


class _Wrapped(msgspec.Struct, gc=False):
    data: Data
    stream: str = ""


class _WrappedTicker(msgspec.Struct, gc=False):
    data: SpotTicker


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    msg: str = ""


class _Event(msgspec.Struct, gc=False):
    """Whatever else comes, as far as it says what it is."""

    e: str = ""
    s: str = ""
    id: int | str | None = None
    result: msgspec.Raw = EMPTY
    error: _Error | str | None = None
    data: msgspec.Raw = EMPTY
    stream: str = ""
    last: msgspec.Raw = msgspec.field(name="lastUpdateId", default=EMPTY)
    code: int = 0
    msg: str = ""


class Snapshot(msgspec.Struct, gc=False):
    """A REST book."""

    last: _Id = msgspec.field(name="lastUpdateId")
    bids: msgspec.Raw
    asks: msgspec.Raw
    E: msgspec.Raw = EMPTY


class _Filter(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="filterType")
    tick: str = msgspec.field(name="tickSize", default="")
    lot: str = msgspec.field(name="stepSize", default="")


class _Listed(msgspec.Struct, gc=False):
    symbol: str
    filters: list[_Filter]


class _ExchangeInfo(msgspec.Struct, gc=False):
    symbols: list[_Listed]


_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_wrapped_ticker = msgspec.json.Decoder(_WrappedTicker).decode
_decode_data = msgspec.json.Decoder(Data).decode
_decode_ticker = msgspec.json.Decoder(SpotTicker).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_events = msgspec.json.Decoder(list[_Event]).decode
_decode_snapshot = msgspec.json.Decoder(Snapshot).decode
_decode_info = msgspec.json.Decoder(_ExchangeInfo).decode


class BinanceSpot(DiffDecoder):
    """Binance spot, channels `book`, `trade` and `ticker` (bookTicker)."""

    venue: ClassVar[str] = "binance"
    channels: ClassVar[frozenset[str]] = frozenset(_STREAMS)
    url: str = "wss://stream.binance.com:9443/stream"
    rest_url: str = "https://api.binance.com/api/v3"
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            b'{"stream":"%_@trade","data":{"e":"trade","E":%n,"s":"%S","t":%i,"p":%p,"q":%q,"T":%t,'
            b'"m":%m,"M":true}}',
            FormKind.TRADE,
            FormRule.ALLOWED,
        ),
        Form(
            b'{"stream":"%_@depth@%nms","data":{"e":"depthUpdate","E":%t,"s":"%S","U":%f,"u":%l,'
            b'"b":%b,"a":%a}}',
            FormKind.ROWS,
            FormRule.SPANS,
        ),
    )
    rest_levels: ClassVar[int] = 5000
    rest_rate: ClassVar[Rate] = Rate(per_s=0.3, burst=4.0)
    """A snapshot weighs 250 of the 6,000 that a minute has."""

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        taken = take_frame(self.known.handle, frame, len(frame), 0, ts_recv)
        if taken >= 0:
            return self._look(taken, ts_recv) if taken else DECODED
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        # Spot's bookTicker alone has no event name; most frames are one, so the stream's name decides.
        is_ticker = frame.find(_TICKER_STREAM, 0, _STREAM_BYTES) > 0
        try:
            if is_ticker:
                return self._no_book(_decode_wrapped_ticker(frame).data, ts_recv)
            message = _decode_wrapped(frame)
        except BAD_FRAME:
            return self._unwrapped(frame, ts_recv)
        data = message.data
        if type(data) is Depth:
            return self._depth(data, message.stream, ts_recv)
        return self._no_book(data, ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return request(method="LIST_SUBSCRIPTIONS", id=0)

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("SUBSCRIBE", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("UNSUBSCRIBE", wanted)]

    # ---- the venue's rules of numbers ----

    def _is_stale(self, diff: Diff, seq: int) -> bool:
        return diff.last <= seq

    def _straddles(self, diff: Diff, seq: int) -> bool:
        return diff.first <= seq + 1 <= diff.last

    def _follows(self, diff: Diff, seq: int) -> bool:
        return diff.first <= seq + 1 <= diff.last

    # ---- data ----

    def _depth(self, data: Depth, stream: str, ts: int) -> int:
        symbol = data.s
        kind = _kind_of(stream)
        if kind not in ("", "depth"):
            return self._best_levels(symbol, kind, Snapshot(data.u, data.b, data.a, data.E), ts)
        line = self.instruments.get(symbol)
        if line is None or not line.has_book:
            line = self._diff_line(symbol)
            if line is None:
                return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        if line.book_channel:
            # Diffs come beside the best levels: from now on they are the book.
            line.book_channel = ""
            line.live.set_state(InstrumentState.SYNCING, StateReason.SUBSCRIBED, ts)
        diff = Diff(data.U, data.u, data.pu, bytes(data.b), bytes(data.a), bytes(data.E), ts)
        if line.is_straddled and self._follows(diff, line.seq):
            return self._put(symbol, line, diff, ENDS_FRAME)
        return self.outlet.count(self._diff(symbol, line, diff))

    def _best_levels(self, symbol: str, kind: str, levels: Snapshot, ts: int) -> int:
        """Take the book's best levels (depth5, depth10, depth20), in a recording that has nothing better."""
        line = self._diff_line(symbol) if self.accept_any and kind in _BEST_LEVELS else None
        has_diffs = line is not None and (line.seq != NOT_SYNCED or bool(line.waiting))
        if line is None or has_diffs or line.book_channel not in ("", kind):
            return self._decoded()
        line.book_channel = kind
        texts = bytes(levels.bids), bytes(levels.asks), bytes(levels.E)
        status = self._rows(symbol, line, SNAPSHOT | ENDS_FRAME, *texts, 0, levels.last, ts)
        line.seq = NOT_SYNCED
        return status

    def _no_book(self, data: Data | SpotTicker, ts: int) -> int:
        if type(data) is Trade or type(data) is AggregateTrade:
            return self._trade(data, ts)
        if type(data) is BookTicker or type(data) is SpotTicker:
            self._ticker(data.s, data.u, (data.b, data.B, data.a, data.A))
        return self._decoded()

    def _trade(self, data: Trade | AggregateTrade, ts: int) -> int:
        if self._line(data.s) is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        line = self.instruments[data.s]
        if line.trade_kind is not type(data):
            if line.trade_kind is not None:
                return self._decoded()
            line.trade_kind = type(data)
            self.known.allow(line.place, type(data) is Trade)
        side = -1 if data.m else 1
        status = self._stage(line, 0, data.p, data.q, data.T, data.t, side, ts)
        if status == WIDER:
            return self._trade(data, ts)
        if status:
            return self._trades_failed(data.s, line, status, ts)
        return self._publish_trades()

    def steps_urls(self) -> list[str]:
        """Return where the rules of the subscribed symbols are."""
        symbols = quote(msgspec.json.encode(list(self.instruments)))
        return [f"{self.rest_url}/exchangeInfo?symbols={symbols}"]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        parts = urlsplit(url)
        if parts.path.endswith("/exchangeInfo"):
            self._take_steps({each.symbol: _steps(each) for each in _decode_info(body).symbols})
            return
        if url and not parts.path.endswith("/depth"):
            return
        answer = _decode_snapshot(body)
        named = parse_qs(parts.query).get("symbol")
        symbol = named[0].upper() if named else self._only_waiting()
        if symbol is None:
            self.notices.append(
                f"{self.venue}: a snapshot without a symbol, and several books wait"
            )
            return
        bids, asks = bytes(answer.bids), bytes(answer.asks)
        self._snapshot(symbol, answer.last, bids, asks, bytes(answer.E), ts)

    def _snapshot_url(self, symbol: str) -> str:
        return f"{self.rest_url}/depth?symbol={symbol}&limit={self.rest_levels}"

    # ---- everything else ----

    def _unwrapped(self, frame: bytes, ts: int) -> int:
        """Take a frame of a single stream, an answer, or one that is broken."""
        try:
            data = _decode_data(frame)
        except BAD_FRAME:
            return self._other(frame, ts)
        return self._depth(data, "", ts) if type(data) is Depth else self._no_book(data, ts)

    def _other(self, frame: bytes, ts: int, stream: str = "") -> int:
        """Take what carries no data of ours, or is broken; `stream` is the name that was around it."""
        try:
            event = _decode_event(frame)
        except BAD_FRAME:
            return self._list(frame, ts)
        if event.data and event.stream and not stream:
            return self._other(bytes(event.data), ts, event.stream)
        if event.e == "depthUpdate":
            self._blamed(event.s, ts)
            return self.outlet.count(Reject.UNEXPECTED_SHAPE)
        if event.e == _SHUTDOWN:
            self._announced(f"{self.venue} announces {_SHUTDOWN}")
        if event.e.startswith(_OTHERS):
            return self._decoded()
        if event.e in ("trade", "aggTrade"):
            return self._blame(event.s, is_book=False, ts=ts)
        if event.e and event.e != "bookTicker":
            return self._unknown_channel(ts)
        error = event.error if isinstance(event.error, _Error) else _Error(event.code, event.msg)
        if error.msg or isinstance(event.error, str):
            self.notices.append(f"{self.venue} says: {error.msg or event.error} ({error.code})")
            return self._decoded()
        if event.id is not None or event.result:
            return self._decoded()
        try:
            if not event.last:
                return self._no_book(_decode_ticker(frame), ts)
            levels = _decode_snapshot(frame)
        except BAD_FRAME:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        symbol = stream.partition("@")[0].upper()
        if not symbol:
            return self._decoded()  # best levels that do not say whose they are
        return self._best_levels(symbol, _kind_of(stream), levels, ts)

    def _list(self, frame: bytes, ts: int) -> int:
        """Take a stream of all symbols, whose data are a list."""
        try:
            events = _decode_events(frame)
        except BAD_FRAME:
            return self._broken(frame, ts)
        if all(event.e.startswith(_OTHERS) for event in events):
            return self._decoded()
        return self._refuse(Reject.UNEXPECTED_SHAPE, ts)


def _kind_of(stream: str) -> str:
    """Return what a stream is: "depth" of "btcusdt@depth@100ms"."""
    return stream.partition("@")[2].partition("@")[0]


def _steps(listed: _Listed) -> Steps:
    """Tick and lot of one symbol, from its price and lot filters."""
    tick = next((f.tick for f in listed.filters if f.kind == "PRICE_FILTER"), "")
    lot = next((f.lot for f in listed.filters if f.kind == "LOT_SIZE"), "")
    return Steps(tick, lot)


def _request(verb: str, wanted: Subscription) -> bytes:
    stream = _STREAMS[wanted.channel]
    params = [f"{symbol.lower()}@{stream}" for symbol in wanted.symbols]
    return request(method=verb, params=params, id=1)
