"""Every test has an instance of its own and leaves no region and no process behind.

What a test leaves fails it and is removed, so that the next one is judged by its own deeds.
Several test runs may share the machine: what a process outside this run has mapped is never
counted as ours.
"""

import importlib.util
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHM = Path("/dev/shm")
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
# A process that was told to end may need this long to be gone.
GRACE_S = 3.0
# The largest pid that Linux gives on a 64-bit machine; a longer number in a name is no pid.
PID_MAX = 1 << 22
# Installed by make setup, where there is a wheel: their absence is no choice.
LOCKED = {"pandas", "polars", "talib"}
MULTIPROCESSING_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the recorded data, so that `-m "not captures"` leaves it out."""
    for item in items:
        if "captures" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.captures)


# ---------------------------------------------------------------- what a test may need


@pytest.fixture(scope="session")
def captures() -> Path:
    """Find the recorded market data: TICKRING_CAPTURES, or ../shared/captures by the project."""
    named = os.environ.get("TICKRING_CAPTURES")
    folder = Path(named) if named else ROOT.parent / "shared" / "captures"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"TICKRING_CAPTURES names {named}, which is no folder: correct it or unset it")
    pytest.skip("recorded market data is absent: set TICKRING_CAPTURES to its folder")


def _missing(what: str) -> NoReturn:
    if IN_CI:
        pytest.fail(f"{what}; in CI this is a failure, so that no skip hides there")
    pytest.skip(what)


@pytest.fixture(scope="session")
def require_tool() -> Callable[..., str]:
    """Give the path of a program; where it is absent, skip with what to install, or in CI fail."""

    def require(name: str, package: str | None = None) -> str:
        found = shutil.which(name)
        if found is None:
            _missing(f"{name} is not installed: apt-get install {package or name}")
        return found

    return require


@pytest.fixture(scope="session")
def require_rival() -> Callable[[str], object]:
    """Import an oracle, or a competitor; the latter are optional, so a skip in CI too."""

    def require(name: str) -> object:
        if name in LOCKED and importlib.util.find_spec(name) is None:
            _missing(f"{name} is not installed: make setup installs it where it has a wheel")
        return pytest.importorskip(name, reason=f"optional: {name} comes with make rivals")

    return require


# ---------------------------------------------------------------- an instance of its own


class Instance(NamedTuple):
    """A name that no other test or run uses, and a state directory that ends with the test."""

    name: str
    state_dir: Path


def run_prefix() -> str:
    """What the instance names of this test run begin with."""
    return f"t{os.getpid()}x"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """Name an instance for this test; what it starts inherits the state directory."""
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    monkeypatch.setenv("TICKRING_STATE_DIR", str(state_dir))
    return Instance(f"{run_prefix()}{next(_numbers)}", state_dir)


# ---------------------------------------------------------------- nothing is left behind


def regions() -> set[str]:
    """Name every tickring object in /dev/shm that could be ours; root's tests make some for others."""
    found = set()
    for path in SHM.glob("tickring.*"):
        try:
            owner = path.stat().st_uid
        except FileNotFoundError:
            continue
        if os.geteuid() in {0, owner}:
            found.add(path.name)
    return found


def has_no_child() -> bool:
    """Tell when the kernel says at once that there is none; False where it cannot say."""
    try:
        direct = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        # A thread ended between the listing and the look; its children are another thread's now.
        return False
    return bool(direct) and not any(direct)


def children() -> set[psutil.Process]:
    """Find the living processes under this one, without the helpers of multiprocessing itself."""
    # Nearly always there are none: no walk through all of /proc then.
    if has_no_child():
        return set()
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            command = " ".join(process.cmdline())
            if any(helper in command for helper in MULTIPROCESSING_HELPERS):
                continue
        except psutil.NoSuchProcess:
            continue
        found.add(process)
    return found


def instance_of(name: str) -> str:
    """Give the instance that a region's name belongs to."""
    return name.split(".")[1]


def held_by(process_id: int) -> set[str]:
    """Name the tickring objects that a process has mapped or open; none where we may not look."""
    found: set[str] = set()
    try:
        maps = Path(f"/proc/{process_id}/maps").read_text(encoding="utf-8", errors="replace")
        with os.scandir(f"/proc/{process_id}/fd") as entries:
            descriptors = [os.readlink(entry.path) for entry in entries]
    except OSError:
        return found
    for path in [line.rpartition(" ")[2] for line in maps.splitlines()] + descriptors:
        if path.startswith(f"{SHM}/tickring."):
            found.add(Path(path).name)
    return found


def is_process(number: int) -> bool:
    """Tell whether a number out of an instance's name is the pid of something that runs."""
    return number <= PID_MAX and psutil.pid_exists(number)


def held_by_others(names: set[str]) -> set[str]:
    """Pick the regions of instances that another test run or a process outside this run has in hand."""
    ours = {os.getpid()} | {process.pid for process in psutil.Process().children(recursive=True)}
    busy = set()
    for name in names:
        # Test runs, and benches, put their process id behind a word.
        number = re.match(r"[a-z]+(\d+)", instance_of(name))
        if number and int(number[1]) not in ours and is_process(int(number[1])):
            busy.add(instance_of(name))
    for process_id in set(psutil.pids()) - ours:
        busy |= {instance_of(name) for name in held_by(process_id)}
    # What bears this run's own mark is ours, whoever looks at it meanwhile.
    mine = {name for name in names if instance_of(name).startswith(run_prefix())}
    return {name for name in names - mine if instance_of(name) in busy}


class Leaks(NamedTuple):
    """What a test left: region names, processes."""

    regions: set[str]
    processes: set[psutil.Process]

    def told(self) -> str:
        """Say it in one line, or nothing where nothing was left."""
        parts = []
        if self.regions:
            parts.append("left in /dev/shm: " + ", ".join(sorted(self.regions)))
        if self.processes:
            parts.append("left running: " + ", ".join(f"pid {p.pid}" for p in self.processes))
        return "; ".join(parts)


def leaks_since(regions_before: set[str], children_before: set[psutil.Process]) -> Leaks:
    """Find what is here now, was not then, and is this run's; processes have GRACE_S to end."""
    started = children() - children_before
    if started:
        _, alive = psutil.wait_procs(list(started), timeout=GRACE_S)
        started = {process for process in alive if process in children()}
    new = regions() - regions_before
    if new:
        new = (new - held_by_others(new)) & regions()
    return Leaks(new, started)


def remove(leaks: Leaks) -> None:
    """Clear what a test left."""
    for process in leaks.processes:
        process.kill()
    for name in leaks.regions:
        (SHM / name).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the test that leaves a region or a child process."""
    before = regions(), children()
    yield
    leaks = leaks_since(*before)
    if told := leaks.told():
        remove(leaks)
        pytest.fail(told)
