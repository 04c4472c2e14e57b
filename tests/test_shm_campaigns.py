"""Real processes on one ring are killed, stopped and crowded: nothing is bad, lost, told wrong, written or taken away.

The campaigns count (tests/ring_campaigns.py); each has seeded defects that have to show. The figures here are those of a quick
run; the soak runs are the full ones.
"""

import json
import subprocess
import sys

import pytest
from tidy import ROOT

STOPS = 100
SOUND: dict[str, tuple[str, ...]] = {
    "kills": ("left_out", "bad", "lost", "again", "resumed_wrong"),
    "stop_consumer": ("told_wrong", "others_lost", "bad"),
    "stop_producer": ("bad", "moved", "unaccounted", "taken"),
    "readers": ("changed", "writable", "kept_open", "bad"),
}
"""What each campaign counts that has to be 0."""

DEFECTS = [
    ("kills", 10, "a successor goes one back", "resumed_wrong"),
    ("kills", 20, "the cursor comes first", "left_out"),
    ("kills", 10, "the cursor is forgotten", "lost"),
    ("stop_consumer", 2, "one record less is told", "told_wrong"),
    ("stop_consumer", 2, "a loss is told twice", "bad"),
    ("stop_consumer", 2, "a loss is not told", "told_wrong"),
    ("stop_producer", 2, "a cleaner asks no lock", "taken"),
    ("readers", 1, "a reader leaves its mark", "changed"),
    ("readers", 1, "a reader leaves its mark", "writable"),
    ("readers", 1, "a descriptor stays open", "kept_open"),
]


def campaign(name: str, times: int, defect: str = "", timeout_s: float = 200) -> dict[str, int]:
    """Run one in a process of its own; returns its counts."""
    command = [sys.executable, str(ROOT / "tests" / "ring_campaigns.py"), name, str(times)]
    made = subprocess.run(
        [*command, *([defect] if defect else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert made.returncode == 0, made.stderr
    counts: dict[str, int] = json.loads(made.stdout)
    assert not counts["stuck"], made.stderr
    return counts


def check(name: str, times: int, timeout_s: float = 200) -> dict[str, int]:
    """Run one without a defect: everything that may not be is 0."""
    counts = campaign(name, times, timeout_s=timeout_s)
    assert {key: counts[key] for key in SOUND[name]} == dict.fromkeys(SOUND[name], 0), counts
    return counts


@pytest.mark.stress
@pytest.mark.parametrize("times", [100, pytest.param(300, marks=pytest.mark.soak)])
def test_killed_processes_lose_and_repeat_nothing(times: int) -> None:
    """Producer and consumer in turn, in a "wait" ring: every record is done, once and in order."""
    counts = check("kills", times)
    assert counts["kills"] == times
    assert counts["sunk"] == counts["published"] >= times


@pytest.mark.stress
def test_a_stopped_consumer_costs_the_others_nothing() -> None:
    """It is told its gap once and exactly when it goes on, and what it reads then is whole."""
    counts = check("stop_consumer", STOPS)
    assert counts["stops"] == counts["gaps"] == STOPS
    assert counts["lost"] >= 256 * STOPS


@pytest.mark.stress
def test_a_stopped_producer_keeps_its_ring() -> None:
    """Cleaners and successors are refused, readers go on with what is there, and it goes on as if nothing had been."""
    assert check("stop_producer", STOPS)["stops"] == STOPS


@pytest.mark.stress
def test_a_crowd_of_readers_writes_nothing() -> None:
    """Two times fifty attach, detach and die on a ring that stands: not a byte of its files changes."""
    counts = check("readers", 2)
    assert counts["readers"] == 100
    assert counts["attached"] == 300
    assert counts["killed"] == 32


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_crowd_of_readers_a_thousand_times() -> None:
    """The full figure."""
    assert check("readers", 1_000, timeout_s=7000)["readers"] == 50_000


@pytest.mark.stress
@pytest.mark.parametrize(("name", "times", "defect", "shows"), DEFECTS)
def test_a_defect_shows(name: str, times: int, defect: str, shows: str) -> None:
    """Seeded into the processes of a campaign, and counted by it."""
    assert campaign(name, times, defect)[shows] > 0
