"""What further venues ask of a live book: their row forms, more decimals without losing the book, their own top as oracle.

**Protocol** A book frame is one call of `apply_rows` (native/live_feed_api.h). WIDER asks for an instrument version:
`widen` takes it up and, where the book is valid, publishes the book as a snapshot of the new version; then the same
call again. **See** `shm.outlet` for everything else of an outlet and its books.
"""

from collections.abc import Callable, Sequence
from typing import Any

from layouts import GapReason, InstrumentState, StateReason
from shm._native import ffi, lib
from shm.outlet import COUNT_NAMES, LiveBook, Outlet

CHECKSUM_OKX = 8
BOTH_SIDES = 16
"""Further flags of `apply_rows`: enum tr_row_flags."""

apply_rows: Callable[..., int] = lib.tr_live_rows
"""(live, flags, bids, bids_bytes, asks, asks_bytes, time, time_bytes, checksum, venue_seq, ts_recv) -> status."""

_TOP = ffi.typeof("int64_t[4]")
_STALE = COUNT_NAMES.index("frames_stale")
_AGREE = COUNT_NAMES.index("oracle_agree")
_DISAGREE = COUNT_NAMES.index("oracle_disagree")


def fits_wanted(live: LiveBook) -> bool:
    """Tell whether the wanted scales are wider and all that the book holds fits them."""
    return bool(lib.tr_live_fits_wanted(live.handle))


def widen(live: LiveBook, version: int, price_scale: int, qty_scale: int, ts_recv: int) -> int:
    """Take up a version with more decimals and keep the book; returns a status."""
    return int(lib.tr_live_widen(live.handle, version, price_scale, qty_scale, ts_recv))


def lose(live: LiveBook, venue_from: int, venue_to: int, frames_lost: int, ts_recv: int) -> int:
    """Publish GAP(SEQUENCE) naming the venue's missing numbers, and STATE(SUSPECT)."""
    lib.tr_live_gap_edges(live.handle, venue_from, venue_to)
    return live.set_state(
        InstrumentState.SUSPECT, StateReason.SEQUENCE, ts_recv, GapReason.SEQUENCE, frames_lost
    )


def miss(live: LiveBook, venue_from: int, venue_to: int, frames_lost: int, ts_recv: int) -> int:
    """Publish GAP(SEQUENCE) of what is not the book's (trades): the state stays."""
    lib.tr_live_gap_edges(live.handle, venue_from, venue_to)
    return live.gap(GapReason.SEQUENCE, frames_lost, ts_recv)


def top_of(live: LiveBook) -> Any:
    """Return the top as it is now, for `compare_top`."""
    top = ffi.new(_TOP)
    lib.tr_book_top(live.handle.book, top)
    return top


def compare_top(outlet: Outlet, live: LiveBook, top: Any, texts: Sequence[bytes]) -> int:
    """Hold a venue's best bid and ask against a top of the book and count it; 1 equal, 0 not, -1 not comparable.

    `texts` are bid price, bid qty, ask price, ask qty as JSON numbers, quoted or bare; an empty one is not compared.
    """
    sized = [part for text in texts for part in (text, len(text))]
    equal = int(lib.tr_live_top_is(live.handle, top, *sized))
    if equal >= 0:
        lib.tr_outlet_tally(outlet.handle, _AGREE if equal else _DISAGREE, 1)
    return equal


def count_stale(outlet: Outlet, n: int = 1) -> None:
    """Count frames that a snapshot already contains."""
    lib.tr_outlet_tally(outlet.handle, _STALE, n)


def crc_okx(live: LiveBook) -> int:
    """Return OKX's checksum of the book as it is."""
    return int(lib.tr_live_crc_okx(live.handle))
