"""A decoder over private rings, its records kept as they come: the harness of the decoder tests."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from collectors.captures import Capture
from collectors.decoder import Subscription
from collectors.instruments import InstrumentTable
from collectors.venues import DECODERS
from layouts import BOOK, EVENT, EVENT_VIEWS, INSTRUMENT, Kind, Mark
from shm.book import ASK, BID, Book
from shm.consumer import join_private
from shm.outlet import Outlet
from shm.producer import open_private

DRAIN_AT = 1 << 14
START = 1_700_000_000_000_000_000


class Ring:
    """A private ring with one reader in the same process."""

    def __init__(self, label: str, dtype: np.dtype, slots: int) -> None:
        self.producer, *self._memory = open_private(label, dtype, slots, ["reader"])
        self._consumer = join_private(label, *self._memory, "reader", dtype)
        self._batch = np.zeros(4096, dtype)

    def drain(self) -> np.ndarray:
        parts = []
        while (n := self._consumer.poll_into(self._batch)) > 0:
            parts.append(self._batch[:n].copy())
        assert n == 0, "the private ring lost records"
        self._consumer.commit()
        return np.concatenate(parts) if parts else self._batch[:0].copy()

    def close(self) -> None:
        self._consumer.close()
        self.producer.close()
        for descriptor in self._memory:
            os.close(descriptor)  # else its memory stays taken


class Pipeline:
    """One decoder; `feed` it, then look at `events()`, `counts` and the decoder itself."""

    def __init__(
        self,
        venue: str,
        subscriptions: Iterable[Subscription] = (),
        accept_any: bool = True,
        with_books: bool = False,
        state_dir: Path | None = None,
        slots: int = 1 << 18,
        **options,
    ) -> None:
        self.events_ring = Ring("events", EVENT, slots)
        self.instruments_ring = Ring("instruments", INSTRUMENT, 4096)
        self.books_ring = Ring("books", BOOK, 4096) if with_books else None
        books = self.books_ring.producer if self.books_ring else None
        self.outlet = Outlet(self.events_ring.producer, books)
        self.table = InstrumentTable(
            "worker", "kraken", 1, 1000, self.instruments_ring.producer, state_dir
        )
        self.decoder = DECODERS[venue](
            self.outlet, self.table, list(subscriptions), accept_any, **options
        )
        self._seen: list[np.ndarray] = []
        self.ts = START
        self.fed = 0

    def feed(self, frame: bytes | str | list | dict, ts: int | None = None) -> int:
        if not isinstance(frame, bytes | str):
            frame = json.dumps(frame)
        self.ts = ts or self.ts + 1_000_000
        self.fed += 1
        return self.decoder.decode(frame if isinstance(frame, bytes) else frame.encode(), self.ts)

    def feed_capture(self, path: Path) -> list[int]:
        return [self.feed(frame.data, frame.ts) for frame in Capture(path) if frame.kind == "recv"]

    def drain(self) -> np.ndarray:
        new = self.events_ring.drain()
        self._seen.append(new)
        return new

    def events(self) -> np.ndarray:
        self.drain()
        return np.concatenate(self._seen)

    def of(self, kind: Kind) -> np.ndarray:
        events = self.events()
        return events[events["kind"] == kind].view(EVENT_VIEWS[kind])

    def instruments(self) -> np.ndarray:
        return self.instruments_ring.drain()

    @property
    def counts(self) -> dict[str, int]:
        return {name: n for name, n in self.outlet.counts().items() if n}

    def accounted(self) -> int:
        """Return frames that ended in a count."""
        counts = self.outlet.counts()
        return counts["frames_decoded"] + sum(
            n for name, n in counts.items() if name.startswith("rejected.")
        )

    def close(self) -> None:
        for ring in (self.events_ring, self.instruments_ring, self.books_ring):
            if ring:
                ring.close()


class Follower:
    """What a consumer of the records holds of each book: of each price the last quantity since the last snapshot."""

    def __init__(self) -> None:
        self._levels: dict[int, np.ndarray] = {}

    def follow(self, events: np.ndarray) -> None:
        """Take the records that came next."""
        parts = (events["kind"] == Kind.SNAPSHOT_BEGIN) | (events["kind"] == Kind.LEVEL)
        for instrument_id in np.unique(events["instrument_id"]).tolist():
            mine = events[parts & (events["instrument_id"] == instrument_id)]
            before = self._levels.get(instrument_id, _NO_LEVELS)
            begins = np.flatnonzero(mine["kind"] == Kind.SNAPSHOT_BEGIN)
            if len(begins):
                before, mine = _NO_LEVELS, mine[begins[-1] + 1 :]
            side = np.where(mine["marks"] & Mark.BUY > 0, BID, ASK)
            new = np.column_stack(
                [side, mine["word_0"].view(np.int64), mine["word_1"].view(np.int64)]
            )
            self._levels[instrument_id] = _last_of_each(np.concatenate([before, new]))

    def ids(self) -> list[int]:
        """Return the instruments that were told of."""
        return list(self._levels)

    def levels(self, instrument_id: int, side: int) -> list[tuple[int, int]]:
        """Return (price, qty) of one side, best first."""
        rows = self._levels.get(instrument_id, _NO_LEVELS)
        rows = rows[rows[:, 0] == side]
        return list(map(tuple, rows[:: -1 if side == BID else 1, 1:].tolist()))


_NO_LEVELS = np.zeros((0, 3), np.int64)


def _last_of_each(rows: np.ndarray) -> np.ndarray:
    """Return the last of the rows of each side and price, by price; without those of no quantity."""
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    is_last = np.append((rows[1:, :2] != rows[:-1, :2]).any(axis=1), True)[: len(rows)]
    return rows[is_last & (rows[:, 2] != 0)]


def books_from(events: np.ndarray) -> dict[int, Book]:
    """Return the books that a consumer of these records holds, by instrument id."""
    follower = Follower()
    follower.follow(events)
    books: dict[int, Book] = {}
    for instrument_id in follower.ids():
        book = books[instrument_id] = Book(16)
        for side in (BID, ASK):
            book.load(side, follower.levels(instrument_id, side))
    return books


def frames_of(path: Path) -> list[bytes]:
    """Return the received frames of a recording."""
    return [frame.data for frame in Capture(path) if frame.kind == "recv"]


def kinds(events: np.ndarray) -> list[str]:
    """Return the names of the records' kinds, in order."""
    return [Kind(kind).name for kind in events["kind"]]
