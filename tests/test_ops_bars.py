"""The [bars] table of the configuration: every mistake is told, every key explained."""

import pytest

from ops import explain
from ops.strict import Mistakes
from ops.topology import parse_topology


def mistakes(table: dict) -> list[str]:
    """Return what is wrong with a [bars] table."""
    with pytest.raises(Mistakes) as caught:
        parse_topology({"bars": table}, "test.toml")
    return caught.value.found


def test_the_series_of_bars_are_checked_with_the_rest() -> None:
    """Every mistake of the table with its key; a session by any name is explained."""
    session = {"open": "9:30", "time_zone": "Mars", "hours": 3}
    table = {"frames": ["2s"], "slots": 3, "empty_rows": 999, "sessions": {"x": session}}
    found = mistakes(table)
    assert any(line.startswith("bars.sessions.x.hours: unknown key") for line in found)
    del session["hours"]
    told = "\n".join(mistakes(table))
    for key in ("frames = '2s'", "slots = 3", "empty_rows = 999", "sessions.x.open", "sessions.x.time_zone"):  # fmt: skip
        assert f"bars.{key}" in told
    assert "opening" in explain.explain("bars.sessions.nyse.open").text
