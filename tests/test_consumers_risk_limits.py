"""Each of the five limits refuses beyond its bound and not at it, in each of its five scopes, and tells what it saw."""

import pytest
from risk_kit import DAY_NS, Desk, accepted, reason, told

from layouts import Action, Check, RiskReason, Scope, Verdict

SCOPES = list(Scope)


@pytest.fixture
def desk() -> Desk:
    """A desk with one LIVE instrument around 100.00."""
    made = Desk()
    made.open()
    return made


@pytest.mark.parametrize("scope", SCOPES)
def test_order_size(desk: Desk, scope: Scope) -> None:
    """An order of the limit passes, one step more is refused, with limit and order told."""
    desk.limit(Check.ORDER_SIZE, 5, scope)
    assert accepted(desk.order(5_000))
    row = desk.order(5_001)
    assert reason(row) == 10 + scope and row["scope"] == scope
    assert told(row, "limit") == 5 * 10**18 and told(row, "observed") == 5_001 * 10**15
    assert row["value_scale"] == 18


@pytest.mark.parametrize("scope", SCOPES)
def test_position_size(desk: Desk, scope: Scope) -> None:
    """What stands and what is held count together, on each side."""
    desk.limit(Check.POSITION_SIZE, 5, scope)
    assert accepted(desk.order(3_000))
    desk.fill(2_000)
    assert accepted(desk.order(2_000))
    assert reason(desk.order(1)) == 20 + scope
    assert accepted(desk.order(7_000, side=-1))
    assert reason(desk.order(1, side=-1)) == 20 + scope


@pytest.mark.parametrize("scope", SCOPES)
def test_exposure(desk: Desk, scope: Scope) -> None:
    """Money at the mid, exactly: 5 x 100.00 passes a limit of 500, not one of 499.999."""
    desk.limit(Check.EXPOSURE, 499_999, scope, digits=3)
    row = desk.order(5_000)
    assert reason(row) == 30 + scope and row["currency"] == b"USD"
    assert told(row, "observed") * 10 ** (3 - int(row["value_scale"])) == 500_000
    assert told(row, "limit") == 499_999 * 10 ** (int(row["value_scale"]) - 3)
    desk.limit(Check.EXPOSURE, 500, scope)
    assert accepted(desk.order(5_000))


@pytest.mark.parametrize("scope", [Scope.VENUE, Scope.CURRENCY, Scope.ACCOUNT, Scope.PORTFOLIO])
def test_open_positions(desk: Desk, scope: Scope) -> None:
    """One position more than the limit is refused; more of the same position is none more."""
    desk.open(2)
    desk.limit(Check.OPEN_POSITIONS, 1, scope)
    assert accepted(desk.order(1_000)) and accepted(desk.order(1_000))
    row = desk.order(1_000, instrument_id=2)
    assert reason(row) == 40 + scope
    assert (told(row, "limit"), told(row, "observed")) == (1, 2)
    desk.cancel(1)
    desk.cancel(2)
    assert accepted(desk.order(1_000, instrument_id=2))


def test_no_position_may_be_opened_in_a_closed_instrument(desk: Desk) -> None:
    """A limit of 0 in scope INSTRUMENT."""
    desk.limit(Check.OPEN_POSITIONS, 0, Scope.INSTRUMENT)
    assert reason(desk.order(1)) is RiskReason.OPEN_POSITIONS_INSTRUMENT


@pytest.mark.parametrize("scope", SCOPES)
def test_daily_loss(desk: Desk, scope: Scope) -> None:
    """A loss of exactly the limit lets orders pass; a cent more stops what grows and lets out what does not."""
    desk.limit(Check.DAILY_LOSS, 10, scope)
    desk.order(1_000)
    desk.fill(1_000, 11_000)
    assert accepted(desk.order(1_000))
    desk.quote(1, 9_989, 10_009)
    row = desk.order(1_000)
    assert reason(row) == 50 + scope
    assert told(row, "observed") == 1_001 * 10 ** (int(row["value_scale"]) - 2)
    assert accepted(desk.order(1_000, side=-1))


def test_the_day_begins_with_what_was_held_at_its_first_mark(desk: Desk) -> None:
    """Yesterday's loss is not today's, whether an order or a quote comes first; a clock that goes back opens no day."""
    desk.limit(Check.DAILY_LOSS, 5, Scope.ACCOUNT)
    desk.order(1_000)
    desk.fill(1_000, 11_000)
    assert reason(desk.order(1_000)) is RiskReason.DAILY_LOSS_ACCOUNT
    desk.ts += DAY_NS
    assert accepted(desk.order(1_000))
    desk.ts += DAY_NS
    desk.quote(1, 9_489, 9_509)
    assert reason(desk.order(1_000)) is RiskReason.DAILY_LOSS_ACCOUNT
    desk.ts -= DAY_NS
    assert reason(desk.order(1_000)) is RiskReason.DAILY_LOSS_ACCOUNT
    assert desk.engine.counters["clock_back"] == 1


def test_fees_are_part_of_the_loss_in_the_quote_currency_and_counted_in_others(desk: Desk) -> None:
    """A fee of 5.01 breaks a limit of 5; a rebate heals it; one in another currency is counted."""
    desk.limit(Check.DAILY_LOSS, 5, Scope.ACCOUNT)
    desk.order(1_000)
    desk.fill(1_000, fee=501, fee_scale=2)
    assert reason(desk.order(1)) is RiskReason.DAILY_LOSS_ACCOUNT
    desk.fill(1, fee=-1, fee_scale=2, order_id=99)
    assert accepted(desk.order(1))
    desk.fill(1, fee=10**12, fee_currency=b"BTC")
    assert accepted(desk.order(1)) and desk.engine.counters["fees_other_currency"] == 1


def test_the_most_particular_limit_holds(desk: Desk) -> None:
    """Account before name before all; cleared, the next one holds again."""
    desk.limit(Check.ORDER_SIZE, 5)
    desk.limit(Check.ORDER_SIZE, 9, name="north:A/USD")
    desk.limit(Check.ORDER_SIZE, 2, account=1)
    assert accepted(desk.order(2_000)) and not accepted(desk.order(2_001))
    assert accepted(desk.order(9_000, account=2)) and not accepted(desk.order(9_001, account=2))
    clear = {"check": Check.ORDER_SIZE, "scope": Scope.INSTRUMENT, "account": 1}
    assert desk.control(Action.CLEAR_LIMIT, **clear)["verdict"] == Verdict.CONTROL_APPLIED
    assert accepted(desk.order(9_000))
    assert reason(desk.control(Action.CLEAR_LIMIT, **clear)) is RiskReason.BAD_LIMIT


def test_a_sum_over_currencies_is_refused(desk: Desk) -> None:
    """A money limit of a wider scope in another currency is refused; so is any order while a sum could not be counted."""
    desk.open(4)
    euro = {"instrument_id": 4, "quote_currency": b"EUR"}
    row = desk.limit(Check.EXPOSURE, 10**6, Scope.ACCOUNT, currency=b"EUR")
    assert reason(row) is RiskReason.OTHER_CURRENCY
    assert accepted(desk.order(1_000, **euro))
    desk.limit(Check.EXPOSURE, 10**6, Scope.ACCOUNT)
    assert reason(desk.order(1_000, **euro)) is RiskReason.OTHER_CURRENCY
    row = desk.order(1_000)
    assert reason(row) is RiskReason.OTHER_CURRENCY and row["currency"] == b"EUR"
    desk.limit(Check.EXPOSURE, 150, Scope.CURRENCY, name="EUR", currency=b"EUR")
    assert reason(desk.order(1_000, **euro)) is RiskReason.OTHER_CURRENCY
    desk.control(Action.CLEAR_LIMIT, check=Check.EXPOSURE, scope=Scope.ACCOUNT)
    assert reason(desk.order(1_000, **euro)) is RiskReason.EXPOSURE_CURRENCY


@pytest.mark.parametrize(
    "fields",
    [
        {"check": Check.NONE},
        {"check": Check.EXPOSURE, "scope": 0},
        {"check": Check.EXPOSURE, "scope": 6},
        {"check": Check.EXPOSURE, "value_scale": 19},
        {"check": Check.ORDER_SIZE, "value_low": 0, "value_high": 1 << 62},
        {"check": Check.ORDER_SIZE, "value_low": -1, "value_high": -1},
        {"check": Check.ORDER_RATE, "value_low": 1025},
        {"check": Check.COLLAR, "value_low": 10_001},
        {"check": Check.OPEN_POSITIONS, "value_scale": 1},
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_and_changes_nothing(
    desk: Desk, fields: dict
) -> None:
    """No such check or scope, too many digits, too large, below 0: BAD_LIMIT, counted."""
    before = desk.engine.memory.limits.values.copy()
    row = desk.control(Action.SET_LIMIT, **({"scope": Scope.ACCOUNT, "value_low": 1} | fields))
    assert row["verdict"] == Verdict.REJECTED and reason(row) is RiskReason.BAD_LIMIT
    assert desk.engine.memory.limits.values == before
    assert desk.engine.counters["controls_refused"] == 1
