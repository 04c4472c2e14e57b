"""A layout has one name, told by its description and its ring; rows of an own consumer are called like the consumer."""

import numpy as np

from layouts.abi import describe
from layouts.bar import BAR
from layouts.book import BOOK
from layouts.control import CONTROL
from layouts.event import EVENT
from layouts.exposure import EXPOSURE
from layouts.features import FEATURES
from layouts.instrument import INSTRUMENT
from layouts.order import ORDER
from layouts.own import is_own
from layouts.position import POSITION
from layouts.risk_decision import RISK_DECISION

LAYOUTS = {
    "event": EVENT,
    "book": BOOK,
    "instrument": INSTRUMENT,
    "features": FEATURES,
    "bar": BAR,
    "order": ORDER,
    "position": POSITION,
    "risk_decision": RISK_DECISION,
    "control": CONTROL,
    "exposure": EXPOSURE,
}
"""Layouts that a ring may carry, by the name that topology and tools use."""

UNKNOWN = "unknown"
_NAMES = {describe(dtype): name for name, dtype in LAYOUTS.items()}


def layout_name(layout: np.dtype, ring: str) -> str:
    """Return what a layout is called in ring `<worker>.<ring>`; UNKNOWN: another version of tickring made it."""
    if found := _NAMES.get(describe(layout)):
        return found
    return ring.partition(".")[0] if is_own(layout, ring) else UNKNOWN
