"""A supervisor is started detached from the terminal, and its starter learns whether it came up, or why not.

**Protocol** `python -m ops.launch` reads the topology as JSON from stdin and answers on stdout with one JSON line as soon as
it is the instance's supervisor, or cannot be; its log goes to `logs/supervisor.log` in the state directory.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from ops import logs, show
from ops.child import child_environment, write_private
from ops.inputs import check_streams, resolve
from ops.mem import check_room
from ops.options import Topology
from ops.plan import Plan, make_plan
from ops.supervisor import AlreadyRuns, Supervisor
from shm.durable import replace_file
from shm.errors import NoRing, TickringError
from shm.registry import memory_file, read_instance
from shm.worker import configure_logs

_SOURCE = "config.path"
"""In the run directory: the path of the TOML."""


class CannotStart(TickringError):
    """The supervisor ended before it was one."""


def prepare(topology: Topology) -> Plan:
    """Return the plan, with everything checked that can be checked before a process starts."""
    check_streams(topology)
    plan = make_plan(topology)
    check_room(topology)
    for directory in (plan.state_path, plan.run_dir, plan.log_dir):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"state_dir: {directory} cannot be made: {error.strerror}") from None
    return plan


def remember(plan: Plan, config: str | Path | None) -> None:
    """Note how an instance was started, for `reload` (its TOML; None: it has none) and for who reads after `down`."""
    path = memory_file(plan.instance)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, msgspec.json.encode(read_instance(plan.instance)))
    except (OSError, NoRing) as error:
        show.complain(
            f"{path} cannot be written ({error}): after `down` name the TOML to audit, logs and trace with -c"
        )
    note = plan.run_dir / _SOURCE
    if config is None:
        note.unlink(missing_ok=True)
        return
    replace_file(note, str(Path(config).absolute()).encode())


def source_of(state_path: Path) -> Path | None:
    """Return the TOML that an instance was started with; None: it has none."""
    try:
        return Path((state_path / "run" / _SOURCE).read_text())
    except FileNotFoundError:
        return None


def launch(topology: Topology, config: Path | None = None) -> int:
    """Start a detached supervisor and return its pid; `config` is the TOML that the topology is of.

    Raises:
        AlreadyRuns: the instance is up. CannotStart: what it said. ConfigurationError, NoSpace: before it was tried.
    """
    topology = resolve(topology)
    plan = prepare(topology)
    log = logs.open_log(plan.log_dir / "supervisor.log")
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.launch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=child_environment(),
        )
    finally:
        os.close(log)
    assert process.stdin and process.stdout
    with process.stdin as pipe:
        pipe.write(msgspec.json.encode(topology))
    with process.stdout as pipe:
        line = pipe.readline()
    if not line:
        status = process.wait()
        words = logs.last_words(plan.log_dir / "supervisor.log", 0)
        raise CannotStart(f"the supervisor ended with status {status}: {words}")
    answer: dict[str, Any] = msgspec.json.decode(line)
    if "pid" not in answer:
        process.wait()
        kind = AlreadyRuns if answer["kind"] == "AlreadyRuns" else CannotStart
        raise kind(answer["error"])
    remember(plan, config)
    return int(answer["pid"])


def supervise(topology: Topology, config: Path | None = None) -> None:
    """Be the supervisor in this process until it is drained."""
    plan = prepare(resolve(topology))
    supervisor = Supervisor(plan)
    supervisor.open()
    remember(plan, config)
    supervisor.run()


def main() -> None:
    """Be a detached supervisor."""
    configure_logs()
    topology = msgspec.json.decode(sys.stdin.buffer.read(), type=Topology)
    try:
        supervisor = Supervisor(make_plan(topology))
        supervisor.open()
    except TickringError as error:
        _answer({"kind": type(error).__name__, "error": str(error)})
        sys.exit(2)
    _answer({"pid": os.getpid()})
    supervisor.run()


def _answer(answer: dict[str, Any]) -> None:
    """Write one line and leave stdout: the starter may be gone a moment later."""
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    main()
