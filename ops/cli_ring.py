"""Verbs that look at rings as a passive reader: list, details, hz, tail, dump. No pipeline ever notices them."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ops import show
from ops.cli_app import OK, UNWELL, Flag, InstanceName, Json, ring
from shm.errors import ConfigurationError
from shm.registry import DEFAULT_INSTANCE, find_ring, read_instance


@ring.command(name="list")
def ring_list(instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """List the rings: layout, state, records, epoch, age of the producer's heartbeat."""
    import shm

    read_instance(instance)
    rows = shm.rings(instance)
    if json:
        show.as_json([row._asdict() for row in rows])
    else:
        show.table(shm.RingRow._fields, [tuple(row) for row in rows])
    return OK


@ring.command(name="details")
def ring_details(name: str, instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """Tell everything about a ring: header, epochs, producer, each consumer with lag and losses, memory."""
    from ops import ring_details as details

    found = details.read_details(find_ring(name, instance))
    if json:
        show.as_json(found)
    else:
        details.show_details(found)
    return OK


@ring.command(name="hz")
def ring_hz(
    name: str,
    instance: InstanceName = DEFAULT_INSTANCE,
    interval: float = 1.0,
    for_: Annotated[float | None, Parameter(name="--for")] = None,
    json: Json = False,
) -> int:
    """Measure records a second, in all and per kind, and how many this reader missed.

    Parameters
    ----------
    interval
        Seconds of one measurement; with --json one document a measurement.
    for_
        Seconds in all; without it for ever on a terminal, one interval elsewhere.
    """
    from ops import ring_rate

    for option, seconds in (("--interval", interval), ("--for", for_)):
        if seconds is not None and not 0.01 <= seconds <= 1e9:
            raise ConfigurationError(f"{option} {seconds:g}: 0.01 to 1e9 s expected")
    if for_ is None:
        for_ = 1e9 if sys.stdout.isatty() else interval
    for i, rate in enumerate(ring_rate.rates(find_ring(name, instance), interval, for_)):
        if json:
            show.as_json(rate)
        else:
            ring_rate.show_rate(rate, with_head=i == 0)
    return OK


@ring.command(name="tail")
def ring_tail(
    name: str,
    instance: InstanceName = DEFAULT_INSTANCE,
    n: Annotated[int, Parameter(name=["--lines", "-n"])] = 10,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    json: Json = False,
) -> int:
    """Print the newest records of a ring with exact decimals; with -f also those that come."""
    from ops import rings

    if n < 0:
        raise ConfigurationError(f"--lines {n}: a number of records from 0 on expected")
    for rows, lost in rings.follow(find_ring(name, instance), n, follow):
        if lost:
            show.complain(f"{name}: {lost} records were overwritten before they were read")
        for row in rows:
            if json:
                show.as_json(row)
            else:
                show.say("  ".join(f"{k}={v}" for k, v in row.items() if v not in ("", None)))
    return OK


@ring.command(name="dump")
def ring_dump(
    name: str,
    instance: InstanceName = DEFAULT_INSTANCE,
    *,
    from_: Annotated[int | None, Parameter(name="--from")] = None,
    to: int | None = None,
    last: int | None = None,
    format: str = "",  # noqa: A002 - the option's name
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Write a validated range of a ring; exit 1 when not all of it could be had, and stderr tells how much was lost.

    Without a range: all that the ring holds.

    Parameters
    ----------
    from_
        First seq.
    to
        Last seq, inclusive.
    last
        The newest so many instead.
    format
        jsonl, csv, parquet or npy; without it as the suffix of --out says, else jsonl.
    out
        The file, replaced whole; without it stdout.
    json
        With --out: the account as one document on stdout.
    """
    from ops import ring_dump as dumper

    done = dumper.dump(find_ring(name, instance), from_, to, last, format, out)
    told = f"{done.ring}: {done.written:,} records written"
    if done.written:
        told += f", seq {done.first_seq} .. {done.last_seq}"
    if not done.is_whole:
        told += f"; {done.lost:,} were overwritten, {done.ahead:,} are not published yet"
    if json and out is not None:
        show.as_json(done)
    if not (json and out is not None and done.is_whole):
        show.complain(told)
    return OK if done.is_whole else UNWELL
