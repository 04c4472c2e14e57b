"""A tape knows what it holds, and refuses what it cannot play."""

import json
from pathlib import Path

import msgspec
import pytest
from venue_client import PAIRS, V1_BOOK, V2_ETH, CheckedBooks, recording, trade_v1

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
    assert tape.recordings_truncated == 1
    checked = CheckedBooks({"ETH/USD": 25})
    frames = 0
    while tape.next_offset_ns() is not None:
        for step in tape.step():
            checked.take(step.data)
            frames += 1
    assert 0 < frames == tape.frames < 1129
    assert (checked.right, checked.wrong) == (frames, 0)


def test_v1_tickers_are_streams_of_their_own(captures: Path) -> None:
    """Three recordings of one session: books with their depth, trades and tickers without."""
    names = ("book", "trade", "ticker")
    ((dialect, tape),) = capture_tapes(
        [captures / f"kraken_v1_{n}_10pairs.jsonl.gz" for n in names]
    )
    assert dialect.name == "kraken_v1"
    assert Stream("book", "XMR/USD", 1000) in tape.streams
    assert tape.streams[Stream("trade", "XMR/USD")] == 3
    assert sum(count for stream, count in tape.streams.items() if stream.channel == "ticker") == 18
    assert tape.frames == sum(tape.streams.values()) == 4279 + 8 + 18
    assert tape.recordings_truncated == 0
    assert tape.channel_id(Stream("book", "XMR/USD", 1000)) == 992
    made = {tape.channel_id(Stream("ohlc", pair)) for pair in ("XMR/USD", "SC/EUR", "XMR/USD")}
    assert len(made) == 2
    assert not made & {tape.channel_id(stream) for stream in tape.streams}


@pytest.mark.parametrize(("with_pairs", "tick_digits"), [(True, 2), (False, 8)])
def test_ticks_come_from_the_venues_list_else_from_the_wire(
    captures: Path, with_pairs: bool, tick_digits: int
) -> None:
    """XMR/USD has eight decimals on the wire and a tick of two in `AssetPairs`."""
    paths = [captures / V1_BOOK] + [captures / PAIRS] * with_pairs
    ((_, tape),) = capture_tapes(paths)
    listed = {listing.symbol: listing for listing in tape.listings}
    assert listed["XMR/USD"].tick_digits == tick_digits
    assert listed["XMR/USD"].lot_digits == 8
    assert listed["XMR/USD"].qty_min == ("0.05" if with_pairs else "0.00000001")


def test_a_recorded_instrument_frame_is_the_answer(tmp_path: Path) -> None:
    """What the venue itself said of its instruments is given verbatim, and is no market frame."""
    said = '{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[]}}'
    path = recording(tmp_path, (1, said), (2, book_v2("A/B", "snapshot", 10)))
    ((_, tape),) = capture_tapes([path])
    assert tape.instruments == said.encode()
    assert tape.frames == 1
