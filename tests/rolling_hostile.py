"""Rows that make running sums drift, played into the windows of one instrument, and what those windows must then hold.

`row_at(k)` is a function of k alone, the same in Python and jitted: so after any number of updates the last rows are made
anew here and added up from nothing, in integers, decimal logarithms and `math.fsum`.

Hostile is: prices at an offset of 1e9 that move by single ticks, sides that flip with every row, quantities of 1 after
bursts of 2**57, a spread that does likewise, jumps of the price to twice its height and back.
"""

import itertools
import math
import types
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numba import njit

from consumers import feature_windows
from consumers.feature_state import new_states
from consumers.feature_windows import (
    enter_row,
    enter_trade,
    write_flows,
    write_returns,
    write_spreads,
    write_volumes,
)
from consumers.rolling import wide_float
from layouts import FEATURES
from shm.njit import jit

_PERIOD = 4096
"""Rows of one round: calm, burst of quantities, calm, jumps of the price, calm."""
CALM_AFTER_BURST, IN_BURST, CALM_AFTER_JUMPS, IN_JUMPS = 1100, 900, 2300, 2040
"""Where in a round it is worth looking: each next to what could have left an error behind."""
_OFFSET = 2_000_000_000
_HUGE = (1 << 57) - 1
_DAY_NS = 86_400_000_000_000
_TWO_64 = 2.0**64
_WORD = 1 << 64
_STEP = 2.0**-60
"""What rounding a log return to its integer may change."""


@jit
def row_at(k: int) -> tuple[int, int, int, int, int]:
    """Return volume, signed quantity, mid (bid + ask), spread and order flow of row k."""
    noise = (k * 2_654_435_761 + 12_345) % 4_294_967_291
    phase = k % _PERIOD
    side = 1 if k % 2 == 0 else -1
    volume = 1 + noise % 3
    mid = _OFFSET + noise // 7 % 5
    spread = 1 + noise // 11 % 2
    if 800 <= phase < 1000:
        volume = _HUGE - noise % 1000
        spread = (1 << 49) - noise % 1000
    if 2000 <= phase < 2200 and noise % 13 == 0:
        mid = 2 * mid
    return volume, side * volume, mid, spread, -side * (volume - noise % 2)


@jit
def play_rows(states: Any, first: int, end: int, day_halves: Any) -> None:
    """Enter rows first .. end - 1; `day_halves` sums the order flow of the day in two halves, as a check of its own."""
    st = states[0]
    for k in range(first, end):
        volume, signed, mid, spread, ofi = row_at(k)
        ts = 1_000_000 * k
        if ts % _DAY_NS == 0:
            day_halves[0] = day_halves[1] = 0
        day_halves[0] += ofi >> 32
        day_halves[1] += ofi & 0xFFFFFFFF
        if st.first_mid < 0:
            st.first_mid = k
        enter_trade(st, signed)
        enter_row(st, ts, 1, volume, signed, mid, spread, ofi)
        st.rows = k + 1


@jit
def write_columns(states: Any, rows: Any, volume: int, spread: int, ofi: int) -> None:
    """Compute the columns of the last row."""
    st, row = states[0], rows[0]
    write_volumes(st, row, st.rows - 1, volume)
    write_returns(st, row, st.rows - 1)
    write_spreads(st, row, spread)
    write_flows(st, row, st.rows - 1, ofi)


@jit
def _float_products(low: int, high: int, a: int, b: int, old_a: int, old_b: int) -> tuple[int, int]:
    """Move a sum of products on in float64: the defect that the exact sums are there to avoid."""
    total = wide_float(low, high) + float(a) * float(b) - float(old_a) * float(old_b)
    over = math.floor(total / _TWO_64)
    rest = total - over * _TWO_64
    if rest >= _TWO_64 / 2.0:
        return int(rest - _TWO_64), int(over)
    return int(rest), int(over)


@jit
def _float_add(low: int, high: int, value: int) -> tuple[int, int]:
    """Move a sum on in float64."""
    return _float_products(low, high, value, 1, 0, 0)


def player_with(defect: str) -> Callable[..., None]:
    """Return `play_rows` over windows whose sums, `squares` or `sums`, run on in plain float64."""
    name, instead = {
        "squares": ("wide_add_products", _float_products),
        "sums": ("wide_add", _float_add),
    }[defect]
    moves = {
        move: _rebuilt(getattr(feature_windows, move), {name: instead})
        for move in ("_move_sums_20", "_move_sums_60")
    }
    return _rebuilt(play_rows, {"enter_row": _rebuilt(enter_row, moves)})


def _rebuilt(kernel: Any, names: dict[str, Any]) -> Any:
    """Compile a kernel's Python function once more, with other functions under some of the names that it calls."""
    source = kernel.py_func
    assert set(names) <= set(source.__code__.co_names), f"{source.__name__} does not call {names}"
    copy = types.FunctionType(source.__code__, source.__globals__ | names, source.__name__)
    return njit(error_model="numpy")(copy)


class Windows:
    """One instrument that is played rows, and what is wrong with it."""

    def __init__(self, player: Callable[..., None] = play_rows) -> None:
        self._player = player
        self._states = new_states(1)
        self._states["price_unit"] = self._states["qty_unit"] = 1.0
        self._day_halves = np.zeros(2, np.int64)
        self.rows = 0

    def play_to(self, end: int) -> None:
        """Enter rows until there are `end`."""
        self._player(self._states, self.rows, end, self._day_halves)
        self.rows = end

    def findings(self) -> list[str]:
        """Return the names of the sums and columns that are not what their windows hold."""
        last = [row_at.py_func(k) for k in range(self.rows - 2000, self.rows)]
        wrong = self._wrong_sums(last)
        volume, _, _, spread, ofi = last[-1]
        made = np.zeros(1, FEATURES)
        write_columns(self._states, made, volume, spread, ofi)
        for name, (value, rel, abs_) in self._columns(last).items():
            found = float(made[name][0])
            if not math.isclose(found, value, rel_tol=rel, abs_tol=abs_):
                wrong.append(f"{name} {found!r}, exactly {value!r}")
        return wrong

    def _wrong_sums(self, last: list[tuple[int, ...]]) -> list[str]:
        st = self._states[0]
        volume, signed, mid, spread, ofi = (list(column) for column in zip(*last, strict=True))
        change = [b - a for a, b in itertools.pairwise(mid)]
        day = int(self._day_halves[0]) * 2**32 + int(self._day_halves[1])
        wide = {
            "volume_20": sum(volume[-20:]),
            "volume_60": sum(volume[-60:]),
            "volume_squares_60": sum(x * x for x in volume[-60:]),
            "spread_60": sum(spread[-60:]),
            "spread_squares_60": sum(x * x for x in spread[-60:]),
            "ofi_20": sum(ofi[-20:]),
            "ofi_day": day,
            "signed_60": sum(signed[-60:]),
            "signed_squares_60": sum(x * x for x in signed[-60:]),
            "impact_60": sum(a * b for a, b in zip(change[-60:], signed[-60:], strict=True)),
            "signed_trades": sum(signed[-60:]),
            "sided_trades": sum(abs(x) for x in signed[-60:]),
        }
        found = {
            name: int(st[f"{name}_high"]) * _WORD + (int(st[f"{name}_low"]) & (_WORD - 1))
            for name in wide
        }
        plain = {"mid_20": sum(mid[-20:]), "spread_20": sum(spread[-20:]), "trades_60": 60}
        found |= {name: int(st[name]) for name in plain}
        return [
            f"{name} {found[name]}, exactly {value}"
            for name, value in (wide | plain).items()
            if found[name] != value
        ]

    def _columns(self, last: list[tuple[int, ...]]) -> dict[str, tuple[float, float, float]]:
        """Return each column's exact value with the relative and absolute error that its roundings allow."""
        volume, signed, mid, spread, ofi = (list(column) for column in zip(*last, strict=True))
        change = [b - a for a, b in itertools.pairwise(mid)]
        with localcontext() as context:
            context.prec = 50
            recent = zip(mid[-61:], mid[-60:], strict=False)
            returns = [(Decimal(b) / Decimal(a)).ln() for a, b in recent]
            exact = {
                "vol_20": _std(returns[-20:]),
                "vol_60": _std(returns),
                "volume_zscore": _zscore(volume[-60:]),
                "spread_zscore": _zscore(spread[-60:]),
                "kyle_lambda": _slope(change[-60:], signed[-60:]) / 2,
                "price_deviation": Decimal(20 * mid[-1] - sum(mid[-20:])) / sum(mid[-20:]),
                "ofi_mean": Decimal(sum(ofi[-20:])) / 20,
                "volume_ma_ratio": Decimal(20 * volume[-1]) / sum(volume[-20:]),
                "spread_ma_ratio": Decimal(20 * spread[-1]) / sum(spread[-20:]),
                "return_60": (Decimal(mid[-1]) / Decimal(mid[-61])).ln(),
            }
        columns = {name: (float(value), 1e-13, 0.0) for name, value in exact.items()}
        for name in ("vol_20", "vol_60"):
            columns[name] = (columns[name][0], 1e-13, _STEP)
        weight = 13.0 / 14.0
        ups = math.fsum(max(c, 0) * weight**j for j, c in enumerate(reversed(change)))
        downs = math.fsum(max(-c, 0) * weight**j for j, c in enumerate(reversed(change)))
        return columns | {"rsi": (100.0 * ups / (ups + downs), 1e-13, 0.0)}


def _std(values: list[Decimal]) -> Decimal:
    mean = sum(values, Decimal(0)) / len(values)
    return (sum(((x - mean) ** 2 for x in values), Decimal(0)) / (len(values) - 1)).sqrt()


def _zscore(values: list[int]) -> Decimal:
    exact = [Decimal(x) for x in values]
    std = _std(exact)
    return (exact[-1] - sum(exact, Decimal(0)) / len(exact)) / std if std else Decimal(0)


def _slope(changes: list[int], signed: list[int]) -> Decimal:
    n, x, y = len(signed), sum(changes), sum(signed)
    covariance = n * sum(a * b for a, b in zip(changes, signed, strict=True)) - x * y
    return Decimal(covariance) / Decimal(n * sum(b * b for b in signed) - y * y)


def play_and_look(windows: Windows, rows: int, looks: int = 8) -> list[str]:
    """Play `rows` rows, looking after bursts, inside them and far from them, `looks` rounds long; return what was wrong."""
    wrong = []
    for round_no in range(1, looks + 1):
        begin = rows * round_no // looks // _PERIOD * _PERIOD
        for phase in (IN_BURST, CALM_AFTER_BURST, IN_JUMPS, CALM_AFTER_JUMPS):
            windows.play_to(begin + phase)
            wrong += [f"after {windows.rows} rows: {finding}" for finding in windows.findings()]
    return wrong
