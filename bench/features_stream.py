"""A market for the benches of consumers: EVENT records of many instruments, frames as a collector would publish them."""

import numpy as np

from layouts import EVENT, InstrumentState, Kind, make_marks

START_NS = 1_790_000_000_000_000_000
_LIVE = InstrumentState.LIVE
_MARKS = {
    (side, last): make_marks(_LIVE, side, last) for side in (-1, 0, 1) for last in (False, True)
}


class Stream:
    """Writes records; books have `depth` levels a side at every price around their mid."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._rows: list[tuple[int, ...]] = []
        self._tops: dict[int, list[int]] = {}
        self._ts = START_NS

    def add(
        self, kind: Kind, each: int, words: tuple[int, ...], side: int = 0, last: bool = False
    ) -> None:
        """Write one record."""
        padded = (*words, 0, 0)[:4]
        marks = _MARKS[side, last]
        self._rows.append((0, self._ts, self._ts, each, int(kind), marks, 0, *padded))

    def open_book(self, each: int, bid: int) -> None:
        """Write a snapshot and its quote."""
        self.add(Kind.SNAPSHOT_BEGIN, each, (2 * self.depth, self.depth, 1, 0))
        for i in range(self.depth):
            self.add(Kind.LEVEL, each, (bid - i, 1000 + i), 1)
            self.add(Kind.LEVEL, each, (bid + 1 + i, 1000 + i), -1)
        self.add(Kind.SNAPSHOT_END, each, (self.depth, self.depth, 1, 0))
        self._tops[each] = [bid, 1000, bid + 1, 1000]
        self._quote(each)

    def trade(self, each: int, side: int, qty: int) -> None:
        """Write a trade at the best price."""
        top = self._tops[each]
        self._ts += 1_000_000
        self.add(Kind.TRADE, each, (top[2] if side > 0 else top[0], qty, 0, 0), side, True)

    def requote(self, each: int, side: int, qty: int) -> None:
        """Write a frame that changes the quantity of a best level."""
        top = self._tops[each]
        self._ts += 1_000_000
        at = 0 if side > 0 else 2
        top[at + 1] = qty
        self.add(Kind.LEVEL, each, (top[at], qty), side)
        self._quote(each)

    def move(self, each: int, side: int, qty: int) -> None:
        """Write a frame that moves both best prices by one, up (side 1) or down, books staying `depth` deep."""
        top = self._tops[each]
        self._ts += 1_000_000
        gone, far = (
            (top[2], top[0] - self.depth + 1) if side > 0 else (top[0], top[2] + self.depth - 1)
        )
        self.add(Kind.LEVEL, each, (gone, 0), -side)
        self.add(Kind.LEVEL, each, (gone + side * self.depth, 1000), -side)
        self.add(Kind.LEVEL, each, (gone, qty), side)
        self.add(Kind.LEVEL, each, (far, 0), side)
        top[0] += side
        top[2] += side
        best = 1 if side > 0 else 3
        top[best] = qty
        top[4 - best] = self._qty_at(each, -side)
        self._quote(each)

    def records(self) -> np.ndarray:
        """Return what was written, stamped as in a ring."""
        made = np.array(self._rows, EVENT)
        made["stamp"] = 2 * np.arange(1, len(made) + 1) + 2
        return made

    def _qty_at(self, each: int, side: int) -> int:
        """Return the quantity at the new best level of a side, writing it down where it may be any."""
        top = self._tops[each]
        price, qty = (top[0] if side > 0 else top[2]), 777
        self.add(Kind.LEVEL, each, (price, qty), side)
        return qty

    def _quote(self, each: int) -> None:
        self.add(Kind.QUOTE, each, tuple(self._tops[each]), 0, True)


def market(
    instruments: int, frames: int, trades: float, moves: float, depth: int = 50, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return snapshots of all instruments, and `frames` frames of instruments taken at random.

    Args:
        instruments: how many, ids from 1.
        frames: how many follow the snapshots; each causes one row.
        trades: share of frames that are a trade.
        moves: share of the others that move both best prices; the rest change a quantity.
        depth: levels a side.
        seed: of the random choices.
    """
    rng = np.random.default_rng(seed)
    stream = Stream(depth)
    for each in range(1, instruments + 1):
        stream.open_book(each, 100_000 + each)
    opened = len(stream.records())
    ids, sides = rng.integers(1, instruments + 1, frames), rng.choice((-1, 1), frames)
    kinds, shares, qtys = rng.random(frames), rng.random(frames), rng.integers(1, 10**8, frames)
    for i in range(frames):
        each, side, qty = int(ids[i]), int(sides[i]), int(qtys[i])
        if kinds[i] < trades:
            stream.trade(each, side, qty)
        elif shares[i] < moves:
            stream.move(each, side, qty)
        else:
            stream.requote(each, side, qty)
    records = stream.records()
    return records[:opened], records[opened:]
