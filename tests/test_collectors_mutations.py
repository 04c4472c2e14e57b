"""Wounded frames of every venue are counted and never raise; what is published makes sense, and books heal."""

import os

import pytest
from venue_kit import ALL_VENUES
from wounds_kit import SEED, wound, wound_in_parts

WOUNDS = 10_000
PARTS = 10
PART_WOUNDS = 100_000


@pytest.mark.parametrize("venue", ALL_VENUES)
def test_wounded_frames_are_counted_and_never_raise(captures, venue) -> None:
    """10,000 wounds a venue, REST answers among them; what is held against them is in wounds_kit."""
    assert sum(wound(captures, venue, WOUNDS, SEED).values()) > WOUNDS * 0.9


@pytest.mark.soak
@pytest.mark.parametrize("venue", ALL_VENUES)
def test_a_million_wounded_frames_are_counted_and_never_raise(captures, venue) -> None:
    """The same with ten other seeds and 10^5 wounds each, a process a core: 10^6 a venue."""
    processes = len(os.sched_getaffinity(0))
    wound_in_parts(captures, venue, PARTS, PART_WOUNDS, SEED + 1, processes)
