"""A running instance is found by a small file beside its rings, so that no tool needs to be told where it is.

**Layout** `/dev/shm/tickring.<instance>.run` (0644, JSON): magic, version, pid and start time of the supervisor, state
directory, layout hashes, the resolved configuration. It is replaced whole, never edited. A copy of the last run's, for verbs
that read what `down` left, is `instance.json` in the instance's default state directory, whichever directory it runs with.
"""

import contextlib
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from layouts import LAYOUTS, abi_hash
from shm.errors import NoMagic, NoRing
from shm.process import is_alive
from shm.region import PREFIX, SHM_DIRECTORY, RegionName, check_part, ring_name

DEFAULT_INSTANCE = "default"
_MAGIC = "tickring"
VERSION = 1


class Instance(msgspec.Struct, kw_only=True):
    """One running (or crashed) instance."""

    magic: str = _MAGIC
    version: int = VERSION
    instance: str
    pid: int
    start_time: int
    state_dir: str
    layouts: dict[str, str] = {}
    config: dict[str, Any] = {}

    @property
    def alive(self) -> bool:
        """The supervisor still runs."""
        return is_alive(self.pid, self.start_time)


def default_state_dir(instance: str) -> str:
    """Return where an instance keeps what survives `down`: TICKRING_STATE_DIR, else the XDG state directory."""
    if given := os.environ.get("TICKRING_STATE_DIR"):
        return str(Path(given) / instance)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(base) / "tickring" / instance)


def run_file(instance: str) -> Path:
    """Return the path of an instance's run description."""
    return Path(SHM_DIRECTORY) / f"{PREFIX}.{check_part('instance', instance)}.run"


def write_instance(instance: Instance) -> None:
    """Publish the run description, replacing an older one at once."""
    instance.layouts = {name: abi_hash(dtype).hex() for name, dtype in LAYOUTS.items()}
    path = run_file(instance.instance)
    replacement = path.with_name(path.name + ".new")
    replacement.write_bytes(msgspec.json.encode(instance))
    replacement.chmod(0o644)
    replacement.replace(path)


def read_instance(instance: str = DEFAULT_INSTANCE) -> Instance:
    """Return an instance's run description.

    Raises:
        NoRing: no such instance. NoMagic: the file is not a run description.
    """
    path = run_file(instance)
    try:
        return _described(path)
    except FileNotFoundError:
        raise NoRing(
            f"no instance {instance!r} is running here (no {path}); start it with `tickring up`"
        ) from None


def memory_file(instance: str) -> Path:
    """Return where the description of an instance's last run is."""
    return Path(default_state_dir(check_part("instance", instance))) / "instance.json"


def last_instance(instance: str = DEFAULT_INSTANCE) -> Instance | None:
    """Return the run description of an instance that runs, else that of its last run; None: there was none.

    Raises:
        NoMagic: a file is there that is no run description.
    """
    for path in (run_file(instance), memory_file(instance)):
        with contextlib.suppress(FileNotFoundError):
            return _described(path)
    return None


def _described(path: Path) -> Instance:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Instance)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise NoMagic(f"{path} is not a run description ({error}); remove it") from error
    if found.magic != _MAGIC or found.version != VERSION:
        raise NoMagic(
            f"{path} is of version {found.version}, {VERSION} expected; run one version of tickring"
        )
    return found


def instances() -> list[str]:
    """Return the names of the instances that have a run description."""
    paths = Path(SHM_DIRECTORY).glob(f"{PREFIX}.*.run")
    return sorted(path.name.split(".")[1] for path in paths)


def ring_names(instance: str = DEFAULT_INSTANCE) -> list[RegionName]:
    """Return the rings of an instance, whether their producers live or not."""
    return sorted(
        ring_name(*parts[1:4])
        for parts in _files(instance)
        if len(parts) == 5 and parts[4] == "data"
    )


def worker_names(instance: str = DEFAULT_INSTANCE) -> list[str]:
    """Return the workers of an instance that have ever started."""
    return sorted(
        parts[2] for parts in _files(instance) if len(parts) == 4 and parts[3] == "counters"
    )


def files_of(instance: str) -> list[str]:
    """Return every shared-memory object that carries the instance's name."""
    return sorted(".".join(parts) for parts in _files(instance))


def parse_ring(name: str, instance: str = DEFAULT_INSTANCE) -> RegionName:
    """Return the region name of `<worker>.<ring>`.

    Raises:
        NoRing: the name has another form.
    """
    worker, dot, ring = name.partition(".")
    if not dot or "." in ring:
        raise NoRing(
            f"ring name {name!r}: <worker>.<ring> expected, as `tickring ring list` shows them"
        )
    return ring_name(instance, worker, ring)


def find_ring(name: str, instance: str = DEFAULT_INSTANCE) -> RegionName:
    """Return the ring `<worker>.<ring>` of an instance, whether its producer lives or not.

    Raises:
        NoRing: the instance does not run, or has no such ring; the nearest one and all that are there are named.
    """
    there = {str(each): each for each in ring_names(instance)}
    if name in there:
        return there[name]
    if not there:
        read_instance(instance)
        raise NoRing(f"instance {instance!r} has no ring yet; see `tickring status`")
    near = difflib.get_close_matches(name, list(there), 1, 0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise NoRing(f"no ring {name!r} in instance {instance!r}; {hint}there are: {', '.join(there)}")


def _files(instance: str) -> Iterator[list[str]]:
    check_part("instance", instance)
    for path in Path(SHM_DIRECTORY).glob(f"{PREFIX}.{instance}.*"):
        yield path.name.split(".")
