"""`tickring features verify`: stored features are what the stored events make, and a single wrong bit is found."""

import json
import struct
from pathlib import Path

import duckdb
import numpy as np
import pytest
from features_market import START_NS, Tape, walk

from consumers import history
from consumers.feature_engine import FeatureEngine
from consumers.features_verify import BETWEEN_RUNS, VerifyReport, verify_day, verify_recording
from consumers.parquet_store import to_table
from layouts import COLUMNS, Kind
from ops.cli import run_verb

SCALES = (2, 3)
DAY = str(np.datetime64(START_NS, "ns").astype("datetime64[D]"))


class Stored:
    """Events of one collector, in two epochs, and the features that the engine made of them, as history shows them."""

    def __init__(self) -> None:
        tape = Tape()
        walk(tape, (1, 2, 3), 400, 5)
        tape.add(Kind.HEARTBEAT, 0, (1,))
        self.events = tape.records()
        self.epochs = np.where(np.arange(len(self.events)) < len(self.events) // 2, 3, 4)
        engine = FeatureEngine(lambda _id, _version: SCALES)
        parts = [engine.process(self.events[self.epochs == e].copy(), 0, e) for e in (3, 4)]
        self.rows = np.concatenate(parts)
        self.rows["publish_delta_ns"] = 77
        self.rows["stamp"] = 2 * np.arange(1, len(self.rows) + 1) + 2

    def connection(self) -> duckdb.DuckDBPyConnection:
        """Give the views that the verifier reads."""
        made = duckdb.connect()
        seqs = (self.events["stamp"] - 2) // 2
        tables = {"events": (self.events, seqs, self.epochs, "e" * 32)}
        own = np.arange(1, len(self.rows) + 1)
        tables["feature_records"] = (self.rows, own, np.full(len(self.rows), 9), "f" * 32)
        for name, (records, numbers, epochs, run) in tables.items():
            made.register(f"{name}_table", to_table(records, numbers, epochs))
            day = "make_timestamp((CASE WHEN ts_event > 0 THEN ts_event ELSE ts_recv END) // 1000)::DATE"
            made.execute(
                f"CREATE VIEW {name} AS SELECT *, '{run}' AS run, {day} AS day FROM {name}_table"
            )
        made.execute(
            "CREATE TABLE scales AS SELECT i AS instrument_id, 1 AS version, 2 AS price_scale, 3 AS qty_scale, "
            "'test' AS venue, 'S' || i AS symbol FROM range(1, 4) t(i)"
        )
        return made

    def verify(self, day: str = DAY, is_running: bool = False) -> VerifyReport:
        """Verify one day."""
        return verify_day(self.connection(), day, is_running)

    @property
    def days(self) -> list[str]:
        """The days that rows are of."""
        return sorted(set(self.rows["ts_event"].view("M8[ns]").astype("M8[D]").astype(str)))


@pytest.fixture
def stored() -> Stored:
    """A small store."""
    return Stored()


def test_what_the_engine_made_is_borne_out_day_by_day(stored: Stored) -> None:
    """Over two epochs and every day; each row is compared once."""
    reports = [stored.verify(day) for day in stored.days]
    assert all(report.sound for report in reports), reports
    assert sum(report.rows for report in reports) == len(stored.rows)
    assert stored.verify("1999-01-01").rows == 0


@pytest.mark.parametrize(
    "name", ["mid", "ofi_cumulative", "kyle_lambda", "row_no", "marks", "ready"]
)
@pytest.mark.parametrize("at", [0, 57, -1])
def test_a_single_bit_that_differs_is_found(stored: Stored, name: str, at: int) -> None:
    """The lowest bit of any column, of the first, a middle and the last row of a day; it is named."""
    mine = np.flatnonzero(stored.rows["ts_event"].view("M8[ns]").astype("M8[D]").astype(str) == DAY)
    value = stored.rows[name][mine[at]]
    bits = int.from_bytes(value.tobytes(), "little") ^ 1
    stored.rows[name][mine[at]] = np.frombuffer(
        bits.to_bytes(value.itemsize, "little"), value.dtype
    )[0]
    report = stored.verify()
    if report.first is None:
        pytest.fail("the bit was not found")
    assert (report.differing, report.sound, report.first.column) == (1, False, name)
    assert f"source_seq {int(stored.rows['source_seq'][mine[at]])}" in report.first.where
    assert report.first.published != report.first.recomputed


def test_every_column_is_compared(stored: Stored) -> None:
    """One flipped bit in each in turn."""
    at = int(np.flatnonzero(stored.rows["kind"] == Kind.FEATURES)[100])
    day = str(stored.rows["ts_event"][at].view("M8[ns]").astype("M8[D]"))
    for column in COLUMNS:
        before = stored.rows[column.name][at]
        (bits,) = struct.unpack("<Q", struct.pack("<d", before))
        stored.rows[column.name][at] = struct.unpack("<d", struct.pack("<Q", bits ^ 1))[0]
        report = stored.verify(day)
        assert report.first is not None and report.first.column == column.name
        stored.rows[column.name][at] = before
    assert stored.verify(day).sound


@pytest.mark.parametrize("defect", ["missing", "twice", "more", "last"])
def test_a_row_too_few_or_too_many_is_found(stored: Stored, defect: str) -> None:
    """Gone from the middle or the end, there twice, or of an event that causes none."""
    of_day = stored.rows["ts_event"].view("M8[ns]").astype("M8[D]").astype(str) == DAY
    at = int(np.flatnonzero(of_day)[30])
    if defect == "missing":
        stored.rows = np.delete(stored.rows, at)
    elif defect == "twice":
        stored.rows = np.insert(stored.rows, at, stored.rows[at])
    elif defect == "more":
        stored.rows = np.insert(stored.rows, at, stored.rows[at])
        stored.rows["source_index"][at + 1] = 1
    else:
        stored.rows = np.delete(stored.rows, int(np.flatnonzero(of_day)[-1]))
    report = stored.verify()
    assert not report.sound
    counts = report.missing, report.unfounded, report.unrecorded
    wanted = {"missing": (1, 0, 0), "twice": (0, 1, 0), "more": (0, 1, 0), "last": (0, 0, 1)}
    assert counts == wanted[defect]
    assert stored.verify(is_running=True).sound == (defect == "last")


def test_rows_whose_events_are_not_stored_prove_nothing(stored: Stored) -> None:
    """A hole in the events: what came before it is compared, what came after is not, and it is told."""
    day = stored.days[-1]
    keep = np.arange(len(stored.events)) != len(stored.events) // 3
    stored.events, stored.epochs = stored.events[keep], stored.epochs[keep]
    report = stored.verify(day)
    assert not report.sound and report.unverified > 0 and report.differing == 0
    assert "are not stored" in report.incomplete[0]
    stored.rows["source_epoch"] = 99
    assert "epoch 99 of an events ring is not stored" in stored.verify(day).incomplete[0]


def test_a_recording_bears_out_what_two_runs_share(stored: Stored, tmp_path: Path) -> None:
    """Other ids, stamps, epochs and receive times are no difference; a price's lowest bit is one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = stored.rows[stored.rows["kind"] == Kind.FEATURES]
    table = to_table(data, np.arange(1, len(data) + 1), np.full(len(data), 1))
    symbols = pa.array([f"S{each}" for each in data["instrument_id"].tolist()])
    pq.write_table(table.append_column("symbol", symbols), tmp_path / "r.parquet")
    for name in BETWEEN_RUNS:
        if name != "instrument_id":
            stored.rows[name] += 1
    report = verify_recording(stored.connection(), str(tmp_path / "r.parquet"))
    assert report.sound and report.rows == len(data), report
    at = int(np.flatnonzero(stored.rows["kind"] == Kind.FEATURES)[60])
    stored.rows["mid"][at] = np.nextafter(stored.rows["mid"][at], np.inf)
    report = verify_recording(stored.connection(), str(tmp_path / "r.parquet"))
    assert not report.sound and report.differing == 1
    assert report.first is not None and report.first.column == "mid"


def test_the_command_prints_and_its_status_says_it(stored: Stored, monkeypatch, capsys) -> None:
    """0 when it is borne out, 1 when not or when nothing was compared, 2 for what is no day."""
    monkeypatch.setattr(history, "connect", lambda *_: stored.connection())
    assert run_verb(["features", "verify", DAY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    assert run_verb(["features", "verify", "1999-01-01"]) == 1
    assert "nothing is proved" in capsys.readouterr().err
    at = int(np.flatnonzero(stored.rows["kind"] == Kind.FEATURES)[-1])
    last = str(stored.rows["ts_event"][at].view("M8[ns]").astype("M8[D]"))
    stored.rows["row_no"][at] += 1
    assert run_verb(["features", "verify", last]) == 1
    assert "recomputed" in capsys.readouterr().out
    assert run_verb(["features", "verify", DAY, DAY]) == 2
    assert run_verb(["features", "verify", "nothing.jsonl.gz", "--venue", "kraken_v2"]) == 2
