"""How a synthetic market's changes read on the wire, in either protocol of the venue.

Everything is text made from integers; the frames are byte for byte what the venue would send for
the same changes. **See** `venue_dialect_v1` and `venue_dialect_v2` for the protocols.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from collectors.synthetic_book import BookSide, LevelChange
from collectors.venue_dialect import rfc3339


class Print(NamedTuple):
    """One trade: price and quantity in units, the taker's side, the venue's own number."""

    price: int
    qty: int
    is_buy: bool
    trade_id: int


class Wire(Protocol):
    """One instrument's frames in one protocol."""

    def update(
        self, bids: Sequence[LevelChange], asks: Sequence[LevelChange], crc: int, ts_us: int
    ) -> bytes:
        """Make a book update."""
        ...

    def snapshot(self, bids: BookSide, asks: BookSide, crc: int, ts_us: int) -> bytes:
        """Make a book snapshot."""
        ...

    def prints(self, prints: Sequence[Print], ts_us: int) -> list[bytes]:
        """Make the venue's text of each print."""
        ...

    def trades(self, texts: Sequence[bytes], *, is_snapshot: bool) -> bytes:
        """Make a trade frame of such texts."""
        ...


class _Decimals:
    """Writes integers as decimals; the strings of prices are kept, since few prices are in use."""

    KEPT = 1 << 16

    def __init__(self, digits: int) -> None:
        self._digits = digits
        self._one = 10**digits
        self._texts: dict[int, str] = {}

    def text(self, units: int) -> str:
        """Write without keeping."""
        if not self._digits:
            return str(units)
        whole, part = divmod(units, self._one)
        return f"{whole}.{part:0{self._digits}d}"

    def kept(self, units: int) -> str:
        """Write, or take what was written before."""
        text = self._texts.get(units)
        if text is None:
            if len(self._texts) >= self.KEPT:
                self._texts.clear()
            text = self._texts[units] = self.text(units)
        return text


class _Stamps:
    """Writes times; the text of a second is kept, since thousands of frames share it."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def rfc3339(self, ts_us: int) -> str:
        """UTC with microseconds."""
        second, micros = divmod(ts_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._text = rfc3339(second * 1_000_000_000)[:-7]
        return f"{self._text}{micros:06d}Z"


class WireV2:
    """One instrument's frames in the second protocol."""

    def __init__(self, symbol: str, price_digits: int, qty_digits: int) -> None:
        self._symbol = symbol
        self._price = _Decimals(price_digits).kept
        self._qty = _Decimals(qty_digits).text
        self._stamp = _Stamps().rfc3339
        self._update = f'{{"channel":"book","type":"update","data":[{{"symbol":"{symbol}","bids":['
        self._snapshot = self._update.replace('"update"', '"snapshot"')

    def update(
        self, bids: Sequence[LevelChange], asks: Sequence[LevelChange], crc: int, ts_us: int
    ) -> bytes:
        """Make a book update."""
        return (
            f'{self._update}{self._levels(bids)}],"asks":[{self._levels(asks)}],'
            f'"checksum":{crc},"timestamp":"{self._stamp(ts_us)}"}}]}}'
        ).encode()

    def snapshot(self, bids: BookSide, asks: BookSide, crc: int, ts_us: int) -> bytes:
        """Make a book snapshot."""
        both = (
            self._levels([LevelChange(price, level.qty) for price, level in side.visible()])
            for side in (bids, asks)
        )
        return (
            f'{self._snapshot}{next(both)}],"asks":[{next(both)}],'
            f'"checksum":{crc},"timestamp":"{self._stamp(ts_us)}"}}]}}'
        ).encode()

    def prints(self, prints: Sequence[Print], ts_us: int) -> list[bytes]:
        """Make the venue's text of each print."""
        stamp = self._stamp(ts_us)
        return [
            (
                f'{{"symbol":"{self._symbol}","side":"{"buy" if item.is_buy else "sell"}",'
                f'"price":{self._price(item.price)},"qty":{self._qty(item.qty)},'
                f'"ord_type":"market","trade_id":{item.trade_id},"timestamp":"{stamp}"}}'
            ).encode()
            for item in prints
        ]

    def trades(self, texts: Sequence[bytes], *, is_snapshot: bool) -> bytes:
        """Make a trade frame of such texts."""
        kind = b"snapshot" if is_snapshot else b"update"
        return b'{"channel":"trade","type":"%s","data":[%s]}' % (kind, b",".join(texts))

    def _levels(self, changes: Sequence[LevelChange]) -> str:
        price, qty = self._price, self._qty
        return ",".join([f'{{"price":{price(p)},"qty":{qty(q)}}}' for p, q in changes])


class WireV1:
    """One instrument's frames in the first protocol; `channel_id` numbers its books, +1 its trades."""

    def __init__(
        self, symbol: str, price_digits: int, qty_digits: int, depth: int, channel_id: int
    ) -> None:
        self._price = _Decimals(price_digits).kept
        self._qty = _Decimals(qty_digits).text
        self._stamp = _Decimals(6).text
        self._head = f"[{channel_id},"
        self._tail = f'"book-{depth}","{symbol}"]'
        self._trade_head = b"[%d,[" % (channel_id + 1)
        self._trade_tail = f'],"trade","{symbol}"]'.encode()

    def update(
        self, bids: Sequence[LevelChange], asks: Sequence[LevelChange], crc: int, ts_us: int
    ) -> bytes:
        """Make a book update; the part that comes last carries the checksum."""
        stamp = self._stamp(ts_us)
        check = f',"c":"{crc}"}},{self._tail}'
        if not bids:
            return f'{self._head}{{"a":[{self._levels(asks, stamp)}]{check}'.encode()
        text = f'{{"b":[{self._levels(bids, stamp)}]{check}'
        if asks:
            text = f'{{"a":[{self._levels(asks, stamp)}]}},{text}'
        return f"{self._head}{text}".encode()

    def snapshot(self, bids: BookSide, asks: BookSide, crc: int, ts_us: int) -> bytes:
        """Make a book snapshot, without a checksum, each level with its own stamp."""
        del crc, ts_us
        both = (
            ",".join(
                f'["{self._price(price)}","{self._qty(level.qty)}","{self._stamp(level.ts_us)}"]'
                for price, level in side.visible()
            )
            for side in (asks, bids)
        )
        return f'{self._head}{{"as":[{next(both)}],"bs":[{next(both)}]}},{self._tail}'.encode()

    def prints(self, prints: Sequence[Print], ts_us: int) -> list[bytes]:
        """Make the venue's text of each print."""
        stamp = self._stamp(ts_us)
        return [
            (
                f'["{self._price(item.price)}","{self._qty(item.qty)}","{stamp}",'
                f'"{"b" if item.is_buy else "s"}","m",""]'
            ).encode()
            for item in prints
        ]

    def trades(self, texts: Sequence[bytes], *, is_snapshot: bool) -> bytes:
        """Make a trade frame of such texts."""
        del is_snapshot
        return self._trade_head + b",".join(texts) + self._trade_tail

    def _levels(self, changes: Sequence[LevelChange], stamp: str) -> str:
        price, qty = self._price, self._qty
        return ",".join([f'["{price(p)}","{qty(q)}","{stamp}"]' for p, q in changes])
