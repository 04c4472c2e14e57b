"""The views of history over records of one kind, an own consumer's too: names of instruments, scaled numbers, whole money.

**Layout** Each view has the record's own columns, as the reader's frames have, with `venue`, `symbol`, `book_state` and `side`
(+1, -1, 0) beside them. A pair `NAME_low`, `NAME_high` of 128-bit money is there once more as `NAME`. Heartbeats and restarts
are left out; the records as they are, heartbeats and all, are in `feature_records`, `order_records` and so on.
**Why it is right** Every scale is the one that the record carries (layouts.scales), so that no instrument is asked; rows of an
own consumer, which carry none, have that of their instrument's version in force at the record that caused them.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from layouts import LAYOUTS, Kind, Mark
from layouts.scales import INSTRUMENT_SCALES, scale_of, wide_columns


class RecordView(NamedTuple):
    """One view: over which records, of which layout, of which kinds."""

    records: str
    layout: str
    kinds: tuple[Kind, ...]


EVENT_KINDS = {
    "trades": Kind.TRADE,
    "quotes": Kind.QUOTE,
    "levels": Kind.LEVEL,
    "gaps": Kind.GAP,
    "states": Kind.STATE,
}
RECORD_VIEWS = {
    "features": RecordView("feature_records", "features", (Kind.FEATURES,)),
    "orders": RecordView("order_records", "order", (Kind.ORDER, Kind.CANCEL, Kind.FILL)),
    "positions": RecordView("position_records", "position", (Kind.POSITION,)),
    "decisions": RecordView("decision_records", "risk_decision", (Kind.RISK_DECISION,)),
    "controls": RecordView("control_records", "control", (Kind.CONTROL,)),
    "exposures": RecordView("exposure_records", "exposure", (Kind.EXPOSURE,)),
}
RECORDS = {
    "events": "event",
    "books": "book",
    "instruments": "instrument",
    "bar_records": "bar",
    **{view.records: view.layout for view in RECORD_VIEWS.values()},
}
"""Views of every record as it is in the ring, with its layout."""
HELPERS = ("scales", "names", "versions", "runs")
"""Tables and views that the others are made of."""
TAKEN = frozenset((*RECORDS, *EVENT_KINDS, *RECORD_VIEWS, "bars", *HELPERS))

SIDE = (
    f"(CASE r.marks & {int(Mark.SIDE_MASK)} WHEN {int(Mark.BUY)} THEN 1 WHEN {int(Mark.SELL)} THEN -1 ELSE 0 END)"
    "::TINYINT AS side"
)
STATE = f"r.marks & {int(Mark.STATE_MASK)} AS book_state"
_LEFT_OUT = ("stamp", "zero", "zeros")
_WORD = "18446744073709551616"


def taken(consumer: str, others: Iterable[str] = ()) -> str:
    """Return the view that rows of an own consumer of this name would hide, of the project or of other consumers; else ""."""
    there = TAKEN | {view for other in others for view in own_views(other)}
    return next((view for view in own_views(consumer) if view in there), "")


def own_views(consumer: str) -> tuple[str, str]:
    """Return the names of the views over an own consumer's rows: the rows with numbers, and every record as it is."""
    return consumer, f"{consumer}_records"


def record_view(view: str, price: str) -> str:
    """Return the statement that makes it over its records and `names`; price "float" or "fixed" (the ring's integers)."""
    made = RECORD_VIEWS[view]
    chosen = record_select(LAYOUTS[made.layout], made.records, made.kinds, price)
    return f"CREATE VIEW {view} AS {chosen}"


def record_select(
    layout: np.dtype,
    records: str,
    kinds: Sequence[Kind],
    price: str,
    as_text: frozenset[str] = frozenset(),
) -> str:
    """Return the query of a view over `records`, whose columns are those of `layout`; those of `as_text` become text."""
    wide = wide_columns(layout)
    carried = layout.names or ()
    columns = []
    lacking = set(INSTRUMENT_SCALES).difference(carried) if Kind.OWN in kinds else set()
    for name in carried:
        scale = scale_of(layout, name)
        if name in _LEFT_OUT:
            continue
        if scale and scale not in carried:
            lacking.add(scale)
        value = f"r.{quoted(name)}"
        if scale and price == "float":
            value = f"{value} / pow(10, {'r' if scale in carried else 's'}.{scale})"
        columns.append(f"({value}){'::VARCHAR' if name in as_text else ''} AS {quoted(name)}")
        if name == "instrument_id":
            columns += ["n.venue", "n.symbol"]
        if name == "marks":
            columns += [STATE, SIDE]
        whole = name.removesuffix("_high")
        if name != whole and whole in wide:
            columns.append(f"{_whole(whole, wide[whole], price)} AS {quoted(whole)}")
    columns += [f"s.{scale}" for scale in sorted(lacking)]
    source = f"{records} r"
    if lacking:
        source = f"(SELECT r.*, e.run AS source_run FROM {records} r LEFT JOIN runs e ON e.epoch = r.source_epoch) r"
        source += version_joins("r.source_run", "r.source_seq")
    return (
        f"SELECT r.day, r.ring, r.run, r.epoch, r.seq, {', '.join(columns)} FROM {source} "
        "LEFT JOIN names n ON r.instrument_id = n.instrument_id "
        f"WHERE r.kind IN ({', '.join(str(int(kind)) for kind in kinds)})"
    )


def version_joins(run: str, seq: str) -> str:
    """Return the joins of records `r` with the scales `s` of their instrument's version in force at a seq of a run."""
    return (
        f" ASOF LEFT JOIN versions v ON {run} = v.run AND r.instrument_id = v.instrument_id AND {seq} >= v.seq "
        "LEFT JOIN scales s ON s.instrument_id = r.instrument_id AND s.version = coalesce(v.version, "
        "(SELECT max(version) FROM scales n WHERE n.instrument_id = r.instrument_id)) "
    )


def quoted(name: str) -> str:
    """Return a name for SQL, whatever words SQL keeps for itself."""
    return f'"{name}"'


def _whole(name: str, scale: str, price: str) -> str:
    """Return the 128-bit integer of two signed words: the low one counts from 0 up."""
    low = f"(r.{name}_low::HUGEINT + CASE WHEN r.{name}_low < 0 THEN {_WORD}::HUGEINT ELSE 0 END)"
    whole = f"(r.{name}_high::HUGEINT * {_WORD}::HUGEINT + {low})"
    return f"{whole}::DOUBLE / pow(10, r.{scale})" if price == "float" else whole
