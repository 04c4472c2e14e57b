"""Rolling statistics that are as exact after 10**8 updates as after the first: nothing accumulates an error.

**Why it is right** What is an integer (quantities, spreads, mids in ticks) is summed as an integer: sums and sums
of products are 128-bit, a value that leaves the window is subtracted exactly as it was added, and a variance is
the integer n * sum(x**2) - sum(x)**2, rounded once. A log return is made an integer too, in steps of 2**-60 (a
tick of one part in 10**8 is 10**10 such steps); one of 1/4 or more does not fit, and while such a jump is in a
window `deviations` reads the window's mids anew.

**Invariants** (1) A sum of values |x| <= 2**57 over up to 60 rows, and its variance, are exact. (2) Up to 2**60 the
sums stay exact and a variance is rounded from them in float64. (3) A variance is 0 exactly when all values are
equal.

**Cost** One update of a sum and a sum of squares: 1.5 ns (bench_features_kernel).
"""

import math
from typing import Any

from llvmlite import ir
from numba import types

from shm.njit import intrinsic, jit

QTY_LIMIT = 1 << 60
"""Quantities saturate here (and are counted): beyond, 60 squares would leave 128 bits."""
PRICE_LIMIT = 1 << 50
"""Prices saturate here (and are counted), so that every difference and mid is exact in float64."""

RETURN_STEPS = float(1 << 60)
"""A log return of 1 in the integer steps it is summed in."""
RETURN_LIMIT = 0.25
"""A larger log return is a jump: kept out of the integer sums, whose squares it would not fit."""

_I64, _I128 = ir.IntType(64), ir.IntType(128)
_WORD: Any = types.int64
_PAIR: Any = types.UniTuple(_WORD, 2)  # type: ignore[no-untyped-call]
_EXACT_SQUARES_HIGH = 1 << 57
"""High word of 2**121, of which 60 times still fit 128 bits with their sign."""
_TWO_64 = float(1 << 64)
_SMALL_Z = 1.0 / 64.0


def _join(builder: Any, low: Any, high: Any) -> Any:
    shifted = builder.shl(builder.sext(high, _I128), ir.Constant(_I128, 64))
    return builder.or_(shifted, builder.zext(low, _I128))


def _split(context: Any, builder: Any, signature: Any, value: Any) -> Any:
    low = builder.trunc(value, _I64)
    high = builder.trunc(builder.lshr(value, ir.Constant(_I128, 64)), _I64)
    return context.make_tuple(builder, signature.return_type, (low, high))


@intrinsic
def wide_add(_context: Any, _low: Any, _high: Any, _value: Any) -> Any:
    """Return the 128-bit (low, high) + value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = builder.add(_join(builder, *arguments[:2]), builder.sext(arguments[2], _I128))
        return _split(context, builder, signature, wide)

    return _PAIR(_WORD, _WORD, _WORD), generate


@intrinsic
def wide_sum(_context: Any, _low: Any, _high: Any, _more_low: Any, _more_high: Any) -> Any:
    """Return the 128-bit (low, high) + (more_low, more_high)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = builder.add(_join(builder, *arguments[:2]), _join(builder, *arguments[2:]))
        return _split(context, builder, signature, wide)

    return _PAIR(*[_WORD] * 4), generate


@intrinsic
def wide_add_products(
    _context: Any, _low: Any, _high: Any, _a: Any, _b: Any, _old_a: Any, _old_b: Any
) -> Any:
    """Return the 128-bit (low, high) + a * b - old_a * old_b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = _join(builder, *arguments[:2])
        a, b, old_a, old_b = (builder.sext(word, _I128) for word in arguments[2:])
        wide = builder.sub(builder.add(wide, builder.mul(a, b)), builder.mul(old_a, old_b))
        return _split(context, builder, signature, wide)

    return _PAIR(*[_WORD] * 6), generate


@intrinsic
def _wide_cross(
    _context: Any,
    _n: Any,
    _xy_low: Any,
    _xy_high: Any,
    _x_low: Any,
    _x_high: Any,
    _y_low: Any,
    _y_high: Any,
) -> Any:
    """Return n * xy - x * y of 128-bit words, modulo 2**128."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        xy, x, y = (_join(builder, *arguments[i : i + 2]) for i in (1, 3, 5))
        wide = builder.sub(builder.mul(builder.sext(arguments[0], _I128), xy), builder.mul(x, y))
        return _split(context, builder, signature, wide)

    return _PAIR(*[_WORD] * 7), generate


@intrinsic
def _unsigned_float(_context: Any, _word: Any) -> Any:
    """Return an int64's bits as the float of the unsigned number they are."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.uitofp(arguments[0], ir.DoubleType())

    return types.float64(_WORD), generate


@jit(inline="always")
def wide_float(low: int, high: int) -> float:
    """Return a 128-bit integer as float64: one rounding, or two beyond 64 bits."""
    if high == low >> 63:
        return float(low)
    return float(high) * _TWO_64 + float(_unsigned_float(low))


@jit
def variance_numerator(n: int, low: int, high: int, squares_low: int, squares_high: int) -> float:
    """Return n * sum(x**2) - sum(x)**2 as float64, which is n * (n - 1) times the sample variance.

    Exact before its one rounding while squares < 2**121 and n <= 60; beyond that computed in float64, never below 0.
    """
    if squares_high < _EXACT_SQUARES_HIGH:
        low, high = _wide_cross(n, squares_low, squares_high, low, high, low, high)
        return float(wide_float(low, high))
    total: float = wide_float(low, high)
    return max(0.0, float(n * wide_float(squares_low, squares_high)) - total * total)


@jit
def covariance_numerator(
    n: int, xy_low: int, xy_high: int, x: int, y_low: int, y_high: int, squares_high: int
) -> float:
    """Return n * sum(x y) - sum(x) * sum(y) as float64; `squares_high` is the high word of the sum of y**2."""
    if squares_high < _EXACT_SQUARES_HIGH:
        x_high = -1 if x < 0 else 0
        low, high = _wide_cross(n, xy_low, xy_high, x, x_high, y_low, y_high)
        return float(wide_float(low, high))
    return float(n * wide_float(xy_low, xy_high) - float(x) * wide_float(y_low, y_high))


@jit
def log_ratio(a: int, b: int) -> float:
    """Return ln(a / b) of two positive integers below 2**53, to the last bits also where they nearly agree.

    ln(a / b) = 2 artanh((a - b) / (a + b)): the difference is taken before anything is rounded.
    """
    z = float(a - b) / float(a + b)
    if abs(z) < _SMALL_Z:
        zz = z * z
        series = 1.0 / 3.0 + zz * (1.0 / 5.0 + zz * (1.0 / 7.0 + zz * (1.0 / 9.0)))
        return 2.0 * z + 2.0 * z * zz * series
    return math.log(float(a) / float(b))
