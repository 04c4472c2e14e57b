"""Every recording of a folder is replayed, and what came out is held against what its venue says of itself.

    tickring truth [FOLDER] [--json]        one line a truth: expected, found; exit 1 when one does not hold

**Protocol** Recordings that belong together (a REST snapshot and its diffs, two days of one book) are one replay; the
file's name tells the venue. Any recording whose name begins with a venue's can be judged: what it must come out as
is read off its own frames, apart from the decoder (frames, checksums, the sequence of the connection), or is 0 (gaps,
refusals, crossed books). For the recordings in KNOWN what was once counted by hand is expected as well.

**Why it is right** Checksums, sequences and the venue's own best bid and ask are not ours. A trade's side is held
against our book just before it: who buys at the best ask or above was the taker.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from collectors.captures import find_captures, open_captures, session_starts
from collectors.venues import DECODERS
from layouts import Kind, Mark
from ops import show
from ops.replay import chunks_of
from ops.replay_books import ReplayBooks
from ops.replay_player import Player
from ops.replay_recording import Recording, recordings_of
from shm.errors import ConfigurationError

_SUFFIXES = (".jsonl.gz", ".jsonl")
_CHECKSUM = {
    "kraken_v1": re.compile(rb'"c":"\d+"'),
    "kraken_v2": re.compile(rb'"channel":"book".*"checksum":', re.DOTALL),
    "okx": re.compile(rb'"checksum":-?[1-9]'),
}
"""Frames that carry a checksum; OKX sends 0 where there is none any more."""
_SEQUENCE = {"coinbase_advanced": re.compile(rb'"sequence_num": ?(\d+)')}
"""The number of a frame in its connection."""


class Known(NamedTuple):
    """Recordings that are replayed together, their frames, and counts that were checked by hand: those of another recording
    of that name are not expected.
    """

    names: tuple[str, ...]
    frames: int
    counts: dict[str, int]


KNOWN = (
    Known(("kraken_v1_book_10pairs", "kraken_v1_trade_10pairs"), 4_370, {"checksums_ok": 4_269}),
    Known(("kraken_v2_btcusd_resubscribes",), 377, {"checksums_ok": 301}),
    Known(("kraken_v2_ethusd",), 1_170, {"checksums_ok": 1_129}),
    Known(("kraken_futures_10products",), 7_123, {"trades": 1_003}),
    Known(("coinbase_advanced_btc_eth_350",), 350, {"levels_absent": 10}),
    Known(
        ("coinbase_exchange_10pairs",),
        9_946,
        {"trades": 107, "oracle_agree": 100, "oracle_disagree": 7},
    ),
    Known(
        ("binance_spot_btcusdt_day1", "binance_spot_btcusdt_day2"),
        99_573,
        {"oracle_agree": 6_491, "oracle_disagree": 2},
    ),
    Known(("binance_spot_4pairs",), 265, {"frames_stale": 5}),
    Known(("binance_usdm_btcusdt",), 11_413, {"oracle_agree": 3_321, "oracle_disagree": 0}),
    Known(("binance_usdm_pairs",), 1_535, {"frames_stale": 12}),
    Known(("okx_v5_books_3instruments",), 410, {"checksums_ok": 290, "trades": 74}),
    Known(("bybit_v5_linear_spot_book200",), 3_227, {"trades": 347}),
    Known(
        ("bitstamp_rest_pairs", "bitstamp_rest_books", "bitstamp_diffbook_trades"),
        747,
        {"frames_stale": 102, "trades": 10},
    ),
    Known(("deribit_10options",), 136, {}),
)


class Truth(msgspec.Struct):
    """One line: what was expected of a recording and what was found. `expected` None: told, not judged."""

    recording: str
    venue: str
    truth: str
    expected: int | None
    found: int
    holds: bool


_WORD_NAMES = ["word_0", "word_1", "word_2", "word_3"]


class _Watch:
    """Looks at records as a consumer gets them: crossed tops, and on whose side trades were."""

    def __init__(self) -> None:
        self.crossed = 0
        self.sides = {"agree": 0, "disagree": 0}
        self._tops: dict[int, tuple[int, int, int, int]] = {}

    def take(self, records: np.ndarray) -> None:
        """Take EVENT records in order."""
        kinds = records["kind"]
        for event in records[(kinds == Kind.QUOTE) | (kinds == Kind.TRADE)]:
            words: tuple[int, int, int, int] = event[_WORD_NAMES].item()
            instrument_id = int(event["instrument_id"])
            if event["kind"] == Kind.QUOTE:
                self._tops[instrument_id] = words
                bid, bid_qty, ask, ask_qty = words
                self.crossed += bool(bid_qty and ask_qty and bid >= ask)
            elif instrument_id in self._tops and not event["marks"] & Mark.SNAPSHOT:
                self._judge(words[0], int(event["marks"]), self._tops[instrument_id])

    def _judge(self, price: int, marks: int, top: tuple[int, int, int, int]) -> None:
        bid, bid_qty, ask, ask_qty = top
        if not (bid_qty and ask_qty and bid < ask) or bid < price < ask:
            return
        bought = price >= ask
        self.sides["agree" if bool(marks & Mark.BUY) is bought else "disagree"] += 1


def groups_of(folder: Path) -> Iterator[tuple[str, tuple[Path, ...], dict[str, int]]]:
    """Yield (venue, files, known counts) of all that can be judged in a folder.

    Raises:
        ConfigurationError: the folder holds no recording of any venue.
    """
    files = {
        path.name.removesuffix(suffix): path
        for suffix in _SUFFIXES
        for path in sorted(folder.glob(f"*{suffix}"))
    }
    found = False
    for known in KNOWN:
        if all(name in files for name in known.names):
            found = True
            paths = tuple(files.pop(name) for name in known.names)
            yield venue_of(known.names[0]), paths, {"frames": known.frames, **known.counts}
    for venue, paths in _together(files):
        if any(_has_books(venue, path) for path in paths):
            found = True
            yield venue, paths, {}
    if not found:
        raise ConfigurationError(
            f"{folder}: no recording here whose name begins with a venue's "
            f"({', '.join(DECODERS)}), as <venue>_….jsonl.gz"
        )


def _together(files: dict[str, Path]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield the recordings that need one another: each alone, and of venues whose books begin with a REST answer those of
    one session, whichever file holds it.
    """
    groups: dict[tuple[str, int | str], list[Path]] = {}
    for venue in DECODERS:
        paths = [path for name, path in files.items() if venue_of(name) == venue]
        keys: Sequence[int | str] = [path.name for path in paths]
        if DECODERS[venue].needs_rest:
            keys = session_starts(open_captures(paths, tolerate_truncation=True))
        for key, path in zip(keys, paths, strict=True):
            groups.setdefault((venue, key), []).append(path)
    for (venue, _), paths in groups.items():
        yield venue, tuple(paths)


def venue_of(name: str) -> str:
    """Return the venue that a recording's name begins with, "" where none does."""
    return next((venue for venue in DECODERS if name.startswith(venue)), "")


def judge(venue: str, paths: Sequence[Path], known: dict[str, int]) -> list[Truth]:
    """Replay what belongs together and return its truths."""
    [recording] = recordings_of(paths, venue)
    sizes = [(frame.kind, len(frame.data)) for frame in recording.frames()]
    player = Player(recording, max((n for _, n in sizes), default=0))
    books, watch = ReplayBooks(), _Watch()
    own = _read_off(recording, venue)
    for chunk in chunks_of(recording.frames(), player.half):
        player.play(chunk)
        for records, _ in player.instruments.drain():
            books.take_instruments(records)
        for records, _ in player.events.drain():
            books.take(records)
            watch.take(records)
    player.decoder.finish()
    return list(_truths(_Replayed(venue, paths, player, books, watch), own, known))


class _Replayed(NamedTuple):
    venue: str
    paths: Sequence[Path]
    player: Player
    books: ReplayBooks
    watch: _Watch


def _read_off(recording: Recording, venue: str) -> dict[str, int]:
    """Count in the frames themselves what the decoder must come to."""
    own = {"frames": 0, "checksums_ok": 0, "breaks": 0, "closes": 0}
    checksum, sequence = _CHECKSUM.get(venue), _SEQUENCE.get(venue)
    last = None
    for frame in recording.frames():
        if frame.kind == "close":
            own["closes"] += 1
            last = None
        if frame.kind != "recv":
            continue
        own["frames"] += 1
        own["checksums_ok"] += bool(checksum and checksum.search(frame.data))
        number = sequence.search(frame.data) if sequence else None
        if number:
            own["breaks"] += last is not None and int(number[1]) != last + 1
            last = int(number[1])
    return own


def _truths(run: _Replayed, own: dict[str, int], known: dict[str, int]) -> Iterator[Truth]:
    counts = run.player.counts()
    name = run.paths[-1].name.partition(".")[0]
    if len(run.paths) > 1:
        name += f" and {len(run.paths) - 1} before it"

    def line(truth: str, expected: int | None, found: int) -> Truth:
        return Truth(name, run.venue, truth, expected, found, expected in (None, found))

    rejected = sum(n for key, n in counts.items() if key.startswith("rejected."))
    decoder = run.player.decoder
    yield line("frames decoded", own["frames"], counts["frames_decoded"])
    yield line("frames refused", 0, rejected)
    if run.venue in _SEQUENCE:
        yield line("breaks of the connection's sequence", 0, own["breaks"])
    yield line("gaps told", None if own["closes"] else 0, run.books.gaps)
    published = run.player.events.producer.next_seq - 1
    yield line("records in the ring, all read", published, run.books.records)
    yield line("books live", decoder.books_total, decoder.books_live)
    yield line("best bid and ask crossed at a frame's end", 0, run.watch.crossed)
    if run.venue in _CHECKSUM:
        yield line("checksums that hold", own["checksums_ok"], counts["checksums_ok"])
        yield line("checksums that do not", 0, counts["checksums_bad"])
    counted = dict(known) if known.get("frames") == own["frames"] else {}
    counted.pop("frames", None)
    for key, expected in counted.items():
        yield line(_WORDS[key], expected, counts[key])
    for key in ("oracle_agree", "oracle_disagree"):
        if counts[key] and key not in counted:
            yield line(_WORDS[key], None, counts[key])
    if any(run.watch.sides.values()):
        for side, n in run.watch.sides.items():
            yield line(f"trades at the touch whose taker's side {side}s with the book", None, n)


_WORDS = {
    "checksums_ok": "checksums, as counted by hand",
    "trades": "trades",
    "levels_absent": "deletes of levels that are not there",
    "frames_stale": "diffs that the snapshot holds already",
    "oracle_agree": "the venue's best bid and ask is the book's",
    "oracle_disagree": "the venue's best bid and ask is not the book's",
}


def _has_books(venue: str, path: Path) -> bool:
    """Tell whether a recording can be judged alone: it holds received frames, and they are not the REST side only."""
    [recording] = recordings_of((path,), venue)
    kinds = {frame.kind for frame in recording.frames()}
    return "recv" in kinds


def run(folder: Path | None, as_json: bool) -> int:
    """Judge a folder, print, and return the exit status."""
    where = folder or find_captures()
    if where is None or not where.is_dir():
        raise ConfigurationError(
            f"{where or 'no folder of recordings'}: not found; name one, or set TICKRING_CAPTURES to it"
        )
    truths: list[Any] = [
        truth for venue, paths, known in groups_of(where) for truth in judge(venue, paths, known)
    ]
    if as_json:
        show.as_json(truths)
    else:
        columns = ["recording", "truth", "expected", "found", "holds"]
        rows = [
            (t.recording, t.truth, t.expected, t.found, "yes" if t.holds else "NO") for t in truths
        ]
        show.table(columns, rows)
    return 0 if all(truth.holds for truth in truths) else 1
