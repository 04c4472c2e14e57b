"""Wound frames of venues by the number and say what became of them: the soak of test_collectors_mutations, by hand.

python tests/wounds_run.py FOLDER WOUNDS [VENUE ...]     a line for each venue (default: all); exit 1 where one does not stand
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from venue_kit import ALL_VENUES
from wounds_kit import SEED, wound_in_parts

from shm.outlet import Reject

PART_WOUNDS = 100_000
"""Enough for several passes over the longest recording."""


def main(folder: Path, wounds: int, venues: list[str]) -> None:
    """Run the campaigns, a process a core, parts of equal size."""
    processes = len(os.sched_getaffinity(0))
    parts = max(processes, wounds // PART_WOUNDS)
    for venue in venues:
        begun = time.perf_counter()
        seen = wound_in_parts(folder, venue, parts, wounds // parts, SEED + 1, processes)
        took = time.perf_counter() - begun
        told = ", ".join(f"{Reject(n).name.lower() if n else 'decoded'} {seen[n]:,}" for n in sorted(seen))  # fmt: skip
        sys.stdout.write(
            f"{venue}: {wounds:,} wounds in {took:.1f} s on {processes} cores: {told}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or ALL_VENUES)
