"""Shared memory for market data: attach to a running pipeline's rings, read them, never disturb them.

    import shm
    shm.rings()                                   name, layout, state, depth, rate, age of every ring
    r = shm.attach("kraken.events")               read-only; no event loop, no configuration
    records, info = r.last(10_000)                a validated copy, oldest first; info.lost tells what was overwritten
    for records, info in r.follow(poll_ms=50):    the next records, for ever
    shm.book("kraken", "BTC/USD").depth(10)       the newest book: bid_price, bid_qty, ask_price, ask_qty a row
    r.to_polars(kind="trade")                     columns; also to_arrow, to_pandas
    shm.instruments()                             what is collected, with scales

Everything that writes is in its own module: `shm.producer`, `shm.consumer`. Importing this package loads neither numba nor
pyarrow nor pandas; `shm.njit` and `shm.frames` do, when they are asked for.
"""

from typing import NamedTuple

import shm.book  # noqa: F401 - loaded first: `book` below is the function, that module stays `from shm.book import ...`
from layouts import layout_name
from shm.clock import now_ns
from shm.errors import AttachError, TickringError
from shm.instruments import Instrument, instruments
from shm.latest import LatestBook
from shm.latest import open_book as book
from shm.reader import Info, Reader, open_reader
from shm.registry import DEFAULT_INSTANCE, find_ring, instances, ring_names

__all__ = [
    "AttachError",
    "Info",
    "Instrument",
    "LatestBook",
    "Reader",
    "RingRow",
    "TickringError",
    "attach",
    "book",
    "instances",
    "instruments",
    "rings",
]

_RATE_RECORDS = 1000


class RingRow(NamedTuple):
    """One line of `rings()`."""

    name: str
    layout: str
    state: str
    mode: str
    depth: int
    """Capacity in records."""
    records: int
    """Records published since the ring was made."""
    rate_per_s: float
    """Records a second over the newest 1,000 at most, by their ts_recv; 0 where there are fewer than two."""
    epoch: int
    age_s: float
    """Seconds since the producer's last heartbeat."""


def attach(name: str, instance: str = DEFAULT_INSTANCE) -> Reader:
    """Attach read-only to ring `<worker>.<ring>` of a running instance, at its newest record.

    Raises:
        AttachError: NoRing (it names the nearest and all there are), WrongAbi, WrongPermissions, ...: see `shm.errors`.
    """
    return open_reader(find_ring(name, instance))


def rings(instance: str = DEFAULT_INSTANCE) -> list[RingRow]:
    """Return a row for each ring of an instance that can be read; empty when it is not running."""
    rows = []
    for name in ring_names(instance):
        try:
            with open_reader(name) as reader:
                facts = reader.facts()
                layout = layout_name(reader.dtype, str(name))
                rate_per_s = _rate_of(reader)
        except AttachError:
            continue
        age_s = (now_ns() - facts.heartbeat_ns) / 1e9
        rows.append(
            RingRow(
                str(name),
                layout,
                facts.state,
                facts.mode,
                facts.slots,
                facts.head - facts.first_seq,
                rate_per_s,
                facts.epoch,
                age_s,
            )
        )
    return rows


def _rate_of(reader: Reader) -> float:
    """Return the newest records' rate by their ts_recv."""
    records, _ = reader.last(_RATE_RECORDS)
    span_ns = int(records["ts_recv"][-1]) - int(records["ts_recv"][0]) if len(records) > 1 else 0
    return (len(records) - 1) * 1e9 / span_ns if span_ns > 0 else 0.0
