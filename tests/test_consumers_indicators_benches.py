"""The indicators' benches run, compare what they time, and print one JSON line."""

import json
import subprocess
import sys
from typing import Any

import pytest
from tidy import ROOT


def smoke(name: str) -> dict[str, Any]:
    """Run a bench with its tiny parameters."""
    command = [sys.executable, f"bench/{name}.py", "--smoke"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert made.returncode == 0, made.stderr
    (line,) = made.stdout.splitlines()
    return json.loads(line)


@pytest.mark.slow
def test_the_batch_bench_runs(require_rival: Any) -> None:
    """A ratio for each indicator that TA-Lib has."""
    require_rival("talib")
    line = smoke("bench_indicators_batch")
    assert line["bench"] == "bench_indicators_batch"
    (figures,) = line["figures"].values()
    assert len(figures["indicators"]) >= 14
    assert all(row["ratio"] > 0 for row in figures["indicators"].values())


@pytest.mark.slow
def test_the_streaming_bench_runs() -> None:
    """A cost for each indicator, whose values were those of the batch."""
    line = smoke("bench_indicators_streaming")
    assert line["bench"] == "bench_indicators_streaming"
    assert len(line["figures"]) >= 20
    assert all(row["update_ns"] > 0 for row in line["figures"].values())
