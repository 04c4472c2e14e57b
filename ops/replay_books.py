"""Books are rebuilt from records alone, as any consumer would: a snapshot clears, a level sets, a state says what holds."""

import msgspec
import numpy as np

from layouts import INSTRUMENT, InstrumentState, Kind, Mark
from ops.rings import decimal_text
from shm.book import ASK, BID, Book

SHOWN_LEVELS = 10


class BookRows(msgspec.Struct):
    """The best levels of one book as [price, qty] decimal strings, best first."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    state: str


class _Held:
    """One instrument's book, at the scale of the version of its last snapshot."""

    def __init__(self) -> None:
        self.book = Book(1024)
        self.state = 0
        self.version = 0


class ReplayBooks:
    """Counts records and gaps, and holds every book."""

    def __init__(self) -> None:
        self.records = 0
        self.gaps = 0
        self._held: dict[int, _Held] = {}
        self._states: dict[int, int] = {}
        self._symbols: dict[int, str] = {}
        self._scales: dict[tuple[int, int], tuple[int, int]] = {}

    def take_instruments(self, records: np.ndarray) -> None:
        """Learn symbols and scales from INSTRUMENT records."""
        assert records.dtype == INSTRUMENT
        for r in records:
            instrument_id = int(r["instrument_id"])
            self._symbols[instrument_id] = r["symbol"].decode()
            scales = int(r["price_scale"]), int(r["qty_scale"])
            self._scales[instrument_id, int(r["version"])] = scales

    def take(self, records: np.ndarray) -> None:
        """Apply EVENT records in order."""
        self.records += len(records)
        kinds = records["kind"].tolist()
        marks = records["marks"].tolist()
        ids = records["instrument_id"].tolist()
        words = zip(
            records["word_0"].tolist(),
            records["word_1"].tolist(),
            records["word_2"].tolist(),
            strict=True,
        )
        for kind, mark, instrument_id, (word_0, word_1, word_2) in zip(
            kinds, marks, ids, words, strict=True
        ):
            if instrument_id:
                self._states[instrument_id] = mark & Mark.STATE_MASK
            if kind == Kind.LEVEL:
                held = self._held.get(instrument_id)
                if held is not None:
                    held.book.apply(BID if mark & Mark.BUY else ASK, word_0, word_1)
            elif kind == Kind.SNAPSHOT_BEGIN:
                held = self._held.setdefault(instrument_id, _Held())
                held.book.clear()
                held.version = word_2
            elif kind == Kind.GAP:
                self.gaps += 1

    def scales(self, instrument_id: int, version: int) -> tuple[int, int] | None:
        """Return the decimals of price and quantity of a version (0: the newest) of an instrument; None: not known."""
        wanted = version or max((v for i, v in self._scales if i == instrument_id), default=0)
        return self._scales.get((instrument_id, wanted))

    def symbol(self, instrument_id: int) -> str:
        """Return the venue's own string of an instrument, "" while no record has told it."""
        return self._symbols.get(instrument_id, "")

    def rows(self) -> dict[str, BookRows]:
        """Return every book that has had a snapshot, by symbol."""
        found = {}
        for instrument_id, held in self._held.items():
            price_scale, qty_scale = self._scales[instrument_id, held.version]
            sides = [
                [
                    (decimal_text(price, price_scale), decimal_text(qty, qty_scale))
                    for price, qty in held.book.depth(side, SHOWN_LEVELS)
                ]
                for side in (BID, ASK)
            ]
            state = InstrumentState(self._states[instrument_id]).name
            found[self._symbols[instrument_id]] = BookRows(sides[0], sides[1], state)
        return dict(sorted(found.items()))
