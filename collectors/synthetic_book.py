"""One side of a synthetic market: more levels than anybody sees, and what a change shows of them.

A venue publishes the best `depth` levels of a deeper book. So a level that leaves the visible part
lets the next one in (told in the same update), and one that enters pushes the last one out (not
told: every client cuts its book to the depth).

**Layout** A level's key is its price for bids and its negated price for asks, so that on both
sides keys ascend and the best one is the last. Prices and quantities are integers in units of the
last decimal.

**Invariants** (1) Each side holds more than `depth` levels, as far as prices above zero go, and at
most `depth` + 4 x `RESERVE` after `trim`. (2) Applying the changes returned to a book of `depth`
levels, then cutting it to `depth`, gives the visible part.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

RESERVE = 16


class LevelChange(NamedTuple):
    """What a client is told of one level: price and quantity in units, 0 when it is gone."""

    price: int
    qty: int


class SideLevel(NamedTuple):
    """A level as it stands: its quantity, its checksum text, and when it last changed (us)."""

    qty: int
    digits: str
    ts_us: int


class BookSide:
    """The bids or the asks of one instrument."""

    def __init__(self, depth: int, *, is_bid: bool) -> None:
        self.depth = depth
        self.is_bid = is_bid
        self.keys: list[int] = []
        self.levels: dict[int, SideLevel] = {}

    @property
    def best(self) -> int:
        """The best price."""
        key = self.keys[-1]
        return key if self.is_bid else -key

    def price(self, key: int) -> int:
        """Tell the price of a key."""
        return key if self.is_bid else -key

    def put(self, key: int, qty: int, ts_us: int) -> list[LevelChange]:
        """Set a level's quantity, whether it is there or not."""
        keys = self.keys
        index = bisect_left(keys, key)
        if key not in self.levels:
            keys.insert(index, key)
        price = key if self.is_bid else -key
        self.levels[key] = SideLevel(qty, f"{price}{qty}", ts_us)
        if len(keys) - index > self.depth:
            return []
        return [LevelChange(price, qty)]

    def remove(self, rank: int) -> list[LevelChange]:
        """Take a level away by its rank from the best (0); the one that comes into sight with it."""
        keys = self.keys
        key = keys.pop(-1 - rank)
        del self.levels[key]
        if rank >= self.depth:
            return []
        changes = [LevelChange(self.price(key), 0)]
        if len(keys) >= self.depth:
            entered = keys[-self.depth]
            changes.append(LevelChange(self.price(entered), self.levels[entered].qty))
        return changes

    def checksum_text(self, levels: int) -> str:
        """Join the digits of the best levels, best first, for the venue's checksum."""
        known = self.levels
        return "".join([known[key].digits for key in self.keys[: -levels - 1 : -1]])

    def visible(self) -> list[tuple[int, SideLevel]]:
        """List what a snapshot shows: (price, level), best first."""
        return [(self.price(key), self.levels[key]) for key in self.keys[: -self.depth - 1 : -1]]

    def is_thin(self, key: int) -> bool:
        """Tell whether levels are missing: in all, or between the best and this key in sight."""
        count = len(self.keys)
        return count < self.depth + RESERVE or self.keys[-self.depth] < key

    def trim(self) -> None:
        """Forget the farthest levels, which nobody sees, when there are too many."""
        excess = len(self.keys) - self.depth - 4 * RESERVE
        if excess > 0:
            for key in self.keys[:excess]:
                del self.levels[key]
            del self.keys[:excess]
