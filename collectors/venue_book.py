"""The venue's own book of one symbol: what a client that has applied every frame must hold.

It shares nothing with the collectors' decoding: prices are keyed as decimals, quantities and
prices are kept as the digits on the wire, and the checksum is made from those digits here.

**Invariants** (1) Each side holds at most `depth` levels, the best ones. (2) A level's text is
exactly what the venue last sent for it. (3) A quantity of zero is no level.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

# The levels of each side that Kraken's checksum covers, on both protocols.
CHECKSUM_LEVELS = 10


class Level(NamedTuple):
    """One price level as text: digits as sent, and the venue's stamp ("" where it has none)."""

    price: str
    qty: str
    stamp: str = ""


class Change(NamedTuple):
    """One level of a snapshot or an update, on the side that it belongs to."""

    is_bid: bool
    level: Level


class VenueBook:
    """Both sides of one symbol's book, best levels only, down to `depth`."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.stamp = ""
        self._bids: dict[Decimal, Level] = {}
        self._asks: dict[Decimal, Level] = {}
        # Ascending prices: the best bid is the last one, the best ask the first.
        self._bid_prices: list[Decimal] = []
        self._ask_prices: list[Decimal] = []

    @property
    def bids(self) -> list[Level]:
        """Best first."""
        return [self._bids[price] for price in reversed(self._bid_prices)]

    @property
    def asks(self) -> list[Level]:
        """Best first."""
        return [self._asks[price] for price in self._ask_prices]

    def replace(self, changes: Iterable[Change], stamp: str = "") -> None:
        """Take a snapshot: whatever was here before is gone."""
        for kept in (self._bids, self._asks, self._bid_prices, self._ask_prices):
            kept.clear()
        self.apply(changes, stamp)

    def apply(self, changes: Iterable[Change], stamp: str = "") -> None:
        """Take an update, then cut both sides to `depth` as every client does."""
        for is_bid, level in changes:
            levels, prices = (
                (self._bids, self._bid_prices) if is_bid else (self._asks, self._ask_prices)
            )
            price = Decimal(level.price)
            known = price in levels
            if not level.qty.strip("0."):
                if known:
                    del levels[price]
                    del prices[bisect_left(prices, price)]
                continue
            levels[price] = level
            if not known:
                prices.insert(bisect_left(prices, price), price)
        while len(self._bid_prices) > self.depth:
            del self._bids[self._bid_prices.pop(0)]
        while len(self._ask_prices) > self.depth:
            del self._asks[self._ask_prices.pop()]
        self.stamp = stamp or self.stamp

    def checksum(self) -> int:
        """CRC32 as Kraken documents it for books on both protocols.

        Over the ten best asks from low to high, then the ten best bids from high to low, of each
        the price's and then the quantity's digits without the dot and without leading zeros.
        """
        asks = (self._asks[price] for price in self._ask_prices[:CHECKSUM_LEVELS])
        bids = (self._bids[price] for price in self._bid_prices[: -CHECKSUM_LEVELS - 1 : -1])
        text = "".join(
            level.price.replace(".", "").lstrip("0") + level.qty.replace(".", "").lstrip("0")
            for side in (asks, bids)
            for level in side
        )
        return zlib.crc32(text.encode())
