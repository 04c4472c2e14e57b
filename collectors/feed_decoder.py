"""What the decoders of venues without Kraken's checksum share: numbered frames, books that widen, trades in batches.

**Choices** Such venues trim zeros at the end of numbers, so that a later one may have more decimals than the first
snapshot: the frame then opens an instrument version, the book is rescaled where it stands and published as a snapshot
of the new version, and the frame is applied to it. Nothing is asked of the venue again. Only where the rescaled
numbers would leave 18 digits is the frame refused and the book asked for.

**Invariants** (1) A book frame that cannot be applied leaves its book SUSPECT. (2) `line.seq` is the venue's number of
the last frame that its book contains, 0 while there is none.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from collectors.decoder import Decoder
from collectors.instrument_line import InstrumentLine
from layouts import GapReason, InstrumentState, StateReason
from shm.feed import apply_rows, compare_top, fits_wanted, lose, top_of
from shm.outlet import DECODED, SNAPSHOT, WIDER, Reject, stage_trade

EMPTY = msgspec.Raw(b"")
WHOLE_BOOK = frozenset({0})
"""The depths of a venue whose book has no depth to choose."""


class FeedLine(InstrumentLine):
    """An instrument whose book frames are numbered."""

    __slots__ = ()

    @property
    def seq(self) -> int:
        """The venue's number of the last frame that the book contains; kept in C, where forms set it too."""
        return int(self.handle.seq)

    @seq.setter
    def seq(self, number: int) -> None:
        self.handle.seq = number


class FeedDecoder(Decoder):
    """A decoder over `shm.feed`."""

    depths: ClassVar[frozenset[int]] = WHOLE_BOOK
    default_depth: ClassVar[int] = 0
    line_type: ClassVar[type[InstrumentLine]] = FeedLine
    instruments: dict[str, FeedLine]  # type: ignore[assignment]

    # ---- books ----

    def _book_line(self, symbol: str) -> FeedLine | None:
        """Return the line of a symbol whose book is ours; None: it is not subscribed."""
        line = self.instruments.get(symbol)
        if line is not None and line.has_book:
            return line
        if not self.accept_any or self._line(symbol) is None:
            return None
        line = self.instruments[symbol]
        self._set_depth(line, 0)
        return line

    def _rows(
        self,
        symbol: str,
        line: FeedLine,
        flags: int,
        bids: bytes,
        asks: bytes,
        time: bytes,
        checksum: int,
        seq: int,
        ts: int,
    ) -> int:
        """Apply one book frame, in a wider version where it needs one; `seq` is then the book's."""
        status = apply_rows(
            line.handle, flags, bids, len(bids), asks, len(asks), time, len(time), checksum, seq, ts
        )
        if status == WIDER:
            self._widen(line, ts, keeps_book=not flags & SNAPSHOT)
            status = apply_rows(
                line.handle,
                flags,
                bids,
                len(bids),
                asks,
                len(asks),
                time,
                len(time),
                checksum,
                seq,
                ts,
            )
        if status:
            line.seq = 0
            return self._book_failed(symbol, line, status, ts)
        line.seq = seq
        if flags & SNAPSHOT:
            line.ask_at = 0
        return DECODED

    def _looked(self, symbol: str, line: InstrumentLine, status: int, ts: int) -> int:
        """Go on after a book update that was taken by its form."""
        if status:
            self.instruments[symbol].seq = 0
        return super()._looked(symbol, line, status, ts)

    def _gap(self, symbol: str, line: FeedLine, first: int, last: int, lost: int, ts: int) -> None:
        """The venue's numbers `first` to `last` are missing: the book is SUSPECT and asked for again."""
        line.seq = 0
        lose(line.live, first, last, lost, ts)
        if line.has_book:
            self._lost(symbol, line, ts)

    def _suspect(self, symbol: str, line: FeedLine, ts: int) -> None:
        """A frame of this book was refused before it could be applied."""
        line.seq = 0
        line.live.set_state(
            InstrumentState.SUSPECT, StateReason.REFUSED_FRAME, ts, GapReason.REFUSED_FRAME, 1
        )
        self._lost(symbol, line, ts)

    def _suspect_all(self, ts: int) -> None:
        """A frame was refused that may have been any book's, and nothing later would tell whose."""
        for symbol, line in self.instruments.items():
            if line.has_book and line.live.is_valid:
                self._suspect(symbol, line, ts)

    def on_close(self, ts: int) -> None:
        """The link is gone: every instrument has a gap until its next snapshot."""
        super().on_close(ts)
        self.rest_wanted.clear()
        for line in self.instruments.values():
            line.seq = 0

    # ---- trades ----

    def _stage(
        self,
        line: InstrumentLine,
        flags: int,
        price: msgspec.Raw,
        qty: msgspec.Raw,
        time: msgspec.Raw,
        trade_id: int,
        side: int,
        ts: int,
    ) -> int:
        """Stage one trade. WIDER: a wider version is open now, stage the whole frame again."""
        p, q, t = bytes(price), bytes(qty), bytes(time)
        texts = (p, len(p), q, len(q), t, len(t))
        status = stage_trade(line.handle, flags, *texts, trade_id, side, ts)
        return WIDER if status and self._stages_again(line, status, ts) else status

    def _may_widen(self, line: InstrumentLine) -> bool:
        """Tell whether a wider version holds all that the book has."""
        return fits_wanted(line.live)

    def _publish_trades(self, unknown: bool = False) -> int:
        """Publish the staged trades and count their frame."""
        status = self.outlet.commit()
        return self.outlet.count(status or (Reject.UNKNOWN_SYMBOL if unknown else DECODED))

    # ---- the venue's own best bid and ask ----

    def _hold_against(self, symbol: str, texts: Sequence[msgspec.Raw]) -> None:
        """Compare the venue's bid price and qty, ask price and qty with the book's top, where there is one; only
        counted.
        """
        line = self.instruments.get(symbol)
        if line is not None and line.live.is_valid and texts[0] and texts[2]:
            compare_top(self.outlet, line.live, top_of(line.live), [bytes(text) for text in texts])


def request(**members: object) -> bytes:
    """Return a request as JSON."""
    return msgspec.json.encode(members)


def text_of(raw: msgspec.Raw) -> str:
    """Return a JSON scalar's text without its quotes."""
    return bytes(raw).decode(errors="replace").strip('" ')


def only_one(names: Iterable[str]) -> str | None:
    """Return the one name there is; None where there are several or none."""
    found = set(names)
    return found.pop() if len(found) == 1 else None
