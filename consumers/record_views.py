"""The views of history over features, orders, positions, decisions, controls and exposures: names, scaled numbers, whole money.

**Layout** Each view has the record's own columns, as the reader's frames have, with `venue`, `symbol`, `book_state` and `side`
(+1, -1, 0) beside them. A pair `NAME_low`, `NAME_high` of 128-bit money is there once more as `NAME`. Heartbeats and restarts
are left out; the records as they are, heartbeats and all, are in `feature_records`, `order_records` and so on.
**Why it is right** Every scale is the one that the record carries (layouts.scales), so that no instrument is asked.
"""
# ruff: noqa: S608 - the statements are made of this module's own names and numbers

from typing import NamedTuple

from layouts import LAYOUTS, Kind, Mark
from layouts.scales import scale_of, wide_columns


class RecordView(NamedTuple):
    """One view: over which records, of which layout, of which kinds."""

    records: str
    layout: str
    kinds: tuple[Kind, ...]


RECORD_VIEWS = {
    "features": RecordView("feature_records", "features", (Kind.FEATURES,)),
    "orders": RecordView("order_records", "order", (Kind.ORDER, Kind.CANCEL, Kind.FILL)),
    "positions": RecordView("position_records", "position", (Kind.POSITION,)),
    "decisions": RecordView("decision_records", "risk_decision", (Kind.RISK_DECISION,)),
    "controls": RecordView("control_records", "control", (Kind.CONTROL,)),
    "exposures": RecordView("exposure_records", "exposure", (Kind.EXPOSURE,)),
}

SIDE = (
    f"(CASE r.marks & {int(Mark.SIDE_MASK)} WHEN {int(Mark.BUY)} THEN 1 WHEN {int(Mark.SELL)} THEN -1 ELSE 0 END)"
    "::TINYINT AS side"
)
STATE = f"r.marks & {int(Mark.STATE_MASK)} AS book_state"
_LEFT_OUT = ("stamp", "zero", "zeros")
_WORD = "18446744073709551616"


def record_view(view: str, price: str) -> str:
    """Return the statement that makes it over its records and `names`; price "float" or "fixed" (the ring's integers)."""
    made = RECORD_VIEWS[view]
    layout = LAYOUTS[made.layout]
    wide = wide_columns(layout)
    columns = []
    for name in layout.names or ():
        scale = scale_of(layout, name)
        if name in _LEFT_OUT:
            continue
        columns.append(
            f"r.{name} / pow(10, r.{scale}) AS {name}"
            if scale and price == "float"
            else f"r.{name}"
        )
        if name == "instrument_id":
            columns += ["n.venue", "n.symbol"]
        if name == "marks":
            columns += [STATE, SIDE]
        whole = name.removesuffix("_high")
        if name != whole and whole in wide:
            columns.append(f"{_whole(whole, wide[whole], price)} AS {whole}")
    kinds = ", ".join(str(int(kind)) for kind in made.kinds)
    return (
        f"CREATE VIEW {view} AS SELECT r.day, r.ring, r.run, r.epoch, r.seq, {', '.join(columns)} "
        f"FROM {made.records} r LEFT JOIN names n ON r.instrument_id = n.instrument_id WHERE r.kind IN ({kinds})"
    )


def _whole(name: str, scale: str, price: str) -> str:
    """Return the 128-bit integer of two signed words: the low one counts from 0 up."""
    low = f"(r.{name}_low::HUGEINT + CASE WHEN r.{name}_low < 0 THEN {_WORD}::HUGEINT ELSE 0 END)"
    whole = f"(r.{name}_high::HUGEINT * {_WORD}::HUGEINT + {low})"
    return f"{whole}::DOUBLE / pow(10, r.{scale})" if price == "float" else whole
