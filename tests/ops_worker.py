"""A worker that does as little as a worker may, and misbehaves when its spec tells it to."""

import signal
import time
from typing import Literal

from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.worker import StopFlag, WorkerSpec, run_worker

Behaviour = Literal["work", "hang", "refuse", "crash", "end", "deaf", "slow", "join", "stuck"]


class TinySpec(WorkerSpec):
    """`behaviour` is what it does once it is ready ("refuse", "crash": before)."""

    behaviour: Behaviour = "work"
    port: int = 0


def main(spec: TinySpec) -> int:
    """Beat until told to end."""
    stop = StopFlag()
    counters = Counters.create(
        spec.instance,
        spec.worker,
        ["listen_port", "starts", "connected", "books_live", "books_total"],
    )
    counters.add("starts")
    counters.set("listen_port", spec.port or 4711)
    if spec.behaviour == "refuse":
        raise ConfigurationError("the moon is not configured")
    if spec.behaviour == "crash":
        return 7
    if spec.behaviour == "slow":
        time.sleep(0.5)
    if spec.behaviour in ("join", "stuck"):
        counters.set_state("JOINING")
        for _ in range(200):
            time.sleep(0.02)
            if spec.behaviour == "join":
                counters.heartbeat()
    for name in ("connected", "books_live", "books_total"):
        counters.set(name, 1)
    counters.set_state("READY")
    if spec.behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while not (stop.is_set and spec.behaviour != "deaf"):
        time.sleep(0.02)
        if spec.behaviour == "end":
            return 0
        if spec.behaviour != "hang":
            counters.heartbeat()
    counters.set_state("STOPPED")
    counters.close()
    return 0


if __name__ == "__main__":
    run_worker(TinySpec, main)
