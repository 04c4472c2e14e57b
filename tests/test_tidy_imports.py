"""Imports follow the arrows layouts <- shm <- collectors, consumers <- ops, and each package used is stated."""

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tidy import PACKAGES, ROOT, absolute_imports, python_files, read

ALLOWED = {
    "layouts": {"layouts"},
    "native": {"layouts"},
    "shm": {"layouts", "shm"},
    "collectors": {"layouts", "shm", "collectors"},
    "consumers": {"layouts", "shm", "consumers"},
    "ops": {"layouts", "shm", "collectors", "consumers", "ops"},
}
OURS = {*PACKAGES, "native", "bench", "tests"}
# A collector must restart in well under a second and stay small; shm is what it starts from.
HEAVY = {"numba", "llvmlite", "pyarrow", "pandas", "polars", "duckdb"}
# Where an import's name says nothing about its distribution's on a machine that lacks it.
KNOWN = {"talib": "ta-lib", "zmq": "pyzmq", "faster_fifo": "faster-fifo"}


def arrow_findings(path: Path, text: str) -> list[str]:
    """Name each import that goes against the arrows."""
    package = path.parts[0]
    return [
        f"{path}:{line}: {package} must not import {name}"
        for line, name, _ in absolute_imports(text)
        if (top := name.partition(".")[0]) in OURS and top not in ALLOWED[package]
    ]


def normal(distribution: str) -> str:
    """Write a distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def stated() -> tuple[set[str], set[str]]:
    """Give the distributions that pyproject.toml states: for running, and in an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {normal(re.split(r"[\s<>=!~;\[]", wanted, maxsplit=1)[0]) for wanted in requirements}

    extras = [wanted for extra in project["optional-dependencies"].values() for wanted in extra]
    return names(project["dependencies"]), names(extras)


@cache
def owners_of() -> dict[str, list[str]]:
    """Give the distributions behind each importable name; slow, so asked once."""
    return dict(packages_distributions())


def unstated_findings(path: Path, text: str, running: set[str], extra: set[str]) -> list[str]:
    """Name each outside package that is used here and not stated; extras only inside functions."""
    found = []
    for line, name, at_top in absolute_imports(text):
        top = name.partition(".")[0]
        if top in OURS or top in sys.stdlib_module_names:
            continue
        if any((ROOT / folder / f"{top}.py").exists() for folder in ("tests", "bench")):
            continue
        owners = {normal(owner) for owner in owners_of().get(top, [KNOWN.get(top, top)])}
        if owners & running:
            continue
        if not owners & extra:
            found.append(f"{path}:{line}: {top} is not stated in pyproject.toml")
        elif at_top and path.parts[0] in PACKAGES:
            found.append(f"{path}:{line}: {top} is an extra: import it where it is used")
    return found


def heavy_findings(path: Path, text: str) -> list[str]:
    """Name each heavy import that loads with a module of the collectors' path."""
    return [
        f"{path}:{line}: {name} loads at import; move it to where it is used"
        for line, name, at_top in absolute_imports(text)
        if at_top and name.partition(".")[0] in HEAVY
    ]


def test_imports_follow_the_arrows() -> None:
    """No package imports one that the arrows put above or beside it."""
    findings = [f for path in python_files(*ALLOWED) for f in arrow_findings(path, read(path))]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("layouts/x.py", "import shm"),
        ("shm/x.py", "from collectors.worker import main"),
        ("collectors/x.py", "import consumers.loop"),
        ("consumers/x.py", "def f():\n    from collectors import session"),
        ("ops/x.py", "import bench.bench_ring"),
        ("shm/x.py", "import importlib\nimportlib.import_module('ops.cli')"),
        ("native/build.py", "import shm"),
    ],
)
def test_an_import_against_the_arrows_is_found(path: str, text: str) -> None:
    """Each forbidden direction, however it is written, is one finding."""
    assert len(arrow_findings(Path(path), text)) == 1


def test_an_import_along_the_arrows_passes() -> None:
    """The allowed directions are no finding."""
    text = "import layouts\nimport shm.ring\nfrom consumers import loop\nimport collectors"
    assert arrow_findings(Path("ops/x.py"), text) == []


def test_native_holds_no_python_but_its_build() -> None:
    """The C folder has one Python file, which describes the build."""
    assert [path.as_posix() for path in python_files("native")] in ([], ["native/build.py"])


def test_layouts_import_numpy_only() -> None:
    """The bytes depend on numpy and the standard library alone."""
    outside = {
        name.partition(".")[0]
        for path in python_files("layouts")
        for _, name, _ in absolute_imports(read(path))
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert outside <= {"numpy", "layouts"}


def test_collectors_load_nothing_heavy() -> None:
    """No module of the collectors, nor shm itself, loads numba, Arrow or a frame library."""
    paths = [*python_files("collectors"), Path("shm/__init__.py")]
    findings = [
        f for path in paths if (ROOT / path).exists() for f in heavy_findings(path, read(path))
    ]
    assert not findings, "\n".join(findings)


def test_a_heavy_import_is_found() -> None:
    """At module level it is a finding, inside a function none."""
    path = Path("collectors/x.py")
    assert len(heavy_findings(path, "from numba import njit")) == 1
    assert heavy_findings(path, "def f():\n    import pyarrow") == []


def test_every_package_used_is_stated() -> None:
    """Whatever is imported anywhere stands in pyproject.toml."""
    running, extra = stated()
    findings = [f for p in python_files() for f in unstated_findings(p, read(p), running, extra)]
    assert not findings, "\n".join(findings)


def test_an_unstated_package_is_found() -> None:
    """An unknown package is a finding, and so is an extra that loads with a package of ours."""
    running, extra = {"numpy"}, {"polars"}
    path = Path("shm/x.py")
    assert unstated_findings(path, "import numpy\nimport os\nimport layouts", running, extra) == []
    assert "not stated" in unstated_findings(path, "import leftpad", running, extra)[0]
    assert "is an extra" in unstated_findings(path, "import polars", running, extra)[0]
    assert unstated_findings(path, "def f():\n    import polars", running, extra) == []
