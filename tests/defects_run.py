"""Decode a synthetic market with the C core at hand and name what is wrong: run by test_collectors_defects.

python tests/defects_run.py     prints a JSON list of findings, empty for a sound core
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from decoding import Pipeline, books_from, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, SNAPSHOTS, update

from collectors.synthetic import SyntheticSpec, synthetic_frames
from layouts import Kind, Mark
from shm.book import ASK, BID, Book

FRAMES = 700


def market(protocol: str) -> list[str]:
    """Every frame is decoded, and a consumer of the records holds the collector's books and tops."""
    found = []
    pipeline = Pipeline(protocol)
    spec = SyntheticSpec(seed=5, depth=10, start_ns=10**18, frames=FRAMES)
    statuses = {pipeline.feed(data) for _, data in synthetic_frames(spec, protocol)}
    if statuses != {0}:
        found.append(f"{protocol}: statuses {sorted(statuses)}")
    events = pipeline.events()
    books = books_from(events)
    for line in pipeline.decoder.instruments.values():
        book = books.get(line.instrument.instrument_id, Book(1))
        for side in (BID, ASK):
            if book.depth(side, 99) != line.live.depth(side, 99):
                found.append(f"{protocol}: a consumer's book differs on side {side}")
            if line.live.is_valid and book.count(side) > 10:
                found.append(f"{protocol}: the book is deeper than the subscription")
        quotes = events[(events["instrument_id"] == line.instrument.instrument_id)]
        quotes = quotes[quotes["kind"] == Kind.QUOTE]
        last = tuple(int(quotes[-1][f"word_{i}"]) for i in range(4)) if len(quotes) else ()
        if last != book.top():
            found.append(f"{protocol}: the last QUOTE is not the top")
    found += frame_ends(events, protocol)
    pipeline.close()
    return found


def frame_ends(events: np.ndarray, protocol: str) -> list[str]:
    """A QUOTE ends its frame, and nothing else of a frame claims to be its last."""
    quotes = events["kind"] == Kind.QUOTE
    ends = events["marks"] & Mark.LAST_IN_FRAME > 0
    wrong = (quotes & ~ends).any() or (ends[:-1] & quotes[1:]).any()
    return [f"{protocol}: LAST_IN_FRAME is not on the last record"] if wrong else []


def refusals(protocol: str) -> list[str]:
    """A wrong checksum, a crossed top and a half-bad frame are refused, and the book is as it was."""
    found = []
    for name, frame in {
        "a wrong checksum": update(protocol, *BETTER_BID, checksum=1),
        "a crossed book": update(
            protocol, [["10.01", "1.000"]], [], ([["10.01", "1.000"], *BIDS], ASKS)
        ),
        "a bad level": update(
            protocol, [["9.99", "9.000"], ["10.00", "1.00001"]], [], (BIDS, ASKS)
        ),
    }.items():
        pipeline = Pipeline(protocol)
        pipeline.feed(SNAPSHOTS[protocol]())
        pipeline.drain()
        if pipeline.feed(frame) == 0:
            found.append(f"{protocol}: {name} is accepted")
        if (pipeline.drain()["kind"] == Kind.LEVEL).any():
            found.append(f"{protocol}: {name} publishes a LEVEL")
        line = pipeline.decoder.instruments["A/B"]
        if name == "a bad level" and line.live.depth(BID, 2)[1] != (999, 2000):
            found.append(f"{protocol}: {name} is half applied")
        if line.live.is_valid:
            found.append(f"{protocol}: {name} leaves the book valid")
        pipeline.close()
    return found


def details(protocol: str) -> list[str]:
    """A short number is padded, a changed quantity at the top is quoted, a snapshot of one side empties the other."""
    found = []
    pipeline = Pipeline(protocol)
    pipeline.feed(SNAPSHOTS[protocol]())
    pipeline.drain()
    book = ([["10.00", "7.000"], *BIDS[1:]], ASKS)
    status = pipeline.feed(update(protocol, [["10", "7.0"]], [], book))
    if status:
        found.append(f"{protocol}: a short number ends in {status}")
    if kinds(pipeline.drain()) != ["LEVEL", "QUOTE"]:
        found.append(f"{protocol}: a changed quantity at the top is not quoted")
    pipeline.feed(SNAPSHOTS[protocol](asks=[]))
    if pipeline.decoder.instruments["A/B"].live.depth(ASK, 9):
        found.append(f"{protocol}: a snapshot keeps levels of the book before it")
    pipeline.close()
    return found


def main() -> None:
    findings = []
    for protocol in ("kraken_v1", "kraken_v2"):
        for check in (market, refusals, details):
            try:
                findings += check(protocol)
            except AssertionError as error:
                findings.append(f"{protocol}: {check.__name__} fails: {error}")
    sys.stdout.write(json.dumps(findings))


if __name__ == "__main__":
    main()
