"""What a market plays, in order and in time, and the state that a new listener has to be told.

A tape is scanned once, so that what it holds is known before it starts, and then played from the
files again: its memory does not grow with the recording.

**Protocol** `next_offset_ns` looks at the next moment without taking it; `step` takes it, and from
then on `opening` tells a state that includes it. A caller that sends what `step` returned before
anything else runs therefore shows every listener one consistent sequence.

**Failure** A frame that is none of this venue's, two recordings of one book that would be played
at once, and a book recorded at two depths are refused with file and line before anything is
played.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from collectors.captures import Capture, CaptureError, Frame, merge_aligned, session_starts
from collectors.venue_book import VenueBook
from collectors.venue_dialect import (
    BOOK_DEPTHS,
    Control,
    Dialect,
    Listing,
    Meaning,
    Stream,
)

# What the venue's trade snapshot holds.
LAST_TRADES = 50
# Channel numbers from here on are not in any recording.
_FIRST_MADE_ID = 1_000_000


class Step(NamedTuple):
    """One frame to be sent to those who listen to `stream`."""

    stream: Stream
    data: bytes


class Tape(Protocol):
    """A market's course: frames with their time since its beginning."""

    @property
    def streams(self) -> Mapping[Stream, int]:
        """Every stream and how many frames it has (0 when it has no end)."""
        ...

    @property
    def frames(self) -> int:
        """All frames of the tape, 0 when it has no end."""
        ...

    @property
    def listings(self) -> Sequence[Listing]:
        """The reference data of every symbol."""
        ...

    @property
    def instruments(self) -> bytes:
        """The venue's own reference data frame, b"" where none was recorded."""
        ...

    @property
    def recordings_truncated(self) -> int:
        """How many of the tape's recordings end early (their whole lines are played)."""
        ...

    def begin(self) -> None:
        """Note that playing starts now."""
        ...

    def next_offset_ns(self) -> int | None:
        """Tell the time of the next moment since the beginning; None at the end."""
        ...

    def step(self) -> list[Step]:
        """Take the next moment: its frames, in the order to send them."""
        ...

    def opening(self, stream: Stream, *, wants_trades: bool) -> list[bytes]:
        """Make what a new listener must be told now; empty when the tape will tell it yet."""
        ...

    def channel_id(self, stream: Stream) -> int:
        """Tell the number that frames of this stream carry (first protocol only)."""
        ...


class Pair(msgspec.Struct, gc=False):
    """A pair of the venue's REST answer `AssetPairs`, as far as a listing needs it."""

    wsname: str = ""
    pair_decimals: int = 0
    lot_decimals: int = 8
    ordermin: str = ""


class _PairsAnswer(msgspec.Struct, gc=False):
    result: dict[str, Pair]


def read_pairs(data: bytes) -> dict[str, Pair]:
    """Read `AssetPairs` by the names that the WebSocket protocols use."""
    answer = msgspec.json.decode(data, type=_PairsAnswer)
    pairs = {}
    for pair in answer.result.values():
        if pair.wsname:
            pairs[pair.wsname] = pair
            pairs[modern_symbol(pair.wsname)] = pair
    return pairs


def modern_symbol(symbol: str) -> str:
    """Tell the second protocol's name of a pair that the first one names XBT/… or XDG/…."""
    modern = {"XBT": "BTC", "XDG": "DOGE"}
    return "/".join(modern.get(asset, asset) for asset in symbol.split("/"))


def legacy_symbol(symbol: str) -> str:
    """Tell the first protocol's name of a pair that the second one names BTC/… or DOGE/…."""
    legacy = {"BTC": "XBT", "DOGE": "XDG"}
    return "/".join(legacy.get(asset, asset) for asset in symbol.split("/"))


class _Known:
    """What the scan has learnt of one stream."""

    def __init__(self) -> None:
        self.frames = 0
        self.channel_id = 0
        self.price_digits = 0
        self.qty_digits = 0
        self.file_index = -1
        self.files_left: set[int] = set()


class CaptureTape:
    """Recordings of one protocol, merged by time; sessions of different days begin together."""

    def __init__(
        self, dialect: Dialect, captures: Sequence[Capture], pairs: Mapping[str, Pair]
    ) -> None:
        self.instruments = b""
        self.frames = 0
        self._dialect = dialect
        self._captures = captures
        self._starts = session_starts(captures)
        self.recordings_truncated = sum(
            capture.ending is not None and bool(capture.ending.truncated) for capture in captures
        )
        self._depths: dict[str, int] = {}
        self._known: dict[Stream, _Known] = {}
        self._books: dict[Stream, VenueBook] = {}
        self._trades: dict[Stream, deque[bytes]] = {}
        self._made_ids: dict[Stream, int] = {}
        self._scan()
        self.streams = {stream: known.frames for stream, known in self._known.items()}
        self.listings = self._listed(pairs)
        self._moments = self._data_frames()
        self._next = next(self._moments, None)

    def begin(self) -> None:
        """Note that playing starts now; recorded time is what it was."""

    def next_offset_ns(self) -> int | None:
        """Tell the time of the next moment since the beginning; None at the end."""
        return None if self._next is None else self._next[0]

    def step(self) -> list[Step]:
        """Take the next moment: one frame, verbatim."""
        assert self._next is not None, "the tape is at its end"
        _, frame, stream, meaning = self._next
        self._next = next(self._moments, None)
        self._apply(stream, meaning)
        return [Step(stream, frame.data)]

    def opening(self, stream: Stream, *, wants_trades: bool) -> list[bytes]:
        """Make what a new listener must be told now; empty when the tape will tell it yet."""
        if stream.channel == "book":
            book = self._books.get(stream)
            if book is None:
                return []
            return [self._dialect.book_snapshot(stream, book, self.channel_id(stream))]
        if stream.channel == "trade" and wants_trades:
            return [self._dialect.trade_snapshot(list(self._trades.get(stream, ())))]
        return []

    def channel_id(self, stream: Stream) -> int:
        """Tell the recorded number; one of our own for a stream that was not recorded."""
        known = self._known.get(stream)
        if known is not None:
            return known.channel_id
        return self._made_ids.setdefault(stream, _FIRST_MADE_ID + len(self._made_ids))

    def _apply(self, stream: Stream, meaning: Meaning) -> None:
        if meaning.trades:
            kept = self._trades.setdefault(stream, deque(maxlen=LAST_TRADES))
            kept.extend(meaning.trades)
        if stream.channel != "book":
            return
        if meaning.is_snapshot:
            book = self._books.setdefault(stream, VenueBook(stream.depth))
            book.replace(meaning.changes, meaning.stamp)
        elif stream in self._books:
            self._books[stream].apply(meaning.changes, meaning.stamp)

    def _data_frames(self) -> Iterator[tuple[int, Frame, Stream, Meaning]]:
        for offset_ns, frame in merge_aligned(self._captures, self._starts):
            if frame.kind != "recv":
                continue
            meaning = self._read(frame)
            if isinstance(meaning, Meaning):
                yield offset_ns, frame, self._stream(meaning), meaning

    def _read(self, frame: Frame) -> Meaning | Control:
        try:
            return self._dialect.read(frame.data)
        except (ValueError, msgspec.DecodeError) as error:
            what = f"no frame of {self._dialect.name}: {error}"
            raise CaptureError(self._captures[frame.file_index].path, frame.line, what) from None

    def _stream(self, meaning: Meaning) -> Stream:
        if meaning.channel != "book":
            return Stream(meaning.channel, meaning.symbol)
        depth = meaning.depth or self._depths[meaning.symbol]
        return Stream("book", meaning.symbol, depth)

    def _scan(self) -> None:
        """Learn streams, depths, digits and numbers, and refuse what cannot be played."""
        for _, frame in merge_aligned(self._captures, self._starts):
            if frame.kind != "recv":
                continue
            meaning = self._read(frame)
            if isinstance(meaning, Control):
                self.instruments = self.instruments or meaning.instruments
                if meaning.stream is not None:
                    self._learn_depth(meaning.stream.symbol, meaning.stream.depth, frame)
                continue
            if meaning.channel == "book" and not meaning.depth:
                self._infer_depth(meaning, frame)
            self._learn(self._stream(meaning), meaning, frame)

    def _learn_depth(self, symbol: str, depth: int, frame: Frame) -> None:
        if self._depths.setdefault(symbol, depth) != depth:
            what = f"the book of {symbol} at depth {depth}, before at {self._depths[symbol]}"
            raise self._refusal(frame, f"{what}; play one recording of it")

    def _infer_depth(self, meaning: Meaning, frame: Frame) -> None:
        """Take the smallest depth on offer that holds the snapshot, where no reply told it."""
        if meaning.symbol in self._depths:
            return
        sides = [change.is_bid for change in meaning.changes]
        levels = max(sides.count(True), sides.count(False))
        depth = next((depth for depth in BOOK_DEPTHS if depth >= levels), 0)
        if not meaning.is_snapshot or not depth:
            raise self._refusal(frame, f"nothing tells the depth of {meaning.symbol}'s book")
        self._depths[meaning.symbol] = depth

    def _learn(self, stream: Stream, meaning: Meaning, frame: Frame) -> None:
        self.frames += 1
        known = self._known.setdefault(stream, _Known())
        known.frames += 1
        known.channel_id = meaning.channel_id
        if known.file_index != frame.file_index:
            if frame.file_index in known.files_left:
                other = self._captures[known.file_index].path
                what = f"{stream.channel} of {stream.symbol} is in {other} at the same time"
                raise self._refusal(frame, f"{what}; play one of the two")
            known.files_left.add(known.file_index)
            known.file_index = frame.file_index
        for _, level in meaning.changes:
            known.price_digits = max(known.price_digits, _decimals(level.price))
            known.qty_digits = max(known.qty_digits, _decimals(level.qty))

    def _refusal(self, frame: Frame, what: str) -> CaptureError:
        path: Path = self._captures[frame.file_index].path
        return CaptureError(path, frame.line, what)

    def _listed(self, pairs: Mapping[str, Pair]) -> list[Listing]:
        """Take ticks and lots from the venue's list of pairs, else from the digits on the wire."""
        digits: dict[str, tuple[int, int]] = {}
        for stream, known in self._known.items():
            price, qty = digits.get(stream.symbol, (0, 0))
            digits[stream.symbol] = (max(price, known.price_digits), max(qty, known.qty_digits))
        listings = []
        for symbol, (price, qty) in digits.items():
            pair = pairs.get(symbol, Pair(symbol, price, qty))
            qty_min = pair.ordermin or smallest(pair.lot_decimals)
            listings.append(Listing(symbol, pair.pair_decimals, pair.lot_decimals, qty_min))
        return listings


def smallest(digits: int) -> str:
    """Write the smallest number with so many decimals: 3 -> "0.001", 0 -> "1"."""
    return f"0.{'0' * (digits - 1)}1" if digits else "1"


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])
