"""EVENT: the 64-byte record of a collector's ring, in nine kinds that share one set of bytes.

**Layout** header (32 B, `layouts.header`), then four int64 words whose meaning depends on `kind`:
    TRADE           price, qty, trade_id, venue_seq                 marks: taker side
    QUOTE           bid_price, bid_qty, ask_price, ask_qty          our own book's top after a frame that changed it
    LEVEL           price, qty, venue_seq, frame_no                 marks: book side; qty 0 deletes the level
    GAP             venue_from, venue_to, frames_lost, reason       reason: `GapReason`
    SNAPSHOT_BEGIN  levels, depth, instrument_version, frame_no     consumers clear their book here
    SNAPSHOT_END    bid_levels, ask_levels, instrument_version, frame_no
    STATE           state, reason, instrument_version, frame_no     `InstrumentState`, `StateReason`
    HEARTBEAT       beat_no, 0, 0, 0                                 instrument_id 0
    RESTART         epoch, previous_epoch, frames_abandoned, 0      instrument_id 0; first record of an epoch
Prices and quantities are int64 at the instrument's own scale (`layouts.instrument`).

**Invariants** (1) The last record of a frame carries LAST_IN_FRAME; books are consistent only there.
(2) A snapshot replaces, it never merges. (3) Every view below has EVENT's length and header.
"""

from enum import IntEnum

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS, Kind

EVENT_BYTES = 64


def _event(name: str, *words: str) -> np.dtype:
    return check_layout(
        name, np.dtype(HEADER_FIELDS + [(word, "<i8") for word in words]), EVENT_BYTES
    )


EVENT = _event("EVENT", "word_0", "word_1", "word_2", "word_3")
TRADE = _event("TRADE", "price", "qty", "trade_id", "venue_seq")
QUOTE = _event("QUOTE", "bid_price", "bid_qty", "ask_price", "ask_qty")
LEVEL = _event("LEVEL", "price", "qty", "venue_seq", "frame_no")
GAP = _event("GAP", "venue_from", "venue_to", "frames_lost", "reason")
SNAPSHOT_BEGIN = _event("SNAPSHOT_BEGIN", "levels", "depth", "instrument_version", "frame_no")
SNAPSHOT_END = _event("SNAPSHOT_END", "bid_levels", "ask_levels", "instrument_version", "frame_no")
STATE = _event("STATE", "state", "reason", "instrument_version", "frame_no")
HEARTBEAT = _event("HEARTBEAT", "beat_no", "zero_1", "zero_2", "zero_3")
RESTART = _event("RESTART", "epoch", "previous_epoch", "frames_abandoned", "zero_3")

EVENT_VIEWS: dict[Kind, np.dtype] = {
    Kind.TRADE: TRADE,
    Kind.QUOTE: QUOTE,
    Kind.LEVEL: LEVEL,
    Kind.GAP: GAP,
    Kind.SNAPSHOT_BEGIN: SNAPSHOT_BEGIN,
    Kind.SNAPSHOT_END: SNAPSHOT_END,
    Kind.STATE: STATE,
    Kind.HEARTBEAT: HEARTBEAT,
    Kind.RESTART: RESTART,
}
"""The view to take of an EVENT record of each kind: `records[records["kind"] == Kind.TRADE].view(TRADE)`."""


class GapReason(IntEnum):
    """Why a GAP record was written."""

    CHECKSUM = 1
    SEQUENCE = 2
    DISCONNECT = 3
    REFUSED_FRAME = 4
    SILENCE = 5
    COLLECTOR_RESTART = 6
    LAPPED = 7
    ANNOUNCED = 8  # the venue said that it would close the link, which was opened anew


class StateReason(IntEnum):
    """Why an instrument's state changed."""

    SUBSCRIBED = 1
    SNAPSHOT = 2
    CHECKSUM = 3
    SEQUENCE = 4
    DISCONNECT = 5
    REFUSED_FRAME = 6
    SILENCE = 7
    RESTART = 8
    UNSUBSCRIBED = 9
    VENUE_REFUSED = 10
    NEW_VERSION = 11
