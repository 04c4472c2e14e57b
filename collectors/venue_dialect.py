"""What both protocols of the venue have in common: a stream, a request's answer, a frame's meaning.

A dialect knows one protocol's texts and nothing of sockets, tapes or time; the market decides
who may listen to what.

**See** `venue_dialect_v1` and `venue_dialect_v2` for the protocols, `venue_market` for the desk.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from collectors.venue_book import Change, VenueBook

# The depths that the venue offers for its book channel.
BOOK_DEPTHS = (10, 25, 100, 500, 1000)
DEFAULT_BOOK_DEPTH = 10

PAIR_REFUSED = "Currency pair not supported"
DEPTH_REFUSED = "Subscription depth not supported"
ALREADY_SUBSCRIBED = "Already subscribed"
NOT_SUBSCRIBED = "Subscription Not Found"
MALFORMED = "Malformed request"


class Stream(NamedTuple):
    """One symbol's messages on one channel: `channel` "book", "trade", ...; depth 0 but for books."""

    channel: str
    symbol: str
    depth: int = 0


class Meaning(NamedTuple):
    """What a data frame does to the venue's own state.

    `depth` is 0 where the frame does not tell it; `changes` is empty unless the channel is "book",
    `trades` (the venue's text of each print) unless it is "trade".
    """

    channel: str
    symbol: str
    depth: int
    is_snapshot: bool
    changes: Sequence[Change] = ()
    trades: Sequence[bytes] = ()
    stamp: str = ""
    channel_id: int = 0


class Control(NamedTuple):
    """A frame of the session, not of the market: acknowledgement, status, heartbeat.

    `stream` is set by an acknowledged book subscription, for the depth that only it may tell.
    `instruments` is the venue's reference data when the frame carries it.
    """

    stream: Stream | None = None
    instruments: bytes = b""


class Listing(NamedTuple):
    """A symbol's reference data: the decimals of its tick and lot, and its smallest order."""

    symbol: str
    tick_digits: int
    lot_digits: int
    qty_min: str


class Desk(Protocol):
    """The market's side of one connection: what it may listen to."""

    def subscribe(self, stream: Stream) -> str:
        """Begin to listen; the refusal in the venue's words, or ""."""
        ...

    def unsubscribe(self, channel: str, symbol: str, depth: int) -> Stream | None:
        """Stop listening (depth 0: whichever it is); None when there is no such subscription."""
        ...

    def opening(self, stream: Stream, *, wants_trades: bool) -> list[bytes]:
        """Make the frames that a new listener needs before the next update."""
        ...

    def channel_id(self, stream: Stream) -> int:
        """Tell the number that frames of this stream carry (first protocol only)."""
        ...


class Reply(NamedTuple):
    """The frames that answer a request, in order, and how many parts of it were refused."""

    frames: list[bytes]
    refused: int = 0


class Dialect(Protocol):
    """One protocol of the venue: its path, how its frames read, and what it says."""

    name: str

    def read(self, data: bytes) -> Meaning | Control:
        """Tell what a recorded frame means; ValueError when it is none of this protocol."""
        ...

    def greeting(self, connection_no: int) -> bytes:
        """Make the first frame of a connection."""
        ...

    def heartbeat(self) -> bytes:
        """Make the frame that says the link lives."""
        ...

    def answer(self, desk: Desk, data: bytes, now_ns: int) -> Reply:
        """Obey one request of a client, or refuse it in the venue's words."""
        ...

    def book_snapshot(self, stream: Stream, book: VenueBook, channel_id: int) -> bytes:
        """Make a snapshot of the venue's own book, digits as they were sent."""
        ...

    def trade_snapshot(self, trades: Sequence[bytes]) -> bytes:
        """Make a snapshot of the last prints, oldest first; b"" where the protocol has none."""
        ...

    def instruments(self, listings: Sequence[Listing]) -> bytes:
        """Make the reference data of all symbols; b"" where the protocol has none."""
        ...


def rfc3339(ts_ns: int) -> str:
    """UTC time with microseconds, as the second protocol stamps its frames."""
    seconds, nanoseconds = divmod(ts_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06d}Z"
