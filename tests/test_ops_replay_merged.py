"""Files of several collectors replay together by time, each collector's records as if it were replayed alone."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from wslogs import Feed, clean

import shm
from collectors.captures import open_captures
from collectors.decoder import Subscription
from collectors.instruments import Instrument
from collectors.synthetic import SyntheticInstrument, SyntheticSpec, synthetic_frames
from collectors.wslog import Started
from layouts import EVENT, Entry, Kind
from ops import replay
from ops.cli import run_verb
from ops.replay_books import ReplayBooks
from ops.replay_recording import merged, recordings_of
from ops.wslog_keeper import compress
from shm.errors import AttachError, ConfigurationError
from shm.registry import files_of

START = 10**18
COLLECTORS = {
    "btc": ("kraken_v2", "BTC/USD", "BTC/USD", 1),
    "eth": ("kraken_v2", "ETH/USD", "ETH/USD", 101),
    "old": ("kraken_v1", "SOL/USD", "SOL/USD", 201),
}
"""Name -> venue, what is made, the venue's symbol of it, first instrument id: two shards and another venue."""


def told(name: str, **more: object) -> dict[str, object]:
    """Return what a collector says of itself."""
    venue, _, symbol, first = COLLECTORS[name]
    wanted = (Subscription("book", (symbol,), 10), Subscription("trade", (symbol,)))
    about = {"venue": venue, "subscriptions": wanted, "max_frame_bytes": 1 << 20}
    return about | {"first_instrument_id": first, "instrument_ids": 100} | more


def market(name: str, frames: int = 150) -> list[tuple[int, bytes]]:
    """Return frames with their times; those of two collectors fall between each other, some at one time."""
    venue, made, *_ = COLLECTORS[name]
    spec = SyntheticSpec(
        instruments=(SyntheticInstrument(made, "100.0"),),
        start_ns=START,
        frames=frames,
        frames_per_s=50.0,
    )
    return [(START + at - at % 50_000_000, data) for at, data in synthetic_frames(spec, venue)]


Log = Callable[..., list[Path]]


@pytest.fixture
def log(instance) -> Iterator[Log]:
    """Make the files of a collector: one for each list of frames, all of one process."""

    def make(name: str, *parts: list[tuple[int, bytes]], ends: bool = True, **more) -> list[Path]:
        feed = Feed(instance, name, told(name, **more)).start()
        for number, part in enumerate(parts or (market(name),)):
            if number:
                feed.capture.stop()
                feed.capture.start()
            for ts, data in part:
                feed.take(data, ts)
        if ends:
            feed.end()
        else:
            feed.settle(lambda: feed.values()["bytes"] > 0 and not any(feed.capture._disk.is_busy))
            feed.die()
        clean(instance.name)
        return feed.files()

    yield make
    clean(instance.name)


class Read:
    """What a replay's consumers read, in the order in which they read it."""

    def __init__(self, monkeypatch) -> None:
        self.batches: list[tuple[ReplayBooks, np.ndarray]] = []
        take = ReplayBooks.take

        def taken(books: ReplayBooks, records: np.ndarray) -> None:
            self.batches.append((books, records.copy()))
            take(books, records)

        monkeypatch.setattr(ReplayBooks, "take", taken)

    def play(self, *args, **kwargs) -> tuple[replay.Report, list[np.ndarray], list[int]]:
        """Return the report, each collector's records, and the times of all records as they came."""
        self.batches.clear()
        report, _ = replay.play(*args, **kwargs)
        books = list(dict.fromkeys(books for books, _ in self.batches))
        each = [np.concatenate([r for b, r in self.batches if b is one]) for one in books]
        times = [int(ts) for _, records in self.batches for ts in records["ts_recv"]]
        return report, each, times


def equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert len(ours) == len(theirs) > 0
    for name in set(EVENT.names) - {"publish_delta_ns"}:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def same_rows(ours: pa.Table, theirs: pa.Table) -> None:
    assert ours.num_rows == theirs.num_rows > 0
    for name in theirs.column_names:
        np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy(), name)


def test_collectors_together_are_each_alone_in_one_order_of_time(log: Log, monkeypatch) -> None:
    """Two shards and another venue: records, books and counts equal, at any speed; times never go back."""
    files = {name: log(name) for name in COLLECTORS}
    read = Read(monkeypatch)
    alone = {name: read.play(paths) for name, paths in files.items()}
    together = [path for paths in files.values() for path in paths]
    for speed in (None, 100.0):
        report, records, times = read.play(together, speed=speed)
        assert times == sorted(times)
        assert len(set(times)) < len(times) / 2  # there were ties
        assert list(report.collectors) == list(files)
        for found, (name, (one, [expected], _)) in zip(records, alone.items(), strict=True):
            equal(found, expected)
            part = report.collectors[name]
            assert (part.frames, part.records, part.books) == (one.frames, one.records, one.books)
            assert one.checksums["ok"] > 100 and part.checksums == one.checksums
        assert report.frames == sum(one.frames for one, _, _ in alone.values())
        assert report.records == sum(map(len, records)) == len(times)
        assert (report.unaccounted, report.gaps, report.rejected) == (0, 0, {})
        assert set(report.books) == {"btc:BTC/USD", "eth:ETH/USD", "old:SOL/USD"}


def test_ties_are_in_the_order_in_which_the_files_were_named(log: Log) -> None:
    """And each file's own order is kept, also where its clock went back."""
    frames = [(START + ts, b"{}") for ts in (5, 5, 3, 9)]
    btc, eth = log("btc", frames), log("eth", frames)
    for named in ((btc, eth), (eth, btc)):
        recordings = recordings_of([*named[0], *named[1]])
        played = [
            (recordings[f.file_index].worker, f.ts - START)
            for f in merged(recordings)
            if f.kind == "recv"
        ]
        first, second = recordings[0].worker, recordings[1].worker
        assert (first, second) == (named[0][0].parent.name, named[1][0].parent.name)
        at_5 = [(first, 5), (first, 5), (first, 3), (second, 5), (second, 5), (second, 3)]
        assert played == [*at_5, (first, 9), (second, 9)]


def test_rows_computed_together_are_those_of_each_alone(log: Log, tmp_path: Path) -> None:
    """Features and bars, with their collector beside them, in the same order at every speed, though ids are shared."""
    files = [*log("btc"), *log("eth", first_instrument_id=1)]
    runs = {"btc": (files[:1], None), "eth": (files[1:], None), "both": (files, None)}
    tables: dict[str, list[pa.Table]] = {}
    for name, (paths, speed) in (runs | {"paced": (files, 50.0)}).items():
        parquet = tmp_path / f"{name}.features", tmp_path / f"{name}.bars"
        replay.play(paths, "", *parquet, speed)
        tables[name] = [pq.read_table(path).drop_columns(["publish_delta_ns"]) for path in parquet]
    for i in range(2):
        both = tables["both"][i]
        same_rows(both, tables["paced"][i])
        assert set(both["collector"].to_pylist()) == {"btc", "eth"}
        for name in ("btc", "eth"):
            mine = both.filter([each == name for each in both["collector"].to_pylist()])
            same_rows(mine.drop_columns(["seq"]), tables[name][i].drop_columns(["seq"]))


def test_the_order_and_form_of_a_collector_s_files_does_not_matter(log: Log, monkeypatch) -> None:
    """Parts named backwards, one of them compressed, one named twice, one both plain and compressed: once each."""
    frames = market("btc")
    files = log("btc", frames[:50], frames[50:100], frames[100:])
    assert len(files) == 3
    packed = files[1].with_name(files[1].name + ".zst")
    compress(files[1], packed, 3)
    read = Read(monkeypatch)
    report, [expected], _ = read.play(files)
    assert report.checksums["ok"] > 100
    _, [found], _ = read.play([files[2], packed, files[0], files[2], files[1]])
    equal(found, expected)
    [recording] = recordings_of([files[2], packed, files[0], files[2], files[1]])
    assert [c.path for c in recording.captures] == [files[0], packed, files[2]]
    assert [note.partition(":")[0] for note in recording.notes] == [str(files[2]), str(files[1])]
    [recording] = recordings_of([files[2], files[0]])
    assert "parts 1 to 1 of epoch 1 are not there" in recording.notes[0]


def test_a_restarted_collector_is_what_its_own_file_says(instance, log: Log) -> None:
    """Its second process was told to subscribe to something else: that is what its decoder is made for."""
    first = log("btc")
    _, _, symbol, _ = COLLECTORS["eth"]
    wanted = (Subscription("book", (symbol,), 10),)
    known = (Instrument(1, "BTC/USD"),)
    feed = Feed(instance, "btc", told("btc", subscriptions=wanted, instruments=known))
    feed.start()
    feed.capture.note(Entry.START, START + 10**10, msgspec.json.encode(Started(1, 0)))
    for ts, data in market("eth"):
        feed.take(data, ts + 10**10)
    feed.end()
    clean(instance.name)
    second = [path for path in feed.files() if path not in first]
    report, _ = replay.play([*second, *first])
    assert report.checksums["ok"] > 200
    assert set(report.books) == {"BTC/USD", "ETH/USD"}
    assert report.books["ETH/USD"].state == "LIVE"


def test_a_killed_collector_s_file_plays_to_its_last_whole_entry(log: Log, capsys) -> None:
    """Without its END: told, exit 0; cut in an entry: counted, exit 1; the others are played whole."""
    whole, killed = log("eth"), log("btc", ends=False)
    names = [str(path) for path in (*killed, *whole)]
    assert run_verb(["replay", *names, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "no END" in err and str(killed[0]) in err and str(whole[0]) not in err
    killed[0].write_bytes(killed[0].read_bytes()[:-3])
    assert run_verb(["replay", *names, "--json"]) == 1
    out, err = capsys.readouterr()
    cut = json.loads(out)
    assert "all whole frames were replayed" in err
    assert cut["collectors"]["btc"]["frames"] == found["collectors"]["btc"]["frames"] - 1
    assert cut["collectors"]["btc"]["rejected"] == {"truncated_capture": 1}
    assert cut["rejected"] == {"truncated_capture": 1}
    left = ("frames", "records", "books", "rejected")
    eth, before = cut["collectors"]["eth"], found["collectors"]["eth"]
    assert [eth[name] for name in left] == [before[name] for name in left]


def test_a_damaged_compressed_file_is_named(log: Log, capsys) -> None:
    """Cut in the middle of its data, which a copy of it may be: refused with what to do, nothing is half played."""
    [file] = log("btc")
    packed = file.with_name(file.name + ".zst")
    compress(file, packed, 3)
    packed.write_bytes(packed.read_bytes()[:-300])
    assert run_verb(["replay", str(packed)]) != 0
    assert str(packed) in capsys.readouterr().err


def test_json_lines_play_beside_wslog_files(log: Log, tmp_path: Path, monkeypatch) -> None:
    """As a collector named after their venue, with ids above those of the others; books and counts as alone."""
    lines = tmp_path / "old.jsonl"
    with lines.open("wb") as file:
        for ts, data in market("old"):
            row = {"ts": ts, "kind": "recv", "url": "", "data": data.decode()}
            file.write(msgspec.json.encode(row) + b"\n")
    files = log("btc")
    read = Read(monkeypatch)
    alone, [expected], _ = read.play([lines], "kraken_v1")
    report, [_, found], times = read.play([*files, lines], "kraken_v1")
    assert times == sorted(times)
    assert list(report.collectors) == ["btc", "kraken_v1"]
    assert report.collectors["kraken_v1"].books == alone.books
    moved = found["instrument_id"] - np.where(found["instrument_id"], 100, 0)
    np.testing.assert_array_equal(moved, expected["instrument_id"])
    found["instrument_id"] = expected["instrument_id"]
    equal(found, expected)
    with pytest.raises(ConfigurationError, match="name --venue"):
        recordings_of([*files, lines])


def test_what_cannot_be_told_apart_is_refused(log: Log, instance, tmp_path: Path) -> None:
    """Each with the two that clash, and what to do."""
    btc, eth = log("btc"), log("eth", first_instrument_id=100)
    with pytest.raises(ConfigurationError, match="btc and eth both use instrument id 100"):
        replay.play([*btc, *eth], into="somewhere")
    with pytest.raises(ConfigurationError, match=r"eth is of kraken_v2; .* leave it out"):
        recordings_of([*eth, *btc], "kraken_v1")
    assert len(recordings_of([*eth, *btc], "kraken_v2")) == 2
    other = tmp_path / btc[0].name
    other.write_bytes(btc[0].read_bytes())
    btc[0].unlink()
    again = log("btc", instance="elsewhere")
    with pytest.raises(ConfigurationError, match="two collectors of the name btc"):
        recordings_of([other, *again])
    again[0].unlink()
    (instance.state_dir / "epoch").unlink()
    anew = log("btc")
    with pytest.raises(ConfigurationError, match=r"part 0 of epoch 1 .* of different rings"):
        recordings_of([other, *anew])


def test_the_rings_of_all_collectors_can_be_attached_to(log: Log, instance) -> None:
    """Under the names that they have live, while the replay runs; gone afterwards."""
    files = [path for name in COLLECTORS for path in log(name)]
    command = [sys.executable, "-m", "ops", "replay", *map(str, files), "--json"]
    command += ["--speed", "0.8", "--into", instance.name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    waiting, end = set(COLLECTORS), time.monotonic() + 30
    while waiting:
        assert time.monotonic() < end and process.poll() is None, waiting
        for name in sorted(waiting):
            try:
                with shm.attach(f"{name}.events", instance.name) as reader:
                    records = reader.last(500)[0]
            except AttachError:
                continue
            first = COLLECTORS[name][3]
            ids = set(records["instrument_id"].tolist()) - {0}
            if Kind.LEVEL in records["kind"] and ids == {first}:
                waiting.remove(name)
        time.sleep(0.01)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert set(json.loads(out)["collectors"]) == set(COLLECTORS)
    assert files_of(instance.name) == []


def test_the_venue_server_plays_files_of_several_collectors(log: Log) -> None:
    """Shards of a protocol become one market of it; of one book twice, or of a protocol that it does not speak: refused."""
    from collectors.captures import CaptureError
    from collectors.venue_library import list_streams

    frames = market("btc")
    empty = (frames[0][0], b'{"channel":"trade","type":"snapshot","data":[]}')
    parts = {"btc": [empty, *frames]}  # as a market answers whose trades are still to come
    files = [path for name in COLLECTORS for path in log(name, parts.get(name, market(name)))]
    found = list_streams(files)
    assert {stream.symbol for stream in found["kraken_v2"]} == {"BTC/USD", "ETH/USD"}
    assert {stream.symbol for stream in found["kraken_v1"]} == {"SOL/USD"}
    received = sum(f.kind == "recv" for c in open_captures(files) for f in c)
    assert 400 < sum(n for each in found.values() for n in each.values()) <= received
    twin = files[0].parent / "twin.wslog"
    twin.write_bytes(files[0].read_bytes())
    with pytest.raises(CaptureError, match="at the same time; play one of the two"):
        list_streams([*files, twin])
    foreign = log("btc", [(START, b'{"type":"l2update"}')], venue="coinbase_exchange")
    with pytest.raises(CaptureError, match="coinbase_exchange"):
        list_streams([*files[1:], *foreign])
