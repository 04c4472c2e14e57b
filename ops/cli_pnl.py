"""Verbs that look at positions and P&L, and the one that works them out anew from the stored fills."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ops import show
from ops.cli_app import (
    OK,
    UNWELL,
    ConfigFile,
    Flag,
    InstanceName,
    Json,
    OptionalInstance,
    app,
)
from shm.errors import ConfigurationError
from shm.registry import DEFAULT_INSTANCE

pnl = App(name="pnl", help="Look at profit and loss.", help_format="plaintext")
positions = App(name="positions", help="Look at what is held.", help_format="plaintext")
app.command(pnl)
app.command(positions)

Account = Annotated[int | None, Parameter(help="Only this account.")]
_COLUMNS = ("account", "symbol", "qty", "average_price", "mark_price", "unrealised", "realised")
_MORE = ("fees", "day_pnl", "currency", "faults")


@positions.default
def positions_list(
    instance: InstanceName = DEFAULT_INSTANCE, account: Account = None, json: Json = False
) -> int:
    """List the positions: quantity, average price, mark, P&L of the day; exact decimals."""
    from ops import positions as held

    found = held.read_positions(instance, account)
    rows = held.described(instance, found.rows)
    if json:
        show.as_json(rows)
    else:
        _table((*_COLUMNS, *_MORE), rows)
    _tell(found.overwritten)
    return OK


@positions.command(name="reset")
def positions_reset(
    config: ConfigFile = None,
    instance: OptionalInstance = None,
    yes: Annotated[bool, Flag] = False,
) -> int:
    """Have the next `up` begin with nothing held and nothing that stands; the instance must be down. The old journal is kept.

    Parameters
    ----------
    yes
        That it is meant.
    """
    from ops import opening
    from ops.topology import load_topology
    from shm.registry import files_of

    topology = load_topology(config, instance=instance)
    if not yes:
        raise ConfigurationError("positions reset: what is held is forgotten; say so with --yes")
    if files_of(topology.instance):
        raise ConfigurationError(
            f"instance {topology.instance!r} is not down; `tickring down` first"
        )
    opening.reset(topology.state_path)
    show.say(f"the next `up` of instance {topology.instance} begins with nothing held")
    return OK


@pnl.default
def pnl_totals(
    instance: InstanceName = DEFAULT_INSTANCE, account: Account = None, json: Json = False
) -> int:
    """Add up each account's P&L, currency by currency."""
    from ops import positions as held

    found = held.read_positions(instance, account)
    rows = held.totals(found.rows)
    if json:
        show.as_json(rows)
    else:
        shown = ("realised", "unrealised", "carried", "fees", "day_pnl", "total_pnl", "faults")
        _table(("account", "currency", "positions", *shown), rows)
    _tell(found.overwritten)
    return OK


@pnl.command(name="verify")
def pnl_verify(
    day: str = "",
    instance: InstanceName = DEFAULT_INSTANCE,
    data_dir: Path | None = None,
    json: Json = False,
) -> int:
    """Work the positions out anew from the stored fills and compare them with the published rows. Exit 1 where they part.

    Parameters
    ----------
    day
        UTC date of the fills to compare, e.g. 2026-11-20; without it all of them.
    data_dir
        Where the recorder's files are, when the instance is down and its state directory is not the default one.
    """
    from consumers import history, pnl_verify
    from ops.topology import topology_of

    lots = topology_of(instance).pnl.lots
    report = pnl_verify.verify(history.connect(instance, data_dir), lots, day)
    if json:
        show.as_json(report._asdict() | {"sound": report.is_sound})
    else:
        show.table(
            ("fills", "without a row", "rows without a fill", "differences"),
            [(report.fills, report.missing, report.unfounded, len(report.differences))],
        )
        for each in report.differences:
            show.complain(
                f"fill {each.epoch}:{each.seq}: {each.column} is {each.published} in the row, {each.recomputed} by the fills"
            )
    for sentence in report.incomplete:
        show.complain(f"{sentence}; what came before cannot be borne out")
    return OK if report.is_sound else UNWELL


def _table(columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    cells = [[" ".join(v) if isinstance(v := row[c], list) else v for c in columns] for row in rows]
    show.table(columns, cells)


def _tell(overwritten: int) -> None:
    if overwritten:
        show.complain(
            f"{overwritten} older rows are overwritten: a position without a newer one is not shown; "
            "the view `positions` of consumers.history has all that was stored"
        )
