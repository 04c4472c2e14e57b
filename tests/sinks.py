"""What the tests of the sinks share: a Redis server to kill, rings to fill, workers as real processes."""

import asyncio
import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import redis
from conftest import Instance

from layouts import EVENT, INSTRUMENT, InstrumentState, Kind, make_marks
from ops.options import Topology
from ops.redis_server import find_server
from shm import region as regions
from shm.counters import read_counters
from shm.errors import AttachError
from shm.producer import Producer, open_ring
from shm.region import ring_name
from shm.registry import files_of
from shm.worker import WorkerSpec

DEADLINE_S = 60.0
PRICE_SCALE, QTY_SCALE = 2, 8


def until(what: str, holds: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Wait for something that is going to hold; the deadline only ends a test that has failed."""
    give_up = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < give_up, f"never: {what}"
        time.sleep(0.005)


def remove_regions(instance: Instance) -> None:
    """Unlink what the instance has in shared memory."""
    for file in files_of(instance.name):
        regions.unlink(file)


class RedisServer:
    """A server as the supervisor starts it; `start` again after a kill finds its log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        """Start it; wait until it has loaded its log."""
        command = [find_server(Topology()), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self.directory), "--save", "", "--appendonly", "yes"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        if wait:
            until("Redis answers", self.answers)

    def answers(self) -> bool:
        """Whether it serves now."""
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        """Return a client of its own for the test."""
        return redis.Redis.from_url(self.url)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Worker:
    """A worker as its own process."""

    def __init__(self, module: str, spec: WorkerSpec, folder: Path) -> None:
        self.module, self.spec = module, spec
        self.path = folder / f"{spec.worker}.json"
        self.log = folder / f"{spec.worker}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: bool = True) -> "Worker":
        """Start it; wait until it says READY."""
        self.path.write_bytes(msgspec.json.encode(self.spec))
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", self.module, str(self.path)]
            self.process = subprocess.Popen(command, stderr=log)
        if ready:
            until(f"{self.spec.worker} is READY", self.is_ready)
        return self

    def is_ready(self) -> bool:
        """READY, and it is this process that says so."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            facts = read_counters(self.spec.instance, self.spec.worker)
        except AttachError:
            return False
        return facts.pid == self.process.pid and facts.state == "READY"

    def counters(self) -> dict[str, int]:
        """Return its counters."""
        return read_counters(self.spec.instance, self.spec.worker).values

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait for the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def logged(self) -> list[dict[str, object]]:
        """Return its log lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]


class Feed:
    """A collector's rings without its socket: `<worker>.events` and `<worker>.instruments`."""

    def __init__(
        self, place: Instance, worker: str = "feed", slots: int = 1 << 14, first_id: int = 1
    ) -> None:
        self.place, self.worker, self.slots, self.first_id = place, worker, slots, first_id
        self.instruments = open_ring(
            ring_name(place.name, worker, "instruments"), INSTRUMENT, 64, place.state_dir
        )
        self.events = self.open_events()
        self.published = 0

    def open_events(self) -> Producer:
        """Open, or take over, the events ring."""
        name = ring_name(self.place.name, self.worker, "events")
        return open_ring(name, EVENT, self.slots, self.place.state_dir)

    @property
    def ring(self) -> str:
        """Public name of the events ring."""
        return f"{self.worker}.events"

    def add_instrument(
        self, symbol: str, offset: int = 0, version: int = 1, price_scale: int = PRICE_SCALE
    ) -> int:
        """Put an instrument into the table; returns its id."""
        row = np.zeros(1, INSTRUMENT)
        row["instrument_id"], row["kind"], row["version"] = (
            self.first_id + offset,
            Kind.INSTRUMENT,
            version,
        )
        row["price_scale"], row["qty_scale"] = price_scale, QTY_SCALE
        row["venue"], row["symbol"], row["worker"] = b"kraken", symbol.encode(), self.worker
        self.instruments.publish_batch(row)
        return self.first_id + offset

    def trades(self, n: int, instrument_id: int | None = None) -> None:
        """Publish n trades; price, qty and id all follow from the count, so that each can be checked."""
        rows = np.zeros(n, EVENT)
        numbers = np.arange(self.published + 1, self.published + n + 1)
        rows["kind"] = Kind.TRADE
        rows["instrument_id"] = self.first_id if instrument_id is None else instrument_id
        rows["marks"] = make_marks(InstrumentState.LIVE, side=1, last_in_frame=True)
        rows["ts_event"] = numbers * 1_000_000
        rows["ts_recv"] = numbers * 1_000_000 + 500
        rows["word_0"], rows["word_1"], rows["word_2"] = numbers, numbers * 3, numbers
        self.events.publish_batch(rows)
        self.published += n

    def record(self, kind: Kind, *words: int, instrument_id: int = 1) -> int:
        """Publish one record of another kind; returns its seq."""
        row = np.zeros(1, EVENT)
        row["kind"], row["instrument_id"] = kind, instrument_id
        for i, word in enumerate(words):
            row[f"word_{i}"] = word
        return self.events.publish_batch(row)

    def crash(self) -> None:
        """End the events producer as a kill would, and take the ring over under the next epoch."""
        self.events.close()
        self.events = self.open_events()

    def close(self) -> None:
        """Leave both rings."""
        self.events.close()
        self.instruments.close()


def entries(server: RedisServer, stream: str) -> list[tuple[str, dict[str, str]]]:
    """Return a whole stream as text."""
    found = server.client().xrange(stream)
    return [(i.decode(), {k.decode(): v.decode() for k, v in f.items()}) for i, f in found]


class Proxy:
    """Stands before a Redis server: passes on, drops replies after the server has worked, or answers itself.

    Args:
        server: the socket path behind it.
        folder: where its own socket is made.
    """

    def __init__(self, server: Path, folder: Path) -> None:
        self.path = folder / "proxy.sock"
        self.url = f"unix://{self.path}"
        self.drop_probability = 0.0
        self.doomed_word = b"XADD"
        """Requests that hold it may lose their replies."""
        self.answer: bytes | None = None
        """An error that each command gets in place of the server's reply, e.g. b"-LOADING ..."."""
        self.dropped = self.answered = 0
        self._server = server
        self._random = random.Random(7)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        listener = await asyncio.start_unix_server(self._handle, self.path)
        self._ready.set()
        async with listener:
            await self._stop.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close

    async def _handle(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, forth = await asyncio.open_unix_connection(self._server)
        except OSError:
            back.close()
            return
        doomed = asyncio.Event()
        replies = asyncio.create_task(self._pass_back(far, back, doomed))
        try:
            while request := await near.read(1 << 20):
                if self.answer is not None:
                    commands = len(re.findall(rb"(?m)^\*\d+\r$", request))
                    self.answered += commands
                    back.write(self.answer * commands)
                    await back.drain()
                    continue
                if self.doomed_word in request and self._random.random() < self.drop_probability:
                    doomed.set()
                    self.dropped += 1
                forth.write(request)
                await forth.drain()
                if doomed.is_set():
                    await asyncio.sleep(0.005)  # the server works on it; its reply is dropped
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            replies.cancel()
            forth.close()
            back.close()

    @staticmethod
    async def _pass_back(
        far: asyncio.StreamReader, back: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while reply := await far.read(1 << 20):
                if doomed.is_set():
                    return
                back.write(reply)
                await back.drain()
            back.close()
