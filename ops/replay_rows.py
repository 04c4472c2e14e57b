"""What a replay computes is computed by the engines of the live workers, from the records that came off the ring.

Features and bars equal the live ones in every column but stamp, seq, epoch, source seq, ts_recv and publish delta, and in the
id by which an instrument is known: the file names its symbol, and of several collectors its collector, beside it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.bar_engine import BarEngine
from consumers.bar_series import BarsConfig
from consumers.feature_engine import FeatureEngine
from consumers.parquet_store import to_table
from ops.replay_books import ReplayBooks


class _Engine(Protocol):
    """What turns EVENT records into rows."""

    output: np.dtype

    def process(self, records: np.ndarray, source: int, epoch: int) -> np.ndarray:
        """Return a copy of the rows that these records cause."""
        ...


class ReplayRows:
    """Collects the rows of one replay, each collector's from an engine of its own: ids may mean another instrument there.

    Args:
        make: makes the engine of a collector: its books, its venue.
    """

    def __init__(self, make: Callable[[ReplayBooks, str], _Engine]) -> None:
        self._make = make
        self._engines: dict[str, tuple[_Engine, ReplayBooks, int]] = {}
        self._parts: list[tuple[str, np.ndarray]] = []

    def add(self, collector: str, venue: str, books: ReplayBooks, epoch: int) -> None:
        """Expect the records of a collector."""
        self._engines[collector] = self._make(books, venue), books, epoch

    def take(self, collector: str, records: np.ndarray) -> None:
        """Compute the rows of EVENT records, in order."""
        engine, _, epoch = self._engines[collector]
        rows = engine.process(records, 0, epoch)
        if len(rows):
            self._parts.append((collector, rows))

    def write(self, path: Path) -> None:
        """Write all rows to one Parquet file, numbered from 1, with their symbols and, of several, their collectors."""
        output = next(iter(self._engines.values()))[0].output
        rows = np.concatenate([np.empty(0, output), *(part for _, part in self._parts)])
        collectors = [name for name, part in self._parts for _ in range(len(part))]
        epochs = [self._engines[name][2] for name in collectors]
        seqs = np.arange(1, len(rows) + 1, dtype=np.int64)
        table = to_table(rows, seqs, np.array(epochs, np.int64))
        ids = zip(collectors, rows["instrument_id"].tolist(), strict=True)
        symbols = [self._engines[name][1].symbol(each) for name, each in ids]
        table = table.append_column("symbol", pa.array(symbols, pa.string()))
        if len(self._engines) > 1:
            table = table.append_column("collector", pa.array(collectors, pa.string()))
        pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def features() -> ReplayRows:
    """Return what collects the rows of the features engine."""
    return ReplayRows(lambda books, _venue: FeatureEngine(books.scales))


def bars() -> ReplayRows:
    """Return what collects the default series of the bars engine."""
    return ReplayRows(
        lambda books, venue: BarEngine(
            BarsConfig(), books.scales, lambda each: f"{venue}:{books.symbol(each)}"
        )
    )
