"""Recordings are told apart by what is in them, so that a market is made from a plain list of files.

A file belongs to the protocol that its first market frame reads as; one that holds the venue's
`AssetPairs` answer gives ticks and lots to the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from collectors.captures import Capture, CaptureError, LoggedCapture, open_captures
from collectors.venue_dialect import Control, Dialect, Meaning, Stream
from collectors.venue_dialect_v1 import KrakenV1
from collectors.venue_dialect_v2 import KrakenV2
from collectors.venue_tape import CaptureTape, Pair, Tape, read_pairs


def dialects() -> tuple[Dialect, ...]:
    """Make one of each protocol that the venue speaks."""
    return (KrakenV1(), KrakenV2())


def capture_tapes(
    paths: Sequence[str | os.PathLike[str]], *, tolerate_truncation: bool = False
) -> list[tuple[Dialect, Tape]]:
    """Make a tape for each protocol found; CaptureError where a recording cannot be played."""
    spoken = dialects()
    found: dict[str, list[Path]] = {dialect.name: [] for dialect in spoken}
    pairs: dict[str, Pair] = {}
    for capture in open_captures(paths, tolerate_truncation=tolerate_truncation):
        kind = _kind(capture, spoken)
        if isinstance(kind, dict):
            pairs |= kind
        else:
            found[kind].append(capture.path)
    tapes: list[tuple[Dialect, Tape]] = []
    for dialect in spoken:
        captures = open_captures(found[dialect.name], tolerate_truncation=tolerate_truncation)
        if captures:
            tapes.append((dialect, CaptureTape(dialect, captures, pairs)))
    return tapes


def list_streams(paths: Sequence[str | os.PathLike[str]]) -> dict[str, dict[Stream, int]]:
    """Tell what recordings hold: protocol -> stream (channel, symbol, depth) -> frames."""
    return {
        dialect.name: dict(tape.streams)
        for dialect, tape in capture_tapes(paths, tolerate_truncation=True)
    }


def _kind(capture: Capture, spoken: Sequence[Dialect]) -> str | dict[str, Pair]:
    """Tell the protocol that a recording's frames read as, or the pairs that it lists."""
    possible = list(spoken)
    line = 0
    if isinstance(capture, LoggedCapture):
        venue = capture.log.header.about.venue
        possible = [dialect for dialect in spoken if dialect.name == venue]
        if not possible:
            names = " and ".join(dialect.name for dialect in spoken)
            what = f"frames of {venue}; the venue server speaks {names}: use `tickring replay`"
            raise CaptureError(capture.path, 0, what)
    for frame in capture:
        line = frame.line
        if frame.kind == "rest" and frame.url.endswith("AssetPairs"):
            return read_pairs(frame.data)
        if frame.kind != "recv":
            continue
        meanings = [(dialect, _meaning(dialect, frame.data)) for dialect in possible]
        possible = [dialect for dialect, meaning in meanings if meaning is not None]
        # Frames of the session look much the same at many venues; one of the market decides.
        if not possible or any(isinstance(meaning, Meaning) for _, meaning in meanings):
            break
    if not possible or line == 0:
        names = " or ".join(dialect.name for dialect in spoken)
        raise CaptureError(capture.path, line, f"this is no recording of {names}")
    return possible[0].name


def _meaning(dialect: Dialect, data: bytes) -> Meaning | Control | None:
    try:
        return dialect.read(data)
    except (ValueError, msgspec.DecodeError):
        return None
