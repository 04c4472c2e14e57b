"""A decoder turns one venue's frames into records and says what to send back; it opens no socket and reads
no clock.

**Protocol** `on_open`, then `decode` per frame, `on_timer` about once a second, `on_close`. What is to be
sent collects in `outbox`; the session sends it after each batch of frames and clears it.

**Invariants**
(1) A frame ends in exactly one count: decoded, or rejected for one `Reject` reason; `decode` raises for
nothing that a venue may send.
(2) An instrument whose data was lost is SUSPECT or SYNCING until a snapshot replaces its book, and only
that instrument is asked for again.
(3) What a decoder does depends on frames and the times handed in, never on when it runs.

**Failure** An instrument that stays without a snapshot is asked for again at growing intervals (1 s
doubling to 30 s), for ever.

**How to add a venue** Derive from `Decoder`; write typed msgspec Structs for the envelope and leave level
arrays as `msgspec.Raw`; hand their bytes to `apply_levels` with the flags that fit; register the class in
`collectors.venues`. Name the frames that come most as `forms` when all else is right: they cost a third then.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from collectors.allowance import Rate
from collectors.instrument_line import InstrumentLine
from collectors.instruments import InstrumentTable, Steps
from layouts import GapReason, InstrumentState, StateReason
from shm.errors import ConfigurationError
from shm.feed import widen
from shm.forms import TAKEN_PLACE, TAKEN_STATUS, TAKEN_TRADES, Form, Forms
from shm.outlet import DECODED, WIDER, Outlet, Reject

MAX_FRAME_BYTES = 16 * 1024 * 1024
BAD_FRAME = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes that are not what is expected."""

_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


class Subscription(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What to ask a venue for: one channel for some symbols, in the venue's own words; depth 0: the venue's default."""

    channel: str
    symbols: tuple[str, ...]
    depth: int = 0


class Decoder(ABC):
    """What all venues share: instruments, resync of one of them, states, refusals.

    Args:
        outlet: where records go.
        table: ids and versions of the instruments.
        subscriptions: what to ask for; only their symbols are known.
        accept_any: take any symbol and depth that the frames name (replay).
        max_frame_bytes: longer frames are refused.
        steps: tick and lot per symbol, where the topology gives them.

    Raises:
        ConfigurationError: a channel or depth that the venue does not have.
    """

    venue: ClassVar[str]
    url: str
    """Where its WebSocket is: the venue's public address, unless the collector connects elsewhere."""
    rest_url: str = ""
    """Its REST side, without the path that each request adds; "": nothing is asked there."""
    rest_rate: ClassVar[Rate] = Rate(per_s=1.0, burst=3.0)
    """What the venue allows of our requests, by weight."""
    needs_rest: ClassVar[bool] = False
    """Books begin with a REST snapshot."""
    channels: ClassVar[frozenset[str]]
    depths: ClassVar[frozenset[int]]
    default_depth: ClassVar[int]
    line_type: ClassVar[type[InstrumentLine]] = InstrumentLine
    forms: ClassVar[tuple[Form, ...]] = ()
    """The frames that come most, for `take_frame`."""

    def __init__(
        self,
        outlet: Outlet,
        table: InstrumentTable,
        subscriptions: Sequence[Subscription] = (),
        accept_any: bool = False,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        steps: dict[str, Steps] | None = None,
    ) -> None:
        self.outlet = outlet
        self.table = table
        self.subscriptions = [self._checked(subscription) for subscription in subscriptions]
        self.accept_any = accept_any
        self.max_frame_bytes = max_frame_bytes
        self.steps = dict(steps or {})
        self.outbox: list[bytes] = []
        self.instruments: dict[str, InstrumentLine] = {}
        self.known = Forms(outlet, max_frame_bytes, self.forms)
        self._symbols: dict[int, str] = {}
        self.rest_wanted: list[str] = []
        """URLs to fetch; the session hands each answer to `rest_response` and takes them off."""
        self.notices: list[str] = []
        """What the venue said of a subscription or of itself, for the log; the session takes and clears them."""
        self.is_link_ending = False
        """The venue has announced that it will close this link: the session is to open it anew."""
        self._add(symbol for wanted in self.subscriptions for symbol in wanted.symbols)
        for wanted in self.subscriptions:
            if wanted.channel == "book":
                for symbol in wanted.symbols:
                    self._set_depth(self.instruments[symbol], wanted.depth)

    # ---- the session's calls ----

    @abstractmethod
    def decode(self, frame: bytes, ts_recv: int) -> int:
        """Take one frame; returns 0 (decoded) or a `Reject`."""

    def steps_urls(self) -> list[str]:
        """Return where the venue tells ticks and lots of the subscribed instruments."""
        return []

    def rest_response(self, url: str, body: bytes, ts_recv: int) -> bool:
        """Take the answer to a REST request, live or recorded; False: it cannot be read. It never raises for what a
        venue sends.
        """
        try:
            self._take_answer(url, body, ts_recv)
        except (*BAD_FRAME, ValueError) as error:
            self.notices.append(f"{self.venue}: the answer of {url} cannot be read: {error}")
            return False
        return True

    def finish(self) -> None:  # noqa: B027 - most venues leave nothing open
        """No more frames come: judge what waited for them."""

    @abstractmethod
    def ping(self) -> bytes:
        """Return a frame that the venue answers."""

    @abstractmethod
    def subscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frames that ask for a subscription."""

    @abstractmethod
    def unsubscribe_frames(self, wanted: Subscription) -> list[bytes]:
        """Return the frames that end a subscription."""

    def on_open(self, ts: int) -> None:
        """Ask for every subscription on a fresh connection."""
        self.outbox.clear()
        for wanted in self.subscriptions:
            self.outbox += self.subscribe_frames(wanted)
        for line in self.instruments.values():
            if line.has_book:
                self.expect_book(line, ts)

    def expect_book(self, line: InstrumentLine, ts: int) -> None:
        """A book was just subscribed to: its snapshot is outstanding."""
        line.live.set_state(InstrumentState.SYNCING, StateReason.SUBSCRIBED, ts)
        line.expect_snapshot(ts)

    def on_close(self, ts: int) -> None:
        """The link is gone: every instrument has a gap until its next snapshot."""
        self.outbox.clear()
        reason = GapReason.ANNOUNCED if self.is_link_ending else GapReason.DISCONNECT
        self.is_link_ending = False
        for line in self.instruments.values():
            line.ask_at = 0
            if line.live.version:
                line.live.set_state(InstrumentState.SYNCING, StateReason.DISCONNECT, ts, reason)

    def on_timer(self, ts: int) -> None:
        """Ask again for the snapshots that have not come."""
        for symbol, line in self.instruments.items():
            if line.is_due(ts):
                self._ask(symbol, line, ts)

    def resubscribe(self, channel: str, symbol: str, ts: int) -> None:
        """Subscribe to one channel of one instrument anew; a book's snapshot is then outstanding."""
        line = self.instruments[symbol]
        if channel == "book":
            self._ask(symbol, line, ts)
            return
        wanted = Subscription(channel, (symbol,))
        self.outbox += self.unsubscribe_frames(wanted) + self.subscribe_frames(wanted)

    def republish(self, instrument_id: int, ts: int) -> int:
        """Publish an instrument's book as a snapshot, for a consumer that lost data; NO_SNAPSHOT while it is not valid."""
        for line in self.instruments.values():
            if line.instrument.instrument_id == instrument_id:
                return line.live.republish(ts)
        return Reject.UNKNOWN_SYMBOL

    @property
    def books_total(self) -> int:
        """Instruments that have or want a book."""
        return sum(line.has_book for line in self.instruments.values())

    @property
    def books_live(self) -> int:
        """Of these, how many are LIVE."""
        live = InstrumentState.LIVE
        return sum(line.has_book and line.live.state == live for line in self.instruments.values())

    # ---- for the venues ----

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:  # noqa: B027 - some ask for nothing
        """Take a REST answer; may raise BAD_FRAME and ValueError. One that is not ours is left aside."""

    def _line(self, symbol: str) -> InstrumentLine | None:
        """Return the symbol's line; None: not subscribed, or no id is left for it."""
        line = self.instruments.get(symbol)
        if line is None and self.accept_any:
            try:
                self._add([symbol])
            except ConfigurationError:
                return None
            line = self.instruments[symbol]
        return line

    def _add(self, symbols: Iterable[str]) -> None:
        for instrument in self.table.reserve(symbols):
            if instrument.symbol not in self.instruments:
                steps = self.steps.get(instrument.symbol)
                if steps:
                    self.table.describe(instrument, steps)
                line = self.line_type(instrument, self.outlet, self.table.index_of(instrument))
                line.place = self.known.enter(instrument.symbol, line.live)
                self._symbols[line.place] = instrument.symbol
                self.instruments[instrument.symbol] = line

    def _take_steps(self, steps: dict[str, Steps]) -> int:
        """Take up ticks and lots; where any symbol may come, those of unknown ones wait for it."""
        ours = [symbol for symbol in steps if symbol in self.instruments]
        self.table.describe_steps(
            (self.instruments[symbol].instrument, steps[symbol]) for symbol in ours
        )
        self.steps.update(steps if self.accept_any else {symbol: steps[symbol] for symbol in ours})
        return len(ours)

    def _set_depth(self, line: InstrumentLine, depth: int) -> None:
        line.has_book = True
        if line.instrument.depth != depth:
            self.table.describe(line.instrument, depth=depth)
        line.live.set_depth(depth)

    def _open_version(self, line: InstrumentLine, ts: int) -> None:
        """Open the version that a frame with wider numbers asks for."""
        price_scale, qty_scale = line.live.wanted_scales
        version = self.table.open_version(line.instrument, price_scale, qty_scale, ts)
        line.live.set_version(version, price_scale, qty_scale)

    def _lost(self, symbol: str, line: InstrumentLine, ts: int) -> None:
        """The book is SUSPECT: ask for a snapshot now, or after the pause that failures just before have earned."""
        if line.may_ask(ts):
            self._ask(symbol, line, ts)

    def _ask(self, symbol: str, line: InstrumentLine, ts: int) -> None:
        line.note_asked(ts)
        wanted = Subscription("book", (symbol,), line.instrument.depth)
        self.outbox += self.unsubscribe_frames(wanted)
        self.outbox += self.subscribe_frames(wanted)

    def _stages_again(self, line: InstrumentLine, status: int, ts: int) -> bool:
        """Tell whether a trade asked for a version that is open now: the first, or a wider one. What was staged of its frame
        is forgotten then and the whole frame to be staged again, so that all of it has one scale and leaves together.
        """
        if status != WIDER and not (status == Reject.TOO_MANY_DIGITS and self._may_widen(line)):
            return False
        self.outlet.abandon()
        self._widen(line, ts)
        return True

    def _may_widen(self, line: InstrumentLine) -> bool:
        """Tell whether a trade with more decimals may open a wider version: where no book keeps its integers."""
        return not line.has_book and line.live.wanted_scales != line.live.scales

    def _widen(self, line: InstrumentLine, ts: int, keeps_book: bool = True) -> None:
        """Open the version that the last frame asked for; all but an instrument's first are told by a record."""
        if not keeps_book or not line.live.version:
            self._open_version(line, ts)
            return
        price_scale, qty_scale = line.live.wanted_scales
        version = self.table.open_version(line.instrument, price_scale, qty_scale, ts)
        widen(line.live, version, price_scale, qty_scale, ts)

    def _look(self, taken: int, ts: int) -> int:
        """Go on after `take_frame` has told something: a refusal, or an update of an instrument that is watched."""
        place, status = (taken >> TAKEN_PLACE) - 1, taken & TAKEN_STATUS
        if taken & TAKEN_TRADES:
            return status
        symbol = self._symbols[place]
        return self._looked(symbol, self.instruments[symbol], status, ts)

    def _looked(self, symbol: str, line: InstrumentLine, status: int, ts: int) -> int:
        """Go on after a book update that was taken by its form."""
        return self._book_failed(symbol, line, status, ts) if status else DECODED

    def _book_failed(self, symbol: str, line: InstrumentLine, status: int, ts: int) -> int:
        """Go on after a book frame that was refused in C, where it was counted and its GAP published."""
        if status != Reject.NO_SNAPSHOT:
            self._lost(symbol, line, ts)
        return status

    def _trades_failed(self, symbol: str, line: InstrumentLine, status: int, ts: int) -> int:
        """Forget a trade frame: a GAP says so; digits that do not fit ask for a snapshot and with it a wider version."""
        self.outlet.abandon()
        if status == Reject.TOO_MANY_DIGITS and line.has_book:
            line.live.set_state(
                InstrumentState.SUSPECT, StateReason.REFUSED_FRAME, ts, GapReason.REFUSED_FRAME, 1
            )
            self._lost(symbol, line, ts)
        else:
            line.live.gap(GapReason.REFUSED_FRAME, 1, ts)
        return self.outlet.count(status)

    def _blame(self, symbol: str | None, is_book: bool, ts: int) -> int:
        """Count a data frame of the wrong shape, and tell the loss where it belongs as far as that can be told."""
        line = self.instruments.get(symbol) if symbol else None
        if symbol is None or line is None:
            return self._refuse(Reject.UNEXPECTED_SHAPE, ts)
        if not is_book:
            return self._trades_failed(symbol, line, Reject.UNEXPECTED_SHAPE, ts)
        line.live.set_state(
            InstrumentState.SUSPECT, StateReason.REFUSED_FRAME, ts, GapReason.REFUSED_FRAME, 1
        )
        self._lost(symbol, line, ts)
        return self.outlet.count(Reject.UNEXPECTED_SHAPE)

    def _acknowledged(self, symbol: str, is_subscribed: bool, error: str, ts: int) -> None:
        """Take up what the venue says of a book subscription; a refusal (of another channel, of a second one) ends none."""
        line = self.instruments.get(symbol)
        if error:
            self.notices.append(f"{self.venue} refuses {symbol}: {error}")
        if line is None or is_subscribed or (error and line.live.is_valid):
            return
        if error:
            line.live.set_state(InstrumentState.SYNCING, StateReason.VENUE_REFUSED, ts)
        elif line.live.is_valid:
            line.live.set_state(InstrumentState.SYNCING, StateReason.UNSUBSCRIBED, ts)

    def _announced(self, notice: str) -> None:
        """Take up that the venue will close this link: the session opens it anew first."""
        self.is_link_ending = True
        self.notices.append(notice)

    def _refuse(self, reason: Reject, ts: int, is_loss: bool = True) -> int:
        """Count a frame that no instrument can be blamed for; a loss is told by a GAP without an instrument."""
        if is_loss:
            self.outlet.gap(GapReason.REFUSED_FRAME, 1, ts)
        return self.outlet.count(reason)

    def _broken(self, frame: bytes, ts: int) -> int:
        """Count a frame that fits no shape of ours: it is JSON of another shape, or no JSON at all."""
        try:
            frame.decode()
            _decode_any(frame)
        except BAD_FRAME:
            return self._refuse(Reject.MALFORMED_JSON, ts)
        return self._refuse(Reject.UNEXPECTED_SHAPE, ts)

    def _unknown_channel(self, ts: int) -> int:
        return self._refuse(Reject.UNKNOWN_CHANNEL, ts, is_loss=False)

    def _decoded(self) -> int:
        """Count a frame that carried no data."""
        return self.outlet.count(DECODED)

    def _checked(self, wanted: Subscription) -> Subscription:
        if wanted.channel not in self.channels:
            raise ConfigurationError(
                f"{self.venue}: channel {wanted.channel!r}; it has {', '.join(sorted(self.channels))}"
            )
        if wanted.channel != "book":
            return wanted
        depth = wanted.depth or self.default_depth
        if depth not in self.depths:
            raise ConfigurationError(
                f"{self.venue}: book depth {depth}; it has {', '.join(map(str, sorted(self.depths)))}"
            )
        return Subscription("book", wanted.symbols, depth)
