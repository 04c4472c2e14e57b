"""The bench of the sinks runs, checks what it moved, and says under which conditions."""

import json
import subprocess
import sys

from conftest import ROOT

BENCH = "bench/bench_sinks_1p1c_throughput.py"


def test_the_bench_runs_in_small() -> None:
    """Every row has a rate, and the conditions stand beside them."""
    command = [sys.executable, BENCH, "--smoke"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(run.stdout)
    names = {
        "redis_py_pipeline",
        "fanout_trades",
        "fanout_features",
        "plain_file",
        "recorder_events",
    }
    assert set(told["records_per_s"]) == names
    assert min(told["records_per_s"].values()) > 0
    assert {"cpus", "load", "kernel", "runs", "records"} <= set(told["conditions"])
