"""The five names, the command and the built archives are this project's, and whole."""

import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from tidy import PACKAGES, ROOT, python_files, tracked_files

HEAVY = ("numba", "llvmlite", "pyarrow", "pandas", "polars", "duckdb")


def python(*arguments: str, cwd: Path | str = "/") -> str:
    """Run a fresh interpreter away from the project's folder and give what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(module: str) -> set[str]:
    """Tell which heavy packages an import brings with it."""
    return set(
        python("-c", f"import sys, {module}; print(*(set({HEAVY!r}) & set(sys.modules)))").split()
    )


@pytest.mark.parametrize("name", PACKAGES)
def test_a_top_level_name_is_ours(name: str) -> None:
    """A public package of the same name (there is one called ops) has not taken its place."""
    origin = python(
        "-c", f"import importlib.util as u; print(u.find_spec({name!r}).origin)"
    ).strip()
    assert Path(origin) == ROOT / name / "__init__.py"


def test_the_command_answers() -> None:
    """The entry point that pyproject.toml names exists and explains itself on stdout."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["tickring"].split(":")
    told = python("-c", f"from {module} import {function}; {function}()", "--help")
    for verb in ("up", "down", "status", "replay", "audit"):
        assert verb in told


def collector_modules() -> list[str]:
    """Name every module of the collectors, and the package they all load."""
    return [
        "shm",
        *(p.with_suffix("").as_posix().replace("/", ".") for p in python_files("collectors")),
    ]


@pytest.mark.parametrize("module", collector_modules())
def test_a_collector_loads_nothing_heavy(module: str) -> None:
    """A collector starts in well under a second and stays small, so nothing big comes with its imports."""
    assert loaded_by(module.removesuffix(".__init__")) == set()


def test_a_heavy_import_would_be_noticed() -> None:
    """The check above sees numba where it is."""
    assert {"numba", "llvmlite"} <= loaded_by("numba")


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    """Five packages with their data files; no test, no bench, no C source."""
    egg = ["egg_info", "--egg-base", str(tmp_path)]
    python("setup.py", "-q", *egg, "build_py", "--build-lib", str(tmp_path / "lib"), cwd=ROOT)
    lib = tmp_path / "lib"
    built = {path.relative_to(lib) for path in lib.rglob("*") if path.is_file()}
    wanted = {
        path
        for path in tracked_files()
        if path.parts[0] in PACKAGES and path.suffix in {".py", ".toml", ".sh"}
    }
    assert built == wanted


def test_the_source_archive_can_build_and_test_itself(tmp_path: Path) -> None:
    """It holds every tracked file but those of git and CI."""
    egg = ["egg_info", "--egg-base", str(tmp_path)]
    python("setup.py", "-q", *egg, "sdist", "--dist-dir", str(tmp_path), cwd=ROOT)
    (archive,) = tmp_path.glob("tickring-*.tar.gz")
    with tarfile.open(archive) as held:
        names = {Path(*Path(name).parts[1:]) for name in held.getnames()}
    missing = {p for p in tracked_files() if not p.parts[0].startswith(".")} - names
    assert not missing, sorted(map(str, missing))
