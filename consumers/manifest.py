"""The manifest says which file holds which records, and which records were lost: an append-only list of JSON lines.

**Layout** `<data_dir>/manifest.jsonl`, one object a line, its last member `crc32` over the line's bytes before `,"crc32"`:
    kind        FILE | LOST | REMOVED
    ring, uuid  the ring, and the incarnation of it
    first_seq   first and
    last_seq    last record that the line speaks of
    rows        records in the file, or records lost
    file        path within the data directory (FILE, REMOVED)
    ranges      [[first, last], ...] of the seqs in the file (FILE); what lies between them is in LOST lines
    epochs      [[epoch, first seq], ...] (FILE)
    layout      hash of the record layout (FILE)
    n_bytes, sha256  of the file (FILE)
    ts_first_ns, ts_last_ns  smallest and largest ts_recv in the file (FILE)

**Invariants** (1) A FILE line is written after the file is durable under its final name. (2) Each seq of a ring's
incarnation is in one range of one FILE line or in one LOST line, never in two.

**Failure** A torn last line is cut off at the next opening; its rows are written again when their journal is
published again.
"""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from shm.durable import sync_folder
from shm.errors import TickringError

NAME = "manifest.jsonl"
_CRC = b',"crc32":'


class ManifestDamaged(TickringError):
    """A line before the last cannot be believed."""


class Row(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One line; see the module."""

    kind: Literal["FILE", "LOST", "REMOVED"]
    ring: str
    uuid: str
    first_seq: int
    last_seq: int
    rows: int = 0
    file: str = ""
    ranges: list[tuple[int, int]] = []
    epochs: list[tuple[int, int]] = []
    layout: str = ""
    n_bytes: int = 0
    sha256: str = ""
    ts_first_ns: int = 0
    ts_last_ns: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes two lines the same line."""
        return self.kind, self.uuid, self.first_seq


class Manifest:
    """The manifest of one data directory, as its one writer sees it."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / NAME
        made = not self.path.exists()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        if made:
            sync_folder(data_dir)
        self.rows, whole = _parse(self.path.read_bytes(), self.path)
        os.ftruncate(self._fd, whole)
        self._keys = {row.key for row in self.rows}

    def add(self, rows: Sequence[Row]) -> None:
        """Append the lines that are not there yet, durable when this returns; all of them or none.

        Raises:
            OSError: none of them is there.
        """
        new = [row for row in rows if row.key not in self._keys]
        if not new:
            return
        raw = b"".join(map(_line, new))
        end = os.fstat(self._fd).st_size
        try:
            written = 0
            while written < len(raw):
                written += os.write(self._fd, raw[written:])
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, end)
            raise
        self.rows += new
        self._keys.update(row.key for row in new)

    def has(self, row: Row) -> bool:
        """True when that line is there already."""
        return row.key in self._keys

    def next_seq(self, uuid: str) -> int:
        """Return the seq after the last one that is published or lost of a ring's incarnation; 0: none is."""
        return max((row.last_seq + 1 for row in self.rows if row.uuid == uuid), default=0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_manifest(data_dir: Path) -> list[Row]:
    """Return the whole lines of a manifest, also while it is being written; none where there is no manifest.

    Raises:
        ManifestDamaged: a line before the last one is not whole.
    """
    path = data_dir / NAME
    try:
        return _parse(path.read_bytes(), path)[0]
    except FileNotFoundError:
        return []


def live_files(rows: Iterable[Row]) -> list[Row]:
    """Return the FILE lines whose files were not removed by retention."""
    rows = list(rows)
    removed = {row.file for row in rows if row.kind == "REMOVED"}
    return [row for row in rows if row.kind == "FILE" and row.file not in removed]


def _line(row: Row) -> bytes:
    body = msgspec.json.encode(row)[:-1]
    return body + _CRC + str(zlib.crc32(body)).encode() + b"}\n"


def _parse(raw: bytes, path: Path) -> tuple[list[Row], int]:
    """Return the rows and how many bytes they take; only what follows the last newline may be torn."""
    rows, at = [], 0
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        body, _, rest = line.rpartition(_CRC)
        try:
            matches = int(rest.removesuffix(b"}")) == zlib.crc32(body)
            rows.append(msgspec.json.decode(body + b"}" if matches else b"", type=Row))
        except (ValueError, msgspec.DecodeError) as error:
            raise ManifestDamaged(
                f"{path}, line {number} is damaged ({error}); restore the file from a copy, or move the data directory away"
            ) from error
        at += len(line) + 1
    return rows, at
