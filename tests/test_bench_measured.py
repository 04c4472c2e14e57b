"""README's figures are those of the lines that are checked in beside the benches."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tidy import ROOT, read

sys.path.insert(0, str(ROOT / "bench"))
import measured

LINES = read(Path("bench/measured.jsonl"))


def test_the_table_in_the_readme_is_made_from_the_lines() -> None:
    """Nobody typed a number."""
    command = [sys.executable, str(ROOT / "bench" / "measured.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "python bench/measured.py"


def test_every_line_is_of_real_parameters() -> None:
    """A smoke run proves that a bench works and measures nothing."""
    made = [json.loads(line) for line in LINES.splitlines()]
    assert {line.get("parameters", line.get("scale", "real")) for line in made} == {"real"}


def test_a_typed_number_is_found() -> None:
    """One changed digit is another table."""
    table = measured.render(measured.read_lines(LINES))
    assert measured.replaced(f"a\n{table}\nb", table) == f"a\n{table}\nb"
    typed = table.replace(" us mean", "1 us mean", 1)
    assert measured.replaced(f"a\n{typed}\nb", table) != f"a\n{typed}\nb"


def test_a_line_without_a_figure_is_an_error() -> None:
    """No cell stays empty."""
    lines = measured.read_lines(LINES)
    del lines["tickring_run"]["to_first_record_s"]
    with pytest.raises(KeyError):
        measured.render(lines)


def test_a_readme_without_the_marks_is_an_error() -> None:
    """The table is not put just anywhere."""
    with pytest.raises(ValueError, match="no place"):
        measured.replaced("nothing", "table")


def test_the_newest_line_counts() -> None:
    """A later line of the same bench replaces the earlier one."""
    first, second = ({"bench": "bench_x", "a": value} for value in (1, 2))
    text = f"{json.dumps(first)}\n{json.dumps(second)}"
    assert measured.read_lines(text)["bench_x"]["a"] == 2
