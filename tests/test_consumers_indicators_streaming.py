"""A stream gives the batch's bits, starts anew after a reset, and goes on from a copy of its state."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from indicator_cases import CASES, Bars, Case, bars, case_id, identical, market, with_prefix
from numba.core.errors import TypingError

from consumers.indicators import INDICATORS, reset, sma_state, sma_step, warm_up

ROWS = 700
HALF = 350

cases = pytest.mark.parametrize("case", CASES, ids=case_id)


def rows(found: Bars, which: slice) -> Bars:
    """Give some rows of each series."""
    return {name: values[which] for name, values in found.items()}


def same(found: tuple[npt.NDArray[np.float64], ...], wanted: object) -> bool:
    """Whether all outputs are the same bits."""
    return all(identical(a, b) for a, b in zip(found, wanted, strict=True))  # type: ignore[call-overload]


@cases
@pytest.mark.parametrize("tick", [0.0, 0.25])
def test_a_stream_gives_the_batchs_bits(case: Case, tick: float) -> None:
    """Row by row or at once, over more rows than a rolling sum goes without a comparison."""
    found = with_prefix(market(ROWS, seed=41, tick=tick), {"close": 5, "low": 2})
    assert same(case.stream(found, case.state), case.batch(found))


@cases
def test_the_same_after_a_reset(case: Case) -> None:
    """The same rows give the same values from a state that has been used and reset."""
    found = market(ROWS, seed=42)
    state = case.state
    first = case.stream(found, state)
    reset(state)
    assert same(case.stream(found, state), first)


@cases
def test_a_reset_leaves_nothing_behind(case: Case) -> None:
    """After a reset the state is, bit for bit, the one that was made; parameters stay."""
    state = case.state
    case.stream(market(ROWS, seed=43), state)
    assert not np.array_equal(state, case.state)
    reset(state)
    np.testing.assert_array_equal(state.view(np.int64), case.state.view(np.int64))


@cases
def test_warms_up_in_exactly_its_lookback(case: Case) -> None:
    """NaN for as many rows as the lookback says, counted from the first complete row, then values."""
    found = market(case.lookback + 20, seed=44)
    found["volume"] += 1.0
    for absent in (0, 3):
        shifted = with_prefix(found, {"high": absent, "close": absent, "volume": absent})
        ready = case.lookback + (absent if set(case.inputs) != {"volume"} else 0)
        for values in case.stream(shifted, case.state):
            assert np.isnan(values[:ready]).all()
            assert not np.isnan(values[ready:]).any()


@cases
def test_a_warm_up_gives_the_same_results(case: Case) -> None:
    """Fed with history first, a stream goes on with the values of the whole run."""
    found = market(ROWS, seed=45)
    state = case.state
    case.stream(rows(found, slice(0, HALF)), state)
    later = case.stream(rows(found, slice(HALF, ROWS)), state)
    assert same(later, [values[HALF:] for values in case.batch(found)])


@cases
def test_a_copy_of_the_state_is_a_checkpoint(case: Case) -> None:
    """A stream goes on from a copy as from the state itself, and the copy keeps its own rows."""
    found = market(ROWS, seed=46)
    state = case.state
    case.stream(rows(found, slice(0, HALF)), state)
    saved = state.tobytes()
    rest = rows(found, slice(HALF, ROWS))
    went_on = case.stream(rest, state)
    restored = np.frombuffer(saved).copy()
    assert same(case.stream(rest, restored), went_on)
    np.testing.assert_array_equal(restored.view(np.int64), state.view(np.int64))


@cases
def test_a_gap_within_the_series_is_the_same_in_both(case: Case) -> None:
    """NaN and infinity within, infinity as the first row: whatever follows, batch and stream say the same."""
    found = market(ROWS, seed=47)
    for at, value in ((120, math.nan), (400, math.inf), (0, math.inf), (0, -math.inf)):
        changed = {name: values.copy() for name, values in found.items() if name != "real"}
        for values in changed.values():
            values[at] = value
        whole = changed | {"real": changed["close"]}
        assert same(case.stream(whole, case.state), case.batch(whole))


@pytest.mark.parametrize("absent", ["high", "low"])
def test_an_adx_without_a_range_is_nan_from_there_on(absent: str) -> None:
    """A high or low that is NaN is not passed over as a bar without movement."""
    found = market(90, seed=48)
    found[absent][50] = math.nan
    values = INDICATORS["adx"].batch(found["high"], found["low"], found["close"])
    assert not np.isnan(values[27:50]).any()
    assert np.isnan(values[50:]).all()


@pytest.mark.parametrize("name", INDICATORS)
def test_a_state_of_another_kind_is_left_alone(name: str) -> None:
    """A step that is given the wrong state gives NaN and changes nothing."""
    indicator = INDICATORS[name]
    of_another = next(
        other.state() for other in INDICATORS.values() if other.state is not indicator.state
    )
    before = of_another.copy()
    found = indicator.step(of_another, *(1.0 for _ in indicator.inputs))
    assert np.isnan(found).all()
    np.testing.assert_array_equal(of_another, before)


@pytest.mark.parametrize("name", INDICATORS)
def test_a_state_that_was_cut_short_is_left_alone(name: str) -> None:
    """A step that is given a part of its state gives NaN and changes nothing."""
    indicator = INDICATORS[name]
    state = indicator.state()
    for length in (len(state) - 1, 9, 1, 0):
        cut = state[:length].copy()
        assert np.isnan(indicator.step(cut, *(1.0 for _ in indicator.inputs))).all()
        np.testing.assert_array_equal(cut, state[:length])


def test_a_state_that_cannot_hold_a_row_is_refused() -> None:
    """Read-only memory, every second slot of an array, other numbers: an error, not a crash."""
    state = sma_state(5)
    for wrong in (
        np.frombuffer(state.tobytes()),
        np.repeat(state, 2)[::2],
        state.astype(np.float32),
        state.reshape(1, -1),
    ):
        with pytest.raises(TypingError):
            sma_step(wrong, 1.0)


def walks() -> st.SearchStrategy[list[float]]:
    """Walks, standing stretches, and values of any size, with NaNs before."""
    sizes = st.sampled_from([1e-9, 1.0, 1e12])
    free = st.lists(st.floats(-5, 5).map(lambda x: round(x, 2)), min_size=1, max_size=60)
    still = st.integers(1, 40).map(lambda length: [0.0] * length)
    changes = st.lists(st.one_of(free, still), min_size=1, max_size=3)
    return st.tuples(changes, sizes, st.integers(0, 9)).map(
        lambda made: [
            *[math.nan] * made[2],
            *(made[1] * (10.0 + np.cumsum(np.concatenate(made[0])))).tolist(),
        ]
    )


@cases
@settings(max_examples=25, deadline=None)
@given(walk=walks(), seed=st.integers(0, 2**31))
@example(walk=[0.0, -0.0] * 30, seed=1)
@example(walk=[1.0], seed=2)
@example(walk=[math.nan] * 5, seed=3)
def test_any_walk_gives_the_batchs_bits(case: Case, walk: list[float], seed: int) -> None:
    """Whatever the series, and whatever its zeros' signs."""
    rng = np.random.default_rng(seed)
    close = np.array(walk)
    reach = rng.integers(0, 3, (2, len(close))) * 0.25
    found = bars(close + reach[0], close - reach[1], close, rng.integers(0, 9, len(close)) * 1.0)
    assert same(case.stream(found, case.state), case.batch(found))


def test_a_state_is_flat_memory() -> None:
    """One contiguous float64 array; a longer window is a longer array and nothing else."""
    state = sma_state(7)
    assert state.dtype == np.float64
    assert state.flags.c_contiguous
    assert state.ndim == 1
    assert len(sma_state(8)) == len(state) + 1


def test_read_only_series_and_warm_up_compile_once() -> None:
    """After warm_up neither kind of array compiles anything more, and both give the same."""
    warm_up(["sma"])
    from consumers.indicators.averages import _sma_kernel, sma

    compiled = len(_sma_kernel.signatures)  # type: ignore[attr-defined]
    close = market(50, seed=9)["close"]
    read_only = close.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(sma(read_only, 5), sma(close, 5))
    sma_step(sma_state(), 1.0)
    assert len(_sma_kernel.signatures) == compiled  # type: ignore[attr-defined]
