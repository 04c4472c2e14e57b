"""OKX v5: books proved by a signed CRC-32 and, where the venue sends it, a chain of sequence ids; trades.

**Layout** (okx.com/docs-v5)
    {"arg":{"channel":"books","instId"},"action":"snapshot"|"update",
     "data":[{"asks":[[price,qty,"0",orders]],"bids":[..],"ts":ms,"checksum":int32,"prevSeqId","seqId"}]}
    {"arg":{"channel":"trades","instId"},"data":[{"instId","tradeId","px","sz","side","ts"}]}
    {"event":"subscribe"|"unsubscribe"|"error"|"notice"|..,"arg","code","msg"}      pong (bare text)
Book channels are books, books-l2-tbt, books50-l2-tbt and books5; books5 sends snapshots without `action`.
The checksum covers the 25 best levels, bid and ask in turn, each "price:qty" as sent, all joined by colons
(native/live_feed.c): OKX leaves out zeros at the end, and the snapshot tells where it does not.

**Choices** `prevSeqId` must be the `seqId` before it; one that restates it with nothing changed is a heartbeat. Without
ids a frame that repeats the last byte for byte is a duplicate, and one with an older `ts` breaks the book. A
checksum of 0 beside ids is none (later feeds send it so). `trades` adds up the fills of a taker at a price, `trades-all` does
not: where a recording holds both, the one that comes first is published. `side` is the taker's: buys print at the ask.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

from collectors.allowance import Rate
from collectors.decoder import BAD_FRAME, Subscription
from collectors.feed_decoder import EMPTY, FeedDecoder, FeedLine, request
from collectors.instrument_line import InstrumentLine
from collectors.instruments import Instrument, Steps
from shm.feed import CHECKSUM_OKX
from shm.forms import Form, FormKind, take_frame
from shm.outlet import DECODED, SNAPSHOT, WIDER, Outlet, Reject

_TAKER_SIDES = {"buy": 1, "sell": -1}
_CHANNELS = {"book": "books", "trade": "trades"}
_BOOKS = frozenset({"books", "books-l2-tbt", "books50-l2-tbt", "books5"})
_TRADES = frozenset({"trades", "trades-all"})
_OTHER_CHANNELS = frozenset(
    {
        "adl-warning",
        "bbo-tbt",
        "block-tickers",
        "books-elp",
        "call-auction-details",
        "economic-calendar",
        "estimated-price",
        "funding-rate",
        "index-tickers",
        "instruments",
        "mark-price",
        "open-interest",
        "opt-summary",
        "option-trades",
        "price-limit",
        "status",
        "tickers",
    }
)
_OTHER_KINDS = (
    "account",
    "algo-",
    "balance_",
    "candle",
    "deposit-",
    "fills",
    "grid-",
    "index-candle",
    "liquidation-",
    "mark-price-candle",
    "orders",
    "positions",
    "public-",
    "rfqs",
    "sprd-",
    "withdrawal-",
)
"""Beginnings of channels that come in several sizes or are private."""
_UPGRADE = "64008"
"""Code of the notice that this link will be closed for an upgrade, and is to be opened anew."""
_NO_SEQ = -2
_FIRST = -1

_Seq = Annotated[int, msgspec.Meta(ge=_FIRST, le=(1 << 62) - 1)]


class _Arg(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = msgspec.field(name="instId", default="")


class _Entry(msgspec.Struct, gc=False):
    bids: msgspec.Raw
    asks: msgspec.Raw
    ts: msgspec.Raw
    checksum: Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)] | None = None
    previous: _Seq | None = msgspec.field(name="prevSeqId", default=None)
    seq: _Seq | None = msgspec.field(name="seqId", default=None)


class _Book(msgspec.Struct, gc=False):
    arg: _Arg
    data: list[_Entry]
    action: Literal["snapshot", "update"] = "snapshot"


class _Trade(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="instId")
    trade_id: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = msgspec.field(name="tradeId")
    px: msgspec.Raw
    sz: msgspec.Raw
    side: Literal["buy", "sell"]
    ts: msgspec.Raw


class _Trades(msgspec.Struct, gc=False):
    arg: _Arg
    data: list[_Trade]


class _Any(msgspec.Struct, gc=False):
    arg: _Arg = msgspec.field(default_factory=_Arg)
    event: str = ""
    code: str = ""
    msg: str = ""
    data: msgspec.Raw = EMPTY


_decode_book = msgspec.json.Decoder(_Book).decode
# Lax, so that trade ids, which come as text, are integers at once.
_decode_trades = msgspec.json.Decoder(_Trades, strict=False).decode
_decode_any = msgspec.json.Decoder(_Any).decode


class _Rules(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="instId")
    tick: str = msgspec.field(name="tickSz")
    lot: str = msgspec.field(name="lotSz")


class _RulesAnswer(msgspec.Struct, gc=False):
    data: list[_Rules]


_decode_rules = msgspec.json.Decoder(_RulesAnswer).decode
_RULES_PATH = "/api/v5/public/instruments"


class OkxLine(FeedLine):
    """An instrument whose frames may be unnumbered."""

    __slots__ = ("frame", "newest", "trade_channel")

    def __init__(self, instrument: Instrument, outlet: Outlet, index: int) -> None:
        super().__init__(instrument, outlet, index)
        self.seq = _NO_SEQ
        self.frame = b""
        """The last frame, where frames have no numbers."""
        self.newest = 0
        """Its time in ms."""
        self.trade_channel = ""
        """Which of the trade channels is published."""


class Okx(FeedDecoder):
    """OKX, channels `book` and `trade`."""

    venue: ClassVar[str] = "okx"
    channels: ClassVar[frozenset[str]] = frozenset(_CHANNELS)
    url: str = "wss://ws.okx.com:8443/ws/v5/public"
    rest_url: str = "https://www.okx.com"
    rest_rate: ClassVar[Rate] = Rate(per_s=5.0, burst=10.0)
    line_type: ClassVar[type[InstrumentLine]] = OkxLine
    instruments: dict[str, OkxLine]  # type: ignore[assignment]
    forms: ClassVar[tuple[Form, ...]] = tuple(
        Form(
            b'{"arg":{"channel":"trades","instId":"%_"},"data":[{"instId":"%S","tradeId":"%i","px":%p,'
            b'"sz":%q,"side":"%s","ts":%t' + rest + b"}]}",
            FormKind.TRADE,
            buy="buy",
            sell="sell",
        )
        for rest in (b"", b',"count":"%n"', b',"count":"%n","source":"%n","seqId":%n')
    )
    """One trade, as the venue wrote it over the years."""

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        taken = take_frame(self.known.handle, frame, len(frame), 0, ts_recv)
        if taken >= 0:
            return self._look(taken, ts_recv) if taken else DECODED
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        try:
            if b'"trades' in frame[:40]:
                return self._trades(_decode_trades(frame), ts_recv)
            message = _decode_book(frame)
        except BAD_FRAME:
            return self._other(frame, ts_recv)
        if message.arg.channel not in _BOOKS:
            return self._other(frame, ts_recv)
        return self._books(message, frame, ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return b"ping"

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    def steps_urls(self) -> list[str]:
        """Return where the rules of each instrument are; the form of its name tells the type."""
        path = f"{self.rest_url}{_RULES_PATH}?instType="
        return [f"{path}{_type_of(symbol)}&instId={symbol}" for symbol in self.instruments]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        del ts
        if _RULES_PATH in url:
            self._take_steps({r.symbol: Steps(r.tick, r.lot) for r in _decode_rules(body).data})

    # ---- books ----

    def _books(self, message: _Book, frame: bytes, ts: int) -> int:
        symbol, channel = message.arg.symbol, message.arg.channel
        if self._book_line(symbol) is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        line = self.instruments[symbol]
        if line.book_channel in ("", "books5"):
            line.book_channel = channel
        if line.book_channel != channel:
            return self._decoded()
        result = DECODED
        for entry in message.data:
            status = self._entry(symbol, line, entry, message.action == "snapshot", frame, ts)
            result = result or status
        return self.outlet.count(result)

    def _entry(
        self, symbol: str, line: OkxLine, entry: _Entry, is_snapshot: bool, frame: bytes, ts: int
    ) -> int:
        if not is_snapshot and line.live.is_valid:
            if entry.seq is None or entry.previous is None:
                status = self._judge_unnumbered(symbol, line, entry, frame, ts)
            else:
                status = self._judge(symbol, line, entry.previous, entry.seq, ts)
            if status:
                return status
        seq = _NO_SEQ if entry.seq is None else entry.seq
        has_checksum = entry.checksum is not None and (entry.checksum != 0 or entry.seq is None)
        flags = (SNAPSHOT if is_snapshot else 0) | (CHECKSUM_OKX if has_checksum else 0)
        bids, asks, time = bytes(entry.bids), bytes(entry.asks), bytes(entry.ts)
        status = self._rows(
            symbol, line, flags, bids, asks, time, entry.checksum or 0, max(seq, 0), ts
        )
        line.seq = _NO_SEQ if status else seq
        if entry.seq is None:
            line.frame, line.newest = frame, _number_of(entry.ts)
        return status

    def _judge(self, symbol: str, line: OkxLine, previous: int, seq: int, ts: int) -> int:
        """Hold a frame's ids against the chain."""
        if line.seq in (previous, _NO_SEQ):
            return DECODED
        if seq <= line.seq:
            return Reject.DUPLICATE if seq == line.seq else Reject.LATE
        self._gap(symbol, line, line.seq + 1, previous, 1, ts)
        return DECODED

    def _judge_unnumbered(
        self, symbol: str, line: OkxLine, entry: _Entry, frame: bytes, ts: int
    ) -> int:
        if frame == line.frame:
            return Reject.DUPLICATE
        if _number_of(entry.ts) < line.newest:
            self._suspect(symbol, line, ts)
            return Reject.LATE
        return DECODED

    def _gap(self, symbol: str, line: FeedLine, first: int, last: int, lost: int, ts: int) -> None:
        super()._gap(symbol, line, first, last, lost, ts)
        line.seq = _NO_SEQ

    # ---- trades, and everything else ----

    def _trades(self, message: _Trades, ts: int) -> int:
        channel = message.arg.channel
        if channel not in _TRADES:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        unknown = False
        for trade in message.data:
            if self._line(trade.symbol) is None:
                unknown = True
                continue
            line = self.instruments[trade.symbol]
            line.trade_channel = line.trade_channel or channel
            if line.trade_channel != channel:
                continue
            side = _TAKER_SIDES[trade.side]
            status = self._stage(line, 0, trade.px, trade.sz, trade.ts, trade.trade_id, side, ts)
            if status == WIDER:
                return self._trades(message, ts)
            if status:
                return self._trades_failed(trade.symbol, line, status, ts)
        return self._publish_trades(unknown)

    def _other(self, frame: bytes, ts: int) -> int:
        if frame == b"pong":
            return self._decoded()
        try:
            message = _decode_any(frame)
        except BAD_FRAME:
            return self._broken(frame, ts)
        if message.event:
            if message.event == "error":
                self.notices.append(f"okx says: {message.msg} ({message.code})")
            elif message.event == "notice":
                take = self._announced if message.code == _UPGRADE else self.notices.append
                take(f"okx announces: {message.msg} ({message.code})")
            elif message.event == "unsubscribe" and message.arg.channel in _BOOKS:
                self._acknowledged(message.arg.symbol, False, "", ts)
            return self._decoded()
        channel = message.arg.channel
        if channel in _BOOKS or channel in _TRADES:
            return self._blame(message.arg.symbol, is_book=channel in _BOOKS, ts=ts)
        if channel in _OTHER_CHANNELS or channel.startswith(_OTHER_KINDS):
            return self._decoded()
        if not channel:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        return self._unknown_channel(ts)


def _number_of(raw: msgspec.Raw) -> int:
    text = bytes(raw).strip(b'"')
    return int(text) if text.isdigit() else 0


def _type_of(symbol: str) -> str:
    """Return the instrument type that a name like BTC-USDT, BTC-USDT-SWAP, BTC-USD-261225 or ..-100000-C has."""
    parts = symbol.split("-")
    if len(parts) < 3:
        return "SPOT"
    if parts[-1] == "SWAP":
        return "SWAP"
    # Options cannot be asked for without their underlying.
    return "FUTURES" if len(parts) == 3 else f"OPTION&uly={parts[0]}-{parts[1]}"


def _request(verb: str, wanted: Subscription) -> bytes:
    channel = _CHANNELS[wanted.channel]
    return request(op=verb, args=[{"channel": channel, "instId": s} for s in wanted.symbols])
