"""The C core compiles without one warning, with more of them asked for than the build itself does."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tidy import ROOT, c_files

FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-c", "-o", "/dev/null"]
SOURCES = [path for path in c_files() if path.suffix == ".c" and path.parts[0] == "native"]


def warnings_of(compiler: str, source: Path) -> str:
    """Give what the compiler says of one source."""
    command = [compiler, *FLAGS, "-I", str(ROOT / "native"), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_source_compiles_without_a_warning(
    source: Path, require_tool: Callable[..., str]
) -> None:
    """Every conversion is written out and nothing is unused."""
    said = warnings_of(require_tool("gcc"), ROOT / source)
    assert not said, said


def test_a_narrowing_conversion_is_found(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """The flags see what a plain build lets pass."""
    source = tmp_path / "narrow.c"
    source.write_text("int f(long x);\nint f(long x) { return x; }\n")
    assert "-Werror=conversion" in warnings_of(require_tool("gcc"), source)
