"""The only clocks of the project; everything that needs the time asks here, so that a test can set it.

`now_ns` is CLOCK_REALTIME, the clock of `ts_recv`; `monotonic_ns` is CLOCK_MONOTONIC, the clock of waits and intervals.
**Why it is right** Libraries that fake the C clock break Python's own sleeps; a seam of two functions does not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shm._native import lib

_wall: Callable[[], int] = lib.tr_now_ns
_steady: Callable[[], int] = lib.tr_monotonic_ns


def now_ns() -> int:
    """Return wall-clock time in ns since the epoch."""
    return _wall()


def monotonic_ns() -> int:
    """Return a clock in ns that never jumps; its zero means nothing."""
    return _steady()


def wait_until(due_ns: int, spin_ns: int) -> int:
    """Sleep until `spin_ns` before an instant of the steady clock, spin the rest, and return by how much it was missed, ns.

    Below 0 where a signal came before: its handler has its turn, then call again. Releases the GIL.
    """
    return int(lib.tr_wait_until(due_ns, spin_ns))


@contextmanager
def replaced(
    wall: Callable[[], int] | None = None, steady: Callable[[], int] | None = None
) -> Iterator[None]:
    """Run a block under other clocks (tests only): each a function returning int ns."""
    global _wall, _steady
    before = _wall, _steady
    _wall, _steady = wall or _wall, steady or _steady
    try:
        yield
    finally:
        _wall, _steady = before
