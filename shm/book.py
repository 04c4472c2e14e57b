"""A price-level book over the C core: exact integers in, sorted levels out, and its bytes are its checkpoint.

**Layout** native/book.h. The memory holds no pointer: `bytes(book)` is a whole copy, `Book.from_bytes` a whole book.
**Threads and processes** Private memory of one process; hand `address` to njit code, which calls the same functions.
**Cost** One foreign call per operation (0.1-0.2 us from Python); the collector's hot path stays in C.
"""

from enum import IntEnum
from typing import Self

from shm._native import ffi, lib

BID = 1
ASK = -1
HEADER_BYTES = 64


class Change(IntEnum):
    """What one level did to the book."""

    SAME = 0
    CHANGED = 1
    TOP = 2
    ABSENT = 3


class BookError(ValueError):
    """Memory that is no sound book, or a side or capacity that cannot be; the message says which."""


class Book:
    """One instrument's book, growing when a side is full.

    Args:
        capacity: levels a side to start with (>= 1).
    """

    def __init__(self, capacity: int = 1024) -> None:
        n_bytes = int(lib.tr_book_bytes(capacity))
        if n_bytes < 0:
            raise BookError(f"book capacity {capacity}: 1 to 2**32 levels a side expected")
        self._words = ffi.new("int64_t[]", n_bytes // 8)
        lib.tr_book_init(self._words, capacity)

    @classmethod
    def from_bytes(cls, image: bytes) -> Self:
        """Return the book whose bytes these are.

        Raises:
            BookError: the image is too short, has no magic or breaks an invariant of native/book.h.
        """
        if len(image) < HEADER_BYTES or len(image) % 8:
            raise BookError(
                f"book image of {len(image)} bytes: a header of {HEADER_BYTES} expected"
            )
        words = ffi.new("int64_t[]", len(image) // 8)
        ffi.memmove(words, image, len(image))
        expected = int(lib.tr_book_bytes(words[1]))
        if len(image) != expected:
            raise BookError(
                f"book image of {len(image)} bytes: its capacity {words[1]} takes {expected}"
            )
        broken = int(lib.tr_book_check(words))
        if broken:
            raise BookError(f"book image breaks invariant {broken} of native/book.h; discard it")
        book = cls.__new__(cls)
        book._words = words
        return book

    @property
    def address(self) -> int:
        """Where the book lies, for njit code; it moves when a side grows in `apply` or `load`."""
        return int(ffi.cast("intptr_t", self._words))

    @property
    def capacity(self) -> int:
        """Levels a side that fit before the book grows."""
        return int(self._words[1])

    def apply(self, side: int, price: int, qty: int) -> Change:
        """Set the level at `price` to `qty`, or delete it where `qty` is 0; `side` is BID or ASK."""
        _check_side(side)
        change = lib.tr_book_apply(self._words, side, price, qty)
        if change < 0:
            self._grow(2 * self.capacity)
            change = lib.tr_book_apply(self._words, side, price, qty)
        return Change(change)

    def load(self, side: int, levels: list[tuple[int, int]]) -> int:
        """Replace one side by (price, qty) pairs in any order; of equal prices the last counts. Returns levels held."""
        _check_side(side)
        if len(levels) > self.capacity:
            self._grow(len(levels))
        pairs = ffi.new("int64_t[]", [word for level in levels for word in level])
        return int(lib.tr_book_load(self._words, side, pairs, len(levels)))

    def clear(self) -> None:
        """Forget every level."""
        lib.tr_book_clear(self._words)

    def count(self, side: int) -> int:
        """Return the number of levels on a side."""
        _check_side(side)
        return int(lib.tr_book_levels(self._words, side))

    def top(self) -> tuple[int, int, int, int]:
        """Return bid_price, bid_qty, ask_price, ask_qty; zeros where a side is empty."""
        out = ffi.new("int64_t[4]")
        lib.tr_book_top(self._words, out)
        return out[0], out[1], out[2], out[3]

    def depth(self, side: int, n: int) -> list[tuple[int, int]]:
        """Return up to `n` (price, qty) of one side, best first."""
        _check_side(side)
        out = ffi.new("int64_t[]", 2 * max(n, 1))
        held = int(lib.tr_book_depth(self._words, side, n, out))
        return [(out[2 * i], out[2 * i + 1]) for i in range(held)]

    def truncate(self, side: int, depth: int) -> list[int]:
        """Drop the levels beyond the best `depth`; return their prices, worst first."""
        _check_side(side)
        cut = ffi.new("int64_t[]", max(self.count(side) - depth, 1))
        return list(cut[0 : int(lib.tr_book_truncate(self._words, side, depth, cut))])

    def is_crossed(self) -> bool:
        """Tell whether the best bid is at or above the best ask."""
        return bool(lib.tr_book_crossed(self._words))

    def check(self) -> int:
        """Return 0 when the invariants of native/book.h hold, else the number of the broken one."""
        return int(lib.tr_book_check(self._words))

    def __bytes__(self) -> bytes:
        """Return the book's memory: its checkpoint."""
        return bytes(ffi.buffer(self._words))

    def __repr__(self) -> str:
        """Show the levels held and the top."""
        bid_price, bid_qty, ask_price, ask_qty = self.top()
        return (
            f"<Book {self.count(BID)} bids, {self.count(ASK)} asks, "
            f"{bid_qty} @ {bid_price} / {ask_qty} @ {ask_price}>"
        )

    def _grow(self, capacity: int) -> None:
        words = ffi.new("int64_t[]", int(lib.tr_book_bytes(capacity)) // 8)
        lib.tr_book_copy(words, capacity, self._words)
        self._words = words


def _check_side(side: int) -> None:
    if side not in (BID, ASK):
        raise BookError(f"book side {side}: {BID} (bid) or {ASK} (ask) expected")
