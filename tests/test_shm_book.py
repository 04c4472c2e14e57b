"""The C book holds what a plain dictionary would, sorted, at every bound, and its bytes are the book."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.book import ASK, BID, Book, BookError, Change

SIDES = st.sampled_from([BID, ASK])
PRICES = st.integers(1, 24)
UPDATES = st.lists(st.tuples(SIDES, PRICES, st.integers(0, 3)), max_size=120)


class DictBook:
    """The reference: two dictionaries, sorted when asked."""

    def __init__(self) -> None:
        self.levels = {BID: {}, ASK: {}}

    def apply(self, side: int, price: int, qty: int) -> Change:
        before, best = self.levels[side].get(price), self.best(side)
        if qty:
            self.levels[side][price] = qty
        elif before is None:
            return Change.ABSENT
        else:
            del self.levels[side][price]
        if before == qty:
            return Change.SAME
        return Change.TOP if price == best or price == self.best(side) else Change.CHANGED

    def best(self, side: int) -> int | None:
        prices = self.levels[side]
        return (max(prices) if side == BID else min(prices)) if prices else None

    def depth(self, side: int) -> list[tuple[int, int]]:
        return sorted(self.levels[side].items(), reverse=side == BID)

    def truncate(self, side: int, depth: int) -> list[int]:
        cut = [price for price, _ in self.depth(side)[depth:]]
        for price in cut:
            del self.levels[side][price]
        return cut[::-1]


def same(book: Book, reference: DictBook) -> bool:
    return book.check() == 0 and all(
        book.depth(side, 1000) == reference.depth(side) for side in (BID, ASK)
    )


@given(UPDATES, st.integers(1, 5))
@settings(max_examples=300)
def test_updates_equal_a_dictionary(updates, capacity) -> None:
    """Each outcome and the whole book agree after every update, while the book grows."""
    book, reference = Book(capacity), DictBook()
    for side, price, qty in updates:
        assert book.apply(side, price, qty) is reference.apply(side, price, qty)
        assert same(book, reference)


@given(UPDATES, st.integers(0, 12))
def test_truncation_cuts_the_worst(updates, depth) -> None:
    """What is cut is what a dictionary sorted by price would cut, named worst first."""
    book, reference = Book(4), DictBook()
    for update in updates:
        book.apply(*update)
        reference.apply(*update)
    for side in (BID, ASK):
        assert book.truncate(side, depth) == reference.truncate(side, depth)
    assert same(book, reference)


@given(SIDES, st.lists(st.tuples(PRICES, st.integers(0, 3)), max_size=60))
@settings(max_examples=300)
def test_a_snapshot_in_any_order_equals_a_dictionary(side, levels) -> None:
    """The last of equal prices counts and empty levels are left out, whatever the order."""
    book = Book(2)
    book.apply(side, 99, 5)
    expected = {price: qty for price, qty in dict(levels).items() if qty}
    assert book.load(side, levels) == len(expected)
    assert book.depth(side, 1000) == sorted(expected.items(), reverse=side == BID)
    assert book.check() == 0


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled", "two runs"])
@pytest.mark.parametrize("side", [BID, ASK])
def test_a_full_depth_snapshot_loads_in_any_order(side, order) -> None:
    """46,000 levels come out sorted from each wire order."""
    levels = [(price, price % 97 + 1) for price in range(1, 46_001)]
    wire = list(levels)
    if order == "descending":
        wire.reverse()
    elif order == "shuffled":
        random.Random(7).shuffle(wire)
    elif order == "two runs":
        wire = wire[1::2] + wire[0::2]
    book = Book(46_000)
    assert book.load(side, wire) == 46_000
    assert book.depth(side, 46_000) == sorted(levels, reverse=side == BID)
    assert book.capacity == 46_000


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_capacity_is_the_bound_and_growing_keeps_the_book(count) -> None:
    """A book of 8 holds 8; the ninth level makes it grow and loses nothing."""
    book = Book(8)
    for price in range(1, count + 1):
        book.apply(ASK, price, price)
    assert book.capacity == (8 if count <= 8 else 16)
    assert book.depth(ASK, 100) == [(price, price) for price in range(1, count + 1)]
    assert book.depth(BID, 100) == []


@pytest.mark.parametrize("capacity", [300, 512, 4096])
@pytest.mark.parametrize("seed", range(2))
def test_a_deep_book_equals_a_dictionary_while_levels_come_and_go(seed, capacity) -> None:
    """Far from the best as at it, in fixed memory: outcomes, levels, copies and images agree after every change."""
    choose = random.Random(seed)
    book, reference = Book(capacity), DictBook()
    start = [(3 * price, 1) for price in range(1, 250)]
    for side in (BID, ASK):
        book.load(side, start)
        for price, qty in start:
            reference.apply(side, price, qty)
    for turn in range(1200):
        side = choose.choice((BID, ASK))
        near = choose.random() < 0.3 and reference.levels[side]
        price = (
            reference.best(side) - side * choose.randrange(4) if near else choose.randrange(1, 760)
        )
        held = reference.levels[side].get(price)
        qty = 0 if held and choose.random() < 0.6 else choose.randrange(3)
        if len(reference.levels[side]) == capacity and not held:
            continue
        assert book.apply(side, price, qty) is reference.apply(side, price, qty)
        assert same(book, reference)
        if turn % 100 == 0:
            assert same(Book.from_bytes(bytes(book)), reference)
            depth = choose.choice((150, 240))
            assert book.truncate(side, depth) == reference.truncate(side, depth)
            assert same(book, reference)
    assert book.capacity == capacity


@pytest.mark.parametrize("seed", range(6))
def test_a_deep_book_may_run_empty_and_fill_again(seed) -> None:
    """Levels deleted in any order down to none, and added again: no slot that was one counts as one."""
    choose = random.Random(seed)
    book, reference = Book(256), DictBook()
    for _ in range(3):
        for price in choose.sample(range(1, 400), choose.choice((66, 130, 250))):
            assert book.apply(ASK, price, 1) is reference.apply(ASK, price, 1)
        for price, _ in sorted(reference.levels[ASK].items(), key=lambda _: choose.random()):
            assert book.apply(ASK, price, 0) is reference.apply(ASK, price, 0)
            assert same(book, reference)
            assert book.top()[2] == (reference.best(ASK) or 0)
            near = choose.randrange(1, 400)
            if reference.levels[ASK].get(near) is None and choose.random() < 0.3:
                assert book.apply(ASK, near, 1) is reference.apply(ASK, near, 1)
                assert book.apply(ASK, near, 0) is reference.apply(ASK, near, 0)


def test_a_deleted_level_far_from_the_best_costs_no_slot_for_ever() -> None:
    """A book whose levels wander through new prices stays within the memory that it has."""
    book = Book(256)
    book.load(BID, [(price, 1) for price in range(1, 201)])
    for price in range(201, 20_000):
        assert book.apply(BID, price, 1) is Change.TOP
        assert book.apply(BID, price - 200, 0) is Change.CHANGED
        assert book.check() == 0
    assert book.capacity == 256
    assert book.count(BID) == 200


def test_a_book_moves_as_bytes() -> None:
    """A copy by bytes is the same book and independent of the first."""
    book = Book(4)
    for side, price, qty in [(BID, 10, 1), (BID, 9, 2), (ASK, 11, 3)]:
        book.apply(side, price, qty)
    copy = Book.from_bytes(bytes(book))
    assert bytes(copy) == bytes(book)
    copy.apply(BID, 10, 0)
    assert book.top() == (10, 1, 11, 3)
    assert copy.top() == (9, 2, 11, 3)
    copy.clear()
    assert copy.top() == (0, 0, 0, 0)


def test_damaged_bytes_are_refused() -> None:
    """A cut image, a wrong magic, a count beyond capacity, unsorted or empty levels: each is refused."""
    book = Book(2)
    book.apply(BID, 10, 1)
    book.apply(BID, 11, 1)
    good = bytes(book)
    for damaged in (
        good[:32],
        good[:-8],
        b"\0" + good[1:],
        good[:16] + (3).to_bytes(8, "little") + good[24:],
        good[:16] + (-1).to_bytes(8, "little", signed=True) + good[24:],
        good[:64] + good[80:96] + good[64:80] + good[96:],
        good[:72] + bytes(8) + good[80:],
        good[:32] + (3).to_bytes(8, "little") + good[40:],
        good[:32] + (1).to_bytes(8, "little") + good[40:],
        good[:48] + (1).to_bytes(8, "little") + good[56:],
        good[:48] + (3).to_bytes(8, "little") + good[56:],
    ):
        with pytest.raises(BookError):
            Book.from_bytes(damaged)


def test_crossed_means_the_best_prices_meet() -> None:
    """A bid below the ask is not crossed, one at the ask is, and one side alone never is."""
    book = Book(4)
    book.apply(BID, 10, 1)
    assert not book.is_crossed()
    book.apply(ASK, 11, 1)
    assert not book.is_crossed()
    book.apply(BID, 11, 1)
    assert book.is_crossed()


@pytest.mark.parametrize("bad", [0, -1, 2**32 + 1])
def test_an_impossible_capacity_is_refused(bad) -> None:
    """The error names the value and the range."""
    with pytest.raises(BookError, match=f"capacity {bad}"):
        Book(bad)


def test_an_impossible_side_is_refused() -> None:
    """Only +1 and -1 are sides."""
    with pytest.raises(BookError, match="side 0"):
        Book(1).apply(0, 1, 1)
