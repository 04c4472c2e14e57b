"""A worker that compiles after READY is counted, logged once and degraded; one that does not is none of it."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
import structlog
from conftest import Instance

from consumers.runner import StatefulSpec, run_stateful
from layouts import EVENT, FEATURES, Kind
from ops.status import WorkerRow, _reasons
from shm import region as regions
from shm.counters import read_counters
from shm.errors import AttachError
from shm.producer import open_ring
from shm.region import ring_name
from shm.registry import files_of

WAIT_S = 60.0


class Lazy:
    """A computation that compiles kernels when records come: as many as it is told."""

    identity, output, batch_records, unfinished = "lazy 1", FEATURES, 16, False

    def __init__(self, compiles: int) -> None:
        self.rows = np.zeros(16, FEATURES)
        self.counters: dict[str, int] = {}
        self.left = compiles

    def apply(self, _records: int, _n: int, _source: int, _epoch: int) -> int:
        """Compile one, if any is left."""
        if self.left:
            self.left -= 1

            def late_kernel(x: int) -> int:
                return x + 1

            compile_now: Any = numba.njit(late_kernel)
            compile_now(1)
        return 0

    def forget(self, source: int) -> None:
        """Nothing is kept."""

    def wanting(self, _source: int) -> list[int]:
        """No book is kept."""
        return []

    def idle(self) -> None:
        """Nothing is due."""

    def to_bytes(self) -> bytes:
        """Return no state."""
        return b""

    def load(self, image: bytes) -> None:
        """Take none."""


@pytest.mark.parametrize("compiles", [0, 1, 2])
def test_a_compilation_after_ready_is_counted_and_told_once(
    instance: Instance, compiles: int
) -> None:
    """The log names the kernel; the counter says how many."""
    producer = open_ring(ring_name(instance.name, "x", "events"), EVENT, 64, instance.state_dir)
    spec = StatefulSpec(
        instance=instance.name,
        worker="lazy",
        state_dir=str(instance.state_dir),
        inputs=["x.events"],
        slots=64,
    )
    stop = SimpleNamespace(is_set=False)
    status: list[int] = []

    def work() -> None:
        status.append(run_stateful(spec, lambda _counters: Lazy(compiles), "rows", stop=stop))

    def seen() -> int:
        try:
            return read_counters(instance.name, "lazy").values["in.x.events.seq"]
        except AttachError:
            return -1

    record = np.zeros(1, EVENT)
    record["kind"] = Kind.HEARTBEAT
    with structlog.testing.capture_logs() as logs:
        thread = threading.Thread(target=work)
        thread.start()
        until = time.monotonic() + WAIT_S
        for seq in range(4):
            while seen() < seq and time.monotonic() < until:
                time.sleep(0.01)
            producer.publish_batch(record)
        while seen() < 4 and time.monotonic() < until:
            time.sleep(0.01)
        stop.is_set = True
        thread.join(WAIT_S)
    counted = read_counters(instance.name, "lazy").values["compiles_after_ready"]
    producer.close()
    for file in files_of(instance.name):
        regions.unlink(file)
    assert status == [0]
    assert counted == compiles
    told = [line for line in logs if "after READY" in line["event"]]
    assert len(told) == min(compiles, 1)
    assert all("late_kernel" in line["kernel"] for line in told)


def test_a_worker_that_compiled_after_ready_is_not_well() -> None:
    """`status` says so, with the next command; without it there is no reason."""
    row = WorkerRow(worker="bars", kind="features", state="RUNNING")
    assert _reasons(row) == []
    row.compiles_after_ready = 2
    (reason,) = _reasons(row)
    assert "bars compiled 2 kernels" in reason
    assert "tickring logs bars" in reason
