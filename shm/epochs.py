"""Epochs come from one counter per instance that is persisted, fsynced and never goes back.

**Why it is right** An epoch names an incarnation of a producer in every record's identity `(ring, epoch, seq)`; were it to
restart with the rings, a Redis stream would refuse a whole second run as "already there". So it is no clock, and it
survives `down`. The file is replaced, never edited: a crash leaves the old value or the new one.
"""

import fcntl
from pathlib import Path

from shm.durable import replace_file
from shm.errors import ConfigurationError

_EPOCH_LIMIT = 1 << 62


def take_epoch(state_dir: str | Path) -> int:
    """Return the next epoch of the instance, from 1; durable before it is returned.

    Raises:
        ConfigurationError: the counter file does not hold a number.
    """
    directory = Path(state_dir)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "epoch"
    with open(directory / "epoch.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        epoch = _read(path) + 1
        replace_file(path, f"{epoch}\n".encode())
    return epoch


def _read(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return 0
    if not text.isdecimal() or not text.isascii() or int(text) >= _EPOCH_LIMIT:
        raise ConfigurationError(
            f"{path} holds {text[:40]!r}, a whole number below 2**62 expected; write the largest epoch ever used into it"
        )
    return int(text)
