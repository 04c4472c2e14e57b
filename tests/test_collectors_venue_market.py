"""Frames go out when they should, to whom they should, and never into a queue without end."""

import asyncio
import itertools
from pathlib import Path

import pytest
from venue_client import (
    MS,
    FakeListener,
    FakeTiming,
    connected,
    count_data,
    market_of,
    recording,
    serving,
    sub_v2,
    trade_v1,
)

from collectors.synthetic import SyntheticSpec
from collectors.venue_dialect import Stream
from collectors.venue_market import STUCK_S, ClientDesk


@pytest.mark.parametrize("speed", [1.0, 2.5, 10.0])
def test_frames_come_at_their_recorded_time(tmp_path: Path, speed: float) -> None:
    """At a finite speed each frame is sent at its offset divided by it, neither early nor late."""
    offsets = [0, 0, 5 * MS, 5 * MS + 1, 700 * MS, 3_600_000 * MS]
    tape = recording(tmp_path, *((10**18 + o, trade_v1(i)) for i, o in enumerate(offsets)))

    async def run() -> None:
        timing = FakeTiming()
        market = market_of(tape, timing, speed=speed)
        listener = FakeListener(timing)
        assert market.subscribe(listener, Stream("trade", "XBT/USD")) == ""
        await market.play()
        began = listener.sent[0][0]
        for (at, _), offset in zip(listener.sent, offsets, strict=True):
            assert abs(at - began - offset / speed) <= 2

    asyncio.run(run())


def test_at_speed_max_nothing_waits(tmp_path: Path) -> None:
    """An hour's tape takes no time, and the event loop still gets its turns."""
    tape = recording(tmp_path, *((i * 10**9, trade_v1(i)) for i in range(1, 1001)))

    async def run() -> None:
        timing = FakeTiming()
        market = market_of(tape, timing, speed="max", grace_s=0.0)
        listener = FakeListener(timing)
        market.subscribe(listener, Stream("trade", "XBT/USD"))
        await market.play()
        assert len(listener.sent) == 1000
        assert timing.now == 0
        assert timing.sleeps >= 1000 // 64

    asyncio.run(run())


def test_the_tape_starts_when_all_is_subscribed_or_after_the_grace(tmp_path: Path) -> None:
    """The last stream starts it at once; one that nobody wants is waited for one grace long."""
    tape = recording(tmp_path, (1, trade_v1(1, "A/B")), (2, trade_v1(2, "C/D")))

    async def began_at(pairs: list[str]) -> int:
        timing = FakeTiming()
        market = market_of(tape, timing, speed="max", grace_s=1.0)
        listener = FakeListener(timing)
        for pair in pairs:
            market.subscribe(listener, Stream("trade", pair))
        await market.play()
        assert market.tally.frames_unheard == 2 - len(pairs)
        return listener.sent[0][0]

    assert asyncio.run(began_at(["A/B", "C/D"])) == 0
    assert asyncio.run(began_at(["A/B"])) == 10**9


class HandTiming(FakeTiming):
    """Time that passes only by hand."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = asyncio.Event()

    async def sleep(self, duration_s: float) -> None:
        wake = self.now + round(duration_s * 1e9)
        await asyncio.sleep(0)
        while self.now < wake:
            await self._moved.wait()

    async def advance(self, duration_s: float) -> None:
        self.now += round(duration_s * 1e9)
        self._moved.set()
        self._moved = asyncio.Event()
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.mark.parametrize("all_come_back", [True, False])
def test_after_a_hold_the_tape_waits_for_all_that_were_heard(
    tmp_path: Path, all_come_back: bool
) -> None:
    """A client that subscribes anew in several messages misses nothing, within the grace."""
    moments = [(i * 10**9, trade_v1(i, pair)) for i in range(1, 5) for pair in ("A/B", "C/D")]
    tape = recording(tmp_path, *moments, (4 * 10**9, trade_v1(99, "E/F")))

    async def run() -> None:
        timing = HandTiming()
        market = market_of(tape, timing, speed=1.0, grace_s=0.5)
        first, second = FakeListener(timing), FakeListener(timing)
        playing = asyncio.create_task(market.play())
        for pair in ("A/B", "C/D"):
            market.subscribe(first, Stream("trade", pair))
        for duration_s in (0.0, 0.5, 1.0):
            await timing.advance(duration_s)
        assert len(first.sent) == 4
        market.forget(first)
        await timing.advance(60.0)
        assert market.tally.frames_played == 4
        market.subscribe(second, Stream("trade", "A/B"))
        await timing.advance(0.4)
        assert second.sent == []
        if all_come_back:
            market.subscribe(second, Stream("trade", "C/D"))
        await timing.advance(0.1)
        for _ in range(5):
            await timing.advance(1.0)
        await playing
        missed = 0 if all_come_back else 2
        assert market.tally.frames_unheard == 1 + missed
        sent = [data for _, data in first.sent + second.sent]
        assert len(sent) == len(moments) - missed

    asyncio.run(run())


def test_reference_data_alone_starts_no_tape(tmp_path: Path) -> None:
    """A client that has only asked for instruments hears nothing of the market yet."""
    tape = recording(tmp_path, (1, trade_v1(1)))

    async def run() -> None:
        timing = FakeTiming()
        market = market_of(tape, timing, speed="max", grace_s=0.0)
        listener = FakeListener(timing)
        assert market.subscribe(listener, Stream("instrument", "")) == ""
        playing = asyncio.create_task(market.play())
        for _ in range(50):
            await asyncio.sleep(0)
        assert market.tally.frames_played == 0
        market.subscribe(listener, Stream("trade", "XBT/USD"))
        await playing
        assert market.tally.frames_unheard == 0

    asyncio.run(run())


def test_a_listener_lost_in_any_turn_loses_no_later_frame(tmp_path: Path) -> None:
    """The tape looks for listeners after every wait, so what nobody hears is not taken."""
    tape = recording(tmp_path, *((i, trade_v1(i)) for i in range(1, 400)))

    class Leaver(FakeTiming):
        leave = staticmethod(lambda: None)

        async def sleep(self, duration_s: float) -> None:
            await super().sleep(duration_s)
            self.leave()

    async def run() -> None:
        timing = Leaver()
        market = market_of(tape, timing, speed="max", grace_s=0.0)
        one, two = FakeListener(timing), FakeListener(timing)
        market.subscribe(one, Stream("trade", "XBT/USD"))
        timing.leave = lambda: market.forget(one)
        playing = asyncio.create_task(market.play())
        for _ in range(100):
            await asyncio.sleep(0)
        timing.leave = lambda: None
        assert 0 < len(one.sent) < 399
        market.subscribe(two, Stream("trade", "XBT/USD"))
        await playing
        assert [data for _, data in one.sent + two.sent] == [
            trade_v1(i).encode() for i in range(1, 400)
        ]
        assert market.tally.frames_unheard == 0

    asyncio.run(run())


@pytest.mark.parametrize("holds", [True, False])
def test_unheard_tapes_hold_or_play_on(tmp_path: Path, holds: bool) -> None:
    """Holding, nothing is missed and the clock is set back; playing on, frames go unheard."""
    tape = recording(tmp_path, *((10**18 + i * 10**9, trade_v1(i)) for i in range(20)))

    async def run() -> None:
        timing = FakeTiming()
        market = market_of(tape, timing, speed=1.0, holds_unheard=holds)
        first, second = FakeListener(timing), FakeListener(timing)
        market.subscribe(first, Stream("trade", "XBT/USD"))
        playing = asyncio.create_task(market.play())
        await first.until(5)
        market.forget(first)
        for _ in range(100):
            await asyncio.sleep(0)
        assert market.tally.tape_done == (not holds)
        if holds:
            timing.now += 1000 * 10**9
            market.subscribe(second, Stream("trade", "XBT/USD"))
            await playing
            gaps = {round((b - a) / 1e9) for (a, _), (b, _) in itertools.pairwise(second.sent)}
            assert gaps == {1}
            assert len(first.sent) + len(second.sent) == 20
        await playing
        assert market.tally.frames_unheard == (0 if holds else 20 - len(first.sent))

    asyncio.run(run())


def test_a_stuck_listener_stops_the_tape_and_is_cut_off(tmp_path: Path) -> None:
    """Nothing queues up behind a socket that takes no more; the others then go on."""
    tape = recording(tmp_path, *((i, trade_v1(i)) for i in range(1, 11)))

    async def run() -> None:
        timing = FakeTiming()
        market = market_of(tape, timing, speed="max")
        good, stuck = FakeListener(timing), FakeListener(timing)
        for listener in (good, stuck):
            market.subscribe(listener, Stream("trade", "XBT/USD"))
        stuck.is_stuck = True
        await market.play()
        assert len(good.sent) == 10
        assert (stuck.sent, stuck.waits, stuck.is_cut) == ([], [STUCK_S], True)
        assert market.tally.listeners_cut == 1

    asyncio.run(run())


def test_a_client_that_does_not_read_bounds_the_venues_memory() -> None:
    """Over a real socket: the tape stops at the transport's bound, and goes on with the reading."""

    async def run() -> None:
        async with serving(synthetic=SyntheticSpec(frames_per_s=1e6)) as (server, counters):
            async with connected(server, "kraken_v2") as client:
                client.send(sub_v2("book", ["BTC/USD"], depth=10))
                await client.until(lambda texts: count_data(texts) > 100)
                client.transport.underlying_transport.pause_reading()
                played = -1
                while counters["frames_played"] != played:
                    played = counters["frames_played"]
                    await asyncio.sleep(0.6)
                (connection,) = server._connections
                buffered = connection._transport.underlying_transport.get_write_buffer_size()
                assert buffered < 2 * 256 * 1024
                before = len(client.texts)
                client.transport.underlying_transport.resume_reading()
                await client.until(lambda texts: len(texts) > before + 5000)

    asyncio.run(run())


def test_heartbeats_come_every_second_also_after_the_end(tmp_path: Path) -> None:
    """To those who listen to anything; never to a stuck socket."""
    tape = recording(tmp_path, (1, trade_v1(1)))

    async def run() -> None:
        timing = FakeTiming()
        market = market_of(tape, timing, speed="max", grace_s=0.0)
        listener, idle, stuck = (FakeListener(timing) for _ in range(3))
        market.subscribe(listener, Stream("trade", "XBT/USD"))
        await market.play()
        market.subscribe(stuck, Stream("trade", "XBT/USD"))
        stuck.is_stuck = True
        beating = asyncio.create_task(market.beat())
        await listener.until(11)
        beating.cancel()
        beats = listener.sent[1:]
        assert {data for _, data in beats} == {b'{"event":"heartbeat"}'}
        assert [at for at, _ in beats] == [n * 10**9 for n in range(1, 11)]
        assert idle.sent == []
        assert stuck.sent == []

    asyncio.run(run())


def test_the_desk_is_one_connections_view(tmp_path: Path) -> None:
    """Two connections may have the same subscription; a desk removes only its own."""
    market = market_of(recording(tmp_path, (1, trade_v1(1))), FakeTiming())
    one, two = (FakeListener(FakeTiming()) for _ in range(2))
    desks = [ClientDesk(market, listener) for listener in (one, two)]
    stream = Stream("trade", "XBT/USD")
    assert [desk.subscribe(stream) for desk in desks] == ["", ""]
    assert desks[0].unsubscribe("trade", "XBT/USD", 0) == stream
    assert desks[0].unsubscribe("trade", "XBT/USD", 0) is None
    assert two.streams == {stream}
