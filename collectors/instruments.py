"""Every instrument keeps one id for ever: ids come from the collector's own block, are on disk before they
are used, and never come back.

**Layout** `<state_dir>/instruments/<worker>.json`: the block's first id and, per symbol, its id and the
version history. Replaced whole: written aside, fsync, rename, fsync of the folder. The ring
`<worker>.instruments` holds one INSTRUMENT record per version and again when tick, lot or depth become
known; the newest record of an id and version counts.

**Failure** Killed before the rename: the symbol gets the same id at the next start, as no record has used
it. A file that cannot be read stops the collector with what to do: guessing would give an id twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from layouts import INSTRUMENT, Kind
from shm.durable import replace_file
from shm.errors import ConfigurationError
from shm.producer import Producer
from shm.reader import Reader

LAST_ID = 65_535
_SYMBOL_BYTES = 64


class Version(msgspec.Struct, forbid_unknown_fields=True):
    """Scales (decimals) of one version, and when the frame came that opened it (ns, 0: before that was kept)."""

    version: int
    price_scale: int
    qty_scale: int
    ts_recv: int = 0


class Instrument(msgspec.Struct, forbid_unknown_fields=True):
    """One symbol of a venue; `tick` and `lot` are decimal text, "" while unknown."""

    instrument_id: int
    symbol: str
    base: str = ""
    quote: str = ""
    tick: str = ""
    lot: str = ""
    depth: int = 0
    versions: list[Version] = msgspec.field(default_factory=list)

    @property
    def current(self) -> Version | None:
        """The version in force; None before the first snapshot."""
        return self.versions[-1] if self.versions else None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    venue: str
    first_id: int
    instruments: list[Instrument]


class Steps(NamedTuple):
    """Smallest steps of price and quantity as decimal text, "" where unknown."""

    tick: str = ""
    lot: str = ""


class InstrumentTable:
    """The instruments of one collector.

    Args:
        worker: name of the collector; ids belong to it.
        venue: name of the venue.
        first_id: first id of its block, 1 or more.
        ids: how many ids the block has.
        producer: ring of INSTRUMENT records.
        state_dir: where ids are kept; None: nowhere (replay).
        known: the instruments of a table that is kept nowhere: those of the recording that is replayed.

    Raises:
        ConfigurationError: the block is impossible, or the file contradicts it or cannot be read.
    """

    def __init__(
        self,
        worker: str,
        venue: str,
        first_id: int,
        ids: int,
        producer: Producer,
        state_dir: str | Path | None = None,
        known: Iterable[Instrument] = (),
    ) -> None:
        if first_id < 1 or ids < 1 or first_id + ids - 1 > LAST_ID:
            raise ConfigurationError(
                f"instrument ids of {worker}: {ids} from {first_id} on; 1 to {LAST_ID} exist"
            )
        self.worker = worker
        self.venue = venue
        self.first_id = first_id
        self.ids = ids
        self._producer = producer
        self._path = Path(state_dir) / "instruments" / f"{worker}.json" if state_dir else None
        self._by_symbol = {instrument.symbol: instrument for instrument in known}
        self._record = np.zeros(1, INSTRUMENT)
        self._load()
        self._publish_missing()

    def __len__(self) -> int:
        """Return how many ids are taken."""
        return len(self._by_symbol)

    def instruments(self) -> tuple[Instrument, ...]:
        """Return all of them, in the order of their ids."""
        return tuple(self._by_symbol.values())

    def index_of(self, instrument: Instrument) -> int:
        """Return the instrument's place in the block, from 0: its slot in `.latest`."""
        return instrument.instrument_id - self.first_id

    def reserve(self, symbols: Iterable[str]) -> list[Instrument]:
        """Return the instruments of these symbols; new ones get ids, written to disk once for all of them.

        Raises:
            ConfigurationError: the block is full, or a symbol is longer than 64 bytes.
        """
        wanted = list(dict.fromkeys(symbols))
        new = [symbol for symbol in wanted if symbol not in self._by_symbol]
        for symbol in new:
            self._by_symbol[symbol] = self._make(symbol)
        if new:
            self._save()
        return [self._by_symbol[symbol] for symbol in wanted]

    def open_version(
        self, instrument: Instrument, price_scale: int, qty_scale: int, ts: int
    ) -> int:
        """Begin the next version of an instrument, on disk and in the ring before it is used; returns its
        number. `ts` is when the frame came that asked for it.
        """
        number = len(instrument.versions) + 1
        instrument.versions.append(Version(number, price_scale, qty_scale, ts))
        self._save()
        self._publish(instrument, instrument.versions[-1])
        return number

    def describe(
        self,
        instrument: Instrument,
        steps: Steps | None = None,
        depth: int | None = None,
        currencies: tuple[str, str] | None = None,
    ) -> None:
        """Take up what the venue tells of an instrument; what is new is saved and its record published
        again.
        """
        if self._note(instrument, steps, depth, currencies):
            self._save()
            self._publish_current(instrument)

    def describe_steps(self, steps: Iterable[tuple[Instrument, Steps]]) -> int:
        """Take up ticks and lots of many instruments, saved once for all of them; returns how many were new."""
        new = [instrument for instrument, told in steps if self._note(instrument, told)]
        if new:
            self._save()
        for instrument in new:
            self._publish_current(instrument)
        return len(new)

    @staticmethod
    def _note(
        instrument: Instrument,
        steps: Steps | None = None,
        depth: int | None = None,
        currencies: tuple[str, str] | None = None,
    ) -> bool:
        """Take up what is told; True when something of it is new."""
        before = msgspec.structs.astuple(instrument)
        if steps:
            instrument.tick, instrument.lot = steps
        if depth is not None:
            instrument.depth = depth
        if currencies:
            instrument.base, instrument.quote = currencies
        return msgspec.structs.astuple(instrument) != before

    # ---- disk ----

    def _make(self, symbol: str) -> Instrument:
        taken = len(self._by_symbol)
        if taken >= self.ids:
            raise ConfigurationError(
                f"instrument ids of {self.worker}: all {self.ids} from {self.first_id} on are taken, "
                f"none is left for {symbol!r}; enlarge the worker's block in the topology"
            )
        if not 0 < len(symbol.encode()) <= _SYMBOL_BYTES or not symbol.isprintable():
            raise ConfigurationError(
                f"symbol {symbol[:80]!r}: 1 to {_SYMBOL_BYTES} bytes of printable text expected"
            )
        base, _, quote = symbol.partition("/")
        return Instrument(self.first_id + taken, symbol, base if quote else "", quote)

    def _load(self) -> None:
        if self._path is None or not self._path.exists():
            return
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"{self._path} cannot be read ({error}); restore it, or remove it together with the records "
                "that use its ids"
            ) from None
        ids = [instrument.instrument_id for instrument in file.instruments]
        if (file.venue, file.first_id) != (self.venue, self.first_id) or len(ids) > self.ids:
            raise ConfigurationError(
                f"{self._path} holds {len(ids)} ids of {file.venue} from {file.first_id} on; configured are "
                f"{self.ids} of {self.venue} from {self.first_id} on; keep the block or rename the worker"
            )
        if ids != list(range(self.first_id, self.first_id + len(ids))):
            raise ConfigurationError(f"{self._path}: its ids are not contiguous; restore it")
        self._by_symbol = {instrument.symbol: instrument for instrument in file.instruments}

    def _save(self) -> None:
        if self._path is None:
            return
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _File(self.venue, self.first_id, list(self._by_symbol.values()))
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(file)))

    # ---- ring ----

    def _publish_missing(self) -> None:
        """Tell a new ring everything; one taken over after a crash knows most of it already."""
        known = self._in_ring()
        for instrument in self._by_symbol.values():
            for version in instrument.versions:
                if known.get((instrument.instrument_id, version.version)) != self._told(
                    instrument, version
                ):
                    self._publish(instrument, version)

    def _in_ring(self) -> dict[tuple[int, int], Any]:
        if not self._producer.is_restart:
            return {}
        reader = Reader(self._producer.name, self._producer.data_region, INSTRUMENT)
        records, _ = reader.last(int(self._producer.handle.mask) + 1)
        return {
            (int(r["instrument_id"]), int(r["version"])): r.tolist()[_FIRST_TOLD:] for r in records
        }

    def _told(self, instrument: Instrument, version: Version) -> Any:
        self._fill(instrument, version)
        return self._record[0].tolist()[_FIRST_TOLD:]

    def _publish_current(self, instrument: Instrument) -> None:
        if instrument.current:
            self._publish(instrument, instrument.current)

    def _publish(self, instrument: Instrument, version: Version) -> None:
        self._fill(instrument, version)
        self._producer.publish_batch(self._record)

    def _fill(self, instrument: Instrument, version: Version) -> None:
        row = self._record[0]
        row["instrument_id"] = instrument.instrument_id
        row["kind"] = Kind.INSTRUMENT
        row["ts_event"] = row["ts_recv"] = version.ts_recv
        row["version"] = version.version
        row["price_scale"] = version.price_scale
        row["qty_scale"] = version.qty_scale
        row["tick"] = step_at(instrument.tick, version.price_scale)
        row["lot"] = step_at(instrument.lot, version.qty_scale)
        row["multiplier"] = 1
        row["depth"] = instrument.depth
        row["venue"] = self.venue.encode()
        row["symbol"] = instrument.symbol.encode()
        row["base_currency"] = instrument.base.encode()[:24]
        row["quote_currency"] = instrument.quote.encode()[:24]
        row["worker"] = self.worker.encode()


_FIRST_TOLD = len(("stamp", "ts_event", "ts_recv", "instrument_id", "kind", "marks", "delta"))


def step_at(text: str, scale: int) -> int:
    """Return a step such as "0.01" as an integer at `scale` decimals; 0 where it is unknown or finer than
    the scale.
    """
    try:
        scaled = Decimal(text).scaleb(scale)
    except InvalidOperation:
        return 0
    return int(scaled) if scaled.is_finite() and scaled == int(scaled) and scaled > 0 else 0
