"""At which scale the integers of a column stand, and which two columns are one wide integer: one table for all readers.

**Why it is right** A record that carries its scales (orders, positions, decisions, exposures) is read by those, years
later too; others by the scales of their instrument's version. Columns of own consumers are known by the ends of their names.
"""

import numpy as np

from layouts.bar import BAR
from layouts.instrument import INSTRUMENT

INSTRUMENT_SCALES = ("price_scale", "qty_scale")
"""Scales that come from the instrument where the record does not carry them."""

_BAR_SCALES = dict.fromkeys(
    ("open", "high", "low", "close", "vwap"), "price_scale"
) | dict.fromkeys(("volume", "buy_volume", "sell_volume"), "qty_scale")
_INSTRUMENT_COLUMNS = {
    "tick": "price_scale",
    "lot": "qty_scale",
    "multiplier": "multiplier_scale",
}
_WIDE_SCALES = ("money_scale", "value_scale")


def scale_of(layout: np.dtype, name: str) -> str:
    """Return the name of the scale of a column, "" where it is no price, quantity or fee: value = column / 10**scale."""
    if layout == BAR:
        return _BAR_SCALES.get(name, "")
    if layout == INSTRUMENT:
        return _INSTRUMENT_COLUMNS.get(name, "")
    if layout[name].base != np.int64:
        return ""
    names = layout.names or ()
    kind = name.rpartition("_")[2]
    if kind == "price":
        return "mark_scale" if "mark_scale" in names else "price_scale"
    if kind == "fee":
        return "fee_scale" if "fee_scale" in names else ""
    return "qty_scale" if kind == "qty" else ""


def wide_columns(layout: np.dtype) -> dict[str, str]:
    """Return the scale of each pair `NAME_low`, `NAME_high` that a record carries the scale of, by NAME."""
    names = layout.names or ()
    scale = next((each for each in _WIDE_SCALES if each in names), "")
    whole = [name.removesuffix("_low") for name in names if name.endswith("_low")]
    return {name: scale for name in whole if scale and f"{name}_high" in names}
