"""BAR's bytes, the names of series, and the tables of sale conditions."""

import itertools

import numpy as np
import pytest

from layouts import BAR, LAYOUTS, BarKind, Mark
from layouts.bar import BAR_BYTES, FRAMES, series_name
from layouts.sale_conditions import (
    EXTENDED_HOURS,
    SALE_CONDITIONS,
    VENDOR_BITS,
    Effect,
    marks_of_sale,
    marks_of_vendor,
)


def test_a_bar_is_three_cache_lines() -> None:
    """And known by the name that tools use."""
    assert BAR.itemsize == BAR_BYTES == 192
    assert LAYOUTS["bar"] is BAR
    assert np.zeros(1, BAR).flags.aligned


def test_each_frame_is_a_whole_number_of_the_one_before() -> None:
    """So that every border of a frame is one of the finer frames."""
    spans = list(FRAMES.values())
    assert all(b > a and b % a == 0 for a, b in itertools.pairwise(spans))
    assert len(spans) == 11


@pytest.mark.parametrize(
    ("kind", "parameter", "name"),
    [
        (BarKind.TIME, FRAMES["1m"], "1m"),
        (BarKind.TIME, 7, "7ns"),
        (BarKind.SESSION, FRAMES["1h"], "session_1h"),
        (BarKind.TICK, 100, "tick_100"),
        (BarKind.VOLUME, 2_500_000, "volume_2.5"),
        (BarKind.VOLUME, 10_000_000, "volume_10"),
        (BarKind.VOLUME, 1, "volume_0.000001"),
        (BarKind.DOLLAR, 10**12, "dollar_1000000"),
        (BarKind.IMBALANCE, 50, "imbalance_50"),
    ],
)
def test_series_have_names(kind: BarKind, parameter: int, name: str) -> None:
    """Short ones, without a trailing zero."""
    assert series_name(kind, parameter) == name


@pytest.mark.parametrize(
    ("codes", "tape", "marks"),
    [
        ("", "A", 0),
        ("@", "C", 0),
        ("@F", "A", 0),
        ("@I", "A", Mark.VOLUME_ONLY),
        ("B", "A", Mark.VOLUME_ONLY),
        ("B", "C", 0),
        ("Z", "B", Mark.LATE),
        ("ZT", "B", Mark.VOLUME_ONLY),
        ("Q", "C", Mark.LATE | Mark.VOLUME_ONLY),
        ("@M", "C", Mark.LATE | Mark.VOLUME_ONLY),
        ("!", "A", Mark.VOLUME_ONLY),
    ],
)
def test_the_strictest_code_of_a_print_holds(codes: str, tape: str, marks: int) -> None:
    """One that is not in the table sets no price."""
    assert marks_of_sale(codes, tape) == marks


def test_an_unknown_tape_is_refused() -> None:
    """There are three."""
    with pytest.raises(ValueError, match="tape 'D'"):
        marks_of_sale("@", "D")


def test_every_effect_occurs_and_every_code_is_one_letter() -> None:
    """The table holds nothing that the marks cannot tell."""
    effects = {each.cta for each in SALE_CONDITIONS.values()}
    assert effects == set(Effect)
    assert all(len(code) == 1 for code in SALE_CONDITIONS)


def test_a_vendors_flags_are_weighed_unless_the_print_is_of_extended_hours() -> None:
    """Each flag alone, all together, none, and with extended hours."""
    for each in VENDOR_BITS:
        assert marks_of_vendor(each.bit) != 0
        assert marks_of_vendor(each.bit | EXTENDED_HOURS) == 0
    assert marks_of_vendor(0x2000_0020 | 0x100_0000) == Mark.LATE | Mark.VOLUME_ONLY
    assert marks_of_vendor(0x2000_0001) == 0
