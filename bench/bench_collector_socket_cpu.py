"""What does the collector's path cost above the WebSocket library itself, at 10,000 frames a second over a real socket?

    server (forked) ──TCP, loopback──> a blocking recv, nothing looked at                          the kernel's part
    server (forked) ──TCP, loopback──> picows ──> empty callback                                   the library's
    server (forked) ──TCP, loopback──> picows ──> session ──> decoder ──> ring                     ours

Kraken's recording, over and over, in one write a millisecond; the same for both, in turn. Inside the measured window: the CPU
time of the receiving process (`time.process_time`, kernel included) over some seconds of frames, as a share of a core, at the
rate asked for. `above_empty` is the difference. Outside: the server, which is another process. The receiver must get frames
at the rate, decode each without a refusal, and find every record in the ring, else the bench fails.

    python bench/bench_collector_socket_cpu.py [--smoke] [--cpu N] [--captures FOLDER]
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog
from conditions import conditions
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from collectors.captures import Capture, find_captures
from collectors.instruments import InstrumentTable
from collectors.kraken_v1 import KrakenV1
from collectors.session import Session
from layouts import EVENT, INSTRUMENT, GapReason
from shm.outlet import Outlet
from shm.producer import open_private

RUNS = {"smoke": 1, "real": 5}
SECONDS = {"smoke": 0.5, "real": 3.0}
RATE_PER_S = 10_000
LEAST_SHARE = {"smoke": 0.0, "real": 0.9}
"""Of the rate that the receiver must have got."""
TICK_S = 0.001
RECORDING = "kraken_v1_book_10pairs.jsonl.gz"
MAX_BYTES = 16 << 20


class Player(WSListener):
    """The server's side of a link: so many frames a tick until the link ends."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = frames
        self.task: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self.task = asyncio.ensure_future(self._play(transport))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        del transport
        if self.task:
            self.task.cancel()

    async def _play(self, transport: WSTransport) -> None:
        sent, began = 0, time.monotonic()
        while True:
            due = int((time.monotonic() - began) * RATE_PER_S)
            for i in range(sent, due):
                transport.send(WSMsgType.TEXT, self.frames[i % len(self.frames)])
            sent = max(sent, due)
            await asyncio.sleep(TICK_S)


def serve(frames: list[bytes], told: Connection) -> None:
    """Run the server in its own process; its port goes through the pipe, and its end ends it."""

    async def run() -> None:
        server = await ws_create_server(lambda _: Player(frames), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        done = asyncio.Event()
        asyncio.get_running_loop().add_reader(told.fileno(), done.set)
        await done.wait()

    asyncio.run(run())


class Empty(WSListener):
    """The least that can be done with a frame: count it."""

    def __init__(self) -> None:
        self.frames = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count."""
        del transport, frame
        self.frames += 1


class Collecting:
    """A session's handler over a decoder and a private ring."""

    def __init__(self) -> None:
        self.events, *_ = open_private("bench", EVENT, 1 << 16, [])
        self.table, *_ = open_private("bench", INSTRUMENT, 256, [])
        self.outlet = Outlet(self.events)
        table = InstrumentTable("bench", "kraken", 1, 64, self.table)
        self.decode = KrakenV1(self.outlet, table, accept_any=True).decode
        self.frames = 0

    def on_open(self, ts_recv: int) -> Iterable[bytes]:
        """Nothing is asked for."""
        del ts_recv
        return ()

    def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
        """Decode and publish."""
        self.frames += 1
        self.decode(frame, ts_recv)
        return ()

    def probe(self) -> Iterable[bytes]:
        """No probe."""
        return ()

    def on_too_large(self, n_bytes: int, ts_recv: int) -> None:
        """No frame of the recording is."""

    def on_close(self, reason: GapReason, ts_recv: int) -> None:
        """The end of the run."""

    def close(self) -> None:
        """Check what was done."""
        counts = self.outlet.counts()
        if counts["frames_decoded"] != self.frames:
            sys.exit(f"{self.frames} frames came, {counts['frames_decoded']} were decoded")
        if self.events.next_seq - 1 != counts["records_published"]:
            sys.exit("records are missing in the ring")
        self.events.close()
        self.table.close()


async def share_of_core(
    count: Callable[[], int], seconds: float, scale: str
) -> tuple[float, float]:
    """Wait for the first frame, then return (share of a core in CPU time, frames a second) over the window."""
    for _ in range(2000):
        if count():
            break
        await asyncio.sleep(0.005)
    began, cpu, first = time.monotonic(), time.process_time(), count()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    rate = (count() - first) / elapsed
    if rate < LEAST_SHARE[scale] * RATE_PER_S:
        sys.exit(f"{rate:.0f} frames/s came, {RATE_PER_S} were wanted: the machine is too busy")
    return (time.process_time() - cpu) / elapsed * RATE_PER_S / max(rate, 1), rate


def kernel_run(port: int, scale: str) -> float:
    """The kernel alone: what no receive path of any language can do without, but by fewer system calls."""
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        link.recv_into(buffer)
        began, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - began < SECONDS[scale]:
            if not link.recv_into(buffer):
                sys.exit("the server ended the link")
        return (time.process_time() - cpu) / (time.monotonic() - began)


async def empty_run(port: int, scale: str) -> tuple[float, float]:
    """The library alone."""
    listener = Empty()
    url = f"ws://127.0.0.1:{port}/"
    transport, _ = await ws_connect(lambda: listener, url, max_frame_size=MAX_BYTES)
    result = await share_of_core(lambda: listener.frames, SECONDS[scale], scale)
    transport.disconnect()
    await transport.wait_disconnected()
    return result


async def our_run(port: int, scale: str) -> tuple[float, float]:
    """Session, decoder and ring."""
    handler = Collecting()
    session = Session(f"ws://127.0.0.1:{port}/", handler, MAX_BYTES, 0.0)
    running = asyncio.create_task(session.run())
    try:
        return await share_of_core(lambda: handler.frames, SECONDS[scale], scale)
    finally:
        await session.stop()
        await running
        handler.close()


def main() -> None:
    """Measure in turn and print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpu", type=int, default=-1, help="core to receive on (-1: any)")
    parser.add_argument("--captures", type=Path, default=find_captures())
    given = parser.parse_args()
    if given.captures is None:
        sys.exit("no recordings: set TICKRING_CAPTURES to their folder; nothing was measured")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    scale = "smoke" if given.smoke else "real"
    frames = [f.data for f in Capture(given.captures / RECORDING) if f.kind == "recv"]
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    server = multiprocessing.get_context("fork").Process(
        target=serve, args=(frames, theirs), daemon=True
    )
    server.start()
    if given.cpu >= 0:
        os.sched_setaffinity(0, {given.cpu})
    shares: dict[str, list[float]] = {"kernel": [], "empty": [], "ours": []}
    rates = []
    try:
        port = ours.recv()
        for _ in range(RUNS[scale]):
            shares["kernel"].append(kernel_run(port, scale))
            for name, run in (("empty", empty_run), ("ours", our_run)):
                share, rate = asyncio.run(run(port, scale))
                shares[name].append(share)
                rates.append(rate)
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        server.join(5)
    above = [our - nothing for our, nothing in zip(shares["ours"], shares["empty"], strict=True)]
    figures: dict[str, Any] = {
        "kernel_percent": round(100 * statistics.median(shares["kernel"]), 2),
        "empty_percent": round(100 * statistics.median(shares["empty"]), 2),
        "ours_percent": round(100 * statistics.median(shares["ours"]), 2),
        "above_empty_percent": round(100 * statistics.median(above), 2),
        "above_empty_percent_range": [round(100 * min(above), 2), round(100 * max(above), 2)],
        "frames_per_s": round(min(rates)),
    }
    line = {"bench": Path(__file__).stem, **conditions(scale, given.cpu), "figures": figures}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
