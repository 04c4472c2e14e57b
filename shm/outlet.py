"""An outlet takes a collector's frames to its rings: each frame's records leave in one batch, or a GAP says why not.

A `LiveBook` is one instrument: its C book, its state, and the calls that turn level and trade texts into records.
**Protocol** A book frame is one call of `apply_levels` (native/live_api.h). Trades are staged one by one and committed
together. Status 0 is decoded, every other is one of `Reject`; WIDER asks for an instrument version first.
**Failure** Counts may lie in the worker's shared counters, where they survive its death.
**Threads and processes** One thread. **Cost** bench_collector_kraken_v1_frame.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from layouts import GapReason, InstrumentState, StateReason
from shm._native import ffi, lib
from shm.counters import Counters
from shm.producer import Producer

MAX_LEVELS = 200_000
_NOT_TOLD = (1 << 63) - 1
WIDER = -1
DECODED = 0


class Reject(IntEnum):
    """The only reasons for which a frame is rejected; counted as `rejected.<reason in lower case>`."""

    MALFORMED_JSON = 1
    UNEXPECTED_SHAPE = 2
    UNKNOWN_SYMBOL = 3
    UNKNOWN_CHANNEL = 4
    NOT_A_NUMBER = 5
    TOO_MANY_DIGITS = 6
    OUT_OF_RANGE = 7
    CHECKSUM = 8
    NO_SNAPSHOT = 9
    CROSSED = 10
    TOO_LARGE = 11
    LATE = 12
    DUPLICATE = 13
    NOT_PUBLISHED = 14


SNAPSHOT = 1
WITH_CHECKSUM = 2
ENDS_FRAME = 4
"""Flags of `apply_levels` and `stage_trade`: enum tr_frame_flags."""

COUNT_NAMES: tuple[str, ...] = (
    "frames_decoded",
    *(f"rejected.{reason.name.lower()}" for reason in Reject),
    *(f"gaps.{reason.name.lower()}" for reason in GapReason),
    "records_published",
    "checksums_ok",
    "checksums_bad",
    "levels",
    "levels_absent",
    "trades",
    "trades_duplicate",
    "books_published",
    "widenings",
    "frames_stale",
    "oracle_agree",
    "oracle_disagree",
)
"""What an outlet counts, in the order of enum tr_count: the names to make a worker's counters with."""

apply_levels: Callable[..., int] = lib.tr_live_levels
"""(live, flags, bids, bids_bytes, asks, asks_bytes, time, time_bytes, checksum, ts_recv) -> status; texts are bytes."""

stage_trade: Callable[..., int] = lib.tr_live_trade
"""(live, flags, price, price_bytes, qty, qty_bytes, time, time_bytes, trade_id, side, ts_recv) -> status."""

stage_trade_row: Callable[..., int] = lib.tr_live_trade_row
"""(live, flags, row, row_bytes, ts_recv) -> status, for rows as Kraken v1 writes them."""

commit_trades: Callable[..., int] = lib.tr_outlet_commit
"""(outlet, flags) -> status of the frame of all staged trades."""


class Took(NamedTuple):
    """From ts_recv to publication: frames, their sum and longest (ns), and `counts[i]` of frames below 1,024 << i ns, the last
    of all others; and how far ts_recv was behind ts_event at the least (ns, None: not told).
    """

    frames: int
    sum_ns: int
    longest_ns: int
    least_behind_ns: int | None
    counts: list[int]


class LiveBook:
    """One instrument's live book; made by `Outlet.open_live`. `handle` is what the module's calls take."""

    def __init__(self, outlet: "Outlet", instrument_id: int, depth: int, latest_index: int) -> None:
        handle = lib.tr_live_new(outlet.handle, instrument_id, depth, latest_index)
        if handle == ffi.NULL:
            raise MemoryError(f"instrument {instrument_id}: no memory for its book")
        self.handle = ffi.gc(handle, lib.tr_live_free)
        self._outlet = outlet  # lives at least as long as the C memory that points to it

    @property
    def instrument_id(self) -> int:
        """Id in the INSTRUMENT table."""
        return int(self.handle.instrument_id)

    @property
    def state(self) -> InstrumentState:
        """How far the book may be trusted."""
        return InstrumentState(self.handle.state)

    @property
    def is_valid(self) -> bool:
        """True from a snapshot until something is lost."""
        return bool(self.handle.book_is_valid)

    @property
    def version(self) -> int:
        """Instrument version, 0 before the first."""
        return int(self.handle.version)

    @property
    def scales(self) -> tuple[int, int]:
        """Decimals of price and qty."""
        return int(self.handle.price_scale), int(self.handle.qty_scale)

    @property
    def wanted_scales(self) -> tuple[int, int]:
        """Decimals of price and qty that WIDER asks for."""
        return int(self.handle.want_price_scale), int(self.handle.want_qty_scale)

    @property
    def last_trade_id(self) -> int:
        """Largest trade id published, 0 before the first."""
        return int(self.handle.last_trade_id)

    @property
    def crc_kraken(self) -> int:
        """Kraken's checksum of the book as it is."""
        return int(lib.tr_live_crc_kraken(self.handle))

    def depth(self, side: int, n: int) -> list[tuple[int, int]]:
        """Return up to `n` (price, qty) of one side (+1 bid, -1 ask), best first."""
        out = ffi.new("int64_t[]", 2 * max(n, 1))
        held = int(lib.tr_book_depth(self.handle.book, side, n, out))
        return [(out[2 * i], out[2 * i + 1]) for i in range(held)]

    def check(self) -> int:
        """Return 0 when the book's invariants hold, else the number of the broken one (native/book.h)."""
        return int(lib.tr_book_check(self.handle.book))

    def set_depth(self, depth: int) -> None:
        """Set the subscribed depth; 0: the venue sends the whole book."""
        lib.tr_live_set_depth(self.handle, depth)

    def set_version(self, version: int, price_scale: int, qty_scale: int) -> None:
        """Take up an instrument version; the book is invalid until the next snapshot."""
        lib.tr_live_set_version(self.handle, version, price_scale, qty_scale)

    def set_state(
        self,
        state: InstrumentState,
        reason: StateReason,
        ts_recv: int,
        gap: GapReason | None = None,
        frames_lost: int = 0,
    ) -> int:
        """Publish the state, after a GAP where one is named."""
        gap_reason = int(gap) if gap else 0
        return int(
            lib.tr_live_set_state(self.handle, state, reason, gap_reason, frames_lost, ts_recv)
        )

    def gap(self, reason: GapReason, frames_lost: int, ts_recv: int) -> int:
        """Publish a GAP and leave the state as it is: what was lost is not the book's."""
        return int(lib.tr_live_gap(self.handle, reason, frames_lost, ts_recv))

    def republish(self, ts_recv: int) -> int:
        """Publish the book as SNAPSHOT_BEGIN .. SNAPSHOT_END; NO_SNAPSHOT while it is not valid."""
        return int(lib.tr_live_republish(self.handle, ts_recv))


class Outlet:
    """Where a collector's records go.

    Args:
        events: ring of EVENT records.
        books: ring of BOOK records, if wanted.
        latest: `.latest` region of `books`, if wanted.
        counters: made with at least COUNT_NAMES; None: counts are private to this object.
        max_levels: levels that one frame may have; more are refused as TOO_LARGE.
    """

    def __init__(
        self,
        events: Producer,
        books: Producer | None = None,
        latest: Producer | None = None,
        counters: Counters | None = None,
        max_levels: int = MAX_LEVELS,
    ) -> None:
        own = ffi.new("int64_t[]", lib.TR_COUNTS)
        self._cells: list[Any] = [
            counters.pointer(name) if counters else own + i for i, name in enumerate(COUNT_NAMES)
        ]
        cells = ffi.new("int64_t *[]", self._cells)
        self._keep = (events, books, latest, counters, own)
        handle = lib.tr_outlet_new(
            events.handle,
            books.handle if books else ffi.NULL,
            latest.handle if latest else ffi.NULL,
            cells,
            max_levels,
        )
        if handle == ffi.NULL:
            raise MemoryError(f"no memory for frames of {max_levels} levels; lower max_levels")
        self.handle = ffi.gc(handle, lib.tr_outlet_free)
        self._took = ffi.new("tr_took *")

    def open_live(self, instrument_id: int, depth: int, latest_index: int = 0) -> LiveBook:
        """Make the live book of one instrument, SYNCING; `depth` 0: the venue sends the whole book."""
        return LiveBook(self, instrument_id, depth, latest_index)

    def count(self, status: int) -> int:
        """Count a frame that ended outside C, 0 as decoded, else as rejected; returns the status."""
        lib.tr_outlet_count(self.handle, status)
        return status

    def gap(self, reason: GapReason, frames_lost: int, ts_recv: int) -> int:
        """Publish a GAP that names no instrument: a frame was lost that nobody can attribute."""
        return int(lib.tr_outlet_gap(self.handle, reason, frames_lost, ts_recv))

    def commit(self) -> int:
        """Publish the staged trades as one frame, which is counted apart."""
        return int(lib.tr_outlet_commit(self.handle, 0))

    def abandon(self) -> None:
        """Forget the staged trades as if they had not come."""
        lib.tr_outlet_abandon(self.handle)

    def take_took(self) -> Took:
        """Return what frames took since the last call, and begin anew."""
        lib.tr_outlet_take_took(self.handle, self._took)
        took = self._took
        behind = int(took.least_behind_ns)
        return Took(
            int(took.frames),
            int(took.sum_ns),
            int(took.longest_ns),
            None if behind == _NOT_TOLD else behind,
            list(took.counts),
        )

    def counts(self) -> dict[str, int]:
        """Return every count by its name."""
        return {name: int(cell[0]) for name, cell in zip(COUNT_NAMES, self._cells, strict=True)}
