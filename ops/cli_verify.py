"""Verbs that compute again what is stored or recorded, and tell whether it is the same."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ops.cli_app import InstanceName, Json, app
from shm.registry import DEFAULT_INSTANCE

features = App(
    name="features", help="Hold features against what they are made of.", help_format="plaintext"
)
app.command(features)
bars = App(name="bars", help="Hold bars against others.", help_format="plaintext")
app.command(bars)


@bars.command(name="verify")
def bars_verify(
    prints: Path,
    vendor_bars: Path,
    frame: str = "1m",
    least: Annotated[int, Parameter(help="Bars that must agree; -1: all.")] = -1,
    json: Json = False,
) -> int:
    """Make bars of a recorded day of consolidated equity prints and hold them against the vendor's own.

    Parameters
    ----------
    prints
        Zip file of the day's prints (QuantConnect LEAN's tick trades).
    vendor_bars
        Zip file of the vendor's bars of that day.
    frame
        Their window: 1s, 1m, ...
    """
    from ops import bars_verify as verifier

    return verifier.run(prints, vendor_bars, frame, least, json)


@features.command(name="verify")
def features_verify(
    *what: str,
    venue: str = "",
    instance: InstanceName = DEFAULT_INSTANCE,
    data_dir: Path | None = None,
    run: Annotated[str, Parameter(help="Run of the features ring, for recordings.")] = "",
    json: Json = False,
) -> int:
    """Compute features again and hold them against the published rows. Exit 1 where they part, or nothing was compared.

    Parameters
    ----------
    what
        A UTC day (2026-11-20): from the stored events, equal bit for bit. Or recordings: equal in every column that two runs
        share.
    venue
        The protocol that the recordings were made from; .wslog files say it.
    data_dir
        Where the recorder's files are, when the instance does not say it.
    """
    from ops import features_verify as verifier

    return verifier.run(what, venue, instance, data_dir, run, json)
