"""On x86-64 publish and read hold no fence and no locked instruction: the machine code that was built is read."""

import platform
import re
import subprocess
from pathlib import Path

import pytest
from native_build import RELEASE, Defect, build

import shm._native

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="these promises are about x86-64 instructions"
)

# What publish and read are made of; rescan, wake-up and laps are functions of their own, marked cold.
HOT = (
    "tr_publish",
    "tr_publish_batch",
    "tr_own_lines",
    "tr_read",
    "tr_poll_batch",
    "tr_read_many",
    "tr_latest_store",
    "tr_latest_load",
)
ORDERING = re.compile(r"\b(?:lock|mfence|lfence|sfence|cmpxchg\w*|xadd\w*)\b|\bxchg\b.*\(")


def instructions(objdump: str, program: Path, function: str) -> list[str]:
    """List the instructions of one function of a program."""
    command = [objdump, "-d", "--no-show-raw-insn", f"--disassemble={function}", str(program)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t", 1)[1].strip() for line in text.splitlines() if "\t" in line]
    assert len(lines) > 5, f"{function} is not in {program}"
    return lines


def ordering(objdump: str, program: Path, function: str) -> list[str]:
    """Those that order memory or lock the bus."""
    return [line for line in instructions(objdump, program, function) if ORDERING.search(line)]


@pytest.fixture
def objdump(require_tool) -> str:
    return require_tool("objdump", "binutils")


@pytest.mark.parametrize("function", HOT)
def test_the_hot_path_has_no_fence_and_no_lock(objdump, function: str) -> None:
    """In the extension module as it was built for use."""
    assert ordering(objdump, Path(shm._native.__file__), function) == []


@pytest.mark.parametrize("function", ["tr_wake", "tr_entry_join"])
def test_the_cold_functions_have_theirs(objdump, function: str) -> None:
    """Where an exchange or a fence is meant, the test sees it."""
    assert ordering(objdump, Path(shm._native.__file__), function)


def test_a_stronger_store_would_be_seen(objdump) -> None:
    """Seeded: P4 as a seq_cst store becomes an exchange, and the test finds it."""
    stronger = Defect(
        "ring.h",
        "TR_STORE_RELEASE(slot, 2 * n + 2); /* P4 */",
        "__atomic_store_n(slot, 2 * n + 2, __ATOMIC_SEQ_CST); /* P4 */",
    )
    program = build("threads", RELEASE, (stronger,))
    assert ordering(objdump, program, "tr_publish")


def test_large_records_move_by_wide_vectors(objdump) -> None:
    """The 32-byte loops exist, and nothing of the small-record path calls them."""
    command = [objdump, "-d", "--no-show-raw-insn", shm._native.__file__]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "%ymm" in text
    assert not any(
        "%ymm" in line for line in instructions(objdump, Path(shm._native.__file__), "tr_publish")
    )
