"""What the tests of the recorder share: its spec, a recorder in a thread, the stored rows of a feed."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
from conftest import Instance
from sinks import Feed, until

from consumers.manifest import live_files, read_manifest
from consumers.parquet_store import read_file
from consumers.recorder import Recorder, RecorderSpec, counter_names
from consumers.store_audit import verify_store
from shm.counters import Counters, read_counters


def data_dir(place: Instance) -> Path:
    """Where the recorder of an instance writes."""
    return place.state_dir / "data"


def recorder_spec(feed: Feed, **more: object) -> RecorderSpec:
    """Make the spec of a recorder of the feed: small files, a sync every 20 ms."""
    given = {
        "inputs": [feed.ring],
        "data_dir": str(data_dir(feed.place)),
        "segment_rows": 256,
        "sync_interval_s": 0.02,
        **more,
    }
    return RecorderSpec(
        instance=feed.place.name,
        worker="recorder",
        state_dir=str(feed.place.state_dir),
        **given,
    )


@contextlib.contextmanager
def running_recorder(spec: RecorderSpec) -> Iterator[Recorder]:
    """Run a recorder in a thread of this process, and drain it at the end."""
    counters = Counters.create(spec.instance, spec.worker, counter_names(spec.inputs))
    stop = SimpleNamespace(is_set=False)
    recorder = Recorder(spec, counters, stop)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            recorder.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield recorder
    finally:
        stop.is_set = True
        thread.join()
        counters.close()
    assert not failed, failed


def recorder_values(feed: Feed) -> dict[str, int]:
    """Return the recorder's counters."""
    return read_counters(feed.place.name, "recorder").values


def stored(place: Instance, ring: str = "feed.events") -> pa.Table:
    """Return all published rows of a ring in the order of the manifest."""
    rows = [row for row in live_files(read_manifest(data_dir(place))) if row.ring == ring]
    return pa.concat_tables([read_file(data_dir(place) / row.file) for row in rows])


def whole(feed: Feed, published: int, lost: int = 0) -> None:
    """Assert that the store holds each published record once, in order, and lost what is told and no more."""
    report = verify_store(data_dir(feed.place), deep=True)
    assert report.ok, report
    assert (report.rows, report.lost) == (published - lost, lost)
    if lost == 0:
        assert stored(feed.place)["word_2"].to_pylist() == list(range(1, published + 1))


def all_stored(feed: Feed, n: int) -> None:
    """Wait until the recorder has n rows in its journals."""
    until("journaled", lambda: recorder_values(feed)["in.feed.events.seq"] >= n)


def abandon(killed: Recorder) -> None:
    """Leave a recorder as a kill would: files as they are, descriptors closed."""
    killed._publisher.close()
    killed._sync_pool.shutdown()
    killed._inputs.close()
    killed._manifest.close()
    killed._lock.close()
    for each in killed._tapes:
        each.close()
