"""The project's own files, as the tidy tests read them, with or without git at hand."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("layouts", "shm", "collectors", "consumers", "ops")
GENERATED = frozenset({"native/layouts.h"})
# What a build or a tool leaves in a folder that has no git to say what is tracked.
NOT_OURS = frozenset({".git", ".venv", "build", "dist", "out", ".tickring"})
NOT_SOURCE = frozenset({".so", ".o", ".pyc"})


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file of the project, relative to its root, sorted."""
    if (ROOT / ".git").exists():
        command = [
            "git",
            "-C",
            str(ROOT),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        listed = subprocess.run(command, capture_output=True, check=False)
        if listed.returncode == 0:
            paths = (Path(name) for name in listed.stdout.decode().split("\0") if name)
            return tuple(sorted(path for path in paths if (ROOT / path).is_file()))
    found = []
    for path in ROOT.rglob("*"):
        relative = path.relative_to(ROOT)
        hidden_cache = any(
            part.endswith(("_cache", "__pycache__", ".egg-info")) for part in relative.parts
        )
        if hidden_cache or NOT_OURS & set(relative.parts) or path.suffix in NOT_SOURCE:
            continue
        if path.is_file() and relative != Path("native/_native.c"):
            found.append(relative)
    return tuple(sorted(found))


def read(path: Path) -> str:
    """Give the text of one of the project's files."""
    return (ROOT / path).read_text(encoding="utf-8")


def python_files(*folders: str) -> list[Path]:
    """Python files in these top folders, or in all."""
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py" and (not folders or path.parts[0] in folders)
    ]


def c_files() -> list[Path]:
    """C sources and headers written by hand."""
    return [
        path
        for path in tracked_files()
        if path.suffix in {".c", ".h"} and path.as_posix() not in GENERATED
    ]


def absolute_imports(text: str) -> list[tuple[int, str, bool]]:
    """Line, dotted name, and whether at module level, of each import; also of import_module("name")."""
    tree = ast.parse(text)
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args:
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            first = node.args[0]
            if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                names = [str(first.value)]
        found += [(node.lineno, name, id(node) not in inside) for name in names]
    return found
