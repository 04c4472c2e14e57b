"""A market from a seed: books, trades that eat into them, and the venue's frames with checksums.

The same specification gives the same bytes, on every machine: all randomness is bits of one
Mersenne twister, and nothing is computed in floating point after the start.

**Why it is like a market** Orders arrive near the best price with a long tail, in round sizes more
often than not; spreads are closed the sooner the wider they are; takers lean to one side for a
while, in calm, normal and busy times; prices are pulled back to where they began, so that a market
may run for ever. A trade prints at the best levels that it takes, and the update that follows
shows them gone.

**Cost** See `bench/` for frames a second; memory does not grow with time.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from collectors.synthetic_book import RESERVE, BookSide, LevelChange
from collectors.synthetic_text import Print, Wire, WireV1, WireV2
from collectors.venue_book import CHECKSUM_LEVELS
from collectors.venue_dialect import BOOK_DEPTHS, Listing, Stream
from collectors.venue_tape import LAST_TRADES, Step, legacy_symbol, smallest
from shm import clock

# Ticks from the best price at which an order is placed or a level is cancelled, by rank: six
# random bits choose.
_DISTANCES = (
    (0,) * 14 + (1,) * 12 + (2,) * 9 + (3,) * 7 + (4,) * 5 + (5,) * 4 + (6,) * 3 + (7, 7)
    + (8, 8) + (10, 12, 15, 18, 22, 30)
)  # fmt: skip
# Round sizes, in lots of about 200 quote units.
_ROUND_LOTS = (1, 1, 2, 2, 2, 5, 5, 5, 10, 10, 10, 20, 25, 50, 50, 100)
# Time between events in 1/64 of its mean, an exponential distribution's 32 quantiles' means.
_WAITS = (
    1, 3, 5, 7, 9, 12, 14, 17, 19, 22, 25, 28, 31, 34, 37, 41,
    44, 48, 52, 57, 61, 66, 72, 78, 84, 92, 101, 111, 124, 143, 171, 439,
)  # fmt: skip
# After so many events an instrument changes its mood.
_MOOD_EVENTS = 400


class _Mood(NamedTuple):
    """How an instrument behaves for a while: of 256 events so many trade, cancel, move, the rest
    place; and the time between them in 1/16 of the mean.
    """

    trades: int
    cancels: int
    moves: int
    wait_16ths: int


_MOODS = (_Mood(6, 84, 60, 26), _Mood(18, 90, 60, 15), _Mood(40, 96, 48, 7))


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


DEFAULT_INSTRUMENTS = (
    SyntheticInstrument("BTC/USD", "63005.0"),
    SyntheticInstrument("ETH/USD", "1877.30"),
    SyntheticInstrument("SOL/USD", "148.27"),
    SyntheticInstrument("XRP/USD", "0.58214"),
)


class SyntheticSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A market: `frames_per_s` over all instruments at speed 1, `frames` in all (0: for ever).

    `start_ns` is the market's first time, ns since the epoch (0: when its tape begins to play);
    with it the bytes are fixed by the specification alone.
    """

    seed: int = 1
    instruments: tuple[SyntheticInstrument, ...] = DEFAULT_INSTRUMENTS
    depth: int = 10
    frames_per_s: float = 200.0
    start_ns: int = 0
    frames: int = 0

    def __post_init__(self) -> None:
        if self.depth not in BOOK_DEPTHS:
            raise ValueError(f"depth {self.depth}; the venue offers {BOOK_DEPTHS}")
        if not 0 < self.frames_per_s <= 1e9:
            raise ValueError(f"frames_per_s {self.frames_per_s}; it is above 0 and at most 1e9")
        if not self.instruments:
            raise ValueError("no instruments; name at least one")
        names = [instrument.symbol for instrument in self.instruments]
        if len(set(names)) < len(names):
            raise ValueError(f"instruments {names}; each symbol may be given once")
        for instrument in self.instruments:
            units = instrument.price.replace(".", "", 1)
            least = 20 * (self.depth + 4 * RESERVE)
            if not units.isdigit() or int(units) < least:
                raise ValueError(
                    f"{instrument.symbol} at {instrument.price}: a book of depth {self.depth} needs "
                    f"a price of at least {least} units of its last digit; add decimals"
                )


class _Instrument:
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
        # A lot is a power of ten of quantity units worth some 200 quote units at the start.
        worth = self._start * 10**given.qty_digits // 10**given.price_digits
        self._lot: int = 10 ** max(len(str(200 * 100**given.qty_digits // max(worth, 1))) - 1, 0)
        self._trade_id = 1_000_000
        self._mood = _MOODS[1]
        self._mood_left = 0
        self._buys_1024ths = 512

    def open(self, ts_us: int) -> None:
        """Fill both sides around the starting price."""
        self.ts_us = ts_us
        for side, key in ((self.bids, self._start), (self.asks, -self._start - 1)):
            side.put(key, self._size(self._bits(24)), ts_us)
            self._fill(side)

    def event(self, bits: int, ts_us: int, *, may_trade: bool) -> Event:
        """Let one thing happen; what is not visible changes nothing for anybody."""
        if not self._mood_left:
            self._change_mood(bits)
        self._mood_left -= 1
        mood = self._mood
        kind = bits & 255
        is_up = (bits >> 8 & 1023) < self._buys_1024ths
        if kind < mood.trades and may_trade:
            return self._trade(bits >> 18, ts_us, is_buy=is_up)
        kind -= mood.trades
        if kind < mood.cancels + mood.moves:
            # What leans up takes asks away.
            side = self.asks if is_up else self.bids
            changes = self._cancel(side, bits >> 18, ts_us)
            if kind >= mood.cancels:
                changes += self._place(side, bits >> 24, ts_us)
        else:
            side = self.bids if is_up else self.asks
            changes = self._place(side, bits >> 18, ts_us)
        self._keep_filled(side)
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
        lean = (bits >> 40) % 241 - 120
        pull = 2048 * (self._start - self.bids.best) // self._start
        self._buys_1024ths = min(max(512 + lean + pull, 112), 912)

    def _size(self, bits: int) -> int:
        lots = _ROUND_LOTS[bits & 15]
        if bits & 0x10:
            return lots * self._lot
        # Every other size is nobody's round number.
        return lots * self._lot * (1 + (bits >> 5 & 0xFFFF)) // 0x8000 + 1

    def _place(self, side: BookSide, bits: int, ts_us: int) -> list[LevelChange]:
        """Put an order on a side: inside a wide spread, else at some distance from its best."""
        other = self.asks if side.is_bid else self.bids
        spread = self.asks.best - self.bids.best
        key = side.keys[-1]
        # The wider the spread, the sooner somebody steps in: 1 in 2 at 2 ticks, 5 in 6 at 6.
        if spread > 1 and (bits >> 6 & 63) * spread >= 64:
            key += 1 + (bits >> 12 & 63) % (spread - 1)
        else:
            key -= _DISTANCES[bits & 63]
        assert key < -other.keys[-1], "an order may not cross the book"
        if side.is_bid and key < 1:
            return []
        qty = self._size(bits >> 18)
        level = side.levels.get(key)
        if level is not None:
            qty += level.qty if level.qty < 1000 * self._lot else 0
        return side.put(key, qty, ts_us)

    def _cancel(self, side: BookSide, bits: int, ts_us: int) -> list[LevelChange]:
        """Take a level away, or a part of it."""
        rank = min(_DISTANCES[bits & 63], side.depth - 1)
        key = side.keys[-1 - rank]
        qty = side.levels[key].qty
        if bits >> 18 & 3 or qty <= self._lot:
            return side.remove(rank)
        return side.put(key, qty - qty // 2, ts_us)

    def _trade(self, bits: int, ts_us: int, *, is_buy: bool) -> Event:
        """Let a taker in: it prints at the best levels until it is filled, five of them at most."""
        side = self.asks if is_buy else self.bids
        left = self._size(bits)
        prints: list[Print] = []
        changes: list[LevelChange] = []
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
        self._keep_filled(side)
        return Event(prints, [], changes) if is_buy else Event(prints, changes, [])

    def _keep_filled(self, side: BookSide) -> None:
        wanted = side.wants_levels()
        if wanted > 0:
            self._fill(side)
        elif wanted < 0:
            side.trim(-wanted)

    def _fill(self, side: BookSide) -> None:
        """Add levels at the far end, out of sight but for the opening."""
        for _ in range(side.depth + 2 * RESERVE - len(side.keys)):
            bits = self._bits(32)
            key = side.keys[0] - 1 - _DISTANCES[bits & 63]
            if side.is_bid and key < 1:
                return
            side.put(key, self._size(bits >> 6), self.ts_us)


class SyntheticTape:
    """A synthetic market as a tape of one protocol ("kraken_v1" or "kraken_v2")."""

    def __init__(self, spec: SyntheticSpec, protocol: str) -> None:
        self.frames = spec.frames
        self.instruments = b""
        self.listings: list[Listing] = []
        self._spec = spec
        self._bits = random.Random(spec.seed).getrandbits
        self._mean_wait_ns = max(round(1e9 / spec.frames_per_s), 1)
        self._start_ns = spec.start_ns or clock.now_ns()
        self._offset_ns = 0
        self._frames_made = 0
        self._markets: list[tuple[_Instrument, Stream, Stream]] = []
        self._by_stream: dict[Stream, _Instrument] = {}
        self._channel_ids: dict[Stream, int] = {}
        for number, given in enumerate(spec.instruments):
            self._add(given, protocol, 1000 + 4 * number)
        self.streams = dict.fromkeys(self._by_stream, 0)

    def begin(self) -> None:
        """Let the market's time start now, unless the specification fixes it."""
        if not self._spec.start_ns:
            self._start_ns = clock.now_ns() - self._offset_ns

    def next_offset_ns(self) -> int | None:
        """Tell the time of the next moment since the beginning; None after the last frame."""
        if self.frames and self._frames_made >= self.frames:
            return None
        return self._offset_ns

    def step(self) -> list[Step]:
        """Take the next moment: an update, or a trade and the update that it causes."""
        ts_us = (self._start_ns + self._offset_ns) // 1000
        # A trade takes two frames, and a bounded tape ends on its last one exactly.
        may_trade = not self.frames or self._frames_made + 2 <= self.frames
        while True:
            bits = self._bits(96)
            instrument, book, trade = self._markets[(bits >> 71) % len(self._markets)]
            prints, bids, asks = instrument.event(bits, ts_us, may_trade=may_trade)
            if bids or asks:
                break
        steps = []
        wire = instrument.wire
        if prints:
            texts = wire.prints(prints, ts_us)
            instrument.last_trades.extend(texts)
            steps.append(Step(trade, wire.trades(texts, is_snapshot=False)))
        instrument.ts_us = ts_us
        steps.append(Step(book, wire.update(bids, asks, instrument.checksum(), ts_us)))
        self._frames_made += len(steps)
        waited = len(steps) * _WAITS[bits >> 66 & 31] * instrument.wait_16ths()
        self._offset_ns += self._mean_wait_ns * waited >> 10
        return steps

    def opening(self, stream: Stream, *, wants_trades: bool) -> list[bytes]:
        """Make what a new listener must be told now."""
        instrument = self._by_stream.get(stream)
        if instrument is None:
            return []
        wire = instrument.wire
        if stream.channel == "book":
            crc = instrument.checksum()
            return [wire.snapshot(instrument.bids, instrument.asks, crc, instrument.ts_us)]
        if not wants_trades:
            return []
        return [wire.trades(list(instrument.last_trades), is_snapshot=True)]

    def channel_id(self, stream: Stream) -> int:
        """Tell the number that frames of this stream carry (first protocol only)."""
        return self._channel_ids.get(stream, 0)

    def _add(self, given: SyntheticInstrument, protocol: str, channel_id: int) -> None:
        spec = self._spec
        digits = (given.price_digits, given.qty_digits)
        wire: Wire
        if protocol == "kraken_v1":
            symbol = legacy_symbol(given.symbol)
            wire = WireV1(symbol, *digits, spec.depth, channel_id)
        else:
            symbol = given.symbol
            wire = WireV2(symbol, *digits)
        book, trade = Stream("book", symbol, spec.depth), Stream("trade", symbol)
        instrument = _Instrument(given, spec.depth, wire, self._bits)
        instrument.open(self._start_ns // 1000)
        self._markets.append((instrument, book, trade))
        self._by_stream |= {book: instrument, trade: instrument}
        self._channel_ids |= {book: channel_id, trade: channel_id + 1}
        self.listings.append(Listing(symbol, *digits, *digits, smallest(given.qty_digits)))


def synthetic_frames(spec: SyntheticSpec, protocol: str) -> Iterator[tuple[int, bytes]]:
    """All frames as (ns since the beginning, text): a snapshot of each book, then the tape."""
    tape = SyntheticTape(spec, protocol)
    for stream in tape.streams:
        for data in tape.opening(stream, wants_trades=False):
            yield 0, data
    while (offset_ns := tape.next_offset_ns()) is not None:
        for step in tape.step():
            yield offset_ns, step.data
