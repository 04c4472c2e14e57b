"""What is not a plain market has a defined outcome: flagged in marks or counted, and no ready column is ever NaN."""

import numpy as np
import pytest
from features_market import BUY, SELL, Tape, walk

from consumers.feature_engine import FeatureEngine
from consumers.rolling import PRICE_LIMIT, QTY_LIMIT
from layouts import COLUMNS, EVENT, FEATURES, InstrumentState, Kind, Mark
from layouts.features import READY_BIT

LIVE, SUSPECT, SYNCING = InstrumentState.LIVE, InstrumentState.SUSPECT, InstrumentState.SYNCING
TOP_COLUMNS = ("bid", "ask", "mid", "spread", "microprice", "imbalance", "book_pressure")


def engine() -> FeatureEngine:
    """Give an engine whose instruments have two and three decimals."""
    return FeatureEngine(lambda _id, _version: (2, 3))


def opened(**levels: dict[int, int]) -> Tape:
    """Give a tape with one instrument's snapshot."""
    tape = Tape()
    tape.snapshot(1, levels.get("bids", {100: 5, 99: 6}), levels.get("asks", {101: 5, 102: 6}))
    return tape


def state_of(row: np.void) -> InstrumentState:
    """Give the state in a row's marks."""
    return InstrumentState(int(row["marks"]) & Mark.STATE_MASK)


def is_ready(row: np.void, name: str) -> bool:
    """Whether a column's bit is set."""
    return bool(int(row["ready"]) >> READY_BIT[name] & 1)


def assert_sound(rows: np.ndarray) -> None:
    """NaN exactly where not ready, finite elsewhere."""
    for row in rows:
        for column in COLUMNS:
            value = row[column.name]
            assert np.isfinite(value) if is_ready(row, column.name) else np.isnan(value), column


def test_a_row_names_its_cause() -> None:
    """Epoch, seq, one row a record, the record's times and marks; rows count from 0."""
    tape = opened()
    tape.first_seq = 1000
    tape.trade(1, 101, 3, SELL)
    records = tape.records()
    rows = engine().process(records, epoch=9)
    assert rows["source_epoch"].tolist() == [9, 9]
    assert rows["source_seq"].tolist() == [1000 + len(records) - 2, 1000 + len(records) - 1]
    assert rows["source_index"].tolist() == [0, 0]
    assert rows["source_count"].tolist() == [1, 1]
    assert rows["row_no"].tolist() == [0, 1]
    assert rows["ts_event"].tolist() == records["ts_event"][-2:].tolist()
    assert rows["ts_recv"].tolist() == records["ts_recv"][-2:].tolist()
    assert rows["marks"].tolist() == records["marks"][-2:].tolist()
    assert rows["kind"].tolist() == [Kind.FEATURES, Kind.FEATURES]


def test_a_trade_before_any_book() -> None:
    """Volume and price are ready, nothing of the book is, and the row says SYNCING."""
    tape = Tape()
    tape.trade(1, 101, 3)
    row = engine().process(tape.records())[0]
    assert state_of(row) == SYNCING
    assert is_ready(row, "volume") and row["volume"] == 0.003
    assert is_ready(row, "price") and row["price"] == 1.01
    assert not any(is_ready(row, name) for name in TOP_COLUMNS)


@pytest.mark.parametrize("side", [BUY, SELL])
def test_an_empty_side(side: int) -> None:
    """Without it the columns of the book are not ready; the windows go on and are there when it is back."""
    tape = opened()
    walk(tape, (1,), 120, 3)
    for price in list(tape.books[1][0 if side == BUY else 1]):
        tape.level(1, side, price, 0)
    tape.quote(1)
    tape.trade(1, 100, 1)
    tape.level(1, side, 50 if side == BUY else 10**6, 9)
    tape.quote(1)
    rows = engine().process(tape.records())
    assert_sound(rows)
    for row in rows[-3:-1]:
        assert not any(is_ready(row, name) for name in TOP_COLUMNS)
        assert is_ready(row, "return_60") and is_ready(row, "vol_60")
        assert row["return_1"] == row["ofi"] == row["multi_level_ofi"] == 0.0
    assert all(is_ready(rows[-1], name) for name in TOP_COLUMNS)
    assert rows[-1]["return_1"] != 0.0


@pytest.mark.parametrize(("ask", "state"), [(101, LIVE), (100, SUSPECT), (90, SUSPECT)])
def test_a_crossed_or_locked_book_is_suspect(ask: int, state: InstrumentState) -> None:
    """Columns are their formulas, the spread negative or 0, the row marked and counted."""
    tape = opened(bids={100: 5}, asks={ask: 5})
    made = engine()
    row = made.process(tape.records())[0]
    assert state_of(row) == state
    assert made.counters["rows_crossed"] == (state == SUSPECT)
    assert row["spread"] == (ask - 100) / 100
    assert_sound(np.array([row]))


@pytest.mark.parametrize("state", [LIVE, SUSPECT, SYNCING, InstrumentState.STALE])
def test_the_instruments_state_travels_in_the_marks(state: InstrumentState) -> None:
    """What the collector says of a book is in the row."""
    tape = opened()
    tape.quote(1, state)
    assert state_of(engine().process(tape.records())[-1]) == state


def test_a_quote_that_the_own_book_does_not_confirm_is_suspect() -> None:
    """A LEVEL that never came: counted and marked, once per such quote."""
    tape = opened()
    tape.add(Kind.QUOTE, 1, (100, 4, 101, 5), last=True)
    tape.quote(1)
    made = engine()
    rows = made.process(tape.records())
    assert [state_of(row) for row in rows] == [LIVE, SUSPECT, LIVE]
    assert made.counters["quotes_differing"] == 1


def test_a_gap_or_state_record_makes_no_row_and_changes_no_column() -> None:
    """Their news is in the marks of the rows that follow."""
    plain, told = opened(), opened()
    told.add(Kind.GAP, 1, (5, 9, 5, 1))
    told.add(Kind.STATE, 1, (int(SUSPECT), 3, 1, 0))
    for tape in (plain, told):
        tape.trade(1, 101, 3)
    left, right = (engine().process(tape.records()) for tape in (plain, told))
    assert len(left) == len(right) == 2
    for column in COLUMNS:
        np.testing.assert_array_equal(left[column.name], right[column.name])


def test_a_snapshot_in_between_replaces_the_book_and_nothing_else() -> None:
    """The same book again changes no later row: a snapshot for somebody else's sake leaves no trace."""
    plain, again = Tape(), Tape()
    for tape in (plain, again):
        walk(tape, (1,), 100, 8)
        if tape is again:
            bids, asks = tape.books[1]
            tape.snapshot(1, dict(bids), dict(asks), quote=False)
        walk(tape, (1,), 100, 9)
    left, right = (engine().process(tape.records()) for tape in (plain, again))
    left["source_seq"] = right["source_seq"] = 0
    assert left.tobytes() == right.tobytes()


def test_levels_beyond_a_snapshot_are_gone() -> None:
    """What the snapshot does not name is not in the book any more."""
    tape = opened(bids={100: 5, 99: 7}, asks={101: 5, 102: 7})
    tape.snapshot(1, {98: 1}, {103: 1})
    row = engine().process(tape.records())[-1]
    assert (row["bid"], row["ask"], row["depth_imbalance_50"]) == (0.98, 1.03, 0.0)


def test_a_restart_of_the_producer_forgets_the_books_of_its_input_alone() -> None:
    """A frame may be half there: no column of the book until the next snapshot; another input's are untouched."""
    made = engine()
    first, second = opened(), Tape()
    second.snapshot(2, {100: 5}, {101: 5})
    made.process(first.records(), source=0)
    made.process(second.records(), source=1)
    tape = Tape(first_seq=100)
    tape.add(Kind.RESTART, 0, (2, 1, 0, 0))
    tape.trade(1, 101, 3)
    (row,) = made.process(tape.records(), source=0)
    assert state_of(row) == SYNCING
    assert not is_ready(row, "bid")
    tape = Tape(first_seq=100)
    tape.trade(2, 101, 3)
    (row,) = made.process(tape.records(), source=1)
    assert state_of(row) == LIVE
    assert is_ready(row, "bid")


def test_lost_records_are_made_good_by_a_snapshot() -> None:
    """After a loss levels are not believed and the snapshot is wanted, once; with it the book is back."""
    made = engine()
    tape = opened()
    made.process(tape.records())
    assert made.wanting(0) == []
    made.forget(0)
    tape = Tape(first_seq=500)
    tape.books[1] = ({}, {})
    tape.level(1, BUY, 100, 9)
    tape.add(Kind.QUOTE, 1, (100, 9, 101, 5), last=True)
    (row,) = made.process(tape.records())
    assert state_of(row) == SYNCING
    assert not is_ready(row, "bid")
    assert made.wanting(0) == [1]
    assert made.wanting(0) == []
    tape.snapshot(1, {100: 9}, {101: 5})
    row = made.process(tape.records())[-1]
    assert state_of(row) == LIVE
    assert row["bid"] == 1.0


@pytest.mark.parametrize(
    ("price", "qty", "counted"),
    [
        (PRICE_LIMIT, QTY_LIMIT, 0),
        (PRICE_LIMIT + 1, 1, 1),
        (-PRICE_LIMIT - 1, 1, 1),
        (1, QTY_LIMIT + 1, 1),
        (1, -1, 1),
        (-(2**63), -(2**63), 1),
        (-(2**63), 1, 1),
        (2**63 - 1, 2**63 - 1, 1),
    ],
)
def test_numbers_beyond_all_sense_saturate_and_are_counted(
    price: int, qty: int, counted: int
) -> None:
    """In trades and levels: no overflow, no NaN in a ready column, one count each."""
    tape = opened()
    walk(tape, (1,), 90, 4)
    for _ in range(70):
        tape.trade(1, price, qty, BUY)
    tape.add(Kind.LEVEL, 1, (price, qty), BUY)
    made = engine()
    rows = made.process(tape.records())
    assert made.counters["words_saturated"] == 71 * counted
    assert_sound(rows)
    assert rows[-1]["volume"] == max(0, min(qty, QTY_LIMIT)) / 1000


def test_the_largest_numbers_keep_every_column_finite() -> None:
    """Prices and quantities at their limits in all windows at once."""
    tape = Tape()
    bids = {PRICE_LIMIT - 2 * i - 1: QTY_LIMIT for i in range(50)}
    asks = {PRICE_LIMIT - 2 * i: QTY_LIMIT for i in range(50)}
    tape.snapshot(1, bids, asks)
    for i in range(130):
        tape.trade(1, PRICE_LIMIT, QTY_LIMIT - i, BUY if i % 3 else SELL)
        tape.level(1, SELL, PRICE_LIMIT, QTY_LIMIT if i % 2 else 1)
        tape.quote(1)
    rows = engine().process(tape.records())
    assert_sound(rows)
    assert rows[-1]["depth_imbalance_5"] == pytest.approx(0.0, abs=0.2)


def test_negative_prices_are_a_market_too_but_not_a_mid() -> None:
    """Below zero there is no logarithm: the book's columns are not ready; the trade's price is."""
    tape = opened(bids={-100: 5}, asks={-50: 5})
    tape.trade(1, -60, 2)
    row = engine().process(tape.records())[-1]
    assert row["price"] == -0.6
    assert not any(is_ready(row, name) for name in TOP_COLUMNS)


def test_an_unknown_version_leaves_nothing_ready_until_it_is_known() -> None:
    """Rows come, unscaled and counted; once a table names the version, windows begin."""
    known: dict[int, tuple[int, int]] = {}
    made = FeatureEngine(lambda _id, version: known.get(version))
    tape = opened()
    tape.trade(1, 101, 3)
    rows = made.process(tape.records())
    assert rows["ready"].tolist() == [0, 0]
    assert_sound(rows)
    assert made.counters["rows_unscaled"] == 2
    known[1] = (1, 1)
    made.idle()
    more = Tape(first_seq=100)
    more.trade(1, 102, 4)
    (row,) = made.process(more.records())
    assert (row["bid"], row["price"], row["volume"], row["row_no"]) == (10.0, 10.2, 0.4, 2)


def test_a_version_with_other_scales_starts_the_windows_anew() -> None:
    """Prices are right at once, row numbers go on, the day's flow is kept, windows warm up again."""
    made = FeatureEngine(lambda _id, version: (2, 3) if version < 2 else (3, 4))
    tape = Tape()
    walk(tape, (1,), 150, 2)
    before = made.process(tape.records())[-1]
    assert is_ready(before, "return_60")
    wider = Tape(first_seq=10_000)
    wider.ts = tape.ts
    bids, asks = ({price * 10: qty * 10 for price, qty in side.items()} for side in tape.books[1])
    wider.snapshot(1, bids, asks, version=2)
    (row,) = made.process(wider.records())
    assert row["row_no"] == before["row_no"] + 1
    assert row["bid"] == max(bids) / 1000
    assert row["price"] == before["price"]
    assert not is_ready(row, "return_1")
    wider.level(1, BUY, max(bids), bids[max(bids)] + 5000)
    wider.quote(1)
    row = made.process(wider.records()[-2:])[-1]
    assert row["ofi_cumulative"] == pytest.approx(before["ofi_cumulative"] + 0.5, rel=1e-12)


def test_a_version_with_the_same_scales_changes_nothing() -> None:
    """Only its number is taken."""
    made = engine()
    tape = Tape()
    walk(tape, (1,), 150, 2)
    made.process(tape.records())
    tape = Tape(first_seq=10_000)
    tape.add(Kind.STATE, 1, (int(LIVE), 1, 2, 0))
    tape.trade(1, 100, 1)
    assert is_ready(made.process(tape.records())[-1], "vol_60")


def test_a_heartbeat_is_passed_on() -> None:
    """As a row of that kind, with its beat number, nothing ready."""
    tape = opened()
    tape.add(Kind.HEARTBEAT, 0, (77, 0, 0, 0))
    row = engine().process(tape.records())[-1]
    assert (row["kind"], row["instrument_id"], row["row_no"], row["ready"]) == (8, 0, 77, 0)
    assert_sound(np.array([row]))


def test_records_of_unknown_kinds_are_passed_over() -> None:
    """A kind of a later version makes no row and disturbs none."""
    tape = opened()
    tape.rows[-1] = (*tape.rows[-1][:4], 200, *tape.rows[-1][5:])
    tape.trade(1, 101, 3)
    assert len(engine().process(tape.records())) == 1


def test_only_event_records_are_taken() -> None:
    """Another layout or a view with gaps is refused with the type."""
    with pytest.raises(TypeError, match="EVENT"):
        engine().process(np.zeros(3, FEATURES))
    with pytest.raises(TypeError, match="EVENT"):
        engine().process(np.zeros(6, EVENT)[::2])


def test_however_records_are_cut_into_batches_rows_are_the_same() -> None:
    """One by one, in odd pieces, all at once, and through a copy of the state in between."""
    tape = Tape()
    walk(tape, (1, 2, 3), 300, 12)
    records = tape.records()
    whole = engine().process(records)
    for size in (1, 7, 256, 257):
        made = FeatureEngine(lambda _id, _version: (2, 3), batch_records=size)
        assert made.process(records).tobytes() == whole.tobytes()
    parts = []
    made = engine()
    for first in range(0, len(records), 100):
        image = made.to_bytes()
        made = engine()
        made.load(image)
        parts.append(made.process(records[first : first + 100].copy()))
        assert made.to_bytes() != image
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_a_state_that_is_none_is_refused() -> None:
    """Cut short, or with counts that do not fit its length."""
    made = engine()
    made.process(opened().records())
    image = made.to_bytes()
    for broken in (b"", image[:40], image[:-8], image + b"\0" * 8, b"\xff" * len(image)):
        with pytest.raises(ValueError, match="features state"):
            engine().load(broken)


def test_a_thousand_levels_grow_a_book() -> None:
    """Books begin small and move to larger places, their levels with them."""
    tape = Tape()
    bids = {100_000 - i: 1000 + i for i in range(1000)}
    asks = {100_001 + i: 2000 + i for i in range(1000)}
    tape.snapshot(1, bids, asks)
    for price in range(99_950, 100_001):
        tape.level(1, BUY, price, 0)
    tape.quote(1)
    row = engine().process(tape.records())[-1]
    assert row["bid"] == 999.49
    left, right = sum(1051 + i for i in range(50)), sum(2000 + i for i in range(50))
    assert row["depth_imbalance_50"] == pytest.approx((left - right) / (left + right), rel=1e-12)
