"""Compiled kernels are kept in a directory named by the hash of every source that they depend on.

Importing this module imports no numba: a tool may ask whether kernels are compiled without paying for it.
"""

import ast
import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from shm.errors import ConfigurationError

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("layouts/*.py", "shm/njit.py", "consumers/*.py", "consumers/indicators/*.py")
_COMPILERS = ("numba", "llvmlite", "numpy")


def source_hash() -> str:
    """Return the hash of every file that a kernel's machine code depends on, and of the compilers' versions."""
    digest = hashlib.blake2b(digest_size=10)
    digest.update(" ".join(version(name) for name in _COMPILERS).encode())
    for pattern in _SOURCES:
        for path in sorted(_ROOT.glob(pattern)):
            digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def imported_sources(module: str, root: Path) -> list[Path]:
    """Return the files under `root` that `module` is made of: its own, and those of what it imports, directly or not.

    Imports are read, not run: what is imported by a computed name is not seen.
    """
    found: dict[Path, None] = {}
    todo = [module]
    while todo:
        parts = todo.pop().split(".")
        for i in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:i])
            for path, package in (
                (base.with_suffix(".py"), parts[: i - 1]),
                (base / "__init__.py", parts[:i]),
            ):
                if path not in found and path.is_file():
                    found[path] = None
                    todo += _imports(path, package)
    return sorted(found)


def _imports(path: Path, package: list[str]) -> Iterator[str]:
    """Yield the names that a file imports, and those that may be modules of a package it imports from."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it will tell
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            prefix = ".".join([*above, *([node.module] if node.module else [])])
            if prefix:
                yield prefix
            yield from (".".join(filter(None, (prefix, each.name))) for each in node.names)


def cache_dir() -> Path:
    """Return where compiled kernels of these sources are kept: under NUMBA_CACHE_DIR, else the XDG cache directory.

    Raises:
        ConfigurationError: that directory cannot be made or written.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    base = Path(given) if given else Path(cache_home) / "tickring" / "numba"
    path = base / source_hash()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"compiled kernels cannot be kept in {path} ({error.strerror}); set NUMBA_CACHE_DIR to a directory "
            "that can be written"
        ) from error
    if not os.access(path, os.W_OK):
        raise ConfigurationError(
            f"{path} cannot be written; set NUMBA_CACHE_DIR to a directory that can"
        )
    return path


def is_warm() -> bool:
    """Tell whether kernels of these very sources have been compiled here before."""
    return any(cache_dir().rglob("*.nbi"))
