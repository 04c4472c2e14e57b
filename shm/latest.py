"""The newest book of an instrument is there at once: attach, ask for its depth, see how far it may be trusted.

**Protocol** One slot of the `.latest` region an instrument, each with its own stamp (native/ring.c). A read is a copy that is
whole or not made. **Failure** With its collector dead or stopped the last book stays readable; its age tells.
"""

from typing import Self

import numpy as np

from layouts import BOOK, InstrumentState, Mark
from shm._native import ffi, lib
from shm.clock import now_ns
from shm.errors import NoRing, TickringError
from shm.instruments import Instrument, instruments
from shm.reader import Reader, open_reader
from shm.region import ring_name
from shm.registry import DEFAULT_INSTANCE


class LatestBook:
    """A read-only view of one instrument's newest book; make it with `shm.book(venue, symbol)`.

    Each call reads afresh; `event_epoch` and `event_seq` name the event after which the last book read held.
    """

    def __init__(self, instrument: Instrument, reader: Reader) -> None:
        self.instrument = instrument
        self._reader = reader
        self._record = np.zeros(1, BOOK)
        self._pointer = ffi.cast("void *", self._record.ctypes.data)
        self._index = -1

    @property
    def state(self) -> str:
        """How far the book may be trusted now: SYNCING, LIVE, SUSPECT or STALE."""
        self._read()
        return InstrumentState(int(self._record["marks"][0]) & Mark.STATE_MASK).name

    @property
    def age_s(self) -> float:
        """Seconds since the frame that the book stands for was received (our clock); infinite before the first."""
        if not self._read():
            return float("inf")
        return (now_ns() - int(self._record["ts_recv"][0])) / 1e9

    @property
    def event_epoch(self) -> int:
        """Epoch of the event after which the book held."""
        return int(self._record["event_epoch"][0])

    @property
    def event_seq(self) -> int:
        """Seq of the event after which the book held; 0 before the first."""
        return int(self._record["event_seq"][0])

    def depth(self, n: int = 10, price: str = "float") -> np.ndarray:
        """Return the best `n` levels: one row each, columns bid_price, bid_qty, ask_price, ask_qty, best first.

        Args:
            n: rows, at most 50.
            price: "float": float64, NaN where a side has fewer levels; "fixed": int64 at the instrument's scales, 0 there.
        """
        if price not in ("float", "fixed"):
            raise ValueError(f'price={price!r}: "float" or "fixed" expected')
        if not 0 <= n <= 50:
            raise ValueError(f"depth({n}): 0 to 50 levels are kept")
        self._read()
        names = ("bid_price", "bid_qty", "ask_price", "ask_qty")
        record = self._record[0]
        fixed = np.stack([record[name][:n] for name in names], axis=1)
        if price == "fixed":
            return fixed
        scales = (self.instrument.price_scale, self.instrument.qty_scale)
        values = fixed / np.array([10.0 ** scales[0], 10.0 ** scales[1]] * 2)
        values[int(record["bid_levels"]) :, :2] = np.nan
        values[int(record["ask_levels"]) :, 2:] = np.nan
        return np.asarray(values)

    def record(self) -> np.ndarray:
        """Return a copy of the newest BOOK record (a 1-element array), zero before the first."""
        self._read()
        return self._record.copy()

    def close(self) -> None:
        """Unmap."""
        self._reader.close()

    def _read(self) -> bool:
        """Copy the newest book; False where there is none yet."""
        if self._reader.handle is None:
            raise ValueError(f"book {self.instrument.symbol}: this view is closed")
        if self._index < 0:
            return self._find()
        return self._load(self._index)

    def _load(self, index: int) -> bool:
        status = int(lib.tr_latest_load(self._reader.handle, index, self._pointer))
        if status == lib.TR_LAPPED:
            raise TickringError(
                f"book {self.instrument.symbol}: its collector stopped while it wrote it; "
                "there is a new one when it goes on or is restarted (tickring status)"
            )
        return status == int(lib.TR_OK)

    def _find(self) -> bool:
        """Look for the instrument's slot; it is known once its first book is there."""
        for index in range(self._reader.facts().slots):
            held = self._load(index)
            if held and int(self._record["instrument_id"][0]) == self.instrument.instrument_id:
                self._index = index
                return True
        self._record[:] = 0
        return False

    def __repr__(self) -> str:
        if self._reader.handle is None:
            return f"<LatestBook {self.instrument.venue} {self.instrument.symbol} closed>"
        (bid, bid_qty, ask, ask_qty), *_ = self.depth(1)
        return (
            f"<LatestBook {self.instrument.venue} {self.instrument.symbol} {self.state} "
            f"bid {bid_qty:g} @ {bid:g} ask {ask_qty:g} @ {ask:g} age {self.age_s:.1f} s>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_book(venue: str, symbol: str, instance: str = DEFAULT_INSTANCE) -> LatestBook:
    """Attach to the newest book of one instrument.

    Args:
        venue: the venue's name, or that of the worker that collects it (two workers may collect one venue).
        symbol: the venue's own string, e.g. "BTC/USD".
        instance: which running instance.

    Raises:
        NoRing: no such instrument; the error names those that are there.
    """
    known = instruments(instance)
    found = [i for i in known if venue in (i.worker, i.venue) and i.symbol == symbol]
    found.sort(key=lambda i: i.worker != venue)  # the worker's name is the more exact one
    if not found:
        there = ", ".join(sorted(f"{i.worker} {i.symbol}" for i in known)) or "none"
        raise NoRing(
            f"no instrument {venue!r} {symbol!r} in instance {instance!r}; there are: {there}"
        )
    name = ring_name(instance, found[0].worker, "books")
    return LatestBook(found[0], open_reader(name, BOOK, suffix="latest"))
