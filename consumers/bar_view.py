"""The `bars` view of history: each bar with the name of its series, its instrument, and prices at that version's scale."""
# ruff: noqa: S608 - the statement is made of this module's own names and numbers

from layouts import BAR, BarKind, Kind
from layouts.bar import FRAMES, MILLIONTHS
from layouts.scales import scale_of

_LEFT_OUT = ("stamp", "kind", "marks", "source_index", "source_count", "value_low", "value_high")


def bars_view(price: str) -> str:
    """Return the statement that makes it over `bar_records` and `scales`; price "float" or "fixed" (the ring's integers)."""
    columns = []
    for name in BAR.names or ():
        scale = scale_of(BAR, name)
        if scale and price == "float":
            columns.append(f"b.{name} / pow(10, s.{scale}) AS {name}")
        elif name not in _LEFT_OUT:
            columns.append(f"b.{name}")
    return (
        f"CREATE VIEW bars AS SELECT b.day, b.ring, b.run, b.epoch, b.seq, s.venue, s.symbol, {_series()} AS series, "
        f"b.marks & 3 AS book_state, {', '.join(columns)}, s.price_scale, s.qty_scale FROM bar_records b "
        "LEFT JOIN scales s ON s.instrument_id = b.instrument_id AND s.version = CASE WHEN b.instrument_version > 0 "
        "THEN b.instrument_version ELSE (SELECT max(version) FROM scales n WHERE n.instrument_id = b.instrument_id) END "
        f"WHERE b.kind = {int(Kind.BAR)}"
    )


def _series() -> str:
    """Return the expression of `layouts.bar.series_name`."""
    names = " ".join(f"WHEN {ns} THEN '{name}'" for name, ns in FRAMES.items())
    frame = f"CASE b.parameter {names} ELSE b.parameter || 'ns' END"
    whole = (
        f"regexp_replace(printf('%d.%06d', b.parameter // {MILLIONTHS}, b.parameter % {MILLIONTHS}), "
        "'\\.?0+$', '')"
    )
    return (
        f"CASE b.bar_kind WHEN {int(BarKind.TIME)} THEN {frame} WHEN {int(BarKind.SESSION)} THEN 'session_' || {frame} "
        f"WHEN {int(BarKind.TICK)} THEN 'tick_' || b.parameter WHEN {int(BarKind.VOLUME)} THEN 'volume_' || {whole} "
        f"WHEN {int(BarKind.DOLLAR)} THEN 'dollar_' || {whole} ELSE 'imbalance_' || b.parameter END"
    )
