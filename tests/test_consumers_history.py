"""SQL over Parquet, journals and rings: each record once, prices scaled as they were, days by UTC."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Instance
from recorders import all_stored, data_dir, recorder_spec, recorder_values, running_recorder
from sinks import Feed, remove_regions, until

from consumers import history
from consumers.manifest import read_manifest
from consumers.record_views import RECORD_VIEWS
from layouts import FEATURES, ORDER, POSITION, RISK_DECISION, GapReason, Kind, Mark
from layouts.position import split_words
from shm.errors import ConfigurationError
from shm.producer import open_ring
from shm.region import ring_name

pytest_plugins = ["sinks_fixtures"]


def ask(feed: Feed, query: str, price: history.Price = "float") -> list[tuple]:
    """Return the rows of a query over the feed's instance."""
    return history.sql(query, feed.place.name, data_dir(feed.place), price).fetchall()


def test_an_instance_without_a_recorder_shows_its_rings(feed: Feed) -> None:
    """The live tail alone answers."""
    feed.trades(5)
    assert ask(feed, "select count(*), min(seq), max(trade_id) from trades") == [(5, 1, 5)]


def test_nothing_at_all_is_empty_views(tmp_path: Path, instance: Instance) -> None:
    """No files, no rings: every view is there, with its columns and no rows."""
    connection = history.connect(instance.name, tmp_path)
    views = ("events", "books", "instruments", "trades", "quotes", "gaps", "bars", *RECORD_VIEWS)
    for view in views:
        assert connection.sql(f"select count(*) from {view}").fetchall() == [(0,)]
    assert "price" in connection.sql("select * from trades").columns


def test_files_journal_and_ring_are_one_without_seams(feed: Feed) -> None:
    """Published, journaled and live records together: every seq once."""
    with running_recorder(recorder_spec(feed)) as recorder:
        feed.trades(300)
        until("published", lambda: recorder_values(feed)["files_published"] == 1)
        all_stored(feed, 300)
        recorder._pause_until = 1 << 62
        feed.trades(50)
        assert [row.last_seq for row in read_manifest(data_dir(feed.place))] == [255]
        found = ask(feed, "select seq from trades order by seq")
        recorder._pause_until = 0
    assert [seq for (seq,) in found] == list(range(1, 351))


def test_reading_while_the_recorder_publishes_never_misses_or_doubles(feed: Feed) -> None:
    """Every answer is the contiguous whole up to some seq."""
    with running_recorder(recorder_spec(feed, segment_rows=64)):
        for _ in range(8):
            feed.trades(100)
            found = ask(feed, "select count(*), count(distinct seq), max(seq) from trades")[0]
            assert found == (feed.published,) * 3


def test_what_the_recorder_and_the_ring_have_lost_is_in_no_answer(instance: Instance) -> None:
    """After a loss the rows that are left are told once each."""
    feed = Feed(instance, slots=64)
    feed.add_instrument("BTC/USD")
    feed.trades(500)
    with running_recorder(recorder_spec(feed)):
        until("read", lambda: recorder_values(feed)["in.feed.events.seq"] == 500)
        rows = ask(feed, "select seq from trades order by seq")
        lost = recorder_values(feed)["in.feed.events.lost"]
    assert len({seq for (seq,) in rows}) == len(rows)
    assert rows[-1] == (500,)
    assert lost > 0
    feed.close()
    remove_regions(instance)


def test_two_runs_are_both_there(feed: Feed, instance: Instance) -> None:
    """Seqs begin again in a new run; `run` and `epoch` keep them apart."""
    with running_recorder(recorder_spec(feed)):
        feed.trades(10)
        feed.events.stop()
    feed.close()
    remove_regions(instance)
    again = Feed(instance)
    again.trades(4)
    query = "select count(*) from events group by run order by min(epoch)"
    assert ask(again, query) == [(10,), (4,)]
    again.close()


@pytest.mark.parametrize(
    ("price", "expected"),
    [("float", [(0.01, 0.00000003), (0.0002, 0.00000006)]), ("fixed", [(1, 3), (2, 6)])],
)
def test_prices_are_scaled_by_the_version_in_force(
    feed: Feed, price: history.Price, expected: list[tuple]
) -> None:
    """A wider scale holds from its record on, for stored and live rows alike."""
    with running_recorder(recorder_spec(feed)):
        feed.record(Kind.STATE, 1, 2, 1)
        feed.trades(1)
        feed.add_instrument("BTC/USD", version=2, price_scale=4)
        feed.record(Kind.SNAPSHOT_BEGIN, 10, 10, 2)
        feed.events.stop()
    feed.crash()
    feed.trades(1)
    assert ask(feed, "select price, qty from trades order by seq", price) == expected
    assert ask(feed, "select price_scale from trades order by seq") == [(2,), (4,)]


def test_a_trade_tells_instrument_side_and_day(feed: Feed) -> None:
    """Venue, symbol, taker side, and the UTC day of the venue's time."""
    feed.trades(1)
    query = "select venue, symbol, side, day::varchar from trades where day >= '1970-01-01'"
    assert ask(feed, query) == [("kraken", "BTC/USD", 1, "1970-01-01")]


def test_gaps_and_features_have_their_columns(feed: Feed) -> None:
    """The words of a GAP by name; a feature row by its columns."""
    feed.record(Kind.GAP, 4, 9, 1, GapReason.SEQUENCE)
    name = ring_name(feed.place.name, "features", "features")
    rows = open_ring(name, FEATURES, 64, feed.place.state_dir)
    made = np.zeros(2, FEATURES)
    made["kind"], made["mid"], made["row_no"] = Kind.FEATURES, [1.5, 2.5], [0, 1]
    rows.publish_batch(made)
    assert ask(feed, "select venue_from, venue_to, reason from gaps") == [(4, 9, 2)]
    assert ask(feed, "select row_no, mid from features order by seq") == [(0, 1.5), (1, 2.5)]
    rows.close()


def publish(feed: Feed, worker: str, ring: str, records: np.ndarray) -> None:
    """Publish records of another ring of the feed's instance."""
    name = ring_name(feed.place.name, worker, ring)
    producer = open_ring(name, records.dtype, 64, feed.place.state_dir)
    producer.publish_batch(records)
    producer.close()


def test_every_row_of_a_view_names_its_instrument_and_heartbeats_are_none(feed: Feed) -> None:
    """Features by symbol, without the rows that only say that the worker lives."""
    made = np.zeros(3, FEATURES)
    made["kind"] = [Kind.FEATURES, Kind.HEARTBEAT, Kind.FEATURES]
    made["instrument_id"], made["mid"] = [1, 0, 2], [1.5, np.nan, 2.5]
    made["marks"] = int(Mark.SELL) | 1
    publish(feed, "features", "features", made)
    query = "select venue, symbol, mid, side, book_state from features order by seq"
    assert ask(feed, query) == [("kraken", "BTC/USD", 1.5, -1, 1), (None, None, 2.5, -1, 1)]
    assert ask(feed, "select kind from feature_records order by seq") == [(18,), (8,), (18,)]


def test_orders_and_positions_are_at_the_scales_that_they_carry(feed: Feed) -> None:
    """Not at those of the instrument, which may be others by now; the mark has a finer one of its own."""
    orders = np.zeros(1, ORDER)
    orders["kind"], orders["instrument_id"], orders["price"], orders["qty"] = (
        Kind.FILL,
        1,
        630049,
        150,
    )
    orders["price_scale"], orders["qty_scale"], orders["fee"], orders["fee_scale"] = 1, 2, -125, 3
    publish(feed, "orders", "orders", orders)
    positions = np.zeros(1, POSITION)
    positions["kind"], positions["instrument_id"], positions["qty"] = Kind.POSITION, 1, -150
    positions["mark_price"], positions["average_price"] = 6300495, 6300000
    for name, value in (
        ("price_scale", 1),
        ("mark_scale", 2),
        ("qty_scale", 2),
        ("money_scale", 4),
    ):
        positions[name] = value
    positions["realised_low"], positions["realised_high"] = split_words(-5)
    positions["cost_low"], positions["cost_high"] = split_words(3 * 2**64 + 7)
    publish(feed, "pnl", "positions", positions)
    assert ask(feed, "select price, qty, fee, symbol from orders") == [
        (63004.9, 1.5, -0.125, "BTC/USD")
    ]
    query = "select qty, mark_price, average_price, realised, cost from positions"
    assert ask(feed, query) == [(-1.5, 63004.95, 63000.0, -0.0005, (3 * 2**64 + 7) / 10**4)]
    assert ask(feed, query, "fixed") == [(-150, 6300495, 6300000, -5, 3 * 2**64 + 7)]
    assert ask(feed, "select realised_low, realised_high from positions") == [(-5, -1)]


def test_decisions_are_a_view(feed: Feed) -> None:
    """What was decided, against which limit, at the scale that the row carries."""
    made = np.zeros(1, RISK_DECISION)
    made["kind"], made["instrument_id"], made["limit_low"] = Kind.RISK_DECISION, 1, 1250
    made["value_scale"], made["reason"], made["client_order_id"] = 2, 3, b"mine"
    publish(feed, "risk", "decisions", made)
    query = 'select symbol, "limit", reason, client_order_id from decisions'
    assert ask(feed, query) == [("BTC/USD", 12.5, 3, "mine")]


def test_the_data_directory_is_found(
    feed: Feed, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the instance is down: `data` in its state directory."""
    monkeypatch.setenv("TICKRING_STATE_DIR", str(instance.state_dir))
    assert history.data_dir_of(instance.name) == instance.state_dir / instance.name / "data"


def test_a_path_with_a_quote_is_read(feed: Feed, tmp_path: Path) -> None:
    """File names are quoted, not pasted."""
    folder = tmp_path / "it's"
    with running_recorder(recorder_spec(feed, data_dir=str(folder))):
        feed.trades(3)
        feed.events.stop()
    rows = history.sql("select count(*) from events where epoch > 0", "nobody", folder).fetchall()
    assert rows == [(3,)]


def test_an_unknown_price_form_is_refused(instance: Instance) -> None:
    """The error names what there is."""
    with pytest.raises(ConfigurationError, match="fixed"):
        history.connect(instance.name, price="decimal")
