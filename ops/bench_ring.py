"""`tickring bench ring`: the ring benches run one after the other, their figures are one JSON object with its conditions.

The benches are programs beside the packages (bench/), not part of what is installed: without a checkout there is nothing to
run, and the error says so. A latency is refused where two cores cannot be had, unless it is asked for all the same.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from shm.errors import ConfigurationError

BENCHES = (
    "bench_ring_1p1c_latency",
    "bench_ring_1p1c_throughput",
    "bench_ring_1p1c_mixed",
    "bench_ring_python",
)
KEYS = (
    "line_half_rtt_ns",
    "hop_64_half_rtt_ns",
    "hop_64_half_rtt_p99_ns",
    "hop_1664_half_rtt_ns",
    "rate_64",
    "rate_1664",
    "reference_rate_64",
    "passive_reader_rate_ratio",
    "python_publish_poll_rate",
    "python_hop_half_rtt_ns",
    "iceoryx2_python_rate",
    "iceoryx2_python_half_rtt_ns",
)
"""Always there; null where a rival is not installed."""


LIMIT_S = 300.0
"""No bench takes so long on any machine that can run it."""


def measure(smoke: bool = False, cpus: str = "", allow_unpinned: bool = False) -> dict[str, Any]:
    """Run every ring bench and return all figures: KEYS, the rivals', and the conditions.

    Raises:
        ConfigurationError: there is no checkout with the benches, or a bench failed; its own words are in the message.
    """
    folder = Path(__file__).resolve().parent.parent / "bench"
    facts: dict[str, Any] = dict.fromkeys(KEYS)
    for name in BENCHES:
        program = folder / f"{name}.py"
        if not program.exists():
            raise ConfigurationError(
                f"{program} is not there: benches run from a checkout of the project"
            )
        command = [sys.executable, str(program), *(["--smoke"] if smoke else [])]
        command += ["--cpus", cpus] if cpus else []
        command += ["--allow-unpinned"] if allow_unpinned else []
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            raise ConfigurationError(f"{name} did not end within {LIMIT_S:g} s") from None
        if done.returncode:
            raise ConfigurationError(f"{name}: {done.stderr.strip()}")
        facts |= json.loads(done.stdout)
    facts["bench"] = "ring"
    return facts


def figures_of(facts: dict[str, Any]) -> list[str]:
    """Return the names to show: KEYS first, then every other rate, hop and ratio."""
    other = [name for name in facts if name.endswith(("_rate", "_ns", "_per_s")) or "ratio" in name]
    return list(dict.fromkeys([*KEYS, *sorted(other)]))
