"""Positions in plain Python, from their definition: lots of whole fills, costs as Fractions, no limit of width."""

from collections import deque
from fractions import Fraction


class Position:
    """One account and instrument; `room` lots are kept, 1: average cost, 0: any number. Money in units of the fills."""

    def __init__(self, room: int, rounded: bool = True) -> None:
        self.room, self.rounded = room, rounded
        self.lots: deque[list] = deque()  # [qty, (price, multiplier) or None, signed cost]
        self.realised = Fraction(0)
        self.merged = False

    @property
    def qty(self) -> int:
        """Signed quantity held."""
        return self.sign * sum(lot[0] for lot in self.lots)

    @property
    def cost(self) -> Fraction:
        """Signed cost of what is held."""
        return sum((lot[2] for lot in self.lots), Fraction(0))

    sign = 0

    def fill(self, side: int, price: int, qty: int, multiplier: int = 1) -> None:
        """Book a fill: first against the oldest lots of the other side, the rest opens."""
        while qty and self.lots and self.sign == -side:
            lot = self.lots[0]
            taken = min(qty, lot[0])
            released = Fraction(lot[2]) * taken / lot[0]
            if self.rounded:
                released = Fraction(round(released))
            self.realised += self.sign * price * taken * multiplier - released
            lot[0] -= taken
            lot[2] -= released
            qty -= taken
            if not lot[0]:
                self.lots.popleft()
        if not self.lots:
            self.merged = False
        if qty:
            self.sign = side
            self._open(side, (price, multiplier), qty)

    def _open(self, side: int, paid: tuple[int, int], qty: int) -> None:
        cost = Fraction(side * qty * paid[0] * paid[1])
        if self.lots and (self.lots[-1][1] == paid or len(self.lots) == self.room):
            lot = self.lots[-1]
            if lot[1] != paid:
                lot[1] = None
                self.merged = True
            lot[0] += qty
            lot[2] += cost
        else:
            self.lots.append([qty, paid, cost])

    def unrealised(self, mark: int, multiplier: int = 1) -> Fraction:
        """Value at a mark less cost."""
        return self.qty * mark * multiplier - self.cost
