"""The bench of the frame path runs, checks what it decoded, and prints one JSON line."""

import json
import subprocess
import sys

import pytest
from tidy import ROOT


@pytest.mark.slow
def test_the_frame_bench_prints_what_it_measured(captures) -> None:
    """Smoke parameters: every figure is there and positive; nothing is said about how large it is."""
    run = subprocess.run(
        [
            sys.executable,
            "bench/bench_collector_kraken_v1_frame.py",
            "--smoke",
            "--captures",
            str(captures),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    line = json.loads(run.stdout)
    for row in ("kraken_v1", "kraken_v1_with_books", "kraken_v2"):
        assert 0 < line[row]["p50_us"] <= line[row]["p99_us"] <= line[row]["max_us"]
        assert min(line[row]["mean_us"], line[row]["cpu_us"]) > 0
    assert line["kraken_v1"]["frames"] == 4269
    assert ("ratio_to_cryptofeed" in line) == ("cryptofeed_validating" in line)
    assert {"sha", "cpu", "load", "pinned", "kernel", "python"} <= set(line["conditions"])
