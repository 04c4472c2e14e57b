"""One SQL view per kind of record over all that was ever stored and all that is live now, each record once.

    from consumers import history
    history.sql("select symbol, avg(price) from trades where day >= '2026-11-01' group by symbol").df()

**Layout** `trades`, `quotes`, `levels`, `gaps`, `states`: the events of that kind with the words' names (layouts.event);
`bars`: the bars with `series` (`1m`, `tick_100`, ...: layouts.bar); `features`, `orders`, `positions`, `decisions`, `controls`,
`exposures`: their rings' records (consumers.record_views). Each has `venue`, `symbol`, `side` (+1, -1, 0), the scales,
`ring`, `run` (the ring's incarnation), `epoch`, `seq`, `day` (UTC date of ts_event, of ts_recv where the venue gives no time).
Prices and quantities are float64, or with price="fixed" the ring's integers (value = integer / 10**price_scale). `events`,
`books`, `instruments`, `bar_records`, `feature_records`, ...: every record, heartbeats too, as it is in the ring.
An own consumer `vwap` has `vwap` and `vwap_records` likewise, of its layout's columns, over all layouts it ever had
(consumers.own_views).

**Why it is right** What is published is read from Parquet, what is journaled and not published from the journals,
what comes after that from the rings: the three are cut at seqs of the same incarnation. The manifest is read again
at the end; when it has grown meanwhile, everything is read again. A price is scaled by the instrument version in
force at its seq.

**Cost** One connection holds a copy of the unpublished records and of the rings' tails as they were when it was made.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers, and of quoted paths

import time
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from consumers.bar_view import bars_view
from consumers.journal import SUFFIX, Contents, JournalDamaged, JournalHeader, read_journal
from consumers.manifest import Row, live_files, read_manifest
from consumers.own_views import own_views_of, source_view
from consumers.parquet_store import description_of, layout_hash, to_table
from consumers.record_views import (
    EVENT_KINDS,
    RECORD_VIEWS,
    RECORDS,
    SIDE,
    STATE,
    quoted,
    record_view,
    version_joins,
)
from layouts import EVENT_VIEWS, LAYOUTS, UNKNOWN, Kind, describe, layout_name
from shm.errors import AttachError, ConfigurationError, TickringError
from shm.header import dtype_of
from shm.reader import open_reader
from shm.registry import DEFAULT_INSTANCE, default_state_dir, last_instance, ring_names

_TRIES = 20
_VERSIONED = (Kind.SNAPSHOT_BEGIN, Kind.SNAPSHOT_END, Kind.STATE)
_KNOWN = {layout_hash(describe(dtype)): dtype for dtype in LAYOUTS.values()}

Price = Literal["float", "fixed"]


class Busy(TickringError):
    """The store grew at every try to read it whole."""


class _Part(NamedTuple):
    """Records of one incarnation of one ring: in files, or in memory."""

    ring: str
    uuid: str
    layout: np.dtype
    files: list[str]
    table: pa.Table | None


def sql(
    query: str,
    instance: str = DEFAULT_INSTANCE,
    data_dir: str | Path | None = None,
    price: Price = "float",
) -> duckdb.DuckDBPyRelation:
    """Run a query over the views; the result has `.df()`, `.pl()`, `.to_arrow_table()`, `.fetchall()`."""
    return connect(instance, data_dir, price).sql(query)


def connect(
    instance: str = DEFAULT_INSTANCE, data_dir: str | Path | None = None, price: Price = "float"
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the views, which show the store and the rings as they are now.

    Args:
        instance: whose rings' tails to add; none are added while it is down.
        data_dir: the recorder's directory; None: as the running instance says, else `data` in its state directory.
        price: "float" or "fixed".
    """
    if price not in ("float", "fixed"):
        raise ConfigurationError(f'price={price!r}: "float" or "fixed" expected')
    folder = Path(data_dir) if data_dir is not None else data_dir_of(instance)
    parts = _collect(instance, folder)
    connection = duckdb.connect()
    for view, name in RECORDS.items():
        layout = LAYOUTS[name]
        empty = to_table(np.empty(0, layout), np.empty(0, int), np.empty(0, int))
        chosen = [part for part in parts if part.layout == layout]
        _make_view(connection, view, [*chosen, _Part("", "", layout, [], empty)])
    _make_scales(connection)
    for view, kind in EVENT_KINDS.items():
        connection.execute(_event_view(view, kind, price))
    connection.execute(bars_view(price))
    for view in RECORD_VIEWS:
        connection.execute(record_view(view, price))
    _make_own(connection, parts, price)
    return connection


def data_dir_of(instance: str) -> Path:
    """Return where the recorder of an instance writes."""
    found = last_instance(instance)
    if found is None:
        return Path(default_state_dir(instance)) / "data"
    named = found.config.get("recorder", {}).get("data_dir", "")
    return Path(named).expanduser() if named else Path(found.state_dir) / "data"


def _collect(instance: str, folder: Path) -> list[_Part]:
    """Read manifest, journals and rings until the manifest has stood still meanwhile."""
    for _ in range(_TRIES):
        rows = read_manifest(folder)
        try:
            journals = _read_journals(folder)
        except FileNotFoundError:
            continue  # it was published between being listed and being read
        parts = _stored(folder, rows) + _tails(rows, journals, _read_rings(instance))
        if read_manifest(folder) == rows:
            return parts
        time.sleep(0.01)
    raise Busy(f"{folder} grew during each of {_TRIES} tries to read it; try again")


def _read_journals(folder: Path) -> list[Contents]:
    found = []
    for path in sorted((folder / "journal").glob(f"*{SUFFIX}")):
        try:
            found.append(read_journal(path))
        except JournalDamaged:
            continue  # it is being created, or the recorder is going to set it aside
    return found


def _read_rings(instance: str) -> list[Contents]:
    """Copy what the rings hold of the layouts that have a name."""
    found = []
    for name in ring_names(instance):
        try:
            with open_reader(name) as reader:
                facts, dtype = reader.facts(), reader.dtype
                if layout_name(dtype, str(name)) == UNKNOWN or facts.mode != "overwrite":
                    continue
                records, info = reader.last(facts.slots)
                epochs = reader.facts().epochs
        except AttachError:
            continue
        seqs = np.arange(info.first_seq, info.first_seq + len(records))
        starts = np.array([first for _, first in epochs] or [1])
        numbers = np.array([epoch for epoch, _ in epochs] or [0])
        which = np.maximum(np.searchsorted(starts, seqs, "right") - 1, 0)
        header = JournalHeader(
            str(name), facts.uuid, facts.first_seq, info.last_seq + 1, describe(dtype)
        )
        found.append(
            Contents(header, records, seqs, numbers[which], [], info.first_seq + len(records))
        )
    return found


def _stored(folder: Path, rows: list[Row]) -> list[_Part]:
    files: dict[tuple[str, str, str], list[str]] = {}
    for row in live_files(rows):
        files.setdefault((row.ring, row.uuid, row.layout), []).append(str(folder / row.file))
    parts = []
    for (ring, uuid, layout), paths in files.items():
        dtype = _KNOWN.get(layout)
        if dtype is None and (description := description_of(Path(paths[0]))):
            dtype = dtype_of(description)
        if dtype is not None and layout_name(dtype, ring) != UNKNOWN:
            parts.append(_Part(ring, uuid, dtype, paths, None))
    return parts


def _tails(rows: list[Row], journals: list[Contents], rings: list[Contents]) -> list[_Part]:
    """Cut journals behind what is published, and rings behind what is journaled."""
    ends: dict[str, int] = {}
    for row in rows:
        ends[row.uuid] = max(ends.get(row.uuid, 0), row.last_seq + 1)
    parts = []
    for contents in [*journals, *rings]:
        ring, uuid, dtype = contents.header.ring, contents.header.uuid, contents.header.dtype
        new = contents.seqs >= ends.get(uuid, 0)
        ends[uuid] = max(ends.get(uuid, 0), contents.next_seq)
        name = layout_name(dtype, ring)
        if name != UNKNOWN and (new.any() or name not in LAYOUTS):  # no rows yet make a view too
            table = to_table(contents.records[new], contents.seqs[new], contents.epochs[new])
            parts.append(_Part(ring, uuid, dtype, [], table))
    return parts


def _make_view(connection: duckdb.DuckDBPyConnection, view: str, parts: list[_Part]) -> None:
    selects = []
    for i, part in enumerate(parts):
        source = f"read_parquet([{', '.join(map(_quoted, part.files))}])"
        if part.table is not None:
            source = quoted(f"{view} tail {i}")
            connection.register(f"{view} tail {i}", part.table)
        whose = f"{_quoted(part.ring)} AS ring, {_quoted(part.uuid)} AS run"
        selects.append(f"SELECT {whose}, * FROM {source}")
    day = "make_timestamp((CASE WHEN ts_event > 0 THEN ts_event ELSE ts_recv END) // 1000)::DATE"
    union = " UNION ALL BY NAME ".join(selects)
    connection.execute(f"CREATE VIEW {quoted(view)} AS SELECT *, {day} AS day FROM ({union})")


def _make_own(connection: duckdb.DuckDBPyConnection, parts: list[_Part], price: Price) -> None:
    """Make the views over own consumers' rows: one of each layout that one ever had, then those that unite them."""
    layouts: dict[str, list[np.dtype]] = {}
    for part in parts:
        name = layout_name(part.layout, part.ring)
        if name not in LAYOUTS and part.layout not in layouts.setdefault(name, []):
            same = [each for each in parts if (each.layout, each.ring) == (part.layout, part.ring)]
            _make_view(connection, source_view(name, len(layouts[name])), same)
            layouts[name].append(part.layout)
    for statement in own_views_of(layouts, price):
        connection.execute(statement)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _make_scales(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `scales`, one row per version of an instrument, `names`, one per instrument, and `versions`: in force since when."""
    connection.execute(
        "CREATE TABLE scales AS SELECT DISTINCT ON (instrument_id, version) instrument_id, version, venue, symbol, "
        "price_scale, qty_scale FROM instruments ORDER BY instrument_id, version, epoch DESC, seq DESC"
    )
    connection.execute(
        "CREATE TABLE names AS SELECT DISTINCT ON (instrument_id) instrument_id, venue, symbol FROM scales "
        "ORDER BY instrument_id, version DESC"
    )
    kinds = ", ".join(str(int(kind)) for kind in _VERSIONED)
    connection.execute(
        "CREATE VIEW versions AS SELECT run, instrument_id, seq, word_2 AS version FROM events "
        f"WHERE kind IN ({kinds}) AND word_2 > 0"
    )
    connection.execute("CREATE VIEW runs AS SELECT DISTINCT epoch, run FROM events")


def _event_view(view: str, kind: Kind, price: Price) -> str:
    """Return the statement that makes the view of one kind of event."""
    dtype = EVENT_VIEWS[kind]
    assert dtype.names is not None
    words = []
    for i, name in enumerate(dtype.names[-4:]):
        scale = "price_scale" if "price" in name else "qty_scale" if "qty" in name else ""
        value = f"r.word_{i}"
        if scale and price == "float":
            value = f"{value} / pow(10, s.{scale})"
        words.append(f"{value} AS {name}")
    return (
        f"CREATE VIEW {view} AS SELECT r.day, r.ring, r.run, r.epoch, r.seq, r.ts_event, r.ts_recv, "
        f"r.publish_delta_ns, r.instrument_id, s.venue, s.symbol, r.marks, {STATE}, "
        f"{SIDE}, {', '.join(words)}, s.price_scale, s.qty_scale "
        f"FROM events r {version_joins('r.run', 'r.seq')} "
        f"WHERE r.kind = {int(kind)}"
    )
