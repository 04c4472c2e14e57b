"""Recordings go through the live decoders into private rings, and what is reported is what a consumer read off them.

**Protocol** Files are sorted by collector and merged by time (`replay_recording`); each collector has a decoder and rings of
its own. Frames are decoded in runs of one collector that fill at most half of a `wait` ring; then the consumer drains it: one
process is both sides, so the ring never blocks. Each ring is sized so that its largest frame fits half of it.
**Why it is right** Counts and books come from records alone; the decoder is asked only for what leaves no record: frames
decoded, frames rejected, checksums that held. `replay_player` tells why a .wslog replays as it was live.

**Failure** A malformed frame is counted by reason. A recording that ends in its middle is played to its last whole frame,
counted as rejected `truncated_capture` beside the frames, told on stderr, and the exit status is 1. A .wslog without its END
(its collector was killed, or still writes it) is told on stderr alone: each of its entries is whole.
**Cost** `us_per_frame` is decode to publish; loading, draining and printing are outside of it.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from collectors.captures import Frame
from ops import show
from ops.replay_books import BookRows, ReplayBooks
from ops.replay_pace import Lateness, Pace
from ops.replay_player import Player, records_of
from ops.replay_recording import COUNTED, Recording, check_ids, merged, recordings_of
from ops.replay_rings import named_rings

if TYPE_CHECKING:
    from ops.replay_rows import ReplayRows

_CHUNK_FRAMES = 1024


class Played(msgspec.Struct, kw_only=True):
    """What became of the frames of one collector, or of all."""

    frames: int
    records: int
    rejected: dict[str, int]
    checksums: dict[str, int]
    gaps: int
    unaccounted: int
    books: dict[str, BookRows]
    """By symbol; of several collectors by `<collector>:<symbol>`."""
    us_per_frame: float
    stale: int
    """Frames that a snapshot had made stale: they are among the decoded, and published nothing."""
    oracle: dict[str, int]
    """How often the venue's own best bid and ask agreed with the book, and how often not."""


class Report(Played, kw_only=True):
    """What `tickring replay --json` prints: all collectors together, then each."""

    collectors: dict[str, Played]
    lateness: Lateness | None = None
    """Of a replay in time: by how much frames missed their instant."""


class _Track:
    """One collector of a replay: its frames' way from the decoder to the books."""

    def __init__(self, recording: Recording, player: Player) -> None:
        self.recording, self.player = recording, player
        self.books = ReplayBooks()

    def play(self, frames: Sequence[Frame], computed: "Sequence[ReplayRows]") -> None:
        """Decode a run of frames and read what they became."""
        self.player.play(frames)
        for records, _ in self.player.instruments.drain():
            self.books.take_instruments(records)
        for records, _ in self.player.events.drain():
            self.books.take(records)
            for rows in computed:
                rows.take(self.recording.worker, records)


def chunks_of(frames: Iterable[Frame], half: int) -> Iterator[Sequence[Frame]]:
    """Yield runs of frames whose records fit `half` a ring together."""
    chunk: list[Frame] = []
    used = 0
    for frame in frames:
        # What is no frame may publish something of every instrument, or a whole book.
        wanted = records_of(len(frame.data)) if frame.kind in COUNTED else half
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
) -> tuple[Report, list[Recording]]:
    """Replay recordings; returns the report and what was played, which tells the files that are cut or damaged.

    The files are read twice, so that the rings can be sized by the longest frame; memory does not grow with them.

    Args:
        paths: recordings of one collector or of several.
        venue: whose frames JSON lines hold; "": .wslog files say it.
        features: Parquet file to write the rows of the features engine to, if wanted.
        bars: likewise, the default series of the bars engine.
        speed: factor of recorded time; None: as fast as it can be decoded.
        into: instance whose rings others attach to meanwhile; "": private rings.

    Raises:
        ConfigurationError: an unknown venue, no recording, or a damaged one.
    """
    recordings = recordings_of(paths, venue)
    if into:
        check_ids(recordings)
    largest = [max((len(f.data) for f in each.frames()), default=0) for each in recordings]
    with ExitStack() as places:
        place = places.enter_context(named_rings(into)) if into else None
        tracks = [
            _Track(recording, Player(recording, n_bytes, place))
            for recording, n_bytes in zip(recordings, largest, strict=True)
        ]
        return _play(tracks, (features, bars), speed), recordings


def _play(
    tracks: Sequence[_Track], files: tuple[Path | None, Path | None], speed: float | None
) -> Report:
    """Play to the end; `files` are where features and bars go to, if anywhere."""
    computed = _computed(tracks, files)
    rows = [each for each, _ in computed]
    track_of = [track for track in tracks for _ in track.recording.captures]
    frames = merged([track.recording for track in tracks])
    pace = Pace(speed) if speed else None
    if pace is not None:
        for frame in pace.frames(frames):
            track_of[frame.file_index].play((frame,), rows)
    else:
        for track, run in itertools.groupby(frames, lambda frame: track_of[frame.file_index]):
            for chunk in chunks_of(run, track.player.half):
                track.play(chunk, rows)
    for each, path in computed:
        each.write(path)
    for track in tracks:
        track.player.decoder.finish()
    report = _report(tracks)
    report.lateness = pace.lateness() if pace else None
    return report


def _computed(
    tracks: Sequence[_Track], files: tuple[Path | None, Path | None]
) -> "list[tuple[ReplayRows, Path]]":
    """Return what computes rows, and the file that each is written to."""
    if not any(files):
        return []
    from ops import replay_rows  # numba and pyarrow, only where they are needed

    makers = (replay_rows.features, replay_rows.bars)
    found = [(make(), path) for make, path in zip(makers, files, strict=True) if path is not None]
    for rows, _ in found:
        for track in tracks:
            recording, epoch = track.recording, track.player.events.producer.epoch
            rows.add(recording.worker, recording.venue, track.books, epoch)
    return found


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
    report, recordings = play(paths, venue, features, bars, speed, into)
    truncated = [capture for each in recordings for capture in each.truncated]
    for capture in truncated:
        assert capture.ending is not None
        show.complain(
            f"{capture.path}: {capture.ending.truncated} after {capture.ending.lines} whole lines, "
            f"{capture.ending.cut_bytes} bytes of the next one are lost; all whole frames were replayed"
        )
    for recording in recordings:
        for note in recording.notes:
            show.complain(note)
        for unended in recording.unended:
            show.complain(
                f"{unended.path}: no END: its collector was killed or still writes it; every entry was whole and replayed"
            )
    if as_json:
        show.as_json(report)
    else:
        _print(report)
    return 1 if truncated or report.unaccounted else 0


def _played(track: _Track) -> Played:
    """Return what became of the frames of one collector."""
    player, books, counts = track.player, track.books, track.player.counts()
    rejected = {
        name.partition(".")[2]: n
        for name, n in counts.items()
        if name.startswith("rejected.") and n
    }
    received = player.received
    frames_missing = received - counts["frames_decoded"] - sum(rejected.values()) - player.abandoned
    published = player.events.producer.next_seq - 1
    if truncated := len(track.recording.truncated):
        rejected["truncated_capture"] = truncated
    return Played(
        frames=received,
        records=books.records,
        rejected=rejected,
        checksums={"ok": counts["checksums_ok"], "bad": counts["checksums_bad"]},
        gaps=books.gaps,
        unaccounted=abs(frames_missing) + abs(published - books.records),
        books=books.rows(),
        us_per_frame=_us(player.elapsed_ns, received),
        stale=counts["frames_stale"],
        oracle={"agree": counts["oracle_agree"], "disagree": counts["oracle_disagree"]},
    )


def _report(tracks: Sequence[_Track]) -> Report:
    each = {track.recording.worker: _played(track) for track in tracks}
    all_of = list(each.values())
    frames = sum(one.frames for one in all_of)
    books = {f"{name}:{symbol}": b for name, one in each.items() for symbol, b in one.books.items()}
    return Report(
        frames=frames,
        records=sum(one.records for one in all_of),
        rejected=dict(sum((Counter(one.rejected) for one in all_of), Counter())),
        checksums={key: sum(one.checksums[key] for one in all_of) for key in ("ok", "bad")},
        gaps=sum(one.gaps for one in all_of),
        unaccounted=sum(one.unaccounted for one in all_of),
        books=books if len(each) > 1 else all_of[0].books,
        us_per_frame=_us(sum(track.player.elapsed_ns for track in tracks), frames),
        stale=sum(one.stale for one in all_of),
        oracle={key: sum(one.oracle[key] for one in all_of) for key in ("agree", "disagree")},
        collectors=each,
    )


def _us(elapsed_ns: int, frames: int) -> float:
    return round(elapsed_ns / 1e3 / max(1, frames), 3)


def _print(report: Report) -> None:
    columns = ["collector", "frames", "records", "checksums ok", "bad", "gaps", "us/frame"]
    rows = [_row(name, one) for name, one in report.collectors.items()]
    if len(rows) > 1:
        rows.append(_row("all", report))
    show.table([*columns, "unaccounted"], rows)
    rejected = ", ".join(f"{reason} {n}" for reason, n in report.rejected.items()) or "none"
    show.say(f"rejected: {rejected}")
    if late := report.lateness:
        show.say(
            f"late: p50 {late.us_p50} us, p99 {late.us_p99} us, max {late.us_max} us, "
            f"{late.over_1_ms} of {late.frames} by more than 1 ms"
        )
    tops = []
    for symbol, book in report.books.items():
        bid = " @ ".join(reversed(book.bids[0])) if book.bids else None
        ask = " @ ".join(reversed(book.asks[0])) if book.asks else None
        tops.append((symbol, book.state, bid, ask))
    show.table(["symbol", "state", "best bid", "best ask"], tops)


def _row(name: str, one: Played) -> tuple[str | int | float, ...]:
    ok, bad = one.checksums["ok"], one.checksums["bad"]
    return (name, one.frames, one.records, ok, bad, one.gaps, one.us_per_frame, one.unaccounted)
