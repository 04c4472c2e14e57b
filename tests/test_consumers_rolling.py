"""Sums are exact, variances are rounded once, logarithms keep their digits, and nothing drifts."""

import math
import random
from decimal import Decimal, localcontext

import numpy as np
import pytest
from features_market import Tape, walk
from features_reference import reference_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from rolling_hostile import Windows, play_and_look, player_with

from consumers.feature_engine import FeatureEngine
from consumers.feature_state import HISTORY_ROWS, MID, MID_CHANGE, RETURN, SIGNED, SPREAD, VOLUME
from consumers.rolling import (
    QTY_LIMIT,
    covariance_numerator,
    log_ratio,
    variance_numerator,
    wide_add,
    wide_add_products,
    wide_float,
)
from layouts import EVENT
from shm.njit import jit

WORD = 2**64


@jit
def _add_kernel(low: int, high: int, value: int) -> tuple[int, int]:
    return wide_add(low, high, value)  # type: ignore[no-any-return]


@jit
def _products_kernel(words: np.ndarray) -> tuple[int, int]:
    low, high = words[0], words[1]
    return wide_add_products(low, high, words[2], words[3], words[4], words[5])  # type: ignore[no-any-return]


def split(value: int) -> tuple[int, int]:
    """Give a Python integer as signed low and high words."""
    low = value & (WORD - 1)
    return low - WORD if low >> 63 else low, value >> 64


def joined(low: int, high: int) -> int:
    """Give the integer of two words."""
    return int(high) * WORD + (int(low) & (WORD - 1))


words = st.integers(-(2**63), 2**63 - 1)
wides = st.integers(-(2**126), 2**126)
values = st.integers(-(2**57), 2**57)


@settings(deadline=None)
@given(wides, words)
def test_a_wide_sum_is_exact(total: int, value: int) -> None:
    """Carries and borrows go through both words."""
    assert joined(*_add_kernel(*split(total), value)) == total + value


@settings(deadline=None)
@given(st.integers(-(2**120), 2**120), *[st.integers(-QTY_LIMIT, QTY_LIMIT)] * 4)
def test_a_wide_sum_of_products_is_exact(total: int, a: int, b: int, c: int, d: int) -> None:
    """The product that comes and the one that goes."""
    found = joined(*_products_kernel(np.array([*split(total), a, b, c, d], np.int64)))
    assert found == total + a * b - c * d


@settings(deadline=None)
@given(wides)
def test_a_wide_integer_becomes_its_nearest_float(value: int) -> None:
    """One rounding in 64 bits, within one more beyond; small negative numbers keep their digits."""
    found = wide_float(*split(value))
    exact = float(value)
    assert found == exact if abs(value) < 2**63 else abs(found - exact) <= math.ulp(exact)


@settings(deadline=None)
@given(st.lists(values, min_size=2, max_size=60))
def test_a_variance_is_the_exact_integer_rounded_once(window: list[int]) -> None:
    """n sum(x**2) - sum(x)**2, 0 exactly where all are equal."""
    n, total, squares = len(window), sum(window), sum(x * x for x in window)
    found = variance_numerator(n, *split(total), *split(squares))
    assert found == pytest.approx(n * squares - total * total, rel=4e-16)
    assert (found == 0) == (len(set(window)) == 1)


@pytest.mark.parametrize("offset", [2**55 - 1, 2**57 - 1])
def test_sixty_large_values_that_differ_by_one_have_their_variance(offset: int) -> None:
    """Up to 2**57 it is exact, where float64 would say 0."""
    window = [offset + i % 2 for i in range(60)]
    found = variance_numerator(60, *split(sum(window)), *split(sum(x * x for x in window)))
    assert found == 60 * 30 - 30 * 30


def test_a_variance_beyond_the_exact_range_is_near() -> None:
    """Values up to the limit: float64 arithmetic, never below 0."""
    rng = random.Random(3)
    window = [rng.randrange(-QTY_LIMIT, QTY_LIMIT) for _ in range(60)]
    total, squares = sum(window), sum(x * x for x in window)
    found = variance_numerator(60, *split(total), *split(squares))
    assert found == pytest.approx(60 * squares - total * total, rel=1e-12)
    same = [QTY_LIMIT - 1] * 60
    assert variance_numerator(60, *split(sum(same)), *split(sum(x * x for x in same))) >= 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**51), 2**51), values), min_size=2, max_size=60))
def test_a_covariance_is_the_exact_integer_rounded_once(pairs: list[tuple[int, int]]) -> None:
    """n sum(xy) - sum(x) sum(y)."""
    n, xs, ys = len(pairs), sum(x for x, _ in pairs), sum(y for _, y in pairs)
    products, squares = sum(x * y for x, y in pairs), sum(y * y for _, y in pairs)
    found = covariance_numerator(n, *split(products), xs, *split(ys), split(squares)[1])
    assert found == pytest.approx(n * products - xs * ys, rel=4e-16)


@settings(deadline=None)
@given(st.integers(1, 2**52), st.integers(-100, 100))
def test_a_logarithm_keeps_its_digits_where_its_terms_nearly_agree(a: int, step: int) -> None:
    """Also for neighbours, where ln a - ln b has lost them."""
    b = max(1, a + step)
    with localcontext() as context:
        context.prec = 60
        exact = (Decimal(a) / Decimal(b)).ln()
    assert log_ratio(a, b) == pytest.approx(float(exact), rel=4e-15, abs=0.0)


@pytest.mark.parametrize(("a", "b"), [(1, 2**50), (2**50, 1), (65, 63), (129, 125), (64, 62)])
def test_logarithms_on_both_sides_of_the_series_limit(a: int, b: int) -> None:
    """The series and the library's logarithm meet."""
    with localcontext() as context:
        context.prec = 60
        exact = (Decimal(a) / Decimal(b)).ln()
    assert log_ratio(a, b) == pytest.approx(float(exact), rel=1e-14, abs=0.0)


def assert_sums_are_those_of_the_history(engine: FeatureEngine) -> None:
    """Every running sum equals the sum of what its window holds, to the last bit."""
    state = engine._states[0]
    k = int(state["rows"]) - 1
    history = state["history"].astype(object)

    def window(n: int, column: int) -> list[int]:
        return [int(history[(k - i) % HISTORY_ROWS][column]) for i in range(n)]

    def wide(name: str) -> int:
        return joined(state[f"{name}_low"], state[f"{name}_high"])

    assert int(state["mid_20"]) == sum(window(20, MID))
    assert int(state["spread_20"]) == sum(window(20, SPREAD))
    for n, name, column in (
        (20, "volume_20", VOLUME),
        (60, "volume_60", VOLUME),
        (60, "spread_60", SPREAD),
        (20, "return_20", RETURN),
        (60, "return_60", RETURN),
        (60, "signed_60", SIGNED),
    ):
        assert wide(name) == sum(window(n, column)), name
    for n, name, column in (
        (20, "return_squares_20", RETURN),
        (60, "return_squares_60", RETURN),
        (60, "volume_squares_60", VOLUME),
        (60, "spread_squares_60", SPREAD),
        (60, "signed_squares_60", SIGNED),
    ):
        assert wide(name) == sum(x * x for x in window(n, column)), name
    pairs = zip(window(60, MID_CHANGE), window(60, SIGNED), strict=True)
    assert wide("impact_60") == sum(change * signed for change, signed in pairs)


def long_run(rows: int) -> None:
    """Play a market over and over for `rows` rows, then hold sums and columns against a fresh computation."""
    tape = Tape()
    walk(tape, (1,), 3000, 21)
    records = tape.records()
    engine = FeatureEngine(lambda _id, _version: (2, 3))
    made = 0
    while made < rows:
        made += len(engine.process(records))
    assert_sums_are_those_of_the_history(engine)
    last = engine.process(records)
    fresh = FeatureEngine(lambda _id, _version: (2, 3)).process(records)
    windows = ("vol_20", "vol_60", "volume_zscore", "spread_zscore", "kyle_lambda", "ofi_mean")
    for name in (*windows, "price_deviation", "trade_intensity", "depth_imbalance_50", "return_60"):
        np.testing.assert_array_equal(last[name][-100:], fresh[name][-100:], name)


def test_after_half_a_million_rows_every_sum_is_exact() -> None:
    """And every column of a window is, bit for bit, what a fresh engine computes."""
    long_run(500_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_after_a_hundred_million_rows_every_sum_is_exact() -> None:
    """The full figure."""
    long_run(100_000_000)


def test_after_two_million_hostile_rows_every_window_is_exact() -> None:
    """Large offsets with small noise, flipping sides, bursts and jumps leave nothing behind, looked at 32 times."""
    assert play_and_look(Windows(), 2_000_000) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_after_a_hundred_million_hostile_rows_every_window_is_exact() -> None:
    """The full figure."""
    assert play_and_look(Windows(), 100_000_000) == []


@pytest.mark.parametrize(
    ("defect", "drifted"), [("squares", "volume_squares_60"), ("sums", "volume_60")]
)
def test_a_running_sum_in_float64_is_found(defect: str, drifted: str) -> None:
    """What the exact sums are for: one burst, and a plain sum is wrong for good."""
    windows = Windows(player_with(defect))
    wrong = play_and_look(windows, 50_000, looks=1)
    calm = [finding for finding in wrong if f"after {windows.rows} rows: " in finding]
    assert any(drifted in finding for finding in calm)
    assert any("volume_zscore" in finding for finding in calm)


def test_the_reference_knows_the_same_rows() -> None:
    """The two are compared over the same number of rows, so neither can hide one."""
    tape = Tape()
    walk(tape, (1,), 50, 2)
    records = tape.records()
    assert records.dtype == EVENT
    rows = FeatureEngine(lambda _id, _version: (2, 3)).process(records)
    assert len(rows) == len(reference_rows(records, lambda _each: (2, 3)))
