"""Sums over several currencies: refused without a rate that can be used, converted with one, and rounded against us."""

import pytest
from risk_kit import Desk, accepted, names, reason, told

from consumers.rates import Rate, mistakes_of, parse_rate
from layouts import Action, Check, InstrumentState, Kind, RiskReason, Scope, Verdict
from shm.errors import ConfigurationError

EURO = {"instrument_id": 4, "quote_currency": b"EUR"}
EUR_USD = "north:EUR/USD"
MIXED = (Scope.VENUE, Scope.ACCOUNT, Scope.PORTFOLIO)
TINY = 10**18 + 1
"""At 18 decimals: the least rate above 1."""


@pytest.fixture
def desk() -> Desk:
    """A desk with one LIVE instrument in dollars and one in euros, both around 100.00."""
    made = Desk()
    made.open()
    made.open(4)
    return made


def opened_rate(desk: Desk, bid: int = 109, ask: int = 111) -> None:
    """Let the euro be worth the mid of a market, 1.10 if not said otherwise."""
    desk.open(5, bid, ask)
    desk.rate("EUR", instrument=EUR_USD)


@pytest.mark.parametrize("scope", MIXED)
def test_an_exposure_is_converted_and_bounded_on_both_sides(desk: Desk, scope: Scope) -> None:
    """2 x 100.00 EUR at 1.10 are 220 USD beside 100 USD: 320 passes, 319.99 does not, whichever order comes last."""
    desk.rate("EUR", 110, 2)
    desk.open(3)
    assert accepted(desk.order(1_000, instrument_id=3))
    desk.limit(Check.EXPOSURE, 31_999, scope, digits=2)
    row = desk.order(2_000, **EURO)
    assert reason(row) == 30 + scope and row["currency"] == b"USD"
    assert told(row, "observed") == 320 * 10**19 and told(row, "limit") == 31_999 * 10**17
    desk.limit(Check.EXPOSURE, 320, scope)
    assert accepted(desk.order(2_000, **EURO))
    assert reason(desk.order(1, instrument_id=3)) == 30 + scope


def test_an_exposure_is_rounded_up_once(desk: Desk) -> None:
    """0.1 EUR at the least rate above 1 is more than 0.1 USD by a tenth of the least step: the limit 0.1 refuses it."""
    desk.rate("EUR", TINY, 18)
    desk.limit(Check.EXPOSURE, 1, Scope.ACCOUNT, digits=1)
    row = desk.order(1, **EURO)
    assert reason(row) is RiskReason.EXPOSURE_ACCOUNT
    assert told(row, "observed") == 10**18 + 5
    desk.limit(Check.EXPOSURE, 10**17 + 1, Scope.ACCOUNT, digits=18)
    assert accepted(desk.order(1, **EURO))
    for _ in range(
        4
    ):  # ten parts would be rounded ten times; the sum is 0.5 + 5 x 10**-19, rounded once
        desk.limit(Check.EXPOSURE, 5 * 10**17 + 1, Scope.ACCOUNT, digits=18)
        assert accepted(desk.order(1, **EURO))


def test_a_loss_is_rounded_up_once(desk: Desk) -> None:
    """0.1 EUR lost at the least rate above 1 is beyond a limit of 0.1 USD, and within the next one."""
    desk.rate("EUR", TINY, 18)
    desk.order(10, **EURO)
    desk.fill(10, 11_000, fee_currency=b"EUR", **EURO)
    desk.limit(Check.DAILY_LOSS, 1, Scope.ACCOUNT, digits=1)
    row = desk.order(1)
    assert reason(row) is RiskReason.DAILY_LOSS_ACCOUNT and row["currency"] == b"USD"
    assert told(row, "observed") == 10**18 + 5
    desk.limit(Check.DAILY_LOSS, 10**17 + 1, Scope.ACCOUNT, digits=18)
    assert accepted(desk.order(1))


@pytest.mark.parametrize(("rate", "passes"), [(10**18 + 9, False), (10**18 + 10, True)])
def test_a_profit_is_rounded_down_once(desk: Desk, rate: int, passes: bool) -> None:
    """0.1 EUR won must make up for 0.1 USD and 10**-18 lost: what it is worth of a part of the least step does not count."""
    desk.rate("EUR", rate, 18)
    desk.order(10, **EURO)
    desk.fill(10, 9_000, fee_currency=b"EUR", **EURO)
    desk.order(10)
    desk.fill(10, 11_000, fee=1, fee_scale=18)
    desk.limit(Check.DAILY_LOSS, 0, Scope.ACCOUNT)
    assert accepted(desk.order(1)) == passes


def test_a_mid_is_a_rate_and_follows_its_market(desk: Desk) -> None:
    """110 USD pass a limit of 110 at 1.10; half a cent more in the mid, and they are 110.5."""
    opened_rate(desk)
    desk.limit(Check.EXPOSURE, 110, Scope.ACCOUNT)
    desk.quote(5, 110, 111)
    row = desk.order(1_000, **EURO)
    assert reason(row) is RiskReason.EXPOSURE_ACCOUNT
    assert told(row, "observed") == 1_105 * 10**18
    desk.quote(5, 109, 111)
    assert accepted(desk.order(1_000, **EURO))


def test_each_bad_rate_refuses_with_a_reason_of_its_own(desk: Desk) -> None:
    """None, not seen yet, gone with its collector, not LIVE, crossed, too old by one ns: each told with its currency."""
    desk.limit(Check.EXPOSURE, 10**6, Scope.ACCOUNT)

    def refused() -> RiskReason:
        row = desk.order(1, **EURO)
        assert row["verdict"] == Verdict.REJECTED and row["currency"] == b"EUR"
        assert accepted(desk.order(1)), "dollars need no rate"
        return reason(row)

    assert refused() is RiskReason.OTHER_CURRENCY
    desk.rate("EUR", instrument=EUR_USD)
    assert refused() is RiskReason.RATE_UNKNOWN
    desk.open(5, 109, 111)
    assert accepted(desk.order(1, **EURO))
    desk.cancel(desk.orders, **EURO)
    desk.quote(5, 109, 111, state=InstrumentState.SUSPECT)
    assert refused() is RiskReason.RATE_NOT_LIVE
    desk.quote(5, 109, 111, state=InstrumentState.STALE)
    assert refused() is RiskReason.RATE_NOT_LIVE
    desk.quote(5, 111, 111)
    assert refused() is RiskReason.RATE_CROSSED
    desk.quote(5, 109, 111, qty=0)
    assert refused() is RiskReason.RATE_UNKNOWN
    desk.quote(5, 109, 111)
    desk.limit(Check.RATE_AGE, 1_000, 0)
    desk.ts += 1_000
    desk.quote(4, 9_990, 10_010)
    desk.quote(1, 9_990, 10_010)
    assert accepted(desk.order(1, **EURO))
    desk.cancel(desk.orders, **EURO)
    desk.ts += 1
    row = desk.order(1, **EURO)
    assert reason(row) is RiskReason.RATE_OLD
    assert (told(row, "limit"), told(row, "observed")) == (1_000, 1_001)
    desk.limit(Check.RATE_AGE, 0, 0)
    assert accepted(desk.order(1, **EURO))
    desk.cancel(desk.orders, **EURO)
    desk.engine.forget(2)
    desk.quote(1, 9_990, 10_010)
    assert refused() is RiskReason.RATE_UNKNOWN


def test_what_is_held_in_a_currency_without_a_rate_stops_the_others_too(desk: Desk) -> None:
    """A sum that lacks a part is no sum: dollars are refused as well, what lets nothing grow is not."""
    desk.order(1_000, **EURO)
    desk.fill(1_000, fee_currency=b"EUR", **EURO)
    desk.limit(Check.EXPOSURE, 10**6, Scope.PORTFOLIO)
    row = desk.order(1)
    assert reason(row) is RiskReason.OTHER_CURRENCY and row["currency"] == b"EUR"
    assert accepted(desk.order(1_000, side=-1, **EURO))
    desk.rate("EUR", 110, 2)
    assert accepted(desk.order(1))


def test_limits_of_one_currency_need_no_rate(desk: Desk) -> None:
    """INSTRUMENT and CURRENCY count in the instrument's own money."""
    desk.limit(Check.EXPOSURE, 100, Scope.INSTRUMENT)
    desk.limit(Check.EXPOSURE, 100, Scope.CURRENCY, name="EUR", currency=b"EUR")
    assert accepted(desk.order(1_000, **EURO))
    row = desk.order(1, **EURO)
    assert reason(row) is RiskReason.EXPOSURE_INSTRUMENT and row["currency"] == b"EUR"


def test_a_rate_at_a_wider_scale_is_the_same_rate(desk: Desk) -> None:
    """The rate's instrument gets one more digit, traded or not: the same mid is the same money."""
    opened_rate(desk)
    desk.limit(Check.EXPOSURE, 110, Scope.ACCOUNT)
    desk.event(Kind.SNAPSHOT_BEGIN, 5, word_2=2)
    assert reason(desk.order(1, **EURO)) is RiskReason.RATE_UNKNOWN
    desk.quote(5, 1_090, 1_110)
    assert reason(desk.order(1_001, **EURO)) is RiskReason.EXPOSURE_ACCOUNT
    assert accepted(desk.order(1_000, **EURO))
    desk.cancel(desk.orders, **EURO)
    desk.limit(Check.EXPOSURE, 1_101, Scope.ACCOUNT, digits=1)
    at_scale = {"instrument_id": 5, "instrument_version": 2, "price_scale": 3, "qty_scale": 4}
    assert accepted(desk.order(100, 1_100, **at_scale))
    desk.cancel(desk.orders, **at_scale)
    desk.limit(Check.EXPOSURE, 110, Scope.ACCOUNT)
    assert accepted(desk.order(1_000, **EURO))
    assert names(5, 2).price_scale == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"currency": b"USD"},
        {"currency": b""},
        {"value_low": 0},
        {"value_low": -1, "value_high": -1},
        {"value_low": 0, "value_high": 1},
        {"value_scale": 19},
        {"scope_name": b"north:EUR/USD"},
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(desk: Desk, fields: dict) -> None:
    """The base currency, none, zero, below zero, too wide, too many digits, number and instrument both."""
    given = {"currency": b"EUR", "value_low": 110, "value_scale": 2} | fields
    row = desk.control(Action.SET_RATE, **given)
    assert row["verdict"] == Verdict.REJECTED and reason(row) is RiskReason.BAD_RATE
    assert desk.engine.memory.conversions == {}
    assert reason(desk.control(Action.CLEAR_RATE, currency=b"EUR")) is RiskReason.BAD_RATE


def test_the_63rd_currency_is_the_last(desk: Desk) -> None:
    """A 64th has no place: refused, whether its rate comes or an order."""
    for i in range(62):
        assert desk.rate(f"C{i}", 1)["verdict"] == Verdict.CONTROL_APPLIED
    assert desk.rate("EUR", 1)["verdict"] == Verdict.CONTROL_APPLIED
    assert reason(desk.rate("MORE", 1)) is RiskReason.BAD_RATE
    assert accepted(desk.order(1, **EURO))
    assert reason(desk.order(1)) is RiskReason.OTHER_CURRENCY


def test_a_sum_that_does_not_fit_is_refused(desk: Desk) -> None:
    """A rate so large that the converted exposure has more than 128 bits: OVERFLOW, and nothing is halted."""
    desk.rate("EUR", (1 << 62) - 1)
    desk.limit(Check.EXPOSURE, 10**6, Scope.ACCOUNT)
    assert reason(desk.order(10**7, **EURO)) is RiskReason.OVERFLOW
    assert desk.engine.trading_state == 1


# ---- the text of a rate ----


def test_a_rate_is_a_number_or_an_instrument() -> None:
    """One text, one meaning; trailing zeros are none."""
    assert parse_rate("1.0850") == Rate("", 1_085, 3)
    assert parse_rate("110") == Rate("", 110, 0)
    assert parse_rate("kraken:EUR/USD") == Rate("kraken:EUR/USD")
    assert parse_rate("4.611686018427387903").price == (1 << 62) - 1
    for text in ("0", "0.0", "-1", "1.", "1e3", "", "EUR/USD", "4.611686018427387904"):
        with pytest.raises(ConfigurationError, match="rate"):
            parse_rate(text)


def test_mistakes_of_a_table_are_told_together() -> None:
    """The base currency's own rate, a rate of nothing, a text that is none."""
    found = mistakes_of("risk.rates", {"USD": "1", "EUR": "x", "": "2"}, "USD")
    assert len(found) == 3
    assert "USD is the base currency" in found[0] and "risk.rates.EUR" in found[1]
    assert mistakes_of("exposure.rates", {"EUR": "1.1"}, "") != []
    assert mistakes_of("exposure.rates", {"EUR": "1.1"}, "USD") == []
