"""Exposures equal plain sums, value at risk equals its definition, and what is missing is told."""

import itertools
import random
from fractions import Fraction
from math import sqrt
from statistics import NormalDist, covariance

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pnl_market import DAY_NS, T0, Stream, fill, money, quote

from consumers.exposure import ExposureSpec, options_of
from consumers.exposure_engine import ROWS_AT_ONCE, ExposureEngine, ExposureOptions
from consumers.pnl_engine import PnlEngine, PnlOptions
from consumers.value_at_risk import historical, parametric, returns_of
from layouts import ExposureFault, Scope

S = 10**9
RATES = {"EUR": "kraken:EUR/USD"}
NAMES = {1: "kraken:BTC/USD", 2: "kraken:ETH/USD", 3: "kraken:EUR/USD", 4: "kraken:BTC/EUR"}
BOTH = {"base_currency": "USD", "rates": RATES}


class Desk:
    """A P&L engine whose rows an exposure engine reads."""

    def __init__(self, **options) -> None:
        given = {"slot_ns": S, "interval_ns": S, "least_samples": 2} | options
        self.pnl = PnlEngine(lambda _id, _v: 2, PnlOptions(pause_ns=0), lambda each: each == 3)
        self.engine = ExposureEngine(ExposureOptions(**given), lambda each: NAMES.get(each, ""))
        self.orders, self.events, self.positions = Stream(), Stream(), Stream()

    def fills(self, *records: np.ndarray) -> np.ndarray:
        return self.engine.process(
            self.positions.take(self.pnl.process(self.orders.take(*records), 0))
        )

    def sees(self, *records: np.ndarray) -> np.ndarray:
        return self.engine.process(
            self.positions.take(self.pnl.process(self.events.take(*records), 1))
        )


def at(second: int, price: int, instrument_id: int = 1, **more) -> np.ndarray:
    """A quote with the mid `price` / 100 at a second."""
    return quote(price - 1, price + 1, ts=T0 + second * S, instrument_id=instrument_id, **more)


def number(row: np.void, name: str) -> Fraction:
    return Fraction(money(row, name), 10 ** int(row["money_scale"]))


def test_sums_are_exact_by_currency_and_rounded_once_in_the_base() -> None:
    """Long 5 at 100.00, short 2 at 50.00; 3 at 10.00 EUR at 1.10; another account."""
    desk = Desk(**BOTH)
    desk.sees(at(0, 10000), at(0, 5000, 2), at(0, 110, 3), at(0, 1000, 4))
    desk.fills(
        fill(1, 10000, 5000), fill(-1, 5000, 2000, instrument_id=2),
        fill(1, 1000, 3000, instrument_id=4, quote_currency=b"EUR"), fill(-1, 10000, 1000, account=2),
    )  # fmt: skip
    assert len(desk.sees(at(0, 10010))) == 0
    rows = desk.sees(at(1, 10020))
    told = [(r["scope"], r["account"], r["currency"].decode()) for r in rows]
    assert told == [
        (Scope.CURRENCY, 1, "EUR"), (Scope.CURRENCY, 1, "USD"), (Scope.CURRENCY, 2, "USD"),
        (Scope.ACCOUNT, 1, "USD"), (Scope.ACCOUNT, 2, "USD"), (Scope.PORTFOLIO, 0, "USD"),
    ]  # fmt: skip
    sums = [[float(number(r, n)) for n in ("long", "short", "gross", "net")] for r in rows]
    assert sums == [
        [30, 0, 30, 30], [500.5, 100, 600.5, 400.5], [0, 100.1, 100.1, -100.1],
        [533.5, 100, 633.5, 433.5], [0, 100.1, 100.1, -100.1], [533.5, 200.1, 733.6, 333.4],
    ]  # fmt: skip
    assert (rows["ts_slot"] == (T0 // S + 1) * S).all()
    assert rows["positions"].tolist() == [1, 2, 1, 3, 1, 4]
    assert rows["source_index"].tolist() == list(range(6)) and (rows["source_count"] == 6).all()
    assert (rows["faults"] == ExposureFault.FEW_SAMPLES).all()


def test_without_a_base_currency_currencies_are_never_added_up() -> None:
    """One row a currency, no total."""
    desk = Desk()
    desk.sees(at(0, 10000), at(0, 1000, 4))
    desk.fills(fill(1, 10000, 1), fill(1, 1000, 1, instrument_id=4, quote_currency=b"EUR"))
    desk.sees(at(0, 10010))
    assert desk.sees(at(1, 10020))["scope"].tolist() == [Scope.CURRENCY, Scope.CURRENCY]


def test_what_has_no_rate_or_no_mark_is_left_out_and_told() -> None:
    """In the total the euros are missing until their rate is known; in their own row nothing is."""
    desk = Desk(**BOTH)
    desk.sees(at(0, 10000), at(0, 1000, 4))
    desk.fills(fill(1, 10000, 1), fill(1, 1000, 1, instrument_id=4, quote_currency=b"EUR"))
    desk.fills(fill(1, 10000, 1, instrument_id=2))
    desk.sees(at(0, 10010))
    rows = desk.sees(at(1, 10020))
    assert rows["unpriced"].tolist() == [0, 1, 2, 2]
    unpriced = (rows["faults"] & ExposureFault.UNPRICED != 0).tolist()
    assert unpriced == [False, True, True, True]
    desk.sees(at(1, 110, 3), at(1, 5000, 2))
    assert desk.sees(at(2, 10030))["unpriced"].tolist() == [0, 0, 0, 0]


def test_a_rate_may_be_a_number() -> None:
    """10 EUR are 12.5 USD at 1.25, though nobody quotes the euro."""
    desk = Desk(base_currency="USD", rates={"EUR": "1.250"})
    desk.sees(at(0, 1000, 4))
    desk.fills(fill(1, 1000, 1000, instrument_id=4, quote_currency=b"EUR"))
    desk.sees(at(0, 1001, 4))
    rows = desk.sees(at(1, 1000, 4))
    assert [(r["scope"], float(number(r, "net"))) for r in rows] == [
        (Scope.CURRENCY, 10.01), (Scope.ACCOUNT, 12.5125), (Scope.PORTFOLIO, 12.5125),
    ]  # fmt: skip


def test_stale_marks_and_doubtful_positions_are_told() -> None:
    """A book that is not LIVE; orders that were lost."""
    desk = Desk()
    desk.sees(at(0, 10000))
    desk.fills(fill(1, 10000, 1))
    desk.sees(at(0, 10010, state=2))
    assert desk.sees(at(1, 10020))[0]["faults"] & ExposureFault.STALE
    desk.pnl.forget(0)
    desk.fills(fill(1, 10000, 1))
    assert desk.sees(at(2, 10030))[0]["faults"] & ExposureFault.POSITIONS_DOUBTFUL


def test_a_flat_account_has_nothing_at_risk() -> None:
    """Zeros, and no fault for want of samples."""
    desk = Desk()
    desk.sees(at(0, 10000))
    desk.fills(fill(1, 10000, 1), fill(-1, 10000, 1), fill(1, 5000, 1, instrument_id=2))
    desk.fills(fill(-1, 5000, 1, instrument_id=2), fill(1, 1, 1, account=2))
    desk.sees(at(0, 10010))
    row = desk.sees(at(1, 10020))[0]
    assert (money(row, "gross"), row["var_historical"], row["faults"]) == (0, 0.0, 0)


def test_value_at_risk_is_of_the_returns_between_samples() -> None:
    """Twenty seconds of two marks; both figures from the definition."""
    rng = random.Random(3)
    desk = Desk(least_samples=19, confidence=0.9)
    marks = [[10000 + rng.randrange(-300, 300), 5000 + rng.randrange(-300, 300)] for _ in range(22)]
    desk.sees(at(0, marks[0][0]), at(0, marks[0][1], 2))
    desk.fills(fill(1, 10000, 7000), fill(-1, 5000, 3000, instrument_id=2))
    for second, (first, second_mark) in enumerate(marks):
        rows = desk.sees(at(second, first), at(second, second_mark, 2))
    # The first mark moved in second 1, the last slot ended with the first quote of second 21: samples of 1 .. 20.
    assert rows[0]["samples"] == 19 and rows[0]["faults"] == 0
    prices = np.array(marks[1:21]) / 100
    values = [7.0 * prices[-1][0], -3.0 * prices[-1][1]]
    returns = [
        [b / a - 1 for a, b in zip(p, q, strict=True)] for p, q in itertools.pairwise(prices)
    ]
    losses = sorted(-sum(v * r for v, r in zip(values, each, strict=True)) for each in returns)
    assert rows[0]["var_historical"] == pytest.approx(losses[17], rel=1e-9)
    by_instrument = list(zip(*returns, strict=True))
    variance = sum(
        values[i] * values[j] * covariance(by_instrument[i], by_instrument[j])
        for i in range(2) for j in range(2)
    )  # fmt: skip
    wanted = NormalDist().inv_cdf(0.9) * sqrt(variance)
    assert rows[0]["var_parametric"] == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6), n=st.integers(2, 60), m=st.integers(1, 5), c=st.floats(0.5, 0.999)
)
def test_value_at_risk_equals_plain_definitions(seed: int, n: int, m: int, c: float) -> None:
    """The order statistic, and the variance of the joint gain."""
    rng = np.random.default_rng(seed)
    returns, values = rng.normal(0, 0.01, (n, m)), rng.normal(0, 1e5, m)
    losses = np.sort(-(returns @ values))
    least = next(x for i, x in enumerate(losses) if (i + 1) / n >= c or np.isclose((i + 1) / n, c))
    assert historical(values, returns, c) in (
        least,
        losses[min(n - 1, list(losses).index(least) + 1)],
    )
    wanted = NormalDist().inv_cdf(c) * np.std(returns @ values, ddof=1)
    assert parametric(values, returns, c) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert historical(values, returns, c) == np.quantile(losses, c, method="inverted_cdf")


@pytest.mark.parametrize(
    ("confidence", "loss"), [(0.9, 9.0), (0.91, 10.0), (0.5, 5.0), (0.89, 9.0)]
)
def test_a_historical_value_at_risk_is_a_loss_that_occurred(confidence: float, loss: float) -> None:
    """Ten losses of 1 .. 10: at 0.9 nine of them are no greater."""
    returns = -np.arange(1.0, 11.0)[:, None] / 100
    assert historical(np.array([100.0]), returns, confidence) == pytest.approx(loss)


def test_returns_are_simple() -> None:
    """A rise by a tenth and a fall by a half."""
    assert returns_of(np.array([[10.0], [11.0], [5.5]])).ravel() == pytest.approx([0.1, -0.5])


@pytest.mark.parametrize(("samples", "few"), [(2, False), (3, True)])
def test_too_few_samples_are_told_and_give_no_number(samples: int, few: bool) -> None:
    """Both sides of the least number."""
    desk = Desk(least_samples=samples)
    desk.sees(at(0, 10000))
    desk.fills(fill(1, 10000, 1))
    for second in range(4):
        rows = desk.sees(at(second, 10001 + second))
    assert bool(rows[0]["faults"] & ExposureFault.FEW_SAMPLES) == few
    assert np.isnan(rows[0]["var_historical"]) == few
    assert rows[0]["samples"] == 2


def test_the_window_forgets_the_oldest() -> None:
    """Three returns are kept."""
    desk = Desk(window=3)
    desk.sees(at(0, 10000))
    desk.fills(fill(1, 10000, 1))
    for second in range(9):
        rows = desk.sees(at(second, 10001 + second))
    assert rows[0]["samples"] == 3


def test_time_is_that_of_marks_and_slots_without_a_row_are_left_out() -> None:
    """A fill of another clock ends nothing; after an hour one slot is told, that which ended; a day back begins anew."""
    desk = Desk()
    desk.sees(at(0, 10000))
    assert len(desk.fills(fill(1, 10000, 1, T0 + 30 * DAY_NS))) == 0
    assert len(desk.sees(at(0, 10001))) == 0
    rows = desk.sees(at(3600, 10002))
    assert rows["ts_slot"].tolist() == [(T0 // S + 1) * S]
    assert len(desk.sees(at(3599, 10003))) == 0
    assert len(desk.sees(at(-86_400 * 2, 10004))) == 0
    assert len(desk.sees(at(-86_400 * 2 + 1, 10005))) == 1
    assert desk.engine.counters["clocks_back"] == 1


def test_more_rows_than_there_is_room_for_are_counted() -> None:
    """As many as fit are written, in order."""
    desk = Desk()
    for account in range(ROWS_AT_ONCE + 3):
        row = fill(1, 1, 1, account=account, instrument_id=10 + account // 60)
        desk.fills(row)
    desk.sees(at(0, 10000, 10), at(0, 10001, 10))
    rows = desk.sees(at(1, 10002, 10))
    slot = rows[: int(rows[0]["source_count"])]
    assert len(slot) == ROWS_AT_ONCE and desk.engine.counters["rows_left_out"] >= 3


def test_a_state_that_was_stored_goes_on_as_if_nothing_had_been() -> None:
    """Cut anywhere, the rows after it are the same bytes."""

    def feed(desk: Desk, cut: int) -> bytes:
        rng, made = random.Random(4), []
        for second in range(12):
            if second == cut:
                image = desk.engine.to_bytes()
                desk.engine = ExposureEngine(desk.engine.options, lambda each: NAMES.get(each, ""))
                desk.engine.load(image)
            for each in (1, 2, 3, 4):
                made.append(desk.sees(at(second, rng.randrange(100, 200), each)))
            record = fill(rng.choice([1, -1]), 100, 5, instrument_id=4, quote_currency=b"EUR")
            made.append(desk.fills(record if second % 3 else fill(1, 100, 5)))
        return np.concatenate(made).tobytes()

    wanted = feed(Desk(**BOTH), -1)
    assert len(wanted) > 30 * 256
    assert all(feed(Desk(**BOTH), cut) == wanted for cut in range(12))


def test_a_state_that_is_none_is_refused() -> None:
    """Cut, or something else."""
    for wrong in (b"", b"\x00", Desk().engine.to_bytes()[:-1]):
        with pytest.raises(ValueError, match="no state"):
            Desk().engine.load(wrong)


def test_a_spec_says_what_is_told() -> None:
    """Seconds become ns; a confidence that is none is refused."""
    base = {"instance": "a", "worker": "exposure", "state_dir": "b", "inputs": ["pnl.positions"]}
    assert options_of(ExposureSpec(**base)) == ExposureOptions()
    for wrong in (0.49, 1.0):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(base | {"confidence": wrong}, ExposureSpec)
