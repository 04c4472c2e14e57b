"""What is generated and checked in is what its generator makes now."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tidy import ROOT, read

from layouts import features_page
from layouts.features import COLUMNS

REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)==\S+(?: ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def header_is_fresh(text: str) -> bool:
    """Whether this is what `python -m layouts.c_header` prints."""
    command = [sys.executable, "-m", "layouts.c_header"]
    made = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, text=True)
    return made.stdout == text


def lock_findings(text: str) -> list[str]:
    """Name each line of a lock that is neither a pinned package nor a hash of one, nor the heading."""
    first, *rest = text.splitlines()
    found = [] if first.startswith("# ") else [first]
    found += [line for line in rest if not REQUIREMENT.match(line) and not HASH.match(line)]
    hashed = re.sub(r" \\\n +", " ", text).splitlines()[1:]
    return found + [line for line in hashed if "--hash=sha256:" not in line]


def locked_names(text: str) -> set[str]:
    """Give the packages that a lock pins."""
    return {found.group(1) for line in text.splitlines() if (found := REQUIREMENT.match(line))}


def test_the_c_header_is_fresh() -> None:
    """native/layouts.h says what the dtypes say."""
    stale = "native/layouts.h is stale: python -m layouts.c_header > native/layouts.h"
    assert header_is_fresh(read(Path("native/layouts.h"))), stale


def test_the_page_of_features_is_fresh() -> None:
    """layouts/FEATURES.md says what the table says: every column, its unit, formula and source."""
    stale = "layouts/FEATURES.md is stale: python -m layouts.features_page > layouts/FEATURES.md"
    assert read(Path("layouts/FEATURES.md")) == features_page.render(), stale


def test_the_page_of_features_has_a_row_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """With five cells, however many bars a formula has; a changed formula changes it."""
    page = features_page.render()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(COLUMNS)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    other = (COLUMNS[0]._replace(formula="another"), *COLUMNS[1:])
    monkeypatch.setattr(features_page.features, "COLUMNS", other)
    assert features_page.render() != page


def test_a_stale_c_header_is_found() -> None:
    """One changed offset is noticed."""
    text = read(Path("native/layouts.h"))
    assert not header_is_fresh(text.replace("== 8,", "== 16,", 1))


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-rivals.lock"])
def test_the_locks_pin_every_package_by_hash(name: str) -> None:
    """Each line is a pinned package or a hash; no address, no option."""
    assert lock_findings(read(Path(name))) == []


@pytest.mark.parametrize(
    "line",
    ["numpy>=2.0 \\", "numpy==2.0", "--option x", "x @ https://host/x.whl", "    --hash=md5:00"],
)
def test_a_loose_line_in_a_lock_is_found(line: str) -> None:
    """A range, a missing hash, an option, an address: each is a finding."""
    assert lock_findings(f"# Heading.\n{line}\n")


def test_the_locks_hold_what_the_project_states() -> None:
    """Each stated package is pinned, and the second lock repeats the pins of the first."""
    project = tomllib.loads(read(Path("pyproject.toml")))["project"]
    extras = project["optional-dependencies"]

    def names(*groups: list[str]) -> set[str]:
        wanted = (requirement for group in groups for requirement in group)
        return {
            re.split(r"[\s<>=!~;\[]", w, maxsplit=1)[0].lower().replace("_", "-") for w in wanted
        }

    base, rivals = (read(Path(f"requirements{part}.lock")) for part in ("", "-rivals"))
    assert names(project["dependencies"], extras["dev"], extras["quant"]) <= locked_names(base)
    assert names(extras["rivals"]) <= locked_names(rivals)
    pins = {line for line in base.splitlines() if REQUIREMENT.match(line)}
    assert pins <= set(rivals.splitlines())
