"""A file is replaced whole and durably: after a crash, also of the host, it is the old one or the new one.

**Protocol** Write aside, fsync, rename, fsync of the folder.
"""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Make `content` the whole of `path`; on disk when this returns.

    Raises:
        OSError: it could not be written; `path` is as it was.
    """
    aside = path.with_name(path.name + ".new")
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
