"""How long after an event is published is its row of features visible to others?

    this process, core P ──> bench.events ──> features worker, core C, spinning ──> features.features ──> read afterwards

Open loop: frames are due at fixed times, each is stamped with the time at which it was due (`ts_recv`) and
published then; what a late frame waited counts. `hop_*`: the row's publish_delta_ns less that of the event which
caused it, so from visible to visible; `due_*`: from the due time. Inside: poll, kernel, publish, all of the
worker's loop with its heartbeats and checkpoints. Outside: warm-up. Every frame must have caused its row, in
order, else the bench fails. With fewer than two cores of one's own the figures are those of the scheduler: `cores`
and `load_1min` tell.

    python bench/bench_features_latency.py [--smoke] [--cpus P,C]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from features_stream import market

from layouts import EVENT, FEATURES, INSTRUMENT, Kind
from shm import region as regions
from shm.clock import monotonic_ns, now_ns
from shm.counters import read_counters
from shm.errors import AttachError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

FRAMES = {"smoke": 300, "real": 20_000}
WARM_UP = {"smoke": 100, "real": 2_000}
GAP_NS = 100_000
SLOTS = 1 << 17
READY_S = 120.0


def frames_of(records: np.ndarray) -> list[np.ndarray]:
    """Cut records into frames, each ending with the record that causes a row."""
    ends = np.flatnonzero(np.isin(records["kind"], (Kind.TRADE, Kind.QUOTE))) + 1
    return [records[a:b].copy() for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def publish_table(instance: str, folder: Path, instruments: int) -> Producer:
    """Make the collector's instrument table."""
    table = open_ring(ring_name(instance, "bench", "instruments"), INSTRUMENT, 64, folder)
    rows = np.zeros(instruments, INSTRUMENT)
    rows["kind"], rows["version"], rows["price_scale"], rows["qty_scale"] = Kind.INSTRUMENT, 1, 2, 6
    rows["instrument_id"] = np.arange(1, instruments + 1)
    table.publish_batch(rows)
    return table


def wait_until_ready(instance: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the worker says READY."""
    until = monotonic_ns() + int(READY_S * 1e9)
    while monotonic_ns() < until:
        if process.poll() is not None:
            raise SystemExit("the features worker ended")
        try:
            if read_counters(instance, "features").state == "READY":
                return
        except AttachError:
            continue
    raise SystemExit(f"the features worker was not ready within {READY_S:g} s")


def play(producer: Producer, frames: list[np.ndarray]) -> None:
    """Publish each frame when it is due."""
    due = now_ns() + 1_000_000
    for frame in frames:
        frame["ts_recv"] = due
        while now_ns() < due:
            pass
        producer.publish_batch(frame)
        due += GAP_NS


def spans(instance: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hop and due latencies (ns) of the last n rows."""
    with open_reader(ring_name(instance, "features", "features"), FEATURES) as reader:
        rows = reader.last(n)[0]
    with open_reader(ring_name(instance, "bench", "events"), EVENT) as reader:
        first, end = int(rows["source_seq"][0]), int(rows["source_seq"][-1]) + 1
        events, info = reader.read_range(first, end)
    assert len(rows) == n and info.lost == 0, "rows or events are missing"
    assert np.all(np.diff(rows["source_seq"]) > 0), "rows are out of order"
    causes = events[rows["source_seq"] - first]
    assert (causes["ts_recv"] == rows["ts_recv"]).all(), "a row names another cause"
    due = rows["publish_delta_ns"].astype(np.int64)
    return due - causes["publish_delta_ns"], due


def measure(kind: str, producer_cpu: int, worker_cpu: int) -> dict[str, Any]:
    """Run it; return percentiles."""
    instance = f"bench{os.getpid()}"
    opening, body = market(4, FRAMES[kind] + WARM_UP[kind], 0.3, 0.25)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        table = publish_table(instance, folder, 4)
        events = open_ring(ring_name(instance, "bench", "events"), EVENT, SLOTS, folder)
        common = {"instance": instance, "worker": "features", "state_dir": str(folder)}
        spec = {**common, "cpu": worker_cpu, "inputs": ["bench.events"], "slots": 1 << 15}
        (folder / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "consumers.features", str(folder / "spec.json")]
        process = subprocess.Popen(command)
        try:
            wait_until_ready(instance, process)
            events.publish_batch(opening.copy())
            os.sched_setaffinity(0, {producer_cpu})
            frames = frames_of(body)
            play(events, frames)
            process.terminate()
            assert process.wait(60) == 0, "the features worker failed"
            hop, due = spans(instance, FRAMES[kind])
        finally:
            process.kill()
            process.wait()
            events.close()
            table.close()
            for file in files_of(instance):
                regions.unlink(file)
    figures: dict[str, Any] = {"frames": len(hop), "gap_us": GAP_NS / 1000}
    for name, values in (("hop", hop), ("due", due)):
        for part, at in (("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9), ("max", 100)):
            figures[f"{name}_{part}_ns"] = float(np.percentile(values, at).round(0))
    return figures


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpus", default="0,1", help="cores of producer and worker")
    given = parser.parse_args()
    producer_cpu, worker_cpu = (int(text) for text in given.cpus.split(","))
    kind = "smoke" if given.smoke else "real"
    there = os.sched_getaffinity(0)
    if not {producer_cpu, worker_cpu} <= there or producer_cpu == worker_cpu:
        raise SystemExit(f"two different cores of {sorted(there)} expected, {given.cpus} given")
    load = os.getloadavg()[0]
    command = ["git", "rev-parse", "--short", "HEAD"]
    sha = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    line = {
        "bench": Path(__file__).stem,
        "sha": sha,
        "parameters": kind,
        "cpus": given.cpus,
        "cores": os.cpu_count(),
        "load_1min": round(load, 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "figures": measure(kind, producer_cpu, worker_cpu),
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
