"""Nothing recorded is lost or twice when the recorder is killed or its disk fails; and defects are caught."""

import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorders import (
    abandon,
    all_stored,
    data_dir,
    recorder_spec,
    recorder_values,
    running_recorder,
    whole,
)
from sinks import Feed, Worker, until

from consumers import parquet_store, recorder, tape
from consumers.journal import Journal
from consumers.manifest import Manifest
from consumers.recorder import Recorder, counter_names
from consumers.store_audit import verify_store
from shm.counters import Counters

pytest_plugins = ["sinks_fixtures"]


# ---------------------------------------------------------------- kills


def kill_recorder(feed: Feed, tmp_path: Path, kills: int, seed: int) -> None:
    """Kill a recorder process at random moments of a flow, start it again, drain it."""
    chance = random.Random(seed)
    worker = Worker("consumers.recorder", recorder_spec(feed, segment_rows=512), tmp_path)
    for _ in range(kills):
        worker.start(ready=chance.random() < 0.7)
        for _ in range(chance.randrange(1, 8)):
            feed.trades(chance.randrange(1, 400))
        wanted = feed.published - chance.randrange(0, 300)
        if chance.random() < 0.7:
            until("some are read", lambda w=wanted: seen(feed) >= w)
        worker.kill()
    worker.start()
    feed.events.stop()
    assert worker.stop() == 0, worker.log.read_text()[-2000:]


def seen(feed: Feed) -> int:
    """Return the last seq that the recorder has read; 0 before it has begun."""
    try:
        return recorder_values(feed)["in.feed.events.seq"]
    except Exception:
        return 1 << 62


@pytest.mark.parametrize("seed", range(2))
def test_the_recorder_killed_anywhere(feed: Feed, tmp_path: Path, seed: int) -> None:
    """kill -9 eight times a seed: 0 lost, 0 doubled."""
    kill_recorder(feed, tmp_path, 8, seed)
    whole(feed, feed.published)
    assert recorder_values(feed)["rows_stored"] == feed.published


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_three_hundred_kills_of_the_recorder(feed: Feed, tmp_path: Path, seed: int) -> None:
    """30 a seed."""
    kill_recorder(feed, tmp_path, 30, 100 + seed)
    whole(feed, feed.published)


STEPS = ["_write_groups", "_sync_file", "sha256_of", "sync_folder", "add", "unlink"]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step_of_publishing(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before and after each step the next start finishes the work, once."""
    for after in (False, True):
        spec = recorder_spec(feed)
        with monkeypatch.context() as patch:
            die_at(patch, step, after)
            counters = Counters.create(feed.place.name, "recorder", counter_names(spec.inputs))
            killed = Recorder(spec, counters, SimpleNamespace(is_set=False))
            killed._inputs.join()
            killed._begin()
            feed.trades(300)
            with pytest.raises(Killed):
                for _ in range(1000):
                    killed._turn()
            abandon(killed)
            counters.close()
    with running_recorder(recorder_spec(feed)):
        feed.events.stop()
    whole(feed, 600)
    assert not list(data_dir(feed.place).glob("*/*.tmp"))
    assert not list(data_dir(feed.place).glob("journal/*"))


class Killed(BaseException):
    """Stands for the process's end."""


def die_at(patch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    """End the process before or after the first call of one step of publishing."""
    owner = {"add": Manifest, "unlink": type(Path())}.get(step, parquet_store)
    right = getattr(owner, step)

    def dying(*args, **kwargs):
        if step == "unlink" and args[0].suffix != ".journal":
            return right(*args, **kwargs)
        if after:
            right(*args, **kwargs)
        raise Killed

    patch.setattr(owner, step, dying)


# ---------------------------------------------------------------- a disk that fails


@pytest.mark.parametrize("function", ["writev", "fdatasync", "open", "fsync", "write"])
@pytest.mark.parametrize("after_calls", [0, 3])
def test_a_disk_that_fails_for_a_while_loses_nothing(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, function: str, after_calls: int
) -> None:
    """ENOSPC or EIO from the n-th call on, until it is over: counted, tried again, each record once."""
    monkeypatch.setattr(recorder, "_RETRY_NS", 20_000_000)
    feed.trades(300)
    with running_recorder(recorder_spec(feed)) as running:
        until("journaled", lambda: written(running) == 300)
        right, calls, failed = getattr(os, function), [0], [0]

        def failing(*args, **kwargs):
            calls[0] += 1
            is_ours = not isinstance(args[0], str | os.PathLike) or "data" in os.fspath(args[0])
            if calls[0] > after_calls and failed[0] < 3 and is_ours:
                failed[0] += 1
                raise OSError(28, "No space left on device")
            return right(*args, **kwargs)

        monkeypatch.setattr(os, function, failing)
        for _ in range(8):
            feed.trades(300)
            until("journaled", lambda: written(running) == feed.published)
        until("failed", lambda: failed[0] == 3)
        monkeypatch.setattr(os, function, right)
        feed.events.stop()
    values = recorder_values(feed)
    assert values["journal_errors"] + values["publish_errors"] >= 1
    whole(feed, 2700)


def written(running: Recorder) -> int:
    """Return how many records a recorder of this process has journaled."""
    return sum(each.rows_journaled for each in running._tapes)


# ---------------------------------------------------------------- defects that these tests must catch


def test_going_on_from_the_cursor_is_caught(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that trusts the ring's cursor instead of its journals doubles records or fails."""
    right = tape.Tape.begin

    def defective(self, manifest):
        sealed = right(self, manifest)
        self.source.resume(self.source.consumer.cursor, 0)
        return sealed

    spec = recorder_spec(feed, sync_interval_s=60)
    with running_recorder(spec):
        feed.trades(100)
        all_stored(feed, 100)
    monkeypatch.setattr(tape.Tape, "begin", defective)
    monkeypatch.setattr(Journal, "made_durable", lambda self, mark: None)
    with pytest.raises(AssertionError):
        with running_recorder(spec):
            feed.trades(10)
            all_stored(feed, 110)
            feed.events.stop()
        whole(feed, 110)


def test_a_file_published_again_under_new_lines_is_caught(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that forgets what it has lists a range twice, and `verify_store` says so."""
    with running_recorder(recorder_spec(feed)):
        feed.trades(100)
        feed.events.stop()
    manifest = Manifest(data_dir(feed.place))
    manifest._keys.clear()
    manifest.add(list(manifest.rows))
    manifest.close()
    report = verify_store(data_dir(feed.place))
    assert not report.ok
    assert report.rings[0].overlaps == [(1, 100)]
