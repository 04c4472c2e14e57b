"""Depth sums are the book's own after every change, and what is read from a book's bytes is what its calls say."""

import random

import numpy as np
import pytest

from consumers.feature_depth import FULL, apply_level, clear_book, depth_qty, side_count, side_end
from consumers.feature_state import DEPTHS, INSTRUMENT_STATE
from shm.book import ASK, BID, Book
from shm.njit import address_of, as_pointer, carray, jit, load_word

DEPTH_LEVELS = (5, 10, 20, 50)


@jit
def _apply_kernel(state: int, book: int, side: int, price: int, qty: int) -> int:
    st = carray(as_pointer(state), (1,), INSTRUMENT_STATE)[0]
    return apply_level(st, state, book, side, price, qty)  # type: ignore[no-any-return]


@jit
def _clear_kernel(state: int, book: int) -> None:
    clear_book(carray(as_pointer(state), (1,), INSTRUMENT_STATE)[0], book)


@jit
def _depths_kernel(state: int, out: np.ndarray) -> None:
    st = carray(as_pointer(state), (1,), INSTRUMENT_STATE)[0]
    for side in range(2):
        for i in range(DEPTHS):
            out[side, i] = depth_qty(st, side, i)


@jit
def _look_kernel(book: int, side: int) -> tuple[int, int, int]:
    end = side_end(book, side)
    return side_count(book, side), load_word(end - 16), load_word(end - 8)


class Kept:
    """A book with its depth sums."""

    def __init__(self, capacity: int = 400) -> None:
        self.book = Book(capacity)
        self.state = np.zeros(1, INSTRUMENT_STATE)
        self.address = address_of(self.state)

    def apply(self, side: int, price: int, qty: int) -> int:
        """Apply a level."""
        return int(_apply_kernel(self.address, self.book.address, side, price, qty))

    def assert_sums(self) -> None:
        """Every depth sum is the sum over the book's levels."""
        found = np.empty((2, DEPTHS))
        _depths_kernel(self.address, found)
        for side, name in enumerate((BID, ASK)):
            for i, levels in enumerate(DEPTH_LEVELS):
                wanted = sum(qty for _, qty in self.book.depth(name, levels))
                assert found[side, i] == float(wanted)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("span", [8, 30, 200])
def test_depth_sums_follow_every_change(seed: int, span: int) -> None:
    """Levels coming, going and changing at any distance, books thinner and thicker than each depth."""
    rng = random.Random(seed)
    kept = Kept()
    for _ in range(400):
        side, price = rng.randrange(2), rng.randrange(1, span)
        qty = rng.choice((0, 1, rng.randrange(1, 2**60)))
        kept.apply(side, price, qty)
        kept.assert_sums()
    _clear_kernel(kept.address, kept.book.address)
    kept.assert_sums()


@pytest.mark.parametrize("seed", range(4))
def test_depth_sums_follow_a_thick_book_that_thins_out(seed: int) -> None:
    """Hundreds of levels deleted at any distance, some set again, until none is left: slots without a level count nothing."""
    rng = random.Random(seed)
    kept = Kept()
    for price in range(1, 301):
        kept.apply(0, price, rng.randrange(1, 9))
        kept.apply(1, 1000 - price, rng.randrange(1, 9))
    for price in rng.sample(range(1, 301), 300):
        kept.apply(0, price, 0)
        kept.apply(1, 1000 - rng.randrange(1, 301), 0)
        kept.assert_sums()
        for again in rng.sample(range(1, 301), 3):
            kept.apply(0, again, 3)
            kept.assert_sums()
            kept.apply(0, again, 0)
            kept.assert_sums()
    assert kept.book.count(BID) == 0


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("count", [4, 5, 6, 9, 10, 11, 49, 50, 51])
def test_depth_sums_at_both_sides_of_each_depth(side: int, count: int) -> None:
    """A level less, exactly as many, one more: insert at the best and at the end, delete both."""
    kept = Kept()
    for i in range(count):
        kept.apply(side, 1000 + i, i + 1)
    for price, qty in ((1, 7), (5000, 9), (1, 0), (5000, 0), (1000, 0), (1000 + count - 1, 0)):
        kept.apply(side, price, qty)
        kept.assert_sums()


def test_a_full_book_is_told_and_left_as_it_was() -> None:
    """Nothing was done, no sum moved; a level that is there can still change."""
    kept = Kept(capacity=2)
    kept.apply(0, 10, 1)
    kept.apply(0, 11, 1)
    kept.state["book_changed"] = 0
    assert kept.apply(0, 12, 1) == FULL
    assert kept.state["book_changed"] == 0
    kept.assert_sums()
    assert kept.apply(0, 11, 5) > 0
    kept.assert_sums()


def test_what_changes_nothing_is_no_change() -> None:
    """The same quantity again, and the deletion of a level that is not there."""
    kept = Kept()
    kept.apply(1, 10, 5)
    kept.state["book_changed"] = 0
    kept.apply(1, 10, 5)
    kept.apply(1, 77, 0)
    assert kept.state["book_changed"] == 0
    kept.assert_sums()


def test_the_bytes_are_read_where_the_book_keeps_them() -> None:
    """Counts and best levels equal those of the book's own calls."""
    book = Book(8)
    for i in range(5):
        book.apply(BID, 100 - i, 10 + i)
        book.apply(ASK, 101 + i, 20 + i)
    assert _look_kernel(book.address, 0) == (5, 100, 10)
    assert _look_kernel(book.address, 1) == (5, 101, 20)
