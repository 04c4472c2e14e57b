"""How late is a frame of a replay in time at speed 1: decoded and drained at its own instant, not a millisecond after?

    recording ──> wait for the frame's instant ──> decode ──> ring ──> drained

Lateness is taken where the wait ends, on the steady clock, against the instant that the recording's own times give; a frame
that waits for the one before it to be decoded is late by that. The replay's report must close, else the run fails.

    python bench/bench_wslog_replay_timing.py [--smoke] [--cpu N]
"""

import json
import sys
import tempfile
from pathlib import Path

import msgspec
from conditions import asked, conditions

from collectors.synthetic import SyntheticSpec, synthetic_frames
from ops.replay import play

FRAMES = {"smoke": 100, "real": 10_000}
FRAMES_PER_S = 1_000.0
TO_REACH_US = 1_000


def main() -> None:
    """Run, check, and print one JSON line."""
    kind, cpu = asked(__doc__)
    start = 10**18
    spec = SyntheticSpec(depth=10, start_ns=start, frames=FRAMES[kind], frames_per_s=FRAMES_PER_S)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "market.jsonl"
        with path.open("wb") as file:
            for offset_ns, data in synthetic_frames(spec, "kraken_v2"):
                row = {"ts": start + offset_ns, "kind": "recv", "url": "", "data": data.decode()}
                file.write(msgspec.json.encode(row) + b"\n")
        report, _ = play([path], "kraken_v2", speed=1.0)
    if report.unaccounted or report.lateness is None:
        sys.exit(f"unaccounted {report.unaccounted}: the figures would mean nothing")
    late = msgspec.to_builtins(report.lateness)
    line = {"bench": Path(__file__).stem, **conditions(kind, cpu), "figures": late}
    sys.stdout.write(json.dumps(line | {"to_reach_us": TO_REACH_US}) + "\n")


if __name__ == "__main__":
    main()
