"""One instrument of a decoder knows its book, its channel, and when its venue may be asked for a snapshot again.

**Why it is right** The first loss is asked for at once; losses that follow at once wait 1 s, 2 s, 4 s .. 30 s, so a
venue that sends broken snapshots sees no storm, and an answer that never comes is asked for again for ever. Times are
those of frames: a wall clock that jumps back by more than the longest pause counts as due.
"""

from collectors.instruments import Instrument
from shm.outlet import Outlet

RETRY_FIRST_NS = 1_000_000_000
RETRY_LIMIT_NS = 30_000_000_000


class InstrumentLine:
    """A table row, its live book, and the requests for its snapshots. Times are ns, 0 stands for none."""

    __slots__ = (
        "_asked_at",
        "_retry_ns",
        "ask_at",
        "book_channel",
        "handle",
        "has_book",
        "instrument",
        "live",
        "place",
    )

    def __init__(self, instrument: Instrument, outlet: Outlet, index: int) -> None:
        self.instrument = instrument
        self.live = outlet.open_live(instrument.instrument_id, instrument.depth, index)
        self.handle = self.live.handle
        self.has_book = False
        """A book of this instrument is subscribed or was seen: it counts, and is asked for again."""
        self.book_channel = ""
        """The venue's name of the book channel where it has one; "" before it is known."""
        self.place = 0
        """Among the decoder's known symbols (`shm.forms`)."""
        self.ask_at = 0
        """When to ask again; 0: no snapshot is outstanding."""
        self._asked_at = 0
        self._retry_ns = RETRY_FIRST_NS
        current = instrument.current
        if current:
            self.live.set_version(current.version, current.price_scale, current.qty_scale)

    def expect_snapshot(self, ts: int, within_ns: int = RETRY_LIMIT_NS) -> None:
        """A subscription was just made: its snapshot is outstanding, and no request has failed yet."""
        self._asked_at = 0
        self.ask_at = ts + within_ns

    @property
    def has_asked(self) -> bool:
        """A snapshot was asked for since the subscription was made."""
        return self._asked_at != 0

    def is_due(self, ts: int) -> bool:
        """Tell whether an outstanding snapshot is to be asked for now."""
        return self.ask_at > 0 and not ts < self.ask_at <= ts + RETRY_LIMIT_NS

    def may_ask(self, ts: int) -> bool:
        """Tell whether a loss may be asked for at once; if not, note when it will be due."""
        elapsed_ns = ts - self._asked_at
        if not self._asked_at or not 0 <= elapsed_ns < RETRY_LIMIT_NS:
            self._asked_at = 0
            self._retry_ns = RETRY_FIRST_NS
            return True
        if elapsed_ns >= self._retry_ns:
            return True
        self.ask_at = self._asked_at + self._retry_ns
        return False

    def note_asked(self, ts: int) -> None:
        """A request has left: the next one waits twice as long as this one did."""
        if self._asked_at:
            self._retry_ns = min(2 * self._retry_ns, RETRY_LIMIT_NS)
        self._asked_at = ts
        self.ask_at = ts + self._retry_ns
