"""A made-up market as EVENT records, for the tests of whatever computes from them."""

import random
from collections.abc import Sequence

import numpy as np

from layouts import EVENT, INSTRUMENT, InstrumentState, Kind, make_marks

LIVE = InstrumentState.LIVE
BUY, SELL = 1, -1
START_NS = 1_790_000_000_000_000_000


class Tape:
    """Collects records as a collector would publish them; `records()` gives them with the stamps of a ring."""

    def __init__(self, first_seq: int = 1) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.first_seq = first_seq
        self.ts = START_NS
        self.books: dict[int, tuple[dict[int, int], dict[int, int]]] = {}

    def add(
        self,
        kind: Kind,
        instrument_id: int,
        words: Sequence[int] = (),
        side: int = 0,
        last: bool = False,
        state: InstrumentState = LIVE,
        late: bool = False,
    ) -> None:
        """Add one record."""
        marks = make_marks(state, side, last, late=late)
        padded = (*words, 0, 0, 0, 0)[:4]
        self.rows.append((0, self.ts, self.ts + 1000, instrument_id, int(kind), marks, 0, *padded))

    def snapshot(
        self,
        instrument_id: int,
        bids: dict[int, int],
        asks: dict[int, int],
        version: int = 1,
        quote: bool = True,
    ) -> None:
        """Add a whole snapshot and, unless told otherwise, the QUOTE that it causes."""
        self.add(Kind.SNAPSHOT_BEGIN, instrument_id, (len(bids) + len(asks), 0, version, 0))
        for side, levels in ((BUY, bids), (SELL, asks)):
            for price, qty in levels.items():
                self.add(Kind.LEVEL, instrument_id, (price, qty), side)
        self.add(Kind.SNAPSHOT_END, instrument_id, (len(bids), len(asks), version, 0))
        self.books[instrument_id] = (dict(bids), dict(asks))
        if quote:
            self.quote(instrument_id)

    def level(self, instrument_id: int, side: int, price: int, qty: int) -> None:
        """Add a LEVEL and apply it to the tape's own book."""
        self.add(Kind.LEVEL, instrument_id, (price, qty), side)
        levels = self.books[instrument_id][0 if side == BUY else 1]
        if qty:
            levels[price] = qty
        else:
            levels.pop(price, None)

    def top(self, instrument_id: int) -> tuple[int, int, int, int]:
        """Give bid, bid qty, ask, ask qty of the tape's own book; zeros where a side is empty."""
        bids, asks = self.books[instrument_id]
        bid, ask = max(bids, default=0), min(asks, default=0)
        return bid, bids.get(bid, 0), ask, asks.get(ask, 0)

    def quote(self, instrument_id: int, state: InstrumentState = LIVE) -> None:
        """Add the QUOTE of the tape's own book."""
        self.add(Kind.QUOTE, instrument_id, self.top(instrument_id), last=True, state=state)

    def trade(
        self, instrument_id: int, price: int, qty: int, side: int = BUY, late: bool = False
    ) -> None:
        """Add a TRADE."""
        self.add(Kind.TRADE, instrument_id, (price, qty), side, last=True, late=late)

    def records(self) -> np.ndarray:
        """Give the records as they come off a ring."""
        made = np.array(self.rows, EVENT)
        seqs = np.arange(self.first_seq, self.first_seq + len(made))
        made["stamp"] = 2 * seqs + 2
        return made


def walk(tape: Tape, ids: Sequence[int], frames: int, seed: int, depth: int = 12) -> None:
    """Add `frames` frames of a random market over these instruments: quotes, deep changes, trades."""
    rng = random.Random(seed)
    for each in ids:
        if each not in tape.books:
            mid = rng.randrange(5_000, 200_000)
            bids = {mid - i - 1: rng.randrange(1, 10**6) for i in range(depth)}
            asks = {mid + i + 1: rng.randrange(1, 10**6) for i in range(depth)}
            tape.snapshot(each, bids, asks)
    for _ in range(frames):
        each = rng.choice(list(ids))
        tape.ts += rng.randrange(1, 3_000_000_000)
        if rng.random() < 0.35:
            bid, _, ask, _ = tape.top(each)
            side = rng.choice((BUY, SELL, 0))
            tape.trade(each, ask if side == BUY else bid, rng.randrange(0, 10**5), side)
            continue
        before = tape.top(each)
        for _ in range(rng.randrange(1, 4)):
            _change(tape, each, rng, depth)
        if tape.top(each) != before:
            tape.quote(each)
        else:
            _mark_last(tape)


def _mark_last(tape: Tape) -> None:
    row = list(tape.rows[-1])
    row[5] |= 0x10
    tape.rows[-1] = tuple(row)


def _change(tape: Tape, each: int, rng: random.Random, depth: int) -> None:
    bids, asks = tape.books[each]
    bid, _, ask, _ = tape.top(each)
    side = rng.choice((BUY, SELL))
    own = bids if side == BUY else asks
    best = bid if side == BUY else ask
    away = -side
    roll = rng.random()
    if roll < 0.25 and len(own) > 4:
        tape.level(each, side, rng.choice(sorted(own)), 0)
    elif roll < 0.4 and ask - bid > 1:
        tape.level(each, side, best + side, rng.randrange(1, 10**6))
    elif roll < 0.6:
        tape.level(each, side, best, rng.randrange(1, 10**6))
    elif len(own) < 4 * depth:
        tape.level(each, side, best + away * rng.randrange(1, 3 * depth), rng.randrange(1, 10**6))
    else:
        tape.level(each, side, min(own) if side == BUY else max(own), 0)


def instrument_record(
    instrument_id: int, price_scale: int, qty_scale: int, version: int = 1
) -> np.ndarray:
    """Make an INSTRUMENT record."""
    record = np.zeros(1, INSTRUMENT)
    record["kind"] = Kind.INSTRUMENT
    record["instrument_id"], record["version"] = instrument_id, version
    record["price_scale"], record["qty_scale"] = price_scale, qty_scale
    record["venue"], record["symbol"] = b"test", f"I{instrument_id}".encode()
    return record
