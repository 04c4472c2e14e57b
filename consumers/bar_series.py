"""Which bars a worker makes: the series of a configuration, and the instants at which exchange sessions open.

**Why it is right** A session runs from one opening to the next, so that every instant lies in exactly one; the opening is a
wall clock time in the exchange's own zone, turned into UTC day by day (`shm.sessions`).
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from consumers.bar_state import DEFAULT_SETTLE_NS, NO_TIME, ROWS, SERIES
from layouts.bar import FRAMES, MILLIONTHS, SECOND_NS, BarKind, series_name
from shm.errors import ConfigurationError
from shm.sessions import instant, zone_mistakes

_DAY_NS = 86_400 * SECOND_NS
_AROUND_DAYS = 3
_STEP_DAYS = 400
"""Openings are made for so many days more than were asked for."""
MOST_EMPTY_ROWS = 300
_LAST_DAY = date(2262, 1, 1)


class Session(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """When an exchange's session opens, and of which instruments."""

    open: str
    """Wall clock time, "09:30" or "09:30:00"."""
    time_zone: str
    """IANA name, e.g. "America/New_York"."""
    instruments: tuple[str, ...] = ("*",)
    """`venue:symbol`, * stands for any part; the first session that matches an instrument is its."""


class BarsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is made of every instrument."""

    frames: tuple[str, ...] = tuple(FRAMES)
    session_frames: tuple[str, ...] = ()
    tick_bars: tuple[int, ...] = ()
    volume_bars: tuple[float, ...] = ()
    dollar_bars: tuple[float, ...] = ()
    imbalance_bars: tuple[int, ...] = ()
    settle_s: float = DEFAULT_SETTLE_NS / SECOND_NS
    empty_rows: int = 60
    sessions: dict[str, Session] = {}

    def mistakes(self) -> list[str]:
        """Return a line for everything that is wrong, each naming its key."""
        found = []
        for key in ("frames", "session_frames"):
            given = getattr(self, key)
            found += [
                f"{key} = {name!r}: one of {', '.join(FRAMES)} expected"
                for name in given
                if name not in FRAMES
            ]
            found += _twice(key, given)
        for key in ("tick_bars", "imbalance_bars"):
            found += [f"{key} = {n}: 1 trade or more expected" for n in getattr(self, key) if n < 1]
            found += _twice(key, getattr(self, key))
        for key in ("volume_bars", "dollar_bars"):
            found += [
                f"{key} = {n:g}: 0.000001 to 9e12 expected, at most 6 decimals"
                for n in getattr(self, key)
                if millionths(n) < 1
            ]
            found += _twice(key, getattr(self, key))
        if not 0 <= self.empty_rows <= MOST_EMPTY_ROWS:
            found.append(f"empty_rows = {self.empty_rows}: 0 to {MOST_EMPTY_ROWS} expected")
        if self.session_frames and not self.sessions:
            found.append("session_frames: no [bars.sessions] table says when a session opens")
        for name, session in self.sessions.items():
            found += [f"sessions.{name}.{each}" for each in session_mistakes(session)]
        if not found and most_step_rows(self) > ROWS:
            found.append(f"empty_rows = {self.empty_rows}: too many for so many series; lower it")
        if not found and len(series_of(self)) == 0:
            found.append("frames: no series at all; name one, or set enabled = false")
        return found

    @property
    def settle_ns(self) -> int:
        """How long after its end a HEARTBEAT closes a window; NO_TIME: never."""
        return round(self.settle_s * SECOND_NS) if self.settle_s >= 0 else int(NO_TIME)


def millionths(value: float) -> int:
    """Return a threshold in millionths; 0 where it is none: not above 0, too large, or with more than 6 decimals."""
    if not math.isfinite(value) or not 0 < value < 9e12:
        return 0
    exact = Decimal(repr(value)) * MILLIONTHS
    return int(exact) if exact == exact.to_integral_value() else 0


def series_of(config: BarsConfig) -> np.ndarray:
    """Return the SERIES of a configuration: UTC frames and session frames finest first, then the others."""
    rows: list[tuple[int, int]] = []
    for kind, names in (
        (BarKind.TIME, config.frames),
        (BarKind.SESSION, config.session_frames),
    ):
        rows += [(int(kind), ns) for ns in sorted(FRAMES[name] for name in names)]
    rows += [(int(BarKind.TICK), n) for n in config.tick_bars]
    rows += [(int(BarKind.VOLUME), millionths(n)) for n in config.volume_bars]
    rows += [(int(BarKind.DOLLAR), millionths(n)) for n in config.dollar_bars]
    rows += [(int(BarKind.IMBALANCE), n) for n in config.imbalance_bars]
    return np.array(rows, SERIES)


def series_names(config: BarsConfig) -> list[str]:
    """Return what streams call the series."""
    return [series_name(kind, parameter) for kind, parameter in series_of(config).tolist()]


def most_step_rows(config: BarsConfig) -> int:
    """Return how many rows one instrument and one record can cause at most."""
    frames = len(config.frames) + len(config.session_frames)
    # Of each frame: one that ends before its time, one with prints, the empty ones, and one of late prints alone.
    return frames * (config.empty_rows + 3) + len(series_of(config)) - frames


def session_mistakes(session: Session) -> list[str]:
    """Return what is wrong with a session."""
    found = []
    try:
        time.fromisoformat(session.open)
    except ValueError:
        found.append(f'open = {session.open!r}: a time as "09:30" expected')
    else:
        if time.fromisoformat(session.open).tzinfo is not None:
            found.append(f"open = {session.open!r}: without a zone, which time_zone names")
    return found + zone_mistakes(session.time_zone)


class Openings(NamedTuple):
    """Opening instants of some sessions, ns, a row each, ascending; all over the same days."""

    first: date
    last: date
    table: np.ndarray


def openings(sessions: Sequence[Session], ts: int, before: Openings | None = None) -> Openings:
    """Return a table that reaches around `ts` (ns) and holds the days of the one before.

    Raises:
        ConfigurationError: a session is none.
    """
    if mistakes := [each for session in sessions for each in session_mistakes(session)]:
        raise ConfigurationError("; ".join(mistakes))
    day = datetime.fromtimestamp(ts // SECOND_NS, UTC).date()
    first, last = _earlier(day), min(day + timedelta(days=_STEP_DAYS), _LAST_DAY)
    if before is not None:
        first, last = min(first, before.first), max(last, before.last)
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    rows = [
        [instant(each, time.fromisoformat(s.open), ZoneInfo(s.time_zone)) for each in days]
        for s in sessions
    ]
    return Openings(first, last, np.array(rows, np.int64).reshape(len(sessions), len(days)))


def _earlier(day: date) -> date:
    """Return a few days earlier, but not before 1970."""
    return max(day - timedelta(days=_AROUND_DAYS), date(1969, 12, 30))


def _twice(key: str, given: Sequence[object]) -> list[str]:
    return [f"{key} = {each!r}: is there twice" for each in dict.fromkeys(given) if given.count(each) > 1]  # fmt: skip
