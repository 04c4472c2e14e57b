"""Deribit: books whose changes name the change before, trades, the ticker's top as oracle.

**Layout** (docs.deribit.com, JSON-RPC over WebSocket); numbers are JSON numbers
    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.NAME.raw","data":
        {"type":"snapshot"|"change","timestamp":ms,"instrument_name","change_id","prev_change_id",
         "bids":[["new"|"change"|"delete",price,amount]],"asks":[..]}}}
    book.NAME.GROUP.DEPTH.INTERVAL: the same without type, rows [price,amount]: each message is the whole book
    trades.NAME.raw: data is a list of {"trade_seq","trade_id","timestamp","price","amount","direction","instrument_name"}
    ticker.NAME.raw: data {"instrument_name","best_bid_price","best_bid_amount","best_ask_price","best_ask_amount"}
    {"method":"heartbeat","params":{"type":"heartbeat"|"test_request"}}   {"id","result"}   {"id","error":{"code","message"}}

**Choices** A change's `prev_change_id` must be the `change_id` before it. `trade_seq`, which counts an instrument's
trades, is the trade id: `trade_id` is text of another form in each currency. `direction` is the taker's (docs). A
test_request is answered at once, or the venue cuts the link.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

from collectors.allowance import Rate
from collectors.decoder import BAD_FRAME, Subscription
from collectors.feed_decoder import EMPTY, FeedDecoder, request, text_of
from collectors.instruments import Steps
from shm.outlet import ENDS_FRAME, SNAPSHOT, WIDER, Reject

_TAKER_SIDES = {"buy": 1, "sell": -1}
_CHANNELS = {"book": "book", "trade": "trades", "ticker": "ticker"}
_DATA_CHANNELS = ("book", "trades", "ticker", "incremental_ticker")
_HEARTBEAT_S = 10

_Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]


class _Book(msgspec.Struct, gc=False):
    instrument_name: str
    change_id: _Id
    timestamp: msgspec.Raw
    bids: msgspec.Raw
    asks: msgspec.Raw
    type: Literal["snapshot", "change"] = "snapshot"
    prev_change_id: _Id = 0


class _Trade(msgspec.Struct, gc=False):
    instrument_name: str
    trade_seq: _Id
    timestamp: msgspec.Raw
    price: msgspec.Raw
    amount: msgspec.Raw
    direction: Literal["buy", "sell"]


class _Ticker(msgspec.Struct, gc=False):
    instrument_name: str
    best_bid_price: msgspec.Raw = EMPTY
    best_bid_amount: msgspec.Raw = EMPTY
    best_ask_price: msgspec.Raw = EMPTY
    best_ask_amount: msgspec.Raw = EMPTY


class _Params(msgspec.Struct, gc=False):
    channel: str = ""
    data: msgspec.Raw = EMPTY
    type: str = ""


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


class _Message(msgspec.Struct, gc=False):
    method: str = ""
    params: _Params = msgspec.field(default_factory=_Params)
    id: int | str | None = None
    result: msgspec.Raw = EMPTY
    error: _Error | None = None


class _Named(msgspec.Struct, gc=False):
    instrument_name: str


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode


class _Rules(msgspec.Struct, gc=False):
    instrument_name: str
    tick: msgspec.Raw = msgspec.field(name="tick_size")
    lot: msgspec.Raw = msgspec.field(name="min_trade_amount")


class _RulesAnswer(msgspec.Struct, gc=False):
    result: _Rules


_decode_rules = msgspec.json.Decoder(_RulesAnswer).decode
_RULES_PATH = "/public/get_instrument"


class Deribit(FeedDecoder):
    """Deribit, channels `book` (raw), `trade` and `ticker`."""

    venue: ClassVar[str] = "deribit"
    channels: ClassVar[frozenset[str]] = frozenset(_CHANNELS)
    url: str = "wss://www.deribit.com/ws/api/v2"
    rest_url: str = "https://www.deribit.com/api/v2"
    rest_rate: ClassVar[Rate] = Rate(per_s=5.0, burst=10.0)

    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""
        if len(frame) > self.max_frame_bytes:
            return self._refuse(Reject.TOO_LARGE, ts_recv)
        try:
            message = _decode_message(frame)
        except BAD_FRAME:
            return self._broken(frame, ts_recv)
        if message.method != "subscription":
            return self._answer(message, ts_recv)
        channel = message.params.channel
        kind, _, name = channel.partition(".")
        try:
            if kind == "book":
                return self._book(channel, _decode_book(message.params.data), ts_recv)
            if kind == "trades":
                return self._trades(_decode_trades(message.params.data), ts_recv)
            if kind == "ticker":
                return self._take_ticker(_decode_ticker(message.params.data))
        except BAD_FRAME:
            return self._blame(name.partition(".")[0], kind == "book", ts_recv)
        if kind == "incremental_ticker" or kind.startswith(_OTHER_KINDS):
            return self._decoded()
        if not kind:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts_recv)
        return self._unknown_channel(ts_recv)

    def ping(self) -> bytes:
        """Return a frame that the venue answers."""
        return _call("public/test", {})

    def on_open(self, ts: int) -> None:
        """Ask for every subscription and for heartbeats."""
        super().on_open(ts)
        self.outbox.append(_call("public/set_heartbeat", {"interval": _HEARTBEAT_S}))

    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that asks for a subscription."""
        return [_call("public/subscribe", {"channels": _names(wanted)})]

    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frame that ends a subscription."""
        return [_call("public/unsubscribe", {"channels": _names(wanted)})]

    def steps_urls(self) -> list[str]:
        """Return where each instrument is described."""
        path = f"{self.rest_url}{_RULES_PATH}?instrument_name="
        return [path + symbol for symbol in self.instruments]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        del ts
        if _RULES_PATH in url:
            rules = _decode_rules(body).result
            self._take_steps(
                {rules.instrument_name: Steps(text_of(rules.tick), text_of(rules.lot))}
            )

    # ---- data ----

    def _book(self, channel: str, data: _Book, ts: int) -> int:
        symbol, number = data.instrument_name, data.change_id
        line = self._book_line(symbol)
        if line is None:
            return self._refuse(Reject.UNKNOWN_SYMBOL, ts, is_loss=False)
        if line.book_channel != channel:
            if line.book_channel:
                return self._decoded()
            line.book_channel = channel
        is_snapshot = data.type == "snapshot"
        if not is_snapshot and line.live.is_valid and data.prev_change_id != line.seq:
            if number <= line.seq:
                late = Reject.DUPLICATE if number == line.seq else Reject.LATE
                return self.outlet.count(late)
            self._gap(symbol, line, line.seq, data.prev_change_id, 1, ts)
        flags = ENDS_FRAME | (SNAPSHOT if is_snapshot else 0)
        bids, asks, time = bytes(data.bids), bytes(data.asks), bytes(data.timestamp)
        return self._rows(symbol, line, flags, bids, asks, time, 0, number, ts)

    def _trades(self, trades: list[_Trade], ts: int) -> int:
        unknown = False
        for trade in trades:
            symbol = trade.instrument_name
            line = self._line(symbol)
            if line is None:
                unknown = True
                continue
            side = _TAKER_SIDES[trade.direction]
            status = self._stage(
                line, 0, trade.price, trade.amount, trade.timestamp, trade.trade_seq, side, ts
            )
            if status == WIDER:
                return self._trades(trades, ts)
            if status:
                return self._trades_failed(symbol, line, status, ts)
        return self._publish_trades(unknown)

    def _take_ticker(self, data: _Ticker) -> int:
        texts = (
            data.best_bid_price,
            data.best_bid_amount,
            data.best_ask_price,
            data.best_ask_amount,
        )
        self._hold_against(data.instrument_name, texts)
        return self._decoded()

    # ---- answers ----

    def _answer(self, message: _Message, ts: int) -> int:
        if message.method == "heartbeat":
            if message.params.type == "test_request":
                self.outbox.append(self.ping())
            return self._decoded()
        if message.error is not None:
            error = message.error
            self.notices.append(f"deribit says: {error.message} ({error.code})")
            return self._decoded()
        if message.id is not None or message.result:
            return self._decoded()
        if message.method:
            return self._unknown_channel(ts)
        return self._refuse(Reject.UNEXPECTED_SHAPE, ts)


_OTHER_KINDS = (
    "announcements",
    "block_",
    "chart",
    "deribit_",
    "estimated_expiration_price",
    "instrument",
    "markprice",
    "perpetual",
    "platform_state",
    "quote",
    "rfq",
    "user",
)


def _names(wanted: Subscription) -> list[str]:
    channel = _CHANNELS[wanted.channel]
    return [f"{channel}.{symbol}.raw" for symbol in wanted.symbols]


def _call(method: str, params: dict[str, object]) -> bytes:
    return request(jsonrpc="2.0", id=1, method=method, params=params)
