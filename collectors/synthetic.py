"""A market from a seed: books, trades that eat into them, and the venue's frames with checksums.

The same specification gives the same bytes, on every machine: all randomness is bits of one
Mersenne twister, and nothing is computed in floating point after the start.

**Cost** Plain Python, some 12 us a frame, checksum and text included
(`bench_venue_synthetic_throughput`); memory does not grow with time.

**See** `synthetic_model` for how an instrument behaves, `synthetic_text` for the frames.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import msgspec

from collectors.synthetic_book import RESERVE
from collectors.synthetic_model import Instrument, SyntheticInstrument
from collectors.synthetic_text import Wire, WireV1, WireV2
from collectors.venue_dialect import BOOK_DEPTHS, Listing, Stream
from collectors.venue_tape import Step, legacy_symbol, smallest
from shm import clock

__all__ = [
    "DEFAULT_INSTRUMENTS",
    "SyntheticInstrument",
    "SyntheticSpec",
    "SyntheticTape",
    "synthetic_frames",
]

# Time between events in 1/64 of its mean, an exponential distribution's 32 quantiles' means.
_WAITS = (
    1, 3, 5, 7, 9, 12, 14, 17, 19, 22, 25, 28, 31, 34, 37, 41,
    44, 48, 52, 57, 61, 66, 72, 78, 84, 92, 101, 111, 124, 143, 171, 439,
)  # fmt: skip
_SYMBOL = re.compile(r"[A-Z0-9.]+/[A-Z0-9.]+")

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
            if not _SYMBOL.fullmatch(instrument.symbol):
                raise ValueError(f'symbol "{instrument.symbol}"; write it like BTC/USD')
            if not 0 <= instrument.qty_digits <= 12:
                raise ValueError(
                    f"{instrument.symbol}: qty_digits {instrument.qty_digits}; 0 to 12"
                )
            units = instrument.price.replace(".", "", 1)
            least = 8 * (self.depth + 4 * RESERVE)
            if not units.isdigit() or int(units) < least:
                raise ValueError(
                    f"{instrument.symbol} at {instrument.price}: a book of depth {self.depth} needs "
                    f"a price of at least {least} units of its last digit; add decimals"
                )


class SyntheticTape:
    """A synthetic market as a tape of one protocol ("kraken_v1" or "kraken_v2")."""

    def __init__(self, spec: SyntheticSpec, protocol: str) -> None:
        self.frames = spec.frames
        self.instruments = b""
        self.recordings_truncated = 0
        self.listings: list[Listing] = []
        self._spec = spec
        self._bits = random.Random(spec.seed).getrandbits
        self._mean_wait_ns = max(round(1e9 / spec.frames_per_s), 1)
        self._start_ns = spec.start_ns or clock.now_ns()
        self._offset_ns = 0
        self._frames_made = 0
        self._markets: list[tuple[Instrument, Stream, Stream]] = []
        self._by_stream: dict[Stream, Instrument] = {}
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
            bits = self._bits(104)
            instrument, book, trade = self._markets[(bits >> 76) % len(self._markets)]
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
        waited = len(steps) * _WAITS[bits >> 71 & 31] * instrument.wait_16ths()
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
        instrument = Instrument(given, spec.depth, wire, self._bits)
        instrument.open(self._start_ns // 1000)
        self._markets.append((instrument, book, trade))
        self._by_stream |= {book: instrument, trade: instrument}
        self._channel_ids |= {book: channel_id, trade: channel_id + 1}
        self.listings.append(Listing(symbol, *digits, smallest(given.qty_digits)))


def synthetic_frames(spec: SyntheticSpec, protocol: str) -> Iterator[tuple[int, bytes]]:
    """All frames as (ns since the beginning, text): a snapshot of each book, then the tape."""
    tape = SyntheticTape(spec, protocol)
    for stream in tape.streams:
        for data in tape.opening(stream, wants_trades=False):
            yield 0, data
    while (offset_ns := tape.next_offset_ns()) is not None:
        for step in tape.step():
            yield offset_ns, step.data
