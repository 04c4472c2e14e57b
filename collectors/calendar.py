"""When a market is open, from the hours that its exchange states in wall clock times of its own zone; told for any instant.

**Why it is right** An instant is open when an entry of `hours` holds it and none of `closed` does; both lists have one grammar:

    [days or date] [from-to]     "mon-fri 09:30-16:00"   "sun-thu 17:00-16:00"   "sat"   "2026-12-25"   "2026-11-27 13:00-24:00"

A range of times belongs to the day on which it begins, and where it ends no later than it begins it ends on the next day, so
one local day needs only itself and the day before. Wall clock times become instants by `shm.sessions`. From its first ns to its
last a range is half open: 16:00:00 is closed.

**Cost** Two comparisons within the answer of before; a look through both lists after an opening, a closing or a midnight.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from shm.sessions import SECOND_NS, first_match, instant, zone_mistakes

ALWAYS = "mon-sun"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
_ENTRY = re.compile(r"(\S+)(?: (\d\d):(\d\d)-(\d\d):(\d\d))?")
_EXPECTED = '"mon-fri 09:30-16:00", "sun", "2026-12-25" or "2026-11-27 13:00-24:00" expected'


class Hours(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """When some instruments of a collector are traded."""

    time_zone: str
    """IANA name, e.g. "America/New_York"."""
    instruments: tuple[str, ...] = ("*",)
    """`venue:symbol`, * stands for any part; the first table that matches an instrument is its."""
    hours: tuple[str, ...] = (ALWAYS,)
    closed: tuple[str, ...] = ()


class Entry(NamedTuple):
    """One entry of `hours` or `closed`: minutes of the day on which it begins; `end` may lie beyond it."""

    days: frozenset[int]
    on: date | None
    start: int
    end: int

    def is_on(self, day: date) -> bool:
        """Tell whether it begins on that day."""
        return day == self.on if self.on is not None else day.weekday() in self.days


class Calendar:
    """Tells of any instant whether it is open.

    Raises:
        ValueError: an entry is none (`hours_mistakes` names all of them).
    """

    __slots__ = ("_closed", "_from", "_hours", "_is_open", "_until", "_zone")

    def __init__(self, given: Hours) -> None:
        self._zone = ZoneInfo(given.time_zone)
        self._hours = [parse(text) for text in given.hours]
        self._closed = [parse(text) for text in given.closed]
        self._from = self._until = 0
        self._is_open = False

    def is_open(self, ts: int) -> bool:
        """Tell whether instruments are traded at `ts` (ns, wall clock)."""
        if not self._from <= ts < self._until:
            self._look(ts)
        return self._is_open

    def _look(self, ts: int) -> None:
        """Find the answer for `ts`, and from when until when it holds; no longer than its local day."""
        second = datetime.fromtimestamp(ts // SECOND_NS, UTC)
        day = second.astimezone(self._zone).date()
        is_open, from_, until = False, self._at(day, 0), self._at(day, _DAY_MINUTES)
        for entries, is_hours in ((self._hours, True), (self._closed, False)):
            for start, end in self._ranges(entries, day):
                if start <= ts < end:
                    is_open = is_hours
                for bound in (start, end):
                    if bound <= ts:
                        from_ = max(from_, bound)
                    else:
                        until = min(until, bound)
        self._is_open, self._from, self._until = is_open, from_, until

    def _ranges(self, entries: Sequence[Entry], day: date) -> list[tuple[int, int]]:
        """Return what reaches into a day, as instants."""
        return [
            (self._at(begun, entry.start), self._at(begun, entry.end))
            for begun in (day - timedelta(days=1), day)
            for entry in entries
            if entry.is_on(begun)
        ]

    def _at(self, day: date, minutes: int) -> int:
        days, rest = divmod(minutes, _DAY_MINUTES)
        return instant(day + timedelta(days=days), time(rest // 60, rest % 60), self._zone)


def parse(text: str) -> Entry:
    """Return an entry of `hours` or `closed`.

    Raises:
        ValueError: it is none, and what was expected.
    """
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError(_EXPECTED)
    days, on = _when(match[1])
    if match[2] is None:
        return Entry(days, on, 0, _DAY_MINUTES)
    start, end = _minutes(match[2], match[3]), _minutes(match[4], match[5])
    if start == _DAY_MINUTES:
        raise ValueError("nothing begins at 24:00; 00:00 of the next day expected")
    if start == end:
        raise ValueError("empty; a whole day is written without times")
    return Entry(days, on, start, end if end > start else end + _DAY_MINUTES)


def hours_mistakes(given: Hours) -> list[str]:
    """Return a line for everything that is wrong with one table, each naming its key."""
    found = zone_mistakes(given.time_zone)
    if not given.hours:
        found.append(f'hours: empty, it would never be open; "{ALWAYS}" is always')
    if not given.instruments:
        found.append('instruments: empty; "*" is each one')
    parsed: dict[str, list[Entry]] = {}
    for key in ("hours", "closed"):
        texts, parsed[key] = getattr(given, key), []
        for text in texts:
            try:
                parsed[key].append(parse(text))
            except ValueError as error:
                found.append(f"{key} = {text!r}: {error}")
        if len(parsed[key]) == len(texts):
            found += _overlaps(key, texts, parsed[key])
    if not found and not _is_ever_open(parsed["hours"], parsed["closed"]):
        found.append("closed: it leaves nothing of hours open")
    return found


def calendars(tables: Sequence[Hours], venue: str) -> Callable[[str], Calendar | None]:
    """Return what tells a symbol's calendar; None: its market is always open."""
    made = [Calendar(each) for each in tables]

    def calendar_of(symbol: str) -> Calendar | None:
        number = first_match((each.instruments for each in tables), f"{venue}:{symbol}")
        return made[number] if number >= 0 else None

    return calendar_of


def _when(text: str) -> tuple[frozenset[int], date | None]:
    """Return weekdays (0: Monday), or a date."""
    if text[:1].isdigit():
        try:
            return frozenset(), date.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"no date: {error}") from None
    first, dash, last = text.partition("-")
    if first not in _DAYS or (dash and last not in _DAYS):
        raise ValueError(_EXPECTED)
    start = _DAYS.index(first)
    length = (_DAYS.index(last) - start) % 7 if dash else 0
    return frozenset((start + i) % 7 for i in range(length + 1)), None


def _minutes(hour: str, minute: str) -> int:
    found = int(hour) * 60 + int(minute)
    if found > _DAY_MINUTES or int(minute) > 59:
        raise ValueError(f"{hour}:{minute} is no time; 00:00 to 24:00 expected")
    return found


def _overlaps(key: str, texts: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """Return each entry that holds what another one of its kind holds; a date may lie within a weekday's."""
    ranges: list[tuple[int, int, str]] = []
    for text, entry in zip(texts, entries, strict=True):
        if entry.on is not None:
            # Dates are counted from beyond the week, so that they meet no weekday.
            first = (entry.on.toordinal() + 7) * _DAY_MINUTES
            ranges.append((first + entry.start, first + entry.end, text))
            continue
        for day in entry.days:
            start, end = day * _DAY_MINUTES + entry.start, day * _DAY_MINUTES + entry.end
            ranges.append((start, min(end, _WEEK_MINUTES), text))
            if end > _WEEK_MINUTES:
                ranges.append((0, end - _WEEK_MINUTES, text))
    ranges.sort()
    found = [
        f"{key} = {after[2]!r}: overlaps {before[2]!r}"
        for before, after in pairwise(ranges)
        if after[0] < before[1]
    ]
    return list(dict.fromkeys(found))


def _is_ever_open(hours: Sequence[Entry], closed: Sequence[Entry]) -> bool:
    """Tell whether weekdays that are closed leave anything of the hours; dates close nothing for ever."""
    week = bytearray(_WEEK_MINUTES)
    for entries, mark in ((hours, 1), (closed, 0)):
        for entry in entries:
            if entry.on is not None and mark:
                return True
            for day in entry.days:
                for minute in range(entry.start, entry.end):
                    week[(day * _DAY_MINUTES + minute) % _WEEK_MINUTES] = mark
    return any(week)
