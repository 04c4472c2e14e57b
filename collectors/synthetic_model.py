"""How one synthetic instrument behaves: what its makers and takers do next, and what is seen of it.

A fair price that nobody sees wanders, in calm, normal and busy times, and is pulled back to where
it began, so that a market may run for ever. Makers place orders near it with a long tail, in round
sizes every other time, and take stale ones away; takers hit what is on the wrong side of it. So
spreads open when it moves and close again. All of it is integers and given bits.

**Invariants** (1) The best bid is below the best ask after every event. (2) A trade prints at the
best levels, for no more than they show, and the changes of the same event show what is left.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from collectors.synthetic_book import RESERVE, BookSide, LevelChange
from collectors.synthetic_text import Print, Wire
from collectors.venue_book import CHECKSUM_LEVELS
from collectors.venue_tape import LAST_TRADES

# Steps from the fair price at which an order is placed, and the ranks from the best at which one is
# taken away; six random bits choose.
_DISTANCES = (
    (0,) * 12 + (1,) * 11 + (2,) * 9 + (3,) * 8 + (4,) * 6 + (5,) * 5 + (6,) * 3 + (7, 7)
    + (8, 8) + (9, 10, 12, 14, 17, 20)
)  # fmt: skip
# Round sizes, in lots of about 200 quote units.
_ROUND_LOTS = (1, 1, 2, 2, 2, 5, 5, 5, 10, 10, 10, 20, 25, 50, 50, 100)
# After so many events, about, an instrument changes its mood.
_MOOD_EVENTS = 400
# The fair price is kept in this part of a tick.
_FAIR_PARTS = 128
# A price is this many steps; a step is what lies between two levels, about.
_STEPS = 40_000


class _Mood(NamedTuple):
    """How an instrument behaves for a while.

    Of 256 events so many trade, cancel and move, the rest place; `volatility` scales the fair
    price's wandering, `wait_16ths` the time between events.
    """

    trades: int
    cancels: int
    moves: int
    volatility: int
    wait_16ths: int


_MOODS = (_Mood(5, 60, 70, 1, 26), _Mood(16, 60, 70, 2, 15), _Mood(36, 60, 70, 4, 7))


class Event(NamedTuple):
    """What one event shows: prints, and the visible changes of both sides."""

    prints: list[Print]
    bids: list[LevelChange]
    asks: list[LevelChange]


class SyntheticInstrument(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is traded: `price` to begin with, with as many decimals as the wire shows."""

    symbol: str
    price: str
    qty_digits: int = 8

    @property
    def price_digits(self) -> int:
        """Decimals of a price on the wire; the tick is one unit of the last."""
        return len(self.price.partition(".")[2])


class Instrument:
    """One instrument's books, mood and frames."""

    def __init__(
        self, given: SyntheticInstrument, depth: int, wire: Wire, bits: Callable[[int], int]
    ) -> None:
        self.wire = wire
        self.bids = BookSide(depth, is_bid=True)
        self.asks = BookSide(depth, is_bid=False)
        self.last_trades: deque[bytes] = deque(maxlen=LAST_TRADES)
        self.ts_us = 0
        self._bits = bits
        self._start = int(given.price.replace(".", "", 1))
        self._fair = self._start * _FAIR_PARTS
        self._step = max(self._start // _STEPS, 1)
        # A lot is a power of ten of quantity units worth some 200 quote units at the start.
        worth = self._start * 10**given.qty_digits // 10**given.price_digits
        self._lot: int = 10 ** max(len(str(200 * 100**given.qty_digits // max(worth, 1))) - 1, 0)
        self._trade_id = 1_000_000
        self._mood = _MOODS[1]
        self._mood_left = 0

    def open(self, ts_us: int) -> None:
        """Fill both sides around the starting price."""
        self.ts_us = ts_us
        for side, best in ((self.bids, self._start), (self.asks, -self._start - 1)):
            key = best
            while len(side.keys) < side.depth + 2 * RESERVE and (key > 0 or not side.is_bid):
                bits = self._bits(32)
                side.put(key, self._size(bits), ts_us)
                key -= 1 + _DISTANCES[bits >> 24 & 63] * self._step // 2

    def event(self, bits: int, ts_us: int, *, may_trade: bool) -> Event:
        """Let one thing happen; what is not visible changes nothing for anybody."""
        if not self._mood_left:
            self._change_mood(bits)
        self._mood_left -= 1
        mood = self._mood
        self._fair += (2 * (bits >> 66 & 31) - 31) * self._step * mood.volatility
        fair = self._fair // _FAIR_PARTS
        bid, ask = self.bids.best, self.asks.best
        kind = bits & 255
        # Where the fair price lies in the spread tells which side is attacked and which is fed.
        is_up = (bits >> 8 & 1023) * (ask - bid + 2) < (fair - bid + 1) << 10
        if kind < mood.trades and may_trade:
            return self._trade(bits >> 18, ts_us, is_buy=is_up)
        kind -= mood.trades
        if kind < mood.cancels + mood.moves:
            side = self.asks if is_up else self.bids
            is_stale = fair >= ask if is_up else fair <= bid
            changes = self._cancel(side, bits >> 18, ts_us, is_stale=is_stale)
            if kind >= mood.cancels:
                changes += self._place(side, fair, bits >> 28, ts_us)
        else:
            side = self.bids if is_up else self.asks
            changes = self._place(side, fair, bits >> 18, ts_us)
        changes += self._keep_filled(side, ts_us)
        return Event([], changes, []) if side.is_bid else Event([], [], changes)

    def wait_16ths(self) -> int:
        """Tell the time to the next event in 1/16 of the mean."""
        return self._mood.wait_16ths

    def checksum(self) -> int:
        """CRC32 over the digits of the ten best asks, then of the ten best bids."""
        text = self.asks.checksum_text(CHECKSUM_LEVELS) + self.bids.checksum_text(CHECKSUM_LEVELS)
        return zlib.crc32(text.encode())

    def _change_mood(self, bits: int) -> None:
        self._mood_left = _MOOD_EVENTS // 2 + (bits >> 20) % _MOOD_EVENTS
        self._mood = _MOODS[(bits >> 32) % len(_MOODS)]
        self._fair += (self._start * _FAIR_PARTS - self._fair) * _MOOD_EVENTS // 65_536

    def _size(self, bits: int) -> int:
        lots = _ROUND_LOTS[bits & 15]
        if bits & 0x10:
            return lots * self._lot
        # Every other size is nobody's round number.
        return lots * self._lot * (1 + (bits >> 5 & 0xFFFF)) // 0x8000 + 1

    def _place(self, side: BookSide, fair: int, bits: int, ts_us: int) -> list[LevelChange]:
        """Put an order on a side, at some distance from the fair price but never across."""
        distance = _DISTANCES[bits & 63]
        if not bits >> 6 & 7:
            distance = distance * side.depth // 8
        if distance:
            distance = distance * self._step - (bits >> 9 & 0xFF) % self._step
        # A bid's key is its price, an ask's the negated one: both sides look up to the other.
        key = (fair if side.is_bid else -fair - 1) - distance
        other = self.asks if side.is_bid else self.bids
        key = min(key, -other.keys[-1] - 1)
        if side.is_bid and key < 1:
            return []
        qty = self._size(bits >> 17)
        level = side.levels.get(key)
        if level is not None and level.qty < 100 * self._lot:
            qty += level.qty
        return side.put(key, qty, ts_us)

    def _cancel(
        self, side: BookSide, bits: int, ts_us: int, *, is_stale: bool
    ) -> list[LevelChange]:
        """Take a level away, or a part of it; the best one when it is on the wrong side."""
        rank = 0 if is_stale else _DISTANCES[bits & 63]
        if not bits >> 6 & 7:
            rank = rank * side.depth // 8
        rank = min(rank, side.depth - 1)
        key = side.keys[-1 - rank]
        qty = side.levels[key].qty
        if is_stale or bits >> 9 & 1 or qty <= self._lot:
            return side.remove(rank)
        return side.put(key, qty - qty // 2, ts_us)

    def _trade(self, bits: int, ts_us: int, *, is_buy: bool) -> Event:
        """Let a taker in: it prints at the best levels until it is filled, five of them at most."""
        side = self.asks if is_buy else self.bids
        left = self._size(bits)
        prints: list[Print] = []
        changes: list[LevelChange] = []
        key = side.keys[-1]
        while left > 0 and len(prints) < 5:
            key = side.keys[-1]
            level = side.levels[key]
            qty = min(left, level.qty)
            left -= qty
            self._trade_id += 1
            prints.append(Print(side.price(key), qty, is_buy, self._trade_id))
            if qty == level.qty:
                changes += side.remove(0)
            else:
                changes += side.put(key, level.qty - qty, ts_us)
        changes += self._keep_filled(side, ts_us, key)
        return Event(prints, [], changes) if is_buy else Event(prints, changes, [])

    def _keep_filled(
        self, side: BookSide, ts_us: int, taken: int | None = None
    ) -> list[LevelChange]:
        """Let makers in where the book is thin near the fair price; what is seen of it.

        Nobody steps in at or before the key that a taker has just reached (`taken`).
        """
        side.trim()
        fair = self._fair // _FAIR_PARTS
        own = fair if side.is_bid else -fair - 1
        span = side.depth + 4 * RESERVE
        if not side.is_thin(own - span * self._step):
            return []
        other = self.asks if side.is_bid else self.bids
        top = min(own, -other.keys[-1] - 1)
        if taken is not None:
            top = min(top, taken - 1)
        changes: list[LevelChange] = []
        for _ in range(4):
            bits = self._bits(40)
            key = top - (bits & 0xFFFF) % span * self._step
            if key not in side.levels and (key > 0 or not side.is_bid):
                changes += side.put(key, self._size(bits >> 16), ts_us)
        return changes
