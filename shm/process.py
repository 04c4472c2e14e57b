"""A process is named by pid and start time together: pids are reused, the pair is not.

The start time is field 22 of /proc/<pid>/stat in clock ticks since boot. psutil's create_time is derived from it
with the wall clock and so moves when that clock is set; here two readings of one process must be equal.
"""

import os
from pathlib import Path


def start_time(pid: int) -> int:
    """Return the start time of `pid` in clock ticks since boot; 0 when there is no such process (or a zombie)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text[text.rindex(")") + 2 :].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the process that had this pid and start time still runs."""
    return pid > 0 and started > 0 and start_time(pid) == started


def boot_id() -> bytes:
    """Return the 16 bytes that name this boot of the host."""
    return bytes.fromhex(
        Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    )


def own_identity() -> tuple[int, int]:
    """Return pid and start time of this process."""
    pid = os.getpid()
    return pid, start_time(pid)
