"""A worker's stderr goes to one file, which never grows beyond its limit and of which the last few are kept.

**Why it is right** Files are opened for appending, so a file that was copied and truncated is written on from its start;
what a worker writes between the two steps is the only thing that a rotation can lose.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

_TAIL_BYTES = 1 << 16


def open_log(path: Path) -> int:
    """Return a descriptor that appends to `path` (0600)."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, limit_bytes: int, files: int) -> bool:
    """Move `path` aside when it is larger than the limit, keeping `files` older ones; True when it was."""
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    for i in range(files - 1, 0, -1):
        older = path.with_name(f"{path.name}.{i}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{i + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log; none when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - max(_TAIL_BYTES, 512 * lines)))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def last_words(path: Path, start: int) -> str:
    """Return the last line that a process wrote to its log from byte `start` on, in words: its own reason for ending."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            lines = [
                line for line in file.read().decode(errors="replace").splitlines() if line.strip()
            ]
    except FileNotFoundError:
        return ""
    return _in_words(lines[_reason(lines)]) if lines else ""


def _reason(lines: list[str]) -> int:
    """Return which line tells why: the last one, or of a fatal error what was said just before its stacks."""
    for i, line in enumerate(lines):
        if line.startswith("Fatal Python error"):
            return max(0, i - 1)
    return len(lines) - 1


def _in_words(line: str) -> str:
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line.strip()[:500]
    if not isinstance(entry, dict):
        return line.strip()[:500]
    said = [str(entry.get(key)) for key in ("event", "error", "exception") if entry.get(key)]
    return ": ".join(said)[:500] or line.strip()[:500]


def follow(path: Path, poll_s: float = 0.2) -> Iterator[str]:
    """Yield the lines that are added to a log from now on, for ever, also over a rotation."""
    at = path.stat().st_size
    rest = ""
    while True:
        size = path.stat().st_size if path.exists() else 0
        if size < at:
            at, rest = 0, ""
        if size == at:
            time.sleep(poll_s)
            continue
        with path.open("rb") as file:
            file.seek(at)
            text = rest + file.read(size - at).decode(errors="replace")
        at = size
        *lines, rest = text.split("\n")
        yield from lines
