"""A file is replaced whole and durably: after a crash, also of the host, it is the old one or the new one.

**Protocol** Write aside, fsync, rename, fsync of the folder. Files that only grow are written with `write_all`, and their
names made durable with `sync_folder`.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: bytes) -> None:
    """Make `content` the whole of `path`; on disk when this returns.

    Raises:
        OSError: it could not be written; `path` is as it was.
    """
    aside = path.with_name(path.name + ".new")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were created, renamed or removed in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, parts: Sequence[Any]) -> None:
    """Write the bytes of all parts where the file stands, in one call where the system takes them at once.

    Raises:
        OSError: some of them may have been written.
    """
    left = sum(len(part) for part in parts)
    written = os.writev(fd, parts)
    if written == left:
        return
    rest = memoryview(b"".join(parts))[written:]
    while len(rest):
        rest = rest[os.write(fd, rest) :]
