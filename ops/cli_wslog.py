"""Verbs of captured frames: record, trace."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ops import show
from ops.cli_app import OK, UNWELL, ConfigFile, Flag, InstanceName, Json, app
from ops.topology import load_topology, topology_of
from shm.errors import ConfigurationError
from shm.registry import DEFAULT_INSTANCE


@app.command
def record(
    *names: str,
    instance: InstanceName = DEFAULT_INSTANCE,
    seconds: Annotated[float, Parameter(name="--for")] = 0.0,
    off: Annotated[bool, Flag] = False,
    restart: Annotated[bool, Flag] = False,
    json: Json = False,
) -> int:
    """Keep every frame of running collectors in .wslog files, for a while or until `--off`; exit 1 where that fails.

    Parameters
    ----------
    names
        Collectors; none: all that run.
    seconds
        How long; 0: until `tickring record --off`, also over restarts.
    off
        Keep no more; what the TOML says (capture = true) stays.
    restart
        Restart the collectors first, so that a replay has their books from the start; else from the venue's next snapshot.
    """
    from ops import record as job

    return UNWELL if job.run(instance, names, seconds, off, restart, json) else OK


@app.command
def trace(
    what: str,
    number: int,
    config: ConfigFile = None,
    instance: InstanceName = DEFAULT_INSTANCE,
    epoch: int | None = None,
    json: Json = False,
) -> int:
    """Print the captured frame that a record came from; or, of a .wslog file, an entry and the records it became.

    Exit 1 where the record came from no frame (a heartbeat, say): the entry before it is shown.

    Parameters
    ----------
    what
        A ring, e.g. kraken.events or features.features, or a .wslog file.
    number
        Seq of the record, or number of the entry.
    epoch
        Of the record; without it the newest that has the seq.
    """
    from ops import trace as frames

    path = Path(what)
    if what.endswith((".wslog", ".wslog.zst")):
        if not path.is_file():
            raise ConfigurationError(f"trace: no file {what}")
        found = frames.trace_entry(path, number)
    else:
        folder = (load_topology(config) if config else topology_of(instance)).capture_path
        found = frames.trace_record(instance, folder, what, number, epoch)
    if json:
        show.as_json(found)
    else:
        show.table(["of", "is"], frames.as_rows(found))
        show.say(found.text)
    return OK if found.is_its_frame else UNWELL
