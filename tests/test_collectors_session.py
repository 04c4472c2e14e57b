"""A session keeps its link alive, tells why it lost it, and never storms the venue."""

import asyncio
import itertools
import random
from collections.abc import Iterable

import picows
import pytest
from session_kit import LIMIT_BYTES, Recorder, Venue, send

from collectors.addresses import check_url
from collectors.session import BACKOFF_SHORT_S, Backoff, Session
from layouts import GapReason
from shm import clock
from shm.errors import ConfigurationError


class Probing(Recorder):
    """A handler whose venue answers texts."""

    probes = True


async def _play(
    script,
    until,
    limit_s: float = 8.0,
    handler: type[Recorder] = Recorder,
    answers: bool = False,
    **options,
) -> tuple[Recorder, Session, list[bytes]]:
    heard: list[bytes] = []
    transports: list = []
    server = await picows.ws_create_server(
        lambda _: Venue(script, heard, transports, answers), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    recorder = handler()
    session = Session(f"ws://127.0.0.1:{port}/", recorder, LIMIT_BYTES, **options)
    task = asyncio.create_task(session.run())
    async with asyncio.timeout(limit_s):
        while not until(recorder, session, heard):
            await asyncio.sleep(0.005)
    await session.stop()
    await task
    for transport in transports:
        transport.underlying_transport.abort()
    server.close()
    return recorder, session, heard


def test_frames_arrive_whole_and_answers_go_back() -> None:
    """What the venue sends is handed on in order, and what the handler returns is sent."""
    recorder, session, heard = asyncio.run(
        _play(send(b"one", b"question"), lambda r, s, heard: b"answer" in heard)
    )
    assert recorder.frames == [b"one", b"question"]
    assert heard == [b"subscribe", b"answer"]
    assert session.connections == 1


def test_fragments_are_put_together() -> None:
    """A message in three fragments is one frame for the handler."""

    def script(transport) -> None:
        transport.send(picows.WSMsgType.TEXT, b"al", fin=False)
        transport.send(picows.WSMsgType.CONTINUATION, b"to", fin=False)
        transport.send(picows.WSMsgType.CONTINUATION, b"gether", fin=True)
        transport.send(picows.WSMsgType.TEXT, b"next")

    recorder, _, _ = asyncio.run(_play(script, lambda r, s, h: len(r.frames) == 2))
    assert recorder.frames == [b"altogether", b"next"]


@pytest.mark.parametrize("n_bytes", [LIMIT_BYTES - 1, LIMIT_BYTES])
def test_a_message_up_to_the_limit_is_accepted(n_bytes: int) -> None:
    """The limit itself is still allowed."""
    recorder, _, _ = asyncio.run(_play(send(b"x" * n_bytes), lambda r, s, h: bool(r.frames)))
    assert [len(frame) for frame in recorder.frames] == [n_bytes]
    assert recorder.too_large == []


@pytest.mark.parametrize("n_bytes", [LIMIT_BYTES + 1, 50 * LIMIT_BYTES])
def test_a_message_beyond_the_limit_is_told_once_and_the_link_comes_back(n_bytes: int) -> None:
    """Too large a message is one refusal a link, and the session connects again."""
    recorder, session, _ = asyncio.run(
        _play(send(b"x" * n_bytes), lambda r, s, h: s.connections >= 2 and len(r.too_large) >= 2)
    )
    assert recorder.frames == []
    assert len(recorder.too_large) <= session.connections
    assert len(recorder.closes) == session.connections


def test_fragments_beyond_the_limit_are_refused() -> None:
    """The limit counts the message, not its fragments."""

    def script(transport) -> None:
        transport.send(picows.WSMsgType.TEXT, b"x" * 1000, fin=False)
        for _ in range(10):
            transport.send(picows.WSMsgType.CONTINUATION, b"x" * 1000, fin=False)

    recorder, _, _ = asyncio.run(_play(script, lambda r, s, h: bool(r.too_large)))
    assert recorder.frames == []


def test_a_cut_link_is_told_and_opened_anew() -> None:
    """After each cut the handler hears DISCONNECT and is asked for its subscriptions again."""
    recorder, session, heard = asyncio.run(
        _play(lambda transport: transport.disconnect(), lambda r, s, h: h.count(b"subscribe") >= 3)
    )
    assert recorder.closes[:2] == [GapReason.DISCONNECT] * 2
    assert session.connections >= 3
    assert len(heard) >= 3


def test_a_silent_link_is_given_up() -> None:
    """A link that carries nothing, not even a pong, is closed with the reason SILENCE."""

    def script(transport) -> None:
        transport.underlying_transport.pause_reading()

    recorder, _, _ = asyncio.run(_play(script, lambda r, s, h: bool(r.closes), silence_s=0.4))
    assert recorder.closes[0] == GapReason.SILENCE


def test_a_pong_keeps_a_quiet_link() -> None:
    """A link that answers pings is quiet, not dead."""

    async def quiet() -> list[GapReason]:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.0
        recorder, _, _ = await _play(
            lambda _: None, lambda r, s, h: loop.time() > end, silence_s=0.4
        )
        return recorder.closes[:-1]

    assert asyncio.run(quiet()) == []


def test_a_venue_that_pongs_and_is_mute_is_given_up() -> None:
    """Where texts are answered, a pong does not stand for an answer: the link is closed with the reason SILENCE."""
    recorder, _, heard = asyncio.run(
        _play(
            lambda _: None,
            lambda r, s, h: bool(r.closes),
            handler=Probing,
            silence_s=0.4,
        )
    )
    assert recorder.closes[0] == GapReason.SILENCE
    assert heard.count(b"are you there") <= 2


def test_an_answered_probe_keeps_a_quiet_link() -> None:
    """One probe for each silence, one answer, no new link."""

    async def quiet() -> tuple[list[GapReason], list[bytes]]:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5

        recorder, _, heard = await _play(
            lambda _: None,
            lambda r, s, h: loop.time() > end,
            handler=Probing,
            silence_s=0.8,
            answers=True,
        )
        return recorder.closes[:-1], heard

    closes, heard = asyncio.run(quiet())
    assert closes == []
    assert 2 <= heard.count(b"are you there") <= 4


@pytest.mark.parametrize("jump_s", [-3600, 3600, -1_700_000_000, 2_600_000_000])
def test_a_wall_clock_that_jumps_costs_no_link(jump_s: int) -> None:
    """An hour back or forth, 1970, 2106: frames go on over the same link, stamped by the clock as it is."""
    began = clock.now_ns()
    jumped: list[int] = []

    def wall() -> int:
        return began + (jump_s * 1_000_000_000 if jumped else 0)

    def script(transport) -> None:
        transport.send(picows.WSMsgType.TEXT, b"before")
        jumped.append(1)
        transport.send(picows.WSMsgType.TEXT, b"question")

    with clock.replaced(wall=wall):
        recorder, session, _ = asyncio.run(
            _play(script, lambda r, s, h: b"answer" in h, silence_s=5.0)
        )
    assert recorder.frames == [b"before", b"question"]
    assert session.connections == 1
    assert recorder.closes == [GapReason.DISCONNECT]


def test_an_error_in_the_handler_costs_the_link_not_the_session() -> None:
    """An exception from the handler is logged and the link is opened anew."""

    class Broken(Recorder):
        def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
            super().on_frame(frame, ts_recv)
            raise RuntimeError("seeded")

    async def scenario() -> int:
        heard: list[bytes] = []
        server = await picows.ws_create_server(lambda _: Venue(send(b"one"), heard), "127.0.0.1", 0)
        handler = Broken()
        session = Session(
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", handler, LIMIT_BYTES
        )
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(8):
            while len(handler.closes) < 2:
                await asyncio.sleep(0.005)
        await session.stop()
        await task
        server.close()
        return session.connections

    assert asyncio.run(scenario()) >= 2


def _tries_within(outage_s: float, seed: int, lost_at_once: bool = False) -> list[float]:
    """Return the times of the tries of one outage on a clock that only the back-off moves."""
    now = [0.0]
    times = [0.0]
    with clock.replaced(steady=lambda: int(now[0] * 1e9)):
        backoff = Backoff(random.Random(seed))
        while now[0] < outage_s:
            if lost_at_once:
                backoff.succeeded()
            now[0] += backoff.next_delay_s()
            times.append(now[0])
    return times


@pytest.mark.parametrize("outage_s", [0.1, 1.0, 3.0, 5.0])
def test_a_short_outage_is_left_within_two_seconds(outage_s: float) -> None:
    """The first try after an outage of up to 5 s comes at most 2 s after its end, for every seed."""
    for seed in range(300):
        assert _tries_within(outage_s, seed)[-1] - outage_s <= BACKOFF_SHORT_S


@pytest.mark.parametrize("lost_at_once", [False, True])
def test_tries_are_at_most_one_a_second_sustained(lost_at_once: bool) -> None:
    """Over any outage the number of tries is bounded by its seconds and a burst of three, flapping links included."""
    for seed in range(50):
        times = _tries_within(60.0, seed, lost_at_once)
        for start in range(len(times)):
            for end in range(start + 1, len(times)):
                assert end - start <= times[end] - times[start] + 3


def test_the_back_off_is_capped_and_never_ends() -> None:
    """After a day without the venue the next try is still at most 30 s away."""
    times = _tries_within(86_400.0, 1)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 30.0
    assert times[-1] >= 86_400.0


@pytest.mark.parametrize(
    "url", ["ws://example.org/", "http://127.0.0.1/", "wss:///path", "nonsense"]
)
def test_unsafe_addresses_are_refused(url: str) -> None:
    """Only TLS leaves this host; the error names the address."""
    with pytest.raises(ConfigurationError, match=url.split("/", maxsplit=1)[0]):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["wss://ws.kraken.com/v2", "ws://127.0.0.1:1/", "ws://localhost:1/x", "ws://[::1]:1/"]
)
def test_safe_addresses_are_accepted(url: str) -> None:
    """TLS anywhere, plain text on this host."""
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("n_bytes", "code"),
    [(10, picows.WSCloseCode.OK), (LIMIT_BYTES + 1, picows.WSCloseCode.MESSAGE_TOO_BIG)],
)
def test_the_venue_is_told_why_a_link_ends(n_bytes: int, code: int) -> None:
    """An ordered end says 1000, a message beyond the limit 1009."""
    codes: list[int] = []

    class Listening(Venue):
        def on_ws_frame(self, transport, frame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                codes.append(int(frame.get_close_code()))
            super().on_ws_frame(transport, frame)

    async def scenario() -> None:
        server = await picows.ws_create_server(
            lambda _: Listening(send(b"x" * n_bytes), []), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        handler = Recorder()
        session = Session(f"ws://127.0.0.1:{port}/", handler, LIMIT_BYTES)
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(8):
            while not (handler.frames or handler.too_large):
                await asyncio.sleep(0.005)
            if handler.frames:
                await session.stop()
            while not codes:
                await asyncio.sleep(0.005)
        await session.stop()
        await task
        server.close()

    asyncio.run(scenario())
    assert codes[0] == code
