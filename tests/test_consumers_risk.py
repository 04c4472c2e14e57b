"""Collar, rate and book refuse beyond their bounds and not at them; what must not happen has a defined outcome."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from risk_kit import Desk, accepted, reason, told

from consumers.risk_state import ORDER_PLACES, PROBES, QTY_LIMIT
from layouts import (
    Action,
    Check,
    Instruction,
    InstrumentState,
    Kind,
    OrderType,
    RiskReason,
    Scope,
    TradingState,
    Verdict,
)

ROOT = Path(__file__).resolve().parent.parent
SCOPES = list(Scope)


@pytest.fixture
def desk() -> Desk:
    """A desk with one LIVE instrument around 100.00."""
    made = Desk()
    made.open()
    return made


# ---- collar, rate, book ----


@pytest.mark.parametrize(
    ("price", "passes"), [(9_500, True), (9_499, False), (10_500, True), (10_501, False)]
)
def test_price_collar(desk: Desk, price: int, passes: bool) -> None:
    """500 bp about a mid of 100.00, on either side; a MARKET order has no price."""
    desk.limit(Check.COLLAR, 500, 0)
    assert accepted(desk.order(1, price)) == passes
    assert accepted(desk.order(1, 0, order_type=OrderType.MARKET))


def test_order_rate_is_per_account_and_by_the_times_of_the_records(desk: Desk) -> None:
    """Three in a window; what was refused does not count; the fourth passes when the first is a window old."""
    desk.limit(Check.ORDER_RATE, 3, 0, window_ns=1_000)
    assert all(accepted(desk.order(1)) for _ in range(3))
    desk.ts += 999
    row = desk.order(1)
    assert reason(row) is RiskReason.ORDER_RATE and told(row, "limit") == 3
    assert accepted(desk.order(1, account=2))
    desk.ts += 1
    assert accepted(desk.order(1))
    desk.ts -= 10**9
    assert accepted(desk.order(1)) and accepted(desk.order(1))
    assert reason(desk.order(1)) is RiskReason.ORDER_RATE


@pytest.mark.parametrize("state", list(InstrumentState))
def test_only_a_live_book_is_traded(desk: Desk, state: InstrumentState) -> None:
    """SYNCING, SUSPECT and STALE are refused, with the state in the decision's marks; LIVE again, it passes."""
    desk.event(Kind.STATE, 1, int(state), word_2=1)
    row = desk.order(1)
    assert accepted(row) == (state is InstrumentState.LIVE) and row["marks"] & 3 == state
    if not accepted(row):
        assert reason(row) is RiskReason.BOOK_NOT_LIVE
    desk.event(Kind.STATE, 1, word_2=1)
    assert accepted(desk.order(1))


def test_a_book_grows_old_by_the_times_of_the_records(desk: Desk) -> None:
    """Exactly as old as allowed it passes; a level, which moves no top, makes it young again."""
    desk.limit(Check.BOOK_AGE, 1_000, 0)
    desk.ts += 1_000
    assert accepted(desk.order(1))
    desk.ts += 1
    row = desk.order(1)
    assert reason(row) is RiskReason.BOOK_OLD and told(row, "observed") == 1_001
    desk.event(Kind.LEVEL, 1, word_0=9_000, word_1=1)
    assert accepted(desk.order(1))


def test_crossed_one_sided_and_unknown_books_are_refused(desk: Desk) -> None:
    """Each with its own reason; the mark stays what it was when the book was good."""
    desk.order(1_000)
    mark = desk.engine.memory.instruments["mark"][1]
    desk.quote(1, 10_010, 10_010)
    assert reason(desk.order(1)) is RiskReason.BOOK_CROSSED
    desk.quote(1, 10_020, 10_010)
    assert reason(desk.order(1)) is RiskReason.BOOK_CROSSED
    desk.quote(1, 9_990, 10_010, qty=0)
    assert reason(desk.order(1)) is RiskReason.BOOK_UNKNOWN
    assert desk.engine.memory.instruments["mark"][1] == mark
    assert desk.engine.counters["quotes_crossed"] == 2
    desk.event(Kind.SNAPSHOT_END, 2, word_2=1)
    assert reason(desk.order(1, instrument_id=2)) is RiskReason.BOOK_UNKNOWN


def test_after_a_restart_of_the_collector_tops_are_unknown_until_their_next_quote(
    desk: Desk,
) -> None:
    """Of that input alone."""
    desk.open(3)
    desk.event(Kind.RESTART, 0)
    assert reason(desk.order(1)) is RiskReason.BOOK_UNKNOWN
    assert accepted(desk.order(1, instrument_id=3))
    desk.open()
    assert accepted(desk.order(1))


# ---- orders that make no sense ----


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"qty": 0}, RiskReason.BAD_QTY),
        ({"qty": -1}, RiskReason.BAD_QTY),
        ({"qty": QTY_LIMIT + 1}, RiskReason.BAD_QTY),
        ({"qty": 1, "side": 0}, RiskReason.BAD_QTY),
        ({"qty": 1, "price": 0}, RiskReason.BAD_PRICE),
        ({"qty": 1, "price": -5}, RiskReason.BAD_PRICE),
        ({"qty": 1, "price": 1, "order_type": OrderType.MARKET}, RiskReason.BAD_PRICE),
        ({"qty": 1, "order_type": 9}, RiskReason.BAD_PRICE),
        ({"qty": 1, "instrument_id": 2}, RiskReason.UNKNOWN_INSTRUMENT),
        ({"qty": 1, "account": 3}, RiskReason.UNKNOWN_ACCOUNT),
        ({"qty": 1, "account": 2**32 - 1}, RiskReason.UNKNOWN_ACCOUNT),
        ({"qty": 1, "instrument_version": 2}, RiskReason.OTHER_VERSION),
    ],
)
def test_nonsense_is_rejected_with_its_reason(desk: Desk, fields: dict, wanted: RiskReason) -> None:
    """Zero, negative and too large quantities, prices without sense, unknown instruments, accounts, versions."""
    row = desk.order(**fields)
    assert reason(row) is wanted and row["verdict"] == Verdict.REJECTED
    assert desk.engine.counters["orders_open"] == 0


def test_scales_too_fine_for_money_are_refused() -> None:
    """18 decimals in all can be counted, 19 cannot."""
    for qty_scale, passes in ((16, True), (17, False)):
        desk = Desk()
        desk.open()
        row = desk.order(1, qty_scale=qty_scale)
        assert accepted(row) == passes and (passes or reason(row) is RiskReason.OVERFLOW)


def test_an_overflow_is_a_refusal_and_never_wraps(desk: Desk) -> None:
    """The largest order stands; what would go beyond is refused; money beyond 128 bits is refused."""
    assert accepted(desk.order(QTY_LIMIT))
    assert reason(desk.order(1)) is RiskReason.OVERFLOW
    big = Desk()
    big.open(1, 1 << 60, (1 << 60) + 2)
    assert reason(big.order(QTY_LIMIT, 1 << 60)) is RiskReason.OVERFLOW
    assert big.engine.trading_state is TradingState.ACTIVE


def test_a_fill_that_cannot_be_booked_halts_the_trading(desk: Desk) -> None:
    """Its position is no longer known: beyond all bounds, or of an account that is not ours."""
    row = desk.fill(1, account=9)
    assert row["verdict"] == Verdict.FILL_BOOKED and reason(row) is RiskReason.UNKNOWN_ACCOUNT
    assert row["trading_state"] == TradingState.HALTED
    desk.control(Action.RESUME)
    assert reason(desk.fill(QTY_LIMIT + 1)) is RiskReason.OVERFLOW
    assert desk.engine.trading_state is TradingState.HALTED
    assert desk.engine.counters["overflows"] == 2


def test_places_for_orders_run_out_with_a_reason(desk: Desk) -> None:
    """As many as fit behind one place stand; the next one is refused; a cancel makes room."""
    ids = [1 + i * ORDER_PLACES for i in range(PROBES + 1)]
    answers = [accepted(desk.order(1, order_id=each)) for each in ids]
    assert answers == [True] * PROBES + [False]
    desk.cancel(ids[3])
    assert accepted(desk.order(1, order_id=ids[-1] + ORDER_PLACES))


# ---- states, cancels, fills ----


def test_halted_refuses_all_and_cancels_pass(desk: Desk) -> None:
    """Until it is resumed."""
    desk.order(1_000)
    assert desk.control(Action.HALT)["trading_state"] == TradingState.HALTED
    assert reason(desk.order(1, side=-1)) is RiskReason.HALTED
    row = desk.cancel(1)
    assert row["verdict"] == Verdict.CANCEL_PASSED and row["orders_open"] == 0
    desk.control(Action.RESUME)
    assert accepted(desk.order(1))


def test_reducing_lets_only_out(desk: Desk) -> None:
    """As much as is held, what stands counted; nothing without a position; REDUCE_ONLY does the same for one order."""
    desk.order(1_000)
    desk.fill(1_000)
    only = {"side": -1, "instructions": Instruction.REDUCE_ONLY}
    assert reason(desk.order(1_001, **only)) is RiskReason.NOT_REDUCING
    desk.control(Action.REDUCE)
    assert reason(desk.order(1)) is RiskReason.NOT_REDUCING
    assert accepted(desk.order(600, side=-1))
    assert reason(desk.order(401, side=-1)) is RiskReason.NOT_REDUCING
    assert accepted(desk.order(400, side=-1))
    assert reason(desk.order(1, side=-1, account=2)) is RiskReason.NOT_REDUCING


def test_a_cancel_passes_always_and_frees_at_once(desk: Desk) -> None:
    """Of an order that is unknown too, which is told; what it frees may be used again."""
    desk.limit(Check.POSITION_SIZE, 1)
    desk.order(1_000)
    assert not accepted(desk.order(1))
    assert reason(desk.cancel(1)) is RiskReason.NONE
    assert accepted(desk.order(1_000))
    row = desk.cancel(77)
    assert row["verdict"] == Verdict.CANCEL_PASSED and reason(row) is RiskReason.UNKNOWN_ORDER


def test_fills_take_off_what_stands(desk: Desk) -> None:
    """In parts, with FINAL wholly, beyond what stands, and of an order that never stood: always booked, told and counted."""
    desk.order(1_000)
    assert desk.fill(400)["orders_open"] == 1
    assert desk.fill(100, instructions=Instruction.FINAL)["orders_open"] == 0
    position = desk.engine.memory.scopes[4]
    assert (position["qty"], position["open_buy"]) == (500, 0)
    desk.order(10)
    desk.fill(11)
    assert desk.engine.counters["fills_beyond"] == 1
    assert reason(desk.fill(5, order_id=99)) is RiskReason.UNKNOWN_ORDER
    assert desk.engine.memory.scopes[4]["qty"] == 516


def test_a_wider_version_brings_everything_up(desk: Desk) -> None:
    """Held and standing quantities, marks and limits mean the same after the venue's digits have grown."""
    desk.limit(Check.POSITION_SIZE, 5)
    desk.order(4_000)
    desk.fill(1_000, 10_100)
    before = desk.engine.memory.scopes.copy()
    desk.event(Kind.SNAPSHOT_END, 1, word_2=2)
    desk.quote(1, 99_900, 100_100)
    after = desk.engine.memory.scopes
    for name in ("exposure", "profit", "value", "cash"):
        np.testing.assert_array_equal(after[name], before[name])
    assert reason(desk.order(1)) is RiskReason.OTHER_VERSION
    wider = {"instrument_version": 2, "price_scale": 3, "qty_scale": 4}
    assert reason(desk.order(10_001, 100_000, **wider)) is RiskReason.POSITION_SIZE_INSTRUMENT
    assert accepted(desk.order(10_000, 100_000, **wider))
    assert reason(desk.fill(3_000, order_id=1)) is RiskReason.NONE
    assert (after["qty"][4], after["open_buy"][4]) == (40_000, 10_000)


def test_lost_orders_halt_and_lost_events_forget_tops(desk: Desk) -> None:
    """What was overwritten before it was read is never passed over in silence."""
    desk.engine.forget(2)
    assert reason(desk.order(1)) is RiskReason.BOOK_UNKNOWN
    desk.engine.forget(0)
    assert desk.engine.trading_state is TradingState.HALTED


def test_a_damaged_state_is_refused() -> None:
    """Cut anywhere, or another computation's: ValueError, and nothing half loaded."""
    desk = Desk()
    desk.open()
    desk.order(1_000)
    image = desk.engine.to_bytes()
    for n in (0, 7, 8, 100, len(image) - 1):
        with pytest.raises(ValueError, match="risk state"):
            Desk().engine.load(image[:n])


def test_the_bench_runs() -> None:
    """With smoke parameters, every decision as expected."""
    done = subprocess.run(
        [sys.executable, "bench/bench_risk_kernel.py", "--smoke"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert figures["limits_in_force"] == 25 and figures["checks_ns"] > 0
