"""What is said of an exchange's sessions by wall clock times becomes instants, one way for collectors and consumers.

**Why it is right** A wall clock time belongs to a day and an IANA zone, and is turned into UTC day by day, so that a change
of daylight saving makes one session an hour longer or shorter and none is missing. A time that the clock shows twice is the
first of them; one that it leaves out is as far after midnight as if nothing had been left out.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SECOND_NS = 1_000_000_000


def zone_mistakes(time_zone: str) -> list[str]:
    """Return what is wrong with the name of a zone."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return [f'time_zone = {time_zone!r}: an IANA name as "America/New_York"']
    return []


def instant(day: date, at: time, zone: ZoneInfo) -> int:
    """Return a wall clock time of a day as ns since the epoch."""
    found = datetime.combine(day, at, zone).astimezone(UTC)
    return int(found.timestamp() // 1) * SECOND_NS + found.microsecond * 1000


def first_match(patterns: Iterable[Sequence[str]], instrument: str) -> int:
    """Return the first session of which a pattern matches `venue:symbol` (* stands for any part), -1 for none."""
    for number, those in enumerate(patterns):
        if any(fnmatch.fnmatchcase(instrument, pattern) for pattern in those):
            return number
    return -1
