"""A channel that has fallen silent is found by its own arrival rate, asked after in steps, and marked STALE meanwhile.

**Protocol** `look` is called a few times a second with both clocks. A channel that is silent beyond `Arrivals.limit_s`: (1) its
book is STALE, the venue is probed: a link that does not answer that is ended by the session; (2) PROBE_S later this
channel of this instrument alone is subscribed to again; (3) ANSWER_S later the link is opened anew, once, when not even a
snapshot that is owed has come, or when no channel of the link was heard. Anything that arrives ends it.

**Choices** A book on the socket owes a snapshot to each subscription. Trades and diffs over REST snapshots owe nothing: one of
them alone proves nothing by its silence, and is subscribed to again after twice the time each time, as is a channel that only
ever answers subscriptions. A STALE book is whole as far as anybody knows: an update that follows in the venue's numbers makes
it LIVE again. While its market is closed (`Calendar`) a channel rests: no silence is judged, none is learned, and nothing is
asked after. From an opening on it may be silent for CEILING_S, whatever its rate: nobody knows when the first frame comes,
but a feed that stays mute after an opening is found.

**Invariants** (1) Silence is measured on the steady clock alone; the wall clock only stamps records and asks the calendar.
(2) A silent channel costs the others nothing before step 3, and that at most once.

**Cost** Nothing for a frame: C counts arrivals, a look compares counts (about 0.2 us a channel, LOOK_NS apart).
"""

import math
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from collectors.arrivals import CEILING_S, Arrivals
from collectors.calendar import Calendar
from collectors.decoder import Decoder
from collectors.instrument_line import InstrumentLine
from layouts import InstrumentState, StateReason

LOOK_NS = 250_000_000
PROBE_S = 5.0
ANSWER_S = 10.0
COUNTERS = (
    "silence.found",
    "silence.resubscribed",
    "silence.reconnected",
    "channels_silent",
    "channels_closed",
)
_CHANNELS = ("book", "trade")
_OPENING = math.inf
"""Patience of a channel that has not spoken since its market opened."""


class Step(IntEnum):
    """How far a silent channel has been asked after."""

    HEARD = 0
    PROBED = 1
    RESUBSCRIBED = 2
    RECONNECTED = 3


class Found(NamedTuple):
    """A channel that a look has found silent, and the step to take."""

    step: Step
    channel: str
    symbol: str


class Channel:
    """One channel of one instrument."""

    __slots__ = (
        "arrivals", "asked_s", "calendar", "count", "heard_s", "is_open", "line", "name", "patience", "step",
    )  # fmt: skip

    def __init__(self, name: str, line: InstrumentLine, calendar: Calendar | None) -> None:
        self.name = name
        self.line = line
        self.calendar = calendar
        self.arrivals = Arrivals()
        self.count = self._arrived()
        self.heard_s = 0.0
        """When it was last heard, by looks; 0: never on this link."""
        self.step = Step.HEARD
        self.asked_s = 0.0
        self.patience = 1.0
        self.is_open = True

    def is_judged(self) -> bool:
        """Something has come, and where it is a book, it is whole: one without a snapshot is asked for as such."""
        if self.heard_s == 0.0 or not self.is_open:
            return False
        return self.name != "book" or self.line.live.is_valid or self.step > Step.PROBED

    def listen(self, now_s: float) -> bool:
        """Note what has come since the last look; True when something has."""
        self.is_open = True
        count = self._arrived()
        if count == self.count:
            return False
        self.count = count
        if self.step >= Step.RESUBSCRIBED:
            self.patience *= (
                2.0  # an answer to us, which says nothing of how often it speaks by itself
            )
        else:
            if self.heard_s and self.patience != _OPENING:
                self.arrivals.note(now_s - self.heard_s)
            self.patience = 1.0
        self.heard_s = now_s
        self.step = Step.HEARD
        return True

    def rest(self, now_s: float) -> None:
        """Its market is closed: what comes or does not come says nothing; should it open now, nothing has been waited for."""
        self.is_open = False
        self.count = self._arrived()
        self.step = Step.HEARD
        self.patience = _OPENING
        if self.heard_s:
            self.heard_s = now_s

    def limit_s(self) -> float:
        """How long it may be silent."""
        return min(CEILING_S, self.arrivals.limit_s * self.patience)

    def _arrived(self) -> int:
        handle = self.line.handle
        return int(handle.book_frames if self.name == "book" else handle.trades_seen)


class Staleness:
    """All channels of one collector.

    Args:
        decoder: whose subscriptions are watched.
        count: (name of COUNTERS, amount).
        calendar_of: when a symbol's market is open; None: always.
    """

    def __init__(
        self,
        decoder: Decoder,
        count: Callable[[str, int], None],
        calendar_of: Callable[[str], Calendar | None] = lambda _: None,
    ) -> None:
        self._decoder = decoder
        self._count = count
        self._calendar_of = calendar_of
        self.closed = 0
        """How many channels were outside their sessions at the last look."""
        self._channels: dict[tuple[str, str], Channel] = {}
        self._followed: object = None
        self._looked_ns = 0

    @property
    def silent(self) -> int:
        """How many channels are being asked after."""
        return sum(channel.step > Step.HEARD for channel in self._channels.values())

    def on_open(self) -> None:
        """A link is new: nothing was heard on it yet, what was learned of rates stays."""
        for channel in self._channels.values():
            channel.heard_s = 0.0
            if channel.step < Step.RECONNECTED:
                channel.step = Step.HEARD

    def look(self, now_ns: int, ts: int) -> list[Found]:
        """Judge every channel where that is due: `now_ns` of the steady clock, `ts` of the wall clock."""
        if now_ns - self._looked_ns < LOOK_NS:
            return []
        self._looked_ns = now_ns
        self._follow_subscriptions()
        now_s = now_ns / 1e9
        found = []
        self.closed = 0
        for channel in self._channels.values():
            if channel.calendar is not None and not channel.calendar.is_open(ts):
                self.closed += 1
                channel.rest(now_s)
            elif not channel.listen(now_s) and channel.is_judged():
                before = channel.step
                self._judge(channel, now_s)
                if channel.step > before:
                    symbol = channel.line.instrument.symbol
                    found.append(Found(channel.step, channel.name, symbol))
        return found

    def _judge(self, channel: Channel, now_s: float) -> None:
        waited_s = now_s - channel.asked_s
        if channel.step == Step.HEARD and now_s - channel.heard_s > channel.limit_s():
            channel.step, channel.asked_s = Step.PROBED, now_s
            self._count("silence.found", 1)
        elif channel.step == Step.PROBED and waited_s > PROBE_S:
            channel.step, channel.asked_s = Step.RESUBSCRIBED, now_s
            self._count("silence.resubscribed", 1)
        elif channel.step == Step.RESUBSCRIBED and waited_s > ANSWER_S:
            if self._owes_snapshot(channel) or self._is_mute():
                channel.step = Step.RECONNECTED
                self._count("silence.reconnected", 1)
                return
            channel.step, channel.heard_s = Step.HEARD, now_s
            channel.patience *= 2.0

    def _owes_snapshot(self, channel: Channel) -> bool:
        return channel.name == "book" and not self._decoder.needs_rest

    def _is_mute(self) -> bool:
        """Nothing that was ever heard on this link is heard any more."""
        judged = [c for c in self._channels.values() if c.is_judged()]
        return all(c.step >= Step.RESUBSCRIBED for c in judged)

    def _follow_subscriptions(self) -> None:
        """Watch what is subscribed to now, and nothing else."""
        if self._decoder.subscriptions is self._followed:
            return
        self._followed = self._decoder.subscriptions
        wanted = {
            (symbol, given.channel)
            for given in self._decoder.subscriptions
            if given.channel in _CHANNELS
            for symbol in given.symbols
        }
        for key in self._channels.keys() - wanted:
            del self._channels[key]
        for symbol, name in wanted - self._channels.keys():
            line = self._decoder.instruments[symbol]
            self._channels[symbol, name] = Channel(name, line, self._calendar_of(symbol))


def take_step(decoder: Decoder, found: Found, ts: int) -> None:
    """Do what a silent channel leads to, live and in replay; that the link is opened anew is the session's."""
    if found.step == Step.PROBED:
        if found.channel == "book":
            live = decoder.instruments[found.symbol].live
            live.set_state(InstrumentState.STALE, StateReason.SILENCE, ts)
        decoder.outbox.append(decoder.ping())
    elif found.step == Step.RESUBSCRIBED:
        decoder.resubscribe(found.channel, found.symbol, ts)
