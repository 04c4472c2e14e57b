"""Features are computed again from the stored events and held against the rows that the live worker published.

**Why it is right** A run of an events ring is played through `consumers.feature_engine` from its first record on, so that
every window and every book is what the worker had; both sides of a source are in the order of `(source_seq, source_index)`
and are walked through together. From the store, rows must be equal bit for bit in every column but `stamp` and
`publish_delta_ns`; from a recording, in every column that two runs share (`BETWEEN_RUNS` are left out), instrument by
instrument and row number by row number.

**Failure** Where events are missing, nothing after them can be borne out: the rows there are counted as unverified, and it
is told.
**Cost** One pass over the run; two batches of each side in memory.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers

import itertools
from collections.abc import Iterator, Sequence

import duckdb
import msgspec
import numpy as np

from consumers import stored
from consumers.feature_engine import FeatureEngine, Scales
from layouts import EVENT, FEATURES, Kind

BETWEEN_RUNS = (
    *("stamp", "source_epoch", "source_seq", "ts_recv", "publish_delta_ns", "instrument_id"),
)
"""Columns that say where and when a record was published, and under which id its instrument was known."""
_LIVE_ONLY = ("stamp", "publish_delta_ns")
_DAY_NS = 86_400 * 10**9


class Difference(msgspec.Struct, kw_only=True):
    """The first row that is not what it should be."""

    where: str
    column: str
    published: str
    recomputed: str


class VerifyReport(msgspec.Struct, kw_only=True):
    """What was compared and found; `sound` is what the exit status says."""

    rows: int = 0
    """Published rows that were compared."""
    differing: int = 0
    missing: int = 0
    """Rows that the events ask for and nobody published."""
    unfounded: int = 0
    """Rows that no event asks for."""
    unverified: int = 0
    """Rows whose events are not stored without a hole."""
    unrecorded: int = 0
    """Computed rows beyond the last published one: at most what was in flight when a running instance was read."""
    first: Difference | None = None
    incomplete: list[str] = []
    sound: bool = False


class _Walk:
    """Two streams of rows of one source, walked through together by a key that rises in both."""

    def __init__(
        self, report: VerifyReport, where: str, key: Sequence[str], without: Sequence[str]
    ) -> None:
        self.report, self.where, self._key, self._without = report, where, tuple(key), without

    def compare(self, published: Iterator[np.ndarray], computed: Iterator[np.ndarray]) -> None:
        """Walk to the end of both."""
        left, right = _next(published), _next(computed)
        while left is not None and right is not None:
            n = min(len(left), len(right))
            apart = np.flatnonzero(self._keys(left[:n]) != self._keys(right[:n]))
            same = int(apart[0]) if len(apart) else n
            self._equal(left[:same], right[:same])
            left, right = left[same:], right[same:]
            if same < n:
                if tuple(left[0][list(self._key)]) < tuple(right[0][list(self._key)]):
                    self._tell("unfounded", left[0])
                    left = left[1:]
                else:
                    self._tell("missing", right[0])
                    right = right[1:]
            left = left if len(left) else _next(published)
            right = right if len(right) else _next(computed)
        while left is not None:
            for row in left:
                self._tell("unfounded", row)
            left = _next(published)
        while right is not None:
            self.report.unrecorded += len(right)
            right = _next(computed)

    def _keys(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([rows[name].astype(np.int64) for name in self._key], 1).view("V16")[:, 0]

    def _equal(self, left: np.ndarray, right: np.ndarray) -> None:
        left, right = left.copy(), right.copy()
        for name in self._without:
            left[name] = right[name] = 0
        self.report.rows += len(left)
        width = FEATURES.itemsize
        apart = (left.view("u1") != right.view("u1")).reshape(len(left), width).any(1)
        self.report.differing += int(np.count_nonzero(apart))
        if self.report.first is None and apart.any():
            at = int(np.argmax(apart))
            names = FEATURES.names or ()
            column = next(n for n in names if left[n][at].tobytes() != right[n][at].tobytes())
            self._first(left[at], column, _shown(left[column][at]), _shown(right[column][at]))

    def _tell(self, what: str, row: np.void) -> None:
        setattr(self.report, what, getattr(self.report, what) + 1)
        if what == "unfounded":
            self._first(row, "", "a row", "none")
        else:
            self._first(row, "", "none", "a row")

    def _first(self, row: np.void, column: str, published: str, recomputed: str) -> None:
        if self.report.first is None:
            at = f"{self.where}, {', '.join(f'{name} {int(row[name])}' for name in self._key)}"
            at += f", row_no {int(row['row_no'])} of instrument {int(row['instrument_id'])}"
            self.report.first = Difference(
                where=at, column=column, published=published, recomputed=recomputed
            )


def verify_day(
    connection: duckdb.DuckDBPyConnection, day: str, is_running: bool = False
) -> VerifyReport:
    """Compare the published rows of a day with what the stored events make.

    Args:
        connection: of consumers.history.
        day: "2026-11-20", the UTC date of ts_event.
        is_running: rows in flight are no fault.
    """
    report = VerifyReport()
    wanted = int(np.datetime64(day, "ns").astype(np.int64)) // _DAY_NS
    run_of = dict(connection.execute("SELECT DISTINCT epoch, run FROM events").fetchall())
    causes = connection.execute(
        "SELECT DISTINCT run, source_epoch FROM feature_records WHERE day = ? AND source_epoch > 0 ORDER BY ALL",
        [day],
    ).fetchall()
    epochs_of: dict[tuple[str, str], list[int]] = {}
    for run, epoch in causes:
        if epoch not in run_of:
            report.incomplete.append(f"epoch {epoch} of an events ring is not stored")
            report.unverified += _count(connection, run, epoch, day)
        else:
            epochs_of.setdefault((run, run_of[epoch]), []).append(epoch)
    for (run, events_run), epochs in epochs_of.items():
        _verify_run(connection, report, (run, events_run), (epochs, wanted))
    nothing_wrong = not (report.differing or report.missing or report.unfounded)
    whole = not (report.incomplete or report.unverified or (report.unrecorded and not is_running))
    report.sound = nothing_wrong and whole
    return report


def verify_recording(
    connection: duckdb.DuckDBPyConnection, replayed: str, run: str = ""
) -> VerifyReport:
    """Compare published rows with those of a replay, in the columns that two runs share.

    Args:
        connection: of consumers.history.
        replayed: Parquet file of `tickring replay --features`.
        run: of the features ring; "": the newest.
    """
    report = VerifyReport()
    if not run:
        newest = "SELECT run FROM feature_records ORDER BY epoch DESC, seq DESC LIMIT 1"
        run = next((each for (each,) in connection.execute(newest).fetchall()), "")
    connection.execute(f"CREATE TEMP VIEW replayed AS SELECT * FROM read_parquet('{replayed}')")
    symbols = connection.execute("SELECT DISTINCT symbol FROM replayed ORDER BY 1").fetchall()
    for (symbol,) in symbols:
        walk = _Walk(report, symbol, ("row_no", "source_index"), BETWEEN_RUNS)
        of_symbol = "SELECT DISTINCT instrument_id FROM scales WHERE symbol = ?"
        published = _rows(
            connection,
            f"FROM feature_records WHERE run = ? AND kind = {int(Kind.FEATURES)} AND instrument_id IN ({of_symbol})",
            [run, symbol],
        )
        computed = _rows(
            connection, f"FROM replayed WHERE kind = {int(Kind.FEATURES)} AND symbol = ?", [symbol]
        )
        walk.compare(published, computed)
    report.sound = report.rows > 0 and not (
        report.differing or report.missing or report.unfounded or report.unrecorded
    )
    return report


def _verify_run(
    connection: duckdb.DuckDBPyConnection,
    report: VerifyReport,
    runs: tuple[str, str],
    chosen: tuple[list[int], int],
) -> None:
    """Compare the rows of a features ring that one run of an events ring caused on a day."""
    (run, events_run), (epochs, day) = runs, chosen
    first, last, n = connection.execute(
        "SELECT min(seq), max(seq), count(*) FROM events WHERE run = ?", [events_run]
    ).fetchall()[0]
    whole_to = last
    if first != 1 or n != last:
        whole_to = stored.first_hole(connection, "events", events_run)
        report.incomplete.append(
            f"events {whole_to + 1} and others of run {events_run[:8]} are not stored: what they made cannot be borne out"
        )
    named = ", ".join(map(str, epochs))
    upto = f"source_epoch IN ({named}) AND kind <> {int(Kind.RESTART)} AND run = ?"
    published = _rows(
        connection, f"FROM feature_records WHERE {upto} AND source_seq <= {whole_to}", [run]
    )
    report.unverified += connection.execute(
        f"SELECT count(*) FROM feature_records WHERE {upto} AND source_seq > {whole_to}", [run]
    ).fetchall()[0][0]
    walk = _Walk(report, f"run {events_run[:8]}", ("source_seq", "source_index"), _LIVE_ONLY)
    computed = _computed(connection, events_run, whole_to)
    walk.compare(_of_day(published, day), _of_day(computed, day))


def _computed(
    connection: duckdb.DuckDBPyConnection, run: str, whole_to: int
) -> Iterator[np.ndarray]:
    """Yield what the engine makes of a run's events."""
    engine = FeatureEngine(_scales(connection))
    source = f"FROM events WHERE run = ? AND seq <= {whole_to}"
    for records, epochs in stored.records(connection, EVENT, source, [run]):
        borders = [0, *(np.flatnonzero(np.diff(epochs)) + 1), len(epochs)]
        for begin, end in itertools.pairwise(borders):
            if end > begin:
                yield engine.process(records[begin:end], 0, int(epochs[begin]))


def _scales(connection: duckdb.DuckDBPyConnection) -> Scales:
    """Return the lookup over all stored instruments; version 0 is the oldest, which a worker that began with the run met."""
    found = {
        (i, v): (p, q)
        for i, v, p, q in connection.execute(
            "SELECT instrument_id, version, price_scale, qty_scale FROM scales"
        ).fetchall()
    }
    oldest = {i: (i, v) for i, v in sorted(found, reverse=True)}

    def scales(instrument_id: int, version: int) -> tuple[int, int] | None:
        key = (instrument_id, version) if version else oldest.get(instrument_id)
        return found.get(key) if key else None

    return scales


def _rows(
    connection: duckdb.DuckDBPyConnection, source: str, values: list[str]
) -> Iterator[np.ndarray]:
    """Yield FEATURES rows in the order of their ring."""
    for part in stored.records(connection, FEATURES, source, values):
        yield part.records


def _of_day(parts: Iterator[np.ndarray], day: int) -> Iterator[np.ndarray]:
    """Yield the rows of one UTC date of ts_event (of ts_recv where the venue gives no time), without RESTART rows."""
    for rows in parts:
        ts = np.where(rows["ts_event"] > 0, rows["ts_event"], rows["ts_recv"])
        yield rows[ts // _DAY_NS == day]


def _next(parts: Iterator[np.ndarray]) -> np.ndarray | None:
    """Return the next part that holds a row."""
    return next((part for part in parts if len(part)), None)


def _count(connection: duckdb.DuckDBPyConnection, run: str, epoch: int, day: str) -> int:
    query = "SELECT count(*) FROM feature_records WHERE run = ? AND source_epoch = ? AND day = ?"
    return int(connection.execute(query, [run, epoch, day]).fetchall()[0][0])


def _shown(value: np.generic) -> str:
    """Return a value with the bits of a float, since two floats may print alike."""
    return f"{value!s} ({value.tobytes()[::-1].hex()})"
