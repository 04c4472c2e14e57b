"""A capture without a venue: frames of known length and content, records published as a decoder would, files read back."""

import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from collectors import wslog_writer
from collectors.wslog import About, WsLog
from collectors.wslog_writer import Capture, CaptureSpec
from layouts import EVENT, Entry, Kind
from ops.replay import chunks_of
from ops.replay_player import Player
from ops.replay_recording import recordings_of
from shm import region as regions
from shm.counters import Counters
from shm.producer import open_ring
from shm.region import ring_name
from shm.registry import files_of

WORKER = "feed"
EXCLUDED_KINDS = (Kind.HEARTBEAT, Kind.STATE, Kind.RESTART)
EXCLUDED_COLUMNS = ("stamp", "publish_delta_ns")
HEADER = struct.Struct("<8sIIqqqq16sIIII48s")
ENTRY = struct.Struct("<IIIIqqqqIIBBHI")
"""The two layouts, written down a second time from their tables."""


class Kept:
    """One entry as a plain program reads it, with struct and zlib alone."""

    def __init__(self, raw: bytes, at: int) -> None:
        fields = ENTRY.unpack_from(raw, at)
        (self.magic, header_crc, n_bytes, crc, self.entry_no, self.ts, self.epoch) = fields[:7]
        (self.first_seq, self.records, self.connection, self.entry, self.status, key, _) = fields[
            7:
        ]
        begin = at + ENTRY.size
        self.end = begin + n_bytes
        self.key, self.data = raw[begin : begin + key], raw[begin + key : self.end]
        assert zlib.crc32(raw[at + 8 : begin]) == header_crc
        assert len(raw) >= self.end and zlib.crc32(raw[begin : self.end]) == crc


def parse(path: Path) -> list[Kept]:
    """Read a sound file by the table in layouts/wslog.py, without any code of the project."""
    raw = path.read_bytes()
    at = HEADER.unpack_from(raw)[1]
    found = []
    while at < len(raw):
        found.append(Kept(raw, at))
        at = found[-1].end
    return found


def read(path: Path) -> tuple[WsLog, list[bytes], np.ndarray]:
    """Read a file as the project does: the log, the payloads, the headers."""
    log = WsLog(path)
    payloads: list[bytes] = []
    headers = []
    for batch in log.batches():
        headers.append(batch.entries)
        payloads += [key + data for *_, key, data in batch.rows()]
    return log, payloads, np.concatenate(headers) if headers else np.empty(0)


def frames(n: int, seed: int = 1, longest: int = 400) -> list[bytes]:
    """Make frames of every length up to `longest`, the empty one among them."""
    rng = random.Random(seed)
    return [rng.randbytes(rng.randrange(longest) if i else 0) for i in range(n)]


class Feed:
    """The capture of one collector process; `end` in good order, or `die` as by SIGKILL."""

    def __init__(
        self, instance, worker: str = WORKER, told: dict[str, object] | None = None, **spec: object
    ) -> None:
        self.instance = instance.name
        self.worker = worker
        self.told = told or {}
        """Of the collector, beside what every feed says of itself."""
        self.folder = instance.state_dir / "wslog"
        self.counters = Counters.create(
            self.instance, worker, ("frames_in", *wslog_writer.COUNTERS)
        )
        name = ring_name(self.instance, worker, "events")
        self.events = open_ring(name, EVENT, 4096, instance.state_dir)
        self.capture = Capture(
            CaptureSpec(**{"folder": str(self.folder), "free_bytes_min": 0} | spec),
            self.instance,
            worker,
            self.counters,
            self.events,
            self.about,
        )
        self.capture.recover()
        self.record = np.zeros(3, EVENT)
        self.record["kind"] = Kind.TRADE

    def about(self) -> bytes:
        import msgspec

        return msgspec.json.encode(
            About(
                **{
                    "instance": self.instance,
                    "venue": "kraken_v2",
                    "venue_name": "kraken",
                    "url": "wss://venue",
                    "max_frame_bytes": 1,
                    "first_instrument_id": 1,
                    "instrument_ids": 1,
                }
                | self.told
            )
        )

    def start(self) -> "Feed":
        self.capture.start()
        self.decode = self.capture.through(self.publish)
        return self

    def publish(self, frame: bytes, ts: int) -> int:
        """Become as many records as the frame's length says: 0 to 3."""
        if records := len(frame) % 4:
            self.events.publish_batch(self.record[:records])
        return 0

    def take(self, frame: bytes, ts: int = 5) -> int:
        self.counters.add("frames_in")
        return self.decode(frame, ts)

    def values(self) -> dict[str, int]:
        names = ("frames_in", *wslog_writer.COUNTERS)
        return {n.removeprefix("capture_"): self.counters.get(n) for n in names}

    def files(self) -> list[Path]:
        return sorted((self.folder / self.worker).glob("*.wslog"))

    def settle(self, wait_for) -> None:
        """Tick until something holds."""
        import time

        end = time.monotonic() + 30
        while not wait_for():
            assert time.monotonic() < end, self.values()
            self.capture.tick()
            time.sleep(0.002)

    def end(self) -> None:
        self.capture.stop()
        self.events.stop()
        self.die()

    def die(self) -> None:
        """Let go of everything as death does: regions stay, locks are released."""
        if self.capture.is_on:
            self.capture._disk.finish(10)
        self.events.close()
        self.counters._lock.release()


def clean(instance: str) -> None:
    """Remove the regions of an instance whose processes are gone."""
    for file in files_of(instance):
        regions.unlink(file)


def entries_of(paths: list[Path], *kinds: Entry) -> Iterator[Kept]:
    """Yield the entries of these kinds (all, where none is named) of files, in order."""
    for path in paths:
        yield from (e for e in parse(path) if not kinds or e.entry in kinds)


def replayed(files: list[Path]) -> np.ndarray:
    """Return every record that a replay publishes."""
    [recording] = recordings_of(files)
    player = Player(recording, 1 << 16)
    found = []
    for chunk in chunks_of(recording.frames(), player.half):
        player.play(chunk)
        found += [records.copy() for records, _ in player.events.drain()]
        for _ in player.instruments.drain():
            pass
    return np.concatenate(found)


def data_of(records: np.ndarray) -> np.ndarray:
    return records[~np.isin(records["kind"], EXCLUDED_KINDS)]


def equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert len(ours) == len(theirs)
    for name in set(EVENT.names) - set(EXCLUDED_COLUMNS):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
