"""What an operator asks of a link: how long frames take, how full the kernel's queue is, how far the venue's clock is off.

**Layout** Counters. `decode_frames`, `decode_ns_sum`, and `decode_ns.below_<ns>` (frames, not cumulative) only grow;
`decode_ns_max` is the longest of the last OFFSET_WINDOW_S to twice that: from the entry of the read callback to the record's
publication. `socket_queued_bytes` is what the kernel holds for us (FIONREAD; of a TLS link its ciphertext),
`socket_queued_bytes_max` the most that a look has seen. `clock_offset_ns` is the least ts_recv - ts_event of the same window.

**Why it is right** Of many frames the least delay is the one that met no queue (as NTP's clock filter has it). What is left is
our clock minus the venue's plus the fastest way: never below the true offset, above it by that way and by the granularity
of the venue's times (1 ms at most venues); a negative one says that the venue's clock is ahead by at least so much.
**Cost** C adds up per frame (about 2 ns); a look is one foreign call and one system call.
"""

import fcntl
import struct
import termios

from shm.counters import Counters
from shm.outlet import Outlet

OFFSET_WINDOW_S = 30.0
_BOUNDS_NS = tuple(1024 << i for i in range(11))
_COUNTS = (*(f"decode_ns.below_{bound}" for bound in _BOUNDS_NS), "decode_ns.longer")
COUNTERS = (
    "decode_frames",
    "decode_ns_sum",
    "decode_ns_max",
    *_COUNTS,
    "clock_offset_ns",
    "clock_offset_known",
    "socket_queued_bytes",
    "socket_queued_bytes_max",
)


class Measures:
    """The measures of one collector, shown in its counters."""

    def __init__(self, outlet: Outlet, counters: Counters) -> None:
        self._outlet = outlet
        self._counters = counters
        self._began_s = 0.0
        self._longest_ns = [0, 0]
        """Of the present window and of the one before."""
        self._behind_ns: list[int | None] = [None, None]

    def show(self, now_s: float, fd: int) -> None:
        """Take up what was measured; `now_s` of the steady clock, `fd` the link's socket, -1 while there is none."""
        took, counters = self._outlet.take_took(), self._counters
        if now_s - self._began_s >= OFFSET_WINDOW_S:
            self._began_s = now_s
            self._longest_ns = [0, self._longest_ns[0]]
            self._behind_ns = [None, self._behind_ns[0]]
        self._longest_ns[0] = max(self._longest_ns[0], took.longest_ns)
        told = [ns for ns in (self._behind_ns[0], took.least_behind_ns) if ns is not None]
        self._behind_ns[0] = min(told) if told else None
        counters.add("decode_frames", took.frames)
        counters.add("decode_ns_sum", took.sum_ns)
        counters.set("decode_ns_max", max(self._longest_ns))
        for name, count in zip(_COUNTS, took.counts, strict=True):
            counters.add(name, count)
        known = [ns for ns in self._behind_ns if ns is not None]
        counters.set("clock_offset_known", bool(known))
        counters.set("clock_offset_ns", min(known, default=0))
        queued = queued_bytes(fd)
        counters.set("socket_queued_bytes", queued)
        counters.set(
            "socket_queued_bytes_max", max(queued, counters.get("socket_queued_bytes_max"))
        )


def queued_bytes(fd: int) -> int:
    """Return how many bytes the kernel has received on a socket and we have not read; 0 where there is no socket."""
    if fd < 0:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return 0
