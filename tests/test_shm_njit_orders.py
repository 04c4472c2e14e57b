"""A jitted reader takes a record only through the acquire load of its stamp: both compilers' own intermediate code is read.

Jitted code holds no load of a ring at all: its LLVM IR calls `tr_poll_batch` or `tr_read` by name, as functions that may
change any memory, and gcc's last intermediate code of those shows R1 as an acquire load, R4 as a fence and R5 behind it. The
machine code of x86-64 could not tell: there an acquire load is a plain `mov`.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from native_build import RELEASE, Defect, defective_sources
from numba import types
from tidy import ROOT, python_files

from shm.njit import jit, load_word, tr_poll_batch, tr_read

READS = ("tr_poll_batch", "tr_read")
WORD, WORDS = types.int64, types.Array(types.int64, 1, "A")
READERS = {
    ("bench/bench_ring_1p1c_latency.py", "ping_kernel"): (WORD,) * 5,
    ("bench/bench_ring_1p1c_latency.py", "pong_kernel"): (WORD,) * 4,
    ("bench/bench_ring_1p1c_latency.py", "timed_ping_kernel"): (*(WORD,) * 4, WORDS),
    ("bench/bench_ring_1p1c_throughput.py", "consume_kernel"): (*(WORD,) * 4, WORDS, WORD),
}
"""Every jitted function that reads a ring, with the types that it is compiled for."""

R1 = "int64_t stamp = TR_LOAD_ACQUIRE(slot); /* R1 */"
WEAKENED = {
    "R1 relaxed": (
        Defect("ring.h", R1, R1.replace("ACQUIRE", "RELAXED")),
        ("tr_read", "tr_poll_batch"),
    ),
    "R1 plain": (
        Defect("ring.h", R1, "int64_t stamp = *slot; /* R1 */"),
        ("tr_read", "tr_poll_batch"),
    ),
    "no R4": (
        Defect("ring.h", "    TR_FENCE_ACQUIRE(); /* R4 */\n", ""),
        ("tr_read", "tr_poll_batch"),
    ),
    "R5 plain": (
        Defect("ring.h", "TR_LOAD_RELAXED(slot) != stamp)) return TR_LAPPED; /* R5 */",
               "*slot != stamp)) return TR_LAPPED; /* R5 */"),
        ("tr_read", "tr_poll_batch"),
    ),
    "read_many's fence": (
        Defect("ring.c", "    TR_FENCE_ACQUIRE();\n    int64_t oldest", "    int64_t oldest"),
        ("tr_read_many",),
    ),
    "latest's stamp relaxed": (
        Defect("ring.c", "int64_t stamp = TR_LOAD_ACQUIRE(slot);\n        if (stamp == 0)",
               "int64_t stamp = TR_LOAD_RELAXED(slot);\n        if (stamp == 0)"),
        ("tr_latest_load",),
    ),
}  # fmt: skip
ACQUIRE, RELAXED = "load acquire", "load relaxed"
FENCE = "fence acquire"
WHOLE = ("tr_read", "tr_poll_batch", "tr_read_many", "tr_latest_load")


@jit
def _reader_kernel(reader: int, seq: int, record: int) -> int:
    while tr_read(reader, seq, record) == 0:
        pass
    return tr_poll_batch(reader, record, 1)  # type: ignore[no-any-return]


@jit
def _plain_kernel(reader: int, seq: int, record: int) -> int:
    while load_word(reader) < 2 * seq + 2:
        pass
    return load_word(reader + 8) + record  # type: ignore[no-any-return]


@jit
def _mixed_kernel(reader: int, seq: int, record: int) -> int:
    tr_read(reader, seq, record)
    return load_word(reader + 8)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- jitted code


def llvm_ir(kernel: Any, signature: tuple) -> str:
    """The optimised IR of a kernel, compiled anew: code from the cache cannot be looked into."""
    fresh: Any = numba.jit(**kernel.targetoptions)(kernel.py_func)
    fresh.compile(signature)
    return str(fresh.inspect_llvm(signature))


def faults(ir: str) -> list[str]:
    """What keeps the IR of a reader from being right."""
    found = []
    if not any(f"call i64 @{name}(" in ir for name in READS):
        found.append("it calls no function that reads a ring")
    for line in ir.splitlines():
        if line.startswith("declare") and any(f"@{name}(" in line for name in READS):
            attributes = line.partition(")")[2].split()
            if set(attributes) - {"local_unnamed_addr"}:
                found.append(f"LLVM may move the call: {line}")
        if re.search(r"(inttoptr|getelementptr).*%arg\.reader\b", line):
            found.append(f"it reads a ring's memory itself: {line.strip()}")
        elif re.search(r"add .*%arg\.reader\b", line):
            found.append(f"it calculates with a ring's address: {line.strip()}")
    return found


def jitted_readers() -> set[tuple[str, str]]:
    """Every function under @jit that names one of the reading calls."""
    found = set()
    for path in python_files():
        if path.parts[0] == "tests":
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if not isinstance(node, ast.FunctionDef) or "jit" not in map(
                _name, node.decorator_list
            ):
                continue
            if {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & set(READS):
                found.add((str(path), node.name))
    return found


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "id", getattr(called, "attr", ""))


def test_every_jitted_reader_is_looked_at() -> None:
    """A new one has to be entered in the table above."""
    assert jitted_readers() == set(READERS)


@pytest.mark.parametrize(("path", "name"), READERS)
def test_a_jitted_reader_reads_by_calls_alone(
    path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No load of its own, and nothing that lets LLVM hoist or drop the call."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "bench")])
    module = importlib.import_module(Path(path).stem)
    assert faults(llvm_ir(getattr(module, name), READERS[path, name])) == []


def test_both_calls_pass() -> None:
    """The judge accepts what it should."""
    assert faults(llvm_ir(_reader_kernel, (WORD,) * 3)) == []


@pytest.mark.parametrize("kernel", [_plain_kernel, _mixed_kernel], ids=["plain", "mixed"])
def test_a_plain_load_is_seen(kernel: Any) -> None:
    """Seeded: a reader that polls the stamp, or reads a word, with a plain load."""
    assert any(
        "itself" in fault or "address" in fault for fault in faults(llvm_ir(kernel, (WORD,) * 3))
    )


def test_why_a_plain_load_must_not_be() -> None:
    """LLVM takes the plain load of a polling loop out of it: the reader would look once and for ever."""
    ir = llvm_ir(_plain_kernel, (WORD,) * 3)
    assert re.search(r"^(\w+):.*\n  br label %\1$", ir, re.MULTILINE), "a loop with nothing in it"


# ---------------------------------------------------------------- what they call


def orders(function: str, defects: tuple[Defect, ...] = ()) -> list[str]:
    """The atomic loads and fences of a function of ring.c in gcc's last intermediate code, in their order."""
    folder = defective_sources(defects)
    command = ["gcc", "-std=c11", *RELEASE, "-c", str(folder / "ring.c"), "-o", "/dev/null"]
    dump = subprocess.run(
        [*command, "-fdump-tree-optimized=/dev/stdout"], capture_output=True, text=True, check=True
    ).stdout
    (body,) = re.findall(
        rf"^;; Function {function} \(.*?(?=^;; Function|\Z)", dump, re.MULTILINE | re.DOTALL
    )
    words = re.findall(r"__atomic_(load_8|thread_fence) \((?:[^,()]*, )?(\d)\)", body)
    named = {"0": "relaxed", "2": "acquire"}
    return [f"{'load' if word == 'load_8' else 'fence'} {named[order]}" for word, order in words]


def is_whole(function: str, found: list[str]) -> bool:
    """True when the first look is an acquire load, and a fence stands before the last."""
    fences = [i for i, order in enumerate(found) if order == FENCE]
    looks = 1 if function in {"tr_latest_load", "tr_read_many"} else found.count(ACQUIRE)
    return (
        len(fences) == looks > 0
        and found[0] == ACQUIRE
        and all(found[i + 1 : i + 2] == [RELAXED] for i in fences)
    )


@pytest.mark.parametrize("function", WHOLE)
def test_the_functions_that_are_called_hold_the_acquire_load(
    function: str, require_tool: Callable[..., str]
) -> None:
    """R1, R4 and R5 of each, after all of the compiler's optimisations."""
    require_tool("gcc")
    found = orders(function)
    assert is_whole(function, found), found


@pytest.mark.parametrize("name", WEAKENED)
def test_a_weakened_load_is_seen(name: str, require_tool: Callable[..., str]) -> None:
    """Seeded in the C source: relaxed, plain, or without its fence."""
    require_tool("gcc")
    defect, functions = WEAKENED[name]
    for function in functions:
        found = orders(function, (defect,))
        assert not is_whole(function, found), found
