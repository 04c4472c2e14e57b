"""The bytes of every record: numpy structured dtypes and their meaning, checked exactly at import.

**Layout** Every record opens with the 32-byte header of `layouts.header`; what follows depends on its kind.
**Invariants** (1) No dtype has a hole, a misaligned field or a field named like a numpy attribute.
(2) `native/layouts.h` is generated from these dtypes and asserts every offset at compile time.
"""

from layouts.abi import AbiError, abi_hash, check_layout, describe
from layouts.bar import BAR, BarFlag, BarKind
from layouts.book import BOOK, BOOK_DEPTH
from layouts.control import CONTROL, Action, Check
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
from layouts.exposure import EXPOSURE, ExposureFault
from layouts.features import COLUMNS, FEATURES
from layouts.header import HEADER_BYTES, HEADER_FIELDS, InstrumentState, Kind, Mark, make_marks
from layouts.instrument import INSTRUMENT
from layouts.names import LAYOUTS, UNKNOWN, layout_name
from layouts.order import (
    ORDER,
    CancelReason,
    Instruction,
    Liquidity,
    Opening,
    OrderType,
    TimeInForce,
)
from layouts.position import APPLIED_INPUTS, POSITION, CostMethod, MarkKind, PositionFault
from layouts.risk_decision import RISK_DECISION, RiskReason, Scope, TradingState, Verdict
from layouts.wslog import WSLOG_ENTRY, WSLOG_FILE, WSLOG_MAGIC, Entry

__all__ = [
    "APPLIED_INPUTS",
    "BAR",
    "BOOK",
    "BOOK_DEPTH",
    "COLUMNS",
    "CONTROL",
    "EVENT",
    "EVENT_VIEWS",
    "EXPOSURE",
    "FEATURES",
    "GAP",
    "HEADER_BYTES",
    "HEADER_FIELDS",
    "HEARTBEAT",
    "INSTRUMENT",
    "LAYOUTS",
    "LEVEL",
    "ORDER",
    "POSITION",
    "QUOTE",
    "RESTART",
    "RISK_DECISION",
    "SNAPSHOT_BEGIN",
    "SNAPSHOT_END",
    "STATE",
    "TRADE",
    "UNKNOWN",
    "WSLOG_ENTRY",
    "WSLOG_FILE",
    "WSLOG_MAGIC",
    "AbiError",
    "Action",
    "BarFlag",
    "BarKind",
    "CancelReason",
    "Check",
    "CostMethod",
    "Entry",
    "ExposureFault",
    "GapReason",
    "Instruction",
    "InstrumentState",
    "Kind",
    "Liquidity",
    "Mark",
    "MarkKind",
    "Opening",
    "OrderType",
    "PositionFault",
    "RiskReason",
    "Scope",
    "StateReason",
    "TimeInForce",
    "TradingState",
    "Verdict",
    "abi_hash",
    "check_layout",
    "describe",
    "layout_name",
    "make_marks",
]
