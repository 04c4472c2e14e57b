"""What the campaigns over real processes share: forks that end with their parent, a board of words, waiting, clearing up."""

import contextlib
import ctypes
import mmap
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shm import region as regions
from shm.errors import TickringError
from shm.reclaim import reclaim_ring
from shm.region import ring_name

PATIENCE_S = 30.0
FILES = ("data", "ctl", "lock")

INSTANCE = f"t{os.getpid()}x0"
NAME = ring_name(INSTANCE, "worker", "events")
STATE_DIR = Path(tempfile.mkdtemp(prefix="tickring-campaign-"))
BOARD = np.frombuffer(mmap.mmap(-1, 8192), np.int64)
"""Words that all processes of a campaign see."""
RANDOM = random.Random(20)
CHILDREN: set[int] = set()


class StuckError(Exception):
    """Something that had to happen did not."""


def until(happened: Callable[[], bool], what: str) -> None:
    """Wait for it, for 30 s at most."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > end:
            raise StuckError(what)
        time.sleep(0.0001)


def start(body: Callable[..., None], *arguments: Any) -> int:
    """Fork a process that does `body`, and ends with this one."""
    pid = os.fork()
    if pid:
        CHILDREN.add(pid)
        return pid
    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
        body(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def end(pid: int) -> None:
    """Kill -9."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    CHILDREN.discard(pid)


def stop(pid: int) -> None:
    """Stop a process; returns when it stands."""
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


@contextlib.contextmanager
def cleared() -> Iterator[None]:
    """Leave no process and no region behind."""
    try:
        yield
    finally:
        for pid in list(CHILDREN):
            end(pid)
        with contextlib.suppress(TickringError):
            reclaim_ring(NAME)
        for suffix in FILES:
            regions.unlink(NAME.file(suffix))
        shutil.rmtree(STATE_DIR)
