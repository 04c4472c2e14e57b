"""An own consumer's rows are in history under its name, from store and ring alike, whatever its layout was when."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Instance
from recorders import data_dir, recorder_spec, recorder_values, running_recorder
from sinks import Feed, remove_regions, until

import shm
from consumers import history
from consumers.own import output_layout
from consumers.record_views import TAKEN, taken
from layouts import FEATURES, Kind
from shm.errors import WrongAbi
from shm.producer import Producer, open_ring
from shm.region import ring_name

pytest_plugins = ["sinks_fixtures"]

VWAP = output_layout("VWAP", ("vwap", "<f8"), ("qty", "<i8"))
RINGS = ["feed.events", "feed.instruments", "vwap.rows"]


def ask(place: Instance, query: str, price: history.Price = "float") -> list[tuple]:
    """Return the rows of a query."""
    return history.sql(query, place.name, data_dir(place), price).fetchall()


def own_ring(place: Instance, layout: np.dtype, name: str = "vwap") -> Producer:
    """Open the ring of an own consumer."""
    return open_ring(ring_name(place.name, name, "rows"), layout, 64, place.state_dir)


def rows_of(layout: np.dtype, n: int, epoch: int = 1, **columns: object) -> np.ndarray:
    """Make n rows of instrument 1, caused by records 1, 2, ... of an epoch."""
    rows = np.zeros(n, layout)
    rows["kind"], rows["instrument_id"], rows["source_epoch"] = Kind.OWN, 1, epoch
    rows["source_seq"], rows["source_count"] = np.arange(1, n + 1), 1
    for name, values in columns.items():
        rows[name] = values
    return rows


def record(feed: Feed, layout: np.dtype, rows: np.ndarray) -> None:
    """Publish rows, have them recorded, and end the run."""
    producer = own_ring(feed.place, layout)
    with running_recorder(recorder_spec(feed, inputs=RINGS)):
        producer.publish_batch(rows)
        producer.stop()
    producer.close()
    remove_regions(feed.place)


def test_rows_of_ones_own_are_a_view_under_its_name(feed: Feed) -> None:
    """With its layout's columns, the instrument's name and scaled quantities; other kinds are in the records only."""
    producer = own_ring(feed.place, VWAP)
    rows = rows_of(VWAP, 3, vwap=[1.5, 2.5, np.nan], qty=[3, 150_000_000, 0])
    rows["kind"][2] = Kind.RESTART
    producer.publish_batch(rows)
    query = "select seq, venue, symbol, vwap, qty, price_scale, qty_scale from vwap order by seq"
    assert ask(feed.place, query) == [
        (1, "kraken", "BTC/USD", 1.5, 0.00000003, 2, 8),
        (2, "kraken", "BTC/USD", 2.5, 1.5, 2, 8),
    ]
    assert ask(feed.place, "select qty from vwap order by seq", "fixed") == [(3,), (150_000_000,)]
    assert ask(feed.place, "select kind, qty from vwap_records order by seq")[2] == (9, 0)
    frame = shm.attach("vwap.rows", feed.place.name).to_polars()
    assert frame["qty"].to_list() == [0.00000003, 1.5, 0.0]
    producer.close()


def test_a_ring_without_rows_is_a_view_without_rows(feed: Feed) -> None:
    """As soon as the consumer is there, a query finds its columns."""
    own_ring(feed.place, VWAP).close()
    assert ask(feed.place, "select vwap, qty from vwap") == []


def test_what_is_stored_and_what_is_live_are_one(feed: Feed) -> None:
    """Every row once, from Parquet, journal and ring."""
    producer = own_ring(feed.place, VWAP)
    with running_recorder(recorder_spec(feed, inputs=RINGS, segment_rows=4)) as recorder:
        producer.publish_batch(rows_of(VWAP, 6, vwap=np.arange(6)))
        until("published", lambda: recorder_values(feed)["files_published"] == 1)
        recorder._pause_until = 1 << 62
        producer.publish_batch(rows_of(VWAP, 3, vwap=[6, 7, 8]))
        assert ask(feed.place, "select vwap from vwap order by seq") == [(i,) for i in range(9)]
        recorder._pause_until = 0
    producer.close()


def test_a_consumer_that_never_starts_keeps_nobody_from_recording(feed: Feed) -> None:
    """Its ring is not waited for; when it comes, it is recorded from its first row."""
    spec = recorder_spec(feed, inputs=["none.rows", *RINGS])
    with running_recorder(spec):
        feed.trades(20)
        until("recorded", lambda: recorder_values(feed)["in.feed.events.seq"] == 20)
        producer = own_ring(feed.place, VWAP)
        producer.publish_batch(rows_of(VWAP, 5, vwap=np.arange(5)))
        until("recorded too", lambda: recorder_values(feed)["in.vwap.rows.seq"] == 5)
        producer.stop()
    producer.close()
    remove_regions(feed.place)
    assert ask(feed.place, "select vwap from vwap order by seq") == [(i,) for i in range(5)]


def test_a_quantity_is_at_the_scale_in_force_at_its_cause(feed: Feed) -> None:
    """A wider scale holds from the record on that opened it, not before."""
    seqs = [feed.record(Kind.STATE, 1, 2, 1), feed.record(Kind.GAP)]
    feed.add_instrument("BTC/USD", version=2, price_scale=4)
    seqs += [feed.record(Kind.SNAPSHOT_BEGIN, 10, 10, 2), feed.record(Kind.GAP)]
    layout = output_layout("MID", ("mid_price", "<i8"))
    epoch = feed.events.epoch
    rows = rows_of(layout, 4, epoch=epoch, mid_price=125, source_seq=seqs)
    producer = own_ring(feed.place, layout, "mid")
    producer.publish_batch(rows)
    found = ask(feed.place, "select mid_price, price_scale from mid order by source_seq")
    assert found == [(1.25, 2), (1.25, 2), (0.0125, 4), (0.0125, 4)]
    producer.close()


def test_a_layout_that_changed_is_united_by_name(feed: Feed) -> None:
    """A new column is null in older rows, a removed one in newer; the files of before stay as they are."""
    old = output_layout("VWAP", ("vwap", "<f8"), ("gone", "<i8"))
    record(feed, old, rows_of(old, 2, vwap=[1.0, 2.0], gone=7))
    new = output_layout("VWAP", ("vwap", "<f8"), ("added", "<f8"))
    producer = own_ring(feed.place, new)
    producer.publish_batch(rows_of(new, 1, vwap=3.0, added=0.5))
    query = "select vwap, gone, added from {} order by vwap"
    for view in ("vwap", "vwap_records"):
        assert ask(feed.place, query.format(view)) == [
            *((1.0, 7, None), (2.0, 7, None)),
            (3.0, None, 0.5),
        ]
    producer.close()


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (("x", "<i4", 7), ("x", "<f8", 0.5), [7.0, 0.5]),
        (("x", "<i4", 7), ("x", "S8", b"six"), ["7", "six"]),
        (("x", "(3,)<i8", (1, 2, 3)), ("x", "<i8", 5), ["[1, 2, 3]", "5"]),
        (("qty", "<f8", 0.25), ("qty", "<i8", 150_000_000), [0.25, 1.5]),
    ],
)
def test_a_column_whose_type_changed_holds_both(
    feed: Feed, before: tuple, after: tuple, found: list
) -> None:
    """Numbers as the widest, else text; each is scaled as its own layout says."""
    old, new = (output_layout("X", (name, code)) for name, code, _ in (before, after))
    record(feed, old, rows_of(old, 1, **{before[0]: before[2]}))
    fresh = Feed(feed.place)
    fresh.add_instrument("BTC/USD")
    producer = own_ring(feed.place, new)
    producer.publish_batch(rows_of(new, 1, **{after[0]: after[2]}))
    rows = ask(feed.place, f"select {before[0]} from vwap order by epoch")
    assert [value for (value,) in rows] == found
    assert ask(feed.place, f"select count({before[0]}) from vwap_records") == [(2,)]
    producer.close()
    fresh.close()


def test_a_ring_of_another_layout_is_refused_with_the_fields(instance: Instance) -> None:
    """What differs, field by field, and what to do; the ring stays as it is."""
    own_ring(instance, VWAP).close()
    more = output_layout("VWAP", ("vwap", "<f8"), ("qty", "<i8"), ("trades", "<i8"))
    with pytest.raises(WrongAbi, match=r"(?s)- 72 trades <i8 1.*tickring down"):
        own_ring(instance, more)
    own_ring(instance, VWAP).close()
    remove_regions(instance)


def test_the_layout_is_called_like_the_consumer(instance: Instance) -> None:
    """By rings(); rows that are none, and a layout of the project in another version, stay unknown."""
    own_ring(instance, VWAP).close()
    own_ring(instance, FEATURES, "features").close()
    other = np.dtype([*VWAP.descr[:7], ("body", "S32")])
    own_ring(instance, other, "other").close()
    elsewhere = ring_name(instance.name, "vwap", "events")
    open_ring(elsewhere, VWAP, 64, instance.state_dir).close()
    assert [(row.name, row.layout) for row in shm.rings(instance.name)] == [
        ("features.rows", "features"),
        ("other.rows", "unknown"),
        ("vwap.events", "unknown"),
        ("vwap.rows", "vwap"),
    ]
    assert ask(instance, "select count(*) from features") == [(0,)]
    remove_regions(instance)


def test_names_and_columns_that_sql_keeps_for_itself_are_quoted(feed: Feed) -> None:
    """A consumer `select` with a column `order`."""
    layout = output_layout("X", ("order", "<f8"), ("group", "<i8"))
    producer = own_ring(feed.place, layout, "select")
    producer.publish_batch(rows_of(layout, 1, order=1.5, group=2))
    assert ask(feed.place, 'select "order", "group" from "select"') == [(1.5, 2)]
    producer.close()


def test_every_view_of_history_is_taken(tmp_path: Path, instance: Instance) -> None:
    """No name of a consumer hides one; nor do the records of another consumer."""
    connection = history.connect(instance.name, tmp_path)
    there = connection.sql("select table_name from information_schema.tables").fetchall()
    assert {name for (name,) in there if " " not in name} == TAKEN
    assert taken("vwap") == ""
    assert taken("trades") == "trades"
    assert taken("bar") == "bar_records"
    assert taken("vwap_records", ["vwap"]) == "vwap_records"
