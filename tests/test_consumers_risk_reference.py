"""The kernel decides as plain fractions do, over long random histories, and goes on from any place as if never stopped."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from risk_kit import CURRENCIES, DAY_NS, Desk, told
from risk_reference import Limit, Reference

from layouts import Action, Check, RiskReason, Scope, TradingState, Verdict

STEPS = 1_200
RATE_OF_EURO = 5
STATES = {
    Action.HALT: TradingState.HALTED,
    Action.REDUCE: TradingState.REDUCING,
    Action.RESUME: TradingState.ACTIVE,
}


class History:
    """A desk and a reference that see the same."""

    def __init__(self, seed: int, traded: tuple[int, ...] = (1, 2, 3)) -> None:
        self.traded = traded
        self.desk, self.reference, self.random = Desk(), Reference(), Random(seed)
        self.reasons: dict[RiskReason, int] = {}
        for number in traded if traded == (1, 2, 3) else (*traded, RATE_OF_EURO):
            self.desk.event(7, number, word_2=1)  # STATE
            self.quote(number)
        for check in (1, 2, 3, 4, 5):
            for scope in Scope:
                self.limit(check, scope)

    def quote(self, number: int) -> None:
        """Move a market; sometimes it is crossed, or not LIVE."""
        bid = self.random.randrange(9_000, 11_000)
        ask = bid + self.random.choice((1, 2, 20, 20, 20, -5))
        state = self.random.choice((1, 1, 1, 1, 1, 1, 2))
        self.desk.quote(number, bid, ask, state)
        self.reference.quote(self.desk.journal[-1][1][0], state == 1)

    def limit(self, check: int, scope: Scope) -> None:
        """Set a limit, loose enough to be met and tight enough to be broken."""
        usual = {1: 42, 2: 60, 3: 5_000, 4: 1, 5: 200}[check]
        value = usual * self.random.choice((1, 2, 3)) * (1 if scope < 4 or check < 3 else 2)
        account = self.random.choice((0, 0, 1, 2)) if scope != Scope.PORTFOLIO else 0
        name = {Scope.VENUE: "north", Scope.INSTRUMENT: "south:A/USD"}.get(scope, "")
        name = self.random.choice(("", name))
        row = self.desk.limit(Check(check), value, scope, name=name, account=account)
        assert row["verdict"] == Verdict.CONTROL_APPLIED
        self.reference.limits[Limit(check, scope, account, name)] = Fraction(value)

    def step(self) -> None:
        """One thing happens."""
        random, desk, reference = self.random, self.desk, self.reference
        desk.ts += random.choice((1_000, 1_000_000, DAY_NS // 40))
        what = random.random()
        if what < 0.25:
            self.quote(random.choice(self.traded))
            if CURRENCIES.keys() & set(self.traded) and random.random() < 0.5:
                self.quote(RATE_OF_EURO)
                self.change_rate()
            return
        if what < 0.29:
            self.limit(random.randrange(1, 6), random.choice(list(Scope)))
            return
        if what < 0.33:
            action = random.choice([Action.RESUME] * 9 + [Action.HALT, Action.REDUCE])
            desk.control(action)
            reference.state = STATES[action]
            return
        side, fields = random.choice((1, -1)), self._whose()
        if what < 0.65:
            price = random.choice((9_000, 10_000, 10_500, 11_000))
            row = desk.order(random.randrange(0, 45_000), price, side, **fields)
        elif what < 0.7 or not reference.standing:
            known = list(reference.standing)
            row = desk.cancel(random.choice([*known, desk.orders + 1]))
        else:
            order_id = random.choice(list(reference.standing))
            account, number, side, left = reference.standing[order_id]
            qty = random.choice((left, max(1, left // 2), left + 5))
            currency = CURRENCIES.get(number, "USD").encode()
            of = {"account": account, "instrument_id": number, "order_id": order_id}
            of |= {"quote_currency": currency, "fee_currency": currency}
            row = desk.fill(qty, random.randrange(9_000, 11_000), side, fee=7, fee_scale=2, **of)
        wanted = reference.decide(desk.journal[-1][1][0])
        assert RiskReason(int(row["reason"])) is wanted, f"decision {row['decision_no']}"
        if reference.observed is not None and row["value_scale"]:
            assert told(row, "observed") == reference.observed * 10 ** int(row["value_scale"])
            in_own = row["scope"] in (Scope.INSTRUMENT, Scope.CURRENCY)
            money = fields["quote_currency"] if in_own else b"USD"
            assert row["currency"] == (money if row["value_scale"] == 19 else b"")
        self.reasons[wanted] = self.reasons.get(wanted, 0) + 1

    def change_rate(self) -> None:
        """Now and then a currency is converted by another number, by a market, or by nothing."""
        random, desk = self.random, self.desk
        currency = random.choice(("EUR", "EUR", "EUR", "JPY"))
        what = random.random()
        if what < 0.3:
            desk.rate(currency, price := random.randrange(1, 3 * 10**18), 18)
            self.reference.rates[currency] = Fraction(price, 10**18)
        elif currency == "EUR" and what < 0.8:
            desk.rate(currency, instrument="north:EUR/USD")
            self.reference.rates[currency] = RATE_OF_EURO
        elif currency == "EUR" and what < 0.85 and currency in self.reference.rates:
            desk.control(Action.CLEAR_RATE, currency=b"EUR")
            del self.reference.rates[currency]

    def _whose(self) -> dict[str, int | bytes]:
        number = self.random.choice(self.traded)
        return {
            "account": self.random.choice((1, 2)),
            "instrument_id": number,
            "quote_currency": CURRENCIES.get(number, "USD").encode(),
        }


@pytest.mark.parametrize("seed", [1, 2])
def test_each_decision_is_that_of_plain_fractions(seed: int) -> None:
    """Orders, fills, cancels, quotes, limits, states and days at random: the same reason, each time."""
    history = History(seed)
    history.desk.limit(Check.COLLAR, 1_500, 0)
    history.reference.collar = 1_500
    for _ in range(STEPS):
        history.step()
    assert len(history.reasons) >= 15, history.reasons
    assert history.reasons[RiskReason.NONE] > STEPS // 20


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_each_decision_over_several_currencies_is_that_of_plain_fractions(seed: int) -> None:
    """Dollars, euros and yen in one sum, rates that move, change, grow old, cross, vanish: the same reason and sum."""
    history = History(seed, (1, 3, 4, 6))
    for check in (3, 5):
        for scope in Scope:
            history.limit(check, scope)
    history.desk.limit(Check.RATE_AGE, DAY_NS // 10, 0)
    history.reference.rate_age = DAY_NS // 10
    history.desk.rate("JPY", 6_543_210_987_654_321, 18)
    history.reference.rates["JPY"] = Fraction(6_543_210_987_654_321, 10**18)
    for _ in range(2 * STEPS):
        history.step()
    met = set(history.reasons)
    assert met >= {RiskReason.RATE_NOT_LIVE, RiskReason.RATE_OLD, RiskReason.RATE_CROSSED}
    assert met >= {RiskReason.OTHER_CURRENCY, RiskReason.EXPOSURE_PORTFOLIO}
    assert history.reasons[RiskReason.NONE] > STEPS // 20


def test_a_state_that_was_saved_anywhere_goes_on_as_if_never_stopped() -> None:
    """Saved and loaded after every fiftieth record: every row in every byte the same."""
    history = History(4, (1, 3, 4, 6))
    history.desk.rate("JPY", 7, 3)
    history.reference.rates["JPY"] = Fraction(7, 1000)
    for _ in range(600):
        history.step()
    assert history.desk.engine.memory.conversions
    again = Desk()
    for at, (source, record) in enumerate(history.desk.journal):
        if at % 50 == 49:
            image = again.engine.to_bytes()
            fresh = Desk()
            fresh.engine.load(image)
            fresh.seqs, again = again.seqs, fresh
        rows = again.feed(source, record.copy())
        np.testing.assert_array_equal(rows, history.desk.decisions[at])
    assert again.engine.to_bytes() == history.desk.engine.to_bytes()
