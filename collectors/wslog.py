"""A `.wslog` file holds a venue's frames verbatim, and whatever happened to it, every whole entry of it can be read.

**Layout** `layouts.wslog`. A file is `<worker>.<UTC time of its first entry>.<epoch>.<part>.wslog`; `.zst` once compressed.

**Failure** A file that ends in the middle of an entry is read up to there, and `cut_bytes` says what is left. Damage
inside is stepped over to the next entry whose header is sound: `damaged_bytes` are counted, and the entries that are
missing are known from their numbers (`missing`). Only a file whose own header is not whole is refused.

**Cost** Entries are found and proved in C, a chunk at a time (bench_wslog_read); memory is one chunk and the longest entry.
"""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import msgspec
import numpy as np

from collectors.decoder import Subscription
from collectors.instruments import Instrument, Steps
from layouts import WSLOG_ENTRY, WSLOG_FILE, WSLOG_MAGIC, Entry
from layouts.wslog import ENTRY_BYTES, ENTRY_MAGIC
from shm._native import ffi, lib
from shm.errors import TickringError

SUFFIX = ".wslog"
COMPRESSED = ".wslog.zst"
CHUNK_BYTES = 1 << 19
MOST_ENTRIES = 1 << 12
"""What fits a core's cache; larger pieces are read more slowly."""
HEADER_LIMIT_BYTES = 1 << 26
_UNIT = 64
_CRC_AT = WSLOG_FILE.fields["crc32"][1] if WSLOG_FILE.fields else 0
_CUT, _MOST, _DAMAGED = range(3)


class WsLogDamaged(TickringError):
    """A file is no .wslog, or its header is not whole."""


class About(msgspec.Struct, kw_only=True):
    """What a replay needs to know of the collector: the JSON text of a file's header, as it was when the file was begun."""

    instance: str
    venue: str
    """A key of `collectors.venues.DECODERS`."""
    venue_name: str
    url: str
    rest_url: str = ""
    subscriptions: tuple[Subscription, ...] = ()
    steps: dict[str, Steps] = {}
    max_frame_bytes: int
    first_instrument_id: int
    instrument_ids: int
    instruments: tuple[Instrument, ...] = ()


class Started(msgspec.Struct):
    """The payload of START: epoch of the process before (0: none), and what that left unpublished."""

    previous_epoch: int
    frames_abandoned: int


class Header(NamedTuple):
    """What a file's header says."""

    worker: str
    epoch: int
    part: int
    first_entry_no: int
    first_seq: int
    created_ns: int
    ring_uuid: str
    text: bytes

    @property
    def about(self) -> About:
        """The collector as it was."""
        return msgspec.json.decode(self.text, type=About)


class Batch(NamedTuple):
    """Whole entries: their headers (WSLOG_ENTRY), and where in `data` each payload begins."""

    entries: np.ndarray
    offsets: np.ndarray
    data: bytes

    def rows(self) -> Iterator[tuple[int, int, int, int, bytes, bytes]]:
        """Yield (entry, status, ts_recv, entry_no, key, payload) of each."""
        entries, data = self.entries, self.data
        names = ("entry", "status", "ts_recv", "entry_no", "key_bytes", "payload_bytes")
        columns = [entries[name].tolist() for name in names]
        for entry, status, ts, number, key_bytes, n_bytes, at in zip(
            *columns, self.offsets.tolist(), strict=True
        ):
            yield (
                entry,
                status,
                ts,
                number,
                data[at : at + key_bytes],
                data[at + key_bytes : at + n_bytes],
            )


def pack_header(header: Header) -> bytes:
    """Return the bytes that a file opens with."""
    n_bytes = -(-(WSLOG_FILE.itemsize + len(header.text)) // _UNIT) * _UNIT
    row = np.zeros(1, WSLOG_FILE)
    row["magic"], row["header_bytes"], row["entry_bytes"] = WSLOG_MAGIC, n_bytes, ENTRY_BYTES
    for name in ("epoch", "first_entry_no", "first_seq", "created_ns", "part"):
        row[name] = getattr(header, name)
    row["ring_uuid"] = np.frombuffer(bytes.fromhex(header.ring_uuid), np.uint8)
    row["text_bytes"], row["worker"] = len(header.text), header.worker.encode()
    raw = bytearray((row.tobytes() + header.text).ljust(n_bytes, b"\0"))
    raw[_CRC_AT : _CRC_AT + 4] = zlib.crc32(raw).to_bytes(4, "little")
    return bytes(raw)


def read_header(file: BinaryIO, path: Path) -> tuple[Header, int]:
    """Return a file's header and where its first entry begins.

    Raises:
        WsLogDamaged: it is not whole.
    """
    raw = file.read(WSLOG_FILE.itemsize)
    if len(raw) < WSLOG_FILE.itemsize:
        raise WsLogDamaged(
            f"{path}: {len(raw)} bytes, the header of a .wslog has {WSLOG_FILE.itemsize} at least"
        )
    row = np.frombuffer(raw, WSLOG_FILE)[0]
    n_bytes, text_bytes = int(row["header_bytes"]), int(row["text_bytes"])
    if row["magic"] != WSLOG_MAGIC or row["entry_bytes"] != ENTRY_BYTES:
        raise WsLogDamaged(f"{path}: this is no .wslog file of a version that is known here")
    if (
        n_bytes % _UNIT
        or WSLOG_FILE.itemsize + text_bytes > n_bytes
        or n_bytes > HEADER_LIMIT_BYTES
    ):
        raise WsLogDamaged(f"{path}: its header is damaged (header_bytes {n_bytes})")
    raw += file.read(n_bytes - len(raw))
    zeroed = raw[:_CRC_AT] + bytes(4) + raw[_CRC_AT + 4 :]
    if len(raw) < n_bytes or zlib.crc32(zeroed) != row["crc32"]:
        raise WsLogDamaged(f"{path}: its header is not whole; it was cut or damaged")
    return Header(
        worker=row["worker"].decode(),
        epoch=int(row["epoch"]),
        part=int(row["part"]),
        first_entry_no=int(row["first_entry_no"]),
        first_seq=int(row["first_seq"]),
        created_ns=int(row["created_ns"]),
        ring_uuid=row["ring_uuid"].tobytes().hex(),
        text=raw[WSLOG_FILE.itemsize : WSLOG_FILE.itemsize + text_bytes],
    ), n_bytes


def pack_entry(entry: Entry, entry_no: int, epoch: int, first_seq: int, ts: int) -> bytes:
    """Return an entry without a payload that became no record."""
    row = np.zeros(1, WSLOG_ENTRY)
    row["magic"], row["entry"], row["entry_no"] = ENTRY_MAGIC, entry, entry_no
    row["epoch"], row["first_seq"], row["ts_recv"] = epoch, first_seq, ts
    raw = row.tobytes()
    row["header_crc32"] = zlib.crc32(raw[8:])
    return row.tobytes()


class Scan:
    """Finds the whole entries of bytes that come in pieces."""

    def __init__(self, first_entry_no: int = 0) -> None:
        self.next_entry_no = first_entry_no
        """Number of the entry that comes next; 0: not known yet."""
        self.missing: list[tuple[int, int]] = []
        """First and last number of each run of entries that are not there."""
        self.damaged_bytes = 0
        self.ended = False
        """END was seen."""
        self.rest = b""
        """What is left after the last whole entry so far."""
        self._entries = np.zeros(MOST_ENTRIES, WSLOG_ENTRY)
        self._offsets = np.zeros(MOST_ENTRIES, np.int64)
        self._stop = ffi.new("int64_t[2]")
        self._is_lost = False

    def feed(self, piece: bytes) -> Iterator[Batch]:
        """Take the next piece and yield the entries that are whole now."""
        data = self.rest + piece
        at = 0
        while True:
            if self._is_lost:
                found = int(lib.tr_wslog_find(data, len(data), at))
                sound = found if found >= 0 else max(at, len(data) - ENTRY_BYTES + 1)
                self.damaged_bytes += sound - at
                at, self._is_lost = sound, found < 0
                if self._is_lost:
                    break
            n, at, why = self._scan(data, at)
            if n:
                batch = Batch(self._entries[:n].copy(), self._offsets[:n].copy(), data)
                self._note(batch.entries)
                yield batch
            if why == _CUT:
                break
            if why == _DAMAGED:
                self._is_lost = True
                self.damaged_bytes += 1
                at += 1
        self.rest = data[at:]

    def _scan(self, data: bytes, at: int) -> tuple[int, int, int]:
        entries = ffi.cast("void *", self._entries.ctypes.data)
        offsets = ffi.cast("int64_t *", self._offsets.ctypes.data)
        n = lib.tr_wslog_scan(data, len(data), at, entries, offsets, MOST_ENTRIES, self._stop)
        return int(n), int(self._stop[0]), int(self._stop[1])

    def _note(self, entries: np.ndarray) -> None:
        numbers = entries["entry_no"]
        before = np.concatenate(([self.next_entry_no or numbers[0]], numbers[:-1] + 1))
        holes = np.flatnonzero(numbers > before)
        self.missing += [(int(before[i]), int(numbers[i]) - 1) for i in holes]
        self.next_entry_no = int(numbers[-1]) + 1
        self.ended = self.ended or bool((entries["entry"] == Entry.END).any())


class WsLog:
    """One file, whole, compressed, still being written, or cut; each call of `batches` reads it from its start.

    Args:
        path: the file.
        tolerates: of a compressed file that is cut or damaged take what comes before; else WsLogDamaged is raised.
    """

    def __init__(self, path: Path, tolerates: bool = False) -> None:
        self.path = path
        self.tolerates = tolerates
        self.is_cut = False
        """The last reading ended where compressed data could not be read on."""
        with self._open() as file:
            self.header, self.header_bytes = read_header(file, path)
        self.scan = Scan()
        """Of the last reading: what was missing, damaged, cut."""

    @property
    def cut_bytes(self) -> int:
        """What is left after the last whole entry that was read."""
        return len(self.scan.rest)

    def batches(self, piece_bytes: int = CHUNK_BYTES) -> Iterator[Batch]:
        """Yield all whole entries in their order, reading so much at a time."""
        self.scan = Scan(self.header.first_entry_no)
        with self._open() as file:
            file.read(self.header_bytes)
            while piece := file.read(piece_bytes):
                yield from self.scan.feed(piece)
            self.is_cut = isinstance(file, _Decompressed) and file.is_cut

    def _open(self) -> Any:
        if self.path.name.endswith(COMPRESSED):
            return _Decompressed(self.path, self.tolerates)
        return self.path.open("rb")


class _Decompressed:
    """Reads what a compressed file holds; where it is cut or damaged it ends, or says so."""

    def __init__(self, path: Path, tolerates: bool) -> None:
        self._stream = _inflated(path)
        self._path = path
        self._tolerates = tolerates
        self._at = 0
        self.is_cut = False

    def read(self, n_bytes: int) -> bytes:
        if self.is_cut:
            return b""
        try:
            piece = bytes(self._stream.read(n_bytes))
        except OSError as error:
            if not self._tolerates:
                raise WsLogDamaged(
                    f"{self._path}: the compressed data is damaged ({error}); take the copy, if there is one"
                ) from None
            self.is_cut = True
            piece = self._last_bytes(n_bytes)
        self._at += len(piece)
        return piece

    def _last_bytes(self, most: int) -> bytes:
        """Return what comes before the damage, byte by byte: a read that fails gives nothing of what it had."""
        last = bytearray()
        with _inflated(self._path) as again:
            skipped = 0
            while skipped < self._at:
                skipped += len(again.read(min(CHUNK_BYTES, self._at - skipped)))
            with contextlib.suppress(OSError):
                while len(last) < most and (byte := again.read(1)):
                    last += byte
        return bytes(last)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _inflated(path: Path) -> Any:
    import pyarrow as pa  # large, and only compressed files need it

    return pa.input_stream(str(path), compression="zstd")


def is_wslog(path: Path) -> bool:
    """Tell by its name whether a file is one."""
    return path.name.endswith((SUFFIX, COMPRESSED))


def part_of(path: Path) -> tuple[int, int]:
    """Return (epoch, part) of a file by its name; (-1, -1) where it has another form."""
    words = path.name.removesuffix(".zst").removesuffix(SUFFIX).split(".")
    if len(words) == 4 and words[2].isdecimal() and words[3].isdecimal():
        return int(words[2]), int(words[3])
    return -1, -1
