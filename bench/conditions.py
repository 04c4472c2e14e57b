"""What a bench was asked for and what its figures were measured under, so that nobody has to guess it from the line."""

import argparse
import os
import platform
import subprocess
from pathlib import Path


def asked(doc: str | None) -> tuple[str, int]:
    """Take a bench's command line: parameters ("smoke" or "real") and the core that it is pinned to from here on (-1: none)."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpu", type=int, default=-1, help="core to run on (-1: any)")
    given = parser.parse_args()
    if given.cpu >= 0:
        os.sched_setaffinity(0, {given.cpu})
    return "smoke" if given.smoke else "real", given.cpu


def conditions(kind: str, cpu: int) -> dict[str, object]:
    """Say what any figures depend on: parameters ("smoke" or "real"), commit, machine, load, versions.

    Args:
        kind: name of the parameters.
        cpu: core that the bench is pinned to; -1: none.
    """
    command = ["git", "rev-parse", "--short", "HEAD"]
    sha = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "parameters": kind,
        "sha": sha,
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "pinned_to": cpu,
        "load_1min": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
