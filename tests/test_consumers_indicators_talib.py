"""The indicators are TA-Lib's to 1e-9 where TA-Lib has them: values, lookbacks, leading NaNs, refusals."""

from collections.abc import Callable
from itertools import chain
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indicator_cases import MATYPES, Bars, Case, agree, bars, market, with_prefix

from consumers.indicators import INDICATORS

# The function of TA-Lib, and parameters to try beyond the defaults.
ORACLES: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "sma": ("SMA", [(1,), (2,), (100,)]),
    "ema": ("EMA", [(1,), (2,), (100,)]),
    "macd": ("MACD", [(3, 7, 4), (9, 4, 1), (5, 5, 5)]),
    "rsi": ("RSI", [(2,), (50,)]),
    "atr": ("ATR", [(1,), (2,), (50,)]),
    "adx": ("ADX", [(2,), (40,)]),
    "rolling_std": ("STDDEV", [(2, 1.0), (30, 3.0)]),
    "bollinger": ("BBANDS", [(5, 2.0, 2.0, 0), (20, 1.0, 2.5, 0), (2, -1.0, 1.0, 0)]),
    "stochastic": ("STOCH", [(14, 3, 0, 3, 0), (1, 1, 0, 1, 0), (9, 2, 0, 7, 0)]),
    "williams_r": ("WILLR", [(2,), (60,)]),
    "cci": ("CCI", [(2,), (3,), (60,)]),
    "obv": ("OBV", []),
    "mfi": ("MFI", [(2,), (60,)]),
    "momentum": ("MOM", [(1,), (50,)]),
    # From TA-Lib 0.8 on; older versions lack them.
    "vwap": ("VWAP", []),
    "donchian": ("DONCHIAN", [(2,), (60,)]),
}
ORACLES["bollinger"][1].extend((n, 2.0, 1.5, kind) for n in (2, 5, 20) for kind in MATYPES)
ORACLES["stochastic"][1].extend((5, 3, kind, 4, kind) for kind in MATYPES)
ORACLES["stochastic"][1].extend((9, 2, kind, 5, 0) for kind in MATYPES)
ORACLES["stochastic"][1].extend((1, 4, 0, 1, kind) for kind in MATYPES)
TRIED = [(name, ()) for name in ORACLES] + [
    (name, parameters) for name, (_, tried) in ORACLES.items() for parameters in tried
]
ROWS = 500


@pytest.fixture(scope="session")
def talib(require_rival: Callable[[str], ModuleType]) -> ModuleType:
    """Import TA-Lib, or skip with how to get it."""
    return require_rival("talib")


def oracle(talib: ModuleType, name: str, parameters: tuple[Any, ...]) -> Callable[[Bars], Any]:
    """Give TA-Lib's function over bars; skip what this version of it lacks or has otherwise."""
    function = getattr(talib, ORACLES[name][0], None)
    if function is None:
        pytest.skip(f"this TA-Lib ({talib.__version__}) has no {ORACLES[name][0]}")
    if name == "bollinger" and not parameters and "timeperiod: 5\n" in function.__doc__:
        parameters = (20,)
    if parameters[:1] == (1,) and name in {"sma", "ema", "atr"} and talib.__version__ < "0.7":
        pytest.skip("this TA-Lib has no period of 1")

    def run(found: Bars) -> tuple[Any, ...]:
        values = function(*(found[i] for i in INDICATORS[name].inputs), *parameters)
        return values if isinstance(values, tuple) else (values,)

    return run


def case(name: str, parameters: tuple[Any, ...]) -> Case:
    """Describe one indicator with parameters."""
    return Case(name, parameters, None)


MARKETS = {
    "walk": lambda: market(ROWS, seed=11),
    "tick": lambda: market(ROWS, seed=12, tick=0.05),
    "coarse": lambda: market(ROWS, seed=13, tick=1.0),
    "flat": lambda: bars(*[np.full(ROWS, 7.25)] * 3, np.full(ROWS, 3.0)),
    "still_then_moving": lambda: _joined(MARKETS["flat"](), market(ROWS, seed=14)),
    "moving_then_still": lambda: _joined(market(ROWS, seed=15), MARKETS["flat"]()),
    "around_zero": lambda: _moved(market(ROWS, seed=16), -100.0),
    "dear": lambda: _moved(market(ROWS, seed=17), 1e7),
    "cheap": lambda: {name: values * 1e-9 for name, values in market(ROWS, seed=18).items()},
    "leading_gaps": lambda: with_prefix(market(ROWS, seed=19), {"close": 9, "high": 4}),
}


def _joined(one: Bars, other: Bars) -> Bars:
    return {name: np.concatenate([one[name], other[name]]) for name in one}


def _moved(found: Bars, by: float) -> Bars:
    return {name: values + (by if name != "volume" else 0.0) for name, values in found.items()}


@pytest.mark.parametrize(("name", "parameters"), TRIED)
def test_values_and_gaps_are_talibs(
    name: str, parameters: tuple[Any, ...], talib: ModuleType
) -> None:
    """In every market: NaN in the same rows, values within 1e-9, outputs in the same order."""
    function = oracle(talib, name, parameters)
    for market_name, make in MARKETS.items():
        found = make()
        if name == "vwap":
            found["volume"] = found["volume"] + 1.0
        wanted = function(found)
        values = case(name, parameters).batch(found)
        assert len(values) == len(wanted)
        for ours, theirs in zip(values, wanted, strict=True):
            assert agree(ours, theirs, name), market_name


@pytest.mark.parametrize(("name", "parameters"), TRIED)
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_short_series_are_talibs(
    name: str, parameters: tuple[Any, ...], beyond: int, talib: ModuleType
) -> None:
    """With as many rows as the lookback, one less, one more: the same rows are NaN."""
    tried = case(name, parameters)
    found = market(max(tried.lookback + beyond, 0), seed=21)
    found["volume"] = found["volume"] + 1.0
    wanted = oracle(talib, name, parameters)(found)
    for ours, theirs in zip(tried.batch(found), wanted, strict=True):
        assert agree(ours, theirs, name)
        assert np.count_nonzero(~np.isnan(ours)) == max(beyond, 0)


@pytest.mark.parametrize("name", ORACLES)
def test_all_nan_is_talibs(name: str, talib: ModuleType) -> None:
    """A series without a number gives none."""
    nothing = np.full(90, np.nan)
    found = bars(nothing, nothing, nothing, nothing)
    for ours in case(name, ()).batch(found):
        assert np.isnan(ours).all()
    if name != "vwap":  # TA-Lib's VWAP says 0 there.
        for theirs in oracle(talib, name, ())(found):
            assert np.isnan(theirs).all()


BAD: list[tuple[str, tuple[Any, ...]]] = [
    (name, (bad,))
    for name in ORACLES
    if name not in {"obv", "vwap", "macd", "stochastic"}
    for bad in (0, -1, 100_001)
]
BAD += [(name, (1,)) for name in ("rsi", "adx", "rolling_std", "bollinger", "cci", "mfi")]
BAD += [
    ("williams_r", (1,)),
    ("macd", (1, 26, 9)),
    ("macd", (12, 1, 9)),
    ("macd", (12, 26, 0)),
    ("stochastic", (0, 3, 0, 3, 0)),
    ("stochastic", (5, 0, 0, 3, 0)),
    ("stochastic", (5, 3, 0, 100_001, 0)),
    ("stochastic", (5, 3, 99, 3, 0)),
    ("rolling_std", (5, float("nan"))),
    ("rolling_std", (5, 1e38)),
    ("bollinger", (20, float("inf"), 2.0, 0)),
    ("bollinger", (20, 2.0, 2.0, 99)),
    ("bollinger", (20, 2.0, 2.0, -1)),
]


@pytest.mark.parametrize(("name", "parameters"), BAD)
def test_what_talib_refuses_is_refused(
    name: str, parameters: tuple[Any, ...], talib: ModuleType
) -> None:
    """A parameter out of TA-Lib's range is a ValueError that names it."""
    found = market(60, seed=1)
    with pytest.raises(Exception, match=r"(?i)bad|error"):
        oracle(talib, name, parameters)(found)
    with pytest.raises(ValueError, match=r"(period|nbdev|matype).* is .*: "):
        case(name, parameters).batch(found)


def steps() -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    """Walks on a tick with runs that stand still: close, upper and lower wick, volume."""
    moved = st.tuples(st.integers(-3, 3), st.integers(0, 2), st.integers(0, 2), st.integers(1, 50))
    still = st.just((0, 0, 0, 7))
    runs = st.one_of(
        st.lists(moved, min_size=1, max_size=60),
        st.tuples(still, st.integers(1, 40)).map(lambda run: [run[0]] * run[1]),
    )
    return st.lists(runs, min_size=1, max_size=4).map(lambda parts: [*chain.from_iterable(parts)])


WALKED = [(name, ()) for name in ORACLES]
WALKED += [("bollinger", (5, 2.0, 2.0, kind)) for kind in MATYPES]
WALKED += [("stochastic", (4, 3, kind, 2, kind)) for kind in MATYPES]


@pytest.mark.parametrize(("name", "parameters"), WALKED)
@settings(max_examples=40, deadline=None)
@given(walk=steps(), gap=st.integers(0, 12), start=st.sampled_from([50.0, 1e-3, 3e6]))
def test_any_walk_is_talibs(
    name: str,
    parameters: tuple[Any, ...],
    talib: ModuleType,
    walk: list[tuple[int, int, int, int]],
    gap: int,
    start: float,
) -> None:
    """Walks with standing stretches and leading NaNs, at three price levels."""
    tick = start / 1000
    rows = np.array(walk, dtype=float)
    close = start + tick * np.cumsum(rows[:, 0])
    found = bars(close + tick * rows[:, 1], close - tick * rows[:, 2], close, rows[:, 3])
    found = with_prefix(found, {"close": min(gap, len(walk) - 1)})
    wanted = oracle(talib, name, parameters)(found)
    for ours, theirs in zip(case(name, parameters).batch(found), wanted, strict=True):
        assert agree(ours, theirs, name)
