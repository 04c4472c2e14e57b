"""Each column of a features row is what its formula says, to the last digits, over made-up and recorded markets."""

import math

import numpy as np
import pytest
from features_market import BUY, SELL, START_NS, Tape, walk
from features_reference import reference_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.feature_engine import FeatureEngine
from layouts import COLUMNS, FEATURES, Kind
from layouts.features import READY_BIT

RELATIVE = 1e-9
# Columns that are differences: their digits cancel, so they are held against the terms of the difference.
SCALE_OF = {"momentum_divergence": ("return_5", "return_20")}


def compute(records: np.ndarray, scales: tuple[int, int] = (2, 3)) -> np.ndarray:
    """Give the engine's rows of all instruments at one scale."""
    return FeatureEngine(lambda _id, _version: scales).process(records)


def assert_equal(records: np.ndarray, scales: tuple[int, int] = (2, 3)) -> np.ndarray:
    """The engine's rows are the reference's: columns, ready bits, NaN where not ready."""
    rows = compute(records, scales)
    wanted = reference_rows(records, lambda _each: scales)
    data = rows[rows["kind"] == Kind.FEATURES]
    assert len(data) == len(wanted)
    seen: dict[int, int] = {}
    for row, (each, columns) in zip(data, wanted, strict=True):
        assert row["instrument_id"] == each
        assert row["row_no"] == seen.get(each, 0)
        seen[each] = int(row["row_no"]) + 1
        for column in COLUMNS:
            name = column.name
            where = f"{name} of row {row['row_no']} of {each}"
            is_ready = bool(int(row["ready"]) >> READY_BIT[name] & 1)
            assert is_ready == (name in columns), where
            assert math.isnan(row[name]) == (not is_ready), where
            if is_ready:
                assert_close(float(row[name]), columns, name, where)
    return data


def assert_close(value: float, columns: dict[str, float], name: str, where: str) -> None:
    """Value and formula agree to RELATIVE."""
    wanted = columns[name]
    scale = max([abs(wanted), *(abs(columns[term]) for term in SCALE_OF.get(name, ()))])
    assert abs(value - wanted) <= RELATIVE * scale, f"{where}: {value!r}, formula {wanted!r}"


def test_a_random_market_of_three_instruments() -> None:
    """Hundreds of rows past every warm-up, levels coming and going, trades with and without a side."""
    tape = Tape()
    walk(tape, (1, 2, 3), 900, seed=5)
    data = assert_equal(tape.records())
    assert np.count_nonzero(data["ready"] == (1 << len(COLUMNS)) - 1) > 200


@pytest.mark.parametrize("scales", [(0, 0), (8, 8), (5, 2)])
def test_scales_are_powers_of_ten(scales: tuple[int, int]) -> None:
    """Prices and quantities are the integers over 10**scale, whichever scale."""
    tape = Tape()
    walk(tape, (1,), 150, seed=6)
    assert_equal(tape.records(), scales)


def test_a_market_that_does_not_move() -> None:
    """Equal mids and quantities: deviations, ratios and lambda have their stated values, nothing is NaN."""
    tape = Tape()
    tape.snapshot(1, {100: 5}, {101: 5})
    for _ in range(90):
        tape.ts += 10**9
        tape.quote(1)
    row = assert_equal(tape.records())[-1]
    assert row["vol_ratio"] == 1.0
    assert row["rsi"] == 50.0
    assert row["kyle_lambda"] == row["volume_zscore"] == row["volume_ma_ratio"] == 0.0


def test_a_steady_climb() -> None:
    """Returns that differ only in their fifth digit: the deviation is theirs, not the rounding's."""
    tape = Tape()
    tape.snapshot(1, {100_000: 5}, {100_001: 5})
    for i in range(120):
        tape.level(1, SELL, 100_001 + i, 0)
        tape.level(1, SELL, 100_002 + i, 5)
        tape.level(1, BUY, 100_001 + i, 5)
        tape.level(1, BUY, 100_000 + i, 0)
        tape.quote(1)
    assert_equal(tape.records())


def test_a_jump_leaves_no_trace() -> None:
    """A mid a thousand times as large for some rows: exact while it is in the windows, and after."""
    tape = Tape()
    tape.snapshot(1, {1000: 5}, {1001: 6})
    for i in range(260):
        tape.ts += 10**8
        low = 1_000_000 if 80 <= i < 83 else 1000 + i % 3
        for price in list(tape.books[1][0]):
            tape.level(1, BUY, price, 0)
        for price in list(tape.books[1][1]):
            tape.level(1, SELL, price, 0)
        tape.level(1, BUY, low, 5 + i % 4)
        tape.level(1, SELL, low + 1, 6)
        tape.quote(1)
    assert_equal(tape.records())


def test_a_late_trade_makes_a_row_and_leaves_the_last_price() -> None:
    """Its quantity counts; `price` stays that of the last trade in time."""
    tape = Tape()
    tape.snapshot(1, {100: 5}, {101: 5})
    tape.trade(1, 101, 7)
    tape.trade(1, 55, 3, late=True)
    assert assert_equal(tape.records())["price"].tolist()[1:] == [1.01, 1.01]


def test_the_flow_of_a_day_begins_at_midnight() -> None:
    """The first row of another UTC day begins the sum anew, also where ts_event goes back over midnight."""
    tape = Tape()
    tape.snapshot(1, {100: 5}, {101: 5})
    midnight = (START_NS // 86_400_000_000_000 + 1) * 86_400_000_000_000
    for i, ts in enumerate((-2, -1, 0, 1, -1, 2)):
        tape.ts = midnight + ts
        tape.level(1, BUY, 100, 6 + i)
        tape.quote(1)
    sums = assert_equal(tape.records())["ofi_cumulative"].tolist()
    assert sums[1:] == [0.001, 0.002, 0.001, 0.002, 0.001, 0.001]


@st.composite
def markets(draw: st.DrawFn) -> np.ndarray:
    """Any records of one instrument: empty and crossed sides, zero quantities, time going back."""
    tape = Tape()
    price = st.integers(1, draw(st.sampled_from([4, 50, 10**6])))
    qty = st.integers(0, draw(st.sampled_from([2, 10**6, 10**15])))
    tape.snapshot(1, {}, {}, quote=False)
    step = st.sampled_from([0, 1, 10**6, 10**10, -(10**9)])
    steps = draw(st.lists(st.tuples(st.integers(0, 5), price, qty, step), max_size=40))
    repeats = draw(st.sampled_from([1, 3, 12]))  # so that short lists fill the windows, too
    for action, at, amount, later in steps * repeats:
        tape.ts += later
        if action < 2:
            tape.trade(1, at, amount, (BUY, SELL)[action])
        elif action < 5:
            before = tape.top(1)
            tape.level(1, (BUY, SELL)[action % 2], at, amount)
            if tape.top(1) != before:
                tape.quote(1)
        else:
            tape.trade(1, at, amount, 0)
    return tape.records()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(markets())
def test_any_market(records: np.ndarray) -> None:
    """Whatever comes, each column is its formula or not ready."""
    assert_equal(records)


def test_the_table_names_the_columns_of_the_layout() -> None:
    """All 39 are computed, in the layout's order."""
    names = [name for name in FEATURES.names or () if FEATURES[name].kind == "f"]
    assert names == [column.name for column in COLUMNS]
    assert len(names) == 39
    assert all(column.computed for column in COLUMNS)
