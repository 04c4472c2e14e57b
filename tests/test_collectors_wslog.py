"""A .wslog file is read whole up to any cut, damage is noticed and stepped over, and what is missing is known exactly."""

import random
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from wslogs import ENTRY, Feed, clean, entries_of, frames, parse, read

from collectors.captures import CaptureError, open_captures
from collectors.wslog import Scan, WsLog, WsLogDamaged, part_of, read_header
from layouts import Entry
from shm._native import lib


@pytest.fixture
def feed(instance):
    made = Feed(instance).start()
    yield made
    made.die() if made.capture.is_on else None
    clean(instance.name)


@pytest.fixture
def log(feed: Feed) -> tuple[Path, list[bytes]]:
    """A finished file of 60 frames."""
    texts = frames(60)
    for text in texts:
        feed.take(text)
    feed.end()
    return feed.files()[0], texts


def test_a_plain_program_reads_the_file_by_its_table(log) -> None:
    """With struct and zlib alone: every frame verbatim, numbers without a hole, the records that each became."""
    path, texts = log
    found = parse(path)
    kept = [e for e in found if e.entry == Entry.FRAME]
    assert [e.data for e in kept] == texts
    assert [e.entry_no for e in found] == list(range(1, len(found) + 1))
    assert [e.records for e in kept] == [len(text) % 4 for text in texts]
    seq = 1
    for e in kept:
        assert (e.epoch, e.first_seq, e.status, e.ts) == (1, seq, 0, 5)
        seq += e.records
    assert found[-1].entry == Entry.END


def test_a_cut_at_every_byte_leaves_every_whole_entry(log, tmp_path: Path) -> None:
    """Nothing of the cut one, all before it; a cut header is refused in words."""
    path, _ = log
    raw = path.read_bytes()
    ends = [e.end for e in parse(path)]
    payloads = [e.key + e.data for e in parse(path)]
    header_bytes = WsLog(path).header_bytes
    cut = tmp_path / "cut.wslog"
    for n in range(len(raw)):
        cut.write_bytes(raw[:n])
        if n < header_bytes:
            with pytest.raises(WsLogDamaged):
                WsLog(cut)
            continue
        whole = sum(end <= n for end in ends)
        opened, found, _ = read(cut)
        assert found == payloads[:whole], n
        assert opened.cut_bytes == n - (ends[whole - 1] if whole else header_bytes)
        assert opened.scan.missing == []


def test_every_flipped_bit_is_noticed(log, tmp_path: Path) -> None:
    """One entry is lost and named by its number; all others are read; a flip in the header refuses the file."""
    path, _ = log
    raw = path.read_bytes()
    entries = parse(path)
    wounded = tmp_path / "wounded.wslog"
    rng = random.Random(7)
    header_bytes = WsLog(path).header_bytes
    for at in sorted(rng.sample(range(len(raw)), 600)):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        wounded.write_bytes(damaged)
        if at < header_bytes:
            with pytest.raises(WsLogDamaged):
                WsLog(wounded)
            continue
        hurt = next(e for e in entries if at < e.end)
        opened, found, headers = read(wounded)
        assert found == [e.key + e.data for e in entries if e is not hurt], at
        assert hurt.entry_no not in headers["entry_no"]
        assert opened.scan.damaged_bytes + opened.cut_bytes > 0
        if hurt is not entries[-1]:
            assert opened.scan.missing == [(hurt.entry_no, hurt.entry_no)]


def test_entries_are_found_however_the_file_comes_in_pieces(log) -> None:
    """Pieces of 1, 63, 64, 65 bytes and of primes give what the whole gives."""
    path, _ = log
    raw = path.read_bytes()
    whole = [e.key + e.data for e in parse(path)]
    begin = WsLog(path).header_bytes
    for n in (1, 63, 64, 65, 997):
        scan = Scan(1)
        found = []
        for at in range(begin, len(raw), n):
            for batch in scan.feed(raw[at : at + n]):
                found += [key + data for *_, key, data in batch.rows()]
        assert found == whole, n
        assert scan.ended and not scan.rest and not scan.missing


def test_an_entry_in_a_payload_is_no_entry(feed: Feed) -> None:
    """A frame that holds a whole entry, and one that holds its magic, are read as frames, also after damage before them."""
    inner = ENTRY.pack(0x31455357, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0)
    inner = inner[:4] + zlib.crc32(inner[8:]).to_bytes(4, "little") + inner[8:]
    texts = [b"WSE1" * 40, inner, b"x" * 70 + inner, b"end"]
    for text in texts:
        feed.take(text)
    feed.end()
    path = feed.files()[0]
    assert [e.data for e in parse(path) if e.entry == Entry.FRAME] == texts
    assert [t for t in read(path)[1] if t][: len(texts)] == texts


@pytest.mark.parametrize("n_bytes", [0, 1, 15, 16, 17, 31, 32, 63, 64, 65, 4096, 100_001])
def test_the_checksum_is_zlibs_at_every_length(feed: Feed, n_bytes: int) -> None:
    """By carry-less multiplication over whole lanes and by tables over the rest."""
    text = random.Random(n_bytes).randbytes(n_bytes)
    feed.take(text)
    feed.end()
    assert [e.data for e in entries_of(feed.files(), Entry.FRAME)] == [text]


def test_a_wslog_is_a_recording(log) -> None:
    """`open_captures` takes it: kinds, times and texts; one that is cut has to be tolerated, and says what it lacks."""
    path, texts = log
    found = list(open_captures([path])[0])
    assert [f.data for f in found if f.kind == "recv"] == texts
    assert {f.kind for f in found} == {"recv"}
    assert found[0].url == "wss://venue"
    path.write_bytes(path.read_bytes()[:-70])
    with pytest.raises(CaptureError, match="tolerate_truncation"):
        list(open_captures([path])[0])
    capture = open_captures([path], tolerate_truncation=True)[0]
    assert len(list(capture)) < len(found)
    assert capture.ending is not None and capture.ending.cut_bytes > 0


def test_a_compressed_file_that_is_cut_gives_what_comes_before(feed: Feed, tmp_path: Path) -> None:
    """zstd hands out blocks: every whole entry of the blocks that are there, at any cut; refused where it is not tolerated."""
    rng = random.Random(5)
    texts = [rng.randbytes(400).hex().encode() for _ in range(800)]
    for text in texts:
        feed.take(text)
    feed.end()
    (plain,) = feed.files()
    whole = pa.compress(plain.read_bytes(), codec="zstd", asbytes=True)
    path = tmp_path / (plain.name + ".zst")
    counts = []
    for eighth in (3, 5, 7, 8):
        path.write_bytes(whole[: len(whole) * eighth // 8 - 1])
        with pytest.raises((CaptureError, WsLogDamaged), match="compressed data is damaged"):
            list(open_captures([path])[0])
        (capture,) = open_captures([path], tolerate_truncation=True)
        found = [f.data for f in capture if f.kind == "recv"]
        assert found == texts[: len(found)]
        assert capture.ending is not None and "end early" in capture.ending.truncated
        counts.append(len(found))
    assert counts == sorted(counts) and counts[0] > 100
    path.write_bytes(whole)
    (capture,) = open_captures([path], tolerate_truncation=True)
    assert len(list(capture)) == len(texts)
    assert capture.ending is not None and not capture.ending.truncated


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    """An empty file, a text, and a name of another form."""
    for content, words in ((b"", "0 bytes"), (b"x" * 300, "no .wslog file")):
        path = tmp_path / "a.wslog"
        path.write_bytes(content)
        with pytest.raises(WsLogDamaged, match=words):
            WsLog(path)
        with pytest.raises(CaptureError, match=words):
            open_captures([path])
    assert part_of(Path("kraken.20260101T000000.00000012.0003.wslog.zst")) == (12, 3)
    assert part_of(Path("kraken.wslog")) == (-1, -1)


def test_the_scan_stops_before_its_buffer_is_full(log) -> None:
    """`most` entries and no more, and it says where it stopped."""
    from shm._native import ffi

    path, _ = log
    with path.open("rb") as file:
        read_header(file, path)
        raw = file.read()
    for most in (1, 2, 59):
        entries = np.zeros(64 * (most + 1), np.uint8)
        offsets, stop = ffi.new("int64_t[]", most + 1), ffi.new("int64_t[2]")
        n = lib.tr_wslog_scan(raw, len(raw), 0, ffi.from_buffer(entries), offsets, most, stop)
        assert (n, stop[1]) == (most, 1)
        assert not entries[64 * most :].any() and offsets[most] == 0
