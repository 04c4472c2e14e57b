"""Verbs that look: mem, bench, audit, truth, replay, config."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from ops import show
from ops.cli_app import OK, UNWELL, ConfigFile, InstanceName, Json, app, bench, config
from ops.topology import load_topology, topology_of
from shm.registry import DEFAULT_INSTANCE

if TYPE_CHECKING:
    from ops.capacity import Need
    from ops.mem import ProcessRow, RingRow, Room


@app.command
def mem(
    config: ConfigFile = None, instance: InstanceName = DEFAULT_INSTANCE, json: Json = False
) -> int:
    """Show what the rings take in /dev/shm, how long each holds its peak rate, what each running process takes of its own.

    Exit 1 when the rings do not fit, or a ring is too small for a reader that may be away.
    """
    from ops import capacity
    from ops import mem as memory

    topology = load_topology(config) if config else topology_of(instance)
    rings = memory.ring_rows(topology)
    needs = capacity.needs(topology, {} if config else capacity.measured(instance))
    processes = memory.process_rows(topology.instance)
    room = memory.room(topology)
    if json:
        show.as_json(
            {
                "rings": [row._asdict() for row in rings],
                "rings_bytes": sum(row.n_bytes for row in rings),
                "budget_bytes": memory.LIMIT_BYTES,
                "room": room._asdict(),
                "needs": [need._asdict() | {"is_enough": need.is_enough} for need in needs],
                "processes": [row._asdict() for row in processes],
            }
        )
    else:
        _show_memory(rings, needs, processes)
    return _complain_of_memory(sum(row.n_bytes for row in rings), room, needs)


def _show_memory(
    rings: list["RingRow"], needs: list["Need"], processes: list["ProcessRow"]
) -> None:
    total = sum(row.n_bytes for row in rings)
    shown = [(row.ring, row.layout, row.slots, row.n_bytes / 2**20) for row in rings]
    columns = ["ring", "layout", "slots", "MiB in /dev/shm"]
    show.table(columns, [*shown, ("total", "", None, total / 2**20)])
    if needs:
        show.say()
        away = [
            (n.ring, n.reader, n.slots, n.per_s, n.holds_s, n.needs_s, n.is_enough) for n in needs
        ]
        show.table(["ring", "reader", "slots", "peak/s", "holds s", "needs s", "enough"], away)
    if processes:
        own = [
            (p.worker, p.pid, p.rss_anon_bytes / 2**20, p.rss_file_bytes / 2**20) for p in processes
        ]
        show.say()
        show.table(["worker", "pid", "RssAnon MiB", "RssFile MiB"], own)


def _complain_of_memory(total: int, room: "Room", needs: list["Need"]) -> int:
    """Say what is wrong; returns the exit status."""
    from ops.mem import LIMIT_BYTES

    if total > LIMIT_BYTES:
        show.complain(
            f"the rings take {total / 2**20:.1f} MiB, more than {LIMIT_BYTES >> 20}: many containers give /dev/shm 64 MiB"
        )
    small = [need.advice for need in needs if not need.is_enough]
    if room.needed_bytes > room.free_bytes:
        small.append(
            f"/dev/shm has {room.free_bytes / 2**20:.1f} MiB free, {room.needed_bytes / 2**20:.1f} MiB are needed: "
            "lower the slots or enlarge it (mount -o remount,size=256m /dev/shm)"
        )
    for advice in small:
        show.complain(advice)
    return UNWELL if small else OK


@bench.command(name="ring")
def bench_ring(
    cpus: str = "",
    smoke: Annotated[bool, Parameter(negative="")] = False,
    allow_unpinned: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Measure the rings beside the cache line, a plain C queue and Python's other channels (two minutes).

    Parameters
    ----------
    cpus: two cores to pin to, e.g. 0,1.
    smoke: tiny figures, to see that it runs.
    allow_unpinned: measure latencies also where there are no two cores.
    """
    from ops import bench_ring as rings

    facts = rings.measure(smoke, cpus, allow_unpinned)
    if json:
        show.as_json(facts)
    else:
        rows = [(name, facts[name], facts.get(f"{name}_range")) for name in rings.figures_of(facts)]
        show.table(("figure", "median", "range"), rows)
        show.say()
        show.table(("condition", "value"), [(k, str(v)) for k, v in facts["conditions"].items()])
    return OK


@app.command
def audit(
    config: ConfigFile = None,
    instance: InstanceName = DEFAULT_INSTANCE,
    closing: Annotated[bool, Parameter(negative="", show=False)] = False,
    json: Json = False,
) -> int:
    """Add both ledgers up from socket to Parquet and Redis; live, or from what `down` left. Exit 1 unless unaccounted 0."""
    from ops import audit as books

    topology = load_topology(config) if config else None
    if topology is not None:
        instance = topology.instance
    result = books.audit(instance, closing, topology.state_path if topology else None)
    if json:
        show.as_json(result)
    else:
        books.show_result(result)
    return OK if result.unaccounted == 0 else UNWELL


@app.command
def truth(folder: Path | None = None, json: Json = False) -> int:
    """Replay every recording of a folder and hold it against its venue's checksums, sequences, tops. Exit 1 if one differs.

    Parameters
    ----------
    folder
        Recordings named <venue>_….jsonl.gz; TICKRING_CAPTURES where it is left out.
    """
    from ops import truth as recordings

    return recordings.run(folder, json)


@app.command
def replay(
    *files: Path,
    venue: str = "",
    speed: str = "max",
    into: str = "",
    features: Path | None = None,
    bars: Path | None = None,
    json: Json = False,
) -> int:
    """Decode recordings through the live code into private rings and print what a consumer read off them.

    Parameters
    ----------
    files
        Recordings of one collector or of several, in any order, merged by time: .wslog files, compressed or not, and JSON
        lines. Each collector's go through a decoder and rings of their own, as if they were replayed alone.
    venue
        The protocol that JSON lines were recorded from, e.g. kraken_v2; .wslog files say it themselves.
    speed
        Factor of recorded time (1: as it was), or "max": as fast as it can be decoded.
    into
        Name of an instance that does not run: its rings are made for the time of the replay, for others to attach to.
    features
        Also write the rows that the features worker would publish to this Parquet file.
    bars
        Likewise, the bars of the default topology.
    """
    from ops import replay as player
    from ops.replay_pace import speed_of

    return player.run(files, venue, features, bars, json, speed_of(speed), into)


@config.command(name="show")
def config_show(config: ConfigFile = None, json: Json = False) -> int:
    """Print the configuration as it would be used, every key."""
    from ops import explain

    table = msgspec.to_builtins(load_topology(config))
    if json:
        show.as_json(table)
    else:
        show.say(explain.as_toml(table))
    return OK


@config.command(name="check")
def config_check(file: Path, json: Json = False) -> int:
    """Check a TOML file and tell every mistake in it; exit 2 when there is one."""
    from ops import explain

    topology = load_topology(file)
    warnings = explain.warnings_of(topology)
    if json:
        show.as_json({"file": str(file), "workers": list(topology.workers()), "warnings": warnings})
    else:
        show.say(f"{file} is sound: workers {' '.join(topology.workers())}")
    for warning in warnings:
        show.complain(warning)
    return OK


@config.command(name="explain")
def config_explain(key: str, json: Json = False) -> int:
    """Tell what a key means, its unit and its default, e.g. `supervisor.heartbeat_timeout_s`."""
    from ops import explain

    found = explain.explain(key)
    if json:
        show.as_json(found)
    else:
        show.say(f"{found.key} = {found.default}\n{found.text}")
    return OK
