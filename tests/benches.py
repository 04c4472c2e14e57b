"""Runs a bench with its smoke parameters, as a program of its own."""

import json
import subprocess
import sys
from typing import Any

from tidy import ROOT


def line_of(bench: str, *arguments: str) -> dict[str, Any]:
    """Return the JSON line of `bench/<bench>.py`; one that fails, fails the test with what it said."""
    done = subprocess.run(
        [sys.executable, f"bench/{bench}.py", "--smoke", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made
