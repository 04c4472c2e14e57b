"""What does waiting cost where nothing is pinned: CPU of a pipeline that has nothing to do, and the wake-up of who sleeps?

    `tickring up`, links open, books LIVE, a market that says nothing      CPU of every process, supervisor and Redis too
    the same with the default market                                      for comparison: it works
    A ──ring──> (B)                    B sleeps on its futex; A publishes one record once the ring shows that it does
    A ──ring──> (B) (C) (D)            the same with three, as the default pipeline has on its events

CPU is what the kernel charged (schedstat of every thread), in percent of one core: the median of windows of `idle_s`. A
wake-up is timed from just before `publish` in A to B's hands on the copied record, both in Python; of three the last one
counts. Every record has to be there, once. No process is pinned, spins, or has a priority.

    python bench/bench_ring_wait.py [--smoke]
"""

import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import Figures, Options, emit, rings
from rivals import end_with_parent

from layouts import EVENT
from ops.end import bring_down
from ops.launch import launch
from ops.options import Topology
from ops.status import read_children, wait_ready
from ops.topology import parse_topology
from shm.clock import monotonic_ns
from shm.consumer import Consumer, join, wait_any
from shm.cursors import consumers_of
from shm.producer import Producer
from shm.registry import read_instance

SILENT = {"source": "synthetic", "frames_per_s": 0.001}
READY_S = 120.0
SETTLE_S = 3.0
SPIN_US = 20.0


def topology(name: str, state_dir: str, silent: bool, small: bool) -> Topology:
    """Return the default topology, perhaps with a market that says nothing; `small`: one collector alone."""
    table: dict[str, Any] = {"instance": name, "state_dir": state_dir}
    if silent:
        table["venue"] = SILENT
    if small:
        table["collectors"] = {"kraken_v1": {"enabled": False}}
        table |= {
            worker: {"enabled": False} for worker in ("features", "bars", "fanout", "recorder")
        }
    return parse_topology(table, "bench_ring_wait")


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process's threads in ns."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def pipeline_percent(silent: bool, small: bool, idle_s: float, runs: int) -> Figures:
    """Run a pipeline; returns the CPU of each process in percent of a core, a value for each of `runs` windows of `idle_s`."""
    name = f"b{os.getpid()}"
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="tickring-bench-") as state_dir:
        launch(topology(name, state_dir, silent, small))
        try:
            if not (found := wait_ready(name, READY_S)).is_ready:
                raise SystemExit(f"the pipeline is not ready: {found.reasons}")
            instance = read_instance(name)
            pids = {worker: facts.pid for worker, facts in read_children(instance).items()}
            pids["supervisor"] = instance.pid
            time.sleep(min(SETTLE_S, idle_s))
            for _ in range(runs):
                before = {worker: cpu_ns(pid) for worker, pid in pids.items()}
                began = monotonic_ns()
                time.sleep(idle_s)
                scale = 100 / (monotonic_ns() - began)
                spent = {worker: cpu_ns(pid) - before[worker] for worker, pid in pids.items()}
                for worker, ns in spent.items():
                    figures.add(worker, scale * ns)
                figures.add("all", scale * sum(spent.values()))
        finally:
            bring_down(name)
    return figures


def percent_facts(what: str, figures: Figures) -> dict[str, Any]:
    """Return the sum over the processes with its range, and each process' median."""
    values = figures.values.pop("all")
    return {
        f"{what}_core_percent": round(statistics.median(values), 2),
        f"{what}_core_percent_range": [round(min(values), 2), round(max(values), 2)],
        f"{what}_core_percent_by_process": {
            worker: round(statistics.median(each), 2) for worker, each in figures.values.items()
        },
    }


def wake_ns(consumers: int, wakes: int) -> np.ndarray:
    """Return the wake-ups' latencies in ns, each that of the last consumer to have the record."""
    with rings() as made:
        producer = made("records", EVENT, 1024)
        seen = np.memmap(Path(made.state_dir) / "seen", np.int64, "w+", shape=(consumers, wakes))
        children = [fork_sleeper(producer, f"c{i}", seen[i]) for i in range(consumers)]
        sent = np.zeros(wakes, np.int64)
        words, rng = producer.slot.view(np.int64), random.Random(1)
        for i in range(wakes):
            time.sleep(rng.uniform(0.001, 0.004))
            while not all_asleep(producer, consumers):
                time.sleep(0.0001)
            words[4] = i
            sent[i] = monotonic_ns()
            producer.publish_slot()
        failed = [os.waitpid(child, 0)[1] for child in children]
        if any(failed):
            raise SystemExit("a consumer missed a record, or had one twice")
        latencies: np.ndarray = np.asarray(seen).max(axis=0) - sent
        del seen
    return latencies


def all_asleep(producer: Producer, consumers: int) -> bool:
    """Tell whether each consumer is there and on its futex, or about to be."""
    facts = producer.facts()
    there = consumers_of(producer.name, facts.uuid, facts.head)
    return len(there) == consumers and all(each.asleep for each in there)


def fork_sleeper(producer: Producer, name: str, seen: np.ndarray) -> int:
    """Start a process that waits for each record and notes when it had it; it ends with this one."""
    child = os.fork()
    if child:
        return child
    end_with_parent()
    status = 1
    try:
        status = int(not sleeps_well(join(producer.name, name, EVENT), seen))
    finally:
        os._exit(status)


def sleeps_well(consumer: Consumer, seen: np.ndarray) -> bool:
    """Take one record a wake-up; False where one is missing, repeated or early."""
    batch = np.zeros(8, EVENT)
    for i in range(len(seen)):
        while not wait_any([consumer], 1.0, SPIN_US):
            pass
        n = consumer.poll_into(batch)
        seen[i] = monotonic_ns()
        if n != 1 or batch["word_0"][0] != i:
            return False
        consumer.commit()
    return True


def main() -> None:
    """The silent pipeline, the default one, then the wake-ups."""
    options = Options(__doc__)
    options.pinned = False
    small = options.scale == "smoke"
    idle_s = options.pick(1, 2)
    silent = pipeline_percent(silent=True, small=small, idle_s=idle_s, runs=options.runs)
    facts: dict[str, Any] = {"idle_s": idle_s} | percent_facts("idle", silent)
    if not small:
        market = pipeline_percent(silent=False, small=False, idle_s=idle_s, runs=options.runs)
        facts |= percent_facts("default", market)
    wakes = options.pick(20, 500)
    figures = Figures()
    for _ in range(options.runs):
        for consumers, label in ((1, "wake"), (3, "wake_last_of_3")):
            latencies = wake_ns(consumers, wakes) / 1000
            for q in (50, 90, 99):
                figures.add(f"{label}_us_p{q}", float(np.percentile(latencies, q)))
            figures.add(f"{label}_us_max", float(latencies.max()))
    emit("ring_wait", options, facts | figures.summary() | {"wakes": wakes, "consumers_wrong": 0})


if __name__ == "__main__":
    main()
