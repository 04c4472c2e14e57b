"""Rolling sums are as accurate after millions of rows, and after a value a trillion times too large, as at first."""

import math
from typing import Any

import indicator_definitions as plain
import numba
import numpy as np
import numpy.typing as npt
import pytest
from indicator_cases import bars

from consumers.indicators import INDICATORS, Indicator
from consumers.indicators.sums import renewal_blocks

Floats = npt.NDArray[np.float64]

LENGTH = 30
# Parameters, the plain definition, and how many rows it needs for the last value.
LONG: dict[str, tuple[tuple[Any, ...], Any, int]] = {
    "sma": ((LENGTH,), plain.sma, LENGTH),
    # 60 periods on, a seed weighs e^-120.
    "ema": ((LENGTH,), plain.ema, 60 * LENGTH),
    "rsi": ((LENGTH,), plain.rsi, 60 * LENGTH),
    "atr": ((LENGTH,), plain.atr, 60 * LENGTH),
    "rolling_std": ((LENGTH,), plain.rolling_std, LENGTH),
    "bollinger": ((LENGTH, 2.0, 2.0), plain.bollinger, LENGTH),
    "stochastic": ((9, 3, 0, 3, 0), plain.stochastic, 13),
    "vwap": ((LENGTH,), plain.vwap, LENGTH),
    "mfi": ((LENGTH,), plain.mfi, LENGTH + 1),
    "cci": ((LENGTH,), plain.cci, LENGTH),
}


def last_values(name: str, found: dict[str, Floats], row: int) -> list[float]:
    """Compute the outputs of one row from its own window alone."""
    parameters, definition, needed = LONG[name]
    window = slice(row + 1 - needed, row + 1)
    inputs = [found[i][window].tolist() for i in INDICATORS[name].inputs]
    values = definition(*inputs, *parameters)
    return [values[-1]] if isinstance(values, list) else [output[-1] for output in values]


def long_market(rows: int, seed: int) -> dict[str, Floats]:
    """Make a walk around 100 with heavy-tailed volume."""
    rng = np.random.default_rng(seed)
    # Small steps: a price stays above zero however many rows there are.
    close = 100.0 + np.cumsum(rng.standard_normal(rows) * 0.003)
    assert close.min() > 1.0
    high, low = close + rng.random(rows) * 0.01, close - rng.random(rows) * 0.01
    return bars(high, low, close, np.exp(3.0 * rng.standard_normal(rows)))


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_ten_million_rows_leave_no_drift(name: str) -> None:
    """The last values, and some before, equal an exact recomputation from their windows."""
    rows = 10_000_000
    found = long_market(rows, seed=len(name))
    indicator = INDICATORS[name]
    values = indicator.batch(*(found[i] for i in indicator.inputs), *LONG[name][0])
    outputs = values if isinstance(values, tuple) else (values,)
    for row in [rows - 1, rows - 100, *range(rows // 7, rows, rows // 7)]:
        for output, wanted in zip(outputs, last_values(name, found, row), strict=True):
            assert output[row] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["sma", "bollinger", "rolling_std", "vwap", "mfi", "stochastic"])
@pytest.mark.parametrize("spike", [1e9, 1e15])
def test_a_spike_is_forgotten(name: str, spike: float) -> None:
    """Some windows after a single absurd row, every value is exact again."""
    rows = 4 * LENGTH * renewal_blocks(LENGTH)
    found = long_market(rows, seed=3)
    for series in ("high", "low", "close", "volume"):
        found[series][LENGTH + 7] *= spike
    indicator = INDICATORS[name]
    values = indicator.batch(*(found[i] for i in indicator.inputs), *LONG[name][0])
    outputs = values if isinstance(values, tuple) else (values,)
    for row in range(2 * LENGTH * renewal_blocks(LENGTH), rows, 17):
        for output, wanted in zip(outputs, last_values(name, found, row), strict=True):
            assert output[row] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("matype", [2, 5])
@pytest.mark.parametrize("length", [LENGTH, 7])
def test_averages_that_sum_forget_a_spike(matype: int, length: int) -> None:
    """WMA and TRIMA of a window long after an absurd row are those of the window alone."""
    found = long_market(8 * length * renewal_blocks(length), seed=5)["real"]
    found[length + 7] *= 1e15
    values = INDICATORS["bollinger"].batch(found, length, 2.0, 2.0, matype)[1]
    for row in range(4 * length * renewal_blocks(length), len(found), 13):
        window = found[row + 1 - length : row + 1].tolist()
        wanted = plain.average(window, length, matype)[-1]
        assert values[row] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("length", [2, 5, 30])
def test_a_kama_of_prices_that_stand_still_goes_straight_there(length: int) -> None:
    """Whatever rounding the moves before have left in their sum."""
    found = np.concatenate([long_market(300, seed=6)["real"], np.full(600, 77.7)])
    kama = INDICATORS["bollinger"].batch(found, length, 2.0, 2.0, 6)[1]
    np.testing.assert_allclose(kama, plain.kama(found.tolist(), length), rtol=1e-9)
    assert kama[-1] == pytest.approx(77.7, rel=1e-14)


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def drive_1(step: Any, state: Floats, rows: int, kept: Floats) -> Any:
    """Feed a walk made on the way; keep the last rows; give the last value."""
    seed, price, value = np.uint64(88172645463325252), 100.0, step(state, 100.0)
    for row in range(rows):
        seed ^= seed << np.uint64(13)
        seed ^= seed >> np.uint64(7)
        seed ^= seed << np.uint64(17)
        price += ((seed >> np.uint64(11)) * 2.0**-53 - 0.5) * 0.1 + (100.0 - price) * 1e-4
        kept[row % len(kept)] = price
        value = step(state, price)
    return value


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def drive_4(step: Any, state: Floats, rows: int, kept: Floats) -> Any:
    """Feed rows of price and volume made on the way, as drive_1 does."""
    seed, price = np.uint64(88172645463325252), 100.0
    value = step(state, 100.0, 100.0, 100.0, 1.0)
    for row in range(rows):
        seed ^= seed << np.uint64(13)
        seed ^= seed >> np.uint64(7)
        seed ^= seed << np.uint64(17)
        draw = (seed >> np.uint64(11)) * 2.0**-53
        price += (draw - 0.5) * 0.1 + (100.0 - price) * 1e-4
        kept[row % len(kept), 0], kept[row % len(kept), 1] = price, 1.0 / (draw + 1e-6)
        value = step(state, price, price, price, 1.0 / (draw + 1e-6))
    return value


def soaked(indicator: Indicator, parameters: tuple[Any, ...], rows: int) -> tuple[Any, Floats]:
    """Drive a stream for so many rows; give its last value and the last rows in order."""
    many = len(indicator.inputs) == 4
    kept = np.zeros((64, 2) if many else 64)
    drive = drive_4 if many else drive_1
    value = drive(indicator.step, indicator.state(*parameters), rows, kept)
    return value, np.roll(kept, -(rows % 64), axis=0)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["sma", "rolling_std", "bollinger"])
def test_a_hundred_million_updates_leave_no_drift(name: str) -> None:
    """A stream's last value equals an exact recomputation from its window."""
    parameters, definition, needed = LONG[name]
    value, kept = soaked(INDICATORS[name], parameters, 10**8)
    wanted = definition(kept[-needed:].tolist(), *parameters)
    wanted = [wanted[-1]] if isinstance(wanted, list) else [output[-1] for output in wanted]
    np.testing.assert_allclose(np.atleast_1d(value), wanted, rtol=1e-9)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["vwap", "mfi"])
def test_a_hundred_million_updates_with_volume_leave_no_drift(name: str) -> None:
    """The same for what weighs with a volume of six orders of magnitude."""
    parameters, definition, needed = LONG[name]
    value, kept = soaked(INDICATORS[name], parameters, 10**8)
    prices, volumes = kept[-needed:, 0].tolist(), kept[-needed:, 1].tolist()
    wanted = definition(prices, prices, prices, volumes, *parameters)[-1]
    assert value == pytest.approx(wanted, rel=1e-9)


@pytest.mark.soak
def test_a_session_of_a_hundred_million_rows_has_an_exact_vwap() -> None:
    """A constant price stays itself to the last digit, which a plain sum would lose."""
    rows = 10**8
    prices = np.full(rows, 0.1)
    found = INDICATORS["vwap"].batch(prices, prices, prices, prices)
    assert math.isclose(found[-1], 0.1, rel_tol=1e-14)
