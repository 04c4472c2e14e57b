"""A journal holds a ring's records verbatim until they are published, and is readable up to its last whole block
after any kill.

**Layout** little-endian. One file per range of seqs of one ring; `<ring>.<first 16 digits of uuid>.<first_seq>.journal`:
    0    magic              8 B    TRJRNL01
    8    header_bytes       u32    where the first block begins, a multiple of 64
    12   record_bytes       u32
    16   first_seq          i64    first seq that the file holds
    24   end_seq            i64    border: one past the last seq that it may hold
    32   ring uuid          16 B
    48   layout hash        16 B   blake2b-128 of the description
    64   ring name          64 B   `<worker>.<ring>`, padded with zero bytes
    128  created ns         i64
    136  description_bytes  u32
    140  crc32              u32    of the header, these four bytes taken as zero
    144  description        text   `layouts.describe`, then zero bytes up to header_bytes
then blocks, each beginning where the one before ends:
    0    magic              u32    0x4B4C4254
    4    kind               u32    1 RECORDS, 2 LOST, 3 END
    8    epoch              i64    of all records of the block; 0 in LOST and END
    16   first_seq          i64    of the block
    24   count              i64    records, or records lost; 0 in END
    32   crc32              u32    of the block's other bytes, payload included
    36   zero               u32
    40   payload            count x record_bytes in RECORDS; nothing else has one

**Invariants** (1) Block after block the seqs are contiguous. (2) After END nothing follows: the file is sealed.
(3) `durable` never covers a byte that fdatasync has not confirmed.

**Failure** Killed in mid-write: the torn block's CRC fails, the next opening cuts the file there. A write or sync
that fails (full disk, broken disk) cuts the file back to what is durable; nothing after that counts as written.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from layouts import describe
from shm.clock import now_ns
from shm.durable import write_all
from shm.errors import TickringError
from shm.header import dtype_of

MAGIC = b"TRJRNL01"
SUFFIX = ".journal"
RECORDS, LOST, END = 1, 2, 3
_HEADER = struct.Struct("<8sIIqq16s16s64sqII")
_CRC_AT = 140
_BLOCK_MAGIC = 0x4B4C4254
_BLOCK = struct.Struct("<IIqqqII")
_UNIT = 64

assert _HEADER.size == 144 and _BLOCK.size == 40, "the layout above is what is written"


class JournalDamaged(TickringError):
    """A file is no journal, or its header is not whole."""


class JournalHeader(NamedTuple):
    """What a journal's header says."""

    ring: str
    uuid: str
    first_seq: int
    end_seq: int
    description: str

    @property
    def dtype(self) -> np.dtype:
        """The record layout."""
        return dtype_of(self.description)

    @property
    def file_name(self) -> str:
        """The journal's name in its folder."""
        return f"{self.ring}.{self.uuid[:16]}.{self.first_seq:019d}{SUFFIX}"


class Block(NamedTuple):
    """One whole block of `n` records, lost or held; `end` is where it ends in the file."""

    kind: int
    epoch: int
    first_seq: int
    n: int
    payload: memoryview
    end: int


class Journal:
    """An open journal that is being written."""

    def __init__(self, path: Path, fd: int, header: JournalHeader, at: int, next_seq: int) -> None:
        self.path = path
        self.header = header
        self.fd = fd
        self.next_seq = next_seq
        self.sealed = False
        self.lost_ranges: list[tuple[int, int]] = []
        """(first seq, last seq) of each lost range in it."""
        self.durable = at
        self.durable_seq = next_seq
        """What comes before this seq survives a power cut."""
        self._at = at

    @classmethod
    def create(cls, folder: Path, header: JournalHeader) -> "Journal":
        """Make an empty journal; an unfinished one of the same name is replaced."""
        path = folder / header.file_name
        raw = _pack_header(header)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, [raw])
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return cls(path, fd, header, len(raw), header.first_seq)

    @classmethod
    def resume(cls, path: Path) -> "Journal":
        """Open an unsealed journal at the end of its last whole block; what follows is cut off.

        Raises:
            JournalDamaged: the header is not whole.
        """
        raw = path.read_bytes()
        header, at = read_header(raw, path)
        next_seq, sealed = header.first_seq, False
        lost = []
        for block in blocks(raw, header, at):
            next_seq, at, sealed = block.first_seq + block.n, block.end, block.kind == END
            if block.kind == LOST:
                lost.append((block.first_seq, next_seq - 1))
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(fd, at)
        os.lseek(fd, at, os.SEEK_SET)
        journal = cls(path, fd, header, at, next_seq)
        journal.sealed, journal.lost_ranges = sealed, lost
        return journal

    @property
    def room(self) -> int:
        """Records that still fit before the border."""
        return self.header.end_seq - self.next_seq

    @property
    def is_dirty(self) -> bool:
        """True when something was written that is not durable yet."""
        return self._at != self.durable

    def append(self, records: np.ndarray, first_seq: int, epoch: int) -> None:
        """Write one block of contiguous records.

        Raises:
            OSError: nothing was written, as far as any reader will see.
        """
        assert first_seq == self.next_seq and len(records) <= self.room and not self.sealed
        self._write(RECORDS, epoch, len(records), records.view(np.uint8).data)

    def append_lost(self, count: int) -> None:
        """Write that the next `count` records were overwritten before they were read."""
        assert 0 < count <= self.room and not self.sealed
        self._write(LOST, 0, count, memoryview(b""))
        self.lost_ranges.append((self.next_seq - count, self.next_seq - 1))

    def seal(self) -> None:
        """Write END: the file is whole and may be published."""
        if not self.sealed:
            self._write(END, 0, 0, memoryview(b""))
            self.sealed = True

    def mark(self) -> tuple[int, int]:
        """Return (bytes, next seq) as written now: what a sync that begins now will make durable."""
        return self._at, self.next_seq

    def made_durable(self, mark: tuple[int, int]) -> None:
        """A sync that began at `mark` has succeeded."""
        self.durable, self.durable_seq = mark

    def revert(self) -> int:
        """After a failed write or sync: cut back to what is durable; returns the seq to read again from."""
        os.ftruncate(self.fd, self.durable)
        os.lseek(self.fd, self.durable, os.SEEK_SET)
        self._at, self.next_seq, self.sealed = self.durable, self.durable_seq, False
        self.lost_ranges = [each for each in self.lost_ranges if each[1] < self.durable_seq]
        return self.next_seq

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write(self, kind: int, epoch: int, count: int, payload: memoryview) -> None:
        head = _BLOCK.pack(_BLOCK_MAGIC, kind, epoch, self.next_seq, count, 0, 0)
        crc = zlib.crc32(payload, zlib.crc32(head))
        head = _BLOCK.pack(_BLOCK_MAGIC, kind, epoch, self.next_seq, count, crc, 0)
        try:
            write_all(self.fd, [head, payload])
        except OSError:
            os.ftruncate(self.fd, self._at)
            os.lseek(self.fd, self._at, os.SEEK_SET)
            raise
        self._at += len(head) + len(payload)
        self.next_seq += count


def read_header(raw: bytes, path: Path) -> tuple[JournalHeader, int]:
    """Return a journal's header and where its first block begins.

    Raises:
        JournalDamaged: it is not whole.
    """
    if len(raw) < _HEADER.size:
        raise JournalDamaged(f"{path}: {len(raw)} bytes, a journal's header has {_HEADER.size}")
    magic, n_bytes, record, first, end, uuid, _, name, _, text_bytes, crc = _HEADER.unpack_from(raw)
    whole = (
        magic == MAGIC and _HEADER.size + text_bytes <= n_bytes <= len(raw) and n_bytes % _UNIT == 0
    )
    zeroed = raw[:_CRC_AT] + bytes(4) + raw[_CRC_AT + 4 : n_bytes]
    if not whole or zlib.crc32(zeroed) != crc:
        raise JournalDamaged(f"{path}: its header is not whole; it was cut or damaged")
    text = raw[_HEADER.size : _HEADER.size + text_bytes].decode("ascii")
    header = JournalHeader(name.rstrip(b"\0").decode(), uuid.hex(), first, end, text)
    assert header.dtype.itemsize == record, "the CRC covers both"
    return header, n_bytes


def blocks(raw: bytes, header: JournalHeader, at: int) -> Iterator[Block]:
    """Yield the whole, contiguous blocks from byte `at` on; the first that is not ends it."""
    view = memoryview(raw)
    record_bytes, next_seq = header.dtype.itemsize, header.first_seq
    while at + _BLOCK.size <= len(raw):
        magic, kind, epoch, first_seq, count, crc, zero = _BLOCK.unpack_from(raw, at)
        payload_bytes = count * record_bytes if kind == RECORDS else 0
        end = at + _BLOCK.size + payload_bytes
        if (
            magic != _BLOCK_MAGIC
            or zero != 0
            or first_seq != next_seq
            or not 0 <= count <= header.end_seq - next_seq
            or end > len(raw)
        ):
            return
        payload = view[at + _BLOCK.size : end]
        head = _BLOCK.pack(magic, kind, epoch, first_seq, count, 0, 0)
        if zlib.crc32(payload, zlib.crc32(head)) != crc:
            return
        yield Block(kind, epoch, first_seq, count, payload, end)
        if kind == END:
            return
        next_seq, at = first_seq + count, end


class Contents(NamedTuple):
    """All that a journal holds: records with their seqs and epochs, and what was lost between them."""

    header: JournalHeader
    records: np.ndarray
    seqs: np.ndarray
    epochs: np.ndarray
    lost: list[tuple[int, int]]
    """(first seq, last seq) of each lost range."""
    next_seq: int


def read_journal(path: Path) -> Contents:
    """Return the whole blocks of a journal, sealed or still being written.

    Raises:
        JournalDamaged: the header is not whole. FileNotFoundError: it has been published meanwhile.
    """
    raw = path.read_bytes()
    header, at = read_header(raw, path)
    found = list(blocks(raw, header, at))
    held = [block for block in found if block.kind == RECORDS]
    dtype = header.dtype
    records = np.frombuffer(b"".join(block.payload for block in held), dtype)
    seqs = [np.arange(block.first_seq, block.first_seq + block.n) for block in held]
    epochs = [np.full(block.n, block.epoch) for block in held]
    return Contents(
        header,
        records,
        np.concatenate(seqs) if seqs else np.empty(0, np.int64),
        np.concatenate(epochs) if epochs else np.empty(0, np.int64),
        _joined([(b.first_seq, b.first_seq + b.n - 1) for b in found if b.kind == LOST]),
        found[-1].first_seq + found[-1].n if found else header.first_seq,
    )


def header_for(
    ring: str, uuid: str, dtype: np.dtype, first_seq: int, end_seq: int
) -> JournalHeader:
    """Return the header of a new journal."""
    return JournalHeader(ring, uuid, first_seq, end_seq, describe(dtype))


def _pack_header(header: JournalHeader) -> bytes:
    text = header.description.encode("ascii")
    dtype = header.dtype
    n_bytes = -(-(_HEADER.size + len(text)) // _UNIT) * _UNIT
    fields = [MAGIC, n_bytes, dtype.itemsize, header.first_seq, header.end_seq]
    fields += [bytes.fromhex(header.uuid), _layout_hash(text), header.ring.encode(), now_ns()]
    raw = (_HEADER.pack(*fields, len(text), 0) + text).ljust(n_bytes, b"\0")
    return raw[:_CRC_AT] + struct.pack("<I", zlib.crc32(raw)) + raw[_CRC_AT + 4 :]


def _layout_hash(description: bytes) -> bytes:
    return hashlib.blake2b(description, digest_size=16).digest()


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that touch."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined
