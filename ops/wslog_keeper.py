"""Finished captures are compressed, indexed, copied away and removed in time, by a process that runs now and then.

`python -m ops.wslog_keeper spec.json`, started by the supervisor; the collectors know nothing of it. It is a process of its
own because Arrow is large, and because a slow disk or object store may take its time here.

**Protocol** Per finished file (sealed by END, or not its collector's newest): compress aside, fsync, read back, rename, row
into index.json, remove the plain one; copy; then retention, oldest first.
**Failure** Killed at any step: the next run finds the plain file, the compressed one, or both, and goes on; nothing is removed
before its successor was read back. What fails is told on stderr and in `keeper.json`, and tried again by the next run; one
file's failure does not keep the others. Files whose copy is outstanding are not removed.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from collectors.wslog import COMPRESSED, SUFFIX, Scan, WsLogDamaged
from layouts.wslog import ENTRY_BYTES
from ops.wslog_index import INDEX, FileRow, describe, files_in, read_index, write_index
from shm.clock import now_ns
from shm.durable import replace_file, sync_folder
from shm.worker import configure_logs

REPORT = "keeper.json"
LOCK = "keeper.lock"
NICENESS = 10
"""The feeds come first."""
BLOCK_BYTES = 1 << 22
DAY_NS = 86_400_000_000_000

log = structlog.get_logger()


class KeeperSpec(msgspec.Struct, kw_only=True):
    """What to do with finished files."""

    folder: str
    compress: bool = True
    zstd_level: int = 3
    keep_days: float = 0.0
    keep_bytes: int = 0
    copy_to: str = ""


class KeeperReport(msgspec.Struct, kw_only=True):
    """What a run did; `failures` is empty when all is well."""

    ts: int = 0
    compressed: int = 0
    indexed: int = 0
    copied: int = 0
    removed: int = 0
    failures: list[str] = []


def keep(spec: KeeperSpec) -> KeeperReport:
    """Do what is due; returns what was done and what failed."""
    report = KeeperReport(ts=now_ns())
    base = Path(spec.folder)
    for folder in _folders(base):
        rows = read_index(folder)
        before = msgspec.json.encode(rows)
        present = files_in(folder)
        for name in set(rows) - {path.name for path in present}:
            del rows[name]
        for path in finished(present):
            try:
                _finish(spec, folder, path, rows, report)
            except (OSError, WsLogDamaged) as error:
                _failed(report, path, error)
        if msgspec.json.encode(rows) != before:
            write_index(folder, rows)
        if spec.copy_to:
            _copy_all(spec, folder, rows, report)
    _retain(spec, base, report)
    replace_file(base / REPORT, msgspec.json.encode(report))
    return report


def read_report(base: Path) -> KeeperReport | None:
    """Return what the last run said; None: there was none."""
    try:
        return msgspec.json.decode((base / REPORT).read_bytes(), type=KeeperReport)
    except (OSError, msgspec.DecodeError):
        return None


def has_work(spec: KeeperSpec) -> bool:
    """Tell without reading any file whole whether something waits; age and size are not looked at."""
    for folder in _folders(Path(spec.folder)):
        rows = read_index(folder)
        for path in finished(files_in(folder)):
            row = rows.get(path.name)
            if row is None or (spec.compress and path.name.endswith(SUFFIX)):
                return True
            if spec.copy_to and row.copied_to != spec.copy_to:
                return True
    return False


def finished(paths: list[Path]) -> list[Path]:
    """Return those that nobody writes any more: all but a collector's newest, and that too where it ends with END."""
    if paths and paths[-1].name.endswith(SUFFIX) and not _is_sealed(paths[-1]):
        return paths[:-1]
    return paths


def _is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < ENTRY_BYTES:
            return False
        file.seek(-ENTRY_BYTES, os.SEEK_END)
        scan = Scan()
        return any(True for _ in scan.feed(file.read())) and scan.ended


def _folders(base: Path) -> Iterator[Path]:
    yield from sorted(path for path in base.glob("*") if path.is_dir())


def _finish(
    spec: KeeperSpec, folder: Path, path: Path, rows: dict[str, FileRow], report: KeeperReport
) -> None:
    """Compress one file and put it into the index."""
    if spec.compress and path.name.endswith(SUFFIX):
        target = path.with_name(path.name.removesuffix(SUFFIX) + COMPRESSED)
        compress(path, target, spec.zstd_level)
        rows.pop(path.name, None)
        row = describe(target)
        rows[target.name] = row
        write_index(folder, rows)
        path.unlink()
        sync_folder(folder)
        report.compressed += 1
        report.indexed += 1
    elif path.name not in rows:
        rows[path.name] = describe(path)
        report.indexed += 1
    twin = path.with_name(path.name.removesuffix(COMPRESSED) + SUFFIX)
    if path.name.endswith(COMPRESSED) and twin.exists():
        twin.unlink()  # left by a run that was killed after the compressed one had been read back


def compress(path: Path, target: Path, level: int) -> None:
    """Write `path` compressed as `target`; there is none unless it was read back equal.

    Blocks are compressed one by one: what `zstd -d` and Arrow read as one stream.
    """
    import pyarrow as pa

    codec = pa.Codec("zstd", compression_level=level)
    aside = target.with_name(target.name + ".new")
    with path.open("rb") as source, aside.open("wb") as out:
        os.fchmod(out.fileno(), 0o600)
        while block := source.read(BLOCK_BYTES):
            out.write(codec.compress(block, asbytes=True))
        out.flush()
        os.fsync(out.fileno())
    with path.open("rb") as source, pa.input_stream(str(aside), compression="zstd") as back:
        while True:
            block = source.read(BLOCK_BYTES)
            if bytes(back.read(len(block) or 1)) != block:
                aside.unlink()
                raise OSError(0, "the compressed file does not read back equal", str(target))
            if not block:
                break
    aside.replace(target)
    sync_folder(target.parent)


def _copy_all(
    spec: KeeperSpec, folder: Path, rows: dict[str, FileRow], report: KeeperReport
) -> None:
    """Copy what the place that the TOML names does not have yet; the index goes last."""
    waiting = [row for row in rows.values() if row.copied_to != spec.copy_to]
    if not waiting:
        return
    try:
        files, base = open_store(spec.copy_to)
        for row in waiting:
            send(files, folder / row.name, f"{base}/{folder.name}/{row.name}")
            row.copied_to = spec.copy_to
            report.copied += 1
        write_index(folder, rows)
        send(files, folder / INDEX, f"{base}/{folder.name}/{INDEX}")
    except (OSError, ValueError) as error:
        write_index(folder, rows)
        _failed(report, spec.copy_to, error)


def open_store(place: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 - a pyarrow file system, loaded here only
    """Return Arrow's file system of a place, and the path in it."""
    from pyarrow import fs

    if "://" in place:
        files, path = fs.FileSystem.from_uri(place)
        return files, path.rstrip("/")
    return fs.LocalFileSystem(), str(Path(place).expanduser().absolute())


def send(files, source: Path, target: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Copy one file; it bears its name only when it is whole."""
    files.create_dir(target.rpartition("/")[0], recursive=True)
    with source.open("rb") as data, files.open_output_stream(target + ".part") as out:
        while block := data.read(BLOCK_BYTES):
            out.write(block)
    files.move(target + ".part", target)


def _retain(spec: KeeperSpec, base: Path, report: KeeperReport) -> None:
    """Remove what is too old, and then the oldest of what is too much."""
    held = [
        (row, folder)
        for folder in _folders(base)
        for row in read_index(folder).values()
        if (folder / row.name).exists()
    ]
    held.sort(key=lambda each: each[0].last_ts)
    oldest = report.ts - int(spec.keep_days * DAY_NS) if spec.keep_days else -(1 << 62)
    total = sum(path.stat().st_size for folder in _folders(base) for path in files_in(folder))
    for row, folder in held:
        is_too_much = bool(spec.keep_bytes) and total > spec.keep_bytes
        if row.last_ts >= oldest and not is_too_much:
            continue
        if spec.copy_to and row.copied_to != spec.copy_to:
            report.failures.append(f"{row.name} is due to be removed and not copied yet: kept")
            continue
        try:
            (folder / row.name).unlink()
        except OSError as error:
            _failed(report, row.name, error)
            continue
        rows = read_index(folder)
        rows.pop(row.name, None)
        write_index(folder, rows)
        total -= row.file_bytes
        report.removed += 1


def _failed(report: KeeperReport, what: object, error: Exception) -> None:
    report.failures.append(f"{what}: {error}")
    log.error("keeping captured files", what=str(what), error=str(error))


def main() -> int:
    """Run once for the spec named on the command line; 0 when nothing failed, 3 when another run is at work."""
    configure_logs()
    os.nice(NICENESS)
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=KeeperSpec)
    Path(spec.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    with (Path(spec.folder) / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 3
        report = keep(spec)
    log.info("captured files kept", **msgspec.to_builtins(report))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
