"""Every record of the orders ring is on file before it is in the ring, so that positions outlive the rings.

**Layout** `<state_dir>/orders/records.log` (0600): 64 bytes of head: magic 8 | crc32 u32 of what follows | closed u32 | uuid of
the ring 32 | highest order_id of earlier runs i64 | zeros. Then 200 bytes a record: crc32 u32 of it | zeros u32 | the ORDER
record (192) with the stamp that it gets in the ring; its first records are the OPENINGs that the run begins with.

**Protocol** Entry, then record; a FILL is on the disk before it is in the ring, the rest twice a second. Killed between: the
entry is published at the next start. SIGTERM sets `closed`, a start clears it. `ops.opening` begins a new file for each run.

**Failure** A last entry that a crash cut was never in the ring, and is left out (a power cut may take half a second of
orders, never a fill). A head, an entry before others, or a file that is gone: refused, with what to do. Nothing is ever
begun as if flat.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from layouts import ORDER, Kind
from shm.durable import replace_file, write_all
from shm.errors import ConfigurationError

_MAGIC = b"TRORDJ01"
_HEAD = struct.Struct("<8sII32sq8x")
_HEAD_BYTES = 64
_CRC_FROM = 12
ENTRY = np.dtype([("crc", "<u4"), ("zeros", "<u4"), ("record", ORDER)])
_HINT = (
    "trading does not begin, as positions would be wrong: `tickring down`, put the file back from a copy, or say with "
    "`tickring positions reset --yes` that nothing is held; then `tickring up`"
)


class JournalDamaged(ConfigurationError):
    """What was traded before is not known."""


class Journaled(NamedTuple):
    """What a journal says."""

    uuid: str
    """Of the ring; "": none has begun yet."""
    is_closed: bool
    last_order_id: int
    records: np.ndarray


def journal_path(state_dir: str | Path) -> Path:
    """Return where an instance keeps its journal."""
    return Path(state_dir) / "orders" / "records.log"


def write_journal(path: Path, found: Journaled) -> None:
    """Put a whole journal in the place of another, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    head = _head(found.uuid, found.is_closed, found.last_order_id)
    replace_file(path, head + _entries(found.records, 1).tobytes())
    path.chmod(0o600)


def read_journal(path: Path) -> Journaled:
    """Return what a journal says.

    Raises:
        JournalDamaged: it cannot be read, or something in it is not what was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalDamaged(f"{path}: {error.strerror}; {_HINT}") from None
    if len(data) < _HEAD_BYTES or zlib.crc32(data[_CRC_FROM:_HEAD_BYTES]) != int.from_bytes(
        data[8:12], "little"
    ):
        raise JournalDamaged(f"{path}: its head is damaged; {_HINT}")
    magic, _, closed, uuid, last_order_id = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise JournalDamaged(f"{path}: written by another version; {_HINT}")
    n = (len(data) - _HEAD_BYTES) // ENTRY.itemsize
    entries = np.frombuffer(data, ENTRY, n, _HEAD_BYTES)
    whole = np.array([_is_whole(each) for each in entries], bool)
    good = n if whole.all() else int(np.argmin(whole))
    seqs = (entries["record"]["stamp"][:good] - 2) >> 1
    if whole[good:].any() or (seqs != np.arange(1, good + 1)).any():
        raise JournalDamaged(
            f"{path}: record {good + 1} of {n} is damaged, or one is missing; {_HINT}"
        )
    return Journaled(
        uuid.rstrip(b"\0").decode("ascii", "replace"),
        bool(closed),
        last_order_id,
        entries["record"][:good].copy(),
    )


class OrderJournal:
    """The journal of the ring that is being written."""

    def __init__(self, state_dir: str | Path, is_first: bool) -> None:
        """Open it; `is_first`: nothing was ever ordered here, so that there may be none yet.

        Raises:
            JournalDamaged: it is not there, or damaged.
        """
        path = journal_path(state_dir)
        if is_first and not path.exists():
            write_journal(path, Journaled("", True, 0, np.zeros(0, ORDER)))
        found = read_journal(path)
        self.path, self.uuid, self.last_order_id = path, found.uuid, found.last_order_id
        self.records = found.records
        """What was in it when it was opened."""
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        end = _HEAD_BYTES + len(found.records) * ENTRY.itemsize
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        self._n = len(found.records)
        self._is_dirty = False

    def bind(self, uuid: str, next_seq: int) -> np.ndarray:
        """Belong to a ring from here on; return the records that are not in it yet.

        Raises:
            JournalDamaged: it belongs to another one, or lacks records of this one.
        """
        if self.uuid not in ("", uuid) or (not self.uuid and next_seq > 1):
            raise JournalDamaged(f"{self.path}: it belongs to another orders.orders; {_HINT}")
        if next_seq - 1 > self._n:
            raise JournalDamaged(
                f"{self.path}: {self._n} records, and {next_seq - 1} are in the ring; {_HINT}"
            )
        self.uuid = uuid
        self._write_head(is_closed=False)
        return self.records[next_seq - 1 :].copy()

    def add(self, records: np.ndarray) -> None:
        """Write records down that are going to be published next."""
        write_all(self._fd, [_entries(records, self._n + 1).tobytes()])
        self._n += len(records)
        self._is_dirty = True
        if (records["kind"] == Kind.FILL).any():
            self.sync()

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._is_dirty:
            self._is_dirty = False
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Say that the run ended in good order."""
        self._write_head(is_closed=True)
        os.close(self._fd)

    def _write_head(self, is_closed: bool) -> None:
        os.pwrite(self._fd, _head(self.uuid, is_closed, self.last_order_id), 0)
        os.fdatasync(self._fd)


def _head(uuid: str, is_closed: bool, last_order_id: int) -> bytes:
    head = _HEAD.pack(_MAGIC, 0, is_closed, uuid.encode(), last_order_id).ljust(_HEAD_BYTES, b"\0")
    return head[:8] + zlib.crc32(head[_CRC_FROM:]).to_bytes(4, "little") + head[_CRC_FROM:]


def _entries(records: np.ndarray, first_seq: int) -> np.ndarray:
    made = np.zeros(len(records), ENTRY)
    made["record"] = records
    made["record"]["stamp"] = 2 * np.arange(first_seq, first_seq + len(records)) + 2
    made["record"]["publish_delta_ns"] = 0
    for each in made:
        each["crc"] = zlib.crc32(each["record"].tobytes())
    return made


def _is_whole(entry: np.void) -> bool:
    return int(entry["crc"]) == zlib.crc32(entry["record"].tobytes())
