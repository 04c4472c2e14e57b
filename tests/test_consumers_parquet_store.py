"""A stored file is refused when one of its bytes is missing or changed, and the manifest is believed only where it is whole."""

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers import parquet_store
from consumers.journal import Journal, header_for
from consumers.manifest import NAME, Manifest, ManifestDamaged, Row, live_files, read_manifest
from consumers.parquet_store import publish, ranges_of, read_file, remove_old
from consumers.store_audit import verify_store
from layouts import EVENT

UUID = "0123456789abcdef" * 2
REFUSED = (OSError, ValueError, pa.ArrowException)


def journal_of(
    data_dir: Path, n: int = 200, first_seq: int = 1, lost: int = 0, ts_recv: int = 5
) -> Path:
    """Write a sealed journal of n records after `lost` lost ones."""
    folder = data_dir / "journal"
    folder.mkdir(exist_ok=True)
    header = header_for("feed.events", UUID, EVENT, first_seq, first_seq + 1000)
    journal = Journal.create(folder, header)
    if lost:
        journal.append_lost(lost)
    made = np.zeros(n, EVENT)
    made["word_0"] = np.random.default_rng(first_seq).integers(-(2**62), 2**62, n)
    made["ts_recv"] = ts_recv
    if n:
        journal.append(made, first_seq + lost, 3)
    journal.seal()
    journal.close()
    return journal.path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A data directory with one published file of 200 rows."""
    manifest = Manifest(tmp_path)
    publish(journal_of(tmp_path), tmp_path, manifest)
    manifest.close()
    return tmp_path


def file_of(store: Path) -> Path:
    """Return the path of the one file."""
    (row,) = live_files(read_manifest(store))
    return store / row.file


def test_a_file_tells_where_it_is_from(store: Path) -> None:
    """Ring, incarnation and layout are in its metadata, zstd and page checksums in its columns."""
    told = pq.read_metadata(file_of(store))
    assert told.metadata[b"tickring.ring"] == b"feed.events"
    assert told.metadata[b"tickring.uuid"] == UUID.encode()
    assert told.row_group(0).column(0).compression == "ZSTD"
    assert read_file(file_of(store)).num_rows == 200


def cut_and_read(store: Path, step: int) -> None:
    """Read every `step`-th prefix of a file, and every one that lacks less than 64 bytes."""
    path = file_of(store)
    whole = path.read_bytes()
    for cut in sorted({*range(0, len(whole), step), *range(len(whole) - 64, len(whole))}):
        path.write_bytes(whole[:cut])
        with pytest.raises(REFUSED):
            read_file(path)
    assert verify_store(store).damaged


def test_a_cut_file_is_refused(store: Path) -> None:
    """No prefix of a file reads as a file, and the audit names it."""
    cut_and_read(store, 37)


@pytest.mark.soak
def test_a_file_cut_at_every_byte_is_refused(store: Path) -> None:
    """Each single prefix."""
    cut_and_read(store, 1)


def flips_unnoticed(store: Path, path: Path, n: int, seed: int) -> tuple[int, int]:
    """Flip single bits of data pages; return how many reading missed, and how many the audit missed."""
    whole = path.read_bytes()
    good = read_file(path)
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(i) for i in range(good.num_columns)]
    end = max(each.data_page_offset + each.total_compressed_size for each in columns)
    chance = random.Random(seed)
    read_wrong = audit_missed = 0
    for _ in range(n):
        changed = bytearray(whole)
        at = chance.randrange(4, min(end, len(whole) - 8))
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        with contextlib.suppress(*REFUSED):
            read_wrong += not read_file(path).equals(good)
        audit_missed += verify_store(store).ok
    path.write_bytes(whole)
    return read_wrong, audit_missed


def test_flipped_bits_are_noticed(store: Path) -> None:
    """No flip reads as other data, and the whole file's hash notices each."""
    assert flips_unnoticed(store, file_of(store), 300, 1) == (0, 0)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_flipped_bits_are_noticed(store: Path, seed: int) -> None:
    """2,500 a seed."""
    assert flips_unnoticed(store, file_of(store), 2500, seed) == (0, 0)


def test_missing_page_checksums_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written without them, flips read as other data: the defect that the test above is there for."""
    right = pq.ParquetWriter
    monkeypatch.setattr(
        pq,
        "ParquetWriter",
        lambda *a, **k: right(*a, **{**k, "write_page_checksum": False, "compression": "none"}),
    )
    manifest = Manifest(tmp_path)
    publish(journal_of(tmp_path), tmp_path, manifest)
    manifest.close()
    read_wrong, audit_missed = flips_unnoticed(tmp_path, file_of(tmp_path), 100, 2)
    assert read_wrong > 20
    assert audit_missed == 0


def test_publishing_again_changes_nothing(store: Path) -> None:
    """A journal that a power cut brought back is removed; file and manifest stay as they are."""
    before = (store / NAME).read_bytes(), file_of(store).read_bytes()
    manifest = Manifest(store)
    journal = journal_of(store)
    assert publish(journal, store, manifest) is None
    manifest.close()
    assert ((store / NAME).read_bytes(), file_of(store).read_bytes()) == before
    assert not journal.exists()


def test_a_journal_of_losses_alone_makes_no_file(tmp_path: Path) -> None:
    """One LOST line says it all; an empty journal says nothing."""
    manifest = Manifest(tmp_path)
    assert publish(journal_of(tmp_path, n=0, lost=30), tmp_path, manifest) is None
    assert publish(journal_of(tmp_path, n=0, first_seq=31), tmp_path, manifest) is None
    manifest.close()
    report = verify_store(tmp_path, deep=True)
    assert report.ok
    assert (report.rows, report.lost) == (0, 30)


def test_old_files_are_removed_and_their_ranges_stay_known(store: Path) -> None:
    """Retention leaves no hole: the range was stored, and the line says that its file is gone."""
    manifest = Manifest(store)
    publish(journal_of(store, first_seq=201, ts_recv=50), store, manifest)
    assert [row.first_seq for row in remove_old(manifest, store, before_ns=50)] == [1]
    assert remove_old(manifest, store, before_ns=50) == []
    manifest.close()
    assert [row.first_seq for row in live_files(read_manifest(store))] == [201]
    assert len(list(store.glob("*/*.parquet"))) == 1
    report = verify_store(store, deep=True)
    assert report.ok
    assert (report.rings[0].first_seq, report.rings[0].last_seq) == (1, 400)


def test_the_audit_names_holes_overlaps_and_strangers(store: Path) -> None:
    """A missing range, a doubled one, a file that no line lists, one that is not there."""
    manifest = Manifest(store)
    publish(journal_of(store, first_seq=301), store, manifest)
    manifest.add(
        [Row(kind="LOST", ring="feed.events", uuid=UUID, first_seq=150, last_seq=210, rows=61)]
    )
    manifest.close()
    (store / "feed.events" / "stranger.parquet").touch()
    (ring,) = (report := verify_store(store)).rings
    assert (ring.overlaps, ring.holes) == ([(150, 200)], [(211, 300)])
    assert report.unlisted == ["feed.events/stranger.parquet"]
    assert not report.ok
    (store / live_files(read_manifest(store))[0].file).unlink()
    assert verify_store(store).damaged[0].endswith("missing")


def test_a_manifest_cut_at_every_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    """The torn last line is cut off, and what is added next stands on a line of its own."""
    manifest = Manifest(tmp_path)
    rows = [
        Row(kind="LOST", ring="a.b", uuid=UUID, first_seq=i, last_seq=i, rows=1) for i in (1, 2)
    ]
    manifest.add(rows)
    manifest.close()
    whole = (tmp_path / NAME).read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole) + 1):
        (tmp_path / NAME).write_bytes(whole[:cut])
        again = Manifest(tmp_path)
        kept = (cut >= first) + (cut >= len(whole))
        assert again.rows == rows[:kept]
        again.add(rows)
        again.close()
        assert read_manifest(tmp_path) == rows
        assert (tmp_path / NAME).read_bytes() == whole


def test_a_changed_manifest_is_refused(store: Path) -> None:
    """Any changed byte of a whole line: an error with the line, never other rows."""
    whole = (store / NAME).read_bytes()
    rows = read_manifest(store)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        (store / NAME).write_bytes(changed)
        try:
            found = read_manifest(store)
        except ManifestDamaged:
            continue
        assert found in (rows, [])  # [] where the newline itself was hit: a torn last line
    assert json.loads(whole)["kind"] == "FILE"


def test_a_failed_manifest_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte of a line that could not be synced stays, and it can be added again."""
    manifest = Manifest(tmp_path)
    row = Row(kind="LOST", ring="a.b", uuid=UUID, first_seq=1, last_seq=1, rows=1)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(OSError, match="I/O"):
            manifest.add([row])
    assert (tmp_path / NAME).read_bytes() == b""
    manifest.add([row])
    manifest.close()
    assert read_manifest(tmp_path) == [row]


@pytest.mark.parametrize(
    ("seqs", "ranges"),
    [
        ([], []),
        ([7], [(7, 7)]),
        ([1, 2, 3], [(1, 3)]),
        ([1, 3, 4, 9], [(1, 1), (3, 4), (9, 9)]),
    ],
)
def test_ranges_are_the_runs_of_seqs(seqs: list[int], ranges: list[tuple[int, int]]) -> None:
    """Runs of contiguous numbers, whatever stands between."""
    assert ranges_of(np.array(seqs, np.int64)) == ranges


def test_memory_stays_flat_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is made of row groups of a few MiB of records each, in order."""
    monkeypatch.setattr(parquet_store, "_GROUP_BYTES", 64 * 50)
    manifest = Manifest(tmp_path)
    publish(journal_of(tmp_path), tmp_path, manifest)
    manifest.close()
    assert pq.read_metadata(file_of(tmp_path)).num_row_groups == 4
    assert read_file(file_of(tmp_path))["seq"].to_pylist() == list(range(1, 201))
