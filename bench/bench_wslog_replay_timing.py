"""How late is a frame of a replay in time: decoded and drained at its own instant, not a millisecond after?

    recording ──> wait for the frame's instant ──> decode ──> ring ──> drained

Lateness is taken where the wait ends, on the steady clock, against the instant that the recording's own times give; a frame
that waits for the one before it to be decoded is late by that. The same waits with nothing to decode tell, in the same run,
what the host itself does to them ("host"). `cpu_percent` is of one core, over the whole replay. The replay's report must
close, else the run fails.

    python bench/bench_wslog_replay_timing.py [--smoke] [--cpu N]
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from conditions import asked, conditions

from collectors.synthetic import SyntheticSpec, synthetic_frames
from ops.replay import play
from ops.replay_pace import Lateness, Pace
from ops.replay_recording import merged, recordings_of
from shm.clock import monotonic_ns

FRAMES = {"smoke": 100, "real": 60_000}
FRAMES_PER_S = 1_000.0
SPEEDS = (1.0, 10.0)
TO_REACH_US = 1_000


def host_late(path: Path, speed: float) -> Lateness:
    """Wait as a replay does and do nothing in between."""
    pace = Pace(speed)
    for _ in pace.frames(merged(recordings_of([path], "kraken_v2"))):
        pass
    return pace.lateness()


def replayed(path: Path, speed: float) -> dict[str, Any]:
    """Replay, and return how late frames were and what it took of a core."""
    wall, cpu = monotonic_ns(), time.process_time_ns()
    report, _ = play([path], "kraken_v2", speed=speed)
    share = (time.process_time_ns() - cpu) / (monotonic_ns() - wall)
    if report.unaccounted or report.lateness is None:
        sys.exit(f"unaccounted {report.unaccounted}: the figures would mean nothing")
    late: dict[str, Any] = msgspec.to_builtins(report.lateness)
    return late | {"cpu_percent": round(100 * share, 1)}


def main() -> None:
    """Run, check, and print one JSON line."""
    kind, cpu = asked(__doc__)
    start = 10**18
    spec = SyntheticSpec(depth=10, start_ns=start, frames=FRAMES[kind], frames_per_s=FRAMES_PER_S)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "market.jsonl"
        with path.open("wb") as file:
            for offset_ns, data in synthetic_frames(spec, "kraken_v2"):
                row = {"ts": start + offset_ns, "kind": "recv", "url": "", "data": data.decode()}
                file.write(msgspec.json.encode(row) + b"\n")
        for speed in SPEEDS:
            host = msgspec.to_builtins(host_late(path, speed))
            figures[f"speed_{speed:g}"] = replayed(path, speed) | {"host": host}
    line = {"bench": Path(__file__).stem, **conditions(kind, cpu), "figures": figures}
    sys.stdout.write(json.dumps(line | {"to_reach_us": TO_REACH_US}) + "\n")


if __name__ == "__main__":
    main()
