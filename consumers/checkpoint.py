"""A worker's state on disk: two files written in turn, so that a crash at any byte leaves a whole one.

**Layout** `<state_dir>/checkpoints/<worker>.0` and `.1` (0600): magic 8 B | crc32 u32 of all that follows | length
of the meta u32 | serial u64 | length of the image u64 | meta, JSON of `Checkpoint` | image, the computation's own
bytes.

**Why it is right** The next file to write is always the one that `load` would not choose. There is no fsync: a
checkpoint outlives its process in the page cache, and after a power cut the rings that it points into are gone, so
that it would be refused anyway.

**Failure** A file that is torn, of another version or damaged is passed over; one that was made by another
computation, or for another incarnation of a ring, is refused by `Checkpoint.misfit` with the reason: the worker
then rebuilds from what the rings still hold.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

_MAGIC = b"TRCHKP01"
_HEAD = struct.Struct("<8sIIQQ")
_CRC_FROM = 12  # behind magic and crc
_IMAGE_LIMIT = 1 << 34


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a computation stood in one input."""

    ring: str
    uuid: str
    """"" where the ring had not been joined: nothing of it was applied, whatever it is now."""
    next_seq: int
    """The first record not applied."""
    lapped: int
    """Records of this input that had been lost to overwriting by then."""
    told_seq: int = 0
    """Rows are in the output up to this source seq ..."""
    told_index: int = -1
    """... and, of that record's rows, up to this index."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What an image belongs to."""

    computation: str
    """Names the meaning of the image's bytes; see `consumers.computation.Computation.identity`."""
    output_uuid: str
    output_next_seq: int
    positions: tuple[Position, ...]

    def misfit(self, computation: str, output_uuid: str, rings: Sequence[tuple[str, str]]) -> str:
        """Return why this checkpoint cannot be gone on from, "" where it can.

        Args:
            computation: identity of the one that asks.
            output_uuid: of the ring that it writes.
            rings: name and uuid of its inputs, in order; uuid "" of one that is not there.
        """
        if self.computation != computation:
            return f"it was made by {self.computation}, this is {computation}"
        if self.output_uuid != output_uuid:
            return "the output ring was made anew since"
        names = [each.ring for each in self.positions]
        if names != [name for name, _ in rings] or any(
            each.uuid not in ("", uuid)
            for each, (_, uuid) in zip(self.positions, rings, strict=True)
        ):
            named = ", ".join(names)
            return f"it belongs to other incarnations of its inputs ({named})"
        return ""


class Found(NamedTuple):
    """A checkpoint that was read, and the computation's bytes."""

    checkpoint: Checkpoint
    image: bytes


class CheckpointStore:
    """The two files of one worker."""

    def __init__(self, state_dir: str | Path, worker: str) -> None:
        self.state_dir, self.worker = Path(state_dir), worker
        self._directory = self.state_dir / "checkpoints"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._paths = tuple(self._directory / f"{worker}.{i}" for i in range(2))
        self._serial = 0

    def load(self) -> Found | None:
        """Return the newest whole checkpoint, None where there is none."""
        newest: Found | None = None
        for path in self._paths:
            read = _read(path)
            if read is not None and read[0] > self._serial:
                self._serial, newest = read
        return newest

    def save(self, checkpoint: Checkpoint, image: bytes, is_durable: bool = False) -> None:
        """Write a checkpoint over the older of the two files. `load` must have been called once before."""
        self._serial += 1
        meta = msgspec.json.encode(checkpoint)
        head = _HEAD.pack(_MAGIC, 0, len(meta), self._serial, len(image))
        crc = zlib.crc32(image, zlib.crc32(meta, zlib.crc32(head[_CRC_FROM:])))
        head = _HEAD.pack(_MAGIC, crc, len(meta), self._serial, len(image))
        fd = os.open(
            self._paths[self._serial % 2], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode=0o600
        )
        try:
            os.ftruncate(fd, len(head) + len(meta) + len(image))
            _write(fd, head + meta, 0)
            _write(fd, image, len(head) + len(meta))
            if is_durable:
                os.fsync(fd)
        finally:
            os.close(fd)


def _write(fd: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, at)
        rest, at = rest[done:], at + done


def _read(path: Path) -> tuple[int, Found] | None:
    """Return serial and contents of a file, None unless it is whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEAD.size:
        return None
    magic, crc, n_meta, serial, n_image = _HEAD.unpack_from(data)
    if magic != _MAGIC or n_image > _IMAGE_LIMIT or len(data) != _HEAD.size + n_meta + n_image:
        return None
    if zlib.crc32(memoryview(data)[_CRC_FROM:]) != crc:
        return None
    try:
        checkpoint = msgspec.json.decode(data[_HEAD.size : _HEAD.size + n_meta], type=Checkpoint)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return serial, Found(checkpoint, data[_HEAD.size + n_meta :])
