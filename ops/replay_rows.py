"""What a replay computes is computed by the engines of the live workers, from the records that came off the ring.

Features and bars equal the live ones in every column but stamp, seq, epoch, source seq, ts_recv and publish delta, and in the
id by which an instrument is known: the file names its symbol beside it.
"""

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
    """Collects the rows of one replay."""

    def __init__(self, engine: _Engine, books: ReplayBooks, epoch: int) -> None:
        self._engine, self._books, self._epoch = engine, books, epoch
        self._parts: list[np.ndarray] = []

    def take(self, records: np.ndarray) -> None:
        """Compute the rows of EVENT records, in order."""
        self._parts.append(self._engine.process(records, 0, self._epoch))

    def write(self, path: Path) -> None:
        """Write all rows to one Parquet file, numbered from 1."""
        rows = np.concatenate([np.empty(0, self._engine.output), *self._parts])
        seqs = np.arange(1, len(rows) + 1, dtype=np.int64)
        table = to_table(rows, seqs, np.full(len(rows), self._epoch, np.int64))
        symbols = [self._books.symbol(each) for each in rows["instrument_id"].tolist()]
        table = table.append_column("symbol", pa.array(symbols, pa.string()))
        pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def features(books: ReplayBooks, epoch: int) -> ReplayRows:
    """Return what collects the rows of the features engine."""
    return ReplayRows(FeatureEngine(books.scales), books, epoch)


def bars(books: ReplayBooks, epoch: int, venue: str) -> ReplayRows:
    """Return what collects the default series of the bars engine."""
    engine = BarEngine(BarsConfig(), books.scales, lambda each: f"{venue}:{books.symbol(each)}")
    return ReplayRows(engine, books, epoch)
