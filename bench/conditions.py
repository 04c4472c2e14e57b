"""What a bench's figures were measured under, so that nobody has to guess it from the line."""

import os
import platform
import subprocess
from pathlib import Path


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
