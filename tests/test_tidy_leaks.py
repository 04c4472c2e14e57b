"""The fixtures that every test relies on notice what they are there to notice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import conftest
import psutil
import pytest
from conftest import (
    SHM,
    Instance,
    children,
    has_no_child,
    held_by,
    leaks_since,
    regions,
    remove,
)

pytest_plugins = ["pytester"]


@pytest.fixture
def outer(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Give a test run of its own that has this project's conftest."""
    pytester.makeconftest(Path(conftest.__file__).read_text())
    monkeypatch.delenv("CI", raising=False)
    return pytester


def test_a_region_left_behind_is_found_and_removed(instance: Instance) -> None:
    """A new object in /dev/shm is told by name; after that it is gone."""
    before = regions(), children()
    name = f"tickring.{instance.name}.w.ring.data"
    (SHM / name).touch()
    leaks = leaks_since(*before)
    remove(leaks)
    assert leaks.regions == {name}
    assert name in leaks.told()
    assert not (SHM / name).exists()


def test_a_process_left_running_is_found_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that outlives the grace is told by its pid."""
    monkeypatch.setattr(conftest, "GRACE_S", 0.1)
    before = regions(), children()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        leaks = leaks_since(*before)
        remove(leaks)
        assert str(child.pid) in leaks.told()
        assert child.wait() < 0


def test_a_process_that_ends_in_time_is_no_leak() -> None:
    """What is about to end when the test does has a grace."""
    before = regions(), children()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"]):
        assert not leaks_since(*before).told()


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_a_thread_that_ends_under_the_look_at_its_children_is_no_error(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """It may go between the kernel's list of threads and the reading; the slower way answers then."""

    def gone(_path: Path) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", gone)
    assert not has_no_child()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        found = children()
        child.kill()
    assert child.pid in {process.pid for process in found}


def test_a_region_of_another_run_is_not_ours() -> None:
    """A region named by a living test run other than this one is left alone."""
    before = regions(), children()
    theirs = SHM / f"tickring.t{os.getppid()}x0.w.ring.data"
    theirs.touch()
    try:
        assert psutil.pid_exists(os.getppid())
        assert not leaks_since(*before).told()
    finally:
        theirs.unlink()


def test_a_region_of_another_user_is_not_ours(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not root can neither have made it nor remove it."""
    theirs = SHM / f"tickring.{instance.name}.w.ring.data"
    theirs.touch()
    try:
        assert theirs.name in regions()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert theirs.name not in regions()
    finally:
        theirs.unlink()


def test_a_region_in_the_hands_of_an_outsider_is_not_ours(tmp_path: Path) -> None:
    """Whoever holds one object of an instance and is no child of ours owns all of that instance."""
    held, beside = (SHM / f"tickring.outsider{os.getpid()}.w.{end}" for end in ("lock", "data"))
    before = regions(), children()
    held.touch()
    beside.touch()
    pid_file = tmp_path / "pid"
    # The shell in between ends, so that the holder is a child of nobody here.
    command = f"sleep 30 9<{held} >/dev/null 2>&1 & echo $! > {pid_file}"
    subprocess.run(["sh", "-c", command], check=True)
    outsider = psutil.Process(int(pid_file.read_text()))
    try:
        # It is there before it has opened what it is to hold.
        deadline = time.monotonic() + 10.0
        while held.name not in held_by(outsider.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not leaks_since(*before).told()
    finally:
        outsider.kill()
        held.unlink()
        beside.unlink()


def test_a_test_that_leaves_a_region_fails(outer: pytest.Pytester) -> None:
    """The check stands around every test without being asked for."""
    outer.makepyfile("""
        from conftest import SHM
        def test_leaves(instance):
            (SHM / f"tickring.{instance.name}.w.ring.data").touch()
        def test_clean(instance):
            assert instance.state_dir.is_dir()
    """)
    result = outer.runpytest_subprocess()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left in /dev/shm: tickring.t*"])


TOOL_TEST = """
    def test_needs_a_tool(require_tool):
        require_tool("no-such-tool-anywhere", "its-package")
    def test_needs_a_rival(require_rival):
        require_rival("no_such_rival")
    def test_has_it(require_tool):
        assert require_tool("sh").endswith("/sh")
"""


def test_a_missing_tool_is_a_plain_skip(outer: pytest.Pytester) -> None:
    """On a developer's machine the test says what to install."""
    outer.makepyfile(TOOL_TEST)
    result = outer.runpytest_subprocess("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*apt-get install its-package*"])


def test_a_missing_tool_fails_in_ci(
    outer: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No skip hides in CI but that of an optional competitor; an oracle is none."""
    monkeypatch.setenv("CI", "true")
    outer.makepyfile(TOOL_TEST)
    outer.runpytest_subprocess().assert_outcomes(passed=1, skipped=1, errors=0, failed=1)


def test_named_captures_that_are_absent_fail(
    outer: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong TICKRING_CAPTURES is a mistake to correct and no reason to skip."""
    outer.makepyfile("def test_reads(captures):\n    assert captures.is_dir()")
    monkeypatch.setenv("TICKRING_CAPTURES", str(outer.path / "absent"))
    outer.runpytest_subprocess().assert_outcomes(errors=1)
    monkeypatch.setenv("TICKRING_CAPTURES", str(outer.path))
    outer.runpytest_subprocess().assert_outcomes(passed=1)
    monkeypatch.delenv("TICKRING_CAPTURES")
    outer.runpytest_subprocess().assert_outcomes(skipped=1)
