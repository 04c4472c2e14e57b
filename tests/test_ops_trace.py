"""Each record leads to its frame and each frame to its records, through plain, compressed and unfinished files."""

import json

import numpy as np
import pytest
from wslogs import Feed, clean, entries_of, frames

from layouts import Entry
from ops.cli import run_verb
from ops.topology import load_topology
from ops.trace import trace_entry, trace_record
from ops.wslog_keeper import KeeperSpec, keep
from shm.errors import ConfigurationError

RING = "feed.events"


@pytest.fixture
def feed(instance):
    """Three hundred frames of two processes, with a record between them that no frame became."""
    for process in range(2):
        made = Feed(instance).start()
        for text in frames(150, seed=process):
            made.take(text)
        made.events.publish_batch(made.record[:1])
        made.take(b"after")
        made.end()
    yield made
    clean(instance.name)


def expected(feed: Feed) -> dict[int, tuple[int, bytes]]:
    """Return by seq the epoch and text of the frame, from the plain files."""
    return {
        seq: (e.epoch, e.data)
        for e in entries_of(feed.files(), Entry.FRAME)
        for seq in range(e.first_seq, e.first_seq + e.records)
    }


@pytest.mark.parametrize("compressed", [False, True])
def test_every_record_leads_to_its_frame(feed: Feed, compressed: bool) -> None:
    """And the frame's entry back to all of its records."""
    wanted = expected(feed)
    assert len(wanted) > 300
    if compressed:
        assert keep(KeeperSpec(folder=str(feed.folder))).compressed == 2
    for seq in sorted(wanted)[::7]:
        epoch, text = wanted[seq]
        found = trace_record(feed.instance, feed.folder, RING, seq, None)
        assert (found.epoch, found.text) == (epoch, text.decode(errors="replace"))
        assert found.first_seq <= seq <= found.last_seq and found.is_its_frame
        from pathlib import Path

        back = trace_entry(Path(found.file), found.entry_no)
        assert (back.first_seq, back.records, back.text) == (
            found.first_seq,
            found.records,
            found.text,
        )
    for seq in set(range(1, max(wanted))) - set(wanted):
        found = trace_record(feed.instance, feed.folder, RING, seq, None)
        assert not found.is_its_frame and found.last_seq == seq - 1


def test_what_is_not_captured_is_told(feed: Feed, tmp_path) -> None:
    """Another epoch, a seq to come, another collector, another entry: each in words that say what there is."""
    for seq, epoch, words in ((1, 9, "of epoch 9"), (10**6, None, "there are epoch 1")):
        with pytest.raises(ConfigurationError, match=words):
            trace_record(feed.instance, feed.folder, RING, seq, epoch)
    with pytest.raises(ConfigurationError, match="capture = true"):
        trace_record(feed.instance, feed.folder, "other.events", 1, None)
    with pytest.raises(ConfigurationError, match="it holds 1 to"):
        trace_entry(feed.files()[0], 10**6)
    (tmp_path / "x.wslog").write_text("hello")
    with pytest.raises(ConfigurationError, match="header"):
        trace_entry(tmp_path / "x.wslog", 1)


def test_a_derived_row_is_followed_to_its_cause(feed: Feed, instance) -> None:
    """By the columns in which its layout names epoch and seq of the event."""
    from layouts import FEATURES
    from shm.producer import open_ring
    from shm.region import ring_name

    seq = sorted(expected(feed))[40]
    ring = open_ring(
        ring_name(instance.name, "features", "features"), FEATURES, 16, instance.state_dir
    )
    row = np.zeros(1, FEATURES)
    row["source_epoch"], row["source_seq"] = expected(feed)[seq][0], seq
    ring.publish_batch(row)
    found = trace_record(instance.name, feed.folder, "features.features", 1, None)
    assert found.first_seq <= seq <= found.last_seq
    with pytest.raises(ConfigurationError, match="does not hold it"):
        trace_record(instance.name, feed.folder, "features.features", 9, None)
    ring.stop()
    ring.close()


def test_the_verb_prints_the_frame(feed: Feed, capsys, monkeypatch) -> None:
    """Of a ring and of a file, for people and as JSON; exit 1 for a record without a frame, 2 for what is not there."""
    seq = max(expected(feed))
    topology = load_topology(None, capture={"folder": str(feed.folder)})
    monkeypatch.setattr("ops.cli_wslog.topology_of", lambda instance: topology)
    assert run_verb(["trace", RING, str(seq), "-i", feed.instance, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["text"], found["entry"], found["status"]) == ("after", "frame", "decoded")
    assert run_verb(["trace", found["file"], str(found["entry_no"])]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "after"
    assert run_verb(["trace", RING, str(found["first_seq"] - 1), "-i", feed.instance]) == 1
    assert run_verb(["trace", RING, "99999999", "-i", feed.instance]) == 2
    assert run_verb(["trace", "gone.wslog", "1"]) == 2
