"""The ring benches run with their smoke parameters, check what they time, and print the keys that tables are made of."""

import json
import subprocess
import sys
from typing import Any

import pytest
from tidy import ROOT

KEYS = {
    "bench_ring_1p1c_latency": (
        "line_half_rtt_ns",
        "hop_64_half_rtt_ns",
        "hop_64_half_rtt_p99_ns",
        "hop_1664_half_rtt_ns",
    ),
    "bench_ring_1p1c_throughput": (
        "rate_64",
        "rate_1664",
        "reference_rate_64",
        "passive_reader_rate_ratio",
    ),
    "bench_ring_python": (
        "python_publish_poll_rate",
        "python_hop_half_rtt_ns",
        "iceoryx2_python_rate",
        "iceoryx2_python_half_rtt_ns",
        "last_million_bytes_per_s",
    ),
    "bench_ring_wait": (
        "idle_core_percent",
        "idle_core_percent_by_process",
        "wake_us_p99",
        "wake_last_of_3_us_p99",
    ),
}


def smoke(name: str) -> dict[str, Any]:
    """Run a bench with its tiny parameters."""
    command = [sys.executable, f"bench/{name}.py", "--smoke"]
    made = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert made.returncode == 0, made.stderr
    (line,) = made.stdout.splitlines()
    return json.loads(line)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_a_ring_bench_runs(name: str) -> None:
    """Each key is there; a rival that is not installed is null and nothing else is."""
    line = smoke(name)
    assert line["bench"] == name.removeprefix("bench_")
    for key in KEYS[name]:
        assert line[key] is not None or key.startswith("iceoryx2"), key
    assert {"cpu", "kernel", "pinned", "versions", "load"} <= set(line["conditions"])


def test_the_readme_table_is_made_from_the_lines() -> None:
    """What bench/README.md shows is what the script makes of the lines that are checked in."""
    made = subprocess.run(
        [sys.executable, "bench/tables.py"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert made.strip() in (ROOT / "bench" / "README.md").read_text()
