"""Which instruments a running instance knows, by id and version: their venue, symbol and scales.

**Failure** A table that cannot be read right now (its collector is starting) is left out; an id that no table names has no
entry.
"""

from typing import NamedTuple

import numpy as np

from layouts import INSTRUMENT
from shm.errors import AttachError
from shm.reader import open_reader
from shm.region import RegionName
from shm.registry import DEFAULT_INSTANCE, ring_names


class Instrument(NamedTuple):
    """One version of one instrument; a price is its integer x 10**-price_scale."""

    instrument_id: int
    version: int
    venue: str
    symbol: str
    worker: str
    price_scale: int
    qty_scale: int
    ts_recv: int
    """Since when this version holds, ns since the epoch."""


def versions(instance: str = DEFAULT_INSTANCE) -> dict[int, list[Instrument]]:
    """Return every version of every instrument of an instance, oldest first, by instrument_id."""
    found: dict[int, dict[int, Instrument]] = {}
    for name in ring_names(instance):
        if name.ring == "instruments":
            for record in _table(name):
                each = _decoded(name, record)
                found.setdefault(each.instrument_id, {})[each.version] = each
    return {number: [by[v] for v in sorted(by)] for number, by in found.items()}


def instruments(instance: str = DEFAULT_INSTANCE) -> list[Instrument]:
    """Return the newest version of every instrument of an instance, by instrument_id."""
    known = versions(instance)
    return [known[number][-1] for number in sorted(known)]


def _table(name: RegionName) -> np.ndarray:
    try:
        with open_reader(name, INSTRUMENT) as reader:
            return reader.last(reader.facts().slots)[0]
    except AttachError:
        return np.empty(0, INSTRUMENT)


def _decoded(name: RegionName, record: np.void) -> Instrument:
    return Instrument(
        int(record["instrument_id"]),
        int(record["version"]),
        record["venue"].decode(),
        record["symbol"].decode(),
        name.worker,
        int(record["price_scale"]),
        int(record["qty_scale"]),
        int(record["ts_recv"]),
    )
