"""How many frames a second does the venue make from a seed, and play from a recording, on one core?

    seed ──> SyntheticTape.step ──> frames          capture ──> CaptureTape.step ──> frames

Inside the timed window: making the frames (text and checksum included), or reading, decoding and
applying recorded ones to the venue's own book. Outside: the start, the scan, and any socket. The
consumer counts frames and checks every checksum of a run apart, else the run fails.

    python bench/bench_venue_synthetic_throughput.py [--smoke] [--cpu N] [--captures FOLDER]
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from conditions import conditions

from collectors.captures import find_captures
from collectors.synthetic import SyntheticSpec, SyntheticTape
from collectors.venue_book import VenueBook
from collectors.venue_dialect import Meaning
from collectors.venue_dialect_v2 import KrakenV2
from collectors.venue_library import capture_tapes
from collectors.venue_tape import Tape
from shm import clock

RUNS = {"smoke": 2, "real": 7}
FRAMES = {"smoke": 2_000, "real": 100_000}
CHECKED_FRAMES = {"smoke": 1_000, "real": 20_000}
DEPTHS = {"smoke": (10,), "real": (10, 100, 1000)}
RECORDINGS = ("kraken_v1_book_10pairs.jsonl.gz", "kraken_v1_trade_10pairs.jsonl.gz")


class _Check(msgspec.Struct):
    checksum: int


class _Frame(msgspec.Struct):
    data: list[_Check]


def synthetic(depth: int) -> Tape:
    """Make the default market at one depth."""
    return SyntheticTape(SyntheticSpec(depth=depth, start_ns=10**18), "kraken_v2")


def verify(depth: int, frames: int) -> None:
    """Follow a market with a book of its own; a wrong checksum ends the bench."""
    tape = synthetic(depth)
    dialect = KrakenV2()
    books: dict[str, VenueBook] = {}
    for stream in tape.streams:
        for data in tape.opening(stream, wants_trades=False):
            meaning = dialect.read(data)
            assert isinstance(meaning, Meaning)
            books.setdefault(meaning.symbol, VenueBook(depth)).replace(meaning.changes)
    for _ in range(frames):
        data = tape.step()[-1].data
        meaning = dialect.read(data)
        assert isinstance(meaning, Meaning)
        books[meaning.symbol].apply(meaning.changes)
        told = msgspec.json.decode(data, type=_Frame).data[0].checksum
        if told != books[meaning.symbol].checksum():
            sys.exit(f"depth {depth}: a checksum is wrong; the figures would mean nothing")


def rate(make: Callable[[], Tape], frames: int) -> float:
    """Time one run: frames a second until so many are made or the tape ends."""
    tape = make()
    count = 0
    began_ns = clock.monotonic_ns()
    while count < frames and tape.next_offset_ns() is not None:
        count += len(tape.step())
    return count / (clock.monotonic_ns() - began_ns) * 1e9


def main() -> None:
    """Run, check, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpu", type=int, default=-1, help="core to run on (-1: any)")
    parser.add_argument("--captures", type=Path, default=None)
    given = parser.parse_args()
    kind = "smoke" if given.smoke else "real"
    if given.cpu >= 0:
        os.sched_setaffinity(0, {given.cpu})
    rows: dict[str, Callable[[], Tape]] = {}
    for depth in DEPTHS[kind]:
        verify(depth, CHECKED_FRAMES[kind])
        rows[f"synthetic_depth_{depth}"] = lambda depth=depth: synthetic(depth)  # type: ignore[misc]
    folder = given.captures or find_captures()
    if folder is not None:
        paths = [folder / name for name in RECORDINGS]
        rows["recording_v1_depth_1000"] = lambda: capture_tapes(paths)[0][1]
    results: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(RUNS[kind]):
        for name, make in rows.items():
            results[name].append(rate(make, FRAMES[kind]))
    figures = {
        name: {
            "frames_per_s": round(statistics.median(rates)),
            "lowest": round(min(rates)),
            "highest": round(max(rates)),
        }
        for name, rates in results.items()
    }
    line = {"bench": Path(__file__).stem, **conditions(kind, given.cpu), "figures": figures}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
