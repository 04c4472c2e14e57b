"""Bars when scales change, sessions shift, rows do not fit, or the configuration makes no sense."""

from collections.abc import Callable

import numpy as np
import pytest
from bars_market import (
    DAY_START_NS,
    NEW_YORK,
    SECONDS,
    Prints,
    assert_same,
    at,
    engine,
    market,
    reference,
    scales,
)

from consumers import bar_engine
from consumers.bar_engine import BarEngine
from consumers.bar_series import BarsConfig, Session
from layouts import BarFlag, BarKind, Kind
from layouts.bar import FRAMES, SECOND_NS
from shm.errors import ConfigurationError


def _versions(
    first: tuple[int, int], second: tuple[int, int] | None
) -> Callable[[int, int], tuple[int, int] | None]:
    return lambda _id, version: second if version == 2 else first


def wider(second: tuple[int, int] | None, factor: tuple[int, int]) -> tuple[BarEngine, np.ndarray]:
    """Give what an engine makes of a second in whose middle the scales change."""
    made = Prints(DAY_START_NS)
    made.add(Kind.STATE, 1, (1, 1, 1))
    made.trade(100, 5)
    made.add(Kind.STATE, 1, (1, 11, 2))
    made.trade(101 * factor[0], 7 * factor[1])
    made.ts = at(1)
    made.trade(1)
    one = BarEngine(SECONDS, _versions((2, 3), second), lambda _id: "")
    return one, one.process(made.records())


@pytest.mark.parametrize(
    ("second", "factor"),
    [((2, 3), (1, 1)), ((4, 3), (100, 1)), ((2, 8), (1, 10**5)), ((3, 4), (10, 10))],
)
def test_a_wider_scale_multiplies_what_is_open(
    second: tuple[int, int], factor: tuple[int, int]
) -> None:
    """The bar goes on in the new version's integers, exactly."""
    one, rows = wider(second, factor)
    (bar,) = rows
    assert bar["instrument_version"] == 2
    assert [int(bar[n]) for n in ("open", "close", "volume")] == [
        100 * factor[0],
        101 * factor[0],
        12 * factor[1],
    ]
    assert int(bar["value_low"]) == (100 * 5 + 101 * 7) * factor[0] * factor[1]
    assert one.counters["bars_begun_anew"] == 0


@pytest.mark.parametrize("second", [(1, 3), (2, 2), None, (18, 18)])
def test_a_scale_that_cannot_be_followed_begins_anew(second: tuple[int, int] | None) -> None:
    """Narrower, unknown, or too wide: counted, and the bar is partial."""
    one, rows = wider(second, (1, 1))
    if second == (18, 18):
        assert one.counters["bars_begun_anew"] == 0
        return
    assert one.counters["bars_begun_anew"] == 1
    assert rows["volume"].tolist() == [7]
    assert rows["bar_flags"][0] & BarFlag.PARTIAL


def test_rows_that_do_not_fit_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat that closes more than the buffer holds goes on where it stopped: the same rows, numbered through."""
    config = BarsConfig(empty_rows=300)
    made = Prints(DAY_START_NS)
    for instrument_id in range(1, 60):
        made.trade(10, instrument_id=instrument_id)
    made.ts = at(290)
    made.beat()
    records = made.records()
    one = engine(config)
    rows = one.process(records)
    assert len(rows) > bar_engine.ROWS
    assert rows["source_index"].tolist() == list(range(len(rows)))
    assert_same(rows, reference(records, config))


def test_the_opening_of_a_session_follows_daylight_saving() -> None:
    """New York opens at 13:30 UTC in summer and at 14:30 in winter; the day between has 25 hours."""
    config = BarsConfig(
        frames=(), session_frames=("1h", "4h", "1d"), sessions=NEW_YORK, empty_rows=1
    )
    made = Prints(1_793_289_600 * SECOND_NS)  # 2026-10-29 16:00 UTC
    for _ in range(24 * 5):
        made.trade(10)
        made.ts += 3600 * SECOND_NS
    made.ts += (
        150 * 86_400 * SECOND_NS
    )  # into summer: what is left out is counted over both changes
    made.trade(11)
    made.ts += 2 * 86_400 * SECOND_NS
    made.trade(12)
    rows = engine(config).process(made.records())
    daily = rows[rows["parameter"] == FRAMES["1d"]]
    hours = (daily["ts_close"] - daily["ts_open"]) // (3600 * SECOND_NS)
    assert hours.tolist()[:4] == [24, 24, 25, 24]
    opening = (daily["ts_open"] // SECOND_NS % 86_400 / 3600).tolist()
    assert opening[:4] == [13.5, 13.5, 13.5, 14.5] and opening[-1] == 13.5
    assert_same(rows, reference(made.records(), config))


def test_an_instrument_of_no_session_has_no_session_bars() -> None:
    """Patterns name those that have one."""
    only = {"us": Session(open="09:30", time_zone="America/New_York", instruments=("nyse:*",))}
    config = BarsConfig(frames=("1s",), session_frames=("1m",), sessions=only)
    made = market((0, 10), (3600, 11))
    for name, there in (("nyse:IBM", True), ("test:IBM", False)):
        one = BarEngine(config, scales, lambda _id, name=name: name)
        rows = one.process(made.records())
        assert (rows["bar_kind"] == BarKind.SESSION).any() == there


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (BarsConfig(frames=("2s",)), "frames = '2s': one of 1s, 5s"),
        (BarsConfig(frames=("1s", "1s")), "frames = '1s': is there twice"),
        (BarsConfig(frames=()), "no series at all"),
        (BarsConfig(session_frames=("1h",)), "no [bars.sessions] table"),
        (BarsConfig(tick_bars=(0,)), "tick_bars = 0: 1 trade or more"),
        (BarsConfig(imbalance_bars=(-1,)), "imbalance_bars = -1"),
        (BarsConfig(volume_bars=(0.0,)), "volume_bars = 0"),
        (BarsConfig(volume_bars=(0.0000001,)), "volume_bars = 1e-07"),
        (BarsConfig(dollar_bars=(float("nan"),)), "dollar_bars = nan"),
        (BarsConfig(empty_rows=301), "empty_rows = 301: 0 to 300"),
        (BarsConfig(empty_rows=-1), "empty_rows = -1"),
        (BarsConfig(sessions={"x": Session(open="9", time_zone="UTC")}), "sessions.x.open = '9'"),
        (BarsConfig(sessions={"x": Session(open="09:30", time_zone="Mars")}), "x.time_zone"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(config: BarsConfig, told: str) -> None:
    """Naming the key and what it may be."""
    assert any(told in mistake for mistake in config.mistakes())
    with pytest.raises(ConfigurationError):
        engine(config)
