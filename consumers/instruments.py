"""Every instrument of an instance by its id, with the scale that its prices and quantities had at any record.

**Protocol** Each collector publishes INSTRUMENT records into its own `<worker>.instruments` ring before the first
event that needs them, and a new version when the venue's digits grow wider. A ScaleTracker follows one events ring
in order: STATE and SNAPSHOT records name the version in force from there on; before the first of them (a start in
mid-stream, a loss) the newest version that is not younger than the record itself stands in.

**Failure** A table that is not there yet, or is replaced by a restart, is looked for again on the next unknown id.
"""

from typing import NamedTuple

import numpy as np

from layouts import INSTRUMENT
from shm.clock import monotonic_ns
from shm.errors import AttachError
from shm.reader import Reader, open_reader
from shm.registry import ring_names

_LOOK_NS = 200_000_000


class Instrument(NamedTuple):
    """One version of one instrument."""

    instrument_id: int
    version: int
    venue: str
    symbol: str
    worker: str
    price_scale: int
    qty_scale: int
    ts_recv: int


class InstrumentTable:
    """The tables of all collectors of an instance, read passively."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._readers: dict[str, Reader] = {}
        self._versions: dict[int, dict[int, Instrument]] = {}
        self._looked_ns = -_LOOK_NS

    def latest(self, instrument_id: int) -> Instrument | None:
        """Return the newest version of an instrument, None while no table names it."""
        return self._newest(self._of(instrument_id))

    def some(self, instrument_id: int) -> list[Instrument]:
        """Return the newest version of an instrument as a list of one, or none while no table names it."""
        found = self.latest(instrument_id)
        return [found] if found else []

    def version(self, instrument_id: int, version: int) -> Instrument | None:
        """Return one version of an instrument."""
        versions = self._of(instrument_id)
        if versions and version not in versions:
            self.refresh()
            versions = self._of(instrument_id)
        return versions.get(version)

    def at(self, instrument_id: int, ts_recv: int) -> Instrument | None:
        """Return the newest version that was there at `ts_recv` (ns), the first one if none was."""
        versions = self._versions.get(instrument_id) or self._of(instrument_id)
        if len(versions) == 1:
            return next(iter(versions.values()))
        there = {v: each for v, each in versions.items() if each.ts_recv <= ts_recv}
        return self._newest(there) if there else versions.get(min(versions, default=0))

    def of_worker(self, worker: str | None = None) -> list[Instrument]:
        """Return the newest version of each instrument, of one collector or of all."""
        self.refresh()
        newest = (self._newest(versions) for versions in self._versions.values())
        return [each for each in newest if each and worker in (None, each.worker)]

    def refresh(self) -> None:
        """Take in what the tables have got since."""
        self._find()
        for reader in self._readers.values():
            records, _ = reader.poll()
            while len(records):
                self._take(records)
                records, _ = reader.poll()

    def close(self) -> None:
        """Unmap the tables."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _of(self, instrument_id: int) -> dict[int, Instrument]:
        if instrument_id not in self._versions:
            self.refresh()
        return self._versions.get(instrument_id, {})

    @staticmethod
    def _newest(versions: dict[int, Instrument]) -> Instrument | None:
        return versions[max(versions)] if versions else None

    def _find(self) -> None:
        now = monotonic_ns()
        if now - self._looked_ns < _LOOK_NS:
            return
        self._looked_ns = now
        for name in ring_names(self._instance):
            if name.ring != "instruments":
                continue
            try:
                reader = open_reader(name, INSTRUMENT)
            except AttachError:
                continue
            uuid = reader.facts().uuid
            if uuid in self._readers:
                reader.close()
                continue
            reader.seek_oldest()
            self._readers[uuid] = reader

    def _take(self, records: np.ndarray) -> None:
        for row in records:
            found = Instrument(
                int(row["instrument_id"]),
                int(row["version"]),
                bytes(row["venue"]).decode(),
                bytes(row["symbol"]).decode(),
                bytes(row["worker"]).decode(),
                int(row["price_scale"]),
                int(row["qty_scale"]),
                int(row["ts_recv"]),
            )
            self._versions.setdefault(found.instrument_id, {})[found.version] = found


class ScaleTracker:
    """Which version of each instrument is in force at the current place of one events ring."""

    def __init__(self, table: InstrumentTable) -> None:
        self._table = table
        self._current: dict[int, Instrument] = {}

    def at(self, instrument_id: int, ts_recv: int) -> Instrument | None:
        """Return the version that a record of this instrument here is scaled by."""
        found = self._current.get(instrument_id)
        return found if found is not None else self._table.at(instrument_id, ts_recv)

    def note(self, instrument_id: int, version: int) -> None:
        """A STATE or SNAPSHOT record has named the version from here on."""
        known = self._current.get(instrument_id)
        if known is not None and known.version == version:
            return
        found = self._table.version(instrument_id, version)
        if found is not None:
            self._current[instrument_id] = found

    def forget(self) -> None:
        """Records were lost here, or reading goes on elsewhere: what was in force is no longer known."""
        self._current.clear()

    def versions(self) -> dict[int, int]:
        """Return {instrument id: version in force}, for keeping."""
        return {each: found.version for each, found in self._current.items()}

    def restore(self, versions: dict[int, int]) -> None:
        """Go on with what `versions()` returned at this place."""
        self._current.clear()
        for instrument_id, version in versions.items():
            self.note(instrument_id, version)
