"""Builds the C harnesses of tests/native over the sources of native/, with any compiler flags and any seeded defect.

A defect is a piece of source text and what stands in its place: a text that is no longer there, or there twice, fails the test
that seeds it, so a defect cannot go stale unseen.
"""

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CORE = ("ring.c", "control.c", "wait.c", "copy.c")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion")
RELEASE = ("-O3",)
TSAN = ("-O2", "-g", "-fsanitize=thread", "-Wno-tsan", "-DTR_FENCE_FREE")
ASAN = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
HOOKS = ("-O2", "-DTR_HOOKS")


class Defect(NamedTuple):
    """One seeded defect: in that file of native/, this text becomes that."""

    file: str
    text: str
    instead: str


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="tickring-native-"))


@cache
def defective_sources(defects: tuple[Defect, ...]) -> Path:
    """Copy native/ and seed defects in the copy; returns its folder."""
    key = hashlib.blake2b(repr(defects).encode(), digest_size=6).hexdigest()
    sources = _folder() / key
    shutil.copytree(ROOT / "native", sources, ignore=shutil.ignore_patterns("_native.c"))
    for defect in defects:
        path = sources / defect.file
        before = path.read_text()
        found = before.count(defect.text)
        assert found == 1, f"{defect.file}: {found} times {defect.text!r}, once expected"
        path.write_text(before.replace(defect.text, defect.instead))
    return sources


@cache
def build(harness: str, flags: tuple[str, ...] = RELEASE, defects: tuple[Defect, ...] = ()) -> Path:
    """Compile `tests/native/<harness>.c` and the core; returns the program. One build for each set of arguments."""
    sources = defective_sources(defects)
    key = hashlib.blake2b(repr(flags).encode(), digest_size=6).hexdigest()
    program = sources / f"{harness}-{key}"
    command = ["gcc", "-std=c11", *(() if defects else WARNINGS), *flags, f"-I{sources}"]
    command += [str(ROOT / "tests" / "native" / f"{harness}.c"), *(str(sources / c) for c in CORE)]
    done = subprocess.run(
        [*command, "-lpthread", "-o", str(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


class Ran(NamedTuple):
    """What a harness printed, its exit status, and what it said on stderr."""

    facts: dict[str, int]
    status: int
    stderr: str


def run(program: Path, *arguments: object, timeout_s: float = 120) -> Ran:
    """Run a harness and read its line of "name value" pairs."""
    # Without address randomisation: ThreadSanitizer wants its shadow where newer kernels may map.
    command = ["setarch", "-R", str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    words = done.stdout.split()
    facts = dict(zip(words[::2], map(int, words[1::2]), strict=False))
    return Ran(facts, done.returncode, done.stderr)
