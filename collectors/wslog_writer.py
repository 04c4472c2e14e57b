"""A capture keeps every frame of a collector verbatim with what it became, for a fraction of a us a frame.

**Protocol** A frame is copied into shared memory before it is decoded, and its records are named after (wslog_api.h). Every
`tick` what has gathered goes to the disk's thread (`wslog_disk`); at each UTC hour a new file begins.

**Failure** kill -9 of the collector loses nothing that was in the staging region: its successor, or whoever brings the
instance down, writes it to the last file (`salvage`); the frame in hand is kept as IN_HAND. Lost can be: frames that came
while both halves waited for a stuck disk, and after the disk failed (counted, alarmed, tried again every `retry_s`); a
large entry (a snapshot longer than half of `buffer_bytes`) that was on its way; a power cut: what `fsync_s` allows.

**Cost** bench_wslog_capture: two C calls and a copy a frame. The region takes `buffer_bytes` of /dev/shm.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from collectors.wslog import SUFFIX, Header, pack_header
from collectors.wslog_disk import Disk, Half, Large, NewFile
from collectors.wslog_salvage import salvage, stage_file
from layouts import Entry
from layouts.wslog import STATUS_ABANDONED, STATUS_IN_HAND
from shm import clock
from shm import region as regions
from shm._native import ffi, lib
from shm.counters import Counters
from shm.errors import NoSpace
from shm.producer import Producer

HOUR_NS = 3_600_000_000_000
FINISH_S = 5.0
COUNTERS = (
    "capture_on",
    "capture_failed",
    "capture_frames",
    "capture_lost",
    "capture_unasked",
    "capture_bytes",
    "capture_files",
    "capture_accounted",
)
"""on: 1 while frames are kept. failed: 1 while the disk takes nothing. frames: kept. lost: came meanwhile and not kept.
unasked: came while nobody wanted them kept. accounted: frames_in as these were counted = frames + lost + unasked."""

Decode = Callable[[bytes, int], int]

log = structlog.get_logger()


class CaptureSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How frames are kept."""

    folder: str
    is_on: bool = False
    fsync_s: float = 1.0
    buffer_bytes: int = 1 << 20
    free_bytes_min: int = 256 << 20
    retry_s: float = 5.0


def switch_file(state_dir: str | Path, worker: str) -> Path:
    """Return the file that, while it is there, has a collector capture; it looks once a second."""
    return Path(state_dir) / "run" / f"{worker}.capture"


class Capture:
    """The frames of one collector process; nothing is kept before `start`."""

    def __init__(
        self,
        spec: CaptureSpec | None,
        instance: str,
        worker: str,
        counters: Counters,
        events: Producer,
        about: Callable[[], bytes],
    ) -> None:
        self.spec = spec
        self.is_on = False
        self._instance = instance
        self._worker = worker
        self._counters = counters
        self._events = events
        self._about = about
        self._stage = ffi.new("tr_stage *")
        self._large = b""
        self._part = 0
        self._next_entry_no = 1
        self._hour = 0
        self._retry_ns = 0
        self._lost_told = 0

    # ---- life ----

    def recover(self) -> None:
        """Finish the file of a predecessor that was killed, and close its account."""
        rescued = salvage(self._instance, self._worker)
        if rescued is None:
            return
        get = self._counters.get
        self._counters.set("capture_frames", rescued.frames)
        self._counters.set("capture_lost", rescued.frames_lost)
        accounted = rescued.frames + rescued.frames_lost + get("capture_unasked")
        self._counters.add("capture_lost", max(0, get("frames_in") - accounted))
        log.warning("capture of the process before finished", **rescued._asdict())

    def start(self) -> None:
        """Begin to keep frames; where that cannot be, it is told, counted, and the feed goes on."""
        if self.spec is None or self.is_on:
            return
        half_bytes = self.spec.buffer_bytes // 2
        file = stage_file(self._instance, self._worker)
        try:
            regions.unlink(file)
            self._region = regions.create(file, lib.TR_STAGE_HEAD_BYTES + 2 * half_bytes)
        except NoSpace as error:
            self._counters.set("capture_failed", 1)
            log.error("no capture", error=str(error))
            return
        stage = self._stage
        lib.tr_stage_open(
            stage, self._region.pointer, half_bytes, self._events.handle, self._events.epoch
        )
        folder = Path(self.spec.folder) / self._worker
        ffi.buffer(stage.head.path)[: len(bytes(folder))] = bytes(folder)
        kept, lost = self._counters.get("capture_frames"), self._counters.get("capture_lost")
        stage.head.next_entry_no = self._next_entry_no
        stage.head.frames, stage.head.frames_lost = kept + lost, lost
        self.tick()  # what came until now was not asked for
        self._halves = memoryview(ffi.buffer(self._region.pointer))[lib.TR_STAGE_HEAD_BYTES :]
        self._half_bytes = half_bytes
        self._disk = Disk(stage.head, self.spec.fsync_s, self.spec.free_bytes_min)
        self._lost_told = 0
        self._hour = clock.now_ns() // HOUR_NS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.error("capture folder", folder=str(folder), error=error.strerror)
        self._disk.open(self._new_file())
        self._disk.start()
        self.is_on = True
        self.tick()

    def stop(self) -> None:
        """End the file and keep nothing more."""
        if not self.is_on:
            return
        self.note(Entry.END, clock.now_ns())
        until_ns = clock.monotonic_ns() + int(FINISH_S * 1e9)
        while not self._hand_over() and clock.monotonic_ns() < until_ns:
            time.sleep(0.001)
        self.is_on = False
        is_done = self._disk.finish(FINISH_S)
        self._tell()
        self._part += 1
        self._next_entry_no = int(self._stage.head.next_entry_no)
        if not is_done:
            log.error("the disk did not take the captured frames in time", within_s=FINISH_S)
            return  # the staging region keeps them for `salvage`
        self._halves.release()
        self._region.close()
        regions.unlink(stage_file(self._instance, self._worker))

    # ---- what happens ----

    def through(self, decode: Decode) -> Decode:
        """Return `decode` with every frame kept on its way; the function itself while capture is off."""
        if not self.is_on:
            return decode
        stage, begin, end = self._stage, lib.tr_stage_frame, lib.tr_stage_end

        def decode_kept(frame: bytes, ts_recv: int) -> int:
            unkept = begin(stage, frame, len(frame), ts_recv)
            if unkept:
                self._make_room(Entry.FRAME, STATUS_IN_HAND, b"", frame, ts_recv, unkept)
            try:
                status = decode(frame, ts_recv)
            except BaseException:
                # A staged entry is ended as abandoned by the next one, so that the GAP to come is still its own.
                if self._large and end(stage, STATUS_ABANDONED):
                    self._submit_large()
                raise
            if end(stage, status):
                self._submit_large()
            return status

        return decode_kept

    @contextlib.contextmanager
    def entry(
        self, entry: Entry, ts: int, payload: bytes = b"", key: bytes = b"", status: int = 0
    ) -> Iterator[None]:
        """Keep an event; the records that the block publishes are its own."""
        if not self.is_on:
            yield
            return
        texts = (key, len(key), payload, len(payload))
        unkept = lib.tr_stage_begin(self._stage, entry, status, *texts, ts)
        if unkept:
            self._make_room(entry, status, key, payload, ts, unkept)
        yield
        if lib.tr_stage_end(self._stage, -1):
            self._submit_large()

    def note(
        self, entry: Entry, ts: int, payload: bytes = b"", key: bytes = b"", status: int = 0
    ) -> None:
        """Keep an event that publishes nothing."""
        with self.entry(entry, ts, payload, key, status):
            pass

    def sent(self, texts: Iterable[bytes]) -> None:
        """Keep the texts that go to the venue."""
        if self.is_on:
            for text in texts:
                self.note(Entry.SENT, clock.now_ns(), text)

    def next_connection(self) -> None:
        """Count a link: entries name it from here on."""
        self._stage.connection += 1

    def tick(self) -> None:
        """Hand over what has gathered; begin a new file where one is due. A few times a second."""
        if not self.is_on:
            get = self._counters.get
            kept = get("capture_frames") + get("capture_lost")
            self._counters.set("capture_unasked", get("frames_in") - kept)
            self._counters.set("capture_accounted", get("frames_in"))
            return
        assert self.spec is not None
        now, hour = clock.monotonic_ns(), clock.now_ns() // HOUR_NS
        if self._disk.error and now >= self._retry_ns:
            if self._retry_ns:
                self._begin_file()
            else:
                log.error("capture has stopped", error=self._disk.error, folder=self.spec.folder)
            self._retry_ns = now + int(self.spec.retry_s * 1e9)
        elif not self._disk.error:
            if self._retry_ns:
                log.warning("capture goes on", frames_lost=self._counters.get("capture_lost"))
                self._retry_ns = 0
            if hour != self._hour and not any(self._disk.is_busy):
                self.note(Entry.END, clock.now_ns())
                self._begin_file()
                self._hour = hour
        self._hand_over()
        self._tell()

    # ---- staging ----

    def _hand_over(self) -> bool:
        """Give the filled half to the disk and go on in the other; False: that one is not free yet."""
        head = self._stage.head
        half = int(head.half)
        if not head.used[half]:
            return True
        if self._disk.is_busy[1 - half]:
            return False
        frames = int(self._stage.frames_in_half)
        used = int(lib.tr_stage_turn(self._stage))
        at = half * self._half_bytes
        self._disk.submit(Half(half, self._halves[at : at + used], frames))
        return True

    def _make_room(
        self, entry: Entry, status: int, key: bytes, payload: bytes, ts: int, unkept: int
    ) -> None:
        """Stage what found no room: in the other half, by reference where it is too long for any, else not at all."""
        if unkept == lib.TR_STAGE_FULL and self._hand_over():
            texts = (key, len(key), payload, len(payload))
            unkept = lib.tr_stage_begin(self._stage, entry, status, *texts, ts)
        if unkept == lib.TR_STAGE_FULL:
            lib.tr_stage_skip(self._stage, entry)
        elif unkept == lib.TR_STAGE_LARGE:
            self._large = key + payload

    def _submit_large(self) -> None:
        """Send a large entry after what was staged before it; where the disk is stuck it is lost."""
        header = bytes(ffi.buffer(self._stage.large_header))
        frames = int(header[_ENTRY_AT] in (Entry.FRAME, Entry.TOO_LARGE))
        if self._hand_over():
            self._disk.submit(Large(header, self._large, frames))
        else:
            self._stage.head.frames_lost += frames
        self._large = b""

    def _begin_file(self) -> None:
        if self._hand_over():
            self._part += 1
            self._disk.submit(self._new_file())

    def _new_file(self) -> NewFile:
        assert self.spec is not None
        now = clock.now_ns()
        epoch, uuid = self._events.epoch, self._events.facts().uuid
        first = int(self._stage.head.next_entry_no)
        header = Header(
            self._worker, epoch, self._part, first, self._events.next_seq, now, uuid, self._about()
        )
        begun = datetime.fromtimestamp(now / 1e9, UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{self._worker}.{begun}.{epoch:08d}.{self._part:04d}{SUFFIX}"
        path = Path(self.spec.folder) / self._worker / name
        return NewFile(path, pack_header(header), self._part)

    def _tell(self) -> None:
        """Bring the disk's counts into the region and the counters."""
        disk, head, counters = self._disk, self._stage.head, self._counters
        lost = disk.frames_lost
        head.frames_lost += lost - self._lost_told
        self._lost_told = lost
        counters.set("capture_on", int(self.is_on))
        counters.set("capture_failed", int(bool(disk.error)))
        counters.set("capture_frames", head.frames - head.frames_lost)
        counters.set("capture_lost", head.frames_lost)
        counters.set("capture_bytes", disk.written_bytes)
        counters.set("capture_files", disk.files)
        counters.set("capture_accounted", counters.get("frames_in"))


_ENTRY_AT = 56
