"""`index.json` beside a collector's captured files says what each holds; it is a cache that can be made anew from them.

A row per finished file: what it is of, when, which epoch and seqs, how many frames, and the SHA-256 of the file as it lies
there. Files that are still being written, and those that the keeper has not come to yet, are described on the spot.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from collectors.wslog import COMPRESSED, SUFFIX, WsLog, WsLogDamaged, part_of
from layouts import Entry
from shm.durable import replace_file
from shm.registry import Instance

INDEX = "index.json"
FRAMES = (Entry.FRAME, Entry.TOO_LARGE)


class FileRow(msgspec.Struct, kw_only=True):
    """One captured file; times in ns since the epoch, -1 where it holds no entry."""

    name: str
    worker: str
    venue: str
    symbols: list[str]
    epoch: int
    part: int
    first_ts: int = -1
    last_ts: int = -1
    first_seq: int
    end_seq: int
    """One past the last seq that its entries became."""
    first_entry_no: int
    entries: int = 0
    frames: int = 0
    missing_entries: int = 0
    damaged_bytes: int = 0
    cut_bytes: int = 0
    is_sealed: bool = False
    file_bytes: int
    sha256: str
    copied_to: str = ""


class _Index(msgspec.Struct):
    version: int = 1
    files: list[FileRow] = []


def captures_of(found: Instance) -> Path:
    """Return where a running instance keeps what its collectors capture."""
    folder = found.config.get("capture", {}).get("folder", "")
    return Path(folder).expanduser() if folder else Path(found.state_dir) / "wslog"


def read_index(folder: Path) -> dict[str, FileRow]:
    """Return the rows of a collector's folder by file name; none where there is no index, or one that cannot be read."""
    try:
        found = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index)
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
    return {row.name: row for row in found.files}


def write_index(folder: Path, rows: dict[str, FileRow]) -> None:
    """Replace the index whole."""
    files = sorted(rows.values(), key=lambda row: (row.epoch, row.part))
    replace_file(folder / INDEX, msgspec.json.format(msgspec.json.encode(_Index(files=files))))


def files_in(folder: Path) -> list[Path]:
    """Return the captured files of a folder by epoch and part; one that lies there twice counts as compressed."""
    found: dict[tuple[int, int], Path] = {}
    for suffix in (SUFFIX, COMPRESSED):
        for path in folder.glob(f"*{suffix}"):
            if (key := part_of(path)) != (-1, -1):
                found[key] = path
    return [found[key] for key in sorted(found)]


def rows_of(folder: Path) -> Iterator[tuple[Path, FileRow]]:
    """Yield each file of a folder with its row; what the index does not know is read."""
    known = read_index(folder)
    for path in files_in(folder):
        row = known.get(path.name)
        if row is None:
            try:
                row = describe(path)
            except (WsLogDamaged, FileNotFoundError):
                continue
        yield path, row


def describe(path: Path) -> FileRow:
    """Read a file whole and return its row.

    Raises:
        WsLogDamaged: its header is not whole.
    """
    log = WsLog(path)
    header = log.header
    about = header.about
    row = FileRow(
        name=path.name,
        worker=header.worker,
        venue=about.venue,
        symbols=[instrument.symbol for instrument in about.instruments],
        epoch=header.epoch,
        part=header.part,
        first_seq=header.first_seq,
        end_seq=header.first_seq,
        first_entry_no=header.first_entry_no,
        file_bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )
    for batch in log.batches():
        entries = batch.entries
        if row.first_ts < 0:
            row.first_ts = int(entries["ts_recv"][0])
        row.last_ts = int(entries["ts_recv"][-1])
        row.entries += len(entries)
        row.frames += sum(int((entries["entry"] == kind).sum()) for kind in FRAMES)
        ends = entries["first_seq"] + entries["records"] * (entries["records"] != 0xFFFFFFFF)
        row.end_seq = max(row.end_seq, int(ends.max()))
    row.missing_entries = sum(last - first + 1 for first, last in log.scan.missing)
    row.damaged_bytes, row.cut_bytes = log.scan.damaged_bytes, log.cut_bytes
    row.is_sealed = log.scan.ended
    return row


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
