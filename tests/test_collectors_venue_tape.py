"""A tape knows what it holds, and refuses what it cannot play."""

import json
from pathlib import Path

import msgspec
import pytest
from venue_client import V2_ETH, CheckedBooks, recording, trade_v1

from collectors.venue_dialect import Stream
from collectors.venue_library import capture_tapes
from collectors.venue_server import VenueServerSpec
from shm.errors import TickringError


def refusal(*paths: Path) -> str:
    with pytest.raises(TickringError) as caught:
        capture_tapes(paths)
    return str(caught.value)


def book_v2(symbol: str, kind: str, levels: int) -> str:
    bids = [{"price": 100 - n, "qty": 1} for n in range(levels)]
    book = {"symbol": symbol, "bids": bids, "asks": [], "checksum": 1}
    return json.dumps({"channel": "book", "type": kind, "data": [book]})


def test_what_cannot_be_played_is_refused_by_file_and_line(tmp_path: Path) -> None:
    """Another venue's frames, a broken frame, an unknown depth."""
    other = recording(tmp_path, (1, '{"feed":"trade","qty":1}'), name="other.jsonl")
    assert "other.jsonl, line 1: this is no recording of" in refusal(other)
    broken = recording(tmp_path, (1, trade_v1(1)), (2, "[1,2]"), name="broken.jsonl")
    assert "broken.jsonl, line 2: no frame of kraken_v1" in refusal(broken)
    late = recording(tmp_path, (1, book_v2("A/B", "update", 1)), name="late.jsonl")
    assert "nothing tells the depth of A/B" in refusal(late)


def test_one_book_twice_at_once_is_refused(tmp_path: Path) -> None:
    """Two sessions of a book would be mixed; one after the other is a longer recording."""
    one = recording(
        tmp_path, *((t, book_v2("A/B", "snapshot", 10)) for t in (1, 3)), name="one.jsonl"
    )
    two = recording(
        tmp_path, *((t, book_v2("A/B", "snapshot", 10)) for t in (2, 4)), name="two.jsonl"
    )
    assert "book of A/B is in" in refusal(one, two)
    after = recording(
        tmp_path, *((t, book_v2("A/B", "snapshot", 10)) for t in (5, 6)), name="after.jsonl"
    )
    ((_, tape),) = capture_tapes([one, after])
    assert tape.streams == {Stream("book", "A/B", 10): 4}


@pytest.mark.parametrize(("levels", "depth"), [(10, 10), (11, 25), (1000, 1000)])
def test_depth_is_read_from_a_snapshot_where_nothing_else_tells_it(
    tmp_path: Path, levels: int, depth: int
) -> None:
    """The smallest depth on offer that holds what was sent."""
    path = recording(tmp_path, (1, book_v2("A/B", "snapshot", levels)))
    ((_, tape),) = capture_tapes([path])
    assert list(tape.streams) == [Stream("book", "A/B", depth)]


def test_more_levels_than_any_depth_are_refused(tmp_path: Path) -> None:
    """No depth on offer holds 1,001 levels."""
    assert "nothing tells the depth" in refusal(
        recording(tmp_path, (1, book_v2("A/B", "snapshot", 1001)))
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"captures": ["x"], "synthetic": {}},
        {"synthetic": {}, "speed": 0},
        {"synthetic": {}, "speed": "fast"},
        {"synthetic": {}, "port": 65536},
        {"synthetic": {}, "sped": 1},
        {"synthetic": {"depth": 11}},
        {"synthetic": {}, "faults": [{"path": "kraken_v2", "frame": 0, "kind": "drop"}]},
        {"synthetic": {}, "faults": [{"path": "kraken_v2", "frame": 1, "kind": "oversize"}]},
        {"synthetic": {}, "faults": [{"path": "kraken_v2", "frame": 1, "kind": "silence"}]},
    ],
)
def test_a_bad_specification_is_refused(fields: dict) -> None:
    """Each mistake is an error before anything listens."""
    text = json.dumps({"instance": "t", "worker": "venue", "state_dir": "/", **fields})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=VenueServerSpec)


def test_a_truncated_recording_plays_its_whole_lines_when_told_to(
    captures: Path, tmp_path: Path
) -> None:
    """What was readable is played; the checksums hold to the last frame."""
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes((captures / V2_ETH).read_bytes()[:9000])
    ((_, tape),) = capture_tapes([cut], tolerate_truncation=True)
    checked = CheckedBooks({"ETH/USD": 25})
    frames = 0
    while tape.next_offset_ns() is not None:
        for step in tape.step():
            checked.take(step.data)
            frames += 1
    assert 0 < frames == tape.frames < 1129
    assert (checked.right, checked.wrong) == (frames, 0)
