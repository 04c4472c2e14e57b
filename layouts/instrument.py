"""INSTRUMENT: one version of one instrument; a collector's table is a ring of them that is never lapped.

**Layout** header (32 B; kind INSTRUMENT, instrument_id is the id), then
    32   version           i64    1 for the first; a wider scale on the wire opens the next
    40   price_scale       i64    decimals of price on the wire; price integer = price x 10**price_scale
    48   qty_scale         i64    decimals of qty on the wire
    56   tick              i64    smallest price step at price_scale; 0 unknown
    64   lot               i64    smallest quantity step at qty_scale; 0 unknown
    72   multiplier        i64    contract multiplier as integer at multiplier_scale (1 at 0 for spot)
    80   multiplier_scale  i64
    88   depth             i64    subscribed book depth; 0: full
    96   venue             S24    120 symbol S64 (the venue's own string)    184 base S24    208 quote S24
    232  worker            S24    the collector that owns the id
**Invariants** Ids come from the worker's own block, are persisted, and are never reused.
"""

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS

INSTRUMENT_BYTES = 256

INSTRUMENT = check_layout(
    "INSTRUMENT",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("version", "<i8"),
            ("price_scale", "<i8"),
            ("qty_scale", "<i8"),
            ("tick", "<i8"),
            ("lot", "<i8"),
            ("multiplier", "<i8"),
            ("multiplier_scale", "<i8"),
            ("depth", "<i8"),
            ("venue", "S24"),
            ("symbol", "S64"),
            ("base_currency", "S24"),
            ("quote_currency", "S24"),
            ("worker", "S24"),
        ]
    ),
    INSTRUMENT_BYTES,
)
