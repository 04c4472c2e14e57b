"""Coinbase Advanced Trade: books, trades and the venue's top, proved by one sequence over the whole connection.

**Layout** (docs.cdp.coinbase.com, Advanced Trade WebSocket); every message is
    {"channel":..,"client_id":"","timestamp":..,"sequence_num":n,"events":[..]}   with events by channel
    l2_data        {"type":"snapshot"|"update","product_id",
                    "updates":[{"side":"bid"|"offer","event_time","price_level","new_quantity"}]}
    market_trades  {"type":..,"trades":[{"trade_id","product_id","price","size","side":"BUY"|"SELL","time"}]}
    ticker         {"type":..,"tickers":[{"product_id","best_bid","best_bid_quantity","best_ask","best_ask_quantity",..}]}
    heartbeats     {"current_time","heartbeat_counter"}      subscriptions  {"subscriptions":{channel:[product]}}
and, apart from the sequence, {"type":"error","message":..}. Quantities are absolute, 0 deletes; a delete of a level
that is not there is counted (`levels_absent`) and harmless.

**Choices** `sequence_num` counts every message of a connection, so that a hole may have held any product's data: every
instrument gets the GAP and every book is asked for again. A number of the past is dropped: DUPLICATE of the last
message, else LATE. Three numbers of the past that follow one another, with none of the present between, are a
sequence begun anew. `ts_event` of
a book is its last row's `event_time`. The side of a trade is the maker's (a recording's prints outside the
spread say so, all of them): it is inverted. Trades of a message come newest first and are published by id; an id that is
no number is published as 0. Updates of a product in several events of one message are one frame. A ticker is only held
against our book and counted.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, final

import msgspec

from collectors.decoder import BAD_FRAME, Subscription
from collectors.feed_decoder import EMPTY, FeedDecoder, only_one, request
from collectors.instruments import Steps
from shm.feed import BOTH_SIDES, miss
from shm.forms import Form, FormKind, FormRule, take_frame
from shm.outlet import DECODED, ENDS_FRAME, SNAPSHOT, WIDER, Reject

_UPDATE_ENDS = BOTH_SIDES | ENDS_FRAME
_UPDATE = BOTH_SIDES
_SNAPSHOT = BOTH_SIDES | SNAPSHOT
_TAKER_SIDES = {"BUY": -1, "SELL": 1}
_CHANNELS = {"book": "level2", "trade": "market_trades", "ticker": "ticker"}
_OTHER_CHANNELS = frozenset(
    {"candles", "status", "ticker_batch", "user", "futures_balance_summary", "subscriptions"}
)
_RESTART_RUN = 3
_LONGEST_ID = 18
_NO_ROWS = msgspec.Raw(b"[]")
_UNKNOWN = -1

_LAST_NUMBER = (1 << 62) - 1
_Number = Annotated[int, msgspec.Meta(ge=0, le=_LAST_NUMBER)]
_Type = Literal["snapshot", "update"]


@final
class _Level2Event(msgspec.Struct, gc=False):
    type: _Type
    product_id: str
    updates: msgspec.Raw


class _Level2(msgspec.Struct, gc=False, tag_field="channel", tag="l2_data"):
    sequence_num: _Number
    events: list[_Level2Event]


class _Trade(msgspec.Struct, gc=False):
    trade_id: str | int
    product_id: str
    price: msgspec.Raw
    size: msgspec.Raw
    side: Literal["BUY", "SELL"]
    time: msgspec.Raw


class _TradeEvent(msgspec.Struct, gc=False):
    type: _Type
    trades: list[_Trade]


class _Trades(msgspec.Struct, gc=False, tag_field="channel", tag="market_trades"):
    sequence_num: _Number
    events: list[_TradeEvent]


class _Top(msgspec.Struct, gc=False):
    product_id: str
    best_bid: msgspec.Raw = EMPTY
    best_bid_quantity: msgspec.Raw = EMPTY
    best_ask: msgspec.Raw = EMPTY
    best_ask_quantity: msgspec.Raw = EMPTY


class _TopEvent(msgspec.Struct, gc=False):
    tickers: list[_Top]


class _Ticker(msgspec.Struct, gc=False, tag_field="channel", tag="ticker"):
    sequence_num: _Number
    events: list[_TopEvent]


class _Heartbeat(msgspec.Struct, gc=False, tag_field="channel", tag="heartbeats"):
    sequence_num: _Number


class _Any(msgspec.Struct, gc=False):
    """Whatever else comes, as far as it says what it is."""

    channel: str = ""
    sequence_num: int = _UNKNOWN
    type: str = ""
    message: str = ""
    events: msgspec.Raw = EMPTY


class _Named(msgspec.Struct, gc=False):
    product_id: str


class _Product(msgspec.Struct, gc=False):
    product_id: str
    price_increment: str
    base_increment: str


class _Products(msgspec.Struct, gc=False):
    products: list[_Product]


_PRODUCTS_PATH = "/market/products"
_decode_products = msgspec.json.Decoder(_Products).decode
# Lax, so that trade ids, which come as text, are integers at once.
_decode_data = msgspec.json.Decoder(_Level2 | _Trades | _Ticker | _Heartbeat, strict=False).decode
_decode_any = msgspec.json.Decoder(_Any).decode
_decode_named = msgspec.json.Decoder(list[_Named]).decode


def _forms() -> Iterator[Form]:
    """Updates of one product and single trades, with and without the member that some connections add."""
    for client in (b"", b'"client_id":"",'):
        head = client + b'"timestamp":"%_","sequence_num":%l,"events":[{"type":"update",'
        yield Form(
            b'{"channel":"l2_data",' + head + b'"product_id":"%S","updates":%r}]}',
            FormKind.ROWS,
            FormRule.CONNECTION,
            BOTH_SIDES,
        )
        yield Form(
            b'{"channel":"market_trades",' + head + b'"trades":[{"product_id":"%S","trade_id":"%i",'
            b'"price":%p,"size":%q,"time":%t,"side":"%s"}]}]}',
            FormKind.TRADE,
            FormRule.CONNECTION,
            buy="SELL",
            sell="BUY",
        )


class CoinbaseAdvanced(FeedDecoder):
    """Coinbase Advanced Trade, channels `book`, `trade` and `ticker`; heartbeats are always asked for."""

    venue: ClassVar[str] = "coinbase"
    channels: ClassVar[frozenset[str]] = frozenset(_CHANNELS)
    url: str = "wss://advanced-trade-ws.coinbase.com"
    rest_url: str = "https://api.coinbase.com/api/v3/brokerage"
    forms: ClassVar[tuple[Form, ...]] = tuple(_forms())

    _expected = _UNKNOWN
    _late = (_UNKNOWN, _UNKNOWN)
    """The last number of the past, and what was expected then."""
    _late_run = 0

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        taken = take_frame(self.known.handle, frame, len(frame), self._expected, ts_recv)
        if taken >= 0:
            self._expected += 1
            return self._look(taken, ts_recv) if taken else DECODED
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        try:
            message = _decode_data(frame)
        except BAD_FRAME:
            return self._other(frame, ts_recv)
        number = message.sequence_num
        if number != self._expected:
            status = self._out_of_sequence(number, ts_recv)
            if status:
                return self.outlet.count(status)
        self._expected = number + 1
        if type(message) is not _Level2:
            return self._no_book(message, ts_recv)
        events = message.events
        if len(events) == 1 and events[0].type == "update":
            event = events[0]
            symbol = event.product_id
            line = self.instruments.get(symbol)
            if line is not None and line.has_book:
                rows = bytes(event.updates)
                return self._rows(symbol, line, _UPDATE_ENDS, rows, b"", b"", 0, number, ts_recv)
        return self._books(events, number, ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return request(type="subscribe", channel="heartbeats")

    def on_open(self, ts: int) -> None:
        """Ask for every subscription and for the heartbeats on a fresh connection, whose numbers begin anew."""
        super().on_open(ts)
        self.outbox.append(self.ping())
        self._expected = _UNKNOWN

    def on_close(self, ts: int) -> None:
        """The link is gone, and its numbers with it."""
        super().on_close(ts)
        self._expected = _UNKNOWN

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_request("subscribe", wanted)]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_request("unsubscribe", wanted)]

    def steps_urls(self) -> list[str]:
        """Return where the subscribed products are described, to anybody."""
        wanted = "&".join(f"product_ids={symbol}" for symbol in self.instruments)
        return [f"{self.rest_url}{_PRODUCTS_PATH}?{wanted}"]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        del ts
        if _PRODUCTS_PATH in url:
            found = _decode_products(body).products
            self._take_steps(
                {p.product_id: Steps(p.price_increment, p.base_increment) for p in found}
            )

    # ---- the sequence ----

    def _out_of_sequence(self, number: int, ts: int) -> int:
        """Judge a number that was not expected: a start, a hole (told, then go on), or the past (dropped)."""
        expected = self._expected
        if expected == _UNKNOWN:
            return DECODED
        if number == 0 and expected > 1:
            self.on_close(ts)
            return DECODED
        if number > expected:
            self._lose_all(expected, number - 1, ts)
            return DECODED
        follows = self._late == (number - 1, expected)
        self._late_run = self._late_run + 1 if follows else 1
        self._late = number, expected
        if self._late_run == _RESTART_RUN:
            self._lose_all(number, number, ts)
            return DECODED
        return Reject.DUPLICATE if number == expected - 1 else Reject.LATE

    def _lose_all(self, first: int, last: int, ts: int) -> None:
        """Tell every instrument of a hole; each book is asked for again."""
        for symbol, line in self.instruments.items():
            if line.has_book:
                self._gap(symbol, line, first, last, last - first + 1, ts)
            elif line.live.version:
                miss(line.live, first, last, last - first + 1, ts)

    # ---- books ----

    def _books(self, events: list[_Level2Event], number: int, ts: int) -> int:
        """Take snapshots and messages of several products; the first refusal is the frame's."""
        result = DECODED
        for event in _joined(events):
            line = self._book_line(event.product_id)
            if line is None:
                result = result or Reject.UNKNOWN_SYMBOL
                continue
            flags = _SNAPSHOT if event.type == "snapshot" else _UPDATE
            rows = bytes(event.updates)
            status = self._rows(event.product_id, line, flags, rows, b"", b"", 0, number, ts)
            result = result or status
        return self.outlet.count(result)

    # ---- everything else ----

    def _no_book(self, message: _Trades | _Ticker | _Heartbeat, ts: int) -> int:
        if type(message) is _Trades:
            for printed in message.events:
                if len(printed.trades) > 1:
                    printed.trades.reverse()
                    printed.trades.sort(key=_id_of)
            return self._trades(message.events, ts)
        if type(message) is _Ticker:
            for event in message.events:
                for top in event.tickers:
                    quantities = top.best_bid_quantity, top.best_ask_quantity
                    texts = (top.best_bid, quantities[0], top.best_ask, quantities[1])
                    self._hold_against(top.product_id, texts)
        return self._decoded()

    def _trades(self, events: list[_TradeEvent], ts: int) -> int:
        unknown = False
        for event in events:
            flags = SNAPSHOT if event.type == "snapshot" else 0
            for trade in event.trades:
                line = self._line(trade.product_id)
                if line is None:
                    unknown = True
                    continue
                side = _TAKER_SIDES[trade.side]
                texts = trade.price, trade.size, trade.time
                status = self._stage(line, flags, *texts, _id_of(trade), side, ts)
                if status == WIDER:
                    return self._trades(events, ts)
                if status:
                    return self._trades_failed(trade.product_id, line, status, ts)
        return self._publish_trades(unknown)

    def _other(self, frame: bytes, ts: int) -> int:
        """Take a message that carries no data of ours, or one that is broken."""
        try:
            message = _decode_any(frame)
        except BAD_FRAME:
            return self._broken(frame, ts)
        is_data = message.channel in ("l2_data", "market_trades", "ticker", "heartbeats")
        is_book = message.channel == "l2_data"
        symbol = _only_product(message.events) if is_book else None
        number = message.sequence_num
        if is_data and not is_book and number == self._expected:
            # What it lost is told without an instrument; no book has a part in it.
            self._expected = number + 1
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        if is_data and symbol not in self.instruments:
            # Its number stays open, so that the next message tells the hole to every instrument.
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        if 0 <= number <= _LAST_NUMBER:
            status = self._out_of_sequence(number, ts) if number != self._expected else DECODED
            if status:
                return self.outlet.count(status)
            self._expected = number + 1
        if is_data:
            return self._blame(symbol, is_book=True, ts=ts)
        if message.type == "error":
            self.notices.append(f"coinbase says: {message.message}")
            return self._decoded()
        if message.channel in _OTHER_CHANNELS:
            return self._decoded()
        if not message.channel and not message.type:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        return self._unknown_channel(ts)


def _id_of(trade: _Trade) -> int:
    """Return a trade's id as a number, 0 where it is none (futures)."""
    text = str(trade.trade_id)
    is_number = text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID
    return int(text) if is_number else 0


def _joined(events: list[_Level2Event]) -> list[_Level2Event]:
    """Put a product's updates of one message together: a book may cross within it, only its end counts."""
    parts: dict[int, list[bytes]] = {}
    joined: list[_Level2Event] = []
    last: dict[str, int] = {}
    for event in events:
        rows = bytes(event.updates).strip()
        if rows == b"null":
            event.updates, rows = _NO_ROWS, bytes(_NO_ROWS)
        at = last.get(event.product_id, -1)
        both_update = at >= 0 and joined[at].type == event.type == "update"
        if both_update and rows.startswith(b"[") and parts[at][0].startswith(b"["):
            parts[at].append(rows)
        else:
            last[event.product_id] = len(joined)
            parts[len(joined)] = [rows]
            joined.append(event)
    for at, texts in parts.items():
        if len(texts) > 1:
            inner = (text[1:-1].strip() for text in texts)
            joined[at].updates = msgspec.Raw(
                b"[" + b",".join(text for text in inner if text) + b"]"
            )
    return joined


def _only_product(events: msgspec.Raw) -> str | None:
    """Return the one product that a broken message's events name, None where that cannot be told."""
    try:
        return only_one(event.product_id for event in _decode_named(events))
    except BAD_FRAME:
        return None


def _request(verb: str, wanted: Subscription) -> bytes:
    return request(type=verb, product_ids=wanted.symbols, channel=_CHANNELS[wanted.channel])
