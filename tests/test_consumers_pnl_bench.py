"""The bench of the P&L kernels runs, books what Python's integers book, and prints one JSON line."""

import json
import subprocess
import sys

import pytest
from tidy import ROOT


@pytest.mark.slow
def test_the_kernel_bench_runs() -> None:
    """Each figure is there; the bench itself fails where a fill or a row is missing."""
    command = [sys.executable, "bench/bench_pnl_kernel.py", "--smoke"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["bench"], told["parameters"]) == ("bench_pnl_kernel", "smoke")
    names = ("fill_average_ns", "fill_fifo_ns", "mark_ns", "event_ns", "fill_python_ns")
    assert all(told["figures"][name] > 0 for name in names)
