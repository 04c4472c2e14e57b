"""P&L rows equal a plain reference for any mix of fills and events; faults, days, scales and refusals have their outcome."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pnl_market import (
    DAY_NS,
    LIVE,
    SUSPECT,
    T0,
    Reference,
    Stream,
    event,
    fill,
    money,
    quote,
    told_of,
    trade,
)

from consumers.pnl_engine import PnlEngine, PnlOptions
from consumers.pnl_state import ACCOUNTS, NOBODY, ORDERS
from layouts import CostMethod, Kind, MarkKind, PositionFault
from shm.njit import CompileCounter

BUY, SELL = 1, -1
MS = 10**6
EVENTS = 1


class Desk:
    """An engine with its two streams."""

    def __init__(self, scale: int = 2, **options) -> None:
        self.scales = {0: scale, 1: scale}
        self.engine = PnlEngine(
            lambda _id, version: self.scales.get(version), PnlOptions(**options)
        )
        self.orders, self.events = Stream(), Stream()

    def fills(self, *records: np.ndarray) -> np.ndarray:
        """Apply fills."""
        return self.engine.process(self.orders.take(*records), ORDERS, 7)

    def sees(self, *records: np.ndarray) -> np.ndarray:
        """Apply events."""
        return self.engine.process(self.events.take(*records), EVENTS, 8)

    def count(self, name: str) -> int:
        """Give a counter."""
        return self.engine.counters[name]


times = st.one_of(
    st.integers(0, 3000).map(lambda ms: T0 + ms * MS),
    st.integers(-1, 2).map(lambda days: T0 + days * DAY_NS),
)
made = st.one_of(
    st.builds(
        fill, st.sampled_from([BUY, SELL]), st.integers(-500, 5000), st.integers(1, 9), times,
        st.sampled_from([1, 2, 9]), st.sampled_from([1, 2]), fee=st.integers(-3, 9), fee_scale=st.just(5),
    ),
    st.builds(
        lambda bid, spread, sizes, **more: quote(bid, bid + spread, *sizes, **more),
        st.integers(-100, 5000), st.integers(-1, 9),
        st.sampled_from([(1, 1), (1, 1), (1, 1), (0, 1), (1, 0)]),
        ts=times, instrument_id=st.sampled_from([1, 2]), state=st.sampled_from([LIVE, LIVE, SUSPECT]),
        last=st.booleans(),
    ),
    st.builds(trade, st.integers(-100, 5000), ts=times, instrument_id=st.sampled_from([1, 2]), last=st.booleans()),
    st.builds(event, st.just(Kind.STATE), ts=times, state=st.sampled_from([LIVE, SUSPECT])),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(made, max_size=60),
    room=st.sampled_from([1, 3]),
    mark=st.sampled_from([MarkKind.MID, MarkKind.LAST]),
    pause_ms=st.sampled_from([0, 100]),
)
def test_any_mix_of_fills_and_events_gives_the_reference_rows(
    records: list, room: int, mark: MarkKind, pause_ms: int
) -> None:
    """Two instruments, three accounts, days that come and go, books that cross and lose a side."""
    method = CostMethod.AVERAGE if room == 1 else CostMethod.FIFO
    desk = Desk(method=method, lots=room, mark=mark, pause_ns=pause_ms * MS)
    reference = Reference(room, mark, pause_ms * MS)
    for record in records:
        take = desk.fills if record["kind"][0] == Kind.FILL else desk.sees
        rows = take(record)
        assert told_of(rows) == reference.take(record[0])
        assert (rows["applied_seq"][:, :2] == (desk.orders.seq, desk.events.seq)).all()
        assert rows["source_index"].tolist() == list(range(len(rows)))
        assert (rows["source_count"] == len(rows)).all()


@settings(max_examples=60, deadline=None)
@given(records=st.lists(made, max_size=40), cut=st.integers(0, 40))
def test_a_state_that_was_stored_goes_on_as_if_nothing_had_been(records: list, cut: int) -> None:
    """Bytes of the state at any place; the rows after it are the same."""
    options = {"method": CostMethod.FIFO, "lots": 3}
    whole, first, second = Desk(**options), Desk(**options), Desk(**options)
    second.orders, second.events = first.orders, first.events

    def take(desk: Desk, part: list) -> list[bytes]:
        return [(desk.fills if r["kind"][0] == Kind.FILL else desk.sees)(r).tobytes() for r in part]

    wanted = take(whole, records)
    found = take(first, records[:cut])
    second.engine.load(first.engine.to_bytes())
    assert second.engine.to_bytes() == first.engine.to_bytes()
    assert found + take(second, records[cut:]) == wanted
    assert second.engine.counters == whole.engine.counters


def test_batches_longer_than_one_call_give_the_same_rows() -> None:
    """300 fills at once, or one by one."""
    at_once, singly = Desk(), Desk()
    records = [fill(BUY if i % 3 else SELL, 100 + i, 1 + i % 7, T0 + i) for i in range(300)]
    rows = at_once.fills(*records)
    assert rows.tobytes() == b"".join(singly.fills(record).tobytes() for record in records)


def test_a_row_names_its_cause_and_its_terms() -> None:
    """Epoch, seq, currency, scales, method, version."""
    desk = Desk(method=CostMethod.FIFO)
    desk.sees(quote(100, 102))
    row = desk.fills(fill(BUY, 100, 5, instrument_version=3, multiplier=10, multiplier_scale=1))[0]
    assert (row["kind"], row["source_epoch"], row["source_seq"]) == (Kind.POSITION, 7, 1)
    assert (row["price_scale"], row["qty_scale"], row["multiplier_scale"]) == (2, 3, 1)
    assert (row["mark_scale"], row["money_scale"]) == (3, 7)
    assert (row["method"], row["quote_currency"]) == (CostMethod.FIFO, b"USD")
    assert (row["instrument_version"], row["multiplier"]) == (3, 10)
    assert (row["mark_price"], money(row, "unrealised")) == (1010, 10 * 5 * 10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"qty": 0}, {"qty": -1}, {"marks": 0}, {"marks": 0x0C}, {"instrument_id": 0},
        {"multiplier": 0}, {"price": 10**18}, {"fee": -(10**18)},
    ],
)  # fmt: skip
def test_a_fill_that_says_nothing_is_refused_and_counted(wrong: dict) -> None:
    """No row, no position, one count."""
    desk = Desk()
    record = fill(BUY, 100, 5)
    for name, value in wrong.items():
        record[name] = value
    assert len(desk.fills(record)) == 0
    assert (desk.count("fills_refused"), desk.count("positions")) == (1, 0)


def test_a_fill_in_another_currency_than_its_position_is_refused() -> None:
    """The first fill names the currency."""
    desk = Desk()
    assert len(desk.fills(fill(BUY, 1, 1), fill(BUY, 1, 1, quote_currency=b"EUR"))) == 1
    assert (desk.count("fills_refused"), desk.count("fills_booked")) == (1, 1)


def test_orders_and_cancels_are_no_fills() -> None:
    """They are passed over."""
    desk = Desk()
    order, cancel = fill(BUY, 1, 1), fill(BUY, 1, 1)
    order["kind"], cancel["kind"] = Kind.ORDER, Kind.CANCEL
    rows = desk.fills(order, cancel, fill(BUY, 1, 1))
    assert rows["source_seq"].tolist() == [3]


def test_an_instrument_nobody_knows_is_booked_without_a_mark() -> None:
    """The fill has all that booking needs; what is missing is told and counted."""
    desk = Desk()
    desk.scales.clear()
    row = desk.fills(fill(BUY, 100, 5))[0]
    assert (row["faults"], row["mark_kind"], money(row, "unrealised")) == (
        PositionFault.NO_MARK,
        0,
        0,
    )
    assert (money(row, "cost"), desk.count("fills_unmarked")) == (5000, 1)
    assert len(desk.sees(quote(100, 102))) == 0
    desk.scales[0] = 2
    desk.engine.idle()
    row = desk.sees(quote(100, 104))[0]
    assert (row["faults"], money(row, "unrealised")) == (0, 5 * 20)


def test_a_fee_of_another_currency_is_flagged_and_not_added() -> None:
    """It stays flagged."""
    desk = Desk()
    rows = desk.fills(
        fill(BUY, 1, 1, fee=5, fee_currency=b"BTC"), fill(BUY, 1, 1, fee=5, fee_scale=5)
    )
    assert [money(row, "fees") for row in rows] == [0, 50]
    assert (rows["faults"] & PositionFault.FEE_CURRENCY).all()
    assert desk.count("fees_elsewhere") == 1


@pytest.mark.parametrize("source", [ORDERS, EVENTS])
def test_a_loss_is_told_in_the_rows(source: int) -> None:
    """Lost orders for good; lost events until the next quote."""
    desk = Desk(pause_ns=0)
    desk.sees(quote(100, 102))
    desk.fills(fill(BUY, 100, 5))
    desk.engine.forget(source)
    fault = PositionFault.INPUT_LOST if source == ORDERS else PositionFault.MARK_STALE
    assert desk.fills(fill(BUY, 100, 5))[0]["faults"] == fault
    after = PositionFault.INPUT_LOST if source == ORDERS else 0
    assert desk.sees(quote(100, 104))[0]["faults"] == after
    assert desk.fills(fill(BUY, 100, 5, account=2))[0]["faults"] == after


def test_a_restarted_collector_is_not_believed_until_its_next_quote() -> None:
    """RESTART concerns the instruments of its own ring."""
    desk = Desk(pause_ns=0)
    desk.sees(quote(100, 102))
    desk.fills(fill(BUY, 100, 5))
    desk.sees(event(Kind.RESTART, 9, 8, instrument_id=0))
    assert desk.sees(event(Kind.STATE))[0]["faults"] == PositionFault.MARK_STALE
    assert desk.sees(quote(100, 102))[0]["faults"] == 0


def test_a_mark_is_taken_at_the_end_of_a_frame_alone() -> None:
    """A quote in mid-frame causes no row; the record that ends the frame does."""
    desk = Desk(pause_ns=0)
    desk.fills(fill(BUY, 100, 5))
    assert len(desk.sees(quote(100, 102, last=False))) == 0
    assert len(desk.sees(event(Kind.LEVEL, 99, 1))) == 1


@pytest.mark.parametrize(("after_ms", "rows"), [(99, 0), (100, 1), (-99, 0), (-100, 1)])
def test_the_pause_is_of_record_time_whichever_way_it_goes(after_ms: int, rows: int) -> None:
    """Both sides of 100 ms, forward and back."""
    desk = Desk(pause_ns=100 * MS)
    desk.fills(fill(BUY, 100, 5))
    assert len(desk.sees(quote(100, 102))) == 1
    assert len(desk.sees(quote(100, 104, ts=T0 + after_ms * MS))) == rows


def test_a_late_print_and_a_trade_without_quantity_are_no_mark() -> None:
    """The last mark stays."""
    desk = Desk(mark=MarkKind.LAST, pause_ns=0)
    desk.sees(trade(100))
    late = trade(200)
    late["marks"] |= 0x40
    desk.sees(late, trade(300, 0))
    assert desk.fills(fill(BUY, 100, 5))[0]["mark_price"] == 1000
    assert desk.count("prices_refused") == 1


def test_one_event_values_each_account() -> None:
    """As many rows as accounts, up to the room; the account beyond it is refused."""
    desk = Desk(pause_ns=0)
    rows = desk.fills(*(fill(BUY, 100, 1, account=i) for i in range(ACCOUNTS + 1)))
    assert (len(rows), desk.count("fills_refused")) == (ACCOUNTS, 1)
    rows = desk.sees(quote(100, 102))
    assert sorted(rows["account"].tolist()) == list(range(ACCOUNTS))
    assert rows["source_index"].tolist() == list(range(ACCOUNTS))
    assert len(desk.fills(fill(SELL, 100, 1, account=3))) == 1


def test_days_begin_at_the_hour_of_the_session() -> None:
    """At 22:00 of the day before, and not a nanosecond earlier."""
    start = 22 * 3600 * 10**9
    desk = Desk(day_start_ns=start, pause_ns=0)
    rows = desk.fills(
        fill(BUY, 100, 5, T0), fill(SELL, 110, 5, 20_000 * DAY_NS + start - 1),
        fill(BUY, 100, 5, 20_000 * DAY_NS + start),
    )  # fmt: skip
    assert rows["day_no"].tolist() == [19_999, 19_999, 20_000]
    assert [money(row, "realised") for row in rows] == [0, 500, 0]
    assert money(rows[2], "realised_total") == 500


def test_a_clock_that_had_been_wrong_is_counted() -> None:
    """A fill of yesterday is late; one from longer ago brings the day back, an event never does."""
    desk = Desk(pause_ns=0)
    rows = desk.fills(
        fill(BUY, 1, 1, T0), fill(BUY, 1, 1, T0 - DAY_NS), fill(BUY, 1, 1, T0 - 2 * DAY_NS)
    )
    assert rows["day_no"].tolist() == [20_000, 20_000, 19_998]
    assert [bool(row["faults"] & PositionFault.LATE) for row in rows] == [False, True, False]
    assert (desk.count("fills_late"), desk.count("days_back")) == (1, 1)
    assert desk.sees(quote(100, 102, ts=T0 - 9 * DAY_NS))["day_no"].tolist() == [19_998]
    assert desk.sees(quote(100, 104, ts=T0))["day_no"].tolist() == [20_000]


@pytest.mark.parametrize("method", list(CostMethod))
def test_a_fill_with_more_decimals_widens_its_position_exactly(method: CostMethod) -> None:
    """Price, quantity, multiplier and fee; the money is the same number at more digits."""
    desk = Desk(method=method)
    desk.sees(quote(10000, 10002))
    desk.fills(fill(BUY, 10000, 5000), fill(BUY, 10100, 5000))
    row = desk.fills(
        fill(SELL, 1020000, 2500000, price_scale=4, qty_scale=6, multiplier=10, multiplier_scale=1,
             fee=123456, fee_scale=14)
    )[0]  # fmt: skip
    assert (row["price_scale"], row["qty_scale"], row["multiplier_scale"]) == (4, 6, 1)
    assert (row["mark_scale"], row["money_scale"]) == (7, 14)
    held = {CostMethod.FIFO: 5.0, CostMethod.AVERAGE: 3.75}[method]
    assert money(row, "realised") == int(held * 10**14)
    assert (row["qty"], money(row, "fees")) == (7_500_000, 123456)
    assert money(row, "unrealised") == int(7.5 * 100.01 * 10**14) - money(row, "cost")
    assert desk.fills(fill(SELL, 10000, 7500))[0]["qty"] == 0


def test_a_wider_version_of_the_instrument_goes_on_with_its_mark() -> None:
    """Version 2 has two decimals more than the position and its quotes."""
    desk = Desk(pause_ns=0)
    desk.scales[2] = 4
    desk.sees(quote(100, 102))
    desk.fills(fill(BUY, 100, 5))
    row = desk.sees(event(Kind.STATE, int(LIVE), 1, 2))
    assert len(row) == 1 and (row[0]["mark_scale"], row[0]["mark_price"]) == (5, 101_000)
    row = desk.sees(quote(10_000, 10_201))[0]
    assert (row["mark_price"], money(row, "unrealised")) == (101_005, 5 * 1005)


@pytest.mark.parametrize(("qty", "booked"), [(9, True), (10, False)])
def test_a_fill_beyond_64_bits_of_quantity_is_flagged_and_not_booked(
    qty: int, booked: bool
) -> None:
    """18 digits more fit 9, not 10 units."""
    desk = Desk()
    rows = desk.fills(fill(BUY, 1, qty, qty_scale=0), fill(BUY, 1, 1, qty_scale=18))
    assert len(rows) == 2
    assert bool(rows[1]["faults"] & PositionFault.OVERFLOW) != booked
    assert (desk.count("fills_booked"), desk.count("fills_too_wide")) == (1 + booked, 1 - booked)
    assert rows[1]["qty"] == (qty * 10**18 + 1 if booked else qty)


def test_a_refused_fill_takes_its_fee_back() -> None:
    """Fill and fee are booked both or neither."""
    desk = Desk(scale=0)
    whole = {"qty_scale": 0, "price_scale": 0}
    rows = desk.fills(
        fill(BUY, 10**17, 1, **whole), fill(BUY, 10**17, (1 << 63) - 1, fee=7, **whole)
    )
    assert rows[1]["faults"] & PositionFault.OVERFLOW
    assert (rows[1]["qty"], money(rows[1], "fees")) == (1, 0)


def test_nothing_is_compiled_once_it_has_run() -> None:
    """Every path above has its machine code."""
    for repeat in range(2):
        if repeat:
            compiles = CompileCounter()
        desk = Desk()
        desk.sees(quote(100, 102))
        desk.fills(fill(BUY, 100, 5))
    assert compiles.count == 0


def test_a_state_that_is_none_is_refused() -> None:
    """Cut, or of another length than it says."""
    desk = Desk()
    desk.fills(fill(BUY, 100, 5))
    image = desk.engine.to_bytes()
    for wrong in (b"", image[:-1], image + b"x"):
        with pytest.raises(ValueError, match="does not hold"):
            Desk().engine.load(wrong)


def test_orders_that_begin_in_the_middle_are_told() -> None:
    """A ring that has gone round before the worker first read it, and a jump within it."""
    whole, late = Desk(), Desk()
    late.orders.seq = 5
    assert whole.fills(fill(BUY, 1, 1))[0]["faults"] & PositionFault.INPUT_LOST == 0
    assert late.fills(fill(BUY, 1, 1))[0]["faults"] & PositionFault.INPUT_LOST
    whole.orders.seq += 1
    assert whole.fills(fill(BUY, 1, 1))[0]["faults"] & PositionFault.INPUT_LOST


def test_a_watched_instrument_tells_its_mark_and_nothing_else() -> None:
    """A row of nobody's at the pace of the marks; no fill may be nobody's."""
    desk = Desk(pause_ns=0)
    desk.engine = PnlEngine(lambda _id, _version: 2, PnlOptions(pause_ns=0), lambda each: each == 2)
    rows = desk.sees(*(quote(100, 102, instrument_id=each) for each in (1, 2, 1, 2)))
    assert [(r["account"], r["instrument_id"], r["mark_price"]) for r in rows] == [
        (NOBODY, 2, 1010)
    ]
    assert (rows[0]["fills"], rows[0]["qty"], rows[0]["day_no"]) == (0, 0, 0)
    assert len(desk.sees(quote(100, 104, ts=T0 + DAY_NS, instrument_id=2))) == 1
    assert len(desk.fills(fill(BUY, 1, 1, account=NOBODY))) == 0
