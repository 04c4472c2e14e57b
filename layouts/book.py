"""BOOK: the 50 best levels a side of one instrument, for viewers and storage, at most one a frame.

**Layout** header (32 B), then
    32    event_epoch         i64        epoch and
    40    event_seq           i64        seq of the EVENT record after which this book held
    48    bid_levels          u32        levels filled, from the best; the rest is zero
    52    ask_levels          u32
    56    instrument_version  i64
    64    bid_price           i64 x 50   best first, at the instrument's scale
    464   bid_qty             i64 x 50
    864   ask_price           i64 x 50
    1264  ask_qty             i64 x 50
1,664 bytes: 13 x 128, not padded to a power of two (2,048 would put every stamp into two cache sets).
"""

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS

BOOK_DEPTH = 50
BOOK_BYTES = 1664

BOOK = check_layout(
    "BOOK",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("event_epoch", "<i8"),
            ("event_seq", "<i8"),
            ("bid_levels", "<u4"),
            ("ask_levels", "<u4"),
            ("instrument_version", "<i8"),
            ("bid_price", "<i8", (BOOK_DEPTH,)),
            ("bid_qty", "<i8", (BOOK_DEPTH,)),
            ("ask_price", "<i8", (BOOK_DEPTH,)),
            ("ask_qty", "<i8", (BOOK_DEPTH,)),
        ]
    ),
    BOOK_BYTES,
)
