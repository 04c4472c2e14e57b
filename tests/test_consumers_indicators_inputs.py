"""What cannot be computed is refused with the argument, its value, the limit and the remedy; nothing crashes."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from indicator_cases import Bars, market

from consumers.indicators import INDICATORS, all_indicators, bollinger, macd, sma, stochastic

NAMES = list(INDICATORS)
PERIODIC = [name for name in NAMES if name not in {"macd", "stochastic", "obv"}]


def run(name: str, found: Bars, *parameters: Any) -> Any:
    """Call an indicator over bars."""
    return INDICATORS[name].batch(*(found[i] for i in INDICATORS[name].inputs), *parameters)


def replaced(found: Bars, name: str, values: Any) -> Bars:
    """Give the bars with one series changed."""
    return found | {name: values}


UNFIT: list[tuple[Any, str]] = [
    (np.ones(40, dtype=np.float32), "float32"),
    (np.ones(40, dtype=np.int64), "int64"),
    (np.ones(40, dtype=">f8"), ">f8"),
    (np.ones((40, 1)), "2 dimensions"),
    (np.array(1.0), "0 dimensions"),
    ([1.0] * 40, "list"),
    (None, "NoneType"),
    ("x", "str"),
]


@pytest.mark.parametrize("name", NAMES)
def test_an_unfit_series_is_refused_by_name(name: str) -> None:
    """Each input of each indicator: the message names it, what it is, and what to do."""
    for wrong in INDICATORS[name].inputs:
        for values, told in UNFIT:
            with pytest.raises(ValueError, match=rf"^{wrong} .*{told}.*expected.*: "):
                run(name, replaced(market(40, seed=1), wrong, values))


@pytest.mark.parametrize("name", [n for n in NAMES if len(INDICATORS[n].inputs) > 1])
def test_different_lengths_are_refused(name: str) -> None:
    """One row too few in any of the inputs."""
    for wrong in INDICATORS[name].inputs:
        found = market(40, seed=1)
        with pytest.raises(ValueError, match=r"different lengths.*39.*: give one row"):
            run(name, replaced(found, wrong, found[wrong][1:]))


@pytest.mark.parametrize("name", PERIODIC)
def test_a_period_out_of_range_is_refused_everywhere(name: str) -> None:
    """Batch and state refuse alike."""
    wrong: list[Any] = [-1, 100_001, 2**40, 2.5, "14", None, math.nan]
    for value in wrong:
        with pytest.raises(ValueError, match=r"^timeperiod is .*: "):
            run(name, market(40, seed=1), value)
        with pytest.raises(ValueError, match=r"^timeperiod is .*: "):
            INDICATORS[name].state(value)


@pytest.mark.parametrize("name", PERIODIC)
def test_the_longest_period_is_allowed(name: str) -> None:
    """100000 rows of window over fewer rows of input: all NaN (but a VWAP), and no crash."""
    values = run(name, market(40, seed=1), 100_000)
    for array in values if isinstance(values, tuple) else (values,):
        assert np.isnan(array).all()


def test_periods_of_other_kinds_of_int_are_taken() -> None:
    """A numpy integer and a float without a fraction are whole numbers."""
    close = market(40, seed=1)["close"]
    for period in (np.int32(5), np.uint8(5), 5.0):
        np.testing.assert_array_equal(sma(close, period), sma(close, 5))  # type: ignore[arg-type]


def test_each_period_is_named() -> None:
    """Where there are several the message says which one is wrong."""
    found = market(40, seed=1)
    with pytest.raises(ValueError, match=r"^signalperiod is 0"):
        macd(found["close"], 12, 26, 0)
    with pytest.raises(ValueError, match=r"^slowd_period is 0"):
        stochastic(found["high"], found["low"], found["close"], slowd_period=0)
    bars = found["high"], found["low"], found["close"]
    with pytest.raises(ValueError, match=r"^slowk_matype is 9, offered are 0 SMA, .*, 8 T3: "):
        stochastic(*bars, slowk_matype=9)
    with pytest.raises(ValueError, match=r"^slowd_matype is 7 \(MAMA, which has no period\)"):
        stochastic(*bars, slowd_matype=7)
    for make in (INDICATORS["bollinger"].state, lambda *p: bollinger(found["close"], *p)):
        with pytest.raises(ValueError, match=r"^matype is 7 \(MAMA, which has no period\)"):
            make(20, 2.0, 2.0, 7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [0, 1, 2])
def test_empty_and_tiny_series_are_computed(name: str, length: int) -> None:
    """As many rows out as in; the input is left as it was."""
    found = market(length, seed=1)
    before = {n: values.copy() for n, values in found.items()}
    values = run(name, found)
    for array in values if isinstance(values, tuple) else (values,):
        assert array.shape == (length,)
        assert array.dtype == np.float64
    for n, array in found.items():
        np.testing.assert_array_equal(array, before[n])


@pytest.mark.parametrize("name", NAMES)
def test_all_nan_is_all_nan(name: str) -> None:
    """No number in, no number out."""
    nothing = np.full(60, math.nan)
    values = run(name, dict.fromkeys(("high", "low", "close", "volume", "real"), nothing))
    for array in values if isinstance(values, tuple) else (values,):
        assert np.isnan(array).all()


@pytest.mark.parametrize("name", NAMES)
def test_strided_and_mapped_series_are_taken(name: str, tmp_path: Any) -> None:
    """Every second row of an array, and an array in a file, are series like any other."""
    found = market(120, seed=6)
    wanted = run(name, found)
    strided = {n: np.repeat(values, 2)[::2] for n, values in found.items()}
    assert not strided["close"].flags.c_contiguous
    # Copy on write: a read-only mapping would compile every kernel a second time.
    mapped = {}
    for n, values in found.items():
        np.save(tmp_path / n, values)
        mapped[n] = np.load(tmp_path / f"{n}.npy", mmap_mode="c")
    for other in (strided, mapped):
        np.testing.assert_array_equal(run(name, other), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_series_of_polars_or_pandas_is_taken(name: str) -> None:
    """Numbers of any type, nulls as NaN; an array comes back."""
    found = market(120, seed=6)
    wanted = run(name, found)
    for make in (pl.Series, pd.Series):
        taken = run(name, {n: make(values) for n, values in found.items()})
        np.testing.assert_array_equal(taken, wanted)
    whole = sma(np.array([math.nan, 1.0, 2.0, 3.0]), 2)
    np.testing.assert_array_equal(sma(pl.Series([None, 1, 2, 3]), 2), whole)
    np.testing.assert_array_equal(sma(pd.Series([None, 1, 2, 3]), 2), whole)


@pytest.mark.parametrize("values", [["1.5"], [True], [datetime(2026, 1, 2)]])
def test_a_series_without_numbers_is_refused(values: list[Any]) -> None:
    """Text, truth values and times are no prices, also where numpy could make numbers of them."""
    for make in (pl.Series, pd.Series):
        with pytest.raises(ValueError, match=r"^real is a Series of .*expected numbers: cast"):
            sma(make(values), 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38, "x", None])
def test_a_factor_that_is_not_finite_is_refused(value: Any) -> None:
    """Each factor is named."""
    close = market(40, seed=1)["close"]
    for name, parameters, told in (
        ("rolling_std", (5, value), "nbdev"),
        ("bollinger", (5, value, 2.0), "nbdevup"),
        ("bollinger", (5, 2.0, value), "nbdevdn"),
        ("keltner", (5, value), "multiplier"),
    ):
        with pytest.raises(ValueError, match=rf"^{told} is .*: "):
            run(name, {**market(40, seed=1), "real": close}, *parameters)


def test_all_indicators_refuses_like_each_of_them() -> None:
    """The same messages, before anything is computed."""
    found = market(40, seed=1)
    bars = [found[n] for n in ("high", "low", "close", "volume")]
    with pytest.raises(ValueError, match=r"^volume holds int64"):
        all_indicators(*bars[:3], bars[3].astype(int))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"different lengths"):
        all_indicators(*bars[:3], bars[3][1:])


def test_prices_without_a_logarithm_have_no_log_return() -> None:
    """Zero and negative prices give NaN, and nothing warns."""
    found = run("log_returns", {"close": np.array([1.0, 0.0, 2.0, -1.0, -2.0, 3.0, 6.0])})
    assert np.flatnonzero(~np.isnan(found)).tolist() == [6]
    assert found[6] == math.log(2.0)
