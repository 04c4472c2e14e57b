"""The features of a replay are computed by the engine of the live worker, from the records that came off the ring.

They equal the live ones in every column but stamp, seq, epoch, source seq, ts_recv and publish delta, and in the id by which
an instrument is known: the file names its symbol beside it.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.feature_engine import FeatureEngine
from consumers.parquet_store import to_table
from layouts import FEATURES
from ops.replay_books import ReplayBooks


class ReplayFeatures:
    """Collects the rows of one replay."""

    def __init__(self, books: ReplayBooks, epoch: int) -> None:
        self._books = books
        self._epoch = epoch
        self._engine = FeatureEngine(books.scales)
        self._parts: list[np.ndarray] = []

    def take(self, records: np.ndarray) -> None:
        """Compute the rows of EVENT records, in order."""
        self._parts.append(self._engine.process(records, 0, self._epoch))

    def write(self, path: Path) -> None:
        """Write all rows to one Parquet file, numbered from 1."""
        rows = np.concatenate([np.empty(0, FEATURES), *self._parts])
        seqs = np.arange(1, len(rows) + 1, dtype=np.int64)
        table = to_table(rows, seqs, np.full(len(rows), self._epoch, np.int64))
        symbols = [self._books.symbol(each) for each in rows["instrument_id"].tolist()]
        table = table.append_column("symbol", pa.array(symbols, pa.string()))
        pq.write_table(table, path, compression="zstd", write_page_checksum=True)
