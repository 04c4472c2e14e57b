"""A layout is accepted only when its bytes are exact: no hole, no misalignment, no treacherous name.

**Why it is right** A hole lets two compilers disagree, a misaligned word tears, and a field named like a
numpy attribute reads the attribute in Python and the field in numba (`a[0].size` is 1 in one and the data in
the other). All three are refused at import, before a byte is shared.

**See** `layouts.c_header` writes the same offsets as C `_Static_assert`s.
"""

import hashlib

import numpy as np

_SCALAR_BYTES = (1, 2, 4, 8)
_NUMPY_ATTRIBUTES = (
    frozenset(dir(np.ndarray)) | frozenset(dir(np.void)) | frozenset(dir(np.recarray))
)


class AbiError(TypeError):
    """A dtype cannot be a layout; the message names the field, the value found and the rule."""


def check_layout(
    name: str, dtype: np.dtype, n_bytes: int, multiple_of: int = 64, record: bool = True
) -> np.dtype:
    """Return `dtype` after proving that it is exactly `n_bytes` long, hole-free and aligned.

    Args:
        name: what to call the layout in an error.
        dtype: a structured dtype.
        n_bytes: exact length that was agreed.
        multiple_of: the length must be a multiple of this many bytes (64: a cache line).
        record: a record's first field is its int64 stamp.

    Raises:
        AbiError: naming the field and the rule that it breaks.
    """
    if dtype.names is None or dtype.fields is None:
        raise AbiError(
            f"layout {name}: {dtype} is not a structured dtype; build it from named fields"
        )
    if record and (dtype.names[0] != "stamp" or dtype.fields["stamp"][0] != np.dtype("<i8")):
        raise AbiError(
            f"layout {name}: first field is {dtype.names[0]!r}; a record opens with 'stamp' as int64"
        )
    position = 0
    for field in dtype.names:
        base, offset = dtype.fields[field][:2]
        _check_field(name, field, base, offset)
        if offset != position:
            raise AbiError(
                f"layout {name}: field {field!r} starts at byte {offset}, {position} expected; "
                "name every padding byte as a field"
            )
        position = offset + base.itemsize
    if position != dtype.itemsize:
        raise AbiError(
            f"layout {name}: {dtype.itemsize - position} unnamed bytes at the end; name them"
        )
    if dtype.itemsize != n_bytes:
        raise AbiError(
            f"layout {name}: {dtype.itemsize} bytes, {n_bytes} agreed; a reader would misread it"
        )
    if n_bytes % multiple_of:
        raise AbiError(f"layout {name}: {n_bytes} bytes is no multiple of {multiple_of}")
    return dtype


def _check_field(layout: str, field: str, base: np.dtype, offset: int) -> None:
    scalar = base.base
    if field in _NUMPY_ATTRIBUTES:
        raise AbiError(
            f"layout {layout}: field {field!r} is also a numpy attribute: numba and Python would read "
            "different things under that name; rename it"
        )
    if scalar.kind == "S":
        return
    if scalar.kind not in "iuf" or scalar.itemsize not in _SCALAR_BYTES:
        raise AbiError(
            f"layout {layout}: field {field!r} has type {scalar}; only i, u, f and S are shared"
        )
    if scalar.kind == "u" and scalar.itemsize == 8:
        raise AbiError(
            f"layout {layout}: field {field!r} is uint64, which numba mixes into float64; use int64"
        )
    if scalar.newbyteorder("<") != scalar:
        raise AbiError(f"layout {layout}: field {field!r} is big-endian; layouts are little-endian")
    if offset % scalar.itemsize:
        raise AbiError(
            f"layout {layout}: field {field!r} at byte {offset} is not aligned to {scalar.itemsize} bytes"
        )


def describe(dtype: np.dtype) -> str:
    """Return the canonical text of a layout: one line a field, `offset name type [count]`, then the length."""
    assert dtype.names is not None and dtype.fields is not None
    lines = []
    for field in dtype.names:
        base, offset = dtype.fields[field][:2]
        count = int(np.prod(base.shape)) if base.shape else 1
        lines.append(f"{offset} {field} {base.base.str} {count}")
    lines.append(f"{dtype.itemsize} end")
    return "\n".join(lines)


def abi_hash(dtype: np.dtype) -> bytes:
    """Return the 128-bit hash of `describe(dtype)` that a region's header carries."""
    return hashlib.blake2b(describe(dtype).encode(), digest_size=16).digest()


def field_diff(ours: str, theirs: str) -> str:
    """Return how two descriptions differ, a line a field: `- ours`, `+ theirs`; empty when equal."""
    left, right = ours.splitlines(), theirs.splitlines()
    gone = [f"- {line}" for line in left if line not in right]
    new = [f"+ {line}" for line in right if line not in left]
    return "\n".join(gone + new)
