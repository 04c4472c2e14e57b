"""Recordings are read whole and verbatim, or refused with the file and line at fault."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from collectors.captures import (
    CHUNK_BYTES,
    Capture,
    CaptureError,
    Frame,
    find_captures,
    merge,
    merge_aligned,
    open_captures,
    session_starts,
)

HOUR_NS = 3_600_000_000_000


def moment(ts: int, data: str = "{}", kind: str = "recv") -> bytes:
    line = {"ts": ts, "kind": kind, "url": "ws://venue", "data": data}
    return json.dumps(line).encode() + b"\n"


def written(folder: Path, name: str, *lines: bytes) -> Path:
    path = folder / name
    text = b"".join(lines)
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("name", ["tape.jsonl", "tape.jsonl.gz"])
def test_lines_come_back_verbatim(tmp_path: Path, name: str) -> None:
    """Text, escapes and line numbers survive, plain or compressed."""
    path = written(tmp_path, name, moment(1, '{"a":"é\\n"}'), moment(2, "", "open"))
    capture = Capture(path, file_index=3)
    assert list(capture) == [
        Frame(1, "recv", "ws://venue", '{"a":"é\\n"}'.encode(), 3, 1),
        Frame(2, "open", "ws://venue", b"", 3, 2),
    ]
    assert capture.ending == (2, "", 0)


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_lines_longer_than_a_chunk_are_whole(tmp_path: Path, size: int) -> None:
    """A line's border may fall anywhere in the pieces the file is read in."""
    path = written(tmp_path, "tape.jsonl.gz", moment(1, "x" * size), moment(2, "y"))
    assert [len(frame.data) for frame in Capture(path)] == [size, 1]


def test_an_empty_file_is_an_empty_recording(tmp_path: Path) -> None:
    """No line is no frame, and no error."""
    assert list(Capture(written(tmp_path, "tape.jsonl"))) == []
    assert list(Capture(written(tmp_path, "tape.jsonl.gz"))) == []


def test_joined_gzip_streams_are_one_recording(tmp_path: Path) -> None:
    """A recorder that was restarted appends a second stream."""
    path = tmp_path / "tape.jsonl.gz"
    path.write_bytes(gzip.compress(moment(1)) + gzip.compress(moment(2)))
    assert [frame.ts for frame in Capture(path)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"not json\n", "malformed"),
        (b"\n", "truncated"),
        (moment(1, kind="seen"), "'seen'"),
        (moment(-1), ">= 0"),
        (b'{"ts":1,"kind":"recv","url":""}\n', "`data`"),
        (b'{"ts":1,"kind":"recv","url":"","data":"","more":1}\n', "`more`"),
        (b'{"ts":1,"kind":"recv","url":"","data":"\xff"}\n', "utf-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    """The error tells the file, the line and the fault, also when truncation is tolerated."""
    path = written(tmp_path, "tape.jsonl", moment(1), line, moment(2))
    for tolerate in (False, True):
        with pytest.raises(CaptureError) as caught:
            list(Capture(path, tolerate_truncation=tolerate))
        assert caught.value.line == 2
        assert caught.value.path == path
        assert says in str(caught.value)


def test_every_cut_of_a_gzip_file_is_noticed(tmp_path: Path) -> None:
    """Cut at each byte, a reader refuses, or yields a prefix of the whole lines and says so."""
    whole = [moment(ts, f"frame {ts * 7919}") for ts in range(40)]
    text = gzip.compress(b"".join(whole))
    path = tmp_path / "tape.jsonl.gz"
    seen = set()
    for cut in range(len(text)):
        path.write_bytes(text[:cut])
        with pytest.raises(CaptureError, match="ends early"):
            list(Capture(path))
        capture = Capture(path, tolerate_truncation=True)
        frames = list(capture)
        assert [frame.ts for frame in frames] == list(range(len(frames)))
        assert capture.ending is not None
        assert capture.ending.truncated
        assert capture.ending.lines == len(frames)
        seen.add(len(frames))
    assert len(seen) > 10


def test_every_cut_of_a_plain_file_is_noticed(tmp_path: Path) -> None:
    """A cut between lines is a shorter recording; any other cut is told."""
    lines = [moment(1, "a"), moment(2, "b")]
    text = b"".join(lines)
    path = tmp_path / "tape.jsonl"
    for cut in range(len(text)):
        path.write_bytes(text[:cut])
        capture = Capture(path, tolerate_truncation=True)
        count = len(list(capture))
        border = len(lines[0])
        assert count == (cut >= border - 1) + (cut >= len(text) - 1)
        assert capture.ending is not None
        assert bool(capture.ending.truncated) == (cut not in (0, border - 1, border, len(text) - 1))
        assert capture.ending.cut_bytes == (cut % border if capture.ending.truncated else 0)


def test_damage_is_not_truncation(tmp_path: Path) -> None:
    """A flipped byte in the middle is an error even for a reader that tolerates a cut."""
    path = written(tmp_path, "tape.jsonl.gz", *(moment(ts) for ts in range(100)))
    text = bytearray(path.read_bytes())
    text[-6] ^= 1
    path.write_bytes(text)
    with pytest.raises(CaptureError, match="damaged"):
        list(Capture(path, tolerate_truncation=True))


def test_merge_is_by_time_then_by_file(tmp_path: Path) -> None:
    """Ties go to the earlier file, and a clock that steps back never reorders its own file."""
    first = written(tmp_path, "a.jsonl", moment(10), moment(20), moment(15), moment(30))
    second = written(tmp_path, "b.jsonl.gz", moment(10), moment(17), moment(30))
    frames = list(merge(open_captures([first, second])))
    assert [(frame.ts, frame.file_index) for frame in frames] == [
        (10, 0), (10, 1), (17, 1), (20, 0), (15, 0), (30, 0), (30, 1),
    ]  # fmt: skip


def test_aligned_merge_shifts_only_what_does_not_overlap(tmp_path: Path) -> None:
    """Overlapping recordings and rotations keep their offsets; another day starts together."""
    day = 24 * HOUR_NS
    paths = [
        written(tmp_path, "a.jsonl", moment(day), moment(day + 100)),
        written(tmp_path, "b.jsonl", moment(day + 40), moment(day + 200)),
        written(tmp_path, "rotated.jsonl", moment(day + 300), moment(day + 400)),
        written(tmp_path, "later.jsonl", moment(9 * day), moment(9 * day + 250)),
        written(tmp_path, "no_clock.jsonl", moment(0), moment(0)),
        written(tmp_path, "empty.jsonl"),
    ]
    merged = list(merge_aligned(open_captures(paths)))
    assert [(offset, frame.file_index) for offset, frame in merged] == [
        (0, 0), (0, 3), (0, 4), (0, 4), (40, 1), (100, 0), (200, 1), (250, 3), (300, 2), (400, 2),
    ]  # fmt: skip
    assert {frame.ts for _, frame in merged if frame.file_index == 3} == {9 * day, 9 * day + 250}


def test_sessions_join_up_to_the_gap_and_not_beyond(tmp_path: Path) -> None:
    """Both sides of the bound that tells a rotation from another session."""
    first = written(tmp_path, "a.jsonl", moment(1000), moment(2000))
    for start, offset in ((2500, 1500), (2501, 0)):
        second = written(tmp_path, "b.jsonl", moment(start))
        captures = open_captures([first, second])
        merged = merge_aligned(captures, session_starts(captures, session_gap_ns=500))
        assert [when for when, frame in merged if frame.file_index == 1] == [offset]


def test_find_captures_obeys_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable wins over the folder beside the project, and must name a folder."""
    monkeypatch.setenv("TICKRING_CAPTURES", str(tmp_path))
    assert find_captures() == tmp_path
    monkeypatch.setenv("TICKRING_CAPTURES", str(tmp_path / "missing"))
    with pytest.raises(NotADirectoryError, match="TICKRING_CAPTURES"):
        find_captures()
    monkeypatch.delenv("TICKRING_CAPTURES")
    found = find_captures()
    assert found is None or found.name == "captures"


def test_a_link_that_is_opened_anew_was_lost_before(tmp_path: Path) -> None:
    """ "close" stands before the second "open" of an address; not where two links of it were open side by side, nor where
    another address was opened, nor before anything was heard.
    """

    def kinds(*lines: bytes) -> list[str]:
        return [frame.kind for frame in Capture(written(tmp_path, "a.jsonl", *lines))]

    first, heard = moment(1, "", "open"), moment(5)
    assert kinds(first, heard, moment(6, "", "open"), moment(7)) == [
        *("open", "recv", "close", "open", "recv")
    ]
    assert kinds(first, heard, moment(5, "", "open")).count("close") == 1
    assert kinds(first, heard, moment(4, "", "open"), moment(7)).count("close") == 0
    assert kinds(first, moment(6, "", "open"), heard).count("close") == 0
    other = moment(6, "", "open").replace(b"ws://venue", b"ws://other")
    assert kinds(first, heard, other, moment(7, "", "open")).count("close") == 0
