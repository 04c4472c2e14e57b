"""Recordings go through the live decoders into private rings, and what is reported is what a consumer read off them.

**Protocol** Files are merged by time. Frames are decoded in chunks that fill at most half of a `wait` ring; then the consumer
drains it: one process is both sides, so the ring never blocks. The ring is sized so that the largest frame fits half of it.
**Why it is right** Counts and books come from records alone; the decoder is asked only for what leaves no record: frames
decoded, frames rejected, checksums that held. `replay_player` tells why a .wslog replays as it was live.

**Failure** A malformed frame is counted by reason. A recording that ends in its middle is played to its last whole frame,
counted as rejected `truncated_capture` beside the frames, told on stderr, and the exit status is 1.
**Cost** `us_per_frame` is decode to publish; loading, draining and printing are outside of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from collectors.captures import (
    Capture,
    CaptureError,
    Frame,
    LoggedCapture,
    merge,
    open_captures,
)
from collectors.wslog import About
from ops import show
from ops.replay_books import BookRows, ReplayBooks
from ops.replay_pace import Lateness, Pace
from ops.replay_player import Player, decoder_of, records_of
from ops.replay_rings import named_rings
from shm.errors import ConfigurationError

_CHUNK_FRAMES = 1024
_COUNTED = ("recv", "rest")


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
    lateness: Lateness | None = None
    """Of a replay in time: by how much frames missed their instant."""


class Recording:
    """Files of one collector, or of one venue, by time.

    Args:
        paths: .wslog files, compressed or not, and JSON lines, in any order.
        venue: whose frames they hold; "": the .wslog files say it.

    Raises:
        ConfigurationError: no file, one that is no recording, an unknown venue, or files of several collectors.
    """

    def __init__(self, paths: Sequence[Path], venue: str) -> None:
        if not paths:
            raise ConfigurationError("replay: name at least one recording")
        if venue:
            decoder_of(venue)
        try:
            captures = open_captures(paths, tolerate_truncation=True)
        except (CaptureError, OSError) as error:
            raise _refused(error) from None
        logged = [c for c in captures if isinstance(c, LoggedCapture)]
        logged.sort(key=lambda c: (c.log.header.epoch, c.log.header.part))
        self.captures: list[Capture] = [
            *logged,
            *(c for c in captures if not isinstance(c, LoggedCapture)),
        ]
        for index, capture in enumerate(self.captures):
            capture.file_index = index
        self.about = _about(logged)
        self.venue = venue or (self.about.venue if self.about else "")
        if not self.venue:
            raise ConfigurationError("replay: JSON lines do not say whose they are: name --venue")
        decoder_of(self.venue)
        self.worker = logged[0].log.header.worker if logged else self.venue
        self._logged = len(logged)

    def frames(self) -> Iterator[Frame]:
        """Yield what has to be played: of JSON lines what came, of .wslog files every call that the collector made."""
        try:
            for frame in merge(self.captures):
                if frame.kind in (*_COUNTED, "close") or (
                    frame.file_index < self._logged and frame.kind != "sent"
                ):
                    yield frame
        except (CaptureError, OSError) as error:
            raise _refused(error) from None

    @property
    def truncated(self) -> list[Capture]:
        """The files that the last reading found cut or damaged."""
        return [c for c in self.captures if c.ending is not None and c.ending.truncated]


def chunks_of(frames: Iterable[Frame], half: int) -> Iterator[Sequence[Frame]]:
    """Yield runs of frames whose records fit `half` a ring together."""
    chunk: list[Frame] = []
    used = 0
    for frame in frames:
        # What is no frame may publish something of every instrument, or a whole book.
        wanted = records_of(len(frame.data)) if frame.kind in _COUNTED else half
        if chunk and (used + wanted > half or len(chunk) >= _CHUNK_FRAMES):
            yield chunk
            chunk, used = [], 0
        chunk.append(frame)
        used += wanted
    if chunk:
        yield chunk


def play(
    paths: Sequence[Path],
    venue: str = "",
    features: Path | None = None,
    bars: Path | None = None,
    speed: float | None = None,
    into: str = "",
) -> tuple[Report, list[Capture]]:
    """Replay recordings; returns the report and the files that are cut or damaged.

    The files are read twice, so that the rings can be sized by the longest frame; memory does not grow with them.

    Args:
        paths: recordings.
        venue: whose frames they hold; "": .wslog files say it.
        features: Parquet file to write the rows of the features engine to, if wanted.
        bars: likewise, the default series of the bars engine.
        speed: factor of recorded time; None: as fast as it can be decoded.
        into: instance whose rings others attach to meanwhile; "": private rings.

    Raises:
        ConfigurationError: an unknown venue, no recording, or a damaged one.
    """
    recording = Recording(paths, venue)
    largest = max((len(frame.data) for frame in recording.frames()), default=0)
    with ExitStack() as places:
        place = places.enter_context(named_rings(into, recording.worker)) if into else None
        player = Player(recording.venue, largest, recording.about, place)
        return _play(recording, player, (features, bars), speed), recording.truncated


def _play(
    recording: Recording,
    player: Player,
    files: tuple[Path | None, Path | None],
    speed: float | None,
) -> Report:
    """Play to the end; `files` are where features and bars go to, if anywhere."""
    features, bars = files
    books = ReplayBooks()
    computed = []
    if features is not None or bars is not None:
        from ops import replay_rows  # numba and pyarrow, only where they are needed

        epoch = player.events.producer.epoch
        if features is not None:
            computed.append((replay_rows.features(books, epoch), features))
        if bars is not None:
            computed.append((replay_rows.bars(books, epoch, recording.venue), bars))
    pace = Pace(speed) if speed else None
    frames = recording.frames()
    for chunk in pace.frames(frames) if pace else chunks_of(frames, player.half):
        player.play(chunk)
        for records, _ in player.instruments.drain():
            books.take_instruments(records)
        for records, _ in player.events.drain():
            books.take(records)
            for rows, _ in computed:
                rows.take(records)
    for rows, path in computed:
        rows.write(path)
    player.decoder.finish()
    report = _report(player, books, len(recording.truncated))
    report.lateness = pace.lateness() if pace else None
    return report


def run(
    paths: Sequence[Path],
    venue: str,
    features: Path | None,
    bars: Path | None,
    as_json: bool,
    speed: float | None = None,
    into: str = "",
) -> int:
    """Replay, print, and return the exit status."""
    report, truncated = play(paths, venue, features, bars, speed, into)
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


def _about(logged: Sequence[LoggedCapture]) -> About | None:
    """Return the collector that all of these files are of, as the first of them tells it; None: there are none."""
    if not logged:
        return None
    collectors = {(c.log.header.worker, c.log.header.about.venue) for c in logged}
    if len(collectors) > 1:
        names = ", ".join(sorted(f"{worker} ({venue})" for worker, venue in collectors))
        raise ConfigurationError(
            f"replay: files of several collectors, {names}: each has an order of its own; replay them one by one"
        )
    return logged[0].log.header.about


def _refused(error: Exception) -> ConfigurationError:
    if isinstance(error, OSError):
        return ConfigurationError(f"{error.filename}: {error.strerror}")
    return ConfigurationError(str(error))


def _report(player: Player, books: ReplayBooks, truncated: int) -> Report:
    counts = player.counts()
    rejected = {
        name.partition(".")[2]: n
        for name, n in counts.items()
        if name.startswith("rejected.") and n
    }
    received = player.received
    frames_missing = received - counts["frames_decoded"] - sum(rejected.values()) - player.abandoned
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
    if late := report.lateness:
        show.say(
            f"late: p50 {late.us_p50} us, p99 {late.us_p99} us, max {late.us_max} us, "
            f"{late.over_1_ms} of {late.frames} by more than 1 ms"
        )
    rows = []
    for symbol, book in report.books.items():
        bid = " @ ".join(reversed(book.bids[0])) if book.bids else None
        ask = " @ ".join(reversed(book.asks[0])) if book.asks else None
        rows.append((symbol, book.state, bid, ask))
    show.table(["symbol", "state", "best bid", "best ask"], rows)
