"""The 32 bytes that open every record, whatever its kind.

**Layout**
    0   stamp             i64   seqlock word of the slot: 2n+1 being written, 2n+2 complete (shm.ring)
    8   ts_event          i64   ns since the epoch, the venue's clock
    16  ts_recv           i64   ns since the epoch, our clock at entry of the socket's read callback
    24  instrument_id     u16   row of the INSTRUMENT table; 0: the record concerns no instrument
    26  kind              u8    `Kind`
    27  marks             u8    `Mark`: instrument state, side, place in the frame
    28  publish_delta_ns  u32   publish instant minus ts_recv, saturating at 2**32 - 1
"""

from enum import IntEnum, IntFlag

HEADER_FIELDS: list[tuple[str, str]] = [
    ("stamp", "<i8"),
    ("ts_event", "<i8"),
    ("ts_recv", "<i8"),
    ("instrument_id", "<u2"),
    ("kind", "<u1"),
    ("marks", "<u1"),
    ("publish_delta_ns", "<u4"),
]
HEADER_BYTES = 32


class Kind(IntEnum):
    """What a record is; one byte of its header."""

    TRADE = 1
    QUOTE = 2
    LEVEL = 3
    GAP = 4
    SNAPSHOT_BEGIN = 5
    SNAPSHOT_END = 6
    STATE = 7
    HEARTBEAT = 8
    RESTART = 9
    BOOK = 16
    INSTRUMENT = 17
    FEATURES = 18
    BAR = 19
    ORDER = 32
    CANCEL = 33
    FILL = 34
    POSITION = 35
    RISK_DECISION = 36
    CONTROL = 37
    EXPOSURE = 38
    OPENING = 39
    OWN = 64


class InstrumentState(IntEnum):
    """How far an instrument's book may be trusted; the low two bits of `marks`."""

    SYNCING = 0
    LIVE = 1
    SUSPECT = 2
    STALE = 3


class Mark(IntFlag):
    """The bits of `marks`. BUY marks a bid level or a buying taker, SELL an ask level or a selling taker. Of a TRADE, LATE says
    that it is told out of its time and does not move the last price, VOLUME_ONLY that it counts for volume and never for
    a price; with both it counts for nothing (`layouts.sale_conditions`).
    """

    STATE_MASK = 0x03
    BUY = 0x04
    SELL = 0x08
    SIDE_MASK = 0x0C
    LAST_IN_FRAME = 0x10
    SNAPSHOT = 0x20
    LATE = 0x40
    VOLUME_ONLY = 0x80


def make_marks(
    state: InstrumentState,
    side: int = 0,
    last_in_frame: bool = False,
    snapshot: bool = False,
    late: bool = False,
    volume_only: bool = False,
) -> int:
    """Return the `marks` byte; `side` is +1 (bid, or buying taker), -1 (ask, or selling taker) or 0."""
    if side not in (-1, 0, 1):
        raise ValueError(f"side {side}: +1, -1 or 0 expected")
    bits = int(state)
    if side:
        bits |= Mark.BUY if side > 0 else Mark.SELL
    if last_in_frame:
        bits |= Mark.LAST_IN_FRAME
    if snapshot:
        bits |= Mark.SNAPSHOT
    if late:
        bits |= Mark.LATE
    if volume_only:
        bits |= Mark.VOLUME_ONLY
    return int(bits)
