"""The rows of own consumers: what each opens with, and which names its fields may have, so that every reader knows the layout.

**Layout** header (32 B; kind OWN), then what caused the row:
    32   source_epoch      i64    epoch of the record that caused it
    40   source_seq        i64    its seq
    48   source_index      u32    which of its rows, from 0
    52   source_count      u32    how many rows it caused
    56   the consumer's own fields, then `zeros` up to a multiple of 64 bytes
"""

from collections.abc import Sequence

import numpy as np

from layouts.abi import AbiError, check_layout
from layouts.header import HEADER_FIELDS
from layouts.scales import wide_columns

OWN_RING = "rows"
"""Second name of the ring of an own consumer: `<consumer>.rows`."""
OWN_FIELDS: list[tuple[str, str]] = [
    *HEADER_FIELDS,
    ("source_epoch", "<i8"),
    ("source_seq", "<i8"),
    ("source_index", "<u4"),
    ("source_count", "<u4"),
]
_ADDED = (
    *("seq", "epoch", "ring", "run", "day", "venue", "symbol", "book_state", "side"),
    *("source_run", "zeros"),
)
"""Columns that frames and history put beside a layout's own."""
_LINE_BYTES = 64


def own_layout(name: str, fields: Sequence[tuple[str, str]]) -> np.dtype:
    """Return the layout of rows with these fields; `name` is what errors call it.

    Raises:
        AbiError: a field is misaligned, twice there, or has a name that readers cannot tell from another one.
    """
    body = [*OWN_FIELDS, *fields]
    seen = {field for field, _ in OWN_FIELDS}
    for field, _ in fields:
        if not (field.isascii() and field.isidentifier()):
            raise AbiError(f"layout {name}: field {field!r} is no name; ASCII letters, digits, `_`")
        if field.lower() in seen:  # SQL takes upper and lower case for one
            raise AbiError(f"layout {name}: field {field!r} is there twice; rename yours")
        if field.lower() in _ADDED:
            raise AbiError(
                f"layout {name}: field {field!r} is a column that readers add to every row; rename yours"
            )
        seen.add(field.lower())
    missing = -np.dtype(body).itemsize % _LINE_BYTES
    pad = [("zeros", f"S{missing}")] if missing else []
    dtype = np.dtype([*body, *pad])
    if both := sorted(seen & {whole.lower() for whole in wide_columns(dtype)}):
        raise AbiError(
            f"layout {name}: field {both[0]!r} is what readers make of its _low and _high; rename yours"
        )
    return check_layout(name, dtype, dtype.itemsize)


def is_own(layout: np.dtype, ring: str) -> bool:
    """Tell whether a ring holds an own consumer's rows, by its name and by what its layout opens with."""
    if ring.partition(".")[2] != OWN_RING:
        return False
    names = (layout.names or ())[: len(OWN_FIELDS)]
    opening = [(name, layout[name].str) for name in names]
    return opening == [(name, np.dtype(code).str) for name, code in OWN_FIELDS]
