"""The kernel decides as plain fractions do, over long random histories, and goes on from any place as if never stopped."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from risk_kit import DAY_NS, Desk
from risk_reference import Limit, Reference

from layouts import Action, Check, RiskReason, Scope, TradingState, Verdict

STEPS = 1_200
STATES = {
    Action.HALT: TradingState.HALTED,
    Action.REDUCE: TradingState.REDUCING,
    Action.RESUME: TradingState.ACTIVE,
}


class History:
    """A desk and a reference that see the same."""

    def __init__(self, seed: int) -> None:
        self.desk, self.reference, self.random = Desk(), Reference(), Random(seed)
        self.reasons: dict[RiskReason, int] = {}
        for number in (1, 2, 3):
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
            self.quote(random.choice((1, 2, 3)))
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
            of = {"account": account, "instrument_id": number, "order_id": order_id}
            row = desk.fill(qty, random.randrange(9_000, 11_000), side, fee=7, fee_scale=2, **of)
        wanted = reference.decide(desk.journal[-1][1][0])
        assert RiskReason(int(row["reason"])) is wanted, f"decision {row['decision_no']}"
        self.reasons[wanted] = self.reasons.get(wanted, 0) + 1

    def _whose(self) -> dict[str, int]:
        return {
            "account": self.random.choice((1, 2)),
            "instrument_id": self.random.choice((1, 2, 3)),
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


def test_a_state_that_was_saved_anywhere_goes_on_as_if_never_stopped() -> None:
    """Saved and loaded after every fiftieth record: every row in every byte the same."""
    history = History(4)
    for _ in range(400):
        history.step()
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
