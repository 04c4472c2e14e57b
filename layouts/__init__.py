"""The bytes of every record: numpy structured dtypes and their meaning, checked exactly at import.

**Layout** Every record opens with the 32-byte header of `layouts.header`; what follows depends on its kind.
**Invariants** (1) No dtype has a hole, a misaligned field or a field named like a numpy attribute.
(2) `native/layouts.h` is generated from these dtypes and asserts every offset at compile time.
"""

from layouts.abi import AbiError, abi_hash, check_layout, describe
from layouts.book import BOOK, BOOK_DEPTH
from layouts.event import (
    EVENT,
    EVENT_VIEWS,
    GAP,
    HEARTBEAT,
    LEVEL,
    QUOTE,
    RESTART,
    SNAPSHOT_BEGIN,
    SNAPSHOT_END,
    STATE,
    TRADE,
    GapReason,
    StateReason,
)
from layouts.features import COLUMNS, FEATURES
from layouts.header import HEADER_BYTES, HEADER_FIELDS, InstrumentState, Kind, Mark, make_marks
from layouts.instrument import INSTRUMENT

LAYOUTS = {"event": EVENT, "book": BOOK, "instrument": INSTRUMENT, "features": FEATURES}
"""Layouts that a ring may carry, by the name that topology and tools use."""

__all__ = [
    "BOOK",
    "BOOK_DEPTH",
    "COLUMNS",
    "EVENT",
    "EVENT_VIEWS",
    "FEATURES",
    "GAP",
    "HEADER_BYTES",
    "HEADER_FIELDS",
    "HEARTBEAT",
    "INSTRUMENT",
    "LAYOUTS",
    "LEVEL",
    "QUOTE",
    "RESTART",
    "SNAPSHOT_BEGIN",
    "SNAPSHOT_END",
    "STATE",
    "TRADE",
    "AbiError",
    "GapReason",
    "InstrumentState",
    "Kind",
    "Mark",
    "StateReason",
    "abi_hash",
    "check_layout",
    "describe",
    "make_marks",
]
