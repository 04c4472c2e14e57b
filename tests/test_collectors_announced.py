"""A venue that announces the end of a link is left in good order before it cuts, and the records say so."""

import asyncio
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import picows
import pytest
from collector_processes import Bench, unaccounted
from decoding import kinds
from rest_venue import running
from session_kit import LIMIT_BYTES, Recorder, Venue, send
from venue_kit import corpus, feed, pipeline_of
from wslogs import data_of, entries_of, equal, replayed

import shm
from collectors.session import CALM_S, Backoff, Session
from layouts import Entry, GapReason, Kind
from layouts.event import GAP
from shm import clock
from shm.counters import read_counters

OKX = (
    '{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. '
    'Please reconnect.","connId":"a4d3ae55"}'
)
ANNOUNCED = [
    ("bitstamp", '{"event":"bts:request_reconnect","channel":"","data":""}'),
    ("okx", OKX),
    ("binance_spot", '{"e":"serverShutdown","E":1770123456789}'),
    ("binance_spot", '{"stream":"btcusdt@trade","data":{"e":"serverShutdown","E":1770123456789}}'),
    ("binance_usdm", '{"e":"serverShutdown","E":1770123456789}'),
]
OTHERS = [
    ("bitstamp", '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}'),
    ("bitstamp", '{"event":"bts:error","channel":"","data":{"code":4009,"message":"no"}}'),
    ("okx", OKX.replace("64008", "64009")),
    ("binance_spot", '{"e":"listenKeyExpired","E":1770123456789}'),
]
SYMBOLS = {"binance_spot": ["BTCUSDT", "ETHUSDT"], "bitstamp": ["btcusd", "ethusd"]}


@pytest.fixture
def bench(instance) -> Iterator[Bench]:
    made = Bench(instance)
    yield made
    made.close()


def _with_books(captures: Path, venue: str):
    """Return a pipeline whose books are LIVE."""
    pipeline = pipeline_of(venue)
    for message in corpus(captures, venue):
        feed(pipeline, message)
        if pipeline.decoder.books_live:
            break
        pipeline.drain()
    pipeline.drain()
    return pipeline


@pytest.mark.parametrize(("venue", "frame"), ANNOUNCED)
def test_an_announced_end_is_told_once_with_its_reason(
    captures: Path, venue: str, frame: str
) -> None:
    """The frame publishes nothing, its notice is for the log; the close is GAP(ANNOUNCED) and SYNCING for each with data."""
    pipeline = _with_books(captures, venue)
    decoder = pipeline.decoder
    decoder.notices.clear()
    assert not decoder.is_link_ending
    assert pipeline.feed(frame) == 0
    assert decoder.is_link_ending
    assert len(decoder.notices) == 1
    assert "announces" in decoder.notices[0]
    assert len(pipeline.drain()) == 0
    with_data = sum(bool(line.live.version) for line in decoder.instruments.values())
    decoder.on_close(pipeline.ts)
    assert kinds(pipeline.drain()) == ["GAP", "STATE"] * with_data
    assert pipeline.counts["gaps.announced"] == with_data > 0
    assert "gaps.disconnect" not in pipeline.counts
    assert decoder.books_live == 0
    decoder.on_close(pipeline.ts)  # the next link was not announced to end
    assert pipeline.counts["gaps.disconnect"] == with_data
    pipeline.close()


@pytest.mark.parametrize(("venue", "frame"), OTHERS)
def test_other_words_of_the_venue_end_no_link(captures: Path, venue: str, frame: str) -> None:
    """A heartbeat, an error, a notice of another code: the link stays."""
    pipeline = pipeline_of(venue)
    assert pipeline.feed(frame) == 0
    assert not pipeline.decoder.is_link_ending
    pipeline.close()


@pytest.mark.parametrize("name", sorted(SYMBOLS))
def test_a_collector_opens_the_announced_link_anew(bench: Bench, name: str) -> None:
    """One close with 1000, one new link, every book LIVE again; the capture replays to the same records."""
    text = next(frame for venue, frame in ANNOUNCED if venue == name)
    folder = bench.state_dir / "wslog"
    with running(name) as venue:
        bench.start_collector(
            0,
            venue=name,
            url=venue.url,
            rest_url=venue.rest_url,
            subscriptions=[{"channel": "book", "symbols": SYMBOLS[name]}],
            capture={"folder": str(folder), "is_on": True, "free_bytes_min": 0},
        )
        bench.until("kraken", lambda f: f.values["books_live"] == 2)
        venue.say(text)
        facts = bench.until(
            "kraken", lambda f: f.values["reconnects"] == 1 and f.values["books_live"] == 2
        )
        assert facts.values["gaps.announced"] == 2
        assert facts.values["gaps.disconnect"] == 0
        assert venue.close_codes == [1000]
        seen = facts.values["frames_in"]
        bench.until("kraken", lambda f: f.values["frames_in"] > seen + 100)
        assert bench.end("kraken") == 0
    facts = read_counters(bench.instance, "kraken")
    assert facts.values["reconnects"] == 1
    assert unaccounted(facts) == 0
    files = sorted((folder / "kraken").iterdir())
    closes = [entry.status for entry in entries_of(files, Entry.CLOSE)]
    assert closes == [GapReason.ANNOUNCED, 0]
    with shm.attach("kraken.events", bench.instance) as reader:
        records, info = reader.last(65_536)
    assert info.first_seq == 1
    equal(data_of(records), data_of(replayed(files)))
    gaps = records[records["kind"] == Kind.GAP].view(GAP)
    assert gaps["reason"].tolist() == [GapReason.ANNOUNCED] * 2


def test_a_link_whose_end_is_announced_is_closed_in_order_and_opened_anew() -> None:
    """Asked ten times: one close with 1000, told as ANNOUNCED; what comes before the venue's answer is still taken."""
    codes: list[int] = []

    class Leaving(Recorder):
        session: Session

        def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
            if frame == b"leave" and self.session.connections == 1:
                for _ in range(10):
                    self.session.renew()
            return super().on_frame(frame, ts_recv)

    class Listening(Venue):
        def on_ws_frame(self, transport, frame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                codes.append(int(frame.get_close_code()))
                transport.send(picows.WSMsgType.TEXT, b"last words")
                transport.send_close(picows.WSCloseCode.OK)
                transport.disconnect()
            super().on_ws_frame(transport, frame)

    async def scenario() -> Leaving:
        server = await picows.ws_create_server(
            lambda _: Listening(send(b"leave"), []), "127.0.0.1", 0
        )
        handler = Leaving()
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        session = handler.session = Session(url, handler, LIMIT_BYTES)
        session.renew()  # without a link there is nothing to do
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(8):
            while handler.frames.count(b"leave") < 2:
                await asyncio.sleep(0.005)
        assert codes == [picows.WSCloseCode.OK]
        assert session.connections == 2
        assert session.backoff.renewal_delay_s() == 1.0  # one renewal before, not ten
        await session.stop()
        await task
        server.close()
        return handler

    handler = asyncio.run(scenario())
    assert handler.frames[:3] == [b"leave", b"last words", b"leave"]
    assert handler.closes == [GapReason.ANNOUNCED, GapReason.DISCONNECT]


def test_a_venue_that_answers_no_close_is_left_all_the_same() -> None:
    """The venue neither answers nor closes: after GOODBYE_S the link is cut and the next one opened."""

    class Leaving(Recorder):
        def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
            sessions[0].renew()
            return super().on_frame(frame, ts_recv)

    class Deaf(Venue):
        def on_ws_frame(self, transport, frame) -> None:
            if frame.msg_type != picows.WSMsgType.CLOSE:
                super().on_ws_frame(transport, frame)

    sessions: list[Session] = []

    async def scenario() -> list[GapReason]:
        server = await picows.ws_create_server(lambda _: Deaf(send(b"leave"), []), "127.0.0.1", 0)
        handler = Leaving()
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        sessions.append(Session(url, handler, LIMIT_BYTES, silence_s=0.0))
        task = asyncio.create_task(sessions[0].run())
        async with asyncio.timeout(8):
            while sessions[0].connections < 2:
                await asyncio.sleep(0.005)
        await sessions[0].stop()
        await task
        server.close()
        return handler.closes

    assert asyncio.run(scenario())[0] == GapReason.ANNOUNCED


def test_a_calm_minute_makes_the_next_announcement_the_first() -> None:
    """Both sides of CALM_S: within it the next link is kept longer, beyond it not at all."""
    now = [0.0]
    with clock.replaced(steady=lambda: int(now[0] * 1e9)):
        backoff = Backoff(random.Random(1))
        kept = []
        for pause in (0.0, CALM_S, CALM_S + 0.001, 0.0, 0.0):
            now[0] += pause
            kept.append(backoff.renewal_delay_s())
    assert kept == [0.0, 1.0, 0.0, 1.0, 3.0]
