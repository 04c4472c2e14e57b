"""Every whole line of a recording is read exactly as it was written, or the file and line at fault
are named; a .wslog file is read as a recording too, its entries as lines.

**Layout** A capture is JSON lines, plain or gzip'd, one moment a line, in recorded order:
``{"ts": ns, "kind": "open" | "sent" | "recv" | "rest", "url": str, "data": str}``. `ts` is the
recorder's clock in ns since the epoch (0 where none was recorded), `data` the verbatim text.

**Failure** A gzip stream that ends early (its recorder was killed), one whose bytes are damaged, a
line that is no JSON of this shape and an unknown kind each raise `CaptureError`. A reader made with
``tolerate_truncation=True`` yields every whole line instead when the file ends early, and says so in
`ending`; damage anywhere else is an error all the same.

**Cost** Memory is bounded by one compressed chunk, its text, and the longest line (refused beyond
`MAX_LINE_BYTES`), however long the file.
"""

from __future__ import annotations

import heapq
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple

import msgspec

from collectors.wslog import WsLog, WsLogDamaged, is_wslog
from layouts import Entry, GapReason
from shm.errors import TickringError

Kind = Literal["open", "sent", "recv", "rest"]
LoggedKind = Literal["start", "close", "timer", "republish", "too_large", "silence", "subscribe"]
"""What a .wslog tells: see `layouts.wslog.Entry`; of JSON lines "close" alone, where a link was opened anew."""

CHUNK_BYTES = 64 * 1024
# The largest snapshot recorded so far is 4 MB; a line beyond this is a damaged file, not a frame.
MAX_LINE_BYTES = 64 * 1024 * 1024
# Recordings closer together than this are one session in several files (a rotation, a REST call
# made just before the socket was opened), so live playing keeps the time between them.
SESSION_GAP_NS = 60 * 1_000_000_000

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31


class CaptureError(TickringError):
    """A recording that cannot be read as it stands: the file, the line, and what is wrong there."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")
        self.path = path
        self.line = line
        self.what = what


class Frame(NamedTuple):
    """One line of a recording: `ts` in ns since the epoch, `data` verbatim, `line` from 1 (of a .wslog:
    the number of the entry; `data` of "close": the `GapReason` as text, "0" where the link was closed by us).
    """

    ts: int
    kind: Kind | LoggedKind
    url: str
    data: bytes
    file_index: int
    line: int


class Ending(NamedTuple):
    """How a file ended: its whole lines, and what was cut off ("" when the end was clean)."""

    lines: int
    truncated: str
    cut_bytes: int


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ts: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    kind: Kind
    url: str
    data: str


class Capture:
    """One recording, read from its start by each iteration.

    `ending` is None until an iteration has reached the end of the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        file_index: int = 0,
        tolerate_truncation: bool = False,
    ) -> None:
        self.path = Path(path)
        self.file_index = file_index
        self.tolerate_truncation = tolerate_truncation
        self.ending: Ending | None = None

    def __iter__(self) -> Iterator[Frame]:
        self.ending = None
        return _with_closes(self._lines())

    def _lines(self) -> Iterator[Frame]:
        decode = msgspec.json.Decoder(_Line).decode
        chunks = _Chunks(self.path)
        number = 0
        rest = b""
        try:
            for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for text in lines:
                    number += 1
                    yield self._frame(decode, text, number)
                if len(rest) > MAX_LINE_BYTES:
                    what = f"longer than {MAX_LINE_BYTES} bytes; this is no recording of frames"
                    raise CaptureError(self.path, number + 1, what)
        except zlib.error as error:
            what = f"damaged gzip data ({error}); restore the file from its source"
            raise CaptureError(self.path, number + 1, what) from None
        truncated = chunks.truncated
        if rest and not truncated:
            # A last line without its newline is whole if it can be read.
            try:
                last = self._frame(decode, rest, number + 1)
            except CaptureError:
                truncated = "the last line ends in its middle"
            else:
                number += 1
                rest = b""
                yield last
        if truncated and not self.tolerate_truncation:
            what = f"{truncated}; read it with tolerate_truncation to take its whole lines"
            raise CaptureError(self.path, number + 1, what)
        self.ending = Ending(number, truncated, len(rest))

    def _frame(self, decode: Callable[[bytes], _Line], text: bytes, number: int) -> Frame:
        try:
            line = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            shown = text[:60].decode(errors="replace")
            what = f"{error}; the line starts {shown!r}"
            raise CaptureError(self.path, number, what) from None
        return Frame(line.ts, line.kind, line.url, line.data.encode(), self.file_index, number)


def _with_closes(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Put a "close" before an "open" of the one address that is open already and was heard since: its link was lost. Links
    that were open side by side, whose lines stand one after the other, show by their times.
    """
    opened = ""
    is_alone, heard_ts = True, -1
    for frame in frames:
        if frame.kind == "recv":
            heard_ts = max(heard_ts, frame.ts)
        elif frame.kind == "open":
            is_alone = is_alone and opened in ("", frame.url)
            if is_alone and opened and 0 <= heard_ts <= frame.ts:
                yield frame._replace(kind="close", data=b"%d" % GapReason.DISCONNECT)
            opened = frame.url
        yield frame


class LoggedCapture(Capture):
    """A .wslog file, plain or compressed."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        file_index: int = 0,
        tolerate_truncation: bool = False,
    ) -> None:
        super().__init__(path, file_index=file_index, tolerate_truncation=tolerate_truncation)
        try:
            self.log = WsLog(self.path, tolerate_truncation)
        except WsLogDamaged as error:
            raise CaptureError(self.path, 0, str(error)) from None

    def __iter__(self) -> Iterator[Frame]:
        self.ending = None
        log, index, url = self.log, self.file_index, self.log.header.about.url
        number = log.header.first_entry_no - 1
        for batch in log.batches(CHUNK_BYTES):
            for entry, status, ts, number, key, data in batch.rows():
                kind = _LOGGED.get(entry)
                if entry == Entry.CLOSE:
                    yield Frame(ts, "close", url, b"%d" % status, index, number)
                elif kind is not None:
                    yield Frame(ts, kind, key.decode() if key else url, data, index, number)
        cut = log.cut_bytes + log.scan.damaged_bytes
        truncated = ""
        if cut or log.scan.missing or log.is_cut:
            missing = sum(last - first + 1 for first, last in log.scan.missing)
            truncated = f"{missing} entries are missing, {log.scan.damaged_bytes} bytes damaged"
            truncated += ", the compressed data end early" if log.is_cut else ""
        if truncated and not self.tolerate_truncation:
            what = f"{truncated}; read it with tolerate_truncation to take its whole entries"
            raise CaptureError(self.path, number, what)
        self.ending = Ending(number, truncated, cut)


_LOGGED: dict[int, Kind | LoggedKind] = {
    Entry.FRAME: "recv",
    Entry.OPEN: "open",
    Entry.SENT: "sent",
    Entry.REST: "rest",
    Entry.TIMER: "timer",
    Entry.REPUBLISH: "republish",
    Entry.TOO_LARGE: "too_large",
    Entry.START: "start",
    Entry.SILENCE: "silence",
    Entry.SUBSCRIBE: "subscribe",
}


class _Chunks:
    """The plain text of a file in bounded pieces; `truncated` tells afterwards if it ended early.

    Raises zlib.error where gzip data is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = ""

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            piece = file.read(CHUNK_BYTES)
            if self.path.suffix == ".gz" or piece.startswith(_GZIP_MAGIC):
                yield from self._inflated(file, piece)
                return
            while piece:
                yield piece
                piece = file.read(CHUNK_BYTES)

    def _inflated(self, file: BinaryIO, piece: bytes) -> Iterator[bytes]:
        # gzip files may be joined end to end (a recorder that was restarted), so a new stream
        # begins wherever bytes follow the end of one.
        stream = zlib.decompressobj(_GZIP_WBITS)
        while piece:
            text = stream.decompress(piece, CHUNK_BYTES)
            if text:
                yield text
            piece = stream.unconsumed_tail or stream.unused_data
            if not piece:
                piece = file.read(CHUNK_BYTES)
            if stream.eof and piece:
                stream = zlib.decompressobj(_GZIP_WBITS)
        if not stream.eof:
            self.truncated = "the gzip stream ends early"


def find_captures() -> Path | None:
    """The folder of recordings: TICKRING_CAPTURES, else ../shared/captures beside the project.

    None when there is no such folder; a TICKRING_CAPTURES that names no folder is an error.
    """
    named = os.environ.get("TICKRING_CAPTURES")
    if named:
        folder = Path(named)
        if not folder.is_dir():
            message = f"TICKRING_CAPTURES={named} is not a folder; correct it or unset it"
            raise NotADirectoryError(message)
        return folder
    folder = Path(__file__).resolve().parents[2] / "shared" / "captures"
    return folder if folder.is_dir() else None


def open_captures(
    paths: Sequence[str | os.PathLike[str]], *, tolerate_truncation: bool = False
) -> list[Capture]:
    """One `Capture` a path, numbered in the order given (`Frame.file_index`)."""
    return [
        (LoggedCapture if is_wslog(Path(path)) else Capture)(
            path, file_index=index, tolerate_truncation=tolerate_truncation
        )
        for index, path in enumerate(paths)
    ]


def merge(captures: Iterable[Capture]) -> Iterator[Frame]:
    """All frames by `ts`; ties by the order of the files, and each file's own order always kept."""
    return heapq.merge(*captures, key=_ts)


def session_starts(
    captures: Sequence[Capture], *, session_gap_ns: int = SESSION_GAP_NS
) -> list[int]:
    """The `ts` at which each recording's session began, reading every file to its end.

    Recordings that overlap in time, or follow one another within `session_gap_ns`, are one session.
    """
    spans = sorted((*_span(capture), position) for position, capture in enumerate(captures))
    starts = [0] * len(captures)
    session_start = session_end = -1
    for first, last, position in spans:
        if session_start < 0 or first > session_end + session_gap_ns:
            session_start = session_end = first
        starts[position] = session_start
        session_end = max(session_end, last)
    return starts


def merge_aligned(
    captures: Sequence[Capture], starts: Sequence[int] | None = None
) -> Iterator[tuple[int, Frame]]:
    """All frames as one live session: pairs (ns since its beginning, frame as recorded).

    Recordings of one session keep the time between them; sessions of another hour or year are
    shifted so that all begin together. `starts` is what `session_starts` told of these captures.
    """
    if starts is None:
        starts = session_starts(captures)
    streams = (_offsets(capture, start) for capture, start in zip(captures, starts, strict=True))
    return heapq.merge(*streams, key=_offset)


def _span(capture: Capture) -> tuple[int, int]:
    """The smallest and largest `ts` of a recording; (0, 0) when it is empty."""
    first = last = -1
    for frame in capture:
        if first < 0 or frame.ts < first:
            first = frame.ts
        last = max(last, frame.ts)
    return (first, last) if first >= 0 else (0, 0)


def _offsets(capture: Capture, start: int) -> Iterator[tuple[int, Frame]]:
    for frame in capture:
        yield frame.ts - start, frame


def _ts(frame: Frame) -> int:
    return frame.ts


def _offset(timed: tuple[int, Frame]) -> int:
    return timed[0]
