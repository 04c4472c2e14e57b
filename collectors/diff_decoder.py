"""Books that are a REST snapshot plus the diffs after it: diffs wait in a bounded buffer until the snapshot comes.

**Protocol** (1) The first diff of a book, or a loss, puts the snapshot's URL into `rest_wanted`; diffs are buffered.
(2) `rest_response` loads the book and applies the buffered diffs by number. What the snapshot contains already is
dropped and counted (`frames_stale`). (3) The first diff after that must straddle the snapshot's number, by the
venue's own rule (`_straddles`); then each must follow the one before (`_follows`). (4) A snapshot older than the first
buffered diff, or a hole, asks again.

**Invariants** (1) No diff is applied to a book without a snapshot. (2) A buffered frame counts as decoded when it
comes; what becomes of it later never counts it twice.

**Failure** A buffer beyond BUFFER_FRAMES loses its oldest frame, so that a snapshot that comes late finds a hole and
is asked for again: memory stays bounded however long the REST side is down.
"""

from abc import abstractmethod
from collections import deque
from typing import Any, ClassVar, NamedTuple

import msgspec

from collectors.decoder import Subscription
from collectors.feed_decoder import FeedDecoder, FeedLine
from collectors.instrument_line import InstrumentLine
from collectors.instruments import Instrument
from layouts import GapReason, InstrumentState, StateReason
from shm.feed import compare_top, count_stale, top_of
from shm.outlet import DECODED, SNAPSHOT, Outlet, Reject

BUFFER_FRAMES = 4096
FIRST_DIFF_NS = 2_000_000_000
"""So long a book without any diff waits before its snapshot is asked for."""
NOT_SYNCED = -1
"""`line.seq` before a snapshot: no number is -1."""


Texts = tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw, msgspec.Raw]
"""The venue's best bid price and qty, ask price and qty."""


class Diff(NamedTuple):
    """One book update: numbers of its first and last change and of the last before, level arrays as text."""

    first: int
    last: int
    previous: int
    bids: bytes
    asks: bytes
    time: bytes
    ts_recv: int


class DiffLine(FeedLine):
    """An instrument with diffs that wait, and the venue's tops that wait for the diff with their number."""

    __slots__ = ("reached", "ticker_seq", "tickers", "top", "trade_kind", "waiting")

    def __init__(self, instrument: Instrument, outlet: Outlet, index: int) -> None:
        super().__init__(instrument, outlet, index)
        self.seq = NOT_SYNCED
        self.waiting: deque[Diff] = deque(maxlen=BUFFER_FRAMES)
        self.tickers: deque[tuple[int, Texts]] = deque(maxlen=BUFFER_FRAMES)
        self.trade_kind: type | None = None
        """Which of several trade streams is published."""
        self.ticker_seq = 0
        """Number of the newest of them."""
        self.top: Texts | None = None
        """The venue's newest top that the book should have reached."""
        self.reached: deque[tuple[int, Any]] = deque(maxlen=BUFFER_FRAMES)
        """Numbers and tops of the book that no later ticker has confirmed to be comparable."""

    @property
    def is_straddled(self) -> bool:
        """A diff has been applied since the snapshot; kept in C, where forms ask for it."""
        return bool(self.handle.is_chained)

    @is_straddled.setter
    def is_straddled(self, is_so: bool) -> None:
        self.handle.is_chained = is_so


class DiffDecoder(FeedDecoder):
    """A decoder of diffs over REST snapshots."""

    needs_rest: ClassVar[bool] = True
    line_type: ClassVar[type[InstrumentLine]] = DiffLine
    instruments: dict[str, DiffLine]  # type: ignore[assignment]

    @abstractmethod
    def _snapshot_url(self, symbol: str) -> str:
        """Return where the snapshot of a book is."""

    @abstractmethod
    def _straddles(self, diff: Diff, seq: int) -> bool:
        """Tell whether a diff may be the first on a snapshot with number `seq`."""

    @abstractmethod
    def _follows(self, diff: Diff, seq: int) -> bool:
        """Tell whether a diff may follow the one whose last number is `seq`."""

    @abstractmethod
    def _is_stale(self, diff: Diff, seq: int) -> bool:
        """Tell whether a snapshot with number `seq` contains a diff."""

    def _diff(self, symbol: str, line: DiffLine, diff: Diff) -> int:
        """Take one diff in whatever state its book is; returns its status, not counted."""
        ts = diff.ts_recv
        if line.seq == NOT_SYNCED:
            if not line.has_asked:
                self._lost(symbol, line, ts)
            line.waiting.append(diff)
            return DECODED
        if not line.is_straddled:
            if self._is_stale(diff, line.seq):
                count_stale(self.outlet)
                return DECODED
            if not self._straddles(diff, line.seq):
                self._hole(symbol, line, diff)
                return DECODED
        elif not self._follows(diff, line.seq):
            if diff.last <= line.seq:
                return Reject.DUPLICATE if diff.last == line.seq else Reject.LATE
            self._hole(symbol, line, diff)
            return DECODED
        return self._put(symbol, line, diff)

    def _put(self, symbol: str, line: DiffLine, diff: Diff, flags: int = 0) -> int:
        """Apply a diff that is the next."""
        line.is_straddled = True
        status = self._rows(
            symbol, line, flags, diff.bids, diff.asks, diff.time, 0, diff.last, diff.ts_recv
        )
        if status:
            line.seq = NOT_SYNCED
        elif line.ticker_seq:
            self._reach(line)
        return status

    def _looked(self, symbol: str, line: InstrumentLine, status: int, ts: int) -> int:
        """Go on after a diff that was taken by its form."""
        diff_line = self.instruments[symbol]
        if status:
            super()._looked(symbol, line, status, ts)
            diff_line.seq = NOT_SYNCED
        elif diff_line.ticker_seq:
            self._reach(diff_line)
        return status

    def _hole(self, symbol: str, line: DiffLine, diff: Diff) -> None:
        """Numbers are missing before this diff: it waits for a new snapshot."""
        first = line.seq + 1
        last = max(first, (diff.first or diff.last) - 1)
        line.waiting.clear()
        line.waiting.append(diff)
        self._gap(symbol, line, first, last, 1, diff.ts_recv)

    def _gap(self, symbol: str, line: FeedLine, first: int, last: int, lost: int, ts: int) -> None:
        super()._gap(symbol, line, first, last, lost, ts)
        line.seq = NOT_SYNCED

    def _suspect(self, symbol: str, line: FeedLine, ts: int) -> None:
        super()._suspect(symbol, line, ts)
        line.seq = NOT_SYNCED

    def _snapshot(
        self, symbol: str, seq: int, bids: bytes, asks: bytes, time: bytes, ts: int
    ) -> None:
        """Load a REST snapshot and go on with the diffs that waited for it."""
        line = self._diff_line(symbol)
        if line is None:
            return
        waiting = sorted(line.waiting, key=_by_number)
        if line.seq != NOT_SYNCED and seq < line.seq:
            count_stale(self.outlet)
            return
        fresh = [diff for diff in waiting if not self._is_stale(diff, seq)]
        if fresh and not self._straddles(fresh[0], seq):
            self.notices.append(f"{self.venue} {symbol}: snapshot {seq} is too old, asked again")
            self._lost(symbol, line, ts)
            return
        count_stale(self.outlet, len(waiting) - len(fresh))
        line.waiting.clear()
        line.is_straddled = False
        if self._rows(symbol, line, SNAPSHOT, bids, asks, time, 0, seq, ts):
            line.seq = NOT_SYNCED
            return
        for diff in fresh:
            self._diff(symbol, line, diff)

    def _diff_line(self, symbol: str) -> DiffLine | None:
        line = self._book_line(symbol)
        return line if isinstance(line, DiffLine) else None

    def _only_waiting(self) -> str | None:
        """Return the one book that waits for a snapshot, for recordings that do not say whose it is."""
        symbols = [s for s, line in self.instruments.items() if line.has_book]
        waiting = [s for s in symbols if self.instruments[s].seq == NOT_SYNCED]
        for found in (waiting, symbols):
            if len(found) == 1:
                return found[0]
        return None

    def _ask(self, symbol: str, line: InstrumentLine, ts: int) -> None:
        """A lost book needs no new subscription, only a new snapshot."""
        line.note_asked(ts)
        url = self._snapshot_url(symbol)
        if url not in self.rest_wanted:
            self.rest_wanted.append(url)

    def resubscribe(self, channel: str, symbol: str, ts: int) -> None:
        """Subscribe to one channel anew; a diff that then leaves a hole asks for its snapshot."""
        del ts
        wanted = Subscription(channel, (symbol,))
        self.outbox += self.unsubscribe_frames(wanted) + self.subscribe_frames(wanted)

    def expect_book(self, line: InstrumentLine, ts: int) -> None:
        """The first diff asks for the book's snapshot, or the timer where none comes."""
        super().expect_book(line, ts)
        assert isinstance(line, DiffLine)
        line.seq = NOT_SYNCED
        line.waiting.clear()
        line.expect_snapshot(ts, FIRST_DIFF_NS)

    def on_close(self, ts: int) -> None:
        """The link is gone: diffs that waited are part of what is lost."""
        super().on_close(ts)
        for line in self.instruments.values():
            line.seq = NOT_SYNCED
            line.waiting.clear()
            self._forget_tops(line)

    # ---- the venue's own best bid and ask ----

    def _ticker(self, symbol: str, seq: int, texts: Texts) -> None:
        """Keep the venue's top: it holds from the change with its number on, until the next one's."""
        line = self.instruments.get(symbol)
        if line is None or not line.has_book:
            return
        reached = line.reached
        line.tickers.append((seq, texts))
        if not line.ticker_seq:
            self.known.watch(line.place)
        line.ticker_seq = seq
        while reached and reached[0][0] < seq:
            self._check_top(line, *reached.popleft())

    def _reach(self, line: DiffLine) -> None:
        """A diff was applied: its top can be judged once a ticker beyond its number has come."""
        seq, top = line.seq, top_of(line.live)
        if line.ticker_seq > seq:
            self._check_top(line, seq, top)
        else:
            line.reached.append((seq, top))

    def _check_top(self, line: DiffLine, seq: int, top: Any) -> None:
        """Hold the book's top at a number against the venue's newest up to it."""
        tickers = line.tickers
        while tickers and tickers[0][0] <= seq:
            line.top = tickers.popleft()[1]
        if line.top is not None:
            compare_top(self.outlet, line.live, top, [bytes(text) for text in line.top])

    def finish(self) -> None:
        """No more frames come: judge the tops that waited for another ticker."""
        for line in self.instruments.values():
            while line.reached:
                self._check_top(line, *line.reached.popleft())

    def _forget_tops(self, line: DiffLine) -> None:
        line.tickers.clear()
        line.reached.clear()
        line.top = None
        line.ticker_seq = 0
        self.known.watch(line.place, False)

    def _blamed(self, symbol: str | None, ts: int) -> None:
        """A broken diff: its book is lost where the symbol is told, and the rest find out by their numbers."""
        line = self.instruments.get(symbol) if symbol else None
        if line is None:
            self.outlet.gap(GapReason.REFUSED_FRAME, 1, ts)
        elif line.has_book and symbol:
            line.live.set_state(
                InstrumentState.SUSPECT, StateReason.REFUSED_FRAME, ts, GapReason.REFUSED_FRAME, 1
            )
            line.seq = NOT_SYNCED
            self._lost(symbol, line, ts)


def _by_number(diff: Diff) -> int:
    return diff.last
