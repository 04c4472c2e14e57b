"""The benches of features and bars run, verify what they time, and print one JSON line."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tidy import ROOT


def smoke(name: str) -> dict[str, Any]:
    """Run a bench with its tiny parameters; give its figures."""
    command = [sys.executable, f"bench/{name}.py", "--smoke"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert made.returncode == 0, made.stderr
    (line,) = made.stdout.splitlines()
    told = json.loads(line)
    assert told["bench"] == name
    assert told["parameters"] == "smoke"
    return told["figures"]


@pytest.mark.slow
def test_the_kernel_bench_runs() -> None:
    """Costs of both kinds of row, and the ratio of many instruments to one."""
    figures = smoke("bench_features_kernel")
    assert figures["tick_ns"] > 0
    assert figures["all_ns"] > 0
    assert figures["ratio_1000"] > 0


@pytest.mark.slow
@pytest.mark.stress
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are needed: one a side")
def test_the_latency_bench_runs() -> None:
    """Every frame caused its row, in order; percentiles rise."""
    figures = smoke("bench_features_latency")
    assert figures["frames"] == 300
    assert 0 < figures["hop_p50_ns"] <= figures["hop_p99_ns"] <= figures["hop_max_ns"]


@pytest.mark.slow
def test_the_bars_bench_runs() -> None:
    """Eleven frames by three paces, many instruments, VWAP, and DuckDB over the same trades."""
    figures = smoke("bench_bars_kernel")
    assert min(figures["trade_ns"].values()) > 0
    assert figures["trade_ns_1000"] > 0
    assert 0 < figures["vwap_update_ns"] < figures["duckdb_ns"]
