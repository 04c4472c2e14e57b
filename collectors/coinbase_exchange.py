"""Coinbase Exchange: level2 books, matches whose ids have no holes, the ticker's top as oracle.

**Layout** (docs.cdp.coinbase.com, Exchange WebSocket feed)
    {"type":"snapshot","product_id","bids":[[price,qty]],"asks":[..]}
    {"type":"l2update","product_id","changes":[["buy"|"sell",price,qty]],"time"}      qty 0 deletes
    {"type":"match"|"last_match","trade_id","product_id","side","size","price","time","sequence"}
    {"type":"ticker","product_id","best_bid","best_ask",["best_bid_size","best_ask_size"],"trade_id",..}
    {"type":"heartbeat"|"subscriptions"|"error"|"status",..}

**Choices** Books have no numbers: a repeat of the last update byte for byte is a duplicate, one with an older `time`
came too late and breaks the book, and a lost one shows only by a book that crosses. `trade_id` rises by 1 per
product: a hole is a GAP that leaves the book alone. `last_match`, sent on subscribing, is an old trade and marked so.
`side` is the maker's (docs): it is inverted.
"""

from typing import Annotated, ClassVar, Literal, final

import msgspec

from collectors.decoder import BAD_FRAME, Subscription
from collectors.feed_decoder import EMPTY, FeedDecoder, request
from collectors.instruments import Steps
from shm.feed import BOTH_SIDES, miss
from shm.forms import Form, FormKind, FormRule, take_frame
from shm.outlet import DECODED, ENDS_FRAME, SNAPSHOT, WIDER, Reject

_UPDATE = BOTH_SIDES | ENDS_FRAME
_TAKER_SIDES = {"buy": -1, "sell": 1}
_CHANNELS = {"book": "level2_batch", "trade": "matches", "ticker": "ticker"}
_BOOK_TYPES = frozenset({"snapshot", "l2update"})
_TRADE_TYPES = frozenset({"match", "last_match"})
_OTHER_TYPES = frozenset(
    {
        "activate",
        "auction",
        "balance",
        "change",
        "done",
        "heartbeat",
        "open",
        "received",
        "rfq_match",
        "status",
        "subscriptions",
        "ticker",
    }
)


@final
class _Update(msgspec.Struct, gc=False, tag_field="type", tag="l2update"):
    product_id: str
    changes: msgspec.Raw
    time: msgspec.Raw = EMPTY


class _Snapshot(msgspec.Struct, gc=False, tag_field="type", tag="snapshot"):
    product_id: str
    bids: msgspec.Raw
    asks: msgspec.Raw
    time: msgspec.Raw = EMPTY


class _Match(msgspec.Struct, gc=False, tag_field="type", tag="match"):
    product_id: str
    trade_id: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    side: Literal["buy", "sell"]
    size: msgspec.Raw
    price: msgspec.Raw
    time: msgspec.Raw


class _LastMatch(msgspec.Struct, gc=False, tag_field="type", tag="last_match"):
    product_id: str
    trade_id: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    side: Literal["buy", "sell"]
    size: msgspec.Raw
    price: msgspec.Raw
    time: msgspec.Raw


class _Ticker(msgspec.Struct, gc=False, tag_field="type", tag="ticker"):
    product_id: str
    best_bid: msgspec.Raw = EMPTY
    best_ask: msgspec.Raw = EMPTY
    best_bid_size: msgspec.Raw = EMPTY
    best_ask_size: msgspec.Raw = EMPTY


class _Any(msgspec.Struct, gc=False):
    type: str = ""
    product_id: str = ""
    message: str = ""
    reason: str = ""


_decode_data = msgspec.json.Decoder(_Update | _Snapshot | _Match | _LastMatch | _Ticker).decode
_decode_any = msgspec.json.Decoder(_Any).decode


class _Product(msgspec.Struct, gc=False):
    id: str
    base_increment: str
    quote_increment: str


_decode_products = msgspec.json.Decoder(list[_Product]).decode
_PRODUCTS_PATH = "/products"


class CoinbaseExchange(FeedDecoder):
    """Coinbase Exchange, channels `book`, `trade` and `ticker`."""

    venue: ClassVar[str] = "coinbase_exchange"
    channels: ClassVar[frozenset[str]] = frozenset(_CHANNELS)
    url: str = "wss://ws-feed.exchange.coinbase.com"
    rest_url: str = "https://api.exchange.coinbase.com"
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            b'{"type":"l2update","product_id":"%S","changes":%r,"time":%t}',
            FormKind.ROWS,
            FormRule.NEWER,
            BOTH_SIDES,
        ),
        Form(
            b'{"type":"match","trade_id":%i,"maker_order_id":"%_","taker_order_id":"%_","side":"%s",'
            b'"size":%q,"price":%p,"product_id":"%S","sequence":%n,"time":%t}',
            FormKind.TRADE,
            FormRule.NEXT_ID,
            buy="sell",
            sell="buy",
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
        if type(message) is _Update:
            return self._update(message, frame, ts_recv)
        if type(message) is _Snapshot:
            return self._snapshot(message, ts_recv)
        if type(message) is _Ticker:
            quantities = message.best_bid_size, message.best_ask_size
            texts = (message.best_bid, quantities[0], message.best_ask, quantities[1])
            self._hold_against(message.product_id, texts)
            return self._decoded()
        return self._match(message, ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return request(type="subscribe", channels=["status"])

    def on_open(self, ts: int) -> None:
        """Ask for every subscription and for the heartbeats of its products."""
        super().on_open(ts)
        symbols = tuple(self.instruments)
        self.outbox.append(request(type="subscribe", product_ids=symbols, channels=["heartbeat"]))

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    def steps_urls(self) -> list[str]:
        """Return where all products are described."""
        return [self.rest_url + _PRODUCTS_PATH]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        del ts
        if url.endswith(_PRODUCTS_PATH):
            listed = _decode_products(body)
            self._take_steps({p.id: Steps(p.quote_increment, p.base_increment) for p in listed})

    # ---- books ----

    def _update(self, message: _Update, frame: bytes, ts: int) -> int:
        symbol = message.product_id
        if self._book_line(symbol) is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        line = self.instruments[symbol]
        time = bytes(message.time)
        if line.live.is_valid:
            newest, newest_time = self.known.kept(line.place)
            if frame == newest:
                return self.outlet.count(Reject.DUPLICATE)
            # Times are texts of one form, so that they compare as text.
            if len(time) == len(newest_time) and time < newest_time:
                self._suspect(symbol, line, ts)
                return self.outlet.count(Reject.LATE)
        self.known.keep(line.place, frame, time)
        rows = bytes(message.changes)
        return self._rows(symbol, line, _UPDATE, rows, b"", time, 0, 0, ts)

    def _snapshot(self, message: _Snapshot, ts: int) -> int:
        symbol = message.product_id
        if self._book_line(symbol) is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        line = self.instruments[symbol]
        self.known.keep(line.place, b"", b"")
        bids, asks, time = bytes(message.bids), bytes(message.asks), bytes(message.time)
        return self._rows(symbol, line, SNAPSHOT | ENDS_FRAME, bids, asks, time, 0, 0, ts)

    # ---- trades, and everything else ----

    def _match(self, message: _Match | _LastMatch, ts: int) -> int:
        symbol, number = message.product_id, message.trade_id
        line = self._line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        last = line.live.last_trade_id
        flags = 0 if type(message) is _Match else SNAPSHOT
        side = _TAKER_SIDES[message.side]
        texts = message.price, message.size, message.time
        status = self._stage(line, flags, *texts, number, side, ts)
        if status == WIDER:
            return self._match(message, ts)
        if status:
            return self._trades_failed(symbol, line, status, ts)
        if last and number > last + 1:
            self.outlet.abandon()
            miss(line.live, last + 1, number - 1, number - last - 1, ts)
            self._stage(line, flags, *texts, number, side, ts)
        elif last and number <= last and not flags:
            self.outlet.commit()
            return self.outlet.count(Reject.DUPLICATE if number == last else Reject.LATE)
        return self._publish_trades()

    def _other(self, frame: bytes, ts: int) -> int:
        try:
            message = _decode_any(frame)
        except BAD_FRAME:
            self._suspect_all(ts)
            return self._broken(frame, ts)
        if message.type == "error":
            self.notices.append(f"coinbase says: {message.message} {message.reason}".strip())
            return self._decoded()
        if message.type in _BOOK_TYPES or message.type in _TRADE_TYPES:
            is_book = message.type in _BOOK_TYPES
            if is_book and message.product_id not in self.instruments:
                self._suspect_all(ts)
            return self._blame(message.product_id, is_book, ts)
        if message.type in _OTHER_TYPES:
            return self._decoded()
        if not message.type:
            self._suspect_all(ts)
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        return self._unknown_channel(ts)


def _request(verb: str, wanted: Subscription) -> bytes:
    channels = [_CHANNELS[wanted.channel]]
    return request(type=verb, product_ids=wanted.symbols, channels=channels)
