"""What a machine lacks is told in one sentence with its remedy, before anything is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tidy import ROOT

SCRIPT = Path("ops/bootstrap.sh")
# What the script itself calls; everything else a test has to put on its PATH.
PLAIN_TOOLS = ("awk", "cat", "cksum", "df", "dirname", "id", "mktemp", "rm", "sh")

OLD_PYTHON = """
case "$*" in
    -V) echo "Python 3.10.13" ;;
    *version_info*) exit 1 ;;
esac
"""
# A Python that is new enough: answers only what is asked before installation.
NEW_PYTHON = """
case "$*" in
    *sysconfig*) echo "$PWD/Python.h" ;;
    *) exit 0 ;;
esac
"""
PYTHON_WITHOUT_VENV = """
case "$*" in
    *ensurepip*) exit 1 ;;
esac
"""
DF = """
echo "Filesystem 1024-blocks Used Available Capacity Mounted"
echo "tmpfs 65536 0 {free_kib} 0% /dev/shm"
"""


class Machine:
    """A copy of the script with a PATH that holds only what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.bin = folder / "bin"
        (self.folder / "ops").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / SCRIPT, self.folder / SCRIPT)
        (self.folder / "requirements.lock").write_text("# Nothing.\n")
        for tool in PLAIN_TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)

    def has(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def runs(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run the script; give its status and what it says."""
        done = subprocess.run(
            [str(self.bin / "sh"), str(self.folder / SCRIPT), *arguments],
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give a machine with the plainest tools and neither Python nor a compiler."""
    return Machine(tmp_path)


def assert_told(outcome: tuple[int, str], *words: str) -> None:
    """Check for status 2 and one line that says all of this."""
    status, said = outcome
    assert status == 2
    assert said.count("\n") == 1
    assert said.startswith("tickring: ")
    for word in words:
        assert word in said


def test_no_python_is_told(machine: Machine) -> None:
    """The sentence names the version wanted and how to get it."""
    assert_told(machine.runs("install", ".venv"), ">= 3.11", "absent", "apt-get install python3")


def test_an_old_python_is_told(machine: Machine) -> None:
    """The version that was found is named."""
    machine.has("python3", OLD_PYTHON)
    assert_told(machine.runs("install", ".venv"), ">= 3.11", "Python 3.10.13", "PYTHON=")


def test_a_named_python_that_is_none_is_told(machine: Machine) -> None:
    """PYTHON is taken at its word and no other is tried."""
    machine.has("python3", NEW_PYTHON)
    assert_told(machine.runs("install", ".venv", PYTHON="nothing"), "PYTHON=nothing")


def test_a_python_without_venv_is_told(machine: Machine) -> None:
    """Debian packages venv apart."""
    machine.has("python3", PYTHON_WITHOUT_VENV)
    assert_told(machine.runs("install", ".venv"), "apt-get install python3-venv")


def test_absent_headers_are_told(machine: Machine) -> None:
    """Debian packages Python.h apart, too."""
    machine.has("python3", NEW_PYTHON)
    assert_told(machine.runs("install", ".venv"), "Python.h", "apt-get install python3-dev")


@pytest.mark.parametrize("compiler", [None, "exit 1"])
def test_a_compiler_that_is_absent_or_broken_is_told(
    machine: Machine, compiler: str | None
) -> None:
    """A compiler without its C library counts as none."""
    machine.has("python3", NEW_PYTHON)
    (machine.folder / "Python.h").touch()
    if compiler is not None:
        machine.has("gcc", compiler)
    assert_told(machine.runs("install", ".venv"), "C11 compiler", "apt-get install gcc")


def test_a_folder_that_is_not_writable_is_told(machine: Machine) -> None:
    """The sentence names the folder."""
    if os.geteuid() == 0:
        machine.has("id", "echo someone")
        text = (machine.folder / SCRIPT).read_text()
        assert "[ -w . ]" in text
        # Root writes everywhere, so the question itself is answered for it.
        (machine.folder / SCRIPT).write_text(text.replace("[ -w . ]", "false"))
    else:
        machine.folder.chmod(0o500)
    try:
        assert_told(machine.runs("install", ".venv"), str(machine.folder), "not writable")
    finally:
        machine.folder.chmod(0o700)


@pytest.mark.parametrize(("free_mib", "status"), [(0, 2), (55, 2), (56, 0), (1000, 0)])
def test_a_full_dev_shm_is_told(machine: Machine, free_mib: int, status: int) -> None:
    """The limit itself is enough."""
    machine.has("df", DF.format(free_kib=free_mib * 1024))
    outcome = machine.runs("room")
    if status:
        assert_told(outcome, f"{free_mib} MiB free", "56 MiB", "mount -o remount")
    assert outcome[0] == status


def test_an_unknown_verb_is_told(machine: Machine) -> None:
    """A typing mistake gets the usage."""
    assert_told(machine.runs("instal"), "usage")
