"""The venue plays recordings verbatim over real sockets, and lives and dies as a worker should."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from picows import ws_connect
from venue_client import (
    PAIRS,
    V1_BOOK,
    V1_TRADE,
    V2_BTC,
    V2_ETH,
    WAIT_S,
    CheckedBooks,
    Client,
    connected,
    count_data,
    data_frames,
    eventually,
    is_data,
    pairs_of,
    serving,
    slow_tape,
    sub_v1,
    sub_v2,
)

from collectors.venue_dialect import Stream
from collectors.venue_library import list_streams
from shm.counters import counters_file, read_counters
from shm.errors import TickringError
from shm.region import unlink


@pytest.mark.parametrize(
    ("name", "symbol", "depth", "checksums"),
    [(V2_BTC, "BTC/USD", 10, 301), (V2_ETH, "ETH/USD", 25, 1129)],
)
def test_v2_recordings_play_verbatim(
    captures: Path, name: str, symbol: str, depth: int, checksums: int
) -> None:
    """Every data frame, in order, byte for byte; every checksum right."""

    async def run() -> list[bytes]:
        async with serving(captures=(str(captures / name),)) as (server, counters):
            async with connected(server, "kraken_v2") as client:
                client.send(sub_v2("book", [symbol], depth=depth))
                wanted = len(data_frames(captures / name))
                texts = await client.until(lambda texts: count_data(texts) >= wanted)
                await eventually(lambda: counters["tape_done"] == 1)
                assert counters["tape_frames"] == counters["frames_played"] == wanted
                assert counters["frames_unheard"] == 0
                return list(texts)

    texts = asyncio.run(run())
    assert json.loads(texts[0])["channel"] == "status"
    assert json.loads(texts[1])["result"] == {
        "channel": "book", "depth": depth, "snapshot": True, "symbol": symbol,
    }  # fmt: skip
    played = [text for text in texts if is_data(text)]
    assert played == data_frames(captures / name)
    checked = CheckedBooks({symbol: depth})
    for text in played:
        checked.take(text)
    assert (checked.right, checked.wrong) == (checksums, 0)


def test_v1_recordings_play_merged_and_verbatim(captures: Path) -> None:
    """Books and trades of ten pairs from two files, by time; 4,269 checksums right."""
    files = (captures / V1_BOOK, captures / V1_TRADE)
    pairs = pairs_of(captures)

    async def run() -> list[bytes]:
        async with serving(captures=tuple(map(str, files))) as (server, _):
            async with connected(server, "kraken_v1") as client:
                client.send(sub_v1("book", pairs, depth=1000))
                client.send(sub_v1("trade", pairs))
                wanted = len(data_frames(*files))
                return list(await client.until(lambda texts: count_data(texts) >= wanted))

    texts = asyncio.run(run())
    acks = [json.loads(text) for text in texts[1:21]]
    assert {ack["status"] for ack in acks} == {"subscribed"}
    played = [text for text in texts if is_data(text)]
    assert played == data_frames(*files)
    numbers = {(json.loads(text)[0], *json.loads(text)[-2:]) for text in played}
    for ack in acks:
        known = [
            n for n, name, pair in numbers if (name, pair) == (ack["channelName"], ack["pair"])
        ]
        assert known in ([], [ack["channelID"]])
    checked = CheckedBooks(dict.fromkeys(pairs, 1000))
    for text in played:
        checked.take(text)
    assert (checked.right, checked.wrong) == (4269, 0)


def test_both_protocols_are_served_at_once(captures: Path) -> None:
    """Each path has a tape of its own; recordings of another day begin at the same time."""
    names = (V1_BOOK, V1_TRADE, V2_BTC, V2_ETH, PAIRS)
    streams = list_streams([captures / name for name in names])
    assert streams["kraken_v2"] == {
        Stream("book", "BTC/USD", 10): 301,
        Stream("book", "ETH/USD", 25): 1129,
    }
    assert sum(streams["kraken_v1"].values()) == 4269 + 10 - 0 + 8

    async def run() -> None:
        paths = tuple(str(captures / name) for name in names)
        async with serving(captures=paths, grace_s=0.01) as (server, counters):
            async with connected(server, "kraken_v1") as one, connected(server, "kraken_v2") as two:
                one.send(sub_v1("book", pairs_of(captures), depth=1000))
                two.send(sub_v2("book", ["BTC/USD"], depth=10))
                two.send(sub_v2("book", ["ETH/USD"], depth=25))
                await eventually(lambda: counters["tape_done"] == 1)
                assert counters["frames_unheard"] == 8
                await two.until(lambda texts: count_data(texts) >= 1430)
                symbols = [re.search(rb'"symbol":"(\w+)', t)[1] for t in two.texts if is_data(t)]
                # Both begin at the tape's start although a day lies between them.
                assert Counter(symbols[:40]).keys() == {b"BTC", b"ETH"}

    asyncio.run(run())


@pytest.mark.parametrize("path", ["kraken_v1", "kraken_v2"])
def test_a_client_that_comes_back_gets_a_snapshot_that_fits(captures: Path, path: str) -> None:
    """After connections lost in mid-tape the venue's own book goes on to the tape's end."""
    files = {"kraken_v1": [captures / V1_BOOK], "kraken_v2": [captures / V2_ETH]}[path]
    symbols = pairs_of(captures) if path == "kraken_v1" else ["ETH/USD"]
    depth = 1000 if path == "kraken_v1" else 25
    request = (sub_v1 if path == "kraken_v1" else sub_v2)("book", symbols, depth=depth)
    recorded = data_frames(*files)

    async def run() -> None:
        checked = CheckedBooks(dict.fromkeys(symbols, depth))
        markers: list[int] = []
        async with serving(captures=tuple(map(str, files))) as (server, counters):
            while not counters["tape_done"]:
                async with connected(server, path) as client:
                    client.send(request)
                    await client.until(lambda texts: count_data(texts) >= len(symbols) + 150)
                    await asyncio.sleep(0)
                frames = [text for text in client.texts if is_data(text)]
                if markers:
                    # The first frames are the venue's own, the rest is the recording.
                    assert not set(frames[: len(symbols)]) & set(recorded)
                    frames_after = frames[len(symbols) :]
                    at = recorded.index(frames_after[0])
                    assert at > markers[-1] > 0
                    assert recorded[at : at + len(frames_after)] == frames_after
                for text in frames:
                    checked.take(text)
                markers.append(recorded.index(frames[-1]))
                if len(markers) >= 3:
                    break
        assert len(markers) >= 2
        assert checked.wrong == 0
        assert checked.right >= len(markers) * 150

    asyncio.run(run())


def test_one_symbol_resubscribes_while_the_other_goes_on(captures: Path) -> None:
    """A fresh snapshot of one book; nothing missing, doubled or reordered in the other."""

    async def run() -> None:
        async with serving(captures=slow_tape(captures), speed=40.0) as (server, counters):
            async with connected(server, "kraken_v2") as client:
                client.send(sub_v2("book", ["ETH/USD"], depth=25))
                client.send(sub_v2("book", ["BTC/USD"], depth=10))
                for round_no in range(1, 4):
                    await client.until(lambda texts, n=round_no: count_data(texts) >= 200 * n)
                    client.send(sub_v2("book", ["BTC/USD"], "unsubscribe", depth=10))
                    client.send(sub_v2("book", ["BTC/USD"], depth=10))
                await eventually(lambda: counters["tape_done"] == 1)
                await client.until(lambda texts: count_data(texts) >= 1129 + 250)
        eth = [text for text in client.texts if b"ETH/USD" in text and is_data(text)]
        assert eth == data_frames(captures / V2_ETH)
        btc = [text for text in client.texts if b"BTC/USD" in text and is_data(text)]
        assert sum(b'"snapshot"' in text for text in btc) == 5 + 3
        checked = CheckedBooks({"BTC/USD": 10})
        for text in btc:
            checked.take(text)
        assert checked.wrong == 0
        assert checked.right == len(btc)

    asyncio.run(run())


@pytest.fixture
def venue(instance) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start the worker as its supervisor does; remove its counters afterwards."""
    started: list[subprocess.Popen] = []

    def start(**fields: object) -> subprocess.Popen:
        path = instance.state_dir / "venue.json"
        fields = {"instance": instance.name, "worker": "venue", "state_dir": "", **fields}
        path.write_text(json.dumps(fields))
        command = [sys.executable, "-m", "collectors.venue_server", str(path)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    file = counters_file(instance.name, "venue")
    unlink(file)
    Path(f"/dev/shm/{file}.lock").unlink(missing_ok=True)


def ready(instance_name: str, pid: int) -> dict[str, int]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(TickringError):
            facts = read_counters(instance_name, "venue")
            if facts.pid == pid and facts.state == "READY":
                return facts.values
        time.sleep(0.01)
    raise AssertionError("the venue is not ready")


def test_the_process_serves_tells_its_port_and_says_goodbye(instance, venue) -> None:
    """SIGTERM: close code 1001 to each client, exit status 0."""
    process = venue(synthetic={"seed": 3})
    port = ready(instance.name, process.pid)["listen_port"]

    async def run() -> None:
        url = f"ws://127.0.0.1:{port}/kraken_v2"
        transport, client = await ws_connect(Client, url)
        client.send(sub_v2("book", ["BTC/USD"], depth=10))
        await client.until(lambda texts: count_data(texts) >= 3)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(transport.wait_disconnected(), WAIT_S)
        assert client.close_code == 1001

    asyncio.run(run())
    assert process.wait(WAIT_S) == 0
    facts = read_counters(instance.name, "venue")
    assert facts.state == "STOPPED"
    assert facts.values["connections"] == 1
    assert facts.values["frames_sent"] >= 5


def test_a_killed_venue_comes_back_on_its_port(instance, venue) -> None:
    """With the port fixed in its specification a restart is found where the first one was."""
    process = venue(synthetic={})
    port = ready(instance.name, process.pid)["listen_port"]
    process.kill()
    process.wait()
    process = venue(synthetic={}, port=port)
    assert ready(instance.name, process.pid)["listen_port"] == port


def test_a_configuration_at_fault_ends_with_status_2_and_one_sentence(
    captures: Path, instance, venue, tmp_path: Path
) -> None:
    """A missing, a truncated and a foreign recording, and an unknown key."""
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes((captures / V2_ETH).read_bytes()[:9000])
    for fields, says in (
        ({"captures": [str(tmp_path / "missing.gz")]}, "No such file"),
        ({"captures": [str(cut)]}, "the gzip stream ends early"),
        ({"captures": [str(captures / "okx_v5_books_3instruments.jsonl.gz")]}, "no recording of"),
        ({"synthetic": {}, "spede": 1}, "spede"),
    ):
        process = venue(**fields)
        _, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == 2, errors
        assert says in errors
        assert len(errors.strip().splitlines()) == 1
