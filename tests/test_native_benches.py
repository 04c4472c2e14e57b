"""The ring benches run with their smoke parameters, check what they time, and print the keys that tables are made of."""

import json
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from tidy import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import tables

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
    "bench_ring_1p1c_mixed": (
        "hop_ratio_c_to_jit",
        "hop_ratio_jit_to_c",
        "time_ratio_c_to_jit",
        "time_ratio_jit_to_c",
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
    command = [sys.executable, f"bench/{name}.py", "--smoke", "--allow-unpinned"]
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


def test_the_tables_are_made_from_the_lines() -> None:
    """What bench/README.md shows is what the script makes of the lines that are checked in."""
    command = [sys.executable, "bench/tables.py", "--check"]
    made = subprocess.run(command, cwd=ROOT, check=False)
    assert made.returncode == 0, "python bench/tables.py"


def test_a_figure_is_judged_on_both_sides_of_its_bound() -> None:
    """At the bound it is reached; beyond it, or missing, it is not, and is listed with its reason."""
    for ratio, is_reached in ((1.25, True), (1.251, False), (None, False)):
        line = {"hop_64_half_rtt_ns": 80.0, "ratio_64_to_line": ratio, "conditions": {}}
        text = tables.ring_table({"bench_ring_1p1c_latency": line})
        (row,) = [each for each in text.splitlines() if each.startswith("| hop, 64 B")]
        assert row.endswith("| yes | 1p1c_latency |") is is_reached
        assert ("- **hop, 64 B" in text) is not is_reached


ROWS = [json.loads(line) for line in (ROOT / "bench" / "rows.jsonl").read_text().splitlines()]


def test_every_row_is_there_once_and_one_without_a_reason_is_refused() -> None:
    """R1 to R16, F1 to F4 and X1 to X4; a row that is not reached has to say why."""
    wanted = [
        f"{kind}{i}" for kind, last in (("R", 16), ("F", 4), ("X", 4)) for i in range(1, last + 1)
    ]
    assert [row["row"] for row in ROWS] == wanted
    silent = ROWS[0] | {"is_reached": False, "reason": ""}
    with pytest.raises(ValueError, match="say why"):
        tables.rows_table([silent])
    with pytest.raises(ValueError, match="once each"):
        tables.rows_table([ROWS[0], ROWS[0]])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_a_row_names_tests_that_exist(row: dict[str, Any]) -> None:
    """The file is there, and each word of -k is in the name of one of its tests."""
    words = shlex.split(row["command"])
    text = (ROOT / words[words.index("pytest") + 1]).read_text()
    names = " ".join(re.findall(r"(?m)^def (test_\w+)", text))
    chosen = words[words.index("-k") + 1].split(" or ") if "-k" in words else ["test_"]
    assert all(word in names for word in chosen), (chosen, names)
