"""What every kernel of the indicators is made with: one way to compile, one fused multiply-add, one first row.

Kernels compile at their first call and are kept on disk under a hash of their sources
(shm/njit.py), so that importing the package compiles nothing. No fast-math flag is set: a sum is
added in the order in which it is written, so a batch loop and a streaming step that share an
expression share its every bit. `fma` is the one place where a product is not rounded before it is
added, and it says so by name.

**Why it is right.** LLVM neither reorders nor contracts float operations without fast-math flags;
`llvm.fma` is correctly rounded whether the machine has the instruction or a library call does it.

**Cost.** A kernel call from Python costs some 0.3 us, a step called from compiled code nothing
beyond its own arithmetic.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.np import arrayobj

from shm.njit import intrinsic, jit

Floats = npt.NDArray[np.float64]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What these hold has no types of its own.
_types: Any = numba.types
_make_array: Any = arrayobj.make_array


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile at the first call, for the types of that call, and keep the result on disk."""
    compiled: Callable[_P, _R] = jit(function)
    return compiled


def part(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile as a part of the kernels that call it: inlined, its arguments kept in registers."""
    compiled: Callable[_P, _R] = jit(function, forceinline=True)
    return compiled


def _fma(_context: Any, factor: Any, other: Any, addend: Any) -> Any:  # noqa: ARG001
    signature = _types.float64(*[_types.float64] * 3)

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return signature, generate


# factor * other + addend, rounded once. As the next value of a recursion it costs one latency
# where a product and a sum cost two, and a constant input stays a fixed point.
fma = cast("Callable[[float, float, float], float]", intrinsic(_fma))


def _pointer(_context: Any, array: Any) -> Any:
    # Anything else is a typing error: strides would be ignored, and read-only memory written.
    fits = isinstance(array, numba.types.Array) and array.ndim == 1 and array.layout == "C"
    if not fits or array.dtype != _types.float64 or not array.mutable:
        return None
    signature = _types.CPointer(array.dtype)(array)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _make_array(signature.args[0])(context, builder, values[0]).data

    return signature, generate


# The memory of a contiguous, writable array of float64, for the parts of a step: it is indexed
# alike, but is not counted. Counting references, an atomic operation at each border of a part,
# would cost more than the arithmetic.
pointer = cast("Callable[[Floats], Floats]", intrinsic(_pointer))


@part
def first_row_1(a: Floats) -> int:
    """Give the first row that is a number, or the length where there is none."""
    row = 0
    while row < len(a) and np.isnan(a[row]):
        row += 1
    return row


@part
def first_row_2(a: Floats, b: Floats) -> int:
    """Give the first row in which both series are numbers, or the length where there is none."""
    row = 0
    while row < len(a) and (np.isnan(a[row]) or np.isnan(b[row])):
        row += 1
    return row


@part
def first_row_3(a: Floats, b: Floats, c: Floats) -> int:
    """Give the first row in which all three series are numbers, or the length."""
    row = 0
    while row < len(a) and (np.isnan(a[row]) or np.isnan(b[row]) or np.isnan(c[row])):
        row += 1
    return row


@part
def fill_nan(out: Floats, stop: int) -> None:
    """Mark the rows before `stop`, or all where there are fewer, as not ready."""
    for row in range(min(stop, len(out))):
        out[row] = np.nan


@part
def first_row_4(a: Floats, b: Floats, c: Floats, d: Floats) -> int:
    """Give the first row in which all four series are numbers, or the length."""
    row = 0
    while row < len(a) and (
        np.isnan(a[row]) or np.isnan(b[row]) or np.isnan(c[row]) or np.isnan(d[row])
    ):
        row += 1
    return row
