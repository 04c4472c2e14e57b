"""A recorded day of consolidated equity prints goes through the live bars engine and is held against the vendor's own bars.

**Layout** of the recordings (zip files of one CSV, QuantConnect LEAN's): prints `ms, price x 10^4, qty, exchange, condition
word (hex), suspicious`; bars `ms, open, high, low, close, volume`; ms since midnight in New York, the day in the file's
name.

**Why it is right** The bars are made by `consumers.bar_engine` of EVENT records whose marks come from
`layouts.sale_conditions`: nothing here adds or compares prices but bar by bar.
"""

import re
import zipfile
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from layouts import BAR, BarFlag, InstrumentState, Kind
from layouts.event import TRADE
from layouts.sale_conditions import marks_of_vendor
from ops import show
from shm.errors import ConfigurationError

PRICE_SCALE, QTY_SCALE = 4, 0
_MS_NS = 1_000_000
_ZONE = "America/New_York"
_PRINT_COLUMNS = (5, 6)
"""Old files lack the last one."""
_BAR_COLUMNS = (6,)
_NAMES = ("open", "high", "low", "close", "volume")


class BarsReport(msgspec.Struct, kw_only=True):
    """What `tickring bars verify --json` prints."""

    prints: int
    bars: int
    """Of the vendor."""
    prices_equal: int
    """Of these, so many have our open, high, low and close ..."""
    volume_equal: int
    """... our volume ..."""
    equal: int
    """... and both."""
    missing: int
    """Bars of the vendor that we did not make."""
    more: int
    """Bars with prints that we made and the vendor did not."""
    differing: list[dict[str, int]]
    """The first that differ: ms, and under each name the vendor's value and ours."""


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a zipped CSV.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
    except (OSError, zipfile.BadZipFile, IndexError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}; a zip file of one CSV expected") from None
    return [line.split(",") for line in text.split()]


def midnight_ns(path: Path) -> int:
    """Return the midnight in New York of the day that a file's name holds, ns."""
    found = re.search(r"(\d{4})(\d\d)(\d\d)", path.name)
    if not found:
        raise ConfigurationError(f"{path}: no day (yyyymmdd) in its name")
    year, month, day = (int(part) for part in found.groups())
    return int(datetime(year, month, day, tzinfo=ZoneInfo(_ZONE)).timestamp()) * 10**9


def _check_width(path: Path, rows: list[list[str]], widths: tuple[int, ...], expected: str) -> None:
    """Refuse a file of another kind: quotes have prices where prints have quantities."""
    if wrong := next((row for row in rows if len(row) not in widths), None):
        raise ConfigurationError(f"{path}: a row of {len(wrong)} columns; {expected} expected")


def prints_of(path: Path) -> np.ndarray:
    """Return a file's prints as the EVENT records (TRADE) of one ring, marked by the vendor's condition words."""
    rows, midnight = read_rows(path), midnight_ns(path)
    _check_width(
        path,
        rows,
        _PRINT_COLUMNS,
        "rows of prints (ms, price, qty, exchange, condition, suspicious)",
    )
    records = np.zeros(len(rows), TRADE)
    try:
        columns = np.array([(int(r[0]), int(r[1]), int(r[2]), int(r[4], 16)) for r in rows])
    except (ValueError, IndexError) as error:
        raise ConfigurationError(f"{path}: {error}; rows of prints expected") from None
    records["stamp"] = 2 * np.arange(1, len(rows) + 1) + 2
    records["ts_event"] = records["ts_recv"] = midnight + columns[:, 0] * _MS_NS
    records["instrument_id"], records["kind"] = 1, Kind.TRADE
    marks = {word: marks_of_vendor(word) for word in np.unique(columns[:, 3]).tolist()}
    records["marks"] = [marks[word] | InstrumentState.LIVE for word in columns[:, 3].tolist()]
    records["price"], records["qty"] = columns[:, 1], columns[:, 2]
    return records


def compare(bars: np.ndarray, path: Path, shown: int = 5) -> BarsReport:
    """Hold BAR rows of one series against a vendor's file."""
    midnight = midnight_ns(path)
    rows = read_rows(path)
    _check_width(path, rows, _BAR_COLUMNS, "rows of bars (ms, open, high, low, close, volume)")
    wanted = np.array([[int(value) for value in row] for row in rows])
    ours = {
        (int(bar["ts_open"]) - midnight) // _MS_NS: [int(bar[name]) for name in _NAMES]
        for bar in bars[(bars["kind"] == Kind.BAR) & (bars["bar_flags"] & BarFlag.EMPTY == 0)]
    }
    counts = dict.fromkeys(("prices_equal", "volume_equal", "equal", "missing"), 0)
    differing = []
    for ms, *theirs in wanted.tolist():
        found = ours.pop(ms, None)
        if found is None:
            counts["missing"] += 1
            continue
        counts["prices_equal"] += found[:4] == theirs[:4]
        counts["volume_equal"] += found[4] == theirs[4]
        counts["equal"] += found == theirs
        if found != theirs:
            pairs = zip(_NAMES, theirs, found, strict=True)
            unequal = [(name, a, b) for name, a, b in pairs if a != b]
            values = {
                f"{name}_{by}": v for name, a, b in unequal for by, v in (("vendor", a), ("own", b))
            }
            differing.append({"ms": ms} | values)
    return BarsReport(
        prints=0, bars=len(wanted), more=len(ours), differing=differing[:shown], **counts
    )


def verify(prints: Path, bars: Path, frame: str = "1m") -> BarsReport:
    """Return how the engine's bars of these prints compare with the vendor's."""
    from consumers.bar_engine import BarEngine  # numba, only where it is needed
    from consumers.bar_series import BarsConfig
    from layouts import EVENT

    records = prints_of(prints)
    engine = BarEngine(
        BarsConfig(frames=(frame,)), lambda _id, _version: (PRICE_SCALE, QTY_SCALE), lambda _id: ""
    )
    made = engine.process(records.view(EVENT))
    # The last window is still open: a beat far behind it closes it.
    end = np.zeros(1, EVENT)
    end["kind"], end["ts_recv"] = Kind.HEARTBEAT, records["ts_recv"].max(initial=0) + 10**15
    report = compare(np.concatenate([np.empty(0, BAR), made, engine.process(end)]), bars)
    return msgspec.structs.replace(report, prints=len(records))


def run(prints: Path, bars: Path, frame: str, least: int, as_json: bool) -> int:
    """Verify, print, and return the exit status: 0 where `least` bars (-1: all) have the vendor's prices."""
    report = verify(prints, bars, frame)
    if as_json:
        show.as_json(report)
    else:
        names = [name for name in report.__struct_fields__ if name != "differing"]
        show.table(names, [tuple(getattr(report, name) for name in names)])
        for row in report.differing:
            show.say(", ".join(f"{name} {value}" for name, value in row.items()))
    wanted = report.bars if least < 0 else least
    return 0 if report.prices_equal >= wanted and not report.more else 1
