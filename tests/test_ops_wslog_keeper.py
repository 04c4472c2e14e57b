"""Finished captures are compressed, indexed, copied and removed, whatever step a run dies at; nothing is lost on the way."""

import random
from pathlib import Path

import msgspec
import pytest
from wslogs import Feed, clean, frames, parse, read

from collectors.captures import open_captures
from collectors.wslog import WsLogDamaged
from collectors.wslog_writer import HOUR_NS
from ops import wslog_keeper
from ops.wslog_index import INDEX, describe, files_in, read_index, rows_of, sha256_of
from ops.wslog_keeper import KeeperSpec, finished, has_work, keep, read_report
from shm import clock

BEGIN_NS = 1_700_000_000_000_000_000


@pytest.fixture
def folder(instance) -> Path:
    """Four finished files of one collector, 25 frames an hour."""
    now = [BEGIN_NS]
    with clock.replaced(wall=lambda: now[0]):
        feed = Feed(instance).start()
        for hour in range(4):
            now[0] = BEGIN_NS + hour * HOUR_NS
            feed.settle(lambda: not any(feed.capture._disk.is_busy))
            feed.capture.tick()
            for text in frames(25, seed=hour):
                feed.take(text, now[0])
        feed.end()
    clean(instance.name)
    return feed.folder / "feed"


def spec(folder: Path, **options: object) -> KeeperSpec:
    return KeeperSpec(folder=str(folder.parent), **options)


def texts(folder: Path) -> list[bytes]:
    """Every frame of a folder, in order, however it is stored."""
    captures = open_captures(files_in(folder))
    return [frame.data for capture in captures for frame in capture if frame.kind == "recv"]


ALL = [text for hour in range(4) for text in frames(25, seed=hour)]


def test_finished_files_are_compressed_and_indexed(folder: Path) -> None:
    """Every frame reads back; rows tell what each file is; a second run finds nothing to do."""
    plain = files_in(folder)
    before = [describe(path) for path in plain]
    assert has_work(spec(folder))
    report = keep(spec(folder))
    assert (report.compressed, report.failures) == (4, [])
    assert [path.name for path in files_in(folder)] == [path.name + ".zst" for path in plain]
    assert texts(folder) == ALL
    rows = read_index(folder)
    for old, path in zip(before, files_in(folder), strict=True):
        row = rows[path.name]
        assert row.sha256 == sha256_of(path) and row.file_bytes == path.stat().st_size
        same = ("epoch", "part", "first_ts", "last_ts", "first_seq", "end_seq", "entries", "frames")
        assert [getattr(row, n) for n in same] == [getattr(old, n) for n in same]
        assert (row.frames, row.is_sealed, row.missing_entries) == (25, True, 0)
        assert (row.worker, row.venue) == ("feed", "kraken_v2")
    assert not has_work(spec(folder))
    again = keep(spec(folder))
    assert (again.compressed, again.indexed, again.removed) == (0, 0, 0)
    assert read_report(folder.parent) == again


def test_a_file_that_is_written_is_left_alone(folder: Path) -> None:
    """The newest without END; and it is described on the spot for whoever asks."""
    newest = files_in(folder)[-1]
    newest.write_bytes(newest.read_bytes()[: parse(newest)[10].end])
    assert finished(files_in(folder)) == files_in(folder)[:-1]
    assert keep(spec(folder)).compressed == 3
    assert newest.exists()
    rows = {path.name: row for path, row in rows_of(folder)}
    assert rows[newest.name].entries == 11 and not rows[newest.name].is_sealed


def test_without_compression_files_are_indexed_as_they_are(folder: Path) -> None:
    report = keep(spec(folder, compress=False))
    assert (report.compressed, report.indexed) == (0, 4)
    assert texts(folder) == ALL and not has_work(spec(folder, compress=False))


STEPS = ["Codec", "replace", "sync_folder", "describe", "write_index", "unlink"]


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    folder: Path, monkeypatch, step: str, after: bool
) -> None:
    """Before and after each step: all frames are there at once, and compressed once in the end."""
    import pyarrow as pa

    home = pa if step == "Codec" else Path if step in ("replace", "unlink") else wslog_keeper
    real = getattr(home, step)
    calls = [0]

    def die(*arguments: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] == 2:
            if after:
                real(*arguments, **options)
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(home, step, die)
        with pytest.raises(Killed):
            keep(spec(folder))
    assert texts(folder) == ALL
    assert keep(spec(folder)).failures == []
    assert texts(folder) == ALL
    assert len(read_index(folder)) == 4
    assert sorted(path.name for path in folder.iterdir()) == sorted([*read_index(folder), INDEX])


def test_a_compressed_file_that_does_not_read_back_is_thrown_away(
    folder: Path, monkeypatch
) -> None:
    """The plain one stays, the failure is told, the others are done."""
    import pyarrow as pa

    class Wrong:
        def __init__(self, *a: object, **k: object) -> None:
            self.codec = real(*a, **k)

        def compress(self, block: bytes, **k: object) -> bytes:
            wrong = block[:-1] + bytes([block[-1] ^ 1])
            return self.codec.compress(wrong, **k)

    real = pa.Codec
    monkeypatch.setattr(pa, "Codec", Wrong)
    report = keep(spec(folder))
    assert report.compressed == 0 and len(report.failures) == 4
    assert "does not read back" in report.failures[0]
    assert texts(folder) == ALL
    assert not list(folder.glob("*.new")) and not list(folder.glob("*.zst"))


def test_retention_by_age_and_by_size(folder: Path) -> None:
    """The oldest go first; what is younger than keep_days and within keep_bytes stays."""
    names = [path.name + ".zst" for path in files_in(folder)]
    at = BEGIN_NS + 4 * HOUR_NS
    with clock.replaced(wall=lambda: at):
        assert keep(spec(folder, keep_days=3.5 / 24)).removed == 0
        assert keep(spec(folder, keep_days=2.5 / 24)).removed == 1
        assert sorted(read_index(folder)) == names[1:]
        held = sum(path.stat().st_size for path in files_in(folder))
        assert keep(spec(folder, keep_bytes=held)).removed == 0
        assert keep(spec(folder, keep_bytes=held - 1)).removed == 1
    assert [path.name for path in files_in(folder)] == names[2:] == sorted(read_index(folder))


@pytest.mark.parametrize("as_uri", [False, True])
def test_files_are_copied_once_and_removed_only_then(
    folder: Path, tmp_path: Path, as_uri: bool
) -> None:
    """To a directory or a URI; whole under their names, the index beside them."""
    target = tmp_path / "copies"
    place = target.as_uri() if as_uri else str(target)
    report = keep(spec(folder, copy_to=place))
    assert (report.copied, report.failures) == (4, [])
    for path in files_in(folder):
        assert sha256_of(target / "feed" / path.name) == sha256_of(path)
    assert msgspec.json.decode((target / "feed" / INDEX).read_bytes())["files"]
    assert not list(target.glob("**/*.part"))
    assert keep(spec(folder, copy_to=place)).copied == 0
    assert keep(spec(folder, copy_to=place, keep_bytes=1)).removed == 4
    assert files_in(folder) == [] and len(list((target / "feed").glob("*.zst"))) == 4


def test_a_store_that_fails_is_told_and_its_files_are_kept(folder: Path, monkeypatch) -> None:
    """An object store (Arrow's mock) that refuses the second file: one copied, nothing removed, all made up for later."""
    from pyarrow import fs

    store = fs._MockFileSystem()
    monkeypatch.setattr(wslog_keeper, "open_store", lambda place: (store, "bucket"))
    send, sent = wslog_keeper.send, []

    def refuse(files: object, source: Path, target: str) -> None:
        if len(sent) == 1:
            raise OSError(5, "no route to the store", target)
        send(files, source, target)
        sent.append(target)

    with monkeypatch.context() as patch:
        patch.setattr(wslog_keeper, "send", refuse)
        report = keep(spec(folder, copy_to="s3://bucket", keep_bytes=1))
    assert (report.copied, report.removed) == (1, 1)
    assert any("no route to the store" in failure for failure in report.failures)
    assert sum("not copied yet: kept" in failure for failure in report.failures) == 3
    report = keep(spec(folder, copy_to="s3://bucket"))
    assert (report.copied, report.failures) == (3, [])
    names = [info.base_name for info in store.get_file_info(fs.FileSelector("bucket/feed"))]
    assert len([name for name in names if name.endswith(".zst")]) == 4 and INDEX in names


def test_an_impossible_place_is_told(folder: Path) -> None:
    report = keep(spec(folder, copy_to="nowhere://bucket/x"))
    assert report.copied == 0 and len(report.failures) == 1
    assert report.compressed == 4


def test_damage_in_a_compressed_file_is_noticed(folder: Path) -> None:
    """A flipped bit anywhere: refused, or other bytes than the row's hash says; a missing index is made anew."""
    keep(spec(folder))
    path = files_in(folder)[0]
    raw = path.read_bytes()
    whole = read(path)[1]
    rng = random.Random(3)
    for at in rng.sample(range(len(raw)), 60):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert sha256_of(path) != read_index(folder)[path.name].sha256
        try:
            log, found, _ = read(path)
        except WsLogDamaged:
            continue
        assert set(found) <= set(whole)
        assert (
            found == whole
            or log.scan.missing
            or log.scan.damaged_bytes
            or log.cut_bytes
            or (not log.scan.ended)
        )
    path.write_bytes(raw)
    rows = read_index(folder)
    (folder / INDEX).write_text("{")
    assert read_index(folder) == {}
    keep(spec(folder))
    assert read_index(folder) == rows
