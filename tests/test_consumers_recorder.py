"""Each record is in exactly one file or one told loss, whatever is killed or fails."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Instance
from recorders import (
    abandon,
    all_stored,
    data_dir,
    recorder_spec,
    recorder_values,
    running_recorder,
    stored,
    whole,
)
from sinks import Feed, Worker, remove_regions, until

from consumers import recorder
from consumers.manifest import read_manifest
from consumers.recorder import Recorder, counter_names
from consumers.store_audit import verify_store
from consumers.tape import SEGMENT_BYTES, rows_per_segment
from layouts import BOOK, EVENT
from shm.counters import Counters
from shm.errors import ConfigurationError, OwnershipError
from shm.producer import open_ring
from shm.reader import open_reader
from shm.region import ring_name

pytest_plugins = ["sinks_fixtures"]


def test_records_come_back_verbatim(feed: Feed) -> None:
    """Every field of every record, with its seq and epoch, over the borders of files."""
    feed.trades(300)
    first_epoch = feed.events.epoch
    feed.crash()
    with running_recorder(recorder_spec(feed)):
        feed.trades(700)
        feed.events.stop()
    whole(feed, 1000)
    table = stored(feed.place)
    with open_reader(ring_name(feed.place.name, "feed", "events"), EVENT) as reader:
        records, _ = reader.last(1000)
    assert EVENT.names is not None
    for name in EVENT.names:
        assert table[name].to_numpy().tolist() == records[name].tolist(), name
    assert table["seq"].to_pylist() == list(range(1, 1001))
    assert table["epoch"].to_pylist() == [first_epoch] * 300 + [feed.events.epoch] * 700
    values = recorder_values(feed)
    assert (values["rows_journaled"], values["rows_stored"], values["files_published"]) == (
        1000,
        1000,
        4,
    )
    assert (values["lost_rows"], values["drain_left"], values["journal_errors"]) == (0, 0, 0)


def test_a_ring_that_comes_late_is_stored_from_its_first_record(feed: Feed) -> None:
    """The others are recorded meanwhile; what it holds when the recorder ends is stored too."""
    rings = ["late.events", feed.ring, "never.events"]
    with running_recorder(recorder_spec(feed, inputs=rings)):
        feed.trades(300)
        until("journaled", lambda: recorder_values(feed)["rows_journaled"] == 300)
        late = Feed(feed.place, "late", first_id=2)
        late.trades(40)
        until("joined", lambda: recorder_values(feed)["rows_journaled"] == 340)
        late.trades(60)
        for each in (feed, late):
            each.events.stop()
    assert stored(feed.place, "late.events")["seq"].to_pylist() == list(range(1, 101))
    assert stored(feed.place).num_rows == 300
    values = recorder_values(feed)
    assert [values[f"in.{ring}.here"] for ring in rings] == [1, 1, 0]
    assert (values["rows_stored"], values["lost_rows"], values["drain_left"]) == (400, 0, 0)
    late.close()


def test_files_have_fixed_borders(feed: Feed) -> None:
    """Whatever the batches, a file ends where a multiple of segment_rows begins."""
    with running_recorder(recorder_spec(feed, batch_records=7)):
        for n in (1, 99, 400, 13, 600):
            feed.trades(n)
        feed.events.stop()
    rows = read_manifest(data_dir(feed.place))
    assert [(row.first_seq, row.last_seq) for row in rows] == [
        (1, 255), (256, 511), (512, 767), (768, 1023), (1024, 1113),
    ]  # fmt: skip


def test_every_layout_is_stored(feed: Feed) -> None:
    """Arrays become fixed-size lists, byte strings text."""
    books = open_ring(ring_name(feed.place.name, "feed", "books"), BOOK, 8, feed.place.state_dir)
    made = np.zeros(5, BOOK)
    made["bid_price"] = np.arange(250).reshape(5, 50)
    books.publish_batch(made)
    feed.trades(3)
    rings = [feed.ring, "feed.books", "feed.instruments"]
    with running_recorder(recorder_spec(feed, inputs=rings)):
        for producer in (books, feed.events, feed.instruments):
            producer.stop()
    assert stored(feed.place, "feed.books")["bid_price"].to_pylist() == made["bid_price"].tolist()
    assert stored(feed.place, "feed.instruments")["symbol"].to_pylist() == ["BTC/USD"]
    assert verify_store(data_dir(feed.place), deep=True).rows == 9
    books.close()


def test_an_unfinished_file_waits_for_the_next_start(feed: Feed) -> None:
    """A recorder that is restarted amid a run publishes no part of a range; the range goes on."""
    with running_recorder(recorder_spec(feed)):
        feed.trades(300)
        all_stored(feed, 300)
    assert [row.last_seq for row in read_manifest(data_dir(feed.place))] == [255]
    with running_recorder(recorder_spec(feed)):
        feed.trades(300)
        feed.events.stop()
    assert [row.last_seq for row in read_manifest(data_dir(feed.place))] == [255, 511, 600]
    whole(feed, 600)


def test_a_run_that_goes_on_after_its_end_was_published(feed: Feed) -> None:
    """A producer that stopped and came back continues the seq; the next file begins there."""
    with running_recorder(recorder_spec(feed)):
        feed.trades(10)
        feed.events.stop()
    feed.crash()
    with running_recorder(recorder_spec(feed)):
        feed.trades(10)
        feed.events.stop()
    assert [row.ranges for row in read_manifest(data_dir(feed.place))] == [[(1, 10)], [(11, 20)]]
    whole(feed, 20)


def test_a_new_run_is_stored_beside_the_old_one(feed: Feed, instance: Instance) -> None:
    """What a killed run left in its journal is published by the next, whose ring begins at 1 again."""
    spec = recorder_spec(feed)
    counters = Counters.create(instance.name, "recorder", counter_names(spec.inputs))
    killed = Recorder(spec, counters, SimpleNamespace(is_set=False))
    feed.trades(40)
    killed._inputs.join()
    killed._begin()
    killed._turn()
    killed._sync_now()
    abandon(killed)
    counters.close()
    feed.close()
    remove_regions(instance)
    again = Feed(instance)
    with running_recorder(spec):
        again.trades(30)
        again.events.stop()
    report = verify_store(data_dir(instance), deep=True)
    assert report.ok
    assert sorted(ring.rows for ring in report.rings) == [30, 40]
    assert recorder_values(again)["rows_stored"] == 30
    again.close()


# ---------------------------------------------------------------- losses


@pytest.fixture
def small(instance: Instance) -> Iterator[Feed]:
    """A feed whose ring holds 64 records."""
    made = Feed(instance, slots=64)
    yield made
    made.close()
    remove_regions(instance)


@pytest.mark.parametrize("published", [64, 65, 300, 5000])
def test_what_was_overwritten_before_it_was_read_is_an_exact_range(
    small: Feed, published: int
) -> None:
    """Rows + LOST = published, and the lost seqs are those that no file holds."""
    small.trades(published)
    with running_recorder(recorder_spec(small)):
        small.events.stop()
    report = verify_store(data_dir(small.place), deep=True)
    assert report.ok
    assert report.rows + report.lost == published
    assert (report.lost > 0) == (published > 64)
    assert recorder_values(small)["lost_rows"] == report.lost
    seqs = stored(small.place)["seq"].to_pylist()
    assert seqs == list(range(report.lost + 1, published + 1))
    assert len(read_manifest(data_dir(small.place))) <= 3


def test_a_stall_in_mid_file_leaves_a_file_with_a_hole_that_is_told(small: Feed) -> None:
    """The file's ranges lie on both sides of the LOST line."""
    with running_recorder(recorder_spec(small)) as stalled:
        small.trades(20)
        all_stored(small, 20)
        stalled._pause_until = 1 << 62
        small.trades(180)
        stalled._pause_until = 0
        small.events.stop()
    lost, file = read_manifest(data_dir(small.place))
    assert (lost.kind, lost.first_seq) == ("LOST", 21)
    assert file.ranges == [(1, 20), (lost.last_seq + 1, 200)]
    assert verify_store(data_dir(small.place), deep=True).ok


# ---------------------------------------------------------------- configuration


def test_a_second_recorder_of_the_same_data_is_refused(feed: Feed) -> None:
    """One writer per data directory."""
    with running_recorder(recorder_spec(feed)):
        until("READY", lambda: "in.feed.events.seq" in recorder_values(feed))
        counters = Counters.create(feed.place.name, "other", counter_names([feed.ring]))
        with pytest.raises(OwnershipError, match="another recorder"):
            Recorder(recorder_spec(feed), counters, SimpleNamespace(is_set=False))
        counters.close()


@pytest.mark.parametrize(
    "wrong", [{"segment_rows": 0}, {"batch_records": 0}, {"sync_interval_s": 0}]
)
def test_impossible_numbers_are_refused(feed: Feed, wrong: dict[str, int]) -> None:
    """Zero is no number of rows, of records, of seconds."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        recorder.main(recorder_spec(feed, **wrong))


def test_long_records_get_shorter_ranges() -> None:
    """The rows of a file fit into 16 MiB of records, and never become none."""
    assert rows_per_segment(65_536, 64) == 65_536
    assert rows_per_segment(65_536, 1664) == 8192
    assert 8192 * 1664 <= SEGMENT_BYTES < 16_384 * 1664
    assert rows_per_segment(1, 64 << 20) == 1


def test_the_recorder_stays_small(feed: Feed, tmp_path: Path) -> None:
    """350 MB resident is the limit, Arrow and a published file included."""
    feed.trades(1000)
    worker = Worker("consumers.recorder", recorder_spec(feed), tmp_path).start()
    until("published", lambda: worker.counters()["files_published"] >= 3)
    assert worker.process is not None
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    resident_kb = sum(
        int(line.split()[1])
        for line in status.splitlines()
        if line.startswith(("RssAnon", "RssFile"))
    )
    assert resident_kb < 350_000
    feed.events.stop()
    assert worker.stop() == 0
