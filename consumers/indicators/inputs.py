"""An input is a one-dimensional float64 series and a parameter is in TA-Lib's range, or a ValueError says which is not.

The refusals are TA-Lib's (type, dimensions, lengths, parameter ranges); the messages name the
argument, its value, the limit and the remedy. A series that is not contiguous is copied, as
TA-Lib does; a read-only one is taken as it is. A Series of polars or pandas with numbers is taken
as float64, nulls as NaN, as by TA-Lib; what comes back is an array, which both take as a column.

**Cost.** Some 0.2 us a series when nothing has to be copied.
"""

import math
import operator
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np

from consumers.indicators.jit import Floats

LONGEST_PERIOD = 100_000
LARGEST_REAL = 3e37
MATYPES = {
    0: "SMA",
    1: "EMA",
    2: "WMA",
    3: "DEMA",
    4: "TEMA",
    5: "TRIMA",
    6: "KAMA",
    8: "T3",
}
_MAMA = 7
_FLOAT64 = np.dtype(np.float64)


def series(values: Floats, name: str) -> Floats:
    """Give `values` as a contiguous series of float64."""
    if (
        type(values) is np.ndarray
        and values.dtype is _FLOAT64
        and values.ndim == 1
        and values.flags.c_contiguous
    ):
        return values
    return _made_fit(values, name)


def same_length(first: Floats, *others: Floats) -> None:
    """Refuse series of different lengths."""
    for other in others:
        if len(other) != len(first):
            lengths = [len(first), *map(len, others)]
            raise ValueError(
                f"the input series have different lengths, {lengths}: give one row of each per bar"
            )


def period(value: SupportsIndex, name: str = "timeperiod", least: int = 1) -> int:
    """Give a number of rows, within TA-Lib's range."""
    if type(value) is int and least <= value <= LONGEST_PERIOD:
        return value
    whole = _as_int(value, name)
    if not least <= whole <= LONGEST_PERIOD:
        raise ValueError(
            f"{name} is {whole}, allowed are {least} to {LONGEST_PERIOD} rows: choose one of those"
        )
    return whole


def real_number(value: SupportsFloat, name: str) -> float:
    """Give a finite factor, within TA-Lib's range."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, which is no number: give a float") from None
    if not math.fabs(number) <= LARGEST_REAL:
        raise ValueError(
            f"{name} is {number}, allowed are -{LARGEST_REAL} to {LARGEST_REAL}: give a finite one"
        )
    return number


def average_kind(value: SupportsIndex, name: str = "matype") -> int:
    """Give the number of a moving average, as TA-Lib counts them, of those that matypes.py has."""
    kind = _as_int(value, name)
    if kind not in MATYPES:
        what = " (MAMA, which has no period)" if kind == _MAMA else ""
        offered = ", ".join(f"{number} {each}" for number, each in MATYPES.items())
        raise ValueError(
            f"{name} is {kind}{what}, offered are {offered}: choose one, or smooth the series beforehand"
        )
    return kind


def _as_int(value: SupportsIndex, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        pass
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError(f"{name} is {value!r}, which is no whole number: give an int")


def _made_fit(values: object, name: str) -> Floats:
    if type(values).__name__ == "Series":  # known by its name: neither package is loaded for it
        values = _from_frame(values, name)
    if not isinstance(values, np.ndarray):
        raise ValueError(  # noqa: TRY004 - one kind of refusal for every unfit series
            f"{name} is a {type(values).__name__}, expected a numpy array of float64: "
            "convert it with numpy.asarray(..., dtype=float)"
        )
    if values.dtype != _FLOAT64:
        raise ValueError(
            f"{name} holds {values.dtype}, expected float64: convert it with .astype(float)"
        )
    if values.ndim != 1:
        raise ValueError(
            f"{name} has {values.ndim} dimensions, shape {values.shape}, expected one: "
            "give one column"
        )
    # Also what has another class (a memmap, say) becomes a plain array, without a copy if it can.
    return np.ascontiguousarray(values).view(np.ndarray)


def _from_frame(values: Any, name: str) -> Floats:
    found = np.asarray(values.to_numpy())
    if found.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} is a Series of {values.dtype}, expected numbers: cast it to float64"
        )
    return found.astype(_FLOAT64, copy=False)
