"""What does a Kraken v1 book frame cost from bytes to ring, and what does cryptofeed pay for the same frame?

    frame (bytes) ──> msgspec ──> level text ──> C: digits, book, cut, CRC-32, top ──> one batch in the ring
    frame (str)   ──> cryptofeed 2.4: JSON, Decimal, order_book (C), its checksum validation ──> empty callback

Inside the timed window: everything between a frame in memory and its records in the ring; BOOK records too in the row
`kraken_v1_with_books`. Outside: reading the recording, the snapshots that open each book, any socket. Frames are
preloaded; each run decodes the whole recording afresh, ours and the rival's in turn. `mean_us` is taken over stretches
without a clock inside, `cpu_us` likewise in CPU time, which a shared core does not blunt: the ratio is made of it. p50
and p99 are per frame and contain one clock read. Afterwards every checksum must have been right and the ring must hold
every record, else the bench fails.

    python bench/bench_collector_kraken_v1_frame.py [--smoke] [--cpu N] [--captures FOLDER]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from collectors.captures import Capture, find_captures
from collectors.instruments import InstrumentTable
from collectors.venues import DECODERS
from layouts import BOOK, EVENT, INSTRUMENT
from shm import clock
from shm.outlet import Outlet
from shm.producer import open_private

RUNS = {"smoke": 1, "real": 7}
SLOTS = 1 << 16
CHECKSUMS = {"kraken_v1": 4269, "kraken_v2": 1129}
RECORDINGS = {"kraken_v1": "kraken_v1_book_10pairs", "kraken_v2": "kraken_v2_ethusd"}
SNAPSHOT_BYTES = 1000
"""Updates are shorter, snapshots longer, in both recordings."""


class Cost(NamedTuple):
    """One run: the mean over stretches, by the clock and in CPU time, and each frame on its own, in ns."""

    mean_ns: float
    cpu_ns: float
    frames_ns: list[int]


Feed = Callable[[bytes, int], object]


def load(folder: Path, venue: str) -> list[tuple[bytes, int]]:
    """Return a recording's received frames and their times."""
    path = folder / f"{RECORDINGS[venue]}.jsonl.gz"
    return [(frame.data, frame.ts) for frame in Capture(path) if frame.kind == "recv"]


def is_update(data: bytes, venue: str) -> bool:
    """Tell updates from snapshots, heartbeats and acknowledgements."""
    opening = b"[" if venue == "kraken_v1" else b'{"channel":"book"'
    return data.startswith(opening) and len(data) < SNAPSHOT_BYTES


def run(frames: list[tuple[bytes, int]], venue: str, make: Callable[[], Feed]) -> Cost:
    """Decode a recording twice afresh: once timed in stretches of updates, once frame by frame."""
    now = clock.monotonic_ns
    feed = make()
    total_ns = cpu_ns = count = 0
    stretch: list[tuple[bytes, int]] = []
    for data, ts in [*frames, (b"", 0)]:
        if data and is_update(data, venue):
            stretch.append((data, ts))
            continue
        began, cpu_began = now(), time.process_time_ns()
        for frame, at in stretch:
            feed(frame, at)
        cpu_ns += time.process_time_ns() - cpu_began
        total_ns += now() - began
        count += len(stretch)
        stretch = []
        if data:
            feed(data, ts)
    feed = make()
    each = []
    for data, ts in frames:
        began = now()
        feed(data, ts)
        elapsed = now() - began
        if is_update(data, venue):
            each.append(elapsed)
    return Cost(total_ns / count, cpu_ns / count, each)


class Ours:
    """Fresh decoders over private rings; the last one is checked."""

    def __init__(self, venue: str, with_books: bool) -> None:
        self.venue = venue
        self.with_books = with_books
        self.outlet: Outlet | None = None

    def make(self) -> Feed:
        """Open rings and a decoder."""
        self.close()
        self.events, *_ = open_private("bench", EVENT, SLOTS, [])
        self.table, *_ = open_private("bench", INSTRUMENT, 64, [])
        self.books = open_private("bench", BOOK, 1024, [])[0] if self.with_books else None
        self.outlet = Outlet(self.events, self.books)
        table = InstrumentTable("bench", "kraken", 1, 64, self.table)
        return DECODERS[self.venue](self.outlet, table, accept_any=True).decode

    def close(self) -> None:
        """Check what the run before did, and unmap its rings."""
        if self.outlet is None:
            return
        counts = self.outlet.counts()
        published = self.events.next_seq - 1
        if counts["checksums_ok"] != CHECKSUMS[self.venue] or counts["checksums_bad"]:
            sys.exit(
                f"{self.venue}: {counts['checksums_ok']} checksums right; the figures mean nothing"
            )
        if published != counts["records_published"]:
            sys.exit(f"{published} records in the ring, {counts['records_published']} counted")
        self.events.close()
        self.table.close()
        if self.books:
            self.books.close()
        self.outlet = None


class Rival:
    """cryptofeed's Kraken handler with checksum validation, driven without its socket."""

    def __init__(self, folder: Path) -> None:
        from cryptofeed.defines import L2_BOOK
        from cryptofeed.exchanges import Kraken
        from cryptofeed.symbols import Symbols

        pairs = next(iter(Capture(folder / "kraken_asset_pairs.jsonl.gz"))).data
        Symbols.set(Kraken.id, *Kraken._parse_symbol_data(json.loads(pairs)))
        self._kraken = Kraken
        self._channel = L2_BOOK
        self.seen = 0

    async def _on_book(self, _book: object, _ts: float) -> None:
        self.seen += 1

    def make(self) -> Feed:
        """Make a handler with empty books."""
        handler = self._kraken(
            symbols=list(self._kraken.symbol_mapping()),
            channels=[self._channel],
            callbacks={self._channel: self._on_book},
            checksum_validation=True,
            max_depth=1000,
        ).message_handler

        def feed(frame: bytes, ts: int) -> None:
            # Nothing in the handler waits for I/O, so one step runs it to its end.
            coroutine = handler(frame, None, ts / 1e9)
            try:
                coroutine.send(None)
            except StopIteration:
                return
            raise RuntimeError("the rival's handler waits for something; it cannot be timed so")

        return feed


def summary(costs: list[Cost]) -> dict[str, object]:
    """Median and range of the runs, in us."""
    means = [cost.mean_ns / 1e3 for cost in costs]
    each = sorted(ns for cost in costs for ns in cost.frames_ns)
    return {
        "mean_us": round(statistics.median(means), 3),
        "mean_us_range": [round(min(means), 3), round(max(means), 3)],
        "cpu_us": round(statistics.median(cost.cpu_ns for cost in costs) / 1e3, 3),
        "p50_us": round(each[len(each) // 2] / 1e3, 3),
        "p99_us": round(each[len(each) * 99 // 100] / 1e3, 3),
        "max_us": round(each[-1] / 1e3, 1),
        "frames": len(each),
    }


def main() -> None:
    """Run ours and the rival in turn; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--cpu", type=int, default=-1)
    parser.add_argument("--captures", type=Path, default=find_captures())
    options = parser.parse_args()
    if options.captures is None:
        sys.exit("no recordings: set TICKRING_CAPTURES to their folder; nothing was measured")
    pinned = options.cpu in os.sched_getaffinity(0)
    if pinned:
        os.sched_setaffinity(0, {options.cpu})
    scale = "smoke" if options.smoke else "real"
    frames = {venue: load(options.captures, venue) for venue in RECORDINGS}
    rows: dict[str, tuple[str, Callable[[], Feed]]] = {}
    ours = [Ours("kraken_v1", False), Ours("kraken_v1", True), Ours("kraken_v2", False)]
    for name, one in zip(("kraken_v1", "kraken_v1_with_books", "kraken_v2"), ours, strict=True):
        rows[name] = (one.venue, one.make)
    try:
        rows["cryptofeed_validating"] = ("kraken_v1", Rival(options.captures).make)
    except ImportError as error:
        print(f"cryptofeed is not installed ({error}): no ratio; `make rivals`", file=sys.stderr)
    costs: dict[str, list[Cost]] = {name: [] for name in rows}
    asyncio.set_event_loop(asyncio.new_event_loop())
    for _ in range(RUNS[scale]):
        for name, (venue, make) in rows.items():
            costs[name].append(run(frames[venue], venue, make))
    for one in ours:
        one.close()
    result = {name: summary(found) for name, found in costs.items()}
    line: dict[str, object] = {"bench": "collector_kraken_v1_frame", "scale": scale, **result}
    if "cryptofeed_validating" in costs:
        pairs = zip(costs["cryptofeed_validating"], costs["kraken_v1"], strict=True)
        line["ratio_to_cryptofeed"] = round(
            statistics.median(rival.cpu_ns / our.cpu_ns for rival, our in pairs), 2
        )
    line["conditions"] = conditions(pinned)
    print(json.dumps(line))


def conditions(pinned: bool) -> dict[str, object]:
    """Say where this was measured."""
    sha = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    model = [
        text for text in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in text
    ]
    return {
        "sha": sha.stdout.strip(),
        "cpu": model[0].partition(": ")[2] if model else platform.processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "pinned": pinned,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
