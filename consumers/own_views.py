"""The views of history over an own consumer's rows unite every layout that it ever had, by the names of its columns.

**Layout** Of consumer `vwap`: `vwap`, its rows with `venue`, `symbol`, `side` and scaled numbers as the other views have them
(columns `price`, `qty`, `..._price`, `..._qty` of 64-bit integers are scaled; `price_scale` and `qty_scale` are there for
others), and `vwap_records`, every record as it is. A column that a layout lacks is null in its rows. One that was numbers of
several types is of the widest; one that was text, or an array, in one layout and something else in another is text in all.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from consumers.record_views import own_views, quoted, record_select, taken
from layouts import Kind


def source_view(consumer: str, number: int) -> str:
    """Return the name of the view over the records of one of its layouts; no consumer can have such a name."""
    return f"{consumer} rows {number}"


def own_views_of(layouts: Mapping[str, Sequence[np.dtype]], price: str) -> Iterator[str]:
    """Yield the statements that make the views over the `source_view` of each layout."""
    for consumer, each in layouts.items():
        sources = [quoted(source_view(consumer, i)) for i in range(len(each))]
        if taken(consumer):
            continue  # no topology has one of such a name
        as_text = _changed(each)
        rows = [
            record_select(layout, source, (Kind.OWN,), price, as_text)
            for layout, source in zip(each, sources, strict=True)
        ]
        records = [
            f"SELECT {_records(layout, as_text)} FROM {source}"
            for layout, source in zip(each, sources, strict=True)
        ]
        for view, selects in zip(own_views(consumer), (rows, records), strict=True):
            yield f"CREATE VIEW {quoted(view)} AS {' UNION ALL BY NAME '.join(selects)}"


def _records(layout: np.dtype, as_text: frozenset[str]) -> str:
    """Return the columns of every record as it is."""
    changed = [
        f"{quoted(name)}::VARCHAR AS {quoted(name)}"
        for name in layout.names or ()
        if name in as_text
    ]
    return f"* REPLACE ({', '.join(changed)})" if changed else "*"


def _changed(layouts: Sequence[np.dtype]) -> frozenset[str]:
    """Return the columns that no type but text holds in all layouts."""
    kinds: dict[str, set[str]] = {}
    for layout in layouts:
        for name in layout.names or ():
            base = layout[name]
            kind = str(base.shape) if base.shape else "text" if base.kind == "S" else "number"
            kinds.setdefault(name, set()).add(kind)
    return frozenset(name for name, found in kinds.items() if len(found) > 1)
