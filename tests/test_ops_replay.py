"""Replay reports what a consumer read off private rings: every frame and record in one count, exact books."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ops import replay, replay_player
from ops.cli import run_verb
from ops.rings import decimal_text
from shm.errors import ConfigurationError

V1_BOOK = "kraken_v1_book_10pairs.jsonl.gz"
V1_TRADE = "kraken_v1_trade_10pairs.jsonl.gz"
V2_BTC = "kraken_v2_btcusd_resubscribes.jsonl.gz"
V2_ETH = "kraken_v2_ethusd.jsonl.gz"


def line(ts: int, data: str, kind: str = "recv") -> bytes:
    """Return one line of a recording."""
    return msgspec.json.encode({"ts": ts, "kind": kind, "url": "", "data": data}) + b"\n"


def snapshot(ts: int, symbol: str = "BTC/USD", price: str = "100.5", qty: str = "1.25") -> bytes:
    """Return the line of a v2 snapshot of one level a side."""
    bid = f'{{"price":{price},"qty":{qty}}}'
    high = "2" + price
    ask = f'{{"price":{high},"qty":{qty}}}'
    checksum = crc([(high, qty)], [(price, qty)])
    return line(
        ts,
        f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{bid}],"asks":[{ask}],'
        f'"checksum":{checksum},"timestamp":"2026-01-01T00:00:00.000000Z"}}]}}',
    )


def crc(asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> int:
    """Return the venue's checksum of a book."""
    import zlib

    text = "".join(
        number.replace(".", "").lstrip("0") for level in [*asks, *bids] for number in level
    )
    return zlib.crc32(text.encode())


@pytest.mark.parametrize(
    ("venue", "files", "checksums", "frames"),
    [
        ("kraken_v1", [V1_BOOK, V1_TRADE], 4269, 4370),
        ("kraken_v2", [V2_BTC], 301, 377),
        ("kraken_v2", [V2_ETH], 1129, 1170),
        ("kraken_v2", [V2_BTC, V2_ETH], 1430, 1547),
    ],
)
def test_every_checksum_of_the_recordings_holds(captures, venue, files, checksums, frames) -> None:
    """Across the resubscriptions too, and nothing is unaccounted for."""
    report, [recording] = replay.play([captures / name for name in files], venue)
    assert report.checksums == {"ok": checksums, "bad": 0}
    assert (report.frames, report.unaccounted, report.gaps) == (frames, 0, 0)
    assert report.rejected == {}
    assert recording.truncated == []
    assert {book.state for book in report.books.values()} == {"LIVE"}


def test_the_books_are_the_recording_s_last(captures) -> None:
    """The checksum that came with the last update is the one of the printed books."""
    report, _ = replay.play([captures / V2_ETH], "kraken_v2")
    book = report.books["ETH/USD"]
    with gzip.open(captures / V2_ETH, "rt") as file:
        frames = [json.loads(json.loads(text)["data"]) for text in file]
    last = [f for f in frames if f.get("channel") == "book"][-1]["data"][0]["checksum"]
    assert crc(book.asks, book.bids) == last
    assert len(book.bids) == len(book.asks) == 10


def test_the_command_prints_one_json_object(captures) -> None:
    """In a process of its own, with the keys that are promised."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ops", "replay", captures / V2_BTC),
            *("--venue", "kraken_v2", "--speed", "max", "--json"),
        ],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    found = json.loads(done.stdout)
    assert set(found) >= {
        *("frames", "records", "rejected", "checksums", "gaps", "unaccounted", "books"),
        "us_per_frame",
    }
    assert found["us_per_frame"] > 0
    assert found["books"]["BTC/USD"]["bids"][0] == ["63004.9", "0.01661321"]


def test_malformed_frames_are_counted_and_hurt_nothing_else(tmp_path: Path) -> None:
    """By reason; the books of the others stand."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(
        snapshot(1)
        + line(2, "{")
        + line(3, '{"channel":"book","type":"update","data":3}')
        + snapshot(4, "ETH/USD", price="7.00001")
    )
    report, _ = replay.play([path], "kraken_v2")
    assert report.frames == 4
    assert sum(report.rejected.values()) == 2
    assert report.unaccounted == 0
    assert report.books["BTC/USD"].bids == [("100.5", "1.25")]
    assert report.books["ETH/USD"].bids == [("7.00001", "1.25")]


def test_a_recording_cut_at_any_place_is_played_to_its_last_whole_frame(
    captures, tmp_path, capsys
) -> None:
    """Counted as truncated_capture, told on stderr, exit status 1, and the JSON is printed."""
    whole = (captures / V2_BTC).read_bytes()
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert run_verb(["replay", str(cut), "--venue", "kraken_v2", "--json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert 0 < found["frames"] < 377
    assert found["rejected"] == {"truncated_capture": 1}
    assert found["unaccounted"] == 0
    assert "all whole frames were replayed" in err


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    """Whatever their order on the command line."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(snapshot(1, price="100.5") + snapshot(3, price="102.5"))
    second.write_bytes(snapshot(2, price="101.5"))
    for order in ([first, second], [second, first]):
        report, _ = replay.play(order, "kraken_v2")
        assert report.books["BTC/USD"].bids == [("102.5", "1.25")]


def test_a_frame_of_many_levels_fits_half_a_ring(tmp_path: Path) -> None:
    """20,000 levels a side; the ring is sized by the largest frame."""
    levels = 20_000
    bids = ",".join(f'{{"price":{30000 - i}.0,"qty":1.0}}' for i in range(levels))
    asks = ",".join(f'{{"price":{30001 + i}.0,"qty":1.0}}' for i in range(levels))
    checksum = crc(
        [(f"{30001 + i}.0", "1.0") for i in range(10)],
        [(f"{30000 - i}.0", "1.0") for i in range(10)],
    )
    path = tmp_path / "wide.jsonl"
    path.write_bytes(
        line(
            1,
            '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":['
            f'{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"2026-01-01T00:00:00Z"}}]}}',
        )
    )
    report, _ = replay.play([path], "kraken_v2")
    assert report.unaccounted == 0
    assert report.records >= 1000


@pytest.mark.parametrize("frame_bytes", [0, 7, 8, 10_000, 1 << 26])
def test_half_a_ring_holds_the_largest_frame(frame_bytes: int) -> None:
    """For every size that the decoder takes."""
    most = replay.records_of(frame_bytes)
    half = max(replay_player.LEAST_SLOTS, 1 << (2 * most - 1).bit_length()) // 2
    assert half >= most


def test_chunks_hold_all_frames_in_order_and_fit() -> None:
    """Also where one frame fills a chunk alone."""
    from collectors.captures import Frame

    frames = [Frame(i, "recv", "", b"x" * (800 * (i % 5)), 0, i) for i in range(50)]
    half = replay.records_of(3200)
    chunks = list(replay.chunks_of(frames, half))
    assert [frame for chunk in chunks for frame in chunk] == frames
    for chunk in chunks:
        assert sum(replay.records_of(len(frame.data)) for frame in chunk) <= half


def test_refusals_name_what_to_do(tmp_path: Path, capsys) -> None:
    """An unknown venue, no file, a missing file, a file that is no recording."""
    with pytest.raises(
        ConfigurationError, match=r"there are binance_spot, .*, kraken_v1, kraken_v2"
    ):
        replay.play([tmp_path / "x"], "krakken")
    with pytest.raises(ConfigurationError, match="name at least one recording"):
        replay.play([], "kraken_v2")
    with pytest.raises(ConfigurationError, match="No such file"):
        replay.play([tmp_path / "x"], "kraken_v2")
    text = tmp_path / "notes.txt"
    text.write_text("hello\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        replay.play([text], "kraken_v2")
    assert run_verb(["replay", str(text), "--venue", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (0, 0, "0"),
        (5, 0, "5"),
        (5, 1, "0.5"),
        (-5, 2, "-0.05"),
        (1234567, 4, "123.4567"),
        (10, 1, "1.0"),
        (5, -2, "500"),
        (2**62, 8, "46116860184.27387904"),
    ],
)
def test_decimals_are_exact(value: int, scale: int, text: str) -> None:
    """Made from the integer, with exactly the instrument's digits."""
    assert decimal_text(value, scale) == text


def test_two_replays_compute_the_same_features(captures, tmp_path: Path) -> None:
    """In every column but those that say when a record was published."""
    import numpy as np
    import pyarrow.parquet as pq

    tables = []
    for name in ("first", "second"):
        file = tmp_path / f"{name}.parquet"
        replay.play([captures / V1_BOOK, captures / V1_TRADE], "kraken_v1", file)
        tables.append(pq.read_table(file).drop_columns(["publish_delta_ns"]))
    assert tables[0].num_rows == 820
    for name in tables[0].column_names:
        ours, theirs = (table[name].to_numpy() for table in tables)
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_a_link_lost_in_a_recording_costs_what_it_cost_live(tmp_path: Path) -> None:
    """Bitstamp numbers nothing: after a link opened anew its book waits for the REST answer, and holds what that says and what
    followed it, nothing of before; the GAP is told.
    """

    def diff(number: int, price: str) -> str:
        levels = {"microtimestamp": str(number), "bids": [[price, "1"]], "asks": []}
        return json.dumps({"event": "data", "channel": "diff_order_book_ab", "data": levels})

    def answer(number: int, price: str) -> str:
        return json.dumps(
            {"microtimestamp": str(number), "bids": [[price, "1"]], "asks": [["200", "1"]]}
        )

    lines = [
        *(
            ("open", ""),
            ("recv", diff(10, "100")),
            ("rest", answer(5, "99")),
            ("recv", diff(20, "98")),
        ),
        *(
            ("open", ""),
            ("recv", diff(90, "97")),
            ("rest", answer(80, "95")),
            ("recv", diff(99, "94")),
        ),
    ]
    url = {"rest": "https://www.bitstamp.net/api/v2/order_book/ab/"}
    path = tmp_path / "bitstamp.jsonl"
    path.write_text(
        "".join(
            json.dumps({"ts": n, "kind": kind, "url": url.get(kind, "wss://ws"), "data": data})
            + "\n"
            for n, (kind, data) in enumerate(lines, 1)
        )
    )
    report, _ = replay.play([path], "bitstamp")
    assert [price for price, _ in report.books["ab"].bids] == ["97", "95", "94"]
    assert (report.gaps, report.unaccounted, report.frames) == (1, 0, 4)
