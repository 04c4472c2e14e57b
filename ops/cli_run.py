"""Verbs that run an instance: up, down, restart, subscribe, unsubscribe, reload, status, ready, logs, run."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from ops import control, show
from ops.cli_app import (
    NOT_RUNNING,
    OK,
    UNWELL,
    ConfigFile,
    Flag,
    InstanceName,
    Json,
    OptionalInstance,
    app,
)
from ops.topology import load_topology, topology_of
from shm.errors import ConfigurationError
from shm.registry import DEFAULT_INSTANCE


@app.command
def up(
    *names: str,
    config: ConfigFile = None,
    instance: OptionalInstance = None,
    foreground: Annotated[bool, Flag] = False,
    json: Json = False,
) -> int:
    """Start the instance; with names (or "all") of a running one: start those of its workers that do not run.

    Parameters
    ----------
    foreground
        Stay, and log to the terminal; end with SIGTERM or Ctrl-C.
    """
    from ops import capacity, launch
    from shm.worker import configure_logs

    if names:
        return _ask(instance or DEFAULT_INSTANCE, "up", names, json)
    topology = load_topology(config, instance=instance)
    for need in capacity.needs(topology):
        if not need.is_enough:
            show.complain(need.advice)
    if foreground:
        configure_logs()
        launch.supervise(topology, config)
        return OK
    pid = launch.launch(topology, config)
    workers = list(topology.workers())
    if json:
        show.as_json({"instance": topology.instance, "pid": pid, "workers": workers})
    else:
        show.say(
            f"instance {topology.instance} is starting, supervisor pid {pid}: {' '.join(workers)}"
        )
    return OK


@app.command
def down(*names: str, instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """Drain and end the instance, or only the named workers; nothing is left in /dev/shm. Done already: exit 0."""
    from ops import end

    if names and names != ("all",):
        return _ask(instance, "down", names, json)
    ended = end.bring_down(instance)
    if json:
        show.as_json({"instance": instance, "was_running": ended})
    else:
        show.say(f"instance {instance} {'is down' if ended else 'was not running'}")
    return OK


@app.command
def restart(*names: str, instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """End and start the named workers, or "all", in good order: readers read to the end first."""
    if not names:
        raise ConfigurationError('restart: name workers, or "all"; see `tickring status`')
    return _ask(instance, "restart", names, json)


@app.command
def subscribe(
    name: str,
    channel: str,
    *symbols: str,
    depth: int = 0,
    instance: InstanceName = DEFAULT_INSTANCE,
    json: Json = False,
) -> int:
    """Have a running collector collect more symbols, over the link that it has, until `down`.

    Parameters
    ----------
    depth
        Levels a side of a book; 0: the venue's default.
    """
    more = {"channel": channel, "symbols": list(symbols), "depth": depth}
    return _ask(instance, "subscribe", [name], json, **more)


@app.command
def unsubscribe(
    name: str,
    channel: str,
    *symbols: str,
    instance: InstanceName = DEFAULT_INSTANCE,
    json: Json = False,
) -> int:
    """Have a running collector collect some symbols no more, until `down`."""
    more = {"channel": channel, "symbols": list(symbols)}
    return _ask(instance, "unsubscribe", [name], json, **more)


@app.command
def reload(config: ConfigFile = None, instance: OptionalInstance = None, json: Json = False) -> int:
    """Read the TOML again: subscriptions change at once; what else has changed is told, and waits for a restart.

    Parameters
    ----------
    config
        Default: the one that the instance was started with.
    """
    from ops import launch
    from ops.inputs import check_streams, resolve

    if config is None:
        config = launch.source_of(topology_of(instance or DEFAULT_INSTANCE).state_path)
    topology = resolve(load_topology(config, instance=instance))
    check_streams(topology)
    return _ask(topology.instance, "reload", [], json, config=msgspec.to_builtins(topology))


@app.command
def status(instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """Show a row per process. Exit 0 well, 1 degraded (the reasons are on stderr), 3 not running."""
    from ops import status as reading

    found = reading.read_status(instance)
    if json:
        show.as_json(found)
    elif found.workers:
        columns = ["worker", "state", "pid", "core", "cpu %", "restarts", "beat s", "lag", "gaps"]
        show.table(
            [*columns, "lost", "data s", "books", "closed"],
            [_status_row(row) for row in found.workers],
        )
    for reason in found.reasons:
        show.complain(reason)
    return reading.EXIT_STATUS[found.state]


@app.command
def ready(
    instance: InstanceName = DEFAULT_INSTANCE, timeout: float = 60.0, json: Json = False
) -> int:
    """Wait until every process runs and is warm, every link is up and every book is LIVE; exit 1 where that fails.

    Parameters
    ----------
    timeout
        Seconds to wait at most.
    """
    from ops import status as reading

    found = reading.wait_ready(instance, timeout)
    if json:
        show.as_json(found)
    elif found.is_ready:
        show.say(f"instance {instance} is ready")
    for reason in found.reasons:
        show.complain(reason)
    return OK if found.is_ready else NOT_RUNNING if found.state == reading.NOT_RUNNING else UNWELL


@app.command
def logs(
    name: str,
    config: ConfigFile = None,
    instance: InstanceName = DEFAULT_INSTANCE,
    lines: Annotated[int, Parameter(name=["--lines", "-n"])] = 50,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
) -> int:
    """Print the log of a worker, or of "supervisor"; also after `down`."""
    from ops import logs as files

    state_path = (load_topology(config) if config else topology_of(instance)).state_path
    path = state_path / "logs" / f"{name}.log"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.log"))) or "none yet"
        raise ConfigurationError(f"no log of {name!r} in {path.parent}; there are: {known}")
    for line in files.tail(path, lines):
        show.say(line)
    if follow:
        for line in files.follow(path):
            show.say(line)
    return OK


@app.command
def run(
    config: ConfigFile = None,
    instance: OptionalInstance = None,
    seconds: Annotated[float, Parameter(name="--for")] = 20.0,
    json: Json = False,
) -> int:
    """Run the whole pipeline for a while, then print what flowed, latencies per hop and the audit, and take it down.

    With no configuration everything is embedded: recordings where they are found, else a synthetic market.
    Exit 0 only when nothing is unaccounted for and nothing is left behind.

    Parameters
    ----------
    seconds
        How long, from the moment it is ready.
    """
    from ops import run as job

    return job.run(load_topology(config, instance=instance), seconds, json)


def _ask(instance: str, verb: str, names: Sequence[str], json: bool, **more: Any) -> int:
    answer = control.ask(instance, verb, list(names), **more)
    if not answer.ok:
        raise ConfigurationError(f"{verb}: {answer.error}")
    if json:
        show.as_json(answer)
    else:
        show.say(f"{verb}: {' '.join(answer.names) or 'nothing to do'}")
        for note in answer.notes:
            show.complain(note)
    return OK


def _status_row(row: Any) -> list[Any]:
    core = row.core if row.core >= 0 else None
    return [
        row.worker,
        row.state,
        row.pid or None,
        core,
        row.cpu_percent,
        row.restarts,
        row.heartbeat_age_s,
        row.lag_records,
        row.gaps,
        row.lost_records,
        row.last_data_age_s,
        row.books,
        (row.link.channels_closed if row.link else 0) or None,
    ]
