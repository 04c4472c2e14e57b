"""A venue on this host: Kraken's own protocols over a real WebSocket, from recordings or a seed.

``python -m collectors.venue_server spec.json`` listens on 127.0.0.1, tells its port in the counter
`listen_port`, and serves the paths ``/kraken_v1`` and ``/kraken_v2``, each a market of its own.

**Failure** A specification or recording that cannot be served ends the process with status 2 and
one sentence; a port that is taken, with 1 (a supervisor tries again). SIGTERM closes every
connection with close code 1001 and ends with 0. After a kill the tape starts anew, so a client sees
a reconnect and a fresh snapshot.

**Cost** A listener's transport buffers at most `WRITE_BUFFER_BYTES` and one frame.

**See** `venue_market` for when frames are sent, `venue_tape` and `synthetic` for what they are,
`venue_dialect_v1` and `venue_dialect_v2` for how they read, `venue_faults` for misbehaviour.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Literal

import structlog
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from collectors.captures import CaptureError
from collectors.synthetic import SyntheticSpec, SyntheticTape
from collectors.venue_dialect import Dialect, Stream
from collectors.venue_faults import Fault, Faults
from collectors.venue_library import capture_tapes, dialects
from collectors.venue_market import ClientDesk, Market, Speed, Tally
from collectors.venue_tape import Tape
from shm import clock
from shm.counters import Counters
from shm.worker import EXIT_CONFIGURATION, WorkerSpec, run_worker

HOST = "127.0.0.1"
WRITE_BUFFER_BYTES = 256 * 1024
# A request is a short text; anything longer is no client of ours.
MAX_REQUEST_BYTES = 256 * 1024
# How often counters reach shared memory, and how long clients have to answer a close frame.
FLUSH_S = 0.25
CLOSE_S = 1.0
# The event loop may wake up so much too late.
FINE_S = 0.0015

_TALLIED = tuple(name for name in vars(Tally()) if name != "tape_done")
COUNTERS = (
    "listen_port",
    "connections",
    "connections_open",
    "tape_frames",
    "tape_done",
    "faults_injected",
    "recordings_truncated",
    *_TALLIED,
    *(f"{path}.tape_done" for path in ("kraken_v1", "kraken_v2")),
)


class VenueServerSpec(WorkerSpec):
    """What the venue plays, and how.

    Either `captures` (paths; files of both protocols and of `AssetPairs` may be mixed) or
    `synthetic`. `speed` is a factor of recorded time, or "max": as fast as every listener takes
    it. `port` 0 takes a free one. `unheard` says what a tape does while nobody listens: "hold" it,
    or "play" on as a real market does; "auto" plays a synthetic market, unless at speed "max", and
    holds a recording. After a tape's end heartbeats go on.
    """

    port: int = 0
    captures: tuple[str, ...] = ()
    tolerate_truncation: bool = False
    synthetic: SyntheticSpec | None = None
    speed: Speed = 1.0
    grace_s: float = 1.0
    unheard: Literal["auto", "hold", "play"] = "auto"
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.captures) == (self.synthetic is not None):
            raise ValueError("the venue plays either captures or a synthetic market: give one")
        if self.speed != "max" and not self.speed > 0:
            raise ValueError(f'speed {self.speed}; it is a factor above 0, or "max"')
        if not 0 <= self.port < 65536:
            raise ValueError(f"port {self.port}; it is 0 (any free one) or at most 65535")

    def holds_unheard(self) -> bool:
        """Tell whether a tape waits while nobody listens."""
        if self.unheard == "auto":
            return self.synthetic is None or self.speed == "max"
        return self.unheard == "hold"


class LoopTiming:
    """The clock of a market that lives: the event loop's waits, the project's own clock."""

    def now_ns(self) -> int:
        """Monotonic time."""
        return clock.monotonic_ns()

    async def sleep(self, duration_s: float) -> None:
        """Wait, or end up to FINE_S early; 0 lets everything else have a turn.

        The event loop counts in ms; the last of them is slept off here, so that frames leave at their time.
        """
        if 0 < duration_s <= FINE_S:
            await asyncio.sleep(0)
            time.sleep(duration_s)  # noqa: ASYNC251 - FINE_S at most, and others had their turn
        else:
            await asyncio.sleep(max(0.0, duration_s - FINE_S))


class Connection(WSListener):
    """One client of one market."""

    def __init__(self, market: Market, connection_no: int, connections: set[Connection]) -> None:
        super().__init__()
        self.streams: set[Stream] = set()
        self.is_stuck = False
        self._market = market
        self._connection_no = connection_no
        self._connections = connections
        self._desk = ClientDesk(market, self)
        self._drained = asyncio.Event()
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        self._transport = transport
        self._connections.add(self)
        transport.underlying_transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.send(self._market.dialect.greeting(self._connection_no))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the market; whoever waits for this socket waits no longer."""
        del transport
        self._market.forget(self)
        self._connections.discard(self)
        self._transport = None
        self.resume_writing()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a request."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT and frame.fin:
            request = frame.get_payload_as_bytes()
            reply = self._market.dialect.answer(self._desk, request, clock.now_ns())
            self._market.tally.subscribe_errors += reply.refused
            for data in reply.frames:
                self.send(data)
        elif frame.msg_type not in (WSMsgType.PING, WSMsgType.PONG):
            transport.send_close(WSCloseCode.UNSUPPORTED_DATA, b"requests are whole text frames")
            transport.disconnect()

    def pause_writing(self) -> None:
        """Note that the socket takes no more."""
        self.is_stuck = True
        self._drained.clear()

    def resume_writing(self) -> None:
        """Note that it does again."""
        self.is_stuck = False
        self._drained.set()

    def send(self, data: bytes) -> None:
        """Hand one text frame to the socket."""
        transport = self._transport
        # A broken connection is told only on the loop's next turn, after more sends.
        if transport is not None and not transport.underlying_transport.is_closing():
            transport.send(WSMsgType.TEXT, data)
            self._market.tally.frames_sent += 1

    async def unstuck(self, timeout_s: float) -> bool:
        """Wait until the socket takes more; False when it did not in time."""
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def cut(self, *, is_abrupt: bool) -> None:
        """Close the connection, with close code 1001 or without a word."""
        if self._transport is None:
            return
        if not is_abrupt:
            self._transport.send_close(WSCloseCode.GOING_AWAY, b"the venue is closing")
        self._transport.disconnect(graceful=not is_abrupt)


class VenueServer:
    """The listening socket, its markets, and what they count."""

    def __init__(self, markets: dict[str, Market], port: int, counters: Counters) -> None:
        self.markets = markets
        self.port = port
        self._counters = counters
        self._connections: set[Connection] = set()
        self._flushed = dict.fromkeys(_TALLIED, 0)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to close."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`; raises what a market raised."""
        counters = self._counters
        server = await ws_create_server(
            self._accept, HOST, self.port, max_frame_size=MAX_REQUEST_BYTES
        )
        self.port = server.sockets[0].getsockname()[1]
        counters.set("listen_port", self.port)
        counters.set("tape_frames", sum(market.tape.frames for market in self.markets.values()))
        truncated = sum(market.tape.recordings_truncated for market in self.markets.values())
        counters.set("recordings_truncated", truncated)
        self._flush()
        counters.set_state("READY")
        jobs = [asyncio.ensure_future(self._stop.wait()), asyncio.ensure_future(self._flushing())]
        for market in self.markets.values():
            jobs.append(asyncio.ensure_future(market.beat()))
            jobs.append(asyncio.ensure_future(self._playing(market)))
        done, pending = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        counters.set_state("DRAINING")
        for job in pending:
            job.cancel()
        server.close()
        await self._close()
        self._flush()
        counters.set_state("STOPPED")
        for job in done:
            job.result()

    def _accept(self, request: WSUpgradeRequest) -> Connection | None:
        market = self.markets.get(request.path.decode(errors="replace").strip("/"))
        if market is None:
            return None
        self._counters.add("connections", 1)
        return Connection(market, self._counters.get("connections"), self._connections)

    async def _playing(self, market: Market) -> None:
        await market.play()
        self._flush()
        await asyncio.Event().wait()

    async def _flushing(self) -> None:
        while True:
            self._flush()
            await asyncio.sleep(FLUSH_S)

    def _flush(self) -> None:
        """Copy the tallies into shared memory: what was sent before what is done."""
        counters = self._counters
        markets = self.markets.values()
        for name, before in self._flushed.items():
            now = sum(getattr(market.tally, name) for market in markets)
            counters.add(name, now - before)
            self._flushed[name] = now
        counters.set("connections_open", len(self._connections))
        counters.set("faults_injected", sum(market.faults.injected for market in markets))
        for market in markets:
            counters.set(f"{market.dialect.name}.tape_done", market.tally.tape_done)
        counters.set("tape_done", int(all(market.tally.tape_done for market in markets)))
        counters.heartbeat()

    async def _close(self) -> None:
        """Say goodbye, and wait a moment for the clients to take it."""
        for connection in list(self._connections):
            connection.cut(is_abrupt=False)
        waited = 0.0
        while self._connections and waited < CLOSE_S:
            await asyncio.sleep(0.01)
            waited += 0.01


def build_markets(spec: VenueServerSpec) -> dict[str, Market]:
    """Make the markets of a specification; `CaptureError` where a recording cannot be played."""
    tapes: list[tuple[Dialect, Tape]]
    if spec.synthetic is not None:
        synthetic = spec.synthetic
        tapes = [(dialect, SyntheticTape(synthetic, dialect.name)) for dialect in dialects()]
    else:
        tapes = capture_tapes(spec.captures, tolerate_truncation=spec.tolerate_truncation)
    return {
        dialect.name: Market(
            dialect,
            tape,
            LoopTiming(),
            speed=spec.speed,
            grace_s=spec.grace_s,
            holds_unheard=spec.holds_unheard(),
            faults=Faults(dialect.name, spec.faults),
        )
        for dialect, tape in tapes
    }


@contextlib.contextmanager
def _beating(counters: Counters) -> Iterator[None]:
    """Keep the heartbeat going while long recordings are read."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(FLUSH_S):
            counters.heartbeat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


async def _serve(server: VenueServer, counters: Counters) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    try:
        await server.run()
    except (CaptureError, OSError) as error:
        structlog.get_logger().error("the venue has stopped", error=str(error))
        counters.set_state("FAILED")
        return 1
    return 0


def main(spec: VenueServerSpec) -> int:
    """Serve a specification until SIGTERM; the exit status."""
    counters = Counters.create(
        spec.instance, spec.worker, names=COUNTERS, reader_group=spec.reader_group
    )
    try:
        with _beating(counters):
            server = VenueServer(build_markets(spec), spec.port, counters)
    except (CaptureError, OSError) as error:
        structlog.get_logger().error("the venue has nothing to play", error=str(error))
        counters.set_state("FAILED")
        return EXIT_CONFIGURATION
    return asyncio.run(_serve(server, counters))


if __name__ == "__main__":
    run_worker(VenueServerSpec, main)
