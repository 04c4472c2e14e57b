"""Recordings are told apart by the collector that made them, and each collector's calls come in the order that it made them in.

**Protocol** A .wslog file says whose it is; JSON lines are of the venue that is named and stand for a collector of that name.
A collector's .wslog files follow one another by epoch and part, however they were named and whatever its clock did; its JSON
lines merge by time. Collectors merge by time (`ts_recv`), at equal times in the order in which their files were named first.

**Why it is right** A decoder sees its own collector's calls alone, in one order: what it publishes does not depend on what else
is replayed beside it.

**Failure** What was named twice, or both plain and compressed, is played once and told in `notes`, as are parts that are not
there and files without their end. Two collectors of one name are refused: their rings would have one name.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from collectors.captures import (
    Capture,
    CaptureError,
    Frame,
    LoggedCapture,
    merge,
    open_captures,
)
from collectors.decoder import Decoder
from collectors.instruments import LAST_ID
from collectors.venues import DECODERS
from collectors.wslog import COMPRESSED, About
from shm.errors import ConfigurationError

COUNTED = ("recv", "rest")
"""Kinds of frames that came from the venue."""
LINES = (*COUNTED, "close")
"""Kinds of JSON lines that are played: those, and where the link was lost."""


class Recording:
    """All files of one collector. Made by `recordings_of`."""

    def __init__(self, worker: str, venue: str, captures: Sequence[Capture]) -> None:
        decoder_of(venue)
        self.worker = worker
        """Name of the collector: its rings are `<worker>.events` and `<worker>.instruments`."""
        self.venue = venue
        self.captures = captures
        self.first_id = 1
        """Of the instruments that JSON lines name; a .wslog tells its own."""
        self.notes: list[str] = []
        """What was played once or is not there, in sentences."""
        self._abouts: dict[int, About] = {}

    @property
    def logged(self) -> list[LoggedCapture]:
        """Its files where they are .wslog files: all of them, or none."""
        return [c for c in self.captures if isinstance(c, LoggedCapture)]

    def about(self, file_index: int | None = None) -> About | None:
        """Return the collector as a file of it tells it (None: its first); None: of JSON lines, that tell nothing."""
        for capture in self.logged:
            if file_index in (None, capture.file_index):
                if capture.file_index not in self._abouts:
                    self._abouts[capture.file_index] = capture.log.header.about
                return self._abouts[capture.file_index]
        return None

    def frames(self) -> Iterator[Frame]:
        """Yield what has to be played: of JSON lines what came and lost links, of .wslog files every call of the collector.

        Raises:
            ConfigurationError: a file is damaged in a way that leaves no whole entries behind it.
        """
        try:
            if self.logged:
                chained = itertools.chain.from_iterable(self.captures)
                yield from (frame for frame in chained if frame.kind != "sent")
            else:
                yield from (frame for frame in merge(self.captures) if frame.kind in LINES)
        except (CaptureError, OSError) as error:
            raise _refused(error) from None

    @property
    def truncated(self) -> list[Capture]:
        """The files that the last reading found cut or damaged."""
        return [c for c in self.captures if c.ending is not None and c.ending.truncated]

    @property
    def unended(self) -> list[Capture]:
        """The .wslog files whose every entry the last reading found whole, and no END behind them."""
        return [
            c
            for c in self.logged
            if c.ending is not None and not c.ending.truncated and not c.log.scan.ended
        ]


def recordings_of(paths: Sequence[Path], venue: str = "") -> list[Recording]:
    """Sort files by collector; `Frame.file_index` counts over all of them.

    Args:
        paths: .wslog files, compressed or not, and JSON lines, in any order.
        venue: whose frames the JSON lines hold; "": there are none.

    Raises:
        ConfigurationError: no file, one that is no recording, an unknown venue, collectors that cannot be told apart.
    """
    if not paths:
        raise ConfigurationError("replay: name at least one recording")
    if venue:
        decoder_of(venue)
    named: dict[Path, list[Path]] = {}
    for path in paths:
        named.setdefault(path.resolve(), []).append(path)
    once = [each[0] for each in named.values()]
    twice = [f"{n[0]}: named {len(n)} times, played once" for n in named.values() if len(n) > 1]
    try:
        captures = open_captures(once, tolerate_truncation=True)
    except (CaptureError, OSError) as error:
        raise _refused(error) from None
    groups: dict[str, list[Capture]] = {}
    for capture in captures:
        worker = capture.log.header.worker if isinstance(capture, LoggedCapture) else ""
        groups.setdefault(worker, []).append(capture)
    found = [_recording(group, venue) for group in groups.values()]
    found[0].notes[:0] = twice
    _check_names(found, venue)
    for index, capture in enumerate(each for one in found for each in one.captures):
        capture.file_index = index
    ends = [a.first_instrument_id + a.instrument_ids for a in map(Recording.about, found) if a]
    for recording in found:
        if not recording.logged:
            recording.first_id = min(max(ends, default=1), LAST_ID)
    return found


def merged(recordings: Sequence[Recording]) -> Iterator[Frame]:
    """Yield the frames of all collectors by time; each collector's own order always kept."""
    if len(recordings) == 1:
        return recordings[0].frames()
    return heapq.merge(*(each.frames() for each in recordings), key=lambda frame: frame.ts)


def check_ids(recordings: Sequence[Recording]) -> None:
    """Refuse collectors whose instruments would share ids in one instance. Raises ConfigurationError."""
    blocks = []
    for recording in recordings:
        about = recording.about()
        first = about.first_instrument_id if about else recording.first_id
        last = first + about.instrument_ids - 1 if about else LAST_ID
        blocks.append((first, last, recording.worker))
    for (_, last, one), (first, _, other) in itertools.pairwise(sorted(blocks)):
        if first <= last:
            raise ConfigurationError(
                f"replay: {one} and {other} both use instrument id {first}, they are of different instances; replay them "
                "without --into, or each into an instance of its own"
            )


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


def _recording(captures: Sequence[Capture], venue: str) -> Recording:
    """Return the recording that these files, of one name, make."""
    logged = [c for c in captures if isinstance(c, LoggedCapture)]
    if not logged:
        if not venue:
            raise ConfigurationError("replay: JSON lines do not say whose they are: name --venue")
        return Recording(venue, venue, captures)
    parts: dict[tuple[int, int], LoggedCapture] = {}
    notes = []
    for capture in logged:
        _check_same(logged[0], capture)
        header = capture.log.header
        other = parts.setdefault((header.epoch, header.part), capture)
        if other is capture:
            continue
        if other.log.header.ring_uuid != header.ring_uuid:
            raise ConfigurationError(
                f"replay: {other.path} and {capture.path} are both part {header.part} of epoch {header.epoch} of "
                f"{header.worker}, of different rings: its state directory was made anew between them; replay them apart"
            )
        # Compressed files get their name when they are whole; of others the longer one was written on.
        kept = max(other, capture, key=_completeness)
        left = capture if kept is other else other
        parts[header.epoch, header.part] = kept
        notes.append(f"{left.path}: the same part as {kept.path}, which is played")
    ordered = [parts[key] for key in sorted(parts)]
    header = ordered[0].log.header
    recording = Recording(header.worker, header.about.venue, ordered)
    recording.notes = notes + list(_absent(ordered))
    return recording


def _completeness(capture: Capture) -> tuple[bool, int]:
    return capture.path.name.endswith(COMPRESSED), capture.path.stat().st_size


def _check_same(one: LoggedCapture, other: LoggedCapture) -> None:
    ours, theirs = one.log.header.about, other.log.header.about
    if (ours.instance, ours.venue) != (theirs.instance, theirs.venue):
        raise ConfigurationError(
            f"replay: {one.path} and {other.path} are of two collectors of the name {one.log.header.worker} "
            f"({ours.venue} in instance {ours.instance}, {theirs.venue} in {theirs.instance}); replay them apart"
        )


def _absent(ordered: Sequence[LoggedCapture]) -> Iterator[str]:
    """Tell of the parts of a process that are not there between those that are."""
    for before, after in itertools.pairwise(ordered):
        one, other = before.log.header, after.log.header
        if one.epoch == other.epoch and other.part > one.part + 1:
            yield (
                f"{one.worker}: parts {one.part + 1} to {other.part - 1} of epoch {one.epoch} are not there, between "
                f"{before.path.name} and {after.path.name}"
            )


def _check_names(found: Sequence[Recording], venue: str) -> None:
    """Refuse a venue that is not that of the files, and rings of one name."""
    lines = [each for each in found if not each.logged]
    logged = [each for each in found if each.logged]
    for each in logged:
        if lines and each.worker == venue:
            raise ConfigurationError(
                f"replay: a collector of the .wslog files is named {venue}, as that of JSON lines of this --venue is; "
                "replay them apart"
            )
        if venue and not lines and each.venue != venue:
            raise ConfigurationError(
                f"--venue {venue}: {each.worker} is of {each.venue}; .wslog files say it themselves, leave it out"
            )


def _refused(error: Exception) -> ConfigurationError:
    if isinstance(error, OSError):
        return ConfigurationError(f"{error.filename}: {error.strerror}")
    return ConfigurationError(str(error))
