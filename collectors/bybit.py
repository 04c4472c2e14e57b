"""Bybit v5: books whose update ids follow one another, trades, the venue's tops left aside.

**Layout** (bybit-exchange.github.io/docs/v5)
    {"topic":"orderbook.DEPTH.SYMBOL","type":"snapshot"|"delta","ts":ms,
     "data":{"s","b":[[price,qty]],"a":[..],"u":update id,"seq"},"cts":ms of the matching}
    {"topic":"publicTrade.SYMBOL","type":"snapshot","ts","data":[{"T":ms,"s","S":"Buy"|"Sell","v":qty,"p","i":id}]}
    {"success":bool,"ret_msg","op","req_id"}    {"op":"pong",..}
Quantities are absolute, 0 deletes.

**Choices** Each delta's `u` is the one before plus 1; a snapshot replaces the book whatever its `u` (after a restart
of the venue it is 1). Of several depths of a symbol the deepest is the book, others are left aside. `S` is the
taker's side. Trade ids are published where they are numbers (spot, 19 digits, one more for each trade of a symbol);
elsewhere they are random and 0 is published.
"""

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from collectors.allowance import Rate
from collectors.decoder import BAD_FRAME, Subscription
from collectors.feed_decoder import EMPTY, FeedDecoder, request
from collectors.instruments import Steps
from shm.outlet import ENDS_FRAME, SNAPSHOT, WIDER, Reject

_TAKER_SIDES = {"Buy": 1, "Sell": -1}
_TOPICS = {"book": "orderbook", "trade": "publicTrade"}
_OTHER_TOPICS = frozenset(
    {
        "adlAlert",
        "allLiquidation",
        "insurance",
        "kline",
        "kline_lt",
        "liquidation",
        "lt",
        "priceLimit",
        "system",
        "tickers",
        "tickers_lt",
    }
)
_LONGEST_ID, _LAST_ID = 19, (1 << 63) - 1
_ANSWER = "COMMAND_RESP"
"""Type of the answers of options, which name no `op`."""
_PRIVATE_TOPICS = ("dcp", "execution", "greeks", "order", "position", "wallet")


class _Levels(msgspec.Struct, gc=False):
    s: str
    b: msgspec.Raw
    a: msgspec.Raw
    u: Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]


class _Book(msgspec.Struct, gc=False):
    topic: str
    type: Literal["snapshot", "delta"]
    data: _Levels
    ts: msgspec.Raw
    cts: msgspec.Raw = EMPTY


class _Trade(msgspec.Struct, gc=False):
    s: str
    S: Literal["Buy", "Sell"]
    v: msgspec.Raw
    p: msgspec.Raw
    T: msgspec.Raw
    i: str


class _Trades(msgspec.Struct, gc=False):
    topic: str
    data: list[_Trade]


class _Any(msgspec.Struct, gc=False):
    topic: str = ""
    op: str = ""
    success: bool = True
    ret_msg: str = ""
    type: str = ""
    data: msgspec.Raw = EMPTY


_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trades = msgspec.json.Decoder(_Trades).decode
_decode_any = msgspec.json.Decoder(_Any).decode


class _PriceRule(msgspec.Struct, gc=False):
    tick: str = msgspec.field(name="tickSize")


class _QtyRule(msgspec.Struct, gc=False):
    spot: str = msgspec.field(name="basePrecision", default="")
    step: str = msgspec.field(name="qtyStep", default="")


class _Rules(msgspec.Struct, gc=False):
    symbol: str
    price: _PriceRule = msgspec.field(name="priceFilter")
    qty: _QtyRule = msgspec.field(name="lotSizeFilter")


class _RulesList(msgspec.Struct, gc=False):
    list: list[_Rules]


class _RulesAnswer(msgspec.Struct, gc=False):
    result: _RulesList


_decode_rules = msgspec.json.Decoder(_RulesAnswer).decode
_RULES_PATH = "/v5/market/instruments-info"


class Bybit(FeedDecoder):
    """Bybit, channels `book` and `trade`; one connection is one category (spot, linear, inverse, option)."""

    venue: ClassVar[str] = "bybit"
    channels: ClassVar[frozenset[str]] = frozenset(_TOPICS)
    depths: ClassVar[frozenset[int]] = frozenset({0, 1, 25, 50, 100, 200, 500, 1000})
    default_depth: ClassVar[int] = 200
    url: str = "wss://stream.bybit.com/v5/public/spot"
    rest_url: str = "https://api.bybit.com"
    rest_rate: ClassVar[Rate] = Rate(per_s=5.0, burst=10.0)

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        try:
            if frame.find(b"publicTrade.", 0, 64) > 0:
                return self._trades(_decode_trades(frame), ts_recv)
            message = _decode_book(frame)
        except BAD_FRAME:
            return self._other(frame, ts_recv)
        channel = message.topic.rpartition(".")[0]
        if not channel.startswith("orderbook."):
            return self._other(frame, ts_recv)
        return self._book(message, channel, ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return b'{"op":"ping"}'

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    def steps_urls(self) -> list[str]:
        """Return where the rules of each instrument are; the address names the category, as the connection's does."""
        category = urlsplit(self.url).path.rpartition("/")[2]
        path = f"{self.rest_url}{_RULES_PATH}?category={category}"
        return [f"{path}&symbol={symbol}" for symbol in self.instruments]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        del ts
        if _RULES_PATH in url:
            self._take_steps({r.symbol: _steps(r) for r in _decode_rules(body).result.list})

    # ---- books ----

    def _book(self, message: _Book, channel: str, ts: int) -> int:
        data = message.data
        symbol, number = data.s, data.u
        line = self._book_line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        is_snapshot = message.type == "snapshot"
        if line.book_channel != channel:
            is_deeper = is_snapshot and _depth_of(channel) > _depth_of(line.book_channel)
            if line.book_channel and not is_deeper:
                return self._decoded()
            line.book_channel = channel
        if not is_snapshot and line.live.is_valid and number != line.seq + 1:
            if number <= line.seq:
                late = Reject.DUPLICATE if number == line.seq else Reject.LATE
                return self.outlet.count(late)
            self._gap(symbol, line, line.seq + 1, number - 1, number - line.seq - 1, ts)
        flags = ENDS_FRAME | (SNAPSHOT if is_snapshot else 0)
        time = bytes(message.cts or message.ts)
        return self._rows(symbol, line, flags, bytes(data.b), bytes(data.a), time, 0, number, ts)

    # ---- trades, and everything else ----

    def _trades(self, message: _Trades, ts: int) -> int:
        unknown = False
        for trade in message.data:
            line = self._line(trade.s)
            if line is None:
                unknown = True
                continue
            trade_id = _number_of(trade.i)
            side = _TAKER_SIDES[trade.S]
            status = self._stage(line, 0, trade.p, trade.v, trade.T, trade_id, side, ts)
            if status == WIDER:
                return self._trades(message, ts)
            if status:
                return self._trades_failed(trade.s, line, status, ts)
        return self._publish_trades(unknown)

    def _other(self, frame: bytes, ts: int) -> int:
        try:
            message = _decode_any(frame)
        except BAD_FRAME:
            return self._broken(frame, ts)
        name, _, rest = message.topic.partition(".")
        if name in ("orderbook", "publicTrade") and not rest.startswith("rpi."):
            return self._blame(rest.rpartition(".")[2], is_book=name == "orderbook", ts=ts)
        if name in _OTHER_TOPICS or name in _PRIVATE_TOPICS or rest.startswith("rpi."):
            return self._decoded()
        if name:
            return self._unknown_channel(ts)
        if not message.op and message.type != _ANSWER:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        if not message.success:
            told = message.ret_msg or bytes(message.data).decode(errors="replace")
            self.notices.append(f"bybit refuses {message.op!r}: {told}")
        return self._decoded()


def _depth_of(channel: str) -> int:
    """Return N of "orderbook.N", 0 where there is none."""
    text = channel.rpartition(".")[2]
    return int(text) if text.isdecimal() else 0


def _number_of(trade_id: str) -> int:
    """Return an id as a number, 0 where it is none."""
    is_number = trade_id.isascii() and trade_id.isdigit() and len(trade_id) <= _LONGEST_ID
    number = int(trade_id) if is_number else 0
    return number if number <= _LAST_ID else 0


def _steps(rules: _Rules) -> Steps:
    return Steps(rules.price.tick, rules.qty.step or rules.qty.spot)


def _request(verb: str, wanted: Subscription) -> bytes:
    topic = _TOPICS[wanted.channel]
    if wanted.channel == "book":
        topic += f".{wanted.depth or Bybit.default_depth}"
    return request(op=verb, args=[f"{topic}.{symbol}" for symbol in wanted.symbols])
