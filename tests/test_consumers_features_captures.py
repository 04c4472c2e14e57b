"""Over recorded sessions each column is its formula, and two replays, cut and continued anywhere, give the same bits."""

from pathlib import Path

import numpy as np
import pytest
from decoding import Pipeline
from features_reference import reference_rows
from test_consumers_features_columns import assert_close

from collectors.captures import merge, open_captures
from consumers.feature_engine import FeatureEngine
from layouts import COLUMNS, Kind
from layouts.features import READY_BIT

V1 = ("kraken_v1", ["kraken_v1_book_10pairs.jsonl.gz", "kraken_v1_trade_10pairs.jsonl.gz"])
V2_BTC = ("kraken_v2", ["kraken_v2_btcusd_resubscribes.jsonl.gz"])
V2_ETH = ("kraken_v2", ["kraken_v2_ethusd.jsonl.gz"])
RECORDINGS = [
    V1,
    V2_BTC,
    V2_ETH,
    ("kraken_futures", ["kraken_futures_10products.jsonl.gz"]),
    ("coinbase_exchange", ["coinbase_exchange_10pairs.jsonl.gz"]),
    ("okx", ["okx_v5_books_3instruments.jsonl.gz"]),
    ("bybit", ["bybit_v5_linear_spot_book200.jsonl.gz"]),
    ("deribit", ["deribit_10options.jsonl.gz"]),
]
REFERENCE_ROWS = 200


class Recorded:
    """A recording as a consumer meets it: EVENT records, and the scales of each version."""

    def __init__(self, folder: Path, venue: str, files: list[str]) -> None:
        pipeline = Pipeline(venue)
        for frame in merge(open_captures([folder / file for file in files])):
            if frame.kind == "recv":
                pipeline.feed(frame.data, frame.ts)
        self.events = pipeline.events()
        table = pipeline.instruments()
        pipeline.close()
        self._scales = {
            (int(row["instrument_id"]), int(row["version"])): (
                int(row["price_scale"]),
                int(row["qty_scale"]),
            )
            for row in table
        }

    def scales(self, instrument_id: int, version: int) -> tuple[int, int] | None:
        """Look a version up; version 0 is the newest."""
        if version:
            return self._scales.get((instrument_id, version))
        newest = max((v for i, v in self._scales if i == instrument_id), default=0)
        return self._scales.get((instrument_id, newest))

    def has_one_scale(self, instrument_id: int) -> bool:
        """Tell whether an instrument has kept its first scales."""
        return (instrument_id, 2) not in self._scales

    def engine(self) -> FeatureEngine:
        """Give a new engine."""
        return FeatureEngine(self.scales)


@pytest.mark.parametrize(("venue", "files"), RECORDINGS)
def test_each_column_of_a_recording_is_its_formula(
    captures: Path, venue: str, files: list[str]
) -> None:
    """The instruments with most rows, from their first row on past every warm-up; of those of one scale."""
    recorded = Recorded(captures, venue, files)
    rows = recorded.engine().process(recorded.events)
    rows = rows[[recorded.has_one_scale(int(each)) for each in rows["instrument_id"]]]
    ids, counts = np.unique(rows["instrument_id"], return_counts=True)
    for each in ids[np.argsort(counts)][-2:]:
        scales = recorded.scales(int(each), 0)
        assert scales is not None
        mine = rows[rows["instrument_id"] == each][:REFERENCE_ROWS]
        last = np.flatnonzero((recorded.events["stamp"] - 2) // 2 == mine[-1]["source_seq"])[0]
        head = recorded.events[: last + 1]
        records = head[head["instrument_id"] == each]
        wanted = reference_rows(records, lambda _each, scales=scales: scales)
        assert len(wanted) == len(mine)
        for row, (_, columns) in zip(mine, wanted, strict=True):
            for column in COLUMNS:
                where = f"{column.name} of row {row['row_no']} of {each}"
                is_ready = bool(int(row["ready"]) >> READY_BIT[column.name] & 1)
                assert is_ready == (column.name in columns), where
                if is_ready:
                    assert_close(float(row[column.name]), columns, column.name, where)


@pytest.mark.parametrize(("venue", "files"), RECORDINGS)
def test_a_recording_gives_a_row_for_each_trade_and_quote(
    captures: Path, venue: str, files: list[str]
) -> None:
    """Nothing crossed, nothing unsynced once a book is there, every QUOTE confirmed by the own book."""
    recorded = Recorded(captures, venue, files)
    engine = recorded.engine()
    rows = engine.process(recorded.events)
    causes = np.isin(recorded.events["kind"], (Kind.TRADE, Kind.QUOTE))
    seqs = (recorded.events["stamp"][causes] - 2) // 2
    np.testing.assert_array_equal(rows["source_seq"], seqs)
    assert engine.counters["quotes_differing"] == 0
    assert engine.counters["rows_crossed"] == 0
    assert engine.counters["rows_unscaled"] == 0
    assert engine.counters["levels_unsynced"] == 0
    for each in np.unique(rows["instrument_id"]):
        numbers = rows["row_no"][rows["instrument_id"] == each]
        np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
    values = np.array([rows[column.name] for column in COLUMNS]).T
    bits = (rows["ready"][:, None] >> np.arange(len(COLUMNS))) & 1
    np.testing.assert_array_equal(np.isfinite(values), bits.astype(bool))


@pytest.mark.parametrize(("venue", "files"), RECORDINGS)
def test_replays_are_equal_bit_for_bit(captures: Path, venue: str, files: list[str]) -> None:
    """Decoded twice; taken in odd pieces; carried over from one engine to the next."""
    first, second = Recorded(captures, venue, files), Recorded(captures, venue, files)
    whole = first.engine().process(first.events)
    engine, parts = second.engine(), []
    for piece in np.array_split(second.events, 7):
        image = engine.to_bytes()
        engine = second.engine()
        engine.load(image)
        parts.append(engine.process(piece.copy()))
    again = np.concatenate(parts)
    assert again.tobytes() == whole.tobytes()
