"""The venue misbehaves exactly as told, and in nothing else."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from venue_client import (
    MS,
    V1_BOOK,
    V2_ETH,
    WAIT_S,
    FakeListener,
    FakeTiming,
    connected,
    count_data,
    data_frames,
    eventually,
    is_data,
    market_of,
    recording,
    serving,
    sub_v2,
    trade_v1,
)

from collectors.venue_dialect import Stream
from collectors.venue_faults import Fault, Faults
from collectors.venue_library import capture_tapes
from collectors.venue_market import Market


def faulty(captures: Path, kind: str, **more: object) -> list[bytes]:
    """Play ETH/USD with one fault at frame 100; what the listener was sent."""

    async def run() -> list[bytes]:
        timing = FakeTiming()
        ((dialect, tape),) = capture_tapes([captures / V2_ETH])
        fault = Fault("kraken_v2", 100, kind, **more)
        other = Fault("kraken_v1", 100, "drop")
        faults = Faults("kraken_v2", [fault, other])
        market = Market(dialect, tape, timing, speed="max", faults=faults)
        listener = FakeListener(timing)
        market.subscribe(listener, Stream("book", "ETH/USD", 25))
        await market.play()
        assert faults.injected == 1
        return [data for _, data in listener.sent]

    return asyncio.run(run())


def test_faults_that_add_a_frame_lose_nothing_else(captures: Path) -> None:
    """Half a frame, a symbol nobody asked for, a frame of a given size: then the tape goes on."""
    recorded = data_frames(captures / V2_ETH)
    for kind, more in (
        ("malformed", {}),
        ("unknown_symbol", {}),
        ("oversize", {"oversize_bytes": 5000}),
    ):
        sent = faulty(captures, kind, **more)
        assert sent[:99] + sent[100:] == recorded
        added = sent[99]
        if kind == "malformed":
            with pytest.raises(ValueError):
                json.loads(added)
        elif kind == "unknown_symbol":
            assert json.loads(added)["data"][0]["symbol"] == "NO/SUCH"
        else:
            assert len(added) == 5000
            json.loads(added)


def test_faults_that_change_a_frame_change_only_that(captures: Path) -> None:
    """Its checksum, a price's digits, or the frame away."""
    recorded = data_frames(captures / V2_ETH)
    sent = faulty(captures, "drop")
    assert sent == recorded[:99] + recorded[100:]
    sent = faulty(captures, "wrong_checksum")
    assert [n for n, pair in enumerate(zip(sent, recorded, strict=True)) if pair[0] != pair[1]] == [
        99
    ]
    good, bad = json.loads(recorded[99])["data"][0], json.loads(sent[99])["data"][0]
    assert good.pop("checksum") ^ 1 == bad.pop("checksum")
    assert good == bad
    sent = faulty(captures, "excess_digits")
    (index,) = [n for n, pair in enumerate(zip(sent, recorded, strict=True)) if pair[0] != pair[1]]
    prices = re.findall(rb'"price":([\d.]+)', sent[index])
    assert len(prices[0]) == len(re.findall(rb'"price":([\d.]+)', recorded[index])[0]) + 1
    assert prices[0].endswith(b"1")


def test_v1_faults_find_their_places(captures: Path) -> None:
    """The first protocol's checksums and prices are strings."""

    async def run(kind: str) -> tuple[list[bytes], list[bytes]]:
        timing = FakeTiming()
        ((dialect, tape),) = capture_tapes([captures / V1_BOOK])
        faults = Faults("kraken_v1", [Fault("kraken_v1", 1, kind)])
        market = Market(dialect, tape, timing, speed="max", faults=faults)
        listener = FakeListener(timing)
        for stream in tape.streams:
            market.subscribe(listener, stream)
        await market.play()
        assert faults.injected == 1
        return [data for _, data in listener.sent], data_frames(captures / V1_BOOK)

    sent, recorded = asyncio.run(run("wrong_checksum"))
    ((bad, good),) = [pair for pair in zip(sent, recorded, strict=True) if pair[0] != pair[1]]
    assert int(json.loads(bad)[-3]["c"]) ^ 1 == int(json.loads(good)[-3]["c"])
    sent, recorded = asyncio.run(run("excess_digits"))
    ((bad, good),) = [pair for pair in zip(sent, recorded, strict=True) if pair[0] != pair[1]]
    assert len(bad) == len(good) + 1
    json.loads(bad)


def test_silence_is_total_and_then_over(tmp_path: Path) -> None:
    """No frame and no heartbeat for the time given; the frame then comes."""
    tape = recording(tmp_path, *((10**18 + i * MS, trade_v1(i)) for i in range(10)))

    async def run() -> None:
        timing = FakeTiming()
        faults = Faults("kraken_v1", [Fault("kraken_v1", 4, "silence", silence_s=7.0)])
        market = market_of(tape, timing, speed=1.0, faults=faults)
        listener = FakeListener(timing)
        market.subscribe(listener, Stream("trade", "XBT/USD"))
        beating = asyncio.create_task(market.beat())
        await market.play()
        beating.cancel()
        frames = [(at, data) for at, data in listener.sent if data.startswith(b"[")]
        assert [data for _, data in frames] == [trade_v1(i).encode() for i in range(10)]
        assert frames[3][0] - frames[2][0] >= 7 * 10**9
        assert not [at for at, _ in listener.sent if frames[2][0] < at < frames[3][0]]

    asyncio.run(run())


def test_disconnect_cuts_the_clients_and_the_tape_waits(captures: Path) -> None:
    """Over a real socket: the connection breaks at the frame; a new one carries on from there."""
    fault = Fault("kraken_v2", 300, "disconnect")

    async def run() -> None:
        async with serving(captures=(str(captures / V2_ETH),), faults=(fault,)) as (server, counts):
            async with connected(server, "kraken_v2") as client:
                client.send(sub_v2("book", ["ETH/USD"], depth=25))
                await asyncio.wait_for(client.transport.wait_disconnected(), WAIT_S)
            assert count_data(client.texts) == 299
            assert client.close_code is None
            async with connected(server, "kraken_v2") as client:
                client.send(sub_v2("book", ["ETH/USD"], depth=25))
                texts = await client.until(lambda texts: count_data(texts) >= 1 + 1129 - 299)
            recorded = data_frames(captures / V2_ETH)
            assert [text for text in texts if is_data(text)][1:] == recorded[299:]
            await eventually(lambda: counts["faults_injected"] == 1)

    asyncio.run(run())
