"""`layouts/FEATURES.md` is the table of `layouts.features` as a page: each column's unit, readiness, formula and source.

`python -m layouts.features_page` prints it; a test compares it with the file that is checked in.
"""

import sys

from layouts import features


def render() -> str:
    """Return the whole text of the page."""
    terms = (features.__doc__ or "").partition("**Terms of the formulas** ")[2].partition("\n\n")[0]
    head = (
        "# The columns of a features row\n\nMade by `python -m layouts.features_page` from the table in "
        "`layouts/features.py`; a test keeps it fresh.\n\n"
    )
    return f"{head}{terms}\n\n{formula_table()}"


def formula_table() -> str:
    """Return the columns as a Markdown table."""
    head = "| column | unit | ready | formula | source |\n|---|---|---|---|---|\n"
    rows = ((c.name, c.unit, c.ready_from, c.formula, c.source) for c in features.COLUMNS)
    return head + "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows
    )


if __name__ == "__main__":
    sys.stdout.write(render())
