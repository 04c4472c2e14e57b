"""A run that begins with the OPENINGs of the one before goes on as if it had never ended, to the last digit."""

from collections.abc import Iterator
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from pnl_market import DAY_NS as PNL_DAY_NS
from pnl_market import T0, Stream, fill, quote
from risk_kit import DAY_NS, EVENTS, ORDERS, OTHER_EVENTS, Desk, accepted, reason, told
from test_consumers_risk_reference import History

from consumers.carried import CarriedStore
from consumers.checkpoint import Position
from consumers.pnl_engine import PnlEngine, PnlOptions
from layouts import (
    Action,
    Check,
    CostMethod,
    Opening,
    PositionFault,
    RiskReason,
    Scope,
    TradingState,
    Verdict,
)


def opened(old: Desk) -> Desk:
    """Return a desk that begins with what another one holds, under the same limits and rates, at the same market."""
    new = Desk()
    new.ts, new.orders = old.ts, old.orders
    for record in old.engine.openings():
        row = new.feed(ORDERS, record.reshape(1).copy())[0]
        assert (row["verdict"], row["reason"]) == (Verdict.OPENED, 0)
        stands = record["reason"] == Opening.STANDS
        assert row["order_id"] == (record["order_id"] if stands else 0)
    for source, record in old.journal:
        if source != ORDERS:
            new.feed(source, record.copy())
    return new


def test_risk_decides_after_a_new_start_as_it_would_have_before() -> None:
    """Hundreds of random steps later: each reason, each sum, each count the same, also of what stood."""
    history = History(11, (1, 3, 4, 6))
    for currency, price, digits in (("JPY", 7, 3), ("EUR", 108, 2)):
        history.desk.rate(currency, price, digits)
        history.reference.rates[currency] = Fraction(price, 10**digits)
    for _ in range(500):
        history.step()
    before = history.desk
    again = opened(before)
    again.engine.memory.context["trading_state"] = before.engine.trading_state
    at = len(before.journal)
    for _ in range(400):
        history.step()
    compared = 0
    names = ("verdict", "reason", "limit_low", "observed_low", "observed_high", "orders_open")
    for (source, record), wanted in zip(before.journal[at:], before.decisions[at:], strict=True):
        rows = again.feed(source, record.copy())
        for row, each in zip(rows, wanted, strict=True):
            assert [row[name] for name in names] == [each[name] for name in names]
            compared += 1
    assert compared > 250


def test_the_day_s_loss_is_brought_over_and_the_next_day_begins_at_its_mark() -> None:
    """A loss limit that was broken stays broken; tomorrow it does not."""
    desk = Desk()
    desk.open()
    desk.order(1_000)
    desk.fill(1_000, 11_000, fee=50, fee_scale=2)
    desk.limit(Check.DAILY_LOSS, 1_049, Scope.ACCOUNT, digits=2)
    row = desk.order(1)
    assert reason(row) is RiskReason.DAILY_LOSS_ACCOUNT
    again = opened(desk)
    after = again.order(1)
    assert reason(after) is RiskReason.DAILY_LOSS_ACCOUNT
    assert told(after, "observed") == told(row, "observed")
    again.ts += DAY_NS
    again.quote(1, 9_990, 10_010)
    assert accepted(again.order(1))


def test_openings_and_events_may_come_in_any_order() -> None:
    """Tables, markets and wider scales before or after: the same position at the same money."""
    desk = Desk()
    desk.open()
    desk.order(2_000)
    desk.fill(1_000, 9_500)
    first, last = Desk(), Desk()
    for made in (first, last):
        made.orders = desk.orders
        if made is last:
            made.event(5, 1, word_2=2)  # SNAPSHOT_BEGIN of version 2: one more digit
            made.quote(1, 99_900, 100_100)
        for record in desk.engine.openings():
            made.feed(ORDERS, record.reshape(1).copy())
        if made is first:
            made.event(5, 1, word_2=2)
            made.quote(1, 99_900, 100_100)
        made.limit(Check.EXPOSURE, 1, Scope.ACCOUNT)
        wide = {"instrument_version": 2, "price_scale": 3, "qty_scale": 4}
        row = made.order(10_000, 100_000, **wide)
        assert reason(row) is RiskReason.EXPOSURE_ACCOUNT
        assert told(row, "observed") == 300 * 10**19
        assert made.fill(10_000, 100_000, order_id=1, **wide)["reason"] == 0
        assert made.engine.counters["orders_open"] == 0


@pytest.mark.parametrize("field", ["account", "qty"])
def test_an_opening_that_cannot_be_taken_halts_for_good(field: str) -> None:
    """An account that is no longer there, a quantity beyond all bounds: told, HALTED, and `resume` is refused."""
    desk = Desk()
    desk.open()
    desk.order(1_000)
    desk.fill(1_000)
    (record,) = desk.engine.openings()
    record[field] = {"account": 3, "qty": (1 << 60) + 1}[field]
    again = Desk()
    row = again.feed(ORDERS, record.reshape(1).copy())[0]
    assert row["verdict"] == Verdict.OPENED and row["reason"] != 0
    assert again.engine.trading_state is TradingState.HALTED
    assert reason(again.control(Action.RESUME)) is RiskReason.INPUT_LOST
    assert again.control(Action.HALT)["reason"] == 0
    assert {EVENTS, OTHER_EVENTS} == {2, 3}


# ---- P&L ----


def tape(rng: Random, n: int) -> Iterator[tuple[int, np.ndarray]]:
    """Fills of two accounts and instruments at growing scales, and the markets between them."""
    for i in range(n):
        ts = T0 + i * PNL_DAY_NS // 40
        number = rng.choice((1, 2))
        if rng.random() < 0.5:
            bid = rng.randrange(9_000, 11_000)
            yield 1, quote(bid, bid + 3, ts=ts, instrument_id=number)
        else:
            side, qty = rng.choice((-1, 1)), rng.randrange(1, 3_000)
            fee = {"fee": rng.randrange(-9, 99), "fee_scale": rng.choice((2, 9))}
            yield 0, fill(side, rng.randrange(9_000, 11_000), qty, ts,
                          account=rng.choice((1, 2)), instrument_id=number, **fee)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "lots"), [(CostMethod.AVERAGE, 1), (CostMethod.FIFO, 256), (CostMethod.FIFO, 3)]
)
def test_accounts_go_on_as_if_the_run_had_never_ended(method: CostMethod, lots: int) -> None:
    """Lots, sums, days, marks: every later row equal in every column that is not about its cause's place."""
    options = PnlOptions(method, lots=lots, pause_ns=0)
    engine = PnlEngine(lambda _id, _version: 2, options)
    orders, events = Stream(), Stream()
    steps = list(tape(Random(3), 240))
    for source, record in steps[:120]:
        engine.process((orders, events)[source].take(record), source)
    again = PnlEngine(lambda _id, _version: 2, options)
    new_orders, new_events = Stream(), Stream()
    rows = again.process(new_orders.take(*(r.reshape(1) for r in engine.openings())), 0)
    assert len(rows) == engine.counters["positions"] == again.counters["positions"]
    apart = ("stamp", "source_epoch", "source_seq", "applied_seq", "source_index")
    names = [name for name in rows.dtype.names or () if name not in apart]
    first = {(int(r["account"]), int(r["instrument_id"])): r for r in rows}
    for position in engine.positions:
        row = first[int(position["account"]), int(position["instrument_id"])]
        assert (row["qty"], row["fills"]) == (position["qty"], position["fills"])
        assert row["faults"] & PositionFault.MARK_STALE and row["mark_kind"] != 0
    compared = 0
    seen: set[int] = set()
    for source, record in steps[120:]:
        wanted = engine.process((orders, events)[source].take(record.copy()), source)
        found = again.process((new_orders, new_events)[source].take(record.copy()), source)
        number = int(record["instrument_id"][0])
        seen |= {number} if source == 1 else set()
        if number not in seen:
            continue  # its mark is stale here, and was not there
        wanted, found = (np.sort(each, order=["account"]) for each in (wanted, found))
        assert len(wanted) == len(found)
        for name in names:
            np.testing.assert_array_equal(wanted[name], found[name], name)
        compared += len(found)
    assert compared > 100


def test_with_less_room_the_newest_lots_are_merged_and_no_money_is_lost() -> None:
    """Ten FIFO lots into average cost: quantity, cost and totals the same."""
    engine = PnlEngine(lambda _i, _v: 2, PnlOptions(CostMethod.FIFO))
    orders = Stream()
    for i in range(10):
        engine.process(orders.take(fill(1, 1_000 + i, 100)), 0)
    openings = engine.openings()
    assert np.count_nonzero(openings["reason"] == Opening.LOT) == 10
    for room, lots in (
        (PnlOptions(CostMethod.AVERAGE), 1),
        (PnlOptions(CostMethod.FIFO, lots=4), 4),
    ):
        again = PnlEngine(lambda _i, _v: 2, room)
        (row,) = again.process(Stream().take(*(r.reshape(1) for r in openings)), 0)
        assert (row["qty"], row["lots"]) == (1_000, lots)
        assert row["cost_low"] == engine.positions[0]["cost"][0]
        assert bool(row["faults"] & PositionFault.LOTS_MERGED) == (lots > 1)


def test_what_a_worker_keeps_is_read_back_by_another_process(tmp_path) -> None:
    """The newest whole one of two files; nothing where there is none, or only torn ones."""
    engine = PnlEngine(lambda _i, _v: 2, PnlOptions())
    engine.process(Stream().take(fill(1, 1_000, 100)), 0)
    assert CarriedStore(tmp_path, "pnl").load() is None
    store = CarriedStore(tmp_path, "pnl")
    store.load()
    for next_seq in (2, 3, 3):
        at = Position(ring="orders.orders", uuid="u", next_seq=next_seq, lapped=0)
        store.save(at, engine, is_last=False)
    found = CarriedStore(tmp_path, "pnl").load()
    assert found is not None and (found.uuid, found.next_seq) == ("u", 3)
    assert found.records.tobytes() == engine.openings().tobytes()
    files = sorted((tmp_path / "checkpoints").glob("pnl.openings.*"))
    for file, left in zip(sorted(files, key=lambda f: f.stat().st_mtime_ns, reverse=True), (2, None), strict=True):  # fmt: skip
        file.write_bytes(file.read_bytes()[:-1])
        found = CarriedStore(tmp_path, "pnl").load()
        assert (found and found.next_seq) == left
