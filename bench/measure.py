"""What the ring benches share: two pinned processes, runs in turn, medians with ranges, a JSON line with its conditions."""

import argparse
import ctypes
import json
import mmap
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from cffi import FFI

from shm import region as regions
from shm.clock import monotonic_ns
from shm.producer import Producer, open_ring
from shm.reclaim import reclaim_ring
from shm.region import ring_name

RUNS = {"smoke": 1, "real": 7}
PACKAGES = ("numpy", "numba", "cffi", "iceoryx2", "faster-fifo", "pyzmq", "redis")
_PR_SET_PDEATHSIG = 1
_HERE = Path(__file__).resolve().parent


class Options:
    """The command line of a ring bench."""

    def __init__(self, doc: str | None) -> None:
        parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
        parser.add_argument("--smoke", action="store_true", help="small figures, for the tests")
        parser.add_argument(
            "--cpus", default="", help="two cores, e.g. 0,1; default: the first two"
        )
        parser.add_argument("--runs", type=int, default=0)
        parser.add_argument(
            "--allow-unpinned", action="store_true", help="measure latencies without two cores"
        )
        given = parser.parse_args()
        self.scale = "smoke" if given.smoke else "real"
        self.runs = given.runs or RUNS[self.scale]
        mine = sorted(os.sched_getaffinity(0))
        wanted = [int(cpu) for cpu in given.cpus.split(",") if cpu] or mine[:2]
        self.allow_unpinned = given.allow_unpinned
        self.pinned = len(set(wanted)) == 2 and set(wanted) <= set(mine)
        self.cpus = (wanted[0], wanted[1]) if self.pinned else (mine[0], mine[0])
        if not self.pinned and not (given.allow_unpinned or given.smoke):
            sys.exit(
                f"cores {wanted} of {mine}: a latency needs two cores of its own; nothing was measured "
                "(--allow-unpinned measures all the same)"
            )

    def pick(self, smoke: int, real: int) -> int:
        """Return the parameter of this scale."""
        return smoke if self.scale == "smoke" else real


Work = Callable[[], int | None]


def pair(
    ours: Callable[[], Any],
    theirs: Work,
    cpus: tuple[int, int],
    warm_up: tuple[Callable[[], Any], Work] | None = None,
) -> int:
    """Run `ours` here and `theirs` in a forked child, each on its core; returns the ns that `ours` took.

    The child's work fails the bench when it returns anything but 0 or None, or raises. `warm_up`, a shorter pair, runs before
    the clock does: a fresh child takes a page fault for each page that it touches.
    """
    gate = mmap.mmap(-1, 4096)
    before = os.sched_getaffinity(0)
    child = os.fork()
    if child == 0:
        before_theirs = (warm_up[1],) if warm_up else ()
        _be_the_other_side((*before_theirs, theirs), gate, cpus[1])
    os.sched_setaffinity(0, {cpus[0]})
    try:
        while not gate[0]:
            pass
        gate[1] = 1
        if warm_up:
            warm_up[0]()
        began = monotonic_ns()
        ours()
        took = monotonic_ns() - began
    finally:
        os.sched_setaffinity(0, before)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit("the other side counted records that were missing, out of order or wrong")
    return took


def _be_the_other_side(theirs: tuple[Work, ...], gate: mmap.mmap, cpu: int) -> NoReturn:
    """The forked child: it ends with its parent, and a failure of its ends the parent's endless wait."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    status = 1
    try:
        os.sched_setaffinity(0, {cpu})
        gate[0] = 1
        while not gate[1]:
            pass
        failures = [work() for work in theirs]
        status = 1 if any(failures) else 0
    except BaseException:  # noqa: BLE001 - whatever it was, the parent must not wait for ever
        traceback.print_exc()
        os.kill(parent, signal.SIGTERM)
    os._exit(status)


class Rings:
    """Rings of one bench run, gone at its end."""

    def __init__(self) -> None:
        self.instance = f"b{uuid.uuid4().hex[:12]}"
        self.state_dir = tempfile.mkdtemp(prefix="tickring-bench-")
        self._made: list[Producer] = []

    def __call__(self, ring: str, dtype: np.dtype, slots: int, mode: str = "overwrite") -> Producer:
        """Open one."""
        name = ring_name(self.instance, "bench", ring)
        producer = open_ring(name, dtype, slots, self.state_dir, mode=mode)
        self._made.append(producer)
        return producer

    def close(self) -> None:
        """Unmap and remove all."""
        for producer in self._made:
            producer.close()
            reclaim_ring(producer.name)
            regions.unlink(producer.name.file("lock"))
        shutil.rmtree(self.state_dir)


@contextmanager
def rings() -> Iterator[Rings]:
    """Make the rings of one run, and remove them."""
    made = Rings()
    try:
        yield made
    finally:
        made.close()


def reference() -> tuple[Any, Any]:
    """Compile reference.c; returns its functions and a cffi FFI."""
    return compiled(
        "reference.c",
        "void line_ping(void *, int64_t); void line_pong(void *, int64_t); int64_t queue_bytes(void);"
        "void word_ping(void *, int64_t); void word_pong(void *, int64_t);"
        "void message_ping(void *, int64_t); void message_pong(void *, int64_t);"
        "void queue_push(void *, int64_t); int64_t queue_pop(void *, int64_t);",
    )


def compiled(source: str, declarations: str, options: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """Compile a C file of this folder, from the project's root; returns its functions and a cffi FFI."""
    ffi = FFI()
    ffi.cdef(declarations)
    library = Path(tempfile.mkdtemp(prefix="tickring-bench-")) / f"{source}.so"
    command = ["gcc", "-std=c11", "-O3", "-shared", "-fPIC", str(_HERE / source), *options]
    subprocess.run([*command, "-o", str(library)], check=True, cwd=_HERE.parent)
    lib = ffi.dlopen(str(library))
    shutil.rmtree(library.parent)
    return lib, ffi


def shared(ffi: Any, n_bytes: int) -> Any:
    """Return zeroed memory that a forked child shares."""
    return ffi.from_buffer(mmap.mmap(-1, n_bytes))


class Figures:
    """One list of measured values a name, filled run after run."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Enter the value of one run."""
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median of the runs, NaN where there is none."""
        return statistics.median(self.values.get(name, [float("nan")]))

    def ratio(self, name: str, to: str) -> float:
        """The median of the paired ratios of one figure to another."""
        pairs = zip(self.values[name], self.values[to], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)

    def summary(self) -> dict[str, Any]:
        """Medians under their names, ranges under `<name>_range`."""
        out: dict[str, Any] = {}
        for name, values in self.values.items():
            out[name] = _rounded(statistics.median(values))
            out[f"{name}_range"] = [_rounded(min(values)), _rounded(max(values))]
        return out


def _rounded(value: float) -> float:
    return round(value, 1) if value < 1e5 else round(value)


def emit(bench: str, options: Options, facts: dict[str, Any]) -> None:
    """Print the run's JSON line; what is in ns is withheld where two cores could not be had and nobody said to go on."""
    withheld = sorted(name for name in facts if "_ns" in name)
    if withheld and not (options.pinned or options.allow_unpinned):
        facts = facts | dict.fromkeys(withheld) | {"withheld_unpinned": withheld}
    line = {"bench": bench, "scale": options.scale, "runs": options.runs, **facts}
    print(json.dumps(line | {"conditions": conditions(options)}))


def conditions(options: Options) -> dict[str, Any]:
    """Say where, on what and with what this was measured."""
    sha = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=_HERE,
    )
    words = [w for w in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in w]
    return {
        "sha": sha.stdout.strip(),
        "cpu": words[0].partition(": ")[2] if words else platform.processor(),
        "cpus_used": list(options.cpus),
        "cpus_online": os.cpu_count(),
        "cores_share_cache": _shares_cache(options.cpus),
        "pinned": options.pinned,
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _shares_cache(cpus: tuple[int, int]) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpus[0]}/cache/index3/shared_cpu_list")
    return path.read_text().strip() if path.exists() else "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
