"""A calendar answers for any instant as the exchange's own wall clock would, and a table of nonsense is refused whole."""

from datetime import UTC, datetime, timedelta

import pytest

from collectors.calendar import Calendar, Hours, calendars, hours_mistakes
from collectors.collector_spec import CollectorSpec
from collectors.decoder import Subscription
from shm.errors import ConfigurationError

NEW_YORK = "America/New_York"


def ns(text: str) -> int:
    """Return an instant of UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def made(hours: str = "", closed: str = "", time_zone: str = "UTC") -> Calendar:
    """Return a calendar from entries parted by semicolons."""
    given = {"hours": tuple(hours.split("; "))} if hours else {}
    return Calendar(Hours(time_zone=time_zone, closed=tuple(filter(None, closed.split("; "))), **given))  # fmt: skip


# Each bound is the first instant of what follows it: (hours, closed, zone, UTC instant, is open from there on).
BOUNDS = {
    "an opening": ("mon-fri 09:30-16:00", "", NEW_YORK, "2026-08-03 13:30", True),
    "a closing": ("mon-fri 09:30-16:00", "", NEW_YORK, "2026-08-03 20:00", False),
    "an opening in winter": ("mon-fri 09:30-16:00", "", NEW_YORK, "2026-12-07 14:30", True),
    "the Monday after the clocks went forward": (
        "mon-fri 09:30-16:00", "", NEW_YORK, "2026-03-09 13:30", True,
    ),
    "the Friday before": ("mon-fri 09:30-16:00", "", NEW_YORK, "2026-03-06 14:30", True),
    "the Monday after they went back": (
        "mon-fri 09:30-16:00", "", NEW_YORK, "2026-11-02 14:30", True,
    ),
    "an early closing": (
        "mon-fri 09:30-16:00", "2026-11-27 13:00-24:00", NEW_YORK, "2026-11-27 18:00", False,
    ),
    "a week that begins on Sunday": ("sun-thu 17:00-16:00", "", "America/Chicago", "2026-08-02 22:00", True),
    "its pause": ("sun-thu 17:00-16:00", "", "America/Chicago", "2026-08-03 21:00", False),
    "the end of its pause": ("sun-thu 17:00-16:00", "", "America/Chicago", "2026-08-03 22:00", True),
    "its end on Friday": ("sun-thu 17:00-16:00", "", "America/Chicago", "2026-08-07 21:00", False),
    "maintenance": ("", "sun 09:00-09:30", "UTC", "2026-08-02 09:00", False),
    "the end of maintenance": ("", "sun 09:00-09:30", "UTC", "2026-08-02 09:30", True),
    "maintenance over midnight": ("", "sat 23:45-00:15", "UTC", "2026-08-01 23:45", False),
    "its end on the next day": ("", "sat 23:45-00:15", "UTC", "2026-08-02 00:15", True),
    "a weekend": ("mon-fri", "", "UTC", "2026-08-01 00:00", False),
    "the end of a weekend": ("mon-fri", "", "UTC", "2026-08-03 00:00", True),
    "days round the week's end": ("sat-mon", "", "UTC", "2026-08-04 00:00", False),
    "a holiday": ("", "2026-12-25", "UTC", "2026-12-25 00:00", False),
    "the end of a holiday": ("", "2026-12-25", "UTC", "2026-12-26 00:00", True),
    "a session of one date": ("mon-fri; 2026-08-01 10:00-12:00", "", "UTC", "2026-08-01 10:00", True),
    "its end": ("mon-fri; 2026-08-01 10:00-12:00", "", "UTC", "2026-08-01 12:00", False),
    "a time that is left out": ("sun 02:30-16:00", "", NEW_YORK, "2026-03-08 07:30", True),
    "a time that comes twice": ("sun 01:30-16:00", "", NEW_YORK, "2026-11-01 05:30", True),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_the_first_instant_of_what_follows(name: str) -> None:
    """One ns before it and at it, asked in either order and by a fresh calendar."""
    hours, closed, zone, at, is_open = BOUNDS[name]
    bound = ns(at)
    calendar = made(hours, closed, zone)
    assert [calendar.is_open(ts) for ts in (bound - 1, bound, bound - 1)] == [not is_open, is_open, not is_open]  # fmt: skip
    assert made(hours, closed, zone).is_open(bound) is is_open
    assert made(hours, closed, zone).is_open(bound - 1) is not is_open


def test_a_session_keeps_its_wall_clock_hours_when_the_clock_changes() -> None:
    """Overnight from 18:00 to 17:00: 23 hours, 22 where an hour is left out, 24 where it comes twice."""
    calendar = made("sun-thu 18:00-17:00; sat 18:00-17:00", "", NEW_YORK)
    for noon, hours in (("2026-08-04", 23), ("2026-03-08", 22), ("2026-11-01", 24)):
        begin = ns(f"{noon} 12:00") - 20 * 3600 * 10**9
        minutes = [calendar.is_open(begin + i * 60 * 10**9) for i in range(34 * 60)]
        first = minutes.index(False)
        opened = minutes.index(True, first)
        assert minutes.index(False, opened) - opened == hours * 60


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Australia/Lord_Howe", "America/Havana"])
def test_a_market_without_hours_is_never_closed(zone: str) -> None:
    """Every quarter of an hour of a year, through changes of half an hour and at midnight too."""
    calendar = made("", "", zone)
    begin = ns("2026-01-01 00:00")
    assert all(calendar.is_open(begin + i * 900 * 10**9) for i in range(366 * 96))


def test_a_year_of_hours_is_what_the_wall_clock_says() -> None:
    """Each ten minutes of 2026, by the plain reading of the local clock."""
    from zoneinfo import ZoneInfo

    calendar = made("mon-fri 09:30-16:00", "2026-12-25; 2026-11-27 13:00-24:00", NEW_YORK)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at.year == 2026:
        local = at.astimezone(ZoneInfo(NEW_YORK))
        clock, day = (local.hour, local.minute), local.date().isoformat()
        wanted = local.weekday() < 5 and (9, 30) <= clock < (16, 0) and day != "2026-12-25"
        wanted &= not (day == "2026-11-27" and clock >= (13, 0))
        assert calendar.is_open(int(at.timestamp()) * 10**9) is wanted, local
        at += timedelta(minutes=10)


def test_the_first_table_that_matches_an_instrument_is_its() -> None:
    """By `venue:symbol`; what none matches has no calendar."""
    tables = [
        Hours(time_zone="UTC", instruments=("okx:BTC*",), hours=("mon",)),
        Hours(time_zone="UTC", instruments=("okx:*-USDT", "okx:BTC-USD"), hours=("tue",)),
    ]
    calendar_of = calendars(tables, "okx")
    monday = ns("2026-08-03 12:00")
    assert calendar_of("BTC-USDT").is_open(monday)
    assert not calendar_of("ETH-USDT").is_open(monday)
    assert calendar_of("ETH-USD") is None
    assert calendars(tables, "bybit")("BTC-USDT") is None


MISTAKES = {
    "an unknown zone": ({"time_zone": "Mars/Olympus"}, ["time_zone = 'Mars/Olympus': an IANA name"]),
    "no zone": ({"time_zone": ""}, ["time_zone = '': an IANA name"]),
    "no hours": ({"hours": ()}, ["hours: empty, it would never be open"]),
    "no instruments": ({"instruments": ()}, ["instruments: empty"]),
    "25 o'clock": ({"hours": ("mon 09:00-25:00",)}, ["hours = 'mon 09:00-25:00': 25:00 is no time"]),
    "minute 60": ({"hours": ("mon 09:60-10:00",)}, ["09:60 is no time"]),
    "24:01": ({"hours": ("mon 09:00-24:01",)}, ["24:01 is no time"]),
    "from 24:00": ({"hours": ("mon 24:00-01:00",)}, ["nothing begins at 24:00"]),
    "one digit": ({"hours": ("mon 9:00-10:00",)}, ["'mon 9:00-10:00': \"mon-fri 09:30-16:00\""]),
    "an empty range": ({"closed": ("sun 09:00-09:00",)}, ["closed = 'sun 09:00-09:00': empty"]),
    "no such day": ({"hours": ("mon-fry",)}, ["hours = 'mon-fry': \"mon-fri 09:30-16:00\""]),
    "no such date": ({"closed": ("2026-02-30",)}, ["closed = '2026-02-30': no date: day is out"]),
    "the same minute twice": (
        {"hours": ("mon-fri 09:00-12:01", "fri 12:00-13:00")},
        ["hours = 'fri 12:00-13:00': overlaps 'mon-fri 09:00-12:01'"],
    ),
    "over midnight into the next": (
        {"hours": ("mon-tue 18:00-17:00", "wed 16:59-17:30")},
        ["hours = 'wed 16:59-17:30': overlaps 'mon-tue 18:00-17:00'"],
    ),
    "over the end of the week": (
        {"hours": ("sun 23:00-01:00", "mon 00:59-02:00")},
        ["hours = 'mon 00:59-02:00': overlaps 'sun 23:00-01:00'"],
    ),
    "a holiday twice": (
        {"closed": ("2026-12-25", "2026-12-25")},
        ["closed = '2026-12-25': overlaps '2026-12-25'"],
    ),
    "never open": (
        {"hours": ("mon 09:00-10:00",), "closed": ("mon 08:59-10:00",)},
        ["closed: it leaves nothing of hours open"],
    ),
    "several at once": (
        {"time_zone": "Mars", "hours": ("x",), "closed": ("y", "sun 09:00-09:30")},
        ["time_zone = 'Mars'", "hours = 'x'", "closed = 'y'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_told_with_its_key(name: str) -> None:
    """All of a table at once, and nothing else."""
    given, wanted = MISTAKES[name]
    found = hours_mistakes(Hours(**({"time_zone": "UTC"} | given)))
    assert len(found) == len(wanted)
    for line, part in zip(found, wanted, strict=True):
        assert part in line


@pytest.mark.parametrize(
    "given",
    [
        {"hours": ("mon-fri 09:00-12:00", "fri 12:00-13:00")},
        {"hours": ("mon-tue 18:00-17:00", "wed 17:00-17:30")},
        {"hours": ("sun 23:00-01:00", "mon 01:00-02:00")},
        {"hours": ("mon-fri", "2026-08-03 09:00-10:00")},
        {"closed": ("2026-12-27", "sun 09:00-09:30")},
        {"hours": ("mon 09:00-10:00",), "closed": ("mon 09:01-10:00",)},
        {"hours": ("2026-08-01",), "closed": ("mon-sun",)},
        {"hours": ("mon 00:00-24:00",), "closed": ("mon 23:59-24:00",)},
    ],
)
def test_what_only_touches_is_no_mistake(given: dict) -> None:
    """The other side of each bound; dates may lie within weekdays."""
    assert hours_mistakes(Hours(**({"time_zone": "UTC"} | given))) == []


def test_a_collector_refuses_sessions_that_are_none() -> None:
    """Its spec is checked before it starts, whoever has written it."""
    with pytest.raises(ConfigurationError, match="collector own: sessions: hours = 'x'"):
        CollectorSpec(
            instance="i",
            worker="own",
            state_dir="s",
            venue="okx",
            subscriptions=(Subscription("book", ("A-B",)),),
            first_instrument_id=1,
            sessions=(Hours(time_zone="UTC", hours=("x",)),),
        )
