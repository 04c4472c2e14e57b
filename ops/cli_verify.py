"""Verbs that compute again what is stored or recorded, and tell whether it is the same."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ops.cli_app import Json, app

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
