"""Each indicator is what its definition says, computed slowly and apart from the kernels."""

import math

import numpy as np
import pytest
from indicator_cases import CASES, Case, agree, bars, case_id, market

from consumers.indicators import all_indicators, ema, macd, obv, rolling_std, rsi, sma, vwap


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("tick", [0.0, 0.05])
def test_equals_its_definition(case: Case, tick: float) -> None:
    """Over a walk of 400 rows, smooth or on a coarse tick, to 1e-9."""
    found = market(400, seed=len(case_id(case)), tick=tick)
    wanted = case.definition(*(found[i].tolist() for i in case.inputs), *case.parameters)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for values, definition in zip(case.batch(found), wanted, strict=True):
        assert agree(values, np.array(definition), case.name)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_flat_market_has_its_defined_value(case: Case) -> None:
    """Prices that never move, with volume: the definition's value, or NaN where it has none."""
    flat = np.full(90, 5.0)
    found = bars(flat, flat, flat, np.ones(90))
    wanted = case.definition(*(found[i].tolist() for i in case.inputs), *case.parameters)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for values, definition in zip(case.batch(found), wanted, strict=True):
        assert agree(values, np.array(definition), case.name)


def test_simple_figures() -> None:
    """What can be worked out by hand."""
    prices = np.array([1.0, 2.0, 3.0, 4.0, 2.0])
    np.testing.assert_array_equal(sma(prices, 2), [math.nan, 1.5, 2.5, 3.5, 3.0])
    np.testing.assert_array_equal(ema(prices, 3), [math.nan, math.nan, 2.0, 3.0, 2.5])
    np.testing.assert_array_equal(rolling_std(prices, 2), [math.nan, 0.5, 0.5, 0.5, 1.0])
    np.testing.assert_array_equal(obv(prices, np.ones(5)), [1.0, 2.0, 3.0, 4.0, 3.0])
    ones = np.ones(5)
    np.testing.assert_allclose(
        vwap(prices, prices, prices, ones), np.cumsum(prices) / np.arange(1.0, 6.0), rtol=1e-15
    )


def test_rsi_of_the_published_example() -> None:
    """The 14-day example of the technical literature: 70.53, then 66.32, 66.55, 69.41, 66.36."""
    closes = [44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433]
    closes += [46.0826, 45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116]
    closes += [46.2222]
    found = rsi(np.array(closes), 14)
    assert np.isnan(found[:14]).all()
    assert found[14:].round(2).tolist() == [70.53, 66.32, 66.55, 69.41, 66.36]


def test_macd_exchanges_its_periods() -> None:
    """Where fast is the longer one it becomes the slow one, as in TA-Lib."""
    close = market(80, seed=3)["close"]
    for found, wanted in zip(macd(close, 26, 12, 9), macd(close, 12, 26, 9), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_vwap_without_volume_is_not_a_number() -> None:
    """Before the first volume, and while a whole window has none, there is no price to give."""
    found = market(40, seed=5)
    volume = np.ones(40)
    volume[:3] = 0.0
    volume[20:30] = 0.0
    prices = found["high"], found["low"], found["close"]
    session, rolling = vwap(*prices, volume), vwap(*prices, volume, timeperiod=4)
    assert np.flatnonzero(np.isnan(session)).tolist() == [0, 1, 2]
    assert np.flatnonzero(np.isnan(rolling)).tolist() == [0, 1, 2, *range(23, 30)]


def test_a_row_that_is_not_finite_has_no_weight_in_a_vwap() -> None:
    """An infinite price or a missing volume is left out, and what follows is right again."""
    found = market(40, seed=5)
    high, low, close, volume = (found[n].copy() for n in ("high", "low", "close", "volume"))
    volume += 1.0
    kept = np.delete(np.arange(40), [10, 20])
    wanted = vwap(high[kept], low[kept], close[kept], volume[kept])
    high[10], volume[20] = math.inf, math.nan
    values = vwap(high, low, close, volume)
    np.testing.assert_allclose(values[kept], wanted, rtol=1e-14)
    np.testing.assert_array_equal(values[[10, 20]], values[[9, 19]])


def test_all_indicators_gives_every_output_by_name() -> None:
    """One array per output, as long as the input, equal to the function's own."""
    found = market(120, seed=8)
    values = all_indicators(found["high"], found["low"], found["close"], found["volume"])
    assert set(values) == {
        "sma", "ema", "macd", "macd_signal", "macd_histogram", "rsi", "atr", "adx", "rolling_std",
        "bollinger_upper", "bollinger_middle", "bollinger_lower", "bollinger_percent_b",
        "bollinger_bandwidth", "stochastic_k", "stochastic_d", "williams_r", "donchian_upper",
        "donchian_middle", "donchian_lower", "keltner_upper", "keltner_middle", "keltner_lower",
        "cci", "vwap", "obv", "mfi", "momentum", "log_returns",
    }  # fmt: skip
    assert {len(array) for array in values.values()} == {120}
    np.testing.assert_array_equal(values["macd_signal"], macd(found["close"])[1])
    np.testing.assert_array_equal(values["sma"], sma(found["close"]))
