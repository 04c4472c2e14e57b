"""Recordings go through the live decoders into private rings, and what is reported is what a consumer read off them.

**Protocol** Files are merged by time and preloaded. Frames are decoded in chunks that fill at most half of a `wait` ring;
then the consumer drains it: one process is both sides, so the ring never blocks. The ring is sized so that the largest frame
fits half of it. **Why it is right** Counts and books come from records alone; the decoder is asked only for what leaves
no record: frames decoded, frames rejected, checksums that held.

**Failure** A malformed frame is counted by reason. A recording that ends in its middle is played to its last whole frame,
counted as rejected `truncated_capture` beside the frames, told on stderr, and the exit status is 1.
**Cost** `us_per_frame` is decode to publish; loading, draining and printing are outside of it.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from collectors.captures import Capture, CaptureError, Frame, merge, open_captures
from collectors.decoder import Decoder
from collectors.instruments import LAST_ID, InstrumentTable
from collectors.venues import DECODERS
from layouts import EVENT, INSTRUMENT
from ops import show
from ops.replay_books import BookRows, ReplayBooks
from shm.consumer import Consumer, join_private
from shm.errors import ConfigurationError
from shm.outlet import MAX_LEVELS, Outlet
from shm.producer import Producer, open_private

CONSUMER = "replay"
LEAST_SLOTS = 65_536
INSTRUMENT_SLOTS = 8_192
_LEVEL_BYTES = 8
"""No level or trade is written in fewer bytes of JSON."""
_FRAME_RECORDS = 64
"""Records of a frame beside its levels and trades: GAP, STATE, SNAPSHOT_BEGIN, ..., with room to spare."""
_CHUNK_FRAMES = 1024


class Report(msgspec.Struct, kw_only=True):
    """What `tickring replay --json` prints."""

    frames: int
    records: int
    rejected: dict[str, int]
    checksums: dict[str, int]
    gaps: int
    unaccounted: int
    books: dict[str, BookRows]
    us_per_frame: float
    stale: int
    """Frames that a snapshot had made stale: they are among the decoded, and published nothing."""
    oracle: dict[str, int]
    """How often the venue's own best bid and ask agreed with the book, and how often not."""


class PrivateRing(NamedTuple):
    """A ring without a name, its one consumer in this process."""

    producer: Producer
    consumer: Consumer
    buffer: np.ndarray

    def drain(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield all that is there in batches, each with the seq of its first record, and give the room back."""
        while (n := self.consumer.poll_into(self.buffer)) != 0:
            if n < 0:
                raise AssertionError("a wait ring lost records")
            yield self.buffer[:n], self.consumer.next_seq - n
        self.consumer.commit()


class Player:
    """One venue's decoder over private rings."""

    def __init__(self, venue: str, largest_frame_bytes: int) -> None:
        kind = decoder_of(venue)
        most = records_of(largest_frame_bytes)
        self.half = max(LEAST_SLOTS, 1 << (2 * most - 1).bit_length()) // 2
        self.events = _open("events", EVENT, 2 * self.half)
        self.instruments = _open("instruments", INSTRUMENT, INSTRUMENT_SLOTS)
        table = InstrumentTable("replay", kind.venue, 1, LAST_ID, self.instruments.producer)
        self.outlet = Outlet(self.events.producer)
        self.decoder: Decoder = kind(self.outlet, table, accept_any=True)
        self.elapsed_ns = 0

    def decode(self, frames: Sequence[Frame]) -> None:
        """Decode frames that fit half a ring, measuring the time."""
        decode = self.decoder.decode
        begin_ns = time.perf_counter_ns()
        for frame in frames:
            if frame.kind == "recv":
                decode(frame.data, frame.ts)
            else:
                self.decoder.rest_response(frame.url, frame.data, frame.ts)
        self.elapsed_ns += time.perf_counter_ns() - begin_ns
        for asked in (self.decoder.outbox, self.decoder.notices, self.decoder.rest_wanted):
            asked.clear()


def decoder_of(venue: str) -> type[Decoder]:
    """Return a venue's decoder.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if venue not in DECODERS:
        raise ConfigurationError(
            f"--venue {venue}: unknown; there are {', '.join(sorted(DECODERS))}"
        )
    return DECODERS[venue]


def records_of(frame_bytes: int) -> int:
    """Return how many records a frame can become at most: each level may cut another one off."""
    return 2 * min(frame_bytes // _LEVEL_BYTES, MAX_LEVELS) + _FRAME_RECORDS


def load(paths: Sequence[Path]) -> tuple[list[Frame], list[Capture]]:
    """Return the received frames and REST answers of all files by time, and the files that end in their middle.

    Raises:
        ConfigurationError: a file that is no recording, or is damaged elsewhere than at its end.
    """
    if not paths:
        raise ConfigurationError("replay: name at least one recording")
    captures = open_captures(paths, tolerate_truncation=True)
    try:
        frames = [frame for frame in merge(captures) if frame.kind in ("recv", "rest")]
    except CaptureError as error:
        raise ConfigurationError(str(error)) from None
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    return frames, [c for c in captures if c.ending is not None and c.ending.truncated]


def chunks_of(frames: Sequence[Frame], half: int) -> Iterator[Sequence[Frame]]:
    """Yield runs of frames whose records fit `half` a ring together."""
    start = used = 0
    for i, frame in enumerate(frames):
        wanted = records_of(len(frame.data))
        if i > start and (used + wanted > half or i - start >= _CHUNK_FRAMES):
            yield frames[start:i]
            start, used = i, 0
        used += wanted
    if start < len(frames):
        yield frames[start:]


def play(
    paths: Sequence[Path], venue: str, features: Path | None = None
) -> tuple[Report, list[Capture]]:
    """Replay recordings; returns the report and the files that end in their middle.

    Args:
        paths: recordings.
        venue: whose frames they hold.
        features: Parquet file to write the rows of the features engine to, if wanted.

    Raises:
        ConfigurationError: an unknown venue, no recording, or a damaged one.
    """
    decoder_of(venue)
    frames, truncated = load(paths)
    player = Player(venue, max((len(frame.data) for frame in frames), default=0))
    books = ReplayBooks()
    rows = None
    if features is not None:
        from ops.replay_features import (
            ReplayFeatures,  # numba and pyarrow, only where they are needed
        )

        rows = ReplayFeatures(books, player.events.producer.epoch)
    for chunk in chunks_of(frames, player.half):
        player.decode(chunk)
        for records, _ in player.instruments.drain():
            books.take_instruments(records)
        for records, _ in player.events.drain():
            books.take(records)
            if rows is not None:
                rows.take(records)
    if rows is not None and features is not None:
        rows.write(features)
    player.decoder.finish()
    return _report(frames, player, books, len(truncated)), truncated


def run(paths: Sequence[Path], venue: str, features: Path | None, as_json: bool) -> int:
    """Replay, print, and return the exit status."""
    report, truncated = play(paths, venue, features)
    for capture in truncated:
        assert capture.ending is not None
        show.complain(
            f"{capture.path}: {capture.ending.truncated} after {capture.ending.lines} whole lines, "
            f"{capture.ending.cut_bytes} bytes of the next one are lost; all whole frames were replayed"
        )
    if as_json:
        show.as_json(report)
    else:
        _print(report)
    return 1 if truncated or report.unaccounted else 0


def _open(label: str, dtype: np.dtype, slots: int) -> PrivateRing:
    producer, data_fd, control_fd = open_private(label, dtype, slots, [CONSUMER])
    consumer = join_private(label, data_fd, control_fd, CONSUMER, dtype)
    return PrivateRing(producer, consumer, np.empty(4096, dtype))


def _report(frames: Sequence[Frame], player: Player, books: ReplayBooks, truncated: int) -> Report:
    counts = player.outlet.counts()
    rejected = {
        name.partition(".")[2]: n
        for name, n in counts.items()
        if name.startswith("rejected.") and n
    }
    received = sum(frame.kind == "recv" for frame in frames)
    frames_missing = received - counts["frames_decoded"] - sum(rejected.values())
    published = player.events.producer.next_seq - 1
    if truncated:
        rejected["truncated_capture"] = truncated
    return Report(
        frames=received,
        records=books.records,
        rejected=rejected,
        checksums={"ok": counts["checksums_ok"], "bad": counts["checksums_bad"]},
        gaps=books.gaps,
        unaccounted=abs(frames_missing) + abs(published - books.records),
        books=books.rows(),
        us_per_frame=round(player.elapsed_ns / 1e3 / max(1, received), 3),
        stale=counts["frames_stale"],
        oracle={"agree": counts["oracle_agree"], "disagree": counts["oracle_disagree"]},
    )


def _print(report: Report) -> None:
    rejected = ", ".join(f"{reason} {n}" for reason, n in report.rejected.items()) or "none"
    show.table(
        ["frames", "records", "checksums ok", "bad", "gaps", "us/frame", "unaccounted"],
        [
            (
                report.frames,
                report.records,
                report.checksums["ok"],
                report.checksums["bad"],
                report.gaps,
                report.us_per_frame,
                report.unaccounted,
            )
        ],
    )
    show.say(f"rejected: {rejected}")
    rows = []
    for symbol, book in report.books.items():
        bid = " @ ".join(reversed(book.bids[0])) if book.bids else None
        ask = " @ ".join(reversed(book.asks[0])) if book.asks else None
        rows.append((symbol, book.state, bid, ask))
    show.table(["symbol", "state", "best bid", "best ask"], rows)
