"""Whatever a venue does to the WebSocket protocol, the session answers with the right close code and comes back."""

import asyncio
import os
from collections.abc import Iterable

import psutil
import pytest
from hostile_cases import CASES, TOO_BIG
from hostile_venue import (
    ALIVE,
    CONTINUATION,
    LIMIT_BYTES,
    TEXT,
    Case,
    HostileVenue,
    frame,
    switching,
)

from collectors.session import Backoff, Session
from layouts import GapReason

AT_ONCE = 40
CASE_TIMEOUT_S = 60.0
MEMORY_LIMIT_BYTES = 4 << 20
SLACK_BYTES = 24 << 20


class Soon(Backoff):
    """The next try at once: what is tested here is not the pace."""

    def next_delay_s(self) -> float:
        return 0.005


class Recorder:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closes: list[GapReason] = []
        self.too_large: list[int] = []

    def on_open(self, ts_recv: int) -> Iterable[bytes]:
        return []

    def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
        self.frames.append(frame)
        return []

    def probe(self) -> Iterable[bytes]:
        return []

    def on_too_large(self, n_bytes: int, ts_recv: int) -> None:
        self.too_large.append(n_bytes)

    def on_close(self, reason: GapReason, ts_recv: int) -> None:
        self.closes.append(reason)


async def play(case: Case, limit_bytes: int = LIMIT_BYTES) -> tuple[HostileVenue, Recorder]:
    """Run a session against one case until it has come back after it."""
    venue, recorder = HostileVenue(case), Recorder()
    server = await asyncio.start_server(venue.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    session = Session(f"ws://127.0.0.1:{port}/", recorder, limit_bytes, 0.0, Soon())
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(CASE_TIMEOUT_S):
            while ALIVE not in recorder.frames:
                await asyncio.sleep(0.01)
    finally:
        await session.stop()
        await running
        server.close()
        await server.wait_closed()
    return venue, recorder


def wrong(case: Case, venue: HostileVenue, recorder: Recorder) -> str:
    """Say what was not as the case wants it; "" where all was."""
    found = [
        ("delivered", [*case.delivered, ALIVE], recorder.frames),
        ("close code", case.code, venue.code),
        ("pongs", list(case.pongs), venue.pongs),
        ("told too large", case.code == TOO_BIG, bool(recorder.too_large)),
    ]
    bad = [f"{what}: {got!r:.200} not {want!r:.200}" for what, want, got in found if want != got]
    return f"{case.name}: " + "; ".join(bad) if bad else ""


async def _play_all() -> list[str]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> str:
        async with gate:
            try:
                return wrong(case, *await play(case))
            except TimeoutError:
                return f"{case.name}: the session hangs"

    return [bad for bad in await asyncio.gather(*map(one, CASES)) if bad]


def test_every_abuse_is_answered_and_survived() -> None:
    """Each case: what is whole is delivered, the close code is RFC 6455's, nothing hangs, the next link is alive."""
    assert len(CASES) >= 120
    assert len({case.name for case in CASES}) == len(CASES)
    bad = asyncio.run(_play_all())
    assert not bad, f"{len(bad)} of {len(CASES)}:\n" + "\n".join(bad)


def test_a_code_that_is_not_the_right_one_would_be_told() -> None:
    """The check itself fails on a wrong code, a lost text and a missing pong."""
    case = Case("a text", [frame(TEXT, b"hello")], [b"hello"])
    venue, recorder = asyncio.run(play(case))
    assert wrong(case, venue, recorder) == ""
    for changed in (
        case._replace(code=1002),
        case._replace(delivered=[]),
        case._replace(pongs=[b"?"]),
    ):
        assert wrong(changed, venue, recorder)


@pytest.mark.parametrize("kind", ["fragments", "headers"])
def test_memory_stays_within_the_largest_message(kind: str) -> None:
    """A venue that never ends a message, or its handshake, is cut off; memory grows by the limit, not by what it sends."""
    chunk = b"x" * (1 << 20)
    if kind == "fragments":
        parts = [frame(TEXT, chunk, fin=False), *[frame(CONTINUATION, chunk, fin=False)] * 99]
        case = Case("endless", parts, code=TOO_BIG)
    else:
        head = switching(b"Sec-WebSocket-Key: x\r\n")[:-2]
        case = Case("endless", [], reply=lambda _: [head + b"X: ", *[chunk] * 99])
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    _, recorder = asyncio.run(play(case, MEMORY_LIMIT_BYTES))
    grown = process.memory_info().rss - before
    assert recorder.frames == [ALIVE]
    assert grown <= 2 * MEMORY_LIMIT_BYTES + SLACK_BYTES
