"""What a verb found goes to stdout: a table for a person at a terminal, plain columns for a pipe, JSON when asked.

**Why it is right** Data is on stdout and nothing else is; what a script parses has no colour, no frame and no wrapped line.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

_STYLES = {
    "RUNNING": "green",
    "LIVE": "green",
    "well": "green",
    "FAILED": "bold red",
    "ENDED": "bold red",
    "BACKOFF": "yellow",
    "STARTING": "yellow",
    "WAITING": "yellow",
    "DRAINING": "yellow",
    "degraded": "yellow",
}


def say(text: str = "") -> None:
    """Print one line of data."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Print one line for the operator."""
    print(f"tickring: {text}", file=sys.stderr, flush=True)


def as_json(value: Any) -> None:
    """Print one JSON document on one line."""
    say(msgspec.json.encode(value).decode())


def when(ts_ns: int) -> str:
    """Return a time in ns since the epoch as ISO 8601 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(ts_ns // 1_000_000 / 1000, UTC)
    return at.isoformat(timespec="milliseconds")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print rows under their column names; None is shown as "-"."""
    cells = [[_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _rich(columns, cells, [_is_number(row) for row in zip(*rows, strict=True)], title)
        return
    widths = [max(len(c), *(len(row[i]) for row in cells), 0) for i, c in enumerate(columns)]
    for row in [list(columns), *cells]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(columns: Sequence[str], cells: list[list[str]], numbers: list[bool], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        shown.add_column(column, justify="right" if numbers and numbers[i] else "left")
    for row in cells:
        shown.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(shown)


def _is_number(values: Sequence[Any]) -> bool:
    return any(isinstance(value, int | float) for value in values)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
