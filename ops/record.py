"""Capture is switched on and off while collectors run, and nothing is said to be kept before the collector says so itself.

**Protocol** A file `<state_dir>/run/<collector>.capture` is the wish; the collector looks for it once a second, at its start
too, and tells in its counters what it does. The wish is taken back by `--off`, or at the end of `--for`, also after Ctrl-C.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from collectors.wslog_writer import switch_file
from ops import control, show
from ops.options import Topology
from ops.wslog_index import captures_of
from shm.clock import monotonic_ns
from shm.counters import read_counters
from shm.errors import AttachError, ConfigurationError
from shm.registry import read_instance
from shm.worker import StopFlag

ANSWER_S = 15.0


class RecordRow(msgspec.Struct, kw_only=True):
    """One collector: whether it captures now, and what it has kept since the verb began."""

    collector: str
    is_on: bool
    frames: int
    lost: int
    file_bytes: int
    folder: str


def run(
    instance: str, names: Sequence[str], seconds: float, off: bool, restart: bool, as_json: bool
) -> int:
    """Do it, print, and return 0 when every collector did what was asked."""
    found = read_instance(instance)
    topology = msgspec.convert(found.config, Topology)
    chosen = _chosen(topology, names)
    if off and (seconds or restart):
        raise ConfigurationError("record: --off goes with neither --for nor --restart")
    before = {name: _counters(instance, name) for name in chosen}
    files = [switch_file(found.state_dir, name) for name in chosen]
    stop = StopFlag()
    if not off:
        for file in files:
            file.touch(mode=0o600)
        if restart:
            control.ask(instance, "restart", chosen)
        is_well = _until(instance, chosen, lambda on: on, stop)
        if is_well and seconds:
            show.complain(f"capturing {', '.join(chosen)} for {seconds:g} s")
            _sleep(seconds, stop)
        if not is_well:
            show.complain("not every collector captures; see `tickring status` and their logs")
    wanted_on = {name: topology.running_collectors[name].capture for name in chosen}
    if off or seconds or not is_well:
        for file in files:
            file.unlink(missing_ok=True)
        ending = [name for name in chosen if not wanted_on[name]]
        is_well = _until(instance, ending, lambda on: not on, None) and (off or is_well)
    rows = [_row(instance, name, before[name], captures_of(found)) for name in chosen]
    if as_json:
        show.as_json(rows)
    else:
        show.table(RecordRow.__struct_fields__, [msgspec.structs.astuple(row) for row in rows])
    return 0 if is_well else 1


def _chosen(topology: Topology, names: Sequence[str]) -> list[str]:
    running = list(topology.running_collectors)
    if unknown := [name for name in names if name not in running]:
        raise ConfigurationError(
            f"record: no collector {', '.join(unknown)}; there are {', '.join(running)}"
        )
    return list(names) or running


def _until(
    instance: str, names: Sequence[str], holds: Callable[[bool], bool], stop: StopFlag | None
) -> bool:
    """Wait until all collectors say so themselves; False when they did not in time."""
    until_ns = monotonic_ns() + int(ANSWER_S * 1e9)
    while not all(holds(bool(_counters(instance, name).get("capture_on"))) for name in names):
        if monotonic_ns() > until_ns or (stop is not None and stop.is_set):
            return False
        time.sleep(0.05)
    return True


def _sleep(seconds: float, stop: StopFlag) -> None:
    until_ns = monotonic_ns() + int(seconds * 1e9)
    while not stop.is_set and monotonic_ns() < until_ns:
        time.sleep(0.05)


def _counters(instance: str, name: str) -> dict[str, int]:
    try:
        return read_counters(instance, name).values
    except AttachError:
        return {}


def _row(instance: str, name: str, before: dict[str, int], folder: Path) -> RecordRow:
    now = _counters(instance, name)
    return RecordRow(
        collector=name,
        is_on=bool(now.get("capture_on")),
        frames=now.get("capture_frames", 0) - before.get("capture_frames", 0),
        lost=now.get("capture_lost", 0) - before.get("capture_lost", 0),
        file_bytes=sum(path.stat().st_size for path in (folder / name).glob("*.wslog*")),
        folder=str(folder / name),
    )
