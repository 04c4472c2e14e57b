"""Kraken futures v1: books of one level a message, numbered per product; trades; the venue's top as oracle.

**Layout** (docs.kraken.com, futures WebSocket); numbers are JSON numbers
    {"feed":"book_snapshot","product_id","timestamp":ms,"seq","bids":[{"price","qty"}],"asks":[..]}
    {"feed":"book","product_id","side":"buy"|"sell","seq","price","qty","timestamp"}      qty 0 deletes
    {"feed":"trade","product_id","uid","side","type","seq","time":ms,"qty","price"}
    {"feed":"trade_snapshot","product_id","trades":[..]}      newest first
    {"feed":"ticker"|"ticker_lite","product_id","bid","ask","bid_size","ask_size",..}   {"feed":"heartbeat","time"}
    {"event":"info"|"subscribed"|"unsubscribed"|"error"|"alert"|..}

**Choices** `seq` of a book rises by 1 per product. Trades have numbers of their own which may skip: they are the trade
ids, and only a repeat is told by them. `side` of a trade is the taker's (docs).
"""

from typing import Annotated, ClassVar, Literal, final

import msgspec

from collectors.decoder import BAD_FRAME, Subscription
from collectors.feed_decoder import EMPTY, FeedDecoder, request, text_of
from collectors.instruments import Steps
from shm.feed import BOTH_SIDES
from shm.forms import Form, FormKind, FormRule, take_frame
from shm.outlet import DECODED, ENDS_FRAME, SNAPSHOT, WIDER, Reject

_UPDATE = ENDS_FRAME | BOTH_SIDES
_TAKER_SIDES = {"buy": 1, "sell": -1}
_FEEDS = {"book": "book", "trade": "trade", "ticker": "ticker"}
_OTHER_FEEDS = frozenset({"heartbeat", "challenge"})
_PRIVATE_FEEDS = (
    "account_",
    "balances",
    "fills",
    "notifications_",
    "open_orders",
    "open_positions",
)
_DATA_FEEDS = frozenset({"book", "book_snapshot", "trade", "trade_snapshot"})

_Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]
_Side = Literal["buy", "sell"]


@final
class _Level(msgspec.Struct, gc=False, tag_field="feed", tag="book"):
    product_id: str
    seq: _Seq
    timestamp: msgspec.Raw
    side: _Side


class _Snapshot(msgspec.Struct, gc=False, tag_field="feed", tag="book_snapshot"):
    product_id: str
    seq: _Seq
    timestamp: msgspec.Raw
    bids: msgspec.Raw
    asks: msgspec.Raw


class _Trade(msgspec.Struct, gc=False, tag_field="feed", tag="trade"):
    product_id: str
    side: _Side
    seq: _Seq
    time: msgspec.Raw
    qty: msgspec.Raw
    price: msgspec.Raw


class _Trades(msgspec.Struct, gc=False, tag_field="feed", tag="trade_snapshot"):
    product_id: str
    trades: list[_Trade]


class _Ticker(msgspec.Struct, gc=False, tag_field="feed", tag="ticker"):
    product_id: str
    bid: msgspec.Raw = EMPTY
    ask: msgspec.Raw = EMPTY
    bid_size: msgspec.Raw = EMPTY
    ask_size: msgspec.Raw = EMPTY


class _TickerLite(msgspec.Struct, gc=False, tag_field="feed", tag="ticker_lite"):
    product_id: str
    bid: msgspec.Raw = EMPTY
    ask: msgspec.Raw = EMPTY


class _Any(msgspec.Struct, gc=False):
    feed: str = ""
    event: str = ""
    message: str = ""
    product_id: str = ""
    product_ids: list[str] = msgspec.field(default_factory=list)


_decode_data = msgspec.json.Decoder(
    _Level | _Snapshot | _Trade | _Trades | _Ticker | _TickerLite
).decode
_decode_any = msgspec.json.Decoder(_Any).decode


class _Rules(msgspec.Struct, gc=False):
    symbol: str
    tick: msgspec.Raw = msgspec.field(name="tickSize", default=EMPTY)
    lot: int = msgspec.field(name="contractValueTradePrecision", default=0)


class _RulesAnswer(msgspec.Struct, gc=False):
    instruments: list[_Rules]


_decode_rules = msgspec.json.Decoder(_RulesAnswer).decode
_RULES_PATH = "/instruments"


class KrakenFutures(FeedDecoder):
    """Kraken futures, channels `book`, `trade` and `ticker`."""

    venue: ClassVar[str] = "kraken_futures"
    channels: ClassVar[frozenset[str]] = frozenset(_FEEDS)
    url: str = "wss://futures.kraken.com/ws/v1"
    rest_url: str = "https://futures.kraken.com/derivatives/api/v3"
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            b'{"feed":"book","product_id":"%S","side":"%s","seq":%l,"price":%p,"qty":%q,"timestamp":%t}',
            FormKind.LEVEL,
            FormRule.NEXT,
            buy="buy",
            sell="sell",
        ),
        Form(
            b'{"feed":"trade","product_id":"%S","uid":"%_","side":"%s","type":"fill","seq":%i,"time":%t,'
            b'"qty":%q,"price":%p}',
            FormKind.TRADE,
            buy="buy",
            sell="sell",
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
        if type(message) is _Level:
            return self._level(message, frame, ts_recv)
        if type(message) is _Snapshot:
            return self._snapshot(message, ts_recv)
        if type(message) is _Trade:
            return self._trades(message.product_id, [message], 0, ts_recv)
        if type(message) is _Trades:
            trades = sorted(message.trades, key=_by_number)
            return self._trades(message.product_id, trades, SNAPSHOT, ts_recv)
        if type(message) is _Ticker:
            texts = (message.bid, message.bid_size, message.ask, message.ask_size)
            self._hold_against(message.product_id, texts)
        elif type(message) is _TickerLite:
            self._hold_against(message.product_id, (message.bid, EMPTY, message.ask, EMPTY))
        return self._decoded()

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return request(event="subscribe", feed="heartbeat")

    def on_open(self, ts: int) -> None:
        """Ask for every subscription and for the heartbeat."""
        super().on_open(ts)
        self.outbox.append(self.ping())

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    def steps_urls(self) -> list[str]:
        """Return where all products are described."""
        return [self.rest_url + _RULES_PATH]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        del ts
        if url.endswith(_RULES_PATH):
            listed = _decode_rules(body).instruments
            self._take_steps({r.symbol: Steps(text_of(r.tick), f"1e{-r.lot}") for r in listed})

    # ---- books ----

    def _level(self, message: _Level, frame: bytes, ts: int) -> int:
        symbol, number = message.product_id, message.seq
        line = self._book_line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        if number != line.seq + 1 and line.live.is_valid:
            if number <= line.seq:
                late = Reject.DUPLICATE if number == line.seq else Reject.LATE
                return self.outlet.count(late)
            self._gap(symbol, line, line.seq + 1, number - 1, number - line.seq - 1, ts)
        # The message is itself a row that names its side.
        rows = b"[%b]" % frame
        return self._rows(symbol, line, _UPDATE, rows, b"", bytes(message.timestamp), 0, number, ts)

    def _snapshot(self, message: _Snapshot, ts: int) -> int:
        symbol = message.product_id
        line = self._book_line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        bids, asks, time = bytes(message.bids), bytes(message.asks), bytes(message.timestamp)
        flags = SNAPSHOT | ENDS_FRAME
        return self._rows(symbol, line, flags, bids, asks, time, 0, message.seq, ts)

    # ---- trades, and everything else ----

    def _trades(self, symbol: str, trades: list[_Trade], flags: int, ts: int) -> int:
        line = self._line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        for trade in trades:
            side = _TAKER_SIDES[trade.side]
            status = self._stage(
                line, flags, trade.price, trade.qty, trade.time, trade.seq, side, ts
            )
            if status == WIDER:
                return self._trades(symbol, trades, flags, ts)
            if status:
                return self._trades_failed(symbol, line, status, ts)
        return self._publish_trades()

    def _other(self, frame: bytes, ts: int) -> int:
        try:
            message = _decode_any(frame)
        except BAD_FRAME:
            return self._broken(frame, ts)
        if message.event:
            if message.event in ("error", "alert", "subscribed_failed"):
                self.notices.append(f"kraken futures says {message.event}: {message.message}")
            elif message.event == "unsubscribed" and message.feed == "book":
                for symbol in message.product_ids:
                    self._acknowledged(symbol, False, "", ts)
            return self._decoded()
        if message.feed in _DATA_FEEDS:
            return self._blame(message.product_id, "book" in message.feed, ts)
        if message.feed in _OTHER_FEEDS or message.feed.startswith(_PRIVATE_FEEDS):
            return self._decoded()
        if not message.feed or message.feed.startswith("ticker"):
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        return self._unknown_channel(ts)


def _by_number(trade: _Trade) -> int:
    return trade.seq


def _request(verb: str, wanted: Subscription) -> bytes:
    return request(event=verb, feed=_FEEDS[wanted.channel], product_ids=wanted.symbols)
