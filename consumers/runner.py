"""A computation run as a worker process: spec, counters, rings, warm-up, READY, turns until SIGTERM, a clean end.

**Protocol** Counters (STARTING) and a beat from a thread while kernels are compiled or loaded; the inputs that are there, those
that are needed waited for (JOINING); the output ring under a new epoch; the state restored; READY; then one thread and no
compilation any more (what is compiled nevertheless is counted in `compiles_after_ready`, logged once, and makes `status`
degraded).
SIGTERM: the inputs are read to where they stood, the state is written, the ring says STOPPED.
"""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from consumers.checkpoint import CheckpointStore
from consumers.computation import Computation
from consumers.loop import InputSet, Stoppable, input_counters, spin_us_of
from consumers.stateful import COUNTERS, StatefulWorker
from shm.counters import Counters
from shm.njit import CompileCounter
from shm.producer import open_ring
from shm.region import ring_name
from shm.worker import StopFlag, WorkerSpec

_BEAT_S = 0.25


class StatefulSpec(WorkerSpec, kw_only=True, forbid_unknown_fields=True):
    """What a worker of this kind is told."""

    inputs: list[str]
    slots: int = 16384
    """Capacity of the output ring in records, a power of two."""
    checkpoint_s: float = 1.0
    """Pause between checkpoints: what a restart replays at most."""
    spin_us: float = -1.0
    """How long to spin for a record before yielding and sleeping; -1: all the time where `cpu` pins the worker, else 20."""


@contextmanager
def _beating(counters: Counters) -> Iterator[None]:
    """Show life while kernels are compiled, which takes seconds where the cache is cold."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_BEAT_S):
            counters.heartbeat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell_compiles(counters: Counters, compiles: CompileCounter) -> None:
    """Count what was compiled after READY, which `status` calls degraded, and say it once: each time the worker stalls."""
    if counters.get("compiles_after_ready") == 0:
        structlog.get_logger().error(
            "a kernel was compiled after READY, which stalls the worker: warm up its signature before",
            kernel=compiles.newest,
        )
    counters.set("compiles_after_ready", compiles.count)


def run_stateful(
    spec: StatefulSpec,
    make: Callable[[Counters], Computation],
    ring: str,
    more_counters: Sequence[str] = (),
    stop: Stoppable | None = None,
    needed: Sequence[str] = (),
) -> int:
    """Run a computation as a worker until SIGTERM, then read its inputs to their ends; return the exit status.

    Args:
        spec: from the supervisor.
        make: makes the computation and warms it up, so that nothing is compiled after READY.
        ring: the output ring's second name, `<worker>.<ring>`.
        more_counters: names that `Computation.counters` uses.
        stop: tells the end; None: SIGTERM and SIGINT.
        needed: inputs without which the worker does not begin; it begins without the others and joins them when they come.
    """
    stop = stop if stop is not None else StopFlag()
    names = [*COUNTERS, *input_counters(spec.inputs), *more_counters]
    counters = Counters.create(spec.instance, spec.worker, names, spec.reader_group)
    compiles = CompileCounter()
    with _beating(counters):
        computation = make(counters)
    spin_us = spec.spin_us if spec.spin_us >= 0 else spin_us_of(spec.cpu)
    inputs = InputSet(
        spec.instance, spec.inputs, spec.worker, counters, computation.batch_records, spin_us
    )
    if not inputs.join(stop, needed=needed):
        counters.set_state("STOPPED")
        return 0
    name = ring_name(spec.instance, spec.worker, ring)
    output = open_ring(
        name,
        computation.output,
        spec.slots,
        spec.state_dir,
        reader_group=spec.reader_group,
        consumer_group=spec.consumer_group,
    )
    store = CheckpointStore(Path(spec.state_dir), spec.worker)
    worker = StatefulWorker(computation, inputs, output, store, counters, spec.checkpoint_s)
    counters.set("restored", int(worker.restore()))
    worker.publish_restart()
    gc.collect()
    gc.freeze()
    compiles.count = 0
    counters.set_state("READY")
    while not (stop.is_set and worker.drained()):
        if stop.is_set:
            counters.set_state("DRAINING")
        worker.turn()
        if compiles.count:
            _tell_compiles(counters, compiles)
    worker.save(is_last=True)
    output.stop()
    inputs.detach()
    counters.set_state("STOPPED")
    inputs.close()
    output.close()
    return 0
