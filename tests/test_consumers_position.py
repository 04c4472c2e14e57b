"""Positions equal the plain reference in every integer: average cost and FIFO, long, short and through zero, at every width."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cases import from_words
from position_reference import Position

from consumers.position import (
    BOOKED,
    LOT,
    MIXED_PRICE,
    POSITION_STATE,
    TOO_WIDE,
    average_price,
    begin_day,
    book_fee,
    book_fill,
    unrealised,
)
from layouts.position import PositionFault
from shm.njit import address_of

BUY, SELL = 1, -1


class Booked:
    """A position of the kernel, with the reference beside it."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.state = np.zeros(1, POSITION_STATE)
        self.lots = np.zeros(room, LOT)
        self.reference = Position(room)
        self.out = np.zeros(2, np.int64)

    def kernel(self, side: int, price: int, qty: int, multiplier: int = 1) -> int:
        """Book with the kernel alone."""
        return book_fill(
            address_of(self.state), address_of(self.lots), self.room, side, price, qty, multiplier
        )

    def fill(self, side: int, price: int, qty: int, multiplier: int = 1) -> None:
        """Book with both and compare all that is kept."""
        assert self.kernel(side, price, qty, multiplier) == BOOKED
        self.reference.fill(side, price, qty, multiplier)
        self.agree()

    def wide(self, name: str) -> int:
        """Give a pair of the state."""
        return from_words(self.state[name][0])

    def unrealised(self, mark: int) -> int:
        """Give the kernel's."""
        assert unrealised(address_of(self.state), mark, address_of(self.out)) == 0
        return from_words(self.out)

    def average(self) -> int:
        """Give the kernel's average price."""
        assert average_price(address_of(self.state), address_of(self.out)) == 0
        return int(self.out[0])

    def agree(self) -> None:
        """The kernel's integers are the reference's, lot by lot."""
        wanted = self.reference
        assert int(self.state["qty"][0]) == wanted.qty
        assert self.wide("cost") == wanted.cost
        assert self.wide("realised") == self.wide("realised_total") == wanted.realised
        first, n = int(self.state["first_lot"][0]), int(self.state["lots"][0])
        held = [self.lots[(first + i) % self.room] for i in range(n)]
        assert [(int(lot["qty"]), from_words(lot["cost"])) for lot in held] == [
            (lot[0], lot[2]) for lot in wanted.lots
        ]
        assert [lot["price"] == MIXED_PRICE for lot in held] == [
            lot[1] is None for lot in wanted.lots
        ]
        flagged = bool(int(self.state["faults"][0]) & PositionFault.LOTS_MERGED)
        assert flagged == (wanted.merged and self.room > 1)


fills = st.lists(
    st.tuples(
        st.sampled_from([BUY, SELL]),
        st.one_of(st.integers(-20, 20), st.integers(-(10**15), 10**15)),
        st.one_of(st.integers(1, 9), st.integers(1, 10**12)),
        st.sampled_from([1, 1, 1, 3, 1000]),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(room=st.sampled_from([1, 2, 3, 64]), trades=fills)
def test_any_fills_are_booked_as_the_reference_books_them(room: int, trades: list) -> None:
    """Average cost, FIFO with merged lots, FIFO with room for all: quantity, cost, realised and each lot."""
    booked = Booked(room)
    for side, price, qty, multiplier in trades:
        booked.fill(side, price, qty, multiplier)


@settings(max_examples=200, deadline=None)
@given(trades=fills, mark=st.integers(-(10**15), 10**15))
def test_fifo_without_merged_lots_is_exact(trades: list, mark: int) -> None:
    """Nothing is ever rounded: equal to the fractions themselves."""
    booked, exact = Booked(64), Position(0, rounded=False)
    for side, price, qty, multiplier in trades:
        booked.kernel(side, price, qty, multiplier)
        exact.fill(side, price, qty, multiplier)
    assert booked.wide("realised_total") == exact.realised
    multiplier = trades[-1][3] if trades else 1
    assert booked.unrealised(mark) == exact.unrealised(mark, multiplier)


@settings(max_examples=200, deadline=None)
@given(trades=fills, mark=st.integers(-(10**15), 10**15))
def test_average_cost_is_within_half_a_unit_of_each_rounding(trades: list, mark: int) -> None:
    """Realised is off the fractions by at most half a unit a reduction; with unrealised it is exact."""
    booked, exact, reductions = Booked(1), Position(1, rounded=False), 0
    for side, price, qty, multiplier in trades:
        reductions += exact.qty * side < 0
        booked.kernel(side, price, qty, multiplier)
        exact.fill(side, price, qty, multiplier)
    assert abs(booked.wide("realised_total") - exact.realised) <= Fraction(reductions, 2)
    multiplier = trades[-1][3] if trades else 1
    total = exact.realised + exact.unrealised(mark, multiplier)
    assert booked.wide("realised_total") + booked.unrealised(mark) == total


def test_long_short_and_through_zero_in_one_fill() -> None:
    """Buy 10 at 100, sell 25 at 110: 100 realised, 15 short at 110; buy 15 at 90: 300 more, flat."""
    booked = Booked(8)
    booked.fill(BUY, 100, 10)
    assert (booked.average(), booked.unrealised(105)) == (100, 50)
    booked.fill(SELL, 110, 25)
    assert (booked.wide("realised"), booked.average(), booked.unrealised(100)) == (100, 110, 150)
    assert int(booked.state["qty"][0]) == -15
    booked.fill(BUY, 90, 15)
    assert (booked.wide("realised"), booked.average(), booked.unrealised(1)) == (400, 0, 0)


def test_fifo_and_average_part_where_they_should() -> None:
    """Two lots at 100 and 200, one sold at 150: FIFO gains 50, average cost nothing."""
    fifo, average = Booked(8), Booked(1)
    for booked in (fifo, average):
        booked.fill(BUY, 100, 1)
        booked.fill(BUY, 200, 1)
        booked.fill(SELL, 150, 1)
    assert (fifo.wide("realised"), average.wide("realised")) == (50, 0)
    assert (fifo.average(), average.average()) == (200, 150)


@pytest.mark.parametrize(
    ("paid", "average"), [((1, 2), 2), ((2, 3), 2), ((-1, -2), -2), ((1, 1), 1)]
)
def test_an_average_price_is_rounded_half_to_even(paid: tuple[int, int], average: int) -> None:
    """1.5 and 2.5 are both 2."""
    booked = Booked(1)
    for price in paid:
        booked.fill(BUY, price, 1)
    assert booked.average() == average


def test_a_share_of_a_cost_is_rounded_half_to_even_and_the_rest_stays() -> None:
    """Cost 5 of 2 held: 1 of them takes 2, and 3 stay."""
    booked = Booked(1)
    booked.fill(BUY, 2, 1)
    booked.fill(BUY, 3, 1)
    booked.fill(SELL, 10, 1)
    assert (booked.wide("realised"), booked.wide("cost")) == (8, 3)


@pytest.mark.parametrize(
    ("room", "fills_n", "lots", "merged"), [(3, 2, 2, 0), (3, 3, 3, 0), (3, 4, 3, 1), (1, 4, 1, 0)]
)
def test_fills_beyond_the_room_go_into_the_newest_lot(
    room: int, fills_n: int, lots: int, merged: int
) -> None:
    """One below, at, one beyond the room; average cost is no merger."""
    booked = Booked(room)
    for price in range(fills_n):
        booked.fill(BUY, price, 1)
    assert int(booked.state["lots"][0]) == lots
    assert bool(booked.state["faults"][0]) == bool(merged)
    booked.fill(SELL, 5, fills_n + 1)
    assert (int(booked.state["lots"][0]), int(booked.state["faults"][0])) == (1, 0)


def test_fills_of_one_price_share_a_lot() -> None:
    """An order that is filled in a hundred parts takes no more room than one."""
    booked = Booked(2)
    for _ in range(100):
        booked.fill(SELL, 7, 3)
    assert int(booked.state["lots"][0]) == 1
    booked.fill(SELL, 7, 3, multiplier=2)
    assert int(booked.state["lots"][0]) == 2


def snapshot(booked: Booked) -> bytes:
    """All that a refused fill must leave alone."""
    kept = booked.state.copy()
    kept["work"] = 0
    return kept.tobytes() + booked.lots.tobytes()


@pytest.mark.parametrize(
    ("before", "fill", "fits"),
    [
        ([], (BUY, 1 << 62, 1 << 62, 8), False),
        ([], (BUY, 1 << 62, 1 << 62, 7), True),
        ([], (SELL, 1 << 62, 1 << 62, 8), True),
        ([], (SELL, 1 << 62, 1 << 62, 9), False),
        ([], (BUY, 1 << 62, 1 << 62, 32), False),
        ([], (SELL, 1 << 62, 1 << 62, 32), False),
        ([(BUY, 1, (1 << 63) - 2, 1)], (BUY, 1, 1, 1), True),
        ([(BUY, 1, (1 << 63) - 1, 1)], (BUY, 1, 1, 1), False),
        ([(SELL, 1, (1 << 63) - 1, 1)], (SELL, 1, 1, 1), False),
        ([(BUY, 1 << 62, 1 << 62, 4)], (BUY, 1 << 62, 1 << 62, 4), False),
        ([(BUY, 1 << 62, 1 << 61, 4)], (BUY, 1 << 62, 1 << 61, 3), True),
        ([(BUY, -(1 << 62), 1 << 62, 4)], (SELL, 1 << 62, 1 << 62, 4), False),
        ([(BUY, -(1 << 62), 1 << 61, 4)], (SELL, 1 << 62, 1 << 61, 3), True),
    ],
)
@pytest.mark.parametrize("room", [1, 4])
def test_what_does_not_fit_is_refused_and_changes_nothing(
    room: int, before: list, fill: tuple, fits: bool
) -> None:
    """Both sides of 2**63 of quantity and of 2**127 of cost and of gain."""
    booked = Booked(room)
    for each in before:
        booked.fill(*each)
    kept = snapshot(booked)
    if fits:
        booked.fill(*fill)
        return
    assert booked.kernel(*fill) == TOO_WIDE
    assert snapshot(booked) == kept


def test_fees_are_added_at_their_unit_or_refused() -> None:
    """Paid above 0, received below; the day's and all of them; a sum that does not fit changes neither."""
    booked = Booked(1)
    position = address_of(booked.state)
    assert book_fee(position, 25, 100) == 0 and book_fee(position, -5, 10) == 0
    assert booked.wide("fees") == booked.wide("fees_total") == 2450
    booked.state["fees_total"][0] = (-1, (1 << 63) - 1)
    assert book_fee(position, 1, 1) == 1
    assert booked.wide("fees") == 2450


def test_a_day_begins_with_what_was_unrealised() -> None:
    """Day sums start at 0, totals go on, and the days' P&L add up to the whole."""
    booked = Booked(4)
    booked.fill(BUY, 100, 10)
    booked.fill(SELL, 130, 4)
    first = booked.wide("realised") + booked.unrealised(110)
    carried = np.zeros(2, np.int64)
    carried[0] = booked.unrealised(110)
    begin_day(address_of(booked.state), 20_000, address_of(carried))
    assert (booked.wide("realised"), booked.wide("carried")) == (0, 60)
    assert booked.kernel(SELL, 90, 6) == BOOKED
    second = booked.wide("realised") + booked.unrealised(1) - booked.wide("carried")
    assert first + second == booked.wide("realised_total") == 120 - 60
    assert int(booked.state["day"][0]) == 20_000


def test_a_value_that_does_not_fit_is_told_and_0() -> None:
    """A mark at which the value leaves 128 bits."""
    booked = Booked(1)
    booked.fill(BUY, 1, 1 << 62, 16)
    assert unrealised(address_of(booked.state), 1 << 62, address_of(booked.out)) == 1
    assert from_words(booked.out) == 0
    assert booked.unrealised(1 << 50) == (1 << 62) * 16 * ((1 << 50) - 1)
